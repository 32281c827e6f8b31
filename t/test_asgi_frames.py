"""WebSocket messages and frames, RFC 6455, asked of databridge and of uvicorn."""

from ast import literal_eval
from contextlib import suppress

import pytest

from harness import until
from harness.asgi import Peer
from harness.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, closing, frame

APP = """
import asyncio

from kit import ACCEPT, app, note, option, socket, text


@socket
async def repeat(scope, receive, send):
    await receive()
    await send(ACCEPT)
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        both = (message.get("text"), message.get("bytes"))
        await send(text(repr(tuple((type(x).__name__, x and len(x)) for x in both))))


@socket
async def both(scope, receive, send):
    await receive()
    await send(ACCEPT)
    await send({"type": "websocket.send", "text": None, "bytes": b"bytes"})
    await send({"type": "websocket.send", "text": "text", "bytes": None})
    await send({"type": "websocket.send", "text": ""})
    await send({"type": "websocket.send", "bytes": b""})
    await receive()


@socket
async def scheduled(scope, receive, send):
    how = option(scope, "how")

    async def get():
        if how == "task":
            return await asyncio.create_task(receive())
        if how == "future":
            return await asyncio.ensure_future(receive())
        if how == "cancel":
            task = asyncio.create_task(receive())
            await asyncio.sleep(0)
            task.cancel()
            try:
                return await task
            except asyncio.CancelledError:
                return await receive()
        while True:
            try:
                return await asyncio.wait_for(receive(), 0.002)
            except TimeoutError:
                continue

    await get()
    await asyncio.create_task(send(ACCEPT))
    while True:
        message = await get()
        if message["type"] == "websocket.disconnect":
            return
        await asyncio.ensure_future(send({**message, "type": "websocket.send"}))


@socket
async def writes(scope, receive, send):
    await receive()
    await send(ACCEPT)

    async def write():
        for number in range(int(option(scope, "count"))):
            await send(text(str(number)))
            if number % 7 == 0:
                await asyncio.sleep(0)

    writing = asyncio.create_task(write())
    while (message := await receive())["type"] != "websocket.disconnect":
        note(scope, message["text"])
    await writing
"""

LIMIT = 16 * 1024 * 1024


# messages


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000])
@pytest.mark.parametrize("kind", ["text", "bytes"])
def test_a_message_of_any_size_comes_back(peer: Peer, kind: str, size: int) -> None:
    data = (bytes(range(97, 123)) * (size // 26 + 1))[:size]
    with peer.socket() as client:
        client.open("/echo")
        if kind == "text":
            client.text(data.decode())
            assert client.message() == data.decode()
        else:
            client.binary(data)
            assert client.message() == data


@pytest.mark.parametrize("text", ["é", "€ß\0", "🐍" * 50, "\ufeffx", "\U0010ffff"], ids=range(5))
def test_text_is_unicode(peer: Peer, text: str) -> None:
    with peer.socket() as client:
        client.open("/echo")
        client.text(text)
        assert client.message() == text


def test_all_bytes_come_back(peer: Peer) -> None:
    with peer.socket() as client:
        client.open("/echo")
        client.binary(bytes(range(256)))
        assert client.message() == bytes(range(256))


def test_exactly_one_of_text_and_bytes_is_there(peer: Peer) -> None:
    with peer.socket() as client:
        client.open("/repeat")
        for send, expected in (
            (frame(TEXT, b"abc"), (("str", 3), ("NoneType", None))),
            (frame(BINARY, b"ab"), (("NoneType", None), ("bytes", 2))),
            (frame(TEXT), (("str", 0), ("NoneType", None))),
            (frame(BINARY), (("NoneType", None), ("bytes", 0))),
        ):
            client.send(send)
            message = client.message()
            assert isinstance(message, str)
            seen = literal_eval(message)
            assert [kind for kind, _ in seen] == [kind for kind, _ in expected]


def test_the_one_that_is_not_sent_may_be_none(peer: Peer) -> None:
    with peer.socket() as client:
        client.open("/both")
        assert [client.message() for _ in range(4)] == [b"bytes", "text", "", b""]


@pytest.mark.parametrize(
    "mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x80\x7f\0"], ids=range(3)
)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 63, 1001])
def test_every_mask_is_taken_off(peer: Peer, mask: bytes, size: int) -> None:
    data = (bytes(range(256)) * 4)[:size]
    with peer.socket() as client:
        client.open("/echo")
        client.send(frame(BINARY, data, mask=mask))
        assert client.message() == data


def test_several_messages_in_one_segment_are_all_there(peer: Peer) -> None:
    with peer.socket() as client:
        client.open("/echo")
        client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(50)))
        assert [client.message() for _ in range(50)] == [str(number) for number in range(50)]


def test_a_first_message_may_come_with_the_handshake(peer: Peer) -> None:
    with peer.socket() as client:
        client.open("/echo", more=frame(TEXT, b"one") + frame(BINARY, b"two"))
        assert [client.message(), client.message()] == ["one", b"two"]


def test_a_close_may_come_with_the_handshake(peer: Peer, key: str) -> None:
    with peer.socket() as client:
        client.open(f"/echo?key={key}", more=frame(TEXT, b"one") + closing(1001, b"gone"))
        with suppress(AssertionError, ConnectionError):
            assert client.message() == "one"
        assert peer.left_with(key) == (1001, "gone")


def test_a_frame_may_come_byte_by_byte(peer: Peer) -> None:
    with peer.socket() as client:
        client.open("/echo")
        for byte in frame(TEXT, b"x" * 130) + frame(PING, b"p") + frame(BINARY, b"two"):
            client.send(bytes([byte]))
        assert client.message() == "x" * 130
        assert client.message() == b"two"


def test_a_thousand_messages_come_back_in_order(peer: Peer) -> None:
    with peer.socket() as client:
        client.open("/echo")
        for start in range(0, 1000, 100):
            numbers = range(start, start + 100)
            client.send(b"".join(frame(BINARY, b"%d" % number) for number in numbers))
            assert [client.message() for _ in numbers] == [b"%d" % number for number in numbers]


def test_reading_and_writing_go_on_at_once(peer: Peer, key: str) -> None:
    with peer.socket() as client:
        client.open(f"/writes?key={key}&count=200")
        for number in range(50):
            client.text(f"r{number}")
        assert [client.message() for _ in range(200)] == [str(number) for number in range(200)]
        client.send(closing(1000))
        assert peer.noted(key, "end") == [*(f"r{number}" for number in range(50)), "end"]


@pytest.mark.parametrize("how", ["task", "future", "cancel", "wait_for"])
def test_receive_and_send_return_what_asyncio_takes(peer: Peer, how: str) -> None:
    with peer.socket() as client:
        client.open(f"/scheduled?how={how}")
        for number in range(20):
            client.text(str(number))
            if number % 5 == 0:
                peer.value("/scope")
        assert [client.message() for _ in range(20)] == [str(number) for number in range(20)]


# fragments


def fragments(opcode: int, *parts: bytes, between: bytes = b"") -> bytes:
    last = len(parts) - 1
    frames = [
        frame(opcode if number == 0 else CONTINUATION, part, fin=number == last)
        for number, part in enumerate(parts)
    ]
    return between.join(frames)


@pytest.mark.parametrize(
    "parts",
    [(b"a", b"b"), (b"", b"a", b""), (b"", b""), (b"x" * 70_000,) * 3, (b"\xc3", b"\xa9")]
    + [(b"\xf0\x9f", b"", b"\x90", b"\x8d!")],
    ids=["two", "empty", "nothing", "large", "split", "split_often"],
)
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "bytes"])
def test_fragments_are_one_message(peer: Peer, opcode: int, parts: tuple[bytes, ...]) -> None:
    data = b"".join(parts)
    with peer.socket() as client:
        client.open("/echo")
        client.send(fragments(opcode, *parts))
        assert client.message() == (data.decode() if opcode == TEXT else data)


def test_pings_between_fragments_are_answered_at_once(peer: Peer) -> None:
    with peer.socket() as client:
        client.open("/echo")
        client.send(fragments(TEXT, b"a\xc3", b"\xa9b", b"c", between=frame(PING, b"p")))
        assert client.frame() == (PONG, b"p")
        assert client.frame() == (PONG, b"p")
        assert client.message() == "aébc"


def test_a_close_between_fragments_is_a_close(peer: Peer, key: str) -> None:
    with peer.socket() as client:
        client.open(f"/echo?key={key}")
        client.send(frame(TEXT, b"a", fin=False) + closing(1001))
        assert client.closed_with()[0] == 1001
    assert peer.left_with(key) == (1001, "")


# ping and pong


@pytest.mark.parametrize("payload", [b"", b"payload", bytes(range(125))], ids=["0", "7", "125"])
def test_a_ping_is_answered_by_a_pong_with_its_payload(peer: Peer, payload: bytes) -> None:
    with peer.socket() as client:
        client.open("/echo")
        client.send(frame(PING, payload))
        assert client.frame() == (PONG, payload)


def test_a_pong_nobody_asked_for_is_ignored(peer: Peer) -> None:
    with peer.socket() as client:
        client.open("/echo")
        client.send(frame(PONG, b"x") + frame(PONG) + frame(TEXT, b"hello"))
        assert client.message() == "hello"


# protocol errors


UNREADABLE = {
    "byte": frame(TEXT, b"a\xff"),
    "cut_short": frame(TEXT, b"a\xc3"),
    "overlong": frame(TEXT, b"\xc0\xaf"),
    "surrogate": frame(TEXT, b"\xed\xa0\x80"),
    "too_high": frame(TEXT, b"\xf4\x90\x80\x80"),
    "fragments": fragments(TEXT, b"a\xc3", b"b"),
    "last_fragment": fragments(TEXT, b"a", b"\xe2\x82"),
    "reason": closing(1000, b"\xff"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_text_that_is_not_utf_8_is_1007(peer: Peer, key: str, kind: str) -> None:
    with peer.socket() as client:
        client.open(f"/echo?key={key}")
        client.send(UNREADABLE[kind])
        assert client.closed_with()[0] == 1007
        assert client.closed()
    until("the disconnect", lambda: "end" in peer.notes(key))


VIOLATIONS = {
    "unmasked": frame(TEXT, b"a", mask=None),
    "unmasked_ping": frame(PING, mask=None),
    "rsv1": frame(TEXT, b"a", rsv=4),
    "rsv2": frame(TEXT, b"a", rsv=2),
    "rsv3": frame(TEXT, b"a", rsv=1),
    "rsv1_ping": frame(PING, rsv=4),
    "opcode_3": frame(3, b"a"),
    "opcode_7": frame(7),
    "opcode_11": frame(11, b"a"),
    "opcode_15": frame(15),
    "fragmented_ping": frame(PING, b"a", fin=False),
    "fragmented_close": frame(CLOSE, fin=False),
    "long_ping": frame(PING, b"x" * 126),
    "long_close": frame(CLOSE, b"\x03\xe8" + b"x" * 124),
    "continuation_first": frame(CONTINUATION, b"a"),
    "continuation_after_the_end": fragments(TEXT, b"a", b"b") + frame(CONTINUATION, b"c"),
    "text_in_fragments": frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
    "close_of_one_byte": frame(CLOSE, b"\x03"),
    "close_0": closing(0),
    "close_999": closing(999),
    "close_1004": closing(1004),
    "close_1005": closing(1005),
    "close_1006": closing(1006),
    "close_1015": closing(1015),
    "close_1016": closing(1016),
    "close_2999": closing(2999),
    "close_5000": closing(5000),
}


@pytest.mark.parametrize("kind", VIOLATIONS)
def test_a_protocol_error_is_1002(peer: Peer, key: str, kind: str) -> None:
    with peer.socket() as client:
        client.open(f"/echo?key={key}")
        client.send(VIOLATIONS[kind])
        while (message := client.frame())[0] != CLOSE:
            assert message[1] == b"ab"
        assert int.from_bytes(message[1][:2], "big") == 1002
        assert client.closed()
    until("the disconnect", lambda: "end" in peer.notes(key))


def test_a_length_of_more_than_63_bits_is_an_error(peer: Peer) -> None:
    with peer.socket() as client:
        client.open("/echo")
        client.send(frame(BINARY, b"a", length=1 << 63))
        assert client.closed_with()[0] in (1002, 1009)


def test_the_greatest_message_is_taken(peer: Peer) -> None:
    with peer.socket(20) as client:
        client.open("/repeat")
        client.send(frame(BINARY, b"x" * LIMIT))
        assert client.message() == repr((("NoneType", None), ("bytes", LIMIT)))


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "bytes"])
def test_a_greater_message_is_1009(peer: Peer, key: str, opcode: int) -> None:
    with peer.socket() as client:
        client.open(f"/echo?key={key}")
        client.send(frame(opcode, b"x" * 100, length=LIMIT + 1))
        assert client.closed_with()[0] == 1009
    until("the disconnect", lambda: "end" in peer.notes(key))


def test_fragments_that_are_too_much_together_are_1009(peer: Peer) -> None:
    with peer.socket(20) as client:
        client.open("/echo")
        piece = frame(CONTINUATION, b"x" * (LIMIT // 8), fin=False)
        client.send(frame(BINARY, b"x", fin=False))
        with suppress(ConnectionError):
            for _ in range(8):
                client.send(piece)
        assert client.closed_with()[0] == 1009
