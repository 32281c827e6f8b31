/*
 * Bodies of native CRUD.  They are read whole, on the nginx thread, and no
 * further than a document may be long: one that says its length is refused
 * before it is read, another is read in parts and refused when there is more.
 *
 * Parts gather in a buffer of the request's pool, which is the first of the
 * request body's and the only one that has our tag.
 */

#include "http/ngx_http_databridge.h"


static ngx_int_t ngx_http_databridge_crud_refuse(ngx_http_request_t *r);
static void ngx_http_databridge_crud_part(ngx_http_request_t *r);
static ssize_t ngx_http_databridge_crud_gather(ngx_http_request_t *r);


ngx_int_t
ngx_http_databridge_crud_read(ngx_http_request_t *r,
    ngx_http_client_body_handler_pt handler)
{
    ngx_int_t  rc;

    if (r->headers_in.content_length_n > DB_CRUD_MAX_DOCUMENT) {

        /* it is not asked for either */

        r->expect_tested = 1;

        return ngx_http_databridge_crud_refuse(r);
    }

    if (r->reading_body) {

        /* another location has had a part of it: this one has none */

        ngx_http_databridge_drop_body(r);
        r->main->count++;
        handler(r);

        return NGX_DONE;
    }

    if (!r->headers_in.chunked || r != r->main || r->request_body
        || r->discard_body)
    {
        rc = ngx_http_read_client_request_body(r, handler);

        return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
    }

    r->request_body_no_buffering = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_request_empty_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    /* nginx itself does not call it without buffering */

    r->request_body->post_handler = handler;

    if (r->reading_body) {
        ngx_http_databridge_crud_part(r);

    } else {
        handler(r);
    }

    return NGX_DONE;
}


/* There is no request behind it. */

static ngx_int_t
ngx_http_databridge_crud_refuse(ngx_http_request_t *r)
{
    r->keepalive = 0;
    r->lingering_close = 1;

    ngx_http_databridge_record_kind(r, NGX_HTTP_DATABRIDGE_NATIVE);

    return ngx_http_databridge_crud_too_large(r);
}


ngx_int_t
ngx_http_databridge_crud_too_large(ngx_http_request_t *r)
{
    return ngx_http_databridge_answer_error(r,
                                          NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                          "Request Entity Too Large",
                                          db_null_string);
}


static void
ngx_http_databridge_crud_part(ngx_http_request_t *r)
{
    ssize_t       n;
    ngx_int_t     rc;
    ngx_event_t  *rev;

    do {
        /* a stream of HTTP/2 that was reset */

        if (r->connection->error) {
            ngx_http_finalize_request(r, NGX_HTTP_CLIENT_CLOSED_REQUEST);
            return;
        }

        rc = ngx_http_read_unbuffered_request_body(r);

        if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
            ngx_http_finalize_request(r, rc);
            return;
        }

        n = ngx_http_databridge_crud_gather(r);

        if (n == NGX_ERROR) {
            ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
            return;
        }

        if (n == NGX_DECLINED) {
            rev = r->connection->read;

            if (rev->timer_set) {
                ngx_del_timer(rev);
            }

            r->read_event_handler = ngx_http_block_reading;

            ngx_http_finalize_request(r, ngx_http_databridge_crud_refuse(r));
            return;
        }

        if (rc == NGX_OK) {
            r->read_event_handler = ngx_http_block_reading;
            r->request_body->post_handler(r);
            return;
        }

    } while (n);

    r->read_event_handler = ngx_http_databridge_crud_part;
}


/*
 * Makes room for more to be read.  The size of what has come, or
 * NGX_DECLINED: all is too large.
 */

static ssize_t
ngx_http_databridge_crud_gather(ngx_http_request_t *r)
{
    off_t                     size, n;
    ngx_buf_t                *b;
    ngx_uint_t                in_file;
    ngx_chain_t              *cl;
    ngx_http_request_body_t  *rb;

    rb = r->request_body;
    size = ngx_http_databridge_body_size(r, &in_file);

    if (size > DB_CRUD_MAX_DOCUMENT) {
        return NGX_DECLINED;
    }

    if (size == 0) {
        ngx_http_databridge_drop_body(r);
        return 0;
    }

    cl = rb->bufs;
    b = cl->buf;

    n = (b->tag == (ngx_buf_tag_t) &ngx_http_databridge_module)
        ? size - ngx_buf_size(b) : size;

    if (n != size && size <= b->end - b->start) {
        rb->bufs = cl->next;

    } else {
        cl = ngx_alloc_chain_link(r->pool);
        if (cl == NULL) {
            return NGX_ERROR;
        }

        b = ngx_create_temp_buf(r->pool, 2 * size);
        if (b == NULL) {
            return NGX_ERROR;
        }

        b->tag = (ngx_buf_tag_t) &ngx_http_databridge_module;
        cl->buf = b;
    }

    b->last = ngx_http_databridge_copy_body(r, b->last);
    ngx_http_databridge_drop_body(r);

    cl->next = NULL;
    rb->bufs = cl;

    return n;
}


ngx_int_t
ngx_http_databridge_crud_body(ngx_http_request_t *r, db_str_t *body)
{
    off_t         size;
    u_char       *p;
    ssize_t       n;
    ngx_buf_t    *b;
    ngx_uint_t    in_file;
    ngx_chain_t  *bufs, *cl;

    *body = db_string("");

    if (r->request_body == NULL || r->request_body->bufs == NULL) {
        return NGX_OK;
    }

    bufs = r->request_body->bufs;
    size = ngx_http_databridge_body_size(r, &in_file);

    if (size > DB_CRUD_MAX_DOCUMENT) {
        return NGX_DECLINED;
    }

    b = bufs->buf;

    if (bufs->next == NULL && !in_file) {
        body->data = (char *) b->pos;
        body->len = b->last - b->pos;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    body->data = (char *) p;
    body->len = size;

    for (cl = bufs; cl; cl = cl->next) {
        b = cl->buf;

        /* the end of a chunked one */

        if (ngx_buf_size(b) == 0) {
            continue;
        }

        if (!b->in_file) {
            p = ngx_cpymem(p, b->pos, b->last - b->pos);
            continue;
        }

        /* at most a megabyte that was written a moment ago */

        n = ngx_read_file(b->file, p, b->file_last - b->file_pos,
                          b->file_pos);

        if (n != b->file_last - b->file_pos) {
            return NGX_ERROR;
        }

        p += n;
    }

    return NGX_OK;
}


