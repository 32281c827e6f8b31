/*
 * Entity tags: "7" is version 7 of a document.  For any thread.
 */

#include "crud/db_crud_call.h"


/* What no document has: versions count from 1 on, and fit in an int64_t. */
#define DB_ETAG_NONE  UINT64_MAX


/*
 * Takes the next tag off a list: its text without quotes, none for any tag.
 * 0 when there is none left, or no tag where one should be.
 */

static int
db_etag_next(db_str_t *list, db_str_t *tag, int *weak)
{
    size_t       i;
    const char  *end;

    for (i = 0; i < list->len; i++) {
        if (list->data[i] != ' ' && list->data[i] != '\t'
            && list->data[i] != ',')
        {
            break;
        }
    }

    list->data += i;
    list->len -= i;

    if (list->len == 0) {
        return 0;
    }

    *weak = 0;

    if (list->data[0] == '*') {
        *tag = db_null_string;
        list->data++;
        list->len--;
        return 1;
    }

    if (list->len > 2 && list->data[0] == 'W' && list->data[1] == '/') {
        *weak = 1;
        list->data += 2;
        list->len -= 2;
    }

    end = (list->data[0] == '"' && list->len > 1)
          ? memchr(list->data + 1, '"', list->len - 1) : NULL;

    if (end == NULL) {
        list->len = 0;
        return 0;
    }

    *tag = (db_str_t) { list->data + 1, (size_t) (end - list->data - 1) };
    list->len -= tag->len + 2;
    list->data = end + 1;

    return 1;
}


/* Tags that are none of ours are of no version. */

static uint64_t
db_etag_version(db_str_t tag)
{
    size_t    i;
    uint64_t  version;

    if (tag.len == 0 || tag.len > 18 || (tag.data[0] == '0' && tag.len > 1)) {
        return DB_ETAG_NONE;
    }

    version = 0;

    for (i = 0; i < tag.len; i++) {
        if (tag.data[i] < '0' || tag.data[i] > '9') {
            return DB_ETAG_NONE;
        }

        version = version * 10 + (uint64_t) (tag.data[i] - '0');
    }

    return version;
}


/* By the strong comparison a weak tag matches nothing. */

int
db_etag_versions(db_arena_t *arena, db_str_t list, int strong,
    const uint64_t **versions, unsigned *nversions)
{
    int        weak;
    uint64_t  *named, version;
    unsigned   n;
    db_str_t   tag;

    *nversions = 0;

    named = db_arena_alloc(arena, DB_ETAG_MAX * sizeof(uint64_t));
    if (named == NULL) {
        return DB_ERROR;
    }

    n = 0;

    while (db_etag_next(&list, &tag, &weak)) {

        if (tag.data == NULL) {
            return DB_DONE;
        }

        version = (weak && strong) ? DB_ETAG_NONE : db_etag_version(tag);

        if (version == DB_ETAG_NONE) {
            continue;
        }

        if (n == DB_ETAG_MAX) {
            return DB_DECLINED;
        }

        named[n++] = version;
    }

    /* what names no version at all must not stand for any */

    if (n == 0) {
        named[n++] = INT64_MAX;
    }

    *versions = named;
    *nversions = n;

    return DB_OK;
}


/* By the weak comparison. */

int
db_etag_none_match(db_str_t list, uint64_t version)
{
    int       weak;
    db_str_t  tag;

    while (db_etag_next(&list, &tag, &weak)) {
        if (tag.data == NULL || db_etag_version(tag) == version) {
            return 1;
        }
    }

    return 0;
}
