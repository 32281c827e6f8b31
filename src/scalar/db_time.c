/*
 * Times of the day as pydantic (speedate) reads and writes them, alone and as
 * the second half of a datetime.
 */

#include "scalar/db_digits.h"
#include "scalar/db_scalar.h"

#include <math.h>


#define DB_TOO_LARGE  "numeric times may not exceed 86,399 seconds"


/* Behind the second: what is finer than a microsecond is dropped. */

static const char *
db_fraction_read(db_str_t text, size_t *pos, db_datetime_t *dt)
{
    size_t  i, n;

    i = *pos;

    if (i >= text.len || (text.data[i] != '.' && text.data[i] != ',')) {
        return NULL;
    }

    for (n = 0, i++; db_digit(text, i) >= 0; n++, i++) {
        if (n < 6) {
            dt->microsecond = dt->microsecond * 10 + db_digit(text, i);
        }
    }

    if (n == 0) {
        return "second fraction digits missing after `.`";
    }

    for ( /* void */ ; n < 6; n++) {
        dt->microsecond *= 10;
    }

    *pos = i;

    return NULL;
}


const char *
db_time_read(db_str_t text, size_t *pos, db_datetime_t *dt)
{
    size_t  i;

    i = *pos;

    dt->second = 0;
    dt->microsecond = 0;
    dt->offset = DB_NO_OFFSET;

    if (text.len - i < 5) {
        return "input is too short";
    }

    dt->hour = db_two_digits(text, i);

    if (dt->hour < 0) {
        return "invalid character in hour";
    }

    if (text.data[i + 2] != ':') {
        return "invalid time separator, expected `:`";
    }

    dt->minute = db_two_digits(text, i + 3);

    if (dt->minute < 0) {
        return "invalid character in minute";
    }

    if (dt->hour > 23) {
        return "hour value is outside expected range of 0-23";
    }

    if (dt->minute > 59) {
        return "minute value is outside expected range of 0-59";
    }

    *pos = i + 5;

    if (*pos == text.len || text.data[*pos] != ':') {
        return NULL;
    }

    dt->second = db_two_digits(text, i + 6);

    if (dt->second < 0) {
        return "invalid character in second";
    }

    if (dt->second > 59) {
        return "second value is outside expected range of 0-59";
    }

    *pos = i + 8;

    return db_fraction_read(text, pos, dt);
}


const char *
db_offset_read(db_str_t text, size_t i, db_datetime_t *dt)
{
    int  sign, hours, minutes;

    if (i == text.len) {
        return NULL;
    }

    sign = -1;

    switch (text.data[i]) {

    case 'Z':
    case 'z':
        dt->offset = 0;
        i++;
        goto done;

    case '+':
        sign = 1;
        break;

    case '-':
        break;

    default:

        /* U+2212, the minus sign of ISO 8601 */

        if (text.len - i < 3 || memcmp(text.data + i, "\xe2\x88\x92", 3) != 0)
        {
            return "invalid timezone sign";
        }

        i += 2;
    }

    hours = db_two_digits(text, i + 1);

    if (hours < 0) {
        return "invalid timezone hour";
    }

    i += 3;

    if (i < text.len && text.data[i] == ':') {
        i++;
    }

    minutes = db_two_digits(text, i);

    if (minutes < 0) {
        return "invalid timezone minute";
    }

    if (minutes > 59) {
        return "timezone minute value is outside expected range of 0-59";
    }

    if (hours > 23) {
        return "timezone offset must be less than 24 hours";
    }

    dt->offset = sign * (hours * 3600 + minutes * 60);
    i += 2;

done:

    return i == text.len ? NULL
           : "unexpected extra characters at the end of the input";
}


const char *
db_time_parse(db_str_t text, db_datetime_t *dt)
{
    size_t       pos;
    const char  *error;

    pos = 0;
    error = db_time_read(text, &pos, dt);

    return error != NULL ? error : db_offset_read(text, pos, dt);
}


static const char *
db_time_from_unix(int64_t seconds, int64_t microseconds, db_datetime_t *dt)
{
    if (seconds < 0) {
        return "time in seconds should be positive";
    }

    if (seconds > UINT32_MAX) {
        return DB_TOO_LARGE;
    }

    seconds += microseconds / 1000000;

    if (seconds >= 86400) {
        return DB_TOO_LARGE;
    }

    dt->hour = (int) (seconds / 3600);
    dt->minute = (int) (seconds % 3600 / 60);
    dt->second = (int) (seconds % 60);
    dt->microsecond = (int) (microseconds % 1000000);
    dt->offset = 0;

    return NULL;
}


const char *
db_time_from_int(int64_t seconds, db_datetime_t *dt)
{
    return db_time_from_unix(seconds, 0, dt);
}


const char *
db_time_from_real(double seconds, db_datetime_t *dt)
{
    double  whole;

    whole = floor(seconds);

    if (whole < 0) {
        return db_time_from_unix(-1, 0, dt);
    }

    if (whole > UINT32_MAX) {
        return DB_TOO_LARGE;
    }

    return db_time_from_unix((int64_t) whole,
                             (int64_t) round((seconds - whole) * 1e6), dt);
}


size_t
db_time_format(char *dst, const db_datetime_t *dt)
{
    int    minutes;
    char  *p;

    p = db_put_digits(dst, dt->hour, 2);
    *p++ = ':';
    p = db_put_digits(p, dt->minute, 2);
    *p++ = ':';
    p = db_put_digits(p, dt->second, 2);

    if (dt->microsecond) {
        *p++ = '.';
        p = db_put_digits(p, dt->microsecond, 6);
    }

    if (dt->offset == 0) {
        *p++ = 'Z';

    } else if (dt->offset != DB_NO_OFFSET) {
        minutes = (dt->offset < 0 ? -dt->offset : dt->offset) / 60;
        *p++ = dt->offset < 0 ? '-' : '+';
        p = db_put_digits(p, minutes / 60, 2);
        *p++ = ':';
        p = db_put_digits(p, minutes % 60, 2);
    }

    return (size_t) (p - dst);
}
