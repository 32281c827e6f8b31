/*
 * Counters and latency histograms in memory that threads and processes
 * share: each member is a relaxed atomic of its own, so that no writer waits
 * and a process killed between two additions leaves sums that are off by one
 * observation at most.  One that has a single writer is added to by a load
 * and a store, at a twentieth of the price; any other is "shared".
 */

#ifndef DB_HISTOGRAM_H
#define DB_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>


/* Bounds from 50 us to 10 s, and one bucket for what took longer. */

#define DB_HISTOGRAM_BOUNDS   17
#define DB_HISTOGRAM_BUCKETS  (DB_HISTOGRAM_BOUNDS + 1)


typedef _Atomic uint64_t  db_counter_t;


typedef struct {
    db_counter_t   buckets[DB_HISTOGRAM_BUCKETS];  /* not cumulative */
    db_counter_t   sum;                            /* ns */
} db_histogram_t;


/* A copy, or the sum of several. */

typedef struct {
    uint64_t       buckets[DB_HISTOGRAM_BUCKETS];
    uint64_t       sum;
} db_histogram_sum_t;


/* ns, and the same as the exposition writes it, in seconds */

extern const uint64_t     db_histogram_bounds[DB_HISTOGRAM_BOUNDS];
extern const char *const  db_histogram_labels[DB_HISTOGRAM_BOUNDS];


void db_histogram_observe(db_histogram_t *histogram, uint64_t ns);
void db_histogram_observe_shared(db_histogram_t *histogram, uint64_t ns);

/* Adds what has been observed so far. */
void db_histogram_add(db_histogram_sum_t *sum, db_histogram_t *histogram);

uint64_t db_histogram_count(const db_histogram_sum_t *sum);


static inline void
db_counter_set(db_counter_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, n, memory_order_relaxed);
}


static inline uint64_t
db_counter_get(db_counter_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}


static inline void
db_counter_add(db_counter_t *counter, uint64_t n)
{
    db_counter_set(counter, db_counter_get(counter) + n);
}


static inline void
db_counter_sub(db_counter_t *counter, uint64_t n)
{
    db_counter_set(counter, db_counter_get(counter) - n);
}


static inline void
db_counter_add_shared(db_counter_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}


/* ns of the clock that all threads and processes of the host share */

static inline uint64_t
db_clock_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

#endif /* DB_HISTOGRAM_H */
