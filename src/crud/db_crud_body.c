/*
 * What a call was sent: its id, its body as a tree, its scope.
 */

#include "crud/db_crud_call.h"

#include "crud/db_member.h"
#include "scalar/db_scalar.h"
#include "store/db_document.h"


/*
 * An id of the path, for a model that declares one: its value and its JSON
 * text.  Errors are left in the check.
 */

static void
db_crud_parse_id(db_crud_call_t *call, db_check_t *check)
{
    db_buf_t   buf, *out;
    db_loc_t   path, loc;
    db_json_t  node;
    db_type_t  type;

    path = (db_loc_t) { NULL, db_string("path"), 0 };
    loc = (db_loc_t) { &path, db_string("id"), 0 };

    /* its constraints hold for stored ids: others are merely not found */

    type = (db_type_t) { .kind = call->crud->id->type.kind };
    node = (db_json_t) { .kind = DB_JSON_STRING, .u.text = call->id };

    db_buf_init(&buf, call->arena, call->id.len + 8);
    out = check->out;

    check->out = &buf;
    db_check_value(check, &type, &node, &loc);
    check->out = out;

    check->errors.failed |= buf.failed;

    call->op.id.kind = call->crud->collection.id_kind;
    call->op.id.integer = check->integer;
    call->op.id.text = check->text;

    call->given = (db_str_t) { buf.data, buf.len };
}


char *
db_crud_objectid(db_crud_call_t *call)
{
    char  *id;

    id = db_arena_alloc(call->arena, DB_OBJECTID_LENGTH + 2);
    if (id == NULL) {
        return NULL;
    }

    id[0] = '"';
    id[DB_OBJECTID_LENGTH + 1] = '"';

    call->op.id.kind = DB_VALUE_TEXT;
    call->op.id.text = (db_str_t) { id + 1, DB_OBJECTID_LENGTH };

    call->given = (db_str_t) { id, DB_OBJECTID_LENGTH + 2 };

    return id + 1;
}


/* An ObjectId of the path: DB_DECLINED when it is none. */

static int
db_crud_parse_objectid(db_crud_call_t *call)
{
    char                 *id;
    size_t                i;
    const unsigned char  *given;

    static const char  digits[256] = {
        ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4',
        ['5'] = '5', ['6'] = '6', ['7'] = '7', ['8'] = '8', ['9'] = '9',
        ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e',
        ['f'] = 'f', ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd',
        ['E'] = 'e', ['F'] = 'f'
    };

    if (call->id.len != DB_OBJECTID_LENGTH) {
        return DB_DECLINED;
    }

    id = db_crud_objectid(call);
    if (id == NULL) {
        return DB_ERROR;
    }

    given = (const unsigned char *) call->id.data;

    for (i = 0; i < DB_OBJECTID_LENGTH; i++) {
        id[i] = digits[given[i]];

        if (id[i] == '\0') {
            return DB_DECLINED;
        }
    }

    return DB_OK;
}


int
db_crud_check_id(db_crud_call_t *call, db_check_t *check)
{
    int  rc;

    if (call->crud->id == NULL) {
        rc = db_crud_parse_objectid(call);
        return rc == DB_DECLINED ? db_crud_not_found(call) : rc;
    }

    if (!db_json_is_utf8(call->id)) {
        return db_crud_not_found(call);
    }

    db_crud_parse_id(call, check);

    return DB_OK;
}


int
db_crud_read_id(db_crud_call_t *call)
{
    int         rc;
    db_check_t  check;

    db_check_init(&check, call->arena, &call->out);

    rc = db_crud_check_id(call, &check);

    if (rc == DB_OK && (check.nerrors || check.errors.failed)) {
        rc = db_crud_invalid(call, &check);
    }

    return rc;
}


/* As email.message.Message does for FastAPI. */

static int
db_crud_is_json(db_str_t type)
{
    char        name[128];
    size_t      i, len;
    db_str_t    subtype;
    const char *end;

    end = type.len ? memchr(type.data, ';', type.len) : NULL;

    if (end) {
        type.len = (size_t) (end - type.data);
    }

    type = db_str_trim(type);

    len = sizeof("application/") - 1;

    if (type.len <= len || type.len > sizeof(name)) {
        return 0;
    }

    for (i = 0; i < type.len; i++) {
        name[i] = type.data[i];

        if (name[i] >= 'A' && name[i] <= 'Z') {
            name[i] |= 0x20;
        }
    }

    if (memcmp(name, "application/", len) != 0
        || memchr(name + len, '/', type.len - len))
    {
        return 0;
    }

    subtype = (db_str_t) { name + len, type.len - len };

    return db_str_eq(subtype, db_string("json"))
           || (subtype.len >= 5
               && memcmp(subtype.data + subtype.len - 5, "+json", 5) == 0);
}


static int
db_crud_unreadable(db_crud_call_t *call)
{
    return db_crud_answer(call, 400,
        db_string("{\"detail\":\"There was an error parsing the body\"}"));
}


static int
db_crud_syntax_error(db_crud_call_t *call, const db_json_error_t *error)
{
    db_buf_t  buf;

    db_buf_init(&buf, call->arena, 256);
    db_buf_lit(&buf, "{\"detail\":[{\"type\":\"json_invalid\",\"loc\":"
               "[\"body\",");
    db_json_write_int(&buf, (int64_t) error->position);
    db_buf_lit(&buf, "],\"msg\":\"JSON decode error\",\"input\":{},\"ctx\":"
               "{\"error\":");
    db_json_write_string(&buf, (db_str_t) { error->message,
                                            strlen(error->message) });
    db_buf_lit(&buf, "}}]}");

    if (buf.failed) {
        return DB_ERROR;
    }

    return db_crud_answer(call, 422, (db_str_t) { buf.data, buf.len });
}


int
db_crud_read_body(db_crud_call_t *call, db_json_t **root)
{
    int               rc;
    db_str_t          body;
    db_json_t        *node;
    db_json_error_t   error;

    *root = NULL;
    body = call->body;

    if (body.len == 0) {
        return DB_OK;
    }

    if (db_crud_is_json(call->content_type)) {

        if (body.len >= 3 && memcmp(body.data, "\xef\xbb\xbf", 3) == 0) {
            body.data += 3;
            body.len -= 3;
        }

        rc = db_json_read(call->arena, body, root, &error);

        if (rc != DB_DECLINED) {
            return rc;
        }

        return error.fault == DB_JSON_SYNTAX
               ? db_crud_syntax_error(call, &error)
               : db_crud_unreadable(call);
    }

    /* any other type is text, which no model is made of */

    if (!db_json_is_utf8(body)) {
        return db_crud_unreadable(call);
    }

    node = db_arena_calloc(call->arena, sizeof(db_json_t));
    if (node == NULL) {
        return DB_ERROR;
    }

    node->kind = DB_JSON_STRING;
    node->u.text = body;
    *root = node;

    return DB_OK;
}


static int
db_crud_forbidden(db_crud_call_t *call)
{
    return db_crud_answer(call, 403, db_string("{\"detail\":\"Forbidden\"}"));
}


/* A value of the scope by its field: how it is stored, and compared. */

static int
db_crud_read_value(db_crud_call_t *call, const db_field_t *field,
    db_str_t text, db_condition_t *condition, db_str_t *stored)
{
    db_buf_t     out;
    db_loc_t     loc;
    db_json_t    node;
    db_check_t   check;
    db_value_t  *value;

    if (text.len == 0 || !db_json_is_utf8(text)) {
        return db_crud_forbidden(call);
    }

    value = db_arena_calloc(call->arena, sizeof(db_value_t));
    if (value == NULL) {
        return DB_ERROR;
    }

    node = (db_json_t) { .kind = DB_JSON_STRING, .u.text = text };
    loc = (db_loc_t) { NULL, field->name, 0 };

    db_buf_init(&out, call->arena, text.len + 16);
    db_check_init(&check, call->arena, &out);
    db_check_value(&check, &field->type, &node, &loc);

    if (out.failed || check.errors.failed) {
        return DB_ERROR;
    }

    if (check.nerrors) {
        return db_crud_forbidden(call);
    }

    *value = (db_value_t) { db_filter_kind(&field->type), check.integer,
                            check.real, check.text };

    if (value->kind == DB_VALUE_TIME
        && db_document_time(check.text, &value->integer) != DB_OK)
    {
        return db_crud_forbidden(call);
    }

    condition->kind = DB_CONDITION_EQ;
    condition->scalar = 1;
    condition->path = (db_path_t) { &field->name, 1 };
    condition->values = value;
    condition->nvalues = 1;

    *stored = (db_str_t) { out.data, out.len };

    return DB_OK;
}


int
db_crud_read_scope(db_crud_call_t *call)
{
    int               rc;
    unsigned          i;
    db_str_t         *stored;
    db_condition_t   *conditions;
    const db_crud_t  *crud;

    crud = call->crud;

    stored = db_arena_calloc(call->arena, crud->nscope * sizeof(db_str_t));
    conditions = db_arena_calloc(call->arena,
                                 crud->nscope * sizeof(db_condition_t));

    if (stored == NULL || conditions == NULL) {
        return DB_ERROR;
    }

    for (i = 0; i < crud->nscope; i++) {
        rc = db_crud_read_value(call, crud->scope[i], call->scope[i],
                                &conditions[i], &stored[i]);
        if (rc != DB_OK) {
            return rc;
        }

        conditions[i].next = call->op.conditions;
        call->op.conditions = &conditions[i];
    }

    call->scoped = stored;

    return DB_OK;
}
