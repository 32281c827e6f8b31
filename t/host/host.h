/*
 * A host of Python without nginx, driven by a test through lines on its
 * standard input; it answers with lines of JSON whose strings are in hex.
 *
 * The main thread plays nginx: it owns jobs and parts as nginx does, and
 * never takes the GIL but in calls.c, to make the callables it hands over.
 */

#ifndef HOST_H
#define HOST_H

#include "python/db_python.h"

#include <pthread.h>
#include <stdint.h>


#define HOST_JOBS  4096


typedef struct {
    db_python_conf_t   conf;
    db_bridge_t        bridge;
    db_chain_t         submit;       /* gathered until commands are done */
    pthread_t          python;
    db_ready_t        *ready;
    db_job_t          *jobs[HOST_JOBS];
    db_msg_t           stop;
    int                stopped;
    int                quiet;        /* parts are counted, not printed */
    uint64_t           done;         /* jobs */
} host_t;


/* host.c: a line of output, from any thread; the hex is malloc'd */
void host_event(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *host_hex(db_str_t str);

/* requests.c */
db_job_t *host_job(host_t *host, char **words);
void host_request(host_t *host, char **words);
void host_submit(host_t *host, db_node_t *node);
void host_notice(host_t *host, unsigned id, db_msg_kind_t kind);
void host_wait(host_t *host);

/* calls.c: "call name module attribute [integer ...]" */
void host_call(host_t *host, char **words);

/* bench.c: "bench count flight app method target [name:value ...]" */
void host_bench(host_t *host, char **words);

#endif /* HOST_H */
