/*
 * Routes are found through three kinds of lists, each in the order of
 * declaration:
 *
 *   by path       patterns without parameters, hashed whole;
 *   by prefix     patterns such as "/api/items/{id}", hashed by the segments
 *                 before the first parameter, "/api/items/";
 *   the rest      matchers that may take any path.
 *
 * A match walks the lists that apply to its path side by side, so that the
 * route declared first is tried first whichever list it stands in.
 *
 * Any thread may match once the last route is added.
 */

#include "route/db_pattern.h"
#include "route/db_router.h"

#include <stdint.h>
#include <stdio.h>


#define DB_ROUTER_BUCKETS  64


typedef struct db_entry_s  db_entry_t;

struct db_entry_s {
    db_entry_t      *next;         /* in its list */
    unsigned         order;        /* of declaration */
    unsigned         index;        /* the caller's */
    db_str_t         methods;      /* empty: any */
    db_pattern_t    *pattern;      /* NULL: every path */
};


typedef struct {
    db_entry_t      *head;
    db_entry_t     **tail;
} db_entries_t;


typedef struct db_group_s  db_group_t;

struct db_group_s {
    db_group_t      *next;         /* in its bucket */
    db_str_t         key;
    uint32_t         hash;
    db_entries_t     entries;
};


typedef struct {
    db_group_t     **buckets;
    unsigned         size;         /* a power of two */
    unsigned         count;
} db_groups_t;


struct db_router_s {
    db_arena_t      *arena;
    unsigned         count;
    db_groups_t      paths;
    db_groups_t      prefixes;
    db_entries_t     rest;
};


/* Segments of a prefix that are looked up, deeper ones are compared. */

#define DB_ROUTER_DEPTH  8

/* by path, the same without a final line feed, by prefix, the rest */

#define DB_ROUTER_LISTS  (2 + DB_ROUTER_DEPTH + 1)


/* FNV-1a: the hash of a prefix is a step towards the whole path's. */

#define DB_HASH_START  2166136261u


static uint32_t
db_hash_step(uint32_t hash, char c)
{
    return (hash ^ (unsigned char) c) * 16777619u;
}


static uint32_t
db_hash(db_str_t key)
{
    size_t    i;
    uint32_t  hash;

    hash = DB_HASH_START;

    for (i = 0; i < key.len; i++) {
        hash = db_hash_step(hash, key.data[i]);
    }

    return hash;
}


static db_group_t *
db_groups_find(const db_groups_t *groups, db_str_t key, uint32_t hash)
{
    db_group_t  *group;

    if (groups->count == 0) {
        return NULL;
    }

    for (group = groups->buckets[hash & (groups->size - 1)];
         group;
         group = group->next)
    {
        if (group->hash == hash && db_str_eq(group->key, key)) {
            return group;
        }
    }

    return NULL;
}


static int
db_groups_grow(db_groups_t *groups, db_arena_t *arena)
{
    unsigned      i, size;
    db_group_t   *group, *next, **buckets;

    size = groups->size ? groups->size * 2 : DB_ROUTER_BUCKETS;

    buckets = db_arena_calloc(arena, size * sizeof(db_group_t *));
    if (buckets == NULL) {
        return DB_ERROR;
    }

    for (i = 0; i < groups->size; i++) {
        for (group = groups->buckets[i]; group; group = next) {
            next = group->next;
            group->next = buckets[group->hash & (size - 1)];
            buckets[group->hash & (size - 1)] = group;
        }
    }

    groups->buckets = buckets;
    groups->size = size;

    return DB_OK;
}


static db_entries_t *
db_groups_add(db_groups_t *groups, db_arena_t *arena, db_str_t key)
{
    uint32_t     hash;
    db_group_t  *group, **bucket;

    hash = db_hash(key);
    group = db_groups_find(groups, key, hash);
    if (group) {
        return &group->entries;
    }

    if (groups->count == groups->size
        && db_groups_grow(groups, arena) != DB_OK)
    {
        return NULL;
    }

    group = db_arena_calloc(arena, sizeof(db_group_t));
    if (group == NULL) {
        return NULL;
    }

    group->key = key;
    group->hash = hash;
    group->entries.tail = &group->entries.head;

    bucket = &groups->buckets[group->hash & (groups->size - 1)];
    group->next = *bucket;
    *bucket = group;
    groups->count++;

    return &group->entries;
}


db_router_t *
db_router_create(void)
{
    db_arena_t   *arena;
    db_router_t  *router;

    arena = db_arena_create(4096);
    if (arena == NULL) {
        return NULL;
    }

    router = db_arena_calloc(arena, sizeof(db_router_t));
    if (router == NULL) {
        db_arena_destroy(arena);
        return NULL;
    }

    router->arena = arena;
    router->rest.tail = &router->rest.head;

    return router;
}


void
db_router_destroy(db_router_t *router)
{
    db_arena_destroy(router->arena);
}


/* "/api/items/" of "/api/items/a{id}", cut off after so many segments. */

static db_str_t
db_router_prefix(db_str_t text)
{
    size_t    i, len;
    unsigned  depth;

    len = 0;
    depth = 0;

    for (i = 0; i < text.len && depth < DB_ROUTER_DEPTH; i++) {
        if (text.data[i] == '/') {
            len = i + 1;
            depth++;
        }
    }

    text.len = len;

    return text;
}


static db_entries_t *
db_router_entries(db_router_t *router, const db_pattern_t *pattern)
{
    db_str_t  prefix;

    if (pattern == NULL) {
        return &router->rest;
    }

    prefix = db_pattern_prefix(pattern);

    if (pattern->nparams == 0) {
        return db_groups_add(&router->paths, router->arena, prefix);
    }

    return db_groups_add(&router->prefixes, router->arena,
                         db_router_prefix(prefix));
}


int
db_router_add(db_router_t *router, db_str_t methods, db_str_t pattern,
    unsigned index, char *error, size_t size)
{
    db_entry_t    *entry;
    db_entries_t  *entries;

    entry = db_arena_calloc(router->arena, sizeof(db_entry_t));
    if (entry == NULL) {
        goto nomem;
    }

    if (methods.len) {
        entry->methods = db_arena_str(router->arena, methods);
        if (entry->methods.data == NULL) {
            goto nomem;
        }
    }

    if (pattern.data) {
        entry->pattern = db_pattern_compile(router->arena, pattern, error,
                                            size);
        if (entry->pattern == NULL) {
            return DB_ERROR;
        }
    }

    entries = db_router_entries(router, entry->pattern);
    if (entries == NULL) {
        goto nomem;
    }

    entry->order = router->count++;
    entry->index = index;

    *entries->tail = entry;
    entries->tail = &entry->next;

    return DB_OK;

nomem:

    snprintf(error, size, "out of memory");

    return DB_ERROR;
}


static int
db_method_listed(db_str_t methods, db_str_t method)
{
    size_t       len;
    const char  *p, *end, *comma;

    p = methods.data;
    end = p + methods.len;

    for ( ;; ) {
        comma = memchr(p, ',', (size_t) (end - p));
        len = (size_t) ((comma ? comma : end) - p);

        if (db_str_eq((db_str_t) { p, len }, method)) {
            return 1;
        }

        if (comma == NULL) {
            return 0;
        }

        p = comma + 1;
    }
}


/* The lists of the path's prefixes; *hash becomes the whole path's. */

static unsigned
db_router_prefixes(const db_router_t *router, db_str_t path,
    const db_entry_t **lists, uint32_t *hash)
{
    size_t       i;
    unsigned     n, depth;
    db_group_t  *group;

    n = 0;
    depth = 0;
    *hash = DB_HASH_START;

    for (i = 0; i < path.len; i++) {
        *hash = db_hash_step(*hash, path.data[i]);

        if (path.data[i] != '/' || depth == DB_ROUTER_DEPTH) {
            continue;
        }

        depth++;
        group = db_groups_find(&router->prefixes,
                               (db_str_t) { path.data, i + 1 }, *hash);
        if (group) {
            lists[n++] = group->entries.head;
        }
    }

    return n;
}


static unsigned
db_router_lists(const db_router_t *router, db_str_t path,
    const db_entry_t **lists)
{
    unsigned     n;
    uint32_t     hash;
    db_group_t  *group;

    n = db_router_prefixes(router, path, lists, &hash);

    group = db_groups_find(&router->paths, path, hash);
    if (group) {
        lists[n++] = group->entries.head;
    }

    /* Python's "$" matches before a final line feed, too */

    if (path.len && path.data[path.len - 1] == '\n') {
        path.len--;
        group = db_groups_find(&router->paths, path, db_hash(path));
        if (group) {
            lists[n++] = group->entries.head;
        }
    }

    if (router->rest.head) {
        lists[n++] = router->rest.head;
    }

    return n;
}


/* Takes the entry declared first; NULL when the lists are exhausted. */

static const db_entry_t *
db_router_next(const db_entry_t **lists, unsigned n)
{
    unsigned            i, first;
    const db_entry_t   *entry;

    first = n;

    for (i = 0; i < n; i++) {
        if (lists[i]
            && (first == n || lists[i]->order < lists[first]->order))
        {
            first = i;
        }
    }

    if (first == n) {
        return NULL;
    }

    entry = lists[first];
    lists[first] = entry->next;

    return entry;
}


int
db_router_match(const db_router_t *router, db_str_t method, db_str_t path,
    db_match_t *match)
{
    int                rc;
    unsigned           n;
    db_match_t         found;
    const db_entry_t  *entry, *lists[DB_ROUTER_LISTS];

    rc = DB_DONE;
    n = db_router_lists(router, path, lists);

    while ((entry = db_router_next(lists, n)) != NULL) {

        found.nparams = 0;

        if (entry->pattern) {
            if (!db_pattern_match(entry->pattern, path, found.params)) {
                continue;
            }

            found.nparams = entry->pattern->nparams;
        }

        if (entry->methods.len == 0
            || db_method_listed(entry->methods, method))
        {
            rc = DB_OK;

        } else if (rc == DB_DECLINED) {
            continue;

        } else {
            rc = DB_DECLINED;
        }

        match->index = entry->index;
        match->nparams = found.nparams;
        memcpy(match->params, found.params, found.nparams * sizeof(db_str_t));

        if (rc == DB_OK) {
            break;
        }
    }

    return rc;
}
