"""Plans made by hand, run by the module: what they take, and what they leave."""

import json
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from conftest import StartApp, StartNginx
from harness import Nginx, Raw, processes, until

PLANNED = (Path(__file__).parent / "harness" / "planned.py").read_text()

APP = """
import asyncio
import contextvars

from pydantic_core import core_schema as cs
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse

from planned import *

events = []
opened = True


async def asgi(request):
    if "closed" in request.query_params:
        set_open(request.query_params["closed"] != "1")
    if RAISE in request.scope:
        exc = request.scope[RAISE]
        return JSONResponse({
            "raised": repr(exc),
            "frames": exc.__traceback__ is not None,
            "body": (await request.body()).decode(),
            "state": dict(request.scope.get("state", {})),
        }, 418)
    if request.url.path == "/events":
        return JSONResponse(events)
    return JSONResponse({"asgi": read(request)})


def read(request):
    # what a plan of the same path would have fetched
    query, headers, cookies = request.query_params, request.headers, request.cookies
    values = {
        "/query": lambda: [query.get("q"), query.get("n"), query.getlist("t")],
        "/header": lambda: [headers.get("x-one"), headers.getlist("x-many")],
        "/cookie": lambda: [cookies.get("c"), cookies.get("d")],
    }
    return values.get(request.url.path, lambda: request.url.path)()


def set_open(value):
    global opened
    opened = value


async def listed(**values):
    return list(values.values())


def field(source, name, slot, *, many=False, fast=Fast.NOTHING, validate=None, default=None):
    names = name if isinstance(name, tuple) else (name,)
    names = tuple(each.encode() for each in names)
    return Field(source, names, slot, many, fast, validate, default, None)


INT = validator(cs.int_schema())
LIMIT = validator(cs.int_schema(ge=0, le=100))
STR = validator(cs.str_schema())
MODEL = validator(cs.typed_dict_schema({
    "name": cs.typed_dict_field(cs.str_schema()),
    "size": cs.typed_dict_field(cs.int_schema()),
}))


async def constant():
    return {"hello": "world"}


local = contextvars.ContextVar("local", default="unset")


async def first(n):
    events.append("first")
    local.set(f"set {n}")
    return [n, id(asyncio.current_task())]


async def second(one):
    events.append("second")
    await asyncio.sleep(0)
    return [*one, local.get()]


async def joined(one, two):
    events.append("joined")
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(asyncio.sleep(0, "slept"))
    return {
        "one": one[0], "two": two[2], "task": task.result(),
        "same": one[1] == two[1] == id(asyncio.current_task()),
    }


async def failing(kind):
    if kind == "late":
        await asyncio.sleep(0)
    if kind == "exit":
        raise SystemExit(3)
    raise ValueError(kind)


def refused(kind):
    raise KeyError(kind)


def not_awaitable(kind):
    return 3


async def bad_finish(result, slots):
    raise LookupError(result)


class Half:
    # a response that raises, before or after its beginning
    def __init__(self, started):
        self.started = started

    async def __call__(self, scope, receive, send):
        if self.started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            await asyncio.sleep(0)
        raise OSError("broken off")


async def give(result, slots):
    return result


GIVEN = ANSWER._replace(finish=give)


async def half(kind):
    return Half(kind == "started")


async def ask(request):
    body = await request.body()
    request.state.seen = "yes"
    if request.query_params.get("raise"):
        raise ValueError("after the body")
    return {
        "body": body.decode(), "path": request.url.path, "params": repr(request.path_params),
        "endpoint": request.scope["endpoint"], "route": request.scope["route"],
        "same": request.scope is scopes[-1],
    }


scopes = []


def compute(request):
    scopes.append(request.scope)
    if "x-fail" in request.headers:
        raise ValueError
    return request.headers.get("x-computed")


async def wait(name):
    events.append(f"{name} started")
    try:
        await asyncio.sleep(0.5 if name.startswith("short") else 60)
    except asyncio.CancelledError:
        events.append(f"{name} cancelled")
        raise
    events.append(f"{name} done")
    return name


async def stubborn():
    events.append("stubborn started")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        events.append("stubborn goes on")
    return "too late"


async def background(result, slots):
    async def run():
        await asyncio.sleep(0.05)
        events.append("background ran")
    return JSONResponse(result, background=BackgroundTask(run))


async def streamed(result, slots):
    async def chunks():
        for number in range(3):
            yield f"{number};"
            await asyncio.sleep(0)
    return StreamingResponse(chunks())


async def scripted(scope, receive, send, request, slots):
    events.append("entered")
    try:
        if slots[0] == "raise":
            raise ValueError("scripted")
        await JSONResponse([slots[0], request.scope is scope])(scope, receive, send)
        if slots[0] == "late":
            raise ValueError("too late")
    finally:
        events.append("left")


async def nothing(scope, receive, send, request, slots):
    pass


def path(name, slot, fast=Fast.NOTHING, validate=None):
    return field(Source.PATH, name, slot, fast=fast, validate=validate, default=REQUIRED)


def body(*fields, embedded=False, strict=True):
    return Body(fields, embedded, strict, from_json)


def body_field(name, slot, validate=None, default=REQUIRED):
    return BodyField((name,), slot, validate, default, None)


KIND = [path("kind", 0)]
ONE = {"path_names": ("kind",), "path_convertors": ("str",), "fields": (path("kind", 0),)}

PLANS = {
    "/constant": plan(step(constant, 0), slots=1),
    "/query": plan(step(listed, 3, q=0, n=1, t=2), slots=4, fields=(
        field(Source.QUERY, "q", 0, fast=Fast.STR),
        field(Source.QUERY, "n", 1, validate=STR),
        field(Source.QUERY, "t", 2, many=True, default=[]),
    )),
    "/number": plan(step(listed, 2, n=0, m=1), slots=3, fields=(
        field(Source.QUERY, "n", 0, fast=Fast.INT, validate=INT, default=7),
        field(Source.QUERY, ("limit", "max"), 1, validate=LIMIT, default=10),
    )),
    "/needed": plan(step(listed, 1, n=0), slots=2, fields=(
        field(Source.QUERY, "n", 0, validate=INT, default=REQUIRED),
    )),
    "/fresh": plan(step(listed, 1, n=0), slots=2, fields=(
        Field(Source.QUERY, (b"n",), 0, False, 0, None, None, lambda: events.append("made")),
    )),
    "/header": plan(step(listed, 2, one=0, many=1), slots=3, fields=(
        field(Source.HEADER, "x-one", 0, fast=Fast.STR),
        field(Source.HEADER, "x-many", 1, many=True, default=[]),
    )),
    "/cookie": plan(step(listed, 2, c=0, d=1), slots=3, fields=(
        field(Source.COOKIE, "c", 0, fast=Fast.STR), field(Source.COOKIE, "d", 1, validate=STR),
    )),
    "/path/{text}/{number:int}/{ratio:float}/{id:uuid}/{rest:path}": plan(
        step(listed, 5, text=0, number=1, ratio=2, id=3, rest=4), slots=6,
        path_names=("text", "number", "ratio", "id", "rest"),
        path_convertors=("str", "int", "float", "uuid", "path"),
        fields=(
            path("text", 0, Fast.STR), path("number", 1, Fast.INT, INT), path("ratio", 2),
            path("id", 3, validate=validator(cs.no_info_plain_validator_function(repr))),
            path("rest", 4, Fast.STR),
        ),
    ),
    "/item/{n}": plan(
        step(listed, 1, n=0), slots=2, path_names=("n",), path_convertors=("str",),
        fields=(path("n", 0, Fast.INT, INT),),
    ),
    "/body": plan(step(listed, 1, item=0), slots=2, body=body(body_field("item", 0, MODEL))),
    "/lax": plan(
        step(listed, 1, item=0), slots=2, body=body(body_field("item", 0, MODEL), strict=False),
    ),
    "/optional": plan(
        step(listed, 1, item=0), slots=2,
        body=body(body_field("item", 0, validator(cs.nullable_schema(cs.any_schema())), "none")),
    ),
    "/embedded": plan(step(listed, 2, a=0, b=1), slots=3, body=body(
        body_field("a", 0, INT), body_field("b", 1, STR, "default"), embedded=True,
    )),
    "/steps": plan(
        step(first, 1, n=0), step(second, 2, one=1), step(joined, 3, one=1, two=2), slots=4,
        fields=(field(Source.QUERY, "n", 0, validate=LIMIT, default=REQUIRED),),
    ),
    "/fail/{kind}": plan(step(failing, 1, kind=0), step(constant, 1), slots=2, **ONE),
    "/refuse/{kind}": plan(step(refused, 1, kind=0), slots=2, **ONE),
    "/number-is-no-coroutine/{kind}": plan(step(not_awaitable, 1, kind=0), slots=2, **ONE),
    "/bad-finish": plan(
        step(constant, 0), slots=1, answer=ANSWER._replace(finish=bad_finish),
    ),
    "/half/{kind}": plan(step(half, 1, kind=0), slots=2, answer=GIVEN, **ONE),
    "/request/{kind}": plan(
        step(ask, 2, request=1), slots=4, request=1, path_names=("kind",),
        path_convertors=("str",), fields=(path("kind", 0), Computed(3, compute)),
    ),
    "/computed": plan(step(listed, 1, c=0), slots=2, fields=(Computed(0, compute),)),
    "/constants": plan(
        step(listed, 2, a=0, b=1), slots=3, constants=((0, "a"), (1, [1, 2])),
    ),
    "/wait/{kind}": plan(step(wait, 1, name=0), slots=2, **ONE),
    "/stubborn": plan(step(stubborn, 0), slots=1),
    "/background": plan(step(constant, 0), slots=1, answer=ANSWER._replace(finish=background)),
    "/streamed": plan(step(constant, 0), slots=1, answer=ANSWER._replace(finish=streamed)),
    "/script/{kind}": plan(slots=1, script=scripted, **ONE),
    "/nothing": plan(slots=0, script=nothing),
    "/with-header": plan(step(constant, 0), slots=1, required_headers=(b"x-needed",)),
    "/without-header": plan(step(constant, 0), slots=1, absent_headers=(b"origin",)),
    "/https": plan(step(constant, 0), slots=1, https=True),
    "/host": plan(step(constant, 0), slots=1, hosts=(b"one.test", b"*.two.test")),
    "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}/{j}": plan(
        step(listed, 10, **{name: slot for slot, name in enumerate("abcdefghij")}), slots=11,
        path_names=tuple("abcdefghij"), path_convertors=("str",) * 10,
        fields=tuple(path(name, slot, Fast.STR) for slot, name in enumerate("abcdefghij")),
    ),
}

gate_asked = []


def gate():
    gate_asked.append(1)
    return opened

app = application(PLANS, asgi, gate)
"""

CONFIGURATION = {
    "location": "databridge_timeout 30s; add_header X-Kind $databridge_kind always;",
    "server": "location = /metrics { databridge_metrics; }"
    " location = /quick { rewrite ^ /wait/long break; databridge_app app:app;"
    " databridge_timeout 200ms; }"
    " location = /quick-stubborn { rewrite ^ /stubborn break; databridge_app app:app;"
    " databridge_timeout 200ms; }",
}


@pytest.fixture(scope="module")
def served() -> Iterator[Nginx]:
    server = Nginx()
    server.write({"app.py": APP, "planned.py": PLANNED})
    location = CONFIGURATION["location"] + " databridge_app app:app;"
    server.configure(location, server=CONFIGURATION["server"])
    server.start("/")
    try:
        yield server
    finally:
        problems = server.finish()
    assert problems == []


def kind(answer: httpx.Response) -> str:
    """plan, asgi, or plan-asgi of one that a plan has left to the application."""
    handed = answer.headers["x-kind"]
    return f"{handed}-asgi" if handed == "plan" and "asgi" in str(answer.content) else handed


def test_a_plan_answers(served: Nginx) -> None:
    answer = served.client.get("/constant")
    assert answer.json() == {"hello": "world"}
    assert kind(answer) == "plan"


def test_other_paths_are_the_applications(served: Nginx) -> None:
    answer = served.client.get("/another")
    assert (answer.json(), kind(answer)) == ({"asgi": "/another"}, "asgi")


def ask_raw(server: Nginx, target: bytes, headers: bytes = b"") -> tuple[Any, bool]:
    """The JSON of the answer without "asgi", and whether a plan made it."""
    with server.raw() as client:
        client.send(b"GET " + target + b" HTTP/1.1\r\nHost: test\r\n" + headers + b"\r\n")
        answer = client.response()
    assert answer.status == 200, answer
    value = json.loads(answer.body)
    planned = not (isinstance(value, dict) and "asgi" in value)
    return (value if planned else value["asgi"]), planned


QUERIES = [
    (b"", [None, None, []], True),
    (b"q=a", ["a", None, []], True),
    (b"q=", ["", None, []], True),
    (b"q", ["", None, []], True),
    (b"q=a&q=b", ["b", None, []], True),
    (b"t=a&t=b&t=", [None, None, ["a", "b", ""]], True),
    (b"q=a+b&n=%2B", ["a b", "+", []], True),
    (b"q=%41%42&%71=last", ["last", None, []], True),
    (b"%71=first&q=%C3%A9", ["\xe9", None, []], True),
    (b"q=a=b&&n=;", ["a=b", ";", []], True),
    (b"q=%&n=%4", ["%", "%4", []], True),
    (b"q=%zz&n=%4g", ["%zz", "%4g", []], True),
    (b"q=%00", ["\x00", None, []], True),
    (b"q=%FF", ["\ufffd", None, []], False),
    (b"q=%C3", ["\ufffd", None, []], False),
    (b"q=%ED%A0%80", ["\ufffd\ufffd\ufffd", None, []], False),
    (b"q=\xc3\xa9", ["\xc3\xa9", None, []], False),
    (b"\xc3\xa9=1&q=a", ["a", None, []], False),
    (b"t=%E2%82%AC&t=%ff", [None, None, ["\u20ac", "\ufffd"]], False),
    (b"&".join(b"x=1" for _ in range(64)), [None, None, []], True),
    (b"&".join(b"x=1" for _ in range(64)) + b"&q=a", ["a", None, []], False),
    (b"a%20" * 70 + b"=1&q=a", ["a", None, []], False),
    (b"q=" + b"a" * 3000, ["a" * 3000, None, []], True),
    (b"q=" + b"%61" * 1000, ["a" * 1000, None, []], True),
]


@pytest.mark.parametrize(("query", "expected", "planned"), QUERIES)
def test_a_query_is_read_as_starlette_reads_it(
    served: Nginx, query: bytes, expected: list[Any], planned: bool
) -> None:
    assert ask_raw(served, b"/query?" + query) == (expected, planned)


def test_queries_of_any_bytes_are_starlettes(served: Nginx) -> None:
    """The application answers under /query/ what Starlette makes of the same query."""
    pieces = [b"q", b"n", b"t", b"=", b"&", b"+", b"%", b"%41", b"%C3%A9", b"%E2", b"%q", b"%71"]
    pieces += [b";", b"a", b"%26", b"%3D", b"%2B", b"\xc3\xa9", b"%e2%82%ac", b"%00", b"x", b"."]
    chance = random.Random(6)
    taken = 0
    served.client.get("/?closed=0")
    for _ in range(400):
        query = b"".join(chance.choices(pieces, k=chance.randrange(1, 16)))
        value, planned = ask_raw(served, b"/query?" + query)
        served.client.get("/?closed=1")
        reference, reread = ask_raw(served, b"/query?" + query)
        served.client.get("/?closed=0")
        assert not reread
        assert value == reference, query
        taken += planned
    assert taken > 200


NUMBERS = [
    ("n=5", [5, 10]),
    ("n=-5", [-5, 10]),
    ("n=007", [7, 10]),
    ("n=-0", [0, 10]),
    ("n=123456789012345678", [123456789012345678, 10]),
    ("n=1234567890123456789", [1234567890123456789, 10]),
    ("n=-12345678901234567890123", [-12345678901234567890123, 10]),
    ("n=%2B5", [5, 10]),
    ("n=+5", [5, 10]),
    ("n=1_0", [10, 10]),
    ("n=5.0", [5, 10]),
    ("", [7, 10]),
    ("limit=100", [7, 100]),
    ("max=99", [7, 99]),
    ("max=99&limit=1", [7, 1]),
]


@pytest.mark.parametrize(("query", "expected"), NUMBERS)
def test_a_number_is_pydantics(served: Nginx, query: str, expected: list[int]) -> None:
    assert served.client.get(f"/number?{query}").json() == expected


@pytest.mark.parametrize("query", ["n=", "n=-", "n=a", "n=5a", "n=--5", "limit=101", "limit="])
def test_a_value_that_is_not_valid_is_the_applications(served: Nginx, query: str) -> None:
    assert kind(served.client.get(f"/number?{query}")) == "plan-asgi"


def test_fast_numbers_are_those_of_pydantic(served: Nginx) -> None:
    from pydantic_core import SchemaValidator, ValidationError, core_schema

    validate = SchemaValidator(core_schema.int_schema()).validate_python
    chance = random.Random(6)
    for _ in range(300):
        text = "".join(chance.choices("0123456789-0123456789_ .", k=chance.randrange(1, 22)))
        try:
            expected = validate(text)
        except ValidationError:
            expected = None
        value = served.client.get("/number?n=" + quote(text)).json()
        assert value == ({"asgi": "/number"} if expected is None else [expected, 10]), text


def test_a_missing_value_without_a_default_is_the_applications(served: Nginx) -> None:
    assert kind(served.client.get("/needed")) == "plan-asgi"
    assert served.client.get("/needed?n=1").json() == [1]


def test_a_default_is_made_anew_for_each_request(served: Nginx) -> None:
    for _ in range(3):
        assert served.client.get("/fresh").json() == [None]
    assert served.client.get("/events").json().count("made") == 3


HEADERS = [
    (b"", [None, []]),
    (b"X-One: a\r\nx-one: b\r\n", ["a", []]),
    (b"X-Many: a\r\nx-MANY:  b \r\nX-Many:\r\n", [None, ["a", "b", ""]]),
    (b"X-One: caf\xe9 \xc3\xa9\r\n", ["caf\xe9 \xc3\xa9", []]),
    (b"X-One:\r\n", ["", []]),
]


@pytest.mark.parametrize(("headers", "expected"), HEADERS)
def test_the_first_header_wins_and_many_have_all(
    served: Nginx, headers: bytes, expected: list[Any]
) -> None:
    assert ask_raw(served, b"/header", headers) == (expected, True)


COOKIES = [
    (b"Cookie: c=1; d=2\r\n", ["1", "2"], True),
    (b"Cookie: c=1; c=2\r\n", ["2", None], True),
    (b"Cookie: c=1\r\nCookie: d=2; c=3\r\n", ["3", "2"], True),
    (b"Cookie:  c = a=b ;d\r\n", ["a=b", None], True),
    (b"Cookie: c=; d= \t \r\n", ["", ""], True),
    (b"Cookie: c=%41+b\r\n", ["%41+b", None], True),
    (b'Cookie: c="a\\073b"\r\n', ["a;b", None], False),
    (b'Cookie: c="; d=a"b"\r\n', ['"', 'a"b"'], True),
    (b"Cookie: c=\xe9\r\n", ["\xe9", None], False),
    (b"Cookie: ;;=;c=1;\r\n", ["1", None], True),
    (b"Cookie:\r\n", [None, None], True),
    (b"", [None, None], True),
]


@pytest.mark.parametrize(("headers", "expected", "planned"), COOKIES)
def test_cookies_are_read_as_starlette_reads_them(
    served: Nginx, headers: bytes, expected: list[Any], planned: bool
) -> None:
    assert ask_raw(served, b"/cookie", headers) == (expected, planned)


def test_cookies_of_any_bytes_are_starlettes(served: Nginx) -> None:
    pieces = [b"c", b"d", b"=", b";", b" ", b'"', b"\\", b"\t", b"1", b"\x1f", b"\x0b", b"+"]
    chance = random.Random(6)
    for _ in range(200):
        cookie = b"".join(chance.choices(pieces, k=chance.randrange(1, 16)))
        header = b"Cookie: " + cookie + b"\r\n"
        value, _ = ask_raw(served, b"/cookie", header)
        served.client.get("/?closed=1")
        reference, _ = ask_raw(served, b"/cookie", header)
        served.client.get("/?closed=0")
        assert value == reference, cookie


UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


def test_parameters_of_the_path_go_through_their_convertors(served: Nginx) -> None:
    value, planned = ask_raw(served, f"/path/a%20b%C3%A9/007/1.50/{UUID}/x/%2541//y".encode())
    assert value == ["a b\xe9", 7, 1.5, f"UUID('{UUID}')", "x/%41//y"]
    assert planned
    number = "1" * 30
    value, _ = ask_raw(served, f"/path/a+b/{number}/1/{UUID}/".encode())
    assert value == ["a+b", int(number), 1.0, f"UUID('{UUID}')", ""]


def test_a_path_that_is_not_utf8_is_the_applications(served: Nginx) -> None:
    value, planned = ask_raw(served, f"/path/%FF/1/1/{UUID}/".encode())
    assert not planned
    assert value.startswith("/path/")


def test_a_number_of_too_many_digits_is_the_applications(served: Nginx) -> None:
    _, planned = ask_raw(served, f"/path/a/{'1' * 5000}/1/{UUID}/".encode())
    assert not planned


@pytest.mark.parametrize(("text", "number"), [("-12", -12), ("0", 0), ("%2B3", 3), ("1.0", 1)])
def test_a_number_in_the_path_is_pydantics(served: Nginx, text: str, number: int) -> None:
    assert served.client.get(f"/item/{text}").json() == [number]


def test_ten_parameters_of_the_path(served: Nginx) -> None:
    assert served.client.get("/1/2/3/4/5/6/7/8/9/10").json() == [str(n) for n in range(1, 11)]


ITEM = b'{"name": "a", "size": "3"}'
JSON = "application/json"

BODIES = [
    (ITEM, JSON, True),
    (ITEM, "application/json; charset=latin-1", True),
    (ITEM, "Application/JSON", True),
    (ITEM, "application/vnd.api+json ;x", True),
    (ITEM, "application/jsonp", False),
    (ITEM, "text/json", False),
    (ITEM, "application/json/x", False),
    (ITEM, "application/+json/json", False),
    (ITEM, "", False),
    (b"", JSON, False),
    (b"{", JSON, False),
    (b'{"name": "a", "size": "x"}', JSON, False),
    (b"\xef\xbb\xbf" + ITEM, JSON, False),
    (b'{"name": "\xff", "size": 3}', JSON, False),
    (b"[]", JSON, False),
    (b"null", JSON, False),
]


@pytest.mark.parametrize(("content", "content_type", "planned"), BODIES)
def test_a_body_is_parsed_by_its_type(
    served: Nginx, content: bytes, content_type: str, planned: bool
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = served.client.post("/body", content=content, headers=headers)
    if planned:
        assert answer.json() == [{"name": "a", "size": 3}]
    else:
        assert kind(answer) == "plan-asgi"


def test_a_body_without_a_type_is_json_when_it_need_not_be_strict(served: Nginx) -> None:
    assert served.client.post("/lax", content=ITEM).json() == [{"name": "a", "size": 3}]
    headers = {"content-type": "text/plain"}
    assert kind(served.client.post("/lax", content=ITEM, headers=headers)) == "plan-asgi"


def test_an_encoded_body_is_the_applications(served: Nginx) -> None:
    headers = {"content-type": JSON, "content-encoding": "identity"}
    assert kind(served.client.post("/body", content=ITEM, headers=headers)) == "plan-asgi"


def test_an_empty_body_is_missing_and_null_is_not(served: Nginx) -> None:
    headers = {"content-type": JSON}
    assert served.client.post("/optional").json() == ["none"]
    assert served.client.post("/optional", content=b"null", headers=headers).json() == [None]
    assert served.client.post("/optional", content=b"[1]", headers=headers).json() == [[1]]


def test_members_of_a_body(served: Nginx) -> None:
    assert served.client.post("/embedded", json={"a": 1, "b": "x"}).json() == [1, "x"]
    assert served.client.post("/embedded", json={"a": "2"}).json() == [2, "default"]
    for value in ({"b": "x"}, [1], "a", {"a": None}):
        assert kind(served.client.post("/embedded", json=value)) == "plan-asgi"


def test_a_body_that_comes_late_is_waited_for(served: Nginx) -> None:
    with served.raw() as client:
        head = f"POST /body HTTP/1.1\r\nHost: test\r\nContent-Type: {JSON}\r\n"
        client.send(f"{head}Content-Length: {len(ITEM)}\r\n\r\n".encode())
        for byte in ITEM:
            client.send(bytes([byte]))
        answer = client.response()
    assert json.loads(answer.body) == [{"name": "a", "size": 3}]
    assert answer.headers["x-kind"] == "plan"


def test_a_body_beyond_the_buffer_is_the_applications(served: Nginx) -> None:
    large = json.dumps({"name": "a" * 3_000_000, "size": 3}).encode()
    answer = served.client.post("/body", content=large, headers={"content-type": JSON})
    assert kind(answer) == "plan-asgi"


def test_a_chunked_body(served: Nginx) -> None:
    headers = {"content-type": JSON}
    answer = served.client.post("/body", content=iter([ITEM]), headers=headers)
    assert answer.status_code == 200


def test_steps_share_one_task_and_its_context(served: Nginx) -> None:
    answer = served.client.get("/steps?n=5")
    assert answer.json() == {"one": 5, "two": "set 5", "task": "slept", "same": True}


def test_everything_is_validated_before_anything_runs(served: Nginx) -> None:
    before = served.client.get("/events").json().count("first")
    assert kind(served.client.get("/steps?n=101")) == "plan-asgi"
    assert kind(served.client.get("/steps")) == "plan-asgi"
    assert served.client.get("/events").json().count("first") == before


FAILURES = [
    ("/fail/now", "ValueError('now')"),
    ("/fail/late", "ValueError('late')"),
    ("/fail/exit", "SystemExit(3)"),
    ("/refuse/it", "KeyError('it')"),
    ("/bad-finish", "LookupError({'hello': 'world'})"),
    ("/half/now", "OSError('broken off')"),
    ("/script/raise", "ValueError('scripted')"),
]


@pytest.mark.parametrize(("path", "raised"), FAILURES)
def test_an_exception_is_raised_in_the_application(
    served: Nginx, path: str, raised: str
) -> None:
    answer = served.client.get(path)
    assert answer.status_code == 418
    assert answer.json() == {"raised": raised, "frames": True, "body": "", "state": {}}


def test_what_is_no_awaitable_is_an_exception(served: Nginx) -> None:
    answer = served.client.get("/number-is-no-coroutine/x")
    assert "can't be used in 'await'" in answer.json()["raised"]


def test_the_application_can_read_the_body_again(served: Nginx) -> None:
    answer = served.client.post("/request/x?raise=1", content=b"body")
    assert answer.json()["raised"] == "ValueError('after the body')"
    assert (answer.json()["body"], answer.json()["state"]) == ("body", {"seen": "yes"})


def test_a_response_that_breaks_off_is_broken_off(app: StartApp, nginx: StartNginx) -> None:
    server = started(nginx)
    with pytest.raises(httpx.RemoteProtocolError):
        server.client.get("/half/started")
    server.error_log.expect("broken off|OSError")
    server.logged("Exception in ASGI application")


def started(nginx: StartNginx, **configuration: Any) -> Nginx:
    location = CONFIGURATION["location"] + " databridge_app app:app;"
    files = {"app.py": APP, "planned.py": PLANNED}
    configuration = {"server": CONFIGURATION["server"], **configuration}
    return nginx(location, files=files, ready="/", **configuration)


def test_a_request_is_made_for_who_asks(served: Nginx) -> None:
    answer = served.client.post("/request/some%20thing", content=b"body")
    assert answer.json() == {
        "body": "body",
        "path": "/request/some thing",
        "params": "{'kind': 'some thing'}",
        "endpoint": "the endpoint",
        "route": "the route",
        "same": True,
    }


def test_a_streamed_body_of_who_asks_is_the_applications(served: Nginx) -> None:
    content = b"x" * 3_000_000
    assert kind(served.client.post("/request/x", content=content)) == "plan-asgi"


def test_a_computed_value(served: Nginx) -> None:
    assert served.client.get("/computed", headers={"x-computed": "yes"}).json() == ["yes"]
    assert kind(served.client.get("/computed", headers={"x-fail": "1"})) == "plan-asgi"


def test_constants(served: Nginx) -> None:
    assert served.client.get("/constants").json() == ["a", [1, 2]]


def test_a_response_with_background_tasks_is_called(served: Nginx) -> None:
    assert served.client.get("/background").json() == {"hello": "world"}
    until("the task", lambda: "background ran" in served.client.get("/events").json())


def test_a_streaming_response_is_called(served: Nginx) -> None:
    assert served.client.get("/streamed").text == "0;1;2;"


def test_a_script_does_all_that_follows(served: Nginx) -> None:
    before = served.client.get("/events").json()
    assert served.client.get("/script/a").json() == ["a", True]
    assert served.client.get("/events").json()[len(before) :] == ["entered", "left"]


def test_a_script_that_raises_after_its_response_is_logged(nginx: StartNginx) -> None:
    server = started(nginx)
    assert server.client.get("/script/late").json() == ["late", True]
    server.error_log.expect("too late|ValueError")
    server.logged("ValueError: too late")


def test_a_script_that_sends_nothing_is_a_500(nginx: StartNginx) -> None:
    server = started(nginx)
    assert server.client.get("/nothing").status_code == 500
    server.error_log.expect("returned without starting response")
    server.logged("returned without starting response")


def test_headers_that_have_to_be_there_or_not(served: Nginx) -> None:
    def asked(path: str, **headers: str) -> str:
        return kind(served.client.get(path, headers=headers))

    assert asked("/with-header") == "asgi"
    assert asked("/with-header", **{"X-Needed": ""}) == "plan"
    assert asked("/without-header") == "plan"
    assert asked("/without-header", Origin="https://a.test") == "asgi"


HOSTS = [("one.test", True), ("one.test:80", True), ("One.test", False), ("two.test", False)]
HOSTS += [("a.two.test:8080", True), ("a.two.test.evil", False), ("xone.test", False)]


@pytest.mark.parametrize(("host", "planned"), HOSTS)
def test_only_known_hosts_are_planned(served: Nginx, host: str, planned: bool) -> None:
    answer = served.client.get("/host", headers={"host": host})
    assert kind(answer) == ("plan" if planned else "asgi")


def test_plain_http_is_not_planned_where_it_has_to_be_https(served: Nginx) -> None:
    assert kind(served.client.get("/https")) == "asgi"


def test_a_closed_gate_leaves_all_to_the_application(served: Nginx) -> None:
    served.client.get("/?closed=1")
    assert kind(served.client.get("/constant")) == "plan-asgi"
    served.client.get("/?closed=0")
    assert kind(served.client.get("/constant")) == "plan"


def test_many_at_once_get_their_own_answers(served: Nginx) -> None:
    wrong: list[Any] = []

    def ask(base: int) -> None:
        with httpx.Client(base_url=served.base_url, timeout=30) as client:
            for number in range(base, base + 60):
                value = client.get(f"/steps?n={number % 100}").json()
                if value["one"] != number % 100 or not value["same"]:
                    wrong.append(value)

    threads = [threading.Thread(target=ask, args=(100 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def gil_waits(server: Nginx) -> int:
    """How often Python's thread has taken the GIL to look at its queue."""
    text = server.client.get("/metrics").text
    (line,) = (row for row in text.splitlines() if "gil_wait_seconds_count" in row)
    return int(float(line.split()[-1]))


def test_a_batch_takes_the_gil_once(served: Nginx) -> None:
    clients = [served.raw() for _ in range(32)]
    worker = served.worker()

    def waits(batch: list[Raw]) -> int:
        before = gil_waits(served)
        for _ in range(10):
            with processes.stopped(worker):
                for client in batch:
                    client.get("/constant")
            for client in batch:
                assert client.response().body == b'{"hello":"world"}'
        return gil_waits(served) - before

    waits(clients)
    one, all_of_them = waits(clients[:1]), waits(clients)
    for client in clients:
        client.socket.close()
    assert one >= 10
    assert all_of_them < 2 * one


def test_a_suspended_plan_past_its_time_is_cancelled(served: Nginx) -> None:
    before = served.client.get("/events").json().count("long cancelled")
    assert served.client.get("/quick").status_code == 504
    until(
        "the cancellation",
        lambda: served.client.get("/events").json().count("long cancelled") > before,
    )


def test_a_plan_that_outlives_its_cancellation_answers_nobody(served: Nginx) -> None:
    assert served.client.get("/quick-stubborn").status_code == 504
    until("the end", lambda: "stubborn goes on" in served.client.get("/events").json())
    assert served.client.get("/constant").status_code == 200


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_a_client_that_leaves_does_not_cancel_its_plan(served: Nginx, reset: bool) -> None:
    name = f"short-{reset}"
    client = served.raw()
    client.get(f"/wait/{name}")
    until("the start", lambda: f"{name} started" in served.client.get("/events").json())
    client.reset() if reset else client.socket.close()
    until("the end", lambda: f"{name} done" in served.client.get("/events").json())
    assert f"{name} cancelled" not in served.client.get("/events").json()


def test_plans_in_flight_survive_a_reload(nginx: StartNginx) -> None:
    server = started(nginx)
    with server.raw() as client:
        client.get("/wait/short")
        until("the start", lambda: "short started" in server.client.get("/events").json())
        server.reload()
        assert client.response().body == b'"short"'
    assert kind(server.client.get("/constant")) == "plan"


def test_plans_in_flight_are_finished_when_the_worker_quits(nginx: StartNginx) -> None:
    server = started(nginx)
    with server.raw() as client:
        client.get("/wait/short")
        until("the start", lambda: "short started" in server.client.get("/events").json())
        server.kill(signal.SIGQUIT)
        assert client.response().body == b'"short"'
    assert server.wait() == 0


WRONG = [
    ("(1, 2)", "the whole of a plan has to have 21 members, not 2"),
    ("3", "the whole of a plan has to be a tuple, not 3"),
    ("PLAN._replace(slots=999)", "slots of a plan has to be 0 to 256, not 999"),
    ("PLAN._replace(slots='a')", "slots of a plan has to be an int, not 'a'"),
    ("PLAN._replace(steps=())", "a plan without a script needs steps"),
    ("PLAN._replace(request=1)", "request of a plan has to be -1 to 0, not 1"),
    ("PLAN._replace(hosts=('a',))", "a host of hosts of a plan has to be bytes, not 'a'"),
    ("PLAN._replace(https=1)", "https of a plan has to be a bool, not 1"),
    ("PLAN._replace(script=1)", "script of a plan has to be callable, not 1"),
    ("PLAN._replace(path_names=('a',))", "path_convertors of a plan has to have 1 members"),
    (
        "PLAN._replace(path_names=('a',), path_convertors=('color',))",
        "a plan knows no path convertor 'color'",
    ),
    (
        "PLAN._replace(fields=(Field(0, (b'b',), 0, False, 0, None, None, None),))",
        'the path of a plan has no parameter "b"',
    ),
    (
        "PLAN._replace(fields=(Field(3, (b'b',), 0, True, 0, None, None, None),))",
        "a field with many values is neither fast nor a cookie",
    ),
    (
        "PLAN._replace(body=Body((), False, True, from_json))",
        "a body has fields; more than one of them are embedded",
    ),
    (
        "PLAN._replace(answer=PLAN.answer._replace(form=1))",
        'an answer that is dumped needs "dump"',
    ),
]


def test_a_wrong_plan_is_refused_with_what_is_wrong(nginx: StartNginx) -> None:
    code = f"""
import _databridge
from planned import *

async def constant():
    pass

PLAN = plan(step(constant, 0), slots=1)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        for text in {[text for text, _ in WRONG]!r}:
            try:
                _databridge.add_route(0, "GET", "/", None, plan=eval(text))
            except (TypeError, ValueError) as exc:
                print(f"{{text}}: {{exc}}")
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"here"}})
"""
    server = nginx("databridge_app app:app;", files={"app.py": code, "planned.py": PLANNED}, ready="/")
    for text, error in WRONG:
        assert f"{text}: {error}" in server.output()
