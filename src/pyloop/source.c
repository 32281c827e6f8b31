/*
 * The capsule: sources of work outside the loop, and tasks that start at
 * once.  A source's run() is called in each turn, whether its descriptor has
 * fired or not: it wakes us only when it was told that we sleep.
 */

#include "pyloop/pyloop.h"

#include <errno.h>
#include <sys/epoll.h>


static pyloop_t *pyloop_source_loop(PyObject *op);
static int  pyloop_source_add(PyObject *op, const pyloop_source_t *source);
static int  pyloop_source_remove(PyObject *op, int fd);
static int  pyloop_source_failed(pyloop_t *loop);
static PyObject *pyloop_task_start(PyObject *op, PyObject *coro,
    PyObject *context);
static PyObject *pyloop_task_new(pyloop_t *loop, PyObject *coro,
    PyObject *context);
static void pyloop_api_wake(PyObject *op);


const pyloop_api_t pyloop_api = {
    .version = PYLOOP_API_VERSION,
    .size = sizeof(pyloop_api_t),
    .source_add = pyloop_source_add,
    .source_remove = pyloop_source_remove,
    .task_start = pyloop_task_start,
    .wake = pyloop_api_wake,
};


static pyloop_t *
pyloop_source_loop(PyObject *op)
{
    pyloop_t  *loop;

    if (PyType_GetModuleByDef(Py_TYPE(op), &pyloop_module) == NULL) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "%R is not a PyLoop", op);
        return NULL;
    }

    loop = (pyloop_t *) op;

    return pyloop_check_closed(loop) == 0 ? loop : NULL;
}


static int
pyloop_source_add(PyObject *op, const pyloop_source_t *source)
{
    pyloop_t         *loop;
    pyloop_source_t  *sources;

    loop = pyloop_source_loop(op);
    if (loop == NULL) {
        return -1;
    }

    sources = loop->sources;
    PyMem_Resize(sources, pyloop_source_t, loop->nsources + 1);

    if (sources == NULL) {
        PyErr_NoMemory();
        return -1;
    }

    loop->sources = sources;

    if (pyloop_poller_control(loop->poller, EPOLL_CTL_ADD, source->fd,
                              EPOLLIN|EPOLLET)
        == -1)
    {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }

    sources[loop->nsources++] = *source;

    return 0;
}


static int
pyloop_source_remove(PyObject *op, int fd)
{
    unsigned   i;
    pyloop_t  *loop;

    loop = pyloop_source_loop(op);
    if (loop == NULL) {
        return -1;
    }

    for (i = 0; i < loop->nsources; i++) {
        if (loop->sources[i].fd == fd) {
            break;
        }
    }

    if (i == loop->nsources) {
        PyErr_Format(PyExc_ValueError, "no source has the descriptor %d", fd);
        return -1;
    }

    for (loop->nsources--; i < loop->nsources; i++) {
        loop->sources[i] = loop->sources[i + 1];
    }

    if (pyloop_poller_control(loop->poller, EPOLL_CTL_DEL, fd, 0) == -1
        && errno != EBADF && errno != ENOENT)
    {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }

    return 0;
}


/*
 * A source may remove itself, or another, while it runs: the function is
 * called on a copy, and one that moves up waits for the next turn.
 */

int
pyloop_sources_run(pyloop_t *loop)
{
    int              rc;
    unsigned         i;
    pyloop_source_t  source;

    loop->pending = 0;

    for (i = 0; i < loop->nsources; i++) {
        source = loop->sources[i];
        rc = source.run(source.data);

        if (rc == 1) {
            loop->pending = 1;

        } else if (rc == -1 && pyloop_source_failed(loop) == -1) {
            return -1;
        }
    }

    return 0;
}


static int
pyloop_source_failed(pyloop_t *loop)
{
    int        rc;
    PyObject  *type, *value, *traceback, *message;

    /* what it has left undone must not wait for the next wake-up */
    loop->pending = 1;

    if (PyErr_ExceptionMatches(PyExc_SystemExit)
        || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
    {
        return -1;
    }

    PyErr_Fetch(&type, &value, &traceback);

    message = PyUnicode_FromString("Exception in a source of the event loop");
    if (message == NULL) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);

        return -1;
    }

    PyErr_Restore(type, value, traceback);
    rc = pyloop_report(loop, message, NULL);
    Py_DECREF(message);

    return rc;
}


/* Also on the way out with an exception, which stays set. */

void
pyloop_sources_flush(pyloop_t *loop)
{
    unsigned   i;
    PyObject  *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);

    for (i = 0; i < loop->nsources; i++) {
        loop->sources[i].flush(loop->sources[i].data);
    }

    PyErr_Restore(type, value, traceback);
}


/* 1 when all may sleep; the others have been told in any case. */

int
pyloop_sources_sleep(pyloop_t *loop)
{
    unsigned  i;

    for (i = 0; i < loop->nsources; i++) {
        if (!loop->sources[i].sleep(loop->sources[i].data)) {
            break;
        }
    }

    loop->nasleep = i;

    return i == loop->nsources;
}


void
pyloop_sources_awake(pyloop_t *loop, int64_t waited)
{
    unsigned  i;

    for (i = 0; i < loop->nasleep; i++) {
        loop->sources[i].awake(loop->sources[i].data, waited);
    }

    loop->nasleep = 0;
}


/*
 * Task's initialiser hands its first step to call_soon(); it is taken back
 * from the ready queue and called here.  A task factory may make something
 * else, an eager task for instance: then there is nothing to take.
 */

static PyObject *
pyloop_task_start(PyObject *op, PyObject *coro, PyObject *context)
{
    int              rc;
    size_t           mark;
    PyObject        *task, *res;
    pyloop_t        *loop;
    pyloop_entry_t   entry;

    loop = pyloop_source_loop(op);
    if (loop == NULL) {
        return NULL;
    }

    mark = loop->ready.tail;

    loop->starting = 1;
    task = pyloop_task_new(loop, coro, context);
    loop->starting = 0;

    if (task == NULL) {
        return NULL;
    }

    if (!pyloop_ready_withdraw(loop->state, &loop->ready, mark, task,
                               &entry))
    {
        return task;
    }

    res = NULL;
    rc = PyContext_Enter(entry.context);

    if (rc == 0) {
        res = PyObject_CallNoArgs(entry.callable);
        rc = PyContext_Exit(entry.context);
    }

    if (res == NULL || rc == -1) {
        Py_CLEAR(task);
    }

    Py_XDECREF(res);
    pyloop_entry_release(&entry);

    return task;
}


static PyObject *
pyloop_task_new(pyloop_t *loop, PyObject *coro, PyObject *context)
{
    PyObject        *args[4];
    pyloop_state_t  *state;

    state = loop->state;

    if (loop->task_factory && loop->task_factory != Py_None) {
        args[1] = (PyObject *) loop;
        args[2] = coro;
        args[3] = context;

        return PyObject_Vectorcall(loop->task_factory, args + 1,
                                   2|PY_VECTORCALL_ARGUMENTS_OFFSET,
                                   context ? state->kw_context : NULL);
    }

    args[1] = coro;
    args[2] = (PyObject *) loop;
    args[3] = context;

    return PyObject_Vectorcall(state->task_type, args + 1,
                               1|PY_VECTORCALL_ARGUMENTS_OFFSET,
                               context ? state->kw_loop_context
                                       : state->kw_loop);
}


static void
pyloop_api_wake(PyObject *op)
{
    pyloop_wake((pyloop_t *) op);
}
