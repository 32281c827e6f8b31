/*
 * A WebSocket of an application, as its two files see it: asgi_websocket.c
 * runs it and says what receive() does, asgi_websocket_send.c what send()
 * does.  Loop thread, GIL held.
 */

#ifndef DB_PYTHON_ASGI_WEBSOCKET_H
#define DB_PYTHON_ASGI_WEBSOCKET_H

#include "python/asgi_http.h"


#define DB_PY_CLOSE_NORMAL    1000
#define DB_PY_CLOSE_NO_CODE   1005
#define DB_PY_CLOSE_ABNORMAL  1006
#define DB_PY_CLOSE_INTERNAL  1011


typedef enum {
    DB_PY_SOCKET_CONNECTING,
    DB_PY_SOCKET_OPEN,
    DB_PY_SOCKET_DENIED,             /* a response has been started */
    DB_PY_SOCKET_CLOSED
} db_py_socket_state_t;


typedef struct {
    db_py_request_t       request;   /* first: one is the other */
    db_py_socket_state_t  state;
    unsigned              code;      /* of the disconnect */
    unsigned              connected:1;  /* receive() has said so */
    unsigned              answering:1;  /* it has a message, not answered */
    PyObject             *reason;    /* str, NULL without */
} db_py_socket_t;


/* Of db_py_op_ops_t. */
int db_py_socket_send(PyObject *self, PyObject *message);

/* The part of a close, or NULL; no exception is set. */
db_part_t *db_py_socket_close_part(db_py_socket_t *socket, unsigned code,
    const char *reason, size_t len);

#endif /* DB_PYTHON_ASGI_WEBSOCKET_H */
