/*
 * The indexes of a collection: made before it is served, by a connection of
 * their own, and named when one of them refuses a document.
 *
 * An index is one of expressions, and has all documents; its name begins
 * with "databridge_" and the collection's.  What nobody declares any more is
 * left to whoever made it: another application may rely on it.
 */

#include "store/sqlite.h"

#include <stdio.h>


static void
db_index_path(sqlite3_str *sql, const db_path_t *path)
{
    unsigned  i;

    for (i = 0; i < path->nsteps; i++) {
        sqlite3_str_appendf(sql, i ? ".%.*s" : "%.*s",
                            (int) path->steps[i].len, path->steps[i].data);
    }
}


/* For sqlite3_free().  A unique index never has the name of another one. */

static char *
db_index_own_name(const db_collection_t *collection, const db_index_t *index)
{
    unsigned      i;
    sqlite3_str  *name;

    name = sqlite3_str_new(NULL);

    sqlite3_str_appendf(name, "databridge_%.*s", (int) collection->name.len,
                        collection->name.data);

    for (i = 0; i < index->nkeys; i++) {
        sqlite3_str_appendall(name, index->keys[i].descending ? ",-" : ",");
        db_index_path(name, &index->keys[i].path);
    }

    sqlite3_str_appendall(name, index->unique ? " unique" : "");

    return sqlite3_str_finish(name);
}


/*
 * The same, or with a number: names that differ by the case of their letters
 * are one name to SQLite, while fields are not.
 */

static char *
db_index_name(const db_collection_t *collection, const db_index_t *index)
{
    int                same;
    char              *name, *other;
    unsigned           alike;
    const db_index_t  *before;

    name = db_index_own_name(collection, index);
    alike = 1;
    same = 0;

    for (before = collection->indexes;
         name && before < index && !same;
         before++)
    {
        other = db_index_own_name(collection, before);

        if (other == NULL) {
            sqlite3_free(name);
            return NULL;
        }

        same = (strcmp(other, name) == 0);
        alike += (!same && sqlite3_stricmp(other, name) == 0);
        sqlite3_free(other);
    }

    return alike > 1 ? sqlite3_mprintf("%z %u", name, alike) : name;
}


static void
db_index_key(sqlite3_str *sql, const db_index_t *index, unsigned n)
{
    const db_key_t  *key;

    key = &index->keys[n];

    if (index->unique) {
        db_sqlite_unique_key(sql, &key->path, key->kind);

    } else {
        db_sqlite_key(sql, &key->path, key->kind);
    }
}


/*
 * The id follows the last key in ascending order, so that one ascends as
 * well: the whole is turned round when it does not, which makes no difference
 * to what it serves.  For sqlite3_free().
 */

static char *
db_index_sql(const db_collection_t *collection, const db_index_t *index,
    const char *name)
{
    unsigned      i, turned;
    sqlite3_str  *sql;

    sql = sqlite3_str_new(NULL);
    turned = index->keys[index->nkeys - 1].descending;

    sqlite3_str_appendf(sql, "CREATE %sINDEX \"%w\" ON \"%.*w\" (",
                        index->unique ? "UNIQUE " : "", name,
                        (int) collection->name.len, collection->name.data);

    for (i = 0; i < index->nkeys; i++) {
        sqlite3_str_appendall(sql, i ? ", " : "");
        db_index_key(sql, index, i);

        if (index->keys[i].descending != turned) {
            sqlite3_str_appendall(sql, " DESC");
        }
    }

    sqlite3_str_appendall(sql, ")");

    return sqlite3_str_finish(sql);
}


/* SQLITE_ROW: an index of that name is there, *same: with that text. */

static int
db_index_find(db_connection_t *conn, const char *name, const char *text,
    int *same)
{
    int            rc;
    sqlite3_stmt  *stmt;

    *same = 0;

    rc = sqlite3_prepare_v2(conn->db, "SELECT sql = ?2 FROM sqlite_schema"
                            " WHERE type = 'index' AND name = ?1", -1, &stmt,
                            NULL);
    if (rc != SQLITE_OK) {
        return rc;
    }

    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, text, -1, SQLITE_STATIC);

    rc = sqlite3_step(stmt);
    *same = (rc == SQLITE_ROW && sqlite3_column_int(stmt, 0) == 1);

    sqlite3_finalize(stmt);

    return rc;
}


/* Makes the index, or makes it anew when its keys have other types now. */

static int
db_index_make(db_connection_t *conn, const char *name, const char *text)
{
    int    rc, same;
    char  *sql;

    rc = db_index_find(conn, name, text, &same);

    if (same) {
        return SQLITE_OK;
    }

    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        return rc;
    }

    sql = sqlite3_mprintf("BEGIN; DROP INDEX IF EXISTS \"%w\"; %s; COMMIT",
                          name, text);

    rc = sql ? sqlite3_exec(conn->db, sql, NULL, NULL, NULL) : SQLITE_NOMEM;

    sqlite3_free(sql);

    return rc;
}


/* Two documents that a unique index cannot both have, or NULL. */

static sqlite3_stmt *
db_index_duplicates(db_connection_t *conn, const db_collection_t *collection,
    const db_index_t *index)
{
    int            rc;
    char          *text;
    unsigned       i;
    sqlite3_str   *sql;
    sqlite3_stmt  *stmt;

    sql = sqlite3_str_new(NULL);

    sqlite3_str_appendf(sql, "SELECT min(id), max(id) FROM \"%.*w\"",
                        (int) collection->name.len, collection->name.data);

    for (i = 0; i < index->nkeys; i++) {
        sqlite3_str_appendall(sql, i ? " AND " : " WHERE ");
        db_index_key(sql, index, i);
        sqlite3_str_appendall(sql, " IS NOT NULL");
    }

    for (i = 0; i < index->nkeys; i++) {
        sqlite3_str_appendall(sql, i ? ", " : " GROUP BY ");
        db_index_key(sql, index, i);
    }

    sqlite3_str_appendall(sql, " HAVING count(*) > 1 LIMIT 1");

    text = sqlite3_str_finish(sql);
    stmt = NULL;

    rc = text ? sqlite3_prepare_v2(conn->db, text, -1, &stmt, NULL)
              : SQLITE_NOMEM;

    sqlite3_free(text);

    if (rc == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW) {
        return stmt;
    }

    sqlite3_finalize(stmt);

    return NULL;
}


static void
db_index_error(db_connection_t *conn, const db_collection_t *collection,
    const db_index_t *index, int rc, char *error, size_t size)
{
    char           reason[256];
    sqlite3_stmt  *stmt;

    snprintf(reason, sizeof(reason), "%s", sqlite3_errmsg(conn->db));

    stmt = NULL;

    if (rc == SQLITE_CONSTRAINT_UNIQUE) {
        sqlite3_exec(conn->db, "ROLLBACK", NULL, NULL, NULL);
        stmt = db_index_duplicates(conn, collection, index);
    }

    if (stmt) {
        snprintf(reason, sizeof(reason), "it cannot be unique, documents"
                 " \"%.80s\" and \"%.80s\" are alike: change one of them",
                 (const char *) sqlite3_column_text(stmt, 0),
                 (const char *) sqlite3_column_text(stmt, 1));
        sqlite3_finalize(stmt);
    }

    snprintf(error, size, "sqlite store \"%s\": collection \"%.*s\": index"
             " \"%.*s\": %s", conn->store->path, (int) collection->name.len,
             collection->name.data, (int) index->name.len, index->name.data,
             reason);
}


int
db_sqlite_prepare_indexes(db_connection_t *conn,
    const db_collection_t *collection, char *error, size_t size)
{
    int                rc;
    char              *name, *text;
    unsigned           i;
    const db_index_t  *index;

    for (i = 0; i < collection->nindexes; i++) {
        index = &collection->indexes[i];

        name = db_index_name(collection, index);
        text = db_index_sql(collection, index, name);

        rc = name && text ? db_index_make(conn, name, text) : SQLITE_NOMEM;

        sqlite3_free(name);
        sqlite3_free(text);

        if (rc != SQLITE_OK) {
            db_index_error(conn, collection, index, rc, error, size);
            return DB_ERROR;
        }
    }

    return DB_OK;
}


/* SQLite's message names the index, which is one of expressions. */

static const db_index_t *
db_index_refusing(db_connection_t *conn, const db_collection_t *collection)
{
    int                found;
    char              *name, *message;
    unsigned           i;
    const char        *text;
    const db_index_t  *index;

    text = sqlite3_errmsg(conn->db);

    for (i = 0; i < collection->nindexes; i++) {
        index = &collection->indexes[i];

        if (!index->unique) {
            continue;
        }

        name = db_index_name(collection, index);
        message = sqlite3_mprintf("UNIQUE constraint failed: index '%q'",
                                  name);
        found = name && message && strcmp(message, text) == 0;

        sqlite3_free(name);
        sqlite3_free(message);

        if (found) {
            return index;
        }
    }

    return NULL;
}


db_store_status_t
db_sqlite_conflict(db_connection_t *conn, db_store_op_t *op, int rc)
{
    op->conflict = NULL;

    if (rc == SQLITE_CONSTRAINT_PRIMARYKEY || rc == SQLITE_CONSTRAINT_ROWID) {
        return DB_STORE_CONFLICT;
    }

    if (rc == SQLITE_CONSTRAINT_UNIQUE) {
        op->conflict = db_index_refusing(conn, op->collection);

        if (op->conflict) {
            return DB_STORE_CONFLICT;
        }
    }

    /* of somebody else, or of models of before: the log says which */

    db_sqlite_log(conn, "an index or a trigger that the model does not declare"
                  " has refused a document: remove it, or declare it");

    return DB_STORE_REFUSED;
}
