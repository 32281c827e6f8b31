/*
 * The messages that an application sends to a WebSocket: accept or denial,
 * then what goes to the client, then the close.  Loop thread, GIL held.
 */

#include "python/asgi_websocket.h"


#define DB_PY_FRAME_HEAD  10         /* that nginx puts before a payload */
#define DB_PY_REASON_MAX  123        /* bytes */


/* A message for nginx, its payload in the part's block or referenced. */

static db_part_t *
db_py_socket_part(db_py_socket_t *socket, unsigned opcode, const char *data,
    size_t len, PyObject *object)
{
    char       *strings;
    db_part_t  *part;

    part = db_part_create(socket->request.job, 0,
                          DB_PY_FRAME_HEAD + (object ? 0 : len), &strings);

    if (part == NULL) {
        return NULL;
    }

    part->opcode = opcode;
    part->body.data = data;
    part->body.len = len;
    part->object = Py_XNewRef(object);

    if (object == NULL) {
        part->body.data = strings + DB_PY_FRAME_HEAD;

        if (len) {
            memcpy(strings + DB_PY_FRAME_HEAD, data, len);
        }
    }

    return part;
}


/* The member, or NULL without an exception when it is absent or None. */

static PyObject *
db_py_socket_member(PyObject *message, PyObject *key)
{
    PyObject  *value;

    value = db_py_member(message, key, Py_None);

    if (value == Py_None) {
        Py_CLEAR(value);
    }

    return value;
}


static int
db_py_socket_wrong_type(PyObject *value, const char *what)
{
    PyErr_Format(PyExc_TypeError,
                 "%s of a WebSocket's message is needed, not '%.100s'", what,
                 Py_TYPE(value)->tp_name);

    return -1;
}


static int
db_py_socket_send_data(db_py_socket_t *socket, unsigned opcode,
    const char *data, size_t len, PyObject *object)
{
    db_part_t        *part;
    db_py_request_t  *request;

    request = &socket->request;

    /* reading the message may have run code that ended the socket */

    if (request->job == NULL || request->gone
        || socket->state != DB_PY_SOCKET_OPEN)
    {
        return 1;
    }

    part = db_py_socket_part(socket, opcode, data, len,
                             len > DB_PY_COPY_MAX ? object : NULL);

    if (part == NULL) {
        PyErr_NoMemory();
        return -1;
    }

    part->credit = db_message_cost(len);
    request->unsent += part->credit;
    db_py_append(&part->msg);

    return request->unsent <= DB_AHEAD_MAX;
}


static int
db_py_socket_send_bytes(db_py_socket_t *socket, PyObject *value)
{
    int        rc;
    PyObject  *bytes;

    if (!PyObject_CheckBuffer(value)) {
        return db_py_socket_wrong_type(value, "a bytes-like \"bytes\"");
    }

    bytes = PyBytes_CheckExact(value) ? Py_NewRef(value)
                                      : PyBytes_FromObject(value);

    if (bytes == NULL) {
        return -1;
    }

    rc = db_py_socket_send_data(socket, DB_WS_BINARY, PyBytes_AS_STRING(bytes),
                                PyBytes_GET_SIZE(bytes), bytes);
    Py_DECREF(bytes);

    return rc;
}


/* ASCII is its own UTF-8, and a str does not keep another for long. */

static int
db_py_socket_send_text(db_py_socket_t *socket, PyObject *value)
{
    int        rc;
    PyObject  *bytes;

    if (!PyUnicode_Check(value)) {
        return db_py_socket_wrong_type(value, "a str as \"text\"");
    }

    if (PyUnicode_READY(value) == -1) {
        return -1;
    }

    if (PyUnicode_IS_ASCII(value)) {
        return db_py_socket_send_data(socket, DB_WS_TEXT,
                                      PyUnicode_DATA(value),
                                      PyUnicode_GET_LENGTH(value), value);
    }

    bytes = PyUnicode_AsUTF8String(value);

    if (bytes == NULL) {
        return -1;
    }

    rc = db_py_socket_send_data(socket, DB_WS_TEXT, PyBytes_AS_STRING(bytes),
                                PyBytes_GET_SIZE(bytes), bytes);
    Py_DECREF(bytes);

    return rc;
}


static int
db_py_socket_send_message(db_py_socket_t *socket, PyObject *message)
{
    int        rc;
    PyObject  *value;

    value = db_py_socket_member(message, db_py.str.bytes);

    if (value) {
        rc = db_py_socket_send_bytes(socket, value);
        Py_DECREF(value);
        return rc;
    }

    if (PyErr_Occurred()) {
        return -1;
    }

    value = db_py_socket_member(message, db_py.str.text);

    if (value) {
        rc = db_py_socket_send_text(socket, value);
        Py_DECREF(value);
        return rc;
    }

    if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_RuntimeError,
                        "A 'websocket.send' needs 'bytes' or 'text'.");
    }

    return -1;
}


/* The subprotocol as a header in front of the application's. */

static int
db_py_socket_add_subprotocol(db_py_headers_t *headers, PyObject *value)
{
    PyObject    *bytes, *pair, *pairs;
    Py_ssize_t   i, n;

    if (!PyUnicode_Check(value)) {
        return db_py_socket_wrong_type(value, "a str as \"subprotocol\"");
    }

    bytes = PyUnicode_AsLatin1String(value);

    if (bytes == NULL) {
        return -1;
    }

    if (!db_py_header_value_ok(bytes)) {
        PyErr_SetString(PyExc_RuntimeError, "Invalid HTTP header value.");
        Py_DECREF(bytes);
        return -1;
    }

    pair = Py_BuildValue("(yO)", "sec-websocket-protocol", bytes);
    n = PyTuple_GET_SIZE(headers->pairs);
    pairs = pair ? PyTuple_New(n + 1) : NULL;

    headers->size += sizeof("sec-websocket-protocol") - 1
                     + PyBytes_GET_SIZE(bytes);
    Py_DECREF(bytes);

    if (pairs == NULL) {
        Py_XDECREF(pair);
        return -1;
    }

    PyTuple_SET_ITEM(pairs, 0, pair);

    for (i = 0; i < n; i++) {
        PyTuple_SET_ITEM(pairs, i + 1,
                         Py_NewRef(PyTuple_GET_ITEM(headers->pairs, i)));
    }

    Py_SETREF(headers->pairs, pairs);

    return 0;
}


static int
db_py_socket_accept(db_py_socket_t *socket, PyObject *message)
{
    int               rc;
    PyObject         *subprotocol;
    db_part_t        *part;
    db_py_headers_t   headers;
    db_py_request_t  *request;

    request = &socket->request;

    if (db_py_request_headers(&headers, message, db_py.str.headers) == -1) {
        return -1;
    }

    rc = -1;
    subprotocol = db_py_socket_member(message, db_py.str.subprotocol);

    if (PyErr_Occurred()
        || (subprotocol
            && db_py_socket_add_subprotocol(&headers, subprotocol) == -1))
    {
        goto done;
    }

    rc = 1;

    /* reading the message may have run code that ended the socket */

    if (request->job == NULL || request->gone
        || socket->state != DB_PY_SOCKET_CONNECTING)
    {
        goto done;
    }

    request->headers = headers;
    request->status = 101;

    part = db_py_request_part(request, NULL);

    headers.pairs = request->headers.pairs;
    request->headers.pairs = NULL;

    if (part == NULL) {
        rc = -1;
        goto done;
    }

    socket->state = DB_PY_SOCKET_OPEN;
    request->start = 1;

    db_py_append(&part->msg);

done:

    Py_XDECREF(subprotocol);
    Py_XDECREF(headers.pairs);

    return rc;
}


static int
db_py_socket_code_ok(long code)
{
    return (code >= 1000 && code <= 1014 && code != 1004
            && code != DB_PY_CLOSE_NO_CODE && code != DB_PY_CLOSE_ABNORMAL)
           || (code >= 3000 && code <= 4999);
}


db_part_t *
db_py_socket_close_part(db_py_socket_t *socket, unsigned code,
    const char *reason, size_t len)
{
    char  data[2 + DB_PY_REASON_MAX];

    data[0] = code >> 8;
    data[1] = code;

    if (len) {
        memcpy(data + 2, reason, len);
    }

    return db_py_socket_part(socket, DB_WS_CLOSE, data, 2 + len, NULL);
}


/* From here on nothing is sent, and receive() has what it says. */

static void
db_py_socket_shut(db_py_socket_t *socket, unsigned code, PyObject *reason)
{
    socket->state = DB_PY_SOCKET_CLOSED;
    socket->code = code;
    Py_XSETREF(socket->reason, Py_XNewRef(reason));

    db_py_wake(&socket->request.waiters.receivers);
}


static int
db_py_socket_close_open(db_py_socket_t *socket, long code, PyObject *reason)
{
    db_part_t   *part;
    Py_ssize_t   len;
    const char  *text;

    if (!db_py_socket_code_ok(code)) {
        PyErr_Format(PyExc_RuntimeError,
                     "Invalid code %ld of a 'websocket.close'.", code);
        return -1;
    }

    len = 0;
    text = NULL;

    if (reason) {
        if (!PyUnicode_Check(reason)) {
            return db_py_socket_wrong_type(reason, "a str as \"reason\"");
        }

        text = PyUnicode_AsUTF8AndSize(reason, &len);

        if (text == NULL) {
            return -1;
        }

        if (len > DB_PY_REASON_MAX) {
            PyErr_SetString(PyExc_RuntimeError,
                            "The reason of a 'websocket.close' has at most "
                            "123 bytes of UTF-8.");
            return -1;
        }
    }

    part = db_py_socket_close_part(socket, code, text, len);

    if (part == NULL) {
        PyErr_NoMemory();
        return -1;
    }

    db_py_append(&part->msg);
    db_py_socket_shut(socket, code, reason);

    return 1;
}


/* Before the handshake is complete a close is its refusal. */

static int
db_py_socket_refuse(db_py_socket_t *socket)
{
    char       *strings;
    db_part_t  *part;

    part = db_part_create(socket->request.job, 1, 0, &strings);

    if (part == NULL) {
        PyErr_NoMemory();
        return -1;
    }

    part->flags = DB_PART_START|DB_PART_LAST;
    part->status = 403;
    part->headers[0].name = db_string("content-type");
    part->headers[0].value = db_string("text/plain; charset=utf-8");

    socket->request.start = 1;
    socket->request.started = 1;
    socket->request.complete = 1;

    db_py_request_hand(&socket->request, part);
    db_py_socket_shut(socket, DB_PY_CLOSE_ABNORMAL, NULL);

    return 1;
}


static int
db_py_socket_close(db_py_socket_t *socket, PyObject *message)
{
    int        rc;
    long       code;
    PyObject  *value, *reason;

    if (socket->state == DB_PY_SOCKET_CONNECTING) {
        return db_py_request_over(&socket->request)
               ? 1 : db_py_socket_refuse(socket);
    }

    code = DB_PY_CLOSE_NORMAL;
    value = db_py_socket_member(message, db_py.str.code);

    if (value) {
        code = PyLong_AsLong(value);
        Py_DECREF(value);
    }

    if (PyErr_Occurred()) {
        return -1;
    }

    reason = db_py_socket_member(message, db_py.str.reason);

    if (PyErr_Occurred()) {
        return -1;
    }

    rc = 1;

    if (socket->request.job && !socket->request.gone
        && socket->state == DB_PY_SOCKET_OPEN)
    {
        rc = db_py_socket_close_open(socket, code, reason);
    }

    Py_XDECREF(reason);

    return rc;
}


/* A message, by what has gone before. */

static int
db_py_socket_send_typed(db_py_socket_t *socket, PyObject *type,
    PyObject *message)
{
    db_py_request_t  *request;

    request = &socket->request;

    switch (socket->state) {

    case DB_PY_SOCKET_CONNECTING:

        if (db_py_type_is(type, db_py.str.socket_accept)) {
            return db_py_socket_accept(socket, message);
        }

        if (db_py_type_is(type, db_py.str.socket_close)) {
            return db_py_socket_close(socket, message);
        }

        if (!db_py_type_is(type, db_py.str.socket_response_start)) {
            PyErr_Format(PyExc_RuntimeError,
                         "Expected ASGI message 'websocket.accept', "
                         "'websocket.close' or 'websocket.http.response.start'"
                         " but got '%S'.", type);
            return -1;
        }

        if (db_py_request_send_start(request, message) == -1) {
            return -1;
        }

        if (socket->state == DB_PY_SOCKET_CONNECTING) {
            socket->state = DB_PY_SOCKET_DENIED;
        }

        return 1;

    case DB_PY_SOCKET_OPEN:

        if (db_py_type_is(type, db_py.str.socket_send)) {
            return db_py_socket_send_message(socket, message);
        }

        if (db_py_type_is(type, db_py.str.socket_close)) {
            return db_py_socket_close(socket, message);
        }

        PyErr_Format(PyExc_RuntimeError,
                     "Expected ASGI message 'websocket.send' or "
                     "'websocket.close', but got '%S'.", type);
        return -1;

    case DB_PY_SOCKET_DENIED:

        if (!request->complete) {
            return db_py_request_expect(type, db_py.str.socket_response_body)
                       ? db_py_request_send_body(request, message) : -1;
        }

        /* fall through */

    default:
        PyErr_Format(PyExc_RuntimeError,
                     "Unexpected ASGI message '%S', after sending "
                     "'websocket.close' or a response.", type);
        return -1;
    }
}


int
db_py_socket_send(PyObject *self, PyObject *message)
{
    int              rc;
    PyObject        *type;
    db_py_socket_t  *socket;

    socket = (db_py_socket_t *) self;

    if (socket->request.gone && socket->state != DB_PY_SOCKET_CLOSED) {

        /*
         * An application that answers each message is still to receive what
         * came before the disconnect, and the disconnect with its code.
         */

        if (socket->answering && socket->request.chunks.head) {
            socket->answering = 0;
            return 1;
        }

        return db_py_request_disconnected();
    }

    type = db_py_member(message, db_py.str.type, NULL);

    if (type == NULL) {
        return -1;
    }

    rc = db_py_socket_send_typed(socket, type, message);
    Py_DECREF(type);

    return rc;
}
