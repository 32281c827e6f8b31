/*
 * The safe reload: before a configuration is taken, "databridge check
 * --app-only" imports each application in a process of its own, as the user
 * and in the environment of the workers.  The caller, the master or an
 * nginx -t, waits; an application that does not load in time is killed.
 */

#include "http/ngx_http_databridge.h"

#include <grp.h>


#define NGX_DATABRIDGE_CHECK_STEP     5    /* ms between looks at the child */
#define NGX_DATABRIDGE_CHECK_REFUSED  3    /* its status: it has said why */


static void ngx_databridge_check_children(void);
static ngx_int_t ngx_databridge_check_app(ngx_cycle_t *cycle,
    ngx_http_databridge_main_conf_t *dmcf, db_app_conf_t *app, char **env);
static char **ngx_databridge_check_argv(ngx_cycle_t *cycle,
    ngx_http_databridge_main_conf_t *dmcf, db_app_conf_t *app);
static char **ngx_databridge_check_env(ngx_cycle_t *cycle,
    ngx_http_databridge_main_conf_t *dmcf);
static void ngx_databridge_check_exec(ngx_core_conf_t *ccf, char **argv,
    char **env);
static ngx_int_t ngx_databridge_check_wait(ngx_cycle_t *cycle, ngx_pid_t pid,
    ngx_msec_t timeout, db_app_conf_t *app, char *python);


ngx_int_t
ngx_databridge_check(ngx_cycle_t *cycle,
    ngx_http_databridge_main_conf_t *dmcf)
{
    char           **env;
    ngx_int_t        rc;
    ngx_uint_t       i;
    db_app_conf_t   *app;

    if (dmcf->apps.nelts == 0) {
        return NGX_OK;
    }

    ngx_databridge_check_children();

    env = ngx_databridge_check_env(cycle, dmcf);
    if (env == NULL) {
        return NGX_ERROR;
    }

    rc = NGX_OK;
    app = dmcf->apps.elts;

    for (i = 0; i < dmcf->apps.nelts && rc == NGX_OK; i++) {
        rc = ngx_databridge_check_app(cycle, dmcf, &app[i], env);
    }

    ngx_free(env);

    return rc;
}


/*
 * Until nginx has its handlers, what has started it may have left SIGCHLD
 * ignored: then the kernel keeps no status of a child.
 */

static void
ngx_databridge_check_children(void)
{
    struct sigaction  sa;

    if (sigaction(SIGCHLD, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN) {
        (void) signal(SIGCHLD, SIG_DFL);
    }
}


static ngx_int_t
ngx_databridge_check_app(ngx_cycle_t *cycle,
    ngx_http_databridge_main_conf_t *dmcf, db_app_conf_t *app, char **env)
{
    char             **argv;
    ngx_pid_t          pid;
    ngx_core_conf_t   *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    argv = ngx_databridge_check_argv(cycle, dmcf, app);
    if (argv == NULL) {
        return NGX_ERROR;
    }

    if (access(argv[0], X_OK) == -1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "databridge cannot run \"%s\": set \"databridge_venv\" "
                      "to a virtual environment with databridge installed",
                      argv[0]);
        return NGX_ERROR;
    }

    pid = fork();

    switch (pid) {

    case -1:
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "fork() for \"%s\" failed", argv[0]);
        return NGX_ERROR;

    case 0:
        ngx_databridge_check_exec(ccf, argv, env);
        _exit(127);

    default:
        return ngx_databridge_check_wait(cycle, pid, dmcf->check, app,
                                       argv[0]);
    }
}


static char **
ngx_databridge_check_argv(ngx_cycle_t *cycle,
    ngx_http_databridge_main_conf_t *dmcf, db_app_conf_t *app)
{
    char        **argv;
    u_char       *python;
    ngx_str_t    *path;
    ngx_uint_t    i, n;

    argv = ngx_palloc(cycle->pool,
                      (10 + 2 * dmcf->path.nelts) * sizeof(char *));
    if (argv == NULL) {
        return NULL;
    }

    if (dmcf->venv.len) {
        python = ngx_pnalloc(cycle->pool,
                             dmcf->venv.len + sizeof("/bin/python"));
        if (python == NULL) {
            return NULL;
        }

        ngx_sprintf(python, "%V/bin/python%Z", &dmcf->venv);

    } else {
        python = (u_char *) NGX_DATABRIDGE_PYTHON;
    }

    n = 0;
    argv[n++] = (char *) python;
    argv[n++] = "-m";
    argv[n++] = "databridge";
    argv[n++] = "check";
    argv[n++] = "--app-only";
    argv[n++] = "--interface";
    argv[n++] = (char *) app->interface.data;

    if (app->factory) {
        argv[n++] = "--factory";
    }

    path = dmcf->path.elts;

    for (i = 0; i < dmcf->path.nelts; i++) {
        argv[n++] = "--app-dir";
        argv[n++] = (char *) path[i].data;
    }

    argv[n++] = (char *) app->target.data;
    argv[n] = NULL;

    return argv;
}


static char **
ngx_databridge_check_env(ngx_cycle_t *cycle,
    ngx_http_databridge_main_conf_t *dmcf)
{
    char        **env;
    ngx_str_t    *value;
    ngx_uint_t    i, n;

    n = dmcf->env.nelts;

    env = ngx_set_environment(cycle, &n);
    if (env == NULL) {
        return NULL;
    }

    value = dmcf->env.elts;

    for (i = 0; i < dmcf->env.nelts; i++) {
        env[n++] = (char *) value[i].data;
    }

    env[n] = NULL;

    return env;
}


static void
ngx_databridge_check_exec(ngx_core_conf_t *ccf, char **argv, char **env)
{
    int               fd;
    sigset_t          set;
    ngx_uint_t        i;
    struct sigaction  sa;

    /* the child: from here on only what is safe between fork and exec */

    if (geteuid() == 0
        && (setgid(ccf->group) == -1
            || initgroups(ccf->username, ccf->group) == -1
            || setuid(ccf->user) == -1))
    {
        return;
    }

    ngx_memzero(&sa, sizeof(struct sigaction));
    sa.sa_handler = SIG_DFL;
    sigemptyset(&sa.sa_mask);

    for (i = 1; i < NSIG; i++) {
        (void) sigaction(i, &sa, NULL);
    }

    sigemptyset(&set);
    (void) sigprocmask(SIG_SETMASK, &set, NULL);

    fd = open("/dev/null", O_RDWR);

    if (fd != -1) {
        (void) dup2(fd, STDIN_FILENO);
    }

    /* what the application prints goes where its traceback goes */

    (void) dup2(STDERR_FILENO, STDOUT_FILENO);
    (void) close_range(3, ~0U, 0);

    (void) execve(argv[0], argv, env);
}


static ngx_int_t
ngx_databridge_check_wait(ngx_cycle_t *cycle, ngx_pid_t pid,
    ngx_msec_t timeout, db_app_conf_t *app, char *python)
{
    int         status;
    ngx_pid_t   rc;
    ngx_msec_t  waited;

    /* SIGCHLD is blocked in the master: nobody else takes this status */

    for (waited = 0; /* void */ ; waited += NGX_DATABRIDGE_CHECK_STEP) {

        rc = waitpid(pid, &status, WNOHANG);

        if (rc == -1 && ngx_errno != NGX_EINTR) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                          "waitpid() for the databridge check failed");
            return NGX_ERROR;
        }

        if (rc == pid) {
            break;
        }

        if (waited >= timeout) {
            (void) kill(pid, SIGKILL);
            (void) waitpid(pid, &status, 0);

            ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                          "databridge_app \"%s\" did not load within %M ms, "
                          "see \"databridge_check\"",
                          app->target.data, timeout);
            return NGX_ERROR;
        }

        ngx_msleep(NGX_DATABRIDGE_CHECK_STEP);
    }

    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return NGX_OK;
    }

    if (WIFEXITED(status)
        && WEXITSTATUS(status) == NGX_DATABRIDGE_CHECK_REFUSED)
    {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "databridge_app \"%s\" does not load, the "
                      "configuration is refused", app->target.data);

    } else if (WIFEXITED(status)) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "databridge_app \"%s\" does not load, the "
                      "configuration is refused: \"%s -m databridge\" exited "
                      "with %d, is databridge installed there? see "
                      "\"databridge_venv\"",
                      app->target.data, python, WEXITSTATUS(status));

    } else {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "databridge_app \"%s\" does not load, the "
                      "configuration is refused: its import was ended by "
                      "signal %d", app->target.data, WTERMSIG(status));
    }

    return NGX_ERROR;
}
