/*
 * One ASGI request, as its two files see it: asgi_http.c runs it, asgi_send.c
 * makes the parts of its response.  Loop thread, GIL held.
 */

#ifndef DB_PYTHON_ASGI_HTTP_H
#define DB_PYTHON_ASGI_HTTP_H

#include "python/runtime.h"


typedef struct {
    db_py_run_t       run;
    db_py_app_t      *app;
    db_job_t         *job;          /* NULL once DONE has gone */
    db_part_t        *held;
    PyObject         *waiters;      /* list of futures, or NULL */

    db_py_headers_t   headers;      /* pairs is NULL but from the start
                                       message to the first body */
    unsigned          status;
    int64_t           left;         /* of the content-length, -1 without */
    off_t             read;         /* of the body in a file */

    unsigned          body_read:1;
    unsigned          start:1;      /* the start message has come */
    unsigned          started:1;    /* a part with it exists */
    unsigned          complete:1;   /* the last body message has come */
    unsigned          empty:1;      /* HEAD, 204, 304: no body is sent */
    unsigned          gone:1;       /* nobody waits for the response */
    unsigned          expired:1;    /* cancelled by its timeout */
} db_py_request_t;


/* What an awaited send() does: 0, or -1 with an exception set. */
int db_py_request_send(PyObject *self, PyObject *message);

/* Lets the part go that is held back until the step ends. */
void db_py_request_release_held(db_py_request_t *request);

/* Wakes each receive() that waits: it will say http.disconnect. */
void db_py_request_wake(db_py_request_t *request);

#endif /* DB_PYTHON_ASGI_HTTP_H */
