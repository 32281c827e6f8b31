/*
 * The end of a worker.
 *
 * One that was told to quit is held by a timer until no client, no job and
 * no store operation is left and Python has stopped, or until its deadline.
 * On TERM, or when nginx leaves for another reason, Python has a second.
 */

#include "http/ngx_http_databridge.h"

#include <poll.h>
#include <stdlib.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif


#define NGX_HTTP_DATABRIDGE_HOLD_STEP  10      /* ms between looks */
#define NGX_HTTP_DATABRIDGE_FAST_STOP  1000    /* ms */
#define NGX_HTTP_DATABRIDGE_PATIENCE   2000    /* ms, with silent clients */


static void ngx_http_databridge_hold(ngx_event_t *ev);
static ngx_uint_t ngx_http_databridge_clients(
    ngx_http_databridge_worker_t *worker);
static void ngx_http_databridge_close_silent(
    ngx_http_databridge_worker_t *worker);
static void ngx_http_databridge_cut_all(ngx_queue_t *owners);
static void ngx_http_databridge_stop(ngx_http_databridge_worker_t *worker,
    db_msg_kind_t kind);
static ngx_int_t ngx_http_databridge_stop_fast(
    ngx_http_databridge_worker_t *worker);
static ngx_int_t ngx_http_databridge_drop_results(
    ngx_http_databridge_worker_t *worker);
static void ngx_http_databridge_at_exit(void);


void
ngx_http_databridge_quit(ngx_http_databridge_worker_t *worker)
{
    ngx_queue_t                  *q;
    ngx_http_databridge_owner_t  *owner;

    static ngx_queue_t  told;    /* those that come after it know */

    if (worker->exiting) {
        return;
    }

    worker->exiting = 1;
    ngx_http_databridge_handover_ready(worker);
    worker->deadline = ngx_current_msec + worker->conf->shutdown_timeout;
    worker->patience = ngx_current_msec + NGX_HTTP_DATABRIDGE_PATIENCE;

    worker->hold.handler = ngx_http_databridge_hold;
    worker->hold.data = worker;
    worker->hold.log = worker->cycle->log;

    ngx_add_timer(&worker->hold, NGX_HTTP_DATABRIDGE_HOLD_STEP);

    /* one that leaves may take others with it, as those of its subrequests */

    ngx_queue_insert_tail(&worker->running, &told);

    for ( ;; ) {
        q = ngx_queue_head(&worker->running);
        ngx_queue_remove(q);

        if (q == &told) {
            break;
        }

        ngx_queue_insert_tail(&worker->running, q);

        owner = ngx_queue_data(q, ngx_http_databridge_owner_t, link);
        owner->ops->leave(owner);
    }
}


/*
 * Holds a worker that quits: first until its last request has ended, then
 * until Python has stopped.
 */

static void
ngx_http_databridge_hold(ngx_event_t *ev)
{
    ngx_uint_t                     idle;
    ngx_http_databridge_worker_t  *worker;

    worker = ev->data;

    idle = worker->jobs == 0 && worker->ops == 0
           && !ngx_http_databridge_clients(worker);

    if (idle && (worker->stopped || !worker->started)) {
        return;
    }

    if (idle) {
        ngx_http_databridge_stop(worker, DB_MSG_STOP);
    }

    if ((ngx_msec_int_t) (worker->patience - ngx_current_msec) <= 0) {
        ngx_http_databridge_close_silent(worker);
    }

    if ((ngx_msec_int_t) (worker->deadline - ngx_current_msec) > 0) {
        ngx_add_timer(ev, NGX_HTTP_DATABRIDGE_HOLD_STEP);
        return;
    }

    /* the timer is not armed again: only other modules hold the worker */

    if (worker->jobs || worker->ops) {
        ngx_log_error(NGX_LOG_WARN, worker->cycle->log, 0,
                      "databridge_shutdown_timeout: %ui requests and %ui "
                      "store operations are cut off",
                      worker->jobs, worker->ops);
    }

    ngx_http_databridge_cut_all(&worker->waiting);
    ngx_http_databridge_cut_all(&worker->running);

    ngx_http_databridge_stop(worker, DB_MSG_HALT);
}


/* Whether a client is connected, who may be about to send a request. */

static ngx_uint_t
ngx_http_databridge_clients(ngx_http_databridge_worker_t *worker)
{
    ngx_uint_t         i;
    ngx_connection_t  *c;

    c = worker->cycle->connections;

    for (i = 0; i < worker->cycle->connection_n; i++) {

        if (c[i].fd != (ngx_socket_t) -1
            && c[i].read
            && !c[i].read->accept
            && !c[i].read->channel
            && !c[i].read->resolver)
        {
            return 1;
        }
    }

    return 0;
}


/*
 * nginx closes those that were kept alive when it is told to quit, but waits
 * for client_header_timeout for those that have never asked, as browsers
 * open them in advance.
 */

static void
ngx_http_databridge_close_silent(ngx_http_databridge_worker_t *worker)
{
    ngx_uint_t         i;
    ngx_connection_t  *c;

    c = worker->cycle->connections;

    for (i = 0; i < worker->cycle->connection_n; i++) {

        if (c[i].fd != (ngx_socket_t) -1 && c[i].read && c[i].reusable) {
            c[i].close = 1;
            c[i].read->handler(c[i].read);
        }
    }
}


static void
ngx_http_databridge_cut_all(ngx_queue_t *owners)
{
    ngx_queue_t                  *q;
    ngx_http_databridge_owner_t  *owner;

    while (!ngx_queue_empty(owners)) {
        q = ngx_queue_head(owners);
        owner = ngx_queue_data(q, ngx_http_databridge_owner_t, link);

        owner->ops->cut(owner);
    }
}


static void
ngx_http_databridge_stop(ngx_http_databridge_worker_t *worker,
    db_msg_kind_t kind)
{
    if (worker->stopping) {
        return;
    }

    worker->stopping = 1;
    worker->stop.kind = kind;

    /* at once: a worker that quits is not within an event cycle */

    db_chain_append(&worker->submit, &worker->stop.node);
    db_bridge_submit(&worker->bridge, &worker->submit);
}


/* exit_process: after QUIT Python has stopped, on TERM it has a second. */

void
ngx_http_databridge_worker_exit(ngx_cycle_t *cycle)
{
    ngx_uint_t                     i;
    ngx_http_databridge_store_t   *store;
    ngx_http_databridge_worker_t  *worker;

    worker = ngx_http_databridge_worker;

    if (worker == NULL) {
        return;
    }

    ngx_http_databridge_meter_exit(worker);

    if (worker->started && !worker->stopped
        && ngx_http_databridge_stop_fast(worker) != NGX_OK)
    {
        ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                      "databridge: Python did not stop in time");
        _exit(0);
    }

    if (worker->ops) {

        /* what was acknowledged is on disk, nothing else was promised */

        ngx_log_error(NGX_LOG_NOTICE, cycle->log, 0,
                      "databridge: %ui store operations are cut off",
                      worker->ops);
        _exit(0);
    }

    store = worker->conf->stores.elts;

    for (i = 0; i < worker->conf->stores.nelts; i++) {
        if (store[i].store) {
            db_store_close(store[i].store);
            store[i].store = NULL;
        }
    }

    while (worker->narenas) {
        db_arena_destroy(worker->arenas[--worker->narenas]);
    }

    /* the stores knew the collections of the applications' resources */

    if (worker->apps) {
        db_ready_destroy(worker->apps);
    }

    if (worker->started && atexit(ngx_http_databridge_at_exit) != 0) {
        _exit(0);
    }
}


/*
 * Called by exit() before all that libraries have left for it: destructors of
 * C++ extensions want the GIL, which nobody gives any more, and would take
 * away what Python's other threads stand in.
 */

static void
ngx_http_databridge_at_exit(void)
{
    if (ftrylockfile(stdout) == 0) {
        (void) fflush(stdout);
    }

#ifdef __SANITIZE_ADDRESS__
    __lsan_do_leak_check();
#endif

    _exit(0);
}


static ngx_int_t
ngx_http_databridge_stop_fast(ngx_http_databridge_worker_t *worker)
{
    eventfd_t       count;
    ngx_msec_t      deadline;
    struct pollfd   pfd;

    ngx_http_databridge_stop(worker, DB_MSG_HALT);

    deadline = ngx_current_msec + NGX_HTTP_DATABRIDGE_FAST_STOP;

    pfd.fd = worker->bridge.nginx_fd;
    pfd.events = POLLIN;

    for ( ;; ) {

        if (ngx_http_databridge_drop_results(worker) == NGX_OK) {
            return NGX_OK;
        }

        ngx_time_update();

        if ((ngx_msec_int_t) (deadline - ngx_current_msec) <= 0) {
            return NGX_ERROR;
        }

        if (poll(&pfd, 1, deadline - ngx_current_msec) > 0) {
            (void) eventfd_read(pfd.fd, &count);
        }
    }
}


/* There are no requests any more: NGX_OK when Python has stopped. */

static ngx_int_t
ngx_http_databridge_drop_results(ngx_http_databridge_worker_t *worker)
{
    db_msg_t   *msg;
    db_part_t  *part;

    for ( ;; ) {

        if (worker->results == NULL) {
            worker->results = db_bridge_results(&worker->bridge);

            if (worker->results == NULL) {
                return NGX_AGAIN;
            }
        }

        msg = worker->results;
        worker->results = (db_msg_t *) msg->node.next;

        if (msg->kind == DB_MSG_STOPPED) {
            worker->stopped = 1;
            return NGX_OK;
        }

        if (msg->kind == DB_MSG_TAKEN) {
            (void) db_credit_take(&((db_notice_t *) msg)->job->taken);
            continue;
        }

        if (msg->kind == DB_MSG_READY) {
            ngx_http_databridge_take_ready(worker, (db_ready_t *) msg);

            /* on TERM nobody asks why it has not started */

            if (worker->exiting) {
                ngx_http_databridge_report(worker);
            }

            continue;
        }

        if (msg->kind == DB_MSG_CRUD) {

            /* no event will tell of a store's answer any more */

            ((db_python_call_t *) msg)->call->status =
                                                NGX_HTTP_SERVICE_UNAVAILABLE;
            db_chain_append(&worker->submit, &msg->node);
            db_bridge_submit(&worker->bridge, &worker->submit);
            continue;
        }

        if (msg->kind != DB_MSG_PART) {
            continue;
        }

        part = (db_part_t *) msg;

        if (part->flags & DB_PART_DONE) {
            db_job_release(part->job);
        }

        db_part_destroy(part);
    }
}
