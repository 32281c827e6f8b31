/*
 * The SQL text of a shape.  Nothing that came with a request is part of it:
 * paths and values are bound, and a collection's name is the schema's.
 *
 * A condition's shape is one letter:
 *
 *   n b i t    equality with null, a boolean, a number, a text
 *   N B I T    the same for a list, that is: it contains such a value
 *   =          the id itself, through its index
 *   0          a test of the id that cannot hold
 *
 * Null equals missing.  Values of different types are never equal.
 */

#include "store/sqlite.h"

#include <limits.h>
#include <stddef.h>


#define DB_ID_PATH  "$.\"id\""


static char
db_shape_condition(const db_collection_t *collection,
    const db_condition_t *condition)
{
    int              is_number;
    char             letter;
    db_value_kind_t  kind;

    kind = condition->value.kind;
    is_number = (kind == DB_VALUE_INT || kind == DB_VALUE_REAL);

    if (db_str_eq(condition->path, db_string(DB_ID_PATH))) {

        /* the column would convert what is of the other type */

        return (collection->id_kind == DB_VALUE_INT ? is_number
                                                    : kind == DB_VALUE_TEXT)
               ? '=' : '0';
    }

    if (is_number) {
        letter = 'i';

    } else if (kind == DB_VALUE_TEXT) {
        letter = 't';

    } else {
        letter = (kind == DB_VALUE_BOOL) ? 'b' : 'n';
    }

    return condition->array ? (char) (letter - 'a' + 'A') : letter;
}


size_t
db_shape_size(const db_shape_t *shape)
{
    return offsetof(db_shape_t, conditions) + shape->nconditions;
}


int
db_shape_init(db_shape_t *shape, const db_store_op_t *op,
    db_shape_kind_t kind)
{
    unsigned  i;

    shape->collection = op->collection;
    shape->kind = kind;
    shape->nconditions = 0;

    if (kind != DB_SHAPE_LIST && kind != DB_SHAPE_COUNT) {
        return DB_OK;
    }

    if (op->nconditions > DB_SQLITE_CONDITIONS) {
        return DB_ERROR;
    }

    for (i = 0; i < op->nconditions; i++) {
        shape->conditions[i] = db_shape_condition(op->collection,
                                                  &op->conditions[i]);
    }

    shape->nconditions = op->nconditions;

    return DB_OK;
}


/* The parameters of condition n: its path and its value. */

#define db_path_param(n)   (int) (2 * (n) + 1)
#define db_value_param(n)  (int) (2 * (n) + 2)


static const char *
db_shape_types(char letter)
{
    return (letter == 'i' || letter == 'I') ? "'integer', 'real'" : "'text'";
}


static void
db_shape_where(sqlite3_str *sql, char letter, unsigned n)
{
    int  path, value;

    path = db_path_param(n);
    value = db_value_param(n);

    sqlite3_str_appendall(sql, n ? " AND " : " WHERE ");

    switch (letter) {

    case '=':
        sqlite3_str_appendf(sql, "id = ?%d", value);
        break;

    case '0':
        sqlite3_str_appendall(sql, "0");
        break;

    case 'n':
        sqlite3_str_appendf(sql, "json_extract(doc, ?%d) IS NULL", path);
        break;

    case 'N':
        sqlite3_str_appendf(sql, "(json_extract(doc, ?%d) IS NULL OR EXISTS"
                            " (SELECT 1 FROM json_each(doc, ?%d) AS e"
                            " WHERE e.type = 'null'))", path, path);
        break;

    case 'b':
        sqlite3_str_appendf(sql, "json_type(doc, ?%d) = ?%d", path, value);
        break;

    case 'B':
        sqlite3_str_appendf(sql, "EXISTS (SELECT 1 FROM json_each(doc, ?%d)"
                            " AS e WHERE e.type = ?%d)", path, value);
        break;

    case 'i':
    case 't':
        sqlite3_str_appendf(sql, "(json_extract(doc, ?%d) = ?%d"
                            " AND json_type(doc, ?%d) IN (%s))",
                            path, value, path, db_shape_types(letter));
        break;

    default: /* 'I', 'T' */
        sqlite3_str_appendf(sql, "EXISTS (SELECT 1 FROM json_each(doc, ?%d)"
                            " AS e WHERE e.value = ?%d AND e.type IN (%s))",
                            path, value, db_shape_types(letter));
        break;
    }
}


char *
db_shape_sql(const db_shape_t *shape)
{
    int           len;
    unsigned      i;
    const char   *name;
    sqlite3_str  *sql;

    sql = sqlite3_str_new(NULL);
    name = shape->collection->name.data;
    len = (int) shape->collection->name.len;

    switch ((db_shape_kind_t) shape->kind) {

    case DB_SHAPE_GET:
        sqlite3_str_appendf(sql, "SELECT doc FROM \"%.*w\" WHERE id = ?1",
                            len, name);
        break;

    case DB_SHAPE_INSERT:
        sqlite3_str_appendf(sql, "INSERT INTO \"%.*w\" (id, doc)"
                            " VALUES (?1, ?2)", len, name);
        break;

    case DB_SHAPE_REPLACE:
        sqlite3_str_appendf(sql, "UPDATE \"%.*w\" SET doc = ?2"
                            " WHERE id = ?1", len, name);
        break;

    case DB_SHAPE_REMOVE:
        sqlite3_str_appendf(sql, "DELETE FROM \"%.*w\" WHERE id = ?1",
                            len, name);
        break;

    case DB_SHAPE_LIST:
    case DB_SHAPE_COUNT:
        sqlite3_str_appendf(sql, "SELECT %s FROM \"%.*w\"",
                            shape->kind == DB_SHAPE_LIST ? "doc" : "count(*)",
                            len, name);

        for (i = 0; i < shape->nconditions; i++) {
            db_shape_where(sql, shape->conditions[i], i);
        }

        if (shape->kind == DB_SHAPE_LIST) {
            sqlite3_str_appendf(sql, " ORDER BY id LIMIT ?%d OFFSET ?%d",
                                db_path_param(i), db_value_param(i));
        }

        break;
    }

    return sqlite3_str_finish(sql);
}


static int
db_bind_text(sqlite3_stmt *stmt, int n, db_str_t text)
{
    return sqlite3_bind_text64(stmt, n, text.data ? text.data : "", text.len,
                               SQLITE_STATIC, SQLITE_UTF8);
}


static int
db_bind_value(sqlite3_stmt *stmt, int n, const db_value_t *value)
{
    switch (value->kind) {

    case DB_VALUE_BOOL:
        return db_bind_text(stmt, n, value->integer ? db_string("true")
                                                    : db_string("false"));
    case DB_VALUE_INT:
        return sqlite3_bind_int64(stmt, n, value->integer);

    case DB_VALUE_REAL:
        return sqlite3_bind_double(stmt, n, value->real);

    case DB_VALUE_TEXT:
        return db_bind_text(stmt, n, value->text);

    default:
        return sqlite3_bind_null(stmt, n);
    }
}


static int
db_bind_condition(sqlite3_stmt *stmt, unsigned n, char letter,
    const db_condition_t *condition)
{
    int  rc;

    switch (letter) {

    case '0':
        return SQLITE_OK;

    case '=':
        return db_bind_value(stmt, db_value_param(n), &condition->value);

    case 'n':
    case 'N':
        return db_bind_text(stmt, db_path_param(n), condition->path);

    default:
        rc = db_bind_text(stmt, db_path_param(n), condition->path);

        return rc == SQLITE_OK ? db_bind_value(stmt, db_value_param(n),
                                               &condition->value)
                               : rc;
    }
}


static sqlite3_int64
db_bind_clamp(uint64_t n)
{
    return n > INT64_MAX ? INT64_MAX : (sqlite3_int64) n;
}


static int
db_bind_list(const db_shape_t *shape, sqlite3_stmt *stmt,
    const db_store_op_t *op)
{
    int       rc;
    unsigned  i;

    for (i = 0; i < shape->nconditions; i++) {
        rc = db_bind_condition(stmt, i, shape->conditions[i],
                               &op->conditions[i]);
        if (rc != SQLITE_OK) {
            return rc;
        }
    }

    if (shape->kind == DB_SHAPE_COUNT) {
        return SQLITE_OK;
    }

    rc = sqlite3_bind_int64(stmt, db_path_param(i), db_bind_clamp(op->limit));

    return rc == SQLITE_OK ? sqlite3_bind_int64(stmt, db_value_param(i),
                                                db_bind_clamp(op->skip))
                           : rc;
}


int
db_shape_bind(const db_shape_t *shape, sqlite3_stmt *stmt,
    const db_store_op_t *op)
{
    int  rc;

    if (shape->kind == DB_SHAPE_LIST || shape->kind == DB_SHAPE_COUNT) {
        return db_bind_list(shape, stmt, op);
    }

    rc = db_bind_value(stmt, 1, &op->id);

    if (rc == SQLITE_OK
        && (shape->kind == DB_SHAPE_INSERT || shape->kind == DB_SHAPE_REPLACE))
    {
        rc = db_bind_text(stmt, 2, op->document);
    }

    return rc;
}
