/*
 * What the transports share: the struct, the queue of what waits to be
 * written, addresses.
 *
 * The loop's thread owns all of it and holds the GIL throughout.  A
 * transport is kept alive by its protocol, by the handles of the poller that
 * watch its descriptor and by callbacks that are ready.
 */

#ifndef PYLOOP_TRANSPORT_H
#define PYLOOP_TRANSPORT_H

#include "pyloop/pyloop.h"

#include <netinet/in.h>
#include <structmember.h>
#include <sys/socket.h>


/* The greatest read, and the room of the buffer that a loop reads into. */
#define PYLOOP_READ_SIZE  (256 * 1024)

/* After write_eof(): behind what waits to be written, or told the peer. */
#define PYLOOP_EOF_DUE   1
#define PYLOOP_EOF_SENT  2

/* asyncio's mark; the low one is a quarter of it. */
#define PYLOOP_HIGH_WATER  (64 * 1024)


typedef struct {
    PyObject            *data;       /* bytes */
    PyObject            *address;    /* of a datagram, or NULL */
} pyloop_chunk_t;


/* Chunks in the order of their arrival; the references are owned. */

typedef struct {
    pyloop_chunk_t      *chunks;
    Py_ssize_t           head;
    Py_ssize_t           tail;
    Py_ssize_t           room;
    size_t               size;       /* bytes that wait */
    size_t               sent;       /* of the first chunk */
} pyloop_queue_t;


/* An IPv4 or IPv6 address; none when the family is AF_UNSPEC. */

typedef union {
    struct sockaddr      any;
    struct sockaddr_in   in;
    struct sockaddr_in6  in6;
} pyloop_name_t;


/* What a kind of transport does when its descriptor is ready. */

typedef struct {
    PyMethodDef          read;
    PyMethodDef          write;
    char                 is_socket;
    char                 is_loud;    /* most OSErrors are reported */
} pyloop_kind_t;


/*
 * The first fields stand where asyncio's _FlowControlMixin has its slots,
 * which the module checks when it is imported: asyncio's sendfile() wants
 * one.  "loop", "protocol" and "fd" live until connection_lost() has been
 * called.
 */

struct pyloop_transport_s {
    PyObject_HEAD
    PyObject            *extra;      /* a dict, or NULL */
    PyObject            *high_water; /* NULL, as are the others of asyncio */
    pyloop_t            *loop;       /* owned */
    PyObject            *low_water;
    PyObject            *protocol_paused;

    const pyloop_kind_t *kind;
    PyObject            *weakrefs;
    PyObject            *dict;       /* of who sets attributes, or NULL */
    PyObject            *protocol;
    PyObject            *context;    /* the protocol's callbacks run in it */
    PyObject            *file;       /* socket or pipe; NULL: never asked */
    PyObject            *server;     /* or NULL */
    PyObject            *waiter;     /* for the queue to be empty, or NULL */

    pyloop_transport_t  *next;       /* in the loop's list of unwritten */

    pyloop_queue_t       queue;
    size_t               high;
    size_t               low;

    pyloop_name_t        local;
    pyloop_name_t        peer;

    uint64_t             turn;       /* in which was written last */
    size_t               expected;   /* bytes at the next read */
    unsigned             lost;       /* connection_lost() is under way */
    int                  fd;

    char                 connected;  /* the kernel knows the peer */
    char                 closing;
    char                 paused;     /* reading, by the protocol */
    char                 ended;      /* the peer's end has been read */
    char                 full;       /* pause_writing() has been called */
    char                 eof;        /* of writing: 0, or one of the two */
    char                 buffered;   /* a BufferedProtocol */
    char                 tls;        /* the one between it and another */
    char                 reading;    /* watched by the poller */
    char                 writing;
    char                 unwritten;  /* in the loop's list */
    char                 gathers;    /* several writes in its last turn */
    char                 held;       /* writelines() gathers */
};


/* transport.c */

/* NULL with an exception set; the descriptor is then the caller's. */
pyloop_transport_t *pyloop_transport_new(pyloop_t *loop, PyTypeObject *type,
    const pyloop_kind_t *kind, int fd, PyObject *file, PyObject *protocol,
    PyObject *extra);

/*
 * Of what is no socket of the kernel's but plays one: a transport of
 * asyncio.  NULL with an exception set, which may be the one set before.
 */
PyObject *pyloop_transport_foreign(pyloop_t *loop, const char *method,
    PyObject *args, PyObject *kwargs);

/* After a failure: the descriptor is the caller's again. */
void pyloop_transport_abandon(pyloop_transport_t *tr);

int pyloop_transport_set_extra(pyloop_transport_t *tr, const char *name,
    PyObject *value);

/* connection_made(), then reading, then the waiter: in the next turn. */
int pyloop_transport_begin(pyloop_transport_t *tr, PyObject *waiter);

int pyloop_transport_read(pyloop_transport_t *tr);
int pyloop_transport_unread(pyloop_transport_t *tr);
int pyloop_transport_write(pyloop_transport_t *tr);
int pyloop_transport_unwrite(pyloop_transport_t *tr);

/* Calls a method of the protocol, which may be replaced meanwhile. */
PyObject *pyloop_transport_call(pyloop_transport_t *tr, PyObject *name,
    PyObject *arg);

int pyloop_transport_force_close(pyloop_transport_t *tr, PyObject *exc);
int pyloop_transport_lose(pyloop_transport_t *tr, PyObject *exc);

/*
 * The exception that is set ends the connection: 0, or -1 with one set that
 * ends the loop.
 */
int pyloop_transport_fatal(pyloop_transport_t *tr, const char *message);

/* The same as a callback's answer. */
PyObject *pyloop_transport_failed(pyloop_transport_t *tr,
    const char *message);

/* The same after a read that has set errno, if that is an error. */
PyObject *pyloop_transport_read_failed(pyloop_transport_t *tr,
    const char *message);

/* Has the exception handler called. */
int pyloop_transport_tell(pyloop_transport_t *tr, const char *message,
    PyObject *exc);

/* The exception that is set, taken from there, and put back there. */
PyObject *pyloop_exception_take(void);
void pyloop_exception_put(PyObject *exc);
int pyloop_exception_ends_loop(void);

int pyloop_transport_join(pyloop_transport_t *tr, PyObject *server);

int pyloop_transport_traverse(PyObject *op, visitproc visit, void *arg);
int pyloop_transport_clear(PyObject *op);
void pyloop_transport_finalize(PyObject *op);
void pyloop_transport_dealloc(PyObject *op);


/* methods.c */

/* 0, or -1 with an exception set that ends the loop. */
int pyloop_transport_pause_protocol(pyloop_transport_t *tr);
int pyloop_transport_resume_protocol(pyloop_transport_t *tr);

/* 1 when nothing is to be read now, 0, or -1 with an exception set. */
int pyloop_transport_deaf(pyloop_transport_t *tr);

/* Passes data on, takes the reference: a callback's answer. */
PyObject *pyloop_transport_receive(pyloop_transport_t *tr, PyObject *data);

/* The socket object, made when it is asked for first; borrowed. */
PyObject *pyloop_transport_file(pyloop_transport_t *tr);

PyObject *pyloop_transport_repr(PyObject *op);
PyObject *pyloop_transport_abort(PyObject *op, PyObject *unused);
PyObject *pyloop_transport_force_close_method(PyObject *op, PyObject *exc);
PyObject *pyloop_transport_get_extra_info(PyObject *op, PyObject *args,
    PyObject *kwargs);
PyObject *pyloop_transport_get_protocol(PyObject *op, PyObject *unused);
PyObject *pyloop_transport_set_protocol(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs, PyObject *kwnames);
PyObject *pyloop_transport_is_closing(PyObject *op, PyObject *unused);
PyObject *pyloop_transport_is_reading(PyObject *op, PyObject *unused);
PyObject *pyloop_transport_pause_reading(PyObject *op, PyObject *unused);
PyObject *pyloop_transport_resume_reading(PyObject *op, PyObject *unused);
PyObject *pyloop_transport_get_write_buffer_size(PyObject *op,
    PyObject *unused);
PyObject *pyloop_transport_get_write_buffer_limits(PyObject *op,
    PyObject *unused);
PyObject *pyloop_transport_set_write_buffer_limits(PyObject *op,
    PyObject *args, PyObject *kwargs);


#define PYLOOP_TRANSPORT_METHODS                                              \
    PYLOOP_KEYWORDS("get_extra_info", pyloop_transport_get_extra_info,        \
                    "name, default=None",                                     \
                    "What is known of the connection by this name."),         \
    PYLOOP_NOARGS("get_protocol", pyloop_transport_get_protocol,              \
                  "The protocol whose methods are called."),                  \
    PYLOOP_FAST("set_protocol", pyloop_transport_set_protocol, "protocol",    \
                "Have another protocol's methods called from now on."),       \
    PYLOOP_NOARGS("is_closing", pyloop_transport_is_closing,                  \
                  "True once close() or abort() has been called.")

#define PYLOOP_READ_METHODS                                                   \
    PYLOOP_NOARGS("is_reading", pyloop_transport_is_reading,                  \
                  "True while data is received."),                            \
    PYLOOP_NOARGS("pause_reading", pyloop_transport_pause_reading,            \
                  "Receive nothing until resume_reading()."),                 \
    PYLOOP_NOARGS("resume_reading", pyloop_transport_resume_reading,          \
                  "Receive again.")

#define PYLOOP_WRITE_METHODS                                                  \
    PYLOOP_NOARGS("abort", pyloop_transport_abort,                            \
                  "Close at once; what waits to be written is dropped."),     \
    { "_force_close", pyloop_transport_force_close_method, METH_O, NULL },    \
    PYLOOP_NOARGS("get_write_buffer_size",                                    \
                  pyloop_transport_get_write_buffer_size,                     \
                  "How many bytes wait to be written."),                      \
    PYLOOP_NOARGS("get_write_buffer_limits",                                  \
                  pyloop_transport_get_write_buffer_limits,                   \
                  "The low and the high water mark."),                        \
    PYLOOP_KEYWORDS("set_write_buffer_limits",                                \
                    pyloop_transport_set_write_buffer_limits,                 \
                    "high=None, low=None",                                    \
                    "Set the water marks of flow control.")

#define PYLOOP_OUTPUT_METHODS                                                 \
    PYLOOP_FAST("write", pyloop_output_write, "data",                         \
                "Write the data, now or as soon as the other end takes it."), \
    PYLOOP_FAST("writelines", pyloop_output_writelines, "list_of_data",       \
                "Write the data of all items."),                              \
    PYLOOP_NOARGS("close", pyloop_output_close,                               \
                  "Close when what waits to be written has been."),           \
    PYLOOP_NOARGS("can_write_eof", pyloop_output_can_write_eof, "True.")

#define PYLOOP_TRANSPORT_SLOTS                                                \
    { Py_tp_traverse, pyloop_transport_traverse },                            \
    { Py_tp_clear, pyloop_transport_clear },                                  \
    { Py_tp_finalize, pyloop_transport_finalize },                            \
    { Py_tp_dealloc, pyloop_transport_dealloc },                              \
    { Py_tp_repr, pyloop_transport_repr }

#define PYLOOP_TRANSPORT_MEMBERS                                              \
    { "__weaklistoffset__", T_PYSSIZET,                                       \
      offsetof(pyloop_transport_t, weakrefs), READONLY, NULL },               \
    { "__dictoffset__", T_PYSSIZET,                                           \
      offsetof(pyloop_transport_t, dict), READONLY, NULL },                   \
    { "_sock_fd", T_INT, offsetof(pyloop_transport_t, fd), READONLY, NULL },  \
    { "_protocol", T_OBJECT, offsetof(pyloop_transport_t, protocol),          \
      READONLY, NULL },                                                       \
    { "_protocol_paused", T_BOOL, offsetof(pyloop_transport_t, full),         \
      READONLY, NULL },                                                       \
    { "_loop", T_OBJECT, offsetof(pyloop_transport_t, loop), READONLY, NULL }

#define PYLOOP_TRANSPORT_GETSET                                               \
    { "__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL,     \
      NULL }

#define PYLOOP_TRANSPORT_FLAGS                                                \
    (Py_TPFLAGS_DEFAULT|Py_TPFLAGS_HAVE_GC|Py_TPFLAGS_DISALLOW_INSTANTIATION)


/* types.c: a type that is a class of asyncio.transports as well. */
PyTypeObject *pyloop_transport_type(PyObject *module, PyType_Spec *spec,
    const char *name);


/* output.c: what streams and write pipes do with data. */
PyObject *pyloop_output_write(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs, PyObject *kwnames);
PyObject *pyloop_output_writelines(PyObject *op, PyObject *const *args,
    Py_ssize_t nargs, PyObject *kwnames);
PyObject *pyloop_output_ready(PyObject *op, PyObject *unused);
PyObject *pyloop_output_close(PyObject *op, PyObject *unused);
PyObject *pyloop_output_can_write_eof(PyObject *op, PyObject *unused);

/* Writes now what waits for the end of the turn; 0, or -1 as above. */
int pyloop_output_flush(pyloop_transport_t *tr);

/* Ends the writing half: 0, or -1 with an exception set. */
int pyloop_output_shutdown(pyloop_transport_t *tr);

int pyloop_output_check(pyloop_transport_t *tr, PyObject *data);
int pyloop_output_late(pyloop_transport_t *tr);


/* queue.c: adding takes the references, and drops them when it fails. */
int pyloop_queue_add(pyloop_queue_t *queue, PyObject *data,
    PyObject *address);
void pyloop_queue_pop(pyloop_queue_t *queue);
void pyloop_queue_clear(pyloop_queue_t *queue);
int pyloop_queue_visit(pyloop_queue_t *queue, visitproc visit, void *arg);

/* All that waits, or a part of it: 0, or -1 with errno set. */
int pyloop_queue_write(pyloop_queue_t *queue, int fd, int is_socket);


/* address.c */

/* A new reference: Python's form of the address, or None. */
PyObject *pyloop_name_object(const struct sockaddr *addr, socklen_t len);

/* Of a tuple with a numeric host: its length, or 0 without an exception. */
socklen_t pyloop_name_parse(PyObject *address, int family,
    pyloop_name_t *name);


/* stream.c, datagram.c, pipe.c: a type, or NULL with an exception set. */
PyTypeObject *pyloop_stream_type(PyObject *module);
PyTypeObject *pyloop_datagram_type(PyObject *module);
PyTypeObject *pyloop_read_pipe_type(PyObject *module);
PyTypeObject *pyloop_write_pipe_type(PyObject *module);

PyObject *pyloop_stream_new(pyloop_t *loop, int fd, PyObject *file,
    PyObject *protocol, PyObject *waiter, PyObject *extra, PyObject *server);


/* tls.c: 0, or -1 with an exception set. */
int pyloop_tls_init(PyObject *module, pyloop_io_t *io);

/* What a protocol of ours gets from the socket: None, or NULL. */
PyObject *pyloop_tls_receive(PyObject *op, char *data, Py_ssize_t len);


/* server.c */
extern PyType_Spec pyloop_listener_spec;

#endif /* PYLOOP_TRANSPORT_H */
