/*
 * The life of a request with a plan: all is fetched and validated, then the
 * steps are called and awaited one after the other, in the request's one
 * Task, then the result is answered.  Whenever the plan cannot go on it
 * becomes an ordinary request of the application: before the first step as
 * if nothing had been tried, later with the exception that was raised in its
 * scope.  Loop thread, GIL held.
 */

#include "python/plan.h"


static PyObject *db_py_plan_begin(db_py_run_t *self, int *ended);
static PyObject *db_py_plan_follow(db_py_run_t *self, PyObject *result,
    int *ended);
static void db_py_plan_end(db_py_run_t *self, PyObject *result);


static const db_py_run_ops_t  db_py_plan_run_ops = {
    db_py_plan_begin,
    db_py_plan_follow,
    db_py_request_pause,
    db_py_plan_end
};

static PyType_Slot  db_py_plan_slots[] = {
    DB_PY_RUN_SLOTS(db_py_request_dealloc)
};

PyType_Spec  db_py_plan_spec = {
    .name = "_databridge.PlannedRequest",
    .basicsize = sizeof(db_py_plan_run_t),
    .flags = Py_TPFLAGS_DEFAULT|Py_TPFLAGS_DISALLOW_INSTANTIATION
             |Py_TPFLAGS_IMMUTABLETYPE,
    .slots = db_py_plan_slots
};


int
db_py_plan_open(db_py_app_t *app)
{
    int        open;
    PyObject  *result;

    if (app->gate == NULL) {
        return 1;
    }

    if (app->gate_turn == db_py.turns) {
        return app->open;
    }

    result = PyObject_CallNoArgs(app->gate);
    open = result ? PyObject_IsTrue(result) : -1;
    Py_XDECREF(result);

    if (open == -1) {
        db_py_log_exception("the gate of an application's plans failed");
    }

    app->gate_turn = db_py.turns;
    app->open = open == 1;

    return app->open;
}


db_py_request_t *
db_py_plan_run_new(const db_py_plan_t *plan)
{
    db_py_plan_run_t  *run;

    run = db_py_run_new(db_py.plan_type, &db_py_plan_run_ops,
                        sizeof(db_py_plan_run_t)
                        + plan->nslots * sizeof(PyObject *));

    if (run == NULL) {
        return NULL;
    }

    run->request.ops = &db_py_request_op_ops;
    run->plan = plan;

    return &run->request;
}


static void
db_py_plan_clear(db_py_plan_run_t *run)
{
    Py_ssize_t  i;

    for (i = 0; i < run->plan->nslots; i++) {
        Py_CLEAR(run->slots[i]);
    }

    Py_CLEAR(run->asked);
    Py_CLEAR(run->scope);
}


/* With what a router adds to it when a route matches. */

static PyObject *
db_py_plan_scope(const db_py_plan_run_t *run)
{
    PyObject  *scope, *params;

    scope = db_py_scope(run->request.app, run->request.job);

    if (scope == NULL) {
        return NULL;
    }

    params = db_py_plan_path_params(run);

    if (params == NULL
        || PyDict_SetItem(scope, db_py.str.endpoint, run->plan->endpoint)
           == -1
        || PyDict_SetItem(scope, db_py.str.path_params, params) == -1
        || PyDict_SetItem(scope, db_py.str.route, run->plan->route) == -1)
    {
        Py_CLEAR(scope);
    }

    Py_XDECREF(params);

    return scope;
}


PyObject *
db_py_plan_asked(db_py_plan_run_t *run)
{
    if (run->asked) {
        return run->asked;
    }

    if (run->scope == NULL) {
        run->scope = db_py_plan_scope(run);
    }

    if (run->scope) {
        run->asked = db_py_request_call(&run->request,
                                        run->plan->make_request, run->scope,
                                        NULL, 0);
    }

    return run->asked;
}


/* The slots as Python may see them; an empty one is None. */

static PyObject *
db_py_plan_values(const db_py_plan_run_t *run)
{
    PyObject    *values, *value;
    Py_ssize_t   i;

    values = PyTuple_New(run->plan->nslots);

    if (values == NULL) {
        return NULL;
    }

    for (i = 0; i < run->plan->nslots; i++) {
        value = run->slots[i] ? run->slots[i] : Py_None;
        PyTuple_SET_ITEM(values, i, Py_NewRef(value));
    }

    return values;
}


static PyObject *
db_py_plan_script(db_py_plan_run_t *run)
{
    PyObject  *more[2], *result;

    run->phase = DB_PY_RUN_SEND;

    more[0] = db_py_plan_asked(run);

    if (more[0] == NULL) {
        return NULL;
    }

    more[1] = db_py_plan_values(run);

    if (more[1] == NULL) {
        return NULL;
    }

    result = db_py_request_call(&run->request, run->plan->script, run->scope,
                                more, 2);
    Py_DECREF(more[1]);

    return result;
}


static PyObject *
db_py_plan_call(const db_py_plan_run_t *run, const db_py_step_t *step)
{
    unsigned   i;
    PyObject  *args[1 + DB_PY_ARGS_MAX];

    args[0] = NULL;

    for (i = 0; i < step->nargs; i++) {
        args[1 + i] = run->slots[step->slots[i]];
    }

    return PyObject_Vectorcall(step->call, &args[1],
                               PY_VECTORCALL_ARGUMENTS_OFFSET, step->names);
}


/* Of a result that only FastAPI knows how to send: finish() knows FastAPI. */

static PyObject *
db_py_plan_finish(db_py_plan_run_t *run, PyObject *result)
{
    PyObject  *values, *awaitable;

    run->phase = DB_PY_RUN_FINISH;

    values = db_py_plan_values(run);

    if (values == NULL) {
        return NULL;
    }

    awaitable = PyObject_CallFunctionObjArgs(run->plan->answer.finish, result,
                                             values, NULL);
    Py_DECREF(values);

    return awaitable;
}


static PyObject *
db_py_plan_send(db_py_plan_run_t *run, PyObject *response)
{
    run->phase = DB_PY_RUN_SEND;

    /* which completes the scope */

    if (db_py_plan_asked(run) == NULL) {
        return NULL;
    }

    return db_py_request_call(&run->request, response, run->scope, NULL, 0);
}


/* What comes next: as of db_py_run_ops_t. */

static PyObject *
db_py_plan_next(db_py_plan_run_t *run, int *ended)
{
    unsigned             first;
    PyObject            *result;
    const db_py_plan_t  *plan;

    plan = run->plan;
    first = run->step;

    if (first == plan->nsteps) {
        result = run->slots[plan->steps[first - 1].result];

        switch (db_py_plan_answer(run, result)) {

        case 1:
            *ended = 1;
            return Py_NewRef(Py_None);

        case 0:
            return db_py_plan_finish(run, result);

        default:
            return NULL;
        }
    }

    do {
        run->step++;
    } while (plan->steps[first].kind == DB_PY_STEP_THREAD
             && run->step < plan->nsteps
             && plan->steps[run->step].kind == DB_PY_STEP_THREAD);

    if (plan->steps[first].kind == DB_PY_STEP_THREAD) {
        return db_py_sync_steps(run, first, run->step - first);
    }

    return db_py_plan_call(run, &plan->steps[first]);
}


static PyObject *
db_py_plan_begin(db_py_run_t *self, int *ended)
{
    db_py_plan_run_t  *run;

    run = (db_py_plan_run_t *) self;

    if (!db_py_plan_fetch(run)) {
        db_py_plan_clear(run);
        run->phase = DB_PY_RUN_APP;

        return db_py_request_begin(self, ended);
    }

    if (run->plan->script) {
        return db_py_plan_script(run);
    }

    run->phase = DB_PY_RUN_STEPS;

    return db_py_plan_next(run, ended);
}


/* The application gets the exception, and all of the request once more. */

static PyObject *
db_py_plan_raise(db_py_plan_run_t *run, PyObject *exception)
{
    int               rc;
    PyObject         *scope, *awaitable;
    db_py_request_t  *request;

    request = &run->request;
    run->phase = DB_PY_RUN_APP;

    scope = run->scope ? Py_NewRef(run->scope)
                       : db_py_scope(request->app, request->job);

    rc = scope ? PyDict_SetItem(scope, db_py.str.raise, exception) : -1;
    awaitable = NULL;

    if (rc == 0) {
        request->read = 0;
        request->body_read = 0;

        awaitable = db_py_request_call(request, request->app->call, scope,
                                       NULL, 0);
    }

    Py_XDECREF(scope);

    return awaitable;
}


/* Whether the exception is one that the application may handle. */

static int
db_py_plan_handled(const db_py_plan_run_t *run)
{
    return (run->phase == DB_PY_RUN_STEPS || run->phase == DB_PY_RUN_FINISH
            || (run->phase == DB_PY_RUN_SEND && !run->request.start))
           && !PyErr_ExceptionMatches(db_py.cancelled_error)
           && !PyErr_ExceptionMatches(PyExc_GeneratorExit);
}


/* What was raised is answered at once, or is the application's. */

static PyObject *
db_py_plan_raised(db_py_plan_run_t *run, int *ended)
{
    PyObject  *exception, *next;

    exception = db_py_exception();

    if (db_py_plan_refuse(run, exception)) {
        *ended = 1;
        next = Py_NewRef(Py_None);

    } else {
        next = db_py_plan_raise(run, exception);
    }

    Py_DECREF(exception);

    return next;
}


static PyObject *
db_py_plan_follow(db_py_run_t *self, PyObject *result, int *ended)
{
    db_py_step_t      *step;
    db_py_plan_run_t  *run;

    run = (db_py_plan_run_t *) self;

    if (result == NULL && db_py_plan_handled(run)) {
        return db_py_plan_raised(run, ended);
    }

    if (result == NULL) {
        *ended = 1;
        return NULL;
    }

    switch (run->phase) {

    case DB_PY_RUN_STEPS:
        step = &run->plan->steps[run->step - 1];

        if (step->kind == DB_PY_STEP_ASYNC && step->result >= 0) {
            Py_XSETREF(run->slots[step->result], Py_NewRef(result));
        }

        return db_py_plan_next(run, ended);

    case DB_PY_RUN_FINISH:
        return db_py_plan_send(run, result);

    case DB_PY_RUN_SEND:
        *ended = 1;
        return Py_NewRef(Py_None);

    default:
        *ended = 1;
        return Py_NewRef(result);
    }
}


static void
db_py_plan_end(db_py_run_t *self, PyObject *result)
{
    db_py_request_end(self, result);
    db_py_plan_clear((db_py_plan_run_t *) self);
}
