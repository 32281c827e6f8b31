/*
 * asyncio's weak set of all tasks, to which each new one is added and from
 * which it is taken when it dies: methods in Python, which cost more than the
 * rest of a short task.  The set stays what it is; these are its add(), for
 * whoever looks it up on the object, and the callback of its references, as
 * _weakrefset.py has them.
 *
 * Other releases of CPython may keep their tasks otherwise: what is not found
 * is left alone.
 */

#include "pyloop/pyloop.h"


static PyObject *pyloop_tasks_add(PyObject *self, PyObject *task);
static PyObject *pyloop_tasks_remove(PyObject *self, PyObject *ref);


/* Members of the set, in the tuple that both functions have as their self. */

typedef enum {
    PYLOOP_TASKS_DATA,             /* a set of weak references */
    PYLOOP_TASKS_ITERATING,        /* a set, not empty while somebody does */
    PYLOOP_TASKS_PENDING,          /* a list: to be removed afterwards */
    PYLOOP_TASKS_COMMIT,           /* removes them */
    PYLOOP_TASKS_REMOVE            /* of add() alone */
} pyloop_tasks_member_t;


static PyMethodDef pyloop_tasks_add_def = {
    "add", pyloop_tasks_add, METH_O, "Adds a task."
};

static PyMethodDef pyloop_tasks_remove_def = {
    "_remove", pyloop_tasks_remove, METH_O, "Removes what has died."
};


static PyObject *
pyloop_tasks_add(PyObject *self, PyObject *task)
{
    int        rc;
    PyObject  *ref, *res;

    if (PyList_GET_SIZE(PyTuple_GET_ITEM(self, PYLOOP_TASKS_PENDING))) {
        res = PyObject_CallNoArgs(PyTuple_GET_ITEM(self,
                                                   PYLOOP_TASKS_COMMIT));
        if (res == NULL) {
            return NULL;
        }

        Py_DECREF(res);
    }

    ref = PyWeakref_NewRef(task, PyTuple_GET_ITEM(self,
                                                  PYLOOP_TASKS_REMOVE));
    if (ref == NULL) {
        return NULL;
    }

    rc = PySet_Add(PyTuple_GET_ITEM(self, PYLOOP_TASKS_DATA), ref);
    Py_DECREF(ref);

    if (rc == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


static PyObject *
pyloop_tasks_remove(PyObject *self, PyObject *ref)
{
    int  rc;

    if (PySet_GET_SIZE(PyTuple_GET_ITEM(self, PYLOOP_TASKS_ITERATING))) {
        rc = PyList_Append(PyTuple_GET_ITEM(self, PYLOOP_TASKS_PENDING), ref);

    } else {
        rc = PySet_Discard(PyTuple_GET_ITEM(self, PYLOOP_TASKS_DATA), ref);
    }

    if (rc == -1) {
        return NULL;
    }

    Py_RETURN_NONE;
}


static PyObject *
pyloop_tasks_members(PyObject *set)
{
    PyObject  *data, *iterating, *pending, *commit, *members;

    members = NULL;

    data = PyObject_GetAttrString(set, "data");
    iterating = PyObject_GetAttrString(set, "_iterating");
    pending = PyObject_GetAttrString(set, "_pending_removals");
    commit = PyObject_GetAttrString(set, "_commit_removals");

    if (data && iterating && pending && commit && PySet_CheckExact(data)
        && PySet_CheckExact(iterating) && PyList_CheckExact(pending))
    {
        members = PyTuple_Pack(4, data, iterating, pending, commit);
    }

    Py_XDECREF(commit);
    Py_XDECREF(pending);
    Py_XDECREF(iterating);
    Py_XDECREF(data);

    return members;
}


static int
pyloop_tasks_replace(PyObject *set)
{
    int        rc;
    PyObject  *members, *remove, *more, *add;

    rc = -1;
    remove = NULL;
    more = NULL;
    add = NULL;

    members = pyloop_tasks_members(set);

    if (members) {
        remove = PyCFunction_New(&pyloop_tasks_remove_def, members);
    }

    if (remove) {
        more = PyTuple_Pack(5, PyTuple_GET_ITEM(members, PYLOOP_TASKS_DATA),
                            PyTuple_GET_ITEM(members, PYLOOP_TASKS_ITERATING),
                            PyTuple_GET_ITEM(members, PYLOOP_TASKS_PENDING),
                            PyTuple_GET_ITEM(members, PYLOOP_TASKS_COMMIT),
                            remove);
    }

    if (more) {
        add = PyCFunction_New(&pyloop_tasks_add_def, more);
    }

    if (add) {
        rc = PyObject_SetAttrString(set, "add", add);
    }

    Py_XDECREF(add);
    Py_XDECREF(more);
    Py_XDECREF(remove);
    Py_XDECREF(members);

    return rc;
}


void
pyloop_tasks_init(void)
{
    PyObject  *set, *type;

    set = pyloop_import("_asyncio", "_all_tasks");
    type = set ? pyloop_import("_weakrefset", "WeakSet") : NULL;

    if (set && (PyObject *) Py_TYPE(set) == type) {
        (void) pyloop_tasks_replace(set);
    }

    Py_XDECREF(type);
    Py_XDECREF(set);

    PyErr_Clear();
}
