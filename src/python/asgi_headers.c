/*
 * The headers of an application's response: checked when it sends them, held
 * as Python's objects until the first piece of the body, then copied into
 * the part.  Loop thread, GIL held.
 */

#include "python/runtime.h"

#include <errno.h>


/* Bytes that a name may not have, as uvicorn. */

static int
db_py_header_name_ok(PyObject *name)
{
    Py_ssize_t      i, len;
    unsigned char  *data, c;

    data = (unsigned char *) PyBytes_AS_STRING(name);
    len = PyBytes_GET_SIZE(name);

    for (i = 0; i < len; i++) {
        c = data[i];

        if (c <= 0x20 || c == 0x7f || strchr("()<>@,;:[]={}\\\"", c)) {
            return 0;
        }
    }

    return len > 0;
}


int
db_py_header_value_ok(PyObject *value)
{
    Py_ssize_t      i, len;
    unsigned char  *data, c;

    data = (unsigned char *) PyBytes_AS_STRING(value);
    len = PyBytes_GET_SIZE(value);

    for (i = 0; i < len; i++) {
        c = data[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return 0;
        }
    }

    return 1;
}


static int
db_py_header_is(PyObject *name, const char *text, Py_ssize_t len)
{
    return PyBytes_GET_SIZE(name) == len
           && PyOS_mystrnicmp(PyBytes_AS_STRING(name), text, len) == 0;
}


/* The first content-length counts, unless the application chunks itself. */

static int
db_py_header_length(db_py_headers_t *headers, PyObject *value)
{
    char       *digits, *end;
    long long   length;

    errno = 0;
    digits = PyBytes_AS_STRING(value);
    length = strtoll(digits, &end, 10);

    if (errno || *end || !Py_ISDIGIT(*digits)) {
        PyErr_SetString(PyExc_RuntimeError, "Invalid Content-Length.");
        return -1;
    }

    headers->length = length;

    return 0;
}


static PyObject *
db_py_header_bytes(PyObject *object)
{
    if (PyBytes_CheckExact(object)) {
        return Py_NewRef(object);
    }

    if (!PyObject_CheckBuffer(object)) {
        PyErr_Format(PyExc_TypeError,
                     "a header must be a pair of bytes, not of '%.100s'",
                     Py_TYPE(object)->tp_name);
        return NULL;
    }

    return PyBytes_FromObject(object);
}


/* A new reference to the pair as an exact tuple of exact bytes. */

static PyObject *
db_py_header_pair(PyObject *object)
{
    PyObject  *fast, *pair, *name, *value;

    if (PyTuple_CheckExact(object) && PyTuple_GET_SIZE(object) == 2
        && PyBytes_CheckExact(PyTuple_GET_ITEM(object, 0))
        && PyBytes_CheckExact(PyTuple_GET_ITEM(object, 1)))
    {
        return Py_NewRef(object);
    }

    fast = PySequence_Fast(object, "a header must be a pair of bytes");

    if (fast == NULL) {
        return NULL;
    }

    if (PySequence_Fast_GET_SIZE(fast) != 2) {
        PyErr_SetString(PyExc_ValueError, "a header must be a pair of bytes");
        Py_DECREF(fast);
        return NULL;
    }

    pair = NULL;
    value = NULL;

    name = db_py_header_bytes(PySequence_Fast_GET_ITEM(fast, 0));

    if (name) {
        value = db_py_header_bytes(PySequence_Fast_GET_ITEM(fast, 1));
    }

    if (value) {
        pair = PyTuple_Pack(2, name, value);
    }

    Py_XDECREF(name);
    Py_XDECREF(value);
    Py_DECREF(fast);

    return pair;
}


static int
db_py_header_check(db_py_headers_t *headers, PyObject *pair, int *chunked)
{
    PyObject  *name, *value;

    name = PyTuple_GET_ITEM(pair, 0);
    value = PyTuple_GET_ITEM(pair, 1);

    if (!db_py_header_name_ok(name)) {
        PyErr_SetString(PyExc_RuntimeError, "Invalid HTTP header name.");
        return -1;
    }

    if (!db_py_header_value_ok(value)) {
        PyErr_SetString(PyExc_RuntimeError, "Invalid HTTP header value.");
        return -1;
    }

    headers->size += PyBytes_GET_SIZE(name) + PyBytes_GET_SIZE(value);

    if (headers->length == -1 && !*chunked
        && db_py_header_is(name, "content-length", 14))
    {
        return db_py_header_length(headers, value);
    }

    if (db_py_header_is(name, "content-type", 12)
        && PyOS_mystrnicmp(PyBytes_AS_STRING(value), "text/event-stream", 17)
           == 0)
    {
        headers->events = 1;
    }

    if (db_py_header_is(name, "transfer-encoding", 17)
        && db_py_header_is(value, "chunked", 7))
    {
        *chunked = 1;
        headers->length = -1;
    }

    return 0;
}


/*
 * Takes any iterable of pairs.  The tuple is ours alone until this returns:
 * an application that changes its list later changes nothing here.
 */

int
db_py_headers_init(db_py_headers_t *headers, PyObject *iterable)
{
    int          chunked;
    PyObject    *list, *pair;
    Py_ssize_t   i;

    list = PyList_CheckExact(iterable) ? Py_NewRef(iterable)
                                       : PySequence_List(iterable);
    if (list == NULL) {
        return -1;
    }

    headers->size = 0;
    headers->length = -1;
    headers->events = 0;
    headers->pairs = PyList_AsTuple(list);

    Py_DECREF(list);

    if (headers->pairs == NULL) {
        return -1;
    }

    chunked = 0;

    for (i = 0; i < PyTuple_GET_SIZE(headers->pairs); i++) {
        pair = db_py_header_pair(PyTuple_GET_ITEM(headers->pairs, i));

        if (pair == NULL) {
            goto failed;
        }

        Py_SETREF(PyTuple_GET_ITEM(headers->pairs, i), pair);

        if (db_py_header_check(headers, pair, &chunked) == -1) {
            goto failed;
        }
    }

    return 0;

failed:

    Py_CLEAR(headers->pairs);

    return -1;
}


static db_str_t
db_py_header_copy(PyObject *bytes, char **strings, int lower)
{
    db_str_t     str;
    Py_ssize_t   i, len;
    const char  *data;

    data = PyBytes_AS_STRING(bytes);
    len = PyBytes_GET_SIZE(bytes);

    str.data = *strings;
    str.len = len;

    if (lower) {
        for (i = 0; i < len; i++) {
            (*strings)[i] = Py_TOLOWER(data[i]);
        }

    } else {
        memcpy(*strings, data, len);
    }

    *strings += len;

    return str;
}


void
db_py_headers_copy(const db_py_headers_t *headers, db_part_t *part,
    char *strings)
{
    unsigned   i;
    PyObject  *pair;

    for (i = 0; i < part->nheaders; i++) {
        pair = PyTuple_GET_ITEM(headers->pairs, i);

        part->headers[i].name = db_py_header_copy(PyTuple_GET_ITEM(pair, 0),
                                                  &strings, 1);
        part->headers[i].value = db_py_header_copy(PyTuple_GET_ITEM(pair, 1),
                                                   &strings, 0);
    }
}
