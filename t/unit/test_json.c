/*
 * The JSON reader, scanner and writer on their own; t/test_crud_validation.py
 * compares them with CPython and pydantic.
 */

#include "unit.h"

#include "json/db_json.h"

#include <float.h>
#include <stdio.h>


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


static db_json_t *
read_ok(db_arena_t *arena, const char *text)
{
    db_json_t        *root;
    db_json_error_t   error;

    assert_int_equal(db_json_read(arena, str(text), &root, &error), DB_OK);

    return root;
}


static void
assert_written(db_arena_t *arena, const char *text, const char *want)
{
    db_buf_t  buf;

    db_buf_init(&buf, arena, 0);
    db_json_write(&buf, read_ok(arena, text));

    assert_false(buf.failed);
    assert_str((db_str_t) { buf.data, buf.len }, want);
}


static void
assert_refused(db_arena_t *arena, const char *text, const char *message,
    size_t position)
{
    db_json_t        *root;
    db_json_error_t   error;

    assert_int_equal(db_json_read(arena, str(text), &root, &error),
                     DB_DECLINED);
    assert_int_equal(error.fault, DB_JSON_SYNTAX);
    assert_string_equal(error.message, message);
    assert_int_equal(error.position, position);
}


static void
values_of_every_kind_are_read(void **state)
{
    db_json_t  *node;

    node = read_ok(*state, " [null, true, false, -12, 1.5, \"x\", {}, "
                           "9223372036854775808] ");
    assert_int_equal(node->kind, DB_JSON_ARRAY);
    assert_int_equal(node->count, 8);

    node = node->u.child;
    assert_int_equal(node->kind, DB_JSON_NULL);

    node = node->next;
    assert_int_equal(node->kind, DB_JSON_TRUE);

    node = node->next;
    assert_int_equal(node->kind, DB_JSON_FALSE);

    node = node->next;
    assert_int_equal(node->kind, DB_JSON_INT);
    assert_int_equal(node->u.integer, -12);

    node = node->next;
    assert_int_equal(node->kind, DB_JSON_REAL);
    assert_true(node->u.real == 1.5);

    node = node->next;
    assert_int_equal(node->kind, DB_JSON_STRING);
    assert_str(node->u.text, "x");
    assert_true(node->plain);

    node = node->next;
    assert_int_equal(node->kind, DB_JSON_OBJECT);
    assert_int_equal(node->count, 0);
    assert_null(node->u.child);

    node = node->next;
    assert_int_equal(node->kind, DB_JSON_BIGINT);
    assert_str(node->u.text, "9223372036854775808");
    assert_null(node->next);
}


static void
scalars_are_documents(void **state)
{
    assert_written(*state, "1", "1");
    assert_written(*state, " \"x\" ", "\"x\"");
    assert_written(*state, "null", "null");
}


static void
ints_keep_all_64_bits(void **state)
{
    assert_written(*state, "[9223372036854775807,-9223372036854775808,-0]",
                   "[9223372036854775807,-9223372036854775808,0]");
    assert_written(*state, "[-9223372036854775809,18446744073709551616]",
                   "[-9223372036854775809,18446744073709551616]");
}


static void
strings_are_unescaped_and_escaped_again(void **state)
{
    db_json_t  *node;

    node = read_ok(*state, "\"a\\n\\u00e9\\ud83d\\ude00\\\"\\\\\\/\"");
    assert_str(node->u.text, "a\n\xc3\xa9\xf0\x9f\x98\x80\"\\/");
    assert_false(node->plain);

    assert_written(*state, "\"\\u0001\\b\\f\\n\\r\\t\\u001f\\u007f\"",
                   "\"\\u0001\\b\\f\\n\\r\\t\\u001f\x7f\"");
    assert_written(*state, "{\"\\\"\":\"\\\\\"}", "{\"\\\"\":\"\\\\\"}");
}


/* Strings are written by blocks of 16 bytes, shorter ones by words. */

static void
every_byte_is_escaped_wherever_it_stands(void **state)
{
    char           text[40], want[64];
    size_t         at, len, n;
    db_buf_t       buf;
    unsigned       byte, around;
    db_arena_t    *arena;

    static const unsigned char  others[] = { 'x', 0x7f, 0x80, 0xff };

    arena = db_arena_create(4096);

    for (byte = 0; byte < 256; byte++) {
        for (around = 0; around < sizeof(others); around++) {
            for (len = 1; len < sizeof(text); len++) {
                for (at = 0; at < len; at++) {

                    memset(text, others[around], len);
                    text[at] = (char) byte;

                    want[0] = '"';
                    memcpy(want + 1, text, at);
                    n = at + 1;

                    if (byte == '"' || byte == '\\') {
                        want[n++] = '\\';
                        want[n++] = (char) byte;

                    } else if (byte >= ' ') {
                        want[n++] = (char) byte;

                    } else if (byte >= 8 && byte <= 13 && byte != 11) {
                        want[n++] = '\\';
                        want[n++] = "btn.fr"[byte - 8];

                    } else {
                        n += (size_t) snprintf(want + n, 7, "\\u%04x", byte);
                    }

                    memcpy(want + n, text + at + 1, len - at - 1);
                    n += len - at - 1;
                    want[n++] = '"';

                    db_arena_reset(arena);
                    db_buf_init(&buf, arena, 0);
                    db_json_write_string(&buf, (db_str_t) { text, len });

                    assert_int_equal(buf.len, n);
                    assert_memory_equal(buf.data, want, n);

                    db_json_write_name(&buf, '{', (db_str_t) { text, len });

                    assert_int_equal(buf.len, 2 * n + 2);
                    assert_int_equal(buf.data[n], '{');
                    assert_memory_equal(buf.data + n + 1, want, n);
                    assert_int_equal(buf.data[2 * n + 1], ':');
                }
            }
        }
    }

    db_arena_destroy(arena);
}


static void
a_member_given_twice_has_its_first_place_and_last_value(void **state)
{
    int       n;
    char      text[4096], want[4096];
    size_t    i, used, wanted;

    assert_written(*state, "{\"a\":1,\"b\":2,\"a\":{\"c\":3}}",
                   "{\"a\":{\"c\":3},\"b\":2}");
    assert_written(*state, "{\"a\":1,\"a\":2,\"a\":3,\"\":4,\"\":5}",
                   "{\"a\":3,\"\":5}");

    /* enough members to be sorted */

    used = 0;
    wanted = 0;

    for (i = 0; i < 100; i++) {
        n = snprintf(text + used, sizeof(text) - used, "%s\"k%zu\":%zu",
                     i ? "," : "{", i % 40, i);
        used += (size_t) n;
    }

    for (i = 0; i < 40; i++) {
        n = snprintf(want + wanted, sizeof(want) - wanted, "%s\"k%zu\":%zu",
                     i ? "," : "{", i, i < 20 ? i + 80 : i + 40);
        wanted += (size_t) n;
    }

    memcpy(text + used, "}", 2);
    memcpy(want + wanted, "}", 2);

    assert_written(*state, text, want);
}


static void
errors_are_those_of_json_loads(void **state)
{
    assert_refused(*state, "", "Expecting value", 0);
    assert_refused(*state, "{", "Expecting property name enclosed in double "
                   "quotes", 1);
    assert_refused(*state, "{\"a\" 1}", "Expecting ':' delimiter", 5);
    assert_refused(*state, "[1 2]", "Expecting ',' delimiter", 3);
    assert_refused(*state, "[1,]", "Expecting value", 3);
    assert_refused(*state, "1 2", "Extra data", 2);
    assert_refused(*state, "\"a", "Unterminated string starting at", 0);
    assert_refused(*state, "\"a\\x\"", "Invalid \\escape", 2);
    assert_refused(*state, "\"\\u12g4\"", "Invalid \\uXXXX escape", 2);
    assert_refused(*state, "\"a\nb\"", "Invalid control character at", 2);
}


static void
positions_count_characters(void **state)
{
    assert_refused(*state, "[\"\xc3\xa9\xf0\x9f\x98\x80\", x]",
                   "Expecting value", 7);
}


static void
what_json_does_not_know_is_refused(void **state)
{
    assert_refused(*state, "[NaN]", "Out of range float values are not JSON "
                   "compliant", 1);
    assert_refused(*state, "-Infinity", "Out of range float values are not "
                   "JSON compliant", 0);
    assert_refused(*state, "[1e400]", "Out of range float values are not "
                   "JSON compliant", 1);
    assert_refused(*state, "\"\\ud800\"", "Lone surrogate in a string", 1);
    assert_refused(*state, "\"\\udc00\\ud800\"", "Lone surrogate in a string",
                   1);
}


static void
depth_is_limited(void **state)
{
    char        text[2 * DB_JSON_MAX_DEPTH + 3];
    db_json_t  *root;

    memset(text, '[', DB_JSON_MAX_DEPTH);
    memset(text + DB_JSON_MAX_DEPTH, ']', DB_JSON_MAX_DEPTH);
    text[2 * DB_JSON_MAX_DEPTH] = '\0';

    root = read_ok(*state, text);
    assert_int_equal(root->count, 1);

    memset(text, '[', DB_JSON_MAX_DEPTH + 1);
    memset(text + DB_JSON_MAX_DEPTH + 1, ']', DB_JSON_MAX_DEPTH + 1);
    text[2 * DB_JSON_MAX_DEPTH + 2] = '\0';

    assert_refused(*state, text, "Nested too deeply", DB_JSON_MAX_DEPTH);
}


static void
bad_utf8_is_unreadable(void **state)
{
    db_json_t        *root;
    db_json_error_t   error;

    assert_int_equal(db_json_read(*state, str("[\"\xff\"]"), &root, &error),
                     DB_DECLINED);
    assert_int_equal(error.fault, DB_JSON_UNREADABLE);
    assert_false(db_json_is_utf8(str("\xc0\x80")));
    assert_true(db_json_is_utf8(str("\xe2\x82\xac")));
}


static void
assert_real(double value, const char *repr, const char *text)
{
    char  got[DB_JSON_REAL_SIZE];

    assert_str((db_str_t) { got, db_json_real_repr(got, value) }, repr);
    assert_str((db_str_t) { got, db_json_real_text(got, value) }, text);
}


static void
floats_have_two_texts(void **state)
{
    assert_real(0, "0.0", "0.0");
    assert_real(-0.0, "-0.0", "-0.0");
    assert_real(1, "1.0", "1.0");
    assert_real(0.1, "0.1", "0.1");
    assert_real(-123.25, "-123.25", "-123.25");
    assert_real(1e15, "1000000000000000.0", "1000000000000000.0");
    assert_real(1e16, "1e+16", "1e+16");
    assert_real(1.5e16, "1.5e+16", "1.5e+16");
    assert_real(0.0001, "0.0001", "0.0001");
    assert_real(1e-5, "1e-05", "0.00001");
    assert_real(1.5e-5, "1.5e-05", "0.000015");
    assert_real(1e-6, "1e-06", "1e-6");
    assert_real(5e-324, "5e-324", "5e-324");
    assert_real(0.29, "0.29", "0.29");
    assert_real(1.005, "1.005", "1.005");
    assert_real(0.3 - 0.1, "0.19999999999999998", "0.19999999999999998");
    assert_real(1.1 + 2.2, "3.3000000000000003", "3.3000000000000003");
    assert_real(120, "120.0", "120.0");
    assert_real(999999999999.999, "999999999999.999", "999999999999.999");
    assert_real(-1.7976931348623157e308, "-1.7976931348623157e+308",
                "-1.7976931348623157e+308");
}


static void
reals_are_read_beyond_their_range(void **state)
{
    assert_true(db_json_real_read(str("1.5")) == 1.5);
    assert_true(db_json_real_read(str(".5e1")) == 5);
    assert_true(db_json_real_read(str("5.")) == 5);
    assert_true(db_json_real_read(str("1e400")) > DBL_MAX);
    assert_true(db_json_real_read(str("1e99999999999999999999")) > DBL_MAX);
    assert_true(db_json_real_read(str("1e-99999999999999999999")) == 0);
    assert_true(db_json_real_read(str("1e-400")) == 0);
    assert_true(db_json_real_read(str("0.0000001e400")) > DBL_MAX);
    assert_true(db_json_real_read(str("5e-324")) > 0);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(values_of_every_kind_are_read, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(scalars_are_documents, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(ints_keep_all_64_bits, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            strings_are_unescaped_and_escaped_again, setup, teardown),
        cmocka_unit_test(every_byte_is_escaped_wherever_it_stands),
        cmocka_unit_test_setup_teardown(
            a_member_given_twice_has_its_first_place_and_last_value, setup,
            teardown),
        cmocka_unit_test_setup_teardown(errors_are_those_of_json_loads, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(positions_count_characters, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_json_does_not_know_is_refused,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(depth_is_limited, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_utf8_is_unreadable, setup,
                                        teardown),
        cmocka_unit_test(floats_have_two_texts),
        cmocka_unit_test(reals_are_read_beyond_their_range),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
