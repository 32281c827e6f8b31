/*
 * The JSON reader and the validation behind it: the first byte chooses the
 * operation, the rest is the body.
 *
 * Beyond what the sanitizers see: a document that was accepted is JSON, and
 * validating it again gives the same document; an answer is JSON too.
 */

#include "crud/db_crud.h"
#include "json/db_json.h"

#include <stdint.h>
#include <stdlib.h>


#define CHECK(what)  if (!(what)) { abort(); }


static const char  schema[] =
    "{\"databridge\":1,\"model\":\"Fuzzed\",\"collection\":\"fuzzed\","
    "\"prefix\":\"/fuzzed\",\"store\":\"main\",\"id\":\"str\","
    "\"extra\":\"forbid\",\"fields\":["
    "{\"name\":\"id\",\"type\":\"str\",\"default_factory\":\"uuid4\"},"
    "{\"name\":\"s\",\"type\":\"str\",\"nullable\":true,\"default\":null,"
    "\"min_length\":1,\"max_length\":9,\"strip_whitespace\":true},"
    "{\"name\":\"p\",\"type\":\"str\",\"pattern\":\"^[a-z]+\\\\d?$\","
    "\"default\":\"a\"},"
    "{\"name\":\"i\",\"type\":\"int\",\"default\":0,\"multiple_of\":3,"
    "\"gt\":-100},"
    "{\"name\":\"f\",\"type\":\"float\",\"default\":0,\"le\":1e300,"
    "\"multiple_of\":0.5},"
    "{\"name\":\"b\",\"type\":\"bool\",\"default\":false},"
    "{\"name\":\"d\",\"type\":\"datetime\",\"nullable\":true,"
    "\"default\":null},"
    "{\"name\":\"u\",\"type\":\"uuid\",\"nullable\":true,\"default\":null},"
    "{\"name\":\"l\",\"type\":\"list\",\"items\":{\"type\":\"int\"},"
    "\"default_factory\":\"list\",\"max_items\":3},"
    "{\"name\":\"m\",\"type\":\"dict\",\"values\":{\"type\":\"list\","
    "\"items\":{\"type\":\"float\",\"nullable\":true}},"
    "\"default_factory\":\"dict\",\"min_items\":0,\"max_items\":3},"
    "{\"name\":\"o\",\"type\":\"model\",\"model\":\"Node\","
    "\"nullable\":true,\"default\":null},"
    "{\"name\":\"c\",\"type\":\"literal\",\"values\":[\"a\",1,true,null],"
    "\"default\":1},"
    "{\"name\":\"e\",\"type\":\"enum\",\"values\":[0,7],\"mixin\":\"int\","
    "\"default\":0},"
    "{\"name\":\"da\",\"type\":\"date\",\"default\":\"2024-01-01\"},"
    "{\"name\":\"ti\",\"type\":\"time\",\"default\":\"10:00\"},"
    "{\"name\":\"td\",\"type\":\"timedelta\",\"default\":\"P1D\"},"
    "{\"name\":\"de\",\"type\":\"decimal\",\"max_digits\":9,"
    "\"decimal_places\":3,\"gt\":\"-0.5\",\"default\":\"1\"},"
    "{\"name\":\"by\",\"type\":\"bytes\",\"max_length\":9,\"default\":\"\"},"
    "{\"name\":\"tu\",\"type\":\"tuple\",\"items\":[{\"type\":\"int\"},"
    "{\"type\":\"str\"}],\"nullable\":true,\"default\":null},"
    "{\"name\":\"al\",\"accepts\":[\"al\",\"a-l\"],\"type\":\"any\","
    "\"default\":null},"
    "{\"name\":\"un\",\"type\":\"union\",\"nullable\":true,\"default\":null,"
    "\"choices\":[{\"label\":\"int\",\"type\":{\"type\":\"int\"}},"
    "{\"label\":\"U\",\"type\":{\"type\":\"model\",\"model\":\"U\"}},"
    "{\"label\":\"str\",\"type\":{\"type\":\"str\",\"max_length\":3}},"
    "{\"label\":\"list\",\"type\":{\"type\":\"list\",\"items\":"
    "{\"type\":\"float\"}}}]},"
    "{\"name\":\"tg\",\"type\":\"tagged\",\"discriminator\":\"k\","
    "\"nullable\":true,\"default\":null,\"choices\":[{\"tag\":\"u\",\"type\":"
    "{\"type\":\"model\",\"model\":\"U\"}}]}],"
    "\"models\":{\"U\":{\"fields\":["
    "{\"name\":\"k\",\"type\":\"any\",\"default\":null},"
    "{\"name\":\"x\",\"type\":\"union\",\"nullable\":true,"
    "\"default\":null,\"choices\":["
    "{\"label\":\"U\",\"type\":{\"type\":\"model\",\"model\":\"U\"}},"
    "{\"label\":\"Node\",\"type\":{\"type\":\"model\","
    "\"model\":\"Node\"}}]}]},\"Node\":{\"extra\":\"ignore\",\"fields\":["
    "{\"name\":\"v\",\"type\":\"int\"},"
    "{\"name\":\"o\",\"type\":\"model\",\"model\":\"Node\","
    "\"nullable\":true,\"default\":null}]}}}";

static db_crud_t  *crud;


int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    char  error[256];

    crud = db_crud_compile((db_str_t) { schema, sizeof(schema) - 1 }, error,
                           sizeof(error));
    CHECK(crud != NULL);

    return 0;
}


static void
check_is_json(db_str_t text)
{
    db_json_t        *root;
    db_arena_t       *arena;
    db_json_error_t   error;

    arena = db_arena_create(1024);
    CHECK(arena != NULL);
    CHECK(db_json_read(arena, text, &root, &error) == DB_OK);
    db_arena_destroy(arena);
}


static db_crud_call_t *
begin(db_crud_operation_t operation, db_str_t id, db_str_t type,
    db_str_t body, int *rc)
{
    db_crud_call_t  *call;

    call = db_crud_call_create(crud, operation);
    CHECK(call != NULL);

    call->prefix = db_string("/fuzzed");
    call->id = id;
    call->query = body;
    call->content_type = type;
    call->body = body;

    *rc = db_crud_begin(call);
    CHECK(*rc == DB_OK || *rc == DB_DONE);

    return call;
}


static void
check_document(db_str_t document, db_str_t id)
{
    int              rc;
    db_crud_call_t  *call;

    check_is_json(document);

    call = begin(DB_CRUD_UPDATE, id, db_string("application/json"), document,
                 &rc);
    CHECK(rc == DB_OK);
    CHECK(db_str_eq(call->op.document, document));

    db_crud_call_destroy(call);
}


/* What is to be written; DB_DECLINED: a patch has left no document. */

static int
check_write(db_crud_call_t *call)
{
    int       rc;
    unsigned  i;

    static const char  current[] =
        "{\"id\":\"x\",\"i\":3,\"m\":{\"a\":[1]},"
        "\"o\":{\"v\":1,\"o\":{\"v\":2}}}";

    if (call->op.kind == DB_STORE_INSERT) {
        for (i = 0; i < call->op.nitems; i++) {
            check_document(call->op.items[i].document,
                           call->op.items[i].id.text);
        }
    }

    if (call->op.kind == DB_STORE_REPLACE) {
        check_document(call->op.document, call->op.id.text);
    }

    if (call->op.kind != DB_STORE_MODIFY) {
        return DB_OK;
    }

    rc = call->op.modify(&call->op, (db_str_t) { current,
                                                 sizeof(current) - 1 });
    CHECK(rc == DB_OK || rc == DB_DECLINED);

    if (rc == DB_OK) {
        check_document(call->op.document, call->op.id.text);
    }

    return rc;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int                   rc;
    char                 *copy;
    db_str_t              body, type;
    db_crud_call_t       *call;
    db_crud_operation_t   operation;

    if (size == 0) {
        return 0;
    }

    /* exactly as long as it is, so that reading beyond it is seen */

    copy = malloc(size);
    CHECK(copy != NULL);
    memcpy(copy, data, size);

    operation = (db_crud_operation_t) (data[0] % DB_CRUD_OPERATIONS);
    body = (db_str_t) { copy + 1, size - 1 };
    type = data[0] & 0x80 ? db_string("text/plain")
                          : db_string("application/json");

    call = begin(operation, data[0] & 0x40 ? body : db_string("x"), type,
                 body, &rc);

    if (rc == DB_DONE) {
        CHECK((call->status >= 400 && call->status < 500)
              || db_str_eq(call->answer, db_string("[]")));
        check_is_json(call->answer);

    } else {
        call->op.status = check_write(call) == DB_OK ? DB_STORE_OK
                                                     : DB_STORE_DECLINED;
        CHECK(db_crud_finish(call) == DB_OK);
    }

    db_crud_call_destroy(call);
    free(copy);

    return 0;
}
