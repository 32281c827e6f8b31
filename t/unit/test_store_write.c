/*
 * Writes that look before they write, and what they leave when they fail.
 */

#include "store.h"

#include <sqlite3.h>


static const db_str_t   n_step[] = { { "n", 1 } };
static const db_str_t   email_step[] = { { "email", 5 } };
static const db_str_t   slug_step[] = { { "slug", 4 } };
static const db_str_t   at_step[] = { { "at", 2 } };
static const db_path_t  n_path = { n_step, 1 };
static const db_path_t  email_path = { email_step, 1 };

static const db_key_t  email_keys[] = {
    { { email_step, 1 }, DB_VALUE_TEXT, 0 }
};
static const db_key_t  slug_keys[] = {
    { { n_step, 1 }, DB_VALUE_INT, 0 }, { { slug_step, 1 }, DB_VALUE_TEXT, 0 }
};
static const db_key_t  at_keys[] = {
    { { at_step, 1 }, DB_VALUE_TIME, 0 }
};

static const db_index_t  indexes[] = {
    { { "n", 1 }, slug_keys, 1, 0 },
    { { "email", 5 }, email_keys, 1, 1 },
    { { "n,slug", 6 }, slug_keys, 2, 1 },
    { { "at", 2 }, at_keys, 1, 1 },
};

static const db_collection_t  versioned = {
    .name = { "versioned", 9 }, .id_kind = DB_VALUE_TEXT, .versioned = 1
};
static const db_collection_t  unique = {
    .name = { "unique_ones", 11 }, .id_kind = DB_VALUE_TEXT,
    .indexes = indexes, .nindexes = 4
};


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


static int
setup_write(void **state)
{
    (void) setup(state);
    prepare(*state, &versioned);
    prepare(*state, &unique);

    return 0;
}


static db_store_status_t
run(fixture_t *f, call_t *call)
{
    db_store_submit(f->store, &call->op);
    call_wait(call);

    return call->op.status;
}


static void
add(fixture_t *f, const db_collection_t *collection, const char *id,
    const char *document)
{
    call_t  call;

    call_init(&call, DB_STORE_INSERT, id, document);
    call.op.collection = collection;
    assert_int_equal(run(f, &call), DB_STORE_OK);
}


/* The document of a collection, "" without one; its version. */

static db_str_t
find(fixture_t *f, const db_collection_t *collection, const char *id,
    uint64_t *version)
{
    call_t  call;

    call_init(&call, DB_STORE_GET, id, "");
    call.op.collection = collection;
    db_buf_init(&call.out, f->arena, 0);
    db_store_read(f->store, &call.op);
    db_store_cycle_end(f->store);

    assert_true(call.op.status == DB_STORE_OK
                || call.op.status == DB_STORE_NOT_FOUND);

    if (version) {
        *version = call.op.version;
    }

    return (db_str_t) { call.out.data, call.out.len };
}


static void
sql(fixture_t *f, const char *text)
{
    sqlite3  *db;

    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}


/* A condition { n: value } in memory of the caller's. */

static db_condition_t *
n_is(db_condition_t *condition, db_value_t *value, int64_t n)
{
    *value = int_value(n);
    *condition = (db_condition_t) {
        .kind = DB_CONDITION_EQ, .path = n_path, .scalar = 1,
        .values = value, .nvalues = 1
    };

    return condition;
}


static void
a_get_obeys_conditions_and_fields(void **state)
{
    call_t          call;
    unsigned        i;
    fixture_t      *f = *state;
    db_value_t      value;
    db_condition_t  condition;

    insert(f, "a", "{\"id\":\"a\",\"n\":1,\"m\":2}");

    for (i = 0; i < 2; i++) {
        call_init(&call, DB_STORE_GET, "a", "");
        db_buf_init(&call.out, f->arena, 0);
        call.op.conditions = n_is(&condition, &value, 1);

        /* here and in the pool */

        (i ? db_store_work : db_store_read)(f->store, &call.op);
        assert_int_equal(call.op.status, DB_STORE_OK);
        assert_str(((db_str_t) { call.out.data, call.out.len }),
                   "{\"id\":\"a\",\"n\":1,\"m\":2}");

        call.out.len = 0;
        call.op.fields = &n_path;
        call.op.nfields = 1;
        (i ? db_store_work : db_store_read)(f->store, &call.op);
        assert_int_equal(call.op.status, DB_STORE_OK);
        assert_str(((db_str_t) { call.out.data, call.out.len }),
                   "{\"id\":\"a\",\"n\":1}");

        call.out.len = 0;
        value.integer = 2;
        (i ? db_store_work : db_store_read)(f->store, &call.op);
        assert_int_equal(call.op.status, DB_STORE_NOT_FOUND);
        assert_int_equal(call.out.len, 0);
    }

    assert_string_equal(f->log, "");
}


static int
modify_never(db_store_op_t *op, db_str_t current)
{
    abort();
}


static void
what_fails_the_conditions_is_not_found_and_kept(void **state)
{
    size_t          i;
    call_t          call;
    unsigned        upsert;
    fixture_t      *f = *state;
    db_value_t      value;
    db_condition_t  condition;

    static const db_store_kind_t  kinds[] = {
        DB_STORE_REPLACE, DB_STORE_MODIFY, DB_STORE_REMOVE
    };

    insert(f, "a", "{\"n\":1}");

    for (upsert = 0; upsert < 2; upsert++) {
        for (i = 0; i < 3 - upsert; i++) {
            call_init(&call, kinds[i], "a", "{\"n\":2}");
            call.op.conditions = n_is(&condition, &value, 2);
            call.op.modify = modify_never;
            call.op.upsert = upsert;

            assert_int_equal(run(f, &call), DB_STORE_NOT_FOUND);
            assert_int_equal(call.op.created, 0);
            assert_str(find(f, &texts, "a", NULL), "{\"n\":1}");
        }
    }

    for (i = 0; i < 3; i += 2) {
        call_init(&call, kinds[i], "a", "{\"n\":1,\"x\":2}");
        call.op.conditions = n_is(&condition, &value, 1);
        assert_int_equal(run(f, &call), DB_STORE_OK);
    }

    assert_str(find(f, &texts, "a", NULL), "");
    assert_string_equal(f->log, "");
}


static void
versions_count_writes(void **state)
{
    call_t      call;
    uint64_t    version;
    fixture_t  *f = *state;

    add(f, &versioned, "a", "1");
    assert_str(find(f, &versioned, "a", &version), "1");
    assert_int_equal(version, 1);

    call_init(&call, DB_STORE_REPLACE, "a", "2");
    call.op.collection = &versioned;
    assert_int_equal(run(f, &call), DB_STORE_OK);
    assert_int_equal(call.op.version, 2);
    assert_int_equal(call.op.created, 0);

    assert_str(find(f, &versioned, "a", &version), "2");
    assert_int_equal(version, 2);

    /* a document that somebody else has put there has none yet */

    sql(f, "INSERT INTO versioned (id, doc) VALUES ('b', '1')");
    assert_str(find(f, &versioned, "b", &version), "1");
    assert_int_equal(version, 0);

    call_init(&call, DB_STORE_REPLACE, "b", "2");
    call.op.collection = &versioned;
    assert_int_equal(run(f, &call), DB_STORE_OK);
    assert_int_equal(call.op.version, 1);
}


static void
a_write_of_another_version_is_a_mismatch(void **state)
{
    call_t      call;
    fixture_t  *f = *state;
    uint64_t    none[] = { 7, 0 }, one[] = { 9, 1, 3 };

    add(f, &versioned, "a", "1");

    call_init(&call, DB_STORE_REPLACE, "a", "2");
    call.op.collection = &versioned;
    call.op.versions = none;
    call.op.nversions = 2;
    assert_int_equal(run(f, &call), DB_STORE_MISMATCH);

    call.op.kind = DB_STORE_REMOVE;
    assert_int_equal(run(f, &call), DB_STORE_MISMATCH);

    call.op.kind = DB_STORE_MODIFY;
    call.op.modify = modify_never;
    assert_int_equal(run(f, &call), DB_STORE_MISMATCH);
    assert_str(find(f, &versioned, "a", NULL), "1");

    call.op.kind = DB_STORE_REPLACE;
    call.op.versions = one;
    call.op.nversions = 3;
    assert_int_equal(run(f, &call), DB_STORE_OK);
    assert_int_equal(call.op.version, 2);

    /* of what is not there, no version can be meant */

    call.op.id = text_value("b");
    assert_int_equal(run(f, &call), DB_STORE_NOT_FOUND);
    call.op.upsert = 1;
    assert_int_equal(run(f, &call), DB_STORE_NOT_FOUND);
    assert_str(find(f, &versioned, "b", NULL), "");

    call.op.upsert = 0;
    call.op.id = text_value("a");
    call.op.kind = DB_STORE_REMOVE;
    assert_int_equal(run(f, &call), DB_STORE_MISMATCH);
    one[1] = 2;
    assert_int_equal(run(f, &call), DB_STORE_OK);
    assert_str(find(f, &versioned, "a", NULL), "");
}


static void
an_upsert_creates_what_is_not_there(void **state)
{
    size_t                  i;
    call_t                  call;
    uint64_t                version;
    fixture_t              *f = *state;
    const db_collection_t  *collection;

    for (i = 0; i < 2; i++) {
        collection = i ? &versioned : &texts;

        call_init(&call, DB_STORE_REPLACE, "a", "1");
        call.op.collection = collection;
        call.op.upsert = 1;
        assert_int_equal(run(f, &call), DB_STORE_OK);
        assert_int_equal(call.op.created, 1);
        assert_int_equal(call.op.version, 1);

        assert_int_equal(run(f, &call), DB_STORE_OK);
        assert_int_equal(call.op.created, 0);
        assert_int_equal(call.op.version, 2);
    }

    (void) find(f, &versioned, "a", &version);
    assert_int_equal(version, 2);
}


/* Sets the document to what it was, a comma and what was given. */

static int
modify_append(db_store_op_t *op, db_str_t current)
{
    call_t *call = (call_t *) op;

    db_buf_t  *out;

    out = &call->out;
    out->len = 0;

    if (current.data) {
        db_buf_str(out, current);
        db_buf_lit(out, ",");
    }

    db_buf_append(out, call->document, strlen(call->document));
    op->document = (db_str_t) { out->data, out->len };

    return out->failed ? DB_ERROR : DB_OK;
}


static int
modify_declined(db_store_op_t *op, db_str_t current)
{
    return DB_DECLINED;
}


static int
modify_failed(db_store_op_t *op, db_str_t current)
{
    return DB_ERROR;
}


static void
modify_sees_the_document_as_it_is(void **state)
{
    call_t      call;
    fixture_t  *f = *state;

    call_init(&call, DB_STORE_MODIFY, "a", "1");
    db_buf_init(&call.out, f->arena, 0);
    call.op.modify = modify_append;
    assert_int_equal(run(f, &call), DB_STORE_NOT_FOUND);

    call.op.upsert = 1;
    assert_int_equal(run(f, &call), DB_STORE_OK);
    assert_int_equal(call.op.created, 1);
    assert_int_equal(call.op.version, 1);
    assert_str(find(f, &texts, "a", NULL), "1");

    assert_int_equal(run(f, &call), DB_STORE_OK);
    assert_int_equal(call.op.created, 0);
    assert_int_equal(call.op.version, 2);
    assert_str(find(f, &texts, "a", NULL), "1,1");

    call.op.modify = modify_declined;
    assert_int_equal(run(f, &call), DB_STORE_DECLINED);
    call.op.modify = modify_failed;
    assert_int_equal(run(f, &call), DB_STORE_FAILED);
    assert_str(find(f, &texts, "a", NULL), "1,1");
    assert_string_equal(f->log, "");
}


static void
one_batch_sees_its_own_writes_and_undoes_failures_alone(void **state)
{
    int         fd, i;
    call_t      calls[7];
    uint64_t    two = 2;
    fixture_t  *f = *state;

    fd = hold_writers(f);

    call_init(&calls[0], DB_STORE_INSERT, "a", "1");
    call_init(&calls[1], DB_STORE_MODIFY, "a", "2");
    call_init(&calls[2], DB_STORE_MODIFY, "a", "x");
    call_init(&calls[3], DB_STORE_MODIFY, "a", "x");
    call_init(&calls[4], DB_STORE_REPLACE, "a", "3");
    call_init(&calls[5], DB_STORE_REPLACE, "a", "x");
    call_init(&calls[6], DB_STORE_MODIFY, "a", "4");

    for (i = 0; i < 7; i++) {
        db_buf_init(&calls[i].out, f->arena, 64);
        calls[i].op.collection = &versioned;
        calls[i].op.modify = (i == 2) ? modify_declined
                             : (i == 3) ? modify_failed : modify_append;

        if (i == 4 || i == 5) {
            calls[i].op.versions = &two;
            calls[i].op.nversions = 1;
        }

        db_store_submit(f->store, &calls[i].op);
    }

    close(fd);

    for (i = 0; i < 7; i++) {
        call_wait(&calls[i]);
    }

    assert_int_equal(calls[0].op.status, DB_STORE_OK);
    assert_int_equal(calls[1].op.status, DB_STORE_OK);
    assert_int_equal(calls[2].op.status, DB_STORE_DECLINED);
    assert_int_equal(calls[3].op.status, DB_STORE_FAILED);
    assert_int_equal(calls[4].op.status, DB_STORE_OK);
    assert_int_equal(calls[4].op.version, 3);
    assert_int_equal(calls[5].op.status, DB_STORE_MISMATCH);
    assert_int_equal(calls[6].op.status, DB_STORE_OK);
    assert_int_equal(calls[6].op.version, 4);

    assert_str(find(f, &versioned, "a", NULL), "3,4");
}


static void
items_are_inserted_all_or_none(void **state)
{
    int              i, fd;
    char             ids[300][16];
    call_t           call, other;
    fixture_t       *f = *state;
    db_store_item_t  items[300];

    insert(f, "i250", "taken");

    for (i = 0; i < 300; i++) {
        snprintf(ids[i], sizeof(ids[i]), "i%03d", i);
        items[i] = (db_store_item_t) { text_value(ids[i]), str("new") };
    }

    /* what another one has written in the same batch stays */

    fd = hold_writers(f);

    call_init(&other, DB_STORE_INSERT, "other", "1");
    db_store_submit(f->store, &other.op);

    call_init(&call, DB_STORE_INSERT, "", "");
    call.op.items = items;
    call.op.nitems = 300;
    db_store_submit(f->store, &call.op);

    close(fd);
    call_wait(&other);
    call_wait(&call);

    assert_int_equal(other.op.status, DB_STORE_OK);
    assert_int_equal(call.op.status, DB_STORE_CONFLICT);
    assert_int_equal(call.op.item, 250);
    assert_null(call.op.conflict);

    assert_str(find(f, &texts, "other", NULL), "1");
    assert_str(find(f, &texts, "i000", NULL), "");
    assert_str(find(f, &texts, "i249", NULL), "");
    assert_str(find(f, &texts, "i250", NULL), "taken");

    items[250].id = text_value("i249");
    assert_int_equal(run(f, &call), DB_STORE_CONFLICT);
    assert_int_equal(call.op.item, 250);
    assert_str(find(f, &texts, "i249", NULL), "");

    items[250].id = text_value("free");
    assert_int_equal(run(f, &call), DB_STORE_OK);
    assert_str(find(f, &texts, "i000", NULL), "new");
    assert_str(find(f, &texts, "i299", NULL), "new");
    assert_str(find(f, &texts, "free", NULL), "new");

    call.op.nitems = 0;
    assert_int_equal(run(f, &call), DB_STORE_OK);
    assert_string_equal(f->log, "");
}


static void
expect_conflict(fixture_t *f, db_store_kind_t kind, const char *id,
    const char *document, const db_index_t *index)
{
    call_t  call;

    call_init(&call, kind, id, document);
    call.op.collection = &unique;
    call.op.modify = modify_append;
    call.op.upsert = (kind != DB_STORE_INSERT);
    db_buf_init(&call.out, f->arena, 64);

    assert_int_equal(run(f, &call), DB_STORE_CONFLICT);
    assert_ptr_equal(call.op.conflict, index);
}


static void
a_unique_index_refuses_what_is_taken(void **state)
{
    call_t      call;
    fixture_t  *f = *state;

    add(f, &unique, "a", "{\"email\":\"a@x\",\"n\":1,\"slug\":\"s\","
        "\"at\":\"2024-01-01T12:00:00Z\"}");
    add(f, &unique, "b", "{\"email\":\"b@x\",\"n\":1,\"slug\":\"t\"}");
    add(f, &unique, "c", "{\"email\":\"A@x\",\"n\":2,\"slug\":\"s\"}");

    expect_conflict(f, DB_STORE_INSERT, "a", "{\"email\":\"new\"}", NULL);
    expect_conflict(f, DB_STORE_INSERT, "d", "{\"email\":\"a@x\"}",
                    &indexes[1]);
    expect_conflict(f, DB_STORE_REPLACE, "b", "{\"email\":\"a@x\"}",
                    &indexes[1]);
    expect_conflict(f, DB_STORE_REPLACE, "new", "{\"email\":\"a@x\"}",
                    &indexes[1]);
    expect_conflict(f, DB_STORE_MODIFY, "new", "{\"email\":\"a@x\"}",
                    &indexes[1]);
    expect_conflict(f, DB_STORE_INSERT, "d", "{\"n\":1,\"slug\":\"t\"}",
                    &indexes[2]);

    /* one moment, written in two ways */

    expect_conflict(f, DB_STORE_INSERT, "d",
                    "{\"at\":\"2024-01-01T12:00:00.000000Z\"}", &indexes[3]);

    /* its own value is no conflict, and one that has been freed is none */

    call_init(&call, DB_STORE_REPLACE, "a", "{\"email\":\"a@x\",\"n\":1,"
              "\"slug\":\"s\"}");
    call.op.collection = &unique;
    assert_int_equal(run(f, &call), DB_STORE_OK);

    call_init(&call, DB_STORE_REPLACE, "a", "{}");
    call.op.collection = &unique;
    assert_int_equal(run(f, &call), DB_STORE_OK);
    add(f, &unique, "d", "{\"email\":\"a@x\",\"n\":1,\"slug\":\"s\"}");

    assert_string_equal(f->log, "");
}


static void
texts_that_differ_behind_a_nul_are_not_alike(void **state)
{
    fixture_t  *f = *state;

    add(f, &unique, "a", "{\"email\":\"x\"}");
    add(f, &unique, "b", "{\"email\":\"x\\u0000\"}");
    add(f, &unique, "c", "{\"email\":\"x\\u0000y\"}");
    add(f, &unique, "d", "{\"email\":\"x\\\\u0000y\"}");
    add(f, &unique, "e", "{\"email\":\"x\\uffffy\"}");

    expect_conflict(f, DB_STORE_INSERT, "g", "{\"email\":\"x\\u0000y\"}",
                    &indexes[1]);
    expect_conflict(f, DB_STORE_INSERT, "g", "{\"email\":\"x\\\\u0000y\"}",
                    &indexes[1]);

    assert_string_equal(f->log, "");
}


static void
nulls_never_conflict(void **state)
{
    size_t      i;
    char        id[16];
    fixture_t  *f = *state;

    static const char  *documents[] = {
        "{}", "{\"email\":null}", "{\"email\":null,\"n\":null}",
        "{\"n\":1}", "{\"n\":1,\"slug\":null}", "{\"slug\":\"s\"}",
        "{\"slug\":\"s\",\"n\":null}", "{\"at\":null}",
    };

    for (i = 0; i < 16; i++) {
        snprintf(id, sizeof(id), "i%zu", i);
        add(f, &unique, id, documents[i % 8]);
    }
}


/* SQLite tells names of indexes apart by more than that. */

static void
fields_that_differ_by_case_have_an_index_each(void **state)
{
    unsigned         i;
    call_t           call;
    fixture_t       *f = *state;
    const db_str_t   steps[] = { { "Email", 5 }, { "email", 5 },
                                 { "EMAIL", 5 } };
    const db_key_t   keys[] = { { { &steps[0], 1 }, DB_VALUE_TEXT, 0 },
                                { { &steps[1], 1 }, DB_VALUE_TEXT, 0 },
                                { { &steps[2], 1 }, DB_VALUE_TEXT, 0 } };
    db_index_t       each[] = { { { "Email", 5 }, &keys[0], 1, 1 },
                                { { "email", 5 }, &keys[1], 1, 1 },
                                { { "EMAIL", 5 }, &keys[2], 1, 1 },
                                { { "email", 5 }, &keys[1], 1, 1 } };
    db_collection_t  users = { .name = str("users"),
                               .id_kind = DB_VALUE_TEXT,
                               .indexes = each, .nindexes = 4 };

    static const char  *const taken[] = {
        "{\"Email\":\"a\"}", "{\"email\":\"b\"}", "{\"EMAIL\":\"c\"}"
    };

    prepare(f, &users);
    prepare(f, &users);
    add(f, &users, "one", "{\"Email\":\"a\",\"email\":\"b\","
        "\"EMAIL\":\"c\"}");
    add(f, &users, "two", "{\"Email\":\"b\",\"email\":\"c\","
        "\"EMAIL\":\"a\"}");

    for (i = 0; i < 3; i++) {
        call_init(&call, DB_STORE_INSERT, "new", taken[i]);
        call.op.collection = &users;
        assert_int_equal(run(f, &call), DB_STORE_CONFLICT);
        assert_ptr_equal(call.op.conflict, &each[i]);
    }

    sql(f, "DROP INDEX \"databridge_users,Email unique\";"
           "DROP INDEX \"databridge_users,email unique 2\";"
           "DROP INDEX \"databridge_users,EMAIL unique 3\"");
    add(f, &users, "new", "{\"Email\":\"a\",\"email\":\"b\","
        "\"EMAIL\":\"c\"}");

    assert_string_equal(f->log, "");
}


static void
a_conflict_of_items_names_item_and_index(void **state)
{
    call_t           call;
    fixture_t       *f = *state;
    db_store_item_t  items[] = {
        { text_value("a"), str("{\"email\":\"a\"}") },
        { text_value("b"), str("{\"email\":\"b\"}") },
        { text_value("c"), str("{\"email\":\"a\"}") },
        { text_value("d"), str("{\"email\":\"d\"}") },
    };

    call_init(&call, DB_STORE_INSERT, "", "");
    call.op.collection = &unique;
    call.op.items = items;
    call.op.nitems = 4;

    assert_int_equal(run(f, &call), DB_STORE_CONFLICT);
    assert_int_equal(call.op.item, 2);
    assert_ptr_equal(call.op.conflict, &indexes[1]);
    assert_str(find(f, &unique, "a", NULL), "");

    items[2].document = str("{\"email\":\"c\"}");
    assert_int_equal(run(f, &call), DB_STORE_OK);
    assert_null(call.op.conflict);
}


/* How many documents a list finds, and whether it was cheap. */

static unsigned
count(fixture_t *f, db_condition_t *condition, int *later)
{
    call_t    call;
    db_key_t  by_id = { { (db_str_t[]) { { "id", 2 } }, 1 }, DB_VALUE_TEXT,
                        0 };

    call_init(&call, DB_STORE_LIST, "", "");
    db_buf_init(&call.out, f->arena, 0);
    call.op.collection = &unique;
    call.op.conditions = condition;
    call.op.sort = &by_id;
    call.op.nsort = 1;
    call.op.limit = 10;
    call.op.count = 1;

    db_store_read(f->store, &call.op);
    *later = (call.op.status == DB_STORE_LATER);

    if (*later) {
        db_store_work(f->store, &call.op);
    }

    db_store_cycle_end(f->store);
    assert_int_equal(call.op.status, DB_STORE_OK);

    return (unsigned) call.op.total;
}


static void
a_unique_index_serves_its_lookups(void **state)
{
    int             later;
    char            id[16], document[64];
    unsigned        i;
    fixture_t      *f = *state;
    db_value_t      values[] = { text_value("e7"), text_value("e8") };
    db_condition_t  condition = { .kind = DB_CONDITION_EQ, .scalar = 1,
                                  .path = email_path, .values = values,
                                  .nvalues = 1 };

    for (i = 0; i < 20; i++) {
        snprintf(id, sizeof(id), "i%u", i);
        snprintf(document, sizeof(document), i % 4 ? "{\"email\":\"e%u\"}"
                                                   : "{\"email\":null}", i);
        add(f, &unique, id, document);
    }

    assert_int_equal(count(f, &condition, &later), 1);
    assert_false(later);

    condition.kind = DB_CONDITION_GT;
    assert_int_equal(count(f, &condition, &later), 1);

    /* nulls are not in it, yet they are found */

    condition.kind = DB_CONDITION_IN;
    condition.nvalues = 2;
    assert_int_equal(count(f, &condition, &later), 1);
    values[1] = (db_value_t) { .kind = DB_VALUE_NULL };
    assert_int_equal(count(f, &condition, &later), 6);

    condition.kind = DB_CONDITION_EQ;
    condition.nvalues = 1;
    condition.values = &values[1];
    assert_int_equal(count(f, &condition, &later), 5);
    assert_true(later);
}


static void
duplicates_that_are_there_already_are_named(void **state)
{
    char             error[512];
    call_t           call;
    fixture_t       *f = *state;
    db_index_t       index = { { "email", 5 }, email_keys, 1, 0 };
    db_collection_t  users = { .name = str("users"),
                               .id_kind = DB_VALUE_TEXT,
                               .indexes = &index, .nindexes = 1 };

    prepare(f, &users);
    add(f, &users, "one", "{\"email\":\"a\"}");
    add(f, &users, "two", "{\"email\":\"b\"}");
    add(f, &users, "six", "{\"email\":\"a\"}");
    add(f, &users, "nil", "{\"email\":null}");
    add(f, &users, "nul", "{\"email\":null}");

    index.unique = 1;
    assert_int_equal(db_store_prepare(f->store, &users, error, sizeof(error)),
                     DB_ERROR);
    assert_non_null(strstr(error, f->path));
    assert_non_null(strstr(error, "collection \"users\": index \"email\": it"
                           " cannot be unique, documents \"one\" and \"six\""
                           " are alike: change one of them"));

    /* nothing was left behind: what cannot be is not begun */

    assert_int_equal(write_wait(f, DB_STORE_INSERT, "a", "1"), DB_STORE_OK);

    sql(f, "DELETE FROM users WHERE id = 'six'");
    prepare(f, &users);
    prepare(f, &users);

    call_init(&call, DB_STORE_INSERT, "new", "{\"email\":\"b\"}");
    call.op.collection = &users;
    assert_int_equal(run(f, &call), DB_STORE_CONFLICT);
    assert_ptr_equal(call.op.conflict, &index);
}


static void
what_somebody_else_forbids_is_refused_and_logged(void **state)
{
    call_t      call;
    fixture_t  *f = *state;

    sql(f, "CREATE UNIQUE INDEX theirs ON versioned (doc)");
    add(f, &versioned, "a", "1");

    call_init(&call, DB_STORE_INSERT, "b", "1");
    call.op.collection = &versioned;
    assert_int_equal(run(f, &call), DB_STORE_REFUSED);
    assert_null(call.op.conflict);
    assert_non_null(strstr(f->log, "versioned.doc"));
}


static void
a_document_that_is_not_json_fails_alone(void **state)
{
    int             fd;
    call_t          bad, good;
    fixture_t      *f = *state;
    db_value_t      value;
    db_condition_t  condition;

    sql(f, "INSERT INTO versioned (id, doc) VALUES ('bad', '{')");

    fd = hold_writers(f);

    call_init(&bad, DB_STORE_REPLACE, "bad", "{}");
    bad.op.collection = &versioned;
    bad.op.conditions = n_is(&condition, &value, 1);
    db_store_submit(f->store, &bad.op);

    call_init(&good, DB_STORE_INSERT, "good", "{}");
    db_store_submit(f->store, &good.op);

    close(fd);
    call_wait(&bad);
    call_wait(&good);

    assert_int_equal(bad.op.status, DB_STORE_FAILED);
    assert_int_equal(good.op.status, DB_STORE_OK);
    assert_non_null(strstr(f->log, "not JSON"));
}


static void
a_table_of_before_gets_versions_without_being_rewritten(void **state)
{
    call_t      call;
    db_str_t    out;
    uint64_t    version, zero = 0;
    fixture_t  *f = *state;

    sql(f, "DROP TABLE versioned;"
        "CREATE TABLE versioned (id TEXT PRIMARY KEY NOT NULL, doc TEXT NOT"
        " NULL) WITHOUT ROWID;"
        "INSERT INTO versioned VALUES ('a', '1'), ('b', '2')");

    /* in a cycle that has begun before */

    assert_int_equal(get(f, "a", &out), DB_STORE_NOT_FOUND);
    prepare(f, &versioned);
    prepare(f, &versioned);

    assert_str(find(f, &versioned, "a", &version), "1");
    assert_int_equal(version, 0);

    call_init(&call, DB_STORE_REPLACE, "a", "3");
    call.op.collection = &versioned;
    call.op.versions = &zero;
    call.op.nversions = 1;
    assert_int_equal(run(f, &call), DB_STORE_OK);
    assert_int_equal(call.op.version, 1);
    assert_int_equal(run(f, &call), DB_STORE_MISMATCH);

    assert_str(find(f, &versioned, "a", &version), "3");
    assert_int_equal(version, 1);
}


#define write_test(name)  \
    cmocka_unit_test_setup_teardown(name, setup_write, teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        write_test(a_get_obeys_conditions_and_fields),
        write_test(what_fails_the_conditions_is_not_found_and_kept),
        write_test(versions_count_writes),
        write_test(a_write_of_another_version_is_a_mismatch),
        write_test(an_upsert_creates_what_is_not_there),
        write_test(modify_sees_the_document_as_it_is),
        write_test(one_batch_sees_its_own_writes_and_undoes_failures_alone),
        write_test(items_are_inserted_all_or_none),
        write_test(a_unique_index_refuses_what_is_taken),
        write_test(texts_that_differ_behind_a_nul_are_not_alike),
        write_test(nulls_never_conflict),
        write_test(fields_that_differ_by_case_have_an_index_each),
        write_test(a_conflict_of_items_names_item_and_index),
        write_test(a_unique_index_serves_its_lookups),
        write_test(duplicates_that_are_there_already_are_named),
        write_test(what_somebody_else_forbids_is_refused_and_logged),
        write_test(a_document_that_is_not_json_fails_alone),
        write_test(a_table_of_before_gets_versions_without_being_rewritten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
