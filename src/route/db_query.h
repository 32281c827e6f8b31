/*
 * Query strings and percent-encoding, as urllib.parse reads them.
 */

#ifndef DB_QUERY_H
#define DB_QUERY_H

#include "core/db_arena.h"


typedef struct {
    db_str_t   name;
    db_str_t   value;
} db_query_pair_t;


/*
 * Splits a raw query as parse_qsl(keep_blank_values=True) does: "&"
 * separates, "+" is a space, the first "=" ends the name, an escape that is
 * none stays as it is.  The pairs live in the arena.  DB_OK or DB_ERROR, out
 * of memory.
 */
int db_query_parse(db_arena_t *arena, db_str_t raw, db_query_pair_t **pairs,
    unsigned *npairs);

/* Percent-decodes into dst (src.len bytes at most); returns the length. */
size_t db_percent_decode(char *dst, db_str_t src);

/* The same for a name or a value of a query, where "+" is a space. */
size_t db_query_decode(char *dst, db_str_t src);

#endif /* DB_QUERY_H */
