/*
 * Resources through their C interface: routing, the two steps of a call and
 * every answer.  What bodies are valid is t/test_crud_validation.py's.
 */

#include "unit.h"

#include "crud/db_crud.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>


#define SCHEMA(id, fields)                                                    \
    "{\"databridge\":1,\"model\":\"Article\",\"collection\":\"article\","     \
    "\"prefix\":\"/articles\",\"store\":\"main\",\"id\":\"" id "\","          \
    "\"fields\":[" fields "]}"

#define TITLE  "{\"name\":\"title\",\"type\":\"str\"}"


static db_crud_t *
compile(const char *schema)
{
    char        error[512] = "";
    db_crud_t  *crud;

    crud = db_crud_compile(str(schema), error, sizeof(error));
    assert_string_equal(error, "");
    assert_non_null(crud);

    return crud;
}


static db_crud_call_t *
call_with(db_crud_t *crud, db_crud_operation_t operation, const char *id,
    const char *body)
{
    db_crud_call_t  *call;

    call = db_crud_call_create(crud, operation);
    assert_non_null(call);

    call->prefix = db_crud_prefix(crud);
    call->id = str(id);
    call->content_type = str("application/json");
    call->body = str(body);

    return call;
}


static void
assert_answer(db_crud_call_t *call, unsigned status, const char *answer)
{
    assert_int_equal(call->status, status);
    assert_str(call->answer, answer);
}


/* What the store would say. */

static void
finish(db_crud_call_t *call, db_store_status_t status)
{
    assert_int_equal(db_crud_begin(call), DB_OK);
    call->op.status = status;
    assert_int_equal(db_crud_finish(call), DB_OK);
}


static void
assert_error(const char *schema, const char *want)
{
    char  error[256];

    assert_null(db_crud_compile(str(schema), error, sizeof(error)));
    assert_string_equal(error, want);
}


static void
a_resource_knows_its_names(void **state)
{
    db_crud_t  *crud;

    crud = compile(SCHEMA("objectid", TITLE));

    assert_str(db_crud_name(crud), "Article");
    assert_str(db_crud_prefix(crud), "/articles");
    assert_str(db_crud_store(crud), "main");
    assert_str(db_crud_collection(crud)->name, "article");
    assert_int_equal(db_crud_collection(crud)->id_kind, DB_VALUE_TEXT);
    assert_int_equal(db_crud_operations(crud), 63);

    db_crud_destroy(crud);
}


static void
errors_name_the_member(void **state)
{
    assert_error("{", "the schema is not JSON: Expecting property name "
                 "enclosed in double quotes: character 1");
    assert_error("[]", "the schema must be an object");
    assert_error("{\"databridge\":2}", "\"databridge\" must be 1, the version "
                 "of the format");
    assert_error("{\"databridge\":1,\"modle\":\"A\"}",
                 "the schema has the unknown member \"modle\"");
    assert_error(SCHEMA("objectid", "{\"name\":\"a\",\"type\":\"text\"}"),
                 "Article.a: the type \"text\" is not known");
    assert_error(SCHEMA("int", TITLE),
                 "Article: there is no field \"id\" of the type \"int\"");
    assert_error(SCHEMA("objectid", TITLE "," TITLE),
                 "Article.title: the field is there twice");
    assert_error(SCHEMA("objectid", "{\"name\":\"a\\\"b\",\"type\":\"str\"}"),
                 "Article.a\"b: a field's name must be an identifier, which "
                 "may have \"-\"");
    assert_error(SCHEMA("objectid", "{\"name\":\"a\",\"type\":\"str\","
                                    "\"gt\":1}"),
                 "Article.a: str has the unknown member \"gt\"");
    assert_error(SCHEMA("objectid", "{\"name\":\"a\",\"type\":\"int\","
                                    "\"multiple_of\":0}"),
                 "Article.a: \"multiple_of\" must be above 0");
}


static void
a_short_error_buffer_is_kept(void **state)
{
    char  error[8];

    assert_null(db_crud_compile(str("[]"), error, sizeof(error)));
    assert_string_equal(error, "the sch");
}


typedef struct {
    const char           *method;
    const char           *rest;
    unsigned              status;
    db_crud_operation_t   operation;
} route_t;


static void
methods_and_paths_choose_the_operation(void **state)
{
    size_t                i;
    unsigned              status;
    db_str_t              id, allow;
    db_crud_t            *crud;
    db_crud_operation_t   operation;

    static const route_t  routes[] = {
        { "GET", "", 200, DB_CRUD_LIST },
        { "HEAD", "", 200, DB_CRUD_LIST },
        { "POST", "", 200, DB_CRUD_CREATE },
        { "PUT", "", 405, 0 },
        { "PATCH", "", 405, 0 },
        { "OPTIONS", "", 405, 0 },
        { "GET", "/7", 200, DB_CRUD_GET },
        { "HEAD", "/7", 200, DB_CRUD_GET },
        { "PUT", "/7", 200, DB_CRUD_UPDATE },
        { "PATCH", "/7", 200, DB_CRUD_PATCH },
        { "DELETE", "/7", 200, DB_CRUD_DELETE },
        { "POST", "/7", 405, 0 },
        { "GET", "/", 404, 0 },
        { "GET", "/7/", 404, 0 },
        { "GET", "/7/8", 404, 0 },
        { "GET", "x", 404, 0 },
    };

    crud = compile(SCHEMA("objectid", TITLE));

    for (i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        operation = 0;
        status = db_crud_route(crud, str(routes[i].method),
                               str(routes[i].rest), &operation, &id, &allow);

        assert_int_equal(status, routes[i].status);

        if (status == 200) {
            assert_int_equal(operation, routes[i].operation);
            assert_str(id, routes[i].rest[0] ? "7" : "");
        }

        if (status == 405) {
            assert_str(allow, routes[i].rest[0] ? "GET, HEAD, PUT, "
                                                  "PATCH, DELETE"
                                                : "GET, HEAD, POST");
        }
    }

    db_crud_destroy(crud);
}


static void
operations_left_out_are_not_allowed(void **state)
{
    db_str_t              id, allow;
    db_crud_t            *crud;
    db_crud_operation_t   operation;

    crud = compile("{\"databridge\":1,\"model\":\"A\",\"collection\":\"a\","
                   "\"prefix\":\"/a\",\"store\":\"main\",\"id\":\"objectid\","
                   "\"operations\":[\"create\"],\"fields\":[]}");

    assert_int_equal(db_crud_route(crud, str("POST"), str(""), &operation,
                                   &id, &allow), 200);
    assert_int_equal(db_crud_route(crud, str("GET"), str(""), &operation, &id,
                                   &allow), 405);
    assert_str(allow, "POST");
    assert_int_equal(db_crud_route(crud, str("GET"), str("/1"), &operation,
                                   &id, &allow), 404);

    db_crud_destroy(crud);
}


static void
create_answers_201_with_the_document_and_its_place(void **state)
{
    db_str_t         document;
    db_crud_t       *crud;
    db_crud_call_t  *call;

    crud = compile(SCHEMA("objectid", TITLE));
    call = call_with(crud, DB_CRUD_CREATE, "", "{\"x\":1,\"title\":\"A\"}");

    finish(call, DB_STORE_OK);

    document = call->op.document;
    assert_int_equal(call->op.kind, DB_STORE_INSERT);
    assert_int_equal(call->op.id.text.len, 24);
    assert_int_equal(call->status, 201);
    assert_true(db_str_eq(call->answer, document));
    assert_memory_equal(document.data, "{\"id\":\"", 7);
    assert_memory_equal(document.data + 7, call->op.id.text.data, 24);
    assert_memory_equal(document.data + 31, "\",\"title\":\"A\"}", 14);
    assert_memory_equal(call->location.data, "/articles/", 10);
    assert_memory_equal(call->location.data + 10, call->op.id.text.data, 24);

    db_crud_call_destroy(call);
    db_crud_destroy(crud);
}


static void
new_ids_differ(void **state)
{
    db_crud_t       *crud;
    db_crud_call_t  *one, *two;

    crud = compile(SCHEMA("objectid", ""));
    one = call_with(crud, DB_CRUD_CREATE, "", "{}");
    two = call_with(crud, DB_CRUD_CREATE, "", "{}");

    assert_int_equal(db_crud_begin(one), DB_OK);
    assert_int_equal(db_crud_begin(two), DB_OK);
    assert_memory_not_equal(one->op.id.text.data, two->op.id.text.data, 24);

    db_crud_call_destroy(one);
    db_crud_call_destroy(two);
    db_crud_destroy(crud);
}


/* The first id that a process makes; both ends of a fork() say theirs. */

static void
a_forked_process_makes_ids_of_its_own(void **state)
{
    int              fds[2], status;
    char             other[24];
    pid_t            pid;
    db_crud_t       *crud;
    db_crud_call_t  *call;

    crud = compile(SCHEMA("objectid", ""));

    call = call_with(crud, DB_CRUD_CREATE, "", "{}");
    assert_int_equal(db_crud_begin(call), DB_OK);
    db_crud_call_destroy(call);

    assert_int_equal(pipe(fds), 0);

    pid = fork();
    assert_int_not_equal(pid, -1);

    call = call_with(crud, DB_CRUD_CREATE, "", "{}");
    assert_int_equal(db_crud_begin(call), DB_OK);

    if (pid == 0) {
        _exit(write(fds[1], call->op.id.text.data, 24) != 24);
    }

    assert_int_equal(read(fds[0], other, 24), 24);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);

    /* the process's part, after the time */

    assert_memory_not_equal(call->op.id.text.data + 8, other + 8, 10);

    close(fds[0]);
    close(fds[1]);
    db_crud_call_destroy(call);
    db_crud_destroy(crud);
}


static void
a_location_is_percent_encoded(void **state)
{
    db_crud_t       *crud;
    db_crud_call_t  *call;

    crud = compile(SCHEMA("str", "{\"name\":\"id\",\"type\":\"str\"}"));
    call = call_with(crud, DB_CRUD_CREATE, "",
                     "{\"id\":\"a b/\xc3\xa9?%-._~\"}");

    finish(call, DB_STORE_OK);
    assert_str(call->location, "/articles/a%20b%2F%C3%A9%3F%25-._~");

    db_crud_call_destroy(call);
    db_crud_destroy(crud);
}


static void
get_answers_what_the_store_gave(void **state)
{
    db_crud_t       *crud;
    db_crud_call_t  *call;

    crud = compile(SCHEMA("int", "{\"name\":\"id\",\"type\":\"int\"}"));
    call = call_with(crud, DB_CRUD_GET, " 1_2.0 ", "");

    assert_int_equal(db_crud_begin(call), DB_OK);
    assert_int_equal(call->op.kind, DB_STORE_GET);
    assert_int_equal(call->op.id.kind, DB_VALUE_INT);
    assert_int_equal(call->op.id.integer, 12);

    db_buf_lit(call->op.out, "{\"id\":12}");
    call->op.status = DB_STORE_OK;
    assert_int_equal(db_crud_finish(call), DB_OK);
    assert_answer(call, 200, "{\"id\":12}");

    db_crud_call_destroy(call);
    db_crud_destroy(crud);
}


static void
update_takes_the_id_of_the_path(void **state)
{
    db_crud_t       *crud;
    db_crud_call_t  *call;

    crud = compile(SCHEMA("int", TITLE ",{\"name\":\"id\",\"type\":\"int\"}"));
    call = call_with(crud, DB_CRUD_UPDATE, "7",
                     "{\"id\":\"8\",\"title\":\"A\"}");

    finish(call, DB_STORE_OK);
    assert_int_equal(call->op.kind, DB_STORE_REPLACE);
    assert_int_equal(call->op.id.integer, 7);
    assert_answer(call, 200, "{\"title\":\"A\",\"id\":7}");

    db_crud_call_destroy(call);
    db_crud_destroy(crud);
}


static void
errors_of_path_and_body_come_together(void **state)
{
    db_crud_t       *crud;
    db_crud_call_t  *call;

    crud = compile(SCHEMA("int", TITLE ",{\"name\":\"id\",\"type\":\"int\"}"));
    call = call_with(crud, DB_CRUD_UPDATE, "x", "{\"title\":1}");

    assert_int_equal(db_crud_begin(call), DB_DONE);
    assert_answer(call, 422,
        "{\"detail\":[{\"type\":\"int_parsing\",\"loc\":[\"path\",\"id\"],"
        "\"msg\":\"Input should be a valid integer, unable to parse string as "
        "an integer\",\"input\":\"x\"},{\"type\":\"string_type\",\"loc\":"
        "[\"body\",\"title\"],\"msg\":\"Input should be a valid string\","
        "\"input\":1}]}");

    db_crud_call_destroy(call);
    db_crud_destroy(crud);
}


static void
an_objectid_that_is_none_is_not_found(void **state)
{
    size_t           i;
    db_crud_t       *crud;
    db_crud_call_t  *call;

    static const char  *const ids[] = {
        "", "x", "0123456789abcdef0123456", "0123456789abcdef0123456g",
        "0123456789abcdef012345678"
    };

    crud = compile(SCHEMA("objectid", TITLE));

    for (i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        call = call_with(crud, DB_CRUD_UPDATE, ids[i], "{\"title\":\"A\"}");
        assert_int_equal(db_crud_begin(call), DB_DONE);
        assert_answer(call, 404, "{\"detail\":\"Not Found\"}");
        db_crud_call_destroy(call);
    }

    call = call_with(crud, DB_CRUD_UPDATE, "0123456789ABCDEF01234567",
                     "{\"title\":\"A\"}");
    finish(call, DB_STORE_OK);
    assert_answer(call, 200, "{\"id\":\"0123456789abcdef01234567\","
                             "\"title\":\"A\"}");
    db_crud_call_destroy(call);

    db_crud_destroy(crud);
}


static void
what_is_not_utf8_is_not_found_and_not_asked_for(void **state)
{
    db_crud_t       *crud;
    db_crud_call_t  *call;

    crud = compile(SCHEMA("str", "{\"name\":\"id\",\"type\":\"str\"}"));

    call = call_with(crud, DB_CRUD_UPDATE, "\xff", "{}");
    assert_int_equal(db_crud_begin(call), DB_DONE);
    assert_answer(call, 404, "{\"detail\":\"Not Found\"}");
    db_crud_call_destroy(call);

    call = call_with(crud, DB_CRUD_LIST, "", "");
    call->query = str("id=%ff");
    assert_int_equal(db_crud_begin(call), DB_DONE);
    assert_answer(call, 400, "{\"detail\":\"the query must be UTF-8\"}");
    db_crud_call_destroy(call);

    db_crud_destroy(crud);
}


static void
failures_of_the_store_have_a_status(void **state)
{
    size_t           i;
    db_crud_t       *crud;
    db_crud_call_t  *call;

    static const struct {
        db_store_status_t   status;
        unsigned            http;
        const char         *answer;
    } answers[] = {
        { DB_STORE_NOT_FOUND, 404, "{\"detail\":\"Not Found\"}" },
        { DB_STORE_CONFLICT, 409,
          "{\"detail\":\"Article with id 3 already exists\"}" },
        { DB_STORE_MISMATCH, 412, "{\"detail\":\"Precondition Failed\"}" },
        { DB_STORE_REFUSED, 422,
          "{\"detail\":\"The store cannot hold this document\"}" },
        { DB_STORE_BUSY, 503, "{\"detail\":\"Service Unavailable\"}" },
        { DB_STORE_AWAY, 503, "{\"detail\":\"Service Unavailable\"}" },
        { DB_STORE_TIMEOUT, 504, "{\"detail\":\"Gateway Timeout\"}" },
        { DB_STORE_FULL, 507, "{\"detail\":\"Insufficient Storage\"}" },
        { DB_STORE_FAILED, 500, "{\"detail\":\"Internal Server Error\"}" },
    };

    crud = compile(SCHEMA("int", "{\"name\":\"id\",\"type\":\"int\"}"));

    for (i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        call = call_with(crud, DB_CRUD_CREATE, "", "{\"id\":3}");
        finish(call, answers[i].status);
        assert_answer(call, answers[i].http, answers[i].answer);
        db_crud_call_destroy(call);
    }

    db_crud_destroy(crud);
}


static void
delete_answers_204(void **state)
{
    db_crud_t       *crud;
    db_crud_call_t  *call;

    crud = compile(SCHEMA("uuid", "{\"name\":\"id\",\"type\":\"uuid\"}"));
    call = call_with(crud, DB_CRUD_DELETE,
                     "{12345678-1234-4234-8234-123456789ABC}", "");

    finish(call, DB_STORE_OK);
    assert_int_equal(call->op.kind, DB_STORE_REMOVE);
    assert_str(call->op.id.text, "12345678-1234-4234-8234-123456789abc");
    assert_answer(call, 204, "");

    db_crud_call_destroy(call);
    db_crud_destroy(crud);
}


static void
a_list_wraps_what_the_store_gave(void **state)
{
    db_crud_t       *crud;
    db_crud_call_t  *call;

    crud = compile(SCHEMA("objectid", TITLE));
    call = call_with(crud, DB_CRUD_LIST, "", "");
    call->query = str("limit=2&skip=5&count=true&title=a+%26+b");

    assert_int_equal(db_crud_begin(call), DB_OK);
    assert_int_equal(call->op.limit, 2);
    assert_int_equal(call->op.skip, 5);
    assert_true(call->op.count);
    assert_int_equal(call->op.conditions->kind, DB_CONDITION_EQ);
    assert_null(call->op.conditions->next);
    assert_int_equal(call->op.conditions->path.nsteps, 1);
    assert_str(call->op.conditions->path.steps[0], "title");
    assert_str(call->op.conditions->values[0].text, "a & b");

    db_buf_lit(call->op.out, "{\"a\":1},{\"a\":2}");
    call->op.total = 9;
    call->op.status = DB_STORE_OK;
    assert_int_equal(db_crud_finish(call), DB_OK);
    assert_answer(call, 200, "{\"items\":[{\"a\":1},{\"a\":2}],\"limit\":2,"
                             "\"skip\":5,\"total\":9}");

    db_crud_call_destroy(call);

    call = call_with(crud, DB_CRUD_LIST, "", "");
    finish(call, DB_STORE_OK);
    assert_answer(call, 200, "{\"items\":[],\"limit\":20,\"skip\":0}");

    db_crud_call_destroy(call);
    db_crud_destroy(crud);
}


static void
errors_stop_at_a_mebibyte(void **state)
{
    char            *body, *p;
    size_t           i, n;
    db_crud_t       *crud;
    db_crud_call_t  *call;

    n = 40000;

    crud = compile(SCHEMA("objectid", "{\"name\":\"a\",\"type\":\"list\","
                                      "\"items\":{\"type\":\"int\"}}"));
    body = malloc(n * 4 + 16);
    assert_non_null(body);

    memcpy(body, "{\"a\":[", 6);
    p = body + 6;

    for (i = 0; i < n; i++) {
        memcpy(p, "\"x\",", 4);
        p += 4;
    }

    memcpy(p - 1, "]}", 3);

    call = call_with(crud, DB_CRUD_CREATE, "", body);

    assert_int_equal(db_crud_begin(call), DB_DONE);
    assert_int_equal(call->status, 422);
    assert_in_range(call->answer.len, 1024 * 1024, 1024 * 1024 + 1024);
    assert_memory_equal(call->answer.data + call->answer.len - 3, "}]}", 3);

    db_crud_call_destroy(call);
    db_crud_destroy(crud);
    free(body);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(a_resource_knows_its_names),
        cmocka_unit_test(errors_name_the_member),
        cmocka_unit_test(a_short_error_buffer_is_kept),
        cmocka_unit_test(methods_and_paths_choose_the_operation),
        cmocka_unit_test(operations_left_out_are_not_allowed),
        cmocka_unit_test(create_answers_201_with_the_document_and_its_place),
        cmocka_unit_test(new_ids_differ),
        cmocka_unit_test(a_forked_process_makes_ids_of_its_own),
        cmocka_unit_test(a_location_is_percent_encoded),
        cmocka_unit_test(get_answers_what_the_store_gave),
        cmocka_unit_test(update_takes_the_id_of_the_path),
        cmocka_unit_test(errors_of_path_and_body_come_together),
        cmocka_unit_test(an_objectid_that_is_none_is_not_found),
        cmocka_unit_test(what_is_not_utf8_is_not_found_and_not_asked_for),
        cmocka_unit_test(failures_of_the_store_have_a_status),
        cmocka_unit_test(delete_answers_204),
        cmocka_unit_test(a_list_wraps_what_the_store_gave),
        cmocka_unit_test(errors_stop_at_a_mebibyte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
