/*
 * The reader of BSON, whose bytes come from a server: what it takes is JSON,
 * which can be written and read again.
 */

#include "core/db_arena.h"
#include "json/db_json.h"
#include "store/mongo/bson.h"

#include <stdint.h>
#include <stdlib.h>


#define CHECK(what)  if (!(what)) { abort(); }


static const db_form_t         form;
static const db_form_member_t  members[] = { { { "at", 2 }, &form } };

/* a datetime, and all else beside it */

static const db_form_t         form = {
    .time = 1, .members = members, .nmembers = 1
};

static const db_collection_t   collection = {
    .name = { "fuzzed", 6 }, .id_kind = DB_VALUE_INT, .id_place = 1,
    .versioned = 1, .form = &form
};


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int                 rc;
    char               *copy;
    uint64_t            version;
    db_buf_t            json, bson, again;
    db_json_t          *root;
    db_arena_t         *arena;
    db_value_t          value;
    const char         *why;
    db_json_error_t     error;
    db_bson_document_t  document;

    arena = db_arena_create(4096);
    copy = malloc(size + 1);
    CHECK(arena && copy);
    memcpy(copy, data, size);

    db_buf_init(&json, arena, 0);
    db_buf_init(&bson, arena, 0);
    db_buf_init(&again, arena, 0);

    rc = db_bson_read(&json, &collection, (db_str_t) { copy, size },
                      &version, &why);
    CHECK(rc == DB_OK || (rc == DB_DECLINED && why && json.len == 0));

    if (rc == DB_OK) {
        rc = db_json_read(arena, (db_str_t) { json.data, json.len }, &root,
                          &error);
        CHECK(rc == DB_OK && root->kind == DB_JSON_OBJECT);

        value = (db_value_t) { .kind = DB_VALUE_INT, .integer = 7 };
        document = (db_bson_document_t) { &collection, &value, version,
                                          { json.data, json.len }, 0, NULL };
        rc = db_bson_write(&bson, &document);

        /* a member of the document may be called _id once more */

        CHECK(rc == DB_OK || (rc == DB_DECLINED && document.why));

        if (rc == DB_OK) {
            CHECK(db_bson_read(&again, &collection,
                               (db_str_t) { bson.data, bson.len }, &version,
                               &why)
                  == DB_OK);
        }
    }

    db_arena_destroy(arena);
    free(copy);

    return 0;
}
