/*
 * How much the Python thread needs for a request: a fixed number of them,
 * so many in flight, all alike.
 */

#include "host.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>


static double
host_clock(clockid_t clock)
{
    struct timespec  ts;

    (void) clock_gettime(clock, &ts);

    return ts.tv_sec * 1e6 + ts.tv_nsec / 1e3;
}


static long
host_rss(void)
{
    long   pages;
    FILE  *file;

    file = fopen("/proc/self/statm", "re");

    if (file == NULL || fscanf(file, "%*d %ld", &pages) != 1) {
        abort();
    }

    (void) fclose(file);

    return pages * sysconf(_SC_PAGESIZE) / 1024;
}


static void
host_bench_submit(host_t *host, char **words)
{
    db_job_t  *job;

    job = host_job(host, words);
    job->owner = (void *) (uintptr_t) (HOST_JOBS - 1);
    db_job_retain(job);

    host_submit(host, &job->msg.node);
}


/* words: count, flight, then those of a request but for its id. */

void
host_bench(host_t *host, char **words)
{
    long           rss;
    double         cpu, wall;
    uint64_t       count, sent, wakes, flight;
    clockid_t      clock;
    struct pollfd  fd;

    count = atol(words[0]);
    flight = atol(words[1]);
    words++;                     /* host_job() skips the id */

    if (pthread_getcpuclockid(host->python, &clock) != 0) {
        abort();
    }

    fd.fd = host->bridge.nginx_fd;
    fd.events = POLLIN;

    rss = host_rss();
    wakes = 0;
    sent = 0;
    host->quiet = 1;
    host->done = 0;

    wall = host_clock(CLOCK_MONOTONIC);
    cpu = host_clock(clock);

    while (host->done < count) {

        while (sent < count && sent - host->done < flight) {
            host_bench_submit(host, words);
            sent++;
        }

        db_bridge_submit(&host->bridge, &host->submit);

        (void) poll(&fd, 1, -1);
        wakes++;
        host_wait(host);
    }

    cpu = host_clock(clock) - cpu;
    wall = host_clock(CLOCK_MONOTONIC) - wall;

    host->quiet = 0;
    host_event("{\"event\": \"bench\", \"cpu_us\": %.3f, \"wall_us\": %.3f, "
               "\"wakes\": %.3f, \"rss_kb\": %ld}",
               cpu / count, wall / count, (double) wakes / count,
               host_rss() - rss);
}
