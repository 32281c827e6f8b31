/*
 * The directives' setters, and what can only be checked when http{} is
 * complete.
 */

#include "http/ngx_http_databridge.h"


#define NGX_HTTP_DATABRIDGE_ERROR_LEN   512
#define NGX_HTTP_DATABRIDGE_SCHEMA_MAX  (16 * 1024 * 1024)


extern ngx_module_t  ngx_thread_pool_module;


static ngx_int_t ngx_http_databridge_app_index(
    ngx_http_databridge_main_conf_t *dmcf, db_app_conf_t *app);
static char *ngx_http_databridge_app_param(ngx_conf_t *cf, ngx_str_t *value,
    db_app_conf_t *app);
static char *ngx_http_databridge_schema(ngx_conf_t *cf, ngx_str_t *name,
    ngx_str_t *file, ngx_http_databridge_crud_conf_t *crud);
static ngx_int_t ngx_http_databridge_read_file(ngx_conf_t *cf,
    ngx_str_t *file, ngx_str_t *text);
static void ngx_http_databridge_crud_cleanup(void *data);
static ngx_int_t ngx_http_databridge_store_uri(ngx_conf_t *cf,
    ngx_str_t *uri);
static ngx_int_t ngx_http_databridge_find_store(ngx_conf_t *cf,
    ngx_http_databridge_main_conf_t *dmcf,
    ngx_http_databridge_crud_conf_t *crud);
static ngx_thread_pool_t *ngx_http_databridge_pool(ngx_conf_t *cf,
    ngx_str_t *name, ngx_uint_t threads, ngx_uint_t queue);


/* A location serves one of ours. */

char *
ngx_http_databridge_serve(ngx_conf_t *cf,
    ngx_http_databridge_loc_conf_t *dlcf, ngx_http_handler_pt handler)
{
    ngx_http_core_loc_conf_t  *clcf;

    if (dlcf->handler == handler) {
        return "is duplicate";
    }

    if (dlcf->handler) {
        return "cannot stand beside another of \"databridge_app\", "
               "\"databridge_crud\", \"databridge_health\" and "
               "\"databridge_metrics\"";
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    clcf->handler = handler;
    dlcf->handler = handler;

    return NGX_CONF_OK;
}


char *
ngx_http_databridge_app(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_databridge_loc_conf_t *dlcf = conf;

    char                             *rv;
    u_char                           *colon;
    ngx_str_t                        *value;
    ngx_uint_t                        i;
    db_app_conf_t                     app;
    ngx_http_databridge_main_conf_t  *dmcf;

    rv = ngx_http_databridge_serve(cf, dlcf, ngx_http_databridge_app_handler);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    value = cf->args->elts;

    colon = (u_char *) ngx_strchr(value[1].data, ':');

    if (colon == NULL || colon == value[1].data || colon[1] == '\0') {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid application \"%V\": it must read "
                           "\"module:attribute\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&app, sizeof(db_app_conf_t));
    app.target = ngx_http_databridge_str(value[1]);
    app.interface = db_string("auto");
    app.root_path = db_string("");

    for (i = 2; i < cf->args->nelts; i++) {
        rv = ngx_http_databridge_app_param(cf, &value[i], &app);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    dmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_databridge_module);

    dlcf->app = ngx_http_databridge_app_index(dmcf, &app);
    return dlcf->app == NGX_ERROR ? NGX_CONF_ERROR : NGX_CONF_OK;
}


static ngx_int_t
ngx_http_databridge_app_index(ngx_http_databridge_main_conf_t *dmcf,
    db_app_conf_t *app)
{
    ngx_uint_t      i;
    db_app_conf_t  *known;

    known = dmcf->apps.elts;

    for (i = 0; i < dmcf->apps.nelts; i++) {
        if (db_str_eq(known[i].target, app->target)
            && db_str_eq(known[i].interface, app->interface)
            && db_str_eq(known[i].root_path, app->root_path)
            && known[i].factory == app->factory)
        {
            return i;
        }
    }

    known = ngx_array_push(&dmcf->apps);
    if (known == NULL) {
        return NGX_ERROR;
    }

    *known = *app;

    return dmcf->apps.nelts - 1;
}


static char *
ngx_http_databridge_app_param(ngx_conf_t *cf, ngx_str_t *value,
    db_app_conf_t *app)
{
    db_str_t  param;

    param = ngx_http_databridge_str(*value);

    if (ngx_strncmp(value->data, "interface=", 10) == 0) {
        param.data += 10;
        param.len -= 10;

        if (db_str_eq(param, db_string("auto"))
            || db_str_eq(param, db_string("asgi"))
            || db_str_eq(param, db_string("wsgi")))
        {
            app->interface = param;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(value->data, "root_path=", 10) == 0) {
        param.data += 10;
        param.len -= 10;

        if (param.len > 1 && param.data[0] == '/'
            && param.data[param.len - 1] != '/')
        {
            app->root_path = param;
            return NGX_CONF_OK;
        }

    } else if (db_str_eq(param, db_string("factory=on"))) {
        app->factory = 1;
        return NGX_CONF_OK;

    } else if (db_str_eq(param, db_string("factory=off"))) {
        app->factory = 0;
        return NGX_CONF_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\": it must be "
                       "\"interface=auto|asgi|wsgi\", \"factory=on|off\" or "
                       "\"root_path=/path\" without a trailing slash", value);

    return NGX_CONF_ERROR;
}


char *
ngx_http_databridge_crud(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_databridge_loc_conf_t *dlcf = conf;

    char                              *rv;
    ngx_str_t                         *value, file;
    ngx_uint_t                         i;
    ngx_http_core_loc_conf_t          *clcf;
    ngx_http_databridge_crud_conf_t   *crud, **slot;
    ngx_http_databridge_main_conf_t   *dmcf;

    rv = ngx_http_databridge_serve(cf, dlcf,
                                   ngx_http_databridge_crud_handler);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->name.len == 0 || clcf->name.data[0] != '/' || clcf->noname) {
        return "needs a location given by prefix, such as \"/articles\"";
    }

#if (NGX_PCRE)
    if (clcf->regex) {
        return "needs a location given by prefix, such as \"/articles\"";
    }
#endif

    crud = ngx_pcalloc(cf->pool, sizeof(ngx_http_databridge_crud_conf_t));
    if (crud == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;
    ngx_str_null(&file);

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "schema=", 7) == 0) {
            file.data = value[i].data + 7;
            file.len = value[i].len - 7;
            continue;
        }

        if (ngx_strncmp(value[i].data, "store=", 6) == 0) {
            crud->store_name.data = value[i].data + 6;
            crud->store_name.len = value[i].len - 6;
            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\": it must be "
                           "\"schema=FILE\" or \"store=NAME\"", &value[i]);
        return NGX_CONF_ERROR;
    }

    if (file.len == 0) {
        return "needs \"schema=FILE\", as \"databridge schema\" writes it";
    }

    crud->file = cf->conf_file->file.name.data;
    crud->line = cf->conf_file->line;
    crud->prefix = clcf->name;

    if (crud->prefix.data[crud->prefix.len - 1] == '/') {
        crud->prefix.len--;
    }

    if (ngx_http_databridge_schema(cf, &value[1], &file, crud)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    dmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_databridge_module);

    slot = ngx_array_push(&dmcf->cruds);
    if (slot == NULL) {
        return NGX_CONF_ERROR;
    }

    *slot = crud;
    dlcf->crud = crud;

    return NGX_CONF_OK;
}


static char *
ngx_http_databridge_schema(ngx_conf_t *cf, ngx_str_t *name, ngx_str_t *file,
    ngx_http_databridge_crud_conf_t *crud)
{
    char                 error[NGX_HTTP_DATABRIDGE_ERROR_LEN];
    db_str_t             collection, store;
    unsigned             i, n;
    ngx_str_t            text, variable;
    const db_str_t      *variables;
    ngx_pool_cleanup_t  *cln;

    if (ngx_conf_full_name(cf->cycle, file, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (ngx_http_databridge_read_file(cf, file, &text) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_CONF_ERROR;
    }

    crud->crud = db_crud_compile(ngx_http_databridge_str(text), error,
                                 sizeof(error));
    if (crud->crud == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid schema \"%V\": %s",
                           file, error);
        return NGX_CONF_ERROR;
    }

    cln->handler = ngx_http_databridge_crud_cleanup;
    cln->data = crud->crud;

    if (db_crud_hybrid(crud->crud)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the schema \"%V\" has \"hybrid\" operations, "
                           "which need Python: serve it by a databridge_app, "
                           "or name others in its \"operations\"", file);
        return NGX_CONF_ERROR;
    }

    /* nginx names the variables that it does not know */

    variables = db_crud_variables(crud->crud, &n);

    for (i = 0; i < n; i++) {
        variable.data = (u_char *) variables[i].data;
        variable.len = variables[i].len;

        if (ngx_http_get_variable_index(cf, &variable) == NGX_ERROR) {
            return NGX_CONF_ERROR;
        }
    }

    collection = db_crud_collection(crud->crud)->name;

    if (!db_str_eq(collection, ngx_http_databridge_str(*name))) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "databridge_crud \"%V\" does not match the "
                           "collection \"%*s\" of the schema \"%V\"",
                           name, collection.len, collection.data, file);
        return NGX_CONF_ERROR;
    }

    if (crud->store_name.len == 0) {
        store = db_crud_store(crud->crud);
        crud->store_name.data = (u_char *) store.data;
        crud->store_name.len = store.len;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_databridge_read_file(ngx_conf_t *cf, ngx_str_t *file,
    ngx_str_t *text)
{
    ssize_t     n;
    ngx_int_t   rc;
    ngx_file_t  f;

    ngx_memzero(&f, sizeof(ngx_file_t));
    f.name = *file;
    f.log = cf->log;

    f.fd = ngx_open_file(file->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (f.fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", file);
        return NGX_ERROR;
    }

    rc = NGX_ERROR;

    if (ngx_fd_info(f.fd, &f.info) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_fd_info_n " \"%V\" failed", file);
        goto done;
    }

    if (!ngx_is_file(&f.info)
        || ngx_file_size(&f.info) > NGX_HTTP_DATABRIDGE_SCHEMA_MAX)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is not a schema file", file);
        goto done;
    }

    text->len = ngx_file_size(&f.info);

    text->data = ngx_pnalloc(cf->temp_pool, text->len + 1);
    if (text->data == NULL) {
        goto done;
    }

    n = ngx_read_file(&f, text->data, text->len, 0);

    if (n != (ssize_t) text->len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, n == NGX_ERROR ? ngx_errno : 0,
                           "\"%V\" could not be read whole", file);
        goto done;
    }

    rc = NGX_OK;

done:

    if (ngx_close_file(f.fd) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_ALERT, cf->log, ngx_errno,
                      ngx_close_file_n " \"%V\" failed", file);
    }

    return rc;
}


static void
ngx_http_databridge_crud_cleanup(void *data)
{
    db_crud_destroy(data);
}


char *
ngx_http_databridge_store(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_databridge_main_conf_t *dmcf = conf;

    char                          error[NGX_HTTP_DATABRIDGE_ERROR_LEN];
    ngx_str_t                    *value;
    ngx_uint_t                    i;
    ngx_http_databridge_store_t  *store;

    value = cf->args->elts;
    store = dmcf->stores.elts;

    for (i = 0; i < dmcf->stores.nelts; i++) {
        if (store[i].name.len == value[1].len
            && ngx_strcmp(store[i].name.data, value[1].data) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate store \"%V\"", &value[1]);
            return NGX_CONF_ERROR;
        }
    }

    if (db_store_check_uri(ngx_http_databridge_str(value[2]), error,
                           sizeof(error))
        != DB_OK)
    {
        goto invalid;
    }

    store = ngx_array_push(&dmcf->stores);
    if (store == NULL) {
        return NGX_CONF_ERROR;
    }

    store->name = value[1];
    store->uri = value[2];
    store->store = NULL;

    if (ngx_http_databridge_store_uri(cf, &store->uri) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    /* "nginx -s quit" comes here as well, and opens none */

    if (ngx_process != NGX_PROCESS_SIGNALLER
        && db_store_try(ngx_http_databridge_str(store->uri), error,
                        sizeof(error))
           != DB_OK)
    {
        goto invalid;
    }

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid store \"%V\": %s",
                       &value[1], error);

    return NGX_CONF_ERROR;
}


/* Wherever nginx is started from, it is the same file. */

static ngx_int_t
ngx_http_databridge_store_uri(ngx_conf_t *cf, ngx_str_t *uri)
{
    ngx_str_t  path;

    static ngx_str_t  scheme = ngx_string("sqlite:");

    if (ngx_strncmp(uri->data, scheme.data, scheme.len) != 0
        || uri->data[scheme.len] == '/')
    {
        return NGX_OK;
    }

    path.data = uri->data + scheme.len;
    path.len = uri->len - scheme.len;

    if (ngx_conf_full_name(cf->cycle, &path, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    uri->data = ngx_pnalloc(cf->pool, scheme.len + path.len + 1);
    if (uri->data == NULL) {
        return NGX_ERROR;
    }

    uri->len = ngx_sprintf(uri->data, "%V%V%Z", &scheme, &path)
               - uri->data - 1;

    return NGX_OK;
}


char *
ngx_http_databridge_venv(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_databridge_main_conf_t *dmcf = conf;

    char        error[NGX_HTTP_DATABRIDGE_ERROR_LEN];
    ngx_str_t  *value;

    if (dmcf->venv.data) {
        return "is duplicate";
    }

    value = cf->args->elts;
    dmcf->venv = value[1];

    if (ngx_conf_full_name(cf->cycle, &dmcf->venv, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (ngx_process != NGX_PROCESS_SIGNALLER
        && db_python_check_venv((char *) dmcf->venv.data, error,
                                sizeof(error))
           != DB_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s", error);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_databridge_env(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_databridge_main_conf_t *dmcf = conf;

    u_char     *equals;
    ngx_str_t  *value, *env;

    value = cf->args->elts;

    equals = (u_char *) ngx_strchr(value[1].data, '=');

    if (equals == NULL || equals == value[1].data) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid variable \"%V\": it must read "
                           "\"NAME=value\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    env = ngx_array_push(&dmcf->env);
    if (env == NULL) {
        return NGX_CONF_ERROR;
    }

    *env = value[1];

    return NGX_CONF_OK;
}


char *
ngx_http_databridge_python_path(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_databridge_main_conf_t *dmcf = conf;

    ngx_str_t   *value, *path;
    ngx_uint_t   i;

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        path = ngx_array_push(&dmcf->path);
        if (path == NULL) {
            return NGX_CONF_ERROR;
        }

        *path = value[i];

        if (ngx_conf_full_name(cf->cycle, path, 1) != NGX_OK) {
            return NGX_CONF_ERROR;
        }

        if (ngx_strchr(path->data, ':')) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "Python imports from no path with a colon, as "
                               "\"%V\" is", path);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


char *
ngx_http_databridge_check_time(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_databridge_main_conf_t *dmcf = conf;

    ngx_int_t   ms;
    ngx_str_t  *value;

    if (dmcf->check != NGX_CONF_UNSET_MSEC) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        dmcf->check = 0;
        return NGX_CONF_OK;
    }

    ms = ngx_parse_time(&value[1], 0);

    if (ms == NGX_ERROR || ms == 0) {
        return "must be a time above zero, or \"off\"";
    }

    dmcf->check = ms;

    return NGX_CONF_OK;
}


char *
ngx_http_databridge_max_requests(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_databridge_main_conf_t *dmcf = conf;

    ngx_int_t   n;
    ngx_str_t  *value;

    if (dmcf->max_requests != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    n = ngx_atoi(value[1].data, value[1].len);

    if (n == NGX_ERROR) {
        return "must be a number of requests, or 0";
    }

    dmcf->max_requests = n;
    dmcf->max_requests_jitter = n / 10;

    if (cf->args->nelts == 2) {
        return NGX_CONF_OK;
    }

    n = NGX_ERROR;

    if (ngx_strncmp(value[2].data, "jitter=", 7) == 0) {
        n = ngx_atoi(value[2].data + 7, value[2].len - 7);
    }

    if (n == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\": it must be "
                           "\"jitter=NUMBER\"", &value[2]);
        return NGX_CONF_ERROR;
    }

    dmcf->max_requests_jitter = n;

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_databridge_resolve(ngx_conf_t *cf,
    ngx_http_databridge_main_conf_t *dmcf)
{
    ngx_uint_t                         i;
    ngx_http_databridge_crud_conf_t  **crud;

    static ngx_str_t  loop = ngx_string("databridge_loop");
    static ngx_str_t  store = ngx_string("databridge_store");

    crud = dmcf->cruds.elts;

    for (i = 0; i < dmcf->cruds.nelts; i++) {
        if (ngx_http_databridge_find_store(cf, dmcf, crud[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (ngx_http_databridge_recycle_zone(cf, dmcf) != NGX_OK
        || ngx_http_databridge_handover_zone(cf, dmcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (dmcf->apps.nelts) {
        dmcf->loop_pool = ngx_http_databridge_pool(cf, &loop, 1, 1);
        if (dmcf->loop_pool == NULL) {
            return NGX_ERROR;
        }
    }

    if (dmcf->stores.nelts) {
        dmcf->store_pool = ngx_http_databridge_pool(cf, &store,
                                                    dmcf->store_threads,
                                                    dmcf->queue);
        if (dmcf->store_pool == NULL) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_databridge_find_store(ngx_conf_t *cf,
    ngx_http_databridge_main_conf_t *dmcf,
    ngx_http_databridge_crud_conf_t *crud)
{
    ngx_uint_t                    i;
    ngx_http_databridge_store_t  *store;

    store = dmcf->stores.elts;

    for (i = 0; i < dmcf->stores.nelts; i++) {
        if (store[i].name.len == crud->store_name.len
            && ngx_strncmp(store[i].name.data, crud->store_name.data,
                           crud->store_name.len)
               == 0)
        {
            crud->store = &store[i];
            return NGX_OK;
        }
    }

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "unknown store \"%V\", declare it with \"databridge_store\" "
                  "in %s:%ui", &crud->store_name, crud->file, crud->line);

    return NGX_ERROR;
}


static ngx_thread_pool_t *
ngx_http_databridge_pool(ngx_conf_t *cf, ngx_str_t *name, ngx_uint_t threads,
    ngx_uint_t queue)
{
    char               *rv;
    ngx_str_t          *value;
    ngx_conf_t          pool;
    ngx_array_t         args;
    ngx_command_t      *cmd;
    ngx_thread_pool_t  *tp;

    /* a pool that the user has declared before http{} wins */

    tp = ngx_thread_pool_get(cf->cycle, name);
    if (tp) {
        return tp;
    }

    if (ngx_array_init(&args, cf->pool, 4, sizeof(ngx_str_t)) != NGX_OK) {
        return NULL;
    }

    value = ngx_array_push_n(&args, 4);
    if (value == NULL) {
        return NULL;
    }

    value[2].data = ngx_pnalloc(cf->pool,
                                sizeof("threads=") + NGX_INT_T_LEN);
    value[3].data = ngx_pnalloc(cf->pool,
                                sizeof("max_queue=") + NGX_INT_T_LEN);

    if (value[2].data == NULL || value[3].data == NULL) {
        return NULL;
    }

    ngx_str_set(&value[0], "thread_pool");
    value[1] = *name;
    value[2].len = ngx_sprintf(value[2].data, "threads=%ui%Z", threads)
                   - value[2].data - 1;
    value[3].len = ngx_sprintf(value[3].data, "max_queue=%ui%Z", queue)
                   - value[3].data - 1;

    pool = *cf;
    pool.args = &args;
    cmd = ngx_thread_pool_module.commands;

    rv = cmd->set(&pool, cmd, NULL);

    if (rv != NGX_CONF_OK) {
        return NULL;
    }

    return ngx_thread_pool_get(cf->cycle, name);
}
