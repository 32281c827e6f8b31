/*
 * The policy keeps the values of the headers that never change as they are
 * sent; only membership in a list is decided at a request.  Lists are short:
 * they are searched in order.
 */

#include "route/db_cors.h"
#include "core/db_buf.h"

#include <stdlib.h>
#include <strings.h>


typedef struct {
    db_str_t    *items;
    unsigned     n;
    unsigned     all:1;              /* has "*" */
} db_cors_list_t;


struct db_cors_s {
    db_arena_t      *arena;
    db_cors_list_t   origins;
    db_cors_list_t   methods;
    db_cors_list_t   headers;
    db_str_t         methods_text;
    db_str_t         headers_text;
    db_str_t         expose_text;
    db_str_t         max_age;
    unsigned         credentials:1;
    unsigned         private_network:1;
};


/* Separators of a list, as str.split() has them. */

static int
db_cors_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}


static int
db_cors_split(db_arena_t *arena, db_str_t text, db_cors_list_t *list)
{
    size_t       start, i;
    unsigned     n;
    db_str_t     copy;

    copy = db_arena_str(arena, text);
    list->items = db_arena_alloc(arena, (text.len / 2 + 1) * sizeof(db_str_t));

    if (copy.data == NULL || list->items == NULL) {
        return DB_ERROR;
    }

    n = 0;
    i = 0;

    for ( ;; ) {

        while (i < copy.len && db_cors_space(copy.data[i])) {
            i++;
        }

        if (i == copy.len) {
            break;
        }

        start = i;

        while (i < copy.len && !db_cors_space(copy.data[i])) {
            i++;
        }

        list->items[n].data = copy.data + start;
        list->items[n].len = i - start;

        if (db_str_eq(list->items[n], db_string("*"))) {
            list->all = 1;
        }

        n++;
    }

    list->n = n;

    return DB_OK;
}


/* In Python's order of str, and each once. */

static int
db_cors_compare(const void *one, const void *two)
{
    int              rc;
    size_t           len;
    const db_str_t  *a = one, *b = two;

    len = a->len < b->len ? a->len : b->len;
    rc = memcmp(a->data, b->data, len);

    return rc ? rc : (a->len > b->len) - (a->len < b->len);
}


static void
db_cors_sort(db_cors_list_t *list)
{
    unsigned  i, n;

    qsort(list->items, list->n, sizeof(db_str_t), db_cors_compare);

    n = 0;

    for (i = 0; i < list->n; i++) {
        if (n == 0 || !db_str_eq(list->items[i], list->items[n - 1])) {
            list->items[n++] = list->items[i];
        }
    }

    list->n = n;
}


static db_str_t
db_cors_join(db_arena_t *arena, const db_cors_list_t *list)
{
    db_buf_t  buf;
    unsigned  i;
    db_str_t  text;

    db_buf_init(&buf, arena, 64);

    for (i = 0; i < list->n; i++) {

        if (i) {
            db_buf_lit(&buf, ", ");
        }

        db_buf_str(&buf, list->items[i]);
    }

    text.data = buf.failed ? NULL : buf.data;
    text.len = buf.len;

    return text;
}


static int
db_cors_compile(db_cors_t *cors, const db_cors_conf_t *conf)
{
    db_buf_t         headers;
    db_str_t         safe, every;
    db_arena_t      *arena;
    db_cors_list_t   expose;

    safe = db_string(" Accept Accept-Language Content-Language Content-Type");
    every = db_string("DELETE GET HEAD OPTIONS PATCH POST PUT QUERY");

    arena = cors->arena;
    memset(&expose, 0, sizeof(db_cors_list_t));
    db_buf_init(&headers, arena, conf->headers.len + safe.len);
    db_buf_str(&headers, conf->headers);
    db_buf_str(&headers, safe);

    if (headers.failed
        || db_cors_split(arena, conf->origins, &cors->origins) != DB_OK
        || db_cors_split(arena, conf->methods, &cors->methods) != DB_OK
        || db_cors_split(arena, conf->expose, &expose) != DB_OK
        || db_cors_split(arena, (db_str_t) { headers.data, headers.len },
                         &cors->headers)
           != DB_OK)
    {
        return DB_ERROR;
    }

    if (cors->methods.all
        && db_cors_split(arena, every, &cors->methods) != DB_OK)
    {
        return DB_ERROR;
    }

    db_cors_sort(&cors->headers);

    cors->methods_text = db_cors_join(arena, &cors->methods);
    cors->headers_text = db_cors_join(arena, &cors->headers);
    cors->expose_text = db_cors_join(arena, &expose);
    cors->max_age = db_arena_str(arena, conf->max_age);
    cors->credentials = conf->credentials;
    cors->private_network = conf->private_network;

    return cors->methods_text.data && cors->headers_text.data
           && cors->expose_text.data && cors->max_age.data
           ? DB_OK : DB_ERROR;
}


db_cors_t *
db_cors_create(const db_cors_conf_t *conf)
{
    db_cors_t   *cors;
    db_arena_t  *arena;

    arena = db_arena_create(1024);
    if (arena == NULL) {
        return NULL;
    }

    cors = db_arena_calloc(arena, sizeof(db_cors_t));
    if (cors == NULL) {
        db_arena_destroy(arena);
        return NULL;
    }

    cors->arena = arena;

    if (db_cors_compile(cors, conf) != DB_OK) {
        db_cors_destroy(cors);
        return NULL;
    }

    return cors;
}


void
db_cors_destroy(db_cors_t *cors)
{
    db_arena_destroy(cors->arena);
}


static int
db_cors_has(const db_cors_list_t *list, db_str_t item)
{
    unsigned  i;

    for (i = 0; i < list->n; i++) {
        if (db_str_eq(list->items[i], item)) {
            return 1;
        }
    }

    return 0;
}


static int
db_cors_origin_allowed(const db_cors_t *cors, db_str_t origin)
{
    return cors->origins.all || db_cors_has(&cors->origins, origin);
}


/* Whether each of the names, separated by commas, is allowed. */

static int
db_cors_headers_allowed(const db_cors_t *cors, db_str_t names)
{
    size_t           len;
    unsigned         i;
    const char      *p, *end, *next;
    const db_str_t  *known;

    p = names.data;
    end = p + names.len;

    for ( ;; ) {

        next = memchr(p, ',', end - p);
        len = (next ? next : end) - p;

        while (len && db_cors_space(*p)) {
            p++;
            len--;
        }

        while (len && db_cors_space(p[len - 1])) {
            len--;
        }

        for (i = 0; i < cors->headers.n; i++) {
            known = &cors->headers.items[i];

            if (known->len == len && strncasecmp(known->data, p, len) == 0) {
                break;
            }
        }

        if (i == cors->headers.n) {
            return 0;
        }

        if (next == NULL) {
            return 1;
        }

        p = next + 1;
    }
}


static void
db_cors_add(db_cors_answer_t *answer, db_str_t name, db_str_t value)
{
    db_cors_header_t  *header;

    header = &answer->headers[answer->nheaders++];

    header->name = name;
    header->value = value;
}


void
db_cors_simple(const db_cors_t *cors, db_str_t origin,
    db_cors_answer_t *answer)
{
    db_str_t  value;

    answer->nheaders = 0;

    if (origin.data) {

        if (cors->origins.all && !cors->credentials) {
            value = db_string("*");

        } else if (db_cors_origin_allowed(cors, origin)) {
            value = origin;

        } else {
            value = db_null_string;
        }

        if (value.data) {
            db_cors_add(answer, db_string("Access-Control-Allow-Origin"),
                        value);
        }

        if (cors->credentials) {
            db_cors_add(answer,
                        db_string("Access-Control-Allow-Credentials"),
                        db_string("true"));
        }

        if (cors->expose_text.len) {
            db_cors_add(answer, db_string("Access-Control-Expose-Headers"),
                        cors->expose_text);
        }
    }

    db_cors_add(answer, db_string("Vary"), db_string("Origin"));
}


static void
db_cors_fail(db_cors_answer_t *answer, const char *what)
{
    strcat(answer->text, answer->status == 200 ? "Disallowed CORS " : ", ");
    strcat(answer->text, what);

    answer->status = 400;
}


/* Who is allowed: the origin and whether with credentials. */

static void
db_cors_preflight_origin(const db_cors_t *cors, db_str_t origin,
    db_cors_answer_t *answer)
{
    if (cors->origins.all && !cors->credentials) {
        db_cors_add(answer, db_string("Access-Control-Allow-Origin"),
                    db_string("*"));

    } else if (db_cors_origin_allowed(cors, origin)) {
        db_cors_add(answer, db_string("Access-Control-Allow-Origin"), origin);

    } else {
        db_cors_fail(answer, "origin");
    }

    if (cors->credentials) {
        db_cors_add(answer, db_string("Access-Control-Allow-Credentials"),
                    db_string("true"));
    }
}


static void
db_cors_preflight_headers(const db_cors_t *cors, db_str_t names,
    db_cors_answer_t *answer)
{
    if (!cors->headers.all) {
        db_cors_add(answer, db_string("Access-Control-Allow-Headers"),
                    cors->headers_text);

        if (names.data && !db_cors_headers_allowed(cors, names)) {
            db_cors_fail(answer, "headers");
        }

    } else if (names.data) {
        db_cors_add(answer, db_string("Access-Control-Allow-Headers"), names);
    }
}


void
db_cors_preflight(const db_cors_t *cors, const db_cors_request_t *request,
    db_cors_answer_t *answer)
{
    answer->status = 200;
    answer->text[0] = '\0';
    answer->nheaders = 0;

    db_cors_add(answer, db_string("Vary"),
                db_string("Origin, Access-Control-Request-Method, "
                          "Access-Control-Request-Headers, "
                          "Access-Control-Request-Private-Network"));
    db_cors_add(answer, db_string("Access-Control-Allow-Methods"),
                cors->methods_text);
    db_cors_add(answer, db_string("Access-Control-Max-Age"), cors->max_age);

    db_cors_preflight_origin(cors, request->origin, answer);

    if (!db_cors_has(&cors->methods, request->method)) {
        db_cors_fail(answer, "method");
    }

    db_cors_preflight_headers(cors, request->headers, answer);

    if (request->private_network.data == NULL) {
        /* not asked for */

    } else if (cors->private_network) {
        db_cors_add(answer,
                    db_string("Access-Control-Allow-Private-Network"),
                    db_string("true"));

    } else {
        db_cors_fail(answer, "private-network");
    }

    if (answer->status == 200) {
        strcpy(answer->text, "OK");
    }
}
