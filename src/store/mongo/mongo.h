/*
 * The MongoDB store from inside: mongo-c-driver's pool of clients, whose
 * every call blocks, and threads that write.
 *
 * A client belongs to the thread that has popped it, for one operation.
 * What all threads share is the pool, which locks itself, the queue under
 * its mutex, and the atomics.
 */

#ifndef DB_MONGO_H
#define DB_MONGO_H

#include "store/db_driver.h"

#include <mongoc/mongoc.h>
#include <pthread.h>
#include <stdatomic.h>


#define DB_MONGO_WRITERS         8
#define DB_MONGO_POOL            100      /* maxPoolSize, when it is not said */
#define DB_MONGO_QUEUE           1024     /* writes that may wait */
#define DB_MONGO_WAIT            10000    /* ms that an operation may wait */
#define DB_MONGO_TIME_LIMIT      8000     /* ms of a query, on the server */
#define DB_MONGO_TRIES           16       /* of a write that others overtake */

/* Where the URI says nothing, ms. */

#define DB_MONGO_SELECTION       3000
#define DB_MONGO_CONNECT         2000
#define DB_MONGO_SOCKET          10000


/*
 * A collection whose indexes are made by the first operation: a worker
 * starts without its server.
 */

typedef struct db_mongo_ready_s  db_mongo_ready_t;

struct db_mongo_ready_s {
    db_mongo_ready_t       *next;
    const db_collection_t  *collection;
    _Atomic(int)            ready;
    _Atomic(uint64_t)       tried;        /* ns: not again at once */
};


/* The connections of the nginx thread, which has all but what is said. */

typedef struct db_mongo_direct_s  db_mongo_direct_t;

typedef struct {
    int                     epoll;        /* -1: nobody watches */
    int                     timer;
    unsigned                timed:1;      /* the timer runs */
    unsigned                busy:1;       /* with events */
    unsigned                max;          /* connections; 0: none are used */
    unsigned                n;            /* in all */
    db_mongo_direct_t      *all;
    db_mongo_direct_t      *idle;
    db_mongo_direct_t      *closed;       /* until no event can name them */
    db_store_op_t          *queue;        /* for a connection */
    db_store_op_t         **tail;
    unsigned                waiting;

    /* under the mutex of the queue of writes */

    unsigned                wanted;       /* connections to be made */
    db_mongo_direct_t      *dead;         /* to be destroyed */

    /* all threads' */

    _Atomic(db_mongo_direct_t *)  fresh;  /* made, and not yet seen */
    _Atomic(unsigned)       opening;      /* asked for, and not yet seen */
    _Atomic(uint64_t)       refused;      /* ns: the last that was not made */
} db_mongo_directs_t;


typedef struct {
    db_store_t              base;         /* first */
    db_log_pt               log;
    void                   *log_ctx;
    char                   *name;         /* hosts and database, for the log */
    const char             *database;     /* the URI's */
    mongoc_uri_t           *uri;
    uint64_t                socket_timeout;     /* ns */

    /* made by the first operation: SRV records are looked up then */

    pthread_mutex_t         pool_mutex;
    mongoc_client_pool_t   *pool;

    _Atomic(db_mongo_ready_t *)  collections;     /* only grows */

    /* the time, in ns, of the last failure that took long, and of the last
       line about a server out of reach */

    _Atomic(uint64_t)       failed;
    _Atomic(uint64_t)       logged;

    /* the writers */

    pthread_t               threads[DB_MONGO_WRITERS];
    unsigned                nthreads;
    pthread_mutex_t         mutex;
    pthread_cond_t          cond;
    db_store_op_t          *queue;
    db_store_op_t         **tail;
    unsigned                waiting;
    int                     stop;

    db_mongo_directs_t      direct;
} db_mongo_t;


/* What there is of a list's page. */

typedef struct {
    size_t                  start;        /* in the answer */
    uint64_t                n;            /* documents */
    db_value_t             *last;         /* of it: what it is sorted by */
} db_mongo_page_t;


/*
 * A command of a GET or LIST, and what is made of its reply.  ask() may have
 * the result already, and is not OK then; answer() leaves what comes next in
 * call->step.
 */

typedef struct db_mongo_call_s  db_mongo_call_t;

typedef struct {
    db_store_status_t     (*ask)(db_mongo_call_t *call, db_buf_t *command);
    db_store_status_t     (*answer)(db_mongo_call_t *call,
                                    const bson_t *reply);
} db_mongo_step_t;


/* One operation under way. */

struct db_mongo_call_s {
    db_mongo_t             *store;
    db_store_op_t          *op;
    db_arena_t             *arena;
    mongoc_client_t        *client;       /* NULL: the nginx thread's */
    mongoc_collection_t    *collection;   /* when it is asked for */
    const db_mongo_step_t  *step;         /* GET, LIST: the next, or NULL */
    db_mongo_page_t         page;
    size_t                  len;          /* of the answer, before it */
    uint64_t                started;      /* ns */
    bson_error_t            error;
};


uint64_t db_mongo_now(void);

/* How many clients the pool may have, with those of the nginx thread. */
unsigned db_mongo_pool_size(const db_mongo_t *store);

void db_mongo_call_init(db_mongo_call_t *call, db_mongo_t *store,
    db_store_op_t *op, db_arena_t *arena);

/* Leaves the status, and of the answer nothing when it is not OK. */
void db_mongo_end(db_mongo_call_t *call, db_store_status_t status);

mongoc_collection_t *db_mongo_collection(db_mongo_call_t *call);

/* Bytes as libbson has them; DB_ERROR when there was no memory for them. */
int db_mongo_bson(bson_t *bson, const db_buf_t *buf);


/* mongo_filter.c */

typedef struct {
    db_buf_t               *out;
    const db_collection_t  *collection;
    int                     element;      /* within a member of a list, whose
                                             "id" is no document's */
} db_mongo_filter_t;

/* A condition between the braces of a document. */
void db_mongo_condition(db_mongo_filter_t *f, const db_condition_t *c);

/* Those of an operation, and with "after" its place, as one "$and". */
void db_mongo_conditions(db_mongo_filter_t *f, const db_store_op_t *op,
    int after);

/* Keys between the braces of a sort, or of an index. */
void db_mongo_sort(db_buf_t *out, const db_key_t *keys, unsigned n);

/* "projection": the fields, and what the list is sorted by. */
void db_mongo_projection(db_buf_t *out, const db_store_op_t *op);

/* A path with dots, "_id" for the id; data is NULL when out of memory. */
db_str_t db_mongo_path(db_arena_t *arena, const db_path_t *path);


/* mongo_read.c, mongo_write.c: the operations, with a client of the thread's */

db_store_status_t db_mongo_find(db_mongo_call_t *call);
db_store_status_t db_mongo_insert(db_mongo_call_t *call);
db_store_status_t db_mongo_change(db_mongo_call_t *call);

/*
 * The first step of a GET or LIST; LATER: the driver has to do it.
 */
db_store_status_t db_mongo_first_step(db_mongo_call_t *call);

/*
 * The filter of one document: its id and the conditions.  DB_DECLINED when
 * the collection can hold no such id.  The caller may add members and ends
 * it, at *start.
 */
int db_mongo_by_id(db_mongo_call_t *call, db_buf_t *out, size_t *start);

/*
 * That document in call->arena, as BSON, whole or its version alone;
 * NOT_FOUND when there is none.
 */
db_store_status_t db_mongo_look(db_mongo_call_t *call, int whole,
    db_str_t *bson);

db_store_status_t db_mongo_no_memory(db_mongo_call_t *call);


/* mongo_index.c */

/* Whether that was seen already. */
int db_mongo_is_ready(db_mongo_t *store, const db_collection_t *collection);

/* DB_STORE_OK when all that the collection declares is there. */
db_store_status_t db_mongo_make_ready(db_mongo_call_t *call);

/* The name of an index, as MongoDB gives them: "tenant_1_slug_1". */
void db_mongo_index_name(db_buf_t *out, const db_index_t *index);


/* mongo_catalog.c: as db_store_catalog() has it; DB_ERROR: see *error */

int db_mongo_list_collections(db_mongo_t *store, mongoc_client_t *client,
    db_arena_t *arena, db_catalog_entry_t **first, bson_error_t *error);


/* mongo_error.c: what an error of the driver is to the client and the log */

db_store_status_t db_mongo_status(const db_mongo_call_t *call);

/* The same, and it is logged. */
db_store_status_t db_mongo_failed(db_mongo_call_t *call, const char *what);

/*
 * The same of a write, which may have met a taken id or key: then
 * op->conflict is set.
 */
db_store_status_t db_mongo_write_failed(db_mongo_call_t *call,
    const char *what);
void db_mongo_log(db_mongo_t *store, db_log_level_t level, const char *what,
    const char *why);

/* The same, at most once a second. */
void db_mongo_log_away(db_mongo_t *store, const char *what, const char *why);

/* Operations have had to wait for more than DB_MONGO_WAIT. */
void db_mongo_log_late(db_mongo_t *store);


/* mongo_stream.c: what connects for a client, and its sockets */

typedef struct db_mongo_stream_s  db_mongo_stream_t;

typedef struct {
    db_mongo_stream_t      *first;
} db_mongo_streams_t;

/* mongoc_stream_initiator_t; data: the db_mongo_streams_t of the client. */
mongoc_stream_t *db_mongo_initiate(const mongoc_uri_t *uri,
    const mongoc_host_list_t *host, void *data, bson_error_t *error);

/* The one that leads to "host:port", or -1. */
int db_mongo_stream_fd(const db_mongo_streams_t *streams, const char *host);


/* mongo_direct.c: the nginx thread's, as db_driver.h has them */

void db_mongo_direct_init(db_mongo_directs_t *d);
int db_mongo_fd(db_store_t *base);
void db_mongo_watch(db_store_t *base);
void db_mongo_event(db_store_t *base);

/* ASKED, LATER or a result; op->status is set unless it is LATER. */
db_store_status_t db_mongo_direct(db_mongo_t *store, db_store_op_t *op);

/*
 * A thread of the store's, with its mutex: makes or destroys a connection.
 * 0: there was none to be.
 */
int db_mongo_direct_work(db_mongo_t *store);

void db_mongo_direct_done(db_mongo_t *store);


/* mongo.c */

extern const db_store_driver_t  db_mongo_driver;

#endif /* DB_MONGO_H */
