/*
 * Compiles what is to be known of whole documents: where they have datetimes,
 * for stores that have a type of their own for them, and whether clients give
 * anything in them another name.  Runs when a schema is compiled.
 */

#include "crud/db_compile.h"


typedef struct {
    db_arena_t  *arena;
    int          found;          /* a datetime, anywhere */
    int          failed;
} db_former_t;


static const db_form_t *
db_form_of_type(db_former_t *f, const db_type_t *type)
{
    db_form_t        *form;
    const db_form_t  *each;

    static const db_form_t  time = { .time = 1 };

    switch (type->kind) {

    case DB_TYPE_DATETIME:
        f->found = 1;
        return &time;

    case DB_TYPE_MODEL:
        return &type->model->form;

    case DB_TYPE_LIST:
    case DB_TYPE_DICT:
        each = db_form_of_type(f, type->items);
        break;

    default:
        return NULL;
    }

    if (each == NULL) {
        return NULL;
    }

    form = db_arena_calloc(f->arena, sizeof(db_form_t));

    if (form == NULL) {
        f->failed = 1;
        return NULL;
    }

    form->each = each;

    return form;
}


static void
db_form_of_model(db_former_t *f, db_model_t *model)
{
    unsigned           i;
    const db_form_t   *form;
    db_form_member_t  *members;

    members = db_arena_calloc(f->arena,
                              model->nfields * sizeof(db_form_member_t) + 1);
    if (members == NULL) {
        f->failed = 1;
        return;
    }

    model->form.members = members;

    for (i = 0; i < model->nfields; i++) {
        form = db_form_of_type(f, &model->fields[i].type);

        if (form) {
            members[model->form.nmembers++]
                = (db_form_member_t) { model->fields[i].name, form };
        }
    }
}


int
db_type_is_aliased(const db_type_t *type)
{
    unsigned  i;

    switch (type->kind) {

    case DB_TYPE_MODEL:
        return type->model->aliased;

    case DB_TYPE_LIST:
    case DB_TYPE_DICT:
        return db_type_is_aliased(type->items);

    default:
        break;
    }

    for (i = 0; i < type->nchoices; i++) {
        if (db_type_is_aliased(&type->choices[i].type)) {
            return 1;
        }
    }

    return 0;
}


static int
db_model_is_aliased(const db_model_t *model)
{
    unsigned           i;
    const db_field_t  *field;

    for (i = 0; i < model->nfields; i++) {
        field = &model->fields[i];

        if (field->naccepts > 1 || !db_str_eq(field->accepts[0], field->name)
            || db_type_is_aliased(&field->type))
        {
            return 1;
        }
    }

    return 0;
}


/* Models may hold each other, so one tells of another until none is new. */

static void
db_compile_aliased(db_crud_t *crud)
{
    unsigned     i, found;
    db_model_t  *model;

    do {
        found = 0;

        for (i = 0; i <= crud->nmodels; i++) {
            model = &crud->models[i];

            if (!model->aliased && db_model_is_aliased(model)) {
                model->aliased = 1;
                found = 1;
            }
        }

    } while (found);
}


int
db_compile_form(db_compiler_t *c)
{
    unsigned      i;
    db_former_t   f;

    f = (db_former_t) { c->crud->arena, 0, 0 };

    /* the last one is the document's */

    for (i = 0; i <= c->crud->nmodels; i++) {
        db_form_of_model(&f, &c->crud->models[i]);
    }

    db_compile_aliased(c->crud);

    if (f.failed) {
        return db_compile_error(c, "out of memory");
    }

    if (f.found) {
        c->crud->collection.form = &c->crud->model->form;
    }

    return DB_OK;
}
