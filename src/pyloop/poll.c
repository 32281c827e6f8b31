/*
 * The poller: epoll, level-triggered as asyncio has it, and the handles by
 * descriptor.  Times are nanoseconds where the kernel has epoll_pwait2(),
 * else milliseconds rounded up.  It passes for the loop's selector.
 *
 * A forked child shares the kernel's side of the descriptors: it gets others
 * under the same numbers, so that nothing it does to a loop it has inherited
 * reaches its parent's.
 */

#include "pyloop/transport.h"

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
static int  pyloop_file_number(pyloop_poller_t *poller, PyObject *file);
static long  pyloop_file_long(PyObject *file);
static int  pyloop_watch_set(pyloop_poller_t *poller, int fd,
    uint32_t events);
static int  pyloop_watch_grow(pyloop_poller_t *poller, int fd);
static PyObject *pyloop_watch_add(pyloop_t *loop, PyObject *const *args,
    Py_ssize_t nargs, uint32_t event);
static int  pyloop_watch_put(pyloop_t *loop, int fd, uint32_t event,
    PyObject *handle);
static PyObject *pyloop_watch_remove(pyloop_t *loop, PyObject *file,
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
        waited = pyloop_now();

        PyEval_RestoreThread(thread);
        loop->sleeping = 0;
        waited = pyloop_now() - waited;
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

    if ((event->events & PYLOOP_READ) && watch->reader
        && pyloop_poll_ready(loop, fd, watch->reader, EPOLLIN) == -1)
    {
        return -1;
    }

    /* dropping a cancelled reader may have moved or cleared it */
    watch = &poller->watches[fd];

    if ((event->events & PYLOOP_WRITE) && watch->writer
        && pyloop_poll_ready(loop, fd, watch->writer, EPOLLOUT) == -1)
    {
        return -1;
    }

    return 0;
}


static int
pyloop_poll_ready(pyloop_t *loop, int fd, PyObject *handle, uint32_t event)
{
    PyObject  *file, *res;

    if (((pyloop_handle_t *) handle)->cancelled != Py_True) {
        return pyloop_ready_add(&loop->ready, Py_NewRef(handle), NULL, NULL);
    }

    file = PyLong_FromLong(fd);
    if (file == NULL) {
        return -1;
    }

    res = pyloop_watch_remove(loop, file, event);

    Py_DECREF(file);
    Py_XDECREF(res);

    return res ? 0 : -1;
}


/*
 * The descriptor of an int or of an object with fileno(), as the selectors
 * module reads it: an object that was closed while it was watched is still
 * found.  -1 with ValueError set.
 */

static int
pyloop_file_number(pyloop_poller_t *poller, PyObject *file)
{
    int   i;
    long  number;

    number = pyloop_file_long(file);

    if (number >= 0 && number <= INT_MAX) {
        return (int) number;
    }

    for (i = 0; i < poller->size; i++) {
        if (poller->watches[i].file == file) {
            PyErr_Clear();
            return i;
        }
    }

    if (!PyErr_Occurred()) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %ld",
                     number);

    } else if (PyErr_ExceptionMatches(PyExc_AttributeError)
               || PyErr_ExceptionMatches(PyExc_TypeError)
               || PyErr_ExceptionMatches(PyExc_ValueError))
    {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "Invalid file object: %R", file);
    }

    return -1;
}


/* -1 with an exception set, or when the file says so. */

static long
pyloop_file_long(PyObject *file)
{
    long       number;
    PyObject  *answer, *integer;

    if (PyLong_Check(file)) {
        return PyLong_AsLong(file);
    }

    answer = PyObject_CallMethod(file, "fileno", NULL);
    if (answer == NULL) {
        return -1;
    }

    integer = PyNumber_Long(answer);
    Py_DECREF(answer);

    if (integer == NULL) {
        return -1;
    }

    number = PyLong_AsLong(integer);
    Py_DECREF(integer);

    return number;
}


/*
 * Tells the kernel what is watched.  A descriptor that was closed and
 * opened again has left epoll, a duplicated one has not: either is put
 * right.
 */

static int
pyloop_watch_set(pyloop_poller_t *poller, int fd, uint32_t events)
{
    int              op, rc;
    pyloop_watch_t  *watch;

    watch = &poller->watches[fd];

    if (events == watch->events) {
        op = EPOLL_CTL_MOD;

    } else if (events == 0) {
        (void) pyloop_poller_control(poller, EPOLL_CTL_DEL, fd, 0);
        watch->events = 0;

        return 0;

    } else {
        op = watch->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    }

    rc = pyloop_poller_control(poller, op, fd, events);

    if (rc == -1 && errno == ENOENT && op == EPOLL_CTL_MOD) {
        rc = pyloop_poller_control(poller, EPOLL_CTL_ADD, fd, events);

    } else if (rc == -1 && errno == EEXIST) {
        rc = pyloop_poller_control(poller, EPOLL_CTL_MOD, fd, events);
    }

    if (rc == -1) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }

    watch->events = events;

    return 0;
}


static int
pyloop_watch_grow(pyloop_poller_t *poller, int fd)
{
    int              i, size;
    pyloop_watch_t  *watches;

    if (fd < poller->size) {
        return 0;
    }

    size = Py_MAX(fd + 1, Py_MAX(64, 2 * poller->size));

    watches = poller->watches;
    PyMem_Resize(watches, pyloop_watch_t, size);

    if (watches == NULL) {
        PyErr_NoMemory();
        return -1;
    }

    for (i = poller->size; i < size; i++) {
        watches[i] = (pyloop_watch_t) { NULL, NULL, NULL, 0, NULL };
    }

    poller->watches = watches;
    poller->size = size;

    return 0;
}


/* args are the descriptor, the callback and its arguments. */

static PyObject *
pyloop_watch_add(pyloop_t *loop, PyObject *const *args, Py_ssize_t nargs,
    uint32_t event)
{
    int        fd;
    PyObject  *context, *handle;

    if (nargs < 2) {
        PyErr_SetString(PyExc_TypeError,
                        "a file and a callback are required");
        return NULL;
    }

    if (pyloop_check_closed(loop) == -1) {
        return NULL;
    }

    fd = pyloop_file_number(loop->poller, args[0]);
    if (fd == -1) {
        return NULL;
    }

    /* it runs more than once: what one call sets, the next one sees */
    context = PyContext_CopyCurrent();
    if (context == NULL) {
        return NULL;
    }

    handle = pyloop_handle_new(loop, args[1], args + 2, nargs - 2, context);
    Py_DECREF(context);

    if (handle == NULL) {
        return NULL;
    }

    PyObject_GC_Track(handle);

    if (pyloop_watch_put(loop, fd, event, handle) == -1) {
        Py_DECREF(handle);
        return NULL;
    }

    if (!PyLong_Check(args[0])) {
        Py_XSETREF(loop->poller->watches[fd].file, Py_NewRef(args[0]));
    }

    return handle;
}


PyObject *
pyloop_watch(pyloop_t *loop, int fd, uint32_t event, PyObject *callback,
    PyObject *context)
{
    int        rc;
    PyObject  *handle;

    if (pyloop_check_closed(loop) == -1) {
        return NULL;
    }

    handle = pyloop_handle_new(loop, callback, NULL, 0, context);
    if (handle == NULL) {
        return NULL;
    }

    PyObject_GC_Track(handle);

    rc = pyloop_watch_put(loop, fd, event, handle);
    Py_DECREF(handle);

    return rc == 0 ? handle : NULL;
}


/* The handle takes the place of the one that is there. */

static int
pyloop_watch_put(pyloop_t *loop, int fd, uint32_t event, PyObject *handle)
{
    int               rc;
    PyObject         *old;
    pyloop_watch_t   *watch;
    pyloop_poller_t  *poller;

    poller = loop->poller;

    if (pyloop_watch_grow(poller, fd) == -1
        || pyloop_watch_set(poller, fd, poller->watches[fd].events | event)
           == -1)
    {
        return -1;
    }

    watch = &poller->watches[fd];

    if (event == EPOLLIN) {
        old = watch->reader;
        watch->reader = Py_NewRef(handle);

    } else {
        old = watch->writer;
        watch->writer = Py_NewRef(handle);
    }

    rc = old ? pyloop_handle_cancel(loop->state, old) : 0;
    Py_XDECREF(old);

    return rc;
}


static PyObject *
pyloop_watch_remove(pyloop_t *loop, PyObject *file, uint32_t event)
{
    int  fd, rc;

    if (loop->closed) {
        Py_RETURN_FALSE;
    }

    fd = pyloop_file_number(loop->poller, file);
    if (fd == -1) {
        return NULL;
    }

    rc = pyloop_unwatch(loop, fd, event);

    return rc == -1 ? NULL : PyBool_FromLong(rc);
}


int
pyloop_unwatch(pyloop_t *loop, int fd, uint32_t event)
{
    int               rc;
    PyObject         *handle, *old;
    pyloop_watch_t   *watch;
    pyloop_poller_t  *poller;

    poller = loop->poller;

    if (loop->closed || fd >= poller->size
        || !(poller->watches[fd].events & event))
    {
        return 0;
    }

    if (pyloop_watch_set(poller, fd, poller->watches[fd].events & ~event)
        == -1)
    {
        return -1;
    }

    watch = &poller->watches[fd];

    if (event == EPOLLIN) {
        handle = watch->reader;
        watch->reader = NULL;

    } else {
        handle = watch->writer;
        watch->writer = NULL;
    }

    old = NULL;

    if (watch->events == 0) {
        old = watch->file;
        watch->file = NULL;
    }

    rc = handle ? pyloop_handle_cancel(loop->state, handle) : 0;

    Py_XDECREF(handle);
    Py_XDECREF(old);

    return rc == -1 ? -1 : 1;
}


int
pyloop_watch_own(pyloop_t *loop, int fd, pyloop_transport_t *tr)
{
    if (pyloop_check_closed(loop) == -1
        || pyloop_watch_grow(loop->poller, fd) == -1)
    {
        return -1;
    }

    loop->poller->watches[fd].transport = tr;

    return 0;
}


void
pyloop_watch_disown(pyloop_t *loop, int fd, pyloop_transport_t *tr)
{
    pyloop_poller_t  *poller;

    poller = loop->poller;

    if (poller && fd >= 0 && fd < poller->size
        && poller->watches[fd].transport == tr)
    {
        poller->watches[fd].transport = NULL;
    }
}


PyObject *
pyloop_ensure_fd_no_transport(PyObject *op, PyObject *file)
{
    int                  fd;
    pyloop_poller_t     *poller;
    pyloop_transport_t  *tr;

    poller = ((pyloop_t *) op)->poller;

    fd = pyloop_file_number(poller, file);
    if (fd == -1) {
        return NULL;
    }

    tr = fd < poller->size ? poller->watches[fd].transport : NULL;

    if (tr && !tr->closing) {
        PyErr_Format(PyExc_RuntimeError,
                     "File descriptor %R is used by transport %R", file, tr);
        return NULL;
    }

    Py_RETURN_NONE;
}


PyObject *
pyloop_add_reader(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    return pyloop_watch_add((pyloop_t *) op, args, nargs, EPOLLIN);
}


PyObject *
pyloop_add_writer(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    return pyloop_watch_add((pyloop_t *) op, args, nargs, EPOLLOUT);
}


PyObject *
pyloop_remove_reader(PyObject *op, PyObject *file)
{
    return pyloop_watch_remove((pyloop_t *) op, file, EPOLLIN);
}


PyObject *
pyloop_remove_writer(PyObject *op, PyObject *file)
{
    return pyloop_watch_remove((pyloop_t *) op, file, EPOLLOUT);
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


static PyMethodDef pyloop_poller_methods[] = {
    {"close", pyloop_poller_close, METH_NOARGS,
     "Close the epoll descriptor and forget what is watched."},
    {"fileno", pyloop_poller_fileno, METH_NOARGS,
     "The epoll descriptor, -1 when closed."},
    {"get_key", pyloop_poller_get_key, METH_O,
     "The selectors.SelectorKey of what is watched, else KeyError."},
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
