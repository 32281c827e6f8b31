/*
 * Handles: subclasses of asyncio.Handle and asyncio.TimerHandle which are
 * made without calling Python and come from a free list.  They belong to
 * the loop's thread; the GIL guards them.
 */

#include "pyloop/pyloop.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>


static int  pyloop_shared_wait(PyObject *op);
static PyObject *pyloop_shared_lock(pyloop_state_t *state);
static PyTypeObject *pyloop_handle_type(PyObject *module, PyType_Spec *spec,
    PyObject *base);
static PyObject *pyloop_handle_take(pyloop_free_t *list,
    PyTypeObject *type);
static int  pyloop_handle_fill(pyloop_t *loop, pyloop_handle_t *handle,
    pyloop_args_t *own, PyObject *callback, PyObject *const *args,
    Py_ssize_t nargs, PyObject *context);
static void pyloop_args_clear(pyloop_args_t *args);
static int  pyloop_handle_traverse(PyObject *op, visitproc visit, void *arg);
static int  pyloop_handle_clear(PyObject *op);


static inline PyObject **
pyloop_handle_weakrefs(PyObject *op)
{
    return (PyObject **) ((char *) op + Py_TYPE(op)->tp_weaklistoffset);
}


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

    if (loop->debug) {
        res = PyObject_CallMethod(state->asyncio_handle, "cancel", "O", op);
        if (res == NULL) {
            return -1;
        }

        Py_DECREF(res);

    } else {
        /* a collected handle is empty, and may be met by a finalizer */
        Py_XSETREF(handle->cancelled, Py_NewRef(Py_True));
        Py_XSETREF(handle->callback, Py_NewRef(Py_None));
        Py_XSETREF(handle->args, Py_NewRef(Py_None));
        pyloop_args_clear(pyloop_handle_inline(op));
    }

    if (Py_IS_TYPE(op, state->timer_type)) {
        pyloop_heap_cancelled(&loop->heap, (pyloop_timer_t *) op);
    }

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


void
pyloop_shared_begin(PyObject *op)
{
    ((pyloop_shared_t *) op)->running = PyThread_get_thread_ident();
}


int
pyloop_shared_end(PyObject *op)
{
    PyObject         *lock, *type, *value, *traceback, *res;
    pyloop_shared_t  *shared;

    shared = (pyloop_shared_t *) op;

    shared->running = 0;

    if (shared->lock == NULL) {
        return 0;
    }

    PyErr_Fetch(&type, &value, &traceback);

    lock = shared->lock;
    shared->lock = NULL;

    res = PyObject_CallMethod(lock, "release", NULL);
    Py_DECREF(lock);

    if (res == NULL) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);

        return -1;
    }

    Py_DECREF(res);
    PyErr_Restore(type, value, traceback);

    return 0;
}


/* Until no other thread is within the callback. */

static int
pyloop_shared_wait(PyObject *op)
{
    PyObject         *lock, *res;
    pyloop_handle_t  *handle;
    pyloop_shared_t  *shared;

    handle = (pyloop_handle_t *) op;
    shared = (pyloop_shared_t *) op;

    while (shared->running && shared->running != PyThread_get_thread_ident())
    {
        if (shared->lock == NULL) {
            lock = pyloop_shared_lock(((pyloop_t *) handle->loop)->state);
            if (lock == NULL) {
                return -1;
            }

            /* meanwhile another thread may have had the GIL */

            if (shared->lock || shared->running == 0) {
                Py_DECREF(lock);
                continue;
            }

            shared->lock = lock;
        }

        lock = Py_NewRef(shared->lock);

        res = PyObject_CallMethod(lock, "acquire", NULL);

        if (res) {
            Py_SETREF(res, PyObject_CallMethod(lock, "release", NULL));
        }

        Py_DECREF(lock);

        if (res == NULL) {
            return -1;
        }

        Py_DECREF(res);
    }

    return 0;
}


/* A lock that is held, for pyloop_shared_end() to release. */

static PyObject *
pyloop_shared_lock(pyloop_state_t *state)
{
    PyObject  *lock, *res;

    lock = PyObject_CallNoArgs(state->lock_type);
    if (lock == NULL) {
        return NULL;
    }

    res = PyObject_CallMethod(lock, "acquire", NULL);

    if (res == NULL) {
        Py_CLEAR(lock);
    }

    Py_XDECREF(res);

    return lock;
}


static PyObject *
pyloop_shared_cancel(PyObject *op, PyObject *unused)
{
    return pyloop_shared_wait(op) == -1
           ? NULL : pyloop_handle_cancel_method(op, NULL);
}


static PyObject *
pyloop_shared_cancelled(PyObject *op, PyObject *unused)
{
    return pyloop_shared_wait(op) == -1
           ? NULL : pyloop_handle_cancelled(op, NULL);
}


/* For asyncio's own is made for another lock. */

static PyObject *
pyloop_shared_run(PyObject *op, PyObject *unused)
{
    pyloop_t  *loop;

    loop = (pyloop_t *) ((pyloop_handle_t *) op)->loop;

    if (loop && pyloop_handle_run(loop, op) == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


static PyObject *
pyloop_timer_when(PyObject *op, PyObject *unused)
{
    pyloop_timer_t  *timer;

    timer = (pyloop_timer_t *) op;

    if (timer->when == NULL) {
        timer->when = PyFloat_FromDouble(timer->time);
    }

    return Py_XNewRef(timer->when);
}


static PyObject *
pyloop_timer_get_when(PyObject *op, void *unused)
{
    return pyloop_timer_when(op, NULL);
}


PyObject *
pyloop_handle_args(PyObject *op)
{
    size_t            i;
    PyObject         *tuple;
    pyloop_args_t    *args;
    pyloop_handle_t  *handle;

    handle = (pyloop_handle_t *) op;

    if (handle->args) {
        return handle->args;
    }

    args = pyloop_handle_inline(op);

    tuple = PyTuple_New(args->count);
    if (tuple == NULL) {
        return NULL;
    }

    /* a finalizer of a garbage collection may have cancelled it meanwhile */
    if (handle->args) {
        Py_DECREF(tuple);
        return handle->args;
    }

    for (i = 0; i < args->count; i++) {
        PyTuple_SET_ITEM(tuple, i, args->items[i + 1]);
    }

    args->count = 0;
    handle->args = tuple;

    return tuple;
}


static PyObject *
pyloop_handle_get_args(PyObject *op, void *unused)
{
    return Py_XNewRef(pyloop_handle_args(op));
}


static int
pyloop_handle_set_args(PyObject *op, PyObject *value, void *unused)
{
    PyObject  *args;

    args = value == NULL || value == Py_None ? Py_XNewRef(value)
                                             : PySequence_Tuple(value);
    if (args == NULL && value) {
        return -1;
    }

    Py_XSETREF(((pyloop_handle_t *) op)->args, args);
    pyloop_args_clear(pyloop_handle_inline(op));

    return 0;
}


static PyObject *
pyloop_handle_get_context(PyObject *op, void *unused)
{
    PyObject         *context;
    pyloop_handle_t  *handle;

    handle = (pyloop_handle_t *) op;

    if (handle->context == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_context");
        return NULL;
    }

    if (!PyContext_CheckExact(handle->context)) {
        context = pyloop_context_new(handle->context);
        if (context == NULL) {
            return NULL;
        }

        Py_SETREF(handle->context, context);
    }

    return Py_NewRef(handle->context);
}


static int
pyloop_handle_traverse(PyObject *op, visitproc visit, void *arg)
{
    size_t            i;
    pyloop_args_t    *args;
    pyloop_handle_t  *handle;

    handle = (pyloop_handle_t *) op;

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(handle->args);
    Py_VISIT(handle->callback);
    Py_VISIT(handle->context);
    Py_VISIT(handle->loop);
    Py_VISIT(handle->source_traceback);

    args = pyloop_handle_inline(op);

    for (i = 0; i < args->count; i++) {
        Py_VISIT(args->items[i + 1]);
    }

    return 0;
}


int
pyloop_handle_visit(PyObject *op, visitproc visit, void *arg)
{
    if (Py_REFCNT(op) == 1 && PyType_IS_GC(Py_TYPE(op))
        && !PyObject_GC_IsTracked(op))
    {
        return Py_TYPE(op)->tp_traverse(op, visit, arg);
    }

    Py_VISIT(op);

    return 0;
}


void
pyloop_handle_release(PyObject *op)
{
    if (Py_REFCNT(op) > 1 && PyType_IS_GC(Py_TYPE(op))
        && !PyObject_GC_IsTracked(op))
    {
        PyObject_GC_Track(op);
    }

    Py_DECREF(op);
}


static void
pyloop_args_clear(pyloop_args_t *args)
{
    size_t     n;
    PyObject  *items[PYLOOP_ARGS];

    /* the handle is whole before what they were can look at it */
    n = args->count;
    args->count = 0;
    memcpy(items, args->items + 1, n * sizeof(PyObject *));

    while (n) {
        Py_DECREF(items[--n]);
    }
}


static int
pyloop_handle_clear(PyObject *op)
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

    pyloop_args_clear(pyloop_handle_inline(op));

    return 0;
}


static void
pyloop_handle_dealloc(PyObject *op)
{
    PyObject        *loop;
    PyTypeObject    *type;
    pyloop_free_t   *list;
    pyloop_state_t  *state;

    type = Py_TYPE(op);

    if (PyObject_GC_IsTracked(op)) {
        PyObject_GC_UnTrack(op);
    }

    if (*pyloop_handle_weakrefs(op)) {
        PyObject_ClearWeakRefs(op);
    }

    /* the loop keeps its type, and that the state: it goes last */
    loop = ((pyloop_handle_t *) op)->loop;
    ((pyloop_handle_t *) op)->loop = NULL;

    (void) pyloop_handle_clear(op);

    list = NULL;

    if (loop) {
        state = ((pyloop_t *) loop)->state;
        list = type == state->timer_type ? &state->free_timers
               : type == state->shared_type ? &state->free_shared
               : &state->free_handles;
    }

    if (list && list->count < list->max) {
        list->items[list->count++] = op;

    } else {
        PyObject_GC_Del(op);
    }

    Py_XDECREF(loop);
    Py_DECREF(type);
}


static void
pyloop_timer_dealloc(PyObject *op)
{
    pyloop_timer_t  *timer;

    timer = (pyloop_timer_t *) op;

    Py_CLEAR(timer->scheduled);
    Py_CLEAR(timer->when);

    pyloop_handle_dealloc(op);
}


static void
pyloop_shared_dealloc(PyObject *op)
{
    Py_CLEAR(((pyloop_shared_t *) op)->lock);

    pyloop_handle_dealloc(op);
}


static PyMethodDef pyloop_handle_methods[] = {
    PYLOOP_NOARGS("cancel", pyloop_handle_cancel_method,
                  "Drop the callback; it is no error to do so late or "
                  "twice."),
    PYLOOP_NOARGS("cancelled", pyloop_handle_cancelled,
                  "True after cancel()."),
    {NULL, NULL, 0, NULL}
};


static PyMethodDef pyloop_shared_methods[] = {
    {"cancel", pyloop_shared_cancel, METH_NOARGS,
     "Drop the callback, or wait until it has been called."},
    {"cancelled", pyloop_shared_cancelled, METH_NOARGS,
     "True after cancel()."},
    {"_run", pyloop_shared_run, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}
};


static PyMethodDef pyloop_timer_methods[] = {
    PYLOOP_NOARGS("cancel", pyloop_handle_cancel_method,
                  "Drop the callback and its place among the timers."),
    PYLOOP_NOARGS("cancelled", pyloop_handle_cancelled,
                  "True after cancel()."),
    PYLOOP_NOARGS("when", pyloop_timer_when,
                  "The time of the call on the loop's clock."),
    {NULL, NULL, 0, NULL}
};


static PyGetSetDef pyloop_handle_getset[] = {
    {"_args", pyloop_handle_get_args, pyloop_handle_set_args, NULL, NULL},
    {"_context", pyloop_handle_get_context, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL}
};


static PyGetSetDef pyloop_timer_getset[] = {
    {"_args", pyloop_handle_get_args, pyloop_handle_set_args, NULL, NULL},
    {"_context", pyloop_handle_get_context, NULL, NULL, NULL},
    {"_when", pyloop_timer_get_when, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL}
};


static PyType_Slot pyloop_handle_slots[] = {
    {Py_tp_doc, "A callback that waits for its turn."},
    {Py_tp_methods, pyloop_handle_methods},
    {Py_tp_getset, pyloop_handle_getset},
    {Py_tp_traverse, pyloop_handle_traverse},
    {Py_tp_clear, pyloop_handle_clear},
    {Py_tp_dealloc, pyloop_handle_dealloc},
    {0, NULL}
};


static PyType_Slot pyloop_shared_slots[] = {
    {Py_tp_doc, "A callback that another thread has handed over."},
    {Py_tp_methods, pyloop_shared_methods},
    {Py_tp_getset, pyloop_handle_getset},
    {Py_tp_traverse, pyloop_handle_traverse},
    {Py_tp_clear, pyloop_handle_clear},
    {Py_tp_dealloc, pyloop_shared_dealloc},
    {0, NULL}
};


static PyType_Slot pyloop_timer_slots[] = {
    {Py_tp_doc, "A callback that waits for its time."},
    {Py_tp_methods, pyloop_timer_methods},
    {Py_tp_getset, pyloop_timer_getset},
    {Py_tp_traverse, pyloop_handle_traverse},
    {Py_tp_clear, pyloop_handle_clear},
    {Py_tp_dealloc, pyloop_timer_dealloc},
    {0, NULL}
};


/* their bases are mutable, so must they be */

#define PYLOOP_HANDLE_FLAGS                                                   \
    (Py_TPFLAGS_DEFAULT|Py_TPFLAGS_HAVE_GC|Py_TPFLAGS_DISALLOW_INSTANTIATION)


static PyType_Spec pyloop_handle_spec = {
    .name = "databridge._pyloop.Handle",
    .basicsize = sizeof(pyloop_soon_t),
    .flags = PYLOOP_HANDLE_FLAGS,
    .slots = pyloop_handle_slots,
};


static PyType_Spec pyloop_shared_spec = {
    .name = "databridge._pyloop._ThreadSafeHandle",
    .basicsize = sizeof(pyloop_shared_t),
    .flags = PYLOOP_HANDLE_FLAGS,
    .slots = pyloop_shared_slots,
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
    PyObject  *handle, *timer, *shared;

    const struct {
        PyObject    *base;
        const char  *name;
        Py_ssize_t   offset;
    } fields[] = {
        { state->asyncio_handle, "_args", offsetof(pyloop_handle_t, args) },
        { state->asyncio_handle, "_callback",
          offsetof(pyloop_handle_t, callback) },
        { state->asyncio_handle, "_cancelled",
          offsetof(pyloop_handle_t, cancelled) },
        { state->asyncio_handle, "_context",
          offsetof(pyloop_handle_t, context) },
        { state->asyncio_handle, "_loop", offsetof(pyloop_handle_t, loop) },
        { state->asyncio_handle, "_repr", offsetof(pyloop_handle_t, repr) },
        { state->asyncio_handle, "_source_traceback",
          offsetof(pyloop_handle_t, source_traceback) },
        { state->asyncio_timer, "_scheduled",
          offsetof(pyloop_timer_t, scheduled) },
        { state->asyncio_timer, "_when", offsetof(pyloop_timer_t, when) },
        { state->asyncio_shared, "_lock", offsetof(pyloop_shared_t, lock) },
    };

    handle = state->asyncio_handle;
    timer = state->asyncio_timer;
    shared = state->asyncio_shared;

    for (i = 0; i < Py_ARRAY_LENGTH(fields); i++) {
        if (fields[i].base
            && pyloop_handle_layout(fields[i].base, fields[i].name,
                                    fields[i].offset)
               == -1)
        {
            return -1;
        }
    }

    if (((PyTypeObject *) handle)->tp_weaklistoffset == 0
        || ((PyTypeObject *) handle)->tp_basicsize != sizeof(pyloop_handle_t)
        || ((PyTypeObject *) timer)->tp_basicsize
           != offsetof(pyloop_timer_t, args)
        || (shared && ((PyTypeObject *) shared)->tp_basicsize
                      != offsetof(pyloop_shared_t, args)))
    {
        PyErr_SetString(PyExc_ImportError,
                        "asyncio.Handle is not as PyLoop expects it");
        return -1;
    }

    state->handle_type = pyloop_handle_type(module, &pyloop_handle_spec,
                                            handle);
    if (state->handle_type == NULL) {
        return -1;
    }

    state->timer_type = pyloop_handle_type(module, &pyloop_timer_spec, timer);
    if (state->timer_type == NULL) {
        return -1;
    }

    if (shared) {
        state->shared_type = pyloop_handle_type(module, &pyloop_shared_spec,
                                                shared);
        if (state->shared_type == NULL) {
            return -1;
        }
    }

    state->free_handles.max = PYLOOP_FREE_HANDLES;
    state->free_timers.max = PYLOOP_FREE_HANDLES;
    state->free_shared.max = PYLOOP_FREE_HANDLES;

    return 0;
}


int
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


static PyObject *
pyloop_handle_take(pyloop_free_t *list, PyTypeObject *type)
{
    if (list->count) {
        return PyObject_Init(list->items[--list->count], type);
    }

    return _PyObject_GC_New(type);
}


PyObject *
pyloop_handle_new(pyloop_t *loop, PyObject *callback, PyObject *const *args,
    Py_ssize_t nargs, PyObject *context)
{
    pyloop_soon_t   *soon;
    pyloop_state_t  *state;

    state = loop->state;

    soon = (pyloop_soon_t *) pyloop_handle_take(&state->free_handles,
                                                state->handle_type);
    if (soon == NULL) {
        return NULL;
    }

    if (pyloop_handle_fill(loop, &soon->handle, &soon->args, callback, args,
                           nargs, context)
        == -1)
    {
        Py_DECREF(soon);
        return NULL;
    }

    return (PyObject *) soon;
}


PyObject *
pyloop_shared_new(pyloop_t *loop, PyObject *callback, PyObject *const *args,
    Py_ssize_t nargs, PyObject *context)
{
    pyloop_state_t   *state;
    pyloop_shared_t  *shared;

    state = loop->state;

    if (state->shared_type == NULL) {
        return pyloop_handle_new(loop, callback, args, nargs, context);
    }

    shared = (pyloop_shared_t *) pyloop_handle_take(&state->free_shared,
                                                    state->shared_type);
    if (shared == NULL) {
        return NULL;
    }

    shared->lock = NULL;
    shared->running = 0;

    if (pyloop_handle_fill(loop, &shared->handle, &shared->args, callback,
                           args, nargs, context)
        == -1)
    {
        Py_DECREF(shared);
        return NULL;
    }

    return (PyObject *) shared;
}


PyObject *
pyloop_timer_new(pyloop_t *loop, double time, PyObject *callback,
    PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    pyloop_state_t  *state;
    pyloop_timer_t  *timer;

    state = loop->state;

    timer = (pyloop_timer_t *) pyloop_handle_take(&state->free_timers,
                                                  state->timer_type);
    if (timer == NULL) {
        return NULL;
    }

    timer->time = time;
    timer->when = NULL;
    timer->scheduled = Py_NewRef(Py_False);

    if (pyloop_handle_fill(loop, &timer->handle, &timer->args, callback,
                           args, nargs, context)
        == -1)
    {
        Py_DECREF(timer);
        return NULL;
    }

    return (PyObject *) timer;
}


/* "own" are the handle's; it can be freed in any case afterwards. */

static int
pyloop_handle_fill(pyloop_t *loop, pyloop_handle_t *handle,
    pyloop_args_t *own, PyObject *callback, PyObject *const *args,
    Py_ssize_t nargs, PyObject *context)
{
    Py_ssize_t       i;
    PyObject        *frame;
    pyloop_state_t  *state;

    state = loop->state;

    handle->args = NULL;
    handle->callback = Py_NewRef(callback);
    handle->cancelled = Py_NewRef(Py_False);
    handle->context = context ? Py_NewRef(context)
                              : pyloop_context_vars(state);
    handle->loop = Py_NewRef((PyObject *) loop);
    handle->repr = Py_NewRef(Py_None);
    handle->source_traceback = NULL;
    *pyloop_handle_weakrefs((PyObject *) handle) = NULL;

    own->count = 0;

    if (nargs <= PYLOOP_ARGS) {
        for (i = 0; i < nargs; i++) {
            own->items[i + 1] = Py_NewRef(args[i]);
        }

        own->count = nargs;

    } else {
        handle->args = PyTuple_New(nargs);
        if (handle->args == NULL) {
            return -1;
        }

        for (i = 0; i < nargs; i++) {
            PyTuple_SET_ITEM(handle->args, i, Py_NewRef(args[i]));
        }
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


static void
pyloop_free_list(pyloop_free_t *list)
{
    list->max = 0;

    while (list->count) {
        PyObject_GC_Del(list->items[--list->count]);
    }
}


void
pyloop_handle_free_lists(pyloop_state_t *state)
{
    pyloop_free_list(&state->free_handles);
    pyloop_free_list(&state->free_timers);
    pyloop_free_list(&state->free_shared);
}
