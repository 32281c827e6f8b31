/*
 * The messages of ASGI's extensions: a file as the body, trailers, early
 * hints.  Loop thread, GIL held.
 */

#include "python/asgi_http.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>


/* Opens a regular file; its size, or -1 with an exception. */

static off_t
db_py_open_file(PyObject *path, int *fd)
{
    int          rc;
    PyObject    *name;
    struct stat  st;

    if (!PyUnicode_FSConverter(path, &name)) {
        return -1;
    }

    Py_BEGIN_ALLOW_THREADS

    rc = 0;
    *fd = open(PyBytes_AS_STRING(name), O_RDONLY|O_CLOEXEC|O_NONBLOCK);

    if (*fd == -1 || fstat(*fd, &st) == -1) {
        rc = -1;

    } else if (!S_ISREG(st.st_mode)) {
        errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
        rc = -1;
    }

    if (rc == -1 && *fd != -1) {
        rc = errno;
        (void) close(*fd);
        errno = rc;
        rc = -1;
    }

    Py_END_ALLOW_THREADS

    Py_DECREF(name);

    if (rc == -1) {
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
        return -1;
    }

    return st.st_size;
}


/* A file as the whole body: nginx sends it by itself. */

int
db_py_request_send_file(db_py_request_t *request, PyObject *message)
{
    int         fd;
    off_t       size;
    PyObject   *path;
    db_part_t  *part;

    path = db_py_member(message, db_py.str.path, NULL);

    if (path == NULL) {
        return -1;
    }

    size = db_py_open_file(path, &fd);
    Py_DECREF(path);

    if (size == -1) {
        return -1;
    }

    if (db_py_request_over(request) || request->started) {
        (void) close(fd);
        return 1;
    }

    if (!request->empty && request->left > size) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Response content shorter than Content-Length");
        goto failed;
    }

    part = db_py_request_part(request, NULL);

    if (part == NULL) {
        goto failed;
    }

    if (request->empty) {
        (void) close(fd);

    } else {
        part->fd = fd;
        part->file_size = (request->left != -1) ? request->left : size;
    }

    db_py_request_end_body(request, part);

    return 1;

failed:

    (void) close(fd);

    return -1;
}


int
db_py_request_send_trailers(db_py_request_t *request, PyObject *message)
{
    int               more;
    char             *strings;
    db_part_t        *part;
    db_py_headers_t   headers;

    more = db_py_flag(message, db_py.str.more_trailers);

    if (more == -1
        || db_py_request_headers(&headers, message, db_py.str.headers) == -1)
    {
        return -1;
    }

    if (db_py_request_over(request)) {
        Py_DECREF(headers.pairs);
        return 1;
    }

    part = db_part_create(request->job, PyTuple_GET_SIZE(headers.pairs),
                          headers.size, &strings);

    if (part == NULL) {
        Py_DECREF(headers.pairs);
        PyErr_NoMemory();
        return -1;
    }

    db_py_headers_copy(&headers, part, strings);
    Py_DECREF(headers.pairs);

    part->flags = more ? DB_PART_TRAILERS : DB_PART_TRAILERS|DB_PART_LAST;

    db_py_request_hand(request, part);

    if (!more) {
        db_py_request_complete(request);
    }

    return 1;
}


/* Hints leave at once: they are of use only before the response. */

int
db_py_request_send_hint(db_py_request_t *request, PyObject *message)
{
    char        *p, *strings;
    size_t       size;
    PyObject    *links, *link;
    db_part_t   *part;
    Py_ssize_t   i, n;

    links = db_py_member(message, db_py.str.links, db_py.empty);

    if (links) {
        Py_SETREF(links, PySequence_Tuple(links));
    }

    if (links == NULL) {
        return -1;
    }

    size = 0;
    n = PyTuple_GET_SIZE(links);

    for (i = 0; i < n; i++) {
        link = PyTuple_GET_ITEM(links, i);

        if (!PyBytes_Check(link) || !db_py_header_value_ok(link)) {
            PyErr_SetString(PyExc_RuntimeError, "Invalid link of a hint.");
            Py_DECREF(links);
            return -1;
        }

        size += PyBytes_GET_SIZE(link);
    }

    if (db_py_request_over(request) || request->start) {
        Py_DECREF(links);
        return 1;
    }

    part = db_part_create(request->job, n, size, &strings);

    if (part == NULL) {
        Py_DECREF(links);
        PyErr_NoMemory();
        return -1;
    }

    p = strings;
    part->flags = DB_PART_HINT;

    for (i = 0; i < n; i++) {
        link = PyTuple_GET_ITEM(links, i);

        part->headers[i].name = db_string("Link");
        part->headers[i].value.data = p;
        part->headers[i].value.len = PyBytes_GET_SIZE(link);

        memcpy(p, PyBytes_AS_STRING(link), PyBytes_GET_SIZE(link));
        p += PyBytes_GET_SIZE(link);
    }

    Py_DECREF(links);

    db_py_append(&part->msg);
    db_py_publish();

    return 1;
}
