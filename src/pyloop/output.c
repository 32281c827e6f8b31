/*
 * How streams and write pipes write.  The first write of a turn goes out at
 * once; what follows in the same turn is gathered and goes out in one call
 * when the turn ends, or sooner when it passes the high water mark.  Where
 * something followed the last time, the first write waits for it as well: a
 * response whose head and body are two writes is one call.  What the kernel
 * does not take waits for the poller.
 */

#include "pyloop/transport.h"

#include <errno.h>
#include <unistd.h>


/* As asyncio: the warnings begin with the fifth write in vain. */
#define PYLOOP_LOST_WRITES  5


static int  pyloop_output_add_all(pyloop_transport_t *tr, PyObject *items);
static int  pyloop_output_add(pyloop_transport_t *tr, PyObject *data);
static int  pyloop_output_put(pyloop_transport_t *tr, PyObject *owner,
    const char *data, Py_ssize_t len);
static int  pyloop_output_at_once(pyloop_transport_t *tr);
static ssize_t pyloop_output_send(pyloop_transport_t *tr, const char *data,
    Py_ssize_t len);
static int  pyloop_output_later(pyloop_transport_t *tr);
static pyloop_transport_t *pyloop_output_take(pyloop_t *loop);
static int  pyloop_output_settle(pyloop_transport_t *tr);
static const char *pyloop_output_error(pyloop_transport_t *tr);
static int  pyloop_output_failed(pyloop_transport_t *tr);
static int  pyloop_output_wake(pyloop_transport_t *tr, const char *method,
    PyObject *value);


PyObject *
pyloop_output_write(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
    PyObject *kwnames)
{
    PyObject  *data;

    data = pyloop_argument("write", "data", args, nargs, kwnames);

    if (data == NULL
        || pyloop_output_add((pyloop_transport_t *) op, data) == -1)
    {
        return NULL;
    }

    Py_RETURN_NONE;
}


/* All of it goes out in one call, if it can go at once. */

PyObject *
pyloop_output_writelines(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs, PyObject *kwnames)
{
    int                  at_once, rc;
    PyObject            *list, *items, *exc;
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    list = pyloop_argument("writelines", "list_of_data", args, nargs,
                           kwnames);

    items = list ? PySequence_Tuple(list) : NULL;
    if (items == NULL) {
        return NULL;
    }

    at_once = pyloop_output_at_once(tr);

    if (at_once) {
        tr->turn = tr->loop->turn;
        tr->held = 1;
    }

    rc = pyloop_output_add_all(tr, items);
    Py_DECREF(items);

    if (at_once) {
        tr->held = 0;

        /* the protocol may hear of it */
        exc = rc == -1 ? pyloop_exception_take() : NULL;

        rc = tr->loop ? pyloop_output_flush(tr) : 0;

        if (exc) {
            pyloop_exception_put(exc);
            rc = -1;
        }
    }

    if (rc == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


/* None of them when one is no data. */

static int
pyloop_output_add_all(pyloop_transport_t *tr, PyObject *items)
{
    Py_ssize_t  i, n;

    n = PyTuple_GET_SIZE(items);

    for (i = 0; i < n; i++) {
        if (pyloop_output_check(tr, PyTuple_GET_ITEM(items, i)) == -1) {
            return -1;
        }
    }

    for (i = 0; i < n; i++) {
        if (pyloop_output_add(tr, PyTuple_GET_ITEM(items, i)) == -1) {
            return -1;
        }
    }

    return 0;
}


static int
pyloop_output_add(pyloop_transport_t *tr, PyObject *data)
{
    int        rc;
    Py_buffer  view;

    if (pyloop_output_check(tr, data) == -1) {
        return -1;
    }

    if (PyBytes_CheckExact(data)) {
        return pyloop_output_put(tr, data, PyBytes_AS_STRING(data),
                                 PyBytes_GET_SIZE(data));
    }

    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) == -1) {
        return -1;
    }

    rc = pyloop_output_put(tr, NULL, view.buf, view.len);

    PyBuffer_Release(&view);

    return rc;
}


int
pyloop_output_check(pyloop_transport_t *tr, PyObject *data)
{
    if (!PyBytes_Check(data) && !PyByteArray_Check(data)
        && !PyMemoryView_Check(data))
    {
        PyErr_Format(PyExc_TypeError, "data argument must be a bytes-like "
                     "object, not '%.100s'", Py_TYPE(data)->tp_name);
        return -1;
    }

    if (tr->eof) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Cannot call write() after write_eof()");
        return -1;
    }

    if (tr->waiter) {
        PyErr_SetString(PyExc_RuntimeError,
                        "unable to write; sendfile is in progress");
        return -1;
    }

    return 0;
}


/* Who writes to a closing transport is warned, not punished. */

int
pyloop_output_late(pyloop_transport_t *tr)
{
    PyObject        *logger, *res;
    pyloop_state_t  *state;

    if (tr->lost == 0 || tr->lost++ < PYLOOP_LOST_WRITES) {
        return 0;
    }

    state = PyType_GetModuleState(Py_TYPE(tr));

    logger = PyObject_GetAttrString(state->base_events, "logger");
    if (logger == NULL) {
        return -1;
    }

    res = PyObject_CallMethod(logger, "warning", "s",
                              tr->kind->is_socket
                              ? "socket.send() raised exception."
                              : "pipe closed by peer or "
                                "os.write(pipe, data) raised exception.");
    Py_DECREF(logger);
    Py_XDECREF(res);

    return res ? 0 : -1;
}


/* "owner" is the bytes object that has the data, or NULL. */

static int
pyloop_output_put(pyloop_transport_t *tr, PyObject *owner, const char *data,
    Py_ssize_t len)
{
    int        at_once;
    ssize_t    n;
    PyObject  *chunk;

    if (len == 0) {
        return 0;
    }

    /* TLS writes its last words to a socket that closes once they are out */
    if (tr->lost || (tr->closing && !tr->kind->is_socket)) {
        return pyloop_output_late(tr);
    }

    n = 0;
    at_once = pyloop_output_at_once(tr);

    if (at_once) {
        tr->turn = tr->loop->turn;

        n = pyloop_output_send(tr, data, len);

        if (n == len) {
            return 0;
        }

        if (n == -1) {
            return pyloop_output_failed(tr);
        }
    }

    chunk = owner ? Py_NewRef(owner)
                  : PyBytes_FromStringAndSize(data + n, len - n);

    if (chunk == NULL || pyloop_queue_add(&tr->queue, chunk, NULL) == -1) {
        return -1;
    }

    if (owner && at_once) {
        tr->queue.sent = n;
        tr->queue.size -= n;
    }

    if (at_once) {
        return pyloop_transport_write(tr) == -1
               ? -1 : pyloop_transport_pause_protocol(tr);
    }

    return pyloop_output_later(tr);
}


/* A loop that does not run has no turn to gather in. */

static int
pyloop_output_at_once(pyloop_transport_t *tr)
{
    return tr->loop && tr->queue.size == 0 && !tr->writing && !tr->held
           && ((tr->turn != tr->loop->turn && !tr->gathers)
               || tr->loop->thread_id == Py_None);
}


static ssize_t
pyloop_output_send(pyloop_transport_t *tr, const char *data, Py_ssize_t len)
{
    ssize_t  n;

    tr->loop->polled = 0;

    n = tr->kind->is_socket ? send(tr->fd, data, len, MSG_NOSIGNAL)
                            : write(tr->fd, data, len);

    return n == -1 && (errno == EAGAIN || errno == EINTR) ? 0 : n;
}


static int
pyloop_output_later(pyloop_transport_t *tr)
{
    pyloop_t  *loop;

    if (tr->held) {
        return 0;
    }

    if (tr->writing) {
        return pyloop_transport_pause_protocol(tr);
    }

    if (tr->queue.size > tr->high) {
        return pyloop_output_flush(tr) == -1
               ? -1 : pyloop_transport_pause_protocol(tr);
    }

    if (tr->unwritten) {
        tr->gathers = 1;
        return 0;
    }

    loop = tr->loop;

    tr->gathers = tr->turn == loop->turn;
    tr->unwritten = 1;
    tr->next = NULL;
    Py_INCREF(tr);

    *loop->unwritten_end = tr;
    loop->unwritten_end = &tr->next;

    return 0;
}


int
pyloop_output_flush(pyloop_transport_t *tr)
{
    if (tr->lost || tr->writing) {
        return 0;
    }

    tr->loop->polled = 0;

    if (pyloop_queue_write(&tr->queue, tr->fd, tr->kind->is_socket) == -1) {
        return pyloop_output_failed(tr);
    }

    if (tr->queue.size) {
        return pyloop_transport_write(tr) == -1
               ? -1 : pyloop_transport_pause_protocol(tr);
    }

    return pyloop_output_settle(tr);
}


static pyloop_transport_t *
pyloop_output_take(pyloop_t *loop)
{
    pyloop_transport_t  *first;

    first = loop->unwritten;
    loop->unwritten = NULL;
    loop->unwritten_end = &loop->unwritten;

    return first;
}


/*
 * The list as it is now; what the protocols add waits for the next time, and
 * so does the rest when the loop has to end.  What fails otherwise ends its
 * own transport.
 */

int
pyloop_output_flush_all(pyloop_t *loop)
{
    int                  rc;
    pyloop_transport_t  *tr, *next;

    rc = 0;

    for (next = pyloop_output_take(loop); rc == 0 && next; /* void */ ) {
        tr = next;
        next = tr->next;

        tr->unwritten = 0;
        rc = pyloop_output_flush(tr);

        if (rc == -1) {
            rc = pyloop_transport_fatal(tr, pyloop_output_error(tr));
        }

        Py_DECREF(tr);
    }

    if (next) {
        *loop->unwritten_end = next;

        while (next) {
            loop->unwritten_end = &next->next;
            next = next->next;
        }
    }

    return rc;
}


int
pyloop_output_visit(pyloop_t *loop, visitproc visit, void *arg)
{
    pyloop_transport_t  *tr;

    for (tr = loop->unwritten; tr; tr = tr->next) {
        Py_VISIT(tr);
    }

    return 0;
}


/* The loop ends, and what was gathered with it. */

void
pyloop_output_drop(pyloop_t *loop)
{
    pyloop_transport_t  *tr, *next;

    next = pyloop_output_take(loop);

    while (next) {
        tr = next;
        next = tr->next;
        tr->unwritten = 0;
        Py_DECREF(tr);
    }
}


PyObject *
pyloop_output_ready(PyObject *op, PyObject *unused)
{
    int                  rc;
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    if (tr->lost) {
        Py_RETURN_NONE;
    }

    rc = pyloop_queue_write(&tr->queue, tr->fd, tr->kind->is_socket) == -1
         ? pyloop_output_failed(tr) : pyloop_output_settle(tr);

    if (rc == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


/* After the kernel has taken something; resume_writing() may write. */

static int
pyloop_output_settle(pyloop_transport_t *tr)
{
    /* first, so that what is written now can go at once */
    if ((tr->queue.size == 0 && pyloop_transport_unwrite(tr) == -1)
        || pyloop_transport_resume_protocol(tr) == -1)
    {
        return -1;
    }

    if (tr->queue.size || tr->lost || tr->loop == NULL) {
        return 0;
    }

    if (tr->waiter && pyloop_output_wake(tr, "set_result", Py_None) == -1) {
        return -1;
    }

    if (tr->closing) {
        return pyloop_transport_lose(tr, Py_None);
    }

    return tr->eof == PYLOOP_EOF_DUE ? pyloop_output_shutdown(tr) : 0;
}


int
pyloop_output_shutdown(pyloop_transport_t *tr)
{
    tr->eof = PYLOOP_EOF_SENT;
    tr->loop->polled = 0;

    if (shutdown(tr->fd, SHUT_WR) == -1) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }

    return 0;
}


static const char *
pyloop_output_error(pyloop_transport_t *tr)
{
    return tr->kind->is_socket ? "Fatal write error on socket transport"
                               : "Fatal write error on pipe transport";
}


static int
pyloop_output_failed(pyloop_transport_t *tr)
{
    int        rc;
    PyObject  *exc;

    PyErr_SetFromErrno(PyExc_OSError);

    if (tr->waiter) {
        exc = pyloop_exception_take();
        rc = pyloop_output_wake(tr, "set_exception", exc);
        if (rc == -1) {
            Py_DECREF(exc);
            return -1;
        }

        pyloop_exception_put(exc);
    }

    return pyloop_transport_fatal(tr, pyloop_output_error(tr));
}


/* The waiter of sendfile(), which may have been cancelled meanwhile. */

static int
pyloop_output_wake(pyloop_transport_t *tr, const char *method,
    PyObject *value)
{
    int        done;
    PyObject  *res;

    res = PyObject_CallMethod(tr->waiter, "done", NULL);
    done = res ? PyObject_IsTrue(res) : -1;
    Py_XDECREF(res);

    if (done) {
        return done == 1 ? 0 : -1;
    }

    res = PyObject_CallMethod(tr->waiter, method, "O", value);
    Py_XDECREF(res);

    return res ? 0 : -1;
}


PyObject *
pyloop_output_close(PyObject *op, PyObject *unused)
{
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    if (tr->closing) {
        Py_RETURN_NONE;
    }

    if (tr->queue.size && pyloop_output_flush(tr) == -1) {
        return NULL;
    }

    if (tr->closing) {
        Py_RETURN_NONE;
    }

    tr->closing = 1;

    if (pyloop_transport_unread(tr) == -1
        || (tr->queue.head == tr->queue.tail
            && pyloop_transport_lose(tr, Py_None) == -1))
    {
        return NULL;
    }

    Py_RETURN_NONE;
}


PyObject *
pyloop_output_can_write_eof(PyObject *op, PyObject *unused)
{
    Py_RETURN_TRUE;
}
