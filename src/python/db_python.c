/*
 * The life of Python in a worker, on the thread that calls db_python_run().
 *
 * The interpreter is never finalized: threads of Python's may still be in C
 * code, and memory that Python owns may still be on its way to a client.
 * The thread ends with the GIL held, so that no other of Python's threads
 * runs while the process exits.
 */

#include "python/runtime.h"

#include <stdlib.h>


#define DB_PY_ERROR_LEN  1024


/* For requests to know that there is nobody to answer them. */

static void
db_py_fail_all(const char *error)
{
    unsigned  i;

    if (db_py.ready == NULL) {
        return;
    }

    for (i = 0; i < db_py.ready->ntables; i++) {

        if (db_py.ready->tables[i]->error == NULL) {
            (void) db_table_fail(db_py.ready->tables[i], error);
        }
    }

    db_ready_publish(db_py.conf->bridge, db_py.ready);
    db_py.ready = NULL;
}


/* Runs databridge.worker to its end, which is that of the applications. */

static void
db_py_worker(void)
{
    PyObject  *worker, *result;

    result = NULL;
    worker = PyImport_ImportModule("databridge.worker");

    if (worker) {
        result = PyObject_CallMethod(worker, "run", NULL);
        Py_DECREF(worker);
    }

    if (result == NULL) {
        db_py_log_exception(worker ? "the worker's Python failed"
                                   : "the worker's Python failed: is "
                                     "databridge installed in its venv?");
        db_py_fail_all("the worker's Python failed: see the error log");
    }

    Py_XDECREF(result);
}


void
db_python_run(const db_python_conf_t *conf)
{
    char        error[DB_PY_ERROR_LEN];
    db_chain_t  chain;

    db_py.conf = conf;
    db_chain_init(&db_py.results);
    db_chain_init(&db_py.debts);

    db_py.ready = db_ready_create(conf->napps);
    db_py.apps = calloc(conf->napps + 1, sizeof(db_py_app_t));

    db_py_ignore_sigchld();

    if (db_py.ready == NULL || db_py.apps == NULL) {
        (void) snprintf(error, sizeof(error), "no memory for Python");
        db_py_log(DB_PYLOG_CRIT, error, strlen(error));

    } else if (db_py_interpreter_start(conf, error, sizeof(error)) == DB_OK) {
        db_py_worker();
        db_py_publish();

    } else {
        db_py_log(DB_PYLOG_CRIT, error, strlen(error));
        db_py_fail_all(error);
    }

    db_py.stopped.kind = DB_MSG_STOPPED;

    db_chain_init(&chain);
    db_chain_append(&chain, &db_py.stopped.node);
    db_bridge_publish(conf->bridge, &chain);
}
