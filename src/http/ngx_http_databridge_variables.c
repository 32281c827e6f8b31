/*
 * The variables for the access log, the request's id and its trace.
 *
 * An id that a client or an application gives is taken where it is sane, so
 * that the log shows the one that they know; else one is made.  Headers for
 * the application are changed with "databridge_trace on" only.
 */

#include "http/ngx_http_databridge.h"


#define NGX_HTTP_DATABRIDGE_ID_LEN  32


static ngx_int_t ngx_http_databridge_route_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_databridge_kind_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_databridge_time_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_databridge_id_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_databridge_trace_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_databridge_value(ngx_http_variable_value_t *v,
    u_char *data, size_t len);
static ngx_int_t ngx_http_databridge_trace_get(ngx_http_request_t *r,
    ngx_http_databridge_record_t *record);
static ngx_int_t ngx_http_databridge_trace_begin(ngx_http_request_t *r,
    ngx_http_databridge_record_t *record);
static ngx_int_t ngx_http_databridge_replace_header(ngx_http_request_t *r,
    ngx_str_t *name, ngx_str_t *value);
static db_random_t *ngx_http_databridge_random(ngx_http_request_t *r);


enum {
    NGX_HTTP_DATABRIDGE_QUEUE_TIME,
    NGX_HTTP_DATABRIDGE_HANDLER_TIME
};


static ngx_str_t  ngx_http_databridge_traceparent =
    ngx_string("traceparent");
static ngx_str_t  ngx_http_databridge_tracestate = ngx_string("tracestate");
static ngx_str_t  ngx_http_databridge_x_request_id =
    ngx_string("x-request-id");


static ngx_http_variable_t  ngx_http_databridge_variables[] = {

    { ngx_string("databridge_route"), NULL,
      ngx_http_databridge_route_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("databridge_kind"), NULL,
      ngx_http_databridge_kind_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("databridge_queue_time"), NULL,
      ngx_http_databridge_time_variable, NGX_HTTP_DATABRIDGE_QUEUE_TIME,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("databridge_handler_time"), NULL,
      ngx_http_databridge_time_variable, NGX_HTTP_DATABRIDGE_HANDLER_TIME,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("databridge_request_id"), NULL,
      ngx_http_databridge_id_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("databridge_trace_id"), NULL,
      ngx_http_databridge_trace_variable,
      offsetof(ngx_http_databridge_record_t, trace_id),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("databridge_traceparent"), NULL,
      ngx_http_databridge_trace_variable,
      offsetof(ngx_http_databridge_record_t, traceparent),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


static ngx_str_t  ngx_http_databridge_kinds[] = {
    ngx_null_string,
    ngx_string("native"),
    ngx_string("plan"),
    ngx_string("hybrid"),
    ngx_string("asgi"),
    ngx_string("wsgi"),
    ngx_string("websocket")
};


ngx_int_t
ngx_http_databridge_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_databridge_variables; v->name.len; v++) {

        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_databridge_route_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    db_str_t                       route;
    ngx_http_databridge_record_t  *record;

    record = ngx_http_databridge_record_get(r);

    if (record == NULL || record->series == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    route = record->series->route;

    return ngx_http_databridge_value(v, (u_char *) route.data, route.len);
}


static ngx_int_t
ngx_http_databridge_kind_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                     *kind;
    ngx_http_databridge_record_t  *record;

    record = ngx_http_databridge_record_get(r);

    if (record == NULL || record->kind == NGX_HTTP_DATABRIDGE_NONE) {
        v->not_found = 1;
        return NGX_OK;
    }

    kind = &ngx_http_databridge_kinds[record->kind];

    return ngx_http_databridge_value(v, kind->data, kind->len);
}


/* Seconds with microseconds: most of these times are below one of ms. */

static ngx_int_t
ngx_http_databridge_time_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                        *p;
    uint64_t                       from, to;
    ngx_http_databridge_record_t  *record;

    record = ngx_http_databridge_record_get(r);

    if (record == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    if (data == NGX_HTTP_DATABRIDGE_QUEUE_TIME) {
        from = record->waiting;
        to = record->taken;

    } else {
        from = record->taken;
        to = record->answered;
    }

    if (to == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_TIME_T_LEN + 7);
    if (p == NULL) {
        return NGX_ERROR;
    }

    to = (to - from) / 1000;

    return ngx_http_databridge_value(v, p,
                                     ngx_sprintf(p, "%uL.%06uL",
                                                 to / 1000000, to % 1000000)
                                     - p);
}


static ngx_int_t
ngx_http_databridge_id_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t  id;

    if (ngx_http_databridge_request_id(r, &id) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_databridge_value(v, id.data, id.len);
}


static ngx_int_t
ngx_http_databridge_trace_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                     *value;
    ngx_http_databridge_record_t  *record;

    record = ngx_http_databridge_record(r);

    if (record == NULL || ngx_http_databridge_trace_get(r, record) != NGX_OK)
    {
        return NGX_ERROR;
    }

    value = (ngx_str_t *) ((u_char *) record + data);

    if (value->len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    return ngx_http_databridge_value(v, value->data, value->len);
}


static ngx_int_t
ngx_http_databridge_value(ngx_http_variable_value_t *v, u_char *data,
    size_t len)
{
    v->data = data;
    v->len = len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


/* The client's, else the one that the application has answered, else ours. */

ngx_int_t
ngx_http_databridge_request_id(ngx_http_request_t *r, ngx_str_t *id)
{
    u_char                        *p;
    ngx_uint_t                     n;
    db_random_t                   *random;
    ngx_table_elt_t               *h;
    ngx_http_databridge_record_t  *record;

    record = ngx_http_databridge_record(r);
    if (record == NULL) {
        return NGX_ERROR;
    }

    if (record->request_id.len) {
        *id = record->request_id;
        return NGX_OK;
    }

    h = ngx_http_databridge_header_in(r,
                  ngx_http_databridge_str(ngx_http_databridge_x_request_id));

    if (h == NULL || !db_trace_request_id(ngx_http_databridge_str(h->value))) {
        h = ngx_http_databridge_find_header(&r->headers_out.headers,
                  ngx_http_databridge_str(ngx_http_databridge_x_request_id),
                  &n);
    }

    if (h && db_trace_request_id(ngx_http_databridge_str(h->value))) {
        record->request_id = h->value;

    } else {
        random = ngx_http_databridge_random(r);
        p = ngx_pnalloc(r->pool, NGX_HTTP_DATABRIDGE_ID_LEN);

        if (random == NULL || p == NULL) {
            return NGX_ERROR;
        }

        db_random_hex(random, (char *) p, NGX_HTTP_DATABRIDGE_ID_LEN);

        record->request_id.data = p;
        record->request_id.len = NGX_HTTP_DATABRIDGE_ID_LEN;
    }

    *id = record->request_id;

    return NGX_OK;
}


/* Before the hand-over: what the application is to see of them. */

ngx_int_t
ngx_http_databridge_trace(ngx_http_request_t *r)
{
    ngx_str_t                        id;
    ngx_http_databridge_record_t    *record;
    ngx_http_databridge_loc_conf_t  *dlcf;

    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_databridge_module);

    if (!dlcf->trace) {
        return NGX_OK;
    }

    record = ngx_http_databridge_record(r);

    if (record == NULL
        || ngx_http_databridge_trace_get(r, record) != NGX_OK
        || ngx_http_databridge_request_id(r, &id) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_databridge_replace_header(r,
                                      &ngx_http_databridge_x_request_id, &id);
}


static ngx_int_t
ngx_http_databridge_trace_get(ngx_http_request_t *r,
    ngx_http_databridge_record_t *record)
{
    db_str_t                         id;
    ngx_uint_t                       n;
    ngx_table_elt_t                 *h;
    ngx_http_databridge_loc_conf_t  *dlcf;

    if (record->traced) {
        return NGX_OK;
    }

    record->traced = 1;

    h = ngx_http_databridge_find_header(&r->headers_in.headers,
                   ngx_http_databridge_str(ngx_http_databridge_traceparent),
                   &n);

    if (n == 1
        && db_trace_parse(ngx_http_databridge_str(h->value), &id) == DB_OK)
    {
        record->traceparent = h->value;
        record->trace_id.data = (u_char *) id.data;
        record->trace_id.len = id.len;
        return NGX_OK;
    }

    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_databridge_module);

    return dlcf->trace ? ngx_http_databridge_trace_begin(r, record) : NGX_OK;
}


/* The state that came with a trace that cannot be read goes with it. */

static ngx_int_t
ngx_http_databridge_trace_begin(ngx_http_request_t *r,
    ngx_http_databridge_record_t *record)
{
    u_char       *p;
    db_random_t  *random;

    random = ngx_http_databridge_random(r);
    p = ngx_pnalloc(r->pool, DB_TRACE_PARENT);

    if (random == NULL || p == NULL) {
        return NGX_ERROR;
    }

    db_trace_begin(random, (char *) p);

    record->traceparent.data = p;
    record->traceparent.len = DB_TRACE_PARENT;
    record->trace_id.data = p + 3;
    record->trace_id.len = DB_TRACE_ID;

    if (ngx_http_databridge_replace_header(r,
                                           &ngx_http_databridge_traceparent,
                                           &record->traceparent)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_databridge_replace_header(r,
                                     &ngx_http_databridge_tracestate, NULL);
}


/* The first of that name that counts, and how many there are. */

ngx_table_elt_t *
ngx_http_databridge_find_header(ngx_list_t *headers, db_str_t name,
    ngx_uint_t *n)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *found;

    *n = 0;
    found = NULL;

    for (part = &headers->part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].hash == 0 || h[i].key.len != name.len
                || ngx_strncasecmp(h[i].key.data, (u_char *) name.data,
                                   name.len)
                   != 0)
            {
                continue;
            }

            if (found == NULL) {
                found = &h[i];
            }

            (*n)++;
        }
    }

    return found;
}


ngx_table_elt_t *
ngx_http_databridge_header_in(ngx_http_request_t *r, db_str_t name)
{
    ngx_uint_t  n;

    return ngx_http_databridge_find_header(&r->headers_in.headers, name, &n);
}


/*
 * Leaves one header of the name, with this value, or none when it is NULL.
 * One without a hash is not handed to the application.
 */

static ngx_int_t
ngx_http_databridge_replace_header(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value)
{
    ngx_uint_t        n;
    ngx_table_elt_t  *h;

    for ( ;; ) {
        h = ngx_http_databridge_find_header(&r->headers_in.headers,
                                        ngx_http_databridge_str(*name), &n);

        if (h == NULL || (value && n == 1)) {
            break;
        }

        h->hash = 0;
    }

    if (value == NULL) {
        return NGX_OK;
    }

    if (h == NULL) {

        /* a subrequest has a copy of the list, which it cannot add to */

        h = ngx_list_push(&r->main->headers_in.headers);
        if (h == NULL) {
            return NGX_ERROR;
        }

        h->hash = ngx_hash_key(name->data, name->len);
        h->key = *name;
        h->lowcase_key = name->data;

        if (r != r->main) {
            r->headers_in.headers = r->main->headers_in.headers;
        }
    }

    h->value = *value;

    return NGX_OK;
}


/* The worker's, which must not be what another has inherited. */

static db_random_t *
ngx_http_databridge_random(ngx_http_request_t *r)
{
    static db_random_t  random;
    static ngx_uint_t   seeded;

    if (!seeded) {

        if (db_random_seed(&random) != DB_OK) {
            ngx_log_error(NGX_LOG_CRIT, r->connection->log, ngx_errno,
                          "getrandom() failed");
            return NULL;
        }

        seeded = 1;
    }

    return &random;
}
