/*
 * Several processes on one database, and processes that are killed.  The
 * parent never opens the store; what a child was told lies in shared memory.
 */

#include "store.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>


#define WORKERS  4
#define WRITES   150
#define KILLS    15
#define RACES    200


typedef struct {
    unsigned       round;            /* of kills */
    atomic_uint    acknowledged[WORKERS];
    atomic_uint    missing;
    atomic_uint    failed;
    atomic_uint    created;
    atomic_uint    arrived[RACES];
    atomic_uint    won[RACES];
} shared_t;


/* What a child does; it never returns. */

typedef void (*process_pt)(fixture_t *f, unsigned self);


static shared_t  *shared;


static int
map_shared(void **state)
{
    shared = mmap(NULL, sizeof(shared_t), PROT_READ|PROT_WRITE,
                  MAP_SHARED|MAP_ANONYMOUS, -1, 0);

    return shared == MAP_FAILED ? -1 : 0;
}


static void
id_of(char *id, unsigned round, unsigned worker, unsigned n)
{
    snprintf(id, 32, "r%u-w%u-%06u", round, worker, n);
}


/* Waits for the answer on another thread than the writer, as nginx does. */

static int
write_one(fixture_t *f, const char *id)
{
    return write_wait(f, DB_STORE_INSERT, id, "{\"a\":1}") == DB_STORE_OK;
}


static void
find_one(fixture_t *f, unsigned worker, unsigned n)
{
    char      id[32];
    db_str_t  out;

    id_of(id, 0, worker, n);

    if (get(f, id, &out) != DB_STORE_OK) {
        atomic_fetch_add(&shared->missing, 1);
    }
}


static void
start_processes(pid_t *pids, unsigned n, fixture_t *f, process_pt run)
{
    unsigned  i;

    for (i = 0; i < n; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);

        if (pids[i] == 0) {
            run(f, i);
        }
    }
}


/* Waits for every child and counts those that have failed. */

static int
count_failed(const pid_t *pids, unsigned n)
{
    int       status, failed;
    unsigned  i;

    failed = 0;

    for (i = 0; i < n; i++) {
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        failed += (status != 0);
    }

    return failed;
}


static void
worker_process(fixture_t *f, unsigned self)
{
    char      id[32];
    unsigned  i, n, other;

    fixture_open(f);

    for (i = 1; i <= WRITES; i++) {
        id_of(id, 0, self, i);

        if (!write_one(f, id)) {
            atomic_fetch_add(&shared->failed, 1);
        }

        atomic_store(&shared->acknowledged[self], i);

        /* a cycle goes on over several writes of all */

        for (other = 0; other < WORKERS; other++) {
            n = atomic_load(&shared->acknowledged[other]);

            if (n) {
                find_one(f, other, n);
            }
        }

        if (i % 10 == 0) {
            db_store_cycle_end(f->store);
        }
    }

    fixture_close(f);
    _exit(f->log[0] != '\0');
}


static void
test_workers_see_each_others_acknowledged_writes(void **state)
{
    pid_t      pids[WORKERS];
    fixture_t  f;

    fixture_dir(&f);
    memset(shared, 0, sizeof(*shared));

    start_processes(pids, WORKERS, &f, worker_process);

    assert_int_equal(count_failed(pids, WORKERS), 0);
    assert_int_equal(atomic_load(&shared->failed), 0);
    assert_int_equal(atomic_load(&shared->missing), 0);

    fixture_remove(&f);
}


static void
victim_process(fixture_t *f, unsigned self)
{
    char      id[32];
    unsigned  i;

    fixture_open(f);

    for (i = 1; /* until killed */ ; i++) {
        id_of(id, shared->round, self, i);

        if (!write_one(f, id)) {
            _exit(1);
        }

        atomic_store(&shared->acknowledged[self], i);
    }
}


static int
integrity_is_ok(const char *path)
{
    int            ok;
    sqlite3       *db;
    sqlite3_stmt  *stmt;

    ok = sqlite3_open(path, &db) == SQLITE_OK
         && sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &stmt, NULL)
            == SQLITE_OK
         && sqlite3_step(stmt) == SQLITE_ROW
         && strcmp((const char *) sqlite3_column_text(stmt, 0), "ok") == 0;

    sqlite3_finalize(stmt);
    sqlite3_close(db);

    return ok;
}


/* In a process of its own: counts what was acknowledged and is gone. */

static void
check_process(fixture_t *f, unsigned self)
{
    char      id[32];
    unsigned  i, worker, bad;
    db_str_t  out;

    bad = !integrity_is_ok(f->path);
    fixture_open(f);

    for (worker = 0; worker < 2; worker++) {
        for (i = 1; i <= atomic_load(&shared->acknowledged[worker]); i++) {
            id_of(id, shared->round, worker, i);
            bad += (get(f, id, &out) != DB_STORE_OK);
        }
    }

    fixture_close(f);
    _exit(bad != 0);
}


static void
test_a_killed_worker_loses_nothing_acknowledged(void **state)
{
    int              status;
    pid_t            pids[2];
    unsigned         i, round, total;
    fixture_t        f;
    struct timespec  pause;

    fixture_dir(&f);
    total = 0;

    for (round = 0; round < KILLS; round++) {
        memset(shared, 0, sizeof(*shared));
        shared->round = round;

        start_processes(pids, 2, &f, victim_process);

        /* both at work, then killed at a moment that differs each time */

        for (i = 0; i < 10000; i++) {
            if (atomic_load(&shared->acknowledged[0])
                && atomic_load(&shared->acknowledged[1]))
            {
                break;
            }

            pause = (struct timespec) { 0, 1000000 };
            nanosleep(&pause, NULL);
        }

        pause = (struct timespec) { 0, 5000000 + round * 3333333 };
        nanosleep(&pause, NULL);

        for (i = 0; i < 2; i++) {
            kill(pids[i], SIGKILL);
            assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
            assert_true(WIFSIGNALED(status));
            total += atomic_load(&shared->acknowledged[i]);
        }

        start_processes(pids, 1, &f, check_process);
        assert_int_equal(count_failed(pids, 1), 0);
    }

    assert_true(total > KILLS);

    fixture_remove(&f);
}


/* Both write the same version at once, again and again. */

static void
racer_process(fixture_t *f, unsigned self)
{
    call_t    call;
    uint64_t  version;

    fixture_open(f);

    for (version = 1; version <= RACES; version++) {
        call_init(&call, DB_STORE_REPLACE, "raced", self ? "1" : "0");
        call.op.versions = &version;
        call.op.nversions = 1;

        atomic_fetch_add(&shared->arrived[version - 1], 1);

        while (atomic_load(&shared->arrived[version - 1]) < 2) {
            sched_yield();
        }

        db_store_submit(f->store, &call.op);
        call_wait(&call);

        if (call.op.status == DB_STORE_OK && call.op.version == version + 1) {
            atomic_fetch_add(&shared->won[version - 1], 1);

        } else if (call.op.status != DB_STORE_MISMATCH) {
            atomic_fetch_add(&shared->failed, 1);
        }
    }

    fixture_close(f);
    _exit(f->log[0] != '\0');
}


static void
first_process(fixture_t *f, unsigned self)
{
    fixture_open(f);
    insert(f, "raced", "0");
    fixture_close(f);
    _exit(0);
}


static void
test_one_of_two_writers_of_a_version_wins(void **state)
{
    pid_t      pids[2];
    unsigned   i;
    fixture_t  f;

    fixture_dir(&f);
    memset(shared, 0, sizeof(*shared));

    start_processes(pids, 1, &f, first_process);
    assert_int_equal(count_failed(pids, 1), 0);

    start_processes(pids, 2, &f, racer_process);

    assert_int_equal(count_failed(pids, 2), 0);
    assert_int_equal(atomic_load(&shared->failed), 0);

    for (i = 0; i < RACES; i++) {
        assert_int_equal(atomic_load(&shared->won[i]), 1);
    }

    fixture_remove(&f);
}


/* The document is a number, which every modify() raises by one. */

static int
modify_raise(db_store_op_t *op, db_str_t current)
{
    call_t *call = (call_t *) op;

    int  n;

    memcpy(call->document, current.data ? current.data : "0",
           current.data ? current.len : 1);

    n = (int) strtol(call->document, NULL, 10);

    snprintf(call->document, sizeof(call->document), "%d", n + 1);
    op->document = str(call->document);

    return DB_OK;
}


static void
counter_process(fixture_t *f, unsigned self)
{
    call_t    call;
    unsigned  i;

    fixture_open(f);

    for (i = 0; i < WRITES; i++) {
        call_init(&call, DB_STORE_MODIFY, "counter", "");
        call.op.modify = modify_raise;
        call.op.upsert = 1;
        db_store_submit(f->store, &call.op);
        call_wait(&call);

        if (call.op.status != DB_STORE_OK) {
            atomic_fetch_add(&shared->failed, 1);
        }

        atomic_fetch_add(&shared->created, call.op.created);
    }

    fixture_close(f);
    _exit(f->log[0] != '\0');
}


static void
counted_process(fixture_t *f, unsigned self)
{
    char      want[16];
    db_str_t  out;

    fixture_open(f);
    snprintf(want, sizeof(want), "%d", WORKERS * WRITES);

    if (get(f, "counter", &out) != DB_STORE_OK
        || !db_str_eq(out, str(want)))
    {
        _exit(1);
    }

    fixture_close(f);
    _exit(0);
}


static void
test_modifications_of_several_processes_lose_nothing(void **state)
{
    pid_t      pids[WORKERS];
    fixture_t  f;

    fixture_dir(&f);
    memset(shared, 0, sizeof(*shared));

    start_processes(pids, WORKERS, &f, counter_process);

    assert_int_equal(count_failed(pids, WORKERS), 0);
    assert_int_equal(atomic_load(&shared->failed), 0);
    assert_int_equal(atomic_load(&shared->created), 1);

    start_processes(pids, 1, &f, counted_process);
    assert_int_equal(count_failed(pids, 1), 0);

    fixture_remove(&f);
}


/* A table of before, and several new processes that start with it at once. */

static void
upgrader_process(fixture_t *f, unsigned self)
{
    char      id[32];
    call_t    call;
    uint64_t  zero = 0;

    fixture_open(f);

    call_init(&call, DB_STORE_REPLACE, "old", "new");
    call.op.versions = &zero;
    call.op.nversions = 1;
    db_store_submit(f->store, &call.op);
    call_wait(&call);

    if (call.op.status == DB_STORE_OK) {
        atomic_fetch_add(&shared->won[0], 1);

    } else if (call.op.status != DB_STORE_MISMATCH) {
        atomic_fetch_add(&shared->failed, 1);
    }

    id_of(id, 0, self, 0);

    if (!write_one(f, id)) {
        atomic_fetch_add(&shared->failed, 1);
    }

    fixture_close(f);
    _exit(f->log[0] != '\0');
}


static void
test_processes_that_start_at_once_upgrade_a_table(void **state)
{
    pid_t      pids[WORKERS];
    sqlite3   *db;
    fixture_t  f;

    fixture_dir(&f);
    memset(shared, 0, sizeof(*shared));

    assert_int_equal(sqlite3_open(f.path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA journal_mode = WAL;"
                                  "CREATE TABLE texts (id TEXT PRIMARY KEY"
                                  " NOT NULL, doc TEXT NOT NULL) WITHOUT"
                                  " ROWID;"
                                  "INSERT INTO texts VALUES ('old', '{}')",
                                  NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);

    start_processes(pids, WORKERS, &f, upgrader_process);

    assert_int_equal(count_failed(pids, WORKERS), 0);
    assert_int_equal(atomic_load(&shared->failed), 0);
    assert_int_equal(atomic_load(&shared->won[0]), 1);

    fixture_remove(&f);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_workers_see_each_others_acknowledged_writes),
        cmocka_unit_test(test_a_killed_worker_loses_nothing_acknowledged),
        cmocka_unit_test(test_one_of_two_writers_of_a_version_wins),
        cmocka_unit_test(test_modifications_of_several_processes_lose_nothing),
        cmocka_unit_test(test_processes_that_start_at_once_upgrade_a_table),
    };

    return cmocka_run_group_tests(tests, map_shared, NULL);
}
