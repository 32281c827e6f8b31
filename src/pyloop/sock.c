/*
 * Sockets that Python holds, on the loop's thread: what sock_recv() and its
 * like try at once, with the GIL held and never waiting, and the Futures that
 * they wait for when there is nothing yet; connecting without a wait for a
 * neighbour.
 */

#include "pyloop/transport.h"

#include <errno.h>
#include <sys/epoll.h>


static int  pyloop_sock_number(pyloop_t *loop, PyObject *sock);
static int  pyloop_sock_again(void);
static PyObject *pyloop_sock_receive(pyloop_t *loop, int fd,
    Py_ssize_t size);


/* The family of a host and a port that are numbers, or 0. */

PyObject *
pyloop_numeric(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    int            family;
    PyObject      *address;
    pyloop_name_t  name;

    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "_numeric() takes 2 arguments");
        return NULL;
    }

    address = PyTuple_Pack(2, args[0], args[1]);
    if (address == NULL) {
        return NULL;
    }

    family = pyloop_name_parse(address, AF_INET, &name) ? AF_INET
             : pyloop_name_parse(address, AF_INET6, &name) ? AF_INET6
             : 0;

    Py_DECREF(address);

    return PyLong_FromLong(family);
}


/*
 * The arguments: a non-blocking socket and an address.  True when they are
 * connected; None when that takes time, after which this is to be called
 * again; False when the address has to be looked up.
 */

PyObject *
pyloop_connect(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    int            fd, family, rc, err;
    PyObject      *message, *exc;
    socklen_t      len;
    pyloop_name_t  name;

    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "_connect() takes 2 arguments");
        return NULL;
    }

    fd = PyObject_AsFileDescriptor(args[0]);
    if (fd == -1) {
        return NULL;
    }

    len = sizeof(family);

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len) == -1) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }

    len = pyloop_name_parse(args[1], family, &name);
    if (len == 0) {
        Py_RETURN_FALSE;
    }

    rc = connect(fd, &name.any, len);

    /* the loopback's answer is there before connect() has returned */
    if (rc == -1 && errno == EINPROGRESS) {
        rc = connect(fd, &name.any, len);
    }

    if (rc == 0) {
        Py_RETURN_TRUE;
    }

    err = errno;

    if (err == EINPROGRESS || err == EALREADY || err == EINTR) {
        Py_RETURN_NONE;
    }

    message = PyUnicode_FromFormat("Connect call failed %S", args[1]);
    if (message == NULL) {
        return NULL;
    }

    exc = PyObject_CallFunction(PyExc_OSError, "iN", err, message);
    if (exc) {
        pyloop_exception_put(exc);
    }

    return NULL;
}


/* The descriptor, -1 of a closed socket, or -2 with an exception set. */

static int
pyloop_sock_number(pyloop_t *loop, PyObject *sock)
{
    long       fd;
    PyObject  *number;

    number = PyObject_CallMethodNoArgs(sock, loop->state->str_fileno);
    if (number == NULL) {
        return -2;
    }

    fd = PyLong_AsLong(number);
    Py_DECREF(number);

    return fd == -1 && PyErr_Occurred() ? -2 : (int) fd;
}


/* 1 when the call has to wait, or 0 with OSError set. */

static int
pyloop_sock_again(void)
{
    if (errno == EAGAIN || errno == EINTR) {
        return 1;
    }

    PyErr_SetFromErrno(PyExc_OSError);

    return 0;
}


/* The arguments: a socket and a size.  Bytes, or None when it has to wait. */

PyObject *
pyloop_receive(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    int          fd;
    PyObject    *number;
    pyloop_t    *loop;
    Py_ssize_t   size;

    loop = (pyloop_t *) op;

    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "_receive() takes 2 arguments");
        return NULL;
    }

    number = PyNumber_Index(args[1]);
    if (number == NULL) {
        return NULL;
    }

    size = PyLong_AsSsize_t(number);
    Py_DECREF(number);

    if (size < 0) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "negative buffersize in recv");
        }

        return NULL;
    }

    fd = pyloop_sock_number(loop, args[0]);

    return fd == -2 ? NULL : pyloop_sock_receive(loop, fd, size);
}


/* What fits goes through the loop's buffer: few reads get what they ask. */

static PyObject *
pyloop_sock_receive(pyloop_t *loop, int fd, Py_ssize_t size)
{
    char      *buffer;
    ssize_t    n;
    PyObject  *data;

    data = NULL;
    buffer = loop->buffer;

    if (size > PYLOOP_READ_SIZE) {
        data = PyBytes_FromStringAndSize(NULL, size);
        if (data == NULL) {
            return NULL;
        }

        buffer = PyBytes_AS_STRING(data);
    }

    n = size ? recv(fd, buffer, size, MSG_DONTWAIT) : 0;

    if (n == -1) {
        Py_XDECREF(data);
        return pyloop_sock_again() ? Py_NewRef(Py_None) : NULL;
    }

    if (data == NULL) {
        return PyBytes_FromStringAndSize(buffer, n);
    }

    (void) _PyBytes_Resize(&data, n);

    return data;
}


/* The arguments: a socket and a buffer.  The count, or None to wait. */

PyObject *
pyloop_receive_into(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    int        fd, err;
    ssize_t    n;
    Py_buffer  view;

    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "_receive_into() takes 2 arguments");
        return NULL;
    }

    fd = pyloop_sock_number((pyloop_t *) op, args[0]);
    if (fd == -2) {
        return NULL;
    }

    if (PyObject_GetBuffer(args[1], &view, PyBUF_WRITABLE) == -1) {
        /* the socket's own words */
        PyErr_Clear();
        return PyObject_CallMethod(args[0], "recv_into", "O", args[1]);
    }

    n = view.len ? recv(fd, view.buf, view.len, MSG_DONTWAIT) : 0;
    err = errno;

    PyBuffer_Release(&view);

    if (n != -1) {
        return PyLong_FromSsize_t(n);
    }

    errno = err;

    return pyloop_sock_again() ? Py_NewRef(Py_None) : NULL;
}


/*
 * The arguments: a socket, data and how much of it has been sent.  None when
 * all has been, or how much.
 */

PyObject *
pyloop_send(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    int         fd, err;
    ssize_t     n;
    Py_buffer   view;
    Py_ssize_t  sent, left;

    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "_send() takes 3 arguments");
        return NULL;
    }

    sent = PyNumber_AsSsize_t(args[2], PyExc_OverflowError);

    if ((sent == -1 && PyErr_Occurred())
        || PyObject_GetBuffer(args[1], &view, PyBUF_SIMPLE) == -1)
    {
        return NULL;
    }

    if (sent < 0 || sent > view.len) {
        PyBuffer_Release(&view);
        PyErr_SetString(PyExc_ValueError, "the data has no such position");
        return NULL;
    }

    fd = pyloop_sock_number((pyloop_t *) op, args[0]);

    if (fd == -2) {
        PyBuffer_Release(&view);
        return NULL;
    }

    left = view.len - sent;

    n = send(fd, (char *) view.buf + sent, left, MSG_DONTWAIT|MSG_NOSIGNAL);
    err = errno;

    PyBuffer_Release(&view);

    if (n == left) {
        Py_RETURN_NONE;
    }

    if (n != -1) {
        return PyLong_FromSsize_t(sent + n);
    }

    errno = err;

    return pyloop_sock_again() ? PyLong_FromSsize_t(sent) : NULL;
}


PyObject *
pyloop_readable(PyObject *op, PyObject *sock)
{
    return pyloop_watch_once((pyloop_t *) op, sock, EPOLLIN);
}


PyObject *
pyloop_writable(PyObject *op, PyObject *sock)
{
    return pyloop_watch_once((pyloop_t *) op, sock, EPOLLOUT);
}
