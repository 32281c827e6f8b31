/*
 * The sleep protocol: Python stores "asleep" and then looks at its queue; a
 * sender pushes and then looks at "asleep".  Both are sequentially
 * consistent, so at least one of them sees the other.
 */

#include "bridge/db_bridge.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>


static void
db_bridge_signal(int fd)
{
    eventfd_t  one;

    one = 1;

    while (write(fd, &one, sizeof(one)) == -1 && errno == EINTR) {
        /* again */
    }
}


int
db_bridge_open(db_bridge_t *bridge)
{
    db_queue_init(&bridge->to_python);
    db_queue_init(&bridge->to_nginx);
    atomic_init(&bridge->asleep, 0);

    bridge->nginx_fd = -1;

    bridge->python_fd = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);
    if (bridge->python_fd == -1) {
        return DB_ERROR;
    }

    bridge->nginx_fd = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);
    if (bridge->nginx_fd == -1) {
        close(bridge->python_fd);
        return DB_ERROR;
    }

    return DB_OK;
}


void
db_bridge_close(db_bridge_t *bridge)
{
    close(bridge->python_fd);
    close(bridge->nginx_fd);
}


void
db_bridge_submit(db_bridge_t *bridge, db_chain_t *chain)
{
    if (chain->head == NULL) {
        return;
    }

    (void) db_queue_push(&bridge->to_python, chain);

    if (atomic_load(&bridge->asleep)
        && atomic_exchange(&bridge->asleep, 0))
    {
        db_bridge_signal(bridge->python_fd);
    }
}


void
db_bridge_publish(db_bridge_t *bridge, db_chain_t *chain)
{
    if (db_queue_push(&bridge->to_nginx, chain)) {
        db_bridge_signal(bridge->nginx_fd);
    }
}


db_msg_t *
db_bridge_requests(db_bridge_t *bridge)
{
    return (db_msg_t *) db_queue_take(&bridge->to_python);
}


db_msg_t *
db_bridge_results(db_bridge_t *bridge)
{
    return (db_msg_t *) db_queue_take(&bridge->to_nginx);
}


int
db_bridge_sleep(db_bridge_t *bridge)
{
    atomic_store(&bridge->asleep, 1);

    if (db_queue_is_empty(&bridge->to_python)) {
        return 1;
    }

    atomic_store(&bridge->asleep, 0);

    return 0;
}


void
db_bridge_awake(db_bridge_t *bridge)
{
    atomic_store(&bridge->asleep, 0);
}


void
db_bridge_notify(db_bridge_t *bridge)
{
    db_bridge_signal(bridge->nginx_fd);
}
