/*
 * GET and LIST, as steps: a command, and what is made of its reply.  Filters
 * and options are written as bytes and only looked at by libbson; documents
 * go from its bytes to JSON text at once.
 *
 * Who takes the steps may block and has a client of the driver's, or is the
 * nginx thread with a connection of its own (mongo_direct.c).
 *
 * What one reply holds is asked for by a command: a cursor of the driver's,
 * which is for the rest, copies the description of the server once more, and
 * costs as much again as sending and receiving.
 */

#include "store/mongo/bson.h"
#include "store/mongo/mongo.h"

#include "store/db_document.h"


#define DB_MONGO_BATCH  1000         /* documents of a reply */


int
db_mongo_bson(bson_t *bson, const db_buf_t *buf)
{
    return (!buf->failed && bson_init_static(bson, (const uint8_t *) buf->data,
                                             buf->len))
           ? DB_OK : DB_ERROR;
}


db_store_status_t
db_mongo_no_memory(db_mongo_call_t *call)
{
    db_mongo_log(call->store, DB_LOG_ERROR, "an operation", "out of memory");

    return DB_STORE_FAILED;
}


int
db_mongo_by_id(db_mongo_call_t *call, db_buf_t *out, size_t *start)
{
    db_store_op_t      *op;
    db_mongo_filter_t   f;

    op = call->op;
    f = (db_mongo_filter_t) { out, op->collection, 0 };

    db_buf_init(out, call->arena, 256);
    *start = db_bson_begin(out);

    if (db_bson_id(out, db_string("_id"), op->collection, &op->id) != DB_OK) {
        return DB_DECLINED;
    }

    db_mongo_conditions(&f, op, 0);

    return DB_OK;
}


static db_str_t
db_mongo_bytes(const bson_t *bson)
{
    return (db_str_t) { (const char *) bson_get_data(bson), bson->len };
}


/* A command between its braces: its kind, and the collection. */

static size_t
db_mongo_command(db_mongo_call_t *call, db_buf_t *text, db_str_t kind)
{
    size_t      start;
    db_value_t  name;

    name = (db_value_t) { .kind = DB_VALUE_TEXT,
                          .text = call->op->collection->name };

    start = db_bson_begin(text);
    db_bson_value(text, kind, &name);

    if (call->client == NULL) {

        /* the driver would write it */

        name.text = (db_str_t) { call->store->database,
                                 strlen(call->store->database) };
        db_bson_value(text, db_string("$db"), &name);
    }

    return start;
}


static db_store_status_t
db_mongo_command_end(db_mongo_call_t *call, db_buf_t *text, size_t start)
{
    db_bson_integer(text, db_string("maxTimeMS"), DB_MONGO_TIME_LIMIT);
    db_bson_end(text, start);

    return text->failed ? db_mongo_no_memory(call) : DB_STORE_OK;
}


static db_store_status_t
db_mongo_find_command(db_mongo_call_t *call, db_buf_t *text,
    const db_buf_t *filter, const db_buf_t *members)
{
    size_t  start;

    if (filter->failed || members->failed) {
        return db_mongo_no_memory(call);
    }

    start = db_mongo_command(call, text, db_string("find"));
    db_bson_name(text, DB_BSON_OBJECT, db_string("filter"));
    db_buf_append(text, filter->data, filter->len);
    db_buf_append(text, members->data, members->len);

    return db_mongo_command_end(call, text, start);
}


/* The documents of a reply; *rest: a cursor for more, or 0. */

static db_store_status_t
db_mongo_documents(db_mongo_call_t *call, const bson_t *reply,
    bson_iter_t *documents, uint64_t *rest)
{
    bson_iter_t  iter, cursor, batch;

    if (!bson_iter_init_find(&iter, reply, "cursor")
        || !bson_iter_recurse(&iter, &cursor)
        || !bson_iter_find(&cursor, "firstBatch")
        || !bson_iter_recurse(&cursor, documents)
        || !bson_iter_recurse(&iter, &batch)
        || !bson_iter_find(&batch, "id"))
    {
        db_mongo_log(call->store, DB_LOG_ERROR, "a read",
                     "the reply has no documents");
        return DB_STORE_FAILED;
    }

    *rest = (uint64_t) bson_iter_as_int64(&batch);

    return DB_STORE_OK;
}


/* By the driver.  The reply is to be destroyed in any case. */

static db_store_status_t
db_mongo_ask(db_mongo_call_t *call, const db_buf_t *text, bson_t *reply)
{
    bson_t  command;

    if (db_mongo_bson(&command, text) != DB_OK) {
        bson_init(reply);
        return db_mongo_no_memory(call);
    }

    return mongoc_client_read_command_with_opts(call->client,
                                                call->store->database,
                                                &command, NULL, NULL, reply,
                                                &call->error)
           ? DB_STORE_OK : db_mongo_failed(call, "a read");
}


static int
db_mongo_next(bson_iter_t *documents, bson_t *found)
{
    uint32_t        len;
    const uint8_t  *data;

    if (!bson_iter_next(documents) || !BSON_ITER_HOLDS_DOCUMENT(documents)) {
        return 0;
    }

    bson_iter_document(documents, &len, &data);

    return bson_init_static(found, data, len);
}


static db_store_status_t
db_mongo_first(db_mongo_call_t *call, const bson_t *reply, bson_t *found)
{
    uint64_t            rest;
    bson_iter_t         documents;
    db_store_status_t   status;

    status = db_mongo_documents(call, reply, &documents, &rest);

    if (status == DB_STORE_OK && !db_mongo_next(&documents, found)) {
        status = DB_STORE_NOT_FOUND;
    }

    return status;
}


/* For the one document of an id; NOT_FOUND: there can be none. */

static db_store_status_t
db_mongo_find_one(db_mongo_call_t *call, db_buf_t *text, db_buf_t *members)
{
    size_t    start;
    db_buf_t  by_id;

    if (db_mongo_by_id(call, &by_id, &start) != DB_OK) {
        return DB_STORE_NOT_FOUND;
    }

    db_bson_end(&by_id, start);

    db_bson_integer(members, db_string("limit"), 1);
    db_bson_bool(members, db_string("singleBatch"), 1);

    return db_mongo_find_command(call, text, &by_id, members);
}


db_store_status_t
db_mongo_look(db_mongo_call_t *call, int whole, db_str_t *bson)
{
    bson_t              found, reply;
    size_t              start;
    db_buf_t            text, members;
    db_store_status_t   status;

    db_buf_init(&text, call->arena, 512);
    db_buf_init(&members, call->arena, 64);

    if (!whole) {
        db_bson_name(&members, DB_BSON_OBJECT, db_string("projection"));
        start = db_bson_begin(&members);
        db_bson_integer(&members, db_string("_v"), 1);
        db_bson_end(&members, start);
    }

    status = db_mongo_find_one(call, &text, &members);

    if (status != DB_STORE_OK) {
        return status;
    }

    status = db_mongo_ask(call, &text, &reply);

    if (status == DB_STORE_OK) {
        status = db_mongo_first(call, &reply, &found);
    }

    if (status == DB_STORE_OK) {
        *bson = db_arena_str(call->arena, db_mongo_bytes(&found));

        if (bson->data == NULL) {
            status = db_mongo_no_memory(call);
        }
    }

    bson_destroy(&reply);

    return status;
}


static db_store_status_t
db_mongo_untold(db_mongo_call_t *call, int rc, const char *why)
{
    if (rc != DB_DECLINED) {
        return db_mongo_no_memory(call);
    }

    db_mongo_log(call->store, DB_LOG_ERROR,
                 "a document cannot be told as JSON", why);

    return DB_STORE_FAILED;
}


/* Only the fields asked for: the server has sent what lists go by as well. */

static db_store_status_t
db_mongo_project(db_mongo_call_t *call, const db_buf_t *json)
{
    int               rc;
    db_json_t        *root;
    db_arena_t       *arena;
    db_store_op_t    *op;
    db_json_error_t   error;

    op = call->op;
    arena = db_arena_create(2 * json->len + 1024);
    rc = DB_ERROR;

    if (arena) {
        rc = db_json_read(arena, (db_str_t) { json->data, json->len }, &root,
                          &error);
        if (rc == DB_OK) {
            db_document_project(op->out, root, op->fields, op->nfields);
        }

        db_arena_destroy(arena);
    }

    return rc == DB_OK ? DB_STORE_OK
                       : db_mongo_untold(call, rc, "it is too deep");
}


/* One document to the answer, whole or in part. */

static db_store_status_t
db_mongo_tell(db_mongo_call_t *call, const bson_t *found, uint64_t *version)
{
    int                     rc;
    db_buf_t                json;
    const char             *why;
    db_store_op_t          *op;
    const db_collection_t  *collection;

    op = call->op;
    collection = op->collection;

    if (op->nfields == 0) {
        rc = db_bson_read(op->out, collection, db_mongo_bytes(found), version,
                          &why);
        return rc == DB_OK ? DB_STORE_OK : db_mongo_untold(call, rc, why);
    }

    db_buf_init(&json, call->arena, 2 * found->len);

    rc = db_bson_read(&json, collection, db_mongo_bytes(found), version, &why);

    return rc == DB_OK ? db_mongo_project(call, &json)
                       : db_mongo_untold(call, rc, why);
}


/* With an id amidst its members, only a whole document says where. */

static void
db_mongo_members(db_mongo_call_t *call, db_buf_t *out)
{
    if (call->op->nfields && call->op->collection->id_place == 0) {
        db_mongo_projection(out, call->op);
    }
}


static db_store_status_t
db_mongo_get_ask(db_mongo_call_t *call, db_buf_t *text)
{
    db_buf_t  members;

    db_buf_init(&members, call->arena, 64);
    db_mongo_members(call, &members);

    return db_mongo_find_one(call, text, &members);
}


static db_store_status_t
db_mongo_get_answer(db_mongo_call_t *call, const bson_t *reply)
{
    bson_t              found;
    db_store_status_t   status;

    status = db_mongo_first(call, reply, &found);

    return status == DB_STORE_OK
           ? db_mongo_tell(call, &found, &call->op->version) : status;
}


static const db_mongo_step_t  db_mongo_get = {
    db_mongo_get_ask, db_mongo_get_answer
};


/* The filter of a list, with "after" of what follows its place. */

static void
db_mongo_list_filter(db_mongo_call_t *call, db_buf_t *out, int after)
{
    size_t              start;
    db_mongo_filter_t   f;

    f = (db_mongo_filter_t) { out, call->op->collection, 0 };

    start = db_bson_begin(out);
    db_mongo_conditions(&f, call->op, after);
    db_bson_end(out, start);
}


/*
 * How many documents the filter finds, as the driver counts them: the server's
 * "count" goes by what it has noted down, which on shards, and after a crash,
 * is not what there is.
 */

static db_store_status_t
db_mongo_count_ask(db_mongo_call_t *call, db_buf_t *text)
{
    char    index[DB_BSON_INDEX];
    size_t  start, pipeline, stage, group, sum;

    start = db_mongo_command(call, text, db_string("aggregate"));

    db_bson_name(text, DB_BSON_ARRAY, db_string("pipeline"));
    pipeline = db_bson_begin(text);

    db_bson_name(text, DB_BSON_OBJECT, db_bson_index(index, 0));
    stage = db_bson_begin(text);
    db_bson_name(text, DB_BSON_OBJECT, db_string("$match"));
    db_mongo_list_filter(call, text, 0);
    db_bson_end(text, stage);

    db_bson_name(text, DB_BSON_OBJECT, db_bson_index(index, 1));
    stage = db_bson_begin(text);
    db_bson_name(text, DB_BSON_OBJECT, db_string("$group"));
    group = db_bson_begin(text);
    db_bson_integer(text, db_string("_id"), 1);
    db_bson_name(text, DB_BSON_OBJECT, db_string("n"));
    sum = db_bson_begin(text);
    db_bson_integer(text, db_string("$sum"), 1);
    db_bson_end(text, sum);
    db_bson_end(text, group);
    db_bson_end(text, stage);

    db_bson_end(text, pipeline);

    db_bson_name(text, DB_BSON_OBJECT, db_string("cursor"));
    db_bson_end(text, db_bson_begin(text));

    return db_mongo_command_end(call, text, start);
}


static db_store_status_t
db_mongo_count_answer(db_mongo_call_t *call, const bson_t *reply)
{
    bson_t              counted;
    bson_iter_t         total;
    db_store_status_t   status;

    status = db_mongo_first(call, reply, &counted);

    /* no document, no group */

    call->op->total = 0;

    if (status == DB_STORE_OK && bson_iter_init_find(&total, &counted, "n")) {
        call->op->total = (uint64_t) bson_iter_as_int64(&total);
    }

    return status == DB_STORE_NOT_FOUND ? DB_STORE_OK : status;
}


static const db_mongo_step_t  db_mongo_count = {
    db_mongo_count_ask, db_mongo_count_answer
};


/* One more than the page has, to see whether there are more. */

static void
db_mongo_list_options(db_mongo_call_t *call, db_buf_t *out)
{
    size_t          sort;
    db_store_op_t  *op;

    op = call->op;

    db_bson_name(out, DB_BSON_OBJECT, db_string("sort"));
    sort = db_bson_begin(out);
    db_mongo_sort(out, op->sort, op->nsort);
    db_bson_end(out, sort);

    db_mongo_members(call, out);

    if (op->skip) {
        db_bson_integer(out, db_string("skip"), op->skip);
    }

    db_bson_integer(out, db_string("limit"), op->limit + 1);

    if (op->limit < DB_MONGO_BATCH) {
        db_bson_integer(out, db_string("batchSize"), op->limit + 1);
    }
}


static int
db_mongo_oid(db_arena_t *arena, const bson_oid_t *oid, db_value_t *value)
{
    char  text[25];

    bson_oid_to_string(oid, text);

    value->kind = DB_VALUE_TEXT;
    value->text = db_arena_str(arena, (db_str_t) { text, 24 });

    return value->text.data ? DB_OK : DB_ERROR;
}


/* A sort key of a document, which is null when there is none. */

static int
db_mongo_key(db_arena_t *arena, const bson_t *found, db_str_t path,
    db_value_t *value)
{
    uint32_t      len;
    const char   *text;
    bson_iter_t   iter, member;

    *value = (db_value_t) { .kind = DB_VALUE_NULL };

    text = db_arena_str(arena, path).data;

    if (text == NULL) {
        return DB_ERROR;
    }

    if (!bson_iter_init(&iter, found)
        || !bson_iter_find_descendant(&iter, text, &member))
    {
        return DB_OK;
    }

    switch (bson_iter_type(&member)) {

    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
        value->kind = DB_VALUE_INT;
        value->integer = bson_iter_as_int64(&member);
        return DB_OK;

    case BSON_TYPE_DOUBLE:
        value->kind = DB_VALUE_REAL;
        value->real = bson_iter_double(&member);
        return DB_OK;

    case BSON_TYPE_BOOL:
        value->kind = DB_VALUE_BOOL;
        value->integer = bson_iter_bool(&member);
        return DB_OK;

    case BSON_TYPE_DATE_TIME:
        value->kind = DB_VALUE_TIME;
        value->integer = bson_iter_date_time(&member) * 1000;
        return DB_OK;

    case BSON_TYPE_OID:
        return db_mongo_oid(arena, bson_iter_oid(&member), value);

    case BSON_TYPE_UTF8:
        text = bson_iter_utf8(&member, &len);
        value->kind = DB_VALUE_TEXT;
        value->text = db_arena_str(arena, (db_str_t) { text, len });
        return value->text.data ? DB_OK : DB_ERROR;

    default:
        return DB_OK;
    }
}


static db_value_t *
db_mongo_last(db_mongo_call_t *call, const bson_t *found)
{
    unsigned        i;
    db_value_t     *last;
    db_arena_t     *arena;
    db_store_op_t  *op;

    op = call->op;
    arena = op->out->arena;
    last = db_arena_calloc(arena, op->nsort * sizeof(db_value_t));

    for (i = 0; last && i < op->nsort; i++) {
        if (db_mongo_key(arena, found,
                         db_mongo_path(call->arena, &op->sort[i].path),
                         &last[i])
            != DB_OK)
        {
            return NULL;
        }
    }

    return last;
}


/* The next document of the page; the one behind it is not told. */

static db_store_status_t
db_mongo_page(db_mongo_call_t *call, const bson_t *found)
{
    uint64_t            version;
    db_store_op_t      *op;
    db_mongo_page_t    *page;
    db_store_status_t   status;

    op = call->op;
    page = &call->page;

    if (page->n++ >= op->limit) {
        op->last = page->last;
        return DB_STORE_OK;
    }

    if (op->out->len != page->start) {
        db_buf_putc(op->out, ',');
    }

    status = db_mongo_tell(call, found, &version);

    if (status == DB_STORE_OK && page->n == op->limit) {
        page->last = db_mongo_last(call, found);

        if (page->last == NULL) {
            return db_mongo_no_memory(call);
        }
    }

    return status;
}


/* A page with an end, or before any, says how many there are in all. */

static int
db_mongo_page_counts(const db_store_op_t *op, const db_mongo_page_t *page)
{
    return op->after == NULL && page->n <= op->limit
           && (page->n || op->skip == 0);
}


static void
db_mongo_list_end(db_mongo_call_t *call)
{
    db_store_op_t  *op;

    op = call->op;

    if (!op->count) {
        return;
    }

    if (db_mongo_page_counts(op, &call->page)) {
        op->total = op->skip + call->page.n;

    } else {
        call->step = &db_mongo_count;
    }
}


/* It ends by itself, too, after some minutes. */

static void
db_mongo_kill_cursor(db_mongo_call_t *call, uint64_t id)
{
    char        index[DB_BSON_INDEX];
    bson_t      command;
    size_t      start, ids;
    db_buf_t    text;

    db_buf_init(&text, call->arena, 128);
    start = db_mongo_command(call, &text, db_string("killCursors"));
    db_bson_name(&text, DB_BSON_ARRAY, db_string("cursors"));
    ids = db_bson_begin(&text);
    db_bson_integer(&text, db_bson_index(index, 0), id);
    db_bson_end(&text, ids);
    db_bson_end(&text, start);

    if (db_mongo_bson(&command, &text) == DB_OK) {
        (void) mongoc_client_read_command_with_opts(call->client,
                                                    call->store->database,
                                                    &command, NULL, NULL,
                                                    NULL, NULL);
    }
}


static db_store_status_t
db_mongo_list_ask(db_mongo_call_t *call, db_buf_t *text)
{
    db_buf_t  filter, members;

    db_buf_init(&filter, call->arena, 256);
    db_mongo_list_filter(call, &filter, call->op->after != NULL);

    db_buf_init(&members, call->arena, 256);
    db_mongo_list_options(call, &members);

    return db_mongo_find_command(call, text, &filter, &members);
}


/* LATER when one reply does not hold the page. */

static db_store_status_t
db_mongo_list_answer(db_mongo_call_t *call, const bson_t *reply)
{
    bson_t              found;
    uint64_t            rest;
    bson_iter_t         documents;
    db_store_status_t   status;

    status = db_mongo_documents(call, reply, &documents, &rest);

    if (status != DB_STORE_OK) {
        return status;
    }

    if (rest) {
        if (call->client) {
            db_mongo_kill_cursor(call, rest);
        }

        return DB_STORE_LATER;
    }

    /* as JSON they are a little longer, mostly */

    (void) db_buf_reserve(call->op->out, reply->len + reply->len / 4);

    while (status == DB_STORE_OK && db_mongo_next(&documents, &found)) {
        status = db_mongo_page(call, &found);
    }

    if (status == DB_STORE_OK) {
        db_mongo_list_end(call);
    }

    return status;
}


static const db_mongo_step_t  db_mongo_list = {
    db_mongo_list_ask, db_mongo_list_answer
};


db_store_status_t
db_mongo_first_step(db_mongo_call_t *call)
{
    db_store_op_t  *op;

    op = call->op;

    if (op->kind == DB_STORE_GET) {
        call->step = &db_mongo_get;
        return DB_STORE_OK;
    }

    op->last = NULL;
    call->page = (db_mongo_page_t) { .start = op->out->len };
    call->step = &db_mongo_list;

    return op->limit < DB_MONGO_BATCH ? DB_STORE_OK : DB_STORE_LATER;
}


/* What no one reply holds. */

static db_store_status_t
db_mongo_list_on(db_mongo_call_t *call)
{
    bson_t              by, opts;
    size_t              start;
    db_buf_t            filter, members;
    const bson_t       *found;
    mongoc_cursor_t    *cursor;
    db_store_status_t   status;

    db_buf_init(&filter, call->arena, 256);
    db_mongo_list_filter(call, &filter, call->op->after != NULL);

    db_buf_init(&members, call->arena, 256);
    start = db_bson_begin(&members);
    db_mongo_list_options(call, &members);
    db_bson_integer(&members, db_string("maxTimeMS"), DB_MONGO_TIME_LIMIT);
    db_bson_end(&members, start);

    if (db_mongo_bson(&by, &filter) != DB_OK
        || db_mongo_bson(&opts, &members) != DB_OK)
    {
        return db_mongo_no_memory(call);
    }

    status = DB_STORE_OK;
    cursor = mongoc_collection_find_with_opts(db_mongo_collection(call), &by,
                                              &opts, NULL);

    while (status == DB_STORE_OK && mongoc_cursor_next(cursor, &found)) {
        status = db_mongo_page(call, found);
    }

    if (status == DB_STORE_OK && mongoc_cursor_error(cursor, &call->error)) {
        status = db_mongo_failed(call, "a read");
    }

    mongoc_cursor_destroy(cursor);

    if (status == DB_STORE_OK) {
        db_mongo_list_end(call);
    }

    return status;
}


static db_store_status_t
db_mongo_take_step(db_mongo_call_t *call)
{
    bson_t                  reply;
    db_buf_t                text;
    db_store_status_t       status;
    const db_mongo_step_t  *step;

    step = call->step;
    call->step = NULL;

    db_buf_init(&text, call->arena, 512);
    status = step->ask(call, &text);

    if (status != DB_STORE_OK) {
        return status;
    }

    status = db_mongo_ask(call, &text, &reply);

    if (status == DB_STORE_OK) {
        status = step->answer(call, &reply);
    }

    bson_destroy(&reply);

    return status;
}


/* With the reply to the first question, when the nginx thread has left it. */

static db_store_status_t
db_mongo_resume(db_mongo_call_t *call)
{
    bson_t                  reply;
    uint32_t                len;
    const uint8_t          *data;
    const db_mongo_step_t  *step;

    data = (const uint8_t *) (uintptr_t) call->op->state;
    memcpy(&len, data, sizeof(len));

    step = call->step;
    call->step = NULL;

    return bson_init_static(&reply, data, BSON_UINT32_FROM_LE(len))
           ? step->answer(call, &reply) : DB_STORE_FAILED;
}


db_store_status_t
db_mongo_find(db_mongo_call_t *call)
{
    db_store_status_t  status;

    status = db_mongo_first_step(call);

    if (status == DB_STORE_OK && call->op->state) {
        status = db_mongo_resume(call);
    }

    for ( ;; ) {

        if (status == DB_STORE_LATER) {
            call->step = NULL;
            status = db_mongo_list_on(call);

        } else if (status == DB_STORE_OK && call->step) {
            status = db_mongo_take_step(call);

        } else {
            return status;
        }
    }
}
