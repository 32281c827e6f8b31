/*
 * The store's contract, on one process.
 */

#define _GNU_SOURCE              /* memmem() */

#include "store.h"
#include "store/sqlite.h"

#include <pthread.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>


static void
test_documents_come_and_go(void **state)
{
    db_str_t   out;
    fixture_t *f = *state;

    assert_int_equal(get(f, "a", &out), DB_STORE_NOT_FOUND);
    assert_int_equal(out.len, 0);

    insert(f, "a", "{\"id\":\"a\",\"n\":1}");
    assert_int_equal(get(f, "a", &out), DB_STORE_OK);
    assert_str(out, "{\"id\":\"a\",\"n\":1}");

    assert_int_equal(write_wait(f, DB_STORE_INSERT, "a", "{}"),
                     DB_STORE_CONFLICT);
    assert_int_equal(get(f, "a", &out), DB_STORE_OK);
    assert_str(out, "{\"id\":\"a\",\"n\":1}");

    assert_int_equal(write_wait(f, DB_STORE_REPLACE, "a", "{\"n\":2}"),
                     DB_STORE_OK);
    assert_int_equal(get(f, "a", &out), DB_STORE_OK);
    assert_str(out, "{\"n\":2}");

    assert_int_equal(write_wait(f, DB_STORE_REPLACE, "b", "{}"),
                     DB_STORE_NOT_FOUND);
    assert_int_equal(write_wait(f, DB_STORE_REMOVE, "b", ""),
                     DB_STORE_NOT_FOUND);
    assert_int_equal(write_wait(f, DB_STORE_REMOVE, "a", ""), DB_STORE_OK);
    assert_int_equal(get(f, "a", &out), DB_STORE_NOT_FOUND);

    db_store_cycle_end(f->store);
    assert_string_equal(f->log, "");
}


static const db_str_t   id_steps[] = { { "id", 2 } };
static const db_path_t  id_path = { id_steps, 1 };


/* Runs a list on the nginx thread, or on the pool where it must. */

typedef struct {
    const db_collection_t  *collection;
    db_condition_t         *conditions;
    const db_key_t         *sort;        /* NULL: by id */
    unsigned                nsort;
    uint64_t                limit;
    uint64_t                skip;
    int                     count;
    int                     later;       /* out: it went to the pool */
    uint64_t                total;       /* out */
} list_t;


static db_str_t
list(fixture_t *f, list_t *query)
{
    call_t    call;
    db_key_t  id = { id_path, query->collection->id_kind, 0 };

    call_init(&call, DB_STORE_LIST, "", "");
    db_buf_init(&call.out, f->arena, 0);
    db_buf_lit(&call.out, "[");

    call.op.collection = query->collection;
    call.op.conditions = query->conditions;
    call.op.sort = query->sort ? query->sort : &id;
    call.op.nsort = query->sort ? query->nsort : 1;
    call.op.limit = query->limit;
    call.op.skip = query->skip;
    call.op.count = query->count;

    db_store_read(f->store, &call.op);
    query->later = (call.op.status == DB_STORE_LATER);

    if (query->later) {
        assert_int_equal(call.out.len, 1);
        db_store_work(f->store, &call.op);
        db_store_worked(f->store, &call.op);
    }

    assert_int_equal(call.op.status, DB_STORE_OK);
    db_buf_lit(&call.out, "]");
    query->total = call.op.total;

    return (db_str_t) { call.out.data, call.out.len };
}


static void
test_lists_are_ordered_by_id(void **state)
{
    list_t     query = { .collection = &texts, .limit = 3 };
    fixture_t *f = *state;

    assert_str(list(f, &query), "[]");

    insert(f, "b", "2");
    insert(f, "c", "3");
    insert(f, "a", "1");
    insert(f, "B", "0");

    assert_str(list(f, &query), "[0,1,2]");
    assert_false(query.later);

    query.skip = 2;
    assert_str(list(f, &query), "[2,3]");

    query.skip = UINT64_MAX;
    assert_str(list(f, &query), "[]");

    query.skip = 0;
    query.limit = UINT64_MAX;
    assert_str(list(f, &query), "[0,1,2,3]");
    query.limit = 0;
    assert_str(list(f, &query), "[]");
    assert_false(query.later);

    query.count = 1;
    query.limit = 1;
    assert_str(list(f, &query), "[0]");
    assert_true(query.later);
    assert_int_equal(query.total, 4);
}


static void
test_integer_ids_are_ordered_as_numbers(void **state)
{
    size_t     i;
    char       id[24];
    list_t     query = { .collection = &ints, .limit = 9 };
    call_t     call;
    fixture_t *f = *state;

    static const int64_t  ids[] = { 10, 9, -1, INT64_MAX, INT64_MIN };

    for (i = 0; i < 5; i++) {
        snprintf(id, sizeof(id), "%lld", (long long) ids[i]);
        call_init(&call, DB_STORE_INSERT, "", id);
        call.op.collection = &ints;
        call.item.id = int_value(ids[i]);
        db_store_submit(f->store, &call.op);
        call_wait(&call);
        assert_int_equal(call.op.status, DB_STORE_OK);
    }

    assert_str(list(f, &query),
               "[-9223372036854775808,-1,9,10,9223372036854775807]");
}


/* The ids of the documents found, which all begin with a one-letter id. */

static void
expect_found(fixture_t *f, const char *path, db_value_t value,
    const char *want)
{
    char            found[32];
    size_t          n;
    list_t          query = { .collection = &texts, .limit = 99, .count = 1 };
    db_str_t        out;
    const char     *p, *end;
    db_str_t        steps[2];
    db_condition_t  condition = { .kind = DB_CONDITION_EQ };

    /* one step, or two with a dot between them */

    p = strchr(path, '.');
    steps[0] = (db_str_t) { path, p ? (size_t) (p - path) : strlen(path) };
    steps[1] = p ? str(p + 1) : db_null_string;

    condition.path = (db_path_t) { steps, p ? 2 : 1 };
    condition.scalar = strcmp(path, "id") == 0;
    condition.values = &value;
    condition.nvalues = 1;
    query.conditions = &condition;

    out = list(f, &query);
    end = out.data + out.len;
    n = 0;

    for (p = out.data;
         (p = memmem(p, (size_t) (end - p), "{\"id\":\"", 7)) != NULL;
         p += 7)
    {
        found[n++] = p[7];
    }

    found[n] = '\0';

    assert_string_equal(found, want);
    assert_int_equal(query.total, n);
}


static void
test_conditions_are_typed_as_in_mongo(void **state)
{
    char        id[2] = "a";
    size_t      i;
    fixture_t  *f = *state;

    db_value_t  null = { .kind = DB_VALUE_NULL };
    db_value_t  yes = { .kind = DB_VALUE_BOOL, .integer = 1 };
    db_value_t  no = { .kind = DB_VALUE_BOOL, .integer = 0 };
    db_value_t  real = { .kind = DB_VALUE_REAL, .real = 1.0 };

    static const char  *documents[] = {
        "{\"id\":\"a\",\"v\":1,\"l\":[1,\"x\",true]}",
        "{\"id\":\"b\",\"v\":\"1\",\"l\":[]}",
        "{\"id\":\"c\",\"v\":true,\"l\":[null]}",
        "{\"id\":\"d\",\"v\":null,\"l\":null}",
        "{\"id\":\"e\",\"w\":{\"k y'z\":\"q\"}}",
        "{\"id\":\"f\",\"v\":1.0,\"l\":[\"1\",false]}",
        "{\"id\":\"g\",\"v\":false,\"l\":[2.5]}",
        "{\"id\":\"h\",\"v\":[1],\"l\":[[1]]}",
    };

    for (i = 0; i < 8; i++) {
        id[0] = (char) ('a' + i);
        insert(f, id, documents[i]);
    }

    expect_found(f, "v", int_value(1), "afh");
    expect_found(f, "v", real, "afh");
    expect_found(f, "v", text_value("1"), "b");
    expect_found(f, "v", text_value("[1]"), "");
    expect_found(f, "v", yes, "c");
    expect_found(f, "v", no, "g");
    expect_found(f, "v", null, "de");

    expect_found(f, "l", int_value(1), "a");
    expect_found(f, "l", text_value("x"), "a");
    expect_found(f, "l", text_value("1"), "f");
    expect_found(f, "l", yes, "a");
    expect_found(f, "l", no, "f");
    expect_found(f, "l", null, "cde");

    expect_found(f, "w.k y'z", text_value("q"), "e");
    expect_found(f, "missing", text_value("'; DROP TABLE texts"),
                 "");

    /* the id: through its index, of its own type only */

    expect_found(f, "id", text_value("c"), "c");
    expect_found(f, "id", text_value("z"), "");
    expect_found(f, "id", int_value(1), "");
    expect_found(f, "id", null, "");
}


static void
test_scans_are_left_to_the_pool(void **state)
{
    char            id[16], doc[64];
    unsigned        i;
    list_t          query = { .collection = &texts, .limit = 2 };
    fixture_t      *f = *state;
    db_str_t        steps[1] = { { "n", 1 } };
    db_value_t      one = int_value(1), second = text_value("i0001");
    db_condition_t  by_n = { .kind = DB_CONDITION_EQ, .scalar = 1,
                             .path = { steps, 1 }, .values = &one,
                             .nvalues = 1 };
    db_condition_t  by_id = { .kind = DB_CONDITION_EQ, .scalar = 1,
                              .path = id_path, .values = &second,
                              .nvalues = 1 };

    for (i = 0; i < 1200; i++) {
        call_t  call;

        snprintf(id, sizeof(id), "i%04u", i);
        snprintf(doc, sizeof(doc), "{\"id\":\"%s\",\"n\":1}", id);
        call_init(&call, DB_STORE_INSERT, id, doc);
        db_store_submit(f->store, &call.op);
        call_wait(&call);
    }

    query.conditions = &by_n;
    assert_str(list(f, &query), "[{\"id\":\"i0000\",\"n\":1},"
               "{\"id\":\"i0001\",\"n\":1}]");
    assert_true(query.later);

    by_n.next = &by_id;
    assert_str(list(f, &query), "[{\"id\":\"i0001\",\"n\":1}]");
    assert_false(query.later);

    query.count = 1;
    assert_str(list(f, &query), "[{\"id\":\"i0001\",\"n\":1}]");
    assert_false(query.later);
    assert_int_equal(query.total, 1);

    /* a page within the budget, and what is beyond it */

    query = (list_t) { .collection = &texts, .limit = 50 };
    (void) list(f, &query);
    assert_false(query.later);

    query.limit = 1000;
    (void) list(f, &query);
    assert_true(query.later);

    query.limit = 1;
    query.skip = 1100;
    assert_str(list(f, &query), "[{\"id\":\"i1100\",\"n\":1}]");
    assert_true(query.later);

    /* the next read of the same cycle has a budget of its own */

    query.limit = 50;
    query.skip = 0;

    for (i = 0; i < 50; i++) {
        (void) list(f, &query);
        assert_false(query.later);
    }

    assert_string_equal(f->log, "");
}


/* By the thousand and by one, so that a test need not wait for a sync each. */

static void
execute(fixture_t *f, const char *sql)
{
    sqlite3  *db;

    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}


#define THOUSAND                                                              \
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"          \
    " WHERE i < 1000) INSERT INTO texts SELECT printf('i%04d', i),"           \
    " json_object('n', i % 4), 1 FROM n"


static void
test_what_is_beyond_the_budget_leaves_it_to_later_cycles(void **state)
{
    unsigned    i;
    db_str_t    out;
    list_t      query = { .collection = &texts, .limit = 1000 };
    fixture_t  *f = *state;

    execute(f, THOUSAND);

    /* long enough for the steps of BEGIN and COMMIT to add up to a tick */

    for (i = 0; i < 400; i++) {
        (void) list(f, &query);
        assert_true(query.later);
        db_store_cycle_end(f->store);

        assert_int_equal(get(f, "i0007", &out), DB_STORE_OK);
        db_store_cycle_end(f->store);
    }

    assert_string_equal(f->log, "");
}


static void
test_a_total_is_counted_once_as_long_as_nobody_writes(void **state)
{
    unsigned        i;
    db_str_t        n = db_string("n"), id = db_string("id");
    db_value_t      two = int_value(2), from = text_value("i0001");
    fixture_t      *f = *state;
    db_condition_t  by_id = { .kind = DB_CONDITION_GTE, .scalar = 1,
                              .path = { &id, 1 }, .values = &from,
                              .nvalues = 1 };
    db_condition_t  by_n = { .kind = DB_CONDITION_EQ, .scalar = 1,
                             .path = { &n, 1 }, .values = &two,
                             .nvalues = 1 };
    list_t          query = { .collection = &texts, .conditions = &by_id,
                              .limit = 1, .count = 1 };

    execute(f, THOUSAND);

    for (i = 0; i < 3; i++) {
        (void) list(f, &query);
        assert_int_equal(query.later, i == 0);
        assert_int_equal(query.total, 1000);
        db_store_cycle_end(f->store);
    }

    /* a filter of its own has a total of its own */

    from = text_value("i0002");
    (void) list(f, &query);
    assert_true(query.later);
    assert_int_equal(query.total, 999);

    /* of a scan the list is the pool's: both are of one moment there */

    query.conditions = &by_n;

    for (i = 0; i < 2; i++) {
        (void) list(f, &query);
        assert_true(query.later);
        assert_int_equal(query.total, 250);
    }

    query.conditions = &by_id;
    (void) list(f, &query);
    assert_false(query.later);

    insert(f, "i2000", "{}");
    (void) list(f, &query);
    assert_true(query.later);
    assert_int_equal(query.total, 1000);

    /* another program, which knows nothing of our counter */

    execute(f, "DELETE FROM texts WHERE id = 'i2000'");
    db_store_cycle_end(f->store);
    (void) list(f, &query);
    assert_true(query.later);
    assert_int_equal(query.total, 999);

    assert_string_equal(f->log, "");
}


static void
test_a_total_is_not_kept_when_somebody_wrote_meanwhile(void **state)
{
    unsigned        i;
    call_t          call;
    db_str_t        id = db_string("id");
    db_key_t        sort = { { &id, 1 }, DB_VALUE_TEXT, 0 };
    db_value_t      from = text_value("i0001");
    fixture_t      *f = *state;
    db_condition_t  by_id = { .kind = DB_CONDITION_GTE, .scalar = 1,
                              .path = { &id, 1 }, .values = &from,
                              .nvalues = 1 };
    list_t          query = { .collection = &texts, .conditions = &by_id,
                              .limit = 1, .count = 1 };

    static const char  *const meanwhile[] = {
        "INSERT INTO texts VALUES ('i2000', '{}', 1)",
        "DELETE FROM texts WHERE id = 'i2000'",
    };

    execute(f, THOUSAND);

    /* before the pool reads, and after */

    for (i = 0; i < 2; i++) {
        call_init(&call, DB_STORE_LIST, "", "");
        db_buf_init(&call.out, f->arena, 0);
        call.op.conditions = &by_id;
        call.op.sort = &sort;
        call.op.nsort = 1;
        call.op.limit = 1;
        call.op.count = 1;

        db_store_read(f->store, &call.op);
        assert_int_equal(call.op.status, DB_STORE_LATER);

        if (i == 0) {
            execute(f, meanwhile[i]);
        }

        db_store_work(f->store, &call.op);
        assert_int_equal(call.op.total, 1001);

        if (i == 1) {
            execute(f, meanwhile[i]);
        }

        db_store_worked(f->store, &call.op);

        (void) list(f, &query);
        assert_true(query.later);
        assert_int_equal(query.total, i == 0 ? 1001 : 1000);

        /* for the next round to begin with nothing known */

        insert(f, i == 0 ? "a" : "b", "{}");
    }

    assert_string_equal(f->log, "");
}


static void
test_clients_cannot_fill_memory_with_statements(void **state)
{
    unsigned    i, j;
    list_t      query = { .collection = &texts, .limit = 2 };
    fixture_t  *f = *state;
    db_key_t    keys[11];
    db_str_t    names[10];

    static const char  letters[] = "abcdefghij";

    insert(f, "a", "{}");

    /* more shapes than a connection keeps */

    for (i = 0; i < 700; i++) {

        for (j = 0; j < 10; j++) {
            names[j] = (db_str_t) { &letters[j], 1 };
            keys[j] = (db_key_t) { { &names[j], 1 }, DB_VALUE_INT,
                                   (i >> j) & 1 };
        }

        keys[10] = (db_key_t) { id_path, DB_VALUE_TEXT, 0 };
        query.sort = keys;
        query.nsort = 11;
        assert_str(list(f, &query), "[{}]");
    }
}


static void
test_a_cycle_sees_what_was_acknowledged_in_it(void **state)
{
    int        i;
    char       id[16];
    db_str_t   out;
    fixture_t *f = *state;

    /* one cycle, its transaction begun before the writes */

    assert_int_equal(get(f, "i0", &out), DB_STORE_NOT_FOUND);

    for (i = 0; i < 20; i++) {
        snprintf(id, sizeof(id), "i%d", i);
        insert(f, id, "{}");
        assert_int_equal(get(f, id, &out), DB_STORE_OK);
    }

    db_store_cycle_end(f->store);
    db_store_cycle_end(f->store);
}


static void
test_a_conflict_undoes_itself_alone(void **state)
{
    int        fd, i;
    call_t     calls[6];
    db_str_t   out;
    fixture_t *f = *state;

    insert(f, "taken", "{}");
    fd = hold_writers(f);

    call_init(&calls[0], DB_STORE_INSERT, "new", "1");
    call_init(&calls[1], DB_STORE_INSERT, "taken", "2");
    call_init(&calls[2], DB_STORE_INSERT, "new", "3");
    call_init(&calls[3], DB_STORE_REPLACE, "new", "4");
    call_init(&calls[4], DB_STORE_REMOVE, "gone", "");
    call_init(&calls[5], DB_STORE_INSERT, "other", "5");

    for (i = 0; i < 6; i++) {
        db_store_submit(f->store, &calls[i].op);
    }

    close(fd);

    for (i = 0; i < 6; i++) {
        call_wait(&calls[i]);
    }

    assert_int_equal(calls[0].op.status, DB_STORE_OK);
    assert_int_equal(calls[1].op.status, DB_STORE_CONFLICT);
    assert_int_equal(calls[2].op.status, DB_STORE_CONFLICT);
    assert_int_equal(calls[3].op.status, DB_STORE_OK);
    assert_int_equal(calls[4].op.status, DB_STORE_NOT_FOUND);
    assert_int_equal(calls[5].op.status, DB_STORE_OK);

    assert_int_equal(get(f, "new", &out), DB_STORE_OK);
    assert_str(out, "4");
    assert_int_equal(get(f, "other", &out), DB_STORE_OK);
    assert_string_equal(f->log, "");
}


static atomic_uint  groups;


static void
group_done(db_store_op_t *op)
{
    if (op->next == NULL) {
        atomic_fetch_add(&groups, 1);
    }

    sem_post(&((call_t *) op)->done);
}


static void
test_what_waits_is_committed_together_and_says_where_it_ends(void **state)
{
    int         fd;
    char        id[16], path[160];
    call_t      calls[40];
    unsigned    i;
    uint64_t    commits;
    fixture_t  *f = *state;

    insert(f, "a", "{}");
    commits = db_writer_commits(&((db_sqlite_t *) f->store)->lock);

    /* the first one gets as far as the lock, the others are one batch */

    snprintf(path, sizeof(path), "%s.writer", f->path);
    fd = open(path, O_RDWR);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    atomic_store(&groups, 0);

    for (i = 0; i < 40; i++) {
        snprintf(id, sizeof(id), "i%04u", i);
        call_init(&calls[i], DB_STORE_INSERT, id, "{}");
        calls[i].op.done = group_done;
        db_store_submit(f->store, &calls[i].op);
    }

    close(fd);

    for (i = 0; i < 40; i++) {
        call_wait(&calls[i]);
        assert_int_equal(calls[i].op.status, DB_STORE_OK);
    }

    commits = db_writer_commits(&((db_sqlite_t *) f->store)->lock) - commits;
    assert_in_range(commits, 1, 3);
    assert_int_equal(atomic_load(&groups), commits);
}


static void
test_close_commits_what_was_submitted(void **state)
{
    int        fd, i;
    char       id[16];
    call_t    *calls;
    db_str_t   out;
    fixture_t *f = *state;

    calls = calloc(1000, sizeof(call_t));
    fd = hold_writers(f);

    for (i = 0; i < 1000; i++) {
        snprintf(id, sizeof(id), "i%d", i);
        call_init(&calls[i], DB_STORE_INSERT, id, "{}");
        db_store_submit(f->store, &calls[i].op);
    }

    close(fd);
    fixture_close(f);

    for (i = 0; i < 1000; i++) {
        assert_int_equal(sem_trywait(&calls[i].done), 0);
        assert_int_equal(calls[i].op.status, DB_STORE_OK);
    }

    free(calls);

    fixture_open(f);
    assert_int_equal(get(f, "i999", &out), DB_STORE_OK);
}


static void
test_the_log_is_moved_into_the_database(void **state)
{
    int          i;
    char         id[32], document[200], path[200];
    call_t      *calls;
    fixture_t   *f = *state;
    struct stat  st;

    calls = calloc(30000, sizeof(call_t));
    memset(document, 'x', sizeof(document));
    document[sizeof(document) - 1] = '\0';

    for (i = 0; i < 30000; i++) {

        /* spread over the whole tree: each batch writes many pages */

        snprintf(id, sizeof(id), "%08x", (unsigned) i * 2654435761u);
        call_init(&calls[i], DB_STORE_INSERT, id, document);
        db_store_submit(f->store, &calls[i].op);
    }

    for (i = 0; i < 30000; i++) {
        call_wait(&calls[i]);
        assert_int_equal(calls[i].op.status, DB_STORE_OK);
    }

    free(calls);

    snprintf(path, sizeof(path), "%s-wal", f->path);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size < 32 * 1024 * 1024);

    assert_int_equal(stat(f->path, &st), 0);
    assert_true(st.st_size > 2 * 1024 * 1024);
    assert_string_equal(f->log, "");
}


static int
checkpoint_is_asked(db_checkpoint_t *c)
{
    int  asked;

    pthread_mutex_lock(&c->mutex);
    asked = c->asked;
    pthread_mutex_unlock(&c->mutex);

    return asked;
}


static void
test_the_log_starts_again_as_soon_as_it_is_moved(void **state)
{
    int           i;
    char          id[32], path[200];
    fixture_t    *f = *state;
    struct stat   st;
    db_sqlite_t  *store;

    store = (db_sqlite_t *) f->store;

    for (i = 0; i < 1500; i++) {
        snprintf(id, sizeof(id), "%08x", (unsigned) i * 2654435761u);
        insert(f, id, "{\"text\":\"of some length, for a page to be full\"}");

        while (checkpoint_is_asked(&store->checkpoint)) {
            sched_yield();
        }
    }

    snprintf(path, sizeof(path), "%s-wal", f->path);
    assert_int_equal(stat(path, &st), 0);
    assert_in_range(st.st_size, 1000 * 4096, 1500 * 4096);
    assert_string_equal(f->log, "");
}


typedef struct {
    fixture_t   *f;
    atomic_int   stop;
    unsigned     lists;
} pool_t;


static void *
pool_thread(void *data)
{
    pool_t *pool = data;

    call_t       call;
    db_arena_t  *arena;

    while (!atomic_load(&pool->stop)) {
        arena = db_arena_create(1024);

        call_init(&call, DB_STORE_LIST, "", "");
        db_buf_init(&call.out, arena, 0);
        call.op.limit = 1000;
        call.op.count = 1;

        db_store_work(pool->f->store, &call.op);

        /* a list and its total are of one moment: "{}" and commas */

        if (call.op.status != DB_STORE_OK
            || call.out.len != (call.op.total ? call.op.total * 3 - 1 : 0))
        {
            abort();
        }

        db_arena_destroy(arena);
        pool->lists++;
    }

    return NULL;
}


static void
test_pool_threads_read_while_others_write(void **state)
{
    int         i;
    char        id[16];
    pool_t      pools[3];
    db_str_t    out;
    pthread_t   threads[3];
    fixture_t  *f = *state;

    for (i = 0; i < 3; i++) {
        pools[i].f = f;
        pools[i].lists = 0;
        atomic_init(&pools[i].stop, 0);
        assert_int_equal(pthread_create(&threads[i], NULL, pool_thread,
                                        &pools[i]), 0);
    }

    for (i = 0; i < 500; i++) {
        snprintf(id, sizeof(id), "i%03d", i);
        insert(f, id, "{}");
        assert_int_equal(get(f, id, &out), DB_STORE_OK);
    }

    for (i = 0; i < 3; i++) {
        atomic_store(&pools[i].stop, 1);
        pthread_join(threads[i], NULL);
        assert_true(pools[i].lists > 0);
    }

    assert_string_equal(f->log, "");
}


static void
expect_refused(fixture_t *f, const char *uri, const char *path,
    const char *hint)
{
    char  error[512] = "";

    assert_null(db_store_open(str(uri), fixture_log, f, error,
                              sizeof(error)));

    if (strstr(error, path) == NULL || strstr(error, hint) == NULL) {
        fail_msg("%s: %s", uri, error);
    }
}


static void
test_stores_that_cannot_be_opened_say_why(void **state)
{
    char       path[200], uri[240];
    FILE      *file;
    fixture_t  f;

    fixture_dir(&f);

    snprintf(path, sizeof(path), "%s/none/x.db", f.dir);
    snprintf(uri, sizeof(uri), "sqlite:%s", path);
    expect_refused(&f, uri, path, "create its directory");

    snprintf(uri, sizeof(uri), "sqlite://%s", f.dir);
    expect_refused(&f, uri, f.dir, "not a regular file");

    snprintf(path, sizeof(path), "%s/text.db", f.dir);
    file = fopen(path, "w");
    fprintf(file, "this is not a database, and longer than its header is,"
            " which has one hundred bytes, by at least a word or two");
    fclose(file);
    snprintf(uri, sizeof(uri), "sqlite:%s", path);
    expect_refused(&f, uri, path, "name another file");

    expect_refused(&f, "sqlite:", "sqlite:", "names no file");
    expect_refused(&f, "sqlite:/tmp/", "sqlite:/tmp/", "names no file");
    expect_refused(&f, "sqlite://host/x.db", "host", "names a host");
    expect_refused(&f, "sqlite::memory:", ":memory:", "in memory");
    expect_refused(&f, "sqlite:x.db?mode=ro", "mode", "the only option");
    expect_refused(&f, "redis://u:secret@h", "redis", "not a store");

    fixture_remove(&f);
}


static void
test_a_directory_of_somebody_else_is_named(void **state)
{
    int        status;
    char       error[512] = "";
    pid_t      pid;
    fixture_t  f;

    fixture_dir(&f);
    assert_int_equal(chmod(f.dir, 0555), 0);

    pid = fork();
    assert_true(pid >= 0);

    if (pid == 0) {

        /* root may write everywhere */

        if (geteuid() == 0 && setuid(65534) == -1) {
            _exit(2);
        }

        status = db_store_open(str(f.uri), fixture_log, &f, error,
                               sizeof(error)) != NULL
                 || strstr(error, f.path) == NULL
                 || strstr(error, "make its directory writable") == NULL;
        _exit(status);
    }

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);

    assert_int_equal(chmod(f.dir, 0755), 0);
    fixture_remove(&f);
}


static void
test_uris(void **state)
{
    size_t  i;
    char    error[256];

    static const char  *good[] = {
        "sqlite:x.db", "sqlite:/var/x.db", "sqlite:///var/x.db",
        "sqlite:./x.db", "sqlite:x.db?synchronous=normal",
        "sqlite:x.db?synchronous=full",
    };

    for (i = 0; i < 6; i++) {
        assert_int_equal(db_store_check_uri(str(good[i]), error,
                                            sizeof(error)), DB_OK);
    }

    assert_int_equal(db_store_check_uri(str("x.db"), error, sizeof(error)),
                     DB_ERROR);
    assert_string_equal(error, "\"x.db\" is not a store: expected"
                        " sqlite:/path/to/file.db or"
                        " mongodb://host/database");

    assert_int_equal(db_store_check_uri(str("sqlite:x.db?synchronous=off"),
                                        error, sizeof(error)), DB_ERROR);
    assert_string_equal(error, "\"sqlite:x.db?synchronous=off\": the only"
                        " option of an SQLite store is ?synchronous=full,"
                        " the default, or normal");
}


static void
test_the_writer_syncs_as_the_uri_says(void **state)
{
    char              error[256], uri[320];
    size_t            i;
    fixture_t        *f = *state;
    db_store_t       *store;
    sqlite3_stmt     *stmt;
    db_connection_t  *writer;

    static const struct {
        const char  *option;
        int          level;
    } cases[] = {
        { "", 2 }, { "?synchronous=full", 2 }, { "?synchronous=normal", 1 },
    };

    for (i = 0; i < 3; i++) {
        snprintf(uri, sizeof(uri), "sqlite:%s%s", f->path, cases[i].option);

        store = db_store_open(str(uri), fixture_log, f, error, sizeof(error));
        assert_non_null(store);

        /* the writer thread waits: nothing was submitted */

        writer = ((db_sqlite_t *) store)->writer;
        assert_int_equal(sqlite3_prepare_v2(writer->db, "PRAGMA synchronous",
                                            -1, &stmt, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
        assert_int_equal(sqlite3_column_int(stmt, 0), cases[i].level);
        sqlite3_finalize(stmt);

        db_store_close(store);
    }
}


static void
test_the_uri_of_a_mongodb_is_checked_without_its_driver(void **state)
{
    char    error[512];
    size_t  i;

    static const char  *good[] = {
        "mongodb://localhost/db", "mongodb://h:27017/db?replicaSet=r",
        "mongodb://a:1,b:2,[::1]:3/db", "mongodb://u:p%40@h/db",
        "mongodb+srv://cluster.example/db?w=majority",
    };

    static const struct {
        const char  *uri;
        const char  *says;
    } bad[] = {
        { "mongodb://", "no host" },
        { "mongodb:///db", "no host" },
        { "mongodb://user:secret@/db", "no host" },
        { "mongodb://h", "no database" },
        { "mongodb://h/", "no database" },
        { "mongodb://h?w=1", "no database" },
        { "mongodb://h/?w=1", "no database" },
        { "mongodb://user:se/cret@h/db", "%2F" },
        { "mongodb://h/a.b", "no name" },
        { "mongodb://h/a b", "no name" },
        { "mongodb+srv://a,b/db", "one host" },
        { "mongodb+srv://a:1/db", "no port" },
    };

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(db_store_check_uri(str(good[i]), error,
                                            sizeof(error)), DB_OK);
    }

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(db_store_check_uri(str(bad[i].uri), error,
                                            sizeof(error)), DB_ERROR);
        assert_non_null(strstr(error, bad[i].says));
        assert_non_null(strstr(error, "mongodb://HOST"));
        assert_null(strstr(error, "secret"));
        assert_null(strstr(error, "cret@"));
    }

    /* beside a unit test there is none */

    assert_int_equal(db_store_try(str(good[0]), error, sizeof(error)),
                     DB_ERROR);
    assert_non_null(strstr(error, "databridge_mongo.so\" is missing"));

    assert_null(db_store_open(str(good[0]), NULL, NULL, error,
                              sizeof(error)));
    assert_non_null(strstr(error, "databridge_mongo.so\" is missing"));
    assert_non_null(strstr(error, "install libmongoc-dev"));
}


static void
test_a_table_of_another_shape_is_refused(void **state)
{
    char              error[512];
    sqlite3          *db;
    unsigned          i;
    fixture_t        *f = *state;
    db_collection_t   other = { .name = str("other"),
                                .id_kind = DB_VALUE_TEXT };

    static const char  *tables[] = {
        "CREATE TABLE other (id TEXT PRIMARY KEY)",
        "CREATE TABLE other (id TEXT, doc TEXT)",
        "CREATE TABLE other (id INTEGER PRIMARY KEY, doc TEXT)",
        "CREATE TABLE other (id TEXT PRIMARY KEY, doc TEXT, x)",
        "CREATE TABLE other (doc TEXT, id TEXT PRIMARY KEY)",
        "CREATE TABLE other (id TEXT PRIMARY KEY, doc TEXT, v INTEGER, x)",
    };

    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);

    for (i = 0; i < 6; i++) {
        assert_int_equal(sqlite3_exec(db, tables[i], NULL, NULL, NULL),
                         SQLITE_OK);

        assert_int_equal(db_store_prepare(f->store, &other, error,
                                          sizeof(error)), DB_ERROR);
        assert_non_null(strstr(error, "collection \"other\": its table is"
                               " not (id TEXT PRIMARY KEY, doc TEXT,"
                               " v INTEGER)"));

        assert_int_equal(sqlite3_exec(db, "DROP TABLE other", NULL, NULL,
                                      NULL), SQLITE_OK);
    }

    sqlite3_close(db);

    assert_int_equal(db_store_prepare(f->store, &other, error, sizeof(error)),
                     DB_OK);
    assert_int_equal(db_store_prepare(f->store, &other, error, sizeof(error)),
                     DB_OK);
}


static void
test_a_foreign_lock_makes_a_write_busy(void **state)
{
    sqlite3    *db;
    db_str_t    out;
    fixture_t  *f = *state;

    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL),
                     SQLITE_OK);

    assert_int_equal(write_wait(f, DB_STORE_INSERT, "a", "{}"),
                     DB_STORE_BUSY);

    /* reads go on, and so do writes once the lock is gone */

    assert_int_equal(get(f, "a", &out), DB_STORE_NOT_FOUND);
    sqlite3_close(db);
    insert(f, "a", "{}");
    assert_non_null(strstr(f->log, "database is locked"));
}


#define store_test(name)  cmocka_unit_test_setup_teardown(name, setup, teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        store_test(test_documents_come_and_go),
        store_test(test_lists_are_ordered_by_id),
        store_test(test_integer_ids_are_ordered_as_numbers),
        store_test(test_conditions_are_typed_as_in_mongo),
        store_test(test_scans_are_left_to_the_pool),
        store_test(
            test_what_is_beyond_the_budget_leaves_it_to_later_cycles),
        store_test(test_a_total_is_counted_once_as_long_as_nobody_writes),
        store_test(test_a_total_is_not_kept_when_somebody_wrote_meanwhile),
        store_test(test_clients_cannot_fill_memory_with_statements),
        store_test(test_a_cycle_sees_what_was_acknowledged_in_it),
        store_test(test_a_conflict_undoes_itself_alone),
        store_test(
            test_what_waits_is_committed_together_and_says_where_it_ends),
        store_test(test_close_commits_what_was_submitted),
        store_test(test_the_log_is_moved_into_the_database),
        store_test(test_the_log_starts_again_as_soon_as_it_is_moved),
        store_test(test_pool_threads_read_while_others_write),
        store_test(test_a_table_of_another_shape_is_refused),
        store_test(test_a_foreign_lock_makes_a_write_busy),
        cmocka_unit_test(test_stores_that_cannot_be_opened_say_why),
        cmocka_unit_test(test_a_directory_of_somebody_else_is_named),
        cmocka_unit_test(test_uris),
        store_test(test_the_writer_syncs_as_the_uri_says),
        cmocka_unit_test(
            test_the_uri_of_a_mongodb_is_checked_without_its_driver),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
