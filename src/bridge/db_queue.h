/*
 * An intrusive multi-producer, single-consumer queue: a stack of chains that
 * the consumer takes whole and turns round.  Lock-free; a node belongs to its
 * producer until pushed, to the queue until taken, then to the consumer.
 */

#ifndef DB_QUEUE_H
#define DB_QUEUE_H

#include <stdatomic.h>
#include <stddef.h>


typedef struct db_node_s  db_node_t;

struct db_node_s {
    db_node_t  *next;
};


typedef struct {
    _Atomic(db_node_t *)  top;
} db_queue_t;


/* A FIFO list gathered by one thread before it is pushed whole. */

typedef struct {
    db_node_t   *head;
    db_node_t  **tail;
    unsigned     length;
} db_chain_t;


static inline void
db_chain_init(db_chain_t *chain)
{
    chain->head = NULL;
    chain->tail = &chain->head;
    chain->length = 0;
}


static inline void
db_chain_append(db_chain_t *chain, db_node_t *node)
{
    node->next = NULL;
    *chain->tail = node;
    chain->tail = &node->next;
    chain->length++;
}


void db_queue_init(db_queue_t *queue);

/*
 * Pushes all nodes of the chain, which is empty afterwards.  Returns 1 when
 * the queue was empty, that is when the consumer may have to be woken.
 */
int db_queue_push(db_queue_t *queue, db_chain_t *chain);

/* Everything pushed so far in FIFO order, or NULL. */
db_node_t *db_queue_take(db_queue_t *queue);


static inline int
db_queue_is_empty(db_queue_t *queue)
{
    return atomic_load(&queue->top) == NULL;
}

#endif /* DB_QUEUE_H */
