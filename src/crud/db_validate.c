/*
 * The walk over a document and its model, as pydantic's validators do it:
 * every field is looked at, in the order of the model, and the text to be
 * stored is written on the way.
 */

#include "crud/db_check.h"


static void db_check_model(db_check_t *check, const db_model_t *model,
    const db_json_t *node, const db_loc_t *loc);


static void
db_check_list(db_check_t *check, const db_type_t *type, const db_json_t *node,
    const db_loc_t *loc)
{
    unsigned          before;
    db_loc_t          here;
    const db_json_t  *item;

    if (node->kind != DB_JSON_ARRAY) {
        db_check_fail(check, "list_type", loc,
                      "Input should be a valid list", node);
        return;
    }

    if (type->has_max && node->count > type->max) {
        db_check_size_failed(check, "List", 0, type->max, node->count, node,
                             loc);
        return;
    }

    before = check->nerrors;
    here = (db_loc_t) { loc, db_null_string, 0 };

    db_buf_putc(check->out, '[');

    for (item = node->u.child; item; item = item->next) {
        if (here.index) {
            db_buf_putc(check->out, ',');
        }

        db_check_value(check, type->items, item, &here);
        here.index++;
    }

    db_buf_putc(check->out, ']');

    if (type->has_min && node->count < type->min && check->nerrors == before) {
        db_check_size_failed(check, "List", 1, type->min, node->count, node,
                             loc);
    }
}


static void
db_check_dict(db_check_t *check, const db_type_t *type, const db_json_t *node,
    const db_loc_t *loc)
{
    size_t            before_len;
    uint64_t          good;
    unsigned          before, errors;
    db_loc_t          here;
    const db_json_t  *member;

    if (node->kind != DB_JSON_OBJECT) {
        db_check_fail(check, "dict_type", loc,
                      "Input should be a valid dictionary", node);
        return;
    }

    before = check->nerrors;
    before_len = check->errors.len;
    good = 0;
    here = (db_loc_t) { loc, db_null_string, 0 };

    db_buf_putc(check->out, '{');

    for (member = node->u.child; member; member = member->next) {
        if (member != node->u.child) {
            db_buf_putc(check->out, ',');
        }

        here.name = member->key;
        errors = check->nerrors;

        db_json_write_string(check->out, member->key);
        db_buf_putc(check->out, ':');
        db_check_value(check, type->items, member, &here);

        good += (check->nerrors == errors);

        if (type->has_max && good > type->max) {

            /* this one error stands for all others in here */

            check->nerrors = before;
            check->errors.len = before_len;

            db_check_size_failed(check, "Dictionary", 0, type->max, -1, node,
                                 loc);
            return;
        }
    }

    db_buf_putc(check->out, '}');

    if (type->has_min && node->count < type->min && check->nerrors == before) {
        db_check_size_failed(check, "Dictionary", 1, type->min, node->count,
                             node, loc);
    }
}


void
db_check_value(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc)
{
    if (node->kind == DB_JSON_NULL && type->nullable) {
        db_buf_lit(check->out, "null");
        return;
    }

    switch (type->kind) {

    case DB_TYPE_STR:
        db_check_str(check, type, node, loc);
        break;

    case DB_TYPE_INT:
        db_check_int(check, type, node, loc);
        break;

    case DB_TYPE_FLOAT:
        db_check_float(check, type, node, loc);
        break;

    case DB_TYPE_BOOL:
        db_check_bool(check, node, loc);
        break;

    case DB_TYPE_DATETIME:
        db_check_datetime(check, node, loc);
        break;

    case DB_TYPE_UUID:
        db_check_uuid(check, node, loc);
        break;

    case DB_TYPE_LIST:
        db_check_list(check, type, node, loc);
        break;

    case DB_TYPE_DICT:
        db_check_dict(check, type, node, loc);
        break;

    case DB_TYPE_MODEL:
        db_check_model(check, type->model, node, loc);
        break;
    }
}


int
db_check_default(db_check_t *check, const db_field_t *field)
{
    char           *text;
    db_datetime_t   dt;

    switch (field->fallback) {

    case DB_DEFAULT_NONE:
        return DB_DECLINED;

    case DB_DEFAULT_UUID4:
        text = db_arena_alloc(check->arena, DB_UUID_LENGTH);
        if (text == NULL || db_uuid_create(text) != DB_OK) {
            check->out->failed = 1;
            return DB_OK;
        }

        db_check_write(check, (db_str_t) { text, DB_UUID_LENGTH });
        return DB_OK;

    case DB_DEFAULT_NOW:
        db_datetime_now(DB_NOW_LOCAL, &dt);
        break;

    case DB_DEFAULT_UTCNOW:
        db_datetime_now(DB_NOW_UTC, &dt);
        break;

    case DB_DEFAULT_NOW_UTC:
        db_datetime_now(DB_NOW_AWARE, &dt);
        break;

    default:
        db_buf_str(check->out, field->text);
        return DB_OK;
    }

    db_check_write_datetime(check, &dt);

    return DB_OK;
}


static void
db_check_field(db_check_t *check, const db_field_t *field,
    const db_json_t *value, const db_json_t *node, const db_loc_t *loc)
{
    db_loc_t  here;

    db_buf_str(check->out, field->key);

    here = (db_loc_t) { loc, field->name, 0 };

    if (value) {
        db_check_value(check, &field->type, value, &here);

    } else if (db_check_default(check, field) != DB_OK) {
        db_check_fail(check, "missing", &here, "Field required", node);
    }
}


static void
db_check_given(db_check_t *check, const db_field_t *field,
    const db_given_t *given, const db_json_t *value, const db_json_t *node,
    const db_loc_t *loc)
{
    size_t     start;
    db_loc_t   here;
    unsigned   before;
    db_buf_t  *out;

    switch (given->kind) {

    case DB_GIVEN_NONE:
        db_check_field(check, field, value, node, loc);
        return;

    case DB_GIVEN_DEFAULT:
        db_check_field(check, field, NULL, node, loc);
        return;

    default:
        break;
    }

    out = check->out;
    db_buf_str(out, field->key);

    if (given->kind == DB_GIVEN_TEXT || value == NULL) {
        db_buf_str(out, given->text);
        return;
    }

    here = (db_loc_t) { loc, field->name, 0 };
    before = check->nerrors;
    start = out->len;

    db_check_value(check, &field->type, value, &here);

    if (check->nerrors == before && !out->failed
        && !db_str_eq((db_str_t) { out->data + start, out->len - start },
                      given->text))
    {
        db_check_fail(check, "frozen_field", &here, "Field is frozen", value);
    }
}


/*
 * The members of an object by field.  They mostly come in the order of the
 * model, so the search goes on where the last one ended.
 */

static const db_json_t **
db_check_slots(db_check_t *check, const db_model_t *model,
    const db_json_t *node, unsigned *nunknown)
{
    unsigned           i, n;
    const db_json_t   *member, **slots;
    const db_field_t  *field;

    slots = db_arena_calloc(check->arena,
                            (model->nfields + 1) * sizeof(db_json_t *));
    if (slots == NULL) {
        check->out->failed = 1;
        return NULL;
    }

    i = 0;
    *nunknown = 0;

    for (member = node->u.child; member; member = member->next) {

        for (n = 0; n < model->nfields; n++) {
            field = &model->fields[i];

            if (++i == model->nfields) {
                i = 0;
            }

            if (db_str_eq(field->name, member->key)) {
                slots[field - model->fields] = member;
                break;
            }
        }

        *nunknown += (n == model->nfields);
    }

    return slots;
}


static int
db_model_has(const db_model_t *model, db_str_t name)
{
    unsigned  i;

    for (i = 0; i < model->nfields; i++) {
        if (db_str_eq(model->fields[i].name, name)) {
            return 1;
        }
    }

    return 0;
}


/* Errors for what the model does not know; "but" is no error. */

static void
db_check_unknown(db_check_t *check, const db_model_t *model,
    const db_json_t *node, const db_loc_t *loc, db_str_t but)
{
    db_loc_t          here;
    const db_json_t  *member;

    here = (db_loc_t) { loc, db_null_string, 0 };

    for (member = node->u.child; member; member = member->next) {
        here.name = member->key;

        if (!db_model_has(model, member->key)
            && !(but.len && db_str_eq(member->key, but)))
        {
            db_check_fail(check, "extra_forbidden", &here,
                          "Extra inputs are not permitted", member);
        }
    }
}


static int
db_check_is_object(db_check_t *check, const db_json_t *node,
    const db_loc_t *loc)
{
    if (node->kind == DB_JSON_OBJECT) {
        return 1;
    }

    db_check_fail(check, "model_attributes_type", loc, "Input should be a "
                  "valid dictionary or object to extract fields from", node);

    return 0;
}


static void
db_check_model(db_check_t *check, const db_model_t *model,
    const db_json_t *node, const db_loc_t *loc)
{
    unsigned           i, nunknown;
    const db_json_t  **slots;

    if (!db_check_is_object(check, node, loc)) {
        return;
    }

    slots = db_check_slots(check, model, node, &nunknown);
    if (slots == NULL) {
        return;
    }

    db_buf_putc(check->out, '{');

    for (i = 0; i < model->nfields; i++) {
        if (i) {
            db_buf_putc(check->out, ',');
        }

        db_check_field(check, &model->fields[i], slots[i], node, loc);
    }

    if (model->forbid && nunknown) {
        db_check_unknown(check, model, node, loc, db_null_string);
    }

    db_buf_putc(check->out, '}');
}


/* The id of a model that declares none. */

static void
db_check_objectid(db_check_t *check, db_str_t given)
{
    char  *text;

    db_buf_lit(check->out, "\"id\":");

    if (given.len) {
        db_buf_str(check->out, given);
        return;
    }

    text = db_arena_alloc(check->arena, DB_OBJECTID_LENGTH);
    if (text == NULL || db_objectid_create(text) != DB_OK) {
        check->out->failed = 1;
        return;
    }

    db_check_write(check, (db_str_t) { text, DB_OBJECTID_LENGTH });
}


static void
db_check_take_id(db_check_t *check, const db_crud_t *crud, db_value_t *id)
{
    id->kind = crud->collection.id_kind;
    id->integer = check->integer;
    id->text = check->text;
}


void
db_check_document(db_check_t *check, const db_crud_t *crud,
    const db_json_t *node, const db_loc_t *loc, db_str_t given_id,
    const db_given_t *given, db_value_t *id)
{
    unsigned            i, nunknown;
    db_str_t            but;
    const db_json_t   **slots;
    const db_field_t   *field;
    const db_model_t   *model;

    model = crud->model;

    if (!db_check_is_object(check, node, loc)) {
        return;
    }

    slots = db_check_slots(check, model, node, &nunknown);
    if (slots == NULL) {
        return;
    }

    db_buf_putc(check->out, '{');

    if (crud->id == NULL) {
        db_check_objectid(check, given_id);

        if (given_id.len == 0) {
            db_check_take_id(check, crud, id);
        }
    }

    for (i = 0; i < model->nfields; i++) {
        field = &model->fields[i];

        if (i || crud->id == NULL) {
            db_buf_putc(check->out, ',');
        }

        if (field != crud->id) {

            if (given) {
                db_check_given(check, field, &given[i], slots[i], node, loc);

            } else {
                db_check_field(check, field, slots[i], node, loc);
            }

            continue;
        }

        if (given_id.len) {
            db_buf_str(check->out, field->key);
            db_buf_str(check->out, given_id);
            continue;
        }

        db_check_field(check, field, slots[i], node, loc);
        db_check_take_id(check, crud, id);
    }

    if (model->forbid && nunknown) {

        /* a document that was read may be sent back as it is */

        but = given_id.len ? db_string("id") : db_null_string;

        db_check_unknown(check, model, node, loc, but);
    }

    db_buf_putc(check->out, '}');
}
