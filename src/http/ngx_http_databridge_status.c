/*
 * Reason phrases as Python's http.HTTPStatus has them, which is what
 * applications send elsewhere, where nginx has others or none: it leaves the
 * status line of a 422 empty after the number.
 */

#include "http/ngx_http_databridge.h"


typedef struct {
    ngx_uint_t   status;
    ngx_str_t    line;
} ngx_http_databridge_status_t;


/* In the order of their numbers. */

static ngx_http_databridge_status_t  ngx_http_databridge_statuses[] = {
    { 203, ngx_string("203 Non-Authoritative Information") },
    { 205, ngx_string("205 Reset Content") },
    { 207, ngx_string("207 Multi-Status") },
    { 208, ngx_string("208 Already Reported") },
    { 226, ngx_string("226 IM Used") },
    { 300, ngx_string("300 Multiple Choices") },
    { 302, ngx_string("302 Found") },
    { 305, ngx_string("305 Use Proxy") },
    { 405, ngx_string("405 Method Not Allowed") },
    { 407, ngx_string("407 Proxy Authentication Required") },
    { 408, ngx_string("408 Request Timeout") },
    { 414, ngx_string("414 Request-URI Too Long") },
    { 417, ngx_string("417 Expectation Failed") },
    { 418, ngx_string("418 I'm a Teapot") },
    { 422, ngx_string("422 Unprocessable Entity") },
    { 423, ngx_string("423 Locked") },
    { 424, ngx_string("424 Failed Dependency") },
    { 425, ngx_string("425 Too Early") },
    { 426, ngx_string("426 Upgrade Required") },
    { 428, ngx_string("428 Precondition Required") },
    { 431, ngx_string("431 Request Header Fields Too Large") },
    { 451, ngx_string("451 Unavailable For Legal Reasons") },
    { 503, ngx_string("503 Service Unavailable") },
    { 504, ngx_string("504 Gateway Timeout") },
    { 506, ngx_string("506 Variant Also Negotiates") },
    { 508, ngx_string("508 Loop Detected") },
    { 510, ngx_string("510 Not Extended") },
    { 511, ngx_string("511 Network Authentication Required") },
    { 0, ngx_null_string }
};


void
ngx_http_databridge_set_status(ngx_http_request_t *r, ngx_uint_t status)
{
    ngx_http_databridge_status_t  *known;

    r->headers_out.status = status;

    for (known = ngx_http_databridge_statuses;
         known->status && known->status <= status;
         known++)
    {
        if (known->status == status) {
            r->headers_out.status_line = known->line;
            return;
        }
    }
}
