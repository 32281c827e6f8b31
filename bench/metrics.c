/*
 * What being seen costs a request, in C alone: every clock that is read and
 * every atomic that is written on its way, by both threads.  Nanoseconds a
 * request, the median of rounds: of a few that share an event cycle and a
 * wake-up of the loop, with the lag and the wait for the GIL that are
 * measured then, and of one "alone".
 *
 *   make -f t/unit/unit.mk bench-metrics
 */

#include "obs/db_metrics.h"

#include <stdio.h>
#include <stdlib.h>


#define ROUNDS  15
#define CALLS   200000
#define BATCH   8
#define SIZE    (1024 * 1024)


static void
request(db_metrics_row_t *row, db_metrics_slot_t *slot, uint32_t version,
    uint64_t start)
{
    uint64_t  taken;

    db_counter_add(&row->in_flight, 1);

    db_counter_add(&row->submitted, 1);
    db_counter_add(&row->unanswered, 1);

    taken = db_clock_now();
    db_counter_add(&row->taken, 1);
    db_histogram_observe(&row->queue_wait, taken - start);

    db_counter_sub(&row->unanswered, 1);

    if (version == db_metrics_version(slot)) {
        db_metrics_count(slot, 0, 200, db_clock_now() - start);
    }

    db_counter_sub(&row->in_flight, 1);
}


static void
wake(db_metrics_row_t *row)
{
    uint64_t  now;

    now = db_clock_now();
    db_histogram_observe(&row->gil_wait, db_clock_now() - now);

    now = db_clock_now();
    db_counter_set(&row->turn, now);
    db_histogram_observe(&row->loop_lag, db_clock_now() - now);
    db_counter_set(&row->turn, 0);
}


static int
compare(const void *a, const void *b)
{
    double  x, y;

    x = *(const double *) a;
    y = *(const double *) b;

    return (x > y) - (x < y);
}


static void
measure(const char *name, db_metrics_row_t *row, db_metrics_slot_t *slot,
    int alone)
{
    int       i, k;
    double    rounds[ROUNDS];
    uint64_t  start, now;
    uint32_t  version;

    version = db_metrics_version(slot);
    now = 0;

    for (i = 0; i < ROUNDS; i++) {
        start = db_clock_now();

        for (k = 0; k < CALLS; k++) {

            if (alone || k % BATCH == 0) {
                now = db_clock_now();
                wake(row);
            }

            request(row, slot, version, now);
        }

        rounds[i] = (double) (db_clock_now() - start) / CALLS;
    }

    qsort(rounds, ROUNDS, sizeof(double), compare);

    printf("%-10s %6.1f ns\n", name, rounds[ROUNDS / 2]);
}


int
main(void)
{
    int                 full;
    void               *memory;
    db_metrics_t       *metrics;
    db_metrics_key_t    key;
    db_metrics_row_t   *row;
    db_metrics_slot_t  *slot;

    if (posix_memalign(&memory, 64, SIZE) != 0) {
        return 1;
    }

    memset(memory, 0, SIZE);
    metrics = db_metrics_create(memory, SIZE, 4);

    key.app = db_string("main:app");
    key.method = db_string("GET");
    key.route = db_string("/items/{id}");

    row = db_metrics_claim(metrics, 1);
    slot = db_metrics_slot(metrics, &key, 1, &full);

    measure("in a batch", row, slot, 0);
    measure("alone", row, slot, 1);

    free(memory);

    return 0;
}
