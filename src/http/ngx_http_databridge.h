/*
 * What the files of src/http share.  All of it belongs to the nginx thread;
 * where another thread writes, the member says so.
 */

#ifndef _NGX_HTTP_DATABRIDGE_H_INCLUDED_
#define _NGX_HTTP_DATABRIDGE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "python/db_python.h"


/* from the request line or the parser to the pure C rooms, and back */

#define ngx_http_databridge_str(s)                                            \
    ((db_str_t) { (char *) (s).data, (s).len })


typedef struct {
    ngx_str_t                         name;
    ngx_str_t                         uri;
    db_store_t                       *store;   /* the worker's */
} ngx_http_databridge_store_t;


typedef struct {
    ngx_str_t                         store_name;
    db_crud_t                        *crud;
    ngx_http_databridge_store_t      *store;   /* found when http{} ends */
    ngx_str_t                         prefix;  /* of the location */
    u_char                           *file;
    ngx_uint_t                        line;
    unsigned                          ready:1; /* the worker's */
} ngx_http_databridge_crud_conf_t;


typedef struct {
    ngx_array_t                       apps;    /* db_app_conf_t */
    ngx_array_t                       stores;  /* ngx_http_databridge_store_t */
    ngx_array_t                       cruds;   /* ..._crud_conf_t * */
    ngx_array_t                       env;     /* ngx_str_t */
    ngx_array_t                       path;    /* ngx_str_t */
    ngx_str_t                         venv;
    ngx_uint_t                        queue;
    ngx_uint_t                        sync_threads;
    ngx_uint_t                        store_threads;
    ngx_msec_t                        shutdown_timeout;
    ngx_msec_t                        check;   /* 0: off */
    ngx_thread_pool_t                *loop_pool;
    ngx_thread_pool_t                *store_pool;
    ngx_http_core_srv_conf_t         *warned;  /* the last, at the merge */
} ngx_http_databridge_main_conf_t;


typedef struct {
    ngx_int_t                         app;     /* index, or NGX_CONF_UNSET */
    ngx_http_databridge_crud_conf_t  *crud;
    ngx_str_t                         health;  /* its answer, else empty */
    db_cors_t                        *cors;    /* NULL: off */
    ngx_msec_t                        timeout;
    off_t                             max_body_size;
    ngx_flag_t                        ignore_client_abort;
} ngx_http_databridge_loc_conf_t;


/* Requests with the same time limit, in order of their deadlines. */

typedef struct {
    ngx_queue_t                       requests;
    ngx_event_t                       event;   /* for the head */
    ngx_msec_t                        value;
} ngx_http_databridge_timeout_t;


typedef struct {
    ngx_cycle_t                      *cycle;
    ngx_http_databridge_main_conf_t  *conf;

    db_bridge_t                       bridge;
    db_msg_t                         *results;   /* taken, not yet handled */
    ngx_event_t                       more;      /* handles them later */

    db_chain_t                        submit;    /* this cycle's, to Python */
    ngx_event_t                       flush;     /* ends the cycle */
    unsigned                          reading:1; /* a store in this cycle */
    unsigned                          reposted:1;

    db_queue_t                        written;   /* pushed by the writers */

    ngx_queue_t                       waiting;   /* requests, until ready */
    ngx_queue_t                       running;   /* requests, with Python */
    ngx_queue_t                       outputs;   /* requests, in a turn */
    ngx_array_t                       timeouts;  /* ..._timeout_t * */
    ngx_event_t                       hold;      /* keeps a worker that exits */
    ngx_msec_t                        deadline;  /* but not beyond this */

    ngx_uint_t                        jobs;      /* that Python holds */
    ngx_uint_t                        queued;    /* of them, unanswered */
    ngx_uint_t                        ops;       /* that a store holds */

    db_python_conf_t                  python;
    ngx_thread_task_t                 loop_task;
    db_ready_t                       *apps;      /* NULL until ready */
    db_msg_t                          stop;

    unsigned                          started:1; /* Python was started */
    unsigned                          stopping:1;
    unsigned                          stopped:1;
    unsigned                          exiting:1;
} ngx_http_databridge_worker_t;


/* A request to an application. */

typedef struct {
    ngx_http_request_t               *request;
    db_job_t                         *job;       /* NULL: not, or no longer */
    ngx_int_t                         app;

    ngx_str_t                         target;    /* the path as received */
    const db_route_t                 *route;     /* of a native resource */
    db_str_t                          prefix;    /* and its path */
    db_str_t                          rest;

    ngx_queue_t                       link;      /* waiting or running */
    ngx_queue_t                       queue;     /* of the timeout */
    ngx_http_databridge_timeout_t    *timeout;   /* NULL: none armed */
    ngx_msec_t                        limit;     /* what it is armed for */
    ngx_msec_t                        expires;

    size_t                            ahead;     /* of the body, not taken */
    size_t                            sent;      /* not yet given back */
    ngx_int_t                         result;    /* when the body is drained */

    db_part_t                        *head;      /* headers point into it */
    ngx_queue_t                       output;    /* of worker->outputs */
    ngx_chain_t                      *out;       /* its last is *last_out */
    ngx_chain_t                     **last_out;
    ngx_chain_t                      *free;
    ngx_chain_t                      *busy;

    unsigned                          linked:1;
    unsigned                          deferred:1; /* the body is not begun */
    unsigned                          paused:1;   /* it is far ahead */
    unsigned                          started:1;  /* the header was sent */
    unsigned                          pending:1;  /* something is in "out" */
    unsigned                          leaving:1;  /* Python knows that we do */
} ngx_http_databridge_ctx_t;


extern ngx_module_t                   ngx_databridge_module;
extern ngx_module_t                   ngx_http_databridge_module;
extern ngx_http_databridge_worker_t  *ngx_http_databridge_worker;


/* ngx_http_databridge_conf.c */

char *ngx_http_databridge_app(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_databridge_crud(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_databridge_store(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_databridge_env(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_databridge_python_path(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_databridge_check_time(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_http_databridge_resolve(ngx_conf_t *cf,
    ngx_http_databridge_main_conf_t *dmcf);

/* ngx_databridge_check.c */

ngx_int_t ngx_databridge_check(ngx_cycle_t *cycle,
    ngx_http_databridge_main_conf_t *dmcf);

/* ngx_http_databridge_worker.c */

ngx_int_t ngx_http_databridge_worker_init(ngx_cycle_t *cycle);
void ngx_http_databridge_submit(db_node_t *node);
void ngx_http_databridge_post_flush(void);

/* ngx_http_databridge_exit.c */

void ngx_http_databridge_quit(ngx_http_databridge_worker_t *worker);
void ngx_http_databridge_worker_exit(ngx_cycle_t *cycle);

/* ngx_http_databridge_timeout.c */

ngx_int_t ngx_http_databridge_timeout_add(ngx_http_databridge_ctx_t *ctx,
    ngx_msec_t value);
void ngx_http_databridge_timeout_del(ngx_http_databridge_ctx_t *ctx);

/* ngx_http_databridge_handler.c */

ngx_int_t ngx_http_databridge_app_handler(ngx_http_request_t *r);
void ngx_http_databridge_resume(ngx_http_databridge_ctx_t *ctx);
void ngx_http_databridge_expire(ngx_http_databridge_ctx_t *ctx);
void ngx_http_databridge_cut(ngx_http_databridge_ctx_t *ctx);
void ngx_http_databridge_leave(ngx_http_databridge_ctx_t *ctx);
void ngx_http_databridge_detach(ngx_http_databridge_ctx_t *ctx,
    db_notice_t *notice);
ngx_int_t ngx_http_databridge_hand_over(ngx_http_databridge_ctx_t *ctx);

/* ngx_http_databridge_body.c */

ngx_int_t ngx_http_databridge_begin_body(ngx_http_databridge_ctx_t *ctx);
void ngx_http_databridge_stream_body(ngx_http_databridge_ctx_t *ctx);
void ngx_http_databridge_taken(db_notice_t *notice);
void ngx_http_databridge_drain(ngx_http_databridge_ctx_t *ctx, ngx_int_t rc);
ngx_int_t ngx_http_databridge_watch_client(ngx_http_request_t *r);

/* ngx_http_databridge_job.c */

db_job_t *ngx_http_databridge_job(ngx_http_databridge_ctx_t *ctx);
ngx_int_t ngx_http_databridge_target(ngx_http_request_t *r, ngx_str_t *target);
off_t ngx_http_databridge_body_size(ngx_http_request_t *r,
    ngx_uint_t *in_file);
u_char *ngx_http_databridge_copy_body(ngx_http_request_t *r, u_char *p);
void ngx_http_databridge_drop_body(ngx_http_request_t *r);

/* ngx_http_databridge_user.c */

ngx_int_t ngx_http_databridge_user_init(ngx_conf_t *cf);
void ngx_http_databridge_user(ngx_http_request_t *r, ngx_str_t *user);

/* ngx_http_databridge_response.c */

void ngx_http_databridge_part(db_part_t *part);
void ngx_http_databridge_flush_outputs(ngx_http_databridge_worker_t *worker);

/* ngx_http_databridge_headers.c */

ngx_int_t ngx_http_databridge_set_headers(ngx_http_request_t *r,
    db_part_t *part);
ngx_int_t ngx_http_databridge_add_trailers(ngx_http_request_t *r,
    db_part_t *part);
ngx_int_t ngx_http_databridge_send_hint(ngx_http_request_t *r,
    db_part_t *part);
ngx_int_t ngx_http_databridge_content_type(ngx_http_request_t *r,
    ngx_str_t *value);
ngx_table_elt_t *ngx_http_databridge_add_header(ngx_http_request_t *r,
    db_str_t name, db_str_t value);

/* ngx_http_databridge_answer.c */

char *ngx_http_databridge_health(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_http_databridge_health_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_databridge_answer(ngx_http_request_t *r,
    ngx_uint_t status, db_str_t type, db_str_t body);
ngx_int_t ngx_http_databridge_answer_json(ngx_http_request_t *r,
    ngx_uint_t status, db_str_t json);
ngx_int_t ngx_http_databridge_answer_error(ngx_http_request_t *r,
    ngx_uint_t status, const char *detail, db_str_t allow);
ngx_int_t ngx_http_databridge_answer_route(ngx_http_request_t *r,
    db_part_t *answer);

/* ngx_http_databridge_cors.c */

char *ngx_http_databridge_cors(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_http_databridge_cors_preflight(ngx_http_request_t *r);
ngx_int_t ngx_http_databridge_cors_headers(ngx_http_request_t *r);

/* ngx_http_databridge_status.c */

void ngx_http_databridge_set_status(ngx_http_request_t *r,
    ngx_uint_t status);

/* ngx_http_databridge_crud.c */

ngx_int_t ngx_http_databridge_crud_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_databridge_crud_run(ngx_http_request_t *r,
    const db_crud_t *crud, db_store_t *store, db_str_t prefix, db_str_t rest);
void ngx_http_databridge_crud_written(db_node_t *node);


#endif /* _NGX_HTTP_DATABRIDGE_H_INCLUDED_ */
