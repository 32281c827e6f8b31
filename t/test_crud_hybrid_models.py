"""
Models that only pydantic can validate: what it says of them is what is answered and stored.
"""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from harness import Nginx

APP = """
from datetime import datetime, timezone
from typing import Any, Optional
import secrets

from pydantic import computed_field, field_validator, model_validator
from databridge import App, Field, Model

app = App()


class Window(Model):
    name: str
    low: int = 0
    high: int = 10
    token: str = Field(default_factory=lambda: secrets.token_hex(4))
    more: Optional[dict[str, Any]] = None

    @field_validator("name")
    @classmethod
    def named(cls, value):
        if not value.isidentifier():
            raise ValueError("not an identifier")
        return value.lower()

    @model_validator(mode="after")
    def ordered(self):
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Book(Model):
    page_count: int = Field(alias="pageCount")
    text: str = Field(default="t", validation_alias="in", serialization_alias="out")
    secret: str = "s"

    @field_validator("page_count")
    @classmethod
    def enough(cls, value):
        if value < 3:
            raise ValueError("too thin")
        return value

    @computed_field
    @property
    def double(self) -> int:
        return 2 * self.page_count


app.crud_routes(Window)
app.crud_routes(Book, write_only=["secret"])


@app.get("/")
async def root():
    return "here"


@app.post("/fastapi")
@app.put("/fastapi")
async def same(item: Window):
    return item
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Nginx]:
    server = Nginx()
    server.write({"app.py": APP})
    server.configure(
        "databridge_app app:app;", http=f"databridge_store main sqlite:{server.prefix}/test.db;"
    )
    try:
        server.start("/")
        yield server
    finally:
        problems = server.finish()
    assert problems == []


@pytest.fixture
def client(server: Nginx) -> httpx.Client:
    return server.client


BODIES: list[Any] = [
    {"name": "Good"},
    {"name": "not good"},
    {"name": 7, "low": "x"},
    {"name": "n", "low": 11},
    {"name": "n", "more": {"a": [1, None, {"b": 1.5}]}},
    {},
    None,
    7,
]


@pytest.mark.parametrize("body", BODIES)
def test_create_validates_as_fastapi_does(client: httpx.Client, body: Any) -> None:
    answer, expected = client.post("/window", json=body), client.post("/fastapi", json=body)
    if expected.status_code == 422:
        assert (answer.status_code, answer.content) == (422, expected.content)
        return
    assert answer.status_code == 201
    document, same = answer.json(), expected.json()
    assert len(document.pop("token")) == len(same.pop("token")) == 8
    del document["id"]
    assert document == same


@pytest.mark.parametrize("body", BODIES)
def test_update_validates_as_fastapi_does(client: httpx.Client, body: Any) -> None:
    path = client.post("/window", json={"name": "n"}).headers["location"]
    answer, expected = client.put(path, json=body), client.put("/fastapi", json=body)
    assert answer.status_code == expected.status_code
    if expected.status_code == 422:
        assert answer.content == expected.content


def test_patch_validates_the_whole(client: httpx.Client) -> None:
    created = client.post("/window", json={"name": "n", "low": 3}).json()
    path = f"/window/{created['id']}"
    answer = client.patch(path, json={"high": 2})
    assert answer.status_code == 422
    (error,) = answer.json()["detail"]
    assert (error["type"], error["loc"]) == ("value_error", ["body"])
    assert client.get(path).json() == created
    answer = client.patch(path, json={"high": 20, "low": None, "name": "N2"})
    assert answer.json() == {**created, "high": 20, "low": 0, "name": "n2"}
    assert client.get(path).json() == answer.json()


def test_list_get_and_delete_stay_native(server: Nginx, client: httpx.Client) -> None:
    created = client.post("/window", json={"name": "native", "low": 5}).json()
    found = client.get("/window", params={"name": "native", "low": 5}).json()["items"]
    assert found == [created]
    assert client.delete(f"/window/{created['id']}").status_code == 204
    for operation in ("create", "update", "patch"):
        server.logged(f"Window: {operation} is hybrid: .*named")
    assert server.error_log.find("Window: (list|get|delete) is hybrid") == []


def test_aliases_and_computed_fields_are_stored_as_they_are_answered(client: httpx.Client) -> None:
    answer = client.post("/book", json={"pageCount": 3, "in": "x", "double": 7, "secret": "z"})
    assert answer.status_code == 201, answer.text
    created = answer.json()
    path = f"/book/{created['id']}"
    assert created == {"id": created["id"], "pageCount": 3, "out": "x", "double": 6}
    assert client.get(path).json() == created
    answer = client.patch(path, json={"pageCount": 4})
    assert answer.json() == {**created, "pageCount": 4, "double": 8}
    assert client.patch(path, json={"in": "y"}).json()["out"] == "y"
    (error,) = client.patch(path, json={"pageCount": 2}).json()["detail"]
    assert (error["loc"], error["msg"]) == (["body", "pageCount"], "Value error, too thin")
    assert client.get("/book", params={"pageCount": 4}).json()["items"][0]["id"] == created["id"]
