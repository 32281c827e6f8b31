/*
 * A call of a Python callable on behalf of another thread: db_spawn_t.  The
 * callable runs in a Task of its own; when it returns a coroutine, the Task
 * runs that too.  Loop thread, GIL held.
 */

#include "python/runtime.h"


typedef struct {
    db_py_run_t    run;
    db_spawn_t    *spawn;       /* NULL once it is done */
} db_py_spawn_t;


static PyObject *db_py_spawn_begin(db_py_run_t *run, int *ended);
static void db_py_spawn_pause(db_py_run_t *run);
static void db_py_spawn_end(db_py_run_t *run, PyObject *result);


static const db_py_run_ops_t  db_py_spawn_ops = {
    db_py_spawn_begin,
    NULL,
    db_py_spawn_pause,
    db_py_spawn_end
};


static PyType_Slot  db_py_spawn_slots[] = {
    DB_PY_RUN_SLOTS(db_py_run_dealloc)
};

PyType_Spec  db_py_spawn_spec = {
    .name = "_databridge.Spawn",
    .basicsize = sizeof(db_py_spawn_t),
    .flags = Py_TPFLAGS_DEFAULT|Py_TPFLAGS_DISALLOW_INSTANTIATION
             |Py_TPFLAGS_IMMUTABLETYPE,
    .slots = db_py_spawn_slots
};


static void
db_py_spawn_done(db_spawn_t *spawn, db_spawn_result_t result, PyObject *value)
{
    PyObject  *callable, *args;

    callable = spawn->callable;
    args = spawn->args;

    spawn->run = NULL;
    spawn->callable = NULL;
    spawn->args = NULL;

    /* the struct is the caller's from here on */

    spawn->done(spawn, result, value);

    Py_XDECREF(callable);
    Py_XDECREF(args);
}


static void
db_py_spawn_raised(db_spawn_t *spawn)
{
    PyObject           *exception;
    db_spawn_result_t   result;

    result = PyErr_ExceptionMatches(db_py.cancelled_error)
                 ? DB_SPAWN_CANCELLED : DB_SPAWN_RAISED;

    exception = db_py_exception();
    db_py_spawn_done(spawn, result, exception);
    Py_XDECREF(exception);
}


void
db_py_spawn(db_spawn_t *spawn)
{
    db_py_spawn_t  *run;

    run = NULL;

    if (db_py.stopping) {
        PyErr_SetNone(db_py.cancelled_error);

    } else {
        run = db_py_run_new(db_py.spawn_type, &db_py_spawn_ops,
                            sizeof(db_py_spawn_t));
    }

    if (run == NULL) {
        db_py_spawn_raised(spawn);
        return;
    }

    run->spawn = spawn;
    spawn->run = run;

    db_py_run_start(&run->run);

    Py_DECREF(run);
}


static PyObject *
db_py_spawn_begin(db_py_run_t *run, int *ended)
{
    PyObject    *result;
    db_spawn_t  *spawn;

    spawn = ((db_py_spawn_t *) run)->spawn;

    result = PyObject_Call(spawn->callable,
                           spawn->args ? spawn->args : db_py.empty, NULL);

    *ended = result == NULL || !PyCoro_CheckExact(result);

    return result;
}


static void
db_py_spawn_pause(db_py_run_t *run)
{
    /* nothing is held back */
}


static void
db_py_spawn_end(db_py_run_t *run, PyObject *result)
{
    db_spawn_t     *spawn;
    db_py_spawn_t  *self;

    self = (db_py_spawn_t *) run;
    spawn = self->spawn;
    self->spawn = NULL;

    if (result) {
        db_py_spawn_done(spawn, DB_SPAWN_RETURNED, result);

    } else {
        db_py_spawn_raised(spawn);
    }
}
