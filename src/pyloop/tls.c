/*
 * TLS: what happens at every message between a stream's transport and the
 * application's protocol.  All of it belongs to the loop's thread.
 *
 * The state machine is asyncio's SSLProtocol: databridge.tls derives from it
 * and from the type here, whose fields stand in for attributes of asyncio's.
 * Ours is a connection that is open, whose protocol reads and whose socket
 * takes what is written; handshake, shutdown and all else are asyncio's.
 */

#include "pyloop/transport.h"


typedef struct {
    PyObject_HEAD
    pyloop_state_t  *module;     /* kept alive by the type */

    PyObject        *state;
    PyObject        *transport;
    PyObject        *protocol;   /* the application's */
    PyObject        *incoming;   /* what OpenSSL reads, */
    PyObject        *outgoing;   /* and what it has written */
    PyObject        *ssl;        /* below ssl.SSLObject; NULL: leave it all */
    Py_ssize_t       backlog;    /* bytes that OpenSSL does not take yet */

    char             buffered;   /* a BufferedProtocol */
    char             deaf;       /* the protocol does not read */
    char             held;       /* the transport does not */
    char             full;       /* the protocol was told not to write */
    char             blocked;    /* the transport takes no more */
} pyloop_tls_t;


static PyObject *pyloop_tls_do_read(PyObject *op, PyObject *unused);
static int  pyloop_tls_read(pyloop_tls_t *tls);
static Py_ssize_t pyloop_tls_read_copied(pyloop_tls_t *tls, Py_ssize_t room,
    int *ended);
static Py_ssize_t pyloop_tls_read_buffered(pyloop_tls_t *tls, int *ended);
static int  pyloop_tls_read_soon(pyloop_tls_t *tls);
static Py_ssize_t pyloop_tls_decrypt(pyloop_tls_t *tls, char *to,
    Py_ssize_t room, int *ended);
static int  pyloop_tls_settle(pyloop_tls_t *tls);
static int  pyloop_tls_writes(pyloop_tls_t *tls);
static int  pyloop_tls_encrypt(pyloop_tls_t *tls, PyObject *data);
static int  pyloop_tls_keep(pyloop_tls_t *tls, char *data, Py_ssize_t len);
static int  pyloop_tls_send(pyloop_tls_t *tls);
static Py_ssize_t pyloop_tls_pending(pyloop_tls_t *tls);
static Py_ssize_t pyloop_tls_held(pyloop_tls_t *tls, PyObject *bio);
static PyObject *pyloop_tls_call(PyObject *op, PyObject *name, PyObject *arg);
static PyObject *pyloop_tls_missing(void);
static Py_ssize_t pyloop_tls_number(PyObject *value);
static int  pyloop_tls_tell(pyloop_tls_t *tls, const char *name);
static int  pyloop_tls_again(pyloop_tls_t *tls);
static PyObject *pyloop_tls_super(PyTypeObject *type, PyObject *op,
    const char *name, PyObject *arg);
static PyObject *pyloop_tls_failed(pyloop_tls_t *tls);


PyObject *
pyloop_tls_receive(PyObject *op, char *data, Py_ssize_t len)
{
    PyObject      *view, *res;
    pyloop_tls_t  *tls;

    tls = (pyloop_tls_t *) op;

    view = PyMemoryView_FromMemory(data, len, PyBUF_READ);
    if (view == NULL) {
        return NULL;
    }

    res = pyloop_tls_call(tls->incoming, tls->module->str_write, view);
    Py_DECREF(view);

    if (res == NULL) {
        return NULL;
    }

    Py_DECREF(res);

    if (tls->state == tls->module->io.tls_wrapped) {
        return pyloop_tls_do_read(op, NULL);
    }

    return pyloop_tls_super(tls->module->io.tls_type, op, "buffer_updated",
                            tls->module->io.zero);
}


static PyObject *
pyloop_tls_do_read(PyObject *op, PyObject *unused)
{
    pyloop_tls_t  *tls;

    tls = (pyloop_tls_t *) op;

    if (tls->ssl == NULL || tls->deaf
        || tls->state != tls->module->io.tls_wrapped)
    {
        return pyloop_tls_super(tls->module->io.tls_type, op, "_do_read",
                                NULL);
    }

    if (pyloop_tls_read(tls) == -1 || pyloop_tls_settle(tls) == -1) {
        return pyloop_tls_failed(tls);
    }

    Py_RETURN_NONE;
}


static int
pyloop_tls_read(pyloop_tls_t *tls)
{
    int         ended;
    Py_ssize_t  n;

    n = pyloop_tls_pending(tls);

    if (n <= 0) {
        return n;
    }

    ended = 0;

    n = tls->buffered ? pyloop_tls_read_buffered(tls, &ended)
                      : pyloop_tls_read_copied(tls, n, &ended);

    if (n == -1) {
        return -1;
    }

    return !ended || (pyloop_tls_tell(tls, "_call_eof_received") == 0
                      && pyloop_tls_tell(tls, "_start_shutdown") == 0)
           ? 0 : -1;
}


/* All that has arrived, into one object; "room" is of what is encrypted. */

static Py_ssize_t
pyloop_tls_read_copied(pyloop_tls_t *tls, Py_ssize_t room, int *ended)
{
    PyObject    *data, *res;
    Py_ssize_t   n, len;

    data = PyBytes_FromStringAndSize(NULL, room);
    if (data == NULL) {
        return -1;
    }

    len = 0;

    for ( ;; ) {
        n = pyloop_tls_decrypt(tls, PyBytes_AS_STRING(data) + len,
                               room - len, ended);
        if (n == -1) {
            goto failed;
        }

        len += n;

        if (len < room || *ended) {
            break;
        }

        n = pyloop_tls_pending(tls);

        if (n == -1) {
            goto failed;
        }

        if (n == 0) {
            break;
        }

        room += n;

        if (_PyBytes_Resize(&data, room) == -1) {
            return -1;
        }
    }

    if (len == 0) {
        Py_DECREF(data);
        return 0;
    }

    if (len < room && _PyBytes_Resize(&data, len) == -1) {
        return -1;
    }

    res = pyloop_tls_call(tls->protocol, tls->module->str_data_received,
                          data);
    Py_DECREF(data);
    Py_XDECREF(res);

    return res ? len : -1;

failed:

    Py_DECREF(data);

    return -1;
}


/* What has no room there waits for the next turn. */

static Py_ssize_t
pyloop_tls_read_buffered(pyloop_tls_t *tls, int *ended)
{
    PyObject    *value, *buffer, *res;
    Py_buffer    view;
    Py_ssize_t   n, room;

    value = PyObject_GetAttr(tls->incoming, tls->module->str_pending);
    if (value == NULL) {
        return -1;
    }

    buffer = pyloop_tls_call(tls->protocol, tls->module->str_get_buffer,
                             value);
    Py_DECREF(value);

    if (buffer == NULL) {
        return -1;
    }

    if (PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) == -1) {
        Py_DECREF(buffer);
        return -1;
    }

    room = view.len;
    n = pyloop_tls_decrypt(tls, view.buf, room, ended);

    PyBuffer_Release(&view);
    Py_DECREF(buffer);

    if (n <= 0) {
        return n;
    }

    if (n == room && pyloop_tls_read_soon(tls) == -1) {
        return -1;
    }

    value = PyLong_FromSsize_t(n);
    if (value == NULL) {
        return -1;
    }

    res = pyloop_tls_call(tls->protocol, tls->module->str_buffer_updated,
                          value);
    Py_DECREF(value);
    Py_XDECREF(res);

    return res ? n : -1;
}


static int
pyloop_tls_read_soon(pyloop_tls_t *tls)
{
    PyObject  *loop, *method, *res;

    loop = PyObject_GetAttrString((PyObject *) tls, "_loop");
    method = PyObject_GetAttrString((PyObject *) tls, "_do_read");

    res = loop && method
          ? PyObject_CallMethod(loop, "call_soon", "O", method) : NULL;

    Py_XDECREF(method);
    Py_XDECREF(loop);
    Py_XDECREF(res);

    return res ? 0 : -1;
}


/* Record by record: the number of bytes, or -1. */

static Py_ssize_t
pyloop_tls_decrypt(pyloop_tls_t *tls, char *to, Py_ssize_t room, int *ended)
{
    PyObject    *args[3], *res;
    Py_ssize_t   n, len;

    len = 0;

    do {
        if (tls->ssl == NULL) {
            return pyloop_tls_number(pyloop_tls_missing());
        }

        args[0] = Py_NewRef(tls->ssl);
        args[1] = PyLong_FromSsize_t(room - len);
        args[2] = PyMemoryView_FromMemory(to + len, room - len, PyBUF_WRITE);

        res = args[1] && args[2]
              ? PyObject_VectorcallMethod(tls->module->str_read, args, 3,
                                          NULL)
              : NULL;

        Py_XDECREF(args[2]);
        Py_XDECREF(args[1]);
        Py_DECREF(args[0]);

        n = pyloop_tls_number(res);

        if (n == -1) {
            return pyloop_tls_again(tls) ? len : -1;
        }

        if (n == 0) {
            *ended = 1;   /* close_notify */
            return len;
        }

        len += n;

        n = len < room ? pyloop_tls_pending(tls) : 0;

        if (n == -1) {
            return -1;
        }

    } while (n);

    return len;
}


/* After reading: what OpenSSL has to say, and flow control. */

static int
pyloop_tls_settle(pyloop_tls_t *tls)
{
    Py_ssize_t  n;

    if (tls->backlog) {
        if (pyloop_tls_tell(tls, "_do_write") == -1) {
            return -1;
        }

    } else {
        n = pyloop_tls_held(tls, tls->outgoing);
        if (n == -1
            || ((n || tls->full)
                && pyloop_tls_tell(tls, "_process_outgoing") == -1))
        {
            return -1;
        }
    }

    n = pyloop_tls_held(tls, tls->incoming);
    if (n == -1
        || ((n || tls->held)
            && pyloop_tls_tell(tls, "_control_ssl_reading") == -1))
    {
        return -1;
    }

    return 0;
}


/* The method of the application's transport. */

static PyObject *
pyloop_tls_write(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
    PyObject *kwnames)
{
    PyObject        *tls, *data, *module, *res;
    pyloop_state_t  *state;

    data = pyloop_argument("write", "data", args, nargs, kwnames);

    module = data ? PyType_GetModuleByDef(Py_TYPE(op), &pyloop_module) : NULL;
    if (module == NULL) {
        return NULL;
    }

    state = PyModule_GetState(module);

    tls = PyObject_GetAttr(op, state->str_ssl_protocol);
    if (tls == NULL) {
        return NULL;
    }

    if (!PyObject_TypeCheck(tls, state->io.tls_type)
        || !PyBytes_CheckExact(data) || PyBytes_GET_SIZE(data) == 0
        || !pyloop_tls_writes((pyloop_tls_t *) tls))
    {
        Py_DECREF(tls);
        return pyloop_tls_super(state->io.tls_transport_type, op, "write",
                                data);
    }

    if (pyloop_tls_encrypt((pyloop_tls_t *) tls, data) == -1
        || pyloop_tls_send((pyloop_tls_t *) tls) == -1)
    {
        res = pyloop_tls_failed((pyloop_tls_t *) tls);

    } else {
        res = Py_NewRef(Py_None);
    }

    Py_DECREF(tls);

    return res;
}


/* What comes here is what write() and writelines() of asyncio's pass on. */

static PyObject *
pyloop_tls_write_appdata(PyObject *op, PyObject *list)
{
    PyObject      *items, *item, *res;
    Py_ssize_t     i;
    pyloop_tls_t  *tls;

    tls = (pyloop_tls_t *) op;

    items = PySequence_Tuple(list);
    if (items == NULL) {
        return NULL;
    }

    for (i = 0; i < PyTuple_GET_SIZE(items); i++) {
        item = PyTuple_GET_ITEM(items, i);

        if (!PyBytes_Check(item) && !PyByteArray_Check(item)
            && !PyMemoryView_Check(item))
        {
            break;
        }
    }

    if (i < PyTuple_GET_SIZE(items) || !pyloop_tls_writes(tls)) {
        res = pyloop_tls_super(tls->module->io.tls_type, op,
                               "_write_appdata", items);
        Py_DECREF(items);
        return res;
    }

    for (i = 0; i < PyTuple_GET_SIZE(items); i++) {
        if (pyloop_tls_encrypt(tls, PyTuple_GET_ITEM(items, i)) == -1) {
            break;
        }
    }

    if (i < PyTuple_GET_SIZE(items) || pyloop_tls_send(tls) == -1) {
        Py_DECREF(items);
        return pyloop_tls_failed(tls);
    }

    Py_DECREF(items);
    Py_RETURN_NONE;
}


static int
pyloop_tls_writes(pyloop_tls_t *tls)
{
    return tls->ssl && !tls->blocked && tls->backlog == 0
           && tls->state == tls->module->io.tls_wrapped;
}


/* Record by record; behind what waits already it waits as well. */

static int
pyloop_tls_encrypt(pyloop_tls_t *tls, PyObject *data)
{
    int          rc;
    PyObject    *part, *res;
    Py_buffer    view;
    Py_ssize_t   n, done;

    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) == -1) {
        return -1;
    }

    rc = 0;
    done = 0;

    while (done < view.len && tls->backlog == 0) {
        part = done ? PyMemoryView_FromMemory((char *) view.buf + done,
                                              view.len - done, PyBUF_READ)
                    : Py_NewRef(data);

        res = part ? pyloop_tls_call(tls->ssl, tls->module->str_write, part)
                   : NULL;
        Py_XDECREF(part);

        n = pyloop_tls_number(res);

        if (n == -1) {
            rc = pyloop_tls_again(tls) ? 0 : -1;
            break;
        }

        done += n;
    }

    if (rc == 0 && done < view.len) {
        rc = pyloop_tls_keep(tls, (char *) view.buf + done, view.len - done);
    }

    PyBuffer_Release(&view);

    return rc;
}


static int
pyloop_tls_keep(pyloop_tls_t *tls, char *data, Py_ssize_t len)
{
    PyObject  *backlog, *res;

    backlog = PyObject_GetAttrString((PyObject *) tls, "_write_backlog");
    if (backlog == NULL) {
        return -1;
    }

    res = PyObject_CallMethod(backlog, "append", "y#", data, len);
    Py_DECREF(backlog);

    if (res == NULL) {
        return -1;
    }

    Py_DECREF(res);
    tls->backlog += len;

    return 0;
}


static int
pyloop_tls_send(pyloop_tls_t *tls)
{
    PyObject  *data, *res;

    data = pyloop_tls_call(tls->outgoing, tls->module->str_read, NULL);
    if (data == NULL) {
        return -1;
    }

    res = PyBytes_GET_SIZE(data)
          ? pyloop_tls_call(tls->transport, tls->module->str_write, data)
          : Py_NewRef(Py_None);
    Py_DECREF(data);

    if (res == NULL) {
        return -1;
    }

    Py_DECREF(res);

    return tls->full || tls->backlog
           ? pyloop_tls_tell(tls, "_control_app_writing") : 0;
}


/* What can be read: a greater number than will be, or -1. */

static Py_ssize_t
pyloop_tls_pending(pyloop_tls_t *tls)
{
    Py_ssize_t  n;

    n = pyloop_tls_held(tls, tls->incoming);
    if (n) {
        return n;
    }

    return pyloop_tls_number(pyloop_tls_call(tls->ssl,
                                             tls->module->str_pending, NULL));
}


/* Bytes in a MemoryBIO, or -1. */

static Py_ssize_t
pyloop_tls_held(pyloop_tls_t *tls, PyObject *bio)
{
    if (bio == NULL) {
        return pyloop_tls_number(pyloop_tls_missing());
    }

    return pyloop_tls_number(PyObject_GetAttr(bio, tls->module->str_pending));
}


/* A method of what an attribute holds, which may change meanwhile. */

static PyObject *
pyloop_tls_call(PyObject *op, PyObject *name, PyObject *arg)
{
    PyObject  *args[2], *res;

    if (op == NULL) {
        return pyloop_tls_missing();
    }

    args[0] = Py_NewRef(op);
    args[1] = arg;

    res = PyObject_VectorcallMethod(name, args, arg ? 2 : 1, NULL);
    Py_DECREF(op);

    return res;
}


/* Of a protocol that asyncio has not set up, or whose attribute is gone. */

static PyObject *
pyloop_tls_missing(void)
{
    PyErr_SetString(PyExc_RuntimeError, "the TLS protocol is incomplete");

    return NULL;
}


/* Takes the reference, which may be NULL. */

static Py_ssize_t
pyloop_tls_number(PyObject *value)
{
    Py_ssize_t  n;

    if (value == NULL) {
        return -1;
    }

    n = PyLong_AsSsize_t(value);
    Py_DECREF(value);

    return n;
}


static int
pyloop_tls_tell(pyloop_tls_t *tls, const char *name)
{
    PyObject  *res;

    res = PyObject_CallMethod((PyObject *) tls, name, NULL);
    Py_XDECREF(res);

    return res ? 0 : -1;
}


/* Whether OpenSSL only wants more data: then no exception is left. */

static int
pyloop_tls_again(pyloop_tls_t *tls)
{
    if (!PyErr_ExceptionMatches(tls->module->io.tls_again)) {
        return 0;
    }

    PyErr_Clear();

    return 1;
}


/* asyncio's method, for which the one of our type stands. */

static PyObject *
pyloop_tls_super(PyTypeObject *type, PyObject *op, const char *name,
    PyObject *arg)
{
    PyObject  *super, *res;

    super = PyObject_CallFunctionObjArgs((PyObject *) &PySuper_Type, type, op,
                                         NULL);
    if (super == NULL) {
        return NULL;
    }

    res = PyObject_CallMethod(super, name, arg ? "(O)" : NULL, arg);
    Py_DECREF(super);

    return res;
}


/* The exception is being handled, for who logs it. */

static PyObject *
pyloop_tls_failed(pyloop_tls_t *tls)
{
    PyObject  *exc, *handled, *res;

    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return NULL;
    }

    exc = pyloop_exception_take();
    handled = PyErr_GetHandledException();
    PyErr_SetHandledException(exc);

    res = PyObject_CallMethod((PyObject *) tls, "_fatal_error", "Os", exc,
                              "Fatal error on SSL protocol");

    PyErr_SetHandledException(handled);
    Py_XDECREF(handled);
    Py_DECREF(exc);

    return res;
}


static PyObject *
pyloop_tls_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject      *module;
    pyloop_tls_t  *tls;

    module = PyType_GetModuleByDef(type, &pyloop_module);
    if (module == NULL) {
        return NULL;
    }

    tls = (pyloop_tls_t *) type->tp_alloc(type, 0);
    if (tls) {
        tls->module = PyModule_GetState(module);
    }

    return (PyObject *) tls;
}


static int
pyloop_tls_traverse(PyObject *op, visitproc visit, void *arg)
{
    pyloop_tls_t  *tls;

    tls = (pyloop_tls_t *) op;

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(tls->state);
    Py_VISIT(tls->transport);
    Py_VISIT(tls->protocol);
    Py_VISIT(tls->incoming);
    Py_VISIT(tls->outgoing);
    Py_VISIT(tls->ssl);

    return 0;
}


static int
pyloop_tls_clear(PyObject *op)
{
    pyloop_tls_t  *tls;

    tls = (pyloop_tls_t *) op;

    Py_CLEAR(tls->state);
    Py_CLEAR(tls->transport);
    Py_CLEAR(tls->protocol);
    Py_CLEAR(tls->incoming);
    Py_CLEAR(tls->outgoing);
    Py_CLEAR(tls->ssl);

    return 0;
}


static void
pyloop_tls_dealloc(PyObject *op)
{
    PyTypeObject  *type;

    type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    (void) pyloop_tls_clear(op);

    type->tp_free(op);
    Py_DECREF(type);
}


static PyMethodDef pyloop_tls_methods[] = {
    PYLOOP_NOARGS("_do_read", pyloop_tls_do_read, ""),
    { "_write_appdata", pyloop_tls_write_appdata, METH_O, NULL },
    { NULL, NULL, 0, NULL }
};


#define PYLOOP_TLS_OBJECT(name, field)                                        \
    { name, T_OBJECT_EX, offsetof(pyloop_tls_t, field), 0, NULL }

#define PYLOOP_TLS_FLAG(name, field)                                          \
    { name, T_BOOL, offsetof(pyloop_tls_t, field), 0, NULL }

static PyMemberDef pyloop_tls_members[] = {
    PYLOOP_TLS_OBJECT("_state", state),
    PYLOOP_TLS_OBJECT("_transport", transport),
    PYLOOP_TLS_OBJECT("_app_protocol", protocol),
    PYLOOP_TLS_OBJECT("_incoming", incoming),
    PYLOOP_TLS_OBJECT("_outgoing", outgoing),
    PYLOOP_TLS_OBJECT("_ssl", ssl),
    { "_write_buffer_size", T_PYSSIZET, offsetof(pyloop_tls_t, backlog), 0,
      NULL },
    PYLOOP_TLS_FLAG("_app_protocol_is_buffer", buffered),
    PYLOOP_TLS_FLAG("_app_reading_paused", deaf),
    PYLOOP_TLS_FLAG("_app_writing_paused", full),
    PYLOOP_TLS_FLAG("_ssl_reading_paused", held),
    PYLOOP_TLS_FLAG("_ssl_writing_paused", blocked),
    { NULL, 0, 0, 0, NULL }
};


static PyType_Slot pyloop_tls_slots[] = {
    { Py_tp_doc, "The hot half of asyncio's SSLProtocol." },
    { Py_tp_new, pyloop_tls_new },
    { Py_tp_methods, pyloop_tls_methods },
    { Py_tp_members, pyloop_tls_members },
    { Py_tp_traverse, pyloop_tls_traverse },
    { Py_tp_clear, pyloop_tls_clear },
    { Py_tp_dealloc, pyloop_tls_dealloc },
    { 0, NULL }
};


static PyType_Spec pyloop_tls_spec = {
    .name = "databridge._pyloop.TLSProtocol",
    .basicsize = sizeof(pyloop_tls_t),
    .flags = Py_TPFLAGS_DEFAULT|Py_TPFLAGS_HAVE_GC|Py_TPFLAGS_BASETYPE
             |Py_TPFLAGS_IMMUTABLETYPE,
    .slots = pyloop_tls_slots,
};


static PyMethodDef pyloop_tls_transport_methods[] = {
    PYLOOP_FAST("write", pyloop_tls_write, "data",
                "Write the data, now or as soon as the peer takes it."),
    { NULL, NULL, 0, NULL }
};


static PyType_Slot pyloop_tls_transport_slots[] = {
    { Py_tp_doc, "What stands in front of asyncio's _SSLProtocolTransport." },
    { Py_tp_methods, pyloop_tls_transport_methods },
    { 0, NULL }
};


/* Without fields: asyncio's class has slots. */

static PyType_Spec pyloop_tls_transport_spec = {
    .name = "databridge._pyloop.TLSTransport",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT|Py_TPFLAGS_BASETYPE|Py_TPFLAGS_IMMUTABLETYPE,
    .slots = pyloop_tls_transport_slots,
};


int
pyloop_tls_init(PyObject *module, pyloop_io_t *io)
{
    PyObject  *states, *read, *syscall;

    states = pyloop_import("asyncio.sslproto", "SSLProtocolState");
    read = pyloop_import("ssl", "SSLWantReadError");
    syscall = pyloop_import("ssl", "SSLSyscallError");

    if (states && read && syscall) {
        io->tls_wrapped = PyObject_GetAttrString(states, "WRAPPED");
        io->tls_again = PyTuple_Pack(2, read, syscall);
    }

    Py_XDECREF(syscall);
    Py_XDECREF(read);
    Py_XDECREF(states);

    if (io->tls_wrapped == NULL || io->tls_again == NULL) {
        return -1;
    }

    io->tls_type = (PyTypeObject *)
                    PyType_FromModuleAndSpec(module, &pyloop_tls_spec, NULL);
    if (io->tls_type == NULL) {
        return -1;
    }

    io->tls_transport_type = (PyTypeObject *)
          PyType_FromModuleAndSpec(module, &pyloop_tls_transport_spec, NULL);

    return io->tls_transport_type ? 0 : -1;
}
