/*
 * _databridge.Fetcher: the values of a plan that runs below the application's
 * own middleware, fetched from the scope that has come through it.  Loop
 * thread, GIL held.
 */

#include "python/plan.h"
#include "python/plan_values.h"


typedef struct {
    PyObject_HEAD
    db_py_plan_t  *plan;               /* of db_py.plans: it stays */
} db_py_fetcher_t;


static PyObject *
db_py_fetcher_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject         *spec;
    db_py_fetcher_t  *fetcher;
    static char      *names[] = { "plan", NULL };

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Fetcher", names,
                                     &spec))
    {
        return NULL;
    }

    fetcher = (db_py_fetcher_t *) type->tp_alloc(type, 0);

    if (fetcher == NULL) {
        return NULL;
    }

    fetcher->plan = db_py_plan_create(spec);

    if (fetcher->plan == NULL) {
        Py_DECREF(fetcher);
        return NULL;
    }

    fetcher->plan->next = db_py.plans;
    db_py.plans = fetcher->plan;

    return (PyObject *) fetcher;
}


static void
db_py_fetcher_dealloc(PyObject *self)
{
    PyTypeObject  *type;

    type = Py_TYPE(self);

    type->tp_free(self);
    Py_DECREF(type);
}


static db_str_t
db_py_fetcher_bytes(PyObject *bytes)
{
    db_str_t  text;

    text.data = PyBytes_AS_STRING(bytes);
    text.len = PyBytes_GET_SIZE(bytes);

    return text;
}


/* Of pairs that cannot change: an array, or NULL for others. */

static db_header_t *
db_py_fetcher_pairs(PyObject *tuple)
{
    PyObject     *pair, *name, *value;
    Py_ssize_t    i;
    db_header_t  *headers;

    headers = PyMem_New(db_header_t, PyTuple_GET_SIZE(tuple));

    for (i = 0; headers && i < PyTuple_GET_SIZE(tuple); i++) {
        pair = PyTuple_GET_ITEM(tuple, i);

        if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2) {
            break;
        }

        name = PyTuple_GET_ITEM(pair, 0);
        value = PyTuple_GET_ITEM(pair, 1);

        if (!PyBytes_CheckExact(name) || !PyBytes_CheckExact(value)) {
            break;
        }

        headers[i].name = db_py_fetcher_bytes(name);
        headers[i].value = db_py_fetcher_bytes(value);
    }

    if (i < PyTuple_GET_SIZE(tuple)) {
        PyMem_Free(headers);
        return NULL;
    }

    return headers;
}


/* Whether the request has none of the headers that are not the plan's. */

static int
db_py_fetcher_absent(const db_py_input_t *input)
{
    unsigned          i;
    db_str_t          value;
    const db_plan_t  *host;

    host = &input->plan->host;

    for (i = 0; i < host->nabsent; i++) {
        if (db_py_header_value(input, host->absent[i], &value)) {
            return 0;
        }
    }

    return 1;
}


/* A tuple of the slots; NULL: the request is the application's. */

static PyObject *
db_py_fetcher_values(db_py_input_t *input)
{
    PyObject    *values, *slots[DB_PY_SLOTS_MAX];
    Py_ssize_t   i, n;

    n = input->plan->nslots;
    memset(slots, 0, n * sizeof(PyObject *));
    input->slots = slots;

    values = NULL;

    if (db_py_fetcher_absent(input) && db_py_plan_fetch_input(input)) {
        values = PyTuple_New(n);
    }

    for (i = 0; i < n; i++) {
        if (values) {
            PyTuple_SET_ITEM(values, i, slots[i] ? slots[i]
                                                 : Py_NewRef(Py_None));

        } else {
            Py_XDECREF(slots[i]);
        }
    }

    return values;
}


/* What is fetched from lives as long as this: any function may change it. */

static PyObject *
db_py_fetcher_fetch_scope(db_py_input_t *input, PyObject *scope)
{
    PyObject     *values, *list, *query, *pairs;
    db_header_t  *headers;

    values = NULL;
    pairs = NULL;
    headers = NULL;

    list = Py_XNewRef(PyDict_GetItemWithError(scope, db_py.str.headers));
    query = Py_XNewRef(PyDict_GetItemWithError(scope, db_py.str.query_string));
    input->path_params = Py_XNewRef(PyDict_GetItemWithError(scope,
                                                   db_py.str.path_params));

    /* headers that can be read but once are the application's */

    if (list == NULL || query == NULL || input->path_params == NULL
        || !(PyList_CheckExact(list) || PyTuple_CheckExact(list))
        || !PyBytes_CheckExact(query)
        || !PyDict_CheckExact(input->path_params))
    {
        goto done;
    }

    pairs = PySequence_Tuple(list);
    headers = pairs ? db_py_fetcher_pairs(pairs) : NULL;

    if (headers) {
        input->query = db_py_fetcher_bytes(query);
        input->nheaders = PyTuple_GET_SIZE(pairs);
        input->headers = headers;

        values = db_py_fetcher_values(input);
    }

done:

    PyMem_Free(headers);
    Py_XDECREF(pairs);
    Py_XDECREF(input->path_params);
    Py_XDECREF(query);
    Py_XDECREF(list);

    return values;
}


static PyObject *
db_py_fetcher_fetch(PyObject *self, PyObject *args)
{
    PyObject       *scope, *body, *values;
    db_py_input_t   input;

    input.run = NULL;
    input.plan = ((db_py_fetcher_t *) self)->plan;

    if (!PyArg_ParseTuple(args, "O!OS:fetch", &PyDict_Type, &scope,
                          &input.request, &body))
    {
        return NULL;
    }

    input.body = db_py_fetcher_bytes(body);
    values = db_py_fetcher_fetch_scope(&input, scope);

    if (values == NULL) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }

    return values;
}


static PyMethodDef  db_py_fetcher_methods[] = {
    { "fetch", db_py_fetcher_fetch, METH_VARARGS,
      "fetch(scope, request, body): the slots; None: only FastAPI can." },
    { NULL, NULL, 0, NULL }
};

static PyType_Slot  db_py_fetcher_slots[] = {
    { Py_tp_new, db_py_fetcher_new },
    { Py_tp_dealloc, db_py_fetcher_dealloc },
    { Py_tp_methods, db_py_fetcher_methods },
    { 0, NULL }
};

PyType_Spec  db_py_fetcher_spec = {
    .name = "_databridge.Fetcher",
    .basicsize = sizeof(db_py_fetcher_t),
    .flags = Py_TPFLAGS_DEFAULT|Py_TPFLAGS_IMMUTABLETYPE,
    .slots = db_py_fetcher_slots
};
