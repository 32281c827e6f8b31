/*
 * The life of an SQLite store and the ways into it from each thread.
 */

#include "store/sqlite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>


/*
 * Takes "?synchronous=full" or "?synchronous=normal" from the path.  With
 * the latter, which syncs at checkpoints alone, what was acknowledged last
 * may be gone when the machine, not merely a process, is lost.
 */

static int
db_sqlite_options(db_str_t *path, unsigned *normal)
{
    db_str_t     option;
    const char  *mark;

    *normal = 0;
    mark = path->len ? memchr(path->data, '?', path->len) : NULL;

    if (mark == NULL) {
        return DB_OK;
    }

    option.data = mark + 1;
    option.len = path->len - (size_t) (option.data - path->data);
    path->len = (size_t) (mark - path->data);

    *normal = db_str_eq(option, db_string("synchronous=normal"));

    return *normal || db_str_eq(option, db_string("synchronous=full"))
           ? DB_OK : DB_DECLINED;
}


/*
 * The path in "sqlite:rel", "sqlite:/abs" or "sqlite:///abs"; data is NULL,
 * with a message, when what follows the scheme is none of them.
 */

static db_str_t
db_sqlite_path(db_str_t uri, unsigned *normal, char *error, size_t size)
{
    int        len;
    db_str_t   path;

    len = (int) uri.len;

    path = (db_str_t) { uri.data + 7, uri.len - 7 };

    if (db_sqlite_options(&path, normal) != DB_OK) {
        snprintf(error, size, "\"%.*s\": the only option of an SQLite store"
                 " is ?synchronous=full, the default, or normal", len,
                 uri.data);
        return db_null_string;
    }

    if (path.len >= 2 && memcmp(path.data, "//", 2) == 0) {
        path.data += 2;
        path.len -= 2;

        if (path.len == 0 || path.data[0] != '/') {
            snprintf(error, size, "\"%.*s\" names a host: an SQLite file is"
                     " sqlite:/path/to/file.db", len, uri.data);
            return db_null_string;
        }
    }

    if (path.len == 0 || path.data[path.len - 1] == '/'
        || memchr(path.data, '\0', path.len))
    {
        snprintf(error, size, "\"%.*s\" names no file: expected"
                 " sqlite:/path/to/file.db", len, uri.data);
        return db_null_string;
    }

    if (path.data[0] == ':') {
        snprintf(error, size, "\"%.*s\": a database in memory, which workers"
                 " cannot share, is not supported", len, uri.data);
        return db_null_string;
    }

    return path;
}


static int
db_sqlite_check_uri(db_str_t uri, char *error, size_t size)
{
    unsigned  normal;

    return db_sqlite_path(uri, &normal, error, size).data ? DB_OK : DB_ERROR;
}


/*
 * The directory is there: whether the workers may write to it is for them to
 * say, who are another user than the one that asks.
 */

static int
db_sqlite_try(db_str_t uri, char *error, size_t size)
{
    char        *directory, *slash;
    db_str_t     path;
    unsigned     normal;
    struct stat  st;

    path = db_sqlite_path(uri, &normal, error, size);

    if (path.data == NULL) {
        return DB_ERROR;
    }

    directory = strndup(path.data, path.len);
    if (directory == NULL) {
        snprintf(error, size, "out of memory");
        return DB_ERROR;
    }

    slash = strrchr(directory, '/');

    if (slash) {
        slash[slash == directory] = '\0';
    }

    if (slash == NULL || stat(directory, &st) == 0) {
        free(directory);
        return DB_OK;
    }

    snprintf(error, size, "sqlite store \"%.*s\": \"%s\": %s: create this"
             " directory, writable for the worker's user", (int) path.len,
             path.data, directory, strerror(errno));

    free(directory);

    return DB_ERROR;
}


static int
db_sqlite_attach(db_sqlite_t *store, char *error, size_t size)
{
    int  rc;

    if (db_frames_register(&store->frames) != SQLITE_OK) {
        snprintf(error, size, "sqlite store \"%s\": SQLite does not start",
                 store->path);
        return DB_ERROR;
    }

    /* several workers start at once: one creates the database */

    if (db_writer_lock(&store->lock) != DB_OK) {
        snprintf(error, size, "sqlite store \"%s\": cannot be locked",
                 store->path);
        return DB_ERROR;
    }

    rc = db_sqlite_check_log(store, error, size);

    if (rc == DB_OK) {
        store->writer = db_sqlite_connect(store, DB_ROLE_WRITER, error, size);
        rc = store->writer
             ? db_sqlite_create(store, store->writer, error, size) : DB_ERROR;
    }

    if (rc == DB_OK) {
        store->reader = db_sqlite_connect(store, DB_ROLE_READER, error, size);
        rc = store->reader ? DB_OK : DB_ERROR;
    }

    if (rc == DB_OK && db_sqlite_known_init(store) != SQLITE_OK) {
        snprintf(error, size, "sqlite store \"%s\": cannot read the index of"
                 " its log: %s", store->path,
                 sqlite3_errmsg(store->reader->db));
        rc = DB_ERROR;
    }

    if (rc == DB_OK) {
        db_sqlite_know_files(store);
    }

    db_writer_unlock(&store->lock);

    return rc;
}


static void
db_sqlite_detach(db_sqlite_t *store)
{
    db_connection_t  *conn;

    while ((conn = store->pool) != NULL) {
        store->pool = conn->next;
        db_sqlite_disconnect(conn);
    }

    if (store->reader) {
        db_sqlite_known_free(store);
        db_sqlite_disconnect(store->reader);
    }

    /* the last one out moves the log into the database */

    if (store->writer) {
        db_sqlite_disconnect(store->writer);
    }

    db_frames_unregister(&store->frames);
}


static db_store_t *
db_sqlite_open(db_str_t uri, db_log_pt log, void *log_ctx, char *error,
    size_t size)
{
    db_str_t      path;
    unsigned      normal;
    db_sqlite_t  *store;

    path = db_sqlite_path(uri, &normal, error, size);
    if (path.data == NULL) {
        return NULL;
    }

    /*
     * Statistics of memory are a lock around each allocation, which all
     * threads share.  Too late, and harmless, when SQLite is in use already.
     */

    (void) sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);

    store = calloc(1, sizeof(db_sqlite_t) + path.len + 1);
    if (store == NULL) {
        snprintf(error, size, "out of memory");
        return NULL;
    }

    store->path = (char *) (store + 1);
    memcpy(store->path, path.data, path.len);

    store->base.driver = &db_sqlite_driver;
    store->normal = normal;
    store->log = log;
    store->log_ctx = log_ctx;

    if (db_sqlite_check_path(store, error, size) != DB_OK
        || db_writer_lock_open(&store->lock, store->path, error, size)
           != DB_OK)
    {
        free(store);
        return NULL;
    }

    pthread_mutex_init(&store->pool_mutex, NULL);

    if (db_sqlite_attach(store, error, size) == DB_OK
        && db_sqlite_checkpoint_start(store, error, size) == DB_OK)
    {
        if (db_sqlite_writer_start(store, error, size) == DB_OK) {
            return &store->base;
        }

        db_sqlite_checkpoint_stop(store);
    }

    db_sqlite_detach(store);
    db_writer_lock_close(&store->lock);
    pthread_mutex_destroy(&store->pool_mutex);
    free(store);

    return NULL;
}


static void
db_sqlite_cycle_end(db_store_t *base)
{
    db_sqlite_t *store = (db_sqlite_t *) base;

    if (store->reading) {
        db_sqlite_end(store->reader);
        store->reading = 0;
    }
}


static void
db_sqlite_read_cycle(db_store_t *base, db_store_op_t *op)
{
    db_sqlite_t *store = (db_sqlite_t *) base;

    int          counted;
    size_t       start;
    uint64_t     commits;
    db_known_t  *known;

    if (db_sqlite_known_get(store, op, &known)) {
        return;
    }

    commits = db_writer_commits(&store->lock);

    if (store->reading && store->seen != commits) {
        db_sqlite_cycle_end(base);
    }

    if (!store->reading) {

        /* it sees at least what was committed before these were read */

        store->begun = db_sqlite_known_state(store);

        if (db_sqlite_step(store->reader->begin) != SQLITE_OK) {
            op->status = DB_STORE_LATER;
            return;
        }

        store->reading = 1;
        store->seen = commits;
    }

    start = op->out->len;
    counted = op->count && db_sqlite_total_known(store, op);

    db_sqlite_read(store->reader, op, counted);

    if (op->status == DB_STORE_FAILED) {
        db_sqlite_cycle_end(base);

    } else if (op->count && !counted && op->status == DB_STORE_OK) {
        db_sqlite_total_keep(store, op);

    } else if (known && known->state == store->begun
               && op->status == DB_STORE_OK)
    {
        db_sqlite_known_keep(known, op,
                             (db_str_t) { op->out->data + start,
                                          op->out->len - start });
    }
}


db_connection_t *
db_sqlite_pool_take(db_sqlite_t *store)
{
    char              error[512];
    db_connection_t  *conn;

    pthread_mutex_lock(&store->pool_mutex);

    conn = store->pool;
    if (conn) {
        store->pool = conn->next;
    }

    pthread_mutex_unlock(&store->pool_mutex);

    if (conn) {
        return conn;
    }

    /* by now the path may lead to something else than the reader reads */

    if (db_sqlite_check_files(store, NULL) != SQLITE_OK) {
        return NULL;
    }

    conn = db_sqlite_connect(store, DB_ROLE_POOL, error, sizeof(error));

    if (conn == NULL) {
        store->log(store->log_ctx, DB_LOG_ERROR, error);
    }

    return conn;
}


void
db_sqlite_pool_give(db_sqlite_t *store, db_connection_t *conn)
{
    pthread_mutex_lock(&store->pool_mutex);
    conn->next = store->pool;
    store->pool = conn;
    pthread_mutex_unlock(&store->pool_mutex);
}


static void
db_sqlite_work(db_store_t *base, db_store_op_t *op)
{
    db_sqlite_t *store = (db_sqlite_t *) base;

    int               rc;
    uint64_t          now, limit;
    db_connection_t  *conn;

    now = db_sqlite_now();
    limit = op->deadline ? op->deadline
                         : now + DB_SQLITE_TIME_LIMIT * 1000000ull;

    /* the time went by while others were at work */

    if (now >= limit) {
        op->status = DB_STORE_BUSY;
        return;
    }

    conn = db_sqlite_pool_take(store);

    if (conn == NULL) {
        op->status = DB_STORE_AWAY;
        return;
    }

    conn->deadline = limit;

    rc = db_sqlite_step(conn->begin);

    if (rc == SQLITE_OK) {
        db_sqlite_read(conn, op, 0);
        db_sqlite_end(conn);

    } else {
        db_sqlite_log(conn, "read");
        op->status = db_sqlite_status(rc);
    }

    db_sqlite_pool_give(store, conn);
}


static void
db_sqlite_worked(db_store_t *base, db_store_op_t *op)
{
    db_sqlite_t *store = (db_sqlite_t *) base;

    if (op->count && op->status == DB_STORE_OK) {

        /* the next read is to look which state there is by now */

        db_sqlite_cycle_end(base);
        db_sqlite_total_keep(store, op);
    }
}


static void
db_sqlite_submit(db_store_t *base, db_store_op_t *op)
{
    db_sqlite_t *store = (db_sqlite_t *) base;

    int  wake;

    op->next = NULL;

    pthread_mutex_lock(&store->mutex);

    *store->tail = op;
    store->tail = &op->next;

    /* once: the writer takes all that has come by the time it runs */

    wake = (++store->queued == store->wanted);

    pthread_mutex_unlock(&store->mutex);

    if (wake) {
        pthread_cond_signal(&store->cond);
    }
}


static void
db_sqlite_close(db_store_t *base)
{
    db_sqlite_t *store = (db_sqlite_t *) base;

    db_sqlite_writer_stop(store);
    db_sqlite_checkpoint_stop(store);
    db_sqlite_cycle_end(base);
    db_sqlite_detach(store);
    db_writer_lock_close(&store->lock);
    pthread_mutex_destroy(&store->pool_mutex);
    free(store);
}


const db_store_driver_t  db_sqlite_driver = {
    .version = DB_STORE_DRIVER,
    .check_uri = db_sqlite_check_uri,
    .try = db_sqlite_try,
    .open = db_sqlite_open,
    .close = db_sqlite_close,
    .prepare = db_sqlite_prepare,
    .catalog = db_sqlite_catalog,
    .read = db_sqlite_read_cycle,
    .cycle_end = db_sqlite_cycle_end,
    .work = db_sqlite_work,
    .worked = db_sqlite_worked,
    .submit = db_sqlite_submit,
};
