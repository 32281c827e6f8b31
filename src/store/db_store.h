/*
 * A document store: collections of JSON documents under an id.
 *
 * One db_store_t serves one worker process.  It is opened in the worker,
 * after fork.  Threads:
 *   - the nginx thread reads cheaply through db_store_read() and submits
 *     writes; it never waits;
 *   - threads of the store pool run db_store_work(), which may block;
 *   - threads of the store's own carry out what was submitted: SQLite's one
 *     writer commits in groups, MongoDB's writers wait for its answers.
 *
 * An operation is owned by whoever filled it in until it is submitted, or
 * ASKED, by the store until its done() or answered() is called, then by the
 * receiver of that.
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
    DB_VALUE_TEXT,
    DB_VALUE_TIME                  /* a datetime; without an offset it is UTC */
} db_value_kind_t;

typedef struct {
    db_value_kind_t  kind;
    int64_t          integer;      /* INT; BOOL as 0 or 1; TIME in us of Unix */
    double           real;
    db_str_t         text;         /* TEXT; of a condition's TIME as well, as
                                      documents have it */
} db_value_t;


/*
 * Where a value is in a document: the names from the outermost inwards.  They
 * are the model's own text, constant, never the request's.  "id" alone is the
 * document's id.
 */

typedef struct {
    const db_str_t  *steps;
    unsigned         nsteps;
} db_path_t;


/* A scalar of every document, in one place: what can be sorted by. */

typedef struct {
    db_path_t        path;
    db_value_kind_t  kind;         /* as declared, not NULL */
    unsigned         descending:1;
} db_key_t;


/*
 * The id is its last key in any case, but for a unique one: of that no two
 * documents have the same keys, unless one of the keys is null or missing.
 */

typedef struct {
    db_str_t         name;         /* as the model has it: "-views,title" */
    const db_key_t  *keys;
    unsigned         nkeys;
    unsigned         unique:1;
} db_index_t;


/*
 * Where documents have datetimes, for a store with a type of its own for
 * them.  NULL in the place of a form: there are none below.  A form may lead
 * back to itself, as models do.
 */

typedef struct db_form_s  db_form_t;

typedef struct {
    db_str_t          name;
    const db_form_t  *form;
} db_form_member_t;

struct db_form_s {
    unsigned                 time:1;     /* a datetime itself */
    const db_form_t         *each;       /* all members of a list or object */
    const db_form_member_t  *members;    /* those of an object, by name */
    unsigned                 nmembers;
};


/* A collection as the model declares it; constant, outlives the store. */

typedef struct {
    db_str_t          name;        /* [a-z0-9_]{1,63}, checked by the schema */
    db_value_kind_t   id_kind;     /* DB_VALUE_TEXT or DB_VALUE_INT */
    unsigned          id_place;    /* members before "id" in a document */
    unsigned          objectid:1;  /* TEXT: 24 lower-case hex digits */
    unsigned          versioned:1; /* versions of documents are asked for */
    const db_form_t  *form;
    const db_index_t *indexes;
    unsigned          nindexes;
} db_collection_t;


/*
 * A filter is a tree of conditions with MongoDB's meaning:
 *   - null equals missing;
 *   - a path that leads through lists leads to each of their members; a list
 *     at its end satisfies a condition when one of its members does;
 *   - GT to LTE hold between values of one type only, INT and REAL being one;
 *     with null, GTE and LTE are EQ, GT and LT never hold;
 *   - NE, NIN, NOT and NOR are the negations of EQ, IN, AND and OR.
 */

typedef enum {
    DB_CONDITION_AND,              /* nodes */
    DB_CONDITION_OR,               /* nodes */
    DB_CONDITION_NOR,              /* nodes */
    DB_CONDITION_NOT,              /* nodes, which are and-ed */
    DB_CONDITION_EQ,               /* path, values[0]; and so on to LTE */
    DB_CONDITION_NE,
    DB_CONDITION_GT,
    DB_CONDITION_GTE,
    DB_CONDITION_LT,
    DB_CONDITION_LTE,
    DB_CONDITION_IN,               /* path, values */
    DB_CONDITION_NIN,              /* path, values */
    DB_CONDITION_ALL,              /* path, values; without any it is false */
    DB_CONDITION_EXISTS,           /* path, number: 1 or 0 */
    DB_CONDITION_SIZE,             /* path, number */
    DB_CONDITION_ELEM_MATCH,       /* path, nodes: and-ed, of one member; an
                                      empty path is that member itself */
    DB_CONDITION_REGEX             /* path, regex */
} db_condition_kind_t;


/* RE2 and PCRE read the text alike; match() is of RE2, for any thread. */

typedef struct {
    db_str_t         text;
    db_str_t         options;      /* of i, m and s */
    const void      *compiled;
    int            (*match)(const void *compiled, db_str_t subject);
} db_regex_test_t;


typedef struct db_condition_s  db_condition_t;

struct db_condition_s {
    db_condition_kind_t     kind;
    unsigned                scalar:1;    /* the path leads through no list and
                                            to none, as declared */
    db_condition_t         *next;        /* in the same node */
    db_condition_t         *nodes;       /* the first */
    db_path_t               path;
    const db_value_t       *values;
    unsigned                nvalues;
    uint64_t                number;
    const db_regex_test_t  *regex;
};


typedef enum {
    DB_STORE_GET,
    DB_STORE_LIST,
    DB_STORE_INSERT,
    DB_STORE_REPLACE,
    DB_STORE_MODIFY,         /* read, change and write, in one atomic step */
    DB_STORE_REMOVE
} db_store_kind_t;


typedef enum {
    DB_STORE_OK,
    DB_STORE_NOT_FOUND,
    DB_STORE_CONFLICT,       /* the id, or a unique index, is taken */
    DB_STORE_MISMATCH,       /* of another version than was asked for */
    DB_STORE_DECLINED,       /* modify() would not have it */
    DB_STORE_LATER,          /* not within the budget: use db_store_work() */
    DB_STORE_ASKED,          /* answered() is called with another one */
    DB_STORE_BUSY,           /* locked by somebody for too long */
    DB_STORE_AWAY,           /* its file, or its server, is out of reach */
    DB_STORE_TIMEOUT,        /* no answer in time: a write may be done */
    DB_STORE_FULL,           /* disk full, or a limit of the database */
    DB_STORE_REFUSED,        /* it cannot hold such a document */
    DB_STORE_FAILED          /* anything else; logged where it arose */
} db_store_status_t;


/* Of an INSERT. */

typedef struct {
    db_value_t  id;
    db_str_t    document;          /* JSON text */
} db_store_item_t;


/*
 * A store may hold a document less exactly than it was given: MongoDB has
 * datetimes to the millisecond.  It leaves what it holds, in the arena of
 * out, in the place of the text.
 *
 * The version of a document counts its writes, from 1 on.  One that somebody
 * else has put into the store may have none, which is 0.
 */


typedef struct db_store_op_s  db_store_op_t;

struct db_store_op_s {
    db_store_op_t          *next;        /* the store's, once submitted; in
                                            done(): the one whose done() is
                                            called next, at once, or NULL */
    uint64_t                asked;       /* the store's: when, in ns */
    uint64_t                state;       /* the store's: what is known of a
                                            read already; 0: nothing */
    db_store_kind_t         kind;
    const db_collection_t  *collection;

    db_value_t              id;          /* GET, REPLACE, MODIFY, REMOVE */
    db_condition_t         *conditions;  /* all but INSERT: the first; what
                                            does not satisfy all of them is
                                            not found */

    /* GET, LIST */

    const db_path_t        *fields;      /* include only these, and the id */
    unsigned                nfields;     /* 0: whole documents */

    /* INSERT: all of them, or none */

    db_store_item_t        *items;
    unsigned                nitems;

    /* REPLACE, MODIFY, REMOVE */

    const uint64_t         *versions;    /* it must have one of them */
    unsigned                nversions;   /* 0: any */
    const uint64_t         *others;      /* and none of these */
    unsigned                nothers;
    unsigned                absent:1;    /* it must not be there */
    unsigned                upsert:1;    /* not REMOVE: insert what is not
                                            there; something that only fails
                                            the conditions is not found */

    db_str_t                document;    /* REPLACE; left by modify(): JSON */

    /*
     * MODIFY.  Called on a thread of the store with the document as it is,
     * data NULL for an upsert of a new one; leaves op->document, of which no
     * part is in what it was given.  DB_OK; DB_DECLINED: nothing is written;
     * DB_ERROR: out of memory.  Called again when somebody else has written
     * meanwhile.
     */
    int                   (*modify)(db_store_op_t *op, db_str_t current);

    /* LIST */

    const db_key_t         *sort;        /* the last one is the id */
    unsigned                nsort;
    const db_value_t       *after;       /* nsort of them: begin behind it */
    uint64_t                limit;
    uint64_t                skip;
    unsigned                count:1;     /* compute total as well, without
                                            regard to "after" */
    uint64_t                deadline;    /* of db_store_work(), in ns of the
                                            steady clock; 0: the store's */

    /* results */

    db_store_status_t       status;
    unsigned                created:1;   /* an upsert has inserted */
    uint64_t                version;     /* GET, REPLACE, MODIFY: as it is
                                            now, where they are asked for */
    const db_index_t       *conflict;    /* CONFLICT: NULL for the id */
    unsigned                item;        /* CONFLICT of an INSERT: which */
    db_buf_t               *out;         /* GET: the document; LIST: the
                                            documents joined by "," */
    uint64_t                total;
    db_value_t             *last;        /* LIST, when there are more: the
                                            sort keys of the last one, in the
                                            arena of out */

    void                  (*done)(db_store_op_t *op);
    void                  (*answered)(db_store_op_t *op);
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
 * file when it is missing, and starts the writer thread; or a
 * "mongodb://HOST/DATABASE", which need not be there yet.  A NULL return
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
 * Whether what the store needs is there: the directory of a file, a driver
 * that can be loaded and takes the URI.  Leaves no trace.  May fork, so for a
 * process without threads.
 */
int db_store_try(db_str_t uri, char *error, size_t size);

/*
 * Makes the collection ready, creating what is missing.  May block: not for
 * the nginx thread once it serves.  DB_OK, or DB_ERROR with a message.
 */
int db_store_prepare(db_store_t *store, const db_collection_t *collection,
    char *error, size_t size);

/* A collection that is in a store, whoever has made it. */

typedef struct db_catalog_entry_s  db_catalog_entry_t;

struct db_catalog_entry_s {
    db_catalog_entry_t  *next;
    db_str_t             name;
    db_value_kind_t      id_kind;        /* as in db_collection_t */
    unsigned             objectid:1;     /* where the store knows it */
    uint64_t             count;          /* MongoDB's own estimate */
};

/*
 * Any thread that may block: the collections whose ids the store can tell, in
 * the order of their names, in the arena.  DB_OK, or DB_ERROR with a message.
 */
int db_store_catalog(db_store_t *store, db_arena_t *arena,
    db_catalog_entry_t **first, char *error, size_t size);

/*
 * The nginx thread only, and once: a descriptor, which stays the store's,
 * that is readable when db_store_event() is to be called, or -1.
 */
int db_store_fd(db_store_t *store);

/* The nginx thread only: it is watched from now on, edge-triggered or not. */
void db_store_watch(db_store_t *store);

/* The nginx thread only: calls answered() of what has got its answer. */
void db_store_event(db_store_t *store);

/*
 * The nginx thread only.  Runs GET or LIST at once inside the cycle's read
 * transaction and leaves op->status; DB_STORE_LATER when it was not cheap
 * enough, with op->out as it was before; or, where db_store_fd() is watched,
 * DB_STORE_ASKED: the answer has to come, and may be LATER.  Calls neither
 * done() nor answered().
 */
void db_store_read(db_store_t *store, db_store_op_t *op);

/* The nginx thread only, at the end of an event cycle that read. */
void db_store_cycle_end(db_store_t *store);

/* Any thread of the pool: runs GET or LIST, blocking, and sets op->status. */
void db_store_work(db_store_t *store, db_store_op_t *op);

/*
 * The nginx thread only, after db_store_work() and before the operation is
 * looked at: the store learns from it.
 */
void db_store_worked(db_store_t *store, db_store_op_t *op);

/*
 * The nginx thread only: queues INSERT, REPLACE, MODIFY or REMOVE.  done() is
 * called on a thread of the store's once the operation is durable, or has
 * failed; on the caller's, before this returns, when too many wait already.
 */
void db_store_submit(db_store_t *store, db_store_op_t *op);

#endif /* DB_STORE_H */
