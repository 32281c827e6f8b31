/*
 * The messages of a WebSocket, from the bytes of its client's frames: RFC
 * 6455 without extensions.  wslay takes the frames apart; what they mean
 * together is decided here.
 *
 * A db_frames_t is small: what a frame or a message needs on its way exists
 * from its first byte to its last only.
 */

#ifndef DB_FRAMES_H
#define DB_FRAMES_H

#include "core/db_str.h"

#include <stdint.h>


/* Opcodes, as in the frames. */

#define DB_FRAME_TEXT    0x1
#define DB_FRAME_BINARY  0x2
#define DB_FRAME_CLOSE   0x8
#define DB_FRAME_PING    0x9
#define DB_FRAME_PONG    0xa

#define DB_FRAME_CONTROL_MAX  125     /* bytes of a control frame */
#define DB_FRAME_HEAD_MAX     10      /* of what a server sends */


/* Codes of a close. */

#define DB_CLOSE_NORMAL      1000
#define DB_CLOSE_PROTOCOL    1002
#define DB_CLOSE_NO_CODE     1005     /* there was none in the frame */
#define DB_CLOSE_ABNORMAL    1006     /* there was no frame */
#define DB_CLOSE_INVALID     1007
#define DB_CLOSE_TOO_BIG     1009
#define DB_CLOSE_INTERNAL    1011
#define DB_CLOSE_RESTART     1012


typedef enum {
    DB_FRAMES_AGAIN,         /* all is read: feed it more */
    DB_FRAMES_MESSAGE,       /* opcode, block and data */
    DB_FRAMES_PING,          /* data */
    DB_FRAMES_PONG,
    DB_FRAMES_CLOSE,         /* code; data is the reason */
    DB_FRAMES_ERROR          /* code to close with; no more can be read */
} db_frames_event_t;


typedef struct db_frame_reader_s  db_frame_reader_t;

typedef struct {
    size_t              max;        /* bytes of a message */
    size_t              headroom;   /* the caller's, in front of a message */
    db_frame_reader_t  *reader;     /* NULL between messages */

    /* what db_frames_next() has found */

    unsigned            opcode;
    unsigned            code;
    char               *block;      /* malloc'd, to be freed by the caller */
    db_str_t            data;       /* in the block, or until the next call */
} db_frames_t;


void db_frames_init(db_frames_t *frames, size_t max, size_t headroom);
void db_frames_free(db_frames_t *frames);

/* The bytes must stay until DB_FRAMES_AGAIN.  DB_OK, or DB_ERROR. */
int db_frames_feed(db_frames_t *frames, const char *data, size_t len);

/* After a feed. */
db_frames_event_t db_frames_next(db_frames_t *frames);

/* Writes the head of an unmasked frame; its length. */
size_t db_frame_head(unsigned char *p, unsigned opcode, size_t len);

#endif /* DB_FRAMES_H */
