/*
 * Members of a plan's specification, checked: 0, or -1 with an exception
 * that says which one, by "name", is wrong.  What is read is borrowed.  Loop
 * thread, GIL held.
 */

#ifndef DB_PYTHON_PLAN_SPEC_H
#define DB_PYTHON_PLAN_SPEC_H

#include "python/runtime.h"


/* A tuple of that size, of any when it is negative. */
int db_py_spec_tuple(PyObject *object, Py_ssize_t size, const char *name);

int db_py_spec_number(PyObject *object, long min, long max, const char *name,
    long *number);
int db_py_spec_flag(PyObject *object, const char *name, int *flag);
int db_py_spec_bytes(PyObject *object, const char *name, db_str_t *str);

/* A tuple of str, one of pairs of bytes. */
int db_py_spec_texts(PyObject *tuple, Py_ssize_t size, const char *name);
int db_py_spec_pairs(PyObject *tuple, const char *what);

/* None is NULL for the second. */
int db_py_spec_call(PyObject *object, const char *name, PyObject **callable);
int db_py_spec_optional(PyObject *object, const char *name,
    PyObject **callable);

#endif /* DB_PYTHON_PLAN_SPEC_H */
