/*
 * The renewal of a worker: after so many requests to Python, or above so
 * much memory, it quits as it does at a reload, and the master, which keeps
 * the listening sockets, starts another in its place.
 *
 * One worker at a time: a word in shared memory names the place, from the
 * decision until the successor in that place is ready.  Whatever becomes of
 * a worker, the next one in its place gives the word back.  Each
 * configuration has a word of its own: the workers of an older one leave in
 * any case.
 *
 * With a single worker nobody would accept until the successor has started:
 * "databridge run" is asked for a reload instead, in which the two overlap.
 */

#include "http/ngx_http_databridge.h"


#define NGX_HTTP_DATABRIDGE_RECYCLE_LOOK   1000   /* ms between looks */
#define NGX_HTTP_DATABRIDGE_RECYCLE_AGAIN  60000  /* ms, after a request */


static ngx_int_t ngx_http_databridge_recycle_init_zone(
    ngx_shm_zone_t *shm_zone, void *data);
static void ngx_http_databridge_recycle_handler(ngx_event_t *ev);
static ngx_uint_t ngx_http_databridge_recycle_due(
    ngx_http_databridge_worker_t *worker);
static ngx_msec_t ngx_http_databridge_recycle(
    ngx_http_databridge_worker_t *worker);
static size_t ngx_http_databridge_resident(ngx_log_t *log);


ngx_int_t
ngx_http_databridge_recycle_zone(ngx_conf_t *cf,
    ngx_http_databridge_main_conf_t *dmcf)
{
    ngx_str_t  name = ngx_string("databridge_recycle");

    if (dmcf->max_requests == 0 && dmcf->max_rss == 0) {
        return NGX_OK;
    }

    dmcf->recycle_zone = ngx_shared_memory_add(cf, &name, 8 * ngx_pagesize,
                                               &ngx_http_databridge_module);
    if (dmcf->recycle_zone == NULL) {
        return NGX_ERROR;
    }

    dmcf->recycle_zone->init = ngx_http_databridge_recycle_init_zone;
    dmcf->recycle_zone->noreuse = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_databridge_recycle_init_zone(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_slab_pool_t  *shpool;

    shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    shm_zone->data = ngx_slab_calloc(shpool, sizeof(ngx_atomic_t));

    return shm_zone->data ? NGX_OK : NGX_ERROR;
}


/* Said when a configuration is tested or taken. */

void
ngx_http_databridge_recycle_check(ngx_cycle_t *cycle,
    ngx_http_databridge_main_conf_t *dmcf)
{
    ngx_core_conf_t  *ccf;

    if (dmcf->recycle_zone == NULL) {
        return;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (ccf->master == 0) {
        ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                      "\"databridge_max_requests\" and \"databridge_max_rss\" "
                      "do nothing with \"master_process off\"");

    } else if (ccf->worker_processes == 1
               && getenv(NGX_HTTP_DATABRIDGE_NOTIFY) == NULL)
    {
        ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                      "with \"worker_processes 1\" new connections wait while "
                      "\"databridge_max_requests\" or \"databridge_max_rss\" "
                      "renew the worker: use two or more");
    }
}


/* The applications are ready, or have failed: so is the worker's place. */

void
ngx_http_databridge_recycle_start(ngx_http_databridge_worker_t *worker)
{
    size_t                            resident;
    ngx_atomic_t                     *place;
    ngx_http_databridge_main_conf_t  *dmcf;

    dmcf = worker->conf;

    if (dmcf->recycle_zone == NULL || ngx_process != NGX_PROCESS_WORKER) {
        return;
    }

    place = dmcf->recycle_zone->data;
    (void) ngx_atomic_cmp_set(place, ngx_worker + 1, 0);

    worker->recycle.handler = ngx_http_databridge_recycle_handler;
    worker->recycle.data = worker;
    worker->recycle.log = worker->cycle->log;
    worker->recycle.cancelable = 1;

    if (dmcf->max_requests) {
        worker->max_handled = dmcf->max_requests
                              + ngx_random() % (dmcf->max_requests_jitter + 1);
    }

    if (dmcf->max_rss == 0) {
        return;
    }

    resident = ngx_http_databridge_resident(worker->cycle->log);

    if (resident >= dmcf->max_rss) {
        ngx_log_error(NGX_LOG_WARN, worker->cycle->log, 0,
                      "\"databridge_max_rss\" is ignored: its %uz bytes are "
                      "less than the %uz of a worker that has just started",
                      dmcf->max_rss, resident);
        return;
    }

    worker->max_rss = dmcf->max_rss;

    ngx_add_timer(&worker->recycle, NGX_HTTP_DATABRIDGE_RECYCLE_LOOK);
}


/* A request goes to Python. */

void
ngx_http_databridge_recycle_count(ngx_http_databridge_worker_t *worker)
{
    worker->handled++;

    if (worker->max_handled && worker->handled == worker->max_handled) {
        ngx_add_timer(&worker->recycle, 1);
    }
}


static void
ngx_http_databridge_recycle_handler(ngx_event_t *ev)
{
    ngx_msec_t                     again;
    ngx_http_databridge_worker_t  *worker;

    worker = ev->data;

    if (ngx_exiting || ngx_quit || ngx_terminate) {
        return;
    }

    again = NGX_HTTP_DATABRIDGE_RECYCLE_LOOK;

    if (ngx_http_databridge_recycle_due(worker)) {
        again = ngx_http_databridge_recycle(worker);
    }

    if (again) {
        ngx_add_timer(ev, again);
    }
}


static ngx_uint_t
ngx_http_databridge_recycle_due(ngx_http_databridge_worker_t *worker)
{
    size_t  resident;

    if (worker->max_handled && worker->handled >= worker->max_handled) {
        return 1;
    }

    if (worker->max_rss == 0) {
        return 0;
    }

    resident = ngx_http_databridge_resident(worker->cycle->log);

    if (resident < worker->max_rss) {
        return 0;
    }

    ngx_log_error(NGX_LOG_NOTICE, worker->cycle->log, 0,
                  "databridge_max_rss: %uz bytes are resident", resident);

    return 1;
}


/* Returns in how many milliseconds to look again, or 0. */

static ngx_msec_t
ngx_http_databridge_recycle(ngx_http_databridge_worker_t *worker)
{
    ngx_atomic_t     *place;
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(worker->cycle->conf_ctx,
                                           ngx_core_module);

    if (ccf->worker_processes == 1
        && ngx_http_databridge_notify((u_char *) "recycle\n", 8) == NGX_OK)
    {
        ngx_log_error(NGX_LOG_NOTICE, worker->cycle->log, 0,
                      "databridge: a reload is to renew this worker after "
                      "%ui requests", worker->handled);

        /* it may be refused, or come to nothing */

        return NGX_HTTP_DATABRIDGE_RECYCLE_AGAIN;
    }

    place = worker->conf->recycle_zone->data;

    if (!ngx_atomic_cmp_set(place, 0, ngx_worker + 1)) {
        return NGX_HTTP_DATABRIDGE_RECYCLE_LOOK;
    }

    ngx_log_error(NGX_LOG_NOTICE, worker->cycle->log, 0,
                  "databridge: this worker is renewed after %ui requests",
                  worker->handled);

    ngx_quit = 1;

    return 0;
}


static size_t
ngx_http_databridge_resident(ngx_log_t *log)
{
    u_char     *p, *end, buf[128];
    ssize_t     n;
    ngx_fd_t    fd;
    ngx_int_t   pages;

    fd = ngx_open_file("/proc/self/statm", NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        return 0;
    }

    n = ngx_read_fd(fd, buf, sizeof(buf));

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_ALERT, log, ngx_errno,
                      ngx_close_file_n " \"/proc/self/statm\" failed");
    }

    if (n <= 0) {
        return 0;
    }

    /* "size resident shared ...", in pages */

    p = ngx_strlchr(buf, buf + n, ' ');
    if (p == NULL) {
        return 0;
    }

    end = ngx_strlchr(++p, buf + n, ' ');
    if (end == NULL) {
        return 0;
    }

    pages = ngx_atoi(p, end - p);

    return pages == NGX_ERROR ? 0 : pages * ngx_pagesize;
}
