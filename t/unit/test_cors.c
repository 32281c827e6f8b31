/*
 * CORS policies on their own; t/test_cors.py compares them with Starlette.
 */

#include "unit.h"
#include "route/db_cors.h"

#include <stdlib.h>


static db_cors_t *
policy(const char *origins, const char *headers, unsigned credentials)
{
    db_cors_t       *cors;
    db_cors_conf_t   conf;

    memset(&conf, 0, sizeof(db_cors_conf_t));
    conf.origins = str(origins);
    conf.methods = db_string("GET");
    conf.headers = str(headers);
    conf.max_age = db_string("600");
    conf.credentials = credentials;

    cors = db_cors_create(&conf);
    assert_non_null(cors);

    return cors;
}


static db_str_t
value(const db_cors_answer_t *answer, const char *name)
{
    unsigned  i;

    for (i = 0; i < answer->nheaders; i++) {
        if (db_str_eq(answer->headers[i].name, str(name))) {
            return answer->headers[i].value;
        }
    }

    return db_null_string;
}


static void
test_an_empty_policy_allows_nothing(void **state)
{
    db_cors_t          *cors;
    db_cors_answer_t    answer;
    db_cors_request_t   request;

    cors = policy("", "", 0);

    memset(&request, 0, sizeof(db_cors_request_t));
    request.origin = db_string("");
    request.method = db_string("");
    request.headers = db_string(",");
    request.private_network = db_string("");

    db_cors_preflight(cors, &request, &answer);
    assert_int_equal(answer.status, 400);
    assert_string_equal(answer.text, "Disallowed CORS origin, method, "
                                     "headers, private-network");

    db_cors_simple(cors, db_string(""), &answer);
    assert_int_equal(answer.nheaders, 1);
    assert_true(db_str_eq(value(&answer, "Vary"), db_string("Origin")));

    db_cors_destroy(cors);
}


static void
test_no_answer_has_more_headers_than_there_is_room_for(void **state)
{
    db_cors_t          *cors;
    db_cors_conf_t      conf;
    db_cors_answer_t    answer;
    db_cors_request_t   request;

    memset(&conf, 0, sizeof(db_cors_conf_t));
    conf.origins = conf.methods = conf.headers = db_string("*");
    conf.expose = db_string("A  B\tC");
    conf.max_age = db_string("0");
    conf.credentials = 1;
    conf.private_network = 1;

    cors = db_cors_create(&conf);
    assert_non_null(cors);

    request.origin = db_string("https://a");
    request.method = db_string("QUERY");
    request.headers = db_string("X-Any");
    request.private_network = db_string("true");

    db_cors_preflight(cors, &request, &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.text, "OK");
    assert_int_equal(answer.nheaders, 7);

    db_cors_simple(cors, request.origin, &answer);
    assert_int_equal(answer.nheaders, 4);
    assert_true(db_str_eq(value(&answer, "Access-Control-Expose-Headers"),
                          db_string("A, B, C")));

    db_cors_destroy(cors);
}


static void
test_a_long_list_is_sorted_and_each_name_is_there_once(void **state)
{
    char              *list, *p;
    unsigned           i;
    db_cors_t         *cors;
    db_cors_answer_t   answer;
    db_cors_request_t  request;

    list = malloc(200 * 5 + 1);
    assert_non_null(list);

    for (i = 0, p = list; i < 200; i++, p += 5) {
        memcpy(p, i % 2 ? " X-Bb" : " X-Aa", 6);
    }

    cors = policy("https://a", list, 0);
    free(list);

    memset(&request, 0, sizeof(db_cors_request_t));
    request.origin = db_string("https://a");
    request.method = db_string("GET");
    request.headers = db_string("x-AA , \tx-bb,accept");

    db_cors_preflight(cors, &request, &answer);
    assert_int_equal(answer.status, 200);
    assert_true(db_str_eq(value(&answer, "Access-Control-Allow-Headers"),
                          db_string("Accept, Accept-Language, "
                                    "Content-Language, Content-Type, X-Aa, "
                                    "X-Bb")));

    request.headers = db_string("x-AA x-bb");
    db_cors_preflight(cors, &request, &answer);
    assert_string_equal(answer.text, "Disallowed CORS headers");

    db_cors_destroy(cors);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_an_empty_policy_allows_nothing),
        cmocka_unit_test(
            test_no_answer_has_more_headers_than_there_is_room_for),
        cmocka_unit_test(
            test_a_long_list_is_sorted_and_each_name_is_there_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
