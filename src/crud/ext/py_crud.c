/*
 * databridge._crud: the native validation without nginx, for tests and for
 * "databridge check".  A Resource is a compiled schema; a call of it goes as
 * far as the store, which is the caller's business.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "crud/db_crud.h"


typedef struct {
    PyTypeObject  *resource_type;
} crud_state_t;


typedef struct {
    PyObject_HEAD
    db_crud_t     *crud;
} crud_resource_t;


static PyObject *
crud_text(db_str_t text)
{
    return PyUnicode_DecodeUTF8(text.data, (Py_ssize_t) text.len, "strict");
}


static PyObject *
crud_id(const db_store_op_t *op)
{
    if (op->kind == DB_STORE_LIST) {
        Py_RETURN_NONE;
    }

    return op->id.kind == DB_VALUE_INT ? PyLong_FromLongLong(op->id.integer)
                                       : crud_text(op->id.text);
}


static PyObject *
crud_value(const db_value_t *value)
{
    switch (value->kind) {

    case DB_VALUE_BOOL:
        return PyBool_FromLong((long) value->integer);

    case DB_VALUE_INT:
        return PyLong_FromLongLong(value->integer);

    case DB_VALUE_REAL:
        return PyFloat_FromDouble(value->real);

    case DB_VALUE_TEXT:
    case DB_VALUE_TIME:
        return crud_text(value->text);

    default:
        Py_RETURN_NONE;
    }
}


/* ("author.name", value): a condition by name, which has one value. */

static PyObject *
crud_condition(const db_condition_t *condition)
{
    unsigned   i;
    PyObject  *value;
    char       path[256];
    size_t     len;
    db_str_t   step;

    len = 0;

    for (i = 0; i < condition->path.nsteps; i++) {
        step = condition->path.steps[i];

        if (len + step.len + 1 > sizeof(path)) {
            break;
        }

        if (i) {
            path[len++] = '.';
        }

        memcpy(path + len, step.data, step.len);
        len += step.len;
    }

    value = condition->nvalues ? crud_value(condition->values)
                               : Py_NewRef(Py_None);
    if (value == NULL) {
        return NULL;
    }

    return Py_BuildValue("(s#N)", path, (Py_ssize_t) len, value);
}


/* {"limit": 20, "skip": 0, "count": False, "where": [(path, value)]} */

static PyObject *
crud_selection(const db_store_op_t *op)
{
    int                    rc;
    PyObject              *where, *item;
    const db_condition_t  *condition;

    where = PyList_New(0);
    if (where == NULL) {
        return NULL;
    }

    for (condition = op->conditions; condition; condition = condition->next) {
        item = crud_condition(condition);
        rc = item ? PyList_Append(where, item) : -1;
        Py_XDECREF(item);

        if (rc != 0) {
            Py_DECREF(where);
            return NULL;
        }
    }

    return Py_BuildValue("{s:K,s:K,s:O,s:N}",
                         "limit", (unsigned long long) op->limit,
                         "skip", (unsigned long long) op->skip,
                         "count", op->count ? Py_True : Py_False,
                         "where", where);
}


static PyObject *
crud_documents(const db_store_op_t *op)
{
    unsigned   i;
    PyObject  *list, *document;

    list = PyList_New(op->nitems);
    if (list == NULL) {
        return NULL;
    }

    for (i = 0; i < op->nitems; i++) {
        document = PyBytes_FromStringAndSize(op->items[i].document.data,
                                   (Py_ssize_t) op->items[i].document.len);
        if (document == NULL) {
            Py_DECREF(list);
            return NULL;
        }

        PyList_SET_ITEM(list, i, document);
    }

    return list;
}


/* What the store does with a document that is there. */

static int
crud_modify(db_crud_call_t *call, db_str_t current)
{
    int  rc;

    rc = call->op.modify(&call->op, current);

    return rc == DB_DECLINED ? DB_DONE : rc;
}


static PyObject *
crud_result(db_crud_call_t *call, int rc)
{
    PyObject  *id, *what;

    if (rc == DB_DONE) {
        return Py_BuildValue("(sIy#)", "answer", call->status,
                             call->answer.data ? call->answer.data : "",
                             (Py_ssize_t) call->answer.len);
    }

    if (rc != DB_OK) {
        return PyErr_NoMemory();
    }

    id = crud_id(&call->op);
    if (id == NULL) {
        return NULL;
    }

    if (call->op.kind == DB_STORE_LIST) {
        what = crud_selection(&call->op);

    } else if (call->many) {
        what = crud_documents(&call->op);

    } else {
        what = PyBytes_FromStringAndSize(call->op.document.data,
                                         (Py_ssize_t) call->op.document.len);
    }

    if (what == NULL) {
        Py_DECREF(id);
        return NULL;
    }

    return Py_BuildValue("(ssNN)", "store",
                         db_crud_operation_name(call->operation), id, what);
}


static PyObject *
crud_resource_call(crud_resource_t *self, PyObject *args, PyObject *kwargs)
{
    int                   rc;
    Py_buffer             body = { 0 };
    PyObject             *result;
    const char           *name, *id, *query, *type, *current;
    Py_ssize_t            id_len, query_len, type_len, current_len;
    db_crud_call_t       *call;
    db_crud_operation_t   operation;

    static char  *names[] = {
        "operation", "id", "query", "content_type", "body", "current", NULL
    };

    id = query = "";
    type = "application/json";
    current = NULL;
    id_len = query_len = current_len = 0;
    type_len = (Py_ssize_t) strlen(type);

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|$s#s#s#y*y#:call", names,
                                     &name, &id, &id_len, &query,
                                     &query_len, &type, &type_len, &body,
                                     &current, &current_len))
    {
        return NULL;
    }

    result = NULL;

    operation = db_crud_operation((db_str_t) { name, strlen(name) });

    if (operation == DB_CRUD_OPERATIONS) {
        PyErr_Format(PyExc_ValueError, "unknown operation '%s'", name);
        goto release;
    }

    if (operation == DB_CRUD_PATCH && current == NULL) {
        PyErr_SetString(PyExc_ValueError, "a patch needs a current document");
        goto release;
    }

    call = db_crud_call_create(self->crud, operation);
    if (call == NULL) {
        PyErr_NoMemory();
        goto release;
    }

    call->prefix = db_crud_prefix(self->crud);
    call->id = (db_str_t) { id, (size_t) id_len };
    call->query = (db_str_t) { query, (size_t) query_len };
    call->content_type = (db_str_t) { type, (size_t) type_len };
    call->body = (db_str_t) { body.buf, (size_t) body.len };

    rc = db_crud_begin(call);

    if (rc == DB_OK && call->op.modify) {
        rc = crud_modify(call, (db_str_t) { current, (size_t) current_len });
    }

    result = crud_result(call, rc);

    db_crud_call_destroy(call);

release:

    PyBuffer_Release(&body);

    return result;
}


static PyObject *
crud_resource_renamed(crud_resource_t *self, PyObject *args)
{
    int          rc;
    db_str_t     text;
    PyObject    *result;
    db_arena_t  *arena;
    const char  *document, *patch;
    Py_ssize_t   document_len, patch_len;

    if (!PyArg_ParseTuple(args, "y#y#:renamed", &document, &document_len,
                          &patch, &patch_len))
    {
        return NULL;
    }

    arena = db_arena_create((size_t) document_len + 4096);
    if (arena == NULL) {
        return PyErr_NoMemory();
    }

    rc = db_crud_renamed(self->crud, arena,
                         (db_str_t) { document, (size_t) document_len },
                         (db_str_t) { patch, (size_t) patch_len }, &text);

    if (rc == DB_OK) {
        result = PyBytes_FromStringAndSize(text.data, (Py_ssize_t) text.len);

    } else if (rc == DB_DECLINED) {
        PyErr_SetString(PyExc_ValueError, "no JSON object");
        result = NULL;

    } else {
        result = PyErr_NoMemory();
    }

    db_arena_destroy(arena);

    return result;
}


static PyObject *
crud_resource_name(crud_resource_t *self, void *unused)
{
    return crud_text(db_crud_name(self->crud));
}


static PyObject *
crud_resource_prefix(crud_resource_t *self, void *unused)
{
    return crud_text(db_crud_prefix(self->crud));
}


static PyObject *
crud_resource_collection(crud_resource_t *self, void *unused)
{
    return crud_text(db_crud_collection(self->crud)->name);
}


static PyObject *
crud_resource_store(crud_resource_t *self, void *unused)
{
    return crud_text(db_crud_store(self->crud));
}


static PyObject *
crud_resource_operations(crud_resource_t *self, void *unused)
{
    unsigned   i;
    PyObject  *list, *name, *result;

    list = PyList_New(0);
    if (list == NULL) {
        return NULL;
    }

    for (i = 0; i < DB_CRUD_OPERATIONS; i++) {
        if (!(db_crud_operations(self->crud) & 1U << i)) {
            continue;
        }

        name = PyUnicode_FromString(db_crud_operation_name(i));
        if (name == NULL || PyList_Append(list, name) == -1) {
            Py_XDECREF(name);
            Py_DECREF(list);
            return NULL;
        }

        Py_DECREF(name);
    }

    result = PyList_AsTuple(list);
    Py_DECREF(list);

    return result;
}


static int
crud_resource_traverse(crud_resource_t *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));

    return 0;
}


static void
crud_resource_dealloc(crud_resource_t *self)
{
    PyTypeObject  *type;

    type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);

    if (self->crud != NULL) {
        db_crud_destroy(self->crud);
    }

    type->tp_free(self);
    Py_DECREF(type);
}


PyDoc_STRVAR(crud_resource_call_doc,
"call($self, operation, *, id='', query='',\n"
"     content_type='application/json', body=b'', current=...)\n"
"--\n\n"
"Run a call up to the store: ('answer', status, body) when it ends before,\n"
"else ('store', operation, id, document), for a list a selection instead,\n"
"for an array the list of documents.  'current' is the document that a patch\n"
"finds.");


PyDoc_STRVAR(crud_resource_renamed_doc,
"renamed($self, document, patch, /)\n"
"--\n\n"
"A stored document by the names that a client gives its fields: those that\n"
"the patch has, or else the first of what they accept.");


static PyMethodDef  crud_resource_methods[] = {
    { "call", (PyCFunction) (void (*)(void)) crud_resource_call,
      METH_VARARGS|METH_KEYWORDS, crud_resource_call_doc },
    { "renamed", (PyCFunction) crud_resource_renamed, METH_VARARGS,
      crud_resource_renamed_doc },
    { NULL, NULL, 0, NULL }
};


static PyGetSetDef  crud_resource_getset[] = {
    { "name", (getter) crud_resource_name, NULL, "The model's name.", NULL },
    { "prefix", (getter) crud_resource_prefix, NULL, "Its path.", NULL },
    { "collection", (getter) crud_resource_collection, NULL,
      "The collection it is stored in.", NULL },
    { "store", (getter) crud_resource_store, NULL, "The store's name.",
      NULL },
    { "operations", (getter) crud_resource_operations, NULL,
      "The names of its operations.", NULL },
    { NULL, NULL, NULL, NULL, NULL }
};


static PyType_Slot  crud_resource_slots[] = {
    { Py_tp_doc, "A compiled schema; made by compile()." },
    { Py_tp_dealloc, crud_resource_dealloc },
    { Py_tp_traverse, crud_resource_traverse },
    { Py_tp_methods, crud_resource_methods },
    { Py_tp_getset, crud_resource_getset },
    { 0, NULL }
};


static PyType_Spec  crud_resource_spec = {
    .name = "databridge._crud.Resource",
    .basicsize = sizeof(crud_resource_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = crud_resource_slots,
};


static PyObject *
crud_compile(PyObject *module, PyObject *schema)
{
    char              error[1024];
    Py_ssize_t        len;
    const char       *text;
    db_crud_t        *crud;
    PyTypeObject     *type;
    crud_state_t     *state;
    crud_resource_t  *self;

    text = PyUnicode_AsUTF8AndSize(schema, &len);
    if (text == NULL) {
        return NULL;
    }

    crud = db_crud_compile((db_str_t) { text, (size_t) len }, error,
                           sizeof(error));
    if (crud == NULL) {
        PyErr_SetString(PyExc_ValueError, error);
        return NULL;
    }

    state = PyModule_GetState(module);
    type = state->resource_type;

    self = (crud_resource_t *) type->tp_alloc(type, 0);
    if (self == NULL) {
        db_crud_destroy(crud);
        return NULL;
    }

    self->crud = crud;

    return (PyObject *) self;
}


PyDoc_STRVAR(crud_compile_doc,
"compile($module, schema, /)\n"
"--\n\n"
"Compile a schema's text; ValueError names what is wrong in it.");


static PyMethodDef  crud_methods[] = {
    { "compile", crud_compile, METH_O, crud_compile_doc },
    { NULL, NULL, 0, NULL }
};


static int
crud_exec(PyObject *module)
{
    crud_state_t  *state;

    state = PyModule_GetState(module);

    state->resource_type = (PyTypeObject *)
        PyType_FromModuleAndSpec(module, &crud_resource_spec, NULL);

    if (state->resource_type == NULL
        || PyModule_AddIntConstant(module, "MAX_ITEMS",
                                   DB_CRUD_MAX_ITEMS) == -1
        || PyModule_AddIntConstant(module, "MAX_DOCUMENT",
                                   DB_CRUD_MAX_DOCUMENT) == -1)
    {
        return -1;
    }

    return PyModule_AddType(module, state->resource_type);
}


static int
crud_traverse(PyObject *module, visitproc visit, void *arg)
{
    crud_state_t  *state;

    state = PyModule_GetState(module);
    Py_VISIT(state->resource_type);

    return 0;
}


static int
crud_clear(PyObject *module)
{
    crud_state_t  *state;

    state = PyModule_GetState(module);
    Py_CLEAR(state->resource_type);

    return 0;
}


static PyModuleDef_Slot  crud_slots[] = {
    { Py_mod_exec, crud_exec },
    { 0, NULL }
};


static struct PyModuleDef  crud_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "databridge._crud",
    .m_doc = "Native validation, as the nginx module runs it.",
    .m_size = sizeof(crud_state_t),
    .m_methods = crud_methods,
    .m_slots = crud_slots,
    .m_traverse = crud_traverse,
    .m_clear = crud_clear,
};


PyMODINIT_FUNC
PyInit__crud(void)
{
    return PyModuleDef_Init(&crud_module);
}
