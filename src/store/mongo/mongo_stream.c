/*
 * Sockets that the driver opens and greets, and whose descriptors are known:
 * the nginx thread uses them afterwards (mongo_direct.c).  The driver's own
 * streams keep theirs to themselves.
 *
 * Only the thread that makes a connection is here, and may wait.
 *
 * http://mongoc.org/libmongoc/current/mongoc_stream_t.html
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE              /* SOCK_CLOEXEC */
#endif

#include "store/mongo/mongo.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>


#define DB_MONGO_STREAM   100        /* none of the driver's types */

/* A peer that is gone is noticed after a while, s; as the driver does. */
#define DB_MONGO_IDLE     120
#define DB_MONGO_PROBE    10
#define DB_MONGO_PROBES   9


struct db_mongo_stream_s {
    mongoc_stream_t      base;       /* first */
    db_mongo_streams_t  *streams;
    db_mongo_stream_t   *next;
    int                  fd;
    int                  err;        /* errno of the last call */
    char                 host[BSON_HOST_NAME_MAX + 8];    /* and port */
};


/* 1 when it is ready; 0 with its errno. */

static int
db_mongo_stream_wait(db_mongo_stream_t *stream, short events, int timeout)
{
    int            n;
    struct pollfd  pfd;

    if (timeout == 0) {
        stream->err = EAGAIN;
        return 0;
    }

    pfd.fd = stream->fd;
    pfd.events = events;

    do {
        n = poll(&pfd, 1, timeout);
    } while (n == -1 && errno == EINTR);

    stream->err = (n == 0) ? ETIMEDOUT : (n == -1) ? errno : 0;

    return n == 1;
}


static int
db_mongo_stream_try(db_mongo_stream_t *stream, short events, int timeout)
{
    if (errno == EINTR) {
        return 1;
    }

    if (errno == EAGAIN) {
        return db_mongo_stream_wait(stream, events, timeout);
    }

    stream->err = errno;

    return 0;
}


static ssize_t
db_mongo_stream_writev(mongoc_stream_t *base, mongoc_iovec_t *iov, size_t n,
    int32_t timeout)
{
    db_mongo_stream_t *stream = (db_mongo_stream_t *) base;

    size_t   i, done, written;
    ssize_t  rc;

    written = 0;
    stream->err = 0;

    for (i = 0; i < n; i++) {

        for (done = 0; done < iov[i].iov_len; done += (size_t) rc) {

            rc = send(stream->fd, (char *) iov[i].iov_base + done,
                      iov[i].iov_len - done, MSG_NOSIGNAL);

            if (rc >= 0) {
                written += (size_t) rc;
                continue;
            }

            if (!db_mongo_stream_try(stream, POLLOUT, timeout)) {
                return written && stream->err == EAGAIN ? (ssize_t) written
                                                        : -1;
            }

            rc = 0;
        }
    }

    return (ssize_t) written;
}


static ssize_t
db_mongo_stream_readv(mongoc_stream_t *base, mongoc_iovec_t *iov, size_t n,
    size_t least, int32_t timeout)
{
    db_mongo_stream_t *stream = (db_mongo_stream_t *) base;

    size_t   i, done, got;
    ssize_t  rc;

    got = 0;
    stream->err = 0;

    for (i = 0; i < n; i++) {

        for (done = 0; done < iov[i].iov_len; done += (size_t) rc) {

            rc = recv(stream->fd, (char *) iov[i].iov_base + done,
                      iov[i].iov_len - done, 0);

            if (rc > 0) {
                got += (size_t) rc;
                continue;
            }

            if (rc == 0 || (got && got >= least)) {
                return (ssize_t) got;
            }

            if (!db_mongo_stream_try(stream, POLLIN, timeout)) {
                return got && stream->err == EAGAIN ? (ssize_t) got : -1;
            }

            rc = 0;
        }
    }

    return (ssize_t) got;
}


static int
db_mongo_stream_flush(mongoc_stream_t *base)
{
    return 0;
}


static int
db_mongo_stream_setsockopt(mongoc_stream_t *base, int level, int option,
    void *value, mongoc_socklen_t len)
{
    db_mongo_stream_t *stream = (db_mongo_stream_t *) base;

    return setsockopt(stream->fd, level, option, value, len);
}


static bool
db_mongo_stream_is_closed(mongoc_stream_t *base)
{
    db_mongo_stream_t *stream = (db_mongo_stream_t *) base;

    char     c;
    ssize_t  n;

    n = recv(stream->fd, &c, 1, MSG_PEEK|MSG_DONTWAIT);

    return n == 0 || (n == -1 && errno != EAGAIN && errno != EINTR);
}


static ssize_t
db_mongo_stream_poll(mongoc_stream_poll_t *polled, size_t n, int32_t timeout)
{
    int             rc;
    size_t          i;
    struct pollfd  *pfd;

    pfd = calloc(n, sizeof(struct pollfd));
    if (pfd == NULL) {
        return -1;
    }

    for (i = 0; i < n; i++) {
        pfd[i].fd = ((db_mongo_stream_t *) polled[i].stream)->fd;
        pfd[i].events = (short) polled[i].events;
    }

    rc = poll(pfd, n, timeout);

    for (i = 0; i < n; i++) {
        polled[i].revents = pfd[i].revents;
    }

    free(pfd);

    return rc;
}


static bool
db_mongo_stream_timed_out(mongoc_stream_t *base)
{
    return ((db_mongo_stream_t *) base)->err == ETIMEDOUT;
}


static bool
db_mongo_stream_should_retry(mongoc_stream_t *base)
{
    return ((db_mongo_stream_t *) base)->err == EAGAIN;
}


static int
db_mongo_stream_close(mongoc_stream_t *base)
{
    db_mongo_stream_t *stream = (db_mongo_stream_t *) base;

    /* the number stays taken as long as somebody may use it */

    return shutdown(stream->fd, SHUT_RDWR);
}


static void
db_mongo_stream_destroy(mongoc_stream_t *base)
{
    db_mongo_stream_t *stream = (db_mongo_stream_t *) base;

    db_mongo_stream_t  **link;

    for (link = &stream->streams->first; *link; link = &(*link)->next) {

        if (*link == stream) {
            *link = stream->next;
            break;
        }
    }

    close(stream->fd);
    free(stream);
}


static db_mongo_stream_t *
db_mongo_stream_create(db_mongo_streams_t *streams, int fd, const char *host)
{
    db_mongo_stream_t  *stream;

    stream = calloc(1, sizeof(db_mongo_stream_t));
    if (stream == NULL) {
        return NULL;
    }

    stream->base.type = DB_MONGO_STREAM;
    stream->base.destroy = db_mongo_stream_destroy;
    stream->base.failed = db_mongo_stream_destroy;
    stream->base.close = db_mongo_stream_close;
    stream->base.flush = db_mongo_stream_flush;
    stream->base.writev = db_mongo_stream_writev;
    stream->base.readv = db_mongo_stream_readv;
    stream->base.setsockopt = db_mongo_stream_setsockopt;
    stream->base.check_closed = db_mongo_stream_is_closed;
    stream->base.poll = db_mongo_stream_poll;
    stream->base.timed_out = db_mongo_stream_timed_out;
    stream->base.should_retry = db_mongo_stream_should_retry;

    snprintf(stream->host, sizeof(stream->host), "%s", host);

    stream->fd = fd;
    stream->streams = streams;
    stream->next = streams->first;
    streams->first = stream;

    return stream;
}


static void
db_mongo_stream_options(int fd)
{
    size_t  i;

    static const struct {
        int  level;
        int  name;
        int  value;
    } options[] = {
        { IPPROTO_TCP, TCP_NODELAY, 1 },
        { SOL_SOCKET, SO_KEEPALIVE, 1 },
        { IPPROTO_TCP, TCP_KEEPIDLE, DB_MONGO_IDLE },
        { IPPROTO_TCP, TCP_KEEPINTVL, DB_MONGO_PROBE },
        { IPPROTO_TCP, TCP_KEEPCNT, DB_MONGO_PROBES },
    };

    /* it works without, and paths have none of them */

    for (i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        (void) setsockopt(fd, options[i].level, options[i].name,
                          &options[i].value, sizeof(int));
    }
}


/* The descriptor of a connection, or -1 with errno. */

static int
db_mongo_connect(const struct sockaddr *addr, socklen_t len, int timeout)
{
    int            fd, err;
    socklen_t      size;
    struct pollfd  pfd;

    fd = socket(addr->sa_family, SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC, 0);
    if (fd == -1) {
        return -1;
    }

    err = 0;
    size = sizeof(err);
    db_mongo_stream_options(fd);

    if (connect(fd, addr, len) == -1) {
        err = errno;
    }

    if (err == EINPROGRESS) {
        pfd.fd = fd;
        pfd.events = POLLOUT;

        if (poll(&pfd, 1, timeout) != 1) {
            err = ETIMEDOUT;

        } else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) == -1) {
            err = errno;
        }
    }

    if (err) {
        close(fd);
        errno = err;
        return -1;
    }

    return fd;
}


static int
db_mongo_connect_path(const mongoc_host_list_t *host, int timeout)
{
    struct sockaddr_un  sun;

    sun = (struct sockaddr_un) { .sun_family = AF_UNIX };

    if (strlen(host->host) >= sizeof(sun.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }

    strcpy(sun.sun_path, host->host);

    return db_mongo_connect((struct sockaddr *) &sun, sizeof(sun), timeout);
}


static int
db_mongo_connect_host(const mongoc_host_list_t *host, int timeout)
{
    int               fd;
    char              port[8];
    struct addrinfo  *list, *at;
    struct addrinfo   hints = { .ai_family = host->family,
                                .ai_socktype = SOCK_STREAM };

    snprintf(port, sizeof(port), "%u", (unsigned) host->port);

    if (getaddrinfo(host->host, port, &hints, &list) != 0) {
        errno = EHOSTUNREACH;
        return -1;
    }

    for (fd = -1, at = list; at && fd == -1; at = at->ai_next) {
        fd = db_mongo_connect(at->ai_addr, at->ai_addrlen, timeout);
    }

    freeaddrinfo(list);

    return fd;
}


mongoc_stream_t *
db_mongo_initiate(const mongoc_uri_t *uri, const mongoc_host_list_t *host,
    void *data, bson_error_t *error)
{
    int                 fd, timeout;
    db_mongo_stream_t  *stream;

    timeout = mongoc_uri_get_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS,
                                             DB_MONGO_CONNECT);

    fd = host->family == AF_UNIX ? db_mongo_connect_path(host, timeout)
                                 : db_mongo_connect_host(host, timeout);
    if (fd == -1) {
        bson_set_error(error, MONGOC_ERROR_STREAM,
                       MONGOC_ERROR_STREAM_CONNECT, "connection to \"%s\""
                       " failed: %s", host->host_and_port, strerror(errno));
        return NULL;
    }

    stream = db_mongo_stream_create(data, fd, host->host_and_port);

    if (stream == NULL) {
        bson_set_error(error, MONGOC_ERROR_STREAM,
                       MONGOC_ERROR_STREAM_CONNECT, "out of memory");
        close(fd);
        return NULL;
    }

    return &stream->base;
}


int
db_mongo_stream_fd(const db_mongo_streams_t *streams, const char *host)
{
    const db_mongo_stream_t  *stream;

    for (stream = streams->first; stream; stream = stream->next) {

        if (strcmp(stream->host, host) == 0) {
            return stream->fd;
        }
    }

    return -1;
}
