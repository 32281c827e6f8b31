/*
 * Native CRUD: from the request to the C program of the resource, its store,
 * and back, without Python.
 *
 * A call lives in its own arena.  While a store works on it (op->status is
 * being written by another thread) the request only keeps a pointer to it,
 * and may end first, as with a timeout: the completion then frees the call.
 *
 * A call of Python's has no request: it goes back to where it came from.
 */

#include "http/ngx_http_databridge.h"


/* A read that is not cheap: ms, from its request to its last row. */

#define NGX_HTTP_DATABRIDGE_READ_TIME  10000


typedef struct {
    db_node_t             node;        /* first: pushed by the writer */
    db_crud_call_t       *call;
    db_store_t           *store;
    ngx_http_request_t   *request;     /* NULL once it has ended */
    db_python_call_t     *python;      /* else NULL */
    ngx_thread_task_t     task;        /* a read in the store pool */
    uint64_t              since;       /* the store was asked, ns */
    ngx_event_t           timeout;     /* of the store */
    ngx_pool_cleanup_t   *cleanup;     /* the request's */
    unsigned              busy:1;      /* a store has it */
} ngx_http_databridge_crud_t;


static void ngx_http_databridge_crud_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_databridge_crud_start(ngx_http_request_t *r);
static ngx_http_databridge_crud_t *ngx_http_databridge_crud_create(
    ngx_http_request_t *r, const db_crud_t *crud, db_store_t *store,
    db_crud_operation_t operation);
static db_crud_call_t *ngx_http_databridge_crud_call(const db_crud_t *crud,
    db_crud_operation_t operation);
static void ngx_http_databridge_crud_end(db_crud_call_t *call);
static ngx_http_databridge_crud_t *ngx_http_databridge_crud_adopt(
    db_crud_call_t *call, db_store_t *store);
static ngx_int_t ngx_http_databridge_crud_ask(ngx_http_request_t *r,
    db_crud_call_t *call, db_str_t prefix, db_str_t id);
static ngx_int_t ngx_http_databridge_crud_match(ngx_http_request_t *r,
    db_crud_call_t *call);
static ngx_int_t ngx_http_databridge_crud_scope(ngx_http_request_t *r,
    db_crud_call_t *call);
static ngx_int_t ngx_http_databridge_crud_store(
    ngx_http_databridge_crud_t *crud);
static ngx_int_t ngx_http_databridge_crud_later(
    ngx_http_databridge_crud_t *crud);
static void ngx_http_databridge_crud_answered(db_store_op_t *op);
static void ngx_http_databridge_crud_work(void *data, ngx_log_t *log);
static void ngx_http_databridge_crud_worked(ngx_event_t *ev);
static void ngx_http_databridge_crud_done(db_store_op_t *op);
static void ngx_http_databridge_crud_complete(
    ngx_http_databridge_crud_t *crud);
static void ngx_http_databridge_crud_expire(ngx_event_t *ev);
static void ngx_http_databridge_crud_cleanup(void *data);
static ngx_int_t ngx_http_databridge_crud_answer(ngx_http_request_t *r,
    ngx_http_databridge_crud_t *crud);
static ngx_int_t ngx_http_databridge_crud_failed(ngx_http_request_t *r);
static void ngx_http_databridge_crud_return(db_python_call_t *asked);


ngx_int_t
ngx_http_databridge_crud_handler(ngx_http_request_t *r)
{
    ngx_http_databridge_begin_crud(r);

    return ngx_http_databridge_crud_read(r,
                                       ngx_http_databridge_crud_body_handler);
}


static void
ngx_http_databridge_crud_body_handler(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    rc = ngx_http_databridge_crud_start(r);

    if (rc != NGX_DONE) {
        ngx_http_finalize_request(r, rc);
    }
}


static ngx_int_t
ngx_http_databridge_crud_start(ngx_http_request_t *r)
{
    db_str_t                          prefix, rest;
    db_store_t                       *store;
    ngx_http_databridge_loc_conf_t   *dlcf;
    ngx_http_databridge_crud_conf_t  *conf;

    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_databridge_module);
    conf = dlcf->crud;

    prefix = ngx_http_databridge_str(conf->prefix);

    /* the location has matched the prefix, but rewrite may have changed it */

    if (r->uri.len < prefix.len
        || ngx_memcmp(r->uri.data, prefix.data, prefix.len) != 0)
    {
        return ngx_http_databridge_answer_error(r, NGX_HTTP_NOT_FOUND,
                                                "Not Found", db_null_string);
    }

    rest.data = (char *) r->uri.data + prefix.len;
    rest.len = r->uri.len - prefix.len;

    store = conf->ready ? conf->store->store : NULL;

    return ngx_http_databridge_crud_run(r, conf->crud, store, prefix, rest);
}


ngx_int_t
ngx_http_databridge_crud_run(ngx_http_request_t *r, const db_crud_t *crud,
    db_store_t *store, db_str_t prefix, db_str_t rest)
{
    int                          rc;
    db_str_t                     id, allow;
    ngx_uint_t                   status;
    db_crud_operation_t          operation;
    ngx_http_databridge_crud_t  *call;

    rc = ngx_http_databridge_cors_preflight(r);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    allow = db_null_string;

    ngx_http_databridge_record_kind(r, NGX_HTTP_DATABRIDGE_NATIVE);

    status = db_crud_route(crud, ngx_http_databridge_str(r->method_name),
                           rest, &operation, &id, &allow);

    if (status == NGX_HTTP_NOT_FOUND) {
        return ngx_http_databridge_answer_error(r, status, "Not Found", allow);
    }

    if (status == NGX_HTTP_NOT_ALLOWED) {
        return ngx_http_databridge_answer_error(r, status,
                                                "Method Not Allowed", allow);
    }

    if (store == NULL) {
        return ngx_http_databridge_answer_error(r,
                                                NGX_HTTP_SERVICE_UNAVAILABLE,
                                                "Service Unavailable", allow);
    }

    call = ngx_http_databridge_crud_create(r, crud, store, operation);
    if (call == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_databridge_crud_ask(r, call->call, prefix, id);

    if (rc == NGX_DECLINED) {
        return ngx_http_databridge_crud_too_large(r);
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    switch (db_crud_begin(call->call)) {

    case DB_OK:
        if (ngx_http_databridge_crud_store(call) == NGX_DONE) {
            return ngx_http_databridge_watch_client(r);
        }

        /* fall through */

    case DB_DONE:
        return ngx_http_databridge_crud_answer(r, call);

    default:
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
}


static ngx_http_databridge_crud_t *
ngx_http_databridge_crud_create(ngx_http_request_t *r, const db_crud_t *crud,
    db_store_t *store, db_crud_operation_t operation)
{
    db_crud_call_t              *call;
    ngx_pool_cleanup_t          *cln;
    ngx_http_databridge_crud_t  *c;

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    call = ngx_http_databridge_crud_call(crud, operation);
    if (call == NULL) {
        return NULL;
    }

    c = ngx_http_databridge_crud_adopt(call, store);
    if (c == NULL) {
        ngx_http_databridge_crud_end(call);
        return NULL;
    }

    c->request = r;
    c->cleanup = cln;

    cln->handler = ngx_http_databridge_crud_cleanup;
    cln->data = c;

    return c;
}


/* In the arena of one that has ended, if there is any. */

static db_crud_call_t *
ngx_http_databridge_crud_call(const db_crud_t *crud,
    db_crud_operation_t operation)
{
    db_crud_call_t                *call;
    ngx_http_databridge_worker_t  *worker;

    worker = ngx_http_databridge_worker;

    if (worker->narenas == 0) {
        return db_crud_call_create(crud, operation);
    }

    call = db_crud_call_init(worker->arenas[worker->narenas - 1], crud,
                             operation);
    if (call) {
        worker->narenas--;
    }

    return call;
}


static void
ngx_http_databridge_crud_end(db_crud_call_t *call)
{
    ngx_http_databridge_worker_t  *worker;

    worker = ngx_http_databridge_worker;

    if (worker->narenas == NGX_HTTP_DATABRIDGE_ARENAS) {
        db_crud_call_destroy(call);

    } else {
        worker->arenas[worker->narenas++] = db_crud_call_end(call);
    }
}


static ngx_http_databridge_crud_t *
ngx_http_databridge_crud_adopt(db_crud_call_t *call, db_store_t *store)
{
    ngx_http_databridge_crud_t  *c;

    c = db_arena_calloc(call->arena, sizeof(ngx_http_databridge_crud_t));
    if (c == NULL) {
        return NULL;
    }

    c->call = call;
    c->store = store;

    call->op.data = c;
    call->op.done = ngx_http_databridge_crud_done;
    call->op.answered = ngx_http_databridge_crud_answered;

    return c;
}


/*
 * What the call keeps until its end is copied into its arena, since the
 * request may end first; the body is only needed at once.  NGX_DECLINED: too
 * large.
 */

static ngx_int_t
ngx_http_databridge_crud_ask(ngx_http_request_t *r, db_crud_call_t *call,
    db_str_t prefix, db_str_t id)
{
    ngx_table_elt_t  *type;

    call->prefix = db_arena_str(call->arena, prefix);
    call->id = db_arena_str(call->arena, id);
    call->query = db_arena_str(call->arena, ngx_http_databridge_str(r->args));

    if (call->prefix.data == NULL || call->id.data == NULL
        || call->query.data == NULL)
    {
        return NGX_ERROR;
    }

    type = r->headers_in.content_type;

    if (type) {
        call->content_type = ngx_http_databridge_str(type->value);
    }

    if (db_crud_collection(call->crud)->versioned
        && ngx_http_databridge_crud_match(r, call) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_databridge_crud_scope(r, call) != NGX_OK) {
        return NGX_ERROR;
    }

    if (call->operation != DB_CRUD_CREATE
        && call->operation != DB_CRUD_UPDATE
        && call->operation != DB_CRUD_PATCH)
    {
        return NGX_OK;
    }

    return ngx_http_databridge_crud_body(r, &call->body);
}


static ngx_int_t
ngx_http_databridge_crud_match(ngx_http_request_t *r, db_crud_call_t *call)
{
    ngx_table_elt_t  *h;

    h = r->headers_in.if_match;

    if (h) {
        call->if_match = db_arena_str(call->arena,
                                      ngx_http_databridge_str(h->value));
        if (call->if_match.data == NULL) {
            return NGX_ERROR;
        }
    }

    h = r->headers_in.if_none_match;

    if (h) {
        call->if_none_match = db_arena_str(call->arena,
                                           ngx_http_databridge_str(h->value));
        if (call->if_none_match.data == NULL) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_databridge_crud_scope(ngx_http_request_t *r, db_crud_call_t *call)
{
    db_str_t         value, *scope;
    unsigned         i, n;
    const db_str_t  *variables;

    variables = db_crud_variables(call->crud, &n);

    if (n == 0) {
        return NGX_OK;
    }

    scope = db_arena_calloc(call->arena, n * sizeof(db_str_t));
    if (scope == NULL) {
        return NGX_ERROR;
    }

    call->scope = scope;

    for (i = 0; i < n; i++) {

        if (ngx_http_databridge_crud_variable(r, variables[i], &value)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (value.len == 0) {
            continue;
        }

        scope[i] = db_arena_str(call->arena, value);
        if (scope[i].data == NULL) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* NGX_OK, or NGX_DONE while a store works. */

static ngx_int_t
ngx_http_databridge_crud_store(ngx_http_databridge_crud_t *crud)
{
    ngx_msec_t                     timeout;
    db_store_op_t                 *op;
    ngx_http_databridge_worker_t  *worker;

    worker = ngx_http_databridge_worker;
    op = &crud->call->op;

    crud->since = db_clock_now();
    timeout = db_crud_timeout(crud->call->crud);

    if (op->kind == DB_STORE_GET || op->kind == DB_STORE_LIST) {

        worker->reading = 1;
        ngx_http_databridge_post_flush();

        db_store_read(crud->store, op);

        if (op->status != DB_STORE_LATER && op->status != DB_STORE_ASKED) {
            ngx_http_databridge_metric_store(op, crud->since);
            return NGX_OK;
        }

        if (op->status == DB_STORE_LATER
            && ngx_http_databridge_crud_later(crud) != NGX_OK)
        {
            return NGX_OK;
        }

    } else {
        db_store_submit(crud->store, op);
    }

    crud->busy = 1;
    worker->ops++;

    if (timeout && crud->request) {
        crud->timeout.handler = ngx_http_databridge_crud_expire;
        crud->timeout.data = crud;
        crud->timeout.log = crud->request->connection->log;
        ngx_add_timer(&crud->timeout, timeout);
    }

    return NGX_DONE;
}


/* A thread of the store pool reads; else NGX_ERROR, and the store is busy. */

static ngx_int_t
ngx_http_databridge_crud_later(ngx_http_databridge_crud_t *crud)
{
    ngx_msec_t          timeout;
    db_store_op_t      *op;
    ngx_thread_task_t  *task;

    op = &crud->call->op;
    timeout = db_crud_timeout(crud->call->crud);

    op->deadline = crud->since
                   + (timeout ? timeout : NGX_HTTP_DATABRIDGE_READ_TIME)
                     * 1000000ull;

    task = &crud->task;
    task->ctx = crud;
    task->handler = ngx_http_databridge_crud_work;
    task->event.data = crud;
    task->event.handler = ngx_http_databridge_crud_worked;

    if (ngx_thread_task_post(ngx_http_databridge_worker->conf->store_pool,
                             task)
        != NGX_OK)
    {
        op->status = DB_STORE_BUSY;
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_databridge_crud_answered(db_store_op_t *op)
{
    ngx_http_databridge_crud_t *crud = op->data;

    if (op->status != DB_STORE_LATER
        || ngx_http_databridge_crud_later(crud) != NGX_OK)
    {
        ngx_http_databridge_crud_complete(crud);
    }
}


static void
ngx_http_databridge_crud_work(void *data, ngx_log_t *log)
{
    ngx_http_databridge_crud_t *crud = data;

    /* a thread of the store pool */

    db_store_work(crud->store, &crud->call->op);
}


static void
ngx_http_databridge_crud_worked(ngx_event_t *ev)
{
    ngx_http_databridge_crud_t *crud = ev->data;

    db_store_worked(crud->store, &crud->call->op);
    ngx_http_databridge_crud_complete(crud);
}


static void
ngx_http_databridge_crud_done(db_store_op_t *op)
{
    int                            last;
    db_chain_t                     chain;
    ngx_http_databridge_crud_t    *crud;
    ngx_http_databridge_worker_t  *worker;

    /* the store's writer thread */

    crud = op->data;
    last = (op->next == NULL);
    worker = ngx_http_databridge_worker;

    db_chain_init(&chain);
    db_chain_append(&chain, &crud->node);

    (void) db_queue_push(&worker->written, &chain);

    /* not for each: on one core it would run after each */

    if (last) {
        db_bridge_notify(&worker->bridge);
    }
}


void
ngx_http_databridge_crud_written(db_node_t *node)
{
    ngx_http_databridge_crud_complete((ngx_http_databridge_crud_t *) node);
}


static void
ngx_http_databridge_crud_complete(ngx_http_databridge_crud_t *crud)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    crud->busy = 0;
    ngx_http_databridge_worker->ops--;

    if (crud->timeout.timer_set) {
        ngx_del_timer(&crud->timeout);
    }

    ngx_http_databridge_metric_store(&crud->call->op, crud->since);

    if (crud->python) {
        ngx_http_databridge_crud_return(crud->python);
        return;
    }

    r = crud->request;

    if (r == NULL) {
        ngx_http_databridge_crud_end(crud->call);

    } else {
        c = r->connection;

        ngx_http_set_log_request(c->log, r);
        ngx_http_finalize_request(r, ngx_http_databridge_crud_answer(r, crud));
        ngx_http_run_posted_requests(c);
    }
}


/* The store goes on, and may well write: the request does not wait for it. */

static void
ngx_http_databridge_crud_expire(ngx_event_t *ev)
{
    ngx_connection_t            *c;
    ngx_http_request_t          *r;
    ngx_http_databridge_crud_t  *crud;

    crud = ev->data;
    r = crud->request;
    c = r->connection;

    crud->request = NULL;
    crud->cleanup->handler = NULL;

    ngx_http_set_log_request(c->log, r);

    ngx_log_error(NGX_LOG_ERR, c->log, 0,
                  "databridge: the store has not answered within %ui ms",
                  (ngx_uint_t) db_crud_timeout(crud->call->crud));

    ngx_http_finalize_request(r,
        ngx_http_databridge_answer_error(r, NGX_HTTP_GATEWAY_TIME_OUT,
                                         "Gateway Timeout", db_null_string));
    ngx_http_run_posted_requests(c);
}


static void
ngx_http_databridge_crud_cleanup(void *data)
{
    ngx_http_databridge_crud_t *crud = data;

    if (crud->busy) {
        crud->request = NULL;

        if (crud->timeout.timer_set) {
            ngx_del_timer(&crud->timeout);
        }

        return;
    }

    ngx_http_databridge_crud_end(crud->call);
}


static ngx_int_t
ngx_http_databridge_crud_answer(ngx_http_request_t *r,
    ngx_http_databridge_crud_t *crud)
{
    db_crud_call_t  *call;

    call = crud->call;

    if (call->status == 0 && db_crud_finish(call) != DB_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (call->status == NGX_HTTP_INTERNAL_SERVER_ERROR
        && ngx_http_databridge_crud_failed(r) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (call->location.len
        && ngx_http_databridge_add_header(r, db_string("Location"),
                                          call->location)
           == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (call->etag.len
        && ngx_http_databridge_add_header(r, db_string("ETag"), call->etag)
           == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /*
     * The conditions of the request were looked at, or are not for us.  The
     * tag names the document, not its coding: it is not in headers_out.etag,
     * so that gzip does not weaken what If-Match must match.
     */

    r->disable_not_modified = 1;

    return ngx_http_databridge_answer_json(r, call->status, call->answer);
}


/* An internal error tells the client an id, and the log what it means. */

static ngx_int_t
ngx_http_databridge_crud_failed(ngx_http_request_t *r)
{
    ngx_str_t  id;

    if (ngx_http_databridge_request_id(r, &id) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "databridge: the store has failed, request id %V", &id);

    if (ngx_http_databridge_add_header(r, db_string("X-Request-ID"),
                                       ngx_http_databridge_str(id))
        == NULL)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* Python calls: whatever becomes of it, it gets its call back. */

void
ngx_http_databridge_crud_asked(db_python_call_t *asked)
{
    ngx_int_t                    rc;
    ngx_http_databridge_crud_t  *crud;

    crud = ngx_http_databridge_crud_adopt(asked->call, asked->store);

    if (crud) {
        crud->python = asked;
        rc = db_crud_begin(asked->call);

    } else {
        rc = DB_ERROR;
    }

    if (rc == DB_OK && ngx_http_databridge_crud_store(crud) == NGX_DONE) {
        return;
    }

    if (rc == DB_ERROR) {
        asked->call->status = NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_databridge_crud_return(asked);
}


static void
ngx_http_databridge_crud_return(db_python_call_t *asked)
{
    db_crud_call_t  *call;

    call = asked->call;

    if (call->status == 0 && db_crud_finish(call) != DB_OK) {
        call->status = NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (call->status == NGX_HTTP_INTERNAL_SERVER_ERROR) {
        ngx_log_error(NGX_LOG_ERR, ngx_http_databridge_worker->cycle->log, 0,
                      "databridge: the store has failed when called by "
                      "Python");
    }

    ngx_http_databridge_submit(&asked->msg.node);
}
