/*
 * The log moves into the database.  To move a thousand pages takes the
 * processor as long as hundreds of reads, so a thread of its own does it,
 * which stands back for the others of its worker; the writer goes on and asks
 * it after a commit.  The log can start again only between two commits, when
 * all of it has been moved: so the writer itself moves the little that it has
 * added meanwhile.
 *
 * The thread works with a connection of the pool's.  "asked" belongs to the
 * writer, but while it is set to the thread, which clears it; the rest is the
 * writer's.
 */

#include "store/sqlite.h"

#include "core/db_thread.h"

#include <stdio.h>
#include <unistd.h>


#define DB_CHECKPOINT_NICE        10

/* Pages of the log. */

#define DB_CHECKPOINT_PAGES       1000    /* at once */
#define DB_CHECKPOINT_REST        250     /* the writer's at most */
#define DB_CHECKPOINT_RESTART     (16 * 1024 * 1024 / 4096)

#define DB_CHECKPOINT_RESTART_MS  50


static void
db_checkpoint_run(db_connection_t *conn, int mode)
{
    int  rc;

    rc = sqlite3_wal_checkpoint_v2(conn->db, NULL, mode, NULL, NULL);

    if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY) {
        db_sqlite_log(conn, "checkpoint");
    }
}


/*
 * When readers, or much that is written, have kept the log from starting
 * again for long: waits for them, holding the other writers off, but not for
 * long.
 */

static void
db_checkpoint_restart(db_sqlite_t *store)
{
    sqlite3  *db;

    if (db_writer_lock(&store->lock) != DB_OK) {
        return;
    }

    db = store->writer->db;

    sqlite3_busy_timeout(db, DB_CHECKPOINT_RESTART_MS);
    db_checkpoint_run(store->writer, SQLITE_CHECKPOINT_RESTART);
    sqlite3_busy_timeout(db, 0);

    db_writer_unlock(&store->lock);
}


static void
db_checkpoint_ask(db_checkpoint_t *c)
{
    pthread_mutex_lock(&c->mutex);
    c->asked = 1;
    pthread_cond_signal(&c->cond);
    pthread_mutex_unlock(&c->mutex);
}


/* Whether the thread is at work; a log that is too long waits for its end. */

static int
db_checkpoint_at_work(db_checkpoint_t *c, int pages)
{
    int  asked;

    pthread_mutex_lock(&c->mutex);

    while (c->asked && pages > DB_CHECKPOINT_RESTART) {
        pthread_cond_wait(&c->cond, &c->mutex);
    }

    asked = c->asked;

    pthread_mutex_unlock(&c->mutex);

    return asked;
}


void
db_sqlite_checkpoint(db_sqlite_t *store, int pages)
{
    int               left;
    db_checkpoint_t  *c;

    c = &store->checkpoint;

    if (db_checkpoint_at_work(c, pages)) {
        return;
    }

    if (pages < c->moved) {
        c->moved = 0;
        c->rest = 0;
    }

    left = pages - c->moved;

    if (left >= DB_CHECKPOINT_PAGES) {
        c->moved = pages;
        c->rest = (pages <= DB_CHECKPOINT_RESTART);

        if (c->rest) {
            db_checkpoint_ask(c);

        } else {
            db_checkpoint_restart(store);
        }

    } else if (c->rest && left <= DB_CHECKPOINT_REST) {
        c->moved = pages;
        c->rest = 0;
        db_checkpoint_run(store->writer, SQLITE_CHECKPOINT_PASSIVE);
    }
}


static void *
db_checkpoint_thread(void *data)
{
    db_sqlite_t *store = data;

    db_checkpoint_t  *c;
    db_connection_t  *conn;

    c = &store->checkpoint;

    (void) nice(DB_CHECKPOINT_NICE);

    pthread_mutex_lock(&c->mutex);

    for ( ;; ) {

        while (!c->asked && !c->stop) {
            pthread_cond_wait(&c->cond, &c->mutex);
        }

        if (c->stop) {
            break;
        }

        pthread_mutex_unlock(&c->mutex);

        conn = db_sqlite_pool_take(store);

        if (conn) {
            db_checkpoint_run(conn, SQLITE_CHECKPOINT_PASSIVE);
            db_sqlite_pool_give(store, conn);
        }

        pthread_mutex_lock(&c->mutex);
        c->asked = 0;
        pthread_cond_signal(&c->cond);
    }

    pthread_mutex_unlock(&c->mutex);

    return NULL;
}


static void
db_checkpoint_destroy(db_checkpoint_t *c)
{
    pthread_mutex_destroy(&c->mutex);
    pthread_cond_destroy(&c->cond);
}


int
db_sqlite_checkpoint_start(db_sqlite_t *store, char *error, size_t size)
{
    int               err;
    db_checkpoint_t  *c;

    c = &store->checkpoint;

    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->cond, NULL);

    err = db_thread_start(&c->thread, db_checkpoint_thread, store);

    if (err) {
        db_checkpoint_destroy(c);

        snprintf(error, size, "sqlite store \"%s\": cannot start a thread: "
                 "%s", store->path, strerror(err));
        return DB_ERROR;
    }

    return DB_OK;
}


/* When the writer has ended. */

void
db_sqlite_checkpoint_stop(db_sqlite_t *store)
{
    db_checkpoint_t  *c;

    c = &store->checkpoint;

    pthread_mutex_lock(&c->mutex);
    c->stop = 1;
    pthread_cond_signal(&c->cond);
    pthread_mutex_unlock(&c->mutex);

    pthread_join(c->thread, NULL);
    db_checkpoint_destroy(c);
}
