/*
 * What applications declare at their start: routes, native resources, or
 * that they have failed.  Loop thread, GIL held, until the tables are
 * published.
 */

#include "python/plan.h"

#include <stdlib.h>


#define DB_PY_ERROR_LEN  512


/* The application's table, or NULL with an exception set. */

static db_table_t *
db_py_table(unsigned index)
{
    if (db_py.ready == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the applications have started: it is too late to "
                        "declare routes");
        return NULL;
    }

    if (index >= db_py.ready->ntables) {
        PyErr_Format(PyExc_IndexError, "there is no application %u", index);
        return NULL;
    }

    return db_py.ready->tables[index];
}


int
db_py_app_start(unsigned index, PyObject *call, PyObject *state, int wsgi,
    int pathsend)
{
    db_table_t   *table;
    db_py_app_t  *app;

    table = db_py_table(index);

    if (table == NULL) {
        return -1;
    }

    app = &db_py.apps[index];
    app->root_path = db_py.conf->apps[index].root_path;
    app->pathsend = pathsend;

    if (app->scope == NULL && db_py_scope_template(app) != DB_OK) {
        return -1;
    }

    table->wsgi = wsgi;

    Py_XSETREF(app->state, Py_NewRef(state));
    Py_XSETREF(app->call, Py_NewRef(call));

    return 0;
}


int
db_py_gate_set(unsigned index, PyObject *gate)
{
    if (index >= db_py.conf->napps) {
        PyErr_Format(PyExc_IndexError, "there is no application %u", index);
        return -1;
    }

    if (!PyCallable_Check(gate)) {
        PyErr_Format(PyExc_TypeError, "a gate has to be callable, not %R",
                     gate);
        return -1;
    }

    Py_XSETREF(db_py.apps[index].gate, Py_NewRef(gate));

    return 0;
}


int
db_py_app_fail(unsigned index, const char *error)
{
    db_table_t  *table;

    table = db_py_table(index);

    if (table == NULL) {
        return -1;
    }

    if (db_table_fail(table, error) != DB_OK) {
        PyErr_NoMemory();
        return -1;
    }

    Py_CLEAR(db_py.apps[index].call);

    return 0;
}


static db_str_t
db_py_str(PyObject *object)
{
    db_str_t     str;
    Py_ssize_t   len;

    if (object == Py_None) {
        return db_null_string;
    }

    str.data = PyUnicode_AsUTF8AndSize(object, &len);
    str.len = str.data ? (size_t) len : 0;

    return str;
}


/* Adds what is in the next free slot of the table under the pattern. */

static int
db_py_table_add(db_table_t *table, db_str_t methods, db_str_t pattern)
{
    char  error[DB_PY_ERROR_LEN], *copy;

    copy = NULL;

    if (pattern.data) {
        copy = strndup(pattern.data, pattern.len);

        if (copy == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }

    if (db_router_add(table->router, methods, pattern, table->nroutes, error,
                      sizeof(error))
        != DB_OK)
    {
        PyErr_SetString(PyExc_ValueError, error);
        free(copy);
        return -1;
    }

    table->routes[table->nroutes++].pattern = copy;

    return 0;
}


/* The plan is nginx's to know from here on: it stays. */

static int
db_py_planned_add(db_table_t *table, db_str_t methods, db_str_t pattern,
    PyObject *spec)
{
    db_py_plan_t  *plan;

    plan = db_py_plan_create(spec);

    if (plan == NULL) {
        return -1;
    }

    if (db_py_table_add(table, methods, pattern) == -1) {
        db_py_plan_destroy(plan);
        return -1;
    }

    table->routes[table->nroutes - 1].plan = &plan->host;

    plan->next = db_py.plans;
    db_py.plans = plan;

    return 0;
}


int
db_py_route_add(unsigned index, PyObject *methods, PyObject *pattern,
    PyObject *timeout, PyObject *plan)
{
    db_str_t       names, path;
    db_table_t    *table;
    db_route_t    *route;
    unsigned long  ms;

    table = db_py_table(index);

    if (table == NULL) {
        return -1;
    }

    names = db_py_str(methods);
    path = db_py_str(pattern);
    ms = (timeout == Py_None) ? DB_TIMEOUT_DEFAULT
                              : PyLong_AsUnsignedLong(timeout);

    if (PyErr_Occurred()) {
        return -1;
    }

    if (timeout != Py_None && ms >= DB_TIMEOUT_DEFAULT) {
        PyErr_Format(PyExc_ValueError, "a timeout of %lu ms is too long", ms);
        return -1;
    }

    route = db_table_route(table);

    if (route == NULL) {
        PyErr_NoMemory();
        return -1;
    }

    route->timeout = ms;

    return plan == Py_None ? db_py_table_add(table, names, path)
                           : db_py_planned_add(table, names, path, plan);
}


static void
db_py_raise(PyObject *type, PyObject *text)
{
    if (text) {
        PyErr_SetObject(type, text);
        Py_DECREF(text);
    }
}


static PyObject *
db_py_store_names(void)
{
    unsigned                 i;
    PyObject                *list, *name, *comma, *names;
    const db_store_entry_t  *stores;

    stores = db_py.conf->stores;
    list = PyList_New(0);
    comma = PyUnicode_FromString(", ");
    names = NULL;

    if (list == NULL || comma == NULL) {
        goto done;
    }

    for (i = 0; i < db_py.conf->nstores; i++) {
        name = db_py_format("%.*s", (int) stores[i].name.len,
                            stores[i].name.data);

        if (name == NULL || PyList_Append(list, name) == -1) {
            Py_XDECREF(name);
            goto done;
        }

        Py_DECREF(name);
    }

    names = PyUnicode_Join(comma, list);

done:

    Py_XDECREF(list);
    Py_XDECREF(comma);

    return names;
}


static db_store_t *
db_py_store(db_str_t name)
{
    char               error[DB_PY_ERROR_LEN];
    unsigned           i;
    PyObject          *known, *wanted;
    db_store_entry_t  *entry;

    for (i = 0; i < db_py.conf->nstores; i++) {
        entry = &db_py.conf->stores[i];

        if (!db_str_eq(entry->name, name)) {
            continue;
        }

        if (entry->store == NULL) {
            entry->store = db_store_open(entry->uri, db_py.conf->store_log,
                                         db_py.conf->log_ctx, error,
                                         sizeof(error));
        }

        if (entry->store == NULL) {
            PyErr_SetString(PyExc_RuntimeError, error);
        }

        return entry->store;
    }

    wanted = db_py_format("%.*s", (int) name.len, name.data);
    known = db_py_store_names();

    if (wanted && known) {
        PyErr_Format(PyExc_ValueError,
                     "there is no store \"%U\" (known: %U): declare it with "
                     "databridge_store", wanted,
                     PyUnicode_GET_LENGTH(known) ? known : db_py.str.none);
    }

    Py_XDECREF(wanted);
    Py_XDECREF(known);

    return NULL;
}


/* What of a resource is Python's comes before it. */

static int
db_py_hybrid_routes(db_table_t *table, db_crud_t *crud)
{
    int          rc;
    unsigned     i;
    db_str_t     prefix;
    PyObject    *pattern;
    db_route_t  *route;

    static const struct {
        db_str_t     method;
        const char  *item;
    } methods[DB_CRUD_OPERATIONS] = {
        [DB_CRUD_CREATE] = { { "POST", 4 }, "" },
        [DB_CRUD_UPDATE] = { { "PUT", 3 }, "/{id}" },
        [DB_CRUD_PATCH] = { { "PATCH", 5 }, "/{id}" },
        [DB_CRUD_DELETE] = { { "DELETE", 6 }, "/{id}" },
    };

    prefix = db_crud_prefix(crud);

    for (i = 0; i < DB_CRUD_OPERATIONS; i++) {

        if (!(db_crud_hybrid(crud) & 1U << i)) {
            continue;
        }

        route = db_table_route(table);

        if (route == NULL) {
            PyErr_NoMemory();
            return -1;
        }

        pattern = db_py_format("%.*s%s", (int) prefix.len, prefix.data,
                               methods[i].item);

        if (pattern == NULL) {
            return -1;
        }

        route->hybrid = crud;
        rc = db_py_table_add(table, methods[i].method, db_py_str(pattern));

        Py_DECREF(pattern);

        if (rc == -1) {
            return -1;
        }
    }

    return 0;
}


/* The collection and its items; the route owns the resource from here on. */

static int
db_py_crud_routes(db_table_t *table, db_crud_t *crud, db_store_t *store)
{
    int          rc;
    db_str_t     prefix, item;
    PyObject    *pattern;
    db_route_t  *route;

    prefix = db_crud_prefix(crud);
    route = db_table_route(table);

    if (route == NULL) {
        PyErr_NoMemory();
        return -1;
    }

    route->crud = crud;
    route->store = store;

    if (db_py_table_add(table, db_null_string, prefix) == -1) {
        return -1;
    }

    route = db_table_route(table);
    pattern = db_py_format("%.*s/{id}", (int) prefix.len, prefix.data);

    if (route == NULL || pattern == NULL) {
        Py_XDECREF(pattern);
        PyErr_NoMemory();
        return -1;
    }

    route->crud = crud;
    route->store = store;

    item = db_py_str(pattern);
    rc = db_py_table_add(table, db_null_string, item);

    Py_DECREF(pattern);

    return rc;
}


/* Returns the resource as the application may call it. */

PyObject *
db_py_crud_add(unsigned index, const char *schema, size_t len)
{
    char         error[DB_PY_ERROR_LEN];
    unsigned     before;
    db_str_t     text;
    db_crud_t   *crud;
    db_table_t  *table;
    db_store_t  *store;

    table = db_py_table(index);

    if (table == NULL) {
        return NULL;
    }

    text.data = schema;
    text.len = len;

    crud = db_crud_compile(text, error, sizeof(error));

    if (crud == NULL) {
        PyErr_SetString(PyExc_ValueError, error);
        return NULL;
    }

    store = db_py_store(db_crud_store(crud));

    if (store == NULL) {
        db_crud_destroy(crud);
        return NULL;
    }

    if (db_store_prepare(store, db_crud_collection(crud), error,
                         sizeof(error))
        != DB_OK)
    {
        db_py_raise(PyExc_RuntimeError,
                    db_py_format("the collection of %.*s: %s",
                                 (int) db_crud_name(crud).len,
                                 db_crud_name(crud).data, error));
        db_crud_destroy(crud);
        return NULL;
    }

    if (db_py_hybrid_routes(table, crud) == -1) {
        db_crud_destroy(crud);
        return NULL;
    }

    before = table->nroutes;

    if (db_py_crud_routes(table, crud, store) == -1) {
        if (table->nroutes == before) {
            db_crud_destroy(crud);
        }

        return NULL;
    }

    return db_py_resource(crud, store);
}


/* A route that nginx answers by itself, always with the same. */

int
db_py_native_add(unsigned index, PyObject *methods, PyObject *pattern,
    unsigned status, PyObject *headers, PyObject *body)
{
    int               rc;
    char             *strings;
    db_str_t          names, path;
    db_part_t        *answer;
    db_table_t       *table;
    db_route_t       *route;
    db_py_headers_t   checked;

    table = db_py_table(index);

    if (table == NULL) {
        return -1;
    }

    names = db_py_str(methods);
    path = db_py_str(pattern);

    if (PyErr_Occurred() || db_py_headers_init(&checked, headers) == -1) {
        return -1;
    }

    rc = -1;
    answer = db_part_create(NULL, PyTuple_GET_SIZE(checked.pairs),
                            checked.size + PyBytes_GET_SIZE(body), &strings);
    route = db_table_route(table);

    if (answer == NULL || route == NULL) {
        PyErr_NoMemory();
        goto done;
    }

    db_py_headers_copy(&checked, answer, strings);

    strings += checked.size;
    memcpy(strings, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body));

    answer->status = status;
    answer->body.data = strings;
    answer->body.len = PyBytes_GET_SIZE(body);

    rc = db_py_table_add(table, names, path);

    if (rc == 0) {
        route->answer = answer;
        answer = NULL;
    }

done:

    if (answer) {
        db_part_destroy(answer);
    }

    Py_DECREF(checked.pairs);

    return rc;
}


int
db_py_cors_set(unsigned index, const db_cors_conf_t *conf)
{
    db_table_t  *table;

    table = db_py_table(index);

    if (table == NULL) {
        return -1;
    }

    if (table->cors) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the application has a CORS policy already");
        return -1;
    }

    table->cors = db_cors_create(conf);

    if (table->cors == NULL) {
        PyErr_NoMemory();
        return -1;
    }

    return 0;
}
