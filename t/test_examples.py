"""The examples, each under databridge run."""

import time
from collections.abc import Callable

import pytest

from harness import ROOT, Server, until

EXAMPLES = ROOT / "examples"

StartExample = Callable[..., Server]


@pytest.fixture
def start(make_server: Callable[[], Server]) -> StartExample:
    """Serves an example with a store of its own."""

    def start(module: str, folder: str = ".", ready: str = "/") -> Server:
        server = make_server()
        server.run(f"{module}:app", "--app-dir", str(EXAMPLES / folder), ready=ready)
        return server

    return start


def test_articles_are_stored_and_counted(start: StartExample) -> None:
    client = start("main", "articles").client
    assert client.get("/").json() == {"articles": "/articles", "documentation": "/docs"}

    created = client.post("/articles", json={"title": "Hello", "text": "A first article"})
    assert created.status_code == 201, created.text
    article = created.json()
    assert article["title"] == "Hello" and article["tags"] == []
    assert client.get(created.headers["location"]).json() == article

    page = client.get("/articles?limit=5&count=true").json()
    assert (page["items"], page["limit"], page["skip"], page["total"]) == ([article], 5, 0, 1)

    answer = client.post("/statistics", json={"title": "Hello", "text": "four words to read"})
    assert answer.json() == {"words": 4, "characters": 18, "minutes": 0.02}
    slow = client.post("/statistics?words_per_minute=0", json={"title": "Hello"})
    assert (slow.status_code, slow.json()) == (400, {"detail": "Nobody reads that slowly"})


def test_routing(start: StartExample) -> None:
    client = start("routing").client
    assert client.get("/").json() == {"hello": "world"}
    assert client.get("/items/3?q=a%20b").json() == {"item_id": 3, "q": "a b", "limit": 10}
    assert client.get("/items/0").status_code == 422
    assert client.get("/items/3?limit=101").status_code == 422

    item = {"name": "pen", "price": 1.5, "tags": ["blue"]}
    created = client.post("/items", json=item)
    assert (created.status_code, created.json()) == (201, item)
    assert created.headers["location"] == "/items/1"
    assert client.put("/items/1", json=item).json() == {"item_id": 1, "item": item}
    assert client.patch("/items/1?name=ink").json() == {"item_id": 1, "name": "ink"}
    deleted = client.delete("/items/1")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert client.get("/files/a/b%20c").json() == {"path": "a/b c"}
    assert client.get("/wait/0.1").json() == {"waited": 0.1}


def test_routing_has_a_timeout(start: StartExample) -> None:
    client = start("routing").client
    begun = time.monotonic()
    assert client.get("/wait/30").status_code == 504
    assert 1.5 < time.monotonic() - begun < 10


def test_crud(start: StartExample) -> None:
    client = start("crud", ready="/user/me").client
    assert client.get("/user/me").json() == {"name": "whoever asks"}

    ann = {"name": "Ann", "age": 41, "addresses": [{"street": "Elm", "city": "Bern"}]}
    created = client.post("/user", json=ann)
    assert created.status_code == 201, created.text
    user = created.json()
    assert user == {"id": user["id"], **ann, "email": None}
    assert client.get(f"/user/{user['id']}").json() == user
    assert client.get("/user?name=Ann&limit=10&skip=0&count=true").json()["total"] == 1
    assert client.get("/user?name=Bob").json()["items"] == []

    changed = client.put(f"/user/{user['id']}", json={"name": "Ann", "age": 42})
    assert (changed.status_code, changed.json()["age"]) == (200, 42)
    assert client.post("/user", json={"name": "", "age": 200}).status_code == 422
    assert client.delete(f"/user/{user['id']}").status_code == 204
    assert client.get(f"/user/{user['id']}").status_code == 404

    event = client.post("/events", json={"kind": "opened"}).json()
    assert client.get(f"/events/{event['id']}").json() == event
    assert client.delete(f"/events/{event['id']}").status_code == 405


def test_errors(start: StartExample) -> None:
    server = start("errors", ready="/items/pen")
    client = server.client
    assert client.get("/items/pen").json() == {"item": "pen", "amount": 1}

    missing = client.get("/items/unicorn")
    assert (missing.status_code, missing.json()) == (404, {"detail": "There are no unicorns"})
    assert missing.headers["x-reason"] == "myth"
    stock = client.get("/items/pen?amount=11")
    assert (stock.status_code, stock.json()) == (409, {"detail": "pen is out of stock"})
    invalid = client.get("/items/pen?amount=many")
    assert invalid.status_code == 422
    assert invalid.json() == {"detail": "invalid", "fields": ["query.amount"]}

    database = client.get("/database")
    assert (database.status_code, "db-7" in database.text) == (503, False)
    assert "retry-after" in database.headers
    until("the text", lambda: server.log.find("connection to db-7.internal refused"))

    crash = client.get("/crash")
    assert (crash.status_code, crash.json()) == (500, {"detail": "Internal Server Error"})
    until("the request id", lambda: server.log.find(crash.headers["x-request-id"]))
    secret = "RuntimeError: a secret that no client may see"
    assert len(until("the traceback", lambda: server.log.find(secret))) == 1


def test_middleware(start: StartExample) -> None:
    client = start("middleware", ready="/hello").client
    hello = client.get("/hello", headers={"X-User": "Ann"})
    assert hello.json() == {"hello": "Ann"}
    assert float(hello.headers["x-time"]) >= 0
    assert client.get("/hello").json() == {"hello": "guest"}

    stopped = client.get("/private/hello")
    assert (stopped.status_code, stopped.json()) == (401, {"detail": "Who are you?"})
    assert "x-time" in stopped.headers
    assert client.get("/private/hello", headers={"X-User": "Ann"}).json() == {"hello": "Ann"}

    with client.stream("GET", "/stream", headers={"X-User": "Ann"}) as stream:
        arrived = [(chunk, time.monotonic()) for chunk in stream.iter_text()]
    assert "".join(chunk for chunk, _ in arrived) == "0 for Ann\n1 for Ann\n2 for Ann\n"
    assert arrived[-1][1] - arrived[0][1] > 0.2


def test_tasks(start: StartExample) -> None:
    client = start("tasks", ready="/jobs/none").client
    job = client.post("/jobs?seconds=0.5")
    assert (job.status_code, job.json()["state"]) == (202, "running")
    path = f"/jobs/{job.json()['id']}"
    until("the job's end", lambda: client.get(path).json()["state"] == "done")

    long = client.post("/jobs?seconds=60").json()
    assert client.delete(f"/jobs/{long['id']}").json()["state"] == "cancelled"
    assert client.get("/jobs/none").status_code == 404

    begun = time.monotonic()
    assert client.get("/together?seconds=1").json() == {"waited": [1] * 10}
    assert time.monotonic() - begun < 9
