/*
 * The query parser: never out of bounds, and what it yields, escaped again,
 * parses to the same.
 */

#include "route/db_query.h"

#include <stdint.h>
#include <stdlib.h>


static void
check(int condition)
{
    if (!condition) {
        abort();
    }
}


static char *
escape(char *p, db_str_t str)
{
    size_t             i;
    static const char  hex[] = "0123456789ABCDEF";

    for (i = 0; i < str.len; i++) {
        *p++ = '%';
        *p++ = hex[(unsigned char) str.data[i] >> 4];
        *p++ = hex[(unsigned char) str.data[i] & 15];
    }

    return p;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char             *text, *p;
    size_t            len;
    unsigned          i, npairs, again;
    db_arena_t       *arena;
    db_query_pair_t  *pairs, *twice;

    arena = db_arena_create(64);
    text = malloc(size * 3 + size * 2 + 2);

    /* a copy of the exact size, so that reading past its end is seen */

    p = malloc(size ? size : 1);
    memcpy(p, data, size);

    check(db_query_parse(arena, (db_str_t) { p, size }, &pairs, &npairs)
          == DB_OK);
    check(npairs <= size + 1);

    len = db_percent_decode(p, (db_str_t) { p, size });
    check(len <= size);
    free(p);

    for (p = text, i = 0; i < npairs; i++) {
        p = escape(p, pairs[i].name);
        *p++ = '=';
        p = escape(p, pairs[i].value);
        *p++ = '&';
    }

    check(db_query_parse(arena, (db_str_t) { text, (size_t) (p - text) },
                         &twice, &again) == DB_OK);
    check(again == npairs);

    for (i = 0; i < npairs; i++) {
        check(db_str_eq(pairs[i].name, twice[i].name));
        check(db_str_eq(pairs[i].value, twice[i].value));
    }

    free(text);
    db_arena_destroy(arena);

    return 0;
}
