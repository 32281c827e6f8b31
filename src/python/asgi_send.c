/*
 * The messages of an ASGI response, checked and turned into parts.  Loop
 * thread, GIL held.
 *
 * The last part of a step is held back until the step ends.  So a response
 * whose application returns in the same step leaves as one part, status to
 * DONE, and nothing of a response that fails before its first body message
 * has left.  Other parts go out as they come.  An event stream begins when
 * its application waits for the first event: that may be long, and clients
 * take the headers as the sign that they are connected.  Any other begins
 * without its body when the time for its start is over.
 */

#include "python/asgi_http.h"


void
db_py_request_release_held(db_py_request_t *request)
{
    if (request->held) {
        db_py_append(&request->held->msg);
        request->held = NULL;
    }
}


static int
db_py_request_endless(const db_py_request_t *request)
{
    return request->headers.events && request->left == -1;
}


int
db_py_request_stream_ended(const db_py_request_t *request)
{
    return request->leaving && request->started && !request->body_sent
           && db_py_request_endless(request);
}


/* Raises what send() says to a client that has left. */

int
db_py_request_disconnected(void)
{
    PyErr_SetString(db_py.disconnected_error, "the client has disconnected");

    return -1;
}


db_part_t *
db_py_request_part(db_py_request_t *request, PyObject *body)
{
    char        *strings;
    size_t       size, len;
    unsigned     nheaders;
    db_part_t   *part;

    len = body ? PyBytes_GET_SIZE(body) : 0;
    size = (len <= DB_PY_COPY_MAX) ? len : 0;
    nheaders = 0;

    if (!request->started) {
        nheaders = PyTuple_GET_SIZE(request->headers.pairs);
        size += request->headers.size;
    }

    part = db_part_create(request->job, nheaders, size, &strings);

    if (part == NULL) {
        PyErr_NoMemory();
        return NULL;
    }

    if (!request->started) {
        db_py_headers_copy(&request->headers, part, strings);
        strings += request->headers.size;

        part->flags = DB_PART_START;
        part->status = request->status;
        part->length = request->headers.length;

        if (request->trailers) {
            part->flags |= DB_PART_TRAILERS;
        }

        request->started = 1;
        Py_CLEAR(request->headers.pairs);
    }

    part->body.len = len;
    part->credit = len;

    if (len > DB_PY_COPY_MAX) {
        part->body.data = PyBytes_AS_STRING(body);
        part->object = Py_NewRef(body);

    } else if (len) {
        part->body.data = memcpy(strings, PyBytes_AS_STRING(body), len);
    }

    return part;
}


void
db_py_request_begin_response(db_py_request_t *request)
{
    db_part_t  *part;

    if (!request->start || request->started || request->gone) {
        return;
    }

    part = db_py_request_part(request, NULL);

    if (part) {
        db_py_request_hand(request, part);

    } else {

        /* the headers leave with the first body */

        PyErr_Clear();
    }
}


void
db_py_request_begin_stream(db_py_request_t *request)
{
    if (db_py_request_endless(request)) {
        db_py_request_begin_response(request);
    }
}


PyObject *
db_py_member(PyObject *message, PyObject *key, PyObject *absent)
{
    PyObject  *value;

    if (PyDict_CheckExact(message)) {
        value = PyDict_GetItemWithError(message, key);

        if (value) {
            return Py_NewRef(value);
        }

        if (PyErr_Occurred()) {
            return NULL;
        }

        if (absent == NULL) {
            PyErr_SetObject(PyExc_KeyError, key);
        }

        return Py_XNewRef(absent);
    }

    value = PyObject_GetItem(message, key);

    if (value == NULL && absent && PyErr_ExceptionMatches(PyExc_KeyError)) {
        PyErr_Clear();
        return Py_NewRef(absent);
    }

    return value;
}


/* 1 when the message is of that type, 0 with an exception when not. */

int
db_py_request_expect(PyObject *type, PyObject *expected)
{
    int  rc;

    if (type == expected) {
        return 1;
    }

    rc = PyObject_RichCompareBool(type, expected, Py_EQ);

    if (rc == 0) {
        PyErr_Format(PyExc_RuntimeError,
                     "Expected ASGI message '%U', but got '%S'.",
                     expected, type);
    }

    return rc == 1;
}


int
db_py_flag(PyObject *message, PyObject *key)
{
    int        flag;
    PyObject  *value;

    value = db_py_member(message, key, Py_False);

    if (value == NULL) {
        return -1;
    }

    flag = PyObject_IsTrue(value);
    Py_DECREF(value);

    return flag;
}


int
db_py_request_headers(db_py_headers_t *headers, PyObject *message,
    PyObject *key)
{
    int        rc;
    PyObject  *value;

    value = db_py_member(message, key, db_py.empty);

    if (value == NULL) {
        return -1;
    }

    rc = db_py_headers_init(headers, value);
    Py_DECREF(value);

    return rc;
}


void
db_py_request_hand(db_py_request_t *request, db_part_t *part)
{
    db_py_request_release_held(request);

    if (request->run.stepping) {
        request->held = part;

    } else {
        db_py_append(&part->msg);
    }
}


void
db_py_request_complete(db_py_request_t *request)
{
    request->complete = 1;

    db_py_wake(&request->waiters.receivers);
}


int
db_py_request_send_start(db_py_request_t *request, PyObject *message)
{
    int               trailers;
    long              status;
    db_str_t         *method;
    PyObject         *value;
    db_py_headers_t   headers;

    value = db_py_member(message, db_py.str.status, NULL);

    if (value == NULL) {
        return -1;
    }

    status = PyLong_AsLong(value);
    Py_DECREF(value);

    if (status == -1 && PyErr_Occurred()) {
        return -1;
    }

    if (status < 200 || status > 999) {
        PyErr_Format(PyExc_RuntimeError,
                     "Invalid HTTP status code: %ld.", status);
        return -1;
    }

    trailers = db_py_flag(message, db_py.str.trailers);

    if (trailers == -1
        || db_py_request_headers(&headers, message, db_py.str.headers) == -1)
    {
        return -1;
    }

    if (db_py_request_over(request) || request->start) {
        Py_DECREF(headers.pairs);
        return 1;
    }

    method = &request->job->method;

    request->start = 1;
    request->status = status;
    request->headers = headers;
    request->left = request->headers.length;
    request->empty = status == 204 || status == 304
                     || db_str_eq(*method, db_string("HEAD"));
    request->trailers = trailers && request->job->http_version > 10;

    atomic_store_explicit(&request->job->begun, 1, memory_order_release);

    if (!request->run.stepping) {
        db_py_request_begin_stream(request);
    }

    return 1;
}


/* The part was made of the last body message. */

void
db_py_request_end_body(db_py_request_t *request, db_part_t *part)
{
    request->body_sent = 1;

    if (!request->trailers) {
        part->flags |= DB_PART_LAST;
    }

    db_py_request_hand(request, part);

    if (!request->trailers) {
        db_py_request_complete(request);
    }
}


/* Sends the body; "more" when it is not the last of it. */

static int
db_py_request_send_bytes(db_py_request_t *request, PyObject *body, int more)
{
    db_part_t  *part;
    Py_ssize_t  len;

    len = body ? PyBytes_GET_SIZE(body) : 0;

    /* FastAPI takes the body of a 205 away when its length was counted */

    if (request->status == 205 && len == 0 && !more && !request->started) {
        request->headers.length = 0;
        request->left = 0;
    }

    if (request->left != -1 && !request->empty) {
        if (len > request->left) {
            PyErr_SetString(PyExc_RuntimeError,
                            "Response content longer than Content-Length");
            return -1;
        }

        if (!more && len < request->left) {
            PyErr_SetString(PyExc_RuntimeError,
                            "Response content shorter than Content-Length");
            return -1;
        }

        request->left -= len;
    }

    if (more && len == 0 && request->started) {
        return 1;
    }

    part = db_py_request_part(request, body);

    if (part == NULL) {
        return -1;
    }

    request->unsent += len;

    if (!more) {
        db_py_request_end_body(request, part);
        return 1;
    }

    db_py_request_hand(request, part);

    return request->unsent <= DB_UNSENT_MAX;
}


int
db_py_request_send_body(db_py_request_t *request, PyObject *message)
{
    int        more, rc;
    PyObject  *body;

    more = db_py_flag(message, db_py.str.more_body);

    if (more == -1) {
        return -1;
    }

    /* Py_False stands for no body: no message carries it by mistake */
    body = db_py_member(message, db_py.str.body, Py_False);

    if (body == NULL) {
        return -1;
    }

    if (body == Py_False) {
        Py_CLEAR(body);

    } else if (!PyBytes_CheckExact(body)) {
        if (!PyObject_CheckBuffer(body)) {
            PyErr_Format(PyExc_TypeError,
                         "a bytes-like object is required as the body, "
                         "not '%.100s'", Py_TYPE(body)->tp_name);
            Py_DECREF(body);
            return -1;
        }

        Py_SETREF(body, PyBytes_FromObject(body));

        if (body == NULL) {
            return -1;
        }
    }

    if (db_py_request_over(request) || request->body_sent) {
        Py_XDECREF(body);
        return 1;
    }

    if (request->empty) {
        Py_CLEAR(body);
    }

    rc = db_py_request_send_bytes(request, body, more);
    Py_XDECREF(body);

    return rc;
}


int
db_py_type_is(PyObject *type, PyObject *expected)
{
    int  rc;

    if (type == expected) {
        return 1;
    }

    rc = PyObject_RichCompareBool(type, expected, Py_EQ);

    if (rc == -1) {

        /* what expects a message compares once more, and raises */

        PyErr_Clear();
    }

    return rc == 1;
}


/*
 * Nobody gets it.  Of a response in one message the application need not
 * know: what it does afterwards is the same.  One that goes on sending is
 * told to stop.
 */

static int
db_py_request_send_nobody(db_py_request_t *request, PyObject *type,
    PyObject *message)
{
    int  more;

    more = db_py_flag(message, db_py.str.more_body);

    if (more == 0) {
        request->start |= db_py_type_is(type, db_py.str.response_start);
        return 1;
    }

    return more == 1 ? db_py_request_disconnected() : -1;
}


/* A message of the response, by what has gone before. */

static int
db_py_request_send_message(db_py_request_t *request, PyObject *type,
    PyObject *message)
{
    if (request->complete || (request->body_sent && !request->trailers)) {
        PyErr_Format(PyExc_RuntimeError,
                     "Unexpected ASGI message '%S' sent, after response "
                     "already completed.", type);
        return -1;
    }

    if (request->body_sent) {
        return db_py_request_expect(type, db_py.str.response_trailers)
                   ? db_py_request_send_trailers(request, message) : -1;
    }

    if (request->start) {

        if (!request->started
            && db_py_type_is(type, db_py.str.response_pathsend))
        {
            return db_py_request_send_file(request, message);
        }

        return db_py_request_expect(type, db_py.str.response_body)
                   ? db_py_request_send_body(request, message) : -1;
    }

    if (request->job->hints
        && db_py_type_is(type, db_py.str.response_early_hint))
    {
        return db_py_request_send_hint(request, message);
    }

    return db_py_request_expect(type, db_py.str.response_start)
               ? db_py_request_send_start(request, message) : -1;
}


int
db_py_request_send(PyObject *self, PyObject *message)
{
    int               rc;
    PyObject         *type;
    db_py_request_t  *request;

    request = (db_py_request_t *) self;

    if (db_py_request_stream_ended(request)) {
        return db_py_request_disconnected();
    }

    type = db_py_member(message, db_py.str.type, NULL);

    if (type == NULL) {
        return -1;
    }

    rc = request->gone ? db_py_request_send_nobody(request, type, message)
                       : db_py_request_send_message(request, type, message);
    Py_DECREF(type);

    return rc;
}


int
db_py_request_send_waited(PyObject *self)
{
    db_py_request_t  *request;

    request = (db_py_request_t *) self;

    if (request->gone || db_py_request_stream_ended(request)) {
        return db_py_request_disconnected();
    }

    /* nothing is given back once the application has ended */

    return request->complete || request->unsent <= DB_UNSENT_MAX;
}
