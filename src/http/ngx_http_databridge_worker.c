/*
 * The worker: its stores, its Python, and what comes from either.
 *
 * One connection watches the eventfd through which Python and the writers
 * wake the nginx thread; what the requests of an event cycle have for Python
 * is gathered and handed over when the cycle ends.
 */

#include "http/ngx_http_databridge.h"

#include <malloc.h>


#define NGX_HTTP_DATABRIDGE_ERROR_LEN  512
#define NGX_HTTP_DATABRIDGE_BATCH      128     /* results a turn */
#define NGX_HTTP_DATABRIDGE_SLICE      100000  /* ns, the least there is */

#define NGX_HTTP_DATABRIDGE_KEEP       (16 * 1024 * 1024)


static ngx_int_t ngx_http_databridge_worker_create(ngx_cycle_t *cycle,
    ngx_http_databridge_main_conf_t *dmcf);
static ngx_int_t ngx_http_databridge_open_wake(
    ngx_http_databridge_worker_t *worker);
static ngx_connection_t *ngx_http_databridge_watch_fd(ngx_cycle_t *cycle,
    ngx_fd_t fd, ngx_event_handler_pt handler, void *data);
static void ngx_http_databridge_watch_store(ngx_cycle_t *cycle,
    ngx_http_databridge_store_t *store);
static void ngx_http_databridge_store_event(ngx_event_t *rev);
static void ngx_http_databridge_prepare(ngx_http_databridge_worker_t *worker);
static void ngx_http_databridge_start(ngx_http_databridge_worker_t *worker);
static ngx_int_t ngx_http_databridge_python_conf(
    ngx_http_databridge_worker_t *worker);
static void ngx_http_databridge_loop_thread(void *data, ngx_log_t *log);
static void ngx_http_databridge_loop_ended(ngx_event_t *ev);
static void ngx_http_databridge_python_log(void *ctx, db_pylog_level_t level,
    const char *text, size_t len);
static void ngx_http_databridge_store_log(void *ctx, db_log_level_t level,
    const char *text);
static void ngx_http_databridge_forked(void *ctx);
static void ngx_http_databridge_flush(ngx_event_t *ev);
static void ngx_http_databridge_wake(ngx_event_t *rev);
static void ngx_http_databridge_more(ngx_event_t *ev);
static void ngx_http_databridge_results(ngx_http_databridge_worker_t *worker);
static void ngx_http_databridge_result(ngx_http_databridge_worker_t *worker,
    db_msg_t *msg);
static void ngx_http_databridge_ready(ngx_http_databridge_worker_t *worker,
    db_ready_t *ready);


ngx_http_databridge_worker_t  *ngx_http_databridge_worker;


ngx_int_t
ngx_http_databridge_worker_init(ngx_cycle_t *cycle)
{
    ngx_http_databridge_main_conf_t  *dmcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    dmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_databridge_module);

    if (dmcf == NULL || (dmcf->apps.nelts == 0 && dmcf->cruds.nelts == 0)) {
        return NGX_OK;
    }

    return ngx_http_databridge_worker_create(cycle, dmcf);
}


static ngx_int_t
ngx_http_databridge_worker_create(ngx_cycle_t *cycle,
    ngx_http_databridge_main_conf_t *dmcf)
{
    sigset_t                       set;
    ngx_http_databridge_worker_t  *worker;

    worker = ngx_pcalloc(cycle->pool, sizeof(ngx_http_databridge_worker_t));
    if (worker == NULL) {
        return NGX_ERROR;
    }

    worker->cycle = cycle;
    worker->conf = dmcf;

    ngx_queue_init(&worker->waiting);
    ngx_queue_init(&worker->running);
    ngx_queue_init(&worker->outputs);
    db_chain_init(&worker->submit);
    db_queue_init(&worker->written);

    if (ngx_array_init(&worker->timeouts, cycle->pool, 4,
                       sizeof(ngx_http_databridge_timeout_t *))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    worker->flush.handler = ngx_http_databridge_flush;
    worker->flush.data = worker;
    worker->flush.log = cycle->log;

    worker->more.handler = ngx_http_databridge_more;
    worker->more.data = worker;
    worker->more.log = cycle->log;

    /*
     * The worker has no children of its own, while Python's are reaped by
     * their pidfd: nginx's SIGCHLD handler would take their status.
     */

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);

    if (sigprocmask(SIG_BLOCK, &set, NULL) == -1) {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, ngx_errno,
                      "sigprocmask() failed");
        return NGX_ERROR;
    }

    /* a write beyond RLIMIT_FSIZE is an error, as in Python, not the end */

    (void) signal(SIGXFSZ, SIG_IGN);

    /*
     * What a stream has in flight is freed at once and asked for again: of
     * pages that went back to the kernel meanwhile each would be a fault.
     * Setting one threshold fixes the other, which glibc would have raised.
     */

    (void) mallopt(M_TRIM_THRESHOLD, NGX_HTTP_DATABRIDGE_KEEP);
    (void) mallopt(M_MMAP_THRESHOLD, NGX_HTTP_DATABRIDGE_KEEP / 2);

    if (db_bridge_open(&worker->bridge) != DB_OK) {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, ngx_errno,
                      "eventfd() failed");
        return NGX_ERROR;
    }

    if (ngx_http_databridge_open_wake(worker) != NGX_OK
        || ngx_http_databridge_meter_init(worker) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_databridge_worker = worker;

    ngx_http_databridge_prepare(worker);

    if (dmcf->apps.nelts) {
        ngx_http_databridge_start(worker);
    }

    ngx_http_databridge_handover_start(worker);

    /* after the threads of Python and the stores, which have no haste */

    db_thread_slice(NGX_HTTP_DATABRIDGE_SLICE);

    return NGX_OK;
}


static ngx_int_t
ngx_http_databridge_open_wake(ngx_http_databridge_worker_t *worker)
{
    ngx_connection_t  *c;

    c = ngx_http_databridge_watch_fd(worker->cycle, worker->bridge.nginx_fd,
                                     ngx_http_databridge_wake, worker);
    if (c == NULL) {
        return NGX_ERROR;
    }

    /* an idle connection is told when the worker starts to quit */

    c->idle = 1;

    return NGX_OK;
}


static ngx_connection_t *
ngx_http_databridge_watch_fd(ngx_cycle_t *cycle, ngx_fd_t fd,
    ngx_event_handler_pt handler, void *data)
{
    ngx_event_t       *rev;
    ngx_connection_t  *c;

    c = ngx_get_connection(fd, cycle->log);
    if (c == NULL) {
        return NULL;
    }

    c->data = data;

    rev = c->read;
    rev->handler = handler;
    rev->log = cycle->log;
    c->write->log = cycle->log;

    /* not a client: no alert when it is still open at exit */

    rev->channel = 1;
    c->write->channel = 1;

    if (ngx_add_event(rev, NGX_READ_EVENT, NGX_CLEAR_EVENT) != NGX_OK) {
        ngx_free_connection(c);
        return NULL;
    }

    return c;
}


/* Without events all of its reads are the store pool's. */

static void
ngx_http_databridge_watch_store(ngx_cycle_t *cycle,
    ngx_http_databridge_store_t *store)
{
    int  fd;

    fd = db_store_fd(store->store);

    if (fd != -1
        && ngx_http_databridge_watch_fd(cycle, fd,
                                        ngx_http_databridge_store_event, store)
           != NULL)
    {
        db_store_watch(store->store);
    }
}


static void
ngx_http_databridge_store_event(ngx_event_t *rev)
{
    ngx_connection_t             *c;
    ngx_http_databridge_store_t  *store;

    c = rev->data;
    store = c->data;

    db_store_event(store->store);
}


/*
 * Makes the collections of nginx.conf ready.  A store that no block names is
 * left to the application that does.
 */

static void
ngx_http_databridge_prepare(ngx_http_databridge_worker_t *worker)
{
    char                               error[NGX_HTTP_DATABRIDGE_ERROR_LEN];
    ngx_log_t                         *log;
    ngx_uint_t                         i;
    ngx_http_databridge_store_t       *store;
    ngx_http_databridge_crud_conf_t  **crud;

    log = worker->cycle->log;
    crud = worker->conf->cruds.elts;

    for (i = 0; i < worker->conf->cruds.nelts; i++) {

        store = crud[i]->store;

        if (store->store == NULL) {
            store->store = db_store_open(ngx_http_databridge_str(store->uri),
                                         ngx_http_databridge_store_log, log,
                                         error, sizeof(error));

            if (store->store) {
                ngx_http_databridge_watch_store(worker->cycle, store);
            }
        }

        if (store->store
            && db_store_prepare(store->store,
                                db_crud_collection(crud[i]->crud), error,
                                sizeof(error))
               == DB_OK)
        {
            crud[i]->ready = 1;
            continue;
        }

        ngx_log_error(NGX_LOG_EMERG, log, 0,
                      "databridge_crud in %s:%ui: %s; it answers 503 until "
                      "nginx is reloaded", crud[i]->file, crud[i]->line,
                      error);
    }
}


static void
ngx_http_databridge_start(ngx_http_databridge_worker_t *worker)
{
    if (ngx_http_databridge_python_conf(worker) != NGX_OK) {
        return;
    }

    worker->loop_task.ctx = worker;
    worker->loop_task.handler = ngx_http_databridge_loop_thread;
    worker->loop_task.event.data = worker;
    worker->loop_task.event.handler = ngx_http_databridge_loop_ended;

    if (ngx_thread_task_post(worker->conf->loop_pool, &worker->loop_task)
        == NGX_OK)
    {
        worker->started = 1;
    }

    /* "databridge run" counts them: those that die at once are replaced */

    if (worker->conf->generation == 1) {
        (void) ngx_http_databridge_notify((u_char *) "start\n", 6);
    }
}


static ngx_int_t
ngx_http_databridge_python_conf(ngx_http_databridge_worker_t *worker)
{
    u_char                           *p;
    size_t                            len;
    ngx_str_t                        *value;
    ngx_uint_t                        i;
    ngx_pool_t                       *pool;
    db_python_conf_t                 *python;
    ngx_http_databridge_store_t      *store;
    ngx_http_databridge_main_conf_t  *dmcf;

    dmcf = worker->conf;
    pool = worker->cycle->pool;
    python = &worker->python;

    python->bridge = &worker->bridge;
    python->venv = ngx_http_databridge_str(dmcf->venv);
    python->apps = dmcf->apps.elts;
    python->napps = dmcf->apps.nelts;
    python->sync_threads = dmcf->sync_threads;
    python->nice = dmcf->nice;
    python->metrics = worker->meter.row;
    python->log = ngx_http_databridge_python_log;
    python->store_log = ngx_http_databridge_store_log;
    python->log_ctx = worker->cycle->log;
    python->forked = ngx_http_databridge_forked;

    len = 1;
    value = dmcf->path.elts;

    for (i = 0; i < dmcf->path.nelts; i++) {
        len += value[i].len + 1;
    }

    p = ngx_pnalloc(pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    python->path.data = (char *) p;

    for (i = 0; i < dmcf->path.nelts; i++) {

        if (i) {
            *p++ = ':';
        }

        p = ngx_cpymem(p, value[i].data, value[i].len);
    }

    *p = '\0';
    python->path.len = (char *) p - python->path.data;

    python->nenv = dmcf->env.nelts;
    python->env = ngx_palloc(pool, python->nenv * sizeof(db_str_t));

    python->nstores = dmcf->stores.nelts;
    python->stores = ngx_palloc(pool,
                                python->nstores * sizeof(db_store_entry_t));

    if (python->env == NULL || python->stores == NULL) {
        return NGX_ERROR;
    }

    value = dmcf->env.elts;

    for (i = 0; i < dmcf->env.nelts; i++) {
        python->env[i] = ngx_http_databridge_str(value[i]);
    }

    store = dmcf->stores.elts;

    for (i = 0; i < dmcf->stores.nelts; i++) {
        python->stores[i].name = ngx_http_databridge_str(store[i].name);
        python->stores[i].uri = ngx_http_databridge_str(store[i].uri);
        python->stores[i].store = store[i].store;
    }

    return NGX_OK;
}


static void
ngx_http_databridge_loop_thread(void *data, ngx_log_t *log)
{
    ngx_http_databridge_worker_t *worker = data;

    /* the loop thread, until the worker ends */

    db_python_run(&worker->python);
}


static void
ngx_http_databridge_loop_ended(ngx_event_t *ev)
{
    ngx_log_debug0(NGX_LOG_DEBUG_CORE, ngx_cycle->log, 0,
                   "databridge loop thread ended");
}


static void
ngx_http_databridge_python_log(void *ctx, db_pylog_level_t level,
    const char *text, size_t len)
{
    ngx_log_t *log = ctx;

    static ngx_uint_t  levels[] = {
        NGX_LOG_CRIT, NGX_LOG_ERR, NGX_LOG_WARN, NGX_LOG_NOTICE,
        NGX_LOG_INFO, NGX_LOG_DEBUG
    };

    /*
     * any thread: the writer formats on its stack and writes once; an idle
     * nginx thread has not looked at the clock
     */

    ngx_time_update();

    ngx_log_error(levels[level], log, 0, "%*s", len, text);
}


static void
ngx_http_databridge_store_log(void *ctx, db_log_level_t level,
    const char *text)
{
    ngx_log_t *log = ctx;

    static ngx_uint_t  levels[] = {
        NGX_LOG_ERR, NGX_LOG_WARN, NGX_LOG_NOTICE, NGX_LOG_INFO
    };

    ngx_time_update();

    ngx_log_error(levels[level], log, 0, "%s", text);
}


/*
 * In the child of a thread of Python's: a connection that it kept would not
 * end for its client, and a listening socket not for anybody.  It was copied
 * at any moment of the nginx thread's, whose connections get their descriptor
 * last and lose it first.
 */

static void
ngx_http_databridge_forked(void *ctx)
{
    ngx_uint_t         i;
    ngx_cycle_t       *cycle;
    ngx_connection_t  *c;

    cycle = ngx_http_databridge_worker->cycle;
    c = cycle->connections;

    for (i = 0; i < cycle->connection_n; i++) {

        if (c[i].fd > STDERR_FILENO && c[i].read && !c[i].read->channel) {
            (void) close(c[i].fd);
        }
    }
}


/* What a request has for Python waits for the end of the event cycle. */

void
ngx_http_databridge_submit(db_node_t *node)
{
    db_chain_append(&ngx_http_databridge_worker->submit, node);

    ngx_http_databridge_post_flush();
}


void
ngx_http_databridge_post_flush(void)
{
    ngx_event_t  *ev;

    ev = &ngx_http_databridge_worker->flush;

    if (!ev->posted) {
        ngx_post_event(ev, &ngx_posted_events);
    }
}


static void
ngx_http_databridge_flush(ngx_event_t *ev)
{
    ngx_uint_t                     i;
    ngx_http_databridge_store_t   *store;
    ngx_http_databridge_worker_t  *worker;

    worker = ev->data;

    /* events posted after this one may have more: let them go first */

    if (!ngx_queue_empty(&ngx_posted_events) && !worker->reposted) {
        worker->reposted = 1;
        ngx_post_event(ev, &ngx_posted_events);
        return;
    }

    worker->reposted = 0;
    worker->meter.now = 0;

    if (worker->reading) {
        worker->reading = 0;
        store = worker->conf->stores.elts;

        for (i = 0; i < worker->conf->stores.nelts; i++) {
            if (store[i].store) {
                db_store_cycle_end(store[i].store);
            }
        }
    }

    db_bridge_submit(&worker->bridge, &worker->submit);
}


static void
ngx_http_databridge_wake(ngx_event_t *rev)
{
    ngx_connection_t              *c;
    ngx_http_databridge_worker_t  *worker;

    c = rev->data;
    worker = c->data;

    if (c->close) {
        c->close = 0;
        c->idle = 0;
        ngx_http_databridge_quit(worker);
        return;
    }

    /* what an earlier wake has left comes first, by worker->more */

    if (worker->results == NULL) {
        ngx_http_databridge_results(worker);
    }
}


static void
ngx_http_databridge_more(ngx_event_t *ev)
{
    ngx_http_databridge_results(ev->data);
}


static void
ngx_http_databridge_results(ngx_http_databridge_worker_t *worker)
{
    db_msg_t    *msg;
    db_node_t   *node, *next;
    ngx_uint_t   n;

    for (node = db_queue_take(&worker->written); node; node = next) {
        next = node->next;
        ngx_http_databridge_crud_written(node);
    }

    for (n = 0; n < NGX_HTTP_DATABRIDGE_BATCH; n++) {

        if (worker->results == NULL) {
            worker->results = db_bridge_results(&worker->bridge);

            if (worker->results == NULL) {
                break;
            }
        }

        msg = worker->results;
        worker->results = (db_msg_t *) msg->node.next;

        ngx_http_databridge_result(worker, msg);
    }

    ngx_http_databridge_flush_outputs(worker);

    /* a wake that came while results were left has done nothing */

    if (n == NGX_HTTP_DATABRIDGE_BATCH) {
        ngx_post_event(&worker->more, &ngx_posted_next_events);
    }
}


static void
ngx_http_databridge_result(ngx_http_databridge_worker_t *worker,
    db_msg_t *msg)
{
    switch (msg->kind) {

    case DB_MSG_PART:
        ngx_http_databridge_part((db_part_t *) msg);
        break;

    case DB_MSG_TAKEN:
        ngx_http_databridge_taken((db_notice_t *) msg);
        break;

    case DB_MSG_CRUD:
        ngx_http_databridge_crud_asked((db_python_call_t *) msg);
        break;

    case DB_MSG_READY:
        ngx_http_databridge_ready(worker, (db_ready_t *) msg);
        break;

    case DB_MSG_STOPPED:
        worker->stopped = 1;

        if (!worker->stopping) {
            ngx_log_error(NGX_LOG_ERR, worker->cycle->log, 0,
                          "databridge: Python has stopped, its locations "
                          "answer 503");
        }

        break;

    default:
        ngx_log_error(NGX_LOG_ALERT, worker->cycle->log, 0,
                      "databridge: unexpected message %d", msg->kind);
        break;
    }
}


static void
ngx_http_databridge_ready(ngx_http_databridge_worker_t *worker,
    db_ready_t *ready)
{
    db_crud_t                  *crud;
    db_table_t                 *table;
    ngx_uint_t                  i, n;
    ngx_queue_t                *q;
    ngx_http_databridge_ctx_t  *ctx;

    ngx_http_databridge_take_ready(worker, ready);

    for (i = 0; i < ready->ntables; i++) {
        table = ready->tables[i];

        for (n = 0; n < table->nroutes; n++) {

            /* a collection and its items are two routes, one after another */

            crud = table->routes[n].crud;

            if (crud && (n == 0 || crud != table->routes[n - 1].crud)) {
                ngx_http_databridge_crud_check(worker->cycle, crud);
            }
        }
    }

    ngx_http_databridge_meter_ready(worker);
    ngx_http_databridge_report(worker);
    ngx_http_databridge_recycle_start(worker);
    ngx_http_databridge_handover_ready(worker);

    while (!ngx_queue_empty(&worker->waiting)) {
        q = ngx_queue_head(&worker->waiting);
        ctx = ngx_queue_data(q, ngx_http_databridge_ctx_t, owner.link);

        ngx_http_databridge_resume(ctx);
    }
}


/* The tables, and the stores they use, serve until the process ends. */

void
ngx_http_databridge_take_ready(ngx_http_databridge_worker_t *worker,
    db_ready_t *ready)
{
    ngx_uint_t                    i;
    ngx_http_databridge_store_t  *store;

    store = worker->conf->stores.elts;

    for (i = 0; i < worker->conf->stores.nelts; i++) {

        if (store[i].store == NULL && worker->python.stores[i].store) {
            store[i].store = worker->python.stores[i].store;
            ngx_http_databridge_watch_store(worker->cycle, &store[i]);
        }
    }

    worker->apps = ready;
}


void
ngx_http_databridge_report(ngx_http_databridge_worker_t *worker)
{
    char           *error;
    u_char         *p, buf[NGX_MAX_ERROR_STR];
    ngx_uint_t      i;
    db_app_conf_t  *app;

    error = NULL;
    app = worker->conf->apps.elts;

    for (i = 0; i < worker->conf->apps.nelts; i++) {

        if (worker->apps->tables[i]->error == NULL) {
            continue;
        }

        error = worker->apps->tables[i]->error;

        ngx_log_error(NGX_LOG_EMERG, worker->cycle->log, 0,
                      "databridge_app \"%s\" failed to start: %s",
                      app[i].target.data, error);
    }

    /* "databridge run" waits for one line from each worker */

    if (error) {
        p = ngx_snprintf(buf, sizeof(buf) - 1, "failed: %s", error);
        *p++ = '\n';

    } else {
        p = ngx_cpymem(buf, "ready\n", 6);
    }

    (void) ngx_http_databridge_notify(buf, p - buf);
}


/* NGX_DECLINED when nginx is nobody's child. */

ngx_int_t
ngx_http_databridge_notify(u_char *line, size_t len)
{
    char      *env;
    ngx_fd_t   fd;

    env = getenv(NGX_HTTP_DATABRIDGE_NOTIFY);
    if (env == NULL) {
        return NGX_DECLINED;
    }

    fd = ngx_atoi((u_char *) env, ngx_strlen(env));
    if (fd == NGX_ERROR) {
        return NGX_DECLINED;
    }

    return ngx_write_fd(fd, line, len) == (ssize_t) len ? NGX_OK : NGX_ERROR;
}
