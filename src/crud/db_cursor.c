/*
 * Keyset paging: "after" is base64url of a JSON list, the sort as it was
 * asked for and the keys of the last document.  Nothing in it is trusted: its
 * values are bound as any others, and it gives no access to what a list does
 * not show anyway.
 */

#include "crud/db_member.h"


static const char  db_cursor_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";


static void
db_cursor_encode(db_buf_t *out, const char *data, size_t len)
{
    size_t    i, n;
    uint32_t  bits;

    for (i = 0; i < len; i += 3) {
        n = (len - i < 3) ? len - i : 3;

        bits = (uint32_t) (unsigned char) data[i] << 16;
        bits |= n > 1 ? (uint32_t) (unsigned char) data[i + 1] << 8 : 0;
        bits |= n > 2 ? (uint32_t) (unsigned char) data[i + 2] : 0;

        db_buf_putc(out, db_cursor_digits[bits >> 18]);
        db_buf_putc(out, db_cursor_digits[bits >> 12 & 63]);

        if (n > 1) {
            db_buf_putc(out, db_cursor_digits[bits >> 6 & 63]);
        }

        if (n > 2) {
            db_buf_putc(out, db_cursor_digits[bits & 63]);
        }
    }
}


static int
db_cursor_decode(db_buf_t *out, db_str_t text)
{
    size_t       i;
    uint32_t     bits;
    unsigned     n;
    const char  *digit;

    bits = 0;
    n = 0;

    for (i = 0; i < text.len; i++) {
        digit = memchr(db_cursor_digits, text.data[i], 64);

        if (digit == NULL) {
            return DB_DECLINED;
        }

        bits = bits << 6 | (uint32_t) (digit - db_cursor_digits);
        n += 6;

        if (n >= 8) {
            n -= 8;
            db_buf_putc(out, (char) (bits >> n & 255));
        }
    }

    return DB_OK;
}


/* The sort in one way of writing it: paths with "-" before descending ones. */

static void
db_cursor_sort(db_buf_t *out, const db_store_op_t *op)
{
    unsigned         i, j;
    const db_key_t  *key;

    for (i = 0; i < op->nsort; i++) {
        key = &op->sort[i];

        db_buf_putc(out, key->descending ? '-' : '+');

        for (j = 0; j < key->path.nsteps; j++) {
            db_buf_append(out, ".", j != 0);
            db_buf_str(out, key->path.steps[j]);
        }
    }
}


void
db_filter_next(db_buf_t *out, db_arena_t *arena, const db_store_op_t *op)
{
    char               text[DB_JSON_REAL_SIZE];
    db_buf_t           json;
    unsigned           i;
    const db_value_t  *value;

    db_buf_init(&json, arena, 256);
    db_buf_lit(&json, "[\"");
    db_cursor_sort(&json, op);
    db_buf_putc(&json, '"');

    for (i = 0; i < op->nsort; i++) {
        value = &op->last[i];
        db_buf_putc(&json, ',');

        switch (value->kind) {

        case DB_VALUE_NULL:
            db_buf_lit(&json, "null");
            break;

        case DB_VALUE_BOOL:
            db_buf_str(&json, value->integer ? db_string("true")
                                             : db_string("false"));
            break;

        case DB_VALUE_INT:
        case DB_VALUE_TIME:
            db_json_write_int(&json, value->integer);
            break;

        case DB_VALUE_REAL:
            db_buf_append(&json, text, db_json_real_repr(text, value->real));
            break;

        case DB_VALUE_TEXT:
            db_json_write_string(&json, value->text);
            break;
        }
    }

    db_buf_putc(&json, ']');

    if (json.failed) {
        out->failed = 1;
        return;
    }

    db_cursor_encode(out, json.data, json.len);
}


static int
db_cursor_value(const db_key_t *key, const db_json_t *node, db_value_t *value)
{
    *value = (db_value_t) { .kind = DB_VALUE_NULL };

    switch (node->kind) {

    case DB_JSON_NULL:
        return DB_OK;

    case DB_JSON_FALSE:
    case DB_JSON_TRUE:
        value->kind = DB_VALUE_BOOL;
        value->integer = (node->kind == DB_JSON_TRUE);
        return DB_OK;

    case DB_JSON_INT:
        value->kind = (key->kind == DB_VALUE_TIME) ? DB_VALUE_TIME
                                                   : DB_VALUE_INT;
        value->integer = node->u.integer;
        return DB_OK;

    case DB_JSON_REAL:
        value->kind = DB_VALUE_REAL;
        value->real = node->u.real;
        return DB_OK;

    case DB_JSON_STRING:
        value->kind = DB_VALUE_TEXT;
        value->text = node->u.text;
        return DB_OK;

    default:
        return DB_DECLINED;
    }
}


int
db_filter_after(db_filter_t *f, db_str_t text)
{
    int               rc;
    db_buf_t          json, sort;
    unsigned          i;
    db_json_t        *root;
    db_value_t       *after;
    db_store_op_t    *op;
    db_json_error_t   error;
    const db_json_t  *node;

    op = f->op;
    db_buf_init(&json, f->arena, text.len + 1);
    db_buf_init(&sort, f->arena, 64);

    rc = db_cursor_decode(&json, text);

    if (json.failed) {
        return DB_ERROR;
    }

    if (rc == DB_OK) {
        rc = db_json_read(f->arena, (db_str_t) { json.data, json.len },
                          &root, &error);
    }

    if (rc == DB_DECLINED || (rc == DB_OK
                              && (root->kind != DB_JSON_ARRAY
                                  || root->u.child == NULL
                                  || root->u.child->kind != DB_JSON_STRING)))
    {
        return db_filter_error(f, "after must be the \"next\" of a list");
    }

    db_cursor_sort(&sort, op);
    after = db_arena_calloc(f->arena, op->nsort * sizeof(db_value_t));

    if (rc != DB_OK || sort.failed || after == NULL) {
        return DB_ERROR;
    }

    node = root->u.child;

    if (!db_str_eq(node->u.text, (db_str_t) { sort.data, sort.len })
        || root->count != op->nsort + 1)
    {
        return db_filter_error(f, "after is of a list with another sort");
    }

    for (i = 0; i < op->nsort; i++) {
        node = node->next;

        if (db_cursor_value(&op->sort[i], node, &after[i]) != DB_OK) {
            return db_filter_error(f, "after must be the \"next\" of a list");
        }
    }

    op->after = after;

    return DB_OK;
}
