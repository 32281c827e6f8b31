/*
 * Decimal digits of dates and times, read and written.
 */

#ifndef DB_DIGITS_H
#define DB_DIGITS_H

#include "core/db_str.h"


/* The digit at i, or a value below 0. */

static inline int
db_digit(db_str_t text, size_t i)
{
    return (i < text.len && text.data[i] >= '0' && text.data[i] <= '9')
           ? text.data[i] - '0' : -100;
}


static inline int
db_two_digits(db_str_t text, size_t i)
{
    return db_digit(text, i) * 10 + db_digit(text, i + 1);
}


/* Returns where it ends. */

static inline char *
db_put_digits(char *p, int value, int width)
{
    int  i;

    for (i = width - 1; i >= 0; i--) {
        p[i] = (char) ('0' + value % 10);
        value /= 10;
    }

    return p + width;
}

#endif /* DB_DIGITS_H */
