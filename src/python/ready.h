/*
 * Making the tables of DB_MSG_READY.  Pure C; see db_python.h for what they
 * mean and who owns them.
 */

#ifndef DB_PYTHON_READY_H
#define DB_PYTHON_READY_H

#include "python/db_python.h"


/* With an empty router for each application; NULL when out of memory. */
db_ready_t *db_ready_create(unsigned ntables);

/* DB_OK, or DB_ERROR when out of memory.  The text is copied. */
int db_table_fail(db_table_t *table, const char *error);

/*
 * Room for one more route, as nothing but Python's; it counts once the
 * caller has raised nroutes.  NULL when out of memory.
 */
db_route_t *db_table_route(db_table_t *table);

void db_ready_publish(db_bridge_t *bridge, db_ready_t *ready);

#endif /* DB_PYTHON_READY_H */
