/*
 * A key of a document as an SQL expression: one value that orders documents
 * as BSON does, null and missing first, then numbers, texts, booleans.  An
 * index, a condition and an ORDER BY must write it alike to the letter, or
 * the index is not used.
 *
 * Null is -Inf, which no document holds, so that keys are never NULL and
 * compare as any other; booleans are blobs, which come after texts.  In a
 * unique index it is NULL after all, which is like no other.
 */

#include "store/sqlite.h"


int
db_sqlite_is_id(const db_path_t *path)
{
    return path->nsteps == 1 && db_str_eq(path->steps[0], db_string("id"));
}


/* The names are the schema's: identifiers, without quotes of any kind. */

static void
db_sqlite_path(sqlite3_str *sql, const db_path_t *path)
{
    unsigned  i;

    sqlite3_str_appendall(sql, "'$");

    for (i = 0; i < path->nsteps; i++) {
        sqlite3_str_appendall(sql, ".\"");
        sqlite3_str_append(sql, path->steps[i].data, (int) path->steps[i].len);
        sqlite3_str_appendall(sql, "\"");
    }

    sqlite3_str_appendall(sql, "'");
}


static void
db_sqlite_call(sqlite3_str *sql, const char *function, const db_path_t *path)
{
    sqlite3_str_appendf(sql, "%s(doc, ", function);
    db_sqlite_path(sql, path);
    sqlite3_str_appendall(sql, ")");
}


/*
 * Datetimes in microseconds of UTC.  SQLite's own functions keep three digits
 * of a second, know no offset beyond 14 hours and no year that one leads out
 * of the four digits: they are given neither the fraction, six digits or
 * none, nor the offset, whose sign goes with its hours and its minutes.
 */

static void
db_sqlite_time(sqlite3_str *sql, const db_path_t *path)
{
    size_t  i;

    static const char  *const pieces[] = {
        "coalesce((strftime('%s', substr(",
        ", 1, 19)) - iif(substr(",
        ", -6, 1) IN ('+', '-'), substr(",
        ", -6, 3) * 3600 + (substr(",
        ", -6, 1) || substr(",
        ", -2)) * 60, 0)) * 1000000 + iif(substr(",
        ", 20, 1) = '.', CAST(substr(",
        ", 21, 6) AS INTEGER), 0), -9e999)"
    };

    for (i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        if (i) {
            db_sqlite_call(sql, "json_extract", path);
        }

        sqlite3_str_appendall(sql, pieces[i]);
    }
}


/*
 * SQLite ends the text of a JSON string at a NUL.  One that has any, in the
 * only way that JSON can write it, is read with U+FFFF, which is no character,
 * in their places; a backslash of the text's own is kept apart from theirs.
 */

static void
db_sqlite_text(sqlite3_str *sql, const db_path_t *path)
{
    sqlite3_str_appendall(sql, "iif(doc GLOB '*\\u0000*', replace("
                          "json_extract(replace(replace(doc -> ");
    db_sqlite_path(sql, path);
    sqlite3_str_appendall(sql, ", '\\\\', '\\u005c'), '\\u0000', '\\uffff'),"
                          " '$'), char(65535), char(0)), ");
    db_sqlite_call(sql, "json_extract", path);
    sqlite3_str_appendall(sql, ")");
}


void
db_sqlite_key(sqlite3_str *sql, const db_path_t *path, db_value_kind_t kind)
{
    if (db_sqlite_is_id(path)) {
        sqlite3_str_appendall(sql, "id");
        return;
    }

    if (kind == DB_VALUE_TIME) {
        db_sqlite_time(sql, path);
        return;
    }

    sqlite3_str_appendall(sql, "CASE ");
    db_sqlite_call(sql, "json_type", path);
    sqlite3_str_appendall(sql, " WHEN 'true' THEN x'01' WHEN 'false' THEN"
                          " x'00' ELSE coalesce(");

    if (kind == DB_VALUE_TEXT) {
        db_sqlite_text(sql, path);

    } else {
        db_sqlite_call(sql, "json_extract", path);
    }

    sqlite3_str_appendall(sql, ", -9e999) END");
}


void
db_sqlite_unique_key(sqlite3_str *sql, const db_path_t *path,
    db_value_kind_t kind)
{
    sqlite3_str_appendall(sql, "nullif(");
    db_sqlite_key(sql, path, kind);
    sqlite3_str_appendall(sql, ", -9e999)");
}


int
db_sqlite_bind_key(sqlite3_stmt *stmt, int n, const db_value_t *value)
{
    switch (value->kind) {

    case DB_VALUE_NULL:
        return sqlite3_bind_double(stmt, n, -INFINITY);

    case DB_VALUE_BOOL:
        return sqlite3_bind_blob(stmt, n, value->integer ? "\1" : "\0", 1,
                                 SQLITE_STATIC);
    case DB_VALUE_INT:
    case DB_VALUE_TIME:
        return sqlite3_bind_int64(stmt, n, value->integer);

    case DB_VALUE_REAL:
        return sqlite3_bind_double(stmt, n, value->real);

    default: /* DB_VALUE_TEXT */
        return sqlite3_bind_text64(stmt, n, value->text.data
                                            ? value->text.data : "",
                                   value->text.len, SQLITE_STATIC,
                                   SQLITE_UTF8);
    }
}


int
db_sqlite_column_key(sqlite3_stmt *stmt, int n, db_value_kind_t kind,
    db_arena_t *arena, db_value_t *value)
{
    const char  *data;

    *value = (db_value_t) { .kind = DB_VALUE_NULL };

    switch (sqlite3_column_type(stmt, n)) {

    case SQLITE_INTEGER:
        value->kind = (kind == DB_VALUE_TIME) ? DB_VALUE_TIME : DB_VALUE_INT;
        value->integer = sqlite3_column_int64(stmt, n);
        break;

    case SQLITE_FLOAT:
        value->real = sqlite3_column_double(stmt, n);
        value->kind = isinf(value->real) ? DB_VALUE_NULL : DB_VALUE_REAL;
        break;

    case SQLITE_BLOB:
        data = sqlite3_column_blob(stmt, n);
        value->kind = DB_VALUE_BOOL;
        value->integer = data != NULL && data[0] == 1;
        break;

    case SQLITE_TEXT:
        data = sqlite3_column_blob(stmt, n);
        value->kind = DB_VALUE_TEXT;
        value->text = db_arena_str(arena, (db_str_t) {
                          data ? data : "",
                          (size_t) sqlite3_column_bytes(stmt, n) });
        return value->text.data ? DB_OK : DB_ERROR;
    }

    return DB_OK;
}
