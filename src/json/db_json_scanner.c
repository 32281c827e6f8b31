/*
 * Finds what CPython's json.decoder would complain about, and where, in text
 * that the reader has refused.  The text is valid UTF-8; positions are in
 * characters.
 *
 * Three complaints are our own, of texts that CPython takes: a number that
 * is not finite, a surrogate without its partner, and too many levels.
 */

#include "json/db_json.h"


typedef struct {
    const char       *pos;
    const char       *start;
    const char       *end;
    db_json_error_t  *error;
} db_json_scanner_t;


static int db_json_scan_value(db_json_scanner_t *s);
static int db_json_scan_string(db_json_scanner_t *s);


static int
db_json_fault(db_json_scanner_t *s, const char *message, const char *at)
{
    size_t       position;
    const char  *p;

    position = 0;

    for (p = s->start; p < at; p++) {
        position += ((*p & 0xc0) != 0x80);
    }

    s->error->fault = DB_JSON_SYNTAX;
    s->error->message = message;
    s->error->position = position;

    return DB_DECLINED;
}


static void
db_json_skip_space(db_json_scanner_t *s)
{
    while (s->pos < s->end
           && (*s->pos == ' ' || *s->pos == '\t' || *s->pos == '\n'
               || *s->pos == '\r'))
    {
        s->pos++;
    }
}


static int
db_json_is_digit(db_json_scanner_t *s, const char *p)
{
    return p < s->end && *p >= '0' && *p <= '9';
}


/* A value that is no container: at pos, which is left after it. */

static int
db_json_scan_scalar(db_json_scanner_t *s)
{
    int          real;
    size_t       i, left;
    const char  *p, *mark, *digits;

    static const struct {
        db_str_t  text;
        int       finite;
    } words[] = {
        { { "null", 4 }, 1 },
        { { "true", 4 }, 1 },
        { { "false", 5 }, 1 },
        { { "NaN", 3 }, 0 },
        { { "Infinity", 8 }, 0 },
        { { "-Infinity", 9 }, 0 },
    };

    if (s->pos == s->end) {
        return db_json_fault(s, "Expecting value", s->pos);
    }

    if (*s->pos == '"') {
        return db_json_scan_string(s);
    }

    left = (size_t) (s->end - s->pos);

    for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (left >= words[i].text.len
            && memcmp(s->pos, words[i].text.data, words[i].text.len) == 0)
        {
            if (!words[i].finite) {
                goto not_finite;
            }

            s->pos += words[i].text.len;
            return DB_OK;
        }
    }

    p = s->pos;

    if (*p == '-') {
        p++;
    }

    if (!db_json_is_digit(s, p)) {
        return db_json_fault(s, "Expecting value", s->pos);
    }

    digits = p;

    if (*p == '0') {
        p++;

    } else {
        while (db_json_is_digit(s, p)) {
            p++;
        }
    }

    real = 0;
    mark = p;

    if (p < s->end && *p == '.' && db_json_is_digit(s, p + 1)) {
        for (p++; db_json_is_digit(s, p); p++) { /* void */ }
        real = 1;
        mark = p;
    }

    if (p < s->end && (*p == 'e' || *p == 'E')) {
        p++;

        if (p < s->end && (*p == '+' || *p == '-')) {
            p++;
        }

        if (db_json_is_digit(s, p)) {
            while (db_json_is_digit(s, p)) {
                p++;
            }

            real = 1;
            mark = p;
        }
    }

    if (!real && mark - digits > DB_JSON_MAX_DIGITS) {
        s->error->fault = DB_JSON_UNREADABLE;
        return DB_DECLINED;
    }

    if (real
        && db_json_real_read((db_str_t) { digits, (size_t) (mark - digits) })
           > 1.7976931348623157e308)
    {
        goto not_finite;
    }

    s->pos = mark;

    return DB_OK;

not_finite:

    return db_json_fault(s, "Out of range float values are not JSON compliant",
                         s->pos);
}


/* Four hexadecimal digits at p, or -1. */

static int
db_json_scan_hex(const char *p)
{
    int       value;
    unsigned  i;

    value = 0;

    for (i = 0; i < 4; i++) {
        value <<= 4;

        if (p[i] >= '0' && p[i] <= '9') {
            value |= p[i] - '0';

        } else if ((p[i] | 0x20) >= 'a' && (p[i] | 0x20) <= 'f') {
            value |= (p[i] | 0x20) - 'a' + 10;

        } else {
            return -1;
        }
    }

    return value;
}


/*
 * After "\u" at "escape".  CPython wants at least one character after the
 * four digits, and seven after those of a high surrogate to look at the next
 * escape.
 */

static int
db_json_scan_unicode(db_json_scanner_t *s, const char *escape)
{
    int          high, low;
    size_t       i, n;
    const char  *p;

    p = escape + 2;
    n = 0;

    /* characters, of which a wrong one may be longer than a byte */

    for (i = 0; p + i < s->end && n <= 4; i++) {
        n += ((p[i] & 0xc0) != 0x80);
    }

    if (n <= 4) {
        return db_json_fault(s, "Invalid \\uXXXX escape", escape + 1);
    }

    high = db_json_scan_hex(p);

    if (high == -1) {
        return db_json_fault(s, "Invalid \\uXXXX escape", escape + 1);
    }

    p += 4;
    s->pos = p;

    if (high < 0xd800 || high > 0xdfff) {
        return DB_OK;
    }

    if (high <= 0xdbff && s->end - p >= 2 && p[0] == '\\' && p[1] == 'u') {

        n = 0;

        for (i = 2; p + i < s->end && n <= 4; i++) {
            n += ((p[i] & 0xc0) != 0x80);
        }

        if (n <= 4) {
            return db_json_fault(s, "Invalid \\uXXXX escape", p + 1);
        }

        low = db_json_scan_hex(p + 2);

        if (low == -1) {
            return db_json_fault(s, "Invalid \\uXXXX escape", p + 1);
        }

        if (low >= 0xdc00 && low <= 0xdfff) {
            s->pos = p + 6;
            return DB_OK;
        }
    }

    return db_json_fault(s, "Lone surrogate in a string", escape);
}


static int
db_json_scan_string(db_json_scanner_t *s)
{
    int          rc;
    const char  *p, *begin;

    begin = s->pos;
    s->pos++;

    for ( ;; ) {
        p = s->pos;

        if (p == s->end) {
            return db_json_fault(s, "Unterminated string starting at", begin);
        }

        if (*p == '"') {
            s->pos = p + 1;
            return DB_OK;
        }

        if ((unsigned char) *p <= 0x1f) {
            return db_json_fault(s, "Invalid control character at", p);
        }

        if (*p != '\\') {
            s->pos = p + 1;
            continue;
        }

        if (p + 1 == s->end) {
            return db_json_fault(s, "Unterminated string starting at", begin);
        }

        if (p[1] == 'u') {
            rc = db_json_scan_unicode(s, p);
            if (rc != DB_OK) {
                return rc;
            }

            continue;
        }

        if (p[1] == '\0' || strchr("\"\\/bfnrt", p[1]) == NULL) {
            return db_json_fault(s, "Invalid \\escape", p);
        }

        s->pos = p + 2;
    }
}


/* The name of a member and its colon. */

static int
db_json_scan_name(db_json_scanner_t *s)
{
    int  rc;

    if (s->pos == s->end || *s->pos != '"') {
        return db_json_fault(s, "Expecting property name enclosed in double "
                             "quotes", s->pos);
    }

    rc = db_json_scan_string(s);
    if (rc != DB_OK) {
        return rc;
    }

    db_json_skip_space(s);

    if (s->pos == s->end || *s->pos != ':') {
        return db_json_fault(s, "Expecting ':' delimiter", s->pos);
    }

    s->pos++;
    db_json_skip_space(s);

    return DB_OK;
}


static int
db_json_scan_value(db_json_scanner_t *s)
{
    int       rc;
    char      open[DB_JSON_MAX_DEPTH];
    unsigned  depth;

    depth = 0;

    for ( ;; ) {

        /* a value */

        if (s->pos < s->end && (*s->pos == '{' || *s->pos == '[')) {

            if (depth == DB_JSON_MAX_DEPTH) {
                return db_json_fault(s, "Nested too deeply", s->pos);
            }

            open[depth] = *s->pos++;
            db_json_skip_space(s);

            if (s->pos < s->end
                && *s->pos == (open[depth] == '{' ? '}' : ']'))
            {
                s->pos++;

            } else {
                depth++;

                if (open[depth - 1] == '{') {
                    rc = db_json_scan_name(s);
                    if (rc != DB_OK) {
                        return rc;
                    }
                }

                continue;
            }

        } else {
            rc = db_json_scan_scalar(s);
            if (rc != DB_OK) {
                return rc;
            }
        }

        /* what follows it, in all that end here */

        for ( ;; ) {
            if (depth == 0) {
                return DB_OK;
            }

            db_json_skip_space(s);

            if (s->pos < s->end
                && *s->pos == (open[depth - 1] == '{' ? '}' : ']'))
            {
                s->pos++;
                depth--;
                continue;
            }

            break;
        }

        if (s->pos == s->end || *s->pos != ',') {
            return db_json_fault(s, "Expecting ',' delimiter", s->pos);
        }

        s->pos++;
        db_json_skip_space(s);

        if (open[depth - 1] == '{') {
            rc = db_json_scan_name(s);
            if (rc != DB_OK) {
                return rc;
            }
        }
    }
}


int
db_json_scan(db_str_t text, db_json_error_t *error)
{
    int                rc;
    db_json_scanner_t  s;

    s.start = text.data;
    s.pos = text.data;
    s.end = text.data + text.len;
    s.error = error;

    db_json_skip_space(&s);

    rc = db_json_scan_value(&s);
    if (rc != DB_OK) {
        return rc;
    }

    db_json_skip_space(&s);

    return s.pos == s.end ? DB_OK : db_json_fault(&s, "Extra data", s.pos);
}
