/*
 * Collections of an open store: documents as lines, out of it and into it.
 *
 * A caller waits for its operations without the GIL.  Threads of the store
 * touch nothing here but the wait_t on its stack, under the mutex in it.
 */

#include "store/ext/py_store.h"
#include "store/db_lines.h"

#include <structmember.h>


/* A caller that waits for operations it has submitted. */

typedef struct {
    pthread_mutex_t   mutex;
    pthread_cond_t    cond;
    unsigned          pending;
} wait_t;


static const db_str_t  collection_id_step = { "id", 2 };


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


static PyObject *
collection_prepare(collection_object_t *self, PyObject *unused)
{
    int             rc;
    char            error[1024];
    db_store_t     *store;
    store_state_t  *state;

    store = py_store_get(self->owner);
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
        return py_store_raise(state->error, error, -1);
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

    store = py_store_get(self->owner);
    if (store == NULL) {
        return NULL;
    }

    arena = db_arena_create(PY_STORE_ARENA);
    if (arena == NULL) {
        return PyErr_NoMemory();
    }

    db_buf_init(&out, arena, 0);
    db_buf_init(&lines, arena, 0);

    key.path.steps = &collection_id_step;
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
        result = py_store_raise_status(self->owner, state->error, op.status,
                                       -1);

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
            py_store_raise(state->error, error, i);
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
        py_store_raise_status(self->owner, state->error, ops[failed].status,
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

    py_store_raise_status(self->owner, state->error, op.status,
                          op.status == DB_STORE_CONFLICT
                          ? (Py_ssize_t) op.item : -1);

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

    if (py_store_get(self->owner) == NULL) {
        return NULL;
    }

    arena = db_arena_create(PY_STORE_ARENA);
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


PyType_Spec  py_collection_spec = {
    .name = "databridge._store.Collection",
    .basicsize = sizeof(collection_object_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = collection_slots,
};
