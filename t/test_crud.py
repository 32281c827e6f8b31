"""
Native CRUD: declared by an application, and by nginx.conf alone.  Everything
that both can do is asked of both.
"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from conftest import StartNginx
from harness import DATABRIDGE, SLOWER, Nginx, SecureNginx, until
from harness.settings import server_env

APP = '''
import time
from datetime import datetime
from typing import Optional
from uuid import UUID, uuid4

from databridge import App, Field, Model

app = App()


class Author(Model):
    name: str = Field(min_length=1)
    born: Optional[int] = None


class Article(Model):
    title: str = Field(min_length=1, max_length=80)
    text: str = ""
    rating: float = Field(default=0.0, ge=0, le=5)
    views: int = 0
    published: bool = False
    tags: list[str] = []
    author: Optional[Author] = None
    created: Optional[datetime] = None
    key: UUID = Field(default_factory=uuid4)
    extra: dict[str, int] = {}
    slug: Optional[str] = Field(default=None, pattern="^[a-z-]+$")


class Product(Model):
    id: int
    name: str


class Page(Model):
    id: str
    text: str


app.crud_routes(Article, prefix="/articles")


@app.crud(Product)
class ProductRoutes:
    pass


@app.crud(Page)
class PageRoutes:
    operations = ("list", "get", "create")


@app.get("/")
async def root():
    return "here"


@app.get("/hold")
async def hold():
    """One long call in C that never lets go of the GIL."""
    start = time.monotonic()
    pow(3, 10**3500, 10**3500 + 1)
    return time.monotonic() - start
'''

MODELS = {"Article": "/articles", "Product": "/product", "Page": "/page"}
JSON = {"Content-Type": "application/json"}
HEAD = "Host: t\r\nContent-Type: application/json\r\nContent-Length"
ARTICLE = {"title": "Hello", "text": "World", "rating": 4.5, "tags": ["a", "b"]}


def schema(model: str, server: Nginx) -> str:
    """The schema file that nginx.conf needs."""
    result = subprocess.run(
        [DATABRIDGE, "schema", f"app:{model}", "--app-dir", str(server.app)],
        env=server_env(),
        capture_output=True,
        text=True,
        timeout=30 * SLOWER,
    )
    assert result.returncode == 0, result.stderr
    path = server.prefix / f"{model.lower()}.schema.json"
    path.write_text(result.stdout)
    return str(path)


def start(kind: str, workers: int = 1) -> Nginx:
    server = Nginx()
    server.write({"app.py": APP})
    http = f"databridge_store main sqlite:{server.prefix}/test.db;"
    if kind == "application":
        server.configure("databridge_app app:app;", http=http, workers=workers)
    else:
        locations = [
            f"location {prefix} {{ databridge_crud {model.lower()} "
            f"schema={schema(model, server)} store=main; }}"
            for model, prefix in MODELS.items()
        ]
        server.configure(http=http, server="\n".join(locations), workers=workers)
    server.start(None)
    until("CRUD", lambda: server.client.get("/articles").status_code == 200, 15)
    server.warm()
    return server


@pytest.fixture(scope="module", params=["application", "nginx.conf"])
def server(request: pytest.FixtureRequest) -> Iterator[Nginx]:
    server = start(request.param)
    yield server
    problems = server.finish()
    assert problems == []


@pytest.fixture
def client(server: Nginx) -> httpx.Client:
    return server.client


def errors(answer: httpx.Response) -> list[tuple[object, ...]]:
    assert answer.status_code == 422, answer.text
    return [(error["type"], *error["loc"]) for error in answer.json()["detail"]]


def test_create_answers_the_document_and_where_it_is(client: httpx.Client) -> None:
    answer = client.post("/articles", json=ARTICLE)
    assert answer.status_code == 201
    document = answer.json()
    assert answer.headers["location"].endswith(f"/articles/{document['id']}")
    assert answer.headers["content-type"] == "application/json"
    assert len(document["id"]) == 24 and int(document["id"], 16)
    assert {name: document[name] for name in ARTICLE} == ARTICLE
    assert (document["views"], document["published"], document["author"]) == (0, False, None)
    assert len(document["key"]) == 36


def test_get_answers_what_was_created(client: httpx.Client) -> None:
    created = client.post("/articles", json=ARTICLE).json()
    answer = client.get(f"/articles/{created['id']}")
    assert (answer.status_code, answer.json()) == (200, created)


def test_head_is_a_get_without_a_body(client: httpx.Client) -> None:
    created = client.post("/articles", json=ARTICLE).json()
    answer = client.head(f"/articles/{created['id']}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 100


def test_update_replaces_the_document(client: httpx.Client) -> None:
    created = client.post("/articles", json=ARTICLE).json()
    path = f"/articles/{created['id']}"
    answer = client.put(path, json={"title": "Changed", "views": 7})
    assert answer.status_code == 200
    changed = answer.json()
    assert changed["id"] == created["id"]
    assert (changed["title"], changed["views"], changed["text"]) == ("Changed", 7, "")
    assert client.get(path).json() == changed


def test_update_takes_the_id_from_the_path(client: httpx.Client) -> None:
    client.post("/product", json={"id": 101, "name": "one"})
    answer = client.put("/product/101", json={"id": 999, "name": "two"})
    assert answer.status_code in (200, 409, 422)
    assert client.get("/product/101").status_code == 200
    assert client.get("/product/999").status_code == 404
    answer = client.put("/product/101", json={"id": 101, "name": "three"})
    assert answer.json() == {"id": 101, "name": "three"}


def test_delete_removes_the_document(client: httpx.Client) -> None:
    created = client.post("/articles", json=ARTICLE).json()
    path = f"/articles/{created['id']}"
    answer = client.delete(path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.get(path).status_code == 404
    assert client.delete(path).status_code == 404
    assert client.put(path, json=ARTICLE).status_code == 404


def test_list_pages_through_everything(client: httpx.Client) -> None:
    mark = f"page {time.monotonic_ns()}"
    made = [client.post("/articles", json={"title": mark, "views": n}).json() for n in range(7)]
    query: dict[str, str | int] = {"title": mark, "limit": 3, "count": "true"}
    seen = []
    for skip in (0, 3, 6, 9):
        page = client.get("/articles", params={**query, "skip": skip}).json()
        assert (page["limit"], page["skip"], page["total"]) == (3, skip, 7)
        seen += page["items"]
    assert sorted(seen, key=lambda item: item["views"]) == made
    assert "total" not in client.get("/articles").json()


def test_list_filters_by_equality(client: httpx.Client) -> None:
    mark = f"filter {time.monotonic_ns()}"
    for number in range(4):
        client.post(
            "/articles",
            json={
                "title": mark,
                "views": number,
                "published": number % 2 == 0,
                "tags": ["all", f"t{number}"],
                "author": {"name": f"A{number}"},
            },
        )

    def views(**query: str | int) -> list[int]:
        answer = client.get("/articles", params={"title": mark, **query})
        assert answer.status_code == 200, answer.text
        return sorted(item["views"] for item in answer.json()["items"])

    assert views() == [0, 1, 2, 3]
    assert views(views=2) == [2]
    assert views(published="true") == [0, 2]
    assert views(tags="t3") == [3]
    assert views(tags="all", published="false") == [1, 3]
    assert views(**{"author.name": "A1"}) == [1]
    assert views(views=99) == []


@pytest.mark.parametrize("query", ["unknown=1", "views=x", "limit=x", "limit=-1", "skip=-1"])
def test_a_query_that_makes_no_sense_is_refused(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/articles?{query}")
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    "value", ["'; drop table article; --", '"', "\\", "%", "é\u0000", "🐍", "$.title", "a" * 3000]
)
def test_hostile_text_is_only_text(client: httpx.Client, value: str) -> None:
    created = client.post("/articles", json={"title": "hostile", "text": value})
    assert created.status_code == 201
    assert client.get(f"/articles/{created.json()['id']}").json()["text"] == value
    if "\0" not in value:
        found = client.get("/articles", params={"text": value, "limit": 1}).json()
        assert found["items"][0]["text"] == value


WRONG = [
    ({}, [("missing", "body", "title")]),
    ({"title": ""}, [("string_too_short", "body", "title")]),
    ({"title": "x" * 81}, [("string_too_long", "body", "title")]),
    ({"title": 7}, [("string_type", "body", "title")]),
    ({"title": None}, [("string_type", "body", "title")]),
    ({"title": "t", "rating": 6}, [("less_than_equal", "body", "rating")]),
    ({"title": "t", "rating": "x"}, [("float_parsing", "body", "rating")]),
    ({"title": "t", "views": 1.5}, [("int_from_float", "body", "views")]),
    ({"title": "t", "views": "x"}, [("int_parsing", "body", "views")]),
    ({"title": "t", "published": "perhaps"}, [("bool_parsing", "body", "published")]),
    ({"title": "t", "tags": "a"}, [("list_type", "body", "tags")]),
    ({"title": "t", "tags": ["a", 1]}, [("string_type", "body", "tags", 1)]),
    ({"title": "t", "author": {}}, [("missing", "body", "author", "name")]),
    ({"title": "t", "author": {"name": ""}}, [("string_too_short", "body", "author", "name")]),
    ({"title": "t", "created": "soon"}, [("datetime_from_date_parsing", "body", "created")]),
    ({"title": "t", "key": "x"}, [("uuid_parsing", "body", "key")]),
    ({"title": "t", "extra": {"a": "b"}}, [("int_parsing", "body", "extra", "a")]),
    ({"title": "t", "slug": "Not OK"}, [("string_pattern_mismatch", "body", "slug")]),
    (
        {"rating": -1, "views": "x"},
        [
            ("missing", "body", "title"),
            ("greater_than_equal", "body", "rating"),
            ("int_parsing", "body", "views"),
        ],
    ),
]


@pytest.mark.parametrize(("body", "expected"), WRONG)
def test_what_does_not_validate_is_a_422_as_fastapi_words_it(
    client: httpx.Client, body: dict[str, object], expected: list[tuple[object, ...]]
) -> None:
    assert errors(client.post("/articles", json=body)) == expected


@pytest.mark.parametrize("text", ["", "{", "[", '{"title": }', '{"title": "x",}', "nul", "\xff"])
def test_what_is_not_json_is_a_422(client: httpx.Client, text: str) -> None:
    answer = client.post(
        "/articles",
        content=text.encode("latin-1"),
        headers=JSON,
    )
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]


def test_lax_values_become_what_the_model_says(client: httpx.Client) -> None:
    body = {"title": "t", "views": "7", "published": "yes", "rating": "1.5"}
    document = client.post("/articles", json=body).json()
    assert (document["views"], document["published"], document["rating"]) == (7, True, 1.5)


def test_numbers_are_exact(client: httpx.Client) -> None:
    text = '{"title": "t", "views": 9223372036854775807, "rating": 0.1}'
    created = client.post("/articles", content=text, headers=JSON).json()
    document = client.get(f"/articles/{created['id']}")
    assert '"views":9223372036854775807' in document.text
    assert document.json()["rating"] == 0.1


def test_a_declared_id_has_to_be_sent(client: httpx.Client) -> None:
    assert errors(client.post("/product", json={"name": "x"})) == [("missing", "body", "id")]


def test_an_id_that_is_taken_is_a_409(client: httpx.Client) -> None:
    assert client.post("/product", json={"id": 7, "name": "one"}).status_code == 201
    answer = client.post("/product", json={"id": 7, "name": "two"})
    assert answer.status_code == 409
    assert "UNIQUE" not in answer.text and answer.json()["detail"]
    assert client.get("/product/7").json() == {"id": 7, "name": "one"}


def test_a_text_id_may_hold_anything(client: httpx.Client) -> None:
    name = "a b ?#é"
    answer = client.post("/page", json={"id": name, "text": "t"})
    assert answer.status_code == 201
    path = "/page/a%20b%20%3F%23%C3%A9"
    assert client.get(path).json() == {"id": name, "text": "t"}
    assert answer.headers["location"].endswith(path)


@pytest.mark.parametrize("path", ["/articles/nothing", "/articles/" + "0" * 24, "/product/5555"])
def test_what_is_not_there_is_a_404(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (404, 422)
    assert answer.json()["detail"]


def test_a_method_that_is_not_allowed_is_a_405_with_the_others(client: httpx.Client) -> None:
    answer = client.delete("/articles")
    assert answer.status_code == 405
    assert {name.strip() for name in answer.headers["allow"].split(",")} >= {"GET", "POST"}
    assert client.post("/articles/123").status_code == 405


def test_an_operation_that_is_not_offered_is_a_405() -> None:
    server = start("application")
    client = server.client
    client.post("/page", json={"id": "kept", "text": "t"})
    assert client.delete("/page/kept").status_code == 405
    assert client.put("/page/kept", json={"id": "kept", "text": "u"}).status_code == 405
    assert client.get("/page/kept").json()["text"] == "t"
    assert server.finish() == []


def test_a_body_that_is_too_large_is_a_413() -> None:
    server = Nginx()
    server.write({"app.py": APP})
    server.configure(
        http=f"databridge_store main sqlite:{server.prefix}/test.db;",
        server=f"location /articles {{ databridge_crud article schema={schema('Article', server)} "
        "store=main; databridge_max_body_size 10k; }",
    )
    server.start()
    body = {"title": "t", "text": "x" * 20_000}
    assert server.client.post("/articles", json=body).status_code == 413
    assert server.client.post("/articles", json=ARTICLE).status_code == 201
    assert server.finish() == []


def test_a_large_document_goes_in_and_out(client: httpx.Client) -> None:
    text = "0123456789" * 90_000
    created = client.post("/articles", json={"title": "large", "text": text})
    assert created.status_code == 201
    assert client.get(f"/articles/{created.json()['id']}").json()["text"] == text
    client.delete(f"/articles/{created.json()['id']}")
    assert client.post("/articles", json={"title": "large", "text": 2 * text}).status_code == 413


@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
def test_a_body_that_says_that_it_is_too_large_is_not_waited_for(
    server: Nginx, expect: str
) -> None:
    with server.raw() as raw:
        raw.send(
            f"POST /articles HTTP/1.1\r\nHost: test\r\n{expect}"
            "Content-Type: application/json\r\nContent-Length: 2000000\r\n\r\n".encode()
        )
        answer = raw.response()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert answer.body == b'{"detail":"Request Entity Too Large"}'


def chunked(*parts: bytes, end: bool = True) -> bytes:
    head = f"POST /articles HTTP/1.1\r\n{HEAD}".replace("Content-Length", "Transfer-Encoding")
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
    return head.encode() + b": chunked\r\n\r\n" + b"".join(chunks) + b"0\r\n\r\n" * end


def test_a_body_without_a_length_is_read_in_parts_as_one(server: Nginx) -> None:
    text = "0123456789" * 90_000
    body = json.dumps({"title": "large", "text": text}).encode()
    ways = [
        chunked(body),
        chunked(*(body[at : at + 7000] for at in range(0, len(body), 7000))),
        chunked(*(bytes([byte]) for byte in body[:3000]), body[3000:]),
    ]
    with server.raw() as raw:
        for way in ways:
            raw.send(way)
            created = raw.response()
            assert created.status == 201
            stored = json.loads(created.body)
            assert stored["text"] == text
            assert server.client.delete(f"/articles/{stored['id']}").status_code == 204
        raw.send(chunked())
        assert raw.response().status == 422
        following = b"GET /articles/0 HTTP/1.1\r\nHost: t\r\n\r\n"
        raw.send(chunked(json.dumps(ARTICLE).encode()) + following)
        assert [raw.response().status for _ in range(2)] == [201, 404]


@pytest.mark.parametrize("size", [1000, 100_000, 2_000_000])
def test_a_body_without_a_length_is_refused_when_there_is_too_much_of_it(
    server: Nginx, size: int
) -> None:
    with server.raw() as raw:
        raw.send(chunked(*([b"x" * size] * (1 + 2**20 // size)), end=False))
        answer = raw.response()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert answer.body == b'{"detail":"Request Entity Too Large"}'
    assert server.client.get("/articles?limit=1").status_code == 200


def test_http_2_carries_bodies_without_a_length(certificate: str) -> None:
    server = SecureNginx()
    server.open(certificate, APP, http=f"databridge_store main sqlite:{server.prefix}/test.db;")

    def parts() -> Iterator[bytes]:
        yield b'{"title": "large", "text": "'
        yield from [b"0123456789" * 100] * 900
        yield b'"}'

    with httpx.Client(**server.security(http2=True)) as client:
        for _ in range(2):
            created = client.post("/articles", content=parts(), headers=JSON)
            assert (created.http_version, created.status_code) == ("HTTP/2", 201)
            assert created.json()["text"] == "0123456789" * 90_000
    assert server.finish() == []


def test_pipelined_writes_and_reads_are_answered_in_order(server: Nginx) -> None:
    with server.raw() as client:
        requests = []
        for number in range(50, 60):
            body = json.dumps({"id": number, "name": f"n{number}"})
            requests.append(f"POST /product HTTP/1.1\r\n{HEAD}: {len(body)}\r\n\r\n{body}")
            requests.append(f"GET /product/{number} HTTP/1.1\r\nHost: t\r\n\r\n")
        client.send("".join(requests).encode())
        for number in range(50, 60):
            assert client.response().status == 201
            assert json.loads(client.response().body) == {"id": number, "name": f"n{number}"}


def test_a_client_that_leaves_does_not_harm(server: Nginx) -> None:
    for _ in range(20):
        client = server.raw()
        body = json.dumps(ARTICLE)
        head = f"POST /articles HTTP/1.1\r\n{HEAD}: {len(body)}\r\n\r\n"
        client.send((head + body).encode())
        client.reset()
    assert server.client.get("/articles").status_code == 200


@pytest.mark.parametrize("kind", ["application", "nginx.conf"])
def test_every_worker_reads_what_any_worker_has_acknowledged(kind: str) -> None:
    server = start(kind, workers=2)
    fresh = httpx.Limits(max_keepalive_connections=0)  # any worker takes the next one
    lost: list[str] = []

    def work(base: int) -> None:
        with httpx.Client(base_url=server.base_url, limits=fresh, timeout=15 * SLOWER) as client:
            for number in range(base, base + 40):
                made = client.post("/product", json={"id": number, "name": "x"})
                for _ in range(3):
                    got = client.get(f"/product/{number}")
                    if (made.status_code, got.status_code) != (201, 200):
                        lost.append(f"{number}: {made.status_code} {got.status_code}")

    threads = [threading.Thread(target=work, args=(1000 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert server.client.get("/product?count=true").json()["total"] == 160
    assert server.finish() == []


def test_an_acknowledged_write_survives_kill_9() -> None:
    server = start("nginx.conf")
    for number in range(20):
        answer = server.client.post("/product", json={"id": number, "name": "x"})
        assert answer.status_code == 201
    server.expect_alert("exited on signal 9")
    server.expect_new_workers()
    old = server.worker()
    os.kill(old, signal.SIGKILL)
    until("another worker", lambda: server.workers() not in ([], [old]))
    assert server.client.get("/product?count=true&limit=1").json()["total"] == 20
    assert server.finish() == []


def test_an_acknowledged_write_was_synchronised_first() -> None:
    server = start("nginx.conf")
    trace = server.prefix / "trace"
    tracer = subprocess.Popen(
        [
            *("strace", "-f", "-tt", "-e", "trace=fdatasync,fsync,writev,sendto,write"),
            *("-o", str(trace), "-p", str(server.worker())),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr and "attached" in tracer.stderr.readline()
    answer = server.client.post("/product", json={"id": 1, "name": "durable"})
    assert answer.status_code == 201
    tracer.terminate()
    tracer.wait()
    tracer.stderr.close()
    lines = trace.read_text().splitlines()
    synced = [n for n, line in enumerate(lines) if "sync(" in line or "sync resumed" in line]
    answered = [n for n, line in enumerate(lines) if "201 Created" in line]
    assert synced and answered and min(synced) < answered[0]
    assert server.finish() == []


def test_crud_in_nginx_conf_starts_no_python() -> None:
    server = start("nginx.conf")
    assert server.client.post("/articles", json=ARTICLE).status_code == 201
    maps = Path(f"/proc/{server.worker()}/maps").read_text()
    assert "_pyloop" not in maps and "site-packages" not in maps
    names = {path.read_text().strip() for path in _tasks(server.worker())}
    assert not {name for name in names if "python" in name.lower()}
    assert server.finish() == []


def _tasks(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").glob("*/comm"))


def test_crud_answers_while_the_gil_is_held_by_one_long_call() -> None:
    server = start("application")
    held: list[float] = []
    caller = threading.Thread(
        target=lambda: held.append(httpx.get(f"{server.base_url}/hold", timeout=50 * SLOWER).json())
    )
    created = server.client.post("/articles", json=ARTICLE).json()
    caller.start()
    slowest = 0.0
    count = 0
    while caller.is_alive():
        begin = time.monotonic()
        assert server.client.get(f"/articles/{created['id']}").status_code == 200
        assert server.client.post("/articles", json=ARTICLE).status_code == 201
        assert server.client.get("/articles?limit=1").status_code == 200
        slowest = max(slowest, time.monotonic() - begin)
        count += 1
    caller.join()
    assert held[0] > 1.0
    assert slowest < held[0] / 2
    assert count > 5
    assert server.finish() == []


REFUSED = {
    "an id of another type": ("id: float", "id"),
    "a field that is not answered": ("value: int = Field(exclude=True)", "value"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_served_is_refused_naming_model_and_field(
    make_nginx: Callable[..., Nginx], kind: str
) -> None:
    line, field = REFUSED[kind]
    server = make_nginx()
    server.write(
        {
            "app.py": f"""
            from pydantic import Field

            from databridge import App, Model

            app = App()

            class Odd(Model):
                {line}

            app.crud_routes(Odd)
            """
        }
    )
    server.configure("databridge_app app:app;", http="databridge_store main sqlite::memory:;")
    result = subprocess.run(
        [DATABRIDGE, "check", "app:app", "--app-dir", str(server.app)],
        env=server_env(),
        capture_output=True,
        text=True,
        timeout=30 * SLOWER,
    )
    assert result.returncode != 0
    assert "Odd" in result.stderr and field in result.stderr


def test_a_database_that_cannot_be_opened_is_said_and_answered(nginx: StartNginx) -> None:
    server = nginx(
        "databridge_app app:app;",
        files={"app.py": APP, "test.db": "no database, however long it may be made\n" * 9},
        http="databridge_store main sqlite:app/test.db;",
    )
    server.expect_alert(r"\[emerg\]")
    until("an answer", lambda: server.client.get("/articles").status_code in (500, 503))
    server.logged(r"/test.db\": file is not a database: name another file")


@pytest.mark.parametrize("kind", ["application", "nginx.conf"])
def test_a_store_that_fails_is_a_500_with_an_id_that_the_log_explains(kind: str) -> None:
    server = start(kind)
    with contextlib.closing(sqlite3.connect(server.prefix / "test.db")) as database:
        database.execute("DROP TABLE article")
    for answer in (server.client.get("/articles"), server.client.post("/articles", json=ARTICLE)):
        assert answer.status_code == 500
        assert answer.content == b'{"detail":"Internal Server Error"}'
        server.logged(answer.headers["x-request-id"])
    server.logged("no such table")
    assert server.client.get("/product").status_code == 200
    assert server.finish() == []
