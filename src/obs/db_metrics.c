/*
 * The zone is one struct, followed by the hashes of the slots' keys, the
 * rows and the slots.  A slot is in use when its hash is not 0: the hash is
 * written last when a slot is made, and cleared first when it is taken away.
 */

#include "obs/db_metrics.h"

#include <errno.h>
#include <signal.h>


#define DB_METRICS_MAGIC  0x6461746162726467ull     /* "databrdg" */

#define DB_METRICS_LINE   64
#define DB_METRICS_ROWS   4                         /* a worker */


struct db_metrics_s {
    uint64_t           magic;
    uint32_t           layout;
    uint32_t           nrows;
    uint32_t           nslots;       /* the first one is "other" */
    uint32_t           nshards;
    uint32_t           stride;       /* from slot to slot, bytes */

    _Atomic uint32_t   last;         /* generation given out */
    _Atomic uint32_t   live;
    _Atomic uint32_t   warned;       /* generation that was told "full" */

    size_t             rows;         /* offsets: processes may map it */
    size_t             slots;        /* at other addresses */
    _Atomic uint32_t   hashes[];
};


/* All that nginx and applications commonly send; the last are classes. */

static const struct {
    unsigned     status;
    const char  *label;
} db_metrics_statuses[DB_METRICS_STATUSES] = {
    { 200, "200" }, { 404, "404" }, { 201, "201" }, { 204, "204" },
    { 422, "422" }, { 304, "304" }, { 400, "400" }, { 401, "401" },
    { 403, "403" }, { 500, "500" }, { 503, "503" }, { 504, "504" },
    { 101, "101" }, { 202, "202" }, { 206, "206" }, { 301, "301" },
    { 302, "302" }, { 303, "303" }, { 307, "307" }, { 308, "308" },
    { 405, "405" }, { 406, "406" }, { 408, "408" }, { 409, "409" },
    { 410, "410" }, { 412, "412" }, { 413, "413" }, { 415, "415" },
    { 416, "416" }, { 429, "429" }, { 431, "431" }, { 499, "499" },
    { 501, "501" }, { 502, "502" },
    { 0, "1xx" }, { 0, "2xx" }, { 0, "3xx" }, { 0, "4xx" }, { 0, "5xx" },
    { 0, "none" }
};

#define DB_METRICS_CLASSES  34


static size_t
db_metrics_align(size_t size)
{
    return (size + DB_METRICS_LINE - 1) & ~(size_t) (DB_METRICS_LINE - 1);
}


static db_metrics_slot_t *
db_metrics_get(const db_metrics_t *metrics, unsigned i)
{
    return (db_metrics_slot_t *) ((char *) metrics + metrics->slots
                                  + (size_t) i * metrics->stride);
}


static unsigned char
db_metrics_copy(char *to, db_str_t from, size_t size)
{
    if (from.len > size) {

        /* not within a character */

        for (from.len = size; from.len; from.len--) {
            if ((from.data[from.len] & 0xc0) != 0x80) {
                break;
            }
        }
    }

    if (from.len) {
        memcpy(to, from.data, from.len);
    }

    return (unsigned char) from.len;
}


static void
db_metrics_fill(db_metrics_t *metrics, unsigned i,
    const db_metrics_key_t *key, uint32_t hash, uint32_t generation)
{
    db_metrics_slot_t  *slot;

    slot = db_metrics_get(metrics, i);

    atomic_store(&metrics->hashes[i], 0);
    atomic_fetch_add(&slot->version, 1);

    memset(slot->shards, 0, metrics->nshards * sizeof(db_metrics_shard_t));

    slot->app_len = db_metrics_copy(slot->app, key->app, DB_METRICS_APP);
    slot->method_len = db_metrics_copy(slot->method, key->method,
                                       DB_METRICS_METHOD);
    slot->route_len = db_metrics_copy(slot->route, key->route,
                                      DB_METRICS_ROUTE);
    slot->generation = generation;

    atomic_store(&metrics->hashes[i], hash);
}


db_metrics_t *
db_metrics_create(void *memory, size_t size, unsigned workers)
{
    size_t             fixed, each;
    db_metrics_t      *metrics;
    db_metrics_key_t   other;

    metrics = memory;

    metrics->layout = DB_METRICS_LAYOUT;
    metrics->nrows = workers * DB_METRICS_ROWS;
    metrics->nshards = workers < DB_METRICS_SHARDS ? workers
                                                   : DB_METRICS_SHARDS;
    metrics->stride = db_metrics_align(sizeof(db_metrics_slot_t)
                                       + metrics->nshards
                                         * sizeof(db_metrics_shard_t));

    fixed = db_metrics_align(sizeof(db_metrics_t)) + DB_METRICS_LINE
            + metrics->nrows * db_metrics_align(sizeof(db_metrics_row_t));
    each = metrics->stride + sizeof(uint32_t);

    if (size < fixed + (workers + 1) * each) {
        return NULL;
    }

    metrics->nslots = (size - fixed) / each;
    metrics->rows = db_metrics_align(sizeof(db_metrics_t)
                                     + metrics->nslots * sizeof(uint32_t));
    metrics->slots = metrics->rows
                     + metrics->nrows
                       * db_metrics_align(sizeof(db_metrics_row_t));

    other.app = db_string("other");
    other.method = db_string("other");
    other.route = db_string("other");

    /* a hash that no key has: it is never found, and never reclaimed */

    db_metrics_fill(metrics, 0, &other, 1, 0);

    metrics->magic = DB_METRICS_MAGIC;

    return metrics;
}


int
db_metrics_valid(const db_metrics_t *metrics)
{
    return metrics->magic == DB_METRICS_MAGIC
           && metrics->layout == DB_METRICS_LAYOUT;
}


uint32_t
db_metrics_generation(db_metrics_t *metrics)
{
    return atomic_fetch_add(&metrics->last, 1) + 1;
}


void
db_metrics_live(db_metrics_t *metrics, uint32_t generation)
{
    uint32_t  live;

    live = atomic_load(&metrics->live);

    while (live < generation
           && !atomic_compare_exchange_weak(&metrics->live, &live,
                                            generation))
    {
        /* "live" is read anew */
    }
}


static int
db_metrics_dead(pid_t pid)
{
    return kill(pid, 0) == -1 && errno == ESRCH;
}


db_metrics_row_t *
db_metrics_claim(db_metrics_t *metrics, pid_t pid)
{
    pid_t              owner;
    unsigned           i;
    db_metrics_row_t  *row, *free;

    free = NULL;

    for (i = metrics->nrows; i-- > 0; /* void */ ) {
        row = db_metrics_row(metrics, i);
        owner = (pid_t) db_counter_get(&row->pid);

        if (owner && (owner == pid || db_metrics_dead(owner))) {
            db_counter_add(&row->crashes, 1);
            db_counter_set(&row->pid, 0);
            owner = 0;
        }

        if (owner == 0) {
            free = row;
        }
    }

    if (free) {
        db_counter_set(&free->in_flight, 0);
        db_counter_set(&free->submitted, 0);
        db_counter_set(&free->unanswered, 0);
        db_counter_set(&free->sockets, 0);
        db_counter_set(&free->taken, 0);
        db_counter_set(&free->turn, 0);
        db_counter_set(&free->threads, 0);
        db_counter_set(&free->threads_busy, 0);
        db_counter_set(&free->threads_waiting, 0);
        db_counter_add(&free->starts, 1);
        db_counter_set(&free->pid, (uint64_t) pid);
    }

    return free;
}


void
db_metrics_release(db_metrics_row_t *row, pid_t pid)
{
    if (db_counter_get(&row->pid) == (uint64_t) pid) {
        db_counter_set(&row->pid, 0);
    }
}


/* Never 0, nor that of "other". */

static uint32_t
db_metrics_hash(const db_metrics_key_t *key)
{
    size_t     i, k;
    uint32_t   hash;
    db_str_t   parts[3];

    parts[0] = key->app;
    parts[1] = key->method;
    parts[2] = key->route;

    hash = 2166136261u;

    for (k = 0; k < 3; k++) {
        for (i = 0; i < parts[k].len; i++) {
            hash = (hash ^ (unsigned char) parts[k].data[i]) * 16777619u;
        }

        hash = (hash ^ 0xff) * 16777619u;
    }

    return hash > 1 ? hash : 2;
}


static int
db_metrics_match(const db_metrics_slot_t *slot, const db_metrics_key_t *key)
{
    return db_str_eq((db_str_t) { slot->app, slot->app_len }, key->app)
           && db_str_eq((db_str_t) { slot->method, slot->method_len },
                        key->method)
           && db_str_eq((db_str_t) { slot->route, slot->route_len },
                        key->route);
}


/* As the slot keeps it. */

static db_metrics_key_t
db_metrics_cut(const db_metrics_key_t *key, db_metrics_slot_t *room)
{
    db_metrics_key_t  cut;

    cut.app.data = room->app;
    cut.app.len = db_metrics_copy(room->app, key->app, DB_METRICS_APP);
    cut.method.data = room->method;
    cut.method.len = db_metrics_copy(room->method, key->method,
                                     DB_METRICS_METHOD);
    cut.route.data = room->route;
    cut.route.len = db_metrics_copy(room->route, key->route,
                                    DB_METRICS_ROUTE);

    return cut;
}


static db_metrics_slot_t *
db_metrics_lookup(db_metrics_t *metrics, const db_metrics_key_t *key,
    uint32_t hash, uint32_t generation)
{
    unsigned            i;
    db_metrics_slot_t  *slot;

    for (i = 1; i < metrics->nslots; i++) {

        if (atomic_load_explicit(&metrics->hashes[i], memory_order_relaxed)
            != hash)
        {
            continue;
        }

        slot = db_metrics_get(metrics, i);

        if (db_metrics_match(slot, key)) {
            if (slot->generation < generation) {
                slot->generation = generation;
            }

            return slot;
        }
    }

    return NULL;
}


/* A free slot, else one that the live generation does not use; or 0. */

static unsigned
db_metrics_room(const db_metrics_t *metrics, uint32_t generation)
{
    unsigned  i;

    for (i = 1; i < metrics->nslots; i++) {
        if (atomic_load(&metrics->hashes[i]) == 0) {
            return i;
        }
    }

    if (generation != atomic_load(&metrics->live)) {
        return 0;
    }

    for (i = 1; i < metrics->nslots; i++) {
        if (db_metrics_get(metrics, i)->generation < generation) {
            return i;
        }
    }

    return 0;
}


db_metrics_slot_t *
db_metrics_slot(db_metrics_t *metrics, const db_metrics_key_t *key,
    uint32_t generation, int *full)
{
    unsigned            i;
    uint32_t            hash;
    db_metrics_key_t    cut;
    db_metrics_slot_t   room, *slot;

    *full = 0;

    cut = db_metrics_cut(key, &room);
    hash = db_metrics_hash(&cut);
    slot = db_metrics_lookup(metrics, &cut, hash, generation);

    if (slot) {
        return slot;
    }

    i = db_metrics_room(metrics, generation);

    if (i) {
        db_metrics_fill(metrics, i, &cut, hash, generation);

    } else {
        *full = atomic_exchange(&metrics->warned, generation) != generation;
    }

    return db_metrics_get(metrics, i);
}


db_metrics_slot_t *
db_metrics_find(db_metrics_t *metrics, const db_metrics_key_t *key,
    uint32_t generation)
{
    db_metrics_key_t   cut;
    db_metrics_slot_t  room;

    cut = db_metrics_cut(key, &room);

    return db_metrics_lookup(metrics, &cut, db_metrics_hash(&cut),
                             generation);
}


static unsigned
db_metrics_status_index(unsigned status)
{
    unsigned  i;

    for (i = 0; i < DB_METRICS_CLASSES; i++) {
        if (db_metrics_statuses[i].status == status) {
            return i;
        }
    }

    if (status >= 100 && status < 600) {
        return DB_METRICS_CLASSES + status / 100 - 1;
    }

    return DB_METRICS_STATUSES - 1;
}


void
db_metrics_count(db_metrics_slot_t *slot, unsigned shard, unsigned status,
    uint64_t ns)
{
    db_metrics_shard_t  *counts;

    counts = &slot->shards[shard];

    db_counter_add_shared(
        &counts->statuses[db_metrics_status_index(status)], 1);

    /* how long a WebSocket was open says nothing about how fast we are */

    if (status != 101) {
        db_histogram_observe_shared(&counts->duration, ns);
    }
}


unsigned
db_metrics_nrows(const db_metrics_t *metrics)
{
    return metrics->nrows;
}


unsigned
db_metrics_nslots(const db_metrics_t *metrics)
{
    return metrics->nslots;
}


unsigned
db_metrics_used(const db_metrics_t *metrics)
{
    unsigned  i, used;

    used = 0;

    for (i = 0; i < metrics->nslots; i++) {
        used += atomic_load(&metrics->hashes[i]) != 0;
    }

    return used;
}


unsigned
db_metrics_nshards(const db_metrics_t *metrics)
{
    return metrics->nshards;
}


db_metrics_row_t *
db_metrics_row(db_metrics_t *metrics, unsigned i)
{
    return (db_metrics_row_t *) ((char *) metrics + metrics->rows
                                 + i * db_metrics_align(
                                           sizeof(db_metrics_row_t)));
}


int
db_metrics_alive(db_metrics_t *metrics, unsigned i)
{
    pid_t  pid;

    pid = (pid_t) db_counter_get(&db_metrics_row(metrics, i)->pid);

    return pid != 0 && !db_metrics_dead(pid);
}


db_metrics_slot_t *
db_metrics_slot_at(db_metrics_t *metrics, unsigned i)
{
    return atomic_load(&metrics->hashes[i]) ? db_metrics_get(metrics, i)
                                            : NULL;
}


const char *
db_metrics_status(unsigned i)
{
    return i < DB_METRICS_STATUSES ? db_metrics_statuses[i].label : NULL;
}
