/*
 * Regular expressions: RE2 behind a C interface.  Constant once compiled,
 * for any thread.
 */

#ifndef DB_REGEX_H
#define DB_REGEX_H

#include "core/db_str.h"


typedef struct db_regex_s  db_regex_t;

struct db_regex_s {
    db_regex_t  *next;         /* the owner's */
    db_str_t     text;         /* its own: as PCRE reads it alike */
};


#define DB_REGEX_OWN      (8 << 20)      /* of the model */
#define DB_REGEX_CLIENT   (1 << 19)      /* of a request */

/*
 * NULL leaves a message.  Only what RE2 and Rust's regex crate, which
 * pydantic uses, read alike is taken.  Options are of the letters i, m and s,
 * as in "(?i)"; memory, in bytes, bounds the time it takes as well.
 */
db_regex_t *db_regex_create(db_str_t text, db_str_t options, size_t memory,
    char *error, size_t size);
void db_regex_destroy(db_regex_t *pattern);
void db_regex_destroy_all(db_regex_t *first);

/* Whether it matches anywhere in the text. */
int db_regex_match(const db_regex_t *pattern, db_str_t text);

#endif /* DB_REGEX_H */
