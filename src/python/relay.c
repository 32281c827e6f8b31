/*
 * One Task for the requests of a turn.  A Task costs as much as all the rest
 * of a short request, so its coroutine, a relay, begins one request after the
 * other for as long as they end without having waited.  The first that waits
 * has the Task for itself, and the next request gets a new one.
 *
 * Nobody's code can tell, but by asking whether two Tasks are the same: when
 * a request has left a trace in the Task or in its context, or holds on to
 * the Task, the Task ends with it.  Loop thread, GIL held.
 */

#include "python/runtime.h"


/* What a request can change of the Task that it runs in. */

typedef struct {
    Py_ssize_t   refs;
    Py_ssize_t   weakrefs;
    PyObject    *name;             /* owned: it is compared by identity */
    PyObject    *context;          /* a copy, which keeps the variables */
    PyObject    *variables;        /* borrowed of it */
} db_py_traces_t;


typedef struct {
    PyObject_HEAD
    db_py_run_t     *run;          /* owned: the one that is driven */
    PyObject        *task;         /* borrowed, or NULL: it is not shared */
    db_py_traces_t   traces;       /* before the first request, with a task */
    unsigned         begun:1;
} db_py_relay_t;


/* Owned for ever; get_name is NULL where asyncio's Tasks are not in C. */

static struct {
    PyTypeObject  *task;
    PyObject      *current;        /* asyncio.current_task() */
    PyObject      *get_factory;    /* the loop's bound method */
    PyMethodDef   *get_name;
    PyGetSetDef   *must_cancel;
    PyGetSetDef   *callbacks;
} db_py_relay;


static PyObject *
db_py_relay_descriptor(const char *name, PyTypeObject *type)
{
    PyObject  *descriptor;

    descriptor = PyObject_GetAttrString((PyObject *) db_py_relay.task, name);

    if (descriptor && !Py_IS_TYPE(descriptor, type)) {
        Py_CLEAR(descriptor);
    }

    return descriptor;
}


/* Without it each request has a Task of its own: there is no error. */

static void
db_py_relay_learn(void)
{
    PyObject  *name, *cancel, *callbacks;

    name = db_py_relay_descriptor("get_name", &PyMethodDescr_Type);
    cancel = db_py_relay_descriptor("_must_cancel", &PyGetSetDescr_Type);
    callbacks = db_py_relay_descriptor("_callbacks", &PyGetSetDescr_Type);

    PyErr_Clear();

    if (name && cancel && callbacks
        && ((PyMethodDescrObject *) name)->d_method->ml_flags == METH_NOARGS)
    {
        db_py_relay.get_name = ((PyMethodDescrObject *) name)->d_method;
        db_py_relay.must_cancel = ((PyGetSetDescrObject *) cancel)->d_getset;
        db_py_relay.callbacks = ((PyGetSetDescrObject *) callbacks)->d_getset;
    }

    /* the definitions are the type's */

    Py_XDECREF(name);
    Py_XDECREF(cancel);
    Py_XDECREF(callbacks);
}


int
db_py_relay_init(void)
{
    PyObject  *module;

    module = PyImport_ImportModule("asyncio.tasks");

    if (module == NULL) {
        return -1;
    }

    db_py_relay.task = (PyTypeObject *) PyObject_GetAttrString(module, "Task");
    db_py_relay.current = PyObject_GetAttrString(module, "current_task");
    db_py_relay.get_factory = PyObject_GetAttrString(db_py.loop,
                                                     "get_task_factory");
    Py_DECREF(module);

    if (db_py_relay.task == NULL || db_py_relay.current == NULL
        || db_py_relay.get_factory == NULL)
    {
        return -1;
    }

    db_py_relay_learn();

    return 0;
}


static int
db_py_relay_visit(PyObject *object, void *arg)
{
    *(PyObject **) arg = object;

    return 0;
}


/* A copy of a context refers to its variables alone: they tell it apart. */

static PyObject *
db_py_relay_variables(PyObject *context)
{
    PyObject  *variables;

    variables = NULL;
    (void) Py_TYPE(context)->tp_traverse(context, db_py_relay_visit,
                                         &variables);

    return variables;
}


static Py_ssize_t
db_py_relay_weakrefs(PyObject *task)
{
    Py_ssize_t           n;
    PyWeakReference     *ref;

    n = 0;
    ref = *(PyWeakReference **) ((char *) task
                                 + Py_TYPE(task)->tp_weaklistoffset);

    for ( /* void */ ; ref; ref = ref->wr_next) {
        n++;
    }

    return n;
}


/* Whether the getter says what it says of a Task that nobody has touched. */

static int
db_py_relay_says(PyGetSetDef *getter, PyObject *task, PyObject *expected)
{
    PyObject  *value;

    value = getter->get(task, getter->closure);

    if (value == NULL) {
        PyErr_Clear();
        return 0;
    }

    Py_DECREF(value);

    return value == expected;
}


static int
db_py_relay_untouched(PyObject *task)
{
    PyObject  **dict;

    dict = _PyObject_GetDictPtr(task);

    return (dict == NULL || *dict == NULL)
           && db_py_relay_says(db_py_relay.must_cancel, task, Py_False)
           && db_py_relay_says(db_py_relay.callbacks, task, Py_None);
}


/* The Task whose first step this is, when it is an ordinary one. */

static PyObject *
db_py_relay_task(void)
{
    int        plain;
    PyObject  *task, *factory;

    if (db_py_relay.get_name == NULL) {
        return NULL;
    }

    factory = PyObject_CallNoArgs(db_py_relay.get_factory);
    plain = factory == Py_None;
    Py_XDECREF(factory);

    task = plain ? PyObject_CallNoArgs(db_py_relay.current) : NULL;

    if (task == NULL) {
        PyErr_Clear();
        return NULL;
    }

    /* its step refers to it */
    Py_DECREF(task);

    return Py_IS_TYPE(task, db_py_relay.task) && db_py_relay_untouched(task)
           ? task : NULL;
}


static void
db_py_relay_begin(db_py_relay_t *relay)
{
    PyObject        *task;
    db_py_traces_t  *traces;

    relay->begun = 1;

    /* nobody is there to share it */

    if (!db_py_more_requests()) {
        return;
    }

    task = db_py_relay_task();

    if (task == NULL) {
        return;
    }

    traces = &relay->traces;
    traces->name = db_py_relay.get_name->ml_meth(task, NULL);
    traces->context = PyContext_CopyCurrent();

    if (traces->name == NULL || traces->context == NULL) {
        PyErr_Clear();
        return;
    }

    traces->variables = db_py_relay_variables(traces->context);
    traces->weakrefs = db_py_relay_weakrefs(task);
    traces->refs = Py_REFCNT(task);

    relay->task = task;
}


/* Whether the next request finds the Task as the first one did. */

static int
db_py_relay_clean(const db_py_relay_t *relay)
{
    int                    same;
    PyObject              *name, *context;
    const db_py_traces_t  *traces;

    traces = &relay->traces;

    if (Py_REFCNT(relay->task) != traces->refs
        || db_py_relay_weakrefs(relay->task) != traces->weakrefs
        || !db_py_relay_untouched(relay->task))
    {
        return 0;
    }

    name = db_py_relay.get_name->ml_meth(relay->task, NULL);
    context = PyContext_CopyCurrent();

    same = name == traces->name && context
           && db_py_relay_variables(context) == traces->variables;

    Py_XDECREF(name);
    Py_XDECREF(context);
    PyErr_Clear();

    return same;
}


/* 1 when another request may begin, which is driven from now on. */

static int
db_py_relay_next(db_py_relay_t *relay)
{
    db_py_run_t  *run;

    if (relay->task == NULL || !db_py_more_requests()
        || !db_py_relay_clean(relay))
    {
        return 0;
    }

    run = db_py_next_request();

    if (run == NULL) {
        return 0;
    }

    db_py_run_link(run);
    Py_SETREF(relay->run, run);

    return 1;
}


static PySendResult
db_py_relay_send(PyObject *self, PyObject *arg, PyObject **result)
{
    PySendResult    status;
    db_py_relay_t  *relay;

    relay = (db_py_relay_t *) self;

    if (!relay->begun) {
        db_py_relay_begin(relay);
    }

    status = db_py_run_send((PyObject *) relay->run, arg, result);

    while (status == PYGEN_RETURN && db_py_relay_next(relay)) {
        Py_DECREF(*result);
        status = db_py_run_send((PyObject *) relay->run, Py_None, result);
    }

    return status;
}


static PyObject *
db_py_relay_method_throw(PyObject *self, PyObject *const *args,
    Py_ssize_t nargs)
{
    return db_py_run_method_throw((PyObject *) ((db_py_relay_t *) self)->run,
                                  args, nargs);
}


static PyObject *
db_py_relay_method_close(PyObject *self, PyObject *unused)
{
    return db_py_run_method_close((PyObject *) ((db_py_relay_t *) self)->run,
                                  NULL);
}


static PyObject *
db_py_relay_get(PyObject *self, void *name)
{
    return PyObject_GetAttrString((PyObject *) ((db_py_relay_t *) self)->run,
                                  name);
}


static void
db_py_relay_dealloc(PyObject *self)
{
    PyTypeObject   *type;
    db_py_relay_t  *relay;

    relay = (db_py_relay_t *) self;
    type = Py_TYPE(self);

    Py_DECREF(relay->run);
    Py_XDECREF(relay->traces.name);
    Py_XDECREF(relay->traces.context);

    PyObject_Free(self);
    Py_DECREF(type);
}


static PyMethodDef  db_py_relay_methods[] = {
    { "send", db_py_coroutine_send, METH_O, NULL },
    { "throw", (PyCFunction) (void (*)(void)) db_py_relay_method_throw,
      METH_FASTCALL, NULL },
    { "close", db_py_relay_method_close, METH_NOARGS, NULL },
    { NULL, NULL, 0, NULL }
};

static PyGetSetDef  db_py_relay_getset[] = {
    { "cr_await", db_py_relay_get, NULL, NULL, "cr_await" },
    { "cr_code", db_py_relay_get, NULL, NULL, "cr_code" },
    { "cr_frame", db_py_relay_get, NULL, NULL, "cr_frame" },
    { "cr_running", db_py_relay_get, NULL, NULL, "cr_running" },
    { NULL, NULL, NULL, NULL, NULL }
};

static PyType_Slot  db_py_relay_slots[] = {
    DB_PY_COROUTINE_SLOTS(db_py_relay_send, db_py_relay_methods),
    { Py_tp_dealloc, db_py_relay_dealloc },
    { Py_tp_getset, db_py_relay_getset },
    { 0, NULL }
};

PyType_Spec  db_py_relay_spec = {
    .name = "_databridge.Relay",
    .basicsize = sizeof(db_py_relay_t),
    .flags = Py_TPFLAGS_DEFAULT|Py_TPFLAGS_DISALLOW_INSTANTIATION
             |Py_TPFLAGS_IMMUTABLETYPE,
    .slots = db_py_relay_slots
};


void
db_py_relay_start(db_py_run_t *run)
{
    PyObject       *task;
    db_py_relay_t  *relay;

    db_py_run_link(run);

    relay = PyObject_New(db_py_relay_t, db_py.relay_type);

    if (relay == NULL) {
        db_py_run_started(run, NULL);
        return;
    }

    relay->run = (db_py_run_t *) Py_NewRef((PyObject *) run);
    relay->task = NULL;
    relay->begun = 0;
    memset(&relay->traces, 0, sizeof(db_py_traces_t));

    task = db_py.api->task_start(db_py.loop, (PyObject *) relay, NULL);

    /* the first step is over: the Task is the last request's, if it waits */

    relay->task = NULL;
    db_py_run_started(relay->run, task);

    Py_DECREF(relay);
}
