/*
 * Answers that are in memory whole and need no Python: those of native CRUD,
 * of preflights and of routes and locations that always say the same.
 */

#include "http/ngx_http_databridge.h"
#include "json/db_json.h"


/* Type and body must live as long as the request; its body is read, or not. */

ngx_int_t
ngx_http_databridge_answer(ngx_http_request_t *r, ngx_uint_t status,
    db_str_t type, db_str_t body)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_str_t     value;
    ngx_chain_t   out;

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    /* another location has begun to read it, and nginx will close */

    if (r->reading_body) {
        r->keepalive = 0;
    }

    ngx_http_databridge_set_status(r, status);

    if (status != NGX_HTTP_NOT_MODIFIED) {
        r->headers_out.content_length_n = body.len;
    }

    if (type.len) {
        value.data = (u_char *) type.data;
        value.len = type.len;
        (void) ngx_http_databridge_content_type(r, &value);
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = (u_char *) body.data;
    b->last = b->pos + body.len;
    b->memory = body.len != 0;
    b->last_buf = (r == r->main);
    b->last_in_chain = 1;
    b->sync = (body.len == 0 && r != r->main);

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


ngx_int_t
ngx_http_databridge_answer_json(ngx_http_request_t *r, ngx_uint_t status,
    db_str_t json)
{
    if (status == NGX_HTTP_SERVICE_UNAVAILABLE
        && ngx_http_databridge_add_header(r, db_string("Retry-After"),
                                          db_string("1"))
           == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_databridge_cors_headers(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_databridge_answer(r, status,
                                      json.len ? db_string("application/json")
                                               : db_null_string, json);
}


/* {"detail": "..."}, as FastAPI words its errors. */

ngx_int_t
ngx_http_databridge_answer_error(ngx_http_request_t *r, ngx_uint_t status,
    const char *detail, db_str_t allow)
{
    u_char    *p;
    db_str_t   json;

    p = ngx_pnalloc(r->pool, sizeof("{\"detail\":\"\"}") + ngx_strlen(detail));
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    json.data = (char *) p;
    json.len = ngx_sprintf(p, "{\"detail\":\"%s\"}", detail) - p;

    if (allow.len
        && ngx_http_databridge_add_header(r, db_string("Allow"), allow)
           == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_databridge_answer_json(r, status, json);
}


/*
 * A route of an application with a constant answer, which lives as long as
 * the worker.  NGX_DECLINED: Python has to say what it thinks of the method.
 */

ngx_int_t
ngx_http_databridge_answer_route(ngx_http_request_t *r, db_part_t *answer)
{
    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_databridge_cors_preflight(r);
    }

    ngx_http_databridge_record_kind(r, NGX_HTTP_DATABRIDGE_NATIVE);

    if (ngx_http_databridge_set_headers(r, answer) != NGX_OK
        || ngx_http_databridge_cors_headers(r) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_databridge_answer(r, answer->status, db_null_string,
                                      answer->body);
}


/* "databridge_health": whether this worker answers what it is there for. */

static ngx_uint_t
ngx_http_databridge_healthy(void)
{
    ngx_uint_t                         i;
    ngx_http_databridge_worker_t      *worker;
    ngx_http_databridge_crud_conf_t  **crud;

    worker = ngx_http_databridge_worker;

    /* there is neither an application nor a collection */

    if (worker == NULL) {
        return 1;
    }

    if (worker->stopping || worker->stopped) {
        return 0;
    }

    crud = worker->conf->cruds.elts;

    for (i = 0; i < worker->conf->cruds.nelts; i++) {
        if (!crud[i]->ready) {
            return 0;
        }
    }

    if (worker->conf->apps.nelts == 0) {
        return 1;
    }

    if (worker->apps == NULL) {
        return 0;
    }

    for (i = 0; i < worker->apps->ntables; i++) {
        if (worker->apps->tables[i]->error) {
            return 0;
        }
    }

    return 1;
}


ngx_int_t
ngx_http_databridge_health_handler(ngx_http_request_t *r)
{
    ngx_int_t                        rc;
    ngx_http_databridge_loc_conf_t  *dlcf;

    rc = ngx_http_databridge_cors_preflight(r);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_databridge_answer_error(r, NGX_HTTP_NOT_ALLOWED,
                                                "Method Not Allowed",
                                                db_string("GET, HEAD"));
    }

    if (!ngx_http_databridge_healthy()) {
        return ngx_http_databridge_answer_json(r,
                                  NGX_HTTP_SERVICE_UNAVAILABLE,
                                  db_string("{\"status\":\"unavailable\"}"));
    }

    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_databridge_module);

    return ngx_http_databridge_answer_json(r, NGX_HTTP_OK,
                                        ngx_http_databridge_str(dlcf->health));
}


char *
ngx_http_databridge_health(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_databridge_loc_conf_t *dlcf = conf;

    char             *rv;
    ngx_str_t        *value;
    db_json_error_t   error;

    rv = ngx_http_databridge_serve(cf, dlcf,
                                   ngx_http_databridge_health_handler);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    ngx_str_set(&dlcf->health, "{\"status\":\"ok\"}");

    if (cf->args->nelts == 2) {
        value = cf->args->elts;
        dlcf->health = value[1];

        if (db_json_scan(ngx_http_databridge_str(value[1]), &error)
            != DB_OK)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid JSON \"%V\": %s: character %uz",
                               &value[1], error.message, error.position);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}
