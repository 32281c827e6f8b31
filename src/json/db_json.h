/*
 * JSON: text to a tree in an arena, and back to text.
 *
 * Reading accepts what CPython's json.loads() does, but for non-finite
 * numbers, lone surrogates and more than DB_JSON_MAX_DEPTH levels; what it
 * refuses is worded as json.loads() words it.  Any thread; a tree belongs to
 * the owner of its arena.
 */

#ifndef DB_JSON_H
#define DB_JSON_H

#include "core/db_buf.h"

#include <stdint.h>


#define DB_JSON_MAX_DEPTH    100     /* arrays and objects within each other */
#define DB_JSON_MAX_DIGITS   4300    /* CPython's limit for an int */
#define DB_JSON_REAL_SIZE    32      /* of a number's text */


typedef enum {
    DB_JSON_NULL,
    DB_JSON_FALSE,
    DB_JSON_TRUE,
    DB_JSON_INT,
    DB_JSON_BIGINT,                  /* beyond 64 bits: its text */
    DB_JSON_REAL,
    DB_JSON_STRING,
    DB_JSON_ARRAY,
    DB_JSON_OBJECT
} db_json_kind_t;


typedef struct db_json_s  db_json_t;

struct db_json_s {
    uint8_t         kind;
    uint8_t         plain:1;         /* STRING: nothing to be escaped */
    uint8_t         key_plain:1;
    uint32_t        count;           /* of ARRAY and OBJECT */
    db_json_t      *next;            /* in the same array or object */
    db_str_t        key;             /* in an object */

    union {
        int64_t     integer;
        double      real;
        db_str_t    text;            /* STRING and BIGINT */
        db_json_t  *child;           /* the first */
    } u;
};


typedef enum {
    DB_JSON_SYNTAX,                  /* message and position are set */
    DB_JSON_UNREADABLE               /* not UTF-8, or an int too long */
} db_json_fault_t;

typedef struct {
    db_json_fault_t  fault;
    const char      *message;
    size_t           position;       /* in characters */
} db_json_error_t;


/*
 * DB_OK: *root.  DB_DECLINED: refused, *error says why.  DB_ERROR: out of
 * memory.  A member given twice has its first place and its last value.
 */
int db_json_read(db_arena_t *arena, db_str_t text, db_json_t **root,
    db_json_error_t *error);

int db_json_is_utf8(db_str_t text);

/*
 * What json.loads() says about text that the reader refuses: DB_DECLINED
 * with *error; DB_OK when it finds nothing wrong.
 */
int db_json_scan(db_str_t text, db_json_error_t *error);


/* As json.dumps(ensure_ascii=False, separators=(",", ":")) writes it. */
void db_json_write(db_buf_t *buf, const db_json_t *node);
void db_json_write_string(db_buf_t *buf, db_str_t text);

/* The name of a member, between what is before it and its colon. */
void db_json_write_name(db_buf_t *buf, char before, db_str_t name);
void db_json_write_int(db_buf_t *buf, int64_t value);


/* Texts of a finite number; return the length, below DB_JSON_REAL_SIZE. */
size_t db_json_real_repr(char *dst, double value);   /* Python's repr() */
size_t db_json_real_text(char *dst, double value);   /* as pydantic writes */

/*
 * The shortest digits that read back as value, which is finite and not
 * negative: their number, and the decimal exponent of 0.d1d2...
 */
unsigned db_json_real_digits(double value, char digits[24], int *exponent);

/*
 * Reads digits, ".", an exponent: the grammar is the caller's business.
 * Overflow is infinity, underflow 0.
 */
double db_json_real_read(db_str_t text);

#endif /* DB_JSON_H */
