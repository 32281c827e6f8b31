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
} ngx_http_databridge_piece_t;


static void ngx_http_databridge_respond(ngx_http_databridge_ctx_t *ctx,
    db_part_t *part);
static ngx_int_t ngx_http_databridge_send_header(
    ngx_http_databridge_ctx_t *ctx, db_part_t *part);
static ngx_int_t ngx_http_databridge_set_header(ngx_http_request_t *r,
    db_header_t *header);
static ngx_int_t ngx_http_databridge_content_type(ngx_http_request_t *r,
    ngx_str_t *value);
static ngx_int_t ngx_http_databridge_content_length(ngx_http_request_t *r,
    ngx_str_t *value);
static ngx_int_t ngx_http_databridge_connection(ngx_http_request_t *r,
    ngx_str_t *value);
static ngx_int_t ngx_http_databridge_drop(ngx_http_request_t *r,
    ngx_str_t *value);
static ngx_int_t ngx_http_databridge_output(ngx_http_databridge_ctx_t *ctx,
    db_part_t *part);
static ngx_chain_t *ngx_http_databridge_piece(ngx_http_databridge_ctx_t *ctx,
    db_part_t *part);
static void ngx_http_databridge_update(ngx_http_databridge_ctx_t *ctx,
    ngx_chain_t *out);
static ngx_int_t ngx_http_databridge_watch_output(ngx_http_request_t *r);
static void ngx_http_databridge_finish(ngx_http_databridge_ctx_t *ctx,
    ngx_int_t rc, ngx_uint_t last);
static void ngx_http_databridge_write(ngx_http_request_t *r);
static void ngx_http_databridge_abort(ngx_http_databridge_ctx_t *ctx);
static void ngx_http_databridge_pool_cleanup(void *data);
static void ngx_http_databridge_free_part(db_part_t *part);


typedef struct {
    ngx_str_t    name;
    ngx_int_t  (*handler)(ngx_http_request_t *r, ngx_str_t *value);
    size_t       offset;              /* of the member of headers_out */
} ngx_http_databridge_header_t;


/*
 * Headers that nginx frames, writes or filters by itself.  Location is not
 * among them: nginx would make it absolute.
 */

static ngx_http_databridge_header_t  ngx_http_databridge_headers[] = {

    { ngx_string("content-type"), ngx_http_databridge_content_type, 0 },
    { ngx_string("content-length"), ngx_http_databridge_content_length, 0 },
    { ngx_string("connection"), ngx_http_databridge_connection, 0 },
    { ngx_string("transfer-encoding"), ngx_http_databridge_drop, 0 },
    { ngx_string("keep-alive"), ngx_http_databridge_drop, 0 },
    { ngx_string("date"), NULL, offsetof(ngx_http_headers_out_t, date) },
    { ngx_string("server"), NULL, offsetof(ngx_http_headers_out_t, server) },
    { ngx_string("etag"), NULL, offsetof(ngx_http_headers_out_t, etag) },
    { ngx_string("content-encoding"), NULL,
      offsetof(ngx_http_headers_out_t, content_encoding) },
    { ngx_string("last-modified"), NULL,
      offsetof(ngx_http_headers_out_t, last_modified) },

    { ngx_null_string, NULL, 0 }
};


void
ngx_http_databridge_part(db_part_t *part)
{
    db_job_t                      *job;
    ngx_uint_t                     flags;
    ngx_connection_t              *c;
    ngx_http_request_t            *r;
    ngx_http_databridge_ctx_t     *ctx;
    ngx_http_databridge_worker_t  *worker;

    worker = ngx_http_databridge_worker;
    flags = part->flags;
    job = part->job;
    ctx = job->owner;

    if (job->queued) {
        job->queued = 0;
        worker->queued--;
    }

    if (ctx == NULL) {
        ngx_http_databridge_free_part(part);

    } else {
        r = ctx->request;
        c = r->connection;

        ngx_http_set_log_request(c->log, r);
        ngx_http_databridge_respond(ctx, part);
        ngx_http_run_posted_requests(c);
    }

    if (flags & DB_PART_DONE) {
        worker->jobs--;
        db_job_release(job);
    }
}


static void
ngx_http_databridge_respond(ngx_http_databridge_ctx_t *ctx, db_part_t *part)
{
    ngx_int_t   rc;
    ngx_uint_t  last, flags;

    flags = part->flags;
    last = flags & (DB_PART_LAST|DB_PART_DONE);

    if (flags & DB_PART_START) {
        ngx_http_databridge_timeout_del(ctx);

        rc = ngx_http_databridge_send_header(ctx, part);

        if (rc == NGX_ERROR || rc > NGX_OK || ctx->request->header_only) {
            ngx_http_databridge_finish(ctx, rc, last);
            return;
        }
    }

    /* Python may let go of a response only when it is complete */

    if ((flags & DB_PART_ABORT)
        || (flags & (DB_PART_DONE|DB_PART_LAST)) == DB_PART_DONE)
    {
        if (part != ctx->head) {
            ngx_http_databridge_free_part(part);
        }

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
    ngx_uint_t           i;
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

    ngx_http_databridge_set_status(r, part->status);
    r->headers_out.content_length_n = -1;

    /* conditions and ranges are the application's */

    r->disable_not_modified = 1;

    for (i = 0; i < part->nheaders; i++) {
        if (ngx_http_databridge_set_header(r, &part->headers[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    /* a response that is here whole needs no chunks */

    if ((part->flags & DB_PART_LAST) && r->headers_out.content_length_n == -1
        && r->method != NGX_HTTP_HEAD
        && part->status != NGX_HTTP_NOT_MODIFIED)
    {
        r->headers_out.content_length_n = part->body.len;
    }

    return ngx_http_send_header(r);
}


static ngx_int_t
ngx_http_databridge_set_header(ngx_http_request_t *r, db_header_t *header)
{
    ngx_str_t                      value;
    ngx_table_elt_t               *h;
    ngx_http_databridge_header_t  *known;

    value.data = (u_char *) header->value.data;
    value.len = header->value.len;

    for (known = ngx_http_databridge_headers; known->name.len; known++) {
        if (known->name.len == header->name.len
            && ngx_strncasecmp(known->name.data,
                               (u_char *) header->name.data,
                               header->name.len)
               == 0)
        {
            break;
        }
    }

    if (known->handler) {
        return known->handler(r, &value);
    }

    h = ngx_http_databridge_add_header(r, header->name, header->value);
    if (h == NULL) {
        return NGX_ERROR;
    }

    if (known->name.len) {
        *(ngx_table_elt_t **) ((u_char *) &r->headers_out + known->offset)
            = h;
    }

    return NGX_OK;
}


/* The strings must live as long as the request. */

ngx_table_elt_t *
ngx_http_databridge_add_header(ngx_http_request_t *r, db_str_t name,
    db_str_t value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NULL;
    }

    h->hash = 1;
    h->key.data = (u_char *) name.data;
    h->key.len = name.len;
    h->value.data = (u_char *) value.data;
    h->value.len = value.len;

#if (nginx_version >= 1023000)
    h->next = NULL;
#endif

    return h;
}


static ngx_int_t
ngx_http_databridge_content_type(ngx_http_request_t *r, ngx_str_t *value)
{
    r->headers_out.content_type = *value;
    r->headers_out.content_type_len = value->len;
    r->headers_out.content_type_lowcase = NULL;

    return NGX_OK;
}


static ngx_int_t
ngx_http_databridge_content_length(ngx_http_request_t *r, ngx_str_t *value)
{
    off_t  n;

    n = ngx_atoof(value->data, value->len);

    if (n == NGX_ERROR) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "databridge: the application sent the invalid "
                      "content-length \"%V\"", value);
        return NGX_ERROR;
    }

    r->headers_out.content_length_n = n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_databridge_connection(ngx_http_request_t *r, ngx_str_t *value)
{
    if (ngx_strlcasestrn(value->data, value->data + value->len,
                         (u_char *) "close", 5 - 1))
    {
        r->keepalive = 0;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_databridge_drop(ngx_http_request_t *r, ngx_str_t *value)
{
    /* framing is nginx's */

    return NGX_OK;
}


static ngx_int_t
ngx_http_databridge_output(ngx_http_databridge_ctx_t *ctx, db_part_t *part)
{
    ngx_int_t            rc;
    ngx_uint_t           last;
    ngx_chain_t         *out;
    ngx_http_request_t  *r;

    r = ctx->request;
    last = part->flags & DB_PART_LAST;

    if (part->body.len == 0) {

        if (part != ctx->head) {
            ngx_http_databridge_free_part(part);
        }

        rc = ngx_http_send_special(r, last ? NGX_HTTP_LAST : NGX_HTTP_FLUSH);

    } else {
        out = ngx_http_databridge_piece(ctx, part);
        if (out == NULL) {
            return NGX_ERROR;
        }

        rc = ngx_http_output_filter(r, out);

        ngx_http_databridge_update(ctx, out);
    }

    if (last || rc == NGX_ERROR) {
        return rc;
    }

    return ngx_http_databridge_watch_output(r);
}


static ngx_chain_t *
ngx_http_databridge_piece(ngx_http_databridge_ctx_t *ctx, db_part_t *part)
{
    ngx_buf_t                    *b;
    ngx_uint_t                    last;
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

        if (part != ctx->head) {
            ngx_http_databridge_free_part(part);
        }

        return NULL;
    }

    ngx_memzero(piece, sizeof(ngx_http_databridge_piece_t));

    /* the head is freed with the request */

    if (part != ctx->head) {
        piece->part = part;
    }

    last = (part->flags & DB_PART_LAST) != 0;

    b = &piece->buf;
    b->start = (u_char *) part->body.data;
    b->pos = b->start;
    b->last = b->start + part->body.len;
    b->end = b->last;
    b->tag = (ngx_buf_tag_t) &ngx_http_databridge_module;
    b->memory = 1;
    b->flush = !last;
    b->last_buf = last && r == r->main;
    b->last_in_chain = last;

    cl->buf = b;
    cl->next = NULL;

    return cl;
}


/* Frees the parts whose bytes are sent. */

static void
ngx_http_databridge_update(ngx_http_databridge_ctx_t *ctx, ngx_chain_t *out)
{
    ngx_chain_t                  *cl;
    ngx_http_databridge_piece_t  *piece;

    ngx_chain_update_chains(ctx->request->pool, &ctx->free, &ctx->busy, &out,
                            (ngx_buf_tag_t) &ngx_http_databridge_module);

    for (cl = ctx->free; cl; cl = cl->next) {

        piece = (ngx_http_databridge_piece_t *) cl->buf;

        if (piece->part == NULL) {
            break;
        }

        ngx_http_databridge_free_part(piece->part);
        piece->part = NULL;
    }
}


static ngx_int_t
ngx_http_databridge_watch_output(ngx_http_request_t *r)
{
    ngx_event_t               *wev;
    ngx_http_core_loc_conf_t  *clcf;

    wev = r->connection->write;

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
    }
}


/* The response ends here; unless "last", Python does not know it yet. */

static void
ngx_http_databridge_finish(ngx_http_databridge_ctx_t *ctx, ngx_int_t rc,
    ngx_uint_t last)
{
    ngx_http_databridge_detach(ctx, last ? NULL : &ctx->job->disconnect);

    ngx_http_finalize_request(ctx->request, rc);
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

    (void) ngx_http_send_special(r, NGX_HTTP_FLUSH);

    ngx_http_finalize_request(r, NGX_ERROR);
}


static void
ngx_http_databridge_pool_cleanup(void *data)
{
    ngx_http_databridge_ctx_t *ctx = data;

    ngx_chain_t                  *cl;
    ngx_http_databridge_piece_t  *piece;

    for (cl = ctx->busy; cl; cl = cl->next) {

        piece = (ngx_http_databridge_piece_t *) cl->buf;

        if (piece->part) {
            ngx_http_databridge_free_part(piece->part);
        }
    }

    ngx_http_databridge_free_part(ctx->head);
}


static void
ngx_http_databridge_free_part(db_part_t *part)
{
    if (part->object == NULL) {
        db_part_destroy(part);
        return;
    }

    part->msg.kind = DB_MSG_RELEASE;
    ngx_http_databridge_submit(&part->msg.node);
}
