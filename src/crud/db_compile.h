/*
 * Between the parts of the schema compiler.  Functions return DB_OK, or
 * DB_ERROR with a message that names where it is.
 */

#ifndef DB_COMPILE_H
#define DB_COMPILE_H

#include "crud/db_schema.h"


#define DB_COMPILE_MAX_DEPTH  16       /* of types in each other */


typedef struct {
    db_crud_t    *crud;
    char         *error;
    size_t        size;

    /* where we are */
    db_str_t      model;
    db_str_t      field;
} db_compiler_t;


/* Always DB_ERROR. */
int db_compile_error(db_compiler_t *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* NULL when it is not there. */
const db_json_t *db_member(const db_json_t *node, const char *name);

/* The node must be an object of known members, a list ended by NULL. */
int db_compile_known(db_compiler_t *c, const db_json_t *node,
    const char *what, const char *const *known);

/* A member that must be there and be a string. */
int db_compile_text(db_compiler_t *c, const db_json_t *node,
    const char *name, db_str_t *text);

/* A member that is true or false, or not there. */
int db_compile_flag(db_compiler_t *c, const db_json_t *node,
    const char *name, unsigned *flag);

/* A field's name, and how it is written. */
int db_compile_name(db_compiler_t *c, db_str_t name, db_field_t *field);

/* What is one of some values. */
int db_compile_values(db_compiler_t *c, const db_json_t *node,
    db_type_t *type);

/* What is of one of some types, and tuples. */
int db_compile_union(db_compiler_t *c, const db_json_t *node,
    db_type_t *type, unsigned depth);
int db_compile_tuple(db_compiler_t *c, const db_json_t *node,
    db_type_t *type, unsigned depth);

/* A type; with "field" a field, which has members of its own as well. */
int db_compile_type(db_compiler_t *c, const db_json_t *node,
    db_type_t *type, int field, unsigned depth);

/* What the resource does, once its models and its id are known. */
int db_compile_options(db_compiler_t *c, const db_json_t *root);

/* What lists are made fast for, and what patterns may be asked of. */
int db_compile_queries(db_compiler_t *c, const db_json_t *root);

/* Where documents have datetimes and other names; after the models. */
int db_compile_form(db_compiler_t *c);

#endif /* DB_COMPILE_H */
