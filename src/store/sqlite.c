/*
 * Connections, and the statements that each keeps prepared.  A connection is
 * used by one thread at a time; its role decides how long it may wait.
 */

#include "store/sqlite.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>


#define DB_SQLITE_READER_CACHE  (128 * 1024)    /* KiB */
#define DB_SQLITE_OTHER_CACHE   (16 * 1024)

/* VM steps: how many a tick has, and what the reader may take for a read. */

#define DB_SQLITE_TICK          100
#define DB_SQLITE_POOL_TICK     10000
#define DB_SQLITE_BUDGET        1000


uint64_t
db_sqlite_now(void)
{
    struct timespec  now;

    clock_gettime(CLOCK_MONOTONIC, &now);

    return (uint64_t) now.tv_sec * 1000000000 + (uint64_t) now.tv_nsec;
}


int
db_sqlite_spend(db_connection_t *conn, size_t steps)
{
    if (!conn->limited) {
        return 0;
    }

    conn->steps += steps;

    if (conn->role == DB_ROLE_READER) {
        conn->expired = conn->steps > DB_SQLITE_BUDGET;

    } else if (conn->steps >= DB_SQLITE_POOL_TICK) {
        conn->steps = 0;
        conn->expired = db_sqlite_now() > conn->deadline;
    }

    return conn->expired;
}


static int
db_sqlite_tick(void *data)
{
    db_connection_t *conn = data;

    return db_sqlite_spend(conn, conn->role == DB_ROLE_READER
                                 ? DB_SQLITE_TICK : DB_SQLITE_POOL_TICK);
}


static int
db_sqlite_configure(db_connection_t *conn)
{
    int   rc;
    char  sql[160];

    sqlite3_extended_result_codes(conn->db, 1);
    sqlite3_busy_timeout(conn->db, DB_SQLITE_BUSY_MS);

    /* the log is moved into the database when the writer says so */

    if (conn->role != DB_ROLE_WRITER) {
        sqlite3_db_config(conn->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1,
                          NULL);
        sqlite3_progress_handler(conn->db, conn->role == DB_ROLE_READER
                                           ? DB_SQLITE_TICK
                                           : DB_SQLITE_POOL_TICK,
                                 db_sqlite_tick, conn);
    }

    snprintf(sql, sizeof(sql), "PRAGMA mmap_size = 0; "
             "PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -%d; "
             "PRAGMA query_only = %d; PRAGMA synchronous = %s",
             conn->role == DB_ROLE_READER ? DB_SQLITE_READER_CACHE
                                          : DB_SQLITE_OTHER_CACHE,
             conn->role != DB_ROLE_WRITER,
             conn->store->normal ? "NORMAL" : "FULL");

    rc = sqlite3_exec(conn->db, sql, NULL, NULL, NULL);
    if (rc != SQLITE_OK) {
        return rc;
    }

    rc = sqlite3_create_function(conn->db, "databridge_match", 2,
                                 SQLITE_UTF8|SQLITE_DIRECTONLY, conn,
                                 db_sqlite_match, NULL, NULL);
    if (rc != SQLITE_OK) {
        return rc;
    }

    rc = sqlite3_prepare_v3(conn->db, conn->role == DB_ROLE_WRITER
                                      ? "BEGIN IMMEDIATE" : "BEGIN", -1,
                            SQLITE_PREPARE_PERSISTENT, &conn->begin, NULL);
    if (rc != SQLITE_OK) {
        return rc;
    }

    rc = sqlite3_prepare_v3(conn->db, "COMMIT", -1,
                            SQLITE_PREPARE_PERSISTENT, &conn->commit, NULL);

    if (rc == SQLITE_OK && conn->role == DB_ROLE_READER) {
        rc = db_sqlite_asked_init(conn);
    }

    if (rc == SQLITE_OK && conn->role == DB_ROLE_READER) {
        rc = sqlite3_prepare_v3(conn->db, "PRAGMA data_version", -1,
                                SQLITE_PREPARE_PERSISTENT, &conn->state,
                                NULL);
    }

    /* opening may wait for a process that recovers the log, reading not */

    if (conn->role == DB_ROLE_READER) {
        sqlite3_busy_timeout(conn->db, 0);
    }

    return rc;
}


db_connection_t *
db_sqlite_connect(db_sqlite_t *store, db_role_t role, char *error, size_t size)
{
    int               rc, flags;
    const char       *vfs;
    db_connection_t  *conn;

    conn = calloc(1, sizeof(db_connection_t));
    if (conn == NULL) {
        snprintf(error, size, "out of memory");
        return NULL;
    }

    conn->store = store;
    conn->role = role;

    vfs = NULL;
    flags = SQLITE_OPEN_READWRITE|SQLITE_OPEN_NOMUTEX;

    if (role == DB_ROLE_WRITER) {
        vfs = store->frames.name;
        flags |= SQLITE_OPEN_CREATE;
    }

    rc = sqlite3_open_v2(store->path, &conn->db, flags, vfs);

    if (rc == SQLITE_OK) {
        db_frames_watch(conn->db);
        rc = db_sqlite_configure(conn);
    }

    if (rc != SQLITE_OK) {
        snprintf(error, size, "sqlite store \"%s\": %s%s", store->path,
                 conn->db ? sqlite3_errmsg(conn->db) : sqlite3_errstr(rc),
                 db_sqlite_hint(rc));
        db_sqlite_disconnect(conn);
        return NULL;
    }

    return conn;
}


static void
db_sqlite_forget(db_connection_t *conn)
{
    unsigned         i;
    db_statement_t  *statement, *next;

    db_sqlite_asked_end(conn);

    for (i = 0; i < DB_SQLITE_BUCKETS; i++) {

        for (statement = conn->statements[i]; statement; statement = next) {
            next = statement->next;
            sqlite3_finalize(statement->stmt);
            free(statement);
        }

        conn->statements[i] = NULL;
    }

    conn->cached = 0;
}


void
db_sqlite_disconnect(db_connection_t *conn)
{
    db_sqlite_forget(conn);

    sqlite3_finalize(conn->begin);
    sqlite3_finalize(conn->commit);
    sqlite3_finalize(conn->state);
    sqlite3_close(conn->db);

    free(conn);
}


void
db_sqlite_log(db_connection_t *conn, const char *what)
{
    db_sqlite_log_as(conn, sqlite3_errcode(conn->db), what);
}


/* With the advice for another error than the connection's. */

void
db_sqlite_log_as(db_connection_t *conn, int rc, const char *what)
{
    char  text[768];

    snprintf(text, sizeof(text), "sqlite store \"%s\": %s: %s (%d)%s",
             conn->store->path, what, sqlite3_errmsg(conn->db),
             sqlite3_extended_errcode(conn->db), db_sqlite_hint(rc));

    conn->store->log(conn->store->log_ctx, DB_LOG_ERROR, text);
}


db_store_status_t
db_sqlite_status(int rc)
{
    switch (rc & 0xff) {

    case SQLITE_OK:
        return DB_STORE_OK;

    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return DB_STORE_BUSY;

    case SQLITE_INTERRUPT:
        return DB_STORE_TIMEOUT;

    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return DB_STORE_AWAY;

    case SQLITE_FULL:
    case SQLITE_TOOBIG:
        return DB_STORE_FULL;

    default:
        return DB_STORE_FAILED;
    }
}


int
db_sqlite_step(sqlite3_stmt *stmt)
{
    int  rc;

    rc = sqlite3_step(stmt);

    /* the error, if any, once more */

    sqlite3_reset(stmt);

    return (rc == SQLITE_DONE) ? SQLITE_OK : rc;
}


uint64_t
db_sqlite_state(db_connection_t *reader)
{
    uint64_t  state;

    state = sqlite3_step(reader->state) == SQLITE_ROW
            ? (uint64_t) sqlite3_column_int64(reader->state, 0) + 1 : 0;

    sqlite3_reset(reader->state);

    return state;
}


void
db_sqlite_end(db_connection_t *conn)
{
    db_sqlite_asked_end(conn);

    if (db_sqlite_step(conn->commit) != SQLITE_OK
        && !sqlite3_get_autocommit(conn->db))
    {
        sqlite3_exec(conn->db, "ROLLBACK", NULL, NULL, NULL);
    }
}


/*
 * Whether the statement may have to read many rows that it does not return.
 * A list in the order of an index is cut off by its LIMIT, unless it has
 * conditions to look for.
 */

static int
db_sqlite_scans(db_connection_t *conn, const db_query_t *query,
    const char *sql)
{
    int            scans, cut;
    char          *explain;
    const char    *detail;
    sqlite3_stmt  *stmt;

    if (query->shape.kind != DB_SHAPE_LIST
        && query->shape.kind != DB_SHAPE_COUNT)
    {
        return 0;
    }

    cut = query->shape.kind == DB_SHAPE_LIST && query->nterms == 0
          && !query->match;

    explain = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", sql);

    if (explain == NULL
        || sqlite3_prepare_v2(conn->db, explain, -1, &stmt, NULL)
           != SQLITE_OK)
    {
        sqlite3_free(explain);
        return 1;
    }

    scans = 0;

    while (!scans && sqlite3_step(stmt) == SQLITE_ROW) {
        detail = (const char *) sqlite3_column_text(stmt, 3);

        scans = detail == NULL || strstr(detail, "TEMP B-TREE") != NULL
                || (!cut && strstr(detail, "SCAN") != NULL);
    }

    sqlite3_finalize(stmt);
    sqlite3_free(explain);

    return scans;
}


static db_statement_t *
db_sqlite_compile(db_connection_t *conn, const db_query_t *query)
{
    int              rc;
    char            *sql;
    db_statement_t  *statement;

    sql = db_query_sql(query);
    statement = malloc(offsetof(db_statement_t, shape)
                       + db_shape_size(&query->shape));

    if (sql == NULL || statement == NULL) {
        goto failed;
    }

    memcpy(&statement->shape, &query->shape, db_shape_size(&query->shape));

    rc = sqlite3_prepare_v3(conn->db, sql, -1, SQLITE_PREPARE_PERSISTENT,
                            &statement->stmt, NULL);

    if (rc != SQLITE_OK) {
        if (conn->role != DB_ROLE_READER || (rc & 0xff) != SQLITE_BUSY) {
            db_sqlite_log(conn, sql);
        }

        goto failed;
    }

    statement->scans = conn->role == DB_ROLE_READER
                       && db_sqlite_scans(conn, query, sql);
    sqlite3_free(sql);

    return statement;

failed:

    sqlite3_free(sql);
    free(statement);

    return NULL;
}


static unsigned
db_shape_bucket(const db_shape_t *shape)
{
    size_t    i;
    uint64_t  hash;

    hash = ((uintptr_t) shape->collection >> 4) * 8 + shape->kind;

    for (i = 0; i < shape->len; i++) {
        hash = hash * 31 + (unsigned char) shape->recipe[i];
    }

    return (unsigned) (hash * 0x9e3779b97f4a7c15 >> 32) % DB_SQLITE_BUCKETS;
}


db_statement_t *
db_sqlite_statement(db_connection_t *conn, const db_query_t *query)
{
    size_t             size;
    unsigned           bucket;
    db_statement_t    *statement;
    const db_shape_t  *shape;

    shape = &query->shape;
    size = db_shape_size(shape);
    bucket = db_shape_bucket(shape);

    for (statement = conn->statements[bucket];
         statement;
         statement = statement->next)
    {
        if (statement->shape.len == shape->len
            && memcmp(&statement->shape, shape, size) == 0)
        {
            return statement;
        }
    }

    /* clients choose the shapes: a full cache starts again */

    if (conn->cached >= DB_SQLITE_CACHED) {
        db_sqlite_forget(conn);
    }

    statement = db_sqlite_compile(conn, query);

    if (statement) {
        statement->next = conn->statements[bucket];
        conn->statements[bucket] = statement;
        conn->cached += 1 + shape->len / 64;
    }

    return statement;
}
