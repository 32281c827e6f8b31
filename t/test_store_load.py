"""An SQLite file under load: what is slow stops nobody, what is killed loses nothing."""

import json
import os
import random
import re
import select
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from harness import SLOWER, Nginx, Raw, processes, until
from harness.store import NOTE, configure, everything, fresh, integrity, request

MakeNginx = Callable[..., Nginx]

TEXTS = "json_object('id', n, 'text', printf('text %d of many', n), 'number', n * 7919 % 1000003)"
ROWS = f"""
    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT ?)
    INSERT INTO {{}} (id, doc) SELECT n, {TEXTS} FROM numbers
"""

# Ninety conditions that hold of no document: none is left out, none is found.

SLOW = quote(json.dumps({"$nor": [{"text": {"$eq": f"no such text {n}"}} for n in range(90)]}))


def pour(database: Path, table: str, count: int) -> None:
    """Rows by the million, as another program inserts them."""
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        connection.execute(ROWS.format(table), (count,))


def answered(client: Raw) -> bool:
    return bool(select.select([client.socket], [], [], 0)[0])


def test_slow_lists_fill_the_pool_and_the_next_ones_are_told(make_nginx: MakeNginx) -> None:
    server = make_nginx()
    database = server.prefix / "notes.db"
    configure(server, database, http="databridge_store_threads 1; databridge_queue 4;")
    server.start(None)
    pour(database, "note", 20_000)
    with ExitStack() as stack:
        clients = [stack.enter_context(Raw(server.port, timeout=50)) for _ in range(9)]
        for client in clients:
            client.send(request("GET", f"/note?limit=1&count=true&filter={SLOW}"))

        # one is at work, four wait, the others hear it at once; all else goes on

        count = 0
        while not all(map(answered, clients[:4])):
            assert fresh(server.port, "GET", f"/note/{1 + count}").status == 200
            assert fresh(server.port, "GET", "/note?limit=5").status == 200
            count += 1
        assert count > 20
        answers = [client.response() for client in clients]

    refused = [answer for answer in answers if answer.status == 503]
    done = [answer for answer in answers if answer.status == 200]
    assert len(refused) + len(done) == 9
    assert len(refused) in (4, 5)
    assert all("retry-after" in answer.headers for answer in refused)
    assert all(json.loads(answer.body)["total"] == 20_000 for answer in done)
    server.logged('thread pool "databridge_store" queue overflow: 4 tasks waiting')
    assert fresh(server.port, "GET", "/note?limit=1&count=true").status == 200


def test_every_write_is_synchronised_before_its_answer(make_nginx: MakeNginx) -> None:
    server = make_nginx()
    configure(server, server.prefix / "notes.db")
    server.start(None)
    trace = server.prefix / "trace"
    tracer = subprocess.Popen(
        [
            *("strace", "-f", "-y", "-s", "40", "-o", str(trace), "-p", str(server.worker())),
            *("-e", "trace=pwrite64,fdatasync,fsync,writev,sendto,write"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr and "attached" in tracer.stderr.readline()
    note = {"id": 1, "text": "x"}
    with server.raw() as client:
        for method, path, document, status in [
            ("POST", "/note", note, 201),
            ("PUT", "/note/1", {**note, "text": "y"}, 200),
            ("DELETE", "/note/1", None, 204),
        ] * 10:
            client.send(request(method, path, document))
            assert client.response().status == status
    tracer.terminate()
    tracer.wait()
    tracer.stderr.close()

    # the log: bytes that are not on disk yet, by what came last

    dirty = written = 0
    for line in trace.read_text().splitlines():
        if "pwrite64(" in line and "-wal>" in line:
            dirty += 1
        elif re.search(r"fdatasync\(.*-wal>\) = 0|fdatasync resumed>.* = 0", line):
            written += dirty > 0
            dirty = 0
        elif '"HTTP/1.1 20' in line:
            assert not dirty, line
            assert written, line
            written = 0


class Writers:
    """
    Clients that write without a pause.  Of each note they know what was
    acknowledged last, and what else may be there: the write whose answer has
    not come.
    """

    def __init__(self, server: Nginx, count: int) -> None:
        self.server = server
        self.known: dict[int, dict[str, Any] | None] = {}
        self.doubt: dict[int, dict[str, Any] | None] = {}
        self.acknowledged = 0
        self.failed: list[str] = []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]

    def __enter__(self) -> "Writers":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def more(self, count: int) -> Callable[[], bool]:
        goal = self.acknowledged + count
        return lambda: self.acknowledged >= goal or bool(self.failed)

    def _run(self, number: int) -> None:
        """Each has ids of its own."""
        chance = random.Random(number)
        base = number * 1_000_000
        last = base
        while not self.stop.is_set():
            try:
                with Raw(self.server.port, timeout=30) as client:
                    while not self.stop.is_set():
                        last += 1
                        self._write(client, "POST", last)
                        old = chance.randint(base + 1, last)
                        if self.known.get(old) is not None and old not in self.doubt:
                            self._write(client, chance.choice(["PUT", "DELETE"]), old)
            except OSError:
                continue

    def _write(self, client: Raw, method: str, number: int) -> None:
        note = None
        if method != "DELETE":
            text = random.randbytes(random.choice([10, 2000])).hex()
            note = {"id": number, "text": text, "number": len(text)}
        self.doubt[number] = note
        path = "/note" if method == "POST" else f"/note/{number}"
        client.send(request(method, path, note))
        status = client.response().status
        if status in (200, 201, 204):
            self.known[number] = note
            self.acknowledged += 1
            del self.doubt[number]
        elif status != 503:
            self.failed.append(f"{method} {path}: {status}")
        else:
            del self.doubt[number]

    def check(self, database: Path) -> None:
        """Every note is as it was acknowledged, or as the write in doubt left it."""
        assert self.failed == []
        found = {item["id"]: item for item in everything(self.server.port, "/note")}
        wrong = [
            number
            for number in {*found, *self.known, *self.doubt}
            if found.get(number) != self.known.get(number)
            and (number not in self.doubt or found.get(number) != self.doubt[number])
        ]
        assert wrong == []
        assert integrity(database) == "ok"


def kill(server: Nginx, pids: Sequence[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until("their end", lambda: not any(map(processes.alive, pids)))


@pytest.mark.soak
@pytest.mark.timeout(600 * SLOWER)
@pytest.mark.parametrize("whom", ["a worker", "all"])
def test_fifty_kills_lose_no_acknowledged_write_and_leave_none_by_half(
    make_nginx: MakeNginx, whom: str
) -> None:
    server = make_nginx()
    database = server.prefix / "notes.db"
    configure(server, database, workers=2)
    server.start(None)
    server.expect_new_workers()
    if whom == "a worker":
        server.expect_alert("exited on signal 9")
    with Writers(server, 6) as writers:
        for _ in range(50):
            until("writes", writers.more(50), 30)
            time.sleep(random.random() / 20)
            if whom == "a worker":
                kill(server, [random.choice(server.workers())])
                until("two workers", lambda: len(server.workers()) == 2, 10)
            else:
                assert server.process
                kill(server, [server.process.pid, *server.workers()])
                server.process.wait()
                server.start(None)
                server.known = []
        until("writes", writers.more(50), 30)
    print(f"\n{writers.acknowledged} writes acknowledged, {len(writers.doubt)} in doubt")
    writers.check(database)


MILLION = 1_000_000


@pytest.fixture(scope="module")
def million() -> Iterator[Nginx]:
    """A collection of 10,000 documents, and one of a million, with the same index."""
    server = Nginx()
    database = server.prefix / "notes.db"
    plain = [{**NOTE, "collection": name} for name in ("small", "large")]
    configure(server, database, *plain)
    server.start(None)
    pour(database, "small", 10_000)
    pour(database, "large", MILLION)
    configure(server, database, *[{**resource, "index": ["number"]} for resource in plain])
    server.reload()
    yield server
    assert server.finish() == []


def cost(server: Nginx, requests: list[bytes]) -> float:
    """Microseconds of the worker's CPU for each."""
    pid = server.serving()[0]
    before = processes.cpu_seconds(pid)
    with Raw(server.port, timeout=30) as client:
        for start in range(0, len(requests), 50):
            batch = requests[start : start + 50]
            client.send(b"".join(batch))
            for _ in batch:
                assert client.response().status == 200
    return (processes.cpu_seconds(pid) - before) / len(requests) * 1e6


def middle(server: Nginx, name: str) -> str:
    """What continues a list, sorted by the index, from its middle."""
    found = quote(json.dumps({"number": {"$gte": 500_000}}))
    answer = fresh(server.port, "GET", f"/{name}?sort=number&limit=1&filter={found}")
    number = json.loads(answer.body)["items"][0]["number"]
    page = fresh(server.port, "GET", f"/{name}?sort=number&limit=1&number={number}")
    assert page.status == 200
    return str(json.loads(answer.body)["next"])


@pytest.mark.soak
@pytest.mark.timeout(600 * SLOWER)
@pytest.mark.parametrize("kind", ["get", "list", "page"])
def test_a_million_documents_cost_what_ten_thousand_do(million: Nginx, kind: str) -> None:
    chance = random.Random(1)

    def one(name: str, size: int, after: str) -> bytes:
        if kind == "get":
            return request("GET", f"/{name}/{chance.randint(1, size)}")
        if kind == "page":
            return request("GET", f"/{name}?sort=number&limit=20&after={after}")
        least = quote(json.dumps({"number": {"$gte": chance.randint(0, 900_000)}}))
        return request("GET", f"/{name}?sort=number&limit=20&filter={least}")

    costs: dict[str, list[float]] = {"small": [], "large": []}
    for _ in range(3):
        for name, size in (("small", 10_000), ("large", MILLION)):
            after = middle(million, name) if kind == "page" else ""
            requests = [one(name, size, after) for _ in range(10_000)]
            costs[name].append(cost(million, requests))
    small, large = min(costs["small"]), min(costs["large"])
    print(f"\n{kind}: {small:.1f} us of 10,000, {large:.1f} us of {MILLION}")
    assert large < 3 * small  # the page cache holds less of a million


@pytest.mark.soak
@pytest.mark.timeout(600 * SLOWER)
@pytest.mark.parametrize("query", ["count=true&limit=1", "text=none", "skip=900000&limit=1"])
def test_what_reads_a_million_documents_stops_no_other_request(million: Nginx, query: str) -> None:
    count = 0
    with Raw(million.port, timeout=30) as slow:
        slow.get(f"/large?{query}")
        while not answered(slow):
            assert fresh(million.port, "GET", f"/small/{1 + count % 10_000}").status == 200
            count += 1
        assert slow.response().status == 200
    assert count > 10


@pytest.mark.soak
@pytest.mark.timeout(600 * SLOWER)
def test_a_read_ends_with_its_time(million: Nginx) -> None:
    slowest = f"/large?limit=1&count=true&filter={SLOW}"
    with ExitStack() as stack:
        clients = [stack.enter_context(Raw(million.port, timeout=60)) for _ in range(12)]
        for client in clients:
            client.get(slowest)
        answers = [client.response() for client in clients]
    statuses = [answer.status for answer in answers]
    assert set(statuses) <= {503, 504}
    assert 504 in statuses
    million.logged("a read took too long: interrupted .*declare an index")
    assert fresh(million.port, "GET", "/large/7").status == 200
    assert fresh(million.port, "GET", "/large?text=none&limit=1").status == 200
