/*
 * Compiles what a schema says of queries: "index", sorts that are served in
 * the order of an index, "unique", what no two documents may have in common,
 * and "regex", the fields that take $regex.
 */

#include "crud/db_compile.h"
#include "crud/db_member.h"


#define DB_COMPILE_MAX_INDEXES  32


static const db_json_t *
db_compile_names_of(db_compiler_t *c, const db_json_t *root, const char *name,
    int *rc)
{
    const db_json_t  *list, *node;

    *rc = DB_OK;
    list = db_member(root, name);

    if (list && list->kind != DB_JSON_ARRAY) {
        *rc = db_compile_error(c, "\"%s\" must be a list", name);
        return NULL;
    }

    for (node = list ? list->u.child : NULL; node; node = node->next) {
        if (node->kind != DB_JSON_STRING) {
            *rc = db_compile_error(c, "\"%s\" must be a list of strings",
                                   name);
            return NULL;
        }
    }

    return list;
}


static int
db_compile_failed(db_compiler_t *c, const char *name, int rc,
    db_str_t message)
{
    return rc == DB_DECLINED
           ? db_compile_error(c, "\"%s\": %.*s", name, (int) message.len,
                              message.data)
           : db_compile_error(c, "out of memory");
}


/* What is never answered is not told by the order of a list either. */

static int
db_compile_shown(db_compiler_t *c, const char *name, const db_path_t *path)
{
    unsigned           i;
    const db_field_t  *field;

    for (i = 0; i < c->crud->model->nfields; i++) {
        field = &c->crud->model->fields[i];

        if (field->write_only && db_str_eq(field->name, path->steps[0])) {
            return db_compile_error(c, "\"%s\": '%.*s' is write_only: "
                                    "nothing can be asked of it", name,
                                    (int) field->name.len, field->name.data);
        }
    }

    return DB_OK;
}


static int
db_compile_index(db_compiler_t *c, db_filter_t *f, db_str_t text, int unique,
    db_index_t *index)
{
    int          rc;
    unsigned     i, given;
    const char  *name;

    name = unique ? "unique" : "index";

    rc = db_filter_sort(f, text, &index->keys, &index->nkeys);
    if (rc != DB_OK) {
        return db_compile_failed(c, name, rc, *f->message);
    }

    for (i = 0, given = 1; i < text.len; i++) {
        given += (text.data[i] == ',');
    }

    /* an id at its end is there without being said */

    index->nkeys--;

    if (index->nkeys == 0 || (unique && index->nkeys < given)) {
        return db_compile_error(c, unique ? "\"unique\": the id is unique by "
                                            "itself"
                                          : "\"index\": the id has an index "
                                            "of its own");
    }

    for (i = 0; i < index->nkeys && !unique; i++) {
        if (db_compile_shown(c, name, &index->keys[i].path) != DB_OK) {
            return DB_ERROR;
        }
    }

    index->name = text;
    index->unique = unique;

    return DB_OK;
}


static int
db_compile_indexes(db_compiler_t *c, db_filter_t *f, const db_json_t *root)
{
    int               rc;
    unsigned          i, n;
    db_index_t       *index;
    db_collection_t  *collection;
    const db_json_t  *list[2], *node;

    list[0] = db_compile_names_of(c, root, "index", &rc);

    if (rc == DB_OK) {
        list[1] = db_compile_names_of(c, root, "unique", &rc);
    }

    if (rc != DB_OK) {
        return rc;
    }

    n = (list[0] ? list[0]->count : 0) + (list[1] ? list[1]->count : 0);

    if (n > DB_COMPILE_MAX_INDEXES) {
        return db_compile_error(c, "\"index\" and \"unique\" can have at "
                                "most %d together", DB_COMPILE_MAX_INDEXES);
    }

    index = db_arena_calloc(f->arena, (n + 1) * sizeof(db_index_t));
    if (index == NULL) {
        return db_compile_error(c, "out of memory");
    }

    collection = &c->crud->collection;
    collection->indexes = index;

    for (i = 0; i < 2; i++) {

        for (node = list[i] ? list[i]->u.child : NULL; node; node = node->next)
        {
            if (db_compile_index(c, f, node->u.text, i == 1, index++) != DB_OK)
            {
                return DB_ERROR;
            }

            collection->nindexes++;
        }
    }

    return DB_OK;
}


static int
db_compile_regex(db_compiler_t *c, db_filter_t *f, const db_json_t *root)
{
    int               rc;
    db_str_t         *names;
    db_member_t       member;
    const db_type_t  *type;
    const db_json_t  *list, *node;

    list = db_compile_names_of(c, root, "regex", &rc);
    if (list == NULL) {
        return rc;
    }

    names = db_arena_calloc(f->arena, (list->count + 1) * sizeof(db_str_t));
    if (names == NULL) {
        return db_compile_error(c, "out of memory");
    }

    c->crud->regex = names;

    for (node = list->u.child; node; node = node->next) {
        rc = db_filter_member(f, c->crud->model, db_null_string,
                              node->u.text, &member);
        if (rc != DB_OK) {
            return db_compile_failed(c, "regex", rc, *f->message);
        }

        if (db_compile_shown(c, "regex", &member.path) != DB_OK) {
            return DB_ERROR;
        }

        type = member.type;

        if (type->kind == DB_TYPE_LIST) {
            type = type->items;
        }

        if (type->like != DB_TYPE_STR) {
            return db_compile_error(c, "\"regex\": '%.*s' is not a str",
                                    (int) node->u.text.len,
                                    node->u.text.data);
        }

        names[c->crud->nregex++] = member.name;
    }

    return DB_OK;
}


int
db_compile_queries(db_compiler_t *c, const db_json_t *root)
{
    db_str_t     message;
    db_filter_t  f;

    f = (db_filter_t) { .crud = c->crud, .arena = c->crud->arena,
                        .message = &message, .declaring = 1 };

    if (db_compile_indexes(c, &f, root) != DB_OK) {
        return DB_ERROR;
    }

    return db_compile_regex(c, &f, root);
}
