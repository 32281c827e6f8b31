/*
 * Whom nginx has authenticated.
 *
 * headers_in.user alone does not tell: $remote_user fills it with whatever
 * name the client claims, wherever a configuration uses that variable.  So
 * the name is forgotten before the access phase: one that is there after it
 * comes from auth_basic, which sets a challenge if the password was wrong.
 */

#include "http/ngx_http_databridge.h"


static ngx_int_t ngx_http_databridge_forget_user(ngx_http_request_t *r);


ngx_int_t
ngx_http_databridge_user_init(ngx_conf_t *cf)
{
    ngx_array_t                *handlers;
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    handlers = &cmcf->phases[NGX_HTTP_PREACCESS_PHASE].handlers;

    if (ngx_array_push(handlers) == NULL) {
        return NGX_ERROR;
    }

    /* handlers run last to first: the first is next to the access phase */

    h = handlers->elts;

    ngx_memmove(&h[1], h, (handlers->nelts - 1) * sizeof(ngx_http_handler_pt));

    h[0] = ngx_http_databridge_forget_user;

    return NGX_OK;
}


static ngx_int_t
ngx_http_databridge_forget_user(ngx_http_request_t *r)
{
    /* the access phase is not run for subrequests: theirs is the parent's */

    if (r == r->main) {
        ngx_str_null(&r->headers_in.user);
    }

    return NGX_DECLINED;
}


void
ngx_http_databridge_user(ngx_http_request_t *r, ngx_str_t *user)
{
    ngx_str_null(user);

    if (r->headers_in.user.data && r->headers_out.www_authenticate == NULL) {
        *user = r->headers_in.user;
    }
}
