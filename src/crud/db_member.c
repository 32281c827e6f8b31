/*
 * What the names in a query stand for, and values by the types of what they
 * are compared with.  What cannot be equal to any stored value is told to the
 * client instead of finding nothing.
 */

#include "crud/db_member.h"

#include "crud/db_validate.h"
#include "scalar/db_scalar.h"
#include "store/db_document.h"

#include <stdarg.h>
#include <stdio.h>


/* Steps of a path: models can hold themselves. */
#define DB_MEMBER_DEPTH  8


static const char *const  db_member_expected[] = {
    [DB_TYPE_STR] = "a str",
    [DB_TYPE_INT] = "an int of 64 bits",
    [DB_TYPE_FLOAT] = "a finite number",
    [DB_TYPE_BOOL] = "true or false",
    [DB_TYPE_DATETIME] = "a datetime",
    [DB_TYPE_UUID] = "a UUID",
    [DB_TYPE_DATE] = "a date",
    [DB_TYPE_TIME] = "a time",
    [DB_TYPE_BYTES] = "a str",
    [DB_TYPE_TIMEDELTA] = "a timedelta",
    [DB_TYPE_DECIMAL] = "a decimal number",
};


int
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


static int
db_member_unknown(db_filter_t *f, const db_member_t *member)
{
    return db_filter_error(f, "'%.*s' is not a field of %.*s",
                           (int) member->name.len, member->name.data,
                           (int) f->crud->name.len, f->crud->name.data);
}


static int
db_member_wrong(db_filter_t *f, const db_member_t *member,
    const db_type_t *type)
{
    return db_filter_error(f, "'%.*s' must be %s", (int) member->name.len,
                           member->name.data,
                           member->objectid ? "an id of 24 hex digits"
                           : db_member_expected[type->like]);
}


static int
db_member_id(db_filter_t *f, db_member_t *member)
{
    static const db_str_t   steps[] = { { "id", 2 } };
    static const db_type_t  objectid = { .kind = DB_TYPE_STR,
                                          .like = DB_TYPE_STR };

    member->path = (db_path_t) { steps, 1 };
    member->objectid = (f->crud->id == NULL);
    member->type = member->objectid ? &objectid : &f->crud->id->type;

    return DB_OK;
}


static const db_field_t *
db_member_field(const db_model_t *model, db_str_t name)
{
    unsigned  i;

    for (i = 0; i < model->nfields; i++) {
        if (db_str_eq(model->fields[i].name, name)) {
            return &model->fields[i];
        }
    }

    return NULL;
}


/* A list of models leads to their fields. */

static const db_model_t *
db_member_model(const db_type_t *type)
{
    if (type->kind == DB_TYPE_LIST) {
        type = type->items;
    }

    return type->kind == DB_TYPE_MODEL ? type->model : NULL;
}


static int
db_member_walk(db_filter_t *f, const db_model_t *model, db_str_t rest,
    db_member_t *member)
{
    db_str_t           step, *steps;
    unsigned           n;
    const char        *dot;
    const db_field_t  *field;

    steps = db_arena_alloc(f->arena, DB_MEMBER_DEPTH * sizeof(db_str_t));
    if (steps == NULL) {
        return DB_ERROR;
    }

    for (n = 0; n < DB_MEMBER_DEPTH; n++) {
        step = rest;
        dot = rest.len ? memchr(rest.data, '.', rest.len) : NULL;

        if (dot) {
            step.len = (size_t) (dot - rest.data);
        }

        field = db_member_field(model, step);

        if (field == NULL || (field->write_only && !f->declaring)) {
            return db_member_unknown(f, member);
        }

        steps[n] = field->name;
        member->type = &field->type;
        member->path = (db_path_t) { steps, n + 1 };

        if (dot == NULL) {
            return DB_OK;
        }

        member->lists |= (field->type.kind == DB_TYPE_LIST);
        model = db_member_model(&field->type);

        if (model == NULL) {
            return db_filter_error(f, "'%.*s' is not a field of %.*s: "
                                   "'%.*s' has no fields",
                                   (int) member->name.len, member->name.data,
                                   (int) f->crud->name.len,
                                   f->crud->name.data,
                                   (int) step.len, step.data);
        }

        rest = (db_str_t) { dot + 1, rest.len - step.len - 1 };
    }

    return db_filter_error(f, "'%.*s' leads through more than %d fields",
                           (int) member->name.len, member->name.data,
                           DB_MEMBER_DEPTH);
}


int
db_filter_member(db_filter_t *f, const db_model_t *model, db_str_t within,
    db_str_t name, db_member_t *member)
{
    db_buf_t  full;

    *member = (db_member_t) { .name = name };

    if (within.len) {
        db_buf_init(&full, f->arena, within.len + name.len + 1);
        db_buf_str(&full, within);
        db_buf_putc(&full, '.');
        db_buf_str(&full, name);

        if (full.failed) {
            return DB_ERROR;
        }

        member->name = (db_str_t) { full.data, full.len };

    } else if (db_str_eq(name, db_string("id"))
               || db_str_eq(name, db_string("_id")))
    {
        return db_member_id(f, member);
    }

    return db_member_walk(f, model, name, member);
}


db_value_kind_t
db_filter_kind(const db_type_t *type)
{
    switch (type->like) {

    case DB_TYPE_INT:
        return DB_VALUE_INT;

    case DB_TYPE_FLOAT:
        return DB_VALUE_REAL;

    case DB_TYPE_BOOL:
        return DB_VALUE_BOOL;

    case DB_TYPE_DATETIME:
        return DB_VALUE_TIME;

    default:
        return DB_VALUE_TEXT;
    }
}


static int
db_member_objectid(db_filter_t *f, const db_member_t *member, db_str_t text,
    db_value_t *value)
{
    char    *copy, c;
    size_t   i;

    copy = db_arena_alloc(f->arena, text.len + 1);
    if (copy == NULL) {
        return DB_ERROR;
    }

    for (i = 0; i < text.len; i++) {
        c = text.data[i];

        if (c >= 'A' && c <= 'F') {
            c |= 0x20;
        }

        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f')) {
            break;
        }

        copy[i] = c;
    }

    if (text.len != DB_OBJECTID_LENGTH || i != text.len) {
        return db_member_wrong(f, member, member->type);
    }

    *value = (db_value_t) { .kind = DB_VALUE_TEXT, .text = { copy, i } };

    return DB_OK;
}


/* As the validator reads it, whose lax mode the caller has thought of. */

static int
db_member_value(db_filter_t *f, const db_member_t *member,
    const db_type_t *type, const db_json_t *node, db_value_t *value)
{
    db_buf_t    out;
    db_loc_t    loc;
    db_type_t   bare;
    db_check_t  check;

    if (type->like >= DB_TYPE_LIST) {
        return db_filter_error(f, "'%.*s' cannot be compared with a value",
                               (int) member->name.len, member->name.data);
    }

    if (member->objectid) {
        return db_member_objectid(f, member, node->u.text, value);
    }

    /* the type alone: a condition may ask for what can no longer be stored */

    bare = (db_type_t) { .kind = type->like };
    loc = (db_loc_t) { NULL, member->name, 0 };

    db_buf_init(&out, f->arena, 0);
    db_check_init(&check, f->arena, &out);
    db_check_value(&check, &bare, node, &loc);

    if (out.failed || check.errors.failed) {
        return DB_ERROR;
    }

    if (check.nerrors) {
        return db_member_wrong(f, member, type);
    }

    *value = (db_value_t) { db_filter_kind(type), check.integer, check.real,
                            check.text };

    if (value->kind == DB_VALUE_TIME
        && db_document_time(check.text, &value->integer) != DB_OK)
    {
        return db_member_wrong(f, member, type);
    }

    return DB_OK;
}


int
db_filter_text_value(db_filter_t *f, const db_member_t *member,
    const db_type_t *type, db_str_t text, db_value_t *value)
{
    db_json_t  node;

    node = (db_json_t) { .kind = DB_JSON_STRING, .u.text = text };

    return db_member_value(f, member, type, &node, value);
}


int
db_filter_json_value(db_filter_t *f, const db_member_t *member,
    const db_type_t *type, const db_json_t *node, db_value_t *value)
{
    int  fits;

    if (node->kind == DB_JSON_NULL) {
        *value = (db_value_t) { .kind = DB_VALUE_NULL };
        return DB_OK;
    }

    /* JSON has types: "1" is not 1 */

    switch (type->like) {

    case DB_TYPE_INT:
        fits = (node->kind == DB_JSON_INT);
        break;

    case DB_TYPE_FLOAT:
        fits = (node->kind == DB_JSON_INT || node->kind == DB_JSON_REAL);
        break;

    case DB_TYPE_BOOL:
        fits = (node->kind == DB_JSON_TRUE || node->kind == DB_JSON_FALSE);
        break;

    case DB_TYPE_STR:
    case DB_TYPE_DATETIME:
    case DB_TYPE_UUID:
    case DB_TYPE_DATE:
    case DB_TYPE_TIME:
    case DB_TYPE_BYTES:
    case DB_TYPE_TIMEDELTA:
        fits = (node->kind == DB_JSON_STRING);
        break;

    default:
        fits = 1;
    }

    return fits ? db_member_value(f, member, type, node, value)
                : db_member_wrong(f, member, type);
}
