/*
 * The router: lines of input are patterns, the last one is a path.  What is
 * found must be the first that matches by itself, and captures must lie in
 * the path.
 */

#include "route/db_router.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>


#define MAX_ROUTES  32


static void
check(int condition)
{
    if (!condition) {
        abort();
    }
}


static db_str_t
next_line(const char **p, const char *end)
{
    db_str_t     line;
    const char  *stop;

    stop = memchr(*p, '\n', (size_t) (end - *p));
    line.data = *p;
    line.len = (size_t) ((stop ? stop : end) - *p);
    *p = stop ? stop + 1 : NULL;

    return line;
}


static int
matches_alone(db_str_t pattern, db_str_t path)
{
    int            rc;
    char           error[128];
    db_match_t     match;
    db_router_t   *router;

    router = db_router_create();
    check(db_router_add(router, db_null_string, pattern, 0, error,
                        sizeof(error)) == DB_OK);
    rc = db_router_match(router, db_string("GET"), path, &match);
    db_router_destroy(router);

    return rc == DB_OK;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int            rc;
    char           error[128], *path;
    unsigned       i, n;
    db_str_t       line, patterns[MAX_ROUTES], target;
    db_match_t     match;
    const char    *p, *end;
    db_router_t   *router;

    router = db_router_create();
    p = (const char *) data;
    end = p + size;
    n = 0;

    for ( ;; ) {
        line = next_line(&p, end);

        if (p == NULL) {
            break;
        }

        if (n < MAX_ROUTES
            && db_router_add(router, db_null_string, line, n, error,
                             sizeof(error)) == DB_OK)
        {
            patterns[n++] = line;
        }
    }

    path = malloc(line.len ? line.len : 1);
    memcpy(path, line.data, line.len);
    target = (db_str_t) { path, line.len };

    rc = db_router_match(router, db_string("GET"), target, &match);
    check(rc == DB_OK || rc == DB_DONE);

    for (i = 0; i < n; i++) {
        check(matches_alone(patterns[i], target)
              == (rc == DB_OK && i == match.index)
              || (rc == DB_OK && i > match.index));
    }

    for (i = 0; rc == DB_OK && i < match.nparams; i++) {
        check(match.params[i].data >= path);
        check(match.params[i].data + match.params[i].len
              <= path + target.len);
    }

    free(path);
    db_router_destroy(router);

    return 0;
}
