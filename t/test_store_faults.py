"""
What goes wrong with an SQLite file under a server: each time clients hear it,
the log names the file and says what to do, and nothing is written by half.
"""

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from harness import Nginx, RawResponse, processes, until
from harness.store import configure, everything, fill, fresh, integrity

MakeNginx = Callable[..., Nginx]
Note = dict[str, object]


def note(number: int, text: str = "x") -> Note:
    return {"id": number, "text": text, "number": 0}


def start(server: Nginx, database: Path | None = None, **configuration: object) -> Path:
    """Serves notes from this file, or from notes.db; returns the file."""
    database = database or server.prefix / "notes.db"
    configure(server, database, **configuration)  # type: ignore[arg-type]
    server.start(None)
    return database


def create(server: Nginx, number: int, text: str = "x") -> int:
    return fresh(server.port, "POST", "/note", note(number, text)).status


def get(server: Nginx, number: int) -> RawResponse:
    return fresh(server.port, "GET", f"/note/{number}")


def refused(answer: RawResponse, status: int) -> bool:
    """Whether it says so as everything that is away for a while does."""
    return answer.status == status and (status != 503 or "retry-after" in answer.headers)


def kill_all(server: Nginx) -> None:
    """The master and its workers, at one blow."""
    assert server.process
    pids = [server.process.pid, *server.workers()]
    server.expect_new_workers()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    server.process.wait()
    until("the workers' end", lambda: not any(map(processes.alive, pids)))


class Model:
    """What a store must hold: what was acknowledged, and nothing else."""

    def __init__(self, server: Nginx) -> None:
        self.server = server
        self.notes: dict[int, Note] = {}
        self.statuses: set[int] = set()

    def ask(self, method: str, number: int, text: str = "") -> int:
        document = None if method == "DELETE" else note(number, text)
        path = "/note" if method == "POST" else f"/note/{number}"
        answer = fresh(self.server.port, method, path, document)
        self.statuses.add(answer.status)
        if answer.status in (200, 201) and document is not None:
            self.notes[number] = document
        elif answer.status == 204:
            del self.notes[number]
        return answer.status

    def check(self, database: Path) -> None:
        items = everything(self.server.port, "/note")
        assert items == [self.notes[number] for number in sorted(self.notes)]
        assert integrity(database) == "ok"


# a full disk


@contextmanager
def limited(server: Nginx, database: Path) -> Iterator[Callable[[], None]]:
    """No file of the workers' may grow; what is called makes room."""
    size = max(path.stat().st_size for path in database.parent.glob("notes.db*"))
    pids = server.workers()
    for pid in pids:
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 16_000, hard))

    def release() -> None:
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    yield release


@contextmanager
def filled(server: Nginx, database: Path) -> Iterator[Callable[[], None]]:
    """The disk is filled up; what is called makes room."""
    ballast = database.parent / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                break
    yield ballast.unlink


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_a_507_and_service_resumes(make_nginx: MakeNginx, tmp_path: Path) -> None:
    server = make_nginx()
    database = start(server, tmp_path / "notes.db", workers=2)
    fills(server, database, limited)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small disk")
def test_a_disk_without_room_is_a_507_and_service_resumes(
    small_disk: Path, make_nginx: MakeNginx
) -> None:
    server = make_nginx()
    database = start(server, small_disk / "notes.db", workers=2)
    fills(server, database, filled)


def fills(
    server: Nginx,
    database: Path,
    full: Callable[[Nginx, Path], AbstractContextManager[Callable[[], None]]],
) -> None:
    model = Model(server)
    for number in range(50):
        assert model.ask("POST", number, "first") == 201
    with full(server, database) as release:
        for number in range(50, 200):
            model.ask("POST", number, "x" * 3000)
            model.ask("PUT", number % 50, "y" * 3000)
        assert 507 in model.statuses
        assert model.statuses <= {200, 201, 507}
        assert get(server, 0).status == 200
        server.logged(rf'sqlite store "{database}": .*make room')
        model.check(database)
        release()
    assert model.ask("POST", 1000) == 201
    assert model.ask("DELETE", 3) == 204
    model.check(database)


# a file, or its directory, that may not be written


def unprivileged() -> str:
    """The directive that makes workers of somebody whom permissions concern."""
    return "user nobody nogroup;" if os.getuid() == 0 else ""


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_may_not_be_written_is_said_and_taken_up_by_a_reload(
    make_nginx: MakeNginx, what: str
) -> None:
    server = make_nginx()
    data = server.prefix / "data"
    data.mkdir(mode=0o777)
    data.chmod(0o777)
    database = data / "notes.db"
    database.touch()
    target = database if what == "file" else data
    database.chmod(0o666)
    target.chmod(0o444 if what == "file" else 0o555)
    server.expect_alert(rf'\[emerg\].*"{database}".*writable.*reload')
    configure(server, database, main=unprivileged())
    server.start(None)
    assert refused(get(server, 1), 503)
    target.chmod(0o777)
    server.reload()
    assert create(server, 1) == 201
    assert get(server, 1).status == 200


# a file that another program has locked


@contextmanager
def locked(database: Path) -> Iterator[sqlite3.Connection]:
    """Another program has written, and has not committed yet."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield other


def test_a_write_waits_for_another_program_and_reads_do_not(make_nginx: MakeNginx) -> None:
    server = make_nginx()
    database = start(server, workers=2)
    assert create(server, 1) == 201
    with server.raw() as client, locked(database) as other:
        other.execute("INSERT INTO note (id, doc) VALUES (2, '{\"id\":2}')")
        client.send(
            b"DELETE /note/1 HTTP/1.1\r\nHost: t\r\n\r\n",
        )
        for _ in range(20):  # a write waits for five seconds
            assert get(server, 1).status == 200
            assert get(server, 2).status == 404
            assert fresh(server.port, "GET", "/note?text=x").status == 200
        other.execute("COMMIT")
        assert client.response().status == 204
    assert json.loads(get(server, 2).body) == {"id": 2}


def test_a_file_that_stays_locked_is_a_503_until_it_is_free(make_nginx: MakeNginx) -> None:
    server = make_nginx()
    database = start(server, workers=2)
    answers: list[RawResponse] = []

    def write(number: int) -> None:
        answers.append(fresh(server.port, "POST", "/note", note(number)))

    assert create(server, 0) == 201
    threads = [threading.Thread(target=write, args=(n,)) for n in range(1, 9)]
    with locked(database) as other:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert get(server, 0).status == 200
        other.execute("ROLLBACK")
    assert all(refused(answer, 503) for answer in answers)
    server.logged(rf'sqlite store "{database}": .*another program')
    assert create(server, 1) == 201
    assert [item["id"] for item in everything(server.port, "/note")] == [0, 1]


def test_a_file_that_is_locked_at_the_start_is_taken_up_by_a_reload(
    make_nginx: MakeNginx,
) -> None:
    server = make_nginx()
    database = server.prefix / "notes.db"
    server.expect_alert(rf'\[emerg\].*"{database}".*another program.*reload')
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE mine (a)")
        start(server, database)
        assert refused(fresh(server.port, "POST", "/note", note(1)), 503)
    server.reload()
    assert create(server, 1) == 201


# a damaged file


def damage(database: Path, where: str) -> None:
    size = database.stat().st_size
    with open(database, "r+b") as file:
        if where == "header":
            file.write(os.urandom(100))
        elif where == "middle":
            file.seek(size // 2 // 4096 * 4096)
            file.write(b"\xff" * 65536)
        else:
            file.truncate(size // 2)


def large(server: Nginx) -> Path:
    """A file of many pages, all of them in the database itself."""
    database = start(server)
    fill(server.port, "/note", [note(n, f"{n} " * 100) for n in range(3000)])
    server.kill(signal.SIGQUIT)
    assert server.wait(10) == 0
    return database


@pytest.mark.parametrize("where", ["header", "middle", "end"])
@pytest.mark.parametrize("when", ["start", "serving"])
def test_a_damaged_file_is_a_503_that_says_so(
    make_nginx: MakeNginx, tmp_path: Path, where: str, when: str
) -> None:
    server = make_nginx()
    database = large(server)
    shutil.copy(database, tmp_path / "backup")

    if when == "start":
        damage(database, where)
        if where != "middle":
            server.expect_alert(rf'\[emerg\].*"{database}".*backup.*reload')
        server.start(None)
    else:
        server.start(None)
        assert get(server, 0).status == 200
        damage(database, where)

    answers = [get(server, number) for number in range(0, 3000, 7)]
    answers.append(fresh(server.port, "GET", "/note?text=x"))
    assert {answer.status for answer in answers} <= {200, 503}
    for answer in answers:
        assert answer.status == 200 or refused(answer, 503)
        if answer.status == 200:
            json.loads(answer.body)
    if (when, where) != ("serving", "header"):
        assert 503 in {answer.status for answer in answers}
        server.logged(rf'sqlite store "{database}": .*backup')

    # the backup in its place, and all is there again

    server.kill(signal.SIGQUIT)
    assert server.wait(10) == 0
    for path in server.prefix.glob("notes.db*"):
        path.unlink()
    shutil.copy(tmp_path / "backup", database)
    server.start(None)
    assert len(everything(server.port, "/note")) == 3000
    assert create(server, 5000) == 201
    assert integrity(database) == "ok"


# files that are taken away


@pytest.mark.parametrize("name", ["notes.db", "notes.db-wal", "notes.db-shm"])
def test_a_file_removed_while_serving_takes_no_write_and_loses_none(
    make_nginx: MakeNginx, name: str
) -> None:
    server = make_nginx()
    database = start(server, workers=2)
    kept = server.prefix / "kept"
    for number in range(20):
        assert create(server, number) == 201
    os.link(database, kept)
    (server.prefix / name).unlink()
    for number in range(20, 30):
        assert refused(fresh(server.port, "POST", "/note", note(number)), 503)
    server.logged(rf'sqlite store "{database}": .*removed.*restart')
    server.kill(signal.SIGQUIT)
    assert server.wait(10) == 0
    if name == "notes.db":
        kept.rename(database)
    server.start(None)
    assert [item["id"] for item in everything(server.port, "/note")] == list(range(20))
    assert create(server, 20) == 201
    assert integrity(database) == "ok"


def test_another_file_in_its_place_is_not_mixed_with_it(
    make_nginx: MakeNginx, tmp_path: Path
) -> None:
    server = make_nginx()
    database = start(server)
    for number in range(20):
        assert create(server, number) == 201
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("VACUUM INTO ?", (str(tmp_path / "backup"),))
    for number in range(20, 40):
        assert create(server, number) == 201
    server.allow_descriptors(deleted=8)
    (tmp_path / "backup").rename(database)
    assert refused(fresh(server.port, "POST", "/note", note(99)), 503)
    assert refused(fresh(server.port, "GET", "/note?text=x"), 503)
    server.logged(rf'sqlite store "{database}": .*replaced')

    # the log belongs to what was there, and is not read as that of the backup

    server.expect_alert(rf'\[emerg\].*"{database}-wal" belongs to what was there')
    server.reload()
    assert refused(get(server, 1), 503)
    server.kill(signal.SIGQUIT)
    assert server.wait(10) == 0
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").unlink()
    server.start(None)
    assert [item["id"] for item in everything(server.port, "/note")] == list(range(20))
    assert create(server, 20) == 201
    assert integrity(database) == "ok"


def test_writers_go_on_without_their_lock_file_and_say_so(make_nginx: MakeNginx) -> None:
    server = make_nginx()
    database = start(server, workers=2)
    assert create(server, 1) == 201
    Path(f"{database}.writer").unlink()
    for number in range(2, 20):
        assert create(server, number) == 201
    server.logged(rf'"{database}.writer".*removed.*reload')
    old = server.reload()
    until("the old workers' end", lambda: not any(map(processes.alive, old)), 20)
    assert Path(f"{database}.writer").exists()
    assert create(server, 20) == 201
    assert len(everything(server.port, "/note")) == 20
    assert integrity(database) == "ok"


def test_a_log_removed_after_kill_9_leaves_a_database_that_serves(
    make_nginx: MakeNginx,
) -> None:
    server = make_nginx()
    database = large(server)
    server.start(None)
    for number in range(5000, 5050):
        assert create(server, number) == 201
    kill_all(server)
    Path(f"{database}-wal").unlink()
    server.start(None)
    assert len(everything(server.port, "/note")) == 3000
    assert create(server, 5000) == 201
    assert integrity(database) == "ok"
