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


/* Without the optional white space around it, RFC 9110 5.6.3. */

static inline db_str_t
db_str_trim(db_str_t str)
{
    while (str.len && (str.data[0] == ' ' || str.data[0] == '\t')) {
        str.data++;
        str.len--;
    }

    while (str.len && (str.data[str.len - 1] == ' '
                       || str.data[str.len - 1] == '\t'))
    {
        str.len--;
    }

    return str;
}


/*
 * Takes the next element, trimmed and perhaps empty, from a list separated
 * by commas; 0 when there is none left.
 */

static inline int
db_str_element(db_str_t *list, db_str_t *element)
{
    size_t       len;
    const char  *comma;

    if (list->len == 0) {
        return 0;
    }

    comma = (const char *) memchr(list->data, ',', list->len);
    len = comma ? (size_t) (comma - list->data) : list->len;

    element->data = list->data;
    element->len = len;
    *element = db_str_trim(*element);

    if (comma) {
        len++;
    }

    list->data += len;
    list->len -= len;

    return 1;
}

#endif /* DB_STR_H */
