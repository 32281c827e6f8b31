/*
 * Which descriptors are watched, for whom, and whose they are; the kernel is
 * told here.  All of it runs on the loop's thread with the GIL held.
 */

#include "pyloop/transport.h"

#include <errno.h>
#include <sys/epoll.h>


static long  pyloop_file_long(PyObject *file);
static int  pyloop_watch_set(pyloop_poller_t *poller, int fd,
    uint32_t events, int once);
static int  pyloop_watch_grow(pyloop_poller_t *poller, int fd);
static PyObject *pyloop_watch_add(pyloop_t *loop, PyObject *const *args,
    Py_ssize_t nargs, uint32_t event);
static int  pyloop_watch_put(pyloop_t *loop, int fd, uint32_t event,
    PyObject *handle, PyObject *file);
static int  pyloop_watch_done(pyloop_t *loop, PyObject *future);
static int  pyloop_watch_drop(pyloop_t *loop, PyObject *op);
static PyObject *pyloop_watch_remove(pyloop_t *loop, PyObject *file,
    uint32_t event);
static PyObject *pyloop_watch_owner(pyloop_t *loop, int fd);


/*
 * The descriptor of an int or of an object with fileno(), as the selectors
 * module reads it: an object that was closed while it was watched is still
 * found.  -1 with ValueError set.
 */

int
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
 * right.  "once": until the next event.
 */

static int
pyloop_watch_set(pyloop_poller_t *poller, int fd, uint32_t events, int once)
{
    int              op, rc;
    uint32_t         kernel;
    pyloop_watch_t  *watch;

    watch = &poller->watches[fd];

    if (events == 0) {
        (void) pyloop_poller_control(poller, EPOLL_CTL_DEL, fd, 0);
        watch->events = 0;
        watch->kernel = 0;

        return 0;
    }

    op = watch->kernel ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    kernel = once ? events | EPOLLONESHOT : events;

    rc = pyloop_poller_control(poller, op, fd, kernel);

    if (rc == -1 && errno == ENOENT && op == EPOLL_CTL_MOD) {
        rc = pyloop_poller_control(poller, EPOLL_CTL_ADD, fd, kernel);

    } else if (rc == -1 && errno == EEXIST) {
        rc = pyloop_poller_control(poller, EPOLL_CTL_MOD, fd, kernel);
    }

    if (rc == -1) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }

    watch->events = events;
    watch->kernel = kernel;

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
        watches[i] = (pyloop_watch_t) { NULL, NULL, NULL, 0, 0, NULL };
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

    loop->polled = 0;

    if (pyloop_watch_put(loop, fd, event, handle,
                         PyLong_Check(args[0]) ? NULL : args[0])
        == -1)
    {
        Py_CLEAR(handle);
    }

    return handle;
}


PyObject *
pyloop_watch(pyloop_t *loop, int fd, uint32_t event, PyObject *callback,
    PyObject *context)
{
    PyObject  *handle;

    if (pyloop_check_closed(loop) == -1) {
        return NULL;
    }

    handle = pyloop_handle_new(loop, callback, NULL, 0, context);
    if (handle == NULL) {
        return NULL;
    }

    PyObject_GC_Track(handle);

    if (pyloop_watch_put(loop, fd, event, handle, NULL) == -1) {
        Py_CLEAR(handle);
    }

    return handle;
}


/*
 * The handle, or Future, takes the place of the one that is there; "file" is
 * what has the descriptor, or NULL.
 */

static int
pyloop_watch_put(pyloop_t *loop, int fd, uint32_t event, PyObject *handle,
    PyObject *file)
{
    int               once, rc;
    PyObject         *old, *old_file;
    pyloop_watch_t   *watch;
    pyloop_poller_t  *poller;

    poller = loop->poller;

    if (pyloop_watch_grow(poller, fd) == -1) {
        return -1;
    }

    watch = &poller->watches[fd];

    old = event == EPOLLIN ? watch->writer : watch->reader;
    once = !pyloop_is_handle(loop->state, handle)
           && (old == NULL || !pyloop_is_handle(loop->state, old));

    if (pyloop_watch_set(poller, fd, watch->events | event, once) == -1) {
        return -1;
    }

    if (event == EPOLLIN) {
        old = watch->reader;
        watch->reader = Py_NewRef(handle);

    } else {
        old = watch->writer;
        watch->writer = Py_NewRef(handle);
    }

    old_file = NULL;

    if (file) {
        old_file = watch->file;
        watch->file = Py_NewRef(file);
    }

    /* from here on Python code may run: the watch may have moved */

    rc = old ? pyloop_watch_drop(loop, old) : 0;
    Py_XDECREF(old_file);

    return rc == -1 ? -1 : 0;
}


/* Whether a Future is, or -1 with an exception set. */

static int
pyloop_watch_done(pyloop_t *loop, PyObject *future)
{
    int        rc;
    PyObject  *res;

    res = PyObject_CallMethodNoArgs(future, loop->state->str_done);
    rc = res ? res == Py_True : -1;
    Py_XDECREF(res);

    return rc;
}


/*
 * Takes the reference of what is no longer watched: 1, or 0 when nothing
 * waited for it, or -1 with an exception set.
 */

static int
pyloop_watch_drop(pyloop_t *loop, PyObject *op)
{
    int  rc;

    if (pyloop_is_handle(loop->state, op)) {
        rc = pyloop_handle_cancel(loop->state, op) == -1 ? -1 : 1;

    } else {
        rc = pyloop_watch_done(loop, op);
        rc = rc == -1 ? -1 : !rc;
    }

    Py_DECREF(op);

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
    int               rc, once;
    uint32_t          events;
    PyObject         *handle, *stale, *old;
    pyloop_watch_t   *watch;
    pyloop_poller_t  *poller;

    poller = loop->poller;

    if (loop->closed || fd >= poller->size
        || !(poller->watches[fd].events & event))
    {
        return 0;
    }

    watch = &poller->watches[fd];

    handle = event == EPOLLIN ? watch->writer : watch->reader;
    once = handle && !pyloop_is_handle(loop->state, handle);
    events = watch->events & ~event;
    stale = NULL;

    /* who was cancelled waits no more, and the file may be closed by now */
    if (once) {
        rc = pyloop_watch_done(loop, handle);
        if (rc == -1) {
            return -1;
        }

        /* a Future that is not _asyncio's may have changed what is watched */
        if (fd >= poller->size || !(poller->watches[fd].events & event)) {
            return 0;
        }

        watch = &poller->watches[fd];
        events = watch->events & ~event;

        if (rc && (watch->reader == handle || watch->writer == handle)) {
            events = 0;
            stale = handle;
        }
    }

    if (pyloop_watch_set(poller, fd, events, once) == -1) {
        return -1;
    }

    if (stale && event == EPOLLIN) {
        watch->writer = NULL;

    } else if (stale) {
        watch->reader = NULL;
    }

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

    rc = handle ? pyloop_watch_drop(loop, handle) : 1;

    Py_XDECREF(stale);
    Py_XDECREF(old);

    return rc;
}


/* Who waits for the same already is forgotten, as in asyncio. */

PyObject *
pyloop_watch_once(pyloop_t *loop, PyObject *sock, uint32_t event)
{
    int        fd;
    PyObject  *future, *owner;

    if (pyloop_check_closed(loop) == -1) {
        return NULL;
    }

    fd = pyloop_file_number(loop->poller, sock);
    if (fd == -1) {
        return NULL;
    }

    owner = pyloop_watch_owner(loop, fd);

    if (owner) {
        PyErr_Format(PyExc_RuntimeError,
                     "File descriptor %d is used by transport %R", fd, owner);
        return NULL;
    }

    future = pyloop_create_future((PyObject *) loop, NULL);

    if (future && pyloop_watch_put(loop, fd, event, future, NULL) == -1) {
        Py_CLEAR(future);
    }

    loop->polled = 0;

    return future;
}


int
pyloop_watch_wake(pyloop_t *loop, int fd, uint32_t event)
{
    int              waits;
    PyObject        *future, *res;
    pyloop_watch_t  *watch;

    watch = &loop->poller->watches[fd];
    watch->events &= ~event;

    if (event == EPOLLIN) {
        future = watch->reader;
        watch->reader = NULL;

    } else {
        future = watch->writer;
        watch->writer = NULL;
    }

    Py_INCREF(future);
    waits = pyloop_watch_drop(loop, future);

    if (waits == 1) {
        res = PyObject_CallMethodOneArg(future, loop->state->str_set_result,
                                        Py_None);
        waits = res ? 1 : -1;
        Py_XDECREF(res);
    }

    Py_DECREF(future);

    return waits == -1 ? -1 : 0;
}


/* A number that is closed by now, or another file's, is no one's error. */

void
pyloop_watch_again(pyloop_poller_t *poller, int fd)
{
    uint32_t         kernel;
    pyloop_watch_t  *watch;

    if (fd >= poller->size) {
        return;
    }

    watch = &poller->watches[fd];
    kernel = watch->events | (watch->kernel & EPOLLONESHOT);

    if (kernel == watch->kernel) {
        return;
    }

    watch->kernel = pyloop_poller_control(poller, EPOLL_CTL_MOD, fd, kernel)
                    == 0 ? kernel : 0;
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
    int        fd;
    pyloop_t  *loop;
    PyObject  *owner;

    loop = (pyloop_t *) op;

    fd = pyloop_file_number(loop->poller, file);
    if (fd == -1) {
        return NULL;
    }

    owner = pyloop_watch_owner(loop, fd);

    if (owner) {
        PyErr_Format(PyExc_RuntimeError,
                     "File descriptor %R is used by transport %R", file,
                     owner);
        return NULL;
    }

    Py_RETURN_NONE;
}


/* The transport that is not about to close, borrowed, or NULL. */

static PyObject *
pyloop_watch_owner(pyloop_t *loop, int fd)
{
    pyloop_poller_t     *poller;
    pyloop_transport_t  *tr;

    poller = loop->poller;

    tr = fd < poller->size ? poller->watches[fd].transport : NULL;

    return tr && !tr->closing ? (PyObject *) tr : NULL;
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
