/*
 * Durability, seen from below: a VFS between SQLite and the real one counts
 * writes and syncs, and fails them where a test says so.
 */

#include "store.h"

#include <sqlite3.h>
#include <stdatomic.h>


static struct {
    sqlite3_vfs                 vfs;
    sqlite3_vfs                *real;
    const sqlite3_io_methods   *real_methods;
    sqlite3_io_methods          methods;

    atomic_uint                 log_writes;
    atomic_uint                 log_syncs;
    atomic_uint                 unsynced;      /* writes since the last */
    atomic_int                  fail_write;    /* an error code, or 0 */
    atomic_int                  fail_sync;
    atomic_int                  last_errno;    /* of the log's file, or 0 */
} shim;


static int
shim_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 offset)
{
    int  rc;

    rc = atomic_load(&shim.fail_write);

    if (rc) {
        return rc;
    }

    atomic_fetch_add(&shim.unsynced, 1);
    atomic_fetch_add(&shim.log_writes, 1);

    return shim.real_methods->xWrite(file, data, n, offset);
}


static int
shim_sync(sqlite3_file *file, int flags)
{
    int  rc;

    rc = atomic_load(&shim.fail_sync);

    if (rc) {
        return rc;
    }

    rc = shim.real_methods->xSync(file, flags);
    atomic_fetch_add(&shim.log_syncs, 1);
    atomic_store(&shim.unsynced, 0);

    return rc;
}


static int
shim_control(sqlite3_file *file, int op, void *data)
{
    int  err;

    err = atomic_load(&shim.last_errno);

    if (op == SQLITE_FCNTL_LAST_ERRNO && err) {
        *(int *) data = err;
        return SQLITE_OK;
    }

    return shim.real_methods->xFileControl(file, op, data);
}


static int
shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
    int *out)
{
    int  rc;

    rc = shim.real->xOpen(shim.real, name, file, flags, out);

    /* the write-ahead log is what a commit writes */

    if (rc != SQLITE_OK || !(flags & SQLITE_OPEN_WAL)) {
        return rc;
    }

    if (shim.real_methods == NULL) {
        shim.real_methods = file->pMethods;
        shim.methods = *file->pMethods;
        shim.methods.xWrite = shim_write;
        shim.methods.xSync = shim_sync;
        shim.methods.xFileControl = shim_control;
    }

    assert_ptr_equal(file->pMethods, shim.real_methods);
    file->pMethods = &shim.methods;

    return SQLITE_OK;
}


static int
shim_setup(void **state)
{
    shim.real = sqlite3_vfs_find(NULL);
    shim.vfs = *shim.real;
    shim.vfs.zName = "faults";
    shim.vfs.xOpen = shim_open;

    return sqlite3_vfs_register(&shim.vfs, 1) == SQLITE_OK ? 0 : -1;
}


static int
shim_teardown(void **state)
{
    return sqlite3_vfs_unregister(&shim.vfs) == SQLITE_OK ? 0 : -1;
}


/* done() of a write that must be on disk by now. */

static atomic_uint  acknowledged_early;


static void
durable_done(db_store_op_t *op)
{
    if (atomic_load(&shim.unsynced) != 0) {
        atomic_fetch_add(&acknowledged_early, 1);
    }

    call_done(op);
}


static void
test_an_acknowledged_write_is_synced(void **state)
{
    int         i;
    char        id[16];
    call_t      call;
    unsigned    before;
    fixture_t  *f = *state;

    atomic_store(&acknowledged_early, 0);

    for (i = 0; i < 100; i++) {
        snprintf(id, sizeof(id), "i%d", i);
        call_init(&call, DB_STORE_INSERT, id, "{}");
        call.op.done = durable_done;

        before = atomic_load(&shim.log_syncs);
        db_store_submit(f->store, &call.op);
        call_wait(&call);

        assert_int_equal(call.op.status, DB_STORE_OK);
        assert_true(atomic_load(&shim.log_syncs) > before);
    }

    assert_int_equal(atomic_load(&acknowledged_early), 0);
}


static void
test_a_group_shares_its_commit(void **state)
{
    int         fd, i;
    char        id[16];
    call_t     *calls;
    unsigned    before;
    fixture_t  *f = *state;

    atomic_store(&acknowledged_early, 0);

    insert(f, "first", "{}");

    calls = calloc(512, sizeof(call_t));
    fd = hold_writers(f);

    for (i = 0; i < 512; i++) {
        snprintf(id, sizeof(id), "i%03d", i);
        call_init(&calls[i], DB_STORE_INSERT, id, "{\"a\":1}");
        calls[i].op.done = durable_done;
        db_store_submit(f->store, &calls[i].op);
    }

    before = atomic_load(&shim.log_syncs);
    close(fd);

    for (i = 0; i < 512; i++) {
        call_wait(&calls[i]);
        assert_int_equal(calls[i].op.status, DB_STORE_OK);
    }

    /* what the writer had taken already, and batches of 256 */

    assert_in_range(atomic_load(&shim.log_syncs) - before, 2, 3);
    assert_int_equal(atomic_load(&acknowledged_early), 0);

    free(calls);
}


/* In one transaction, which takes more than SQLite keeps in memory. */

#define MANY  600


static void
insert_many(fixture_t *f, size_t size)
{
    int               i;
    char             *document;
    char              ids[MANY][16];
    call_t            call;
    db_store_item_t   items[MANY];

    document = malloc(size);
    memset(document, 'x', size);
    document[0] = document[size - 1] = '"';

    for (i = 0; i < MANY; i++) {
        snprintf(ids[i], sizeof(ids[i]), "m%03d", i);
        items[i] = (db_store_item_t) { text_value(ids[i]),
                                       { document, size } };
    }

    call_init(&call, DB_STORE_INSERT, "", "");
    call.op.items = items;
    call.op.nitems = MANY;

    db_store_submit(f->store, &call.op);
    call_wait(&call);

    assert_int_equal(call.op.status, DB_STORE_OK);
    free(document);
}


static void
test_the_frames_of_a_commit_are_few_writes(void **state)
{
    unsigned    before;
    fixture_t  *f = *state;

    before = atomic_load(&shim.log_writes);
    insert_many(f, 900);

    /* 600 KB, 128 KiB at a time; one by one they would be 300 */

    assert_in_range(atomic_load(&shim.log_writes) - before, 5, 15);
}


static void
copy_file(const char *from, const char *to, const char *suffix)
{
    int      in, out;
    char     path[200], data[65536];
    ssize_t  n;

    snprintf(path, sizeof(path), "%s%s", from, suffix);
    in = open(path, O_RDONLY|O_CLOEXEC);
    snprintf(path, sizeof(path), "%s%s", to, suffix);
    out = open(path, O_WRONLY|O_CREAT|O_CLOEXEC, 0600);

    assert_true(in >= 0 && out >= 0);

    while ((n = read(in, data, sizeof(data))) > 0) {
        assert_int_equal(write(out, data, (size_t) n), n);
    }

    close(in);
    close(out);
}


/* What another process would find if this one were killed now. */

static int
count_in_files(fixture_t *f, const char *sql)
{
    int            n;
    char           path[160];
    sqlite3       *db;
    sqlite3_stmt  *stmt;

    snprintf(path, sizeof(path), "%s.copy", f->path);
    copy_file(f->path, path, "");
    copy_file(f->path, path, "-wal");

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    n = sqlite3_column_int(stmt, 0);

    sqlite3_finalize(stmt);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    assert_int_equal(unlink(path), 0);

    return n;
}


static void
test_unsynced_commits_are_in_the_files(void **state)
{
    int         i;
    char        id[16];
    fixture_t  *f = *state;

    fixture_close(f);
    strcat(f->uri, "?synchronous=normal");
    fixture_open(f);

    for (i = 1; i <= 20; i++) {
        snprintf(id, sizeof(id), "i%d", i);
        insert(f, id, "{}");
        assert_int_equal(count_in_files(f, "SELECT count(*) FROM texts"), i);
    }

    /* pages are written before the commit, and again with it */

    insert_many(f, 50000);

    assert_int_equal(count_in_files(f, "SELECT count(*) FROM texts"),
                     20 + MANY);
    assert_int_equal(count_in_files(f, "SELECT integrity_check = 'ok'"
                                    " FROM pragma_integrity_check"), 1);
}


static void
expect_all_fail(fixture_t *f, db_store_status_t status)
{
    int       fd, i;
    char      id[16];
    call_t    calls[20];
    db_str_t  out;

    fd = hold_writers(f);

    for (i = 0; i < 20; i++) {
        snprintf(id, sizeof(id), "f%d", i);

        /* one that would fail by itself, too */

        call_init(&calls[i], i == 7 ? DB_STORE_REPLACE : DB_STORE_INSERT, id,
                  "{}");
        db_store_submit(f->store, &calls[i].op);
    }

    close(fd);

    for (i = 0; i < 20; i++) {
        call_wait(&calls[i]);
        assert_int_equal(calls[i].op.status, status);
    }

    for (i = 0; i < 20; i++) {
        assert_int_equal(get(f, calls[i].id, &out), DB_STORE_NOT_FOUND);
    }
}


static void
expect_recovered(fixture_t *f)
{
    db_str_t  out;

    insert(f, "f3", "{\"again\":true}");
    assert_int_equal(get(f, "f3", &out), DB_STORE_OK);
    assert_str(out, "{\"again\":true}");
    assert_int_equal(get(f, "kept", &out), DB_STORE_OK);

    fixture_close(f);
    fixture_open(f);

    assert_int_equal(get(f, "f3", &out), DB_STORE_OK);
    assert_int_equal(get(f, "f4", &out), DB_STORE_NOT_FOUND);
    assert_int_equal(get(f, "kept", &out), DB_STORE_OK);
}


static void
test_a_full_disk_fails_the_whole_batch(void **state)
{
    fixture_t *f = *state;

    insert(f, "kept", "{}");

    atomic_store(&shim.fail_write, SQLITE_FULL);
    expect_all_fail(f, DB_STORE_FULL);
    atomic_store(&shim.fail_write, 0);

    assert_non_null(strstr(f->log, "write: database or disk is full"));
    expect_recovered(f);
}


static void
test_a_failed_sync_fails_the_whole_batch(void **state)
{
    fixture_t *f = *state;

    insert(f, "kept", "{}");

    atomic_store(&shim.fail_sync, SQLITE_IOERR_FSYNC);
    expect_all_fail(f, DB_STORE_FAILED);
    atomic_store(&shim.fail_sync, 0);

    assert_non_null(strstr(f->log, "write: disk I/O error"));
    expect_recovered(f);
}


/* Where room is found when what was written goes to the disk. */

static void
test_a_disk_may_be_found_full_by_a_sync(void **state)
{
    size_t     i;
    fixture_t *f = *state;

    static const int  errors[] = { ENOSPC, EDQUOT };

    insert(f, "kept", "{}");

    for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        atomic_store(&shim.fail_sync, SQLITE_IOERR_FSYNC);
        atomic_store(&shim.last_errno, errors[i]);
        expect_all_fail(f, DB_STORE_FULL);
        atomic_store(&shim.last_errno, 0);
        atomic_store(&shim.fail_sync, 0);
    }

    assert_non_null(strstr(f->log, "make room on its disk"));
    expect_recovered(f);
}


static void
test_an_io_error_is_not_a_full_disk(void **state)
{
    fixture_t *f = *state;

    insert(f, "kept", "{}");

    atomic_store(&shim.fail_write, SQLITE_IOERR_WRITE);
    expect_all_fail(f, DB_STORE_FAILED);
    atomic_store(&shim.fail_write, 0);

    expect_recovered(f);
}


#define fault_test(name)  cmocka_unit_test_setup_teardown(name, setup, teardown)


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        fault_test(test_an_acknowledged_write_is_synced),
        fault_test(test_a_group_shares_its_commit),
        fault_test(test_the_frames_of_a_commit_are_few_writes),
        fault_test(test_unsynced_commits_are_in_the_files),
        fault_test(test_a_full_disk_fails_the_whole_batch),
        fault_test(test_a_failed_sync_fails_the_whole_batch),
        fault_test(test_a_disk_may_be_found_full_by_a_sync),
        fault_test(test_an_io_error_is_not_a_full_disk),
    };

    return cmocka_run_group_tests(tests, shim_setup, shim_teardown);
}
