/*
 * The query of a list.  Values are typed by the model, so that what cannot be
 * equal to any stored value is told to the client instead of finding nothing.
 */

#include "crud/db_filter.h"

#include "crud/db_validate.h"
#include "route/db_query.h"

#include <stdarg.h>
#include <stdio.h>


typedef struct {
    const db_crud_t  *crud;
    db_arena_t       *arena;
    db_store_op_t    *op;
    db_str_t         *message;
} db_filter_t;


__attribute__((format(printf, 2, 3)))
static int
db_filter_error(db_filter_t *f, const char *fmt, ...)
{
    int      n;
    char    *text;
    va_list  args;

    va_start(args, fmt);
    n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);

    text = db_arena_alloc(f->arena, (size_t) n + 1);
    if (text == NULL) {
        return DB_ERROR;
    }

    va_start(args, fmt);
    vsnprintf(text, (size_t) n + 1, fmt, args);
    va_end(args);

    *f->message = (db_str_t) { text, (size_t) n };

    return DB_DECLINED;
}


/* Plain digits, or -1. */

static int64_t
db_filter_number(db_str_t text)
{
    size_t   i;
    int64_t  n;

    if (text.len == 0 || text.len > 18) {
        return -1;
    }

    n = 0;

    for (i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return -1;
        }

        n = n * 10 + (text.data[i] - '0');
    }

    return n;
}


/* DB_DONE: the parameter is none of the three. */

static int
db_filter_option(db_filter_t *f, const db_query_pair_t *pair)
{
    int64_t  n;

    if (db_str_eq(pair->name, db_string("limit"))) {
        n = db_filter_number(pair->value);

        if (n < 1 || n > DB_FILTER_MAX_LIMIT) {
            return db_filter_error(f, "limit must be an int from 1 to %d",
                                   DB_FILTER_MAX_LIMIT);
        }

        f->op->limit = (uint64_t) n;
        return DB_OK;
    }

    if (db_str_eq(pair->name, db_string("skip"))) {
        n = db_filter_number(pair->value);

        if (n < 0) {
            return db_filter_error(f, "skip must be an int of 0 or more");
        }

        f->op->skip = (uint64_t) n;
        return DB_OK;
    }

    if (db_str_eq(pair->name, db_string("count"))) {

        if (db_str_eq(pair->value, db_string("true"))) {
            f->op->count = 1;

        } else if (db_str_eq(pair->value, db_string("false"))) {
            f->op->count = 0;

        } else {
            return db_filter_error(f, "count must be true or false");
        }

        return DB_OK;
    }

    return DB_DONE;
}


static const db_field_t *
db_filter_field(const db_model_t *model, db_str_t name)
{
    unsigned  i;

    for (i = 0; i < model->nfields; i++) {
        if (db_str_eq(model->fields[i].name, name)) {
            return &model->fields[i];
        }
    }

    return NULL;
}


static void
db_filter_step(db_buf_t *path, db_str_t name)
{
    db_buf_lit(path, ".\"");
    db_buf_str(path, name);
    db_buf_putc(path, '"');
}


/* The type behind a dotted name, whose JSON path is written. */

static int
db_filter_resolve(db_filter_t *f, db_str_t name, db_buf_t *path,
    const db_type_t **type)
{
    db_str_t           rest, step;
    const char        *dot;
    const db_field_t  *field;
    const db_model_t  *model;

    static const db_type_t  objectid = { .kind = DB_TYPE_STR };

    db_buf_putc(path, '$');

    if (f->crud->id == NULL && db_str_eq(name, db_string("id"))) {
        db_filter_step(path, name);
        *type = &objectid;
        return DB_OK;
    }

    model = f->crud->model;
    rest = name;

    for ( ;; ) {
        step = rest;
        dot = rest.len ? memchr(rest.data, '.', rest.len) : NULL;

        if (dot) {
            step.len = (size_t) (dot - rest.data);
        }

        field = db_filter_field(model, step);

        if (field == NULL) {
            return db_filter_error(f, "'%.*s' is not a field of %.*s",
                                   (int) name.len, name.data,
                                   (int) f->crud->name.len,
                                   f->crud->name.data);
        }

        db_filter_step(path, step);
        *type = &field->type;

        if (dot == NULL) {
            return DB_OK;
        }

        if (field->type.kind != DB_TYPE_MODEL) {
            return db_filter_error(f, "'%.*s' is not a field of %.*s: "
                                   "'%.*s' has no fields",
                                   (int) name.len, name.data,
                                   (int) f->crud->name.len,
                                   f->crud->name.data,
                                   (int) step.len, step.data);
        }

        model = field->type.model;
        rest = (db_str_t) { dot + 1, rest.len - step.len - 1 };
    }
}


static int
db_filter_value(db_filter_t *f, const db_query_pair_t *pair,
    db_type_kind_t kind, db_value_t *value)
{
    db_buf_t     out;
    db_loc_t     loc;
    db_type_t    type;
    db_json_t    node;
    db_check_t   check;

    static const char  *const names[] = {
        [DB_TYPE_INT] = "an int of 64 bits",
        [DB_TYPE_FLOAT] = "a finite number",
        [DB_TYPE_BOOL] = "true or false",
        [DB_TYPE_DATETIME] = "a datetime",
        [DB_TYPE_UUID] = "a UUID",
    };

    /* the type alone: a condition may ask for what can no longer be stored */

    type = (db_type_t) { .kind = kind };
    node = (db_json_t) { .kind = DB_JSON_STRING, .u.text = pair->value };
    loc = (db_loc_t) { NULL, pair->name, 0 };

    db_buf_init(&out, f->arena, 0);
    db_check_init(&check, f->arena, &out);
    db_check_value(&check, &type, &node, &loc);

    if (out.failed || check.errors.failed) {
        return DB_ERROR;
    }

    if (check.nerrors) {
        return db_filter_error(f, "'%.*s' must be %s", (int) pair->name.len,
                               pair->name.data, names[kind]);
    }

    value->integer = check.integer;
    value->real = check.real;
    value->text = check.text;

    switch (kind) {

    case DB_TYPE_INT:
        value->kind = DB_VALUE_INT;
        break;

    case DB_TYPE_FLOAT:
        value->kind = DB_VALUE_REAL;
        break;

    case DB_TYPE_BOOL:
        value->kind = DB_VALUE_BOOL;
        break;

    default:
        value->kind = DB_VALUE_TEXT;
    }

    return DB_OK;
}


static int
db_filter_condition(db_filter_t *f, const db_query_pair_t *pair)
{
    int               rc;
    db_buf_t          path;
    const db_type_t  *type;
    db_condition_t   *condition;

    if (f->op->nconditions == DB_FILTER_MAX_CONDITIONS) {
        return db_filter_error(f, "there can be at most %d conditions",
                               DB_FILTER_MAX_CONDITIONS);
    }

    db_buf_init(&path, f->arena, 0);

    type = NULL;

    rc = db_filter_resolve(f, pair->name, &path, &type);
    if (rc != DB_OK) {
        return rc;
    }

    if (path.failed) {
        return DB_ERROR;
    }

    condition = &f->op->conditions[f->op->nconditions];
    condition->path = (db_str_t) { path.data, path.len };
    condition->array = (type->kind == DB_TYPE_LIST);

    if (condition->array) {
        type = type->items;
    }

    if (type->kind >= DB_TYPE_LIST) {
        return db_filter_error(f, "'%.*s' cannot be compared with a value",
                               (int) pair->name.len, pair->name.data);
    }

    f->op->nconditions++;

    return db_filter_value(f, pair, type->kind, &condition->value);
}


int
db_filter_parse(const db_crud_t *crud, db_arena_t *arena, db_str_t query,
    db_store_op_t *op, db_str_t *message)
{
    int               rc;
    unsigned          i, npairs;
    db_filter_t       f;
    db_query_pair_t  *pairs;

    op->limit = DB_FILTER_LIMIT;

    if (query.len == 0) {
        return DB_OK;
    }

    f = (db_filter_t) { crud, arena, op, message };

    if (db_query_parse(arena, query, &pairs, &npairs) != DB_OK) {
        return DB_ERROR;
    }

    op->conditions = db_arena_calloc(arena, (npairs + 1)
                                            * sizeof(db_condition_t));
    if (op->conditions == NULL) {
        return DB_ERROR;
    }

    for (i = 0; i < npairs; i++) {

        if (!db_json_is_utf8(pairs[i].name)
            || !db_json_is_utf8(pairs[i].value))
        {
            return db_filter_error(&f, "the query must be UTF-8");
        }

        rc = db_filter_option(&f, &pairs[i]);

        if (rc == DB_DONE) {
            rc = db_filter_condition(&f, &pairs[i]);
        }

        if (rc != DB_OK) {
            return rc;
        }
    }

    return DB_OK;
}
