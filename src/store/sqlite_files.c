/*
 * The files of a database.  SQLite goes on with a file that somebody has
 * removed or replaced, and what it then commits is gone with its last
 * descriptor: so every transaction of the writer's looks first whether they
 * are what was opened.  The identities are set before the threads start.
 */

#include "store/sqlite.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>


/* Why SQLite refuses, in words that lead on; empty where its own do. */

const char *
db_sqlite_hint(int rc)
{
    switch (rc & 0xff) {

    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ": another program holds a transaction open, end it";

    case SQLITE_INTERRUPT:
        return ": ask for less, or declare an index for it";

    case SQLITE_FULL:
        return ": make room on its disk, or raise the limit of its size";

    case SQLITE_NOTADB:
        return ": name another file, or, if it is damaged, stop nginx and put"
               " a backup in the place of all its files";

    case SQLITE_CORRUPT:
        return ": the file is damaged, stop nginx and put a backup in the"
               " place of all its files";

    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
        return ": make the file and its directory writable for the worker's"
               " user";

    default:
        return "";
    }
}


static int
db_sqlite_error(db_sqlite_t *store, char *error, size_t size, const char *what)
{
    snprintf(error, size, "sqlite store \"%s\": %s", store->path, what);

    return DB_ERROR;
}


/* The inode of the file, or 0. */

static ino_t
db_sqlite_inode(const db_sqlite_t *store, const char *suffix, off_t *size)
{
    char         *path;
    ino_t         inode;
    struct stat   st;

    inode = 0;
    path = sqlite3_mprintf("%s%s", store->path, suffix);

    if (path && stat(path, &st) == 0) {
        inode = st.st_ino;
        *size = st.st_size;
    }

    sqlite3_free(path);

    return inode;
}


/* Sees what SQLite would word less clearly, or not at all. */

int
db_sqlite_check_path(db_sqlite_t *store, char *error, size_t size)
{
    struct stat  st;

    if (stat(store->path, &st) == -1) {
        return DB_OK;
    }

    if (!S_ISREG(st.st_mode)) {
        return db_sqlite_error(store, error, size, "not a regular file: name"
                               " a file, which may be missing");
    }

    if (access(store->path, R_OK|W_OK) == -1) {
        return db_sqlite_error(store, error, size, "cannot be written: make"
                               " the file and its directory writable for the"
                               " worker's user");
    }

    return DB_OK;
}


/*
 * A log without its database would be read as that of the file in its place.
 * Called with the lock held, before the database is opened.
 */

int
db_sqlite_check_log(db_sqlite_t *store, char *error, size_t size)
{
    ino_t  inode;
    off_t  length;

    length = 0;
    inode = db_sqlite_inode(store, "", &length);

    if (*store->lock.inode == 0 || *store->lock.inode == inode) {
        return DB_OK;
    }

    length = 0;
    (void) db_sqlite_inode(store, "-wal", &length);

    if (length == 0) {
        return DB_OK;
    }

    snprintf(error, size, "sqlite store \"%s\": its file was moved or"
             " replaced, but \"%s-wal\" belongs to what was there: stop nginx"
             " and put that file back, or remove \"%s-wal\" and \"%s-shm\"; if"
             " all of them were copied together, remove \"%s.writer\"",
             store->path, store->path, store->path, store->path, store->path);

    return DB_ERROR;
}


/* Called with the lock held, once the database is open. */

void
db_sqlite_know_files(db_sqlite_t *store)
{
    off_t  length;

    store->files[0] = db_sqlite_inode(store, "", &length);
    store->files[1] = db_sqlite_inode(store, "-wal", &length);
    store->files[2] = db_sqlite_inode(store, "-shm", &length);

    *store->lock.inode = store->files[0];
}


/* Each worker says so once: the others of its kind still count together. */

static void
db_sqlite_check_lock(db_sqlite_t *store)
{
    char         text[768];
    struct stat  st;

    if (store->uncounted || fstat(store->lock.fd, &st) == -1 || st.st_nlink) {
        return;
    }

    store->uncounted = 1;

    snprintf(text, sizeof(text), "sqlite store \"%s\": \"%s.writer\" was"
             " removed: reload nginx, or what workers that start from now on"
             " have written may be seen late", store->path, store->path);

    store->log(store->log_ctx, DB_LOG_ERROR, text);
}


/*
 * SQLITE_OK, or SQLITE_READONLY_DBMOVED with a line in the log.  The writer
 * comes with the lock held, a thread of the pool with NULL.
 */

int
db_sqlite_check_files(db_sqlite_t *store, db_connection_t *writer)
{
    char      text[768];
    ino_t     inode;
    off_t     length;
    unsigned  i;

    static const char  suffixes[][8] = { "", "-wal", "-shm" };

    if (writer) {
        db_sqlite_check_lock(store);
    }

    for (i = 0; i < 3; i++) {
        inode = db_sqlite_inode(store, suffixes[i], &length);

        if (inode != store->files[i]) {
            break;
        }
    }

    if (i == 3) {
        return SQLITE_OK;
    }

    snprintf(text, sizeof(text), "sqlite store \"%s\": \"%s%s\" was %s,"
             " nothing is written until %s", store->path, store->path,
             suffixes[i], inode ? "replaced" : "moved or removed",
             i ? "nginx is restarted" : "it is back or nginx is restarted");

    store->log(store->log_ctx, DB_LOG_ERROR, text);

    /* what was acknowledged must not go with a log that has lost its name */

    if (writer && i == 1 && inode == 0) {
        (void) sqlite3_wal_checkpoint_v2(writer->db, NULL,
                                         SQLITE_CHECKPOINT_RESTART, NULL,
                                         NULL);
    }

    return SQLITE_READONLY_DBMOVED;
}
