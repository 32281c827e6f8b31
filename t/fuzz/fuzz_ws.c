/*
 * A client's bytes, cut where their first one says: whatever they are, they
 * are read without a fault, and the cut makes no difference.
 */

#include "ws/db_frames.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>


#define HEADROOM  8
#define MAX       65536


/* A sum over all that was read. */

static uint64_t
read_all(const uint8_t *data, size_t size, size_t step)
{
    size_t              i, j, n;
    uint64_t            sum;
    db_frames_t         frames;
    db_frames_event_t   event;

    sum = 0;
    db_frames_init(&frames, MAX, HEADROOM);

    for (i = 0; i < size; i += n) {
        n = size - i < step ? size - i : step;

        if (db_frames_feed(&frames, (const char *) data + i, n) != DB_OK) {
            abort();
        }

        while ((event = db_frames_next(&frames)) != DB_FRAMES_AGAIN) {
            sum = sum * 31 + event;

            if (event == DB_FRAMES_ERROR) {
                sum = sum * 31 + frames.code;
                db_frames_free(&frames);
                return sum;
            }

            for (j = 0; j < frames.data.len; j++) {
                sum = sum * 31 + (uint8_t) frames.data.data[j];
            }

            if (event == DB_FRAMES_MESSAGE) {
                free(frames.block);
            }
        }
    }

    db_frames_free(&frames);

    return sum;
}


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }

    assert(read_all(data + 1, size - 1, size)
           == read_all(data + 1, size - 1, 1 + data[0] % 16));

    return 0;
}
