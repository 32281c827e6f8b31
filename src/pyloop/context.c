/*
 * Contexts of callbacks.  call_soon() without a context means a copy of the
 * current one, but all that a copy has of its own is a reference to the
 * variables, which are immutable: a handle keeps these, and the callback
 * runs in a context that the loop uses again as long as no one else has got
 * hold of it.
 *
 * The variables are reached through CPython's internal header, the same
 * from 3.11 to 3.14.  All of it runs with the GIL held.
 */

#define Py_BUILD_CORE  1

#include "pyloop/pyloop.h"

#include <internal/pycore_context.h>


static void pyloop_context_set(PyObject *context, PyObject *vars);


int
pyloop_context_init(pyloop_state_t *state)
{
    PyObject  *context;

    context = PyContext_New();
    if (context == NULL) {
        return -1;
    }

    state->no_vars = Py_NewRef((PyObject *) ((PyContext *) context)->ctx_vars);
    Py_DECREF(context);

    return 0;
}


PyObject *
pyloop_context_vars(pyloop_state_t *state)
{
    PyObject  *context;

    context = PyThreadState_Get()->context;

    return Py_NewRef(context ? (PyObject *) ((PyContext *) context)->ctx_vars
                             : state->no_vars);
}


PyObject *
pyloop_context_new(PyObject *vars)
{
    PyObject  *context;

    context = PyContext_New();

    if (context) {
        pyloop_context_set(context, vars);
    }

    return context;
}


/* Of a context that has not been entered. */

static void
pyloop_context_set(PyObject *op, PyObject *vars)
{
    PyContext  *context;

    context = (PyContext *) op;

    if ((PyObject *) context->ctx_vars != vars) {
        Py_XSETREF(context->ctx_vars, (PyHamtObject *) Py_NewRef(vars));
    }
}


PyObject *
pyloop_context_enter(pyloop_t *loop, PyObject *vars)
{
    PyObject  *context;

    context = loop->scratch;

    if (context) {
        loop->scratch = NULL;
        pyloop_context_set(context, vars);

    } else {
        context = pyloop_context_new(vars);
    }

    if (context && PyContext_Enter(context) == -1) {
        Py_CLEAR(context);
    }

    return context;
}


int
pyloop_context_exit(pyloop_t *loop, PyObject *context, PyObject *vars,
    PyObject **kept)
{
    int  rc;

    rc = PyContext_Exit(context);

    if ((PyObject *) ((PyContext *) context)->ctx_vars != vars) {
        *kept = context;
        return rc;
    }

    if (Py_REFCNT(context) == 1 && loop->scratch == NULL && rc == 0) {
        /* no value outlives its callback because of us */
        pyloop_context_set(context, loop->state->no_vars);
        loop->scratch = context;

    } else {
        Py_DECREF(context);
    }

    return rc;
}
