/*
 * What is made before a store serves: the database in WAL mode, and a table
 * for each collection.
 */

#include "store/sqlite.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>


static int
db_sqlite_error(db_sqlite_t *store, char *error, size_t size, const char *what,
    const char *hint)
{
    snprintf(error, size, "sqlite store \"%s\": %s: %s", store->path, what,
             hint);

    return DB_ERROR;
}


/* Sees what SQLite would word less clearly. */

int
db_sqlite_check_path(db_sqlite_t *store, char *error, size_t size)
{
    struct stat  st;

    if (stat(store->path, &st) == -1) {
        return DB_OK;
    }

    if (!S_ISREG(st.st_mode)) {
        return db_sqlite_error(store, error, size, "not a regular file",
                               "name a file, which may be missing");
    }

    if (access(store->path, R_OK|W_OK) == -1) {
        return db_sqlite_error(store, error, size, "cannot be written",
                               "make the file and its directory writable"
                               " for the worker's user");
    }

    return DB_OK;
}


int
db_sqlite_create(db_sqlite_t *store, db_connection_t *conn, char *error,
    size_t size)
{
    int            rc, wal;
    sqlite3_stmt  *stmt;

    wal = 0;
    rc = sqlite3_prepare_v2(conn->db, "PRAGMA journal_mode = WAL", -1, &stmt,
                            NULL);

    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);

        wal = rc == SQLITE_ROW
              && strcmp((const char *) sqlite3_column_text(stmt, 0), "wal")
                 == 0;

        rc = sqlite3_finalize(stmt);
    }

    if (rc != SQLITE_OK) {
        return db_sqlite_error(store, error, size, "cannot be opened",
                               sqlite3_errmsg(conn->db));
    }

    if (!wal || sqlite3_db_readonly(conn->db, "main") == 1) {
        return db_sqlite_error(store, error, size, "cannot use WAL mode",
                               "the file must be writable, on a local disk,"
                               " and used by no other program");
    }

    return DB_OK;
}


/* 1: the table is ours; 0: there is none; -1: it is another one. */

static int
db_sqlite_shape_of_table(sqlite3_stmt *stmt, const db_collection_t *collection)
{
    int          n, pk, ours;
    const char  *name, *type, *want;

    want = (collection->id_kind == DB_VALUE_INT) ? "INTEGER" : "TEXT";
    ours = 1;

    for (n = 0; sqlite3_step(stmt) == SQLITE_ROW; n++) {
        name = (const char *) sqlite3_column_text(stmt, 0);
        type = (const char *) sqlite3_column_text(stmt, 1);
        pk = sqlite3_column_int(stmt, 2);

        if (name == NULL || type == NULL) {
            ours = 0;

        } else if (n == 0) {
            ours &= strcmp(name, "id") == 0 && strcmp(type, want) == 0
                    && pk == 1;
        } else {
            ours &= n == 1 && strcmp(name, "doc") == 0
                    && strcmp(type, "TEXT") == 0 && pk == 0;
        }
    }

    if (n == 0) {
        return 0;
    }

    return (ours && n == 2) ? 1 : -1;
}


static int
db_sqlite_find_table(db_connection_t *conn, const db_collection_t *collection)
{
    int            found;
    sqlite3_stmt  *stmt;

    if (sqlite3_prepare_v2(conn->db, "SELECT name, type, pk FROM"
                           " pragma_table_info(?1) ORDER BY cid", -1, &stmt,
                           NULL)
        != SQLITE_OK)
    {
        return -2;
    }

    sqlite3_bind_text(stmt, 1, collection->name.data,
                      (int) collection->name.len, SQLITE_STATIC);

    found = db_sqlite_shape_of_table(stmt, collection);

    return sqlite3_finalize(stmt) == SQLITE_OK ? found : -2;
}


static int
db_sqlite_create_table(db_connection_t *conn,
    const db_collection_t *collection)
{
    int    rc;
    char  *sql;

    /*
     * Documents in the tree of their text ids make a get 1.15 times faster
     * and a list 1.5 times; an integer is the row's own key anyway.
     */

    sql = sqlite3_mprintf(collection->id_kind == DB_VALUE_INT
                          ? "CREATE TABLE \"%.*w\" (id INTEGER PRIMARY KEY"
                            " NOT NULL, doc TEXT NOT NULL)"
                          : "CREATE TABLE \"%.*w\" (id TEXT PRIMARY KEY"
                            " NOT NULL, doc TEXT NOT NULL) WITHOUT ROWID",
                          (int) collection->name.len, collection->name.data);
    if (sql == NULL) {
        return SQLITE_NOMEM;
    }

    rc = sqlite3_exec(conn->db, sql, NULL, NULL, NULL);

    sqlite3_free(sql);

    return rc;
}


static int
db_sqlite_prepare_table(db_sqlite_t *store, db_connection_t *conn,
    const db_collection_t *collection, char *error, size_t size)
{
    char  what[128];

    snprintf(what, sizeof(what), "collection \"%.*s\"",
             (int) collection->name.len, collection->name.data);

    switch (db_sqlite_find_table(conn, collection)) {

    case 1:
        return DB_OK;

    case 0:
        if (db_sqlite_create_table(conn, collection) == SQLITE_OK) {
            return DB_OK;
        }

        return db_sqlite_error(store, error, size, what,
                               sqlite3_errmsg(conn->db));

    case -1:
        snprintf(what, sizeof(what), "collection \"%.*s\": its table is not"
                 " (id %s PRIMARY KEY, doc TEXT)",
                 (int) collection->name.len, collection->name.data,
                 collection->id_kind == DB_VALUE_INT ? "INTEGER" : "TEXT");

        return db_sqlite_error(store, error, size, what,
                               "choose another collection, or migrate it");

    default:
        return db_sqlite_error(store, error, size, what,
                               sqlite3_errmsg(conn->db));
    }
}


/*
 * The text of an index after CREATE INDEX.  The id follows the last key in
 * ascending order, so that one ascends as well: the whole is turned round
 * when it does not, which makes no difference to what it serves.
 */

static void
db_sqlite_index_sql(sqlite3_str *sql, const db_collection_t *collection,
    const db_index_t *index, db_buf_t *name)
{
    unsigned         i, j;
    const db_key_t  *key;

    db_buf_lit(name, "databridge_");
    db_buf_str(name, collection->name);

    for (i = 0; i < index->nkeys; i++) {
        key = &index->keys[i];

        db_buf_append(name, key->descending ? ",-" : ",",
                      key->descending ? 2 : 1);

        for (j = 0; j < key->path.nsteps; j++) {
            db_buf_append(name, ".", j != 0);
            db_buf_str(name, key->path.steps[j]);
        }
    }

    sqlite3_str_appendf(sql, "\"%.*w\" ON \"%.*w\" (", (int) name->len,
                        name->data, (int) collection->name.len,
                        collection->name.data);

    for (i = 0; i < index->nkeys; i++) {
        key = &index->keys[i];

        sqlite3_str_appendall(sql, i ? ", " : "");
        db_sqlite_key(sql, &key->path, key->kind);

        if (key->descending != index->keys[index->nkeys - 1].descending) {
            sqlite3_str_appendall(sql, " DESC");
        }
    }

    sqlite3_str_appendall(sql, ")");
}


/* SQLITE_ROW: an index of that name is there, *same: with that text. */

static int
db_sqlite_find_index(db_connection_t *conn, db_str_t name, const char *text,
    int *same)
{
    int            rc;
    sqlite3_stmt  *stmt;

    *same = 0;

    rc = sqlite3_prepare_v2(conn->db, "SELECT sql = 'CREATE INDEX ' || ?2"
                            " FROM sqlite_schema WHERE type = 'index'"
                            " AND name = ?1", -1, &stmt, NULL);
    if (rc != SQLITE_OK) {
        return rc;
    }

    sqlite3_bind_text(stmt, 1, name.data, (int) name.len, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, text, -1, SQLITE_STATIC);

    rc = sqlite3_step(stmt);
    *same = (rc == SQLITE_ROW && sqlite3_column_int(stmt, 0) == 1);

    sqlite3_finalize(stmt);

    return rc;
}


/* Makes the index, or makes it anew when its keys have other types now. */

static int
db_sqlite_prepare_index(db_connection_t *conn,
    const db_collection_t *collection, const db_index_t *index,
    db_buf_t *name)
{
    int           rc, same;
    char         *text, *create;
    sqlite3_str  *sql;

    sql = sqlite3_str_new(NULL);
    db_sqlite_index_sql(sql, collection, index, name);
    text = sqlite3_str_finish(sql);

    if (text == NULL || name->failed) {
        sqlite3_free(text);
        return SQLITE_NOMEM;
    }

    rc = db_sqlite_find_index(conn, (db_str_t) { name->data, name->len },
                              text, &same);

    if (!same && (rc == SQLITE_ROW || rc == SQLITE_DONE)) {
        create = sqlite3_mprintf("BEGIN; DROP INDEX IF EXISTS \"%.*w\";"
                                 " CREATE INDEX %s; COMMIT", (int) name->len,
                                 name->data, text);

        rc = create ? sqlite3_exec(conn->db, create, NULL, NULL, NULL)
                    : SQLITE_NOMEM;
        sqlite3_free(create);

    } else if (same) {
        rc = SQLITE_OK;
    }

    sqlite3_free(text);

    return rc;
}


static int
db_sqlite_prepare_indexes(db_sqlite_t *store, db_connection_t *conn,
    const db_collection_t *collection, char *error, size_t size)
{
    int          rc;
    char         what[256];
    db_buf_t     name;
    unsigned     i;
    db_arena_t  *arena;

    arena = db_arena_create(512);
    if (arena == NULL) {
        snprintf(error, size, "out of memory");
        return DB_ERROR;
    }

    rc = DB_OK;

    for (i = 0; rc == DB_OK && i < collection->nindexes; i++) {
        db_buf_init(&name, arena, 128);

        if (db_sqlite_prepare_index(conn, collection, &collection->indexes[i],
                                    &name)
            != SQLITE_OK)
        {
            snprintf(what, sizeof(what), "index \"%.*s\"",
                     (int) name.len, name.data ? name.data : "");
            rc = db_sqlite_error(store, error, size, what,
                                 sqlite3_errmsg(conn->db));
        }
    }

    db_arena_destroy(arena);

    return rc;
}


int
db_sqlite_prepare(db_store_t *base, const db_collection_t *collection,
    char *error, size_t size)
{
    db_sqlite_t *store = (db_sqlite_t *) base;

    int               rc;
    db_connection_t  *conn;

    /* a connection of its own: the writer's is at work */

    conn = db_sqlite_connect(store, DB_ROLE_WRITER, error, size);
    if (conn == NULL) {
        return DB_ERROR;
    }

    sqlite3_db_config(conn->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);

    if (db_writer_lock(&store->lock) != DB_OK) {
        rc = db_sqlite_error(store, error, size, "cannot be locked",
                             "its \".writer\" file does not allow it");

    } else {
        rc = db_sqlite_prepare_table(store, conn, collection, error, size);

        if (rc == DB_OK) {
            rc = db_sqlite_prepare_indexes(store, conn, collection, error,
                                           size);
        }

        db_writer_unlock(&store->lock);
    }

    db_sqlite_disconnect(conn);

    return rc;
}
