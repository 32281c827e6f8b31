/*
 * Documents as lines.  Texts are copied to blocks of their own size, so that
 * a sanitizer sees what reads beyond one.
 */

#include "unit.h"

#include "store/db_lines.h"

#include <stdlib.h>


static int
setup(void **state)
{
    *state = db_arena_create(1024);

    return *state ? 0 : -1;
}


static int
teardown(void **state)
{
    db_arena_destroy(*state);

    return 0;
}


static void
assert_lines(db_arena_t *arena, const char *text, const char *want)
{
    char      *copy;
    size_t     len;
    db_buf_t   buf;

    len = strlen(text);
    copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, text, len);

    db_buf_init(&buf, arena, 0);
    db_lines_append(&buf, (db_str_t) { copy, len });
    free(copy);

    assert_int_equal(buf.failed, 0);
    assert_int_equal(buf.len, strlen(want));
    assert_memory_equal(buf.data ? buf.data : "", want, buf.len);
}


static void
documents_become_lines(void **state)
{
    assert_lines(*state, "", "");
    assert_lines(*state, "{}", "{}\n");
    assert_lines(*state, "{\"a\":[1,2],\"b\":{\"c\":3,\"d\":4}},{\"e\":5},{}",
                 "{\"a\":[1,2],\"b\":{\"c\":3,\"d\":4}}\n{\"e\":5}\n{}\n");
}


static void
white_space_between_tokens_is_dropped(void **state)
{
    assert_lines(*state, " {\r\n\t\"a\" : [ 1.50 , \"x\" ] } , { } ",
                 "{\"a\":[1.50,\"x\"]}\n{}\n");
}


static void
texts_are_kept_as_they_are(void **state)
{
    assert_lines(*state, "{\"a, {\":\" \\\" , ] \\\\\"},{\"b\":\"\\\\\"}",
                 "{\"a, {\":\" \\\" , ] \\\\\"}\n{\"b\":\"\\\\\"}\n");
}


static void
what_is_no_document_is_not_read_beyond_its_end(void **state)
{
    assert_lines(*state, "\"open", "\"open\n");
    assert_lines(*state, "\"open\\", "\"open\\\n");
    assert_lines(*state, "]},{", "]}\n{\n");
}


static int
read_line(db_arena_t *arena, const db_collection_t *collection,
    const char *text, db_store_item_t *item)
{
    int      rc;
    char     error[256], *copy;
    size_t   len;

    len = strlen(text);
    copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, text, len);

    rc = db_lines_read(arena, collection, (db_str_t) { copy, len }, item,
                       error, sizeof(error));
    free(copy);

    assert_true(rc == DB_OK || (rc == DB_DECLINED && error[0]));

    return rc;
}


static void
an_id_is_of_the_collections_kind(void **state)
{
    size_t           i;
    db_store_item_t  item;

    static const db_collection_t  texts = { .id_kind = DB_VALUE_TEXT };
    static const db_collection_t  ints = { .id_kind = DB_VALUE_INT };
    static const db_collection_t  objectids = { .id_kind = DB_VALUE_TEXT,
                                                .objectid = 1 };

    static const struct {
        const db_collection_t  *collection;
        const char             *line;
        int                     rc;
    } cases[] = {
        { &texts, "{\"id\":\"a\"}", DB_OK },
        { &texts, "{\"id\":\"a\",\"id\":\"b\"}", DB_OK },
        { &texts, "{\"id\":\"\"}", DB_DECLINED },
        { &texts, "{\"id\":1}", DB_DECLINED },
        { &texts, "{\"id\":null}", DB_DECLINED },
        { &texts, "{\"x\":{\"id\":\"a\"}}", DB_DECLINED },
        { &texts, "[\"id\"]", DB_DECLINED },
        { &texts, "", DB_DECLINED },
        { &texts, "{\"id\":\"\xff\"}", DB_DECLINED },
        { &texts, "{\"id\":\"\\ud800\"}", DB_DECLINED },
        { &ints, "{\"id\":-9223372036854775808}", DB_OK },
        { &ints, "{\"id\":9223372036854775808}", DB_DECLINED },
        { &ints, "{\"id\":1.0}", DB_DECLINED },
        { &ints, "{\"id\":\"1\"}", DB_DECLINED },
        { &objectids, "{\"id\":\"0123456789abcdef01234567\"}", DB_OK },
        { &objectids, "{\"id\":\"0123456789ABCDEF01234567\"}", DB_DECLINED },
        { &objectids, "{\"id\":\"0123456789abcdef0123456\"}", DB_DECLINED },
    };

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (read_line(*state, cases[i].collection, cases[i].line, &item)
            != cases[i].rc)
        {
            fail_msg("%s", cases[i].line);
        }
    }
}


static void
a_document_is_in_the_arena_without_white_space(void **state)
{
    db_store_item_t  item;

    static const db_collection_t  texts = { .id_kind = DB_VALUE_TEXT };

    assert_int_equal(read_line(*state, &texts,
                               "{ \"n\": 1.50, \"id\": \"\\u0061b\" }\n",
                               &item), DB_OK);

    assert_true(db_str_eq(item.document,
                          db_string("{\"n\":1.50,\"id\":\"\\u0061b\"}")));
    assert_true(db_str_eq(item.id.text, db_string("ab")));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(documents_become_lines, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(white_space_between_tokens_is_dropped,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(texts_are_kept_as_they_are, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            what_is_no_document_is_not_read_beyond_its_end, setup, teardown),
        cmocka_unit_test_setup_teardown(an_id_is_of_the_collections_kind,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_document_is_in_the_arena_without_white_space, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
