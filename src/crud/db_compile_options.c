/*
 * Compiles what a schema says of the resource as a whole, and what its
 * fields mean for it: versions, stamps, scope, limits, what is kept and what
 * is never answered.
 */

#include "crud/db_compile.h"

#include "crud/db_filter.h"
#include "crud/db_member.h"
#include "store/db_document.h"


#define DB_COMPILE_MAX_LIMIT    10000
#define DB_COMPILE_MAX_TIMEOUT  86400


static db_field_t *
db_compile_find(db_compiler_t *c, db_str_t name)
{
    unsigned     i;
    db_model_t  *model;

    model = c->crud->model;

    for (i = 0; i < model->nfields; i++) {
        if (db_str_eq(model->fields[i].name, name)) {
            return &model->fields[i];
        }
    }

    return NULL;
}


/* One of the two stamps: a field of the model, or one behind all others. */

static int
db_compile_stamp(db_compiler_t *c, const db_json_t *node, const char *member,
    db_stamp_t stamp)
{
    db_str_t     name;
    db_model_t  *model;
    db_field_t  *field;

    if (db_member(node, member) == NULL) {
        return DB_OK;
    }

    if (db_compile_text(c, node, member, &name) != DB_OK) {
        return DB_ERROR;
    }

    model = c->crud->model;
    field = db_compile_find(c, name);

    if (field == NULL) {
        field = &model->fields[model->nfields];

        if (db_compile_name(c, name, field) != DB_OK) {
            return DB_ERROR;
        }

        field->type.kind = DB_TYPE_DATETIME;
        field->type.like = DB_TYPE_DATETIME;
        model->nfields++;
    }

    c->field = field->name;

    if (field->type.kind != DB_TYPE_DATETIME) {
        return db_compile_error(c, "\"timestamps\": the field must be a "
                                "datetime");
    }

    if (field->stamp != DB_STAMP_NONE) {
        return db_compile_error(c, "\"timestamps\": the two must be different "
                                "fields");
    }

    field->stamp = stamp;
    c->field = db_null_string;

    return DB_OK;
}


static int
db_compile_stamps(db_compiler_t *c, const db_json_t *root)
{
    const db_json_t  *node;

    static const char  *const known[] = { "created", "updated", NULL };

    node = db_member(root, "timestamps");

    if (node == NULL) {
        return DB_OK;
    }

    if (db_compile_known(c, node, "\"timestamps\"", known) != DB_OK
        || db_compile_stamp(c, node, "created", DB_STAMP_CREATED) != DB_OK)
    {
        return DB_ERROR;
    }

    return db_compile_stamp(c, node, "updated", DB_STAMP_UPDATED);
}


/* "$name", as nginx writes its variables; without the "$" in *variable. */

static int
db_compile_variable(db_compiler_t *c, const db_json_t *node,
    db_str_t *variable)
{
    char     ch;
    size_t   i;
    db_str_t  name;

    name = node->kind == DB_JSON_STRING ? node->u.text : db_null_string;

    for (i = 1; i < name.len; i++) {
        ch = name.data[i];

        if (!(ch == '_' || (ch >= 'a' && ch <= 'z')
              || (ch >= '0' && ch <= '9')))
        {
            break;
        }
    }

    if (name.len < 2 || i < name.len || name.data[0] != '$') {
        return db_compile_error(c, "\"scope\" must name a variable of nginx, "
                                "such as \"$remote_user\"");
    }

    *variable = (db_str_t) { name.data + 1, name.len - 1 };

    return DB_OK;
}


static int
db_compile_scope(db_compiler_t *c, const db_json_t *root)
{
    db_str_t           *variables;
    db_crud_t          *crud;
    const db_json_t    *scope, *member;
    const db_field_t   *field;

    crud = c->crud;
    scope = db_member(root, "scope");

    if (scope == NULL) {
        return DB_OK;
    }

    if (scope->kind != DB_JSON_OBJECT) {
        return db_compile_error(c, "\"scope\" must be an object: a variable "
                                "for each field");
    }

    crud->scope = db_arena_calloc(crud->arena,
                                  (scope->count + 1) * sizeof(db_field_t *));
    variables = db_arena_calloc(crud->arena,
                                (scope->count + 1) * sizeof(db_str_t));

    if (crud->scope == NULL || variables == NULL) {
        return db_compile_error(c, "out of memory");
    }

    crud->variables = variables;

    for (member = scope->u.child; member; member = member->next) {
        field = db_compile_find(c, member->key);

        if (field == NULL) {
            return db_compile_error(c, "\"scope\": there is no field \"%.*s\"",
                                    (int) member->key.len, member->key.data);
        }

        c->field = field->name;

        if (field == crud->id || field->stamp != DB_STAMP_NONE
            || field->type.kind >= DB_TYPE_LIST)
        {
            return db_compile_error(c, "\"scope\" can be by a field with one "
                                    "value, but for the id and timestamps");
        }

        if (db_compile_variable(c, member, &variables[crud->nscope]) != DB_OK)
        {
            return DB_ERROR;
        }

        crud->scope[crud->nscope++] = field;
    }

    c->field = db_null_string;

    return DB_OK;
}


static int
db_compile_guards(db_compiler_t *c)
{
    unsigned     i;
    db_crud_t   *crud;
    db_field_t  *field;

    crud = c->crud;

    for (i = 0; i < crud->model->nfields; i++) {
        field = &crud->model->fields[i];
        c->field = field->name;

        if (field == crud->id
            && (field->read_only || field->immutable || field->write_only
                || field->stamp != DB_STAMP_NONE))
        {
            return db_compile_error(c, "the id can be neither \"read_only\", "
                                    "\"immutable\", \"write_only\" nor a "
                                    "timestamp");
        }

        if (field->read_only && field->immutable) {
            return db_compile_error(c, "\"read_only\" and \"immutable\" "
                                    "exclude each other");
        }

        if (field->read_only && field->fallback == DB_DEFAULT_NONE
            && field->stamp == DB_STAMP_NONE)
        {
            return db_compile_error(c, "a \"read_only\" field must have a "
                                    "default, which create gives it");
        }

        if (field->read_only || field->immutable
            || field->stamp == DB_STAMP_CREATED)
        {
            crud->keeps = 1;
        }

        if (field->write_only || field->stamp != DB_STAMP_NONE) {
            crud->guarded = 1;
        }
    }

    c->field = db_null_string;
    crud->guarded |= crud->keeps || crud->nscope;

    return DB_OK;
}


/* With a "write_only" field: all others. */

static int
db_compile_visible(db_compiler_t *c)
{
    unsigned     i, n;
    db_crud_t   *crud;
    db_path_t   *paths;
    db_model_t  *model;

    crud = c->crud;
    model = crud->model;

    paths = db_arena_calloc(crud->arena,
                            (model->nfields + 1) * sizeof(db_path_t));
    if (paths == NULL) {
        return db_compile_error(c, "out of memory");
    }

    n = 0;

    for (i = 0; i < model->nfields; i++) {
        if (!model->fields[i].write_only) {
            paths[n++] = (db_path_t) { &model->fields[i].name, 1 };
        }
    }

    if (n == model->nfields) {
        return DB_OK;
    }

    if (n > DB_DOCUMENT_FIELDS) {
        return db_compile_error(c, "\"write_only\" can be used beside at most "
                                "%d other fields", DB_DOCUMENT_FIELDS);
    }

    /* the id is always answered, but something must be named */

    if (n == 0) {
        static const db_str_t  id[] = { { "id", 2 } };

        paths[n++] = (db_path_t) { id, 1 };
    }

    crud->visible = paths;
    crud->nvisible = n;

    return DB_OK;
}


static int
db_compile_flags(db_compiler_t *c, const db_json_t *root)
{
    unsigned    upsert, versioned, require_match;
    db_crud_t  *crud;

    crud = c->crud;

    if (db_compile_flag(c, root, "upsert", &upsert) != DB_OK
        || db_compile_flag(c, root, "version", &versioned) != DB_OK
        || db_compile_flag(c, root, "require_match", &require_match) != DB_OK)
    {
        return DB_ERROR;
    }

    if (upsert && require_match) {
        return db_compile_error(c, "\"upsert\" and \"require_match\" exclude "
                                "each other: what is not there yet has no "
                                "version to match");
    }

    crud->upsert = upsert;
    crud->require_match = require_match;
    crud->collection.versioned = versioned || require_match;

    return DB_OK;
}


static int
db_compile_limit(db_compiler_t *c, const db_json_t *root, const char *name,
    uint64_t *limit)
{
    const db_json_t  *member;

    member = db_member(root, name);

    if (member == NULL) {
        return DB_OK;
    }

    if (member->kind != DB_JSON_INT || member->u.integer < 1
        || member->u.integer > DB_COMPILE_MAX_LIMIT)
    {
        return db_compile_error(c, "\"%s\" must be an int from 1 to %d", name,
                                DB_COMPILE_MAX_LIMIT);
    }

    *limit = (uint64_t) member->u.integer;

    return DB_OK;
}


static int
db_compile_limits(db_compiler_t *c, const db_json_t *root)
{
    db_crud_t  *crud;

    crud = c->crud;
    crud->max_limit = DB_FILTER_MAX_LIMIT;

    if (db_compile_limit(c, root, "max_limit", &crud->max_limit) != DB_OK) {
        return DB_ERROR;
    }

    crud->limit = crud->max_limit < DB_FILTER_LIMIT ? crud->max_limit
                                                    : DB_FILTER_LIMIT;

    if (db_compile_limit(c, root, "limit", &crud->limit) != DB_OK) {
        return DB_ERROR;
    }

    return crud->limit <= crud->max_limit ? DB_OK
           : db_compile_error(c, "\"limit\" must not be above \"max_limit\"");
}


static int
db_compile_timeout(db_compiler_t *c, const db_json_t *root)
{
    double            seconds;
    const db_json_t  *member;

    member = db_member(root, "timeout");

    if (member == NULL) {
        return DB_OK;
    }

    seconds = member->kind == DB_JSON_REAL ? member->u.real
              : member->kind == DB_JSON_INT ? (double) member->u.integer : 0;

    if (!(seconds >= 0.001 && seconds <= DB_COMPILE_MAX_TIMEOUT)) {
        return db_compile_error(c, "\"timeout\" must be seconds, from 0.001 "
                                "to %d", DB_COMPILE_MAX_TIMEOUT);
    }

    c->crud->timeout = (unsigned) (seconds * 1000 + 0.5);

    return DB_OK;
}


int
db_compile_options(db_compiler_t *c, const db_json_t *root)
{
    if (db_compile_flags(c, root) != DB_OK
        || db_compile_limits(c, root) != DB_OK
        || db_compile_timeout(c, root) != DB_OK
        || db_compile_stamps(c, root) != DB_OK
        || db_compile_scope(c, root) != DB_OK
        || db_compile_guards(c) != DB_OK)
    {
        return DB_ERROR;
    }

    return db_compile_visible(c);
}
