/*
 * The ready queue: a ring of callbacks that grows by doubling.  Positions
 * only ever grow, so that a turn knows where it must end.  No function here
 * runs Python code while the ring is between two states; releasing entries
 * may, and does so last.
 */

#include "pyloop/pyloop.h"


#define PYLOOP_READY_MIN    64
#define PYLOOP_READY_AHEAD  4


static int  pyloop_ready_grow(pyloop_ready_t *ready);
static int  pyloop_entry_steps(pyloop_state_t *state, pyloop_entry_t *entry,
    PyObject *task);


int
pyloop_ready_add(pyloop_ready_t *ready, PyObject *callable, PyObject *arg,
    PyObject *context)
{
    pyloop_entry_t  *entry;

    if ((ready->entries == NULL || pyloop_ready_count(ready) > ready->mask)
        && pyloop_ready_grow(ready) == -1)
    {
        Py_DECREF(callable);
        Py_XDECREF(arg);
        Py_XDECREF(context);

        return -1;
    }

    entry = &ready->entries[ready->tail++ & ready->mask];
    entry->callable = callable;
    entry->arg = arg;
    entry->context = context;

    return 0;
}


static int
pyloop_ready_grow(pyloop_ready_t *ready)
{
    size_t           i, n, size;
    pyloop_entry_t  *entries;

    size = ready->entries ? 2 * (ready->mask + 1) : PYLOOP_READY_MIN;

    entries = PyMem_New(pyloop_entry_t, size);
    if (entries == NULL) {
        PyErr_NoMemory();
        return -1;
    }

    n = pyloop_ready_count(ready);

    for (i = 0; i < n; i++) {
        entries[(ready->head + i) & (size - 1)] =
                           ready->entries[(ready->head + i) & ready->mask];
    }

    PyMem_Free(ready->entries);

    ready->entries = entries;
    ready->mask = size - 1;

    return 0;
}


/* The ring must not be empty; the references become the caller's. */

void
pyloop_ready_take(pyloop_ready_t *ready, pyloop_entry_t *entry)
{
    *entry = ready->entries[ready->head++ & ready->mask];

    /* handles lie scattered: one that is soon due is fetched meanwhile */
    __builtin_prefetch(ready->entries[(ready->head + PYLOOP_READY_AHEAD)
                                      & ready->mask].callable);
}


/*
 * Takes back the first step of the task, which was added after "mark": 1, or
 * 0 when it is not there.  It is the only new entry, save when a finalizer
 * of a garbage collection has come in between.
 */

int
pyloop_ready_withdraw(pyloop_state_t *state, pyloop_ready_t *ready,
    size_t mark, PyObject *task, pyloop_entry_t *entry)
{
    size_t  i;

    for (i = mark; i != ready->tail; i++) {

        *entry = ready->entries[i & ready->mask];

        if (pyloop_entry_steps(state, entry, task)) {
            break;
        }
    }

    if (i == ready->tail) {
        return 0;
    }

    for (ready->tail--; i != ready->tail; i++) {
        ready->entries[i & ready->mask] =
                                    ready->entries[(i + 1) & ready->mask];
    }

    return 1;
}


static int
pyloop_entry_steps(pyloop_state_t *state, pyloop_entry_t *entry,
    PyObject *task)
{
    PyObject  *self;

    if (entry->context == NULL
        || !Py_IS_TYPE(entry->callable, state->step_type))
    {
        return 0;
    }

    self = PyObject_GetAttr(entry->callable, state->str_self);
    if (self == NULL) {
        PyErr_Clear();
        return 0;
    }

    Py_DECREF(self);

    return self == task;
}


void
pyloop_ready_clear(pyloop_ready_t *ready)
{
    pyloop_entry_t   entry;

    while (pyloop_ready_count(ready)) {
        pyloop_ready_take(ready, &entry);
        pyloop_entry_release(&entry);
    }

    PyMem_Free(ready->entries);
    ready->entries = NULL;
    ready->mask = 0;
}


int
pyloop_ready_visit(pyloop_ready_t *ready, visitproc visit, void *arg)
{
    int              rc;
    size_t           i;
    pyloop_entry_t  *entry;

    for (i = ready->head; i != ready->tail; i++) {
        entry = &ready->entries[i & ready->mask];

        if (entry->context) {
            Py_VISIT(entry->callable);
            Py_VISIT(entry->arg);
            Py_VISIT(entry->context);
            continue;
        }

        rc = pyloop_handle_visit(entry->callable, visit, arg);

        if (rc) {
            return rc;
        }
    }

    return 0;
}


void
pyloop_entry_release(pyloop_entry_t *entry)
{
    if (entry->context == NULL) {
        pyloop_handle_release(entry->callable);
        return;
    }

    Py_DECREF(entry->callable);
    Py_XDECREF(entry->arg);
    Py_DECREF(entry->context);
}
