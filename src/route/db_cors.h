/*
 * A CORS policy: which headers an answer carries, and what a preflight is
 * answered with, exactly as Starlette's CORSMiddleware does it.  Constant
 * once built, so any thread may use it.
 */

#ifndef DB_CORS_H
#define DB_CORS_H

#include "core/db_str.h"


typedef struct db_cors_s  db_cors_t;


/* Lists are separated by spaces; "*" in one stands for all. */

typedef struct {
    db_str_t    origins;
    db_str_t    methods;
    db_str_t    headers;
    db_str_t    expose;
    db_str_t    max_age;             /* seconds */
    unsigned    credentials:1;
    unsigned    private_network:1;
} db_cors_conf_t;


/* Headers of the request by name; data is NULL without. */

typedef struct {
    db_str_t    origin;
    db_str_t    method;              /* Access-Control-Request-... */
    db_str_t    headers;
    db_str_t    private_network;
} db_cors_request_t;


#define DB_CORS_MAX_HEADERS  8

typedef struct {
    db_str_t    name;
    db_str_t    value;               /* of the policy or of the request */
} db_cors_header_t;


typedef struct {
    unsigned          status;
    char              text[64];      /* the body, NUL-terminated */
    unsigned          nheaders;
    db_cors_header_t  headers[DB_CORS_MAX_HEADERS];
} db_cors_answer_t;


/* The strings are copied.  NULL when out of memory. */
db_cors_t *db_cors_create(const db_cors_conf_t *conf);
void db_cors_destroy(db_cors_t *cors);

/*
 * The headers that any answer gets.  "Vary: Origin" is always the last of
 * them: it is to be joined with what the answer varies by already.
 */
void db_cors_simple(const db_cors_t *cors, db_str_t origin,
    db_cors_answer_t *answer);

/* The whole answer to OPTIONS with an origin and a requested method. */
void db_cors_preflight(const db_cors_t *cors,
    const db_cors_request_t *request, db_cors_answer_t *answer);

#endif /* DB_CORS_H */
