/*
 * What the coroutines in C have in common: their steps as the methods of a
 * generator, and what they drive.  Loop thread, GIL held.
 */

#include "python/runtime.h"


static PySendResult db_py_stopped(PyObject **result);


PyObject *
db_py_self(PyObject *self)
{
    return Py_NewRef(self);
}


PyObject *
db_py_coroutine_next(PyObject *self)
{
    return db_py_coroutine_send(self, Py_None);
}


PyObject *
db_py_coroutine_send(PyObject *self, PyObject *arg)
{
    PyObject      *result;
    PySendResult   status;

    status = Py_TYPE(self)->tp_as_async->am_send(self, arg, &result);

    return db_py_returned(status, result);
}


/* The outcome of a step in the way of tp_iternext and generator.send(). */

PyObject *
db_py_returned(PySendResult status, PyObject *result)
{
    PyObject  *stop;

    if (status != PYGEN_RETURN) {
        return result;
    }

    /* called with the value, or a tuple would be spread */
    stop = PyObject_CallOneArg(PyExc_StopIteration, result);
    Py_DECREF(result);

    if (stop) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
    }

    return NULL;
}


/*
 * As throw() of a generator that does nothing but delegate to iter; NULL: it
 * has not begun to.
 */

PySendResult
db_py_throw(PyObject *iter, PyObject *const *args, Py_ssize_t nargs,
    PyObject **result)
{
    PyObject  *method;

    method = NULL;

    if (iter) {
        method = PyObject_GetAttr(iter, db_py.str.throw);

        if (method == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return PYGEN_ERROR;
        }

        PyErr_Clear();
    }

    if (method == NULL) {
        PyErr_SetObject(PyExceptionInstance_Check(args[0])
                            ? (PyObject *) Py_TYPE(args[0]) : args[0],
                        nargs > 1 ? args[1] : args[0]);
        return PYGEN_ERROR;
    }

    *result = PyObject_Vectorcall(method, args, nargs, NULL);
    Py_DECREF(method);

    if (*result) {
        return PYGEN_NEXT;
    }

    return db_py_stopped(result);
}


/* The exception that is set may be how an iterator ends. */

static PySendResult
db_py_stopped(PyObject **result)
{
    PyObject  *stop;

    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return PYGEN_ERROR;
    }

    stop = db_py_exception();

    *result = PyObject_GetAttrString(stop, "value");
    Py_DECREF(stop);

    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}


/* What "await object" would drive. */

PyObject *
db_py_awaitable(PyObject *object)
{
    PyObject        *iter;
    PyAsyncMethods  *async;

    if (PyCoro_CheckExact(object) || PyGen_CheckExact(object)) {
        return Py_NewRef(object);
    }

    async = Py_TYPE(object)->tp_as_async;

    if (async == NULL || async->am_await == NULL) {
        PyErr_Format(PyExc_TypeError,
                     "object %.100s can't be used in 'await' expression",
                     Py_TYPE(object)->tp_name);
        return NULL;
    }

    iter = async->am_await(object);

    if (iter && !PyIter_Check(iter)) {
        PyErr_Format(PyExc_TypeError,
                     "__await__() returned non-iterator of type '%.100s'",
                     Py_TYPE(iter)->tp_name);
        Py_CLEAR(iter);
    }

    return iter;
}
