/*
 * The writer thread.  It takes all operations that wait, runs them in one
 * transaction and commits it; what arrives meanwhile is the next batch.  Those
 * who have just been answered often write again: for as many it waits a
 * little, or there would be two commits by turns, of one half each.  An
 * operation is acknowledged after its commit is on disk and counted, so that
 * whoever has seen the answer finds the document in any worker.
 *
 * The queue is shared with the nginx thread under the store's mutex; the
 * connection and the fields of db_writer_t are this thread's alone.
 */

#include "store/sqlite.h"

#include "core/db_thread.h"

#include <errno.h>
#include <stdio.h>


#define DB_WRITER_BATCH        256
#define DB_WRITER_PAUSE_MS     5          /* while another program writes */
#define DB_WRITER_GATHER_NS    5000000    /* at most, however slow the disk */
#define DB_WRITER_TURN_NS      200000     /* of a client on this machine */

typedef struct {
    db_sqlite_t      *store;
    db_connection_t  *conn;
    unsigned          batch;           /* operations of the last one */
    unsigned          expected;        /* what may wait soon */
    uint64_t          ended;           /* the last commit, ns */
    uint64_t          patience;        /* for those it has answered, ns */
    int               pages;           /* of the log, after the commit */
} db_writer_t;


static int
db_writer_committed_pages(void *data, sqlite3 *db, const char *name,
    int pages)
{
    db_writer_t *writer = data;

    writer->pages = pages;

    return SQLITE_OK;
}


/*
 * With the mutex.  Waits until those whom the last commit has answered wait
 * again, beside those who waited then; little longer than that commit took,
 * whatever it had to wait for.
 */

static void
db_writer_gather(db_writer_t *writer)
{
    int               rc;
    uint64_t          until;
    db_sqlite_t      *store;
    struct timespec   ts;

    store = writer->store;
    store->wanted = writer->expected;
    until = writer->ended + writer->patience;

    ts.tv_sec = (time_t) (until / 1000000000);
    ts.tv_nsec = (long) (until % 1000000000);

    for (rc = 0; rc == 0 && store->queued < store->wanted && !store->stop; ) {
        rc = pthread_cond_timedwait(&store->cond, &store->mutex, &ts);
    }
}


/*
 * Takes at most a batch from the queue, waiting for it.  NULL when the store
 * is closed and nothing is left.
 */

static db_store_op_t *
db_writer_take(db_writer_t *writer)
{
    unsigned         n;
    db_sqlite_t     *store;
    db_store_op_t   *batch, **last;

    store = writer->store;

    pthread_mutex_lock(&store->mutex);

    db_writer_gather(writer);

    store->wanted = 1;

    while (store->queue == NULL && !store->stop) {
        pthread_cond_wait(&store->cond, &store->mutex);
    }

    store->wanted = 0;
    batch = store->queue;

    for (n = 0, last = &batch; *last && n < DB_WRITER_BATCH; n++) {
        last = &(*last)->next;
    }

    store->queue = *last;
    store->queued -= n;
    *last = NULL;

    if (store->queue == NULL) {
        store->tail = &store->queue;
    }

    pthread_mutex_unlock(&store->mutex);

    writer->batch = n;

    return batch;
}


/*
 * A quota, or a limit of the process, is a full disk as well, as is one that
 * a sync finds full.  The errno of a commit is known to the file alone that it
 * was written to.
 */

static int
db_writer_error(db_writer_t *writer, int rc)
{
    int            err;
    sqlite3_file  *log;

    err = 0;
    log = NULL;

    if ((rc & 0xff) == SQLITE_IOERR
        && sqlite3_file_control(writer->conn->db, "main",
                                SQLITE_FCNTL_JOURNAL_POINTER, &log)
           == SQLITE_OK
        && log && log->pMethods)
    {
        (void) log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO,
                                           &err);
    }

    if (err == ENOSPC || err == EDQUOT || err == EFBIG
        || rc == SQLITE_IOERR_SHMSIZE)
    {
        rc = SQLITE_FULL;
    }

    db_sqlite_log_as(writer->conn, rc, "write");

    return rc;
}


/*
 * Queues for the lock and begins a transaction.  Another program does not
 * know that queue: while one holds SQLite's own lock, workers wait beside
 * each other, not one behind the other.
 */

static int
db_writer_begin(db_writer_t *writer)
{
    int              rc;
    uint64_t         deadline;
    db_sqlite_t     *store;
    struct timespec  pause;

    store = writer->store;
    deadline = db_sqlite_now() + DB_SQLITE_BUSY_MS * 1000000ull;
    pause = (struct timespec) { 0, DB_WRITER_PAUSE_MS * 1000000 };

    for ( ;; ) {

        if (db_writer_lock(&store->lock) != DB_OK) {
            store->log(store->log_ctx, DB_LOG_ERROR,
                       "sqlite store: cannot lock its \".writer\" file");
            return SQLITE_IOERR;
        }

        rc = db_sqlite_check_files(store, writer->conn);

        if (rc != SQLITE_OK) {
            break;
        }

        rc = db_sqlite_step(writer->conn->begin);

        if (rc == SQLITE_OK) {
            return SQLITE_OK;
        }

        if ((rc & 0xff) != SQLITE_BUSY || db_sqlite_now() > deadline) {
            rc = db_writer_error(writer, rc);
            break;
        }

        db_writer_unlock(&store->lock);
        (void) nanosleep(&pause, NULL);
    }

    db_writer_unlock(&store->lock);

    return rc;
}


static int
db_writer_transaction(db_writer_t *writer, db_store_op_t *batch)
{
    int             rc;
    db_store_op_t  *op;

    rc = db_writer_begin(writer);
    if (rc != SQLITE_OK) {
        return rc;
    }

    for (op = batch; op && rc == SQLITE_OK; op = op->next) {
        rc = db_sqlite_write(writer->conn, op);
    }

    if (rc == SQLITE_OK) {
        rc = db_sqlite_step(writer->conn->commit);
    }

    if (rc == SQLITE_OK) {
        db_writer_committed(&writer->store->lock);

    } else {
        rc = db_writer_error(writer, rc);

        /* some errors have rolled back by themselves */

        if (!sqlite3_get_autocommit(writer->conn->db)) {
            sqlite3_exec(writer->conn->db, "ROLLBACK", NULL, NULL, NULL);
        }
    }

    db_writer_unlock(&writer->store->lock);

    return rc;
}


static void
db_writer_commit(db_writer_t *writer, db_store_op_t *batch)
{
    uint64_t           begun;
    db_store_op_t     *op, *next;
    db_store_status_t  status;

    begun = db_sqlite_now();

    status = db_sqlite_status(db_writer_transaction(writer, batch));

    writer->ended = db_sqlite_now();
    writer->patience = writer->ended - begun + DB_WRITER_TURN_NS;

    if (writer->patience > DB_WRITER_GATHER_NS) {
        writer->patience = DB_WRITER_GATHER_NS;
    }

    pthread_mutex_lock(&writer->store->mutex);
    writer->expected = writer->batch + writer->store->queued;
    pthread_mutex_unlock(&writer->store->mutex);

    if (writer->expected > DB_WRITER_BATCH) {
        writer->expected = DB_WRITER_BATCH;
    }

    for (op = batch; op; op = next) {
        next = op->next;

        if (status != DB_STORE_OK) {
            op->status = status;
        }

        op->done(op);
    }
}


static void *
db_writer_thread(void *data)
{
    db_sqlite_t *store = data;

    db_writer_t     writer;
    db_store_op_t  *batch;

    writer.store = store;
    writer.conn = store->writer;
    writer.expected = 0;
    writer.ended = 0;
    writer.patience = 0;
    writer.pages = 0;

    sqlite3_busy_timeout(writer.conn->db, 0);
    sqlite3_wal_hook(writer.conn->db, db_writer_committed_pages, &writer);

    while ((batch = db_writer_take(&writer)) != NULL) {
        db_writer_commit(&writer, batch);
        db_sqlite_checkpoint(store, writer.pages);
    }

    sqlite3_wal_hook(writer.conn->db, NULL, NULL);

    return NULL;
}


int
db_sqlite_writer_start(db_sqlite_t *store, char *error, size_t size)
{
    int                 err;
    pthread_condattr_t  attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);

    pthread_mutex_init(&store->mutex, NULL);
    pthread_cond_init(&store->cond, &attr);
    pthread_condattr_destroy(&attr);
    store->tail = &store->queue;

    err = db_thread_start(&store->thread, db_writer_thread, store);

    if (err) {
        pthread_mutex_destroy(&store->mutex);
        pthread_cond_destroy(&store->cond);

        snprintf(error, size, "sqlite store \"%s\": cannot start a thread: "
                 "%s", store->path, strerror(err));
        return DB_ERROR;
    }

    return DB_OK;
}


void
db_sqlite_writer_stop(db_sqlite_t *store)
{
    pthread_mutex_lock(&store->mutex);
    store->stop = 1;
    pthread_cond_signal(&store->cond);
    pthread_mutex_unlock(&store->mutex);

    pthread_join(store->thread, NULL);

    pthread_mutex_destroy(&store->mutex);
    pthread_cond_destroy(&store->cond);
}
