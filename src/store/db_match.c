/*
 * Conditions against a document, as MongoDB has them (db_store.h says what
 * that is).  For any thread; keeps nothing.
 */

#include "store/db_document.h"


#define DB_SECONDS_A_DAY  86400


/* The part of a condition that a single value can satisfy. */

typedef struct {
    db_condition_kind_t     kind;
    const db_condition_t   *condition;
    const db_value_t       *values;
    unsigned                nvalues;
} db_test_t;


static int
db_match_digits(const char *p, unsigned n, int *value)
{
    *value = 0;

    for ( ; n; n--, p++) {
        if (*p < '0' || *p > '9') {
            return 0;
        }

        *value = *value * 10 + (*p - '0');
    }

    return 1;
}


/* Days since 1970, counted in years that begin in March. */

static int64_t
db_match_days(int year, int month, int day)
{
    int64_t  y, century, of_year;

    y = (month > 2) ? year : year - 1;
    month = (month > 2) ? month - 3 : month + 9;

    of_year = (153 * month + 2) / 5 + day - 1;
    century = y / 100;

    return y * 365 + y / 4 - century + century / 4 + of_year - 719468;
}


int
db_document_time(db_str_t text, int64_t *us)
{
    int          year, month, day, hour, minute, second, fraction, oh, om;
    int64_t      seconds;
    const char  *p, *end;

    p = text.data;
    end = p + text.len;
    fraction = 0;

    if (text.len < 19 || p[4] != '-' || p[7] != '-' || p[10] != 'T'
        || p[13] != ':' || p[16] != ':'
        || !db_match_digits(p, 4, &year) || !db_match_digits(p + 5, 2, &month)
        || !db_match_digits(p + 8, 2, &day)
        || !db_match_digits(p + 11, 2, &hour)
        || !db_match_digits(p + 14, 2, &minute)
        || !db_match_digits(p + 17, 2, &second)
        || month < 1 || month > 12)
    {
        return DB_DECLINED;
    }

    p += 19;

    if (end - p >= 7 && *p == '.') {
        if (!db_match_digits(p + 1, 6, &fraction)) {
            return DB_DECLINED;
        }

        p += 7;
    }

    seconds = db_match_days(year, month, day) * DB_SECONDS_A_DAY
              + hour * 3600 + minute * 60 + second;

    if (end - p == 6 && (*p == '+' || *p == '-') && p[3] == ':'
        && db_match_digits(p + 1, 2, &oh) && db_match_digits(p + 4, 2, &om))
    {
        oh = oh * 3600 + om * 60;
        seconds += (*p == '+') ? -oh : oh;

    } else if (p != end && (end - p != 1 || *p != 'Z')) {
        return DB_DECLINED;
    }

    *us = seconds * 1000000 + fraction;

    return DB_OK;
}


static int
db_match_text(db_str_t a, db_str_t b)
{
    int     rc;
    size_t  len;

    len = a.len < b.len ? a.len : b.len;
    rc = len ? memcmp(a.data, b.data, len) : 0;

    return rc ? rc : (a.len > b.len) - (a.len < b.len);
}


/*
 * How a document's value, NULL when it is missing, compares with one that is
 * asked for: 0 when they are of different types.
 */

static int
db_match_compare(const db_json_t *node, const db_value_t *value, int *order)
{
    int64_t      us;
    long double  a, b;

    if (node == NULL || node->kind == DB_JSON_NULL) {
        *order = 0;
        return value->kind == DB_VALUE_NULL;
    }

    switch (value->kind) {

    case DB_VALUE_BOOL:
        if (node->kind != DB_JSON_TRUE && node->kind != DB_JSON_FALSE) {
            return 0;
        }

        *order = (node->kind == DB_JSON_TRUE) - (value->integer != 0);
        return 1;

    case DB_VALUE_INT:
    case DB_VALUE_REAL:
        if (node->kind != DB_JSON_INT && node->kind != DB_JSON_REAL) {
            return 0;
        }

        /* wide enough for every int64_t and every double */

        a = (node->kind == DB_JSON_INT) ? (long double) node->u.integer
                                        : (long double) node->u.real;
        b = (value->kind == DB_VALUE_INT) ? (long double) value->integer
                                          : (long double) value->real;
        *order = (a > b) - (a < b);
        return 1;

    case DB_VALUE_TEXT:
        if (node->kind != DB_JSON_STRING) {
            return 0;
        }

        *order = db_match_text(node->u.text, value->text);
        return 1;

    case DB_VALUE_TIME:
        if (node->kind != DB_JSON_STRING
            || db_document_time(node->u.text, &us) != DB_OK)
        {
            return 0;
        }

        *order = (us > value->integer) - (us < value->integer);
        return 1;

    default:
        return 0;
    }
}


static int
db_match_value(const db_test_t *test, const db_json_t *node)
{
    int                     order;
    unsigned                i;
    const db_regex_test_t  *regex;

    switch (test->kind) {

    case DB_CONDITION_EXISTS:
        return node != NULL;

    case DB_CONDITION_REGEX:
        regex = test->condition->regex;

        return node && node->kind == DB_JSON_STRING
               && regex->match(regex->compiled, node->u.text);

    case DB_CONDITION_IN:
        for (i = 0; i < test->nvalues; i++) {
            if (db_match_compare(node, &test->values[i], &order)
                && order == 0)
            {
                return 1;
            }
        }

        return 0;

    default:
        break;
    }

    if (!db_match_compare(node, test->values, &order)) {
        return 0;
    }

    switch (test->kind) {

    case DB_CONDITION_EQ:
        return order == 0;

    case DB_CONDITION_GTE:
        return order >= 0;

    case DB_CONDITION_LTE:
        return order <= 0;

    case DB_CONDITION_GT:
        return order > 0;

    default: /* DB_CONDITION_LT */
        return order < 0;
    }
}


/* At the end of a path: a list stands for its members as well. */

static int
db_match_leaf(const db_test_t *test, const db_json_t *node)
{
    const db_json_t  *member;

    if (test->kind == DB_CONDITION_SIZE) {
        return node && node->kind == DB_JSON_ARRAY
               && node->count == test->condition->number;
    }

    if (node == NULL || node->kind != DB_JSON_ARRAY) {
        return test->kind != DB_CONDITION_ELEM_MATCH
               && db_match_value(test, node);
    }

    for (member = node->u.child; member; member = member->next) {

        if (test->kind == DB_CONDITION_ELEM_MATCH
            ? db_document_match(test->condition->nodes, member)
            : db_match_value(test, member))
        {
            return 1;
        }
    }

    return test->kind == DB_CONDITION_EXISTS;
}


static const db_json_t *
db_match_member(const db_json_t *node, db_str_t name)
{
    const db_json_t  *member;

    if (node->kind == DB_JSON_OBJECT) {
        for (member = node->u.child; member; member = member->next) {
            if (db_str_eq(member->key, name)) {
                return member;
            }
        }
    }

    return NULL;
}


/* Whether the test holds of any value that the path leads to. */

static int
db_match_any(const db_test_t *test, db_path_t path, const db_json_t *node)
{
    const db_json_t  *member;

    for ( ; path.nsteps; path.steps++, path.nsteps--) {

        if (node->kind == DB_JSON_ARRAY) {
            for (member = node->u.child; member; member = member->next) {
                if (member->kind == DB_JSON_OBJECT
                    && db_match_any(test, path, member))
                {
                    return 1;
                }
            }

            return 0;
        }

        node = db_match_member(node, *path.steps);

        if (node == NULL) {
            break;
        }
    }

    return db_match_leaf(test, node);
}


static int
db_match_one(const db_condition_t *condition, const db_json_t *doc)
{
    unsigned               i;
    db_test_t              test;
    const db_condition_t  *node;

    test = (db_test_t) { condition->kind, condition, condition->values,
                         condition->nvalues };

    switch (condition->kind) {

    case DB_CONDITION_AND:
        return db_document_match(condition->nodes, doc);

    case DB_CONDITION_NOT:
        return !db_document_match(condition->nodes, doc);

    case DB_CONDITION_OR:
    case DB_CONDITION_NOR:
        for (node = condition->nodes; node; node = node->next) {
            if (db_match_one(node, doc)) {
                return condition->kind == DB_CONDITION_OR;
            }
        }

        return condition->kind == DB_CONDITION_NOR;

    case DB_CONDITION_NE:
        test.kind = DB_CONDITION_EQ;
        return !db_match_any(&test, condition->path, doc);

    case DB_CONDITION_NIN:
        test.kind = DB_CONDITION_IN;
        return !db_match_any(&test, condition->path, doc);

    case DB_CONDITION_EXISTS:
        return db_match_any(&test, condition->path, doc)
               == (condition->number != 0);

    case DB_CONDITION_ALL:
        test.kind = DB_CONDITION_EQ;

        for (i = 0; i < condition->nvalues; i++) {
            test.values = &condition->values[i];

            if (!db_match_any(&test, condition->path, doc)) {
                return 0;
            }
        }

        return condition->nvalues > 0;

    default:
        return db_match_any(&test, condition->path, doc);
    }
}


int
db_document_match(const db_condition_t *conditions, const db_json_t *doc)
{
    for ( ; conditions; conditions = conditions->next) {
        if (!db_match_one(conditions, doc)) {
            return 0;
        }
    }

    return 1;
}
