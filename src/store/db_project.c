/*
 * A document with some of its members only, in their order, as MongoDB's
 * inclusive projection has it.  Values are written as they are stored.  For
 * any thread.
 */

#include "store/db_document.h"


/* Which of the fields lead here: bit n of a set is fields[n]. */

typedef struct {
    db_buf_t         *out;
    const db_path_t  *fields;
    unsigned          nfields;
} db_projection_t;


void
db_document_write(db_buf_t *out, const db_json_t *node)
{
    char              text[DB_JSON_REAL_SIZE];
    const db_json_t  *member;

    switch (node->kind) {

    case DB_JSON_REAL:
        db_buf_append(out, text, db_json_real_text(text, node->u.real));
        return;

    case DB_JSON_ARRAY:
    case DB_JSON_OBJECT:
        break;

    default:
        db_json_write(out, node);
        return;
    }

    db_buf_putc(out, node->kind == DB_JSON_ARRAY ? '[' : '{');

    for (member = node->u.child; member; member = member->next) {

        if (node->kind == DB_JSON_OBJECT) {
            db_json_write_string(out, member->key);
            db_buf_putc(out, ':');
        }

        db_document_write(out, member);

        if (member->next) {
            db_buf_putc(out, ',');
        }
    }

    db_buf_putc(out, node->kind == DB_JSON_ARRAY ? ']' : '}');
}


/* The set that goes on with this name; *whole: one of them ends with it. */

static uint64_t
db_project_step(const db_projection_t *p, uint64_t set, unsigned depth,
    db_str_t name, int *whole)
{
    unsigned          i;
    uint64_t          next;
    const db_path_t  *field;

    next = 0;
    *whole = 0;

    for (i = 0; i < p->nfields; i++) {
        field = &p->fields[i];

        if ((set & (uint64_t) 1 << i) && field->nsteps > depth
            && db_str_eq(field->steps[depth], name))
        {
            next |= (uint64_t) 1 << i;
            *whole |= (field->nsteps == depth + 1);
        }
    }

    return next;
}


static void
db_project_node(const db_projection_t *p, uint64_t set, unsigned depth,
    const db_json_t *node)
{
    int               whole, first;
    uint64_t          next;
    const db_json_t  *member;

    first = 1;
    db_buf_putc(p->out, node->kind == DB_JSON_ARRAY ? '[' : '{');

    for (member = node->u.child; member; member = member->next) {
        next = set;
        whole = 0;

        if (node->kind == DB_JSON_OBJECT) {
            next = db_project_step(p, set, depth, member->key, &whole);

            whole |= depth == 0 && db_str_eq(member->key, db_string("id"));
        }

        /* a scalar has no members: it is left out */

        if (!whole && (next == 0 || (member->kind != DB_JSON_OBJECT
                                     && member->kind != DB_JSON_ARRAY)))
        {
            continue;
        }

        if (!first) {
            db_buf_putc(p->out, ',');
        }

        first = 0;

        if (node->kind == DB_JSON_OBJECT) {
            db_json_write_string(p->out, member->key);
            db_buf_putc(p->out, ':');
        }

        if (whole) {
            db_document_write(p->out, member);

        } else {
            db_project_node(p, next, depth + (node->kind == DB_JSON_OBJECT),
                            member);
        }
    }

    db_buf_putc(p->out, node->kind == DB_JSON_ARRAY ? ']' : '}');
}


void
db_document_project(db_buf_t *out, const db_json_t *doc,
    const db_path_t *fields, unsigned nfields)
{
    db_projection_t  p;

    p = (db_projection_t) { out, fields, nfields };

    db_project_node(&p, ((uint64_t) 1 << nfields) - 1, 0, doc);
}
