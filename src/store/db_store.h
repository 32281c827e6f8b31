/*
 * A document store: collections of JSON documents under an id.
 *
 * One db_store_t serves one worker process.  It is opened in the worker,
 * after fork.  Threads:
 *   - the nginx thread reads cheaply through db_store_read() and submits
 *     writes; it never waits;
 *   - threads of the store pool run db_store_work(), which may block;
 *   - the store's own writer thread commits writes in groups.
 *
 * An operation is owned by whoever filled it in until it is submitted, by
 * the store until its done() is called, then by the receiver of done().
 */

#ifndef DB_STORE_H
#define DB_STORE_H

#include "core/db_buf.h"

#include <stdint.h>


typedef struct db_store_s  db_store_t;


typedef enum {
    DB_VALUE_NULL,
    DB_VALUE_BOOL,
    DB_VALUE_INT,
    DB_VALUE_REAL,
    DB_VALUE_TEXT
} db_value_kind_t;

typedef struct {
    db_value_kind_t  kind;
    int64_t          integer;      /* INT; BOOL as 0 or 1 */
    double           real;
    db_str_t         text;
} db_value_t;


/* A collection as the model declares it; constant, outlives the store. */

typedef struct {
    db_str_t         name;         /* [a-z0-9_]{1,63}, checked by the schema */
    db_value_kind_t  id_kind;      /* DB_VALUE_TEXT or DB_VALUE_INT */
} db_collection_t;


/* An equality test on one declared member. */

typedef struct {
    db_str_t         path;         /* SQLite's JSON path: $."author"."name" */
    db_value_t       value;
    unsigned         array:1;      /* a list member: true when it contains */
} db_condition_t;


typedef enum {
    DB_STORE_GET,
    DB_STORE_LIST,
    DB_STORE_INSERT,
    DB_STORE_REPLACE,
    DB_STORE_REMOVE
} db_store_kind_t;


typedef enum {
    DB_STORE_OK,
    DB_STORE_NOT_FOUND,
    DB_STORE_CONFLICT,       /* the id, or a unique field, is taken */
    DB_STORE_LATER,          /* not within the budget: use db_store_work() */
    DB_STORE_BUSY,           /* locked by somebody for too long */
    DB_STORE_AWAY,           /* its file is gone, or cannot be written */
    DB_STORE_FULL,           /* disk full, or a limit of the database */
    DB_STORE_FAILED          /* anything else; logged where it arose */
} db_store_status_t;


typedef struct db_store_op_s  db_store_op_t;

struct db_store_op_s {
    db_store_op_t          *next;        /* the store's, once submitted */
    db_store_kind_t         kind;
    const db_collection_t  *collection;

    db_value_t              id;          /* all but LIST */
    db_str_t                document;    /* INSERT, REPLACE: JSON text */

    db_condition_t         *conditions;  /* LIST: all must hold */
    unsigned                nconditions;
    uint64_t                limit;
    uint64_t                skip;
    unsigned                count:1;     /* LIST: compute total as well */

    /* results */

    db_store_status_t       status;
    db_buf_t               *out;         /* GET: the document; LIST: the
                                            documents joined by "," */
    uint64_t                total;

    void                  (*done)(db_store_op_t *op);
    void                   *data;        /* the caller's */
};


typedef enum {
    DB_LOG_ERROR,
    DB_LOG_WARN,
    DB_LOG_NOTICE,
    DB_LOG_INFO
} db_log_level_t;

/* Called from any thread. */
typedef void (*db_log_pt)(void *ctx, db_log_level_t level, const char *text);


/*
 * Opens "sqlite:PATH" (sqlite:///abs, sqlite:rel, sqlite:/abs), creating the
 * file when it is missing, and starts the writer thread.  A NULL return
 * leaves a message that names the store in error.
 */
db_store_t *db_store_open(db_str_t uri, db_log_pt log, void *log_ctx,
    char *error, size_t size);

/*
 * Commits what was submitted, stops the writer and frees all.  No other
 * thread may be inside the store.
 */
void db_store_close(db_store_t *store);

/* Whether the URI is one that db_store_open() takes; opens nothing. */
int db_store_check_uri(db_str_t uri, char *error, size_t size);

/*
 * Makes the collection ready, creating what is missing.  May block: not for
 * the nginx thread once it serves.  DB_OK, or DB_ERROR with a message.
 */
int db_store_prepare(db_store_t *store, const db_collection_t *collection,
    char *error, size_t size);

/*
 * The nginx thread only.  Runs GET or LIST at once inside the cycle's read
 * transaction and leaves op->status; DB_STORE_LATER when it was not cheap
 * enough, with op->out as it was before.  Does not call done().
 */
void db_store_read(db_store_t *store, db_store_op_t *op);

/* The nginx thread only, at the end of an event cycle that read. */
void db_store_cycle_end(db_store_t *store);

/* Any thread of the pool: runs GET or LIST, blocking, and sets op->status. */
void db_store_work(db_store_t *store, db_store_op_t *op);

/*
 * The nginx thread only: queues INSERT, REPLACE or REMOVE.  done() is called
 * on the writer thread once the operation is durable, or has failed.
 */
void db_store_submit(db_store_t *store, db_store_op_t *op);

#endif /* DB_STORE_H */
