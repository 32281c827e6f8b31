/*
 * A store in a directory of its own, and operations that a test waits for.
 */

#ifndef DB_UNIT_STORE_H
#define DB_UNIT_STORE_H

#include "unit.h"
#include "store/db_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>


typedef struct {
    char           dir[64];
    char           path[128];
    char           uri[160];
    char           log[4096];        /* lines of level ERROR */
    db_store_t    *store;
    db_arena_t    *arena;
} fixture_t;


typedef struct {
    db_store_op_t    op;             /* first: done() gets its address */
    sem_t            done;
    db_buf_t         out;
    db_store_item_t  item;           /* of an INSERT */
    char             id[32];
    char             document[256];
} call_t;


static const db_collection_t  texts = {
    .name = { "texts", 5 }, .id_kind = DB_VALUE_TEXT
};
static const db_collection_t  ints = {
    .name = { "ints", 4 }, .id_kind = DB_VALUE_INT
};


static void
fixture_log(void *ctx, db_log_level_t level, const char *text)
{
    fixture_t *f = ctx;

    size_t  len;

    if (level == DB_LOG_ERROR) {
        len = strlen(f->log);
        snprintf(f->log + len, sizeof(f->log) - len, "%s\n", text);
    }
}


static inline void
fixture_dir(fixture_t *f)
{
    memset(f, 0, sizeof(*f));
    strcpy(f->dir, "/tmp/databridge-store-XXXXXX");
    assert_non_null(mkdtemp(f->dir));

    snprintf(f->path, sizeof(f->path), "%s/test.db", f->dir);
    snprintf(f->uri, sizeof(f->uri), "sqlite:%s", f->path);

    f->arena = db_arena_create(4096);
}


static inline void
fixture_open(fixture_t *f)
{
    char  error[512] = "";

    f->store = db_store_open(str(f->uri), fixture_log, f, error,
                             sizeof(error));
    if (f->store == NULL) {
        fail_msg("%s", error);
    }

    if (db_store_prepare(f->store, &texts, error, sizeof(error)) != DB_OK
        || db_store_prepare(f->store, &ints, error, sizeof(error)) != DB_OK)
    {
        fail_msg("%s", error);
    }
}


static inline void
fixture_close(fixture_t *f)
{
    db_store_close(f->store);
    f->store = NULL;
}


static inline void
fixture_remove(fixture_t *f)
{
    char            path[400];
    DIR            *dir;
    struct dirent  *entry;

    db_arena_destroy(f->arena);

    dir = opendir(f->dir);
    assert_non_null(dir);

    while ((entry = readdir(dir)) != NULL) {
        snprintf(path, sizeof(path), "%s/%s", f->dir, entry->d_name);
        (void) unlink(path);
    }

    closedir(dir);
    assert_int_equal(rmdir(f->dir), 0);
}


static inline int
setup(void **state)
{
    fixture_t  *f;

    f = malloc(sizeof(fixture_t));
    fixture_dir(f);
    fixture_open(f);
    *state = f;

    return 0;
}


static inline int
teardown(void **state)
{
    fixture_t *f = *state;

    fixture_close(f);
    fixture_remove(f);
    free(f);

    return 0;
}


static inline db_value_t
text_value(const char *text)
{
    return (db_value_t) { .kind = DB_VALUE_TEXT, .text = str(text) };
}


static inline db_value_t
int_value(int64_t n)
{
    return (db_value_t) { .kind = DB_VALUE_INT, .integer = n };
}


static void
call_done(db_store_op_t *op)
{
    sem_post(&((call_t *) op)->done);
}


static inline void
call_init(call_t *call, db_store_kind_t kind, const char *id,
    const char *document)
{
    memset(call, 0, sizeof(*call));
    sem_init(&call->done, 0, 0);

    snprintf(call->id, sizeof(call->id), "%s", id);
    snprintf(call->document, sizeof(call->document), "%s", document);

    call->op.kind = kind;
    call->op.collection = &texts;
    call->op.id = text_value(call->id);
    call->op.document = str(call->document);
    call->item = (db_store_item_t) { call->op.id, call->op.document };
    call->op.items = &call->item;
    call->op.nitems = 1;
    call->op.done = call_done;
    call->op.out = &call->out;
}


static inline void
call_wait(call_t *call)
{
    while (sem_wait(&call->done) == -1 && errno == EINTR) {
        /* again */
    }
}


static inline db_store_status_t
write_wait(fixture_t *f, db_store_kind_t kind, const char *id,
    const char *document)
{
    call_t  call;

    call_init(&call, kind, id, document);
    db_store_submit(f->store, &call.op);
    call_wait(&call);

    return call.op.status;
}


static inline void
insert(fixture_t *f, const char *id, const char *document)
{
    assert_int_equal(write_wait(f, DB_STORE_INSERT, id, document),
                     DB_STORE_OK);
}


/* Holds the writers off, so that what is submitted becomes one batch,
   until the descriptor is closed. */

static inline int
hold_writers(fixture_t *f)
{
    int   fd;
    char  path[200];

    snprintf(path, sizeof(path), "%s.writer", f->path);
    fd = open(path, O_RDWR|O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);

    return fd;
}


/* On the nginx thread: the status, and the document in *out. */

static inline db_store_status_t
get(fixture_t *f, const char *id, db_str_t *out)
{
    call_t  call;

    call_init(&call, DB_STORE_GET, id, "");
    db_buf_init(&call.out, f->arena, 0);
    db_store_read(f->store, &call.op);
    *out = (db_str_t) { call.out.data, call.out.len };

    return call.op.status;
}

#endif /* DB_UNIT_STORE_H */
