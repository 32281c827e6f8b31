/*
 * The life of a MongoDB store: its URI, its threads, and the way of each
 * operation to a client and back.
 *
 * Nothing here is asked of a server before the first operation, so that a
 * worker starts at once whether there is one or not.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE              /* memrchr() */
#endif

#include "store/mongo/mongo.h"

#include "core/db_thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>


#define DB_MONGO_ARENA  2048         /* of an operation */


uint64_t
db_mongo_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}


mongoc_collection_t *
db_mongo_collection(db_mongo_call_t *call)
{
    char      name[64];
    db_str_t  collection;

    if (call->collection == NULL) {
        collection = call->op->collection->name;

        snprintf(name, sizeof(name), "%.*s", (int) collection.len,
                 collection.data);

        call->collection = mongoc_client_get_collection(call->client,
                                                        call->store->database,
                                                        name);
    }

    return call->collection;
}


static db_store_status_t
db_mongo_call(db_mongo_call_t *call)
{
    db_store_status_t  status;

    status = db_mongo_make_ready(call);

    if (status != DB_STORE_OK) {
        return status;
    }

    switch (call->op->kind) {

    case DB_STORE_GET:
    case DB_STORE_LIST:
        return db_mongo_find(call);

    case DB_STORE_INSERT:
        return db_mongo_insert(call);

    default:
        return db_mongo_change(call);
    }
}


unsigned
db_mongo_pool_size(const db_mongo_t *store)
{
    int32_t  size;

    size = mongoc_uri_get_option_as_int32(store->uri, MONGOC_URI_MAXPOOLSIZE,
                                          DB_MONGO_POOL);

    return size > 0 ? (unsigned) size : DB_MONGO_POOL;
}


static mongoc_client_pool_t *
db_mongo_pool(db_mongo_t *store, bson_error_t *error)
{
    mongoc_client_pool_t  *pool;

    pthread_mutex_lock(&store->pool_mutex);

    if (store->pool == NULL) {
        store->pool = mongoc_client_pool_new_with_error(store->uri, error);

        if (store->pool) {
            mongoc_client_pool_set_error_api(store->pool,
                                             MONGOC_ERROR_API_VERSION_2);
            mongoc_client_pool_max_size(store->pool,
                                        db_mongo_pool_size(store)
                                        - store->direct.max);
        }
    }

    pool = store->pool;

    pthread_mutex_unlock(&store->pool_mutex);

    return pool;
}


/* Whether others have kept it from its turn for too long. */

static int
db_mongo_is_late(db_mongo_call_t *call)
{
    db_mongo_t     *store;
    db_store_op_t  *op;

    op = call->op;
    store = call->store;

    if (op->asked < atomic_load(&store->failed)) {
        op->status = DB_STORE_AWAY;
        return 1;
    }

    if (call->started - op->asked > DB_MONGO_WAIT * 1000000ull) {
        db_mongo_log_late(store);
        op->status = DB_STORE_BUSY;
        return 1;
    }

    return 0;
}


void
db_mongo_call_init(db_mongo_call_t *call, db_mongo_t *store,
    db_store_op_t *op, db_arena_t *arena)
{
    memset(call, 0, sizeof(db_mongo_call_t));

    call->store = store;
    call->op = op;
    call->arena = arena;
    call->started = db_mongo_now();
    call->len = op->out ? op->out->len : 0;

    op->version = 0;
    op->created = 0;
    op->conflict = NULL;
    op->item = 0;
}


void
db_mongo_end(db_mongo_call_t *call, db_store_status_t status)
{
    db_store_op_t  *op;

    op = call->op;
    op->status = status;

    if (status != DB_STORE_OK && op->out) {
        op->out->len = call->len;

    } else if (op->out && op->out->failed) {
        op->status = DB_STORE_FAILED;
    }
}


/* Any thread that may block. */

static void
db_mongo_run(db_mongo_t *store, db_store_op_t *op)
{
    db_arena_t            *arena;
    db_mongo_call_t        call;
    mongoc_client_pool_t  *pool;

    arena = db_arena_create(DB_MONGO_ARENA);

    if (arena == NULL) {
        op->status = DB_STORE_FAILED;
        return;
    }

    db_mongo_call_init(&call, store, op, arena);

    if (db_mongo_is_late(&call)) {
        db_arena_destroy(arena);
        return;
    }

    pool = db_mongo_pool(store, &call.error);

    if (pool == NULL) {
        atomic_store(&store->failed, db_mongo_now());
        db_mongo_log_away(store, "it cannot be used", call.error.message);
        op->status = DB_STORE_AWAY;

    } else if ((call.client = mongoc_client_pool_try_pop(pool)) == NULL) {
        db_mongo_log_away(store, "all its connections are in use", "raise"
                          " maxPoolSize in its URI");
        op->status = DB_STORE_BUSY;

    } else {
        db_mongo_end(&call, db_mongo_call(&call));

        if (call.collection) {
            mongoc_collection_destroy(call.collection);
        }

        mongoc_client_pool_push(pool, call.client);
    }

    db_arena_destroy(arena);
}


static void *
db_mongo_writer(void *data)
{
    db_mongo_t *store = data;

    db_store_op_t  *op;

    pthread_mutex_lock(&store->mutex);

    for ( ;; ) {
        op = store->queue;

        if (op == NULL) {
            if (store->stop) {
                break;
            }

            if (db_mongo_direct_work(store)) {
                continue;
            }

            pthread_cond_wait(&store->cond, &store->mutex);
            continue;
        }

        store->queue = op->next;
        store->waiting--;

        if (store->queue == NULL) {
            store->tail = &store->queue;
        }

        pthread_mutex_unlock(&store->mutex);

        op->next = NULL;
        db_mongo_run(store, op);
        op->done(op);

        pthread_mutex_lock(&store->mutex);
    }

    pthread_mutex_unlock(&store->mutex);

    return NULL;
}


static void
db_mongo_init(void)
{
    mongoc_init();

    /* what matters is told by the errors of operations */

    mongoc_log_set_handler(NULL, NULL);
}


/*
 * What the driver does not like about a URI, without its user name and
 * password: a message may repeat what is wrong.
 */

static void
db_mongo_explain(const char *uri, const char *message, char *error,
    size_t size)
{
    char          *bare;
    size_t         scheme;
    const char    *at, *end;
    bson_error_t   reason;
    mongoc_uri_t  *parsed;

    scheme = (size_t) (strstr(uri, "://") + 3 - uri);
    end = uri + scheme + strcspn(uri + scheme, "/?");
    at = memrchr(uri + scheme, '@', (size_t) (end - uri) - scheme);
    bare = at ? malloc(strlen(uri) + 1) : NULL;

    if (bare) {
        memcpy(bare, uri, scheme);
        strcpy(bare + scheme, at + 1);

        parsed = mongoc_uri_new_with_error(bare, &reason);
        message = parsed ? "its user name, password or their options are not"
                           " right (\"%\", \"/\", \"@\" and \":\" in them are"
                           " written %25, %2F, %40 and %3A)"
                         : reason.message;
        free(bare);

        if (parsed) {
            mongoc_uri_destroy(parsed);
        }

    } else if (at) {
        message = "out of memory";
    }

    snprintf(error, size, "mongodb store: the driver refuses its URI: %s",
             message);
}


/* Hosts and database of a URI that the driver has taken. */

static void
db_mongo_name(char *name, const char *uri)
{
    size_t       len;
    const char  *start, *at;

    start = strstr(uri, "://") + 3;
    at = memrchr(start, '@', strcspn(start, "/?"));

    if (at) {
        start = at + 1;
    }

    len = strcspn(start, "?");
    memcpy(name, start, len);
    name[len] = '\0';
}


static void
db_mongo_default(mongoc_uri_t *uri, const char *option, int32_t ms)
{
    if (!mongoc_uri_has_option(uri, option)) {
        (void) mongoc_uri_set_option_as_int32(uri, option, ms);
    }
}


static int
db_mongo_configure(db_mongo_t *store, db_str_t text, char *error, size_t size)
{
    char          *uri;
    bson_error_t   reason;

    uri = malloc(2 * (text.len + 1));
    if (uri == NULL) {
        snprintf(error, size, "out of memory");
        return DB_ERROR;
    }

    memcpy(uri, text.data, text.len);
    uri[text.len] = '\0';

    store->uri = mongoc_uri_new_with_error(uri, &reason);

    if (store->uri == NULL) {
        db_mongo_explain(uri, reason.message, error, size);
        free(uri);
        return DB_ERROR;
    }

    /* the copy becomes the name, in the place of the URI */

    db_mongo_name(uri + text.len + 1, uri);
    strcpy(uri, uri + text.len + 1);
    store->name = uri;
    store->database = mongoc_uri_get_database(store->uri);

    db_mongo_default(store->uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS,
                     DB_MONGO_SELECTION);
    db_mongo_default(store->uri, MONGOC_URI_CONNECTTIMEOUTMS,
                     DB_MONGO_CONNECT);
    db_mongo_default(store->uri, MONGOC_URI_SOCKETTIMEOUTMS, DB_MONGO_SOCKET);

    if (mongoc_uri_get_appname(store->uri) == NULL) {
        (void) mongoc_uri_set_appname(store->uri, "databridge");
    }

    store->socket_timeout = 1000000ull
                            * (uint64_t) mongoc_uri_get_option_as_int32(
                                  store->uri, MONGOC_URI_SOCKETTIMEOUTMS,
                                  DB_MONGO_SOCKET);

    return DB_OK;
}


/* The driver's threads inherit what signals these take: none. */

static int
db_mongo_start(db_mongo_t *store, char *error, size_t size)
{
    int  err;

    for (err = 0; err == 0 && store->nthreads < DB_MONGO_WRITERS; ) {
        err = db_thread_start(&store->threads[store->nthreads],
                              db_mongo_writer, store);
        store->nthreads += (err == 0);
    }

    if (err) {
        snprintf(error, size, "mongodb store \"%s\": cannot start a thread:"
                 " %s", store->name, strerror(err));
        return DB_ERROR;
    }

    return DB_OK;
}


static void
db_mongo_close(db_store_t *base)
{
    db_mongo_t *store = (db_mongo_t *) base;

    db_mongo_ready_t  *ready;

    pthread_mutex_lock(&store->mutex);
    store->stop = 1;
    pthread_cond_broadcast(&store->cond);
    pthread_mutex_unlock(&store->mutex);

    while (store->nthreads) {
        pthread_join(store->threads[--store->nthreads], NULL);
    }

    db_mongo_direct_done(store);

    if (store->pool) {
        mongoc_client_pool_destroy(store->pool);
    }

    while ((ready = atomic_load(&store->collections)) != NULL) {
        atomic_store(&store->collections, ready->next);
        free(ready);
    }

    pthread_mutex_destroy(&store->pool_mutex);
    pthread_mutex_destroy(&store->mutex);
    pthread_cond_destroy(&store->cond);

    mongoc_uri_destroy(store->uri);
    free(store->name);
    free(store);
}


static db_store_t *
db_mongo_open(db_str_t uri, db_log_pt log, void *log_ctx, char *error,
    size_t size)
{
    db_mongo_t             *store;

    static pthread_once_t   once = PTHREAD_ONCE_INIT;

    pthread_once(&once, db_mongo_init);

    store = calloc(1, sizeof(db_mongo_t));
    if (store == NULL) {
        snprintf(error, size, "out of memory");
        return NULL;
    }

    store->base.driver = &db_mongo_driver;
    store->log = log;
    store->log_ctx = log_ctx;
    store->tail = &store->queue;
    db_mongo_direct_init(&store->direct);

    if (db_mongo_configure(store, uri, error, size) != DB_OK) {
        free(store);
        return NULL;
    }

    pthread_mutex_init(&store->pool_mutex, NULL);
    pthread_mutex_init(&store->mutex, NULL);
    pthread_cond_init(&store->cond, NULL);

    if (db_mongo_start(store, error, size) != DB_OK) {
        db_mongo_close(&store->base);
        return NULL;
    }

    return &store->base;
}


/* A collection comes into being with its first document, or index. */

static int
db_mongo_prepare(db_store_t *base, const db_collection_t *collection,
    char *error, size_t size)
{
    db_mongo_t *store = (db_mongo_t *) base;

    db_mongo_ready_t  *ready;

    if (collection->nindexes == 0) {
        return DB_OK;
    }

    ready = calloc(1, sizeof(db_mongo_ready_t));
    if (ready == NULL) {
        snprintf(error, size, "out of memory");
        return DB_ERROR;
    }

    ready->collection = collection;
    ready->next = atomic_load(&store->collections);

    while (!atomic_compare_exchange_weak(&store->collections, &ready->next,
                                         ready))
    {
        /* void */
    }

    return DB_OK;
}


static int
db_mongo_catalog(db_store_t *base, db_arena_t *arena,
    db_catalog_entry_t **first, char *error, size_t size)
{
    db_mongo_t *store = (db_mongo_t *) base;

    int                    rc;
    bson_error_t           reason;
    mongoc_client_t       *client;
    mongoc_client_pool_t  *pool;

    *first = NULL;
    rc = DB_ERROR;

    pool = db_mongo_pool(store, &reason);

    if (pool) {
        client = mongoc_client_pool_pop(pool);
        rc = db_mongo_list_collections(store, client, arena, first, &reason);
        mongoc_client_pool_push(pool, client);
    }

    if (rc != DB_OK) {
        snprintf(error, size, "mongodb store \"%s\": cannot be read: %s",
                 store->name, reason.message);
    }

    return rc;
}


static void
db_mongo_read(db_store_t *base, db_store_op_t *op)
{
    op->asked = db_mongo_now();
    op->state = 0;
    op->status = db_mongo_direct((db_mongo_t *) base, op);
}


static void
db_mongo_cycle_end(db_store_t *base)
{
}


static void
db_mongo_work(db_store_t *base, db_store_op_t *op)
{
    db_mongo_run((db_mongo_t *) base, op);
}


static void
db_mongo_worked(db_store_t *base, db_store_op_t *op)
{
}


static void
db_mongo_submit(db_store_t *base, db_store_op_t *op)
{
    db_mongo_t *store = (db_mongo_t *) base;

    int  full;

    op->next = NULL;
    op->asked = db_mongo_now();

    pthread_mutex_lock(&store->mutex);

    full = (store->waiting == DB_MONGO_QUEUE);

    if (!full) {
        *store->tail = op;
        store->tail = &op->next;
        store->waiting++;
    }

    pthread_mutex_unlock(&store->mutex);

    if (full) {
        db_mongo_log_away(store, "it is too slow", "too many writes wait");
        op->status = DB_STORE_BUSY;
        op->done(op);
        return;
    }

    pthread_cond_signal(&store->cond);
}


const db_store_driver_t  db_mongo_driver = {
    .version = DB_STORE_DRIVER,
    .open = db_mongo_open,
    .close = db_mongo_close,
    .prepare = db_mongo_prepare,
    .catalog = db_mongo_catalog,
    .read = db_mongo_read,
    .cycle_end = db_mongo_cycle_end,
    .fd = db_mongo_fd,
    .watch = db_mongo_watch,
    .event = db_mongo_event,
    .work = db_mongo_work,
    .worked = db_mongo_worked,
    .submit = db_mongo_submit,
};
