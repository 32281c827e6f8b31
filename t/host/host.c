/*
 * main(): options, the Python thread, and the loop over commands and
 * results.
 */

#include "host.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>


#define HOST_MAX   16            /* of anything named on the command line */
#define HOST_LINE  (1 << 22)
#define HOST_WORDS 64


static host_t            host;
static db_app_conf_t     apps[HOST_MAX];
static db_str_t          env[HOST_MAX];
static db_store_entry_t  stores[HOST_MAX];
static db_metrics_row_t  metrics;
static pthread_mutex_t   output = PTHREAD_MUTEX_INITIALIZER;


static db_str_t
host_str(const char *text)
{
    return (db_str_t) { text, strlen(text) };
}


void
host_event(const char *fmt, ...)
{
    va_list  args;

    pthread_mutex_lock(&output);

    va_start(args, fmt);
    (void) vprintf(fmt, args);
    va_end(args);

    (void) putchar('\n');
    (void) fflush(stdout);

    pthread_mutex_unlock(&output);
}


char *
host_hex(db_str_t str)
{
    char    *hex;
    size_t   i;

    hex = malloc(str.len * 2 + 1);
    if (hex == NULL) {
        abort();
    }

    for (i = 0; i < str.len; i++) {
        (void) sprintf(hex + i * 2, "%02x", (unsigned char) str.data[i]);
    }

    hex[str.len * 2] = '\0';

    return hex;
}


static void
host_log(void *ctx, db_pylog_level_t level, const char *text, size_t len)
{
    char               *hex;
    static const char  *levels[] = {
        "crit", "error", "warn", "notice", "info", "debug"
    };

    hex = host_hex((db_str_t) { text, len });
    host_event("{\"event\": \"log\", \"level\": \"%s\", \"text\": \"%s\"}",
               levels[level], hex);
    free(hex);
}


static void
host_store_log(void *ctx, db_log_level_t level, const char *text)
{
    host_log(ctx, DB_PYLOG_ERROR, text, strlen(text));
}


static void
host_signals(void *ctx)
{
    host_event("{\"event\": \"signals\"}");
}


static void *
host_python(void *data)
{
    db_python_run(&host.conf);

    return NULL;
}


static void
host_store(db_store_entry_t *entry, char *option)
{
    char   error[512];
    char  *uri;

    uri = strchr(option, '=');
    if (uri == NULL) {
        abort();
    }

    *uri++ = '\0';

    entry->name = host_str(option);
    entry->store = db_store_open(host_str(uri), host_store_log, NULL, error,
                                 sizeof(error));

    if (entry->store == NULL) {
        (void) fprintf(stderr, "%s\n", error);
        exit(2);
    }
}


static void
host_options(int argc, char **argv)
{
    int                option;
    db_app_conf_t     *app;
    db_python_conf_t  *conf;

    conf = &host.conf;
    conf->bridge = &host.bridge;
    conf->apps = apps;
    conf->env = env;
    conf->stores = stores;
    conf->sync_threads = 4;
    conf->metrics = &metrics;
    conf->log = host_log;
    conf->signals = host_signals;
    conf->path = db_string("");
    conf->venv = db_string("");

    app = NULL;

    while ((option = getopt(argc, argv, "v:p:a:i:r:fe:s:t:")) != -1) {
        switch (option) {

        case 'v':
            conf->venv = host_str(optarg);
            break;

        case 'p':
            conf->path = host_str(optarg);
            break;

        case 'a':
            app = &apps[conf->napps++];
            app->target = host_str(optarg);
            app->interface = db_string("auto");
            app->root_path = db_string("");
            break;

        case 'i':
            app->interface = host_str(optarg);
            break;

        case 'r':
            app->root_path = host_str(optarg);
            break;

        case 'f':
            app->factory = 1;
            break;

        case 'e':
            env[conf->nenv++] = host_str(optarg);
            break;

        case 's':
            host_store(&stores[conf->nstores++], optarg);
            break;

        case 't':
            conf->sync_threads = atoi(optarg);
            break;

        default:
            exit(2);
        }
    }
}


static void
host_match(unsigned index, const char *method, const char *path)
{
    int          rc;
    db_match_t   match;
    db_table_t  *table;
    db_route_t  *route;

    table = host.ready->tables[index];
    rc = db_router_match(table->router, host_str(method), host_str(path),
                         &match);

    if (rc == DB_DONE) {
        host_event("{\"event\": \"match\", \"rc\": %d}", rc);
        return;
    }

    route = &table->routes[match.index];

    host_event("{\"event\": \"match\", \"rc\": %d, \"index\": %u, "
               "\"crud\": %s, \"timeout\": %d}",
               rc, match.index, route->crud ? "true" : "false",
               (int) route->timeout);
}


/* The words of a command: a NULL after the last. */

static void
host_command(char **word)
{
    if (strcmp(word[0], "request") == 0) {
        host_request(&host, word + 1);

    } else if (strcmp(word[0], "disconnect") == 0) {
        host_notice(&host, atoi(word[1]), DB_MSG_DISCONNECT);

    } else if (strcmp(word[0], "cancel") == 0) {
        host_notice(&host, atoi(word[1]), DB_MSG_CANCEL);

    } else if (strcmp(word[0], "match") == 0) {
        host_match(atoi(word[1]), word[2], word[3]);

    } else if (strcmp(word[0], "call") == 0) {
        host_call(&host, word + 1);

    } else if (strcmp(word[0], "bench") == 0) {
        host_bench(&host, word + 1);

    } else if (strcmp(word[0], "stop") == 0) {
        host.stop.kind = DB_MSG_STOP;
        host_submit(&host, &host.stop.node);

    } else {
        (void) fprintf(stderr, "no such command: %s\n", word[0]);
        exit(2);
    }
}


static void
host_line(char *line)
{
    char      *word[HOST_WORDS + 1], *save;
    unsigned   n;

    word[0] = strtok_r(line, " ", &save);

    for (n = 0; word[n] && n < HOST_WORDS; n++) {
        word[n + 1] = strtok_r(NULL, " ", &save);
    }

    word[HOST_WORDS] = NULL;

    if (word[0]) {
        host_command(word);
    }
}


/* Runs the whole lines that have come, as one batch; 0 at the end of input. */

static int
host_input(void)
{
    static char    data[HOST_LINE];
    static size_t  len;

    char     *line, *end;
    ssize_t   n;

    n = read(STDIN_FILENO, data + len, sizeof(data) - len);

    if (n <= 0) {
        return 0;
    }

    len += n;
    line = data;

    for ( ;; ) {
        end = memchr(line, '\n', len - (line - data));

        if (end == NULL) {
            break;
        }

        *end = '\0';
        host_line(line);
        line = end + 1;
    }

    len -= line - data;
    memmove(data, line, len);

    db_bridge_submit(&host.bridge, &host.submit);

    return 1;
}


static void
host_run(void)
{
    struct pollfd  fds[2];

    fds[0].fd = STDIN_FILENO;
    fds[0].events = POLLIN;
    fds[1].fd = host.bridge.nginx_fd;
    fds[1].events = POLLIN;

    while (!host.stopped) {

        if (poll(fds, 2, -1) == -1 && errno != EINTR) {
            abort();
        }

        if (fds[1].revents) {
            host_wait(&host);
        }

        if (fds[0].revents && !host_input()) {
            fds[0].fd = -1;
        }
    }
}


int
main(int argc, char **argv)
{
    sigset_t  set;
    unsigned  i;

    host_options(argc, argv);

    /* as a thread of a pool of nginx's */

    sigfillset(&set);
    sigdelset(&set, SIGSEGV);
    sigdelset(&set, SIGBUS);
    sigdelset(&set, SIGFPE);
    sigdelset(&set, SIGILL);
    (void) pthread_sigmask(SIG_BLOCK, &set, NULL);

    db_chain_init(&host.submit);

    if (db_bridge_open(&host.bridge) != DB_OK
        || pthread_create(&host.python, NULL, host_python, NULL) != 0)
    {
        return 2;
    }

    host_run();

    (void) pthread_join(host.python, NULL);

    for (i = 0; i < host.conf.nstores; i++) {
        db_store_close(host.conf.stores[i].store);
    }

    if (host.ready) {
        db_ready_destroy(host.ready);
    }

    (void) fflush(stdout);

    /* no finalizers: Python's other threads still exist */

    _exit(0);
}
