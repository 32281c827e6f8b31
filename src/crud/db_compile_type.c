/*
 * Compiles the types of a schema, and holds what all of its compiler uses.
 */

#include "crud/db_compile.h"

#include <stdarg.h>
#include <stdio.h>


#define DB_SCHEMA_MAX_DIGITS  40       /* of a decimal's bound */


typedef struct {
    const char      *name;
    db_type_kind_t   kind;
    const char      *members[10];      /* besides those of every type */
} db_type_name_t;


static const db_type_name_t  db_type_names[] = {
    { "str", DB_TYPE_STR,
      { "min_length", "max_length", "pattern", "strip_whitespace" } },
    { "int", DB_TYPE_INT,
      { "gt", "ge", "lt", "le", "multiple_of", "strict" } },
    { "float", DB_TYPE_FLOAT,
      { "gt", "ge", "lt", "le", "multiple_of", "finite", "strict" } },
    { "bool", DB_TYPE_BOOL, { "strict" } },
    { "datetime", DB_TYPE_DATETIME, { NULL } },
    { "uuid", DB_TYPE_UUID, { NULL } },
    { "date", DB_TYPE_DATE, { NULL } },
    { "time", DB_TYPE_TIME, { NULL } },
    { "timedelta", DB_TYPE_TIMEDELTA, { NULL } },
    { "bytes", DB_TYPE_BYTES, { "min_length", "max_length" } },
    { "decimal", DB_TYPE_DECIMAL,
      { "gt", "ge", "lt", "le", "decimal_places", "max_digits" } },
    { "list", DB_TYPE_LIST, { "items", "min_items", "max_items", "tuple" } },
    { "dict", DB_TYPE_DICT, { "values", "min_items", "max_items" } },
    { "model", DB_TYPE_MODEL, { "model" } },
    { "literal", DB_TYPE_LITERAL, { "values" } },
    { "enum", DB_TYPE_ENUM, { "values", "mixin" } },
    { "tuple", DB_TYPE_TUPLE, { "items" } },
    { "union", DB_TYPE_UNION, { "choices" } },
    { "tagged", DB_TYPE_TAGGED, { "choices", "discriminator" } },
    { "any", DB_TYPE_ANY, { NULL } },
};


static const char *const  db_type_members[] = {
    "type", "nullable", NULL
};

static const char *const  db_field_members[] = {
    "type", "nullable", "name", "accepts", "default", "default_factory",
    "read_only", "immutable", "write_only", NULL
};


int
db_compile_error(db_compiler_t *c, const char *fmt, ...)
{
    int      n;
    va_list  args;

    n = 0;

    if (c->model.len) {
        n = snprintf(c->error, c->size, "%.*s%s%.*s: ",
                     (int) c->model.len, c->model.data,
                     c->field.len ? "." : "",
                     (int) c->field.len, c->field.data);
    }

    if ((size_t) n < c->size) {
        va_start(args, fmt);
        vsnprintf(c->error + n, c->size - (size_t) n, fmt, args);
        va_end(args);
    }

    return DB_ERROR;
}


const db_json_t *
db_member(const db_json_t *node, const char *name)
{
    size_t            len;
    const db_json_t  *member;

    len = strlen(name);

    for (member = node->u.child; member; member = member->next) {
        if (member->key.len == len
            && memcmp(member->key.data, name, len) == 0)
        {
            return member;
        }
    }

    return NULL;
}


static int
db_compile_listed(const char *const *names, db_str_t name)
{
    for ( ; names && *names; names++) {
        if (strlen(*names) == name.len
            && memcmp(*names, name.data, name.len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


/* Of one list or the other. */

static int
db_compile_members(db_compiler_t *c, const db_json_t *node, const char *what,
    const char *const *known, const char *const *more)
{
    const db_json_t  *member;

    if (node->kind != DB_JSON_OBJECT) {
        return db_compile_error(c, "%s must be an object", what);
    }

    for (member = node->u.child; member; member = member->next) {
        if (!db_compile_listed(known, member->key)
            && !db_compile_listed(more, member->key))
        {
            return db_compile_error(c, "%s has the unknown member \"%.*s\"",
                                    what, (int) member->key.len,
                                    member->key.data);
        }
    }

    return DB_OK;
}


int
db_compile_known(db_compiler_t *c, const db_json_t *node, const char *what,
    const char *const *known)
{
    return db_compile_members(c, node, what, known, NULL);
}


int
db_compile_text(db_compiler_t *c, const db_json_t *node, const char *name,
    db_str_t *text)
{
    const db_json_t  *member;

    member = db_member(node, name);

    if (member == NULL) {
        return db_compile_error(c, "the member \"%s\" is missing", name);
    }

    if (member->kind != DB_JSON_STRING) {
        return db_compile_error(c, "\"%s\" must be a string", name);
    }

    *text = member->u.text;

    return DB_OK;
}


int
db_compile_flag(db_compiler_t *c, const db_json_t *node, const char *name,
    unsigned *flag)
{
    const db_json_t  *member;

    *flag = 0;

    member = db_member(node, name);
    if (member == NULL) {
        return DB_OK;
    }

    if (member->kind != DB_JSON_TRUE && member->kind != DB_JSON_FALSE) {
        return db_compile_error(c, "\"%s\" must be true or false", name);
    }

    *flag = (member->kind == DB_JSON_TRUE);

    return DB_OK;
}


static int
db_compile_size(db_compiler_t *c, const db_json_t *node, const char *name,
    unsigned *has, uint64_t *size)
{
    const db_json_t  *member;

    *has = 0;

    member = db_member(node, name);
    if (member == NULL) {
        return DB_OK;
    }

    if (member->kind != DB_JSON_INT || member->u.integer < 0) {
        return db_compile_error(c, "\"%s\" must be an int of 0 or more", name);
    }

    *has = 1;
    *size = (uint64_t) member->u.integer;

    return DB_OK;
}


static int
db_compile_sizes(db_compiler_t *c, const db_json_t *node, db_type_t *type,
    const char *min, const char *max)
{
    unsigned  has_min, has_max;

    if (db_compile_size(c, node, min, &has_min, &type->min) != DB_OK
        || db_compile_size(c, node, max, &has_max, &type->max) != DB_OK)
    {
        return DB_ERROR;
    }

    type->has_min = has_min;
    type->has_max = has_max;

    return DB_OK;
}


/* Rust's Display of a float: as few digits as will do, no exponent. */

static db_str_t
db_real_display(db_arena_t *arena, double value)
{
    int        exponent, i;
    char       digits[24];
    unsigned   n;
    db_buf_t   buf;

    db_buf_init(&buf, arena, 0);

    if (value < 0) {
        db_buf_putc(&buf, '-');
        value = -value;
    }

    if (value == 0) {
        db_buf_putc(&buf, '0');
        return (db_str_t) { buf.data, buf.len };
    }

    n = db_json_real_digits(value, digits, &exponent);

    if (exponent <= 0) {
        db_buf_lit(&buf, "0.");
    }

    for (i = exponent; i < 0; i++) {
        db_buf_putc(&buf, '0');
    }

    for (i = 0; i < (int) n || i < exponent; i++) {
        if (i && i == exponent) {
            db_buf_putc(&buf, '.');
        }

        db_buf_putc(&buf, i < (int) n ? digits[i] : '0');
    }

    return buf.failed ? db_null_string : (db_str_t) { buf.data, buf.len };
}


/* Text, so that it is exact; FastAPI shows it as an int or a float. */

static int
db_compile_decimal(db_compiler_t *c, const db_json_t *member,
    db_bound_t *bound)
{
    int         finite;
    char        text[DB_JSON_REAL_SIZE];
    double      real;
    size_t      len;
    db_buf_t    message;
    db_arena_t  *arena;

    arena = c->crud->arena;

    if (member->kind != DB_JSON_STRING
        || db_decimal_parse(arena, member->u.text, &bound->decimal, &finite)
           != DB_SCALAR_OK
        || !finite || bound->decimal.digits.len > DB_SCHEMA_MAX_DIGITS
        || bound->decimal.exponent > DB_SCHEMA_MAX_DIGITS
        || bound->decimal.exponent < -DB_SCHEMA_MAX_DIGITS)
    {
        return db_compile_error(c, "\"%.*s\" must be a number in text, of "
                                "at most %d digits", (int) member->key.len,
                                member->key.data, DB_SCHEMA_MAX_DIGITS);
    }

    db_buf_init(&message, arena, 64);
    db_decimal_write(&message, &bound->decimal);

    bound->message = (db_str_t) { message.data, message.len };
    bound->ctx = bound->message;

    if (bound->decimal.exponent < 0) {
        len = (size_t) bound->decimal.negative;
        real = db_json_real_read((db_str_t) { message.data + len,
                                              message.len - len });

        len = db_json_real_repr(text, bound->decimal.negative ? -real : real);
        bound->ctx = db_arena_str(arena, (db_str_t) { text, len });

    } else if (bound->decimal.exponent > 0) {
        return db_compile_error(c, "\"%.*s\" must be written without an "
                                "exponent", (int) member->key.len,
                                member->key.data);
    }

    return message.failed || bound->ctx.data == NULL
           ? db_compile_error(c, "out of memory") : DB_OK;
}


static int
db_compile_bound(db_compiler_t *c, const db_json_t *member, db_type_t *type,
    db_bound_t *bound)
{
    char         text[DB_JSON_REAL_SIZE];
    db_buf_t     buf;
    db_arena_t  *arena;

    arena = c->crud->arena;

    bound->set = 1;

    if (type->kind == DB_TYPE_DECIMAL) {
        return db_compile_decimal(c, member, bound);
    }

    if (type->kind == DB_TYPE_INT) {

        if (member->kind != DB_JSON_INT) {
            return db_compile_error(c, "\"%.*s\" of an int must be an int of "
                                    "64 bits", (int) member->key.len,
                                    member->key.data);
        }

        bound->integer = member->u.integer;

        db_buf_init(&buf, arena, 0);
        db_json_write_int(&buf, bound->integer);

        bound->message = (db_str_t) { buf.data, buf.len };
        bound->ctx = bound->message;

        return buf.failed ? db_compile_error(c, "out of memory") : DB_OK;
    }

    if (member->kind == DB_JSON_INT) {
        bound->real = (double) member->u.integer;

    } else if (member->kind == DB_JSON_REAL) {
        bound->real = member->u.real;

    } else {
        return db_compile_error(c, "\"%.*s\" must be a number",
                                (int) member->key.len, member->key.data);
    }

    bound->message = db_real_display(arena, bound->real);
    bound->ctx = db_arena_str(arena,
        (db_str_t) { text, db_json_real_repr(text, bound->real) });

    if (bound->message.data == NULL || bound->ctx.data == NULL) {
        return db_compile_error(c, "out of memory");
    }

    return DB_OK;
}


static int
db_compile_bounds(db_compiler_t *c, const db_json_t *node, db_type_t *type)
{
    unsigned          i;
    db_bound_t       *bound;
    const db_json_t  *member;

    static const char  *const names[DB_BOUNDS] = {
        "multiple_of", "le", "lt", "ge", "gt"
    };

    for (i = 0; i < DB_BOUNDS; i++) {
        member = db_member(node, names[i]);
        if (member == NULL) {
            continue;
        }

        if (type->bounds == NULL) {
            type->bounds = db_arena_calloc(c->crud->arena,
                                           DB_BOUNDS * sizeof(db_bound_t));
            if (type->bounds == NULL) {
                return db_compile_error(c, "out of memory");
            }
        }

        bound = &type->bounds[i];

        if (db_compile_bound(c, member, type, bound) != DB_OK) {
            return DB_ERROR;
        }

        if (i == DB_BOUND_MULTIPLE && bound->integer <= 0
            && !(bound->real > 0))
        {
            return db_compile_error(c, "\"multiple_of\" must be above 0");
        }
    }

    return DB_OK;
}


static int
db_compile_str(db_compiler_t *c, const db_json_t *node, db_type_t *type)
{
    char              error[256];
    unsigned          strip;
    db_regex_t       *pattern;
    const db_json_t  *member;

    if (db_compile_sizes(c, node, type, "min_length", "max_length") != DB_OK
        || db_compile_flag(c, node, "strip_whitespace", &strip) != DB_OK)
    {
        return DB_ERROR;
    }

    type->strip = strip;

    member = db_member(node, "pattern");
    if (member == NULL) {
        return DB_OK;
    }

    if (db_compile_text(c, node, "pattern", &type->pattern_text) != DB_OK) {
        return DB_ERROR;
    }

    pattern = db_regex_create(type->pattern_text, db_null_string,
                              DB_REGEX_OWN, error, sizeof(error));
    if (pattern == NULL) {
        return db_compile_error(c, "the pattern cannot be matched natively: "
                                "%s", error);
    }

    pattern->next = c->crud->patterns;
    c->crud->patterns = pattern;
    type->pattern = pattern;

    return DB_OK;
}


static int
db_compile_items(db_compiler_t *c, const db_json_t *node, db_type_t *type,
    const char *name, unsigned depth)
{
    const db_json_t  *member;

    if (db_compile_sizes(c, node, type, "min_items", "max_items") != DB_OK) {
        return DB_ERROR;
    }

    member = db_member(node, name);

    if (member == NULL) {
        return db_compile_error(c, "the member \"%s\" is missing", name);
    }

    type->items = db_arena_calloc(c->crud->arena, sizeof(db_type_t));
    if (type->items == NULL) {
        return db_compile_error(c, "out of memory");
    }

    return db_compile_type(c, member, type->items, 0, depth + 1);
}


static int
db_compile_reference(db_compiler_t *c, const db_json_t *node, db_type_t *type)
{
    unsigned   i;
    db_str_t   name;

    if (db_compile_text(c, node, "model", &name) != DB_OK) {
        return DB_ERROR;
    }

    for (i = 0; i < c->crud->nmodels; i++) {
        if (db_str_eq(c->crud->models[i].name, name)) {
            type->model = &c->crud->models[i];
            return DB_OK;
        }
    }

    return db_compile_error(c, "the model \"%.*s\" is not in \"models\"",
                            (int) name.len, name.data);
}


/* What the kind of a type has beside its name. */

static int
db_compile_kind(db_compiler_t *c, const db_json_t *node, db_type_t *type,
    unsigned depth)
{
    unsigned  finite, tuple;

    switch (type->kind) {

    case DB_TYPE_STR:
        return db_compile_str(c, node, type);

    case DB_TYPE_FLOAT:
        if (db_compile_flag(c, node, "finite", &finite) != DB_OK) {
            return DB_ERROR;
        }

        type->finite = finite;

        /* fall through */

    case DB_TYPE_INT:
        return db_compile_bounds(c, node, type);

    case DB_TYPE_BYTES:
        return db_compile_sizes(c, node, type, "min_length", "max_length");

    case DB_TYPE_DECIMAL:
        if (db_compile_sizes(c, node, type, "decimal_places", "max_digits")
            != DB_OK)
        {
            return DB_ERROR;
        }

        return db_compile_bounds(c, node, type);

    case DB_TYPE_LIST:
        if (db_compile_flag(c, node, "tuple", &tuple) != DB_OK) {
            return DB_ERROR;
        }

        type->tuple = tuple;

        return db_compile_items(c, node, type, "items", depth);

    case DB_TYPE_DICT:
        return db_compile_items(c, node, type, "values", depth);

    case DB_TYPE_MODEL:
        return db_compile_reference(c, node, type);

    case DB_TYPE_LITERAL:
    case DB_TYPE_ENUM:
        return db_compile_values(c, node, type);

    case DB_TYPE_TUPLE:
        return db_compile_tuple(c, node, type, depth);

    case DB_TYPE_UNION:
    case DB_TYPE_TAGGED:
        return db_compile_union(c, node, type, depth);

    default:
        return DB_OK;
    }
}


static const db_type_name_t *
db_compile_find(db_str_t name)
{
    size_t  i;

    for (i = 0; i < sizeof(db_type_names) / sizeof(db_type_names[0]); i++) {
        if (strlen(db_type_names[i].name) == name.len
            && memcmp(db_type_names[i].name, name.data, name.len) == 0)
        {
            return &db_type_names[i];
        }
    }

    return NULL;
}


int
db_compile_type(db_compiler_t *c, const db_json_t *node, db_type_t *type,
    int field, unsigned depth)
{
    unsigned               nullable, strict;
    db_str_t               name;
    const db_type_name_t  *found;

    if (node->kind != DB_JSON_OBJECT) {
        return db_compile_error(c, "a type must be an object");
    }

    if (depth > DB_COMPILE_MAX_DEPTH) {
        return db_compile_error(c, "types are nested more than %d deep",
                                DB_COMPILE_MAX_DEPTH);
    }

    if (db_compile_text(c, node, "type", &name) != DB_OK
        || db_compile_flag(c, node, "nullable", &nullable) != DB_OK
        || db_compile_flag(c, node, "strict", &strict) != DB_OK)
    {
        return DB_ERROR;
    }

    found = db_compile_find(name);

    if (found == NULL) {
        return db_compile_error(c, "the type \"%.*s\" is not known",
                                (int) name.len, name.data);
    }

    if (db_compile_members(c, node, found->name, found->members,
                           field ? db_field_members : db_type_members)
        != DB_OK)
    {
        return DB_ERROR;
    }

    type->kind = found->kind;
    type->like = type->kind;
    type->nullable = nullable;
    type->strict = strict;

    return db_compile_kind(c, node, type, depth);
}
