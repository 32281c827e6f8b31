/*
 * Two threads in the roles of nginx and of the loop exchange messages over
 * the bridge: every request must come back, in order, and nobody may sleep
 * through a message.  Both wait as the real threads do, on edge-triggered
 * eventfds that are never read.  Run under ThreadSanitizer as well.
 */

#include "unit.h"
#include "bridge/db_bridge.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>


#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define MESSAGES  500000
#else
#define MESSAGES  4000000
#endif

#define WINDOW    512            /* messages under way */
#define PATIENCE  5000           /* ms: then a wake-up was lost */


typedef struct {
    db_msg_t       msg;
    unsigned       number;
} message_t;

typedef struct {
    db_bridge_t    bridge;
    message_t      messages[WINDOW];
    unsigned       lost;         /* the loop's: waits that timed out */
    unsigned       sleeps;
} exchange_t;


static int
watch(int fd)
{
    int                 ep;
    struct epoll_event  event;

    ep = epoll_create1(EPOLL_CLOEXEC);
    event.events = EPOLLIN|EPOLLET;
    event.data.fd = fd;

    if (ep == -1 || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event) == -1) {
        abort();
    }

    return ep;
}


static void *
loop_thread(void *data)
{
    exchange_t *exchange = data;

    int                 ep;
    unsigned            seen;
    db_msg_t           *msg, *next;
    db_chain_t          answers;
    struct epoll_event  event;

    ep = watch(exchange->bridge.python_fd);
    seen = 0;

    db_chain_init(&answers);

    while (seen < MESSAGES) {
        msg = db_bridge_requests(&exchange->bridge);

        if (msg == NULL) {

            if (db_bridge_sleep(&exchange->bridge)) {
                exchange->sleeps++;

                if (epoll_wait(ep, &event, 1, PATIENCE) == 0) {
                    exchange->lost++;
                }

                db_bridge_awake(&exchange->bridge);
            }

            continue;
        }

        for ( /* void */ ; msg; msg = next) {
            next = (db_msg_t *) msg->node.next;

            if (((message_t *) msg)->number != seen++) {
                abort();
            }

            db_chain_append(&answers, &msg->node);

            /* now and then in several pushes */

            if (seen % 7 == 0) {
                db_bridge_publish(&exchange->bridge, &answers);
            }
        }

        db_bridge_publish(&exchange->bridge, &answers);
    }

    close(ep);

    return NULL;
}


static void
test_no_message_and_no_wake_up_is_lost(void **state)
{
    int                 ep;
    unsigned            sent, back, batch;
    db_msg_t           *msg, *next;
    pthread_t           thread;
    db_chain_t          chain;
    message_t          *message;
    exchange_t         *exchange;
    struct epoll_event  event;

    exchange = calloc(1, sizeof(exchange_t));
    assert_non_null(exchange);
    assert_int_equal(db_bridge_open(&exchange->bridge), DB_OK);

    ep = watch(exchange->bridge.nginx_fd);
    assert_int_equal(pthread_create(&thread, NULL, loop_thread, exchange), 0);

    db_chain_init(&chain);
    sent = 0;
    back = 0;

    while (back < MESSAGES) {

        /* batches of 1 to 64, so that both sides run dry again and again */

        for (batch = 1 + sent % 64;
             batch && sent < MESSAGES && sent - back < WINDOW;
             batch--)
        {
            message = &exchange->messages[sent % WINDOW];
            message->number = sent++;
            db_chain_append(&chain, &message->msg.node);
        }

        db_bridge_submit(&exchange->bridge, &chain);

        msg = db_bridge_results(&exchange->bridge);

        if (msg == NULL && (sent - back == WINDOW || sent == MESSAGES
                            || sent % 3 == 0))
        {
            assert_int_equal(epoll_wait(ep, &event, 1, PATIENCE), 1);
            continue;
        }

        for ( /* void */ ; msg; msg = next) {
            next = (db_msg_t *) msg->node.next;
            assert_int_equal(((message_t *) msg)->number, back);
            back++;
        }
    }

    pthread_join(thread, NULL);

    assert_int_equal(exchange->lost, 0);
    assert_true(exchange->sleeps > 0);

    close(ep);
    db_bridge_close(&exchange->bridge);
    free(exchange);
}


/*
 * The next request is sent a little later each time after the answer to the
 * last: again and again just while the loop decides to sleep.
 */

#define ROUNDS  200000


static void *
answering_thread(void *data)
{
    exchange_t *exchange = data;

    int                 ep;
    unsigned            seen;
    db_msg_t           *msg;
    db_chain_t          answer;
    struct epoll_event  event;

    ep = watch(exchange->bridge.python_fd);
    db_chain_init(&answer);

    for (seen = 0; seen < ROUNDS; /* void */) {
        msg = db_bridge_requests(&exchange->bridge);

        if (msg) {
            db_chain_append(&answer, &msg->node);
            db_bridge_publish(&exchange->bridge, &answer);
            seen++;

        } else if (db_bridge_sleep(&exchange->bridge)) {
            exchange->lost += (epoll_wait(ep, &event, 1, PATIENCE) == 0);
            db_bridge_awake(&exchange->bridge);
        }
    }

    close(ep);

    return NULL;
}


static void
test_going_to_sleep_never_misses_a_message(void **state)
{
    unsigned             i, spins;
    pthread_t            thread;
    db_chain_t           chain;
    exchange_t          *exchange;
    volatile unsigned    pause;

    exchange = calloc(1, sizeof(exchange_t));
    assert_non_null(exchange);
    assert_int_equal(db_bridge_open(&exchange->bridge), DB_OK);
    assert_int_equal(pthread_create(&thread, NULL, answering_thread,
                                    exchange), 0);

    db_chain_init(&chain);

    for (i = 0; i < ROUNDS; i++) {
        db_chain_append(&chain, &exchange->messages[0].msg.node);
        db_bridge_submit(&exchange->bridge, &chain);

        for (spins = 0; db_bridge_results(&exchange->bridge) == NULL; spins++)
        {
            if (spins > 1000) {
                sched_yield();
            }
        }

        for (pause = 0; pause < i % 400; pause++) {
            /* up to some hundred nanoseconds */
        }
    }

    pthread_join(thread, NULL);
    assert_int_equal(exchange->lost, 0);

    db_bridge_close(&exchange->bridge);
    free(exchange);
}


typedef struct {
    db_queue_t    queue;
    atomic_uint   running;
} producers_t;

#define PRODUCERS  4
#define EACH       50000


static void *
producer_thread(void *data)
{
    producers_t *producers = data;

    unsigned    i;
    db_chain_t  chain;
    message_t  *messages;

    messages = calloc(EACH, sizeof(message_t));

    if (messages == NULL) {
        abort();
    }

    db_chain_init(&chain);

    for (i = 0; i < EACH; i++) {
        messages[i].number = i;
        db_chain_append(&chain, &messages[i].msg.node);

        if (i % 5 == 0) {
            (void) db_queue_push(&producers->queue, &chain);
        }
    }

    (void) db_queue_push(&producers->queue, &chain);
    atomic_fetch_sub(&producers->running, 1);

    return messages;
}


static void
test_many_producers_keep_their_own_order(void **state)
{
    void         *memory[PRODUCERS];
    unsigned      i, running, taken, sum;
    db_node_t    *node;
    pthread_t     threads[PRODUCERS];
    producers_t   producers;

    db_queue_init(&producers.queue);
    atomic_init(&producers.running, PRODUCERS);

    for (i = 0; i < PRODUCERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, producer_thread,
                                        &producers), 0);
    }

    taken = 0;
    sum = 0;

    do {
        running = atomic_load(&producers.running);

        for (node = db_queue_take(&producers.queue); node; node = node->next) {
            sum += ((message_t *) node)->number;
            taken++;

            /* a chain comes whole: its next node is the next number */

            if (((message_t *) node)->number % 5 == 1) {
                assert_int_equal(((message_t *) node->next)->number % 5, 2);
            }
        }

    } while (running);

    assert_int_equal(taken, PRODUCERS * EACH);
    assert_int_equal(sum, (unsigned) PRODUCERS * (EACH / 2) * (EACH - 1));

    for (i = 0; i < PRODUCERS; i++) {
        pthread_join(threads[i], &memory[i]);
        free(memory[i]);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_no_message_and_no_wake_up_is_lost),
        cmocka_unit_test(test_going_to_sleep_never_misses_a_message),
        cmocka_unit_test(test_many_producers_keep_their_own_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
