/*
 * Values that are one of some: Literal and Enum, as pydantic looks them up.
 */

#include "crud/db_check.h"

#include <math.h>


static void
db_check_not_expected(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc)
{
    db_buf_t  msg, ctx;

    db_buf_init(&msg, check->arena, type->expected.len + 32);
    db_buf_init(&ctx, check->arena, type->expected.len + 32);

    db_buf_lit(&msg, "Input should be ");
    db_check_escape(&msg, type->expected);

    db_buf_lit(&ctx, "\"expected\":");
    db_json_write_string(&ctx, type->expected);

    if (msg.failed || ctx.failed) {
        check->errors.failed = 1;
        return;
    }

    db_check_error(check, type->kind == DB_TYPE_ENUM ? "enum"
                                                     : "literal_error",
                   loc, (db_str_t) { msg.data, msg.len }, node,
                   (db_str_t) { ctx.data, ctx.len });
}


static const db_json_t *
db_check_same(const db_type_t *type, const db_json_t *node)
{
    const db_json_t  *value;

    for (value = type->values; value; value = value->next) {

        if (value->kind != node->kind) {
            continue;
        }

        switch (value->kind) {

        case DB_JSON_INT:
            if (value->u.integer == node->u.integer) {
                return value;
            }

            break;

        case DB_JSON_STRING:
            if (db_str_eq(value->u.text, node->u.text)) {
                return value;
            }

            break;

        default:
            return value;
        }
    }

    return NULL;
}


/* To Python 1, 1.0 and True are equal: a bool is found before an int. */

static const db_json_t *
db_check_equal(const db_type_t *type, const db_json_t *node)
{
    double            n;
    const db_json_t  *value, *found;

    switch (node->kind) {

    case DB_JSON_TRUE:
    case DB_JSON_FALSE:
        n = (node->kind == DB_JSON_TRUE);
        break;

    case DB_JSON_INT:
        n = (double) node->u.integer;

        if (n != 0 && n != 1) {
            return NULL;
        }

        break;

    case DB_JSON_REAL:
        n = node->u.real;
        break;

    default:
        return NULL;
    }

    found = NULL;

    for (value = type->values; value; value = value->next) {

        if ((value->kind == DB_JSON_TRUE && n == 1)
            || (value->kind == DB_JSON_FALSE && n == 0))
        {
            return value;
        }

        if (value->kind == DB_JSON_INT && fabs(n) < 9223372036854775808.0
            && n == (double) value->u.integer
            && (int64_t) n == value->u.integer)
        {
            found = value;
        }
    }

    return found;
}


static int
db_check_has_int(const db_type_t *type)
{
    const db_json_t  *value;

    for (value = type->values; value; value = value->next) {
        if (value->kind == DB_JSON_INT) {
            return 1;
        }
    }

    return 0;
}


/* DB_DECLINED: too large for any value. */

static int
db_check_find(db_check_t *check, const db_type_t *type, const db_json_t *node,
    const db_json_t **value)
{
    db_json_t           number;
    db_integer_t        n = { 0 };
    db_scalar_result_t  result;

    *value = NULL;

    if (node->kind == DB_JSON_BIGINT) {
        return db_check_has_int(type) ? DB_DECLINED : DB_OK;
    }

    if (type->kind == DB_TYPE_ENUM && type->mixin == DB_TYPE_INT
        && node->kind == DB_JSON_STRING)
    {
        result = db_integer_parse(check->arena, node->u.text, &n);

        if (result == DB_SCALAR_FAILED) {
            check->errors.failed = 1;
        }

        if (result == DB_SCALAR_OK) {
            number = (db_json_t) { .kind = DB_JSON_INT,
                                   .u.integer = n.value };
            *value = db_check_same(type, &number);
        }

        return result == DB_SCALAR_BIG ? DB_DECLINED : DB_OK;
    }

    *value = db_check_same(type, node);

    if (*value == NULL) {
        *value = db_check_equal(type, node);
    }

    return DB_OK;
}


void
db_check_values(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc)
{
    const db_json_t  *value;

    if (db_check_find(check, type, node, &value) != DB_OK) {
        db_check_fail(check, "int_parsing_size", loc,
                      "Unable to parse input string as an integer, exceeded "
                      "maximum size", node);
        return;
    }

    if (value == NULL) {
        db_check_not_expected(check, type, node, loc);
        return;
    }

    db_json_write(check->out, value);
}
