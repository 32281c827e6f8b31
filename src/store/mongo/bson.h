/*
 * Documents between their two forms: the JSON text that clients see, and
 * BSON.  Neither libbson's values nor its JSON come between: a document
 * costs a walk over its bytes.
 *
 *   JSON                 BSON
 *   null, true, false    the same
 *   a number             int32 or int64 without "." and "e", else double
 *   text                 string, of UUIDs and decimals as well
 *   a datetime           date, in UTC and to the millisecond
 *   array, object        the same
 *   "id" of a document   "_id", always the first member
 *   (none)               "_v", its version, where the collection has them
 *
 * Any thread; the caller owns what goes in and the buffer that comes out.
 */

#ifndef DB_BSON_H
#define DB_BSON_H

#include "core/db_buf.h"
#include "store/db_store.h"


#define DB_BSON_MAX_DEPTH  100       /* objects and arrays in each other */


typedef enum {
    DB_BSON_DOUBLE = 0x01,
    DB_BSON_STRING = 0x02,
    DB_BSON_OBJECT = 0x03,
    DB_BSON_ARRAY = 0x04,
    DB_BSON_OBJECTID = 0x07,
    DB_BSON_BOOL = 0x08,
    DB_BSON_DATE = 0x09,
    DB_BSON_NULL = 0x0a,
    DB_BSON_INT32 = 0x10,
    DB_BSON_INT64 = 0x12
} db_bson_type_t;


/* A document to be written, and what came of it. */

typedef struct {
    const db_collection_t  *collection;
    const db_value_t       *id;
    uint64_t                version;     /* written where there are any */
    db_str_t                json;
    unsigned                rounded:1;   /* it will be read as another text */
    const char             *why;         /* it was declined: a constant */
} db_bson_document_t;


/*
 * Appends the BSON of a document.  DB_DECLINED: BSON has none for it; "out"
 * is to be thrown away.  DB_ERROR: out of memory.
 */
int db_bson_write(db_buf_t *out, db_bson_document_t *document);

/* A value under a name, which holds no NUL; NULL is BSON's null. */
void db_bson_value(db_buf_t *out, db_str_t name, const db_value_t *value);

void db_bson_integer(db_buf_t *out, db_str_t name, uint64_t n);
void db_bson_bool(db_buf_t *out, db_str_t name, int value);

/* An id under a name.  DB_DECLINED: the collection can hold no such id. */
int db_bson_id(db_buf_t *out, db_str_t name,
    const db_collection_t *collection, const db_value_t *id);

/* A document or array begun, returning its place, and ended. */
size_t db_bson_begin(db_buf_t *out);
void db_bson_end(db_buf_t *out, size_t start);

/* The type of a member and its name, with its NUL. */
void db_bson_name(db_buf_t *out, db_bson_type_t type, db_str_t name);


/* The name of the n-th member of an array, in "text". */
#define DB_BSON_INDEX  16

db_str_t db_bson_index(char *text, unsigned n);


/*
 * Appends the JSON of a document, which may be anything, and sets *version.
 * DB_DECLINED, with *why a constant: there is no JSON for it; "out" is as it
 * was.
 */
int db_bson_read(db_buf_t *out, const db_collection_t *collection,
    db_str_t bson, uint64_t *version, const char **why);

#endif /* DB_BSON_H */
