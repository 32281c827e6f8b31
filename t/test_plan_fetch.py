"""What plans take of a request, and what they leave: all as Starlette and pydantic have it."""

import json
import random
from typing import Any
from urllib.parse import quote

import pytest

from harness import Nginx
from harness.planned import HANDMADE, kind

APP = (
    HANDMADE
    + """
from pydantic_core import core_schema as cs

made = []
opened = True


async def asgi(request):
    global opened
    if "closed" in request.query_params:
        opened = request.query_params["closed"] != "1"
    return JSONResponse({"asgi": made if request.url.path == "/made" else read(request)})


def read(request):
    # what a plan of the same path would have fetched
    query, headers, cookies = request.query_params, request.headers, request.cookies
    values = {
        "/query": lambda: [query.get("q"), query.get("n"), query.getlist("t")],
        "/header": lambda: [headers.get("x-one"), headers.getlist("x-many")],
        "/cookie": lambda: [cookies.get("c"), cookies.get("d")],
    }
    return values.get(request.url.path, lambda: request.url.path)()


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


def compute(request):
    if "x-fail" in request.headers:
        raise ValueError
    return request.headers.get("x-computed")


def path(name, slot, fast=Fast.NOTHING, validate=None):
    return field(Source.PATH, name, slot, fast=fast, validate=validate, default=REQUIRED)


def body(*fields, embedded=False, strict=True):
    return Body(fields, embedded, strict, from_json)


def body_field(name, slot, validate=None, default=REQUIRED):
    return BodyField((name,), slot, validate, default, None)


PLANS = {
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
        Field(Source.QUERY, (b"n",), 0, False, 0, None, None, lambda: made.append("made")),
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
    "/computed": plan(step(listed, 1, c=0), slots=2, fields=(Computed(0, compute),)),
    "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}/{j}": plan(
        step(listed, 10, **{name: slot for slot, name in enumerate("abcdefghij")}), slots=11,
        path_names=tuple("abcdefghij"), path_convertors=("str",) * 10,
        fields=tuple(path(name, slot, Fast.STR) for slot, name in enumerate("abcdefghij")),
    ),
}

app = application(PLANS, asgi, lambda: opened)
"""
)

CONFIGURATION = {"server": "add_header X-Kind $databridge_kind always;"}


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
    shared_app: Nginx, query: bytes, expected: list[Any], planned: bool
) -> None:
    assert ask_raw(shared_app, b"/query?" + query) == (expected, planned)


def test_queries_of_any_bytes_are_starlettes(shared_app: Nginx) -> None:
    """The application answers under /query/ what Starlette makes of the same query."""
    pieces = [b"q", b"n", b"t", b"=", b"&", b"+", b"%", b"%41", b"%C3%A9", b"%E2", b"%q", b"%71"]
    pieces += [b";", b"a", b"%26", b"%3D", b"%2B", b"\xc3\xa9", b"%e2%82%ac", b"%00", b"x", b"."]
    chance = random.Random(6)
    taken = 0
    shared_app.client.get("/?closed=0")
    for _ in range(400):
        query = b"".join(chance.choices(pieces, k=chance.randrange(1, 16)))
        value, planned = ask_raw(shared_app, b"/query?" + query)
        shared_app.client.get("/?closed=1")
        reference, reread = ask_raw(shared_app, b"/query?" + query)
        shared_app.client.get("/?closed=0")
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
def test_a_number_is_pydantics(shared_app: Nginx, query: str, expected: list[int]) -> None:
    assert shared_app.client.get(f"/number?{query}").json() == expected


@pytest.mark.parametrize("query", ["n=", "n=-", "n=a", "n=5a", "n=--5", "limit=101", "limit="])
def test_a_value_that_is_not_valid_is_the_applications(shared_app: Nginx, query: str) -> None:
    assert kind(shared_app.client.get(f"/number?{query}")) == "plan-asgi"


def test_fast_numbers_are_those_of_pydantic(shared_app: Nginx) -> None:
    from pydantic_core import SchemaValidator, ValidationError, core_schema

    validate = SchemaValidator(core_schema.int_schema()).validate_python
    chance = random.Random(6)
    for _ in range(300):
        text = "".join(chance.choices("0123456789-0123456789_ .", k=chance.randrange(1, 22)))
        try:
            expected = validate(text)
        except ValidationError:
            expected = None
        value = shared_app.client.get("/number?n=" + quote(text)).json()
        assert value == ({"asgi": "/number"} if expected is None else [expected, 10]), text


def test_a_missing_value_without_a_default_is_the_applications(shared_app: Nginx) -> None:
    assert kind(shared_app.client.get("/needed")) == "plan-asgi"
    assert shared_app.client.get("/needed?n=1").json() == [1]


def test_a_default_is_made_anew_for_each_request(shared_app: Nginx) -> None:
    for _ in range(3):
        assert shared_app.client.get("/fresh").json() == [None]
    assert shared_app.client.get("/made").json() == {"asgi": ["made"] * 3}


HEADERS = [
    (b"", [None, []]),
    (b"X-One: a\r\nx-one: b\r\n", ["a", []]),
    (b"X-Many: a\r\nx-MANY:  b \r\nX-Many:\r\n", [None, ["a", "b", ""]]),
    (b"X-One: caf\xe9 \xc3\xa9\r\n", ["caf\xe9 \xc3\xa9", []]),
    (b"X-One:\r\n", ["", []]),
]


@pytest.mark.parametrize(("headers", "expected"), HEADERS)
def test_the_first_header_wins_and_many_have_all(
    shared_app: Nginx, headers: bytes, expected: list[Any]
) -> None:
    assert ask_raw(shared_app, b"/header", headers) == (expected, True)


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
    shared_app: Nginx, headers: bytes, expected: list[Any], planned: bool
) -> None:
    assert ask_raw(shared_app, b"/cookie", headers) == (expected, planned)


def test_cookies_of_any_bytes_are_starlettes(shared_app: Nginx) -> None:
    pieces = [b"c", b"d", b"=", b";", b" ", b'"', b"\\", b"\t", b"1", b"\x1f", b"\x0b", b"+"]
    chance = random.Random(6)
    for _ in range(200):
        cookie = b"".join(chance.choices(pieces, k=chance.randrange(1, 16)))
        header = b"Cookie: " + cookie + b"\r\n"
        value, _ = ask_raw(shared_app, b"/cookie", header)
        shared_app.client.get("/?closed=1")
        reference, _ = ask_raw(shared_app, b"/cookie", header)
        shared_app.client.get("/?closed=0")
        assert value == reference, cookie


UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


def test_parameters_of_the_path_go_through_their_convertors(shared_app: Nginx) -> None:
    value, planned = ask_raw(shared_app, f"/path/a%20b%C3%A9/007/1.50/{UUID}/x/%2541//y".encode())
    assert value == ["a b\xe9", 7, 1.5, f"UUID('{UUID}')", "x/%41//y"]
    assert planned
    number = "1" * 30
    value, _ = ask_raw(shared_app, f"/path/a+b/{number}/1/{UUID}/".encode())
    assert value == ["a+b", int(number), 1.0, f"UUID('{UUID}')", ""]


def test_a_path_that_is_not_utf8_is_the_applications(shared_app: Nginx) -> None:
    value, planned = ask_raw(shared_app, f"/path/%FF/1/1/{UUID}/".encode())
    assert not planned
    assert value.startswith("/path/")


def test_a_number_of_too_many_digits_is_the_applications(shared_app: Nginx) -> None:
    _, planned = ask_raw(shared_app, f"/path/a/{'1' * 5000}/1/{UUID}/".encode())
    assert not planned


@pytest.mark.parametrize(("text", "number"), [("-12", -12), ("0", 0), ("%2B3", 3), ("1.0", 1)])
def test_a_number_in_the_path_is_pydantics(shared_app: Nginx, text: str, number: int) -> None:
    assert shared_app.client.get(f"/item/{text}").json() == [number]


def test_ten_parameters_of_the_path(shared_app: Nginx) -> None:
    assert shared_app.client.get("/1/2/3/4/5/6/7/8/9/10").json() == [str(n) for n in range(1, 11)]


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
    shared_app: Nginx, content: bytes, content_type: str, planned: bool
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = shared_app.client.post("/body", content=content, headers=headers)
    if planned:
        assert answer.json() == [{"name": "a", "size": 3}]
    else:
        assert kind(answer) == "plan-asgi"


def test_a_body_without_a_type_is_json_when_it_need_not_be_strict(shared_app: Nginx) -> None:
    assert shared_app.client.post("/lax", content=ITEM).json() == [{"name": "a", "size": 3}]
    headers = {"content-type": "text/plain"}
    assert kind(shared_app.client.post("/lax", content=ITEM, headers=headers)) == "plan-asgi"


def test_an_encoded_body_is_the_applications(shared_app: Nginx) -> None:
    headers = {"content-type": JSON, "content-encoding": "identity"}
    assert kind(shared_app.client.post("/body", content=ITEM, headers=headers)) == "plan-asgi"


def test_an_empty_body_is_missing_and_null_is_not(shared_app: Nginx) -> None:
    headers = {"content-type": JSON}
    assert shared_app.client.post("/optional").json() == ["none"]
    assert shared_app.client.post("/optional", content=b"null", headers=headers).json() == [None]
    assert shared_app.client.post("/optional", content=b"[1]", headers=headers).json() == [[1]]


def test_members_of_a_body(shared_app: Nginx) -> None:
    assert shared_app.client.post("/embedded", json={"a": 1, "b": "x"}).json() == [1, "x"]
    assert shared_app.client.post("/embedded", json={"a": "2"}).json() == [2, "default"]
    for value in ({"b": "x"}, [1], "a", {"a": None}):
        assert kind(shared_app.client.post("/embedded", json=value)) == "plan-asgi"


def test_a_body_that_comes_late_is_waited_for(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        head = f"POST /body HTTP/1.1\r\nHost: test\r\nContent-Type: {JSON}\r\n"
        client.send(f"{head}Content-Length: {len(ITEM)}\r\n\r\n".encode())
        for byte in ITEM:
            client.send(bytes([byte]))
        answer = client.response()
    assert json.loads(answer.body) == [{"name": "a", "size": 3}]
    assert answer.headers["x-kind"] == "plan"


def test_a_body_beyond_the_buffer_is_the_applications(shared_app: Nginx) -> None:
    large = json.dumps({"name": "a" * 3_000_000, "size": 3}).encode()
    answer = shared_app.client.post("/body", content=large, headers={"content-type": JSON})
    assert kind(answer) == "plan-asgi"


def test_a_body_that_the_client_holds_back_is_the_applications(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        head = f"POST /body HTTP/1.1\r\nHost: test\r\nContent-Type: {JSON}\r\n"
        client.send(f"{head}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n".encode())
        answer = client.response()
    assert json.loads(answer.body) == {"asgi": "/body"}


def test_a_chunked_body(shared_app: Nginx) -> None:
    headers = {"content-type": JSON}
    answer = shared_app.client.post("/body", content=iter([ITEM]), headers=headers)
    assert answer.status_code == 200


def test_a_computed_value(shared_app: Nginx) -> None:
    assert shared_app.client.get("/computed", headers={"x-computed": "yes"}).json() == ["yes"]
    assert kind(shared_app.client.get("/computed", headers={"x-fail": "1"})) == "plan-asgi"
