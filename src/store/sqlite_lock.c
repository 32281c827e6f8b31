/*
 * The file beside the database: a lock that writers of all processes queue
 * for, the counter of their commits, and which file they belong to.  It is
 * never removed: a process that had it open would then count for itself.
 */

#include "store/sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>


#define DB_WRITER_LOCK_SIZE  4096
#define DB_WRITER_INODE      128      /* of the page: not in the same line */


static int
db_writer_lock_map(db_writer_lock_t *lock)
{
    int    err;
    void  *page;

    /* allocated: a full disk must not become a SIGBUS */

    err = posix_fallocate(lock->fd, 0, DB_WRITER_LOCK_SIZE);
    if (err) {
        errno = err;
        return DB_ERROR;
    }

    page = mmap(NULL, DB_WRITER_LOCK_SIZE, PROT_READ|PROT_WRITE, MAP_SHARED,
                lock->fd, 0);

    if (page == MAP_FAILED) {
        return DB_ERROR;
    }

    lock->commits = page;
    lock->inode = (void *) ((char *) page + DB_WRITER_INODE);

    return DB_OK;
}


static const char *
db_writer_lock_hint(int err)
{
    switch (err) {

    case ENOENT:
        return ": create its directory, writable for the worker's user";

    case EACCES:
    case EPERM:
    case EROFS:
        return ": make its directory writable for the worker's user";

    case ENOSPC:
        return ": make room on its disk";

    default:
        return "";
    }
}


int
db_writer_lock_open(db_writer_lock_t *lock, const char *path, char *error,
    size_t size)
{
    int    err;
    char  *name;

    name = sqlite3_mprintf("%s.writer", path);
    if (name == NULL) {
        snprintf(error, size, "out of memory");
        return DB_ERROR;
    }

    lock->fd = open(name, O_RDWR|O_CREAT|O_CLOEXEC, 0600);

    if (lock->fd == -1 || db_writer_lock_map(lock) != DB_OK) {
        err = errno;

        snprintf(error, size, "sqlite store \"%s\": cannot create \"%s\": "
                 "%s%s", path, name, strerror(err), db_writer_lock_hint(err));

        if (lock->fd != -1) {
            close(lock->fd);
        }

        sqlite3_free(name);

        return DB_ERROR;
    }

    sqlite3_free(name);
    pthread_mutex_init(&lock->mutex, NULL);

    return DB_OK;
}


void
db_writer_lock_close(db_writer_lock_t *lock)
{
    munmap((void *) lock->commits, DB_WRITER_LOCK_SIZE);
    close(lock->fd);
    pthread_mutex_destroy(&lock->mutex);
}


int
db_writer_lock(db_writer_lock_t *lock)
{
    /* threads of one process share the descriptor, hence its flock */

    pthread_mutex_lock(&lock->mutex);

    while (flock(lock->fd, LOCK_EX) == -1) {
        if (errno != EINTR) {
            pthread_mutex_unlock(&lock->mutex);
            return DB_ERROR;
        }
    }

    return DB_OK;
}


void
db_writer_unlock(db_writer_lock_t *lock)
{
    (void) flock(lock->fd, LOCK_UN);
    pthread_mutex_unlock(&lock->mutex);
}


uint64_t
db_writer_commits(const db_writer_lock_t *lock)
{
    return atomic_load_explicit(lock->commits, memory_order_acquire);
}


void
db_writer_committed(db_writer_lock_t *lock)
{
    atomic_fetch_add_explicit(lock->commits, 1, memory_order_release);
}
