/*
 * The way to MongoDB's driver, which is linked to mongo-c-driver and all
 * that it needs: a shared object beside the module, loaded when the first
 * such store is opened, by whatever thread that is, and never unloaded.
 *
 * Whether that will do is tried by a child, so that nginx's master, which
 * wants to know before it takes a configuration, does not hold the driver.
 *
 * What is said about a URI does not repeat it: it may hold a password.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE              /* dladdr(), memrchr() */
#endif

#include "store/db_driver.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>


#define DB_MONGO_DATABASE_LENGTH  63
#define DB_MONGO_ERROR_LENGTH     512


static int
db_mongo_wrong(char *error, size_t size, const char *what)
{
    snprintf(error, size, "%s: expected mongodb://HOST[:PORT]/DATABASE,"
             " with USER:PASSWORD@ and ?OPTION=VALUE as MongoDB has them",
             what);

    return DB_ERROR;
}


/* What lies before the first of two characters; *rest begins with it. */

static db_str_t
db_mongo_until(db_str_t *rest, char a, char b)
{
    size_t    n;
    db_str_t  part;

    n = 0;

    while (n < rest->len && rest->data[n] != a && rest->data[n] != b) {
        n++;
    }

    part = (db_str_t) { rest->data, n };
    *rest = (db_str_t) { rest->data + n, rest->len - n };

    return part;
}


static int
db_mongo_check_hosts(db_str_t hosts, int srv, char *error, size_t size)
{
    const char  *at;

    at = hosts.len ? memrchr(hosts.data, '@', hosts.len) : NULL;

    if (at) {
        hosts.len -= (size_t) (at + 1 - hosts.data);
        hosts.data = at + 1;
    }

    if (hosts.len == 0 || hosts.data[0] == ':') {
        return db_mongo_wrong(error, size, "it names no host");
    }

    if (srv && (memchr(hosts.data, ',', hosts.len)
                || memchr(hosts.data, ':', hosts.len)))
    {
        return db_mongo_wrong(error, size, "mongodb+srv:// has one host and"
                              " no port");
    }

    return DB_OK;
}


static int
db_mongo_check_database(db_str_t database, char *error, size_t size)
{
    size_t  i;

    if (database.len == 0) {
        return db_mongo_wrong(error, size, "it names no database");
    }

    if (database.len > DB_MONGO_DATABASE_LENGTH) {
        return db_mongo_wrong(error, size, "its database has too long a name");
    }

    for (i = 0; i < database.len; i++) {

        if ((unsigned char) database.data[i] <= ' '
            || strchr("/\\.\"$@:%", database.data[i]))
        {
            return db_mongo_wrong(error, size, "its database is no name (in a"
                                  " user name or a password, \"/\", \"@\" and"
                                  " \":\" are written %2F, %40 and %3A)");
        }
    }

    return DB_OK;
}


static int
db_mongo_check_uri(db_str_t uri, char *error, size_t size)
{
    int       srv;
    db_str_t  rest, hosts, database;

    if (memchr(uri.data, '\0', uri.len)) {
        return db_mongo_wrong(error, size, "it holds a NUL");
    }

    rest = uri;
    (void) db_mongo_until(&rest, '/', '/');
    srv = (rest.data - uri.data == sizeof("mongodb+srv:") - 1);
    rest = (db_str_t) { rest.data + 2, rest.len - 2 };

    hosts = db_mongo_until(&rest, '/', '?');

    if (db_mongo_check_hosts(hosts, srv, error, size) != DB_OK) {
        return DB_ERROR;
    }

    database = db_null_string;

    if (rest.len && rest.data[0] == '/') {
        rest = (db_str_t) { rest.data + 1, rest.len - 1 };
        database = db_mongo_until(&rest, '?', '?');
    }

    return db_mongo_check_database(database, error, size);
}


static const db_store_driver_t *
db_mongo_load(char *error, size_t size)
{
    int                       len;
    char                      path[4096];
    void                     *object;
    Dl_info                   info;
    const char               *slash;
    const db_store_driver_t  *driver;

    if (dladdr(&db_mongo_loader, &info) == 0
        || (slash = strrchr(info.dli_fname, '/')) == NULL)
    {
        snprintf(error, size, "mongodb store: cannot tell where the module"
                 " is, beside which " DB_MONGO_FILE " lies");
        return NULL;
    }

    len = (int) (slash - info.dli_fname);

    snprintf(path, sizeof(path), "%.*s/" DB_MONGO_FILE, len, info.dli_fname);

    if (access(path, R_OK) == -1) {
        snprintf(error, size, "mongodb store: \"%s\" is missing: install"
                 " libmongoc-dev and build again, it is made beside the"
                 " module", path);
        return NULL;
    }

    /*
     * mongo-c-driver, which may begin as it is loaded, keeps its counters in
     * a file of /dev/shm that is named by the process id and stays behind
     * when the process is killed, in the way of the next of that id.
     */

    (void) setenv("MONGOC_DISABLE_SHM", "1", 1);

    object = dlopen(path, RTLD_NOW|RTLD_LOCAL|RTLD_NODELETE);

    if (object == NULL) {
        snprintf(error, size, "mongodb store: cannot load its driver: %s:"
                 " install libmongoc-1.0-0, or what it was built with",
                 dlerror());
        return NULL;
    }

    driver = dlsym(object, DB_MONGO_SYMBOL);

    if (driver == NULL || driver->version != DB_STORE_DRIVER) {
        snprintf(error, size, "mongodb store: \"%s\" is of another version:"
                 " install the one that came with the module", path);
        return NULL;
    }

    return driver;
}


static db_store_t *
db_mongo_open(db_str_t uri, db_log_pt log, void *log_ctx, char *error,
    size_t size)
{
    const db_store_driver_t  *driver;

    if (db_mongo_check_uri(uri, error, size) != DB_OK) {
        return NULL;
    }

    driver = db_mongo_load(error, size);

    return driver ? driver->open(uri, log, log_ctx, error, size) : NULL;
}


/* The child: its answer is what is wrong, if anything is, and a NUL. */

static void
db_mongo_try_child(db_str_t uri, int fd)
{
    char    error[DB_MONGO_ERROR_LENGTH];
    size_t  len;

    error[0] = '\0';

    (void) db_mongo_open(uri, NULL, NULL, error, sizeof(error));

    len = strlen(error) + 1;

    _exit(write(fd, error, len) == (ssize_t) len ? 0 : 1);
}


/* The status of a child is for who has SIGCHLD: its answer tells enough. */

static int
db_mongo_try_wait(pid_t pid, int fd, char *error, size_t size)
{
    char     answer[DB_MONGO_ERROR_LENGTH];
    ssize_t  n;

    do {
        n = read(fd, answer, sizeof(answer));
    } while (n == -1 && errno == EINTR);

    while (waitpid(pid, NULL, 0) == -1 && errno == EINTR) {
        /* void */
    }

    if (n <= 0 || answer[n - 1] != '\0') {
        snprintf(error, size, "mongodb store: a process that loads "
                 DB_MONGO_FILE " ends: install libmongoc-1.0-0, or what it"
                 " was built with");
        return DB_ERROR;
    }

    if (n > 1) {
        snprintf(error, size, "%s", answer);
        return DB_ERROR;
    }

    return DB_OK;
}


static int
db_mongo_try(db_str_t uri, char *error, size_t size)
{
    int    fds[2], rc;
    pid_t  pid;

    if (pipe2(fds, O_CLOEXEC) == -1) {
        snprintf(error, size, "mongodb store: pipe2() failed: %s",
                 strerror(errno));
        return DB_ERROR;
    }

    pid = fork();

    if (pid == 0) {
        db_mongo_try_child(uri, fds[1]);
    }

    (void) close(fds[1]);

    if (pid == -1) {
        snprintf(error, size, "mongodb store: fork() failed: %s",
                 strerror(errno));
        rc = DB_ERROR;

    } else {
        rc = db_mongo_try_wait(pid, fds[0], error, size);
    }

    (void) close(fds[0]);

    return rc;
}


const db_store_driver_t  db_mongo_loader = {
    .version = DB_STORE_DRIVER,
    .check_uri = db_mongo_check_uri,
    .try = db_mongo_try,
    .open = db_mongo_open,
};
