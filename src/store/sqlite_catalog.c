/*
 * The collections of a database: its tables that have a collection's
 * columns.  Runs on a thread that may block, on a connection of its own.
 */

#include "store/sqlite.h"

#include <stdio.h>


static const char  db_sqlite_tables[] =
    "SELECT name, columns LIKE 'id INTEGER%' FROM ("
    "SELECT t.name AS name, (SELECT group_concat(c.name || ' ' || c.type"
    " || ' ' || c.pk, ',') FROM pragma_table_info(t.name) c) AS columns"
    " FROM sqlite_schema t WHERE t.type = 'table')"
    " WHERE columns IN ('id TEXT 1,doc TEXT 0', 'id INTEGER 1,doc TEXT 0',"
    " 'id TEXT 1,doc TEXT 0,v INTEGER 0',"
    " 'id INTEGER 1,doc TEXT 0,v INTEGER 0') ORDER BY name";


static int
db_sqlite_count(db_connection_t *conn, db_catalog_entry_t *entry)
{
    int            rc;
    char          *sql;
    sqlite3_stmt  *stmt;

    sql = sqlite3_mprintf("SELECT count(*) FROM \"%.*w\"",
                          (int) entry->name.len, entry->name.data);
    if (sql == NULL) {
        return SQLITE_NOMEM;
    }

    rc = sqlite3_prepare_v2(conn->db, sql, -1, &stmt, NULL);
    sqlite3_free(sql);

    if (rc != SQLITE_OK) {
        return rc;
    }

    if (sqlite3_step(stmt) == SQLITE_ROW) {
        entry->count = (uint64_t) sqlite3_column_int64(stmt, 0);
    }

    return sqlite3_finalize(stmt);
}


static int
db_sqlite_entries(db_connection_t *conn, sqlite3_stmt *stmt,
    db_arena_t *arena, db_catalog_entry_t **tail)
{
    int                  rc;
    db_str_t             name;
    db_catalog_entry_t  *entry;

    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        name.data = (const char *) sqlite3_column_text(stmt, 0);
        name.len = (size_t) sqlite3_column_bytes(stmt, 0);

        entry = db_arena_calloc(arena, sizeof(db_catalog_entry_t));
        if (entry == NULL || name.data == NULL) {
            return SQLITE_NOMEM;
        }

        entry->name = db_arena_str(arena, name);
        if (entry->name.data == NULL) {
            return SQLITE_NOMEM;
        }

        entry->id_kind = sqlite3_column_int(stmt, 1) ? DB_VALUE_INT
                                                     : DB_VALUE_TEXT;

        rc = db_sqlite_count(conn, entry);
        if (rc != SQLITE_OK) {
            return rc;
        }

        *tail = entry;
        tail = &entry->next;
    }

    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}


int
db_sqlite_catalog(db_store_t *base, db_arena_t *arena,
    db_catalog_entry_t **first, char *error, size_t size)
{
    db_sqlite_t *store = (db_sqlite_t *) base;

    int               rc;
    sqlite3_stmt     *stmt;
    db_connection_t  *conn;

    *first = NULL;

    conn = db_sqlite_connect(store, DB_ROLE_POOL, error, size);
    if (conn == NULL) {
        return DB_ERROR;
    }

    rc = sqlite3_prepare_v2(conn->db, db_sqlite_tables, -1, &stmt, NULL);

    if (rc == SQLITE_OK) {
        rc = db_sqlite_entries(conn, stmt, arena, first);
        sqlite3_finalize(stmt);
    }

    if (rc != SQLITE_OK) {
        snprintf(error, size, "sqlite store \"%s\": cannot be read: %s",
                 store->path, sqlite3_errstr(rc));
    }

    db_sqlite_disconnect(conn);

    return rc == SQLITE_OK ? DB_OK : DB_ERROR;
}
