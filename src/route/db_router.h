/*
 * A router with Starlette's rule: the first route in order of declaration
 * that matches path and method wins; else the first that matches the path
 * alone (405); else none.  Constant once built.
 */

#ifndef DB_ROUTER_H
#define DB_ROUTER_H

#include "core/db_str.h"


#define DB_ROUTER_MAX_PARAMS  16


typedef struct db_router_s  db_router_t;


typedef struct {
    db_str_t     params[DB_ROUTER_MAX_PARAMS];   /* slices of the path */
    unsigned     nparams;
    unsigned     index;                          /* the route's, as added */
} db_match_t;


db_router_t *db_router_create(void);
void db_router_destroy(db_router_t *router);

/*
 * Adds a route.  The pattern is Starlette's, "/items/{id:int}", with the
 * convertors str, int, float, uuid and path; methods are separated by commas,
 * NULL data for any.  A NULL pattern matches every path (a matcher only
 * Python understands); a pattern ending in "/{path:path}" serves for mounts.
 * Returns DB_OK, or DB_ERROR with a message: out of memory, or a pattern
 * that is not understood.
 */
int db_router_add(db_router_t *router, db_str_t methods, db_str_t pattern,
    unsigned index, char *error, size_t size);

/*
 * Matches a percent-decoded path.  DB_OK: full match.  DB_DECLINED: the
 * path matches, the method does not; match->index is the first such route.
 * DB_DONE: nothing matches.
 */
int db_router_match(const db_router_t *router, db_str_t method, db_str_t path,
    db_match_t *match);

#endif /* DB_ROUTER_H */
