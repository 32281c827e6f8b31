/*
 * Scalars from text, as pydantic reads them in lax mode.  For any thread.
 */

#ifndef DB_SCALAR_H
#define DB_SCALAR_H

#include "core/db_buf.h"

#include <stdint.h>


/* Without Unicode's white space at both ends. */
db_str_t db_text_trim(db_str_t text);

/* The number of characters. */
size_t db_text_length(db_str_t text);


typedef enum {
    DB_SCALAR_OK,
    DB_SCALAR_BIG,               /* an int beyond 64 bits */
    DB_SCALAR_TOO_LONG,          /* an int of more than 4300 digits */
    DB_SCALAR_INVALID,
    DB_SCALAR_FAILED             /* out of memory */
} db_scalar_result_t;


typedef struct {
    int64_t   value;
    int       negative;
    db_str_t  digits;            /* of a BIG one */
} db_integer_t;

db_scalar_result_t db_integer_parse(db_arena_t *arena, db_str_t text,
    db_integer_t *integer);
db_scalar_result_t db_real_parse(db_arena_t *arena, db_str_t text,
    double *value);
db_scalar_result_t db_bool_parse(db_str_t text, int *value);


#define DB_DATETIME_SIZE  40     /* of its text */
#define DB_NO_OFFSET      INT32_MAX

typedef struct {
    int       year;
    int       month;
    int       day;
    int       hour;
    int       minute;
    int       second;
    int       microsecond;
    int32_t   offset;            /* seconds east of UTC, or DB_NO_OFFSET */
} db_datetime_t;

/*
 * Each returns NULL, or what is wrong.  The year may be 0, which Python does
 * not have.
 */

/* *date: the error is that of a date. */
const char *db_datetime_parse(db_str_t text, db_datetime_t *dt, int *date);
const char *db_datetime_parse_alone(db_str_t text, db_datetime_t *dt);
const char *db_datetime_from_int(int64_t timestamp, db_datetime_t *dt);
const char *db_datetime_from_real(double timestamp, db_datetime_t *dt);
const char *db_date_parse(db_str_t text, db_datetime_t *dt);

/* Without a date. */
const char *db_time_parse(db_str_t text, db_datetime_t *dt);
const char *db_time_from_int(int64_t seconds, db_datetime_t *dt);
const char *db_time_from_real(double seconds, db_datetime_t *dt);

/* Its parts at *pos of a text; the offset is all that is left of it. */
const char *db_time_read(db_str_t text, size_t *pos, db_datetime_t *dt);
const char *db_offset_read(db_str_t text, size_t pos, db_datetime_t *dt);

size_t db_date_format(char *dst, const db_datetime_t *dt);
size_t db_time_format(char *dst, const db_datetime_t *dt);
size_t db_datetime_format(char *dst, const db_datetime_t *dt);

/* The wall clock: in UTC with its offset, without it, or local without. */

typedef enum {
    DB_NOW_AWARE,
    DB_NOW_UTC,
    DB_NOW_LOCAL
} db_now_t;

void db_datetime_now(db_now_t now, db_datetime_t *dt);


typedef struct {
    int       negative;
    uint64_t  days;
    uint64_t  seconds;
    uint64_t  microseconds;
} db_duration_t;

#define DB_DURATION_SIZE  48     /* of its text */

const char *db_duration_parse(db_str_t text, db_duration_t *d);
const char *db_duration_from_int(int64_t seconds, db_duration_t *d);
const char *db_duration_from_real(double seconds, db_duration_t *d);
size_t db_duration_format(char *dst, const db_duration_t *d);


/* A finite one: the sign, digits without leading zeros, a power of ten. */

typedef struct {
    int       negative;
    db_str_t  digits;
    int64_t   exponent;
} db_decimal_t;

db_scalar_result_t db_decimal_parse(db_arena_t *arena, db_str_t text,
    db_decimal_t *d, int *finite);
int db_decimal_compare(const db_decimal_t *a, const db_decimal_t *b);
void db_decimal_write(db_buf_t *buf, const db_decimal_t *d);

/* How many digits there are, and how many behind the point. */
void db_decimal_count(const db_decimal_t *d, int normalized, uint64_t *digits,
    uint64_t *decimals);


#define DB_UUID_LENGTH  36

/* Writes the canonical text.  DB_OK, or DB_DECLINED with a message. */
int db_uuid_parse(db_str_t text, char dst[DB_UUID_LENGTH], db_buf_t *error);


#define DB_OBJECTID_LENGTH  24

/* New ids; DB_ERROR when the system has no random bytes. */
int db_objectid_create(char dst[DB_OBJECTID_LENGTH]);
int db_uuid_create(char dst[DB_UUID_LENGTH]);

#endif /* DB_SCALAR_H */
