/*
 * Documents as lines, for export and import.  For any thread.
 */

#ifndef DB_LINES_H
#define DB_LINES_H

#include "store/db_store.h"


/*
 * Appends JSON texts that are joined by "," as they are in a LIST's result,
 * one a line and without white space between their tokens.
 */
void db_lines_append(db_buf_t *out, db_str_t documents);

/*
 * Reads one line as a document of the collection, whose text is left in the
 * arena.  DB_OK; DB_DECLINED with a message; DB_ERROR: out of memory.
 */
int db_lines_read(db_arena_t *arena, const db_collection_t *collection,
    db_str_t line, db_store_item_t *item, char *error, size_t size);

#endif /* DB_LINES_H */
