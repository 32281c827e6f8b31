/*
 * Time limits of jobs' owners.  A few distinct values serve very many of them,
 * so each value has a FIFO, whose head is the next to expire, and one timer
 * for that head.  The timer is left armed when the head goes, and does
 * nothing when it then fires early: adding and removing an owner is O(1).
 */

#include "http/ngx_http_databridge.h"


static ngx_http_databridge_timeout_t *ngx_http_databridge_timeout_get(
    ngx_msec_t value);
static void ngx_http_databridge_timeout_handler(ngx_event_t *ev);


ngx_int_t
ngx_http_databridge_timeout_add(ngx_http_databridge_owner_t *owner,
    ngx_msec_t value)
{
    ngx_http_databridge_timeout_t  *timeout;

    if (owner->timeout) {
        ngx_http_databridge_timeout_del(owner);
    }

    if (value == 0) {
        return NGX_OK;
    }

    timeout = ngx_http_databridge_timeout_get(value);
    if (timeout == NULL) {
        return NGX_ERROR;
    }

    owner->timeout = timeout;
    owner->expires = ngx_current_msec + value;
    ngx_queue_insert_tail(&timeout->owners, &owner->queue);

    if (!timeout->event.timer_set) {
        ngx_add_timer(&timeout->event, value);
    }

    return NGX_OK;
}


void
ngx_http_databridge_timeout_del(ngx_http_databridge_owner_t *owner)
{
    if (owner->timeout) {
        ngx_queue_remove(&owner->queue);
        owner->timeout = NULL;
    }
}


static ngx_http_databridge_timeout_t *
ngx_http_databridge_timeout_get(ngx_msec_t value)
{
    ngx_uint_t                       i;
    ngx_array_t                     *timeouts;
    ngx_http_databridge_timeout_t   *timeout, **slot;

    timeouts = &ngx_http_databridge_worker->timeouts;
    slot = timeouts->elts;

    for (i = 0; i < timeouts->nelts; i++) {
        if (slot[i]->value == value) {
            return slot[i];
        }
    }

    slot = ngx_array_push(timeouts);
    if (slot == NULL) {
        return NULL;
    }

    timeout = ngx_pcalloc(timeouts->pool,
                          sizeof(ngx_http_databridge_timeout_t));
    if (timeout == NULL) {
        timeouts->nelts--;
        return NULL;
    }

    timeout->value = value;
    timeout->event.handler = ngx_http_databridge_timeout_handler;
    timeout->event.data = timeout;
    timeout->event.log = ngx_cycle->log;

    /* a worker that exits is held by its owners, not by this */

    timeout->event.cancelable = 1;

    ngx_queue_init(&timeout->owners);
    *slot = timeout;

    return timeout;
}


static void
ngx_http_databridge_timeout_handler(ngx_event_t *ev)
{
    ngx_queue_t                    *q;
    ngx_msec_int_t                  left;
    ngx_http_databridge_owner_t    *owner;
    ngx_http_databridge_timeout_t  *timeout;

    timeout = ev->data;

    while (!ngx_queue_empty(&timeout->owners)) {

        q = ngx_queue_head(&timeout->owners);
        owner = ngx_queue_data(q, ngx_http_databridge_owner_t, queue);

        left = (ngx_msec_int_t) (owner->expires - ngx_current_msec);

        if (left > 0) {
            ngx_add_timer(ev, left);
            return;
        }

        owner->ops->expire(owner);
    }
}
