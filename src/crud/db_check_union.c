/*
 * Unions as pydantic's smart mode has them: every member is tried, and the
 * best match is what is written.
 */

#include "crud/db_check.h"


/* Values within unions within unions: those multiply. */
#define DB_UNION_MAX_WORK  100000

#define DB_MATCH_LAX       0
#define DB_MATCH_STRICT    1
#define DB_MATCH_EXACT     2


typedef struct {
    enum {
        DB_MATCH_NONE,
        DB_MATCH_FOUND,
        DB_MATCH_REFUSED         /* by us: nothing is written */
    }          found;
    unsigned   exactness;
    int64_t    given;

    const db_choice_t  *choice;
} db_match_t;


static unsigned
db_match_of(const db_type_t *type, const db_json_t *node)
{
    switch (type->kind) {

    case DB_TYPE_STR:
    case DB_TYPE_DICT:
    case DB_TYPE_LITERAL:
    case DB_TYPE_UNION:
    case DB_TYPE_TAGGED:
        return DB_MATCH_EXACT;

    case DB_TYPE_LIST:
        return type->tuple ? DB_MATCH_LAX : DB_MATCH_EXACT;

    case DB_TYPE_INT:
        return node->kind == DB_JSON_INT || node->kind == DB_JSON_BIGINT
               ? DB_MATCH_EXACT : DB_MATCH_LAX;

    case DB_TYPE_FLOAT:
        if (node->kind == DB_JSON_REAL) {
            return DB_MATCH_EXACT;
        }

        return node->kind == DB_JSON_INT || node->kind == DB_JSON_BIGINT
               ? DB_MATCH_STRICT : DB_MATCH_LAX;

    case DB_TYPE_BOOL:
        return node->kind == DB_JSON_TRUE || node->kind == DB_JSON_FALSE
               ? DB_MATCH_EXACT : DB_MATCH_LAX;

    case DB_TYPE_MODEL:
    case DB_TYPE_ANY:
        return DB_MATCH_STRICT;

    default:
        return DB_MATCH_LAX;
    }
}


static void
db_check_floor(db_check_t *check, unsigned exactness)
{
    if (check->exactness > exactness) {
        check->exactness = exactness;
    }
}


static void
db_check_too_complex(db_check_t *check, const db_json_t *node,
    const db_loc_t *loc)
{
    db_check_fail(check, "union_too_complex", loc, "Input has too many "
                  "unions within unions to be tried", node);
}


int
db_check_match(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc)
{
    if (check->unions > 1 && ++check->work > DB_UNION_MAX_WORK) {
        db_check_too_complex(check, node, loc);
        return DB_DECLINED;
    }

    if (node->kind != DB_JSON_NULL || !type->nullable) {
        db_check_floor(check, db_match_of(type, node));
    }

    return DB_OK;
}


static int
db_match_is_better(const db_match_t *best, const db_check_t *check)
{
    if (!best->found) {
        return 1;
    }

    if (best->given >= 0 && check->given >= 0
        && best->given != check->given)
    {
        return best->given < check->given;
    }

    return best->exactness < check->exactness;
}


/*
 * What the members write follows the best of it so far, and takes its place
 * when it is better.
 */

static void
db_check_choices(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc, db_match_t *best)
{
    size_t     start, at, errors_len;
    db_buf_t  *out;
    db_loc_t   here;
    unsigned   i, nerrors, refused;

    out = check->out;
    start = out->len;

    for (i = 0; i < type->nchoices; i++) {
        at = out->len;
        nerrors = check->nerrors;
        refused = check->refused;
        errors_len = check->errors.len;

        check->exactness = DB_MATCH_EXACT;
        check->given = -1;

        here = (db_loc_t) { loc, type->choices[i].label, 0 };

        db_check_value(check, &type->choices[i].type, node, &here);

        if (out->failed) {
            return;
        }

        /* to pydantic a match is what only we refuse */

        nerrors = check->nerrors - nerrors;
        refused = check->refused - refused;

        if (nerrors != refused || !db_match_is_better(best, check)) {

            if (best->found == DB_MATCH_FOUND) {
                check->nerrors -= nerrors;
                check->errors.len = errors_len;
            }

            out->len = at;
            continue;
        }

        *best = (db_match_t) { nerrors ? DB_MATCH_REFUSED : DB_MATCH_FOUND,
                               check->exactness, check->given,
                               &type->choices[i] };

        at = nerrors ? out->len : at;
        memmove(out->data + start, out->data + at, out->len - at);
        out->len = start + (out->len - at);

        if (best->exactness == DB_MATCH_EXACT && best->given < 0) {
            return;
        }
    }
}


void
db_check_union(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc)
{
    size_t      errors_len;
    int64_t     given;
    unsigned    nerrors, exactness, refused;
    db_match_t  best = { 0 };

    nerrors = check->nerrors;
    errors_len = check->errors.len;
    refused = check->refused;
    exactness = check->exactness;
    given = check->given;

    check->unions++;

    db_check_choices(check, type, node, loc, &best);

    check->unions--;
    check->exactness = exactness;
    check->given = given;
    check->choice = best.choice;

    if (best.found != DB_MATCH_NONE) {
        db_check_floor(check, best.exactness);

        if (best.given >= 0) {
            check->given = (given < 0 ? 0 : given) + best.given;
        }
    }

    switch (best.found) {

    case DB_MATCH_FOUND:
        check->nerrors = nerrors;
        check->refused = refused;
        check->errors.len = errors_len;
        break;

    case DB_MATCH_REFUSED:
        check->refused = refused + (check->nerrors - nerrors);
        break;

    default: /* DB_MATCH_NONE */
        check->refused = refused;
    }

    if (check->unions == 0 && check->work > DB_UNION_MAX_WORK) {
        check->nerrors = nerrors;
        check->errors.len = errors_len;
        check->work = 0;

        db_check_too_complex(check, node, loc);
    }
}


static void
db_check_tag_failed(db_check_t *check, const db_type_t *type,
    const db_json_t *tag, const db_json_t *node, const db_loc_t *loc)
{
    db_buf_t  msg, ctx, text;

    db_buf_init(&msg, check->arena, 128);
    db_buf_init(&ctx, check->arena, 128);
    db_buf_init(&text, check->arena, 64);

    db_buf_lit(&ctx, "\"discriminator\":");
    db_json_write_string(&ctx, type->quoted);

    if (tag == NULL) {
        db_buf_lit(&msg, "Unable to extract tag using discriminator ");
        db_check_escape(&msg, type->quoted);

    } else {
        db_check_write_str(&text, tag);

        db_buf_lit(&msg, "Input tag '");
        db_check_escape(&msg, (db_str_t) { text.data, text.len });
        db_buf_lit(&msg, "' found using ");
        db_check_escape(&msg, type->quoted);
        db_buf_lit(&msg, " does not match any of the expected tags: ");
        db_check_escape(&msg, type->expected);

        db_buf_lit(&ctx, ",\"tag\":");
        db_json_write_string(&ctx, (db_str_t) { text.data, text.len });
        db_buf_lit(&ctx, ",\"expected_tags\":");
        db_json_write_string(&ctx, type->expected);
    }

    if (msg.failed || ctx.failed || text.failed) {
        check->errors.failed = 1;
        return;
    }

    db_check_error(check, tag ? "union_tag_invalid" : "union_tag_not_found",
                   loc, (db_str_t) { msg.data, msg.len }, node,
                   (db_str_t) { ctx.data, ctx.len });
}


/* The name by which documents have the tag of a choice. */

static db_str_t
db_check_tag_stored(const db_type_t *type, const db_type_t *choice)
{
    unsigned           i, n;
    const db_field_t  *field;

    while (choice->kind == DB_TYPE_TAGGED) {
        choice = &choice->choices[0].type;
    }

    for (i = 0; choice->model && i < choice->model->nfields; i++) {
        field = &choice->model->fields[i];

        for (n = 0; n < field->naccepts; n++) {
            if (db_str_eq(field->accepts[n], type->discriminator)) {
                return field->name;
            }
        }
    }

    return type->discriminator;
}


static const db_json_t *
db_check_tag(const db_json_t *node, db_str_t name)
{
    const db_json_t  *tag;

    for (tag = node->u.child; tag; tag = tag->next) {
        if (db_str_eq(tag->key, name)) {
            break;
        }
    }

    return tag;
}


void
db_check_tagged(db_check_t *check, const db_type_t *type,
    const db_json_t *node, const db_loc_t *loc)
{
    unsigned            i;
    db_loc_t            here;
    const db_json_t    *tag;
    const db_choice_t  *choice;

    if (!db_check_is_object(check, node, loc)) {
        return;
    }

    tag = db_check_tag(node, type->discriminator);

    for (i = 0; i < type->nchoices; i++) {
        choice = &type->choices[i];

        if (check->stored) {
            tag = db_check_tag(node, db_check_tag_stored(type, &choice->type));
        }

        if (tag && tag->kind == DB_JSON_STRING
            && db_str_eq(choice->label, tag->u.text))
        {
            here = (db_loc_t) { loc, choice->label, 0 };
            db_check_value(check, &choice->type, node, &here);
            check->choice = choice;
            return;
        }
    }

    db_check_tag_failed(check, type, tag, node, loc);
}
