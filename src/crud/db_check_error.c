/*
 * The errors of validation, worded as pydantic words them and laid out as
 * FastAPI answers them.
 */

#include "crud/db_check.h"

#include <stdio.h>


/*
 * Errors beyond this many bytes are left out: each repeats its input, and a
 * hostile document could make that quadratic.
 */
#define DB_CHECK_MAX_ERRORS  (1024 * 1024)

#define DB_CHECK_MSG_SIZE    512


void
db_check_init(db_check_t *check, db_arena_t *arena, db_buf_t *out)
{
    check->arena = arena;
    check->out = out;
    check->nerrors = 0;
    check->stored = 0;
    check->secret = 0;
    check->unions = 0;
    check->exactness = 0;
    check->given = -1;
    check->work = 0;
    check->refused = 0;
    check->choice = NULL;
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

    check->nerrors++;

    if (buf->len > DB_CHECK_MAX_ERRORS) {
        return;
    }

    if (buf->len) {
        db_buf_putc(buf, ',');
    }

    db_buf_lit(buf, "{\"type\":\"");
    db_buf_append(buf, type, strlen(type));
    db_buf_lit(buf, "\",\"loc\":[");
    db_check_write_loc(buf, loc);
    db_buf_lit(buf, "],\"msg\":\"");
    db_buf_str(buf, msg);
    db_buf_lit(buf, "\",\"input\":");

    if (input && !check->secret) {
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


void
db_check_escape(db_buf_t *buf, db_str_t text)
{
    size_t  before;

    before = buf->len;
    db_json_write_string(buf, text);

    if (buf->failed) {
        return;
    }

    buf->len -= 2;
    memmove(buf->data + before, buf->data + before + 1, buf->len - before);
}


void
db_check_write_str(db_buf_t *buf, const db_json_t *node)
{
    switch (node->kind) {

    case DB_JSON_NULL:
        db_buf_lit(buf, "None");
        return;

    case DB_JSON_FALSE:
        db_buf_lit(buf, "False");
        return;

    case DB_JSON_TRUE:
        db_buf_lit(buf, "True");
        return;

    case DB_JSON_STRING:
        db_buf_str(buf, node->u.text);
        return;

    default:
        db_json_write(buf, node);
    }
}


void
db_check_fail_with(db_check_t *check, const char *type, const db_loc_t *loc,
    db_str_t msg, db_str_t error, const db_json_t *input)
{
    db_buf_t  text, ctx;

    db_buf_init(&text, check->arena, DB_CHECK_MSG_SIZE);
    db_buf_str(&text, msg);
    db_check_escape(&text, error);

    db_buf_init(&ctx, check->arena, DB_CHECK_MSG_SIZE);
    db_buf_lit(&ctx, "\"error\":");
    db_json_write_string(&ctx, error);

    if (text.failed || ctx.failed) {
        check->errors.failed = 1;
        return;
    }

    db_check_error(check, type, loc, (db_str_t) { text.data, text.len }, input,
                   (db_str_t) { ctx.data, ctx.len });
}


void
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


void
db_check_length_failed(db_check_t *check, const char *type, int min,
    uint64_t limit, const db_json_t *node, const db_loc_t *loc)
{
    int   n, m, bytes;
    char  msg[DB_CHECK_MSG_SIZE], ctx[DB_CHECK_MSG_SIZE];

    bytes = (type[0] == 'b');

    n = snprintf(msg, sizeof(msg), "%s should have at %s %llu %s%s",
                 bytes ? "Data" : "String", min ? "least" : "most",
                 (unsigned long long) limit,
                 bytes ? "byte" : "character", limit == 1 ? "" : "s");
    m = snprintf(ctx, sizeof(ctx), "\"%s_length\":%llu", min ? "min" : "max",
                 (unsigned long long) limit);

    db_check_error(check, type, loc, (db_str_t) { msg, (size_t) n }, node,
                   (db_str_t) { ctx, (size_t) m });
}


void
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


void
db_check_pattern_failed(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc)
{
    db_buf_t  msg, ctx;

    db_buf_init(&msg, check->arena, 0);
    db_buf_lit(&msg, "String should match pattern '");
    db_check_escape(&msg, type->pattern_text);
    db_buf_putc(&msg, '\'');

    db_buf_init(&ctx, check->arena, 0);
    db_buf_lit(&ctx, "\"pattern\":");
    db_json_write_string(&ctx, type->pattern_text);

    if (msg.failed || ctx.failed) {
        check->errors.failed = 1;
        return;
    }

    db_check_error(check, "string_pattern_mismatch", loc,
                   (db_str_t) { msg.data, msg.len }, node,
                   (db_str_t) { ctx.data, ctx.len });
}
