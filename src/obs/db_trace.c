/*
 * The generator is xoshiro256**: ids must be unique, not secret.
 */

#include "obs/db_trace.h"

#include <errno.h>
#include <sys/random.h>


#define DB_TRACE_PARENT_ID  16
#define DB_TRACE_MAX_ID     128


static uint64_t
db_random_rotate(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}


int
db_random_seed(db_random_t *random)
{
    ssize_t  n;

    do {
        n = getrandom(random->state, sizeof(random->state), 0);
    } while (n == -1 && errno == EINTR);

    if (n != (ssize_t) sizeof(random->state)) {
        return DB_ERROR;
    }

    /* the one state that never changes */

    random->state[0] |= 1;

    return DB_OK;
}


uint64_t
db_random_next(db_random_t *random)
{
    uint64_t  *s, result, t;

    s = random->state;
    result = db_random_rotate(s[1] * 5, 7) * 9;
    t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = db_random_rotate(s[3], 45);

    return result;
}


void
db_random_hex(db_random_t *random, char *text, size_t len)
{
    size_t    i;
    uint64_t  n, all;

    static const char  hex[] = "0123456789abcdef";

    do {
        all = 0;
        n = 0;

        for (i = 0; i < len; i++) {

            if (i % 16 == 0) {
                n = db_random_next(random);
                all |= n;
            }

            text[i] = hex[n & 15];
            n >>= 4;
        }

    } while (all == 0);
}


/* "len" lower-case digits, not all of them 0 unless zero. */

static int
db_trace_hex(const char *p, size_t len, int zero)
{
    size_t  i;

    for (i = 0; i < len; i++) {

        if (!(p[i] >= '0' && p[i] <= '9') && !(p[i] >= 'a' && p[i] <= 'f')) {
            return 0;
        }

        zero |= p[i] != '0';
    }

    return zero;
}


int
db_trace_parse(db_str_t value, db_str_t *id)
{
    const char  *p;

    p = value.data;

    if (value.len < DB_TRACE_PARENT
        || !db_trace_hex(p, 2, 1) || (p[0] == 'f' && p[1] == 'f')
        || p[2] != '-' || !db_trace_hex(p + 3, DB_TRACE_ID, 0)
        || p[35] != '-' || !db_trace_hex(p + 36, DB_TRACE_PARENT_ID, 0)
        || p[52] != '-' || !db_trace_hex(p + 53, 2, 1))
    {
        return DB_DECLINED;
    }

    /* a later version may have more fields, this one has not */

    if (value.len > DB_TRACE_PARENT
        && ((p[0] == '0' && p[1] == '0') || p[DB_TRACE_PARENT] != '-'))
    {
        return DB_DECLINED;
    }

    id->data = p + 3;
    id->len = DB_TRACE_ID;

    return DB_OK;
}


void
db_trace_begin(db_random_t *random, char *text)
{
    memcpy(text, "00-", 3);
    db_random_hex(random, text + 3, DB_TRACE_ID);
    text[35] = '-';
    db_random_hex(random, text + 36, DB_TRACE_PARENT_ID);
    memcpy(text + 52, "-01", 3);
}


int
db_trace_request_id(db_str_t value)
{
    char    c;
    size_t  i;

    if (value.len == 0 || value.len > DB_TRACE_MAX_ID) {
        return 0;
    }

    for (i = 0; i < value.len; i++) {
        c = value.data[i];

        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z')
            && !(c >= 'A' && c <= 'Z')
            && (c == '\0' || strchr("-_.~+/=:@", c) == NULL))
        {
            return 0;
        }
    }

    return 1;
}
