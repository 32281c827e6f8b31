/*
 * The request's body: handed over with the job as far as it is here, then in
 * chunks as it comes, never further ahead of Python than DB_AHEAD_MAX bytes.
 *
 * While the client sends, nginx's client_body_timeout counts; once Python
 * has to act, the time of the request does.
 */

#include "http/ngx_http_databridge.h"


#define NGX_HTTP_DATABRIDGE_DRAIN_MAX  16     /* reads at once */


static ngx_uint_t ngx_http_databridge_expects(ngx_http_request_t *r);
static void ngx_http_databridge_body_handler(ngx_http_request_t *r);
static void ngx_http_databridge_deferred_handler(ngx_http_request_t *r);
static void ngx_http_databridge_read_body(ngx_http_request_t *r);
static ssize_t ngx_http_databridge_chunk(ngx_http_databridge_ctx_t *ctx,
    ngx_uint_t last);
static void ngx_http_databridge_pause(ngx_http_databridge_ctx_t *ctx);
static void ngx_http_databridge_body_read(ngx_http_databridge_ctx_t *ctx);
static void ngx_http_databridge_body_failed(ngx_http_databridge_ctx_t *ctx,
    ngx_int_t rc);
static void ngx_http_databridge_drain_body(ngx_http_request_t *r);
static void ngx_http_databridge_drained(ngx_http_databridge_ctx_t *ctx);


/* As a content handler's: NGX_DONE, or an error with nothing counted. */

ngx_int_t
ngx_http_databridge_begin_body(ngx_http_databridge_ctx_t *ctx)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = ctx->request;

    if (ngx_http_databridge_expects(r)) {

        /* the client sends nothing before the application asks for it */

        ctx->deferred = 1;

        rc = ngx_http_databridge_hand_over(ctx);
        if (rc != NGX_OK) {
            return rc;
        }

        r->main->count++;

        return ngx_http_databridge_watch_client(r);
    }

    if (r->reading_body) {

        /* another location has had a part of it: this one has none */

        ngx_http_databridge_drop_body(r);

        rc = ngx_http_databridge_hand_over(ctx);
        if (rc != NGX_OK) {
            return rc;
        }

        r->main->count++;

        return ngx_http_databridge_watch_client(r);
    }

    r->request_body_no_buffering = !ngx_http_databridge_whole_body(ctx);

    rc = ngx_http_read_client_request_body(r,
                                           ngx_http_databridge_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


static ngx_uint_t
ngx_http_databridge_expects(ngx_http_request_t *r)
{
    ngx_str_t  *expect;

    if (r != r->main || r->request_body || r->discard_body
        || r->headers_in.expect == NULL
        || r->http_version != NGX_HTTP_VERSION_11
        || (r->headers_in.content_length_n <= 0 && !r->headers_in.chunked))
    {
        return 0;
    }

    expect = &r->headers_in.expect->value;

    return expect->len == sizeof("100-continue") - 1
           && ngx_strncasecmp(expect->data, (u_char *) "100-continue",
                              sizeof("100-continue") - 1)
              == 0;
}


static void
ngx_http_databridge_body_handler(ngx_http_request_t *r)
{
    ngx_int_t                   rc;
    ngx_http_databridge_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_databridge_module);
    ctx->streamed = r->reading_body;

    rc = ngx_http_databridge_hand_over(ctx);

    if (rc != NGX_OK) {
        ngx_http_finalize_request(r, rc);
        return;
    }

    if (ctx->streamed) {
        ngx_http_databridge_stream_body(ctx);
        return;
    }

    if (ngx_http_databridge_watch_client(r) == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_ERROR);
    }
}


/* The rest of the body is read when the event cycle comes to it. */

void
ngx_http_databridge_stream_body(ngx_http_databridge_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;
    r->read_event_handler = ngx_http_databridge_read_body;

    ngx_post_event(r->connection->read, &ngx_posted_events);
}


/* Python has taken some of the body, or asks for its beginning. */

void
ngx_http_databridge_body_taken(ngx_http_databridge_owner_t *owner)
{
    ngx_int_t                   rc;
    ngx_connection_t           *c;
    ngx_http_request_t         *r;
    ngx_http_databridge_ctx_t  *ctx;

    ctx = (ngx_http_databridge_ctx_t *) owner;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (ctx->deferred) {
        ctx->deferred = 0;
        ngx_http_databridge_timeout_del(owner);

        r->request_body_no_buffering = 1;

        /* "100 Continue" must not come amidst the response */

        if (ctx->started) {
            r->expect_tested = 1;
        }

        rc = ngx_http_read_client_request_body(r,
                                        ngx_http_databridge_deferred_handler);

        if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
            ngx_http_databridge_body_failed(ctx, rc);

        } else {

            /* reading has taken the handler of what is still to be sent */

            if (ctx->started && owner->job
                && ngx_http_databridge_watch_output(r) != NGX_OK)
            {
                ngx_http_databridge_body_failed(ctx, NGX_ERROR);
            }

            /* the request was counted at the hand-over */

            ngx_http_finalize_request(r, NGX_DONE);
        }

    } else if (owner->paused && owner->ahead < DB_AHEAD_MAX) {
        owner->paused = 0;
        ngx_http_databridge_timeout_del(owner);
        ngx_http_databridge_read_body(r);
    }

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_databridge_deferred_handler(ngx_http_request_t *r)
{
    ngx_http_databridge_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_databridge_module);

    if (ngx_http_databridge_chunk(ctx, !r->reading_body) == NGX_ERROR) {
        ngx_http_databridge_body_failed(ctx, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    if (r->reading_body) {
        ngx_http_databridge_stream_body(ctx);

    } else {
        ngx_http_databridge_body_read(ctx);
    }
}


static void
ngx_http_databridge_read_body(ngx_http_request_t *r)
{
    ssize_t                     n;
    ngx_int_t                   rc;
    ngx_http_databridge_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_databridge_module);

    do {
        /* a stream of HTTP/2 that was reset while it was not read */

        if (r->connection->error) {
            ngx_http_databridge_body_failed(ctx,
                                            NGX_HTTP_CLIENT_CLOSED_REQUEST);
            return;
        }

        if (ctx->owner.ahead >= DB_AHEAD_MAX) {
            ngx_http_databridge_pause(ctx);
            return;
        }

        rc = ngx_http_read_unbuffered_request_body(r);

        if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
            ngx_http_databridge_body_failed(ctx, rc);
            return;
        }

        n = ngx_http_databridge_chunk(ctx, rc == NGX_OK);

        if (n == NGX_ERROR) {
            ngx_http_databridge_body_failed(ctx,
                                            NGX_HTTP_INTERNAL_SERVER_ERROR);
            return;
        }

        if (rc == NGX_OK) {
            ngx_http_databridge_body_read(ctx);
            return;
        }

    } while (n);
}


/* What was read goes to Python; its size. */

static ssize_t
ngx_http_databridge_chunk(ngx_http_databridge_ctx_t *ctx, ngx_uint_t last)
{
    off_t                size;
    db_chunk_t          *chunk;
    ngx_uint_t           in_file;
    ngx_http_request_t  *r;

    r = ctx->request;

    size = ngx_http_databridge_body_size(r, &in_file);

    if (size == 0 && !last) {
        return 0;
    }

    chunk = db_chunk_create(ctx->owner.job, size);
    if (chunk == NULL) {
        return NGX_ERROR;
    }

    chunk->last = last;
    (void) ngx_http_databridge_copy_body(r, (u_char *) chunk->data.data);
    ngx_http_databridge_drop_body(r);

    ctx->owner.ahead += size;
    ngx_http_databridge_submit(&chunk->msg.node);

    return size;
}


/* The kernel's buffer fills up, and the client waits. */

static void
ngx_http_databridge_pause(ngx_http_databridge_ctx_t *ctx)
{
    ngx_event_t  *rev;

    rev = ctx->request->connection->read;

    if (rev->timer_set) {
        ngx_del_timer(rev);
    }

    if (ctx->owner.paused) {
        return;
    }

    ctx->owner.paused = 1;

    if (!ctx->started
        && ngx_http_databridge_timeout_add(&ctx->owner, ctx->limit) != NGX_OK)
    {
        ngx_http_databridge_body_failed(ctx, NGX_HTTP_INTERNAL_SERVER_ERROR);
    }
}


static void
ngx_http_databridge_body_read(ngx_http_databridge_ctx_t *ctx)
{
    if ((!ctx->started
         && ngx_http_databridge_timeout_add(&ctx->owner, ctx->limit) != NGX_OK)
        || ngx_http_databridge_watch_client(ctx->request) == NGX_ERROR)
    {
        ngx_http_databridge_body_failed(ctx, NGX_HTTP_INTERNAL_SERVER_ERROR);
    }
}


static void
ngx_http_databridge_body_failed(ngx_http_databridge_ctx_t *ctx, ngx_int_t rc)
{
    ngx_http_databridge_detach(ctx, &ctx->owner.job->disconnect);

    ngx_http_finalize_request(ctx->request, ctx->started ? NGX_ERROR : rc);
}


/*
 * The response is complete and the body is not: the rest is read and dropped
 * within nginx's lingering_time, so that the connection can be kept.  HTTP/2
 * could reset the stream, but its clients rather send to the end.
 */

void
ngx_http_databridge_drain(ngx_http_databridge_ctx_t *ctx, ngx_int_t rc)
{
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = ctx->request;
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    ctx->result = rc;

    r->lingering_time = ngx_time() + (time_t) (clcf->lingering_time / 1000);
    r->read_event_handler = ngx_http_databridge_drain_body;

    ngx_http_databridge_drain_body(r);
}


static void
ngx_http_databridge_drain_body(ngx_http_request_t *r)
{
    ssize_t                     n;
    ngx_int_t                   rc;
    ngx_uint_t                  i, in_file;
    ngx_http_core_loc_conf_t   *clcf;
    ngx_http_databridge_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_databridge_module);

    i = 0;

    do {
        if (i++ == NGX_HTTP_DATABRIDGE_DRAIN_MAX) {

            /* others have their turn */

            ngx_post_event(r->connection->read, &ngx_posted_next_events);
            return;
        }

        if (r->lingering_time <= ngx_time()) {
            ngx_http_databridge_drained(ctx);
            return;
        }

        rc = ngx_http_read_unbuffered_request_body(r);

        if (rc == NGX_OK || rc >= NGX_HTTP_SPECIAL_RESPONSE) {
            ngx_http_databridge_drained(ctx);
            return;
        }

        n = ngx_http_databridge_body_size(r, &in_file);
        ngx_http_databridge_drop_body(r);

    } while (n);

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    ngx_add_timer(r->connection->read, clcf->lingering_timeout);
}


static void
ngx_http_databridge_drained(ngx_http_databridge_ctx_t *ctx)
{
    ngx_event_t         *rev;
    ngx_http_request_t  *r;

    r = ctx->request;
    rev = r->connection->read;

    if (rev->timer_set) {
        ngx_del_timer(rev);
    }

    r->lingering_time = 0;

    /* with "reading_body" left set, nginx closes the connection */

    ngx_http_finalize_request(r, ctx->result);
}


ngx_int_t
ngx_http_databridge_watch_client(ngx_http_request_t *r)
{
    ngx_event_t                     *rev;
    ngx_http_databridge_loc_conf_t  *dlcf;

    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_databridge_module);

    if (dlcf->ignore_client_abort) {
        r->read_event_handler = ngx_http_block_reading;
        return NGX_DONE;
    }

    r->read_event_handler = ngx_http_test_reading;

    rev = r->connection->read;

    /* an end that came with the body raises no event of its own */

    if (rev->ready) {
        ngx_post_event(rev, &ngx_posted_events);

    } else if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    return NGX_DONE;
}
