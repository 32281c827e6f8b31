"""ASGI HTTP 2.5, the scope and the response, asked of databridge and of uvicorn."""

from typing import Any

import pytest

from harness import SLOWER, RawResponse, until
from harness.asgi import Peer, request

APP = """
import asyncio
from collections import UserDict
from http import HTTPStatus

from kit import answer, app, attempt, body, case, gate, note, option, read, start


def pairs(*names):
    return [[name, b"1"] for name in names]


@case
async def state(scope, receive, send):
    scope["state"]["shared"].append(option(scope, "key"))
    seen = sorted(scope["state"])
    scope["state"]["mine"] = 1
    scope["state"]["number"] += 1
    await answer(send, (seen, scope["state"]["number"], len(scope["state"]["shared"])))


@case
async def dirty(scope, receive, send):
    seen = sorted(scope) + sorted(scope["asgi"]) + sorted(scope.get("extensions") or {})
    scope["mine"] = 1
    scope["asgi"]["mine"] = 1
    if scope.get("extensions") is not None:
        scope["extensions"]["mine"] = 1
    await answer(send, seen)


@case
async def types(scope, receive, send):
    headers = [(type(name).__name__, type(value).__name__) for name, value in scope["headers"]]
    await answer(send, ({name: type(value).__name__ for name, value in scope.items()}, headers))


# the start


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


# what an application does wrong


MISTAKES = {
    "start_twice": [start(200, x_first="1"), start(201, x_second="1")],
    "body_first": [body(b"early")],
    "unknown": [{"type": "http.response.wrong"}],
    "unknown_late": [start(), {"type": "http.response.wrong"}],
    "no_type": [{}],
    "websocket": [{"type": "websocket.accept"}],
    "str": [start(), {"type": "http.response.body", "body": "text"}],
    "int": [start(), {"type": "http.response.body", "body": 7}],
    "str_header": [{**start(), "headers": [("x-a", "1")]}],
    "single_header": [{**start(), "headers": [(b"x-a",)]}],
    "bad_length": [start(content_length="four")],
    "not_a_mapping": [7],
}


@case
async def mistake(scope, receive, send):
    for message in MISTAKES[option(scope, "kind")]:
        await send(message)
    if scope["path"].endswith("/rest"):
        await send(body(b"rest"))


@case
async def caught(scope, receive, send):
    *before, wrong = MISTAKES[option(scope, "kind")]
    for message in before:
        await send(message)
    try:
        await send(wrong)
    except Exception:
        note(scope, "raised")
    if not before:
        await send(start())
    await send(body(b"right"))


@case
async def too_much(scope, receive, send):
    await send(start(content_length="3"))
    for piece in {"one": [b"abcdef"], "two": [b"ab", b"cdef"]}[option(scope, "kind")]:
        await attempt(scope, send(body(piece, True)))
    await attempt(scope, send(body()))


@case
async def too_little(scope, receive, send):
    await send(start(content_length="10"))
    await send(body(b"short"))


@case
async def after(scope, receive, send):
    await send(start())
    await send(body(b"whole"))
    for message in (body(b"more"), start(201), body(b"most", True)):
        await attempt(scope, send(message))


@case
async def fails(scope, receive, send):
    kind = option(scope, "kind")
    if kind == "before":
        raise ValueError("on purpose")
    if kind == "cancelled":
        raise asyncio.CancelledError
    if kind == "nothing":
        return
    await send(start(**({"content_length": "10"} if "length" in kind else {})))
    if "held" not in kind:
        await send(body(b"part", True))
    if "return" not in kind:
        raise ValueError("on purpose")


@case
async def fails_after(scope, receive, send):
    await send(start())
    await send(body(b"whole"))
    raise ValueError("on purpose")


# clients that leave or do not read


@case
async def left(scope, receive, send):
    await read(receive)
    await send(start())
    await send(body(b"first", True))
    note(scope, (await receive())["type"])
    await attempt(scope, send(body(b"x" * 100000, True)))
    await attempt(scope, send(body(b"last")))
    note(scope, (await receive())["type"])


@case
async def left_before(scope, receive, send):
    await read(receive)
    note(scope, "read")
    note(scope, (await receive())["type"])
    await attempt(scope, send(start()))
    await attempt(scope, send(body(b"whole")))


@case
async def left_sending(scope, receive, send):
    await send(start())
    note(scope, "started")
    try:
        for number in range(100000):
            await send(body(b"x" * 65536, True))
            await asyncio.sleep(0)
            if number == 1000:
                waited = asyncio.create_task(receive())
                while (await waited)["type"] != "http.disconnect":
                    waited = asyncio.create_task(receive())
    except OSError:
        note(scope, "OSError")


sent = 0


@case
async def firehose(scope, receive, send):
    global sent
    await send(start())
    for _ in range(1600):
        await send(body(b"x" * 65536, True))
        sent += 65536
    await send(body())


@case
async def progress(scope, receive, send):
    await answer(send, sent)


# extensions: what the scope does not name is an unknown message


@case
async def trailers(scope, receive, send):
    if "http.response.trailers" not in scope.get("extensions", {}):
        await answer(send, "not advertised")
        return
    await send({**start(trailer="x-sum, x-more"), "trailers": True})
    await send(body(b"body"))
    trailer = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1"), (b"x-sum", b"2")]}
    await send({**trailer, "more_trailers": True})
    await send({**trailer, "headers": [(b"x-more", b"3")]})


@case
async def pathsend(scope, receive, send):
    if "http.response.pathsend" not in scope.get("extensions", {}):
        await answer(send, "not advertised")
        return
    await send(start(content_type="text/plain"))
    await send({"type": "http.response.pathsend", "path": __file__})


@case
async def early_hint(scope, receive, send):
    if "http.response.early_hint" not in scope.get("extensions", {}):
        await answer(send, "not advertised")
        return
    links = [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]
    await send({"type": "http.response.early_hint", "links": links})
    await send(start())
    await send(body(b"body"))


@case
async def unadvertised(scope, receive, send):
    message = {"type": option(scope, "type"), "path": __file__, "links": [], "headers": []}
    await send(start())
    if message["type"] in scope.get("extensions", {}):
        note(scope, "advertised")
    else:
        await attempt(scope, send(message))
    await send(body(b"body"))
"""


def same_connection(peer: Peer, target: str, **more: Any) -> tuple[RawResponse, RawResponse | None]:
    """The answer, and the next one of the connection unless it was closed."""
    with peer.raw() as client:
        client.send(request(target, **more) + request("/scope?next"))
        first = client.response(head=more.get("method") == b"HEAD")

        try:
            return first, client.response()
        except ConnectionError:
            assert client.buffer == b""
            return first, None


def in_step(peer: Peer, target: str, **more: Any) -> RawResponse:
    """The answer; nothing of it may be taken for a part of the next one."""
    first, second = same_connection(peer, target, **more)
    assert second is None or (second.status == 200 and b"b'next'" in second.body)
    return first


def broken(peer: Peer, target: str) -> bool:
    """Whether the client can see that the response is not whole."""
    try:
        return peer.ask(target).status == 500
    except ConnectionError:
        return True


def refused(peer: Peer, target: str) -> None:
    """The answer is a 500, or there is none; nothing of the application's is sent."""
    try:
        answer = in_step(peer, target)
    except ConnectionError as error:
        assert str(error) == "closed after b''"
        return

    assert answer.status == 500
    assert b"early" not in answer.body


# the scope


def test_the_type_is_http(peer: Peer) -> None:
    assert peer.value("/scope")["type"] == "http"


def test_the_versions_of_asgi_are_strings(peer: Peer) -> None:
    asgi = peer.value("/scope")["asgi"]
    assert asgi["version"] == "3.0"
    assert asgi["spec_version"] in ("2.0", "2.1", "2.2", "2.3", "2.4", "2.5")


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_the_version_of_http_is_the_requests(peer: Peer, version: bytes) -> None:
    assert peer.value("/scope", version=version)["http_version"] == version.decode()


@pytest.mark.parametrize(
    "method", [b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND", b"MKCOL"]
)
def test_the_method_is_the_requests(peer: Peer, method: bytes) -> None:
    assert peer.value("/scope", method=method)["method"] == method.decode()


def test_a_head_request_says_so(peer: Peer) -> None:
    assert peer.ask("/scope", method=b"HEAD").status == 200


@pytest.mark.parametrize("method", [b"get", b"FOO", b"X-Y"])
def test_an_unusual_method_is_upper_case_or_refused(peer: Peer, method: bytes) -> None:
    answer = peer.ask("/scope", method=method)
    if answer.status == 200:
        assert f"'method': '{method.decode().upper()}'".encode() in answer.body
    else:
        assert answer.status in (400, 405, 501)


def test_the_scheme_is_http(peer: Peer) -> None:
    assert peer.value("/scope")["scheme"] == "http"


def test_the_root_path_is_empty_without_a_mount(peer: Peer) -> None:
    assert peer.value("/scope").get("root_path", "") == ""


TARGETS = {
    "plain": ("/scope/a", "/scope/a"),
    "root": ("/", "/"),
    "slash_at_the_end": ("/scope/", "/scope/"),
    "space": ("/scope/a%20b", "/scope/a b"),
    "utf_8": ("/scope/%C3%A9/%E2%82%AC", "/scope/é/€"),
    "four_bytes": ("/scope/%F0%9F%90%8D", "/scope/🐍"),
    "decoded_once": ("/scope/%2525%2541", "/scope/%25%41"),
    "lower_hex": ("/scope/%c3%a9", "/scope/é"),
    "escaped_slash": ("/scope/a%2Fb", "/scope/a/b"),
    "escaped_question_mark": ("/scope/a%3Fb", "/scope/a?b"),
    "escaped_hash": ("/scope/a%23b", "/scope/a#b"),
    "plus": ("/scope/a+b", "/scope/a+b"),
    "parameters": ("/scope/a;p=1,2/b:c@d", "/scope/a;p=1,2/b:c@d"),
    "marks": ("/scope/!$&'()*~", "/scope/!$&'()*~"),
    "two_slashes": ("/scope//a//b//", "/scope//a//b//"),
    "two_slashes_first": ("//scope/a", "//scope/a"),
    "dot": ("/scope/./a/.", "/scope/./a/."),
    "two_dots": ("/scope/a/../b", "/scope/a/../b"),
    "escaped_dots": ("/scope/%2e%2e/a", "/scope/../a"),
    "long": ("/scope/" + "a" * 4000, "/scope/" + "a" * 4000),
    "control": ("/scope/a%0d%0ab", "/scope/a\r\nb"),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_the_path_is_decoded_once_and_the_raw_path_as_received(peer: Peer, kind: str) -> None:
    target, path = TARGETS[kind]
    scope = peer.value(target + "?q=1")
    assert scope["path"] == path
    assert scope.get("raw_path") in (None, target.encode())
    assert scope["query_string"] == b"q=1"


def test_invalid_utf_8_in_a_path_does_not_hurt(peer: Peer) -> None:
    scope = peer.value("/scope/%ff%fe/%C3")
    assert scope["path"].startswith("/scope/")
    assert scope.get("raw_path") in (None, b"/scope/%ff%fe/%C3")


@pytest.mark.parametrize(
    "target", ["/scope/%00", "/scope/%zz", "/scope/%", "/scope/\xc3\xa9", "/../scope"]
)
def test_a_malformed_target_is_served_or_refused(peer: Peer, target: str) -> None:
    answer = peer.ask(target)
    assert answer.status in (200, 400)


@pytest.mark.parametrize(
    "target", ["http://test/scope/a%2Fb?q=1", "HTTP://other.example:8080/scope/a%2Fb?q=1"]
)
def test_an_absolute_target_is_its_path(peer: Peer, target: str) -> None:
    scope = peer.value(target)
    assert scope["path"] == "/scope/a/b"
    assert scope.get("raw_path") in (None, b"/scope/a%2Fb")
    assert scope["query_string"] == b"q=1"


@pytest.mark.parametrize("target", ["*", "*?q=1"])
def test_a_target_of_the_server_itself_is_served_or_refused(peer: Peer, target: str) -> None:
    answer = peer.ask(target, method=b"OPTIONS")
    assert answer.status in (200, 400, 404)
    assert answer.status != 200 or b"'path': '*'" in answer.body


QUERIES = [
    b"",
    b"a=b",
    b"a=%20b&c=%2F+",
    b"?a?b",
    b"a=http://x/y?z",
    b"%ff%00%zz",
    b"a[]=1&a[]=2;b",
    b'a={}|^`"<>',
    b"x=" + b"y" * 4000,
]


@pytest.mark.parametrize("number", range(len(QUERIES)))
def test_the_query_string_is_bytes_as_received(peer: Peer, number: int) -> None:
    query = QUERIES[number]
    scope = peer.value(b"/scope?" + query)
    assert scope["query_string"] == query
    assert scope["path"] == "/scope"
    assert scope.get("raw_path") in (None, b"/scope")


def test_no_query_string_is_empty_bytes(peer: Peer) -> None:
    assert peer.value("/scope")["query_string"] == b""


def headers_of(peer: Peer, lines: bytes) -> list[tuple[bytes, bytes]]:
    return [(bytes(name).lower(), value) for name, value in peer.value("/s", lines)["headers"]]


def test_header_names_are_lower_case(peer: Peer) -> None:
    headers = peer.value("/scope", b"X-UPPER: One\r\nx-Mixed: Two\r\n")["headers"]
    assert [tuple(pair) for pair in headers] == [
        (b"host", b"test"),
        (b"x-upper", b"One"),
        (b"x-mixed", b"Two"),
    ]


def test_headers_keep_their_order_and_duplicates(peer: Peer) -> None:
    lines = b"X-A: 1\r\nX-B: 2\r\nX-A: 3\r\nAccept: a\r\nX-B: 4\r\nAccept: b\r\nX-A: 1\r\n"
    headers = headers_of(peer, lines)
    assert [value for name, value in headers if name == b"x-a"] == [b"1", b"3", b"1"]
    assert [value for name, value in headers if name == b"x-b"] == [b"2", b"4"]
    assert [value for name, value in headers if name == b"accept"] == [b"a", b"b"]
    assert len(headers) == 8


@pytest.mark.parametrize(
    "line",
    [
        b"x-latin: caf\xe9 \xff\x80",
        b"x-utf-8: caf\xc3\xa9",
        b"x_under: 1",
        b"x.dot: 1",
        b"x!#$%&'*+-^`|~: 1",
        b"9: 1",
        b"x-empty: ",
        b"x-colon: a:b::c",
        b"x-inner: a  b\tc",
        b"x-long: " + b"y" * 6000,
        b"x-" + b"n" * 200 + b": 1",
        b"cookie: a=1; b=2",
        b'if-none-match: "tag", W/"x"',
        b"if-modified-since: Tue, 01 Jan 2030 00:00:00 GMT",
        b"range: bytes=0-1",
        b"te: trailers",
        b"accept-encoding: gzip, br",
        b"authorization: Basic eDp5",
        b"x-forwarded-for: 10.1.2.3",
        b"via: 1.1 a",
        b"referer: http://a/",
        b"date: Tue, 01 Jan 2030 00:00:00 GMT",
    ],
    ids=lambda line: line.partition(b":")[0].decode()[:12],
)
def test_a_header_arrives_byte_for_byte(peer: Peer, line: bytes) -> None:
    name, _, value = line.partition(b": ")
    assert (name, value) in headers_of(peer, line + b"\r\n")


@pytest.mark.parametrize("space", [b"  ", b"\t", b" \t "], ids=["spaces", "tab", "both"])
def test_the_space_around_a_value_is_not_part_of_it(peer: Peer, space: bytes) -> None:
    assert (b"x-a", b"b c") in headers_of(peer, b"X-A:" + space + b"b c" + space + b"\r\n")


def test_a_header_without_a_value_is_empty(peer: Peer) -> None:
    assert (b"x-a", b"") in headers_of(peer, b"X-A:\r\n")


def test_many_headers_all_arrive(peer: Peer) -> None:
    lines = b"".join(b"x-%d: %d\r\n" % (number, number) for number in range(80))
    assert len(headers_of(peer, lines)) == 81


def test_client_and_server_are_a_string_and_an_integer(peer: Peer) -> None:
    with peer.raw() as client:
        client.get("/scope")
        text = client.response().body.decode()
        host, port = client.socket.getsockname()
    assert f"'client': ('{host}', {port})" in text.replace("[", "(").replace("]", ")")
    assert f"'server': ('127.0.0.1', {peer.port})" in text.replace("[", "(").replace("]", ")")


def test_the_members_of_the_scope_have_their_types(peer: Peer) -> None:
    types, headers = peer.value("/types?a=b", b"x-a: 1\r\n")
    expected = {
        "type": "str",
        "asgi": "dict",
        "http_version": "str",
        "method": "str",
        "scheme": "str",
        "path": "str",
        "raw_path": "bytes",
        "query_string": "bytes",
        "root_path": "str",
        "state": "dict",
    }
    assert {name: types[name] for name in expected} == expected
    assert set(headers) == {("bytes", "bytes")}


def test_the_state_is_a_shallow_copy_for_each_request(peer: Peer) -> None:
    names, number, first = peer.value("/state")
    assert (names, number) == (["number", "shared"], 2)
    assert peer.value("/state") == (names, 2, first + 1)


def test_a_scope_is_never_used_twice(peer: Peer) -> None:
    with peer.raw() as client:
        bodies = set()
        for _ in range(3):
            client.get("/dirty")
            bodies.add(client.response().body)
    assert len(bodies) == 1
    assert b"mine" not in bodies.pop()


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


# what an application does wrong


@pytest.mark.parametrize(
    "kind",
    ["body_first", "unknown", "no_type", "websocket", "str_header", "single_header"]
    + ["bad_length", "not_a_mapping"],
)
def test_a_mistake_before_the_start_is_refused(peer: Peer, kind: str) -> None:
    refused(peer, f"/mistake?kind={kind}")


@pytest.mark.parametrize("kind", ["start_twice", "unknown_late", "str", "int"])
def test_a_mistake_after_the_start_is_seen_by_the_client(peer: Peer, kind: str) -> None:
    assert broken(peer, f"/mistake/rest?kind={kind}")


@pytest.mark.parametrize(
    "kind",
    ["start_twice", "body_first", "unknown", "unknown_late", "no_type", "websocket"]
    + ["str", "int", "not_a_mapping"],
)
def test_a_mistake_raises_and_leaves_no_trace(peer: Peer, key: str, kind: str) -> None:
    answer = in_step(peer, f"/caught?kind={kind}&key={key}")
    assert "raised" in peer.notes(key)
    assert (answer.status, answer.body) == (200, b"right")
    assert "x-second" not in answer.headers


@pytest.mark.parametrize("kind", ["one", "two"])
def test_more_than_the_content_length_does_not_reach_the_wire(
    peer: Peer, key: str, kind: str
) -> None:
    try:
        answer = in_step(peer, f"/too_much?kind={kind}&key={key}")
    except ConnectionError:
        return

    assert answer.status == 500 or answer.body == b"abc"


def test_more_than_the_content_length_raises(peer: Peer, key: str) -> None:
    with peer.raw() as client:
        client.get(f"/too_much?kind=one&key={key}")
        assert "raised Exception" in peer.noted(key, "end")


def test_less_than_the_content_length_is_seen_by_the_client(peer: Peer) -> None:
    assert broken(peer, "/too_little")


def test_messages_after_the_end_are_ignored_or_raise(peer: Peer, key: str) -> None:
    answer = in_step(peer, f"/after?key={key}")
    assert (answer.status, answer.body) == (200, b"whole")
    assert len(peer.noted(key, "end")) == 4


@pytest.mark.parametrize("kind", ["before", "cancelled", "nothing"])
def test_an_application_without_a_response_is_a_500(peer: Peer, kind: str) -> None:
    assert in_step(peer, f"/fails?kind={kind}").status == 500


@pytest.mark.parametrize(
    "kind",
    ["held", "held_return", "held_length", "part", "part_length", "return", "return_length"],
)
def test_a_response_that_is_not_finished_is_seen_by_the_client(peer: Peer, kind: str) -> None:
    assert broken(peer, f"/fails?kind={kind}")


def test_an_error_after_the_response_does_not_change_it(peer: Peer) -> None:
    answer = in_step(peer, "/fails_after")
    assert (answer.status, answer.body) == (200, b"whole")


def test_the_server_goes_on_after_all_that(peer: Peer) -> None:
    assert peer.ask("/length").body == b"body"


# clients that leave or do not read


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_send_after_the_client_left_returns_or_raises_an_oserror(
    peer: Peer, key: str, reset: bool
) -> None:
    before = peer.errors()
    with peer.raw() as client:
        client.get(f"/left?key={key}")
        client.head()
        assert client.chunk() == b"first"
        if reset:
            client.reset()
    notes = peer.noted(key, "end")
    assert notes[0] == notes[3] == "http.disconnect"
    assert set(notes[1:3]) <= {"returned", "raised OSError"}
    assert peer.errors() == before


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_start_after_the_client_left_returns_or_raises_an_oserror(
    peer: Peer, key: str, reset: bool
) -> None:
    before = peer.errors()
    with peer.raw() as client:
        client.get(f"/left_before?key={key}")
        peer.noted(key, "read")
        if reset:
            client.reset()
    notes = peer.noted(key, "end")
    assert notes[1] == "http.disconnect"
    assert set(notes[2:4]) <= {"returned", "raised OSError"}
    assert peer.errors() == before


def test_a_client_that_leaves_in_the_middle_is_no_error(peer: Peer, key: str) -> None:
    before = peer.errors()
    with peer.raw() as client:
        client.get(f"/left_sending?key={key}")
        client.socket.recv(1000)
        peer.noted(key, "started")
    assert "cancelled" not in peer.noted(key, "end")
    assert peer.errors() == before


def test_a_producer_waits_for_a_client_that_does_not_read(peer: Peer) -> None:
    total = 1600 * 65536
    with peer.raw() as client:
        client.get("/firehose")
        client.head()

        # it stands still once two looks see the same

        seen = [-1]

        def still() -> bool:
            peer.value("/slow?seconds=0.1")
            seen.append(peer.value("/progress"))
            return seen[-1] == seen[-2]

        until("the producer stands still", still, 20)
        assert 0 < seen[-1] < total * 0.4

        # and goes on when the client does

        size = 0
        client.socket.settimeout(15 * SLOWER)
        while data := client.chunk():
            size += len(data)
        assert size == total


# extensions


def test_trailers_work_where_they_are_advertised(peer: Peer) -> None:
    with peer.raw() as client:
        client.get("/trailers", "TE: trailers\r\n")
        answer = client.response()
        client.get("/scope")
        assert client.response().status == 200
    if answer.body != b"'not advertised'":
        assert answer.body == b"body"
        assert answer.trailers == [(b"x-sum", b"1"), (b"x-sum", b"2"), (b"x-more", b"3")]


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_trailers_are_only_for_those_who_ask(peer: Peer, version: bytes) -> None:
    answer = peer.ask("/trailers", version=version)
    assert answer.trailers == []
    assert answer.body in (b"body", b"'not advertised'")


def test_pathsend_works_where_it_is_advertised(peer: Peer) -> None:
    answer = in_step(peer, "/pathsend")
    if answer.body != b"'not advertised'":
        assert answer.headers["content-type"] == "text/plain"
        assert answer.body.decode().strip() == APP.strip()


def test_early_hints_work_where_they_are_advertised(peer: Peer) -> None:
    with peer.raw() as client:
        client.get("/early_hint")
        hints, answer = [], client.response()
        while answer.status == 103:
            hints += answer.values("link")
            answer = client.response()
        client.get("/scope")
        assert client.response().status == 200
    if answer.body != b"'not advertised'":
        assert answer.body == b"body"
        assert hints == [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]


@pytest.mark.parametrize("kind", ["trailers", "pathsend", "early_hint", "zerocopysend", "push"])
def test_an_extension_that_is_not_advertised_is_a_mistake(peer: Peer, key: str, kind: str) -> None:
    assert in_step(peer, f"/unadvertised?type=http.response.{kind}&key={key}").body == b"body"
    assert peer.notes(key)[0] in ("advertised", "raised Exception")
