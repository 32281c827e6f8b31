/*
 * Compiles a schema (docs/schema.md): JSON text to models, fields and what
 * the resource is.  Whatever it does not know is an error that names the
 * member.
 */

#include "crud/db_compile.h"

#include "crud/db_validate.h"

#include <stdio.h>


#define DB_SCHEMA_VERSION     1
#define DB_SCHEMA_MAX_NAME    63


static const struct {
    db_str_t      name;
    const char   *methods;
} db_operations[DB_CRUD_OPERATIONS] = {
    { { "list", 4 }, "GET, HEAD" },
    { { "get", 3 }, "GET, HEAD" },
    { { "create", 6 }, "POST" },
    { { "update", 6 }, "PUT" },
    { { "patch", 5 }, "PATCH" },
    { { "delete", 6 }, "DELETE" },
};


db_crud_operation_t
db_crud_operation(db_str_t name)
{
    unsigned  i;

    for (i = 0; i < DB_CRUD_OPERATIONS; i++) {
        if (db_str_eq(db_operations[i].name, name)) {
            break;
        }
    }

    return i;
}


const char *
db_crud_operation_name(db_crud_operation_t operation)
{
    return db_operations[operation].name.data;
}


/*
 * A name in a document: it becomes part of SQLite's JSON path.  "-" is for
 * aliases.
 */

static int
db_is_name(db_str_t name)
{
    size_t         i;
    unsigned char  c;

    for (i = 0; i < name.len; i++) {
        c = (unsigned char) name.data[i];

        if (!(c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
              || (i && ((c >= '0' && c <= '9') || c == '-'))
              || c >= 0x80))
        {
            return 0;
        }
    }

    return name.len > 0;
}


static int
db_compile_factory(db_compiler_t *c, db_str_t name, db_field_t *field)
{
    size_t  i;

    static const struct {
        const char    *name;
        db_default_t   fallback;
        unsigned       types;        /* it makes values of */
        const char    *text;
    } factories[] = {
        { "list", DB_DEFAULT_LIST, 1 << DB_TYPE_LIST, "[]" },
        { "dict", DB_DEFAULT_DICT, 1 << DB_TYPE_DICT, "{}" },
        { "uuid4", DB_DEFAULT_UUID4, 1 << DB_TYPE_UUID | 1 << DB_TYPE_STR,
          "" },
        { "now", DB_DEFAULT_NOW, 1 << DB_TYPE_DATETIME, "" },
        { "utcnow", DB_DEFAULT_UTCNOW, 1 << DB_TYPE_DATETIME, "" },
        { "now_utc", DB_DEFAULT_NOW_UTC, 1 << DB_TYPE_DATETIME, "" },
    };

    for (i = 0; i < sizeof(factories) / sizeof(factories[0]); i++) {

        if (strlen(factories[i].name) != name.len
            || memcmp(factories[i].name, name.data, name.len) != 0)
        {
            continue;
        }

        if (!(factories[i].types & 1U << field->type.kind)) {
            return db_compile_error(c, "the factory \"%s\" does not make "
                                    "values of its type", factories[i].name);
        }

        field->fallback = factories[i].fallback;
        field->text = (db_str_t) { factories[i].text,
                                   strlen(factories[i].text) };
        return DB_OK;
    }

    return db_compile_error(c, "the factory \"%.*s\" is not known",
                            (int) name.len, name.data);
}


int
db_compile_name(db_compiler_t *c, db_str_t name, db_field_t *field)
{
    db_buf_t  key;

    c->field = name;

    if (!db_is_name(name)) {
        return db_compile_error(c, "a field's name must be an identifier, "
                                "which may have \"-\"");
    }

    db_buf_init(&key, c->crud->arena, name.len + 4);
    db_json_write_string(&key, name);
    db_buf_putc(&key, ':');

    if (key.failed) {
        return db_compile_error(c, "out of memory");
    }

    field->name = name;
    field->key = (db_str_t) { key.data, key.len };
    field->accepts = &field->name;
    field->naccepts = 1;

    return DB_OK;
}


/* No name may belong to two fields. */

static int
db_compile_accepts(db_compiler_t *c, const db_json_t *node,
    const db_model_t *model, db_field_t *field)
{
    unsigned           i, n;
    db_str_t          *names;
    const db_json_t   *list, *member;
    const db_field_t  *other;

    list = db_member(node, "accepts");

    if (list && (list->kind != DB_JSON_ARRAY || list->count == 0)) {
        return db_compile_error(c, "\"accepts\" must be a list of at least "
                                "one name");
    }

    names = db_arena_calloc(c->crud->arena,
                            (list ? list->count : 1) * sizeof(db_str_t));
    if (names == NULL) {
        return db_compile_error(c, "out of memory");
    }

    field->accepts = names;
    field->naccepts = 1;
    names[0] = field->name;

    if (list) {
        field->naccepts = list->count;
    }

    for (member = list ? list->u.child : NULL; member; member = member->next) {
        if (member->kind != DB_JSON_STRING) {
            return db_compile_error(c, "\"accepts\" must be a list of "
                                    "strings");
        }

        *names++ = member->u.text;
    }

    for (other = model->fields; other < field; other++) {
        for (i = 0; i < other->naccepts; i++) {
            for (n = 0; n < field->naccepts; n++) {

                if (db_str_eq(other->accepts[i], field->accepts[n])) {
                    return db_compile_error(c, "\"%.*s\" is read from the "
                                            "same name",
                                            (int) other->name.len,
                                            other->name.data);
                }
            }
        }
    }

    return DB_OK;
}


/* Who may write and who may read a field. */

static int
db_compile_access(db_compiler_t *c, const db_json_t *node,
    const db_model_t *model, db_field_t *field)
{
    unsigned  read_only, immutable, write_only;

    if (db_compile_flag(c, node, "read_only", &read_only) != DB_OK
        || db_compile_flag(c, node, "immutable", &immutable) != DB_OK
        || db_compile_flag(c, node, "write_only", &write_only) != DB_OK)
    {
        return DB_ERROR;
    }

    if (model != c->crud->model && (read_only || immutable || write_only)) {
        return db_compile_error(c, "only a field of the resource itself can "
                                "be \"read_only\", \"immutable\" or "
                                "\"write_only\"");
    }

    field->read_only = read_only;
    field->immutable = immutable;
    field->write_only = write_only;

    return DB_OK;
}


static int
db_compile_field(db_compiler_t *c, const db_json_t *node, db_model_t *model,
    db_field_t *field)
{
    db_str_t           name;
    const db_field_t  *other;

    if (node->kind != DB_JSON_OBJECT) {
        return db_compile_error(c, "a field must be an object");
    }

    if (db_compile_text(c, node, "name", &name) != DB_OK
        || db_compile_name(c, name, field) != DB_OK)
    {
        return DB_ERROR;
    }

    for (other = model->fields; other < field; other++) {
        if (db_str_eq(other->name, field->name)) {
            return db_compile_error(c, "the field is there twice");
        }
    }

    if (db_compile_accepts(c, node, model, field) != DB_OK
        || db_compile_type(c, node, &field->type, 1, 0) != DB_OK
        || db_compile_access(c, node, model, field) != DB_OK)
    {
        return DB_ERROR;
    }

    field->value = db_member(node, "default");

    if (field->value) {
        field->fallback = DB_DEFAULT_VALUE;
    }

    if (db_member(node, "default_factory") == NULL) {
        return DB_OK;
    }

    if (field->value) {
        return db_compile_error(c, "\"default\" and \"default_factory\" "
                                "exclude each other");
    }

    if (db_compile_text(c, node, "default_factory", &name) != DB_OK) {
        return DB_ERROR;
    }

    return db_compile_factory(c, name, field);
}


static int
db_compile_model(db_compiler_t *c, const db_json_t *node, db_model_t *model)
{
    db_str_t          extra;
    db_field_t       *field;
    const db_json_t  *fields, *member;

    c->model = model->name;
    c->field = db_null_string;

    if (db_member(node, "extra")) {
        if (db_compile_text(c, node, "extra", &extra) != DB_OK) {
            return DB_ERROR;
        }

        model->forbid = db_str_eq(extra, db_string("forbid"));

        if (!model->forbid && !db_str_eq(extra, db_string("ignore"))) {
            return db_compile_error(c, "\"extra\" must be \"ignore\" or "
                                    "\"forbid\"");
        }
    }

    fields = db_member(node, "fields");

    if (fields == NULL || fields->kind != DB_JSON_ARRAY) {
        return db_compile_error(c, "\"fields\" must be a list");
    }

    /* there may be two timestamps behind them */

    model->fields = db_arena_calloc(c->crud->arena,
                                    (fields->count + 2) * sizeof(db_field_t));
    if (model->fields == NULL) {
        return db_compile_error(c, "out of memory");
    }

    field = model->fields;

    for (member = fields->u.child; member; member = member->next) {
        if (db_compile_field(c, member, model, field) != DB_OK) {
            return DB_ERROR;
        }

        c->field = db_null_string;
        field++;
        model->nfields++;
    }

    return DB_OK;
}


/* Defaults are written as documents have them, once all models are known. */

static int
db_compile_defaults(db_compiler_t *c, db_model_t *model)
{
    unsigned      i;
    db_buf_t      out;
    db_loc_t      loc;
    db_check_t    check;
    db_field_t   *field;

    c->model = model->name;

    for (i = 0; i < model->nfields; i++) {
        field = &model->fields[i];

        if (field->fallback != DB_DEFAULT_VALUE) {
            continue;
        }

        c->field = field->name;

        db_buf_init(&out, c->crud->arena, 0);
        db_check_init(&check, c->crud->arena, &out);
        loc = (db_loc_t) { NULL, field->name, 0 };

        db_check_value(&check, &field->type, field->value, &loc);

        if (out.failed || check.errors.failed) {
            return db_compile_error(c, "out of memory");
        }

        if (check.nerrors) {
            return db_compile_error(c, "the default is not of the field's "
                                    "type: %.*s", (int) check.errors.len,
                                    check.errors.data);
        }

        field->text = (db_str_t) { out.data, out.len };
    }

    return DB_OK;
}


/* All by name first, so that they can name each other. */

static int
db_compile_models(db_compiler_t *c, const db_json_t *root)
{
    unsigned          i;
    db_crud_t        *crud;
    const db_json_t  *models, *member;

    static const char  *const known[] = { "extra", "fields", NULL };

    crud = c->crud;
    models = db_member(root, "models");

    if (models && models->kind != DB_JSON_OBJECT) {
        return db_compile_error(c, "\"models\" must be an object");
    }

    crud->nmodels = models ? models->count : 0;
    crud->models = db_arena_calloc(crud->arena,
                                   (crud->nmodels + 1) * sizeof(db_model_t));
    if (crud->models == NULL) {
        return db_compile_error(c, "out of memory");
    }

    i = 0;

    for (member = models ? models->u.child : NULL; member;
         member = member->next)
    {
        crud->models[i++].name = member->key;
    }

    crud->model = &crud->models[crud->nmodels];
    crud->model->name = crud->name;

    i = 0;

    for (member = models ? models->u.child : NULL; member;
         member = member->next)
    {
        c->model = member->key;

        if (db_compile_known(c, member, "a model", known) != DB_OK
            || db_compile_model(c, member, &crud->models[i++]) != DB_OK)
        {
            return DB_ERROR;
        }
    }

    if (db_compile_model(c, root, crud->model) != DB_OK) {
        return DB_ERROR;
    }

    for (i = 0; i <= crud->nmodels; i++) {
        if (db_compile_defaults(c, &crud->models[i]) != DB_OK) {
            return DB_ERROR;
        }
    }

    c->model = crud->name;
    c->field = db_null_string;

    return DB_OK;
}


static int
db_compile_id(db_compiler_t *c, const db_json_t *root)
{
    size_t        i;
    unsigned      n;
    db_str_t      kind;
    db_crud_t    *crud;
    db_field_t   *field;

    static const struct {
        const char      *name;
        db_type_kind_t   type;
    } kinds[] = {
        { "str", DB_TYPE_STR }, { "int", DB_TYPE_INT },
        { "uuid", DB_TYPE_UUID }
    };

    crud = c->crud;

    if (db_compile_text(c, root, "id", &kind) != DB_OK) {
        return DB_ERROR;
    }

    field = NULL;

    for (n = 0; n < crud->model->nfields; n++) {
        if (db_str_eq(crud->model->fields[n].name, db_string("id"))) {
            field = &crud->model->fields[n];
        }
    }

    crud->collection.id_kind = DB_VALUE_TEXT;

    if (db_str_eq(kind, db_string("objectid"))) {
        crud->collection.objectid = 1;

        return field == NULL ? DB_OK
               : db_compile_error(c, "\"id\" is \"objectid\", but there is a "
                                  "field of that name");
    }

    for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strlen(kinds[i].name) == kind.len
            && memcmp(kinds[i].name, kind.data, kind.len) == 0)
        {
            break;
        }
    }

    if (i == sizeof(kinds) / sizeof(kinds[0])) {
        return db_compile_error(c, "\"id\" must be \"objectid\", \"int\", "
                                "\"str\" or \"uuid\"");
    }

    if (field == NULL || field->type.kind != kinds[i].type) {
        return db_compile_error(c, "there is no field \"id\" of the type "
                                "\"%s\"", kinds[i].name);
    }

    c->field = field->name;

    if (field->type.nullable) {
        return db_compile_error(c, "an id cannot be null: leave it out of the "
                                "model to get an ObjectId");
    }

    if (field->fallback != DB_DEFAULT_NONE
        && field->fallback != DB_DEFAULT_UUID4)
    {
        return db_compile_error(c, "an id can have no default but uuid4");
    }

    c->field = db_null_string;

    if (field->type.kind == DB_TYPE_INT) {
        crud->collection.id_kind = DB_VALUE_INT;
    }

    /* no path leads to an empty one */

    if (field->type.kind == DB_TYPE_STR && !field->type.has_min) {
        field->type.has_min = 1;
        field->type.min = 1;
    }

    crud->id = field;
    crud->collection.id_place = (unsigned) (field - crud->model->fields);

    return DB_OK;
}


/* What Python has to validate, each with the reason. */

static int
db_compile_hybrid(db_compiler_t *c, const db_json_t *root)
{
    db_crud_t            *crud;
    const db_json_t      *hybrid, *member;
    db_crud_operation_t   operation;

    crud = c->crud;
    hybrid = db_member(root, "hybrid");

    if (hybrid && hybrid->kind != DB_JSON_OBJECT) {
        return db_compile_error(c, "\"hybrid\" must be an object: the reason "
                                "for each operation");
    }

    for (member = hybrid ? hybrid->u.child : NULL; member;
         member = member->next)
    {
        operation = db_crud_operation(member->key);

        if (operation == DB_CRUD_OPERATIONS || operation == DB_CRUD_LIST
            || operation == DB_CRUD_GET || member->kind != DB_JSON_STRING)
        {
            return db_compile_error(c, "\"hybrid\" may have a reason for what "
                                    "writes, not for \"%.*s\"",
                                    (int) member->key.len, member->key.data);
        }

        crud->hybrid |= crud->operations & 1U << operation;
    }

    return DB_OK;
}


static int
db_compile_operations(db_compiler_t *c, const db_json_t *root)
{
    unsigned          i, bits;
    db_buf_t          list, item;
    db_crud_t        *crud;
    const db_json_t  *operations, *member;

    crud = c->crud;
    bits = 0;

    operations = db_member(root, "operations");

    if (operations == NULL) {
        bits = (1U << DB_CRUD_OPERATIONS) - 1;

    } else if (operations->kind != DB_JSON_ARRAY || operations->count == 0) {
        return db_compile_error(c, "\"operations\" must be a list of at least "
                                "one");
    }

    for (member = operations ? operations->u.child : NULL; member;
         member = member->next)
    {
        i = member->kind == DB_JSON_STRING
            ? db_crud_operation(member->u.text) : DB_CRUD_OPERATIONS;

        if (i == DB_CRUD_OPERATIONS) {
            return db_compile_error(c, "\"operations\" may have \"list\", "
                                    "\"get\", \"create\", \"update\", "
                                    "\"patch\" and \"delete\"");
        }

        bits |= 1U << i;
    }

    db_buf_init(&list, crud->arena, 64);
    db_buf_init(&item, crud->arena, 64);

    for (i = 0; i < DB_CRUD_OPERATIONS; i++) {
        db_buf_t  *buf;

        if (!(bits & 1U << i)) {
            continue;
        }

        buf = (i == DB_CRUD_LIST || i == DB_CRUD_CREATE) ? &list : &item;

        if (buf->len) {
            db_buf_lit(buf, ", ");
        }

        db_buf_append(buf, db_operations[i].methods,
                      strlen(db_operations[i].methods));
    }

    if (list.failed || item.failed) {
        return db_compile_error(c, "out of memory");
    }

    crud->operations = bits;
    crud->allow_list = (db_str_t) { list.data, list.len };
    crud->allow_item = (db_str_t) { item.data, item.len };

    return DB_OK;
}


static int
db_compile_names(db_compiler_t *c, const db_json_t *root)
{
    char         ch;
    size_t       i;
    db_crud_t   *crud;
    db_str_t     name;

    crud = c->crud;

    if (db_compile_text(c, root, "model", &crud->name) != DB_OK) {
        return DB_ERROR;
    }

    if (!db_is_name(crud->name)) {
        return db_compile_error(c, "\"model\" must be an identifier");
    }

    c->model = crud->name;

    if (db_compile_text(c, root, "collection", &crud->collection.name) != DB_OK
        || db_compile_text(c, root, "prefix", &crud->prefix) != DB_OK
        || db_compile_text(c, root, "store", &crud->store) != DB_OK)
    {
        return DB_ERROR;
    }

    name = crud->collection.name;

    for (i = 0; i < name.len; i++) {
        ch = name.data[i];

        if (!(ch == '_' || (ch >= 'a' && ch <= 'z')
              || (ch >= '0' && ch <= '9')))
        {
            name.len = 0;
        }
    }

    if (name.len == 0 || name.len > DB_SCHEMA_MAX_NAME) {
        return db_compile_error(c, "\"collection\" must be 1 to %d of a-z, "
                                "0-9 and _", DB_SCHEMA_MAX_NAME);
    }

    name = crud->prefix;

    for (i = 0; i < name.len; i++) {
        ch = name.data[i];

        if (ch <= ' ' || ch == '{' || ch == '}' || ch == '?' || ch == '#'
            || ch == '%' || ch == 0x7f
            || (ch == '/' && (i + 1 == name.len || name.data[i + 1] == '/')))
        {
            name.len = 0;
        }
    }

    if (name.len == 0 || name.data[0] != '/') {
        return db_compile_error(c, "\"prefix\" must be a path like "
                                "\"/articles\": plain ASCII, without "
                                "parameters and \"/\" at its end");
    }

    if (!db_is_name(crud->store)) {
        return db_compile_error(c, "\"store\" must be an identifier");
    }

    return DB_OK;
}


static int
db_compile_root(db_compiler_t *c, const db_json_t *root)
{
    const db_json_t  *version;

    static const char  *const known[] = {
        "databridge", "model", "collection", "prefix", "store", "operations",
        "upsert", "version", "require_match", "timestamps", "scope",
        "hybrid", "timeout", "limit", "max_limit", "id", "index", "unique",
        "regex", "extra", "fields", "models", NULL
    };

    if (db_compile_known(c, root, "the schema", known) != DB_OK) {
        return DB_ERROR;
    }

    version = db_member(root, "databridge");

    if (version == NULL || version->kind != DB_JSON_INT
        || version->u.integer != DB_SCHEMA_VERSION)
    {
        return db_compile_error(c, "\"databridge\" must be %d, the version of "
                                "the format", DB_SCHEMA_VERSION);
    }

    if (db_compile_names(c, root) != DB_OK
        || db_compile_operations(c, root) != DB_OK
        || db_compile_hybrid(c, root) != DB_OK
        || db_compile_models(c, root) != DB_OK
        || db_compile_id(c, root) != DB_OK
        || db_compile_options(c, root) != DB_OK
        || db_compile_form(c) != DB_OK)
    {
        return DB_ERROR;
    }

    return db_compile_queries(c, root);
}


db_crud_t *
db_crud_compile(db_str_t schema, char *error, size_t size)
{
    int               rc;
    db_json_t        *root;
    db_arena_t       *arena;
    db_crud_t        *crud;
    db_compiler_t     c;
    db_json_error_t   fault;

    arena = db_arena_create(8192);
    crud = arena ? db_arena_calloc(arena, sizeof(db_crud_t)) : NULL;

    if (crud == NULL) {
        snprintf(error, size, "out of memory");

        if (arena) {
            db_arena_destroy(arena);
        }

        return NULL;
    }

    crud->arena = arena;

    c = (db_compiler_t) { crud, error, size, db_null_string, db_null_string };

    rc = db_json_read(arena, schema, &root, &fault);

    if (rc == DB_DECLINED) {
        if (fault.fault == DB_JSON_SYNTAX) {
            db_compile_error(&c, "the schema is not JSON: %s: character "
                             "%zu", fault.message, fault.position);

        } else {
            db_compile_error(&c, "the schema is not UTF-8");
        }

    } else if (rc != DB_OK) {
        db_compile_error(&c, "out of memory");

    } else {
        rc = db_compile_root(&c, root);
    }

    if (rc != DB_OK) {
        db_crud_destroy(crud);
        return NULL;
    }

    return crud;
}


void
db_crud_destroy(db_crud_t *crud)
{
    db_regex_destroy_all(crud->patterns);
    db_arena_destroy(crud->arena);
}
