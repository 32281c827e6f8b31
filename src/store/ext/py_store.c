/*
 * databridge._store: a document store outside nginx, for "databridge store".
 *
 * A Store and its Collections belong to the thread that uses them, which is
 * to the store what nginx's is, but may wait: it does so without the GIL.  The
 * store's own threads touch nothing here but a wait_t, under its mutex, and
 * the last line of the log, under the store's.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "crud/db_crud.h"
#include "store/db_lines.h"

#include <pthread.h>


#define STORE_ARENA  65536


typedef struct {
    PyTypeObject     *store_type;
    PyTypeObject     *collection_type;
    PyObject         *error;
} store_state_t;


typedef struct {
    PyObject_HEAD
    db_store_t       *store;           /* NULL once closed */
    PyObject         *collections;     /* a list: they outlive the store */
    pthread_mutex_t   mutex;
    char              log[512];        /* the last line, or "" */
} store_object_t;


typedef struct {
    PyObject_HEAD
    store_object_t   *owner;
    db_crud_t        *crud;            /* of its schema, or NULL */
    db_collection_t   collection;      /* with the memory of crud */
    char              name[64];
    Py_ssize_t        stored;          /* by write(), also when it fails */
    Py_ssize_t        skipped;
} collection_object_t;


/* A caller that waits for operations it has submitted. */

typedef struct {
    pthread_mutex_t   mutex;
    pthread_cond_t    cond;
    unsigned          pending;
} wait_t;


static const db_str_t  store_id_step = { "id", 2 };


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


/* StoreError(message, index): index is -1, or that of a line. */

static PyObject *
store_raise(PyObject *error, const char *message, Py_ssize_t index)
{
    PyObject  *args;

    args = Py_BuildValue("(sn)", message, index);
    if (args != NULL) {
        PyErr_SetObject(error, args);
        Py_DECREF(args);
    }

    return NULL;
}


/* The store's own words, where it has logged some, say more. */

static PyObject *
store_raise_status(store_object_t *self, PyObject *error,
    db_store_status_t status, Py_ssize_t index)
{
    char  message[640];

    pthread_mutex_lock(&self->mutex);

    snprintf(message, sizeof(message), "%s%s%s", store_status_text(status),
             self->log[0] ? ": " : "", self->log);

    pthread_mutex_unlock(&self->mutex);

    return store_raise(error, message, index);
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


static db_store_t *
store_get(store_object_t *self)
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


static void
wait_done(db_store_op_t *op)
{
    wait_t  *wait;

    wait = op->data;

    pthread_mutex_lock(&wait->mutex);

    if (--wait->pending == 0) {
        pthread_cond_signal(&wait->cond);
    }

    pthread_mutex_unlock(&wait->mutex);
}


/* Submits them all and waits until the last one is done; without the GIL. */

static void
wait_for(db_store_t *store, db_store_op_t *ops, unsigned n)
{
    wait_t    wait;
    unsigned  i;

    pthread_mutex_init(&wait.mutex, NULL);
    pthread_cond_init(&wait.cond, NULL);
    wait.pending = n;

    for (i = 0; i < n; i++) {
        ops[i].done = wait_done;
        ops[i].data = &wait;
        db_store_submit(store, &ops[i]);
    }

    pthread_mutex_lock(&wait.mutex);

    while (wait.pending) {
        pthread_cond_wait(&wait.cond, &wait.mutex);
    }

    pthread_mutex_unlock(&wait.mutex);

    pthread_mutex_destroy(&wait.mutex);
    pthread_cond_destroy(&wait.cond);
}


/* Store */

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
        return store_raise(state->error, error, -1);
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

    store = store_get(self);
    if (store == NULL) {
        return NULL;
    }

    arena = db_arena_create(STORE_ARENA);
    if (arena == NULL) {
        return PyErr_NoMemory();
    }

    Py_BEGIN_ALLOW_THREADS
    rc = db_store_catalog(store, arena, &first, error, sizeof(error));
    Py_END_ALLOW_THREADS

    state = PyType_GetModuleState(Py_TYPE(self));
    list = (rc == DB_OK) ? store_entries(first)
                         : store_raise(state->error, error, -1);

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

    if (store_get(self) == NULL) {
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


/* Collection */

static PyObject *
collection_prepare(collection_object_t *self, PyObject *unused)
{
    int             rc;
    char            error[1024];
    db_store_t     *store;
    store_state_t  *state;

    store = store_get(self->owner);
    if (store == NULL) {
        return NULL;
    }

    /* whoever has seen a document must see that it is another one now */

    self->collection.versioned = 1;

    Py_BEGIN_ALLOW_THREADS
    rc = db_store_prepare(store, &self->collection, error, sizeof(error));
    Py_END_ALLOW_THREADS

    if (rc != DB_OK) {
        state = PyType_GetModuleState(Py_TYPE(self));
        return store_raise(state->error, error, -1);
    }

    Py_RETURN_NONE;
}


/* An id that Python has given; its text is Python's. */

static int
collection_id(collection_object_t *self, PyObject *object, db_value_t *id)
{
    Py_ssize_t  len;

    id->kind = self->collection.id_kind;

    if (id->kind == DB_VALUE_INT) {
        id->integer = PyLong_AsLongLong(object);
        return PyErr_Occurred() ? -1 : 0;
    }

    id->text.data = PyUnicode_AsUTF8AndSize(object, &len);
    if (id->text.data == NULL) {
        return -1;
    }

    id->text.len = (size_t) len;

    return 0;
}


static PyObject *
collection_page_result(const db_store_op_t *op, const db_buf_t *lines)
{
    PyObject          *last;
    const db_value_t  *id;

    id = op->last;

    if (id == NULL) {
        last = Py_NewRef(Py_None);

    } else if (id->kind == DB_VALUE_INT) {
        last = PyLong_FromLongLong(id->integer);

    } else {
        last = PyUnicode_DecodeUTF8(id->text.data, (Py_ssize_t) id->text.len,
                                    "strict");
    }

    if (last == NULL) {
        return NULL;
    }

    return Py_BuildValue("(y#N)", lines->len ? lines->data : "",
                         (Py_ssize_t) lines->len, last);
}


static PyObject *
collection_page(collection_object_t *self, PyObject *args)
{
    db_key_t        key;
    db_buf_t        out, lines;
    PyObject       *after, *result;
    db_value_t      id;
    db_arena_t     *arena;
    db_store_t     *store;
    store_state_t  *state;
    db_store_op_t   op;
    unsigned long   limit;

    if (!PyArg_ParseTuple(args, "Ok:page", &after, &limit)) {
        return NULL;
    }

    memset(&op, 0, sizeof(op));
    memset(&key, 0, sizeof(key));

    if (after != Py_None) {
        if (collection_id(self, after, &id) == -1) {
            return NULL;
        }

        op.after = &id;
    }

    store = store_get(self->owner);
    if (store == NULL) {
        return NULL;
    }

    arena = db_arena_create(STORE_ARENA);
    if (arena == NULL) {
        return PyErr_NoMemory();
    }

    db_buf_init(&out, arena, 0);
    db_buf_init(&lines, arena, 0);

    key.path.steps = &store_id_step;
    key.path.nsteps = 1;
    key.kind = self->collection.id_kind;

    op.kind = DB_STORE_LIST;
    op.collection = &self->collection;
    op.sort = &key;
    op.nsort = 1;
    op.limit = limit;
    op.out = &out;

    Py_BEGIN_ALLOW_THREADS

    db_store_read(store, &op);
    db_store_cycle_end(store);

    if (op.status == DB_STORE_LATER) {
        db_store_work(store, &op);
    }

    if (op.status == DB_STORE_OK) {
        db_lines_append(&lines, (db_str_t) { out.data, out.len });
    }

    Py_END_ALLOW_THREADS

    if (op.status != DB_STORE_OK) {
        state = PyType_GetModuleState(Py_TYPE(self));
        result = store_raise_status(self->owner, state->error, op.status, -1);

    } else if (lines.failed) {
        result = PyErr_NoMemory();

    } else {
        result = collection_page_result(&op, &lines);
    }

    db_arena_destroy(arena);

    return result;
}


/* Lines of Python's as documents; -1 with an exception that names the line. */

static int
collection_items(collection_object_t *self, PyObject *list, db_arena_t *arena,
    db_store_item_t *items)
{
    int             rc;
    char            error[256], *data;
    PyObject       *line;
    Py_ssize_t      i, len;
    store_state_t  *state;

    for (i = 0; i < PyList_GET_SIZE(list); i++) {
        line = PyList_GET_ITEM(list, i);

        if (PyBytes_AsStringAndSize(line, &data, &len) == -1) {
            return -1;
        }

        rc = db_lines_read(arena, &self->collection,
                           (db_str_t) { data, (size_t) len }, &items[i],
                           error, sizeof(error));

        if (rc == DB_ERROR) {
            PyErr_NoMemory();
            return -1;
        }

        if (rc != DB_OK) {
            state = PyType_GetModuleState(Py_TYPE(self));
            store_raise(state->error, error, i);
            return -1;
        }
    }

    return 0;
}


static int
collection_same_id(const db_value_t *a, const db_value_t *b)
{
    return a->kind == DB_VALUE_INT ? a->integer == b->integer
                                   : db_str_eq(a->text, b->text);
}


/*
 * One operation for each document.  A REPLACE is left out when a later one
 * has its id: threads of the store may run them in any order.
 */

static unsigned
collection_ops(collection_object_t *self, db_store_item_t *items,
    unsigned n, int replace, db_store_op_t *ops, unsigned *index)
{
    unsigned        i, j, nops;
    db_store_op_t  *op;

    nops = 0;

    for (i = 0; i < n; i++) {

        for (j = i + 1; replace && j < n; j++) {
            if (collection_same_id(&items[i].id, &items[j].id)) {
                break;
            }
        }

        if (replace && j < n) {
            continue;
        }

        index[nops] = i;
        op = &ops[nops++];
        op->collection = &self->collection;

        if (replace) {
            op->kind = DB_STORE_REPLACE;
            op->id = items[i].id;
            op->document = items[i].document;
            op->upsert = 1;

        } else {
            op->kind = DB_STORE_INSERT;
            op->items = &items[i];
            op->nitems = 1;
        }
    }

    return nops;
}


/* One by one; raises what the first failure was. */

static int
collection_write_each(collection_object_t *self, db_store_item_t *items,
    unsigned n, int replace, db_arena_t *arena)
{
    unsigned        i, nops, failed, *index;
    db_store_t     *store;
    store_state_t  *state;
    db_store_op_t  *ops;

    ops = db_arena_calloc(arena, n * sizeof(db_store_op_t));
    index = db_arena_alloc(arena, n * sizeof(unsigned));

    if (ops == NULL || index == NULL) {
        PyErr_NoMemory();
        return -1;
    }

    store = self->owner->store;
    nops = collection_ops(self, items, n, replace, ops, index);

    Py_BEGIN_ALLOW_THREADS
    wait_for(store, ops, nops);
    Py_END_ALLOW_THREADS

    self->stored += n - nops;
    failed = nops;

    for (i = 0; i < nops; i++) {

        if (ops[i].status == DB_STORE_OK) {
            self->stored++;

        } else if (ops[i].status == DB_STORE_CONFLICT && !replace) {
            self->skipped++;

        } else if (failed == nops) {
            failed = i;
        }
    }

    if (failed != nops) {
        state = PyType_GetModuleState(Py_TYPE(self));
        store_raise_status(self->owner, state->error, ops[failed].status,
                           ops[failed].status == DB_STORE_CONFLICT
                           ? (Py_ssize_t) index[failed] : -1);
        return -1;
    }

    return 0;
}


/* All of them, or none; with "skip" those that do not conflict. */

static int
collection_insert(collection_object_t *self, db_store_item_t *items,
    unsigned n, int skip, db_arena_t *arena)
{
    db_store_t     *store;
    db_store_op_t   op;
    store_state_t  *state;

    memset(&op, 0, sizeof(op));

    op.kind = DB_STORE_INSERT;
    op.collection = &self->collection;
    op.items = items;
    op.nitems = n;

    store = self->owner->store;

    Py_BEGIN_ALLOW_THREADS
    wait_for(store, &op, 1);
    Py_END_ALLOW_THREADS

    if (op.status == DB_STORE_OK) {
        self->stored += n;
        return 0;
    }

    if (op.status == DB_STORE_CONFLICT && skip) {
        return collection_write_each(self, items, n, 0, arena);
    }

    state = PyType_GetModuleState(Py_TYPE(self));

    store_raise_status(self->owner, state->error, op.status,
                       op.status == DB_STORE_CONFLICT ? (Py_ssize_t) op.item
                                                      : -1);

    return -1;
}


static PyObject *
collection_write(collection_object_t *self, PyObject *args)
{
    int               rc;
    unsigned          n;
    PyObject         *list;
    const char       *mode;
    db_arena_t       *arena;
    db_store_item_t  *items;

    if (!PyArg_ParseTuple(args, "O!s:write", &PyList_Type, &list, &mode)) {
        return NULL;
    }

    n = (unsigned) PyList_GET_SIZE(list);

    if (n == 0) {
        Py_RETURN_NONE;
    }

    if (store_get(self->owner) == NULL) {
        return NULL;
    }

    arena = db_arena_create(STORE_ARENA);
    if (arena == NULL) {
        return PyErr_NoMemory();
    }

    rc = -1;

    items = db_arena_calloc(arena, n * sizeof(db_store_item_t));
    if (items == NULL) {
        PyErr_NoMemory();
        goto release;
    }

    if (collection_items(self, list, arena, items) == -1) {
        goto release;
    }

    if (strcmp(mode, "replace") == 0) {
        rc = collection_write_each(self, items, n, 1, arena);

    } else if (strcmp(mode, "fail") == 0 || strcmp(mode, "skip") == 0) {
        rc = collection_insert(self, items, n, mode[0] == 's', arena);

    } else {
        PyErr_Format(PyExc_ValueError, "unknown mode '%s'", mode);
    }

release:

    db_arena_destroy(arena);

    if (rc == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


static int
collection_traverse(collection_object_t *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->owner);

    return 0;
}


static int
collection_clear(collection_object_t *self)
{
    Py_CLEAR(self->owner);

    return 0;
}


static void
collection_dealloc(collection_object_t *self)
{
    PyTypeObject  *type;

    type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    (void) collection_clear(self);

    if (self->crud != NULL) {
        db_crud_destroy(self->crud);
    }

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


static PyMethodDef  collection_methods[] = {
    { "prepare", (PyCFunction) collection_prepare, METH_NOARGS,
      "prepare($self, /)\n--\n\nCreate it where it is missing." },
    { "page", (PyCFunction) collection_page, METH_VARARGS,
      "page($self, after, limit, /)\n--\n\n"
      "Documents behind an id as lines, and the last id if there are more." },
    { "write", (PyCFunction) collection_write, METH_VARARGS,
      "write($self, lines, mode, /)\n--\n\n"
      "Store lines by 'fail', 'skip' or 'replace'; counts what it did." },
    { NULL, NULL, 0, NULL }
};


static PyMemberDef  collection_members[] = {
    { "stored", T_PYSSIZET, offsetof(collection_object_t, stored), READONLY,
      "Documents that write() has stored." },
    { "skipped", T_PYSSIZET, offsetof(collection_object_t, skipped), READONLY,
      "Documents that it has left out." },
    { NULL, 0, 0, 0, NULL }
};


static PyType_Slot  collection_slots[] = {
    { Py_tp_doc, "A collection; made by Store.collection()." },
    { Py_tp_dealloc, collection_dealloc },
    { Py_tp_traverse, collection_traverse },
    { Py_tp_clear, collection_clear },
    { Py_tp_methods, collection_methods },
    { Py_tp_members, collection_members },
    { 0, NULL }
};


static PyType_Spec  collection_spec = {
    .name = "databridge._store.Collection",
    .basicsize = sizeof(collection_object_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = collection_slots,
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
        PyType_FromModuleAndSpec(module, &collection_spec, NULL);
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
