/*
 * Transports: what all kinds share.  Making and closing them, connection
 * order, flow control, extra info.
 *
 * connection_lost() is called once, by a callback of its own, never within
 * close() or abort(): pyloop_transport_lose() is the only one to ask for it.
 */

#include "pyloop/transport.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>


#define PYLOOP_HIGH_WATER  (64 * 1024)


static int  pyloop_transport_names(pyloop_transport_t *tr, int fd);
static int  pyloop_transport_name(pyloop_transport_t *tr,
    const char *method, const char *key, pyloop_name_t *name,
    const struct sockaddr_storage *addr, socklen_t len);
static int  pyloop_transport_soon(pyloop_transport_t *tr, PyMethodDef *def,
    PyObject *arg);
static PyObject *pyloop_transport_start(PyObject *op, PyObject *waiter);
static PyObject *pyloop_transport_lost(PyObject *op, PyObject *exc);
static int  pyloop_transport_release(pyloop_transport_t *tr);
static int  pyloop_transport_fail_waiter(PyObject *waiter);
static int  pyloop_transport_quiet(pyloop_transport_t *tr, PyObject *exc);
static int  pyloop_transport_leave(pyloop_transport_t *tr, PyObject *server);
static int  pyloop_transport_close_file(pyloop_transport_t *tr);
static int  pyloop_transport_tell(pyloop_transport_t *tr,
    const char *message, PyObject *exc);
static int  pyloop_transport_call(pyloop_transport_t *tr, PyObject *name,
    const char *message);
static PyObject *pyloop_transport_extra(pyloop_transport_t *tr,
    PyObject *name);


static PyMethodDef pyloop_start_def = {
    "connection_made", pyloop_transport_start, METH_O, NULL
};

static PyMethodDef pyloop_lost_def = {
    "connection_lost", pyloop_transport_lost, METH_O, NULL
};


pyloop_transport_t *
pyloop_transport_new(pyloop_t *loop, PyTypeObject *type,
    const pyloop_kind_t *kind, int fd, PyObject *file, PyObject *protocol,
    PyObject *extra)
{
    pyloop_transport_t  *tr;

    tr = PyObject_GC_New(pyloop_transport_t, type);
    if (tr == NULL) {
        return NULL;
    }

    memset((char *) tr + sizeof(PyObject), 0,
           type->tp_basicsize - sizeof(PyObject));

    tr->kind = kind;
    tr->loop = (pyloop_t *) Py_NewRef((PyObject *) loop);
    tr->file = Py_XNewRef(file);
    tr->fd = -1;
    tr->high = PYLOOP_HIGH_WATER;
    tr->low = PYLOOP_HIGH_WATER / 4;
    tr->context = PyContext_CopyCurrent();

    PyObject_GC_Track(tr);

    if (tr->context == NULL) {
        goto failed;
    }

    if (extra && extra != Py_None) {
        tr->extra = PyDict_Copy(extra);
        if (tr->extra == NULL) {
            goto failed;
        }
    }

    Py_XDECREF(pyloop_transport_set_protocol((PyObject *) tr, protocol));

    if (tr->protocol == NULL) {
        goto failed;
    }

    if (kind->is_socket && pyloop_transport_names(tr, fd) == -1) {
        goto failed;
    }

    if (pyloop_watch_own(loop, fd, tr) == -1) {
        goto failed;
    }

    tr->fd = fd;

    return tr;

failed:

    Py_CLEAR(tr->file);
    Py_DECREF(tr);

    return NULL;
}


PyObject *
pyloop_transport_foreign(pyloop_t *loop, const char *name, PyObject *args,
    PyObject *kwargs)
{
    PyObject  *method, *transport;

    if (!PyErr_ExceptionMatches(PyExc_TypeError)) {
        return NULL;
    }

    PyErr_Clear();

    method = pyloop_super(loop, name);
    if (method == NULL) {
        return NULL;
    }

    transport = PyObject_Call(method, args, kwargs);
    Py_DECREF(method);

    return transport;
}


/* They are asked for when the connection has long gone. */

static int
pyloop_transport_names(pyloop_transport_t *tr, int fd)
{
    socklen_t                len;
    struct sockaddr_storage  addr;

    len = sizeof(addr);

    if (getsockname(fd, (struct sockaddr *) &addr, &len) == -1) {
        len = 0;
    }

    if (pyloop_transport_name(tr, "getsockname", "sockname", &tr->local,
                              &addr, len)
        == -1)
    {
        return -1;
    }

    len = sizeof(addr);

    if (getpeername(fd, (struct sockaddr *) &addr, &len) == -1) {
        len = 0;
    }

    tr->connected = len > 0;

    return pyloop_transport_name(tr, "getpeername", "peername", &tr->peer,
                                 &addr, len);
}


static int
pyloop_transport_name(pyloop_transport_t *tr, const char *method,
    const char *key, pyloop_name_t *name,
    const struct sockaddr_storage *addr, socklen_t len)
{
    int        rc;
    PyObject  *value;

    if (len == 0) {
        return 0;
    }

    if (addr->ss_family == AF_INET || addr->ss_family == AF_INET6) {
        memcpy(name, addr, Py_MIN(len, sizeof(pyloop_name_t)));
        return 0;
    }

    if (tr->extra && PyDict_GetItemString(tr->extra, key)) {
        return 0;
    }

    if (addr->ss_family == AF_UNIX || tr->file == NULL) {
        value = pyloop_name_object((const struct sockaddr *) addr, len);

    } else {
        value = PyObject_CallMethod(tr->file, method, NULL);
    }

    if (value == NULL) {
        return -1;
    }

    rc = pyloop_transport_set_extra(tr, key, value);
    Py_DECREF(value);

    return rc;
}


int
pyloop_transport_set_extra(pyloop_transport_t *tr, const char *name,
    PyObject *value)
{
    if (tr->extra == NULL) {
        tr->extra = PyDict_New();
        if (tr->extra == NULL) {
            return -1;
        }
    }

    return PyDict_SetItemString(tr->extra, name, value);
}


void
pyloop_transport_abandon(pyloop_transport_t *tr)
{
    PyObject  *exc;

    exc = pyloop_exception_take();

    pyloop_watch_disown(tr->loop, tr->fd, tr);
    tr->fd = -1;
    Py_CLEAR(tr->file);

    if (tr->server && pyloop_transport_leave(tr, tr->server) == -1) {
        PyErr_Clear();
    }

    pyloop_exception_put(exc);
}


static int
pyloop_transport_soon(pyloop_transport_t *tr, PyMethodDef *def, PyObject *arg)
{
    PyObject  *callback;

    if (pyloop_check_closed(tr->loop) == -1) {
        return -1;
    }

    callback = PyCFunction_New(def, (PyObject *) tr);
    if (callback == NULL) {
        return -1;
    }

    return pyloop_ready_add(&tr->loop->ready, callback, Py_NewRef(arg),
                            Py_NewRef(tr->context));
}


int
pyloop_transport_begin(pyloop_transport_t *tr, PyObject *waiter)
{
    return pyloop_transport_soon(tr, &pyloop_start_def,
                                 waiter ? waiter : Py_None);
}


/* What connection_made() raises is reported, and ends nothing. */

static PyObject *
pyloop_transport_start(PyObject *op, PyObject *waiter)
{
    int                  rc;
    PyObject            *res, *done, *exc;
    pyloop_state_t      *state;
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    if (tr->loop == NULL) {
        Py_RETURN_NONE;
    }

    state = tr->loop->state;

    res = PyObject_CallMethodOneArg(tr->protocol, state->str_connection_made,
                                    op);
    exc = res ? NULL : pyloop_exception_take();
    Py_XDECREF(res);

    rc = 0;

    if (!tr->closing && !tr->paused) {
        rc = pyloop_transport_read(tr);
    }

    if (rc == 0 && waiter != Py_None) {
        done = PyObject_CallMethod(waiter, "cancelled", NULL);
        rc = done ? PyObject_IsTrue(done) : -1;
        Py_XDECREF(done);

        if (rc == 0) {
            res = PyObject_CallMethod(waiter, "set_result", "O", Py_None);
            rc = res ? 0 : -1;
            Py_XDECREF(res);
        }
    }

    if (exc) {
        pyloop_exception_put(exc);
        return NULL;
    }

    if (rc == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


int
pyloop_transport_read(pyloop_transport_t *tr)
{
    PyObject  *callback;

    if (tr->reading || tr->ended || tr->kind->read.ml_meth == NULL) {
        return 0;
    }

    callback = PyCFunction_New((PyMethodDef *) &tr->kind->read,
                               (PyObject *) tr);
    if (callback == NULL) {
        return -1;
    }

    if (pyloop_watch(tr->loop, tr->fd, EPOLLIN, callback, tr->context)) {
        tr->reading = 1;
    }

    Py_DECREF(callback);

    return tr->reading ? 0 : -1;
}


int
pyloop_transport_unread(pyloop_transport_t *tr)
{
    if (!tr->reading) {
        return 0;
    }

    tr->reading = 0;

    return pyloop_unwatch(tr->loop, tr->fd, EPOLLIN);
}


int
pyloop_transport_write(pyloop_transport_t *tr)
{
    PyObject  *callback;

    if (tr->writing) {
        return 0;
    }

    callback = PyCFunction_New((PyMethodDef *) &tr->kind->write,
                               (PyObject *) tr);
    if (callback == NULL) {
        return -1;
    }

    if (pyloop_watch(tr->loop, tr->fd, EPOLLOUT, callback, tr->context)) {
        tr->writing = 1;
    }

    Py_DECREF(callback);

    return tr->writing ? 0 : -1;
}


int
pyloop_transport_unwrite(pyloop_transport_t *tr)
{
    if (!tr->writing) {
        return 0;
    }

    tr->writing = 0;

    return pyloop_unwatch(tr->loop, tr->fd, EPOLLOUT);
}


int
pyloop_transport_lose(pyloop_transport_t *tr, PyObject *exc)
{
    tr->closing = 1;

    if (pyloop_transport_unread(tr) == -1
        || pyloop_transport_unwrite(tr) == -1)
    {
        return -1;
    }

    tr->lost++;

    return pyloop_transport_soon(tr, &pyloop_lost_def, exc);
}


/* What waits to be written is dropped. */

int
pyloop_transport_force_close(pyloop_transport_t *tr, PyObject *exc)
{
    if (tr->lost) {
        return 0;
    }

    pyloop_queue_clear(&tr->queue);

    return pyloop_transport_lose(tr, exc);
}


static PyObject *
pyloop_transport_lost(PyObject *op, PyObject *exc)
{
    PyObject            *res;
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    if (tr->loop == NULL) {
        Py_RETURN_NONE;
    }

    res = PyObject_CallMethodOneArg(tr->protocol,
                                    tr->loop->state->str_connection_lost,
                                    exc);
    exc = res ? NULL : pyloop_exception_take();

    if (pyloop_transport_release(tr) == -1) {
        Py_CLEAR(res);
    }

    if (exc) {
        pyloop_exception_put(exc);
    }

    return res;
}


/* After connection_lost(): the descriptor, and all that was held for it. */

static int
pyloop_transport_release(pyloop_transport_t *tr)
{
    int        rc;
    PyObject  *loop, *protocol, *waiter, *server;

    loop = (PyObject *) tr->loop;
    protocol = tr->protocol;
    waiter = tr->waiter;
    server = tr->server;

    rc = pyloop_transport_close_file(tr);

    tr->loop = NULL;
    tr->protocol = NULL;
    tr->waiter = NULL;
    tr->server = NULL;

    if (waiter && pyloop_transport_fail_waiter(waiter) == -1) {
        rc = -1;
    }

    if (server && pyloop_transport_leave(tr, server) == -1) {
        rc = -1;
    }

    Py_XDECREF(server);
    Py_XDECREF(waiter);
    Py_DECREF(protocol);
    Py_DECREF(loop);

    return rc;
}


static int
pyloop_transport_fail_waiter(PyObject *waiter)
{
    int        done;
    PyObject  *res, *exc;

    res = PyObject_CallMethod(waiter, "done", NULL);
    done = res ? PyObject_IsTrue(res) : -1;
    Py_XDECREF(res);

    if (done) {
        return done == 1 ? 0 : -1;
    }

    exc = PyObject_CallFunction(PyExc_ConnectionError, "s",
                                "Connection is closed by peer");
    if (exc == NULL) {
        return -1;
    }

    res = PyObject_CallMethod(waiter, "set_exception", "O", exc);
    Py_DECREF(exc);
    Py_XDECREF(res);

    return res ? 0 : -1;
}


/* A server counts its transports, and from 3.13 on it knows them. */

static int
pyloop_transport_leave(pyloop_transport_t *tr, PyObject *server)
{
    PyObject  *res;

#if (PY_VERSION_HEX >= 0x030D0000)
    res = PyObject_CallMethod(server, "_detach", "O", (PyObject *) tr);
#else
    res = PyObject_CallMethod(server, "_detach", NULL);
#endif

    Py_XDECREF(res);

    return res ? 0 : -1;
}


int
pyloop_transport_join(pyloop_transport_t *tr, PyObject *server)
{
    PyObject  *res;

#if (PY_VERSION_HEX >= 0x030D0000)
    res = PyObject_CallMethod(server, "_attach", "O", (PyObject *) tr);
#else
    res = PyObject_CallMethod(server, "_attach", NULL);
#endif

    if (res == NULL) {
        return -1;
    }

    Py_DECREF(res);
    tr->server = Py_NewRef(server);

    return 0;
}


static int
pyloop_transport_close_file(pyloop_transport_t *tr)
{
    int        fd;
    PyObject  *file, *res;

    fd = tr->fd;

    if (fd == -1) {
        return 0;
    }

    tr->fd = -1;

    /* who has borrowed it may watch it still */

    if (tr->loop) {
        pyloop_watch_disown(tr->loop, fd, tr);

        if (pyloop_unwatch(tr->loop, fd, EPOLLIN) == -1
            || pyloop_unwatch(tr->loop, fd, EPOLLOUT) == -1)
        {
            PyErr_WriteUnraisable((PyObject *) tr);
        }
    }

    file = tr->file;
    tr->file = NULL;

    if (file == NULL) {
        (void) close(fd);
        return 0;
    }

    res = PyObject_CallMethod(file, "close", NULL);
    Py_DECREF(file);
    Py_XDECREF(res);

    return res ? 0 : -1;
}


PyObject *
pyloop_exception_take(void)
{
#if (PY_VERSION_HEX >= 0x030C0000)

    return PyErr_GetRaisedException();

#else

    PyObject  *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);

    if (traceback) {
        (void) PyException_SetTraceback(value, traceback);
        Py_DECREF(traceback);
    }

    Py_DECREF(type);

    return value;

#endif
}


/* Takes the reference. */

void
pyloop_exception_put(PyObject *exc)
{
    PyErr_SetObject((PyObject *) Py_TYPE(exc), exc);
    Py_DECREF(exc);
}


static int
pyloop_exception_ends_loop(void)
{
    return PyErr_ExceptionMatches(PyExc_SystemExit)
           || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
}


int
pyloop_transport_fatal(pyloop_transport_t *tr, const char *message)
{
    int        rc;
    PyObject  *exc;

    if (pyloop_exception_ends_loop()) {
        return -1;
    }

    exc = pyloop_exception_take();

    rc = pyloop_transport_quiet(tr, exc)
         ? 0 : pyloop_transport_tell(tr, message, exc);

    if (pyloop_transport_force_close(tr, exc) == -1) {
        rc = -1;
    }

    Py_DECREF(exc);

    return rc;
}


/* A peer that goes is no news; of a pipe's errors only a terminal's is. */

static int
pyloop_transport_quiet(pyloop_transport_t *tr, PyObject *exc)
{
    int        quiet;
    PyObject  *number;

    if (!PyObject_TypeCheck(exc, (PyTypeObject *) PyExc_OSError)) {
        return 0;
    }

    if (!tr->kind->is_loud) {
        return 1;
    }

    number = PyObject_GetAttrString(exc, "errno");
    quiet = number && PyLong_Check(number) && PyLong_AsLong(number) == EIO;

    Py_XDECREF(number);
    PyErr_Clear();

    return quiet;
}


PyObject *
pyloop_transport_failed(pyloop_transport_t *tr, const char *message)
{
    if (pyloop_transport_fatal(tr, message) == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


static int
pyloop_transport_tell(pyloop_transport_t *tr, const char *message,
    PyObject *exc)
{
    PyObject  *context, *res;

    context = Py_BuildValue("{sssOsOsO}", "message", message,
                            "exception", exc,
                            "transport", (PyObject *) tr,
                            "protocol", tr->protocol);
    if (context == NULL) {
        return -1;
    }

    res = PyObject_CallMethodOneArg((PyObject *) tr->loop,
                               tr->loop->state->str_call_exception_handler,
                               context);
    Py_DECREF(context);
    Py_XDECREF(res);

    return res ? 0 : -1;
}


int
pyloop_transport_pause_protocol(pyloop_transport_t *tr)
{
    if (tr->full || tr->queue.size <= tr->high || tr->loop == NULL) {
        return 0;
    }

    tr->full = 1;

    return pyloop_transport_call(tr, tr->loop->state->str_pause_writing,
                                 "protocol.pause_writing() failed");
}


int
pyloop_transport_resume_protocol(pyloop_transport_t *tr)
{
    if (!tr->full || tr->queue.size > tr->low || tr->loop == NULL) {
        return 0;
    }

    tr->full = 0;

    return pyloop_transport_call(tr, tr->loop->state->str_resume_writing,
                                 "protocol.resume_writing() failed");
}


static int
pyloop_transport_call(pyloop_transport_t *tr, PyObject *name,
    const char *message)
{
    int        rc;
    PyObject  *res, *exc;

    res = PyObject_CallMethodNoArgs(tr->protocol, name);

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
pyloop_transport_set_protocol(PyObject *op, PyObject *protocol)
{
    int                  buffered;
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    if (tr->loop == NULL) {
        Py_RETURN_NONE;
    }

    buffered = PyObject_IsInstance(protocol,
                                   tr->loop->state->io.buffered_protocol);
    if (buffered == -1) {
        return NULL;
    }

    tr->buffered = buffered;
    Py_XSETREF(tr->protocol, Py_NewRef(protocol));

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


int
pyloop_transport_traverse(PyObject *op, visitproc visit, void *arg)
{
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(tr->dict);
    Py_VISIT(tr->extra);
    Py_VISIT(tr->loop);
    Py_VISIT(tr->protocol);
    Py_VISIT(tr->context);
    Py_VISIT(tr->file);
    Py_VISIT(tr->server);
    Py_VISIT(tr->waiter);

    return pyloop_queue_visit(&tr->queue, visit, arg);
}


int
pyloop_transport_clear(PyObject *op)
{
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    Py_CLEAR(tr->dict);
    Py_CLEAR(tr->extra);
    Py_CLEAR(tr->protocol);
    Py_CLEAR(tr->server);
    Py_CLEAR(tr->waiter);
    pyloop_queue_clear(&tr->queue);

    return 0;
}


/* Whom no one has closed. */

void
pyloop_transport_finalize(PyObject *op)
{
    PyObject            *type, *value, *traceback;
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;

    if (tr->fd == -1) {
        return;
    }

    PyErr_Fetch(&type, &value, &traceback);

    if (PyErr_ResourceWarning(op, 1, "unclosed transport %R", op) == -1) {
        PyErr_WriteUnraisable(op);
    }

    if (pyloop_transport_close_file(tr) == -1) {
        PyErr_WriteUnraisable(op);
    }

    PyErr_Restore(type, value, traceback);
}


void
pyloop_transport_dealloc(PyObject *op)
{
    PyTypeObject        *type;
    pyloop_transport_t  *tr;

    tr = (pyloop_transport_t *) op;
    type = Py_TYPE(op);

    if (PyObject_CallFinalizerFromDealloc(op) == -1) {
        return;
    }

    PyObject_GC_UnTrack(op);

    if (tr->weakrefs) {
        PyObject_ClearWeakRefs(op);
    }

    (void) pyloop_transport_clear(op);
    Py_CLEAR(tr->context);
    Py_CLEAR(tr->file);
    Py_CLEAR(tr->loop);

    PyObject_GC_Del(op);
    Py_DECREF(type);
}


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

    bases = PyObject_IsSubclass(mixin, base) == 1
            ? PyTuple_Pack(1, mixin) : PyTuple_Pack(2, mixin, base);

    if (bases) {
        type = PyType_FromModuleAndSpec(module, spec, bases);
    }

done:

    Py_XDECREF(bases);
    Py_XDECREF(base);
    Py_XDECREF(mixin);

    return (PyTypeObject *) type;
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
        || (io->minus_one = PyLong_FromLong(-1)) == NULL
        || (io->stream_type = pyloop_stream_type(module)) == NULL
        || (io->datagram_type = pyloop_datagram_type(module)) == NULL
        || (io->read_pipe_type = pyloop_read_pipe_type(module)) == NULL
        || (io->write_pipe_type = pyloop_write_pipe_type(module)) == NULL)
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
    Py_CLEAR(io->minus_one);
}
