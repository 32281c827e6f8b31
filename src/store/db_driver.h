/*
 * What stands behind db_store.h: a driver for each scheme.
 *
 * A driver's store begins with a db_store_t.  Its functions are called by
 * the threads that db_store.h names.
 */

#ifndef DB_DRIVER_H
#define DB_DRIVER_H

#include "store/db_store.h"


/* Raised when db_store.h or this file changes: a driver may be a file. */
#define DB_STORE_DRIVER  7


typedef struct {
    unsigned      version;         /* DB_STORE_DRIVER */

    int         (*check_uri)(db_str_t uri, char *error, size_t size);
    int         (*try)(db_str_t uri, char *error, size_t size);
    db_store_t *(*open)(db_str_t uri, db_log_pt log, void *log_ctx,
                        char *error, size_t size);
    void        (*close)(db_store_t *store);
    int         (*prepare)(db_store_t *store,
                           const db_collection_t *collection, char *error,
                           size_t size);
    int         (*catalog)(db_store_t *store, db_arena_t *arena,
                           db_catalog_entry_t **first, char *error,
                           size_t size);
    void        (*read)(db_store_t *store, db_store_op_t *op);
    void        (*cycle_end)(db_store_t *store);
    int         (*fd)(db_store_t *store);       /* these three, or NULL */
    void        (*watch)(db_store_t *store);
    void        (*event)(db_store_t *store);
    void        (*work)(db_store_t *store, db_store_op_t *op);
    void        (*worked)(db_store_t *store, db_store_op_t *op);
    void        (*submit)(db_store_t *store, db_store_op_t *op);
} db_store_driver_t;


struct db_store_s {
    const db_store_driver_t  *driver;
};


/* Whether a document of this version may be written; else it is MISMATCH. */

static inline int
db_store_matches(const db_store_op_t *op, uint64_t version)
{
    unsigned  i;

    if (op->absent) {
        return 0;
    }

    for (i = 0; i < op->nothers; i++) {
        if (op->others[i] == version) {
            return 0;
        }
    }

    for (i = 0; i < op->nversions; i++) {
        if (op->versions[i] == version) {
            return 1;
        }
    }

    return op->nversions == 0;
}


extern const db_store_driver_t  db_sqlite_driver;

/*
 * MongoDB's, which is linked to mongo-c-driver, is a shared object beside
 * the module and loaded when a store is opened: this one checks a URI and
 * opens, with that one's functions, stores that are that one's.
 */
extern const db_store_driver_t  db_mongo_loader;

#define DB_MONGO_FILE    "databridge_mongo.so"
#define DB_MONGO_SYMBOL  "db_mongo_driver"

#endif /* DB_DRIVER_H */
