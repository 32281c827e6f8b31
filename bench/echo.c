/*
 * A WebSocket client at full speed: each connection sends a text message of
 * 32 bytes and, when its echo is whole, the next one.
 *
 * usage: echo PORT PATH SECONDS CONNECTIONS
 * prints: MESSAGES SECONDS
 */

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>


#define SIZE  32


typedef struct {
    int      fd;
    size_t   have;
    int      open;                  /* the handshake is done */
    char     buf[4096];
} conn_t;


static char    handshake[512];
static size_t  handshake_len;
static char    frame[6 + SIZE];
static size_t  done;


static double
now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec + ts.tv_nsec / 1e9;
}


static void
fail(const char *what)
{
    perror(what);
    exit(1);
}


static void
conn_send(conn_t *c, const char *data, size_t len)
{
    if (send(c->fd, data, len, MSG_NOSIGNAL) != (ssize_t) len) {
        fail("send");
    }
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

    conn_send(c, handshake, handshake_len);
}


/* Frames of servers are not masked: two bytes, then the message. */

static int
conn_complete(conn_t *c)
{
    if (c->open) {
        if (c->have >= 2 && (c->buf[0] != frame[0] || c->buf[1] != SIZE)) {
            fprintf(stderr, "not an echo\n");
            exit(1);
        }

        return c->have >= 2 + SIZE;
    }

    c->buf[c->have] = '\0';

    if (strstr(c->buf, "\r\n\r\n") == NULL) {
        return 0;
    }

    if (strncmp(c->buf + 8, " 101", 4) != 0) {
        fprintf(stderr, "refused: %s\n", c->buf);
        exit(1);
    }

    c->open = 1;

    return 1;
}


static void
conn_read(conn_t *c)
{
    int      opened;
    ssize_t  n;

    n = recv(c->fd, c->buf + c->have, sizeof(c->buf) - 1 - c->have, 0);

    if (n <= 0) {
        fprintf(stderr, "the server closed a connection\n");
        exit(1);
    }

    c->have += n;
    opened = c->open;

    if (conn_complete(c)) {
        c->have = 0;
        done += opened;
        conn_send(c, frame, sizeof(frame));
    }
}


int
main(int argc, char **argv)
{
    int                 ep, n, i, nconns;
    double              start, seconds;
    conn_t             *conns;
    struct epoll_event  events[64];

    if (argc != 5) {
        fprintf(stderr, "usage: echo PORT PATH SECONDS CONNECTIONS\n");
        return 2;
    }

    seconds = atof(argv[3]);
    nconns = atoi(argv[4]);

    handshake_len = snprintf(handshake, sizeof(handshake),
                             "GET %s HTTP/1.1\r\nHost: bench\r\n"
                             "Connection: Upgrade\r\nUpgrade: websocket\r\n"
                             "Sec-WebSocket-Version: 13\r\n"
                             "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
                             "\r\n", argv[2]);

    frame[0] = (char) 0x81;             /* final, text */
    frame[1] = (char) (0x80 | SIZE);    /* masked, by zeros */
    memset(frame + 6, 'a', SIZE);

    conns = calloc(nconns, sizeof(conn_t));
    ep = epoll_create1(0);

    if (conns == NULL || ep == -1) {
        fail("echo");
    }

    for (i = 0; i < nconns; i++) {
        conn_open(&conns[i], ep, atoi(argv[1]));
    }

    start = now();

    while (now() - start < seconds) {
        n = epoll_wait(ep, events, 64, 100);

        for (i = 0; i < n; i++) {
            conn_read(events[i].data.ptr);
        }
    }

    printf("%zu %.3f\n", done, now() - start);

    return 0;
}
