/*
 * A bump allocator: everything that one request needs, freed at once.
 *
 * An arena belongs to one thread at a time; it may be handed to another
 * thread together with what lives in it.
 */

#ifndef DB_ARENA_H
#define DB_ARENA_H

#include "core/db_str.h"


typedef struct db_arena_s  db_arena_t;


/* NULL when out of memory. "size" is the first block's, in bytes. */
db_arena_t *db_arena_create(size_t size);
void db_arena_destroy(db_arena_t *arena);

/* Forgets what was allocated; the first block is used again. */
void db_arena_reset(db_arena_t *arena);

/* Aligned to 16 bytes; NULL when out of memory. */
void *db_arena_alloc(db_arena_t *arena, size_t size);
void *db_arena_calloc(db_arena_t *arena, size_t size);

/* A NUL-terminated copy; data is NULL when out of memory. */
db_str_t db_arena_str(db_arena_t *arena, db_str_t str);

#endif /* DB_ARENA_H */
