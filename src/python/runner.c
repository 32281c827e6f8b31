/*
 * The coroutine in C that a Task of ours drives.  It begins the user's code
 * in the Task's first step, passes later steps on to it, and handles its end
 * before the Task itself knows of it: no done callback, no further turn of
 * the loop.  A run may go on with another awaitable when one has ended: all
 * of them are awaited in the same Task.  Loop thread, GIL held.
 *
 * db_py.runs owns a reference to each run from its start to its end, so a
 * run cannot be lost however its Task is treated.
 */

#include "python/runtime.h"


static PyObject *db_py_run_get(PyObject *self, void *name);


PyMethodDef  db_py_run_methods[] = {
    { "send", db_py_coroutine_send, METH_O, NULL },
    { "throw", (PyCFunction) (void (*)(void)) db_py_run_method_throw,
      METH_FASTCALL, NULL },
    { "close", db_py_run_method_close, METH_NOARGS, NULL },
    { NULL, NULL, 0, NULL }
};


/* For Task.get_stack() and what else looks into a coroutine. */

PyGetSetDef  db_py_run_getset[] = {
    { "cr_await", db_py_run_get, NULL, NULL, "cr_await" },
    { "cr_code", db_py_run_get, NULL, NULL, "cr_code" },
    { "cr_frame", db_py_run_get, NULL, NULL, "cr_frame" },
    { "cr_running", db_py_run_get, NULL, NULL, "cr_running" },
    { NULL, NULL, NULL, NULL, NULL }
};


void *
db_py_run_new(PyTypeObject *type, const db_py_run_ops_t *ops, size_t size)
{
    db_py_run_t  *run;

    run = PyObject_Malloc(size);

    if (run == NULL) {
        return PyErr_NoMemory();
    }

    memset(run, 0, size);
    (void) PyObject_Init((PyObject *) run, type);

    run->ops = ops;

    return run;
}


void
db_py_run_dealloc(PyObject *self)
{
    db_py_run_t   *run;
    PyTypeObject  *type;

    run = (db_py_run_t *) self;
    type = Py_TYPE(self);

    Py_XDECREF(run->coro);
    Py_XDECREF(run->task);

    PyObject_Free(self);
    Py_DECREF(type);
}


static void
db_py_run_end(db_py_run_t *run, PyObject *result)
{
    run->ended = 1;

    *run->prev = run->next;

    if (run->next) {
        run->next->prev = run->prev;
    }

    db_py.nruns--;

    run->ops->end(run, result);

    run->stepping = 0;

    Py_CLEAR(run->coro);
    Py_CLEAR(run->task);
    Py_DECREF(run);
}


static PySendResult
db_py_run_finish(db_py_run_t *run, PyObject **result)
{
    db_py_run_end(run, *result);

    Py_XDECREF(*result);
    *result = Py_NewRef(Py_None);

    return PYGEN_RETURN;
}


/* The first step of an awaitable, which is taken over; NULL has failed. */

static PySendResult
db_py_run_drive(db_py_run_t *run, PyObject *object, PyObject **result)
{
    *result = NULL;

    if (object == NULL) {
        return PYGEN_ERROR;
    }

    run->coro = db_py_awaitable(object);
    Py_DECREF(object);

    if (run->coro == NULL) {
        return PYGEN_ERROR;
    }

    return PyIter_Send(run->coro, Py_None, result);
}


/* What a step of the awaitable means. */

static PySendResult
db_py_run_stepped(db_py_run_t *run, PySendResult status, PyObject **result)
{
    int        ended;
    PyObject  *outcome, *object;

    while (status != PYGEN_NEXT) {

        if (run->ops->follow == NULL) {
            return db_py_run_finish(run, result);
        }

        Py_CLEAR(run->coro);

        ended = 0;
        outcome = *result;
        object = run->ops->follow(run, outcome, &ended);
        Py_XDECREF(outcome);

        if (ended) {
            *result = object;
            return db_py_run_finish(run, result);
        }

        status = db_py_run_drive(run, object, result);
    }

    run->stepping = 0;
    run->ops->pause(run);

    return PYGEN_NEXT;
}


/* As a coroutine refuses to be driven from within, or once more. */

static int
db_py_run_refuses(const db_py_run_t *run)
{
    if (run->stepping) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");

    } else if (run->ended) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot reuse already awaited coroutine");
    }

    return run->stepping || run->ended;
}


PySendResult
db_py_run_send(PyObject *self, PyObject *arg, PyObject **result)
{
    int            ended;
    PyObject      *object;
    db_py_run_t   *run;
    PySendResult   status;

    run = (db_py_run_t *) self;
    *result = NULL;

    if (db_py_run_refuses(run)) {
        return PYGEN_ERROR;
    }

    run->stepping = 1;

    if (run->coro == NULL) {
        ended = 0;
        object = run->ops->begin(run, &ended);

        if (ended) {
            *result = object;
            return db_py_run_finish(run, result);
        }

        status = db_py_run_drive(run, object, result);

    } else {
        status = PyIter_Send(run->coro, arg, result);
    }

    return db_py_run_stepped(run, status, result);
}


PyObject *
db_py_run_method_throw(PyObject *self, PyObject *const *args,
    Py_ssize_t nargs)
{
    PyObject      *result;
    db_py_run_t   *run;
    PySendResult   status;

    run = (db_py_run_t *) self;
    result = NULL;

    if (nargs == 0) {
        PyErr_SetString(PyExc_TypeError, "throw() needs an exception");
        return NULL;
    }

    if (db_py_run_refuses(run)) {
        return NULL;
    }

    run->stepping = 1;

    status = db_py_throw(run->coro, args, nargs, &result);
    status = db_py_run_stepped(run, status, &result);

    return db_py_returned(status, result);
}


PyObject *
db_py_run_method_close(PyObject *self, PyObject *unused)
{
    PyObject     *result;
    db_py_run_t  *run;

    run = (db_py_run_t *) self;

    if (run->ended) {
        Py_RETURN_NONE;
    }

    if (db_py_run_refuses(run)) {
        return NULL;
    }

    if (run->coro) {
        result = PyObject_CallMethodNoArgs(run->coro, db_py.str.close);

        if (result == NULL) {
            return NULL;
        }

        Py_DECREF(result);
    }

    PyErr_SetNone(PyExc_GeneratorExit);
    db_py_run_end(run, NULL);

    Py_RETURN_NONE;
}


static PyObject *
db_py_run_get(PyObject *self, void *name)
{
    db_py_run_t  *run;

    run = (db_py_run_t *) self;

    if (run->coro) {
        return PyObject_GetAttrString(run->coro, name);
    }

    Py_RETURN_NONE;
}


void
db_py_run_link(db_py_run_t *run)
{
    run->next = db_py.runs;
    run->prev = &db_py.runs;

    if (run->next) {
        run->next->prev = &run->next;
    }

    db_py.runs = run;
    db_py.nruns++;

    /* the list's */
    Py_INCREF(run);
}


/* Its Task, taken over, has made its first step; NULL has failed. */

void
db_py_run_started(db_py_run_t *run, PyObject *task)
{
    if (run->ended) {
        if (task == NULL) {
            db_py_log_exception("a task of a request failed");
        }

        Py_XDECREF(task);

    } else if (task == NULL) {
        db_py_run_end(run, NULL);

    } else {
        run->task = task;
    }
}


void
db_py_run_start(db_py_run_t *run)
{
    db_py_run_link(run);

    db_py_run_started(run, db_py.api->task_start(db_py.loop, (PyObject *) run,
                                                 NULL));
}


void
db_py_run_cancel(db_py_run_t *run)
{
    PyObject  *result;

    if (run->task == NULL) {
        return;
    }

    result = PyObject_CallMethodNoArgs(run->task, db_py.str.cancel);

    if (result == NULL) {
        db_py_log_exception("a task could not be cancelled");
        return;
    }

    Py_DECREF(result);
}


/*
 * Task.cancel() asks the future that is waited for, which may be of the
 * user's making: the list may change meanwhile.
 */

void
db_py_run_cancel_all(void)
{
    PyObject     *runs;
    Py_ssize_t    i;
    db_py_run_t  *run;

    runs = PyList_New(0);

    for (run = db_py.runs; run && runs; run = run->next) {
        if (PyList_Append(runs, (PyObject *) run) == -1) {
            Py_CLEAR(runs);
        }
    }

    if (runs == NULL) {
        db_py_log_exception("the requests could not be cancelled");
        return;
    }

    for (i = 0; i < PyList_GET_SIZE(runs); i++) {
        db_py_run_cancel((db_py_run_t *) PyList_GET_ITEM(runs, i));
    }

    Py_DECREF(runs);
}


/*
 * When the loop has run for the last time: what ignored its cancellation
 * ends here for nginx, wherever its code stands.
 */

void
db_py_run_abandon_all(void)
{
    while (db_py.runs) {
        PyErr_SetNone(db_py.cancelled_error);
        db_py_run_end(db_py.runs, NULL);
    }
}


/* The exception, normalized, with its traceback; none is set afterwards. */

PyObject *
db_py_exception(void)
{
    PyObject  *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);

    if (traceback) {
        (void) PyException_SetTraceback(value, traceback);
    }

    Py_XDECREF(type);
    Py_XDECREF(traceback);

    return value;
}
