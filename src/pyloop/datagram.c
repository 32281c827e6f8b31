/*
 * UDP and UNIX datagram sockets.  A datagram goes out at once, or waits for
 * room in the kernel behind those before it.  The address that came last is
 * remembered with its Python form: who answers needs no conversion.
 */

#include "pyloop/transport.h"

#include <errno.h>
#include <string.h>


#define PYLOOP_DATAGRAMS  64     /* at most at one event */


typedef struct {
    pyloop_transport_t  tr;
    PyObject           *address;     /* the only one to send to, or NULL */
    PyObject           *last;        /* which came last, or NULL */
    pyloop_name_t       last_name;   /* as the kernel has it */
    int                 batch;       /* datagrams that an event may have */
} pyloop_datagram_t;


static PyObject *pyloop_datagram_ready(PyObject *op, PyObject *unused);
static int  pyloop_datagram_receive(pyloop_datagram_t *dg);
static PyObject *pyloop_datagram_from(pyloop_datagram_t *dg,
    const struct sockaddr_storage *addr, socklen_t len);
static int  pyloop_datagram_failed(pyloop_datagram_t *dg);
static PyObject *pyloop_datagram_writable(PyObject *op, PyObject *unused);
static int  pyloop_datagram_put(pyloop_datagram_t *dg, PyObject *data,
    PyObject *address);
static int  pyloop_datagram_send(pyloop_datagram_t *dg, const void *data,
    Py_ssize_t len, PyObject *address);
static int  pyloop_datagram_send_object(pyloop_datagram_t *dg,
    const void *data, Py_ssize_t len, PyObject *address);
static PyObject *pyloop_datagram_target(pyloop_datagram_t *dg,
    PyObject *address);


static const pyloop_kind_t  pyloop_datagram_kind = {
    { "_read_ready", pyloop_datagram_ready, METH_NOARGS, NULL },
    { "_sendto_ready", pyloop_datagram_writable, METH_NOARGS, NULL },
    1,
    0
};


PyObject *
pyloop_make_datagram_transport(PyObject *op, PyObject *args,
    PyObject *kwargs)
{
    int                  fd;
    pyloop_t            *loop;
    PyObject            *sock, *protocol, *address, *waiter, *extra;
    pyloop_datagram_t   *dg;
    pyloop_transport_t  *tr;

    static char         *names[] = { "sock", "protocol", "address", "waiter",
                                     "extra", NULL };

    address = Py_None;
    waiter = Py_None;
    extra = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs,
                                     "OO|OOO:make_datagram_transport", names,
                                     &sock, &protocol, &address, &waiter,
                                     &extra))
    {
        return NULL;
    }

    fd = PyObject_AsFileDescriptor(sock);
    if (fd == -1) {
        return pyloop_transport_foreign((pyloop_t *) op,
                                        "_make_datagram_transport",
                                        args, kwargs);
    }

    loop = (pyloop_t *) op;

    tr = pyloop_transport_new(loop, loop->state->io.datagram_type,
                              &pyloop_datagram_kind, fd, sock, protocol,
                              extra);
    if (tr == NULL) {
        return NULL;
    }

    dg = (pyloop_datagram_t *) tr;
    dg->batch = 1;

    if (address != Py_None) {
        dg->address = Py_NewRef(address);
    }

    if (pyloop_transport_begin(tr, waiter) == -1) {
        pyloop_transport_abandon(tr);
        Py_CLEAR(tr);
    }

    return (PyObject *) tr;
}


/* As many as the last events have had; a look in vain is a wasted call. */

static PyObject *
pyloop_datagram_ready(PyObject *op, PyObject *unused)
{
    int                  i, rc;
    pyloop_datagram_t   *dg;
    pyloop_transport_t  *tr;

    dg = (pyloop_datagram_t *) op;
    tr = &dg->tr;

    for (i = 0; i < dg->batch && !tr->closing; i++) {

        rc = pyloop_datagram_receive(dg);

        if (rc == -1) {
            return NULL;
        }

        if (rc == 0) {
            dg->batch = 1;
            Py_RETURN_NONE;
        }
    }

    dg->batch = Py_MIN(2 * i, PYLOOP_DATAGRAMS);

    Py_RETURN_NONE;
}


/* 1 for a datagram, 0 when there is none, -1 with an exception set. */

static int
pyloop_datagram_receive(pyloop_datagram_t *dg)
{
    ssize_t                  n;
    PyObject                *args[3], *res;
    socklen_t                len;
    pyloop_transport_t      *tr;
    struct sockaddr_storage  addr;

    tr = &dg->tr;
    len = sizeof(addr);

    n = recvfrom(tr->fd, tr->loop->buffer, PYLOOP_READ_SIZE, 0,
                 (struct sockaddr *) &addr, &len);

    if (n == -1) {
        return errno == EAGAIN || errno == EINTR
               ? 0 : pyloop_datagram_failed(dg);
    }

    res = NULL;

    args[0] = Py_NewRef(tr->protocol);
    args[1] = PyBytes_FromStringAndSize(tr->loop->buffer, n);
    args[2] = pyloop_datagram_from(dg, &addr, len);

    if (args[1] && args[2]) {
        res = PyObject_VectorcallMethod(
                                    tr->loop->state->str_datagram_received,
                                    args, 3, NULL);
    }

    Py_DECREF(args[0]);
    Py_XDECREF(args[1]);
    Py_XDECREF(args[2]);
    Py_XDECREF(res);

    return res ? 1 : -1;
}


static PyObject *
pyloop_datagram_from(pyloop_datagram_t *dg,
    const struct sockaddr_storage *addr, socklen_t len)
{
    PyObject  *address;

    if (dg->last && len <= sizeof(pyloop_name_t)
        && memcmp(&dg->last_name, addr, len) == 0)
    {
        return Py_NewRef(dg->last);
    }

    address = pyloop_name_object((const struct sockaddr *) addr, len);

    if (address
        && (addr->ss_family == AF_INET || addr->ss_family == AF_INET6))
    {
        memset(&dg->last_name, 0, sizeof(pyloop_name_t));
        memcpy(&dg->last_name, addr, len);
        Py_XSETREF(dg->last, Py_NewRef(address));
    }

    return address;
}


/*
 * The exception that is set, or else errno, ends nothing: the protocol is
 * told.  1, or -1 with an exception set.
 */

static int
pyloop_datagram_failed(pyloop_datagram_t *dg)
{
    PyObject  *exc, *res;

    if (!PyErr_Occurred()) {
        PyErr_SetFromErrno(PyExc_OSError);
    }

    if (!PyErr_ExceptionMatches(PyExc_OSError)) {
        return pyloop_transport_fatal(&dg->tr,
                                "Fatal write error on datagram transport")
               == -1 ? -1 : 1;
    }

    exc = pyloop_exception_take();

    res = pyloop_transport_call(&dg->tr,
                                dg->tr.loop->state->str_error_received, exc);
    Py_DECREF(exc);
    Py_XDECREF(res);

    return res ? 1 : -1;
}


static PyObject *
pyloop_datagram_sendto(PyObject *op, PyObject *args, PyObject *kwargs)
{
    int                 rc;
    PyObject           *data, *address;
    Py_buffer           view;
    pyloop_datagram_t  *dg;

    static char        *names[] = { "data", "addr", NULL };

    dg = (pyloop_datagram_t *) op;
    address = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:sendto", names, &data,
                                     &address)
        || pyloop_output_check(&dg->tr, data) == -1)
    {
        return NULL;
    }

#if (PY_VERSION_HEX < 0x030D0000)

    /* as asyncio has it, an empty one is none */
    rc = PyObject_IsTrue(data);
    if (rc != 1) {
        return rc == -1 ? NULL : Py_NewRef(Py_None);
    }

#endif

    address = pyloop_datagram_target(dg, address);
    if (address == NULL) {
        return NULL;
    }

    /* as asyncio has it, one without a peer sends until it is gone */
    if (dg->tr.lost && (dg->address || dg->tr.loop == NULL)) {
        rc = pyloop_output_late(&dg->tr);

    } else if (dg->tr.queue.head != dg->tr.queue.tail) {
        rc = pyloop_datagram_put(dg, data, address);

    } else {
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) == -1) {
            return NULL;
        }

        rc = pyloop_datagram_send(dg, view.buf, view.len, address);

        PyBuffer_Release(&view);

        if (rc == 0 && dg->tr.lost == 0) {
            rc = pyloop_datagram_put(dg, data, address);
        }
    }

    if (rc == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


/* The address that counts; borrowed, or NULL with ValueError set. */

static PyObject *
pyloop_datagram_target(pyloop_datagram_t *dg, PyObject *address)
{
    int  same;

    if (dg->address == NULL || address == Py_None) {
        return dg->address ? dg->address : address;
    }

    same = PyObject_RichCompareBool(address, dg->address, Py_EQ);

    if (same == 0) {
        PyErr_Format(PyExc_ValueError,
                     "Invalid address: must be None or %S", dg->address);
    }

    return same == 1 ? dg->address : NULL;
}


/* 1 when it is gone or has failed, 0 when the kernel has no room, or -1. */

static int
pyloop_datagram_send(pyloop_datagram_t *dg, const void *data, Py_ssize_t len,
    PyObject *address)
{
    ssize_t               n;
    socklen_t             namelen;
    pyloop_name_t         name;
    const pyloop_name_t  *to;

    if (dg->tr.connected) {
        n = send(dg->tr.fd, data, len, MSG_NOSIGNAL);

    } else {
        if (address == dg->last && dg->last) {
            to = &dg->last_name;
            namelen = to->any.sa_family == AF_INET ? sizeof(to->in)
                                                   : sizeof(to->in6);

        } else {
            to = &name;
            namelen = pyloop_name_parse(address, dg->tr.local.any.sa_family,
                                        &name);
        }

        if (namelen == 0) {
            return pyloop_datagram_send_object(dg, data, len, address);
        }

        n = sendto(dg->tr.fd, data, len, MSG_NOSIGNAL, &to->any, namelen);
    }

    if (n != -1) {
        return 1;
    }

    return errno == EAGAIN || errno == EINTR ? 0 : pyloop_datagram_failed(dg);
}


/* An address of which the socket module has to make something. */

static int
pyloop_datagram_send_object(pyloop_datagram_t *dg, const void *data,
    Py_ssize_t len, PyObject *address)
{
    PyObject  *res;

    res = PyObject_CallMethod(dg->tr.file, "sendto", "y#O", data, len,
                              address);
    if (res) {
        Py_DECREF(res);
        return 1;
    }

    if (PyErr_ExceptionMatches(PyExc_BlockingIOError)) {
        PyErr_Clear();
        return 0;
    }

    return pyloop_datagram_failed(dg);
}


static int
pyloop_datagram_put(pyloop_datagram_t *dg, PyObject *data, PyObject *address)
{
    PyObject  *chunk;

    chunk = PyBytes_FromObject(data);

    if (chunk == NULL
        || pyloop_queue_add(&dg->tr.queue, chunk, Py_NewRef(address)) == -1)
    {
        return -1;
    }

    dg->tr.queue.size += dg->tr.loop->state->io.datagram_header;

    return pyloop_transport_write(&dg->tr) == -1
           ? -1 : pyloop_transport_pause_protocol(&dg->tr);
}


static PyObject *
pyloop_datagram_writable(PyObject *op, PyObject *unused)
{
    int                  rc;
    size_t               header;
    PyObject            *data, *address;
    pyloop_queue_t      *queue;
    pyloop_datagram_t   *dg;
    pyloop_transport_t  *tr;

    dg = (pyloop_datagram_t *) op;
    tr = &dg->tr;
    queue = &tr->queue;
    header = tr->loop->state->io.datagram_header;

    while (queue->head != queue->tail) {
        data = Py_NewRef(queue->chunks[queue->head].data);
        address = Py_NewRef(queue->chunks[queue->head].address);

        rc = pyloop_datagram_send(dg, PyBytes_AS_STRING(data),
                                  PyBytes_GET_SIZE(data), address);

        /* error_received() may have aborted us */
        if (rc != 0 && queue->head != queue->tail) {
            queue->size -= header;
            pyloop_queue_pop(queue);
        }

        Py_DECREF(address);
        Py_DECREF(data);

        if (rc == -1) {
            return NULL;
        }

        if (rc == 0) {
            break;
        }
    }

    if (pyloop_transport_resume_protocol(tr) == -1) {
        return NULL;
    }

    if (queue->head == queue->tail && tr->lost == 0
        && (tr->closing ? pyloop_transport_lose(tr, Py_None)
                        : pyloop_transport_unwrite(tr))
           == -1)
    {
        return NULL;
    }

    Py_RETURN_NONE;
}


static PyObject *
pyloop_datagram_get_sock(PyObject *op, void *unused)
{
    PyObject  *file;

    file = ((pyloop_transport_t *) op)->file;

    return Py_NewRef(file ? file : Py_None);
}


static int
pyloop_datagram_traverse(PyObject *op, visitproc visit, void *arg)
{
    pyloop_datagram_t  *dg;

    dg = (pyloop_datagram_t *) op;

    Py_VISIT(dg->address);
    Py_VISIT(dg->last);

    return pyloop_transport_traverse(op, visit, arg);
}


static int
pyloop_datagram_clear(PyObject *op)
{
    pyloop_datagram_t  *dg;

    dg = (pyloop_datagram_t *) op;

    Py_CLEAR(dg->address);
    Py_CLEAR(dg->last);

    return pyloop_transport_clear(op);
}


static PyMethodDef pyloop_datagram_methods[] = {
    PYLOOP_TRANSPORT_METHODS,
    PYLOOP_WRITE_METHODS,
    PYLOOP_KEYWORDS("sendto", pyloop_datagram_sendto, "data, addr=None",
                    "Send the data, to addr if the socket is not connected."),
    PYLOOP_NOARGS("close", pyloop_output_close,
                  "Close when what waits to be sent has been."),
    { NULL, NULL, 0, NULL }
};


static PyMemberDef pyloop_datagram_members[] = {
    PYLOOP_TRANSPORT_MEMBERS,
    { NULL, 0, 0, 0, NULL }
};


static PyGetSetDef pyloop_datagram_getset[] = {
    PYLOOP_TRANSPORT_GETSET,
    { "_sock", pyloop_datagram_get_sock, NULL, NULL, NULL },
    { NULL, NULL, NULL, NULL, NULL }
};


static PyType_Slot pyloop_datagram_slots[] = {
    { Py_tp_doc, "A datagram socket." },
    { Py_tp_traverse, pyloop_datagram_traverse },
    { Py_tp_clear, pyloop_datagram_clear },
    { Py_tp_finalize, pyloop_transport_finalize },
    { Py_tp_dealloc, pyloop_transport_dealloc },
    { Py_tp_repr, pyloop_transport_repr },
    { Py_tp_methods, pyloop_datagram_methods },
    { Py_tp_members, pyloop_datagram_members },
    { Py_tp_getset, pyloop_datagram_getset },
    { 0, NULL }
};


static PyType_Spec pyloop_datagram_spec = {
    .name = "databridge._pyloop.DatagramTransport",
    .basicsize = sizeof(pyloop_datagram_t),
    .flags = PYLOOP_TRANSPORT_FLAGS,
    .slots = pyloop_datagram_slots,
};


PyTypeObject *
pyloop_datagram_type(PyObject *module)
{
    return pyloop_transport_type(module, &pyloop_datagram_spec,
                                 "DatagramTransport");
}
