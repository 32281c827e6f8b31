/*
 * Queues, jobs and the sleep protocol, on one thread.
 */

#include "unit.h"
#include "bridge/db_bridge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>


/* Wake-ups since the last look. */

static unsigned
wakes(int fd)
{
    eventfd_t  n;

    return eventfd_read(fd, &n) == 0 ? (unsigned) n : 0;
}


static void
chain_of(db_chain_t *chain, db_node_t *nodes, unsigned n)
{
    unsigned  i;

    db_chain_init(chain);

    for (i = 0; i < n; i++) {
        db_chain_append(chain, &nodes[i]);
    }
}


static void
test_queue_is_first_in_first_out(void **state)
{
    db_node_t   nodes[6], *node;
    unsigned    i;
    db_chain_t  chain;
    db_queue_t  queue;

    db_queue_init(&queue);
    assert_true(db_queue_is_empty(&queue));
    assert_null(db_queue_take(&queue));

    chain_of(&chain, nodes, 3);
    assert_int_equal(chain.length, 3);
    assert_int_equal(db_queue_push(&queue, &chain), 1);
    assert_null(chain.head);
    assert_int_equal(chain.length, 0);
    assert_false(db_queue_is_empty(&queue));

    chain_of(&chain, nodes + 3, 3);
    assert_int_equal(db_queue_push(&queue, &chain), 0);

    /* an empty chain changes nothing and wakes nobody */

    assert_int_equal(db_queue_push(&queue, &chain), 0);

    node = db_queue_take(&queue);

    for (i = 0; i < 6; i++, node = node->next) {
        assert_ptr_equal(node, &nodes[i]);
    }

    assert_null(node);
    assert_true(db_queue_is_empty(&queue));
    assert_int_equal(db_queue_push(&queue, &chain), 0);
}


static void
test_python_is_woken_only_when_asleep(void **state)
{
    db_msg_t     messages[3];
    db_chain_t   chain;
    db_bridge_t  bridge;

    assert_int_equal(db_bridge_open(&bridge), DB_OK);

    chain_of(&chain, &messages[0].node, 1);
    db_bridge_submit(&bridge, &chain);
    assert_int_equal(wakes(bridge.python_fd), 0);

    /* there is something to take first */

    assert_int_equal(db_bridge_sleep(&bridge), 0);
    assert_ptr_equal(db_bridge_requests(&bridge), &messages[0]);
    assert_int_equal(db_bridge_sleep(&bridge), 1);

    db_bridge_submit(&bridge, &chain);
    assert_int_equal(wakes(bridge.python_fd), 0);

    chain_of(&chain, &messages[1].node, 1);
    db_bridge_submit(&bridge, &chain);
    chain_of(&chain, &messages[2].node, 1);
    db_bridge_submit(&bridge, &chain);
    assert_int_equal(wakes(bridge.python_fd), 1);

    db_bridge_awake(&bridge);
    assert_ptr_equal(db_bridge_requests(&bridge), &messages[1]);
    assert_ptr_equal(messages[1].node.next, &messages[2]);

    db_bridge_close(&bridge);
}


static void
test_nginx_is_woken_when_its_queue_was_empty(void **state)
{
    db_msg_t     messages[3];
    db_chain_t   chain;
    db_bridge_t  bridge;

    assert_int_equal(db_bridge_open(&bridge), DB_OK);

    chain_of(&chain, &messages[0].node, 1);
    db_bridge_publish(&bridge, &chain);
    chain_of(&chain, &messages[1].node, 1);
    db_bridge_publish(&bridge, &chain);
    assert_int_equal(wakes(bridge.nginx_fd), 1);

    assert_ptr_equal(db_bridge_results(&bridge), &messages[0]);

    chain_of(&chain, &messages[2].node, 1);
    db_bridge_publish(&bridge, &chain);
    assert_int_equal(wakes(bridge.nginx_fd), 1);

    /* an empty chain is no message */

    db_bridge_publish(&bridge, &chain);
    assert_int_equal(wakes(bridge.nginx_fd), 0);

    db_bridge_notify(&bridge);
    assert_int_equal(wakes(bridge.nginx_fd), 1);

    db_bridge_close(&bridge);
}


static void
test_job_has_room_for_what_it_was_made_for(void **state)
{
    char      *strings;
    db_job_t  *job;

    job = db_job_create(3, 100, &strings);
    assert_non_null(job);

    assert_int_equal(job->msg.kind, DB_MSG_REQUEST);
    assert_int_equal(job->disconnect.msg.kind, DB_MSG_DISCONNECT);
    assert_int_equal(job->cancel.msg.kind, DB_MSG_CANCEL);
    assert_ptr_equal(job->cancel.job, job);
    assert_int_equal(job->nheaders, 3);
    assert_int_equal(job->body_fd, -1);
    assert_null(job->owner);

    /* the sanitizer sees what is too short */

    memset(job->headers, 1, 3 * sizeof(db_header_t));
    memset(strings, 2, 100);
    assert_true((char *) (job->headers + 3) <= strings);

    db_job_release(job);
}


static void
test_last_reference_closes_the_body(void **state)
{
    int        fd;
    char      *strings;
    db_job_t  *job;

    fd = open("/dev/null", O_RDONLY|O_CLOEXEC);
    assert_true(fd >= 0);

    job = db_job_create(0, 0, &strings);
    job->body_fd = fd;

    db_job_retain(job);
    db_job_release(job);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);

    db_job_release(job);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(errno, EBADF);
}


static void
test_part_belongs_to_its_job(void **state)
{
    char       *strings;
    db_job_t   *job;
    db_part_t  *part;

    job = db_job_create(0, 0, &strings);
    part = db_part_create(job, 2, 10, &strings);
    assert_non_null(part);

    assert_ptr_equal(part->job, job);
    assert_int_equal(part->msg.kind, DB_MSG_PART);
    assert_int_equal(part->nheaders, 2);
    assert_null(part->object);

    memset(part->headers, 1, 2 * sizeof(db_header_t));
    memset(strings, 2, 10);

    db_part_destroy(part);
    db_job_release(job);
}


static void
test_first_small_part_lives_in_its_job(void **state)
{
    char       *strings;
    size_t      size;
    db_job_t   *job;
    db_part_t  *large, *first, *second;

    job = db_job_create(0, 0, &strings);
    size = DB_PART_ROOM - sizeof(db_part_t) - sizeof(db_header_t);

    large = db_part_create(job, 1, size + 1, &strings);
    assert_false(large->lodged);

    first = db_part_create(job, 1, size, &strings);
    assert_true(first->lodged);
    memset(strings, 2, size);

    second = db_part_create(job, 1, size, &strings);
    assert_false(second->lodged);

    /* the part holds the job */

    db_job_release(job);
    assert_ptr_equal(first->job, job);
    assert_int_equal(atomic_load(&job->refs), 1);

    db_part_destroy(first);
    db_part_destroy(second);
    db_part_destroy(large);
}


static void
test_part_without_a_job_has_a_block_of_its_own(void **state)
{
    char       *strings;
    db_part_t  *part;

    part = db_part_create(NULL, 0, 1, &strings);
    assert_false(part->lodged);
    assert_null(part->job);

    db_part_destroy(part);
}


static void
test_credit_is_under_way_once(void **state)
{
    char      *strings;
    db_job_t  *job;

    job = db_job_create(0, 0, &strings);
    assert_non_null(job);

    assert_ptr_equal(db_credit_give(&job->sent, 10), &job->sent.notice.msg);
    assert_null(db_credit_give(&job->sent, 20));
    assert_int_equal(atomic_load(&job->refs), 2);

    assert_int_equal(db_credit_take(&job->sent), 30);
    assert_int_equal(atomic_load(&job->refs), 1);

    assert_ptr_equal(db_credit_give(&job->sent, 5), &job->sent.notice.msg);
    assert_int_equal(db_credit_take(&job->sent), 5);

    db_job_release(job);
}


static void
test_chunk_holds_its_job(void **state)
{
    char        *strings;
    db_job_t    *job;
    db_chunk_t  *chunk;

    job = db_job_create(0, 0, &strings);
    assert_non_null(job);

    chunk = db_chunk_create(job, 3);
    assert_non_null(chunk);
    assert_int_equal(chunk->data.len, 3);
    memcpy((char *) chunk->data.data, "abc", 3);

    db_job_release(job);
    assert_ptr_equal(chunk->job, job);
    db_chunk_destroy(chunk);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_queue_is_first_in_first_out),
        cmocka_unit_test(test_credit_is_under_way_once),
        cmocka_unit_test(test_chunk_holds_its_job),
        cmocka_unit_test(test_python_is_woken_only_when_asleep),
        cmocka_unit_test(test_nginx_is_woken_when_its_queue_was_empty),
        cmocka_unit_test(test_job_has_room_for_what_it_was_made_for),
        cmocka_unit_test(test_last_reference_closes_the_body),
        cmocka_unit_test(test_part_belongs_to_its_job),
        cmocka_unit_test(test_first_small_part_lives_in_its_job),
        cmocka_unit_test(test_part_without_a_job_has_a_block_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
