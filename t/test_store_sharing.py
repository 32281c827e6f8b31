"""One SQLite file, many who use it: workers, other instances, models of another day."""

import json
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from harness import Nginx
from harness.store import NOTE, configure, everything, fill, fresh, integrity

MakeNginx = Callable[..., Nginx]


def ports(make_nginx: MakeNginx, kind: str, database: Path) -> tuple[list[int], list[Nginx]]:
    """Four workers of one instance, or two of each of two instances, on one file."""
    servers = [make_nginx() for _ in range(1 if kind == "workers" else 2)]
    found = [configure(server, database, workers=4 // len(servers)) for server in servers]
    for server in servers:
        server.start(None)
    return found, servers


class Pairs:
    """Writes through one connection, then reads through others, all of them fresh."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.crossed = 0
        self.wrong: list[str] = []

    def ask(
        self, turn: int, method: str, path: str, document: object = None
    ) -> tuple[int, bytes, str]:
        answer = fresh(self.ports[turn % len(self.ports)], method, path, document)
        return answer.status, answer.body, answer.headers["x-worker"]

    def pair(self, turn: int, write: tuple[str, str, object], status: int, read: str) -> bytes:
        written, _, writer = self.ask(turn, *write)
        found, body, reader = self.ask(turn + 1, "GET", read)
        self.crossed += writer != reader
        if (written, found) not in ((201, status), (200, status), (204, status)):
            self.wrong.append(f"{write[0]} {write[1]}: {written}, then {found}")
        return body

    def note(self, number: int) -> None:
        path = f"/note/{number}"
        first = {"id": number, "text": f"t{number}", "number": 1}
        second = {**first, "number": 2}
        found = [
            self.pair(number, ("POST", "/note", first), 200, path),
            self.pair(number, ("PUT", path, second), 200, path),
        ]
        if [json.loads(body) for body in found] != [first, second]:
            self.wrong.append(f"{path}: {found}")
        # a filter without an index is answered by a thread of the pool
        listed = self.pair(number, ("PUT", path, first), 200, f"/note?text=t{number}")
        if json.loads(listed)["items"] != [first]:
            self.wrong.append(f"{path}: {listed!r}")
        self.pair(number, ("DELETE", path, None), 404, path)

    def run(self, threads: int, each: int) -> None:
        def work(base: int) -> None:
            for number in range(base, base + each):
                self.note(number)

        workers = [threading.Thread(target=work, args=(n * each,)) for n in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


@pytest.mark.parametrize("kind", ["workers", "instances"])
def test_a_client_reads_its_own_write_from_any_worker(
    make_nginx: MakeNginx, tmp_path: Path, kind: str
) -> None:
    found, _ = ports(make_nginx, kind, tmp_path / "notes.db")
    pairs = Pairs(found)
    pairs.run(threads=4, each=120)
    assert pairs.wrong == []
    assert pairs.crossed > 900
    assert fresh(found[0], "GET", "/note").body.startswith(b'{"items":[]')


def test_instances_that_start_at_once_on_a_new_file_share_it(
    make_nginx: MakeNginx, tmp_path: Path
) -> None:
    found, servers = ports(make_nginx, "instances", tmp_path / "notes.db")
    for number in range(40):
        path = "/note"
        made = fresh(found[number % 2], "POST", path, {"id": number, "text": "x"})
        assert made.status == 201
    assert [len(everything(port, "/note")) for port in found] == [40, 40]
    servers[0].reload()
    assert fresh(found[1], "POST", "/note", {"id": 7, "text": "x"}).status == 409
    assert integrity(tmp_path / "notes.db") == "ok"


LATER = {
    **NOTE,
    "index": ["-rank", "number"],
    "fields": [
        *NOTE["fields"],
        {"name": "rank", "type": "int", "default": 5},
        {"name": "owner", "type": "str", "nullable": True, "default": None},
    ],
}


def test_a_new_field_and_a_new_index_lose_no_row(make_nginx: MakeNginx) -> None:
    server = make_nginx()
    database = server.prefix / "notes.db"
    configure(server, database, workers=2)
    server.start(None)
    old = [{"id": n, "text": f"text {n}", "number": n % 100} for n in range(10_000)]
    assert fill(server.port, "/note", old) == len(old)

    configure(server, database, LATER, workers=2)
    server.reload()
    port = server.port

    # nothing is rewritten: an old document is as it was

    assert everything(port, "/note") == old
    assert json.loads(fresh(port, "GET", "/note/7").body) == old[7]

    # the field is missing until a write: null finds it, its default does not

    def total(query: str) -> int:
        answer = fresh(port, "GET", f"/note?limit=1&count=true&{query}")
        return int(json.loads(answer.body)["total"])

    assert total("rank=5") == 0
    assert total("filter=%7B%22rank%22:null%7D") == 10_000
    assert total("filter=%7B%22rank%22:%7B%22$exists%22:false%7D%7D") == 10_000
    assert total("number=7") == 100

    # a new document has the default; one that is replaced gets it

    made = fresh(port, "POST", "/note", {"id": 10_000, "text": "new"})
    assert json.loads(made.body)["rank"] == 5
    put = fresh(port, "PUT", "/note/7", {"id": 7, "text": "again"})
    again = {"id": 7, "text": "again", "number": 0, "rank": 5, "owner": None}
    assert json.loads(put.body) == again
    assert total("rank=5") == 2

    # and the index serves all of them, the missing last when it descends

    first = everything(port, "/note", "&sort=-rank&fields=rank")
    assert [item["id"] for item in first[:3]] == [10_000, 7, 9999]
    assert len(first) == 10_001

    # what docs/sqlite.md has for those who want it everywhere

    with closing(sqlite3.connect(database)) as other, other:
        other.execute(
            "UPDATE note SET doc = json_set(doc, '$.rank', 5) "
            "WHERE json_type(doc, '$.rank') IS NULL"
        )
    assert total("rank=5") == 10_001
    assert json.loads(fresh(port, "GET", "/note/8").body) == {**old[8], "rank": 5}
    assert integrity(database) == "ok"


def test_a_model_of_before_goes_on_with_what_a_later_one_has_written(
    make_nginx: MakeNginx,
) -> None:
    server = make_nginx()
    database = server.prefix / "notes.db"
    configure(server, database, LATER)
    server.start(None)
    made = json.loads(fresh(server.port, "POST", "/note", {"id": 1, "text": "x"}).body)
    configure(server, database)
    server.reload()
    assert json.loads(fresh(server.port, "GET", "/note/1").body) == made
    put = fresh(server.port, "PUT", "/note/1", {"id": 1, "text": "y"})
    assert json.loads(put.body) == {"id": 1, "text": "y", "number": 0}
