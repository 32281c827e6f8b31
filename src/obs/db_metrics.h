/*
 * The zone of shared memory in which all workers, old and new, count.
 *
 * It holds rows and slots.  A row is a worker's: gauges, which count only
 * while that worker lives, and counters, which stay when it is gone and go
 * on under the next owner.  A slot is a route's: requests by status and
 * their durations, split into a few shards so that workers on other cores
 * do not fight for a cache line.
 *
 * Everything that is counted is a relaxed atomic, written without a lock: a
 * row's member by the one thread of its owner that it is said to belong to,
 * a slot's by any worker.  Rows and slots are given out under the zone's
 * lock, which is the caller's; the order of the writes is such that a process
 * killed in the middle leaves a row or a slot that is simply still free.
 */

#ifndef DB_METRICS_H
#define DB_METRICS_H

#include "core/db_str.h"
#include "obs/db_histogram.h"

#include <sys/types.h>


/* The layout's number stands in the zone's name: another layout, a new zone. */

#define DB_METRICS_LAYOUT   1
#define DB_METRICS_ZONE     "databridge_metrics_v1"

#define DB_METRICS_STATUSES  40
#define DB_METRICS_SHARDS    4       /* at most */

/* Longer names are cut off. */

#define DB_METRICS_APP       64
#define DB_METRICS_METHOD    8
#define DB_METRICS_ROUTE     176


typedef enum {
    DB_METRICS_READ,
    DB_METRICS_WRITE,
    DB_METRICS_OPERATIONS
} db_metrics_operation_t;


typedef struct {
    db_counter_t    pid;             /* 0: free */

    /* gauges: the nginx thread's */
    db_counter_t    in_flight;
    db_counter_t    submitted;       /* to Python */
    db_counter_t    unanswered;      /* of these */
    db_counter_t    sockets;         /* WebSockets open */

    /* the loop thread's */
    db_counter_t    taken;           /* of those submitted */
    db_counter_t    turn;            /* when the loop's turn began; 0: none */
    db_counter_t    threads;         /* that "def" handlers may have */
    db_counter_t    threads_busy;
    db_counter_t    threads_waiting; /* calls for want of a thread */

    /* counters: under the lock */
    db_counter_t    starts;
    db_counter_t    crashes;         /* owners that were gone unannounced */

    /* the nginx thread's */
    db_counter_t    timeouts;
    db_counter_t    disconnects;
    db_counter_t    rejected;        /* by databridge_queue */
    db_counter_t    sockets_opened;
    db_histogram_t  store[DB_METRICS_OPERATIONS];

    /* the loop thread's */
    db_histogram_t  queue_wait;
    db_histogram_t  loop_lag;
    db_histogram_t  gil_wait;
} db_metrics_row_t;


typedef struct {
    db_counter_t    statuses[DB_METRICS_STATUSES];
    db_histogram_t  duration;
} db_metrics_shard_t;


typedef struct {
    char            app[DB_METRICS_APP];
    char            method[DB_METRICS_METHOD];
    char            route[DB_METRICS_ROUTE];
    unsigned char   app_len;
    unsigned char   method_len;
    unsigned char   route_len;
    _Atomic uint32_t  version;       /* raised when it changes its route */
    uint32_t        generation;      /* the last that has asked for it */
    db_metrics_shard_t  shards[];    /* metrics->nshards */
} db_metrics_slot_t;


typedef struct {
    db_str_t        app;
    db_str_t        method;
    db_str_t        route;
} db_metrics_key_t;


typedef struct db_metrics_s  db_metrics_t;


/*
 * Lays the zone out in zeroed memory, for so many workers at a time and
 * three times as many that end; NULL when it is too small for one slot a
 * worker.
 */
db_metrics_t *db_metrics_create(void *memory, size_t size, unsigned workers);

/* Whether the memory is a zone that this code has laid out. */
int db_metrics_valid(const db_metrics_t *metrics);

/*
 * Configurations are numbered.  The generation is live once one of its
 * workers has said so: from then on only its slots are safe from being given
 * to others when there are no more.
 */
uint32_t db_metrics_generation(db_metrics_t *metrics);
void db_metrics_live(db_metrics_t *metrics, uint32_t generation);

/*
 * Lock held: the row of a worker, one that nobody has or whose owner is dead.
 * NULL when there is none.  release() needs no lock.
 */
db_metrics_row_t *db_metrics_claim(db_metrics_t *metrics, pid_t pid);
void db_metrics_release(db_metrics_row_t *row, pid_t pid);

/*
 * Lock held: the slot of the key, made if need be; then what the live
 * generation does not use is reclaimed, and when there is nothing the slot
 * "other" takes it.  *full is 1 the first time that a generation comes to
 * that.  find() returns NULL instead of making it.
 */
db_metrics_slot_t *db_metrics_slot(db_metrics_t *metrics,
    const db_metrics_key_t *key, uint32_t generation, int *full);
db_metrics_slot_t *db_metrics_find(db_metrics_t *metrics,
    const db_metrics_key_t *key, uint32_t generation);

/* A request of the slot has ended; the time of one upgraded is not kept. */
void db_metrics_count(db_metrics_slot_t *slot, unsigned shard,
    unsigned status, uint64_t ns);


static inline uint32_t
db_metrics_version(db_metrics_slot_t *slot)
{
    return atomic_load_explicit(&slot->version, memory_order_relaxed);
}


/* What the exposition reads. */

unsigned db_metrics_nrows(const db_metrics_t *metrics);
unsigned db_metrics_nslots(const db_metrics_t *metrics);
unsigned db_metrics_used(const db_metrics_t *metrics);
unsigned db_metrics_nshards(const db_metrics_t *metrics);
db_metrics_row_t *db_metrics_row(db_metrics_t *metrics, unsigned i);

/* Whether the row's gauges count. */
int db_metrics_alive(db_metrics_t *metrics, unsigned i);

/* NULL when it is free. */
db_metrics_slot_t *db_metrics_slot_at(db_metrics_t *metrics, unsigned i);

/* "404", or "4xx" for one that is rare; NULL when there is none. */
const char *db_metrics_status(unsigned i);

#endif /* DB_METRICS_H */
