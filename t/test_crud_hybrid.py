"""
Hybrid CRUD: what Python validates or has a hook for, written by the native store.
"""

import asyncio
import json
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from pydantic import BaseModel

from databridge import App, CrudError
from databridge.crud import schema_for
from databridge.hybrid import reasons
from harness import Nginx, until

APP = """
import asyncio
import time
from typing import Optional

from fastapi import Depends, Header, Request
from fastapi.middleware.cors import CORSMiddleware
from databridge import App, Field, HTTPException, Model

app = App()
app.add_middleware(CORSMiddleware, allow_origins=["*"])
seen = []
waiting = []


class Article(Model):
    title: str = Field(min_length=1)
    views: int = 0
    slug: Optional[str] = None


class Product(Model):
    id: int
    name: str


class Note(Model):
    text: str


def tenant(x_tenant: str = Header(default="none")) -> str:
    return x_tenant


@app.crud(Article, prefix="/articles")
class ArticleRoutes:
    def before_create(self, item):
        if item.title == "refused":
            raise HTTPException(403, "no such articles")
        if item.title == "wrong":
            return {"title": "not an item"}
        if item.title == "fail":
            raise ZeroDivisionError
        item.slug = item.title.lower()

    async def after_create(self, item: Article, id: str, request: Request, of=Depends(tenant)):
        await asyncio.sleep(0)
        seen.append(["created", id, item.title, request.method, of])

    async def before_update(self, item: Article, id: str) -> Article:
        return item.model_copy(update={"views": item.views + 1})

    def before_delete(self, id: str):
        if id.endswith("0" * 24):
            raise HTTPException(410, "gone")

    def after_delete(self, id: str):
        seen.append(["deleted", id])


@app.crud(Product)
class ProductRoutes:
    operations = ("get", "create", "update")

    def before_create(self, product: Product):
        product.name = product.name.strip()

    def before_update(self, item):
        pass


@app.crud(Note)
class NoteRoutes:
    async def before_create(self, item):
        waiting[:] = ["note begun"]
        if item.text.startswith("sleep"):
            await asyncio.sleep(float(item.text.split()[1]))
        waiting[:] = ["note ended"]


class Slow(Model):
    text: str


@app.crud(Slow, timeout=1.5)
class SlowRoutes:
    def before_create(self, item):
        pass


@app.get("/")
async def root():
    return "here"


@app.get("/waiting")
async def get_waiting():
    return waiting


@app.get("/seen")
async def get_seen():
    return seen


@app.post("/fastapi/articles")
async def create(item: Article):
    return item


@app.put("/fastapi/product/{id}")
async def update(id: int, item: Product):
    return item
"""


def start(workers: int = 1) -> Nginx:
    server = Nginx()
    server.write({"app.py": APP})
    server.configure(
        "databridge_app app:app;",
        http=f"databridge_store main sqlite:{server.prefix}/test.db;"
        "log_format kind '$request_uri $databridge_kind';"
        f"access_log {server.prefix}/kind.log kind;",
        workers=workers,
    )
    try:
        server.start("/")
    except BaseException:
        server.finish()
        raise
    return server


@pytest.fixture(scope="module")
def server() -> Iterator[Nginx]:
    server = start()
    yield server
    assert server.finish() == []


@pytest.fixture
def client(server: Nginx) -> httpx.Client:
    return server.client


def test_the_log_says_what_is_hybrid_and_why(server: Nginx) -> None:
    for line in (
        "Article: create is hybrid: Python has before_create and after_create",
        "Article: update is hybrid: Python has before_update",
        "Article: delete is hybrid: Python has before_delete and after_delete",
        "Note: create is hybrid: Python has before_create",
    ):
        server.logged(line)
    assert server.error_log.find("Note: (update|delete) is hybrid") == []


def test_create_answers_as_native_create_does(client: httpx.Client) -> None:
    answer = client.post("/articles", json={"title": "One"})
    assert answer.status_code == 201, answer.text
    document = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["location"] == f"/articles/{document['id']}"
    assert list(document) == ["id", "title", "views", "slug"]
    assert len(document["id"]) == 24 and int(document["id"], 16)
    assert document["slug"] == "one"
    assert client.get(f"/articles/{document['id']}").content == answer.content


def test_update_answers_as_native_update_does(client: httpx.Client) -> None:
    document = client.post("/articles", json={"title": "Two"}).json()
    path = f"/articles/{document['id']}"
    answer = client.put(path, json={"title": "2", "views": 6, "id": "ignored"})
    assert (answer.status_code, "location" in answer.headers) == (200, False)
    assert answer.json() == {"id": document["id"], "title": "2", "views": 7, "slug": None}
    assert client.get(path).content == answer.content
    assert client.put("/articles/" + "1" * 24, json={"title": "2"}).status_code == 404
    assert client.put("/articles/other", json={"title": "2"}).status_code == 404


def test_delete_asks_its_hooks(client: httpx.Client) -> None:
    document = client.post("/articles", json={"title": "Three"}).json()
    path = f"/articles/{document['id']}"
    answer = client.delete(path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.get(path).status_code == 404
    assert client.delete(path).status_code == 404
    assert client.delete("/articles/" + "0" * 24).json() == {"detail": "gone"}
    assert client.get("/seen").json().count(["deleted", document["id"]]) == 1


def test_a_declared_id_is_the_path_of_what_is_created(client: httpx.Client) -> None:
    answer = client.post("/product", json={"id": 7, "name": " seven "})
    assert (answer.status_code, answer.json()) == (201, {"id": 7, "name": "seven"})
    assert answer.headers["location"] == "/product/7"
    answer = client.post("/product", json={"id": 7, "name": "again"})
    assert answer.status_code == 409
    assert answer.json() == {"detail": "Product with id 7 already exists"}
    assert client.put("/product/7", json={"name": "new"}).json() == {"id": 7, "name": "new"}
    assert client.put("/product/7", json={"name": "new", "id": 9}).json()["id"] == 7
    assert client.put("/product/8", json={"name": "new"}).status_code == 404
    assert client.get("/product/7").json() == {"id": 7, "name": "new"}


def test_a_hook_refuses_with_an_http_exception(client: httpx.Client) -> None:
    answer = client.post("/articles", json={"title": "refused"})
    assert (answer.status_code, answer.json()) == (403, {"detail": "no such articles"})


@pytest.mark.parametrize(
    ("title", "line"),
    [("wrong", "TypeError.*before_create.* must return None or an item"), ("fail", "ZeroDivision")],
)
def test_a_hook_that_fails_is_a_500_and_writes_nothing(
    server: Nginx, client: httpx.Client, title: str, line: str
) -> None:
    assert client.post("/articles", json={"title": title}).status_code == 500
    assert client.get("/articles", params={"title": title}).json()["items"] == []
    server.logged(line)


def test_a_hook_has_the_parameters_of_an_endpoint(client: httpx.Client) -> None:
    document = client.post(
        "/articles", json={"title": "Four"}, headers={"X-Tenant": "somebody"}
    ).json()
    assert ["created", document["id"], "Four", "POST", "somebody"] in client.get("/seen").json()


BODIES = [
    b"",
    b"null",
    b"7",
    b"{",
    b'{"title": ""}',
    b'{"title": 7, "views": "x"}',
    b'{"title": "t", "slug": 1}',
    b'"text"',
]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x+json"])
def test_errors_of_a_body_are_fastapis(
    client: httpx.Client, body: bytes, content_type: str
) -> None:
    headers = {"Content-Type": content_type}
    answer = client.post("/articles", content=body, headers=headers)
    expected = client.post("/fastapi/articles", content=body, headers=headers)
    assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"title": "t", "views": NaN}', 422),
        (b'{"title": "t", "views": 1e999}', 422),
        (b'{"title": "\\ud800"}', 422),
        (b'{"title": "t", "more": "\\ud800"}', 422),
        (b'{"title": "\xff"}', 400),
        (b"[" * 100000, 400),
    ],
)
def test_what_is_no_json_is_never_an_error_of_ours(
    client: httpx.Client, body: bytes, status: int
) -> None:
    answer = client.post("/articles", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    text = client.post("/articles", content=b"\xff", headers={"Content-Type": "text/plain"})
    assert text.status_code == 400


@pytest.mark.parametrize("id", ["7", "x", "1.5", "%20"])
@pytest.mark.parametrize("body", [{"id": 1, "name": 7}, {"id": 1, "name": "n"}])
def test_errors_of_an_id_are_fastapis(
    client: httpx.Client, id: str, body: dict[str, object]
) -> None:
    answer = client.put(f"/product/{id}", json=body)
    expected = client.put(f"/fastapi/product/{id}", json=body)
    if expected.status_code == 422:
        assert (answer.status_code, answer.content) == (422, expected.content)
    else:
        assert answer.status_code in (200, 404)


def test_a_body_of_more_than_a_mebibyte_is_refused(client: httpx.Client) -> None:
    assert client.post("/articles", json={"title": "x" * 2**20}).status_code == 413
    assert client.post("/articles", json={"title": "x" * (2**20 - 100)}).status_code == 201


def test_text_is_kept_as_it_is(client: httpx.Client) -> None:
    title = 'é\u0000\U0001f40d"\\</script>'
    answer = client.post("/articles", json={"title": title})
    assert answer.json()["title"] == title
    assert client.get(f"/articles/{answer.json()['id']}").content == answer.content


def test_other_methods_are_405_with_all_operations_in_allow(client: httpx.Client) -> None:
    answer = client.request("PURGE", "/articles")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    answer = client.post("/product/1", json={})
    assert answer.status_code == 405
    assert {"GET", "HEAD", "PUT"} <= set(answer.headers["allow"].split(", "))
    assert client.delete("/product/1").status_code == 405
    assert client.get("/product").status_code == 405


def test_answers_have_the_applications_cors(client: httpx.Client) -> None:
    headers = {"Origin": "https://a.example"}
    answer = client.post("/articles", json={"title": "Cors"}, headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (201, "*")
    answer = client.get("/articles", headers=headers)
    assert answer.headers["access-control-allow-origin"] == "*"
    answer = client.options(
        "/articles", headers={**headers, "Access-Control-Request-Method": "GET"}
    )
    assert answer.status_code == 200


def test_two_hundred_creates_at_once_are_all_there(server: Nginx) -> None:
    async def create() -> list[str]:
        async with httpx.AsyncClient(base_url=server.base_url, timeout=30) as client:
            answers = await asyncio.gather(
                *(client.post("/note", json={"text": f"at once {n}"}) for n in range(200))
            )
        assert {answer.status_code for answer in answers} == {201}
        return [answer.json()["id"] for answer in answers]

    ids = asyncio.run(create())
    assert len(set(ids)) == 200
    found = server.client.get("/note", params={"limit": 1000}).json()["items"]
    assert {note["id"] for note in found} >= set(ids)


def test_what_a_client_asked_for_is_written_after_it_has_left(server: Nginx) -> None:
    with server.raw() as raw:
        raw.send(request("POST", "/note", {"text": "sleep 0.3 and gone"}))
        until("the request", lambda: "note begun" in server.client.get("/waiting").text)
        raw.reset()

    def written() -> bool:
        query = {"text": "sleep 0.3 and gone"}
        return bool(server.client.get("/note", params=query).json()["items"])

    until("the note", written)


def test_hybrid_writes_survive_a_reload(server: Nginx) -> None:
    async def write() -> list[int]:
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=server.base_url, timeout=30, limits=limits) as client:
            tasks = [
                asyncio.create_task(client.post("/note", json={"text": f"sleep 0.5 {n}"}))
                for n in range(20)
            ]
            await asyncio.sleep(0)
            while "note begun" not in (await client.get("/waiting")).text:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(server.reload)
            tasks += [
                asyncio.create_task(client.post("/note", json={"text": f"sleep 0 {n}"}))
                for n in range(20)
            ]
            return [(await task).status_code for task in tasks]

    assert asyncio.run(write()) == [201] * 40


def test_the_log_of_requests_knows_them(server: Nginx) -> None:
    server.client.post("/note", json={"text": "known"})
    server.client.get("/note")
    log = server.prefix / "kind.log"
    until("the lines", lambda: log.read_text().endswith("/note hybrid\n/note native\n"))


@pytest.fixture
def locked(server: Nginx) -> Iterator[sqlite3.Connection]:
    """Somebody else is writing."""
    connection = sqlite3.connect(server.prefix / "test.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


def test_a_store_that_takes_too_long_is_a_504(server: Nginx, locked: sqlite3.Connection) -> None:
    answer = server.client.post("/slow", json={"text": "late"})
    assert (answer.status_code, answer.json()) == (504, {"detail": "Gateway Timeout"})
    locked.execute("ROLLBACK")
    assert server.client.post("/slow", json={"text": "in time"}).status_code == 201


def test_a_write_under_way_is_answered_before_the_worker_quits() -> None:
    server = start()
    connection = sqlite3.connect(server.prefix / "test.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    with server.raw() as raw, ThreadPoolExecutor() as pool:
        raw.send(request("POST", "/note", {"text": "before the end"}))
        until("the write", lambda: "note ended" in server.client.get("/waiting").text)
        server.kill(signal.SIGQUIT)
        ended = pool.submit(server.wait, 10)
        connection.execute("ROLLBACK")
        assert raw.response().status == 201
        raw.closed()
        assert ended.result() == 0
    connection.close()
    assert server.finish() == []


def test_a_write_under_way_does_not_hold_a_worker_that_terminates() -> None:
    server = start()
    connection = sqlite3.connect(server.prefix / "test.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    with server.raw() as raw:
        raw.send(request("POST", "/note", {"text": "cut off"}))
        until("the write", lambda: "note ended" in server.client.get("/waiting").text)
        server.kill(signal.SIGTERM)
        assert server.wait(5) == 0
    connection.close()
    assert server.finish() == []


def test_the_path_of_what_is_created_has_the_root_path() -> None:
    server = Nginx()
    server.write({"app.py": APP})
    server.configure(
        server="location /api/ { databridge_app app:app root_path=/api; }",
        http=f"databridge_store main sqlite:{server.prefix}/test.db;",
    )
    server.start("/api/")
    answer = server.client.post("/api/note", json={"text": "below"})
    assert answer.headers["location"] == f"/api/note/{answer.json()['id']}"
    assert server.client.get(answer.headers["location"]).json() == answer.json()
    assert server.finish() == []


def test_nginx_alone_refuses_a_schema_that_needs_python() -> None:
    schema = {**schema_for(Thing), "hybrid": {"create": "Python has before_create"}}
    server = Nginx()
    server.write({"thing.json": json.dumps(schema)})
    server.configure(
        server=f"location /thing {{ databridge_crud thing schema={server.app}/thing.json; }}",
        http=f"databridge_store main sqlite:{server.prefix}/test.db;",
    )
    result = server.test()
    assert result.returncode == 1
    assert 'has "hybrid" operations, which need Python' in result.stderr
    server.finish()


class Thing(BaseModel):
    name: str


def test_what_is_neither_an_option_nor_a_hook_is_refused() -> None:
    class Unknown:
        def before_get(self) -> None: ...

    with pytest.raises(CrudError, match="Unknown.before_get is neither an option nor a hook"):
        App().crud(Thing)(Unknown)

    class NotCallable:
        after_delete = "text"

    with pytest.raises(CrudError, match="NotCallable.after_delete: a hook is a method"):
        App().crud(Thing)(NotCallable)

    class Early:
        def before_create(self, item: Thing, id: str) -> None: ...

    with pytest.raises(CrudError, match="before_create: a new document has no id yet"):
        App().crud(Thing)(Early)

    class Arguments:
        def __init__(self, name: str) -> None: ...

        def after_delete(self) -> None: ...

    with pytest.raises(CrudError, match="Arguments: a class with hooks is made once, without"):
        App().crud(Thing)(Arguments)


def test_a_patch_is_an_update_unless_it_has_a_hook_of_its_own() -> None:
    assert set(reasons({"before_update": 1})) == {"update", "patch"}
    assert set(reasons({"after_patch": 1})) == {"patch"}
    both = reasons({"before_update": 1, "before_patch": 1})
    assert both == {"update": "Python has before_update", "patch": "Python has before_patch"}


def test_without_nginx_they_say_what_is_missing() -> None:
    app = App()

    class Hooks:
        def before_create(self, item: Thing) -> None: ...

    app.crud(Thing)(Hooks)

    async def post(body: object) -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            return await client.post("/thing", json=body)

    answer = asyncio.run(post({"name": "n"}))
    assert (answer.status_code, "databridge run" in answer.text) == (503, True)
    assert asyncio.run(post({})).status_code == 422


def request(method: str, path: str, body: object) -> bytes:
    text = json.dumps(body).encode()
    return (
        f"{method} {path} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(text)}\r\n\r\n"
    ).encode() + text
