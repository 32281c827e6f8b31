/*
 * A native resource as the application calls it: what it has validated is
 * written, and what is stored is read, by the nginx thread.  A call returns a
 * future, whose result is (status, headers, body).  Loop thread, GIL held.
 */

#include "python/runtime.h"


/* The resource and its store live as long as the process serves. */

typedef struct {
    PyObject_HEAD
    const db_crud_t  *crud;
    db_store_t       *store;
} db_py_resource_t;


static PyObject *db_py_resource_call(PyObject *self, PyObject *args,
    PyObject *kwargs);
static void db_py_resource_dealloc(PyObject *self);


static PyMethodDef  db_py_resource_methods[] = {
    { "call", (PyCFunction) (void (*)(void)) db_py_resource_call,
      METH_VARARGS|METH_KEYWORDS,
      "call(operation, *, prefix=\"\", id=\"\", query=\"\", documents=None, "
      "many=False, current=None, if_match=None, if_none_match=None, "
      "scope=[]): a future of (status, headers, body)." },
    { NULL, NULL, 0, NULL }
};

static PyType_Slot  db_py_resource_slots[] = {
    { Py_tp_dealloc, db_py_resource_dealloc },
    { Py_tp_methods, db_py_resource_methods },
    { 0, NULL }
};

PyType_Spec  db_py_resource_spec = {
    .name = "_databridge.Resource",
    .basicsize = sizeof(db_py_resource_t),
    .flags = Py_TPFLAGS_DEFAULT|Py_TPFLAGS_DISALLOW_INSTANTIATION
             |Py_TPFLAGS_IMMUTABLETYPE,
    .slots = db_py_resource_slots
};


PyObject *
db_py_resource(const db_crud_t *crud, db_store_t *store)
{
    db_py_resource_t  *resource;

    resource = PyObject_New(db_py_resource_t, db_py.resource_type);

    if (resource) {
        resource->crud = crud;
        resource->store = store;
    }

    return (PyObject *) resource;
}


static void
db_py_resource_dealloc(PyObject *self)
{
    PyTypeObject  *type;

    type = Py_TYPE(self);

    PyObject_Free(self);
    Py_DECREF(type);
}


/* The first argument; DB_CRUD_OPERATIONS, with an exception, when none. */

static db_crud_operation_t
db_py_resource_operation(PyObject *args)
{
    PyObject             *name;
    Py_ssize_t            len;
    const char           *text;
    db_crud_operation_t   operation;

    name = PyTuple_GET_SIZE(args) ? PyTuple_GET_ITEM(args, 0) : Py_None;
    text = PyUnicode_Check(name) ? PyUnicode_AsUTF8AndSize(name, &len) : NULL;

    if (text) {
        operation = db_crud_operation((db_str_t) { text, (size_t) len });

        if (operation != DB_CRUD_OPERATIONS) {
            return operation;
        }
    }

    if (!PyErr_Occurred()) {
        PyErr_Format(PyExc_ValueError, "there is no operation %R", name);
    }

    return DB_CRUD_OPERATIONS;
}


static int
db_py_resource_copy(db_crud_call_t *call, db_str_t *dst, const char *data,
    Py_ssize_t len)
{
    *dst = db_arena_str(call->arena, (db_str_t) { data, len });

    if (dst->data == NULL) {
        PyErr_NoMemory();
        return -1;
    }

    return 0;
}


/* Pairs of an id, "" for a model without one, and JSON text. */

static int
db_py_resource_documents(db_crud_call_t *call, PyObject *list)
{
    PyObject            *pair;
    Py_ssize_t           i, id_len, text_len;
    const char          *id, *text;
    db_crud_document_t  *document;

    call->ndocuments = PyList_GET_SIZE(list);
    call->documents = db_arena_calloc(call->arena,
                                      (call->ndocuments + 1)
                                      * sizeof(db_crud_document_t));
    if (call->documents == NULL) {
        PyErr_NoMemory();
        return -1;
    }

    for (i = 0; i < PyList_GET_SIZE(list); i++) {
        pair = PyList_GET_ITEM(list, i);
        document = &call->documents[i];

        if (!PyTuple_Check(pair)) {
            PyErr_SetString(PyExc_TypeError, "a document is an id and text");
            return -1;
        }

        if (!PyArg_ParseTuple(pair, "s#y#", &id, &id_len, &text, &text_len)
            || db_py_resource_copy(call, &document->id, id, id_len) == -1
            || db_py_resource_copy(call, &document->text, text, text_len)
               == -1)
        {
            return -1;
        }
    }

    return 0;
}


/* The values of the variables, as many as the resource names. */

static int
db_py_resource_scope(db_crud_call_t *call, PyObject *list)
{
    db_str_t     *scope;
    unsigned      i, n;
    Py_ssize_t    len;
    const char   *data;

    (void) db_crud_variables(call->crud, &n);

    if ((list ? PyList_GET_SIZE(list) : 0) != (Py_ssize_t) n) {
        PyErr_Format(PyExc_ValueError, "the scope has %u values", n);
        return -1;
    }

    scope = db_arena_calloc(call->arena, (n + 1) * sizeof(db_str_t));

    if (scope == NULL) {
        PyErr_NoMemory();
        return -1;
    }

    call->scope = scope;

    for (i = 0; i < n; i++) {
        data = PyUnicode_AsUTF8AndSize(PyList_GET_ITEM(list, i), &len);

        if (data == NULL
            || db_py_resource_copy(call, &scope[i], data, len) == -1)
        {
            return -1;
        }
    }

    return 0;
}


/* What is asked, copied into the call: 0, or -1 with an exception. */

static int
db_py_resource_ask(db_crud_call_t *call, PyObject *args, PyObject *kwargs)
{
    int          many;
    PyObject    *documents, *scope;
    Py_ssize_t   prefix_len, id_len, query_len, current_len, match_len;
    Py_ssize_t   none_len;
    const char  *name, *prefix, *id, *query, *current, *match, *none;

    static char  *names[] = {
        "operation", "prefix", "id", "query", "documents", "many", "current",
        "if_match", "if_none_match", "scope", NULL
    };

    many = 0;
    documents = scope = NULL;
    current = match = none = NULL;
    prefix = id = query = "";
    prefix_len = id_len = query_len = match_len = none_len = 0;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|$s#s#s#O!pz#z#z#O!:call",
                                     names, &name, &prefix, &prefix_len, &id,
                                     &id_len, &query, &query_len,
                                     &PyList_Type, &documents, &many, &current,
                                     &current_len, &match, &match_len,
                                     &none, &none_len, &PyList_Type, &scope))
    {
        return -1;
    }

    call->validated = 1;
    call->many = many;

    if ((documents && db_py_resource_documents(call, documents) == -1)
        || db_py_resource_scope(call, scope) == -1
        || (current && db_py_resource_copy(call, &call->current, current,
                                           current_len) == -1)
        || (match && db_py_resource_copy(call, &call->if_match, match,
                                         match_len) == -1)
        || (none && db_py_resource_copy(call, &call->if_none_match, none,
                                        none_len) == -1))
    {
        return -1;
    }

    return db_py_resource_copy(call, &call->prefix, prefix, prefix_len) == -1
           || db_py_resource_copy(call, &call->id, id, id_len) == -1
           || db_py_resource_copy(call, &call->query, query, query_len) == -1
           ? -1 : 0;
}


static PyObject *
db_py_resource_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject             *future;
    db_crud_call_t       *call;
    db_py_resource_t     *resource;
    db_python_call_t     *asked;
    db_crud_operation_t   operation;

    resource = (db_py_resource_t *) self;
    operation = db_py_resource_operation(args);

    if (operation == DB_CRUD_OPERATIONS) {
        return NULL;
    }

    call = db_crud_call_create(resource->crud, operation);

    if (call == NULL) {
        return PyErr_NoMemory();
    }

    if (db_py_resource_ask(call, args, kwargs) == -1) {
        goto failed;
    }

    asked = db_arena_calloc(call->arena, sizeof(db_python_call_t));

    if (asked == NULL) {
        PyErr_NoMemory();
        goto failed;
    }

    future = PyObject_CallNoArgs(db_py.create_future);

    if (future == NULL) {
        goto failed;
    }

    asked->msg.kind = DB_MSG_CRUD;
    asked->call = call;
    asked->store = resource->store;
    asked->future = Py_NewRef(future);

    db_py_append(&asked->msg);

    return future;

failed:

    db_crud_call_destroy(call);

    return NULL;
}


static int
db_py_resource_header(PyObject *headers, const char *name, db_str_t value)
{
    int        rc;
    PyObject  *pair;

    if (value.len == 0) {
        return 0;
    }

    pair = Py_BuildValue("(yy#)", name, value.data, (Py_ssize_t) value.len);

    if (pair == NULL) {
        return -1;
    }

    rc = PyList_Append(headers, pair);
    Py_DECREF(pair);

    return rc;
}


/* That "current" is no more is told from other answers by the status 0. */

static PyObject *
db_py_resource_result(const db_crud_call_t *call)
{
    PyObject  *headers;

    headers = PyList_New(0);

    if (headers == NULL) {
        return NULL;
    }

    if (db_py_resource_header(headers, "location", call->location) == -1
        || db_py_resource_header(headers, "etag", call->etag) == -1)
    {
        Py_DECREF(headers);
        return NULL;
    }

    return Py_BuildValue("(INy#)", call->raced ? 0 : call->status, headers,
                         call->answer.data ? call->answer.data : "",
                         (Py_ssize_t) call->answer.len);
}


static PyObject *
db_py_resource_complete(PyObject *future, const db_crud_call_t *call)
{
    PyObject  *value, *result;

    value = db_py_resource_result(call);

    if (value) {
        result = PyObject_CallMethodOneArg(future, db_py.str.set_result,
                                           value);

    } else {
        value = db_py_exception();
        result = PyObject_CallMethod(future, "set_exception", "O", value);
    }

    Py_XDECREF(value);

    return result;
}


/* The future may have been cancelled with the task that waited. */

void
db_py_resource_answer(db_python_call_t *asked)
{
    PyObject  *future, *done;

    future = asked->future;
    done = PyObject_CallMethodNoArgs(future, db_py.str.done);

    if (done == Py_False) {
        Py_SETREF(done, db_py_resource_complete(future, asked->call));
    }

    if (done == NULL) {
        db_py_log_exception("the answer of a store was lost");
    }

    Py_XDECREF(done);
    Py_DECREF(future);

    db_crud_call_destroy(asked->call);
}
