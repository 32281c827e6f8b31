/*
 * What waits to be written.  No function here runs Python code while the
 * queue is between two states; releasing chunks may, and does so last.
 */

#include "pyloop/transport.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>


#define PYLOOP_QUEUE_MIN   8
#define PYLOOP_QUEUE_KEEP  64
#define PYLOOP_IOVS        512


static int  pyloop_queue_grow(pyloop_queue_t *queue);
static void pyloop_queue_consume(pyloop_queue_t *queue, size_t n);


int
pyloop_queue_add(pyloop_queue_t *queue, PyObject *data, PyObject *address)
{
    pyloop_chunk_t  *chunk;

    if (queue->tail == queue->room && pyloop_queue_grow(queue) == -1) {
        Py_DECREF(data);
        Py_XDECREF(address);

        return -1;
    }

    chunk = &queue->chunks[queue->tail++];
    chunk->data = data;
    chunk->address = address;

    queue->size += PyBytes_GET_SIZE(data);

    return 0;
}


/* Makes room at the end, by moving when half of it is free already. */

static int
pyloop_queue_grow(pyloop_queue_t *queue)
{
    Py_ssize_t       n, room;
    pyloop_chunk_t  *chunks;

    n = queue->tail - queue->head;
    chunks = queue->chunks;

    if (queue->head <= n) {
        room = queue->room ? 2 * queue->room : PYLOOP_QUEUE_MIN;
        PyMem_Resize(chunks, pyloop_chunk_t, room);

        if (chunks == NULL) {
            PyErr_NoMemory();
            return -1;
        }

        queue->chunks = chunks;
        queue->room = room;
    }

    if (queue->head) {
        memmove(chunks, chunks + queue->head, n * sizeof(pyloop_chunk_t));
        queue->head = 0;
        queue->tail = n;
    }

    return 0;
}


/* Drops the first chunk, of which "sent" bytes no longer count. */

void
pyloop_queue_pop(pyloop_queue_t *queue)
{
    pyloop_chunk_t  chunk;

    chunk = queue->chunks[queue->head++];

    queue->size -= PyBytes_GET_SIZE(chunk.data) - queue->sent;
    queue->sent = 0;

    if (queue->head == queue->tail) {
        queue->head = 0;
        queue->tail = 0;

        if (queue->room > PYLOOP_QUEUE_KEEP) {
            PyMem_Free(queue->chunks);
            queue->chunks = NULL;
            queue->room = 0;
        }
    }

    Py_DECREF(chunk.data);
    Py_XDECREF(chunk.address);
}


void
pyloop_queue_clear(pyloop_queue_t *queue)
{
    Py_ssize_t       i;
    pyloop_queue_t   old;

    old = *queue;
    memset(queue, 0, sizeof(pyloop_queue_t));

    for (i = old.head; i < old.tail; i++) {
        Py_DECREF(old.chunks[i].data);
        Py_XDECREF(old.chunks[i].address);
    }

    PyMem_Free(old.chunks);
}


int
pyloop_queue_visit(pyloop_queue_t *queue, visitproc visit, void *arg)
{
    Py_ssize_t  i;

    for (i = queue->head; i < queue->tail; i++) {
        Py_VISIT(queue->chunks[i].data);
        Py_VISIT(queue->chunks[i].address);
    }

    return 0;
}


int
pyloop_queue_write(pyloop_queue_t *queue, int fd, int is_socket)
{
    int            iovcnt;
    size_t         total;
    ssize_t        n;
    PyObject      *data;
    Py_ssize_t     i;
    struct iovec   iovs[PYLOOP_IOVS];
    struct msghdr  msg;

    memset(&msg, 0, sizeof(msg));

    while (queue->head != queue->tail) {
        total = 0;
        iovcnt = 0;

        for (i = queue->head; i < queue->tail && iovcnt < PYLOOP_IOVS; i++) {
            data = queue->chunks[i].data;

            iovs[iovcnt].iov_base = PyBytes_AS_STRING(data);
            iovs[iovcnt].iov_len = PyBytes_GET_SIZE(data);

            if (i == queue->head) {
                iovs[iovcnt].iov_base = PyBytes_AS_STRING(data) + queue->sent;
                iovs[iovcnt].iov_len -= queue->sent;
            }

            total += iovs[iovcnt++].iov_len;
        }

        if (is_socket) {
            msg.msg_iov = iovs;
            msg.msg_iovlen = iovcnt;
            n = sendmsg(fd, &msg, MSG_NOSIGNAL);

        } else {
            n = writev(fd, iovs, iovcnt);
        }

        if (n == -1) {
            return errno == EAGAIN || errno == EINTR ? 0 : -1;
        }

        pyloop_queue_consume(queue, n);

        if ((size_t) n < total) {
            break;
        }
    }

    return 0;
}


static void
pyloop_queue_consume(pyloop_queue_t *queue, size_t n)
{
    size_t  rest;

    while (n) {
        rest = PyBytes_GET_SIZE(queue->chunks[queue->head].data)
               - queue->sent;

        if (n < rest) {
            queue->sent += n;
            queue->size -= n;
            break;
        }

        n -= rest;
        pyloop_queue_pop(queue);
    }
}
