"""Workers that are renewed after many requests, or when they have grown."""

import os
import signal
from collections import Counter
from collections.abc import Callable

from conftest import StartApp, StartServer
from harness import Nginx, Traffic, eventually, processes, until
from harness.store import fresh
from harness.traffic import APP

GROWING = """
import os
from fastapi import FastAPI

app = FastAPI()
kept = []


@app.get("/")
async def root():
    return os.getpid()


@app.get("/grow")
async def grow():
    kept.append(bytearray(os.urandom(1024 * 1024)) * 8)
    return len(kept)
"""


def pids(server: Nginx, count: int = 1) -> list[int]:
    """Who answers: on fresh connections, as nginx may close a kept one at any time."""
    return [int(fresh(server.port, "GET", "/").body) for _ in range(count)]


def test_a_worker_is_renewed_after_its_number_of_requests(app: StartApp) -> None:
    server = app(APP, http="databridge_max_requests 20 jitter=0;", workers=2, ready=None)
    server.expect_new_workers()
    old = set(server.workers())
    answers: Counter[int] = Counter()

    # one that has had its number may have to wait for its turn, and would go
    # on with what it is asked meanwhile: nothing

    def renewed() -> bool:
        (pid,) = pids(server)
        answers[pid] += 1

        if answers[pid] == 20:
            server.logged(f" {pid}#{pid}: .* is renewed after 20 requests", 20)

        return not old & set(server.serving())

    until("two other workers", renewed, 50)
    until("two workers", lambda: len(server.serving()) == 2, 20)
    assert max(answers.values()) == 20
    assert server.error_log.find("exited with code [^0]") == []


def test_the_jitter_spreads_the_number_of_requests(app: StartApp) -> None:
    server = app(APP, http="databridge_max_requests 5 jitter=20;", workers=2)
    server.expect_new_workers()

    def counts() -> set[int]:
        pids(server, 10)
        lines = server.error_log.find("is renewed after")
        return {int(line.split()[-2]) for line in lines}

    until("different numbers", lambda: len(counts()) > 1, 30)
    assert min(counts()) >= 5


def test_recycling_loses_no_request(app: StartApp) -> None:
    server = app(APP, http="databridge_max_requests 25;", workers=2)
    server.expect_new_workers()
    old = set(server.workers())

    with Traffic(server.port, server.app / "seen") as traffic:
        until("two other workers", lambda: not old & set(server.serving()), 30)
        until("more renewals", lambda: len(server.error_log.find("is renewed")) > 3, 30)

    assert traffic.lost() == []


def test_one_worker_at_a_time_is_renewed(app: StartApp) -> None:
    slow = APP + "\nimport time\n\ntime.sleep(0.3)\n"
    server = app(slow, http="databridge_max_requests 20 jitter=0;", workers=3)
    server.expect_new_workers()
    leaving = []

    with Traffic(server.port, server.app / "seen", kinds=("quick",)) as traffic:
        while len(server.error_log.find("is renewed")) < 4 and not traffic.losses:
            leaving.append(len(server.workers()) - len(server.serving()))

    assert traffic.lost() == []
    assert max(leaving) <= 1


def test_a_worker_killed_while_it_leaves_does_not_block_the_others(app: StartApp) -> None:
    server = app(APP, http="databridge_max_requests 20 jitter=0;", workers=2)
    server.expect_new_workers()
    server.expect_alert("exited on signal 9")

    with server.raw() as held:
        held.get("/slow/held")
        leaving = until("a worker that leaves", lambda: pids(server) and left(server), 20)
        os.kill(leaving[0], signal.SIGKILL)
        before = len(server.error_log.find("is renewed"))
        until(
            "the next renewal",
            lambda: pids(server) and len(server.error_log.find("is renewed")) > before,
            20,
        )


def left(server: Nginx) -> list[int]:
    serving = server.serving()
    return [pid for pid in server.workers() if pid not in serving]


def test_a_worker_that_has_grown_is_renewed(app: StartApp) -> None:
    server = app(GROWING, http="databridge_max_rss 200m;", workers=2)
    server.expect_new_workers()
    (pid,) = pids(server)

    def renewed() -> bool:
        server.client.get("/grow")
        return pid not in server.workers()

    until("another worker", renewed, 30)
    server.logged("databridge_max_rss: [0-9]+ bytes are resident")
    server.logged("is renewed after")
    until("two workers", lambda: len(server.serving()) == 2)
    assert server.client.get("/").status_code == 200


def test_a_memory_limit_below_the_start_is_ignored(app: StartApp) -> None:
    server = app(GROWING, http="databridge_max_rss 1m;", workers=2)
    server.logged(r"\[warn\].*\"databridge_max_rss\" is ignored")
    assert server.client.get("/grow").status_code == 200
    assert not eventually(lambda: server.error_log.find("is renewed"), 1.5)


def test_a_single_worker_under_plain_nginx_is_renewed_with_a_warning(app: StartApp) -> None:
    server = app(APP, http="databridge_max_requests 20;")
    server.expect_new_workers()
    assert "use two or more" in server.test().stderr
    old = server.worker()

    with Traffic(server.port, server.app / "seen") as traffic:
        until("another worker", lambda: old not in server.workers() and server.serving(), 30)
        goal = traffic.total() + 20
        until("its answers", lambda: traffic.total() > goal, 30)

    assert traffic.lost() == []


def test_no_warning_with_two_workers(make_nginx: Callable[..., Nginx]) -> None:
    server = make_nginx()
    server.write({"app.py": APP})
    server.configure("databridge_app app:app;", http="databridge_max_requests 9;", workers=2)
    assert "[warn]" not in server.test().stderr


def test_without_a_master_nothing_is_renewed(app: StartApp) -> None:
    server = app(APP, http="databridge_max_requests 5;", master=False)
    assert len(set(pids(server, 20))) == 1


def test_databridge_run_renews_its_single_worker_by_a_reload(run: StartServer) -> None:
    server = run({"app.py": APP}, "--max-requests", "40", "--max-rss", "2000m", "--quiet")
    (old,) = workers(server.process.pid if server.process else 0)
    assert server.process

    with Traffic(server.port, server.folder / "seen") as traffic:
        until("another worker", lambda: not processes.alive(old), 30)
        goal = traffic.total() + 20
        until("its answers", lambda: traffic.total() > goal, 30)

    assert traffic.lost() == []


def test_databridge_run_keeps_a_worker_whose_successor_would_not_load(run: StartServer) -> None:
    server = run({"app.py": APP}, "--max-requests", "10")
    assert server.process
    (old,) = workers(server.process.pid)
    server.log.expect(r"\[emerg\].*does not load")
    server.write({"app.py": "import no_such_module_anywhere"})

    for _ in range(30):
        assert server.client.get("/").json() == old

    until("the refusal", lambda: server.log.find(r"does not load"), 20)
    assert server.client.get("/").json() == old
    assert workers(server.process.pid) == [old]


def workers(pid: int) -> list[int]:
    found = processes.descendants(pid)
    return [pid for pid in found if "worker process" in processes.title(pid)]
