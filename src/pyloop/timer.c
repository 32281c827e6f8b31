/*
 * Timers: a heap with four children a node, ordered by time and then by
 * order of arrival.  A timer knows its place, so that cancelling removes it
 * at once; times are the loop's floats, never rounded.
 */

#include "pyloop/pyloop.h"

#include <math.h>


#define PYLOOP_HEAP_MIN   64
#define PYLOOP_HEAP_ARITY 4


static void pyloop_heap_up(pyloop_heap_t *heap, Py_ssize_t i,
    pyloop_due_t due);
static void pyloop_heap_down(pyloop_heap_t *heap, Py_ssize_t i,
    pyloop_due_t due);
static void pyloop_heap_cut(pyloop_heap_t *heap, Py_ssize_t i);


static inline int
pyloop_due_before(const pyloop_due_t *a, const pyloop_due_t *b)
{
    return a->when < b->when || (a->when == b->when && a->seq < b->seq);
}


static inline void
pyloop_heap_set(pyloop_heap_t *heap, Py_ssize_t i, pyloop_due_t due)
{
    heap->dues[i] = due;
    due.timer->index = i;
}


int
pyloop_heap_add(pyloop_heap_t *heap, pyloop_timer_t *timer, double when)
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
    due.when = isnan(when) ? -INFINITY : when;
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

        pyloop_heap_set(heap, i, heap->dues[parent]);
        i = parent;
    }

    pyloop_heap_set(heap, i, due);
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

        pyloop_heap_set(heap, i, heap->dues[least]);
        i = least;
    }

    pyloop_heap_set(heap, i, due);
}


/* Takes the node out; its reference becomes the caller's. */

static void
pyloop_heap_cut(pyloop_heap_t *heap, Py_ssize_t i)
{
    pyloop_due_t     last;
    pyloop_timer_t  *timer;

    timer = heap->dues[i].timer;
    timer->index = -1;
    Py_SETREF(timer->scheduled, Py_NewRef(Py_False));

    last = heap->dues[--heap->count];

    if (i == heap->count) {
        return;
    }

    if (i > 0
        && pyloop_due_before(&last,
                             &heap->dues[(i - 1) / PYLOOP_HEAP_ARITY]))
    {
        pyloop_heap_up(heap, i, last);

    } else {
        pyloop_heap_down(heap, i, last);
    }
}


void
pyloop_heap_remove(pyloop_heap_t *heap, pyloop_timer_t *timer)
{
    if (timer->index == -1) {
        return;
    }

    pyloop_heap_cut(heap, timer->index);
    Py_DECREF(timer);
}


/* Makes ready what is due before "end". */

int
pyloop_heap_expire(pyloop_heap_t *heap, pyloop_ready_t *ready, double end)
{
    pyloop_timer_t  *timer;

    while (heap->count && heap->dues[0].when < end) {
        timer = heap->dues[0].timer;
        pyloop_heap_cut(heap, 0);

        if (pyloop_ready_add(ready, (PyObject *) timer, NULL, NULL) == -1) {
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
        timer = heap->dues[heap->count - 1].timer;
        pyloop_heap_remove(heap, timer);
    }

    PyMem_Free(heap->dues);
    heap->dues = NULL;
    heap->size = 0;
}


int
pyloop_heap_visit(pyloop_heap_t *heap, visitproc visit, void *arg)
{
    Py_ssize_t  i;

    for (i = 0; i < heap->count; i++) {
        Py_VISIT(heap->dues[i].timer);
    }

    return 0;
}
