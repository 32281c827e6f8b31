/*
 * GET and LIST.  The caller has begun the transaction: a list and its total
 * are of one moment.  Runs on the nginx thread (the reader) or on a thread
 * of the pool, whoever the connection belongs to.
 */

#include "store/sqlite.h"


static int
db_sqlite_bound(db_connection_t *conn, db_statement_t *statement,
    db_store_op_t *op)
{
    conn->budgeted = 1;
    conn->ticks = 0;
    conn->expired = 0;

    return db_shape_bind(&statement->shape, statement->stmt, op);
}


static void
db_sqlite_append(db_buf_t *out, sqlite3_stmt *stmt)
{
    const char  *doc;

    /* as a blob: it need not end in NUL */

    doc = sqlite3_column_blob(stmt, 0);
    db_buf_append(out, doc, (size_t) sqlite3_column_bytes(stmt, 0));
}


static db_store_status_t
db_sqlite_read_failed(db_connection_t *conn, int rc)
{
    if (conn->role == DB_ROLE_READER
        && ((rc & 0xff) == SQLITE_BUSY || conn->expired))
    {
        return DB_STORE_LATER;
    }

    db_sqlite_log(conn, conn->expired ? "a read took too long" : "read");

    return db_sqlite_status(rc);
}


static db_store_status_t
db_sqlite_get(db_connection_t *conn, db_store_op_t *op,
    db_statement_t *statement)
{
    int            rc;
    sqlite3_stmt  *stmt;

    stmt = statement->stmt;
    rc = db_sqlite_bound(conn, statement, op);

    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);
    }

    if (rc == SQLITE_ROW) {
        db_sqlite_append(op->out, stmt);
    }

    sqlite3_reset(stmt);

    switch (rc) {

    case SQLITE_ROW:
        return DB_STORE_OK;

    case SQLITE_DONE:
        return DB_STORE_NOT_FOUND;

    default:
        return db_sqlite_read_failed(conn, rc);
    }
}


static db_store_status_t
db_sqlite_list(db_connection_t *conn, db_store_op_t *op,
    db_statement_t *statement)
{
    int            rc;
    size_t         start;
    sqlite3_stmt  *stmt;

    stmt = statement->stmt;
    start = op->out->len;
    rc = db_sqlite_bound(conn, statement, op);

    if (rc == SQLITE_OK) {

        while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {

            if (op->out->len != start) {
                db_buf_putc(op->out, ',');
            }

            db_sqlite_append(op->out, stmt);
        }
    }

    sqlite3_reset(stmt);

    return rc == SQLITE_DONE ? DB_STORE_OK : db_sqlite_read_failed(conn, rc);
}


static db_store_status_t
db_sqlite_total(db_connection_t *conn, db_store_op_t *op,
    db_statement_t *statement)
{
    int            rc;
    sqlite3_stmt  *stmt;

    stmt = statement->stmt;
    rc = db_sqlite_bound(conn, statement, op);

    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);
    }

    if (rc == SQLITE_ROW) {
        op->total = (uint64_t) sqlite3_column_int64(stmt, 0);
    }

    sqlite3_reset(stmt);

    return rc == SQLITE_ROW ? DB_STORE_OK : db_sqlite_read_failed(conn, rc);
}


static db_store_status_t
db_sqlite_read_shape(db_connection_t *conn, db_store_op_t *op,
    db_shape_kind_t kind)
{
    db_shape_t       shape;
    db_statement_t  *statement;

    if (db_shape_init(&shape, op, kind) != DB_OK) {
        conn->store->log(conn->store->log_ctx, DB_LOG_ERROR,
                         "sqlite store: too many conditions");
        return DB_STORE_FAILED;
    }

    statement = db_sqlite_statement(conn, &shape);

    if (statement == NULL) {
        return (conn->role == DB_ROLE_READER
                && (sqlite3_errcode(conn->db) & 0xff) == SQLITE_BUSY)
               ? DB_STORE_LATER : DB_STORE_FAILED;
    }

    if (statement->scans) {
        return DB_STORE_LATER;
    }

    switch (kind) {

    case DB_SHAPE_GET:
        return db_sqlite_get(conn, op, statement);

    case DB_SHAPE_COUNT:
        return db_sqlite_total(conn, op, statement);

    default:
        return db_sqlite_list(conn, op, statement);
    }
}


void
db_sqlite_read(db_connection_t *conn, db_store_op_t *op)
{
    size_t  len;

    len = op->out->len;

    if (op->kind == DB_STORE_GET) {
        op->status = db_sqlite_read_shape(conn, op, DB_SHAPE_GET);

    } else {
        op->status = DB_STORE_OK;

        /* the total first: where it scans, no list is made in vain */

        if (op->count) {
            op->status = db_sqlite_read_shape(conn, op, DB_SHAPE_COUNT);
        }

        if (op->status == DB_STORE_OK) {
            op->status = db_sqlite_read_shape(conn, op, DB_SHAPE_LIST);
        }
    }

    if (op->status != DB_STORE_OK) {
        op->out->len = len;

    } else if (op->out->failed) {
        op->status = DB_STORE_FAILED;
    }
}
