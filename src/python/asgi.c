/*
 * The ASGI scope of a request, built from its job.  Loop thread, GIL held;
 * the request part of a job is constant by then.
 *
 * Most of a scope is the same for all requests of an application, so it is a
 * copy of a template dictionary with the rest set: a copied dictionary keeps
 * the template's table, and no key is hashed or inserted anew.
 */

#include "python/runtime.h"
#include "route/db_query.h"

#include <stdlib.h>


static const char  *db_py_method_names[DB_PY_METHODS] = {
    "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"
};


int
db_py_strings_init(void)
{
    unsigned  i;

#define _(name, text)                                                         \
    db_py.str.name = PyUnicode_InternFromString(text);                        \
    if (db_py.str.name == NULL) {                                             \
        return DB_ERROR;                                                      \
    }

    DB_PY_STRINGS(_)
#undef _

    for (i = 0; i < DB_PY_METHODS; i++) {
        db_py.methods[i] = PyUnicode_InternFromString(db_py_method_names[i]);
        if (db_py.methods[i] == NULL) {
            return DB_ERROR;
        }
    }

    return DB_OK;
}


/* Sets the member and drops the caller's reference to the value. */

static int
db_py_scope_set(PyObject *scope, PyObject *key, PyObject *value)
{
    int  rc;

    if (value == NULL) {
        return -1;
    }

    rc = PyDict_SetItem(scope, key, value);
    Py_DECREF(value);

    return rc;
}


static int
db_py_scope_extend(PyObject *extensions, PyObject *name)
{
    return db_py_scope_set(extensions, name, PyDict_New());
}


static int
db_py_scope_extensions(db_py_app_t *app)
{
    PyObject  *hinted;

    app->extensions = PyDict_New();

    if (app->extensions == NULL
        || db_py_scope_extend(app->extensions, db_py.str.response_trailers)
           == -1
        || (app->pathsend
            && db_py_scope_extend(app->extensions, db_py.str.response_pathsend)
               == -1))
    {
        return DB_ERROR;
    }

    hinted = PyDict_Copy(app->extensions);

    if (hinted == NULL
        || db_py_scope_extend(hinted, db_py.str.response_early_hint) == -1)
    {
        Py_XDECREF(hinted);
        return DB_ERROR;
    }

    app->hinted = hinted;

    return DB_OK;
}


int
db_py_scope_template(db_py_app_t *app)
{
    PyObject  *scope, *root_path;

    scope = PyDict_New();

    if (scope == NULL) {
        return DB_ERROR;
    }

    root_path = PyUnicode_DecodeUTF8(app->root_path.data, app->root_path.len,
                                     "replace");

    /* placeholders keep the order of the keys that uvicorn's scope has */

    if (db_py_scope_set(scope, db_py.str.root_path, root_path) == -1
        || PyDict_SetItem(scope, db_py.str.type, db_py.str.http) == -1
        || PyDict_SetItem(scope, db_py.str.asgi, Py_None) == -1
        || PyDict_SetItem(scope, db_py.str.http_version, db_py.str.v11) == -1
        || PyDict_SetItem(scope, db_py.str.server, Py_None) == -1
        || PyDict_SetItem(scope, db_py.str.client, Py_None) == -1
        || PyDict_SetItem(scope, db_py.str.scheme, db_py.str.http) == -1
        || PyDict_SetItem(scope, db_py.str.headers, Py_None) == -1
        || PyDict_SetItem(scope, db_py.str.state, Py_None) == -1
        || PyDict_SetItem(scope, db_py.str.method, Py_None) == -1
        || PyDict_SetItem(scope, db_py.str.path, Py_None) == -1
        || PyDict_SetItem(scope, db_py.str.raw_path, Py_None) == -1
        || PyDict_SetItem(scope, db_py.str.query_string, Py_None) == -1
        || PyDict_SetItem(scope, db_py.str.extensions, Py_None) == -1)
    {
        Py_DECREF(scope);
        return DB_ERROR;
    }

    app->scope = scope;

    return db_py_scope_extensions(app);
}


/* Applications may change it, so each request has its own. */

static PyObject *
db_py_scope_asgi(void)
{
    PyObject  *asgi;

    asgi = PyDict_New();

    if (asgi == NULL
        || PyDict_SetItem(asgi, db_py.str.version, db_py.str.version_3) == -1
        || PyDict_SetItem(asgi, db_py.str.spec_version, db_py.str.spec_25)
           == -1)
    {
        Py_XDECREF(asgi);
        return NULL;
    }

    return asgi;
}


static PyObject *
db_py_scope_method(db_str_t method)
{
    unsigned     i;
    const char  *name;

    for (i = 0; i < DB_PY_METHODS; i++) {
        name = db_py_method_names[i];

        if (method.len == strlen(name)
            && memcmp(method.data, name, method.len) == 0)
        {
            return Py_NewRef(db_py.methods[i]);
        }
    }

    return PyUnicode_DecodeLatin1(method.data, method.len, NULL);
}


static PyObject *
db_py_scope_version(unsigned version)
{
    switch (version) {

    case 10:
        return db_py.str.v10;

    case 20:
        return db_py.str.v20;

    default:
        return db_py.str.v11;
    }
}


/* Whether the path lies under the root already, as below a location. */

static int
db_py_scope_rooted(db_str_t root, const char *path, size_t len)
{
    return len >= root.len
           && (root.len == 0 || memcmp(path, root.data, root.len) == 0)
           && (len == root.len || root.len == 0 || path[root.len] == '/');
}


/*
 * "path", decoded once, with bad UTF-8 replaced, and "raw_path".  Both begin
 * with root_path, which is put there when the client did not send it.
 */

static int
db_py_scope_set_path(PyObject *scope, const db_py_app_t *app, db_str_t target)
{
    int        rc;
    char      *decoded, *start, small[512];
    size_t     len;
    db_str_t   root;
    PyObject  *raw;

    root = app->root_path;
    len = root.len + target.len;

    decoded = (len <= sizeof(small)) ? small : malloc(len);
    if (decoded == NULL) {
        PyErr_NoMemory();
        return -1;
    }

    start = decoded + root.len;
    len = db_percent_decode(start, target);

    if (!db_py_scope_rooted(root, start, len)) {
        memcpy(decoded, root.data, root.len);
        start = decoded;
        len += root.len;

    } else {
        root.len = 0;
    }

    rc = db_py_scope_set(scope, db_py.str.path,
                         PyUnicode_DecodeUTF8(start, len, "replace"));

    if (decoded != small) {
        free(decoded);
    }

    raw = PyBytes_FromStringAndSize(NULL, root.len + target.len);

    if (raw && root.len) {
        memcpy(PyBytes_AS_STRING(raw), root.data, root.len);
    }

    if (raw && target.len) {
        memcpy(PyBytes_AS_STRING(raw) + root.len, target.data, target.len);
    }

    return db_py_scope_set(scope, db_py.str.raw_path, raw) == -1 ? -1 : rc;
}


/* (host, port), or (path, None), or None for a nameless peer. */

static PyObject *
db_py_scope_address(db_str_t host, unsigned port, int is_unix)
{
    PyObject  *pair, *name, *number;

    if (host.len == 0) {
        return Py_NewRef(Py_None);
    }

    name = PyUnicode_DecodeUTF8(host.data, host.len, "surrogateescape");
    number = is_unix ? Py_NewRef(Py_None) : PyLong_FromUnsignedLong(port);

    pair = NULL;

    if (name && number) {
        pair = PyTuple_Pack(2, name, number);
    }

    Py_XDECREF(name);
    Py_XDECREF(number);

    return pair;
}


/* A worker has few addresses of its own: the last one is kept. */

static PyObject *
db_py_scope_server(const db_job_t *job)
{
    char      *copy;
    PyObject  *server;

    if (db_py.server && db_py.server_port == job->server_port
        && db_str_eq(db_py.server_name, job->server))
    {
        return Py_NewRef(db_py.server);
    }

    server = db_py_scope_address(job->server, job->server_port,
                                 job->server_port == 0);

    if (server == NULL) {
        return NULL;
    }

    copy = malloc(job->server.len + 1);
    if (copy == NULL) {
        return server;
    }

    if (job->server.len) {
        memcpy(copy, job->server.data, job->server.len);
    }

    free((char *) db_py.server_name.data);

    db_py.server_name.data = copy;
    db_py.server_name.len = job->server.len;
    db_py.server_port = job->server_port;
    Py_XSETREF(db_py.server, Py_NewRef(server));

    return server;
}


static PyObject *
db_py_scope_header(const db_header_t *header)
{
    PyObject  *pair, *name, *value;

    name = PyBytes_FromStringAndSize(header->name.data, header->name.len);
    value = PyBytes_FromStringAndSize(header->value.data, header->value.len);
    pair = PyTuple_New(2);

    if (name == NULL || value == NULL || pair == NULL) {
        Py_XDECREF(name);
        Py_XDECREF(value);
        Py_XDECREF(pair);
        return NULL;
    }

    PyTuple_SET_ITEM(pair, 0, name);
    PyTuple_SET_ITEM(pair, 1, value);

    return pair;
}


static PyObject *
db_py_scope_headers(const db_job_t *job)
{
    unsigned   i;
    PyObject  *list, *pair;

    list = PyList_New(job->nheaders);

    if (list == NULL) {
        return NULL;
    }

    for (i = 0; i < job->nheaders; i++) {
        pair = db_py_scope_header(&job->headers[i]);

        if (pair == NULL) {
            Py_DECREF(list);
            return NULL;
        }

        PyList_SET_ITEM(list, i, pair);
    }

    return list;
}


static PyObject *
db_py_scope_text(db_str_t text)
{
    return PyUnicode_DecodeUTF8(text.data, text.len, "surrogateescape");
}


/* Values of the variables that a native resource has its scope from. */

static PyObject *
db_py_scope_values(const db_job_t *job)
{
    unsigned   i;
    PyObject  *list, *value;

    list = PyList_New(job->nscope);

    for (i = 0; list && i < job->nscope; i++) {
        value = db_py_scope_text(job->scope[i].value);

        if (value == NULL) {
            Py_CLEAR(list);
            break;
        }

        PyList_SET_ITEM(list, i, value);
    }

    return list;
}


/* What nginx can do for this request, and what it knows of it. */

static PyObject *
db_py_scope_told(const db_py_app_t *app, const db_job_t *job)
{
    PyObject  *extensions, *ours;

    extensions = PyDict_Copy(job->hints ? app->hinted : app->extensions);

    if (extensions == NULL || (job->user.len == 0 && job->nscope == 0)) {
        return extensions;
    }

    ours = PyDict_New();

    if (ours == NULL
        || (job->user.len
            && db_py_scope_set(ours, db_py.str.remote_user,
                               db_py_scope_text(job->user)) == -1)
        || (job->nscope
            && db_py_scope_set(ours, db_py.str.scope, db_py_scope_values(job))
               == -1)
        || PyDict_SetItem(extensions, db_py.str.databridge, ours) == -1)
    {
        Py_CLEAR(extensions);
    }

    Py_XDECREF(ours);

    return extensions;
}


PyObject *
db_py_scope(const db_py_app_t *app, const db_job_t *job)
{
    PyObject  *scope;

    scope = PyDict_Copy(app->scope);

    if (scope == NULL) {
        return NULL;
    }

    if (db_py_scope_set(scope, db_py.str.asgi, db_py_scope_asgi()) == -1
        || PyDict_SetItem(scope, db_py.str.http_version,
                          db_py_scope_version(job->http_version)) == -1
        || db_py_scope_set(scope, db_py.str.server, db_py_scope_server(job))
           == -1
        || db_py_scope_set(scope, db_py.str.client,
                           db_py_scope_address(job->client, job->client_port,
                                               0)) == -1
        || db_py_scope_set(scope, db_py.str.headers, db_py_scope_headers(job))
           == -1
        || db_py_scope_set(scope, db_py.str.state, PyDict_Copy(app->state))
           == -1
        || db_py_scope_set(scope, db_py.str.method,
                           db_py_scope_method(job->method)) == -1
        || db_py_scope_set_path(scope, app, job->target) == -1
        || db_py_scope_set(scope, db_py.str.query_string,
                           PyBytes_FromStringAndSize(job->query.data,
                                                     job->query.len)) == -1
        || db_py_scope_set(scope, db_py.str.extensions,
                           db_py_scope_told(app, job)) == -1
        || (job->tls && PyDict_SetItem(scope, db_py.str.scheme,
                                       db_py.str.https) == -1))
    {
        Py_DECREF(scope);
        return NULL;
    }

    return scope;
}
