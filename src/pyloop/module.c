/*
 * databridge._pyloop: the types, what they need of asyncio, and the capsule
 * through which a host drives a loop from outside.
 */

#include "pyloop/pyloop.h"


static int  pyloop_imports(pyloop_state_t *state);
static int  pyloop_strings(pyloop_state_t *state);
static int  pyloop_types(PyObject *module, pyloop_state_t *state);
static PyObject *pyloop_hidden_handle(pyloop_state_t *state);


static int
pyloop_exec(PyObject *module)
{
    int              rc;
    PyObject        *capsule;
    pyloop_state_t  *state;

    state = PyModule_GetState(module);

    if (pyloop_imports(state) == -1 || pyloop_strings(state) == -1
        || pyloop_context_init(state) == -1
        || pyloop_poller_init() == -1
        || pyloop_types(module, state) == -1)
    {
        return -1;
    }

    state->hidden = pyloop_hidden_handle(state);
    if (state->hidden == NULL) {
        return -1;
    }

    capsule = PyCapsule_New((void *) &pyloop_api, PYLOOP_CAPSULE, NULL);
    if (capsule == NULL) {
        return -1;
    }

    rc = PyModule_AddObjectRef(module, "_C_API", capsule);
    Py_DECREF(capsule);

    pyloop_tasks_init();

    return rc;
}


static int
pyloop_imports(pyloop_state_t *state)
{
    size_t  i;

    const struct {
        PyObject   **value;
        const char  *module;
        const char  *name;
    } imports[] = {
        { &state->asyncio_handle, "asyncio.events", "Handle" },
        { &state->asyncio_timer, "asyncio.events", "TimerHandle" },
        { &state->task_type, "asyncio.tasks", "Task" },
        { &state->executor_future, "concurrent.futures", "Future" },
        { &state->lock_type, "threading", "Lock" },
        { &state->extract_stack, "asyncio.format_helpers", "extract_stack" },
        { &state->format_callback, "asyncio.format_helpers",
          "_format_callback_source" },
        { &state->selector_key, "selectors", "SelectorKey" },
        { &state->get_asyncgen_hooks, "sys", "get_asyncgen_hooks" },
        { &state->set_asyncgen_hooks, "sys", "set_asyncgen_hooks" },
    };

    for (i = 0; i < Py_ARRAY_LENGTH(imports); i++) {
        *imports[i].value = pyloop_import(imports[i].module,
                                          imports[i].name);
        if (*imports[i].value == NULL) {
            return -1;
        }
    }

    /* asked for what others may replace there */
    state->events = PyImport_ImportModule("asyncio.events");
    state->base_events = PyImport_ImportModule("asyncio.base_events");
    state->futures = PyImport_ImportModule("asyncio.futures");
    state->tasks = PyImport_ImportModule("asyncio.tasks");

    if (state->events == NULL || state->base_events == NULL
        || state->futures == NULL || state->tasks == NULL)
    {
        return -1;
    }

    if (PyObject_HasAttrString(state->events, "_ThreadSafeHandle")) {
        state->asyncio_shared = PyObject_GetAttrString(state->events,
                                                       "_ThreadSafeHandle");
        return state->asyncio_shared ? 0 : -1;
    }

    return 0;
}


PyObject *
pyloop_import(const char *module, const char *name)
{
    PyObject  *imported, *value;

    imported = PyImport_ImportModule(module);
    if (imported == NULL) {
        return NULL;
    }

    value = PyObject_GetAttrString(imported, name);
    Py_DECREF(imported);

    return value;
}


static int
pyloop_strings(pyloop_state_t *state)
{
    size_t  i;

    const struct {
        PyObject   **value;
        const char  *text;
    } strings[] = {
        { &state->str_buffer_updated, "buffer_updated" },
        { &state->str_call_at, "call_at" },
        { &state->str_call_exception_handler, "call_exception_handler" },
        { &state->str_callback, "callback" },
        { &state->str_connection_lost, "connection_lost" },
        { &state->str_connection_made, "connection_made" },
        { &state->str_context, "context" },
        { &state->str_data_received, "data_received" },
        { &state->str_datagram_received, "datagram_received" },
        { &state->str_done, "done" },
        { &state->str_eof_received, "eof_received" },
        { &state->str_error_received, "error_received" },
        { &state->str_fileno, "fileno" },
        { &state->str_future, "Future" },
        { &state->str_get_buffer, "get_buffer" },
        { &state->str_pause_writing, "pause_writing" },
        { &state->str_pending, "pending" },
        { &state->str_read, "read" },
        { &state->str_resume_writing, "resume_writing" },
        { &state->str_run_once, "_run_once" },
        { &state->str_self, "__self__" },
        { &state->str_set_result, "set_result" },
        { &state->str_ssl_protocol, "_ssl_protocol" },
        { &state->str_task, "Task" },
        { &state->str_time, "time" },
        { &state->str_write, "write" },
    };

    for (i = 0; i < Py_ARRAY_LENGTH(strings); i++) {
        *strings[i].value = PyUnicode_InternFromString(strings[i].text);

        if (*strings[i].value == NULL) {
            return -1;
        }
    }

    state->kw_loop = Py_BuildValue("(s)", "loop");
    state->kw_context = PyTuple_Pack(1, state->str_context);
    state->kw_loop_context = Py_BuildValue("(sO)", "loop",
                                           state->str_context);

    return state->kw_loop && state->kw_context && state->kw_loop_context
           ? 0 : -1;
}


static int
pyloop_types(PyObject *module, pyloop_state_t *state)
{
    if (pyloop_handle_types(module, state) == -1) {
        return -1;
    }

    state->loop_type = (PyTypeObject *)
                   PyType_FromModuleAndSpec(module, &pyloop_loop_spec, NULL);
    if (state->loop_type == NULL) {
        return -1;
    }

    state->poller_type = (PyTypeObject *)
                 PyType_FromModuleAndSpec(module, &pyloop_poller_spec, NULL);
    if (state->poller_type == NULL) {
        return -1;
    }

    return pyloop_io_init(module, state) == -1
           || PyModule_AddType(module, state->loop_type) == -1
           || PyModule_AddType(module, state->handle_type) == -1
           || PyModule_AddType(module, state->timer_type) == -1
           || PyModule_AddType(module, state->io.tls_type) == -1
           || PyModule_AddType(module, state->io.tls_transport_type) == -1
           ? -1 : 0;
}


/*
 * What call_soon() answers when no handle is made: asyncio's own class, of
 * no loop, cancelled.
 */

static PyObject *
pyloop_hidden_handle(pyloop_state_t *state)
{
    PyObject  *handle;

    handle = PyObject_CallMethod(state->asyncio_handle, "__new__", "O",
                                 state->asyncio_handle);
    if (handle == NULL) {
        return NULL;
    }

    if (PyObject_SetAttrString(handle, "_cancelled", Py_True) == -1
        || PyObject_SetAttrString(handle, "_callback", Py_None) == -1
        || PyObject_SetAttrString(handle, "_args", Py_None) == -1
        || PyObject_SetAttrString(handle, "_repr", Py_None) == -1
        || PyObject_SetAttrString(handle, "_source_traceback", Py_None) == -1)
    {
        Py_CLEAR(handle);
    }

    return handle;
}


static int
pyloop_module_traverse(PyObject *module, visitproc visit, void *arg)
{
    pyloop_state_t  *state;

    state = PyModule_GetState(module);

    Py_VISIT(state->loop_type);
    Py_VISIT(state->handle_type);
    Py_VISIT(state->timer_type);
    Py_VISIT(state->shared_type);
    Py_VISIT(state->poller_type);
    Py_VISIT(state->events);
    Py_VISIT(state->base_events);
    Py_VISIT(state->asyncio_handle);
    Py_VISIT(state->asyncio_timer);
    Py_VISIT(state->asyncio_shared);
    Py_VISIT(state->futures);
    Py_VISIT(state->tasks);
    Py_VISIT(state->task_type);
    Py_VISIT(state->executor_future);
    Py_VISIT(state->lock_type);
    Py_VISIT(state->get_asyncgen_hooks);
    Py_VISIT(state->set_asyncgen_hooks);
    Py_VISIT(state->extract_stack);
    Py_VISIT(state->format_callback);
    Py_VISIT(state->selector_key);
    Py_VISIT(state->hidden);
    Py_VISIT(state->step_type);

    return pyloop_io_traverse(&state->io, visit, arg);
}


static int
pyloop_module_clear(PyObject *module)
{
    pyloop_state_t  *state;

    state = PyModule_GetState(module);

    pyloop_handle_free_lists(state);
    pyloop_io_clear(&state->io);

    Py_CLEAR(state->loop_type);
    Py_CLEAR(state->handle_type);
    Py_CLEAR(state->timer_type);
    Py_CLEAR(state->shared_type);
    Py_CLEAR(state->poller_type);
    Py_CLEAR(state->events);
    Py_CLEAR(state->base_events);
    Py_CLEAR(state->asyncio_handle);
    Py_CLEAR(state->asyncio_timer);
    Py_CLEAR(state->asyncio_shared);
    Py_CLEAR(state->futures);
    Py_CLEAR(state->tasks);
    Py_CLEAR(state->task_type);
    Py_CLEAR(state->executor_future);
    Py_CLEAR(state->lock_type);
    Py_CLEAR(state->get_asyncgen_hooks);
    Py_CLEAR(state->set_asyncgen_hooks);
    Py_CLEAR(state->extract_stack);
    Py_CLEAR(state->format_callback);
    Py_CLEAR(state->selector_key);
    Py_CLEAR(state->hidden);
    Py_CLEAR(state->step_type);
    Py_CLEAR(state->kw_step);
    Py_CLEAR(state->kw_loop);
    Py_CLEAR(state->kw_context);
    Py_CLEAR(state->kw_loop_context);
    Py_CLEAR(state->no_vars);
    Py_CLEAR(state->str_buffer_updated);
    Py_CLEAR(state->str_call_at);
    Py_CLEAR(state->str_call_exception_handler);
    Py_CLEAR(state->str_callback);
    Py_CLEAR(state->str_connection_lost);
    Py_CLEAR(state->str_connection_made);
    Py_CLEAR(state->str_context);
    Py_CLEAR(state->str_data_received);
    Py_CLEAR(state->str_datagram_received);
    Py_CLEAR(state->str_done);
    Py_CLEAR(state->str_eof_received);
    Py_CLEAR(state->str_error_received);
    Py_CLEAR(state->str_fileno);
    Py_CLEAR(state->str_future);
    Py_CLEAR(state->str_get_buffer);
    Py_CLEAR(state->str_pause_writing);
    Py_CLEAR(state->str_pending);
    Py_CLEAR(state->str_read);
    Py_CLEAR(state->str_resume_writing);
    Py_CLEAR(state->str_run_once);
    Py_CLEAR(state->str_self);
    Py_CLEAR(state->str_ssl_protocol);
    Py_CLEAR(state->str_set_result);
    Py_CLEAR(state->str_task);
    Py_CLEAR(state->str_time);
    Py_CLEAR(state->str_write);

    return 0;
}


static void
pyloop_module_free(void *module)
{
    (void) pyloop_module_clear(module);
}


static PyModuleDef_Slot pyloop_module_slots[] = {
    {Py_mod_exec, pyloop_exec},
    {0, NULL}
};


PyModuleDef pyloop_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "databridge._pyloop",
    .m_doc = "The C half of databridge's event loop.",
    .m_size = sizeof(pyloop_state_t),
    .m_slots = pyloop_module_slots,
    .m_traverse = pyloop_module_traverse,
    .m_clear = pyloop_module_clear,
    .m_free = pyloop_module_free,
};


PyMODINIT_FUNC
PyInit__pyloop(void)
{
#ifdef Py_GIL_DISABLED
    PyErr_SetString(PyExc_ImportError,
                    "PyLoop relies on the GIL: use a build of CPython that has "
                    "it, or asyncio's own loop");
    return NULL;
#else
    return PyModuleDef_Init(&pyloop_module);
#endif
}
