/*
 * The query of a list: its options, and conditions by name.
 */

#include "crud/db_member.h"

#include "route/db_query.h"


/* The values of the options; data is NULL where one is not given. */

typedef struct {
    db_str_t  filter;
    db_str_t  sort;
    db_str_t  fields;
    db_str_t  limit;
    db_str_t  skip;
    db_str_t  after;
    db_str_t  count;
} db_options_t;


static db_str_t *
db_filter_option(db_options_t *options, db_str_t name)
{
    size_t  i;

    const struct {
        db_str_t   name;
        db_str_t  *value;
    } known[] = {
        { db_string("filter"), &options->filter },
        { db_string("sort"), &options->sort },
        { db_string("fields"), &options->fields },
        { db_string("limit"), &options->limit },
        { db_string("skip"), &options->skip },
        { db_string("after"), &options->after },
        { db_string("count"), &options->count },
    };

    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (db_str_eq(known[i].name, name)) {
            return known[i].value;
        }
    }

    return NULL;
}


/* Plain digits, or -1. */

static int64_t
db_filter_number(db_str_t text)
{
    size_t   i;
    int64_t  n;

    if (text.len == 0 || text.len > 18) {
        return -1;
    }

    n = 0;

    for (i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return -1;
        }

        n = n * 10 + (text.data[i] - '0');
    }

    return n;
}


static int
db_filter_page(db_filter_t *f, const db_options_t *options)
{
    int64_t  n;

    f->op->limit = f->crud->limit;

    if (options->limit.data) {
        n = db_filter_number(options->limit);

        if (n < 1 || (uint64_t) n > f->crud->max_limit) {
            return db_filter_error(f, "limit must be an int from 1 to %llu",
                                   (unsigned long long) f->crud->max_limit);
        }

        f->op->limit = (uint64_t) n;
    }

    if (options->skip.data) {
        n = db_filter_number(options->skip);

        if (n < 0) {
            return db_filter_error(f, "skip must be an int of 0 or more");
        }

        if (options->after.data) {
            return db_filter_error(f, "skip and after exclude each other");
        }

        f->op->skip = (uint64_t) n;
    }

    if (options->count.data == NULL
        || db_str_eq(options->count, db_string("false")))
    {
        return DB_OK;
    }

    if (!db_str_eq(options->count, db_string("true"))) {
        return db_filter_error(f, "count must be true or false");
    }

    f->op->count = 1;

    return DB_OK;
}


/* Takes the text up to the next comma off a list. */

static db_str_t
db_filter_item(db_str_t *list)
{
    db_str_t     item;
    const char  *comma;

    item = *list;
    comma = item.len ? memchr(item.data, ',', item.len) : NULL;

    if (comma == NULL) {
        *list = db_null_string;
        return item;
    }

    item.len = (size_t) (comma - item.data);
    *list = (db_str_t) { comma + 1, list->len - item.len - 1 };

    return item;
}


static int
db_filter_sort_key(db_filter_t *f, db_str_t name, db_key_t *keys, unsigned n)
{
    int          rc;
    unsigned     i, j;
    db_member_t  member;

    keys[n].descending = 0;

    if (name.len && name.data[0] == '-') {
        keys[n].descending = 1;
        name.data++;
        name.len--;
    }

    rc = db_filter_member(f, f->crud->model, db_null_string, name, &member);
    if (rc != DB_OK) {
        return rc;
    }

    if (member.lists || member.type->like >= DB_TYPE_LIST) {
        return db_filter_error(f, "'%.*s' cannot be sorted by: it is not one "
                               "value", (int) name.len, name.data);
    }

    if (member.type->like >= DB_TYPE_TIMEDELTA) {
        return db_filter_error(f, "'%.*s' cannot be sorted by: it has no "
                               "order", (int) name.len, name.data);
    }

    keys[n].path = member.path;
    keys[n].kind = db_filter_kind(member.type);

    for (i = 0; i < n; i++) {

        for (j = 0; j < member.path.nsteps
                    && j < keys[i].path.nsteps
                    && db_str_eq(keys[i].path.steps[j],
                                 member.path.steps[j]); j++)
        {
            /* void */
        }

        if (j == member.path.nsteps && j == keys[i].path.nsteps) {
            return db_filter_error(f, "'%.*s' is there twice in sort",
                                   (int) name.len, name.data);
        }
    }

    return DB_OK;
}


int
db_filter_sort(db_filter_t *f, db_str_t list, const db_key_t **sort,
    unsigned *nsort)
{
    int        rc;
    db_key_t  *keys;
    unsigned   n;

    keys = db_arena_calloc(f->arena,
                           (DB_FILTER_MAX_SORT + 1) * sizeof(db_key_t));
    if (keys == NULL) {
        return DB_ERROR;
    }

    *sort = keys;

    for (n = 0; list.data; n++) {

        if (n == DB_FILTER_MAX_SORT) {
            return db_filter_error(f, "sort can have at most %d fields",
                                   DB_FILTER_MAX_SORT);
        }

        rc = db_filter_sort_key(f, db_filter_item(&list), keys, n);
        if (rc != DB_OK) {
            return rc;
        }

        if (keys[n].path.nsteps == 1
            && db_str_eq(keys[n].path.steps[0], db_string("id")))
        {
            *nsort = n + 1;

            return list.data == NULL ? DB_OK
                   : db_filter_error(f, "id must be the last in sort");
        }
    }

    *nsort = n + 1;

    return db_filter_sort_key(f, n && keys[n - 1].descending
                                 ? db_string("-id") : db_string("id"),
                              keys, n);
}


static int
db_filter_fields(db_filter_t *f, db_str_t list)
{
    int           rc;
    db_path_t    *fields;
    unsigned      n;
    db_member_t   member;

    if (list.data == NULL) {
        return DB_OK;
    }

    fields = db_arena_calloc(f->arena,
                             DB_FILTER_MAX_FIELDS * sizeof(db_path_t));
    if (fields == NULL) {
        return DB_ERROR;
    }

    for (n = 0; list.data; n++) {

        if (n == DB_FILTER_MAX_FIELDS) {
            return db_filter_error(f, "fields can have at most %d names",
                                   DB_FILTER_MAX_FIELDS);
        }

        rc = db_filter_member(f, f->crud->model, db_null_string,
                              db_filter_item(&list), &member);
        if (rc != DB_OK) {
            return rc;
        }

        fields[n] = member.path;
    }

    f->op->fields = fields;
    f->op->nfields = n;

    return DB_OK;
}


/* A parameter that is no option: the field equals its value. */

static int
db_filter_equal(db_filter_t *f, const db_query_pair_t *pair,
    db_condition_t ***tail)
{
    int               rc;
    db_value_t       *value;
    db_member_t       member;
    db_condition_t   *condition;
    const db_type_t  *type;

    rc = db_filter_member(f, f->crud->model, db_null_string, pair->name,
                          &member);
    if (rc != DB_OK) {
        return rc;
    }

    condition = db_filter_add(f, tail, DB_CONDITION_EQ, &member, &rc);
    if (condition == NULL) {
        return rc;
    }

    value = db_arena_calloc(f->arena, sizeof(db_value_t));
    if (value == NULL) {
        return DB_ERROR;
    }

    condition->values = value;
    condition->nvalues = 1;

    type = member.type->kind == DB_TYPE_LIST ? member.type->items
                                             : member.type;

    return db_filter_text_value(f, &member, type, pair->value, value);
}


static int
db_filter_pair(db_filter_t *f, const db_query_pair_t *pair,
    db_options_t *options, db_condition_t ***tail)
{
    db_str_t  *option;

    if (!db_json_is_utf8(pair->name) || !db_json_is_utf8(pair->value)) {
        return db_filter_error(f, "the query must be UTF-8");
    }

    option = db_filter_option(options, pair->name);

    if (option == NULL) {
        return db_filter_equal(f, pair, tail);
    }

    if (option->data) {
        return db_filter_error(f, "%.*s is there twice",
                               (int) pair->name.len, pair->name.data);
    }

    *option = pair->value;

    if (option->data == NULL) {
        *option = db_string("");
    }

    return DB_OK;
}


int
db_filter_parse(const db_crud_t *crud, db_arena_t *arena, db_str_t query,
    db_store_op_t *op, db_regex_t **patterns, db_str_t *message)
{
    int               rc;
    unsigned          i, npairs;
    db_filter_t       f;
    db_options_t      options;
    db_condition_t  **tail;
    db_query_pair_t  *pairs;

    f = (db_filter_t) { .crud = crud, .arena = arena, .op = op,
                        .patterns = patterns, .message = message };

    memset(&options, 0, sizeof(options));
    npairs = 0;

    /* there may be some that the client has no say in */

    for (tail = &op->conditions; *tail; tail = &(*tail)->next) {
        /* void */
    }

    if (query.len && db_query_parse(arena, query, &pairs, &npairs) != DB_OK) {
        return DB_ERROR;
    }

    for (i = 0; i < npairs; i++) {
        rc = db_filter_pair(&f, &pairs[i], &options, &tail);
        if (rc != DB_OK) {
            return rc;
        }
    }

    if (options.filter.data) {
        rc = db_filter_json(&f, options.filter, &tail);
        if (rc != DB_OK) {
            return rc;
        }
    }

    rc = db_filter_page(&f, &options);

    if (rc == DB_OK) {
        rc = db_filter_sort(&f, options.sort, &op->sort, &op->nsort);
    }

    if (rc == DB_OK) {
        rc = db_filter_fields(&f, options.fields);
    }

    if (rc == DB_OK && options.after.data) {
        rc = db_filter_after(&f, options.after);
    }

    return rc;
}
