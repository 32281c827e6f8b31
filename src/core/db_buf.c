/*
 * The old bytes of a buffer that grows stay in the arena: a buffer costs at
 * most twice its final size.
 */

#include "core/db_buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>


#define DB_BUF_MIN  256


void
db_buf_init(db_buf_t *buf, db_arena_t *arena, size_t size)
{
    buf->data = NULL;
    buf->len = 0;
    buf->size = 0;
    buf->arena = arena;
    buf->failed = 0;

    if (size) {
        (void) db_buf_reserve(buf, size);
    }
}


static char *
db_buf_fail(db_buf_t *buf)
{
    /* without room left, the inline writers come to db_buf_grow(), too */

    buf->failed = 1;
    buf->size = buf->len;

    return NULL;
}


char *
db_buf_grow(db_buf_t *buf, size_t n)
{
    char    *data;
    size_t   size;

    if (buf->failed) {
        return NULL;
    }

    if (n > SIZE_MAX / 4 - buf->len) {
        return db_buf_fail(buf);
    }

    size = buf->size ? buf->size : DB_BUF_MIN;

    while (size - buf->len < n) {
        size *= 2;
    }

    data = db_arena_alloc(buf->arena, size);
    if (data == NULL) {
        return db_buf_fail(buf);
    }

    if (buf->len) {
        memcpy(data, buf->data, buf->len);
    }

    buf->data = data;
    buf->size = size;

    return data + buf->len;
}


void
db_buf_printf(db_buf_t *buf, const char *fmt, ...)
{
    int      n;
    va_list  args;

    va_start(args, fmt);
    n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);

    if (n < 0) {
        db_buf_fail(buf);
        return;
    }

    if (db_buf_reserve(buf, (size_t) n + 1) == NULL) {
        return;
    }

    va_start(args, fmt);
    vsnprintf(buf->data + buf->len, (size_t) n + 1, fmt, args);
    va_end(args);

    buf->len += (size_t) n;
}
