/*
 * wslay hands out pieces of frames: the header with the first of them, what
 * is missing with the next.  It reads ahead, so that "held" counts what it
 * has been given beyond the pieces: a reader that holds nothing between two
 * messages is freed.
 */

#include "ws/db_frames.h"

#include <stdlib.h>
#include <wslay/wslay.h>


#define DB_FRAMES_RESERVE  (64 * 1024)   /* before the bytes are there */


/* A message of UTF-8 on its way through db_utf8_check(). */

typedef struct {
    unsigned char            more;       /* bytes that the character lacks */
    unsigned char            min;        /* of the next of them */
    unsigned char            max;
} db_utf8_t;


struct db_frame_reader_s {
    wslay_frame_context_ptr  wslay;

    const char              *in;
    size_t                   left;       /* of the feed */
    size_t                   held;       /* by wslay */

    uint64_t                 got;        /* of the frame */
    unsigned                 frame;      /* its opcode */
    unsigned                 inside:1;   /* of a frame */

    unsigned                 opcode;     /* of the message, 0 without */
    char                    *block;      /* the headroom, then its bytes */
    size_t                   size;
    size_t                   room;
    db_utf8_t                utf8;

    char                     control[DB_FRAME_CONTROL_MAX];
};


static ssize_t
db_frames_recv(uint8_t *buf, size_t len, int flags, void *data)
{
    db_frame_reader_t  *reader;

    reader = data;

    if (reader->left == 0) {
        return -1;
    }

    if (len > reader->left) {
        len = reader->left;
    }

    memcpy(buf, reader->in, len);

    reader->in += len;
    reader->left -= len;
    reader->held += len;

    return len;
}


static db_frame_reader_t *
db_frames_reader(void)
{
    db_frame_reader_t  *reader;

    struct wslay_frame_callbacks  callbacks = {
        .recv_callback = db_frames_recv
    };

    reader = malloc(sizeof(db_frame_reader_t));
    if (reader == NULL) {
        return NULL;
    }

    memset(reader, 0, sizeof(db_frame_reader_t));

    if (wslay_frame_context_init(&reader->wslay, &callbacks, reader) != 0) {
        free(reader);
        return NULL;
    }

    return reader;
}


void
db_frames_init(db_frames_t *frames, size_t max, size_t headroom)
{
    memset(frames, 0, sizeof(db_frames_t));

    frames->max = max;
    frames->headroom = headroom;
}


void
db_frames_free(db_frames_t *frames)
{
    if (frames->reader == NULL) {
        return;
    }

    wslay_frame_context_free(frames->reader->wslay);
    free(frames->reader->block);
    free(frames->reader);

    frames->reader = NULL;
}


int
db_frames_feed(db_frames_t *frames, const char *data, size_t len)
{
    if (frames->reader == NULL) {
        frames->reader = db_frames_reader();

        if (frames->reader == NULL) {
            return DB_ERROR;
        }
    }

    frames->reader->in = data;
    frames->reader->left = len;

    return DB_OK;
}


/*
 * Whether the bytes go on with what is valid UTF-8 so far.  The ranges of
 * the byte after the first exclude what is overlong, a surrogate or beyond
 * U+10FFFF.
 */

static int
db_utf8_check(db_utf8_t *utf8, const unsigned char *p, size_t len)
{
    uint64_t              word;
    const unsigned char  *end;

    end = p + len;

    while (p < end) {

        if (utf8->more) {
            if (*p < utf8->min || *p > utf8->max) {
                return 0;
            }

            utf8->more--;
            utf8->min = 0x80;
            utf8->max = 0xbf;
            p++;
            continue;
        }

        while (end - p >= (ptrdiff_t) sizeof(word)) {
            memcpy(&word, p, sizeof(word));

            if (word & 0x8080808080808080) {
                break;
            }

            p += sizeof(word);
        }

        if (p == end) {
            break;
        }

        utf8->min = (*p == 0xe0) ? 0xa0 : (*p == 0xf0) ? 0x90 : 0x80;
        utf8->max = (*p == 0xed) ? 0x9f : (*p == 0xf4) ? 0x8f : 0xbf;

        if (*p < 0x80) {
            utf8->more = 0;

        } else if (*p < 0xc2 || *p > 0xf4) {
            return 0;

        } else {
            utf8->more = (*p < 0xe0) ? 1 : (*p < 0xf0) ? 2 : 3;
        }

        p++;
    }

    return 1;
}


static db_frames_event_t
db_frames_error(db_frames_t *frames, unsigned code)
{
    frames->code = code;
    frames->data = db_null_string;

    return DB_FRAMES_ERROR;
}


static size_t
db_frames_head_size(const struct wslay_frame_iocb *iocb)
{
    size_t  size;

    size = 2 + 4;

    if (iocb->payload_length >= 65536) {
        size += 8;

    } else if (iocb->payload_length >= 126) {
        size += 2;
    }

    return size;
}


/* The header of a frame has come: 0, or the code of an error. */

static unsigned
db_frames_begin(db_frames_t *frames, const struct wslay_frame_iocb *iocb)
{
    db_frame_reader_t  *reader;

    reader = frames->reader;

    if (iocb->rsv || !iocb->mask) {
        return DB_CLOSE_PROTOCOL;
    }

    reader->inside = 1;
    reader->got = 0;
    reader->frame = iocb->opcode;
    reader->held -= db_frames_head_size(iocb);

    switch (iocb->opcode) {

    case DB_FRAME_CLOSE:
    case DB_FRAME_PING:
    case DB_FRAME_PONG:
        return 0;

    case WSLAY_CONTINUATION_FRAME:
        if (reader->opcode == 0) {
            return DB_CLOSE_PROTOCOL;
        }

        break;

    case DB_FRAME_TEXT:
    case DB_FRAME_BINARY:
        if (reader->opcode) {
            return DB_CLOSE_PROTOCOL;
        }

        reader->opcode = iocb->opcode;
        reader->size = 0;
        reader->utf8.more = 0;

        break;

    default:
        return DB_CLOSE_PROTOCOL;
    }

    if (iocb->payload_length > frames->max - reader->size) {
        return DB_CLOSE_TOO_BIG;
    }

    return 0;
}


/*
 * Room for a piece, and for the rest of its frame when that is little: who
 * only claims to send much is not believed.
 */

static int
db_frames_make_room(db_frames_t *frames, const struct wslay_frame_iocb *iocb)
{
    char               *block;
    size_t              need, rest;
    db_frame_reader_t  *reader;

    reader = frames->reader;
    need = reader->size + iocb->data_length;

    if (reader->block && need <= reader->room) {
        return DB_OK;
    }

    rest = iocb->payload_length - reader->got - iocb->data_length;

    if (rest <= DB_FRAMES_RESERVE || rest <= need) {
        need += rest;

    } else {
        need += need > DB_FRAMES_RESERVE ? need : DB_FRAMES_RESERVE;
    }

    if (!iocb->fin && need < 2 * reader->room) {
        need = 2 * reader->room;
    }

    block = realloc(reader->block, frames->headroom + need);
    if (block == NULL) {
        return DB_ERROR;
    }

    reader->block = block;
    reader->room = need;

    return DB_OK;
}


/* A piece of a frame: 0, or the code of an error. */

static unsigned
db_frames_piece(db_frames_t *frames, const struct wslay_frame_iocb *iocb)
{
    db_frame_reader_t  *reader;

    reader = frames->reader;

    if (reader->frame >= DB_FRAME_CLOSE) {
        memcpy(reader->control + reader->got, iocb->data, iocb->data_length);

    } else {
        if (reader->opcode == DB_FRAME_TEXT
            && !db_utf8_check(&reader->utf8, iocb->data, iocb->data_length))
        {
            return DB_CLOSE_INVALID;
        }

        if (db_frames_make_room(frames, iocb) != DB_OK) {
            return DB_CLOSE_INTERNAL;
        }

        memcpy(reader->block + frames->headroom + reader->size, iocb->data,
               iocb->data_length);
        reader->size += iocb->data_length;
    }

    reader->got += iocb->data_length;
    reader->held -= iocb->data_length;

    return 0;
}


static int
db_frames_code_ok(unsigned code)
{
    return (code >= 1000 && code <= 1014 && code != 1004
            && code != DB_CLOSE_NO_CODE && code != DB_CLOSE_ABNORMAL)
           || (code >= 3000 && code <= 4999);
}


static db_frames_event_t
db_frames_control(db_frames_t *frames)
{
    db_utf8_t             utf8;
    const unsigned char  *p;

    frames->data.data = frames->reader->control;
    frames->data.len = frames->reader->got;

    if (frames->reader->frame == DB_FRAME_PING) {
        return DB_FRAMES_PING;
    }

    if (frames->reader->frame == DB_FRAME_PONG) {
        return DB_FRAMES_PONG;
    }

    if (frames->data.len == 0) {
        frames->code = DB_CLOSE_NO_CODE;
        return DB_FRAMES_CLOSE;
    }

    if (frames->data.len == 1) {
        return db_frames_error(frames, DB_CLOSE_PROTOCOL);
    }

    p = (const unsigned char *) frames->data.data;
    frames->code = p[0] << 8 | p[1];
    frames->data.data += 2;
    frames->data.len -= 2;

    if (!db_frames_code_ok(frames->code)) {
        return db_frames_error(frames, DB_CLOSE_PROTOCOL);
    }

    utf8.more = 0;

    if (!db_utf8_check(&utf8, p + 2, frames->data.len) || utf8.more) {
        return db_frames_error(frames, DB_CLOSE_INVALID);
    }

    return DB_FRAMES_CLOSE;
}


static db_frames_event_t
db_frames_message(db_frames_t *frames)
{
    db_frame_reader_t  *reader;

    reader = frames->reader;

    if (reader->opcode == DB_FRAME_TEXT && reader->utf8.more) {
        return db_frames_error(frames, DB_CLOSE_INVALID);
    }

    frames->opcode = reader->opcode;
    frames->block = reader->block;
    frames->data.data = reader->block + frames->headroom;
    frames->data.len = reader->size;

    reader->opcode = 0;
    reader->block = NULL;
    reader->room = 0;

    return DB_FRAMES_MESSAGE;
}


/* Nothing is left to be read. */

static db_frames_event_t
db_frames_again(db_frames_t *frames)
{
    db_frame_reader_t  *reader;

    reader = frames->reader;

    if (reader->held == 0 && reader->opcode == 0 && !reader->inside) {
        db_frames_free(frames);
    }

    return DB_FRAMES_AGAIN;
}


db_frames_event_t
db_frames_next(db_frames_t *frames)
{
    ssize_t                  n;
    unsigned                 code;
    db_frame_reader_t       *reader;
    struct wslay_frame_iocb  iocb;

    reader = frames->reader;

    for ( ;; ) {

        n = wslay_frame_recv(reader->wslay, &iocb);

        if (n == WSLAY_ERR_WANT_READ) {
            if (reader->left) {
                continue;
            }

            return db_frames_again(frames);
        }

        if (n < 0) {
            return db_frames_error(frames, DB_CLOSE_PROTOCOL);
        }

        code = reader->inside ? 0 : db_frames_begin(frames, &iocb);

        if (code == 0) {
            code = db_frames_piece(frames, &iocb);
        }

        if (code) {
            return db_frames_error(frames, code);
        }

        if (reader->got < iocb.payload_length) {
            continue;
        }

        reader->inside = 0;

        if (reader->frame >= DB_FRAME_CLOSE) {
            return db_frames_control(frames);
        }

        if (iocb.fin) {
            return db_frames_message(frames);
        }
    }
}


size_t
db_frame_head(unsigned char *p, unsigned opcode, size_t len)
{
    int       shift;
    uint64_t  size;

    *p++ = 0x80 | opcode;

    if (len < 126) {
        *p = len;
        return 2;
    }

    if (len < 65536) {
        *p++ = 126;
        *p++ = len >> 8;
        *p = len;
        return 4;
    }

    size = len;
    *p++ = 127;

    for (shift = 56; shift >= 0; shift -= 8) {
        *p++ = size >> shift;
    }

    return 10;
}
