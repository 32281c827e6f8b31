/*
 * What is seen from outside: the zone in which all workers count, and
 * "databridge_metrics", which shows what was counted.
 */

#include "http/ngx_http_databridge.h"
#include "obs/db_exposition.h"


#define NGX_HTTP_DATABRIDGE_TEXT  "text/plain; version=0.0.4; charset=utf-8"


static ngx_int_t ngx_http_databridge_zone_init(ngx_shm_zone_t *zone,
    void *data);
static ngx_int_t ngx_http_databridge_apps_series(
    ngx_http_databridge_worker_t *worker);
static ngx_int_t ngx_http_databridge_cruds_series(
    ngx_http_databridge_worker_t *worker);
static void ngx_http_databridge_touch(ngx_http_databridge_meter_t *meter,
    ngx_http_databridge_series_t *series);
static ngx_int_t ngx_http_databridge_metrics_handler(ngx_http_request_t *r);
static ngx_uint_t ngx_http_databridge_wants_json(ngx_http_request_t *r);
static ngx_int_t ngx_http_databridge_metrics_text(ngx_http_request_t *r,
    ngx_uint_t json, db_buf_t *text);
static void ngx_http_databridge_arena_cleanup(void *data);


char *
ngx_http_databridge_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_databridge_loc_conf_t *dlcf = conf;

    char                             *rv;
    ngx_str_t                        *value;
    ngx_http_databridge_main_conf_t  *dmcf;

    rv = ngx_http_databridge_serve(cf, dlcf,
                                   ngx_http_databridge_metrics_handler);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "json") == 0) {
        dlcf->metrics = NGX_HTTP_DATABRIDGE_METRICS_JSON;

    } else if (cf->args->nelts == 1
               || ngx_strcmp(value[1].data, "prometheus") == 0)
    {
        dlcf->metrics = NGX_HTTP_DATABRIDGE_METRICS_TEXT;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\": it must be "
                           "\"prometheus\" or \"json\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    dmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_databridge_module);
    dmcf->shown = 1;

    return NGX_CONF_OK;
}


char *
ngx_http_databridge_metrics_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_databridge_main_conf_t *dmcf = conf;

    ssize_t     size;
    ngx_str_t  *value;

    if (dmcf->zone_size != NGX_CONF_UNSET_SIZE) {
        return "is duplicate";
    }

    value = cf->args->elts;
    size = ngx_parse_size(&value[1]);

    if (size == NGX_ERROR || size < (ssize_t) (8 * ngx_pagesize)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid size \"%V\": it must be at least %uz",
                           &value[1], 8 * ngx_pagesize);
        return NGX_CONF_ERROR;
    }

    dmcf->zone_size = size;

    return NGX_CONF_OK;
}


/*
 * The zone is there as soon as there is something to count, not only once
 * somebody looks: a location added by a reload shows what was before it.
 */

ngx_int_t
ngx_http_databridge_metrics_init(ngx_conf_t *cf,
    ngx_http_databridge_main_conf_t *dmcf)
{
    ngx_str_t                   name;
    ngx_shm_zone_t             *zone;
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    if (dmcf->apps.nelts == 0 && dmcf->cruds.nelts == 0 && !dmcf->shown) {
        return NGX_OK;
    }

    ngx_str_set(&name, DB_METRICS_ZONE);

    zone = ngx_shared_memory_add(cf, &name, dmcf->zone_size,
                                 &ngx_http_databridge_module);
    if (zone == NULL) {
        return NGX_ERROR;
    }

    dmcf->core = (ngx_core_conf_t *) ngx_get_conf(cf->cycle->conf_ctx,
                                                  ngx_core_module);
    dmcf->zone = zone;

    zone->init = ngx_http_databridge_zone_init;
    zone->data = dmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_LOG_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_databridge_log_handler;

    return NGX_OK;
}


static ngx_int_t
ngx_http_databridge_zone_init(ngx_shm_zone_t *zone, void *data)
{
    ngx_http_databridge_main_conf_t *old = data;

    void                             *memory;
    size_t                            size;
    ngx_slab_pool_t                  *pool;
    ngx_http_databridge_main_conf_t  *dmcf;

    dmcf = zone->data;
    pool = (ngx_slab_pool_t *) zone->shm.addr;

    if (old) {
        dmcf->metrics = old->metrics;

    } else if (zone->shm.exists) {
        dmcf->metrics = pool->data;

    } else {
        size = pool->pfree * ngx_pagesize;

        memory = ngx_slab_calloc(pool, size);
        if (memory == NULL) {
            return NGX_ERROR;
        }

        dmcf->metrics = db_metrics_create(memory, size,
                                          dmcf->core->worker_processes);
        if (dmcf->metrics == NULL) {
            ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                          "databridge_metrics_zone %uz is too small for %i "
                          "workers", zone->shm.size,
                          dmcf->core->worker_processes);
            return NGX_ERROR;
        }

        pool->data = dmcf->metrics;
    }

    if (!db_metrics_valid(dmcf->metrics)) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                      "databridge: the zone \"%V\" is damaged",
                      &zone->shm.name);
        return NGX_ERROR;
    }

    dmcf->metrics_generation = db_metrics_generation(dmcf->metrics);

    return NGX_OK;
}


ngx_int_t
ngx_http_databridge_meter_init(ngx_http_databridge_worker_t *worker)
{
    ngx_http_databridge_meter_t      *meter;
    ngx_http_databridge_main_conf_t  *dmcf;

    dmcf = worker->conf;
    meter = &worker->meter;

    meter->metrics = dmcf->metrics;
    meter->lock = &((ngx_slab_pool_t *) dmcf->zone->shm.addr)->mutex;
    meter->generation = dmcf->metrics_generation;

    meter->shard = ngx_worker % db_metrics_nshards(meter->metrics);

    ngx_shmtx_lock(meter->lock);

    meter->row = db_metrics_claim(meter->metrics, ngx_pid);

    ngx_shmtx_unlock(meter->lock);

    if (meter->row == NULL) {
        ngx_log_error(NGX_LOG_WARN, worker->cycle->log, 0,
                      "databridge: too many workers for the metrics, this "
                      "one's queue and event loop are not in them");

        meter->row = &meter->spare;
    }

    if (ngx_http_databridge_apps_series(worker) != NGX_OK
        || ngx_http_databridge_cruds_series(worker) != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* with applications, when their routes are known */

    if (dmcf->apps.nelts == 0) {
        db_metrics_live(meter->metrics, meter->generation);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_databridge_apps_series(ngx_http_databridge_worker_t *worker)
{
    ngx_uint_t                     i;
    ngx_pool_t                    *pool;
    db_app_conf_t                 *app;
    ngx_http_databridge_meter_t   *meter;

    app = worker->conf->apps.elts;
    pool = worker->cycle->pool;
    meter = &worker->meter;

    meter->others = ngx_pcalloc(pool, worker->conf->apps.nelts
                                * sizeof(ngx_http_databridge_series_t));
    meter->routes = ngx_pcalloc(pool, worker->conf->apps.nelts
                                * sizeof(ngx_http_databridge_series_t *));

    if (meter->others == NULL || meter->routes == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < worker->conf->apps.nelts; i++) {
        meter->others[i].app = app[i].target;
        meter->others[i].route = db_string("other");
    }

    return NGX_OK;
}


/* The collection and its items. */

static ngx_int_t
ngx_http_databridge_cruds_series(ngx_http_databridge_worker_t *worker)
{
    u_char                            *p;
    db_str_t                           name, app, prefix;
    ngx_uint_t                         i;
    ngx_http_databridge_series_t      *series;
    ngx_http_databridge_crud_conf_t  **crud;

    crud = worker->conf->cruds.elts;

    for (i = 0; i < worker->conf->cruds.nelts; i++) {

        name = db_crud_collection(crud[i]->crud)->name;
        prefix = ngx_http_databridge_str(crud[i]->prefix);

        series = ngx_pcalloc(worker->cycle->pool,
                             2 * sizeof(ngx_http_databridge_series_t)
                             + sizeof("crud:") + name.len
                             + prefix.len + sizeof("/{id}"));
        if (series == NULL) {
            return NGX_ERROR;
        }

        p = (u_char *) (series + 2);

        app.data = (char *) p;
        p = ngx_cpymem(p, "crud:", 5);
        p = ngx_cpymem(p, name.data, name.len);
        app.len = (char *) p - app.data;

        series[0].app = app;
        series[0].route = prefix;

        series[1].app = app;
        series[1].route.data = (char *) p;
        p = ngx_cpymem(p, prefix.data, prefix.len);
        p = ngx_cpymem(p, "/{id}", 5);
        series[1].route.len = (char *) p - series[1].route.data;

        ngx_http_databridge_touch(&worker->meter, &series[0]);
        ngx_http_databridge_touch(&worker->meter, &series[1]);

        crud[i]->series = series;
    }

    return NGX_OK;
}


/*
 * The applications have declared their routes: what the zone holds of them
 * already is kept for them, before this generation may reclaim slots.
 */

void
ngx_http_databridge_meter_ready(ngx_http_databridge_worker_t *worker)
{
    char                          *pattern;
    ngx_uint_t                     i, k;
    db_table_t                    *table;
    ngx_http_databridge_meter_t   *meter;
    ngx_http_databridge_series_t  *series;

    meter = &worker->meter;

    for (i = 0; i < worker->apps->ntables; i++) {

        table = worker->apps->tables[i];

        ngx_http_databridge_touch(meter, &meter->others[i]);

        series = ngx_pcalloc(worker->cycle->pool,
                             (table->nroutes + 1)
                             * sizeof(ngx_http_databridge_series_t));
        if (series == NULL) {
            return;
        }

        for (k = 0; k < table->nroutes; k++) {

            series[k].app = meter->others[i].app;
            series[k].route = meter->others[i].route;
            pattern = table->routes[k].pattern;

            if (pattern) {
                series[k].route.data = pattern;
                series[k].route.len = ngx_strlen(pattern);

                ngx_http_databridge_touch(meter, &series[k]);
            }
        }

        meter->routes[i] = series;
    }

    db_metrics_live(meter->metrics, meter->generation);
}


static void
ngx_http_databridge_touch(ngx_http_databridge_meter_t *meter,
    ngx_http_databridge_series_t *series)
{
    ngx_uint_t        i;
    db_metrics_key_t  key;

    key.app = series->app;
    key.route = series->route;

    ngx_shmtx_lock(meter->lock);

    for (i = 0; i < NGX_HTTP_DATABRIDGE_METHODS; i++) {
        key.method = ngx_http_databridge_methods[i];

        (void) db_metrics_find(meter->metrics, &key, meter->generation);
    }

    ngx_shmtx_unlock(meter->lock);
}


void
ngx_http_databridge_meter_exit(ngx_http_databridge_worker_t *worker)
{
    db_metrics_release(worker->meter.row, ngx_pid);
}


static ngx_int_t
ngx_http_databridge_metrics_handler(ngx_http_request_t *r)
{
    db_buf_t    text;
    db_str_t    type, body;
    ngx_uint_t  json;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    json = ngx_http_databridge_wants_json(r);

    if (ngx_http_databridge_metrics_text(r, json, &text) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    type = json ? db_string("application/json")
                : db_string(NGX_HTTP_DATABRIDGE_TEXT);

    body.data = text.data;
    body.len = text.len;

    return ngx_http_databridge_answer(r, NGX_HTTP_OK, type, body);
}


/* "format=" in the query, else the Accept header, else the directive. */

static ngx_uint_t
ngx_http_databridge_wants_json(ngx_http_request_t *r)
{
    ngx_str_t                        format;
    ngx_table_elt_t                 *accept;
    ngx_http_databridge_loc_conf_t  *dlcf;

    if (ngx_http_arg(r, (u_char *) "format", 6, &format) == NGX_OK) {
        return format.len == 4 && ngx_strncmp(format.data, "json", 4) == 0;
    }

    accept = ngx_http_databridge_header_in(r, db_string("accept"));

    if (accept
        && ngx_strcasestrn(accept->value.data, "application/json", 16 - 1))
    {
        return 1;
    }

    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_databridge_module);

    return dlcf->metrics == NGX_HTTP_DATABRIDGE_METRICS_JSON;
}


/* The text lives as long as the request. */

static ngx_int_t
ngx_http_databridge_metrics_text(ngx_http_request_t *r, ngx_uint_t json,
    db_buf_t *text)
{
    int                               rc;
    db_arena_t                       *arena;
    ngx_shmtx_t                      *lock;
    ngx_pool_cleanup_t               *cln;
    ngx_http_databridge_main_conf_t  *dmcf;

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    arena = db_arena_create(4096);
    if (arena == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_databridge_arena_cleanup;
    cln->data = arena;

    dmcf = ngx_http_get_module_main_conf(r, ngx_http_databridge_module);
    lock = &((ngx_slab_pool_t *) dmcf->zone->shm.addr)->mutex;

    db_buf_init(text, arena, 64 * 1024);

    ngx_shmtx_lock(lock);

    rc = db_exposition_write(text, dmcf->metrics,
                             json ? DB_EXPOSITION_JSON
                                  : DB_EXPOSITION_PROMETHEUS);

    ngx_shmtx_unlock(lock);

    return rc == DB_OK ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_databridge_arena_cleanup(void *data)
{
    db_arena_destroy(data);
}
