/*
 * The operations that write.  What must keep something of the document that
 * is there is validated by db_crud_modify(), on a thread of the store, which
 * then owns the call; all else before the store is asked.
 */

#include "crud/db_crud_call.h"

#include "crud/db_check.h"
#include "store/db_document.h"


static const db_json_t *
db_crud_stored(const db_json_t *current, db_str_t name)
{
    const db_json_t  *member;

    for (member = current ? current->u.child : NULL; member;
         member = member->next)
    {
        if (db_str_eq(member->key, name)) {
            break;
        }
    }

    return member;
}


static int
db_crud_given_stored(db_crud_call_t *call, db_given_t *given,
    db_given_kind_t kind, const db_json_t *stored)
{
    db_buf_t  buf;

    db_buf_init(&buf, call->arena, 64);
    db_document_write(&buf, stored);

    given->kind = kind;
    given->text = (db_str_t) { buf.data, buf.len };

    return buf.failed ? DB_ERROR : DB_OK;
}


/* The text of now, which all stamps of a document have in common. */

static int
db_crud_now(db_crud_call_t *call, db_str_t *text)
{
    db_buf_t       buf;
    db_check_t     check;
    db_datetime_t  now;

    db_buf_init(&buf, call->arena, DB_DATETIME_SIZE + 2);
    db_check_init(&check, call->arena, &buf);

    db_datetime_now(DB_NOW_AWARE, &now);
    db_check_write_datetime(&check, &now);

    *text = (db_str_t) { buf.data, buf.len };

    return buf.failed ? DB_ERROR : DB_OK;
}


/*
 * What is not taken from the client: "current" is the document that is there,
 * or NULL.  With a patch, what it does not touch and is never answered is
 * given as well, since an error repeats the document that it is about.
 */

static int
db_crud_given_field(db_crud_call_t *call, const db_field_t *field,
    const db_json_t *current, const db_json_t *patch, db_str_t now,
    db_given_t *given)
{
    const db_json_t  *stored;

    stored = db_crud_stored(current, field->name);

    if (field->stamp == DB_STAMP_UPDATED
        || (field->stamp == DB_STAMP_CREATED && stored == NULL))
    {
        *given = (db_given_t) { DB_GIVEN_TEXT, now };
        return DB_OK;
    }

    if (field->stamp == DB_STAMP_CREATED) {
        return db_crud_given_stored(call, given, DB_GIVEN_TEXT, stored);
    }

    if (field->read_only) {
        given->kind = DB_GIVEN_DEFAULT;

        return stored ? db_crud_given_stored(call, given, DB_GIVEN_TEXT,
                                             stored)
                      : DB_OK;
    }

    if (stored && field->immutable) {
        return db_crud_given_stored(call, given, DB_GIVEN_FROZEN, stored);
    }

    if (stored && field->write_only && patch
        && db_crud_sent(patch, field) == NULL)
    {
        return db_crud_given_stored(call, given, DB_GIVEN_TEXT, stored);
    }

    return DB_OK;
}


static int
db_crud_given(db_crud_call_t *call, const db_json_t *current,
    const db_json_t *patch, db_given_t **given)
{
    db_str_t            now;
    unsigned            i;
    const db_crud_t    *crud;
    const db_model_t   *model;

    crud = call->crud;
    model = crud->model;
    *given = NULL;

    if (!crud->guarded) {
        return DB_OK;
    }

    *given = db_arena_calloc(call->arena, model->nfields * sizeof(db_given_t));
    if (*given == NULL || db_crud_now(call, &now) != DB_OK) {
        return DB_ERROR;
    }

    for (i = 0; i < model->nfields; i++) {
        if (db_crud_given_field(call, &model->fields[i], current, patch, now,
                                &(*given)[i])
            != DB_OK)
        {
            return DB_ERROR;
        }
    }

    for (i = 0; i < crud->nscope; i++) {
        (*given)[crud->scope[i] - model->fields] =
            (db_given_t) { DB_GIVEN_TEXT, call->scoped[i] };
    }

    return DB_OK;
}


/* Validates a document into call->out.  DB_DONE: answered. */

static int
db_crud_validate(db_crud_call_t *call, db_check_t *check,
    const db_json_t *node, const db_given_t *given)
{
    db_loc_t  loc;

    loc = (db_loc_t) { NULL, db_string("body"), 0 };

    /* one that was refused has an error already */

    check->creates = call->op.upsert && check->nerrors == 0;

    if (node) {
        db_check_document(check, call->crud, node, &loc, call->given, given,
                          &call->op.id);

    } else {
        db_check_error(check, "missing", &loc, db_string("Field required"),
                       NULL, db_null_string);
    }

    if (check->errors.failed || call->out.failed) {
        return DB_ERROR;
    }

    if (check->nerrors) {
        return db_crud_invalid(call, check);
    }

    call->op.document = (db_str_t) { call->out.data, call->out.len };

    return DB_OK;
}


/* What of a document is answered. */

static int
db_crud_shown(db_crud_call_t *call, db_str_t document, db_buf_t *out)
{
    db_json_t        *root;
    db_json_error_t   error;

    if (call->crud->nvisible == 0) {
        db_buf_str(out, document);
        return DB_OK;
    }

    if (db_json_read(call->arena, document, &root, &error) != DB_OK) {
        return DB_ERROR;
    }

    db_document_project(out, root, call->crud->visible, call->crud->nvisible);

    return DB_OK;
}


static int
db_crud_answer_document(db_crud_call_t *call, unsigned status)
{
    db_buf_t  out;

    if (call->crud->nvisible == 0) {
        return db_crud_answer(call, status, call->op.document);
    }

    db_buf_init(&out, call->arena, call->op.document.len);

    if (db_crud_shown(call, call->op.document, &out) != DB_OK || out.failed) {
        return DB_ERROR;
    }

    return db_crud_answer(call, status, (db_str_t) { out.data, out.len });
}


static int
db_crud_begin_many(db_crud_call_t *call, db_check_t *check,
    const db_json_t *list, const db_given_t *given)
{
    size_t             end;
    db_loc_t           body, loc;
    unsigned           i;
    const db_json_t   *node;
    db_store_item_t   *items;

    body = (db_loc_t) { NULL, db_string("body"), 0 };
    loc = (db_loc_t) { &body, db_null_string, 0 };

    call->many = 1;

    if (list->count > DB_CRUD_MAX_ITEMS) {
        db_check_size_failed(check, "List", 0, DB_CRUD_MAX_ITEMS, list->count,
                             list, &body);
        return check->errors.failed ? DB_ERROR : db_crud_invalid(call, check);
    }

    items = db_arena_calloc(call->arena,
                            (list->count + 1) * sizeof(db_store_item_t));
    if (items == NULL) {
        return DB_ERROR;
    }

    /* the text moves while it grows: lengths first */

    for (node = list->u.child; node; node = node->next) {
        end = call->out.len;

        db_check_document(check, call->crud, node, &loc, db_null_string,
                          given, &items[loc.index].id);

        items[loc.index++].document.len = call->out.len - end;
    }

    if (check->errors.failed || call->out.failed) {
        return DB_ERROR;
    }

    if (check->nerrors) {
        return db_crud_invalid(call, check);
    }

    if (list->count == 0) {
        return db_crud_answer(call, 201, db_string("[]"));
    }

    for (i = 0, end = 0; i < list->count; i++) {
        items[i].document.data = call->out.data + end;
        end += items[i].document.len;
    }

    call->op.items = items;
    call->op.nitems = list->count;

    return DB_OK;
}


int
db_crud_begin_create(db_crud_call_t *call)
{
    int          rc;
    db_json_t   *root;
    db_check_t   check;
    db_given_t  *given;

    rc = db_crud_read_body(call, &root);

    if (rc == DB_OK) {
        rc = db_crud_given(call, NULL, NULL, &given);
    }

    if (rc != DB_OK) {
        return rc;
    }

    db_check_init(&check, call->arena, &call->out);
    db_buf_reserve(&call->out, call->body.len + 256);

    if (root && root->kind == DB_JSON_ARRAY) {
        return db_crud_begin_many(call, &check, root, given);
    }

    rc = db_crud_validate(call, &check, root, given);
    if (rc != DB_OK) {
        return rc;
    }

    call->item = (db_store_item_t) { call->op.id, call->op.document };
    call->op.items = &call->item;
    call->op.nitems = 1;

    return DB_OK;
}


static int
db_crud_tags_failed(db_crud_call_t *call, int rc, db_str_t text)
{
    return rc == DB_DECLINED ? db_crud_detail(call, 400, text) : rc;
}


/* DB_DONE: answered. */

int
db_crud_match(db_crud_call_t *call)
{
    int  rc;

    if (!call->crud->collection.versioned) {
        return DB_OK;
    }

    if (call->if_none_match.data) {
        rc = db_etag_versions(call->arena, call->if_none_match, 0,
                              &call->op.others, &call->op.nothers);

        if (rc != DB_OK && rc != DB_DONE) {
            return db_crud_tags_failed(call, rc,
                                       db_string("If-None-Match names too "
                                                 "many versions"));
        }

        call->op.absent = (rc == DB_DONE);
    }

    if (call->if_match.data == NULL) {
        return call->crud->require_match
               ? db_crud_detail(call, 428, db_string("Precondition Required"))
               : DB_OK;
    }

    call->op.upsert = 0;

    rc = db_etag_versions(call->arena, call->if_match, 1, &call->op.versions,
                          &call->op.nversions);

    return rc == DB_DONE ? DB_OK
           : db_crud_tags_failed(call, rc, db_string("If-Match names too many "
                                                     "versions"));
}


/*
 * Whether a patch is merged into something that is never answered, which no
 * error may repeat then.
 */

static int
db_crud_is_secret(const db_model_t *model, const db_json_t *patch)
{
    unsigned          i;
    const db_json_t  *change;

    for (i = 0; i < model->nfields; i++) {

        if (model->fields[i].write_only) {
            change = db_crud_sent(patch, &model->fields[i]);

            if (change && change->kind == DB_JSON_OBJECT) {
                return 1;
            }
        }
    }

    return 0;
}


/* On a thread of the store's. */

static int
db_crud_modify(db_store_op_t *op, db_str_t text)
{
    int               rc;
    db_json_t        *current;
    db_check_t        check;
    db_given_t       *given;
    db_crud_call_t   *call;
    db_json_error_t   error;
    const db_json_t  *node, *patch;

    call = (db_crud_call_t *) ((char *) op - offsetof(db_crud_call_t, op));

    current = NULL;
    node = call->root;
    patch = NULL;

    db_check_init(&check, call->arena, &call->out);

    if (text.data) {
        rc = db_json_read(call->arena, text, &current, &error);

        if (rc == DB_DECLINED
            || (rc == DB_OK && current->kind != DB_JSON_OBJECT))
        {
            (void) db_crud_detail(call, 500,
                                  db_string("Internal Server Error"));
            return DB_DECLINED;
        }

        if (rc != DB_OK) {
            return DB_ERROR;
        }
    }

    if (call->operation == DB_CRUD_PATCH) {
        patch = node;
        check.secret = db_crud_is_secret(call->crud->model, patch);
        node = db_crud_rename(call->arena, call->crud, current, patch, 1);
        node = node ? db_merge_patch(call->arena, node, patch) : NULL;

        if (node == NULL) {
            return DB_ERROR;
        }
    }

    if (db_crud_given(call, current, patch, &given) != DB_OK) {
        return DB_ERROR;
    }

    db_buf_init(&call->out, call->arena, text.len + 256);

    rc = db_crud_validate(call, &check, node, given);

    return rc == DB_DONE ? DB_DECLINED : rc;
}


/* PUT and PATCH. */

int
db_crud_begin_update(db_crud_call_t *call)
{
    int          rc;
    db_json_t   *root;
    db_check_t   check;
    db_given_t  *given;

    call->op.upsert = call->crud->upsert && call->operation == DB_CRUD_UPDATE;

    rc = db_crud_match(call);
    if (rc != DB_OK) {
        return rc;
    }

    db_check_init(&check, call->arena, &call->out);

    rc = db_crud_check_id(call, &check);

    if (rc == DB_OK) {
        rc = db_crud_read_body(call, &root);
    }

    if (rc != DB_OK) {
        return rc;
    }

    if (check.nerrors) {

        /* an id that was refused must not let the document's be looked at */

        call->given = db_string("null");

        if (call->operation == DB_CRUD_PATCH) {
            return check.errors.failed ? DB_ERROR
                                       : db_crud_invalid(call, &check);
        }

    } else if (root && root->kind == DB_JSON_OBJECT
               && (call->operation == DB_CRUD_PATCH || call->crud->keeps))
    {
        call->root = root;
        call->op.kind = DB_STORE_MODIFY;
        call->op.modify = db_crud_modify;

        return check.errors.failed ? DB_ERROR : DB_OK;
    }

    db_buf_reserve(&call->out, call->body.len + 256);

    rc = db_crud_given(call, NULL, NULL, &given);

    return rc == DB_OK ? db_crud_validate(call, &check, root, given) : rc;
}


int
db_crud_begin_delete(db_crud_call_t *call)
{
    int  rc;

    rc = db_crud_match(call);

    return rc == DB_OK ? db_crud_read_id(call) : rc;
}


/* The path of what was created. */

static int
db_crud_locate(db_crud_call_t *call)
{
    size_t             i;
    db_buf_t           buf;
    db_str_t           id;
    unsigned char      c;

    static const char  hex[] = "0123456789ABCDEF";

    db_buf_init(&buf, call->arena, 128);
    db_buf_str(&buf, call->prefix);
    db_buf_putc(&buf, '/');

    id = call->op.id.text;

    if (call->op.id.kind == DB_VALUE_INT) {
        db_json_write_int(&buf, call->op.id.integer);
        id = db_null_string;
    }

    for (i = 0; i < id.len; i++) {
        c = (unsigned char) id.data[i];

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
            || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'
            || c == '~')
        {
            db_buf_putc(&buf, (char) c);
            continue;
        }

        db_buf_putc(&buf, '%');
        db_buf_putc(&buf, hex[c >> 4]);
        db_buf_putc(&buf, hex[c & 0xf]);
    }

    if (buf.failed) {
        return DB_ERROR;
    }

    call->location = (db_str_t) { buf.data, buf.len };

    return DB_OK;
}


static int
db_crud_finish_many(db_crud_call_t *call)
{
    unsigned  i;
    db_buf_t  out;

    db_buf_init(&out, call->arena, call->out.len + call->op.nitems + 2);
    db_buf_putc(&out, '[');

    for (i = 0; i < call->op.nitems; i++) {

        if (i) {
            db_buf_putc(&out, ',');
        }

        if (db_crud_shown(call, call->op.items[i].document, &out) != DB_OK) {
            return DB_ERROR;
        }
    }

    db_buf_putc(&out, ']');

    if (out.failed) {
        return DB_ERROR;
    }

    return db_crud_answer(call, 201, (db_str_t) { out.data, out.len });
}


int
db_crud_finish_create(db_crud_call_t *call)
{
    if (call->many) {
        return db_crud_finish_many(call);
    }

    /* as the store holds it */

    call->op.document = call->op.items[0].document;

    if (db_crud_locate(call) != DB_OK
        || (call->crud->collection.versioned && db_crud_tag(call, 1) != DB_OK))
    {
        return DB_ERROR;
    }

    return db_crud_answer_document(call, 201);
}


int
db_crud_finish_update(db_crud_call_t *call)
{
    if (call->crud->collection.versioned
        && db_crud_tag(call, call->op.version) != DB_OK)
    {
        return DB_ERROR;
    }

    if (!call->op.created) {
        return db_crud_answer_document(call, 200);
    }

    return db_crud_locate(call) == DB_OK ? db_crud_answer_document(call, 201)
                                         : DB_ERROR;
}
