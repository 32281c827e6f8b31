/*
 * A growing byte buffer in an arena.  A failed allocation sticks: later
 * writes do nothing, and the writer checks "failed" once, at the end.
 */

#ifndef DB_BUF_H
#define DB_BUF_H

#include "core/db_arena.h"


typedef struct {
    char        *data;
    size_t       len;
    size_t       size;
    db_arena_t  *arena;
    int          failed;
} db_buf_t;


/* "size" bytes are reserved at once; 0 defers that to the first write. */
void db_buf_init(db_buf_t *buf, db_arena_t *arena, size_t size);

/* Of a buffer that has no room for n more bytes. */
char *db_buf_grow(db_buf_t *buf, size_t n);

void db_buf_printf(db_buf_t *buf, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));


/* Room for n more bytes, which are some, at data + len, or NULL. */

static inline char *
db_buf_reserve(db_buf_t *buf, size_t n)
{
    return n <= buf->size - buf->len ? buf->data + buf->len
                                     : db_buf_grow(buf, n);
}


static inline void
db_buf_putc(db_buf_t *buf, char c)
{
    if (buf->len < buf->size || db_buf_reserve(buf, 1)) {
        buf->data[buf->len++] = c;
    }
}


static inline void
db_buf_append(db_buf_t *buf, const char *data, size_t len)
{
    if (len && (len <= buf->size - buf->len || db_buf_reserve(buf, len))) {
        memcpy(buf->data + buf->len, data, len);
        buf->len += len;
    }
}


static inline void
db_buf_str(db_buf_t *buf, db_str_t str)
{
    db_buf_append(buf, str.data, str.len);
}

#define db_buf_lit(buf, text)  db_buf_append(buf, text, sizeof(text) - 1)

#endif /* DB_BUF_H */
