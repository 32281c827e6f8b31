/*
 * Between the parts of the query parser: names, values, conditions, cursors.
 */

#ifndef DB_MEMBER_H
#define DB_MEMBER_H

#include "crud/db_filter.h"


typedef struct {
    const db_crud_t  *crud;
    db_arena_t       *arena;
    db_store_op_t    *op;
    db_regex_t      **patterns;
    db_str_t         *message;
    unsigned          nconditions;
    unsigned          npatterns;
    unsigned          declaring:1;  /* names are the model's own: any field */
} db_filter_t;


/* What a dotted name stands for. */

typedef struct {
    db_str_t          name;       /* in full, for messages */
    db_path_t         path;
    const db_type_t  *type;
    unsigned          lists:1;    /* the path leads through some */
    unsigned          objectid:1;
} db_member_t;


/* Always DB_DECLINED, or DB_ERROR when out of memory. */
int db_filter_error(db_filter_t *f, const char *fmt, ...)
    __attribute__((format(printf, 2, 3), nonnull(2)));

/*
 * Finds the member of a model; "within" names where the model is, for
 * messages, and is empty for the document itself.
 */
int db_filter_member(db_filter_t *f, const db_model_t *model,
    db_str_t within, db_str_t name, db_member_t *member);

/* The kind that the store compares a scalar type as. */
db_value_kind_t db_filter_kind(const db_type_t *type);

/* A value as it is written in a query, or in JSON, by the member's type. */
int db_filter_text_value(db_filter_t *f, const db_member_t *member,
    const db_type_t *type, db_str_t text, db_value_t *value);
int db_filter_json_value(db_filter_t *f, const db_member_t *member,
    const db_type_t *type, const db_json_t *node, db_value_t *value);

/*
 * A new condition at the end of a list; member NULL: one without a path.
 * NULL with *rc when there are too many, or no memory.
 */
db_condition_t *db_filter_add(db_filter_t *f, db_condition_t ***tail,
    db_condition_kind_t kind, const db_member_t *member, int *rc);

/* A JSON filter, to the end of a list. */
int db_filter_json(db_filter_t *f, db_str_t text, db_condition_t ***tail);

/*
 * Names with "-" before descending ones, separated by commas; data NULL is
 * none.  The id ends every sort, in the direction of the key before it.
 */
int db_filter_sort(db_filter_t *f, db_str_t list, const db_key_t **sort,
    unsigned *nsort);

/* The value of "after", by op's sort. */
int db_filter_after(db_filter_t *f, db_str_t text);

#endif /* DB_MEMBER_H */
