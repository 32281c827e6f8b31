/*
 * The SQL text of an operation.  Nothing that came with a request is part of
 * it: names are the schema's, values are bound.
 *
 * Of a filter's conditions those become SQL that an index, or the id, can
 * answer; the others are left to databridge_match(), which looks at the
 * document itself.  So the texts are few, whatever clients ask for.
 */

#include "store/sqlite.h"

#include "store/db_document.h"

#include <limits.h>
#include <stddef.h>


/* The recipe: what tells one text of a collection from another. */

static void
db_recipe_add(db_query_t *query, const void *data, size_t size)
{
    db_shape_t  *shape;

    shape = &query->shape;

    if (size > sizeof(shape->recipe) - shape->len) {
        query->failed = 1;
        return;
    }

    memcpy(shape->recipe + shape->len, data, size);
    shape->len += (uint32_t) size;
}


static void
db_recipe_letter(db_query_t *query, char letter)
{
    db_recipe_add(query, &letter, 1);
}


/* Names are constant: their addresses stand for them. */

static void
db_recipe_key(db_query_t *query, const db_path_t *path, db_value_kind_t kind)
{
    unsigned  i;

    db_recipe_letter(query, (char) kind);
    db_recipe_letter(query, (char) path->nsteps);

    for (i = 0; i < path->nsteps; i++) {
        db_recipe_add(query, &path->steps[i].data, sizeof(char *));
    }
}


static int
db_path_eq(const db_path_t *a, const db_path_t *b)
{
    unsigned  i;

    if (a->nsteps != b->nsteps) {
        return 0;
    }

    for (i = 0; i < a->nsteps; i++) {
        if (!db_str_eq(a->steps[i], b->steps[i])) {
            return 0;
        }
    }

    return 1;
}


/* The kind of a path that is the id or in an index, else DB_VALUE_NULL. */

static db_value_kind_t
db_query_kind(const db_collection_t *collection, const db_path_t *path)
{
    unsigned           i, j;
    const db_index_t  *index;

    if (db_sqlite_is_id(path)) {
        return collection->id_kind;
    }

    for (i = 0; i < collection->nindexes; i++) {
        index = &collection->indexes[i];

        for (j = 0; j < index->nkeys; j++) {
            if (db_path_eq(&index->keys[j].path, path)) {
                return index->keys[j].kind;
            }
        }
    }

    return DB_VALUE_NULL;
}


/* Of the kind of its key; null, where it is one value among others. */

static int
db_query_fits(db_value_kind_t kind, const db_value_t *value, int null)
{
    if (value->kind == DB_VALUE_NULL) {
        return null;
    }

    if (kind == DB_VALUE_INT || kind == DB_VALUE_REAL) {
        return value->kind == DB_VALUE_INT || value->kind == DB_VALUE_REAL;
    }

    return value->kind == kind;
}


/* Whether a unique index may have what the condition looks for. */

static int
db_query_is_unique(const db_collection_t *collection,
    const db_condition_t *condition)
{
    unsigned           i, j;
    const db_index_t  *index;

    for (i = 0; i < condition->nvalues; i++) {
        if (condition->values[i].kind == DB_VALUE_NULL) {
            return 0;
        }
    }

    for (i = 0; i < collection->nindexes; i++) {
        index = &collection->indexes[i];

        for (j = 0; index->unique && j < index->nkeys; j++) {
            if (db_path_eq(&index->keys[j].path, &condition->path)) {
                return 1;
            }
        }
    }

    return 0;
}


static void
db_query_term(db_query_t *query, const db_condition_t *condition,
    db_value_kind_t kind)
{
    db_term_t  *term;

    term = &query->terms[query->nterms++];
    term->condition = condition;
    term->kind = kind;
    term->nparams = 1;
    term->unique = db_query_is_unique(query->op->collection, condition);

    /* a round number of parameters: the last value fills it up */

    while (term->nparams < condition->nvalues) {
        term->nparams *= 2;
    }

    db_recipe_letter(query, (char) condition->kind);
    db_recipe_letter(query, (char) term->unique);
    db_recipe_add(query, &term->nparams, sizeof(term->nparams));
    db_recipe_key(query, &condition->path, kind);
}


static int
db_query_is_term(const db_query_t *query, const db_condition_t *condition,
    db_value_kind_t kind)
{
    unsigned  i;

    if (kind == DB_VALUE_NULL || query->nterms == DB_SQLITE_TERMS) {
        return 0;
    }

    switch (condition->kind) {

    case DB_CONDITION_EQ:
        return db_query_fits(kind, condition->values, 1);

    case DB_CONDITION_GT:
    case DB_CONDITION_GTE:
    case DB_CONDITION_LT:
    case DB_CONDITION_LTE:
        return kind != DB_VALUE_BOOL
               && db_query_fits(kind, condition->values, 0);

    case DB_CONDITION_IN:
        if (condition->nvalues > DB_SQLITE_IN) {
            return 0;
        }

        for (i = 0; i < condition->nvalues; i++) {
            if (!db_query_fits(kind, &condition->values[i], 1)) {
                return 0;
            }
        }

        return condition->nvalues > 0;

    default:
        return 0;
    }
}


static void
db_query_conditions(db_query_t *query, const db_store_op_t *op,
    const db_condition_t *condition)
{
    db_value_kind_t  kind;

    for ( ; condition; condition = condition->next) {

        if (condition->kind == DB_CONDITION_AND) {
            db_query_conditions(query, op, condition->nodes);
            continue;
        }

        kind = condition->scalar
               ? db_query_kind(op->collection, &condition->path)
               : DB_VALUE_NULL;

        if (db_query_is_term(query, condition, kind)) {
            db_query_term(query, condition, kind);

        } else {
            query->match = 1;
        }
    }
}


size_t
db_shape_size(const db_shape_t *shape)
{
    return offsetof(db_shape_t, recipe) + shape->len;
}


int
db_query_init(db_query_t *query, const db_store_op_t *op,
    db_shape_kind_t kind)
{
    unsigned  i;

    query->op = op;
    query->nterms = 0;
    query->match = 0;
    query->failed = 0;
    query->shape.collection = op->collection;
    query->shape.kind = kind;
    query->shape.len = 0;

    switch (kind) {

    case DB_SHAPE_LIST:
    case DB_SHAPE_COUNT:
        break;

    case DB_SHAPE_GET:
    case DB_SHAPE_LOOK:

        /* of one document all of them are asked by databridge_match() */

        if (op->conditions) {
            query->match = 1;
            db_recipe_letter(query, 1);
        }

        return DB_OK;

    default:
        return DB_OK;
    }

    db_query_conditions(query, op, op->conditions);
    db_recipe_letter(query, (char) query->match);

    if (kind == DB_SHAPE_LIST) {
        db_recipe_letter(query, op->after != NULL);

        for (i = 0; i < op->nsort; i++) {
            db_recipe_letter(query, (char) op->sort[i].descending);
            db_recipe_key(query, &op->sort[i].path, op->sort[i].kind);
        }
    }

    return query->failed ? DB_ERROR : DB_OK;
}


/* Whether a range of the same key is bounded at its other end as well. */

static int
db_query_bounded(const db_query_t *query, unsigned n)
{
    int                    upper;
    unsigned               i;
    const db_condition_t  *condition, *other;

    condition = query->terms[n].condition;
    upper = condition->kind == DB_CONDITION_LT
            || condition->kind == DB_CONDITION_LTE;

    for (i = 0; i < query->nterms; i++) {
        other = query->terms[i].condition;

        if (db_path_eq(&other->path, &condition->path)
            && (upper ? other->kind == DB_CONDITION_GT
                        || other->kind == DB_CONDITION_GTE
                      : other->kind == DB_CONDITION_LT
                        || other->kind == DB_CONDITION_LTE))
        {
            return 1;
        }
    }

    return 0;
}


/* The open end of a range stays within the values of the type. */

static void
db_sql_open_end(sqlite3_str *sql, const db_query_t *query, unsigned n)
{
    int                    upper, text;
    const db_term_t       *term;
    const db_condition_t  *condition;

    term = &query->terms[n];
    condition = term->condition;

    if (db_sqlite_is_id(&condition->path) || db_query_bounded(query, n)) {
        return;
    }

    upper = condition->kind == DB_CONDITION_LT
            || condition->kind == DB_CONDITION_LTE;
    text = (term->kind == DB_VALUE_TEXT);

    sqlite3_str_appendall(sql, " AND ");
    db_sqlite_key(sql, &condition->path, term->kind);
    sqlite3_str_appendall(sql, upper ? (text ? " >= ''" : " > -9e999")
                                     : (text ? " < x''" : " < ''"));
}


/* What follows a key: the comparison with its values. */

static void
db_sql_values(sqlite3_str *sql, const db_term_t *term, unsigned param)
{
    unsigned  i;

    static const char  *const operators[] = {
        [DB_CONDITION_EQ] = "=",
        [DB_CONDITION_GT] = ">",
        [DB_CONDITION_GTE] = ">=",
        [DB_CONDITION_LT] = "<",
        [DB_CONDITION_LTE] = "<=",
    };

    if (term->condition->kind != DB_CONDITION_IN) {
        sqlite3_str_appendf(sql, " %s ?%u", operators[term->condition->kind],
                            param);
        return;
    }

    for (i = 0; i < term->nparams; i++) {
        sqlite3_str_appendf(sql, i ? ", ?%u" : " IN (?%u", param + i);
    }

    sqlite3_str_appendall(sql, ")");
}


static void
db_sql_term(sqlite3_str *sql, const db_query_t *query, unsigned n,
    unsigned param)
{
    const db_term_t  *term;
    const db_path_t  *path;

    term = &query->terms[n];
    path = &term->condition->path;

    db_sqlite_key(sql, path, term->kind);
    db_sql_values(sql, term, param);

    if (term->condition->kind != DB_CONDITION_EQ
        && term->condition->kind != DB_CONDITION_IN)
    {
        db_sql_open_end(sql, query, n);
    }

    /* once more as a unique index has it, for either to be used */

    if (term->unique) {
        sqlite3_str_appendall(sql, " AND ");
        db_sqlite_unique_key(sql, path, term->kind);
        db_sql_values(sql, term, param);
    }
}


/* a < x OR a = x AND (b < y OR ...), and a <= x for the index to begin at. */

static void
db_sql_after(sqlite3_str *sql, const db_store_op_t *op, unsigned param)
{
    unsigned         i;
    const db_key_t  *key;

    if (op->nsort > 1) {
        db_sqlite_key(sql, &op->sort[0].path, op->sort[0].kind);
        sqlite3_str_appendf(sql, " %s ?%u AND (",
                            op->sort[0].descending ? "<=" : ">=", param);
    }

    for (i = 0; i < op->nsort; i++) {
        key = &op->sort[i];

        db_sqlite_key(sql, &key->path, key->kind);
        sqlite3_str_appendf(sql, " %s ?%u", key->descending ? "<" : ">",
                            param + i);

        if (i + 1 < op->nsort) {
            sqlite3_str_appendall(sql, " OR ");
            db_sqlite_key(sql, &key->path, key->kind);
            sqlite3_str_appendf(sql, " = ?%u AND (", param + i);
        }
    }

    for (i = 1; i < op->nsort; i++) {
        sqlite3_str_appendall(sql, ")");
    }

    if (op->nsort > 1) {
        sqlite3_str_appendall(sql, ")");
    }
}


/* Returns the number of the next parameter. */

static unsigned
db_sql_where(sqlite3_str *sql, const db_query_t *query)
{
    unsigned     i, param;
    const char  *joint;

    param = 1;
    joint = " WHERE ";

    for (i = 0; i < query->nterms; i++) {
        sqlite3_str_appendall(sql, joint);
        db_sql_term(sql, query, i, param);
        param += query->terms[i].nparams;
        joint = " AND ";
    }

    if (query->shape.kind == DB_SHAPE_LIST && query->op->after) {
        sqlite3_str_appendall(sql, joint);
        db_sql_after(sql, query->op, param);
        param += query->op->nsort;
        joint = " AND ";
    }

    if (query->match) {
        sqlite3_str_appendf(sql, "%sdatabridge_match(doc, ?%u)", joint,
                            param++);
    }

    return param;
}


static void
db_sql_list(sqlite3_str *sql, const db_query_t *query, int len,
    const char *name)
{
    unsigned              i, param;
    const db_key_t       *key;
    const db_store_op_t  *op;

    op = query->op;

    sqlite3_str_appendall(sql, "SELECT doc");

    for (i = 0; i < op->nsort; i++) {
        sqlite3_str_appendall(sql, ", ");
        db_sqlite_key(sql, &op->sort[i].path, op->sort[i].kind);
    }

    sqlite3_str_appendf(sql, " FROM \"%.*w\"", len, name);

    param = db_sql_where(sql, query);

    for (i = 0; i < op->nsort; i++) {
        key = &op->sort[i];

        sqlite3_str_appendall(sql, i ? ", " : " ORDER BY ");
        db_sqlite_key(sql, &key->path, key->kind);
        sqlite3_str_appendall(sql, key->descending ? " DESC" : "");
    }

    sqlite3_str_appendf(sql, " LIMIT ?%u OFFSET ?%u", param, param + 1);
}


char *
db_query_sql(const db_query_t *query)
{
    int           len;
    const char   *name;
    sqlite3_str  *sql;

    sql = sqlite3_str_new(NULL);
    name = query->shape.collection->name.data;
    len = (int) query->shape.collection->name.len;

    switch ((db_shape_kind_t) query->shape.kind) {

    case DB_SHAPE_GET:
        sqlite3_str_appendf(sql, "SELECT doc%s FROM \"%.*w\" WHERE id = ?1%s",
                            query->shape.collection->versioned ? ", v" : "",
                            len, name, query->match
                            ? " AND databridge_match(doc, ?2)" : "");
        break;

    case DB_SHAPE_ASKED:
        sqlite3_str_appendf(sql, "SELECT doc%s FROM \"" DB_SQLITE_ASKED "\""
                            " AS asked CROSS JOIN \"%.*w\" AS docs"
                            " ON docs.id = asked.id",
                            query->shape.collection->versioned ? ", v" : "",
                            len, name);
        break;

    case DB_SHAPE_LOOK:
        sqlite3_str_appendf(sql, "SELECT doc, v%s FROM \"%.*w\""
                            " WHERE id = ?1", query->match
                            ? ", databridge_match(doc, ?2)" : "", len, name);
        break;

    case DB_SHAPE_INSERT:
        sqlite3_str_appendf(sql, "INSERT INTO \"%.*w\" (id, doc, v)"
                            " VALUES (?1, ?2, 1)", len, name);
        break;

    case DB_SHAPE_REPLACE:
        sqlite3_str_appendf(sql, "UPDATE \"%.*w\" SET doc = ?2, v = v + 1"
                            " WHERE id = ?1", len, name);
        break;

    case DB_SHAPE_REMOVE:
        sqlite3_str_appendf(sql, "DELETE FROM \"%.*w\" WHERE id = ?1",
                            len, name);
        break;

    case DB_SHAPE_COUNT:
        sqlite3_str_appendf(sql, "SELECT count(*) FROM \"%.*w\"", len, name);
        db_sql_where(sql, query);
        break;

    case DB_SHAPE_LIST:
        db_sql_list(sql, query, len, name);
        break;
    }

    return sqlite3_str_finish(sql);
}


static sqlite3_int64
db_bind_clamp(uint64_t n)
{
    return n < INT64_MAX ? (sqlite3_int64) n : INT64_MAX - 1;
}


static int
db_bind_term(sqlite3_stmt *stmt, const db_term_t *term, int *param)
{
    int                    rc;
    unsigned               i, n;
    const db_condition_t  *condition;

    condition = term->condition;

    for (i = 0; i < term->nparams; i++) {
        n = i < condition->nvalues ? i : condition->nvalues - 1;

        rc = db_sqlite_bind_key(stmt, (*param)++, &condition->values[n]);
        if (rc != SQLITE_OK) {
            return rc;
        }
    }

    return SQLITE_OK;
}


static int
db_bind_list(const db_query_t *query, sqlite3_stmt *stmt)
{
    int                   rc, param;
    unsigned              i;
    const db_store_op_t  *op;

    op = query->op;
    rc = SQLITE_OK;
    param = 1;

    for (i = 0; rc == SQLITE_OK && i < query->nterms; i++) {
        rc = db_bind_term(stmt, &query->terms[i], &param);
    }

    if (query->shape.kind == DB_SHAPE_LIST && op->after) {
        for (i = 0; rc == SQLITE_OK && i < op->nsort; i++) {
            rc = db_sqlite_bind_key(stmt, param++, &op->after[i]);
        }
    }

    if (rc == SQLITE_OK && query->match) {
        rc = sqlite3_bind_pointer(stmt, param++, op->conditions,
                                  DB_SQLITE_MATCH, NULL);
    }

    if (rc != SQLITE_OK || query->shape.kind == DB_SHAPE_COUNT) {
        return rc;
    }

    /* one more than asked for: there is a next page, or there is none */

    rc = sqlite3_bind_int64(stmt, param, db_bind_clamp(op->limit) + 1);

    return rc == SQLITE_OK ? sqlite3_bind_int64(stmt, param + 1,
                                                db_bind_clamp(op->skip))
                           : rc;
}


static int
db_bind_one(const db_query_t *query, sqlite3_stmt *stmt)
{
    int  rc;

    rc = db_sqlite_bind_key(stmt, 1, &query->op->id);

    if (rc == SQLITE_OK && query->match) {
        rc = sqlite3_bind_pointer(stmt, 2, query->op->conditions,
                                  DB_SQLITE_MATCH, NULL);
    }

    return rc;
}


int
db_query_bind(const db_query_t *query, sqlite3_stmt *stmt)
{
    switch ((db_shape_kind_t) query->shape.kind) {

    case DB_SHAPE_LIST:
    case DB_SHAPE_COUNT:
        return db_bind_list(query, stmt);

    default:
        return db_bind_one(query, stmt);
    }
}


int
db_query_bind_write(const db_query_t *query, const db_store_item_t *item,
    sqlite3_stmt *stmt)
{
    int  rc;

    rc = db_sqlite_bind_key(stmt, 1, &item->id);

    if (rc == SQLITE_OK && query->shape.kind != DB_SHAPE_REMOVE) {
        rc = sqlite3_bind_text64(stmt, 2, item->document.data,
                                 item->document.len, SQLITE_STATIC,
                                 SQLITE_UTF8);
    }

    return rc;
}


/* databridge_match(doc, conditions) */

void
db_sqlite_match(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    int                    rc;
    db_str_t               doc;
    db_json_t             *root;
    db_arena_t            *arena;
    db_json_error_t        error;
    const db_condition_t  *conditions;

    conditions = sqlite3_value_pointer(argv[1], DB_SQLITE_MATCH);
    doc.data = sqlite3_value_blob(argv[0]);
    doc.len = (size_t) sqlite3_value_bytes(argv[0]);

    if (db_sqlite_spend(sqlite3_user_data(context),
                        doc.len / DB_SQLITE_PARSED))
    {
        sqlite3_result_error_code(context, SQLITE_INTERRUPT);
        return;
    }

    arena = db_arena_create(2 * doc.len + 1024);
    rc = arena ? db_json_read(arena, doc, &root, &error) : DB_ERROR;

    if (rc == DB_OK) {
        sqlite3_result_int(context, db_document_match(conditions, root));

    } else if (rc == DB_DECLINED) {
        sqlite3_result_error(context, "a document is not JSON", -1);

    } else {
        sqlite3_result_error_nomem(context);
    }

    if (arena) {
        db_arena_destroy(arena);
    }
}
