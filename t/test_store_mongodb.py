"""
MongoDB as it fails: away, silent, slow, in another language.  Every request
is answered in time, and service resumes by itself.
"""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from bson import ObjectId
from pymongo import MongoClient

from harness import DATABRIDGE, MODULE, SLOWER, Between, MongoServer, Nginx, OddServer, until
from harness.nginx import config_error
from harness.settings import server_env

DRIVER = MODULE.parent / "databridge_mongo.so"

APP = """
from databridge import App, Model

app = App()


class Note(Model):
    id: int
    text: str = ""
    table: dict[str, int] = {}


app.crud_routes(Note, prefix="/notes")
"""

NOTES = "location /notes { databridge_crud note schema=%s store=main; }"

# beyond server selection, 3 s, and a socket's timeout, 10 s, both once

LIMIT = 14 * SLOWER


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("schema")
    folder.joinpath("app.py").write_text(APP)
    result = subprocess.run(
        [DATABRIDGE, "schema", "app:Note", "--app-dir", str(folder)],
        env=server_env(),
        capture_output=True,
        text=True,
        check=True,
    )
    path = folder / "note.schema.json"
    path.write_text(result.stdout)
    return str(path)


Start = Callable[[str], Nginx]


@pytest.fixture
def start(make_nginx: Callable[[], Nginx], schema: str) -> Start:
    def start(uri: str) -> Nginx:
        server = make_nginx()
        server.configure(http=f'databridge_store main "{uri}";', server=NOTES % schema)
        server.start()
        server.allow_descriptors(tcp=40)
        return server

    return start


def answers(server: Nginx, count: int, path: str = "/notes") -> list[tuple[int, float]]:
    """Statuses and seconds of as many reads and writes at once."""

    def one(number: int) -> tuple[int, float]:
        begin = time.monotonic()
        with httpx.Client(base_url=server.base_url, timeout=60 * SLOWER) as client:
            if number % 2:
                answer = client.get(path)
            else:
                answer = client.post(path, json={"id": 1000 + number})
        return answer.status_code, time.monotonic() - begin

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


def serves(server: Nginx) -> bool:
    return server.client.get("/notes").status_code == 200


def test_a_worker_starts_without_its_server_and_serves_when_it_comes(start: Start) -> None:
    database = MongoServer()
    server = start(database.uri("tests", "?serverSelectionTimeoutMS=1000"))
    answer = server.client.get("/notes")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert server.client.post("/notes", json={"id": 1}).status_code == 503
    server.logged('mongodb store "127.0.0.1:[0-9]+/tests": a read: .*')
    database.start()
    try:
        until("service", lambda: serves(server), 20)
        assert server.client.post("/notes", json={"id": 1}).status_code == 201
    finally:
        database.stop()


def test_a_server_that_stops_in_mid_load_and_comes_back(
    start: Start, own_mongodb: MongoServer
) -> None:
    server = start(own_mongodb.uri("tests"))
    statuses: Counter[int] = Counter()
    slowest = 0.0
    stop = threading.Event()

    def load(base: int) -> None:
        nonlocal slowest
        with httpx.Client(base_url=server.base_url, timeout=60 * SLOWER) as client:
            number = base
            while not stop.is_set():
                number += 1
                begin = time.monotonic()
                statuses[client.post("/notes", json={"id": number}).status_code] += 1
                statuses[client.get(f"/notes/{number}").status_code] += 1
                slowest = max(slowest, time.monotonic() - begin)

    threads = [threading.Thread(target=load, args=(10_000_000 * n,)) for n in range(1, 7)]
    for thread in threads:
        thread.start()
    try:
        until("answers", lambda: statuses[201] > 100, 20)
        own_mongodb.stop()
        until("refusals", lambda: statuses[503] > 3, 20)
        own_mongodb.start()
        served = statuses[201]
        until("answers again", lambda: statuses[201] > served + 100, 20)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) <= {200, 201, 404, 503, 504}
    assert slowest < LIMIT


def test_requests_to_a_server_that_says_nothing_are_all_answered_in_time(start: Start) -> None:
    odd = OddServer()
    server = start(f"mongodb://127.0.0.1:{odd.port}/tests")
    found = answers(server, 40)
    assert {status for status, _ in found} == {503}
    assert max(seconds for _, seconds in found) < LIMIT
    odd.stop()


def test_requests_to_a_server_of_another_language_are_all_answered_in_time(start: Start) -> None:
    odd = OddServer(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
    server = start(f"mongodb://127.0.0.1:{odd.port}/tests?serverSelectionTimeoutMS=1000")
    found = answers(server, 20)
    assert {status for status, _ in found} == {503}
    assert max(seconds for _, seconds in found) < LIMIT
    odd.stop()


def test_a_server_that_falls_silent_is_a_504_and_then_a_503(
    start: Start, own_mongodb: MongoServer
) -> None:
    server = start(own_mongodb.uri("tests", "?socketTimeoutMS=1000"))
    assert server.client.post("/notes", json={"id": 1}).status_code == 201
    assert serves(server)
    own_mongodb.pause()
    found = answers(server, 40)
    own_mongodb.resume()
    statuses = Counter(status for status, _ in found)
    assert set(statuses) <= {503, 504} and statuses[504] >= 1
    assert max(seconds for _, seconds in found) < LIMIT
    until("service", lambda: serves(server), 20)
    assert server.client.get("/notes/1").status_code == 200


def test_when_all_connections_are_in_use_a_request_is_refused_at_once(
    start: Start, own_mongodb: MongoServer
) -> None:
    server = start(own_mongodb.uri("tests", "?maxPoolSize=1&socketTimeoutMS=2500"))
    assert serves(server)
    own_mongodb.pause()
    found = answers(server, 6)
    own_mongodb.resume()
    refused = [seconds for status, seconds in found if status == 503 and seconds < 2 * SLOWER]
    assert len(refused) == 5, found
    server.logged("all its connections are in use: raise maxPoolSize")
    until("service", lambda: serves(server), 20)


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM], ids=["quit", "term"])
def test_a_silent_server_does_not_hold_the_exit(start: Start, number: signal.Signals) -> None:
    odd = OddServer()
    server = start(f"mongodb://127.0.0.1:{odd.port}/tests?serverSelectionTimeoutMS=1000")
    assert server.client.get("/notes").status_code == 503
    begin = time.monotonic()
    server.kill(number)
    assert server.wait(10) == 0
    assert time.monotonic() - begin < 5 * SLOWER
    odd.stop()


def test_a_document_that_bson_cannot_hold_is_a_422(start: Start, own_mongodb: MongoServer) -> None:
    server = start(own_mongodb.uri("tests"))
    answer = server.client.post("/notes", json={"id": 1, "table": {"a\0b": 1}})
    assert (answer.status_code, answer.json()) == (
        422,
        {"detail": "The store cannot hold this document"},
    )
    server.logged("the name of a member holds a NUL")
    assert server.client.get("/notes/1").status_code == 404


DATED = """
from datetime import datetime
from typing import Optional

from databridge import App, Model

app = App()


class Event(Model):
    id: int
    at: Optional[datetime] = None
    past: list[datetime] = []
    named: dict[str, datetime] = {}
    text: str = ""


app.crud_routes(Event, prefix="/event", index=["at"])
"""


def test_datetimes_are_dates_to_the_millisecond_from_the_first_answer_on(
    make_nginx: Callable[[], Nginx], mongodb: str
) -> None:
    server = make_nginx()
    server.write({"app.py": DATED})
    server.configure("databridge_app app:app;", http=f'databridge_store main "{mongodb}";')
    server.start("/event")
    server.allow_descriptors(tcp=40)
    fine = "2024-01-01T01:00:00.123456+01:00"
    body = {"id": 1, "at": fine, "past": [fine], "named": {"a": fine}, "text": fine}
    created = server.client.post("/event", json=body)
    told = "2024-01-01T00:00:00.123000Z"
    assert created.json() == {
        "id": 1,
        "at": told,
        "past": [told],
        "named": {"a": told},
        "text": fine,
    }
    assert server.client.get("/event/1").content == created.content
    assert server.client.put("/event/1", json=body).content == created.content
    moment = datetime(2024, 1, 1, 0, 0, 0, 123000)
    with MongoClient[dict[str, object]](mongodb) as client:
        events = client.get_default_database()["event"]
        assert events.find_one() == {
            "_id": 1,
            "at": moment,
            "past": [moment],
            "named": {"a": moment},
            "text": fine,
        }
        events.insert_many(
            [{"_id": n, "at": moment + timedelta(milliseconds=n)} for n in (-2, -1, 2)]
        )
    for condition, found in (
        ({"$gt": fine}, [2]),
        ({"$lte": fine}, [-2, -1, 1]),
        ({"$gte": "2024-01-01T00:00:00.122999Z"}, [-1, 1, 2]),
        (told, [1]),
    ):
        query = {"filter": json.dumps({"at": condition})}
        items = server.client.get("/event", params=query).json()["items"]
        assert [item["id"] for item in items] == found


def test_documents_of_other_programs_are_served(
    make_nginx: Callable[[], Nginx], mongodb: str
) -> None:
    server = make_nginx()
    server.write({"app.py": DATED})
    with MongoClient[dict[str, object]](mongodb) as client:
        events = client.get_default_database()["event"]
        events.delete_many({})
        events.insert_one({"_id": 7, "_v": "x", "more": 1.5, "at": None, "who": ObjectId("1" * 24)})
    server.configure("databridge_app app:app;", http=f'databridge_store main "{mongodb}";')
    server.start("/event")
    server.allow_descriptors(tcp=40)
    document = {"id": 7, "more": 1.5, "at": None, "who": "1" * 24}
    assert server.client.get("/event/7").json() == document
    assert server.client.get("/event").json()["items"] == [document]


NO_CURSOR, A_CURSOR = (b"\x12id\0" + number.to_bytes(8, "little") for number in (0, 77))


def test_a_list_that_is_too_large_for_one_reply_is_whole(
    start: Start, own_mongodb: MongoServer
) -> None:
    cut = [A_CURSOR]

    def answers(message: bytes) -> bytes:
        """The first list has a cursor for the rest."""
        if cut and b"firstBatch" in message:
            assert NO_CURSOR in message
            return message.replace(NO_CURSOR, cut.pop())
        return message

    between = Between(own_mongodb.port, answers)
    server = start(f"mongodb://127.0.0.1:{between.port}/tests")
    notes = [{"id": number, "text": "x", "table": {}} for number in range(5)]
    assert server.client.post("/notes", json=notes).status_code == 201
    assert server.client.get("/notes?limit=4").json()["items"] == notes[:4]
    assert not cut
    finds = [message for message in between.asked if b"\2find\0" in message]
    assert len(finds) == 2
    assert A_CURSOR[-8:] in next(asked for asked in between.asked if b"killCursors" in asked)
    assert server.client.get("/notes?limit=1000").json()["items"] == notes
    between.stop()


def test_driver_and_signals_stay_out_of_each_others_way(
    start: Start, own_mongodb: MongoServer
) -> None:
    server = start(own_mongodb.uri("tests"))
    assert serves(server)
    tasks = Path(f"/proc/{server.worker()}/task")
    masks = {}
    for task in tasks.iterdir():
        status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
        masks[task.name] = int(status["SigBlk"], 16)
    others = [mask for name, mask in masks.items() if name != str(server.worker())]
    assert len(others) > 8
    term, quit_, child = 1 << 14, 1 << 2, 1 << 16
    assert all(mask & term and mask & quit_ and mask & child for mask in others)


WRONG = [
    ("mongodb://127.0.0.1", "names no database"),
    ("mongodb:///tests", "names no host"),
    ("mongodb://user:hush@/tests", "names no host"),
    ("mongodb://user:hu/sh@127.0.0.1/tests", "%2F"),
    ("mongodb://user:hush%@127.0.0.1/tests", "the driver refuses its URI: its user name, password"),
    ("mongodb://127.0.0.1/tests?maxPoolSize=few", "the driver refuses its URI"),
]


@pytest.mark.parametrize(("uri", "message"), WRONG)
def test_nginx_refuses_a_uri_without_repeating_it(
    make_nginx: Callable[[], Nginx], uri: str, message: str
) -> None:
    server = make_nginx()
    server.configure(http=f'databridge_store main "{uri}";')
    result = server.test()
    assert result.returncode != 0
    said, line = config_error(result.stderr)
    assert 'invalid store "main"' in said and message in said
    assert "hu" not in result.stderr
    assert uri in server.config.read_text().splitlines()[line - 1]
    server.expect_alert(r"\[emerg\]")


def test_a_password_that_is_refused_is_a_500_and_not_in_the_log(
    start: Start, own_mongodb: MongoServer
) -> None:
    server = start(f"mongodb://user:hush@127.0.0.1:{own_mongodb.port}/tests")
    assert server.client.get("/notes").status_code == 500
    server.logged('mongodb store "127.0.0.1:[0-9]+/tests": a read: ')
    assert "hush" not in server.output()


Moved = Callable[[str], Nginx]


@pytest.fixture
def moved(make_nginx: Callable[[], Nginx], schema: str, tmp_path: Path) -> Moved:
    """nginx with a module beside which its driver lies, until a test takes it away."""
    for file in (MODULE, DRIVER):
        shutil.copy(file, tmp_path)

    def configure(uri: str) -> Nginx:
        server = make_nginx()
        server.configure(http=f'databridge_store main "{uri}";', server=NOTES % schema)
        config = server.config.read_text()
        server.config.write_text(config.replace(str(MODULE), str(tmp_path / MODULE.name)))
        server.expect_alert(r"\[emerg\]")
        return server

    return configure


AWAY = "mongodb://127.0.0.1/tests"
BROKEN = [
    (b"", "cannot load its driver: "),
    (None, 'databridge_mongo.so" is missing: install libmongoc-dev and build again'),
]


@pytest.mark.parametrize(("content", "message"), BROKEN, ids=["broken", "missing"])
def test_a_driver_that_does_not_load_is_refused_with_the_line_of_its_store(
    moved: Moved, tmp_path: Path, content: bytes | None, message: str
) -> None:
    server = moved(AWAY)
    assert server.test().returncode == 0
    driver = tmp_path / DRIVER.name
    driver.unlink()
    if content is not None:
        driver.write_bytes(content)
    result = server.test()
    assert result.returncode == 1
    said, line = config_error(result.stderr)
    assert message in said
    assert "databridge_store" in server.config.read_text().splitlines()[line - 1]


def test_a_driver_that_ends_its_process_is_refused(moved: Moved, tmp_path: Path) -> None:
    (tmp_path / "end.c").write_text("void _exit(int);\n[[gnu::constructor]] void f() {_exit(0);}")
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", tmp_path / DRIVER.name, tmp_path / "end.c"], check=True
    )
    result = moved(AWAY).test()
    assert result.returncode == 1
    assert "a process that loads databridge_mongo.so ends" in config_error(result.stderr)[0]


def test_a_reload_without_the_driver_leaves_the_old_workers_serving(
    moved: Moved, tmp_path: Path, own_mongodb: MongoServer
) -> None:
    server = moved(own_mongodb.uri("tests"))
    server.start()
    server.allow_descriptors(tcp=40)
    (worker,) = server.workers()
    (tmp_path / DRIVER.name).unlink()
    server.kill(signal.SIGHUP)
    server.logged(r'\[emerg\].*invalid store "main".*is missing: install libmongoc-dev')
    assert serves(server) and server.workers() == [worker]


def test_a_worker_that_finds_no_driver_says_so_and_refuses(moved: Moved, tmp_path: Path) -> None:
    server = moved(AWAY)
    server.start()
    server.expect_alert("exited on signal 9")
    server.expect_new_workers()
    (worker,) = server.workers()
    (tmp_path / DRIVER.name).unlink()
    os.kill(worker, signal.SIGKILL)
    server.logged(r'\[emerg\].*databridge_mongo.so" is missing: install libmongoc-dev')
    assert server.client.get("/notes").status_code == 503


def test_the_master_does_not_hold_the_driver(start: Start, own_mongodb: MongoServer) -> None:
    server = start(own_mongodb.uri("tests"))
    assert server.process
    assert "libmongoc" not in Path(f"/proc/{server.process.pid}/maps").read_text()


def test_nothing_of_the_driver_stays_in_shared_memory(
    start: Start, own_mongodb: MongoServer
) -> None:
    server = start(own_mongodb.uri("tests"))
    worker = server.worker()
    assert "libmongoc" in Path(f"/proc/{worker}/maps").read_text()
    assert not Path(f"/dev/shm/mongoc-{worker}").exists()


def test_the_driver_is_loaded_for_a_mongodb_alone(start: Start, own_mongodb: MongoServer) -> None:
    server = start(own_mongodb.uri("tests"))
    maps = Path(f"/proc/{server.worker()}/maps").read_text()
    assert "libmongoc" in maps and "databridge_mongo.so" in maps
    other = start("sqlite:notes.db")
    maps = Path(f"/proc/{other.worker()}/maps").read_text()
    assert "libmongoc" not in maps and "databridge_mongo.so" not in maps
