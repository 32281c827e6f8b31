/*
 * The metrics zone, its exposition, and trace contexts.
 */

#define _GNU_SOURCE

#include "unit.h"
#include "obs/db_exposition.h"
#include "obs/db_trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>


#define ZONE_SIZE  65536


static db_metrics_t *
zone(size_t size, unsigned workers)
{
    void  *memory;

    if (posix_memalign(&memory, 64, size) != 0) {
        abort();
    }

    memset(memory, 0, size);

    return db_metrics_create(memory, size, workers);
}


static db_metrics_key_t
key(const char *app, const char *method, const char *route)
{
    return (db_metrics_key_t) { str(app), str(method), str(route) };
}


static db_metrics_slot_t *
slot(db_metrics_t *metrics, const char *route, uint32_t generation)
{
    int               full;
    db_metrics_key_t  k;

    k = key("app", "GET", route);

    return db_metrics_slot(metrics, &k, generation, &full);
}


/* A pid that belonged to somebody, and now to nobody. */

static pid_t
dead(void)
{
    pid_t  pid;

    pid = fork();

    if (pid == 0) {
        _exit(0);
    }

    assert_int_equal(waitpid(pid, NULL, 0), pid);

    return pid;
}


static void
test_bounds_rise_and_have_labels(void **state)
{
    char      label[32];
    unsigned  i;

    for (i = 0; i < DB_HISTOGRAM_BOUNDS; i++) {
        assert_true(i == 0 || db_histogram_bounds[i]
                              > db_histogram_bounds[i - 1]);

        snprintf(label, sizeof(label), "%g",
                 (double) db_histogram_bounds[i] / 1e9);
        assert_true(strncmp(db_histogram_labels[i], label, strlen(label))
                    == 0);
    }
}


static void
test_a_value_is_in_the_bucket_of_its_bound(void **state)
{
    unsigned            i;
    db_histogram_t      histogram;
    db_histogram_sum_t  sum;

    memset(&histogram, 0, sizeof(histogram));
    memset(&sum, 0, sizeof(sum));

    for (i = 0; i < DB_HISTOGRAM_BOUNDS; i++) {
        db_histogram_observe(&histogram, db_histogram_bounds[i]);
    }

    db_histogram_observe(&histogram, 0);
    db_histogram_observe(&histogram,
                         db_histogram_bounds[DB_HISTOGRAM_BOUNDS - 1] + 1);

    db_histogram_add(&sum, &histogram);
    db_histogram_add(&sum, &histogram);

    assert_int_equal(sum.buckets[0], 4);
    assert_int_equal(sum.buckets[DB_HISTOGRAM_BOUNDS], 2);
    assert_int_equal(db_histogram_count(&sum), 2 * (DB_HISTOGRAM_BOUNDS + 2));
    assert_true(sum.sum > 4 * 10000000000ull);
}


static void
test_a_zone_too_small_is_refused(void **state)
{
    void  *memory;

    memory = calloc(1, 8192);
    assert_null(db_metrics_create(memory, 8192, 64));
    assert_false(db_metrics_valid(memory));
    assert_null(db_metrics_create(memory, 0, 1));
    free(memory);
}


static void
test_the_zone_stays_within_its_memory(void **state)
{
    char           *end;
    size_t          size;
    unsigned        i, workers;
    db_metrics_t   *metrics;

    for (workers = 1; workers < 9; workers += 3) {
        for (size = 50000; size < 50700; size += 64) {
            metrics = zone(size, workers);
            assert_non_null(metrics);
            assert_true(db_metrics_valid(metrics));

            end = (char *) metrics + size;

            for (i = 1; i < db_metrics_nslots(metrics); i++) {
                char  route[32];

                snprintf(route, sizeof(route), "/%u", i);
                (void) slot(metrics, route, 1);
            }

            assert_int_equal(db_metrics_used(metrics),
                             db_metrics_nslots(metrics));

            i--;
            assert_true((char *) &db_metrics_slot_at(metrics, i)
                            ->shards[db_metrics_nshards(metrics)]
                        <= end);
            assert_true((char *) (db_metrics_row(metrics,
                                      db_metrics_nrows(metrics) - 1) + 1)
                        <= (char *) db_metrics_slot_at(metrics, 0));
            free(metrics);
        }
    }
}


static void
test_a_slot_is_found_by_its_key(void **state)
{
    int                 full;
    db_metrics_t       *metrics;
    db_metrics_key_t    a, b;
    db_metrics_slot_t  *first;

    metrics = zone(ZONE_SIZE, 1);
    first = slot(metrics, "/a", 1);

    assert_ptr_equal(slot(metrics, "/a", 2), first);
    assert_ptr_not_equal(slot(metrics, "/b", 1), first);

    a = key("ap", "pGET", "/a");
    assert_ptr_not_equal(db_metrics_slot(metrics, &a, 1, &full), first);

    b = key("app", "POST", "/a");
    assert_null(db_metrics_find(metrics, &b, 1));
    assert_ptr_not_equal(db_metrics_slot(metrics, &b, 1, &full), first);
    assert_non_null(db_metrics_find(metrics, &b, 1));
    assert_int_equal(db_metrics_used(metrics), 5);

    free(metrics);
}


static void
test_long_names_are_cut_between_characters(void **state)
{
    char                text[400];
    size_t              i;
    db_metrics_t       *metrics;
    db_metrics_slot_t  *first;

    metrics = zone(ZONE_SIZE, 1);

    text[0] = '/';

    for (i = 1; i < sizeof(text) - 2; i += 2) {
        memcpy(text + i, "\xc3\xa9", 2);
    }

    text[i] = '\0';

    first = slot(metrics, text, 1);
    assert_ptr_equal(slot(metrics, text, 1), first);
    assert_int_equal(first->route_len, DB_METRICS_ROUTE - 1);

    text[i - 1] = 'x';
    assert_ptr_equal(slot(metrics, text, 1), first);

    free(metrics);
}


static void
fill(db_metrics_t *metrics, uint32_t generation)
{
    char      route[32];
    unsigned  i;

    for (i = 1; i < db_metrics_nslots(metrics); i++) {
        snprintf(route, sizeof(route), "/%u", i);
        (void) slot(metrics, route, generation);
    }
}


static void
test_a_full_zone_says_so_once_a_generation(void **state)
{
    int                full;
    uint32_t           generation;
    db_metrics_t      *metrics;
    db_metrics_key_t   k;

    metrics = zone(ZONE_SIZE, 1);
    generation = db_metrics_generation(metrics);
    db_metrics_live(metrics, generation);
    fill(metrics, generation);

    k = key("app", "GET", "/more");
    assert_ptr_equal(db_metrics_slot(metrics, &k, generation, &full),
                     db_metrics_slot_at(metrics, 0));
    assert_int_equal(full, 1);

    (void) db_metrics_slot(metrics, &k, generation, &full);
    assert_int_equal(full, 0);

    k = key("app", "GET", "/1");
    assert_ptr_not_equal(db_metrics_slot(metrics, &k, generation, &full),
                         db_metrics_slot_at(metrics, 0));

    free(metrics);
}


static void
test_only_the_live_generation_reclaims_what_it_does_not_use(void **state)
{
    int                 full;
    uint32_t            old, new, version;
    db_metrics_t       *metrics;
    db_metrics_key_t    k;
    db_metrics_slot_t  *kept, *taken;

    metrics = zone(ZONE_SIZE, 1);
    old = db_metrics_generation(metrics);
    new = db_metrics_generation(metrics);
    assert_int_equal(new, old + 1);

    db_metrics_live(metrics, old);
    fill(metrics, old);

    kept = slot(metrics, "/1", new);
    taken = slot(metrics, "/2", old);
    version = db_metrics_version(taken);
    db_metrics_count(taken, 0, 200, 1);

    k = key("app", "GET", "/new");

    /* not live yet, and then no more */

    assert_ptr_equal(db_metrics_slot(metrics, &k, new, &full),
                     db_metrics_slot_at(metrics, 0));

    db_metrics_live(metrics, new);
    db_metrics_live(metrics, old);

    assert_ptr_equal(db_metrics_slot(metrics, &k, old, &full),
                     db_metrics_slot_at(metrics, 0));

    assert_ptr_equal(db_metrics_slot(metrics, &k, new, &full), taken);
    assert_int_not_equal(db_metrics_version(taken), version);
    assert_int_equal(db_counter_get(&taken->shards[0].statuses[0]), 0);
    assert_ptr_equal(slot(metrics, "/1", new), kept);
    assert_str((db_str_t) { taken->route, taken->route_len }, "/new");

    free(metrics);
}


static void
test_rows_go_from_the_dead_to_the_living(void **state)
{
    pid_t               pid;
    unsigned            i, n;
    db_metrics_t       *metrics;
    db_metrics_row_t   *row, *other;

    metrics = zone(ZONE_SIZE, 1);
    n = db_metrics_nrows(metrics);

    pid = dead();
    row = db_metrics_claim(metrics, pid);
    db_counter_add(&row->in_flight, 7);
    db_counter_add(&row->timeouts, 3);
    assert_false(db_metrics_alive(metrics, 0));

    other = db_metrics_claim(metrics, getpid());
    assert_ptr_equal(other, row);
    assert_int_equal(db_counter_get(&row->in_flight), 0);
    assert_int_equal(db_counter_get(&row->timeouts), 3);
    assert_int_equal(db_counter_get(&row->crashes), 1);
    assert_int_equal(db_counter_get(&row->starts), 2);
    assert_true(db_metrics_alive(metrics, 0));

    /* its new owner's, not the old one's to give back */

    db_metrics_release(row, pid);
    assert_true(db_metrics_alive(metrics, 0));
    db_metrics_release(row, getpid());
    assert_false(db_metrics_alive(metrics, 0));
    assert_ptr_equal(db_metrics_claim(metrics, getpid()), row);
    assert_int_equal(db_counter_get(&row->crashes), 1);

    /* init lives */

    for (i = 1; i < n; i++) {
        db_counter_set(&db_metrics_row(metrics, i)->pid, 1);
    }

    assert_null(db_metrics_claim(metrics, getppid()));

    free(metrics);
}


static void
test_statuses_have_labels_of_their_own(void **state)
{
    unsigned            i, k;
    const char         *label;
    db_metrics_t       *metrics;
    db_metrics_slot_t  *s;

    for (i = 0; (label = db_metrics_status(i)) != NULL; i++) {
        for (k = 0; k < i; k++) {
            assert_string_not_equal(label, db_metrics_status(k));
        }
    }

    assert_int_equal(i, DB_METRICS_STATUSES);

    metrics = zone(ZONE_SIZE, 1);
    s = slot(metrics, "/", 1);

    db_metrics_count(s, 0, 101, 5);
    assert_int_equal(db_counter_get(&s->shards[0].duration.sum), 0);
    db_metrics_count(s, 0, 100, 5);
    db_metrics_count(s, 0, 299, 5);
    db_metrics_count(s, 0, 599, 5);
    db_metrics_count(s, 0, 0, 5);
    db_metrics_count(s, 0, 600, 5);
    assert_int_equal(db_counter_get(&s->shards[0].statuses[34]), 1);
    assert_int_equal(db_counter_get(&s->shards[0].statuses[35]), 1);
    assert_int_equal(db_counter_get(&s->shards[0].statuses[38]), 1);
    assert_int_equal(db_counter_get(&s->shards[0].statuses[39]), 2);

    free(metrics);
}


static int
contains(const db_buf_t *text, const char *line)
{
    return memmem(text->data, text->len, line, strlen(line)) != NULL;
}


static void
test_the_exposition_adds_up_shards_and_escapes_labels(void **state)
{
    db_buf_t            text;
    unsigned            i;
    db_arena_t         *arena;
    db_metrics_t       *metrics;
    db_metrics_slot_t  *s;

    metrics = zone(ZONE_SIZE, 4);
    assert_int_equal(db_metrics_nshards(metrics), 4);

    s = slot(metrics, "/a\"b\\c\n\t", 1);

    for (i = 0; i < 8; i++) {
        db_metrics_count(s, i % 4, 404, 1500000);
    }

    arena = db_arena_create(4096);
    db_buf_init(&text, arena, 0);
    assert_int_equal(db_exposition_write(&text, metrics,
                                         DB_EXPOSITION_PROMETHEUS), DB_OK);
    assert_true(contains(&text,
        "databridge_requests_total{app=\"app\",method=\"GET\","
        "route=\"/a\\\"b\\\\c\\n\t\",status=\"404\"} 8\n"));
    assert_true(contains(&text,
        "databridge_request_duration_seconds_sum{app=\"app\",method=\"GET\","
        "route=\"/a\\\"b\\\\c\\n\t\"} 0.012000000\n"));
    assert_true(contains(&text, "c\\n\t\",le=\"0.001\"} 0\n"));
    assert_true(contains(&text, "c\\n\t\",le=\"0.0025\"} 8\n"));
    assert_false(contains(&text, "route=\"other\""));
    assert_int_equal(text.data[text.len - 1], '\n');

    db_buf_init(&text, arena, 0);
    assert_int_equal(db_exposition_write(&text, metrics, DB_EXPOSITION_JSON),
                     DB_OK);
    assert_true(contains(&text,
        "{\"labels\":{\"app\":\"app\",\"method\":\"GET\","
        "\"route\":\"/a\\\"b\\\\c\\n\\u0009\",\"status\":\"404\"},"
        "\"value\":8}"));

    db_arena_destroy(arena);
    free(metrics);
}


#define TRACE   "0af7651916cd43dd8448eb211c80319c"
#define PARENT  "-b7ad6b7169203331"


static void
test_traceparents_are_judged_as_the_specification_says(void **state)
{
    size_t       i;
    db_str_t     id;
    const char  *valid, *invalid;

    static const char  *valids[] = {
        "00-" TRACE PARENT "-01", "00-" TRACE PARENT "-00",
        "00-" TRACE PARENT "-ff", "01-" TRACE PARENT "-01",
        "fe-" TRACE PARENT "-01-more", "cc-" TRACE PARENT "-01-",
    };

    static const char  *invalids[] = {
        "", "00", "00-" TRACE PARENT, "00-" TRACE PARENT "-",
        "00-" TRACE PARENT "-1", "00-" TRACE PARENT "-01-",
        "00-" TRACE PARENT "-01 ", " 00-" TRACE PARENT "-01",
        "ff-" TRACE PARENT "-01", "01-" TRACE PARENT "-01x",
        "0x-" TRACE PARENT "-01", "00-" TRACE PARENT "-0G",
        "00_" TRACE PARENT "-01", "00-" TRACE "_b7ad6b7169203331-01",
        "00-00000000000000000000000000000000" PARENT "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C" PARENT "-01",
    };

    for (i = 0; i < sizeof(valids) / sizeof(valids[0]); i++) {
        valid = valids[i];
        assert_int_equal(db_trace_parse(str(valid), &id), DB_OK);
        assert_str(id, TRACE);
    }

    for (i = 0; i < sizeof(invalids) / sizeof(invalids[0]); i++) {
        invalid = invalids[i];
        assert_int_equal(db_trace_parse(str(invalid), &id), DB_DECLINED);
    }
}


static void
test_a_begun_trace_is_valid_and_of_its_own(void **state)
{
    char         first[DB_TRACE_PARENT], second[DB_TRACE_PARENT], text[32];
    db_str_t     id;
    db_random_t  random, zeros;

    assert_int_equal(db_random_seed(&random), DB_OK);

    db_trace_begin(&random, first);
    db_trace_begin(&random, second);
    assert_memory_not_equal(first, second, DB_TRACE_PARENT);
    assert_int_equal(db_trace_parse((db_str_t) { first, DB_TRACE_PARENT },
                                    &id),
                     DB_OK);
    assert_memory_equal(first + 52, "-01", 3);

    /* xoshiro's first outputs for 1, 2, 3, 4 */

    zeros = (db_random_t) { { 1, 2, 3, 4 } };
    assert_true(db_random_next(&zeros) == 11520);
    assert_true(db_random_next(&zeros) == 0);
    assert_true(db_random_next(&zeros) == 1509978240);

    zeros = (db_random_t) { { 1, 2, 3, 4 } };
    db_random_hex(&zeros, text, 32);
    assert_memory_equal(text, "00d20000000000000000000000000000", 32);
}


static void
test_request_ids_are_short_and_plain(void **state)
{
    char  text[130];

    assert_true(db_trace_request_id(str("a")));
    assert_true(db_trace_request_id(str("AZ-az_09.~+/=:@")));
    assert_false(db_trace_request_id(str("")));
    assert_false(db_trace_request_id(db_null_string));
    assert_false(db_trace_request_id(str("a b")));
    assert_false(db_trace_request_id(str("a\"b")));
    assert_false(db_trace_request_id(str("a\xc3\xa9")));
    assert_false(db_trace_request_id((db_str_t) { "a\0b", 3 }));

    memset(text, 'x', sizeof(text));
    assert_true(db_trace_request_id((db_str_t) { text, 128 }));
    assert_false(db_trace_request_id((db_str_t) { text, 129 }));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_bounds_rise_and_have_labels),
        cmocka_unit_test(test_a_value_is_in_the_bucket_of_its_bound),
        cmocka_unit_test(test_a_zone_too_small_is_refused),
        cmocka_unit_test(test_the_zone_stays_within_its_memory),
        cmocka_unit_test(test_a_slot_is_found_by_its_key),
        cmocka_unit_test(test_long_names_are_cut_between_characters),
        cmocka_unit_test(test_a_full_zone_says_so_once_a_generation),
        cmocka_unit_test(
            test_only_the_live_generation_reclaims_what_it_does_not_use),
        cmocka_unit_test(test_rows_go_from_the_dead_to_the_living),
        cmocka_unit_test(test_statuses_have_labels_of_their_own),
        cmocka_unit_test(
            test_the_exposition_adds_up_shards_and_escapes_labels),
        cmocka_unit_test(
            test_traceparents_are_judged_as_the_specification_says),
        cmocka_unit_test(test_a_begun_trace_is_valid_and_of_its_own),
        cmocka_unit_test(test_request_ids_are_short_and_plain),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
