/*
 * W3C Trace Context: the traceparent header.  Strings in, strings out; the
 * random numbers' state is its owner's, one for each worker.
 */

#ifndef DB_TRACE_H
#define DB_TRACE_H

#include "core/db_str.h"

#include <stdint.h>


#define DB_TRACE_ID       32         /* hexadecimal digits */
#define DB_TRACE_PARENT   55         /* "00-<32>-<16>-01" */


typedef struct {
    uint64_t   state[4];
} db_random_t;


/* DB_OK, or DB_ERROR with errno set: the kernel gave no seed. */
int db_random_seed(db_random_t *random);
uint64_t db_random_next(db_random_t *random);

/* So many hexadecimal digits, a multiple of 16, not all of them 0. */
void db_random_hex(db_random_t *random, char *text, size_t len);

/*
 * DB_OK: valid, by version 00 or, as far as that can be read, by a later
 * one; *id is the trace id within value.  DB_DECLINED: not.
 */
int db_trace_parse(db_str_t value, db_str_t *id);

/* Begins a trace: a traceparent of DB_TRACE_PARENT bytes, sampled. */
void db_trace_begin(db_random_t *random, char *text);

/*
 * Whether a request's id, given by a client, can go to logs and headers:
 * 1 to 128 letters, digits and "-_.~+/=:@".
 */
int db_trace_request_id(db_str_t value);

#endif /* DB_TRACE_H */
