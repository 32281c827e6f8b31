/*
 * TCP and UNIX stream sockets.  Small reads go into the loop's one buffer,
 * of which the protocol gets a copy; where the last read was a large one,
 * into a bytes object of that size and some more; with a BufferedProtocol
 * into its own.  One read an event: the poller is level-triggered.
 */

#include "pyloop/transport.h"

#include <errno.h>
#include <netinet/tcp.h>


/* Below this a copy is cheaper than a bytes object that must shrink. */
#define PYLOOP_LARGE_READ  (16 * 1024)


static PyObject *pyloop_stream_ready(PyObject *op, PyObject *unused);
static ssize_t pyloop_stream_read_large(pyloop_transport_t *tr,
    PyObject **data);
static PyObject *pyloop_stream_tls(pyloop_transport_t *tr);
static PyObject *pyloop_stream_buffered(pyloop_transport_t *tr);
static PyObject *pyloop_stream_ended(pyloop_transport_t *tr);


static const pyloop_kind_t  pyloop_stream_kind = {
    { "_read_ready", pyloop_stream_ready, METH_NOARGS, NULL },
    { "_write_ready", pyloop_output_ready, METH_NOARGS, NULL },
    1,
    0
};


PyObject *
pyloop_make_socket_transport(PyObject *op, PyObject *args, PyObject *kwargs)
{
    int           fd;
    PyObject     *sock, *protocol, *waiter, *extra, *server;

    static char  *names[] = { "sock", "protocol", "waiter", "extra",
                              "server", NULL };

    waiter = Py_None;
    extra = Py_None;
    server = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs,
                                     "OO|O$OO:make_socket_transport", names,
                                     &sock, &protocol, &waiter, &extra,
                                     &server))
    {
        return NULL;
    }

    fd = PyObject_AsFileDescriptor(sock);
    if (fd == -1) {
        return pyloop_transport_foreign((pyloop_t *) op,
                                        "_make_socket_transport",
                                        args, kwargs);
    }

    return pyloop_stream_new((pyloop_t *) op, fd, sock, protocol, waiter,
                             extra, server);
}


/*
 * The transport has the descriptor, and its connection_made() is due; or
 * NULL with an exception set, and the descriptor is still the caller's.
 */

PyObject *
pyloop_stream_new(pyloop_t *loop, int fd, PyObject *file, PyObject *protocol,
    PyObject *waiter, PyObject *extra, PyObject *server)
{
    int                  on;
    pyloop_transport_t  *tr;

    tr = pyloop_transport_new(loop, loop->state->io.stream_type,
                              &pyloop_stream_kind, fd, file, protocol, extra);
    if (tr == NULL) {
        return NULL;
    }

    /* what is accepted has it of the socket that listens */

    if (file && tr->local.any.sa_family != AF_UNSPEC) {
        on = 1;
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }

    if ((server && server != Py_None
         && pyloop_transport_join(tr, server) == -1)
        || pyloop_transport_begin(tr, waiter) == -1)
    {
        pyloop_transport_abandon(tr);
        Py_CLEAR(tr);
    }

    return (PyObject *) tr;
}


static PyObject *
pyloop_stream_ready(PyObject *op, PyObject *unused)
{
    int                  rc;
    ssize_t              n;
    PyObject            *data;
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    rc = pyloop_transport_deaf(tr);
    if (rc) {
        return rc == -1 ? NULL : Py_NewRef(Py_None);
    }

    if (tr->tls) {
        return pyloop_stream_tls(tr);
    }

    if (tr->buffered) {
        return pyloop_stream_buffered(tr);
    }

    if (tr->expected >= PYLOOP_LARGE_READ) {
        n = pyloop_stream_read_large(tr, &data);

    } else {
        data = NULL;
        n = recv(tr->fd, tr->loop->buffer, PYLOOP_READ_SIZE, 0);
    }

    if (n == -1) {
        return pyloop_transport_read_failed(tr,
                                     "Fatal read error on socket transport");
    }

    if (n == 0) {
        return pyloop_stream_ended(tr);
    }

    if (data == NULL) {
        tr->expected = n;

        data = PyBytes_FromStringAndSize(tr->loop->buffer, n);
        if (data == NULL) {
            return NULL;
        }
    }

    return pyloop_transport_receive(tr, data);
}


/* As recv(), into a new object; no memory is an error like others. */

static ssize_t
pyloop_stream_read_large(pyloop_transport_t *tr, PyObject **data)
{
    int       err;
    size_t    size;
    ssize_t   n;

    size = Py_MIN(tr->expected + PYLOOP_LARGE_READ, PYLOOP_READ_SIZE);

    *data = PyBytes_FromStringAndSize(NULL, size);

    if (*data == NULL) {
        PyErr_Clear();
        errno = ENOMEM;

        return -1;
    }

    n = recv(tr->fd, PyBytes_AS_STRING(*data), size, 0);
    err = errno;

    if (n > 0 && ((size_t) n == size || _PyBytes_Resize(data, n) == 0)) {
        tr->expected = (size_t) n == size ? 2 * size : (size_t) n;

        return n;
    }

    if (n > 0) {
        PyErr_Clear();
        err = ENOMEM;
        n = -1;
    }

    Py_CLEAR(*data);
    errno = err;

    return n;
}


/* Without the two calls that are a BufferedProtocol's. */

static PyObject *
pyloop_stream_tls(pyloop_transport_t *tr)
{
    ssize_t    n;
    PyObject  *protocol, *res;

    n = recv(tr->fd, tr->loop->buffer, PYLOOP_READ_SIZE, 0);

    if (n == -1) {
        return pyloop_transport_read_failed(tr,
                                     "Fatal read error on socket transport");
    }

    if (n == 0) {
        return pyloop_stream_ended(tr);
    }

    protocol = Py_NewRef(tr->protocol);
    res = pyloop_tls_receive(protocol, tr->loop->buffer, n);
    Py_DECREF(protocol);

    if (res == NULL) {
        return pyloop_transport_failed(tr,
                      "Fatal error: protocol.buffer_updated() call failed.");
    }

    return res;
}


static PyObject *
pyloop_stream_buffered(pyloop_transport_t *tr)
{
    int              err;
    ssize_t          n;
    Py_buffer        view;
    PyObject        *size, *buffer, *res;
    pyloop_state_t  *state;

    state = tr->loop->state;
    res = NULL;

    buffer = pyloop_transport_call(tr, state->str_get_buffer,
                                   state->io.minus_one);

    if (buffer == NULL
        || PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) == -1)
    {
        Py_XDECREF(buffer);
        return pyloop_transport_failed(tr,
                          "Fatal error: protocol.get_buffer() call failed.");
    }

    if (view.len == 0) {
        PyBuffer_Release(&view);
        Py_DECREF(buffer);
        PyErr_SetString(PyExc_RuntimeError,
                        "get_buffer() returned an empty buffer");
        return pyloop_transport_failed(tr,
                          "Fatal error: protocol.get_buffer() call failed.");
    }

    n = recv(tr->fd, view.buf, view.len, 0);
    err = errno;

    PyBuffer_Release(&view);
    Py_DECREF(buffer);

    errno = err;

    if (n == -1) {
        return pyloop_transport_read_failed(tr,
                                     "Fatal read error on socket transport");
    }

    if (n == 0) {
        return pyloop_stream_ended(tr);
    }

    size = PyLong_FromSsize_t(n);

    if (size) {
        res = pyloop_transport_call(tr, state->str_buffer_updated, size);
        Py_DECREF(size);
    }

    if (res == NULL) {
        return pyloop_transport_failed(tr,
                      "Fatal error: protocol.buffer_updated() call failed.");
    }

    return res;
}


/* A protocol that wants to go on writing says so. */

static PyObject *
pyloop_stream_ended(pyloop_transport_t *tr)
{
    int        open;
    PyObject  *res;

    /* before the protocol may put another in its place */
    tr->ended = 1;

    res = pyloop_transport_call(tr, tr->loop->state->str_eof_received, NULL);

    open = res ? PyObject_IsTrue(res) : -1;
    Py_XDECREF(res);

    if (open == -1) {
        return pyloop_transport_failed(tr,
                        "Fatal error: protocol.eof_received() call failed.");
    }

    if (!open) {
        return pyloop_output_close((PyObject *) tr, NULL);
    }

    if (!tr->closing && pyloop_transport_unread(tr) == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


static PyObject *
pyloop_stream_write_eof(PyObject *op, PyObject *unused)
{
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    if (tr->closing || tr->eof) {
        Py_RETURN_NONE;
    }

    if (tr->queue.size && pyloop_output_flush(tr) == -1) {
        return NULL;
    }

    if (tr->closing) {
        Py_RETURN_NONE;
    }

    tr->eof = PYLOOP_EOF_DUE;

    if (tr->queue.size == 0 && pyloop_output_shutdown(tr) == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


/* sendfile() waits for it; no one writes meanwhile. */

static PyObject *
pyloop_stream_make_empty_waiter(PyObject *op, PyObject *unused)
{
    PyObject            *res;
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    if (tr->waiter || tr->loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        tr->waiter ? "Empty waiter is already set"
                                   : "the transport is closed");
        return NULL;
    }

    if (tr->queue.size && pyloop_output_flush(tr) == -1) {
        return NULL;
    }

    tr->waiter = PyObject_CallMethod((PyObject *) tr->loop, "create_future",
                                     NULL);
    if (tr->waiter == NULL) {
        return NULL;
    }

    if (tr->queue.size == 0) {
        res = PyObject_CallMethod(tr->waiter, "set_result", "O", Py_None);
        if (res == NULL) {
            return NULL;
        }

        Py_DECREF(res);
    }

    return Py_NewRef(tr->waiter);
}


static PyObject *
pyloop_stream_reset_empty_waiter(PyObject *op, PyObject *unused)
{
    Py_CLEAR(((pyloop_transport_t *) op)->waiter);

    Py_RETURN_NONE;
}


/* sendfile() watches the descriptor itself meanwhile. */

static PyObject *
pyloop_stream_lend(PyObject *op, PyObject *unused)
{
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    if (tr->loop) {
        pyloop_watch_disown(tr->loop, tr->fd, tr);
    }

    Py_RETURN_NONE;
}


static PyObject *
pyloop_stream_take_back(PyObject *op, PyObject *unused)
{
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    if (tr->fd != -1 && !tr->loop->closed
        && pyloop_watch_own(tr->loop, tr->fd, tr) == -1)
    {
        return NULL;
    }

    Py_RETURN_NONE;
}


static PyObject *
pyloop_stream_get_sock(PyObject *op, void *unused)
{
    return Py_XNewRef(pyloop_transport_file((pyloop_transport_t *) op));
}


static PyMethodDef pyloop_stream_methods[] = {
    PYLOOP_TRANSPORT_METHODS,
    PYLOOP_READ_METHODS,
    PYLOOP_WRITE_METHODS,
    PYLOOP_OUTPUT_METHODS,
    PYLOOP_NOARGS("write_eof", pyloop_stream_write_eof,
                  "End the writing half of the connection."),
    PYLOOP_NOARGS("_make_empty_waiter", pyloop_stream_make_empty_waiter,
                  ""),
    PYLOOP_NOARGS("_reset_empty_waiter", pyloop_stream_reset_empty_waiter,
                  ""),
    PYLOOP_NOARGS("_lend", pyloop_stream_lend, ""),
    PYLOOP_NOARGS("_take_back", pyloop_stream_take_back, ""),
    { NULL, NULL, 0, NULL }
};


static PyMemberDef pyloop_stream_members[] = {
    PYLOOP_TRANSPORT_MEMBERS,
    { NULL, 0, 0, 0, NULL }
};


static PyGetSetDef pyloop_stream_getset[] = {
    PYLOOP_TRANSPORT_GETSET,
    { "_sock", pyloop_stream_get_sock, NULL, NULL, NULL },
    { NULL, NULL, NULL, NULL, NULL }
};


static PyType_Slot pyloop_stream_slots[] = {
    PYLOOP_TRANSPORT_SLOTS,
    { Py_tp_doc, "A connection over a stream socket." },
    { Py_tp_methods, pyloop_stream_methods },
    { Py_tp_members, pyloop_stream_members },
    { Py_tp_getset, pyloop_stream_getset },
    { 0, NULL }
};


static PyType_Spec pyloop_stream_spec = {
    .name = "databridge._pyloop.StreamTransport",
    .basicsize = sizeof(pyloop_transport_t),
    .flags = PYLOOP_TRANSPORT_FLAGS,
    .slots = pyloop_stream_slots,
};


/* asyncio asks the class what its transports are good for. */

PyTypeObject *
pyloop_stream_type(PyObject *module)
{
    PyObject      *mode;
    PyTypeObject  *type;

    type = pyloop_transport_type(module, &pyloop_stream_spec, "Transport");
    if (type == NULL) {
        return NULL;
    }

    mode = pyloop_import("asyncio.constants", "_SendfileMode");
    if (mode) {
        Py_SETREF(mode, PyObject_GetAttrString(mode, "TRY_NATIVE"));
    }

    if (mode == NULL
        || PyObject_SetAttrString((PyObject *) type, "_sendfile_compatible",
                                  mode)
           == -1
        || PyObject_SetAttrString((PyObject *) type, "_start_tls_compatible",
                                  Py_True)
           == -1)
    {
        Py_CLEAR(type);
    }

    Py_XDECREF(mode);

    return type;
}
