/*
 * Timers: a heap with four children a node, ordered by time and then by
 * order of arrival.  A cancelled timer is empty at once and leaves when it is
 * due, or when half of them are cancelled; times are the loop's floats,
 * never rounded.
 */

#include "pyloop/pyloop.h"

#include <math.h>


#define PYLOOP_HEAP_MIN   64
#define PYLOOP_HEAP_ARITY 4


static void pyloop_heap_up(pyloop_heap_t *heap, Py_ssize_t i,
    pyloop_due_t due);
static void pyloop_heap_down(pyloop_heap_t *heap, Py_ssize_t i,
    pyloop_due_t due);
static pyloop_timer_t *pyloop_heap_take(pyloop_heap_t *heap);
static void pyloop_heap_sweep(pyloop_heap_t *heap);
static void pyloop_heap_drop(pyloop_timer_t *timer);


static inline int
pyloop_due_before(const pyloop_due_t *a, const pyloop_due_t *b)
{
    return a->when < b->when || (a->when == b->when && a->seq < b->seq);
}


int
pyloop_heap_add(pyloop_heap_t *heap, pyloop_timer_t *timer)
{
    Py_ssize_t     size;
    pyloop_due_t   due, *dues;

    if (heap->count == heap->size) {
        size = heap->size ? 2 * heap->size : PYLOOP_HEAP_MIN;

        dues = heap->dues;
        PyMem_Resize(dues, pyloop_due_t, size);

        if (dues == NULL) {
            PyErr_NoMemory();
            return -1;
        }

        heap->dues = dues;
        heap->size = size;
    }

    /* not a number is due at once, as in asyncio */
    due.when = isnan(timer->time) ? -INFINITY : timer->time;
    due.seq = heap->seq++;
    due.timer = (pyloop_timer_t *) Py_NewRef((PyObject *) timer);

    Py_SETREF(timer->scheduled, Py_NewRef(Py_True));

    pyloop_heap_up(heap, heap->count++, due);

    return 0;
}


static void
pyloop_heap_up(pyloop_heap_t *heap, Py_ssize_t i, pyloop_due_t due)
{
    Py_ssize_t  parent;

    while (i > 0) {
        parent = (i - 1) / PYLOOP_HEAP_ARITY;

        if (!pyloop_due_before(&due, &heap->dues[parent])) {
            break;
        }

        heap->dues[i] = heap->dues[parent];
        i = parent;
    }

    heap->dues[i] = due;
}


static void
pyloop_heap_down(pyloop_heap_t *heap, Py_ssize_t i, pyloop_due_t due)
{
    Py_ssize_t  child, end, least;

    for ( ;; ) {
        least = i * PYLOOP_HEAP_ARITY + 1;

        if (least >= heap->count) {
            break;
        }

        end = Py_MIN(least + PYLOOP_HEAP_ARITY, heap->count);

        for (child = least + 1; child < end; child++) {
            if (pyloop_due_before(&heap->dues[child], &heap->dues[least])) {
                least = child;
            }
        }

        if (!pyloop_due_before(&heap->dues[least], &due)) {
            break;
        }

        heap->dues[i] = heap->dues[least];
        i = least;
    }

    heap->dues[i] = due;
}


/* Takes the first out; its reference becomes the caller's. */

static pyloop_timer_t *
pyloop_heap_take(pyloop_heap_t *heap)
{
    pyloop_timer_t  *timer;

    timer = heap->dues[0].timer;

    if (--heap->count) {
        pyloop_heap_down(heap, 0, heap->dues[heap->count]);
    }

    return timer;
}


static inline int
pyloop_timer_cancelled(pyloop_timer_t *timer)
{
    return timer->handle.cancelled == Py_True;
}


void
pyloop_heap_cancelled(pyloop_heap_t *heap, pyloop_timer_t *timer)
{
    if (timer->scheduled != Py_True) {
        return;
    }

    /* the last to come is often the first to go */
    if (heap->count && heap->dues[heap->count - 1].timer == timer) {
        heap->count--;
        pyloop_heap_drop(timer);

        return;
    }

    heap->cancelled++;

    if (heap->cancelled > PYLOOP_HEAP_MIN
        && heap->cancelled > heap->count / 2)
    {
        pyloop_heap_sweep(heap);
    }
}


/*
 * Drops what is cancelled; for want of memory some other time.  The heap is
 * whole again before anything is freed, which may run Python code.
 */

static void
pyloop_heap_sweep(pyloop_heap_t *heap)
{
    Py_ssize_t     i, n, size, cancelled;
    pyloop_due_t  *old, *dues;

    size = PYLOOP_HEAP_MIN;

    while (size < heap->count) {
        size *= 2;
    }

    dues = PyMem_New(pyloop_due_t, size);
    if (dues == NULL) {
        return;
    }

    old = heap->dues;
    n = heap->count;

    heap->dues = dues;
    heap->size = size;
    heap->count = 0;
    heap->cancelled = 0;
    cancelled = 0;

    for (i = 0; i < n; i++) {
        if (pyloop_timer_cancelled(old[i].timer)) {
            old[cancelled++] = old[i];

        } else {
            /* what comes in the order of a heap stays where it is put */
            pyloop_heap_up(heap, heap->count++, old[i]);
        }
    }

    for (i = 0; i < cancelled; i++) {
        pyloop_heap_drop(old[i].timer);
    }

    PyMem_Free(old);
}


static void
pyloop_heap_drop(pyloop_timer_t *timer)
{
    Py_SETREF(timer->scheduled, Py_NewRef(Py_False));
    pyloop_handle_release((PyObject *) timer);
}


double
pyloop_heap_next(pyloop_heap_t *heap)
{
    /* timers lie scattered: they are looked at only if need be */
    while (heap->cancelled && heap->count
           && pyloop_timer_cancelled(heap->dues[0].timer))
    {
        heap->cancelled--;
        pyloop_heap_drop(pyloop_heap_take(heap));
    }

    if (heap->count) {
        return heap->dues[0].when;
    }

    heap->cancelled = 0;

    return INFINITY;
}


/* Makes ready what is due before "end". */

int
pyloop_heap_expire(pyloop_heap_t *heap, pyloop_ready_t *ready, double end)
{
    PyObject  *timer;

    while (pyloop_heap_next(heap) < end) {
        timer = (PyObject *) pyloop_heap_take(heap);

        if (pyloop_ready_add(ready, timer, NULL, NULL) == -1) {
            return -1;
        }
    }

    return 0;
}


void
pyloop_heap_clear(pyloop_heap_t *heap)
{
    pyloop_timer_t  *timer;

    while (heap->count) {
        timer = heap->dues[--heap->count].timer;
        pyloop_heap_drop(timer);
    }

    PyMem_Free(heap->dues);
    heap->dues = NULL;
    heap->size = 0;
    heap->cancelled = 0;
}


int
pyloop_heap_visit(pyloop_heap_t *heap, visitproc visit, void *arg)
{
    int         rc;
    Py_ssize_t  i;

    for (i = 0; i < heap->count; i++) {
        rc = pyloop_handle_visit((PyObject *) heap->dues[i].timer, visit,
                                 arg);
        if (rc) {
            return rc;
        }
    }

    return 0;
}
