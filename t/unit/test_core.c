/*
 * Strings, arenas, buffers and dates.
 */

#include "unit.h"
#include "core/db_buf.h"
#include "core/db_date.h"

#include <stdlib.h>
#include <time.h>


static void
test_strings_compare_by_length_and_bytes(void **state)
{
    assert_true(db_str_eq(db_string("abc"), str("abc")));
    assert_false(db_str_eq(db_string("abc"), str("abd")));
    assert_false(db_str_eq(db_string("abc"), str("ab")));
    assert_true(db_str_eq(db_null_string, str("")));
    assert_true(db_str_eq(db_null_string, db_null_string));
}


static void
test_arena_memory_is_aligned_and_apart(void **state)
{
    char        *block[500];
    size_t       i, size;
    db_arena_t  *arena;

    arena = db_arena_create(1);
    assert_non_null(arena);

    for (i = 0; i < 500; i++) {
        size = i * i % 3000;
        block[i] = db_arena_alloc(arena, size);

        assert_non_null(block[i]);
        assert_int_equal((uintptr_t) block[i] % 16, 0);
        memset(block[i], (int) (i % 251), size);
    }

    for (i = 0; i < 500; i++) {
        size = i * i % 3000;

        while (size--) {
            assert_int_equal((unsigned char) block[i][size], i % 251);
        }
    }

    db_arena_destroy(arena);
}


static void
test_arena_serves_more_than_a_block(void **state)
{
    char        *big, *small;
    db_arena_t  *arena;

    arena = db_arena_create(64);

    big = db_arena_calloc(arena, 4 * 1024 * 1024);
    assert_non_null(big);
    assert_int_equal(big[0], 0);
    assert_int_equal(big[4 * 1024 * 1024 - 1], 0);

    small = db_arena_alloc(arena, 10);
    assert_non_null(small);
    memset(small, 1, 10);
    assert_int_equal(big[4 * 1024 * 1024 - 1], 0);

    db_arena_destroy(arena);
}


static void
test_arena_refuses_what_overflows(void **state)
{
    db_arena_t  *arena;

    arena = db_arena_create(64);

    assert_null(db_arena_alloc(arena, SIZE_MAX));
    assert_null(db_arena_alloc(arena, SIZE_MAX - 8));
    assert_null(db_arena_alloc(arena, SIZE_MAX / 2 + 1));
    assert_non_null(db_arena_alloc(arena, 8));

    db_arena_destroy(arena);
}


static void
test_arena_copies_strings(void **state)
{
    char         text[] = "text";
    db_str_t     copy;
    db_arena_t  *arena;

    arena = db_arena_create(64);

    copy = db_arena_str(arena, (db_str_t) { text, 3 });
    text[0] = 'T';
    assert_string_equal(copy.data, "tex");
    assert_int_equal(copy.len, 3);

    copy = db_arena_str(arena, db_null_string);
    assert_string_equal(copy.data, "");
    assert_int_equal(copy.len, 0);

    db_arena_destroy(arena);
}


static void
test_buffer_grows(void **state)
{
    size_t       i;
    db_buf_t     buf;
    db_arena_t  *arena;

    arena = db_arena_create(64);
    db_buf_init(&buf, arena, 0);

    for (i = 0; i < 100000; i++) {
        db_buf_putc(&buf, (char) ('a' + i % 26));
    }

    db_buf_lit(&buf, "end");
    db_buf_str(&buf, db_null_string);
    db_buf_printf(&buf, " %d %s", 42, "x");

    assert_false(buf.failed);
    assert_int_equal(buf.len, 100008);

    for (i = 0; i < 100000; i++) {
        assert_int_equal(buf.data[i], 'a' + i % 26);
    }

    assert_memory_equal(buf.data + 100000, "end 42 x", 8);

    db_arena_destroy(arena);
}


static void
test_buffer_failure_sticks(void **state)
{
    db_buf_t     buf;
    db_arena_t  *arena;

    arena = db_arena_create(64);
    db_buf_init(&buf, arena, 16);

    db_buf_lit(&buf, "kept");
    assert_null(db_buf_reserve(&buf, SIZE_MAX / 2));
    assert_true(buf.failed);

    db_buf_lit(&buf, "lost");
    db_buf_putc(&buf, 'x');
    db_buf_printf(&buf, "%d", 1);

    assert_true(buf.failed);
    assert_int_equal(buf.len, 4);
    assert_memory_equal(buf.data, "kept", 4);

    db_arena_destroy(arena);
}


static void
test_an_arena_that_is_reset_is_as_new(void **state)
{
    char        *first;
    unsigned     i;
    db_arena_t  *arena;

    arena = db_arena_create(256);
    first = db_arena_alloc(arena, 16);

    for (i = 0; i < 100; i++) {
        assert_non_null(db_arena_alloc(arena, 100 * i));
    }

    db_arena_reset(arena);
    assert_ptr_equal(db_arena_alloc(arena, 16), first);
    memset(db_arena_alloc(arena, 4000), 'x', 4000);

    db_arena_reset(arena);
    db_arena_reset(arena);
    assert_ptr_equal(db_arena_alloc(arena, 256), first);

    db_arena_destroy(arena);
}


/* Each from the first to the last year of four digits. */

static void
test_days_have_the_dates_of_the_c_library(void **state)
{
    int        year, month, day;
    time_t     seconds;
    int64_t    days;
    struct tm  tm;

    for (days = -719528; days <= 2932896; days++) {
        seconds = (time_t) (days * 86400);
        assert_non_null(gmtime_r(&seconds, &tm));
        db_date_from_days(days, &year, &month, &day);

        if (year != tm.tm_year + 1900 || month != tm.tm_mon + 1
            || day != tm.tm_mday)
        {
            fail_msg("day %lld is %d-%d-%d", (long long) days, year, month,
                     day);
        }
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_strings_compare_by_length_and_bytes),
        cmocka_unit_test(test_arena_memory_is_aligned_and_apart),
        cmocka_unit_test(test_arena_serves_more_than_a_block),
        cmocka_unit_test(test_arena_refuses_what_overflows),
        cmocka_unit_test(test_arena_copies_strings),
        cmocka_unit_test(test_buffer_grows),
        cmocka_unit_test(test_buffer_failure_sticks),
        cmocka_unit_test(test_an_arena_that_is_reset_is_as_new),
        cmocka_unit_test(test_days_have_the_dates_of_the_c_library),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
