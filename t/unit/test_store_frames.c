/*
 * The writer's way of writing SQLite's log, beside a connection of another
 * program that knows nothing of it.
 */

#include "unit.h"

#include "store/sqlite.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>


typedef struct {
    db_frames_vfs_t   frames;
    char              dir[32];
    char              path[48];
    sqlite3          *writer;
    sqlite3          *other;
} fixture_t;


static sqlite3 *
open_database(const char *path, const char *vfs)
{
    sqlite3  *db;

    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE
                                     |SQLITE_OPEN_CREATE, vfs), SQLITE_OK);

    return db;
}


static void
execute(sqlite3 *db, const char *sql)
{
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
}


static int
ask(sqlite3 *db, const char *sql)
{
    int            n;
    sqlite3_stmt  *stmt;

    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    n = sqlite3_column_int(stmt, 0);
    sqlite3_finalize(stmt);

    return n;
}


static int
setup(void **state)
{
    fixture_t  *f;

    f = calloc(1, sizeof(fixture_t));
    strcpy(f->dir, "/tmp/db-frames-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/one.db", f->dir);

    assert_int_equal(db_frames_register(&f->frames), SQLITE_OK);
    f->writer = open_database(f->path, f->frames.name);
    db_frames_watch(f->writer);
    f->other = open_database(f->path, NULL);

    execute(f->writer, "PRAGMA journal_mode = wal; PRAGMA cache_size = 10;"
            " CREATE TABLE rows (n INTEGER PRIMARY KEY, data BLOB)");

    *state = f;

    return 0;
}


static int
teardown(void **state)
{
    fixture_t  *f = *state;

    sqlite3_close(f->other);
    sqlite3_close(f->writer);
    db_frames_unregister(&f->frames);
    assert_int_equal(unlink(f->path), 0);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);

    return 0;
}


/* Which is more than the writer caches, and less than is held. */

static void
insert_20(sqlite3 *db)
{
    int  i;

    for (i = 0; i < 20; i++) {
        execute(db, "INSERT INTO rows VALUES (NULL, randomblob(3000))");
    }
}


/* What is held of it belongs to nobody, and its place to who writes next. */

static void
test_what_is_rolled_back_is_never_written(void **state)
{
    int         i;
    fixture_t  *f = *state;

    for (i = 1; i <= 3; i++) {
        execute(f->other, "PRAGMA wal_checkpoint(TRUNCATE)");

        execute(f->writer, "BEGIN IMMEDIATE");
        insert_20(f->writer);
        execute(f->writer, "ROLLBACK");

        execute(f->other, "BEGIN IMMEDIATE");
        insert_20(f->other);
        execute(f->other, "COMMIT");

        assert_int_equal(ask(f->writer, "SELECT count(*) FROM rows"), 20 * i);
        assert_int_equal(ask(f->writer, "SELECT integrity_check = 'ok'"
                             " FROM pragma_integrity_check"), 1);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(
            test_what_is_rolled_back_is_never_written, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
