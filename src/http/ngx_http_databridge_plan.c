/*
 * Whether a request may take the plan of its route, as far as its head tells:
 * what Python would have to send back to the application does not take the
 * way through the plan at all.  nginx thread.
 */

#include "http/ngx_http_databridge.h"


static ngx_uint_t ngx_http_databridge_known_host(ngx_http_request_t *r,
    const db_plan_t *plan);
static db_str_t ngx_http_databridge_plain_host(db_str_t host);


ngx_uint_t
ngx_http_databridge_plannable(ngx_http_request_t *r, const db_plan_t *plan)
{
    ngx_uint_t  i;

#if (NGX_HTTP_SSL)

    if (plan->https && r->connection->ssl == NULL) {
        return 0;
    }

#else

    if (plan->https) {
        return 0;
    }

#endif

    for (i = 0; i < plan->nrequired; i++) {
        if (ngx_http_databridge_header_in(r, plan->required[i]) == NULL) {
            return 0;
        }
    }

    for (i = 0; i < plan->nabsent; i++) {
        if (ngx_http_databridge_header_in(r, plan->absent[i])) {
            return 0;
        }
    }

    return plan->nhosts == 0 || ngx_http_databridge_known_host(r, plan);
}


/* As Starlette's TrustedHostMiddleware, but what is odd is left to it. */

static ngx_uint_t
ngx_http_databridge_known_host(ngx_http_request_t *r, const db_plan_t *plan)
{
    size_t            len;
    db_str_t          host, name;
    ngx_uint_t        i;
    ngx_table_elt_t  *h;

    h = ngx_http_databridge_header_in(r, db_string("host"));
    if (h == NULL) {
        return 0;
    }

    host = ngx_http_databridge_plain_host(ngx_http_databridge_str(h->value));

    for (i = 0; i < plan->nhosts; i++) {

        name = plan->hosts[i];

        if (db_str_eq(host, name)) {
            return 1;
        }

        if (name.len == 0 || name.data[0] != '*') {
            continue;
        }

        len = name.len - 1;

        if (host.len >= len
            && ngx_memcmp(host.data + host.len - len, name.data + 1, len)
               == 0)
        {
            return 1;
        }
    }

    return 0;
}


/* A name without its port; empty when either has other characters. */

static db_str_t
ngx_http_databridge_plain_host(db_str_t host)
{
    u_char     c;
    size_t     i;
    db_str_t   name;

    name = host;

    for (i = 0; i < host.len && host.data[i] != ':'; i++) {

        c = host.data[i];

        if ((c < 'a' || c > 'z') && (c < '0' || c > '9')
            && c != '.' && c != '-' && c != '_')
        {
            return db_null_string;
        }
    }

    name.len = i;

    for (i++; i < host.len; i++) {
        if (host.data[i] < '0' || host.data[i] > '9') {
            return db_null_string;
        }
    }

    return host.len && host.data[host.len - 1] == ':' ? db_null_string : name;
}


/*
 * A body that a plan may read has to be whole when it is handed over; nginx
 * waits for what fits into its buffer.
 */

ngx_uint_t
ngx_http_databridge_whole_body(ngx_http_databridge_ctx_t *ctx)
{
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = ctx->request;

    if (ctx->plan == NULL || ctx->websocket || !ctx->plan->body) {
        return 0;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    return r->headers_in.content_length_n > 0
           && r->headers_in.content_length_n
              <= (off_t) clcf->client_body_buffer_size;
}
