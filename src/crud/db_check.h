/*
 * Between the parts of the validator: its errors, its scalars, its walk.
 */

#ifndef DB_CHECK_H
#define DB_CHECK_H

#include "crud/db_validate.h"
#include "scalar/db_scalar.h"


#define db_check_fail(check, type, loc, msg, input)                           \
    db_check_error(check, type, loc, db_string(msg), input, db_null_string)

/* An error whose message ends in "error", which is its ctx as well. */
void db_check_fail_with(db_check_t *check, const char *type,
    const db_loc_t *loc, db_str_t msg, db_str_t error,
    const db_json_t *input);

/* An int beyond 64 bits: pydantic takes it, but no store does. */
void db_check_too_big(db_check_t *check, const db_json_t *node,
    const db_loc_t *loc);

void db_check_bound_failed(db_check_t *check, const db_type_t *type,
    db_bound_kind_t kind, const db_json_t *node, const db_loc_t *loc);
void db_check_pattern_failed(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc);

/* Of a str in characters, of bytes in bytes. */
void db_check_length_failed(db_check_t *check, const char *type, int min,
    uint64_t limit, const db_json_t *node, const db_loc_t *loc);

/* Of a list or dict; "actual" below 0: not known, more than the limit. */
void db_check_size_failed(db_check_t *check, const char *what, int min,
    uint64_t limit, int64_t actual, const db_json_t *node,
    const db_loc_t *loc);


void db_check_str(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc);
void db_check_int(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc);
void db_check_float(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc);
void db_check_bool(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc);
void db_check_bytes(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc);
void db_check_decimal(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc);
void db_check_datetime(db_check_t *check, const db_json_t *node,
    const db_loc_t *loc);
void db_check_date(db_check_t *check, const db_json_t *node,
    const db_loc_t *loc);
void db_check_time(db_check_t *check, const db_json_t *node,
    const db_loc_t *loc);
void db_check_timedelta(db_check_t *check, const db_json_t *node,
    const db_loc_t *loc);
void db_check_uuid(db_check_t *check, const db_json_t *node,
    const db_loc_t *loc);

void db_check_values(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc);

/* A number, or text that says one; DB_DECLINED: neither. */
int db_check_real(db_check_t *check, const db_json_t *node, double *value,
    db_scalar_result_t *result);

/* Text within a string: as JSON has it, without the quotes. */
void db_check_escape(db_buf_t *buf, db_str_t text);

/* Python's str() of a scalar; of what is none, its JSON. */
void db_check_write_str(db_buf_t *buf, const db_json_t *node);

void db_check_union(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc);
void db_check_tagged(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc);

/*
 * Within a union, of every value: how well it matches its type.  DB_DECLINED,
 * with an error: unions in unions have been tried too often.
 */
int db_check_match(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc);

/* Fails what is no object. */
int db_check_is_object(db_check_t *check, const db_json_t *node,
    const db_loc_t *loc);

/* Text that needs no escapes; it becomes check->text. */
void db_check_write(db_check_t *check, db_str_t text);
void db_check_write_datetime(db_check_t *check, const db_datetime_t *dt);

#endif /* DB_CHECK_H */
