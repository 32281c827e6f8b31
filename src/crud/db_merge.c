/*
 * JSON Merge Patch, RFC 7396, on trees.  For any thread.
 */

#include "crud/db_crud_call.h"

#include <stdlib.h>


/* Members of an object that are looked up one by one, not by a table. */
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


int
db_members_init(db_members_t *members, db_arena_t *arena,
    const db_json_t *object)
{
    size_t             n;
    const db_json_t   *member, **table;

    *members = (db_members_t) { object, NULL };

    if (object == NULL || object->count <= DB_MERGE_FEW) {
        return DB_OK;
    }

    table = db_arena_alloc(arena, object->count * sizeof(db_json_t *));
    if (table == NULL) {
        return DB_ERROR;
    }

    n = 0;

    for (member = object->u.child; member; member = member->next) {
        table[n++] = member;
    }

    qsort(table, n, sizeof(db_json_t *), db_merge_order);

    members->sorted = table;

    return DB_OK;
}


const db_json_t *
db_members_find(const db_members_t *members, db_str_t key)
{
    const db_json_t  *member, **found;

    if (members->sorted) {
        found = bsearch(&key, members->sorted, members->object->count,
                        sizeof(db_json_t *), db_merge_search);

        return found ? *found : NULL;
    }

    for (member = members->object ? members->object->u.child : NULL; member;
         member = member->next)
    {
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
    db_json_t        *last;
    db_members_t      changes, known;
    const db_json_t  *member, *change;

    last = NULL;

    if (db_members_init(&changes, arena, target ? patch : NULL) != DB_OK
        || db_members_init(&known, arena, target) != DB_OK)
    {
        return DB_ERROR;
    }

    for (member = target ? target->u.child : NULL; member;
         member = member->next)
    {
        change = db_members_find(&changes, member->key);

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
            || db_members_find(&known, member->key))
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
