/*
 * The least that can serve the streamed response of bench/app.py: 4 MiB in
 * chunks of 64 KiB, handed to writev() until the socket is full.  What it
 * costs is the kernel's part of what any server costs.
 *
 * usage: writev PORT
 */

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>


#define CHUNK   (64 * 1024)
#define CHUNKS  64
#define PARTS   (3 * CHUNKS + 2)


typedef struct {
    int     fd;
    size_t  left;                   /* bytes of the response, 0: no request */
} conn_t;


static char          chunk[CHUNK];
static struct iovec  response[PARTS];
static size_t        response_len, nparts;


static void
fail(const char *what)
{
    perror(what);
    exit(1);
}


static void
response_add(const char *data, size_t len)
{
    response[nparts].iov_base = (char *) data;
    response[nparts++].iov_len = len;
    response_len += len;
}


static void
response_init(void)
{
    int          i;
    static char  head[] = "HTTP/1.1 200 OK\r\n"
                          "Transfer-Encoding: chunked\r\n\r\n";

    response_add(head, sizeof(head) - 1);

    for (i = 0; i < CHUNKS; i++) {
        response_add("10000\r\n", 7);
        response_add(chunk, CHUNK);
        response_add("\r\n", 2);
    }

    response_add("0\r\n\r\n", 5);
}


/* Writes what the socket takes; 0 when the client has left. */

static int
conn_write(conn_t *c)
{
    size_t        skip, i;
    ssize_t       n;
    struct iovec  rest[PARTS];

    skip = response_len - c->left;

    for (i = 0; skip >= response[i].iov_len; i++) {
        skip -= response[i].iov_len;
    }

    memcpy(rest, &response[i], (nparts - i) * sizeof(struct iovec));

    rest[0].iov_base = (char *) rest[0].iov_base + skip;
    rest[0].iov_len -= skip;

    n = writev(c->fd, rest, nparts - i);

    if (n == -1) {
        return errno == EAGAIN;
    }

    c->left -= n;

    return 1;
}


/* A request is one packet here; what it asks for does not matter. */

static int
conn_read(conn_t *c)
{
    char     buf[4096];
    ssize_t  n;

    n = recv(c->fd, buf, sizeof(buf), 0);

    if (n > 0) {
        c->left = response_len;
        return 1;
    }

    return n == -1 && errno == EAGAIN;
}


static void
conn_accept(int ep, int listener)
{
    int                 fd, on = 1;
    conn_t             *c;
    struct epoll_event  ee = { .events = EPOLLIN|EPOLLOUT|EPOLLET };

    fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    c = calloc(1, sizeof(conn_t));

    if (fd == -1 || c == NULL
        || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1)
    {
        fail("accept");
    }

    c->fd = fd;
    ee.data.ptr = c;

    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ee) == -1) {
        fail("epoll_ctl");
    }
}


int
main(int argc, char **argv)
{
    int                  ep, listener, n, i, on = 1;
    conn_t              *c;
    struct epoll_event   ee = { .events = EPOLLIN }, events[64];
    struct sockaddr_in   sin = { .sin_family = AF_INET };

    if (argc != 2) {
        fprintf(stderr, "usage: writev PORT\n");
        return 2;
    }

    signal(SIGPIPE, SIG_IGN);
    response_init();

    sin.sin_port = htons(atoi(argv[1]));
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    ep = epoll_create1(0);
    listener = socket(AF_INET, SOCK_STREAM, 0);

    if (ep == -1 || listener == -1
        || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on,
                      sizeof(on)) == -1
        || bind(listener, (struct sockaddr *) &sin, sizeof(sin)) == -1
        || listen(listener, 512) == -1
        || epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ee) == -1)
    {
        fail("listen");
    }

    for ( ;; ) {
        n = epoll_wait(ep, events, 64, -1);

        for (i = 0; i < n; i++) {
            c = events[i].data.ptr;

            if (c == NULL) {
                conn_accept(ep, listener);

            } else if ((c->left == 0 && !conn_read(c))
                       || (c->left && !conn_write(c)))
            {
                close(c->fd);
                free(c);
            }
        }
    }
}
