/*
 * Blocks in a list, newest first.  A request that outgrows the first block
 * gets further ones of twice the size; an allocation larger than a block
 * gets one of its own.
 */

#include "core/db_arena.h"

#include <stdint.h>
#include <stdlib.h>


#define DB_ARENA_ALIGN      16
#define DB_ARENA_MAX_BLOCK  (256 * 1024)


typedef struct db_arena_block_s  db_arena_block_t;

struct db_arena_block_s {
    db_arena_block_t  *next;
    char              *pos;
    char              *end;
};


struct db_arena_s {
    db_arena_block_t  *blocks;
    size_t             size;           /* of the next block */
    size_t             first;          /* of the first one */
};


#define db_align(n)                                                           \
    (((n) + (DB_ARENA_ALIGN - 1)) & ~((size_t) DB_ARENA_ALIGN - 1))

#define DB_ARENA_HEAD   db_align(sizeof(db_arena_t))
#define DB_BLOCK_HEAD   db_align(sizeof(db_arena_block_t))


static db_arena_block_t *
db_arena_block_init(char *memory, size_t head, size_t total)
{
    db_arena_block_t  *block;

    block = (db_arena_block_t *) (memory + head);
    block->next = NULL;
    block->pos = memory + head + DB_BLOCK_HEAD;
    block->end = memory + total;

    return block;
}


db_arena_t *
db_arena_create(size_t size)
{
    char        *memory;
    size_t       total;
    db_arena_t  *arena;

    /* the arena and its first block are one allocation */

    total = DB_ARENA_HEAD + DB_BLOCK_HEAD + db_align(size);

    memory = malloc(total);
    if (memory == NULL) {
        return NULL;
    }

    arena = (db_arena_t *) memory;
    arena->blocks = db_arena_block_init(memory, DB_ARENA_HEAD, total);
    arena->size = size;
    arena->first = size;

    return arena;
}


void
db_arena_reset(db_arena_t *arena)
{
    db_arena_block_t  *block, *next;

    for (block = arena->blocks; block->next; block = next) {
        next = block->next;
        free(block);
    }

    block->pos = (char *) block + DB_BLOCK_HEAD;
    arena->blocks = block;
    arena->size = arena->first;
}


void
db_arena_destroy(db_arena_t *arena)
{
    db_arena_reset(arena);
    free(arena);
}


void *
db_arena_alloc(db_arena_t *arena, size_t size)
{
    char              *memory;
    size_t             total;
    db_arena_block_t  *block;

    if (size > SIZE_MAX / 2) {
        return NULL;
    }

    size = db_align(size);
    block = arena->blocks;

    if ((size_t) (block->end - block->pos) < size) {

        if (arena->size < DB_ARENA_MAX_BLOCK) {
            arena->size *= 2;
        }

        total = DB_BLOCK_HEAD + (size > arena->size ? size : arena->size);

        memory = malloc(total);
        if (memory == NULL) {
            return NULL;
        }

        block = db_arena_block_init(memory, 0, total);
        block->next = arena->blocks;
        arena->blocks = block;
    }

    memory = block->pos;
    block->pos += size;

    return memory;
}


void *
db_arena_calloc(db_arena_t *arena, size_t size)
{
    void  *memory;

    memory = db_arena_alloc(arena, size);

    return memory ? memset(memory, 0, size) : NULL;
}


db_str_t
db_arena_str(db_arena_t *arena, db_str_t str)
{
    char  *copy;

    copy = db_arena_alloc(arena, str.len + 1);
    if (copy == NULL) {
        return db_null_string;
    }

    if (str.len) {
        memcpy(copy, str.data, str.len);
    }

    copy[str.len] = '\0';

    return (db_str_t) { copy, str.len };
}
