/*
 * Plans: the success path of FastAPI's routes, without FastAPI.  A plan is
 * made of databridge.plans.spec.Plan when the application starts and is
 * constant from then on.  Loop thread, GIL held, but for the steps of "def"
 * functions, which run in the threads of sync.c.
 *
 * plan.c and plan_spec.c read the specification, plan_fetch.c and
 * plan_values.c get parameters and body into slots, plan_run.c runs the
 * steps, plan_answer.c makes the response, json_text.c writes JSON, sync.c
 * has the threads.  plan_scope.c fetches for plans below the application's
 * own middleware, where Python does all the rest.
 */

#ifndef DB_PYTHON_PLAN_H
#define DB_PYTHON_PLAN_H

#include "core/db_arena.h"
#include "python/asgi_http.h"
#include "python/json_text.h"


#define DB_PY_ARGS_MAX   64          /* of a step */
#define DB_PY_SLOTS_MAX  256


/* As databridge.plans.spec has them. */

typedef enum {
    DB_PY_PATH,
    DB_PY_QUERY,
    DB_PY_HEADER,
    DB_PY_COOKIE,
    DB_PY_COMPUTED             /* not a Source: a Computed */
} db_py_source_t;

typedef enum {
    DB_PY_FAST_NOTHING,
    DB_PY_FAST_STR,
    DB_PY_FAST_INT
} db_py_fast_t;

typedef enum {
    DB_PY_PATH_STR,            /* "path" as well */
    DB_PY_PATH_INT,
    DB_PY_PATH_FLOAT,
    DB_PY_PATH_UUID
} db_py_convertor_t;

typedef enum {
    DB_PY_STEP_ASYNC,
    DB_PY_STEP_THREAD
} db_py_step_kind_t;

typedef enum {
    DB_PY_FORM_JSON,
    DB_PY_FORM_DUMP,
    DB_PY_FORM_FINISH
} db_py_form_t;


typedef struct {
    PyObject           *name;         /* str, borrowed as all that follow */
    db_py_convertor_t   convertor;
} db_py_path_t;

typedef struct {
    db_py_source_t      source;
    unsigned            many:1;
    db_py_fast_t        fast;
    Py_ssize_t          slot;
    unsigned            param;        /* of the path: its number */
    unsigned            nnames;
    db_str_t           *names;        /* bytes of the specification */
    PyObject           *validate;     /* of Computed: "compute" */
    PyObject           *fallback;     /* the default; NULL: required */
    PyObject           *factory;      /* or NULL */
} db_py_field_t;

typedef struct {
    unsigned            nnames;
    PyObject          **names;        /* str */
    Py_ssize_t          slot;
    PyObject           *validate;
    PyObject           *fallback;
    PyObject           *factory;
} db_py_body_field_t;

typedef struct {
    PyObject           *call;
    db_py_step_kind_t   kind;
    unsigned            nargs;
    PyObject           *names;        /* kwnames of a vectorcall */
    Py_ssize_t         *slots;
    Py_ssize_t          result;       /* a slot, or -1 */
} db_py_step_t;

typedef struct {
    unsigned            status;
    unsigned            bodiless:1;
    db_py_form_t        form;
    db_str_t            content_type;
    PyObject           *headers;      /* tuple of pairs, behind all others */
    PyObject           *validate;
    PyObject           *dump;
    PyObject           *dump_names;
    PyObject           *dump_values;
    PyObject           *finish;
    PyObject           *refuse;
    PyObject           *invalid;
} db_py_answer_t;

typedef struct db_py_plan_s  db_py_plan_t;

struct db_py_plan_s {
    db_plan_t           host;         /* first: what nginx knows of it */
    db_py_plan_t       *next;         /* of db_py.plans */
    db_arena_t         *arena;        /* of the plan and its arrays */
    PyObject           *spec;         /* owned: all PyObjects live in it */

    Py_ssize_t          nslots;
    unsigned            npath;
    db_py_path_t       *path;

    unsigned            nfields;
    db_py_field_t      *fields;

    unsigned            nbody;        /* 0: no body is read */
    db_py_body_field_t *body;
    unsigned            embedded:1;
    unsigned            strict:1;
    PyObject           *parse;

    Py_ssize_t          request;      /* slots, or -1 */
    Py_ssize_t          response;
    Py_ssize_t          background;
    PyObject           *make_request;
    PyObject           *make_response;
    PyObject           *make_background;

    unsigned            nsteps;
    db_py_step_t       *steps;
    db_py_answer_t      answer;
    PyObject           *script;       /* or NULL */
    PyObject           *route;
    PyObject           *endpoint;
};


/*
 * A request that runs a plan: an ASGI request as well, which it becomes when
 * the plan cannot take it, when user code raises, or when "finish" answers.
 */

typedef enum {
    DB_PY_RUN_FETCH,           /* nothing of the user's has run */
    DB_PY_RUN_STEPS,
    DB_PY_RUN_FINISH,          /* "finish" makes the response */
    DB_PY_RUN_SEND,            /* the response is called, or the script runs */
    DB_PY_RUN_APP              /* the application has it */
} db_py_phase_t;

typedef struct {
    db_py_request_t     request;      /* first */
    const db_py_plan_t *plan;
    db_py_phase_t       phase;
    unsigned            step;         /* the next one */
    PyObject           *scope;        /* NULL until somebody asks */
    PyObject           *asked;        /* the Request made of it, or NULL */
    PyObject           *slots[];      /* plan->nslots, owned, or NULL; all
                                         are NULL once the run has ended */
} db_py_plan_run_t;


/*
 * What the slots are filled of: a run's job, or the scope and the Request
 * that the application's middleware has let through.
 */

typedef struct {
    const db_py_plan_t  *plan;
    PyObject           **slots;
    db_str_t             query;
    db_str_t             body;
    unsigned             nheaders;
    const db_header_t   *headers;

    db_py_plan_run_t    *run;          /* makes the Request; NULL: */
    PyObject            *request;      /* it is there, */
    PyObject            *path_params;  /* and so are these, in a dict */
} db_py_input_t;


/*
 * plan.c: NULL with an exception set that names what is wrong.  Those of
 * db_py.plans live as long as the process.
 */
db_py_plan_t *db_py_plan_create(PyObject *spec);
void db_py_plan_destroy(db_py_plan_t *plan);

/*
 * plan_fetch.c: fills the slots of parameters and body.  1: all
 * are there; 0: the request is the application's; no exception is set.
 */
int db_py_plan_fetch(db_py_plan_run_t *run);
int db_py_plan_fetch_input(const db_py_input_t *input);

/* The path's parameters by their names, converted; NULL with an exception. */
PyObject *db_py_plan_path_params(const db_py_plan_run_t *run);

/*
 * validate(value, from_attributes=True), or the value itself when validate is
 * NULL: a new reference, or NULL with an exception.
 */
PyObject *db_py_plan_validate(PyObject *validate, PyObject *value);

/*
 * plan_run.c: the Request, made when first asked for, as its scope is; it is
 * borrowed, or NULL with an exception.
 */
PyObject *db_py_plan_asked(db_py_plan_run_t *run);

/* The request of a job with a plan; NULL with an exception. */
db_py_request_t *db_py_plan_run_new(const db_py_plan_t *plan);

/* Whether the plans of the application hold, asked once a turn. */
int db_py_plan_open(db_py_app_t *app);

/*
 * plan_answer.c: hands the response of a result to the request.  1: done;
 * 0: it is "finish" that answers, nothing was handed out and no exception is
 * set; -1: the exception is what FastAPI raises.  A result may be any object.
 * init() looks at Starlette first: 0, or -1 with an exception.
 */
int db_py_answer_init(void);
int db_py_plan_answer(db_py_plan_run_t *run, PyObject *result);

/* The same of what a step has raised; 0: the application answers. */
int db_py_plan_refuse(db_py_plan_run_t *run, PyObject *exception);

/*
 * sync.c: runs "n" neighbouring steps of kind THREAD in one of the threads
 * of "def" functions, each in a copy of the current context.  Returns an
 * awaitable of None, or NULL with an exception set; when it is done the
 * slots of the results are filled, or it raises what a step has raised.
 * Until then the hop owns a reference to the run.  An awaitable that is
 * cancelled keeps the steps that have not begun from it.
 */
PyObject *db_py_sync_steps(db_py_plan_run_t *run, unsigned first, unsigned n);

#endif /* DB_PYTHON_PLAN_H */
