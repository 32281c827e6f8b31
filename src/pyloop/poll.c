/*
 * The poller: epoll, level-triggered as asyncio has it, and the handles by
 * descriptor.  Times are nanoseconds where the kernel has epoll_pwait2(),
 * else milliseconds rounded up.  It passes for the loop's selector.
 *
 * A forked child shares the kernel's side of the descriptors: it gets others
 * under the same numbers, so that nothing it does to a loop it has inherited
 * reaches its parent's.
 */

#include "pyloop/pyloop.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>


#define PYLOOP_EVENTS     256
#define PYLOOP_TIMEOUT    (24 * 3600 * PYLOOP_NSEC)

#define PYLOOP_READ       (~(uint32_t) EPOLLOUT)
#define PYLOOP_WRITE      (~(uint32_t) EPOLLIN)


static void pyloop_poller_forked(void);
static void pyloop_poller_replace(int fd, int with);
static void pyloop_poller_unlink(pyloop_poller_t *poller);
static int  pyloop_poll_wait(pyloop_t *loop, struct epoll_event *events,
    int64_t timeout);
static int  pyloop_epoll(pyloop_poller_t *poller, struct epoll_event *events,
    int64_t timeout);
static int  pyloop_poll_event(pyloop_t *loop, struct epoll_event *event);
static int  pyloop_poll_ready(pyloop_t *loop, int fd, PyObject *handle,
    uint32_t event);


static pyloop_poller_t  *pyloop_pollers;     /* guarded by the GIL */


int
pyloop_poller_init(void)
{
    static int  done;

    if (!done && pthread_atfork(NULL, NULL, pyloop_poller_forked) != 0) {
        PyErr_NoMemory();
        return -1;
    }

    done = 1;

    return 0;
}


/* In the child, where nothing but system calls is safe. */

static void
pyloop_poller_forked(void)
{
    pyloop_poller_t  *poller;

    for (poller = pyloop_pollers; poller; poller = poller->next) {

        pyloop_poller_replace(poller->fd, epoll_create1(EPOLL_CLOEXEC));

        if (poller->wake_fd != -1) {
            pyloop_poller_replace(poller->wake_fd,
                                  eventfd(0, EFD_CLOEXEC|EFD_NONBLOCK));
            (void) pyloop_poller_control(poller, EPOLL_CTL_ADD,
                                         poller->wake_fd, EPOLLIN);
        }
    }
}


static void
pyloop_poller_replace(int fd, int with)
{
    if (with == -1) {
        (void) close(fd);
        return;
    }

    (void) dup3(with, fd, O_CLOEXEC);
    (void) close(with);
}


static void
pyloop_poller_unlink(pyloop_poller_t *poller)
{
    if (poller->fd == -1) {
        return;
    }

    *poller->link = poller->next;

    if (poller->next) {
        poller->next->link = poller->link;
    }

    (void) close(poller->fd);
    poller->fd = -1;
}


pyloop_poller_t *
pyloop_poller_new(pyloop_state_t *state, int wake_fd)
{
    pyloop_poller_t  *poller;

    poller = PyObject_GC_New(pyloop_poller_t, state->poller_type);
    if (poller == NULL) {
        return NULL;
    }

    poller->wake_fd = wake_fd;
    poller->coarse = 0;
    poller->watches = NULL;
    poller->size = 0;

    poller->fd = epoll_create1(EPOLL_CLOEXEC);

    PyObject_GC_Track(poller);

    if (poller->fd == -1) {
        goto failed;
    }

    poller->link = &pyloop_pollers;
    poller->next = pyloop_pollers;

    if (poller->next) {
        poller->next->link = &poller->next;
    }

    pyloop_pollers = poller;

    if (pyloop_poller_control(poller, EPOLL_CTL_ADD, wake_fd, EPOLLIN) == 0) {
        return poller;
    }

failed:

    PyErr_SetFromErrno(PyExc_OSError);
    Py_DECREF(poller);

    return NULL;
}


/* 0, or -1 with errno set. */

int
pyloop_poller_control(pyloop_poller_t *poller, int op, int fd,
    uint32_t events)
{
    struct epoll_event  event;

    event.events = events;
    event.data.u64 = 0;
    event.data.fd = fd;

    return epoll_ctl(poller->fd, op, fd, &event);
}


int
pyloop_poll(pyloop_t *loop, int64_t timeout)
{
    int                 i, n;
    struct epoll_event  events[PYLOOP_EVENTS];

    n = pyloop_poll_wait(loop, events, timeout);

    loop->polled = pyloop_now();

    for (i = 0; i < n; i++) {
        if (pyloop_poll_event(loop, &events[i]) == -1) {
            return -1;
        }
    }

    return n < 0 ? -1 : 0;
}


/*
 * The GIL is let go only for a wait.  From the moment "sleeping" is set to
 * the one it is cleared, whoever adds a callback from another thread holds
 * the GIL and sees it; a source is asked after all else.
 */

static int
pyloop_poll_wait(pyloop_t *loop, struct epoll_event *events, int64_t timeout)
{
    int             n, err;
    int64_t         waited;
    PyThreadState  *thread;

    waited = 0;

    if (timeout != 0 && loop->nsources && !pyloop_sources_sleep(loop)) {
        timeout = 0;
    }

    if (timeout == 0) {
        n = pyloop_epoll(loop->poller, events, 0);
        err = errno;

    } else {
        if (timeout > PYLOOP_TIMEOUT) {
            timeout = PYLOOP_TIMEOUT;
        }

        loop->sleeping = 1;
        thread = PyEval_SaveThread();

        n = pyloop_epoll(loop->poller, events, timeout);
        err = errno;
        waited = loop->nasleep ? pyloop_now() : 0;

        PyEval_RestoreThread(thread);
        loop->sleeping = 0;
        waited = loop->nasleep ? pyloop_now() - waited : 0;
    }

    if (loop->nasleep) {
        pyloop_sources_awake(loop, waited);
    }

    if (n != -1) {
        return n;
    }

    if (err == EINTR) {
        return PyErr_CheckSignals();
    }

    errno = err;
    PyErr_SetFromErrno(PyExc_OSError);

    return -1;
}


static int
pyloop_epoll(pyloop_poller_t *poller, struct epoll_event *events,
    int64_t timeout)
{
    int              n;
    struct timespec  ts;

    if (timeout <= 0) {
        return epoll_wait(poller->fd, events, PYLOOP_EVENTS, (int) timeout);
    }

    if (!poller->coarse) {
        ts.tv_sec = timeout / PYLOOP_NSEC;
        ts.tv_nsec = timeout % PYLOOP_NSEC;

        n = epoll_pwait2(poller->fd, events, PYLOOP_EVENTS, &ts, NULL);

        if (n != -1 || (errno != ENOSYS && errno != EPERM)) {
            return n;
        }

        poller->coarse = 1;
    }

    return epoll_wait(poller->fd, events, PYLOOP_EVENTS,
                      (int) ((timeout + 999999) / 1000000));
}


/* A source's event says nothing: it is asked in each turn. */

static int
pyloop_poll_event(pyloop_t *loop, struct epoll_event *event)
{
    int               fd;
    eventfd_t         count;
    pyloop_watch_t   *watch;
    pyloop_poller_t  *poller;

    fd = event->data.fd;

    if (fd == loop->wake_fd) {
        (void) eventfd_read(fd, &count);
        return 0;
    }

    poller = loop->poller;

    if (fd >= poller->size) {
        return 0;
    }

    watch = &poller->watches[fd];

    if (watch->kernel & EPOLLONESHOT) {
        watch->kernel = EPOLLONESHOT;
    }

    if ((event->events & PYLOOP_READ) && watch->reader
        && pyloop_poll_ready(loop, fd, watch->reader, EPOLLIN) == -1)
    {
        return -1;
    }

    /* dropping a cancelled reader may have moved it or closed the loop */
    if (fd >= poller->size) {
        return 0;
    }

    watch = &poller->watches[fd];

    if ((event->events & PYLOOP_WRITE) && watch->writer
        && pyloop_poll_ready(loop, fd, watch->writer, EPOLLOUT) == -1)
    {
        return -1;
    }

    pyloop_watch_again(poller, fd);

    return 0;
}


static int
pyloop_poll_ready(pyloop_t *loop, int fd, PyObject *handle, uint32_t event)
{
    if (!pyloop_is_handle(loop->state, handle)) {
        return pyloop_watch_wake(loop, fd, event);
    }

    if (((pyloop_handle_t *) handle)->cancelled != Py_True) {
        return pyloop_ready_add(&loop->ready, Py_NewRef(handle), NULL, NULL);
    }

    return pyloop_unwatch(loop, fd, event) == -1 ? -1 : 0;
}


static int
pyloop_poller_traverse(PyObject *op, visitproc visit, void *arg)
{
    int               i, rc;
    pyloop_watch_t   *watch;
    pyloop_poller_t  *poller;

    poller = (pyloop_poller_t *) op;

    Py_VISIT(Py_TYPE(op));

    for (i = 0; i < poller->size; i++) {
        watch = &poller->watches[i];
        Py_VISIT(watch->file);

        rc = watch->reader ? pyloop_handle_visit(watch->reader, visit, arg)
                           : 0;

        if (rc == 0 && watch->writer) {
            rc = pyloop_handle_visit(watch->writer, visit, arg);
        }

        if (rc) {
            return rc;
        }
    }

    return 0;
}


static int
pyloop_poller_clear(PyObject *op)
{
    int               i, size;
    pyloop_watch_t   *watches;
    pyloop_poller_t  *poller;

    poller = (pyloop_poller_t *) op;

    watches = poller->watches;
    size = poller->size;

    poller->watches = NULL;
    poller->size = 0;

    for (i = 0; i < size; i++) {
        Py_XDECREF(watches[i].reader);
        Py_XDECREF(watches[i].writer);
        Py_XDECREF(watches[i].file);
    }

    PyMem_Free(watches);

    return 0;
}


static PyObject *
pyloop_poller_close(PyObject *op, PyObject *unused)
{
    pyloop_poller_t  *poller;

    poller = (pyloop_poller_t *) op;

    pyloop_poller_unlink(poller);
    (void) pyloop_poller_clear(op);

    Py_RETURN_NONE;
}


static PyObject *
pyloop_poller_fileno(PyObject *op, PyObject *unused)
{
    return PyLong_FromLong(((pyloop_poller_t *) op)->fd);
}


/* What asyncio's transports say of themselves rests on it. */

static PyObject *
pyloop_poller_get_key(PyObject *op, PyObject *file)
{
    int               fd;
    PyObject         *module;
    pyloop_state_t   *state;
    pyloop_watch_t   *watch;
    pyloop_poller_t  *poller;

    poller = (pyloop_poller_t *) op;

    fd = pyloop_file_number(poller, file);
    if (fd == -1) {
        return NULL;
    }

    if (fd >= poller->size || poller->watches[fd].events == 0) {
        PyErr_Format(PyExc_KeyError, "%R is not registered", file);
        return NULL;
    }

    module = PyType_GetModule(Py_TYPE(op));
    if (module == NULL) {
        return NULL;
    }

    state = PyModule_GetState(module);
    watch = &poller->watches[fd];

    return PyObject_CallFunction(state->selector_key, "Oii(OO)", file, fd,
                                 (watch->events & EPOLLIN ? 1 : 0)
                                 | (watch->events & EPOLLOUT ? 2 : 0),
                                 watch->reader ? watch->reader : Py_None,
                                 watch->writer ? watch->writer : Py_None);
}


static void
pyloop_poller_dealloc(PyObject *op)
{
    PyTypeObject     *type;
    pyloop_poller_t  *poller;

    poller = (pyloop_poller_t *) op;
    type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);

    pyloop_poller_unlink(poller);
    (void) pyloop_poller_clear(op);

    PyObject_GC_Del(op);
    Py_DECREF(type);
}


/* asyncio's turn ends up here, and those that were written after it. */

static PyObject *
pyloop_poller_select(PyObject *op, PyObject *timeout)
{
    PyErr_SetString(PyExc_RuntimeError,
                    "PyLoop's turns are its own: what replaces them, as "
                    "nest_asyncio does, needs asyncio's loop");

    return NULL;
}


static PyMethodDef pyloop_poller_methods[] = {
    {"close", pyloop_poller_close, METH_NOARGS,
     "Close the epoll descriptor and forget what is watched."},
    {"fileno", pyloop_poller_fileno, METH_NOARGS,
     "The epoll descriptor, -1 when closed."},
    {"get_key", pyloop_poller_get_key, METH_O,
     "The selectors.SelectorKey of what is watched, else KeyError."},
    {"select", pyloop_poller_select, METH_O,
     "Refused: a turn of the loop cannot be replaced."},
    {NULL, NULL, 0, NULL}
};


static PyType_Slot pyloop_poller_slots[] = {
    {Py_tp_doc, "The descriptors that a loop watches."},
    {Py_tp_methods, pyloop_poller_methods},
    {Py_tp_traverse, pyloop_poller_traverse},
    {Py_tp_clear, pyloop_poller_clear},
    {Py_tp_dealloc, pyloop_poller_dealloc},
    {0, NULL}
};


PyType_Spec pyloop_poller_spec = {
    .name = "databridge._pyloop.Poller",
    .basicsize = sizeof(pyloop_poller_t),
    .flags = Py_TPFLAGS_DEFAULT|Py_TPFLAGS_HAVE_GC|Py_TPFLAGS_IMMUTABLETYPE
             |Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = pyloop_poller_slots,
};
