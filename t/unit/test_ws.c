/*
 * Messages from frames: however the bytes are cut, whatever is wrong.
 */

#include "unit.h"
#include "ws/db_frames.h"

#include <stdio.h>
#include <stdlib.h>


#define HEADROOM  24
#define MAX       200000


typedef struct {
    char    data[600000];
    size_t  len;
} wire_t;


static wire_t  wire;
static char    seen[4096];


/* A frame as a client sends it; its opcode with 0x80 is the last one. */

static void
frame(unsigned first, const char *data, size_t len)
{
    size_t         i;
    unsigned char  head[DB_FRAME_HEAD_MAX];

    static const unsigned char  mask[4] = { 0x12, 0x34, 0x56, 0xf8 };

    i = db_frame_head(head, 0, len);
    head[0] = first;
    head[1] |= 0x80;

    memcpy(wire.data + wire.len, head, i);
    memcpy(wire.data + wire.len + i, mask, 4);
    wire.len += i + 4;

    for (i = 0; i < len; i++) {
        wire.data[wire.len++] = data[i] ^ mask[i % 4];
    }
}


static void
text(unsigned first, const char *data)
{
    frame(first, data, strlen(data));
}


/* What the wire says, read in pieces of "step" bytes. */

static const char *
read_wire(size_t step)
{
    char               *p;
    size_t              i, n;
    db_frames_t         frames;
    db_frames_event_t   event;

    db_frames_init(&frames, MAX, HEADROOM);

    p = seen;
    *p = '\0';

    for (i = 0; i < wire.len; i += n) {
        n = wire.len - i < step ? wire.len - i : step;

        assert_int_equal(db_frames_feed(&frames, wire.data + i, n), DB_OK);

        while ((event = db_frames_next(&frames)) != DB_FRAMES_AGAIN) {

            switch (event) {

            case DB_FRAMES_MESSAGE:
                assert_ptr_equal(frames.data.data, frames.block + HEADROOM);
                memset(frames.block, 0, HEADROOM);
                p += sprintf(p, "%c%zu:%.*s ",
                             frames.opcode == DB_FRAME_TEXT ? 't' : 'b',
                             frames.data.len,
                             frames.data.len < 50 ? (int) frames.data.len : 0,
                             frames.data.data);
                free(frames.block);
                break;

            case DB_FRAMES_PING:
            case DB_FRAMES_PONG:
                p += sprintf(p, "%s:%.*s ",
                             event == DB_FRAMES_PING ? "ping" : "pong",
                             (int) frames.data.len, frames.data.data);
                break;

            case DB_FRAMES_CLOSE:
                p += sprintf(p, "close%u:%.*s ", frames.code,
                             (int) frames.data.len, frames.data.data);
                break;

            default:
                sprintf(p, "error%u ", frames.code);
                db_frames_free(&frames);
                return seen;
            }
        }
    }

    if (frames.reader) {
        sprintf(p, "more ");
        db_frames_free(&frames);
    }

    return seen;
}


/* The same however it is cut; the wire is empty afterwards. */

static void
assert_read(const char *expected)
{
    size_t  step;

    for (step = 1; step < 10; step++) {
        assert_string_equal(read_wire(step), expected);
    }

    assert_string_equal(read_wire(4096), expected);
    assert_string_equal(read_wire(wire.len), expected);

    wire.len = 0;
}


static void
test_messages_are_read_however_they_are_cut(void **state)
{
    text(0x81, "hello");
    text(0x82, "");
    text(0x81, "");
    text(0x82, "twelve bytes");
    assert_read("t5:hello b0: t0: b12:twelve bytes ");
}


static void
test_a_message_may_be_of_any_size(void **state)
{
    size_t  i;
    char    expected[32], *data;

    static size_t  sizes[] = {
        125, 126, 127, 4090, 4096, 65535, 65536, 65537, 150000, MAX
    };

    data = malloc(MAX);
    memset(data, 'x', MAX);

    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        frame(0x81, data, sizes[i]);
        sprintf(expected, "t%zu: ", sizes[i]);
        assert_string_equal(read_wire(1000), expected);
        assert_string_equal(read_wire(wire.len), expected);
        wire.len = 0;
    }

    free(data);
}


static void
test_fragments_are_one_message(void **state)
{
    text(0x01, "a");
    text(0x00, "");
    text(0x80, "b");
    text(0x02, "");
    text(0x80, "");
    assert_read("t2:ab b0: ");
}


static void
test_control_frames_come_between_fragments(void **state)
{
    text(0x01, "a\xc3");
    text(0x89, "p");
    text(0x00, "\xa9");
    text(0x8a, "q");
    text(0x80, "b");
    text(0x01, "never");
    text(0x88, "\x03\xe9");
    assert_read("ping:p pong:q t4:a\xc3\xa9" "b close1001: more ");
}


static void
test_a_close_has_a_code_and_a_reason(void **state)
{
    text(0x88, "");
    text(0x88, "\x0f\xa0gr\xc3\xbcn");
    assert_read("close1005: close4000:gr\xc3\xbcn ");
}


static void
test_what_is_cut_off_is_remembered(void **state)
{
    text(0x81, "hello");
    wire.len--;
    assert_read("more ");

    text(0x81, "hello");
    wire.len = 1;
    assert_read("more ");

    text(0x01, "hello");
    assert_read("more ");
}


static void
expect_error(unsigned first, const char *data, size_t len, const char *error)
{
    frame(first, data, len);
    assert_read(error);
}


static void
test_a_protocol_error_is_1002(void **state)
{
    unsigned  i;
    char      code[2];
    unsigned  codes[] = { 0, 999, 1004, 1005, 1006, 1015, 2999, 5000 };

    expect_error(0xc1, "a", 1, "error1002 ");
    expect_error(0x91, "a", 1, "error1002 ");
    expect_error(0x83, "a", 1, "error1002 ");
    expect_error(0x8b, "a", 1, "error1002 ");
    expect_error(0x09, "a", 1, "error1002 ");
    expect_error(0x80, "a", 1, "error1002 ");
    expect_error(0x88, "\x03", 1, "error1002 ");

    text(0x01, "a");
    text(0x81, "b");
    assert_read("error1002 ");

    text(0x81, "a");
    wire.data[1] &= 0x7f;
    assert_read("error1002 ");

    for (i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        code[0] = codes[i] >> 8;
        code[1] = codes[i];
        expect_error(0x88, code, 2, "error1002 ");
    }
}


static void
test_text_that_is_not_utf_8_is_1007(void **state)
{
    unsigned  i;

    static const char  *bad[] = {
        "\x80", "\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc3",
        "\xe2\x82", "\xf0\x9f\x90", "aaaaaaaaaaaaaaaa\xff", "\xc3(", "\xfe"
    };

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        expect_error(0x81, bad[i], strlen(bad[i]), "error1007 ");
    }

    expect_error(0x88, "\x03\xe8\xff", 3, "error1007 ");
    expect_error(0x88, "\x03\xe8\xc3", 3, "error1007 ");

    text(0x01, "a\xe2");
    text(0x80, "\x82(");
    assert_read("error1007 ");

    text(0x81, "\xf0\x9f\x90\x8d\xed\x9f\xbf\xee\x80\x80\xe0\xa0\x80\xc2\x80");
    text(0x81, "\xf4\x8f\xbf\xbf\xf0\x90\x80\x80");
    assert_read("t15:\xf0\x9f\x90\x8d\xed\x9f\xbf\xee\x80\x80\xe0\xa0\x80"
                "\xc2\x80 t8:\xf4\x8f\xbf\xbf\xf0\x90\x80\x80 ");
}


static void
test_too_much_is_1009(void **state)
{
    char  *data;

    data = malloc(MAX + 1);
    memset(data, 'x', MAX + 1);

    frame(0x82, data, MAX + 1);
    wire.len = 100;
    assert_read("error1009 ");

    frame(0x02, data, MAX);
    frame(0x80, data, 1);
    assert_string_equal(read_wire(wire.len), "error1009 ");
    wire.len = 0;

    free(data);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_messages_are_read_however_they_are_cut),
        cmocka_unit_test(test_a_message_may_be_of_any_size),
        cmocka_unit_test(test_fragments_are_one_message),
        cmocka_unit_test(test_control_frames_come_between_fragments),
        cmocka_unit_test(test_a_close_has_a_code_and_a_reason),
        cmocka_unit_test(test_what_is_cut_off_is_remembered),
        cmocka_unit_test(test_a_protocol_error_is_1002),
        cmocka_unit_test(test_text_that_is_not_utf_8_is_1007),
        cmocka_unit_test(test_too_much_is_1009),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
