/*
 * The owner of a job: what is the same for a request and for a WebSocket.
 *
 * An owner and its job know each other through owner->job and job->owner,
 * until ngx_http_databridge_let_go() parts them.  Whatever an owner's ops
 * do may be the end of it: nothing here looks at it afterwards.
 */

#include "http/ngx_http_databridge.h"


void
ngx_http_databridge_part(db_part_t *part)
{
    db_job_t                      *job;
    ngx_uint_t                     flags;
    ngx_http_databridge_worker_t  *worker;

    worker = ngx_http_databridge_worker;
    flags = part->flags;
    job = part->job;

    if (job->queued && !(flags & DB_PART_HINT)) {
        job->queued = 0;
        worker->queued--;
        db_counter_sub(&worker->meter.row->unanswered, 1);
    }

    ngx_http_databridge_pass_part(job, part);

    if (flags & DB_PART_DONE) {
        worker->jobs--;
        db_job_release(job);
    }
}


void
ngx_http_databridge_pass_part(db_job_t *job, db_part_t *part)
{
    ngx_http_databridge_owner_t  *owner;

    owner = job->owner;

    if (owner == NULL) {
        ngx_http_databridge_free_part(part);
        return;
    }

    owner->ops->part(owner, part);
}


void
ngx_http_databridge_free_part(db_part_t *part)
{
    if (part->object == NULL) {
        db_part_destroy(part);
        return;
    }

    part->msg.kind = DB_MSG_RELEASE;
    ngx_http_databridge_submit(&part->msg.node);
}


/* Python has taken some of what was read, or asks for its beginning. */

void
ngx_http_databridge_taken(db_notice_t *notice)
{
    size_t                        bytes;
    ngx_http_databridge_owner_t  *owner;

    owner = notice->job->owner;
    bytes = db_credit_take(&notice->job->taken);

    if (owner) {
        owner->ahead -= bytes;
        owner->ops->taken(owner);
    }
}


/* So much was sent: Python may send as much again. */

void
ngx_http_databridge_give_back(ngx_http_databridge_owner_t *owner, size_t size)
{
    db_msg_t  *msg;

    owner->sent += size;

    if (owner->sent >= DB_CREDIT_MIN && owner->job) {

        msg = db_credit_give(&owner->job->sent, owner->sent);
        owner->sent = 0;

        if (msg) {
            ngx_http_databridge_submit(&msg->node);
        }
    }
}


/* What else this turn brings goes out with it. */

void
ngx_http_databridge_post_output(ngx_http_databridge_owner_t *owner)
{
    if (!owner->pending) {
        owner->pending = 1;
        ngx_queue_insert_tail(&ngx_http_databridge_worker->outputs,
                              &owner->output);
    }
}


void
ngx_http_databridge_unpost_output(ngx_http_databridge_owner_t *owner)
{
    if (owner->pending) {
        owner->pending = 0;
        ngx_queue_remove(&owner->output);
    }
}


/* The end of a turn: one write for all parts of an owner. */

void
ngx_http_databridge_flush_outputs(ngx_http_databridge_worker_t *worker)
{
    ngx_queue_t                  *q;
    ngx_http_databridge_owner_t  *owner;

    while (!ngx_queue_empty(&worker->outputs)) {
        q = ngx_queue_head(&worker->outputs);
        owner = ngx_queue_data(q, ngx_http_databridge_owner_t, output);

        ngx_http_databridge_unpost_output(owner);
        owner->ops->flush(owner);
    }
}


void
ngx_http_databridge_link(ngx_http_databridge_owner_t *owner,
    ngx_queue_t *queue)
{
    owner->linked = 1;
    ngx_queue_insert_tail(queue, &owner->link);
}


void
ngx_http_databridge_unlink(ngx_http_databridge_owner_t *owner)
{
    if (owner->linked) {
        owner->linked = 0;
        ngx_queue_remove(&owner->link);
    }
}


/* The owner's job ends here; with a notice Python is told so. */

void
ngx_http_databridge_let_go(ngx_http_databridge_owner_t *owner,
    db_notice_t *notice)
{
    db_job_t  *job;

    ngx_http_databridge_timeout_del(owner);
    ngx_http_databridge_unpost_output(owner);

    job = owner->job;

    if (job == NULL) {
        return;
    }

    owner->job = NULL;
    job->owner = NULL;

    if (notice) {
        db_job_retain(job);
        ngx_http_databridge_submit(&notice->msg.node);
    }

    db_job_release(job);
}
