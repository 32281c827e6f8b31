/*
 * The connection of a WebSocket, from the request that has become it to its
 * end: what is read, what is written, and how it is closed.
 *
 * Each event, of the connection, of the job or of a timeout, ends with
 * ngx_http_databridge_socket_settle(), which alone may free the socket; what
 * runs before that says by its result, or by ws->ending, what is to happen.
 */

#include "http/ngx_http_databridge.h"


#define NGX_HTTP_DATABRIDGE_READ_SIZE  16384
#define NGX_HTTP_DATABRIDGE_READ_MAX   8        /* at once */
#define NGX_HTTP_DATABRIDGE_WRITE_MAX  64       /* parts at once */


static void ngx_http_databridge_socket_free_buffers(ngx_connection_t *c,
    ngx_http_connection_t *hc);
static void ngx_http_databridge_socket_free_chain(ngx_connection_t *c,
    ngx_chain_t *cl);
static void ngx_http_databridge_socket_readable(ngx_event_t *rev);
static void ngx_http_databridge_socket_writable(ngx_event_t *wev);
static ngx_int_t ngx_http_databridge_socket_write(
    ngx_http_databridge_websocket_t *ws);
static ngx_uint_t ngx_http_databridge_socket_fill(
    ngx_http_databridge_websocket_t *ws, ngx_chain_t *out, ngx_buf_t *bufs);
static void ngx_http_databridge_socket_sent(
    ngx_http_databridge_websocket_t *ws, ngx_buf_t *bufs, ngx_uint_t n);
static ngx_int_t ngx_http_databridge_socket_watch(
    ngx_http_databridge_websocket_t *ws, off_t sent);
static void ngx_http_databridge_socket_finish(
    ngx_http_databridge_websocket_t *ws);
static void ngx_http_databridge_socket_linger(ngx_connection_t *c);
static void ngx_http_databridge_socket_drain(ngx_event_t *rev);
static void ngx_http_databridge_socket_reset(
    ngx_http_databridge_websocket_t *ws);


/* NULL: out of memory, the request goes on. */

ngx_http_databridge_websocket_t *
ngx_http_databridge_socket_create(ngx_http_request_t *r)
{
    u_char                           *p;
    size_t                            len;
    ngx_buf_t                        *b;
    ngx_connection_t                 *c;
    ngx_http_databridge_websocket_t  *ws;

    b = r->header_in;
    c = r->connection;
    len = b->last - b->pos;

    ws = ngx_calloc(sizeof(ngx_http_databridge_websocket_t), c->log);
    if (ws == NULL) {
        return NULL;
    }

    if (len) {
        p = ngx_alloc(len, c->log);
        if (p == NULL) {
            ngx_free(ws);
            return NULL;
        }

        ngx_memcpy(p, b->pos, len);

        ws->unread.data = (char *) p;
        ws->unread.len = len;
    }

    ws->owner.ops = &ngx_http_databridge_websocket_ops;
    ws->connection = c;
    ws->clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    ws->dlcf = ngx_http_get_module_loc_conf(r, ngx_http_databridge_module);

    db_chain_init(&ws->out);

    return ws;
}


/* The connection leaves its request, which is freed. */

void
ngx_http_databridge_socket_start(ngx_http_databridge_websocket_t *ws,
    ngx_http_request_t *r)
{
    ngx_event_t            *rev, *wev;
    ngx_connection_t       *c;
    ngx_http_connection_t  *hc;

    c = ws->connection;
    rev = c->read;
    wev = c->write;
    hc = r->http_connection;

    if (r->limit_conn_status) {

        /* what limit_conn has counted, the end of the request takes back */

        ws->request = r;

    } else {
        ngx_http_free_request(r, 0);
        ngx_http_set_log_request(c->log, NULL);

        c->destroyed = 0;

        ngx_http_databridge_socket_free_buffers(c, hc);
    }

    c->data = ws;
    c->log->action = "handling WebSocket";

    rev->handler = ngx_http_databridge_socket_readable;
    wev->handler = ngx_http_databridge_socket_writable;

    /* of limit_rate, which is for responses, and of a mirror */

    wev->delayed = 0;
    wev->timedout = 0;

    if (wev->timer_set) {
        ngx_del_timer(wev);
    }

    rev->timedout = 0;

    if (rev->timer_set) {
        ngx_del_timer(rev);
    }

    ngx_http_databridge_link(&ws->owner, &ngx_http_databridge_worker->running);
    ngx_http_databridge_metric_socket(1);

    /* frames may have come with the request, or before the answer */

    ngx_post_event(rev, &ngx_posted_events);
}


/* As ngx_http_set_keepalive() frees them. */

static void
ngx_http_databridge_socket_free_buffers(ngx_connection_t *c,
    ngx_http_connection_t *hc)
{
    if (ngx_pfree(c->pool, c->buffer->start) == NGX_OK) {
        c->buffer->start = NULL;
    }

    ngx_http_databridge_socket_free_chain(c, hc->free);
    ngx_http_databridge_socket_free_chain(c, hc->busy);

    hc->free = NULL;
    hc->busy = NULL;
    hc->nbusy = 0;

#if (NGX_HTTP_SSL)
    if (c->ssl) {
        ngx_ssl_free_buffer(c);
    }
#endif
}


static void
ngx_http_databridge_socket_free_chain(ngx_connection_t *c, ngx_chain_t *cl)
{
    ngx_chain_t  *ln;

    while (cl) {
        ln = cl;
        cl = cl->next;

        ngx_pfree(c->pool, ln->buf->start);
        ngx_free_chain(c->pool, ln);
    }
}


static void
ngx_http_databridge_socket_readable(ngx_event_t *rev)
{
    ngx_connection_t                 *c;
    ngx_http_databridge_websocket_t  *ws;

    c = rev->data;
    ws = c->data;

    ngx_http_databridge_socket_settle(ws,
                 c->close ? NGX_ERROR : ngx_http_databridge_socket_read(ws));
}


ngx_int_t
ngx_http_databridge_socket_read(ngx_http_databridge_websocket_t *ws)
{
    u_char            *p, *unread;
    ssize_t            n;
    ngx_int_t          rc;
    ngx_uint_t         i;
    ngx_event_t       *rev;
    ngx_connection_t  *c;

    /* the worker's only one: nothing of it is needed after a round */

    static u_char  buffer[NGX_HTTP_DATABRIDGE_READ_SIZE];

    c = ws->connection;
    rev = c->read;

    for (i = 0; i < NGX_HTTP_DATABRIDGE_READ_MAX; i++) {

        ws->owner.paused = ws->owner.ahead >= DB_AHEAD_MAX && !ws->closing;

        if (ws->owner.paused || ws->ending) {
            return NGX_OK;
        }

        unread = (u_char *) ws->unread.data;

        if (unread) {
            p = unread;
            n = ws->unread.len;
            ws->unread.data = NULL;

        } else {
            p = buffer;
            n = c->recv(c, buffer, NGX_HTTP_DATABRIDGE_READ_SIZE);
        }

        if (n == NGX_AGAIN) {
            return ngx_handle_read_event(rev, 0);
        }

        if (n == 0 || n == NGX_ERROR) {
            ngx_log_error(NGX_LOG_INFO, c->log, 0, "client closed its "
                          "connection without closing the WebSocket");
            return NGX_ERROR;
        }

        rc = ngx_http_databridge_websocket_frames(ws, p, n);

        if (unread) {
            ngx_free(unread);
        }

        if (rc != NGX_OK) {
            return rc;
        }
    }

    /* others have their turn */

    ngx_post_event(rev, &ngx_posted_next_events);

    return NGX_OK;
}


static void
ngx_http_databridge_socket_writable(ngx_event_t *wev)
{
    ngx_int_t                         rc;
    ngx_connection_t                 *c;
    ngx_http_databridge_websocket_t  *ws;

    c = wev->data;
    ws = c->data;

    if (wev->timedout) {
        ngx_log_error(NGX_LOG_INFO, c->log, NGX_ETIMEDOUT,
                      "client timed out");
        c->timedout = 1;
        rc = NGX_ERROR;

    } else {
        rc = ngx_http_databridge_socket_send(ws);
    }

    ngx_http_databridge_socket_settle(ws, rc);
}


/* As much as the connection takes; the rest when it takes more. */

ngx_int_t
ngx_http_databridge_socket_send(ngx_http_databridge_websocket_t *ws)
{
    off_t              sent;
    ngx_int_t          rc;
    db_part_t         *pong;
    ngx_connection_t  *c;

    c = ws->connection;
    sent = c->sent;

    ngx_http_databridge_unpost_output(&ws->owner);

    rc = ngx_http_databridge_socket_write(ws);

    if (rc == NGX_OK && ws->pong && !ws->closing && !c->buffered) {
        pong = ws->pong;
        ws->pong = NULL;

        ngx_http_databridge_websocket_add(ws, pong);

        rc = ngx_http_databridge_socket_write(ws);
    }

    return rc == NGX_OK ? ngx_http_databridge_socket_watch(ws, sent) : rc;
}


static ngx_int_t
ngx_http_databridge_socket_write(ngx_http_databridge_websocket_t *ws)
{
    ngx_buf_t          bufs[NGX_HTTP_DATABRIDGE_WRITE_MAX];
    ngx_uint_t         n;
    ngx_chain_t        out[NGX_HTTP_DATABRIDGE_WRITE_MAX], *cl;
    ngx_connection_t  *c;

    c = ws->connection;

    if (c->error) {
        return NGX_ERROR;
    }

    while (c->write->ready
           && (ws->out.head || (c->buffered & NGX_LOWLEVEL_BUFFERED)))
    {
        n = ngx_http_databridge_socket_fill(ws, out, bufs);

        cl = c->send_chain(c, n ? out : NULL, 0);

        if (cl == NGX_CHAIN_ERROR) {
            c->error = 1;
            return NGX_ERROR;
        }

        ngx_http_databridge_socket_sent(ws, bufs, n);

        if (cl || (c->buffered & NGX_LOWLEVEL_BUFFERED)) {
            break;
        }
    }

    if (ws->out.head) {
        c->buffered |= NGX_HTTP_WRITE_BUFFERED;

    } else {
        c->buffered &= ~NGX_HTTP_WRITE_BUFFERED;
    }

#if (NGX_HTTP_SSL)
    if (c->ssl && !c->buffered) {
        ngx_ssl_free_buffer(c);
    }
#endif

    return NGX_OK;
}


static ngx_uint_t
ngx_http_databridge_socket_fill(ngx_http_databridge_websocket_t *ws,
    ngx_chain_t *out, ngx_buf_t *bufs)
{
    db_node_t   *node;
    db_part_t   *part;
    ngx_buf_t   *b;
    ngx_uint_t   n;

    node = ws->out.head;

    for (n = 0; node && n < NGX_HTTP_DATABRIDGE_WRITE_MAX; n++) {
        part = (db_part_t *) node;
        node = node->next;
        b = &bufs[n];

        ngx_memzero(b, sizeof(ngx_buf_t));

        b->pos = (u_char *) part->body.data;
        b->last = b->pos + part->body.len;
        b->memory = 1;
        b->flush = 1;

        out[n].buf = b;
        out[n].next = &out[n + 1];
    }

    if (n) {
        out[n - 1].next = NULL;
    }

    return n;
}


/* Frees the parts that are sent, and lets Python send as many. */

static void
ngx_http_databridge_socket_sent(ngx_http_databridge_websocket_t *ws,
    ngx_buf_t *bufs, ngx_uint_t n)
{
    size_t       size;
    db_node_t   *node;
    db_part_t   *part;
    ngx_uint_t   i;

    size = 0;
    node = ws->out.head;

    for (i = 0; i < n; i++) {
        part = (db_part_t *) node;

        if (bufs[i].pos < bufs[i].last) {
            part->body.data = (char *) bufs[i].pos;
            part->body.len = bufs[i].last - bufs[i].pos;
            break;
        }

        node = node->next;
        size += part->credit;

        ngx_http_databridge_free_part(part);
    }

    ws->out.head = node;

    if (node == NULL) {
        db_chain_init(&ws->out);
    }

    ngx_http_databridge_give_back(&ws->owner, size);
}


/* send_timeout counts from when the client has last taken something. */

static ngx_int_t
ngx_http_databridge_socket_watch(ngx_http_databridge_websocket_t *ws,
    off_t sent)
{
    ngx_event_t       *wev;
    ngx_connection_t  *c;

    c = ws->connection;
    wev = c->write;

    if (wev->timer_set && (!c->buffered || c->sent != sent)) {
        ngx_del_timer(wev);
    }

    if (!c->buffered) {
        return NGX_OK;
    }

    if (!wev->timer_set) {
        ngx_add_timer(wev, ws->clcf->send_timeout);
    }

    return ngx_handle_write_event(wev, ws->clcf->send_lowat);
}


/* What every event ends with; the socket may have gone. */

void
ngx_http_databridge_socket_settle(ngx_http_databridge_websocket_t *ws,
    ngx_int_t rc)
{
    ngx_connection_t  *c;

    c = ws->connection;

    if (rc != NGX_OK) {
        c->error = 1;
        ngx_http_databridge_socket_end(ws);
        return;
    }

    if (ws->ending && !c->buffered) {
        ngx_http_databridge_socket_finish(ws);
    }
}


/* All is sent: as ngx_http_finalize_connection() closes a connection. */

static void
ngx_http_databridge_socket_finish(ngx_http_databridge_websocket_t *ws)
{
    ngx_uint_t         mode;
    ngx_connection_t  *c;

    c = ws->connection;
    mode = ws->clcf->lingering_close;

    if (!c->read->eof
        && (mode == NGX_HTTP_LINGERING_ALWAYS
            || (mode == NGX_HTTP_LINGERING_ON
                && (ws->lingering || c->read->ready))))
    {
        ngx_http_databridge_socket_linger(c);
        return;
    }

    ngx_http_databridge_socket_end(ws);
}


/*
 * What the client still sends is read and dropped: a reset might take from it
 * what it has not read yet.
 */

static void
ngx_http_databridge_socket_linger(ngx_connection_t *c)
{
    ngx_event_t                      *rev;
    ngx_http_databridge_websocket_t  *ws;

    ws = c->data;
    rev = c->read;

#if (NGX_HTTP_SSL)
    if (c->ssl) {
        ngx_int_t  rc;

        c->ssl->shutdown_without_free = 1;

        rc = ngx_ssl_shutdown(c);

        if (rc == NGX_ERROR) {
            ngx_http_databridge_socket_end(ws);
            return;
        }

        if (rc == NGX_AGAIN) {
            c->ssl->handler = ngx_http_databridge_socket_linger;
            return;
        }
    }
#endif

    rev->handler = ngx_http_databridge_socket_drain;
    c->write->handler = ngx_http_empty_handler;

    if (ngx_shutdown_socket(c->fd, NGX_WRITE_SHUTDOWN) == -1) {
        ngx_connection_error(c, ngx_socket_errno,
                             ngx_shutdown_socket_n " failed");
        ngx_http_databridge_socket_end(ws);
        return;
    }

    if (ngx_http_databridge_timeout_add(&ws->owner, ws->clcf->lingering_time)
        != NGX_OK)
    {
        ngx_http_databridge_socket_end(ws);
        return;
    }

    c->close = 0;
    ngx_reusable_connection(c, 1);

    ngx_post_event(rev, &ngx_posted_events);
}


static void
ngx_http_databridge_socket_drain(ngx_event_t *rev)
{
    ssize_t                           n;
    u_char                            buffer[NGX_HTTP_LINGERING_BUFFER_SIZE];
    ngx_uint_t                        i;
    ngx_connection_t                 *c;
    ngx_http_databridge_websocket_t  *ws;

    c = rev->data;
    ws = c->data;

    if (rev->timedout || c->close) {
        ngx_http_databridge_socket_end(ws);
        return;
    }

    for (i = 0; i < NGX_HTTP_DATABRIDGE_READ_MAX; i++) {

        n = c->recv(c, buffer, NGX_HTTP_LINGERING_BUFFER_SIZE);

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == 0 || n == NGX_ERROR) {
            ngx_http_databridge_socket_end(ws);
            return;
        }
    }

    if (i == NGX_HTTP_DATABRIDGE_READ_MAX) {
        ngx_post_event(rev, &ngx_posted_next_events);

    } else if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_http_databridge_socket_end(ws);
        return;
    }

    ngx_add_timer(rev, ws->clcf->lingering_timeout);
}


/* Nothing of the socket is left. */

void
ngx_http_databridge_socket_end(ngx_http_databridge_websocket_t *ws)
{
    db_job_t          *job;
    db_node_t         *node, *next;
    ngx_connection_t  *c;

    c = ws->connection;
    job = ws->owner.job;

    /* with a job left, the client has gone */

    if (job) {
        ngx_http_databridge_metric_add(disconnects, 1);
    }

    ngx_http_databridge_let_go(&ws->owner, job ? &job->disconnect : NULL);
    ngx_http_databridge_unlink(&ws->owner);
    ngx_http_databridge_metric_socket(-1);

    for (node = ws->out.head; node; node = next) {
        next = node->next;
        ngx_http_databridge_free_part((db_part_t *) node);
    }

    if (ws->pong) {
        ngx_http_databridge_free_part(ws->pong);
    }

    if (ws->unread.data) {
        ngx_free((char *) ws->unread.data);
    }

    db_frames_free(&ws->frames);

    ngx_http_databridge_socket_reset(ws);

    if (ws->request) {
        ngx_http_free_request(ws->request, 0);
    }

    ngx_free(ws);

#if (NGX_HTTP_SSL)
    if (c->ssl) {
        c->ssl->shutdown_without_free = 0;
    }
#endif

    ngx_http_close_connection(c);
}


/* As ngx_http_free_request() does it for a response. */

static void
ngx_http_databridge_socket_reset(ngx_http_databridge_websocket_t *ws)
{
    struct linger      linger;
    ngx_connection_t  *c;

    c = ws->connection;

    if (!c->timedout || !ws->clcf->reset_timedout_connection) {
        return;
    }

    linger.l_onoff = 1;
    linger.l_linger = 0;

    if (setsockopt(c->fd, SOL_SOCKET, SO_LINGER, (const void *) &linger,
                   sizeof(struct linger))
        == -1)
    {
        ngx_log_error(NGX_LOG_ALERT, c->log, ngx_socket_errno,
                      "setsockopt(SO_LINGER) failed");
    }
}
