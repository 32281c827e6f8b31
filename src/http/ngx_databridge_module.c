/*
 * databridge's CORE module: what must run before nginx's thread pools.  It
 * stands before them in the order of modules, so that its exit_process has
 * stopped Python when theirs waits for the threads; its init_conf refuses a
 * configuration whose application does not load.
 */

#include "http/ngx_http_databridge.h"


static char *ngx_databridge_init_conf(ngx_cycle_t *cycle, void *conf);


static ngx_core_module_t  ngx_databridge_module_ctx = {
    ngx_string("databridge"),
    NULL,                                  /* create configuration */
    ngx_databridge_init_conf               /* init configuration */
};


static ngx_command_t  ngx_databridge_commands[] = {
      ngx_null_command
};


ngx_module_t  ngx_databridge_module = {
    NGX_MODULE_V1,
    &ngx_databridge_module_ctx,            /* module context */
    ngx_databridge_commands,               /* module directives */
    NGX_CORE_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_databridge_worker_exit,       /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static char *
ngx_databridge_init_conf(ngx_cycle_t *cycle, void *conf)
{
    ngx_http_conf_ctx_t              *ctx;
    ngx_http_databridge_main_conf_t  *dmcf;

    /* "nginx -s quit" reads the configuration too */

    if (ngx_process == NGX_PROCESS_SIGNALLER) {
        return NGX_CONF_OK;
    }

    /* without a master Python lives in this very process */

    if (ngx_http_databridge_worker != NULL) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "databridge cannot reload with \"master_process off\"");
        return NGX_CONF_ERROR;
    }

    ctx = (ngx_http_conf_ctx_t *) cycle->conf_ctx[ngx_http_module.index];

    if (ctx == NULL) {
        return NGX_CONF_OK;
    }

    dmcf = ctx->main_conf[ngx_http_databridge_module.ctx_index];

    ngx_http_databridge_recycle_check(cycle, dmcf);

    if (dmcf->check == 0) {
        return NGX_CONF_OK;
    }

    if (ngx_databridge_check(cycle, dmcf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}
