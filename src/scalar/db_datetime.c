/*
 * Dates and times as pydantic (speedate) reads and writes them.
 *
 * Text is RFC 3339 with some freedom, or a number: seconds since 1970, or
 * milliseconds when it is larger than 2e10, in UTC; or a date alone.
 */

#include "scalar/db_digits.h"
#include "scalar/db_scalar.h"

#include "core/db_date.h"
#include "json/db_json.h"

#include <math.h>
#include <sys/time.h>
#include <time.h>


#define DB_MS_WATERSHED  20000000000LL
#define DB_UNIX_MIN      (-62167219200LL)      /* 0000-01-01 */
#define DB_UNIX_MAX      253402300799LL        /* 9999-12-31T23:59:59 */

#define DB_TOO_SHORT     "input is too short"
#define DB_TOO_EARLY                                                          \
    "dates before 0000 are not supported as unix timestamps"
#define DB_TOO_LATE                                                           \
    "dates after 9999 are not supported as unix timestamps"


static int
db_days_in_month(int year, int month)
{
    static const int  days[] = {
        31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31
    };

    if (month == 2 && year % 4 == 0 && (year % 100 || year % 400 == 0)) {
        return 29;
    }

    return days[month - 1];
}


/* The first ten bytes. */

static const char *
db_date_read(db_str_t text, db_datetime_t *dt)
{
    int  high, low;

    if (text.len < 10) {
        return DB_TOO_SHORT;
    }

    high = db_two_digits(text, 0);
    low = db_two_digits(text, 2);

    if (high < 0 || low < 0) {
        return "invalid character in year";
    }

    if (text.data[4] != '-') {
        return "invalid date separator, expected `-`";
    }

    dt->year = high * 100 + low;
    dt->month = db_two_digits(text, 5);

    if (dt->month < 0) {
        return "invalid character in month";
    }

    if (text.data[7] != '-') {
        return "invalid date separator, expected `-`";
    }

    dt->day = db_two_digits(text, 8);

    if (dt->day < 0) {
        return "invalid character in day";
    }

    if (dt->month < 1 || dt->month > 12) {
        return "month value is outside expected range of 1-12";
    }

    if (dt->day < 1 || dt->day > db_days_in_month(dt->year, dt->month)) {
        return "day value is outside expected range";
    }

    dt->hour = 0;
    dt->minute = 0;
    dt->second = 0;
    dt->microsecond = 0;
    dt->offset = DB_NO_OFFSET;

    return NULL;
}


static const char *
db_datetime_read(db_str_t text, db_datetime_t *dt)
{
    size_t       pos;
    const char  *error;

    error = db_date_read(text, dt);

    if (error != NULL) {
        return error;
    }

    if (text.len == 10 || text.data[10] == '\0'
        || strchr("Tt _", text.data[10]) == NULL)
    {
        return "invalid datetime separator, expected `T`, `t`, `_` or space";
    }

    pos = 11;
    error = db_time_read(text, &pos, dt);

    return error != NULL ? error : db_offset_read(text, pos, dt);
}


static const char *
db_datetime_from_unix(int64_t seconds, int64_t microseconds,
    db_datetime_t *dt)
{
    int64_t  days, rest;

    seconds += microseconds / 1000000;

    if (seconds < DB_UNIX_MIN) {
        return DB_TOO_EARLY;
    }

    if (seconds > DB_UNIX_MAX) {
        return DB_TOO_LATE;
    }

    days = seconds / 86400;
    rest = seconds % 86400;

    if (rest < 0) {
        rest += 86400;
        days--;
    }

    db_date_from_days(days, &dt->year, &dt->month, &dt->day);

    dt->hour = (int) (rest / 3600);
    dt->minute = (int) (rest % 3600 / 60);
    dt->second = (int) (rest % 60);
    dt->microsecond = (int) (microseconds % 1000000);
    dt->offset = 0;

    return NULL;
}


static const char *
db_datetime_from_ms(int64_t milliseconds, int64_t microseconds,
    db_datetime_t *dt)
{
    int64_t  seconds, extra;

    if (milliseconds == INT64_MIN) {
        return DB_TOO_EARLY;
    }

    seconds = milliseconds / 1000;
    extra = milliseconds % 1000 * 1000;

    if (extra < 0) {
        seconds--;
        extra += 1000000;
    }

    return db_datetime_from_unix(seconds, extra + microseconds, dt);
}


/* Seconds, or milliseconds when it is too large for those. */

const char *
db_datetime_from_int(int64_t timestamp, db_datetime_t *dt)
{
    if (timestamp >= -DB_MS_WATERSHED && timestamp <= DB_MS_WATERSHED) {
        return db_datetime_from_unix(timestamp, 0, dt);
    }

    return db_datetime_from_ms(timestamp, 0, dt);
}


/* A double cut to int64_t, at its ends when it is beyond. */

static int64_t
db_saturate(double value)
{
    if (value >= 9223372036854775807.0) {
        return INT64_MAX;
    }

    if (value <= -9223372036854775808.0) {
        return INT64_MIN;
    }

    return (int64_t) value;
}


/* A double has the fraction of the unit that its size says it is in. */

const char *
db_datetime_from_real(double timestamp, db_datetime_t *dt)
{
    double   whole, fraction;
    int64_t  n;

    whole = floor(timestamp);
    fraction = isfinite(timestamp) ? timestamp - whole : 0;
    n = db_saturate(whole);

    if (fabs(timestamp) > (double) DB_MS_WATERSHED) {
        return db_datetime_from_ms(n, (int64_t) round(fraction * 1e3), dt);
    }

    return db_datetime_from_unix(n, (int64_t) round(fraction * 1e6), dt);
}


/* An int of 64 bits. */

static int
db_unix_read(db_str_t text, int64_t *value)
{
    int       negative;
    size_t    i;
    uint64_t  n, digit;

    negative = (text.len > 1 && text.data[0] == '-');
    i = (negative || (text.len > 1 && text.data[0] == '+'));
    n = 0;

    if (i == text.len) {
        return DB_DECLINED;
    }

    for ( /* void */ ; i < text.len; i++) {

        if (db_digit(text, i) < 0) {
            return DB_DECLINED;
        }

        digit = (uint64_t) db_digit(text, i);

        if (n > ((uint64_t) INT64_MAX + (unsigned) negative - digit) / 10) {
            return DB_DECLINED;
        }

        n = n * 10 + digit;
    }

    *value = (int64_t) (negative ? 0 - n : n);

    return DB_OK;
}


/* A float with a "." in it: without one it would be an int, or nothing. */

static int
db_unix_read_real(db_str_t text, double *value)
{
    int     negative;
    size_t  i, digits;

    if (text.len == 0 || memchr(text.data, '.', text.len) == NULL) {
        return DB_DECLINED;
    }

    negative = (text.data[0] == '-');
    i = (negative || text.data[0] == '+');
    text.data += i;
    text.len -= i;
    digits = 0;

    for (i = 0; db_digit(text, i) >= 0; i++) {
        digits++;
    }

    if (i < text.len && text.data[i] == '.') {
        for (i++; db_digit(text, i) >= 0; i++) {
            digits++;
        }
    }

    if (digits == 0) {
        return DB_DECLINED;
    }

    if (i < text.len && (text.data[i] | 0x20) == 'e') {
        i++;

        if (i < text.len && (text.data[i] == '+' || text.data[i] == '-')) {
            i++;
        }

        if (db_digit(text, i) < 0) {
            return DB_DECLINED;
        }

        while (db_digit(text, i) >= 0) {
            i++;
        }
    }

    if (i != text.len) {
        return DB_DECLINED;
    }

    *value = db_json_real_read(text);

    if (negative) {
        *value = -*value;
    }

    return DB_OK;
}


const char *
db_datetime_parse_alone(db_str_t text, db_datetime_t *dt)
{
    double       value;
    int64_t      n;
    const char  *error;

    error = db_datetime_read(text, dt);

    if (error == NULL) {
        return NULL;
    }

    if (db_unix_read(text, &n) == DB_OK) {
        return db_datetime_from_int(n, dt);
    }

    if (db_unix_read_real(text, &value) == DB_OK) {
        return db_datetime_from_real(value, dt);
    }

    return error;
}


const char *
db_date_parse(db_str_t text, db_datetime_t *dt)
{
    int64_t      n;
    const char  *error;

    error = db_date_read(text, dt);

    if (error == NULL && text.len == 10) {
        return NULL;
    }

    if (error == NULL) {
        error = "unexpected extra characters at the end of the input";
    }

    if (db_unix_read(text, &n) != DB_OK) {
        return error;
    }

    error = db_datetime_from_int(n, dt);

    if (error == NULL
        && (dt->hour || dt->minute || dt->second || dt->microsecond))
    {
        return "Timestamp is not an exact date";
    }

    dt->offset = DB_NO_OFFSET;

    return error;
}


/* The date parser has the last word on what is no datetime. */

const char *
db_datetime_parse(db_str_t text, db_datetime_t *dt, int *date)
{
    *date = 0;

    if (db_datetime_parse_alone(text, dt) == NULL) {
        return NULL;
    }

    *date = 1;

    return db_date_parse(text, dt);
}


size_t
db_date_format(char *dst, const db_datetime_t *dt)
{
    char  *p;

    p = db_put_digits(dst, dt->year, 4);
    *p++ = '-';
    p = db_put_digits(p, dt->month, 2);
    *p++ = '-';
    p = db_put_digits(p, dt->day, 2);

    return (size_t) (p - dst);
}


size_t
db_datetime_format(char *dst, const db_datetime_t *dt)
{
    size_t  n;

    n = db_date_format(dst, dt);
    dst[n++] = 'T';

    return n + db_time_format(dst + n, dt);
}


void
db_datetime_now(db_now_t now, db_datetime_t *dt)
{
    struct tm       tm;
    struct timeval  tv;

    gettimeofday(&tv, NULL);

    if (now == DB_NOW_LOCAL) {
        localtime_r(&tv.tv_sec, &tm);

    } else {
        gmtime_r(&tv.tv_sec, &tm);
    }

    dt->year = tm.tm_year + 1900;
    dt->month = tm.tm_mon + 1;
    dt->day = tm.tm_mday;
    dt->hour = tm.tm_hour;
    dt->minute = tm.tm_min;
    dt->second = tm.tm_sec > 59 ? 59 : tm.tm_sec;
    dt->microsecond = (int) tv.tv_usec;
    dt->offset = now == DB_NOW_AWARE ? 0 : DB_NO_OFFSET;
}
