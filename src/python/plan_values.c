/*
 * The values that a parameter has in a request, read as Starlette does it:
 * queries by urllib.parse, cookies by http.cookies.  What these do with input
 * that is not plain is left to them.  Loop thread, GIL held.
 */

#include "python/plan_values.h"
#include "route/db_query.h"

#include <stdlib.h>


#define DB_PY_NAME_MAX    256        /* of an escaped name */
#define DB_PY_SMALL       512        /* of an escaped value */


static int
db_py_values_high(db_str_t text)
{
    size_t  i;

    for (i = 0; i < text.len; i++) {
        if (text.data[i] & 0x80) {
            return 1;
        }
    }

    return 0;
}


static int
db_py_values_escaped(db_str_t text)
{
    size_t  i;

    for (i = 0; i < text.len; i++) {
        if (text.data[i] == '%' || text.data[i] == '+') {
            return 1;
        }
    }

    return 0;
}


/* 1, or 0 for a query that is not plain. */

static int
db_py_query_split(db_py_query_t *query, db_str_t text)
{
    size_t       len;
    const char  *p, *end, *q;

    query->parsed = 1;
    query->npairs = 0;

    if (db_py_values_high(text)) {
        return 0;
    }

    p = text.data;
    end = p + text.len;

    for ( /* void */ ; p < end; p += len + 1) {
        q = memchr(p, '&', end - p);
        len = (q ? q : end) - p;

        if (len == 0) {
            continue;
        }

        if (query->npairs == DB_PY_PAIRS_MAX) {
            return 0;
        }

        q = memchr(p, '=', len);

        query->names[query->npairs].data = p;
        query->names[query->npairs].len = q ? (size_t) (q - p) : len;
        query->values[query->npairs].data = q ? q + 1 : p + len;
        query->values[query->npairs].len = q ? (size_t) (p + len - q - 1) : 0;
        query->npairs++;
    }

    return 1;
}


/* 1 when the name is this one, -1 when it is too long to tell. */

static int
db_py_query_named(db_str_t name, db_str_t wanted)
{
    char  decoded[DB_PY_NAME_MAX];

    if (!db_py_values_escaped(name)) {
        return db_str_eq(name, wanted);
    }

    if (name.len > DB_PY_NAME_MAX) {
        return -1;
    }

    name.len = db_query_decode(decoded, name);
    name.data = decoded;

    return db_str_eq(name, wanted);
}


static int
db_py_query_next(db_py_values_t *values, db_str_t *value)
{
    int             rc;
    unsigned        i;
    db_py_query_t  *query;

    query = values->query;

    if (!query->parsed && !db_py_query_split(query, values->input->query)) {
        return -1;
    }

    while (values->next < query->npairs) {
        i = values->next++;
        rc = db_py_query_named(query->names[i], values->name);

        if (rc) {
            *value = query->values[i];
            return rc;
        }
    }

    return 0;
}


static int
db_py_header_next(db_py_values_t *values, db_str_t name, db_str_t *value)
{
    const db_header_t  *header;

    while (values->next < values->input->nheaders) {
        header = &values->input->headers[values->next++];

        if (db_str_eq(header->name, name)) {
            *value = header->value;
            return 1;
        }
    }

    return 0;
}


int
db_py_header_value(const db_py_input_t *input, db_str_t name,
    db_str_t *value)
{
    db_py_values_t  values;

    values.input = input;
    values.next = 0;

    return db_py_header_next(&values, name, value);
}


/* What str.strip() takes away of ASCII. */

static db_str_t
db_py_cookie_strip(db_str_t text)
{
#define db_py_space(c)                                                        \
    ((c) == ' ' || ((c) >= '\t' && (c) <= '\r') || ((c) >= 0x1c && (c) <= 0x1f))

    while (text.len && db_py_space(text.data[0])) {
        text.data++;
        text.len--;
    }

    while (text.len && db_py_space(text.data[text.len - 1])) {
        text.len--;
    }

#undef db_py_space

    return text;
}


/* The next cookie of a header; one without "=" has no name. */

static int
db_py_cookie_split(db_str_t *rest, db_str_t *name, db_str_t *value)
{
    size_t       len;
    const char  *p, *equals, *end;

    if (rest->data == NULL) {
        return 0;
    }

    p = rest->data;
    end = rest->len ? memchr(p, ';', rest->len) : NULL;
    len = end ? (size_t) (end - p) : rest->len;

    if (end) {
        rest->data = end + 1;
        rest->len -= len + 1;

    } else {
        *rest = db_null_string;
    }

    equals = len ? memchr(p, '=', len) : NULL;

    name->data = p;
    name->len = equals ? (size_t) (equals - p) : 0;
    value->data = equals ? equals + 1 : p;
    value->len = equals ? (size_t) (p + len - equals - 1) : len;

    *name = db_py_cookie_strip(*name);
    *value = db_py_cookie_strip(*value);

    return 1;
}


static int
db_py_cookie_next(db_py_values_t *values, db_str_t *value)
{
    db_str_t  name;

    for ( ;; ) {

        while (db_py_cookie_split(&values->rest, &name, value)) {
            if (db_str_eq(name, values->name) && (name.len || value->len)) {
                return 1;
            }
        }

        if (!db_py_header_next(values, db_string("cookie"), &values->rest)) {
            return 0;
        }

        if (db_py_values_high(values->rest)) {
            return -1;
        }
    }
}


void
db_py_values_start(db_py_values_t *values, db_str_t name)
{
    values->name = name;
    values->next = 0;
    values->rest = db_null_string;
}


int
db_py_values_next(db_py_values_t *values, db_str_t *value)
{
    switch (values->field->source) {

    case DB_PY_QUERY:
        return db_py_query_next(values, value);

    case DB_PY_HEADER:
        return db_py_header_next(values, values->name, value);

    default:
        return db_py_cookie_next(values, value);
    }
}


static PyObject *
db_py_values_query_text(db_str_t text)
{
    char      *decoded, small[DB_PY_SMALL];
    size_t     len;
    PyObject  *object;

    if (!db_py_values_escaped(text)) {
        return PyUnicode_DecodeASCII(text.data, text.len, NULL);
    }

    decoded = text.len <= sizeof(small) ? small : malloc(text.len);

    if (decoded == NULL) {
        return NULL;
    }

    len = db_query_decode(decoded, text);
    object = PyUnicode_DecodeUTF8(decoded, len, NULL);

    if (decoded != small) {
        free(decoded);
    }

    return object;
}


PyObject *
db_py_values_text(db_py_source_t source, db_str_t text)
{
    switch (source) {

    case DB_PY_PATH:
        return PyUnicode_DecodeUTF8(text.data, text.len, NULL);

    case DB_PY_QUERY:
        return db_py_values_query_text(text);

    case DB_PY_HEADER:
        return PyUnicode_DecodeLatin1(text.data, text.len, NULL);

    default:

        /* in quotes: http.cookies knows what it means */

        if (text.len >= 2 && text.data[0] == '"'
            && text.data[text.len - 1] == '"')
        {
            return NULL;
        }

        return PyUnicode_DecodeASCII(text.data, text.len, NULL);
    }
}
