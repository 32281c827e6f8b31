/*
 * Whom nginx has authenticated, and the variables that say whose documents
 * of a native resource a caller sees.
 *
 * headers_in.user alone does not tell: $remote_user fills it with whatever
 * name the client claims, wherever a configuration uses that variable.  So
 * the name is forgotten before the access phase: one that is there after it
 * comes from auth_basic, which sets a challenge if the password was wrong.
 * It is kept at once: a page may use the variable before it includes what
 * its subrequests bring.
 */

#include "http/ngx_http_databridge.h"


static ngx_int_t ngx_http_databridge_forget_user(ngx_http_request_t *r);
static ngx_int_t ngx_http_databridge_keep_user(ngx_http_request_t *r);
static void ngx_http_databridge_verified_user(ngx_http_request_t *r,
    ngx_str_t *user);
static ngx_uint_t ngx_http_databridge_crud_known(
    ngx_http_core_main_conf_t *cmcf, ngx_str_t *name);


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

    /* and the last is next to what comes before it */

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PRECONTENT_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_databridge_keep_user;

    return NGX_OK;
}


static ngx_int_t
ngx_http_databridge_forget_user(ngx_http_request_t *r)
{
    ngx_http_databridge_record_t  *record;

    /* the access phase is not run for subrequests: theirs is the parent's */

    if (r != r->main || r->headers_in.authorization == NULL) {
        return NGX_DECLINED;
    }

    ngx_str_null(&r->headers_in.user);

    record = ngx_http_databridge_record_get(r);

    if (record) {
        record->accessed = 0;
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_databridge_keep_user(ngx_http_request_t *r)
{
    ngx_http_databridge_record_t  *record;

    if (r != r->main || r->headers_in.authorization == NULL) {
        return NGX_DECLINED;
    }

    record = ngx_http_databridge_record(r);
    if (record == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_databridge_verified_user(r, &record->user);
    record->accessed = 1;

    return NGX_DECLINED;
}


/* In the access phase itself, auth_request asks for who is known so far. */

void
ngx_http_databridge_user(ngx_http_request_t *r, ngx_str_t *user)
{
    ngx_http_databridge_record_t  *record;

    record = ngx_http_databridge_record_get(r->main);

    if (record && record->accessed) {
        *user = record->user;

    } else {
        ngx_http_databridge_verified_user(r, user);
    }
}


static void
ngx_http_databridge_verified_user(ngx_http_request_t *r, ngx_str_t *user)
{
    ngx_str_null(user);

    if (r->headers_in.user.data && r->headers_out.www_authenticate == NULL) {
        *user = r->headers_in.user;
    }
}


/*
 * A variable that is not there is empty, and so is a user whom nginx has not
 * authenticated: its own $remote_user is whatever name a client claims.
 */

ngx_int_t
ngx_http_databridge_crud_variable(ngx_http_request_t *r, db_str_t name,
    db_str_t *value)
{
    ngx_str_t                   key, user;
    ngx_http_variable_value_t  *vv;

    if (db_str_eq(name, db_string("remote_user"))) {
        ngx_http_databridge_user(r, &user);
        *value = ngx_http_databridge_str(user);
        return NGX_OK;
    }

    key.data = (u_char *) name.data;
    key.len = name.len;

    vv = ngx_http_get_variable(r, &key, ngx_hash_key(key.data, key.len));
    if (vv == NULL) {
        return NGX_ERROR;
    }

    value->data = (char *) vv->data;
    value->len = vv->not_found ? 0 : vv->len;

    return NGX_OK;
}


/*
 * An application's resource names a variable when the configuration is long
 * read: one that does not exist is said once, its requests are refused.
 */

void
ngx_http_databridge_crud_check(ngx_cycle_t *cycle, const db_crud_t *crud)
{
    db_str_t                    model;
    unsigned                    i, n;
    ngx_str_t                   name;
    const db_str_t             *variables;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_core_module);
    model = db_crud_name(crud);
    variables = db_crud_variables(crud, &n);

    for (i = 0; i < n; i++) {
        name.data = (u_char *) variables[i].data;
        name.len = variables[i].len;

        if (!ngx_http_databridge_crud_known(cmcf, &name)) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                          "databridge: the scope of %*s names the variable "
                          "\"$%V\", which nginx does not know: its requests "
                          "are answered 403", model.len, model.data, &name);
        }
    }
}


static ngx_uint_t
ngx_http_databridge_crud_known(ngx_http_core_main_conf_t *cmcf,
    ngx_str_t *name)
{
    ngx_uint_t            i;
    ngx_http_variable_t  *v;

    if (ngx_hash_find(&cmcf->variables_hash,
                      ngx_hash_key(name->data, name->len), name->data,
                      name->len))
    {
        return 1;
    }

    v = cmcf->prefix_variables.elts;

    for (i = 0; i < cmcf->prefix_variables.nelts; i++) {
        if (name->len > v[i].name.len
            && ngx_strncmp(name->data, v[i].name.data, v[i].name.len) == 0)
        {
            return 1;
        }
    }

    return 0;
}
