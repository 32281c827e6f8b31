/*
 * The values that a parameter has in a request: of the query, the headers or
 * the cookies.  Loop thread; what is handed out lies in the input.
 */

#ifndef DB_PYTHON_PLAN_VALUES_H
#define DB_PYTHON_PLAN_VALUES_H

#include "python/plan.h"


#define DB_PY_PAIRS_MAX   64         /* of a query; more are not plain */


/* A query, split; names and values are as they were received. */

typedef struct {
    int         parsed;          /* 0 at first */
    unsigned    npairs;
    db_str_t    names[DB_PY_PAIRS_MAX];
    db_str_t    values[DB_PY_PAIRS_MAX];
} db_py_query_t;


/* Values of a field, one after the other. */

typedef struct {
    const db_py_field_t  *field;
    const db_py_input_t  *input;
    db_py_query_t        *query;
    db_str_t              name;
    unsigned              next;      /* pair or header to look at */
    db_str_t              rest;      /* of a Cookie header */
} db_py_values_t;


void db_py_values_start(db_py_values_t *values, db_str_t name);

/*
 * 1 with the next value, as it was received; 0 at the end; -1 when the
 * request is not plain.
 */
int db_py_values_next(db_py_values_t *values, db_str_t *value);

/*
 * As the application sees it: a new reference, or NULL, with or without an
 * exception, when the text is not plain.
 */
PyObject *db_py_values_text(db_py_source_t source, db_str_t text);

/* The first header of that name: 1 or 0. */
int db_py_header_value(const db_py_input_t *input, db_str_t name,
    db_str_t *value);

#endif /* DB_PYTHON_PLAN_VALUES_H */
