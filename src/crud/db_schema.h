/*
 * A compiled schema: models, fields and types.  Written once by
 * db_schema_compile(), constant afterwards; all of it lives in its arena but
 * for the patterns, which db_schema_destroy() frees.
 */

#ifndef DB_SCHEMA_H
#define DB_SCHEMA_H

#include "core/db_arena.h"
#include "crud/db_crud.h"
#include "crud/db_regex.h"
#include "json/db_json.h"
#include "scalar/db_scalar.h"

#include <stdint.h>


typedef struct db_type_s    db_type_t;
typedef struct db_model_s   db_model_t;
typedef struct db_choice_s  db_choice_t;


/*
 * Those before LIST have values that can be compared, those before TIMEDELTA
 * in an order as well.
 */

typedef enum {
    DB_TYPE_STR,
    DB_TYPE_INT,
    DB_TYPE_FLOAT,
    DB_TYPE_BOOL,
    DB_TYPE_DATETIME,
    DB_TYPE_UUID,
    DB_TYPE_DATE,
    DB_TYPE_TIME,
    DB_TYPE_BYTES,
    DB_TYPE_TIMEDELTA,
    DB_TYPE_DECIMAL,
    DB_TYPE_LIST,
    DB_TYPE_DICT,                /* with str keys */
    DB_TYPE_MODEL,
    DB_TYPE_LITERAL,             /* one of values, compared as "like" */
    DB_TYPE_ENUM,
    DB_TYPE_TUPLE,               /* of as many items as choices */
    DB_TYPE_UNION,
    DB_TYPE_TAGGED,              /* a union chosen by a member's text */
    DB_TYPE_ANY                  /* any JSON, kept as it is */
} db_type_kind_t;


/* In the order in which pydantic looks at them. */

typedef enum {
    DB_BOUND_MULTIPLE,
    DB_BOUND_LE,
    DB_BOUND_LT,
    DB_BOUND_GE,
    DB_BOUND_GT,
    DB_BOUNDS
} db_bound_kind_t;

typedef struct {
    unsigned         set:1;
    int64_t          integer;    /* of an int */
    double           real;       /* of a float */
    db_decimal_t     decimal;
    db_str_t         message;    /* the number as the message has it */
    db_str_t         ctx;        /* and as JSON */
} db_bound_t;


struct db_type_s {
    db_type_kind_t   kind;
    db_type_kind_t   like;       /* kind, or of what kind all values are */
    db_type_kind_t   mixin;      /* enum: INT, STR, or ANY for none */
    unsigned         nullable:1;
    unsigned         strip:1;    /* str: white space at both ends */
    unsigned         finite:1;   /* float: as pydantic's allow_inf_nan=False */
    unsigned         strict:1;   /* int, float, bool: nothing is converted */
    unsigned         tuple:1;    /* list: called a tuple */
    unsigned         has_min:1;
    unsigned         has_max:1;
    uint64_t         min;        /* length of str, list, dict, bytes; */
    uint64_t         max;        /* decimal: places, and digits */
    db_bound_t      *bounds;     /* DB_BOUNDS of them, or NULL */
    db_regex_t      *pattern;
    db_str_t         pattern_text;
    db_type_t       *items;      /* of list, dict */
    db_model_t      *model;
    const db_json_t *values;     /* the first one */
    db_str_t         expected;   /* them, or all tags, as the message has it */
    db_choice_t     *choices;
    unsigned         nchoices;
    db_str_t         discriminator;
    db_str_t         quoted;     /* it, as the message has it */
};


struct db_choice_s {
    db_str_t         label;      /* in the loc of errors; the tag of a tagged */
    db_type_t        type;
};


typedef enum {
    DB_DEFAULT_NONE,             /* required */
    DB_DEFAULT_VALUE,
    DB_DEFAULT_LIST,
    DB_DEFAULT_DICT,
    DB_DEFAULT_UUID4,
    DB_DEFAULT_NOW,              /* datetime.now() */
    DB_DEFAULT_UTCNOW,           /* datetime.utcnow() */
    DB_DEFAULT_NOW_UTC           /* datetime.now(timezone.utc) */
} db_default_t;


/* A datetime that is set by the server alone. */

typedef enum {
    DB_STAMP_NONE,
    DB_STAMP_CREATED,
    DB_STAMP_UPDATED
} db_stamp_t;


typedef struct {
    db_str_t         name;       /* in documents, and for filters */
    db_str_t         key;        /* "name": as it is written */
    const db_str_t  *accepts;    /* names that clients give it, best first */
    unsigned         naccepts;
    db_type_t        type;
    db_stamp_t       stamp;
    unsigned         read_only:1;
    unsigned         immutable:1;
    unsigned         write_only:1;
    db_default_t     fallback;
    const db_json_t *value;      /* the default as the schema has it */
    db_str_t         text;       /* and as it is stored */
} db_field_t;


struct db_model_s {
    db_str_t         name;
    unsigned         forbid:1;   /* unknown members are errors */
    unsigned         aliased:1;  /* clients have other names, at any depth */
    unsigned         nfields;
    db_field_t      *fields;
    db_form_t        form;       /* where it has datetimes */
};


struct db_crud_s {
    db_arena_t      *arena;
    db_regex_t      *patterns;   /* all of them, linked */

    db_str_t         name;
    db_str_t         prefix;
    db_str_t         store;
    unsigned         operations;
    unsigned         hybrid;     /* of them */
    db_collection_t  collection;

    db_model_t      *model;
    db_model_t      *models;     /* the nested ones */
    unsigned         nmodels;
    const db_field_t *id;        /* NULL: ObjectId */
    const db_str_t  *regex;      /* names of what $regex may be asked of */
    unsigned         nregex;

    unsigned         upsert:1;
    unsigned         require_match:1;
    unsigned         guarded:1;  /* fields are not all the client's */
    unsigned         keeps:1;    /* some keep their value in a PUT */
    const db_field_t **scope;    /* fields of variables' values */
    const db_str_t  *variables;
    unsigned         nscope;
    const db_path_t *visible;    /* what is answered; 0: all of it */
    unsigned         nvisible;
    unsigned         timeout;    /* of the store, ms; 0: none */
    uint64_t         limit;      /* of a list */
    uint64_t         max_limit;

    db_str_t         allow_list; /* for Allow */
    db_str_t         allow_item;
};


/* Whether clients name members of such values otherwise than documents do. */
int db_type_is_aliased(const db_type_t *type);

#endif /* DB_SCHEMA_H */
