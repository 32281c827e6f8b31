"""Native validation answers what FastAPI answers, byte for byte.

The oracle is FastAPI itself: every body goes to an application with the same model and to
the C code, and status and whole body must agree.  Where they may not, `expected` says why.
"""

import json
import random
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from harness.oracle import TOO_BIG, Oracle


class Scalars(BaseModel):
    s: str | None = None
    i: int | None = None
    f: float | None = None
    b: bool | None = None
    d: datetime | None = None
    u: UUID | None = None


class Required(BaseModel):
    s: str
    i: int
    f: float
    b: bool
    d: datetime
    u: UUID


class Name(BaseModel):
    model_config = ConfigDict(extra="forbid")

    first: str
    last: str = Field("", max_length=5)


class Node(BaseModel):
    value: int
    children: list["Node"] = []


class Nested(BaseModel):
    name: Name
    other: Name | None = None
    numbers: list[int] = Field(default_factory=list, min_length=1, max_length=3)
    by_key: dict[str, float | None] = Field(default_factory=dict, min_length=1, max_length=2)
    names: list[Name] = []
    grid: list[list[bool]] = []
    groups: dict[str, dict[str, list[Name | None]]] = {}
    tree: Node | None = None


class Constrained(BaseModel):
    short: str = Field("abc", min_length=2, max_length=4)
    single: str = Field("a", min_length=1, max_length=1)
    code: str = Field("A1", pattern=r"^[A-Z]\d+$")
    free: str = Field("x", pattern=r"\w\s?[^\d]?$")
    trimmed: Annotated[str, StringConstraints(strip_whitespace=True, max_length=3)] = ""
    few: int = Field(3, gt=-10, ge=-9, lt=100, le=99, multiple_of=3)
    large: int = Field(0, ge=-(2**63), le=2**63 - 1)
    even: int = Field(0, multiple_of=2)
    ratio: float = Field(0, gt=-5, ge=-4.5, lt=100, le=99.25)
    step: float = Field(0, multiple_of=0.1)
    finite: float = Field(0, allow_inf_nan=False)
    tiny: float = Field(0, lt=1e-7)
    huge: float = Field(1e300, gt=1e21)
    maybe: int | None = Field(None, gt=3)


class Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", str_strip_whitespace=True, str_min_length=1, str_max_length=6
    )

    a: str
    n: int = 1


class WithInt(BaseModel):
    name: str
    id: int


class WithText(BaseModel):
    id: str = Field(max_length=5)


class WithUuid(BaseModel):
    id: UUID = Field(default_factory=uuid4)
    name: str = ""


MODELS: tuple[type[BaseModel], ...] = (
    Scalars,
    Required,
    Nested,
    Constrained,
    Strict,
    WithInt,
    WithText,
    WithUuid,
)

ORACLE = Oracle(MODELS)
RESOURCES = ORACLE.resources
agree = ORACLE.agree
native = ORACLE.native
oracle = ORACLE.oracle


def dumps(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


TEXTS = """
1 0 -1 +1 01 001 00 -0 -01 +-1 --1 -+1 1_000 1__0 _1 1_ 0_1 0_ 0-5 -0-5 1. 1.0 1.00 -1.0 +1.0 00.0
0.0 .0 .5 -.5 5. 1.5 1e5 1E5 1e 1e+ 1e-3 1e400 -1e400 1e-400 0.0e5 1_0.5 1_0e1_0 inf -inf
+Infinity INF nan NaN -nan infinit 0x10 ١٢ １ ½ true True TRUE false t f y n Y N yes no on off YES
oN 2 null None 9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809
99999999999999999999 +9223372036854775807 09223372036854775808 9223372036854775807.0
9223372036854775808.0 1e22 1e21 123456789012345678 0.1 0.30000000000000004 1e15 1e16 1e17 5e-324
1.7976931348623157e308 2e308 2024-01-01 2024-02-29 2023-02-29 2024-13-01 2024-00-10 2024-01-32
2024-1-1 20240102 2024-01-01T 2024-01-01T10 2024-01-01T10:00 2024-01-01T10:00:00
2024-01-01t10:00:00z 2024-01-01_10:00:00Z 2024-01-01T10:00:00.5 2024-01-01T10:00:00,123456
2024-01-01T10:00:00.1234567Z 2024-01-01T10:00:00. 2024-01-01T24:00 2024-01-01T10:60
2024-01-01T10:00:60 2024-01-01T10:00:00+01:00 2024-01-01T10:00:00-0830 2024-01-01T10:00:00+24:00
2024-01-01T10:00:00+23:59 2024-01-01T10:00:00+01:60 2024-01-01T10:00:00+01
2024-01-01T10:00:00−02:00 2024-01-01T10:00:00Zx 2024-01-01T10:00+00:00 2024-01-01T10:00-00:00
2024/01/01 2024-01/01 2024-01-01X10:00:00 0000-01-01 0000-12-31T00:00 0001-01-01
9999-12-31T23:59:59.999999Z 1900-02-29 2000-02-29T00:00:00Z 1604-12-31 -62167219200 -62167219201
-62135596800 253402300799 253402300800 20000000000 20000000001 -20000000000 -20000000001
253402300799000 253402300799999 253402300800000 -62135596800000 -62167219200000 1654619320.123456
1654619320.1234567 1654619320123.5 -1.25 -1.5 1.5e3 1.5e300 1.5e999 -1.5e999
40000000000000000000 86400 86401 1704067200 .5e1 1.e3 +1.5 + - . 1.2.3
00000000-0000-0000-0000-000000000000 12345678-1234-4234-8234-123456789ABC
12345678123442348234123456789abc
{12345678-1234-4234-8234-123456789abc} urn:uuid:12345678-1234-4234-8234-123456789abc
URN:UUID:12345678-1234-4234-8234-123456789abc urn:uuid:12345678123442348234123456789abc
{12345678123442348234123456789abc} 12345678-1234-4234-8234-123456789ab
12345678-1234-4234-8234-123456789abcd 1234567-81234-4234-8234-123456789abc
12345678-1234-42348-234-123456789abc 12345678-1234-4234-82341-23456789abc
12345678-1234-4234-8234-123456789abg 1234567812344234823412345678-abc 12345678-1234-4234-8234
é2345678-1234-4234-8234-123456789abc {} {} - ---- a-b-c-d-e 12345678-1234-4234-8234-
{2345678-1234-4234-8234-123456789ab} urn:uuid: urn:uuid:x
urn:uuid:12345678-1234-4234-8234-123456789abcdef abc ab A1 A12 a1 A١ é ß ab\u00a0 \u2003x\u2003 ẞ
😀😀 a😀b /\\" x\u0301
""".split()

TEXTS += [
    "",
    " ",
    " 1 ",
    "\t1.5\n",
    "\u00a01\u3000",
    "\x1f1",
    " 1_0 ",
    "1 000",
    " true",
    " nan ",
    "a b",
]
TEXTS += ["2024-01-01 10:00:00", " 2024-01-01", "2024-01-01T10:00:00 ", "1" * 4299, "1" * 4300]
TEXTS += ["1" * 4301, "-" + "1" * 4300, "0" * 4301, "a\x00b", "\x7f\u2028\u2029", '"\\\b\f\n\r\t']

NUMBERS = """
0 1 -1 2 3 4 -0 -0.0 0.0 1.0 1.5 -1.5 1.25 0.1 0.2 0.25 99 99.25 99.5 100 -9 -9.0 -10 -4.5 6.0 7
102 9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809
18446744073709551615 18446744073709551616 99999999999999999999999 9223372036854775806.0 9.2e18
-9.223372036854775808e18 1e18 1e19 1e15 1e16 1e17 1e21 1e22 1e-4 1e-5 1.5e-5 1e-6 1e-7 1e-10
5e-324 2e-324 1.7976931348623157e308 0.30000000000000004 123456789.123456789 4.35 2.675 1E5 1e+5
1e-05 1e0 10000000000000000.0 12345678901234567.0 0.00001234 20000000000 20000000001 -20000000000
-20000000001 20000000000.5 20000000001.25 253402300799 253402300800 253402300799000
253402300800000 -62135596800000 -62167219200001 1654619320.123456 1654619320.1234567 -1.25 -6.25
0.0000005 0.0000015 1.9999999 86399.9999999 -62135596800001.5 253402300799999.9 1e30 -1e30
""".split()

OTHERS = ["null", "true", "false", "[]", "{}", "[1]", '{"a":1}', "[null]", '"' + "é" * 5 + '"']

VALUES = [dumps(text) for text in TEXTS] + [value.encode() for value in NUMBERS + OTHERS]


@pytest.mark.parametrize("name", Scalars.model_fields)
def test_scalars_of_every_form(name: str) -> None:
    for value in VALUES:
        agree(Scalars, b'{"%s":%s}' % (name.encode(), value))


@pytest.mark.parametrize("name", Constrained.model_fields)
def test_constraints_on_every_form(name: str) -> None:
    for value in VALUES:
        agree(Constrained, b'{"%s":%s}' % (name.encode(), value))


def test_whole_documents_and_missing_fields() -> None:
    good = {
        "s": "x",
        "i": "1",
        "f": 1,
        "b": "yes",
        "d": "2024-01-01T00:00:00Z",
        "u": "12345678123442348234123456789abc",
    }
    agree(Required, dumps(good))
    for name in good:
        agree(Required, dumps({key: value for key, value in good.items() if key != name}))
        agree(Required, dumps({**good, name: None}))
        agree(Required, dumps({**good, name: [good[name]]}))
    agree(Required, dumps(dict(reversed(good.items()))))
    agree(Required, dumps({"x": 1, **good, "y": {"s": 1}}))
    agree(Required, b"{}")


NESTED: tuple[Any, ...] = (
    {},
    {"name": {}},
    {"name": {"first": "a"}},
    {"name": {"first": 1, "last": "abcdef", "middle": 2, "x": [1]}},
    {"name": {"first": "a", "last": "b"}, "other": {"first": None}},
    {"name": {"first": "a"}, "numbers": []},
    {"name": {"first": "a"}, "numbers": [1, "2", 3.0]},
    {"name": {"first": "a"}, "numbers": [1, 2, 3, 4]},
    {"name": {"first": "a"}, "numbers": ["x", 2, 3, 4]},
    {"name": {"first": "a"}, "numbers": ["x", 1.5, None]},
    {"name": {"first": "a"}, "by_key": {}},
    {"name": {"first": "a"}, "by_key": {"a": 1, "b": None}},
    {"name": {"first": "a"}, "by_key": {"a": 1, "b": 2, "c": 3}},
    {"name": {"first": "a"}, "by_key": {"a": "x", "b": 2, "c": 3}},
    {"name": {"first": "a"}, "by_key": {"a": "x", "b": 2, "c": 3, "d": "y", "e": 5}},
    {"name": {"first": "a"}, "by_key": {"": 1, 'q"\\\n': "x"}},
    {"name": {"first": "a"}, "names": [{"first": "a"}, {}, 1, None]},
    {"name": {"first": "a"}, "grid": [[1, 0], ["x"], 5, []]},
    {"name": {"first": "a"}, "groups": {"a": {"b": [None, {"first": "x"}, {"first": 1}]}}},
    {"name": {"first": "a"}, "groups": {"a": {"b": {}}, "c": []}},
    {"name": {"first": "a"}, "tree": {"value": 1}},
    {"name": {"first": "a"}, "tree": {"value": 1, "children": [{"value": 2, "children": []}]}},
    {"name": {"first": "a"}, "tree": {"value": "x", "children": [{"children": [{"value": []}]}]}},
    {"name": [], "other": "x", "numbers": {}, "by_key": [], "tree": 1, "grid": "x"},
    [],
    [{}],
    "x",
    1,
    1.5,
    None,
    True,
)


@pytest.mark.parametrize("document", NESTED, ids=range(len(NESTED)))
def test_nested_documents(document: Any) -> None:
    agree(Nested, dumps(document))


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":"x","a":"y"}',
        b'{"n":1,"a":"x","n":"z"}',
        b'{"z":1,"a":"x","z":2,"y":0,"z":3}',
        b'{"a":{"k":1,"l":2,"k":3}}',
        b"{%s}" % b",".join(b'"k%d":%d' % (i % 30, i) for i in range(90)),
        b'{"a":" abc  "}',
        rb'{"a":"\\"}',
        rb'{"a":"\"\\\""}',
        rb'{"a\\":"\\"}',
        b'{"a":"   "}',
        b'{"a":"abcdefg"}',
        b'{"a":"\xc2\xa0x\xe3\x80\x80"}',
    ],
)
def test_duplicates_unknown_members_and_stripping(body: bytes) -> None:
    agree(Strict, body)
    agree(Nested, b'{"name":%s}' % body)
    agree(Nested, b'{"name":{"first":"x"},"by_key":%s,"groups":{"g":%s}}' % (body, body))


@pytest.mark.parametrize("model", [WithInt, WithText, WithUuid])
@pytest.mark.parametrize(
    "value", ['"abc"', "1", '"7"', "null", '"abcdef"', '"12345678123442348234123456789abc"', "1.5"]
)
def test_declared_ids(model: type[BaseModel], value: str) -> None:
    agree(model, b'{"name":"x","id":%s}' % value.encode())
    agree(model, b'{"id":%s}' % value.encode())


def test_an_empty_id_is_too_short() -> None:
    status, body = native(WithText, b'{"id":""}', "application/json")
    (error,) = json.loads(body)["detail"]
    assert (status, error["type"], error["loc"]) == (422, "string_too_short", ["body", "id"])
    assert oracle(WithText, b'{"id":""}', "application/json")[0] == 201


def test_the_uuid_of_a_factory() -> None:
    result = RESOURCES[WithUuid].call("create", body=b'{"name":"x"}')
    assert result[0] == "store"
    id_, document = result[2], result[3]
    assert UUID(str(id_)).version == 4
    assert isinstance(document, bytes)
    assert json.loads(document) == {"id": id_, "name": "x"}


BROKEN = r"""
{ } [ ] {"a" {"a": {"a":1 {"a":1, {"a":1,} [1,] [1,,2] [,] {,} {1:2} {'a':1} {"a":1;} {"a" 1}
{"a"::1} tru True nul nulll null1 truefalse - -- -a 01 1. .5 1.e5 1e 1e+ 0x1 +1 1_0 NaN -NaN
Infinity -Infinity -Infinit Infinitx "a "a\" "a\x" "\u" "\u1" "\u12" "\u123" "\u1234 "\u12g4"
"\ud800" "\ud800\ud800" "\ud83d\ude00" "\udc00" "\ud800\u0041" "\ud800\u12" "\ud800\u12g4"
"\ud800x" "\u00e9\u" {"\u00zz":1} [1}{ {]} [}] [1 2] {"a":1 "b":2} {}{} []x 1x "a"b "a""b" 1,2
{"a":[1,{"b":[2,} {"s":1e999} {"s":-1e999} [1e400] // /**/1 [1]// "\/" '' \ {"é":"é" "x"} ["é\q"]
["😀",tru] {"😀":} [1e5,1E+5,1e-5,0.5,-0] 1e5 {"a":"b"]
""".split()

BROKEN += [
    "",
    " ",
    "\n",
    '["a\nb"]',
    '["a\x00b"]',
    '"\t"',
    "\x00",
    "[1\x00]",
    "\ufeff{}",
    "\u00a01",
    "\x0c1",
]
BROKEN += [
    "[" * 5,
    '{"a":' * 5,
    "]",
    "[[1,2],[3",
    '{"a":[1,2}',
    '"' + "x" * 100,
    "[1, 2",
    "[1 ,",
    '{"a" :1 ,',
]


def test_what_is_no_json() -> None:
    for text in BROKEN:
        agree(Strict, text.encode())
        agree(Scalars, b'{"s":%s}' % text.encode())
        agree(Scalars, b'{"s":"\xc3\xa9",  "f" : [%s' % text.encode())


def test_truncated_and_damaged_documents() -> None:
    source = dumps({"name": {"first": 'é"\\\u2028😀\n', "last": "x"}, "numbers": [1, -2.5e3, None]})
    for end in range(len(source)):
        agree(Nested, source[:end])
    chance = random.Random(20240101)
    for _ in range(1500):
        damaged = bytearray(source)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(damaged))
            kind = chance.randrange(3)
            if kind == 0:
                del damaged[at]
            elif kind == 1:
                damaged[at] = chance.choice(b'{}[]",:\\ntf0123456789eE.-+ux \n\xc3')
            else:
                damaged.insert(at, chance.choice(b'{}[]",:\\ntf0123456789eE.-+ux \n'))
        agree(Nested, bytes(damaged))


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "APPLICATION/JSON; charset=utf-8",
        " application/json ",
        "application/vnd.api+json",
        "application/problem+json;x=y",
        "application/x+jsonx",
        "application/json/x",
        "application/",
        "application",
        "json",
        "text/json",
        "text/plain",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
    ],
)
def test_content_types(content_type: str | None) -> None:
    for body in (b"", b'{"a":"x"}', b'{"a":1}', b'"\xc3\xa9\\n"', b"a=1&b=2"):
        agree(Strict, body, content_type)


@pytest.mark.parametrize(
    "body", [b"\xff", b'{"a":"\xff"}', b'{"a":"\xc0\x80"}', b'"\xf5\x80\x80\x80"']
)
def test_bad_utf8_is_no_server_error(body: bytes) -> None:
    agree(Strict, body)
    assert native(Strict, body, "application/json")[0] == 400
    assert native(Strict, body, "text/plain")[0] == 400


def test_depth_is_limited_to_100_levels() -> None:
    def nested(depth: int) -> bytes:
        return b'{"a":%s1%s}' % (b"[" * (depth - 1), b"]" * (depth - 1))

    agree(Strict, nested(100))
    status, body = native(Strict, nested(101), "application/json")
    assert status == 422
    assert json.loads(body)["detail"][0] == {
        "type": "json_invalid",
        "loc": ["body", 104],
        "msg": "JSON decode error",
        "input": {},
        "ctx": {"error": "Nested too deeply"},
    }
    assert native(Strict, nested(100_000), "application/json")[0] == 422


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("9223372036854775808", "int_parsing_size"),
        ('"9223372036854775808"', "int_parsing_size"),
        ("-9223372036854775809", "int_parsing_size"),
        ('" -9_223_372_036_854_775_809 "', "int_parsing_size"),
    ],
)
def test_ints_beyond_64_bits_are_refused(value: str, kind: str) -> None:
    status, body = native(Scalars, b'{"i":%s}' % value.encode(), "application/json")
    assert status == 422
    (error,) = json.loads(body)["detail"]
    assert (error["type"], error["msg"], error["loc"]) == (kind, TOO_BIG, ["body", "i"])
    assert error["input"] == json.loads(value)


def test_an_int_of_too_many_digits_is_unreadable() -> None:
    agree(Scalars, b'{"i":%s}' % (b"1" * 4301))
    agree(Scalars, b'{"x":[1, -%s]}' % (b"1" * 4301))
    assert native(Scalars, b'{"x":%s}' % (b"1" * 4301), "application/json")[0] == 400
    assert native(Scalars, b'{"x":%s}' % (b"1" * 4300), "application/json")[0] == 201


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
def test_what_is_not_finite_is_no_json(value: str) -> None:
    for name in Scalars.model_fields:
        status, body = native(
            Scalars, b'{"%s":%s}' % (name.encode(), value.encode()), "application/json"
        )
        assert status == 422
        (error,) = json.loads(body)["detail"]
        assert error["loc"] == ["body", 5]
        assert error["ctx"] == {"error": "Out of range float values are not JSON compliant"}


@pytest.mark.parametrize("value", ["nan", "inf", " -Infinity ", "1e400"])
def test_text_of_what_is_not_finite_is_refused(value: str) -> None:
    status, body = native(Scalars, dumps({"f": value}), "application/json")
    assert status == 422
    (error,) = json.loads(body)["detail"]
    assert (error["type"], error["input"]) == ("finite_number", value)


# The rest is found, not thought of.

CHARACTERS = st.characters(codec="utf-8")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-5, 105),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-(2.0**40), 2.0**40, width=32),
    st.text(CHARACTERS, max_size=8),
    st.sampled_from([text for text in TEXTS if len(text) < 100]),
    st.datetimes(timezones=st.none() | st.timezones()).map(str),
    st.uuids().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers().map(str),
    st.text("0123456789+-._eE :TZ", max_size=24),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)


def documents(model: type[BaseModel], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names: Iterable[str] = [*model.model_fields, "unknown"]
    return st.fixed_dictionaries({}, optional={name: values for name in names})


@settings(max_examples=400)
@given(documents(Scalars, SCALARS))
def test_found_scalars(document: Any) -> None:
    agree(Scalars, dumps(document))


@settings(max_examples=400)
@given(documents(Required, JSON))
def test_found_required(document: Any) -> None:
    agree(Required, dumps(document))


@settings(max_examples=400)
@given(documents(Constrained, SCALARS))
def test_found_constraints(document: Any) -> None:
    agree(Constrained, dumps(document))


NAMES = documents(Name, SCALARS) | JSON
NODES = st.recursive(
    documents(Node, SCALARS),
    lambda inner: st.fixed_dictionaries(
        {"value": SCALARS, "children": st.lists(inner, max_size=3)}
    ),
    max_leaves=5,
)


@settings(max_examples=400)
@given(
    st.fixed_dictionaries(
        {"name": NAMES},
        optional={
            "other": NAMES,
            "numbers": st.lists(SCALARS, max_size=5),
            "by_key": st.dictionaries(st.text(CHARACTERS, max_size=4), SCALARS, max_size=4),
            "names": st.lists(NAMES, max_size=3),
            "grid": st.lists(st.lists(SCALARS, max_size=3), max_size=3),
            "groups": st.dictionaries(
                st.text(max_size=2),
                st.dictionaries(st.text(max_size=2), st.lists(NAMES, max_size=2)),
            ),
            "tree": NODES,
        },
    )
)
def test_found_nested(document: Any) -> None:
    agree(Nested, dumps(document))


@settings(max_examples=400)
@given(
    st.integers(-(10**14), 10**15)
    | st.floats(-1e14, 1e15)
    | st.floats(-(2.0**35), 2.0**35, width=32)
)
def test_found_timestamps(value: float) -> None:
    agree(Scalars, dumps({"d": value}))
    agree(Scalars, dumps({"d": repr(value)}))


@settings(max_examples=400)
@given(st.binary(max_size=24) | st.text('{}[]",:\\utrue0123eE.- \n', max_size=24).map(str.encode))
def test_found_bytes(body: bytes) -> None:
    # json.loads() looks for UTF-16 and UTF-32 in these; JSON is UTF-8
    if b"\x00" not in body[:4] and body[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        agree(Strict, body)


@pytest.mark.parametrize("kind", ["int", "uuid"])
def test_ids_of_the_path(kind: str) -> None:
    model: type[BaseModel] = WithInt if kind == "int" else WithUuid
    for text in TEXTS:
        if "/" in text or text == "":
            continue
        status, body = ORACLE.ask("GET", f"/{kind}/{text}", b"", None)
        result = RESOURCES[model].call("get", id=text)
        if result[0] == "store":
            assert status == 200
            assert result[2] == json.loads(body)
        elif status == 200:
            error = json.loads(result[2])["detail"][0]
            assert (result[1], error["type"]) == (422, "int_parsing_size")
            assert error["loc"] == ["path", "id"]
        else:
            assert (result[1], result[2]) == (status, body)


@pytest.mark.parametrize("model", [model for model in MODELS if model is not WithUuid])
def test_arrays_are_validated_as_a_list_of_the_model(model: type[BaseModel]) -> None:
    samples: list[Any] = [{}, 7, None, [], {"s": 1, "i": "x"}, {"id": 1, "name": "a", "a": "b"}]
    for count in range(len(samples) + 1):
        agree(model, dumps(samples[:count]))
    agree(model, dumps([{}] * 1001))
    agree(model, dumps([{"s": "a", "id": "5", "name": "n", "a": "x"}] * 3))
