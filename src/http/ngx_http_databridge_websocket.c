/*
 * The messages of a WebSocket: the client's frames become chunks, Python's
 * parts become frames; pings, pongs and closes are answered here.
 *
 * A socket that closes has no job any more: Python has been told, and all
 * that is left is to wait, not for long, for the client's close.  While the
 * socket is open, its timeout is the next ping's or that of its answer.
 */

#include "http/ngx_http_databridge.h"


#define NGX_HTTP_DATABRIDGE_CLOSE_TIME  10000    /* ms, for the client's */


static void ngx_http_databridge_websocket_part(
    ngx_http_databridge_owner_t *owner, db_part_t *part);
static void ngx_http_databridge_websocket_taken(
    ngx_http_databridge_owner_t *owner);
static void ngx_http_databridge_websocket_flush(
    ngx_http_databridge_owner_t *owner);
static void ngx_http_databridge_websocket_expire(
    ngx_http_databridge_owner_t *owner);
static void ngx_http_databridge_websocket_leave(
    ngx_http_databridge_owner_t *owner);
static void ngx_http_databridge_websocket_cut(
    ngx_http_databridge_owner_t *owner);
static void ngx_http_databridge_message(ngx_http_databridge_websocket_t *ws);
static void ngx_http_databridge_heard(ngx_http_databridge_websocket_t *ws);
static ngx_int_t ngx_http_databridge_pong(ngx_http_databridge_websocket_t *ws);
static ngx_int_t ngx_http_databridge_control(
    ngx_http_databridge_websocket_t *ws, ngx_uint_t opcode, db_str_t data);
static db_part_t *ngx_http_databridge_control_part(ngx_uint_t opcode,
    db_str_t data);
static ngx_int_t ngx_http_databridge_add_frame(
    ngx_http_databridge_websocket_t *ws, db_part_t *part);
static ngx_int_t ngx_http_databridge_close(ngx_http_databridge_websocket_t *ws,
    ngx_uint_t code, db_str_t reason);
static ngx_int_t ngx_http_databridge_closing(
    ngx_http_databridge_websocket_t *ws);
static ngx_int_t ngx_http_databridge_fail(ngx_http_databridge_websocket_t *ws,
    ngx_uint_t code, db_str_t reason);


const ngx_http_databridge_ops_t  ngx_http_databridge_websocket_ops = {
    ngx_http_databridge_websocket_part,
    ngx_http_databridge_websocket_taken,
    ngx_http_databridge_websocket_flush,
    ngx_http_databridge_websocket_expire,
    ngx_http_databridge_websocket_leave,
    ngx_http_databridge_websocket_cut
};


void
ngx_http_databridge_websocket_open(ngx_http_databridge_websocket_t *ws)
{
    db_frames_init(&ws->frames, ws->dlcf->websocket_max_size,
                   sizeof(db_chunk_t));

    ngx_http_databridge_socket_settle(ws,
                    ngx_http_databridge_timeout_add(&ws->owner,
                                                    ws->dlcf->websocket_ping));
}


static void
ngx_http_databridge_websocket_part(ngx_http_databridge_owner_t *owner,
    db_part_t *part)
{
    ngx_int_t                         rc;
    ngx_http_databridge_websocket_t  *ws;

    ws = (ngx_http_databridge_websocket_t *) owner;

    switch (part->opcode) {

    case 0:

        /* Python had no memory to end it in order */

        ngx_http_databridge_free_part(part);
        rc = NGX_ERROR;
        break;

    case DB_WS_CLOSE:
        ws->closing = 1;
        rc = ngx_http_databridge_add_frame(ws, part);

        if (rc == NGX_OK) {
            rc = ngx_http_databridge_closing(ws);
        }

        break;

    default:
        rc = ngx_http_databridge_add_frame(ws, part);
        ngx_http_databridge_post_output(owner);
    }

    ngx_http_databridge_socket_settle(ws, rc);
}


/* Python has taken messages. */

static void
ngx_http_databridge_websocket_taken(ngx_http_databridge_owner_t *owner)
{
    ngx_http_databridge_websocket_t  *ws;

    ws = (ngx_http_databridge_websocket_t *) owner;

    if (owner->paused && owner->ahead < DB_AHEAD_MAX) {
        ngx_http_databridge_socket_settle(ws,
                                        ngx_http_databridge_socket_read(ws));
    }
}


static void
ngx_http_databridge_websocket_flush(ngx_http_databridge_owner_t *owner)
{
    ngx_http_databridge_websocket_t  *ws;

    ws = (ngx_http_databridge_websocket_t *) owner;

    ngx_http_databridge_socket_settle(ws, ngx_http_databridge_socket_send(ws));
}


/* Time for a ping, or none is left for its answer or for the close. */

static void
ngx_http_databridge_websocket_expire(ngx_http_databridge_owner_t *owner)
{
    ngx_int_t                         rc;
    ngx_msec_t                        time;
    ngx_http_databridge_websocket_t  *ws;

    ws = (ngx_http_databridge_websocket_t *) owner;

    if (ws->closing) {
        ngx_log_error(NGX_LOG_INFO, ws->connection->log, NGX_ETIMEDOUT,
                      "client did not close its WebSocket");
        rc = NGX_ERROR;

    } else if (ws->pinged && !owner->paused) {
        rc = ngx_http_databridge_fail(ws, DB_CLOSE_INTERNAL,
                                      db_string("keepalive ping timeout"));

    } else {
        ws->pinged = ws->dlcf->websocket_timeout != 0;
        time = ws->pinged ? ws->dlcf->websocket_timeout
                          : ws->dlcf->websocket_ping;

        rc = ngx_http_databridge_timeout_add(owner, time);

        if (rc == NGX_OK) {
            rc = ngx_http_databridge_control(ws, DB_FRAME_PING, db_string(""));
        }
    }

    ngx_http_databridge_socket_settle(ws, rc);
}


/* The worker quits. */

static void
ngx_http_databridge_websocket_leave(ngx_http_databridge_owner_t *owner)
{
    ngx_int_t                         rc;
    ngx_http_databridge_websocket_t  *ws;

    ws = (ngx_http_databridge_websocket_t *) owner;

    if (ws->closing) {
        return;
    }

    rc = ngx_http_databridge_close(ws, DB_CLOSE_RESTART, db_string(""));

    if (rc == NGX_OK) {
        rc = ngx_http_databridge_closing(ws);
    }

    ngx_http_databridge_socket_settle(ws, rc);
}


/* The worker's time is over. */

static void
ngx_http_databridge_websocket_cut(ngx_http_databridge_owner_t *owner)
{
    ngx_http_databridge_let_go(owner,
                               owner->job ? &owner->job->disconnect : NULL);

    ngx_http_databridge_socket_end((ngx_http_databridge_websocket_t *) owner);
}


ngx_int_t
ngx_http_databridge_websocket_frames(ngx_http_databridge_websocket_t *ws,
    u_char *data, size_t len)
{
    db_frames_t        *frames;
    db_frames_event_t   event;

    frames = &ws->frames;

    ngx_http_databridge_heard(ws);

    if (db_frames_feed(frames, (char *) data, len) != DB_OK) {
        return ngx_http_databridge_fail(ws, DB_CLOSE_INTERNAL, db_string(""));
    }

    for ( ;; ) {

        event = db_frames_next(frames);

        switch (event) {

        case DB_FRAMES_MESSAGE:
            ngx_http_databridge_message(ws);
            break;

        case DB_FRAMES_PING:
            if (ngx_http_databridge_pong(ws) != NGX_OK) {
                return NGX_ERROR;
            }

            break;

        case DB_FRAMES_PONG:
            break;

        case DB_FRAMES_CLOSE:
            return ngx_http_databridge_fail(ws, frames->code, frames->data);

        case DB_FRAMES_ERROR:
            ngx_log_error(NGX_LOG_INFO, ws->connection->log, 0,
                          "client sent what closes its WebSocket with %ui",
                          (ngx_uint_t) frames->code);

            ws->lingering = 1;
            return ngx_http_databridge_fail(ws, frames->code, frames->data);

        default:  /* DB_FRAMES_AGAIN */
            return NGX_OK;
        }
    }
}


static void
ngx_http_databridge_message(ngx_http_databridge_websocket_t *ws)
{
    db_chunk_t   *chunk;
    db_frames_t  *frames;

    frames = &ws->frames;

    if (ws->owner.job == NULL) {
        ngx_free(frames->block);
        return;
    }

    chunk = db_chunk_adopt(ws->owner.job, frames->block, frames->data.len);
    chunk->opcode = frames->opcode;

    ws->owner.ahead += db_message_cost(frames->data.len);
    ngx_http_databridge_submit(&chunk->msg.node);
}


static void
ngx_http_databridge_heard(ngx_http_databridge_websocket_t *ws)
{
    if (!ws->pinged || ws->closing) {
        return;
    }

    ws->pinged = 0;

    /* a time that is in use already: nothing is allocated */

    (void) ngx_http_databridge_timeout_add(&ws->owner,
                                           ws->dlcf->websocket_ping);
}


/*
 * While the client does not take what it was sent, only its last ping is
 * remembered: pings cannot fill the memory.
 */

static ngx_int_t
ngx_http_databridge_pong(ngx_http_databridge_websocket_t *ws)
{
    db_part_t  *part;

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

    return ngx_http_databridge_socket_send(ws);
}


/* At once, after what waits to be sent. */

static ngx_int_t
ngx_http_databridge_control(ngx_http_databridge_websocket_t *ws,
    ngx_uint_t opcode, db_str_t data)
{
    db_part_t  *part;

    part = ngx_http_databridge_control_part(opcode, data);
    if (part == NULL) {
        return NGX_ERROR;
    }

    ngx_http_databridge_websocket_add(ws, part);

    return ngx_http_databridge_socket_send(ws);
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


/* A frame whose body lies in the part's block, where its head has room. */

void
ngx_http_databridge_websocket_add(ngx_http_databridge_websocket_t *ws,
    db_part_t *part)
{
    char    *p;
    u_char   head[DB_FRAME_HEAD_MAX];
    size_t   n;

    n = db_frame_head(head, part->opcode, part->body.len);

    p = (char *) part->body.data - n;
    ngx_memcpy(p, head, n);

    part->body.data = p;
    part->body.len += n;

    db_chain_append(&ws->out, &part->msg.node);
}


/* Takes over the part.  A body in a Python object has its head before it. */

static ngx_int_t
ngx_http_databridge_add_frame(ngx_http_databridge_websocket_t *ws,
    db_part_t *part)
{
    char       *p;
    db_part_t  *head;

    if (part->object == NULL) {
        ngx_http_databridge_websocket_add(ws, part);
        return NGX_OK;
    }

    head = db_part_create(NULL, 0, DB_FRAME_HEAD_MAX, &p);
    if (head == NULL) {
        ngx_http_databridge_free_part(part);
        return NGX_ERROR;
    }

    head->body.data = p;
    head->body.len = db_frame_head((u_char *) p, part->opcode,
                                   part->body.len);

    db_chain_append(&ws->out, &head->msg.node);
    db_chain_append(&ws->out, &part->msg.node);

    return NGX_OK;
}


/* Tells Python, and the client, that the socket closes and why. */

static ngx_int_t
ngx_http_databridge_close(ngx_http_databridge_websocket_t *ws, ngx_uint_t code,
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

    if (ws->owner.job) {
        chunk = db_chunk_create(ws->owner.job, close.len);

        if (chunk) {
            p = (char *) chunk->data.data;
            ngx_memcpy(p, data, close.len);

            chunk->opcode = DB_WS_CLOSE;
            ngx_http_databridge_submit(&chunk->msg.node);
        }
    }

    ws->closing = 1;

    if (code == DB_CLOSE_NO_CODE) {
        close.len = 0;
    }

    return ngx_http_databridge_control(ws, DB_FRAME_CLOSE, close);
}


/* The close is on its way: what is left is the client's. */

static ngx_int_t
ngx_http_databridge_closing(ngx_http_databridge_websocket_t *ws)
{
    db_job_t  *job;

    job = ws->owner.job;

    ngx_http_databridge_let_go(&ws->owner, job ? &job->disconnect : NULL);

    if (ws->owner.paused) {
        ngx_post_event(ws->connection->read, &ngx_posted_events);
    }

    if (ngx_http_databridge_timeout_add(&ws->owner,
                                        NGX_HTTP_DATABRIDGE_CLOSE_TIME)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_databridge_socket_send(ws);
}


/* The socket ends here, with a close unless one was sent before. */

static ngx_int_t
ngx_http_databridge_fail(ngx_http_databridge_websocket_t *ws, ngx_uint_t code,
    db_str_t reason)
{
    db_job_t   *job;
    ngx_int_t   rc;

    rc = NGX_OK;

    if (!ws->closing) {
        rc = ngx_http_databridge_close(ws, code, reason);
    }

    job = ws->owner.job;

    ngx_http_databridge_let_go(&ws->owner, job ? &job->disconnect : NULL);

    ws->ending = 1;

    return rc;
}
