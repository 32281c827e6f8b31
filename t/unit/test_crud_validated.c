/*
 * What was validated elsewhere: calls of this process's own.
 */

#include "unit.h"

#include "crud/db_crud.h"


#define SCHEMA(id, fields, more)                                              \
    "{\"databridge\":1,\"model\":\"Article\",\"collection\":\"article\","     \
    "\"prefix\":\"/articles\",\"store\":\"main\",\"id\":\"" id "\","          \
    "\"fields\":[" fields "]" more "}"

#define TITLE   "{\"name\":\"title\",\"type\":\"str\"}"
#define NUMBER  "{\"name\":\"id\",\"type\":\"int\"}"
#define ID      "0123456789abcdef01234567"


static db_crud_t *
compile(const char *schema)
{
    char        error[512] = "";
    db_crud_t  *crud;

    crud = db_crud_compile(str(schema), error, sizeof(error));
    assert_string_equal(error, "");

    return crud;
}


static db_crud_call_t *
call_with(db_crud_t *crud, db_crud_operation_t operation,
    db_crud_document_t *documents, unsigned n)
{
    db_crud_call_t  *call;

    call = db_crud_call_create(crud, operation);
    assert_non_null(call);

    call->prefix = db_crud_prefix(crud);
    call->id = str(ID);
    call->validated = 1;
    call->documents = documents;
    call->ndocuments = n;

    return call;
}


static void
a_document_gets_an_objectid_and_is_kept_as_it_is(void **state)
{
    db_crud_t           *crud;
    db_crud_call_t      *call;
    db_crud_document_t   documents[] = {
        { str(""), str("{\"b\": [1e2]}") }, { str(""), str("{}") }
    };

    crud = compile(SCHEMA("objectid", TITLE, ""));
    call = call_with(crud, DB_CRUD_CREATE, documents, 2);
    call->many = 1;

    assert_int_equal(db_crud_begin(call), DB_OK);
    assert_int_equal(call->op.kind, DB_STORE_INSERT);
    assert_int_equal(call->op.nitems, 2);
    assert_int_equal(call->op.items[0].document.len, 24 + 7 + 13);
    assert_memory_equal(call->op.items[0].document.data, "{\"id\":\"", 7);
    assert_memory_equal(call->op.items[0].document.data + 31,
                        "\",\"b\": [1e2]}", 13);
    assert_int_equal(call->op.items[1].document.len, 24 + 7 + 2);
    assert_memory_equal(call->op.items[1].document.data + 7,
                        call->op.items[1].id.text.data, 24);

    call->op.status = DB_STORE_OK;
    assert_int_equal(db_crud_finish(call), DB_OK);
    assert_int_equal(call->status, 201);

    db_crud_call_destroy(call);
    db_crud_destroy(crud);
}


static void
a_declared_id_is_the_callers(void **state)
{
    db_crud_t           *crud;
    db_crud_call_t      *call;
    db_crud_document_t   good = { str("7"), str("{\"id\":7,\"more\":0}") };
    db_crud_document_t   bad = { str("x"), str("{}") };

    crud = compile(SCHEMA("int", NUMBER, ""));

    call = call_with(crud, DB_CRUD_CREATE, &good, 1);
    assert_int_equal(db_crud_begin(call), DB_OK);
    assert_int_equal(call->op.items[0].id.integer, 7);
    assert_str(call->op.items[0].document, "{\"id\":7,\"more\":0}");
    call->op.status = DB_STORE_OK;
    assert_int_equal(db_crud_finish(call), DB_OK);
    assert_str(call->location, "/articles/7");
    assert_str(call->answer, "{\"id\":7,\"more\":0}");
    db_crud_call_destroy(call);

    call = call_with(crud, DB_CRUD_CREATE, &bad, 1);
    assert_int_equal(db_crud_begin(call), DB_DONE);
    assert_int_equal(call->status, 422);
    db_crud_call_destroy(call);

    db_crud_destroy(crud);
}


static void
an_update_is_blind_without_current_and_writes_in_its_place_with_it(
    void **state)
{
    db_crud_t           *crud;
    db_crud_call_t      *call;
    db_crud_document_t   document = { str(""), str("{\"title\":\"b\"}") };

    crud = compile(SCHEMA("objectid", TITLE, ""));

    call = call_with(crud, DB_CRUD_UPDATE, &document, 1);
    assert_int_equal(db_crud_begin(call), DB_OK);
    assert_int_equal(call->op.kind, DB_STORE_REPLACE);
    assert_str(call->op.document, "{\"id\":\"" ID "\",\"title\":\"b\"}");
    db_crud_call_destroy(call);

    call = call_with(crud, DB_CRUD_PATCH, &document, 1);
    call->current = str("{\"title\":\"a\"}");
    assert_int_equal(db_crud_begin(call), DB_OK);
    assert_int_equal(call->op.kind, DB_STORE_MODIFY);
    assert_int_equal(call->op.modify(&call->op, str("{\"title\":\"a\"}")),
                     DB_OK);
    assert_int_equal(call->raced, 0);
    assert_int_equal(call->op.modify(&call->op, str("{\"title\":\"c\"}")),
                     DB_DECLINED);
    call->op.status = DB_STORE_DECLINED;
    assert_int_equal(db_crud_finish(call), DB_OK);
    assert_int_equal(call->raced, 1);
    assert_int_equal(call->status, 409);
    db_crud_call_destroy(call);

    db_crud_destroy(crud);
}


static void
an_update_may_insist_that_nothing_is_there(void **state)
{
    db_crud_t           *crud;
    db_crud_call_t      *call;
    db_crud_document_t   document = { str(""), str("{\"title\":\"b\"}") };

    crud = compile(SCHEMA("objectid", TITLE, ",\"upsert\":true"));
    call = call_with(crud, DB_CRUD_UPDATE, &document, 1);
    call->current = str("");

    assert_int_equal(db_crud_begin(call), DB_OK);
    assert_int_equal(call->op.upsert, 1);
    assert_int_equal(call->op.modify(&call->op, db_null_string), DB_OK);
    assert_int_equal(call->op.modify(&call->op, str("{}")), DB_DECLINED);

    db_crud_call_destroy(call);
    db_crud_destroy(crud);
}


static void
a_schema_says_what_is_hybrid(void **state)
{
    char        error[512] = "";
    db_crud_t  *crud;

    crud = compile(SCHEMA("objectid", TITLE,
                          ",\"operations\":[\"get\",\"create\"],"
                          "\"hybrid\":{\"create\":\"why\",\"patch\":\"why\"}"));
    assert_int_equal(db_crud_hybrid(crud), 1 << DB_CRUD_CREATE);
    db_crud_destroy(crud);

    assert_null(db_crud_compile(str(SCHEMA("objectid", TITLE,
                                           ",\"hybrid\":{\"get\":\"why\"}")),
                                error, sizeof(error)));
    assert_non_null(strstr(error, "\"get\""));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(a_document_gets_an_objectid_and_is_kept_as_it_is),
        cmocka_unit_test(a_declared_id_is_the_callers),
        cmocka_unit_test(
            an_update_is_blind_without_current_and_writes_in_its_place_with_it),
        cmocka_unit_test(an_update_may_insist_that_nothing_is_there),
        cmocka_unit_test(a_schema_says_what_is_hybrid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
