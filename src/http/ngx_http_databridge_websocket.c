/*
 * A WebSocket, from the 101 to its end.  The client's frames become chunks,
 * Python's parts become frames; pings, pongs and closes are answered here.
 *
 * A socket that closes has no job any more: Python has been told, and all
 * that is left is to wait, not for long, for the client's close.  While the
 * socket is open, its timeout is the next ping's or that of its answer.
 */

#include "http/ngx_http_databridge.h"


#define NGX_HTTP_DATABRIDGE_READ_SIZE   16384
#define NGX_HTTP_DATABRIDGE_READ_MAX    8        /* at once */
#define NGX_HTTP_DATABRIDGE_CLOSE_TIME  10000    /* ms, for the client's */


static ngx_int_t ngx_http_databridge_open(ngx_http_databridge_ctx_t *ctx);
static void ngx_http_databridge_read(ngx_http_request_t *r);
static ngx_int_t ngx_http_databridge_frames(ngx_http_databridge_ctx_t *ctx,
    u_char *data, size_t len);
static void ngx_http_databridge_message(ngx_http_databridge_ctx_t *ctx);
static void ngx_http_databridge_heard(ngx_http_databridge_ctx_t *ctx);
static ngx_int_t ngx_http_databridge_pong(ngx_http_databridge_ctx_t *ctx);
static ngx_int_t ngx_http_databridge_control(ngx_http_databridge_ctx_t *ctx,
    ngx_uint_t opcode, db_str_t data);
static db_part_t *ngx_http_databridge_control_part(ngx_uint_t opcode,
    db_str_t data);
static ngx_int_t ngx_http_databridge_send_frame(
    ngx_http_databridge_ctx_t *ctx, db_part_t *part);
static ngx_int_t ngx_http_databridge_add_frame(ngx_http_databridge_ctx_t *ctx,
    db_part_t *part);
static ngx_int_t ngx_http_databridge_close(ngx_http_databridge_ctx_t *ctx,
    ngx_uint_t code, db_str_t reason);
static void ngx_http_databridge_closing(ngx_http_databridge_ctx_t *ctx);
static void ngx_http_databridge_closed(ngx_http_databridge_ctx_t *ctx);
static void ngx_http_databridge_fail(ngx_http_databridge_ctx_t *ctx,
    ngx_uint_t code, db_str_t reason);
static void ngx_http_databridge_lost(ngx_http_databridge_ctx_t *ctx);


/* A part of Python's, after the header was sent if it had one. */

void
ngx_http_databridge_websocket_part(ngx_http_databridge_ctx_t *ctx,
    db_part_t *part)
{
    ngx_int_t                         rc;
    ngx_http_databridge_websocket_t  *ws;

    ws = ctx->websocket;

    if (part->flags & DB_PART_START) {
        rc = ngx_http_databridge_open(ctx);

    } else if (part->opcode == DB_WS_CLOSE) {
        ws->closing = 1;
        rc = ngx_http_databridge_send_frame(ctx, part);

    } else if (part->opcode) {
        rc = ngx_http_databridge_add_frame(ctx, part);
        ngx_http_databridge_post_output(ctx);

    } else {
        /* Python had no memory to end it in order */
        ngx_http_databridge_free_part(part);
        rc = NGX_ERROR;
    }

    if (rc == NGX_ERROR) {
        ngx_http_databridge_lost(ctx);

    } else if (ws->closing) {
        ngx_http_databridge_closing(ctx);
    }
}


static ngx_int_t
ngx_http_databridge_open(ngx_http_databridge_ctx_t *ctx)
{
    ngx_http_request_t              *r;
    ngx_http_databridge_loc_conf_t  *dlcf;

    r = ctx->request;
    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_databridge_module);

    db_frames_init(&ctx->websocket->frames, dlcf->websocket_max_size,
                   sizeof(db_chunk_t));

    ctx->websocket->counted = 1;
    ngx_http_databridge_metric_socket(1);

    r->connection->log->action = "handling WebSocket";
    r->read_event_handler = ngx_http_databridge_read;

    if (ngx_http_databridge_timeout_add(ctx, dlcf->websocket_ping) != NGX_OK
        || ngx_http_send_special(r, NGX_HTTP_FLUSH) == NGX_ERROR)
    {
        return NGX_ERROR;
    }

    /* frames may have come with the request, or before the answer */

    ngx_post_event(r->connection->read, &ngx_posted_events);

    return ngx_http_databridge_watch_output(r);
}


/* Python has taken messages. */

void
ngx_http_databridge_websocket_taken(ngx_http_databridge_ctx_t *ctx)
{
    if (ctx->paused && ctx->ahead < DB_AHEAD_MAX) {
        ngx_http_databridge_read(ctx->request);
    }
}


static void
ngx_http_databridge_read(ngx_http_request_t *r)
{
    u_char                     *p;
    ssize_t                     n;
    ngx_buf_t                  *b;
    ngx_uint_t                  i;
    ngx_event_t                *rev;
    ngx_connection_t           *c;
    ngx_http_databridge_ctx_t  *ctx;

    /* the worker's only one: nothing of it is needed after a round */

    static u_char  buffer[NGX_HTTP_DATABRIDGE_READ_SIZE];

    c = r->connection;
    b = r->header_in;
    rev = c->read;

    ctx = ngx_http_get_module_ctx(r, ngx_http_databridge_module);

    for (i = 0; i < NGX_HTTP_DATABRIDGE_READ_MAX; i++) {

        ctx->paused = ctx->ahead >= DB_AHEAD_MAX
                      && !ctx->websocket->closing;

        if (ctx->paused) {
            return;
        }

        if (b->pos < b->last) {
            p = b->pos;
            n = b->last - b->pos;
            b->pos = b->last;

        } else {
            p = buffer;
            n = c->recv(c, buffer, NGX_HTTP_DATABRIDGE_READ_SIZE);
        }

        if (n == NGX_AGAIN) {
            if (ngx_handle_read_event(rev, 0) != NGX_OK) {
                ngx_http_databridge_lost(ctx);
            }

            return;
        }

        if (n == 0 || n == NGX_ERROR) {
            ngx_log_error(NGX_LOG_INFO, c->log, 0, "client closed its "
                          "connection without closing the WebSocket");

            ngx_http_databridge_lost(ctx);
            return;
        }

        ngx_http_databridge_heard(ctx);

        if (ngx_http_databridge_frames(ctx, p, n) != NGX_OK) {
            return;
        }
    }

    /* others have their turn */

    ngx_post_event(rev, &ngx_posted_next_events);
}


/* NGX_OK to read on; else the request has been finalized. */

static ngx_int_t
ngx_http_databridge_frames(ngx_http_databridge_ctx_t *ctx, u_char *data,
    size_t len)
{
    db_frames_t        *frames;
    db_frames_event_t   event;

    frames = &ctx->websocket->frames;

    if (db_frames_feed(frames, (char *) data, len) != DB_OK) {
        ngx_http_databridge_fail(ctx, DB_CLOSE_INTERNAL, db_string(""));
        return NGX_DONE;
    }

    for ( ;; ) {

        event = db_frames_next(frames);

        switch (event) {

        case DB_FRAMES_MESSAGE:
            ngx_http_databridge_message(ctx);
            break;

        case DB_FRAMES_PING:
            if (ngx_http_databridge_pong(ctx) == NGX_ERROR) {
                ngx_http_databridge_lost(ctx);
                return NGX_DONE;
            }

            break;

        case DB_FRAMES_PONG:
            break;

        case DB_FRAMES_CLOSE:
            ngx_http_databridge_fail(ctx, frames->code, frames->data);
            return NGX_DONE;

        case DB_FRAMES_ERROR:
            ngx_log_error(NGX_LOG_INFO, ctx->request->connection->log, 0,
                          "client sent what closes its WebSocket with %ui",
                          (ngx_uint_t) frames->code);

            ctx->request->lingering_close = 1;
            ngx_http_databridge_fail(ctx, frames->code, frames->data);
            return NGX_DONE;

        default:  /* DB_FRAMES_AGAIN */
            return NGX_OK;
        }
    }
}


static void
ngx_http_databridge_message(ngx_http_databridge_ctx_t *ctx)
{
    db_chunk_t   *chunk;
    db_frames_t  *frames;

    frames = &ctx->websocket->frames;

    if (ctx->job == NULL) {
        ngx_free(frames->block);
        return;
    }

    chunk = db_chunk_adopt(ctx->job, frames->block, frames->data.len);
    chunk->opcode = frames->opcode;

    ctx->ahead += db_message_cost(frames->data.len);
    ngx_http_databridge_submit(&chunk->msg.node);
}


static void
ngx_http_databridge_heard(ngx_http_databridge_ctx_t *ctx)
{
    ngx_http_databridge_loc_conf_t  *dlcf;

    if (!ctx->websocket->pinged) {
        return;
    }

    dlcf = ngx_http_get_module_loc_conf(ctx->request,
                                        ngx_http_databridge_module);

    ctx->websocket->pinged = 0;

    /* a time that is in use already: nothing is allocated */

    (void) ngx_http_databridge_timeout_add(ctx, dlcf->websocket_ping);
}


/*
 * While the client does not take what it was sent, only its last ping is
 * remembered: pings cannot fill the memory.
 */

static ngx_int_t
ngx_http_databridge_pong(ngx_http_databridge_ctx_t *ctx)
{
    db_part_t                        *part;
    ngx_http_databridge_websocket_t  *ws;

    ws = ctx->websocket;

    if (ws->closing) {
        return NGX_OK;
    }

    part = ngx_http_databridge_control_part(DB_FRAME_PONG, ws->frames.data);
    if (part == NULL) {
        return NGX_ERROR;
    }

    if (ws->pong) {
        ngx_http_databridge_free_part(ws->pong);
    }

    ws->pong = part;

    return ngx_http_databridge_websocket_sent(ctx);
}


/* What was sent may have left. */

ngx_int_t
ngx_http_databridge_websocket_sent(ngx_http_databridge_ctx_t *ctx)
{
    db_part_t           *part;
    ngx_http_request_t  *r;

    r = ctx->request;
    part = ctx->websocket->pong;

    if (part == NULL || r->buffered || r->connection->buffered) {
        return NGX_OK;
    }

    ctx->websocket->pong = NULL;

    return ngx_http_databridge_send_frame(ctx, part);
}


static ngx_int_t
ngx_http_databridge_control(ngx_http_databridge_ctx_t *ctx,
    ngx_uint_t opcode, db_str_t data)
{
    db_part_t  *part;

    part = ngx_http_databridge_control_part(opcode, data);
    if (part == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_databridge_send_frame(ctx, part);
}


/* At once, after what waits to be sent. */

static ngx_int_t
ngx_http_databridge_send_frame(ngx_http_databridge_ctx_t *ctx,
    db_part_t *part)
{
    if (ngx_http_databridge_add_frame(ctx, part) != NGX_OK
        || ngx_http_databridge_send_output(ctx) == NGX_ERROR)
    {
        return NGX_ERROR;
    }

    return ngx_http_databridge_watch_output(ctx->request);
}


static db_part_t *
ngx_http_databridge_control_part(ngx_uint_t opcode, db_str_t data)
{
    char       *p;
    db_part_t  *part;

    part = db_part_create(NULL, 0, DB_FRAME_HEAD_MAX + data.len, &p);
    if (part == NULL) {
        return NULL;
    }

    p += DB_FRAME_HEAD_MAX;

    part->opcode = opcode;
    part->body.data = p;
    part->body.len = data.len;

    if (data.len) {
        ngx_memcpy(p, data.data, data.len);
    }

    return part;
}


/*
 * A body in the part's own block has room for the head in front of it; one
 * that lies in a Python object has not.
 */

static ngx_int_t
ngx_http_databridge_add_frame(ngx_http_databridge_ctx_t *ctx, db_part_t *part)
{
    char       *p;
    u_char      head[DB_FRAME_HEAD_MAX];
    size_t      n;
    db_part_t  *first;

    n = db_frame_head(head, part->opcode, part->body.len);

    if (part->object == NULL) {
        p = (char *) part->body.data - n;
        ngx_memcpy(p, head, n);

        part->body.data = p;
        part->body.len += n;

        return ngx_http_databridge_add_output(ctx, part);
    }

    first = db_part_create(NULL, 0, n, &p);

    if (first) {
        ngx_memcpy(p, head, n);

        first->body.data = p;
        first->body.len = n;
    }

    if (first == NULL || ngx_http_databridge_add_output(ctx, first) != NGX_OK)
    {
        ngx_http_databridge_free_part(part);
        return NGX_ERROR;
    }

    return ngx_http_databridge_add_output(ctx, part);
}


/* Tells Python, and the client, that the socket closes and why. */

static ngx_int_t
ngx_http_databridge_close(ngx_http_databridge_ctx_t *ctx, ngx_uint_t code,
    db_str_t reason)
{
    char        *p;
    u_char       data[DB_FRAME_CONTROL_MAX];
    db_str_t     close;
    db_chunk_t  *chunk;

    data[0] = (u_char) (code >> 8);
    data[1] = (u_char) code;

    if (reason.len) {
        ngx_memcpy(data + 2, reason.data, reason.len);
    }

    close.data = (char *) data;
    close.len = 2 + reason.len;

    if (ctx->job) {
        chunk = db_chunk_create(ctx->job, close.len);

        if (chunk) {
            p = (char *) chunk->data.data;
            ngx_memcpy(p, data, close.len);

            chunk->opcode = DB_WS_CLOSE;
            ngx_http_databridge_submit(&chunk->msg.node);
        }
    }

    ctx->websocket->closing = 1;

    if (code == DB_CLOSE_NO_CODE) {
        close.len = 0;
    }

    return ngx_http_databridge_control(ctx, DB_FRAME_CLOSE, close);
}


/* The close was sent: what is left is the client's. */

static void
ngx_http_databridge_closing(ngx_http_databridge_ctx_t *ctx)
{
    ngx_http_databridge_closed(ctx);

    /* a worker that exits still has to cut it off in the end */

    if (!ctx->linked) {
        ctx->linked = 1;
        ngx_queue_insert_tail(&ngx_http_databridge_worker->running,
                              &ctx->link);
    }

    if (ngx_http_databridge_timeout_add(ctx, NGX_HTTP_DATABRIDGE_CLOSE_TIME)
        != NGX_OK)
    {
        ngx_http_databridge_lost(ctx);
        return;
    }

    if (ctx->paused) {
        ngx_post_event(ctx->request->connection->read, &ngx_posted_events);
    }
}


/* For Python the socket has ended. */

static void
ngx_http_databridge_closed(ngx_http_databridge_ctx_t *ctx)
{
    ngx_http_databridge_detach(ctx, ctx->job ? &ctx->job->disconnect : NULL);
}


/* The socket ends here, with a close unless one was sent before. */

static void
ngx_http_databridge_fail(ngx_http_databridge_ctx_t *ctx, ngx_uint_t code,
    db_str_t reason)
{
    ngx_int_t  rc;

    rc = NGX_OK;

    if (!ctx->websocket->closing) {
        rc = ngx_http_databridge_close(ctx, code, reason);
    }

    ngx_http_databridge_closed(ctx);

    ngx_http_finalize_request(ctx->request, rc == NGX_ERROR ? rc : NGX_OK);
}


/* The connection ends, without a close. */

static void
ngx_http_databridge_lost(ngx_http_databridge_ctx_t *ctx)
{
    ngx_connection_t  *c;

    c = ctx->request->connection;
    c->error = 1;

#if (NGX_HTTP_SSL)
    if (c->ssl) {
        c->ssl->no_send_shutdown = 1;
    }
#endif

    ngx_http_finalize_request(ctx->request, NGX_HTTP_CLIENT_CLOSED_REQUEST);
}


/* Time for a ping, or none is left for its answer or for the close. */

void
ngx_http_databridge_websocket_expire(ngx_http_databridge_ctx_t *ctx)
{
    ngx_msec_t                        time;
    ngx_connection_t                 *c;
    ngx_http_request_t               *r;
    ngx_http_databridge_loc_conf_t   *dlcf;
    ngx_http_databridge_websocket_t  *ws;

    r = ctx->request;
    c = r->connection;
    ws = ctx->websocket;

    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_databridge_module);

    ngx_http_set_log_request(c->log, r);

    if (ws->closing) {
        ngx_log_error(NGX_LOG_INFO, c->log, NGX_ETIMEDOUT,
                      "client did not close its WebSocket");
        ngx_http_databridge_lost(ctx);

    } else if (ws->pinged && !ctx->paused) {
        ngx_http_databridge_fail(ctx, DB_CLOSE_INTERNAL,
                                 db_string("keepalive ping timeout"));

    } else {
        ws->pinged = dlcf->websocket_timeout != 0;
        time = ws->pinged ? dlcf->websocket_timeout : dlcf->websocket_ping;

        if (ngx_http_databridge_timeout_add(ctx, time) != NGX_OK
            || ngx_http_databridge_control(ctx, DB_FRAME_PING, db_string(""))
               == NGX_ERROR)
        {
            ngx_http_databridge_lost(ctx);
        }
    }

    ngx_http_run_posted_requests(c);
}


/* The worker quits. */

void
ngx_http_databridge_websocket_leave(ngx_http_databridge_ctx_t *ctx)
{
    ngx_connection_t  *c;

    if (!ctx->started) {
        ngx_http_databridge_cut(ctx);
        return;
    }

    if (ctx->websocket->closing) {
        return;
    }

    c = ctx->request->connection;

    ngx_http_set_log_request(c->log, ctx->request);

    if (ngx_http_databridge_close(ctx, DB_CLOSE_RESTART, db_string(""))
        == NGX_ERROR)
    {
        ngx_http_databridge_lost(ctx);

    } else {
        ngx_http_databridge_closing(ctx);
    }

    ngx_http_run_posted_requests(c);
}


void
ngx_http_databridge_websocket_free(ngx_http_databridge_ctx_t *ctx)
{
    db_frames_free(&ctx->websocket->frames);

    if (ctx->websocket->pong) {
        ngx_http_databridge_free_part(ctx->websocket->pong);
    }

    if (ctx->websocket->counted) {
        ngx_http_databridge_metric_socket(-1);
    }
}
