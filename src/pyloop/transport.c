/*
 * Transports: how all kinds are made, in which order their protocols hear
 * of it, how they fail and how they end.
 *
 * connection_lost() is called once, by a callback of its own, never within
 * close() or abort(): pyloop_transport_lose() is the only one to ask for it.
 */

#include "pyloop/transport.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>


static int  pyloop_transport_names(pyloop_transport_t *tr, int fd);
static int  pyloop_transport_name(pyloop_transport_t *tr,
    const char *method, const char *key, pyloop_name_t *name,
    const struct sockaddr_storage *addr, socklen_t len);
static int  pyloop_transport_soon(pyloop_transport_t *tr, PyMethodDef *def,
    PyObject *arg);
static PyObject *pyloop_transport_start(PyObject *op, PyObject *waiter);
static PyObject *pyloop_transport_lost(PyObject *op, PyObject *exc);
static void pyloop_transport_release(pyloop_transport_t *tr,
    PyObject **exc);
static void pyloop_transport_keep(PyObject **exc);
static int  pyloop_transport_fail_waiter(PyObject *waiter);
static int  pyloop_transport_quiet(pyloop_transport_t *tr, PyObject *exc);
static int  pyloop_transport_leave(pyloop_transport_t *tr, PyObject *server);
static int  pyloop_transport_close_file(pyloop_transport_t *tr);


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

    Py_XDECREF(pyloop_transport_set_protocol((PyObject *) tr, &protocol, 1,
                                             NULL));

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

    res = pyloop_transport_call(tr, state->str_connection_made, op);
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


/* The kind's method runs when the descriptor is ready. */

static int
pyloop_transport_watch(pyloop_transport_t *tr, uint32_t event,
    PyMethodDef *method)
{
    PyObject  *callback, *handle;

    callback = PyCFunction_New(method, (PyObject *) tr);
    if (callback == NULL) {
        return -1;
    }

    handle = pyloop_watch(tr->loop, tr->fd, event, callback, tr->context);
    Py_DECREF(callback);

    if (handle == NULL) {
        return -1;
    }

    Py_DECREF(handle);

    return 0;
}


int
pyloop_transport_read(pyloop_transport_t *tr)
{
    if (tr->reading || tr->ended || tr->kind->read.ml_meth == NULL) {
        return 0;
    }

    if (pyloop_transport_watch(tr, EPOLLIN,
                               (PyMethodDef *) &tr->kind->read)
        == -1)
    {
        return -1;
    }

    tr->reading = 1;
    tr->loop->polled = 0;

    return 0;
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
    if (tr->writing) {
        return 0;
    }

    if (pyloop_transport_watch(tr, EPOLLOUT,
                               (PyMethodDef *) &tr->kind->write)
        == -1)
    {
        return -1;
    }

    tr->writing = 1;

    return 0;
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


PyObject *
pyloop_transport_call(pyloop_transport_t *tr, PyObject *name, PyObject *arg)
{
    PyObject  *args[2], *res;

    args[0] = Py_NewRef(tr->protocol);
    args[1] = arg;

    res = PyObject_VectorcallMethod(name, args, arg ? 2 : 1, NULL);
    Py_DECREF(args[0]);

    return res;
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


/*
 * What waits to be written is dropped; what was only gathered is not: one
 * write after the other would have sent it.
 */

int
pyloop_transport_force_close(pyloop_transport_t *tr, PyObject *exc)
{
    if (tr->lost) {
        return 0;
    }

    if (tr->unwritten) {
        (void) pyloop_queue_write(&tr->queue, tr->fd, tr->kind->is_socket);
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

    res = pyloop_transport_call(tr, tr->loop->state->str_connection_lost,
                                exc);
    exc = res ? NULL : pyloop_exception_take();
    Py_XDECREF(res);

    pyloop_transport_release(tr, &exc);

    if (exc) {
        pyloop_exception_put(exc);
        return NULL;
    }

    Py_RETURN_NONE;
}


/*
 * After connection_lost(): the descriptor, and all that was held for it.
 * What fails keeps nothing else from going; *exc is the first exception, or
 * NULL.
 */

static void
pyloop_transport_release(pyloop_transport_t *tr, PyObject **exc)
{
    PyObject  *loop, *protocol, *waiter, *server;

    loop = (PyObject *) tr->loop;
    protocol = tr->protocol;
    waiter = tr->waiter;
    server = tr->server;

    if (pyloop_transport_close_file(tr) == -1) {
        pyloop_transport_keep(exc);
    }

    tr->loop = NULL;
    tr->protocol = NULL;
    tr->waiter = NULL;
    tr->server = NULL;

    if (waiter && pyloop_transport_fail_waiter(waiter) == -1) {
        pyloop_transport_keep(exc);
    }

    if (server && pyloop_transport_leave(tr, server) == -1) {
        pyloop_transport_keep(exc);
    }

    Py_XDECREF(server);
    Py_XDECREF(waiter);
    Py_DECREF(protocol);
    Py_DECREF(loop);
}


/* Takes the exception that is set, in vain if there is one already. */

static void
pyloop_transport_keep(PyObject **exc)
{
    if (*exc) {
        PyErr_Clear();

    } else {
        *exc = pyloop_exception_take();
    }
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
        tr->loop->polled = 0;

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


int
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


PyObject *
pyloop_transport_read_failed(pyloop_transport_t *tr, const char *message)
{
    if (errno == EAGAIN || errno == EINTR) {
        Py_RETURN_NONE;
    }

    PyErr_SetFromErrno(PyExc_OSError);

    return pyloop_transport_failed(tr, message);
}


int
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

    (void) type->tp_clear(op);
    Py_CLEAR(tr->context);
    Py_CLEAR(tr->file);
    Py_CLEAR(tr->loop);

    PyObject_GC_Del(op);
    Py_DECREF(type);
}
