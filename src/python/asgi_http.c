/*
 * One ASGI request: from its job to the part flagged DONE, and what its
 * receive() says.  Loop thread, GIL held.
 */

#include "python/asgi_http.h"

#include <errno.h>
#include <unistd.h>


#define DB_PY_BODY_CHUNK  (1024 * 1024)

#define DB_PY_ERROR_BODY  "Internal Server Error"


static PyObject *db_py_request_begin(db_py_run_t *run, int *ended);
static void db_py_request_pause(db_py_run_t *run);
static void db_py_request_end(db_py_run_t *run, PyObject *result);

static PyObject *db_py_request_receive(PyObject *self);
static int db_py_request_wait(PyObject *self, PyObject *future);
static void db_py_request_forget(PyObject *self, PyObject *future);


static const db_py_run_ops_t  db_py_request_run_ops = {
    db_py_request_begin,
    db_py_request_pause,
    db_py_request_end
};

static const db_py_op_ops_t  db_py_request_op_ops = {
    db_py_request_send,
    db_py_request_receive,
    db_py_request_wait,
    db_py_request_forget
};


static PyObject *
db_py_receive(PyObject *self, PyObject *unused)
{
    return db_py_op(&db_py_request_op_ops, self, NULL);
}


static PyObject *
db_py_send(PyObject *self, PyObject *message)
{
    return db_py_op(&db_py_request_op_ops, self, message);
}


static PyMethodDef  db_py_receive_def = {
    "receive", db_py_receive, METH_NOARGS, "The request's next message."
};

static PyMethodDef  db_py_send_def = {
    "send", db_py_send, METH_O, "Sends a message of the response."
};


static void
db_py_request_dealloc(PyObject *self)
{
    PyTypeObject     *type;
    db_py_request_t  *request;

    type = Py_TYPE(self);
    request = (db_py_request_t *) self;

    Py_XDECREF(request->waiters);
    Py_XDECREF(request->headers.pairs);
    Py_XDECREF(request->run.coro);
    Py_XDECREF(request->run.task);

    PyObject_Free(request);
    Py_DECREF(type);
}


static PyType_Slot  db_py_request_slots[] = {
    { Py_tp_dealloc, db_py_request_dealloc },
    { Py_tp_iter, db_py_self },
    { Py_tp_iternext, db_py_run_next },
    { Py_am_await, db_py_self },
    { Py_am_send, db_py_run_send },
    { Py_tp_methods, db_py_run_methods },
    { Py_tp_getset, db_py_run_getset },
    { 0, NULL }
};

PyType_Spec  db_py_request_spec = {
    .name = "_databridge.Request",
    .basicsize = sizeof(db_py_request_t),
    .flags = Py_TPFLAGS_DEFAULT|Py_TPFLAGS_DISALLOW_INSTANTIATION
             |Py_TPFLAGS_IMMUTABLETYPE,
    .slots = db_py_request_slots
};


/* The whole life of a job for which there is no memory, or no application. */

static void
db_py_request_refuse(db_job_t *job)
{
    char       *strings;
    db_part_t  *part;

    part = db_part_create(job, 0, 0, &strings);

    if (part == NULL) {
        db_py_owe(job);
        return;
    }

    part->flags = DB_PART_ABORT|DB_PART_DONE;
    db_py_append(part);
}


void
db_py_request(db_job_t *job)
{
    db_py_app_t      *app;
    db_py_request_t  *request;

    app = &db_py.apps[job->app];

    if (app->call == NULL || db_py.stopping) {
        db_py_request_refuse(job);
        return;
    }

    request = PyObject_New(db_py_request_t, db_py.request_type);

    if (request == NULL) {
        PyErr_Clear();
        db_py_request_refuse(job);
        return;
    }

    memset((char *) request + sizeof(PyObject), 0,
           sizeof(db_py_request_t) - sizeof(PyObject));

    request->run.ops = &db_py_request_run_ops;
    request->app = app;
    request->job = job;
    job->run = request;

    db_py_run_start(&request->run);

    Py_DECREF(request);
}


static PyObject *
db_py_request_begin(db_py_run_t *run, int *ended)
{
    PyObject         *scope, *receive, *send, *awaitable;
    PyObject         *args[4];
    db_py_request_t  *request;

    request = (db_py_request_t *) run;
    awaitable = NULL;

    scope = db_py_scope(request->app, request->job);
    receive = PyCFunction_New(&db_py_receive_def, (PyObject *) run);
    send = PyCFunction_New(&db_py_send_def, (PyObject *) run);

    if (scope && receive && send) {
        args[0] = NULL;
        args[1] = scope;
        args[2] = receive;
        args[3] = send;

        awaitable = PyObject_Vectorcall(request->app->call, &args[1],
                                        3|PY_VECTORCALL_ARGUMENTS_OFFSET,
                                        NULL);
    }

    Py_XDECREF(scope);
    Py_XDECREF(receive);
    Py_XDECREF(send);

    return awaitable;
}


static void
db_py_request_pause(db_py_run_t *run)
{
    db_py_request_release_held((db_py_request_t *) run);
}


void
db_py_request_wake(db_py_request_t *request)
{
    PyObject    *waiters, *future, *result;
    Py_ssize_t   i;

    waiters = request->waiters;
    request->waiters = NULL;

    if (waiters == NULL) {
        return;
    }

    for (i = 0; i < PyList_GET_SIZE(waiters); i++) {
        future = PyList_GET_ITEM(waiters, i);

        result = PyObject_CallMethodNoArgs(future, db_py.str.done);

        if (result == Py_False) {
            Py_SETREF(result, PyObject_CallMethodOneArg(future,
                                                        db_py.str.set_result,
                                                        Py_None));
        }

        if (result == NULL) {
            db_py_log_exception("a receive() could not be woken");
        }

        Py_XDECREF(result);
    }

    Py_DECREF(waiters);
}


void
db_py_request_disconnect(db_job_t *job)
{
    db_py_request_t  *request;

    request = job->run;

    if (request == NULL || request->gone) {
        return;
    }

    request->gone = 1;
    db_py_request_wake(request);
}


void
db_py_request_cancel(db_job_t *job)
{
    db_py_request_t  *request;

    request = job->run;

    if (request == NULL) {
        return;
    }

    request->gone = 1;
    request->expired = 1;

    db_py_run_cancel(&request->run);
}


/* The next piece of a body that lies in a file. */

static PyObject *
db_py_request_read(db_py_request_t *request)
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


static PyObject *
db_py_request_receive(PyObject *self)
{
    db_job_t         *job;
    PyObject         *body, *message;
    db_py_request_t  *request;

    request = (db_py_request_t *) self;

    if (request->gone || request->complete) {
        return db_py_disconnect_message();
    }

    if (request->body_read) {
        return NULL;
    }

    job = request->job;

    if (job->body_fd == -1) {
        body = PyBytes_FromStringAndSize(job->body.data, job->body.len);
        request->body_read = 1;

    } else {
        body = db_py_request_read(request);
        request->body_read = request->read >= job->body_size;
    }

    if (body == NULL) {
        return NULL;
    }

    message = db_py_request_message(body, !request->body_read);
    Py_DECREF(body);

    return message;
}


static int
db_py_request_wait(PyObject *self, PyObject *future)
{
    db_py_request_t  *request;

    request = (db_py_request_t *) self;

    if (request->waiters == NULL) {
        request->waiters = PyList_New(0);

        if (request->waiters == NULL) {
            return -1;
        }
    }

    return PyList_Append(request->waiters, future);
}


static void
db_py_request_forget(PyObject *self, PyObject *future)
{
    Py_ssize_t        i;
    db_py_request_t  *request;

    request = (db_py_request_t *) self;

    if (request->waiters == NULL) {
        return;
    }

    for (i = 0; i < PyList_GET_SIZE(request->waiters); i++) {
        if (PyList_GET_ITEM(request->waiters, i) == future) {
            (void) PyList_SetSlice(request->waiters, i, i + 1, NULL);
            return;
        }
    }
}


/* "METHOD path" and the request's id, for the log. */

static PyObject *
db_py_request_name(const db_job_t *job)
{
    unsigned      i;
    db_header_t  *header;

    for (i = 0; i < job->nheaders; i++) {
        header = &job->headers[i];

        if (db_str_eq(header->name, db_string("x-request-id"))) {
            return db_py_format("%.*s %.*s, request id %.*s",
                                (int) job->method.len, job->method.data,
                                (int) job->target.len, job->target.data,
                                (int) header->value.len, header->value.data);
        }
    }

    return db_py_format("%.*s %.*s", (int) job->method.len, job->method.data,
                        (int) job->target.len, job->target.data);
}


/* Hands text about the request, and the exception or None, to the logger. */

static void
db_py_request_report(db_py_request_t *request, const char *text,
    PyObject *detail, PyObject *exception)
{
    PyObject  *name, *message, *result;

    name = db_py_request_name(request->job);
    message = NULL;
    result = NULL;

    if (name) {
        message = PyUnicode_FromFormat(text, detail);
    }

    if (message) {
        result = PyObject_CallFunctionObjArgs(db_py.report, message, name,
                                              exception, NULL);
    }

    if (result == NULL) {
        db_py_log_exception("an error of an application could not be logged");
    }

    Py_XDECREF(result);
    Py_XDECREF(message);
    Py_XDECREF(name);
}


static void
db_py_request_failed(db_py_request_t *request)
{
    int        cancelled;
    PyObject  *exception;

    cancelled = PyErr_ExceptionMatches(db_py.cancelled_error);
    exception = db_py_exception();

    if (cancelled && (request->expired || db_py.stopping)) {
        db_py_request_report(request, request->expired
                                          ? "cancelled after its timeout"
                                          : "cancelled at the shutdown",
                             NULL, Py_None);

    } else {
        db_py_request_report(request, "Exception in ASGI application", NULL,
                             exception);
    }

    Py_XDECREF(exception);
}


/* 500 as uvicorn words it. */

static db_part_t *
db_py_request_error_part(db_py_request_t *request)
{
    char       *strings;
    db_part_t  *part;

    part = db_part_create(request->job, 2, 0, &strings);

    if (part == NULL) {
        return NULL;
    }

    part->flags = DB_PART_START|DB_PART_LAST;
    part->status = 500;
    part->headers[0].name = db_string("content-type");
    part->headers[0].value = db_string("text/plain; charset=utf-8");
    part->headers[1].name = db_string("content-length");
    part->headers[1].value = db_string("21");

    if (!db_str_eq(request->job->method, db_string("HEAD"))) {
        part->body = db_string(DB_PY_ERROR_BODY);
    }

    return part;
}


static void
db_py_request_end(db_py_run_t *run, PyObject *result)
{
    char             *strings;
    unsigned          flags;
    db_job_t         *job;
    db_part_t        *part;
    db_py_request_t  *request;

    request = (db_py_request_t *) run;
    flags = DB_PART_DONE;

    if (result == NULL) {
        db_py_request_failed(request);

    } else if (result != Py_None) {
        db_py_request_report(request, "ASGI callable should return None, but "
                             "returned '%S'.", result, Py_None);

    } else if (!request->gone && !request->start) {
        db_py_request_report(request, "ASGI callable returned without "
                             "starting response.", NULL, Py_None);

    } else if (!request->gone && !request->complete) {
        db_py_request_report(request, "ASGI callable returned without "
                             "completing response.", NULL, Py_None);
    }

    job = request->job;
    part = request->held;
    request->held = NULL;

    if (!request->complete && !request->gone) {
        if (!request->started) {
            part = db_py_request_error_part(request);

        } else {
            flags |= DB_PART_ABORT;
        }
    }

    if (part == NULL) {
        part = db_part_create(job, 0, 0, &strings);
    }

    request->complete = 1;
    request->job = NULL;
    job->run = NULL;

    if (part) {
        part->flags |= flags;
        db_py_append(part);

    } else {
        db_py_owe(job);
    }

    db_py_request_wake(request);
}
