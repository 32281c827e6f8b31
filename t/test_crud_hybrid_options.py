"""
A hook that does nothing changes nothing: each resource is there twice, native and hybrid, and
both are asked the same.  Then what only hybrid operations have: writes that race.
"""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from harness import Nginx
from harness.crud import start_crud, store_of

APP = """
import asyncio
from datetime import datetime
from typing import Optional
from uuid import UUID

from databridge import App, Field, Model
from pydantic import ConfigDict

app = App()


class Account(Model):
    email: str = Field(min_length=3)
    name: str = ""
    role: str = "user"
    code: str = "none"
    password: str
    tags: list[str] = []
    meta: dict[str, int] = {}


class Stamped(Model):
    made: datetime
    text: str = "none"


class Keyed(Model):
    id: int
    text: str
    note: Optional[str] = None


class Kept(Model):
    id: int
    code: str = "c"
    text: str = ""


class Coded(Model):
    id: UUID
    text: str = ""


class Owned(Model):
    owner: str
    text: str = ""


class Numbered(Model):
    tenant: int
    text: str = ""


class Count(Model):
    n: int = 0


class Renamed(Model):
    model_config = ConfigDict(populate_by_name=True)
    a: str = Field(alias="A")
    b: str = Field("none", validation_alias="bIn", serialization_alias="bOut")
    secret: str = Field("s", alias="Secret")


class Strict(Model):
    model_config = ConfigDict(extra="forbid")
    b: str = Field(validation_alias="bIn", serialization_alias="bOut")


class Keys(Model):
    pin: int
    token: str


class Safe(Model):
    title: str
    keys: Keys
    codes: dict[str, int] = {}


class Nothing:
    def before_create(self, item):
        pass

    async def before_update(self, item):
        pass

    def before_delete(self, id):
        pass


def twice(model, **options):
    name = model.__name__.lower()
    app.crud_routes(model, prefix=f"/native/{name}", collection=f"{name}_n", **options)
    hooks = type(f"{name}Hooks", (), {k: v for k, v in vars(Nothing).items() if k[0] != "_"})
    app.crud(model, prefix=f"/hybrid/{name}", collection=f"{name}_h", **options)(hooks)


twice(
    Account,
    version=True,
    unique=["email"],
    read_only=["role"],
    immutable=["code"],
    write_only=["password"],
    timestamps=True,
)
twice(Stamped, timestamps={"created": "made", "updated": "changed"})
twice(Keyed, upsert=True, version=True)
twice(Kept, upsert=True, immutable=["code"])
twice(Coded, require_match=True)
twice(Owned, scope={"owner": "$http_x_user"})
twice(Numbered, scope={"tenant": "$http_x_user"})
twice(Renamed, write_only=["Secret"])
twice(Strict)
twice(Safe, write_only=["keys", "codes"], version=True)


@app.crud(Count, operations=["get", "create", "patch"])
class CountHooks:
    async def before_patch(self, item):
        item.n += 1
        await asyncio.sleep(0.001)


@app.get("/")
async def root():
    return "here"
"""


@pytest.fixture(scope="module", params=["databridge_app", "mongodb"])
def server(request: pytest.FixtureRequest) -> Iterator[Nginx]:
    server = start_crud(request.param, APP, store=store_of(request))
    yield server
    assert server.finish() == []


OTHER = "5f" * 12
A = {"email": "a@x", "password": "p", "code": "c"}
SAFE = {"title": "t", "keys": {"pin": 987654, "token": "u"}, "codes": {"a": 987654}}

Step = tuple[str, str, Any, dict[str, str]]

# Paths are of the resource; $1 is the id of what was first created.
SCENES: dict[str, list[Step]] = {
    "account": [
        ("POST", "", A, {}),
        ("POST", "", A, {}),
        ("POST", "", {"email": "b@x", "password": "q", "role": "admin", "created_at": 1}, {}),
        ("POST", "", {"email": "", "code": 7}, {}),
        ("POST", "", [], {}),
        ("POST", "", [{"email": "c@x", "password": "1"}, {"email": "d@x", "password": "2"}], {}),
        ("POST", "", [{"email": "e@x", "password": "1"}, {"email": "d@x", "password": "2"}], {}),
        ("POST", "", [{"email": "f@x", "password": "1"}, {"email": 7}, 8], {}),
        ("POST", "", [{}] * 1001, {}),
        ("GET", "/$1", None, {}),
        ("PUT", "/$1", {"email": "a@y", "password": "r", "role": "admin"}, {}),
        ("PUT", "/$1", {"email": "a@y", "password": "r", "code": "d"}, {}),
        ("PUT", "/$1", {"email": "a@y", "password": "r", "code": "c"}, {}),
        ("PUT", "/$1", {"email": "b@x", "password": "r"}, {}),
        ("PUT", "/$1", {"email": 1}, {}),
        ("PUT", "/$1", {"email": "a@z", "password": "r"}, {"If-Match": '"1"'}),
        ("PUT", "/$1", {"email": "a@z", "password": "r"}, {"If-Match": '"3"'}),
        ("PATCH", "/$1", {"name": "N", "tags": ["x"], "meta": {"a": 1, "b": 2}}, {}),
        ("PATCH", "/$1", {"name": None, "meta": {"a": None, "c": 3}, "id": "z"}, {}),
        ("PATCH", "/$1", {"email": None}, {}),
        ("PATCH", "/$1", {"tags": 7}, {}),
        ("PATCH", "/$1", {"password": 7}, {}),
        ("PATCH", "/$1", {"code": "new"}, {}),
        ("PATCH", "/$1", {"code": None}, {}),
        ("PATCH", "/$1", {"role": "admin"}, {}),
        ("PATCH", "/$1", {}, {"If-Match": "*"}),
        ("PATCH", "/$1", {"name": "n"}, {"If-Match": '"77"'}),
        ("PATCH", "/$1", {"email": "b@x"}, {}),
        ("PATCH", f"/{OTHER}", {"name": "n"}, {}),
        ("PATCH", "/$1", [], {}),
        ("PATCH", "/$1", None, {}),
        ("GET", "/$1", None, {"If-None-Match": '"1"'}),
        ("DELETE", "/$1", None, {"If-Match": '"1"'}),
        ("DELETE", "/$1", None, {}),
        ("DELETE", "/$1", None, {}),
    ],
    "stamped": [
        ("POST", "", {"text": "t", "made": "2020-01-01T00:00:00Z"}, {}),
        ("PUT", "/$1", {"text": "u"}, {}),
        ("PATCH", "/$1", {"made": None, "changed": 1, "text": "v"}, {}),
        ("GET", "/$1", None, {}),
    ],
    "keyed": [
        ("PUT", "/1", {"text": "new"}, {}),
        ("PUT", "/1", {"text": "newer", "id": 5}, {}),
        ("PUT", "/2", {"text": "no"}, {"If-Match": "*"}),
        ("PUT", "/x", {"text": 1}, {}),
        ("PATCH", "/9", {"text": "no"}, {}),
        ("PATCH", "/1", {"note": "yes"}, {"If-Match": '"2"'}),
        ("PATCH", "/x", {"note": "yes"}, {}),
        ("POST", "", {"id": 1, "text": "there"}, {}),
        ("POST", "", {"id": 3, "text": "three"}, {}),
        ("POST", "", {"text": "none"}, {}),
        ("PUT", "/1", {"text": "no"}, {"If-None-Match": "*"}),
        ("PUT", "/4", {"text": "four"}, {"If-None-Match": "*"}),
        ("PATCH", "/4", {"note": "no"}, {"If-None-Match": 'W/"1"'}),
        ("PATCH", "/4", {"note": "yes"}, {"If-None-Match": '"7"'}),
        ("DELETE", "/4", None, {"If-None-Match": "*"}),
        ("DELETE", "/x", None, {}),
        ("GET", "/3", None, {}),
    ],
    "kept": [
        ("PUT", "/1", {"code": "a"}, {}),
        ("PUT", "/1", {"text": "t"}, {}),
        ("PUT", "/1", {"text": "t", "code": "b"}, {}),
        ("PUT", "/1", {"text": "u", "code": "a"}, {}),
        ("PATCH", "/2", {"text": "t"}, {}),
    ],
    "coded": [
        ("POST", "", {"id": "12345678-1234-5678-1234-567812345678"}, {}),
        ("POST", "", {"id": "x"}, {}),
        ("PUT", "/12345678123456781234567812345678", {"text": "t"}, {}),
        ("PUT", "/12345678123456781234567812345678", {"text": "t"}, {"If-Match": '"1"'}),
        ("PATCH", "/12345678123456781234567812345678", {"text": "u"}, {}),
        ("PATCH", "/12345678123456781234567812345678", {"text": "u"}, {"If-Match": '"2"'}),
        ("DELETE", "/12345678123456781234567812345678", None, {}),
        ("DELETE", "/12345678123456781234567812345678", None, {"If-Match": '"3"'}),
    ],
    "owned": [
        ("POST", "", {"text": "mine", "owner": "somebody"}, {"X-User": "me"}),
        ("POST", "", {"text": "mine"}, {}),
        ("POST", "", [{"text": "one"}, {"text": "two"}], {"X-User": "me"}),
        ("GET", "/$1", None, {"X-User": "you"}),
        ("PUT", "/$1", {"text": "yours"}, {"X-User": "you"}),
        ("PUT", "/$1", {"text": "still", "owner": "you"}, {"X-User": "me"}),
        ("PATCH", "/$1", {"text": "yours"}, {"X-User": "you"}),
        ("PATCH", "/$1", {"text": "patched", "owner": "you"}, {"X-User": "me"}),
        ("DELETE", "/$1", None, {"X-User": "you"}),
        ("DELETE", "/$1", None, {}),
        ("DELETE", "/$1", None, {"X-User": "me"}),
    ],
    "numbered": [
        ("POST", "", {"text": "mine"}, {"X-User": "7"}),
        ("POST", "", {"text": "mine"}, {"X-User": "seven"}),
        ("PATCH", "/$1", {"text": "patched"}, {"X-User": "7"}),
        ("PATCH", "/$1", {"text": "patched"}, {"X-User": "8"}),
    ],
    "renamed": [
        ("POST", "", {"A": "1", "bIn": "2", "bOut": "not read"}, {}),
        ("PATCH", "/$1", {"a": "3"}, {}),
        ("PATCH", "/$1", {"a": "4", "A": "5"}, {}),
        ("PATCH", "/$1", {"bOut": "not read", "Secret": "t"}, {}),
        ("PATCH", "/$1", {"b": "6"}, {}),
        ("PATCH", "/$1", {"bIn": None}, {}),
        ("PATCH", "/$1", {"a": None}, {}),
    ],
    "strict": [
        ("POST", "", {"bIn": "1"}, {}),
        ("POST", "", {"bIn": "1", "bOut": "2"}, {}),
        ("PATCH", "/$1", {}, {}),
        ("PATCH", "/$1", {"bIn": "2"}, {}),
    ],
    "safe": [
        ("POST", "", SAFE, {}),
        ("PATCH", "/$1", {"title": None}, {}),
        ("PATCH", "/$1", {"title": None, "keys": {"token": "u"}}, {}),
        ("PATCH", "/$1", {"title": None, "codes": {"b": 2}}, {}),
        ("PATCH", "/$1", {"title": None, "codes": {"b": 2}, "keys": 7}, {}),
        ("PATCH", "/$1", {"keys": {"token": None}}, {}),
        ("PATCH", "/$1", {"keys": {"token": 7}}, {}),
        ("PATCH", "/$1", {"keys": {"token": "u"}}, {}),
        ("PUT", "/$1", SAFE, {"If-Match": '"*"'}),
        ("GET", "/$1", None, {"If-None-Match": '"*"'}),
    ],
}


def play(client: httpx.Client, kind: str, name: str) -> list[object]:
    """What is answered to a scene, without what differs from one run to the next."""
    prefix, first = f"/{kind}/{name}", ""
    answers: list[object] = []
    for method, path, body, headers in SCENES[name]:
        answer = client.request(
            method, prefix + path.replace("$1", first), json=body, headers=headers
        )
        if not first and answer.status_code == 201:
            first = answer.headers["location"].rpartition("/")[2]
        text = re.sub(r"20\d\d-\d\d-\d\dT[\d:.]+Z", "NOW", answer.text)
        text = re.sub(r"[0-9a-f]{24}", "ID", text).replace(prefix, "PREFIX")
        answers.append(
            (method, path, body, answer.status_code, text, answer.headers.get("etag"))
            + (re.sub(r"[0-9a-f]{24}", "ID", answer.headers.get("location", ""))[len(prefix) :],)
        )
    return answers


@pytest.mark.parametrize("name", SCENES)
def test_a_hook_that_does_nothing_changes_nothing(server: Nginx, name: str) -> None:
    native = play(server.client, "native", name)
    hybrid = play(server.client, "hybrid", name)
    for one, other in zip(native, hybrid, strict=True):
        assert one == other


def test_a_patch_leaves_alone_what_it_does_not_name_and_knows_every_name(server: Nginx) -> None:
    def patched(patch: dict[str, Any]) -> dict[str, Any]:
        document: dict[str, Any] = server.client.patch(path, json=patch).json()
        return {"A": document["A"], "bOut": document["bOut"]}

    created = server.client.post("/native/renamed", json={"A": "1", "bIn": "2"}).json()
    path = f"/native/renamed/{created['id']}"
    assert patched({"A": "3"}) == {"A": "3", "bOut": "2"}
    assert patched({"a": "4"}) == {"A": "4", "bOut": "2"}
    assert patched({"b": "5"}) == {"A": "4", "bOut": "5"}
    assert patched({"bIn": None}) == {"A": "4", "bOut": "none"}


@pytest.mark.parametrize("kind", ["native", "hybrid"])
def test_no_error_of_a_patch_tells_what_is_never_answered(server: Nginx, kind: str) -> None:
    answers = play(server.client, kind, "safe")
    assert "422" in str(answers)
    assert "987654" not in str([answer[4] for answer in answers if isinstance(answer, tuple)])


@pytest.mark.parametrize("kind", ["native", "hybrid"])
def test_a_star_in_quotes_is_a_tag_of_nobody(server: Nginx, kind: str) -> None:
    created = server.client.post(f"/{kind}/safe", json=SAFE).json()
    path = f"/{kind}/safe/{created['id']}"
    assert server.client.put(path, json=SAFE, headers={"If-Match": '"*"'}).status_code == 412
    assert server.client.get(path, headers={"If-None-Match": '"*"'}).status_code == 200


def test_patches_at_once_are_all_counted(server: Nginx) -> None:
    created = server.client.post("/count", json={}).json()

    async def patch() -> list[int]:
        async with httpx.AsyncClient(base_url=server.base_url, timeout=30) as client:
            answers = await asyncio.gather(
                *(client.patch(f"/count/{created['id']}", json={}) for _ in range(40))
            )
        return [answer.status_code for answer in answers]

    done = 0
    while done < 40:
        statuses = asyncio.run(patch())
        assert set(statuses) <= {200, 503}
        done += statuses.count(200)
    assert server.client.get(f"/count/{created['id']}").json()["n"] == done


@pytest.mark.parametrize("kind", ["native", "hybrid"])
def test_an_empty_if_match_names_no_version(server: Nginx, kind: str) -> None:
    path = f"/{kind}/keyed/4711"
    assert server.client.put(path, json={"text": "t"}).headers["etag"] == '"1"'
    for method in ("PUT", "PATCH", "DELETE"):
        body = None if method == "DELETE" else {"text": "u"}
        for empty in ("", ","):
            headers = {"If-Match": empty}
            answer = server.client.request(method, path, json=body, headers=headers)
            assert answer.status_code == 412, empty
    assert server.client.get(path).json()["text"] == "t"
