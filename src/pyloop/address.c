/*
 * Addresses between the kernel's form and Python's, for the families that
 * need no more than a copy: IPv4, IPv6 and UNIX sockets.
 */

#include "pyloop/transport.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>


static PyObject *pyloop_name_unix(const struct sockaddr_un *un,
    socklen_t len);


PyObject *
pyloop_name_object(const struct sockaddr *addr, socklen_t len)
{
    char                        host[INET6_ADDRSTRLEN];
    const struct sockaddr_in   *in;
    const struct sockaddr_in6  *in6;

    if (len < sizeof(sa_family_t)) {
        Py_RETURN_NONE;
    }

    switch (addr->sa_family) {

    case AF_INET:
        in = (const struct sockaddr_in *) addr;
        (void) inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));

        return Py_BuildValue("(si)", host, ntohs(in->sin_port));

    case AF_INET6:
        in6 = (const struct sockaddr_in6 *) addr;
        (void) inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));

        return Py_BuildValue("(siII)", host, ntohs(in6->sin6_port),
                             (unsigned) ntohl(in6->sin6_flowinfo),
                             (unsigned) in6->sin6_scope_id);

    case AF_UNIX:
        return pyloop_name_unix((const struct sockaddr_un *) addr, len);

    default:
        Py_RETURN_NONE;
    }
}


/* A name in Linux's abstract room begins with a zero, and is bytes. */

static PyObject *
pyloop_name_unix(const struct sockaddr_un *un, socklen_t len)
{
    size_t  size;

    size = len - offsetof(struct sockaddr_un, sun_path);

    if (size > 0 && un->sun_path[0] == '\0') {
        return PyBytes_FromStringAndSize(un->sun_path, size);
    }

    return PyUnicode_DecodeFSDefaultAndSize(un->sun_path,
                                            strnlen(un->sun_path, size));
}


/* What the socket module understands and this does not is left to it. */

socklen_t
pyloop_name_parse(PyObject *address, int family, pyloop_name_t *name)
{
    long         port, flow, scope;
    PyObject    *item;
    Py_ssize_t   n;
    const char  *host;

    if (!PyTuple_CheckExact(address)) {
        return 0;
    }

    n = PyTuple_GET_SIZE(address);

    if (n < 2 || n > (family == AF_INET6 ? 4 : 2)
        || (family != AF_INET && family != AF_INET6))
    {
        return 0;
    }

    item = PyTuple_GET_ITEM(address, 0);

    if (!PyUnicode_CheckExact(item) || !PyUnicode_IS_COMPACT_ASCII(item)) {
        return 0;
    }

    host = (const char *) PyUnicode_1BYTE_DATA(item);

    flow = n > 2 ? PyLong_AsLong(PyTuple_GET_ITEM(address, 2)) : 0;
    scope = n > 3 ? PyLong_AsLong(PyTuple_GET_ITEM(address, 3)) : 0;
    port = PyLong_AsLong(PyTuple_GET_ITEM(address, 1));

    if (PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }

    if (port < 0 || port > 0xffff || flow < 0 || flow > 0xfffff
        || scope < 0 || scope > 0xffffffffL
        || strlen(host) != (size_t) PyUnicode_GET_LENGTH(item))
    {
        return 0;
    }

    memset(name, 0, sizeof(pyloop_name_t));

    if (family == AF_INET) {
        name->in.sin_family = AF_INET;
        name->in.sin_port = htons(port);

        return inet_pton(AF_INET, host, &name->in.sin_addr) == 1
               ? sizeof(name->in) : 0;
    }

    name->in6.sin6_family = AF_INET6;
    name->in6.sin6_port = htons(port);
    name->in6.sin6_flowinfo = htonl(flow);
    name->in6.sin6_scope_id = scope;

    return inet_pton(AF_INET6, host, &name->in6.sin6_addr) == 1
           ? sizeof(name->in6) : 0;
}
