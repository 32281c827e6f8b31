/*
 * The router on its own; t/test_router.py compares it with Starlette.
 */

#include "unit.h"
#include "route/db_router.h"

#include <malloc.h>
#include <stdio.h>
#include <time.h>


static db_router_t *
router_of(const char *routes[][2], unsigned n)
{
    char          error[128];
    unsigned      i;
    db_router_t  *router;

    router = db_router_create();
    assert_non_null(router);

    for (i = 0; i < n; i++) {
        assert_int_equal(db_router_add(router,
                                       routes[i][0] ? str(routes[i][0])
                                                    : db_null_string,
                                       routes[i][1] ? str(routes[i][1])
                                                    : db_null_string,
                                       i, error, sizeof(error)), DB_OK);
    }

    return router;
}


static void
expect(db_router_t *router, const char *method, const char *path, int rc,
    unsigned index)
{
    db_match_t  match;

    assert_int_equal(db_router_match(router, str(method), str(path), &match),
                     rc);

    if (rc != DB_DONE) {
        assert_int_equal(match.index, index);
    }
}


static void
test_first_full_match_wins_then_first_partial(void **state)
{
    db_router_t  *router;

    const char *routes[][2] = {
        { "GET", "/items/{id:int}" },
        { "POST,PUT", "/items/{id}" },
        { "GET", "/items/me" },
        { "DELETE", "/items/me" },
    };

    router = router_of(routes, 4);

    expect(router, "GET", "/items/42", DB_OK, 0);
    expect(router, "PUT", "/items/42", DB_OK, 1);
    expect(router, "GET", "/items/me", DB_OK, 2);
    expect(router, "DELETE", "/items/me", DB_OK, 3);
    expect(router, "PATCH", "/items/me", DB_DECLINED, 1);
    expect(router, "PATCH", "/items/7", DB_DECLINED, 0);
    expect(router, "PU", "/items/7", DB_DECLINED, 0);
    expect(router, "GET", "/items", DB_DONE, 0);
    expect(router, "GET", "/items/", DB_DONE, 0);
    expect(router, "GET", "", DB_DONE, 0);

    db_router_destroy(router);
}


static void
test_an_opaque_matcher_hides_what_follows(void **state)
{
    db_router_t  *router;

    const char *routes[][2] = {
        { "GET", "/a" }, { NULL, NULL }, { "GET", "/b" },
    };

    router = router_of(routes, 3);

    expect(router, "GET", "/a", DB_OK, 0);
    expect(router, "POST", "/a", DB_OK, 1);
    expect(router, "GET", "/b", DB_OK, 1);

    db_router_destroy(router);
}


static void
test_captures(void **state)
{
    db_match_t    match;
    db_router_t  *router;

    const char *routes[][2] = {
        { "GET", "/f/{a:float}{b}" },
        { "GET", "/u/{u:uuid}/{rest:path}" },
        { "GET", "/{a}-{b}.{c:path}" },
    };

    router = router_of(routes, 3);

    assert_int_equal(db_router_match(router, str("GET"), str("/f/12.50x"),
                                     &match), DB_OK);
    assert_int_equal(match.nparams, 2);
    assert_str(match.params[0], "12.50");
    assert_str(match.params[1], "x");

    assert_int_equal(db_router_match(router, str("GET"), str("/f/12.5"),
                                     &match), DB_OK);
    assert_str(match.params[0], "12");
    assert_str(match.params[1], ".5");

    assert_int_equal(db_router_match(router, str("GET"),
                         str("/u/00112233-4455-6677-8899AaBbCcDdEeFf/x/y"),
                         &match), DB_OK);
    assert_str(match.params[1], "x/y");

    assert_int_equal(db_router_match(router, str("GET"), str("/a-b-c.d.e/f"),
                                     &match), DB_OK);
    assert_str(match.params[0], "a-b");
    assert_str(match.params[1], "c.d");
    assert_str(match.params[2], "e/f");

    /* a character is not cut in two */

    assert_int_equal(db_router_match(router, str("GET"),
                                     str("/f/1\xe2\x82\xac"), &match), DB_OK);
    assert_str(match.params[1], "\xe2\x82\xac");

    db_router_destroy(router);
}


static void
test_prefixes_of_any_depth(void **state)
{
    db_router_t  *router;

    const char *routes[][2] = {
        { "GET", "/1/2/3/4/5/6/7/8/9/10/{a}" },
        { "GET", "/1/2/3/4/5/6/7/8/9/x/{a}" },
        { "GET", "/1/2/{a}/4/5" },
        { "GET", "/1/2/b{a}/4/5" },
        { "GET", "/{a:path}" },
        { "GET", "/1/2/3" },
    };

    router = router_of(routes, 6);

    expect(router, "GET", "/1/2/3/4/5/6/7/8/9/10/11", DB_OK, 0);
    expect(router, "GET", "/1/2/3/4/5/6/7/8/9/x/11", DB_OK, 1);
    expect(router, "GET", "/1/2/3/4/5", DB_OK, 2);
    expect(router, "GET", "/1/2/b3/4/5", DB_OK, 2);
    expect(router, "GET", "/1/2/3", DB_OK, 4);
    expect(router, "GET", "/1/2/3/4/5/6/7/8/9/10/", DB_OK, 4);
    expect(router, "GET", "//////////////", DB_OK, 4);

    db_router_destroy(router);
}


static void
test_bad_patterns_are_refused(void **state)
{
    size_t        i;
    char          error[128], many[200] = "";
    db_router_t  *router;

    static const struct {
        const char  *pattern;
        const char  *error;
    } bad[] = {
        { "", "a path pattern begins with \"/\"" },
        { "items", "a path pattern begins with \"/\"" },
        { "/{a:date}", "unknown convertor \"date\"" },
        { "/{a}/{b}/{a:int}", "parameter \"a\" appears twice" },
    };

    router = db_router_create();

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(db_router_add(router, db_null_string,
                                       str(bad[i].pattern), 0, error,
                                       sizeof(error)), DB_ERROR);
        assert_string_equal(error, bad[i].error);
    }

    for (i = 0; i <= DB_ROUTER_MAX_PARAMS; i++) {
        snprintf(many + strlen(many), 10, "/{p%zu}", i);
    }

    assert_int_equal(db_router_add(router, db_null_string, str(many), 0,
                                   error, sizeof(error)), DB_ERROR);
    assert_string_equal(error, "more than 16 parameters");

    db_router_destroy(router);
}


static double
cpu_seconds(void)
{
    struct timespec  now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);

    return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}


static void
test_a_hostile_path_is_matched_in_linear_time(void **state)
{
    char          path[8192];
    double        start;
    db_match_t    match;
    db_router_t  *router;

    const char *routes[][2] = {
        { "GET", "/{a}-{b}-{c}-{d}-{e}/x" },
        { "GET", "/{a:path}-{b:path}-{c:path}-{d:path}/x" },
    };

    memset(path, '-', sizeof(path));
    path[0] = '/';

    router = router_of(routes, 2);
    start = cpu_seconds();

    assert_int_equal(db_router_match(router, str("GET"),
                                     (db_str_t) { path, sizeof(path) },
                                     &match), DB_DONE);

    /* backtracking alone would take 10^12 steps; this takes 10^5 */

    assert_true(cpu_seconds() - start < 0.5);

    db_router_destroy(router);
}


static void
test_a_thousand_routes(void **state)
{
    char          pattern[64], path[64], error[128];
    unsigned      i;
    db_match_t    match;
    db_router_t  *router;

    router = db_router_create();

    for (i = 0; i < 1000; i++) {
        snprintf(pattern, sizeof(pattern), i % 2 ? "/r%u" : "/r%u/{id}", i);
        assert_int_equal(db_router_add(router, str("GET"), str(pattern), i,
                                       error, sizeof(error)), DB_OK);
    }

    for (i = 0; i < 1000; i++) {
        snprintf(path, sizeof(path), i % 2 ? "/r%u" : "/r%u/7", i);
        assert_int_equal(db_router_match(router, str("GET"), str(path),
                                         &match), DB_OK);
        assert_int_equal(match.index, i);
    }

    expect(router, "GET", "/r1000/7", DB_DONE, 0);

    db_router_destroy(router);
}


static void
test_ten_parameters_are_matched_without_allocating(void **state)
{
    size_t        before;
    db_match_t    match;
    db_router_t  *router;

    const char *routes[][2] = {
        { "GET", "/{a}/{b}/{c}/{d}/{e:int}/{f}/{g}/{h}/{i}/{j:path}" },
    };

    router = router_of(routes, 1);

    /* what is in use of the heap, but under sanitizers: 0 */

    before = mallinfo2().uordblks;

    assert_int_equal(db_router_match(router, str("GET"),
                                     str("/1/2/3/4/5/6/7/8/9/10"), &match),
                     DB_OK);
    assert_int_equal(mallinfo2().uordblks, before);

    assert_int_equal(match.nparams, 10);
    assert_true(db_str_eq(match.params[9], str("10")));

    db_router_destroy(router);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_first_full_match_wins_then_first_partial),
        cmocka_unit_test(test_an_opaque_matcher_hides_what_follows),
        cmocka_unit_test(test_captures),
        cmocka_unit_test(test_prefixes_of_any_depth),
        cmocka_unit_test(test_bad_patterns_are_refused),
        cmocka_unit_test(test_a_hostile_path_is_matched_in_linear_time),
        cmocka_unit_test(test_a_thousand_routes),
        cmocka_unit_test(test_ten_parameters_are_matched_without_allocating),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
