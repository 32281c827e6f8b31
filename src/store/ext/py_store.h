/*
 * databridge._store's inner house: the structs of a store and who owns them.
 *
 * A Store and its Collections belong to the thread that uses them, which is
 * to the store what nginx's is, but may wait: it does so without the GIL.
 * The store's own threads touch nothing of them but the last line of the
 * log, under the mutex.
 */

#ifndef PY_STORE_H
#define PY_STORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pthread.h>

#include "crud/db_crud.h"


#define PY_STORE_ARENA  65536


typedef struct {
    PyTypeObject     *store_type;
    PyTypeObject     *collection_type;
    PyObject         *error;
} store_state_t;


typedef struct {
    PyObject_HEAD
    db_store_t       *store;           /* NULL once closed */
    PyObject         *collections;     /* a list: they outlive the store */
    pthread_mutex_t   mutex;
    char              log[512];        /* the last line, or "" */
} store_object_t;


typedef struct {
    PyObject_HEAD
    store_object_t   *owner;
    db_crud_t        *crud;            /* of its schema, or NULL */
    db_collection_t   collection;      /* with the memory of crud */
    char              name[64];
    Py_ssize_t        stored;          /* by write(), also when it fails */
    Py_ssize_t        skipped;
} collection_object_t;


/* The open store, with an empty log; NULL with an exception once closed. */
db_store_t *py_store_get(store_object_t *self);

/* StoreError(message, index): index is -1, or that of a line. */
PyObject *py_store_raise(PyObject *error, const char *message,
    Py_ssize_t index);

/* The store's own words, where it has logged some, say more. */
PyObject *py_store_raise_status(store_object_t *self, PyObject *error,
    db_store_status_t status, Py_ssize_t index);

extern PyType_Spec py_collection_spec;


#endif /* PY_STORE_H */
