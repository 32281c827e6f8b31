/*
 * GET and LIST.  The caller has begun the transaction: a list and its total
 * are of one moment.  Runs on the nginx thread (the reader) or on a thread
 * of the pool, whoever the connection belongs to.
 */

#include "store/sqlite.h"

#include "store/db_document.h"


static void
db_sqlite_limit(db_connection_t *conn)
{
    conn->limited = 1;
    conn->steps = 0;
    conn->expired = 0;
}


static int
db_sqlite_bound(db_connection_t *conn, db_statement_t *statement,
    const db_query_t *query)
{
    db_sqlite_limit(conn);

    return db_query_bind(query, statement->stmt);
}


static void
db_sqlite_over(db_connection_t *conn, sqlite3_stmt *stmt)
{
    sqlite3_reset(stmt);

    conn->limited = 0;
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


/*
 * A document, whole or in part.  What is large is only seen when SQLite has
 * read it; then the next one of a list is in the budget or not.
 */

static int
db_sqlite_item(db_connection_t *conn, db_store_op_t *op, sqlite3_stmt *stmt)
{
    int              rc;
    db_str_t         doc;
    db_json_t       *root;
    db_arena_t      *arena;
    db_json_error_t  error;

    doc.data = sqlite3_column_blob(stmt, 0);
    doc.len = (size_t) sqlite3_column_bytes(stmt, 0);

    if (op->nfields == 0) {
        db_buf_append(op->out, doc.data, doc.len);
        (void) db_sqlite_spend(conn, doc.len / DB_SQLITE_COPIED);
        return SQLITE_OK;
    }

    if (db_sqlite_spend(conn, doc.len / DB_SQLITE_PARSED)) {
        return SQLITE_INTERRUPT;
    }

    arena = db_arena_create(2 * doc.len + 1024);
    if (arena == NULL) {
        return SQLITE_NOMEM;
    }

    rc = db_json_read(arena, doc, &root, &error);

    if (rc == DB_OK) {
        db_document_project(op->out, root, op->fields, op->nfields);
    }

    db_arena_destroy(arena);

    if (rc == DB_DECLINED) {
        return SQLITE_CORRUPT;
    }

    return rc == DB_OK ? SQLITE_OK : SQLITE_NOMEM;
}


static int
db_sqlite_got(db_connection_t *conn, db_store_op_t *op, sqlite3_stmt *stmt,
    int rc)
{
    if (rc == SQLITE_ROW) {
        rc = db_sqlite_item(conn, op, stmt);

        if (op->collection->versioned) {
            op->version = (uint64_t) sqlite3_column_int64(stmt, 1);
        }
    }

    return rc;
}


static db_store_status_t
db_sqlite_get(db_connection_t *conn, db_store_op_t *op,
    db_statement_t *statement, const db_query_t *query)
{
    int            rc;
    sqlite3_stmt  *stmt;

    stmt = statement->stmt;

    if (query->shape.kind == DB_SHAPE_ASKED) {
        db_sqlite_limit(conn);
        rc = db_sqlite_asked_step(conn, stmt, &op->id);
        rc = db_sqlite_got(conn, op, stmt, rc);
        conn->limited = 0;

    } else {
        rc = db_sqlite_bound(conn, statement, query);

        if (rc == SQLITE_OK) {
            rc = db_sqlite_got(conn, op, stmt, sqlite3_step(stmt));
        }

        db_sqlite_over(conn, stmt);
    }

    switch (rc) {

    case SQLITE_OK:
        return DB_STORE_OK;

    case SQLITE_DONE:
        return DB_STORE_NOT_FOUND;

    default:
        return db_sqlite_read_failed(conn, rc);
    }
}


/* Has SQLite itself say that the time for a list is over. */

static int
db_sqlite_interrupt(db_connection_t *conn, sqlite3_stmt *stmt)
{
    db_sqlite_asked_end(conn);
    sqlite3_interrupt(conn->db);

    return sqlite3_step(stmt);
}


/* Where the next page begins, if there is one. */

static db_value_t *
db_sqlite_last(db_store_op_t *op, sqlite3_stmt *stmt)
{
    unsigned     i;
    db_value_t  *last;

    last = db_arena_calloc(op->out->arena, op->nsort * sizeof(db_value_t));

    for (i = 0; last && i < op->nsort; i++) {
        if (db_sqlite_column_key(stmt, (int) i + 1, op->sort[i].kind,
                                 op->out->arena, &last[i])
            != DB_OK)
        {
            return NULL;
        }
    }

    return last;
}


static db_store_status_t
db_sqlite_list(db_connection_t *conn, db_store_op_t *op,
    db_statement_t *statement, const db_query_t *query)
{
    int            rc;
    size_t         start;
    uint64_t       n;
    db_value_t    *last;
    sqlite3_stmt  *stmt;

    stmt = statement->stmt;
    start = op->out->len;
    last = NULL;
    n = 0;
    rc = db_sqlite_bound(conn, statement, query);

    if (rc == SQLITE_OK) {

        while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {

            if (n++ == op->limit) {
                op->last = last;
                rc = SQLITE_DONE;
                break;
            }

            if (op->out->len != start) {
                db_buf_putc(op->out, ',');
            }

            rc = conn->expired ? SQLITE_INTERRUPT
                               : db_sqlite_item(conn, op, stmt);

            if (rc == SQLITE_INTERRUPT) {
                rc = db_sqlite_interrupt(conn, stmt);
            }

            if (rc != SQLITE_OK) {
                break;
            }

            if (n == op->limit) {
                last = db_sqlite_last(op, stmt);

                if (last == NULL) {
                    rc = SQLITE_NOMEM;
                    break;
                }
            }
        }
    }

    db_sqlite_over(conn, stmt);

    return rc == SQLITE_DONE ? DB_STORE_OK : db_sqlite_read_failed(conn, rc);
}


static db_store_status_t
db_sqlite_total(db_connection_t *conn, db_store_op_t *op,
    db_statement_t *statement, const db_query_t *query)
{
    int            rc;
    sqlite3_stmt  *stmt;

    stmt = statement->stmt;
    rc = db_sqlite_bound(conn, statement, query);

    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);
    }

    if (rc == SQLITE_ROW) {
        op->total = (uint64_t) sqlite3_column_int64(stmt, 0);
    }

    db_sqlite_over(conn, stmt);

    return rc == SQLITE_ROW ? DB_STORE_OK : db_sqlite_read_failed(conn, rc);
}


static db_store_status_t
db_sqlite_read_shape(db_connection_t *conn, db_store_op_t *op,
    db_shape_kind_t kind)
{
    db_query_t       query;
    db_statement_t  *statement;

    if (db_query_init(&query, op, kind) != DB_OK) {
        conn->store->log(conn->store->log_ctx, DB_LOG_ERROR,
                         "sqlite store: too many sort keys");
        return DB_STORE_FAILED;
    }

    statement = db_sqlite_statement(conn, &query);

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
    case DB_SHAPE_ASKED:
        return db_sqlite_get(conn, op, statement, &query);

    case DB_SHAPE_COUNT:
        return db_sqlite_total(conn, op, statement, &query);

    default:
        return db_sqlite_list(conn, op, statement, &query);
    }
}


void
db_sqlite_read(db_connection_t *conn, db_store_op_t *op, int counted)
{
    size_t  len;

    len = op->out->len;
    op->last = NULL;

    if (op->kind == DB_STORE_GET) {
        op->status = db_sqlite_read_shape(conn, op,
                                          conn->role == DB_ROLE_READER
                                          && op->conditions == NULL
                                          ? DB_SHAPE_ASKED : DB_SHAPE_GET);

    } else {
        op->status = DB_STORE_OK;

        /* the total first: where it scans, no list is made in vain */

        if (op->count && !counted) {
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
