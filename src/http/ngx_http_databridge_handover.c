/*
 * A reload without a pause.  nginx tells the old workers to quit 100 ms after
 * it has started the new ones, which may need seconds to import what they
 * serve.  So the new workers do not accept until their applications are
 * ready, and the old ones put off quitting until all of the new ones are: for
 * as long as that takes, for who leaves sooner leaves nobody to serve.
 *
 * A zone that outlives the configurations says how many workers of the
 * newest generation there will be, and how many are ready.  The master writes
 * it when it has taken a configuration, each worker counts itself once.
 *
 * A worker that is told to quit for another reason belongs to the newest
 * generation and quits at once; it counts as ready, for the old ones not to
 * wait for it.
 */

#include "http/ngx_http_databridge.h"


#define NGX_HTTP_DATABRIDGE_HANDOVER_STEP  20     /* ms between looks */


typedef struct {
    ngx_atomic_t       generation;
    ngx_atomic_t       workers;     /* of this generation */
    ngx_atomic_t       ready;       /* of them */
} ngx_http_databridge_handover_t;


static ngx_int_t ngx_http_databridge_handover_init_zone(
    ngx_shm_zone_t *shm_zone, void *data);
static void ngx_http_databridge_handover_hook(ngx_event_t *ev);
static void ngx_http_databridge_handover_channel(ngx_event_t *rev);
static void ngx_http_databridge_handover_look(ngx_event_t *ev);
static void ngx_http_databridge_accept(ngx_cycle_t *cycle, ngx_uint_t on);


static ngx_event_handler_pt  ngx_http_databridge_channel_handler;


ngx_int_t
ngx_http_databridge_handover_zone(ngx_conf_t *cf,
    ngx_http_databridge_main_conf_t *dmcf)
{
    ngx_str_t  name = ngx_string("databridge_handover");

    if (dmcf->apps.nelts == 0) {
        return NGX_OK;
    }

    dmcf->handover_zone = ngx_shared_memory_add(cf, &name, 8 * ngx_pagesize,
                                                &ngx_http_databridge_module);
    if (dmcf->handover_zone == NULL) {
        return NGX_ERROR;
    }

    dmcf->handover_zone->init = ngx_http_databridge_handover_init_zone;

    return NGX_OK;
}


static ngx_int_t
ngx_http_databridge_handover_init_zone(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_slab_pool_t  *shpool;

    if (data) {
        shm_zone->data = data;
        return NGX_OK;
    }

    shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    shm_zone->data = ngx_slab_calloc(shpool,
                                     sizeof(ngx_http_databridge_handover_t));

    return shm_zone->data ? NGX_OK : NGX_ERROR;
}


/* The master has taken the configuration and is about to start workers. */

ngx_int_t
ngx_http_databridge_handover_begin(ngx_cycle_t *cycle)
{
    ngx_core_conf_t                  *ccf;
    ngx_http_databridge_handover_t   *handover;
    ngx_http_databridge_main_conf_t  *dmcf;

    dmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_databridge_module);

    if (dmcf == NULL || dmcf->handover_zone == NULL) {
        return NGX_OK;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);
    handover = dmcf->handover_zone->data;

    handover->ready = 0;
    handover->workers = ccf->worker_processes;
    dmcf->generation = ++handover->generation;

    return NGX_OK;
}


void
ngx_http_databridge_handover_start(ngx_http_databridge_worker_t *worker)
{
    ngx_http_databridge_handover_t   *handover;
    ngx_http_databridge_main_conf_t  *dmcf;

    dmcf = worker->conf;

    if (dmcf->handover_zone == NULL || ngx_process != NGX_PROCESS_WORKER) {
        return;
    }

    /* the channel from the master is watched when the worker has begun */

    worker->handover.handler = ngx_http_databridge_handover_hook;
    worker->handover.data = worker;
    worker->handover.log = worker->cycle->log;

    ngx_post_event(&worker->handover, &ngx_posted_next_events);

    if (!worker->started) {
        ngx_http_databridge_handover_ready(worker);
        return;
    }

    handover = dmcf->handover_zone->data;

    if (dmcf->generation == 1 || ngx_use_accept_mutex
        || handover->ready >= handover->workers)
    {
        return;
    }

    ngx_http_databridge_accept(worker->cycle, 0);
    worker->held = 1;
}


/* The applications are ready, or have failed, or will not be. */

void
ngx_http_databridge_handover_ready(ngx_http_databridge_worker_t *worker)
{
    ngx_http_databridge_handover_t  *handover;

    if (worker->handed_over || worker->conf->handover_zone == NULL
        || ngx_process != NGX_PROCESS_WORKER)
    {
        return;
    }

    worker->handed_over = 1;
    handover = worker->conf->handover_zone->data;

    if (handover->generation == worker->conf->generation) {
        (void) ngx_atomic_fetch_add(&handover->ready, 1);
    }

    /* one that quits has closed its listening sockets */

    if (worker->held && !ngx_exiting) {
        ngx_http_databridge_accept(worker->cycle, 1);
    }
}


static void
ngx_http_databridge_handover_hook(ngx_event_t *ev)
{
    ngx_uint_t                     i;
    ngx_connection_t              *c;
    ngx_http_databridge_worker_t  *worker;

    worker = ev->data;
    c = worker->cycle->connections;

    for (i = 0; i < worker->cycle->connection_n; i++) {

        if (c[i].fd == ngx_channel && c[i].read && c[i].read->channel) {
            ngx_http_databridge_channel_handler = c[i].read->handler;
            c[i].read->handler = ngx_http_databridge_handover_channel;
            return;
        }
    }
}


/* What the master says goes to nginx first, as ever. */

static void
ngx_http_databridge_handover_channel(ngx_event_t *rev)
{
    ngx_event_t                     *ev;
    ngx_http_databridge_worker_t    *worker;
    ngx_http_databridge_handover_t  *handover;

    ngx_http_databridge_channel_handler(rev);

    worker = ngx_http_databridge_worker;
    handover = worker->conf->handover_zone->data;

    if (!ngx_quit || handover->generation == worker->conf->generation) {
        return;
    }

    ngx_quit = 0;

    ev = &worker->handover;

    if (!ev->timer_set) {
        worker->put_off = ngx_current_msec;

        ev->handler = ngx_http_databridge_handover_look;
        ngx_add_timer(ev, NGX_HTTP_DATABRIDGE_HANDOVER_STEP);
    }
}


static void
ngx_http_databridge_handover_look(ngx_event_t *ev)
{
    ngx_msec_t                       check;
    ngx_http_databridge_worker_t    *worker;
    ngx_http_databridge_handover_t  *handover;

    worker = ev->data;
    check = worker->conf->check;
    handover = worker->conf->handover_zone->data;

    if (handover->ready >= handover->workers) {
        ngx_quit = 1;
        return;
    }

    if (check && !worker->impatient
        && ngx_current_msec - worker->put_off >= check)
    {
        worker->impatient = 1;

        ngx_log_error(NGX_LOG_WARN, ev->log, 0,
                      "databridge: after %M ms, see \"databridge_check\", the "
                      "new workers' applications have not started: the old "
                      "workers go on serving", check);
    }

    ngx_add_timer(ev, NGX_HTTP_DATABRIDGE_HANDOVER_STEP);
}


static void
ngx_http_databridge_accept(ngx_cycle_t *cycle, ngx_uint_t on)
{
    ngx_uint_t         i;
    ngx_listening_t   *ls;
    ngx_connection_t  *c;

    ls = cycle->listening.elts;

    for (i = 0; i < cycle->listening.nelts; i++) {

        c = ls[i].connection;

        if (c == NULL || c->fd == (ngx_socket_t) -1
            || ls[i].type != SOCK_STREAM)
        {
            continue;
        }

        if (!on && c->read->active) {
            (void) ngx_del_event(c->read, NGX_READ_EVENT, NGX_DISABLE_EVENT);

        } else if (on && !c->read->active) {
            (void) ngx_add_event(c->read, NGX_READ_EVENT,
                                 ngx_use_exclusive_accept
                                 ? NGX_EXCLUSIVE_EVENT : 0);
        }
    }
}
