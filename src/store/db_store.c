/*
 * The door to all stores: a URI's scheme chooses the driver, an open store
 * knows its own.
 */

#include "store/db_driver.h"

#include <stdio.h>


static const struct {
    db_str_t                  scheme;
    const db_store_driver_t  *driver;
} db_store_schemes[] = {
    { { "sqlite:", 7 }, &db_sqlite_driver },
    { { "mongodb://", 10 }, &db_mongo_loader },
    { { "mongodb+srv://", 14 }, &db_mongo_loader },
};


static const db_store_driver_t *
db_store_driver(db_str_t uri, char *error, size_t size)
{
    size_t    i, len;
    db_str_t  scheme;

    for (i = 0;
         i < sizeof(db_store_schemes) / sizeof(db_store_schemes[0]);
         i++)
    {
        scheme = db_store_schemes[i].scheme;

        if (uri.len >= scheme.len
            && memcmp(uri.data, scheme.data, scheme.len) == 0)
        {
            return db_store_schemes[i].driver;
        }
    }

    /* no more of it: there may be a password */

    for (len = 0; len < uri.len && uri.data[len] != ':'; len++) {
        /* void */
    }

    snprintf(error, size, "\"%.*s\" is not a store: expected"
             " sqlite:/path/to/file.db or mongodb://host/database", (int) len,
             uri.data);

    return NULL;
}


int
db_store_check_uri(db_str_t uri, char *error, size_t size)
{
    const db_store_driver_t  *driver;

    driver = db_store_driver(uri, error, size);

    return driver ? driver->check_uri(uri, error, size) : DB_ERROR;
}


int
db_store_try(db_str_t uri, char *error, size_t size)
{
    const db_store_driver_t  *driver;

    driver = db_store_driver(uri, error, size);

    return driver ? driver->try(uri, error, size) : DB_ERROR;
}


db_store_t *
db_store_open(db_str_t uri, db_log_pt log, void *log_ctx, char *error,
    size_t size)
{
    const db_store_driver_t  *driver;

    driver = db_store_driver(uri, error, size);

    return driver ? driver->open(uri, log, log_ctx, error, size) : NULL;
}


void
db_store_close(db_store_t *store)
{
    store->driver->close(store);
}


int
db_store_prepare(db_store_t *store, const db_collection_t *collection,
    char *error, size_t size)
{
    return store->driver->prepare(store, collection, error, size);
}


int
db_store_catalog(db_store_t *store, db_arena_t *arena,
    db_catalog_entry_t **first, char *error, size_t size)
{
    return store->driver->catalog(store, arena, first, error, size);
}


void
db_store_read(db_store_t *store, db_store_op_t *op)
{
    store->driver->read(store, op);
}


void
db_store_cycle_end(db_store_t *store)
{
    store->driver->cycle_end(store);
}


int
db_store_fd(db_store_t *store)
{
    return store->driver->fd ? store->driver->fd(store) : -1;
}


void
db_store_watch(db_store_t *store)
{
    store->driver->watch(store);
}


void
db_store_event(db_store_t *store)
{
    store->driver->event(store);
}


void
db_store_work(db_store_t *store, db_store_op_t *op)
{
    store->driver->work(store, op);
}


void
db_store_worked(db_store_t *store, db_store_op_t *op)
{
    store->driver->worked(store, op);
}


void
db_store_submit(db_store_t *store, db_store_op_t *op)
{
    store->driver->submit(store, op);
}
