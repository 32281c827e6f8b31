/*
 * Compiles types that are a choice: one of some values, or of some types; and
 * tuples, which have a type for each place.
 */

#include "crud/db_check.h"
#include "crud/db_compile.h"


/* Python's repr() of a str, but that all beyond ASCII is as it is. */

static void
db_repr_text(db_buf_t *buf, db_str_t text)
{
    char               quote;
    size_t             i;
    unsigned char      c;

    static const char  hex[] = "0123456789abcdef";

    quote = (text.len && memchr(text.data, '\'', text.len)
             && memchr(text.data, '"', text.len) == NULL) ? '"' : '\'';

    db_buf_putc(buf, quote);

    for (i = 0; i < text.len; i++) {
        c = (unsigned char) text.data[i];

        switch (c) {

        case '\n':
            db_buf_lit(buf, "\\n");
            continue;

        case '\r':
            db_buf_lit(buf, "\\r");
            continue;

        case '\t':
            db_buf_lit(buf, "\\t");
            continue;

        default:
            break;
        }

        if (c < 0x20 || c == 0x7f) {
            db_buf_lit(buf, "\\x");
            db_buf_putc(buf, hex[c >> 4]);
            db_buf_putc(buf, hex[c & 0xf]);
            continue;
        }

        if (c == '\\' || c == (unsigned char) quote) {
            db_buf_putc(buf, '\\');
        }

        db_buf_putc(buf, (char) c);
    }

    db_buf_putc(buf, quote);
}


static void
db_repr_value(db_buf_t *buf, const db_json_t *node)
{
    if (node->kind == DB_JSON_STRING) {
        db_repr_text(buf, node->u.text);
        return;
    }

    db_check_write_str(buf, node);
}


/* What a value is compared as. */

static db_type_kind_t
db_value_like(const db_json_t *node)
{
    switch (node->kind) {

    case DB_JSON_STRING:
        return DB_TYPE_STR;

    case DB_JSON_INT:
        return DB_TYPE_INT;

    case DB_JSON_TRUE:
    case DB_JSON_FALSE:
        return DB_TYPE_BOOL;

    default:
        return DB_TYPE_ANY;
    }
}


static int
db_compile_mixin(db_compiler_t *c, const db_json_t *node, db_type_t *type)
{
    db_str_t  name;

    type->mixin = DB_TYPE_ANY;

    if (db_member(node, "mixin") == NULL) {
        return DB_OK;
    }

    if (db_compile_text(c, node, "mixin", &name) != DB_OK) {
        return DB_ERROR;
    }

    if (db_str_eq(name, db_string("str"))) {
        type->mixin = DB_TYPE_STR;

    } else if (db_str_eq(name, db_string("int"))) {
        type->mixin = DB_TYPE_INT;

    } else {
        return db_compile_error(c, "\"mixin\" must be \"str\" or \"int\"");
    }

    if (type->like != type->mixin) {
        return db_compile_error(c, "not all \"values\" are of the \"mixin\"");
    }

    return DB_OK;
}


int
db_compile_values(db_compiler_t *c, const db_json_t *node, db_type_t *type)
{
    db_buf_t          text;
    db_type_kind_t    like;
    const db_json_t  *values, *value;

    values = db_member(node, "values");

    if (values == NULL || values->kind != DB_JSON_ARRAY
        || values->count == 0)
    {
        return db_compile_error(c, "\"values\" must be a list of at least "
                                "one");
    }

    db_buf_init(&text, c->crud->arena, 64);
    type->values = values->u.child;

    for (value = values->u.child; value; value = value->next) {

        if (value->kind > DB_JSON_STRING || value->kind == DB_JSON_REAL
            || value->kind == DB_JSON_BIGINT)
        {
            return db_compile_error(c, "\"values\" may have str, int of 64 "
                                    "bits, true, false and null");
        }

        db_repr_value(&text, value);

        if (value->next) {
            db_buf_str(&text, value->next->next ? db_string(", ")
                                                : db_string(" or "));
        }

        like = db_value_like(value);

        if (value == type->values) {
            type->like = like;

        } else if (like != type->like && value->kind != DB_JSON_NULL) {
            type->like = DB_TYPE_ANY;
        }
    }

    if (text.failed) {
        return db_compile_error(c, "out of memory");
    }

    type->expected = (db_str_t) { text.data, text.len };

    return type->kind == DB_TYPE_ENUM ? db_compile_mixin(c, node, type)
                                      : DB_OK;
}


static db_choice_t *
db_compile_choices(db_compiler_t *c, const db_json_t *list, db_type_t *type)
{
    type->choices = db_arena_calloc(c->crud->arena,
                                    (list->count + 1) * sizeof(db_choice_t));
    if (type->choices == NULL) {
        db_compile_error(c, "out of memory");
    }

    return type->choices;
}


int
db_compile_tuple(db_compiler_t *c, const db_json_t *node, db_type_t *type,
    unsigned depth)
{
    db_choice_t      *choice;
    const db_json_t  *items, *item;

    items = db_member(node, "items");

    if (items == NULL || items->kind != DB_JSON_ARRAY) {
        return db_compile_error(c, "\"items\" of a tuple must be a list of "
                                "types");
    }

    choice = db_compile_choices(c, items, type);
    if (choice == NULL) {
        return DB_ERROR;
    }

    for (item = items->u.child; item; item = item->next, choice++) {
        if (db_compile_type(c, item, &choice->type, 0, depth + 1) != DB_OK) {
            return DB_ERROR;
        }

        type->nchoices++;
    }

    return DB_OK;
}


int
db_compile_union(db_compiler_t *c, const db_json_t *node, db_type_t *type,
    unsigned depth)
{
    db_buf_t            tags, quoted;
    const char         *label;
    const char         *known[3];
    db_choice_t        *choice;
    const db_json_t    *list, *member, *inner;

    label = type->kind == DB_TYPE_TAGGED ? "tag" : "label";
    known[0] = label;
    known[1] = "type";
    known[2] = NULL;

    list = db_member(node, "choices");

    if (list == NULL || list->kind != DB_JSON_ARRAY || list->count == 0) {
        return db_compile_error(c, "\"choices\" must be a list of at least "
                                "one");
    }

    db_buf_init(&quoted, c->crud->arena, 64);
    db_buf_init(&tags, c->crud->arena, 64);

    if (type->kind == DB_TYPE_TAGGED) {
        if (db_compile_text(c, node, "discriminator", &type->discriminator)
            != DB_OK)
        {
            return DB_ERROR;
        }

        db_repr_text(&quoted, type->discriminator);
    }

    choice = db_compile_choices(c, list, type);
    if (choice == NULL) {
        return DB_ERROR;
    }

    for (member = list->u.child; member; member = member->next, choice++) {

        if (db_compile_known(c, member, "a choice", known) != DB_OK
            || db_compile_text(c, member, label, &choice->label) != DB_OK)
        {
            return DB_ERROR;
        }

        inner = db_member(member, "type");

        if (inner == NULL) {
            return db_compile_error(c, "the member \"type\" is missing");
        }

        if (db_compile_type(c, inner, &choice->type, 0, depth + 1) != DB_OK) {
            return DB_ERROR;
        }

        db_repr_text(&tags, choice->label);
        db_buf_str(&tags, member->next ? db_string(", ") : db_null_string);
        type->nchoices++;
    }

    if (tags.failed || quoted.failed) {
        return db_compile_error(c, "out of memory");
    }

    type->quoted = (db_str_t) { quoted.data, quoted.len };
    type->expected = (db_str_t) { tags.data, tags.len };

    return DB_OK;
}
