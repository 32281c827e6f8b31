"""
What writes: PATCH, arrays, upsert, unique fields, timestamps, and fields that are not the
client's.  Everything is asked of an application's resources and of nginx alone.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from harness import Nginx, until
from harness.crud import STORES, start_crud, store_of

APP = """
from datetime import datetime, timezone
from typing import Optional

from databridge import App, Field, Model

app = App()


class Author(Model):
    name: str = Field(min_length=1)
    born: Optional[int] = None


class Article(Model):
    title: str = Field(min_length=1, max_length=80)
    text: str = ""
    views: int = Field(default=0, ge=0)
    rating: Optional[float] = None
    tags: list[str] = []
    author: Optional[Author] = None
    extra: dict[str, int] = {}


class Page(Model):
    id: str
    text: str
    views: int = 0


class Entry(Model):
    id: int
    text: str
    created_at: datetime
    note: str = ""


class Label(Model):
    id: str = Field(max_length=20, pattern="^[a-z]")
    text: str = ""


class Rack(Model):
    id: int = Field(ge=1)
    text: str = ""


class Slot(Model):
    id: int
    text: str = ""


class Stamped(Model):
    id: int
    text: str = ""


class User(Model):
    email: str
    name: str = ""
    status: str = "new"
    level: int = Field(default=1, ge=1)
    owner: str = "nobody"
    password: str = Field(min_length=3)


class Seat(Model):
    room: str
    row: int
    number: Optional[int] = None


class Closed(Model):
    model_config = {"extra": "forbid"}

    name: str


app.crud_routes(Article, prefix="/articles")
app.crud_routes(Page, upsert=True)
app.crud_routes(Label, upsert=True)
app.crud_routes(Rack, upsert=True, immutable=["text"])
app.crud_routes(Entry, timestamps=True, upsert=True)
app.crud_routes(Slot, operations=["create", "get", "patch"])
app.crud_routes(Stamped, timestamps={"updated": "changed"})
app.crud_routes(Closed, timestamps=True)


@app.crud(User)
class UserRoutes:
    unique = ["email"]
    read_only = ["status", "level"]
    immutable = ["owner"]
    write_only = ["password"]


@app.crud(Seat)
class SeatRoutes:
    unique = ["room,row,number"]


@app.get("/")
async def root():
    return "here"
"""

MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture(scope="module", params=STORES)
def server(request: pytest.FixtureRequest) -> Iterator[Nginx]:
    server = start_crud(request.param, APP, workers=2, store=store_of(request))
    yield server
    problems = server.finish()
    assert problems == []


@pytest.fixture
def client(server: Nginx) -> httpx.Client:
    return server.client


def errors(answer: httpx.Response) -> list[tuple[object, ...]]:
    assert answer.status_code == 422, answer.text
    return [(error["type"], *error["loc"]) for error in answer.json()["detail"]]


def article(client: httpx.Client, **members: Any) -> tuple[str, dict[str, Any]]:
    answer = client.post("/articles", json={"title": "Hello", **members})
    assert answer.status_code == 201, answer.text
    document = answer.json()
    return f"/articles/{document['id']}", document


def key() -> str:
    return uuid4().hex


# PATCH


def test_patch_changes_what_it_names_and_keeps_the_rest(client: httpx.Client) -> None:
    path, document = article(client, text="World", views=3, tags=["a"])
    answer = client.patch(path, json={"views": 4, "tags": ["b", "c"]})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {**document, "views": 4, "tags": ["b", "c"]}
    assert client.get(path).content == answer.content


def test_patch_takes_the_type_of_merge_patches_too(client: httpx.Client) -> None:
    path, _ = article(client)
    answer = client.patch(path, content='{"text": "merged"}', headers=MERGE)
    assert (answer.status_code, answer.json()["text"]) == (200, "merged")
    answer = client.patch(path, content='{"text": "no"}', headers={"Content-Type": "text/plain"})
    assert errors(answer) == [("model_attributes_type", "body")]


def test_patch_goes_into_objects_and_replaces_lists(client: httpx.Client) -> None:
    path, document = article(
        client, author={"name": "A", "born": 1900}, extra={"a": 1, "b": 2}, tags=["x", "y"]
    )
    patch = {"author": {"name": "B"}, "extra": {"b": None, "c": 3}, "tags": []}
    assert client.patch(path, json=patch).json() == {
        **document,
        "author": {"name": "B", "born": 1900},
        "extra": {"a": 1, "c": 3},
        "tags": [],
    }


def test_null_in_a_patch_removes_so_that_defaults_come_back(client: httpx.Client) -> None:
    path, document = article(client, views=7, rating=1.5, author={"name": "A", "born": 1900})
    answer = client.patch(path, json={"views": None, "rating": None, "author": {"born": None}})
    assert answer.json() == {
        **document,
        "views": 0,
        "rating": None,
        "author": {"name": "A", "born": None},
    }
    answer = client.patch(path, json={"title": None})
    assert errors(answer) == [("missing", "body", "title")]
    assert client.get(path).json()["title"] == "Hello"


def test_patch_never_moves_a_document(client: httpx.Client) -> None:
    path, document = article(client)
    other = "f" * 24
    assert client.patch(path, json={"id": other}).json() == document
    assert client.get(f"/articles/{other}").status_code == 404


def test_patch_of_what_is_not_there_is_404_and_creates_nothing(client: httpx.Client) -> None:
    missing = f"/articles/{'0' * 24}"
    assert client.patch(missing, json={"title": "x"}).status_code == 404
    assert client.patch("/articles/x", json={}).status_code == 404
    assert client.patch(f"/page/{key()}", json={"text": "x"}).status_code == 404
    assert errors(client.patch("/slot/x", json={})) == [("int_parsing", "path", "id")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", [("missing", "body")]),
        ("[]", [("model_attributes_type", "body")]),
        ("7", [("model_attributes_type", "body")]),
        ("null", [("model_attributes_type", "body")]),
        ("{", [("json_invalid", "body", 1)]),
        ('{"views": -1}', [("greater_than_equal", "body", "views")]),
        ('{"author": {"born": 1}}', [("missing", "body", "author", "name")]),
        ('{"author": 7}', [("model_attributes_type", "body", "author")]),
        ('{"title": "", "tags": [1]}', [("string_too_short", "body", "title"),
                                        ("string_type", "body", "tags", 0)]),
    ],
)  # fmt: skip
def test_a_patch_that_leaves_no_valid_document_is_422(
    client: httpx.Client, body: str, expected: list[tuple[object, ...]]
) -> None:
    path, document = article(client)
    answer = client.patch(path, content=body, headers={"Content-Type": "application/json"})
    assert errors(answer) == expected
    assert client.get(path).json() == document


class Author(BaseModel):
    name: str = Field(min_length=1)
    born: int | None = None


class Article(BaseModel):
    title: str = Field(min_length=1, max_length=80)
    text: str = ""
    views: int = Field(default=0, ge=0)
    rating: float | None = None
    tags: list[str] = []
    author: Author | None = None
    extra: dict[str, int] = {}


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = merged(target.get(name), value)
    return target


def by_hand() -> Callable[[str, str, Any], httpx.Response]:
    """What one writes with FastAPI: stored documents by id, merged, validated, stored."""
    app = FastAPI()
    stored: dict[str, dict[str, Any]] = {}

    @app.put("/stored/{id}")
    async def keep(id: str, document: dict[str, Any]) -> None:
        stored[id] = document

    @app.patch("/articles/{id}")
    async def patch(id: str, patch: dict[str, Any]) -> Any:
        document = merged(stored[id], patch)
        try:
            model = Article.model_validate(document, from_attributes=True)
        except ValidationError as exc:
            raise RequestValidationError(
                [
                    {**error, "loc": ("body", *error["loc"])}
                    for error in exc.errors(include_url=False)
                ]
            ) from exc
        stored[id] = {"id": id, **model.model_dump(mode="json")}
        return stored[id]

    async def request(method: str, path: str, body: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            return await client.request(method, path, json=body)

    return lambda method, path, body: asyncio.run(request(method, path, body))


PATCHES: list[dict[str, Any]] = [
    {},
    {"title": "t"},
    {"title": None},
    {"title": ""},
    {"title": "x" * 81, "text": None, "views": None},
    {"views": "12", "rating": "1.5"},
    {"views": "x", "rating": "y", "tags": {}},
    {"tags": [None]},
    {"tags": ["a", 1, "b", {}]},
    {"author": {}},
    {"author": {"name": "N", "born": "1900"}},
    {"author": {"name": None}},
    {"author": {"name": {"x": None}}},
    {"author": None},
    {"author": "A"},
    {"extra": {"a": None, "b": "7"}},
    {"extra": {"a": {"b": None}}},
    {"extra": []},
    {"unknown": 1, "other": {"a": None}},
    {"unknown": None},
    {"title": None, "views": -1, "author": {"born": "x"}},
    {"extra": {f"k{n}": n for n in range(40)}},
    {"extra": {f"k{n}": None for n in range(40)}},
]


def test_patches_are_answered_as_fastapi_and_pydantic_do_by_hand(client: httpx.Client) -> None:
    oracle = by_hand()
    for start in ({}, {"author": {"name": "A", "born": 1}, "extra": {"a": 1}, "views": 5}):
        path, document = article(client, **start)
        for patch in PATCHES:
            oracle("PUT", path.replace("/articles", "/stored"), document)
            theirs = oracle("PATCH", path, patch)
            ours = client.patch(path, json=patch)
            assert (ours.status_code, ours.json()) == (theirs.status_code, theirs.json()), patch
            document = client.get(path).json()


def test_concurrent_patches_of_different_fields_all_survive(client: httpx.Client) -> None:
    path, _ = article(client, author={"name": "A"})
    names = [f"k{number}" for number in range(48)]

    def change(name: str) -> int:
        with httpx.Client(base_url=client.base_url) as own:
            return own.patch(path, json={"extra": {name: len(name)}}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(change, names)) == {200}
    assert client.get(path).json()["extra"] == {name: len(name) for name in names}


# arrays


def test_an_array_creates_all_its_documents_in_order(client: httpx.Client) -> None:
    body = [{"title": f"a{number}", "views": number} for number in range(5)]
    answer = client.post("/articles", json=body)
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    assert "location" not in answer.headers and "etag" not in answer.headers
    documents = answer.json()
    assert [document["views"] for document in documents] == [0, 1, 2, 3, 4]
    for document in documents:
        assert client.get(f"/articles/{document['id']}").json() == document


def test_an_empty_array_creates_nothing(client: httpx.Client) -> None:
    answer = client.post("/articles", json=[])
    assert (answer.status_code, answer.text) == (201, "[]")


def test_an_array_with_one_bad_document_creates_none(client: httpx.Client) -> None:
    mark = key()
    body = [{"title": mark}, {"title": ""}, {"views": "x"}, 7]
    assert errors(client.post("/articles", json=body)) == [
        ("string_too_short", "body", 1, "title"),
        ("missing", "body", 2, "title"),
        ("int_parsing", "body", 2, "views"),
        ("model_attributes_type", "body", 3),
    ]
    assert client.get("/articles", params={"title": mark}).json()["items"] == []


def test_an_array_of_more_than_a_thousand_is_refused(client: httpx.Client) -> None:
    answer = client.post("/slot", json=[{"id": 0}] * 1001)
    assert answer.status_code == 422
    (error,) = answer.json()["detail"]
    assert (error["type"], error["loc"]) == ("too_long", ["body"])
    assert error["msg"] == "List should have at most 1000 items after validation, not 1001"


def test_a_thousand_documents_are_created_at_once(client: httpx.Client) -> None:
    start = int(key()[:8], 16)
    answer = client.post("/slot", json=[{"id": start + number} for number in range(1000)])
    assert answer.status_code == 201
    assert len(answer.json()) == 1000
    assert client.get(f"/slot/{start + 999}").status_code == 200


def test_a_conflict_in_an_array_names_the_id_and_creates_none(client: httpx.Client) -> None:
    taken, free = key(), key()
    client.post("/page", json={"id": taken, "text": "x"})
    answer = client.post("/page", json=[{"id": free, "text": "1"}, {"id": taken, "text": "2"}])
    assert answer.status_code == 409
    assert answer.json() == {"detail": f"Page with id {taken} already exists"}
    assert client.get(f"/page/{free}").status_code == 404
    answer = client.post("/page", json=[{"id": free, "text": "1"}, {"id": free, "text": "2"}])
    assert answer.json() == {"detail": f"Page with id {free} already exists"}


# upsert


def test_an_upsert_creates_and_then_replaces(client: httpx.Client) -> None:
    id = key()
    answer = client.put(f"/page/{id}", json={"text": "one"})
    assert (answer.status_code, answer.json()) == (201, {"id": id, "text": "one", "views": 0})
    assert answer.headers["location"].endswith(f"/page/{id}")
    answer = client.put(f"/page/{id}", json={"text": "two", "views": 2})
    assert (answer.status_code, answer.json()) == (200, {"id": id, "text": "two", "views": 2})
    assert "location" not in answer.headers


def test_an_upsert_creates_nothing_under_an_id_that_a_post_may_not_have(
    client: httpx.Client,
) -> None:
    name = f"x{key()}"[:20]
    assert client.put(f"/label/{name}", json={}).status_code == 201
    answer = client.put(f"/label/{name}more", json={})
    assert (answer.status_code, answer.json()) == (
        422,
        client.post("/label", json={"id": f"{name}more"}).json(),
    )
    assert client.get(f"/label/{name}more").status_code == 404
    answer = client.put("/label/0", json={"text": 5})
    assert [error["loc"] for error in answer.json()["detail"]] == [
        ["body", "id"],
        ["body", "text"],
    ]
    answer = client.put("/rack/0", json={})
    assert answer.json() == client.post("/rack", json={"id": 0}).json()
    assert client.get("/rack/0").status_code == 404


def test_without_upsert_nothing_is_created_by_put(client: httpx.Client) -> None:
    assert client.put(f"/articles/{'1' * 24}", json={"title": "x"}).status_code == 404


# unique


def user(client: httpx.Client, **members: Any) -> tuple[str, dict[str, Any]]:
    body = {"email": f"{key()}@x", "password": "secret", **members}
    answer = client.post("/user", json=body)
    assert answer.status_code == 201, answer.text
    document = answer.json()
    return f"/user/{document['id']}", {**body, **document}


def test_a_unique_field_is_409_by_name_whatever_writes_it(client: httpx.Client) -> None:
    _, first = user(client)
    path, _ = user(client)
    taken = {"email": first["email"], "password": "other"}
    expected = {"detail": "User with this email already exists"}
    for answer in (
        client.post("/user", json=taken),
        client.post("/user", json=[{"email": key(), "password": "other"}, taken]),
        client.put(path, json=taken),
        client.patch(path, json={"email": first["email"]}),
    ):
        assert (answer.status_code, answer.json()) == (409, expected)


def test_fields_that_are_unique_together_are_all_named(client: httpx.Client) -> None:
    seat = {"room": key(), "row": 1, "number": 2}
    assert client.post("/seat", json=seat).status_code == 201
    answer = client.post("/seat", json=seat)
    assert answer.status_code == 409
    assert answer.json() == {"detail": "Seat with this room, row and number already exists"}
    assert client.post("/seat", json={**seat, "number": 3}).status_code == 201
    loose = {**seat, "number": None}
    assert [client.post("/seat", json=loose).status_code for _ in range(2)] == [201, 201]


# timestamps


def moment(text: str) -> datetime:
    assert text.endswith("Z"), text
    return datetime.fromisoformat(text)


def wait_for_the_next(text: str) -> None:
    """Until the clock shows another millisecond: MongoDB holds no less."""
    until("a millisecond", lambda: datetime.now(UTC) >= moment(text) + timedelta(milliseconds=1))


def test_timestamps_are_set_by_the_server_alone(client: httpx.Client) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    id = int(key()[:8], 16)
    old = "2001-01-01T00:00:00Z"
    body = {"id": id, "text": "x", "created_at": old, "updated_at": "never"}
    created = client.post("/entry", json=body).json()
    assert list(created) == ["id", "text", "created_at", "note", "updated_at"]
    assert before <= moment(created["created_at"]) <= datetime.now(UTC)
    assert created["updated_at"] == created["created_at"]
    wait_for_the_next(created["created_at"])

    path = f"/entry/{id}"
    for answer in (
        client.put(path, json={"text": "y", "created_at": old}),
        client.patch(path, json={"note": "z", "created_at": old, "updated_at": None}),
        client.patch(path, json={"created_at": None}),
    ):
        changed = answer.json()
        assert answer.status_code == 200, answer.text
        assert changed["created_at"] == created["created_at"]
        assert moment(changed["updated_at"]) > moment(created["updated_at"])
    assert client.get(path).json() == changed

    query = {"filter": json.dumps({"updated_at": {"$gt": created["created_at"]}, "id": id})}
    assert len(client.get("/entry", params=query).json()["items"]) == 1
    query = {"filter": json.dumps({"updated_at": {"$gt": "never"}})}
    assert client.get("/entry", params=query).status_code == 400


def test_an_upsert_that_creates_is_stamped_too(client: httpx.Client) -> None:
    path = f"/entry/{int(key()[:8], 16)}"
    answer = client.put(path, json={"text": "new"})
    assert answer.status_code == 201
    assert moment(answer.json()["created_at"]) == moment(answer.json()["updated_at"])
    again = client.put(path, json={"text": "again"}).json()
    assert again["created_at"] == answer.json()["created_at"]


def test_one_timestamp_may_be_enough(client: httpx.Client) -> None:
    id = int(key()[:8], 16)
    created = client.post("/stamped", json={"id": id}).json()
    assert list(created) == ["id", "text", "changed"]
    wait_for_the_next(created["changed"])
    changed = client.put(f"/stamped/{id}", json={"text": "x"}).json()
    assert moment(changed["changed"]) > moment(created["changed"])


def test_a_document_may_be_sent_back_as_it_was_read(client: httpx.Client) -> None:
    document = client.post("/closed", json={"name": "a"}).json()
    path = f"/closed/{document['id']}"
    assert client.put(path, json=document).status_code == 200
    assert client.patch(path, json=document).status_code == 200
    assert errors(client.patch(path, json={"other": 1})) == [("extra_forbidden", "body", "other")]


# read_only, immutable, write_only


def test_read_only_fields_are_their_default_and_stay_what_is_stored(client: httpx.Client) -> None:
    path, created = user(client, status="admin", level="not an int")
    assert (created["status"], created["level"]) == ("new", 1)
    body = {"email": key(), "password": "other", "status": "admin", "level": -1}
    for answer in (client.put(path, json=body), client.patch(path, json={"status": None})):
        assert answer.status_code == 200, answer.text
        assert (answer.json()["status"], answer.json()["level"]) == ("new", 1)


def test_immutable_fields_are_set_once(client: httpx.Client) -> None:
    path, created = user(client, owner="me")
    body = {"email": created["email"], "password": "other"}
    for answer in (
        client.put(path, json=body),
        client.put(path, json={**body, "owner": "me"}),
        client.patch(path, json={"name": "x"}),
        client.patch(path, json={"owner": "me"}),
        client.patch(path, json={"owner": None}),
    ):
        assert (answer.status_code, answer.json()["owner"]) == (200, "me")

    for answer in (
        client.put(path, json={**body, "owner": "you"}),
        client.patch(path, json={"owner": "you"}),
    ):
        assert answer.status_code == 422
        assert answer.json()["detail"] == [
            {
                "type": "frozen_field",
                "loc": ["body", "owner"],
                "msg": "Field is frozen",
                "input": "you",
            }
        ]
    assert errors(client.put(path, json={**body, "owner": 7})) == [("string_type", "body", "owner")]
    assert client.get(path).json()["owner"] == "me"


def test_write_only_fields_are_never_answered(client: httpx.Client) -> None:
    secret = key()
    path, created = user(client, password=secret)
    other = [{"email": key(), "password": secret}, {"email": key(), "password": secret}]
    visible = ["id", "email", "name", "status", "level", "owner"]
    for answer in (
        client.get(path),
        client.get("/user", params={"email": created["email"]}),
        client.put(path, json={"email": created["email"], "password": secret}),
        client.patch(path, json={"name": "x"}),
        client.patch(path, json={"password": secret}),
        client.post("/user", json=other),
    ):
        assert answer.status_code in (200, 201), answer.text
        assert secret not in answer.text and "password" not in answer.text
    assert list(client.get(path).json()) == visible


def test_a_write_only_field_survives_a_patch_of_others(client: httpx.Client) -> None:
    path, _ = user(client)
    assert client.patch(path, json={"name": "x"}).status_code == 200
    answer = client.patch(path, json={"password": None})
    assert errors(answer) == [("missing", "body", "password")]


def test_an_error_of_a_patch_tells_nothing_that_is_write_only(client: httpx.Client) -> None:
    secret = key()
    path, _ = user(client, password=secret)
    answer = client.patch(path, json={"email": None})
    assert errors(answer) == [("missing", "body", "email")]
    assert secret not in answer.text


@pytest.mark.parametrize(
    "query",
    [
        {"password": "secret"},
        {"sort": "password"},
        {"sort": "-password"},
        {"fields": "password"},
        {"filter": '{"password":{"$gt":"a"}}'},
        {"filter": '{"$or":[{"password":"a"},{"name":"b"}]}'},
    ],
)
def test_a_write_only_field_cannot_be_asked_for(
    client: httpx.Client, query: dict[str, str]
) -> None:
    answer = client.get("/user", params=query)
    assert answer.status_code == 400
    assert answer.json() == {"detail": "'password' is not a field of User"}


# operations


def test_operations_that_are_left_out_are_not_allowed(client: httpx.Client) -> None:
    answer = client.put("/slot/1", json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, PATCH")
    answer = client.request("PROPFIND", "/articles/1")
    assert answer.headers["allow"] == "GET, HEAD, PUT, PATCH, DELETE"
    assert client.patch("/articles", json={}).status_code == 405
