/*
 * Native CRUD: a resource compiled from its schema (docs/schema.md), and one
 * call of it in two steps around the store.
 *
 * A db_crud_t is constant once compiled and may be shared between threads; a
 * db_crud_call_t belongs to one thread at a time.
 */

#ifndef DB_CRUD_H
#define DB_CRUD_H

#include "core/db_buf.h"
#include "store/db_store.h"


typedef struct db_crud_s  db_crud_t;


/* Limits of a request: documents of one POST, bytes of a body. */

#define DB_CRUD_MAX_ITEMS     1000
#define DB_CRUD_MAX_DOCUMENT  (1024 * 1024)


typedef enum {
    DB_CRUD_LIST,
    DB_CRUD_GET,
    DB_CRUD_CREATE,
    DB_CRUD_UPDATE,
    DB_CRUD_PATCH,
    DB_CRUD_DELETE,
    DB_CRUD_OPERATIONS       /* their number */
} db_crud_operation_t;


/* As schemas name it; DB_CRUD_OPERATIONS: no such operation. */
db_crud_operation_t db_crud_operation(db_str_t name);
const char *db_crud_operation_name(db_crud_operation_t operation);


/*
 * Compiles schema text.  A NULL return leaves a message that names the
 * member at fault and what to do in error.
 */
db_crud_t *db_crud_compile(db_str_t schema, char *error, size_t size);
void db_crud_destroy(db_crud_t *crud);

const db_collection_t *db_crud_collection(const db_crud_t *crud);
db_str_t db_crud_name(const db_crud_t *crud);       /* the model's */
db_str_t db_crud_prefix(const db_crud_t *crud);     /* "/articles" */
db_str_t db_crud_store(const db_crud_t *crud);      /* "main" */
unsigned db_crud_operations(const db_crud_t *crud); /* bit 1 << operation */
unsigned db_crud_timeout(const db_crud_t *crud);    /* ms; 0: none */

/* The variables, without "$", that say whose documents a caller sees. */
const db_str_t *db_crud_variables(const db_crud_t *crud, unsigned *n);

/*
 * Of these, what Python has to validate before: its requests are Python's,
 * which asks for the rest as a call with "validated" set.
 */
unsigned db_crud_hybrid(const db_crud_t *crud);


typedef struct {
    db_str_t              id;           /* CREATE: when the model has one */
    db_str_t              text;
} db_crud_document_t;


typedef struct {
    const db_crud_t      *crud;
    db_crud_operation_t   operation;
    db_arena_t           *arena;        /* holds the call itself too */

    /*
     * Asked: the caller's memory, which must outlive the call; content_type
     * and body are only looked at by db_crud_begin().
     */

    db_str_t              prefix;       /* for Location */
    db_str_t              id;           /* percent-decoded; GET and on */
    db_str_t              query;        /* as received, without "?" */
    db_str_t              content_type;
    db_str_t              body;
    db_str_t              if_match;     /* of a versioned collection; NULL:
                                           not asked, empty: matches nothing */
    db_str_t              if_none_match;   /* likewise */
    const db_str_t       *scope;        /* values of the variables; empty:
                                           there is none */

    /*
     * Of a caller in this process.  What it writes was validated: documents
     * of the model, complete but for an ObjectId, which are not read.  An
     * UPDATE writes only in the place of "current", unless data is NULL;
     * empty, it is that there is none.  A GET is answered with all that is
     * stored.
     */

    unsigned              validated:1;
    unsigned              many:1;       /* an array is created */
    db_crud_document_t   *documents;    /* not of GET and DELETE */
    unsigned              ndocuments;
    db_str_t              current;

    /* between the two steps */

    db_str_t              given;        /* the id as JSON */
    const db_str_t       *scoped;       /* the scope as JSON */
    const struct db_json_s  *root;      /* of the body, for op->modify() */

    /* to the store and back */

    db_store_op_t         op;
    db_store_item_t       item;         /* of a create */
    db_buf_t              out;
    struct db_regex_s    *patterns;     /* of the filter */

    /* answered */

    unsigned              status;       /* HTTP */
    unsigned              raced:1;      /* a 409: it is not "current" */
    db_str_t              location;     /* of a 201, else empty */
    db_str_t              etag;         /* of one document, else empty */
    db_str_t              answer;       /* JSON; empty with 204, 304 */
} db_crud_call_t;


/*
 * Which operation a request is.  "rest" is the path after the prefix, still
 * percent-encoded: "" or "/{id}".  Sets *operation and *id (encoded) and
 * returns 200, or 404, or 405 with the methods for Allow in *allow, a
 * constant of the resource.
 */
unsigned db_crud_route(const db_crud_t *crud, db_str_t method, db_str_t rest,
    db_crud_operation_t *operation, db_str_t *id, db_str_t *allow);

/* NULL when out of memory. */
db_crud_call_t *db_crud_call_create(const db_crud_t *crud,
    db_crud_operation_t operation);
void db_crud_call_destroy(db_crud_call_t *call);

/* Destroys the call, but leaves its arena, empty, to the caller. */
db_arena_t *db_crud_call_end(db_crud_call_t *call);

/* Another one in such an arena, which stays the caller's when this fails. */
db_crud_call_t *db_crud_call_init(db_arena_t *arena, const db_crud_t *crud,
    db_crud_operation_t operation);

/*
 * Parses and validates what was asked.  DB_OK: call->op is to be run by the
 * store.  DB_DONE: status and answer are set.  DB_ERROR: out of memory.
 */
int db_crud_begin(db_crud_call_t *call);

/*
 * After the store: sets status and answer from call->op.  A store that
 * failed is 503 (BUSY, AWAY), 504 (TIMEOUT), 507 (FULL) or 500; 422 when it
 * has refused.  DB_OK, or DB_ERROR when out of memory.
 */
int db_crud_finish(db_crud_call_t *call);

/*
 * The text of a stored document by the names that a client gives its fields:
 * those that the patch has, or else the first of what they accept.  *text is
 * in the arena.  DB_DECLINED: one of the two is no JSON object.
 */
int db_crud_renamed(const db_crud_t *crud, db_arena_t *arena,
    db_str_t document, db_str_t patch, db_str_t *text);

#endif /* DB_CRUD_H */
