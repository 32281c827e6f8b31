/*
 * One ASGI request: from its job to the part flagged DONE.  Loop thread, GIL
 * held.
 */

#include "python/plan.h"


#define DB_PY_ERROR_BODY  "Internal Server Error"


static const db_py_run_ops_t  db_py_request_run_ops = {
    db_py_request_begin,
    NULL,
    db_py_request_pause,
    db_py_request_end
};

const db_py_op_ops_t  db_py_request_op_ops = {
    db_py_request_send,
    db_py_request_send_waited,
    db_py_request_receive,
    db_py_request_waiters
};


static PyObject *
db_py_receive(PyObject *self, PyObject *unused)
{
    return db_py_op(((db_py_request_t *) self)->ops, self, NULL);
}


static PyObject *
db_py_send(PyObject *self, PyObject *message)
{
    return db_py_op(((db_py_request_t *) self)->ops, self, message);
}


static PyMethodDef  db_py_receive_def = {
    "receive", db_py_receive, METH_NOARGS, "The request's next message."
};

static PyMethodDef  db_py_send_def = {
    "send", db_py_send, METH_O, "Sends a message of the response."
};


void
db_py_request_dealloc(PyObject *self)
{
    db_py_request_t  *request;

    request = (db_py_request_t *) self;

    Py_XDECREF(request->waiters.receivers);
    Py_XDECREF(request->waiters.senders);
    Py_XDECREF(request->headers.pairs);

    db_py_run_dealloc(self);
}


static PyType_Slot  db_py_request_slots[] = {
    DB_PY_RUN_SLOTS(db_py_request_dealloc)
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
    db_py_append(&part->msg);
}


static db_py_request_t *
db_py_request_new(void)
{
    db_py_request_t  *request;

    request = db_py_run_new(db_py.request_type, &db_py_request_run_ops,
                            sizeof(db_py_request_t));

    if (request) {
        request->ops = &db_py_request_op_ops;
    }

    return request;
}


/* A new reference; NULL: the job has had its answer. */

db_py_run_t *
db_py_request_run(db_job_t *job)
{
    db_py_app_t      *app;
    db_py_request_t  *request;

    app = &db_py.apps[job->app];

    if (app->call == NULL || db_py.stopping) {
        db_py_request_refuse(job);
        return NULL;
    }

    if (job->websocket) {
        request = db_py_socket_new();

    } else if (job->plan && db_py_plan_open(app)) {
        request = db_py_plan_run_new(job->plan);

    } else {
        request = db_py_request_new();
    }

    if (request == NULL) {
        PyErr_Clear();
        db_py_request_refuse(job);
        return NULL;
    }

    db_chain_init(&request->chunks);
    request->app = app;
    request->job = job;
    job->run = request;

    return &request->run;
}


void
db_py_request(db_job_t *job)
{
    db_py_run_t  *run;

    run = db_py_request_run(job);

    if (run) {
        db_py_relay_start(run);
        Py_DECREF(run);
    }
}


PyObject *
db_py_request_call(db_py_request_t *request, PyObject *callable,
    PyObject *scope, PyObject *const *more, unsigned nmore)
{
    unsigned   i;
    PyObject  *receive, *send, *result, *args[6];

    result = NULL;

    receive = PyCFunction_New(&db_py_receive_def, (PyObject *) request);
    send = PyCFunction_New(&db_py_send_def, (PyObject *) request);

    if (receive && send) {
        args[0] = NULL;
        args[1] = scope;
        args[2] = receive;
        args[3] = send;

        for (i = 0; i < nmore; i++) {
            args[4 + i] = more[i];
        }

        result = PyObject_Vectorcall(callable, &args[1],
                                     (3 + nmore)
                                     |PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }

    Py_XDECREF(receive);
    Py_XDECREF(send);

    return result;
}


PyObject *
db_py_request_begin(db_py_run_t *run, int *ended)
{
    PyObject         *scope, *awaitable;
    db_py_request_t  *request;

    request = (db_py_request_t *) run;

    scope = db_py_scope(request->app, request->job);

    if (scope && request->job->websocket
        && db_py_socket_scope(scope, request->job) == -1)
    {
        Py_CLEAR(scope);
    }

    if (scope == NULL) {
        return NULL;
    }

    awaitable = db_py_request_call(request, request->app->call, scope, NULL,
                                   0);
    Py_DECREF(scope);

    return awaitable;
}


void
db_py_request_pause(db_py_run_t *run)
{
    db_py_request_t  *request;

    request = (db_py_request_t *) run;

    db_py_request_release_held(request);
    db_py_request_begin_stream(request);
}


db_py_waiters_t *
db_py_request_waiters(PyObject *self)
{
    return &((db_py_request_t *) self)->waiters;
}


static void
db_py_request_wake(db_py_request_t *request)
{
    db_py_wake(&request->waiters.receivers);
    db_py_wake(&request->waiters.senders);
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
    db_py_request_wake(request);
}


/* The start message was in time, so that the response begins without more. */

void
db_py_request_time_over(db_job_t *job)
{
    if (job->run) {
        db_py_request_begin_response(job->run);
    }
}


void
db_py_request_leave(db_job_t *job)
{
    db_py_request_t  *request;

    request = job->run;

    if (request) {
        request->leaving = 1;
        db_py_request_wake(request);
    }
}


void
db_py_request_sent(db_job_t *job)
{
    db_py_request_t  *request;

    request = job->run;

    if (request == NULL) {
        (void) db_credit_take(&job->sent);
        return;
    }

    request->unsent -= db_credit_take(&job->sent);

    if (request->unsent <= DB_UNSENT_MAX) {
        db_py_wake(&request->waiters.senders);
    }
}


void
db_py_request_chunk(db_chunk_t *chunk)
{
    db_py_request_t  *request;

    request = chunk->job->run;

    if (request == NULL) {
        db_chunk_destroy(chunk);
        return;
    }

    db_chain_append(&request->chunks, &chunk->msg.node);
    db_py_wake(&request->waiters.receivers);
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

    part = db_part_create(request->job, 1, 0, &strings);

    if (part == NULL) {
        return NULL;
    }

    part->flags = DB_PART_START|DB_PART_LAST;
    part->status = 500;
    part->headers[0].name = db_string("content-type");
    part->headers[0].value = db_string("text/plain; charset=utf-8");
    part->length = sizeof(DB_PY_ERROR_BODY) - 1;

    if (!db_str_eq(request->job->method, db_string("HEAD"))) {
        part->body = db_string(DB_PY_ERROR_BODY);
    }

    return part;
}


void
db_py_request_end(db_py_run_t *run, PyObject *result)
{
    char             *strings;
    unsigned          flags;
    db_job_t         *job;
    db_part_t        *part;
    db_py_request_t  *request;

    request = (db_py_request_t *) run;
    flags = DB_PART_DONE;
    job = request->job;

    if (result == NULL) {
        db_py_request_failed(request);

    } else if (result != Py_None) {
        db_py_request_report(request, "ASGI callable should return None, but "
                             "returned '%S'.", result, Py_None);

    } else if (!request->gone && !request->start) {
        db_py_request_report(request, job->websocket
                                 ? "ASGI callable returned without "
                                   "completing handshake."
                                 : "ASGI callable returned without "
                                   "starting response.", NULL, Py_None);

    } else if (!request->gone && !request->complete
               && !db_py_request_stream_ended(request))
    {
        db_py_request_report(request, "ASGI callable returned without "
                             "completing response.", NULL, Py_None);
    }

    part = request->held;
    request->held = NULL;

    if (!request->complete && !request->gone) {
        if (!request->started) {
            part = db_py_request_error_part(request);

        } else if (db_py_request_stream_ended(request)) {
            flags |= DB_PART_LAST;

        } else {
            flags |= DB_PART_ABORT;
        }
    }

    if (part == NULL) {
        part = db_part_create(job, 0, 0, &strings);
    }

    db_py_request_free_chunks(request);

    request->complete = 1;
    request->job = NULL;
    job->run = NULL;

    if (part) {
        part->flags |= flags;
        db_py_append(&part->msg);

    } else {
        db_py_owe(job);
    }

    db_py_request_wake(request);
}
