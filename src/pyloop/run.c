/*
 * Turns.  One turn: look at the descriptors, make the expired timers ready,
 * run the sources, then the callbacks that were ready by then, and let the
 * sources publish.
 *
 * While callbacks keep each other busy, descriptors are looked at once in
 * PYLOOP_POLL_PERIOD, not in each turn: a system call costs more than most
 * callbacks.  The first turn of a run and the last always look, and so does
 * the one after a transport has sent something or has ended, or a descriptor
 * is watched anew: programs expect a neighbour's answer as soon as on
 * asyncio's loop.
 */

#include "pyloop/pyloop.h"

#include <math.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>


static int  pyloop_turn(pyloop_t *loop, int poll);
static int  pyloop_timeout(pyloop_t *loop, int64_t *timeout);
static int  pyloop_callbacks(pyloop_t *loop);
static PyObject *pyloop_run_begin(pyloop_t *loop);
static int  pyloop_run_turns(pyloop_t *loop);
static int  pyloop_run_end(pyloop_t *loop, PyObject *hooks);
static int  pyloop_track_origins(pyloop_t *loop, int enabled);


int64_t
pyloop_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec * PYLOOP_NSEC + ts.tv_nsec;
}


/* As time.monotonic(), or -1 with an exception set by a subclass's time(). */

double
pyloop_time(pyloop_t *loop)
{
    double     when;
    PyObject  *res;

    if (!loop->own_time) {
        return (double) pyloop_now() / 1e9;
    }

    res = PyObject_CallMethodNoArgs((PyObject *) loop,
                                    loop->state->str_time);
    if (res == NULL) {
        return -1;
    }

    when = PyFloat_AsDouble(res);
    Py_DECREF(res);

    return when;
}


/* Any thread, with or without the GIL, while the loop is open. */

void
pyloop_wake(pyloop_t *loop)
{
    (void) eventfd_write(loop->wake_fd, 1);
}


/*
 * From a thread that holds the GIL and lets go of it meanwhile: else the
 * loop would be awake only to wait for it.
 */

void
pyloop_wake_unlocked(pyloop_t *loop)
{
    loop->waking++;

    Py_BEGIN_ALLOW_THREADS
    pyloop_wake(loop);
    Py_END_ALLOW_THREADS

    loop->waking--;

    if (loop->closed) {
        pyloop_wake_close(loop);
    }
}


/* Left open for whoever is about to write to it. */

void
pyloop_wake_close(pyloop_t *loop)
{
    int  fd;

    fd = loop->wake_fd;

    if (fd != -1 && loop->waking == 0) {
        if (loop->poller) {
            loop->poller->wake_fd = -1;
        }

        loop->wake_fd = -1;
        (void) close(fd);
    }
}


/* How long the poll may wait: -1 for ever. */

static int
pyloop_timeout(pyloop_t *loop, int64_t *timeout)
{
    double  next, now, wait;

    *timeout = 0;

    if (loop->stopping || loop->pending || pyloop_ready_count(&loop->ready)) {
        return 0;
    }

    next = pyloop_heap_next(&loop->heap);

    if (loop->heap.count == 0) {
        *timeout = -1;
        return 0;
    }

    now = pyloop_time(loop);

    if (now == -1 && PyErr_Occurred()) {
        return -1;
    }

    wait = next - now;

    if (wait > 0) {
        /* rounded up, so that the timer is due afterwards */
        *timeout = wait < 1e9 ? (int64_t) ceil(wait * 1e9) : INT64_MAX;
    }

    return 0;
}


static int
pyloop_turn(pyloop_t *loop, int poll)
{
    int      rc;
    double   now;
    int64_t  timeout;

    loop->turn++;

    /* what the last turn, or those between two runs, have gathered */
    if ((loop->unwritten && pyloop_output_flush_all(loop) == -1)
        || pyloop_timeout(loop, &timeout) == -1)
    {
        return -1;
    }

    /* a signal's handler may make something ready before we sleep */
    if (timeout != 0
        && (PyErr_CheckSignals() == -1
            || pyloop_timeout(loop, &timeout) == -1))
    {
        return -1;
    }

    if (timeout != 0 || poll || loop->stopping
        || pyloop_now() - loop->polled >= PYLOOP_POLL_PERIOD)
    {
        if (pyloop_poll(loop, timeout) == -1) {
            return -1;
        }
    }

    if (loop->heap.count) {
        now = pyloop_time(loop);

        if (now == -1 && PyErr_Occurred()) {
            return -1;
        }

        if (pyloop_heap_expire(&loop->heap, &loop->ready,
                               now + loop->clock_resolution)
            == -1)
        {
            return -1;
        }
    }

    if (loop->nsources == 0) {
        return pyloop_callbacks(loop);
    }

    rc = pyloop_sources_run(loop);

    if (rc == 0) {
        rc = pyloop_callbacks(loop);
    }

    pyloop_sources_flush(loop);

    return rc;
}


/* What these callbacks make ready waits for the next turn. */

static int
pyloop_callbacks(pyloop_t *loop)
{
    int              rc;
    size_t           end;
    pyloop_entry_t   entry;

    end = loop->ready.tail;

    /* a callback that calls _run_once() may leave nothing, and go beyond */

    while ((Py_ssize_t) (end - loop->ready.head) > 0) {

        pyloop_ready_take(&loop->ready, &entry);

        rc = pyloop_entry_run(loop, &entry);

        pyloop_entry_release(&entry);

        if (rc == -1) {
            return -1;
        }
    }

    return 0;
}


PyObject *
pyloop_run_once(PyObject *op, PyObject *unused)
{
    if (pyloop_turn((pyloop_t *) op, 1) == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


PyObject *
pyloop_run_forever(PyObject *op, PyObject *unused)
{
    int        rc;
    pyloop_t  *loop;
    PyObject  *hooks, *res;

    loop = (pyloop_t *) op;

    if (pyloop_check_closed(loop) == -1) {
        return NULL;
    }

    res = PyObject_CallMethod(op, "_check_running", NULL);
    if (res == NULL) {
        return NULL;
    }

    Py_DECREF(res);

    hooks = PyObject_CallNoArgs(loop->state->get_asyncgen_hooks);
    if (hooks == NULL) {
        return NULL;
    }

    res = pyloop_run_begin(loop);
    rc = res ? pyloop_run_turns(loop) : -1;

    Py_XDECREF(res);

    if (pyloop_run_end(loop, hooks) == -1) {
        rc = -1;
    }

    Py_DECREF(hooks);

    if (rc == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


static PyObject *
pyloop_run_begin(pyloop_t *loop)
{
    PyObject        *op, *first, *final, *ident, *res;
    pyloop_state_t  *state;

    op = (PyObject *) loop;
    state = loop->state;

    if (pyloop_track_origins(loop, loop->debug) == -1) {
        return NULL;
    }

    ident = PyLong_FromUnsignedLong(PyThread_get_thread_ident());
    if (ident == NULL) {
        return NULL;
    }

    Py_XSETREF(loop->thread_id, ident);

    res = NULL;
    final = NULL;

    first = PyObject_GetAttrString(op, "_asyncgen_firstiter_hook");
    if (first) {
        final = PyObject_GetAttrString(op, "_asyncgen_finalizer_hook");
    }

    if (final) {
        res = PyObject_CallFunctionObjArgs(state->set_asyncgen_hooks,
                                           first, final, NULL);
    }

    Py_XDECREF(first);
    Py_XDECREF(final);

    if (res == NULL) {
        return NULL;
    }

    Py_SETREF(res, PyObject_CallMethod(state->events, "_set_running_loop",
                                       "O", op));

    return res;
}


static int
pyloop_run_turns(pyloop_t *loop)
{
    int        poll;
    PyObject  *res;

    poll = 1;

    do {
        if (loop->own_run_once) {
            res = PyObject_CallMethodNoArgs((PyObject *) loop,
                                            loop->state->str_run_once);
            if (res == NULL) {
                return -1;
            }

            Py_DECREF(res);

        } else if (pyloop_turn(loop, poll) == -1) {
            return -1;
        }

        poll = 0;

    } while (!loop->stopping);

    return loop->unwritten ? pyloop_output_flush_all(loop) : 0;
}


/* Puts all back on every way out, and keeps the exception that is set. */

static int
pyloop_run_end(pyloop_t *loop, PyObject *hooks)
{
    int              rc;
    PyObject        *type, *value, *traceback, *res;
    pyloop_state_t  *state;

    state = loop->state;
    rc = 0;

    PyErr_Fetch(&type, &value, &traceback);

    loop->stopping = 0;
    Py_XSETREF(loop->thread_id, Py_NewRef(Py_None));

    res = PyObject_CallMethod(state->events, "_set_running_loop", "O", Py_None);
    if (res == NULL) {
        rc = -1;
    }

    Py_XDECREF(res);

    if (pyloop_track_origins(loop, 0) == -1) {
        rc = -1;
    }

    res = PyObject_Call(state->set_asyncgen_hooks, hooks, NULL);
    if (res == NULL) {
        rc = -1;
    }

    Py_XDECREF(res);

    if (type) {
        PyErr_Restore(type, value, traceback);
    }

    return rc;
}


static int
pyloop_track_origins(pyloop_t *loop, int enabled)
{
    PyObject  *res;

    res = PyObject_CallMethod((PyObject *) loop,
                              "_set_coroutine_origin_tracking", "O",
                              enabled ? Py_True : Py_False);
    Py_XDECREF(res);

    return res ? 0 : -1;
}
