/*
 * The built-in module _databridge: what the worker's Python code, in
 * databridge.worker and beside it, may ask of this room.  Loop thread, but
 * for log(), fork_exec() and json_text(), which any thread may call.
 */

#include "python/json_text.h"
#include "python/runtime.h"


static int
db_py_level(PyObject *object, db_pylog_level_t *level)
{
    long  value;

    value = PyLong_AsLong(object);

    if (value == -1 && PyErr_Occurred()) {
        return -1;
    }

    if (value < DB_PYLOG_CRIT || value > DB_PYLOG_DEBUG) {
        PyErr_SetString(PyExc_ValueError, "there is no such level");
        return -1;
    }

    *level = value;

    return 0;
}


static PyObject *
db_py_module_log(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    const char        *text;
    Py_ssize_t         len;
    db_pylog_level_t   level;

    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "log(level, text)");
        return NULL;
    }

    if (db_py_level(args[0], &level) == -1) {
        return NULL;
    }

    text = PyUnicode_AsUTF8AndSize(args[1], &len);

    if (text == NULL) {
        return NULL;
    }

    db_py_log_lines(level, text, len);

    Py_RETURN_NONE;
}


static PyObject *
db_py_module_apps(PyObject *module, PyObject *unused)
{
    unsigned              i;
    PyObject             *list, *app;
    const db_app_conf_t  *conf;

    list = PyList_New(db_py.conf->napps);

    for (i = 0; list && i < db_py.conf->napps; i++) {
        conf = &db_py.conf->apps[i];

        app = Py_BuildValue("(s#s#Os#)",
                            conf->target.data, (Py_ssize_t) conf->target.len,
                            conf->interface.data,
                            (Py_ssize_t) conf->interface.len,
                            conf->factory ? Py_True : Py_False,
                            conf->root_path.data,
                            (Py_ssize_t) conf->root_path.len);

        if (app == NULL) {
            Py_CLEAR(list);
            break;
        }

        PyList_SET_ITEM(list, i, app);
    }

    return list;
}


static PyObject *
db_py_module_sync_threads(PyObject *module, PyObject *unused)
{
    return PyLong_FromUnsignedLong(db_py.conf->sync_threads);
}


static PyObject *
db_py_module_nice(PyObject *module, PyObject *unused)
{
    return PyLong_FromUnsignedLong(db_py.conf->nice);
}


static PyObject *
db_py_module_attach(PyObject *module, PyObject *args)
{
    PyObject  *loop, *stop, *report;

    if (!PyArg_ParseTuple(args, "OOO:attach", &loop, &stop, &report)
        || db_py_attach(loop, stop, report) == -1)
    {
        return NULL;
    }

    Py_RETURN_NONE;
}


static PyObject *
db_py_module_start(PyObject *module, PyObject *args)
{
    int        wsgi, pathsend;
    unsigned   index;
    PyObject  *call, *state;

    wsgi = 0;
    pathsend = 1;

    if (!PyArg_ParseTuple(args, "IOO!|pp:start", &index, &call, &PyDict_Type,
                          &state, &wsgi, &pathsend)
        || db_py_app_start(index, call, state, wsgi, pathsend) == -1)
    {
        return NULL;
    }

    Py_RETURN_NONE;
}


static PyObject *
db_py_module_fail(PyObject *module, PyObject *args)
{
    unsigned     index;
    const char  *error;

    if (!PyArg_ParseTuple(args, "Is:fail", &index, &error)
        || db_py_app_fail(index, error) == -1)
    {
        return NULL;
    }

    Py_RETURN_NONE;
}


static PyObject *
db_py_module_add_route(PyObject *module, PyObject *args, PyObject *kwargs)
{
    unsigned      index;
    PyObject     *methods, *pattern, *timeout, *plan;
    static char  *names[] = { "app", "methods", "pattern", "timeout", "plan",
                              NULL };

    plan = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "IOOO|O:add_route", names,
                                     &index, &methods, &pattern, &timeout,
                                     &plan)
        || db_py_route_add(index, methods, pattern, timeout, plan) == -1)
    {
        return NULL;
    }

    Py_RETURN_NONE;
}


static PyObject *
db_py_module_set_gate(PyObject *module, PyObject *args)
{
    unsigned   index;
    PyObject  *gate;

    if (!PyArg_ParseTuple(args, "IO:set_gate", &index, &gate)
        || db_py_gate_set(index, gate) == -1)
    {
        return NULL;
    }

    Py_RETURN_NONE;
}


/* The schema as a str of JSON, or as what json.dumps() takes. */

static PyObject *
db_py_module_register_crud(PyObject *module, PyObject *args, PyObject *kwargs)
{
    unsigned      index;
    PyObject     *schema, *json, *text, *resource;
    Py_ssize_t    len;
    const char   *data;
    static char  *names[] = { "schema", "app", NULL };

    index = 0;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|I:register_crud", names,
                                     &schema, &index))
    {
        return NULL;
    }

    if (PyUnicode_Check(schema)) {
        text = Py_NewRef(schema);

    } else {
        json = PyImport_ImportModule("json");

        if (json == NULL) {
            return NULL;
        }

        text = PyObject_CallMethod(json, "dumps", "O", schema);
        Py_DECREF(json);

        if (text == NULL) {
            return NULL;
        }
    }

    data = PyUnicode_AsUTF8AndSize(text, &len);
    resource = data ? db_py_crud_add(index, data, len) : NULL;

    Py_DECREF(text);

    return resource;
}


static PyObject *
db_py_module_add_native(PyObject *module, PyObject *args)
{
    unsigned   index, status;
    PyObject  *methods, *pattern, *headers, *body;

    if (!PyArg_ParseTuple(args, "IOOIOS:add_native", &index, &methods,
                          &pattern, &status, &headers, &body)
        || db_py_native_add(index, methods, pattern, status, headers, body)
           == -1)
    {
        return NULL;
    }

    Py_RETURN_NONE;
}


static PyObject *
db_py_module_set_cors(PyObject *module, PyObject *args)
{
    int             credentials, private_network;
    unsigned        index;
    Py_ssize_t      origins, methods, headers, expose, max_age;
    db_cors_conf_t  conf;

    if (!PyArg_ParseTuple(args, "Is#s#s#s#s#pp:set_cors", &index,
                          &conf.origins.data, &origins,
                          &conf.methods.data, &methods,
                          &conf.headers.data, &headers,
                          &conf.expose.data, &expose,
                          &conf.max_age.data, &max_age,
                          &credentials, &private_network))
    {
        return NULL;
    }

    conf.origins.len = origins;
    conf.methods.len = methods;
    conf.headers.len = headers;
    conf.expose.len = expose;
    conf.max_age.len = max_age;
    conf.credentials = credentials;
    conf.private_network = private_network;

    if (db_py_cors_set(index, &conf) == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


static PyObject *
db_py_module_ready(PyObject *module, PyObject *unused)
{
    if (db_py.ready == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "ready() was called before");
        return NULL;
    }

    db_ready_publish(db_py.conf->bridge, db_py.ready);
    db_py.ready = NULL;

    Py_RETURN_NONE;
}


static PyObject *
db_py_module_live(PyObject *module, PyObject *unused)
{
    return PyLong_FromUnsignedLong(db_py.nruns);
}


static PyObject *
db_py_module_cancel(PyObject *module, PyObject *unused)
{
    db_py_run_cancel_all();

    Py_RETURN_NONE;
}


static PyObject *
db_py_module_abandon(PyObject *module, PyObject *unused)
{
    db_py_run_abandon_all();
    db_py_publish();

    Py_RETURN_NONE;
}


static PyObject *
db_py_module_threads(PyObject *module, PyObject *args)
{
    unsigned long  limit, busy, waiting;

    if (!PyArg_ParseTuple(args, "kkk:threads", &limit, &busy, &waiting)) {
        return NULL;
    }

    db_counter_set(&db_py.conf->metrics->threads, limit);
    db_counter_set(&db_py.conf->metrics->threads_busy, busy);
    db_counter_set(&db_py.conf->metrics->threads_waiting, waiting);

    Py_RETURN_NONE;
}


static PyObject *
db_py_module_steps(PyObject *module, PyObject *limit)
{
    unsigned       busy, waiting;
    unsigned long  threads;

    threads = PyLong_AsUnsignedLong(limit);

    if (PyErr_Occurred()) {
        return NULL;
    }

    db_py_sync_limit(threads);
    db_py_sync_use(&busy, &waiting);

    return Py_BuildValue("(II)", busy, waiting);
}


static PyObject *
db_py_module_serve_steps(PyObject *module, PyObject *unused)
{
    db_py_sync_serve();

    Py_RETURN_NONE;
}


static PyObject *
db_py_module_lost_steps(PyObject *module, PyObject *exception)
{
    db_py_sync_lost(exception);

    Py_RETURN_NONE;
}


static PyObject *
db_py_module_in_thread(PyObject *module, PyObject *args)
{
    int        urgent;
    PyObject  *call;

    urgent = 0;

    return PyArg_ParseTuple(args, "O|p:in_thread", &call, &urgent)
           ? db_py_sync_in_thread(call, urgent) : NULL;
}


static PyObject *
db_py_module_tell(PyObject *module, PyObject *future)
{
    if (db_py_sync_tell(future) == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


static PyObject *
db_py_module_json_text(PyObject *module, PyObject *object)
{
    db_py_text_t  text;

    if (db_py_json_init() == -1) {
        return NULL;
    }

    if (!db_py_json_text(object, &text)) {
        Py_RETURN_NONE;
    }

    return text.bytes ? text.bytes
                      : PyBytes_FromStringAndSize(text.data,
                                                  text.pos - text.data);
}


/* Borrowed, or NULL, mostly without an exception. */

static PyObject *
db_py_module_member(PyObject *owner, PyObject *name)
{
    if (PyModule_Check(owner)) {
        return PyDict_GetItemWithError(PyModule_GetDict(owner), name);
    }

    return PyType_Check(owner) ? _PyType_Lookup((PyTypeObject *) owner, name)
                               : NULL;
}


static PyObject *
db_py_module_patched(PyObject *module, PyObject *watched)
{
    Py_ssize_t   i;
    PyObject    *item, *owner;

    if (!PyTuple_CheckExact(watched)) {
        PyErr_SetString(PyExc_TypeError, "patched() needs a tuple");
        return NULL;
    }

    for (i = 0; i < PyTuple_GET_SIZE(watched); i++) {
        item = PyTuple_GET_ITEM(watched, i);

        if (!PyTuple_CheckExact(item) || PyTuple_GET_SIZE(item) != 3) {
            PyErr_SetString(PyExc_TypeError, "patched() needs tuples of 3");
            return NULL;
        }

        owner = PyTuple_GET_ITEM(item, 0);

        if (db_py_module_member(owner, PyTuple_GET_ITEM(item, 1))
            != PyTuple_GET_ITEM(item, 2))
        {
            return PyErr_Occurred() ? NULL : Py_NewRef(owner);
        }
    }

    Py_RETURN_NONE;
}


static PyObject *
db_py_module_fork_exec(PyObject *module, PyObject *const *args,
    Py_ssize_t nargs)
{
    return db_py_fork_exec(args, nargs);
}


static PyObject *
db_py_module_after_fork(PyObject *module, PyObject *unused)
{
    db_py_after_fork();

    Py_RETURN_NONE;
}


#define db_py_fast(function)                                                  \
    ((PyCFunction) (void (*)(void)) (function))

static PyMethodDef  db_py_module_methods[] = {
    { "log", db_py_fast(db_py_module_log), METH_FASTCALL,
      "log(level, text): writes the text to the error log, line by line." },
    { "apps", db_py_module_apps, METH_NOARGS,
      "A list of (target, interface, factory, root_path), one an "
      "application." },
    { "sync_threads", db_py_module_sync_threads, METH_NOARGS,
      "How many threads \"def\" handlers may have." },
    { "nice", db_py_module_nice, METH_NOARGS,
      "How much nicer Python's threads are than nginx's." },
    { "threads", db_py_module_threads, METH_VARARGS,
      "threads(limit, busy, waiting): how \"def\" handlers fare, for the "
      "metrics." },
    { "attach", db_py_module_attach, METH_VARARGS,
      "attach(loop, stop, report): lets the loop take nginx's requests." },
    { "start", db_py_module_start, METH_VARARGS,
      "start(app, callable, state, wsgi=False, pathsend=True): the application "
      "takes requests." },
    { "fail", db_py_module_fail, METH_VARARGS,
      "fail(app, error): the application has not started." },
    { "add_route", db_py_fast(db_py_module_add_route),
      METH_VARARGS|METH_KEYWORDS,
      "add_route(app, methods, pattern, timeout, plan=None): declares a "
      "route." },
    { "set_gate", db_py_module_set_gate, METH_VARARGS,
      "set_gate(app, callable): what says, once a batch, whether the plans of "
      "the application hold." },
    { "register_crud", db_py_fast(db_py_module_register_crud),
      METH_VARARGS|METH_KEYWORDS,
      "register_crud(schema, app=0): declares a native resource, and returns "
      "it to be called." },
    { "add_native", db_py_module_add_native, METH_VARARGS,
      "add_native(app, methods, pattern, status, headers, body): declares a "
      "route with a constant answer." },
    { "set_cors", db_py_module_set_cors, METH_VARARGS,
      "set_cors(app, origins, methods, headers, expose, max_age, credentials,"
      " private_network): the policy of native answers." },
    { "ready", db_py_module_ready, METH_NOARGS,
      "Tells nginx what has been declared." },
    { "live", db_py_module_live, METH_NOARGS,
      "How many requests and calls are running." },
    { "cancel", db_py_module_cancel, METH_NOARGS,
      "Cancels all requests and calls." },
    { "abandon", db_py_module_abandon, METH_NOARGS,
      "Ends, for nginx, all requests and calls that did not end." },
    { "steps", db_py_module_steps, METH_O,
      "steps(limit): lets so many threads run plans' steps of \"def\" "
      "functions; how many do, and how many requests wait for one." },
    { "serve_steps", db_py_module_serve_steps, METH_NOARGS,
      "Runs such steps in the calling thread, for its life." },
    { "lost_steps", db_py_module_lost_steps, METH_O,
      "lost_steps(exception): a thread for them could not be started." },
    { "in_thread", db_py_module_in_thread, METH_VARARGS,
      "in_thread(callable, urgent=False): an awaitable of what it returns in "
      "a thread; None: urgent, and no thread is free." },
    { "tell", db_py_module_tell, METH_O,
      "tell(future): in a thread; has the loop complete it, with None, as "
      "soon as the thread lets go of the GIL." },
    { "json_text", db_py_module_json_text, METH_O,
      "The bytes that FastAPI would make of an object; None: only FastAPI "
      "can." },
    { "patched", db_py_module_patched, METH_O,
      "patched(watched): of tuples of a module or class, a name and what it "
      "has been, the first owner that has something else, or None." },
    { "fork_exec", db_py_fast(db_py_module_fork_exec), METH_FASTCALL,
      "_posixsubprocess.fork_exec() for a child with an empty mask." },
    { "after_fork", db_py_module_after_fork, METH_NOARGS,
      "Gives a forked child its default signals." },
    { NULL, NULL, 0, NULL }
};


static int
db_py_module_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type)
{
    *type = (PyTypeObject *) PyType_FromModuleAndSpec(module, spec, NULL);

    return *type ? 0 : -1;
}


static PyObject *
db_py_module_attribute(const char *name, const char *attribute)
{
    PyObject  *module, *value;

    module = PyImport_ImportModule(name);

    if (module == NULL) {
        return NULL;
    }

    value = PyObject_GetAttrString(module, attribute);
    Py_DECREF(module);

    return value;
}


static int
db_py_module_exec(PyObject *module)
{
    if (db_py_strings_init() != DB_OK
        || db_py_module_type(module, &db_py_request_spec,
                             &db_py.request_type) == -1
        || db_py_module_type(module, &db_py_socket_spec, &db_py.socket_type)
           == -1
        || db_py_module_type(module, &db_py_plan_spec, &db_py.plan_type) == -1
        || db_py_module_type(module, &db_py_fetcher_spec,
                             &db_py.fetcher_type) == -1
        || db_py_module_type(module, &db_py_relay_spec, &db_py.relay_type)
           == -1
        || db_py_module_type(module, &db_py_spawn_spec, &db_py.spawn_type)
           == -1
        || db_py_module_type(module, &db_py_op_spec, &db_py.op_type) == -1
        || db_py_module_type(module, &db_py_lines_spec, &db_py.lines_type)
           == -1
        || db_py_module_type(module, &db_py_resource_spec,
                             &db_py.resource_type) == -1
        || PyModule_AddType(module, db_py.fetcher_type) == -1
        || PyModule_AddType(module, db_py.lines_type) == -1)
    {
        return -1;
    }

    db_py.empty = PyTuple_New(0);
    db_py.from_attributes = PyTuple_Pack(1, db_py.str.from_attributes);
    db_py.uuid = db_py_module_attribute("uuid", "UUID");
    db_py.fork_exec = db_py_module_attribute("_posixsubprocess", "fork_exec");
    db_py.cancelled_error = db_py_module_attribute("asyncio.exceptions",
                                                   "CancelledError");

    db_py.disconnected_error = PyErr_NewExceptionWithDoc(
        "_databridge.ClientDisconnected",
        "The client, or the worker, no longer waits for what was sent.",
        PyExc_OSError, NULL);

    if (db_py.empty == NULL || db_py.from_attributes == NULL
        || db_py.uuid == NULL || db_py.fork_exec == NULL
        || db_py.cancelled_error == NULL || db_py.disconnected_error == NULL
        || PyModule_AddObjectRef(module, "ClientDisconnected",
                                 db_py.disconnected_error) == -1)
    {
        return -1;
    }

    return PyModule_AddIntConstant(module, "CRIT", DB_PYLOG_CRIT) == -1
           || PyModule_AddIntConstant(module, "ERROR", DB_PYLOG_ERROR) == -1
           || PyModule_AddIntConstant(module, "WARN", DB_PYLOG_WARN) == -1
           || PyModule_AddIntConstant(module, "NOTICE", DB_PYLOG_NOTICE) == -1
           || PyModule_AddIntConstant(module, "INFO", DB_PYLOG_INFO) == -1
           || PyModule_AddIntConstant(module, "DEBUG", DB_PYLOG_DEBUG) == -1
           ? -1 : 0;
}


static PyModuleDef_Slot  db_py_module_slots[] = {
    { Py_mod_exec, db_py_module_exec },
    { 0, NULL }
};

static PyModuleDef  db_py_module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_databridge",
    .m_doc = "What nginx offers to the Python of its worker.",
    .m_methods = db_py_module_methods,
    .m_slots = db_py_module_slots
};


PyMODINIT_FUNC
PyInit__databridge(void)
{
    return PyModuleDef_Init(&db_py_module_def);
}
