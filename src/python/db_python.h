/*
 * The Python side as the host sees it: no Python.h needed.  The host is the
 * nginx module, or a test's main().
 */

#ifndef DB_PYTHON_H
#define DB_PYTHON_H

#include "bridge/db_bridge.h"
#include "crud/db_crud.h"
#include "obs/db_metrics.h"
#include "route/db_cors.h"
#include "route/db_router.h"
#include "store/db_store.h"


/* One application: "module:attr", imported in the worker. */

typedef struct {
    db_str_t       target;
    db_str_t       interface;     /* "auto", "asgi" or "wsgi" */
    db_str_t       root_path;
    unsigned       factory:1;
} db_app_conf_t;


/*
 * A store that applications may name.  Python opens it when the first of
 * them does; the host takes it over with DB_MSG_READY.
 */

typedef struct {
    db_str_t       name;
    db_str_t       uri;
    db_store_t    *store;             /* NULL until it is opened */
} db_store_entry_t;


typedef enum {
    DB_PYLOG_CRIT,
    DB_PYLOG_ERROR,
    DB_PYLOG_WARN,
    DB_PYLOG_NOTICE,
    DB_PYLOG_INFO,
    DB_PYLOG_DEBUG
} db_pylog_level_t;


/* Constant while Python runs; the strings are NUL-terminated. */

typedef struct {
    db_bridge_t       *bridge;

    db_str_t           venv;          /* empty: the libpython's own prefix */
    db_str_t           path;          /* ":" separated, before sys.path */
    db_str_t          *env;           /* "NAME=value", set in os.environ */
    unsigned           nenv;

    db_app_conf_t     *apps;
    unsigned           napps;
    db_store_entry_t  *stores;        /* for CRUD declared by an app */
    unsigned           nstores;
    db_log_pt          store_log;     /* of the stores, with log_ctx */
    unsigned           sync_threads;  /* for "def" handlers */
    unsigned           nice;          /* of Python's threads, once ready */
    db_metrics_row_t  *metrics;       /* the worker's */

    /* one line without its end; any thread */
    void             (*log)(void *ctx, db_pylog_level_t level,
                            const char *text, size_t len);
    void              *log_ctx;

    /* after a fork-free spawn of a child: nginx may have missed a signal */
    void             (*signals)(void *ctx);

    /* in a child of os.fork(), to close what is the parent's alone */
    void             (*forked)(void *ctx);
} db_python_conf_t;


/*
 * A call of a native resource by an application.  It lives in the call's
 * arena and has one owner at a time: the loop thread until it is published,
 * then the nginx thread, which has the store carry it out, then the loop
 * thread again, which destroys the call, whether or not somebody still waits
 * for the future.  What the nginx thread gets of a worker that ends on TERM
 * goes back as 503.
 */

typedef struct {
    db_msg_t         msg;             /* DB_MSG_CRUD */
    db_crud_call_t  *call;
    db_store_t      *store;
    void            *future;          /* loop thread: a strong reference */
} db_python_call_t;


/*
 * A plan for a route, as far as the host tells whether a request may take it.
 * Constant, and Python's for the life of the process.
 */

typedef struct {
    unsigned       nrequired;         /* headers, in lower case */
    db_str_t      *required;
    unsigned       nabsent;
    db_str_t      *absent;
    unsigned       nhosts;            /* 0: any */
    db_str_t      *hosts;             /* "*.example.com": an end of it */
    unsigned       https:1;
    unsigned       body:1;            /* the request's may be read */
} db_plan_t;


/* What an application has declared, in order of declaration. */

typedef struct {
    db_crud_t     *crud;              /* native, owned; else NULL */
    db_store_t    *store;             /* of the crud */
    db_crud_t     *hybrid;            /* of which this is Python's part; the
                                         crud is a later route's */
    db_part_t     *answer;            /* constant, owned; else NULL */
    const db_plan_t  *plan;           /* NULL: none */
    unsigned       timeout;           /* ms; DB_TIMEOUT_DEFAULT: location's */
    char          *pattern;           /* owned; NULL: only Python knows */
} db_route_t;

#define DB_TIMEOUT_DEFAULT  ((unsigned) -1)


typedef struct {
    db_router_t   *router;
    db_route_t    *routes;            /* by the router's index */
    unsigned       nroutes;
    db_cors_t     *cors;              /* of native answers; NULL: none */
    char          *error;             /* why the app failed, else NULL */
    unsigned       wsgi:1;
} db_table_t;


/*
 * Sent once, when every application has started or failed: one table for
 * each.  Owned by the nginx thread from then on.
 */

typedef struct {
    db_msg_t       msg;               /* DB_MSG_READY */
    unsigned       ntables;
    db_table_t   **tables;
} db_ready_t;

void db_ready_destroy(db_ready_t *ready);


/*
 * Whether the directory is a virtual environment of the Python that we embed:
 * DB_OK, or DB_ERROR with a message.  Starts no interpreter.
 */
int db_python_check_venv(const char *venv, char *error, size_t size);


/*
 * Runs Python on the calling thread, which becomes its main thread: start
 * the interpreter and PyLoop, start the applications, publish DB_MSG_READY,
 * serve until DB_MSG_STOP or DB_MSG_HALT, shut the applications down, publish
 * DB_MSG_STOPPED.  A process can do so once; the interpreter is never
 * finalized.  An interpreter that does not start is reported through
 * DB_MSG_READY with every table failed, then DB_MSG_STOPPED.
 */
void db_python_run(const db_python_conf_t *conf);

#endif /* DB_PYTHON_H */
