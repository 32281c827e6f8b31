/*
 * "databridge_cors": the headers of native answers, and preflights, as
 * db_cors.h has them.  What goes to Python is left to the application's own
 * middleware, so that nothing is added twice.
 */

#include "http/ngx_http_databridge.h"


static char *ngx_http_databridge_cors_param(ngx_conf_t *cf,
    ngx_str_t *param, db_cors_conf_t *cors);
static char *ngx_http_databridge_cors_check(ngx_conf_t *cf, const char *name,
    db_str_t list, ngx_uint_t origins);
static ngx_uint_t ngx_http_databridge_cors_origin(db_str_t item);
static ngx_uint_t ngx_http_databridge_cors_token(db_str_t item);
static ngx_int_t ngx_http_databridge_cors_flag(db_str_t value);
static void ngx_http_databridge_cors_cleanup(void *data);
static db_cors_t *ngx_http_databridge_cors_policy(ngx_http_request_t *r);
static void ngx_http_databridge_cors_request(ngx_http_request_t *r,
    db_cors_request_t *request);
static ngx_int_t ngx_http_databridge_cors_add(ngx_http_request_t *r,
    db_cors_answer_t *answer);


char *
ngx_http_databridge_cors(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_databridge_loc_conf_t *dlcf = conf;

    char                *rv;
    ngx_str_t           *value;
    ngx_uint_t           i;
    db_cors_conf_t       cors;
    ngx_pool_cleanup_t  *cln;

    if (dlcf->cors != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        dlcf->cors = NULL;
        return NGX_CONF_OK;
    }

    ngx_memzero(&cors, sizeof(db_cors_conf_t));
    cors.methods = db_string("GET");
    cors.max_age = db_string("600");

    for (i = 1; i < cf->args->nelts; i++) {
        rv = ngx_http_databridge_cors_param(cf, &value[i], &cors);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (cors.origins.len == 0) {
        return "needs \"origins=*\", or origins separated by spaces, as in "
               "\"origins='https://a.example https://b.example'\"";
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_CONF_ERROR;
    }

    dlcf->cors = db_cors_create(&cors);
    if (dlcf->cors == NULL) {
        return NGX_CONF_ERROR;
    }

    cln->handler = ngx_http_databridge_cors_cleanup;
    cln->data = dlcf->cors;

    return NGX_CONF_OK;
}


static char *
ngx_http_databridge_cors_param(ngx_conf_t *cf, ngx_str_t *param,
    db_cors_conf_t *cors)
{
    u_char     *equals;
    db_str_t    name, value;
    ngx_int_t   n;
    ngx_str_t   time;

    equals = (u_char *) ngx_strchr(param->data, '=');

    if (equals) {
        name.data = (char *) param->data;
        name.len = equals - param->data;
        value.data = (char *) equals + 1;
        value.len = param->len - name.len - 1;

        if (db_str_eq(name, db_string("origins"))) {
            cors->origins = value;
            return ngx_http_databridge_cors_check(cf, "origin", value, 1);
        }

        if (db_str_eq(name, db_string("methods"))) {
            cors->methods = value;
            return ngx_http_databridge_cors_check(cf, "method", value, 0);
        }

        if (db_str_eq(name, db_string("headers"))) {
            cors->headers = value;
            return ngx_http_databridge_cors_check(cf, "header", value, 0);
        }

        if (db_str_eq(name, db_string("expose"))) {
            cors->expose = value;
            return ngx_http_databridge_cors_check(cf, "header", value, 0);
        }

        if (db_str_eq(name, db_string("max_age"))) {

            time.data = (u_char *) value.data;
            time.len = value.len;
            n = ngx_parse_time(&time, 1);

            time.data = ngx_pnalloc(cf->pool, NGX_INT_T_LEN);
            if (time.data == NULL) {
                return NGX_CONF_ERROR;
            }

            cors->max_age.data = (char *) time.data;
            cors->max_age.len = ngx_sprintf(time.data, "%i", n) - time.data;

            if (n != NGX_ERROR) {
                return NGX_CONF_OK;
            }
        }

        n = ngx_http_databridge_cors_flag(value);

        if (n != NGX_ERROR && db_str_eq(name, db_string("credentials"))) {
            cors->credentials = n;
            return NGX_CONF_OK;
        }

        if (n != NGX_ERROR && db_str_eq(name, db_string("private_network"))) {
            cors->private_network = n;
            return NGX_CONF_OK;
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\": it must be \"off\" alone, "
                       "\"origins=\", \"methods=\", \"headers=\" or "
                       "\"expose=\" with a list separated by spaces, "
                       "\"credentials=on|off\", \"private_network=on|off\" "
                       "or \"max_age=TIME\"", param);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_databridge_cors_check(ngx_conf_t *cf, const char *name,
    db_str_t list, ngx_uint_t origins)
{
    db_str_t     item;
    const char  *p, *end;

    end = list.data + list.len;

    for (p = list.data; p < end; p = item.data + item.len) {

        item.data = p + strspn(p, " \t\r\n");
        item.len = strcspn(item.data, " \t\r\n");

        if (item.len == 0
            || (origins ? ngx_http_databridge_cors_origin(item)
                        : ngx_http_databridge_cors_token(item)))
        {
            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid %s \"%*s\"%s",
                           name, item.len, item.data,
                           origins ? ": it must read \"https://host\" or "
                                     "\"https://host:port\", as browsers "
                                     "send it, without a path"
                                   : ": names are separated by spaces");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_uint_t
ngx_http_databridge_cors_origin(db_str_t item)
{
    u_char  *host, *last;

    if (db_str_eq(item, db_string("*")) || db_str_eq(item, db_string("null")))
    {
        return 1;
    }

    last = (u_char *) item.data + item.len;
    host = ngx_strlcasestrn((u_char *) item.data, last, (u_char *) "://",
                            3 - 1);

    return host && host > (u_char *) item.data && host + 3 < last
           && ngx_strlchr(host + 3, last, '/') == NULL
           && ngx_strlchr(host + 3, last, '*') == NULL;
}


static ngx_uint_t
ngx_http_databridge_cors_token(db_str_t item)
{
    size_t  i;
    u_char  c;

    for (i = 0; i < item.len; i++) {
        c = item.data[i];

        if (c <= ' ' || c >= 0x7f || ngx_strchr("()<>@,;:\\\"/[]?={}", c)) {
            return 0;
        }
    }

    return 1;
}


static ngx_int_t
ngx_http_databridge_cors_flag(db_str_t value)
{
    if (db_str_eq(value, db_string("on"))) {
        return 1;
    }

    return db_str_eq(value, db_string("off")) ? 0 : NGX_ERROR;
}


static void
ngx_http_databridge_cors_cleanup(void *data)
{
    db_cors_destroy(data);
}


/* What the configuration says goes before what the application says. */

static db_cors_t *
ngx_http_databridge_cors_policy(ngx_http_request_t *r)
{
    db_ready_t                      *apps;
    ngx_http_databridge_loc_conf_t  *dlcf;

    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_databridge_module);

    if (dlcf->cors != NGX_CONF_UNSET_PTR) {
        return dlcf->cors;
    }

    if (dlcf->app == NGX_CONF_UNSET || ngx_http_databridge_worker == NULL) {
        return NULL;
    }

    apps = ngx_http_databridge_worker->apps;

    return apps ? apps->tables[dlcf->app]->cors : NULL;
}


/* The first of each name, as Starlette takes it. */

static void
ngx_http_databridge_cors_request(ngx_http_request_t *r,
    db_cors_request_t *request)
{
    db_str_t         *value;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

#define ngx_http_databridge_cors_is(h, name)                                  \
    ((h).key.len == sizeof(name) - 1                                          \
     && ngx_strncmp((h).lowcase_key, name, sizeof(name) - 1) == 0)

    ngx_memzero(request, sizeof(db_cors_request_t));

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (ngx_http_databridge_cors_is(h[i], "origin")) {
                value = &request->origin;

            } else if (r->method != NGX_HTTP_OPTIONS) {
                continue;

            } else if (ngx_http_databridge_cors_is(h[i],
                                            "access-control-request-method"))
            {
                value = &request->method;

            } else if (ngx_http_databridge_cors_is(h[i],
                                            "access-control-request-headers"))
            {
                value = &request->headers;

            } else if (ngx_http_databridge_cors_is(h[i],
                                    "access-control-request-private-network"))
            {
                value = &request->private_network;

            } else {
                continue;
            }

            if (value->data == NULL) {
                *value = ngx_http_databridge_str(h[i].value);
            }
        }
    }

#undef ngx_http_databridge_cors_is
}


/* NGX_DECLINED: this is no preflight, or there is no policy. */

ngx_int_t
ngx_http_databridge_cors_preflight(ngx_http_request_t *r)
{
    size_t              len;
    u_char             *text;
    db_str_t            body;
    db_cors_t          *cors;
    db_cors_answer_t    answer;
    db_cors_request_t   request;

    if (r->method != NGX_HTTP_OPTIONS) {
        return NGX_DECLINED;
    }

    cors = ngx_http_databridge_cors_policy(r);
    if (cors == NULL) {
        return NGX_DECLINED;
    }

    ngx_http_databridge_cors_request(r, &request);

    if (request.origin.data == NULL || request.method.data == NULL) {
        return NGX_DECLINED;
    }

    db_cors_preflight(cors, &request, &answer);

    len = ngx_strlen(answer.text);

    text = ngx_pnalloc(r->pool, len);
    if (text == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memcpy(text, answer.text, len);
    body.data = (char *) text;
    body.len = len;

    if (ngx_http_databridge_cors_add(r, &answer) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_databridge_answer(r, answer.status,
                                      db_string("text/plain; charset=utf-8"),
                                      body);
}


ngx_int_t
ngx_http_databridge_cors_headers(ngx_http_request_t *r)
{
    db_cors_t          *cors;
    db_cors_answer_t    answer;
    db_cors_request_t   request;

    cors = ngx_http_databridge_cors_policy(r);
    if (cors == NULL) {
        return NGX_OK;
    }

    ngx_http_databridge_cors_request(r, &request);
    db_cors_simple(cors, request.origin, &answer);

    return ngx_http_databridge_cors_add(r, &answer);
}


static ngx_int_t
ngx_http_databridge_cors_add(ngx_http_request_t *r, db_cors_answer_t *answer)
{
    ngx_uint_t  i;

    for (i = 0; i < answer->nheaders; i++) {
        if (ngx_http_databridge_add_header(r, answer->headers[i].name,
                                           answer->headers[i].value)
            == NULL)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}
