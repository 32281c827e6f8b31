/*
 * What a resource is asked for, and the life of a call.
 *
 * A call and all that it reads and writes live in one arena, freed with it.
 */

#include "crud/db_crud_call.h"


/* A body of a few hundred bytes, its tree and its document. */
#define DB_CRUD_ARENA  6144


const db_collection_t *
db_crud_collection(const db_crud_t *crud)
{
    return &crud->collection;
}


db_str_t
db_crud_name(const db_crud_t *crud)
{
    return crud->name;
}


db_str_t
db_crud_prefix(const db_crud_t *crud)
{
    return crud->prefix;
}


db_str_t
db_crud_store(const db_crud_t *crud)
{
    return crud->store;
}


unsigned
db_crud_operations(const db_crud_t *crud)
{
    return crud->operations;
}


unsigned
db_crud_timeout(const db_crud_t *crud)
{
    return crud->timeout;
}


unsigned
db_crud_hybrid(const db_crud_t *crud)
{
    return crud->hybrid;
}


const db_str_t *
db_crud_variables(const db_crud_t *crud, unsigned *n)
{
    *n = crud->nscope;

    return crud->variables;
}


unsigned
db_crud_route(const db_crud_t *crud, db_str_t method, db_str_t rest,
    db_crud_operation_t *operation, db_str_t *id, db_str_t *allow)
{
    int     item;
    size_t  i;

    static const struct {
        db_str_t             method;
        db_crud_operation_t  list;
        db_crud_operation_t  item;
    } methods[] = {
        { { "GET", 3 }, DB_CRUD_LIST, DB_CRUD_GET },
        { { "HEAD", 4 }, DB_CRUD_LIST, DB_CRUD_GET },
        { { "POST", 4 }, DB_CRUD_CREATE, DB_CRUD_OPERATIONS },
        { { "PUT", 3 }, DB_CRUD_OPERATIONS, DB_CRUD_UPDATE },
        { { "PATCH", 5 }, DB_CRUD_OPERATIONS, DB_CRUD_PATCH },
        { { "DELETE", 6 }, DB_CRUD_OPERATIONS, DB_CRUD_DELETE },
    };

    *id = db_null_string;

    item = (rest.len != 0);

    if (item) {
        if (rest.len == 1 || rest.data[0] != '/'
            || memchr(rest.data + 1, '/', rest.len - 1))
        {
            return 404;
        }

        *id = (db_str_t) { rest.data + 1, rest.len - 1 };
    }

    *allow = item ? crud->allow_item : crud->allow_list;

    if (allow->len == 0) {
        return 404;
    }

    for (i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (db_str_eq(methods[i].method, method)) {
            *operation = item ? methods[i].item : methods[i].list;

            if (*operation != DB_CRUD_OPERATIONS
                && (crud->operations & 1U << *operation))
            {
                return 200;
            }
        }
    }

    return 405;
}


db_crud_call_t *
db_crud_call_create(const db_crud_t *crud, db_crud_operation_t operation)
{
    db_arena_t      *arena;
    db_crud_call_t  *call;

    arena = db_arena_create(DB_CRUD_ARENA);
    if (arena == NULL) {
        return NULL;
    }

    call = db_crud_call_init(arena, crud, operation);
    if (call == NULL) {
        db_arena_destroy(arena);
    }

    return call;
}


db_crud_call_t *
db_crud_call_init(db_arena_t *arena, const db_crud_t *crud,
    db_crud_operation_t operation)
{
    db_crud_call_t  *call;

    static const db_store_kind_t  kinds[DB_CRUD_OPERATIONS] = {
        DB_STORE_LIST, DB_STORE_GET, DB_STORE_INSERT, DB_STORE_REPLACE,
        DB_STORE_MODIFY, DB_STORE_REMOVE
    };

    call = db_arena_calloc(arena, sizeof(db_crud_call_t));
    if (call == NULL) {
        return NULL;
    }

    call->crud = crud;
    call->operation = operation;
    call->arena = arena;
    call->op.kind = kinds[operation];
    call->op.collection = &crud->collection;
    call->op.out = &call->out;

    db_buf_init(&call->out, arena, 0);

    return call;
}


db_arena_t *
db_crud_call_end(db_crud_call_t *call)
{
    db_arena_t  *arena;

    db_regex_destroy_all(call->patterns);

    arena = call->arena;
    db_arena_reset(arena);

    return arena;
}


void
db_crud_call_destroy(db_crud_call_t *call)
{
    db_regex_destroy_all(call->patterns);
    db_arena_destroy(call->arena);
}


int
db_crud_begin(db_crud_call_t *call)
{
    int  rc;

    static int  (*const begin[DB_CRUD_OPERATIONS])(db_crud_call_t *call) = {
        db_crud_begin_list, db_crud_begin_get, db_crud_begin_create,
        db_crud_begin_update, db_crud_begin_update, db_crud_begin_delete
    };

    if (call->crud->nscope) {
        rc = db_crud_read_scope(call);
        if (rc != DB_OK) {
            return rc;
        }
    }

    return call->documents ? db_crud_begin_validated(call)
                           : begin[call->operation](call);
}
