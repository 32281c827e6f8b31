/*
 * BSON to JSON text.  The bytes come from a server: every length is checked
 * before it is believed, and text that is not UTF-8 is no JSON.
 */

#include "store/mongo/bson.h"

#include "core/db_date.h"
#include "json/db_json.h"

#include <endian.h>
#include <math.h>


#define DB_BSON_DAY         86400000                 /* ms */
#define DB_BSON_FIRST_DATE  (-62135596800000LL)      /* 0001-01-01 */
#define DB_BSON_LAST_DATE   253402300799999LL        /* the end of 9999 */


typedef struct {
    const unsigned char  *pos;
    const unsigned char  *end;      /* of the innermost document */
    db_buf_t             *out;
    unsigned              depth;
    const char           *why;      /* it was declined */
} db_bson_reader_t;


typedef struct {
    unsigned   type;
    db_str_t   name;
} db_bson_member_t;


static int db_bson_read_value(db_bson_reader_t *r, unsigned type);


static int
db_bson_refuse(db_bson_reader_t *r, const char *why)
{
    r->why = why;

    return DB_DECLINED;
}


static uint32_t
db_bson_get32(const unsigned char *p)
{
    uint32_t  n;

    memcpy(&n, p, sizeof(n));

    return le32toh(n);
}


static uint64_t
db_bson_get64(const unsigned char *p)
{
    uint64_t  n;

    memcpy(&n, p, sizeof(n));

    return le64toh(n);
}


/* So many bytes of a value, or NULL when there are not. */

static const unsigned char *
db_bson_bytes(db_bson_reader_t *r, size_t n)
{
    const unsigned char  *p;

    p = r->pos;

    if ((size_t) (r->end - p) < n) {
        r->why = "it is cut off";
        return NULL;
    }

    r->pos += n;

    return p;
}


/*
 * Enters the document at the position.  What follows it is where "outer",
 * given to db_bson_leave() at its end, goes on.
 */

static int
db_bson_enter(db_bson_reader_t *r, db_bson_reader_t *outer)
{
    size_t  size;

    size = (r->end - r->pos >= 5) ? db_bson_get32(r->pos) : 0;

    if (size < 5 || size > (size_t) (r->end - r->pos)
        || r->pos[size - 1] != '\0')
    {
        return db_bson_refuse(r, "a length is wrong");
    }

    if (r->depth == DB_BSON_MAX_DEPTH) {
        return db_bson_refuse(r, "it is nested too deeply");
    }

    *outer = *r;
    outer->pos += size;

    r->end = r->pos + size - 1;
    r->pos += 4;
    r->depth++;

    return DB_OK;
}


static void
db_bson_leave(db_bson_reader_t *r, const db_bson_reader_t *outer)
{
    r->pos = outer->pos;
    r->end = outer->end;
    r->depth = outer->depth;
}


/* DB_DONE at the end of the document. */

static int
db_bson_next(db_bson_reader_t *r, db_bson_member_t *member)
{
    const unsigned char  *nul;

    if (r->pos == r->end) {
        return DB_DONE;
    }

    member->type = *r->pos++;
    nul = memchr(r->pos, '\0', (size_t) (r->end - r->pos));

    if (nul == NULL) {
        return db_bson_refuse(r, "the name of a member does not end");
    }

    member->name = (db_str_t) { (const char *) r->pos,
                                (size_t) (nul - r->pos) };
    r->pos = nul + 1;

    return DB_OK;
}


static int
db_bson_read_string(db_bson_reader_t *r)
{
    size_t                size;
    const unsigned char  *p;

    p = db_bson_bytes(r, 4);
    if (p == NULL) {
        return DB_DECLINED;
    }

    size = db_bson_get32(p);

    p = size ? db_bson_bytes(r, size) : NULL;

    if (p == NULL || p[size - 1] != '\0') {
        return db_bson_refuse(r, "a length is wrong");
    }

    db_json_write_string(r->out, (db_str_t) { (const char *) p, size - 1 });

    return DB_OK;
}


static int
db_bson_read_objectid(db_bson_reader_t *r)
{
    char                  text[24];
    unsigned              i;
    const unsigned char  *p;

    static const char     hex[] = "0123456789abcdef";

    p = db_bson_bytes(r, 12);
    if (p == NULL) {
        return DB_DECLINED;
    }

    for (i = 0; i < 12; i++) {
        text[2 * i] = hex[p[i] >> 4];
        text[2 * i + 1] = hex[p[i] & 0xf];
    }

    db_buf_putc(r->out, '"');
    db_buf_append(r->out, text, sizeof(text));
    db_buf_putc(r->out, '"');

    return DB_OK;
}


static int
db_bson_read_double(db_bson_reader_t *r)
{
    char                  text[DB_JSON_REAL_SIZE];
    double                value;
    uint64_t              n;
    const unsigned char  *p;

    p = db_bson_bytes(r, 8);
    if (p == NULL) {
        return DB_DECLINED;
    }

    n = db_bson_get64(p);
    memcpy(&value, &n, sizeof(value));

    if (!isfinite(value)) {
        return db_bson_refuse(r, "a number is not finite");
    }

    db_buf_append(r->out, text, db_json_real_text(text, value));

    return DB_OK;
}


static int
db_bson_read_integer(db_bson_reader_t *r, unsigned bytes)
{
    const unsigned char  *p;

    p = db_bson_bytes(r, bytes);
    if (p == NULL) {
        return DB_DECLINED;
    }

    db_json_write_int(r->out, bytes == 4 ? (int32_t) db_bson_get32(p)
                                         : (int64_t) db_bson_get64(p));

    return DB_OK;
}


/* A number and what follows it. */

static char *
db_bson_digits(char *p, int value, int digits, char follows)
{
    int  i;

    for (i = digits - 1; i >= 0; i--) {
        p[i] = (char) ('0' + value % 10);
        value /= 10;
    }

    p[digits] = follows;

    return p + digits + 1;
}


/* As pydantic writes a datetime in UTC: six digits of a second, or none. */

static int
db_bson_read_date(db_bson_reader_t *r)
{
    int                   year, month, day, second, part;
    char                  text[32], *last;
    int64_t               ms, days;
    const unsigned char  *p;

    p = db_bson_bytes(r, 8);
    if (p == NULL) {
        return DB_DECLINED;
    }

    ms = (int64_t) db_bson_get64(p);

    if (ms < DB_BSON_FIRST_DATE || ms > DB_BSON_LAST_DATE) {
        return db_bson_refuse(r, "a date is not of the years 1 to 9999");
    }

    days = ms / DB_BSON_DAY;
    ms = ms % DB_BSON_DAY;

    if (ms < 0) {
        ms += DB_BSON_DAY;
        days--;
    }

    db_date_from_days(days, &year, &month, &day);

    second = (int) (ms / 1000);
    part = (int) (ms % 1000);

    text[0] = '"';

    last = db_bson_digits(text + 1, year, 4, '-');
    last = db_bson_digits(last, month, 2, '-');
    last = db_bson_digits(last, day, 2, 'T');
    last = db_bson_digits(last, second / 3600, 2, ':');
    last = db_bson_digits(last, second / 60 % 60, 2, ':');
    last = db_bson_digits(last, second % 60, 2, part ? '.' : 'Z');

    if (part) {
        last = db_bson_digits(last, part * 1000, 6, 'Z');
    }

    *last++ = '"';
    db_buf_append(r->out, text, (size_t) (last - text));

    return DB_OK;
}


static int
db_bson_read_bool(db_bson_reader_t *r)
{
    const unsigned char  *p;

    p = db_bson_bytes(r, 1);
    if (p == NULL) {
        return DB_DECLINED;
    }

    db_buf_str(r->out, *p ? db_string("true") : db_string("false"));

    return DB_OK;
}


static int
db_bson_read_document(db_bson_reader_t *r, int array)
{
    int                rc;
    char               before;
    db_bson_reader_t   outer;
    db_bson_member_t   member;

    if (db_bson_enter(r, &outer) != DB_OK) {
        return DB_DECLINED;
    }

    before = array ? '[' : '{';

    while ((rc = db_bson_next(r, &member)) == DB_OK) {
        if (array) {
            db_buf_putc(r->out, before);

        } else {
            db_json_write_name(r->out, before, member.name);
        }

        before = ',';

        if (db_bson_read_value(r, member.type) != DB_OK) {
            return DB_DECLINED;
        }
    }

    if (rc != DB_DONE) {
        return rc;
    }

    if (before != ',') {
        db_buf_putc(r->out, before);
    }

    db_buf_putc(r->out, array ? ']' : '}');
    db_bson_leave(r, &outer);

    return DB_OK;
}


static int
db_bson_read_value(db_bson_reader_t *r, unsigned type)
{
    switch (type) {

    case DB_BSON_DOUBLE:
        return db_bson_read_double(r);

    case DB_BSON_STRING:
        return db_bson_read_string(r);

    case DB_BSON_OBJECT:
    case DB_BSON_ARRAY:
        return db_bson_read_document(r, type == DB_BSON_ARRAY);

    case DB_BSON_OBJECTID:
        return db_bson_read_objectid(r);

    case DB_BSON_BOOL:
        return db_bson_read_bool(r);

    case DB_BSON_DATE:
        return db_bson_read_date(r);

    case DB_BSON_NULL:
        db_buf_lit(r->out, "null");
        return DB_OK;

    case DB_BSON_INT32:
        return db_bson_read_integer(r, 4);

    case DB_BSON_INT64:
        return db_bson_read_integer(r, 8);

    default:
        return db_bson_refuse(r, "a member is of a type that JSON lacks");
    }
}


/* Of another type it is none of ours, and counts as none. */

static int
db_bson_read_version(db_bson_reader_t *r, unsigned type, uint64_t *version)
{
    int                   rc;
    int64_t               n;
    db_buf_t              unread, *out;
    const unsigned char  *p;

    if (type != DB_BSON_INT32 && type != DB_BSON_INT64) {
        out = r->out;
        db_buf_init(&unread, out->arena, 0);

        r->out = &unread;
        rc = db_bson_read_value(r, type);
        r->out = out;

        return rc;
    }

    p = db_bson_bytes(r, type == DB_BSON_INT32 ? 4 : 8);
    if (p == NULL) {
        return DB_DECLINED;
    }

    n = type == DB_BSON_INT32 ? (int32_t) db_bson_get32(p)
                              : (int64_t) db_bson_get64(p);
    *version = n > 0 ? (uint64_t) n : 0;

    return DB_OK;
}


/*
 * A document as a server sends it, "_id" first; the id goes where the model
 * has it.
 */

static int
db_bson_read_members(db_bson_reader_t *r, unsigned place, uint64_t *version)
{
    int                rc;
    char               before;
    db_buf_t           id, *out;
    unsigned           n;
    db_bson_member_t   member;

    if (db_bson_next(r, &member) != DB_OK
        || !db_str_eq(member.name, db_string("_id")))
    {
        return db_bson_refuse(r, "it does not begin with _id");
    }

    out = r->out;
    db_buf_init(&id, out->arena, 64);
    db_buf_lit(&id, "\"id\":");

    r->out = &id;
    rc = db_bson_read_value(r, member.type);
    r->out = out;

    before = '{';

    for (n = 0; rc == DB_OK; n++) {
        rc = db_bson_next(r, &member);

        if (rc == DB_OK && db_str_eq(member.name, db_string("_v"))) {
            rc = db_bson_read_version(r, member.type, version);
            n--;
            continue;
        }

        if (n == place || (n < place && rc == DB_DONE)) {
            db_buf_putc(out, before);
            db_buf_append(out, id.data, id.len);
            before = ',';
        }

        if (rc == DB_OK) {
            db_json_write_name(out, before, member.name);
            before = ',';

            rc = db_bson_read_value(r, member.type);
        }
    }

    db_buf_putc(out, '}');
    out->failed |= id.failed;

    return rc == DB_DONE ? DB_OK : rc;
}


int
db_bson_read(db_buf_t *out, const db_collection_t *collection, db_str_t bson,
    uint64_t *version, const char **why)
{
    int                    rc;
    size_t                 start;
    db_bson_reader_t       r, outer;
    const unsigned char   *data;

    *version = 0;
    start = out->len;
    data = (const unsigned char *) bson.data;

    r = (db_bson_reader_t) { data, data + bson.len, out, 0, NULL };

    rc = db_bson_enter(&r, &outer);

    if (rc == DB_OK) {
        rc = db_bson_read_members(&r, collection->id_place, version);
    }

    if (out->failed) {
        rc = DB_ERROR;

    } else if (rc == DB_OK
               && !db_json_is_utf8((db_str_t) { out->data + start,
                                                out->len - start }))
    {
        rc = db_bson_refuse(&r, "a text is not UTF-8");
    }

    if (rc != DB_OK) {
        out->len = start;
    }

    *why = r.why;

    return rc;
}
