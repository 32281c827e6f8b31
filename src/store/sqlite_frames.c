/*
 * The log as the writer writes it.  SQLite writes a frame in two pieces, its
 * header and its page, each by a system call of its own; a commit of a few
 * documents has dozens of frames, and most of what it costs are these calls.
 * A VFS of the store's holds the frames of a transaction back and writes them
 * at once, as soon as the one that commits them comes.
 *
 * Nobody misses them until then: only the wal-index tells others of frames,
 * after the commit, and what the connection itself reads, syncs or cuts off
 * comes after what is held.  Should the process die, so would the transaction.
 * When it is rolled back, they are forgotten: their place in the log is for
 * the next that writes, which may be another process.
 *
 * The VFS is the store's; a file is the connection's, of one thread at a time.
 */

#include "store/sqlite.h"

#include <stdio.h>


#define DB_FRAMES_HEADER  24             /* bytes of a frame's */
#define DB_FRAMES_HELD    0x1ffff        /* SQLite's files take no more */


typedef struct {
    sqlite3_file    base;                /* first */
    sqlite3_file   *real;                /* behind this one */
    int             header;              /* was the last that is held */
    int             size;
    int             len;
    sqlite3_int64   start;               /* of what is held, in the file */
    char           *held;
} db_frames_t;


static int
db_frames_flush(db_frames_t *frames)
{
    int  len;

    len = frames->len;
    frames->len = 0;
    frames->header = 0;

    return len ? frames->real->pMethods->xWrite(frames->real, frames->held,
                                                len, frames->start)
               : SQLITE_OK;
}


/* Of a frame that does not end a transaction. */

static int
db_frames_is_header(const char *data, int n)
{
    static const char  more[4];

    return n == DB_FRAMES_HEADER && memcmp(data + 4, more, 4) == 0;
}


static int
db_frames_write(sqlite3_file *file, const void *data, int n,
    sqlite3_int64 offset)
{
    db_frames_t *frames = (db_frames_t *) file;

    int  rc, next, header;

    next = (offset == frames->start + frames->len);
    header = db_frames_is_header(data, n);

    /* a page follows its header, anything else is none */

    if (!header && !(frames->header && next)) {
        rc = db_frames_flush(frames);

        return rc == SQLITE_OK
               ? frames->real->pMethods->xWrite(frames->real, data, n, offset)
               : rc;
    }

    if (!next || n > frames->size - frames->len) {
        rc = db_frames_flush(frames);

        if (rc != SQLITE_OK) {
            return rc;
        }

        if (n > frames->size) {
            return frames->real->pMethods->xWrite(frames->real, data, n,
                                                  offset);
        }
    }

    if (frames->len == 0) {
        frames->start = offset;
    }

    memcpy(frames->held + frames->len, data, (size_t) n);
    frames->len += n;
    frames->header = header;

    return SQLITE_OK;
}


static int
db_frames_read(sqlite3_file *file, void *data, int n, sqlite3_int64 offset)
{
    db_frames_t *frames = (db_frames_t *) file;

    int  rc;

    rc = SQLITE_OK;

    /* elsewhere in the log may be read when the transaction is over */

    if (offset < frames->start + frames->len && offset + n > frames->start) {
        rc = db_frames_flush(frames);
    }

    return rc == SQLITE_OK
           ? frames->real->pMethods->xRead(frames->real, data, n, offset)
           : rc;
}


static int
db_frames_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    db_frames_t *frames = (db_frames_t *) file;

    int  rc;

    rc = db_frames_flush(frames);

    return rc == SQLITE_OK
           ? frames->real->pMethods->xTruncate(frames->real, size) : rc;
}


static int
db_frames_sync(sqlite3_file *file, int flags)
{
    db_frames_t *frames = (db_frames_t *) file;

    int  rc;

    rc = db_frames_flush(frames);

    return rc == SQLITE_OK
           ? frames->real->pMethods->xSync(frames->real, flags) : rc;
}


static int
db_frames_size(sqlite3_file *file, sqlite3_int64 *size)
{
    db_frames_t *frames = (db_frames_t *) file;

    int  rc;

    rc = db_frames_flush(frames);

    return rc == SQLITE_OK
           ? frames->real->pMethods->xFileSize(frames->real, size) : rc;
}


/* What is held belongs to no commit. */

static int
db_frames_close(sqlite3_file *file)
{
    db_frames_t *frames = (db_frames_t *) file;

    sqlite3_free(frames->held);

    return frames->real->pMethods->xClose(frames->real);
}


static int
db_frames_lock(sqlite3_file *file, int level)
{
    db_frames_t *frames = (db_frames_t *) file;

    return frames->real->pMethods->xLock(frames->real, level);
}


static int
db_frames_unlock(sqlite3_file *file, int level)
{
    db_frames_t *frames = (db_frames_t *) file;

    return frames->real->pMethods->xUnlock(frames->real, level);
}


static int
db_frames_reserved(sqlite3_file *file, int *reserved)
{
    db_frames_t *frames = (db_frames_t *) file;

    return frames->real->pMethods->xCheckReservedLock(frames->real, reserved);
}


static int
db_frames_control(sqlite3_file *file, int op, void *data)
{
    db_frames_t *frames = (db_frames_t *) file;

    return frames->real->pMethods->xFileControl(frames->real, op, data);
}


static int
db_frames_sector(sqlite3_file *file)
{
    db_frames_t *frames = (db_frames_t *) file;

    return frames->real->pMethods->xSectorSize(frames->real);
}


static int
db_frames_device(sqlite3_file *file)
{
    db_frames_t *frames = (db_frames_t *) file;

    return frames->real->pMethods->xDeviceCharacteristics(frames->real);
}


static const sqlite3_io_methods  db_frames_methods = {
    .iVersion = 1,
    .xClose = db_frames_close,
    .xRead = db_frames_read,
    .xWrite = db_frames_write,
    .xTruncate = db_frames_truncate,
    .xSync = db_frames_sync,
    .xFileSize = db_frames_size,
    .xLock = db_frames_lock,
    .xUnlock = db_frames_unlock,
    .xCheckReservedLock = db_frames_reserved,
    .xFileControl = db_frames_control,
    .xSectorSize = db_frames_sector,
    .xDeviceCharacteristics = db_frames_device,
};


/* Other files than the log are the real VFS's alone. */

static int
db_frames_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file,
    int flags, int *out)
{
    db_frames_vfs_t *own = (db_frames_vfs_t *) vfs;

    int           rc;
    db_frames_t  *frames;

    if (!(flags & SQLITE_OPEN_WAL)) {
        return own->real->xOpen(own->real, name, file, flags, out);
    }

    frames = (db_frames_t *) file;
    *frames = (db_frames_t) { .real = (sqlite3_file *) (frames + 1) };

    frames->held = sqlite3_malloc(DB_FRAMES_HELD);
    if (frames->held == NULL) {
        return SQLITE_NOMEM;
    }

    frames->real->pMethods = NULL;

    rc = own->real->xOpen(own->real, name, frames->real, flags, out);

    if (rc != SQLITE_OK) {

        if (frames->real->pMethods) {
            (void) frames->real->pMethods->xClose(frames->real);
        }

        sqlite3_free(frames->held);
        return rc;
    }

    /* else frames follow that of the commit, up to the end of a sector */

    if (frames->real->pMethods->xDeviceCharacteristics(frames->real)
        & SQLITE_IOCAP_POWERSAFE_OVERWRITE)
    {
        frames->size = DB_FRAMES_HELD;
    }

    frames->base.pMethods = &db_frames_methods;

    return SQLITE_OK;
}


int
db_frames_register(db_frames_vfs_t *own)
{
    own->real = sqlite3_vfs_find(NULL);

    if (own->real == NULL) {
        return SQLITE_ERROR;
    }

    snprintf(own->name, sizeof(own->name), "databridge-%p", (void *) own);

    own->vfs = *own->real;
    own->vfs.zName = own->name;
    own->vfs.szOsFile += (int) sizeof(db_frames_t);
    own->vfs.xOpen = db_frames_open;

    return sqlite3_vfs_register(&own->vfs, 0);
}


static void
db_frames_rolled_back(void *data)
{
    sqlite3 *db = data;

    db_frames_t   *frames;
    sqlite3_file  *file;

    if (sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file)
        != SQLITE_OK
        || file->pMethods != &db_frames_methods)
    {
        return;
    }

    frames = (db_frames_t *) file;
    frames->len = 0;
    frames->header = 0;
}


/* What a connection of this VFS holds is forgotten when it rolls back. */

void
db_frames_watch(sqlite3 *db)
{
    (void) sqlite3_rollback_hook(db, db_frames_rolled_back, db);
}


void
db_frames_unregister(db_frames_vfs_t *own)
{
    (void) sqlite3_vfs_unregister(&own->vfs);
}
