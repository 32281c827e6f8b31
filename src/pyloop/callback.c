/*
 * Calling what is ready and reporting what it raises, on the loop's thread.
 */

#include "pyloop/pyloop.h"


static int  pyloop_entry_enter(pyloop_entry_t *entry);
static int  pyloop_entry_debug(pyloop_t *loop, pyloop_entry_t *entry);
static int  pyloop_handle_slow(pyloop_state_t *state, PyObject *handle,
    double took);
static int  pyloop_entry_failed(pyloop_t *loop, PyObject *handle,
    PyObject *callback, PyObject *arg);
static PyObject *pyloop_handle_call(PyObject *op);
static int  pyloop_foreign_run(PyObject *op);


int
pyloop_entry_run(pyloop_t *loop, pyloop_entry_t *entry)
{
    if (loop->debug) {
        return pyloop_entry_debug(loop, entry);
    }

    if (entry->context == NULL) {
        return pyloop_handle_run(loop, entry->callable);
    }

    if (pyloop_entry_enter(entry) == 0) {
        return 0;
    }

    return pyloop_entry_failed(loop, NULL, entry->callable, entry->arg);
}


/* Calls what has no handle. */

static int
pyloop_entry_enter(pyloop_entry_t *entry)
{
    PyObject  *res;

    if (PyContext_Enter(entry->context) == -1) {
        return -1;
    }

    res = entry->arg ? PyObject_CallOneArg(entry->callable, entry->arg)
                     : PyObject_CallNoArgs(entry->callable);

    if (PyContext_Exit(entry->context) == -1) {
        Py_CLEAR(res);
    }

    Py_XDECREF(res);

    return res ? 0 : -1;
}


int
pyloop_handle_run(pyloop_t *loop, PyObject *op)
{
    int               rc, shared;
    PyObject         *res, *context, *vars, *kept;
    pyloop_handle_t  *handle;

    if (!pyloop_is_handle(loop->state, op)) {
        return pyloop_foreign_run(op);
    }

    handle = (pyloop_handle_t *) op;

    if (handle->cancelled == Py_True) {
        return 0;
    }

    if (Py_IS_TYPE(op, loop->state->timer_type)) {
        Py_SETREF(((pyloop_timer_t *) op)->scheduled, Py_NewRef(Py_False));
    }

    shared = Py_IS_TYPE(op, loop->state->shared_type);

    if (shared) {
        pyloop_shared_begin(op);
    }

    res = NULL;
    kept = NULL;
    vars = Py_NewRef(handle->context);

    if (PyContext_CheckExact(vars)) {

        if (PyContext_Enter(vars) == 0) {
            res = pyloop_handle_call(op);

            if (PyContext_Exit(vars) == -1) {
                Py_CLEAR(res);
            }
        }

    } else {
        context = pyloop_context_enter(loop, vars);

        if (context) {
            res = pyloop_handle_call(op);

            if (pyloop_context_exit(loop, context, vars, &kept) == -1) {
                Py_CLEAR(res);
            }
        }
    }

    if (kept) {
        /* who holds the handle may ask what the callback has set */
        if (handle->context == vars) {
            Py_SETREF(handle->context, kept);

        } else {
            Py_DECREF(kept);
        }
    }

    Py_DECREF(vars);

    rc = res ? 0 : pyloop_entry_failed(loop, op, NULL, NULL);

    Py_XDECREF(res);

    if (shared && pyloop_shared_end(op) == -1) {
        return -1;
    }

    return rc;
}


/*
 * The callback may cancel its own handle if someone else holds that, so the
 * arguments are then a tuple of their own.
 */

static PyObject *
pyloop_handle_call(PyObject *op)
{
    PyObject         *res, *callback, *args;
    pyloop_args_t    *own;
    pyloop_handle_t  *handle;

    handle = (pyloop_handle_t *) op;
    callback = Py_NewRef(handle->callback);

    if (handle->args == NULL) {
        own = pyloop_handle_inline(op);

        if (own->count == 0 || Py_REFCNT(op) == 1) {
            res = PyObject_Vectorcall(callback, own->items + 1,
                                      own->count
                                      | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                      NULL);
            Py_DECREF(callback);

            return res;
        }
    }

    res = NULL;
    args = Py_XNewRef(pyloop_handle_args(op));

    if (args) {
        res = PyObject_Vectorcall(callback,
                                  ((PyTupleObject *) args)->ob_item,
                                  PyTuple_GET_SIZE(args), NULL);
        Py_DECREF(args);
    }

    Py_DECREF(callback);

    return res;
}


/* A handle that asyncio has made, for a signal for instance. */

static int
pyloop_foreign_run(PyObject *op)
{
    int        cancelled;
    PyObject  *res;

    res = PyObject_GetAttrString(op, "_cancelled");
    if (res == NULL) {
        return -1;
    }

    cancelled = PyObject_IsTrue(res);
    Py_DECREF(res);

    if (cancelled) {
        return cancelled == 1 ? 0 : -1;
    }

    res = PyObject_CallMethod(op, "_run", NULL);
    Py_XDECREF(res);

    return res ? 0 : -1;
}


/* As asyncio runs it in debug mode: the handle is known, the time taken. */

static int
pyloop_entry_debug(pyloop_t *loop, pyloop_entry_t *entry)
{
    int        rc;
    double     begin, took, limit;
    PyObject  *handle, *res;

    handle = entry->context ? pyloop_handle_new(loop, entry->callable,
                                                &entry->arg,
                                                entry->arg ? 1 : 0,
                                                entry->context)
                            : Py_NewRef(entry->callable);
    if (handle == NULL) {
        return -1;
    }

    Py_XSETREF(loop->current_handle, Py_NewRef(handle));

    begin = pyloop_time(loop);
    rc = pyloop_handle_run(loop, handle);

    if (rc == -1) {
        goto done;
    }

    took = pyloop_time(loop) - begin;

    res = PyObject_GetAttrString((PyObject *) loop, "slow_callback_duration");
    limit = res ? PyFloat_AsDouble(res) : -1;
    Py_XDECREF(res);

    if (PyErr_Occurred()) {
        rc = -1;
        goto done;
    }

    if (took >= limit) {
        rc = pyloop_handle_slow(loop->state, handle, took);
    }

done:

    Py_XSETREF(loop->current_handle, Py_NewRef(Py_None));
    pyloop_handle_release(handle);

    return rc;
}


static int
pyloop_handle_slow(pyloop_state_t *state, PyObject *handle, double took)
{
    PyObject  *logger, *text, *res;

    res = NULL;
    logger = NULL;

    text = PyObject_CallMethod(state->base_events, "_format_handle", "O",
                               handle);
    if (text) {
        logger = PyObject_GetAttrString(state->base_events, "logger");
    }

    if (logger) {
        res = PyObject_CallMethod(logger, "warning", "sOd",
                                  "Executing %s took %.3f seconds", text,
                                  took);
    }

    Py_XDECREF(text);
    Py_XDECREF(logger);
    Py_XDECREF(res);

    return res ? 0 : -1;
}


/* Of a handle, or without one of a callback and its argument. */

static int
pyloop_entry_failed(pyloop_t *loop, PyObject *handle, PyObject *callback,
    PyObject *arg)
{
    int              rc;
    PyObject        *type, *value, *traceback, *args, *text, *message;
    pyloop_state_t  *state;

    if (PyErr_ExceptionMatches(PyExc_SystemExit)
        || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
    {
        return -1;
    }

    state = loop->state;
    message = NULL;
    rc = -1;

    PyErr_Fetch(&type, &value, &traceback);

    handle = handle ? Py_NewRef(handle)
                    : pyloop_handle_new(loop, callback, &arg, arg ? 1 : 0,
                                        NULL);
    if (handle == NULL) {
        goto failed;
    }

    args = pyloop_handle_args(handle);
    if (args == NULL) {
        goto failed;
    }

    text = PyObject_CallFunctionObjArgs(state->format_callback,
                                        ((pyloop_handle_t *) handle)->callback,
                                        args, NULL);
    if (text) {
        message = PyUnicode_FromFormat("Exception in callback %U", text);
        Py_DECREF(text);
    }

    if (message == NULL) {
        goto failed;
    }

    PyErr_Restore(type, value, traceback);
    rc = pyloop_report(loop, message, handle);

    Py_DECREF(message);
    pyloop_handle_release(handle);

    return rc;

failed:

    Py_XDECREF(handle);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);

    return -1;
}


int
pyloop_report(pyloop_t *loop, PyObject *message, PyObject *handle)
{
    int               rc;
    PyObject         *type, *value, *traceback, *context, *res;
    pyloop_handle_t  *h;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);

    if (traceback) {
        PyException_SetTraceback(value, traceback);
    }

    rc = -1;

    context = Py_BuildValue("{sOsO}", "message", message,
                            "exception", value);
    if (context == NULL) {
        goto done;
    }

    h = (pyloop_handle_t *) handle;

    if (h) {
        if (PyDict_SetItemString(context, "handle", handle) == -1) {
            goto done;
        }

        if (h->source_traceback && h->source_traceback != Py_None
            && PyDict_SetItemString(context, "source_traceback",
                                    h->source_traceback)
               == -1)
        {
            goto done;
        }
    }

    res = PyObject_CallMethodOneArg((PyObject *) loop,
                                    loop->state->str_call_exception_handler,
                                    context);
    Py_XDECREF(res);

    rc = res ? 0 : -1;

done:

    Py_XDECREF(context);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);

    return rc;
}
