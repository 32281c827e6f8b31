/*
 * PyLoop's inner house: the structs of the loop and who owns them.
 *
 * Everything here is touched with the GIL held, by the loop's thread or by
 * one that calls call_soon_threadsafe(); only "wake_fd" is read without it.
 * A loop owns its ready queue, its timers and its sources; its poller is an
 * object of its own because asyncio keeps it as the loop's selector.
 */

#ifndef PYLOOP_H
#define PYLOOP_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#include "pyloop/pyloop_api.h"


#define PYLOOP_NSEC         1000000000LL

/* Ready callbacks may delay the look at descriptors by this much (ns). */
#define PYLOOP_POLL_PERIOD  50000

#define PYLOOP_FREE_HANDLES 256


/* Arguments that a handle holds without a tuple. */
#define PYLOOP_ARGS         3


/*
 * The fields of asyncio.Handle and asyncio.TimerHandle where their
 * __slots__ put them, which the module checks when it is imported.  Ours
 * are subclasses: what is not hot is theirs.
 *
 * The collector does not see a handle which the loop alone holds: the loop
 * visits for it.  What else may hold one makes it tracked when the loop lets
 * go of it.  Until someone asks, "args" may be NULL, the arguments being in
 * pyloop_args_t, "context" the variables for a context still to be made,
 * and "when" NULL.
 */

typedef struct {
    PyObject_HEAD
    PyObject    *args;
    PyObject    *callback;
    PyObject    *cancelled;
    PyObject    *context;
    PyObject    *loop;
    PyObject    *repr;
    PyObject    *source_traceback;
#if (PY_VERSION_HEX < 0x030c0000)
    PyObject    *weakrefs;       /* since 3.12 they lie before the object */
#endif
} pyloop_handle_t;


typedef struct {
    size_t           count;
    PyObject        *items[PYLOOP_ARGS + 1];  /* the first is the callee's */
} pyloop_args_t;


typedef struct {
    pyloop_handle_t  handle;
    pyloop_args_t    args;
} pyloop_soon_t;


/*
 * Of call_soon_threadsafe(), from CPython 3.14 on: while the callback runs,
 * other threads that want to cancel it, or to know whether it is, wait.
 */

typedef struct {
    pyloop_handle_t  handle;
    PyObject        *lock;       /* NULL as long as no one waits */
    pyloop_args_t    args;
    unsigned long    running;    /* the thread that runs it, or 0 */
} pyloop_shared_t;


typedef struct {
    pyloop_handle_t  handle;
    PyObject        *scheduled;  /* True: waits in the heap or the ring */
    PyObject        *when;
    pyloop_args_t    args;
    double           time;
} pyloop_timer_t;


/*
 * A ready callback: a handle, or, when no one can have kept the handle, the
 * callable itself with its context.  All references are owned.
 */

typedef struct {
    PyObject    *callable;       /* the handle when context is NULL */
    PyObject    *arg;            /* or NULL */
    PyObject    *context;
} pyloop_entry_t;


typedef struct {
    pyloop_entry_t  *entries;
    size_t           mask;       /* the power of two less one */
    size_t           head;       /* both only grow */
    size_t           tail;
} pyloop_ready_t;


typedef struct {
    double           when;
    uint64_t         seq;        /* equal times keep their order */
    pyloop_timer_t  *timer;      /* owned */
} pyloop_due_t;


typedef struct {
    pyloop_due_t    *dues;
    Py_ssize_t       count;
    Py_ssize_t       size;
    Py_ssize_t       cancelled;  /* of count, at the most */
    uint64_t         seq;
} pyloop_heap_t;


/*
 * What is watched for a descriptor; the references are owned.  "reader" and
 * "writer" are handles, or Futures of who waits once: when there are only
 * such, the kernel forgets what it watches at the first event, but not the
 * descriptor, and nothing has to be said to it until the next one waits.
 */

typedef struct pyloop_transport_s  pyloop_transport_t;

typedef struct {
    PyObject    *reader;
    PyObject    *writer;
    PyObject    *file;           /* what was registered, if not an int */
    uint32_t     events;         /* that someone wants */
    uint32_t     kernel;         /* as epoll has them; 0: it never heard */

    pyloop_transport_t  *transport;  /* whose descriptor it is; borrowed */
} pyloop_watch_t;


typedef struct pyloop_poller_s  pyloop_poller_t;

struct pyloop_poller_s {
    PyObject_HEAD
    int                fd;       /* epoll; -1 once closed */
    int                wake_fd;  /* the loop's; -1 once closed */
    int                coarse;   /* the kernel has no epoll_pwait2() */
    int                size;
    pyloop_watch_t    *watches;  /* by descriptor */
    pyloop_poller_t   *next;     /* of all that are open */
    pyloop_poller_t  **link;
};


typedef struct {
    PyObject        *items[PYLOOP_FREE_HANDLES];
    unsigned         count;
    unsigned         max;        /* 0 once the type may be gone */
} pyloop_free_t;


/* What the transports need: their types, and of the standard library. */

typedef struct {
    PyTypeObject    *stream_type;
    PyTypeObject    *datagram_type;
    PyTypeObject    *read_pipe_type;
    PyTypeObject    *write_pipe_type;
    PyTypeObject    *listener_type;

    PyObject        *buffered_protocol;
    PyObject        *socket;
    PyObject        *transport_socket;
    PyObject        *zero;
    PyObject        *minus_one;
    size_t           datagram_header;    /* what one counts beside its data */

    PyTypeObject    *tls_type;
    PyTypeObject    *tls_transport_type;
    PyObject        *tls_wrapped;        /* asyncio's state WRAPPED */
    PyObject        *tls_again;          /* when OpenSSL wants more data */
} pyloop_io_t;


typedef struct {
    PyTypeObject    *loop_type;
    PyTypeObject    *handle_type;
    PyTypeObject    *timer_type;
    PyTypeObject    *shared_type;        /* NULL where asyncio has none */
    PyTypeObject    *poller_type;

    PyObject        *events;             /* asyncio's modules */
    PyObject        *base_events;
    PyObject        *futures;
    PyObject        *tasks;
    PyObject        *asyncio_handle;
    PyObject        *asyncio_timer;
    PyObject        *asyncio_shared;     /* or NULL */
    PyObject        *task_type;
    PyObject        *executor_future;    /* of concurrent.futures */
    PyObject        *lock_type;          /* of threading */
    PyObject        *get_asyncgen_hooks;
    PyObject        *set_asyncgen_hooks;
    PyObject        *extract_stack;
    PyObject        *format_callback;
    PyObject        *selector_key;

    pyloop_io_t      io;

    PyObject        *kw_loop;            /* ("loop",) */
    PyObject        *kw_loop_context;    /* ("loop", "context") */
    PyObject        *kw_context;
    PyObject        *hidden;    /* the handle of whom no one asks for one */

    PyObject        *str_buffer_updated;
    PyObject        *str_call_at;
    PyObject        *str_call_exception_handler;
    PyObject        *str_callback;
    PyObject        *str_connection_lost;
    PyObject        *str_connection_made;
    PyObject        *str_context;
    PyObject        *str_data_received;
    PyObject        *str_datagram_received;
    PyObject        *str_done;
    PyObject        *str_eof_received;
    PyObject        *str_error_received;
    PyObject        *str_fileno;
    PyObject        *str_future;
    PyObject        *str_get_buffer;
    PyObject        *str_pause_writing;
    PyObject        *str_pending;
    PyObject        *str_read;
    PyObject        *str_resume_writing;
    PyObject        *str_run_once;
    PyObject        *str_self;
    PyObject        *str_set_result;
    PyObject        *str_ssl_protocol;
    PyObject        *str_task;
    PyObject        *str_time;
    PyObject        *str_write;

    PyTypeObject    *step_type;          /* of _asyncio, once seen */
    PyMethodDef     *wakeup_def;
    PyObject        *kw_step;            /* its ("context",) */

    PyObject        *no_vars;            /* of an empty context */

    pyloop_free_t    free_handles;
    pyloop_free_t    free_timers;
    pyloop_free_t    free_shared;
} pyloop_state_t;


typedef struct {
    PyObject_HEAD
    pyloop_state_t   *state;     /* kept alive by the type */
    pyloop_ready_t    ready;
    pyloop_heap_t     heap;
    pyloop_poller_t  *poller;

    pyloop_source_t  *sources;
    unsigned          nsources;
    unsigned          nasleep;   /* sources whose sleep() returned 1 */

    PyObject         *thread_id;         /* BaseEventLoop's attributes */
    PyObject         *current_handle;
    PyObject         *task_factory;
    PyObject         *scratch;   /* an empty context to run in, or NULL */
    double            clock_resolution;

    pyloop_transport_t   *unwritten;     /* at the turn's end; owned */
    pyloop_transport_t  **unwritten_end;
    char                 *buffer;        /* into which sockets are read */
    uint64_t              turn;

    int64_t           polled;    /* when descriptors were looked at last;
                                    0 when the next turn has to */
    int               wake_fd;   /* an eventfd; -1 once closed */
    unsigned          waking;    /* threads about to write to it */

    char              closed;
    char              stopping;
    char              debug;
    char              sleeping;  /* who adds a callback must wake it */
    char              pending;   /* a source has more to run */
    char              starting;  /* within task_start() */

    char              own_time;      /* a subclass has its own method */
    char              own_call_at;
    char              own_run_once;
} pyloop_t;


extern PyModuleDef pyloop_module;
extern PyType_Spec pyloop_loop_spec;
extern PyType_Spec pyloop_poller_spec;
extern const pyloop_api_t pyloop_api;


static inline int
pyloop_is_handle(pyloop_state_t *state, PyObject *op)
{
    return Py_IS_TYPE(op, state->handle_type)
           || Py_IS_TYPE(op, state->timer_type)
           || Py_IS_TYPE(op, state->shared_type);
}


/* handle.c: 0, or -1 with an exception set. */
int pyloop_handle_types(PyObject *module, pyloop_state_t *state);

/*
 * A new handle that runs once, or NULL; context NULL is a copy of the
 * current one.
 */
PyObject *pyloop_handle_new(pyloop_t *loop, PyObject *callback,
    PyObject *const *args, Py_ssize_t nargs, PyObject *context);
PyObject *pyloop_timer_new(pyloop_t *loop, double time, PyObject *callback,
    PyObject *const *args, Py_ssize_t nargs, PyObject *context);
PyObject *pyloop_shared_new(pyloop_t *loop, PyObject *callback,
    PyObject *const *args, Py_ssize_t nargs, PyObject *context);

/*
 * Around the call of such a handle: the second lets those go on who wait.
 * 0, or -1 with an exception set.
 */
void pyloop_shared_begin(PyObject *op);
int pyloop_shared_end(PyObject *op);

/* The loop's reference to a handle goes. */
void pyloop_handle_release(PyObject *op);

/* Visits what the loop holds: the handle, or what is in it. */
int pyloop_handle_visit(PyObject *op, visitproc visit, void *arg);

/* The arguments, borrowed; NULL only with an exception set. */
PyObject *pyloop_handle_args(PyObject *op);

int pyloop_handle_cancel(pyloop_state_t *state, PyObject *op);

/* Empties the lists for good. */
void pyloop_handle_free_lists(pyloop_state_t *state);

static inline pyloop_args_t *
pyloop_handle_inline(PyObject *op)
{
    switch (Py_TYPE(op)->tp_basicsize) {

    case sizeof(pyloop_timer_t):
        return &((pyloop_timer_t *) op)->args;

    case sizeof(pyloop_shared_t):
        return &((pyloop_shared_t *) op)->args;

    default:
        return &((pyloop_soon_t *) op)->args;
    }
}


/* context.c: what a context holds, whose object is made only when needed. */

/* 0, or -1 with an exception set. */
int pyloop_context_init(pyloop_state_t *state);

/* A new reference to the current context's variables. */
PyObject *pyloop_context_vars(pyloop_state_t *state);

/* A new context with these variables. */
PyObject *pyloop_context_new(PyObject *vars);

/* Enters a context with these variables and returns it, or NULL. */
PyObject *pyloop_context_enter(pyloop_t *loop, PyObject *vars);

/*
 * Leaves it; *kept is NULL or becomes the context, where it has changed.
 * -1 with an exception set, in the place of the one that is.
 */
int pyloop_context_exit(pyloop_t *loop, PyObject *context, PyObject *vars,
    PyObject **kept);


/* callback.c */

/*
 * Runs a callback and reports what it raises.  -1 when the loop must end:
 * SystemExit, KeyboardInterrupt, or a failing exception handler.
 */
int pyloop_entry_run(pyloop_t *loop, pyloop_entry_t *entry);
int pyloop_handle_run(pyloop_t *loop, PyObject *op);

/* 0 when the member of the class is where we expect it, or ImportError. */
int pyloop_handle_layout(PyObject *type, const char *name, Py_ssize_t offset);

/* Passes the exception that is set to the loop's exception handler. */
int pyloop_report(pyloop_t *loop, PyObject *message, PyObject *handle);


/* ready.c: adding takes the references, and drops them when it fails. */
int pyloop_ready_add(pyloop_ready_t *ready, PyObject *callable,
    PyObject *arg, PyObject *context);
void pyloop_ready_take(pyloop_ready_t *ready, pyloop_entry_t *entry);
int pyloop_ready_withdraw(pyloop_state_t *state, pyloop_ready_t *ready,
    size_t mark, PyObject *task, pyloop_entry_t *entry);
void pyloop_ready_clear(pyloop_ready_t *ready);
int pyloop_ready_visit(pyloop_ready_t *ready, visitproc visit, void *arg);
void pyloop_entry_release(pyloop_entry_t *entry);

static inline size_t
pyloop_ready_count(pyloop_ready_t *ready)
{
    return ready->tail - ready->head;
}


/* timer.c: a heap of timers; it owns a reference to each. */
int pyloop_heap_add(pyloop_heap_t *heap, pyloop_timer_t *timer);
/* The timer has been cancelled. */
void pyloop_heap_cancelled(pyloop_heap_t *heap, pyloop_timer_t *timer);
/* When the next is due; INFINITY for none. */
double pyloop_heap_next(pyloop_heap_t *heap);
int pyloop_heap_expire(pyloop_heap_t *heap, pyloop_ready_t *ready,
    double end);
void pyloop_heap_clear(pyloop_heap_t *heap);
int pyloop_heap_visit(pyloop_heap_t *heap, visitproc visit, void *arg);


/* schedule.c */
PyObject *pyloop_call_soon(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs, PyObject *kwnames);
PyObject *pyloop_call_soon_threadsafe(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs, PyObject *kwnames);
PyObject *pyloop_call_at(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs, PyObject *kwnames);
PyObject *pyloop_call_later(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs, PyObject *kwnames);


/* poll.c: 0, or -1 with an exception set. */
int pyloop_poller_init(void);

/* wake_fd is watched until it is closed. */
pyloop_poller_t *pyloop_poller_new(pyloop_state_t *state, int wake_fd);

/* 0, or -1 with errno set. */
int pyloop_poller_control(pyloop_poller_t *poller, int op, int fd,
    uint32_t events);

/*
 * Waits for timeout ns (0: looks only, -1: for ever) and makes the handles
 * of what has happened ready.
 */
int pyloop_poll(pyloop_t *loop, int64_t timeout);


/* watch.c */

/* The number of an int or of a file, or -1 with ValueError set. */
int pyloop_file_number(pyloop_poller_t *poller, PyObject *file);

/*
 * Has the callback called in the context for EPOLLIN or EPOLLOUT: a new
 * reference to the handle, or NULL.
 */
PyObject *pyloop_watch(pyloop_t *loop, int fd, uint32_t event,
    PyObject *callback, PyObject *context);

/* 1, or 0 when it was not watched, or -1 with an exception set. */
int pyloop_unwatch(pyloop_t *loop, int fd, uint32_t event);

/* A new Future for EPOLLIN or EPOLLOUT of a socket, or NULL. */
PyObject *pyloop_watch_once(pyloop_t *loop, PyObject *sock, uint32_t event);

/* The event that a Future waits for is there; 0, or -1 as above. */
int pyloop_watch_wake(pyloop_t *loop, int fd, uint32_t event);

/* After an event: the kernel watches what is still wanted. */
void pyloop_watch_again(pyloop_poller_t *poller, int fd);

/* The descriptor is a transport's: no one else's to watch. */
int pyloop_watch_own(pyloop_t *loop, int fd, pyloop_transport_t *tr);
void pyloop_watch_disown(pyloop_t *loop, int fd, pyloop_transport_t *tr);
PyObject *pyloop_ensure_fd_no_transport(PyObject *op, PyObject *file);

PyObject *pyloop_add_reader(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs);
PyObject *pyloop_add_writer(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs);
PyObject *pyloop_remove_reader(PyObject *op, PyObject *file);
PyObject *pyloop_remove_writer(PyObject *op, PyObject *file);


/* run.c */
int64_t pyloop_now(void);
double pyloop_time(pyloop_t *loop);
void pyloop_wake(pyloop_t *loop);
void pyloop_wake_unlocked(pyloop_t *loop);
void pyloop_wake_close(pyloop_t *loop);
PyObject *pyloop_run_once(PyObject *op, PyObject *unused);
PyObject *pyloop_run_forever(PyObject *op, PyObject *unused);


/* stream.c, datagram.c, pipe.c, sock.c, server.c: methods of the loop */
PyObject *pyloop_make_socket_transport(PyObject *op, PyObject *args,
    PyObject *kwargs);
PyObject *pyloop_make_datagram_transport(PyObject *op, PyObject *args,
    PyObject *kwargs);
PyObject *pyloop_make_read_pipe_transport(PyObject *op, PyObject *args,
    PyObject *kwargs);
PyObject *pyloop_make_write_pipe_transport(PyObject *op, PyObject *args,
    PyObject *kwargs);
PyObject *pyloop_numeric(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs);
PyObject *pyloop_connect(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs);
PyObject *pyloop_receive(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs);
PyObject *pyloop_receive_into(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs);
PyObject *pyloop_send(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs);
PyObject *pyloop_readable(PyObject *op, PyObject *sock);
PyObject *pyloop_writable(PyObject *op, PyObject *sock);
PyObject *pyloop_serve(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs);


/* types.c, output.c */
int pyloop_io_init(PyObject *module, pyloop_state_t *state);
int pyloop_io_traverse(pyloop_io_t *io, visitproc visit, void *arg);
void pyloop_io_clear(pyloop_io_t *io);

/* Writes what the callbacks of the turn have gathered. */
int pyloop_output_flush_all(pyloop_t *loop);
int pyloop_output_visit(pyloop_t *loop, visitproc visit, void *arg);
void pyloop_output_drop(pyloop_t *loop);


/* tasks.c: does what it can. */
void pyloop_tasks_init(void);


/* module.c */
PyObject *pyloop_import(const char *module, const char *name);


/*
 * Methods that asyncio has as well: who asks with inspect sees the same
 * arguments, and all of them may be given by name.
 */

#define PYLOOP_SIGNATURE(name, arguments, doc)                                \
    name "($self, /" arguments ")\n--\n\n" doc

#define PYLOOP_NOARGS(name, function, doc)                                    \
    { name, function, METH_NOARGS, PYLOOP_SIGNATURE(name, "", doc) }

#define PYLOOP_KEYWORDS(name, function, arguments, doc)                       \
    { name, (PyCFunction) (void (*)(void)) function,                          \
      METH_VARARGS|METH_KEYWORDS,                                             \
      PYLOOP_SIGNATURE(name, ", " arguments, doc) }

#define PYLOOP_FAST(name, function, arguments, doc)                           \
    { name, (PyCFunction) (void (*)(void)) function,                          \
      METH_FASTCALL|METH_KEYWORDS,                                            \
      PYLOOP_SIGNATURE(name, ", " arguments, doc) }


/* schedule.c: the only one, borrowed; or NULL with TypeError set. */
PyObject *pyloop_argument(const char *method, const char *name,
    PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);


/* source.c */
int pyloop_sources_run(pyloop_t *loop);
void pyloop_sources_flush(pyloop_t *loop);
int pyloop_sources_sleep(pyloop_t *loop);
void pyloop_sources_awake(pyloop_t *loop, int64_t waited);


/* loop.c: 0, or -1 with RuntimeError set. */
int pyloop_check_closed(pyloop_t *loop);

PyObject *pyloop_create_future(PyObject *op, PyObject *unused);

/* The method of asyncio's loop that ours stands in front of. */
PyObject *pyloop_super(pyloop_t *loop, const char *name);

#endif /* PYLOOP_H */
