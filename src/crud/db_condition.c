/*
 * A JSON filter to a tree of conditions.  Operators and fields that are not
 * on the lists here and in the model are refused: what a filter can ask for
 * is what this file says.
 */

#include "crud/db_member.h"

#include <stdio.h>


static const struct {
    db_str_t             name;
    db_condition_kind_t  kind;
} db_condition_compare[] = {
    { { "$eq", 3 }, DB_CONDITION_EQ },
    { { "$ne", 3 }, DB_CONDITION_NE },
    { { "$gt", 3 }, DB_CONDITION_GT },
    { { "$gte", 4 }, DB_CONDITION_GTE },
    { { "$lt", 3 }, DB_CONDITION_LT },
    { { "$lte", 4 }, DB_CONDITION_LTE },
}, db_condition_sets[] = {
    { { "$in", 3 }, DB_CONDITION_IN },
    { { "$nin", 4 }, DB_CONDITION_NIN },
    { { "$all", 4 }, DB_CONDITION_ALL },
}, db_condition_logic[] = {
    { { "$and", 4 }, DB_CONDITION_AND },
    { { "$or", 3 }, DB_CONDITION_OR },
    { { "$nor", 4 }, DB_CONDITION_NOR },
};

#define db_condition_count(table)  (sizeof(table) / sizeof(table[0]))


static int db_condition_object(db_filter_t *f, const db_model_t *model,
    db_str_t within, const db_json_t *node, unsigned depth,
    db_condition_t ***tail);
static int db_condition_operators(db_filter_t *f, const db_member_t *member,
    const db_json_t *node, unsigned depth, db_condition_t ***tail);


db_condition_t *
db_filter_add(db_filter_t *f, db_condition_t ***tail,
    db_condition_kind_t kind, const db_member_t *member, int *rc)
{
    db_condition_t  *condition;

    if (member && f->nconditions++ == DB_FILTER_MAX_CONDITIONS) {
        *rc = db_filter_error(f, "there can be at most %d conditions",
                              DB_FILTER_MAX_CONDITIONS);
        return NULL;
    }

    condition = db_arena_calloc(f->arena, sizeof(db_condition_t));
    if (condition == NULL) {
        *rc = DB_ERROR;
        return NULL;
    }

    condition->kind = kind;

    if (member) {
        condition->path = member->path;
        condition->scalar = !member->lists && member->path.nsteps > 0
                            && member->type->like < DB_TYPE_LIST;
    }

    **tail = condition;
    *tail = &condition->next;

    return condition;
}


/* What the members of a list are, or the value itself. */

static const db_type_t *
db_condition_type(const db_member_t *member)
{
    return member->type->kind == DB_TYPE_LIST ? member->type->items
                                              : member->type;
}


static int
db_condition_values(db_filter_t *f, const db_member_t *member,
    const db_json_t *first, unsigned n, db_condition_t *condition)
{
    int          rc;
    unsigned     i;
    db_value_t  *values;

    values = db_arena_calloc(f->arena, (n + 1) * sizeof(db_value_t));
    if (values == NULL) {
        return DB_ERROR;
    }

    for (i = 0; i < n; i++, first = first->next) {
        rc = db_filter_json_value(f, member, db_condition_type(member), first,
                                  &values[i]);
        if (rc != DB_OK) {
            return rc;
        }
    }

    condition->values = values;
    condition->nvalues = n;

    return DB_OK;
}


static int
db_condition_set(db_filter_t *f, const db_member_t *member,
    const db_json_t *node, db_condition_kind_t kind, db_condition_t ***tail)
{
    int              rc;
    db_condition_t  *condition;

    if (node->kind != DB_JSON_ARRAY) {
        return db_filter_error(f, "'%.*s': %.*s takes a list of values",
                               (int) member->name.len, member->name.data,
                               (int) node->key.len, node->key.data);
    }

    if (node->count > DB_FILTER_MAX_VALUES) {
        return db_filter_error(f, "'%.*s': %.*s takes at most %d values",
                               (int) member->name.len, member->name.data,
                               (int) node->key.len, node->key.data,
                               DB_FILTER_MAX_VALUES);
    }

    condition = db_filter_add(f, tail, kind, member, &rc);

    return condition ? db_condition_values(f, member, node->u.child,
                                           node->count, condition)
                     : rc;
}


static int
db_condition_number(db_filter_t *f, const db_member_t *member,
    const db_json_t *node, db_condition_t ***tail)
{
    int              rc, exists;
    db_condition_t  *condition;

    exists = db_str_eq(node->key, db_string("$exists"));

    if (exists && node->kind != DB_JSON_TRUE && node->kind != DB_JSON_FALSE) {
        return db_filter_error(f, "'%.*s': $exists takes true or false",
                               (int) member->name.len, member->name.data);
    }

    if (!exists && member->type->kind != DB_TYPE_LIST) {
        return db_filter_error(f, "'%.*s' is not a list: $size is not for it",
                               (int) member->name.len, member->name.data);
    }

    if (!exists && (node->kind != DB_JSON_INT || node->u.integer < 0)) {
        return db_filter_error(f, "'%.*s': $size takes an int of 0 or more",
                               (int) member->name.len, member->name.data);
    }

    condition = db_filter_add(f, tail, exists ? DB_CONDITION_EXISTS
                                              : DB_CONDITION_SIZE,
                              member, &rc);
    if (condition == NULL) {
        return rc;
    }

    condition->number = exists ? node->kind == DB_JSON_TRUE
                               : (uint64_t) node->u.integer;

    return DB_OK;
}


static int
db_condition_match(const void *compiled, db_str_t subject)
{
    return db_regex_match(compiled, subject);
}


static int
db_condition_is_declared(const db_crud_t *crud, db_str_t name)
{
    unsigned  i;

    for (i = 0; i < crud->nregex; i++) {
        if (db_str_eq(crud->regex[i], name)) {
            return 1;
        }
    }

    return 0;
}


static int
db_condition_options(db_filter_t *f, const db_member_t *member,
    const db_json_t *node, db_str_t *options)
{
    size_t  i;

    *options = db_null_string;

    if (node == NULL) {
        return DB_OK;
    }

    if (node->kind == DB_JSON_STRING && node->u.text.len <= 3) {
        *options = node->u.text;

        for (i = 0; i < options->len; i++) {
            if (memchr("ims", options->data[i], 3) == NULL) {
                break;
            }
        }

        if (i == options->len) {
            return DB_OK;
        }
    }

    return db_filter_error(f, "'%.*s': $options may have i, m and s",
                           (int) member->name.len, member->name.data);
}


static int
db_condition_regex(db_filter_t *f, const db_member_t *member,
    const db_json_t *node, const db_json_t *with, db_condition_t ***tail)
{
    int               rc;
    char              error[256];
    db_str_t          options;
    db_regex_t       *compiled;
    db_condition_t   *condition;
    db_regex_test_t  *regex;

    if (!db_condition_is_declared(f->crud, member->name)) {
        return db_filter_error(f, "'%.*s' is not declared for $regex",
                               (int) member->name.len, member->name.data);
    }

    if (node->kind != DB_JSON_STRING
        || node->u.text.len > DB_FILTER_MAX_PATTERN)
    {
        return db_filter_error(f, "'%.*s': $regex takes a pattern of at most "
                               "%d bytes", (int) member->name.len,
                               member->name.data, DB_FILTER_MAX_PATTERN);
    }

    if (f->npatterns++ == DB_FILTER_MAX_PATTERNS) {
        return db_filter_error(f, "a filter can have at most %d patterns",
                               DB_FILTER_MAX_PATTERNS);
    }

    rc = db_condition_options(f, member, with, &options);
    if (rc != DB_OK) {
        return rc;
    }

    regex = db_arena_calloc(f->arena, sizeof(db_regex_test_t));
    if (regex == NULL) {
        return DB_ERROR;
    }

    compiled = db_regex_create(node->u.text, options, DB_REGEX_CLIENT, error,
                               sizeof(error));
    if (compiled == NULL) {
        return db_filter_error(f, "'%.*s': the pattern cannot be used: %s",
                               (int) member->name.len, member->name.data,
                               error);
    }

    compiled->next = *f->patterns;
    *f->patterns = compiled;

    condition = db_filter_add(f, tail, DB_CONDITION_REGEX, member, &rc);
    if (condition == NULL) {
        return rc;
    }

    *regex = (db_regex_test_t) { compiled->text, options, compiled,
                                 db_condition_match };
    condition->regex = regex;

    return DB_OK;
}


/* Of a field that is a list: one member satisfies all of it. */

static int
db_condition_elem_match(db_filter_t *f, const db_member_t *member,
    const db_json_t *node, unsigned depth, db_condition_t ***tail)
{
    int                rc;
    db_member_t        element;
    db_condition_t    *condition, **nodes;
    const db_type_t   *type;

    if (member->type->kind != DB_TYPE_LIST) {
        return db_filter_error(f, "'%.*s' is not a list: $elemMatch is not "
                               "for it", (int) member->name.len,
                               member->name.data);
    }

    condition = db_filter_add(f, tail, DB_CONDITION_ELEM_MATCH, member, &rc);
    if (condition == NULL) {
        return rc;
    }

    nodes = &condition->nodes;
    type = member->type->items;

    if (type->kind == DB_TYPE_MODEL) {
        return db_condition_object(f, type->model, member->name, node,
                                   depth + 1, &nodes);
    }

    element = (db_member_t) { .name = member->name, .type = type };

    return db_condition_operators(f, &element, node, depth + 1, &nodes);
}


static int
db_condition_not(db_filter_t *f, const db_member_t *member,
    const db_json_t *node, unsigned depth, db_condition_t ***tail)
{
    int              rc;
    db_condition_t  *condition, **nodes;

    condition = db_filter_add(f, tail, DB_CONDITION_NOT, NULL, &rc);
    if (condition == NULL) {
        return rc;
    }

    nodes = &condition->nodes;

    return db_condition_operators(f, member, node, depth + 1, &nodes);
}


static const db_json_t *
db_condition_sibling(const db_json_t *object, db_str_t name)
{
    const db_json_t  *node;

    for (node = object->u.child; node; node = node->next) {
        if (db_str_eq(node->key, name)) {
            return node;
        }
    }

    return NULL;
}


/* The text that it is stored as need not be in the order of the values. */

static int
db_condition_is_ordered(const db_member_t *member)
{
    return db_condition_type(member)->like < DB_TYPE_TIMEDELTA
           || db_condition_type(member)->like >= DB_TYPE_LIST;
}


static int
db_condition_operator(db_filter_t *f, const db_member_t *member,
    const db_json_t *object, const db_json_t *node, unsigned depth,
    db_condition_t ***tail)
{
    int              rc;
    size_t           i;
    db_condition_t  *condition;

    for (i = 0; i < db_condition_count(db_condition_compare); i++) {

        if (!db_str_eq(db_condition_compare[i].name, node->key)) {
            continue;
        }

        if (!db_condition_is_ordered(member)
            && db_condition_compare[i].kind != DB_CONDITION_EQ
            && db_condition_compare[i].kind != DB_CONDITION_NE)
        {
            return db_filter_error(f, "'%.*s' has no order: %.*s is not for "
                                   "it", (int) member->name.len,
                                   member->name.data, (int) node->key.len,
                                   node->key.data);
        }

        condition = db_filter_add(f, tail, db_condition_compare[i].kind,
                                  member, &rc);

        return condition ? db_condition_values(f, member, node, 1, condition)
                         : rc;
    }

    for (i = 0; i < db_condition_count(db_condition_sets); i++) {
        if (db_str_eq(db_condition_sets[i].name, node->key)) {
            return db_condition_set(f, member, node,
                                    db_condition_sets[i].kind, tail);
        }
    }

    if (db_str_eq(node->key, db_string("$exists"))
        || db_str_eq(node->key, db_string("$size")))
    {
        return db_condition_number(f, member, node, tail);
    }

    if (db_str_eq(node->key, db_string("$elemMatch"))) {
        return db_condition_elem_match(f, member, node, depth, tail);
    }

    if (db_str_eq(node->key, db_string("$not"))) {
        return db_condition_not(f, member, node, depth, tail);
    }

    if (db_str_eq(node->key, db_string("$regex"))) {
        return db_condition_regex(f, member, node,
                                  db_condition_sibling(object,
                                                     db_string("$options")),
                                  tail);
    }

    if (db_str_eq(node->key, db_string("$options"))
        && db_condition_sibling(object, db_string("$regex")))
    {
        return DB_OK;
    }

    return db_filter_error(f, "'%.*s': '%.*s' is not an operator",
                           (int) member->name.len, member->name.data,
                           (int) node->key.len, node->key.data);
}


static int
db_condition_deep(db_filter_t *f, unsigned depth)
{
    return depth > DB_FILTER_MAX_DEPTH
           ? db_filter_error(f, "the filter is nested more than %d deep",
                             DB_FILTER_MAX_DEPTH)
           : DB_OK;
}


static int
db_condition_operators(db_filter_t *f, const db_member_t *member,
    const db_json_t *object, unsigned depth, db_condition_t ***tail)
{
    int               rc;
    const db_json_t  *node;

    rc = db_condition_deep(f, depth);
    if (rc != DB_OK) {
        return rc;
    }

    if (object->kind != DB_JSON_OBJECT || object->count == 0) {
        return db_filter_error(f, "'%.*s' needs an object of operators",
                               (int) member->name.len, member->name.data);
    }

    for (node = object->u.child; node; node = node->next) {
        rc = db_condition_operator(f, member, object, node, depth, tail);
        if (rc != DB_OK) {
            return rc;
        }
    }

    return DB_OK;
}


static int
db_condition_list(db_filter_t *f, const db_model_t *model, db_str_t within,
    const db_json_t *list, db_condition_kind_t kind, unsigned depth,
    db_condition_t ***tail)
{
    int               rc;
    db_condition_t   *condition, *each, **nodes, **inner;
    const db_json_t  *node;

    if (list->kind != DB_JSON_ARRAY || list->count == 0) {
        return db_filter_error(f, "%.*s takes a list of at least one filter",
                               (int) list->key.len, list->key.data);
    }

    condition = db_filter_add(f, tail, kind, NULL, &rc);
    if (condition == NULL) {
        return rc;
    }

    nodes = &condition->nodes;

    for (node = list->u.child; node; node = node->next) {
        each = db_filter_add(f, &nodes, DB_CONDITION_AND, NULL, &rc);
        if (each == NULL) {
            return rc;
        }

        inner = &each->nodes;

        rc = db_condition_object(f, model, within, node, depth + 1, &inner);
        if (rc != DB_OK) {
            return rc;
        }
    }

    return DB_OK;
}


static int
db_condition_member(db_filter_t *f, const db_model_t *model, db_str_t within,
    const db_json_t *node, unsigned depth, db_condition_t ***tail)
{
    int              rc;
    size_t           i;
    db_member_t      member;
    db_condition_t  *condition;

    for (i = 0; i < db_condition_count(db_condition_logic); i++) {
        if (db_str_eq(db_condition_logic[i].name, node->key)) {
            return db_condition_list(f, model, within, node,
                                     db_condition_logic[i].kind, depth, tail);
        }
    }

    if (node->key.len && node->key.data[0] == '$') {
        return db_filter_error(f, "'%.*s' is not an operator that takes "
                               "filters", (int) node->key.len,
                               node->key.data);
    }

    rc = db_filter_member(f, model, within, node->key, &member);
    if (rc != DB_OK) {
        return rc;
    }

    if (node->kind == DB_JSON_OBJECT) {
        return db_condition_operators(f, &member, node, depth, tail);
    }

    condition = db_filter_add(f, tail, DB_CONDITION_EQ, &member, &rc);

    return condition ? db_condition_values(f, &member, node, 1, condition)
                     : rc;
}


static int
db_condition_object(db_filter_t *f, const db_model_t *model, db_str_t within,
    const db_json_t *object, unsigned depth, db_condition_t ***tail)
{
    int               rc;
    const db_json_t  *node;

    rc = db_condition_deep(f, depth);
    if (rc != DB_OK) {
        return rc;
    }

    if (object->kind != DB_JSON_OBJECT) {
        return db_filter_error(f, "a filter must be a JSON object");
    }

    for (node = object->u.child; node; node = node->next) {
        rc = db_condition_member(f, model, within, node, depth, tail);
        if (rc != DB_OK) {
            return rc;
        }
    }

    return DB_OK;
}


int
db_filter_json(db_filter_t *f, db_str_t text, db_condition_t ***tail)
{
    int              rc;
    db_json_t       *root;
    db_json_error_t  error;

    if (text.len > DB_FILTER_MAX_TEXT) {
        return db_filter_error(f, "filter can have at most %d bytes",
                               DB_FILTER_MAX_TEXT);
    }

    rc = db_json_read(f->arena, text, &root, &error);

    if (rc == DB_DECLINED) {
        return error.fault == DB_JSON_SYNTAX
               ? db_filter_error(f, "filter is not JSON: %s: character %zu",
                                 error.message, error.position)
               : db_filter_error(f, "filter is not JSON that can be read");
    }

    return rc == DB_OK ? db_condition_object(f, f->crud->model,
                                             db_null_string, root, 1, tail)
                       : rc;
}
