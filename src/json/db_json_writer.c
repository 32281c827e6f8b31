/*
 * JSON text: strings as json.dumps(ensure_ascii=False) escapes them, numbers
 * in the two forms that Python's repr() and pydantic give them.
 */

#include "json/db_json.h"

#include <math.h>


#define DB_JSON_EACH  0x0101010101010101u     /* of the bytes of a word */
#define DB_JSON_HIGH  0x8080808080808080u


/* What a register of the processor holds, wherever it has such. */

typedef unsigned char  db_json_block_t __attribute__((vector_size(16)));


/*
 * Not 0 where one of eight bytes is to be escaped.  A byte that is smaller
 * than what is taken from it borrows, which shows in its high bit; what that
 * does to the bytes above is no matter, as there is one already.
 */

static uint64_t
db_json_escapes(uint64_t word)
{
    uint64_t  quote, backslash;

    quote = word ^ DB_JSON_EACH * '"';
    backslash = word ^ DB_JSON_EACH * '\\';

    return ((word - DB_JSON_EACH * 0x20) | (quote - DB_JSON_EACH)
            | (backslash - DB_JSON_EACH))
           & ~word & DB_JSON_HIGH;
}


static db_json_block_t
db_json_copy_block(char *dst, const char *p)
{
    db_json_block_t  block;

    memcpy(&block, p, sizeof(block));
    memcpy(dst, &block, sizeof(block));

    return (db_json_block_t) ((block < 0x20) | (block == '"')
                              | (block == '\\'));
}


static int
db_json_copy_blocks(char *dst, const char *p, size_t n)
{
    size_t           i;
    uint64_t         halves[2];
    db_json_block_t  found;

    found = db_json_copy_block(dst + n - 16, p + n - 16);

    for (i = 0; i + 16 < n; i += 16) {
        found |= db_json_copy_block(dst + i, p + i);
    }

    memcpy(halves, &found, sizeof(halves));

    return (halves[0] | halves[1]) == 0;
}


/*
 * Copies a text; whether nothing of it is to be escaped.  Its last piece may
 * overlap the one before.
 */

static int
db_json_copy_plain(char *dst, db_str_t text)
{
    size_t       n;
    uint32_t     low, high;
    uint64_t     word, last;
    const char  *p;

    p = text.data;
    n = text.len;

    if (n >= 16) {
        return db_json_copy_blocks(dst, p, n);
    }

    if (n >= 8) {
        memcpy(&word, p, 8);
        memcpy(&last, p + n - 8, 8);
        memcpy(dst, &word, 8);
        memcpy(dst + n - 8, &last, 8);

        return (db_json_escapes(word) | db_json_escapes(last)) == 0;
    }

    if (n >= 4) {
        memcpy(&low, p, 4);
        memcpy(&high, p + n - 4, 4);
        memcpy(dst, &low, 4);
        memcpy(dst + n - 4, &high, 4);

        return db_json_escapes((uint64_t) high << 32 | low) == 0;
    }

    if (n == 0) {
        return 1;
    }

    dst[0] = p[0];
    dst[n / 2] = p[n / 2];
    dst[n - 1] = p[n - 1];

    /* the others of its bytes are spaces */

    word = DB_JSON_EACH * ' ';
    memcpy(&word, dst, 1);
    memcpy((char *) &word + 1, dst + n / 2, 1);
    memcpy((char *) &word + 2, dst + n - 1, 1);

    return db_json_escapes(word) == 0;
}


static void
db_json_write_plain(db_buf_t *buf, db_str_t text)
{
    char  *p;

    p = db_buf_reserve(buf, text.len + 2);
    if (p == NULL) {
        return;
    }

    *p++ = '"';

    if (text.len) {
        memcpy(p, text.data, text.len);
    }

    p[text.len] = '"';

    buf->len += text.len + 2;
}


static void
db_json_write_escaped(db_buf_t *buf, db_str_t text)
{
    char                  c;
    size_t                i, start;
    static const char     hex[] = "0123456789abcdef";

    /* 0: as it is; 1: \u00xx; else the letter after the backslash */

    static const unsigned char  escapes[256] = {
        1, 1, 1, 1, 1, 1, 1, 1, 'b', 't', 'n', 1, 'f', 'r', 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        ['"'] = '"', ['\\'] = '\\'
    };

    db_buf_putc(buf, '"');
    start = 0;

    for (i = 0; i < text.len; i++) {
        c = (char) escapes[(unsigned char) text.data[i]];

        if (c == 0) {
            continue;
        }

        db_buf_append(buf, text.data + start, i - start);
        start = i + 1;

        if (c != 1) {
            db_buf_putc(buf, '\\');
            db_buf_putc(buf, c);
            continue;
        }

        db_buf_lit(buf, "\\u00");
        db_buf_putc(buf, hex[(unsigned char) text.data[i] >> 4]);
        db_buf_putc(buf, hex[text.data[i] & 0xf]);
    }

    db_buf_append(buf, text.data + start, text.len - start);
    db_buf_putc(buf, '"');
}


void
db_json_write_string(db_buf_t *buf, db_str_t text)
{
    char  *p;

    p = db_buf_reserve(buf, text.len + 2);
    if (p == NULL) {
        return;
    }

    if (db_json_copy_plain(p + 1, text)) {
        p[0] = '"';
        p[text.len + 1] = '"';
        buf->len += text.len + 2;

    } else {
        db_json_write_escaped(buf, text);
    }
}


void
db_json_write_name(db_buf_t *buf, char before, db_str_t name)
{
    char  *p;

    p = db_buf_reserve(buf, name.len + 4);
    if (p == NULL) {
        return;
    }

    if (db_json_copy_plain(p + 2, name)) {
        p[0] = before;
        p[1] = '"';
        p[name.len + 2] = '"';
        p[name.len + 3] = ':';
        buf->len += name.len + 4;

    } else {
        db_buf_putc(buf, before);
        db_json_write_escaped(buf, name);
        db_buf_putc(buf, ':');
    }
}


void
db_json_write_int(db_buf_t *buf, int64_t value)
{
    char      text[24], *p;
    uint64_t  n;

    p = text + sizeof(text);
    n = value < 0 ? 0 - (uint64_t) value : (uint64_t) value;

    do {
        *--p = (char) ('0' + n % 10);
        n /= 10;
    } while (n);

    if (value < 0) {
        *--p = '-';
    }

    db_buf_append(buf, p, (size_t) (text + sizeof(text) - p));
}


/* Positional when 10^min <= value < 10^max; else with an exponent. */

static size_t
db_json_real_format(char *dst, double value, int min, int max, int width)
{
    int       exponent, e;
    char      digits[24], *p;
    unsigned  i, n;

    p = dst;

    if (signbit(value)) {
        *p++ = '-';
        value = -value;
    }

    if (value == 0) {
        memcpy(p, "0.0", 3);
        return (size_t) (p - dst) + 3;
    }

    n = db_json_real_digits(value, digits, &exponent);

    if (exponent > min && exponent <= max) {

        if (exponent <= 0) {
            *p++ = '0';
            *p++ = '.';

            for (e = exponent; e < 0; e++) {
                *p++ = '0';
            }

            memcpy(p, digits, n);
            return (size_t) (p - dst) + n;
        }

        for (i = 0; i < n || (int) i < exponent; i++) {
            if ((int) i == exponent) {
                *p++ = '.';
            }

            *p++ = i < n ? digits[i] : '0';
        }

        if ((int) i == exponent) {
            *p++ = '.';
            *p++ = '0';
        }

        return (size_t) (p - dst);
    }

    *p++ = digits[0];

    if (n > 1) {
        *p++ = '.';
        memcpy(p, digits + 1, n - 1);
        p += n - 1;
    }

    e = exponent - 1;
    *p++ = 'e';
    *p++ = e < 0 ? '-' : '+';
    e = e < 0 ? -e : e;

    if (e >= 100) {
        *p++ = (char) ('0' + e / 100);
        e %= 100;
        *p++ = (char) ('0' + e / 10);

    } else if (e >= 10 || width == 2) {
        *p++ = (char) ('0' + e / 10);
    }

    *p++ = (char) ('0' + e % 10);

    return (size_t) (p - dst);
}


size_t
db_json_real_repr(char *dst, double value)
{
    return db_json_real_format(dst, value, -4, 16, 2);
}


size_t
db_json_real_text(char *dst, double value)
{
    return db_json_real_format(dst, value, -5, 16, 1);
}


static void
db_json_write_text(db_buf_t *buf, db_str_t text, int plain)
{
    if (plain) {
        db_json_write_plain(buf, text);

    } else {
        db_json_write_string(buf, text);
    }
}


static void
db_json_write_members(db_buf_t *buf, const db_json_t *node)
{
    int               object;
    const db_json_t  *member;

    object = (node->kind == DB_JSON_OBJECT);

    db_buf_putc(buf, object ? '{' : '[');

    for (member = node->u.child; member; member = member->next) {
        if (member != node->u.child) {
            db_buf_putc(buf, ',');
        }

        if (object) {
            db_json_write_text(buf, member->key, member->key_plain);
            db_buf_putc(buf, ':');
        }

        db_json_write(buf, member);
    }

    db_buf_putc(buf, object ? '}' : ']');
}


void
db_json_write(db_buf_t *buf, const db_json_t *node)
{
    char  text[DB_JSON_REAL_SIZE];

    switch (node->kind) {

    case DB_JSON_NULL:
        db_buf_lit(buf, "null");
        break;

    case DB_JSON_FALSE:
        db_buf_lit(buf, "false");
        break;

    case DB_JSON_TRUE:
        db_buf_lit(buf, "true");
        break;

    case DB_JSON_INT:
        db_json_write_int(buf, node->u.integer);
        break;

    case DB_JSON_BIGINT:
        db_buf_str(buf, node->u.text);
        break;

    case DB_JSON_REAL:
        db_buf_append(buf, text, db_json_real_repr(text, node->u.real));
        break;

    case DB_JSON_STRING:
        db_json_write_text(buf, node->u.text, node->plain);
        break;

    default:
        db_json_write_members(buf, node);
    }
}
