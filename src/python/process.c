/*
 * Children of Python's.  The threads of a worker block the signals that
 * nginx handles, and a child inherits the mask: terminate() would do
 * nothing.  So a child is started with an empty mask, which this thread has
 * to have for that moment; a signal of nginx's that lands here meanwhile
 * runs nginx's handler on this thread, so nginx is told to look.
 *
 * SIGCHLD is another matter: it is pending in the process as soon as one
 * child has ended, and nginx's handler reaps whatever it finds.  A worker
 * has no children of its own, so the signal gets its default action, and
 * Python's children are reaped by whoever waits for them.
 */

#include "python/runtime.h"

#include <signal.h>


/* What nginx handles or ignores; a forked child has no nginx. */

static const int  db_py_nginx_signals[] = {
    SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM,
    SIGIO, SIGSYS
};


static void
db_py_signal_default(int signo)
{
    struct sigaction  action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = SIG_DFL;
    sigemptyset(&action.sa_mask);

    (void) sigaction(signo, &action, NULL);
}


void
db_py_ignore_sigchld(void)
{
    db_py_signal_default(SIGCHLD);
}


PyObject *
db_py_fork_exec(PyObject *const *args, Py_ssize_t nargs)
{
    sigset_t   empty, mask;
    PyObject  *pid;

    sigemptyset(&empty);
    (void) pthread_sigmask(SIG_SETMASK, &empty, &mask);

    pid = PyObject_Vectorcall(db_py.fork_exec, args, nargs, NULL);

    (void) pthread_sigmask(SIG_SETMASK, &mask, NULL);

    if (db_py.conf->signals) {
        db_py.conf->signals(db_py.conf->log_ctx);

    } else {
        db_bridge_notify(db_py.conf->bridge);
    }

    return pid;
}


/* In the child of os.fork(), which is a Python process of its own. */

void
db_py_after_fork(void)
{
    size_t    i;
    sigset_t  empty;

    for (i = 0; i < sizeof(db_py_nginx_signals) / sizeof(int); i++) {
        db_py_signal_default(db_py_nginx_signals[i]);
    }

    sigemptyset(&empty);
    (void) pthread_sigmask(SIG_SETMASK, &empty, NULL);

    if (db_py.conf->forked) {
        db_py.conf->forked(db_py.conf->log_ctx);
    }
}
