/*
 * The query of a list: limit, skip, count, and conditions on fields.
 */

#ifndef DB_FILTER_H
#define DB_FILTER_H

#include "crud/db_schema.h"


#define DB_FILTER_LIMIT          20
#define DB_FILTER_MAX_LIMIT      1000
#define DB_FILTER_MAX_CONDITIONS 100


/*
 * Sets op's limit, skip, count and conditions.  DB_OK; DB_DECLINED with what
 * is wrong in *message; DB_ERROR: out of memory.
 */
int db_filter_parse(const db_crud_t *crud, db_arena_t *arena, db_str_t query,
    db_store_op_t *op, db_str_t *message);

#endif /* DB_FILTER_H */
