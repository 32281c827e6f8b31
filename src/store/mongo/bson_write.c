/*
 * JSON text to BSON.  The text is what the validation has written, so the
 * walk only keeps itself from harm: what it does not understand it declines.
 */

#include "store/mongo/bson.h"

#include "json/db_json.h"
#include "store/db_document.h"

#include <stdio.h>


/* 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999Z in milliseconds */

#define DB_BSON_FIRST_DATE  (-62135596800000)
#define DB_BSON_LAST_DATE   253402300799999


typedef struct {
    const char          *pos;
    const char          *end;
    db_buf_t            *out;
    unsigned             depth;
    db_bson_document_t  *document;
} db_bson_writer_t;


static int db_bson_write_value(db_bson_writer_t *w, size_t type,
    const db_form_t *form);


static int
db_bson_decline(db_bson_writer_t *w, const char *why)
{
    w->document->why = why;

    return DB_DECLINED;
}


static void
db_bson_little(db_buf_t *out, uint64_t n, unsigned bytes)
{
    char      text[8];
    unsigned  i;

    for (i = 0; i < bytes; i++) {
        text[i] = (char) (n >> 8 * i);
    }

    db_buf_append(out, text, bytes);
}


static void
db_bson_real(db_buf_t *out, double value)
{
    uint64_t  n;

    memcpy(&n, &value, sizeof(n));
    db_bson_little(out, n, 8);
}


static void
db_bson_patch(db_buf_t *out, size_t at, size_t n)
{
    unsigned  i;

    if (out->failed) {
        return;
    }

    for (i = 0; i < 4; i++) {
        out->data[at + i] = (char) (n >> 8 * i);
    }
}


size_t
db_bson_begin(db_buf_t *out)
{
    size_t  start;

    start = out->len;
    db_bson_little(out, 0, 4);

    return start;
}


void
db_bson_end(db_buf_t *out, size_t start)
{
    db_buf_putc(out, '\0');
    db_bson_patch(out, start, out->len - start);
}


void
db_bson_name(db_buf_t *out, db_bson_type_t type, db_str_t name)
{
    db_buf_putc(out, (char) type);
    db_buf_str(out, name);
    db_buf_putc(out, '\0');
}


static void
db_bson_text(db_buf_t *out, db_str_t text)
{
    db_bson_little(out, text.len + 1, 4);
    db_buf_str(out, text);
    db_buf_putc(out, '\0');
}


/* The millisecond that a microsecond is in, before 1970 as well. */

static int64_t
db_bson_ms(int64_t us)
{
    return us / 1000 - (us % 1000 < 0);
}


void
db_bson_value(db_buf_t *out, db_str_t name, const db_value_t *value)
{
    switch (value->kind) {

    case DB_VALUE_BOOL:
        db_bson_name(out, DB_BSON_BOOL, name);
        db_buf_putc(out, value->integer != 0);
        break;

    case DB_VALUE_INT:
        db_bson_name(out, DB_BSON_INT64, name);
        db_bson_little(out, (uint64_t) value->integer, 8);
        break;

    case DB_VALUE_REAL:
        db_bson_name(out, DB_BSON_DOUBLE, name);
        db_bson_real(out, value->real);
        break;

    case DB_VALUE_TEXT:
        db_bson_name(out, DB_BSON_STRING, name);
        db_bson_text(out, value->text);
        break;

    case DB_VALUE_TIME:
        db_bson_name(out, DB_BSON_DATE, name);
        db_bson_little(out, (uint64_t) db_bson_ms(value->integer), 8);
        break;

    default:
        db_bson_name(out, DB_BSON_NULL, name);
        break;
    }
}


void
db_bson_integer(db_buf_t *out, db_str_t name, uint64_t n)
{
    db_bson_name(out, DB_BSON_INT64, name);
    db_bson_little(out, n > INT64_MAX ? INT64_MAX : n, 8);
}


void
db_bson_bool(db_buf_t *out, db_str_t name, int value)
{
    db_bson_name(out, DB_BSON_BOOL, name);
    db_buf_putc(out, value != 0);
}


db_str_t
db_bson_index(char *text, unsigned n)
{
    int  len;

    len = snprintf(text, DB_BSON_INDEX, "%u", n);

    return (db_str_t) { text, (size_t) len };
}


static int
db_bson_hex(char c)
{
    return (c >= '0' && c <= '9') ? c - '0'
           : (c >= 'a' && c <= 'f') ? c - 'a' + 10
           : -1;
}


int
db_bson_id(db_buf_t *out, db_str_t name, const db_collection_t *collection,
    const db_value_t *id)
{
    int     high, low;
    char    oid[12];
    size_t  i;

    if (!collection->objectid) {
        db_bson_value(out, name, id);
        return DB_OK;
    }

    if (id->kind != DB_VALUE_TEXT || id->text.len != 2 * sizeof(oid)) {
        return DB_DECLINED;
    }

    for (i = 0; i < sizeof(oid); i++) {
        high = db_bson_hex(id->text.data[2 * i]);
        low = db_bson_hex(id->text.data[2 * i + 1]);

        if (high < 0 || low < 0) {
            return DB_DECLINED;
        }

        oid[i] = (char) (high << 4 | low);
    }

    db_bson_name(out, DB_BSON_OBJECTID, name);
    db_buf_append(out, oid, sizeof(oid));

    return DB_OK;
}


static void
db_bson_skip_space(db_bson_writer_t *w)
{
    while (w->pos < w->end && (*w->pos == ' ' || *w->pos == '\t'
                               || *w->pos == '\n' || *w->pos == '\r'))
    {
        w->pos++;
    }
}


static int
db_bson_take(db_bson_writer_t *w, char c)
{
    db_bson_skip_space(w);

    if (w->pos < w->end && *w->pos == c) {
        w->pos++;
        return 1;
    }

    return 0;
}


/* The four digits of an escape; -1 when they are none. */

static int
db_bson_unit(db_bson_writer_t *w)
{
    int       n, unit;
    unsigned  i;

    if (w->end - w->pos < 4) {
        return -1;
    }

    unit = 0;

    for (i = 0; i < 4; i++, w->pos++) {
        n = db_bson_hex((*w->pos >= 'A' && *w->pos <= 'F')
                        ? (char) (*w->pos | 0x20) : *w->pos);
        if (n < 0) {
            return -1;
        }

        unit = unit << 4 | n;
    }

    return unit;
}


static int
db_bson_unicode(db_bson_writer_t *w)
{
    int       n, low;
    char      text[4];
    unsigned  len;

    n = db_bson_unit(w);

    if (n >= 0xd800 && n < 0xdc00 && w->end - w->pos >= 6
        && w->pos[0] == '\\' && w->pos[1] == 'u')
    {
        w->pos += 2;
        low = db_bson_unit(w);
        n = (low >= 0xdc00 && low < 0xe000)
            ? 0x10000 + ((n - 0xd800) << 10) + (low - 0xdc00) : -1;
    }

    if (n < 0 || (n >= 0xd800 && n < 0xe000)) {
        return db_bson_decline(w, "an escape is no character");
    }

    if (n < 0x80) {
        text[0] = (char) n;
        len = 1;

    } else if (n < 0x800) {
        text[0] = (char) (0xc0 | n >> 6);
        len = 2;

    } else if (n < 0x10000) {
        text[0] = (char) (0xe0 | n >> 12);
        text[1] = (char) (0x80 | (n >> 6 & 0x3f));
        len = 3;

    } else {
        text[0] = (char) (0xf0 | n >> 18);
        text[1] = (char) (0x80 | (n >> 12 & 0x3f));
        text[2] = (char) (0x80 | (n >> 6 & 0x3f));
        len = 4;
    }

    if (len > 1) {
        text[len - 1] = (char) (0x80 | (n & 0x3f));
    }

    db_buf_append(w->out, text, len);

    return DB_OK;
}


static int
db_bson_escape(db_bson_writer_t *w)
{
    static const char  letters[] = "\"\\/bfnrt";
    static const char  meant[] = "\"\\/\b\f\n\r\t";
    const char        *at;

    if (w->pos == w->end) {
        return db_bson_decline(w, "a text does not end");
    }

    if (*w->pos == 'u') {
        w->pos++;
        return db_bson_unicode(w);
    }

    at = *w->pos ? strchr(letters, *w->pos) : NULL;

    if (at == NULL) {
        return db_bson_decline(w, "an escape is no character");
    }

    w->pos++;
    db_buf_putc(w->out, meant[at - letters]);

    return DB_OK;
}


/* The characters of a text whose first quote has been taken. */

static int
db_bson_write_text(db_bson_writer_t *w)
{
    const char  *start;

    for ( ;; ) {
        start = w->pos;

        while (w->pos < w->end && *w->pos != '"' && *w->pos != '\\') {
            w->pos++;
        }

        db_buf_append(w->out, start, (size_t) (w->pos - start));

        if (w->pos == w->end) {
            return db_bson_decline(w, "a text does not end");
        }

        if (*w->pos++ == '"') {
            return DB_OK;
        }

        if (db_bson_escape(w) != DB_OK) {
            return DB_DECLINED;
        }
    }
}


static int
db_bson_write_string(db_bson_writer_t *w)
{
    int     rc;
    size_t  start;

    start = db_bson_begin(w->out);

    rc = db_bson_write_text(w);

    db_buf_putc(w->out, '\0');
    db_bson_patch(w->out, start, w->out->len - start - 4);

    return rc;
}


static int
db_bson_is_number(char c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.'
           || c == 'e' || c == 'E';
}


/*
 * A datetime whose first quote has been taken.  DB_DONE: it is none, and
 * nothing was written.
 */

static int
db_bson_write_date(db_bson_writer_t *w)
{
    int64_t      us, ms;
    db_str_t     text;
    const char  *quote;

    quote = memchr(w->pos, '"', (size_t) (w->end - w->pos));
    text = (db_str_t) { w->pos, quote ? (size_t) (quote - w->pos) : 0 };

    if (db_document_time(text, &us) != DB_OK) {
        return DB_DONE;
    }

    ms = db_bson_ms(us);

    if (ms < DB_BSON_FIRST_DATE || ms > DB_BSON_LAST_DATE) {
        return db_bson_decline(w, "a date is not of the years 1 to 9999 in"
                               " UTC");
    }

    if (us % 1000 || text.data[text.len - 1] != 'Z') {
        w->document->rounded = 1;
    }

    db_bson_little(w->out, (uint64_t) ms, 8);
    w->pos = quote + 1;

    return DB_OK;
}


/* DB_DECLINED: not within 64 bits. */

static int
db_bson_read_integer(db_str_t text, int64_t *value)
{
    size_t    i;
    uint64_t  n, limit;

    i = (text.data[0] == '-');
    limit = (uint64_t) INT64_MAX + i;

    if (i == text.len) {
        return DB_DECLINED;
    }

    for (n = 0; i < text.len; i++) {

        if (text.data[i] < '0' || text.data[i] > '9'
            || n > limit / 10
            || n * 10 > limit - (uint64_t) (text.data[i] - '0'))
        {
            return DB_DECLINED;
        }

        n = n * 10 + (uint64_t) (text.data[i] - '0');
    }

    *value = (int64_t) (text.data[0] == '-' ? 0 - n : n);

    return DB_OK;
}


static int
db_bson_write_number(db_bson_writer_t *w, size_t type)
{
    int       real;
    int64_t   integer;
    db_str_t  text;

    text.data = w->pos;
    real = 0;

    while (w->pos < w->end && db_bson_is_number(*w->pos)) {
        real |= (*w->pos == '.' || *w->pos == 'e' || *w->pos == 'E');
        w->pos++;
    }

    text.len = (size_t) (w->pos - text.data);

    if (real) {
        w->out->data[type] = DB_BSON_DOUBLE;
        db_bson_real(w->out, db_json_real_read(text));
        return DB_OK;
    }

    if (db_bson_read_integer(text, &integer) != DB_OK) {
        return db_bson_decline(w, "an integer has more than 64 bits");
    }

    if (integer >= INT32_MIN && integer <= INT32_MAX) {
        w->out->data[type] = DB_BSON_INT32;
        db_bson_little(w->out, (uint64_t) integer, 4);

    } else {
        w->out->data[type] = DB_BSON_INT64;
        db_bson_little(w->out, (uint64_t) integer, 8);
    }

    return DB_OK;
}


static int
db_bson_write_word(db_bson_writer_t *w, size_t type)
{
    size_t    i;
    db_str_t  word;

    static const struct {
        db_str_t  word;
        char      type;
    } words[] = {
        { { "false", 5 }, DB_BSON_BOOL },
        { { "true", 4 }, DB_BSON_BOOL },
        { { "null", 4 }, DB_BSON_NULL },
    };

    for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        word = words[i].word;

        if ((size_t) (w->end - w->pos) >= word.len
            && memcmp(w->pos, word.data, word.len) == 0)
        {
            w->pos += word.len;
            w->out->data[type] = words[i].type;

            if (words[i].type == DB_BSON_BOOL) {
                db_buf_putc(w->out, (char) i);
            }

            return DB_OK;
        }
    }

    return db_bson_decline(w, "it is no JSON");
}


static int
db_bson_write_array(db_bson_writer_t *w, const db_form_t *form)
{
    char      name[DB_BSON_INDEX];
    size_t    start, type;
    unsigned  n;

    start = db_bson_begin(w->out);

    if (!db_bson_take(w, ']')) {

        n = 0;

        do {
            type = w->out->len;
            db_bson_name(w->out, DB_BSON_NULL, db_bson_index(name, n++));

            if (db_bson_write_value(w, type, form ? form->each : NULL)
                != DB_OK)
            {
                return DB_DECLINED;
            }
        } while (db_bson_take(w, ','));

        if (!db_bson_take(w, ']')) {
            return db_bson_decline(w, "an array does not end");
        }
    }

    db_bson_end(w->out, start);

    return DB_OK;
}


/* The name of a member, with its NUL, which it must not hold itself. */

static int
db_bson_write_key(db_bson_writer_t *w, db_str_t *name)
{
    size_t  start;

    start = w->out->len;

    if (!db_bson_take(w, '"')) {
        return db_bson_decline(w, "a member has no name");
    }

    if (db_bson_write_text(w) != DB_OK) {
        return DB_DECLINED;
    }

    if (!db_bson_take(w, ':')) {
        return db_bson_decline(w, "a member has no value");
    }

    if (w->out->failed) {
        return db_bson_decline(w, NULL);
    }

    *name = (db_str_t) { w->out->data + start, w->out->len - start };

    if (name->len && memchr(name->data, '\0', name->len)) {
        return db_bson_decline(w, "the name of a member holds a NUL");
    }

    db_buf_putc(w->out, '\0');

    return DB_OK;
}


static const db_form_t *
db_bson_form(const db_form_t *form, db_str_t name)
{
    unsigned  i;

    if (form == NULL || form->each) {
        return form ? form->each : NULL;
    }

    for (i = 0; i < form->nmembers; i++) {
        if (db_str_eq(form->members[i].name, name)) {
            return form->members[i].form;
        }
    }

    return NULL;
}


/* The members of an object whose brace was taken; "id" is the document's. */

static int
db_bson_write_members(db_bson_writer_t *w, const db_form_t *form,
    int document)
{
    size_t            type;
    db_str_t          name;
    const db_form_t  *inner;

    if (db_bson_take(w, '}')) {
        return DB_OK;
    }

    do {
        type = w->out->len;
        db_buf_putc(w->out, DB_BSON_NULL);

        if (db_bson_write_key(w, &name) != DB_OK) {
            return DB_DECLINED;
        }

        if (document && (db_str_eq(name, db_string("_id"))
                         || db_str_eq(name, db_string("_v"))))
        {
            return db_bson_decline(w, "a member is named _id or _v");
        }

        document = document ? 1 + db_str_eq(name, db_string("id")) : 0;

        /* the name is the buffer's, which may move */

        inner = db_bson_form(form, name);

        if (db_bson_write_value(w, type, inner) != DB_OK) {
            return DB_DECLINED;
        }

        /* it stands in front already */

        if (document == 2) {
            w->out->len = type;
        }
    } while (db_bson_take(w, ','));

    if (!db_bson_take(w, '}')) {
        return db_bson_decline(w, "an object does not end");
    }

    return DB_OK;
}


static int
db_bson_write_object(db_bson_writer_t *w, const db_form_t *form)
{
    size_t  start;

    start = db_bson_begin(w->out);

    if (db_bson_write_members(w, form, 0) != DB_OK) {
        return DB_DECLINED;
    }

    db_bson_end(w->out, start);

    return DB_OK;
}


/* A value, whose type is set at its place in the output. */

static int
db_bson_write_value(db_bson_writer_t *w, size_t type, const db_form_t *form)
{
    int   rc;
    char  c;

    db_bson_skip_space(w);

    if (w->pos == w->end || w->out->failed) {
        return db_bson_decline(w, "a value is missing");
    }

    c = *w->pos;

    switch (c) {

    case '"':
        w->pos++;

        if (form && form->time) {
            w->out->data[type] = DB_BSON_DATE;
            rc = db_bson_write_date(w);

            if (rc != DB_DONE) {
                return rc;
            }
        }

        w->out->data[type] = DB_BSON_STRING;
        return db_bson_write_string(w);

    case '{':
    case '[':
        w->pos++;

        if (++w->depth > DB_BSON_MAX_DEPTH) {
            return db_bson_decline(w, "it is nested too deeply");
        }

        w->out->data[type] = (c == '{') ? DB_BSON_OBJECT : DB_BSON_ARRAY;
        rc = (c == '{') ? db_bson_write_object(w, form)
                        : db_bson_write_array(w, form);
        w->depth--;

        return rc;

    default:
        return (c == '-' || (c >= '0' && c <= '9'))
               ? db_bson_write_number(w, type)
               : db_bson_write_word(w, type);
    }
}


int
db_bson_write(db_buf_t *out, db_bson_document_t *document)
{
    int               rc;
    size_t            start;
    db_str_t          json;
    db_bson_writer_t  w;

    json = document->json;
    w = (db_bson_writer_t) { json.data, json.data + json.len, out, 1,
                             document };

    document->rounded = 0;
    start = db_bson_begin(out);

    if (db_bson_id(out, db_string("_id"), document->collection, document->id)
        != DB_OK)
    {
        rc = db_bson_decline(&w, "its id is no ObjectId");

    } else if (!db_bson_take(&w, '{')) {
        rc = db_bson_decline(&w, "it is no object");

    } else {

        if (document->collection->versioned) {
            db_bson_integer(out, db_string("_v"), document->version);
        }

        rc = db_bson_write_members(&w, document->collection->form, 1);
    }

    if (rc == DB_OK) {
        db_bson_skip_space(&w);

        if (w.pos != w.end) {
            rc = db_bson_decline(&w, "something follows it");
        }
    }

    db_bson_end(out, start);

    return out->failed ? DB_ERROR : rc;
}
