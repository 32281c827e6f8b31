/*
 * What a plan's functions take: the parameters of path, query, headers and
 * cookies, and the JSON body, as Starlette and FastAPI read them, into the
 * run's slots.  What they do with input that is not plain is left to them:
 * the request is then the application's.  Loop thread, GIL held.
 */

#include "python/plan.h"
#include "python/plan_values.h"


#define DB_PY_DIGITS_MAX  18         /* of what certainly fits */


PyObject *
db_py_plan_validate(PyObject *validate, PyObject *value)
{
    PyObject  *args[3];

    if (validate == NULL) {
        return Py_NewRef(value);
    }

    args[0] = NULL;
    args[1] = value;
    args[2] = Py_True;

    return PyObject_Vectorcall(validate, &args[1],
                               1|PY_VECTORCALL_ARGUMENTS_OFFSET,
                               db_py.from_attributes);
}


/* An int of few digits; NULL for any other text, perhaps an int as well. */

static PyObject *
db_py_plan_int(db_str_t text)
{
    size_t     i;
    int        minus;
    long long  number;

    minus = text.len && text.data[0] == '-';

    if (text.len == (size_t) minus
        || text.len > (size_t) minus + DB_PY_DIGITS_MAX)
    {
        return NULL;
    }

    number = 0;

    for (i = minus; i < text.len; i++) {
        if (!Py_ISDIGIT(text.data[i])) {
            return NULL;
        }

        number = number * 10 + (text.data[i] - '0');
    }

    return PyLong_FromLongLong(minus ? -number : number);
}


/* What the convertor of the pattern makes of a matched parameter. */

static PyObject *
db_py_plan_convert(db_py_convertor_t convertor, db_str_t text)
{
    PyObject  *object, *value;

    if (convertor == DB_PY_PATH_INT) {
        value = db_py_plan_int(text);

        if (value) {
            return value;
        }
    }

    object = db_py_values_text(DB_PY_PATH, text);

    if (object == NULL || convertor == DB_PY_PATH_STR) {
        return object;
    }

    switch (convertor) {

    case DB_PY_PATH_INT:
        value = PyLong_FromUnicodeObject(object, 10);
        break;

    case DB_PY_PATH_FLOAT:
        value = PyFloat_FromString(object);
        break;

    default:
        value = PyObject_CallOneArg(db_py.uuid, object);
        break;
    }

    Py_DECREF(object);

    return value;
}


PyObject *
db_py_plan_path_params(const db_py_plan_run_t *run)
{
    int              rc;
    unsigned         i;
    PyObject        *params, *value;
    db_py_path_t    *path;
    const db_job_t  *job;

    job = run->request.job;
    params = PyDict_New();

    for (i = 0; params && i < job->nparams && i < run->plan->npath; i++) {
        path = &run->plan->path[i];
        value = db_py_plan_convert(path->convertor, job->params[i].value);
        rc = value ? PyDict_SetItem(params, path->name, value) : -1;
        Py_XDECREF(value);

        if (rc == -1) {
            Py_CLEAR(params);
        }
    }

    return params;
}


/* Takes over the value, validates it unless there is no need to. */

static int
db_py_plan_put(const db_py_input_t *input, Py_ssize_t slot, PyObject *validate,
    PyObject *value)
{
    PyObject  *valid;

    if (value == NULL) {
        return 0;
    }

    if (validate) {
        valid = db_py_plan_validate(validate, value);
        Py_DECREF(value);
        value = valid;
    }

    Py_XSETREF(input->slots[slot], value);

    return value != NULL;
}


static int
db_py_plan_missing(const db_py_input_t *input, Py_ssize_t slot,
    PyObject *fallback, PyObject *factory)
{
    if (factory) {
        return db_py_plan_put(input, slot, NULL, PyObject_CallNoArgs(factory));
    }

    return db_py_plan_put(input, slot, NULL, Py_XNewRef(fallback));
}


/* As the router has converted it already. */

static int
db_py_plan_fetch_converted(const db_py_input_t *input,
    const db_py_field_t *field)
{
    int        fits;
    PyObject  *value;

    value = PyDict_GetItemWithError(input->path_params,
                                    input->plan->path[field->param].name);

    if (value == NULL) {
        return 0;
    }

    fits = (field->fast == DB_PY_FAST_STR && PyUnicode_CheckExact(value))
           || (field->fast == DB_PY_FAST_INT && PyLong_CheckExact(value));

    return db_py_plan_put(input, field->slot, fits ? NULL : field->validate,
                          Py_NewRef(value));
}


static int
db_py_plan_fetch_path(const db_py_input_t *input, const db_py_field_t *field)
{
    db_str_t            text;
    PyObject           *value;
    const db_job_t     *job;
    db_py_convertor_t   convertor;

    if (input->run == NULL) {
        return db_py_plan_fetch_converted(input, field);
    }

    job = input->run->request.job;

    if (field->param >= job->nparams) {
        return 0;
    }

    text = job->params[field->param].value;
    convertor = input->plan->path[field->param].convertor;

    if (field->fast == DB_PY_FAST_INT && convertor <= DB_PY_PATH_INT) {
        value = db_py_plan_int(text);

        if (value) {
            return db_py_plan_put(input, field->slot, NULL, value);
        }
    }

    return db_py_plan_put(input, field->slot,
                          field->fast == DB_PY_FAST_STR
                          && convertor == DB_PY_PATH_STR
                              ? NULL : field->validate,
                          db_py_plan_convert(convertor, text));
}


static int
db_py_plan_fetch_one(const db_py_input_t *input, const db_py_field_t *field,
    db_str_t text)
{
    PyObject  *value;

    if (field->fast == DB_PY_FAST_INT) {
        value = db_py_plan_int(text);

        if (value) {
            return db_py_plan_put(input, field->slot, NULL, value);
        }
    }

    return db_py_plan_put(input, field->slot,
                          field->fast == DB_PY_FAST_STR
                              ? NULL : field->validate,
                          db_py_values_text(field->source, text));
}


static int
db_py_plan_fetch_many(const db_py_input_t *input, db_py_values_t *values,
    db_str_t text)
{
    int                   rc;
    PyObject             *list, *value;
    const db_py_field_t  *field;

    field = values->field;
    list = PyList_New(0);

    if (list == NULL) {
        return 0;
    }

    do {
        value = db_py_values_text(field->source, text);
        rc = value ? PyList_Append(list, value) : -1;
        Py_XDECREF(value);

        if (rc == 0) {
            rc = db_py_values_next(values, &text);
        }

    } while (rc == 1);

    if (rc != 0) {
        Py_DECREF(list);
        return 0;
    }

    return db_py_plan_put(input, field->slot, field->validate, list);
}


/* A parameter under the first of its names that the request has. */

static int
db_py_plan_fetch_field(const db_py_input_t *input, const db_py_field_t *field,
    db_py_query_t *query)
{
    int              rc;
    unsigned         i;
    db_str_t         text, last;
    db_py_values_t   values;

    values.field = field;
    values.input = input;
    values.query = query;

    for (i = 0; i < field->nnames; i++) {
        db_py_values_start(&values, field->names[i]);

        rc = db_py_values_next(&values, &text);

        if (rc == 1 && field->many) {
            return db_py_plan_fetch_many(input, &values, text);
        }

        if (rc == 1 && field->source != DB_PY_HEADER) {

            /* the last one wins */

            do {
                last = text;
                rc = db_py_values_next(&values, &text);
            } while (rc == 1);

            if (rc == 0) {
                return db_py_plan_fetch_one(input, field, last);
            }
        }

        if (rc == 1) {
            return db_py_plan_fetch_one(input, field, text);
        }

        if (rc == -1) {
            return 0;
        }
    }

    return db_py_plan_missing(input, field->slot, field->fallback,
                              field->factory);
}


static PyObject *
db_py_plan_input_asked(const db_py_input_t *input)
{
    return input->run ? db_py_plan_asked(input->run) : input->request;
}


static int
db_py_plan_fetch_computed(const db_py_input_t *input,
    const db_py_field_t *field)
{
    PyObject  *asked;

    asked = db_py_plan_input_asked(input);

    if (asked == NULL) {
        return 0;
    }

    return db_py_plan_put(input, field->slot, NULL,
                          PyObject_CallOneArg(field->validate, asked));
}


static int
db_py_plan_fetch_fields(const db_py_input_t *input)
{
    int                   rc;
    unsigned              i;
    db_py_query_t         query;
    const db_py_field_t  *field;

    query.parsed = 0;

    for (i = 0; i < input->plan->nfields; i++) {
        field = &input->plan->fields[i];

        switch (field->source) {

        case DB_PY_PATH:
            rc = db_py_plan_fetch_path(input, field);
            break;

        case DB_PY_COMPUTED:
            rc = db_py_plan_fetch_computed(input, field);
            break;

        default:
            rc = db_py_plan_fetch_field(input, field, &query);
            break;
        }

        if (!rc) {
            return 0;
        }
    }

    return 1;
}


/* Whether FastAPI parses a body of this type as JSON. */

static int
db_py_plan_json_type(db_str_t type)
{
    size_t       len;
    const char  *end;

    end = memchr(type.data, ';', type.len);

    if (end) {
        type.len = end - type.data;
    }

    type = db_str_trim(type);
    len = sizeof("application/") - 1;

    if (type.len < len
        || PyOS_mystrnicmp(type.data, "application/", len) != 0
        || memchr(type.data + len, '/', type.len - len))
    {
        return 0;
    }

    type.data += len;
    type.len -= len;

    if (type.len == 4) {
        return PyOS_mystrnicmp(type.data, "json", 4) == 0;
    }

    return type.len >= 5
           && PyOS_mystrnicmp(type.data + type.len - 5, "+json", 5) == 0;
}


static int
db_py_plan_is_json(const db_py_input_t *input)
{
    db_str_t  value;

    if (db_py_header_value(input, db_string("content-encoding"), &value)) {
        return 0;
    }

    if (db_py_header_value(input, db_string("content-type"), &value)
        && value.len)
    {
        return db_py_plan_json_type(value);
    }

    return !input->plan->strict;
}


/* The parsed body; *absent is set for an empty one. */

static PyObject *
db_py_plan_parse_body(const db_py_input_t *input, int *absent)
{
    db_str_t   text;
    PyObject  *bytes, *body;

    text = input->body;

    if (text.len == 0) {
        *absent = 1;
        return NULL;
    }

    *absent = 0;

    if (!db_py_plan_is_json(input)) {
        return NULL;
    }

    bytes = PyBytes_FromStringAndSize(text.data, text.len);

    if (bytes == NULL) {
        return NULL;
    }

    body = PyObject_CallOneArg(input->plan->parse, bytes);
    Py_DECREF(bytes);

    return body;
}


static int
db_py_plan_fetch_member(const db_py_input_t *input,
    const db_py_body_field_t *field, PyObject *body)
{
    unsigned   i;
    PyObject  *value;

    value = NULL;

    if (body && !input->plan->embedded) {
        value = body;

    } else if (body) {
        for (i = 0; i < field->nnames && value == NULL; i++) {
            value = PyDict_GetItemWithError(body, field->names[i]);
        }
    }

    if (value == NULL) {
        return db_py_plan_missing(input, field->slot, field->fallback,
                                  field->factory);
    }

    return db_py_plan_put(input, field->slot, field->validate,
                          Py_NewRef(value));
}


static int
db_py_plan_fetch_body(const db_py_input_t *input)
{
    int        rc, absent;
    unsigned   i;
    PyObject  *body;

    if (input->plan->nbody == 0) {
        return 1;
    }

    body = db_py_plan_parse_body(input, &absent);

    if (body == NULL && !absent) {
        return 0;
    }

    rc = body == NULL || !input->plan->embedded || PyDict_CheckExact(body);

    for (i = 0; rc && i < input->plan->nbody; i++) {
        rc = db_py_plan_fetch_member(input, &input->plan->body[i], body);
    }

    Py_XDECREF(body);

    return rc;
}


/* What each request has its own of. */

static int
db_py_plan_fetch_objects(const db_py_input_t *input)
{
    const db_py_plan_t  *plan;

    plan = input->plan;

    if (plan->request >= 0
        && !db_py_plan_put(input, plan->request, NULL,
                           Py_XNewRef(db_py_plan_input_asked(input))))
    {
        return 0;
    }

    if (plan->response >= 0
        && !db_py_plan_put(input, plan->response, NULL,
                           PyObject_CallNoArgs(plan->make_response)))
    {
        return 0;
    }

    return plan->background < 0
           || db_py_plan_put(input, plan->background, NULL,
                             PyObject_CallNoArgs(plan->make_background));
}


int
db_py_plan_fetch_input(const db_py_input_t *input)
{
    if (db_py_plan_fetch_fields(input) && db_py_plan_fetch_body(input)
        && db_py_plan_fetch_objects(input))
    {
        return 1;
    }

    PyErr_Clear();

    return 0;
}


int
db_py_plan_fetch(db_py_plan_run_t *run)
{
    db_py_input_t    input;
    const db_job_t  *job;

    job = run->request.job;

    /* who may read the body has to find it whole, if need be twice */

    if ((job->streamed || job->body_fd != -1) && run->plan->host.body) {
        return 0;
    }

    input.plan = run->plan;
    input.slots = run->slots;
    input.query = job->query;
    input.body = job->body;
    input.nheaders = job->nheaders;
    input.headers = job->headers;
    input.run = run;
    input.request = NULL;
    input.path_params = NULL;

    return db_py_plan_fetch_input(&input);
}
