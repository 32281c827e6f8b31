"""FastAPI's own answers, byte for byte: one route for each feature, under both servers."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from harness.nginx import Nginx
from harness.plans import KIND, Pair, request
from harness.server import Uvicorn
from harness.wait import eventually

APP = (Path(__file__).parent / "harness" / "planned_app.py").read_text()
CONFIGURATION = {"server": KIND}

JSON = ("Content-Type", "application/json")


@pytest.fixture(scope="module")
def pair(shared_app: Nginx, shared_uvicorn: Uvicorn) -> Iterator[Pair]:
    with Pair(shared_app, shared_uvicorn) as found:
        found.same("GET", "/log", kind=None)
        yield found


def log(pair: Pair) -> list[str]:
    """What the application has done since the last time, the same on both sides.

    The end of a request may be later than its answer.
    """
    pair.leave()
    found: dict[int, list[str]] = {pair.nginx.port: [], pair.uvicorn.port: []}

    def agree() -> bool:
        for port, lines in found.items():
            lines += json.loads(pair.ask(port, request("GET", "/log"), "GET").body)
        ours, theirs = found.values()
        return ours == theirs

    assert eventually(agree), found
    return found[pair.nginx.port]


RESULTS = [
    *("dict", "list", "text", "int", "float", "none", "nan", "sa", "keys", "surrogate", "set"),
    *("tuple", "time", "utc", "delta", "uuid", "decimal", "enum", "model", "models", "written"),
    *("dataclass", "object", "bytes", "generator", "unknown", "many", "missing"),
]


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_written_as_fastapi_writes_them(pair: Pair, name: str) -> None:
    for prefix in ("result", "def", "any"):
        pair.same("GET", f"/{prefix}/{name}")


VALUES = [
    *(
        "5",
        "-5",
        "+5",
        "05",
        "0",
        "-0",
        "5.0",
        "5.5",
        "1e3",
        "1_000",
        "9" * 19,
        "9" * 30,
        "",
        "%20",
    ),
    *("%205%20", "a", "true", "True", "on", "yes", "0", "off", "red", "RED", "LOW", "1", "2", "ab"),
    *("a", "b%20c", "b+c", "abcde", "2026-01-02", "2026-01-02T03:04:05Z", "2026-02-30", "0.1"),
    *("00000000-0000-0000-0000-000000000005", "00000000000000000000000000000005", "nan", "inf"),
    *("%C3%BC", "%FF", "%2F", "%25", "a%2Fb", "%E2%80%A8", "٣", "PT5S", "[1,2]", "null"),
    *("x" * 300, "%41" * 200),
]

PATHS = ["int", "str", "float", "bool", "uuid", "date", "enum", "literal", "bounded", "number"]


@pytest.mark.parametrize("kind", PATHS)
def test_path_parameters(pair: Pair, kind: str) -> None:
    for value in VALUES:
        pair.same("GET", f"/path/{kind}/{quote(value, safe='%/+[],')}", kind=None)
    assert pair.same("GET", "/path/int/5").body == b"5"


def test_convertors_of_paths(pair: Pair) -> None:
    pair.same("GET", "/path/rest/")
    pair.same("GET", "/path/rest/a/b%2Fc/%C3%BC//d")
    pair.same("GET", "/path/real/5.25/00000000-0000-0000-0000-00000000000A")
    pair.same("GET", "/path/real/5/0000000000000000000000000000000a")
    pair.same("GET", "/path/real/5.x/0000000000000000000000000000000a", kind=None)
    pair.same("GET", "/path/two/%E2%82%AC/7")
    pair.same("GET", "/path/two/a/b")
    pair.same("GET", "/path/two/a/b/c", kind=None)
    pair.same("GET", "/path/int/5/", kind=None)
    pair.same("POST", "/path/int/5", kind=None)


QUERIES = {
    "plain": ["q", "n", "f"],
    "optional": ["q", "n", "b"],
    "list": ["q", "d", "s"],
    "checked": ["q", "n", "e", "level"],
    "alias": ["item-query", "q", "c1", "c2", "c"],
    "model": ["limit", "tags", "other"],
    "json": ["q"],
    "types": ["d", "t", "m", "u", "b"],
    "validated": ["q"],
    "default": ["q"],
}


@pytest.mark.parametrize("name", QUERIES)
def test_query_parameters(pair: Pair, name: str) -> None:
    path = f"/query/{name}"
    pair.same("GET", path)
    pair.same("GET", f"{path}?")
    for key in QUERIES[name]:
        for value in VALUES:
            value = quote(value, safe="%/+[],")
            pair.same("GET", f"{path}?{key}={value}")
            pair.same("GET", f"{path}?q=5&{key}={value}&{key}=7")
        pair.same("GET", f"{path}?{key}")
        pair.same("GET", f"{path}?{key}=1&&{key}=2&=&%3D=5&{key}=3;x=2")
        pair.same("GET", f"{path}?%{ord(key[0]):x}{key[1:]}=6")
    pair.same("GET", path + "?" + "&".join(f"q={number}" for number in range(100)))


def test_header_parameters(pair: Pair) -> None:
    for value in ("5", "", "ü", "a,b", " 7", "x" * 2000):
        pair.same("GET", "/header/plain", [("X-Token", value)], kind=None)
        pair.same("GET", "/header/plain", [("x-token", "a"), ("X-COUNT", value)], kind=None)
        pair.same("GET", "/header/plain", [("X-Token", value), ("X-Token", "b")], kind=None)
    assert pair.same("GET", "/header/plain", [("X-Token", "a")]).status == 200
    assert pair.same("GET", "/header/plain", kind="asgi").status == 422
    pair.same("GET", "/header/list")
    pair.same("GET", "/header/list", [("X-Tag", "a"), ("x-tag", "b"), ("X-Tag", "")])
    pair.same("GET", "/header/underscore", [("x_y", "a")], kind=None)
    pair.same("GET", "/header/model", [("X-Count", "5"), ("X-Tag", "a"), ("X-Tag", "b")])
    pair.same("GET", "/header/model", [("X-Count", "a")])


def test_cookie_parameters(pair: Pair) -> None:
    for path in ("/cookie/plain", "/cookie/model"):
        for cookie in (
            *("session=a", "session=a; n=5", "session=a;n=-1", "session=a; session=b", "session"),
            *(
                'session="a b"',
                'session="a\\"b\\054"',
                "session=",
                " session = x ",
                "x=1;;session=y",
            ),
            *("session=ü", "session=a=b", "count=5; session=1", '"session"=1', "=session", ""),
        ):
            pair.same("GET", path, [("Cookie", cookie)])
            pair.same("GET", path, [("Cookie", "session=first"), ("Cookie", cookie)])
        pair.same("GET", path)


ITEM = {"name": "a", "price": 2, "tags": ["b"], "nested": {"when": "2026-01-01T00:00:00"}}

BODIES: list[Any] = [
    *(ITEM, {"name": "a"}, {"name": 5}, {}, [], [ITEM], [ITEM, 5], None, 5, "a", "2026-01-02", 1.5),
    *({"item": ITEM}, {"item": ITEM, "n": 5}, {"item": ITEM, "n": "5", "o": ITEM}, {"n": 5}),
    *({"item": ITEM, "n": 5, "o": None}, {"itemId": 3}, {"item_id": 3}, {"itemId": 3, "x": 1}),
    *({"itemId": -1}, {"a": 1, "b": "2"}, {"a": "x"}, {"name": "ü" * 100, "price": 1e300}, True),
]

RAW = [
    *(
        b"",
        b"{",
        b"nul",
        b'{"name": "a"} x',
        b'{"name": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"\xff",
        b" ",
    ),
    *(
        b'{"name": "a", "name": "b"}',
        b'{"name": "a", "price": NaN}',
        b'{"name": "a", "price": 1E400}',
    ),
    *(b"[" * 300 + b"]" * 300, b"1" * 5000, b'"' + b"x" * 70000 + b'"', b"5 ", b"-0", b"1e5"),
]

TYPES = [
    *(
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/x+json",
    ),
    *("text/plain", "application/jsonx", "application", "", ";", "application/json ; x", "a/b; c"),
]

BODY_PATHS = ["model", "optional", "two", "embedded", "alias", "dict", "list", "scalar", "any"]


@pytest.mark.parametrize("name", BODY_PATHS)
def test_json_bodies(pair: Pair, name: str) -> None:
    path = f"/body/{name}"
    for body in [*(json.dumps(body).encode() for body in BODIES), *RAW]:
        pair.same("POST", path, [JSON], body)
    for kind in TYPES:
        pair.same("POST", path, [("Content-Type", kind)], json.dumps(ITEM).encode())
    pair.same("POST", path, (), json.dumps(ITEM).encode())
    pair.same("POST", path)


def test_all_sources_together(pair: Pair) -> None:
    body = json.dumps(ITEM).encode()
    answer = pair.same("PUT", "/body/all/5?q=x", [JSON, ("X-A", "y")], body)
    assert json.loads(answer.body)["id"] == 5
    assert pair.same("PUT", "/body/all/a", [JSON], body).status == 422
    assert pair.same("PUT", "/body/all/5", [JSON], b"{}").status == 422


def test_a_large_body_is_fastapis(pair: Pair) -> None:
    body = json.dumps({"x": "a" * 3_000_000}).encode()
    assert pair.same("POST", "/body/any", [JSON], body, kind=None).status == 200


def test_dependencies_run_in_order_and_once(pair: Pair) -> None:
    log(pair)
    pair.same("GET", "/dep/cached?q=a", [("X-A", "b")])
    assert log(pair) == ["shared a", "above", "shared a"]
    for query in ("", "?q=a&limit=3&skip=2", "?limit=11", "?n=a", "?skip=1&n=0"):
        pair.same("GET", f"/dep/def{query}")
        log(pair)
    pair.same("GET", "/dep/callable?q=ab")
    pair.same("GET", "/dep/context")
    for body in (json.dumps(ITEM).encode(), b"{}"):
        pair.same("POST", "/dep/body", [JSON], body)


@pytest.mark.parametrize("n", range(5))
def test_a_dependency_that_raises_has_run_once(pair: Pair, n: int) -> None:
    log(pair)
    pair.same("GET", f"/dep/refusing?n={n}")
    assert log(pair) == [f"refusing {n}", *(["endpoint"] if n in (0, 4) else [])]


def test_security_schemes(pair: Pair) -> None:
    for path in ("bearer", "oauth", "basic"):
        pair.same("GET", f"/security/{path}")
        for value in (
            "Bearer abc",
            "bearer  abc",
            "Basic YTpi",
            "Basic !",
            "Bearer",
            "x",
            "Bearer ü",
        ):
            pair.same("GET", f"/security/{path}", [("Authorization", value)])
    pair.same("GET", "/security/keys?key=b", [("X-Key", "a"), ("Cookie", "key=c")])
    pair.same("GET", "/security/keys")
    for _ in range(2):
        pair.same("GET", "/security/scopes")


def test_the_request_is_handed_out(pair: Pair) -> None:
    pair.same("GET", "/request/5?a=b&a=c", [("X-A", "1"), ("Cookie", "a=b")])
    pair.same("GET", "/request/x")
    pair.same("POST", "/request/body", [JSON], b'{"a": 1}')
    pair.same("POST", "/request/body", [JSON], b"{")
    pair.same("POST", "/request/body", [("Content-Type", "text/plain")], b"5")
    pair.same("POST", "/request/both", [JSON], json.dumps(ITEM).encode())


def test_the_response_is_merged(pair: Pair) -> None:
    for code in ("", "?code=201", "?code=404", "?code=204", "?code=304"):
        pair.same("GET", f"/response/headers{code}")
    for kind in (
        *("json", "text", "html", "plain", "redirect", "empty", "stream", "file", "cookie", "none"),
    ):
        pair.same("GET", f"/response/given?kind={kind}")


def test_background_tasks_run_after_the_response(pair: Pair) -> None:
    log(pair)
    for query in ("", "?given=1", "?add=0", "?add=0&given=1"):
        pair.same("GET", f"/background{query}")
    assert log(pair) == ["background", "background"]


def test_response_models(pair: Pair) -> None:
    for path in (
        *(
            "plain",
            "plain?bad=1",
            "def",
            "def?bad=1",
            "list",
            "list?n=200",
            "unset",
            "none",
            "some",
        ),
        *("alias", "json", "union?n=0", "union?n=1", "union?n=2", "union?n=3", "written", "nan"),
        *("response", "response?n=1"),
    ):
        pair.same("GET", f"/model/{path}")


def test_response_classes_and_codes(pair: Pair) -> None:
    for path in (
        *("text?n=0", "text?n=1", "text?n=2", "text?n=3", "text?n=4", "text?n=5", "html", "own"),
        "redirect",
    ):
        pair.same("GET", f"/class/{path}")
    pair.same("POST", "/code/201")
    pair.same("DELETE", "/code/204")
    pair.same("GET", "/code/304")
    for method in ("GET", "POST", "PATCH"):
        pair.same(method, "/several")
    for method in ("HEAD", "OPTIONS", "DELETE"):
        assert pair.same(method, "/path/int/5", kind="asgi").status == 405


@pytest.mark.parametrize("n", [0, 1, 2, 400, 404, 418, 422, 500, 503])
def test_exceptions_are_answered_by_fastapis_handlers(pair: Pair, n: int) -> None:
    pair.same("GET", f"/code/raise?n={n}")
    log(pair)
    pair.same("GET", f"/code/def?n={n}")
    assert log(pair) == ["once"]


def test_included_routers(pair: Pair) -> None:
    for path in ("/v2/inner/5?q=a", "/v1/text"):
        assert pair.same("GET", path).status == 200
    for path in (
        "/v1/outer/inner/5",
        "/v1/outer/inner/0",
        "/v1/outer/inner/a",
        "/v1/text?n=1",
        "/v2/inner/0",
    ):
        pair.same("GET", path)
    pair.same("GET", "/v1/none", kind=None)
    log(pair)


YIELDS = {
    **{f"async?n={n}": True for n in range(5)},
    **{f"def?n={n}&q=x": True for n in range(5)},
    **{f"early?n={n}": True for n in range(5)},
    "async?n=a": True,
    "failing": True,
    "failing?when=enter": True,
    "failing?when=exit": True,
    "failing-early?when=exit": True,
    "failing-early?when=enter": True,
    "model": True,
    "model?n=1": True,
    "stream": True,
}


@pytest.mark.parametrize("path", YIELDS)
def test_dependencies_with_yield_end_in_fastapis_order(pair: Pair, path: str) -> None:
    log(pair)
    pair.same("GET", f"/yield/{path}")
    log(pair)


def test_what_is_left_to_fastapi_is_the_same(pair: Pair) -> None:
    form = ("Content-Type", "application/x-www-form-urlencoded")
    pair.same("POST", "/left/form", [form], b"x=5", kind="asgi")
    pair.same("GET", "/left/lines", kind="asgi")
    pair.same("GET", "/left/validated?q=5", kind="asgi")
    pair.same("GET", "/openapi.json", kind="asgi")
    pair.same("GET", "/none", kind="asgi")
    log(pair)


def test_many_at_once_are_not_mixed_up(pair: Pair) -> None:
    def ask(number: int) -> None:
        with Pair(pair.nginx, pair.uvicorn) as own:
            for step in range(20):
                value = number * 1000 + step
                assert own.same("GET", f"/path/int/{value}").body == b"%d" % value
                found = own.same("GET", f"/dep/def?q={value}&skip={step}").body
                assert json.loads(found) == [str(value), step, 5, 1]
                found = own.same("GET", f"/dep/cached?q={value}").body
                assert json.loads(found) == [str(value), f"{value}-", str(value)]
                own.same("GET", f"/yield/early?q={value}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(8)))
    for port in (pair.nginx.port, pair.uvicorn.port):
        pair.ask(port, request("GET", "/log"), "GET")
