/*
 * The threads of "def" functions.  A hop takes neighbouring steps of one
 * request there and back: the loop thread makes it, a thread runs its steps
 * and fills the slots of the run, the loop thread completes the future that
 * the request waits for.  All state here is guarded by the GIL, which each
 * thread holds but while it waits for work and while its steps let go of it.
 *
 * Waking costs more than most steps take.  So the loop wakes one thread at
 * the end of a turn, when it is about to let the GIL go, and that one runs
 * hop after hop.  Whether a step blocks is not known before: a thread that
 * leaves hops behind has the next one woken first, unless one is on its way
 * already.  That one gets the GIL when a step lets go of it, or finds the
 * work done.  Hops go back as messages of the bridge, which wakes the loop
 * only when it sleeps.
 */

#include "python/plan.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>


#define DB_PY_SYNC_THREADS   40          /* unless it is said otherwise */
#define DB_PY_SYNC_PATIENCE  1000000     /* ns that a hop waits for the turn */


/* The loop thread's, but from being taken off the queue to the way back. */

typedef struct {
    db_msg_t           msg;              /* first: DB_MSG_HOP */
    db_py_plan_run_t  *run;              /* owned, as all that follow; NULL: */
    PyObject          *call;             /* it is this that is called */
    PyObject          *result;           /* of the call, or NULL */
    PyObject          *future;
    PyObject          *exception;        /* that a step has raised, or NULL */
    unsigned           first;
    unsigned           n;
    PyObject          *contexts[];       /* one a step */
} db_py_hop_t;


static struct {
    db_chain_t   queue;                  /* of hops that no thread has taken */
    uint64_t     since;                  /* ns, when it was empty last */
    sem_t        work;                   /* raised once for each woken thread */
    unsigned     limit;
    unsigned     threads;
    unsigned     idle;                   /* that wait, and are not woken */
    unsigned     busy;                   /* that run steps */
    unsigned     waking:1;               /* one is on its way to the GIL */
    PyObject    *start;                  /* start(loop): another thread */
} db_py_sync;


static void db_py_sync_wake(void);


void
db_py_sync_init(void)
{
    db_chain_init(&db_py_sync.queue);
    (void) sem_init(&db_py_sync.work, 0, 0);

    db_py_sync.limit = db_py.conf->sync_threads ? db_py.conf->sync_threads
                                                : DB_PY_SYNC_THREADS;
}


void
db_py_sync_limit(unsigned threads)
{
    db_py_sync.limit = threads;
}


void
db_py_sync_use(unsigned *busy, unsigned *waiting)
{
    *busy = db_py_sync.busy;
    *waiting = db_py_sync.queue.length;
}


static void
db_py_hop_destroy(db_py_hop_t *hop)
{
    unsigned  i;

    for (i = 0; i < hop->n; i++) {
        Py_XDECREF(hop->contexts[i]);
    }

    Py_XDECREF(hop->exception);
    Py_XDECREF(hop->future);
    Py_XDECREF(hop->result);
    Py_XDECREF(hop->call);
    Py_XDECREF(hop->run);

    free(hop);
}


/*
 * Of n contexts: of so many steps of a run, or of one call.  The future is
 * the one that is told of its end, NULL: a new one.
 */

static db_py_hop_t *
db_py_hop_create(db_py_plan_run_t *run, PyObject *call, PyObject *future,
    unsigned n)
{
    unsigned      i;
    db_py_hop_t  *hop;

    hop = calloc(1, sizeof(db_py_hop_t) + n * sizeof(PyObject *));

    if (hop == NULL) {
        PyErr_NoMemory();
        return NULL;
    }

    hop->msg.kind = DB_MSG_HOP;
    hop->run = (db_py_plan_run_t *) Py_XNewRef(run);
    hop->call = Py_XNewRef(call);
    hop->n = n;

    hop->future = future ? Py_NewRef(future)
                         : PyObject_CallNoArgs(db_py.create_future);

    for (i = 0; hop->future && i < n; i++) {
        hop->contexts[i] = PyContext_CopyCurrent();

        if (hop->contexts[i] == NULL) {
            break;
        }
    }

    if (PyErr_Occurred()) {
        db_py_hop_destroy(hop);
        return NULL;
    }

    return hop;
}


static db_py_hop_t *
db_py_sync_take(void)
{
    db_node_t   *node;
    db_chain_t  *queue;

    queue = &db_py_sync.queue;
    node = queue->head;

    if (node == NULL) {
        return NULL;
    }

    queue->head = node->next;
    queue->length--;

    if (queue->head == NULL) {
        db_chain_init(queue);
    }

    return (db_py_hop_t *) node;
}


/* A new reference to what is done when the hop is. */

static PyObject *
db_py_sync_queue(db_py_hop_t *hop)
{
    uint64_t   now;
    PyObject  *future;

    future = Py_NewRef(hop->future);
    now = db_clock_now();

    if (db_py_sync.queue.head == NULL) {
        db_py_sync.since = now;
    }

    db_chain_append(&db_py_sync.queue, &hop->msg.node);

    if (now - db_py_sync.since >= DB_PY_SYNC_PATIENCE) {
        db_py_sync_wake();
    }

    return future;
}


PyObject *
db_py_sync_steps(db_py_plan_run_t *run, unsigned first, unsigned n)
{
    db_py_hop_t  *hop;

    hop = db_py_hop_create(run, NULL, NULL, n);

    if (hop == NULL) {
        return NULL;
    }

    hop->first = first;

    return db_py_sync_queue(hop);
}


PyObject *
db_py_sync_in_thread(PyObject *call, int urgent)
{
    db_py_hop_t  *hop;

    if (urgent && db_py_sync.busy + db_py_sync.queue.length
                  >= db_py_sync.limit)
    {
        Py_RETURN_NONE;
    }

    hop = db_py_hop_create(NULL, call, NULL, 1);

    return hop ? db_py_sync_queue(hop) : NULL;
}


int
db_py_sync_tell(PyObject *future)
{
    db_chain_t    done;
    db_py_hop_t  *hop;

    hop = db_py_hop_create(NULL, NULL, future, 0);

    if (hop == NULL) {
        return -1;
    }

    db_chain_init(&done);
    db_chain_append(&done, &hop->msg.node);

    db_bridge_submit(db_py.conf->bridge, &done);

    return 0;
}


void
db_py_sync_flush(void)
{
    if (db_py_sync.queue.head) {
        db_py_sync_wake();
    }
}


void
db_py_sync_done(db_msg_t *msg)
{
    PyObject     *result;
    db_py_hop_t  *hop;

    hop = (db_py_hop_t *) msg;

    /* who waited may have been cancelled */

    result = PyObject_CallMethodNoArgs(hop->future, db_py.str.done);

    if (result == Py_False && hop->exception) {
        Py_SETREF(result, PyObject_CallMethodOneArg(hop->future,
                                                    db_py.str.set_exception,
                                                    hop->exception));

    } else if (result == Py_False) {
        Py_SETREF(result, PyObject_CallMethodOneArg(hop->future,
                                                    db_py.str.set_result,
                                                    hop->result ? hop->result
                                                                : Py_None));
    }

    if (result == NULL) {
        db_py_log_exception("a request could not be told that its thread "
                            "has ended");
    }

    Py_XDECREF(result);

    db_py_hop_destroy(hop);
}


/* Without any thread nobody would run what waits. */

void
db_py_sync_lost(PyObject *exception)
{
    db_py_hop_t  *hop;

    db_py_sync.waking = 0;
    db_py_sync.threads--;

    if (db_py_sync.threads) {

        /* no other is tried until the limit is set again */

        db_py_sync.limit = db_py_sync.threads;

        PyErr_SetObject((PyObject *) Py_TYPE(exception), exception);
        db_py_log_exception("a thread for \"def\" functions could not be "
                            "started");
        return;
    }

    for (hop = db_py_sync_take(); hop; hop = db_py_sync_take()) {
        hop->exception = Py_NewRef(exception);
        db_py_sync_done(&hop->msg);
    }
}


/* Has Python make a thread, of which serve() or lost() will be heard. */

static int
db_py_sync_start(void)
{
    PyObject  *module, *result;

    if (db_py_sync.start == NULL) {
        module = PyImport_ImportModule("databridge.threads");

        if (module) {
            db_py_sync.start = PyObject_GetAttrString(module, "start");
            Py_DECREF(module);
        }
    }

    result = db_py_sync.start
             ? PyObject_CallOneArg(db_py_sync.start, db_py.loop) : NULL;

    Py_XDECREF(result);

    return result ? 0 : -1;
}


/* One more thread for what waits, unless one is coming or none may. */

static void
db_py_sync_wake(void)
{
    PyObject  *exception;

    if (db_py_sync.waking) {
        return;
    }

    if (db_py_sync.idle) {
        db_py_sync.idle--;
        db_py_sync.waking = 1;
        (void) sem_post(&db_py_sync.work);

        return;
    }

    if (db_py_sync.threads >= db_py_sync.limit) {
        return;
    }

    db_py_sync.threads++;
    db_py_sync.waking = 1;

    if (db_py_sync_start() == -1) {
        exception = db_py_exception();
        db_py_sync_lost(exception);
        Py_DECREF(exception);
    }
}


/*
 * The loop may take the slots back while the step runs, when nobody waits for
 * it any more: it has references of its own.
 */

static PyObject *
db_py_sync_call(const db_py_plan_run_t *run, const db_py_step_t *step)
{
    unsigned   i;
    PyObject  *result, *args[1 + DB_PY_ARGS_MAX];

    for (i = 0; i < step->nargs; i++) {
        args[1 + i] = Py_NewRef(run->slots[step->slots[i]]);
    }

    result = PyObject_Vectorcall(step->call, &args[1],
                                 PY_VECTORCALL_ARGUMENTS_OFFSET, step->names);

    for (i = 0; i < step->nargs; i++) {
        Py_DECREF(args[1 + i]);
    }

    return result;
}


static PyObject *
db_py_sync_step(const db_py_plan_run_t *run, const db_py_step_t *step,
    PyObject *context)
{
    PyObject  *result;

    if (PyContext_Enter(context) == -1) {
        return NULL;
    }

    result = db_py_sync_call(run, step);

    if (PyContext_Exit(context) == -1) {
        Py_CLEAR(result);
    }

    return result;
}


/* A future takes no StopIteration: anyio's words. */

static PyObject *
db_py_sync_exception(void)
{
    PyObject  *exception, *instead;

    exception = db_py_exception();

    if (exception == NULL
        || !PyErr_GivenExceptionMatches(exception, PyExc_StopIteration))
    {
        return exception;
    }

    instead = PyObject_CallFunction(PyExc_RuntimeError, "s",
                                    "coroutine raised StopIteration");
    if (instead == NULL) {
        Py_DECREF(exception);
        return db_py_exception();
    }

    PyException_SetCause(instead, exception);

    return instead;
}


static void
db_py_sync_run_call(db_py_hop_t *hop)
{
    if (PyContext_Enter(hop->contexts[0]) == 0) {
        hop->result = PyObject_CallNoArgs(hop->call);

        if (PyContext_Exit(hop->contexts[0]) == -1) {
            Py_CLEAR(hop->result);
        }
    }

    if (hop->result == NULL) {
        hop->exception = db_py_sync_exception();
    }
}


static void
db_py_sync_run_steps(db_py_hop_t *hop)
{
    unsigned             i;
    PyObject            *result;
    const db_py_step_t  *step;
    db_py_plan_run_t    *run;

    run = hop->run;

    for (i = 0; i < hop->n; i++) {

        if (run->request.run.ended) {
            return;
        }

        step = &run->plan->steps[hop->first + i];
        result = db_py_sync_step(run, step, hop->contexts[i]);

        if (result == NULL) {
            hop->exception = db_py_sync_exception();
            return;
        }

        if (step->result < 0 || run->request.run.ended) {
            Py_DECREF(result);

        } else {
            Py_XSETREF(run->slots[step->result], result);
        }
    }
}


/* Until there is work again; what was done goes back without the GIL. */

static void
db_py_sync_wait(db_chain_t *done)
{
    PyThreadState  *state;

    db_py_sync.idle++;

    state = PyEval_SaveThread();

    db_bridge_submit(db_py.conf->bridge, done);

    while (sem_wait(&db_py_sync.work) == -1 && errno == EINTR) {
        /* again */
    }

    PyEval_RestoreThread(state);

    db_py_sync.waking = 0;
}


void
db_py_sync_serve(void)
{
    db_chain_t    done;
    db_py_hop_t  *hop;

    db_chain_init(&done);
    db_py_sync.waking = 0;

    for ( ;; ) {
        hop = db_py_sync_take();

        if (hop == NULL) {
            db_py_sync_wait(&done);
            continue;
        }

        /* the next step may take its time */

        db_bridge_submit(db_py.conf->bridge, &done);

        if (db_py_sync.queue.head) {
            db_py_sync_wake();
        }

        db_py_sync.busy++;

        if (hop->call) {
            db_py_sync_run_call(hop);

        } else {
            db_py_sync_run_steps(hop);
        }

        db_py_sync.busy--;

        db_chain_append(&done, &hop->msg.node);
    }
}
