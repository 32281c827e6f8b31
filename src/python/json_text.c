/*
 * JSON of Python's own types, written in one pass.  Only exact types are
 * taken, and nothing of the user's runs here, so no value changes under our
 * hands but where json_encode.c calls something: what a container holds is
 * referenced while another container or a foreign object in it is written.
 * Any thread with the GIL.
 */

#include "python/json_text.h"

#include <math.h>
#include <stdint.h>


#define DB_PY_JSON_PIECE   1024        /* characters looked at together */
#define DB_PY_JSON_ESCAPE  6           /* bytes of the longest, \u001f */

#define DB_PY_ONES         UINT64_C(0x0101010101010101)
#define DB_PY_HIGHS        UINT64_C(0x8080808080808080)


static const char  db_py_json_pairs[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343"
    "53637383940414243444546474849505152535455565758596061626364656667686970"
    "7172737475767778798081828384858687888990919293949596979899";

/* What follows the backslash; 0: nothing is escaped, 'u': four digits. */

static const char  db_py_json_escapes[0x80] = {
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u',
    'b', 't', 'n', 'u', 'f', 'r', 'u', 'u',
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u',
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u',
    ['"'] = '"',
    ['\\'] = '\\',
};


int
db_py_json_grow(db_py_text_t *text, size_t n)
{
    size_t     len, size;
    PyObject  *bytes;

    len = text->pos - text->data;
    size = text->end - text->data;

    if (n > PY_SSIZE_T_MAX / 4 || size > PY_SSIZE_T_MAX / 4) {
        return 0;
    }

    do {
        size *= 2;
    } while (size - len < n);

    if (text->bytes) {
        if (_PyBytes_Resize(&text->bytes, size) == -1) {
            return 0;
        }

    } else {
        bytes = PyBytes_FromStringAndSize(NULL, size);

        if (bytes == NULL) {
            return 0;
        }

        memcpy(PyBytes_AS_STRING(bytes), text->data, len);
        text->bytes = bytes;
    }

    text->data = PyBytes_AS_STRING(text->bytes);
    text->pos = text->data + len;
    text->end = text->data + size;

    return 1;
}


static int
db_py_json_literal(db_py_text_t *text, const char *data, size_t len)
{
    if (!db_py_json_room(text, len)) {
        return 0;
    }

    memcpy(text->pos, data, len);
    text->pos += len;

    return 1;
}


int
db_py_json_plain(db_py_text_t *text, const char *data, size_t len)
{
    if (!db_py_json_room(text, len + 2)) {
        return 0;
    }

    *text->pos++ = '"';
    memcpy(text->pos, data, len);
    text->pos += len;
    *text->pos++ = '"';

    return 1;
}


/* A character below 0x80; there is room. */

static inline char *
db_py_json_char(char *p, Py_UCS4 c)
{
    char  escape;

    escape = db_py_json_escapes[c];

    if (escape == 0) {
        *p++ = c;
        return p;
    }

    *p++ = '\\';
    *p++ = escape;

    if (escape == 'u') {
        *p++ = '0';
        *p++ = '0';
        *p++ = '0' + (c >> 4);
        *p++ = "0123456789abcdef"[c & 0xf];
    }

    return p;
}


/* Characters in any of the three widths; 0 for a lone surrogate as well. */

static int
db_py_json_wide(db_py_text_t *text, int kind, const void *data,
    Py_ssize_t len)
{
    char        *p;
    Py_UCS4      c;
    Py_ssize_t   i, end;

    for (i = 0; i < len; /* void */ ) {
        end = len - i < DB_PY_JSON_PIECE ? len : i + DB_PY_JSON_PIECE;

        if (!db_py_json_room(text, (end - i) * DB_PY_JSON_ESCAPE)) {
            return 0;
        }

        p = text->pos;

        for (/* void */ ; i < end; i++) {
            c = PyUnicode_READ(kind, data, i);

            if (c < 0x80) {
                p = db_py_json_char(p, c);

            } else if (c < 0x800) {
                *p++ = 0xc0 | c >> 6;
                *p++ = 0x80 | (c & 0x3f);

            } else if (c < 0x10000) {

                if (c >= 0xd800 && c < 0xe000) {
                    return 0;
                }

                *p++ = 0xe0 | c >> 12;
                *p++ = 0x80 | (c >> 6 & 0x3f);
                *p++ = 0x80 | (c & 0x3f);

            } else {
                *p++ = 0xf0 | c >> 18;
                *p++ = 0x80 | (c >> 12 & 0x3f);
                *p++ = 0x80 | (c >> 6 & 0x3f);
                *p++ = 0x80 | (c & 0x3f);
            }
        }

        text->pos = p;
    }

    return 1;
}


/* Of eight bytes below 0x80: whether one has to be escaped. */

static inline int
db_py_json_special(uint64_t word)
{
    uint64_t  control, quote, backslash;

    control = word - DB_PY_ONES * ' ';
    quote = (word ^ DB_PY_ONES * '"') - DB_PY_ONES;
    backslash = (word ^ DB_PY_ONES * '\\') - DB_PY_ONES;

    return ((control | quote | backslash) & DB_PY_HIGHS) != 0;
}


/*
 * Copies ASCII up to the first byte that has to be escaped; there is room.
 * Returns how many bytes that are: of eight with one such, none.
 */

static inline size_t
db_py_json_copy(char *p, const char *data, size_t len)
{
    size_t    i;
    uint32_t  head, tail;
    uint64_t  word;

    if (len >= 8) {

        for (i = 0; i + 8 <= len; i += 8) {
            memcpy(&word, data + i, 8);

            if (db_py_json_special(word)) {
                return i;
            }

            memcpy(p + i, &word, 8);
        }

        /* the rest, together with some that was copied */

        memcpy(&word, data + len - 8, 8);

        if (db_py_json_special(word)) {
            return i;
        }

        memcpy(p + len - 8, &word, 8);

        return len;
    }

    if (len >= 4) {
        memcpy(&head, data, 4);
        memcpy(&tail, data + len - 4, 4);

        if (db_py_json_special((uint64_t) head << 32 | tail)) {
            return 0;
        }

        memcpy(p, &head, 4);
        memcpy(p + len - 4, &tail, 4);

        return len;
    }

    for (i = 0; i < len && db_py_json_escapes[(int) data[i]] == 0; i++) {
        p[i] = data[i];
    }

    return i;
}


static int
db_py_json_string(db_py_text_t *text, PyObject *string)
{
    size_t       len, done;
    const char  *data;

#if PY_VERSION_HEX < 0x030c0000
    if (PyUnicode_READY(string) == -1) {
        return 0;
    }
#endif

    len = PyUnicode_GET_LENGTH(string);
    done = 0;

    /* the second quote, too */

    if (!db_py_json_room(text, len + 2)) {
        return 0;
    }

    *text->pos++ = '"';

    if (PyUnicode_IS_ASCII(string)) {
        data = PyUnicode_DATA(string);
        done = db_py_json_copy(text->pos, data, len);
        text->pos += done;

        if (done < len
            && !db_py_json_wide(text, PyUnicode_1BYTE_KIND, data + done,
                                len - done))
        {
            return 0;
        }

    } else if (!db_py_json_wide(text, PyUnicode_KIND(string),
                                PyUnicode_DATA(string), len))
    {
        return 0;
    }

    if (!db_py_json_room(text, 1)) {
        return 0;
    }

    *text->pos++ = '"';

    return 1;
}


/* The digits of n, with at least so many of them; ends before "end". */

static char *
db_py_json_digits(char *end, uint64_t n, int least)
{
    char  *p;

    p = end;

    while (n >= 100) {
        p -= 2;
        memcpy(p, db_py_json_pairs + 2 * (n % 100), 2);
        n /= 100;
    }

    if (n >= 10) {
        p -= 2;
        memcpy(p, db_py_json_pairs + 2 * n, 2);

    } else if (n || p == end) {
        *--p = '0' + n;
    }

    while (end - p < least) {
        *--p = '0';
    }

    return p;
}


static int
db_py_json_int(db_py_text_t *text, PyObject *object)
{
    int        overflow;
    char       digits[20], *p;
    long long  n;

    n = PyLong_AsLongLongAndOverflow(object, &overflow);

    if (overflow) {
        return 0;
    }

    p = db_py_json_digits(digits + sizeof(digits),
                          n < 0 ? 0 - (uint64_t) n : (uint64_t) n, 1);

    if (n < 0) {
        *--p = '-';
    }

    return db_py_json_literal(text, p, digits + sizeof(digits) - p);
}


/*
 * A decimal of at most 15 digits is the shortest that reads back as its
 * double, since no two of them read as the same one.  So we look for it with
 * all of the 15: m / 10^k, both exact, is the double only if it is the one,
 * and what is then left to do is to leave out trailing zeros.  1 when there
 * is such a decimal and repr() writes it without an exponent.
 */

static int
db_py_json_decimal(db_py_text_t *text, double x)
{
    int       k;
    char      digits[32], *p, *end;
    uint64_t  m, power;

    static const double  powers[] = {
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
        1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19
    };

    if (!(x >= 1e-4 && x < 1e15)) {
        return 0;
    }

    /* 10^14 <= x * 10^k < 10^15, but for rounding: then not all are seen */

    if (x >= 1) {
        for (k = 14; x >= powers[15 - k]; k--) { /* void */ }

    } else {
        for (k = 15; x * powers[k] < 1e14; k++) { /* void */ }
    }

    m = (uint64_t) (x * powers[k] + 0.5);

    if (m >= 1000000000000000 || (double) m / powers[k] != x) {
        return 0;
    }

    while (k >= 4 && m % 10000 == 0) {
        m /= 10000;
        k -= 4;
    }

    while (k > 1 && m % 10 == 0) {
        m /= 10;
        k--;
    }

    if (k == 0) {
        m *= 10;
        k = 1;
    }

    /* at least one digit before the point, and one behind it */

    end = digits + sizeof(digits);
    power = (uint64_t) powers[k];

    p = db_py_json_digits(end, m % power, k);
    *--p = '.';
    p = db_py_json_digits(p, m / power, 1);

    return db_py_json_literal(text, p, end - p);
}


static int
db_py_json_float(db_py_text_t *text, double x)
{
    int    rc;
    char  *repr;

    if (!isfinite(x) || !db_py_json_room(text, 32)) {
        return 0;
    }

    if (signbit(x)) {
        *text->pos++ = '-';
        x = -x;
    }

    if (x == 0) {
        return db_py_json_literal(text, "0.0", 3);
    }

    if (db_py_json_decimal(text, x)) {
        return 1;
    }

    repr = PyOS_double_to_string(x, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);

    if (repr == NULL) {
        return 0;
    }

    rc = db_py_json_literal(text, repr, strlen(repr));
    PyMem_Free(repr);

    return rc;
}


static int
db_py_json_items(db_py_text_t *text, PyObject *array, unsigned depth)
{
    int          list;
    PyObject    *item;
    Py_ssize_t   i;

    list = PyList_CheckExact(array);

    for (i = 0; i < Py_SIZE(array); i++) {
        item = list ? PyList_GET_ITEM(array, i) : PyTuple_GET_ITEM(array, i);

        if (!db_py_json_room(text, 1)) {
            return 0;
        }

        *text->pos = ',';
        text->pos += i != 0;

        if (!db_py_json_value(text, item, depth)) {
            return 0;
        }
    }

    return 1;
}


static int
db_py_json_members(db_py_text_t *text, PyObject *dict, unsigned depth)
{
    int          first;
    PyObject    *key, *value;
    Py_ssize_t   i, size;

    i = 0;
    first = 1;
    size = PyDict_GET_SIZE(dict);

    while (PyDict_Next(dict, &i, &key, &value)) {

        /* FastAPI leaves out what is SQLAlchemy's */

        if (!PyUnicode_CheckExact(key)
            || (PyUnicode_GET_LENGTH(key) >= 3
                && PyUnicode_READ_CHAR(key, 0) == '_'
                && PyUnicode_READ_CHAR(key, 1) == 's'
                && PyUnicode_READ_CHAR(key, 2) == 'a')
            || !db_py_json_room(text, 1))
        {
            return 0;
        }

        *text->pos = ',';
        text->pos += !first;
        first = 0;

        if (!db_py_json_string(text, key) || !db_py_json_room(text, 1)) {
            return 0;
        }

        *text->pos++ = ':';

        if (!db_py_json_value(text, value, depth)
            || PyDict_GET_SIZE(dict) != size)
        {
            return 0;
        }
    }

    return 1;
}


int
db_py_json_array(db_py_text_t *text, PyObject *iterable, unsigned depth)
{
    int        rc, first;
    PyObject  *iter, *item;

    iter = PyObject_GetIter(iterable);

    if (iter == NULL || !db_py_json_literal(text, "[", 1)) {
        Py_XDECREF(iter);
        return 0;
    }

    rc = 1;
    first = 1;

    while (rc) {
        item = PyIter_Next(iter);

        if (item == NULL) {
            break;
        }

        rc = (first || db_py_json_literal(text, ",", 1))
             && db_py_json_value(text, item, depth);

        first = 0;
        Py_DECREF(item);
    }

    Py_DECREF(iter);

    return rc && !PyErr_Occurred() && db_py_json_literal(text, "]", 1);
}


/* Containers, and what has to be encoded first. */

static int
db_py_json_object(db_py_text_t *text, PyObject *object, unsigned depth)
{
    int   rc, dict;

    if (depth == DB_PY_JSON_DEPTH) {
        return 0;
    }

    dict = PyDict_CheckExact(object);

    if (!dict && !PyList_CheckExact(object) && !PyTuple_CheckExact(object)) {
        return text->encoded ? 0 : db_py_json_encode(text, object, depth + 1);
    }

    rc = db_py_json_literal(text, dict ? "{" : "[", 1)
         && (dict ? db_py_json_members(text, object, depth + 1)
                  : db_py_json_items(text, object, depth + 1))
         && db_py_json_literal(text, dict ? "}" : "]", 1);

    return rc;
}


int
db_py_json_value(db_py_text_t *text, PyObject *object, unsigned depth)
{
    int            rc;
    PyTypeObject  *type;

    type = Py_TYPE(object);

    if (type == &PyUnicode_Type) {
        return db_py_json_string(text, object);
    }

    if (type == &PyLong_Type) {
        return db_py_json_int(text, object);
    }

    if (type == &PyFloat_Type) {
        return db_py_json_float(text, PyFloat_AS_DOUBLE(object));
    }

    if (object == Py_None) {
        return db_py_json_literal(text, "null", 4);
    }

    if (object == Py_True) {
        return db_py_json_literal(text, "true", 4);
    }

    if (object == Py_False) {
        return db_py_json_literal(text, "false", 5);
    }

    Py_INCREF(object);
    rc = db_py_json_object(text, object, depth);
    Py_DECREF(object);

    return rc;
}


int
db_py_json_text(PyObject *object, db_py_text_t *text)
{
    text->data = text->small;
    text->pos = text->small;
    text->end = text->small + sizeof(text->small);
    text->bytes = NULL;
    text->encoded = 0;

    if (!db_py_json_value(text, object, 0)) {
        goto failed;
    }

    if (text->bytes) {
        if (_PyBytes_Resize(&text->bytes, text->pos - text->data) == -1) {
            goto failed;
        }

        text->pos = PyBytes_AS_STRING(text->bytes)
                    + PyBytes_GET_SIZE(text->bytes);
        text->data = PyBytes_AS_STRING(text->bytes);
    }

    return 1;

failed:

    PyErr_Clear();
    Py_CLEAR(text->bytes);

    return 0;
}
