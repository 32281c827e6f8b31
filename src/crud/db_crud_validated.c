/*
 * What another validator has validated: it is written as it is.
 */

#include "crud/db_crud_call.h"

#include "scalar/db_scalar.h"


/* On a thread of the store, which owns the call. */

static int
db_crud_modify_current(db_store_op_t *op, db_str_t current)
{
    db_crud_call_t  *call;

    call = (db_crud_call_t *) ((char *) op - offsetof(db_crud_call_t, op));

    if (db_str_eq(current, call->current)) {
        return DB_OK;
    }

    call->raced = 1;

    return db_crud_detail(call, 409, db_string("Changed by somebody else"))
           == DB_DONE ? DB_DECLINED : DB_ERROR;
}


/* The text with call->given in front, unless the model has an id. */

static int
db_crud_identify(db_crud_call_t *call, db_str_t text, db_str_t *document)
{
    db_buf_t  out;

    if (call->crud->id) {
        *document = text;
        return DB_OK;
    }

    db_buf_init(&out, call->arena, text.len + call->given.len + 8);
    db_buf_lit(&out, "{\"id\":");
    db_buf_str(&out, call->given);

    if (text.len > 2) {
        db_buf_putc(&out, ',');
    }

    db_buf_append(&out, text.data + 1, text.len - 1);

    *document = (db_str_t) { out.data, out.len };

    return out.failed ? DB_ERROR : DB_OK;
}


static int
db_crud_begin_item(db_crud_call_t *call, const db_crud_document_t *document,
    db_store_item_t *item)
{
    int    rc;
    char  *id;

    if (call->crud->id) {
        call->id = document->id;
        rc = db_crud_read_id(call);

    } else {
        id = db_crud_objectid(call);
        rc = id ? db_objectid_create(id) : DB_ERROR;
    }

    if (rc != DB_OK) {
        return rc;
    }

    item->id = call->op.id;

    return db_crud_identify(call, document->text, &item->document);
}


static int
db_crud_begin_items(db_crud_call_t *call)
{
    int               rc;
    unsigned          i;
    db_store_item_t  *items;

    if (call->ndocuments == 0) {
        return db_crud_answer(call, 201, db_string("[]"));
    }

    items = db_arena_calloc(call->arena,
                            call->ndocuments * sizeof(db_store_item_t));
    if (items == NULL) {
        return DB_ERROR;
    }

    for (i = 0; i < call->ndocuments; i++) {
        rc = db_crud_begin_item(call, &call->documents[i], &items[i]);
        if (rc != DB_OK) {
            return rc;
        }
    }

    call->op.items = items;
    call->op.nitems = call->ndocuments;
    call->op.document = items[0].document;

    return DB_OK;
}


int
db_crud_begin_validated(db_crud_call_t *call)
{
    int  rc;

    if (call->operation == DB_CRUD_CREATE) {
        return db_crud_begin_items(call);
    }

    call->op.upsert = call->crud->upsert && call->operation == DB_CRUD_UPDATE;

    rc = db_crud_match(call);

    if (rc == DB_OK) {
        rc = db_crud_read_id(call);
    }

    if (rc != DB_OK) {
        return rc;
    }

    call->op.kind = DB_STORE_REPLACE;

    if (call->current.data) {
        call->op.kind = DB_STORE_MODIFY;
        call->op.modify = db_crud_modify_current;
    }

    return db_crud_identify(call, call->documents->text, &call->op.document);
}
