/*
 * The indexes of a collection, made by its first operation, whichever thread
 * that is on.  Until they are there reads go on, more slowly, but nothing is
 * written: a unique one may not be missed.
 */

#include "store/mongo/bson.h"
#include "store/mongo/mongo.h"


#define DB_MONGO_RETRY  1000000000ull


void
db_mongo_index_name(db_buf_t *out, const db_index_t *index)
{
    unsigned         i;
    const db_key_t  *key;

    for (i = 0; i < index->nkeys; i++) {
        key = &index->keys[i];

        db_buf_append(out, "_", i != 0);
        db_buf_str(out, db_mongo_path(out->arena, &key->path));
        db_buf_str(out, key->descending ? db_string("_-1") : db_string("_1"));
    }

    /* lists that go by it end with the id, in the last one's direction */

    if (!index->unique) {
        db_buf_str(out, index->keys[index->nkeys - 1].descending
                        ? db_string("__id_-1") : db_string("__id_1"));
    }
}


/*
 * Null and missing are equal to nobody's: only documents that have all keys
 * are in it.  "Not less than the least" of a type is no "$type", so that the
 * server sees that a query for one value needs no other documents.
 */

static void
db_mongo_unique(db_buf_t *out, const db_index_t *index)
{
    size_t           start, inner;
    unsigned         i;
    db_value_t       least;
    const db_key_t  *key;

    db_bson_bool(out, db_string("unique"), 1);
    db_bson_name(out, DB_BSON_OBJECT, db_string("partialFilterExpression"));
    start = db_bson_begin(out);

    for (i = 0; i < index->nkeys; i++) {
        key = &index->keys[i];
        least = (db_value_t) { .kind = key->kind };

        switch (key->kind) {

        case DB_VALUE_INT:
        case DB_VALUE_REAL:
            least.kind = DB_VALUE_REAL;
            least.real = -__builtin_inf();
            break;

        case DB_VALUE_TIME:
            least.integer = INT64_MIN;
            break;

        default:
            least.text = db_string("");
        }

        db_bson_name(out, DB_BSON_OBJECT,
                     db_mongo_path(out->arena, &key->path));
        inner = db_bson_begin(out);
        db_bson_value(out, db_string("$gte"), &least);
        db_bson_end(out, inner);
    }

    db_bson_end(out, start);
}


static void
db_mongo_index(db_buf_t *out, const db_index_t *index)
{
    size_t      start;
    db_buf_t    name;
    db_key_t    id;
    db_value_t  text;

    static const db_str_t  steps[] = { { "id", 2 } };

    db_bson_name(out, DB_BSON_OBJECT, db_string("key"));
    start = db_bson_begin(out);
    db_mongo_sort(out, index->keys, index->nkeys);

    if (!index->unique) {
        id = (db_key_t) { .path = { steps, 1 } };
        id.descending = index->keys[index->nkeys - 1].descending;
        db_mongo_sort(out, &id, 1);
    }

    db_bson_end(out, start);

    db_buf_init(&name, out->arena, 128);
    db_mongo_index_name(&name, index);
    out->failed |= name.failed;

    text = (db_value_t) { .kind = DB_VALUE_TEXT,
                          .text = { name.data, name.len } };
    db_bson_value(out, db_string("name"), &text);

    if (index->unique) {
        db_mongo_unique(out, index);
    }
}


static db_store_status_t
db_mongo_create_indexes(db_mongo_call_t *call)
{
    char                    name[DB_BSON_INDEX];
    bson_t                  command, reply;
    size_t                  start, list, item;
    unsigned                i;
    db_buf_t                out;
    db_value_t              text;
    db_store_status_t       status;
    const db_collection_t  *collection;

    collection = call->op->collection;

    db_buf_init(&out, call->arena, 1024);
    start = db_bson_begin(&out);

    text = (db_value_t) { .kind = DB_VALUE_TEXT, .text = collection->name };
    db_bson_value(&out, db_string("createIndexes"), &text);

    db_bson_name(&out, DB_BSON_ARRAY, db_string("indexes"));
    list = db_bson_begin(&out);

    for (i = 0; i < collection->nindexes; i++) {
        db_bson_name(&out, DB_BSON_OBJECT, db_bson_index(name, i));
        item = db_bson_begin(&out);
        db_mongo_index(&out, &collection->indexes[i]);
        db_bson_end(&out, item);
    }

    db_bson_end(&out, list);
    db_bson_end(&out, start);

    if (db_mongo_bson(&command, &out) != DB_OK) {
        return db_mongo_no_memory(call);
    }

    status = DB_STORE_OK;

    if (!mongoc_client_write_command_with_opts(call->client,
                                               call->store->database, &command,
                                               NULL, &reply, &call->error))
    {
        status = db_mongo_failed(call, "its indexes cannot be made");

        /* documents that are there already are not this write's fault */

        if (status == DB_STORE_CONFLICT) {
            db_mongo_log(call->store, DB_LOG_ERROR, "its indexes cannot be"
                         " made", call->error.message);
            status = DB_STORE_FAILED;
        }
    }

    bson_destroy(&reply);

    return status;
}


static db_mongo_ready_t *
db_mongo_readiness(db_mongo_t *store, const db_collection_t *collection)
{
    db_mongo_ready_t  *ready;

    ready = atomic_load(&store->collections);

    while (ready && ready->collection != collection) {
        ready = ready->next;
    }

    return ready;
}


int
db_mongo_is_ready(db_mongo_t *store, const db_collection_t *collection)
{
    db_mongo_ready_t  *ready;

    ready = db_mongo_readiness(store, collection);

    return ready == NULL || atomic_load(&ready->ready);
}


db_store_status_t
db_mongo_make_ready(db_mongo_call_t *call)
{
    int                 reads;
    uint64_t            tried;
    db_mongo_ready_t   *ready;
    db_store_status_t   status;

    ready = db_mongo_readiness(call->store, call->op->collection);

    if (ready == NULL || atomic_load(&ready->ready)) {
        return DB_STORE_OK;
    }

    reads = (call->op->kind == DB_STORE_GET || call->op->kind == DB_STORE_LIST);
    tried = atomic_load(&ready->tried);

    if (reads && tried && call->started - tried < DB_MONGO_RETRY) {
        return DB_STORE_OK;
    }

    atomic_store(&ready->tried, call->started);
    status = db_mongo_create_indexes(call);

    if (status == DB_STORE_OK) {
        atomic_store(&ready->ready, 1);
    }

    return (status == DB_STORE_FAILED && reads) ? DB_STORE_OK : status;
}
