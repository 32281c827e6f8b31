/*
 * The types of the transports, which are asyncio's as well, and what they
 * need of the standard library; made when the module is imported.
 */

#include "pyloop/transport.h"

#include <string.h>


/*
 * Not immutable, as asyncio's classes are not: Python 3.14 refuses the
 * mixture.
 */

PyTypeObject *
pyloop_transport_type(PyObject *module, PyType_Spec *spec, const char *name)
{
    PyObject  *mixin, *base, *bases, *type;

    type = NULL;
    bases = NULL;

    mixin = pyloop_import("asyncio.transports", "_FlowControlMixin");
    base = pyloop_import("asyncio.transports", name);

    if (mixin == NULL || base == NULL) {
        goto done;
    }

    if (((PyTypeObject *) mixin)->tp_basicsize
        != offsetof(pyloop_transport_t, kind))
    {
        PyErr_Format(PyExc_ImportError, "%R has other slots than expected",
                     mixin);
        goto done;
    }

    if (pyloop_handle_layout(mixin, "_extra",
                             offsetof(pyloop_transport_t, extra)) == -1
        || pyloop_handle_layout(mixin, "_loop",
                                offsetof(pyloop_transport_t, loop)) == -1)
    {
        goto done;
    }

    /* what only reads is no Transport, which asyncio's mixin is */

    if (strcmp(name, "ReadTransport") == 0) {
        bases = PyTuple_Pack(1, base);

    } else if (PyObject_IsSubclass(mixin, base) == 1) {
        bases = PyTuple_Pack(1, mixin);

    } else {
        bases = PyTuple_Pack(2, mixin, base);
    }

    if (bases) {
        type = PyType_FromModuleAndSpec(module, spec, bases);
    }

done:

    Py_XDECREF(bases);
    Py_XDECREF(base);
    Py_XDECREF(mixin);

    return (PyTypeObject *) type;
}


/* asyncio's releases differ in it, and the older ones count the data alone. */

static int
pyloop_io_datagrams(pyloop_io_t *io)
{
    PyObject  *type, *size;

    type = pyloop_import("asyncio.selector_events",
                         "_SelectorDatagramTransport");
    if (type == NULL) {
        return -1;
    }

    size = PyObject_GetAttrString(type, "_header_size");
    Py_DECREF(type);

    if (size == NULL) {
        PyErr_Clear();
        return 0;
    }

    io->datagram_header = PyLong_AsSize_t(size);
    Py_DECREF(size);

    return PyErr_Occurred() ? -1 : 0;
}


int
pyloop_io_init(PyObject *module, pyloop_state_t *state)
{
    pyloop_io_t  *io;

    io = &state->io;

    if ((io->buffered_protocol = pyloop_import("asyncio.protocols",
                                               "BufferedProtocol")) == NULL
        || (io->socket = pyloop_import("socket", "socket")) == NULL
        || (io->transport_socket = pyloop_import("asyncio.trsock",
                                                 "TransportSocket")) == NULL
        || (io->zero = PyLong_FromLong(0)) == NULL
        || (io->minus_one = PyLong_FromLong(-1)) == NULL
        || (io->stream_type = pyloop_stream_type(module)) == NULL
        || (io->datagram_type = pyloop_datagram_type(module)) == NULL
        || (io->read_pipe_type = pyloop_read_pipe_type(module)) == NULL
        || (io->write_pipe_type = pyloop_write_pipe_type(module)) == NULL
        || pyloop_io_datagrams(io) == -1
        || pyloop_tls_init(module, io) == -1)
    {
        return -1;
    }

    io->listener_type = (PyTypeObject *)
               PyType_FromModuleAndSpec(module, &pyloop_listener_spec, NULL);

    return io->listener_type ? 0 : -1;
}


int
pyloop_io_traverse(pyloop_io_t *io, visitproc visit, void *arg)
{
    Py_VISIT(io->stream_type);
    Py_VISIT(io->datagram_type);
    Py_VISIT(io->read_pipe_type);
    Py_VISIT(io->write_pipe_type);
    Py_VISIT(io->listener_type);
    Py_VISIT(io->buffered_protocol);
    Py_VISIT(io->socket);
    Py_VISIT(io->transport_socket);
    Py_VISIT(io->tls_type);
    Py_VISIT(io->tls_transport_type);
    Py_VISIT(io->tls_wrapped);
    Py_VISIT(io->tls_again);

    return 0;
}


void
pyloop_io_clear(pyloop_io_t *io)
{
    Py_CLEAR(io->stream_type);
    Py_CLEAR(io->datagram_type);
    Py_CLEAR(io->read_pipe_type);
    Py_CLEAR(io->write_pipe_type);
    Py_CLEAR(io->listener_type);
    Py_CLEAR(io->buffered_protocol);
    Py_CLEAR(io->socket);
    Py_CLEAR(io->transport_socket);
    Py_CLEAR(io->zero);
    Py_CLEAR(io->minus_one);
    Py_CLEAR(io->tls_type);
    Py_CLEAR(io->tls_transport_type);
    Py_CLEAR(io->tls_wrapped);
    Py_CLEAR(io->tls_again);
}
