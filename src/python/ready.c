/*
 * The tables that cross to nginx: made on the loop thread, published once,
 * then the nginx thread's, which destroys them without the GIL.  Pure C.
 */

#include "python/ready.h"

#include <stdlib.h>


/* The two routes of a resource, side by side, share it. */

static void
db_table_destroy(db_table_t *table)
{
    unsigned    i;
    db_crud_t  *crud;

    for (i = 0; i < table->nroutes; i++) {
        crud = table->routes[i].crud;
        free(table->routes[i].pattern);

        if (crud && (i == 0 || crud != table->routes[i - 1].crud)) {
            db_crud_destroy(crud);
        }

        if (table->routes[i].answer) {
            db_part_destroy(table->routes[i].answer);
        }
    }

    if (table->cors) {
        db_cors_destroy(table->cors);
    }

    if (table->router) {
        db_router_destroy(table->router);
    }

    free(table->routes);
    free(table->error);
    free(table);
}


static db_table_t *
db_table_create(void)
{
    db_table_t  *table;

    table = calloc(1, sizeof(db_table_t));
    if (table == NULL) {
        return NULL;
    }

    table->router = db_router_create();

    if (table->router == NULL) {
        free(table);
        return NULL;
    }

    return table;
}


db_ready_t *
db_ready_create(unsigned ntables)
{
    unsigned     i;
    db_ready_t  *ready;

    ready = calloc(1, sizeof(db_ready_t) + ntables * sizeof(db_table_t *));
    if (ready == NULL) {
        return NULL;
    }

    ready->msg.kind = DB_MSG_READY;
    ready->tables = (db_table_t **) (ready + 1);

    for (i = 0; i < ntables; i++) {
        ready->tables[i] = db_table_create();

        if (ready->tables[i] == NULL) {
            db_ready_destroy(ready);
            return NULL;
        }

        ready->ntables++;
    }

    return ready;
}


void
db_ready_destroy(db_ready_t *ready)
{
    unsigned  i;

    for (i = 0; i < ready->ntables; i++) {
        db_table_destroy(ready->tables[i]);
    }

    free(ready);
}


int
db_table_fail(db_table_t *table, const char *error)
{
    char  *copy;

    copy = strdup(error);
    if (copy == NULL) {
        return DB_ERROR;
    }

    free(table->error);
    table->error = copy;

    return DB_OK;
}


db_route_t *
db_table_route(db_table_t *table)
{
    db_route_t  *routes;

    routes = realloc(table->routes,
                     (table->nroutes + 1) * sizeof(db_route_t));
    if (routes == NULL) {
        return NULL;
    }

    table->routes = routes;

    routes += table->nroutes;
    routes->crud = NULL;
    routes->store = NULL;
    routes->hybrid = NULL;
    routes->answer = NULL;
    routes->plan = NULL;
    routes->timeout = DB_TIMEOUT_DEFAULT;
    routes->pattern = NULL;

    return routes;
}


void
db_ready_publish(db_bridge_t *bridge, db_ready_t *ready)
{
    db_chain_t  chain;

    db_chain_init(&chain);
    db_chain_append(&chain, &ready->msg.node);
    db_bridge_publish(bridge, &chain);
}
