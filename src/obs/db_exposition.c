/*
 * Both formats are written by the same walk over the families, so that they
 * cannot differ.  Without printf(): a zone may hold many thousand lines, and
 * the caller is an event loop.
 */

#include "obs/db_exposition.h"


typedef struct {
    db_buf_t                *out;
    db_buf_t                 labels;     /* of the sample to be written */
    db_exposition_format_t   format;
    unsigned                 families;
    unsigned                 samples;    /* of the family */
    const char              *name;
} db_exposition_t;


typedef struct {
    const char   *name;
    const char   *help;
    size_t        member;                /* of db_metrics_row_t */
} db_exposition_number_t;


#define db_row_member(name)  offsetof(db_metrics_row_t, name)


/* Sums over the workers that live. */

static const db_exposition_number_t  db_exposition_gauges[] = {
    { "databridge_requests_in_flight",
      "Requests that have begun and not ended.",
      db_row_member(in_flight) },
    { "databridge_python_requests",
      "Requests handed over and not yet answered, which databridge_queue "
      "limits.",
      db_row_member(unanswered) },
    { "databridge_sync_threads",
      "Threads that def handlers may have.",
      db_row_member(threads) },
    { "databridge_sync_threads_busy",
      "Threads in which a def handler or another synchronous call runs.",
      db_row_member(threads_busy) },
    { "databridge_sync_threads_waiting",
      "Synchronous calls that wait for a thread.",
      db_row_member(threads_waiting) },
    { "databridge_websockets",
      "WebSockets that are open.",
      db_row_member(sockets) },
    { NULL, NULL, 0 }
};

/* Sums over all workers there have been. */

static const db_exposition_number_t  db_exposition_counters[] = {
    { "databridge_worker_starts_total",
      "Workers that have started.",
      db_row_member(starts) },
    { "databridge_worker_crashes_total",
      "Workers that have ended without an exit of their own, seen when "
      "another took their place.",
      db_row_member(crashes) },
    { "databridge_timeouts_total",
      "Requests answered with 504 because of databridge_timeout.",
      db_row_member(timeouts) },
    { "databridge_queue_rejections_total",
      "Requests answered with 503 because of databridge_queue.",
      db_row_member(rejected) },
    { "databridge_client_disconnects_total",
      "Clients that left before Python had answered completely.",
      db_row_member(disconnects) },
    { "databridge_websockets_opened_total",
      "WebSockets that have been opened.",
      db_row_member(sockets_opened) },
    { NULL, NULL, 0 }
};

static const db_exposition_number_t  db_exposition_histograms[] = {
    { "databridge_queue_wait_seconds",
      "From the hand-over of a request until Python takes it.",
      db_row_member(queue_wait) },
    { "databridge_loop_lag_seconds",
      "Turns of the event loop: how long it kept what was due waiting.",
      db_row_member(loop_lag) },
    { "databridge_gil_wait_seconds",
      "From a wake-up of the event loop until it has the GIL.",
      db_row_member(gil_wait) },
    { NULL, NULL, 0 }
};


static void
db_exposition_text(db_buf_t *out, const char *text)
{
    db_buf_append(out, text, strlen(text));
}


static void
db_exposition_uint(db_buf_t *out, uint64_t n)
{
    char   text[20], *p;

    p = text + sizeof(text);

    do {
        *--p = '0' + n % 10;
        n /= 10;
    } while (n);

    db_buf_append(out, p, (size_t) (text + sizeof(text) - p));
}


/* Of ns, with all nine decimals. */

static void
db_exposition_seconds(db_buf_t *out, uint64_t ns)
{
    char      text[10];
    unsigned  i;
    uint64_t  rest;

    db_exposition_uint(out, ns / 1000000000);

    rest = ns % 1000000000;

    for (i = 9; i; i--) {
        text[i] = '0' + rest % 10;
        rest /= 10;
    }

    text[0] = '.';

    db_buf_append(out, text, sizeof(text));
}


static void
db_exposition_escape(db_exposition_t *e, db_buf_t *out, db_str_t value)
{
    char         c;
    size_t       i;

    static const char  hex[] = "0123456789abcdef";

    for (i = 0; i < value.len; i++) {
        c = value.data[i];

        if (c == '"' || c == '\\') {
            db_buf_putc(out, '\\');
            db_buf_putc(out, c);

        } else if (c == '\n') {
            db_buf_lit(out, "\\n");

        } else if ((unsigned char) c < 0x20
                   && e->format == DB_EXPOSITION_JSON)
        {
            db_buf_lit(out, "\\u00");
            db_buf_putc(out, hex[(unsigned char) c >> 4]);
            db_buf_putc(out, hex[c & 15]);

        } else {
            db_buf_putc(out, c);
        }
    }
}


static void
db_exposition_label(db_exposition_t *e, const char *name, db_str_t value)
{
    db_buf_t  *out;

    out = &e->labels;

    if (out->len) {
        db_buf_putc(out, ',');
    }

    if (e->format == DB_EXPOSITION_JSON) {
        db_buf_putc(out, '"');
        db_exposition_text(out, name);
        db_buf_lit(out, "\":\"");

    } else {
        db_exposition_text(out, name);
        db_buf_lit(out, "=\"");
    }

    db_exposition_escape(e, out, value);
    db_buf_putc(out, '"');
}


static void
db_exposition_begin(db_exposition_t *e, const char *name, const char *type,
    const char *help)
{
    db_buf_t  *out;

    out = e->out;
    e->name = name;
    e->samples = 0;

    if (e->format == DB_EXPOSITION_JSON) {
        db_exposition_text(out, e->families++ ? ",\n\"" : "{\"");
        db_exposition_text(out, name);
        db_buf_lit(out, "\":{\"type\":\"");
        db_exposition_text(out, type);
        db_buf_lit(out, "\",\"help\":\"");
        db_exposition_text(out, help);
        db_buf_lit(out, "\",\"samples\":[");
        return;
    }

    db_buf_lit(out, "# HELP ");
    db_exposition_text(out, name);
    db_buf_putc(out, ' ');
    db_exposition_text(out, help);
    db_buf_lit(out, "\n# TYPE ");
    db_exposition_text(out, name);
    db_buf_putc(out, ' ');
    db_exposition_text(out, type);
    db_buf_putc(out, '\n');
}


static void
db_exposition_end(db_exposition_t *e)
{
    if (e->format == DB_EXPOSITION_JSON) {
        db_buf_lit(e->out, "]}");
    }
}


/* A line but for its value; "le" is a bucket's bound. */

static void
db_exposition_line(db_exposition_t *e, const char *suffix, const char *le)
{
    db_buf_t  *out;

    out = e->out;

    db_exposition_text(out, e->name);
    db_exposition_text(out, suffix);

    if (e->labels.len || le) {
        db_buf_putc(out, '{');
        db_buf_append(out, e->labels.data, e->labels.len);

        if (le) {
            db_exposition_text(out, e->labels.len ? ",le=\"" : "le=\"");
            db_exposition_text(out, le);
            db_buf_putc(out, '"');
        }

        db_buf_putc(out, '}');
    }

    db_buf_putc(out, ' ');
}


static void
db_exposition_open(db_exposition_t *e)
{
    db_exposition_text(e->out, e->samples++ ? ",\n{\"labels\":{"
                                            : "{\"labels\":{");
    db_buf_append(e->out, e->labels.data, e->labels.len);
}


static void
db_exposition_number(db_exposition_t *e, uint64_t value,
    void (*write)(db_buf_t *out, uint64_t value))
{
    if (e->format == DB_EXPOSITION_JSON) {
        db_exposition_open(e);
        db_buf_lit(e->out, "},\"value\":");
        write(e->out, value);
        db_buf_putc(e->out, '}');
        return;
    }

    db_exposition_line(e, "", NULL);
    write(e->out, value);
    db_buf_putc(e->out, '\n');
}


static void
db_exposition_json_histogram(db_exposition_t *e,
    const db_histogram_sum_t *sum)
{
    unsigned   i;
    uint64_t   count;
    db_buf_t  *out;

    out = e->out;
    count = 0;

    db_exposition_open(e);
    db_buf_lit(out, "},\"buckets\":{");

    for (i = 0; i < DB_HISTOGRAM_BOUNDS; i++) {
        count += sum->buckets[i];

        db_buf_putc(out, '"');
        db_exposition_text(out, db_histogram_labels[i]);
        db_buf_lit(out, "\":");
        db_exposition_uint(out, count);
        db_buf_putc(out, ',');
    }

    count += sum->buckets[i];

    db_buf_lit(out, "\"+Inf\":");
    db_exposition_uint(out, count);
    db_buf_lit(out, "},\"sum\":");
    db_exposition_seconds(out, sum->sum);
    db_buf_lit(out, ",\"count\":");
    db_exposition_uint(out, count);
    db_buf_putc(out, '}');
}


static void
db_exposition_histogram(db_exposition_t *e, const db_histogram_sum_t *sum)
{
    unsigned   i;
    uint64_t   count;

    if (e->format == DB_EXPOSITION_JSON) {
        db_exposition_json_histogram(e, sum);
        return;
    }

    count = 0;

    for (i = 0; i < DB_HISTOGRAM_BUCKETS; i++) {
        count += sum->buckets[i];

        db_exposition_line(e, "_bucket", i < DB_HISTOGRAM_BOUNDS
                                         ? db_histogram_labels[i] : "+Inf");
        db_exposition_uint(e->out, count);
        db_buf_putc(e->out, '\n');
    }

    db_exposition_line(e, "_sum", NULL);
    db_exposition_seconds(e->out, sum->sum);
    db_buf_putc(e->out, '\n');

    db_exposition_line(e, "_count", NULL);
    db_exposition_uint(e->out, count);
    db_buf_putc(e->out, '\n');
}


static void
db_exposition_route(db_exposition_t *e, const db_metrics_slot_t *slot)
{
    e->labels.len = 0;

    db_exposition_label(e, "app", (db_str_t) { slot->app, slot->app_len });
    db_exposition_label(e, "method",
                        (db_str_t) { slot->method, slot->method_len });
    db_exposition_label(e, "route",
                        (db_str_t) { slot->route, slot->route_len });
}


static void
db_exposition_requests(db_exposition_t *e, db_metrics_t *metrics)
{
    size_t              len;
    unsigned            i, k, shard;
    uint64_t            count;
    const char         *status;
    db_metrics_slot_t  *slot;

    db_exposition_begin(e, "databridge_requests_total", "counter",
                        "Requests by application, method, route and status.");

    for (i = 0; i < db_metrics_nslots(metrics); i++) {

        slot = db_metrics_slot_at(metrics, i);

        if (slot == NULL) {
            continue;
        }

        db_exposition_route(e, slot);
        len = e->labels.len;

        for (k = 0; (status = db_metrics_status(k)) != NULL; k++) {
            count = 0;

            for (shard = 0; shard < db_metrics_nshards(metrics); shard++) {
                count += db_counter_get(&slot->shards[shard].statuses[k]);
            }

            if (count) {
                e->labels.len = len;
                db_exposition_label(e, "status", (db_str_t) {
                                    status, strlen(status) });
                db_exposition_number(e, count, db_exposition_uint);
            }
        }
    }

    db_exposition_end(e);
}


static void
db_exposition_durations(db_exposition_t *e, db_metrics_t *metrics)
{
    unsigned             i, shard;
    db_histogram_sum_t   sum;
    db_metrics_slot_t   *slot;

    db_exposition_begin(e, "databridge_request_duration_seconds", "histogram",
                        "From a request's header until its end.");

    for (i = 0; i < db_metrics_nslots(metrics); i++) {

        slot = db_metrics_slot_at(metrics, i);

        if (slot == NULL) {
            continue;
        }

        memset(&sum, 0, sizeof(db_histogram_sum_t));

        for (shard = 0; shard < db_metrics_nshards(metrics); shard++) {
            db_histogram_add(&sum, &slot->shards[shard].duration);
        }

        if (db_histogram_count(&sum)) {
            db_exposition_route(e, slot);
            db_exposition_histogram(e, &sum);
        }
    }

    e->labels.len = 0;
    db_exposition_end(e);
}


static uint64_t
db_exposition_total(db_metrics_t *metrics, size_t member, int living)
{
    unsigned   i;
    uint64_t   total;

    total = 0;

    for (i = 0; i < db_metrics_nrows(metrics); i++) {
        if (!living || db_metrics_alive(metrics, i)) {
            total += db_counter_get((db_counter_t *)
                                    ((char *) db_metrics_row(metrics, i)
                                     + member));
        }
    }

    return total;
}


static void
db_exposition_numbers(db_exposition_t *e, db_metrics_t *metrics,
    const db_exposition_number_t *number, const char *type, int living)
{
    for ( /* void */ ; number->name; number++) {
        db_exposition_begin(e, number->name, type, number->help);
        db_exposition_number(e, db_exposition_total(metrics, number->member,
                                                    living),
                             db_exposition_uint);
        db_exposition_end(e);
    }
}


static void
db_exposition_rows(db_exposition_t *e, db_metrics_t *metrics, size_t member)
{
    unsigned             i;
    db_histogram_sum_t   sum;

    memset(&sum, 0, sizeof(db_histogram_sum_t));

    for (i = 0; i < db_metrics_nrows(metrics); i++) {
        db_histogram_add(&sum, (db_histogram_t *)
                               ((char *) db_metrics_row(metrics, i)
                                + member));
    }

    db_exposition_histogram(e, &sum);
}


static void
db_exposition_histograms_all(db_exposition_t *e, db_metrics_t *metrics)
{
    unsigned                        i;
    const db_exposition_number_t   *number;

    static const db_str_t  operations[] = {
        db_string("read"), db_string("write")
    };

    for (number = db_exposition_histograms; number->name; number++) {
        db_exposition_begin(e, number->name, "histogram", number->help);
        db_exposition_rows(e, metrics, number->member);
        db_exposition_end(e);
    }

    db_exposition_begin(e, "databridge_store_duration_seconds", "histogram",
                        "Operations of native CRUD in its store.");

    for (i = 0; i < DB_METRICS_OPERATIONS; i++) {
        e->labels.len = 0;
        db_exposition_label(e, "operation", operations[i]);
        db_exposition_rows(e, metrics, db_row_member(store)
                                       + i * sizeof(db_histogram_t));
    }

    e->labels.len = 0;
    db_exposition_end(e);
}


/* What has to be made of the rows first. */

static void
db_exposition_zone(db_exposition_t *e, db_metrics_t *metrics)
{
    unsigned   i, workers;
    uint64_t   now, turn, busy, taken, submitted;

    /* in this order: what is taken meanwhile must not be missed */

    taken = db_exposition_total(metrics, db_row_member(taken), 1);
    submitted = db_exposition_total(metrics, db_row_member(submitted), 1);

    db_exposition_begin(e, "databridge_queue_depth", "gauge",
                        "Requests handed over that Python has not yet "
                        "taken.");
    db_exposition_number(e, submitted > taken ? submitted - taken : 0,
                         db_exposition_uint);
    db_exposition_end(e);

    workers = 0;
    busy = 0;
    now = db_clock_now();

    for (i = 0; i < db_metrics_nrows(metrics); i++) {

        if (!db_metrics_alive(metrics, i)) {
            continue;
        }

        workers++;
        turn = db_counter_get(&db_metrics_row(metrics, i)->turn);

        if (turn && turn < now && now - turn > busy) {
            busy = now - turn;
        }
    }

    db_exposition_begin(e, "databridge_loop_busy_seconds", "gauge",
                        "How long the worker's event loop that is worst off "
                        "has been in its present turn.");
    db_exposition_number(e, busy, db_exposition_seconds);
    db_exposition_end(e);

    db_exposition_begin(e, "databridge_workers", "gauge",
                        "Workers that live, with those that are quitting.");
    db_exposition_number(e, workers, db_exposition_uint);
    db_exposition_end(e);

    db_exposition_begin(e, "databridge_metrics_slots", "gauge",
                        "Routes and methods that the zone has room for.");
    db_exposition_number(e, db_metrics_nslots(metrics) - 1,
                         db_exposition_uint);
    db_exposition_end(e);

    db_exposition_begin(e, "databridge_metrics_slots_used", "gauge",
                        "Routes and methods that the zone holds.");
    db_exposition_number(e, db_metrics_used(metrics) - 1,
                         db_exposition_uint);
    db_exposition_end(e);
}


int
db_exposition_write(db_buf_t *out, db_metrics_t *metrics,
    db_exposition_format_t format)
{
    db_exposition_t  e;

    memset(&e, 0, sizeof(db_exposition_t));

    e.out = out;
    e.format = format;
    db_buf_init(&e.labels, out->arena, 1024);

    db_exposition_requests(&e, metrics);
    db_exposition_durations(&e, metrics);
    db_exposition_numbers(&e, metrics, db_exposition_gauges, "gauge", 1);
    db_exposition_zone(&e, metrics);
    db_exposition_histograms_all(&e, metrics);
    db_exposition_numbers(&e, metrics, db_exposition_counters, "counter", 0);

    if (format == DB_EXPOSITION_JSON) {
        db_buf_lit(out, "}\n");
    }

    return out->failed || e.labels.failed ? DB_ERROR : DB_OK;
}
