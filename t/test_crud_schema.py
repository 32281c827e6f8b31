"""Models become schemas, and what native CRUD cannot do is refused where it is declared."""

import datetime
import functools
import json
import re
import uuid
from collections.abc import Callable
from datetime import timezone
from pathlib import Path
from typing import Annotated, Any, Generic, Optional, TypeVar

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    StringConstraints,
    computed_field,
    field_validator,
    model_validator,
)

from databridge import _crud
from databridge.crud import CrudError, schema_for
from databridge.factories import factory_name
from harness.models import PostInit, Serialized

utc = timezone.utc  # noqa: UP017 -- the name that users write


class Author(BaseModel):
    name: str


class Article(BaseModel):
    title: str = Field(min_length=1, max_length=200, description="Shown first.")
    views: int = Field(0, ge=0)
    rating: float | None = Field(None, allow_inf_nan=False)
    tags: list[str] = []
    author: Author
    created: datetime.datetime = Field(default_factory=lambda: datetime.datetime.now(utc))


class Node(BaseModel):
    value: int
    next: Optional["Node"] = None


def fields(model: type[BaseModel]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = schema_for(model)["fields"]
    return found


def test_a_model_becomes_a_schema() -> None:
    assert schema_for(Article) == {
        "databridge": 1,
        "model": "Article",
        "collection": "article",
        "prefix": "/article",
        "store": "main",
        "operations": ["list", "get", "create", "update", "patch", "delete"],
        "id": "objectid",
        "extra": "ignore",
        "fields": [
            {"name": "title", "type": "str", "min_length": 1, "max_length": 200},
            {"name": "views", "type": "int", "ge": 0, "default": 0},
            {"name": "rating", "type": "float", "finite": True, "nullable": True, "default": None},
            {"name": "tags", "type": "list", "items": {"type": "str"}, "default": []},
            {"name": "author", "type": "model", "model": "Author"},
            {"name": "created", "type": "datetime", "default_factory": "now_utc"},
        ],
        "models": {"Author": {"extra": "ignore", "fields": [{"name": "name", "type": "str"}]}},
    }


def test_options_name_collection_prefix_store_and_operations() -> None:
    schema = schema_for(
        Article, collection="articles_2", prefix="/api/articles", store="other", operations=["get"]
    )
    resource = _crud.compile(json.dumps(schema))
    assert resource.name == "Article"
    assert resource.collection == "articles_2"
    assert resource.prefix == "/api/articles"
    assert resource.store == "other"
    assert resource.operations == ("get",)


@pytest.mark.parametrize(
    ("options", "member"),
    [
        ({"collection": "Über"}, "collection"),
        ({"collection": ""}, "collection"),
        ({"collection": "x" * 64}, "collection"),
        ({"prefix": "articles"}, "prefix"),
        ({"prefix": "/articles/"}, "prefix"),
        ({"prefix": "/"}, "prefix"),
        ({"prefix": "/a/{b}"}, "prefix"),
        ({"store": "a b"}, "store"),
        ({"operations": ["read"]}, "operations"),
        ({"operations": []}, "operations"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], member: str) -> None:
    with pytest.raises(CrudError, match=f'Article: "{member}"'):
        schema_for(Article, **options)


def test_a_model_may_hold_itself() -> None:
    schema = schema_for(Node)
    assert schema["fields"][1] == {
        "name": "next",
        "type": "model",
        "model": "Node",
        "nullable": True,
        "default": None,
    }
    assert schema["models"]["Node"]["fields"] == schema["fields"]


def test_two_models_of_one_name_stay_apart() -> None:
    def other() -> type[BaseModel]:
        class Author(BaseModel):
            age: int

        return Author

    class Pair(BaseModel):
        one: Author
        two: other()  # type: ignore[valid-type]

    schema = schema_for(Pair)
    assert [field["model"] for field in schema["fields"]] == ["Author", "Author_2"]
    assert schema["models"]["Author_2"]["fields"] == [{"name": "age", "type": "int"}]


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    item: T


def test_a_generic_model_may_be_nested() -> None:
    class Shelf(BaseModel):
        box: Box[int]

    assert schema_for(Shelf)["models"]["Box[int]"]["fields"] == [{"name": "item", "type": "int"}]


def test_configuration_reaches_the_fields() -> None:
    class Configured(BaseModel):
        model_config = ConfigDict(
            extra="forbid",
            str_strip_whitespace=True,
            str_max_length=5,
            allow_inf_nan=False,
            frozen=True,
        )
        text: str
        short: str = Field(max_length=2)
        number: float
        inner: Author

    schema = schema_for(Configured)
    assert schema["extra"] == "forbid"
    assert schema["fields"][:3] == [
        {"name": "text", "type": "str", "max_length": 5, "strip_whitespace": True},
        {"name": "short", "type": "str", "max_length": 2, "strip_whitespace": True},
        {"name": "number", "type": "float", "finite": True},
    ]
    assert schema["models"]["Author"]["fields"] == [{"name": "name", "type": "str"}]


def _named() -> datetime.datetime:
    return datetime.datetime.now(tz=utc)


def _two_steps() -> list[int]:
    made: list[int] = []
    return made


@pytest.mark.parametrize(
    ("factory", "name"),
    [
        (list, "list"),
        (dict, "dict"),
        (lambda: [], "list"),
        (lambda: {}, "dict"),
        (lambda: list(), "list"),
        (uuid.uuid4, "uuid4"),
        (lambda: uuid.uuid4(), "uuid4"),
        (lambda: str(uuid.uuid4()), "uuid4"),
        (datetime.datetime.now, "now"),
        (lambda: datetime.datetime.now(), "now"),
        (datetime.datetime.utcnow, "utcnow"),
        (lambda: datetime.datetime.utcnow(), "utcnow"),
        (lambda: datetime.datetime.now(utc), "now_utc"),
        (lambda: datetime.datetime.now(datetime.UTC), "now_utc"),
        (lambda: datetime.datetime.now(tz=utc), "now_utc"),
        (functools.partial(datetime.datetime.now, utc), "now_utc"),
        (functools.partial(datetime.datetime.now, tz=utc), "now_utc"),
        (_named, "now_utc"),
        (uuid.uuid1, None),
        (lambda: uuid.uuid4().hex, None),
        (lambda: [1], None),
        (lambda: {"a": 1}, None),
        (lambda: 5, None),
        (lambda: datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=1))), None),
        (lambda: datetime.datetime.now().replace(microsecond=0), None),
        (lambda: not_there_yet(), None),  # type: ignore[name-defined] # noqa: F821
        (lambda x=1: [], None),
        (_two_steps, None),
        (set, None),
        (str, None),
    ],
)
def test_factories_are_known_by_what_they_call(
    factory: Callable[..., Any], name: str | None
) -> None:
    assert factory_name(factory) == name


def test_a_factory_in_a_closure_is_known() -> None:
    now, zone = datetime.datetime.now, utc
    assert factory_name(lambda: now(zone)) == "now_utc"


class Allowing(BaseModel):
    model_config = ConfigDict(extra="allow")


class Validated(BaseModel):
    a: int

    @field_validator("a")
    @classmethod
    def check(cls, value: int) -> int:
        return value


class Checked(BaseModel):
    a: int

    @model_validator(mode="after")
    def check(self) -> "Checked":
        return self


class Computed(BaseModel):
    a: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def b(self) -> int:
        return self.a


class OwnInit(BaseModel):
    a: int

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)


class Root(RootModel[int]):
    pass


class StrictModel(BaseModel):
    model_config = ConfigDict(strict=True)
    a: int


class Outer(BaseModel):
    inner: list[Validated]


def why(model: Any) -> str:
    """What makes writing hybrid; the other operations never are."""
    reasons = schema_for(model)["hybrid"]
    assert set(reasons) <= {"create", "update", "patch"}
    assert len(set(reasons.values())) == 1
    return str(reasons["create"])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Allowing, "Allowing: model_config extra='allow'"),
        (Validated, "Validated.a: the validator Validated.check is Python"),
        (Checked, "Checked: the validator Checked.check is Python"),
        (Computed, "Computed.b: a computed field is Python"),
        (Serialized, "Serialized.a: a serializer of its own"),
        (PostInit, "PostInit: model_post_init"),
        (OwnInit, "OwnInit: its own __init__"),
        (StrictModel, "StrictModel: model_config strict=True"),
        (Outer, "Validated.a: the validator"),
    ],
)
def test_a_model_beyond_c_is_hybrid_by_name(model: Any, message: str) -> None:
    assert why(model).startswith(message)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Root, "Root: a root model is no document"),
        (int, "<class 'int'> is not a model"),
        (Author(name="x"), "is not a model"),
    ],
)
def test_what_is_no_document_is_refused_by_name(model: Any, message: str) -> None:
    with pytest.raises(CrudError, match=re.escape(message)):
        schema_for(model)


def of_field(annotation: Any) -> type[BaseModel]:
    return type("M", (BaseModel,), {"__annotations__": {"f": annotation}, "__module__": __name__})


@pytest.mark.parametrize(
    ("annotation", "kind", "message"),
    [
        (set[int], "any", "M.f: the type set is only known to pydantic"),
        (dict[int, str], "any", "M.f: keys of a dict that are not plain str"),
        (dict[Annotated[str, Field(min_length=1)], int], "any", "M.f: keys of a dict"),
        (Annotated[int, Field(gt=2**64)], "any", 'M.f: "gt" of an int must be an int of 64 bits'),
        (Annotated[str, StringConstraints(to_lower=True)], "any", "M.f: to_lower"),
        (Annotated[str, StringConstraints(pattern=r"\bx")], "any", "M.f: the pattern cannot be"),
        (Annotated[str, StringConstraints(pattern=re.compile("x"))], "any", "M.f: a compiled"),
        (Annotated[int, BeforeValidator(int)], "int", "M.f: the validator int is Python"),
        (Annotated[int, PlainSerializer(str)], "any", "M.f: a serializer of its own"),
        (Annotated[int, Field(default="5")], "int", "M.f: the default '5' is not a int"),
        (Annotated[bool, Field(default=1)], "bool", "M.f: the default 1 is not a bool"),
        (Annotated[int, Field(default=5, gt=7)], "int", "M.f: the default is not of the field's"),
        (Annotated[list[int], Field(default=[1, "x"])], "list", "M.f: the default [1, 'x'] is not"),
        (Annotated[float, Field(default=float("inf"))], "float", "M.f: the default inf has no"),
        (Annotated[str, Field(default_factory=lambda: "x")], "str", "M.f: the default factory"),
        (Annotated[int, Field(default_factory=uuid.uuid4)], "int", 'M.f: the factory "uuid4"'),
        (Annotated[int, Field(validation_alias=AliasPath("a", 0))], "int", "M.f: the alias ['a'"),
    ],
)
def test_a_field_beyond_c_is_hybrid_by_name(annotation: Any, kind: str, message: str) -> None:
    model = of_field(annotation)
    assert why(model).startswith(message)
    (field,) = fields(model)
    assert field["type"] == kind
    assert "default" not in field
    assert "default_factory" not in field


def test_a_field_that_is_not_answered_is_refused_by_name() -> None:
    with pytest.raises(CrudError, match=re.escape("M.f: exclude= is not supported")):
        schema_for(of_field(Annotated[int, Field(exclude=True)]))


def test_hybrid_names_what_is_served_only() -> None:
    assert "hybrid" not in schema_for(Validated, operations=["get", "list", "delete"])
    assert set(schema_for(Validated, operations=["get", "create"])["hybrid"]) == {"create"}


def test_all_reasons_are_said_once() -> None:
    class Two(BaseModel):
        a: Validated
        b: list[Validated]
        c: set[int]

    assert why(Two).count("Validated.a:") == 1
    assert "; Two.c: " in why(Two)


def test_aliases_name_what_is_read_and_what_is_stored() -> None:
    class Named(BaseModel):
        model_config = ConfigDict(populate_by_name=True)
        a: int = Field(alias="x-y")
        b: int = Field(validation_alias=AliasChoices("b", "d"))
        c: int = Field(serialization_alias="z")

    assert fields(Named) == [
        {"name": "x-y", "accepts": ["x-y", "a"], "type": "int"},
        {"name": "b", "accepts": ["b", "d"], "type": "int"},
        {"name": "z", "accepts": ["c"], "type": "int"},
    ]


def test_a_name_is_read_by_one_field() -> None:
    class Crossed(BaseModel):
        a: int = Field(alias="b")
        c: int = Field(validation_alias="b")

    assert why(Crossed) == (
        "Crossed: 'b' and 'c' are both read from 'b'; give them names of their own"
    )


@pytest.mark.parametrize("alias", ["a.b", "$x", "", 'a"b', "a b"])
def test_a_stored_name_is_one_that_a_filter_can_say(alias: str) -> None:
    with pytest.raises(CrudError, match="a field's name must be an identifier"):
        schema_for(of_field(Annotated[int, Field(serialization_alias=alias)]))


def test_an_id_is_answered_as_id() -> None:
    class Mongo(BaseModel):
        id: str = Field(alias="_id")

    class Sent(BaseModel):
        id: str = Field(validation_alias="_id")

    with pytest.raises(CrudError, match=r"Mongo\.id: an id is answered as 'id'"):
        schema_for(Mongo)
    assert schema_for(Sent)["id"] == "str"


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (int | None, "M.id: an id cannot be null"),
        (float, "M.id: an id must be int, str or UUID"),
        (list[int], "M.id: an id must be int, str or UUID"),
        (Annotated[int, Field(default=1)], "M.id: an id can have no default but uuid4"),
    ],
)
def test_an_id_is_an_int_a_text_or_a_uuid(annotation: Any, message: str) -> None:
    model = type("M", (BaseModel,), {"__annotations__": {"id": annotation}})
    with pytest.raises(CrudError, match=re.escape(message)):
        schema_for(model)


@pytest.mark.parametrize(("kind", "annotation"), [("int", int), ("str", str), ("uuid", uuid.UUID)])
def test_the_type_of_a_declared_id(kind: str, annotation: Any) -> None:
    model = type("M", (BaseModel,), {"__annotations__": {"id": annotation}})
    assert schema_for(model)["id"] == kind


class Searched(BaseModel):
    name: str = ""
    views: int = Field(0, ge=0)
    rating: float = 0
    open: bool = True
    at: datetime.datetime | None = None
    key: uuid.UUID | None = None
    tags: list[str] = []
    numbers: list[int] = []
    author: Author | None = None
    extra: dict[str, int] = {}
    authors: list[Author] = []


SEARCHED = _crud.compile(json.dumps(schema_for(Searched)))


@pytest.mark.parametrize(
    ("query", "path", "value"),
    [
        ("name=a+%C3%A9%22", "name", 'a é"'),
        ("name=", "name", ""),
        ("views=-1", "views", -1),
        ("views=1_0", "views", 10),
        ("rating=1e3", "rating", 1000.0),
        ("open=yes", "open", True),
        ("at=2024-01-01%2000:00:00%2B02:00", "at", "2024-01-01T00:00:00+02:00"),
        ("key=%7B12345678-1234-4234-8234-123456789ABC%7D", "key", None),
        ("tags=x", "tags", "x"),
        ("numbers=7", "numbers", 7),
        ("author.name=A", "author.name", "A"),
        ("id=0123456789abcdef01234567", "id", "0123456789abcdef01234567"),
    ],
)
def test_conditions_are_typed_by_the_model(query: str, path: str, value: Any) -> None:
    if value is None:
        value = "12345678-1234-4234-8234-123456789abc"
    result = SEARCHED.call("list", query=query)
    assert result == (
        "store",
        "list",
        None,
        {"limit": 20, "skip": 0, "count": False, "where": [(path, value)]},
    )
    assert isinstance(result[3], dict)
    assert type(result[3]["where"][0][1]) is type(value)


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("limit=0", "limit must be an int from 1 to 1000"),
        ("limit=1001", "limit must be an int from 1 to 1000"),
        ("limit=", "limit must be an int from 1 to 1000"),
        ("limit=ten", "limit must be an int from 1 to 1000"),
        ("skip=-1", "skip must be an int of 0 or more"),
        ("skip=99999999999999999999", "skip must be an int of 0 or more"),
        ("count=1", "count must be true or false"),
        ("views=x", "'views' must be an int of 64 bits"),
        ("views=9223372036854775808", "'views' must be an int of 64 bits"),
        ("rating=nan", "'rating' must be a finite number"),
        ("open=perhaps", "'open' must be true or false"),
        ("at=soon", "'at' must be a datetime"),
        ("key=x", "'key' must be a UUID"),
        ("numbers=x", "'numbers' must be an int of 64 bits"),
        ("nothing=1", "'nothing' is not a field of Searched"),
        ("=1", "'' is not a field of Searched"),
        ("author=A", "'author' cannot be compared with a value"),
        ("extra=1", "'extra' cannot be compared with a value"),
        ("authors=1", "'authors' cannot be compared with a value"),
        ("author.age=1", "'author.age' is not a field of Searched"),
        ("author.=1", "'author.' is not a field of Searched"),
        ("extra.a=1", "'extra.a' is not a field of Searched: 'extra' has no fields"),
        ("name.x=1", "'name.x' is not a field of Searched: 'name' has no fields"),
        ("&".join(["views=1"] * 101), "there can be at most 100 conditions"),
    ],
)
def test_a_query_that_cannot_be_answered_is_400(query: str, detail: str) -> None:
    result = SEARCHED.call("list", query=query)
    assert result == ("answer", 400, json.dumps({"detail": detail}, separators=(",", ":")).encode())


def test_unknown_operations_are_errors() -> None:
    with pytest.raises(ValueError, match="unknown operation 'merge'"):
        SEARCHED.call("merge")


class Account(BaseModel):
    email: str
    name: str = ""
    level: int = 1
    tags: list[str] = []
    created_at: datetime.datetime | None = None
    note: str


def test_options_of_the_resource_are_members_of_its_schema() -> None:
    schema = schema_for(
        Account,
        upsert=True,
        version=True,
        timestamps=True,
        scope={"name": "$remote_user"},
        timeout=2.5,
        limit=5,
        max_limit=50,
        read_only=["level"],
        immutable=["email"],
        write_only=["note"],
        unique=["email", "name,level"],
    )
    members = (
        "upsert",
        "version",
        "timestamps",
        "scope",
        "timeout",
        "limit",
        "max_limit",
        "unique",
    )
    assert {member: schema[member] for member in members} == {
        "upsert": True,
        "version": True,
        "timestamps": {"created": "created_at", "updated": "updated_at"},
        "scope": {"name": "$remote_user"},
        "timeout": 2.5,
        "limit": 5,
        "max_limit": 50,
        "unique": ["email", "name,level"],
    }
    flags = {
        field["name"]: [name for name in ("read_only", "immutable", "write_only") if name in field]
        for field in schema["fields"]
    }
    assert flags == {
        "email": ["immutable"],
        "name": [],
        "level": ["read_only"],
        "tags": [],
        "created_at": [],
        "note": ["write_only"],
    }
    plain = schema_for(Account, upsert=False, version=False, timestamps=False, scope=None)
    assert plain == schema_for(Account)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"versions": True}, "Account: versions= is not an option of CRUD; it takes prefix, "),
        ({"version": "yes"}, "Account: version='yes' must be True or False"),
        ({"unique": "email"}, r"Account: unique='email' must be a list: \['email'\]"),
        ({"read_only": 7}, "Account: read_only=7 must be a list of names"),
        ({"read_only": ["levle"]}, "Account: read_only names 'levle', which is not a field"),
        ({"read_only": ["email"]}, 'Account.email: a "read_only" field must have a default'),
        (
            {"read_only": ["level"], "immutable": ["level"]},
            'Account.level: "read_only" and "immutable" exclude each other',
        ),
        ({"timestamps": 5}, "Account: timestamps=5 must be True, or names for created and updated"),
        ({"timestamps": {"made": "x"}}, '"timestamps" has the unknown member "made"'),
        ({"timestamps": {"created": "name"}}, 'Account.name: "timestamps": the field must be a'),
        ({"timestamps": {"created": "a b"}}, "Account.a b: a field's name must be an identifier"),
        (
            {"timestamps": {"created": "at", "updated": "at"}},
            'Account.at: "timestamps": the two must be different fields',
        ),
        ({"scope": "owner"}, "Account: scope='owner' must be a variable for each field"),
        ({"scope": {"owner": "$a"}}, 'Account: "scope": there is no field "owner"'),
        ({"scope": {"tags": "$a"}}, 'Account.tags: "scope" can be by a field with one value'),
        ({"scope": {"name": "remote_user"}}, 'Account.name: "scope" must name a variable of nginx'),
        ({"scope": {"name": "$A-b"}}, 'Account.name: "scope" must name a variable of nginx'),
        ({"scope": {"name": {1}}}, "Account: an option has no JSON form"),
        ({"timeout": 0}, 'Account: "timeout" must be seconds, from 0.001 to 86400'),
        ({"timeout": "1s"}, 'Account: "timeout" must be seconds'),
        ({"limit": 0}, 'Account: "limit" must be an int from 1 to 10000'),
        ({"max_limit": 10001}, 'Account: "max_limit" must be an int from 1 to 10000'),
        ({"limit": 11, "max_limit": 10}, 'Account: "limit" must not be above "max_limit"'),
        ({"unique": ["id"]}, 'Account: "unique": the id is unique by itself'),
        ({"unique": ["email,id"]}, 'Account: "unique": the id is unique by itself'),
        ({"unique": ["mail"]}, "Account: \"unique\": 'mail' is not a field of Account"),
        ({"unique": ["tags"]}, "Account: \"unique\": 'tags' cannot be sorted by"),
        (
            {"write_only": ["note"], "index": ["-note"]},
            "Account: \"index\": 'note' is write_only: nothing can be asked of it",
        ),
        (
            {"write_only": ["note"], "regex": ["note"]},
            "Account: \"regex\": 'note' is write_only: nothing can be asked of it",
        ),
        (
            {"upsert": True, "require_match": True},
            'Account: "upsert" and "require_match" exclude each other',
        ),
    ],
)
def test_an_option_that_cannot_be_is_named_with_what_to_do(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CrudError, match=message):
        schema_for(Account, **options)


@pytest.mark.parametrize("option", ["read_only", "immutable", "write_only"])
def test_an_id_is_the_clients_to_see_and_nobodys_to_change(option: str) -> None:
    class Thing(BaseModel):
        id: int

    options: dict[str, Any] = {option: ["id"]}
    with pytest.raises(CrudError, match="Thing.id: the id can be neither"):
        schema_for(Thing, **options)


def test_only_the_resources_own_fields_have_access_rules() -> None:
    schema = schema_for(Article)
    schema["models"]["Author"]["fields"][0]["write_only"] = True
    with pytest.raises(ValueError, match="Author.name: only a field of the resource itself"):
        _crud.compile(json.dumps(schema))


def test_a_unique_field_may_be_write_only() -> None:
    assert schema_for(Account, unique=["note"], write_only=["note"])["unique"] == ["note"]


def test_the_schema_of_the_documentation_compiles() -> None:
    text = (Path(__file__).parent.parent / "docs" / "schema.md").read_text()
    found = re.search(r"\n    \{\n.*?\n    \}\n", text, re.DOTALL)
    assert found is not None
    assert _crud.compile(found.group()).prefix == "/articles"
