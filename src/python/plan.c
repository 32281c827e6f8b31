/*
 * Reads a databridge.plans.spec.Plan, by position, into a db_py_plan_t, and
 * says what is wrong with one.  Loop thread, GIL held, when an application
 * starts; the plan is constant from then on.
 */

#include "python/plan.h"
#include "python/plan_spec.h"


#define DB_PY_NO_SLOT  (-1)


/* What is being read. */

typedef struct {
    db_py_plan_t  *plan;
    PyObject      *required;     /* spec.REQUIRED */
} db_py_reader_t;


static void *
db_py_spec_alloc(db_py_reader_t *reader, size_t n, size_t size)
{
    void  *data;

    /* an arena gives nothing for nothing */

    data = db_arena_calloc(reader->plan->arena, n ? n * size : size);

    if (data == NULL) {
        PyErr_NoMemory();
    }

    return data;
}


static int
db_py_spec_slot(db_py_reader_t *reader, PyObject *object, long min,
    const char *name, Py_ssize_t *slot)
{
    long  number;

    if (db_py_spec_number(object, min, reader->plan->nslots - 1, name,
                          &number)
        == -1)
    {
        return -1;
    }

    *slot = number;

    return 0;
}


/* A tuple of bytes, as an array. */

static int
db_py_spec_strings(db_py_reader_t *reader, PyObject *tuple, const char *name,
    unsigned *n, db_str_t **strings)
{
    unsigned  i;

    if (db_py_spec_tuple(tuple, -1, name) == -1) {
        return -1;
    }

    *n = PyTuple_GET_SIZE(tuple);
    *strings = db_py_spec_alloc(reader, *n, sizeof(db_str_t));

    if (*strings == NULL) {
        return -1;
    }

    for (i = 0; i < *n; i++) {
        if (db_py_spec_bytes(PyTuple_GET_ITEM(tuple, i), name, &(*strings)[i])
            == -1)
        {
            return -1;
        }
    }

    return 0;
}


/* validate, default and factory, which stand side by side. */

static int
db_py_spec_value(db_py_reader_t *reader, PyObject *tuple, Py_ssize_t i,
    PyObject **validate, PyObject **fallback, PyObject **factory)
{
    *fallback = PyTuple_GET_ITEM(tuple, i + 1);

    if (*fallback == reader->required) {
        *fallback = NULL;
    }

    return db_py_spec_optional(PyTuple_GET_ITEM(tuple, i), "validate",
                               validate) == -1
           || db_py_spec_optional(PyTuple_GET_ITEM(tuple, i + 2), "factory",
                                  factory) == -1 ? -1 : 0;
}


static int
db_py_spec_convertor(PyObject *text, db_py_convertor_t *convertor)
{
    unsigned  i;

    static const struct {
        const char         *name;
        db_py_convertor_t   convertor;
    } convertors[] = {
        { "str", DB_PY_PATH_STR },
        { "path", DB_PY_PATH_STR },
        { "int", DB_PY_PATH_INT },
        { "float", DB_PY_PATH_FLOAT },
        { "uuid", DB_PY_PATH_UUID },
    };

    for (i = 0; i < Py_ARRAY_LENGTH(convertors); i++) {
        if (PyUnicode_CompareWithASCIIString(text, convertors[i].name) == 0) {
            *convertor = convertors[i].convertor;
            return 0;
        }
    }

    PyErr_Format(PyExc_ValueError, "a plan knows no path convertor %R", text);

    return -1;
}


static int
db_py_spec_path(db_py_reader_t *reader, PyObject *names, PyObject *convertors)
{
    unsigned       i;
    db_py_plan_t  *plan;

    if (db_py_spec_texts(names, -1, "path_names") == -1
        || db_py_spec_texts(convertors, PyTuple_GET_SIZE(names),
                            "path_convertors") == -1)
    {
        return -1;
    }

    plan = reader->plan;
    plan->npath = PyTuple_GET_SIZE(names);
    plan->path = db_py_spec_alloc(reader, plan->npath, sizeof(db_py_path_t));

    if (plan->path == NULL) {
        return -1;
    }

    for (i = 0; i < plan->npath; i++) {
        plan->path[i].name = PyTuple_GET_ITEM(names, i);

        if (db_py_spec_convertor(PyTuple_GET_ITEM(convertors, i),
                                 &plan->path[i].convertor) == -1)
        {
            return -1;
        }
    }

    return 0;
}


/* Which of the path's parameters has the name of the field. */

static int
db_py_spec_param(db_py_reader_t *reader, db_py_field_t *field)
{
    db_str_t       name;
    Py_ssize_t     len;
    db_py_plan_t  *plan;

    plan = reader->plan;

    if (field->nnames != 1 || field->many) {
        PyErr_SetString(PyExc_ValueError, "a parameter of the path has one "
                        "name and one value");
        return -1;
    }

    for (field->param = 0; field->param < plan->npath; field->param++) {
        name.data = PyUnicode_AsUTF8AndSize(plan->path[field->param].name,
                                            &len);

        if (name.data == NULL) {
            return -1;
        }

        name.len = len;

        if (db_str_eq(name, field->names[0])) {
            return 0;
        }
    }

    PyErr_Format(PyExc_ValueError, "the path of a plan has no parameter "
                 "\"%.200s\"", field->names[0].data);

    return -1;
}


static int
db_py_spec_field(db_py_reader_t *reader, PyObject *tuple,
    db_py_field_t *field)
{
    int   many;
    long  source, fast;

    if (db_py_spec_tuple(tuple, -1, "a field") == -1) {
        return -1;
    }

    if (PyTuple_GET_SIZE(tuple) == 2) {
        field->source = DB_PY_COMPUTED;

        return db_py_spec_slot(reader, PyTuple_GET_ITEM(tuple, 0), 0,
                               "the slot of a computed field", &field->slot)
               == -1 ? -1
               : db_py_spec_call(PyTuple_GET_ITEM(tuple, 1), "compute",
                                 &field->validate);
    }

    if (db_py_spec_tuple(tuple, 8, "a field") == -1
        || db_py_spec_number(PyTuple_GET_ITEM(tuple, 0), DB_PY_PATH,
                             DB_PY_COOKIE, "the source of a field", &source)
           == -1
        || db_py_spec_strings(reader, PyTuple_GET_ITEM(tuple, 1),
                              "a name of a field", &field->nnames,
                              &field->names) == -1
        || db_py_spec_slot(reader, PyTuple_GET_ITEM(tuple, 2), 0,
                           "the slot of a field", &field->slot) == -1
        || db_py_spec_flag(PyTuple_GET_ITEM(tuple, 3), "many", &many) == -1
        || db_py_spec_number(PyTuple_GET_ITEM(tuple, 4), DB_PY_FAST_NOTHING,
                             DB_PY_FAST_INT, "fast", &fast) == -1
        || db_py_spec_value(reader, tuple, 5, &field->validate,
                            &field->fallback, &field->factory) == -1)
    {
        return -1;
    }

    field->source = source;
    field->many = many;
    field->fast = fast;

    if (many && (fast || field->source == DB_PY_COOKIE)) {
        PyErr_SetString(PyExc_ValueError, "a field with many values is "
                        "neither fast nor a cookie");
        return -1;
    }

    return field->source == DB_PY_PATH ? db_py_spec_param(reader, field) : 0;
}


static int
db_py_spec_fields(db_py_reader_t *reader, PyObject *tuple)
{
    unsigned       i;
    db_py_plan_t  *plan;

    if (db_py_spec_tuple(tuple, -1, "fields") == -1) {
        return -1;
    }

    plan = reader->plan;
    plan->nfields = PyTuple_GET_SIZE(tuple);
    plan->fields = db_py_spec_alloc(reader, plan->nfields,
                                    sizeof(db_py_field_t));

    if (plan->fields == NULL) {
        return -1;
    }

    for (i = 0; i < plan->nfields; i++) {
        if (db_py_spec_field(reader, PyTuple_GET_ITEM(tuple, i),
                             &plan->fields[i]) == -1)
        {
            return -1;
        }
    }

    return 0;
}


static int
db_py_spec_body_field(db_py_reader_t *reader, PyObject *tuple,
    db_py_body_field_t *field)
{
    PyObject  *names;

    if (db_py_spec_tuple(tuple, 5, "a field of the body") == -1) {
        return -1;
    }

    names = PyTuple_GET_ITEM(tuple, 0);

    if (db_py_spec_texts(names, -1, "names of a field of the body") == -1
        || db_py_spec_slot(reader, PyTuple_GET_ITEM(tuple, 1), 0,
                           "the slot of a field of the body", &field->slot)
           == -1)
    {
        return -1;
    }

    field->nnames = PyTuple_GET_SIZE(names);
    field->names = ((PyTupleObject *) names)->ob_item;

    return db_py_spec_value(reader, tuple, 2, &field->validate,
                            &field->fallback, &field->factory);
}


static int
db_py_spec_body(db_py_reader_t *reader, PyObject *body)
{
    int            embedded, strict;
    unsigned       i;
    PyObject      *fields;
    db_py_plan_t  *plan;

    if (body == Py_None) {
        return 0;
    }

    if (db_py_spec_tuple(body, 4, "body") == -1) {
        return -1;
    }

    fields = PyTuple_GET_ITEM(body, 0);

    if (db_py_spec_tuple(fields, -1, "the fields of the body") == -1
        || db_py_spec_flag(PyTuple_GET_ITEM(body, 1), "embedded", &embedded)
           == -1
        || db_py_spec_flag(PyTuple_GET_ITEM(body, 2), "strict", &strict)
           == -1)
    {
        return -1;
    }

    plan = reader->plan;
    plan->nbody = PyTuple_GET_SIZE(fields);
    plan->embedded = embedded;
    plan->strict = strict;

    if (plan->nbody == 0) {
        PyErr_SetString(PyExc_ValueError, "the body of a plan has to have "
                        "fields");
        return -1;
    }

    plan->body = db_py_spec_alloc(reader, plan->nbody,
                                  sizeof(db_py_body_field_t));

    if (plan->body == NULL) {
        return -1;
    }

    for (i = 0; i < plan->nbody; i++) {
        if (db_py_spec_body_field(reader, PyTuple_GET_ITEM(fields, i),
                                  &plan->body[i]) == -1)
        {
            return -1;
        }
    }

    return db_py_spec_call(PyTuple_GET_ITEM(body, 3), "parse", &plan->parse);
}


static int
db_py_spec_step(db_py_reader_t *reader, PyObject *tuple, db_py_step_t *step)
{
    long         kind;
    unsigned     i;
    PyObject    *names, *slots;

    if (db_py_spec_tuple(tuple, 5, "a step") == -1) {
        return -1;
    }

    names = PyTuple_GET_ITEM(tuple, 2);
    slots = PyTuple_GET_ITEM(tuple, 3);

    if (db_py_spec_call(PyTuple_GET_ITEM(tuple, 0), "a step", &step->call)
        == -1
        || db_py_spec_number(PyTuple_GET_ITEM(tuple, 1), DB_PY_STEP_ASYNC,
                             DB_PY_STEP_THREAD, "the kind of a step", &kind)
           == -1
        || db_py_spec_texts(names, -1, "the names of a step") == -1
        || db_py_spec_tuple(slots, PyTuple_GET_SIZE(names),
                            "the slots of a step") == -1
        || db_py_spec_slot(reader, PyTuple_GET_ITEM(tuple, 4), DB_PY_NO_SLOT,
                           "the result of a step", &step->result) == -1)
    {
        return -1;
    }

    if (PyTuple_GET_SIZE(names) > DB_PY_ARGS_MAX) {
        PyErr_Format(PyExc_ValueError, "a step of a plan has at most %d "
                     "arguments", DB_PY_ARGS_MAX);
        return -1;
    }

    step->kind = kind;
    step->nargs = PyTuple_GET_SIZE(names);
    step->names = step->nargs ? names : NULL;
    step->slots = db_py_spec_alloc(reader, step->nargs, sizeof(Py_ssize_t));

    if (step->slots == NULL) {
        return -1;
    }

    for (i = 0; i < step->nargs; i++) {
        if (db_py_spec_slot(reader, PyTuple_GET_ITEM(slots, i), 0,
                            "an argument of a step", &step->slots[i]) == -1)
        {
            return -1;
        }
    }

    return 0;
}


static int
db_py_spec_steps(db_py_reader_t *reader, PyObject *tuple)
{
    unsigned       i;
    db_py_plan_t  *plan;

    if (db_py_spec_tuple(tuple, -1, "steps") == -1) {
        return -1;
    }

    plan = reader->plan;
    plan->nsteps = PyTuple_GET_SIZE(tuple);
    plan->steps = db_py_spec_alloc(reader, plan->nsteps,
                                   sizeof(db_py_step_t));

    if (plan->steps == NULL) {
        return -1;
    }

    for (i = 0; i < plan->nsteps; i++) {
        if (db_py_spec_step(reader, PyTuple_GET_ITEM(tuple, i),
                            &plan->steps[i]) == -1)
        {
            return -1;
        }
    }

    if (plan->script == NULL
        && (i == 0 || plan->steps[i - 1].result == DB_PY_NO_SLOT))
    {
        PyErr_SetString(PyExc_ValueError, "a plan without a script needs "
                        "steps, and the last of them a slot for its result");
        return -1;
    }

    return 0;
}


static int
db_py_spec_answer(db_py_reader_t *reader, PyObject *tuple)
{
    int               bodiless;
    long              status, form;
    db_py_answer_t   *answer;

    answer = &reader->plan->answer;

    if (db_py_spec_tuple(tuple, 12, "answer") == -1
        || db_py_spec_number(PyTuple_GET_ITEM(tuple, 0), 100, 999,
                             "the status of the answer", &status) == -1
        || db_py_spec_flag(PyTuple_GET_ITEM(tuple, 1), "bodiless", &bodiless)
           == -1
        || db_py_spec_bytes(PyTuple_GET_ITEM(tuple, 2), "content_type",
                            &answer->content_type) == -1
        || db_py_spec_pairs(PyTuple_GET_ITEM(tuple, 3), "headers") == -1
        || db_py_spec_number(PyTuple_GET_ITEM(tuple, 4), DB_PY_FORM_JSON,
                             DB_PY_FORM_FINISH, "the form of the answer",
                             &form) == -1
        || db_py_spec_optional(PyTuple_GET_ITEM(tuple, 5), "validate",
                               &answer->validate) == -1
        || db_py_spec_optional(PyTuple_GET_ITEM(tuple, 6), "dump",
                               &answer->dump) == -1
        || db_py_spec_texts(PyTuple_GET_ITEM(tuple, 7), -1, "dump_names")
           == -1
        || db_py_spec_tuple(PyTuple_GET_ITEM(tuple, 8),
                            PyTuple_GET_SIZE(PyTuple_GET_ITEM(tuple, 7)),
                            "dump_values") == -1
        || db_py_spec_call(PyTuple_GET_ITEM(tuple, 9), "finish",
                           &answer->finish) == -1
        || db_py_spec_call(PyTuple_GET_ITEM(tuple, 10), "refuse",
                           &answer->refuse) == -1
        || db_py_spec_optional(PyTuple_GET_ITEM(tuple, 11), "invalid",
                               &answer->invalid) == -1)
    {
        return -1;
    }

    if (form == DB_PY_FORM_DUMP && answer->dump == NULL) {
        PyErr_SetString(PyExc_ValueError, "an answer that is dumped needs "
                        "\"dump\"");
        return -1;
    }

    if ((answer->validate == NULL) != (answer->invalid == NULL)) {
        PyErr_SetString(PyExc_ValueError, "\"validate\" and \"invalid\" of an "
                        "answer go together");
        return -1;
    }

    answer->status = status;
    answer->bodiless = bodiless;
    answer->headers = PyTuple_GET_ITEM(tuple, 3);
    answer->form = form;
    answer->dump_names = PyTuple_GET_ITEM(tuple, 7);
    answer->dump_values = PyTuple_GET_ITEM(tuple, 8);

    return 0;
}


/* What a step takes has to be in its slot by then. */

static int
db_py_spec_filled(const db_py_plan_t *plan)
{
    char           filled[DB_PY_SLOTS_MAX + 1] = { 0 };
    unsigned       i, k;
    db_py_step_t  *step;

    /* that of NONE lies before the others */

#define db_py_fill(slot)  filled[(slot) + 1] = 1

    for (i = 0; i < plan->nfields; i++) {
        db_py_fill(plan->fields[i].slot);
    }

    for (i = 0; i < plan->nbody; i++) {
        db_py_fill(plan->body[i].slot);
    }

    db_py_fill(plan->request);
    db_py_fill(plan->response);
    db_py_fill(plan->background);

    for (i = 0; i < plan->nsteps; i++) {
        step = &plan->steps[i];

        for (k = 0; k < step->nargs; k++) {
            if (!filled[step->slots[k] + 1]) {
                PyErr_Format(PyExc_ValueError, "a step of a plan takes %R "
                             "from slot %zd, into which nothing is put "
                             "before", PyTuple_GET_ITEM(step->names, k),
                             step->slots[k]);
                return -1;
            }
        }

        db_py_fill(step->result);
    }

#undef db_py_fill

    return 0;
}


static int
db_py_spec_host(db_py_reader_t *reader, PyObject *spec)
{
    int         https;
    db_plan_t  *host;

    host = &reader->plan->host;

    if (db_py_spec_strings(reader, PyTuple_GET_ITEM(spec, 16),
                           "a header of required_headers", &host->nrequired,
                           &host->required) == -1
        || db_py_spec_strings(reader, PyTuple_GET_ITEM(spec, 17),
                              "a header of absent_headers", &host->nabsent,
                              &host->absent) == -1
        || db_py_spec_strings(reader, PyTuple_GET_ITEM(spec, 18),
                              "a host of hosts", &host->nhosts, &host->hosts)
           == -1
        || db_py_spec_flag(PyTuple_GET_ITEM(spec, 19), "https", &https) == -1)
    {
        return -1;
    }

    host->https = https;

    return 0;
}


/* In the order of the members of spec.Plan. */

static int
db_py_spec_plan(db_py_reader_t *reader, PyObject *spec)
{
    long           nslots;
    db_py_plan_t  *plan;

    plan = reader->plan;

    if (db_py_spec_tuple(spec, 20, "the whole") == -1
        || db_py_spec_number(PyTuple_GET_ITEM(spec, 0), 0, DB_PY_SLOTS_MAX,
                             "slots", &nslots) == -1)
    {
        return -1;
    }

    plan->nslots = nslots;

    if (db_py_spec_path(reader, PyTuple_GET_ITEM(spec, 1),
                        PyTuple_GET_ITEM(spec, 2)) == -1
        || db_py_spec_fields(reader, PyTuple_GET_ITEM(spec, 3)) == -1
        || db_py_spec_body(reader, PyTuple_GET_ITEM(spec, 4)) == -1
        || db_py_spec_slot(reader, PyTuple_GET_ITEM(spec, 5), DB_PY_NO_SLOT,
                           "request", &plan->request) == -1
        || db_py_spec_slot(reader, PyTuple_GET_ITEM(spec, 6), DB_PY_NO_SLOT,
                           "response", &plan->response) == -1
        || db_py_spec_slot(reader, PyTuple_GET_ITEM(spec, 7), DB_PY_NO_SLOT,
                           "background", &plan->background) == -1
        || db_py_spec_call(PyTuple_GET_ITEM(spec, 8), "make_request",
                           &plan->make_request) == -1
        || db_py_spec_call(PyTuple_GET_ITEM(spec, 9), "make_response",
                           &plan->make_response) == -1
        || db_py_spec_call(PyTuple_GET_ITEM(spec, 10), "make_background",
                           &plan->make_background) == -1
        || db_py_spec_optional(PyTuple_GET_ITEM(spec, 13), "script",
                               &plan->script) == -1
        || db_py_spec_steps(reader, PyTuple_GET_ITEM(spec, 11)) == -1
        || db_py_spec_answer(reader, PyTuple_GET_ITEM(spec, 12)) == -1)
    {
        return -1;
    }

    plan->host.body = plan->nbody || plan->request >= 0 || plan->script;
    plan->route = PyTuple_GET_ITEM(spec, 14);
    plan->endpoint = PyTuple_GET_ITEM(spec, 15);

    return db_py_spec_host(reader, spec) == -1 ? -1
                                               : db_py_spec_filled(plan);
}


static PyObject *
db_py_spec_required(void)
{
    PyObject  *module, *required;

    module = PyImport_ImportModule("databridge.plans.spec");

    if (module == NULL) {
        return NULL;
    }

    required = PyObject_GetAttrString(module, "REQUIRED");
    Py_DECREF(module);

    return required;
}


db_py_plan_t *
db_py_plan_create(PyObject *spec)
{
    int              rc;
    db_arena_t      *arena;
    db_py_reader_t   reader;

    if (db_py_json_init() == -1 || db_py_answer_init() == -1) {
        return NULL;
    }

    reader.required = db_py_spec_required();

    if (reader.required == NULL) {
        return NULL;
    }

    rc = -1;
    arena = db_arena_create(2048);
    reader.plan = arena ? db_arena_calloc(arena, sizeof(db_py_plan_t)) : NULL;

    if (reader.plan == NULL) {
        PyErr_NoMemory();

        if (arena) {
            db_arena_destroy(arena);
        }

    } else {
        reader.plan->arena = arena;
        reader.plan->spec = Py_NewRef(spec);

        rc = db_py_spec_plan(&reader, spec);
    }

    Py_DECREF(reader.required);

    if (rc == -1) {
        if (reader.plan) {
            db_py_plan_destroy(reader.plan);
        }

        return NULL;
    }

    return reader.plan;
}


void
db_py_plan_destroy(db_py_plan_t *plan)
{
    Py_DECREF(plan->spec);
    db_arena_destroy(plan->arena);
}
