/*
 * Query strings against urllib.parse.parse_qsl(keep_blank_values=True); the
 * expected pairs were taken from it.
 */

#include "unit.h"
#include "route/db_query.h"


typedef struct {
    const char       *raw;
    const char       *pairs[8];      /* name, value, ... */
    unsigned          npairs;
} query_case_t;


static const query_case_t  cases[] = {
    { "", { NULL }, 0 },
    { "&&", { NULL }, 0 },
    { "a=1", { "a", "1" }, 1 },
    { "a", { "a", "" }, 1 },
    { "=", { "", "" }, 1 },
    { "=b", { "", "b" }, 1 },
    { "a=b=c", { "a", "b=c" }, 1 },
    { "a=1&a=2&b=", { "a", "1", "a", "2", "b", "" }, 3 },
    { "&a=1&", { "a", "1" }, 1 },
    { "a+b=c+d", { "a b", "c d" }, 1 },
    { "a%2Bb=%20%26%3d", { "a+b", " &=" }, 1 },
    { "a=%", { "a", "%" }, 1 },
    { "a=%4", { "a", "%4" }, 1 },
    { "a=%zz%4g%41", { "a", "%zz%4gA" }, 1 },
    { "a=%%41", { "a", "%A" }, 1 },
    { "a=%c3%A9", { "a", "\xc3\xa9" }, 1 },
    { "a;b=1", { "a;b", "1" }, 1 },
};


static void
test_query_parses_as_urllib(void **state)
{
    size_t            i;
    unsigned          j, npairs;
    db_arena_t       *arena;
    db_query_pair_t  *pairs;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        arena = db_arena_create(16);

        assert_int_equal(db_query_parse(arena, str(cases[i].raw), &pairs,
                                        &npairs), DB_OK);
        assert_int_equal(npairs, cases[i].npairs);

        for (j = 0; j < npairs; j++) {
            assert_str(pairs[j].name, cases[i].pairs[2 * j]);
            assert_str(pairs[j].value, cases[i].pairs[2 * j + 1]);
        }

        db_arena_destroy(arena);
    }
}


static void
test_query_keeps_an_escaped_nul(void **state)
{
    unsigned          npairs;
    db_arena_t       *arena;
    db_query_pair_t  *pairs;

    arena = db_arena_create(16);

    assert_int_equal(db_query_parse(arena, str("a=x%00y"), &pairs, &npairs),
                     DB_OK);
    assert_int_equal(npairs, 1);
    assert_int_equal(pairs[0].value.len, 3);
    assert_memory_equal(pairs[0].value.data, "x\0y", 3);

    db_arena_destroy(arena);
}


static void
test_decode_keeps_plus_and_works_in_place(void **state)
{
    char    text[] = "/a+b%2fc%25%";
    size_t  len;

    len = db_percent_decode(text, (db_str_t) { text, sizeof(text) - 1 });

    assert_str((db_str_t) { text, len }, "/a+b/c%%");
    assert_int_equal(db_percent_decode(text, db_null_string), 0);
}


static void
test_query_of_many_pairs(void **state)
{
    char              raw[4000];
    unsigned          i, npairs;
    db_arena_t       *arena;
    db_query_pair_t  *pairs;

    for (i = 0; i < sizeof(raw); i += 4) {
        memcpy(raw + i, "k=v&", 4);
    }

    arena = db_arena_create(16);

    assert_int_equal(db_query_parse(arena, (db_str_t) { raw, sizeof(raw) },
                                    &pairs, &npairs), DB_OK);
    assert_int_equal(npairs, 1000);
    assert_str(pairs[999].name, "k");
    assert_str(pairs[999].value, "v");

    db_arena_destroy(arena);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_query_parses_as_urllib),
        cmocka_unit_test(test_query_keeps_an_escaped_nul),
        cmocka_unit_test(test_decode_keeps_plus_and_works_in_place),
        cmocka_unit_test(test_query_of_many_pairs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
