/*
 * The record of a request, to an application or to native CRUD, and how it
 * is counted.
 *
 * It is found through the pool, not through the module's context, which an
 * internal redirect clears.  Its times come from the job, whose members the
 * loop thread writes; all else is the nginx thread's.
 *
 * A request is counted in the slot of its route.  Slots are looked up under
 * the zone's lock, once for a route and method in a worker; a slot that has
 * been given to another route since shows another version.
 */

#include "http/ngx_http_databridge.h"


static uint64_t ngx_http_databridge_now(void);
static void ngx_http_databridge_record_cleanup(void *data);
static void ngx_http_databridge_count(ngx_http_databridge_record_t *record);
static db_metrics_slot_t *ngx_http_databridge_slot(
    ngx_http_databridge_meter_t *meter, ngx_http_databridge_series_t *series,
    ngx_uint_t method);
static ngx_uint_t ngx_http_databridge_method(ngx_http_request_t *r);


db_str_t  ngx_http_databridge_methods[] = {
    db_string("GET"), db_string("HEAD"), db_string("POST"), db_string("PUT"),
    db_string("PATCH"), db_string("DELETE"), db_string("OPTIONS"),
    db_string("other")
};


/* NULL: this request has none yet. */

ngx_http_databridge_record_t *
ngx_http_databridge_record_get(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t            *cln;
    ngx_http_databridge_record_t  *record;

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler == ngx_http_databridge_record_cleanup) {
            record = cln->data;

            /* a subrequest has the pool of its parent */

            if (record->request == r) {
                return record;
            }
        }
    }

    return NULL;
}


/* NULL: out of memory, the request is not recorded. */

ngx_http_databridge_record_t *
ngx_http_databridge_record(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t            *cln;
    ngx_http_databridge_record_t  *record;

    record = ngx_http_databridge_record_get(r);

    if (record) {
        return record;
    }

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_databridge_record_t));
    if (cln == NULL) {
        return NULL;
    }

    record = cln->data;
    ngx_memzero(record, sizeof(ngx_http_databridge_record_t));

    record->request = r;
    cln->handler = ngx_http_databridge_record_cleanup;

    return record;
}


/*
 * Since when this event cycle's requests wait, more or less: the clock is
 * read once a cycle, until the flush forgets it.
 */

static uint64_t
ngx_http_databridge_now(void)
{
    ngx_http_databridge_worker_t  *worker;

    worker = ngx_http_databridge_worker;

    if (worker->meter.now == 0) {
        worker->meter.now = db_clock_now();
        ngx_http_databridge_post_flush();
    }

    return worker->meter.now;
}


static void
ngx_http_databridge_record_cleanup(void *data)
{
    ngx_http_databridge_record_t *record = data;

    if (record->series == NULL) {
        return;
    }

    /* the log phase is not for subrequests */

    ngx_http_databridge_count(record);

    db_counter_sub(&ngx_http_databridge_worker->meter.row->in_flight, 1);
}


static void
ngx_http_databridge_begin(ngx_http_request_t *r,
    ngx_http_databridge_series_t *series)
{
    ngx_http_databridge_record_t  *record;

    record = ngx_http_databridge_record(r);
    if (record == NULL) {
        return;
    }

    if (record->series == NULL) {
        record->start = ngx_http_databridge_now();
        db_counter_add(&ngx_http_databridge_worker->meter.row->in_flight, 1);
    }

    record->series = series;
}


void
ngx_http_databridge_begin_app(ngx_http_request_t *r)
{
    ngx_http_databridge_loc_conf_t  *dlcf;

    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_databridge_module);

    ngx_http_databridge_begin(r,
                      &ngx_http_databridge_worker->meter.others[dlcf->app]);
}


void
ngx_http_databridge_begin_crud(ngx_http_request_t *r)
{
    ngx_http_databridge_loc_conf_t   *dlcf;
    ngx_http_databridge_crud_conf_t  *crud;

    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_databridge_module);
    crud = dlcf->crud;

    ngx_http_databridge_begin(r, &crud->series[r->uri.len
                                               > crud->prefix.len + 1]);
}


void
ngx_http_databridge_record_route(ngx_http_request_t *r, ngx_uint_t index)
{
    ngx_http_databridge_record_t    *record;
    ngx_http_databridge_series_t    *series;
    ngx_http_databridge_loc_conf_t  *dlcf;

    record = ngx_http_databridge_record_get(r);
    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_databridge_module);
    series = ngx_http_databridge_worker->meter.routes[dlcf->app];

    if (record && record->series && series) {
        record->series = &series[index];
    }
}


void
ngx_http_databridge_record_kind(ngx_http_request_t *r,
    ngx_http_databridge_kind_t kind)
{
    ngx_http_databridge_record_t  *record;

    record = ngx_http_databridge_record_get(r);

    if (record) {
        record->kind = kind;
    }
}


/* The request is ready for Python, which has not started. */

void
ngx_http_databridge_record_wait(ngx_http_request_t *r)
{
    ngx_http_databridge_record_t  *record;

    record = ngx_http_databridge_record_get(r);

    if (record) {
        record->waiting = ngx_http_databridge_now();
    }
}


void
ngx_http_databridge_record_submit(ngx_http_request_t *r, db_job_t *job)
{
    ngx_http_databridge_record_t  *record;

    job->submitted_at = ngx_http_databridge_now();
    record = ngx_http_databridge_record_get(r);

    if (record) {
        record->kind = job->websocket ? NGX_HTTP_DATABRIDGE_WEBSOCKET
                                      : NGX_HTTP_DATABRIDGE_ASGI;

        if (record->waiting) {
            job->submitted_at = record->waiting;
        }

        record->waiting = job->submitted_at;
    }

    ngx_http_databridge_metric_add(submitted, 1);
}


/* The job leaves the request. */

void
ngx_http_databridge_record_job(ngx_http_request_t *r, db_job_t *job)
{
    ngx_http_databridge_record_t  *record;

    record = ngx_http_databridge_record_get(r);

    if (record) {
        record->taken = atomic_load_explicit(&job->taken_at,
                                             memory_order_relaxed);
        record->answered = atomic_load_explicit(&job->answered_at,
                                                memory_order_relaxed);
    }
}


/* A WebSocket has been opened (1), or is closed (-1). */

void
ngx_http_databridge_metric_socket(ngx_int_t change)
{
    db_metrics_row_t  *row;

    row = ngx_http_databridge_worker->meter.row;

    if (change > 0) {
        db_counter_add(&row->sockets, 1);
        db_counter_add(&row->sockets_opened, 1);

    } else {
        db_counter_sub(&row->sockets, 1);
    }
}


void
ngx_http_databridge_metric_store(const db_store_op_t *op, uint64_t since)
{
    db_metrics_operation_t  operation;

    operation = op->kind == DB_STORE_GET || op->kind == DB_STORE_LIST
                ? DB_METRICS_READ : DB_METRICS_WRITE;

    db_histogram_observe(
        &ngx_http_databridge_worker->meter.row->store[operation],
        db_clock_now() - since);
}


ngx_int_t
ngx_http_databridge_log_handler(ngx_http_request_t *r)
{
    ngx_http_databridge_record_t  *record;

    record = ngx_http_databridge_record_get(r);

    if (record && record->series) {
        ngx_http_databridge_count(record);
    }

    return NGX_OK;
}


static void
ngx_http_databridge_count(ngx_http_databridge_record_t *record)
{
    ngx_uint_t                    status;
    db_metrics_slot_t            *slot;
    ngx_http_request_t           *r;
    ngx_http_databridge_meter_t  *meter;

    if (record->counted) {
        return;
    }

    record->counted = 1;

    r = record->request;
    meter = &ngx_http_databridge_worker->meter;
    status = r->err_status ? r->err_status : r->headers_out.status;

    slot = ngx_http_databridge_slot(meter, record->series,
                                    ngx_http_databridge_method(r));

    db_metrics_count(slot, meter->shard, status,
                     db_clock_now() - record->start);
}


static db_metrics_slot_t *
ngx_http_databridge_slot(ngx_http_databridge_meter_t *meter,
    ngx_http_databridge_series_t *series, ngx_uint_t method)
{
    int                         full;
    db_metrics_key_t            key;
    ngx_http_databridge_ref_t  *ref;

    ref = &series->refs[method];

    if (ref->slot && ref->version == db_metrics_version(ref->slot)) {
        return ref->slot;
    }

    key.app = series->app;
    key.method = ngx_http_databridge_methods[method];
    key.route = series->route;

    ngx_shmtx_lock(meter->lock);

    ref->slot = db_metrics_slot(meter->metrics, &key, meter->generation,
                                &full);
    ref->version = db_metrics_version(ref->slot);

    ngx_shmtx_unlock(meter->lock);

    if (full) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "databridge_metrics_zone is full: routes without a "
                      "slot are counted as \"other\", give it more than %uz "
                      "bytes",
                      ngx_http_databridge_worker->conf->zone->shm.size);
    }

    return ref->slot;
}


static ngx_uint_t
ngx_http_databridge_method(ngx_http_request_t *r)
{
    switch (r->method) {

    case NGX_HTTP_GET:
        return 0;

    case NGX_HTTP_HEAD:
        return 1;

    case NGX_HTTP_POST:
        return 2;

    case NGX_HTTP_PUT:
        return 3;

    case NGX_HTTP_PATCH:
        return 4;

    case NGX_HTTP_DELETE:
        return 5;

    case NGX_HTTP_OPTIONS:
        return 6;

    default:
        return NGX_HTTP_DATABRIDGE_METHODS - 1;
    }
}
