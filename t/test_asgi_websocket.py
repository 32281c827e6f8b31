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
    TEXT,
    accept_key,
    closing,
    frame,
    handshake,
)

APP = """
import asyncio

from kit import ACCEPT, answer, app, attempt, case, gate, note, option, socket, text

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


def described(peer: Peer, target: str | bytes, headers: bytes = b"") -> Any:
    with peer.socket() as client:
        client.open(target, headers)
        message = client.message()
        client.send(closing(1000))
    assert isinstance(message, str)
    return literal_eval(message)


def refused(peer: Peer, data: bytes) -> RawResponse:
    """The answer to a handshake that does not succeed; the connection is not upgraded."""
    with peer.socket() as client:
        client.send(data)
        answer = client.response()
    assert answer.status != 101
    return answer


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
    with peer.socket() as client:
        client.send(handshake(f"/held?key={key}"))
        assert peer.noted(key, "websocket.connect") == ["websocket.connect"]
        assert select.select([client.socket], [], [], 0) == ([], [], [])
        peer.open(key)
        assert client.head().status == 101


def test_nothing_is_received_between_connect_and_accept(peer: Peer, key: str) -> None:
    with peer.socket() as client:
        client.open(f"/waits?key={key}", more=frame(TEXT, b"early"))
        assert peer.noted(key, "end") == [False, "websocket.receive", "end"]


def test_an_accepted_handshake_is_as_rfc_6455_has_it(peer: Peer) -> None:
    with peer.socket() as client:
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
    with peer.socket() as client:
        answer = client.open("/headers?kind=lists")
    assert answer.values("x-a") == [b"1"]
    assert answer.values("set-cookie") == [b"a=1", b"b=2"]


@pytest.mark.parametrize(("kind", "value"), [("generator", b"1"), ("latin", b"caf\xe9")])
def test_headers_of_accept_are_any_iterable_of_bytes(peer: Peer, kind: str, value: bytes) -> None:
    with peer.socket() as client:
        assert client.open(f"/headers?kind={kind}").values("x-a") == [value]


def test_headers_of_accept_cannot_be_split(peer: Peer) -> None:
    with peer.socket() as client, suppress(ConnectionError):
        client.send(handshake("/headers?kind=crlf"))
        answer = client.head()
        assert answer.status == 500
        assert "x-in" not in answer.headers


@pytest.mark.parametrize("choice", ["", "b"])
def test_the_subprotocol_is_the_applications_choice(peer: Peer, choice: str) -> None:
    with peer.socket() as client:
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
    with peer.socket() as client:
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
    with peer.socket() as client:
        client.open(f"/echo?key={key}")
        client.send(closing(code, reason.encode()))
        assert client.closed_with()[0] == code
        assert client.closed()
    assert peer.left_with(key) == (code, reason)


def test_a_close_without_a_code_is_1005(peer: Peer, key: str) -> None:
    with peer.socket() as client:
        client.open(f"/echo?key={key}")
        client.send(closing())
        assert client.closed_with()[0] in (1000, 1005)
        assert client.closed()
    assert peer.left_with(key) == (1005, "")


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_a_client_that_leaves_without_a_close_is_1006(peer: Peer, key: str, reset: bool) -> None:
    before = peer.errors()
    with peer.socket() as client:
        client.open(f"/echo?key={key}")
        client.text("hello")
        assert client.message() == "hello"
        if reset:
            client.reset()
    assert peer.left_with(key)[0] == 1006
    assert peer.errors() == before


def test_a_client_may_leave_before_accept(peer: Peer, key: str) -> None:
    before = peer.errors()
    with peer.socket() as client:
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
    with peer.socket() as client:
        client.open(f"/closes?key={key}{query}")
        seen = client.closed_with()
        assert seen[0] == code and (reason is None or seen[1] == reason)
        client.send(closing(code))
        assert client.closed()
    assert peer.noted(key, "end")[0][0] == "websocket.disconnect"


def test_an_application_that_raises_is_1011(peer: Peer) -> None:
    with peer.socket() as client:
        client.open("/fails?kind=raises")
        assert client.message() == "hello"
        assert client.closed_with()[0] == 1011


def test_an_application_that_raises_later_is_1011(peer: Peer) -> None:
    with peer.socket() as client:
        client.open("/fails?kind=later")
        assert client.message() == "hello"
        client.text("now")
        assert client.closed_with()[0] == 1011


def test_an_application_that_returns_closes_its_socket(peer: Peer) -> None:
    with peer.socket() as client:
        client.open("/fails?kind=returns")
        assert client.message() == "hello"
        with suppress(ConnectionError):
            client.closed_with()
            client.send(closing(1000))
        assert client.closed()


def test_send_after_the_own_close_is_ignored_or_raises(peer: Peer, key: str) -> None:
    with peer.socket() as client:
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
    with peer.socket() as client:
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
    with peer.socket() as client:
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
    with peer.socket() as client:
        client.open(f"/wrong?kind={kind}&key={key}")
        assert client.message() == "right"
    assert peer.notes(key)[0] == "raised Exception"


@pytest.mark.parametrize("kind", ["send", "unknown", "http"])
def test_a_mistake_before_accept_raises_and_leaves_no_trace(
    peer: Peer, key: str, kind: str
) -> None:
    with peer.socket() as client:
        client.open(f"/early?kind={kind}&key={key}")
        assert client.message() == "right"
    assert peer.notes(key)[0] == "raised Exception"


# backpressure


def test_a_producer_waits_for_a_client_that_does_not_read(peer: Peer) -> None:
    total = 1600 * 65536
    with peer.socket(15) as client:
        client.open("/firehose")
        seen = [-1]

        def still() -> bool:
            for _ in range(50):
                peer.value("/progress")
            seen.append(peer.value("/progress"))
            return seen[-1] == seen[-2] > 0

        until("the producer stands still", still, 20)
        assert seen[-1] < total * 0.4

        size = 0
        while size < total:
            size += len(client.message())
        assert size == total


def test_a_client_waits_for_an_application_that_does_not_read(peer: Peer, key: str) -> None:
    piece = frame(BINARY, b"x" * 262_144)
    with peer.socket() as client:
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
    assert peer.left_with(key) == (4000, "bye")


def test_the_websockets_library_sees_the_applications_close(peer: Peer) -> None:
    uri = f"ws://127.0.0.1:{peer.port}/closes?code=4001&reason=no&key=k"
    with connect(uri) as client, pytest.raises(ConnectionClosed) as caught:
        client.recv(15 * SLOWER)
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "no")
