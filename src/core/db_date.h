/*
 * The Gregorian calendar, before its introduction as well.
 */

#ifndef DB_DATE_H
#define DB_DATE_H

#include <stdint.h>


/*
 * The date of a day since 1970-01-01.  Counted from March 0000 on, by eras of
 * 400 years, so that the day of a leap year is its last.
 */

static inline void
db_date_from_days(int64_t days, int *year, int *month, int *day)
{
    int64_t  era, n, y, m;

    days += 719468;
    era = (days >= 0 ? days : days - 146096) / 146097;
    n = days - era * 146097;
    y = (n - n / 1460 + n / 36524 - n / 146096) / 365;
    n -= 365 * y + y / 4 - y / 100;
    m = (5 * n + 2) / 153;

    *day = (int) (n - (153 * m + 2) / 5) + 1;
    *month = (int) (m < 10 ? m + 3 : m - 9);
    *year = (int) (y + era * 400) + (*month <= 2);
}

#endif /* DB_DATE_H */
