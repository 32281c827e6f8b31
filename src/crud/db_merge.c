/*
 * JSON Merge Patch, RFC 7396, on trees.  For any thread.
 */

#include "crud/db_crud_call.h"

#include <stdlib.h>


/* Members of a patch that are looked up one by one, not by a sorted table. */
#define DB_MERGE_FEW  8


static int
db_merge_compare(db_str_t a, db_str_t b)
{
    if (a.len != b.len) {
        return a.len < b.len ? -1 : 1;
    }

    return a.len ? memcmp(a.data, b.data, a.len) : 0;
}


static int
db_merge_order(const void *a, const void *b)
{
    const db_json_t *const  *x = a;
    const db_json_t *const  *y = b;

    return db_merge_compare((*x)->key, (*y)->key);
}


static int
db_merge_search(const void *key, const void *item)
{
    const db_json_t *const  *member = item;

    return db_merge_compare(*(const db_str_t *) key, (*member)->key);
}


/* The members of a patch, sorted by name; NULL when out of memory. */

static const db_json_t **
db_merge_table(db_arena_t *arena, const db_json_t *patch)
{
    size_t             n;
    const db_json_t   *member, **table;

    table = db_arena_alloc(arena, patch->count * sizeof(db_json_t *) + 1);
    if (table == NULL) {
        return NULL;
    }

    n = 0;

    for (member = patch->u.child; member; member = member->next) {
        table[n++] = member;
    }

    qsort(table, n, sizeof(db_json_t *), db_merge_order);

    return table;
}


static const db_json_t *
db_merge_find(const db_json_t *patch, const db_json_t **table, db_str_t key)
{
    const db_json_t  *member, **found;

    if (table) {
        found = bsearch(&key, table, patch->count, sizeof(db_json_t *),
                        db_merge_search);

        return found ? *found : NULL;
    }

    for (member = patch->u.child; member; member = member->next) {
        if (db_str_eq(member->key, key)) {
            break;
        }
    }

    return member;
}


/* Adds a copy of a node, under its own name or that of what it replaces. */

static int
db_merge_add(db_arena_t *arena, db_json_t *object, db_json_t **last,
    const db_json_t *node, const db_json_t *named)
{
    db_json_t  *copy;

    copy = db_arena_alloc(arena, sizeof(db_json_t));
    if (copy == NULL) {
        return DB_ERROR;
    }

    *copy = *node;
    copy->key = named->key;
    copy->key_plain = named->key_plain;
    copy->next = NULL;

    if (*last) {
        (*last)->next = copy;

    } else {
        object->u.child = copy;
    }

    *last = copy;
    object->count++;

    return DB_OK;
}


/* What the target has already keeps its place, what is new follows. */

static int
db_merge_members(db_arena_t *arena, const db_json_t *target,
    const db_json_t *patch, db_json_t *merged)
{
    db_json_t         *last;
    const db_json_t   *member, *change, **table, **known;

    table = NULL;
    known = NULL;
    last = NULL;

    if (target && patch->count > DB_MERGE_FEW) {
        table = db_merge_table(arena, patch);
        known = db_merge_table(arena, target);

        if (table == NULL || known == NULL) {
            return DB_ERROR;
        }
    }

    for (member = target ? target->u.child : NULL; member;
         member = member->next)
    {
        change = db_merge_find(patch, table, member->key);

        if (change && change->kind == DB_JSON_NULL) {
            continue;
        }

        if (change) {
            change = db_merge_patch(arena, member, change);
            if (change == NULL) {
                return DB_ERROR;
            }
        }

        if (db_merge_add(arena, merged, &last, change ? change : member,
                         member)
            != DB_OK)
        {
            return DB_ERROR;
        }
    }

    for (member = patch->u.child; member; member = member->next) {

        if (member->kind == DB_JSON_NULL
            || (target && db_merge_find(target, known, member->key)))
        {
            continue;
        }

        change = db_merge_patch(arena, NULL, member);

        if (change == NULL
            || db_merge_add(arena, merged, &last, change, member) != DB_OK)
        {
            return DB_ERROR;
        }
    }

    return DB_OK;
}


const db_json_t *
db_merge_patch(db_arena_t *arena, const db_json_t *target,
    const db_json_t *patch)
{
    db_json_t  *merged;

    if (patch->kind != DB_JSON_OBJECT) {
        return patch;
    }

    if (target && target->kind != DB_JSON_OBJECT) {
        target = NULL;
    }

    merged = db_arena_calloc(arena, sizeof(db_json_t));
    if (merged == NULL) {
        return NULL;
    }

    merged->kind = DB_JSON_OBJECT;

    return db_merge_members(arena, target, patch, merged) == DB_OK ? merged
                                                                   : NULL;
}
