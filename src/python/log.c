/*
 * Text of Python's on its way to the error log, line by line.  With the GIL
 * held, any thread.
 */

#include "python/runtime.h"


/* More than a line of nginx's log holds: what has no end is cut here. */

#define DB_PY_LINE_MAX  1900


void
db_py_log(db_pylog_level_t level, const char *text, size_t len)
{
    db_py.conf->log(db_py.conf->log_ctx, level, text, len);
}


/* Logs the line, in pieces if it is long, without a carriage return. */

static void
db_py_log_line(db_pylog_level_t level, const char *text, size_t len)
{
    size_t  n;

    if (len && text[len - 1] == '\r') {
        len--;
    }

    while (len) {
        n = len;

        if (n > DB_PY_LINE_MAX) {
            n = DB_PY_LINE_MAX;

            /* not within a character of UTF-8 */

            while (n > 1 && ((unsigned char) text[n] & 0xc0) == 0x80) {
                n--;
            }
        }

        db_py_log(level, text, n);

        text += n;
        len -= n;
    }
}


/* The whole lines of the text; returns what was taken of it. */

static size_t
db_py_log_whole(db_pylog_level_t level, const char *text, size_t len)
{
    size_t       taken;
    const char  *end;

    taken = 0;

    for ( ;; ) {
        end = memchr(text + taken, '\n', len - taken);

        if (end == NULL) {
            return taken;
        }

        db_py_log_line(level, text + taken, end - (text + taken));
        taken = end + 1 - text;
    }
}


void
db_py_log_lines(db_pylog_level_t level, const char *text, size_t len)
{
    size_t  taken;

    taken = db_py_log_whole(level, text, len);
    db_py_log_line(level, text + taken, len - taken);
}


void
db_py_log_exception(const char *message)
{
    const char  *text;
    PyObject    *exception, *line;

    exception = db_py_exception();
    line = PyUnicode_FromFormat("databridge: %s: %R", message,
                                exception ? exception : Py_None);
    text = line ? PyUnicode_AsUTF8(line) : NULL;

    if (text == NULL) {
        PyErr_Clear();
        text = message;
    }

    db_py_log_lines(DB_PYLOG_ERROR, text, strlen(text));

    Py_XDECREF(line);
    Py_XDECREF(exception);
}


/*
 * Lines(level): collects bytes and logs each line once it is whole.  It is
 * what sys.stdout and sys.stderr end in.
 */

typedef struct {
    PyObject_HEAD
    db_pylog_level_t   level;
    char              *rest;
    size_t             len;
    size_t             size;
} db_py_lines_t;


static PyObject *
db_py_lines_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    unsigned        level;
    db_py_lines_t  *lines;
    static char    *names[] = { "level", NULL };

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "I:Lines", names, &level)) {
        return NULL;
    }

    if (level > DB_PYLOG_DEBUG) {
        PyErr_SetString(PyExc_ValueError, "there is no such level");
        return NULL;
    }

    lines = (db_py_lines_t *) type->tp_alloc(type, 0);

    if (lines) {
        lines->level = level;
    }

    return (PyObject *) lines;
}


static void
db_py_lines_dealloc(PyObject *self)
{
    db_py_lines_t  *lines;
    PyTypeObject   *type;

    type = Py_TYPE(self);
    lines = (db_py_lines_t *) self;

    PyMem_Free(lines->rest);
    type->tp_free(self);
    Py_DECREF(type);
}


static int
db_py_lines_keep(db_py_lines_t *lines, const char *data, size_t len)
{
    char    *rest;
    size_t   size;

    if (lines->len + len > lines->size) {
        size = (lines->len + len) * 2;

        rest = PyMem_Realloc(lines->rest, size);
        if (rest == NULL) {
            PyErr_NoMemory();
            return -1;
        }

        lines->rest = rest;
        lines->size = size;
    }

    memcpy(lines->rest + lines->len, data, len);
    lines->len += len;

    return 0;
}


static int
db_py_lines_add(db_py_lines_t *lines, const char *data, size_t len)
{
    size_t  taken;

    if (len == 0) {
        return 0;
    }

    if (lines->len == 0) {
        taken = db_py_log_whole(lines->level, data, len);
        data += taken;
        len -= taken;

        return len ? db_py_lines_keep(lines, data, len) : 0;
    }

    if (db_py_lines_keep(lines, data, len) == -1) {
        return -1;
    }

    taken = db_py_log_whole(lines->level, lines->rest, lines->len);

    if (taken == 0 && lines->len >= DB_PY_LINE_MAX) {
        db_py_log_line(lines->level, lines->rest, lines->len);
        taken = lines->len;
    }

    lines->len -= taken;
    memmove(lines->rest, lines->rest + taken, lines->len);

    return 0;
}


static PyObject *
db_py_lines_write(PyObject *self, PyObject *data)
{
    int         rc;
    Py_buffer   view;

    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) == -1) {
        return NULL;
    }

    rc = db_py_lines_add((db_py_lines_t *) self, view.buf, view.len);
    data = PyLong_FromSsize_t(view.len);

    PyBuffer_Release(&view);

    if (rc == -1) {
        Py_XDECREF(data);
        return NULL;
    }

    return data;
}


static PyObject *
db_py_lines_end(PyObject *self, PyObject *unused)
{
    db_py_lines_t  *lines;

    lines = (db_py_lines_t *) self;

    db_py_log_line(lines->level, lines->rest, lines->len);
    lines->len = 0;

    Py_RETURN_NONE;
}


static PyMethodDef  db_py_lines_methods[] = {
    { "write", db_py_lines_write, METH_O,
      "Logs the lines that these bytes complete." },
    { "end", db_py_lines_end, METH_NOARGS,
      "Logs what is left of an unfinished line." },
    { NULL, NULL, 0, NULL }
};

static PyType_Slot  db_py_lines_slots[] = {
    { Py_tp_new, db_py_lines_new },
    { Py_tp_dealloc, db_py_lines_dealloc },
    { Py_tp_methods, db_py_lines_methods },
    { 0, NULL }
};

PyType_Spec  db_py_lines_spec = {
    .name = "_databridge.Lines",
    .basicsize = sizeof(db_py_lines_t),
    .flags = Py_TPFLAGS_DEFAULT|Py_TPFLAGS_IMMUTABLETYPE,
    .slots = db_py_lines_slots
};


/* As PyUnicode_FromFormat(), which does not know "%.*s" before 3.12. */

PyObject *
db_py_format(const char *format, ...)
{
    int      n;
    char     text[DB_PY_FORMAT_LEN];
    va_list  args;

    va_start(args, format);
    n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);

    if (n >= (int) sizeof(text)) {
        n = (int) sizeof(text) - 1;
    }

    return PyUnicode_DecodeUTF8(text, n, "replace");
}
