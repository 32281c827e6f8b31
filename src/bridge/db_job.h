/*
 * What crosses between the nginx thread and the loop thread.
 *
 * A job is one request: a malloc'd block holding copies of all that Python
 * may want of it.  The request part is written by the nginx thread before
 * the job is submitted and by nobody afterwards.  A job is counted: one
 * reference is the nginx side's; one is Python's from the submission on, goes
 * back with the part flagged DB_PART_DONE and is dropped by the nginx thread
 * when that part arrives; each notice and each chunk on its way holds one,
 * which its receiver drops.  Whoever drops the last one frees the block.
 *
 * A chunk is what arrives after the job has: a piece of the request's body,
 * or a message of a WebSocket.  Written by the nginx thread, then Python's.
 *
 * A part is a piece of a response: written by Python, then owned by the
 * nginx thread until it is sent.  A part whose body lies in a Python object
 * goes back to Python as DB_MSG_RELEASE; any other is freed where it ends.
 * The job has room for its first part, when that is small, which then holds
 * a reference to it.
 *
 * Neither side runs far ahead of the other.  The nginx thread stops reading
 * the client when DB_AHEAD_MAX bytes of chunks are not yet taken; Python's
 * send() waits when so many bytes of messages, or DB_UNSENT_MAX bytes of a
 * response, are not yet sent.  What was taken or sent is given back by the
 * credits of the job.
 */

#ifndef DB_JOB_H
#define DB_JOB_H

#include "bridge/db_queue.h"
#include "core/db_str.h"

#include <stdint.h>
#include <sys/types.h>


typedef struct db_job_s  db_job_t;


typedef enum {
    /* to Python */
    DB_MSG_REQUEST,       /* db_job_t.request: run it */
    DB_MSG_DISCONNECT,    /* db_notice_t: the client has left */
    DB_MSG_CANCEL,        /* db_notice_t: its time is over, cancel the task */
    DB_MSG_BEGIN,         /* db_notice_t: the same, after its start message */
    DB_MSG_LEAVE,         /* db_notice_t: the worker quits, streams end */
    DB_MSG_SENT,          /* db_notice_t of job->sent */
    DB_MSG_CHUNK,         /* db_chunk_t */
    DB_MSG_RELEASE,       /* db_part_t: drop part->object, free the part */
    DB_MSG_SPAWN,         /* db_spawn_t: call it */
    DB_MSG_HOP,           /* Python's own: a thread of it has run steps */
    DB_MSG_STOP,          /* db_msg_t, owned by the sender: shut down */
    DB_MSG_HALT,          /* the same, within a second */

    /* to nginx */
    DB_MSG_PART,          /* db_part_t */
    DB_MSG_TAKEN,         /* db_notice_t of job->taken */
    DB_MSG_READY,         /* db_ready_t */
    DB_MSG_STOPPED,       /* db_msg_t: nothing more will come from Python */

    /* to nginx, and back */
    DB_MSG_CRUD           /* db_python_call_t of a native resource */
} db_msg_kind_t;


typedef struct {
    db_node_t      node;         /* first: a node is its message */
    db_msg_kind_t  kind;
} db_msg_t;


typedef struct {
    db_str_t       name;         /* lower case in requests */
    db_str_t       value;
} db_header_t;


typedef struct {
    db_msg_t       msg;
    db_job_t      *job;
} db_notice_t;


/*
 * Bytes that one side gives back to the other.  The notice is under way at
 * most once: what is added meanwhile goes with it.
 */

#define DB_AHEAD_MAX   (256 * 1024)
#define DB_UNSENT_MAX  (1024 * 1024) /* each time it is reached costs two
                                        wake-ups, and a write of its own */
#define DB_CREDIT_MIN  (64 * 1024)   /* worth a notice; below both */

typedef struct {
    db_notice_t    notice;
    atomic_size_t  bytes;
    atomic_int     posted;
} db_credit_t;


/* Frames of RFC 6455 that cross; 0 stands for a piece of an HTTP body. */

#define DB_WS_TEXT    1
#define DB_WS_BINARY  2
#define DB_WS_CLOSE   8          /* 2 bytes of code, then the reason */

typedef struct {
    db_msg_t       msg;          /* DB_MSG_CHUNK */
    db_job_t      *job;
    unsigned       opcode;
    unsigned       last:1;       /* the body ends with it */
    db_str_t       data;         /* in the chunk's own block */
} db_chunk_t;

/* What a message counts for: empty ones are not free. */

#define db_message_cost(len)  (sizeof(db_chunk_t) + (len))


#define DB_PART_START     0x01   /* status and headers are set */
#define DB_PART_LAST      0x02   /* the response ends here */
#define DB_PART_ABORT     0x04   /* it cannot be completed: cut it off */
#define DB_PART_DONE      0x08   /* Python's reference comes back with it */
#define DB_PART_HINT      0x10   /* an early hint: the headers are its links */
#define DB_PART_TRAILERS  0x20   /* with START: some follow; later: these */


typedef struct {
    db_msg_t       msg;          /* DB_MSG_PART, DB_MSG_RELEASE */
    db_job_t      *job;
    unsigned       flags;
    unsigned       status;
    unsigned       nheaders;
    db_header_t   *headers;      /* in the part's own block */
    off_t          length;       /* with START: the declared one, or -1 */
    unsigned       opcode;       /* of a WebSocket's message, or 0 */
    db_str_t       body;         /* there too, or in the object */
    void          *object;       /* a strong reference of Python's, or NULL */
    size_t         credit;       /* bytes to give back once it is sent */
    int            fd;           /* a file, sent instead of a body, or -1 */
    off_t          file_size;    /* so much of it, from its start */
    unsigned       lodged:1;     /* in the room of its job */
} db_part_t;


/* Headers and body of a short answer as well. */

#define DB_PART_ROOM  384


struct db_job_s {
    db_msg_t       msg;          /* DB_MSG_REQUEST */
    atomic_uint    refs;

    void          *owner;        /* nginx thread: the request, NULL without */
    int            queued;       /* nginx thread: not yet answered */
    void          *run;          /* loop thread: what runs it */

    /* CLOCK_MONOTONIC, ns; 0: not yet */

    uint64_t          submitted_at;   /* nginx thread, ready for Python */
    _Atomic uint64_t  taken_at;       /* loop thread */
    _Atomic uint64_t  answered_at;    /* loop thread: its response began */

    atomic_int     begun;        /* loop thread: status and headers are there,
                                    the nginx thread may ask for them */

    db_notice_t    disconnect;   /* sent at most once each */
    db_notice_t    cancel;
    db_notice_t    begin;
    db_notice_t    leave;
    db_credit_t    sent;         /* of the parts, to Python */
    db_credit_t    taken;        /* of the chunks, to nginx */

    /* the request: constant once submitted */

    unsigned       app;          /* index of the application */
    unsigned       http_version; /* 10, 11, 20 */
    unsigned       tls:1;
    unsigned       websocket:1;  /* a handshake: parts and chunks are messages,
                                    but for a denial */
    unsigned       streamed:1;   /* more of the body comes in chunks */
    unsigned       deferred:1;   /* none comes before credit was given */
    unsigned       hints:1;      /* early hints can be sent */

    db_str_t       method;
    db_str_t       target;       /* the path as received, without the query */
    db_str_t       query;        /* without "?" */
    db_str_t       client;       /* address in text; empty on a unix socket */
    db_str_t       server;       /* address, or the path of a unix socket */
    unsigned       client_port;
    unsigned       server_port;  /* 0 on a unix socket */
    db_str_t       user;         /* that nginx authenticated, else empty */

    unsigned       nheaders;
    db_header_t   *headers;      /* in order, duplicates kept */
    unsigned       nscope;       /* of the native resource that is written */
    db_header_t   *scope;        /* variables of nginx; behind the headers */
    const void    *plan;         /* Python's, of the route, or NULL */
    unsigned       nparams;      /* that the plan's path has matched */
    db_header_t   *params;       /* their decoded values; behind the scope */

    db_str_t       body;         /* copied, when it fits in the job */
    int            body_fd;      /* else a descriptor of the job's, or -1 */
    off_t          body_size;    /* of what came with the job */

    int            lodging;      /* Python: the room was taken */
    _Alignas(db_part_t)
    char           room[DB_PART_ROOM];   /* last, and not cleared */
};


/*
 * A call of a Python callable from a thread that does not hold the GIL.
 * callable and args (a tuple, or NULL for none) are strong references, taken
 * over.  done() is called on the loop thread, with the GIL held, exactly
 * once; value is a borrowed reference to the result, or to the exception.
 */

typedef enum {
    DB_SPAWN_RETURNED,
    DB_SPAWN_RAISED,
    DB_SPAWN_CANCELLED
} db_spawn_result_t;

typedef struct db_spawn_s  db_spawn_t;

struct db_spawn_s {
    db_msg_t       msg;          /* DB_MSG_SPAWN */
    void          *callable;
    void          *args;
    void         (*done)(db_spawn_t *spawn, db_spawn_result_t result,
                         void *value);
    void          *data;         /* the caller's */
    void          *run;          /* loop thread */
};


/*
 * Allocates a job with "size" bytes for strings and nheaders headers.  The
 * strings start at *strings.  body_fd is -1; refs is 1, the caller's.
 */
db_job_t *db_job_create(unsigned nheaders, size_t size, char **strings);
void db_job_retain(db_job_t *job);
void db_job_release(db_job_t *job);

/*
 * Gives bytes back to the other side: the message to send, with a reference
 * of its own, or NULL when it is under way.
 */
db_msg_t *db_credit_give(db_credit_t *credit, size_t bytes);

/* The receiver of the notice: all bytes given since; drops the reference. */
size_t db_credit_take(db_credit_t *credit);

/* With data.len bytes to be written; NULL when out of memory. */
db_chunk_t *db_chunk_create(db_job_t *job, size_t size);

/* Of a malloc'd block, where "size" bytes follow the room for the chunk. */
db_chunk_t *db_chunk_adopt(db_job_t *job, char *block, size_t size);

/* Drops the chunk's reference as well. */
void db_chunk_destroy(db_chunk_t *chunk);

/*
 * A part with room for nheaders headers and "size" bytes, which start at
 * *strings.  NULL when out of memory.
 */
db_part_t *db_part_create(db_job_t *job, unsigned nheaders, size_t size,
    char **strings);
void db_part_destroy(db_part_t *part);

#endif /* DB_JOB_H */
