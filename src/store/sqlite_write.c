/*
 * INSERT, REPLACE, MODIFY and REMOVE.  The caller, the writer thread, has
 * begun the transaction: it alone writes until that ends, so that what an
 * operation sees first is still true when it writes.
 *
 * A statement that fails undoes itself; only an INSERT of several documents
 * may have more than its last statement to undo.
 */

#include "store/sqlite.h"


/* The document that an operation is about, as it is now. */

typedef struct {
    sqlite3_stmt  *stmt;             /* at its row until the write */
    unsigned       looked:1;
    unsigned       exists:1;
} db_current_t;


/*
 * What is not the database's fault is the operation's status; the others
 * must not suffer from it.
 */

static int
db_write_failed(db_connection_t *conn, db_store_op_t *op, int rc)
{
    switch (rc & 0xff) {

    case SQLITE_CONSTRAINT:
        op->status = db_sqlite_conflict(conn, op, rc);
        return SQLITE_OK;

    case SQLITE_TOOBIG:
        op->status = db_sqlite_status(rc);
        return SQLITE_OK;

    case SQLITE_ERROR:
        db_sqlite_log(conn, "write");
        op->status = DB_STORE_FAILED;
        return SQLITE_OK;

    default:
        return rc;
    }
}


static int
db_write_statement(db_connection_t *conn, const db_query_t *query,
    sqlite3_stmt **stmt)
{
    int              rc;
    db_statement_t  *statement;

    statement = db_sqlite_statement(conn, query);

    if (statement == NULL) {
        rc = sqlite3_errcode(conn->db);
        return rc == SQLITE_OK ? SQLITE_NOMEM : rc;
    }

    *stmt = statement->stmt;

    return SQLITE_OK;
}


/* Writes one document; *changes: how many there were to be written. */

static int
db_write_item(db_connection_t *conn, db_store_op_t *op, db_shape_kind_t kind,
    const db_store_item_t *item, int *changes)
{
    int            rc;
    db_query_t     query;
    sqlite3_stmt  *stmt;

    (void) db_query_init(&query, op, kind);

    rc = db_write_statement(conn, &query, &stmt);

    if (rc == SQLITE_OK) {
        rc = db_query_bind_write(&query, item, stmt);
    }

    if (rc == SQLITE_OK) {
        rc = db_sqlite_step(stmt);
    }

    if (rc != SQLITE_OK) {
        return db_write_failed(conn, op, rc);
    }

    *changes = sqlite3_changes(conn->db);

    return SQLITE_OK;
}


static int
db_write_items(db_connection_t *conn, db_store_op_t *op)
{
    int       rc, changes;
    unsigned  i;

    rc = SQLITE_OK;

    for (i = 0; i < op->nitems; i++) {
        rc = db_write_item(conn, op, DB_SHAPE_INSERT, &op->items[i],
                           &changes);

        if (rc != SQLITE_OK || op->status != DB_STORE_OK) {
            op->item = i;
            break;
        }
    }

    return rc;
}


static int
db_write_insert(db_connection_t *conn, db_store_op_t *op)
{
    int  rc;

    if (op->nitems == 1) {
        return db_write_items(conn, op);
    }

    rc = sqlite3_exec(conn->db, "SAVEPOINT items", NULL, NULL, NULL);

    if (rc == SQLITE_OK) {
        rc = db_write_items(conn, op);
    }

    if (rc == SQLITE_OK && op->status != DB_STORE_OK) {
        rc = sqlite3_exec(conn->db, "ROLLBACK TO items", NULL, NULL, NULL);
    }

    if (rc == SQLITE_OK) {
        rc = sqlite3_exec(conn->db, "RELEASE items", NULL, NULL, NULL);
    }

    return rc;
}


/* Leaves a status other than OK for an operation that is not to be. */

static int
db_write_look(db_connection_t *conn, db_store_op_t *op, db_current_t *current)
{
    int            rc;
    db_query_t     query;
    sqlite3_stmt  *stmt;

    stmt = NULL;

    (void) db_query_init(&query, op, DB_SHAPE_LOOK);

    rc = db_write_statement(conn, &query, &stmt);

    if (rc == SQLITE_OK) {
        rc = db_query_bind(&query, stmt);
    }

    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);
        current->stmt = stmt;
        current->looked = 1;
    }

    switch (rc) {

    case SQLITE_ROW:
        current->exists = 1;
        op->version = (uint64_t) sqlite3_column_int64(stmt, 1);

        if (op->conditions && !sqlite3_column_int(stmt, 2)) {
            op->status = DB_STORE_NOT_FOUND;

        } else if (!db_store_matches(op, op->version)) {
            op->status = DB_STORE_MISMATCH;
        }

        return SQLITE_OK;

    case SQLITE_DONE:

        /* of a version it can only be what was there before */

        if (!op->upsert || op->nversions) {
            op->status = DB_STORE_NOT_FOUND;
        }

        return SQLITE_OK;

    default:
        return db_write_failed(conn, op, rc);
    }
}


static void
db_write_modify(db_store_op_t *op, const db_current_t *current)
{
    db_str_t  doc;

    doc = db_null_string;

    if (current->exists) {
        doc.data = sqlite3_column_blob(current->stmt, 0);
        doc.len = (size_t) sqlite3_column_bytes(current->stmt, 0);
    }

    switch (op->modify(op, doc)) {

    case DB_OK:
        break;

    case DB_DECLINED:
        op->status = DB_STORE_DECLINED;
        break;

    default:
        op->status = DB_STORE_FAILED;
    }
}


/* The write itself, of an operation that may have looked. */

static int
db_write_change(db_connection_t *conn, db_store_op_t *op,
    const db_current_t *current)
{
    int              rc, changes;
    db_store_item_t  item;
    db_shape_kind_t  kind;

    item = (db_store_item_t) { op->id, op->document };

    kind = (op->kind == DB_STORE_REMOVE) ? DB_SHAPE_REMOVE
           : (op->upsert && !current->exists) ? DB_SHAPE_INSERT
           : DB_SHAPE_REPLACE;

    rc = db_write_item(conn, op, kind, &item, &changes);

    if (rc != SQLITE_OK || op->status != DB_STORE_OK) {
        return rc;
    }

    if (changes == 0) {
        op->status = DB_STORE_NOT_FOUND;
        return SQLITE_OK;
    }

    op->created = (kind == DB_SHAPE_INSERT);

    if (current->looked) {
        op->version++;
    }

    return SQLITE_OK;
}


static int
db_write_one(db_connection_t *conn, db_store_op_t *op)
{
    int           rc;
    db_current_t  current;

    current = (db_current_t) { .stmt = NULL };
    rc = SQLITE_OK;

    if (op->kind == DB_STORE_MODIFY || op->conditions || op->nversions
        || op->nothers || op->absent || op->upsert
        || (op->collection->versioned && op->kind == DB_STORE_REPLACE))
    {
        rc = db_write_look(conn, op, &current);
    }

    if (rc == SQLITE_OK && op->status == DB_STORE_OK
        && op->kind == DB_STORE_MODIFY)
    {
        db_write_modify(op, &current);
    }

    /* the row is not needed any more, nor may it be in the write's way */

    if (current.stmt) {
        sqlite3_reset(current.stmt);
    }

    if (rc == SQLITE_OK && op->status == DB_STORE_OK) {
        rc = db_write_change(conn, op, &current);
    }

    return rc;
}


int
db_sqlite_write(db_connection_t *conn, db_store_op_t *op)
{
    op->status = DB_STORE_OK;
    op->created = 0;
    op->version = 0;
    op->conflict = NULL;
    op->item = 0;

    return op->kind == DB_STORE_INSERT ? db_write_insert(conn, op)
                                       : db_write_one(conn, op);
}
