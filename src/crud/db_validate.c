/*
 * The walk over a document and its model, as pydantic's validators do it:
 * every field is looked at, in the order of the model, and the text to be
 * stored is written on the way.
 */

#include "crud/db_check.h"


static void db_check_model(db_check_t *check, const db_model_t *model,
    const db_json_t *node, const db_loc_t *loc);


static int
db_check_is_list(db_check_t *check, int tuple, const db_json_t *node,
    const db_loc_t *loc)
{
    if (node->kind == DB_JSON_ARRAY) {
        return 1;
    }

    if (tuple) {
        db_check_fail(check, "tuple_type", loc,
                      "Input should be a valid tuple", node);

    } else {
        db_check_fail(check, "list_type", loc, "Input should be a valid list",
                      node);
    }

    return 0;
}


static void
db_check_list(db_check_t *check, const db_type_t *type, const db_json_t *node,
    const db_loc_t *loc)
{
    unsigned          before;
    db_loc_t          here;
    const db_json_t  *item;

    if (!db_check_is_list(check, type->tuple, node, loc)) {
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


/* Of a fixed number of items: one too many stands for all other errors. */

static void
db_check_tuple(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc)
{
    unsigned          i;
    db_loc_t          here;
    const db_json_t  *item;

    if (!db_check_is_list(check, 1, node, loc)) {
        return;
    }

    if (node->count > type->nchoices) {
        db_check_size_failed(check, "Tuple", 0, type->nchoices, node->count,
                             node, loc);
        return;
    }

    item = node->u.child;
    db_buf_putc(check->out, '[');

    for (i = 0; i < type->nchoices; i++) {
        here = (db_loc_t) { loc, db_null_string, i };

        if (i) {
            db_buf_putc(check->out, ',');
        }

        if (item == NULL) {
            db_check_fail(check, "missing", &here, "Field required", node);
            continue;
        }

        db_check_value(check, &type->choices[i].type, item, &here);
        item = item->next;
    }

    db_buf_putc(check->out, ']');
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


/* Kept as it is, but for what no store keeps. */

static void
db_check_any(db_check_t *check, const db_json_t *node, const db_loc_t *loc)
{
    char              text[DB_JSON_REAL_SIZE];
    db_loc_t          here;
    const db_json_t  *member;

    switch (node->kind) {

    case DB_JSON_REAL:
        db_buf_append(check->out, text, db_json_real_text(text, node->u.real));
        return;

    case DB_JSON_BIGINT:
        db_check_too_big(check, node, loc);
        return;

    case DB_JSON_ARRAY:
    case DB_JSON_OBJECT:
        break;

    default:
        db_json_write(check->out, node);
        return;
    }

    here = (db_loc_t) { loc, db_null_string, 0 };

    db_buf_putc(check->out, node->kind == DB_JSON_ARRAY ? '[' : '{');

    for (member = node->u.child; member; member = member->next) {

        if (node->kind == DB_JSON_OBJECT) {
            here.name = member->key;
            db_json_write_string(check->out, member->key);
            db_buf_putc(check->out, ':');
        }

        db_check_any(check, member, &here);
        here.index++;

        if (member->next) {
            db_buf_putc(check->out, ',');
        }
    }

    db_buf_putc(check->out, node->kind == DB_JSON_ARRAY ? ']' : '}');
}


void
db_check_value(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc)
{
    if (check->unions && db_check_match(check, type, node, loc) != DB_OK) {
        return;
    }

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
        db_check_bool(check, type, node, loc);
        break;

    case DB_TYPE_DATETIME:
        db_check_datetime(check, node, loc);
        break;

    case DB_TYPE_UUID:
        db_check_uuid(check, node, loc);
        break;

    case DB_TYPE_DATE:
        db_check_date(check, node, loc);
        break;

    case DB_TYPE_TIME:
        db_check_time(check, node, loc);
        break;

    case DB_TYPE_TIMEDELTA:
        db_check_timedelta(check, node, loc);
        break;

    case DB_TYPE_DECIMAL:
        db_check_decimal(check, type, node, loc);
        break;

    case DB_TYPE_BYTES:
        db_check_bytes(check, type, node, loc);
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

    case DB_TYPE_LITERAL:
    case DB_TYPE_ENUM:
        db_check_values(check, type, node, loc);
        break;

    case DB_TYPE_TUPLE:
        db_check_tuple(check, type, node, loc);
        break;

    case DB_TYPE_UNION:
        db_check_union(check, type, node, loc);
        break;

    case DB_TYPE_TAGGED:
        db_check_tagged(check, type, node, loc);
        break;

    case DB_TYPE_ANY:
        db_check_any(check, node, loc);
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


/* What an object has for a field, under which of its names. */

typedef struct {
    const db_json_t  *node;
    unsigned          name;
} db_slot_t;


static void
db_check_field(db_check_t *check, const db_field_t *field,
    const db_slot_t *slot, const db_json_t *node, const db_loc_t *loc)
{
    db_loc_t  here;

    db_buf_str(check->out, field->key);

    here = (db_loc_t) { loc, field->accepts[slot->name], 0 };

    if (slot->node) {
        db_check_value(check, &field->type, slot->node, &here);

    } else if (db_check_default(check, field) != DB_OK) {
        db_check_fail(check, "missing", &here, "Field required", node);
    }
}


static void
db_check_given(db_check_t *check, const db_field_t *field,
    const db_given_t *given, const db_slot_t *slot, const db_json_t *node,
    const db_loc_t *loc)
{
    size_t     start;
    db_loc_t   here;
    unsigned   before;
    db_buf_t  *out;

    static const db_slot_t  none;

    switch (given->kind) {

    case DB_GIVEN_NONE:
        db_check_field(check, field, slot, node, loc);
        return;

    case DB_GIVEN_DEFAULT:
        db_check_field(check, field, &none, node, loc);
        return;

    default:
        break;
    }

    out = check->out;
    db_buf_str(out, field->key);

    if (given->kind == DB_GIVEN_TEXT || slot->node == NULL) {
        db_buf_str(out, given->text);
        return;
    }

    here = (db_loc_t) { loc, field->accepts[slot->name], 0 };
    before = check->nerrors;
    start = out->len;

    db_check_value(check, &field->type, slot->node, &here);

    if (check->nerrors == before && !out->failed
        && !db_str_eq((db_str_t) { out->data + start, out->len - start },
                      given->text))
    {
        db_check_fail(check, "frozen_field", &here, "Field is frozen",
                      slot->node);
    }
}


/*
 * The members of an object by field.  They mostly come in the order of the
 * model, so the search goes on where the last one ended.
 */

static void
db_check_fill(const db_check_t *check, const db_model_t *model,
    const db_json_t *member, db_slot_t *slots, unsigned *at)
{
    unsigned           n, name, naccepts;
    db_slot_t         *slot;
    const db_str_t    *accepts;
    const db_field_t  *field;

    for (n = 0; n < model->nfields; n++) {
        field = &model->fields[*at];
        slot = &slots[*at];

        if (++*at == model->nfields) {
            *at = 0;
        }

        accepts = check->stored ? &field->name : field->accepts;
        naccepts = check->stored ? 1 : field->naccepts;

        for (name = 0; name < naccepts; name++) {

            if (!db_str_eq(accepts[name], member->key)) {
                continue;
            }

            if (slot->node == NULL || name < slot->name) {
                *slot = (db_slot_t) { member, name };
            }

            return;
        }
    }
}


static db_slot_t *
db_check_slots(db_check_t *check, const db_model_t *model,
    const db_json_t *node)
{
    unsigned          at;
    db_slot_t        *slots;
    const db_json_t  *member;

    slots = db_arena_calloc(check->arena,
                            (model->nfields + 1) * sizeof(db_slot_t));
    if (slots == NULL) {
        check->out->failed = 1;
        return NULL;
    }

    at = 0;

    for (member = node->u.child; member; member = member->next) {
        db_check_fill(check, model, member, slots, &at);
    }

    return slots;
}


static int
db_check_is_used(const db_model_t *model, const db_slot_t *slots,
    const db_json_t *member)
{
    unsigned  i;

    for (i = 0; i < model->nfields; i++) {
        if (slots[i].node == member) {
            return 1;
        }
    }

    return 0;
}


static unsigned
db_check_used(const db_model_t *model, const db_slot_t *slots)
{
    unsigned  i, used;

    for (i = 0, used = 0; i < model->nfields; i++) {
        used += (slots[i].node != NULL);
    }

    return used;
}


/* Errors for what no field has taken; "but" is no error. */

static void
db_check_unknown(db_check_t *check, const db_model_t *model,
    const db_slot_t *slots, const db_json_t *node, const db_loc_t *loc,
    db_str_t but)
{
    db_loc_t          here;
    const db_json_t  *member;

    if (db_check_used(model, slots) == node->count) {
        return;
    }

    here = (db_loc_t) { loc, db_null_string, 0 };

    for (member = node->u.child; member; member = member->next) {
        here.name = member->key;

        if (!db_check_is_used(model, slots, member)
            && !(but.len && db_str_eq(member->key, but)))
        {
            db_check_fail(check, "extra_forbidden", &here,
                          "Extra inputs are not permitted", member);
        }
    }
}


int
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
    unsigned    i;
    db_slot_t  *slots;

    if (!db_check_is_object(check, node, loc)) {
        return;
    }

    slots = db_check_slots(check, model, node);
    if (slots == NULL) {
        return;
    }

    db_buf_putc(check->out, '{');

    for (i = 0; i < model->nfields; i++) {
        if (i) {
            db_buf_putc(check->out, ',');
        }

        db_check_field(check, &model->fields[i], &slots[i], node, loc);
    }

    if (model->forbid) {
        db_check_unknown(check, model, slots, node, loc, db_null_string);
    }

    db_buf_putc(check->out, '}');

    if (check->unions) {
        check->given = (check->given < 0 ? 0 : check->given)
                       + db_check_used(model, slots);
    }
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


/*
 * An id that is given.  That of a document which is there may be of an earlier
 * model; a new one has to be what the model has now.
 */

static void
db_check_given_id(db_check_t *check, const db_field_t *field,
    const db_value_t *id, db_str_t given, const db_loc_t *loc)
{
    size_t     len;
    db_loc_t   here;
    db_json_t  node;

    if (check->creates) {
        here = (db_loc_t) { loc, field->accepts[0], 0 };
        node = (db_json_t) { .kind = DB_JSON_STRING, .u.text = id->text };

        if (id->kind == DB_VALUE_INT) {
            node.kind = DB_JSON_INT;
            node.u.integer = id->integer;
        }

        len = check->out->len;
        db_check_value(check, &field->type, &node, &here);
        check->out->len = len;
    }

    db_buf_str(check->out, field->key);
    db_buf_str(check->out, given);
}


void
db_check_document(db_check_t *check, const db_crud_t *crud,
    const db_json_t *node, const db_loc_t *loc, db_str_t given_id,
    const db_given_t *given, db_value_t *id)
{
    unsigned           i;
    db_str_t           but;
    db_slot_t         *slots;
    const db_field_t  *field;
    const db_model_t  *model;

    model = crud->model;

    if (!db_check_is_object(check, node, loc)) {
        return;
    }

    slots = db_check_slots(check, model, node);
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
                db_check_given(check, field, &given[i], &slots[i], node, loc);

            } else {
                db_check_field(check, field, &slots[i], node, loc);
            }

            continue;
        }

        if (given_id.len) {
            db_check_given_id(check, field, id, given_id, loc);
            continue;
        }

        db_check_field(check, field, &slots[i], node, loc);
        db_check_take_id(check, crud, id);
    }

    if (model->forbid) {

        /* a document that was read may be sent back as it is */

        but = given_id.len ? db_string("id") : db_null_string;

        db_check_unknown(check, model, slots, node, loc, but);
    }

    db_buf_putc(check->out, '}');
}
