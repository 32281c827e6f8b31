"""ASGI WebSocket 2.5, asked of databridge and of uvicorn."""

import select
from ast import literal_eval
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from harness import SLOWER, RawResponse, until
from harness.asgi import Peer
from harness.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WebSocket,
    accept_key,
    closing,
    frame,
    handshake,
)

APP = """
import asyncio

from kit import answer, app, attempt, case, gate, note, option, socket

ACCEPT = {"type": "websocket.accept"}


def text(value):
    return {"type": "websocket.send", "text": value}


def close(**more):
    return {"type": "websocket.close", **more}


@socket
async def describe(scope, receive, send):
    await receive()
    await send(ACCEPT)
    await send(text(repr({name: value for name, value in scope.items() if name != "state"})))
    await receive()


@socket
async def types(scope, receive, send):
    await receive()
    await send(ACCEPT)
    headers = [(type(name).__name__, type(value).__name__) for name, value in scope["headers"]]
    seen = {name: type(value).__name__ for name, value in scope.items()}
    await send(text(repr((seen, headers, [type(s).__name__ for s in scope["subprotocols"]]))))
    await receive()


@socket
async def state(scope, receive, send):
    await receive()
    await send(ACCEPT)
    scope["state"]["shared"].append(1)
    seen = (sorted(scope["state"]), scope["state"]["number"], len(scope["state"]["shared"]))
    scope["state"]["mine"] = 1
    scope["state"]["number"] += 1
    await send(text(repr(seen)))
    await receive()


@case
async def shared(scope, receive, send):
    await answer(send, len(scope["state"]["shared"]))


@socket
async def echo(scope, receive, send):
    note(scope, (await receive())["type"])
    await send(ACCEPT)
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            note(scope, (int(message["code"]), message.get("reason") or ""))
            return
        assert message["type"] == "websocket.receive"
        await send({**message, "type": "websocket.send"})


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
async def held(scope, receive, send):
    note(scope, (await receive())["type"])
    await gate(scope)
    await send(ACCEPT)
    await receive()


@socket
async def waits(scope, receive, send):
    await receive()
    waiting = asyncio.create_task(receive())
    await asyncio.sleep(0.02)
    note(scope, waiting.done())
    await send(ACCEPT)
    note(scope, (await waiting)["type"])


HEADERS = {
    "lists": lambda: [[b"x-a", b"1"], [b"set-cookie", b"a=1"], [b"set-cookie", b"b=2"]],
    "generator": lambda: (p for p in [(b"x-a", b"1"), (b"set-cookie", b"a=1")]),
    "latin": lambda: [(b"x-a", b"caf\\xe9")],
    "crlf": lambda: [(b"x-a", b"1\\r\\nx-in: 2")],
}


@socket
async def headers(scope, receive, send):
    await receive()
    await send({**ACCEPT, "headers": HEADERS[option(scope, "kind")]()})
    await receive()


@socket
async def subprotocol(scope, receive, send):
    await receive()
    await send({**ACCEPT, "subprotocol": option(scope, "choice") or None})
    await send(text(repr(list(scope["subprotocols"]))))
    await receive()


@socket
async def refuse(scope, receive, send):
    await receive()
    await send(close(**({"code": 4001, "reason": "no"} if option(scope, "code") else {})))
    note(scope, (await receive())["type"])


@socket
async def deny(scope, receive, send):
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send(close())
        return
    pairs = [(b"x-a", b"1"), (b"x-a", b"2"), (b"content-type", b"text/plain")]
    if option(scope, "length"):
        pairs.append((b"content-length", b"6"))
    await send({"type": "websocket.http.response.start", "status": 401, "headers": pairs})
    await send({"type": "websocket.http.response.body", "body": b"den", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"ied"})


@socket
async def deny_half(scope, receive, send):
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send(close())
        return
    await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
    if option(scope, "part"):
        await send({"type": "websocket.http.response.body", "body": b"den", "more_body": True})


@socket
async def fails(scope, receive, send):
    kind = option(scope, "kind")
    if kind == "at_once":
        raise ValueError("on purpose")
    await receive()
    if kind == "connected":
        raise ValueError("on purpose")
    if kind == "silent":
        return
    await send(ACCEPT)
    await send(text("hello"))
    if kind == "raises":
        raise ValueError("on purpose")
    if kind == "later":
        await receive()
        raise ValueError("on purpose")


@socket
async def closes(scope, receive, send):
    await receive()
    await send(ACCEPT)
    more = {}
    if option(scope, "code"):
        more["code"] = int(option(scope, "code"))
    if option(scope, "reason"):
        more["reason"] = option(scope, "reason")
    await send(close(**more))
    message = await receive()
    note(scope, (message["type"], int(message["code"])))


@socket
async def sends_after_close(scope, receive, send):
    await receive()
    await send(ACCEPT)
    await send(close())
    await attempt(scope, send(text("late")))
    await attempt(scope, send(close()))


@socket
async def sends_after_leave(scope, receive, send):
    await receive()
    await send(ACCEPT)
    note(scope, (await receive())["type"])
    for _ in range(3):
        await attempt(scope, send(text("late")))
    await attempt(scope, send(close()))


@socket
async def receives_after_leave(scope, receive, send):
    await receive()
    await send(ACCEPT)
    note(scope, (await receive())["type"])
    try:
        note(scope, (await asyncio.wait_for(receive(), 0.05))["type"])
    except Exception as error:
        note(scope, "none")


WRONG = {
    "accept_twice": ACCEPT,
    "unknown": {"type": "websocket.wrong"},
    "http": {"type": "http.response.start", "status": 200},
    "denial": {"type": "websocket.http.response.start", "status": 401, "headers": []},
    "no_type": {},
    "str_bytes": {"type": "websocket.send", "bytes": 7},
    "bytes_text": {"type": "websocket.send", "text": 7},
}


@socket
async def wrong(scope, receive, send):
    await receive()
    await send(ACCEPT)
    await attempt(scope, send(WRONG[option(scope, "kind")]))
    await send(text("right"))
    await receive()


EARLY = {"send": text("early"), "unknown": {"type": "websocket.wrong"}, "http": WRONG["http"]}


@socket
async def early(scope, receive, send):
    await receive()
    await attempt(scope, send(EARLY[option(scope, "kind")]))
    await send(ACCEPT)
    await send(text("right"))
    await receive()


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


sent = 0


@socket
async def firehose(scope, receive, send):
    global sent
    await receive()
    await send(ACCEPT)
    for _ in range(1600):
        await send({"type": "websocket.send", "bytes": b"x" * 65536})
        sent += 65536
    await send(close())


@case
async def progress(scope, receive, send):
    await answer(send, sent)


@socket
async def slow(scope, receive, send):
    await receive()
    await send(ACCEPT)
    await gate(scope)
    size = 0
    while (message := await receive())["type"] != "websocket.disconnect":
        size += len(message["bytes"])
        if not message["bytes"]:
            await send(text(str(size)))
"""

LIMIT = 16 * 1024 * 1024


def socket(peer: Peer, timeout: float = 5.0) -> WebSocket:
    return WebSocket(peer.port, timeout)


def described(peer: Peer, target: str | bytes, headers: bytes = b"") -> Any:
    with socket(peer) as client:
        client.open(target, headers)
        message = client.message()
        client.send(closing(1000))
    assert isinstance(message, str)
    return literal_eval(message)


def refused(peer: Peer, data: bytes) -> RawResponse:
    """The answer to a handshake that does not succeed; the connection is not upgraded."""
    with socket(peer) as client:
        client.send(data)
        answer = client.response()
    assert answer.status != 101
    return answer


def left_with(peer: Peer, key: str) -> tuple[int, str]:
    """Code and reason that the application was told."""
    until("the disconnect", lambda: "end" in peer.notes(key))
    code, reason = peer.notes(key)[-2]
    return code, reason


# the scope


def test_the_scope_of_a_socket(peer: Peer) -> None:
    scope = described(peer, "/describe/a%20b%2Fc//d/../e?q=%20+1")
    assert scope["type"] == "websocket"
    assert scope["asgi"]["version"] == "3.0"
    assert scope["asgi"]["spec_version"] in ("2.3", "2.4", "2.5")
    assert scope.get("http_version", "1.1") == "1.1"
    assert scope.get("scheme", "ws") == "ws"
    assert scope["path"] == "/describe/a b/c//d/../e"
    assert scope.get("raw_path") in (None, b"/describe/a%20b%2Fc//d/../e")
    assert scope["query_string"] == b"q=%20+1"
    assert scope.get("root_path", "") == ""
    assert scope["client"][0] == "127.0.0.1" and scope["client"][1] > 0
    assert tuple(scope["server"]) == ("127.0.0.1", peer.port)
    assert list(scope["subprotocols"]) == []
    assert "method" not in scope


def test_the_headers_of_a_handshake_are_in_the_scope(peer: Peer) -> None:
    lines = b"X-A: 1\r\nX-B: caf\xe9\r\nX-A: 2\r\nx_under.dot: 3\r\nCookie: a=1; b=2\r\nX-C:\r\n"
    headers = [tuple(pair) for pair in described(peer, "/describe", lines)["headers"]]
    headers = [(name.lower(), value) for name, value in headers]
    assert [value for name, value in headers if name == b"x-a"] == [b"1", b"2"]
    for pair in (
        (b"x-b", b"caf\xe9"),
        (b"x_under.dot", b"3"),
        (b"cookie", b"a=1; b=2"),
        (b"x-c", b""),
        (b"host", b"test"),
        (b"upgrade", b"websocket"),
        (b"sec-websocket-version", b"13"),
    ):
        assert pair in headers


def test_the_members_of_a_sockets_scope_have_their_types(peer: Peer) -> None:
    types, headers, subprotocols = described(peer, "/types", b"Sec-WebSocket-Protocol: a\r\n")
    expected = {
        "type": "str",
        "asgi": "dict",
        "scheme": "str",
        "path": "str",
        "raw_path": "bytes",
        "query_string": "bytes",
        "root_path": "str",
        "state": "dict",
        "extensions": "dict",
    }
    assert {name: types[name] for name in expected} == expected
    assert set(headers) == {("bytes", "bytes")}
    assert subprotocols == ["str"]


@pytest.mark.parametrize(
    ("lines", "offered"),
    [
        (b"", []),
        (b"Sec-WebSocket-Protocol: a\r\n", ["a"]),
        (b"Sec-WebSocket-Protocol: a, b,c\r\n", ["a", "b", "c"]),
        (b"Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b , c\r\n", ["a", "b", "c"]),
    ],
    ids=["none", "one", "list", "lines"],
)
def test_the_scope_has_the_subprotocols_on_offer(
    peer: Peer, lines: bytes, offered: list[str]
) -> None:
    assert described(peer, "/subprotocol", lines) == offered


def test_a_socket_has_a_shallow_copy_of_the_state(peer: Peer) -> None:
    names, number, count = described(peer, "/state")
    assert (names, number) == (["number", "shared"], 1)
    assert described(peer, "/state") == (names, number, count + 1)
    assert peer.value("/shared") == count + 1


# the handshake


def test_connect_comes_first_and_nothing_is_sent_before_accept(peer: Peer, key: str) -> None:
    with socket(peer) as client:
        client.send(handshake(f"/held?key={key}"))
        assert peer.noted(key, "websocket.connect") == ["websocket.connect"]
        assert select.select([client.socket], [], [], 0) == ([], [], [])
        peer.open(key)
        assert client.head().status == 101


def test_nothing_is_received_between_connect_and_accept(peer: Peer, key: str) -> None:
    with socket(peer) as client:
        client.open(f"/waits?key={key}", more=frame(TEXT, b"early"))
        assert peer.noted(key, "end") == [False, "websocket.receive", "end"]


def test_an_accepted_handshake_is_as_rfc_6455_has_it(peer: Peer) -> None:
    with socket(peer) as client:
        client.send(handshake("/echo"))
        answer = client.head()
    assert answer.status == 101
    assert answer.headers["upgrade"].lower() == "websocket"
    assert answer.headers["connection"].lower() == "upgrade"
    assert answer.headers["sec-websocket-accept"] == accept_key(b"dGhlIHNhbXBsZSBub25jZQ==")
    for name in ("sec-websocket-protocol", "sec-websocket-extensions", "content-length"):
        assert name not in answer.headers
    assert "transfer-encoding" not in answer.headers
    assert len(answer.values("date")) <= 1 and len(answer.values("server")) <= 1


def test_headers_of_accept_are_sent(peer: Peer) -> None:
    with socket(peer) as client:
        answer = client.open("/headers?kind=lists")
    assert answer.values("x-a") == [b"1"]
    assert answer.values("set-cookie") == [b"a=1", b"b=2"]


@pytest.mark.parametrize(("kind", "value"), [("generator", b"1"), ("latin", b"caf\xe9")])
def test_headers_of_accept_are_any_iterable_of_bytes(peer: Peer, kind: str, value: bytes) -> None:
    with socket(peer) as client:
        assert client.open(f"/headers?kind={kind}").values("x-a") == [value]


def test_headers_of_accept_cannot_be_split(peer: Peer) -> None:
    with socket(peer) as client, suppress(ConnectionError):
        client.send(handshake("/headers?kind=crlf"))
        answer = client.head()
        assert answer.status == 500
        assert "x-in" not in answer.headers


@pytest.mark.parametrize("choice", ["", "b"])
def test_the_subprotocol_is_the_applications_choice(peer: Peer, choice: str) -> None:
    with socket(peer) as client:
        answer = client.open(f"/subprotocol?choice={choice}", b"Sec-WebSocket-Protocol: a, b\r\n")
    assert answer.values("sec-websocket-protocol") == ([choice.encode()] if choice else [])


@pytest.mark.parametrize("code", ["", "1"])
def test_a_close_before_accept_is_a_403(peer: Peer, key: str, code: str) -> None:
    answer = refused(peer, handshake(f"/refuse?key={key}&code={code}"))
    assert answer.status == 403
    assert "sec-websocket-accept" not in answer.headers
    assert peer.noted(key, "end")[0] == "websocket.disconnect"


@pytest.mark.parametrize("length", ["", "1"])
def test_a_denial_response_is_the_applications_where_advertised(peer: Peer, length: str) -> None:
    answer = refused(peer, handshake(f"/deny?length={length}"))
    if answer.status != 403:
        assert (answer.status, answer.body) == (401, b"denied")
        assert answer.values("x-a") == [b"1", b"2"]
        assert answer.values("content-type") == [b"text/plain"]


@pytest.mark.parametrize("part", ["", "1"])
def test_a_denial_response_that_is_not_finished_is_seen(peer: Peer, part: str) -> None:
    with suppress(ConnectionError):
        assert refused(peer, handshake(f"/deny_half?part={part}")).status in (403, 500)


@pytest.mark.parametrize("kind", ["at_once", "connected", "silent"])
def test_an_application_that_ends_before_accept_is_a_500(peer: Peer, kind: str) -> None:
    assert refused(peer, handshake(f"/fails?kind={kind}")).status == 500


GOOD: dict[str, Callable[[], bytes]] = {
    "list": lambda: handshake("/echo", connection=b"keep-alive, Upgrade"),
    "lower": lambda: handshake("/echo", connection=b"upgrade"),
    "upper": lambda: handshake("/echo", upgrade=b"WebSocket", connection=b"UPGRADE"),
    "no_spaces": lambda: handshake("/echo", connection=b"keep-alive,Upgrade"),
    "origin": lambda: handshake("/echo", b"Origin: http://elsewhere\r\n"),
    "unknown_extension": lambda: handshake("/echo", b"Sec-WebSocket-Extensions: x-mine; a=1\r\n"),
    "absolute": lambda: handshake("http://test/echo"),
}


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_handshake_is_accepted(peer: Peer, kind: str) -> None:
    with socket(peer) as client:
        client.send(GOOD[kind]())
        answer = client.head()
        assert answer.status == 101
        assert "sec-websocket-extensions" not in answer.headers
        client.text("hello")
        assert client.message() == "hello"


BAD: dict[str, Callable[[], bytes]] = {
    "no_key": lambda: handshake("/echo", key=None),
    "empty_key": lambda: handshake("/echo", key=b""),
    "short_key": lambda: handshake("/echo", key=b"c2hvcnQ="),
    "not_base64": lambda: handshake("/echo", key=b"????????????????????????"),
    "two_keys": lambda: handshake("/echo", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"),
    "no_version": lambda: handshake("/echo", ws_version=None),
    "version_8": lambda: handshake("/echo", ws_version=b"8"),
    "version_word": lambda: handshake("/echo", ws_version=b"x"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_handshake_is_refused(peer: Peer, kind: str) -> None:
    assert 400 <= refused(peer, BAD[kind]()).status < 500


def test_a_version_that_is_not_spoken_is_told_which_is(peer: Peer) -> None:
    answer = refused(peer, handshake("/echo", ws_version=b"8"))
    assert answer.values("sec-websocket-version") == [b"13"]


PLAIN: dict[str, Callable[[], bytes]] = {
    "no_upgrade": lambda: handshake("/plain", upgrade=b"", connection=b"keep-alive"),
    "no_connection": lambda: handshake("/plain", connection=b""),
    "other": lambda: handshake("/plain", upgrade=b"h2c"),
    "post": lambda: handshake("/plain", method=b"POST"),
    "http_1_0": lambda: handshake("/plain", version=b"1.0"),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_what_is_no_handshake_is_plain_http_or_refused(peer: Peer, kind: str) -> None:
    answer = refused(peer, PLAIN[kind]())
    if answer.status == 200:
        assert b"'type': 'http'" in answer.body
    else:
        assert 400 <= answer.status < 500


# messages


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000])
@pytest.mark.parametrize("kind", ["text", "bytes"])
def test_a_message_of_any_size_comes_back(peer: Peer, kind: str, size: int) -> None:
    data = (bytes(range(97, 123)) * (size // 26 + 1))[:size]
    with socket(peer) as client:
        client.open("/echo")
        if kind == "text":
            client.text(data.decode())
            assert client.message() == data.decode()
        else:
            client.binary(data)
            assert client.message() == data


@pytest.mark.parametrize("text", ["é", "€ß\0", "🐍" * 50, "\ufeffx", "\U0010ffff"], ids=range(5))
def test_text_is_unicode(peer: Peer, text: str) -> None:
    with socket(peer) as client:
        client.open("/echo")
        client.text(text)
        assert client.message() == text


def test_all_bytes_come_back(peer: Peer) -> None:
    with socket(peer) as client:
        client.open("/echo")
        client.binary(bytes(range(256)))
        assert client.message() == bytes(range(256))


def test_exactly_one_of_text_and_bytes_is_there(peer: Peer) -> None:
    with socket(peer) as client:
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
    with socket(peer) as client:
        client.open("/both")
        assert [client.message() for _ in range(4)] == [b"bytes", "text", "", b""]


@pytest.mark.parametrize(
    "mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x80\x7f\0"], ids=range(3)
)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 63, 1001])
def test_every_mask_is_taken_off(peer: Peer, mask: bytes, size: int) -> None:
    data = (bytes(range(256)) * 4)[:size]
    with socket(peer) as client:
        client.open("/echo")
        client.send(frame(BINARY, data, mask=mask))
        assert client.message() == data


def test_several_messages_in_one_segment_are_all_there(peer: Peer) -> None:
    with socket(peer) as client:
        client.open("/echo")
        client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(50)))
        assert [client.message() for _ in range(50)] == [str(number) for number in range(50)]


def test_a_first_message_may_come_with_the_handshake(peer: Peer) -> None:
    with socket(peer) as client:
        client.open("/echo", more=frame(TEXT, b"one") + frame(BINARY, b"two"))
        assert [client.message(), client.message()] == ["one", b"two"]


def test_a_close_may_come_with_the_handshake(peer: Peer, key: str) -> None:
    with socket(peer) as client:
        client.open(f"/echo?key={key}", more=frame(TEXT, b"one") + closing(1001, b"gone"))
        with suppress(AssertionError, ConnectionError):
            assert client.message() == "one"
        assert left_with(peer, key) == (1001, "gone")


def test_a_frame_may_come_byte_by_byte(peer: Peer) -> None:
    with socket(peer) as client:
        client.open("/echo")
        for byte in frame(TEXT, b"x" * 130) + frame(PING, b"p") + frame(BINARY, b"two"):
            client.send(bytes([byte]))
        assert client.message() == "x" * 130
        assert client.message() == b"two"


def test_a_thousand_messages_come_back_in_order(peer: Peer) -> None:
    with socket(peer) as client:
        client.open("/echo")
        for start in range(0, 1000, 100):
            numbers = range(start, start + 100)
            client.send(b"".join(frame(BINARY, b"%d" % number) for number in numbers))
            assert [client.message() for _ in numbers] == [b"%d" % number for number in numbers]


def test_reading_and_writing_go_on_at_once(peer: Peer, key: str) -> None:
    with socket(peer) as client:
        client.open(f"/writes?key={key}&count=200")
        for number in range(50):
            client.text(f"r{number}")
        assert [client.message() for _ in range(200)] == [str(number) for number in range(200)]
        client.send(closing(1000))
        assert peer.noted(key, "end") == [*(f"r{number}" for number in range(50)), "end"]


@pytest.mark.parametrize("how", ["task", "future", "cancel", "wait_for"])
def test_receive_and_send_return_what_asyncio_takes(peer: Peer, how: str) -> None:
    with socket(peer) as client:
        client.open(f"/scheduled?how={how}")
        for number in range(20):
            client.text(str(number))
            if number % 5 == 0:
                peer.value("/shared")
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
    with socket(peer) as client:
        client.open("/echo")
        client.send(fragments(opcode, *parts))
        assert client.message() == (data.decode() if opcode == TEXT else data)


def test_pings_between_fragments_are_answered_at_once(peer: Peer) -> None:
    with socket(peer) as client:
        client.open("/echo")
        client.send(fragments(TEXT, b"a\xc3", b"\xa9b", b"c", between=frame(PING, b"p")))
        assert client.frame() == (PONG, b"p")
        assert client.frame() == (PONG, b"p")
        assert client.message() == "aébc"


def test_a_close_between_fragments_is_a_close(peer: Peer, key: str) -> None:
    with socket(peer) as client:
        client.open(f"/echo?key={key}")
        client.send(frame(TEXT, b"a", fin=False) + closing(1001))
        assert client.closed_with()[0] == 1001
    assert left_with(peer, key) == (1001, "")


# ping and pong


@pytest.mark.parametrize("payload", [b"", b"payload", bytes(range(125))], ids=["0", "7", "125"])
def test_a_ping_is_answered_by_a_pong_with_its_payload(peer: Peer, payload: bytes) -> None:
    with socket(peer) as client:
        client.open("/echo")
        client.send(frame(PING, payload))
        assert client.frame() == (PONG, payload)


def test_a_pong_nobody_asked_for_is_ignored(peer: Peer) -> None:
    with socket(peer) as client:
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
    with socket(peer) as client:
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
    with socket(peer) as client:
        client.open(f"/echo?key={key}")
        client.send(VIOLATIONS[kind])
        while (message := client.frame())[0] != CLOSE:
            assert message[1] == b"ab"
        assert int.from_bytes(message[1][:2], "big") == 1002
        assert client.closed()
    until("the disconnect", lambda: "end" in peer.notes(key))


def test_a_length_of_more_than_63_bits_is_an_error(peer: Peer) -> None:
    with socket(peer) as client:
        client.open("/echo")
        client.send(frame(BINARY, b"a", length=1 << 63))
        assert client.closed_with()[0] in (1002, 1009)


def test_the_greatest_message_is_taken(peer: Peer) -> None:
    with socket(peer, 20) as client:
        client.open("/repeat")
        client.send(frame(BINARY, b"x" * LIMIT))
        assert client.message() == repr((("NoneType", None), ("bytes", LIMIT)))


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "bytes"])
def test_a_greater_message_is_1009(peer: Peer, key: str, opcode: int) -> None:
    with socket(peer) as client:
        client.open(f"/echo?key={key}")
        client.send(frame(opcode, b"x" * 100, length=LIMIT + 1))
        assert client.closed_with()[0] == 1009
    until("the disconnect", lambda: "end" in peer.notes(key))


def test_fragments_that_are_too_much_together_are_1009(peer: Peer) -> None:
    with socket(peer, 20) as client:
        client.open("/echo")
        piece = frame(CONTINUATION, b"x" * (LIMIT // 8), fin=False)
        client.send(frame(BINARY, b"x", fin=False))
        with suppress(ConnectionError):
            for _ in range(8):
                client.send(piece)
        assert client.closed_with()[0] == 1009


# the end


CODES = [
    (1000, ""),
    (1000, "bye"),
    (1001, "going é away"),
    (1008, ""),
    (1011, "x" * 123),
    (3000, "r"),
    (4999, "🐍"),
]


@pytest.mark.parametrize(("code", "reason"), CODES, ids=[f"{c}-{len(r)}" for c, r in CODES])
def test_a_clients_close_reaches_the_application_and_is_answered(
    peer: Peer, key: str, code: int, reason: str
) -> None:
    with socket(peer) as client:
        client.open(f"/echo?key={key}")
        client.send(closing(code, reason.encode()))
        assert client.closed_with()[0] == code
        assert client.closed()
    assert left_with(peer, key) == (code, reason)


def test_a_close_without_a_code_is_1005(peer: Peer, key: str) -> None:
    with socket(peer) as client:
        client.open(f"/echo?key={key}")
        client.send(closing())
        assert client.closed_with()[0] in (1000, 1005)
        assert client.closed()
    assert left_with(peer, key) == (1005, "")


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_a_client_that_leaves_without_a_close_is_1006(peer: Peer, key: str, reset: bool) -> None:
    before = peer.errors()
    with socket(peer) as client:
        client.open(f"/echo?key={key}")
        client.text("hello")
        assert client.message() == "hello"
        if reset:
            client.reset()
    assert left_with(peer, key)[0] == 1006
    assert peer.errors() == before


def test_a_client_may_leave_before_accept(peer: Peer, key: str) -> None:
    before = peer.errors()
    with socket(peer) as client:
        client.send(handshake(f"/held?key={key}"))
        peer.noted(key, "websocket.connect")
    peer.open(key)
    assert "cancelled" not in peer.noted(key, "end")
    assert peer.errors() == before


@pytest.mark.parametrize(
    ("query", "code", "reason"),
    [
        ("", 1000, ""),
        ("&code=1001", 1001, ""),
        ("&code=1011&reason=broken", 1011, "broken"),
        ("&code=4001&reason=gr%C3%BCn", 4001, None),
        ("&reason=only", 1000, "only"),
    ],
    ids=["default", "1001", "1011", "4001", "reason"],
)
def test_an_applications_close_reaches_the_client(
    peer: Peer, key: str, query: str, code: int, reason: str | None
) -> None:
    with socket(peer) as client:
        client.open(f"/closes?key={key}{query}")
        seen = client.closed_with()
        assert seen[0] == code and (reason is None or seen[1] == reason)
        client.send(closing(code))
        assert client.closed()
    assert peer.noted(key, "end")[0][0] == "websocket.disconnect"


def test_an_application_that_raises_is_1011(peer: Peer) -> None:
    with socket(peer) as client:
        client.open("/fails?kind=raises")
        assert client.message() == "hello"
        assert client.closed_with()[0] == 1011


def test_an_application_that_raises_later_is_1011(peer: Peer) -> None:
    with socket(peer) as client:
        client.open("/fails?kind=later")
        assert client.message() == "hello"
        client.text("now")
        assert client.closed_with()[0] == 1011


def test_an_application_that_returns_closes_its_socket(peer: Peer) -> None:
    with socket(peer) as client:
        client.open("/fails?kind=returns")
        assert client.message() == "hello"
        with suppress(ConnectionError):
            client.closed_with()
            client.send(closing(1000))
        assert client.closed()


def test_send_after_the_own_close_is_ignored_or_raises(peer: Peer, key: str) -> None:
    with socket(peer) as client:
        client.open(f"/sends_after_close?key={key}")
        assert client.closed_with() == (1000, "")
        client.send(closing(1000))
        assert client.closed()
    assert len(peer.noted(key, "end")) == 3


@pytest.mark.parametrize("how", ["close", "fin", "rst"])
def test_send_after_the_client_left_returns_or_raises_an_oserror(
    peer: Peer, key: str, how: str
) -> None:
    before = peer.errors()
    with socket(peer) as client:
        client.open(f"/sends_after_leave?key={key}")
        if how == "close":
            client.send(closing(1000))
            assert client.closed_with()[0] == 1000
        elif how == "rst":
            client.reset()
    notes = peer.noted(key, "end")
    assert notes[0] == "websocket.disconnect"
    assert set(notes[1:4]) <= {"returned", "raised OSError"}
    assert peer.errors() == before


def test_nothing_is_received_after_the_disconnect(peer: Peer, key: str) -> None:
    with socket(peer) as client:
        client.open(f"/receives_after_leave?key={key}")
        client.send(closing(1000) + frame(TEXT, b"late"))
    notes = peer.noted(key, "end")
    assert notes[0] == "websocket.disconnect"
    assert notes[1] in ("none", "websocket.disconnect")


# what an application does wrong


@pytest.mark.parametrize(
    "kind",
    ["accept_twice", "unknown", "http", "denial", "no_type", "str_bytes", "bytes_text"],
)
def test_a_mistake_raises_and_leaves_no_trace(peer: Peer, key: str, kind: str) -> None:
    with socket(peer) as client:
        client.open(f"/wrong?kind={kind}&key={key}")
        assert client.message() == "right"
    assert peer.notes(key)[0] == "raised Exception"


@pytest.mark.parametrize("kind", ["send", "unknown", "http"])
def test_a_mistake_before_accept_raises_and_leaves_no_trace(
    peer: Peer, key: str, kind: str
) -> None:
    with socket(peer) as client:
        client.open(f"/early?kind={kind}&key={key}")
        assert client.message() == "right"
    assert peer.notes(key)[0] == "raised Exception"


# backpressure


def test_a_producer_waits_for_a_client_that_does_not_read(peer: Peer) -> None:
    total = 1600 * 65536
    with socket(peer, 15) as client:
        client.open("/firehose")
        seen = [-1]

        def still() -> bool:
            for _ in range(50):
                peer.value("/progress")
            seen.append(peer.value("/progress"))
            return seen[-1] == seen[-2]

        until("the producer stands still", still, 20)
        assert 0 < seen[-1] < total * 0.4

        size = 0
        while size < total:
            size += len(client.message())
        assert size == total


def test_a_client_waits_for_an_application_that_does_not_read(peer: Peer, key: str) -> None:
    piece = frame(BINARY, b"x" * 262_144)
    with socket(peer) as client:
        client.open(f"/slow?key={key}")
        client.socket.settimeout(0.3)
        data = piece * 256
        sent = 0

        with pytest.raises(TimeoutError):
            while sent < len(data):
                sent += client.socket.send(data[sent : sent + 1_000_000])

        peer.open(key)
        client.socket.settimeout(20 * SLOWER)
        client.send(data[sent:] + frame(BINARY))
        assert client.message() == str(256 * 262_144)


# a client of another make


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_the_websockets_library_is_served(peer: Peer, key: str, compression: str | None) -> None:
    uri = f"ws://127.0.0.1:{peer.port}/echo?key={key}"
    with connect(uri, compression=compression) as client:
        for message in ("text", b"bytes", "x" * 100_000, b"", "é" * 1000):
            client.send(message)
            assert client.recv(15 * SLOWER) == message
        client.ping().wait(15 * SLOWER)
        client.close(4000, "bye")
    assert left_with(peer, key) == (4000, "bye")


def test_the_websockets_library_sees_the_applications_close(peer: Peer) -> None:
    uri = f"ws://127.0.0.1:{peer.port}/closes?code=4001&reason=no&key=k"
    with connect(uri) as client, pytest.raises(ConnectionClosed) as caught:
        client.recv(15 * SLOWER)
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "no")
