/*
 * Errors of the driver.  Their texts, which hold host names and values, go
 * to the log and nowhere else.
 */

#include "store/mongo/mongo.h"

#include <stdio.h>


#define DB_MONGO_SECOND  1000000000ull


void
db_mongo_log(db_mongo_t *store, db_log_level_t level, const char *what,
    const char *why)
{
    char  text[1024];

    snprintf(text, sizeof(text), "mongodb store \"%s\": %s: %s", store->name,
             what, why);

    store->log(store->log_ctx, level, text);
}


void
db_mongo_log_away(db_mongo_t *store, const char *what, const char *why)
{
    uint64_t  now, last;

    now = db_mongo_now();
    last = atomic_load(&store->logged);

    if ((last == 0 || now - last > DB_MONGO_SECOND)
        && atomic_compare_exchange_strong(&store->logged, &last, now))
    {
        db_mongo_log(store, DB_LOG_ERROR, what, why);
    }
}


void
db_mongo_log_late(db_mongo_t *store)
{
    db_mongo_log_away(store, "it is too slow", "operations have waited too"
                      " long for those before them");
}


static db_store_status_t
db_mongo_server_status(uint32_t code)
{
    switch (code) {

    case 11000:                      /* DuplicateKey, and its old numbers */
    case 11001:
    case 12582:
        return DB_STORE_CONFLICT;

    case 52:                         /* DollarPrefixedFieldName */
    case 56:                         /* EmptyFieldName */
    case 57:                         /* DottedFieldName */
    case 121:                        /* DocumentValidationFailure */
    case 10334:                      /* BSONObjectTooLarge */
    case 17280:                      /* KeyTooLong */
        return DB_STORE_REFUSED;

    case 50:                         /* MaxTimeMSExpired */
    case 64:                         /* WriteConcernTimeout */
    case 262:                        /* ExceededTimeLimit */
        return DB_STORE_TIMEOUT;

    case 112:                        /* WriteConflict */
        return DB_STORE_BUSY;

    case 6:                          /* HostUnreachable */
    case 7:                          /* HostNotFound */
    case 89:                         /* NetworkTimeout */
    case 91:                         /* ShutdownInProgress */
    case 189:                        /* PrimarySteppedDown */
    case 9001:                       /* SocketException */
    case 10107:                      /* NotWritablePrimary */
    case 11600:                      /* InterruptedAtShutdown */
    case 11602:                      /* InterruptedDueToReplStateChange */
    case 13435:                      /* NotPrimaryNoSecondaryOk */
    case 13436:                      /* NotPrimaryOrSecondary */
        return DB_STORE_AWAY;

    case 14031:                      /* OutOfDiskSpace */
        return DB_STORE_FULL;

    default:
        return DB_STORE_FAILED;
    }
}


db_store_status_t
db_mongo_status(const db_mongo_call_t *call)
{
    const bson_error_t  *error;

    error = &call->error;

    switch (error->domain) {

    case MONGOC_ERROR_SERVER:
        return db_mongo_server_status(error->code);

    case MONGOC_ERROR_WRITE_CONCERN:
        return DB_STORE_TIMEOUT;

    case MONGOC_ERROR_SERVER_SELECTION:
        return DB_STORE_AWAY;

    case MONGOC_ERROR_STREAM:

        /* the driver has one error for a timeout and for a closed socket */

        return (error->code == MONGOC_ERROR_STREAM_SOCKET
                && db_mongo_now() - call->started
                   >= call->store->socket_timeout / 10 * 9)
               ? DB_STORE_TIMEOUT : DB_STORE_AWAY;

    default:
        return DB_STORE_FAILED;
    }
}


db_store_status_t
db_mongo_failed(db_mongo_call_t *call, const char *what)
{
    char                why[sizeof(call->error.message) + 64];
    db_mongo_t         *store;
    db_store_status_t   status;

    store = call->store;
    status = db_mongo_status(call);

    if (status == DB_STORE_CONFLICT) {
        return status;
    }

    /* whoever has waited behind this one would wait as long in vain */

    if (call->error.domain == MONGOC_ERROR_SERVER_SELECTION
        || (call->error.domain == MONGOC_ERROR_STREAM
            && status == DB_STORE_TIMEOUT))
    {
        atomic_store(&store->failed, db_mongo_now());
    }

    snprintf(why, sizeof(why), "%s (%u.%u)", call->error.message,
             call->error.domain, call->error.code);

    if (status == DB_STORE_AWAY) {
        db_mongo_log_away(store, what, why);

    } else {
        db_mongo_log(store, status == DB_STORE_REFUSED ? DB_LOG_INFO
                                                       : DB_LOG_ERROR,
                     what, why);
    }

    return status;
}


/*
 * The server names the index in its message, before the values: "... index:
 * email_1 dup key: ...".
 */

static db_store_status_t
db_mongo_conflict(db_mongo_call_t *call)
{
    size_t                  len;
    db_buf_t                name;
    unsigned                i;
    const char             *at;
    const db_collection_t  *collection;

    collection = call->op->collection;
    at = strstr(call->error.message, "index: ");
    at = at ? at + sizeof("index: ") - 1 : "";
    len = strcspn(at, " ");

    if (len == 0 || (len == 4 && memcmp(at, "_id_", 4) == 0)) {
        call->op->conflict = NULL;
        return DB_STORE_CONFLICT;
    }

    for (i = 0; i < collection->nindexes; i++) {
        db_buf_init(&name, call->arena, 128);
        db_mongo_index_name(&name, &collection->indexes[i]);

        if (collection->indexes[i].unique
            && db_str_eq((db_str_t) { name.data, name.len },
                         (db_str_t) { at, len }))
        {
            call->op->conflict = &collection->indexes[i];
            return DB_STORE_CONFLICT;
        }
    }

    db_mongo_log(call->store, DB_LOG_WARN, "a unique index that the model"
                 " does not declare refuses a document",
                 call->error.message);

    return DB_STORE_REFUSED;
}


db_store_status_t
db_mongo_write_failed(db_mongo_call_t *call, const char *what)
{
    db_store_status_t  status;

    status = db_mongo_failed(call, what);

    return status == DB_STORE_CONFLICT ? db_mongo_conflict(call) : status;
}
