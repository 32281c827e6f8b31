"""The JSON of results: FastAPI's bytes, or left to FastAPI.

The application compares what the module writes with FastAPI's own functions, for values
that the tests name as expressions, and for those that hypothesis finds in the worker.
"""

import pytest

from harness import SLOWER, Nginx

APP = r"""
import collections
import dataclasses
import enum
import ipaddress
import json
import math
import pathlib
import random
import struct
from collections import deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID, uuid4

import fastapi.encoders
import hypothesis
from fastapi import FastAPI, Response
from fastapi.encoders import jsonable_encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel, computed_field, field_serializer

from _databridge import json_text

app = FastAPI()
utc = timezone.utc
zone = timezone(timedelta(hours=2, minutes=3, seconds=4))


class Color(enum.Enum):
    RED = "r\u00e9d"
    BOTH = [1, {"a": "b"}]
    ODD = {1: 2}


class Level(enum.IntEnum):
    LOW = 1


class Word(str, enum.Enum):
    YES = "yes"


@enum.unique
class Flag(enum.Flag):
    A = 1


@dataclasses.dataclass
class Point:
    x: int = 1


class Text(str):
    pass


class Names(dict):
    pass


class Pair(collections.namedtuple("Pair", "a b")):
    pass


class Item(BaseModel):
    name: str = Field("x", serialization_alias="title")
    price: float = 0.00001
    when: datetime = datetime(2020, 1, 2, tzinfo=utc)
    amount: Decimal = Decimal("1.50")
    color: Color = Color.RED
    tags: set[str] = {"a"}
    parts: "list[Item]" = []

    @computed_field
    @property
    def length(self) -> int:
        return len(self.name)


class Numbers(RootModel[list[float]]):
    pass


class Odd(BaseModel):
    value: int = 1

    @field_serializer("value")
    def encode(self, value):
        return {"_sa": value, "b": (1, 2)}


class Own(BaseModel):
    def model_dump(self, **options):
        return {"own": True}


class Changed(BaseModel):
    a: int = 1


changed = Changed()
changed.__dict__["model_dump"] = lambda **options: {"changed": True}


class ObjectId:
    pass


class Fails(BaseModel):
    value: int = 1

    @field_serializer("value")
    def encode(self, value):
        raise KeyError(value)


def nested(depth):
    value = {}
    for _ in range(depth - 1):
        value = [value]
    return value


def circle():
    value = []
    value.append(value)
    return value


class Growing(BaseModel):
    rows: dict = {}

    @field_serializer("rows")
    def encode(self, rows):
        grown["b"] = 1
        return 1


grown = {"a": Growing(), "c": 2}


def real(value):
    encoded = jsonable_encoder(value)
    text = json.dumps(encoded, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


@app.get("/")
def root():
    return "here"


@app.post("/text")
def text(expression: str, registered: str | None = None):
    original = dict(fastapi.encoders.ENCODERS_BY_TYPE)
    if registered is not None:
        fastapi.encoders.ENCODERS_BY_TYPE[eval(registered)] = lambda value: "registered"
    try:
        value = eval(expression)
        text = json_text(value)
        if text is None:
            return Response(status_code=204)
        if text != (expected := real(value)):
            return Response(b"FastAPI: " + expected + b" we: " + text, status_code=500)
        return Response(text, media_type="application/json")
    finally:
        fastapi.encoders.ENCODERS_BY_TYPE.clear()
        fastapi.encoders.ENCODERS_BY_TYPE.update(original)


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))
    | st.text("\"\\\n\x01\x1f\x7f\u20ac\U0001f600 abcdefgh", max_size=40)
    | st.dates()
    | st.times()
    | st.datetimes()
    | st.datetimes(timezones=st.just(utc) | st.timezones())
    | st.uuids()
    | st.timedeltas()
    | st.binary()
    | st.sampled_from([*Color, *Level, *Word, Text("t"), Point(), ObjectId(), Own(), Odd()])
    | st.builds(Item, name=st.text(), price=st.floats())
    | st.builds(Numbers, st.lists(st.floats()))
)
keys = st.text() | st.sampled_from(["_s", "_sa", "_sad", "sa"]) | st.integers() | st.none()
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner)
    | st.tuples(inner, inner)
    | st.dictionaries(st.text(), inner)
    | st.dictionaries(keys, inner)
    | st.builds(deque, st.lists(inner)),
    max_leaves=20,
)


@app.post("/values")
def check_values(count: int, seed: int):
    written = []

    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(values)
    def check(value):
        text = json_text(value)
        if text is not None:
            assert text == real(value)
            written.append(text)

    hypothesis.seed(seed)(check)()
    return {"examples": count, "written": len(written)}


def numbers(source):
    while True:
        yield struct.unpack("d", source.randbytes(8))[0]
        yield round(source.uniform(-1e6, 1e6), source.randint(0, 10))
        yield source.random() * 10.0 ** source.randint(-6, 17)
        yield source.randint(0, 10 ** source.randint(1, 17)) / 10 ** source.randint(0, 20)
        number = source.randint(0, 10 ** source.randint(1, 16))
        yield float(f"{source.randint(0, 99)}.{number}e{source.randint(-7, 16)}")
        yield math.nextafter(round(source.uniform(0, 1000), source.randint(0, 4)), math.inf)


@app.post("/floats")
def check_floats(count: int, seed: int):
    for value, _ in zip(numbers(random.Random(seed)), range(count)):
        if math.isfinite(value):
            assert json_text(value) == repr(value).encode(), repr(value)
    return "all are repr's"
"""

EQUAL = [
    "{}",
    "[]",
    "()",
    "''",
    "'x' * 100_000",
    "'\\u00e9' * 100_000",
    "['\\x00\\x01' * 50_000]",
    "list(range(10_000))",
    "'\"'",
    "['\\\\' * n + 'a' * m for n in range(3) for m in range(30)]",
    "['a' * n + '\\n' + 'b' * m for n in range(20) for m in range(20)]",
    "''.join(map(chr, range(0xd800)))",
    "[chr(n) for n in (0x7f, 0x80, 0x7ff, 0x800, 0x2028, 0xffff, 0x10000, 0x10ffff)]",
    "[True, False, None]",
    "[0, -1, 9, 10, 99, 100, 101, 12345, 2**63 - 1, -2**63]",
    "[10**n + d for n in range(18) for d in (-1, 0, 1)]",
    "[0.0, -0.0, 1.0, 0.1, 1/3, 0.1 + 0.2, 100.0, 5e-324, 1.7976931348623157e308]",
    "[1e14, 1e15, 1e16, 1e17, 1e22, 1e23, 999999999999999.0, 9999999999999999.0]",
    "[1e-3, 1e-4, 1e-5, 0.00012345, 9.999e-5, 9.999999999999999, 9.99999999999999]",
    "[10.0**n for n in range(-30, 30)]",
    "{'a': {'b': [1, (2, {'c': None})]}, '': 1, '_s': 1, 'sa': 1, '\\u00e9': 1}",
    "nested(100)",
    "{1}",
    "frozenset({'a'})",
    "deque([1, [2]])",
    "[Color.RED, Color.BOTH, Level.LOW, Word.YES, Flag.A]",
    "[date(1, 2, 3), date(9999, 12, 31)]",
    "[datetime(1, 2, 3), datetime(2020, 1, 2, 3, 4, 5, 6), datetime(1, 1, 1, tzinfo=zone)]",
    "[datetime(2020, 1, 2, 3, 4, 5, 600000, tzinfo=utc), datetime(1, 1, 1, 1, tzinfo=utc)]",
    "[time(), time(1, 2, 3), time(1, 2, 3, 4), time(1, tzinfo=utc), time(1, tzinfo=zone)]",
    "[UUID(int=0), UUID(int=2**128 - 1), uuid4()]",
    "[Decimal('1'), Decimal('1.10'), Decimal('1E+3'), Decimal('-0'), Decimal('1E-7')]",
    "[timedelta(1, 2, 3), timedelta()]",
    "[b'abc', ipaddress.ip_address('::1')]",
    "Item()",
    "[Item(name='n', parts=[Item(), Item(tags=set())]), {'item': Item()}]",
    "[Numbers([1, 2.5]), Numbers([])]",
]

LEFT = [
    "2**63",
    "-2**63 - 1",
    "float('nan')",
    "[math.inf]",
    "'\\ud800'",
    "{'\\udfff': 1}",
    "{1: 2}",
    "{None: 1, True: 2, 1.5: 3}",
    "{Text('a'): 1}",
    "{'_sa': 1}",
    "[{'_sa_instance_state': 1}]",
    "{(1, 2): 3}",
    "Text('a')",
    "Names(a=1)",
    "Pair(1, 2)",
    "collections.OrderedDict(a=1)",
    "nested(101)",
    "circle()",
    "grown",
    "(n for n in [1])",
    "iter([1])",
    "object()",
    "Point()",
    "ObjectId()",
    "Own()",
    "Odd()",
    "Fails()",
    "changed",
    "Item",
    "Color",
    "Color.ODD",
    "pathlib.Path('/')",
    "Decimal('nan')",
    "b'\\xff'",
    "Numbers([math.nan])",
    "memoryview(b'a')",
    "bytearray(b'a')",
    "1j",
]


def text(server: Nginx, expression: str, registered: str | None = None) -> str | None:
    params = {"expression": expression} | ({"registered": registered} if registered else {})
    response = server.client.post("/text", params=params)
    assert response.status_code in (200, 204), response.text
    return response.text if response.status_code == 200 else None


@pytest.mark.parametrize("expression", EQUAL)
def test_is_fastapis_to_the_byte(shared_app: Nginx, expression: str) -> None:
    assert text(shared_app, expression) is not None


@pytest.mark.parametrize("expression", LEFT)
def test_is_left_to_fastapi(shared_app: Nginx, expression: str) -> None:
    assert text(shared_app, expression) is None


def test_a_generator_that_is_left_to_fastapi_was_not_consumed(shared_app: Nginx) -> None:
    expression = "(g := (n for n in [1, 2])) and [json_text(g), list(g)]"
    assert text(shared_app, expression) == "[null,[1,2]]"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("datetime", "datetime(2020, 1, 2, tzinfo=utc)"),
        ("date", "date(2020, 1, 2)"),
        ("UUID", "uuid4()"),
        ("ObjectId", "ObjectId()"),
        ("bytes", "b'abc'"),
    ],
)
def test_the_encoder_of_a_type_is_the_one_that_the_application_has_registered(
    shared_app: Nginx, kind: str, value: str
) -> None:
    assert text(shared_app, f"[{value}]", kind) == '["registered"]'


@pytest.mark.parametrize(
    ("kind", "value"),
    [("str", "'a'"), ("set", "{1}"), ("deque", "deque([1])"), ("Color", "Color.RED")],
)
def test_an_encoder_of_a_type_that_fastapi_tests_for_before_is_not_called(
    shared_app: Nginx, kind: str, value: str
) -> None:
    answer = text(shared_app, value, kind)
    assert answer is not None and "registered" not in answer


@pytest.mark.parametrize(
    ("kind", "value"), [("Point", "Point()"), ("Text", "Text('a')"), ("Pair", "Pair(1, 2)")]
)
def test_a_type_with_an_encoder_that_fastapi_tests_for_before_is_left_to_it(
    shared_app: Nginx, kind: str, value: str
) -> None:
    assert text(shared_app, value, kind) is None


def test_random_values_are_fastapis_to_the_byte_or_left_to_it(shared_app: Nginx) -> None:
    response = shared_app.client.post("/values", params={"count": 500, "seed": 1}, timeout=60)
    assert response.status_code == 200, shared_app.output()
    assert response.json()["written"] > 100


def test_random_floats_are_written_as_repr_writes_them(shared_app: Nginx) -> None:
    response = shared_app.client.post("/floats", params={"count": 100_000, "seed": 1}, timeout=60)
    assert response.status_code == 200, shared_app.output()


@pytest.mark.soak
@pytest.mark.timeout(3600 * SLOWER)
def test_many_random_values_and_floats(shared_app: Nginx) -> None:
    for seed in range(100):
        for path, count in (("/values", 400), ("/floats", 200_000)):
            response = shared_app.client.post(
                path, params={"count": count, "seed": seed}, timeout=55
            )
            assert response.status_code == 200, shared_app.output()
