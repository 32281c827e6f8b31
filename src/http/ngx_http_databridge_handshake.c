/*
 * The handshake of a WebSocket, RFC 6455 4.2: recognised before the request
 * goes to Python, and answered when the application has accepted it.
 *
 * Once the answer is sent, the request has ended and its connection is the
 * WebSocket's.  That is done by the connection's own event, as nothing that
 * runs for a request expects it to be freed but by nginx; what Python sends
 * until then is kept in ctx->early.
 */

#include "http/ngx_http_databridge.h"

#include <ngx_sha1.h>


#define NGX_HTTP_DATABRIDGE_KEY_LEN     24
#define NGX_HTTP_DATABRIDGE_ACCEPT_LEN  28
#define NGX_HTTP_DATABRIDGE_STEP        50      /* ms between looks */


static ngx_uint_t ngx_http_databridge_upgrades(ngx_http_request_t *r);
static ngx_uint_t ngx_http_databridge_has_token(ngx_str_t *value,
    db_str_t token);
static ngx_table_elt_t *ngx_http_databridge_only_header(ngx_http_request_t *r,
    db_str_t name);
static ngx_uint_t ngx_http_databridge_key_ok(ngx_str_t *key);
static ngx_int_t ngx_http_databridge_refuse(ngx_http_request_t *r,
    ngx_int_t status, db_str_t name, db_str_t value);
static ngx_int_t ngx_http_databridge_accept(ngx_http_request_t *r);
static void ngx_http_databridge_take_over(ngx_event_t *rev);
static void ngx_http_databridge_become(ngx_http_databridge_ctx_t *ctx,
    ngx_http_databridge_websocket_t *ws);


/* NGX_OK, with ctx->websocket when it is a handshake, or a status. */

ngx_int_t
ngx_http_databridge_handshake(ngx_http_databridge_ctx_t *ctx)
{
    ngx_table_elt_t     *h;
    ngx_http_request_t  *r;

    r = ctx->request;

    if (r != r->main || r->http_version != NGX_HTTP_VERSION_11
        || r->headers_in.upgrade == NULL || !ngx_http_databridge_upgrades(r))
    {
        return NGX_OK;
    }

    if (r->method != NGX_HTTP_GET) {
        return ngx_http_databridge_refuse(r, NGX_HTTP_NOT_ALLOWED,
                                          db_string("Allow"),
                                          db_string("GET"));
    }

    h = ngx_http_databridge_only_header(r, db_string("sec-websocket-version"));

    if (h == NULL || !db_str_eq(ngx_http_databridge_str(h->value),
                                db_string("13")))
    {
        return ngx_http_databridge_refuse(r, 426,
                                          db_string("Sec-WebSocket-Version"),
                                          db_string("13"));
    }

    h = ngx_http_databridge_only_header(r, db_string("sec-websocket-key"));

    if (h == NULL || !ngx_http_databridge_key_ok(&h->value)
        || r->headers_in.content_length_n > 0 || r->headers_in.chunked)
    {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "client sent an invalid WebSocket handshake");
        return NGX_HTTP_BAD_REQUEST;
    }

    if (ngx_http_databridge_worker->exiting) {
        return ngx_http_databridge_unavailable(r);
    }

    ctx->websocket = 1;

    return NGX_OK;
}


static ngx_uint_t
ngx_http_databridge_upgrades(ngx_http_request_t *r)
{
    ngx_str_t        *upgrade;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    upgrade = &r->headers_in.upgrade->value;

    if (upgrade->len != sizeof("websocket") - 1
        || ngx_strncasecmp(upgrade->data, (u_char *) "websocket",
                           upgrade->len)
           != 0)
    {
        return 0;
    }

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].key.len == sizeof("connection") - 1
                && ngx_strncmp(h[i].lowcase_key, "connection",
                               sizeof("connection") - 1)
                   == 0
                && ngx_http_databridge_has_token(&h[i].value,
                                                 db_string("upgrade")))
            {
                return 1;
            }
        }
    }

    return 0;
}


/* Whether a list separated by commas holds the token, in any case. */

static ngx_uint_t
ngx_http_databridge_has_token(ngx_str_t *value, db_str_t token)
{
    db_str_t  list, element;

    list = ngx_http_databridge_str(*value);

    while (db_str_element(&list, &element)) {

        if (element.len == token.len
            && ngx_strncasecmp((u_char *) element.data,
                               (u_char *) token.data, token.len)
               == 0)
        {
            return 1;
        }
    }

    return 0;
}


/* NULL when it is missing, or there twice. */

static ngx_table_elt_t *
ngx_http_databridge_only_header(ngx_http_request_t *r, db_str_t name)
{
    ngx_uint_t        n;
    ngx_table_elt_t  *h;

    h = ngx_http_databridge_find_header(&r->headers_in.headers, name, &n);

    return n == 1 ? h : NULL;
}


static ngx_uint_t
ngx_http_databridge_key_ok(ngx_str_t *key)
{
    u_char     buf[ngx_base64_decoded_length(NGX_HTTP_DATABRIDGE_KEY_LEN)];
    ngx_str_t  decoded;

    if (key->len != NGX_HTTP_DATABRIDGE_KEY_LEN) {
        return 0;
    }

    decoded.data = buf;

    return ngx_decode_base64(&decoded, key) == NGX_OK && decoded.len == 16;
}


static ngx_int_t
ngx_http_databridge_refuse(ngx_http_request_t *r, ngx_int_t status,
    db_str_t name, db_str_t value)
{
    if (ngx_http_databridge_add_header(r, name, value) == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return status;
}


/* The application has answered: it accepts with 101, or denies. */

ngx_int_t
ngx_http_databridge_upgrade(ngx_http_databridge_ctx_t *ctx)
{
    ngx_connection_t          *c;
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = ctx->request;
    c = r->connection;

    /* what follows the request is no request either way */

    r->keepalive = 0;

    if (r->headers_out.status != NGX_HTTP_SWITCHING_PROTOCOLS) {
        r->lingering_close = 1;
        ctx->websocket = 0;
        return NGX_OK;
    }

    r->headers_out.content_length_n = -1;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (clcf->tcp_nodelay && ngx_tcp_nodelay(c) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_databridge_accept(r);
}


static ngx_int_t
ngx_http_databridge_accept(ngx_http_request_t *r)
{
    u_char            digest[20];
    ngx_str_t         hash, accept;
    ngx_sha1_t        sha1;
    ngx_table_elt_t  *h;

    static ngx_str_t  guid = ngx_string("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");

    h = ngx_http_databridge_only_header(r, db_string("sec-websocket-key"));

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, h->value.data, h->value.len);
    ngx_sha1_update(&sha1, guid.data, guid.len);
    ngx_sha1_final(digest, &sha1);

    hash.data = digest;
    hash.len = sizeof(digest);

    accept.data = ngx_pnalloc(r->pool, NGX_HTTP_DATABRIDGE_ACCEPT_LEN);
    if (accept.data == NULL) {
        return NGX_ERROR;
    }

    ngx_encode_base64(&accept, &hash);

    if (ngx_http_databridge_add_header(r, db_string("Upgrade"),
                                       db_string("websocket"))
        == NULL
        || ngx_http_databridge_add_header(r,
                                          db_string("Sec-WebSocket-Accept"),
                                          ngx_http_databridge_str(accept))
           == NULL)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* A part of one that is accepted: the first of them is the header's. */

ngx_int_t
ngx_http_databridge_accepted(ngx_http_databridge_ctx_t *ctx, db_part_t *part)
{
    ngx_buf_t           *b;
    ngx_chain_t          out;
    ngx_http_request_t  *r;

    r = ctx->request;

    if (!(part->flags & DB_PART_START)) {
        db_chain_append(&ctx->early, &part->msg.node);
        return NGX_OK;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->flush = 1;

    out.buf = b;
    out.next = NULL;

    /* past the filters of bodies, of which SSI's would keep it */

    if (ngx_http_write_filter(r, &out) == NGX_ERROR
        || ngx_http_databridge_watch_output(r) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_databridge_switch(r);

    return NGX_OK;
}


/* The header may have been sent. */

void
ngx_http_databridge_switch(ngx_http_request_t *r)
{
    ngx_connection_t  *c;

    c = r->connection;

    if (r->out || r->buffered || c->buffered) {
        return;
    }

    r->write_event_handler = ngx_http_request_empty_handler;

    c->read->handler = ngx_http_databridge_take_over;
    ngx_post_event(c->read, &ngx_posted_events);
}


static void
ngx_http_databridge_take_over(ngx_event_t *rev)
{
    ngx_connection_t                 *c;
    ngx_http_request_t               *r;
    ngx_http_databridge_websocket_t  *ws;

    c = rev->data;
    r = c->data;

    ngx_http_set_log_request(c->log, r);

    /* a mirror's subrequest needs the request until it has its answer */

    if (!c->close && (r->count != 1 || r->blocked)) {
        ngx_add_timer(rev, NGX_HTTP_DATABRIDGE_STEP);
        return;
    }

    ws = c->close ? NULL : ngx_http_databridge_socket_create(r);

    if (ws == NULL) {
        ngx_http_finalize_request(r, NGX_ERROR);
        ngx_http_run_posted_requests(c);
        return;
    }

    ngx_http_databridge_become(ngx_http_get_module_ctx(r,
                                                 ngx_http_databridge_module),
                               ws);
}


/* The request's job goes to the socket, and the request is freed. */

static void
ngx_http_databridge_become(ngx_http_databridge_ctx_t *ctx,
    ngx_http_databridge_websocket_t *ws)
{
    db_job_t   *job;
    db_node_t  *node, *next;

    job = ctx->owner.job;
    node = ctx->early.head;

    db_job_retain(job);
    db_chain_init(&ctx->early);

    ngx_http_databridge_record_job(ctx->request, job);
    ngx_http_databridge_unlink(&ctx->owner);

    ctx->owner.job = NULL;
    ws->owner.job = job;
    ws->owner.sent = ctx->owner.sent;
    job->owner = &ws->owner;

    ngx_http_databridge_socket_start(ws, ctx->request);
    ngx_http_databridge_websocket_open(ws);

    /* each of them may be the socket's end */

    for ( /* void */ ; node; node = next) {
        next = node->next;
        ngx_http_databridge_pass_part(job, (db_part_t *) node);
    }

    /* the turn that has brought them is over */

    ngx_http_databridge_flush_outputs(ngx_http_databridge_worker);

    if (ngx_http_databridge_worker->exiting && job->owner) {
        ws->owner.ops->leave(&ws->owner);
    }

    db_job_release(job);
}


void
ngx_http_databridge_drop_early(ngx_http_databridge_ctx_t *ctx)
{
    db_node_t  *node, *next;

    for (node = ctx->early.head; node; node = next) {
        next = node->next;
        ngx_http_databridge_free_part((db_part_t *) node);
    }

    db_chain_init(&ctx->early);
}
