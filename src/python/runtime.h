/*
 * What the files of this room share.  All of it belongs to the loop thread
 * and is touched with the GIL held, except what db_ready_destroy() frees.
 */

#ifndef DB_PYTHON_RUNTIME_H
#define DB_PYTHON_RUNTIME_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "pyloop/pyloop_api.h"
#include "python/ready.h"

#include <stdint.h>


/*
 * The interned strings: dictionary keys, method names, request methods.
 */

#define DB_PY_STRINGS(_)                                                      \
    _(type, "type")                                                           \
    _(asgi, "asgi")                                                           \
    _(http_version, "http_version")                                           \
    _(method, "method")                                                       \
    _(scheme, "scheme")                                                       \
    _(path, "path")                                                           \
    _(raw_path, "raw_path")                                                   \
    _(query_string, "query_string")                                           \
    _(root_path, "root_path")                                                 \
    _(headers, "headers")                                                     \
    _(client, "client")                                                       \
    _(server, "server")                                                       \
    _(state, "state")                                                         \
    _(extensions, "extensions")                                               \
    _(databridge, "databridge")                                               \
    _(remote_user, "remote_user")                                             \
    _(scope, "scope")                                                         \
    _(status, "status")                                                       \
    _(body, "body")                                                           \
    _(more_body, "more_body")                                                 \
    _(http, "http")                                                           \
    _(https, "https")                                                         \
    _(v10, "1.0")                                                             \
    _(v11, "1.1")                                                             \
    _(v20, "2")                                                               \
    _(version, "version")                                                     \
    _(version_3, "3.0")                                                       \
    _(spec_version, "spec_version")                                           \
    _(spec_25, "2.5")                                                         \
    _(request, "http.request")                                                \
    _(disconnect, "http.disconnect")                                          \
    _(response_start, "http.response.start")                                  \
    _(response_body, "http.response.body")                                    \
    _(response_trailers, "http.response.trailers")                            \
    _(response_pathsend, "http.response.pathsend")                            \
    _(response_early_hint, "http.response.early_hint")                        \
    _(trailers, "trailers")                                                   \
    _(more_trailers, "more_trailers")                                         \
    _(links, "links")                                                         \
    _(websocket, "websocket")                                                 \
    _(ws, "ws")                                                               \
    _(wss, "wss")                                                             \
    _(subprotocols, "subprotocols")                                           \
    _(subprotocol, "subprotocol")                                             \
    _(socket_connect, "websocket.connect")                                    \
    _(socket_receive, "websocket.receive")                                    \
    _(socket_disconnect, "websocket.disconnect")                              \
    _(socket_accept, "websocket.accept")                                      \
    _(socket_send, "websocket.send")                                          \
    _(socket_close, "websocket.close")                                        \
    _(socket_response, "websocket.http.response")                             \
    _(socket_response_start, "websocket.http.response.start")                 \
    _(socket_response_body, "websocket.http.response.body")                   \
    _(bytes, "bytes")                                                         \
    _(text, "text")                                                           \
    _(code, "code")                                                           \
    _(reason, "reason")                                                       \
    _(no_text, "")                                                            \
    _(cancel, "cancel")                                                       \
    _(close, "close")                                                         \
    _(done, "done")                                                           \
    _(route, "route")                                                         \
    _(endpoint, "endpoint")                                                   \
    _(path_params, "path_params")                                             \
    _(raise, "databridge.raise")                                              \
    _(from_attributes, "from_attributes")                                     \
    _(set_result, "set_result")                                               \
    _(set_exception, "set_exception")                                         \
    _(throw, "throw")                                                         \
    _(none, "none")

/* In Python's memory for life, as the request methods below. */

typedef struct {
#define _(name, text)  PyObject  *name;
    DB_PY_STRINGS(_)
#undef _
} db_py_strings_t;

#define DB_PY_METHODS  7


typedef struct db_py_run_s  db_py_run_t;


/* An application; "call" is NULL unless it has started. */

typedef struct {
    PyObject          *call;
    PyObject          *state;        /* dict, filled by the lifespan */
    PyObject          *scope;        /* dict, the template of each scope */
    PyObject          *extensions;   /* dict, of that in it */
    PyObject          *hinted;       /* the same with early hints */
    PyObject          *gate;         /* of its plans, or NULL */
    unsigned           gate_turn;    /* when it was asked */
    db_str_t           root_path;    /* of the configuration */
    unsigned           pathsend:1;   /* is offered */
    unsigned           open:1;       /* what the gate said */
} db_py_app_t;


typedef struct {
    const db_python_conf_t  *conf;
    const pyloop_api_t      *api;

    PyObject          *loop;
    PyObject          *create_future;   /* the loop's bound method */
    PyObject          *stop;            /* called with: fast? */
    PyObject          *cancelled_error;
    PyObject          *disconnected_error;
    PyObject          *empty;           /* () */
    PyObject          *from_attributes; /* its name, in a tuple */
    PyObject          *uuid;            /* uuid.UUID */
    PyObject          *report;          /* report(text, request, exception) */

    PyTypeObject      *request_type;
    PyTypeObject      *plan_type;
    PyTypeObject      *fetcher_type;
    PyTypeObject      *socket_type;
    PyTypeObject      *relay_type;
    PyTypeObject      *spawn_type;
    PyTypeObject      *op_type;
    PyTypeObject      *lines_type;
    PyTypeObject      *resource_type;

    db_py_strings_t    str;
    PyObject          *methods[DB_PY_METHODS];
    PyObject          *server;          /* the last request's, a tuple */
    db_str_t           server_name;     /* what it was made of */
    unsigned           server_port;
    PyObject          *fork_exec;       /* _posixsubprocess's own */

    db_py_app_t       *apps;
    struct db_py_plan_s  *plans;        /* all, for life */
    db_ready_t        *ready;           /* until it is published */

    db_msg_t          *pending;         /* taken from the bridge, in order */
    unsigned           room;            /* for so many more in this turn */
    db_chain_t         results;         /* held back until flushed */
    uint64_t           results_since;   /* ns, of the first of them */
    uint64_t           turn;            /* ns, when it began; 0: none */
    unsigned           turns;           /* how many */
    db_chain_t         debts;           /* jobs whose last part found no
                                           memory; tried again each turn */

    db_py_run_t       *runs;            /* all that live, owned */
    unsigned           nruns;
    unsigned           stopping:1;

    db_msg_t           stopped;
} db_py_runtime_t;


/* The process's only one: CPython's main interpreter cannot be had twice. */
extern db_py_runtime_t  db_py;


/* coroutine.c: what a type needs to be awaited and driven as a coroutine */

PyObject *db_py_self(PyObject *self);

/* tp_iternext and the method send(), by the type's own am_send. */
PyObject *db_py_coroutine_next(PyObject *self);
PyObject *db_py_coroutine_send(PyObject *self, PyObject *arg);

#define DB_PY_COROUTINE_SLOTS(send, methods)                                  \
    { Py_tp_iter, db_py_self },                                               \
    { Py_tp_iternext, db_py_coroutine_next },                                 \
    { Py_am_await, db_py_self },                                              \
    { Py_am_send, send },                                                     \
    { Py_tp_methods, methods }

PyObject *db_py_returned(PySendResult status, PyObject *result);
PySendResult db_py_throw(PyObject *iter, PyObject *const *args,
    Py_ssize_t nargs, PyObject **result);
PyObject *db_py_awaitable(PyObject *object);


/*
 * runner.c: a coroutine in C that drives what the user wrote, inside a Task.
 * The user's part is begun, and its end is handled, in the Task's own steps,
 * so that no callback is needed to learn of the end.
 */

typedef struct {
    /*
     * The first step.  A new reference: the awaitable to drive or, with
     * *ended set, the result.  NULL with an exception.
     */
    PyObject        *(*begin)(db_py_run_t *run, int *ended);

    /*
     * What was driven, or the attempt to, has come to its end: result is
     * borrowed, or NULL with an exception set.  Returns as begin() does; the
     * op is NULL when a run ends with the first.
     */
    PyObject        *(*follow)(db_py_run_t *run, PyObject *result,
                               int *ended);

    /* It waits for something: its task is suspended. */
    void             (*pause)(db_py_run_t *run);

    /*
     * Called once.  result is borrowed, or NULL with an exception set,
     * which is to be cleared.
     */
    void             (*end)(db_py_run_t *run, PyObject *result);
} db_py_run_ops_t;

struct db_py_run_s {
    PyObject_HEAD
    const db_py_run_ops_t  *ops;
    db_py_run_t            *next;     /* of db_py.runs */
    db_py_run_t           **prev;
    PyObject               *coro;     /* the user's, once begun */
    PyObject               *task;     /* once suspended */
    unsigned                stepping:1;
    unsigned                ended:1;
};

extern PyType_Spec  db_py_spawn_spec;

/* Members that each type of run has. */
extern PyMethodDef  db_py_run_methods[];
extern PyGetSetDef  db_py_run_getset[];
PySendResult db_py_run_send(PyObject *self, PyObject *arg, PyObject **result);
PyObject *db_py_run_method_throw(PyObject *self, PyObject *const *args,
    Py_ssize_t nargs);
PyObject *db_py_run_method_close(PyObject *self, PyObject *unused);

#define DB_PY_RUN_SLOTS(dealloc)                                              \
    DB_PY_COROUTINE_SLOTS(db_py_run_send, db_py_run_methods),                 \
    { Py_tp_dealloc, dealloc },                                               \
    { Py_tp_getset, db_py_run_getset },                                       \
    { 0, NULL }

/* "size" bytes, all zero but for ops; NULL with an exception. */
void *db_py_run_new(PyTypeObject *type, const db_py_run_ops_t *ops,
    size_t size);

/* The end of each type's dealloc: what a run has, and its memory. */
void db_py_run_dealloc(PyObject *self);

/*
 * Gives a fresh run to a Task; its end() is called whatever happens.  The
 * caller's reference lasts until this returns.
 */
void db_py_run_start(db_py_run_t *run);

/* The halves of it, around the start of a Task that drives the run. */
void db_py_run_link(db_py_run_t *run);
void db_py_run_started(db_py_run_t *run, PyObject *task);

void db_py_run_cancel(db_py_run_t *run);
void db_py_run_cancel_all(void);
void db_py_run_abandon_all(void);

PyObject *db_py_exception(void);


/* relay.c: one Task for many requests */

extern PyType_Spec  db_py_relay_spec;

int db_py_relay_init(void);

/* As db_py_run_start(), and begins as many of the next requests as it can. */
void db_py_relay_start(db_py_run_t *run);


/* asgi.c */

int db_py_strings_init(void);
int db_py_scope_template(db_py_app_t *app);
PyObject *db_py_scope(const db_py_app_t *app, const db_job_t *job);

/* asgi_http.c */

extern PyType_Spec  db_py_request_spec;
extern PyType_Spec  db_py_socket_spec;
extern PyType_Spec  db_py_plan_spec;
extern PyType_Spec  db_py_fetcher_spec;

void db_py_request(db_job_t *job);
db_py_run_t *db_py_request_run(db_job_t *job);
void db_py_request_disconnect(db_job_t *job);
void db_py_request_cancel(db_job_t *job);
void db_py_request_time_over(db_job_t *job);
void db_py_request_leave(db_job_t *job);
void db_py_request_sent(db_job_t *job);
void db_py_request_chunk(db_chunk_t *chunk);

/* asgi_headers.c: checks what an application sent */

typedef struct {
    PyObject   *pairs;       /* a tuple of (bytes, bytes) */
    size_t      size;        /* of all strings */
    int64_t     length;      /* content-length, -1 without */
    unsigned    events:1;    /* of the content-type text/event-stream */
} db_py_headers_t;

int db_py_header_value_ok(PyObject *value);
int db_py_headers_init(db_py_headers_t *headers, PyObject *iterable);
void db_py_headers_copy(const db_py_headers_t *headers, db_part_t *part,
    char *strings);

/* asgi_op.c: what receive() and send() return */

extern PyType_Spec  db_py_op_spec;

/* Lists of the futures of those that wait, or NULL. */

typedef struct {
    PyObject   *receivers;
    PyObject   *senders;
} db_py_waiters_t;

typedef struct {
    /* 1 when it is done, 0 when it has to wait, -1 with an exception set */
    int               (*send)(PyObject *request, PyObject *message);
    int               (*sent)(PyObject *request);    /* of a woken send() */

    /* The message; NULL without an exception: wait. */
    PyObject         *(*receive)(PyObject *request);

    db_py_waiters_t  *(*waiters)(PyObject *request);
} db_py_op_ops_t;

/* "message" is NULL for a receive(). */
PyObject *db_py_op(const db_py_op_ops_t *ops, PyObject *request,
    PyObject *message);
void db_py_wake(PyObject **list);
PyObject *db_py_disconnect_message(void);


/* sync.c: the threads of "def" functions */

void db_py_sync_init(void);

/* Loop thread: a hop has come back; at the end of a turn. */
void db_py_sync_done(db_msg_t *msg);
void db_py_sync_flush(void);

/* A thread of Python's, for life: runs what there is to run. */
void db_py_sync_serve(void);

/* Loop thread: one could not be made. */
void db_py_sync_lost(PyObject *exception);

/* So many threads at most; how many run steps, how many hops wait. */
void db_py_sync_limit(unsigned threads);
void db_py_sync_use(unsigned *busy, unsigned *waiting);

/*
 * Loop thread: an awaitable of what a callable without arguments returns in a
 * thread, in a copy of the context.  None when it is urgent and might have to
 * wait for a thread.
 */
PyObject *db_py_sync_in_thread(PyObject *call, int urgent);

/*
 * A thread, GIL held: the loop completes the future with None.  The thread
 * goes on, as the GIL is its own for as long as it has something to do.
 */
int db_py_sync_tell(PyObject *future);


/* spawn.c */

void db_py_spawn(db_spawn_t *spawn);

/* runtime.c: the bridge as a source of the loop's work */

int db_py_attach(PyObject *loop, PyObject *stop, PyObject *report);

/*
 * Whether the next message of this turn is a request; the run that has been
 * made of it, a new reference, or NULL: first something else is to be done.
 */
int db_py_more_requests(void);
db_py_run_t *db_py_next_request(void);
void db_py_append(db_msg_t *msg);
void db_py_owe(db_job_t *job);
void db_py_publish(void);

/* table.c */

int db_py_app_start(unsigned index, PyObject *call, PyObject *state,
    int wsgi, int pathsend);
int db_py_app_fail(unsigned index, const char *error);
int db_py_route_add(unsigned index, PyObject *methods, PyObject *pattern,
    PyObject *timeout, PyObject *plan);
int db_py_gate_set(unsigned index, PyObject *gate);
PyObject *db_py_crud_add(unsigned index, const char *schema, size_t len);
int db_py_native_add(unsigned index, PyObject *methods, PyObject *pattern,
    unsigned status, PyObject *headers, PyObject *body);
int db_py_cors_set(unsigned index, const db_cors_conf_t *conf);

/* resource.c */

extern PyType_Spec  db_py_resource_spec;

PyObject *db_py_resource(const db_crud_t *crud, db_store_t *store);
void db_py_resource_answer(db_python_call_t *asked);

/* log.c */

extern PyType_Spec  db_py_lines_spec;

void db_py_log(db_pylog_level_t level, const char *text, size_t len);
void db_py_log_lines(db_pylog_level_t level, const char *text, size_t len);

/* A str of at most DB_PY_FORMAT_LEN bytes, in printf's manner. */
#define DB_PY_FORMAT_LEN  2048

PyObject *db_py_format(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* Clears the exception, which is not to be lost. */
void db_py_log_exception(const char *message);

/* process.c */

PyObject *db_py_fork_exec(PyObject *const *args, Py_ssize_t nargs);
void db_py_after_fork(void);
void db_py_ignore_sigchld(void);

/* interpreter.c, module.c */

int db_py_interpreter_start(const db_python_conf_t *conf, char *error,
    size_t size);
PyMODINIT_FUNC PyInit__databridge(void);

#endif /* DB_PYTHON_RUNTIME_H */
