/*
 * int, float and bool from text in pydantic's lax mode.
 *
 * An int is first read as JSON has it, then with white space, "+", leading
 * zeros, ".0" and single underscores taken away, as pydantic-core's
 * str_as_int() does, its oddities included.
 */

#include "scalar/db_scalar.h"

#include "json/db_json.h"

#include <math.h>


/* The white space character that ends or begins at p: its bytes, or 0. */

static size_t
db_text_space(const unsigned char *p, size_t left)
{
    unsigned  c;

    if (left == 0) {
        return 0;
    }

    if (p[0] < 0x80) {
        return (p[0] == ' ' || (p[0] >= '\t' && p[0] <= '\r'));
    }

    if (p[0] == 0xc2 && left >= 2) {
        return (p[1] == 0x85 || p[1] == 0xa0) ? 2 : 0;
    }

    if (p[0] < 0xe1 || p[0] > 0xe3 || left < 3) {
        return 0;
    }

    c = (p[0] & 0xfU) << 12 | (p[1] & 0x3fU) << 6 | (p[2] & 0x3fU);

    return (c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028
            || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000)
           ? 3 : 0;
}


db_str_t
db_text_trim(db_str_t text)
{
    size_t                n, back;
    const unsigned char  *p;

    p = (const unsigned char *) text.data;

    while ((n = db_text_space(p, text.len)) != 0) {
        p += n;
        text.len -= n;
    }

    while (text.len) {
        for (back = 1; back < text.len && back < 3; back++) {
            if ((p[text.len - back] & 0xc0) != 0x80) {
                break;
            }
        }

        if (db_text_space(p + text.len - back, back) != back) {
            break;
        }

        text.len -= back;
    }

    text.data = (const char *) p;

    return text;
}


size_t
db_text_length(db_str_t text)
{
    size_t  i, n;

    n = 0;

    for (i = 0; i < text.len; i++) {
        n += ((text.data[i] & 0xc0) != 0x80);
    }

    return n;
}


static int
db_is_digit(char c)
{
    return c >= '0' && c <= '9';
}


/* An int as JSON writes it, and nothing else. */

static db_scalar_result_t
db_integer_read(db_str_t text, db_integer_t *integer)
{
    size_t    i, start;
    uint64_t  n;

    start = (text.len && text.data[0] == '-');
    n = 0;

    for (i = start; i < text.len && db_is_digit(text.data[i]); i++) {
        n = n * 10 + (uint64_t) (text.data[i] - '0');
    }

    if (i == start || (text.data[start] == '0' && i - start > 1)) {
        return DB_SCALAR_INVALID;
    }

    if (i - start > DB_JSON_MAX_DIGITS) {
        return DB_SCALAR_TOO_LONG;
    }

    if (i != text.len) {
        return DB_SCALAR_INVALID;
    }

    integer->negative = (int) start;

    if (i - start > 19 || n > (uint64_t) INT64_MAX + start) {
        integer->digits = (db_str_t) { text.data + start, i - start };
        return DB_SCALAR_BIG;
    }

    integer->value = (int64_t) (start ? 0 - n : n);

    return DB_SCALAR_OK;
}


/* DB_DECLINED when there is none to be taken as the first digit. */

static int
db_strip_zeros(db_str_t *text)
{
    char    c;
    size_t  i;

    if (text->len == 0 || !db_is_digit(text->data[0])) {
        return DB_DECLINED;
    }

    if (text->data[0] != '0') {
        return DB_OK;
    }

    for (i = 1; i < text->len; i++) {
        c = text->data[i];

        if (c == '0' || c == '_') {
            continue;
        }

        if (c == '.') {
            i--;

        } else if (!db_is_digit(c) && c != '-') {
            return DB_DECLINED;
        }

        text->data += i;
        text->len -= i;

        return DB_OK;
    }

    text->data += text->len - 1;
    text->len = 1;

    return DB_OK;
}


static void
db_strip_fraction(db_str_t *text)
{
    size_t       i;
    const char  *dot;

    dot = memchr(text->data, '.', text->len);
    if (dot == NULL) {
        return;
    }

    i = (size_t) (dot - text->data) + 1;

    if (i == text->len) {
        return;
    }

    for ( /* void */ ; i < text->len; i++) {
        if (text->data[i] != '0') {
            return;
        }
    }

    text->len = (size_t) (dot - text->data);
}


/*
 * Copies without underscores to dst, which may take text.len bytes.  Text
 * with none, or with one where it may not be, is copied as it is.
 */

static size_t
db_strip_underscores(char *dst, db_str_t text)
{
    size_t  i, n;

    for (i = 0; i < text.len; i++) {
        if (text.data[i] == '_'
            && (i == 0 || i == text.len - 1 || text.data[i - 1] == '_'))
        {
            memcpy(dst, text.data, text.len);
            return text.len;
        }
    }

    n = 0;

    for (i = 0; i < text.len; i++) {
        if (text.data[i] != '_') {
            dst[n++] = text.data[i];
        }
    }

    return n;
}


db_scalar_result_t
db_integer_parse(db_arena_t *arena, db_str_t text, db_integer_t *integer)
{
    int                  negative;
    char                *clean;
    size_t               len;
    db_scalar_result_t   result;

    result = db_integer_read(text, integer);
    if (result != DB_SCALAR_INVALID) {
        return result;
    }

    text = db_text_trim(text);

    if (text.len && text.data[0] == '+') {
        text.data++;
        text.len--;

        if (text.len && text.data[0] == '-') {
            return DB_SCALAR_INVALID;
        }
    }

    negative = (text.len && text.data[0] == '-');

    if (negative) {
        text.data++;
        text.len--;
    }

    if (db_strip_zeros(&text) != DB_OK) {
        return DB_SCALAR_INVALID;
    }

    db_strip_fraction(&text);

    clean = db_arena_alloc(arena, text.len + 1);
    if (clean == NULL) {
        return DB_SCALAR_FAILED;
    }

    clean[0] = '-';
    len = db_strip_underscores(clean + negative, text);

    result = db_integer_read((db_str_t) { clean, len + (size_t) negative },
                             integer);

    return result == DB_SCALAR_TOO_LONG ? DB_SCALAR_INVALID : result;
}


static int
db_is_word(db_str_t text, const char *word)
{
    size_t  i;

    for (i = 0; i < text.len; i++) {
        if ((text.data[i] | 0x20) != word[i] || word[i] == '\0') {
            return 0;
        }
    }

    return word[i] == '\0';
}


/* The grammar of Rust's f64::from_str(). */

static db_scalar_result_t
db_real_read(db_str_t text, double *value)
{
    int     negative;
    size_t  i, ndigits;

    negative = (text.len && text.data[0] == '-');

    if (negative || (text.len && text.data[0] == '+')) {
        text.data++;
        text.len--;
    }

    if (db_is_word(text, "inf") || db_is_word(text, "infinity")) {
        *value = negative ? -HUGE_VAL : HUGE_VAL;
        return DB_SCALAR_OK;
    }

    if (db_is_word(text, "nan")) {
        *value = NAN;
        return DB_SCALAR_OK;
    }

    for (i = 0; i < text.len && db_is_digit(text.data[i]); i++) { /* void */ }

    ndigits = i;

    if (i < text.len && text.data[i] == '.') {
        for (i++; i < text.len && db_is_digit(text.data[i]); i++) {
            ndigits++;
        }
    }

    if (ndigits == 0) {
        return DB_SCALAR_INVALID;
    }

    if (i < text.len && (text.data[i] | 0x20) == 'e') {
        i++;

        if (i < text.len && (text.data[i] == '+' || text.data[i] == '-')) {
            i++;
        }

        if (i == text.len) {
            return DB_SCALAR_INVALID;
        }

        while (i < text.len && db_is_digit(text.data[i])) {
            i++;
        }
    }

    if (i != text.len) {
        return DB_SCALAR_INVALID;
    }

    *value = db_json_real_read(text);

    if (negative) {
        *value = -*value;
    }

    return DB_SCALAR_OK;
}


db_scalar_result_t
db_real_parse(db_arena_t *arena, db_str_t text, double *value)
{
    char                *clean;
    size_t               len;
    db_scalar_result_t   result;

    result = db_real_read(db_text_trim(text), value);

    if (result == DB_SCALAR_OK || memchr(text.data, '_', text.len) == NULL) {
        return result;
    }

    clean = db_arena_alloc(arena, text.len);
    if (clean == NULL) {
        return DB_SCALAR_FAILED;
    }

    len = db_strip_underscores(clean, text);

    return db_real_read((db_str_t) { clean, len }, value);
}


db_scalar_result_t
db_bool_parse(db_str_t text, int *value)
{
    size_t  i;

    static const char  *const yes[] = { "t", "y", "on", "yes", "true" };
    static const char  *const no[] = { "f", "n", "no", "off", "false" };

    if (text.len == 1 && (text.data[0] == '0' || text.data[0] == '1')) {
        *value = (text.data[0] == '1');
        return DB_SCALAR_OK;
    }

    for (i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (db_is_word(text, yes[i])) {
            *value = 1;
            return DB_SCALAR_OK;
        }

        if (db_is_word(text, no[i])) {
            *value = 0;
            return DB_SCALAR_OK;
        }
    }

    return DB_SCALAR_INVALID;
}
