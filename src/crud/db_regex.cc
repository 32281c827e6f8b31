/*
 * The one user of RE2.
 *
 * pydantic matches with Rust's regex crate, whose \d, \w, \s and \b know
 * Unicode where RE2's are ASCII.  The classes are widened here; what has no
 * counterpart in RE2 (\b, \B, \w inside a negated class, class operations,
 * flags that RE2 lacks) is refused rather than read differently.
 *
 * MongoDB matches with PCRE, whose classes are ASCII as well, whose $ is before
 * a last line feed, too, and whose \v is a class: it is given the same text,
 * in which none of them is left.
 */

#include <re2/re2.h>

#include <cctype>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <string>

extern "C" {
#include "crud/db_regex.h"
}


typedef struct {
    db_regex_t           base;         /* first */
    std::string            text;
    std::unique_ptr<RE2>   regex;
} db_regex_re2_t;


#define DB_SPACES  "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}" \
                   "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define DB_WORDS   "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200c}\\x{200d}" \
                   "\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}" \
                   "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"


/* What replaces the escape in "c", or NULL when it means the same. */

static const char *
db_regex_class(char c, bool inside)
{
    switch (c) {

    case 'd':
        return inside ? "\\p{Nd}" : "[\\p{Nd}]";

    case 'D':
        return inside ? "\\P{Nd}" : "[^\\p{Nd}]";

    case 's':
        return inside ? DB_SPACES : "[" DB_SPACES "]";

    case 'S':
        return inside ? "" : "[^" DB_SPACES "]";

    case 'w':
        return inside ? DB_WORDS : "[" DB_WORDS "]";

    case 'W':
        return inside ? "" : "[^" DB_WORDS "]";

    case 'v':
        return "\\x0b";

    default:
        return NULL;
    }
}


/* Whether the letters of a group's flags, up to ":" or ")", switch m. */

static bool
db_regex_is_multiline(db_str_t text, size_t i)
{
    while (i < text.len && strchr("imsU-", text.data[i])) {
        if (text.data[i++] == 'm') {
            return true;
        }
    }

    return false;
}


static const char *
db_regex_translate(db_str_t text, bool multiline, std::string &out)
{
    bool         inside;
    char         c;
    size_t       i;
    const char  *widened;

    inside = false;

    for (i = 0; i < text.len; i++) {
        c = text.data[i];

        if (c == '\\') {
            if (++i == text.len) {
                return "it ends in a backslash";
            }

            c = text.data[i];
            widened = db_regex_class(c, inside);

            if (widened != NULL) {
                if (*widened == '\0') {
                    return "\\S and \\W cannot stand in a class";
                }

                out += widened;
                continue;
            }

            if (strchr("AzntrfaxpP", c) == NULL
                && !(c > 0 && c < 0x7f && ispunct(c)))
            {
                return "it has an escape that is not understood here";
            }

            out += '\\';
            out += c;
            continue;
        }

        if (inside) {
            if (c == '[' || (strchr("&-~", c) && i + 1 < text.len
                             && text.data[i + 1] == c))
            {
                return "it has a class within a class";
            }

            inside = (c != ']');

        } else if (c == '[') {
            inside = true;
            out += c;

            if (i + 1 < text.len && text.data[i + 1] == '^') {
                out += '^';
                i++;
            }

            if (i + 1 < text.len && text.data[i + 1] == ']') {
                out += "\\]";
                i++;
            }

            continue;

        } else if (c == '(' && i + 1 < text.len && text.data[i + 1] == '?') {

            if (i + 2 >= text.len
                || strchr(":P<is-", text.data[i + 2]) == NULL)
            {
                return "it has a group that is not understood here";
            }

            /* RE2 of Debian 12 knows (?P<name>) alone */

            if (text.data[i + 2] == '<') {
                out += "(?P";
                i++;
                continue;
            }

            multiline = multiline || db_regex_is_multiline(text, i + 2);

        } else if (c == '$' && !multiline) {
            out += "\\z";
            continue;
        }

        out += c;
    }

    return NULL;
}


static db_regex_t *
db_regex_compile(db_str_t text, db_str_t flags, size_t memory, char *error,
    size_t size)
{
    std::string        translated, flagged;
    RE2::Options       options(RE2::Quiet);
    const char        *complaint;
    db_regex_re2_t    *pattern;

    complaint = db_regex_translate(text, flags.len
                                   && memchr(flags.data, 'm', flags.len),
                                   translated);
    if (complaint != NULL) {
        snprintf(error, size, "%s", complaint);
        return NULL;
    }

    options.set_max_mem((int64_t) memory);
    options.set_never_capture(true);

    flagged = translated;

    if (flags.len) {
        flagged = "(?" + std::string(flags.data, flags.len) + ")" + flagged;
    }

    auto regex = std::make_unique<RE2>(flagged, options);
    if (!regex->ok()) {
        snprintf(error, size, "%s", regex->error().c_str());
        return NULL;
    }

    pattern = new db_regex_re2_t();
    pattern->base.next = NULL;
    pattern->text = std::move(translated);
    pattern->base.text = (db_str_t) { pattern->text.data(),
                                      pattern->text.size() };
    pattern->regex = std::move(regex);

    return &pattern->base;
}


db_regex_t *
db_regex_create(db_str_t text, db_str_t options, size_t memory, char *error,
    size_t size)
{
    try {
        return db_regex_compile(text, options, memory, error, size);

    } catch (const std::bad_alloc &) {
        snprintf(error, size, "out of memory");
        return NULL;
    }
}


void
db_regex_destroy(db_regex_t *pattern)
{
    delete (db_regex_re2_t *) pattern;
}


void
db_regex_destroy_all(db_regex_t *first)
{
    db_regex_t  *next;

    for ( ; first; first = next) {
        next = first->next;
        db_regex_destroy(first);
    }
}


int
db_regex_match(const db_regex_t *pattern, db_str_t text)
{
    const db_regex_re2_t  *p;

    p = (const db_regex_re2_t *) pattern;

    try {
        return p->regex->Match(re2::StringPiece(text.data, text.len), 0,
                               text.len, RE2::UNANCHORED, NULL, 0);

    } catch (const std::bad_alloc &) {
        return 0;
    }
}
