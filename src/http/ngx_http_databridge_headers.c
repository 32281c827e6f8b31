/*
 * The header fields of an application's response, before, in front of and
 * after its body: early hints, headers, trailers.
 */

#include "http/ngx_http_databridge.h"


static ngx_uint_t ngx_http_databridge_takes_trailers(ngx_http_request_t *r);
static ngx_int_t ngx_http_databridge_set_header(ngx_http_request_t *r,
    db_header_t *header);
static ngx_int_t ngx_http_databridge_cache_control(ngx_http_request_t *r,
    ngx_table_elt_t *h);
static void ngx_http_databridge_charset(ngx_http_request_t *r, u_char *p,
    u_char *last);
static ngx_int_t ngx_http_databridge_connection(ngx_http_request_t *r,
    ngx_str_t *value);
static ngx_int_t ngx_http_databridge_drop(ngx_http_request_t *r,
    ngx_str_t *value);


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
    { ngx_string("content-length"), ngx_http_databridge_drop, 0 },
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
    { ngx_string("www-authenticate"), NULL,
      offsetof(ngx_http_headers_out_t, www_authenticate) },
    { ngx_string("accept-ranges"), NULL,
      offsetof(ngx_http_headers_out_t, accept_ranges) },
    { ngx_string("expires"), NULL, offsetof(ngx_http_headers_out_t, expires) },
    { ngx_string("cache-control"), NULL,
      offsetof(ngx_http_headers_out_t, cache_control) },

    { ngx_null_string, NULL, 0 }
};


/* The part must live as long as the request. */

ngx_int_t
ngx_http_databridge_set_headers(ngx_http_request_t *r, db_part_t *part)
{
    ngx_uint_t  i;

    ngx_http_databridge_set_status(r, part->status);

    r->headers_out.content_length_n = part->length;
    r->expect_trailers = (part->flags & DB_PART_TRAILERS)
                         && ngx_http_databridge_takes_trailers(r);

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
        r->headers_out.content_length_n = (part->fd != -1) ? part->file_size
                                              : (off_t) part->body.len;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_databridge_set_header(ngx_http_request_t *r, db_header_t *header)
{
    u_char                        *name;
    ngx_str_t                      value;
    ngx_table_elt_t               *h;
    ngx_http_databridge_header_t  *known;

    name = (u_char *) header->name.data;
    value.data = (u_char *) header->value.data;
    value.len = header->value.len;

    /* nearly all applications write them in lower case */

    for (known = ngx_http_databridge_headers; known->name.len; known++) {
        if (known->name.len == header->name.len
            && (ngx_memcmp(known->name.data, name, known->name.len) == 0
                || ngx_strncasecmp(known->name.data, name, known->name.len)
                   == 0))
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

    if (known->offset == offsetof(ngx_http_headers_out_t, cache_control)) {
        return ngx_http_databridge_cache_control(r, h);
    }

    if (known->name.len) {
        *(ngx_table_elt_t **) ((u_char *) &r->headers_out + known->offset)
            = h;
    }

    return NGX_OK;
}


/* There may be several. */

static ngx_int_t
ngx_http_databridge_cache_control(ngx_http_request_t *r, ngx_table_elt_t *h)
{
#if (nginx_version >= 1023000)

    ngx_table_elt_t  **last;

    last = &r->headers_out.cache_control;

    while (*last) {
        last = &(*last)->next;
    }

    *last = h;

#else

    ngx_array_t       *lines;
    ngx_table_elt_t  **line;

    lines = &r->headers_out.cache_control;

    if (lines->elts == NULL
        && ngx_array_init(lines, r->pool, 1, sizeof(ngx_table_elt_t *))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    line = ngx_array_push(lines);
    if (line == NULL) {
        return NGX_ERROR;
    }

    *line = h;

#endif

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


ngx_int_t
ngx_http_databridge_content_type(ngx_http_request_t *r, ngx_str_t *value)
{
    u_char  *p, *last;

    if (r->headers_out.status == NGX_HTTP_NO_CONTENT) {

        /* nginx's own would not be sent */

        return ngx_http_databridge_add_header(r, db_string("Content-Type"),
                                              ngx_http_databridge_str(*value))
               ? NGX_OK : NGX_ERROR;
    }

    r->headers_out.content_type = *value;
    r->headers_out.content_type_len = value->len;
    r->headers_out.content_type_lowcase = NULL;

    /* filters look at the type without its parameters */

    last = value->data + value->len;
    p = ngx_strlchr(value->data, last, ';');

    if (p) {
        ngx_http_databridge_charset(r, p, last);

        while (p > value->data && p[-1] == ' ') {
            p--;
        }

        r->headers_out.content_type_len = p - value->data;
    }

    return NGX_OK;
}


/* For nginx's "charset", which leaves alone what says its own. */

static void
ngx_http_databridge_charset(ngx_http_request_t *r, u_char *p, u_char *last)
{
    p = ngx_strlcasestrn(p, last, (u_char *) "charset=", 8 - 1);
    if (p == NULL) {
        return;
    }

    p += 8;

    if (last - p > 1 && p[0] == '"' && last[-1] == '"') {
        p++;
        last--;
    }

    r->headers_out.charset.data = p;
    r->headers_out.charset.len = last - p;
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
    /* framing is nginx's, by the part's own length */

    return NGX_OK;
}


/* RFC 9110, 6.5.1: over HTTP/1.1 those who say "TE: trailers". */

static ngx_uint_t
ngx_http_databridge_takes_trailers(ngx_http_request_t *r)
{
    ngx_table_elt_t  *te;

    te = r->headers_in.te;

    return r->http_version >= NGX_HTTP_VERSION_20
           || (te && ngx_strcasestrn(te->value.data, "trailers", 8 - 1));
}


/* The part is freed before they are sent. */

ngx_int_t
ngx_http_databridge_add_trailers(ngx_http_request_t *r, db_part_t *part)
{
    u_char           *p;
    ngx_uint_t        i;
    db_header_t      *header;
    ngx_table_elt_t  *h;

    if (!r->expect_trailers) {
        return NGX_OK;
    }

    for (i = 0; i < part->nheaders; i++) {

        header = &part->headers[i];

        h = ngx_list_push(&r->headers_out.trailers);
        if (h == NULL) {
            return NGX_ERROR;
        }

        p = ngx_pnalloc(r->pool, header->name.len + header->value.len);
        if (p == NULL) {
            return NGX_ERROR;
        }

        h->hash = 1;
        h->key.data = p;
        h->key.len = header->name.len;

        p = ngx_cpymem(p, header->name.data, header->name.len);

        h->value.data = p;
        h->value.len = header->value.len;

        ngx_memcpy(p, header->value.data, header->value.len);

#if (nginx_version >= 1023000)
        h->next = NULL;
#endif
    }

    return NGX_OK;
}


/* RFC 8297; what nginx has for it comes with 1.29. */

ngx_int_t
ngx_http_databridge_send_hint(ngx_http_request_t *r, db_part_t *part)
{
    size_t        len;
    ngx_buf_t    *b;
    ngx_uint_t    i;
    ngx_chain_t   out;
    db_header_t  *header;

    static ngx_str_t  line = ngx_string("HTTP/1.1 103 Early Hints" CRLF);

    if (r->header_sent) {
        return NGX_OK;
    }

    len = line.len + sizeof(CRLF) - 1;

    for (i = 0; i < part->nheaders; i++) {
        header = &part->headers[i];
        len += header->name.len + sizeof(": " CRLF) - 1 + header->value.len;
    }

    b = ngx_create_temp_buf(r->pool, len);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->last = ngx_cpymem(b->last, line.data, line.len);

    for (i = 0; i < part->nheaders; i++) {
        header = &part->headers[i];

        b->last = ngx_cpymem(b->last, header->name.data, header->name.len);
        *b->last++ = ':'; *b->last++ = ' ';
        b->last = ngx_cpymem(b->last, header->value.data, header->value.len);
        *b->last++ = CR; *b->last++ = LF;
    }

    *b->last++ = CR; *b->last++ = LF;

    b->flush = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_write_filter(r, &out);
}
