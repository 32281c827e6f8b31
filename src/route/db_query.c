/*
 * Query strings and percent-encoding.  Any thread; what is parsed belongs to
 * the arena.
 */

#include "route/db_query.h"


static int
db_hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    c |= 0x20;

    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }

    return -1;
}


static size_t
db_decode(char *dst, db_str_t src, char plus)
{
    int          high, low;
    char        *start;
    const char  *p, *end;

    /* never ahead of the source: dst may be src.data */

    start = dst;
    p = src.data;
    end = p + src.len;

    while (p < end) {

        if (*p == '%' && end - p > 2) {
            high = db_hex(p[1]);
            low = db_hex(p[2]);

            if (high >= 0 && low >= 0) {
                *dst++ = (char) (high << 4 | low);
                p += 3;
                continue;
            }
        }

        *dst++ = (*p == '+') ? plus : *p;
        p++;
    }

    return (size_t) (dst - start);
}


size_t
db_percent_decode(char *dst, db_str_t src)
{
    return src.len ? db_decode(dst, src, '+') : 0;
}


size_t
db_query_decode(char *dst, db_str_t src)
{
    return src.len ? db_decode(dst, src, ' ') : 0;
}


static unsigned
db_query_count(db_str_t raw)
{
    size_t    i;
    unsigned  n;

    n = 1;

    for (i = 0; i < raw.len; i++) {
        n += (raw.data[i] == '&');
    }

    return n;
}


static size_t
db_find(const char *data, size_t len, char c)
{
    const char  *p;

    p = len ? memchr(data, c, len) : NULL;

    return p ? (size_t) (p - data) : len;
}


int
db_query_parse(db_arena_t *arena, db_str_t raw, db_query_pair_t **pairs,
    unsigned *npairs)
{
    char             *text;
    size_t            len, name;
    const char       *p, *end;
    db_query_pair_t  *pair;

    *pairs = NULL;
    *npairs = 0;

    if (raw.len == 0) {
        return DB_OK;
    }

    pair = db_arena_alloc(arena, db_query_count(raw) * sizeof(*pair));
    text = db_arena_alloc(arena, raw.len);

    if (pair == NULL || text == NULL) {
        return DB_ERROR;
    }

    *pairs = pair;
    end = raw.data + raw.len;

    for (p = raw.data; p < end; p += len + 1) {
        len = db_find(p, (size_t) (end - p), '&');

        if (len == 0) {
            continue;
        }

        name = db_find(p, len, '=');

        pair->name.data = text;
        pair->name.len = db_decode(text, (db_str_t) { p, name }, ' ');
        text += pair->name.len;

        pair->value.data = text;
        pair->value.len = 0;

        if (name < len) {
            pair->value.len = db_decode(text,
                        (db_str_t) { p + name + 1, len - name - 1 }, ' ');
            text += pair->value.len;
        }

        pair++;
    }

    *npairs = (unsigned) (pair - *pairs);

    return DB_OK;
}
