/*
 * A response: from the parts that Python has published to nginx's filters.
 *
 * A part is owned here from its arrival.  The one with the headers lives as
 * long as the request, whose headers_out point into it; any other lives
 * until its bytes are sent.  A part whose body lies in a Python object goes
 * back to Python to be released.
 */

#include "http/ngx_http_databridge.h"


typedef struct {
    ngx_buf_t                     buf;        /* first: found by cl->buf */
    db_part_t                    *part;       /* NULL: nothing to free */
    size_t                        credit;     /* to give back */
    unsigned                      counted:1;  /* sent, and so in "free" */
} ngx_http_databridge_piece_t;


static void ngx_http_databridge_answer_part(ngx_http_databridge_ctx_t *ctx,
    db_part_t *part);
static ngx_int_t ngx_http_databridge_send_header(
    ngx_http_databridge_ctx_t *ctx, db_part_t *part);
static ngx_int_t ngx_http_databridge_output(ngx_http_databridge_ctx_t *ctx,
    db_part_t *part);
static ngx_int_t ngx_http_databridge_add_output(
    ngx_http_databridge_ctx_t *ctx, db_part_t *part);
static ngx_int_t ngx_http_databridge_send_output(
    ngx_http_databridge_ctx_t *ctx);
static ngx_chain_t *ngx_http_databridge_file(ngx_http_databridge_ctx_t *ctx,
    db_part_t *part);
static ngx_chain_t *ngx_http_databridge_piece(ngx_http_databridge_ctx_t *ctx,
    db_part_t *part);
static void ngx_http_databridge_mark(ngx_http_request_t *r, ngx_buf_t *b,
    ngx_uint_t flags);
static void ngx_http_databridge_update(ngx_http_databridge_ctx_t *ctx,
    ngx_chain_t *out);
static void ngx_http_databridge_finish(ngx_http_databridge_ctx_t *ctx,
    ngx_int_t rc, ngx_uint_t last);
static void ngx_http_databridge_write(ngx_http_request_t *r);
static void ngx_http_databridge_abort(ngx_http_databridge_ctx_t *ctx);
static void ngx_http_databridge_pool_cleanup(void *data);
static void ngx_http_databridge_free_pieces(ngx_chain_t *cl);
static void ngx_http_databridge_drop_part(ngx_http_databridge_ctx_t *ctx,
    db_part_t *part);


void
ngx_http_databridge_respond(ngx_http_databridge_owner_t *owner,
    db_part_t *part)
{
    ngx_connection_t           *c;
    ngx_http_request_t         *r;
    ngx_http_databridge_ctx_t  *ctx;

    ctx = (ngx_http_databridge_ctx_t *) owner;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);
    ngx_http_databridge_answer_part(ctx, part);
    ngx_http_run_posted_requests(c);
}


static void
ngx_http_databridge_answer_part(ngx_http_databridge_ctx_t *ctx,
    db_part_t *part)
{
    ngx_int_t   rc;
    ngx_uint_t  last, flags;

    flags = part->flags;
    last = flags & (DB_PART_LAST|DB_PART_DONE);

    if (flags & DB_PART_HINT) {
        rc = ngx_http_databridge_send_hint(ctx->request, part);
        ngx_http_databridge_free_part(part);

        if (rc == NGX_ERROR) {
            ngx_http_databridge_finish(ctx, rc, 0);
        }

        return;
    }

    if (flags & DB_PART_START) {
        ngx_http_databridge_timeout_del(&ctx->owner);

        rc = ngx_http_databridge_send_header(ctx, part);

        if (rc == NGX_ERROR || rc > NGX_OK) {
            ngx_http_databridge_finish(ctx, rc, last);
            return;
        }
    }

    if (ctx->websocket && ctx->started) {
        if (ngx_http_databridge_accepted(ctx, part) != NGX_OK) {
            ngx_http_databridge_finish(ctx, NGX_ERROR, 0);
        }

        return;
    }

    /* Python may let go of a response only when it is complete */

    if ((flags & DB_PART_ABORT)
        || (flags & (DB_PART_DONE|DB_PART_LAST)) == DB_PART_DONE)
    {
        ngx_http_databridge_drop_part(ctx, part);
        ngx_http_databridge_abort(ctx);
        return;
    }

    rc = ngx_http_databridge_output(ctx, part);

    if (last || rc == NGX_ERROR) {
        ngx_http_databridge_finish(ctx, rc, last);
    }
}


static ngx_int_t
ngx_http_databridge_send_header(ngx_http_databridge_ctx_t *ctx,
    db_part_t *part)
{
    ngx_pool_cleanup_t  *cln;
    ngx_http_request_t  *r;

    r = ctx->request;

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        ngx_http_databridge_free_part(part);
        return NGX_ERROR;
    }

    cln->handler = ngx_http_databridge_pool_cleanup;
    cln->data = ctx;

    ctx->head = part;
    ctx->started = 1;

    if (ngx_http_databridge_set_headers(r, part) != NGX_OK
        || (ctx->websocket && ngx_http_databridge_upgrade(ctx) != NGX_OK))
    {
        return NGX_ERROR;
    }

    /* a body that was never asked for may still be sent */

    if (ctx->deferred) {
        r->keepalive = 0;
        r->lingering_close = 1;
    }

    if (ngx_http_databridge_worker->exiting
        && !(part->flags & (DB_PART_LAST|DB_PART_DONE)))
    {
        ngx_http_databridge_leave(&ctx->owner);
    }

    return ngx_http_send_header(r);
}


static ngx_int_t
ngx_http_databridge_output(ngx_http_databridge_ctx_t *ctx, db_part_t *part)
{
    ngx_int_t            rc;
    ngx_uint_t           last;
    ngx_http_request_t  *r;

    r = ctx->request;
    last = part->flags & DB_PART_LAST;

    if ((part->flags & (DB_PART_TRAILERS|DB_PART_START)) == DB_PART_TRAILERS
        && ngx_http_databridge_add_trailers(r, part) != NGX_OK)
    {
        ngx_http_databridge_drop_part(ctx, part);
        return NGX_ERROR;
    }

    if (ngx_http_databridge_add_output(ctx, part) != NGX_OK) {
        return NGX_ERROR;
    }

    if (!last) {
        ngx_http_databridge_post_output(&ctx->owner);
        return NGX_OK;
    }

    rc = ngx_http_databridge_send_output(ctx);

    if (!r->reading_body || rc == NGX_ERROR) {
        return rc;
    }

    return ngx_http_databridge_watch_output(r);
}


/* Takes over the part. */

static ngx_int_t
ngx_http_databridge_add_output(ngx_http_databridge_ctx_t *ctx,
    db_part_t *part)
{
    ngx_chain_t  *cl;

    if (ctx->request->header_only) {
        ngx_http_databridge_give_back(&ctx->owner, part->credit);
        ngx_http_databridge_drop_part(ctx, part);
        return NGX_OK;
    }

    cl = (part->fd != -1) ? ngx_http_databridge_file(ctx, part)
                          : ngx_http_databridge_piece(ctx, part);

    if (cl == NULL) {
        return NGX_ERROR;
    }

    cl->next = NULL;
    *ctx->last_out = cl;
    ctx->last_out = &cl->next;

    return NGX_OK;
}


static ngx_int_t
ngx_http_databridge_send_output(ngx_http_databridge_ctx_t *ctx)
{
    ngx_int_t     rc;
    ngx_chain_t  *out;

    ngx_http_databridge_unpost_output(&ctx->owner);

    out = ctx->out;

    if (out == NULL) {
        return NGX_OK;
    }

    ctx->out = NULL;
    ctx->last_out = &ctx->out;

    rc = ngx_http_output_filter(ctx->request, out);

    ngx_http_databridge_update(ctx, out);

    return rc;
}


/* The end of a turn: one call of the filters for all parts. */

void
ngx_http_databridge_flush_output(ngx_http_databridge_owner_t *owner)
{
    ngx_connection_t           *c;
    ngx_http_request_t         *r;
    ngx_http_databridge_ctx_t  *ctx;

    ctx = (ngx_http_databridge_ctx_t *) owner;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (ngx_http_databridge_send_output(ctx) == NGX_ERROR
        || ngx_http_databridge_watch_output(r) != NGX_OK)
    {
        ngx_http_databridge_finish(ctx, NGX_ERROR, 0);
    }

    ngx_http_run_posted_requests(c);
}


/* The part's file becomes the request's. */

static ngx_chain_t *
ngx_http_databridge_file(ngx_http_databridge_ctx_t *ctx, db_part_t *part)
{
    ngx_buf_t                *b;
    ngx_chain_t              *cl;
    ngx_pool_cleanup_t       *cln;
    ngx_http_request_t       *r;
    ngx_pool_cleanup_file_t  *file;

    r = ctx->request;
    b = NULL;

    cl = ngx_alloc_chain_link(r->pool);
    if (cl == NULL) {
        goto done;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        goto done;
    }

    b->file = ngx_pcalloc(r->pool, sizeof(ngx_file_t));
    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_pool_cleanup_file_t));

    if (b->file == NULL || cln == NULL) {
        b = NULL;
        goto done;
    }

    b->file->fd = part->fd;
    b->file->log = r->connection->log;
    ngx_str_set(&b->file->name, "a file of the application");

    cln->handler = ngx_pool_cleanup_file;
    file = cln->data;
    file->fd = part->fd;
    file->name = b->file->name.data;
    file->log = r->pool->log;

    part->fd = -1;

    b->file_last = part->file_size;
    b->in_file = b->file_last ? 1 : 0;

    ngx_http_databridge_mark(r, b, part->flags);

    cl->buf = b;

done:

    ngx_http_databridge_drop_part(ctx, part);

    return b ? cl : NULL;
}


static ngx_chain_t *
ngx_http_databridge_piece(ngx_http_databridge_ctx_t *ctx, db_part_t *part)
{
    ngx_buf_t                    *b;
    ngx_chain_t                  *cl;
    ngx_http_request_t           *r;
    ngx_http_databridge_piece_t  *piece;

    r = ctx->request;
    cl = ctx->free;

    if (cl) {
        ctx->free = cl->next;
        piece = (ngx_http_databridge_piece_t *) cl->buf;

    } else {
        cl = ngx_alloc_chain_link(r->pool);
        piece = ngx_palloc(r->pool, sizeof(ngx_http_databridge_piece_t));
    }

    if (cl == NULL || piece == NULL) {
        ngx_http_databridge_drop_part(ctx, part);
        return NULL;
    }

    ngx_memzero(piece, sizeof(ngx_http_databridge_piece_t));

    piece->credit = part->credit;

    b = &piece->buf;
    b->tag = (ngx_buf_tag_t) &ngx_http_databridge_module;

    if (part->body.len) {
        b->start = (u_char *) part->body.data;
        b->pos = b->start;
        b->last = b->start + part->body.len;
        b->end = b->last;
        b->memory = 1;
    }

    ngx_http_databridge_mark(r, b, part->flags);

    cl->buf = b;

    if (part->body.len == 0) {
        ngx_http_databridge_drop_part(ctx, part);

    } else if (part != ctx->head) {
        piece->part = part;
    }

    return cl;
}


static void
ngx_http_databridge_mark(ngx_http_request_t *r, ngx_buf_t *b, ngx_uint_t flags)
{
    ngx_uint_t  last;

    last = (flags & DB_PART_LAST) != 0;

    b->flush = !last;
    b->last_buf = last && r == r->main;
    b->last_in_chain = last;

    /* as ngx_http_send_special() has it for a buffer without bytes */

    b->sync = last && r != r->main && b->pos == b->last && !b->in_file;
}


/* Frees the parts whose bytes are sent, and lets Python send as many. */

static void
ngx_http_databridge_update(ngx_http_databridge_ctx_t *ctx, ngx_chain_t *out)
{
    size_t                        size;
    ngx_chain_t                  *cl;
    ngx_http_databridge_piece_t  *piece;

    size = 0;

    ngx_chain_update_chains(ctx->request->pool, &ctx->free, &ctx->busy, &out,
                            (ngx_buf_tag_t) &ngx_http_databridge_module);

    for (cl = ctx->free; cl; cl = cl->next) {

        piece = (ngx_http_databridge_piece_t *) cl->buf;

        if (piece->counted) {
            break;
        }

        piece->counted = 1;
        size += piece->credit;

        if (piece->part) {
            ngx_http_databridge_free_part(piece->part);
            piece->part = NULL;
        }
    }

    ngx_http_databridge_give_back(&ctx->owner, size);
}


ngx_int_t
ngx_http_databridge_watch_output(ngx_http_request_t *r)
{
    ngx_event_t               *wev;
    ngx_http_core_loc_conf_t  *clcf;

    wev = r->connection->write;

    /* a subrequest is woken when those before it have ended */

    if (r->postponed) {
        r->write_event_handler = ngx_http_databridge_write;
        return NGX_OK;
    }

    if (!r->connection->buffered && !r->buffered) {

        if (wev->timer_set && !wev->delayed) {
            ngx_del_timer(wev);
        }

        return NGX_OK;
    }

    r->write_event_handler = ngx_http_databridge_write;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (!wev->delayed) {
        ngx_add_timer(wev, clcf->send_timeout);
    }

    return ngx_handle_write_event(wev, clcf->send_lowat);
}


static void
ngx_http_databridge_write(ngx_http_request_t *r)
{
    ngx_int_t                   rc;
    ngx_connection_t           *c;
    ngx_http_databridge_ctx_t  *ctx;

    c = r->connection;
    ctx = ngx_http_get_module_ctx(r, ngx_http_databridge_module);

    if (c->write->timedout) {
        ngx_log_error(NGX_LOG_INFO, c->log, NGX_ETIMEDOUT,
                      "client timed out");
        c->timedout = 1;
        ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    rc = ngx_http_output_filter(r, NULL);

    ngx_http_databridge_update(ctx, NULL);

    if (rc == NGX_ERROR || ngx_http_databridge_watch_output(r) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    if (ctx->websocket) {
        ngx_http_databridge_switch(r);
    }

    /* a subrequest, which had the connection's events, may have ended */

    if (r->reading_body && c->read->ready) {
        ngx_post_event(c->read, &ngx_posted_events);
    }
}


/* The response ends here; unless "last", Python does not know it yet. */

static void
ngx_http_databridge_finish(ngx_http_databridge_ctx_t *ctx, ngx_int_t rc,
    ngx_uint_t last)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    ngx_http_databridge_detach(ctx, last ? NULL : &ctx->owner.job->disconnect);

    if (r->reading_body && rc != NGX_ERROR) {
        ngx_http_databridge_drain(ctx, rc);
        return;
    }

    ngx_http_finalize_request(r, rc);
}


/* What is on the wire must not look complete. */

static void
ngx_http_databridge_abort(ngx_http_databridge_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    ngx_http_databridge_detach(ctx, NULL);

    if (!ctx->started) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    r->keepalive = 0;

    (void) ngx_http_databridge_send_output(ctx);
    (void) ngx_http_send_special(r, NGX_HTTP_FLUSH);

    ngx_http_finalize_request(r, NGX_ERROR);
}


static void
ngx_http_databridge_pool_cleanup(void *data)
{
    ngx_http_databridge_ctx_t *ctx = data;

    ngx_http_databridge_free_pieces(ctx->busy);
    ngx_http_databridge_free_pieces(ctx->out);

    ngx_http_databridge_free_part(ctx->head);
}


static void
ngx_http_databridge_free_pieces(ngx_chain_t *cl)
{
    ngx_http_databridge_piece_t  *piece;

    for ( /* void */ ; cl; cl = cl->next) {

        if (cl->buf->tag != (ngx_buf_tag_t) &ngx_http_databridge_module) {
            continue;
        }

        piece = (ngx_http_databridge_piece_t *) cl->buf;

        if (piece->part) {
            ngx_http_databridge_free_part(piece->part);
        }
    }
}


/* The head is freed with the request. */

static void
ngx_http_databridge_drop_part(ngx_http_databridge_ctx_t *ctx, db_part_t *part)
{
    if (part != ctx->head) {
        ngx_http_databridge_free_part(part);
    }
}
