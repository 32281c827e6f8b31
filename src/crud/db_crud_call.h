/*
 * Between the parts of a call: db_crud.c has its life, db_crud_body.c what
 * was sent, db_crud_read.c and db_crud_write.c what it does, db_crud_answer.c
 * what is said of it.
 */

#ifndef DB_CRUD_CALL_H
#define DB_CRUD_CALL_H

#include "crud/db_crud.h"
#include "crud/db_schema.h"
#include "crud/db_validate.h"


/* Answers of one sentence: always DB_DONE, or DB_ERROR: out of memory. */

int db_crud_answer(db_crud_call_t *call, unsigned status, db_str_t answer);
int db_crud_detail(db_crud_call_t *call, unsigned status, db_str_t text);
int db_crud_not_found(db_crud_call_t *call);
int db_crud_invalid(db_crud_call_t *call, const db_check_t *check);
int db_crud_conflict(db_crud_call_t *call);

/* The ETag of the document that is answered. */
int db_crud_tag(db_crud_call_t *call, uint64_t version);

/*
 * The body as a tree, which lives in the call's arena but for the text of
 * what is not JSON.  DB_DONE: answered.  DB_OK with *root NULL: there is none.
 */
int db_crud_read_body(db_crud_call_t *call, db_json_t **root);

/*
 * The id of the path: its value in op->id, its JSON text in call->given.
 * Errors are left in the check.  DB_DONE: answered.
 */
int db_crud_check_id(db_crud_call_t *call, db_check_t *check);

/* The same; errors are answered. */
int db_crud_read_id(db_crud_call_t *call);

/*
 * Makes room for an ObjectId to be the id of the call: where its digits are
 * to be written, or NULL when out of memory.
 */
char *db_crud_objectid(db_crud_call_t *call);

/* What If-Match, or its lack, and If-None-Match ask of a write. */
int db_crud_match(db_crud_call_t *call);

/* Adds what the documents of this caller have; DB_DONE: answered. */
int db_crud_read_scope(db_crud_call_t *call);


int db_crud_begin_list(db_crud_call_t *call);
int db_crud_begin_get(db_crud_call_t *call);
int db_crud_begin_create(db_crud_call_t *call);
int db_crud_begin_update(db_crud_call_t *call);      /* PATCH as well */
int db_crud_begin_delete(db_crud_call_t *call);

/* CREATE and UPDATE of what was validated by the caller. */
int db_crud_begin_validated(db_crud_call_t *call);

int db_crud_finish_list(db_crud_call_t *call);
int db_crud_finish_get(db_crud_call_t *call);
int db_crud_finish_create(db_crud_call_t *call);
int db_crud_finish_update(db_crud_call_t *call);


/*
 * RFC 9110, 13.1.  The versions that a list of tags names, in the arena.
 * DB_DONE: it names any.  DB_DECLINED: more than DB_ETAG_MAX.
 */

#define DB_ETAG_MAX  64

int db_etag_versions(db_arena_t *arena, db_str_t list, int strong,
    const uint64_t **versions, unsigned *nversions);

/* Whether If-None-Match names this version. */
int db_etag_none_match(db_str_t list, uint64_t version);


/* The members of an object by name; the object may be NULL. */

typedef struct {
    const db_json_t   *object;
    const db_json_t  **sorted;   /* NULL: they are few */
} db_members_t;

int db_members_init(db_members_t *members, db_arena_t *arena,
    const db_json_t *object);
const db_json_t *db_members_find(const db_members_t *members, db_str_t key);


/* What a client has sent for a field, by the best of its names, or NULL. */
const db_json_t *db_crud_sent(const db_json_t *object,
    const db_field_t *field);

/*
 * A stored document by the names that a client gives its fields: those that
 * the patch has, or else the best ones.  What the model no longer knows is
 * left out; with "visible" what is never answered as well, unless the patch
 * is about it.  It is made of nodes of the document, which is not changed,
 * and of new ones.  NULL: out of memory.
 */
const db_json_t *db_crud_rename(db_arena_t *arena, const db_crud_t *crud,
    const db_json_t *document, const db_json_t *patch, int visible);


/*
 * RFC 7396: the target with the patch in it, made of nodes of both and of new
 * ones in the arena; neither is changed.  NULL: out of memory.
 */
const db_json_t *db_merge_patch(db_arena_t *arena, const db_json_t *target,
    const db_json_t *patch);

#endif /* DB_CRUD_CALL_H */
