/*
 * Durations as pydantic (speedate) reads and writes them: ISO 8601, "3 days,
 * 4:05:06", "100:00:00", or a number of seconds.
 */

#include "scalar/db_digits.h"
#include "scalar/db_scalar.h"

#include <math.h>
#include <stdio.h>


#define DB_MAX_DAYS        999999999
#define DB_MAX_HOURS       2400000000
#define DB_TOO_SHORT       "input is too short"
#define DB_INVALID_DAYS                                                       \
    "\"day\" identifier in duration not correctly formatted"
#define DB_DAYS_TOO_LARGE  "durations may not exceed 999,999,999 days"
#define DB_HOURS_TOO_LARGE "durations may not exceed 999,999,999 hours"
#define DB_VALUE_TOO_LARGE "a numeric value in the duration is too large"


static const char *
db_duration_number(db_str_t text, size_t *pos, uint64_t *value)
{
    *value = 0;

    if (db_digit(text, *pos) < 0) {
        return "invalid digit in duration";
    }

    for ( /* void */ ; db_digit(text, *pos) >= 0; (*pos)++) {
        *value = *value * 10 + (uint64_t) db_digit(text, *pos);

        if (*value > UINT32_MAX) {
            return DB_VALUE_TOO_LARGE;
        }
    }

    return NULL;
}


/* A fraction, which only the last quantity may have; below 0: none. */

static double
db_duration_fraction(db_str_t text, size_t *pos)
{
    double  value, scale;

    if (*pos == text.len
        || (text.data[*pos] != '.' && text.data[*pos] != ','))
    {
        return -1;
    }

    value = 0;
    scale = 1;

    for ((*pos)++; db_digit(text, *pos) >= 0; (*pos)++) {
        value = value * 10 + db_digit(text, *pos);
        scale *= 10;
    }

    /* too many digits are infinity over infinity, which counts for nothing */

    value /= scale;

    return isnan(value) ? 0 : value;
}


/* A unit's days or seconds, 0 when it is none. */

static unsigned
db_duration_unit(db_str_t text, size_t pos, int time)
{
    size_t  i;

    static const struct {
        char      letter;
        int       time;
        unsigned  size;
    } units[] = {
        { 'Y', 0, 365 }, { 'M', 0, 30 }, { 'W', 0, 7 }, { 'D', 0, 1 },
        { 'H', 1, 3600 }, { 'M', 1, 60 }, { 'S', 1, 1 }
    };

    for (i = 0; pos < text.len && i < sizeof(units) / sizeof(units[0]); i++) {
        if (units[i].letter == text.data[pos] && units[i].time == time) {
            return units[i].size;
        }
    }

    return 0;
}


static const char *
db_duration_iso(db_str_t text, size_t pos, db_duration_t *d)
{
    int          time, last;
    double       fraction, whole;
    uint64_t     value;
    unsigned     unit;
    const char  *error;

    time = 0;
    last = 0;

    for ( /* void */ ; pos < text.len; pos++) {

        if (text.data[pos] == 'T') {
            if (time) {
                return "`t` character repeated in duration";
            }

            time = 1;
            continue;
        }

        error = db_duration_number(text, &pos, &value);
        if (error != NULL) {
            return error;
        }

        fraction = db_duration_fraction(text, &pos);

        if (last) {
            return "quantity fraction invalid in duration";
        }

        last = (fraction >= 0);
        unit = db_duration_unit(text, pos, time);

        if (unit == 0) {
            return time ? "quantity invalid in time part of duration"
                        : "quantity invalid in date part of duration";
        }

        value *= unit;
        fraction = last ? fraction * unit : 0;
        whole = trunc(fraction);
        fraction -= whole;

        if (time) {
            d->seconds += value + (uint64_t) whole;

        } else {
            d->days += value + (uint64_t) whole;

            whole = trunc(fraction * 86400);
            d->seconds += (uint64_t) whole;
            fraction = fraction * 86400 - whole;
        }

        d->microseconds += (uint64_t) round(fraction * 1e6);

        if (value > UINT32_MAX || d->days > UINT32_MAX
            || d->seconds > UINT32_MAX)
        {
            return DB_VALUE_TOO_LARGE;
        }
    }

    return pos < 3 ? DB_TOO_SHORT : NULL;
}


static int
db_duration_is(db_str_t text, size_t pos, char letter)
{
    return pos < text.len && (text.data[pos] | 0x20) == letter;
}


/* A time of the day, but for the number of hours. */

static const char *
db_duration_hours(db_str_t text, size_t pos, db_duration_t *d)
{
    char            copy[16];
    size_t          i, len;
    uint64_t        hours;
    const char     *error, *colon;
    db_datetime_t   dt;

    text.data += pos;
    text.len -= pos;

    if (text.len < 5) {
        return DB_TOO_SHORT;
    }

    colon = memchr(text.data, ':', text.len);

    if (colon == NULL) {
        return "invalid character in hour";
    }

    len = (size_t) (colon - text.data);

    if (len > 10) {
        return DB_HOURS_TOO_LARGE;
    }

    for (i = 0, hours = 0; i < len; i++) {
        if (db_digit(text, i) < 0) {
            return "invalid character in hour";
        }

        hours = hours * 10 + (uint64_t) db_digit(text, i);
    }

    if (hours > DB_MAX_HOURS) {
        return DB_HOURS_TOO_LARGE;
    }

    /* what is finer than a microsecond is cut off before it is looked at */

    text.data += len + 1;
    text.len -= len + 1;

    if (text.len > sizeof("00:00.000000") - 1) {
        text.len = sizeof("00:00.000000") - 1;
    }

    memcpy(copy, "00:", 3);
    memcpy(copy + 3, text.data, text.len);
    i = 0;

    error = db_time_read((db_str_t) { copy, text.len + 3 }, &i, &dt);
    if (error != NULL) {
        return error;
    }

    if (i < text.len + 3) {
        return "unexpected extra characters at the end of the input";
    }

    d->days += hours / 24;
    d->seconds = hours % 24 * 3600
                 + (uint64_t) (dt.minute * 60 + dt.second);
    d->microseconds = (uint64_t) dt.microsecond;

    return NULL;
}


/* "3 days, 4:05:06", of which much may be left out. */

static const char *
db_duration_days(db_str_t text, size_t pos, db_duration_t *d)
{
    uint64_t     days;
    const char  *ay, *error;

    if (pos == text.len) {
        return DB_TOO_SHORT;
    }

    error = db_duration_number(text, &pos, &d->days);
    if (error != NULL) {
        return error;
    }

    pos += (pos < text.len && text.data[pos] == ' ');

    if (!db_duration_is(text, pos, 'd')) {
        return DB_INVALID_DAYS;
    }

    if (db_duration_is(text, ++pos, 'a')) {

        /* the case of "a" is that of what follows */

        ay = text.data[pos] == 'a' ? "ays" : "AYS";

        if (pos + 1 == text.len || text.data[pos + 1] != ay[1]) {
            return DB_INVALID_DAYS;
        }

        pos += 2;
        pos += (pos < text.len && text.data[pos] == ay[2]);
    }

    pos += (pos < text.len && text.data[pos] == ',');
    pos += (pos < text.len && text.data[pos] == ' ');

    if (pos == text.len) {
        return NULL;
    }

    days = d->days;
    error = db_duration_hours(text, pos, d);

    return error == NULL && d->days > days ? DB_HOURS_TOO_LARGE : error;
}


static const char *
db_duration_normalize(db_duration_t *d)
{
    d->seconds += d->microseconds / 1000000;
    d->microseconds %= 1000000;
    d->days += d->seconds / 86400;
    d->seconds %= 86400;

    /* Python counts back from a whole day, and has no day for that */

    if (d->days > DB_MAX_DAYS
        || (d->negative && d->days == DB_MAX_DAYS
            && (d->seconds || d->microseconds)))
    {
        return DB_DAYS_TOO_LARGE;
    }

    return NULL;
}


const char *
db_duration_parse(db_str_t text, db_duration_t *d)
{
    size_t       pos;
    const char  *error;

    *d = (db_duration_t) { 0 };

    if (text.len == 0) {
        return DB_TOO_SHORT;
    }

    d->negative = (text.data[0] == '-');
    pos = (text.data[0] == '-' || text.data[0] == '+');

    if (pos < text.len && text.data[pos] == 'P') {
        error = db_duration_iso(text, pos + 1, d);

    } else if (text.len - pos < 5 || memchr(text.data, 'd', text.len)
               || memchr(text.data, 'D', text.len))
    {
        error = db_duration_days(text, pos, d);

    } else {
        error = db_duration_hours(text, pos, d);
    }

    return error != NULL ? error : db_duration_normalize(d);
}


const char *
db_duration_from_int(int64_t seconds, db_duration_t *d)
{
    uint64_t  n;

    n = seconds < 0 ? 0 - (uint64_t) seconds : (uint64_t) seconds;

    *d = (db_duration_t) { .negative = (seconds < 0), .days = n / 86400,
                           .seconds = n % 86400 };

    return db_duration_normalize(d);
}


const char *
db_duration_from_real(double seconds, db_duration_t *d)
{
    double  n;

    n = fabs(seconds);
    *d = (db_duration_t) { .negative = (seconds < 0) };

    if (n / 86400 > DB_MAX_DAYS + 1.0) {
        return DB_DAYS_TOO_LARGE;
    }

    d->days = (uint64_t) (n / 86400);
    d->seconds = (uint64_t) n % 86400;
    d->microseconds = (uint64_t) round((n - trunc(n)) * 1e6);

    return db_duration_normalize(d);
}


size_t
db_duration_format(char *dst, const db_duration_t *d)
{
    char     *p;
    unsigned  n, days, seconds, us;

    p = dst;
    days = (unsigned) d->days;
    seconds = (unsigned) d->seconds;
    us = (unsigned) d->microseconds;

    if (d->negative && (days || seconds || us)) {
        *p++ = '-';
    }

    *p++ = 'P';

    if (days / 365) {
        p += sprintf(p, "%uY", days / 365);
    }

    if (days % 365) {
        p += sprintf(p, "%uD", days % 365);
    }

    if (seconds || us || days == 0) {
        *p++ = 'T';
    }

    if (seconds / 3600) {
        p += sprintf(p, "%uH", seconds / 3600);
    }

    if (seconds % 3600 / 60) {
        p += sprintf(p, "%uM", seconds % 3600 / 60);
    }

    if (us) {
        p += sprintf(p, "%u.%06u", seconds % 60, us);

        for (n = us; n % 10 == 0; n /= 10) {
            p--;
        }

        *p++ = 'S';

    } else if (seconds % 60 || (days == 0 && seconds == 0)) {
        p += sprintf(p, "%uS", seconds % 60);
    }

    return (size_t) (p - dst);
}
