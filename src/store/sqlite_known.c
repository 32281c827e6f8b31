/*
 * Documents that are known: what the last gets by id have found, as long as
 * nobody has written to the database.  The nginx thread's.
 *
 * The index of the log, memory that all connections share, begins with the
 * words that tell one state of the database from another: by them SQLite
 * learns whether the pages that a connection keeps are still right.  A commit
 * of any process changes them before it returns, and a state never comes
 * back.  A document is kept under the state that was there before the
 * transaction that has read it began, which may see a later one, but no
 * earlier one.  So when the words are still those, the document is as it was.
 *
 * It is kept when it is asked for the second time in the same state: gets all
 * over a large collection, or between commits, copy nothing.
 */

#include "store/sqlite.h"

#include <stdlib.h>


#define DB_KNOWN_REGION    32768      /* of the index, as SQLite maps it */
#define DB_KNOWN_ID        256        /* bytes; longer ones are not kept */
#define DB_KNOWN_DOCUMENT  2048


/* Its text, or the bytes of a number. */

static db_str_t
db_known_id(const db_value_t *id)
{
    return id->kind == DB_VALUE_INT
           ? (db_str_t) { (const char *) &id->integer, sizeof(id->integer) }
           : id->text;
}


/*
 * Its upper bits are for places: those of ids that are alike differ, wherever
 * the collection lies.  Both halves of a product have to be in it: of what
 * differs in a word's upper bytes alone the lower half has little.
 */

static uint64_t
db_known_hash(const db_collection_t *collection, db_str_t id)
{
    size_t             n;
    uint64_t           hash, word;
    unsigned __int128  product;

    hash = (uintptr_t) collection;

    while (id.len) {
        n = id.len < sizeof(word) ? id.len : sizeof(word);
        word = 0;
        memcpy(&word, id.data, n);

        product = (unsigned __int128) (hash ^ word) * 0x9e3779b97f4a7c15;
        hash = (uint64_t) product ^ (uint64_t) (product >> 64);

        id.data += n;
        id.len -= n;
    }

    return hash * 0x9e3779b97f4a7c15;
}


int
db_sqlite_known_init(db_sqlite_t *store)
{
    int             rc;
    sqlite3        *db;
    sqlite3_file   *file;
    volatile void  *index;

    file = NULL;
    index = NULL;
    db = store->reader->db;

    /* a first read opens the log and its index */

    rc = sqlite3_exec(db, "PRAGMA schema_version", NULL, NULL, NULL);

    if (rc == SQLITE_OK) {
        rc = sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER,
                                  &file);
    }

    if (rc == SQLITE_OK) {
        rc = file->pMethods->xShmMap(file, 0, DB_KNOWN_REGION, 0, &index);
    }

    if (rc != SQLITE_OK) {
        return rc;
    }

    if (index == NULL) {
        return SQLITE_PROTOCOL;
    }

    store->index = index;
    store->known = calloc(DB_SQLITE_KNOWN, sizeof(db_known_t));

    return store->known ? SQLITE_OK : SQLITE_NOMEM;
}


void
db_sqlite_known_free(db_sqlite_t *store)
{
    size_t  i;

    for (i = 0; store->known && i < DB_SQLITE_KNOWN; i++) {
        free(store->known[i].text);
    }

    free(store->known);
}


uint64_t
db_sqlite_known_state(db_sqlite_t *store)
{
    unsigned  i;
    uint64_t  word, other;

    /* a mixture, met while they are written, is a state of its own */

    for (i = 0, other = 0; i < DB_SQLITE_WORDS; i++) {
        word = store->index[i];
        other |= word ^ store->words[i];
        store->words[i] = word;
    }

    if (other) {
        store->state++;
    }

    return store->state;
}


int
db_sqlite_known_get(db_sqlite_t *store, db_store_op_t *op, db_known_t **place)
{
    db_str_t     id;
    uint64_t     hash, state;
    db_known_t  *known;

    *place = NULL;
    id = db_known_id(&op->id);

    if (op->kind != DB_STORE_GET || op->conditions || op->nfields
        || id.len == 0 || id.len > DB_KNOWN_ID)
    {
        return 0;
    }

    state = db_sqlite_known_state(store);
    hash = db_known_hash(op->collection, id);
    known = &store->known[hash >> (64 - DB_SQLITE_KNOWN_BITS)];

    if (known->hash != hash || known->state != state) {
        known->hash = hash;
        known->state = state;
        known->len = 0;
        return 0;
    }

    if (known->len == 0 || known->collection != op->collection
        || known->id_len != id.len
        || memcmp(known->text, id.data, id.len) != 0)
    {
        *place = known;
        return 0;
    }

    db_buf_append(op->out, known->text + known->id_len, known->len);

    op->version = known->version;
    op->status = op->out->failed ? DB_STORE_FAILED : DB_STORE_OK;

    return 1;
}


void
db_sqlite_known_keep(db_known_t *known, const db_store_op_t *op,
    db_str_t document)
{
    char      *text;
    size_t     size;
    db_str_t   id;

    if (document.len > DB_KNOWN_DOCUMENT) {
        return;
    }

    id = db_known_id(&op->id);
    size = id.len + document.len;

    if (known->size < size) {
        text = malloc(size);
        if (text == NULL) {
            return;
        }

        free(known->text);
        known->text = text;
        known->size = (uint32_t) size;
    }

    memcpy(known->text, id.data, id.len);
    memcpy(known->text + id.len, document.data, document.len);

    known->collection = op->collection;
    known->version = op->version;
    known->id_len = (uint32_t) id.len;
    known->len = (uint32_t) document.len;
}
