/*
 * Lists of the SQLite store: what is served in the order of an index, inline
 * on the nginx thread, and where a page ends.
 */

#include "store.h"

#include <sqlite3.h>


#define DOCUMENTS  2000

static const db_str_t   n_step[] = { { "n", 1 } };
static const db_str_t   t_step[] = { { "t", 1 } };
static const db_str_t   m_step[] = { { "m", 1 } };
static const db_str_t   id_step[] = { { "id", 2 } };
static const db_path_t  n = { n_step, 1 };
static const db_path_t  m = { m_step, 1 };
static const db_path_t  id = { id_step, 1 };

static const db_key_t  n_keys[] = {
    { { n_step, 1 }, DB_VALUE_INT, 1 }
};
static const db_key_t  t_keys[] = {
    { { t_step, 1 }, DB_VALUE_TIME, 0 }
};
static const db_index_t  indexes[] = {
    { .keys = n_keys, .nkeys = 1 }, { .keys = t_keys, .nkeys = 1 }
};

static const db_collection_t  indexed = {
    .name = { "texts", 5 }, .id_kind = DB_VALUE_TEXT, .indexes = indexes,
    .nindexes = 2
};


/* Documents d0000, ...: n of 0 to 99, null now and then; m the same. */

static void
fill(fixture_t *f)
{
    char      name[16], document[128], number[16];
    call_t   *calls;
    unsigned  i;

    calls = calloc(DOCUMENTS, sizeof(call_t));

    for (i = 0; i < DOCUMENTS; i++) {
        snprintf(name, sizeof(name), "d%04u", i);
        snprintf(number, sizeof(number), "%u", i * 7 % 100);
        snprintf(document, sizeof(document), "{\"id\":\"%s\",\"n\":%s,"
                 "\"m\":%u,\"t\":\"2024-01-01T00:00:%02u.000001Z\"}", name,
                 i % 50 ? number : "null", i % 10, i % 60);
        call_init(&calls[i], DB_STORE_INSERT, name, document);
        db_store_submit(f->store, &calls[i].op);
    }

    for (i = 0; i < DOCUMENTS; i++) {
        call_wait(&calls[i]);
    }

    free(calls);
}


static void
prepare(fixture_t *f, const db_collection_t *collection)
{
    char  error[512] = "";

    if (db_store_prepare(f->store, collection, error, sizeof(error))
        != DB_OK)
    {
        fail_msg("%s", error);
    }
}


static void
begin(fixture_t *f, call_t *call, const db_key_t *sort, unsigned nsort)
{
    call_init(call, DB_STORE_LIST, "", "");
    db_buf_init(&call->out, f->arena, 0);

    call->op.collection = &indexed;
    call->op.sort = sort;
    call->op.nsort = nsort;
    call->op.limit = 5;
}


static void
expect_inline(fixture_t *f, call_t *call)
{
    db_store_read(f->store, &call->op);
    assert_int_equal(call->op.status, DB_STORE_OK);
}


static void
expect_later(fixture_t *f, call_t *call)
{
    db_store_read(f->store, &call->op);
    assert_int_equal(call->op.status, DB_STORE_LATER);
    assert_int_equal(call->out.len, 0);
    db_store_work(f->store, &call->op);
    assert_int_equal(call->op.status, DB_STORE_OK);
}


static void
sorts_of_an_index_are_served_inline(void **state)
{
    call_t      call;
    unsigned    down;
    db_key_t    sort[2];
    fixture_t  *f = *state;

    fill(f);
    prepare(f, &indexed);

    for (down = 0; down < 2; down++) {
        sort[0] = (db_key_t) { n, DB_VALUE_INT, down };
        sort[1] = (db_key_t) { id, DB_VALUE_TEXT, down };
        begin(f, &call, sort, 2);
        expect_inline(f, &call);

        /* and the page behind it */

        assert_non_null(call.op.last);
        call.op.after = call.op.last;
        expect_inline(f, &call);
    }

    /* the id against the direction of the index, and a field without one */

    sort[1].descending = 0;
    begin(f, &call, sort, 2);
    expect_later(f, &call);

    sort[0] = (db_key_t) { m, DB_VALUE_INT, 0 };
    begin(f, &call, sort, 2);
    expect_later(f, &call);

    assert_string_equal(f->log, "");
}


static void
conditions_on_an_index_are_served_inline(void **state)
{
    call_t          call;
    db_value_t      low = int_value(90), high = int_value(92),
                    some[3] = { int_value(3), int_value(4), int_value(5) };
    fixture_t      *f = *state;
    db_key_t        by_id = { id, DB_VALUE_TEXT, 0 };
    db_key_t        by_n[] = { { n, DB_VALUE_INT, 0 },
                               { id, DB_VALUE_TEXT, 0 } };
    db_condition_t  above = { .kind = DB_CONDITION_GTE, .path = n,
                              .scalar = 1, .values = &low, .nvalues = 1 };
    db_condition_t  below = { .kind = DB_CONDITION_LT, .path = n,
                              .scalar = 1, .values = &high, .nvalues = 1 };
    db_condition_t  one_of = { .kind = DB_CONDITION_IN, .path = n,
                               .scalar = 1, .values = some, .nvalues = 3 };

    fill(f);
    prepare(f, &indexed);

    above.next = &below;
    begin(f, &call, by_n, 2);
    call.op.conditions = &above;
    call.op.count = 1;
    expect_inline(f, &call);
    assert_int_equal(call.op.total, 40);

    begin(f, &call, by_n, 2);
    call.op.conditions = &one_of;
    call.op.count = 1;
    expect_inline(f, &call);
    assert_int_equal(call.op.total, 60);

    /* a range in the order of ids has to be sorted, all of it */

    begin(f, &call, &by_id, 1);
    call.op.conditions = &above;
    expect_later(f, &call);

    /* what is not in an index is looked for in every document */

    above.path = m;
    above.next = NULL;
    low.integer = 9;
    begin(f, &call, by_n, 2);
    call.op.conditions = &above;
    call.op.count = 1;
    expect_later(f, &call);
    assert_int_equal(call.op.total, 200);

    assert_string_equal(f->log, "");
}


static void
a_page_ends_where_the_next_one_begins(void **state)
{
    call_t      call;
    unsigned    pages;
    db_key_t    sort[] = { { n, DB_VALUE_INT, 1 }, { id, DB_VALUE_TEXT, 1 } };
    fixture_t  *f = *state;

    fill(f);
    prepare(f, &indexed);

    begin(f, &call, sort, 2);
    call.op.limit = 100;

    for (pages = 1; pages < DOCUMENTS / 100; pages++) {
        call.out.len = 0;
        db_store_work(f->store, &call.op);
        assert_non_null(call.op.last);
        call.op.after = call.op.last;
    }

    /* nulls come last, and with the last page there is no next one */

    assert_int_equal(call.op.last[0].kind, DB_VALUE_INT);
    call.out.len = 0;
    db_store_work(f->store, &call.op);
    assert_null(call.op.last);
    assert_int_equal(memcmp(call.out.data + call.out.len - 63,
                            "{\"id\":\"d0000\",\"n\":null,", 23), 0);
}


static void
the_keys_of_the_last_one_have_their_types(void **state)
{
    call_t      call;
    db_key_t    sort[] = { { { t_step, 1 }, DB_VALUE_TIME, 0 },
                           { id, DB_VALUE_TEXT, 0 } };
    fixture_t  *f = *state;

    fill(f);
    prepare(f, &indexed);

    begin(f, &call, sort, 2);
    expect_inline(f, &call);

    assert_int_equal(call.op.last[0].kind, DB_VALUE_TIME);
    assert_int_equal(call.op.last[0].integer, 1704067200000001);
    assert_int_equal(call.op.last[1].kind, DB_VALUE_TEXT);
    assert_str(call.op.last[1].text, "d0240");
}


static void
add(fixture_t *f, const char *name, const char *document)
{
    call_t  call;

    call_init(&call, DB_STORE_INSERT, name, document);
    call.op.collection = &indexed;
    db_store_submit(f->store, &call.op);
    call_wait(&call);
    assert_int_equal(call.op.status, DB_STORE_OK);
}


/* SQLite's own functions know no offset beyond 14 hours, and four digits. */

static void
moments_have_their_place_whatever_their_offset(void **state)
{
    char        name[2] = "a", document[64];
    size_t      i, len;
    call_t      call;
    db_key_t    sort[] = { { { t_step, 1 }, DB_VALUE_TIME, 0 },
                           { id, DB_VALUE_TEXT, 0 } };
    fixture_t  *f = *state;

    static const struct {
        const char  *text;
        int64_t      us;
    } times[] = {
        { "0001-01-01T00:00:00+23:59", -62135683140000000 },
        { "0001-01-01T00:00:00Z", -62135596800000000 },
        { "1969-12-31T23:59:59.999999-00:00", -1 },
        { "1970-01-02T03:04:05.000006+00:30", 95645000006 },
        { "2024-01-01T23:59:00+23:59", 1704067200000000 },
        { "2024-01-01T00:00:00.000001", 1704067200000001 },
        { "2023-12-31T19:30:00.000002-04:30", 1704067200000002 },
        { "2023-12-31T01:00:00-23:00", 1704067200000000 },
        { "9999-12-31T23:59:59.999999Z", 253402300799999999 },
        { "9999-12-31T23:59:59-23:59", 253402387139000000 }
    };

    prepare(f, &indexed);

    for (i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        name[0] = (char) ('a' + i);
        snprintf(document, sizeof(document), "{\"t\":\"%s\"}",
                 times[i].text);
        add(f, name, document);

        begin(f, &call, &sort[1], 1);
        call.op.conditions = &(db_condition_t) {
            .kind = DB_CONDITION_EQ, .path = sort[0].path, .scalar = 1,
            .nvalues = 1, .values = &(db_value_t) { .kind = DB_VALUE_TIME,
                                                    .integer = times[i].us }
        };
        expect_inline(f, &call);

        /* perhaps behind another one of that moment */

        len = strlen(document);
        assert_true(call.out.len >= len);
        assert_memory_equal(call.out.data + call.out.len - len, document,
                            len);
    }

    begin(f, &call, sort, 2);
    expect_inline(f, &call);
    assert_int_equal(call.op.last[0].integer, 1704067200000000);
    assert_str(call.op.last[1].text, "e");

    call.op.after = call.op.last;
    expect_inline(f, &call);
    assert_null(call.op.last);
    assert_string_equal(f->log, "");
}


static void
fields_are_all_that_is_sent(void **state)
{
    call_t      call;
    db_key_t    by_id = { id, DB_VALUE_TEXT, 0 };
    fixture_t  *f = *state;

    fill(f);
    begin(f, &call, &by_id, 1);
    call.op.fields = &m;
    call.op.nfields = 1;
    call.op.limit = 2;
    expect_inline(f, &call);

    assert_str(((db_str_t) { call.out.data, call.out.len }),
               "{\"id\":\"d0000\",\"m\":0},{\"id\":\"d0001\",\"m\":1}");
}


/* What SQLite's steps do not count: bytes that are copied, or parsed. */

static void
large_documents_are_left_to_the_pool(void **state)
{
    int             later;
    char            name[8], *document;
    call_t          call;
    size_t          size;
    unsigned        i, limit;
    db_key_t        by_id = { id, DB_VALUE_TEXT, 0 };
    fixture_t      *f = *state;
    db_value_t      one = int_value(1), none = text_value("none");
    db_condition_t  match = { .kind = DB_CONDITION_NE, .path = m,
                              .values = &none, .nvalues = 1 };
    db_condition_t  found = { .kind = DB_CONDITION_EQ, .path = n, .scalar = 1,
                              .values = &one, .nvalues = 1, .next = &match };

    prepare(f, &indexed);

    document = malloc(100100);
    size = (size_t) snprintf(document, 100100, "{\"n\":1,\"m\":\"s\","
                             "\"x\":\"%*s\"}", 100000, "");

    for (i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "%u", 10 + i);
        call_init(&call, DB_STORE_INSERT, name, "");
        call.op.collection = &indexed;
        call.item.document = (db_str_t) { document, size };
        db_store_submit(f->store, &call.op);
        call_wait(&call);
        assert_int_equal(call.op.status, DB_STORE_OK);
    }

    for (i = 0; i < 3; i++) {
        for (limit = 1; limit <= 20; limit += 19) {
            begin(f, &call, &by_id, 1);
            call.op.limit = limit;
            call.op.conditions = (i == 1) ? &found : NULL;
            call.op.fields = &m;
            call.op.nfields = (i == 2);
            db_store_read(f->store, &call.op);

            /* one of them is copied all the same, it has been read */

            later = (call.op.status == DB_STORE_LATER);
            assert_int_equal(later, i || limit > 1);

            if (later) {
                assert_int_equal(call.out.len, 0);
                db_store_work(f->store, &call.op);
            }

            assert_int_equal(call.op.status, DB_STORE_OK);
            assert_int_equal(call.op.last != NULL, limit == 1);
            assert_true(call.out.len >= limit * (i == 2 ? 9 : size));
        }
    }

    /* those who come next have a budget of their own */

    begin(f, &call, &by_id, 1);
    call.op.limit = 1;
    expect_inline(f, &call);

    free(document);
    assert_string_equal(f->log, "");
}


static int
count_indexes(fixture_t *f, const char *like)
{
    int            count;
    sqlite3       *db;
    sqlite3_stmt  *stmt;

    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM"
                                        " sqlite_schema WHERE type = 'index'"
                                        " AND sql LIKE ?1", -1, &stmt, NULL),
                     SQLITE_OK);
    sqlite3_bind_text(stmt, 1, like, -1, SQLITE_STATIC);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    count = sqlite3_column_int(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);

    return count;
}


static void
an_index_is_made_once_and_anew_when_its_type_changes(void **state)
{
    call_t           call;
    db_key_t         key = { { t_step, 1 }, DB_VALUE_TEXT, 0 };
    fixture_t       *f = *state;
    db_index_t       changed = { .keys = &key, .nkeys = 1 };
    db_collection_t  other = indexed;

    fill(f);
    prepare(f, &indexed);
    prepare(f, &indexed);
    assert_int_equal(count_indexes(f, "%databridge_texts%"), 2);
    assert_int_equal(count_indexes(f, "%strftime%"), 1);

    other.indexes = &changed;
    other.nindexes = 1;
    prepare(f, &other);
    assert_int_equal(count_indexes(f, "%databridge_texts%"), 2);
    assert_int_equal(count_indexes(f, "%strftime%"), 0);

    /* statements that were prepared before go on */

    begin(f, &call, n_keys, 1);
    expect_inline(f, &call);
    assert_string_equal(f->log, "");
}


int
main(void)
{
#define query_test(name)  cmocka_unit_test_setup_teardown(name, setup, teardown)

    const struct CMUnitTest  tests[] = {
        query_test(sorts_of_an_index_are_served_inline),
        query_test(conditions_on_an_index_are_served_inline),
        query_test(a_page_ends_where_the_next_one_begins),
        query_test(the_keys_of_the_last_one_have_their_types),
        query_test(moments_have_their_place_whatever_their_offset),
        query_test(fields_are_all_that_is_sent),
        query_test(large_documents_are_left_to_the_pool),
        query_test(an_index_is_made_once_and_anew_when_its_type_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
