/*
 * JSON to BSON and back: what a client has sent is what it gets, to the byte;
 * bytes of a server that are not what they should be do no harm.
 */

#include "unit.h"

#include "core/db_arena.h"
#include "store/mongo/bson.h"

#include <stdio.h>
#include <stdlib.h>


static const db_collection_t  texts = {
    .name = { "texts", 5 }, .id_kind = DB_VALUE_TEXT
};
static const db_collection_t  ints = {
    .name = { "ints", 4 }, .id_kind = DB_VALUE_INT, .id_place = 1
};
static const db_collection_t  oids = {
    .name = { "oids", 4 }, .id_kind = DB_VALUE_TEXT, .objectid = 1
};
static const db_collection_t  versioned = {
    .name = { "versioned", 9 }, .id_kind = DB_VALUE_TEXT, .versioned = 1
};

/* {"at": a datetime, "inner": the same, "all": a list of the same} */

static const db_form_t  a_time = { .time = 1 };
static const db_form_t  dated;
static const db_form_t  many = { .each = &dated };

static const db_form_member_t  dates[] = {
    { { "at", 2 }, &a_time }, { { "inner", 5 }, &dated },
    { { "all", 3 }, &many },
};

static const db_form_t  dated = { .members = dates, .nmembers = 3 };

static const db_collection_t  dateds = {
    .name = { "dateds", 6 }, .id_kind = DB_VALUE_TEXT, .form = &dated
};


static db_value_t
text_value(const char *text)
{
    return (db_value_t) { .kind = DB_VALUE_TEXT, .text = str(text) };
}


static db_str_t
write_bson(db_arena_t *arena, const db_collection_t *collection,
    db_value_t id, db_str_t json)
{
    db_buf_t            out;
    db_bson_document_t  document;

    document = (db_bson_document_t) { collection, &id, 1, json, 0, NULL };
    db_buf_init(&out, arena, 0);

    if (db_bson_write(&out, &document) != DB_OK) {
        fail_msg("%s: %.*s", document.why, (int) json.len, json.data);
    }

    return (db_str_t) { out.data, out.len };
}


static void
check_round(const db_collection_t *collection, db_value_t id, db_str_t json)
{
    db_str_t     bson;
    db_buf_t     out;
    uint64_t     version;
    db_arena_t  *arena;
    const char  *why;

    arena = db_arena_create(1024);
    bson = write_bson(arena, collection, id, json);

    db_buf_init(&out, arena, 0);
    assert_int_equal(db_bson_read(&out, collection, bson, &version, &why),
                     DB_OK);
    assert_int_equal(version, collection->versioned);
    assert_int_equal(out.len, json.len);
    assert_memory_equal(out.data, json.data, json.len);

    db_arena_destroy(arena);
}


static void
test_a_document_comes_back_as_it_was(void **state)
{
    size_t  i;

    static const char  *documents[] = {
        "{\"id\":\"a\"}",
        "{\"id\":\"a\",\"n\":null,\"t\":true,\"f\":false}",
        "{\"id\":\"a\",\"i\":0,\"j\":-1,\"k\":2147483647,\"l\":-2147483648}",
        "{\"id\":\"a\",\"i\":2147483648,\"j\":9223372036854775807,"
        "\"k\":-9223372036854775808}",
        "{\"id\":\"a\",\"i\":0.0,\"j\":-0.0,\"k\":0.1,\"l\":1e+300,"
        "\"m\":5e-324,\"n\":5.0}",
        "{\"id\":\"a\",\"s\":\"\",\"t\":\"\\\"\\\\\\b\\f\\n\\r\\t\","
        "\"u\":\"\\u0000x\\u001f\",\"v\":\"\xc3\xa9\xf0\x9f\x90\x8d\"}",
        "{\"id\":\"a\",\"l\":[],\"m\":[[],[1,2.0,\"x\",null,[{}]]],"
        "\"o\":{},\"p\":{\"id\":1,\"_id\":2,\"\":{\"a.b\":3,\"$c\":4}}}",
    };

    for (i = 0; i < sizeof(documents) / sizeof(documents[0]); i++) {
        check_round(&texts, text_value("a"), str(documents[i]));
    }
}


static void
test_an_id_keeps_its_type_and_its_place(void **state)
{
    db_str_t     bson;
    db_value_t   id;
    db_arena_t  *arena;

    id = (db_value_t) { .kind = DB_VALUE_INT, .integer = INT64_MIN };
    check_round(&ints, id, str("{\"a\":1,\"id\":-9223372036854775808,"
                               "\"b\":2}"));

    check_round(&oids, text_value("0123456789abcdef01234567"),
                str("{\"id\":\"0123456789abcdef01234567\",\"x\":1}"));

    arena = db_arena_create(1024);
    bson = write_bson(arena, &oids, text_value("0123456789abcdef01234567"),
                      str("{\"id\":\"0123456789abcdef01234567\",\"x\":1}"));
    assert_int_equal(bson.len, 4 + 17 + 7 + 1);
    assert_memory_equal(bson.data, "\x1d\0\0\0\x07_id\0\x01\x23\x45\x67\x89"
                        "\xab\xcd\xef\x01\x23\x45\x67\x10x\0\1\0\0\0\0", 29);
    db_arena_destroy(arena);
}


static void
test_what_bson_cannot_hold_is_declined_saying_why(void **state)
{
    size_t              i;
    db_buf_t            out;
    db_value_t          id;
    db_arena_t         *arena;
    db_bson_document_t  document;

    static const struct {
        const char  *json;
        const char  *says;
    } wrong[] = {
        { "{\"id\":\"a\",\"o\":{\"a\\u0000b\":1}}", "NUL" },
        { "{\"_id\":1}", "_id" },
        { "{\"_v\":1}", "_v" },
        { "{\"i\":9223372036854775808}", "64 bits" },
        { "{\"i\":-9223372036854775809}", "64 bits" },
        { "{\"i\":-}", "64 bits" },
        { "{\"s\":\"\\ud800\"}", "escape" },
        { "{\"s\":\"\\x\"}", "escape" },
        { "{\"s\":\"", "does not end" },
        { "{\"l\":[1", "does not end" },
        { "{\"l\":1", "does not end" },
        { "{\"l\"", "no value" },
        { "{1:2}", "no name" },
        { "{\"l\":", "missing" },
        { "{\"l\":nul}", "no JSON" },
        { "{} {}", "follows" },
        { "[]", "no object" },
        { "", "no object" },
    };

    id = text_value("a");

    for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        arena = db_arena_create(256);
        db_buf_init(&out, arena, 0);
        document = (db_bson_document_t) { &texts, &id, 1, str(wrong[i].json),
                                          0, NULL };
        assert_int_equal(db_bson_write(&out, &document), DB_DECLINED);
        assert_non_null(strstr(document.why, wrong[i].says));
        db_arena_destroy(arena);
    }

    arena = db_arena_create(256);
    db_buf_init(&out, arena, 0);
    document = (db_bson_document_t) { &oids, &id, 1, str("{}"), 0, NULL };
    assert_int_equal(db_bson_write(&out, &document), DB_DECLINED);
    assert_non_null(strstr(document.why, "ObjectId"));
    db_arena_destroy(arena);
}


static void
test_bytes_that_are_cut_off_or_changed_do_no_harm(void **state)
{
    int          rc;
    char        *copy;
    size_t       i, n;
    db_buf_t     out;
    db_str_t     bson;
    uint64_t     version;
    db_arena_t  *arena;
    const char  *why;

    arena = db_arena_create(4096);
    bson = write_bson(arena, &texts, text_value("a"),
                      str("{\"id\":\"a\",\"s\":\"text\",\"d\":0.5,\"l\":[1,"
                          "null,true],\"o\":{\"n\":12345678901}}"));

    for (n = 0; n < bson.len; n++) {
        copy = malloc(n ? n : 1);
        memcpy(copy, bson.data, n);
        db_buf_init(&out, arena, 0);
        assert_int_equal(db_bson_read(&out, &texts, (db_str_t) { copy, n },
                                      &version, &why), DB_DECLINED);
        assert_non_null(why);
        assert_int_equal(out.len, 0);
        free(copy);
    }

    for (n = 0; n < bson.len; n++) {

        for (i = 0; i < 256; i++) {
            copy = malloc(bson.len);
            memcpy(copy, bson.data, bson.len);
            copy[n] = (char) i;
            db_buf_init(&out, arena, 0);
            rc = db_bson_read(&out, &texts, (db_str_t) { copy, bson.len },
                              &version, &why);
            assert_true(rc == DB_OK || (rc == DB_DECLINED && why));
            free(copy);
        }
    }

    db_arena_destroy(arena);
}


static db_str_t
member(char *dst, const char *value, size_t len)
{
    size_t  size;

    /* _id: 1, then the member */

    size = 4 + 9 + len + 1;
    memcpy(dst + 4, "\x10_id\0\1\0\0\0", 9);
    memcpy(dst + 13, value, len);
    dst[size - 1] = '\0';
    memset(dst, 0, 4);
    dst[0] = (char) size;

    return (db_str_t) { dst, size };
}


static void
test_what_other_programs_store_is_told_or_refused(void **state)
{
    char         bytes[128];
    size_t       i;
    db_buf_t     out;
    uint64_t     version;
    db_arena_t  *arena;
    const char  *why;

    static const struct {
        const char  *value;
        size_t       len;
        const char  *json;             /* or why not */
    } members[] = {
        { "\x09" "d\0\0\0\0\0\0\0\0\0", 11,
          "{\"id\":1,\"d\":\"1970-01-01T00:00:00Z\"}" },
        { "\x09" "d\0\xff\xff\xff\xff\xff\xff\xff\xff", 11,
          "{\"id\":1,\"d\":\"1969-12-31T23:59:59.999000Z\"}" },
        { "\x09" "d\0\xff\xff\xff\xff\xff\xff\xff\x7f", 11, "date" },
        { "\x09" "d\0\0\0\0\0\0\0\0\x80", 11, "date" },
        { "\x09" "d\0\xff\x27\xd3\xed\x7c\xc7\xff\xff", 11, "date" },
        { "\x09" "d\0\0\xdc\x1f\xd2\x77\xe6\0\0", 11, "date" },
        { "\x09" "d\0\xff\xdb\x1f\xd2\x77\xe6\0\0", 11,
          "{\"id\":1,\"d\":\"9999-12-31T23:59:59.999000Z\"}" },
        { "\x01" "d\0\0\0\0\0\0\0\xf0\x7f", 11, "finite" },
        { "\x02" "s\0\3\0\0\0\xff\xfe\0", 10, "UTF-8" },
        { "\x05" "b\0\0\0\0\0\0", 8, "type" },
        { "\x7f" "m\0", 3, "type" },
        { "\x10_v\0\7\0\0\0", 8, "{\"id\":1}" },
        { "\x02_v\0\2\0\0\0x\0", 10, "{\"id\":1}" },
    };

    arena = db_arena_create(4096);

    for (i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        db_buf_init(&out, arena, 0);

        if (db_bson_read(&out, &texts,
                         member(bytes, members[i].value, members[i].len),
                         &version, &why)
            == DB_OK)
        {
            assert_str((db_str_t) { out.data, out.len }, members[i].json);

        } else {
            assert_non_null(strstr(why, members[i].json));
            assert_int_equal(out.len, 0);
        }
    }

    db_arena_destroy(arena);
}


static void
test_a_version_is_stored_and_not_told(void **state)
{
    db_str_t     bson;
    db_arena_t  *arena;

    check_round(&versioned, text_value("a"), str("{\"id\":\"a\",\"x\":1}"));

    arena = db_arena_create(1024);
    bson = write_bson(arena, &versioned, text_value("a"),
                      str("{\"id\":\"a\"}"));
    assert_int_equal(bson.len, 4 + 11 + 12 + 1);
    assert_memory_equal(bson.data + 15, "\x12_v\0\1\0\0\0\0\0\0\0", 12);
    db_arena_destroy(arena);
}


static void
test_a_datetime_is_a_date_to_the_millisecond(void **state)
{
    size_t              i;
    uint64_t            version;
    db_buf_t            bson, json;
    db_value_t          id;
    db_arena_t         *arena;
    const char         *why;
    db_bson_document_t  document;

    static const struct {
        const char  *given;
        const char  *read;           /* NULL: the same */
    } texts[] = {
        { "{\"id\":\"a\",\"at\":\"2024-02-29T23:59:59Z\"}", NULL },
        { "{\"id\":\"a\",\"at\":\"1969-12-31T23:59:59.999000Z\"}", NULL },
        { "{\"id\":\"a\",\"at\":\"0001-01-01T00:00:00Z\"}", NULL },
        { "{\"id\":\"a\",\"at\":\"9999-12-31T23:59:59.999000Z\"}", NULL },
        { "{\"id\":\"a\",\"at\":null}", NULL },
        { "{\"id\":\"a\",\"at\":\"a \\\" b\"}", NULL },
        { "{\"id\":\"a\",\"text\":\"2024-02-29T23:59:59.123456\"}", NULL },
        { "{\"id\":\"a\",\"inner\":{\"at\":\"2024-01-01T00:00:00Z\","
          "\"all\":[{\"at\":\"2024-01-01T00:00:00Z\"},{\"at\":1}]}}", NULL },
        { "{\"id\":\"a\",\"at\":\"2024-01-01T00:00:00.123456Z\"}",
          "{\"id\":\"a\",\"at\":\"2024-01-01T00:00:00.123000Z\"}" },
        { "{\"id\":\"a\",\"at\":\"1969-12-31T23:59:59.999999Z\"}",
          "{\"id\":\"a\",\"at\":\"1969-12-31T23:59:59.999000Z\"}" },
        { "{\"id\":\"a\",\"at\":\"2024-01-01T00:00:00\"}",
          "{\"id\":\"a\",\"at\":\"2024-01-01T00:00:00Z\"}" },
        { "{\"id\":\"a\",\"all\":[{\"at\":\"2024-01-01T00:00:00+02:00\"}]}",
          "{\"id\":\"a\",\"all\":[{\"at\":\"2023-12-31T22:00:00Z\"}]}" },
    };

    id = text_value("a");

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        arena = db_arena_create(1024);
        db_buf_init(&bson, arena, 0);
        db_buf_init(&json, arena, 0);

        document = (db_bson_document_t) { &dateds, &id, 1, str(texts[i].given),
                                          0, NULL };
        assert_int_equal(db_bson_write(&bson, &document), DB_OK);
        assert_int_equal(document.rounded, texts[i].read != NULL);
        assert_int_equal(db_bson_read(&json, &dateds,
                                      (db_str_t) { bson.data, bson.len },
                                      &version, &why), DB_OK);
        assert_str((db_str_t) { json.data, json.len },
                   texts[i].read ? texts[i].read : texts[i].given);
        db_arena_destroy(arena);
    }

    arena = db_arena_create(1024);
    db_buf_init(&bson, arena, 0);
    document = (db_bson_document_t) { &dateds, &id, 1,
        str("{\"at\":\"0001-01-01T00:00:00+01:00\"}"), 0, NULL };
    assert_int_equal(db_bson_write(&bson, &document), DB_DECLINED);
    assert_non_null(strstr(document.why, "years 1 to 9999"));
    db_arena_destroy(arena);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_a_document_comes_back_as_it_was),
        cmocka_unit_test(test_an_id_keeps_its_type_and_its_place),
        cmocka_unit_test(test_what_bson_cannot_hold_is_declined_saying_why),
        cmocka_unit_test(test_bytes_that_are_cut_off_or_changed_do_no_harm),
        cmocka_unit_test(test_what_other_programs_store_is_told_or_refused),
        cmocka_unit_test(test_a_version_is_stored_and_not_told),
        cmocka_unit_test(test_a_datetime_is_a_date_to_the_millisecond),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
