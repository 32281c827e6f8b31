/*
 * Decimals against their type: what pydantic's lax mode takes, and the text
 * that they are stored as.
 */

#include "crud/db_check.h"

#include <stdio.h>


/* The number of a text, or of what Python's str() makes of a number. */

static db_scalar_result_t
db_decimal_of(db_check_t *check, const db_json_t *node, db_decimal_t *d,
    int *finite)
{
    char       number[DB_JSON_REAL_SIZE];
    size_t     len;
    db_str_t   text;

    switch (node->kind) {

    case DB_JSON_STRING:
    case DB_JSON_BIGINT:
        text = node->u.text;
        break;

    case DB_JSON_INT:
        len = (size_t) snprintf(number, sizeof(number), "%lld",
                                (long long) node->u.integer);
        text = (db_str_t) { number, len };
        break;

    default: /* DB_JSON_REAL */
        len = db_json_real_repr(number, node->u.real);
        text = (db_str_t) { number, len };
    }

    return db_decimal_parse(check->arena, text, d, finite);
}


static void
db_decimal_too_many(db_check_t *check, const char *type, const char *name,
    const char *what, uint64_t limit, const char *where,
    const db_json_t *node, const db_loc_t *loc)
{
    int   n, m;
    char  msg[128], ctx[64];

    n = snprintf(msg, sizeof(msg), "Decimal input should have no more than "
                 "%llu %s%s%s", (unsigned long long) limit, what,
                 limit == 1 ? "" : "s", where);
    m = snprintf(ctx, sizeof(ctx), "\"%s\":%llu", name,
                 (unsigned long long) limit);

    db_check_error(check, type, loc, (db_str_t) { msg, (size_t) n }, node,
                   (db_str_t) { ctx, (size_t) m });
}


/* max_digits and decimal_places, of it and of what it is normalized to. */

static int
db_decimal_fits(db_check_t *check, const db_type_t *type,
    const db_decimal_t *d, const db_json_t *node, const db_loc_t *loc)
{
    uint64_t  digits, places, least, least_places, whole, limit;

    if (!type->has_min && !type->has_max) {
        return 1;
    }

    db_decimal_count(d, 0, &digits, &places);
    db_decimal_count(d, 1, &least, &least_places);

    if (type->has_max && digits > type->max && least > type->max) {
        db_decimal_too_many(check, "decimal_max_digits", "max_digits",
                            "digit", type->max, " in total", node, loc);
        return 0;
    }

    if (!type->has_min) {
        return 1;
    }

    if (places > type->min && least_places > type->min) {
        db_decimal_too_many(check, "decimal_max_places", "decimal_places",
                            "decimal place", type->min, "", node, loc);
        return 0;
    }

    if (!type->has_max) {
        return 1;
    }

    limit = type->max > type->min ? type->max - type->min : 0;
    whole = digits > places ? digits - places : 0;
    least = least > least_places ? least - least_places : 0;

    if (whole > limit && least > limit) {
        db_decimal_too_many(check, "decimal_whole_digits", "whole_digits",
                            "digit", limit, " before the decimal point", node,
                            loc);
        return 0;
    }

    return 1;
}


static int
db_decimal_breaks(const db_decimal_t *d, db_bound_kind_t kind,
    const db_decimal_t *bound)
{
    int  order;

    order = db_decimal_compare(d, bound);

    switch (kind) {

    case DB_BOUND_LE:
        return order > 0;

    case DB_BOUND_LT:
        return order >= 0;

    case DB_BOUND_GE:
        return order < 0;

    default: /* DB_BOUND_GT */
        return order <= 0;
    }
}


void
db_check_decimal(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc)
{
    int                  finite;
    db_buf_t             text;
    unsigned             i;
    db_decimal_t         d;
    db_scalar_result_t   result;

    switch (node->kind) {

    case DB_JSON_STRING:
    case DB_JSON_INT:
    case DB_JSON_BIGINT:
    case DB_JSON_REAL:
        break;

    default:
        db_check_fail(check, "decimal_type", loc, "Decimal input should be an "
                      "integer, float, string or Decimal object", node);
        return;
    }

    result = db_decimal_of(check, node, &d, &finite);

    if (result == DB_SCALAR_FAILED) {
        check->errors.failed = 1;
        return;
    }

    if (result != DB_SCALAR_OK) {
        db_check_fail(check, "decimal_parsing", loc,
                      "Input should be a valid decimal", node);
        return;
    }

    if (!finite) {
        db_check_fail(check, "finite_number", loc,
                      "Input should be a finite number", node);
        return;
    }

    if (!db_decimal_fits(check, type, &d, node, loc)) {
        return;
    }

    for (i = DB_BOUND_LE; type->bounds && i < DB_BOUNDS; i++) {
        if (type->bounds[i].set
            && db_decimal_breaks(&d, i, &type->bounds[i].decimal))
        {
            db_check_bound_failed(check, type, i, node, loc);
            return;
        }
    }

    db_buf_init(&text, check->arena, d.digits.len + 32);
    db_decimal_write(&text, &d);

    if (text.failed) {
        check->out->failed = 1;
        return;
    }

    db_check_write(check, (db_str_t) { text.data, text.len });
}
