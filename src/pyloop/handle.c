/*
 * Handles: subclasses of asyncio.Handle and asyncio.TimerHandle which are
 * made without calling Python and come from a free list.  Calling a handle
 * and reporting what it raises is here as well.
 */

#include "pyloop/pyloop.h"

#include <stddef.h>
#include <structmember.h>


static int  pyloop_handle_layout(PyObject *type, const char *name,
    Py_ssize_t offset);
static PyTypeObject *pyloop_handle_type(PyObject *module, PyType_Spec *spec,
    PyObject *base);
static int  pyloop_handle_fill(pyloop_t *loop, pyloop_handle_t *handle,
    PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
    PyObject *context);
static int  pyloop_handle_release(PyObject *op);
static int  pyloop_entry_enter(pyloop_entry_t *entry);
static int  pyloop_entry_debug(pyloop_t *loop, pyloop_entry_t *entry);
static int  pyloop_handle_slow(pyloop_state_t *state, PyObject *handle,
    double took);
static int  pyloop_entry_failed(pyloop_t *loop, PyObject *handle,
    PyObject *callback, PyObject *args);
static int  pyloop_handle_run(pyloop_t *loop, PyObject *op);
static int  pyloop_foreign_run(PyObject *op);


/* Called by cancel() of both types: asyncio's own is the debug mode's. */

int
pyloop_handle_cancel(pyloop_state_t *state, PyObject *op)
{
    PyObject         *res;
    pyloop_t         *loop;
    pyloop_handle_t  *handle;

    handle = (pyloop_handle_t *) op;

    if (handle->cancelled == Py_True || handle->loop == NULL) {
        return 0;
    }

    loop = (pyloop_t *) handle->loop;

    if (Py_IS_TYPE(op, state->timer_type)) {
        pyloop_heap_remove(&loop->heap, (pyloop_timer_t *) op);
    }

    if (loop->debug) {
        res = PyObject_CallMethod(state->asyncio_handle, "cancel", "O", op);
        Py_XDECREF(res);

        return res ? 0 : -1;
    }

    /* a collected handle is empty, and may be met by a finalizer */
    Py_XSETREF(handle->cancelled, Py_NewRef(Py_True));
    Py_XSETREF(handle->callback, Py_NewRef(Py_None));
    Py_XSETREF(handle->args, Py_NewRef(Py_None));

    return 0;
}


static PyObject *
pyloop_handle_cancel_method(PyObject *op, PyObject *unused)
{
    int        rc;
    PyObject  *loop;

    loop = ((pyloop_handle_t *) op)->loop;
    if (loop == NULL) {
        Py_RETURN_NONE;
    }

    /* a timer loses the heap's reference on its way */
    Py_INCREF(op);
    rc = pyloop_handle_cancel(((pyloop_t *) loop)->state, op);
    Py_DECREF(op);

    if (rc == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


static PyObject *
pyloop_handle_cancelled(PyObject *op, PyObject *unused)
{
    return PyBool_FromLong(((pyloop_handle_t *) op)->cancelled == Py_True);
}


static PyObject *
pyloop_timer_when(PyObject *op, PyObject *unused)
{
    PyObject  *when;

    when = ((pyloop_timer_t *) op)->when;

    return Py_NewRef(when ? when : Py_None);
}


static int
pyloop_handle_traverse(PyObject *op, visitproc visit, void *arg)
{
    pyloop_handle_t  *handle;

    handle = (pyloop_handle_t *) op;

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(handle->args);
    Py_VISIT(handle->callback);
    Py_VISIT(handle->context);
    Py_VISIT(handle->loop);
    Py_VISIT(handle->source_traceback);

    return 0;
}


static int
pyloop_handle_release(PyObject *op)
{
    pyloop_handle_t  *handle;

    handle = (pyloop_handle_t *) op;

    Py_CLEAR(handle->args);
    Py_CLEAR(handle->callback);
    Py_CLEAR(handle->cancelled);
    Py_CLEAR(handle->context);
    Py_CLEAR(handle->loop);
    Py_CLEAR(handle->repr);
    Py_CLEAR(handle->source_traceback);

    return 0;
}


static void
pyloop_handle_dealloc(PyObject *op)
{
    PyObject         *loop;
    PyTypeObject     *type;
    pyloop_state_t   *state;
    pyloop_handle_t  *handle;

    handle = (pyloop_handle_t *) op;
    type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);

    if (handle->weakrefs) {
        PyObject_ClearWeakRefs(op);
    }

    /* the loop keeps its type, and that the state: it goes last */
    loop = handle->loop;
    handle->loop = NULL;

    (void) pyloop_handle_release(op);

    state = loop ? ((pyloop_t *) loop)->state : NULL;

    if (state && state->nfree_handles < state->max_free_handles) {
        state->free_handles[state->nfree_handles++] = handle;

    } else {
        PyObject_GC_Del(op);
    }

    Py_XDECREF(loop);
    Py_DECREF(type);
}


static void
pyloop_timer_dealloc(PyObject *op)
{
    PyTypeObject    *type;
    pyloop_timer_t  *timer;

    timer = (pyloop_timer_t *) op;
    type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);

    if (timer->handle.weakrefs) {
        PyObject_ClearWeakRefs(op);
    }

    Py_CLEAR(timer->scheduled);
    Py_CLEAR(timer->when);
    (void) pyloop_handle_release(op);

    PyObject_GC_Del(op);
    Py_DECREF(type);
}


static PyMethodDef pyloop_handle_methods[] = {
    {"cancel", pyloop_handle_cancel_method, METH_NOARGS,
     "Drop the callback; it is not an error to do so late or twice."},
    {"cancelled", pyloop_handle_cancelled, METH_NOARGS,
     "True after cancel()."},
    {NULL, NULL, 0, NULL}
};


static PyMethodDef pyloop_timer_methods[] = {
    {"cancel", pyloop_handle_cancel_method, METH_NOARGS,
     "Drop the callback and its place among the timers."},
    {"cancelled", pyloop_handle_cancelled, METH_NOARGS,
     "True after cancel()."},
    {"when", pyloop_timer_when, METH_NOARGS,
     "The time of the call on the loop's clock."},
    {NULL, NULL, 0, NULL}
};


static PyType_Slot pyloop_handle_slots[] = {
    {Py_tp_doc, "A callback that waits for its turn."},
    {Py_tp_methods, pyloop_handle_methods},
    {Py_tp_traverse, pyloop_handle_traverse},
    {Py_tp_clear, pyloop_handle_release},
    {Py_tp_dealloc, pyloop_handle_dealloc},
    {0, NULL}
};


static PyType_Slot pyloop_timer_slots[] = {
    {Py_tp_doc, "A callback that waits for its time."},
    {Py_tp_methods, pyloop_timer_methods},
    {Py_tp_traverse, pyloop_handle_traverse},
    {Py_tp_clear, pyloop_handle_release},
    {Py_tp_dealloc, pyloop_timer_dealloc},
    {0, NULL}
};


#define PYLOOP_HANDLE_FLAGS                                                   \
    (Py_TPFLAGS_DEFAULT|Py_TPFLAGS_HAVE_GC|Py_TPFLAGS_IMMUTABLETYPE           \
     |Py_TPFLAGS_DISALLOW_INSTANTIATION)


static PyType_Spec pyloop_handle_spec = {
    .name = "databridge._pyloop.Handle",
    .basicsize = sizeof(pyloop_handle_t),
    .flags = PYLOOP_HANDLE_FLAGS,
    .slots = pyloop_handle_slots,
};


static PyType_Spec pyloop_timer_spec = {
    .name = "databridge._pyloop.TimerHandle",
    .basicsize = sizeof(pyloop_timer_t),
    .flags = PYLOOP_HANDLE_FLAGS,
    .slots = pyloop_timer_slots,
};


int
pyloop_handle_types(PyObject *module, pyloop_state_t *state)
{
    size_t     i;
    PyObject  *base;

    static const struct {
        int          timer;
        const char  *name;
        Py_ssize_t   offset;
    } fields[] = {
        { 0, "_args", offsetof(pyloop_handle_t, args) },
        { 0, "_callback", offsetof(pyloop_handle_t, callback) },
        { 0, "_cancelled", offsetof(pyloop_handle_t, cancelled) },
        { 0, "_context", offsetof(pyloop_handle_t, context) },
        { 0, "_loop", offsetof(pyloop_handle_t, loop) },
        { 0, "_repr", offsetof(pyloop_handle_t, repr) },
        { 0, "_source_traceback",
             offsetof(pyloop_handle_t, source_traceback) },
        { 1, "_scheduled", offsetof(pyloop_timer_t, scheduled) },
        { 1, "_when", offsetof(pyloop_timer_t, when) },
    };

    for (i = 0; i < Py_ARRAY_LENGTH(fields); i++) {
        base = fields[i].timer ? state->asyncio_timer : state->asyncio_handle;

        if (pyloop_handle_layout(base, fields[i].name, fields[i].offset)
            == -1)
        {
            return -1;
        }
    }

    if (((PyTypeObject *) state->asyncio_handle)->tp_weaklistoffset
        != offsetof(pyloop_handle_t, weakrefs))
    {
        PyErr_SetString(PyExc_ImportError,
                        "asyncio.Handle keeps its weak references elsewhere");
        return -1;
    }

    state->handle_type = pyloop_handle_type(module, &pyloop_handle_spec,
                                            state->asyncio_handle);
    if (state->handle_type == NULL) {
        return -1;
    }

    state->max_free_handles = PYLOOP_FREE_HANDLES;

    state->timer_type = pyloop_handle_type(module, &pyloop_timer_spec,
                                           state->asyncio_timer);

    return state->timer_type ? 0 : -1;
}


static int
pyloop_handle_layout(PyObject *type, const char *name, Py_ssize_t offset)
{
    int        rc;
    PyObject  *descr;

    descr = PyObject_GetAttrString(type, name);
    if (descr == NULL) {
        return -1;
    }

    rc = 0;

    if (!Py_IS_TYPE(descr, &PyMemberDescr_Type)
        || ((PyMemberDescrObject *) descr)->d_member->offset != offset)
    {
        PyErr_Format(PyExc_ImportError,
                     "%R.%s is not where PyLoop expects it", type, name);
        rc = -1;
    }

    Py_DECREF(descr);

    return rc;
}


static PyTypeObject *
pyloop_handle_type(PyObject *module, PyType_Spec *spec, PyObject *base)
{
    PyObject  *bases, *type;

    bases = PyTuple_Pack(1, base);
    if (bases == NULL) {
        return NULL;
    }

    type = PyType_FromModuleAndSpec(module, spec, bases);
    Py_DECREF(bases);

    return (PyTypeObject *) type;
}


PyObject *
pyloop_handle_new(pyloop_t *loop, PyObject *callback, PyObject *const *args,
    Py_ssize_t nargs, PyObject *context)
{
    pyloop_state_t   *state;
    pyloop_handle_t  *handle;

    state = loop->state;

    if (state->nfree_handles) {
        handle = state->free_handles[--state->nfree_handles];
        (void) PyObject_Init((PyObject *) handle, state->handle_type);

    } else {
        handle = PyObject_GC_New(pyloop_handle_t, state->handle_type);
        if (handle == NULL) {
            return NULL;
        }
    }

    if (pyloop_handle_fill(loop, handle, callback, args, nargs, context)
        == -1)
    {
        Py_DECREF(handle);
        return NULL;
    }

    return (PyObject *) handle;
}


PyObject *
pyloop_timer_new(pyloop_t *loop, PyObject *when, PyObject *callback,
    PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    pyloop_timer_t  *timer;

    timer = PyObject_GC_New(pyloop_timer_t, loop->state->timer_type);
    if (timer == NULL) {
        return NULL;
    }

    timer->index = -1;
    timer->scheduled = Py_NewRef(Py_False);
    timer->when = Py_NewRef(when);

    if (pyloop_handle_fill(loop, &timer->handle, callback, args, nargs,
                           context)
        == -1)
    {
        Py_DECREF(timer);
        return NULL;
    }

    return (PyObject *) timer;
}


/* The handle is tracked by the collector in any case afterwards. */

static int
pyloop_handle_fill(pyloop_t *loop, pyloop_handle_t *handle,
    PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
    PyObject *context)
{
    Py_ssize_t       i;
    PyObject        *frame;
    pyloop_state_t  *state;

    state = loop->state;

    handle->callback = Py_NewRef(callback);
    handle->cancelled = Py_NewRef(Py_False);
    handle->loop = Py_NewRef((PyObject *) loop);
    handle->repr = Py_NewRef(Py_None);
    handle->source_traceback = NULL;
    handle->weakrefs = NULL;

    handle->context = context ? Py_NewRef(context) : PyContext_CopyCurrent();
    handle->args = nargs ? PyTuple_New(nargs) : Py_NewRef(state->empty);

    if (handle->args) {
        for (i = 0; i < nargs; i++) {
            PyTuple_SET_ITEM(handle->args, i, Py_NewRef(args[i]));
        }
    }

    PyObject_GC_Track(handle);

    if (handle->context == NULL || handle->args == NULL) {
        return -1;
    }

    if (!loop->debug) {
        handle->source_traceback = Py_NewRef(Py_None);
        return 0;
    }

    frame = (PyObject *) PyEval_GetFrame();

    handle->source_traceback = frame
        ? PyObject_CallOneArg(state->extract_stack, frame)
        : Py_NewRef(Py_None);

    return handle->source_traceback ? 0 : -1;
}


void
pyloop_handle_free_list(pyloop_state_t *state)
{
    state->max_free_handles = 0;

    while (state->nfree_handles) {
        PyObject_GC_Del(state->free_handles[--state->nfree_handles]);
    }
}


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


static int
pyloop_handle_run(pyloop_t *loop, PyObject *op)
{
    int               rc;
    PyObject         *res, *callback, *args, *context;
    pyloop_handle_t  *handle;

    if (!pyloop_is_handle(loop->state, op)) {
        return pyloop_foreign_run(op);
    }

    handle = (pyloop_handle_t *) op;

    if (handle->cancelled == Py_True) {
        return 0;
    }

    /* the callback may cancel its own handle */
    callback = Py_NewRef(handle->callback);
    args = Py_NewRef(handle->args);
    context = Py_NewRef(handle->context);

    res = NULL;

    if (PyContext_Enter(context) == 0) {
        res = PyObject_Vectorcall(callback,
                                  ((PyTupleObject *) args)->ob_item,
                                  PyTuple_GET_SIZE(args), NULL);

        if (PyContext_Exit(context) == -1) {
            Py_CLEAR(res);
        }
    }

    rc = res ? 0 : pyloop_entry_failed(loop, op, callback, args);

    Py_XDECREF(res);
    Py_DECREF(context);
    Py_DECREF(args);
    Py_DECREF(callback);

    return rc;
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
    Py_DECREF(handle);

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


/* args is a tuple, or for a callback without a handle its one argument. */

static int
pyloop_entry_failed(pyloop_t *loop, PyObject *handle, PyObject *callback,
    PyObject *args)
{
    int              rc;
    PyObject        *type, *value, *traceback, *text, *message;
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

    if (handle == NULL) {
        handle = pyloop_handle_new(loop, callback, &args, args ? 1 : 0, NULL);
        if (handle == NULL) {
            goto failed;
        }

        args = ((pyloop_handle_t *) handle)->args;

    } else {
        Py_INCREF(handle);
    }

    text = PyObject_CallFunctionObjArgs(state->format_callback, callback,
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
    Py_DECREF(handle);

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
