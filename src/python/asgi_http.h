/*
 * One ASGI request, as its files see it: asgi_http.c runs it, asgi_receive.c
 * hands out its body, asgi_send.c makes the parts of its response, with
 * asgi_extension.c for those that few applications send.  A WebSocket is a
 * request, too: asgi_websocket.c has what is different.  Loop thread, GIL
 * held.
 */

#ifndef DB_PYTHON_ASGI_HTTP_H
#define DB_PYTHON_ASGI_HTTP_H

#include "python/runtime.h"


#define DB_PY_COPY_MAX  (16 * 1024)   /* larger bodies are referenced */


typedef struct {
    db_py_run_t       run;
    db_py_app_t      *app;
    db_job_t         *job;          /* NULL once DONE has gone */
    db_part_t        *held;
    db_py_waiters_t   waiters;

    const db_py_op_ops_t  *ops;     /* of receive() and send() */

    db_chain_t        chunks;       /* of the body, owned */
    size_t            taken;        /* of them, not yet given back */
    off_t             read;         /* of the body that came with the job */

    db_py_headers_t   headers;      /* pairs is NULL but from the start
                                       message to the first body */
    unsigned          status;
    int64_t           left;         /* of the content-length, -1 without */
    size_t            unsent;       /* bytes that nginx has not given back */

    unsigned          body_read:1;
    unsigned          start:1;      /* the start message has come */
    unsigned          started:1;    /* a part with it exists */
    unsigned          trailers:1;   /* they have to come before the end */
    unsigned          body_sent:1;  /* the last body message has come */
    unsigned          complete:1;   /* and the trailers have */
    unsigned          empty:1;      /* HEAD, 204, 304: no body is sent */
    unsigned          gone:1;       /* nobody waits for the response */
    unsigned          expired:1;    /* cancelled by its timeout */
    unsigned          leaving:1;    /* the worker quits: streams end */
} db_py_request_t;


extern const db_py_op_ops_t  db_py_request_op_ops;

void db_py_request_dealloc(PyObject *self);

/* Of db_py_run_ops_t. */
PyObject *db_py_request_begin(db_py_run_t *run, int *ended);
void db_py_request_pause(db_py_run_t *run);
void db_py_request_end(db_py_run_t *run, PyObject *result);

/* Of db_py_op_ops_t. */
PyObject *db_py_request_receive(PyObject *self);
int db_py_request_send(PyObject *self, PyObject *message);
int db_py_request_send_waited(PyObject *self);
db_py_waiters_t *db_py_request_waiters(PyObject *self);

/* callable(scope, receive, send, ...) with at most two more arguments. */
PyObject *db_py_request_call(db_py_request_t *request, PyObject *callable,
    PyObject *scope, PyObject *const *more, unsigned nmore);

/* Bytes of chunks were handed out: nginx may read as many. */
void db_py_request_take(db_py_request_t *request, size_t bytes);

void db_py_request_free_chunks(db_py_request_t *request);

/* Lets the part go that is held back until the step ends. */
void db_py_request_release_held(db_py_request_t *request);

/* Sends status and headers, when they are there, before the first body. */
void db_py_request_begin_response(db_py_request_t *request);

/* The same of an event stream. */
void db_py_request_begin_stream(db_py_request_t *request);

/* message[key], or a new reference to "absent"; NULL with an exception. */
PyObject *db_py_member(PyObject *message, PyObject *key, PyObject *absent);

/* A boolean member that may be absent: 1, 0, or -1 with an exception. */
int db_py_flag(PyObject *message, PyObject *key);

/* The headers in message[key], none when it is absent: 0 or -1. */
int db_py_request_headers(db_py_headers_t *headers, PyObject *message,
    PyObject *key);

/* A part for the body, with status and headers before it when due. */
db_part_t *db_py_request_part(db_py_request_t *request, PyObject *body);

/* Takes over a part of the response, or the one of its last body message. */
void db_py_request_hand(db_py_request_t *request, db_part_t *part);
void db_py_request_end_body(db_py_request_t *request, db_part_t *part);

/* Nothing of the response is left to be sent by the application. */
void db_py_request_complete(db_py_request_t *request);

/* Raises what send() says to a client that has left: -1. */
int db_py_request_disconnected(void);

/* 1 when the message is of that type, 0 with an exception when not. */
int db_py_request_expect(PyObject *type, PyObject *expected);
int db_py_type_is(PyObject *type, PyObject *expected);

/* As of db_py_op_ops_t.send. */
int db_py_request_send_start(db_py_request_t *request, PyObject *message);
int db_py_request_send_body(db_py_request_t *request, PyObject *message);

/* asgi_websocket.c */
db_py_request_t *db_py_socket_new(void);
int db_py_socket_scope(PyObject *scope, const db_job_t *job);

/* asgi_extension.c; as of db_py_op_ops_t.send */
int db_py_request_send_file(db_py_request_t *request, PyObject *message);
int db_py_request_send_trailers(db_py_request_t *request, PyObject *message);
int db_py_request_send_hint(db_py_request_t *request, PyObject *message);

/* An endless stream that the worker's end has ended. */
int db_py_request_stream_ended(const db_py_request_t *request);

/*
 * Whether nothing can be sent any more, which is to be asked once a message
 * has been read: that may have run code that has ended the request.
 */
static inline int
db_py_request_over(const db_py_request_t *request)
{
    return request->gone || request->complete;
}

#endif /* DB_PYTHON_ASGI_HTTP_H */
