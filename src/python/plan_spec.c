/*
 * Members of a plan's specification, checked: each function names in its
 * exception what is wrong with which one.  Loop thread, GIL held.
 */

#include "python/plan_spec.h"


/* 0 for a tuple of that size, of any when it is negative. */

int
db_py_spec_tuple(PyObject *object, Py_ssize_t size, const char *name)
{
    if (!PyTuple_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s of a plan has to be a tuple, not "
                     "%R", name, object);
        return -1;
    }

    if (size >= 0 && PyTuple_GET_SIZE(object) != size) {
        PyErr_Format(PyExc_ValueError, "%s of a plan has to have %zd members,"
                     " not %zd", name, size, PyTuple_GET_SIZE(object));
        return -1;
    }

    return 0;
}


int
db_py_spec_number(PyObject *object, long min, long max, const char *name,
    long *number)
{
    *number = PyLong_AsLong(object);

    if (*number == -1 && PyErr_Occurred()) {
        PyErr_Format(PyExc_TypeError, "%s of a plan has to be an int, not %R",
                     name, object);
        return -1;
    }

    if (*number < min || *number > max) {
        PyErr_Format(PyExc_ValueError, "%s of a plan has to be %ld to %ld, "
                     "not %ld", name, min, max, *number);
        return -1;
    }

    return 0;
}


int
db_py_spec_flag(PyObject *object, const char *name, int *flag)
{
    if (!PyBool_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s of a plan has to be a bool, not %R",
                     name, object);
        return -1;
    }

    *flag = object == Py_True;

    return 0;
}


int
db_py_spec_bytes(PyObject *object, const char *name, db_str_t *str)
{
    if (!PyBytes_CheckExact(object)) {
        PyErr_Format(PyExc_TypeError, "%s of a plan has to be bytes, not %R",
                     name, object);
        return -1;
    }

    str->data = PyBytes_AS_STRING(object);
    str->len = PyBytes_GET_SIZE(object);

    return 0;
}


int
db_py_spec_texts(PyObject *tuple, Py_ssize_t size, const char *name)
{
    Py_ssize_t  i;

    if (db_py_spec_tuple(tuple, size, name) == -1) {
        return -1;
    }

    for (i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        if (!PyUnicode_CheckExact(PyTuple_GET_ITEM(tuple, i))) {
            PyErr_Format(PyExc_TypeError, "%s of a plan have to be str, not "
                         "%R", name, PyTuple_GET_ITEM(tuple, i));
            return -1;
        }
    }

    return 0;
}


int
db_py_spec_call(PyObject *object, const char *name, PyObject **callable)
{
    if (!PyCallable_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s of a plan has to be callable, not "
                     "%R", name, object);
        return -1;
    }

    *callable = object;

    return 0;
}


/* None is NULL. */

int
db_py_spec_optional(PyObject *object, const char *name, PyObject **callable)
{
    *callable = NULL;

    return object == Py_None ? 0 : db_py_spec_call(object, name, callable);
}


/* Headers that are sent as they are. */

int
db_py_spec_pairs(PyObject *tuple, const char *what)
{
    db_str_t     text;
    PyObject    *pair;
    Py_ssize_t   i;

    if (db_py_spec_tuple(tuple, -1, what) == -1) {
        return -1;
    }

    for (i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        pair = PyTuple_GET_ITEM(tuple, i);

        if (db_py_spec_tuple(pair, 2, what) == -1
            || db_py_spec_bytes(PyTuple_GET_ITEM(pair, 0), what, &text) == -1
            || db_py_spec_bytes(PyTuple_GET_ITEM(pair, 1), what, &text) == -1)
        {
            return -1;
        }
    }

    return 0;
}
