/*
 * The query of a list: filter, sort, fields, limit, skip, after, count, and
 * conditions on fields by name (docs/query.md).
 */

#ifndef DB_FILTER_H
#define DB_FILTER_H

#include "crud/db_schema.h"


#define DB_FILTER_LIMIT           20
#define DB_FILTER_MAX_LIMIT       1000
#define DB_FILTER_MAX_CONDITIONS  100
#define DB_FILTER_MAX_DEPTH       8
#define DB_FILTER_MAX_VALUES      1000
#define DB_FILTER_MAX_TEXT        8192
#define DB_FILTER_MAX_PATTERN     512
#define DB_FILTER_MAX_PATTERNS    4
#define DB_FILTER_MAX_SORT        8
#define DB_FILTER_MAX_FIELDS      63


/*
 * Fills in what op asks of a list; its conditions follow those that are there
 * already.  DB_OK; DB_DECLINED with what is wrong in *message; DB_ERROR: out
 * of memory.  Patterns that were compiled are added to *patterns in any case:
 * the caller destroys them.
 */
int db_filter_parse(const db_crud_t *crud, db_arena_t *arena, db_str_t query,
    db_store_op_t *op, db_regex_t **patterns, db_str_t *message);

/* The text of "after" that goes on behind op->last. */
void db_filter_next(db_buf_t *out, db_arena_t *arena,
    const db_store_op_t *op);

#endif /* DB_FILTER_H */
