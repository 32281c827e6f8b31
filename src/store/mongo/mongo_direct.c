/*
 * GET and LIST without waiting: connections that the nginx thread writes
 * commands to and reads replies from, as they come (OP_MSG, one command at a
 * time on each).
 *
 * The driver makes them, on one of the store's threads: it finds the primary
 * and logs in.  Each has a client of its own for that, whose socket the
 * nginx thread then has for itself.  It is closed at the first thing that is
 * not as expected, and what was asked is asked again by the driver, which
 * knows about elections, retries and errors.  TLS, other servers than the
 * primary and commands that are not small are the driver's as well.
 *
 * A connection is the opener's until it is in "fresh", then the nginx
 * thread's until it is in "dead", then whoever takes it from there destroys
 * it.  The rest is the nginx thread's, but for what mongo.h says.
 *
 * https://github.com/mongodb/specifications/blob/master/source/message/
 * OP_MSG.md
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "store/mongo/bson.h"
#include "store/mongo/mongo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>


#define DB_MONGO_CONNECTIONS  16
#define DB_MONGO_SHARE        4           /* of maxPoolSize: one in so many */
#define DB_MONGO_PAUSE        1000000000  /* ns after one that was refused */

#define DB_MONGO_OP_MSG       2013
#define DB_MONGO_MORE_COMES   0x02        /* flags of a message */
#define DB_MONGO_HEADER       21          /* bytes before its document */
#define DB_MONGO_COMMAND      16384       /* bytes that a socket takes */
#define DB_MONGO_REPLY        32768
#define DB_MONGO_CALL         8192        /* a call and its commands, mostly */
#define DB_MONGO_MAX_REPLY    (48 << 20)

/* A reply that would hold up the nginx thread: bytes. */
#define DB_MONGO_LONG_REPLY   (256 << 10)


struct db_mongo_direct_s {
    db_mongo_direct_t      *next;         /* in fresh, idle, closed, dead */
    db_mongo_direct_t      *other;        /* in all */
    db_mongo_t             *store;
    mongoc_client_t        *client;       /* keeps the socket, and no more */
    db_mongo_streams_t      streams;      /* the client's */
    int                     fd;
    db_arena_t             *arena;        /* of the call */
    db_mongo_call_t        *call;         /* under way, or NULL */
    const db_mongo_step_t  *step;         /* the one that was asked */
    uint64_t                deadline;     /* of its reply, ns */
    uint32_t                id;           /* of the last message sent */
    uint32_t                size;         /* of data */
    uint32_t                len;          /* what there is of the reply */
    char                   *data;         /* malloc() */
};


static void
db_mongo_direct_destroy(db_mongo_direct_t *conn)
{
    if (conn->client) {
        mongoc_client_destroy(conn->client);
    }

    if (conn->arena) {
        db_arena_destroy(conn->arena);
    }

    free(conn->data);
    free(conn);
}


/* One that may be asked without saying where to read. */

static int
db_mongo_direct_serves(const mongoc_server_description_t *server)
{
    const char  *type;

    type = mongoc_server_description_type(server);

    return strcmp(type, "Standalone") == 0 || strcmp(type, "RSPrimary") == 0
           || strcmp(type, "Mongos") == 0;
}


/*
 * Finds the primary, and connects and logs in to it.  A command would do so
 * as well, but in a session, of which the driver takes leave at the end.
 */

static mongoc_server_description_t *
db_mongo_direct_greet(mongoc_client_t *client)
{
    uint32_t                      id;
    bson_error_t                  error;
    mongoc_server_description_t  *server;

    server = mongoc_client_select_server(client, true, NULL, &error);

    if (server == NULL) {
        return NULL;
    }

    id = mongoc_server_description_id(server);
    mongoc_server_description_destroy(server);

    return mongoc_client_get_handshake_description(client, id, NULL, &error);
}


static int
db_mongo_direct_connect(db_mongo_direct_t *conn)
{
    mongoc_server_description_t  *server;

    conn->fd = -1;
    conn->client = mongoc_client_new_from_uri(conn->store->uri);

    if (conn->client == NULL) {
        return DB_ERROR;
    }

    mongoc_client_set_stream_initiator(conn->client, db_mongo_initiate,
                                       &conn->streams);

    server = db_mongo_direct_greet(conn->client);

    if (server == NULL) {
        return DB_ERROR;
    }

    if (db_mongo_direct_serves(server)) {
        conn->fd = db_mongo_stream_fd(&conn->streams,
                                      mongoc_server_description_host(server)
                                          ->host_and_port);
    }

    mongoc_server_description_destroy(server);

    return conn->fd == -1 ? DB_ERROR : DB_OK;
}


static void
db_mongo_direct_open(db_mongo_t *store)
{
    db_mongo_direct_t   *conn;
    db_mongo_directs_t  *d;

    d = &store->direct;
    conn = calloc(1, sizeof(db_mongo_direct_t));

    if (conn) {
        conn->store = store;
        conn->arena = db_arena_create(DB_MONGO_CALL);

        if (conn->arena && db_mongo_direct_connect(conn) == DB_OK) {
            conn->next = atomic_load(&d->fresh);

            while (!atomic_compare_exchange_weak(&d->fresh, &conn->next, conn))
            {
                /* void */
            }

            return;
        }

        db_mongo_direct_destroy(conn);
    }

    /* why is told by the operations, which the driver has to do */

    atomic_store(&d->refused, db_mongo_now());
    atomic_fetch_sub(&d->opening, 1);
}


/* One more, if there may be one. */

static void
db_mongo_direct_want(db_mongo_t *store, uint64_t now)
{
    db_mongo_directs_t  *d;

    d = &store->direct;

    if (d->n + atomic_load(&d->opening) >= d->max
        || now - atomic_load(&d->refused) < DB_MONGO_PAUSE)
    {
        return;
    }

    atomic_fetch_add(&d->opening, 1);

    pthread_mutex_lock(&store->mutex);
    d->wanted++;
    pthread_mutex_unlock(&store->mutex);

    pthread_cond_signal(&store->cond);
}


/* No longer used; an event that is being looked at may still name it. */

static void
db_mongo_direct_close(db_mongo_direct_t *conn)
{
    db_mongo_direct_t   **link;
    db_mongo_directs_t   *d;

    d = &conn->store->direct;

    for (link = &d->all; *link != conn; link = &(*link)->other) {
        /* void */
    }

    *link = conn->other;
    d->n--;

    for (link = &d->idle; *link; link = &(*link)->next) {

        if (*link == conn) {
            *link = conn->next;
            break;
        }
    }

    (void) epoll_ctl(d->epoll, EPOLL_CTL_DEL, conn->fd, NULL);
    (void) shutdown(conn->fd, SHUT_RDWR);

    conn->fd = -1;
    conn->next = d->closed;
    d->closed = conn;
}


/* What the driver does at the end is its own affair: not here. */

static void
db_mongo_direct_bury(db_mongo_t *store)
{
    db_mongo_direct_t   *conn;
    db_mongo_directs_t  *d;

    d = &store->direct;

    if (d->closed == NULL || d->busy) {
        return;
    }

    pthread_mutex_lock(&store->mutex);

    while (d->closed) {
        conn = d->closed;
        d->closed = conn->next;

        conn->next = d->dead;
        d->dead = conn;
    }

    pthread_mutex_unlock(&store->mutex);

    pthread_cond_signal(&store->cond);
}


int
db_mongo_direct_work(db_mongo_t *store)
{
    db_mongo_direct_t   *conn;
    db_mongo_directs_t  *d;

    d = &store->direct;
    conn = d->dead;

    if (conn) {
        d->dead = conn->next;
        pthread_mutex_unlock(&store->mutex);
        db_mongo_direct_destroy(conn);

    } else if (d->wanted) {
        d->wanted--;
        pthread_mutex_unlock(&store->mutex);
        db_mongo_direct_open(store);

    } else {
        return 0;
    }

    pthread_mutex_lock(&store->mutex);

    return 1;
}


static void
db_mongo_direct_collect(db_mongo_t *store)
{
    db_mongo_direct_t   *conn, *next;
    db_mongo_directs_t  *d;
    struct epoll_event   ee;

    d = &store->direct;

    if (atomic_load_explicit(&d->fresh, memory_order_relaxed) == NULL) {
        return;
    }

    for (conn = atomic_exchange(&d->fresh, NULL); conn; conn = next) {
        next = conn->next;

        conn->other = d->all;
        d->all = conn;
        d->n++;
        atomic_fetch_sub(&d->opening, 1);

        conn->next = d->idle;
        d->idle = conn;

        ee.events = EPOLLIN|EPOLLRDHUP|EPOLLET;
        ee.data.ptr = conn;

        if (epoll_ctl(d->epoll, EPOLL_CTL_ADD, conn->fd, &ee) == -1) {
            db_mongo_direct_close(conn);
        }
    }
}


/* While anything is under way deadlines are looked at, now and then. */

static void
db_mongo_direct_tick(db_mongo_t *store, int on)
{
    uint64_t           ns;
    struct itimerspec  its;

    if (store->direct.timed == (unsigned) on) {
        return;
    }

    memset(&its, 0, sizeof(its));

    if (on) {
        ns = store->socket_timeout / 4;
        ns = ns < 1000000000 ? ns + 1 : 1000000000;

        its.it_value.tv_sec = (time_t) (ns / 1000000000);
        its.it_value.tv_nsec = (long) (ns % 1000000000);
        its.it_interval = its.it_value;
    }

    if (timerfd_settime(store->direct.timer, 0, &its, NULL) == 0) {
        store->direct.timed = (unsigned) on;
    }
}


static void
db_mongo_direct_header(char *message, uint32_t len, uint32_t id)
{
    unsigned  i;
    uint32_t  header[5] = { len, id, 0, DB_MONGO_OP_MSG, 0 };

    /* little-endian; then flags, none, and the kind of the one section, 0 */

    for (i = 0; i < 5; i++) {
        header[i] = BSON_UINT32_TO_LE(header[i]);
    }

    memcpy(message, header, sizeof(header));
    message[sizeof(header)] = 0;
}


/*
 * Asks the next question of the call.  ASKED; LATER when it cannot be asked
 * here, with the connection closed if that is its fault; or the result.
 */

static db_store_status_t
db_mongo_direct_ask(db_mongo_direct_t *conn)
{
    ssize_t             n;
    db_buf_t            text;
    db_mongo_call_t    *call;
    db_store_status_t   status;

    static const char   header[DB_MONGO_HEADER];

    call = conn->call;
    conn->step = call->step;
    call->step = NULL;

    db_buf_init(&text, conn->arena, 1024);
    db_buf_append(&text, header, DB_MONGO_HEADER);

    status = conn->step->ask(call, &text);

    if (status != DB_STORE_OK) {
        return status;
    }

    if (text.len > DB_MONGO_COMMAND) {
        return DB_STORE_LATER;
    }

    db_mongo_direct_header(text.data, (uint32_t) text.len, ++conn->id);

    do {
        n = send(conn->fd, text.data, text.len, MSG_NOSIGNAL);
    } while (n == -1 && errno == EINTR);

    if (n != (ssize_t) text.len) {
        db_mongo_direct_close(conn);
        return DB_STORE_LATER;
    }

    conn->len = 0;
    conn->deadline = call->started + call->store->socket_timeout;
    db_mongo_direct_tick(call->store, 1);

    return DB_STORE_ASKED;
}


/* The call has a result, which may be that it is the driver's. */

static void
db_mongo_direct_end(db_mongo_direct_t *conn, db_store_status_t status)
{
    db_mongo_directs_t  *d;

    d = &conn->store->direct;

    db_mongo_end(conn->call, status);

    conn->call = NULL;
    db_arena_reset(conn->arena);

    if (conn->size > DB_MONGO_LONG_REPLY) {
        free(conn->data);
        conn->data = NULL;
        conn->size = 0;
    }

    if (conn->fd != -1) {
        conn->next = d->idle;
        d->idle = conn;
    }
}


/* On an idle connection.  op->status is ASKED, or there is a result. */

static db_store_status_t
db_mongo_direct_start(db_mongo_direct_t *conn, db_store_op_t *op)
{
    db_mongo_call_t    *call;
    db_store_status_t   status;

    conn->store->direct.idle = conn->next;

    call = db_arena_alloc(conn->arena, sizeof(db_mongo_call_t));

    if (call == NULL) {
        conn->next = conn->store->direct.idle;
        conn->store->direct.idle = conn;
        op->status = DB_STORE_FAILED;
        return op->status;
    }

    db_mongo_call_init(call, conn->store, op, conn->arena);
    conn->call = call;

    status = db_mongo_first_step(call);

    if (status == DB_STORE_OK) {
        status = db_mongo_direct_ask(conn);
    }

    if (status == DB_STORE_ASKED) {
        op->status = status;

    } else {
        db_mongo_direct_end(conn, status);
    }

    return op->status;
}


static db_store_op_t *
db_mongo_direct_unqueue(db_mongo_directs_t *d)
{
    db_store_op_t  *op;

    op = d->queue;
    d->queue = op->next;
    d->waiting--;

    if (d->queue == NULL) {
        d->tail = &d->queue;
    }

    op->next = NULL;

    return op;
}


/* Those that wait go to connections that do not, or to the driver. */

static void
db_mongo_direct_next(db_mongo_t *store)
{
    db_store_op_t       *op;
    db_mongo_directs_t  *d;

    d = &store->direct;

    while (d->queue && (d->idle || d->n == 0)) {

        op = db_mongo_direct_unqueue(d);

        if (d->idle == NULL) {
            op->status = DB_STORE_LATER;
            op->answered(op);

        } else if (db_mongo_direct_start(d->idle, op) != DB_STORE_ASKED) {
            op->answered(op);
        }
    }
}


static void
db_mongo_direct_answered(db_mongo_direct_t *conn, db_store_status_t status)
{
    db_mongo_t     *store;
    db_store_op_t  *op;

    store = conn->store;
    op = conn->call->op;

    db_mongo_direct_end(conn, status);

    /* the server first, then the client */

    db_mongo_direct_next(store);

    op->answered(op);
}


static void
db_mongo_direct_broken(db_mongo_direct_t *conn, db_store_status_t status)
{
    db_mongo_direct_close(conn);

    if (conn->call) {
        db_mongo_direct_answered(conn, status);
    }
}


/* The document of a whole message, if it answers what was asked. */

static int
db_mongo_direct_document(db_mongo_direct_t *conn, bson_t *reply)
{
    uint32_t  header[5], len;

    memcpy(header, conn->data, sizeof(header));

    if (BSON_UINT32_FROM_LE(header[2]) != conn->id
        || BSON_UINT32_FROM_LE(header[3]) != DB_MONGO_OP_MSG
        || (BSON_UINT32_FROM_LE(header[4]) & DB_MONGO_MORE_COMES)
        || conn->data[sizeof(header)] != 0)
    {
        return DB_ERROR;
    }

    memcpy(&len, conn->data + DB_MONGO_HEADER, sizeof(len));
    len = BSON_UINT32_FROM_LE(len);

    /* a checksum may follow */

    return len <= conn->len - DB_MONGO_HEADER
           && bson_init_static(reply, (uint8_t *) conn->data + DB_MONGO_HEADER,
                               len)
           ? DB_OK : DB_ERROR;
}


/* For the driver, or a thread that has the time: where the answer will be. */

static db_store_status_t
db_mongo_direct_leave(db_mongo_direct_t *conn, const bson_t *reply)
{
    db_str_t        copy;
    db_store_op_t  *op;

    op = conn->call->op;
    copy = db_arena_str(op->out->arena,
                        (db_str_t) { (const char *) bson_get_data(reply),
                                     reply->len });

    op->state = (uint64_t) (uintptr_t) copy.data;

    return DB_STORE_LATER;
}


/* What the server has against it. */

static db_store_status_t
db_mongo_direct_refused(db_mongo_direct_t *conn, const bson_t *reply)
{
    bson_iter_t       iter;
    const char       *message;
    db_mongo_call_t  *call;

    call = conn->call;
    message = "";

    if (bson_iter_init_find(&iter, reply, "errmsg")
        && BSON_ITER_HOLDS_UTF8(&iter))
    {
        message = bson_iter_utf8(&iter, NULL);
    }

    bson_set_error(&call->error, MONGOC_ERROR_SERVER,
                   bson_iter_init_find(&iter, reply, "code")
                   ? (uint32_t) bson_iter_as_int64(&iter) : 0, "%s", message);

    if (db_mongo_status(call) == DB_STORE_AWAY) {

        /* no primary any more */

        db_mongo_direct_close(conn);
        return DB_STORE_LATER;
    }

    return db_mongo_failed(call, "a read");
}


static db_store_status_t
db_mongo_direct_answer(db_mongo_direct_t *conn, const bson_t *reply)
{
    bson_iter_t        iter;
    db_store_status_t  status;

    if (!bson_iter_init_find(&iter, reply, "ok")
        || !bson_iter_as_bool(&iter))
    {
        return db_mongo_direct_refused(conn, reply);
    }

    if (reply->len > DB_MONGO_LONG_REPLY) {
        return db_mongo_direct_leave(conn, reply);
    }

    status = conn->step->answer(conn->call, reply);

    if (status == DB_STORE_LATER) {
        return db_mongo_direct_leave(conn, reply);
    }

    return status == DB_STORE_OK && conn->call->step
           ? db_mongo_direct_ask(conn) : status;
}


/* All of a message is there. */

static void
db_mongo_direct_message(db_mongo_direct_t *conn)
{
    bson_t             reply;
    db_store_status_t  status;

    if (db_mongo_direct_document(conn, &reply) != DB_OK) {
        db_mongo_direct_broken(conn, DB_STORE_LATER);
        return;
    }

    status = db_mongo_direct_answer(conn, &reply);

    if (status != DB_STORE_ASKED) {
        db_mongo_direct_answered(conn, status);
    }
}


/* The length of the message, once it is known; 0; DB_ERROR: of none. */

static int
db_mongo_direct_length(db_mongo_direct_t *conn)
{
    uint32_t  len;

    if (conn->len < sizeof(len)) {
        return 0;
    }

    memcpy(&len, conn->data, sizeof(len));
    len = BSON_UINT32_FROM_LE(len);

    return len > DB_MONGO_HEADER && len <= DB_MONGO_MAX_REPLY ? (int) len
                                                              : DB_ERROR;
}


static int
db_mongo_direct_room(db_mongo_direct_t *conn, int len)
{
    char      *data;
    uint32_t   size;

    size = len > DB_MONGO_REPLY ? (uint32_t) len : DB_MONGO_REPLY;

    if (size > conn->size) {
        data = realloc(conn->data, size);

        if (data == NULL) {
            return DB_ERROR;
        }

        conn->data = data;
        conn->size = size;
    }

    return DB_OK;
}


/* There is something to be read, or the server has left. */

static void
db_mongo_direct_read(db_mongo_direct_t *conn)
{
    int      len;
    ssize_t  n;
    size_t   room;

    len = 0;

    while (conn->call && db_mongo_direct_room(conn, len) == DB_OK) {

        room = conn->size - conn->len;
        n = recv(conn->fd, conn->data + conn->len, room, 0);

        if (n == -1 && errno == EINTR) {
            continue;
        }

        if (n == -1 && errno == EAGAIN) {
            return;
        }

        if (n <= 0) {
            break;
        }

        conn->len += (uint32_t) n;
        len = db_mongo_direct_length(conn);

        if (len == DB_ERROR || (len && conn->len > (uint32_t) len)) {
            break;
        }

        if (len && conn->len == (uint32_t) len) {
            db_mongo_direct_message(conn);
            return;
        }

        if ((size_t) n < room) {
            return;
        }
    }

    db_mongo_direct_broken(conn, DB_STORE_LATER);
}


/* Of those that wait, the ones that were asked until then. */

static void
db_mongo_direct_give_up(db_mongo_directs_t *d, uint64_t asked,
    db_store_status_t status)
{
    db_store_op_t  *op;

    while (d->queue && d->queue->asked <= asked) {
        op = db_mongo_direct_unqueue(d);
        op->status = status;
        op->answered(op);
    }
}


static db_mongo_direct_t *
db_mongo_direct_late(db_mongo_directs_t *d, uint64_t now)
{
    db_mongo_direct_t  *conn;

    for (conn = d->all; conn; conn = conn->other) {

        if (conn->call && conn->deadline <= now) {
            break;
        }
    }

    return conn;
}


static void
db_mongo_direct_expire(db_mongo_t *store)
{
    uint64_t             now, expirations;
    db_mongo_direct_t   *conn;
    db_mongo_directs_t  *d;

    d = &store->direct;
    now = db_mongo_now();

    if (read(d->timer, &expirations, sizeof(expirations)) == -1) {
        return;
    }

    conn = db_mongo_direct_late(d, now);

    if (conn) {

        /* whoever has waited behind it would wait as long in vain */

        atomic_store(&store->failed, now);
        db_mongo_log(store, DB_LOG_ERROR, "a read", "no reply in time");
        db_mongo_direct_give_up(d, now, DB_STORE_AWAY);
    }

    while (conn) {
        db_mongo_direct_broken(conn, DB_STORE_TIMEOUT);
        conn = db_mongo_direct_late(d, now);
    }

    if (d->queue && now - d->queue->asked > DB_MONGO_WAIT * 1000000ull) {
        db_mongo_log_late(store);
        db_mongo_direct_give_up(d, now - DB_MONGO_WAIT * 1000000ull,
                                DB_STORE_BUSY);
    }

    if (db_mongo_direct_late(d, UINT64_MAX) == NULL) {
        db_mongo_direct_tick(store, 0);
    }
}


void
db_mongo_event(db_store_t *base)
{
    db_mongo_t *store = (db_mongo_t *) base;

    int                  i, n, expired;
    db_mongo_direct_t   *conn;
    db_mongo_directs_t  *d;
    struct epoll_event   events[DB_MONGO_CONNECTIONS + 1];

    d = &store->direct;
    d->busy = 1;
    expired = 0;

    n = epoll_wait(d->epoll, events, DB_MONGO_CONNECTIONS + 1, 0);

    for (i = 0; i < n; i++) {
        conn = events[i].data.ptr;

        if (conn == NULL) {
            expired = 1;

        } else if (conn->fd != -1) {
            db_mongo_direct_read(conn);
        }
    }

    if (expired) {
        db_mongo_direct_expire(store);
    }

    db_mongo_direct_collect(store);
    db_mongo_direct_next(store);

    d->busy = 0;
    db_mongo_direct_bury(store);
}


db_store_status_t
db_mongo_direct(db_mongo_t *store, db_store_op_t *op)
{
    db_mongo_directs_t  *d;

    d = &store->direct;

    if (d->max == 0 || !db_mongo_is_ready(store, op->collection)) {
        return DB_STORE_LATER;
    }

    db_mongo_direct_collect(store);

    if (d->idle == NULL) {
        db_mongo_direct_want(store, op->asked);

        if (d->n < d->max || d->waiting == DB_MONGO_QUEUE) {
            return DB_STORE_LATER;
        }

        op->next = NULL;
        *d->tail = op;
        d->tail = &op->next;
        d->waiting++;

        return DB_STORE_ASKED;
    }

    (void) db_mongo_direct_start(d->idle, op);
    db_mongo_direct_bury(store);

    return op->status;
}


/* What the driver would have to add to each command is left to it. */

static int
db_mongo_direct_may(const mongoc_uri_t *uri)
{
    return !mongoc_uri_get_tls(uri)
           && !mongoc_uri_get_option_as_bool(uri, MONGOC_URI_LOADBALANCED,
                                             false)
           && mongoc_read_concern_get_level(mongoc_uri_get_read_concern(uri))
              == NULL
           && mongoc_read_prefs_get_mode(mongoc_uri_get_read_prefs_t(uri))
              == MONGOC_READ_PRIMARY;
}


int
db_mongo_fd(db_store_t *base)
{
    db_mongo_t *store = (db_mongo_t *) base;

    db_mongo_directs_t  *d;
    struct epoll_event   ee;

    d = &store->direct;

    if (!db_mongo_direct_may(store->uri)) {
        return -1;
    }

    d->epoll = epoll_create1(EPOLL_CLOEXEC);
    d->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK|TFD_CLOEXEC);

    ee.events = EPOLLIN;
    ee.data.ptr = NULL;

    return d->epoll != -1 && d->timer != -1
           && epoll_ctl(d->epoll, EPOLL_CTL_ADD, d->timer, &ee) == 0
           ? d->epoll : -1;
}


void
db_mongo_watch(db_store_t *base)
{
    db_mongo_t *store = (db_mongo_t *) base;

    unsigned  max;

    max = db_mongo_pool_size(store) / DB_MONGO_SHARE;

    store->direct.max = max < DB_MONGO_CONNECTIONS ? max
                                                   : DB_MONGO_CONNECTIONS;
}


void
db_mongo_direct_init(db_mongo_directs_t *d)
{
    d->epoll = -1;
    d->timer = -1;
    d->tail = &d->queue;
}


/* No thread is left, and no operation. */

void
db_mongo_direct_done(db_mongo_t *store)
{
    db_mongo_direct_t   *conn;
    db_mongo_directs_t  *d;

    d = &store->direct;

    if (d->epoll != -1) {
        db_mongo_direct_collect(store);

        while (d->all) {
            db_mongo_direct_close(d->all);
        }

        db_mongo_direct_bury(store);
        close(d->epoll);
    }

    if (d->timer != -1) {
        close(d->timer);
    }

    while (d->dead) {
        conn = d->dead;
        d->dead = conn->next;
        db_mongo_direct_destroy(conn);
    }
}
