/*
 * What receive() says of an ASGI request: its body, from the job, from a
 * file or from the chunks that come after it, then the disconnect.  Loop
 * thread, GIL held.
 */

#include "python/asgi_http.h"

#include <errno.h>
#include <unistd.h>


#define DB_PY_BODY_CHUNK  (1024 * 1024)


void
db_py_request_free_chunks(db_py_request_t *request)
{
    db_node_t  *node, *next;

    for (node = request->chunks.head; node; node = next) {
        next = node->next;
        db_chunk_destroy((db_chunk_t *) node);
    }

    db_chain_init(&request->chunks);
}


/* Lets nginx read on; with no bytes, lets it begin. */

static void
db_py_request_give(db_py_request_t *request, size_t bytes)
{
    db_msg_t  *msg;

    msg = db_credit_give(&request->job->taken, bytes);

    if (msg) {
        db_py_append(msg);
    }
}


void
db_py_request_take(db_py_request_t *request, size_t bytes)
{
    request->taken += bytes;

    if (request->taken >= DB_CREDIT_MIN) {
        db_py_request_give(request, request->taken);
        request->taken = 0;
    }
}


/* The next piece of a body that lies in a file. */

static PyObject *
db_py_request_read_file(db_py_request_t *request)
{
    off_t       left;
    ssize_t     n;
    PyObject   *bytes;

    left = request->job->body_size - request->read;

    if (left > DB_PY_BODY_CHUNK) {
        left = DB_PY_BODY_CHUNK;
    }

    bytes = PyBytes_FromStringAndSize(NULL, left);

    if (bytes == NULL) {
        return NULL;
    }

    do {
        n = pread(request->job->body_fd, PyBytes_AS_STRING(bytes), left,
                  request->read);
    } while (n == -1 && errno == EINTR);

    if (n == 0 && left) {
        errno = EIO;
        n = -1;
    }

    if (n == -1) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(bytes);
        return NULL;
    }

    request->read += n;

    if (n < left && _PyBytes_Resize(&bytes, n) == -1) {
        return NULL;
    }

    return bytes;
}


/* What came with the job. */

static PyObject *
db_py_request_read_job(db_py_request_t *request)
{
    db_job_t  *job;
    PyObject  *body;

    job = request->job;

    if (job->body_fd != -1) {
        body = db_py_request_read_file(request);

    } else {
        body = PyBytes_FromStringAndSize(job->body.data, job->body.len);
        request->read = job->body_size;
    }

    if (body) {
        request->body_read = !job->streamed
                             && request->read >= job->body_size;
    }

    return body;
}


/* All chunks that are here, as one. */

static PyObject *
db_py_request_read_chunks(db_py_request_t *request)
{
    char        *p;
    size_t       size;
    PyObject    *body;
    db_node_t   *node;
    db_chunk_t  *chunk;

    size = 0;

    for (node = request->chunks.head; node; node = node->next) {
        size += ((db_chunk_t *) node)->data.len;
    }

    body = PyBytes_FromStringAndSize(NULL, size);

    if (body == NULL) {
        return NULL;
    }

    p = PyBytes_AS_STRING(body);

    for (node = request->chunks.head; node; node = node->next) {
        chunk = (db_chunk_t *) node;
        memcpy(p, chunk->data.data, chunk->data.len);
        p += chunk->data.len;

        request->body_read = chunk->last;
    }

    db_py_request_free_chunks(request);

    if (!request->body_read) {
        db_py_request_take(request, size);
    }

    return body;
}


/* The next piece of the body; NULL without an exception: not yet. */

static PyObject *
db_py_request_read(db_py_request_t *request)
{
    db_job_t  *job;

    job = request->job;

    if (!job->streamed || request->read < job->body_size) {
        return db_py_request_read_job(request);
    }

    if (request->chunks.head) {
        return db_py_request_read_chunks(request);
    }

    if (job->deferred) {
        db_py_request_give(request, 0);
    }

    return NULL;
}


static PyObject *
db_py_request_message(PyObject *body, int more)
{
    PyObject  *message;

    message = PyDict_New();

    if (message == NULL
        || PyDict_SetItem(message, db_py.str.type, db_py.str.request) == -1
        || PyDict_SetItem(message, db_py.str.body, body) == -1
        || PyDict_SetItem(message, db_py.str.more_body,
                          more ? Py_True : Py_False) == -1)
    {
        Py_CLEAR(message);
    }

    return message;
}


PyObject *
db_py_request_receive(PyObject *self)
{
    PyObject         *body, *message;
    db_py_request_t  *request;

    request = (db_py_request_t *) self;

    if (request->gone || request->complete) {
        return db_py_disconnect_message();
    }

    if (request->body_read) {
        return (request->leaving && request->started)
                   ? db_py_disconnect_message() : NULL;
    }

    body = db_py_request_read(request);

    if (body == NULL) {
        return NULL;
    }

    message = db_py_request_message(body, !request->body_read);
    Py_DECREF(body);

    return message;
}
