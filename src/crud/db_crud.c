/*
 * One call of a resource, in two steps around the store, and its answers.
 *
 * A call and all that it reads and writes live in one arena, freed with it.
 */

#include "crud/db_crud.h"

#include "crud/db_filter.h"
#include "crud/db_scalar.h"
#include "crud/db_schema.h"
#include "crud/db_validate.h"

#include <stdio.h>


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

    static const db_store_kind_t  kinds[DB_CRUD_OPERATIONS] = {
        DB_STORE_LIST, DB_STORE_GET, DB_STORE_INSERT, DB_STORE_REPLACE,
        DB_STORE_REMOVE
    };

    arena = db_arena_create(DB_CRUD_ARENA);
    if (arena == NULL) {
        return NULL;
    }

    call = db_arena_calloc(arena, sizeof(db_crud_call_t));
    if (call == NULL) {
        db_arena_destroy(arena);
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


void
db_crud_call_destroy(db_crud_call_t *call)
{
    db_regex_destroy_all(call->patterns);
    db_arena_destroy(call->arena);
}


static int
db_crud_answer(db_crud_call_t *call, unsigned status, db_str_t answer)
{
    call->status = status;
    call->answer = answer;

    return DB_DONE;
}


static int
db_crud_not_found(db_crud_call_t *call)
{
    return db_crud_answer(call, 404, db_string("{\"detail\":\"Not Found\"}"));
}


/* {"detail":"..."} */

static int
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

static int
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


/*
 * An id of the path, for a model that declares one: its value and its JSON
 * text.  Errors are left in the check.
 */

static void
db_crud_parse_id(db_crud_call_t *call, db_check_t *check, db_str_t *text)
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

    *text = (db_str_t) { buf.data, buf.len };
}


/* An ObjectId of the path: DB_DECLINED when it is none. */

static int
db_crud_parse_objectid(db_crud_call_t *call, db_str_t *text)
{
    char    *copy, c;
    size_t   i;

    if (call->id.len != DB_OBJECTID_LENGTH) {
        return DB_DECLINED;
    }

    copy = db_arena_alloc(call->arena, DB_OBJECTID_LENGTH + 2);
    if (copy == NULL) {
        return DB_ERROR;
    }

    for (i = 0; i < DB_OBJECTID_LENGTH; i++) {
        c = call->id.data[i];

        if (c >= 'A' && c <= 'F') {
            c |= 0x20;
        }

        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f')) {
            return DB_DECLINED;
        }

        copy[i + 1] = c;
    }

    copy[0] = '"';
    copy[DB_OBJECTID_LENGTH + 1] = '"';

    call->op.id.kind = DB_VALUE_TEXT;
    call->op.id.text = (db_str_t) { copy + 1, DB_OBJECTID_LENGTH };

    *text = (db_str_t) { copy, DB_OBJECTID_LENGTH + 2 };

    return DB_OK;
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


/*
 * The body as a tree.  DB_DONE: answered.  DB_OK with *root NULL: there is
 * none.
 */

static int
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

    /* the store goes on from here */

    db_buf_lit(&call->out, "{\"items\":[");

    return call->out.failed ? DB_ERROR : DB_OK;
}


int
db_crud_begin(db_crud_call_t *call)
{
    int          rc;
    db_loc_t     loc;
    db_str_t     given;
    db_json_t   *root;
    db_check_t   check;

    if (call->operation == DB_CRUD_LIST) {
        return db_crud_begin_list(call);
    }

    db_check_init(&check, call->arena, &call->out);

    given = db_null_string;

    if (call->operation == DB_CRUD_CREATE) {
        /* the document has its id */

    } else if (!db_json_is_utf8(call->id)) {
        return db_crud_not_found(call);

    } else if (call->crud->id) {
        db_crud_parse_id(call, &check, &given);

    } else {
        rc = db_crud_parse_objectid(call, &given);

        if (rc != DB_OK) {
            return rc == DB_DECLINED ? db_crud_not_found(call) : rc;
        }
    }

    if (call->operation == DB_CRUD_GET || call->operation == DB_CRUD_DELETE) {

        if (check.errors.failed) {
            return DB_ERROR;
        }

        return check.nerrors ? db_crud_invalid(call, &check) : DB_OK;
    }

    rc = db_crud_read_body(call, &root);
    if (rc != DB_OK) {
        return rc;
    }

    loc = (db_loc_t) { NULL, db_string("body"), 0 };

    if (root == NULL) {
        db_check_error(&check, "missing", &loc, db_string("Field required"),
                       NULL, db_null_string);

    } else {
        db_buf_reserve(&call->out, call->body.len + 256);

        /* an id that was refused must not let the document's be looked at */

        if (check.nerrors) {
            given = db_string("null");
        }

        db_check_document(&check, call->crud, root, &loc, given,
                          &call->op.id);
    }

    if (check.errors.failed || call->out.failed) {
        return DB_ERROR;
    }

    if (check.nerrors) {
        return db_crud_invalid(call, &check);
    }

    call->op.document = (db_str_t) { call->out.data, call->out.len };

    if (call->op.kind == DB_STORE_INSERT) {
        call->item = (db_store_item_t) { call->op.id, call->op.document };
        call->op.items = &call->item;
        call->op.nitems = 1;
    }

    return DB_OK;
}


static int
db_crud_conflict(db_crud_call_t *call)
{
    db_buf_t  buf;

    db_buf_init(&buf, call->arena, 128);
    db_buf_str(&buf, call->crud->name);
    db_buf_lit(&buf, " with id ");

    if (call->op.id.kind == DB_VALUE_INT) {
        db_json_write_int(&buf, call->op.id.integer);

    } else {
        db_buf_str(&buf, call->op.id.text);
    }

    db_buf_lit(&buf, " already exists");

    if (buf.failed) {
        return DB_ERROR;
    }

    return db_crud_detail(call, 409, (db_str_t) { buf.data, buf.len });
}


static int
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


static int
db_crud_finish_create(db_crud_call_t *call)
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

    return db_crud_answer(call, 201, call->op.document);
}


static int
db_crud_finish_ok(db_crud_call_t *call)
{
    switch (call->operation) {

    case DB_CRUD_LIST:
        return db_crud_finish_list(call);

    case DB_CRUD_GET:
        return db_crud_answer(call, 200, (db_str_t) { call->out.data,
                                                      call->out.len });
    case DB_CRUD_CREATE:
        return db_crud_finish_create(call);

    case DB_CRUD_UPDATE:
        return db_crud_answer(call, 200, call->op.document);

    default:
        return db_crud_answer(call, 204, db_null_string);
    }
}


int
db_crud_finish(db_crud_call_t *call)
{
    int  rc;

    switch (call->op.status) {

    case DB_STORE_OK:
        rc = db_crud_finish_ok(call);
        break;

    case DB_STORE_NOT_FOUND:
        rc = db_crud_not_found(call);
        break;

    case DB_STORE_CONFLICT:
        rc = db_crud_conflict(call);
        break;

    case DB_STORE_BUSY:
    case DB_STORE_AWAY:
        rc = db_crud_answer(call, 503,
                     db_string("{\"detail\":\"Service Unavailable\"}"));
        break;

    case DB_STORE_TIMEOUT:
        rc = db_crud_answer(call, 504,
                     db_string("{\"detail\":\"Gateway Timeout\"}"));
        break;

    case DB_STORE_FULL:
        rc = db_crud_answer(call, 507,
                     db_string("{\"detail\":\"Insufficient Storage\"}"));
        break;

    default:
        rc = db_crud_answer(call, 500,
                     db_string("{\"detail\":\"Internal Server Error\"}"));
    }

    return rc == DB_DONE ? DB_OK : rc;
}
