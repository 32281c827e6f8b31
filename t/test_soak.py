"""What takes minutes: memory over many requests, deaths and reloads under load."""

import json
import os
import random
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from conftest import StartApp
from harness import SLOWER, Nginx, Raw, Traffic, eventually, processes, until
from harness.tools import rate_tool
from harness.traffic import APP as TRAFFIC

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600 * SLOWER)]

COUNT = int(os.environ.get("N", 1_000_000))
SOCKETS = int(os.environ.get("SOCKETS", 100_000))
RATE = int(os.environ.get("RATE", 300))
SECONDS = int(os.environ.get("SECONDS_OF_LOAD") or 40)

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
    http = "databridge_store main sqlite:notes.db; keepalive_requests 10000000;"
    server = app(APP, http=http, workers=workers)
    assert server.client.post("/notes", json=json.loads(BODY)).status_code == 201
    return server


def ask(server: Nginx, request: str, count: int) -> None:
    """Many of the same request, fifty on their way at a time."""
    with server.raw() as client:
        for _ in range(count // 50):
            client.send((request * 50).encode())
            for _ in range(50):
                assert client.response().status in (200, 404)


@pytest.mark.timeout(3600 * SLOWER)
def test_memory_is_flat_over_a_million_requests(app: StartApp) -> None:
    """N sets another number."""
    server = start(app)
    rounds = 20
    each = max(50, COUNT // rounds // len(REQUESTS))
    sizes = []
    for _ in range(rounds):
        for request in REQUESTS.values():
            ask(server, request, each)
        sizes.append(server.resident())
    print(f"\nMiB after each {each * len(REQUESTS)}: {[size >> 20 for size in sizes]}")
    first, last = min(sizes[2:6]), min(sizes[-4:])
    assert last - first < 3_000_000, [size - first for size in sizes]


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


@pytest.mark.parametrize("workers", [1, 2])
def test_twenty_reloads_under_load_lose_nothing(app: StartApp, workers: int) -> None:
    server = app(TRAFFIC, workers=workers)
    with Traffic(server.port, server.app / "seen", clients=12) as traffic:
        for _ in range(20):
            old = server.reload()
            until("answers by the new workers", growth(traffic.total, 50), 30)
            until("the old workers' end", partial(gone, old), 30)
    print(f"\n{traffic.summary()}")
    assert traffic.lost() == []


def gone(pids: list[int]) -> bool:
    return not any(map(processes.alive, pids))


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


SOCKET = (
    b"GET /socket HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
TEXT = b"\x81\x84\0\0\0\0echo"
CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"


def open_and_close(port: int) -> None:
    """A WebSocket, with one message there and back, by its bytes."""
    with Raw(port) as client:
        client.send(SOCKET)
        assert client.response().status == 101
        client.send(TEXT)
        assert client.exactly(6) == b"\x81\x04echo"
        client.send(CLOSE)
        assert client.exactly(4) == b"\x88\x02\x03\xe8"
        assert client.closed()


@pytest.mark.timeout(3600 * SLOWER)
def test_memory_is_flat_over_a_hundred_thousand_websockets(app: StartApp) -> None:
    """SOCKETS sets another number."""
    server = app(
        """
        from databridge import App
        from fastapi import WebSocket

        app = App()

        @app.get("/")
        async def root():
            return "here"

        @app.websocket("/socket")
        async def socket(socket: WebSocket):
            await socket.accept()
            async for text in socket.iter_text():
                await socket.send_text(text)
        """
    )
    rounds = 20
    sizes = []
    for _ in range(rounds):
        for _ in range(SOCKETS // rounds):
            open_and_close(server.port)
        sizes.append(server.resident())
    print(f"\nMiB after each {SOCKETS // rounds}: {[size >> 20 for size in sizes]}")
    first, last = min(sizes[2:6]), min(sizes[-4:])
    assert last - first < 3_000_000, [size - first for size in sizes]


@pytest.mark.timeout((SECONDS + 120) * SLOWER)
def test_a_load_of_all_kinds_at_a_rate_is_answered_through_reloads(app: StartApp) -> None:
    """make soak RATE=1000 T=3600"""
    server = app(TRAFFIC, workers=2)
    kinds = ("quick",) * 17 + ("slow", "upload", "stream")
    period = min(60, max(5, SECONDS // 4))
    end = time.monotonic() + SECONDS
    sizes = []

    with Traffic(
        server.port, server.app / "seen", clients=32 + RATE // 12, kinds=kinds, rate=RATE
    ) as traffic:
        while (left := end - time.monotonic()) > 0 and not traffic.losses:
            traffic.stop.wait(min(period, left))
            sizes.append(max(map(processes.resident, server.serving())))
            old = server.reload()
            until("the old workers' end", partial(gone, old), 40)

    print(f"\n{traffic.summary()}; MiB before each reload: {[size >> 20 for size in sizes]}")
    assert traffic.lost() == []
    assert traffic.total() > 0.7 * RATE * SECONDS
    assert max(sizes) - sizes[0] < 20_000_000, sizes


def rate(tool: Path, server: Nginx, number: int, seconds: int, connections: int) -> list[float]:
    """What bench/rate.c prints: done, errors, latencies, refused."""
    command = [str(tool), str(server.port), "/sleep", str(number), str(seconds), str(connections)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    assert output.returncode == 0, output.stderr
    return [float(field) for field in output.stdout.split()]


def test_a_spike_is_refused_in_order_and_forgotten(app: StartApp) -> None:
    tool = rate_tool()
    server = app(
        APP,
        http="databridge_queue 256; databridge_store main sqlite:notes.db; "
        "keepalive_requests 10000000;",
        connections=4096,
    )
    before = server.resident()
    done, errors, *_ = rate(tool, server, 500, 5, 64)
    assert (done, errors) == (2500, 0)

    spike = rate(tool, server, 10_000, 10, 1024)
    done, errors, *latencies, refused = spike
    print(f"\na spike: {done:.0f} answers, {refused:.0f} refused, {latencies[1] / 1000:.0f} ms p99")
    assert errors - (100_000 - done) == refused

    done, errors, *_ = rate(tool, server, 500, 5, 64)
    assert (done, errors) == (2500, 0)
    assert eventually(lambda: server.resident() - before < 40_000_000)


def test_ten_thousand_open_connections_cost_less_than_a_kibibyte_each(app: StartApp) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(10_000, hard - 1000)
    server = app(
        TRAFFIC,
        main=f"worker_rlimit_nofile {hard};",
        http="keepalive_timeout 600s; keepalive_requests 1000000;",
        connections=count * 5 // 4,
    )
    request = b"GET /quick/x HTTP/1.1\r\nHost: t\r\n\r\n"

    def connect(number: int) -> list[socket.socket]:
        clients = []
        for _ in range(number):
            client = socket.create_connection(("127.0.0.1", server.port), 10 * SLOWER)
            client.sendall(request)
            assert client.recv(4096).endswith(b'"x"')
            clients.append(client)
        return clients

    clients = connect(500)
    before = server.resident()
    clients += connect(count - 500)
    with Traffic(server.port, server.app / "seen") as traffic:
        until("answers among them", lambda: traffic.total() > 200, 30)
    each = (server.resident() - before) / (count - 500)
    print(f"\n{each:.0f} bytes for each of {count} connections")
    assert traffic.lost() == []
    assert each < 1024
    for client in clients:
        client.close()
