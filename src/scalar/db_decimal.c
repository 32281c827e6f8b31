/*
 * Decimals as Python's Decimal() reads and writes them: exact, of any length.
 */

#include "scalar/db_scalar.h"

#include "json/db_json.h"


/* Exponents: that of a first digit at most, that of a last one at least. */

#define DB_DECIMAL_MAX    INT64_C(999999999999999999)
#define DB_DECIMAL_MIN    (-INT64_C(1999999999999999997))

/* Read in the place of what is beyond: far enough for any count of places. */

#define DB_DECIMAL_FAR    (INT64_MAX / 2)


/* The zeros of Unicode, each followed by its 1 to 9. */

static const uint32_t  db_decimal_zeros[] = {
    0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6,
    0x0c66, 0x0ce6, 0x0d66, 0x0de6, 0x0e50, 0x0ed0, 0x0f20, 0x1040, 0x1090,
    0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40,
    0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
    0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450,
    0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50,
    0x11da0, 0x16a60, 0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec,
    0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0
};


/* Python's white space: Unicode's, and four separators of ASCII. */

static db_str_t
db_decimal_trim(db_str_t text)
{
    size_t  before;

    do {
        before = text.len;
        text = db_text_trim(text);

        while (text.len && text.data[0] >= 0x1c && text.data[0] <= 0x1f) {
            text.data++;
            text.len--;
        }

        while (text.len && text.data[text.len - 1] >= 0x1c
               && text.data[text.len - 1] <= 0x1f)
        {
            text.len--;
        }

    } while (text.len != before);

    return text;
}


/* The digit of a character beyond ASCII at p, as ASCII, and its length. */

static char
db_decimal_digit(const unsigned char *p, size_t *len)
{
    size_t    i;
    uint32_t  c;

    if (p[0] < 0xe0) {
        *len = 2;
        c = (p[0] & 0x1fU) << 6 | (p[1] & 0x3fU);

    } else if (p[0] < 0xf0) {
        *len = 3;
        c = (p[0] & 0xfU) << 12 | (p[1] & 0x3fU) << 6 | (p[2] & 0x3fU);

    } else {
        *len = 4;
        c = (p[0] & 7U) << 18 | (p[1] & 0x3fU) << 12 | (p[2] & 0x3fU) << 6
            | (p[3] & 0x3fU);
    }

    for (i = 0; i < sizeof(db_decimal_zeros) / sizeof(uint32_t); i++) {
        if (c >= db_decimal_zeros[i] && c < db_decimal_zeros[i] + 10) {
            return (char) ('0' + (c - db_decimal_zeros[i]));
        }
    }

    return '?';
}


/* All in ASCII, without underscores and the space around. */

static int
db_decimal_plain(db_arena_t *arena, db_str_t text, db_str_t *plain)
{
    char                 *copy;
    size_t                i, len, n;
    const unsigned char  *p;

    text = db_decimal_trim(text);
    copy = db_arena_alloc(arena, text.len + 1);

    if (copy == NULL) {
        return DB_ERROR;
    }

    for (i = 0, n = 0; i < text.len; i += len) {
        p = (const unsigned char *) text.data + i;
        len = 1;

        if (*p == '_') {
            continue;
        }

        copy[n++] = *p < 0x80 ? (char) *p : db_decimal_digit(p, &len);
    }

    *plain = (db_str_t) { copy, n };

    return DB_OK;
}


static int
db_decimal_is_digit(db_str_t text, size_t i)
{
    return i < text.len && text.data[i] >= '0' && text.data[i] <= '9';
}


static int
db_decimal_is(db_str_t text, size_t i, const char *name)
{
    for ( /* void */ ; *name; name++, i++) {
        if (i >= text.len || (text.data[i] | 0x20) != *name) {
            return 0;
        }
    }

    return i == text.len;
}


static int
db_decimal_is_special(db_str_t text, size_t i)
{
    if (db_decimal_is(text, i, "inf") || db_decimal_is(text, i, "infinity")) {
        return 1;
    }

    while (text.len > i + 3 && db_decimal_is_digit(text, text.len - 1)) {
        text.len--;
    }

    return db_decimal_is(text, i, "nan") || db_decimal_is(text, i, "snan");
}


static int
db_decimal_exponent(db_str_t text, size_t i, int64_t *exponent)
{
    int  negative;

    negative = (i < text.len && text.data[i] == '-');
    i += (i < text.len && (text.data[i] == '-' || text.data[i] == '+'));

    if (i == text.len) {
        return DB_DECLINED;
    }

    for (*exponent = 0; i < text.len; i++) {
        if (!db_decimal_is_digit(text, i)) {
            return DB_DECLINED;
        }

        *exponent = *exponent > DB_DECIMAL_FAR / 10
                    ? DB_DECIMAL_FAR
                    : *exponent * 10 + (text.data[i] - '0');
    }

    if (negative) {
        *exponent = -*exponent;
    }

    return DB_OK;
}


db_scalar_result_t
db_decimal_parse(db_arena_t *arena, db_str_t text, db_decimal_t *d,
    int *finite)
{
    char      *digits;
    size_t     i, n;
    int64_t    places, exponent;

    if (db_decimal_plain(arena, text, &text) != DB_OK) {
        return DB_SCALAR_FAILED;
    }

    *finite = 1;
    *d = (db_decimal_t) { .negative = (text.len && text.data[0] == '-') };

    i = (text.len && (text.data[0] == '-' || text.data[0] == '+'));

    if (db_decimal_is_special(text, i)) {
        *finite = 0;
        return DB_SCALAR_OK;
    }

    /* in the place that they are in: they only move forward */

    digits = (char *) text.data;
    n = 0;
    places = 0;
    exponent = 0;

    for ( /* void */ ; db_decimal_is_digit(text, i); i++) {
        digits[n++] = text.data[i];
    }

    if (i < text.len && text.data[i] == '.') {
        for (i++; db_decimal_is_digit(text, i); i++, places++) {
            digits[n++] = text.data[i];
        }
    }

    if (n == 0) {
        return DB_SCALAR_INVALID;
    }

    if (i < text.len && (text.data[i] | 0x20) == 'e') {
        if (db_decimal_exponent(text, i + 1, &exponent) != DB_OK) {
            return DB_SCALAR_INVALID;
        }

        i = text.len;
    }

    if (i != text.len) {
        return DB_SCALAR_INVALID;
    }

    while (n > 1 && *digits == '0') {
        digits++;
        n--;
    }

    d->digits = (db_str_t) { digits, n };
    d->exponent = exponent - places;

    if (d->exponent < DB_DECIMAL_MIN
        || d->exponent + (int64_t) n - 1 > DB_DECIMAL_MAX)
    {
        return DB_SCALAR_INVALID;
    }

    return DB_SCALAR_OK;
}


static int
db_decimal_is_zero(const db_decimal_t *d)
{
    return d->digits.data[0] == '0';
}


static int
db_decimal_magnitude(const db_decimal_t *a, const db_decimal_t *b)
{
    char     x, y;
    size_t   i;
    int64_t  m, n;

    m = a->exponent + (int64_t) a->digits.len;
    n = b->exponent + (int64_t) b->digits.len;

    if (m != n) {
        return m < n ? -1 : 1;
    }

    for (i = 0; i < a->digits.len || i < b->digits.len; i++) {
        x = i < a->digits.len ? a->digits.data[i] : '0';
        y = i < b->digits.len ? b->digits.data[i] : '0';

        if (x != y) {
            return x < y ? -1 : 1;
        }
    }

    return 0;
}


int
db_decimal_compare(const db_decimal_t *a, const db_decimal_t *b)
{
    int  x, y;

    x = db_decimal_is_zero(a) ? 0 : a->negative ? -1 : 1;
    y = db_decimal_is_zero(b) ? 0 : b->negative ? -1 : 1;

    if (x != y || x == 0) {
        return x - y;
    }

    return x * db_decimal_magnitude(a, b);
}


/* With an exponent only where Python has one. */

void
db_decimal_write(db_buf_t *buf, const db_decimal_t *d)
{
    int64_t  i, len, left, point;

    len = (int64_t) d->digits.len;
    left = d->exponent + len;
    point = (d->exponent <= 0 && left > -6) ? left : 1;

    if (d->negative) {
        db_buf_putc(buf, '-');
    }

    if (point <= 0) {
        db_buf_lit(buf, "0.");

        for (i = point; i < 0; i++) {
            db_buf_putc(buf, '0');
        }

        db_buf_str(buf, d->digits);

    } else {
        db_buf_append(buf, d->digits.data, (size_t) point);

        if (point < len) {
            db_buf_putc(buf, '.');
            db_buf_append(buf, d->digits.data + point, (size_t) (len - point));
        }
    }

    if (left != point) {
        db_buf_putc(buf, 'E');

        if (left > point) {
            db_buf_putc(buf, '+');
        }

        db_json_write_int(buf, left - point);
    }
}


void
db_decimal_count(const db_decimal_t *d, int normalized, uint64_t *digits,
    uint64_t *decimals)
{
    int64_t  len, exponent;

    len = (int64_t) d->digits.len;
    exponent = d->exponent;

    if (normalized && db_decimal_is_zero(d)) {
        exponent = 0;
    }

    while (normalized && len > 1 && d->digits.data[len - 1] == '0') {
        len--;
        exponent++;
    }

    if (exponent >= 0) {
        *digits = (uint64_t) (len + exponent);
        *decimals = 0;
        return;
    }

    *decimals = (uint64_t) -exponent;
    *digits = len > -exponent ? (uint64_t) len : *decimals;
}
