/*
 * Gets by id on the nginx thread, all of a cycle in one run of a statement.
 *
 * "databridge-asked" is a table that only the reader has: its rows are the
 * ids that are asked for, one after the other.  A statement that joins it to
 * a collection gives a document with every step.  It is begun once a cycle
 * and reset at its end, while nothing is bound, opened or closed for a get:
 * that costs as much again as the search for the document.
 */

#include "store/sqlite.h"

#include <stdlib.h>


typedef struct {
    sqlite3_vtab         base;             /* first */
    db_connection_t     *conn;
} db_asked_t;


typedef struct {
    sqlite3_vtab_cursor  base;             /* first */
    const db_value_t    *id;               /* NULL: no more, for now */
} db_asked_cursor_t;


static int
db_asked_connect(sqlite3 *db, void *data, int argc, const char *const *argv,
    sqlite3_vtab **vtab, char **error)
{
    int          rc;
    db_asked_t  *asked;

    rc = sqlite3_declare_vtab(db, "CREATE TABLE asked (id)");
    if (rc != SQLITE_OK) {
        return rc;
    }

    asked = calloc(1, sizeof(db_asked_t));
    if (asked == NULL) {
        return SQLITE_NOMEM;
    }

    asked->conn = data;
    *vtab = &asked->base;

    return SQLITE_OK;
}


static int
db_asked_disconnect(sqlite3_vtab *vtab)
{
    free(vtab);

    return SQLITE_OK;
}


static int
db_asked_best_index(sqlite3_vtab *vtab, sqlite3_index_info *info)
{
    info->estimatedCost = 1;
    info->estimatedRows = 1;

    return SQLITE_OK;
}


static int
db_asked_open(sqlite3_vtab *vtab, sqlite3_vtab_cursor **cursor)
{
    db_asked_cursor_t  *c;

    c = calloc(1, sizeof(db_asked_cursor_t));
    if (c == NULL) {
        return SQLITE_NOMEM;
    }

    *cursor = &c->base;

    return SQLITE_OK;
}


static int
db_asked_close(sqlite3_vtab_cursor *cursor)
{
    free(cursor);

    return SQLITE_OK;
}


/* What is asked for is taken, so that the statement ends when it is missing. */

static int
db_asked_next(sqlite3_vtab_cursor *cursor)
{
    db_connection_t    *conn;
    db_asked_cursor_t  *c;

    c = (db_asked_cursor_t *) cursor;
    conn = ((db_asked_t *) cursor->pVtab)->conn;

    c->id = conn->asked;
    conn->asked = NULL;

    return SQLITE_OK;
}


static int
db_asked_filter(sqlite3_vtab_cursor *cursor, int number, const char *name,
    int argc, sqlite3_value **argv)
{
    return db_asked_next(cursor);
}


static int
db_asked_eof(sqlite3_vtab_cursor *cursor)
{
    return ((db_asked_cursor_t *) cursor)->id == NULL;
}


static int
db_asked_column(sqlite3_vtab_cursor *cursor, sqlite3_context *context, int n)
{
    const db_value_t  *id;

    id = ((db_asked_cursor_t *) cursor)->id;

    if (id->kind == DB_VALUE_INT) {
        sqlite3_result_int64(context, id->integer);

    } else {
        sqlite3_result_text64(context, id->text.data ? id->text.data : "",
                              id->text.len, SQLITE_STATIC, SQLITE_UTF8);
    }

    return SQLITE_OK;
}


static int
db_asked_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *rowid)
{
    *rowid = 0;

    return SQLITE_OK;
}


int
db_sqlite_asked_init(db_connection_t *conn)
{
    static const sqlite3_module  module = {
        .xConnect = db_asked_connect,
        .xBestIndex = db_asked_best_index,
        .xDisconnect = db_asked_disconnect,
        .xOpen = db_asked_open,
        .xClose = db_asked_close,
        .xFilter = db_asked_filter,
        .xNext = db_asked_next,
        .xEof = db_asked_eof,
        .xColumn = db_asked_column,
        .xRowid = db_asked_rowid,
    };

    return sqlite3_create_module(conn->db, DB_SQLITE_ASKED, &module, conn);
}


/* SQLITE_ROW, the statement then stays at it; SQLITE_DONE; or an error. */

int
db_sqlite_asked_step(db_connection_t *conn, sqlite3_stmt *stmt,
    const db_value_t *id)
{
    int  rc;

    if (conn->running != stmt) {
        db_sqlite_asked_end(conn);
        conn->running = stmt;
    }

    conn->asked = id;

    rc = sqlite3_step(stmt);
    conn->asked = NULL;

    if (rc != SQLITE_ROW) {
        db_sqlite_asked_end(conn);
    }

    return rc;
}


void
db_sqlite_asked_end(db_connection_t *conn)
{
    if (conn->running) {
        sqlite3_reset(conn->running);
        conn->running = NULL;
    }
}
