/*
 * The bucket of a value is found from the smallest on: most requests end in
 * the first few.  Any thread.
 */

#include "obs/db_histogram.h"


#define DB_US  1000ull
#define DB_MS  1000000ull
#define DB_S   1000000000ull


const uint64_t  db_histogram_bounds[DB_HISTOGRAM_BOUNDS] = {
    50 * DB_US, 100 * DB_US, 250 * DB_US, 500 * DB_US,
    1 * DB_MS, 2500 * DB_US, 5 * DB_MS, 10 * DB_MS, 25 * DB_MS, 50 * DB_MS,
    100 * DB_MS, 250 * DB_MS, 500 * DB_MS,
    1 * DB_S, 2500 * DB_MS, 5 * DB_S, 10 * DB_S
};

const char *const  db_histogram_labels[DB_HISTOGRAM_BOUNDS] = {
    "5e-05", "0.0001", "0.00025", "0.0005",
    "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05",
    "0.1", "0.25", "0.5",
    "1.0", "2.5", "5.0", "10.0"
};


static unsigned
db_histogram_bucket(uint64_t ns)
{
    unsigned  i;

    for (i = 0; i < DB_HISTOGRAM_BOUNDS; i++) {
        if (ns <= db_histogram_bounds[i]) {
            break;
        }
    }

    return i;
}


void
db_histogram_observe(db_histogram_t *histogram, uint64_t ns)
{
    db_counter_add(&histogram->buckets[db_histogram_bucket(ns)], 1);
    db_counter_add(&histogram->sum, ns);
}


void
db_histogram_observe_shared(db_histogram_t *histogram, uint64_t ns)
{
    db_counter_add_shared(&histogram->buckets[db_histogram_bucket(ns)], 1);
    db_counter_add_shared(&histogram->sum, ns);
}


void
db_histogram_add(db_histogram_sum_t *sum, db_histogram_t *histogram)
{
    unsigned  i;

    for (i = 0; i < DB_HISTOGRAM_BUCKETS; i++) {
        sum->buckets[i] += db_counter_get(&histogram->buckets[i]);
    }

    sum->sum += db_counter_get(&histogram->sum);
}


uint64_t
db_histogram_count(const db_histogram_sum_t *sum)
{
    unsigned  i;
    uint64_t  count;

    count = 0;

    for (i = 0; i < DB_HISTOGRAM_BUCKETS; i++) {
        count += sum->buckets[i];
    }

    return count;
}
