/*
 * databridge's HTTP module: its directives and its place in nginx.  What the
 * directives do stands in src/http.
 */

#include "http/ngx_http_databridge.h"


static void *ngx_http_databridge_create_main_conf(ngx_conf_t *cf);
static char *ngx_http_databridge_init_main_conf(ngx_conf_t *cf, void *conf);
static void *ngx_http_databridge_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_databridge_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static void ngx_http_databridge_warn(ngx_conf_t *cf);
static ngx_int_t ngx_http_databridge_init(ngx_conf_t *cf);


static ngx_conf_num_bounds_t  ngx_http_databridge_queue_bounds = {
    ngx_conf_check_num_bounds, 1, 1000000
};

static ngx_conf_num_bounds_t  ngx_http_databridge_threads_bounds = {
    ngx_conf_check_num_bounds, 1, 1024
};

static ngx_conf_num_bounds_t  ngx_http_databridge_nice_bounds = {
    ngx_conf_check_num_bounds, 0, 19
};


static ngx_command_t  ngx_http_databridge_commands[] = {

    { ngx_string("databridge_app"),
      NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF|NGX_CONF_1MORE,
      ngx_http_databridge_app,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("databridge_crud"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE23,
      ngx_http_databridge_crud,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("databridge_health"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_databridge_health,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("databridge_cors"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_databridge_cors,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("databridge_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_databridge_loc_conf_t, timeout),
      NULL },

    { ngx_string("databridge_max_body_size"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_off_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_databridge_loc_conf_t, max_body_size),
      NULL },

    { ngx_string("databridge_ignore_client_abort"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_databridge_loc_conf_t, ignore_client_abort),
      NULL },

    { ngx_string("databridge_websocket_max_size"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_databridge_loc_conf_t, websocket_max_size),
      NULL },

    { ngx_string("databridge_websocket_ping"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_databridge_loc_conf_t, websocket_ping),
      NULL },

    { ngx_string("databridge_websocket_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_databridge_loc_conf_t, websocket_timeout),
      NULL },

    { ngx_string("databridge_store"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE2,
      ngx_http_databridge_store,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("databridge_venv"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_databridge_venv,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("databridge_python_path"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_databridge_python_path,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("databridge_env"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_databridge_env,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("databridge_queue"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_databridge_main_conf_t, queue),
      &ngx_http_databridge_queue_bounds },

    { ngx_string("databridge_sync_threads"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_databridge_main_conf_t, sync_threads),
      &ngx_http_databridge_threads_bounds },

    { ngx_string("databridge_store_threads"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_databridge_main_conf_t, store_threads),
      &ngx_http_databridge_threads_bounds },

    { ngx_string("databridge_nice"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_databridge_main_conf_t, nice),
      &ngx_http_databridge_nice_bounds },

    { ngx_string("databridge_shutdown_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_databridge_main_conf_t, shutdown_timeout),
      NULL },

    { ngx_string("databridge_check"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_databridge_check_time,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("databridge_metrics"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_databridge_metrics,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("databridge_metrics_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_databridge_metrics_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("databridge_trace"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_databridge_loc_conf_t, trace),
      NULL },

    { ngx_string("databridge_max_requests"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_databridge_max_requests,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("databridge_max_rss"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_databridge_main_conf_t, max_rss),
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_databridge_module_ctx = {
    ngx_http_databridge_add_variables,     /* preconfiguration */
    ngx_http_databridge_init,              /* postconfiguration */

    ngx_http_databridge_create_main_conf,  /* create main configuration */
    ngx_http_databridge_init_main_conf,    /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_databridge_create_loc_conf,   /* create location configuration */
    ngx_http_databridge_merge_loc_conf     /* merge location configuration */
};


ngx_module_t  ngx_http_databridge_module = {
    NGX_MODULE_V1,
    &ngx_http_databridge_module_ctx,       /* module context */
    ngx_http_databridge_commands,          /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_http_databridge_handover_begin,    /* init module */
    ngx_http_databridge_worker_init,       /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static void *
ngx_http_databridge_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_databridge_main_conf_t  *dmcf;

    dmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_databridge_main_conf_t));
    if (dmcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     dmcf->venv = { 0, NULL };
     *     dmcf->loop_pool = NULL;
     *     dmcf->store_pool = NULL;
     *     dmcf->warned = NULL;
     *     dmcf->zone = NULL;
     *     dmcf->metrics = NULL;
     *     dmcf->shown = 0;
     *     dmcf->max_requests_jitter = 0;
     *     dmcf->recycle_zone = NULL;
     *     dmcf->handover_zone = NULL;
     *     dmcf->generation = 0;
     */

    if (ngx_array_init(&dmcf->apps, cf->pool, 4, sizeof(db_app_conf_t))
        != NGX_OK
        || ngx_array_init(&dmcf->stores, cf->pool, 4,
                          sizeof(ngx_http_databridge_store_t))
           != NGX_OK
        || ngx_array_init(&dmcf->cruds, cf->pool, 4,
                          sizeof(ngx_http_databridge_crud_conf_t *))
           != NGX_OK
        || ngx_array_init(&dmcf->env, cf->pool, 4, sizeof(ngx_str_t))
           != NGX_OK
        || ngx_array_init(&dmcf->path, cf->pool, 4, sizeof(ngx_str_t))
           != NGX_OK)
    {
        return NULL;
    }

    dmcf->queue = NGX_CONF_UNSET_UINT;
    dmcf->sync_threads = NGX_CONF_UNSET_UINT;
    dmcf->store_threads = NGX_CONF_UNSET_UINT;
    dmcf->nice = NGX_CONF_UNSET_UINT;
    dmcf->shutdown_timeout = NGX_CONF_UNSET_MSEC;
    dmcf->check = NGX_CONF_UNSET_MSEC;
    dmcf->zone_size = NGX_CONF_UNSET_SIZE;
    dmcf->max_requests = NGX_CONF_UNSET_UINT;
    dmcf->max_rss = NGX_CONF_UNSET_SIZE;

    return dmcf;
}


static char *
ngx_http_databridge_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_databridge_main_conf_t *dmcf = conf;

    ngx_conf_init_uint_value(dmcf->queue, 1024);
    ngx_conf_init_uint_value(dmcf->sync_threads, 40);
    ngx_conf_init_uint_value(dmcf->store_threads, 4);
    ngx_conf_init_uint_value(dmcf->nice, 10);
    ngx_conf_init_msec_value(dmcf->shutdown_timeout, 30000);
    ngx_conf_init_msec_value(dmcf->check, 30000);
    ngx_conf_init_size_value(dmcf->zone_size, 1024 * 1024);
    ngx_conf_init_uint_value(dmcf->max_requests, 0);
    ngx_conf_init_size_value(dmcf->max_rss, 0);

    return NGX_CONF_OK;
}


static void *
ngx_http_databridge_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_databridge_loc_conf_t  *dlcf;

    dlcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_databridge_loc_conf_t));
    if (dlcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     dlcf->handler = NULL;
     *     dlcf->crud = NULL;
     *     dlcf->health = { 0, NULL };
     *     dlcf->metrics = 0;
     */

    dlcf->app = NGX_CONF_UNSET;
    dlcf->cors = NGX_CONF_UNSET_PTR;
    dlcf->timeout = NGX_CONF_UNSET_MSEC;
    dlcf->max_body_size = NGX_CONF_UNSET;
    dlcf->ignore_client_abort = NGX_CONF_UNSET;
    dlcf->trace = NGX_CONF_UNSET;
    dlcf->websocket_max_size = NGX_CONF_UNSET_SIZE;
    dlcf->websocket_ping = NGX_CONF_UNSET_MSEC;
    dlcf->websocket_timeout = NGX_CONF_UNSET_MSEC;

    return dlcf;
}


static char *
ngx_http_databridge_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_databridge_loc_conf_t *prev = parent;
    ngx_http_databridge_loc_conf_t *conf = child;

    ngx_http_core_loc_conf_t  *clcf;

    ngx_conf_merge_msec_value(conf->timeout, prev->timeout, 60000);
    ngx_conf_merge_value(conf->trace, prev->trace, 0);
    ngx_conf_merge_off_value(conf->max_body_size, prev->max_body_size,
                             NGX_CONF_UNSET);
    ngx_conf_merge_value(conf->ignore_client_abort,
                         prev->ignore_client_abort, 0);
    ngx_conf_merge_size_value(conf->websocket_max_size,
                              prev->websocket_max_size, 16 * 1024 * 1024);
    ngx_conf_merge_msec_value(conf->websocket_ping, prev->websocket_ping,
                              20000);
    ngx_conf_merge_msec_value(conf->websocket_timeout,
                              prev->websocket_timeout, 20000);
    ngx_conf_merge_ptr_value(conf->cors, prev->cors, NGX_CONF_UNSET_PTR);

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /* "if" and "limit_except" blocks serve what their location does */

    if (clcf->noname && conf->handler == NULL) {
        conf->handler = prev->handler;
        conf->app = prev->app;
        conf->crud = prev->crud;
        conf->health = prev->health;
        conf->metrics = prev->metrics;
    }

    if (clcf->lmt_excpt && clcf->handler == NULL) {
        clcf->handler = conf->handler;
    }

    if (conf->app != NGX_CONF_UNSET) {
        ngx_http_databridge_warn(cf);
    }

    if (conf->app == NGX_CONF_UNSET && conf->crud == NULL) {
        return NGX_CONF_OK;
    }

    /*
     * The core checks its own limit before the content phase: ours replaces
     * it, and by default nginx's 1m, but not a limit that the user has set.
     */

    if (conf->max_body_size != NGX_CONF_UNSET) {
        clcf->client_max_body_size = conf->max_body_size;

    } else if (clcf->client_max_body_size == 1024 * 1024) {
        clcf->client_max_body_size = 100 * 1024 * 1024;
    }

    return NGX_CONF_OK;
}


/* Forcing the two settings would open other locations to smuggled names. */

static void
ngx_http_databridge_warn(ngx_conf_t *cf)
{
    ngx_http_core_srv_conf_t         *cscf;
    ngx_http_databridge_main_conf_t  *dmcf;

    cscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module);
    dmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_databridge_module);

    /* locations are merged server by server: one warning for each */

    if (dmcf->warned == cscf
        || (cscf->underscores_in_headers && !cscf->ignore_invalid_headers))
    {
        return;
    }

    dmcf->warned = cscf;

    ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                  "request headers whose names have \"_\" or \".\" do not "
                  "reach the application of the server in %s:%ui: set "
                  "\"underscores_in_headers on\" and "
                  "\"ignore_invalid_headers off\"",
                  cscf->file_name, cscf->line);
}


static ngx_int_t
ngx_http_databridge_init(ngx_conf_t *cf)
{
    ngx_http_databridge_main_conf_t  *dmcf;

    dmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_databridge_module);

    if ((dmcf->apps.nelts || dmcf->cruds.nelts)
        && ngx_http_databridge_user_init(cf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_databridge_metrics_init(cf, dmcf) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_databridge_resolve(cf, dmcf);
}
