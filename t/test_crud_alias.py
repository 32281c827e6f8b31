"""
Fields that clients name otherwise than documents do: a patch is by the names of clients, what
is stored, answered and asked for by the names of documents.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from harness.crud import STORES, start_crud

APP = """
from typing import Annotated, Literal, Optional, Union

from pydantic import AliasChoices, AliasPath, ConfigDict, field_validator
from pydantic.alias_generators import to_camel
from databridge import App, Field, Model

app = App()


class Inner(Model):
    page_count: int = Field(alias="pageCount")
    text: str = Field(default="t", validation_alias="in", serialization_alias="out")


class Cat(Model):
    kind: Literal["cat"] = Field(serialization_alias="sort")
    lives: int = Field(validation_alias="livesIn", serialization_alias="livesOut")


class Dog(Model):
    kind: Literal["dog"] = Field(serialization_alias="sort")
    tricks: int = Field(default=0, validation_alias="tricksIn", serialization_alias="tricksOut")


class Swapped(Model):
    one: str = Field(default="1", validation_alias="a", serialization_alias="b")
    two: str = Field(default="2", validation_alias="b", serialization_alias="a")


class Doc(Model):
    title: str
    page_count: int = Field(default=1, ge=1, alias="pageCount")
    text: str = Field(default="t", max_length=9, validation_alias="in", serialization_alias="out")
    views: int = Field(default=0, validation_alias=AliasChoices("viewCount", "hits"))
    inner: Optional[Inner] = Field(default=None, alias="theInner")
    many: list[Inner] = []
    named: dict[str, Inner] = {}
    pet: Union[Cat, Dog, None] = None
    tagged: Optional[Annotated[Union[Cat, Dog], Field(discriminator="kind")]] = None
    swapped: Optional[Swapped] = None


class Either(Model):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    full_name: str = Field(min_length=2)
    birth_year: int = 2000


class Kept(Model):
    owner: str = Field(validation_alias="ownerIn", serialization_alias="ownerOut")
    inner: Inner = Field(validation_alias="innerIn", serialization_alias="innerOut")
    status: str = Field(default="new", validation_alias="statusIn", serialization_alias="statusOut")
    secret: str = Field(default="s", validation_alias="secretIn", serialization_alias="secretOut")
    text: str = ""
    ref: int = Field(default=0, validation_alias="id", serialization_alias="ref")


class HybridDoc(Doc):
    @field_validator("title")
    @classmethod
    def titled(cls, value):
        return value


class HybridEither(Either):
    @field_validator("birth_year")
    @classmethod
    def born(cls, value):
        return value


class HybridKept(Kept):
    @field_validator("text")
    @classmethod
    def texted(cls, value):
        return value


class Path(Model):
    first: int = 0
    text: str = ""


class HybridPath(Model):
    first: int = Field(default=0, validation_alias=AliasPath("all", 0))
    text: str = ""


app.crud_routes(Doc, prefix="/native/docs", unique=["out,title"], index=["pageCount"])
app.crud_routes(HybridDoc, prefix="/hybrid/docs", unique=["out,title"], index=["pageCount"])
app.crud_routes(Either, prefix="/native/eithers")
app.crud_routes(HybridEither, prefix="/hybrid/eithers")
app.crud_routes(Path, prefix="/native/paths")
app.crud_routes(HybridPath, prefix="/hybrid/paths")

KEPT = {
    "immutable": ["ownerOut", "innerOut"],
    "read_only": ["statusOut"],
    "write_only": ["secretOut"],
}
app.crud_routes(Kept, prefix="/native/kept", **KEPT)
app.crud_routes(HybridKept, prefix="/hybrid/kept", **KEPT)


@app.get("/")
async def root():
    return "here"
"""

FULL = {
    "title": "T",
    "pageCount": 7,
    "in": "here",
    "hits": 3,
    "theInner": {"pageCount": 1, "in": "nested"},
    "many": [{"pageCount": 2, "in": "listed"}],
    "named": {"k": {"pageCount": 3, "in": "keyed"}, "l": {"pageCount": 4}},
    "pet": {"kind": "dog", "tricksIn": 5},
    "tagged": {"kind": "cat", "livesIn": 9},
    "swapped": {"a": "A", "b": "B"},
}
STORED = {
    "title": "T",
    "pageCount": 7,
    "out": "here",
    "views": 3,
    "theInner": {"pageCount": 1, "out": "nested"},
    "many": [{"pageCount": 2, "out": "listed"}],
    "named": {"k": {"pageCount": 3, "out": "keyed"}, "l": {"pageCount": 4, "out": "t"}},
    "pet": {"sort": "dog", "tricksOut": 5},
    "tagged": {"sort": "cat", "livesOut": 9},
    "swapped": {"b": "A", "a": "B"},
}


HYBRID = [kind for kind in STORES if kind != "nginx.conf"]
PLACES = [*((kind, "native") for kind in STORES), *((kind, "hybrid") for kind in HYBRID)]


@pytest.fixture(scope="module", params=PLACES, ids="-".join)
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A client of the resources that C validates, or of the same ones that Python does."""
    kind, validated = request.param
    lines = [line for line in APP.splitlines() if kind in HYBRID or '"/hybrid/' not in line]
    store = request.getfixturevalue("mongodb") if kind == "mongodb" else ""
    server = start_crud(kind, "\n".join(lines), store=store)
    with httpx.Client(base_url=f"{server.client.base_url}/{validated}") as client:
        yield client
    problems = server.finish()
    assert problems == []


def created(client: httpx.Client, path: str, document: Any) -> tuple[str, dict[str, Any]]:
    answer = client.post(path, json=document)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return f"{path}/{found['id']}", found


def patched(client: httpx.Client, path: str, patch: Any) -> dict[str, Any]:
    answer = client.patch(path, json=patch)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert client.get(path).json() == found
    found.pop("id")
    return found


def refused(answer: httpx.Response) -> list[tuple[Any, ...]]:
    assert answer.status_code == 422, answer.text
    return [(error["type"], *error["loc"]) for error in answer.json()["detail"]]


@pytest.fixture
def path(client: httpx.Client) -> Iterator[str]:
    path, document = created(client, "/docs", FULL)
    document.pop("id")
    assert document == STORED
    yield path
    client.delete(path)


CHANGES: list[tuple[Any, Any]] = [
    ({}, {}),
    ({"title": "U"}, {"title": "U"}),
    ({"pageCount": 8}, {"pageCount": 8}),
    ({"in": "there"}, {"out": "there"}),
    ({"in": None}, {"out": "t"}),
    ({"out": "there"}, {}),
    ({"page_count": 8}, {}),
    ({"viewCount": 4}, {"views": 4}),
    ({"hits": 5}, {"views": 5}),
    ({"hits": 5, "viewCount": 4}, {"views": 4}),
    ({"viewCount": None}, {"views": 0}),
    ({"hits": None}, {"views": 0}),
    ({"views": 6}, {}),
    ({"theInner": {"in": "N"}}, {"theInner": {"pageCount": 1, "out": "N"}}),
    ({"theInner": {"pageCount": 2}}, {"theInner": {"pageCount": 2, "out": "nested"}}),
    ({"theInner": {"in": None}}, {"theInner": {"pageCount": 1, "out": "t"}}),
    ({"theInner": None}, {"theInner": None}),
    ({"inner": None}, {}),
    ({"many": [{"pageCount": 5}]}, {"many": [{"pageCount": 5, "out": "t"}]}),
    (
        {"named": {"k": {"in": "K"}, "l": None, "m": {"pageCount": 6}}},
        {"named": {"k": {"pageCount": 3, "out": "K"}, "m": {"pageCount": 6, "out": "t"}}},
    ),
    ({"pet": {"tricksIn": 6}}, {"pet": {"sort": "dog", "tricksOut": 6}}),
    ({"pet": {"kind": "cat", "livesIn": 1}}, {"pet": {"sort": "cat", "livesOut": 1}}),
    ({"tagged": {"livesIn": 8}}, {"tagged": {"sort": "cat", "livesOut": 8}}),
    ({"tagged": {"kind": "dog"}}, {"tagged": {"sort": "dog", "tricksOut": 0}}),
    ({"swapped": {"a": "X"}}, {"swapped": {"b": "X", "a": "B"}}),
    ({"swapped": {"b": None}}, {"swapped": {"b": "A", "a": "2"}}),
]


@pytest.mark.parametrize(("patch", "change"), CHANGES, ids=lambda value: json.dumps(value)[:40])
def test_a_patch_is_by_the_names_that_a_post_takes(
    client: httpx.Client, path: str, patch: Any, change: Any
) -> None:
    assert patched(client, path, patch) == {**STORED, **change}


def test_a_patch_of_many_members_is_the_same(client: httpx.Client, path: str) -> None:
    more = {f"k{i}": {"pageCount": i, "in": f"n{i}"} for i in range(40)}
    found = patched(client, path, {"named": more})
    assert found["named"] == {
        **STORED["named"],  # type: ignore[dict-item]
        **{f"k{i}": {"pageCount": i, "out": f"n{i}"} for i in range(40)},
    }
    found = patched(client, path, {"named": {name: {"in": "x"} for name in more}})
    assert found["named"]["k39"] == {"pageCount": 39, "out": "x"}


@pytest.mark.parametrize(
    ("patch", "errors"),
    [
        ({"pageCount": 0}, [("greater_than_equal", "body", "pageCount")]),
        ({"in": "much too long"}, [("string_too_long", "body", "in")]),
        ({"viewCount": "x"}, [("int_parsing", "body", "viewCount")]),
        ({"hits": "x"}, [("int_parsing", "body", "hits")]),
        ({"theInner": {"pageCount": None}}, [("missing", "body", "theInner", "pageCount")]),
        ({"theInner": {"in": 5}}, [("string_type", "body", "theInner", "in")]),
        ({"many": [{"in": "x"}]}, [("missing", "body", "many", 0, "pageCount")]),
        ({"named": {"k": {"in": 5}}}, [("string_type", "body", "named", "k", "in")]),
        ({"tagged": {"livesIn": "x"}}, [("int_parsing", "body", "tagged", "cat", "livesIn")]),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_an_error_of_a_patch_has_the_name_that_was_sent(
    client: httpx.Client, path: str, patch: Any, errors: Any
) -> None:
    assert refused(client.patch(path, json=patch)) == errors
    assert client.get(path).json().items() >= STORED.items()


def test_an_error_repeats_the_merged_document_by_the_names_of_clients(
    client: httpx.Client, path: str
) -> None:
    answer = client.patch(path, json={"title": None, "hits": 4})
    assert refused(answer) == [("missing", "body", "title")]
    shown = answer.json()["detail"][0]["input"]
    shown.pop("id")
    named = {**FULL["named"], "l": {"pageCount": 4, "in": "t"}}  # type: ignore[dict-item]
    assert shown == {
        **{name: value for name, value in FULL.items() if name != "title"},
        "hits": 4,
        "named": named,
    }


def test_either_name_of_a_field_patches_it(client: httpx.Client) -> None:
    path, _ = created(client, "/eithers", {"full_name": "Ann", "birthYear": 1990})
    assert patched(client, path, {"full_name": "Bob"}) == {"fullName": "Bob", "birthYear": 1990}
    assert patched(client, path, {"fullName": "Cid"}) == {"fullName": "Cid", "birthYear": 1990}
    assert patched(client, path, {"birth_year": None}) == {"fullName": "Cid", "birthYear": 2000}
    found = patched(client, path, {"fullName": None, "full_name": "Dan"})
    assert found == {"fullName": "Dan", "birthYear": 2000}
    for name in ("full_name", "fullName"):
        errors = refused(client.patch(path, json={name: "x"}))
        assert errors == [("string_too_short", "body", name)]
    assert refused(client.patch(path, json={"fullname": "x"})) == [
        ("extra_forbidden", "body", "fullname")
    ]


def test_what_is_kept_has_the_names_of_documents(client: httpx.Client) -> None:
    inner = {"pageCount": 1, "in": "x"}
    path, document = created(
        client,
        "/kept",
        {"ownerIn": "me", "innerIn": inner, "statusIn": "old", "secretIn": "S", "id": 5},
    )
    document.pop("id")
    kept = {"ownerOut": "me", "innerOut": {"pageCount": 1, "out": "x"}, "statusOut": "new"}
    assert document == {**kept, "text": "", "ref": 5}

    answer = client.put(path, json={"text": "put", "statusIn": "old"})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    found.pop("id")
    assert found == {**kept, "text": "put", "ref": 0}
    answer = client.put(path, json={"ownerIn": "me", "innerIn": inner, "text": "same"})
    assert answer.status_code == 200, answer.text

    found = patched(client, path, {"text": "patch", "statusIn": "old", "id": 6})
    assert found == {**kept, "text": "patch", "ref": 6}
    assert patched(client, path, {"secretIn": "T"}) == {**kept, "text": "patch", "ref": 6}
    assert patched(client, path, {"innerIn": {"in": "x"}})["ref"] == 6

    for method in (client.put, client.patch):
        assert refused(method(path, json={"ownerIn": "you"})) == [
            ("frozen_field", "body", "ownerIn")
        ]
        assert refused(method(path, json={"innerIn": {"pageCount": 1, "in": "y"}})) == [
            ("frozen_field", "body", "innerIn")
        ]


def test_what_is_never_answered_is_in_an_error_when_it_was_sent(client: httpx.Client) -> None:
    path, _ = created(client, "/kept", {"ownerIn": "me", "innerIn": {"pageCount": 1}})
    answer = client.patch(path, json={"text": 5})
    assert refused(answer) == [("string_type", "body", "text")]
    assert "secret" not in answer.text
    assert refused(client.patch(path, json={"secretIn": 5})) == [
        ("string_type", "body", "secretIn")
    ]


def test_filters_sorts_and_unique_fields_have_the_names_of_documents(
    client: httpx.Client, path: str
) -> None:
    def ask(**query: str) -> httpx.Response:
        return client.get("/docs", params=query)

    for query in ({"out": "here"}, {"pageCount": "7"}, {"theInner.out": "nested"}, {"views": "3"}):
        assert [item["title"] for item in ask(**query).json()["items"]] == ["T"]
    assert ask(sort="-out,pageCount", fields="out").json()["items"][0].keys() == {"id", "out"}
    for query in ({"in": "here"}, {"sort": "in"}, {"fields": "in"}, {"filter": '{"in": "here"}'}):
        assert ask(**query).status_code == 400

    answer = client.post("/docs", json=FULL)
    assert answer.status_code == 409
    assert answer.json()["detail"].endswith("with this out and title already exists")


def test_what_is_read_from_a_path_survives_a_patch(client: httpx.Client) -> None:
    path, document = created(client, "/paths", {"all": [4, 5], "first": 4})
    assert document["first"] == 4
    assert patched(client, path, {"text": "x"}) == {"first": 4, "text": "x"}
