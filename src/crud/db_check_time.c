/*
 * Datetimes, dates, times and durations: what pydantic's lax mode takes for
 * them, and the text that they are stored as.
 */

#include "crud/db_check.h"


#define DB_YEAR_0  "year 0 is out of range"


/* Room for a text that becomes check->text, or NULL. */

static char *
db_check_room(db_check_t *check, size_t size)
{
    char  *text;

    text = db_arena_alloc(check->arena, size);

    if (text == NULL) {
        check->out->failed = 1;
    }

    return text;
}


void
db_check_write_datetime(db_check_t *check, const db_datetime_t *dt)
{
    char  *text;

    text = db_check_room(check, DB_DATETIME_SIZE);

    if (text) {
        db_check_write(check, (db_str_t) { text,
                                           db_datetime_format(text, dt) });
    }
}


static void
db_check_unparsed(db_check_t *check, const char *type, const db_loc_t *loc,
    db_str_t msg, const char *error, const db_json_t *node)
{
    db_check_fail_with(check, type, loc, msg,
                       (db_str_t) { error, strlen(error) }, node);
}


/* A timestamp as a number; DB_DECLINED: it is none. */

static int
db_check_timestamp(db_check_t *check, const db_json_t *node,
    db_datetime_t *dt, const char **error)
{
    double              n;
    db_scalar_result_t  result;

    switch (node->kind) {

    case DB_JSON_INT:
        *error = db_datetime_from_int(node->u.integer, dt);
        return DB_OK;

    case DB_JSON_REAL:
    case DB_JSON_BIGINT:
        if (db_check_real(check, node, &n, &result) != DB_OK) {
            return DB_DECLINED;
        }

        *error = db_datetime_from_real(n, dt);
        return DB_OK;

    default:
        return DB_DECLINED;
    }
}


void
db_check_datetime(db_check_t *check, const db_json_t *node,
    const db_loc_t *loc)
{
    int             date;
    const char     *error;
    db_datetime_t   dt;

    date = 0;

    if (node->kind == DB_JSON_STRING) {
        error = db_datetime_parse(node->u.text, &dt, &date);

    } else if (db_check_timestamp(check, node, &dt, &error) != DB_OK) {
        db_check_fail(check, "datetime_type", loc,
                      "Input should be a valid datetime", node);
        return;
    }

    if (error == NULL && dt.year == 0) {
        error = DB_YEAR_0;
        date = 0;
    }

    if (error == NULL) {
        db_check_write_datetime(check, &dt);
        return;
    }

    if (date) {
        db_check_unparsed(check, "datetime_from_date_parsing", loc,
                     db_string("Input should be a valid datetime or date, "),
                     error, node);
        return;
    }

    db_check_unparsed(check, "datetime_parsing", loc,
                      db_string("Input should be a valid datetime, "), error,
                      node);
}


/* What is no date may be a datetime at midnight. */

void
db_check_date(db_check_t *check, const db_json_t *node, const db_loc_t *loc)
{
    char           *text;
    const char     *error;
    db_datetime_t   dt;

    error = NULL;

    if (node->kind == DB_JSON_STRING) {

        if (db_date_parse(node->u.text, &dt) != NULL) {
            error = db_datetime_parse_alone(node->u.text, &dt);
        }

    } else if (db_check_timestamp(check, node, &dt, &error) != DB_OK) {
        db_check_fail(check, "date_type", loc, "Input should be a valid date",
                      node);
        return;
    }

    if (error != NULL) {
        db_check_unparsed(check, "date_from_datetime_parsing", loc,
                     db_string("Input should be a valid date or datetime, "),
                     error, node);
        return;
    }

    if (dt.hour || dt.minute || dt.second || dt.microsecond) {
        db_check_fail(check, "date_from_datetime_inexact", loc, "Datetimes "
                      "provided to dates should have zero time - e.g. be "
                      "exact dates", node);
        return;
    }

    if (dt.year == 0) {
        db_check_unparsed(check, "date_parsing", loc,
                          db_string("Input should be a valid date in the "
                                    "format YYYY-MM-DD, "),
                          DB_YEAR_0, node);
        return;
    }

    text = db_check_room(check, DB_DATETIME_SIZE);

    if (text) {
        db_check_write(check, (db_str_t) { text, db_date_format(text, &dt) });
    }
}


void
db_check_time(db_check_t *check, const db_json_t *node, const db_loc_t *loc)
{
    char                *text;
    double               n;
    const char          *error;
    db_datetime_t        dt;
    db_scalar_result_t   result;

    switch (node->kind) {

    case DB_JSON_STRING:
        error = db_time_parse(node->u.text, &dt);
        break;

    case DB_JSON_INT:
        error = db_time_from_int(node->u.integer, &dt);
        break;

    case DB_JSON_REAL:
    case DB_JSON_BIGINT:
        if (db_check_real(check, node, &n, &result) == DB_OK) {
            error = db_time_from_real(n, &dt);
            break;
        }

        /* fall through */

    default:
        db_check_fail(check, "time_type", loc, "Input should be a valid time",
                      node);
        return;
    }

    if (error != NULL) {
        db_check_unparsed(check, "time_parsing", loc,
                        db_string("Input should be in a valid time format, "),
                        error, node);
        return;
    }

    text = db_check_room(check, DB_DATETIME_SIZE);

    if (text) {
        db_check_write(check, (db_str_t) { text, db_time_format(text, &dt) });
    }
}


void
db_check_timedelta(db_check_t *check, const db_json_t *node,
    const db_loc_t *loc)
{
    char                *text;
    double               n;
    const char          *error;
    db_duration_t        d;
    db_scalar_result_t   result;

    switch (node->kind) {

    case DB_JSON_STRING:
        error = db_duration_parse(node->u.text, &d);
        break;

    case DB_JSON_INT:
        error = db_duration_from_int(node->u.integer, &d);
        break;

    default:
        if (db_check_real(check, node, &n, &result) == DB_OK) {
            error = db_duration_from_real(n, &d);
            break;
        }

        db_check_fail(check, "time_delta_type", loc,
                      "Input should be a valid timedelta", node);
        return;
    }

    if (error != NULL) {
        db_check_unparsed(check, "time_delta_parsing", loc,
                          db_string("Input should be a valid timedelta, "),
                          error, node);
        return;
    }

    text = db_check_room(check, DB_DURATION_SIZE);

    if (text) {
        db_check_write(check, (db_str_t) { text,
                                           db_duration_format(text, &d) });
    }
}
