/*
 * What the SQLite store costs by itself, in CPU microseconds an operation
 * (both threads together), and the rate of durable inserts.
 *
 *   make -f t/unit/unit.mk bench
 */

#include "store/db_store.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>


#define DOCUMENTS  100000
#define CYCLE      16            /* reads that share a transaction */
#define FLIGHT     32            /* inserts under way */
#define ROUNDS     5


typedef struct {
    db_store_op_t    op;
    db_store_item_t  item;
    sem_t           *done;
    char             id[32];
} call_t;


static const db_collection_t  collection = {
    .name = { "bench", 5 }, .id_kind = DB_VALUE_TEXT
};
static const db_str_t  id_steps[] = { { "id", 2 } };
static const db_key_t  by_id = { { id_steps, 1 }, DB_VALUE_TEXT, 0 };

static db_store_t            *store;
static db_arena_t            *arena;
static char                   document[512];


static void
bench_log(void *ctx, db_log_level_t level, const char *text)
{
    fprintf(stderr, "%s\n", text);
}


static double
seconds(clockid_t clock)
{
    struct timespec  now;

    clock_gettime(clock, &now);

    return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}


static void
bench_done(db_store_op_t *op)
{
    call_t *call = (call_t *) op;

    if (op->status != DB_STORE_OK) {
        fprintf(stderr, "an insert failed: %d\n", op->status);
        exit(1);
    }

    sem_post(call->done);
}


/* An ObjectId: increasing in its first bytes. */

static void
bench_id(char *id, unsigned n)
{
    snprintf(id, 32, "%08x%016x", 0x65000000 + n / 1000, n);
}


static void
bench_insert(size_t size, unsigned first, unsigned n, unsigned flight)
{
    sem_t     done;
    call_t   *calls;
    unsigned  i;

    calls = calloc(n, sizeof(call_t));
    sem_init(&done, 0, flight);

    for (i = 0; i < n; i++) {
        while (sem_wait(&done) == -1) {
            /* interrupted */
        }

        bench_id(calls[i].id, first + i);

        calls[i].done = &done;
        calls[i].op.kind = DB_STORE_INSERT;
        calls[i].op.collection = &collection;
        calls[i].op.items = &calls[i].item;
        calls[i].op.nitems = 1;
        calls[i].item.id.kind = DB_VALUE_TEXT;
        calls[i].item.id.text = (db_str_t) { calls[i].id,
                                             strlen(calls[i].id) };
        calls[i].item.document = (db_str_t) { document, size };
        calls[i].op.done = bench_done;

        db_store_submit(store, &calls[i].op);
    }

    for (i = 0; i < flight; i++) {
        while (sem_wait(&done) == -1) {
            /* interrupted */
        }
    }

    free(calls);
}


static void
bench_read(db_store_op_t *op, db_buf_t *out)
{
    out->len = 0;
    db_store_read(store, op);

    if (op->status != DB_STORE_OK) {
        fprintf(stderr, "a read failed: %d\n", op->status);
        exit(1);
    }
}


static void
bench_gets(const char *name, unsigned keys, unsigned n)
{
    char           id[32];
    double         start, spent, best;
    unsigned       i, round;
    db_buf_t       out;
    db_store_op_t  op;

    memset(&op, 0, sizeof(op));
    db_buf_init(&out, arena, 4096);

    op.kind = DB_STORE_GET;
    op.collection = &collection;
    op.id.kind = DB_VALUE_TEXT;
    op.out = &out;

    best = 1e9;
    srandom(1);

    for (round = 0; round < ROUNDS; round++) {
        start = seconds(CLOCK_PROCESS_CPUTIME_ID);

        for (i = 0; i < n; i++) {
            bench_id(id, (unsigned) random() % keys * (DOCUMENTS / keys));
            op.id.text = (db_str_t) { id, 24 };
            bench_read(&op, &out);

            if (i % CYCLE == CYCLE - 1) {
                db_store_cycle_end(store);
            }
        }

        spent = seconds(CLOCK_PROCESS_CPUTIME_ID) - start;
        best = spent < best ? spent : best;
    }

    /* the id's making is part of it: about 0.15 us */

    printf("  %-28s %7.2f us\n", name, best / n * 1e6);
}


static void
bench_lists(unsigned n)
{
    double         start;
    unsigned       i;
    db_buf_t       out;
    db_store_op_t  op;

    memset(&op, 0, sizeof(op));
    db_buf_init(&out, arena, 32768);

    op.kind = DB_STORE_LIST;
    op.collection = &collection;
    op.sort = &by_id;
    op.nsort = 1;
    op.limit = 20;
    op.out = &out;

    start = seconds(CLOCK_PROCESS_CPUTIME_ID);

    for (i = 0; i < n; i++) {
        bench_read(&op, &out);

        if (i % CYCLE == CYCLE - 1) {
            db_store_cycle_end(store);
        }
    }

    printf("  %-28s %7.2f us\n", "list of 20",
           (seconds(CLOCK_PROCESS_CPUTIME_ID) - start) / n * 1e6);
}


static void
bench_inserts(size_t size, unsigned first, unsigned n, unsigned flight)
{
    char    name[64];
    double  cpu, wall;

    wall = seconds(CLOCK_MONOTONIC);
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);

    bench_insert(size, first, n, flight);

    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    wall = seconds(CLOCK_MONOTONIC) - wall;

    snprintf(name, sizeof(name), "insert, %u under way", flight);
    printf("  %-28s %7.2f us  %8.0f/s\n", name, cpu / n * 1e6, n / wall);
}


static void
bench_size(size_t size)
{
    char      error[512], dir[] = "/tmp/databridge-bench-XXXXXX";
    char      path[64], uri[80];
    size_t    i;

    static const char  *suffixes[] = { "", "-wal", "-shm", ".writer" };

    if (mkdtemp(dir) == NULL) {
        perror(dir);
        exit(1);
    }

    snprintf(uri, sizeof(uri), "sqlite:%s/bench.db", dir);

    store = db_store_open((db_str_t) { uri, strlen(uri) }, bench_log, NULL,
                          error, sizeof(error));

    if (store == NULL
        || db_store_prepare(store, &collection, error, sizeof(error))
           != DB_OK)
    {
        fprintf(stderr, "%s\n", error);
        exit(1);
    }

    printf("documents of %zu bytes, %d of them\n", size, DOCUMENTS);

    bench_insert(size, 0, DOCUMENTS, 256);
    bench_gets("get, 100 hot keys", 100, 200000);
    bench_gets("get, all keys at random", DOCUMENTS, 200000);
    bench_lists(20000);
    bench_inserts(size, DOCUMENTS, 20000, FLIGHT);
    bench_inserts(size, 2 * DOCUMENTS, 20000, 128);
    bench_inserts(size, 3 * DOCUMENTS, 500, 1);

    db_store_close(store);

    for (i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        snprintf(path, sizeof(path), "%s/bench.db%s", dir, suffixes[i]);
        (void) unlink(path);
    }

    (void) rmdir(dir);
}


int
main(void)
{
    memset(document, 'x', sizeof(document));
    arena = db_arena_create(65536);

    bench_size(280);
    bench_size(480);

    db_arena_destroy(arena);

    return 0;
}
