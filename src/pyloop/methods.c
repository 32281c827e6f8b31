/*
 * The methods that transports have in common, on the loop's thread: extra
 * info, the protocol, pausing to read, and flow control with asyncio's water
 * marks.
 */

#include "pyloop/transport.h"

#include <string.h>


static int  pyloop_transport_flow(pyloop_transport_t *tr, PyObject *name,
    const char *message);
static PyObject *pyloop_transport_extra(pyloop_transport_t *tr,
    PyObject *name);
static const char *pyloop_transport_class(PyObject *op);


int
pyloop_transport_pause_protocol(pyloop_transport_t *tr)
{
    if (tr->full || tr->queue.size <= tr->high || tr->loop == NULL) {
        return 0;
    }

    tr->full = 1;

    return pyloop_transport_flow(tr, tr->loop->state->str_pause_writing,
                                 "protocol.pause_writing() failed");
}


int
pyloop_transport_resume_protocol(pyloop_transport_t *tr)
{
    if (!tr->full || tr->queue.size > tr->low || tr->loop == NULL) {
        return 0;
    }

    tr->full = 0;

    return pyloop_transport_flow(tr, tr->loop->state->str_resume_writing,
                                 "protocol.resume_writing() failed");
}


static int
pyloop_transport_flow(pyloop_transport_t *tr, PyObject *name,
    const char *message)
{
    int        rc;
    PyObject  *res, *exc;

    res = pyloop_transport_call(tr, name, NULL);

    if (res) {
        Py_DECREF(res);
        return 0;
    }

    if (pyloop_exception_ends_loop()) {
        return -1;
    }

    exc = pyloop_exception_take();

    rc = tr->loop ? pyloop_transport_tell(tr, message, exc) : 0;

    Py_DECREF(exc);

    return rc;
}


int
pyloop_transport_deaf(pyloop_transport_t *tr)
{
    if (tr->closing || !tr->paused) {
        return tr->closing;
    }

    return pyloop_transport_unread(tr) == -1 ? -1 : 1;
}


PyObject *
pyloop_transport_receive(pyloop_transport_t *tr, PyObject *data)
{
    PyObject  *res;

    res = pyloop_transport_call(tr, tr->loop->state->str_data_received, data);
    Py_DECREF(data);

    if (res == NULL) {
        return pyloop_transport_failed(tr,
                       "Fatal error: protocol.data_received() call failed.");
    }

    return res;
}


PyObject *
pyloop_transport_file(pyloop_transport_t *tr)
{
    PyObject  *type, *file, *res;

    if (tr->file || tr->fd == -1) {
        return tr->file ? tr->file : Py_None;
    }

    type = tr->loop->state->io.socket;

    file = PyObject_CallFunction(type, "iiii", -1, -1, -1, tr->fd);
    if (file == NULL) {
        return NULL;
    }

    res = PyObject_CallMethod(file, "setblocking", "O", Py_False);

    if (res == NULL) {
        Py_XDECREF(PyObject_CallMethod(file, "detach", NULL));
        Py_DECREF(file);
        return NULL;
    }

    Py_DECREF(res);
    tr->file = file;

    return file;
}


static PyObject *
pyloop_transport_extra(pyloop_transport_t *tr, PyObject *name)
{
    PyObject  *file;

    if (PyUnicode_CompareWithASCIIString(name, "sockname") == 0) {
        return pyloop_name_object(&tr->local.any, sizeof(tr->local));
    }

    if (PyUnicode_CompareWithASCIIString(name, "peername") == 0) {
        return pyloop_name_object(&tr->peer.any, sizeof(tr->peer));
    }

    if (PyUnicode_CompareWithASCIIString(name, "socket") != 0) {
        return NULL;
    }

    file = pyloop_transport_file(tr);

    if (file == NULL || file == Py_None) {
        return Py_XNewRef(file);
    }

    return PyObject_CallOneArg(tr->loop->state->io.transport_socket, file);
}


PyObject *
pyloop_transport_get_extra_info(PyObject *op, PyObject *args,
    PyObject *kwargs)
{
    int                  rc;
    PyObject            *value, *name, *missing;
    pyloop_transport_t  *tr;

    static char         *names[] = { "name", "default", NULL };

    tr = (pyloop_transport_t *) op;
    missing = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:get_extra_info",
                                     names, &name, &missing))
    {
        return NULL;
    }

    /* who shuts it down or writes to it expects what was written first */
    if (tr->unwritten && tr->kind->is_socket && PyUnicode_Check(name)
        && PyUnicode_CompareWithASCIIString(name, "socket") == 0
        && pyloop_output_flush(tr) == -1)
    {
        return NULL;
    }

    if (tr->extra) {
        value = PyDict_GetItemWithError(tr->extra, name);
        if (value || PyErr_Occurred()) {
            return Py_XNewRef(value);
        }
    }

    if (!tr->kind->is_socket || !PyUnicode_Check(name)) {
        return Py_NewRef(missing);
    }

    value = pyloop_transport_extra(tr, name);

    if (value == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(missing);
    }

    if (tr->extra == NULL) {
        tr->extra = PyDict_New();
    }

    rc = tr->extra ? PyDict_SetItem(tr->extra, name, value) : -1;

    if (rc == -1) {
        Py_CLEAR(value);
    }

    return value;
}


PyObject *
pyloop_transport_is_closing(PyObject *op, PyObject *unused)
{
    return PyBool_FromLong(((pyloop_transport_t *) op)->closing);
}


PyObject *
pyloop_transport_is_reading(PyObject *op, PyObject *unused)
{
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    return PyBool_FromLong(!tr->paused && !tr->closing);
}


/*
 * The poller goes on watching until something arrives: who resumes in time
 * spares the kernel two calls.
 */

PyObject *
pyloop_transport_pause_reading(PyObject *op, PyObject *unused)
{
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    if (!tr->closing) {
        tr->paused = 1;
    }

    Py_RETURN_NONE;
}


PyObject *
pyloop_transport_resume_reading(PyObject *op, PyObject *unused)
{
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    if (tr->closing || !tr->paused) {
        Py_RETURN_NONE;
    }

    tr->paused = 0;

    if (pyloop_transport_read(tr) == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


PyObject *
pyloop_transport_get_protocol(PyObject *op, PyObject *unused)
{
    PyObject  *protocol;

    protocol = ((pyloop_transport_t *) op)->protocol;

    return Py_NewRef(protocol ? protocol : Py_None);
}


PyObject *
pyloop_transport_set_protocol(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs, PyObject *kwnames)
{
    int                  buffered;
    PyObject            *protocol;
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    protocol = pyloop_argument("set_protocol", "protocol", args, nargs,
                               kwnames);
    if (protocol == NULL) {
        return NULL;
    }

    if (tr->loop == NULL) {
        Py_RETURN_NONE;
    }

    buffered = PyObject_IsInstance(protocol,
                                   tr->loop->state->io.buffered_protocol);
    if (buffered == -1) {
        return NULL;
    }

    tr->buffered = buffered;
    tr->tls = PyObject_TypeCheck(protocol, tr->loop->state->io.tls_type);
    Py_XSETREF(tr->protocol, Py_NewRef(protocol));

    if (tr->kind->is_socket) {
        /* the new one has not heard of it: resume_reading() tells it */
        tr->ended = 0;
    }

    Py_RETURN_NONE;
}


PyObject *
pyloop_transport_get_write_buffer_size(PyObject *op, PyObject *unused)
{
    return PyLong_FromSize_t(((pyloop_transport_t *) op)->queue.size);
}


PyObject *
pyloop_transport_get_write_buffer_limits(PyObject *op, PyObject *unused)
{
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    return Py_BuildValue("nn", (Py_ssize_t) tr->low, (Py_ssize_t) tr->high);
}


PyObject *
pyloop_transport_set_write_buffer_limits(PyObject *op, PyObject *args,
    PyObject *kwargs)
{
    PyObject            *limits[2];
    Py_ssize_t           high, low;
    pyloop_transport_t  *tr;

    static char         *names[] = { "high", "low", NULL };

    tr = (pyloop_transport_t *) op;

    limits[0] = Py_None;
    limits[1] = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs,
                                     "|OO:set_write_buffer_limits", names,
                                     &limits[0], &limits[1]))
    {
        return NULL;
    }

    low = 0;
    high = PYLOOP_HIGH_WATER;

    if (limits[1] != Py_None) {
        low = PyNumber_AsSsize_t(limits[1], NULL);
        high = low > PY_SSIZE_T_MAX / 4 ? PY_SSIZE_T_MAX : 4 * low;
    }

    if (limits[0] != Py_None) {
        high = PyNumber_AsSsize_t(limits[0], NULL);
    }

    if (PyErr_Occurred()) {
        return NULL;
    }

    if (limits[1] == Py_None) {
        low = high / 4;
    }

    if (low < 0 || high < low) {
        PyErr_Format(PyExc_ValueError,
                     "high (%zd) must be >= low (%zd) must be >= 0", high,
                     low);
        return NULL;
    }

    tr->high = high;
    tr->low = low;

    if (pyloop_transport_pause_protocol(tr) == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


PyObject *
pyloop_transport_abort(PyObject *op, PyObject *unused)
{
    if (pyloop_transport_force_close((pyloop_transport_t *) op, Py_None)
        == -1)
    {
        return NULL;
    }

    Py_RETURN_NONE;
}


PyObject *
pyloop_transport_force_close_method(PyObject *op, PyObject *exc)
{
    if (pyloop_transport_force_close((pyloop_transport_t *) op, exc) == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


/* The name of the type without its module. */

static const char *
pyloop_transport_class(PyObject *op)
{
    const char  *dot;

    dot = strrchr(Py_TYPE(op)->tp_name, '.');

    return dot ? dot + 1 : Py_TYPE(op)->tp_name;
}


PyObject *
pyloop_transport_repr(PyObject *op)
{
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    return PyUnicode_FromFormat("<%s%s fd=%d read=%s write=<%s, bufsize=%zu>>",
                                pyloop_transport_class(op),
                                tr->loop == NULL ? " closed"
                                : tr->closing ? " closing" : " open",
                                tr->fd,
                                tr->reading && !tr->paused ? "polling"
                                                           : "idle",
                                tr->writing ? "polling" : "idle",
                                tr->queue.size);
}
