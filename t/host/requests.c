/*
 * Jobs and parts as the nginx thread handles them.
 */

#include "host.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>


static char *
host_unhex(char *to, const char *hex, db_str_t *str)
{
    char      *start;
    unsigned   byte;

    for (start = to; sscanf(hex, "%2x", &byte) == 1; hex += 2) {
        *to++ = byte;
    }

    str->data = start;
    str->len = to - start;

    return to;
}


static void
host_job_file(db_job_t *job, const char *path)
{
    job->body_fd = open(path, O_RDONLY|O_CLOEXEC);
    job->body_size = (job->body_fd == -1) ? -1
                                          : lseek(job->body_fd, 0, SEEK_END);

    if (job->body_size == -1) {
        perror(path);
        exit(2);
    }
}


/*
 * id app method target query body [name:value ...]: body and headers in hex,
 * "-" for an empty query or body, "@path" for a body in a file.
 */

db_job_t *
host_job(host_t *host, char **words)
{
    char      *p, *colon;
    size_t     size;
    unsigned   i, n;
    db_job_t  *job;

    size = 0;

    for (n = 0; words[n]; n++) {
        size += strlen(words[n]) + 1;
    }

    job = db_job_create(n - 6, size, &p);
    if (job == NULL) {
        abort();
    }

    job->submitted_at = db_clock_now();
    job->app = atoi(words[1]);
    job->http_version = 11;
    job->client = db_string("203.0.113.9");
    job->client_port = 50123;
    job->server = db_string("192.0.2.1");
    job->server_port = 80;

    job->method.len = strlen(words[2]);
    job->method.data = memcpy(p, words[2], job->method.len);
    p += job->method.len;

    job->target.len = strlen(words[3]);
    job->target.data = memcpy(p, words[3], job->target.len);
    p += job->target.len;

    if (words[4][0] != '-') {
        job->query.len = strlen(words[4]);
        job->query.data = memcpy(p, words[4], job->query.len);
        p += job->query.len;
    }

    if (words[5][0] == '@') {
        host_job_file(job, words[5] + 1);

    } else if (words[5][0] != '-') {
        p = host_unhex(p, words[5], &job->body);
        job->body_size = job->body.len;
    }

    for (i = 0; words[i + 6]; i++) {
        colon = strchr(words[i + 6], ':');
        *colon = '\0';
        p = host_unhex(p, words[i + 6], &job->headers[i].name);
        *colon = ':';
        p = host_unhex(p, colon + 1, &job->headers[i].value);
    }

    return job;
}


void
host_submit(host_t *host, db_node_t *node)
{
    db_chain_append(&host->submit, node);
}


void
host_request(host_t *host, char **words)
{
    unsigned   id;
    db_job_t  *job;

    id = atoi(words[0]);
    job = host_job(host, words);
    job->owner = (void *) (uintptr_t) id;

    db_job_retain(job);          /* Python's */

    host->jobs[id] = job;
    host_submit(host, &job->msg.node);
}


void
host_notice(host_t *host, unsigned id, db_msg_kind_t kind)
{
    db_job_t     *job;
    db_notice_t  *notice;

    job = host->jobs[id];

    if (job == NULL) {
        return;
    }

    db_job_retain(job);

    notice = (kind == DB_MSG_CANCEL) ? &job->cancel : &job->disconnect;
    host_submit(host, &notice->msg.node);
}


static void
host_part_print(db_part_t *part, unsigned id)
{
    char      *body, *headers, *name, *value;
    size_t     len;
    FILE      *stream;
    unsigned   i;

    stream = open_memstream(&headers, &len);
    if (stream == NULL) {
        abort();
    }

    for (i = 0; i < part->nheaders; i++) {
        name = host_hex(part->headers[i].name);
        value = host_hex(part->headers[i].value);
        (void) fprintf(stream, "%s[\"%s\", \"%s\"]", i ? ", " : "", name,
                       value);
        free(name);
        free(value);
    }

    (void) fclose(stream);
    body = host_hex(part->body);

    host_event("{\"event\": \"part\", \"id\": %u, \"flags\": %u, "
               "\"status\": %u, \"object\": %s, \"headers\": [%s], "
               "\"body\": \"%s\"}",
               id, part->flags, part->status, part->object ? "true" : "false",
               headers, body);

    free(headers);
    free(body);
}


static void
host_part(host_t *host, db_part_t *part)
{
    unsigned   id;
    db_job_t  *job;

    job = part->job;
    id = (unsigned) (uintptr_t) job->owner;

    if (!host->quiet) {
        host_part_print(part, id);
    }

    if (part->flags & DB_PART_DONE) {
        host->done++;

        if (host->jobs[id] == job) {
            host->jobs[id] = NULL;
        }

        db_job_release(job);     /* Python's */
        db_job_release(job);     /* ours */
    }

    if (part->object) {
        part->msg.kind = DB_MSG_RELEASE;
        host_submit(host, &part->msg.node);

    } else {
        db_part_destroy(part);
    }
}


static void
host_ready(host_t *host, db_ready_t *ready)
{
    char      *error;
    unsigned   i;

    host->ready = ready;

    for (i = 0; i < ready->ntables; i++) {

        if (ready->tables[i]->error == NULL) {
            host_event("{\"event\": \"app\", \"routes\": %u}",
                       ready->tables[i]->nroutes);
            continue;
        }

        error = host_hex((db_str_t) { ready->tables[i]->error,
                                      strlen(ready->tables[i]->error) });
        host_event("{\"event\": \"app\", \"error\": \"%s\"}", error);
        free(error);
    }

    host_event("{\"event\": \"ready\"}");
}


/* The eventfd is never read by nginx; here it is, to poll() in peace. */

void
host_wait(host_t *host)
{
    uint64_t    count;
    db_msg_t   *msg, *next;

    if (read(host->bridge.nginx_fd, &count, sizeof(count)) == -1) {
        return;
    }

    for (msg = db_bridge_results(&host->bridge); msg; msg = next) {
        next = (db_msg_t *) msg->node.next;

        switch (msg->kind) {

        case DB_MSG_PART:
            host_part(host, (db_part_t *) msg);
            break;

        case DB_MSG_READY:
            host_ready(host, (db_ready_t *) msg);
            break;

        case DB_MSG_STOPPED:
            host->stopped = 1;
            host_event("{\"event\": \"stopped\"}");
            break;

        default:
            abort();
        }
    }

    db_bridge_submit(&host->bridge, &host->submit);
}
