/*
 * What is said of a call: its answers, and what each status of a store means.
 */

#include "crud/db_crud_call.h"

#include <stdio.h>


int
db_crud_answer(db_crud_call_t *call, unsigned status, db_str_t answer)
{
    call->status = status;
    call->answer = answer;

    return DB_DONE;
}


int
db_crud_not_found(db_crud_call_t *call)
{
    return db_crud_answer(call, 404, db_string("{\"detail\":\"Not Found\"}"));
}


/* {"detail":"..."} */

int
db_crud_detail(db_crud_call_t *call, unsigned status, db_str_t text)
{
    db_buf_t  buf;

    db_buf_init(&buf, call->arena, text.len + 32);
    db_buf_lit(&buf, "{\"detail\":");
    db_json_write_string(&buf, text);
    db_buf_putc(&buf, '}');

    if (buf.failed) {
        return DB_ERROR;
    }

    return db_crud_answer(call, status, (db_str_t) { buf.data, buf.len });
}


/* The errors of a check as FastAPI answers them. */

int
db_crud_invalid(db_crud_call_t *call, const db_check_t *check)
{
    db_buf_t  buf;

    db_buf_init(&buf, call->arena, check->errors.len + 16);
    db_buf_lit(&buf, "{\"detail\":[");
    db_buf_append(&buf, check->errors.data, check->errors.len);
    db_buf_lit(&buf, "]}");

    if (buf.failed || check->errors.failed) {
        return DB_ERROR;
    }

    return db_crud_answer(call, 422, (db_str_t) { buf.data, buf.len });
}


int
db_crud_tag(db_crud_call_t *call, uint64_t version)
{
    db_buf_t  buf;

    db_buf_init(&buf, call->arena, 24);
    db_buf_putc(&buf, '"');
    db_json_write_int(&buf, (int64_t) version);
    db_buf_putc(&buf, '"');

    call->etag = (db_str_t) { buf.data, buf.len };

    return buf.failed ? DB_ERROR : DB_OK;
}


/* email; tenant and slug; a, b and c */

static void
db_crud_write_keys(db_buf_t *buf, const db_index_t *index)
{
    unsigned          i, j;
    const db_path_t  *path;

    for (i = 0; i < index->nkeys; i++) {
        path = &index->keys[i].path;

        if (i) {
            db_buf_str(buf, i + 1 == index->nkeys ? db_string(" and ")
                                                  : db_string(", "));
        }

        for (j = 0; j < path->nsteps; j++) {
            db_buf_append(buf, ".", j != 0);
            db_buf_str(buf, path->steps[j]);
        }
    }
}


int
db_crud_conflict(db_crud_call_t *call)
{
    db_buf_t           buf;
    const db_value_t  *id;

    db_buf_init(&buf, call->arena, 128);
    db_buf_str(&buf, call->crud->name);

    if (call->op.conflict) {
        db_buf_lit(&buf, " with this ");
        db_crud_write_keys(&buf, call->op.conflict);

    } else {
        db_buf_lit(&buf, " with id ");

        id = call->many ? &call->op.items[call->op.item].id : &call->op.id;

        if (id->kind == DB_VALUE_INT) {
            db_json_write_int(&buf, id->integer);

        } else {
            db_buf_str(&buf, id->text);
        }
    }

    db_buf_lit(&buf, " already exists");

    if (buf.failed) {
        return DB_ERROR;
    }

    return db_crud_detail(call, 409, (db_str_t) { buf.data, buf.len });
}


static int
db_crud_finish_ok(db_crud_call_t *call)
{
    switch (call->operation) {

    case DB_CRUD_LIST:
        return db_crud_finish_list(call);

    case DB_CRUD_GET:
        return db_crud_finish_get(call);

    case DB_CRUD_CREATE:
        return db_crud_finish_create(call);

    case DB_CRUD_UPDATE:
    case DB_CRUD_PATCH:
        return db_crud_finish_update(call);

    default:
        return db_crud_answer(call, 204, db_null_string);
    }
}


static int
db_crud_precondition_failed(db_crud_call_t *call)
{
    return db_crud_answer(call, 412,
                          db_string("{\"detail\":\"Precondition Failed\"}"));
}


static int
db_crud_finish_status(db_crud_call_t *call)
{
    switch (call->op.status) {

    case DB_STORE_OK:
        return db_crud_finish_ok(call);

    case DB_STORE_NOT_FOUND:

        /* what could be created was asked to be there */

        return call->operation == DB_CRUD_UPDATE && call->crud->upsert
               && call->if_match.data ? db_crud_precondition_failed(call)
                                      : db_crud_not_found(call);

    case DB_STORE_CONFLICT:
        return db_crud_conflict(call);

    case DB_STORE_MISMATCH:
        return db_crud_precondition_failed(call);

    case DB_STORE_REFUSED:
        return db_crud_answer(call, 422,
                   db_string("{\"detail\":\"The store cannot hold this "
                             "document\"}"));

    case DB_STORE_BUSY:
    case DB_STORE_AWAY:
        return db_crud_answer(call, 503,
                     db_string("{\"detail\":\"Service Unavailable\"}"));

    case DB_STORE_TIMEOUT:
        return db_crud_answer(call, 504,
                     db_string("{\"detail\":\"Gateway Timeout\"}"));

    case DB_STORE_FULL:
        return db_crud_answer(call, 507,
                     db_string("{\"detail\":\"Insufficient Storage\"}"));

    default:
        return db_crud_answer(call, 500,
                     db_string("{\"detail\":\"Internal Server Error\"}"));
    }
}


int
db_crud_finish(db_crud_call_t *call)
{
    int  rc;

    /* what declined to write has said why */

    if (call->op.status == DB_STORE_DECLINED && call->status) {
        return DB_OK;
    }

    rc = db_crud_finish_status(call);

    return rc == DB_DONE ? DB_OK : rc;
}
