/*
 * Several processes on one database, and processes that are killed.  The
 * parent never opens the store; what a child was told lies in shared memory.
 */

#include "store.h"

#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>


#define WORKERS  4
#define WRITES   150
#define KILLS    15


typedef struct {
    atomic_uint    acknowledged[WORKERS];
    atomic_uint    missing;
    atomic_uint    failed;
} shared_t;


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
    int        status, bad;
    pid_t      pids[WORKERS];
    unsigned   i;
    fixture_t  f;

    fixture_dir(&f);
    memset(shared, 0, sizeof(*shared));

    for (i = 0; i < WORKERS; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);

        if (pids[i] == 0) {
            worker_process(&f, i);
        }
    }

    bad = 0;

    for (i = 0; i < WORKERS; i++) {
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        bad += (status != 0);
    }

    assert_int_equal(bad, 0);
    assert_int_equal(atomic_load(&shared->failed), 0);
    assert_int_equal(atomic_load(&shared->missing), 0);

    fixture_remove(&f);
}


static void
victim_process(fixture_t *f, unsigned round, unsigned worker)
{
    char      id[32];
    unsigned  i;

    fixture_open(f);

    for (i = 1; /* until killed */ ; i++) {
        id_of(id, round, worker, i);

        if (!write_one(f, id)) {
            _exit(1);
        }

        atomic_store(&shared->acknowledged[worker], i);
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
check_process(fixture_t *f, unsigned round)
{
    char      id[32];
    unsigned  i, worker, bad;
    db_str_t  out;

    bad = !integrity_is_ok(f->path);
    fixture_open(f);

    for (worker = 0; worker < 2; worker++) {
        for (i = 1; i <= atomic_load(&shared->acknowledged[worker]); i++) {
            id_of(id, round, worker, i);
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
    pid_t            pids[2], pid;
    unsigned         i, round, total;
    fixture_t        f;
    struct timespec  pause;

    fixture_dir(&f);
    total = 0;

    for (round = 0; round < KILLS; round++) {
        memset(shared, 0, sizeof(*shared));

        for (i = 0; i < 2; i++) {
            pids[i] = fork();
            assert_true(pids[i] >= 0);

            if (pids[i] == 0) {
                victim_process(&f, round, i);
            }
        }

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

        pid = fork();

        if (pid == 0) {
            check_process(&f, round);
        }

        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }

    assert_true(total > KILLS);

    fixture_remove(&f);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_workers_see_each_others_acknowledged_writes),
        cmocka_unit_test(test_a_killed_worker_loses_nothing_acknowledged),
    };

    return cmocka_run_group_tests(tests, map_shared, NULL);
}
