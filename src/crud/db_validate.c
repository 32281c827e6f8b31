/*
 * The walk over a document and its model, as pydantic's validators do it in
 * lax mode: every field is looked at, in the order of the model, and the text
 * to be stored is written on the way.
 */

#include "crud/db_validate.h"

#include "crud/db_scalar.h"

#include <math.h>
#include <stdio.h>


/*
 * Errors beyond this many bytes are left out: each repeats its input, and a
 * hostile document could make that quadratic.
 */
#define DB_CHECK_MAX_ERRORS  (1024 * 1024)

#define DB_CHECK_MSG_SIZE    512


static void db_check_model(db_check_t *check, const db_model_t *model,
    const db_json_t *node, const db_loc_t *loc);


void
db_check_init(db_check_t *check, db_arena_t *arena, db_buf_t *out)
{
    check->arena = arena;
    check->out = out;
    check->nerrors = 0;
    check->integer = 0;
    check->real = 0;
    check->text = db_null_string;

    db_buf_init(&check->errors, arena, 0);
}


static void
db_check_write_loc(db_buf_t *buf, const db_loc_t *loc)
{
    if (loc->parent) {
        db_check_write_loc(buf, loc->parent);
        db_buf_putc(buf, ',');
    }

    if (loc->name.data) {
        db_json_write_string(buf, loc->name);

    } else {
        db_json_write_int(buf, (int64_t) loc->index);
    }
}


void
db_check_error(db_check_t *check, const char *type, const db_loc_t *loc,
    db_str_t msg, const db_json_t *input, db_str_t ctx)
{
    db_buf_t  *buf;

    buf = &check->errors;

    if (buf->len > DB_CHECK_MAX_ERRORS) {
        return;
    }

    if (check->nerrors++) {
        db_buf_putc(buf, ',');
    }

    db_buf_lit(buf, "{\"type\":\"");
    db_buf_append(buf, type, strlen(type));
    db_buf_lit(buf, "\",\"loc\":[");
    db_check_write_loc(buf, loc);
    db_buf_lit(buf, "],\"msg\":\"");
    db_buf_str(buf, msg);
    db_buf_lit(buf, "\",\"input\":");

    if (input) {
        db_json_write(buf, input);

    } else {
        db_buf_lit(buf, "null");
    }

    if (ctx.len) {
        db_buf_lit(buf, ",\"ctx\":{");
        db_buf_str(buf, ctx);
        db_buf_putc(buf, '}');
    }

    db_buf_putc(buf, '}');
}


#define db_check_fail(check, type, loc, msg, input)                           \
    db_check_error(check, type, loc, db_string(msg), input, db_null_string)


/* An error whose message ends in "error", which is its ctx as well. */

static void
db_check_fail_with(db_check_t *check, const char *type, const db_loc_t *loc,
    db_str_t msg, db_str_t error, const db_json_t *input)
{
    db_buf_t  text, quoted, ctx;

    /* the message is text in a string of ours: without its quotes */

    db_buf_init(&quoted, check->arena, DB_CHECK_MSG_SIZE);
    db_json_write_string(&quoted, error);

    db_buf_init(&text, check->arena, DB_CHECK_MSG_SIZE);
    db_buf_str(&text, msg);

    db_buf_init(&ctx, check->arena, DB_CHECK_MSG_SIZE);
    db_buf_lit(&ctx, "\"error\":");

    if (quoted.failed || text.failed || ctx.failed) {
        check->errors.failed = 1;
        return;
    }

    db_buf_append(&text, quoted.data + 1, quoted.len - 2);
    db_buf_append(&ctx, quoted.data, quoted.len);

    db_check_error(check, type, loc, (db_str_t) { text.data, text.len }, input,
                   (db_str_t) { ctx.data, ctx.len });
}


static void
db_check_bound_failed(db_check_t *check, const db_type_t *type,
    db_bound_kind_t kind, const db_json_t *node, const db_loc_t *loc)
{
    int                n, m;
    char               msg[DB_CHECK_MSG_SIZE], ctx[DB_CHECK_MSG_SIZE];
    const db_bound_t  *bound;

    static const struct {
        const char  *type;
        const char  *msg;
        const char  *name;
    } bounds[DB_BOUNDS] = {
        { "multiple_of", "a multiple of", "multiple_of" },
        { "less_than_equal", "less than or equal to", "le" },
        { "less_than", "less than", "lt" },
        { "greater_than_equal", "greater than or equal to", "ge" },
        { "greater_than", "greater than", "gt" },
    };

    bound = &type->bounds[kind];

    n = snprintf(msg, sizeof(msg), "Input should be %s %.*s",
                 bounds[kind].msg, (int) bound->message.len,
                 bound->message.data);
    m = snprintf(ctx, sizeof(ctx), "\"%s\":%.*s", bounds[kind].name,
                 (int) bound->ctx.len, bound->ctx.data);

    db_check_error(check, bounds[kind].type, loc,
                   (db_str_t) { msg, (size_t) n }, node,
                   (db_str_t) { ctx, (size_t) m });
}


static void
db_check_length_failed(db_check_t *check, const char *type, int min,
    uint64_t limit, const db_json_t *node, const db_loc_t *loc)
{
    int   n, m;
    char  msg[DB_CHECK_MSG_SIZE], ctx[DB_CHECK_MSG_SIZE];

    n = snprintf(msg, sizeof(msg),
                 "String should have at %s %llu character%s",
                 min ? "least" : "most", (unsigned long long) limit,
                 limit == 1 ? "" : "s");
    m = snprintf(ctx, sizeof(ctx), "\"%s_length\":%llu", min ? "min" : "max",
                 (unsigned long long) limit);

    db_check_error(check, type, loc, (db_str_t) { msg, (size_t) n }, node,
                   (db_str_t) { ctx, (size_t) m });
}


/* "actual" below 0: not known, more than the limit. */

static void
db_check_size_failed(db_check_t *check, const char *what, int min,
    uint64_t limit, int64_t actual, const db_json_t *node,
    const db_loc_t *loc)
{
    int   n, m;
    char  msg[DB_CHECK_MSG_SIZE], ctx[DB_CHECK_MSG_SIZE], number[24];

    snprintf(number, sizeof(number), "%lld", (long long) actual);

    n = snprintf(msg, sizeof(msg), "%s should have at %s %llu item%s after "
                 "validation, not %s", what, min ? "least" : "most",
                 (unsigned long long) limit, limit == 1 ? "" : "s",
                 actual < 0 ? "more" : number);

    m = snprintf(ctx, sizeof(ctx), "\"field_type\":\"%s\",\"%s_length\":%llu,"
                 "\"actual_length\":%s", what, min ? "min" : "max",
                 (unsigned long long) limit, actual < 0 ? "null" : number);

    db_check_error(check, min ? "too_short" : "too_long", loc,
                   (db_str_t) { msg, (size_t) n }, node,
                   (db_str_t) { ctx, (size_t) m });
}


static void
db_check_pattern_failed(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc)
{
    db_buf_t  quoted, msg, ctx;

    db_buf_init(&quoted, check->arena, 0);
    db_buf_init(&msg, check->arena, 0);
    db_buf_init(&ctx, check->arena, 0);

    db_json_write_string(&quoted, type->pattern_text);

    db_buf_lit(&msg, "String should match pattern '");
    db_buf_lit(&ctx, "\"pattern\":");

    if (!quoted.failed) {
        db_buf_append(&msg, quoted.data + 1, quoted.len - 2);
        db_buf_append(&ctx, quoted.data, quoted.len);
    }

    db_buf_putc(&msg, '\'');

    if (quoted.failed || msg.failed || ctx.failed) {
        check->errors.failed = 1;
        return;
    }

    db_check_error(check, "string_pattern_mismatch", loc,
                   (db_str_t) { msg.data, msg.len }, node,
                   (db_str_t) { ctx.data, ctx.len });
}


static void
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

    check->text = text;

    if (!node->plain) {
        db_json_write_string(check->out, text);

    } else if (db_buf_reserve(check->out, text.len + 2)) {
        check->out->data[check->out->len++] = '"';
        db_buf_str(check->out, text);
        check->out->data[check->out->len++] = '"';
    }
}


/* Whether a bound is broken by an int beyond 64 bits. */

static int
db_big_breaks(const db_integer_t *n, db_bound_kind_t kind, int64_t bound)
{
    size_t    i;
    uint64_t  divisor;

    unsigned __int128  rest;

    switch (kind) {

    case DB_BOUND_MULTIPLE:
        divisor = bound < 0 ? 0 - (uint64_t) bound : (uint64_t) bound;
        rest = 0;

        for (i = 0; i < n->digits.len; i++) {
            rest = (rest * 10 + (unsigned) (n->digits.data[i] - '0'))
                   % divisor;
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
        return bound != -1 && n % bound != 0;

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


static void
db_check_int(db_check_t *check, const db_type_t *type, const db_json_t *node,
    const db_loc_t *loc)
{
    unsigned             i;
    db_integer_t         n = { 0 };
    db_scalar_result_t   result;

    switch (node->kind) {

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

    /* pydantic takes a big one, but no store does */

    if (result != DB_SCALAR_OK) {
        db_check_fail(check, "int_parsing_size", loc,
                      "Unable to parse input string as an integer, exceeded "
                      "maximum size", node);
        return;
    }

    check->integer = n.value;
    db_json_write_int(check->out, n.value);
}


/* DB_DECLINED: neither a number nor text. */

static int
db_real_of(db_check_t *check, const db_json_t *node, double *value,
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


static void
db_check_float(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc)
{
    char                 text[DB_JSON_REAL_SIZE];
    double               n;
    unsigned             i;
    db_scalar_result_t   result;

    if (db_real_of(check, node, &n, &result) != DB_OK) {
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
        goto not_finite;
    }

    check->real = n;
    db_buf_append(check->out, text, db_json_real_text(text, n));
    return;

not_finite:

    db_check_fail(check, "finite_number", loc,
                  "Input should be a finite number", node);
}


static void
db_check_bool(db_check_t *check, const db_json_t *node, const db_loc_t *loc)
{
    int     value;
    double  n;

    switch (node->kind) {

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


static void
db_write_datetime(db_check_t *check, const db_datetime_t *dt)
{
    char  *text;

    text = db_arena_alloc(check->arena, DB_DATETIME_SIZE);
    if (text == NULL) {
        check->out->failed = 1;
        return;
    }

    check->text = (db_str_t) { text, db_datetime_format(text, dt) };

    db_buf_putc(check->out, '"');
    db_buf_str(check->out, check->text);
    db_buf_putc(check->out, '"');
}


static void
db_check_datetime(db_check_t *check, const db_json_t *node,
    const db_loc_t *loc)
{
    int                  date;
    double               n;
    const char          *error;
    db_datetime_t        dt;
    db_scalar_result_t   result;

    date = 0;

    switch (node->kind) {

    case DB_JSON_STRING:
        error = db_datetime_parse(node->u.text, &dt, &date);
        break;

    case DB_JSON_INT:
        error = db_datetime_from_int(node->u.integer, &dt);
        break;

    case DB_JSON_REAL:
    case DB_JSON_BIGINT:
        if (db_real_of(check, node, &n, &result) == DB_OK) {
            error = db_datetime_from_real(n, &dt);
            break;
        }

        /* fall through */

    default:
        db_check_fail(check, "datetime_type", loc,
                      "Input should be a valid datetime", node);
        return;
    }

    if (error == NULL) {
        db_write_datetime(check, &dt);
        return;
    }

    if (date) {
        db_check_fail_with(check, "datetime_from_date_parsing", loc,
                     db_string("Input should be a valid datetime or date, "),
                     (db_str_t) { error, strlen(error) }, node);
        return;
    }

    db_check_fail_with(check, "datetime_parsing", loc,
                       db_string("Input should be a valid datetime, "),
                       (db_str_t) { error, strlen(error) }, node);
}


static void
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

    check->text = (db_str_t) { text, DB_UUID_LENGTH };

    db_buf_putc(check->out, '"');
    db_buf_str(check->out, check->text);
    db_buf_putc(check->out, '"');
}


static void
db_check_list(db_check_t *check, const db_type_t *type, const db_json_t *node,
    const db_loc_t *loc)
{
    unsigned          before;
    db_loc_t          here;
    const db_json_t  *item;

    if (node->kind != DB_JSON_ARRAY) {
        db_check_fail(check, "list_type", loc,
                      "Input should be a valid list", node);
        return;
    }

    if (type->has_max && node->count > type->max) {
        db_check_size_failed(check, "List", 0, type->max, node->count, node,
                             loc);
        return;
    }

    before = check->nerrors;
    here = (db_loc_t) { loc, db_null_string, 0 };

    db_buf_putc(check->out, '[');

    for (item = node->u.child; item; item = item->next) {
        if (here.index) {
            db_buf_putc(check->out, ',');
        }

        db_check_value(check, type->items, item, &here);
        here.index++;
    }

    db_buf_putc(check->out, ']');

    if (type->has_min && node->count < type->min && check->nerrors == before) {
        db_check_size_failed(check, "List", 1, type->min, node->count, node,
                             loc);
    }
}


static void
db_check_dict(db_check_t *check, const db_type_t *type, const db_json_t *node,
    const db_loc_t *loc)
{
    size_t            before_len;
    uint64_t          good;
    unsigned          before, errors;
    db_loc_t          here;
    const db_json_t  *member;

    if (node->kind != DB_JSON_OBJECT) {
        db_check_fail(check, "dict_type", loc,
                      "Input should be a valid dictionary", node);
        return;
    }

    before = check->nerrors;
    before_len = check->errors.len;
    good = 0;
    here = (db_loc_t) { loc, db_null_string, 0 };

    db_buf_putc(check->out, '{');

    for (member = node->u.child; member; member = member->next) {
        if (member != node->u.child) {
            db_buf_putc(check->out, ',');
        }

        here.name = member->key;
        errors = check->nerrors;

        db_json_write_string(check->out, member->key);
        db_buf_putc(check->out, ':');
        db_check_value(check, type->items, member, &here);

        good += (check->nerrors == errors);

        if (type->has_max && good > type->max) {

            /* this one error stands for all others in here */

            check->nerrors = before;
            check->errors.len = before_len;

            db_check_size_failed(check, "Dictionary", 0, type->max, -1, node,
                                 loc);
            return;
        }
    }

    db_buf_putc(check->out, '}');

    if (type->has_min && node->count < type->min && check->nerrors == before) {
        db_check_size_failed(check, "Dictionary", 1, type->min, node->count,
                             node, loc);
    }
}


void
db_check_value(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc)
{
    if (node->kind == DB_JSON_NULL && type->nullable) {
        db_buf_lit(check->out, "null");
        return;
    }

    switch (type->kind) {

    case DB_TYPE_STR:
        db_check_str(check, type, node, loc);
        break;

    case DB_TYPE_INT:
        db_check_int(check, type, node, loc);
        break;

    case DB_TYPE_FLOAT:
        db_check_float(check, type, node, loc);
        break;

    case DB_TYPE_BOOL:
        db_check_bool(check, node, loc);
        break;

    case DB_TYPE_DATETIME:
        db_check_datetime(check, node, loc);
        break;

    case DB_TYPE_UUID:
        db_check_uuid(check, node, loc);
        break;

    case DB_TYPE_LIST:
        db_check_list(check, type, node, loc);
        break;

    case DB_TYPE_DICT:
        db_check_dict(check, type, node, loc);
        break;

    case DB_TYPE_MODEL:
        db_check_model(check, type->model, node, loc);
        break;
    }
}


int
db_check_default(db_check_t *check, const db_field_t *field)
{
    char           *text;
    db_datetime_t   dt;

    switch (field->fallback) {

    case DB_DEFAULT_NONE:
        return DB_DECLINED;

    case DB_DEFAULT_UUID4:
        text = db_arena_alloc(check->arena, DB_UUID_LENGTH);
        if (text == NULL || db_uuid_create(text) != DB_OK) {
            check->out->failed = 1;
            return DB_OK;
        }

        check->text = (db_str_t) { text, DB_UUID_LENGTH };
        db_buf_putc(check->out, '"');
        db_buf_str(check->out, check->text);
        db_buf_putc(check->out, '"');
        return DB_OK;

    case DB_DEFAULT_NOW:
        db_datetime_now(DB_NOW_LOCAL, &dt);
        break;

    case DB_DEFAULT_UTCNOW:
        db_datetime_now(DB_NOW_UTC, &dt);
        break;

    case DB_DEFAULT_NOW_UTC:
        db_datetime_now(DB_NOW_AWARE, &dt);
        break;

    default:
        db_buf_str(check->out, field->text);
        return DB_OK;
    }

    db_write_datetime(check, &dt);

    return DB_OK;
}


static void
db_check_field(db_check_t *check, const db_field_t *field,
    const db_json_t *value, const db_json_t *node, const db_loc_t *loc)
{
    db_loc_t  here;

    db_buf_str(check->out, field->key);

    here = (db_loc_t) { loc, field->name, 0 };

    if (value) {
        db_check_value(check, &field->type, value, &here);

    } else if (db_check_default(check, field) != DB_OK) {
        db_check_fail(check, "missing", &here, "Field required", node);
    }
}


/*
 * The members of an object by field.  They mostly come in the order of the
 * model, so the search goes on where the last one ended.
 */

static const db_json_t **
db_check_slots(db_check_t *check, const db_model_t *model,
    const db_json_t *node, unsigned *nunknown)
{
    unsigned           i, n;
    const db_json_t   *member, **slots;
    const db_field_t  *field;

    slots = db_arena_calloc(check->arena,
                            (model->nfields + 1) * sizeof(db_json_t *));
    if (slots == NULL) {
        check->out->failed = 1;
        return NULL;
    }

    i = 0;
    *nunknown = 0;

    for (member = node->u.child; member; member = member->next) {

        for (n = 0; n < model->nfields; n++) {
            field = &model->fields[i];

            if (++i == model->nfields) {
                i = 0;
            }

            if (db_str_eq(field->name, member->key)) {
                slots[field - model->fields] = member;
                break;
            }
        }

        *nunknown += (n == model->nfields);
    }

    return slots;
}


static int
db_model_has(const db_model_t *model, db_str_t name)
{
    unsigned  i;

    for (i = 0; i < model->nfields; i++) {
        if (db_str_eq(model->fields[i].name, name)) {
            return 1;
        }
    }

    return 0;
}


/* Errors for what the model does not know; "but" is no error. */

static void
db_check_unknown(db_check_t *check, const db_model_t *model,
    const db_json_t *node, const db_loc_t *loc, db_str_t but)
{
    db_loc_t          here;
    const db_json_t  *member;

    here = (db_loc_t) { loc, db_null_string, 0 };

    for (member = node->u.child; member; member = member->next) {
        here.name = member->key;

        if (!db_model_has(model, member->key)
            && !(but.len && db_str_eq(member->key, but)))
        {
            db_check_fail(check, "extra_forbidden", &here,
                          "Extra inputs are not permitted", member);
        }
    }
}


static int
db_check_is_object(db_check_t *check, const db_json_t *node,
    const db_loc_t *loc)
{
    if (node->kind == DB_JSON_OBJECT) {
        return 1;
    }

    db_check_fail(check, "model_attributes_type", loc, "Input should be a "
                  "valid dictionary or object to extract fields from", node);

    return 0;
}


static void
db_check_model(db_check_t *check, const db_model_t *model,
    const db_json_t *node, const db_loc_t *loc)
{
    unsigned           i, nunknown;
    const db_json_t  **slots;

    if (!db_check_is_object(check, node, loc)) {
        return;
    }

    slots = db_check_slots(check, model, node, &nunknown);
    if (slots == NULL) {
        return;
    }

    db_buf_putc(check->out, '{');

    for (i = 0; i < model->nfields; i++) {
        if (i) {
            db_buf_putc(check->out, ',');
        }

        db_check_field(check, &model->fields[i], slots[i], node, loc);
    }

    if (model->forbid && nunknown) {
        db_check_unknown(check, model, node, loc, db_null_string);
    }

    db_buf_putc(check->out, '}');
}


/* The id of a model that declares none. */

static void
db_check_objectid(db_check_t *check, db_str_t given)
{
    char  *text;

    db_buf_lit(check->out, "\"id\":");

    if (given.len) {
        db_buf_str(check->out, given);
        return;
    }

    text = db_arena_alloc(check->arena, DB_OBJECTID_LENGTH);
    if (text == NULL || db_objectid_create(text) != DB_OK) {
        check->out->failed = 1;
        return;
    }

    check->text = (db_str_t) { text, DB_OBJECTID_LENGTH };
    db_buf_putc(check->out, '"');
    db_buf_str(check->out, check->text);
    db_buf_putc(check->out, '"');
}


static void
db_check_take_id(db_check_t *check, const db_crud_t *crud, db_value_t *id)
{
    id->kind = crud->collection.id_kind;
    id->integer = check->integer;
    id->text = check->text;
}


void
db_check_document(db_check_t *check, const db_crud_t *crud,
    const db_json_t *node, const db_loc_t *loc, db_str_t given,
    db_value_t *id)
{
    unsigned            i, nunknown;
    db_str_t            but;
    const db_json_t   **slots;
    const db_field_t   *field;
    const db_model_t   *model;

    model = crud->model;

    if (!db_check_is_object(check, node, loc)) {
        return;
    }

    slots = db_check_slots(check, model, node, &nunknown);
    if (slots == NULL) {
        return;
    }

    db_buf_putc(check->out, '{');

    if (crud->id == NULL) {
        db_check_objectid(check, given);

        if (given.len == 0) {
            db_check_take_id(check, crud, id);
        }
    }

    for (i = 0; i < model->nfields; i++) {
        field = &model->fields[i];

        if (i || crud->id == NULL) {
            db_buf_putc(check->out, ',');
        }

        if (field != crud->id) {
            db_check_field(check, field, slots[i], node, loc);
            continue;
        }

        if (given.len) {
            db_buf_str(check->out, field->key);
            db_buf_str(check->out, given);
            continue;
        }

        db_check_field(check, field, slots[i], node, loc);
        db_check_take_id(check, crud, id);
    }

    if (model->forbid && nunknown) {

        /* a document that was read may be sent back as it is */

        but = given.len ? db_string("id") : db_null_string;

        db_check_unknown(check, model, node, loc, but);
    }

    db_buf_putc(check->out, '}');
}
