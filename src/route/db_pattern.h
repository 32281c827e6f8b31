/*
 * One path pattern of Starlette's, compiled: what its regular expression
 * accepts, and captures, this does, in time linear in the path.
 */

#ifndef DB_PATTERN_H
#define DB_PATTERN_H

#include "core/db_arena.h"


typedef enum {
    DB_TOKEN_LITERAL,
    DB_TOKEN_STR,            /* [^/]+ */
    DB_TOKEN_INT,            /* [0-9]+ */
    DB_TOKEN_FLOAT,          /* [0-9]+(\.[0-9]+)? */
    DB_TOKEN_UUID,           /* hexadecimal, the dashes optional */
    DB_TOKEN_PATH,           /* .* */
    DB_TOKEN_END             /* $ */
} db_token_kind_t;


typedef struct {
    db_token_kind_t  kind;
    unsigned         param;  /* its number */
    db_str_t         text;   /* of a literal; the name of a parameter */
} db_token_t;


typedef struct {
    unsigned         nparams;
    db_token_t       tokens[];
} db_pattern_t;


/* In the arena.  A NULL return leaves a message in error. */
db_pattern_t *db_pattern_compile(db_arena_t *arena, db_str_t text,
    char *error, size_t size);

/* What every match begins with; the whole pattern without parameters. */
db_str_t db_pattern_prefix(const db_pattern_t *pattern);

/* 1, with nparams slices of the path in params, or 0. */
int db_pattern_match(const db_pattern_t *pattern, db_str_t path,
    db_str_t *params);

#endif /* DB_PATTERN_H */
