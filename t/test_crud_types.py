"""docs/types.md says what is native, hybrid and refused; the walk over a model says the same."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import (
    UUID4,
    AfterValidator,
    AliasChoices,
    AliasPath,
    AnyUrl,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    PastDatetime,
    PlainSerializer,
    RootModel,
    StringConstraints,
    Tag,
    computed_field,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from databridge import _crud
from databridge.crud import CrudError, schema_for
from harness.models import PostInit, Serialized

DOCUMENT = (Path(__file__).parent.parent / "docs" / "types.md").read_text()


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Shade(Enum):
    DARK = 1

    @classmethod
    def _missing_(cls, value: object) -> "Shade":
        return cls.DARK


class Author(BaseModel):
    name: str


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Numbers(RootModel[list[int]]):
    pass


@dataclass
class Pair:
    one: int
    other: int


def kind_of(value: Any) -> str:
    return str(value["kind"])


def make() -> str:
    return "made"


class Plain(BaseModel):
    name: str
    next: "Plain | None" = None


class Forbidding(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int


class Generated(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)
    first_name: int


class Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        title="F",
        validate_assignment=True,
        str_strip_whitespace=True,
        str_min_length=1,
        str_max_length=9,
        allow_inf_nan=False,
    )
    a: str
    b: float


class StrictModel(BaseModel):
    model_config = ConfigDict(strict=True)
    a: int


class Allowing(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class FieldValidated(BaseModel):
    a: int

    @field_validator("a")
    @classmethod
    def check(cls, value: int) -> int:
        return value


class ModelValidated(BaseModel):
    a: int

    @model_validator(mode="before")
    @classmethod
    def check(cls, value: Any) -> Any:
        return value


class Computed(BaseModel):
    a: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return self.a * 2


class Crossed(BaseModel):
    a: int = Field(alias="b")
    c: int = Field(validation_alias="b")


class MongoId(BaseModel):
    id: str = Field(alias="_id")


class FloatId(BaseModel):
    id: float


#: What the rows may name besides the models above.
NAMES = (
    *(Sequence, date, datetime, time, timedelta, Decimal, IPv4Address, Annotated, Any, Literal),
    *(UUID, UUID4, AfterValidator, AliasChoices, AliasPath, AnyUrl, Discriminator, Field),
    *(JsonValue, PastDatetime, PlainSerializer, StringConstraints, Tag),
    *(PostInit, Serialized),
)


def rows(heading: str, columns: int) -> list[list[str]]:
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = []
    for line in section.splitlines():
        if line.startswith("| `"):
            cells = re.split(r"(?<!\\) \|", line.removeprefix("| "))
            found.append([cell.strip().replace("\\|", "|") for cell in cells[:columns]])
    return found


def named(code: str) -> Any:
    return eval(code.strip("`"), globals())


TYPES = rows("Types of fields", 3)
MODELS = rows("Models", 2)


def verdict(model: Any) -> tuple[str, dict[str, Any]]:
    try:
        schema = schema_for(model)
    except CrudError as exc:
        assert str(exc).startswith((model.__name__, "<class")), "it names the model"
        return "refused", {}
    return ("hybrid" if "hybrid" in schema else "native"), schema


@pytest.mark.parametrize(("code", "says", "filters"), TYPES, ids=[row[0] for row in TYPES])
def test_the_type_is_what_the_table_says(code: str, says: str, filters: str) -> None:
    model = type("M", (BaseModel,), {"__annotations__": {"f": named(code)}, "__module__": __name__})
    found, schema = verdict(model)
    assert found == says, schema.get("hybrid")
    if found == "refused":
        return
    if found == "hybrid":
        assert set(schema["hybrid"]) == {"create", "update", "patch"} & set(schema["operations"])
        assert schema["hybrid"]["create"].startswith("M.f: "), "it names the field"
    assert what_filters_may_ask(schema) == filters


def what_filters_may_ask(schema: dict[str, Any]) -> str:
    resource = _crud.compile(json.dumps(schema))
    name = schema["fields"][0]["name"]
    samples = ('"x"', "1", "true", '"2024-01-01"', '"10:00"', '"P1D"', f'"{UUID(int=1)}"')

    def taken(query: str) -> bool:
        return resource.call("list", query=query)[0] == "store"

    def asks(condition: str) -> bool:
        return taken('filter={"' + name + '":' + condition + "}")

    assert asks('{"$exists":true}')
    if any(asks('{"$gt":' + sample + "}") for sample in samples):
        return "order"
    if any(map(asks, samples)):
        assert not taken(f"sort={name}")
        return "equality"
    return "exists"


@pytest.mark.parametrize(("code", "says"), MODELS, ids=[row[0] for row in MODELS])
def test_the_model_is_what_the_table_says(code: str, says: str) -> None:
    model = named(code)
    found, schema = verdict(model)
    assert found == says, schema.get("hybrid")
    if found == "hybrid":
        assert schema["hybrid"]["create"].startswith(model.__name__), "it names the model"


def test_the_tables_are_read_whole() -> None:
    assert len(TYPES) == DOCUMENT.split("\n## Models\n")[0].count("\n| `")
    assert (
        {row[1] for row in TYPES}
        == {row[1] for row in MODELS}
        == {
            "native",
            "hybrid",
            "refused",
        }
    )
