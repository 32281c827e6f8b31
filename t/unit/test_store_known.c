/*
 * Documents that the SQLite store knows: they are answered without a look at
 * the database, but never after somebody has written to it.
 */

#include "store.h"

#include "store/sqlite.h"

#include <sys/mman.h>


static const db_collection_t  versioned = {
    .name = { "versioned", 9 }, .id_kind = DB_VALUE_TEXT, .versioned = 1
};


/* As another program writes, which knows nothing of our counter. */

static void
execute(fixture_t *f, const char *sql)
{
    sqlite3  *db;

    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}


/* How many documents are known. */

static unsigned
known(fixture_t *f)
{
    unsigned      i, n;
    db_sqlite_t  *store;

    store = (db_sqlite_t *) f->store;

    for (i = 0, n = 0; i < DB_SQLITE_KNOWN; i++) {
        n += store->known[i].len != 0
             && store->known[i].state == store->state;
    }

    return n;
}


static void
assert_document(fixture_t *f, const char *id, const char *document)
{
    db_str_t  out;

    if (document == NULL) {
        assert_int_equal(get(f, id, &out), DB_STORE_NOT_FOUND);
        return;
    }

    assert_int_equal(get(f, id, &out), DB_STORE_OK);
    assert_str(out, document);
}


static void
test_what_is_asked_for_again_is_known(void **state)
{
    unsigned    i;
    fixture_t  *f = *state;

    insert(f, "a", "{\"n\":1}");
    insert(f, "b", "{\"n\":2}");

    assert_document(f, "a", "{\"n\":1}");
    assert_int_equal(known(f), 0);

    for (i = 0; i < 3; i++) {
        assert_document(f, "a", "{\"n\":1}");
        assert_int_equal(known(f), 1);
        db_store_cycle_end(f->store);
    }

    /* it needs no transaction */

    assert_false(((db_sqlite_t *) f->store)->reading);
    assert_document(f, "a", "{\"n\":1}");
    assert_false(((db_sqlite_t *) f->store)->reading);

    for (i = 0; i < 3; i++) {
        assert_document(f, "b", "{\"n\":2}");
        assert_document(f, "c", NULL);
    }

    assert_int_equal(known(f), 2);
}


static void
test_ids_that_are_alike_have_places_of_their_own(void **state)
{
    char              error[256];
    void             *page;
    call_t            call;
    unsigned          i, n;
    fixture_t        *f = *state;
    db_collection_t  *collection;

    execute(f, "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n"
            " WHERE i < 999) INSERT INTO texts SELECT"
            " printf('6b0209ac28ad2584%08x', i), '{}', 1 FROM n");

    /* where half of them met as long as the upper bits were of one product */

    page = mmap((void *) 0x553a5783b000, sizeof(texts), PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert_ptr_equal(page, (void *) 0x553a5783b000);

    collection = page;
    *collection = texts;
    assert_int_equal(db_store_prepare(f->store, collection, error,
                                      sizeof(error)), DB_OK);

    for (n = 0; n < 3; n++) {
        for (i = 0; i < 1000; i++) {
            call_init(&call, DB_STORE_GET, "", "");
            snprintf(call.id, sizeof(call.id), "6b0209ac28ad2584%08x", i);
            call.op.id = text_value(call.id);
            call.op.collection = collection;
            db_buf_init(&call.out, f->arena, 0);
            db_store_read(f->store, &call.op);
            assert_int_equal(call.op.status, DB_STORE_OK);
        }
    }

    /* a pair in 16,384 places meets now and then, about 60 of them here */

    assert_in_range(known(f), 880, 1000);
}


static void
test_nobodys_write_leaves_a_document_known(void **state)
{
    unsigned    i;
    fixture_t  *f = *state;

    insert(f, "a", "{\"n\":0}");

    for (i = 0; i < 3; i++) {
        assert_document(f, "a", "{\"n\":0}");
    }

    /* in the same cycle, in which another one has begun a transaction */

    insert(f, "b", "{}");
    assert_document(f, "b", "{}");
    assert_document(f, "a", "{\"n\":0}");
    assert_document(f, "a", "{\"n\":0}");

    assert_int_equal(write_wait(f, DB_STORE_REPLACE, "a", "{\"n\":1}"),
                     DB_STORE_OK);

    for (i = 0; i < 3; i++) {
        assert_document(f, "a", "{\"n\":1}");
    }

    db_store_cycle_end(f->store);
    execute(f, "UPDATE texts SET doc = '{\"n\":2}' WHERE id = 'a'");

    for (i = 0; i < 3; i++) {
        assert_document(f, "a", "{\"n\":2}");
    }

    assert_int_equal(write_wait(f, DB_STORE_REMOVE, "a", ""), DB_STORE_OK);
    assert_document(f, "a", NULL);

    insert(f, "a", "{\"n\":3}");
    assert_document(f, "a", "{\"n\":3}");
}


static void
test_what_an_old_transaction_reads_is_not_known_later(void **state)
{
    unsigned    i;
    fixture_t  *f = *state;

    insert(f, "a", "{\"n\":1}");
    insert(f, "b", "{}");

    /* the cycle sees one state to its end */

    assert_document(f, "b", "{}");
    execute(f, "UPDATE texts SET doc = '{\"n\":2}' WHERE id = 'a'");

    for (i = 0; i < 3; i++) {
        assert_document(f, "a", "{\"n\":1}");
    }

    assert_int_equal(known(f), 0);
    db_store_cycle_end(f->store);

    for (i = 0; i < 3; i++) {
        assert_document(f, "a", "{\"n\":2}");
    }
}


static void
test_a_checkpoint_leaves_documents_as_they_are(void **state)
{
    unsigned    i;
    fixture_t  *f = *state;

    insert(f, "a", "{\"n\":1}");

    for (i = 0; i < 3; i++) {
        assert_document(f, "a", "{\"n\":1}");
    }

    db_store_cycle_end(f->store);
    execute(f, "PRAGMA wal_checkpoint(TRUNCATE)");
    assert_document(f, "a", "{\"n\":1}");
    db_store_cycle_end(f->store);

    /* the log starts again */

    execute(f, "UPDATE texts SET doc = '{\"n\":2}' WHERE id = 'a'");
    assert_document(f, "a", "{\"n\":2}");
}


static db_store_status_t
get_version(fixture_t *f, uint64_t *version)
{
    call_t  call;

    call_init(&call, DB_STORE_GET, "a", "");
    call.op.collection = &versioned;
    db_buf_init(&call.out, f->arena, 0);
    db_store_read(f->store, &call.op);
    *version = call.op.version;

    return call.op.status;
}


static void
test_a_known_document_has_its_version(void **state)
{
    char        error[256];
    call_t      call;
    unsigned    i;
    uint64_t    version;
    fixture_t  *f = *state;

    assert_int_equal(db_store_prepare(f->store, &versioned, error,
                                      sizeof(error)), DB_OK);

    for (i = 0; i < 2; i++) {
        call_init(&call, i ? DB_STORE_REPLACE : DB_STORE_INSERT, "a", "{}");
        call.op.collection = &versioned;
        db_store_submit(f->store, &call.op);
        call_wait(&call);
        assert_int_equal(call.op.status, DB_STORE_OK);
    }

    /* of the same id in another collection nothing is known */

    insert(f, "a", "{\"texts\":1}");

    for (i = 0; i < 4; i++) {
        assert_int_equal(get_version(f, &version), DB_STORE_OK);
        assert_int_equal(version, 2);
        assert_document(f, "a", "{\"texts\":1}");
    }

    assert_int_equal(known(f), 2);
}


static void
test_ids_that_are_numbers_are_known_as_such(void **state)
{
    char        text[32];
    call_t      call;
    int64_t     i;
    unsigned    n;
    fixture_t  *f = *state;

    for (i = -2; i < 3; i++) {
        snprintf(text, sizeof(text), "{\"id\":%d}", (int) i);
        call_init(&call, DB_STORE_INSERT, "", text);
        call.op.collection = &ints;
        call.item.id = int_value(i);
        db_store_submit(f->store, &call.op);
        call_wait(&call);
        assert_int_equal(call.op.status, DB_STORE_OK);
    }

    for (n = 0; n < 3; n++) {
        for (i = -2; i < 3; i++) {
            snprintf(text, sizeof(text), "{\"id\":%d}", (int) i);
            call_init(&call, DB_STORE_GET, "", "");
            call.op.collection = &ints;
            call.op.id = int_value(i);
            db_buf_init(&call.out, f->arena, 0);
            db_store_read(f->store, &call.op);
            assert_int_equal(call.op.status, DB_STORE_OK);
            assert_str(((db_str_t) { call.out.data, call.out.len }), text);
        }
    }

    assert_int_equal(known(f), 5);
}


/* Ids and documents of any length are answered, short ones are known. */

static void
test_long_ones_are_not_kept(void **state)
{
    char             *document, id[400];
    size_t            i, len;
    call_t            call;
    unsigned          n;
    fixture_t        *f = *state;
    db_store_item_t   item;

    static const struct {
        size_t    id;
        size_t    document;
        unsigned  known;
    } sizes[] = {
        { 256, 2048, 1 }, { 257, 20, 0 }, { 10, 2049, 0 }, { 1, 100000, 0 },
        { 8, 20, 1 }, { 16, 20, 1 }, { 17, 20, 1 }
    };

    document = malloc(100000);
    assert_non_null(document);
    memset(document, ' ', 100000);
    memset(id, 'x', sizeof(id));
    document[0] = '{';

    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        len = sizes[i].document;
        document[len - 1] = '}';

        item.id = (db_value_t) { .kind = DB_VALUE_TEXT,
                                 .text = { id, sizes[i].id } };
        item.document = (db_str_t) { document, len };

        call_init(&call, DB_STORE_INSERT, "", "");
        call.op.items = &item;
        db_store_submit(f->store, &call.op);
        call_wait(&call);
        assert_int_equal(call.op.status, DB_STORE_OK);

        for (n = 0; n < 3; n++) {
            call_init(&call, DB_STORE_GET, "", "");
            call.op.id = item.id;
            db_buf_init(&call.out, f->arena, 0);
            db_store_read(f->store, &call.op);
            assert_int_equal(call.op.status, DB_STORE_OK);
            assert_int_equal(call.out.len, len);
            assert_memory_equal(call.out.data, document, len);
        }

        assert_int_equal(known(f), sizes[i].known);

        document[len - 1] = ' ';
    }

    free(document);
}


#define known_test(name)  cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest  tests[] = {
        known_test(test_what_is_asked_for_again_is_known),
        known_test(test_ids_that_are_alike_have_places_of_their_own),
        known_test(test_nobodys_write_leaves_a_document_known),
        known_test(test_what_an_old_transaction_reads_is_not_known_later),
        known_test(test_a_checkpoint_leaves_documents_as_they_are),
        known_test(test_a_known_document_has_its_version),
        known_test(test_ids_that_are_numbers_are_known_as_such),
        known_test(test_long_ones_are_not_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
