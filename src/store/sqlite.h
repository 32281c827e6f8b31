/*
 * The SQLite store from inside.
 *
 * Connections belong to one thread each: "reader" to the nginx thread,
 * "writer" to the writer thread, those of the free list to whichever other
 * thread has taken one out.  A collection is a table of ids, documents and
 * their versions; a document is the JSON text that clients see.
 *
 * Beside the database lies "<database>.writer".  Whoever holds its flock may
 * write: fair, and freed by the kernel when a process is killed.  Its first
 * bytes, mapped by every process, count the commits.
 */

#ifndef DB_SQLITE_H
#define DB_SQLITE_H

#include "store/db_driver.h"

#include <math.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <time.h>


#define DB_SQLITE_TERMS        8         /* conditions that become SQL */
#define DB_SQLITE_IN           256       /* values of one of them */
#define DB_SQLITE_RECIPE       1536
#define DB_SQLITE_ASKED        "databridge-asked"  /* no collection's name */
#define DB_SQLITE_MATCH        "databridge"  /* what a bound pointer is */
#define DB_SQLITE_BUSY_MS      5000      /* where a thread may wait */
#define DB_SQLITE_TIME_LIMIT   10000     /* ms, of a pooled read */

/* Bytes of a document for which as much time goes by as for a VM step. */

#define DB_SQLITE_COPIED       256
#define DB_SQLITE_PARSED       64

#define DB_SQLITE_BUCKETS      64
#define DB_SQLITE_CACHED       512       /* plain statements a connection */

#define DB_SQLITE_TOTALS       64
#define DB_SQLITE_TOTAL_KEY    512       /* bytes; longer ones are not kept */

#define DB_SQLITE_KNOWN_BITS   14
#define DB_SQLITE_KNOWN        (1 << DB_SQLITE_KNOWN_BITS)    /* places for
                                                              documents */
#define DB_SQLITE_WORDS        6         /* that tell states apart */


/* What decides an operation's SQL text; the key of the statement cache. */

typedef enum {
    DB_SHAPE_GET,
    DB_SHAPE_ASKED,                       /* sqlite_asked.c */
    DB_SHAPE_LIST,
    DB_SHAPE_COUNT,
    DB_SHAPE_LOOK,                        /* before a write */
    DB_SHAPE_INSERT,
    DB_SHAPE_REPLACE,
    DB_SHAPE_REMOVE
} db_shape_kind_t;

typedef struct {
    const db_collection_t  *collection;
    uint32_t                kind;
    uint32_t                len;
    char                    recipe[DB_SQLITE_RECIPE];
} db_shape_t;


/* A condition that is part of the text, on the id or a key of an index. */

typedef struct {
    const db_condition_t   *condition;
    db_value_kind_t         kind;
    unsigned                nparams;
    unsigned                unique;       /* of an index that has no nulls */
} db_term_t;


/* An operation on its way to a statement; lives on the stack. */

typedef struct {
    const db_store_op_t    *op;
    unsigned                nterms;
    unsigned                match:1;      /* the other conditions */
    unsigned                failed:1;
    db_term_t               terms[DB_SQLITE_TERMS];
    db_shape_t              shape;
} db_query_t;


typedef struct db_statement_s  db_statement_t;

struct db_statement_s {
    db_statement_t  *next;                /* in its bucket */
    sqlite3_stmt    *stmt;
    int              scans;               /* reads more than it returns */
    db_shape_t       shape;               /* cut off after its recipe */
};


typedef struct db_sqlite_s  db_sqlite_t;

typedef enum {
    DB_ROLE_READER,
    DB_ROLE_POOL,
    DB_ROLE_WRITER
} db_role_t;

typedef struct db_connection_s  db_connection_t;

struct db_connection_s {
    db_connection_t  *next;               /* in the free list */
    db_sqlite_t      *store;
    sqlite3          *db;
    db_role_t         role;
    sqlite3_stmt     *begin;
    sqlite3_stmt     *commit;
    sqlite3_stmt     *state;              /* READER */
    sqlite3_stmt     *running;            /* READER: gets of this cycle */
    const db_value_t *asked;              /* READER: the id of the next one */
    int               limited;            /* while a read runs: BEGIN and
                                             COMMIT must not be cut off */
    size_t            steps;              /* of this statement; POOL: since
                                             it has looked at the clock */
    uint64_t          deadline;           /* POOL: ns */
    int               expired;            /* the budget is used up */
    unsigned          cached;             /* long statements count more */
    db_statement_t   *statements[DB_SQLITE_BUCKETS];
};


typedef struct {
    pthread_mutex_t            mutex;     /* one lock holder a process */
    int                        fd;
    _Atomic(uint64_t)         *commits;   /* shared by all processes */
    _Atomic(uint64_t)         *inode;     /* of the database, likewise */
} db_writer_lock_t;


/* How the writer's connections write the log, sqlite_frames.c. */

typedef struct {
    sqlite3_vfs                vfs;       /* first */
    sqlite3_vfs               *real;
    char                       name[32];
} db_frames_vfs_t;


/* What moves the log into the database, sqlite_checkpoint.c. */

typedef struct {
    pthread_t                  thread;
    pthread_mutex_t            mutex;
    pthread_cond_t             cond;
    int                        asked;     /* until it is done */
    int                        stop;

    /* the writer's */

    int                        moved;     /* pages of the log, when it was
                                             last asked for */
    int                        rest;      /* to be moved by the writer */
} db_checkpoint_t;


/* How many documents satisfy a filter. */

typedef struct {
    uint64_t                   state;     /* of the database; 0: empty */
    uint64_t                   total;
    size_t                     len;
    char                       key[DB_SQLITE_TOTAL_KEY];
} db_total_t;


/* A document, or that it was asked for; at a place of its hash. */

typedef struct {
    uint64_t                   hash;
    uint64_t                   state;     /* of the database; 0: none */
    const db_collection_t     *collection;
    uint64_t                   version;
    char                      *text;      /* the id, then the document */
    uint32_t                   size;      /* of its memory */
    uint32_t                   id_len;
    uint32_t                   len;       /* of the document; 0: not here */
} db_known_t;


struct db_sqlite_s {
    db_store_t                 base;      /* first */
    char                      *path;
    unsigned                   normal:1;  /* synchronous; else FULL */
    db_log_pt                  log;
    void                      *log_ctx;
    db_writer_lock_t           lock;
    db_frames_vfs_t            frames;    /* while the store is open */
    ino_t                      files[3];  /* the database, its log, the index
                                             of that; constant once opened */

    /* the nginx thread */

    db_connection_t           *reader;
    int                        reading;   /* inside a cycle's transaction */
    uint64_t                   seen;      /* commits when that began */
    db_total_t                 totals[DB_SQLITE_TOTALS];
    const volatile uint64_t   *index;     /* of the log: its first words */
    uint64_t                   words[DB_SQLITE_WORDS];   /* as last seen */
    uint64_t                   state;     /* the number of that */
    uint64_t                   begun;     /* and of the cycle's transaction,
                                             which sees it or a later one */
    db_known_t                *known;     /* DB_SQLITE_KNOWN of them */

    /* pool threads, and that of the checkpoint */

    pthread_mutex_t            pool_mutex;
    db_connection_t           *pool;

    /* the writer; the queue under its mutex */

    db_connection_t           *writer;
    pthread_t                  thread;
    pthread_mutex_t            mutex;
    pthread_cond_t             cond;
    db_store_op_t             *queue;
    db_store_op_t            **tail;
    unsigned                   queued;    /* operations */
    unsigned                   wanted;    /* wake the writer at so many; 0: it
                                             is at work */
    unsigned                   stop:1;

    int                        uncounted; /* the writer: it has said so */
    db_checkpoint_t            checkpoint;
};


/* sqlite.c: connections and statements */

uint64_t db_sqlite_now(void);                      /* ns, of a steady clock */

db_connection_t *db_sqlite_connect(db_sqlite_t *store, db_role_t role,
    char *error, size_t size);
void db_sqlite_disconnect(db_connection_t *conn);

/* NULL with a line in the log, but where the reader is to try later. */
db_statement_t *db_sqlite_statement(db_connection_t *conn,
    const db_query_t *query);

/* Runs a statement without rows; SQLITE_OK or an error code. */
int db_sqlite_step(sqlite3_stmt *stmt);

/*
 * A number that another state of the database, as the reader's transaction
 * sees it, does not have.  0: it cannot be read now.
 */
uint64_t db_sqlite_state(db_connection_t *reader);

/* Takes so many steps' time; whether a limited statement has no more. */
int db_sqlite_spend(db_connection_t *conn, size_t steps);

/* Ends a read transaction, come what may. */
void db_sqlite_end(db_connection_t *conn);

/* Logs what the connection's last error was while doing "what". */
void db_sqlite_log(db_connection_t *conn, const char *what);
void db_sqlite_log_as(db_connection_t *conn, int rc, const char *what);
db_store_status_t db_sqlite_status(int rc);


/* sqlite_files.c: what lies on the disk */

const char *db_sqlite_hint(int rc);
int db_sqlite_check_path(db_sqlite_t *store, char *error, size_t size);
int db_sqlite_check_log(db_sqlite_t *store, char *error, size_t size);
void db_sqlite_know_files(db_sqlite_t *store);
int db_sqlite_check_files(db_sqlite_t *store, db_connection_t *writer);


/* sqlite_schema.c: after a database is opened */

int db_sqlite_create(db_sqlite_t *store, db_connection_t *conn, char *error,
    size_t size);
int db_sqlite_prepare(db_store_t *base, const db_collection_t *collection,
    char *error, size_t size);


/* sqlite_index.c */

/* DB_OK, or DB_ERROR with a message. */
int db_sqlite_prepare_indexes(db_connection_t *conn,
    const db_collection_t *collection, char *error, size_t size);

/*
 * What a constraint has failed for, of which the connection's last error is.
 * Sets op->conflict.
 */
db_store_status_t db_sqlite_conflict(db_connection_t *conn,
    db_store_op_t *op, int rc);


/* sqlite_catalog.c */

int db_sqlite_catalog(db_store_t *base, db_arena_t *arena,
    db_catalog_entry_t **first, char *error, size_t size);


/* sqlite_key.c: keys of documents */

int db_sqlite_is_id(const db_path_t *path);
void db_sqlite_key(sqlite3_str *sql, const db_path_t *path,
    db_value_kind_t kind);
void db_sqlite_unique_key(sqlite3_str *sql, const db_path_t *path,
    db_value_kind_t kind);
int db_sqlite_bind_key(sqlite3_stmt *stmt, int n, const db_value_t *value);

/* DB_OK, or DB_ERROR when out of memory. */
int db_sqlite_column_key(sqlite3_stmt *stmt, int n, db_value_kind_t kind,
    db_arena_t *arena, db_value_t *value);


/* sqlite_sql.c: operations, their text and what is bound to it */

size_t db_shape_size(const db_shape_t *shape);

/* DB_ERROR: the operation is beyond what a shape can hold. */
int db_query_init(db_query_t *query, const db_store_op_t *op,
    db_shape_kind_t kind);
char *db_query_sql(const db_query_t *query);      /* for sqlite3_free() */
int db_query_bind(const db_query_t *query, sqlite3_stmt *stmt);
int db_query_bind_write(const db_query_t *query, const db_store_item_t *item,
    sqlite3_stmt *stmt);

/* The SQL function databridge_match(doc, conditions), of a connection. */
void db_sqlite_match(sqlite3_context *context, int argc,
    sqlite3_value **argv);


/* sqlite_store.c: connections of the pool; NULL with a line in the log */

db_connection_t *db_sqlite_pool_take(db_sqlite_t *store);
void db_sqlite_pool_give(db_sqlite_t *store, db_connection_t *conn);


/* sqlite_read.c: GET and LIST inside a transaction of the caller's */

/* With "counted" the total is there already. */
void db_sqlite_read(db_connection_t *conn, db_store_op_t *op, int counted);


/* sqlite_asked.c: of the reader's GETs */

int db_sqlite_asked_init(db_connection_t *conn);
int db_sqlite_asked_step(db_connection_t *conn, sqlite3_stmt *stmt,
    const db_value_t *id);
void db_sqlite_asked_end(db_connection_t *conn);


/* sqlite_total.c: of LISTs that count */

int db_sqlite_total_known(db_sqlite_t *store, db_store_op_t *op);
void db_sqlite_total_keep(db_sqlite_t *store, const db_store_op_t *op);


/* sqlite_known.c: of GETs */

/* SQLITE_OK or an error code. */
int db_sqlite_known_init(db_sqlite_t *store);
void db_sqlite_known_free(db_sqlite_t *store);

/* The number of the state that the database is in. */
uint64_t db_sqlite_known_state(db_sqlite_t *store);

/* Whether it is answered; else where to keep what is read, or NULL. */
int db_sqlite_known_get(db_sqlite_t *store, db_store_op_t *op,
    db_known_t **place);

/* Read in a transaction that was begun in the state of its place. */
void db_sqlite_known_keep(db_known_t *known, const db_store_op_t *op,
    db_str_t document);


/* sqlite_write.c */

/*
 * Inside a transaction of the caller's.  What concerns the operation alone
 * becomes its status, and leaves nothing written; an error of the database
 * is returned.
 */
int db_sqlite_write(db_connection_t *conn, db_store_op_t *op);


/* sqlite_lock.c */

int db_writer_lock_open(db_writer_lock_t *lock, const char *path, char *error,
    size_t size);
void db_writer_lock_close(db_writer_lock_t *lock);
int db_writer_lock(db_writer_lock_t *lock);
void db_writer_unlock(db_writer_lock_t *lock);
uint64_t db_writer_commits(const db_writer_lock_t *lock);
void db_writer_committed(db_writer_lock_t *lock);


/* sqlite_frames.c */

int db_frames_register(db_frames_vfs_t *own);
void db_frames_watch(sqlite3 *db);
void db_frames_unregister(db_frames_vfs_t *own);


/* sqlite_checkpoint.c */

int db_sqlite_checkpoint_start(db_sqlite_t *store, char *error, size_t size);
void db_sqlite_checkpoint_stop(db_sqlite_t *store);

/* The writer, after a commit that has left so many pages in the log. */
void db_sqlite_checkpoint(db_sqlite_t *store, int pages);


/* sqlite_writer.c */

int db_sqlite_writer_start(db_sqlite_t *store, char *error, size_t size);
void db_sqlite_writer_stop(db_sqlite_t *store);

#endif /* DB_SQLITE_H */
