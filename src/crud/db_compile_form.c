/*
 * Compiles where documents have datetimes, for stores that have a type of
 * their own for them.  Runs when a schema is compiled.
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
db_compile_form(db_compiler_t *c)
{
    unsigned      i;
    db_former_t   f;

    f = (db_former_t) { c->crud->arena, 0, 0 };

    /* the last one is the document's */

    for (i = 0; i <= c->crud->nmodels; i++) {
        db_form_of_model(&f, &c->crud->models[i]);
    }

    if (f.failed) {
        return db_compile_error(c, "out of memory");
    }

    if (f.found) {
        c->crud->collection.form = &c->crud->model->form;
    }

    return DB_OK;
}
