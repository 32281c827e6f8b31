#include "python/plan.h"

int
db_py_plan_answer(db_py_plan_run_t *run, PyObject *result)
{
    return 0;
}

PyObject *
db_py_sync_steps(db_py_plan_run_t *run, unsigned first, unsigned n)
{
    PyErr_SetString(PyExc_NotImplementedError, "threads");
    return NULL;
}
