/*
 * An open-loop HTTP client: sends GETs at a fixed rate over keep-alive
 * connections and measures each from the moment it was due, so that a server
 * that stalls is charged for every request it kept waiting.  It asks for
 * short turns of the processor: else the latencies beside a load generator
 * that saturates the same core would be those of its own waiting for it.
 *
 * usage: rate PORT PATH RATE SECONDS CONNECTIONS
 * prints: REQUESTS ERRORS P50 P99 P999 MAX REFUSED, times in microseconds;
 * refused are those of the errors that were a 503 with Retry-After
 */

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "core/db_thread.h"


#define SLICE  100000               /* ns, the least there is */
#define GRACE  2000000000LL         /* ns for the last answers */


#define LAST_CHUNK  "\r\n0\r\n\r\n"  /* no body of a bench ends so */
#define LAST_LEN    (sizeof(LAST_CHUNK) - 1)


typedef struct {
    int      fd;
    int      begun;                 /* the header is whole */
    int64_t  due;                   /* of the request on its way, or 0 */
    int64_t  left;                  /* of the body, or -1: chunked */
    size_t   have;
    char     buf[65536];
} conn_t;


static char     request[1024];
static size_t   request_len;
static double  *latencies;
static size_t   done, errors, refused;


static int64_t
now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}


static void
fail(const char *what)
{
    perror(what);
    exit(1);
}


static void
conn_open(conn_t *c, int ep, int port)
{
    int                 on = 1;
    struct epoll_event  ee = { .events = EPOLLIN, .data = { .ptr = c } };
    struct sockaddr_in  sin = { .sin_family = AF_INET };

    sin.sin_port = htons(port);
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    c->fd = socket(AF_INET, SOCK_STREAM, 0);

    if (c->fd == -1
        || connect(c->fd, (struct sockaddr *) &sin, sizeof(sin)) == -1
        || setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1
        || epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ee) == -1)
    {
        fail("connect");
    }
}


static void
conn_send(conn_t *c, int64_t due)
{
    c->due = due;
    c->have = 0;
    c->begun = 0;

    if (send(c->fd, request, request_len, MSG_NOSIGNAL)
        != (ssize_t) request_len)
    {
        fail("send");
    }
}


static void
conn_begin(conn_t *c)
{
    char  *end, *length;

    c->buf[c->have] = '\0';

    end = strstr(c->buf, "\r\n\r\n");
    if (end == NULL) {
        return;
    }

    c->begun = 1;

    if (strncmp(c->buf + 8, " 200", 4) != 0) {
        errors++;
        refused += strncmp(c->buf + 8, " 503", 4) == 0
                   && strcasestr(c->buf, "\r\nRetry-After:") != NULL;
    }

    length = strcasestr(c->buf, "\r\nContent-Length:");

    if (length && length < end) {
        c->left = strtoull(length + 17, NULL, 10)
                  - (c->buf + c->have - (end + 4));

    } else {
        c->left = -1;
    }
}


/* Whether the response is whole; it has a Content-Length or is chunked. */

static int
conn_read(conn_t *c)
{
    ssize_t  n;

    n = recv(c->fd, c->buf + c->have, sizeof(c->buf) - 1 - c->have, 0);

    if (n <= 0) {
        fprintf(stderr, "the server closed a connection\n");
        exit(1);
    }

    c->have += n;

    if (!c->begun) {
        conn_begin(c);

        if (!c->begun) {
            return 0;
        }

    } else if (c->left != -1) {
        c->left -= n;
    }

    if (c->left > 0
        || (c->left == -1
            && memcmp(c->buf + c->have - LAST_LEN, LAST_CHUNK, LAST_LEN) != 0))
    {
        /* of a body only the end is looked at */

        memmove(c->buf, c->buf + c->have - LAST_LEN, LAST_LEN);
        c->have = LAST_LEN;

        return 0;
    }

    latencies[done++] = (now() - c->due) / 1e3;
    c->due = 0;

    return 1;
}


static int
compare(const void *a, const void *b)
{
    double  x = *(const double *) a, y = *(const double *) b;

    return (x > y) - (x < y);
}


static double
percentile(double p)
{
    return latencies[(size_t) (p * (done - 1))];
}


int
main(int argc, char **argv)
{
    int                  ep, n, i, port, nconns, nidle;
    size_t               sent, total;
    int64_t              start, due, step, t;
    conn_t              *conns, **idle;
    struct timespec      wait;
    struct epoll_event   events[64];

    if (argc != 6) {
        fprintf(stderr, "usage: rate PORT PATH RATE SECONDS CONNECTIONS\n");
        return 2;
    }

    db_thread_slice(SLICE);

    port = atoi(argv[1]);
    step = 1000000000LL / atoi(argv[3]);
    total = (size_t) atoi(argv[3]) * atoi(argv[4]);
    nconns = atoi(argv[5]);

    request_len = snprintf(request, sizeof(request),
                           "GET %s HTTP/1.1\r\nHost: bench\r\n\r\n", argv[2]);

    conns = calloc(nconns, sizeof(conn_t));
    idle = calloc(nconns, sizeof(conn_t *));
    latencies = calloc(total, sizeof(double));
    ep = epoll_create1(0);

    if (conns == NULL || idle == NULL || latencies == NULL || ep == -1) {
        fail("rate");
    }

    for (nidle = 0; nidle < nconns; nidle++) {
        conn_open(&conns[nidle], ep, port);
        idle[nidle] = &conns[nidle];
    }

    start = now() + 1000000;

    for (sent = 0; done < total; /* void */) {
        t = now();

        for (due = start + sent * step;
             sent < total && due <= t && nidle;
             due = start + ++sent * step)
        {
            conn_send(idle[--nidle], due);
        }

        if (t > start + (int64_t) total * step + GRACE) {
            break;
        }

        /* late already and no connection free: only an answer helps */

        t = sent < total && nidle ? due - now() : 100000000;
        t = t < 0 ? 0 : t;

        wait.tv_sec = 0;
        wait.tv_nsec = t;

        n = epoll_pwait2(ep, events, 64, &wait, NULL);

        if (n == -1 && errno != EINTR) {
            fail("epoll_pwait2");
        }

        for (i = 0; i < n; i++) {
            if (conn_read(events[i].data.ptr)) {
                idle[nidle++] = events[i].data.ptr;
            }
        }
    }

    if (done == 0) {
        fprintf(stderr, "no answer at all\n");
        return 1;
    }

    errors += total - done;

    qsort(latencies, done, sizeof(double), compare);

    printf("%zu %zu %.1f %.1f %.1f %.1f %zu\n", done, errors, percentile(0.5),
           percentile(0.99), percentile(0.999), latencies[done - 1], refused);

    return 0;
}
