/*
 * The collections of a database that databridge can read: those whose ids are
 * all int, all text or all ObjectId, as far as the first and the last tell.
 * Runs on any thread that may block, with a client of its own.
 */

#include "store/mongo/mongo.h"

#include <stdio.h>
#include <stdlib.h>


/* The longest that a name may have: see db_collection_t. */

#define DB_MONGO_NAME_LENGTH  63


static int
db_mongo_compare(const void *one, const void *two)
{
    return strcmp(*(char *const *) one, *(char *const *) two);
}


/*
 * The type of the least id, or of the greatest.  DB_DECLINED: there is none;
 * DB_ERROR: see *error.
 */

static int
db_mongo_id_type(mongoc_collection_t *collection, int order,
    bson_type_t *type, bson_error_t *error)
{
    int               rc;
    bson_t            filter, *opts;
    bson_iter_t       iter;
    const bson_t     *found;
    mongoc_cursor_t  *cursor;

    opts = BCON_NEW("sort", "{", "_id", BCON_INT32(order), "}",
                    "projection", "{", "_id", BCON_INT32(1), "}",
                    "limit", BCON_INT64(1), "singleBatch", BCON_BOOL(true),
                    "maxTimeMS", BCON_INT64(DB_MONGO_TIME_LIMIT));
    bson_init(&filter);
    cursor = mongoc_collection_find_with_opts(collection, &filter, opts, NULL);

    rc = DB_DECLINED;

    if (mongoc_cursor_next(cursor, &found)
        && bson_iter_init_find(&iter, found, "_id"))
    {
        *type = bson_iter_type(&iter);
        rc = DB_OK;

    } else if (mongoc_cursor_error(cursor, error)) {
        rc = DB_ERROR;
    }

    mongoc_cursor_destroy(cursor);
    bson_destroy(&filter);
    bson_destroy(opts);

    return rc;
}


/* Whether ids of the type are of a kind that a collection may have. */

static int
db_mongo_kind(bson_type_t type, db_catalog_entry_t *entry)
{
    switch (type) {

    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
        entry->id_kind = DB_VALUE_INT;
        return 1;

    case BSON_TYPE_OID:
        entry->objectid = 1;

        /* fall through */

    case BSON_TYPE_UTF8:
        entry->id_kind = DB_VALUE_TEXT;
        return 1;

    default:
        return 0;
    }
}


/* DB_DECLINED: it is none of those; an empty one is of any kind, so text. */

static int
db_mongo_describe(mongoc_collection_t *collection, db_catalog_entry_t *entry,
    bson_error_t *error)
{
    int                 rc;
    int64_t             count;
    bson_type_t         least, greatest;
    db_catalog_entry_t  other;

    least = greatest = BSON_TYPE_UTF8;

    rc = db_mongo_id_type(collection, 1, &least, error);

    if (rc == DB_OK) {
        rc = db_mongo_id_type(collection, -1, &greatest, error);
    }

    if (rc == DB_ERROR) {
        return DB_ERROR;
    }

    other = *entry;

    if (!db_mongo_kind(least, entry) || !db_mongo_kind(greatest, &other)
        || entry->id_kind != other.id_kind
        || entry->objectid != other.objectid)
    {
        return DB_DECLINED;
    }

    count = mongoc_collection_estimated_document_count(collection, NULL, NULL,
                                                       NULL, error);
    entry->count = (uint64_t) count;

    return count < 0 ? DB_ERROR : DB_OK;
}


static int
db_mongo_entries(mongoc_client_t *client, const char *database, char **names,
    db_arena_t *arena, db_catalog_entry_t **tail, bson_error_t *error)
{
    int                   rc;
    char                **name;
    db_catalog_entry_t   *entry;
    mongoc_collection_t  *collection;

    for (name = names; *name; name++) {

        if (strlen(*name) > DB_MONGO_NAME_LENGTH
            || strncmp(*name, "system.", sizeof("system.") - 1) == 0)
        {
            continue;
        }

        entry = db_arena_calloc(arena, sizeof(db_catalog_entry_t));

        if (entry) {
            entry->name = db_arena_str(arena, (db_str_t) { *name,
                                                           strlen(*name) });
        }

        if (entry == NULL || entry->name.data == NULL) {
            snprintf(error->message, sizeof(error->message), "out of memory");
            return DB_ERROR;
        }

        collection = mongoc_client_get_collection(client, database, *name);
        rc = db_mongo_describe(collection, entry, error);
        mongoc_collection_destroy(collection);

        if (rc == DB_ERROR) {
            return DB_ERROR;
        }

        if (rc == DB_OK) {
            *tail = entry;
            tail = &entry->next;
        }
    }

    return DB_OK;
}


int
db_mongo_list_collections(db_mongo_t *store, mongoc_client_t *client,
    db_arena_t *arena, db_catalog_entry_t **first, bson_error_t *error)
{
    int                  rc;
    char               **names;
    size_t               n;
    mongoc_database_t   *database;

    database = mongoc_client_get_database(client, store->database);
    names = mongoc_database_get_collection_names_with_opts(database, NULL,
                                                           error);
    mongoc_database_destroy(database);

    if (names == NULL) {
        return DB_ERROR;
    }

    for (n = 0; names[n]; n++) {
        /* void */
    }

    qsort(names, n, sizeof(char *), db_mongo_compare);

    rc = db_mongo_entries(client, store->database, names, arena, first, error);

    bson_strfreev(names);

    return rc;
}
