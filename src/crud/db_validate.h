/*
 * Validation: a value as it was read against its type, into the text that is
 * stored, with pydantic's errors.
 */

#ifndef DB_VALIDATE_H
#define DB_VALIDATE_H

#include "crud/db_schema.h"


/* Where a value is: a list that lives on the stack of its writers. */

typedef struct db_loc_s  db_loc_t;

struct db_loc_s {
    const db_loc_t  *parent;
    db_str_t         name;
    size_t           index;      /* when it has no name */
};


typedef struct {
    db_arena_t      *arena;
    db_buf_t        *out;        /* worthless once there are errors */
    db_buf_t         errors;     /* the items of "detail" */
    unsigned         nerrors;
    unsigned         secret;     /* errors repeat no input */

    unsigned         stored:1;   /* read by the names that documents have */
    unsigned         creates:1;  /* the id given may be a new document's */

    /* within unions: what tells their members' matches apart */
    unsigned         unions;     /* how many are around */
    unsigned         exactness;
    int64_t          given;      /* fields of models; below 0: no model */
    unsigned         work;
    unsigned         refused;    /* errors of what pydantic would take */
    const db_choice_t *choice;   /* of the union last written */

    /* the scalar last written: what ids and filters take */
    int64_t          integer;
    double           real;
    db_str_t         text;
} db_check_t;


/*
 * "out" may be filled already.  When memory runs out, out->failed or
 * errors.failed is set.
 */
void db_check_init(db_check_t *check, db_arena_t *arena, db_buf_t *out);

void db_check_value(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc);

/* What a field without a value gets; DB_DECLINED when it is required. */
int db_check_default(db_check_t *check, const db_field_t *field);

/* What is given in the place of a field's value, as JSON text. */

typedef enum {
    DB_GIVEN_NONE,               /* as sent */
    DB_GIVEN_TEXT,
    DB_GIVEN_DEFAULT,
    DB_GIVEN_FROZEN              /* the text, and nothing else may be sent */
} db_given_kind_t;

typedef struct {
    db_given_kind_t  kind;
    db_str_t         text;
} db_given_t;


/*
 * A whole document of crud's model.  With an id, which is its JSON text and
 * *id its value, that id takes the place of the document's own; without, *id
 * is the document's, made up when the model has none.  "given" is by field,
 * or NULL.
 */
void db_check_document(db_check_t *check, const db_crud_t *crud,
    const db_json_t *node, const db_loc_t *loc, db_str_t given_id,
    const db_given_t *given, db_value_t *id);


/*
 * Adds an error.  msg and ctx are JSON text, msg without its quotes; ctx is
 * the members of an object, or empty; input NULL is null.
 */
void db_check_error(db_check_t *check, const char *type, const db_loc_t *loc,
    db_str_t msg, const db_json_t *input, db_str_t ctx);

#endif /* DB_VALIDATE_H */
