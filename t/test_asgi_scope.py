"""ASGI HTTP 2.5, the scope of a request, asked of databridge and of uvicorn."""

import pytest

from harness.asgi import Peer

APP = """
from kit import answer, app, case, option


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
"""


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
