/*
 * Documents as lines.  Texts are kept as they are, to the digit: they are
 * read to be checked, not to be written anew.
 */

#include "store/db_lines.h"

#include "json/db_json.h"

#include <stdio.h>


#define DB_LINES_OBJECTID  24


void
db_lines_append(db_buf_t *out, db_str_t documents)
{
    char         c;
    unsigned     depth;
    const char  *p, *end, *start;

    depth = 0;
    p = documents.data;
    end = p + documents.len;

    while (p < end) {
        c = *p;
        start = p++;

        switch (c) {

        case '"':

            while (p < end && *p != '"') {
                p += (*p == '\\') ? 2 : 1;
            }

            p = (p < end) ? p + 1 : end;
            db_buf_append(out, start, (size_t) (p - start));
            continue;

        case ' ':
        case '\t':
        case '\r':
        case '\n':
            continue;

        case ',':
            c = depth ? ',' : '\n';
            break;

        case '{':
        case '[':
            depth++;
            break;

        case '}':
        case ']':
            depth -= (depth != 0);
            break;
        }

        db_buf_putc(out, c);
    }

    if (documents.len) {
        db_buf_putc(out, '\n');
    }
}


static int
db_lines_is_objectid(db_str_t text)
{
    size_t  i;

    for (i = 0; i < text.len; i++) {
        if (!(text.data[i] >= '0' && text.data[i] <= '9')
            && !(text.data[i] >= 'a' && text.data[i] <= 'f'))
        {
            return 0;
        }
    }

    return text.len == DB_LINES_OBJECTID;
}


/* What is wrong with the id, or NULL. */

static const char *
db_lines_id(const db_collection_t *collection, const db_json_t *node,
    db_value_t *id)
{
    if (node == NULL) {
        return "it has no \"id\"";
    }

    id->kind = collection->id_kind;

    if (id->kind == DB_VALUE_INT) {

        if (node->kind != DB_JSON_INT) {
            return "its \"id\" must be an int of 64 bits";
        }

        id->integer = node->u.integer;

        return NULL;
    }

    if (node->kind != DB_JSON_STRING || node->u.text.len == 0) {
        return "its \"id\" must be a text that is not empty";
    }

    if (collection->objectid && !db_lines_is_objectid(node->u.text)) {
        return "its \"id\" must be 24 lower-case hexadecimal digits";
    }

    id->text = node->u.text;

    return NULL;
}


int
db_lines_read(db_arena_t *arena, const db_collection_t *collection,
    db_str_t line, db_store_item_t *item, char *error, size_t size)
{
    int               rc;
    db_buf_t          buf;
    db_json_t        *root, *node;
    const db_json_t  *id;
    const char       *what;
    db_json_error_t   fault;

    rc = db_json_read(arena, line, &root, &fault);

    if (rc == DB_DECLINED) {

        if (fault.fault == DB_JSON_SYNTAX) {
            snprintf(error, size, "not JSON: %s: character %zu",
                     fault.message, fault.position);
        } else {
            snprintf(error, size, "not JSON in UTF-8, or an int that is too"
                     " long");
        }
    }

    if (rc != DB_OK) {
        return rc;
    }

    if (root->kind != DB_JSON_OBJECT) {
        snprintf(error, size, "not a JSON object");
        return DB_DECLINED;
    }

    id = NULL;

    for (node = root->u.child; node; node = node->next) {
        if (db_str_eq(node->key, db_string("id"))) {
            id = node;
        }
    }

    what = db_lines_id(collection, id, &item->id);

    if (what) {
        snprintf(error, size, "%s", what);
        return DB_DECLINED;
    }

    db_buf_init(&buf, arena, line.len + 1);
    db_lines_append(&buf, line);

    if (buf.failed) {
        return DB_ERROR;
    }

    /* without the line's end */

    item->document = (db_str_t) { buf.data, buf.len - 1 };

    return DB_OK;
}
