/*
 * The copy of a request that crosses to Python: one block, filled here and
 * constant from then on.
 */

#include "http/ngx_http_databridge.h"


static size_t ngx_http_databridge_headers_size(ngx_http_request_t *r,
    ngx_uint_t *nheaders);
static ngx_int_t ngx_http_databridge_scope(ngx_http_databridge_ctx_t *ctx,
    db_header_t **scope, unsigned *nscope, size_t *size);
static void ngx_http_databridge_copy_headers(db_job_t *job,
    ngx_http_request_t *r, char **p);
static void ngx_http_databridge_copy_params(db_job_t *job, db_match_t *match,
    char **p);
static db_str_t ngx_http_databridge_copy(char **p, u_char *data, size_t len);
static ngx_int_t ngx_http_databridge_body(db_job_t *job,
    ngx_http_request_t *r, ngx_uint_t in_file, char **p);
static ngx_int_t ngx_http_databridge_server_addr(ngx_http_request_t *r,
    ngx_str_t *addr, in_port_t *port);


/* The path as the client has sent it, unless nginx has rewritten it. */

ngx_int_t
ngx_http_databridge_target(ngx_http_request_t *r, ngx_str_t *target)
{
    u_char     *query;
    uintptr_t   escape;

    if (r->valid_unparsed_uri && r == r->main) {

        *target = r->unparsed_uri;
        query = ngx_strlchr(target->data, target->data + target->len, '?');

        if (query) {
            target->len = query - target->data;
        }

        return NGX_OK;
    }

    escape = 2 * ngx_escape_uri(NULL, r->uri.data, r->uri.len,
                                NGX_ESCAPE_URI);

    target->len = r->uri.len + escape;

    target->data = ngx_pnalloc(r->pool, target->len);
    if (target->data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (escape) {
        ngx_escape_uri(target->data, r->uri.data, r->uri.len,
                       NGX_ESCAPE_URI);

    } else {
        ngx_memcpy(target->data, r->uri.data, r->uri.len);
    }

    return NGX_OK;
}


db_job_t *
ngx_http_databridge_job(ngx_http_databridge_ctx_t *ctx)
{
    char                *p;
    off_t                body;
    size_t               size;
    ngx_str_t            addr, user, *target;
    db_job_t            *job;
    unsigned             i, nscope, nparams;
    in_port_t            port;
    ngx_uint_t           nheaders, in_file;
    db_header_t         *scope;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = r->connection;
    target = &ctx->target;
    port = 0;

    if (ngx_http_databridge_server_addr(r, &addr, &port) != NGX_OK) {
        return NULL;
    }

    ngx_http_databridge_user(r, &user);

    body = ngx_http_databridge_body_size(r, &in_file);

    size = ngx_http_databridge_headers_size(r, &nheaders)
           + r->method_name.len + target->len + r->args.len
           + c->addr_text.len + addr.len + user.len;

    if (!in_file) {
        size += body;
    }

    if (ngx_http_databridge_scope(ctx, &scope, &nscope, &size) != NGX_OK) {
        return NULL;
    }

    nparams = 0;

    if (ctx->plan && !ctx->websocket) {
        nparams = ctx->match.nparams;

        for (i = 0; i < nparams; i++) {
            size += ctx->match.params[i].len;
        }
    }

    job = db_job_create(nheaders + nscope + nparams, size, &p);
    if (job == NULL) {
        return NULL;
    }

    job->nparams = nparams;
    job->params = job->headers + nheaders + nscope;

    job->nscope = nscope;
    job->scope = job->headers + nheaders;

    for (i = 0; i < nscope; i++) {
        job->scope[i].name = scope[i].name;
        job->scope[i].value = ngx_http_databridge_copy(&p,
                                             (u_char *) scope[i].value.data,
                                             scope[i].value.len);
    }

    switch (r->http_version) {

    case NGX_HTTP_VERSION_20:
        job->http_version = 20;
        break;

    case NGX_HTTP_VERSION_10:
        job->http_version = 10;
        break;

    default:
        job->http_version = 11;
        break;
    }

#if (NGX_HTTP_SSL)
    job->tls = c->ssl != NULL;
#endif

    job->method = ngx_http_databridge_copy(&p, r->method_name.data,
                                           r->method_name.len);
    job->target = ngx_http_databridge_copy(&p, target->data, target->len);
    job->query = ngx_http_databridge_copy(&p, r->args.data, r->args.len);

    if (c->sockaddr->sa_family != AF_UNIX) {
        job->client = ngx_http_databridge_copy(&p, c->addr_text.data,
                                               c->addr_text.len);
        job->client_port = ngx_inet_get_port(c->sockaddr);
    }

    job->server = ngx_http_databridge_copy(&p, addr.data, addr.len);
    job->server_port = port;

    job->user = ngx_http_databridge_copy(&p, user.data, user.len);

    ngx_http_databridge_copy_headers(job, r, &p);

    if (ctx->plan && !ctx->websocket) {
        job->plan = ctx->plan;
        ngx_http_databridge_copy_params(job, &ctx->match, &p);
    }

    job->websocket = ctx->websocket;
    job->deferred = ctx->deferred;
    job->streamed = ctx->deferred || ctx->streamed;
    job->hints = r == r->main && r->http_version == NGX_HTTP_VERSION_11;
    job->body_size = body;

    if (body
        && ngx_http_databridge_body(job, r, in_file, &p) != NGX_OK)
    {
        db_job_release(job);
        return NULL;
    }

    if (ctx->streamed) {
        ngx_http_databridge_drop_body(r);
    }

    return job;
}


/* What the request's caller may write of a resource; mostly nothing. */

static ngx_int_t
ngx_http_databridge_scope(ngx_http_databridge_ctx_t *ctx, db_header_t **scope,
    unsigned *nscope, size_t *size)
{
    unsigned         i;
    const db_str_t  *variables;

    *scope = NULL;
    *nscope = 0;

    if (ctx->hybrid == NULL) {
        return NGX_OK;
    }

    variables = db_crud_variables(ctx->hybrid, nscope);

    *scope = ngx_palloc(ctx->request->pool, *nscope * sizeof(db_header_t));
    if (*scope == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < *nscope; i++) {
        (*scope)[i].name = variables[i];

        if (ngx_http_databridge_crud_variable(ctx->request, variables[i],
                                              &(*scope)[i].value)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        *size += (*scope)[i].value.len;
    }

    return NGX_OK;
}


static size_t
ngx_http_databridge_headers_size(ngx_http_request_t *r, ngx_uint_t *nheaders)
{
    size_t            size;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    size = 0;
    *nheaders = 0;

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        h = part->elts;
        *nheaders += part->nelts;

        for (i = 0; i < part->nelts; i++) {
            size += h[i].key.len + h[i].value.len;
        }
    }

    return size;
}


static void
ngx_http_databridge_copy_headers(db_job_t *job, ngx_http_request_t *r,
    char **p)
{
    db_str_t          value;
    ngx_uint_t        i;
    db_header_t      *header;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    header = job->headers;

    /* what has no hash was taken away by the trace */

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].hash == 0) {
                continue;
            }

            header->name = ngx_http_databridge_copy(p, h[i].lowcase_key,
                                                    h[i].key.len);

            /* nginx leaves out spaces alone */

            value = db_str_trim(ngx_http_databridge_str(h[i].value));
            header->value = ngx_http_databridge_copy(p,
                                                     (u_char *) value.data,
                                                     value.len);
            header++;
        }
    }

    job->nheaders = header - job->headers;
}


static void
ngx_http_databridge_copy_params(db_job_t *job, db_match_t *match, char **p)
{
    unsigned  i;

    for (i = 0; i < job->nparams; i++) {
        job->params[i].name = db_null_string;
        job->params[i].value = ngx_http_databridge_copy(p,
                                             (u_char *) match->params[i].data,
                                             match->params[i].len);
    }
}


static db_str_t
ngx_http_databridge_copy(char **p, u_char *data, size_t len)
{
    db_str_t  str;

    str.data = *p;
    str.len = len;

    if (len) {
        *p = (char *) ngx_cpymem(*p, data, len);
    }

    return str;
}


off_t
ngx_http_databridge_body_size(ngx_http_request_t *r, ngx_uint_t *in_file)
{
    off_t         size;
    ngx_chain_t  *cl;

    size = 0;
    *in_file = 0;

    if (r->request_body == NULL) {
        return 0;
    }

    for (cl = r->request_body->bufs; cl; cl = cl->next) {

        size += ngx_buf_size(cl->buf);

        if (cl->buf->in_file) {
            *in_file = 1;
        }
    }

    return size;
}


static ngx_int_t
ngx_http_databridge_body(db_job_t *job, ngx_http_request_t *r,
    ngx_uint_t in_file, char **p)
{
    if (in_file) {

        /*
         * nginx writes a body that does not fit in its buffer to the file
         * from the first byte on, so the file holds all of it
         */

        job->body_fd = fcntl(r->request_body->temp_file->file.fd,
                             F_DUPFD_CLOEXEC, 3);

        if (job->body_fd == -1) {
            ngx_log_error(NGX_LOG_CRIT, r->connection->log, ngx_errno,
                          "fcntl(F_DUPFD_CLOEXEC) of a request body failed");
            return NGX_ERROR;
        }

        return NGX_OK;
    }

    job->body.data = *p;
    *p = (char *) ngx_http_databridge_copy_body(r, (u_char *) *p);
    job->body.len = *p - job->body.data;

    return NGX_OK;
}


u_char *
ngx_http_databridge_copy_body(ngx_http_request_t *r, u_char *p)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        b = cl->buf;

        if (b->last > b->pos) {
            p = ngx_cpymem(p, b->pos, b->last - b->pos);
        }
    }

    return p;
}


/* What was read of a body that is streamed makes room for more. */

void
ngx_http_databridge_drop_body(ngx_http_request_t *r)
{
    ngx_chain_t  *cl, *ln;

    for (cl = r->request_body->bufs; cl; cl = ln) {
        ln = cl->next;

        cl->buf->pos = cl->buf->last;
        ngx_free_chain(r->pool, cl);
    }

    r->request_body->bufs = NULL;
}


/* As text, which is that of the request before, mostly. */

static ngx_int_t
ngx_http_databridge_server_addr(ngx_http_request_t *r, ngx_str_t *addr,
    in_port_t *port)
{
    ngx_connection_t             *c;
    struct sockaddr_un           *saun;
    ngx_http_databridge_local_t  *local;

    c = r->connection;

    if (ngx_connection_local_sockaddr(c, NULL, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    if (c->local_sockaddr->sa_family == AF_UNIX) {
        saun = (struct sockaddr_un *) c->local_sockaddr;
        addr->data = (u_char *) saun->sun_path;
        addr->len = ngx_strlen(saun->sun_path);
        return NGX_OK;
    }

    local = &ngx_http_databridge_worker->local;

    if (c->local_socklen != local->socklen
        || ngx_memcmp(c->local_sockaddr, &local->sockaddr, local->socklen)
           != 0)
    {
        ngx_memcpy(&local->sockaddr, c->local_sockaddr, c->local_socklen);
        local->socklen = c->local_socklen;
        local->len = ngx_sock_ntop(c->local_sockaddr, c->local_socklen,
                                   local->text, NGX_SOCKADDR_STRLEN, 0);
    }

    addr->data = local->text;
    addr->len = local->len;
    *port = ngx_inet_get_port(c->local_sockaddr);

    return NGX_OK;
}
