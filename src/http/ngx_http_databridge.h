/*
 * What the files of src/http share.  All of it belongs to the nginx thread;
 * where another thread writes, the member says so.
 */

#ifndef _NGX_HTTP_DATABRIDGE_H_INCLUDED_
#define _NGX_HTTP_DATABRIDGE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "core/db_thread.h"
#include "obs/db_metrics.h"
#include "obs/db_trace.h"
#include "python/db_python.h"
#include "ws/db_frames.h"


/* names the descriptor on which "databridge run" listens to its workers */

#define NGX_HTTP_DATABRIDGE_NOTIFY  "DATABRIDGE_NOTIFY_FD"


/* from the request line or the parser to the pure C rooms, and back */

#define ngx_http_databridge_str(s)                                            \
    ((db_str_t) { (char *) (s).data, (s).len })


#define NGX_HTTP_DATABRIDGE_METHODS       8


/* kept for the next calls of native CRUD: as many as often are under way */

#define NGX_HTTP_DATABRIDGE_ARENAS        32


/* of "databridge_metrics"; 0: none */

#define NGX_HTTP_DATABRIDGE_METRICS_TEXT  1
#define NGX_HTTP_DATABRIDGE_METRICS_JSON  2


/* A route as the zone knows it, and the slots that were found for it. */

typedef struct {
    db_metrics_slot_t                *slot;
    uint32_t                          version;
} ngx_http_databridge_ref_t;


typedef struct {
    db_str_t                          app;
    db_str_t                          route;
    ngx_http_databridge_ref_t         refs[NGX_HTTP_DATABRIDGE_METHODS];
} ngx_http_databridge_series_t;


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
    ngx_http_databridge_series_t     *series;  /* the worker's: collection,
                                                  item */
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
    ngx_uint_t                        nice;
    ngx_uint_t                        store_threads;
    ngx_msec_t                        shutdown_timeout;
    ngx_msec_t                        check;   /* 0: off */
    ngx_uint_t                        max_requests;  /* 0: any number */
    ngx_uint_t                        max_requests_jitter;
    size_t                            max_rss; /* 0: any size */
    ngx_shm_zone_t                   *recycle_zone;
    ngx_shm_zone_t                   *handover_zone;
    ngx_uint_t                        generation;  /* of the workers */
    ngx_thread_pool_t                *loop_pool;
    ngx_thread_pool_t                *store_pool;
    ngx_http_core_srv_conf_t         *warned;  /* the last, at the merge */

    ngx_core_conf_t                  *core;
    ngx_shm_zone_t                   *zone;    /* of the metrics */
    size_t                            zone_size;
    db_metrics_t                     *metrics; /* in the zone */
    uint32_t                          metrics_generation;
    unsigned                          shown:1; /* in some location */
} ngx_http_databridge_main_conf_t;


typedef struct {
    ngx_http_handler_pt               handler; /* NULL: nothing of ours */
    ngx_int_t                         app;     /* index, or NGX_CONF_UNSET */
    ngx_http_databridge_crud_conf_t  *crud;
    ngx_str_t                         health;  /* its answer, else empty */
    db_cors_t                        *cors;    /* NULL: off */
    ngx_msec_t                        timeout;
    off_t                             max_body_size;
    ngx_flag_t                        ignore_client_abort;
    ngx_flag_t                        trace;
    ngx_uint_t                        metrics;
    size_t                            websocket_max_size;
    ngx_msec_t                        websocket_ping;
    ngx_msec_t                        websocket_timeout;
} ngx_http_databridge_loc_conf_t;


/* Owners of jobs with the same time limit, in order of their deadlines. */

typedef struct {
    ngx_queue_t                       owners;
    ngx_event_t                       event;   /* for the head */
    ngx_msec_t                        value;
} ngx_http_databridge_timeout_t;


/* The worker's part in the metrics. */

typedef struct {
    db_metrics_t                     *metrics;
    ngx_shmtx_t                      *lock;    /* of the zone */
    db_metrics_row_t                 *row;     /* the loop thread's as well */
    db_metrics_row_t                  spare;   /* when the zone has none */
    uint64_t                          now;     /* in this cycle; 0: not read */
    ngx_uint_t                        shard;
    uint32_t                          generation;
    ngx_http_databridge_series_t     *others;  /* an application's each */
    ngx_http_databridge_series_t    **routes;  /* set when ready */
} ngx_http_databridge_meter_t;


/* An address of this side of a connection, and its text. */

typedef struct {
    ngx_sockaddr_t                    sockaddr;
    socklen_t                         socklen;
    size_t                            len;
    u_char                            text[NGX_SOCKADDR_STRLEN];
} ngx_http_databridge_local_t;


typedef struct {
    ngx_cycle_t                      *cycle;
    ngx_http_databridge_main_conf_t  *conf;
    ngx_http_databridge_meter_t       meter;
    ngx_http_databridge_local_t       local;     /* the last one seen */

    db_bridge_t                       bridge;
    db_msg_t                         *results;   /* taken, not yet handled */
    ngx_event_t                       more;      /* handles them later */

    db_chain_t                        submit;    /* this cycle's, to Python */
    ngx_event_t                       flush;     /* ends the cycle */
    unsigned                          reading:1; /* a store in this cycle */
    unsigned                          reposted:1;

    db_queue_t                        written;   /* pushed by the writers */
    db_arena_t                       *arenas[NGX_HTTP_DATABRIDGE_ARENAS];
    ngx_uint_t                        narenas;   /* of calls that have ended */

    ngx_queue_t                       waiting;   /* requests, until ready */
    ngx_queue_t                       running;   /* owners of jobs, to
                                                    their end */
    ngx_queue_t                       outputs;   /* owners, in a turn */
    ngx_array_t                       timeouts;  /* ..._timeout_t * */
    ngx_event_t                       hold;      /* keeps a worker that exits */
    ngx_msec_t                        deadline;  /* but not beyond this */
    ngx_msec_t                        patience;  /* with silent clients */

    ngx_uint_t                        jobs;      /* that Python holds */
    ngx_uint_t                        queued;    /* of them, unanswered */
    ngx_uint_t                        ops;       /* that a store holds */

    ngx_uint_t                        handled;   /* jobs so far */
    ngx_uint_t                        max_handled;   /* 0: any number */
    size_t                            max_rss;   /* 0: any size */
    ngx_event_t                       recycle;   /* when it is time to go */
    ngx_event_t                       handover;  /* puts off quitting */
    ngx_msec_t                        put_off;   /* since then */

    db_python_conf_t                  python;
    ngx_thread_task_t                 loop_task;
    db_ready_t                       *apps;      /* NULL until ready */
    db_msg_t                          stop;

    unsigned                          started:1; /* Python was started */
    unsigned                          stopping:1;
    unsigned                          stopped:1;
    unsigned                          exiting:1;
    unsigned                          held:1;    /* does not accept yet */
    unsigned                          handed_over:1;
    unsigned                          impatient:1;  /* has said so */
} ngx_http_databridge_worker_t;


/*
 * What a job is for: a request, or the WebSocket that has come of one.  It
 * is the first member of both, and all that the job, the queues and the
 * timeouts know of them.
 */

typedef struct ngx_http_databridge_owner_s  ngx_http_databridge_owner_t;

typedef void (*ngx_http_databridge_owner_pt)(
    ngx_http_databridge_owner_t *owner);
typedef void (*ngx_http_databridge_part_pt)(ngx_http_databridge_owner_t *owner,
    db_part_t *part);

typedef struct {
    ngx_http_databridge_part_pt       part;      /* has come of Python */
    ngx_http_databridge_owner_pt      taken;     /* ahead has become less */
    ngx_http_databridge_owner_pt      flush;     /* its output, at last */
    ngx_http_databridge_owner_pt      expire;    /* its timeout is over */
    ngx_http_databridge_owner_pt      leave;     /* the worker quits */
    ngx_http_databridge_owner_pt      cut;       /* and waits no longer */
} ngx_http_databridge_ops_t;

struct ngx_http_databridge_owner_s {
    const ngx_http_databridge_ops_t  *ops;
    db_job_t                         *job;       /* NULL: not, or no longer */

    ngx_queue_t                       link;      /* waiting or running */
    ngx_queue_t                       queue;     /* of the timeout */
    ngx_http_databridge_timeout_t    *timeout;   /* NULL: none armed */
    ngx_msec_t                        expires;
    ngx_queue_t                       output;    /* of worker->outputs */

    size_t                            ahead;     /* sent to Python, not taken */
    size_t                            sent;      /* not yet given back */

    unsigned                          linked:1;
    unsigned                          pending:1; /* there is output */
    unsigned                          paused:1;  /* it is far ahead */
};


/*
 * A WebSocket: its connection is its own, the request has been freed.  A
 * block of its own, which ends with the connection.
 */

typedef struct {
    ngx_http_databridge_owner_t       owner;     /* first */
    ngx_connection_t                 *connection;
    ngx_http_request_t               *request;   /* kept for a limit, or NULL */
    ngx_http_core_loc_conf_t         *clcf;
    ngx_http_databridge_loc_conf_t   *dlcf;

    db_frames_t                       frames;
    db_str_t                          unread;    /* of the request's buffer */

    db_chain_t                        out;       /* parts, their bodies what
                                                    is left of them */
    db_part_t                        *pong;      /* not yet sent, or NULL */

    unsigned                          pinged:1;  /* nothing has come since */
    unsigned                          closing:1; /* a close was sent */
    unsigned                          ending:1;  /* with what is to be sent */
    unsigned                          lingering:1;  /* the client may send */
} ngx_http_databridge_websocket_t;


/* A request to an application. */

typedef struct {
    ngx_http_databridge_owner_t       owner;     /* first */
    ngx_http_request_t               *request;
    ngx_int_t                         app;

    ngx_str_t                         target;    /* the path as received */
    const db_crud_t                  *hybrid;    /* a resource that Python
                                                    writes for the client */
    const db_plan_t                  *plan;      /* that Python tries, with */
    db_match_t                        match;     /* these parameters */
    const db_route_t                 *route;     /* of a native resource */
    db_str_t                          prefix;    /* and its path */
    db_str_t                          rest;

    ngx_msec_t                        limit;     /* of the timeout */
    ngx_int_t                         result;    /* when the body is drained */

    db_part_t                        *head;      /* headers point into it */
    ngx_chain_t                      *out;       /* its last is *last_out */
    ngx_chain_t                     **last_out;
    ngx_chain_t                      *free;
    ngx_chain_t                      *busy;

    db_chain_t                        early;     /* parts for the WebSocket */

    unsigned                          detached:1; /* from its job */
    unsigned                          deferred:1; /* the body is not begun */
    unsigned                          streamed:1; /* it comes in chunks */
    unsigned                          started:1;  /* the header was sent */
    unsigned                          begun:1;    /* the header was asked for */
    unsigned                          leaving:1;  /* Python knows that we do */
    unsigned                          websocket:1;  /* not if denied */
} ngx_http_databridge_ctx_t;


typedef enum {
    NGX_HTTP_DATABRIDGE_NONE,
    NGX_HTTP_DATABRIDGE_NATIVE,
    NGX_HTTP_DATABRIDGE_PLAN,
    NGX_HTTP_DATABRIDGE_HYBRID,
    NGX_HTTP_DATABRIDGE_ASGI,
    NGX_HTTP_DATABRIDGE_WSGI,
    NGX_HTTP_DATABRIDGE_WEBSOCKET
} ngx_http_databridge_kind_t;


/* What metrics and variables know of a request; the times are ns, 0: none. */

typedef struct {
    ngx_http_request_t               *request;
    ngx_http_databridge_series_t     *series;    /* NULL: not counted */
    ngx_http_databridge_kind_t        kind;
    uint64_t                          start;
    uint64_t                          waiting;   /* for Python */
    uint64_t                          taken;     /* by Python */
    uint64_t                          answered;  /* the response's start */
    ngx_str_t                         request_id;
    ngx_str_t                         traceparent;
    ngx_str_t                         trace_id;
    ngx_str_t                         user;      /* that auth_basic verified */
    unsigned                          accessed:1;  /* it is known */
    unsigned                          traced:1;
    unsigned                          counted:1;
} ngx_http_databridge_record_t;


extern ngx_module_t                   ngx_databridge_module;
extern ngx_module_t                   ngx_http_databridge_module;
extern ngx_http_databridge_worker_t  *ngx_http_databridge_worker;
extern db_str_t                       ngx_http_databridge_methods[];


/* ngx_http_databridge_conf.c */

char *ngx_http_databridge_serve(ngx_conf_t *cf,
    ngx_http_databridge_loc_conf_t *dlcf, ngx_http_handler_pt handler);
char *ngx_http_databridge_app(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_databridge_crud(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_databridge_store(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_databridge_venv(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_databridge_env(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_databridge_python_path(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_databridge_check_time(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_databridge_max_requests(ngx_conf_t *cf, ngx_command_t *cmd,
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
void ngx_http_databridge_take_ready(ngx_http_databridge_worker_t *worker,
    db_ready_t *ready);
void ngx_http_databridge_report(ngx_http_databridge_worker_t *worker);
ngx_int_t ngx_http_databridge_notify(u_char *line, size_t len);

/* ngx_http_databridge_exit.c */

void ngx_http_databridge_quit(ngx_http_databridge_worker_t *worker);
void ngx_http_databridge_worker_exit(ngx_cycle_t *cycle);

/* ngx_http_databridge_handover.c */

ngx_int_t ngx_http_databridge_handover_zone(ngx_conf_t *cf,
    ngx_http_databridge_main_conf_t *dmcf);
ngx_int_t ngx_http_databridge_handover_begin(ngx_cycle_t *cycle);
void ngx_http_databridge_handover_start(ngx_http_databridge_worker_t *worker);
void ngx_http_databridge_handover_ready(ngx_http_databridge_worker_t *worker);

/* ngx_http_databridge_recycle.c */

ngx_int_t ngx_http_databridge_recycle_zone(ngx_conf_t *cf,
    ngx_http_databridge_main_conf_t *dmcf);
void ngx_http_databridge_recycle_check(ngx_cycle_t *cycle,
    ngx_http_databridge_main_conf_t *dmcf);
void ngx_http_databridge_recycle_start(ngx_http_databridge_worker_t *worker);
void ngx_http_databridge_recycle_count(ngx_http_databridge_worker_t *worker);

/* ngx_http_databridge_timeout.c */

ngx_int_t ngx_http_databridge_timeout_add(ngx_http_databridge_owner_t *owner,
    ngx_msec_t value);
void ngx_http_databridge_timeout_del(ngx_http_databridge_owner_t *owner);

/* ngx_http_databridge_owner.c */

void ngx_http_databridge_part(db_part_t *part);
void ngx_http_databridge_pass_part(db_job_t *job, db_part_t *part);
void ngx_http_databridge_free_part(db_part_t *part);
void ngx_http_databridge_taken(db_notice_t *notice);
void ngx_http_databridge_give_back(ngx_http_databridge_owner_t *owner,
    size_t size);
void ngx_http_databridge_post_output(ngx_http_databridge_owner_t *owner);
void ngx_http_databridge_unpost_output(ngx_http_databridge_owner_t *owner);
void ngx_http_databridge_flush_outputs(ngx_http_databridge_worker_t *worker);
void ngx_http_databridge_link(ngx_http_databridge_owner_t *owner,
    ngx_queue_t *queue);
void ngx_http_databridge_unlink(ngx_http_databridge_owner_t *owner);
void ngx_http_databridge_let_go(ngx_http_databridge_owner_t *owner,
    db_notice_t *notice);

/* ngx_http_databridge_handler.c */

ngx_int_t ngx_http_databridge_app_handler(ngx_http_request_t *r);
void ngx_http_databridge_resume(ngx_http_databridge_ctx_t *ctx);
void ngx_http_databridge_leave(ngx_http_databridge_owner_t *owner);
void ngx_http_databridge_detach(ngx_http_databridge_ctx_t *ctx,
    db_notice_t *notice);
ngx_int_t ngx_http_databridge_hand_over(ngx_http_databridge_ctx_t *ctx);
ngx_int_t ngx_http_databridge_unavailable(ngx_http_request_t *r);

/* ngx_http_databridge_plan.c */

ngx_uint_t ngx_http_databridge_plannable(ngx_http_request_t *r,
    const db_plan_t *plan);
ngx_uint_t ngx_http_databridge_whole_body(ngx_http_databridge_ctx_t *ctx);

/* ngx_http_databridge_body.c */

ngx_int_t ngx_http_databridge_begin_body(ngx_http_databridge_ctx_t *ctx);
void ngx_http_databridge_stream_body(ngx_http_databridge_ctx_t *ctx);
void ngx_http_databridge_body_taken(ngx_http_databridge_owner_t *owner);
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
ngx_int_t ngx_http_databridge_crud_variable(ngx_http_request_t *r,
    db_str_t name, db_str_t *value);
void ngx_http_databridge_crud_check(ngx_cycle_t *cycle,
    const db_crud_t *crud);

/* ngx_http_databridge_response.c */

void ngx_http_databridge_respond(ngx_http_databridge_owner_t *owner,
    db_part_t *part);
void ngx_http_databridge_flush_output(ngx_http_databridge_owner_t *owner);
ngx_int_t ngx_http_databridge_watch_output(ngx_http_request_t *r);

/* ngx_http_databridge_handshake.c */

ngx_int_t ngx_http_databridge_handshake(ngx_http_databridge_ctx_t *ctx);
ngx_int_t ngx_http_databridge_upgrade(ngx_http_databridge_ctx_t *ctx);
ngx_int_t ngx_http_databridge_accepted(ngx_http_databridge_ctx_t *ctx,
    db_part_t *part);
void ngx_http_databridge_switch(ngx_http_request_t *r);
void ngx_http_databridge_drop_early(ngx_http_databridge_ctx_t *ctx);

/* ngx_http_databridge_socket.c */

ngx_http_databridge_websocket_t *ngx_http_databridge_socket_create(
    ngx_http_request_t *r);
void ngx_http_databridge_socket_start(ngx_http_databridge_websocket_t *ws,
    ngx_http_request_t *r);
ngx_int_t ngx_http_databridge_socket_read(
    ngx_http_databridge_websocket_t *ws);
ngx_int_t ngx_http_databridge_socket_send(
    ngx_http_databridge_websocket_t *ws);
void ngx_http_databridge_socket_settle(ngx_http_databridge_websocket_t *ws,
    ngx_int_t rc);
void ngx_http_databridge_socket_end(ngx_http_databridge_websocket_t *ws);

/* ngx_http_databridge_websocket.c */

extern const ngx_http_databridge_ops_t  ngx_http_databridge_websocket_ops;

void ngx_http_databridge_websocket_open(ngx_http_databridge_websocket_t *ws);
ngx_int_t ngx_http_databridge_websocket_frames(
    ngx_http_databridge_websocket_t *ws, u_char *data, size_t len);
void ngx_http_databridge_websocket_add(ngx_http_databridge_websocket_t *ws,
    db_part_t *part);

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

/* ngx_http_databridge_metrics.c */

char *ngx_http_databridge_metrics(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_databridge_metrics_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_http_databridge_metrics_init(ngx_conf_t *cf,
    ngx_http_databridge_main_conf_t *dmcf);
ngx_int_t ngx_http_databridge_meter_init(ngx_http_databridge_worker_t *worker);
void ngx_http_databridge_meter_ready(ngx_http_databridge_worker_t *worker);
void ngx_http_databridge_meter_exit(ngx_http_databridge_worker_t *worker);

/* ngx_http_databridge_record.c */

ngx_int_t ngx_http_databridge_log_handler(ngx_http_request_t *r);
ngx_http_databridge_record_t *ngx_http_databridge_record_get(
    ngx_http_request_t *r);
ngx_http_databridge_record_t *ngx_http_databridge_record(
    ngx_http_request_t *r);
void ngx_http_databridge_begin_app(ngx_http_request_t *r);
void ngx_http_databridge_begin_crud(ngx_http_request_t *r);
void ngx_http_databridge_record_route(ngx_http_request_t *r,
    ngx_uint_t index);
void ngx_http_databridge_record_kind(ngx_http_request_t *r,
    ngx_http_databridge_kind_t kind);
void ngx_http_databridge_record_wait(ngx_http_request_t *r);
void ngx_http_databridge_record_submit(ngx_http_request_t *r, db_job_t *job);
void ngx_http_databridge_record_job(ngx_http_request_t *r, db_job_t *job);
void ngx_http_databridge_metric_socket(ngx_int_t change);
void ngx_http_databridge_metric_store(const db_store_op_t *op,
    uint64_t since);

#define ngx_http_databridge_metric_add(member, n)                             \
    db_counter_add(&ngx_http_databridge_worker->meter.row->member, n)

/* ngx_http_databridge_variables.c */

ngx_int_t ngx_http_databridge_add_variables(ngx_conf_t *cf);
ngx_int_t ngx_http_databridge_request_id(ngx_http_request_t *r,
    ngx_str_t *id);
ngx_int_t ngx_http_databridge_trace(ngx_http_request_t *r);
ngx_table_elt_t *ngx_http_databridge_find_header(ngx_list_t *headers,
    db_str_t name, ngx_uint_t *n);
ngx_table_elt_t *ngx_http_databridge_header_in(ngx_http_request_t *r,
    db_str_t name);

/* ngx_http_databridge_crud.c */

ngx_int_t ngx_http_databridge_crud_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_databridge_crud_run(ngx_http_request_t *r,
    const db_crud_t *crud, db_store_t *store, db_str_t prefix, db_str_t rest);
void ngx_http_databridge_crud_written(db_node_t *node);
void ngx_http_databridge_crud_asked(db_python_call_t *asked);

/* ngx_http_databridge_crud_body.c */

ngx_int_t ngx_http_databridge_crud_read(ngx_http_request_t *r,
    ngx_http_client_body_handler_pt handler);
ngx_int_t ngx_http_databridge_crud_too_large(ngx_http_request_t *r);

/* As one piece, or NGX_DECLINED: it is too large. */
ngx_int_t ngx_http_databridge_crud_body(ngx_http_request_t *r,
    db_str_t *body);


#endif /* _NGX_HTTP_DATABRIDGE_H_INCLUDED_ */
