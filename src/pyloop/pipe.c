/*
 * Pipes, terminals and whatever else a subprocess is spoken to through: two
 * types, one for each direction.  The writing end is watched for the reader
 * to go, where the kernel tells of it.
 */

#include "pyloop/transport.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>


static PyObject *pyloop_pipe_make(PyObject *op, PyObject *args,
    PyObject *kwargs, int writes);
static int  pyloop_pipe_open(int fd, int writes, mode_t *mode);
static PyObject *pyloop_pipe_ready(PyObject *op, PyObject *unused);
static PyObject *pyloop_pipe_ended(pyloop_transport_t *tr);
static PyObject *pyloop_pipe_hangup(PyObject *op, PyObject *unused);


static const pyloop_kind_t  pyloop_read_pipe_kind = {
    { "_read_ready", pyloop_pipe_ready, METH_NOARGS, NULL },
    { NULL, NULL, 0, NULL },
    0,
    1
};

static const pyloop_kind_t  pyloop_write_pipe_kind = {
    { "_read_ready", pyloop_pipe_hangup, METH_NOARGS, NULL },
    { "_write_ready", pyloop_output_ready, METH_NOARGS, NULL },
    0,
    0
};


PyObject *
pyloop_make_read_pipe_transport(PyObject *op, PyObject *args,
    PyObject *kwargs)
{
    return pyloop_pipe_make(op, args, kwargs, 0);
}


PyObject *
pyloop_make_write_pipe_transport(PyObject *op, PyObject *args,
    PyObject *kwargs)
{
    return pyloop_pipe_make(op, args, kwargs, 1);
}


static PyObject *
pyloop_pipe_make(PyObject *op, PyObject *args, PyObject *kwargs, int writes)
{
    int                  fd;
    mode_t               mode;
    pyloop_t            *loop;
    PyObject            *pipe, *protocol, *waiter, *extra;
    pyloop_state_t      *state;
    pyloop_transport_t  *tr;

    static char         *names[] = { "pipe", "protocol", "waiter", "extra",
                                     NULL };

    waiter = Py_None;
    extra = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs,
                                     "OO|OO:make_pipe_transport", names,
                                     &pipe, &protocol, &waiter, &extra))
    {
        return NULL;
    }

    fd = PyObject_AsFileDescriptor(pipe);

    if (fd == -1 || pyloop_pipe_open(fd, writes, &mode) == -1) {
        return NULL;
    }

    loop = (pyloop_t *) op;
    state = loop->state;

    tr = pyloop_transport_new(loop, writes ? state->io.write_pipe_type
                                           : state->io.read_pipe_type,
                              writes ? &pyloop_write_pipe_kind
                                     : &pyloop_read_pipe_kind,
                              fd, pipe, protocol, extra);
    if (tr == NULL) {
        return NULL;
    }

    /* a terminal or a device that is written to tells of nothing */
    tr->ended = writes && S_ISCHR(mode);

    if (pyloop_transport_set_extra(tr, "pipe", pipe) == -1
        || pyloop_transport_begin(tr, waiter) == -1)
    {
        pyloop_transport_abandon(tr);
        Py_CLEAR(tr);
    }

    return (PyObject *) tr;
}


static int
pyloop_pipe_open(int fd, int writes, mode_t *mode)
{
    int          flags;
    struct stat  st;

    if (fstat(fd, &st) == -1) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }

    if (!S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode)
        && !S_ISCHR(st.st_mode))
    {
        PyErr_SetString(PyExc_ValueError,
                        writes ? "Pipe transport is only for pipes, sockets "
                                 "and character devices"
                               : "Pipe transport is for pipes/sockets only.");
        return -1;
    }

    flags = fcntl(fd, F_GETFL);

    if (flags == -1 || fcntl(fd, F_SETFL, flags|O_NONBLOCK) == -1) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }

    *mode = st.st_mode;

    return 0;
}


static PyObject *
pyloop_pipe_ready(PyObject *op, PyObject *unused)
{
    int                  rc;
    ssize_t              n;
    PyObject            *data, *res;
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    rc = pyloop_transport_deaf(tr);
    if (rc) {
        return rc == -1 ? NULL : Py_NewRef(Py_None);
    }

    n = read(tr->fd, tr->loop->buffer, PYLOOP_READ_SIZE);

    if (n == -1) {
        return pyloop_transport_read_failed(tr,
                                       "Fatal read error on pipe transport");
    }

    if (n == 0) {
        return pyloop_pipe_ended(tr);
    }

    data = PyBytes_FromStringAndSize(tr->loop->buffer, n);
    if (data == NULL) {
        return NULL;
    }

    /* as on asyncio's loop, what it raises is reported and ends nothing */
    res = pyloop_transport_call(tr, tr->loop->state->str_data_received, data);
    Py_DECREF(data);

    return res;
}


/* eof_received() has no say here: a pipe has one direction. */

static PyObject *
pyloop_pipe_ended(pyloop_transport_t *tr)
{
    if (pyloop_transport_lose(tr, Py_None) == -1) {
        return NULL;
    }

    return pyloop_transport_call(tr, tr->loop->state->str_eof_received, NULL);
}


/* The reader has gone, or the pipe is a socket and someone writes to us. */

static PyObject *
pyloop_pipe_hangup(PyObject *op, PyObject *unused)
{
    PyObject            *exc;
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    if (tr->closing) {
        Py_RETURN_NONE;
    }

    if (tr->queue.size == 0) {
        return pyloop_output_close(op, NULL);
    }

    exc = PyObject_CallNoArgs(PyExc_BrokenPipeError);

    if (exc == NULL || pyloop_transport_force_close(tr, exc) == -1) {
        Py_XDECREF(exc);
        return NULL;
    }

    Py_DECREF(exc);

    Py_RETURN_NONE;
}


static PyMethodDef pyloop_read_pipe_methods[] = {
    PYLOOP_TRANSPORT_METHODS,
    PYLOOP_READ_METHODS,
    PYLOOP_NOARGS("close", pyloop_output_close, "Close the pipe."),
    { NULL, NULL, 0, NULL }
};


static PyMethodDef pyloop_write_pipe_methods[] = {
    PYLOOP_TRANSPORT_METHODS,
    PYLOOP_WRITE_METHODS,
    PYLOOP_OUTPUT_METHODS,
    PYLOOP_NOARGS("write_eof", pyloop_output_close, "The same as close()."),
    { NULL, NULL, 0, NULL }
};


static PyMemberDef pyloop_pipe_members[] = {
    PYLOOP_TRANSPORT_MEMBERS,
    { "_pipe", T_OBJECT, offsetof(pyloop_transport_t, file), READONLY, NULL },
    { NULL, 0, 0, 0, NULL }
};


static PyGetSetDef pyloop_pipe_getset[] = {
    PYLOOP_TRANSPORT_GETSET,
    { NULL, NULL, NULL, NULL, NULL }
};


static PyType_Slot pyloop_read_pipe_slots[] = {
    PYLOOP_TRANSPORT_SLOTS,
    { Py_tp_doc, "The reading end of a pipe." },
    { Py_tp_methods, pyloop_read_pipe_methods },
    { Py_tp_members, pyloop_pipe_members },
    { Py_tp_getset, pyloop_pipe_getset },
    { 0, NULL }
};


static PyType_Slot pyloop_write_pipe_slots[] = {
    PYLOOP_TRANSPORT_SLOTS,
    { Py_tp_doc, "The writing end of a pipe." },
    { Py_tp_methods, pyloop_write_pipe_methods },
    { Py_tp_members, pyloop_pipe_members },
    { Py_tp_getset, pyloop_pipe_getset },
    { 0, NULL }
};


static PyType_Spec pyloop_read_pipe_spec = {
    .name = "databridge._pyloop.ReadPipeTransport",
    .basicsize = sizeof(pyloop_transport_t),
    .flags = PYLOOP_TRANSPORT_FLAGS,
    .slots = pyloop_read_pipe_slots,
};


static PyType_Spec pyloop_write_pipe_spec = {
    .name = "databridge._pyloop.WritePipeTransport",
    .basicsize = sizeof(pyloop_transport_t),
    .flags = PYLOOP_TRANSPORT_FLAGS,
    .slots = pyloop_write_pipe_slots,
};


PyTypeObject *
pyloop_read_pipe_type(PyObject *module)
{
    return pyloop_transport_type(module, &pyloop_read_pipe_spec,
                                 "ReadTransport");
}


PyTypeObject *
pyloop_write_pipe_type(PyObject *module)
{
    return pyloop_transport_type(module, &pyloop_write_pipe_spec,
                                 "WriteTransport");
}
