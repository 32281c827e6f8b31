/*
 * What receive() and send() return: an awaitable that is a coroutine to
 * await, ensure_future() and create_task() alike.  It does its work at its
 * first step, as a coroutine would; when it need not wait, there is no
 * Future.  Loop thread, GIL held.
 *
 * An op holds its request, and the request holds at most futures, so they
 * are no part of a cycle once the request has ended: neither is tracked by
 * the collector.
 */

#include "python/runtime.h"


#define DB_PY_OPS_KEPT  64


typedef struct db_py_op_s  db_py_op_t;

struct db_py_op_s {
    PyObject_HEAD
    const db_py_op_ops_t  *ops;
    PyObject              *request;   /* NULL once finished */
    PyObject              *message;   /* NULL: receive */
    PyObject              *future;    /* waited for */
    PyObject              *iter;      /* of the future */
};


static void db_py_op_dealloc(PyObject *self);
static PySendResult db_py_op_am_send(PyObject *self, PyObject *arg,
    PyObject **result);
static PyObject *db_py_op_next(PyObject *self);
static PyObject *db_py_op_send(PyObject *self, PyObject *arg);
static PyObject *db_py_op_throw(PyObject *self, PyObject *const *args,
    Py_ssize_t nargs);
static PyObject *db_py_op_close(PyObject *self, PyObject *unused);
static PyObject *db_py_op_await(PyObject *self, PyObject *unused);


static PyMethodDef  db_py_op_methods[] = {
    { "send", db_py_op_send, METH_O, NULL },
    { "throw", (PyCFunction) (void (*)(void)) db_py_op_throw,
      METH_FASTCALL, NULL },
    { "close", db_py_op_close, METH_NOARGS, NULL },
    { "__await__", db_py_op_await, METH_NOARGS, NULL },
    { NULL, NULL, 0, NULL }
};

static PyType_Slot  db_py_op_slots[] = {
    { Py_tp_dealloc, db_py_op_dealloc },
    { Py_tp_iter, db_py_self },
    { Py_tp_iternext, db_py_op_next },
    { Py_am_await, db_py_self },
    { Py_am_send, db_py_op_am_send },
    { Py_tp_methods, db_py_op_methods },
    { 0, NULL }
};

PyType_Spec  db_py_op_spec = {
    .name = "_databridge.Operation",
    .basicsize = sizeof(db_py_op_t),
    .flags = Py_TPFLAGS_DEFAULT|Py_TPFLAGS_DISALLOW_INSTANTIATION
             |Py_TPFLAGS_IMMUTABLETYPE,
    .slots = db_py_op_slots
};


static db_py_op_t  *db_py_ops_kept[DB_PY_OPS_KEPT];
static unsigned     db_py_nops_kept;


PyObject *
db_py_op(const db_py_op_ops_t *ops, PyObject *request, PyObject *message)
{
    db_py_op_t  *op;

    if (db_py_nops_kept) {
        op = db_py_ops_kept[--db_py_nops_kept];
        (void) PyObject_Init((PyObject *) op, db_py.op_type);

    } else {
        op = PyObject_New(db_py_op_t, db_py.op_type);

        if (op == NULL) {
            return NULL;
        }
    }

    op->ops = ops;
    op->request = Py_NewRef(request);
    op->message = Py_XNewRef(message);
    op->future = NULL;
    op->iter = NULL;

    return (PyObject *) op;
}


/* The op will do nothing more. */

static void
db_py_op_finish(db_py_op_t *op)
{
    if (op->future) {
        op->ops->forget(op->request, op->future);
        Py_CLEAR(op->future);
    }

    Py_CLEAR(op->iter);
    Py_CLEAR(op->message);
    Py_CLEAR(op->request);
}


static void
db_py_op_dealloc(PyObject *self)
{
    db_py_op_t    *op;
    PyTypeObject  *type;

    op = (db_py_op_t *) self;
    type = Py_TYPE(self);

    db_py_op_finish(op);

    if (db_py_nops_kept < DB_PY_OPS_KEPT) {
        db_py_ops_kept[db_py_nops_kept++] = op;

    } else {
        PyObject_Free(op);
    }

    Py_DECREF(type);
}


PyObject *
db_py_disconnect_message(void)
{
    PyObject  *message;

    message = PyDict_New();

    if (message && PyDict_SetItem(message, db_py.str.type,
                                  db_py.str.disconnect) == -1)
    {
        Py_CLEAR(message);
    }

    return message;
}


/* Makes the op wait for a future that the request completes. */

static int
db_py_op_wait(db_py_op_t *op)
{
    op->future = PyObject_CallNoArgs(db_py.create_future);

    if (op->future == NULL) {
        return -1;
    }

    op->iter = db_py_awaitable(op->future);

    if (op->iter == NULL
        || op->ops->wait(op->request, op->future) == -1)
    {
        return -1;
    }

    return 0;
}


/* The result of the first step, when it does not have to wait. */

static PySendResult
db_py_op_begin(db_py_op_t *op, PyObject **result)
{
    *result = NULL;

    if (op->message) {
        if (op->ops->send(op->request, op->message) == -1) {
            return PYGEN_ERROR;
        }

        *result = Py_NewRef(Py_None);

        return PYGEN_RETURN;
    }

    *result = op->ops->receive(op->request);

    if (*result) {
        return PYGEN_RETURN;
    }

    if (PyErr_Occurred() || db_py_op_wait(op) == -1) {
        return PYGEN_ERROR;
    }

    return PYGEN_NEXT;
}


/* What a step of the future's iterator means: it tells of the disconnect. */

static PySendResult
db_py_op_stepped(db_py_op_t *op, PySendResult status, PyObject **result)
{
    if (status == PYGEN_NEXT) {
        return PYGEN_NEXT;
    }

    db_py_op_finish(op);

    if (status == PYGEN_RETURN) {
        Py_DECREF(*result);
        *result = db_py_disconnect_message();

        if (*result == NULL) {
            return PYGEN_ERROR;
        }
    }

    return status;
}


static int
db_py_op_reused(db_py_op_t *op)
{
    if (op->request) {
        return 0;
    }

    PyErr_SetString(PyExc_RuntimeError,
                    "cannot reuse already awaited coroutine");
    return 1;
}


static PySendResult
db_py_op_am_send(PyObject *self, PyObject *arg, PyObject **result)
{
    db_py_op_t    *op;
    PySendResult   status;

    op = (db_py_op_t *) self;
    *result = NULL;

    if (db_py_op_reused(op)) {
        return PYGEN_ERROR;
    }

    if (op->iter == NULL) {
        status = db_py_op_begin(op, result);

        if (status != PYGEN_NEXT) {
            db_py_op_finish(op);
            return status;
        }
    }

    return db_py_op_stepped(op, PyIter_Send(op->iter, arg, result), result);
}


static PyObject *
db_py_op_next(PyObject *self)
{
    PyObject      *result;
    PySendResult   status;

    status = db_py_op_am_send(self, Py_None, &result);

    return db_py_returned(status, result);
}


static PyObject *
db_py_op_send(PyObject *self, PyObject *arg)
{
    PyObject      *result;
    PySendResult   status;

    status = db_py_op_am_send(self, arg, &result);

    return db_py_returned(status, result);
}


static PyObject *
db_py_op_throw(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject      *result;
    db_py_op_t    *op;
    PySendResult   status;

    op = (db_py_op_t *) self;
    result = NULL;

    if (nargs == 0) {
        PyErr_SetString(PyExc_TypeError, "throw() needs an exception");
        return NULL;
    }

    if (db_py_op_reused(op)) {
        return NULL;
    }

    status = db_py_throw(op->iter, args, nargs, &result);
    status = db_py_op_stepped(op, status, &result);

    return db_py_returned(status, result);
}


static PyObject *
db_py_op_close(PyObject *self, PyObject *unused)
{
    db_py_op_finish((db_py_op_t *) self);

    Py_RETURN_NONE;
}


static PyObject *
db_py_op_await(PyObject *self, PyObject *unused)
{
    return Py_NewRef(self);
}
