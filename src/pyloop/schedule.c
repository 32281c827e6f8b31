/*
 * Scheduling: call_soon(), call_soon_threadsafe(), call_at(), call_later().
 * All but the second belong to the loop's thread, which debug mode checks.
 */

#include "pyloop/pyloop.h"

#include <string.h>


typedef struct {
    PyObject         *time;          /* delay or when */
    PyObject         *callback;
    PyObject         *context;       /* or NULL */
    PyObject *const  *args;
    Py_ssize_t        nargs;
} pyloop_call_t;


static int  pyloop_call_parse(pyloop_t *loop, const char *method,
    const char *time, PyObject *const *args, Py_ssize_t nargs,
    PyObject *kwnames, pyloop_call_t *call);
static int  pyloop_call_check(pyloop_t *loop, const char *method,
    int any_thread, PyObject *callback);
static PyObject *pyloop_call_add(pyloop_t *loop, PyObject *handle);
static int  pyloop_call_hidden(pyloop_t *loop, pyloop_call_t *call);
static int  pyloop_call_answers(pyloop_t *loop, pyloop_call_t *call);
static PyObject *pyloop_timer_add(pyloop_t *loop, double time,
    PyObject *when, pyloop_call_t *call);
static PyObject *pyloop_call_own_at(pyloop_t *loop, PyObject *when,
    pyloop_call_t *call);


/*
 * The arguments: [time,] callback, *args, context=None.  "time" is the name
 * of the first, or NULL where there is none.
 */

static int
pyloop_call_parse(pyloop_t *loop, const char *method, const char *time,
    PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
    pyloop_call_t *call)
{
    Py_ssize_t        i;
    PyObject         *name;
    pyloop_state_t   *state;
    PyObject *const  *named;

    named = args + nargs;
    call->time = NULL;
    call->callback = NULL;
    call->context = NULL;

    if (time && nargs) {
        call->time = *args++;
        nargs--;
    }

    if (nargs) {
        call->callback = *args++;
        nargs--;
    }

    call->args = args;
    call->nargs = nargs;

    state = loop->state;

    if (kwnames && kwnames == state->kw_step) {
        call->context = named[0] == Py_None ? NULL : named[0];

    } else if (kwnames) {

        for (i = 0; i < PyTuple_GET_SIZE(kwnames); i++) {
            name = PyTuple_GET_ITEM(kwnames, i);

            if (name == state->str_context
                || PyUnicode_Compare(name, state->str_context) == 0)
            {
                call->context = named[i] == Py_None ? NULL : named[i];

            } else if (call->callback == NULL
                       && PyUnicode_Compare(name, state->str_callback) == 0)
            {
                call->callback = named[i];

            } else if (time && call->time == NULL
                       && PyUnicode_CompareWithASCIIString(name, time) == 0)
            {
                call->time = named[i];

            } else {
                PyErr_Format(PyExc_TypeError,
                             "%s() got an unexpected keyword argument %R",
                             method, name);
                return -1;
            }
        }
    }

    if (call->callback && (call->time || time == NULL)) {
        return 0;
    }

    PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s'",
                 method, time && call->time == NULL ? time : "callback");
    return -1;
}


PyObject *
pyloop_argument(const char *method, const char *name, PyObject *const *args,
    Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs == 1 && kwnames == NULL) {
        return args[0];
    }

    if (nargs == 0 && kwnames && PyTuple_GET_SIZE(kwnames) == 1
        && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0),
                                            name)
           == 0)
    {
        return args[0];
    }

    PyErr_Format(PyExc_TypeError, "%s() takes one argument, '%s'", method,
                 name);

    return NULL;
}


/* The checks of debug mode are asyncio's. */

static int
pyloop_call_check(pyloop_t *loop, const char *method, int any_thread,
    PyObject *callback)
{
    PyObject  *op, *res;

    if (pyloop_check_closed(loop) == -1) {
        return -1;
    }

    if (!loop->debug) {
        return 0;
    }

    op = (PyObject *) loop;

    if (!any_thread) {
        res = PyObject_CallMethod(op, "_check_thread", NULL);
        if (res == NULL) {
            return -1;
        }

        Py_DECREF(res);
    }

    res = PyObject_CallMethod(op, "_check_callback", "Os", callback, method);
    Py_XDECREF(res);

    return res ? 0 : -1;
}


/* The handle is a new one, or NULL. */

static PyObject *
pyloop_call_add(pyloop_t *loop, PyObject *handle)
{
    if (handle
        && pyloop_ready_add(&loop->ready, Py_NewRef(handle), NULL, NULL)
           == -1)
    {
        Py_CLEAR(handle);
    }

    return handle;
}


/*
 * True for a Task's first step and its wake-up: only _asyncio makes these,
 * and it drops the handle.  They are known by what Python code cannot make:
 * a type which is no base, a C function bound to a Task.
 */

static int
pyloop_call_hidden(pyloop_t *loop, pyloop_call_t *call)
{
    const char      *name;
    PyObject        *callback;
    PyTypeObject    *type;
    pyloop_state_t  *state;

    if (call->context == NULL || call->nargs > 1
        || (loop->debug && !loop->starting))
    {
        return 0;
    }

    state = loop->state;
    callback = call->callback;
    type = Py_TYPE(callback);

    if (type == &PyCFunction_Type) {

        if (((PyCFunctionObject *) callback)->m_ml == state->wakeup_def) {
            return call->nargs == 1;
        }

        if (state->wakeup_def == NULL && PyCFunction_GET_SELF(callback)
            && Py_IS_TYPE(PyCFunction_GET_SELF(callback),
                          (PyTypeObject *) state->task_type)
            && strcmp(((PyCFunctionObject *) callback)->m_ml->ml_name,
                      "TaskWakeup")
               == 0)
        {
            state->wakeup_def = ((PyCFunctionObject *) callback)->m_ml;
            return call->nargs == 1;
        }

        return 0;
    }

    if (type == state->step_type) {
        return call->nargs == 0;
    }

    if (state->step_type || (type->tp_flags & Py_TPFLAGS_BASETYPE)) {
        return 0;
    }

    name = strrchr(type->tp_name, '.');
    name = name ? name + 1 : type->tp_name;

    if (strcmp(name, "TaskStepMethWrapper") != 0) {
        return 0;
    }

    state->step_type = (PyTypeObject *) Py_NewRef((PyObject *) type);

    return call->nargs == 0;
}


PyObject *
pyloop_call_soon(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
    PyObject *kwnames)
{
    pyloop_t       *loop;
    pyloop_call_t   call;

    loop = (pyloop_t *) op;

    if (pyloop_call_parse(loop, "call_soon", NULL, args, nargs, kwnames,
                          &call)
        == -1)
    {
        return NULL;
    }

    if (!loop->closed && pyloop_call_hidden(loop, &call)) {

        if (loop->state->kw_step == NULL && PyTuple_GET_SIZE(kwnames) == 1) {
            loop->state->kw_step = Py_NewRef(kwnames);
        }

        if (pyloop_ready_add(&loop->ready, Py_NewRef(call.callback),
                             call.nargs ? Py_NewRef(call.args[0]) : NULL,
                             Py_NewRef(call.context))
            == -1)
        {
            return NULL;
        }

        return Py_NewRef(loop->state->hidden);
    }

    if (pyloop_call_check(loop, "call_soon", 0, call.callback) == -1) {
        return NULL;
    }

    return pyloop_call_add(loop, pyloop_handle_new(loop, call.callback,
                                                   call.args, call.nargs,
                                                   call.context));
}


/*
 * True when a worker of an executor hands over what its call has answered,
 * as asyncio's wrap_future() has it do.  The worker keeps the GIL until it
 * waits for other work: a loop that ran sooner would find it busy still, and
 * have the executor start another thread.
 */

static int
pyloop_call_answers(pyloop_t *loop, pyloop_call_t *call)
{
    PyTypeObject  *answer;

    answer = (PyTypeObject *) loop->state->executor_future;

    return call->nargs == 2 && Py_IS_TYPE(call->args[1], answer);
}


/* The GIL is the lock; the loop is woken once a sleep. */

PyObject *
pyloop_call_soon_threadsafe(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs, PyObject *kwnames)
{
    pyloop_t       *loop;
    PyObject       *handle;
    pyloop_call_t   call;

    loop = (pyloop_t *) op;

    if (pyloop_call_parse(loop, "call_soon_threadsafe", NULL, args, nargs,
                          kwnames, &call)
        == -1
        || pyloop_call_check(loop, "call_soon_threadsafe", 1, call.callback)
           == -1)
    {
        return NULL;
    }

    handle = pyloop_call_add(loop, pyloop_shared_new(loop, call.callback,
                                                     call.args, call.nargs,
                                                     call.context));

    if (handle && loop->sleeping) {
        loop->sleeping = 0;

        if (pyloop_call_answers(loop, &call)) {
            pyloop_wake(loop);

        } else {
            pyloop_wake_unlocked(loop);
        }
    }

    return handle;
}


/* "when" is the time as it was given, or NULL. */

static PyObject *
pyloop_timer_add(pyloop_t *loop, double time, PyObject *when,
    pyloop_call_t *call)
{
    PyObject  *timer;

    timer = pyloop_timer_new(loop, time, call->callback, call->args,
                             call->nargs, call->context);
    if (timer == NULL) {
        return NULL;
    }

    ((pyloop_timer_t *) timer)->when = Py_XNewRef(when);

    if (pyloop_heap_add(&loop->heap, (pyloop_timer_t *) timer) == -1) {
        Py_CLEAR(timer);
    }

    return timer;
}


PyObject *
pyloop_call_at(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
    PyObject *kwnames)
{
    double          time;
    pyloop_t       *loop;
    pyloop_call_t   call;

    loop = (pyloop_t *) op;

    if (pyloop_call_parse(loop, "call_at", "when", args, nargs, kwnames,
                          &call)
        == -1)
    {
        return NULL;
    }

    if (call.time == Py_None) {
        PyErr_SetString(PyExc_TypeError, "when cannot be None");
        return NULL;
    }

    time = PyFloat_AsDouble(call.time);

    if ((time == -1 && PyErr_Occurred())
        || pyloop_call_check(loop, "call_at", 0, call.callback) == -1)
    {
        return NULL;
    }

    return pyloop_timer_add(loop, time, call.time, &call);
}


PyObject *
pyloop_call_later(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
    PyObject *kwnames)
{
    double          time, delay;
    pyloop_t       *loop;
    PyObject       *when, *timer;
    pyloop_call_t   call;

    loop = (pyloop_t *) op;

    if (pyloop_call_parse(loop, "call_later", "delay", args, nargs, kwnames,
                          &call)
        == -1)
    {
        return NULL;
    }

    if (call.time == Py_None) {
        PyErr_SetString(PyExc_TypeError, "delay must not be None");
        return NULL;
    }

    delay = PyFloat_AsDouble(call.time);

    if (delay == -1 && PyErr_Occurred()) {
        return NULL;
    }

    time = pyloop_time(loop);

    if (time == -1 && PyErr_Occurred()) {
        return NULL;
    }

    time += delay;

    if (!loop->own_call_at) {
        return pyloop_call_check(loop, "call_at", 0, call.callback) == 0
               ? pyloop_timer_add(loop, time, NULL, &call) : NULL;
    }

    when = PyFloat_FromDouble(time);
    if (when == NULL) {
        return NULL;
    }

    timer = pyloop_call_own_at(loop, when, &call);
    Py_DECREF(when);

    return timer;
}


/* call_later() of a subclass that has its own call_at(). */

static PyObject *
pyloop_call_own_at(pyloop_t *loop, PyObject *when, pyloop_call_t *call)
{
    PyObject  *method, *timer, **stack;

    stack = PyMem_New(PyObject *, call->nargs + 3);
    if (stack == NULL) {
        return PyErr_NoMemory();
    }

    stack[0] = when;
    stack[1] = call->callback;
    memcpy(stack + 2, call->args, call->nargs * sizeof(PyObject *));
    stack[call->nargs + 2] = call->context;

    timer = NULL;

    method = PyObject_GetAttr((PyObject *) loop, loop->state->str_call_at);
    if (method) {
        timer = PyObject_Vectorcall(method, stack, call->nargs + 2,
                                    call->context ? loop->state->kw_context
                                                  : NULL);
        Py_DECREF(method);
    }

    PyMem_Free(stack);

    return timer;
}
