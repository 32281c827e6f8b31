/*
 * A job and a part are one block each: the struct, its headers, its bytes.
 */

#include "bridge/db_job.h"

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

    memset(job, 0, sizeof(db_job_t));
    atomic_init(&job->refs, 1);

    job->msg.kind = DB_MSG_REQUEST;
    job->disconnect.msg.kind = DB_MSG_DISCONNECT;
    job->disconnect.job = job;
    job->cancel.msg.kind = DB_MSG_CANCEL;
    job->cancel.job = job;

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


db_part_t *
db_part_create(db_job_t *job, unsigned nheaders, size_t size, char **strings)
{
    db_part_t  *part;

    part = malloc(sizeof(db_part_t) + nheaders * sizeof(db_header_t) + size);
    if (part == NULL) {
        return NULL;
    }

    memset(part, 0, sizeof(db_part_t));

    part->msg.kind = DB_MSG_PART;
    part->job = job;
    part->nheaders = nheaders;
    part->headers = (db_header_t *) (part + 1);

    *strings = (char *) (part->headers + nheaders);

    return part;
}


void
db_part_destroy(db_part_t *part)
{
    free(part);
}
