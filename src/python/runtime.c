/*
 * The bridge as a source of PyLoop's work: takes messages in order, runs a
 * bounded number a turn, and gathers results so that nginx is woken once for
 * many.  Loop thread, GIL held.
 */

#include "python/runtime.h"


#define DB_PY_BATCH     64           /* messages a turn, results at once */
#define DB_PY_HOLD_MAX  1000000      /* ns that a result may be held back */


db_py_runtime_t  db_py;


void
db_py_publish(void)
{
    if (db_py.results.head) {
        db_bridge_publish(db_py.conf->bridge, &db_py.results);
    }
}


/* The first part that is more than a hint begins the response. */

static void
db_py_answered(db_part_t *part, uint64_t now)
{
    _Atomic uint64_t  *at;

    at = &part->job->answered_at;

    if (!(part->flags & DB_PART_HINT)
        && atomic_load_explicit(at, memory_order_relaxed) == 0)
    {
        atomic_store_explicit(at, now, memory_order_relaxed);
    }
}


/* The first answer does not wait for the last handler of a busy turn. */

void
db_py_append(db_msg_t *msg)
{
    uint64_t  now;

    now = db_clock_now();

    if (msg->kind == DB_MSG_PART) {
        db_py_answered((db_part_t *) msg, now);
    }

    if (db_py.results.head == NULL) {
        db_py.results_since = now;
    }

    db_chain_append(&db_py.results, &msg->node);

    if (db_py.results.length >= DB_PY_BATCH
        || now - db_py.results_since >= DB_PY_HOLD_MAX)
    {
        db_py_publish();
    }
}


/* A job whose last part could not be made stays until there is memory. */

void
db_py_owe(db_job_t *job)
{
    db_chain_append(&db_py.debts, &job->msg.node);
}


static void
db_py_pay(void)
{
    char        *strings;
    db_job_t    *job;
    db_part_t   *part;
    db_node_t   *node;

    while (db_py.debts.head) {
        node = db_py.debts.head;
        job = (db_job_t *) node;

        part = db_part_create(job, 0, 0, &strings);

        if (part == NULL) {
            return;
        }

        db_py.debts.head = node->next;

        if (db_py.debts.head == NULL) {
            db_chain_init(&db_py.debts);
        }

        part->flags = DB_PART_ABORT|DB_PART_DONE;
        db_py_append(&part->msg);
    }
}


static void
db_py_release(db_part_t *part)
{
    Py_DECREF((PyObject *) part->object);
    db_part_destroy(part);
}


static void
db_py_stop(PyObject *fast)
{
    PyObject  *result;

    if (db_py.stopping) {
        return;
    }

    db_py.stopping = 1;

    result = PyObject_CallOneArg(db_py.stop, fast);

    if (result == NULL) {
        db_py_log_exception("the shutdown could not be started");
    }

    Py_XDECREF(result);
}


/* Before anything is done for it. */

static void
db_py_take(db_job_t *job)
{
    uint64_t           now;
    db_metrics_row_t  *row;

    now = db_clock_now();
    row = db_py.conf->metrics;

    atomic_store_explicit(&job->taken_at, now, memory_order_relaxed);

    db_counter_add(&row->taken, 1);
    db_histogram_observe(&row->queue_wait, now - job->submitted_at);
}


static void
db_py_dispatch(db_msg_t *msg)
{
    db_notice_t  *notice;

    switch (msg->kind) {

    case DB_MSG_REQUEST:
        db_py_take((db_job_t *) msg);
        db_py_request((db_job_t *) msg);
        break;

    case DB_MSG_DISCONNECT:
        notice = (db_notice_t *) msg;
        db_py_request_disconnect(notice->job);
        db_job_release(notice->job);
        break;

    case DB_MSG_CANCEL:
        notice = (db_notice_t *) msg;
        db_py_request_cancel(notice->job);
        db_job_release(notice->job);
        break;

    case DB_MSG_BEGIN:
        notice = (db_notice_t *) msg;
        db_py_request_time_over(notice->job);
        db_job_release(notice->job);
        break;

    case DB_MSG_LEAVE:
        notice = (db_notice_t *) msg;
        db_py_request_leave(notice->job);
        db_job_release(notice->job);
        break;

    case DB_MSG_SENT:
        db_py_request_sent(((db_notice_t *) msg)->job);
        break;

    case DB_MSG_CHUNK:
        db_py_request_chunk((db_chunk_t *) msg);
        break;

    case DB_MSG_RELEASE:
        db_py_release((db_part_t *) msg);
        break;

    case DB_MSG_SPAWN:
        db_py_spawn((db_spawn_t *) msg);
        break;

    case DB_MSG_HOP:
        db_py_sync_done(msg);
        break;

    case DB_MSG_CRUD:
        db_py_resource_answer((db_python_call_t *) msg);
        break;

    case DB_MSG_STOP:
        db_py_stop(Py_False);
        break;

    case DB_MSG_HALT:
        db_py_stop(Py_True);
        break;

    default:
        /* the others go to nginx */
        break;
    }
}


/*
 * The lag of the loop: from one look at its queue to the next, but for the
 * time that it sleeps.  The start of the applications does not count.
 */

static void
db_py_turn(int ends)
{
    uint64_t  now;

    if (db_py.ready) {
        return;
    }

    now = db_clock_now();
    db_py.turns++;

    if (db_py.turn) {
        db_histogram_observe(&db_py.conf->metrics->loop_lag,
                             now - db_py.turn);
    }

    db_py.turn = ends ? 0 : now;
    db_counter_set(&db_py.conf->metrics->turn, db_py.turn);
}


/* The next message of this turn, which stays, or NULL. */

static db_msg_t *
db_py_peek(void)
{
    if (db_py.room == 0) {
        return NULL;
    }

    if (db_py.pending == NULL) {
        db_py.pending = db_bridge_requests(db_py.conf->bridge);
    }

    return db_py.pending;
}


/* It may be gone, or linked anew, once it was dispatched. */

static void
db_py_drop(void)
{
    db_py.room--;
    db_py.pending = (db_msg_t *) db_py.pending->node.next;
}


int
db_py_more_requests(void)
{
    db_msg_t  *msg;

    msg = db_py_peek();

    return msg && msg->kind == DB_MSG_REQUEST;
}


db_py_run_t *
db_py_next_request(void)
{
    db_job_t     *job;
    db_py_run_t  *run;

    run = NULL;

    while (run == NULL && db_py_more_requests()) {
        job = (db_job_t *) db_py.pending;

        db_py_drop();
        db_py_take(job);

        run = db_py_request_run(job);
    }

    return run;
}


static int
db_py_source_run(void *data)
{
    db_msg_t  *msg;

    db_py_turn(0);

    db_py.room = DB_PY_BATCH;

    while ((msg = db_py_peek())) {
        db_py_drop();
        db_py_dispatch(msg);
    }

    return db_py.room == 0;
}


static void
db_py_source_flush(void *data)
{
    db_py_pay();
    db_py_publish();
    db_py_sync_flush();
}


static int
db_py_source_sleep(void *data)
{
    if (db_py.pending || db_py.debts.head
        || !db_bridge_sleep(db_py.conf->bridge))
    {
        return 0;
    }

    db_py_turn(1);

    return 1;
}


static void
db_py_source_awake(void *data, int64_t waited)
{
    db_bridge_awake(db_py.conf->bridge);

    db_histogram_observe(&db_py.conf->metrics->gil_wait, (uint64_t) waited);
}


static const pyloop_api_t *
db_py_pyloop(void)
{
    PyObject            *module;
    const pyloop_api_t  *api;

    /* PyCapsule_Import() alone would import the package only */

    module = PyImport_ImportModule("databridge._pyloop");

    if (module == NULL) {
        return NULL;
    }

    Py_DECREF(module);

    api = PyCapsule_Import(PYLOOP_CAPSULE, 0);

    if (api && (api->version != PYLOOP_API_VERSION
                || api->size < sizeof(pyloop_api_t)))
    {
        PyErr_Format(PyExc_ImportError,
                     "the venv's databridge has PyLoop's interface %u, this "
                     "module needs %u: install the same version of both",
                     api->version, PYLOOP_API_VERSION);
        return NULL;
    }

    return api;
}


int
db_py_attach(PyObject *loop, PyObject *stop, PyObject *report)
{
    pyloop_source_t  source = {
        .fd = db_py.conf->bridge->python_fd,
        .run = db_py_source_run,
        .flush = db_py_source_flush,
        .sleep = db_py_source_sleep,
        .awake = db_py_source_awake,
    };

    if (db_py.loop) {
        PyErr_SetString(PyExc_RuntimeError, "a loop is attached already");
        return -1;
    }

    db_py.api = db_py_pyloop();

    if (db_py.api == NULL) {
        return -1;
    }

    db_py.create_future = PyObject_GetAttrString(loop, "create_future");

    if (db_py.create_future == NULL) {
        return -1;
    }

    db_py_sync_init();

    db_py.stop = Py_NewRef(stop);
    db_py.report = Py_NewRef(report);
    db_py.loop = Py_NewRef(loop);

    if (db_py_relay_init() == -1) {
        return -1;
    }

    return db_py.api->source_add(loop, &source);
}
