/*
 * The JSON reader: simdjson's on-demand front end behind a C interface.
 *
 * The text is copied into a padded buffer of the arena, in which strings
 * without escapes stay; every value is visited, so that nothing is left
 * unchecked.  The buffer is "[" text "]": the root is then always a value,
 * which on-demand would not give for a scalar document.
 *
 * simdjson chooses its implementation for this CPU at run time.  Its parser
 * keeps its tables between documents and is the calling thread's own.
 */

#define SIMDJSON_EXCEPTIONS  0

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cmath>

extern "C" {
#include "json/db_json.h"
}

namespace ondemand = simdjson::ondemand;


#define DB_JSON_KEEP   (1024 * 1024)    /* of a parser's capacity */
#define DB_JSON_SLAB   64               /* nodes allocated at once */
#define DB_JSON_PAIRS  16               /* members compared pairwise */


typedef struct {
    db_arena_t        *arena;
    ondemand::parser  *parser;
    const char        *end;             /* of the buffer */
    db_json_t         *free;
    unsigned           nfree;
    unsigned           slab;
    bool               failed;          /* out of memory */
} db_json_reader_t;


typedef struct {
    db_json_t         *node;
    size_t             order;
} db_json_member_t;


static bool db_json_read_value(db_json_reader_t *r, ondemand::value value,
    db_json_t *node, unsigned depth) noexcept;


static db_json_t *
db_json_node(db_json_reader_t *r) noexcept
{
    db_json_t  *node;

    if (r->nfree == 0) {
        r->free = (db_json_t *) db_arena_alloc(r->arena,
                                               r->slab * sizeof(db_json_t));
        if (r->free == NULL) {
            r->failed = true;
            return NULL;
        }

        r->nfree = r->slab;
        r->slab = DB_JSON_SLAB;
    }

    node = r->free++;
    r->nfree--;

    node->plain = 0;
    node->key_plain = 0;
    node->count = 0;
    node->next = NULL;
    node->key = db_null_string;

    return node;
}


/* Whether an odd number of backslashes stands before the quote. */

static bool
db_json_is_escaped(const char *start, const char *quote) noexcept
{
    const char  *p;

    for (p = quote; p > start && p[-1] == '\\'; p--) { /* void */ }

    return (quote - p) & 1;
}


/* A string from after its opening quote. */

static bool
db_json_read_string(db_json_reader_t *r, ondemand::raw_json_string raw,
    db_str_t *text, bool *plain) noexcept
{
    size_t            len;
    uint8_t          *dst, *start;
    const char       *p, *quote;

    p = raw.raw();

    quote = (const char *) memchr(p, '"', r->end - p);
    if (quote == NULL) {
        return false;
    }

    len = quote - p;

    if (memchr(p, '\\', len) == NULL) {
        *text = (db_str_t) { p, len };
        *plain = true;
        return true;
    }

    while (db_json_is_escaped(p, quote)) {
        quote = (const char *) memchr(quote + 1, '"', r->end - quote - 1);
        if (quote == NULL) {
            return false;
        }
    }

    /* decoding writes at most as many bytes, but padding beyond them */

    len = quote - p;

    start = (uint8_t *) db_arena_alloc(r->arena,
                                       len + simdjson::SIMDJSON_PADDING);
    if (start == NULL) {
        r->failed = true;
        return false;
    }

    dst = start;

    if (r->parser->unescape(raw, dst).error()) {
        return false;
    }

    *text = (db_str_t) { (char *) start, (size_t) (dst - start) };
    *plain = false;

    return true;
}


static bool
db_json_is_space(char c) noexcept
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}


static bool
db_json_read_number(ondemand::value value, db_json_t *node) noexcept
{
    bool              negative;
    size_t            ndigits;
    int64_t           sign;
    uint64_t          n;
    const char       *p, *end, *digits;
    std::string_view  token;

    token = value.raw_json_token();
    p = token.data();
    end = p + token.size();

    while (end > p && db_json_is_space(end[-1])) {
        end--;
    }

    negative = (p < end && *p == '-');
    digits = p + negative;
    n = 0;

    for (p = digits; p < end && *p >= '0' && *p <= '9'; p++) {
        n = n * 10 + (uint64_t) (*p - '0');
    }

    ndigits = p - digits;

    if (p != end) {
        node->kind = DB_JSON_REAL;
        return value.get_double().get(node->u.real) == simdjson::SUCCESS;
    }

    if (ndigits == 0 || (*digits == '0' && ndigits > 1)
        || ndigits > DB_JSON_MAX_DIGITS)
    {
        return false;
    }

    /* 19 digits never overflow 64 bits, but may overflow their signed half */

    if (ndigits > 19 || n > (uint64_t) INT64_MAX + negative) {
        node->kind = DB_JSON_BIGINT;
        node->u.text = (db_str_t) { token.data(),
                                    (size_t) (end - token.data()) };
        return true;
    }

    sign = negative ? -1 : 1;
    node->kind = DB_JSON_INT;
    node->u.integer = (n > INT64_MAX) ? INT64_MIN : sign * (int64_t) n;

    return true;
}


static bool
db_json_read_atom(ondemand::value value, db_json_t *node) noexcept
{
    size_t            len;
    std::string_view  token;

    token = value.raw_json_token();
    len = token.size();

    while (len && db_json_is_space(token[len - 1])) {
        len--;
    }

    token = token.substr(0, len);

    if (token == "null") {
        node->kind = DB_JSON_NULL;

    } else if (token == "true") {
        node->kind = DB_JSON_TRUE;

    } else if (token == "false") {
        node->kind = DB_JSON_FALSE;

    } else {
        return false;
    }

    return true;
}


static bool
db_json_read_array(db_json_reader_t *r, ondemand::array array,
    db_json_t *node, unsigned depth) noexcept
{
    db_json_t        *item, **last;
    ondemand::value   value;

    node->kind = DB_JSON_ARRAY;
    node->u.child = NULL;
    last = &node->u.child;

    for (auto element : array) {
        if (element.get(value)) {
            return false;
        }

        item = db_json_node(r);
        if (item == NULL || !db_json_read_value(r, value, item, depth)) {
            return false;
        }

        *last = item;
        last = &item->next;
        node->count++;
    }

    return true;
}


static bool
db_json_before(const db_json_member_t &a, const db_json_member_t &b) noexcept
{
    int        order;
    db_str_t   x, y;

    x = a.node->key;
    y = b.node->key;

    if (x.len != y.len) {
        return x.len < y.len;
    }

    order = memcmp(x.data, y.data, x.len);

    return order ? order < 0 : a.order < b.order;
}


/* The first of two members with one key takes over the value of the last. */

static void
db_json_replace(db_json_t *first, const db_json_t *later) noexcept
{
    first->kind = later->kind;
    first->plain = later->plain;
    first->count = later->count;
    first->u = later->u;
}


static void
db_json_unlink(db_json_t *object) noexcept
{
    db_json_t  *member, **link;

    link = &object->u.child;

    while ((member = *link) != NULL) {
        if (member->key.data == NULL) {
            *link = member->next;
            object->count--;
            continue;
        }

        link = &member->next;
    }
}


static bool
db_json_unique_many(db_json_reader_t *r, db_json_t *object) noexcept
{
    bool               found;
    size_t             i, n, first;
    db_json_t         *member;
    db_json_member_t  *members;

    members = (db_json_member_t *)
        db_arena_alloc(r->arena, object->count * sizeof(db_json_member_t));
    if (members == NULL) {
        r->failed = true;
        return false;
    }

    n = 0;

    for (member = object->u.child; member; member = member->next) {
        members[n].node = member;
        members[n].order = n;
        n++;
    }

    std::sort(members, members + n, db_json_before);

    found = false;
    first = 0;

    for (i = 1; i < n; i++) {
        if (!db_str_eq(members[first].node->key, members[i].node->key)) {
            first = i;
            continue;
        }

        db_json_replace(members[first].node, members[i].node);
        members[i].node->key.data = NULL;
        found = true;
    }

    if (found) {
        db_json_unlink(object);
    }

    return true;
}


static void
db_json_unique_few(db_json_t *object) noexcept
{
    bool        found;
    db_json_t  *member, *later;

    found = false;

    for (member = object->u.child; member; member = member->next) {

        if (member->key.data == NULL) {
            continue;
        }

        for (later = member->next; later; later = later->next) {
            if (later->key.len == member->key.len
                && later->key.data
                && memcmp(later->key.data, member->key.data,
                          member->key.len) == 0)
            {
                db_json_replace(member, later);
                later->key.data = NULL;
                found = true;
            }
        }
    }

    if (found) {
        db_json_unlink(object);
    }
}


static bool
db_json_read_object(db_json_reader_t *r, ondemand::object object,
    db_json_t *node, unsigned depth) noexcept
{
    bool                       plain;
    db_json_t                 *member, **last;
    ondemand::field            field;
    ondemand::raw_json_string  key;

    node->kind = DB_JSON_OBJECT;
    node->u.child = NULL;
    last = &node->u.child;

    for (auto element : object) {
        if (std::move(element).get(field)) {
            return false;
        }

        member = db_json_node(r);
        if (member == NULL) {
            return false;
        }

        key = field.key();

        if (!db_json_read_string(r, key, &member->key, &plain)) {
            return false;
        }

        member->key_plain = plain;

        if (!db_json_read_value(r, field.value(), member, depth)) {
            return false;
        }

        *last = member;
        last = &member->next;
        node->count++;
    }

    if (node->count > DB_JSON_PAIRS) {
        return db_json_unique_many(r, node);
    }

    db_json_unique_few(node);

    return true;
}


static bool
db_json_read_value(db_json_reader_t *r, ondemand::value value,
    db_json_t *node, unsigned depth) noexcept
{
    bool                       plain;
    ondemand::array            array;
    ondemand::object           object;
    ondemand::json_type        type;
    ondemand::raw_json_string  raw;

    if (value.type().get(type)) {
        return false;
    }

    switch (type) {

    case ondemand::json_type::object:
        return depth < DB_JSON_MAX_DEPTH
               && value.get_object().get(object) == simdjson::SUCCESS
               && db_json_read_object(r, object, node, depth + 1);

    case ondemand::json_type::array:
        return depth < DB_JSON_MAX_DEPTH
               && value.get_array().get(array) == simdjson::SUCCESS
               && db_json_read_array(r, array, node, depth + 1);

    case ondemand::json_type::string:
        if (value.get_raw_json_string().get(raw)
            || !db_json_read_string(r, raw, &node->u.text, &plain))
        {
            return false;
        }

        node->kind = DB_JSON_STRING;
        node->plain = plain;
        return true;

    case ondemand::json_type::number:
        return db_json_read_number(value, node);

    default:
        return db_json_read_atom(value, node);
    }
}


static bool
db_json_read_document(db_json_reader_t *r, char *text, size_t len,
    db_json_t *list) noexcept
{
    ondemand::array     array;
    ondemand::document  document;

    /* the list is not a level of the document's own */

    return r->parser->iterate(text, len, len + simdjson::SIMDJSON_PADDING)
                    .get(document) == simdjson::SUCCESS
           && document.get_array().get(array) == simdjson::SUCCESS
           && db_json_read_array(r, array, list, 0)
           && document.current_location().error() == simdjson::OUT_OF_BOUNDS
           && list->count == 1;
}


int
db_json_is_utf8(db_str_t text)
{
    return simdjson::validate_utf8(text.data, text.len);
}


int
db_json_read(db_arena_t *arena, db_str_t text, db_json_t **root,
    db_json_error_t *error)
{
    bool               ok;
    char              *copy;
    size_t             len;
    db_json_t          list;
    db_json_reader_t   r;

    static thread_local ondemand::parser  parser;

    len = text.len + 2;

    copy = (char *) db_arena_alloc(arena, len + simdjson::SIMDJSON_PADDING);
    if (copy == NULL) {
        return DB_ERROR;
    }

    copy[0] = '[';

    if (text.len) {
        memcpy(copy + 1, text.data, text.len);
    }

    copy[len - 1] = ']';
    memset(copy + len, ' ', simdjson::SIMDJSON_PADDING);

    r.arena = arena;
    r.parser = &parser;
    r.end = copy + len;
    r.nfree = 0;
    r.slab = 16;
    r.failed = false;

    list = {};

    ok = db_json_read_document(&r, copy, len, &list);

    if (parser.capacity() > DB_JSON_KEEP) {
        parser = ondemand::parser();
    }

    if (ok) {
        *root = list.u.child;
        return DB_OK;
    }

    if (r.failed) {
        return DB_ERROR;
    }

    if (!db_json_is_utf8(text)) {
        error->fault = DB_JSON_UNREADABLE;
        return DB_DECLINED;
    }

    if (db_json_scan(text, error) == DB_OK) {
        error->fault = DB_JSON_UNREADABLE;
    }

    return DB_DECLINED;
}


/*
 * A number of few decimals, the common one; 0: it has more.  No two decimals
 * of at most fifteen digits are the same double, so one that reads back, by a
 * division that is exact but for its rounding, is the shortest.
 */

static unsigned
db_json_few_digits(double value, char digits[24], int *exponent)
{
    int       e;
    char      text[24], *p;
    double    scaled;
    uint64_t  whole = 0;
    unsigned  n;

    static const double  powers[] = { 1, 10, 100, 1000 };

    for (e = 0; e < 4; e++) {
        scaled = value * powers[e] + 0.5;

        if (!(scaled < 1e15)) {
            return 0;
        }

        whole = (uint64_t) scaled;

        if (whole && (double) whole / powers[e] == value) {
            break;
        }
    }

    if (e == 4) {
        return 0;
    }

    p = text + sizeof(text);

    do {
        *--p = (char) ('0' + whole % 10);
        whole /= 10;
    } while (whole);

    n = (unsigned) (text + sizeof(text) - p);
    *exponent = (int) n - e;

    while (n > 1 && p[n - 1] == '0') {
        n--;
    }

    memcpy(digits, p, n);

    return n;
}


unsigned
db_json_real_digits(double value, char digits[24], int *exponent)
{
    int                   e;
    char                  text[40], *p;
    unsigned              n;
    std::to_chars_result  result;

    n = db_json_few_digits(value, digits, exponent);

    if (n) {
        return n;
    }

    result = std::to_chars(text, text + sizeof(text), value,
                           std::chars_format::scientific);
    for (p = text; *p != 'e'; p++) {
        if (*p != '.') {
            digits[n++] = *p;
        }
    }

    p++;

    if (*p == '+') {
        p++;
    }

    e = 0;
    (void) std::from_chars(p, result.ptr, e);

    *exponent = e + 1;

    return n;
}


double
db_json_real_read(db_str_t text)
{
    long                    point, e;
    double                  value;
    const char             *p, *end;
    std::from_chars_result  result;

    end = text.data + text.len;
    value = 0;

    result = std::from_chars(text.data, end, value);
    if (result.ec != std::errc::result_out_of_range) {
        return value;
    }

    /* too large or too small: where is the first digit that counts? */

    point = 0;

    for (p = text.data; p < end && *p == '0'; p++) { /* void */ }

    for ( ; p < end && *p >= '0' && *p <= '9'; p++) {
        point++;
    }

    if (p < end && *p == '.') {
        p++;

        if (point == 0) {
            for ( ; p < end && *p == '0'; p++) {
                point--;
            }
        }

        while (p < end && *p >= '0' && *p <= '9') {
            p++;
        }
    }

    if (p < end) {
        p++;

        if (p < end && *p == '+') {
            p++;
        }

        e = 0;
        result = std::from_chars(p, end, e);

        if (result.ec == std::errc::result_out_of_range) {
            return *p == '-' ? 0.0 : HUGE_VAL;
        }

        point = std::clamp(e, -1000000000000L, 1000000000000L) + point;
    }

    return point > 0 ? HUGE_VAL : 0.0;
}
