/*
 * The interpreter's start: configuration, environment, sys.path.  The
 * calling thread becomes Python's main thread and holds the GIL afterwards.
 */

#include "python/runtime.h"

#include <dlfcn.h>
#include <limits.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>


/* "key = value" of pyvenv.cfg: the value when the line has that key. */

static const char *
db_py_venv_value(const char *line, const char *key)
{
    size_t  len;

    len = strlen(key);

    if (strncmp(line, key, len) != 0) {
        return NULL;
    }

    line += len;
    line += strspn(line, " \t");

    if (*line != '=') {
        return NULL;
    }

    return line + 1 + strspn(line + 1, " \t");
}


int
db_python_check_venv(const char *venv, char *error, size_t size)
{
    int          major, minor;
    char         path[PATH_MAX], line[1024];
    FILE        *file;
    const char  *value;

    (void) snprintf(path, sizeof(path), "%s/pyvenv.cfg", venv);

    file = fopen(path, "re");
    if (file == NULL) {
        (void) snprintf(error, size,
                        "databridge_venv %s is not a virtual environment "
                        "(no pyvenv.cfg): make one with "
                        "\"python%d.%d -m venv\"",
                        venv, PY_MAJOR_VERSION, PY_MINOR_VERSION);
        return DB_ERROR;
    }

    major = PY_MAJOR_VERSION;
    minor = PY_MINOR_VERSION;

    while (fgets(line, sizeof(line), file)) {
        value = db_py_venv_value(line, "version");

        if (value == NULL) {
            value = db_py_venv_value(line, "version_info");
        }

        if (value && sscanf(value, "%d.%d", &major, &minor) == 2) {
            break;
        }
    }

    (void) fclose(file);

    if (major != PY_MAJOR_VERSION || minor != PY_MINOR_VERSION) {
        (void) snprintf(error, size,
                        "databridge_venv %s is of Python %d.%d, but this "
                        "module embeds %d.%d: make one with "
                        "\"python%d.%d -m venv\"",
                        venv, major, minor, PY_MAJOR_VERSION,
                        PY_MINOR_VERSION, PY_MAJOR_VERSION, PY_MINOR_VERSION);
        return DB_ERROR;
    }

    return DB_OK;
}


/*
 * The prefix of the Python beside our libpython, whose standard library
 * belongs to it; PATH_MAX bytes.
 */

static int
db_py_home(char *home)
{
    char     path[PATH_MAX], *slash;
    Dl_info  info;

    if (dladdr((void *) &PyRun_SimpleStringFlags, &info) == 0
        || info.dli_fname == NULL || realpath(info.dli_fname, home) == NULL)
    {
        return DB_ERROR;
    }

    for (slash = strrchr(home, '/'); slash; slash = strrchr(home, '/')) {
        *slash = '\0';

        (void) snprintf(path, sizeof(path), "%.4000s/bin/python%d.%d", home,
                        PY_MAJOR_VERSION, PY_MINOR_VERSION);

        if (access(path, X_OK) == 0) {
            return DB_OK;
        }
    }

    return DB_ERROR;
}


/*
 * The program that CPython takes itself for and the home of its library:
 * the venv's, made by whatever build of the same Python, with our home, or
 * the one of that home.  Never what PATH happens to name.
 */

static int
db_py_program(const db_python_conf_t *conf, char *program, char *home,
    char *error, size_t size)
{
    int  rc;

    rc = db_py_home(home);

    if (conf->venv.len) {
        if (rc != DB_OK) {
            home[0] = '\0';
        }

        (void) snprintf(program, PATH_MAX, "%s/bin/python", conf->venv.data);
        return db_python_check_venv(conf->venv.data, error, size);
    }

    if (rc == DB_OK) {
        (void) snprintf(program, PATH_MAX, "%.4000s/bin/python%d.%d", home,
                        PY_MAJOR_VERSION, PY_MINOR_VERSION);
        return DB_OK;
    }

    (void) snprintf(error, size,
                    "python%d.%d is not installed beside its library: name "
                    "a virtual environment with databridge_venv",
                    PY_MAJOR_VERSION, PY_MINOR_VERSION);

    return DB_ERROR;
}


/* Before the interpreter starts, so that os.environ has it. */

static void
db_py_environment(const db_python_conf_t *conf)
{
    char        *name, *value;
    unsigned     i;

    for (i = 0; i < conf->nenv; i++) {
        name = strndup(conf->env[i].data, conf->env[i].len);
        if (name == NULL) {
            continue;
        }

        value = strchr(name, '=');

        if (value) {
            *value++ = '\0';
            (void) setenv(name, value, 1);
        }

        free(name);
    }
}


static int
db_py_status(PyStatus status, char *error, size_t size)
{
    if (!PyStatus_Exception(status)) {
        return DB_OK;
    }

    (void) snprintf(error, size, "Python does not start: %s%s%s",
                    status.func ? status.func : "", status.func ? ": " : "",
                    status.err_msg ? status.err_msg : "exit");

    return DB_ERROR;
}


static PyStatus
db_py_initialize(const char *program, const char *home)
{
    char        *argv[] = { "databridge" };
    PyConfig     config;
    PyStatus     status;
    PyPreConfig  preconfig;

    PyPreConfig_InitPythonConfig(&preconfig);

    preconfig.utf8_mode = 1;
    preconfig.configure_locale = 0;
    preconfig.coerce_c_locale = 0;
    preconfig.parse_argv = 0;

    status = Py_PreInitialize(&preconfig);

    if (PyStatus_Exception(status)) {
        return status;
    }

    /* libraries in C take text for UTF-8 as Python does, in any environment */
    (void) setlocale(LC_CTYPE, "C.UTF-8");

    PyConfig_InitPythonConfig(&config);

    config.install_signal_handlers = 0;
    config.parse_argv = 0;

    status = PyConfig_SetBytesString(&config, &config.program_name, program);

    if (!PyStatus_Exception(status) && home[0]) {
        status = PyConfig_SetBytesString(&config, &config.home, home);
    }

    if (!PyStatus_Exception(status)) {
        status = PyConfig_SetBytesArgv(&config, 1, argv);
    }

    if (!PyStatus_Exception(status)) {
        status = Py_InitializeFromConfig(&config);
    }

    PyConfig_Clear(&config);

    return status;
}


/* The directories of "path" in front of sys.path, in their order. */

static int
db_py_path(db_str_t path)
{
    int          rc;
    size_t       len;
    PyObject    *sys_path, *entry;
    Py_ssize_t   index;
    const char  *colon;

    sys_path = PySys_GetObject("path");

    if (sys_path == NULL || !PyList_Check(sys_path)) {
        return DB_ERROR;
    }

    index = 0;

    while (path.len) {
        colon = memchr(path.data, ':', path.len);
        len = colon ? (size_t) (colon - path.data) : path.len;

        if (len) {
            entry = PyUnicode_DecodeFSDefaultAndSize(path.data, len);

            if (entry == NULL) {
                return DB_ERROR;
            }

            rc = PyList_Insert(sys_path, index++, entry);
            Py_DECREF(entry);

            if (rc == -1) {
                return DB_ERROR;
            }
        }

        if (colon) {
            len++;
        }

        path.data += len;
        path.len -= len;
    }

    return DB_OK;
}


int
db_py_interpreter_start(const db_python_conf_t *conf, char *error,
    size_t size)
{
    char  program[PATH_MAX], home[PATH_MAX];

    if (db_py_program(conf, program, home, error, size) != DB_OK) {
        return DB_ERROR;
    }

    db_py_environment(conf);

    if (PyImport_AppendInittab("_databridge", PyInit__databridge) == -1) {
        (void) snprintf(error, size, "Python does not start: no memory");
        return DB_ERROR;
    }

    if (db_py_status(db_py_initialize(program, home), error, size) != DB_OK) {
        return DB_ERROR;
    }

    if (db_py_path(conf->path) != DB_OK) {
        PyErr_Clear();
        (void) snprintf(error, size, "sys.path cannot be set");
        return DB_ERROR;
    }

    return DB_OK;
}
