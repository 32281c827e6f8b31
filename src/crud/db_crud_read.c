/*
 * The operations that read: list and get.
 */

#include "crud/db_crud_call.h"

#include "crud/db_filter.h"


/* What is never answered is left out by the store. */

static void
db_crud_show(db_crud_call_t *call)
{
    if (call->op.nfields == 0) {
        call->op.fields = call->crud->visible;
        call->op.nfields = call->crud->nvisible;
    }
}


int
db_crud_begin_list(db_crud_call_t *call)
{
    int        rc;
    db_str_t   message;

    rc = db_filter_parse(call->crud, call->arena, call->query, &call->op,
                         &call->patterns, &message);

    if (rc == DB_DECLINED) {
        return db_crud_detail(call, 400, message);
    }

    if (rc != DB_OK) {
        return rc;
    }

    db_crud_show(call);

    /* the store goes on from here */

    db_buf_lit(&call->out, "{\"items\":[");

    return call->out.failed ? DB_ERROR : DB_OK;
}


int
db_crud_begin_get(db_crud_call_t *call)
{
    int  rc;

    rc = db_crud_read_id(call);
    if (rc != DB_OK) {
        return rc;
    }

    if (!call->validated) {
        db_crud_show(call);
    }

    return DB_OK;
}


int
db_crud_finish_list(db_crud_call_t *call)
{
    db_buf_t  *out;

    out = &call->out;

    db_buf_lit(out, "],\"limit\":");
    db_json_write_int(out, (int64_t) call->op.limit);
    db_buf_lit(out, ",\"skip\":");
    db_json_write_int(out, (int64_t) call->op.skip);

    if (call->op.count) {
        db_buf_lit(out, ",\"total\":");
        db_json_write_int(out, (int64_t) call->op.total);
    }

    if (call->op.last) {
        db_buf_lit(out, ",\"next\":\"");
        db_filter_next(out, call->arena, &call->op);
        db_buf_putc(out, '"');
    }

    db_buf_putc(out, '}');

    if (out->failed) {
        return DB_ERROR;
    }

    return db_crud_answer(call, 200, (db_str_t) { out->data, out->len });
}


int
db_crud_finish_get(db_crud_call_t *call)
{
    if (call->crud->collection.versioned) {

        if (db_crud_tag(call, call->op.version) != DB_OK) {
            return DB_ERROR;
        }

        if (call->if_none_match.len
            && db_etag_none_match(call->if_none_match, call->op.version))
        {
            return db_crud_answer(call, 304, db_null_string);
        }
    }

    return db_crud_answer(call, 200, (db_str_t) { call->out.data,
                                                  call->out.len });
}
