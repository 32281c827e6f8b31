"""The types beyond plain scalars and models, answered as FastAPI answers them.

As in t/test_crud_validation.py: each value goes to every field of a model, to FastAPI and
to C, and both answers are the same bytes.
"""

import json
import random
import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, JsonValue, condecimal
from pydantic.alias_generators import to_camel

from harness.oracle import Oracle
from test_crud_validation import JSON, SCALARS, VALUES, dumps


class Color(Enum):
    RED = "red"
    GREEN = "gr\"e'en"
    TRUE = "true"


class Level(IntEnum):
    LOW = 0
    ONE = 1
    HIGH = 99


class Size(StrEnum):
    SMALL = "1"
    LARGE = "abc"


class Mixed(Enum):
    ONE = 1
    TEXT = "2"
    YES = True
    NONE = None


class Number(Enum):
    ONE = 1
    TWO = 2


class Text(str, Enum):  # noqa: UP042 -- what most people still write
    A = "a"
    B = "on"


class Choices(BaseModel):
    text: Literal["a", "it's", 'q"', "a\nb\\", "é"] = "a"
    one: Literal["true"] = "true"
    number: Literal[0, 1, 99, -9] = 0
    flag: Literal[True] = True
    both: Literal[1, True, "1"] = 1
    other: Literal[False, 0, "off", None] = None
    maybe: Literal["t", 2] | None = None
    color: Color = Color.RED
    level: Level = Level.LOW
    size: Size | None = None
    mixed: Mixed = Mixed.ONE
    count: Number = Number.ONE
    word: Text = Text.A
    levels: list[Level] = []
    by_name: dict[str, Literal["x", "y"]] = {}


class Kept(BaseModel):
    any: Any = None
    must: Any
    items: list[Any] = []
    bare: list = []  # type: ignore[type-arg]
    by_name: dict[str, Any] = {}


class Times(BaseModel):
    day: date | None = None
    at: time | None = None
    took: timedelta | None = None
    days: list[date] = []
    defaults: timedelta = timedelta(days=400, seconds=-1, microseconds=5)
    noon: time = time(12, 0, 0, 5)
    first: date = date(1, 1, 1)


class Money(BaseModel):
    plain: Decimal | None = None
    price: Decimal = Field(Decimal("1.50"), max_digits=5, decimal_places=2, gt=Decimal("-0.5"))
    digits: Decimal = Field(Decimal(1), max_digits=3, lt=Decimal(500), ge=-7)
    places: Decimal = Field(Decimal(1), decimal_places=3, le=Decimal("99.25"))
    whole: Decimal = Field(Decimal("0.5"), max_digits=1, decimal_places=2)
    few: condecimal(max_digits=30, decimal_places=1) = Decimal(0)  # type: ignore[valid-type]


class Data(BaseModel):
    plain: bytes = b"x"
    short: bytes = Field(b"x", min_length=1, max_length=3)
    one: bytes = Field(b"x", max_length=1)


class StrictOnes(BaseModel):
    i: int = Field(0, strict=True)
    f: float = Field(0, strict=True)
    b: bool = Field(False, strict=True)
    s: str = Field("", strict=True)


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9
    name: str = ""


class Dog(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["dog", "hund"]
    size: float | None = None


class Point(BaseModel):
    x: int = 0
    y: int | str = 0


class Vector(BaseModel):
    x: float = 0
    z: Point | None = None


class Tree(BaseModel):
    left: "Tree | int | None" = None
    right: "int | Tree | str | None" = None


class Unions(BaseModel):
    number: int | float = 0
    other: float | int = 0
    text: int | str = 0
    flag: bool | int | str = False
    short: Annotated[int, Field(gt=3)] | Annotated[str, Field(max_length=2)] | None = None
    when: date | datetime | time | timedelta | None = None
    money: Decimal | bool | None = None
    level: Level | Color | Literal["x", 7] | None = None
    lists: list[int] | list[str] | dict[str, int] | None = None
    floats: list[float] | list[int] | tuple[bool, ...] | tuple[int, str] | None = None
    any: int | Any = None
    model: Point | Vector | None = None
    models: list[Vector | Point] = []
    mixed: Point | dict[str, str] | dict[str, int] | int | None = None
    pet: Cat | Dog | None = Field(None, discriminator="kind")
    pets: list[Cat | Dog] = []
    either: Annotated[Cat | Dog, Field(discriminator="kind")] | Point | str | None = None
    uuid: UUID | datetime | int | None = None
    json_value: JsonValue = None
    tree: Tree | None = None


class Tuples(BaseModel):
    any: tuple[int, ...] = ()
    pair: tuple[int, str] = (1, "a")
    none: tuple[()] = ()
    deep: list[tuple[bool, Point | None]] = []


class Inner(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")

    first_name: str
    last_name: str = ""


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    full_name: str = Field(alias="fullName")
    views: int = Field(0, validation_alias="viewCount")
    rating: float = Field(0, serialization_alias="stars")
    kebab_case: bool = Field(False, alias="kebab-case")
    tags: list[int] = Field([], validation_alias=AliasChoices("tags", "labels", "tagList"))
    inner: Inner | None = None


class ByName(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=False, extra="forbid"
    )

    first_name: int
    last_name: int = 0


class Either(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, extra="forbid")

    first_name: int
    last_name: int = 0


ORACLE = Oracle(
    (Choices, Kept, Times, Money, Data, StrictOnes, Unions, Tuples, Tree, Aliased, ByName, Either)
)
agree = ORACLE.agree


def fields(model: type[BaseModel]) -> list[Any]:
    """A field of a model, by the name that it is read from, for each."""
    return [
        pytest.param(model, field.validation_alias or name, id=f"{model.__name__}.{name}")
        for name, field in model.model_fields.items()
    ]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        *fields(Choices),
        *fields(Kept),
        *fields(Times),
        *fields(Money),
        *fields(Data),
        *fields(StrictOnes),
        *fields(Unions),
        *fields(Tuples),
    ],
)
def test_every_form_of_every_type(model: type[BaseModel], name: str) -> None:
    for index, value in enumerate(VALUES):
        if model is Unions and not bounded(json.loads(value)):
            continue
        agree(model, b'{"%s":%s}' % (name.encode(), value))
        if index % 7 == 0:
            agree(model, b'{"%s":[%s,1],"must":1}' % (name.encode(), value))
            agree(model, b'{"%s":{"k":%s},"must":1}' % (name.encode(), value))


def bounded(value: Any) -> bool:
    """Whether all ints have 64 bits, and all numbers are finite: a union is not asked others."""
    if isinstance(value, str):
        return (
            sum(map(str.isdigit, value)) < 19
            and re.search("inf|nan|e[0-9]{3}", value, re.I) is None
        )
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, dict):
        return all(map(bounded, value.values()))
    return not isinstance(value, list) or all(map(bounded, value))


#: What dates, times, durations and decimals are made of.
PARTS = """
2024-01-01 2024-02-30 0000-01-01 9999-12-31 T t _ x 10:00 23:59 24:00 10:00:00 10:00:60 00:00:00 0:0
.5 .123456 .1234567 ,5 . Z z +01:00 -0830 +24:00 +01:60 +1 -00:00 \u2212 P PT 1Y 2M 3W 4D T 5H 6M 7S
1.5Y 0.1W 2.25D 1.0000001S 1,5H day days d D , 1 12 100 999999999 99999999999 - + 1e5 E 1_0 ٣ ５ nan
inf 0.1 00.10 .0 123.456 1234567890123456789012345678.5 99999999999999999999999999999.5 e-3 e+40
0.000000001 9.995 -0 -0.50 -0.49 500 499.9 99.25 99.250 99.251 e999999 e-1000030
""".split()
PARTS += [" ", "", "\x1c"]


@pytest.mark.parametrize("model", [Times, Money])
def test_what_is_made_of_parts(model: type[BaseModel]) -> None:
    chance = random.Random(15)
    for _ in range(800):
        text = "".join(chance.choices(PARTS, k=chance.choice((1, 2, 2, 3, 4, 5))))
        for name in model.model_fields:
            agree(model, dumps({name: text}))


DAYS = ["d", "D", "ds", "DS", "da", "day", "Day", "daY", "dAy", "dAY", "DAy", "DAY"]
DAYS += ["days", "Days", "DaYs", "dAYs", "dAYS", "DAYs", "DAYS", "dayS", "DayS", "dayss"]
CLOCKS = ["", " 02:03", ", 23:59:59", " 24:00", " 27:3:04", ", 99999999999:3:04", " 100:00{"]


@pytest.mark.parametrize("word", DAYS)
def test_durations_in_days(word: str) -> None:
    for clock in CLOCKS:
        agree(Times, dumps({"took": f"1 {word}{clock}"}))


@settings(max_examples=400)
@given(
    st.sampled_from(("day", "at", "took")),
    st.integers(-(10**13), 10**13)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(0, 90000)
    | st.integers(-400, 400).map(lambda n: n * 86400)
    | st.dates().map(str)
    | st.times().map(str)
    | st.timedeltas().map(str)
    | st.datetimes(timezones=st.none() | st.timezones()).map(str),
)
def test_found_times(name: str, value: Any) -> None:
    agree(Times, dumps({name: value}))


@settings(max_examples=400)
@given(
    st.decimals(allow_nan=False, allow_infinity=False).map(str)
    | st.decimals(-1000, 1000, places=3).map(str)
    | st.floats(-1000, 1000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(10**40), 10**40)
    | st.text("0123456789", min_size=20, max_size=40)
)
def test_found_decimals(value: Any) -> None:
    for name in Money.model_fields:
        agree(Money, dumps({name: value}))


@pytest.mark.parametrize("name", Money.model_fields)
def test_a_decimals_exponent_has_the_bounds_of_python(name: str) -> None:
    last, least = 10**18 - 1, -2 * 10**18 + 3
    for digits, moved in (("1", 0), ("-10", 1), ("0.0001", -4), ("0", 0), ("0.00", -2)):
        around = [bound - moved + step for bound in (last, least) for step in (-2, -1, 0, 1, 2)]
        for exponent in [*around, -last, 2**63 - 1, 2**63, -(2**63), 2**64, 10**19, 10**40]:
            agree(Money, dumps({name: f"{digits}e{exponent}"}))


CHOSEN = st.sampled_from(
    ["a", "it's", 'q"', "a\nb\\", "é", "red", "gr\"e'en", "true", "on", "off", "1", "2", "t", "abc"]
)


@settings(max_examples=400)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: CHOSEN | st.integers(-1, 3) | st.sampled_from([True, False, None, 1.0]) | SCALARS
            for name in Choices.model_fields
        },
    )
)
def test_found_choices(document: Any) -> None:
    agree(Choices, dumps(document))


@settings(max_examples=400)
@given(st.fixed_dictionaries({}, optional={name: JSON for name in Kept.model_fields}))
def test_found_in_any(document: Any) -> None:
    agree(Kept, dumps(document))


def test_any_keeps_no_int_beyond_64_bits() -> None:
    status, body = ORACLE.native(Kept, b'{"must":[{"a":9223372036854775808}]}', "application/json")
    (error,) = json.loads(body)["detail"]
    assert (status, error["type"]) == (422, "int_parsing_size")
    assert error["loc"] == ["body", "must", 0, "a"]


NAMES = sorted(
    {"fullName", "full_name", "views", "viewCount", "rating", "stars", "kebab-case", "kebab_case"}
    | {"tags", "labels", "tagList", "inner", "firstName", "first_name", "lastName", "last_name"}
)
ALIASED = st.dictionaries(st.sampled_from(NAMES), SCALARS | st.just([1]), max_size=8)


@settings(max_examples=400)
@given(
    st.sampled_from((Aliased, ByName, Either)),
    ALIASED.flatmap(lambda outer: ALIASED.map(lambda inner: {**outer, "inner": inner})) | ALIASED,
)
def test_found_aliases(model: type[BaseModel], document: Any) -> None:
    agree(model, dumps(document))


@pytest.mark.parametrize(
    "document",
    [
        {"fullName": "a"},
        {"full_name": "a"},
        {"full_name": 1, "fullName": "b"},
        {"fullName": 1, "full_name": "b"},
        {"fullName": "a", "viewCount": "x"},
        {"fullName": "a", "views": "x"},
        {"fullName": "a", "tagList": 1, "labels": ["x"]},
        {"fullName": "a", "rating": 5, "stars": 3},
        {"fullName": "a", "kebab-case": 1},
        {"fullName": "a", "inner": {"firstName": "x", "first_name": "y"}},
        {"fullName": "a", "inner": {"first_name": "y"}},
        {"first_name": 1, "firstName": 2},
        {"firstName": 1, "first_name": 2},
        {"lastName": 1, "last_name": "x"},
        {},
    ],
)
@pytest.mark.parametrize("model", [Aliased, ByName, Either])
def test_which_name_is_read_and_which_is_named(model: type[BaseModel], document: Any) -> None:
    agree(model, dumps(document))


KINDS = st.sampled_from(["cat", "dog", "hund", "bird", 1, None, True, 1.5])
POINTS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("x", "y", "lives", "size", "name", "more"), SCALARS | st.integers(0, 9)),
        "kind": KINDS | SCALARS,
        "z": st.fixed_dictionaries({}, optional={"x": SCALARS, "y": SCALARS}),
    },
)
SMALL = st.integers(-1, 9) | st.sampled_from(
    ["", "a", "ab", "1", "1.5", "x", True, False, 1.0, 1.5]
)
PARTIES = SMALL | POINTS | st.lists(SMALL | POINTS, max_size=3)


@settings(max_examples=150)
@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(sorted(set(Unions.model_fields) - {"tree"}), PARTIES | SCALARS)
    )
)
def test_found_unions(document: Any) -> None:
    assume(bounded(document))
    agree(Unions, dumps(document))


TREES = st.recursive(
    SMALL | st.none(),
    lambda inner: st.fixed_dictionaries({}, optional={"left": inner, "right": inner}),
    max_leaves=6,
)


@settings(max_examples=400)
@given(TREES)
def test_found_unions_within_unions(document: Any) -> None:
    agree(Tree, dumps(document))
    agree(Unions, dumps({"tree": document}))


@settings(max_examples=150)
@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(Tuples.model_fields, st.lists(PARTIES, max_size=4) | PARTIES)
    )
)
def test_found_tuples(document: Any) -> None:
    assume(bounded(document))
    agree(Tuples, dumps(document))


def test_a_union_leaves_a_long_number_to_text() -> None:
    agree(Unions, dumps({"text": "9" * 30, "flag": "9" * 30, "lists": ["9" * 30]}))
    agree(Unions, dumps({"floats": [1e19, 1e300], "number": 1e19}))


@pytest.mark.parametrize("name", ["number", "other", "text", "flag", "any", "json_value"])
def test_a_union_takes_no_int_beyond_64_bits_for_something_else(name: str) -> None:
    body = b'{"%s":9223372036854775808}' % name.encode()
    status, answer = ORACLE.native(Unions, body, "application/json")
    assert status == 422
    assert "int_parsing_size" in [error["type"] for error in json.loads(answer)["detail"]]


def test_unions_within_unions_are_tried_for_a_limited_time() -> None:
    class A(BaseModel):
        x: "A | B | None" = None

    class B(BaseModel):
        x: "A | B | None" = None

    A.model_rebuild(_types_namespace={"A": A, "B": B})
    oracle = Oracle([A])
    oracle.agree(A, b'{"x":' * 9 + b"{}" + b"}" * 9)
    status, answer = oracle.native(A, b'{"x":' * 90 + b"1" + b"}" * 90, "application/json")
    assert status == 422
    (error,) = json.loads(answer)["detail"]
    assert (error["type"], error["loc"]) == ("union_too_complex", ["body", "x"])
