/*
 * A job and a part are one block each: the struct, its headers, its bytes.
 * The job's has room for a part, which saves the allocator a block that one
 * thread takes and the other gives back.
 */

#include "bridge/db_job.h"

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>


db_job_t *
db_job_create(unsigned nheaders, size_t size, char **strings)
{
    db_job_t  *job;

    job = malloc(sizeof(db_job_t) + nheaders * sizeof(db_header_t) + size);
    if (job == NULL) {
        return NULL;
    }

    memset(job, 0, offsetof(db_job_t, room));
    atomic_init(&job->refs, 1);

    job->msg.kind = DB_MSG_REQUEST;
    job->disconnect.msg.kind = DB_MSG_DISCONNECT;
    job->disconnect.job = job;
    job->cancel.msg.kind = DB_MSG_CANCEL;
    job->cancel.job = job;
    job->begin.msg.kind = DB_MSG_BEGIN;
    job->begin.job = job;
    job->leave.msg.kind = DB_MSG_LEAVE;
    job->leave.job = job;
    job->sent.notice.msg.kind = DB_MSG_SENT;
    job->sent.notice.job = job;
    job->taken.notice.msg.kind = DB_MSG_TAKEN;
    job->taken.notice.job = job;

    job->nheaders = nheaders;
    job->headers = (db_header_t *) (job + 1);
    job->body_fd = -1;

    *strings = (char *) (job->headers + nheaders);

    return job;
}


void
db_job_retain(db_job_t *job)
{
    atomic_fetch_add_explicit(&job->refs, 1, memory_order_relaxed);
}


void
db_job_release(db_job_t *job)
{
    if (atomic_fetch_sub_explicit(&job->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }

    if (job->body_fd != -1) {
        close(job->body_fd);
    }

    free(job);
}


/*
 * The giver adds and then looks whether the notice is under way; the taker
 * says that it is not and then takes.  So no bytes are left behind.
 */

db_msg_t *
db_credit_give(db_credit_t *credit, size_t bytes)
{
    atomic_fetch_add(&credit->bytes, bytes);

    if (atomic_exchange(&credit->posted, 1)) {
        return NULL;
    }

    db_job_retain(credit->notice.job);

    return &credit->notice.msg;
}


size_t
db_credit_take(db_credit_t *credit)
{
    size_t  bytes;

    atomic_store(&credit->posted, 0);
    bytes = atomic_exchange(&credit->bytes, 0);

    db_job_release(credit->notice.job);

    return bytes;
}


db_chunk_t *
db_chunk_create(db_job_t *job, size_t size)
{
    char  *block;

    block = malloc(sizeof(db_chunk_t) + size);
    if (block == NULL) {
        return NULL;
    }

    return db_chunk_adopt(job, block, size);
}


db_chunk_t *
db_chunk_adopt(db_job_t *job, char *block, size_t size)
{
    db_chunk_t  *chunk;

    chunk = (db_chunk_t *) block;

    memset(chunk, 0, sizeof(db_chunk_t));

    chunk->msg.kind = DB_MSG_CHUNK;
    chunk->job = job;
    chunk->data.data = (char *) (chunk + 1);
    chunk->data.len = size;

    db_job_retain(job);

    return chunk;
}


void
db_chunk_destroy(db_chunk_t *chunk)
{
    db_job_release(chunk->job);
    free(chunk);
}


db_part_t *
db_part_create(db_job_t *job, unsigned nheaders, size_t size, char **strings)
{
    int         lodged;
    db_part_t  *part;

    size += sizeof(db_part_t) + nheaders * sizeof(db_header_t);
    lodged = job && !job->lodging && size <= DB_PART_ROOM;

    part = lodged ? (db_part_t *) job->room : malloc(size);
    if (part == NULL) {
        return NULL;
    }

    memset(part, 0, sizeof(db_part_t));

    if (lodged) {
        db_job_retain(job);
        job->lodging = 1;
        part->lodged = 1;
    }

    part->msg.kind = DB_MSG_PART;
    part->job = job;
    part->nheaders = nheaders;
    part->headers = (db_header_t *) (part + 1);
    part->length = -1;
    part->fd = -1;

    *strings = (char *) (part->headers + nheaders);

    return part;
}


void
db_part_destroy(db_part_t *part)
{
    if (part->fd != -1) {
        close(part->fd);
    }

    if (part->lodged) {
        db_job_release(part->job);
        return;
    }

    free(part);
}
