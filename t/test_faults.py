"""What fails under a running server: Python stuck, queues full, stores gone."""

import os
import pwd
import signal
import time
from collections.abc import Callable

import pytest

from conftest import StartApp
from harness import SLOWER, Nginx, until

APP = """
import ctypes
import pathlib
import re
import resource

from databridge import App, Model

app = App()
started = pathlib.Path(__file__).parent / "started"
usleep = ctypes.PyDLL(None).usleep


class Note(Model):
    id: int
    text: str


app.crud_routes(Note, prefix="/notes")


@app.get("/")
async def root():
    return "here"


@app.get("/stuck/{milliseconds}")
async def stuck(milliseconds: int):
    # a C call that holds the GIL
    started.touch()
    usleep(milliseconds * 1000)
    return "woke up"


@app.get("/stuck-in-a-thread/{milliseconds}")
def stuck_in_a_thread(milliseconds: int):
    started.touch()
    usleep(milliseconds * 1000)
    return "woke up"


@app.get("/regex")
async def regex():
    return re.match("(a+)+$", "a" * 26 + "b") is None


@app.get("/limit/{size}")
async def limit(size: int):
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size if size else hard, hard))
    return "set"


@app.get("/write")
async def write():
    try:
        with open("/proc/self/cwd/large", "wb") as file:
            file.write(bytes(4096))
    except OSError as error:
        return error.errno
"""

STORE = "databridge_store main sqlite:data/notes.db;"


def start(app: StartApp, **configuration: str) -> Nginx:
    http = configuration.pop("http", "")
    return app(APP, http=f"databridge_store main sqlite:notes.db; {http}", **configuration)


def create(server: Nginx, number: int, text: str = "x") -> int:
    answer = server.client.post("/notes", json={"id": number, "text": text})
    return answer.status_code


@pytest.mark.parametrize("path", ["/stuck/4000", "/stuck-in-a-thread/4000", "/regex"])
def test_a_client_is_told_in_time_when_python_is_stuck(app: StartApp, path: str) -> None:
    server = start(app, location="databridge_timeout 1s;")
    assert create(server, 1) == 201
    begin = time.monotonic()
    assert server.client.get(path).status_code == 504
    late = time.monotonic() - begin - 1
    print(f"\n{path}: the 504 came {late * 1000:.1f} ms after its deadline")
    assert 0 <= late < 2 * SLOWER
    server.logged("no response within 1000 ms")

    # native CRUD does not need Python

    assert server.client.get("/notes/1").json() == {"id": 1, "text": "x"}
    assert create(server, 2) == 201

    # and Python goes on when it is back

    def answered() -> bool:
        return server.client.get("/").status_code == 200

    until("an answer", answered, 20)


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM], ids=["quit", "term"])
@pytest.mark.parametrize("path", ["/stuck/60000", "/stuck-in-a-thread/60000"])
def test_python_that_is_stuck_does_not_hold_the_exit(
    app: StartApp, path: str, number: signal.Signals
) -> None:
    server = start(app, http="databridge_shutdown_timeout 1s;", location="databridge_timeout 1s;")
    with server.raw() as client:
        client.get(path)
        until("the start", (server.app / "started").exists)
        begin = time.monotonic()
        server.kill(number)
        assert server.wait(10) == 0
    assert time.monotonic() - begin < 5 * SLOWER
    server.logged("Python did not stop in time")


def test_the_queue_is_full_while_python_is_stuck(app: StartApp) -> None:
    server = start(app, http="databridge_queue 3;", location="databridge_timeout 20s;")
    clients = [server.raw() for _ in range(8)]
    clients[0].get("/stuck/1500")
    for client in clients[1:]:
        client.get("/")
    answers = [client.response() for client in clients]
    assert sorted(answer.status for answer in answers) == [200] * 3 + [503] * 5
    assert all("retry-after" in answer.headers for answer in answers if answer.status == 503)
    assert server.client.get("/").status_code == 200
    for client in clients:
        client.socket.close()


def test_a_database_that_is_removed_takes_no_write_until_a_reload(app: StartApp) -> None:
    server = start(app)
    assert create(server, 1) == 201
    for path in server.prefix.glob("notes.db*"):
        path.unlink()
    answer = server.client.post("/notes", json={"id": 2, "text": "x"})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    server.logged("was moved or removed")
    assert server.client.get("/").json() == "here"
    old = server.reload()
    until("the old worker is gone", lambda: not set(old) & set(server.workers()))
    assert create(server, 3) == 201
    assert server.client.get("/notes/3").json() == {"id": 3, "text": "x"}


def test_a_database_that_is_moved_away_and_back_goes_on(app: StartApp) -> None:
    server = start(app)
    assert create(server, 1) == 201
    database = server.prefix / "notes.db"
    database.rename(server.prefix / "other.db")
    assert create(server, 2) == 503
    (server.prefix / "other.db").rename(database)
    assert create(server, 2) == 201
    assert server.client.get("/notes?count=true").json()["total"] == 2


def test_a_full_disk_is_a_507_and_writes_go_on_when_there_is_room(app: StartApp) -> None:
    server = start(app)
    assert create(server, 1) == 201
    size = (server.prefix / "notes.db-wal").stat().st_size
    assert server.client.get(f"/limit/{size + 8192}").status_code == 200
    statuses = [create(server, number, "x" * 1000) for number in range(10, 40)]
    assert set(statuses) == {201, 507}
    stored = {10 + index for index, status in enumerate(statuses) if status == 201}
    assert server.client.get("/notes/1").status_code == 200
    server.logged("sqlite store .* write")
    assert server.client.get("/limit/0").status_code == 200
    assert create(server, 2) == 201
    items = server.client.get("/notes?limit=100").json()["items"]
    assert {item["id"] for item in items} == {1, 2} | stored


def test_a_write_beyond_the_limit_of_a_file_is_an_error_of_python(app: StartApp) -> None:
    server = start(app)
    assert server.client.get("/limit/1000").status_code == 200
    assert server.client.get("/write").json() == 27
    assert server.client.get("/").json() == "here"


def test_a_directory_that_cannot_be_written_is_a_503_until_it_can(
    make_nginx: Callable[..., Nginx],
) -> None:
    server = make_nginx()
    server.write({"app.py": APP})
    data = server.prefix / "data"
    data.mkdir(mode=0o555)
    user = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    server.configure(
        "databridge_app app:app;",
        http=STORE,
        main=f"user {user} nogroup;" if user == "nobody" else "",
    )
    server.expect_alert(r"\[emerg\].*data/notes.db")
    server.start()
    until("an answer", lambda: server.client.get("/").status_code == 503, 20)
    server.logged(r"\[emerg\].*data/notes.db")
    data.chmod(0o777)
    server.reload()
    until("a write", lambda: create(server, 1) == 201, 20)
    assert server.client.get("/").json() == "here"
