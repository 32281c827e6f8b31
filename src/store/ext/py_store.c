/*
 * databridge._store: a document store outside nginx, for "databridge store".
 *
 * Who owns a Store stands in py_store.h; what is done with the documents of
 * a collection, in py_collection.c.
 */

#include "store/ext/py_store.h"


static const char *
store_status_text(db_store_status_t status)
{
    switch (status) {

    case DB_STORE_CONFLICT:
        return "its id, or what has to be unique, is taken";

    case DB_STORE_BUSY:
        return "the store is locked by somebody else";

    case DB_STORE_AWAY:
        return "the store cannot be reached, or not be written";

    case DB_STORE_TIMEOUT:
        return "the store did not answer in time";

    case DB_STORE_FULL:
        return "the store is full";

    case DB_STORE_REFUSED:
        return "the store cannot hold such a document";

    default:
        return "the store failed";
    }
}


PyObject *
py_store_raise(PyObject *error, const char *message, Py_ssize_t index)
{
    PyObject  *args;

    args = Py_BuildValue("(sn)", message, index);
    if (args != NULL) {
        PyErr_SetObject(error, args);
        Py_DECREF(args);
    }

    return NULL;
}


PyObject *
py_store_raise_status(store_object_t *self, PyObject *error,
    db_store_status_t status, Py_ssize_t index)
{
    char  message[640];

    pthread_mutex_lock(&self->mutex);

    snprintf(message, sizeof(message), "%s%s%s", store_status_text(status),
             self->log[0] ? ": " : "", self->log);

    pthread_mutex_unlock(&self->mutex);

    return py_store_raise(error, message, index);
}


static void
store_log(void *ctx, db_log_level_t level, const char *text)
{
    store_object_t *self = ctx;

    pthread_mutex_lock(&self->mutex);

    if (level == DB_LOG_ERROR) {
        snprintf(self->log, sizeof(self->log), "%s", text);
    }

    pthread_mutex_unlock(&self->mutex);
}


db_store_t *
py_store_get(store_object_t *self)
{
    if (self->store == NULL) {
        PyErr_SetString(PyExc_ValueError, "the store is closed");
        return NULL;
    }

    pthread_mutex_lock(&self->mutex);
    self->log[0] = '\0';
    pthread_mutex_unlock(&self->mutex);

    return self->store;
}


static PyObject *
store_open(PyObject *module, PyObject *arg)
{
    char             error[1024];
    db_str_t         uri;
    Py_ssize_t       len;
    store_state_t   *state;
    store_object_t  *self;

    uri.data = PyUnicode_AsUTF8AndSize(arg, &len);
    if (uri.data == NULL) {
        return NULL;
    }

    uri.len = (size_t) len;
    state = PyModule_GetState(module);

    self = (store_object_t *) state->store_type->tp_alloc(state->store_type,
                                                          0);
    if (self == NULL) {
        return NULL;
    }

    pthread_mutex_init(&self->mutex, NULL);

    self->collections = PyList_New(0);
    if (self->collections == NULL) {
        Py_DECREF(self);
        return NULL;
    }

    Py_BEGIN_ALLOW_THREADS
    self->store = db_store_open(uri, store_log, self, error, sizeof(error));
    Py_END_ALLOW_THREADS

    if (self->store == NULL) {
        Py_DECREF(self);
        return py_store_raise(state->error, error, -1);
    }

    return (PyObject *) self;
}


static PyObject *
store_close(store_object_t *self, PyObject *unused)
{
    db_store_t  *store;

    store = self->store;
    self->store = NULL;

    if (store != NULL) {
        Py_BEGIN_ALLOW_THREADS
        db_store_close(store);
        Py_END_ALLOW_THREADS
    }

    Py_CLEAR(self->collections);
    Py_RETURN_NONE;
}


static const char *
store_kind(db_value_kind_t kind, unsigned objectid)
{
    return kind == DB_VALUE_INT ? "int" : objectid ? "objectid" : "str";
}


static PyObject *
store_entries(const db_catalog_entry_t *entry)
{
    PyObject  *list, *item;

    list = PyList_New(0);
    if (list == NULL) {
        return NULL;
    }

    for ( /* void */ ; entry; entry = entry->next) {
        item = Py_BuildValue("(s#sK)", entry->name.data,
                             (Py_ssize_t) entry->name.len,
                             store_kind(entry->id_kind, entry->objectid),
                             (unsigned long long) entry->count);

        if (item == NULL || PyList_Append(list, item) == -1) {
            Py_XDECREF(item);
            Py_DECREF(list);
            return NULL;
        }

        Py_DECREF(item);
    }

    return list;
}


static PyObject *
store_catalog(store_object_t *self, PyObject *unused)
{
    int                  rc;
    char                 error[1024];
    PyObject            *list;
    db_arena_t          *arena;
    db_store_t          *store;
    store_state_t       *state;
    db_catalog_entry_t  *first;

    store = py_store_get(self);
    if (store == NULL) {
        return NULL;
    }

    arena = db_arena_create(PY_STORE_ARENA);
    if (arena == NULL) {
        return PyErr_NoMemory();
    }

    Py_BEGIN_ALLOW_THREADS
    rc = db_store_catalog(store, arena, &first, error, sizeof(error));
    Py_END_ALLOW_THREADS

    state = PyType_GetModuleState(Py_TYPE(self));
    list = (rc == DB_OK) ? store_entries(first)
                         : py_store_raise(state->error, error, -1);

    db_arena_destroy(arena);

    return list;
}


/* As a schema declares it, all but its name. */

static int
store_declare(collection_object_t *made, db_str_t schema)
{
    char  error[1024];

    made->crud = db_crud_compile(schema, error, sizeof(error));
    if (made->crud == NULL) {
        PyErr_SetString(PyExc_ValueError, error);
        return -1;
    }

    made->collection = *db_crud_collection(made->crud);

    return 0;
}


static int
store_declare_kind(collection_object_t *made, const char *kind)
{
    made->collection.objectid = strcmp(kind, "objectid") == 0;
    made->collection.id_kind = strcmp(kind, "int") == 0 ? DB_VALUE_INT
                                                        : DB_VALUE_TEXT;

    if (made->collection.id_kind == DB_VALUE_TEXT
        && !made->collection.objectid && strcmp(kind, "str") != 0)
    {
        PyErr_Format(PyExc_ValueError, "unknown kind of id '%s'", kind);
        return -1;
    }

    return 0;
}


static PyObject *
store_collection(store_object_t *self, PyObject *args, PyObject *kwargs)
{
    int                   rc;
    const char           *name, *kind, *schema;
    Py_ssize_t            len, schema_len;
    store_state_t        *state;
    collection_object_t  *made;

    static char  *names[] = { "name", "kind", "schema", NULL };

    kind = "str";
    schema = NULL;
    schema_len = 0;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s#|$sz#:collection",
                                     names, &name, &len, &kind, &schema,
                                     &schema_len))
    {
        return NULL;
    }

    if ((size_t) len >= sizeof(made->name)) {
        PyErr_SetString(PyExc_ValueError, "the name is too long");
        return NULL;
    }

    if (py_store_get(self) == NULL) {
        return NULL;
    }

    state = PyType_GetModuleState(Py_TYPE(self));

    made = (collection_object_t *)
        state->collection_type->tp_alloc(state->collection_type, 0);
    if (made == NULL) {
        return NULL;
    }

    made->owner = (store_object_t *) Py_NewRef(self);

    rc = schema ? store_declare(made, (db_str_t) { schema,
                                                   (size_t) schema_len })
                : store_declare_kind(made, kind);
    if (rc == -1
        || PyList_Append(self->collections, (PyObject *) made) == -1)
    {
        Py_DECREF(made);
        return NULL;
    }

    memcpy(made->name, name, (size_t) len);
    made->collection.name = (db_str_t) { made->name, (size_t) len };

    return (PyObject *) made;
}


static int
store_traverse(store_object_t *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->collections);

    return 0;
}


static int
store_clear(store_object_t *self)
{
    if (self->store != NULL) {
        db_store_close(self->store);
        self->store = NULL;
    }

    Py_CLEAR(self->collections);

    return 0;
}


static void
store_dealloc(store_object_t *self)
{
    PyTypeObject  *type;

    type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    (void) store_clear(self);

    pthread_mutex_destroy(&self->mutex);

    type->tp_free(self);
    Py_DECREF(type);
}


static PyMethodDef  store_methods[] = {
    { "close", (PyCFunction) store_close, METH_NOARGS,
      "close($self, /)\n--\n\nStop its threads; nothing else may follow." },
    { "catalog", (PyCFunction) store_catalog, METH_NOARGS,
      "catalog($self, /)\n--\n\n"
      "Its collections: (name, kind of id, number of documents)." },
    { "collection", (PyCFunction) (void (*)(void)) store_collection,
      METH_VARARGS|METH_KEYWORDS,
      "collection($self, name, *, kind='str', schema=None)\n--\n\n"
      "A collection as the text of a schema declares it, or its ids alone." },
    { NULL, NULL, 0, NULL }
};


static PyType_Slot  store_slots[] = {
    { Py_tp_doc, "An open store; made by open()." },
    { Py_tp_dealloc, store_dealloc },
    { Py_tp_traverse, store_traverse },
    { Py_tp_clear, store_clear },
    { Py_tp_methods, store_methods },
    { 0, NULL }
};


static PyType_Spec  store_spec = {
    .name = "databridge._store.Store",
    .basicsize = sizeof(store_object_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = store_slots,
};


static PyMethodDef  module_methods[] = {
    { "open", store_open, METH_O,
      "open($module, uri, /)\n--\n\nOpen a store." },
    { NULL, NULL, 0, NULL }
};


static int
module_exec(PyObject *module)
{
    store_state_t  *state;

    state = PyModule_GetState(module);

    state->store_type = (PyTypeObject *)
        PyType_FromModuleAndSpec(module, &store_spec, NULL);
    if (state->store_type == NULL
        || PyModule_AddType(module, state->store_type) == -1)
    {
        return -1;
    }

    state->collection_type = (PyTypeObject *)
        PyType_FromModuleAndSpec(module, &py_collection_spec, NULL);
    if (state->collection_type == NULL
        || PyModule_AddType(module, state->collection_type) == -1)
    {
        return -1;
    }

    state->error = PyErr_NewExceptionWithDoc("databridge._store.StoreError",
        "(message, index): index is -1 or that of a line.", NULL,
        NULL);
    if (state->error == NULL) {
        return -1;
    }

    return PyModule_AddObjectRef(module, "StoreError", state->error);
}


static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    store_state_t  *state;

    state = PyModule_GetState(module);

    Py_VISIT(state->store_type);
    Py_VISIT(state->collection_type);
    Py_VISIT(state->error);

    return 0;
}


static int
module_clear(PyObject *module)
{
    store_state_t  *state;

    state = PyModule_GetState(module);

    Py_CLEAR(state->store_type);
    Py_CLEAR(state->collection_type);
    Py_CLEAR(state->error);

    return 0;
}


static PyModuleDef_Slot  module_slots[] = {
    { Py_mod_exec, module_exec },
    { 0, NULL }
};


static struct PyModuleDef  module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "databridge._store",
    .m_doc = "Document stores, for the command line.",
    .m_size = sizeof(store_state_t),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};


PyMODINIT_FUNC
PyInit__store(void)
{
    return PyModuleDef_Init(&module_def);
}
