/*
 * A string by pointer and length, as every pure C room passes it: never
 * owned, never NUL-terminated by contract, {NULL, 0} when absent.
 */

#ifndef DB_STR_H
#define DB_STR_H

#include <stddef.h>
#include <string.h>


typedef struct {
    const char  *data;
    size_t       len;
} db_str_t;


/* Results of pure C functions, where nothing more precise is documented. */

#define DB_OK         0
#define DB_ERROR     -1
#define DB_AGAIN     -2
#define DB_DONE      -3
#define DB_DECLINED  -4


#define db_string(text)  ((db_str_t) { text, sizeof(text) - 1 })
#define db_null_string   ((db_str_t) { NULL, 0 })


static inline int
db_str_eq(db_str_t a, db_str_t b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

#endif /* DB_STR_H */
