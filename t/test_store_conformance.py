"""
What a document store means, whichever it is: the same tests, over HTTP and
through nginx, against SQLite and MongoDB (MONGODB_URI names a real one).
"""

import json
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from harness import SLOWER, Nginx, until

APP = """
from datetime import datetime
from typing import Optional
from uuid import UUID, uuid4

from databridge import App, Field, HTTPException, Model

app = App()


class Inner(Model):
    name: Optional[str] = None
    id: Optional[int] = None
    deeper: Optional["Inner"] = None


class Thing(Model):
    mark: str = ""
    text: Optional[str] = None
    number: Optional[int] = None
    real: Optional[float] = None
    flag: Optional[bool] = None
    tags: list[str] = []
    numbers: list[int] = []
    rows: list[list[float]] = []
    table: dict[str, dict[str, int]] = {}
    inner: Optional[Inner] = None


class Event(Model):
    at: datetime
    name: str = ""


class Count(Model):
    name: str
    id: int
    more: Optional[str] = None


class Page(Model):
    text: str = ""
    id: str


class Key(Model):
    id: UUID = Field(default_factory=uuid4)
    text: str = ""


app.crud_routes(Thing, prefix="/thing")
app.crud_routes(Count, prefix="/count")
app.crud_routes(Page, prefix="/page")
app.crud_routes(Key, prefix="/key")
app.crud_routes(Event, prefix="/event", timestamps=True, upsert=True, version=True)


@app.crud(Event, prefix="/hook", collection="hook", timestamps=True, upsert=True, version=True)
class Hooks:
    def before_create(self, item):
        item.name += " created"

    def before_update(self, item):
        item.name += " updated"

    async def before_patch(self, item):
        item.name += " patched"

    def before_delete(self, id):
        if id == "0" * 24:
            raise HTTPException(410, "gone")
"""


@pytest.fixture(scope="module", params=["sqlite", "mongodb"])
def server(request: pytest.FixtureRequest) -> Iterator[Nginx]:
    server = Nginx()
    server.write({"app.py": APP})
    uri = f"sqlite:{server.prefix}/test.db"
    if request.param == "mongodb":
        uri = request.getfixturevalue("mongodb")
        server.allow_descriptors(tcp=40)
    server.configure("databridge_app app:app;", http=f'databridge_store main "{uri}";')
    server.start("/thing")
    server.client.headers["Content-Type"] = "application/json"
    yield server
    assert server.finish() == []


@pytest.fixture
def client(server: Nginx) -> httpx.Client:
    return server.client


@pytest.fixture
def mark() -> str:
    return f"mark {time.monotonic_ns()}"


def create(client: httpx.Client, path: str, document: object) -> httpx.Response:
    answer = client.post(path, content=json.dumps(document))
    assert answer.status_code == 201, answer.text
    return answer


def listed(client: httpx.Client, path: str, **query: object) -> list[dict[str, object]]:
    answer = client.get(path, params={"limit": 100, **query})  # type: ignore[dict-item]
    assert answer.status_code == 200, answer.text
    items: list[dict[str, object]] = answer.json()["items"]
    return items


DOCUMENTS = [
    {},
    {"text": ""},
    {"text": 'a\u0000b\u001f\u007f"\\/\b\f\n\r\t'},
    {"text": "é ß 漢 🐍 \u2028 \ufeff"},
    {"text": "$mark", "mark": "a.b"},
    {"number": 0, "real": 0},
    {"number": -1, "real": -0.0},
    {"number": 2147483647, "real": 0.1},
    {"number": -2147483649, "real": 1e300},
    {"number": 9007199254740993, "real": 5e-324},
    {"number": 9223372036854775807, "real": 1.7976931348623157e308},
    {"number": -9223372036854775808, "real": 123456789012345680.0},
    {"flag": True, "real": 1e16},
    {"flag": False, "real": 1e-7},
    {"tags": ["", "a", "a"], "numbers": list(range(120)), "rows": [[], [1, 2.5], []]},
    {"table": {"": {}, "a b": {"é": 1, "1": 2}, "0": {"b": -5}}},
    {"inner": {"name": "n", "id": 5, "deeper": {"id": 6, "deeper": {"name": ""}}}},
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_what_is_read_is_what_was_stored_to_the_byte(
    client: httpx.Client, mark: str, document: dict[str, object]
) -> None:
    document = {"mark": mark, **document}
    created = create(client, "/thing", document)
    path = f"/thing/{created.json()['id']}"
    assert list(created.json())[0] == "id"
    assert client.get(path).content == created.content
    page = client.get("/thing", params={"mark": document["mark"]}).content  # type: ignore[dict-item]
    assert created.content in page
    replaced = client.put(path, content=json.dumps({"mark": mark, "text": "other"}))
    assert replaced.status_code == 200
    assert client.get(path).content == replaced.content
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("path", "document", "members"),
    [
        ("/count", {"name": "n", "id": 5}, ["name", "id", "more"]),
        ("/count", {"name": "n", "id": -9223372036854775808}, ["name", "id", "more"]),
        ("/count", {"name": "n", "id": 9223372036854775807}, ["name", "id", "more"]),
        ("/page", {"text": "t", "id": "x"}, ["text", "id"]),
        ("/page", {"text": "t", "id": "0123456789abcdef01234567"}, ["text", "id"]),
        ("/page", {"text": "t", "id": "é 🐍 $.%"}, ["text", "id"]),
        ("/key", {"id": "0a0b0c0d-0001-4002-8003-0123456789ab"}, ["id", "text"]),
        ("/key", {}, ["id", "text"]),
    ],
)
def test_an_id_keeps_its_type_and_its_place(
    client: httpx.Client, path: str, document: dict[str, object], members: list[str]
) -> None:
    created = create(client, path, document)
    assert list(created.json()) == members
    own = created.headers["location"]
    assert client.get(own).content == created.content
    assert created.content in client.get(path, params={"limit": 100}).content
    taken = client.post(path, content=created.content)
    assert taken.status_code == 409
    assert set(taken.json()) == {"detail"}
    assert client.get(own).content == created.content
    assert listed(client, path, id=created.json()["id"]) == [created.json()]
    assert client.delete(own).status_code == 204


@pytest.mark.parametrize("path", ["/event", "/hook"])
def test_what_a_write_answers_is_what_a_read_does(client: httpx.Client, path: str) -> None:
    made = create(client, path, {"at": "2024-02-29T01:02:03.456789+02:00", "name": "a"})
    id = made.json()["id"]
    other = "e" * 24
    writes = [
        (id, made),
        (id, client.put(f"{path}/{id}", json={"at": "2024-02-29T01:02:03.999999Z", "name": "b"})),
        (id, client.patch(f"{path}/{id}", json={"at": "1969-12-31T23:59:59.999999"})),
        (id, client.patch(f"{path}/{id}", json={"name": "c"})),
        (other, client.put(f"{path}/{other}", json={"at": "2024-02-29T01:02:03.000001Z"})),
    ]
    assert [answer.status_code for _, answer in writes] == [201, 200, 200, 200, 201]
    assert [answer.headers["etag"] for _, answer in writes] == ['"1"', '"2"', '"3"', '"4"', '"1"']
    last = {id: answer.content for id, answer in writes}
    assert {id: client.get(f"{path}/{id}").content for id in last} == last

    stamps = {answer.json()["created_at"] for key, answer in writes if key == id}
    assert stamps == {made.json()["created_at"]}
    if path == "/hook":
        names = ["a created", "b updated", "b updated patched", "c patched", " updated"]
        assert [answer.json()["name"] for _, answer in writes] == names
        answer = client.delete(f"{path}/{'0' * 24}")
        assert (answer.status_code, answer.json()) == (410, {"detail": "gone"})
    assert [client.delete(f"{path}/{id}").status_code for id in last] == [204, 204]
    assert client.get(f"{path}/{id}").status_code == 404


def test_what_is_not_there_is_a_404(client: httpx.Client) -> None:
    for path in ("/thing/" + "0" * 24, "/thing/x", "/count/404", "/page/nothing"):
        assert client.get(path).status_code == 404
        assert client.delete(path).status_code == 404
    body = json.dumps({"name": "n", "id": 404})
    assert client.put("/count/404", content=body).status_code == 404
    assert client.get("/count/404").status_code == 404


def test_lists_are_ordered_by_id(client: httpx.Client) -> None:
    numbers = [5, -3, 100, 20, 0, 2**62, -(2**62)]
    for number in numbers:
        create(client, "/count", {"name": "order", "id": number})
    assert [item["id"] for item in listed(client, "/count", name="order")] == sorted(numbers)
    names = ["b", "a", "B", "aa", "é", "10", "9", "_"]
    for name in names:
        create(client, "/page", {"text": "order", "id": name})
    found = [item["id"] for item in listed(client, "/page", text="order")]
    assert found == sorted(names, key=str.encode)


def test_pages_follow_one_another(client: httpx.Client, mark: str) -> None:
    made = [create(client, "/thing", {"mark": mark, "number": n}).json() for n in range(7)]
    made.sort(key=lambda item: str(item["id"]))
    seen = []
    for skip in (0, 3, 6, 9):
        query: dict[str, str | int] = {"mark": mark, "limit": 3, "skip": skip, "count": "true"}
        page = client.get("/thing", params=query).json()
        assert (page["limit"], page["skip"], page["total"]) == (3, skip, 7)
        seen += page["items"]
    assert seen == made
    assert listed(client, "/thing", mark=mark, skip=10**9) == []
    query = {"mark": mark, "number": 3, "count": "true"}
    assert client.get("/thing", params=query).json()["total"] == 1


def test_more_than_a_reply_holds_is_listed(client: httpx.Client, mark: str) -> None:
    text = "x" * 300_000
    for number in range(60):
        create(client, "/thing", {"mark": mark, "number": number, "text": text})
    items = listed(client, "/thing", mark=mark)
    assert sorted(int(str(item["number"])) for item in items) == list(range(60))
    assert {item["text"] for item in items} == {text}
    for item in items:
        client.delete(f"/thing/{item['id']}")


def test_conditions_mean_the_same(client: httpx.Client, mark: str) -> None:
    documents: list[dict[str, object]] = [
        {"text": "1", "number": 1, "real": 1, "flag": True, "tags": ["a", "b"], "numbers": [1, 2]},
        {"text": "true", "number": 0, "real": 0.5, "flag": False, "tags": ["b"], "numbers": [2]},
        {"text": "null", "number": 2**53 + 1, "real": 2.0**53, "tags": [""], "numbers": []},
        {"inner": {"name": "a", "id": 7, "deeper": {"name": "b"}}},
        {"text": "$x", "inner": {"deeper": {"name": "a", "id": 7}}, "numbers": [2**53]},
    ]
    for index, document in enumerate(documents):
        create(client, "/thing", {"mark": mark, "table": {"i": {"n": index}}, **document})

    def found(*query: tuple[str, str | int | float]) -> list[int]:
        answer = client.get("/thing", params=[("mark", mark), *query])
        assert answer.status_code == 200, answer.text
        return sorted(item["table"]["i"]["n"] for item in answer.json()["items"])

    assert found() == [0, 1, 2, 3, 4]
    assert found(("text", "1")) == [0]
    assert found(("text", "true")) == [1]
    assert found(("text", "null")) == [2]
    assert found(("text", "$x")) == [4]
    assert found(("text", "")) == []
    assert found(("number", 1)) == [0]
    assert found(("number", 2**53 + 1)) == [2]
    assert found(("real", "1.0")) == [0]
    assert found(("real", "0.5")) == [1]
    assert found(("real", 2**53)) == [2]
    assert found(("flag", "true")) == [0]
    assert found(("flag", "false")) == [1]
    assert found(("tags", "b")) == [0, 1]
    assert found(("tags", "")) == [2]
    assert found(("tags", "a"), ("tags", "b")) == [0]
    assert found(("tags", "a"), ("tags", "c")) == []
    assert found(("numbers", 2)) == [0, 1]
    assert found(("numbers", 1), ("numbers", 2), ("flag", "true")) == [0]
    assert found(("inner.name", "a")) == [3]
    assert found(("inner.id", 7)) == [3]
    assert found(("inner.deeper.name", "a")) == [4]
    assert found(("inner.deeper.id", 7), ("text", "$x")) == [4]
    assert found(("text", "1"), ("text", "true")) == []


def test_a_condition_on_the_id_meets_that_document_alone(client: httpx.Client, mark: str) -> None:
    made = create(client, "/thing", {"mark": mark}).json()
    create(client, "/thing", {"mark": mark})
    assert listed(client, "/thing", mark=mark, id=made["id"]) == [made]
    upper = str(made["id"]).upper()
    assert listed(client, "/thing", mark=mark, id=upper) == [made]
    page = client.get("/thing", params={"mark": mark, "id": "0" * 24, "count": "true"}).json()
    assert (page["items"], page["total"]) == ([], 0)
    for other in ("x", "", upper + "0"):
        assert client.get("/thing", params={"id": other}).status_code == 400


def test_hostile_text_is_only_text(client: httpx.Client, mark: str) -> None:
    for text in ("'; drop table thing; --", '{"$gt": ""}', "$where", "\\", "%", "a" * 3000):
        create(client, "/thing", {"mark": mark, "text": text})
        assert [item["text"] for item in listed(client, "/thing", mark=mark, text=text)] == [text]


def test_a_large_document_goes_in_and_out(client: httpx.Client, mark: str) -> None:
    document = {"mark": mark, "text": "0123456789" * 60_000, "numbers": [7] * 120_000}
    created = create(client, "/thing", document)
    path = f"/thing/{created.json()['id']}"
    assert client.get(path).content == created.content
    client.delete(path)


def test_every_write_that_was_answered_is_there(client: httpx.Client, mark: str) -> None:
    failed: list[int] = []

    def work(base: int) -> None:
        with httpx.Client(base_url=client.base_url, timeout=30 * SLOWER) as own:
            for number in range(base, base + 25):
                body = {"id": number, "name": mark}
                made = own.post("/count", json=body)
                got = own.get(f"/count/{number}")
                changed = own.put(f"/count/{number}", json={**body, "more": "x"})
                if (made.status_code, got.status_code, changed.status_code) != (201, 200, 200):
                    failed.append(number)

    threads = [threading.Thread(target=work, args=(10_000 * n,)) for n in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    query = {"name": mark, "more": "x", "count": "true", "limit": "1"}
    assert client.get("/count", params=query).json()["total"] == 150


def test_one_of_many_writers_of_an_id_wins(client: httpx.Client) -> None:
    statuses: list[int] = []

    def work(name: str) -> None:
        answer = httpx.post(
            f"{client.base_url}/count", json={"id": 77, "name": name}, timeout=30 * SLOWER
        )
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=work, args=(f"n{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201] + [409] * 7


def test_a_client_that_leaves_does_not_harm(server: Nginx) -> None:
    body = json.dumps({"mark": "left"})
    head = f"Host: t\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    for _ in range(20):
        client = server.raw()
        client.send(f"POST /thing HTTP/1.1\r\n{head}{body}".encode())
        client.reset()
    until("an answer", lambda: server.client.get("/thing").status_code == 200)
