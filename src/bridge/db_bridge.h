/*
 * The two queues between the nginx thread and the loop thread, and their
 * wake-ups.  Each side has an eventfd that is watched edge-triggered and so
 * never read: every write is an event.
 *
 * nginx is woken when its queue was empty.  Python is woken only when it has
 * said that it is about to sleep, which saves the write while it works.
 */

#ifndef DB_BRIDGE_H
#define DB_BRIDGE_H

#include "bridge/db_job.h"


typedef struct {
    db_queue_t   to_python;
    db_queue_t   to_nginx;
    atomic_int   asleep;         /* Python sleeps, or is about to */
    int          python_fd;
    int          nginx_fd;
} db_bridge_t;


/* DB_OK, or DB_ERROR with errno set. */
int db_bridge_open(db_bridge_t *bridge);
void db_bridge_close(db_bridge_t *bridge);

/* Any thread but the loop's: hands the chain to Python. */
void db_bridge_submit(db_bridge_t *bridge, db_chain_t *chain);

/* Loop thread, or any that Python runs: hands the chain to nginx. */
void db_bridge_publish(db_bridge_t *bridge, db_chain_t *chain);

/* The consumers' side: all messages so far, in order, or NULL. */
db_msg_t *db_bridge_requests(db_bridge_t *bridge);
db_msg_t *db_bridge_results(db_bridge_t *bridge);

/*
 * Loop thread, before it waits for events: 1 when it may sleep, 0 when there
 * is something to take first.
 */
int db_bridge_sleep(db_bridge_t *bridge);
void db_bridge_awake(db_bridge_t *bridge);

/* Wakes the nginx thread without a message, from any thread. */
void db_bridge_notify(db_bridge_t *bridge);

#endif /* DB_BRIDGE_H */
