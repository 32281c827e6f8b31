/*
 * One ASGI request, as its files see it: asgi_http.c runs it, asgi_receive.c
 * hands out its body, asgi_send.c makes the parts of its response, with
 * asgi_extension.c for those that few applications send.  Loop thread, GIL
 * held.
 */

#ifndef DB_PYTHON_ASGI_HTTP_H
#define DB_PYTHON_ASGI_HTTP_H

#include "python/runtime.h"


typedef struct {
    db_py_run_t       run;
    db_py_app_t      *app;
    db_job_t         *job;          /* NULL once DONE has gone */
    db_part_t        *held;
    db_py_waiters_t   waiters;

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


/* Of db_py_op_ops_t. */
PyObject *db_py_request_receive(PyObject *self);
int db_py_request_send(PyObject *self, PyObject *message);
int db_py_request_send_waited(PyObject *self);

void db_py_request_free_chunks(db_py_request_t *request);

/* Lets the part go that is held back until the step ends. */
void db_py_request_release_held(db_py_request_t *request);

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

/* asgi_extension.c; as of db_py_op_ops_t.send */
int db_py_request_send_file(db_py_request_t *request, PyObject *message);
int db_py_request_send_trailers(db_py_request_t *request, PyObject *message);
int db_py_request_send_hint(db_py_request_t *request, PyObject *message);

/* An endless stream that the worker's end has ended. */
int db_py_request_stream_ended(const db_py_request_t *request);

#endif /* DB_PYTHON_ASGI_HTTP_H */
