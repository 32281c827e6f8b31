/*
 * Servers: connections are accepted here, as many at an event as the last
 * events have had; asyncio's Server knows the rest.  A connection that is
 * accepted has no socket object until someone asks for it.
 */

#include "pyloop/transport.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <unistd.h>


/* One a listening socket; the poller's handle keeps it. */

typedef struct {
    PyObject_HEAD
    pyloop_t     *loop;
    PyObject     *factory;
    PyObject     *socket;
    PyObject     *server;
    PyObject     *handle;        /* cancelled when it is no longer watched */
    int           fd;
    int           batch;         /* how many an event may have */
    uint64_t      turn;          /* of the last event */
    int           backlog;
} pyloop_listener_t;


static PyObject *pyloop_listener_ready(PyObject *op, PyObject *unused);
static int  pyloop_listener_accept(pyloop_listener_t *listener, int fd);
static int  pyloop_listener_failed(pyloop_listener_t *listener);


static PyMethodDef pyloop_listener_def = {
    "_accept_connection", pyloop_listener_ready, METH_NOARGS, NULL
};


/* The arguments: protocol factory, socket, server or None, backlog. */

PyObject *
pyloop_serve(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    int                 fd, on;
    long                backlog;
    pyloop_t           *loop;
    PyObject           *callback, *context, *handle;
    pyloop_listener_t  *listener;

    loop = (pyloop_t *) op;

    if (nargs != 4) {
        PyErr_SetString(PyExc_TypeError, "_serve() takes 4 arguments");
        return NULL;
    }

    fd = PyObject_AsFileDescriptor(args[1]);
    if (fd == -1) {
        return NULL;
    }

    backlog = PyLong_AsLong(args[3]);
    if (backlog == -1 && PyErr_Occurred()) {
        return NULL;
    }

    listener = PyObject_GC_New(pyloop_listener_t,
                               loop->state->io.listener_type);
    if (listener == NULL) {
        return NULL;
    }

    listener->loop = (pyloop_t *) Py_NewRef(op);
    listener->factory = Py_NewRef(args[0]);
    listener->socket = Py_NewRef(args[1]);
    listener->server = Py_NewRef(args[2]);
    listener->fd = fd;
    listener->batch = 1;
    listener->turn = 0;
    listener->handle = NULL;
    listener->backlog = Py_MAX(1, Py_MIN(backlog, INT_MAX / 2));

    PyObject_GC_Track(listener);

    /* for all that it accepts; a UNIX socket does not know it */
    on = 1;
    (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));

    callback = PyCFunction_New(&pyloop_listener_def, (PyObject *) listener);

    context = PyContext_CopyCurrent();

    handle = callback && context
             ? pyloop_watch(loop, fd, EPOLLIN, callback, context) : NULL;

    listener->handle = handle;

    Py_XDECREF(context);
    Py_XDECREF(callback);
    Py_DECREF(listener);

    if (handle == NULL) {
        return NULL;
    }

    Py_RETURN_NONE;
}


static PyObject *
pyloop_listener_ready(PyObject *op, PyObject *unused)
{
    int                 i, fd;
    uint64_t            turn;
    pyloop_listener_t  *listener;

    listener = (pyloop_listener_t *) op;

    /* more than one only while they come turn by turn */
    turn = listener->loop->turn;

    listener->batch = turn - listener->turn == 1
                      ? Py_MIN(2 * listener->batch, listener->backlog) : 1;
    listener->turn = turn;

    for (i = 0; i < listener->batch; i++) {

        fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK|SOCK_CLOEXEC);

        if (fd == -1) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED
                && pyloop_listener_failed(listener) == -1)
            {
                return NULL;
            }

            break;
        }

        if (pyloop_listener_accept(listener, fd) == -1) {
            return NULL;
        }

        /* the protocol factory may have closed the server */
        if (((pyloop_handle_t *) listener->handle)->cancelled == Py_True) {
            break;
        }
    }

    Py_RETURN_NONE;
}


/* What fails here is one connection's, and the loop goes on. */

static int
pyloop_listener_accept(pyloop_listener_t *listener, int fd)
{
    int        rc;
    PyObject  *protocol, *transport, *message;

    transport = NULL;

    protocol = PyObject_CallNoArgs(listener->factory);

    if (protocol) {
        transport = pyloop_stream_new(listener->loop, fd, NULL, protocol,
                                      NULL, NULL, listener->server);
        Py_DECREF(protocol);
    }

    if (transport) {
        Py_DECREF(transport);
        return 0;
    }

    (void) close(fd);

    if (PyErr_ExceptionMatches(PyExc_SystemExit)
        || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
    {
        return -1;
    }

    message = PyUnicode_InternFromString(
                     "Error on transport creation for incoming connection");
    if (message == NULL) {
        return -1;
    }

    rc = pyloop_report(listener->loop, message, NULL);
    Py_DECREF(message);

    return rc;
}


/* Out of descriptors or memory: the loop rests and tries again. */

static int
pyloop_listener_failed(pyloop_listener_t *listener)
{
    int        err;
    PyObject  *exc, *res;

    err = errno;
    PyErr_SetFromErrno(PyExc_OSError);

    if (err != EMFILE && err != ENFILE && err != ENOBUFS && err != ENOMEM) {
        return -1;
    }

    exc = pyloop_exception_take();

    res = PyObject_CallMethod((PyObject *) listener->loop, "_accept_later",
                              "OOOOi", exc, listener->factory,
                              listener->socket, listener->server,
                              listener->backlog);
    Py_DECREF(exc);
    Py_XDECREF(res);

    return res ? 0 : -1;
}


static int
pyloop_listener_traverse(PyObject *op, visitproc visit, void *arg)
{
    pyloop_listener_t  *listener;

    listener = (pyloop_listener_t *) op;

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(listener->loop);
    Py_VISIT(listener->factory);
    Py_VISIT(listener->socket);
    Py_VISIT(listener->server);
    Py_VISIT(listener->handle);

    return 0;
}


static void
pyloop_listener_dealloc(PyObject *op)
{
    PyTypeObject       *type;
    pyloop_listener_t  *listener;

    listener = (pyloop_listener_t *) op;
    type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);

    Py_XDECREF(listener->handle);
    Py_DECREF(listener->server);
    Py_DECREF(listener->socket);
    Py_DECREF(listener->factory);
    Py_DECREF(listener->loop);

    PyObject_GC_Del(op);
    Py_DECREF(type);
}


static PyType_Slot pyloop_listener_slots[] = {
    { Py_tp_doc, "Accepts the connections of a listening socket." },
    { Py_tp_traverse, pyloop_listener_traverse },
    { Py_tp_dealloc, pyloop_listener_dealloc },
    { 0, NULL }
};


PyType_Spec pyloop_listener_spec = {
    .name = "databridge._pyloop.Listener",
    .basicsize = sizeof(pyloop_listener_t),
    .flags = Py_TPFLAGS_DEFAULT|Py_TPFLAGS_HAVE_GC|Py_TPFLAGS_IMMUTABLETYPE
             |Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = pyloop_listener_slots,
};
