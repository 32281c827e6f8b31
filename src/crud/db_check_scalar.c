/*
 * Scalars against their types: what pydantic's lax mode takes, and the text
 * that it is stored as.
 */

#include "crud/db_check.h"

#include <math.h>


void
db_check_write(db_check_t *check, db_str_t text)
{
    check->text = text;

    if (db_buf_reserve(check->out, text.len + 2) == NULL) {
        return;
    }

    check->out->data[check->out->len++] = '"';
    db_buf_str(check->out, text);
    check->out->data[check->out->len++] = '"';
}


void
db_check_str(db_check_t *check, const db_type_t *type, const db_json_t *node,
    const db_loc_t *loc)
{
    size_t     length;
    db_str_t   text;

    if (node->kind != DB_JSON_STRING) {
        db_check_fail(check, "string_type", loc,
                      "Input should be a valid string", node);
        return;
    }

    text = node->u.text;

    if (type->strip) {
        text = db_text_trim(text);
    }

    if (type->has_min || type->has_max) {
        length = db_text_length(text);

        if (type->has_min && length < type->min) {
            db_check_length_failed(check, "string_too_short", 1, type->min,
                                   node, loc);
            return;
        }

        if (type->has_max && length > type->max) {
            db_check_length_failed(check, "string_too_long", 0, type->max,
                                   node, loc);
            return;
        }
    }

    if (type->pattern && !db_regex_match(type->pattern, text)) {
        db_check_pattern_failed(check, type, node, loc);
        return;
    }

    if (node->plain) {
        db_check_write(check, text);
        return;
    }

    check->text = text;
    db_json_write_string(check->out, text);
}


/* What it is written as, is its UTF-8. */

void
db_check_bytes(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc)
{
    if (node->kind != DB_JSON_STRING) {
        db_check_fail(check, "bytes_type", loc,
                      "Input should be a valid bytes", node);
        return;
    }

    if (type->has_min && node->u.text.len < type->min) {
        db_check_length_failed(check, "bytes_too_short", 1, type->min, node,
                               loc);
        return;
    }

    if (type->has_max && node->u.text.len > type->max) {
        db_check_length_failed(check, "bytes_too_long", 0, type->max, node,
                               loc);
        return;
    }

    check->text = node->u.text;
    db_json_write_string(check->out, node->u.text);
}


/* Whether a bound is broken by an int beyond 64 bits. */

static int
db_big_breaks(const db_integer_t *n, db_bound_kind_t kind, int64_t bound)
{
    size_t             i;
    unsigned __int128  rest;

    switch (kind) {

    case DB_BOUND_MULTIPLE:
        rest = 0;

        for (i = 0; i < n->digits.len; i++) {
            rest = (rest * 10 + (unsigned) (n->digits.data[i] - '0'))
                   % (uint64_t) bound;
        }

        return rest != 0;

    case DB_BOUND_LE:
    case DB_BOUND_LT:
        return !n->negative;

    default:
        return n->negative;
    }
}


static int
db_int_breaks(int64_t n, db_bound_kind_t kind, int64_t bound)
{
    switch (kind) {

    case DB_BOUND_MULTIPLE:
        return n % bound != 0;

    case DB_BOUND_LE:
        return n > bound;

    case DB_BOUND_LT:
        return n >= bound;

    case DB_BOUND_GE:
        return n < bound;

    default:
        return n <= bound;
    }
}


/* A comparison with NaN is broken, a multiple of it is not. */

static int
db_real_breaks(double n, db_bound_kind_t kind, double bound)
{
    switch (kind) {

    case DB_BOUND_MULTIPLE:
        return fabs(n - round(n / bound) * bound) > 1e-9;

    case DB_BOUND_LE:
        return !(n <= bound);

    case DB_BOUND_LT:
        return !(n < bound);

    case DB_BOUND_GE:
        return !(n >= bound);

    default:
        return !(n > bound);
    }
}


static db_scalar_result_t
db_int_of(db_check_t *check, const db_json_t *node, db_integer_t *n)
{
    switch (node->kind) {

    case DB_JSON_INT:
        n->value = node->u.integer;
        return DB_SCALAR_OK;

    case DB_JSON_TRUE:
    case DB_JSON_FALSE:
        n->value = (node->kind == DB_JSON_TRUE);
        return DB_SCALAR_OK;

    case DB_JSON_BIGINT:
        n->digits = node->u.text;
        n->negative = (n->digits.data[0] == '-');
        n->digits.data += n->negative;
        n->digits.len -= (size_t) n->negative;
        return DB_SCALAR_BIG;

    default:
        return db_integer_parse(check->arena, node->u.text, n);
    }
}


void
db_check_too_big(db_check_t *check, const db_json_t *node,
    const db_loc_t *loc)
{
    check->refused++;

    db_check_fail(check, "int_parsing_size", loc,
                  "Unable to parse input string as an integer, exceeded "
                  "maximum size", node);
}


void
db_check_int(db_check_t *check, const db_type_t *type, const db_json_t *node,
    const db_loc_t *loc)
{
    unsigned             i;
    db_integer_t         n = { 0 };
    db_scalar_result_t   result;
    db_json_kind_t       kind;

    kind = node->kind;

    if (type->strict && kind != DB_JSON_INT && kind != DB_JSON_BIGINT) {
        kind = DB_JSON_NULL;
    }

    switch (kind) {

    case DB_JSON_NULL:
    case DB_JSON_ARRAY:
    case DB_JSON_OBJECT:
        db_check_fail(check, "int_type", loc,
                      "Input should be a valid integer", node);
        return;

    case DB_JSON_REAL:
        if (node->u.real != floor(node->u.real)) {
            db_check_fail(check, "int_from_float", loc,
                          "Input should be a valid integer, got a number with "
                          "a fractional part", node);
            return;
        }

        if (fabs(node->u.real) < 9223372036854775808.0) {
            n.value = (int64_t) node->u.real;
            result = DB_SCALAR_OK;

        } else {
            result = DB_SCALAR_TOO_LONG;
        }

        break;

    default:
        result = db_int_of(check, node, &n);
    }

    if (result == DB_SCALAR_INVALID) {
        db_check_fail(check, "int_parsing", loc,
                      "Input should be a valid integer, unable to parse "
                      "string as an integer", node);
        return;
    }

    if (result == DB_SCALAR_FAILED) {
        check->errors.failed = 1;
        return;
    }

    for (i = 0; type->bounds && i < DB_BOUNDS; i++) {

        if (!type->bounds[i].set || result == DB_SCALAR_TOO_LONG) {
            continue;
        }

        if (result == DB_SCALAR_BIG
            ? db_big_breaks(&n, i, type->bounds[i].integer)
            : db_int_breaks(n.value, i, type->bounds[i].integer))
        {
            db_check_bound_failed(check, type, i, node, loc);
            return;
        }
    }

    if (result != DB_SCALAR_OK) {
        db_check_too_big(check, node, loc);
        check->refused -= (result != DB_SCALAR_BIG);
        return;
    }

    check->integer = n.value;
    db_json_write_int(check->out, n.value);
}


int
db_check_real(db_check_t *check, const db_json_t *node, double *value,
    db_scalar_result_t *result)
{
    db_str_t  text;

    *result = DB_SCALAR_OK;

    switch (node->kind) {

    case DB_JSON_REAL:
        *value = node->u.real;
        return DB_OK;

    case DB_JSON_INT:
        *value = (double) node->u.integer;
        return DB_OK;

    case DB_JSON_TRUE:
    case DB_JSON_FALSE:
        *value = (node->kind == DB_JSON_TRUE);
        return DB_OK;

    case DB_JSON_STRING:
        *result = db_real_parse(check->arena, node->u.text, value);
        return DB_OK;

    case DB_JSON_BIGINT:
        text = node->u.text;

        if (text.data[0] == '-') {
            text.data++;
            text.len--;
        }

        *value = db_json_real_read(text);

        /* OverflowError in Python */

        if (isinf(*value)) {
            return DB_DECLINED;
        }

        if (node->u.text.data[0] == '-') {
            *value = -*value;
        }

        return DB_OK;

    default:
        return DB_DECLINED;
    }
}


void
db_check_float(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc)
{
    char                 text[DB_JSON_REAL_SIZE];
    double               n;
    unsigned             i;
    db_scalar_result_t   result;

    if ((type->strict && node->kind != DB_JSON_INT
         && node->kind != DB_JSON_BIGINT && node->kind != DB_JSON_REAL)
        || db_check_real(check, node, &n, &result) != DB_OK)
    {
        db_check_fail(check, "float_type", loc,
                      "Input should be a valid number", node);
        return;
    }

    if (result == DB_SCALAR_FAILED) {
        check->errors.failed = 1;
        return;
    }

    if (result != DB_SCALAR_OK) {
        db_check_fail(check, "float_parsing", loc,
                      "Input should be a valid number, unable to parse string "
                      "as a number", node);
        return;
    }

    if (type->finite && !isfinite(n)) {
        goto not_finite;
    }

    for (i = 0; type->bounds && i < DB_BOUNDS; i++) {
        if (type->bounds[i].set
            && db_real_breaks(n, i, type->bounds[i].real))
        {
            db_check_bound_failed(check, type, i, node, loc);
            return;
        }
    }

    /* there is no JSON for it, whatever the model allows */

    if (!isfinite(n)) {
        check->refused++;
        goto not_finite;
    }

    check->real = n;
    db_buf_append(check->out, text, db_json_real_text(text, n));
    return;

not_finite:

    db_check_fail(check, "finite_number", loc,
                  "Input should be a finite number", node);
}


void
db_check_bool(db_check_t *check, const db_type_t *type, const db_json_t *node,
    const db_loc_t *loc)
{
    int             value;
    double          n;
    db_json_kind_t  kind;

    kind = node->kind;

    if (type->strict && kind != DB_JSON_TRUE && kind != DB_JSON_FALSE) {
        kind = DB_JSON_NULL;
    }

    switch (kind) {

    case DB_JSON_TRUE:
    case DB_JSON_FALSE:
        value = (node->kind == DB_JSON_TRUE);
        goto done;

    case DB_JSON_STRING:
        if (db_bool_parse(node->u.text, &value) == DB_SCALAR_OK) {
            goto done;
        }

        break;

    case DB_JSON_INT:
    case DB_JSON_REAL:
        n = node->kind == DB_JSON_INT ? (double) node->u.integer
                                      : node->u.real;

        if (n == 0 || n == 1) {
            value = (n == 1);
            goto done;
        }

        if (node->kind == DB_JSON_INT
            || (n == floor(n) && fabs(n) < 9223372036854775808.0))
        {
            break;
        }

        /* fall through */

    default:
        db_check_fail(check, "bool_type", loc,
                      "Input should be a valid boolean", node);
        return;
    }

    db_check_fail(check, "bool_parsing", loc,
                  "Input should be a valid boolean, unable to interpret input",
                  node);
    return;

done:

    check->integer = value;

    if (value) {
        db_buf_lit(check->out, "true");

    } else {
        db_buf_lit(check->out, "false");
    }
}


void
db_check_uuid(db_check_t *check, const db_json_t *node, const db_loc_t *loc)
{
    char      *text;
    db_buf_t   error;

    if (node->kind != DB_JSON_STRING) {
        db_check_fail(check, "uuid_type", loc,
                      "UUID input should be a string, bytes or UUID object",
                      node);
        return;
    }

    text = db_arena_alloc(check->arena, DB_UUID_LENGTH);
    if (text == NULL) {
        check->out->failed = 1;
        return;
    }

    db_buf_init(&error, check->arena, 0);

    if (db_uuid_parse(node->u.text, text, &error) != DB_OK) {
        check->errors.failed |= error.failed;

        db_check_fail_with(check, "uuid_parsing", loc,
                           db_string("Input should be a valid UUID, "),
                           (db_str_t) { error.data, error.len }, node);
        return;
    }

    db_check_write(check, (db_str_t) { text, DB_UUID_LENGTH });
}
