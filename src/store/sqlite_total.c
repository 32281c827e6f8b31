/*
 * Totals that are known: how many documents satisfy a filter, as long as
 * nobody has written to the database.  The nginx thread's.
 *
 * Counting reads an index entry for each document, too many for that thread:
 * a total is mostly found by the pool, and kept here for the requests that
 * follow.  A total belongs to a state of the database as the reader numbers
 * them; a commit of any process makes another.  The pool begins to read after
 * the reader has noted the state.  So when a transaction that the reader
 * begins after the pool has ended meets that same state, then the pool has
 * seen it as well.
 */

#include "store/sqlite.h"


static void
db_total_number(db_buf_t *key, uint64_t n)
{
    db_buf_append(key, (char *) &n, sizeof(n));
}


static void
db_total_text(db_buf_t *key, db_str_t text)
{
    db_total_number(key, text.len);
    db_buf_str(key, text);
}


static void
db_total_value(db_buf_t *key, const db_value_t *value)
{
    db_total_number(key, value->kind);

    switch (value->kind) {

    case DB_VALUE_NULL:
        break;

    case DB_VALUE_REAL:
        db_buf_append(key, (char *) &value->real, sizeof(value->real));
        break;

    case DB_VALUE_TEXT:
        db_total_text(key, value->text);
        break;

    default:
        db_total_number(key, (uint64_t) value->integer);
    }
}


/* Names are constant: their addresses stand for them. */

static void
db_total_conditions(db_buf_t *key, const db_condition_t *condition)
{
    unsigned  i;

    for ( ; condition; condition = condition->next) {
        db_total_number(key, 1 + (uint64_t) condition->kind);
        db_total_number(key, condition->path.nsteps);

        for (i = 0; i < condition->path.nsteps; i++) {
            db_total_number(key, (uintptr_t) condition->path.steps[i].data);
        }

        db_total_number(key, condition->number);
        db_total_number(key, condition->nvalues);

        for (i = 0; i < condition->nvalues; i++) {
            db_total_value(key, &condition->values[i]);
        }

        if (condition->regex) {
            db_total_text(key, condition->regex->text);
            db_total_text(key, condition->regex->options);
        }

        db_total_conditions(key, condition->nodes);
    }

    db_total_number(key, 0);
}


/* The place of a filter's total, or NULL; its text is left in the key. */

static db_total_t *
db_total_place(db_sqlite_t *store, const db_store_op_t *op, db_buf_t *key)
{
    size_t    i;
    uint64_t  hash;

    db_buf_init(key, op->out->arena, 128);
    db_total_number(key, (uintptr_t) op->collection);
    db_total_conditions(key, op->conditions);

    if (key->failed || key->len > DB_SQLITE_TOTAL_KEY) {
        return NULL;
    }

    for (hash = 0, i = 0; i < key->len; i++) {
        hash = hash * 31 + (unsigned char) key->data[i];
    }

    return &store->totals[(hash * 0x9e3779b97f4a7c15 >> 32)
                          % DB_SQLITE_TOTALS];
}


/* Inside the cycle's transaction: notes the state; whether total is set. */

int
db_sqlite_total_known(db_sqlite_t *store, db_store_op_t *op)
{
    db_buf_t             key;
    const db_total_t    *place;

    op->state = db_sqlite_state(store->reader);
    place = op->state ? db_total_place(store, op, &key) : NULL;

    if (place == NULL || place->state != op->state || place->len != key.len
        || memcmp(place->key, key.data, key.len) != 0)
    {
        return 0;
    }

    op->total = place->total;

    return 1;
}


/* Outside of a transaction of the reader's, unless that has counted. */

void
db_sqlite_total_keep(db_sqlite_t *store, const db_store_op_t *op)
{
    db_buf_t     key;
    db_total_t  *place;

    place = op->state ? db_total_place(store, op, &key) : NULL;

    if (place) {
        place->state = op->state;
        place->total = op->total;
        place->len = key.len;
        memcpy(place->key, key.data, key.len);
    }
}
