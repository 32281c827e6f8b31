/*
 * A request to an application: route, hand-over, and the ways in which it
 * ends before Python answers.  From the hand-over on the request is the
 * owner of its job, until either the response is complete or
 * ngx_http_databridge_detach() parts them.
 */

#include "http/ngx_http_databridge.h"
#include "route/db_query.h"


static ngx_http_databridge_ctx_t *ngx_http_databridge_create_ctx(
    ngx_http_request_t *r);
static void ngx_http_databridge_cleanup(void *data);
static void ngx_http_databridge_expire(ngx_http_databridge_owner_t *owner);
static ngx_uint_t ngx_http_databridge_begun(ngx_http_databridge_ctx_t *ctx);
static void ngx_http_databridge_cut(ngx_http_databridge_owner_t *owner);
static ngx_int_t ngx_http_databridge_wait(ngx_http_databridge_ctx_t *ctx);
static ngx_int_t ngx_http_databridge_dispatch(ngx_http_databridge_ctx_t *ctx);
static ngx_int_t ngx_http_databridge_path(ngx_http_databridge_ctx_t *ctx,
    db_str_t *path);
static const db_route_t *ngx_http_databridge_route(
    ngx_http_databridge_ctx_t *ctx, db_table_t *table, db_str_t path);
static ngx_int_t ngx_http_databridge_native(ngx_http_databridge_ctx_t *ctx,
    const db_route_t *route, db_str_t path);
static void ngx_http_databridge_native_body_handler(ngx_http_request_t *r);


static const ngx_http_databridge_ops_t  ngx_http_databridge_request_ops = {
    ngx_http_databridge_respond,
    ngx_http_databridge_body_taken,
    ngx_http_databridge_flush_output,
    ngx_http_databridge_expire,
    ngx_http_databridge_leave,
    ngx_http_databridge_cut
};


ngx_int_t
ngx_http_databridge_app_handler(ngx_http_request_t *r)
{
    ngx_http_databridge_ctx_t  *ctx;

    if (ngx_http_databridge_worker == NULL
        || !ngx_http_databridge_worker->started)
    {
        return ngx_http_databridge_unavailable(r);
    }

    ngx_http_databridge_begin_app(r);

    ctx = ngx_http_databridge_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_databridge_worker->apps == NULL) {
        return ngx_http_databridge_wait(ctx);
    }

    return ngx_http_databridge_dispatch(ctx);
}


static ngx_http_databridge_ctx_t *
ngx_http_databridge_create_ctx(ngx_http_request_t *r)
{
    ngx_http_cleanup_t              *cln;
    ngx_http_databridge_ctx_t       *ctx;
    ngx_http_databridge_loc_conf_t  *dlcf;

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_databridge_ctx_t));
    if (ctx == NULL) {
        return NULL;
    }

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NULL;
    }

    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_databridge_module);

    ctx->owner.ops = &ngx_http_databridge_request_ops;
    ctx->request = r;
    ctx->app = dlcf->app;
    ctx->last_out = &ctx->out;
    db_chain_init(&ctx->early);

    cln->handler = ngx_http_databridge_cleanup;
    cln->data = ctx;

    ngx_http_set_ctx(r, ctx, ngx_http_databridge_module);

    return ctx;
}


static void
ngx_http_databridge_cleanup(void *data)
{
    ngx_http_databridge_ctx_t *ctx = data;

    db_job_t  *job;

    /* the request ends; with a job left, the client has gone */

    job = ctx->owner.job;

    if (job) {
        ngx_http_databridge_metric_add(disconnects, 1);
    }

    ngx_http_databridge_detach(ctx, job ? &job->disconnect : NULL);
    ngx_http_databridge_unlink(&ctx->owner);
    ngx_http_databridge_drop_early(ctx);
}


/* A request that had a job stays linked until it is freed. */

void
ngx_http_databridge_detach(ngx_http_databridge_ctx_t *ctx,
    db_notice_t *notice)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    if (ctx->owner.job == NULL) {
        ngx_http_databridge_unlink(&ctx->owner);

    } else {
        ctx->detached = 1;

        /* what else the client sends is not for Python */

        r->read_event_handler = ngx_http_block_reading;

        if (r->reading_body) {
            r->request_body->post_handler = ngx_http_request_empty_handler;
        }

        ngx_http_databridge_record_job(r, ctx->owner.job);
    }

    ngx_http_databridge_let_go(&ctx->owner, notice);
}


/* The applications are not ready: the request waits, bounded by its time. */

static ngx_int_t
ngx_http_databridge_wait(ngx_http_databridge_ctx_t *ctx)
{
    ngx_http_request_t              *r;
    ngx_http_databridge_loc_conf_t  *dlcf;

    r = ctx->request;
    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_databridge_module);

    ngx_http_databridge_record_wait(r);

    if (ngx_http_databridge_timeout_add(&ctx->owner, dlcf->timeout) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_databridge_link(&ctx->owner,
                             &ngx_http_databridge_worker->waiting);

    r->main->count++;

    return ngx_http_databridge_watch_client(r);
}


void
ngx_http_databridge_resume(ngx_http_databridge_ctx_t *ctx)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = r->connection;

    ngx_http_databridge_unlink(&ctx->owner);
    ngx_http_databridge_timeout_del(&ctx->owner);

    ngx_http_set_log_request(c->log, r);

    /* as a content handler's result: NGX_DONE drops what wait() counted */

    ngx_http_finalize_request(r, ngx_http_databridge_dispatch(ctx));

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_databridge_expire(ngx_http_databridge_owner_t *owner)
{
    ngx_connection_t           *c;
    ngx_http_request_t         *r;
    ngx_http_databridge_ctx_t  *ctx;

    ctx = (ngx_http_databridge_ctx_t *) owner;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (ngx_http_databridge_begun(ctx)) {
        ngx_http_databridge_timeout_del(owner);
        return;
    }

    ngx_log_error(NGX_LOG_ERR, c->log, 0,
                  "databridge: no response within %M ms",
                  owner->timeout->value);

    ngx_http_databridge_metric_add(timeouts, 1);
    ngx_http_databridge_detach(ctx, owner->job ? &owner->job->cancel : NULL);

    ngx_http_finalize_request(r, NGX_HTTP_GATEWAY_TIME_OUT);

    ngx_http_run_posted_requests(c);
}


/* Python has the header and waits for a body: the header is asked for. */

static ngx_uint_t
ngx_http_databridge_begun(ngx_http_databridge_ctx_t *ctx)
{
    db_job_t  *job;

    job = ctx->owner.job;

    if (job == NULL
        || !atomic_load_explicit(&job->begun, memory_order_acquire))
    {
        return 0;
    }

    if (!ctx->begun) {
        ctx->begun = 1;

        db_job_retain(job);
        ngx_http_databridge_submit(&job->begin.msg.node);
    }

    return 1;
}


/*
 * The worker's time is over: what has not begun is told so.  What Python has
 * done with, the client may still have to read, or to send.
 */

static void
ngx_http_databridge_cut(ngx_http_databridge_owner_t *owner)
{
    ngx_connection_t           *c;
    ngx_http_request_t         *r;
    ngx_http_databridge_ctx_t  *ctx;

    ctx = (ngx_http_databridge_ctx_t *) owner;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    ngx_http_databridge_unlink(owner);

    if (ctx->detached) {
        ngx_http_finalize_request(r->main, NGX_ERROR);
        ngx_http_run_posted_requests(c);
        return;
    }

    ngx_http_databridge_detach(ctx,
                               owner->job ? &owner->job->disconnect : NULL);

    ngx_http_finalize_request(r, ctx->started
                                 ? NGX_ERROR
                                 : ngx_http_databridge_unavailable(r));

    ngx_http_run_posted_requests(c);
}


/* The worker quits: Python is told that a response should come to its end. */

void
ngx_http_databridge_leave(ngx_http_databridge_owner_t *owner)
{
    ngx_http_databridge_ctx_t  *ctx;

    ctx = (ngx_http_databridge_ctx_t *) owner;

    if (ctx->websocket) {

        /* one that is accepted leaves as soon as it is a WebSocket */

        if (!ctx->started && !ctx->detached) {
            ngx_http_databridge_cut(owner);
        }

        return;
    }

    if (owner->job == NULL || !ctx->started || ctx->leaving) {
        return;
    }

    ctx->leaving = 1;

    db_job_retain(owner->job);
    ngx_http_databridge_submit(&owner->job->leave.msg.node);
}


static ngx_int_t
ngx_http_databridge_dispatch(ngx_http_databridge_ctx_t *ctx)
{
    ngx_int_t                        rc;
    db_str_t                         path;
    db_table_t                      *table;
    const db_route_t                *route;
    ngx_http_request_t              *r;
    ngx_http_databridge_worker_t    *worker;
    ngx_http_databridge_loc_conf_t  *dlcf;

    r = ctx->request;
    worker = ngx_http_databridge_worker;

    if (worker->stopping || worker->stopped) {
        return ngx_http_databridge_unavailable(r);
    }

    table = worker->apps->tables[ctx->app];

    if (table->error) {
        return ngx_http_databridge_unavailable(r);
    }

    rc = ngx_http_databridge_target(r, &ctx->target);
    if (rc != NGX_OK) {
        return rc;
    }

    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_databridge_module);
    ctx->limit = dlcf->timeout;

    if (table->nroutes) {

        rc = ngx_http_databridge_path(ctx, &path);
        if (rc != NGX_OK) {
            return rc;
        }

        route = ngx_http_databridge_route(ctx, table, path);

        if (route && route->crud) {
            return ngx_http_databridge_native(ctx, route, path);
        }

        if (route && route->answer) {
            rc = ngx_http_databridge_answer_route(r, route->answer);
            if (rc != NGX_DECLINED) {
                return rc;
            }
        }

        if (route && route->hybrid) {
            ctx->hybrid = route->hybrid;
        }

        if (route && route->timeout != DB_TIMEOUT_DEFAULT) {
            ctx->limit = route->timeout;
        }

        if (route && route->plan
            && ngx_http_databridge_plannable(r, route->plan))
        {
            ctx->plan = route->plan;
        }
    }

    if (worker->queued >= worker->conf->queue) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "databridge_queue: %ui requests wait for Python",
                      worker->queued);

        ngx_http_databridge_metric_add(rejected, 1);
        return ngx_http_databridge_unavailable(r);
    }

    rc = ngx_http_databridge_handshake(ctx);
    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_databridge_begin_body(ctx);
}


/* The path as the application's routes see it: decoded, without root_path. */

static ngx_int_t
ngx_http_databridge_path(ngx_http_databridge_ctx_t *ctx, db_str_t *path)
{
    u_char    *p;
    db_str_t   root;

    *path = ngx_http_databridge_str(ctx->target);

    if (path->len && ngx_strlchr(ctx->target.data,
                                 ctx->target.data + ctx->target.len, '%'))
    {
        p = ngx_pnalloc(ctx->request->pool, ctx->target.len);
        if (p == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        path->len = db_percent_decode((char *) p, *path);
        path->data = (char *) p;
    }

    root = ngx_http_databridge_worker->python.apps[ctx->app].root_path;

    if (root.len && path->len >= root.len
        && ngx_memcmp(path->data, root.data, root.len) == 0
        && (path->len == root.len || path->data[root.len] == '/'))
    {
        path->data += root.len;
        path->len -= root.len;
    }

    return NGX_OK;
}


static const db_route_t *
ngx_http_databridge_route(ngx_http_databridge_ctx_t *ctx, db_table_t *table,
    db_str_t path)
{
    int                  rc;
    const db_route_t    *route;
    ngx_http_request_t  *r;

    r = ctx->request;

    rc = db_router_match(table->router,
                         ngx_http_databridge_str(r->method_name), path,
                         &ctx->match);

    if (rc == DB_DONE) {
        return NULL;
    }

    ngx_http_databridge_record_route(r, ctx->match.index);

    route = &table->routes[ctx->match.index];

    /* a constant answer may have a preflight */

    return (rc == DB_OK || route->answer) ? route : NULL;
}


static ngx_int_t
ngx_http_databridge_native(ngx_http_databridge_ctx_t *ctx,
    const db_route_t *route, db_str_t path)
{
    u_char              *p;
    db_str_t             root;
    ngx_http_request_t  *r;

    r = ctx->request;
    root = ngx_http_databridge_worker->python.apps[ctx->app].root_path;

    ctx->route = route;
    ctx->prefix = db_crud_prefix(route->crud);

    /* the router has matched the prefix */

    ctx->rest.data = path.data + ctx->prefix.len;
    ctx->rest.len = path.len - ctx->prefix.len;

    if (root.len) {
        p = ngx_pnalloc(r->pool, root.len + ctx->prefix.len);
        if (p == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ngx_memcpy(ngx_cpymem(p, root.data, root.len), ctx->prefix.data,
                   ctx->prefix.len);

        ctx->prefix.data = (char *) p;
        ctx->prefix.len += root.len;
    }

    return ngx_http_databridge_crud_read(r,
                                     ngx_http_databridge_native_body_handler);
}


static void
ngx_http_databridge_native_body_handler(ngx_http_request_t *r)
{
    ngx_int_t                   rc;
    ngx_http_databridge_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_databridge_module);

    rc = ngx_http_databridge_crud_run(r, ctx->route->crud, ctx->route->store,
                                      ctx->prefix, ctx->rest);

    if (rc != NGX_DONE) {
        ngx_http_finalize_request(r, rc);
    }
}


/* The caller has counted a reference to the request for this. */

ngx_int_t
ngx_http_databridge_hand_over(ngx_http_databridge_ctx_t *ctx)
{
    db_job_t                      *job;
    ngx_http_databridge_worker_t  *worker;

    worker = ngx_http_databridge_worker;

    if (ngx_http_databridge_trace(ctx->request) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    job = ngx_http_databridge_job(ctx);
    if (job == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* while the client sends, the time is the client's */

    if ((!job->streamed || job->deferred)
        && ngx_http_databridge_timeout_add(&ctx->owner, ctx->limit)
           != NGX_OK)
    {
        db_job_release(job);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_databridge_record_submit(ctx->request, job);

    if (worker->apps->tables[ctx->app]->wsgi) {
        ngx_http_databridge_record_kind(ctx->request,
                                        NGX_HTTP_DATABRIDGE_WSGI);
    }

    if (ctx->hybrid) {
        ngx_http_databridge_record_kind(ctx->request,
                                        NGX_HTTP_DATABRIDGE_HYBRID);
    }

    if (job->plan) {
        ngx_http_databridge_record_kind(ctx->request,
                                        NGX_HTTP_DATABRIDGE_PLAN);
    }

    job->app = ctx->app;
    job->owner = &ctx->owner;
    job->queued = 1;
    ctx->owner.job = job;

    ngx_http_databridge_link(&ctx->owner, &worker->running);
    worker->queued++;
    ngx_http_databridge_metric_add(unanswered, 1);
    worker->jobs++;
    ngx_http_databridge_recycle_count(worker);

    /* Python's reference, which comes back with the last part */

    db_job_retain(job);
    ngx_http_databridge_submit(&job->msg.node);

    return NGX_OK;
}


ngx_int_t
ngx_http_databridge_unavailable(ngx_http_request_t *r)
{
    if (ngx_http_databridge_add_header(r, db_string("Retry-After"),
                                       db_string("1"))
        == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_HTTP_SERVICE_UNAVAILABLE;
}
