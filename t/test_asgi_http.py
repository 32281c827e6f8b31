"""ASGI HTTP 2.5, the response and its connection, asked of databridge and of uvicorn."""

import pytest

from harness.asgi import Peer, in_step, refused, request, same_connection

APP = """
import asyncio
from collections import UserDict
from http import HTTPStatus

from kit import answer, app, body, case, gate, option, start


def pairs(*names):
    return [[name, b"1"] for name in names]



@case
async def status(scope, receive, send):
    await send(start(int(option(scope, "status"))))
    await send(body(b"body"))


@case
async def status_enum(scope, receive, send):
    await send(start(HTTPStatus.CREATED, content_length="0"))
    await send(body())


BAD_STATUS = {"missing": None, "str": "200", "zero": 0, "four": 2000, "none": None}


@case
async def bad_status(scope, receive, send):
    kind = option(scope, "kind")
    message = start()
    message["status"] = BAD_STATUS[kind]
    if kind == "missing":
        del message["status"]
    await send(message)
    await send(body(b"body"))


HEADERS = {
    "lists": lambda: pairs(b"x-a", b"x-b"),
    "tuples": lambda: ((b"x-a", b"1"), (b"x-b", b"1")),
    "generator": lambda: ((name, b"1") for name in (b"x-a", b"x-b")),
    "items": lambda: {b"x-a": b"1", b"x-b": b"1"}.items(),
    "iterators": lambda: (iter(pair) for pair in pairs(b"x-a", b"x-b")),
}


@case
async def headers(scope, receive, send):
    await send({**start(), "headers": HEADERS[option(scope, "kind")]()})
    await send(body(b"body"))


@case
async def no_headers(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send(body(b"body"))


SET = [
    (b"date", b"Tue, 01 Jan 2030 00:00:00 GMT"),
    (b"server", b"mine"),
    (b"content-type", b"application/json"),
    (b"etag", b'W/"tag"'),
    (b"last-modified", b"Tue, 01 Jan 2019 00:00:00 GMT"),
    (b"cache-control", b"no-store, max-age=0"),
    (b"content-encoding", b"identity"),
    (b"content-language", b"de"),
    (b"content-disposition", b'attachment; filename="a b"'),
    (b"accept-ranges", b"bytes"),
    (b"content-range", b"bytes 0-3/4"),
    (b"location", b"/relative?a=b"),
    (b"refresh", b"5"),
    (b"expires", b"0"),
    (b"link", b"</a>; rel=next"),
    (b"vary", b"accept"),
    (b"allow", b"GET"),
    (b"retry-after", b"7"),
    (b"www-authenticate", b"Basic"),
    (b"strict-transport-security", b"max-age=1"),
    (b"x-accel-redirect", b"/elsewhere"),
    (b"x-accel-buffering", b"no"),
    (b"x_under.dot", b"1"),
    (b"x-empty", b""),
    (b"x-latin", b"caf\\xe9"),
]


@case
async def kept(scope, receive, send):
    await send({**start(), "headers": SET})
    await send(body(b"body"))


@case
async def ordered(scope, receive, send):
    names = (b"set-cookie", b"x-a", b"set-cookie", b"x-b", b"set-cookie", b"x-a")
    await send({**start(), "headers": [(name, b"%d" % i) for i, name in enumerate(names)]})
    await send(body(b"body"))


@case
async def split(scope, receive, send):
    bad = option(scope, "bad").encode("latin-1")
    pair = (b"x-" + bad, b"1") if option(scope, "name") else (b"x-split", b"a" + bad + b"x-in: b")
    await send({**start(), "headers": [(b"x-first", b"1"), pair]})
    await send(body(b"body"))


@case
async def transfer_encoding(scope, receive, send):
    await send(start(transfer_encoding=option(scope, "value")))
    await send(body(b"body"))


# bodies


BODIES = {
    "bytes": b"body",
    "bytearray": bytearray(b"body"),
    "memoryview": memoryview(b"a body too far")[2:6],
}


@case
async def kinds(scope, receive, send):
    await send(start())
    await send(body(BODIES[option(scope, "kind")], True))
    await send(body(BODIES[option(scope, "kind")]))


@case
async def no_body(scope, receive, send):
    await send(start())
    await send({"type": "http.response.body"})


@case
async def mapping(scope, receive, send):
    await send(UserDict(start(201)))
    await send(UserDict(body(b"body")))


@case
async def empty_pieces(scope, receive, send):
    await send(start())
    for piece in (b"", b"one", b"", b"two", b""):
        await send(body(piece, True))
    await send(body())


@case
async def pieces(scope, receive, send):
    await send(start())
    for number in range(int(option(scope, "count"))):
        await send(body(b"%d," % number, True))
    await send(body())


@case
async def flushed(scope, receive, send):
    await send(start())
    await send(body(b"first", True))
    await gate(scope)
    await send(body(b"second"))


@case
async def events(scope, receive, send):
    async def stream():
        await send(start(content_type="text/event-stream"))
        await gate(scope)
        if option(scope, "kind") == "fails":
            raise ValueError("no event")
        await send(body(b"data: 1"))

    if option(scope, "kind") == "task":
        await asyncio.create_task(stream())
    else:
        await stream()


@case
async def reused(scope, receive, send):
    data = bytearray(b"a" * int(option(scope, "size")))
    await send(start())
    await send(body(data, True))
    data[:] = b"b" * len(data)
    await send(body(data))


@case
async def large(scope, receive, send):
    data = bytes(range(256)) * 4096
    count = int(option(scope, "count"))
    await send(start(content_length=str(len(data) * count)))
    for _ in range(count - 1):
        await send(body(data, True))
    await send(body(data))


@case
async def length(scope, receive, send):
    await send(start(int(option(scope, "status", "200")), content_length="4"))
    await send(body(b"body"))


@case
async def no_length(scope, receive, send):
    await send(start(int(option(scope, "status", "200"))))
    await send(body(b"bo", True))
    await send(body(b"dy"))


@case
async def slow(scope, receive, send):
    await asyncio.sleep(float(option(scope, "seconds")))
    await answer(send, option(scope, "seconds"))


@case
async def scheduled(scope, receive, send):
    await asyncio.create_task(send(start()))
    await asyncio.ensure_future(send(body(b"one", True)))
    await asyncio.wait_for(send(body(b"two", True)), 30)
    await asyncio.gather(send(body(b"three")))
"""


# the start of a response


@pytest.mark.parametrize(
    "status",
    [200, 201, 202, 203, 206, 226, 300, 301, 302, 303, 307, 308]
    + [400, 401, 402, 403, 404, 405, 409, 410, 412, 413, 416, 418, 422, 429, 431, 451]
    + [500, 501, 502, 503, 504, 511, 599],
)
def test_a_status_and_its_body_are_the_applications(peer: Peer, status: int) -> None:
    answer = in_step(peer, f"/status?status={status}")
    assert (answer.status, answer.body) == (status, b"body")


def test_a_status_may_be_an_enum(peer: Peer) -> None:
    assert peer.ask("/status_enum").status == 201


@pytest.mark.parametrize("kind", ["missing", "str", "zero", "four", "none"])
def test_a_status_that_is_none_is_refused(peer: Peer, kind: str) -> None:
    refused(peer, f"/bad_status?kind={kind}")


@pytest.mark.parametrize("kind", ["lists", "tuples", "generator", "items", "iterators"])
def test_headers_are_any_iterable_of_pairs(peer: Peer, kind: str) -> None:
    answer = peer.ask(f"/headers?kind={kind}")
    assert (answer.headers["x-a"], answer.headers["x-b"]) == ("1", "1")


def test_headers_may_be_missing(peer: Peer) -> None:
    assert peer.ask("/no_headers").body == b"body"


@pytest.mark.parametrize("name", ["content-type", "etag", "last-modified", "cache-control"])
def test_no_header_is_invented(peer: Peer, name: str) -> None:
    assert name not in peer.ask("/no_headers").headers


KEPT = {
    "date": b"Tue, 01 Jan 2030 00:00:00 GMT",
    "server": b"mine",
    "content-type": b"application/json",
    "etag": b'W/"tag"',
    "last-modified": b"Tue, 01 Jan 2019 00:00:00 GMT",
    "cache-control": b"no-store, max-age=0",
    "content-encoding": b"identity",
    "content-language": b"de",
    "content-disposition": b'attachment; filename="a b"',
    "accept-ranges": b"bytes",
    "content-range": b"bytes 0-3/4",
    "location": b"/relative?a=b",
    "refresh": b"5",
    "expires": b"0",
    "link": b"</a>; rel=next",
    "vary": b"accept",
    "allow": b"GET",
    "retry-after": b"7",
    "www-authenticate": b"Basic",
    "strict-transport-security": b"max-age=1",
    "x-accel-redirect": b"/elsewhere",
    "x-accel-buffering": b"no",
    "x_under.dot": b"1",
    "x-empty": b"",
    "x-latin": b"caf\xe9",
}


@pytest.mark.parametrize("name", KEPT)
def test_a_header_of_the_application_is_sent_once_and_as_it_is(peer: Peer, name: str) -> None:
    assert peer.ask("/kept").values(name) == [KEPT[name]]


@pytest.mark.parametrize(
    "line",
    [
        b'If-None-Match: W/"tag"',
        b"If-Modified-Since: Tue, 01 Jan 2019 00:00:00 GMT",
        b'If-Match: "other"',
        b"If-Unmodified-Since: Tue, 01 Jan 2008 00:00:00 GMT",
        b"Range: bytes=0-1",
        b"Accept-Encoding: gzip",
    ],
    ids=lambda line: line.partition(b":")[0].decode(),
)
def test_conditions_and_ranges_are_the_applications_to_answer(peer: Peer, line: bytes) -> None:
    answer = peer.ask("/kept", line + b"\r\n")
    assert (answer.status, answer.body) == (200, b"body")


def test_headers_are_sent_in_order_and_never_folded(peer: Peer) -> None:
    answer = peer.ask("/ordered")
    assert answer.values("set-cookie") == [b"0", b"2", b"4"]
    assert answer.values("x-a") == [b"1", b"5"]
    mine = [name for name, _ in answer.pairs if name in (b"set-cookie", b"x-a", b"x-b")]
    assert mine == [b"set-cookie", b"x-a", b"set-cookie", b"x-b", b"set-cookie", b"x-a"]


def test_one_date_and_at_most_one_server(peer: Peer) -> None:
    answer = peer.ask("/no_headers")
    assert len(answer.values("date")) == 1
    assert len(answer.values("server")) <= 1


@pytest.mark.parametrize("name", ["", "1"], ids=["value", "name"])
@pytest.mark.parametrize("bad", ["%0d%0a", "%0a", "%0d", "%00"])
def test_a_header_cannot_be_split(peer: Peer, bad: str, name: str) -> None:
    answer = peer.ask(f"/split?bad={bad}&name={name}")
    assert answer.status == 500
    assert "x-first" not in answer.headers and "x-in" not in answer.headers


@pytest.mark.parametrize("value", ["chunked", "gzip", "identity"])
def test_transfer_encoding_is_the_servers(peer: Peer, value: str) -> None:
    answer = in_step(peer, f"/transfer_encoding?value={value}")
    assert answer.values("transfer-encoding") in ([], [b"chunked"])
    assert answer.body == b"body"


# bodies


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview"])
def test_a_body_is_any_kind_of_bytes(peer: Peer, kind: str) -> None:
    assert peer.ask(f"/kinds?kind={kind}").body == b"bodybody"


def test_a_missing_body_is_empty(peer: Peer) -> None:
    answer = in_step(peer, "/no_body")
    assert (answer.status, answer.body) == (200, b"")


def test_a_message_is_any_mapping(peer: Peer) -> None:
    answer = peer.ask("/mapping")
    assert (answer.status, answer.body) == (201, b"body")


def test_an_empty_piece_does_not_end_the_body(peer: Peer) -> None:
    assert in_step(peer, "/empty_pieces").body == b"onetwo"


@pytest.mark.parametrize("count", [1, 100, 5000])
def test_many_pieces_arrive_whole(peer: Peer, count: int) -> None:
    expected = b"".join(b"%d," % number for number in range(count))
    assert in_step(peer, f"/pieces?count={count}").body == expected


def test_a_piece_is_sent_before_the_next_one_is_there(peer: Peer, key: str) -> None:
    with peer.raw() as client:
        client.get(f"/flushed?key={key}")
        client.head()
        assert client.chunk() == b"first"
        peer.open(key)
        assert client.chunk() == b"second"


@pytest.mark.parametrize("kind", ["plain", "task"])
def test_an_event_stream_begins_before_its_first_event(peer: Peer, kind: str, key: str) -> None:
    with peer.raw() as client:
        client.get(f"/events?kind={kind}&key={key}")
        assert client.head().status == 200
        peer.open(key)
        assert client.chunk() == b"data: 1"
        assert client.chunk() == b""


def test_an_event_stream_that_fails_before_its_first_event_is_cut(peer: Peer, key: str) -> None:
    with peer.raw() as client:
        client.get(f"/events?kind=fails&key={key}")
        client.head()
        peer.open(key)
        assert client.closed()


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_buffer_may_be_used_again_after_send(peer: Peer, size: int) -> None:
    assert peer.ask(f"/reused?size={size}").body == b"a" * size + b"b" * size


@pytest.mark.parametrize("count", [1, 16])
def test_a_large_body_arrives_whole(peer: Peer, count: int) -> None:
    assert peer.ask(f"/large?count={count}").body == bytes(range(256)) * 4096 * count


def test_a_content_length_is_the_framing(peer: Peer) -> None:
    answer = in_step(peer, "/length")
    assert answer.values("content-length") == [b"4"]
    assert "transfer-encoding" not in answer.headers


def test_without_a_content_length_http_1_1_gets_chunks(peer: Peer) -> None:
    answer = in_step(peer, "/no_length")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert (answer.body, "content-length" in answer.headers) == (b"body", False)


def test_without_a_content_length_http_1_0_gets_bytes_until_the_end(peer: Peer) -> None:
    answer = peer.ask("/no_length", version=b"1.0")
    assert "transfer-encoding" not in answer.headers
    assert answer.body == b"body"


@pytest.mark.parametrize("path", ["/length", "/no_length", "/large?count=2"])
def test_head_has_the_header_and_no_body(peer: Peer, path: str) -> None:
    answer = in_step(peer, path, method=b"HEAD")
    length = peer.ask(path).headers.get("content-length")
    assert answer.status == 200
    assert answer.headers.get("content-length") == length


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("path", ["/status", "/no_length", "/length"])
def test_204_and_304_have_no_body(peer: Peer, path: str, status: int) -> None:
    first, second = same_connection(peer, f"{path}?status={status}")
    assert first.status == status
    assert "transfer-encoding" not in first.headers
    assert second is None or second.status == 200


def test_204_has_no_content_length(peer: Peer) -> None:
    assert "content-length" not in peer.ask("/status?status=204").headers


def test_304_may_have_the_length_of_what_it_stands_for(peer: Peer) -> None:
    assert peer.ask("/length?status=304").headers.get("content-length") in (None, "4")


# connections


def test_http_1_1_keeps_its_connection(peer: Peer) -> None:
    with peer.raw() as client:
        for path in ("/length", "/no_length", "/no_body", "/scope") * 3:
            client.get(path)
            assert client.response().status == 200


def test_http_1_1_closes_when_asked(peer: Peer) -> None:
    with peer.raw() as client:
        client.get("/length", "Connection: close\r\n")
        answer = client.response()
        assert (answer.headers["connection"], answer.body) == ("close", b"body")
        assert client.closed()


def test_http_1_0_closes(peer: Peer) -> None:
    with peer.raw() as client:
        client.send(request("/length", version=b"1.0"))
        assert client.response().body == b"body"
        assert client.closed()


def test_http_1_0_keeps_its_connection_only_by_agreement(peer: Peer) -> None:
    with peer.raw() as client:
        message = request("/length", b"Connection: keep-alive\r\n", version=b"1.0")
        client.send(message)
        answer = client.response()
        assert answer.body == b"body"
        if answer.headers.get("connection", "close").lower() == "keep-alive":
            client.send(message)
            assert client.response().body == b"body"
        else:
            assert client.closed()


def test_pipelined_requests_are_answered_in_order(peer: Peer) -> None:
    times = ["0.05", "0", "0.02", "0", "0", "0.01"]
    with peer.raw() as client:
        client.send(b"".join(request(f"/slow?seconds={seconds}") for seconds in times))
        assert [client.response().body for _ in times] == [repr(t).encode() for t in times]


def test_pipelined_bodies_are_kept_apart(peer: Peer) -> None:
    with peer.raw() as client:
        parts = [request("/length", method=b"POST", content=b"x" * n) for n in (10, 3000, 1)]
        client.send(b"".join(parts) + request("/scope?next"))
        assert [client.response().body for _ in parts] == [b"body"] * 3
        assert b"b'next'" in client.response().body


def test_send_returns_what_asyncio_takes(peer: Peer) -> None:
    assert peer.ask("/scheduled").body == b"onetwothree"
