/*
 * The query of a list and what a store does with it: whatever is asked for,
 * it is refused with a message or it can be matched, projected and continued.
 */

#include "crud/db_filter.h"
#include "store/db_document.h"

#include <stdio.h>
#include <stdlib.h>


#define lit(text)  ((db_str_t) { text, sizeof(text) - 1 })

static const db_str_t  schema = lit(
    "{\"databridge\":1,\"model\":\"M\",\"collection\":\"m\",\"prefix\":\"/m\","
    "\"store\":\"s\",\"id\":\"objectid\",\"index\":[\"-n,s\",\"t\"],"
    "\"regex\":[\"s\",\"l\",\"c.s\"],\"fields\":["
    "{\"name\":\"n\",\"type\":\"int\",\"nullable\":true},"
    "{\"name\":\"f\",\"type\":\"float\"},{\"name\":\"s\",\"type\":\"str\"},"
    "{\"name\":\"b\",\"type\":\"bool\"},{\"name\":\"t\",\"type\":\"datetime\"},"
    "{\"name\":\"u\",\"type\":\"uuid\"},"
    "{\"name\":\"l\",\"type\":\"list\",\"items\":{\"type\":\"str\"}},"
    "{\"name\":\"c\",\"type\":\"list\",\"items\":{\"type\":\"model\","
    "\"model\":\"C\"}},{\"name\":\"m\",\"type\":\"model\",\"model\":\"C\"}],"
    "\"models\":{\"C\":{\"fields\":[{\"name\":\"s\",\"type\":\"str\"},"
    "{\"name\":\"n\",\"type\":\"int\"}]}}}");

static const db_str_t  document = lit(
    "{\"id\":\"65a000000000000000000001\",\"n\":5,\"f\":1.5,\"s\":\"abc\","
    "\"b\":true,\"t\":\"2024-01-01T00:00:00.500000+01:00\",\"u\":null,"
    "\"l\":[\"a\",\"b\"],\"c\":[{\"s\":\"x\",\"n\":1},{\"n\":null},null],"
    "\"m\":{\"s\":\"y\"}}");


static void
check(int condition)
{
    if (!condition) {
        abort();
    }
}


/* What the store answers leads to the next page of the same list. */

static void
check_next(const db_crud_t *crud, db_arena_t *arena, db_store_op_t *op)
{
    db_buf_t       out;
    unsigned       i;
    db_str_t       message;
    db_value_t    *last;
    db_regex_t    *patterns;
    db_store_op_t  again;

    last = db_arena_calloc(arena, op->nsort * sizeof(db_value_t));

    for (i = 0; i < op->nsort; i++) {
        last[i].kind = (i % 3 == 0) ? DB_VALUE_TEXT
                       : (i % 3 == 1) ? DB_VALUE_NULL : DB_VALUE_BOOL;
        last[i].text = lit("a\"\\\n");
    }

    op->last = last;

    db_buf_init(&out, arena, 0);
    db_buf_lit(&out, "after=");
    db_filter_next(&out, arena, op);

    memset(&again, 0, sizeof(again));
    patterns = NULL;
    check(!out.failed);

    /* without the sort it is another list's, unless that is by id */

    check(db_filter_parse(crud, arena, (db_str_t) { out.data, out.len },
                          &again, &patterns, &message)
          == (op->nsort == 1 && !op->sort->descending ? DB_OK : DB_DECLINED));
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int                 rc;
    char               *text;
    char                error[256];
    db_buf_t            out;
    db_str_t            message;
    db_json_t          *root, *projected;
    db_arena_t         *arena;
    db_regex_t         *patterns;
    db_store_op_t       op;
    db_json_error_t     fault;
    static db_crud_t   *crud;

    if (crud == NULL) {
        crud = db_crud_compile(schema, error, sizeof(error));

        if (crud == NULL) {
            fprintf(stderr, "%s\n", error);
            abort();
        }
    }

    arena = db_arena_create(4096);
    memset(&op, 0, sizeof(op));
    patterns = NULL;
    message = db_null_string;

    /* a copy of the exact size, so that reading past its end is seen */

    text = malloc(size ? size : 1);
    memcpy(text, data, size);

    rc = db_filter_parse(crud, arena, (db_str_t) { text, size }, &op,
                         &patterns, &message);

    if (rc == DB_OK) {
        check(op.nsort > 0 && op.limit > 0);
        check(db_json_read(arena, document, &root, &fault) == DB_OK);

        (void) db_document_match(op.conditions, root);

        db_buf_init(&out, arena, 0);
        db_document_project(&out, root, op.fields, op.nfields);
        check(db_json_read(arena, (db_str_t) { out.data, out.len },
                           &projected, &fault) == DB_OK);

        check_next(crud, arena, &op);

    } else {
        check(rc == DB_DECLINED && message.len > 0);
    }

    db_regex_destroy_all(patterns);
    db_arena_destroy(arena);
    free(text);

    return 0;
}
