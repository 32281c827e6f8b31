/*
 * INSERT, REPLACE, MODIFY and REMOVE.  Runs on the store's own threads, with
 * a client of its own.
 *
 * The server writes one document in one step.  What has to be known before
 * is looked at first, and the write's own filter then asks for what was seen:
 * the version, or else every member.  When somebody was faster it meets
 * nothing, and all begins again.
 */

#include "store/mongo/bson.h"
#include "store/mongo/mongo.h"


/* {"validate": false}: the bytes are our own */

static const uint8_t  db_mongo_unchecked[] = {
    16, 0, 0, 0, DB_BSON_BOOL, 'v', 'a', 'l', 'i', 'd', 'a', 't', 'e', 0, 0, 0
};


/* The document that a write is about, as it was seen. */

typedef struct {
    int         looked;
    int         exists;
    uint64_t    version;
    db_str_t    bson;                /* whole for MODIFY */
} db_mongo_seen_t;


/*
 * The BSON of a document, or what becomes of the operation without one.  A
 * text that will be read as another one becomes that.
 */

static db_store_status_t
db_mongo_document(db_mongo_call_t *call, const db_value_t *id,
    uint64_t version, db_str_t *json, bson_t *bson)
{
    int                 rc;
    db_buf_t            out, text;
    uint64_t            ignored;
    const char         *why;
    db_store_op_t      *op;
    db_bson_document_t  document;

    op = call->op;
    document = (db_bson_document_t) { op->collection, id, version, *json, 0,
                                      NULL };

    /* lists of small numbers are what grows most */

    db_buf_init(&out, call->arena, 2 * json->len + 128);

    rc = db_bson_write(&out, &document);

    if (rc == DB_DECLINED) {
        db_mongo_log(call->store, DB_LOG_INFO, "a document is refused",
                     document.why);
        return DB_STORE_REFUSED;
    }

    if (rc == DB_OK && document.rounded && op->out) {
        db_buf_init(&text, op->out->arena, json->len + 128);

        rc = db_bson_read(&text, op->collection,
                          (db_str_t) { out.data, out.len }, &ignored, &why);

        *json = (db_str_t) { text.data, text.len };
    }

    return (rc == DB_OK && db_mongo_bson(bson, &out) == DB_OK)
           ? DB_STORE_OK : db_mongo_no_memory(call);
}


/* Those of a list that were inserted before one that was not. */

static void
db_mongo_take_out(db_mongo_call_t *call, unsigned n)
{
    char            name[DB_BSON_INDEX];
    bson_t          filter;
    size_t          start, inner, list;
    db_buf_t        out;
    unsigned        i;
    db_store_op_t  *op;
    bson_error_t    error;

    op = call->op;

    db_buf_init(&out, call->arena, 32 * n + 64);
    start = db_bson_begin(&out);
    db_bson_name(&out, DB_BSON_OBJECT, db_string("_id"));
    inner = db_bson_begin(&out);
    db_bson_name(&out, DB_BSON_ARRAY, db_string("$in"));
    list = db_bson_begin(&out);

    for (i = 0; i < n; i++) {
        (void) db_bson_id(&out, db_bson_index(name, i), op->collection,
                          &op->items[i].id);
    }

    db_bson_end(&out, list);
    db_bson_end(&out, inner);
    db_bson_end(&out, start);

    if (db_mongo_bson(&filter, &out) != DB_OK) {
        (void) db_mongo_no_memory(call);

    } else if (!mongoc_collection_delete_many(db_mongo_collection(call),
                                              &filter, NULL, NULL, &error))
    {
        db_mongo_log(call->store, DB_LOG_ERROR, "of a list that could not be"
                     " inserted the first documents are left over",
                     error.message);
    }
}


/* Which document of a list was refused; -1 when the server does not say. */

static int64_t
db_mongo_refused(const bson_t *reply)
{
    bson_iter_t  iter, index;

    return (bson_iter_init(&iter, reply)
            && bson_iter_find_descendant(&iter, "writeErrors.0.index", &index))
           ? bson_iter_as_int64(&index) : -1;
}


db_store_status_t
db_mongo_insert(db_mongo_call_t *call)
{
    bson_t               opts, reply, *documents;
    int64_t              item;
    unsigned             i;
    const bson_t       **list;
    db_store_op_t       *op;
    db_store_status_t    status;

    op = call->op;

    if (op->nitems == 0) {
        return DB_STORE_OK;
    }

    documents = db_arena_alloc(call->arena, op->nitems * sizeof(bson_t));
    list = db_arena_alloc(call->arena, op->nitems * sizeof(bson_t *));

    if (documents == NULL || list == NULL) {
        return db_mongo_no_memory(call);
    }

    for (i = 0; i < op->nitems; i++) {
        list[i] = &documents[i];
        status = db_mongo_document(call, &op->items[i].id, 1,
                                   &op->items[i].document, &documents[i]);

        if (status != DB_STORE_OK) {
            op->item = i;
            return status;
        }
    }

    bson_init_static(&opts, db_mongo_unchecked, sizeof(db_mongo_unchecked));

    status = DB_STORE_OK;

    if (!mongoc_collection_insert_many(db_mongo_collection(call), list,
                                       op->nitems, &opts, &reply,
                                       &call->error))
    {
        item = db_mongo_refused(&reply);
        status = db_mongo_write_failed(call, "an insert");

        if (item >= 0 && item < op->nitems) {
            op->item = (unsigned) item;

            if (item) {
                db_mongo_take_out(call, op->item);
            }
        }
    }

    bson_destroy(&reply);

    return status;
}


/* A document without any version has 0. */

static void
db_mongo_version_list(db_buf_t *out, db_str_t operator,
    const uint64_t *versions, unsigned n)
{
    char        name[DB_BSON_INDEX];
    size_t      list;
    unsigned    i, total;
    db_value_t  null;

    db_bson_name(out, DB_BSON_ARRAY, operator);
    list = db_bson_begin(out);
    total = n;
    null.kind = DB_VALUE_NULL;

    for (i = 0; i < n; i++) {
        db_bson_integer(out, db_bson_index(name, i), versions[i]);

        if (versions[i] == 0) {
            db_bson_value(out, db_bson_index(name, total++), &null);
        }
    }

    db_bson_end(out, list);
}


/* "_v": one of the versions, unless there are none, and none of the others. */

static void
db_mongo_versions(db_buf_t *out, const uint64_t *versions, unsigned n,
    const uint64_t *others, unsigned nothers)
{
    size_t  start;

    db_bson_name(out, DB_BSON_OBJECT, db_string("_v"));
    start = db_bson_begin(out);

    if (n) {
        db_mongo_version_list(out, db_string("$in"), versions, n);
    }

    if (nothers) {
        db_mongo_version_list(out, db_string("$nin"), others, nothers);
    }

    db_bson_end(out, start);
}


/*
 * Every member as it was seen.  One whose name would be taken for a path or
 * an operator cannot be asked for.
 */

static void
db_mongo_members(db_buf_t *out, db_str_t bson)
{
    bson_t       document;
    size_t       start, len;
    db_str_t     name;
    bson_iter_t  iter;

    if (!bson_init_static(&document, (const uint8_t *) bson.data, bson.len)
        || !bson_iter_init(&iter, &document))
    {
        return;
    }

    while (bson_iter_next(&iter)) {
        name = (db_str_t) { bson_iter_key(&iter), bson_iter_key_len(&iter) };

        if (name.len == 0 || name.data[0] == '$'
            || memchr(name.data, '.', name.len)
            || db_str_eq(name, db_string("_id")))
        {
            continue;
        }

        len = iter.next_off - iter.d1;

        db_bson_name(out, DB_BSON_OBJECT, name);
        start = db_bson_begin(out);
        db_bson_name(out, (db_bson_type_t) bson_iter_type(&iter),
                     db_string("$eq"));

        if (iter.d1) {
            db_buf_append(out, bson.data + iter.d1, len);
        }

        db_bson_end(out, start);
    }
}


static db_store_status_t
db_mongo_modify(db_store_op_t *op, db_str_t current)
{
    if (op->kind != DB_STORE_MODIFY) {
        return DB_STORE_OK;
    }

    switch (op->modify(op, current)) {

    case DB_OK:
        return DB_STORE_OK;

    case DB_DECLINED:
        return DB_STORE_DECLINED;

    default:
        return DB_STORE_FAILED;
    }
}


/*
 * Looks, and lets MODIFY make its document of what is there.  DB_STORE_OK:
 * it may be written.
 */

static db_store_status_t
db_mongo_see(db_mongo_call_t *call, db_mongo_seen_t *seen)
{
    db_buf_t             json;
    const char          *why;
    db_store_op_t       *op;
    db_store_status_t    status;

    op = call->op;
    status = db_mongo_look(call, op->kind == DB_STORE_MODIFY, &seen->bson);
    seen->looked = 1;
    seen->exists = (status == DB_STORE_OK);

    if (status == DB_STORE_NOT_FOUND && op->upsert && op->nversions == 0) {
        return db_mongo_modify(op, db_null_string);
    }

    if (status != DB_STORE_OK) {
        return status;
    }

    /* for its version alone: the id is all that it has beside */

    db_buf_init(&json, call->arena, 2 * seen->bson.len);

    if (db_bson_read(&json, op->collection, seen->bson, &seen->version, &why)
        != DB_OK)
    {
        db_mongo_log(call->store, DB_LOG_ERROR,
                     "a document cannot be told as JSON", why);
        return DB_STORE_FAILED;
    }

    if (!db_store_matches(op, seen->version)) {
        return DB_STORE_MISMATCH;
    }

    return db_mongo_modify(op, (db_str_t) { json.data, json.len });
}


/* How many documents a write has met; -1 when the server does not say. */

static int64_t
db_mongo_met(const bson_t *reply, const char *member)
{
    bson_iter_t  iter;

    return bson_iter_init_find(&iter, reply, member)
           ? bson_iter_as_int64(&iter) : -1;
}


/* DB_STORE_LATER: it was not met. */

static db_store_status_t
db_mongo_replace(db_mongo_call_t *call, const db_mongo_seen_t *seen)
{
    bson_t                  filter, document, opts, reply;
    size_t                  start;
    db_buf_t                out;
    uint64_t                version;
    db_store_op_t          *op;
    db_store_status_t       status;

    op = call->op;
    version = 0;

    if (db_mongo_by_id(call, &out, &start) != DB_OK) {
        return DB_STORE_NOT_FOUND;
    }

    if (op->collection->versioned) {
        version = seen->looked ? seen->version : op->versions[0];
        db_mongo_versions(&out, &version, 1, NULL, 0);

    } else if (op->kind == DB_STORE_MODIFY) {
        db_mongo_members(&out, seen->bson);
    }

    db_bson_end(&out, start);

    status = db_mongo_document(call, &op->id, version + 1, &op->document,
                               &document);

    if (status != DB_STORE_OK) {
        return status;
    }

    if (db_mongo_bson(&filter, &out) != DB_OK) {
        return db_mongo_no_memory(call);
    }

    bson_init_static(&opts, db_mongo_unchecked, sizeof(db_mongo_unchecked));

    if (!mongoc_collection_replace_one(db_mongo_collection(call), &filter,
                                       &document, &opts, &reply,
                                       &call->error))
    {
        status = db_mongo_write_failed(call, "a replacement");

    } else if (db_mongo_met(&reply, "matchedCount") == 0) {
        status = DB_STORE_LATER;

    } else {
        op->version = version + 1;
    }

    bson_destroy(&reply);

    return status;
}


/* DB_STORE_LATER: somebody else has put it there meanwhile. */

static db_store_status_t
db_mongo_upsert(db_mongo_call_t *call)
{
    bson_t              document, opts;
    db_str_t            bson;
    db_store_op_t      *op;
    db_store_status_t   status;

    op = call->op;
    status = db_mongo_document(call, &op->id, 1, &op->document, &document);

    if (status != DB_STORE_OK) {
        return status;
    }

    bson_init_static(&opts, db_mongo_unchecked, sizeof(db_mongo_unchecked));

    if (mongoc_collection_insert_one(db_mongo_collection(call), &document,
                                     &opts, NULL, &call->error))
    {
        op->version = 1;
        op->created = 1;
        return DB_STORE_OK;
    }

    status = db_mongo_write_failed(call, "an insert");

    if (status != DB_STORE_CONFLICT || op->conflict) {
        return status;
    }

    /* it is there: either it has come, or it fails the conditions */

    status = db_mongo_look(call, 0, &bson);

    return status == DB_STORE_OK ? DB_STORE_LATER : status;
}


/* One try; DB_STORE_LATER: another one is needed, with a look before it. */

static db_store_status_t
db_mongo_write(db_mongo_call_t *call, int look)
{
    db_mongo_seen_t     seen;
    db_store_status_t   status;

    seen = (db_mongo_seen_t) { 0, 1, 0, db_null_string };

    if (look) {
        status = db_mongo_see(call, &seen);

        if (status != DB_STORE_OK) {
            return status;
        }
    }

    return seen.exists ? db_mongo_replace(call, &seen) : db_mongo_upsert(call);
}


/* What to a removal is as good as missing may be there with a version. */

static db_store_status_t
db_mongo_not_removed(db_mongo_call_t *call)
{
    db_str_t            bson;
    db_store_status_t   status;

    status = db_mongo_look(call, 0, &bson);

    return (status == DB_STORE_OK) ? DB_STORE_MISMATCH : status;
}


static db_store_status_t
db_mongo_remove(db_mongo_call_t *call)
{
    int                 conditional;
    bson_t              filter, reply;
    size_t              start;
    db_buf_t            out;
    db_store_op_t      *op;
    db_store_status_t   status;

    op = call->op;
    conditional = (op->nversions || op->nothers);

    if (op->absent) {
        return db_mongo_not_removed(call);
    }

    if (db_mongo_by_id(call, &out, &start) != DB_OK) {
        return DB_STORE_NOT_FOUND;
    }

    if (conditional) {
        db_mongo_versions(&out, op->versions, op->nversions, op->others,
                          op->nothers);
    }

    db_bson_end(&out, start);

    if (db_mongo_bson(&filter, &out) != DB_OK) {
        return db_mongo_no_memory(call);
    }

    status = DB_STORE_OK;

    if (!mongoc_collection_delete_one(db_mongo_collection(call), &filter, NULL,
                                      &reply, &call->error))
    {
        status = db_mongo_write_failed(call, "a removal");

    } else if (db_mongo_met(&reply, "deletedCount") == 0) {
        status = conditional ? db_mongo_not_removed(call)
                             : DB_STORE_NOT_FOUND;
    }

    bson_destroy(&reply);

    return status;
}


db_store_status_t
db_mongo_change(db_mongo_call_t *call)
{
    int                 look;
    unsigned            tries;
    db_store_op_t      *op;
    db_store_status_t   status;

    op = call->op;

    if (op->kind == DB_STORE_REMOVE) {
        return db_mongo_remove(call);
    }

    /* the version that the next one follows must be known */

    look = op->kind == DB_STORE_MODIFY || op->nothers || op->absent
           || (op->collection->versioned && op->nversions != 1);

    for (tries = 0; tries < DB_MONGO_TRIES; tries++) {
        status = db_mongo_write(call, look);

        if (status != DB_STORE_LATER) {
            return status;
        }

        if (!look && !op->collection->versioned && !op->upsert) {
            return DB_STORE_NOT_FOUND;
        }

        look = 1;
    }

    db_mongo_log_away(call->store, "it is too busy", "a document was changed"
                      " by others each time it was about to be");

    return DB_STORE_BUSY;
}
