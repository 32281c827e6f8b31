/*
 * A stored document as its client would send it: a patch names members as
 * clients do, documents by what they are stored as.  For any thread.
 */

#include "crud/db_crud_call.h"

#include "crud/db_check.h"


typedef struct {
    db_arena_t        *arena;
    const db_model_t  *root;
    unsigned           visible:1;
    db_buf_t           scratch;  /* of tries, whose text is of no use */
} db_rename_t;


static const db_json_t *db_rename_value(db_rename_t *r, const db_type_t *type,
    const db_json_t *node, const db_json_t *patch);


static const db_json_t *
db_crud_member(const db_json_t *object, db_str_t name)
{
    const db_members_t  members = { object, NULL };

    return db_members_find(&members, name);
}


const db_json_t *
db_crud_sent(const db_json_t *object, const db_field_t *field)
{
    unsigned          i;
    const db_json_t  *member;

    for (i = 0; i < field->naccepts; i++) {
        member = db_crud_member(object, field->accepts[i]);

        if (member) {
            return member;
        }
    }

    return NULL;
}


/* Appends a copy of what a value has become, under the key. */

static int
db_rename_add(db_rename_t *r, db_json_t *parent, db_json_t **last,
    const db_json_t *value, db_str_t key)
{
    db_json_t  *copy;

    copy = value ? db_arena_alloc(r->arena, sizeof(db_json_t)) : NULL;
    if (copy == NULL) {
        return DB_ERROR;
    }

    *copy = *value;
    copy->key = key;
    copy->key_plain = 0;
    copy->next = NULL;

    if (*last) {
        (*last)->next = copy;

    } else {
        parent->u.child = copy;
    }

    *last = copy;
    parent->count++;

    return DB_OK;
}


static db_json_t *
db_rename_parent(db_rename_t *r, const db_json_t *node)
{
    db_json_t  *copy;

    copy = db_arena_alloc(r->arena, sizeof(db_json_t));

    if (copy) {
        *copy = *node;
        copy->count = 0;
        copy->u.child = NULL;
    }

    return copy;
}


/* Whether a name that no field is stored by may go on being itself. */

static int
db_rename_keeps(const db_rename_t *r, const db_model_t *model, db_str_t name)
{
    unsigned  i, n;

    if (model == r->root && !db_str_eq(name, db_string("id"))) {
        return 0;
    }

    for (i = 0; i < model->nfields; i++) {
        for (n = 0; n < model->fields[i].naccepts; n++) {
            if (db_str_eq(model->fields[i].accepts[n], name)) {
                return 0;
            }
        }
    }

    return 1;
}


static const db_json_t *
db_rename_object(db_rename_t *r, const db_model_t *model,
    const db_json_t *node, const db_json_t *patch)
{
    db_str_t           key;
    unsigned           i;
    db_json_t         *object, *last;
    const db_json_t   *member, *value, *sent;
    const db_field_t  *field;

    object = db_rename_parent(r, node);
    if (object == NULL) {
        return NULL;
    }

    last = NULL;

    for (member = node->u.child; member; member = member->next) {
        key = member->key;
        value = member;

        for (i = 0; i < model->nfields; i++) {
            if (db_str_eq(model->fields[i].name, key)) {
                break;
            }
        }

        if (i < model->nfields) {
            field = &model->fields[i];
            sent = db_crud_sent(patch, field);

            if (r->visible && field->write_only && sent == NULL) {
                continue;
            }

            key = sent ? sent->key : field->accepts[0];
            value = db_rename_value(r, &field->type, member, sent);

        } else if (!db_rename_keeps(r, model, key)) {
            continue;
        }

        if (db_rename_add(r, object, &last, value, key) != DB_OK) {
            return NULL;
        }
    }

    return object;
}


/* Arrays, which a patch replaces as a whole, and objects without fields. */

static const db_json_t *
db_rename_items(db_rename_t *r, const db_type_t *type, const db_json_t *node,
    const db_json_t *patch)
{
    unsigned           i;
    db_json_t         *parent, *last;
    db_members_t       changes;
    const db_type_t   *items;
    const db_json_t   *member, *value;

    parent = db_rename_parent(r, node);

    if (parent == NULL
        || db_members_init(&changes, r->arena,
                           type->kind == DB_TYPE_DICT ? patch : NULL)
           != DB_OK)
    {
        return NULL;
    }

    last = NULL;

    for (member = node->u.child, i = 0; member; member = member->next, i++) {
        items = type->items;

        if (type->kind == DB_TYPE_TUPLE) {
            items = i < type->nchoices ? &type->choices[i].type : NULL;
        }

        value = member;

        if (items) {
            value = db_rename_value(r, items, member,
                                    db_members_find(&changes, member->key));
        }

        if (db_rename_add(r, parent, &last, value, member->key) != DB_OK) {
            return NULL;
        }
    }

    return parent;
}


/* Which type of a union a stored value is of; NULL when it is of none. */

static const db_choice_t *
db_rename_choice(db_rename_t *r, const db_type_t *type, const db_json_t *node)
{
    db_loc_t    loc;
    db_check_t  check;

    loc = (db_loc_t) { NULL, db_string("body"), 0 };

    r->scratch.len = 0;
    db_check_init(&check, r->arena, &r->scratch);
    check.stored = 1;

    db_check_value(&check, type, node, &loc);

    r->scratch.failed |= check.errors.failed;

    return check.nerrors ? NULL : check.choice;
}


static const db_json_t *
db_rename_value(db_rename_t *r, const db_type_t *type, const db_json_t *node,
    const db_json_t *patch)
{
    db_json_kind_t      kind;
    const db_choice_t  *choice;

    if (!db_type_is_aliased(type)) {
        return node;
    }

    if (patch && patch->kind != DB_JSON_OBJECT) {
        patch = NULL;
    }

    kind = DB_JSON_ARRAY;

    switch (type->kind) {

    case DB_TYPE_MODEL:
        return node->kind == DB_JSON_OBJECT
               ? db_rename_object(r, type->model, node, patch) : node;

    case DB_TYPE_DICT:
        kind = DB_JSON_OBJECT;

        /* fall through */

    case DB_TYPE_LIST:
    case DB_TYPE_TUPLE:
        return node->kind == kind ? db_rename_items(r, type, node, patch)
                                  : node;

    default: /* DB_TYPE_UNION, DB_TYPE_TAGGED */
        choice = db_rename_choice(r, type, node);

        if (r->scratch.failed) {
            return NULL;
        }

        return choice ? db_rename_value(r, &choice->type, node, patch) : node;
    }
}


const db_json_t *
db_crud_rename(db_arena_t *arena, const db_crud_t *crud,
    const db_json_t *document, const db_json_t *patch, int visible)
{
    db_rename_t  r;

    r = (db_rename_t) { .arena = arena, .root = crud->model,
                        .visible = (visible != 0) };
    db_buf_init(&r.scratch, arena, 0);

    return db_rename_object(&r, crud->model, document, patch);
}


int
db_crud_renamed(const db_crud_t *crud, db_arena_t *arena, db_str_t document,
    db_str_t patch, db_str_t *text)
{
    int               rc;
    db_buf_t          out;
    db_json_t        *stored, *changes;
    db_json_error_t   error;
    const db_json_t  *renamed;

    rc = db_json_read(arena, document, &stored, &error);

    if (rc == DB_OK) {
        rc = db_json_read(arena, patch, &changes, &error);
    }

    if (rc != DB_OK) {
        return rc;
    }

    if (stored->kind != DB_JSON_OBJECT || changes->kind != DB_JSON_OBJECT) {
        return DB_DECLINED;
    }

    renamed = db_crud_rename(arena, crud, stored, changes, 0);
    if (renamed == NULL) {
        return DB_ERROR;
    }

    db_buf_init(&out, arena, document.len + 64);
    db_json_write(&out, renamed);

    *text = (db_str_t) { out.data, out.len };

    return out.failed ? DB_ERROR : DB_OK;
}
