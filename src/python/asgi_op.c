/*
 * What receive() and send() return: an awaitable that is a coroutine to
 * await, ensure_future() and create_task() alike.  It does its work at its
 * first step, as a coroutine would; when it need not wait, there is no
 * Future.  One that waits is woken by whatever might concern it and looks
 * again: a receive() that is cancelled has taken nothing.  Loop thread, GIL
 * held.
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
    PyObject              *message;   /* to be sent, until it was */
    PyObject              *future;    /* waited for */
    PyObject              *iter;      /* of the future */
    unsigned               sends:1;
    unsigned               trying:1;  /* reading a message may run code */
};


static void db_py_op_dealloc(PyObject *self);
static PySendResult db_py_op_send(PyObject *self, PyObject *arg,
    PyObject **result);
static PyObject *db_py_op_throw(PyObject *self, PyObject *const *args,
    Py_ssize_t nargs);
static PyObject *db_py_op_close(PyObject *self, PyObject *unused);
static PyObject *db_py_op_await(PyObject *self, PyObject *unused);


static PyMethodDef  db_py_op_methods[] = {
    { "send", db_py_coroutine_send, METH_O, NULL },
    { "throw", (PyCFunction) (void (*)(void)) db_py_op_throw,
      METH_FASTCALL, NULL },
    { "close", db_py_op_close, METH_NOARGS, NULL },
    { "__await__", db_py_op_await, METH_NOARGS, NULL },
    { NULL, NULL, 0, NULL }
};

static PyType_Slot  db_py_op_slots[] = {
    DB_PY_COROUTINE_SLOTS(db_py_op_send, db_py_op_methods),
    { Py_tp_dealloc, db_py_op_dealloc },
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
    op->sends = message != NULL;
    op->trying = 0;

    return (PyObject *) op;
}


static PyObject **
db_py_op_waiters(db_py_op_t *op)
{
    db_py_waiters_t  *waiters;

    waiters = op->ops->waiters(op->request);

    return op->sends ? &waiters->senders : &waiters->receivers;
}


static int
db_py_op_remember(db_py_op_t *op)
{
    PyObject  **list;

    list = db_py_op_waiters(op);

    if (*list == NULL) {
        *list = PyList_New(0);

        if (*list == NULL) {
            return -1;
        }
    }

    return PyList_Append(*list, op->future);
}


static void
db_py_op_forget(db_py_op_t *op)
{
    PyObject    *list;
    Py_ssize_t   i;

    list = *db_py_op_waiters(op);

    if (list == NULL) {
        return;
    }

    for (i = 0; i < PyList_GET_SIZE(list); i++) {
        if (PyList_GET_ITEM(list, i) == op->future) {
            (void) PyList_SetSlice(list, i, i + 1, NULL);
            return;
        }
    }
}


void
db_py_wake(PyObject **list)
{
    PyObject    *waiters, *future, *result;
    Py_ssize_t   i;

    waiters = *list;
    *list = NULL;

    if (waiters == NULL) {
        return;
    }

    for (i = 0; i < PyList_GET_SIZE(waiters); i++) {
        future = PyList_GET_ITEM(waiters, i);

        result = PyObject_CallMethodNoArgs(future, db_py.str.done);

        if (result == Py_False) {
            Py_SETREF(result, PyObject_CallMethodOneArg(future,
                                                        db_py.str.set_result,
                                                        Py_None));
        }

        if (result == NULL) {
            db_py_log_exception("a task of a request could not be woken");
        }

        Py_XDECREF(result);
    }

    Py_DECREF(waiters);
}


static void
db_py_op_stop_waiting(db_py_op_t *op)
{
    if (op->future) {
        db_py_op_forget(op);
        Py_CLEAR(op->future);
    }

    Py_CLEAR(op->iter);
}


/* The op will do nothing more. */

static void
db_py_op_finish(db_py_op_t *op)
{
    db_py_op_stop_waiting(op);

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

    if (op->iter == NULL || db_py_op_remember(op) == -1) {
        return -1;
    }

    return 0;
}


/* Whether the op is done: 1, 0 when it has to wait, -1 with an exception. */

static int
db_py_op_try(db_py_op_t *op, PyObject **result)
{
    int        rc;
    PyObject  *message;

    if (!op->sends) {
        *result = op->ops->receive(op->request);

        if (*result) {
            return 1;
        }

        return PyErr_Occurred() ? -1 : 0;
    }

    if (op->message) {
        message = op->message;
        op->message = NULL;

        rc = op->ops->send(op->request, message);
        Py_DECREF(message);

    } else {
        rc = op->ops->sent(op->request);
    }

    if (rc == 1) {
        *result = Py_NewRef(Py_None);
    }

    return rc;
}


/* The first step, or the next when what was waited for has come. */

static PySendResult
db_py_op_step(db_py_op_t *op, PyObject **result)
{
    int  rc;

    op->trying = 1;
    rc = db_py_op_try(op, result);
    op->trying = 0;

    if (rc == 0) {
        rc = db_py_op_wait(op);

        if (rc == 0) {
            return PYGEN_NEXT;
        }
    }

    db_py_op_finish(op);

    return rc == 1 ? PYGEN_RETURN : PYGEN_ERROR;
}


/* What a step of the future's iterator means. */

static PySendResult
db_py_op_stepped(db_py_op_t *op, PySendResult status, PyObject **result)
{
    if (status == PYGEN_RETURN) {
        Py_CLEAR(*result);
        db_py_op_stop_waiting(op);

        status = db_py_op_step(op, result);

        if (status != PYGEN_NEXT) {
            return status;
        }

        /* a new future yields itself */

        status = PyIter_Send(op->iter, Py_None, result);
    }

    if (status == PYGEN_ERROR) {
        db_py_op_finish(op);
    }

    return status;
}


/* As a coroutine refuses to be driven from within, or once more. */

static int
db_py_op_refuses(const db_py_op_t *op)
{
    if (op->trying) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");

    } else if (op->request == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot reuse already awaited coroutine");
    }

    return op->trying || op->request == NULL;
}


static PySendResult
db_py_op_send(PyObject *self, PyObject *arg, PyObject **result)
{
    db_py_op_t    *op;
    PySendResult   status;

    op = (db_py_op_t *) self;
    *result = NULL;

    if (db_py_op_refuses(op)) {
        return PYGEN_ERROR;
    }

    if (op->iter == NULL) {
        status = db_py_op_step(op, result);

        if (status != PYGEN_NEXT) {
            return status;
        }
    }

    return db_py_op_stepped(op, PyIter_Send(op->iter, arg, result), result);
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

    if (db_py_op_refuses(op)) {
        return NULL;
    }

    status = db_py_throw(op->iter, args, nargs, &result);
    status = db_py_op_stepped(op, status, &result);

    return db_py_returned(status, result);
}


static PyObject *
db_py_op_close(PyObject *self, PyObject *unused)
{
    db_py_op_t  *op;

    op = (db_py_op_t *) self;

    if (op->trying && db_py_op_refuses(op)) {
        return NULL;
    }

    db_py_op_finish(op);

    Py_RETURN_NONE;
}


static PyObject *
db_py_op_await(PyObject *self, PyObject *unused)
{
    return Py_NewRef(self);
}
