/*
 * The stack holds the newest node on top.  A chain is reversed by its
 * producer, so that taking needs one pass over the nodes and no lock.
 */

#include "bridge/db_queue.h"


static db_node_t *
db_node_reverse(db_node_t *node)
{
    db_node_t  *next, *done;

    for (done = NULL; node; node = next) {
        next = node->next;
        node->next = done;
        done = node;
    }

    return done;
}


void
db_queue_init(db_queue_t *queue)
{
    atomic_init(&queue->top, NULL);
}


int
db_queue_push(db_queue_t *queue, db_chain_t *chain)
{
    db_node_t  *last, *first, *top;

    first = chain->head;

    if (first == NULL) {
        return 0;
    }

    last = db_node_reverse(first);
    top = atomic_load_explicit(&queue->top, memory_order_relaxed);

    do {
        first->next = top;
    } while (!atomic_compare_exchange_weak(&queue->top, &top, last));

    db_chain_init(chain);

    return top == NULL;
}


db_node_t *
db_queue_take(db_queue_t *queue)
{
    return db_node_reverse(atomic_exchange(&queue->top, NULL));
}
