/*
 * What is asked for, as MongoDB has it: conditions, a place in a sorted list
 * and members of documents.  All of it is bytes of BSON in a buffer of the
 * caller's; names are the model's, values are values and never operators.
 */

#include "store/mongo/bson.h"
#include "store/mongo/mongo.h"


static const db_str_t  db_mongo_id = { "_id", 3 };


static const db_str_t  db_mongo_operators[] = {
    [DB_CONDITION_AND] = { "$and", 4 },
    [DB_CONDITION_OR] = { "$or", 3 },
    [DB_CONDITION_NOR] = { "$nor", 4 },
    [DB_CONDITION_NOT] = { "$not", 4 },
    [DB_CONDITION_EQ] = { "$eq", 3 },
    [DB_CONDITION_NE] = { "$ne", 3 },
    [DB_CONDITION_GT] = { "$gt", 3 },
    [DB_CONDITION_GTE] = { "$gte", 4 },
    [DB_CONDITION_LT] = { "$lt", 3 },
    [DB_CONDITION_LTE] = { "$lte", 4 },
    [DB_CONDITION_IN] = { "$in", 3 },
    [DB_CONDITION_NIN] = { "$nin", 4 },
    [DB_CONDITION_ALL] = { "$all", 4 },
    [DB_CONDITION_EXISTS] = { "$exists", 7 },
    [DB_CONDITION_SIZE] = { "$size", 5 },
    [DB_CONDITION_ELEM_MATCH] = { "$elemMatch", 10 },
    [DB_CONDITION_REGEX] = { "$regex", 6 }
};


static int
db_mongo_is_id(const db_path_t *path)
{
    return path->nsteps == 1 && db_str_eq(path->steps[0], db_string("id"));
}


db_str_t
db_mongo_path(db_arena_t *arena, const db_path_t *path)
{
    db_buf_t  name;
    unsigned  i;

    if (db_mongo_is_id(path)) {
        return db_mongo_id;
    }

    if (path->nsteps == 1) {
        return path->steps[0];
    }

    db_buf_init(&name, arena, 64);

    for (i = 0; i < path->nsteps; i++) {
        db_buf_append(&name, ".", i != 0);
        db_buf_str(&name, path->steps[i]);
    }

    return name.failed ? db_null_string : (db_str_t) { name.data, name.len };
}


static size_t
db_mongo_begin(db_buf_t *out, db_bson_type_t type, db_str_t name)
{
    db_bson_name(out, type, name);

    return db_bson_begin(out);
}


static size_t
db_mongo_begin_item(db_buf_t *out, unsigned n)
{
    char  name[DB_BSON_INDEX];

    return db_mongo_begin(out, DB_BSON_OBJECT, db_bson_index(name, n));
}


/* An id that the collection cannot hold is equal to none of its own. */

static void
db_mongo_value(db_mongo_filter_t *f, db_str_t name, const db_value_t *value,
    int id)
{
    if (!id || value->kind == DB_VALUE_NULL
        || db_bson_id(f->out, name, f->collection, value) != DB_OK)
    {
        db_bson_value(f->out, name, value);
    }
}


static void
db_mongo_text(db_buf_t *out, db_str_t name, db_str_t text)
{
    db_value_t  value;

    value = (db_value_t) { .kind = DB_VALUE_TEXT, .text = text };

    db_bson_value(out, name, &value);
}


/* The nodes as members of an array: each is a filter. */

static void
db_mongo_nodes(db_mongo_filter_t *f, const db_condition_t *node)
{
    size_t    start;
    unsigned  n;

    for (n = 0; node; node = node->next) {
        start = db_mongo_begin_item(f->out, n++);
        db_mongo_condition(f, node);
        db_bson_end(f->out, start);
    }
}


static void
db_mongo_logic(db_mongo_filter_t *f, db_condition_kind_t kind,
    const db_condition_t *nodes)
{
    size_t  start;

    /* an empty $and is an error, and no condition at all */

    if (nodes) {
        start = db_mongo_begin(f->out, DB_BSON_ARRAY,
                               db_mongo_operators[kind]);
        db_mongo_nodes(f, nodes);
        db_bson_end(f->out, start);
    }
}


/* Whether conditions are about the member of a list itself. */

static int
db_mongo_is_bare(const db_condition_t *node)
{
    while (node && node->kind == DB_CONDITION_NOT) {
        node = node->nodes;
    }

    return node && node->kind > DB_CONDITION_NOT && node->path.nsteps == 0;
}


/* A condition without its path: {"$gt": 5}, between the braces. */

static void
db_mongo_operator(db_mongo_filter_t *f, const db_condition_t *c)
{
    char                   name[DB_BSON_INDEX];
    int                    id, element;
    size_t                 start;
    db_str_t               operator;
    unsigned               i;
    const db_condition_t  *node;

    operator = db_mongo_operators[c->kind];
    id = !f->element && db_mongo_is_id(&c->path);

    switch (c->kind) {

    case DB_CONDITION_NOT:
        start = db_mongo_begin(f->out, DB_BSON_OBJECT, operator);

        for (node = c->nodes; node; node = node->next) {
            db_mongo_operator(f, node);
        }

        db_bson_end(f->out, start);
        break;

    case DB_CONDITION_IN:
    case DB_CONDITION_NIN:
    case DB_CONDITION_ALL:
        if (c->nvalues == 0 && c->kind == DB_CONDITION_ALL) {
            operator = db_mongo_operators[DB_CONDITION_IN];
        }

        start = db_mongo_begin(f->out, DB_BSON_ARRAY, operator);

        for (i = 0; i < c->nvalues; i++) {
            db_mongo_value(f, db_bson_index(name, i), &c->values[i], id);
        }

        db_bson_end(f->out, start);
        break;

    case DB_CONDITION_EXISTS:
        db_bson_bool(f->out, operator, c->number != 0);
        break;

    case DB_CONDITION_SIZE:
        db_bson_integer(f->out, operator, c->number);
        break;

    case DB_CONDITION_ELEM_MATCH:
        element = f->element;
        f->element = 1;
        start = db_mongo_begin(f->out, DB_BSON_OBJECT, operator);

        if (db_mongo_is_bare(c->nodes)) {
            for (node = c->nodes; node; node = node->next) {
                db_mongo_operator(f, node);
            }

        } else {
            db_mongo_logic(f, DB_CONDITION_AND, c->nodes);
        }

        db_bson_end(f->out, start);
        f->element = element;
        break;

    case DB_CONDITION_REGEX:
        db_mongo_text(f->out, operator, c->regex->text);

        if (c->regex->options.len) {
            db_mongo_text(f->out, db_string("$options"), c->regex->options);
        }

        break;

    case DB_CONDITION_GTE:
    case DB_CONDITION_LTE:
        if (c->values->kind == DB_VALUE_NULL) {
            operator = db_mongo_operators[DB_CONDITION_EQ];
        }

        /* fall through */

    default:
        db_mongo_value(f, operator, c->values, id);
    }
}


/* {path: {operator: value}} as the n-th of an array. */

static void
db_mongo_compare(db_mongo_filter_t *f, unsigned n, const db_path_t *path,
    db_condition_kind_t kind, const db_value_t *value)
{
    size_t          start;
    db_condition_t  condition;

    condition = (db_condition_t) { .kind = kind, .path = *path,
                                   .values = value, .nvalues = 1,
                                   .number = 1 };

    start = db_mongo_begin_item(f->out, n);
    db_mongo_condition(f, &condition);
    db_bson_end(f->out, start);
}


/*
 * What servers do not all take to mean the same is said with what they do:
 * the negation of a condition, and each value of "all" for itself.
 */

static int
db_mongo_rephrased(db_mongo_filter_t *f, const db_condition_t *c)
{
    size_t    list, item;
    unsigned  i;

    switch (c->kind) {

    case DB_CONDITION_NOT:
        list = db_mongo_begin(f->out, DB_BSON_ARRAY,
                              db_mongo_operators[DB_CONDITION_NOR]);
        item = db_mongo_begin_item(f->out, 0);
        db_mongo_logic(f, DB_CONDITION_AND, c->nodes);
        db_bson_end(f->out, item);
        db_bson_end(f->out, list);
        return 1;

    case DB_CONDITION_EXISTS:
        if (c->number) {
            return 0;
        }

        list = db_mongo_begin(f->out, DB_BSON_ARRAY,
                              db_mongo_operators[DB_CONDITION_NOR]);
        db_mongo_compare(f, 0, &c->path, DB_CONDITION_EXISTS, NULL);
        db_bson_end(f->out, list);
        return 1;

    case DB_CONDITION_ALL:
        if (c->nvalues == 0) {
            return 0;
        }

        list = db_mongo_begin(f->out, DB_BSON_ARRAY,
                              db_mongo_operators[DB_CONDITION_AND]);

        for (i = 0; i < c->nvalues; i++) {
            db_mongo_compare(f, i, &c->path, DB_CONDITION_EQ, &c->values[i]);
        }

        db_bson_end(f->out, list);
        return 1;

    default:
        return 0;
    }
}


void
db_mongo_condition(db_mongo_filter_t *f, const db_condition_t *c)
{
    size_t    start;
    db_str_t  path;

    switch (c->kind) {

    case DB_CONDITION_AND:
    case DB_CONDITION_OR:
    case DB_CONDITION_NOR:
        db_mongo_logic(f, c->kind, c->nodes);
        return;

    default:
        break;
    }

    if (db_mongo_rephrased(f, c)) {
        return;
    }

    path = (f->element && c->path.nsteps == 1)
           ? c->path.steps[0] : db_mongo_path(f->out->arena, &c->path);

    start = db_mongo_begin(f->out, DB_BSON_OBJECT, path);
    db_mongo_operator(f, c);
    db_bson_end(f->out, start);
}


/* The types of values before or behind a value's own, as they are sorted. */

static void
db_mongo_types(db_mongo_filter_t *f, const db_key_t *key,
    const db_value_t *value)
{
    char                   name[DB_BSON_INDEX];
    size_t                 start, list;
    unsigned               i, own, n;
    db_value_t             type;

    static const db_str_t  types[] = {
        { "number", 6 }, { "string", 6 }, { "object", 6 }, { "binData", 7 },
        { "objectId", 8 }, { "bool", 4 }, { "date", 4 }
    };

    own = value->kind == DB_VALUE_TEXT ? 1
          : value->kind == DB_VALUE_BOOL ? 5
          : value->kind == DB_VALUE_TIME ? 6
          : 0;
    n = 0;

    start = db_mongo_begin(f->out, DB_BSON_OBJECT,
                           db_mongo_path(f->out->arena, &key->path));
    list = db_mongo_begin(f->out, DB_BSON_ARRAY, db_string("$type"));

    for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (key->descending ? i < own : i > own) {
            type = (db_value_t) { .kind = DB_VALUE_TEXT, .text = types[i] };
            db_bson_value(f->out, db_bson_index(name, n++), &type);
        }
    }

    /* a list that is empty would be an error */

    if (n == 0) {
        type = (db_value_t) { .kind = DB_VALUE_TEXT,
                              .text = db_string("maxKey") };
        db_bson_value(f->out, db_bson_index(name, 0), &type);
    }

    db_bson_end(f->out, list);
    db_bson_end(f->out, start);
}


/*
 * What comes behind a value in the order of one key; null, and missing, are
 * before all others.
 */

static void
db_mongo_beyond(db_mongo_filter_t *f, unsigned n, const db_key_t *key,
    const db_value_t *value)
{
    size_t             item, list, type;

    static const db_value_t  null = { .kind = DB_VALUE_NULL };

    if (db_mongo_is_id(&key->path) || value->kind == DB_VALUE_NULL) {
        db_mongo_compare(f, n, &key->path,
                         key->descending ? DB_CONDITION_LT
                         : value->kind == DB_VALUE_NULL ? DB_CONDITION_NE
                         : DB_CONDITION_GT,
                         value);
        return;
    }

    item = db_mongo_begin_item(f->out, n);
    list = db_mongo_begin(f->out, DB_BSON_ARRAY,
                          db_mongo_operators[DB_CONDITION_OR]);
    db_mongo_compare(f, 0, &key->path, key->descending ? DB_CONDITION_LT
                                                : DB_CONDITION_GT,
                     value);

    type = db_mongo_begin_item(f->out, 1);
    db_mongo_types(f, key, value);
    db_bson_end(f->out, type);

    if (key->descending) {
        db_mongo_compare(f, 2, &key->path, DB_CONDITION_EQ, &null);
    }

    db_bson_end(f->out, list);
    db_bson_end(f->out, item);
}


/*
 * Where the server can begin in an index: what follows is not before the
 * value, nor null when it is not.
 */

static unsigned
db_mongo_bound(db_mongo_filter_t *f, unsigned n, const db_key_t *key,
    const db_value_t *value)
{
    size_t             item, start, not;

    static const db_value_t  null = { .kind = DB_VALUE_NULL };

    if (value->kind == DB_VALUE_NULL) {
        if (key->descending) {
            db_mongo_compare(f, n++, &key->path, DB_CONDITION_EQ, value);
        }

        return n;
    }

    item = db_mongo_begin_item(f->out, n++);
    start = db_mongo_begin(f->out, DB_BSON_OBJECT,
                           db_mongo_path(f->out->arena, &key->path));
    not = db_mongo_begin(f->out, DB_BSON_OBJECT,
                         db_mongo_operators[DB_CONDITION_NOT]);
    db_mongo_value(f, db_mongo_operators[key->descending ? DB_CONDITION_GT
                                                         : DB_CONDITION_LT],
                   value, db_mongo_is_id(&key->path));
    db_bson_end(f->out, not);

    if (!key->descending) {
        db_bson_value(f->out, db_mongo_operators[DB_CONDITION_NE], &null);
    }

    db_bson_end(f->out, start);
    db_bson_end(f->out, item);

    return n;
}


/* Either the first key is beyond, or it is equal and the second one, ... */

static void
db_mongo_after(db_mongo_filter_t *f, unsigned n, const db_store_op_t *op)
{
    size_t    item, list, inner, nested;
    unsigned  i, j;

    n = db_mongo_bound(f, n, &op->sort[0], &op->after[0]);

    item = db_mongo_begin_item(f->out, n);
    list = db_mongo_begin(f->out, DB_BSON_ARRAY,
                          db_mongo_operators[DB_CONDITION_OR]);

    for (i = 0; i < op->nsort; i++) {
        inner = db_mongo_begin_item(f->out, i);
        nested = db_mongo_begin(f->out, DB_BSON_ARRAY,
                                db_mongo_operators[DB_CONDITION_AND]);

        for (j = 0; j < i; j++) {
            db_mongo_compare(f, j, &op->sort[j].path, DB_CONDITION_EQ,
                             &op->after[j]);
        }

        db_mongo_beyond(f, i, &op->sort[i], &op->after[i]);
        db_bson_end(f->out, nested);
        db_bson_end(f->out, inner);
    }

    db_bson_end(f->out, list);
    db_bson_end(f->out, item);
}


void
db_mongo_conditions(db_mongo_filter_t *f, const db_store_op_t *op, int after)
{
    size_t                 list, item;
    unsigned               n;
    const db_condition_t  *c;

    if (op->conditions == NULL && !after) {
        return;
    }

    n = 0;
    list = db_mongo_begin(f->out, DB_BSON_ARRAY,
                          db_mongo_operators[DB_CONDITION_AND]);

    for (c = op->conditions; c; c = c->next) {
        item = db_mongo_begin_item(f->out, n++);
        db_mongo_condition(f, c);
        db_bson_end(f->out, item);
    }

    if (after) {
        db_mongo_after(f, n, op);
    }

    db_bson_end(f->out, list);
}


void
db_mongo_sort(db_buf_t *out, const db_key_t *keys, unsigned n)
{
    unsigned    i;
    db_value_t  value;

    for (i = 0; i < n; i++) {
        value = (db_value_t) { .kind = DB_VALUE_INT,
                               .integer = keys[i].descending ? -1 : 1 };
        db_bson_value(out, db_mongo_path(out->arena, &keys[i].path), &value);
    }
}


static const db_path_t *
db_mongo_member(const db_store_op_t *op, unsigned n)
{
    return n < op->nfields ? &op->fields[n] : &op->sort[n - op->nfields].path;
}


/* Whether another of the members holds this one, or is the same before it. */

static int
db_mongo_is_covered(const db_store_op_t *op, unsigned n, unsigned total)
{
    unsigned          i, j;
    const db_path_t  *path, *other;

    path = db_mongo_member(op, n);

    for (i = 0; i < total; i++) {
        other = db_mongo_member(op, i);

        for (j = 0; j < other->nsteps && j < path->nsteps
                    && db_str_eq(other->steps[j], path->steps[j]); j++)
        {
            /* void */
        }

        if (j == other->nsteps && (j < path->nsteps || i < n)) {
            return 1;
        }
    }

    return 0;
}


void
db_mongo_projection(db_buf_t *out, const db_store_op_t *op)
{
    size_t            start;
    unsigned          i, total;
    const db_path_t  *path;

    total = op->nfields + op->nsort;
    start = db_mongo_begin(out, DB_BSON_OBJECT, db_string("projection"));

    db_bson_integer(out, db_string("_v"), 1);

    /* the id comes of itself, before all others */

    for (i = 0; i < total; i++) {
        path = db_mongo_member(op, i);

        if (!db_mongo_is_id(path) && !db_mongo_is_covered(op, i, total)) {
            db_bson_integer(out, db_mongo_path(out->arena, path), 1);
        }
    }

    db_bson_end(out, start);
}
