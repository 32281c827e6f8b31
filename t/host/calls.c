/*
 * Calls of Python from a thread without the GIL: db_spawn_t.  The GIL is
 * taken only to look the callable up.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "host.h"

#include <stdlib.h>


typedef struct {
    db_spawn_t   spawn;
    char        *name;
} host_call_t;


static void
host_call_done(db_spawn_t *spawn, db_spawn_result_t result, void *value)
{
    char         *hex;
    PyObject     *repr;
    host_call_t  *call;

    static const char  *results[] = { "returned", "raised", "cancelled" };

    call = spawn->data;

    repr = PyObject_Repr(value);
    if (repr == NULL) {
        abort();
    }

    hex = host_hex((db_str_t) { PyUnicode_AsUTF8(repr),
                                strlen(PyUnicode_AsUTF8(repr)) });
    Py_DECREF(repr);

    host_event("{\"event\": \"call\", \"name\": \"%s\", \"result\": \"%s\", "
               "\"value\": \"%s\"}", call->name, results[result], hex);

    free(hex);
    free(call->name);
    free(call);
}


static void
host_call_prepare(host_call_t *call, char **words)
{
    PyObject    *module, *args, *arg;
    Py_ssize_t   i, n;

    module = PyImport_ImportModule(words[1]);
    if (module == NULL) {
        PyErr_Print();
        abort();
    }

    call->spawn.callable = PyObject_GetAttrString(module, words[2]);
    Py_DECREF(module);

    for (n = 0; words[n + 3]; n++) { /* void */ }

    args = n ? PyTuple_New(n) : NULL;

    for (i = 0; i < n; i++) {
        arg = PyLong_FromLong(atol(words[i + 3]));
        PyTuple_SET_ITEM(args, i, arg);
    }

    call->spawn.args = args;

    if (call->spawn.callable == NULL) {
        PyErr_Print();
        abort();
    }
}


void
host_call(host_t *host, char **words)
{
    host_call_t       *call;
    PyGILState_STATE   state;

    call = calloc(1, sizeof(host_call_t));
    if (call == NULL) {
        abort();
    }

    call->name = strdup(words[0]);
    call->spawn.msg.kind = DB_MSG_SPAWN;
    call->spawn.done = host_call_done;
    call->spawn.data = call;

    state = PyGILState_Ensure();
    host_call_prepare(call, words);
    PyGILState_Release(state);

    host_submit(host, &call->spawn.msg.node);
}
