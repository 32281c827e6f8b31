/*
 * Sockets that Python holds: connecting them without a wait for a neighbour.
 */

#include "pyloop/transport.h"

#include <errno.h>
#include <poll.h>


static int  pyloop_connect_result(int fd);


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
 * connected; False when that takes time, or when the address has to be
 * looked up.
 */

PyObject *
pyloop_connect(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    int            fd, family, err;
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

    if (connect(fd, &name.any, len) == 0) {
        Py_RETURN_TRUE;
    }

    err = errno == EINPROGRESS ? pyloop_connect_result(fd) : errno;

    if (err == EINPROGRESS || err == EINTR) {
        Py_RETURN_FALSE;
    }

    if (err == 0) {
        Py_RETURN_TRUE;
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


/* The loopback's answer is there before connect() has returned. */

static int
pyloop_connect_result(int fd)
{
    int            err;
    socklen_t      len;
    struct pollfd  pfd;

    pfd.fd = fd;
    pfd.events = POLLOUT;
    pfd.revents = 0;

    if (poll(&pfd, 1, 0) != 1) {
        return EINPROGRESS;
    }

    len = sizeof(err);

    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == -1
           ? errno : err;
}
