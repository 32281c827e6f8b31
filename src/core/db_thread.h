/*
 * How a thread begins, and what it asks of the scheduler.
 */

#ifndef DB_THREAD_H
#define DB_THREAD_H

#include <pthread.h>
#include <stdint.h>

/*
 * The calling thread takes the processor for so many nanoseconds at a time,
 * and so gets it sooner when it wakes; its share stays the same.  Linux 6.12
 * and later, where it runs under the ordinary policy; else nothing changes.
 * Threads that it starts have the same.
 */
void db_thread_slice(uint64_t ns);

/* With all signals blocked: they are the nginx thread's.  An errno, or 0. */
int db_thread_start(pthread_t *thread, void *(*run)(void *), void *data);

#endif /* DB_THREAD_H */
