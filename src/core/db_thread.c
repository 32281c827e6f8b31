/*
 * The kernel's attributes of a thread are read and written whole, so that
 * what an administrator has set of them stays.
 */

#include "core/db_thread.h"

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>


/* The kernel's struct sched_attr, which not every libc declares. */

typedef struct {
    uint32_t  size;
    uint32_t  policy;
    uint64_t  flags;
    int32_t   nice;
    uint32_t  priority;
    uint64_t  runtime;
    uint64_t  deadline;
    uint64_t  period;
} db_sched_attr_t;


void
db_thread_slice(uint64_t ns)
{
    db_sched_attr_t  attr;

    if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) != 0
        || attr.policy != SCHED_OTHER)
    {
        return;
    }

    /* older kernels take it, and know it of deadlines alone */

    attr.runtime = ns;

    (void) syscall(SYS_sched_setattr, 0, &attr, 0);
}


int
db_thread_start(pthread_t *thread, void *(*run)(void *), void *data)
{
    int       err;
    sigset_t  all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);

    err = pthread_create(thread, NULL, run, data);

    pthread_sigmask(SIG_SETMASK, &old, NULL);

    return err;
}
