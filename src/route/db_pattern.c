/*
 * A pattern is a row of tokens.  Matching backtracks as a regular expression
 * does, from the longest capture to the shortest, with one difference: a
 * parameter remembers at which ends of its capture the rest of the pattern
 * has failed.  That does not depend on where the capture began, so that no
 * end is tried twice and a hostile path cannot make matching quadratic.
 */

#include "route/db_pattern.h"
#include "route/db_router.h"

#include <stdio.h>


typedef struct {
    const char    *low;            /* the rest fails at all ends from low */
    const char    *high;           /* to high, the end of a run */
} db_failed_t;


typedef struct {
    const char    *end;            /* of the path */
    db_str_t      *params;
    db_failed_t    failed[DB_ROUTER_MAX_PARAMS];
} db_walk_t;


static const struct {
    db_str_t         name;
    db_token_kind_t  kind;
} db_convertors[] = {
    { { "str", 3 },   DB_TOKEN_STR },
    { { "int", 3 },   DB_TOKEN_INT },
    { { "float", 5 }, DB_TOKEN_FLOAT },
    { { "uuid", 4 },  DB_TOKEN_UUID },
    { { "path", 4 },  DB_TOKEN_PATH },
};

#define DB_CONVERTORS  (sizeof(db_convertors) / sizeof(db_convertors[0]))


static int db_walk(db_walk_t *walk, const db_token_t *token, const char *p);


static int
db_is_digit(char c)
{
    return c >= '0' && c <= '9';
}


static int
db_is_alpha(char c)
{
    return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_';
}


/* The end of a Python identifier in ASCII, p itself when there is none. */

static const char *
db_identifier(const char *p, const char *end)
{
    if (p == end || !db_is_alpha(*p)) {
        return p;
    }

    while (p < end && (db_is_alpha(*p) || db_is_digit(*p))) {
        p++;
    }

    return p;
}


/*
 * A parameter at p: "{name}" or "{name:convertor}".  Returns its end, or
 * NULL: text that looks otherwise stands for itself.
 */

static const char *
db_parameter(const char *p, const char *end, db_str_t *name,
    db_str_t *convertor)
{
    const char  *start;

    if (*p != '{') {
        return NULL;
    }

    start = p + 1;
    p = db_identifier(start, end);
    *name = (db_str_t) { start, (size_t) (p - start) };
    *convertor = db_string("str");

    if (name->len == 0 || p == end) {
        return NULL;
    }

    if (*p == ':') {
        start = p + 1;
        p = db_identifier(start, end);
        *convertor = (db_str_t) { start, (size_t) (p - start) };
    }

    return (convertor->len && p < end && *p == '}') ? p + 1 : NULL;
}


static int
db_pattern_parameter(db_pattern_t *pattern, db_token_t *token, db_str_t name,
    db_str_t convertor, char *error, size_t size)
{
    size_t             i;
    const db_token_t  *other;

    if (pattern->nparams == DB_ROUTER_MAX_PARAMS) {
        snprintf(error, size, "more than %d parameters",
                 DB_ROUTER_MAX_PARAMS);
        return DB_ERROR;
    }

    for (other = pattern->tokens; other < token; other++) {
        if (other->kind != DB_TOKEN_LITERAL && db_str_eq(other->text, name)) {
            snprintf(error, size, "parameter \"%.*s\" appears twice",
                     (int) name.len, name.data);
            return DB_ERROR;
        }
    }

    for (i = 0; i < DB_CONVERTORS; i++) {
        if (db_str_eq(db_convertors[i].name, convertor)) {
            token->kind = db_convertors[i].kind;
            token->param = pattern->nparams++;
            token->text = name;
            return DB_OK;
        }
    }

    snprintf(error, size, "unknown convertor \"%.*s\"",
             (int) convertor.len, convertor.data);

    return DB_ERROR;
}


static unsigned
db_pattern_tokens(db_str_t text)
{
    size_t    i;
    unsigned  n;

    /* a literal before each parameter, one after the last, the end */

    n = 2;

    for (i = 0; i < text.len; i++) {
        n += (text.data[i] == '{') ? 2 : 0;
    }

    return n;
}


db_pattern_t *
db_pattern_compile(db_arena_t *arena, db_str_t text, char *error,
    size_t size)
{
    db_str_t       name, convertor;
    db_token_t    *token;
    const char    *p, *end, *next, *literal;
    db_pattern_t  *pattern;

    if (text.len == 0 || text.data[0] != '/') {
        snprintf(error, size, "a path pattern begins with \"/\"");
        return NULL;
    }

    text = db_arena_str(arena, text);
    pattern = db_arena_calloc(arena, sizeof(db_pattern_t)
                              + db_pattern_tokens(text) * sizeof(db_token_t));

    if (text.data == NULL || pattern == NULL) {
        snprintf(error, size, "out of memory");
        return NULL;
    }

    token = pattern->tokens;
    literal = text.data;
    end = text.data + text.len;
    name = db_null_string;
    convertor = db_null_string;

    for (p = literal; p <= end; p = next) {

        next = (p < end) ? db_parameter(p, end, &name, &convertor) : NULL;

        if (next == NULL && p < end) {
            next = p + 1;
            continue;
        }

        if (p > literal) {
            token->kind = DB_TOKEN_LITERAL;
            token->text = (db_str_t) { literal, (size_t) (p - literal) };
            token++;
        }

        if (p == end) {
            break;
        }

        if (db_pattern_parameter(pattern, token, name, convertor, error, size)
            != DB_OK)
        {
            return NULL;
        }

        token++;
        literal = next;
    }

    token->kind = DB_TOKEN_END;

    return pattern;
}


db_str_t
db_pattern_prefix(const db_pattern_t *pattern)
{
    /* the leading slash makes the first token a literal */

    return pattern->tokens[0].text;
}


/* Where the longest capture ends that begins at p. */

static const char *
db_run(db_token_kind_t kind, const char *p, const char *end)
{
    const char  *stop;

    switch (kind) {

    case DB_TOKEN_STR:
        stop = memchr(p, '/', (size_t) (end - p));
        return stop ? stop : end;

    case DB_TOKEN_PATH:
        stop = memchr(p, '\n', (size_t) (end - p));
        return stop ? stop : end;

    default: /* DB_TOKEN_INT and the digits of DB_TOKEN_FLOAT */
        while (p < end && db_is_digit(*p)) {
            p++;
        }

        return p;
    }
}


static int
db_walk_on(db_walk_t *walk, const db_token_t *token, const char *p,
    const char *stop)
{
    if (!db_walk(walk, token + 1, stop)) {
        return 0;
    }

    walk->params[token->param] = (db_str_t) { p, (size_t) (stop - p) };

    return 1;
}


static int
db_walk_run(db_walk_t *walk, const db_token_t *token, const char *p)
{
    const char   *stop, *high, *low;
    db_failed_t  *failed;

    failed = &walk->failed[token->param];
    high = db_run(token->kind, p, walk->end);
    low = (token->kind == DB_TOKEN_PATH) ? p : p + 1;

    stop = (high == failed->high) ? failed->low - 1 : high;

    for ( /* void */ ; stop >= low; stop--) {

        /* not in the middle of a character */

        if (stop < high && ((unsigned char) *stop & 0xc0) == 0x80) {
            continue;
        }

        if (db_walk_on(walk, token, p, stop)) {
            return 1;
        }
    }

    if (high != failed->high || low < failed->low) {
        failed->high = high;
        failed->low = low;
    }

    return 0;
}


static int
db_walk_float(db_walk_t *walk, const db_token_t *token, const char *p)
{
    const char  *stop, *digits, *fraction;

    digits = db_run(DB_TOKEN_INT, p, walk->end);

    if (digits == p) {
        return 0;
    }

    if (digits < walk->end && *digits == '.') {
        fraction = digits + 1;

        for (stop = db_run(DB_TOKEN_INT, fraction, walk->end);
             stop > fraction;
             stop--)
        {
            if (db_walk_on(walk, token, p, stop)) {
                return 1;
            }
        }
    }

    for (stop = digits; stop > p; stop--) {
        if (db_walk_on(walk, token, p, stop)) {
            return 1;
        }
    }

    return 0;
}


static int
db_walk_uuid(db_walk_t *walk, const db_token_t *token, const char *p)
{
    unsigned     i;
    const char  *start;

    start = p;

    for (i = 0; i < 32; i++) {

        if ((i == 8 || i == 12 || i == 16 || i == 20)
            && p < walk->end && *p == '-')
        {
            p++;
        }

        if (p == walk->end
            || !(db_is_digit(*p)
                 || ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'f')))
        {
            return 0;
        }

        p++;
    }

    return db_walk_on(walk, token, start, p);
}


static int
db_walk(db_walk_t *walk, const db_token_t *token, const char *p)
{
    size_t  rest;

    rest = (size_t) (walk->end - p);

    switch (token->kind) {

    case DB_TOKEN_LITERAL:
        return rest >= token->text.len
               && memcmp(p, token->text.data, token->text.len) == 0
               && db_walk(walk, token + 1, p + token->text.len);

    case DB_TOKEN_FLOAT:
        return db_walk_float(walk, token, p);

    case DB_TOKEN_UUID:
        return db_walk_uuid(walk, token, p);

    case DB_TOKEN_END:
        return rest == 0 || (rest == 1 && *p == '\n');

    default:
        return db_walk_run(walk, token, p);
    }
}


int
db_pattern_match(const db_pattern_t *pattern, db_str_t path, db_str_t *params)
{
    unsigned   i;
    db_walk_t  walk;

    if (path.len == 0) {
        return 0;
    }

    walk.end = path.data + path.len;
    walk.params = params;

    for (i = 0; i < pattern->nparams; i++) {
        walk.failed[i] = (db_failed_t) { NULL, NULL };
    }

    return db_walk(&walk, pattern->tokens, path.data);
}
