/*
 * PyLoop's C API: how a host drives work through the loop from outside.  It
 * is the capsule PYLOOP_CAPSULE of databridge._pyloop; check the version
 * before any other field.
 */

#ifndef PYLOOP_API_H
#define PYLOOP_API_H

#include <Python.h>


#define PYLOOP_CAPSULE      "databridge._pyloop._C_API"
#define PYLOOP_API_VERSION  2


/*
 * A source of work outside the loop: its queue, woken through fd.  All
 * functions are called on the loop's thread with the GIL held, and "data" is
 * theirs.
 */

typedef struct {
    /* an eventfd, watched edge-triggered and never read by the loop */
    int    fd;

    /*
     * Once a turn: takes what is pending and runs it, a bounded amount.
     * Returns 1 when more is left (the turn then does not sleep), 0 when
     * not, -1 with an exception set, which the loop reports to its
     * exception handler.
     */
    int  (*run)(void *data);

    /*
     * At the end of each turn, before the poll: publishes results that were
     * held back.
     */
    void (*flush)(void *data);

    /*
     * Before a poll that may block: 1 when it may, 0 when something is
     * pending.  awake() follows the poll of each sleep() that returned 1,
     * and is told how long the loop has waited for the GIL after it, in ns.
     */
    int  (*sleep)(void *data);
    void (*awake)(void *data, int64_t waited);

    void  *data;
} pyloop_source_t;


typedef struct {
    unsigned   version;          /* PYLOOP_API_VERSION */
    unsigned   size;             /* sizeof(pyloop_api_t) */

    /* The struct is copied.  0, or -1 with an exception set. */
    int      (*source_add)(PyObject *loop, const pyloop_source_t *source);
    int      (*source_remove)(PyObject *loop, int fd);

    /*
     * An asyncio.Task of coro whose first step has been taken before this
     * returns; a new reference, or NULL with an exception set.  context is a
     * Context, or NULL for a copy of the current one.  Not to be called from
     * within a task.
     */
    PyObject *(*task_start)(PyObject *loop, PyObject *coro,
                            PyObject *context);

    /*
     * Any thread, without the GIL, while the loop is open: ends the current
     * or the next sleep.
     */
    void     (*wake)(PyObject *loop);
} pyloop_api_t;

#endif /* PYLOOP_API_H */
