/*
 * What every cmocka test includes.
 */

#ifndef DB_UNIT_H
#define DB_UNIT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/db_str.h"


/* A string from a C string. */

static inline db_str_t
str(const char *text)
{
    return (db_str_t) { text, strlen(text) };
}


static inline void
assert_str(db_str_t got, const char *want)
{
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.data ? got.data : "", want, got.len);
}

#endif /* DB_UNIT_H */
