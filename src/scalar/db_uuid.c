/*
 * UUIDs from text, with the complaints of the Rust crate that pydantic uses,
 * and new ids: version 4 UUIDs and ObjectIds.
 *
 * Random bytes come from the kernel a block at a time.  The block is the
 * calling thread's own.  A child of fork() must not go on with it: a counter
 * tells, the one thing here that is the process's, as getpid() costs more
 * than all the rest of a new id.
 */

#include "scalar/db_scalar.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/random.h>
#include <time.h>


#define DB_RANDOM_BLOCK  256


typedef struct {
    unsigned       generation;   /* 0: not filled yet */
    unsigned       used;
    unsigned char  block[DB_RANDOM_BLOCK];

    /* of ObjectIds */
    unsigned char  process[5];
    uint32_t       counter;
} db_random_t;


static const char       db_hex[] = "0123456789abcdef";

static atomic_uint      db_generation = 1;
static pthread_once_t   db_generation_once = PTHREAD_ONCE_INIT;


static int
db_hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    c |= 0x20;

    return (c >= 'a' && c <= 'f') ? c - 'a' + 10 : -1;
}


/* Whether the text is 32 digits in groups of 8, 4, 4, 4 and 12, or in one. */

static int
db_uuid_read(db_str_t text, char *dst)
{
    int     hyphens, value;
    size_t  i;

    if (text.len != 32 && text.len != 36) {
        return DB_DECLINED;
    }

    hyphens = (text.len == 36);

    for (i = 0; i < DB_UUID_LENGTH; i++) {

        if (i == 8 || i == 13 || i == 18 || i == 23) {
            dst[i] = '-';

            if (hyphens && *text.data++ != '-') {
                return DB_DECLINED;
            }

            continue;
        }

        value = db_hex_value(*text.data++);
        if (value < 0) {
            return DB_DECLINED;
        }

        dst[i] = db_hex[value];
    }

    return DB_OK;
}


static int
db_uuid_has_urn(db_str_t text)
{
    return text.len >= 9 && memcmp(text.data, "urn:uuid:", 9) == 0;
}


/*
 * The low eight bits of the character at i, which are all that the crate
 * looks at, and its length.
 */

static char
db_uuid_byte(db_str_t text, size_t i, size_t *n)
{
    unsigned  c;

    c = (unsigned char) text.data[i];

    for (*n = 1; i + *n < text.len; (*n)++) {
        if ((text.data[i + *n] & 0xc0) != 0x80) {
            break;
        }

        c = c << 6 | (text.data[i + *n] & 0x3f);
    }

    return (char) c;
}


static void
db_uuid_explain(db_str_t text, db_buf_t *error)
{
    int                hyphenated;
    char               c;
    size_t             i, n, start, end, groups, bounds[4];
    static const int   sizes[] = { 8, 4, 4, 4, 12 };
    static const int   starts[] = { 0, 9, 14, 19, 24 };

    if (text.len == 0 || text.len > 45) {
        goto length;
    }

    hyphenated = (text.len == 36);
    start = 0;
    end = text.len;

    if (text.len == 36) {
        /* taken for a hyphenated one as it is */

    } else if (text.len >= 2 && text.data[0] == '{'
               && text.data[end - 1] == '}')
    {
        /* a braced text of 38 bytes is searched without its braces */

        if (text.len == 38) {
            text.data++;
            text.len -= 2;
            end -= 2;

        } else {
            start = 1;
            end--;
        }

        hyphenated = 1;

    } else if (db_uuid_has_urn(text)) {

        if (text.len == 45) {
            text.data += 9;
            text.len -= 9;
            end -= 9;

        } else {
            start = 9;
        }

        hyphenated = 1;
    }

    groups = 1;

    for (i = start; i < end; i += n) {

        c = db_uuid_byte(text, i, &n);

        if (db_hex_value(c) >= 0) {
            continue;
        }

        if (c == '-') {
            hyphenated = 1;

            if (groups <= 4) {
                bounds[groups - 1] = i - start;
            }

            groups++;
            continue;
        }

        /* which may be a NUL */

        db_buf_lit(error, "invalid character: found `");
        db_buf_append(error, text.data + i, n);
        db_buf_printf(error, "` at %zu", i);
        return;
    }

    if (!hyphenated) {
        goto length;
    }

    if (groups != 5) {
        db_buf_printf(error, "invalid group count: expected 5, found %zu",
                      groups);
        return;
    }

    for (i = 0; i < 4; i++) {
        if (bounds[i] != (size_t) starts[i + 1] - 1) {
            db_buf_printf(error, "invalid group length in group %zu: "
                          "expected %d, found %zu", i, sizes[i],
                          bounds[i] - (size_t) starts[i]);
            return;
        }
    }

    db_buf_printf(error, "invalid group length in group 4: expected 12, "
                  "found %zu", text.len - (size_t) starts[4]);
    return;

length:

    db_buf_printf(error, "invalid length: found %zu", text.len);
}


int
db_uuid_parse(db_str_t text, char dst[DB_UUID_LENGTH], db_buf_t *error)
{
    db_str_t  bare;

    bare = text;

    if (text.len == 38 && text.data[0] == '{' && text.data[37] == '}') {
        bare = (db_str_t) { text.data + 1, 36 };

    } else if (text.len == 45 && db_uuid_has_urn(text)) {
        bare = (db_str_t) { text.data + 9, 36 };
    }

    if (db_uuid_read(bare, dst) == DB_OK) {
        return DB_OK;
    }

    db_uuid_explain(text, error);

    return DB_DECLINED;
}


static void
db_generation_next(void)
{
    atomic_fetch_add(&db_generation, 1);
}


static void
db_generation_watch(void)
{
    (void) pthread_atfork(NULL, NULL, db_generation_next);
}


static db_random_t *
db_random(void)
{
    static _Thread_local db_random_t  random;

    unsigned        generation;
    unsigned char   seed[8];

    (void) pthread_once(&db_generation_once, db_generation_watch);

    generation = atomic_load(&db_generation);

    if (random.generation == generation) {
        return &random;
    }

    if (getrandom(seed, sizeof(seed), 0) != (ssize_t) sizeof(seed)) {
        return NULL;
    }

    memcpy(random.process, seed, sizeof(random.process));
    random.counter = seed[5] | (uint32_t) seed[6] << 8
                     | (uint32_t) seed[7] << 16;
    random.used = DB_RANDOM_BLOCK;
    random.generation = generation;

    return &random;
}


int
db_objectid_create(char dst[DB_OBJECTID_LENGTH])
{
    size_t          i;
    uint32_t        now;
    db_random_t    *random;
    unsigned char   id[12];

    random = db_random();
    if (random == NULL) {
        return DB_ERROR;
    }

    now = (uint32_t) time(NULL);
    random->counter++;

    id[0] = (unsigned char) (now >> 24);
    id[1] = (unsigned char) (now >> 16);
    id[2] = (unsigned char) (now >> 8);
    id[3] = (unsigned char) now;
    memcpy(id + 4, random->process, 5);
    id[9] = (unsigned char) (random->counter >> 16);
    id[10] = (unsigned char) (random->counter >> 8);
    id[11] = (unsigned char) random->counter;

    for (i = 0; i < sizeof(id); i++) {
        dst[2 * i] = db_hex[id[i] >> 4];
        dst[2 * i + 1] = db_hex[id[i] & 0xf];
    }

    return DB_OK;
}


int
db_uuid_create(char dst[DB_UUID_LENGTH])
{
    size_t         i, n;
    ssize_t        got;
    db_random_t   *random;
    unsigned char *id;

    random = db_random();
    if (random == NULL) {
        return DB_ERROR;
    }

    if (random->used == DB_RANDOM_BLOCK) {
        got = getrandom(random->block, DB_RANDOM_BLOCK, 0);
        if (got != DB_RANDOM_BLOCK) {
            return DB_ERROR;
        }

        random->used = 0;
    }

    id = random->block + random->used;
    random->used += 16;

    id[6] = (unsigned char) ((id[6] & 0x0f) | 0x40);
    id[8] = (unsigned char) ((id[8] & 0x3f) | 0x80);

    n = 0;

    for (i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            dst[n++] = '-';
        }

        dst[n++] = db_hex[id[i] >> 4];
        dst[n++] = db_hex[id[i] & 0xf];
    }

    return DB_OK;
}
