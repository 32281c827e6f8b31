/*
 * One ASGI WebSocket: a request whose chunks and parts are messages, unless
 * the application denies it with a response of its own.  Loop thread, GIL
 * held.
 */

#include "python/asgi_websocket.h"


static PyObject *db_py_socket_receive(PyObject *self);
static void db_py_socket_end(db_py_run_t *run, PyObject *result);


static const db_py_run_ops_t  db_py_socket_run_ops = {
    db_py_request_begin,
    NULL,
    db_py_request_pause,
    db_py_socket_end
};

static const db_py_op_ops_t  db_py_socket_op_ops = {
    db_py_socket_send,
    db_py_request_send_waited,
    db_py_socket_receive,
    db_py_request_waiters
};


static void
db_py_socket_dealloc(PyObject *self)
{
    Py_XDECREF(((db_py_socket_t *) self)->reason);

    db_py_request_dealloc(self);
}


static PyType_Slot  db_py_socket_slots[] = {
    DB_PY_RUN_SLOTS(db_py_socket_dealloc)
};

PyType_Spec  db_py_socket_spec = {
    .name = "_databridge.WebSocket",
    .basicsize = sizeof(db_py_socket_t),
    .flags = Py_TPFLAGS_DEFAULT|Py_TPFLAGS_DISALLOW_INSTANTIATION
             |Py_TPFLAGS_IMMUTABLETYPE,
    .slots = db_py_socket_slots
};


db_py_request_t *
db_py_socket_new(void)
{
    db_py_socket_t  *socket;

    socket = db_py_run_new(db_py.socket_type, &db_py_socket_run_ops,
                           sizeof(db_py_socket_t));

    if (socket == NULL) {
        return NULL;
    }

    socket->request.ops = &db_py_socket_op_ops;
    socket->code = DB_PY_CLOSE_ABNORMAL;

    return &socket->request;
}


/* scope */

static int
db_py_subprotocols_add(PyObject *list, db_str_t value)
{
    int        rc;
    db_str_t   element;
    PyObject  *token;

    while (db_str_element(&value, &element)) {

        if (element.len == 0) {
            continue;
        }

        token = PyUnicode_DecodeLatin1(element.data, element.len, NULL);

        if (token == NULL) {
            return -1;
        }

        rc = PyList_Append(list, token);
        Py_DECREF(token);

        if (rc == -1) {
            return -1;
        }
    }

    return 0;
}


static PyObject *
db_py_socket_subprotocols(const db_job_t *job)
{
    unsigned   i;
    PyObject  *list;

    list = PyList_New(0);

    for (i = 0; list && i < job->nheaders; i++) {
        if (db_str_eq(job->headers[i].name,
                      db_string("sec-websocket-protocol"))
            && db_py_subprotocols_add(list, job->headers[i].value) == -1)
        {
            Py_CLEAR(list);
        }
    }

    return list;
}


static PyObject *
db_py_socket_extensions(void)
{
    PyObject  *extensions, *nothing;

    extensions = PyDict_New();
    nothing = PyDict_New();

    if (extensions == NULL || nothing == NULL
        || PyDict_SetItem(extensions, db_py.str.socket_response, nothing)
           == -1)
    {
        Py_CLEAR(extensions);
    }

    Py_XDECREF(nothing);

    return extensions;
}


/* Makes of a request's scope that of a socket. */

int
db_py_socket_scope(PyObject *scope, const db_job_t *job)
{
    int        rc;
    PyObject  *subprotocols, *extensions;

    rc = -1;
    subprotocols = db_py_socket_subprotocols(job);
    extensions = db_py_socket_extensions();

    if (subprotocols && extensions
        && PyDict_SetItem(scope, db_py.str.type, db_py.str.websocket) == 0
        && PyDict_SetItem(scope, db_py.str.scheme,
                          job->tls ? db_py.str.wss : db_py.str.ws) == 0
        && PyDict_SetItem(scope, db_py.str.subprotocols, subprotocols) == 0
        && PyDict_SetItem(scope, db_py.str.extensions, extensions) == 0)
    {
        rc = PyDict_DelItem(scope, db_py.str.method);
    }

    Py_XDECREF(subprotocols);
    Py_XDECREF(extensions);

    return rc;
}


/* receive() */

static PyObject *
db_py_socket_message(PyObject *type)
{
    PyObject  *message;

    message = PyDict_New();

    if (message && PyDict_SetItem(message, db_py.str.type, type) == -1) {
        Py_CLEAR(message);
    }

    return message;
}


static PyObject *
db_py_socket_disconnect(db_py_socket_t *socket)
{
    PyObject  *message, *code;

    message = db_py_socket_message(db_py.str.socket_disconnect);
    code = PyLong_FromUnsignedLong(socket->code);

    if (message == NULL || code == NULL
        || PyDict_SetItem(message, db_py.str.code, code) == -1
        || PyDict_SetItem(message, db_py.str.reason,
                          socket->reason ? socket->reason
                                         : db_py.str.no_text) == -1)
    {
        Py_CLEAR(message);
    }

    Py_XDECREF(code);

    return message;
}


/* The last chunk: code and reason of what receive() says from now on. */

static int
db_py_socket_closed(db_py_socket_t *socket, db_str_t data)
{
    PyObject  *reason;

    reason = PyUnicode_DecodeUTF8(data.data + 2, data.len - 2, "replace");

    if (reason == NULL) {
        return -1;
    }

    Py_XSETREF(socket->reason, reason);
    socket->code = (unsigned char) data.data[0] << 8
                   | (unsigned char) data.data[1];

    return 0;
}


static PyObject *
db_py_socket_read(db_py_socket_t *socket, const db_chunk_t *chunk)
{
    int        text, rc;
    PyObject  *message, *data;

    text = chunk->opcode == DB_WS_TEXT;

    data = text ? PyUnicode_DecodeUTF8(chunk->data.data, chunk->data.len, NULL)
                : PyBytes_FromStringAndSize(chunk->data.data,
                                            chunk->data.len);

    if (data == NULL) {
        return NULL;
    }

    message = db_py_socket_message(db_py.str.socket_receive);

    if (message) {
        rc = PyDict_SetItem(message, text ? db_py.str.text : db_py.str.bytes,
                            data);

        if (rc == -1) {
            Py_CLEAR(message);
        }
    }

    Py_DECREF(data);

    return message;
}


static PyObject *
db_py_socket_receive(PyObject *self)
{
    PyObject         *message;
    db_node_t        *node;
    db_chunk_t       *chunk;
    db_py_socket_t   *socket;
    db_py_request_t  *request;

    socket = (db_py_socket_t *) self;
    request = &socket->request;

    if (!socket->connected) {
        message = db_py_socket_message(db_py.str.socket_connect);
        socket->connected = message != NULL;
        return message;
    }

    node = request->chunks.head;

    if (node == NULL) {
        return (request->gone || request->complete
                || socket->state == DB_PY_SOCKET_CLOSED)
                   ? db_py_socket_disconnect(socket) : NULL;
    }

    chunk = (db_chunk_t *) node;

    if (chunk->opcode == DB_WS_CLOSE) {

        if (socket->state != DB_PY_SOCKET_CLOSED
            && db_py_socket_closed(socket, chunk->data) == -1)
        {
            return NULL;
        }

        message = db_py_socket_disconnect(socket);

    } else {
        message = db_py_socket_read(socket, chunk);
        socket->answering = 1;
    }

    if (message == NULL) {
        return NULL;
    }

    request->chunks.head = node->next;

    if (request->chunks.head == NULL) {
        db_chain_init(&request->chunks);
    }

    db_py_request_take(request, db_message_cost(chunk->data.len));
    db_chunk_destroy(chunk);

    return message;
}


/* A socket that is open when the application ends is closed with it. */

static void
db_py_socket_end(db_py_run_t *run, PyObject *result)
{
    db_py_socket_t   *socket;
    db_py_request_t  *request;

    socket = (db_py_socket_t *) run;
    request = &socket->request;

    if (socket->state == DB_PY_SOCKET_OPEN) {
        socket->state = DB_PY_SOCKET_CLOSED;
        socket->code = result ? DB_PY_CLOSE_NORMAL : DB_PY_CLOSE_INTERNAL;

        if (!request->gone) {
            request->held = db_py_socket_close_part(socket, socket->code,
                                                    NULL, 0);
        }
    }

    if (socket->state == DB_PY_SOCKET_CLOSED) {
        request->start = 1;
        request->complete = 1;
    }

    db_py_request_end(run, result);
}
