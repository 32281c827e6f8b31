/*
 * The type: what is hot of an asyncio event loop.  databridge.loop.Loop
 * mixes it with asyncio's own, in front of it, so that the attributes which
 * BaseEventLoop sets and reads are the fields here.
 */

#include "pyloop/transport.h"

#include <structmember.h>
#include <sys/eventfd.h>


static PyObject *pyloop_class(PyObject *module, PyObject *name);
static int  pyloop_own_method(PyTypeObject *type, PyTypeObject *base,
    const char *name);


int
pyloop_check_closed(pyloop_t *loop)
{
    if (loop->closed) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }

    return 0;
}


/* For the callers in asyncio that make their handles themselves. */

static PyObject *
pyloop_add_callback(PyObject *op, PyObject *handle)
{
    int        cancelled;
    PyObject  *res;

    res = PyObject_GetAttrString(handle, "_cancelled");
    if (res == NULL) {
        return NULL;
    }

    cancelled = PyObject_IsTrue(res);
    Py_DECREF(res);

    if (cancelled == -1
        || (cancelled == 0
            && pyloop_ready_add(&((pyloop_t *) op)->ready,
                                Py_NewRef(handle), NULL, NULL)
               == -1))
    {
        return NULL;
    }

    Py_RETURN_NONE;
}


static PyObject *
pyloop_write_to_self(PyObject *op, PyObject *unused)
{
    pyloop_wake((pyloop_t *) op);

    Py_RETURN_NONE;
}


/* asyncio's class, or what someone has put in its place. */

static PyObject *
pyloop_class(PyObject *module, PyObject *name)
{
    PyObject  *type;

    type = PyDict_GetItemWithError(PyModule_GetDict(module), name);

    if (type == NULL && !PyErr_Occurred()) {
        PyErr_SetObject(PyExc_AttributeError, name);
    }

    return Py_XNewRef(type);
}


PyObject *
pyloop_create_future(PyObject *op, PyObject *unused)
{
    PyObject        *args[2], *type, *future;
    pyloop_state_t  *state;

    state = ((pyloop_t *) op)->state;

    type = pyloop_class(state->futures, state->str_future);
    if (type == NULL) {
        return NULL;
    }

    args[1] = op;

    future = PyObject_Vectorcall(type, args + 1,
                                 PY_VECTORCALL_ARGUMENTS_OFFSET,
                                 state->kw_loop);
    Py_DECREF(type);

    return future;
}


/* The plain case; a factory and debug mode's tracebacks are asyncio's. */

static PyObject *
pyloop_create_task(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
    PyObject *kwnames)
{
    pyloop_t  *loop;
    PyObject  *stack[2], *type, *method, *task;

    loop = (pyloop_t *) op;

    if (nargs == 1 && kwnames == NULL && !loop->debug
        && loop->task_factory == Py_None)
    {
        if (pyloop_check_closed(loop) == -1) {
            return NULL;
        }

        type = pyloop_class(loop->state->tasks, loop->state->str_task);
        if (type == NULL) {
            return NULL;
        }

        stack[0] = args[0];
        stack[1] = op;

        task = PyObject_Vectorcall(type, stack, 1, loop->state->kw_loop);
        Py_DECREF(type);

        return task;
    }

    method = pyloop_super(loop, "create_task");
    if (method == NULL) {
        return NULL;
    }

    task = PyObject_Vectorcall(method, args, nargs, kwnames);
    Py_DECREF(method);

    return task;
}


static PyObject *
pyloop_time_method(PyObject *op, PyObject *unused)
{
    return PyFloat_FromDouble((double) pyloop_now() / 1e9);
}


static PyObject *
pyloop_stop(PyObject *op, PyObject *unused)
{
    ((pyloop_t *) op)->stopping = 1;

    Py_RETURN_NONE;
}


static PyObject *
pyloop_is_running(PyObject *op, PyObject *unused)
{
    PyObject  *id;

    id = ((pyloop_t *) op)->thread_id;

    return PyBool_FromLong(id && id != Py_None);
}


static PyObject *
pyloop_is_closed(PyObject *op, PyObject *unused)
{
    return PyBool_FromLong(((pyloop_t *) op)->closed);
}


static PyObject *
pyloop_get_debug(PyObject *op, PyObject *unused)
{
    return PyBool_FromLong(((pyloop_t *) op)->debug);
}


static PyObject *
pyloop_check_closed_method(PyObject *op, PyObject *unused)
{
    if (pyloop_check_closed((pyloop_t *) op) == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


/* asyncio closes what is its own, the poller included. */

static PyObject *
pyloop_close(PyObject *op, PyObject *unused)
{
    pyloop_t  *loop;
    PyObject  *method, *res;

    loop = (pyloop_t *) op;

    method = pyloop_super(loop, "close");
    if (method == NULL) {
        return NULL;
    }

    res = PyObject_CallNoArgs(method);
    Py_DECREF(method);

    if (res == NULL) {
        return NULL;
    }

    pyloop_output_drop(loop);
    pyloop_ready_clear(&loop->ready);
    pyloop_heap_clear(&loop->heap);
    loop->nsources = 0;

    pyloop_wake_close(loop);

    return res;
}


/* The method of asyncio's loop that ours stands in front of. */

PyObject *
pyloop_super(pyloop_t *loop, const char *name)
{
    PyObject  *super, *method;

    super = PyObject_CallFunctionObjArgs((PyObject *) &PySuper_Type,
                                         loop->state->loop_type, loop, NULL);
    if (super == NULL) {
        return NULL;
    }

    method = PyObject_GetAttrString(super, name);
    Py_DECREF(super);

    return method;
}


static int
pyloop_own_method(PyTypeObject *type, PyTypeObject *base, const char *name)
{
    int        rc;
    PyObject  *own, *ours;

    own = PyObject_GetAttrString((PyObject *) type, name);
    ours = own ? PyObject_GetAttrString((PyObject *) base, name) : NULL;

    rc = ours ? own != ours : -1;

    Py_XDECREF(own);
    Py_XDECREF(ours);

    return rc;
}


static PyObject *
pyloop_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    int              time, call_at, run_once;
    pyloop_t        *loop;
    PyObject        *module;
    pyloop_state_t  *state;

    module = PyType_GetModuleByDef(type, &pyloop_module);
    if (module == NULL) {
        return NULL;
    }

    state = PyModule_GetState(module);

    time = pyloop_own_method(type, state->loop_type, "time");
    if (time == -1) {
        return NULL;
    }

    call_at = pyloop_own_method(type, state->loop_type, "call_at");
    if (call_at == -1) {
        return NULL;
    }

    run_once = pyloop_own_method(type, state->loop_type, "_run_once");
    if (run_once == -1) {
        return NULL;
    }

    loop = (pyloop_t *) type->tp_alloc(type, 0);
    if (loop == NULL) {
        return NULL;
    }

    loop->state = state;
    loop->wake_fd = -1;
    loop->own_time = time;
    loop->own_call_at = call_at;
    loop->own_run_once = run_once;

    loop->thread_id = Py_NewRef(Py_None);
    loop->current_handle = Py_NewRef(Py_None);
    loop->task_factory = Py_NewRef(Py_None);

    loop->unwritten_end = &loop->unwritten;

    loop->buffer = PyMem_Malloc(PYLOOP_READ_SIZE);
    if (loop->buffer == NULL) {
        PyErr_NoMemory();
        goto failed;
    }

    loop->wake_fd = eventfd(0, EFD_CLOEXEC|EFD_NONBLOCK);
    if (loop->wake_fd == -1) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto failed;
    }

    loop->poller = pyloop_poller_new(state, loop->wake_fd);
    if (loop->poller == NULL) {
        goto failed;
    }

    return (PyObject *) loop;

failed:

    loop->closed = 1;
    Py_DECREF(loop);

    return NULL;
}


/* Tests stop the clock of one loop: what they put there is asked from then. */

static int
pyloop_setattr(PyObject *op, PyObject *name, PyObject *value)
{
    int        own;
    size_t     i;
    pyloop_t  *loop;

    loop = (pyloop_t *) op;

    struct {
        const char  *name;
        char        *own;
    } methods[] = {
        { "time", &loop->own_time },
        { "call_at", &loop->own_call_at },
        { "_run_once", &loop->own_run_once },
    };

    if (PyObject_GenericSetAttr(op, name, value) == -1) {
        return -1;
    }

    for (i = 0; i < Py_ARRAY_LENGTH(methods); i++) {

        if (PyUnicode_CompareWithASCIIString(name, methods[i].name) != 0) {
            continue;
        }

        own = value ? 1 : pyloop_own_method(Py_TYPE(op),
                                            loop->state->loop_type,
                                            methods[i].name);
        if (own == -1) {
            return -1;
        }

        *methods[i].own = own;
    }

    return 0;
}


static int
pyloop_traverse(PyObject *op, visitproc visit, void *arg)
{
    int        rc;
    pyloop_t  *loop;

    loop = (pyloop_t *) op;

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(loop->poller);
    Py_VISIT(loop->thread_id);
    Py_VISIT(loop->current_handle);
    Py_VISIT(loop->task_factory);
    Py_VISIT(loop->scratch);

    rc = pyloop_output_visit(loop, visit, arg);

    if (rc == 0) {
        rc = pyloop_ready_visit(&loop->ready, visit, arg);
    }

    return rc ? rc : pyloop_heap_visit(&loop->heap, visit, arg);
}


static int
pyloop_clear(PyObject *op)
{
    pyloop_t  *loop;

    loop = (pyloop_t *) op;

    pyloop_output_drop(loop);
    pyloop_ready_clear(&loop->ready);
    pyloop_heap_clear(&loop->heap);

    if (loop->poller) {
        (void) Py_TYPE(loop->poller)->tp_clear((PyObject *) loop->poller);
    }

    Py_CLEAR(loop->current_handle);
    Py_CLEAR(loop->task_factory);
    Py_CLEAR(loop->scratch);

    return 0;
}


static void
pyloop_dealloc(PyObject *op)
{
    pyloop_t      *loop;
    PyTypeObject  *type;

    loop = (pyloop_t *) op;
    type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);

    (void) pyloop_clear(op);
    Py_CLEAR(loop->poller);
    Py_CLEAR(loop->thread_id);
    PyMem_Free(loop->sources);
    PyMem_Free(loop->buffer);
    pyloop_wake_close(loop);

    type->tp_free(op);
    Py_DECREF(type);
}


static PyObject *
pyloop_debug_get(PyObject *op, void *unused)
{
    return PyBool_FromLong(((pyloop_t *) op)->debug);
}


static int
pyloop_debug_set(PyObject *op, PyObject *value, void *unused)
{
    int  debug;

    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_debug cannot be deleted");
        return -1;
    }

    debug = PyObject_IsTrue(value);
    if (debug == -1) {
        return -1;
    }

    ((pyloop_t *) op)->debug = debug;

    return 0;
}


#define PYLOOP_METHOD(function)  ((PyCFunction) (void (*)(void)) function)

#if PY_VERSION_HEX >= 0x030E0000
#define PYLOOP_TASK_ARGUMENTS  "coro, **kwargs"
#elif PY_VERSION_HEX >= 0x030D0300
#define PYLOOP_TASK_ARGUMENTS  "coro, *, name=None, context=None, **kwargs"
#else
#define PYLOOP_TASK_ARGUMENTS  "coro, *, name=None, context=None"
#endif


static PyMethodDef pyloop_methods[] = {
    PYLOOP_FAST("call_soon", pyloop_call_soon,
                "callback, *args, context=None",
                "Call the callback in the next turn."),
    PYLOOP_FAST("call_soon_threadsafe", pyloop_call_soon_threadsafe,
                "callback, *args, context=None",
                "As call_soon(), from any thread."),
    PYLOOP_FAST("call_later", pyloop_call_later,
                "delay, callback, *args, context=None",
                "Call the callback after a delay in seconds."),
    PYLOOP_FAST("call_at", pyloop_call_at,
                "when, callback, *args, context=None",
                "Call the callback at a time of the loop's clock."),
    PYLOOP_NOARGS("create_future", pyloop_create_future,
                  "A Future of this loop."),
    PYLOOP_FAST("create_task", pyloop_create_task, PYLOOP_TASK_ARGUMENTS,
                "A Task of the coroutine."),
    PYLOOP_NOARGS("run_forever", pyloop_run_forever,
                  "Run until stop() is called."),
    PYLOOP_NOARGS("stop", pyloop_stop,
                  "End run_forever() after the current turn."),
    PYLOOP_NOARGS("close", pyloop_close,
                  "Close the loop; it must not be running."),
    PYLOOP_NOARGS("time", pyloop_time_method, "The loop's clock in seconds."),
    PYLOOP_NOARGS("is_running", pyloop_is_running,
                  "True while the loop runs."),
    PYLOOP_NOARGS("is_closed", pyloop_is_closed, "True after close()."),
    PYLOOP_NOARGS("get_debug", pyloop_get_debug, "True in debug mode."),
    {"_add_reader", PYLOOP_METHOD(pyloop_add_reader), METH_FASTCALL, NULL},
    {"_add_writer", PYLOOP_METHOD(pyloop_add_writer), METH_FASTCALL, NULL},
    {"_remove_reader", pyloop_remove_reader, METH_O, NULL},
    {"_remove_writer", pyloop_remove_writer, METH_O, NULL},
    {"_add_callback", pyloop_add_callback, METH_O, NULL},
    {"_ensure_fd_no_transport", pyloop_ensure_fd_no_transport, METH_O, NULL},
    {"_make_socket_transport", PYLOOP_METHOD(pyloop_make_socket_transport),
     METH_VARARGS|METH_KEYWORDS, NULL},
    {"_make_datagram_transport",
     PYLOOP_METHOD(pyloop_make_datagram_transport),
     METH_VARARGS|METH_KEYWORDS, NULL},
    {"_make_read_pipe_transport",
     PYLOOP_METHOD(pyloop_make_read_pipe_transport),
     METH_VARARGS|METH_KEYWORDS, NULL},
    {"_make_write_pipe_transport",
     PYLOOP_METHOD(pyloop_make_write_pipe_transport),
     METH_VARARGS|METH_KEYWORDS, NULL},
    {"_numeric", PYLOOP_METHOD(pyloop_numeric), METH_FASTCALL, NULL},
    {"_connect", PYLOOP_METHOD(pyloop_connect), METH_FASTCALL, NULL},
    {"_receive", PYLOOP_METHOD(pyloop_receive), METH_FASTCALL, NULL},
    {"_receive_into", PYLOOP_METHOD(pyloop_receive_into), METH_FASTCALL,
     NULL},
    {"_send", PYLOOP_METHOD(pyloop_send), METH_FASTCALL, NULL},
    {"_readable", pyloop_readable, METH_O, NULL},
    {"_writable", pyloop_writable, METH_O, NULL},
    {"_serve", PYLOOP_METHOD(pyloop_serve), METH_FASTCALL, NULL},
    {"_write_to_self", pyloop_write_to_self, METH_NOARGS, NULL},
    {"_check_closed", pyloop_check_closed_method, METH_NOARGS, NULL},
    {"_run_once", pyloop_run_once, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}
};


static PyMemberDef pyloop_members[] = {
    {"_closed", T_BOOL, offsetof(pyloop_t, closed), 0, NULL},
    {"_stopping", T_BOOL, offsetof(pyloop_t, stopping), 0, NULL},
    {"_thread_id", T_OBJECT, offsetof(pyloop_t, thread_id), 0, NULL},
    {"_current_handle", T_OBJECT, offsetof(pyloop_t, current_handle), 0,
     NULL},
    {"_task_factory", T_OBJECT, offsetof(pyloop_t, task_factory), 0, NULL},
    {"_clock_resolution", T_DOUBLE, offsetof(pyloop_t, clock_resolution), 0,
     NULL},
    {"_poller", T_OBJECT, offsetof(pyloop_t, poller), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}
};


static PyGetSetDef pyloop_getset[] = {
    {"_debug", pyloop_debug_get, pyloop_debug_set, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL}
};


static PyType_Slot pyloop_slots[] = {
    {Py_tp_doc, "The hot half of an asyncio event loop."},
    {Py_tp_new, pyloop_new},
    {Py_tp_methods, pyloop_methods},
    {Py_tp_members, pyloop_members},
    {Py_tp_getset, pyloop_getset},
    {Py_tp_setattro, pyloop_setattr},
    {Py_tp_traverse, pyloop_traverse},
    {Py_tp_clear, pyloop_clear},
    {Py_tp_dealloc, pyloop_dealloc},
    {0, NULL}
};


PyType_Spec pyloop_loop_spec = {
    .name = "databridge._pyloop.Loop",
    .basicsize = sizeof(pyloop_t),
    .flags = Py_TPFLAGS_DEFAULT|Py_TPFLAGS_HAVE_GC|Py_TPFLAGS_BASETYPE
             |Py_TPFLAGS_IMMUTABLETYPE,
    .slots = pyloop_slots,
};
