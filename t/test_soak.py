"""What takes minutes: memory over many requests, deaths and reloads under load."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from conftest import StartApp
from harness import SLOWER, Nginx, eventually, until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600 * SLOWER)]

APP = """
import asyncio

from databridge import App, Model, Request

app = App()


class Note(Model):
    id: int
    text: str


app.crud_routes(Note, prefix="/notes")


@app.get("/")
async def root():
    return "here"


@app.get("/number/{number}")
async def number(number: int, q: str = ""):
    return {"number": number, "q": q}


@app.get("/sleep")
async def sleep():
    await asyncio.sleep(0.001)
    return "slept"


@app.get("/thread")
def thread():
    return "threaded"


@app.get("/crash")
async def crash():
    raise RuntimeError("on purpose")


@app.post("/size")
async def size(request: Request):
    return len(await request.body())
"""

BODY = json.dumps({"text": "x" * 200, "id": 1})
ENTITY = f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}"
REQUESTS = {
    "async": "GET /number/7?q=abc HTTP/1.1\r\nHost: t\r\n\r\n",
    "suspended": "GET /sleep HTTP/1.1\r\nHost: t\r\n\r\n",
    "def": "GET /thread HTTP/1.1\r\nHost: t\r\n\r\n",
    "error": "GET /no/such/page HTTP/1.1\r\nHost: t\r\n\r\n",
    "body": f"POST /size HTTP/1.1\r\nHost: t\r\n{ENTITY}",
    "crud get": "GET /notes/1 HTTP/1.1\r\nHost: t\r\n\r\n",
    "crud list": "GET /notes?limit=5 HTTP/1.1\r\nHost: t\r\n\r\n",
    "crud update": f"PUT /notes/1 HTTP/1.1\r\nHost: t\r\n{ENTITY}",
}


def start(app: StartApp, workers: int = 1) -> Nginx:
    server = app(APP, http="databridge_store main sqlite:notes.db;", workers=workers)
    assert server.client.post("/notes", json=json.loads(BODY)).status_code == 201
    return server


def ask(server: Nginx, request: str, count: int) -> None:
    """Many of the same request, fifty on their way at a time."""
    with server.raw() as client:
        for _ in range(count // 50):
            client.send((request * 50).encode())
            for _ in range(50):
                assert client.response().status in (200, 404)


@pytest.mark.parametrize("kind", REQUESTS)
def test_memory_stays_over_many_requests(app: StartApp, kind: str) -> None:
    server = start(app)
    for _ in range(5):
        ask(server, REQUESTS[kind], 900)
    before = server.resident()
    for _ in range(40):
        ask(server, REQUESTS[kind], 900)
    assert eventually(lambda: server.resident() - before < 4_000_000), server.resident() - before


def test_memory_stays_over_clients_that_leave(app: StartApp) -> None:
    server = start(app)

    def leave(count: int) -> None:
        for number in range(count):
            client = server.raw()
            client.get("/sleep" if number % 2 else "/number/1")
            client.reset()

    leave(1000)
    before = server.resident()
    leave(10_000)
    assert eventually(lambda: server.resident() - before < 4_000_000), server.resident() - before


def growth(count: Callable[[], int], by: int) -> Callable[[], bool]:
    goal = count() + by
    return lambda: count() > goal


class Load:
    """Clients that keep their connections, and what they were answered."""

    def __init__(self, server: Nginx, paths: list[str], clients: int = 4) -> None:
        self.server = server
        self.paths = paths
        self.statuses: dict[int, int] = {}
        self.retried = 0
        self.lost: list[str] = []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def served(self) -> int:
        return sum(self.statuses.values())

    def _run(self) -> None:
        client = httpx.Client(base_url=self.server.base_url, timeout=30 * SLOWER)
        while not self.stop.is_set():
            path = random.choice(self.paths)
            try:
                status = self._get(client, path)
            except httpx.HTTPError as error:
                self.lost.append(f"{path}: {error!r}")
                continue
            self.statuses[status] = self.statuses.get(status, 0) + 1
        client.close()

    def _get(self, client: httpx.Client, path: str) -> int:
        try:
            return client.get(path).status_code
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            # closed before any byte of an answer, on a connection that was
            # used before: RFC 9112, 9.3.1 lets a client ask once more

            self.retried += 1
            with httpx.Client(base_url=self.server.base_url, timeout=30 * SLOWER) as fresh:
                return fresh.get(path).status_code


def test_twenty_reloads_under_load_lose_nothing(app: StartApp) -> None:
    server = start(app, workers=2)
    with Load(server, ["/number/1", "/sleep", "/thread", "/notes/1"]) as load:
        for _ in range(20):
            server.reload()
            until("answers by the new workers", growth(load.served, 50), 30)
    assert load.lost == []
    assert set(load.statuses) == {200}


def test_fifty_kills_under_load_lose_no_acknowledged_write(
    make_nginx: Callable[..., Nginx],
) -> None:
    server = make_nginx()
    server.write({"app.py": APP})
    server.configure(
        "databridge_app app:app;", http="databridge_store main sqlite:notes.db;", workers=2
    )
    server.start("/")
    server.expect_alert("exited on signal 9")
    server.expect_new_workers()
    acknowledged: set[int] = set()
    stop = threading.Event()

    def write(base: int) -> None:
        number = base
        while not stop.is_set():
            number += 1
            try:
                answer = httpx.post(
                    f"{server.base_url}/notes",
                    json={"id": number, "text": "x"},
                    timeout=30 * SLOWER,
                )
            except httpx.HTTPError:
                continue
            if answer.status_code == 201:
                acknowledged.add(number)

    threads = [threading.Thread(target=write, args=(index * 10**6,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        victim = random.choice(until("a worker", server.workers))
        os.kill(victim, signal.SIGKILL)
        until("two workers", lambda: len(server.workers()) == 2, 10)
        until("writes", growth(acknowledged.__len__, 5), 30)
        time.sleep(random.random() / 5)
    stop.set()
    for thread in threads:
        thread.join()

    until("an answer", lambda: server.client.get("/notes?limit=1").status_code == 200, 20)
    assert len(acknowledged) > 100
    missing = [n for n in acknowledged if server.client.get(f"/notes/{n}").status_code != 200]
    assert missing == []


def test_four_thousand_crashes_leave_it_serving(app: StartApp) -> None:
    server = start(app)
    for _ in range(200):
        with server.raw() as client:
            client.send(b"GET /crash HTTP/1.1\r\nHost: t\r\n\r\n" * 20)
            for _ in range(20):
                assert client.response().status == 500
    assert server.client.get("/").json() == "here"
