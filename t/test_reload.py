"""Reload: nothing is lost, and what does not load never replaces what serves."""

import os
import signal
from collections import Counter
from functools import partial

import pytest

from conftest import StartApp
from harness import SLOWER, Nginx, Traffic, processes, until
from harness.traffic import APP, KINDS


def reload_under_traffic(server: Nginx, times: int) -> Traffic:
    """Each reload begins when every kind of request has been answered again."""
    with Traffic(server.port, server.app / "seen") as traffic:
        for _ in range(times):
            before = traffic.answered.copy()
            old = server.reload()
            until("answers of all kinds", partial(grown, traffic, before), 30)
            until("the old workers' end", partial(gone, old), 30)

    return traffic


def grown(traffic: Traffic, before: Counter[str]) -> bool:
    return all(traffic.answered[kind] > before[kind] for kind in KINDS)


def started(server: Nginx, before: set[int]) -> bool:
    return len(set(server.workers()) - before) == 2


def gone(pids: list[int]) -> bool:
    return not any(map(processes.alive, pids))


@pytest.mark.parametrize("workers", [1, 2])
def test_five_reloads_under_load_lose_nothing(app: StartApp, workers: int) -> None:
    server = app(APP, workers=workers)
    traffic = reload_under_traffic(server, 5)
    assert traffic.lost() == []
    assert traffic.total() > 50


BROKEN = {
    "syntax": "def broken(:",
    "import": "import no_such_module_anywhere",
    "attribute": "other = 1",
    "exception": "raise RuntimeError('not today')",
    "exit": "import sys\nsys.exit(0)",
    "crash": "import os\nos.abort()",
    "end": "import os\nos._exit(0)",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_code_that_does_not_load_leaves_the_old_workers_serving(app: StartApp, kind: str) -> None:
    server = app(APP, check="30s")
    old = server.workers()
    server.expect_alert(r"\[emerg\].*does not load")
    server.write({"app.py": BROKEN[kind]})

    with Traffic(server.port, server.app / "seen") as traffic:
        server.kill(signal.SIGHUP)
        server.logged("the configuration is refused", 20)
        goal = traffic.total() + 20
        until("answers", lambda: traffic.total() > goal, 30)

    assert (traffic.lost(), traffic.retried) == ([], [])
    assert server.workers() == old
    server.write({"app.py": APP})
    server.reload()
    assert server.client.get("/").json() not in old


def test_a_killed_worker_is_noticed_by_the_traffic(app: StartApp) -> None:
    server = app(APP)
    server.expect_alert("exited on signal 9")
    server.expect_new_workers()

    with Traffic(server.port, server.app / "seen", kinds=("slow",)) as traffic:
        until("answers", lambda: traffic.total() > 5)
        victim = server.worker()
        os.kill(victim, signal.SIGKILL)
        until("other answers", lambda: server.workers() not in ([], [victim]))

    assert traffic.lost() != []


def test_nobody_waits_while_the_new_workers_import(app: StartApp) -> None:
    server = app(APP, workers=2)
    server.write({"app.py": APP + "\nimport time\n\ntime.sleep(5)\n"})

    with Traffic(server.port, server.app / "seen", kinds=("quick",)) as traffic:
        until("answers", lambda: traffic.total() > 50)
        old = server.reload()
        until("the old workers' end", lambda: gone(old), 30)
        goal = traffic.total() + 50
        until("answers by the new workers", lambda: traffic.total() > goal, 30)

    assert traffic.lost() == []
    assert traffic.slowest < 4
    assert server.client.get("/").json() in server.workers()


def test_quit_in_the_middle_of_a_reload_ends_all_workers(app: StartApp) -> None:
    server = app(APP, workers=2)
    server.write({"app.py": APP + "\nimport time\n\ntime.sleep(2)\n"})
    old = server.workers()
    server.expect_new_workers()
    server.kill(signal.SIGHUP)
    until("new workers", lambda: len(server.workers()) == 4)
    assert server.client.get("/").json() in old
    server.kill(signal.SIGQUIT)
    assert server.wait(10) == 0


def test_reloads_that_overtake_each_other_end_with_the_last(app: StartApp) -> None:
    server = app(APP, workers=2)
    server.write({"app.py": APP + "\nimport time\n\ntime.sleep(1)\n"})
    server.expect_new_workers()

    with Traffic(server.port, server.app / "seen") as traffic:
        for _ in range(3):
            before = set(server.workers())
            server.kill(signal.SIGHUP)
            until("new workers", partial(started, server, before))
        until("two workers", lambda: len(server.workers()) == 2, 30)

    assert traffic.lost() == []


CHECK = 3 * int(SLOWER)

HANGS = """
import asyncio
from contextlib import asynccontextmanager

from fastapi import FastAPI


@asynccontextmanager
async def lifespan(app):
    await asyncio.Event().wait()
    yield


app = FastAPI(lifespan=lifespan)
"""


def test_the_old_workers_serve_until_the_new_have_started_however_long_that_takes(
    app: StartApp,
) -> None:
    """An import that hangs is found by the check: this one's startup does."""
    http = f"databridge_shutdown_timeout {500 * SLOWER:.0f}ms;"
    server = app(APP, http=http, check=f"{CHECK}s")
    server.expect_alert(r"\[emerg\].*stopped before it had started")
    server.write({"app.py": HANGS})
    server.expect_new_workers()
    (old,) = server.workers()

    with Traffic(server.port, server.app / "seen", kinds=("quick",)) as traffic:
        server.kill(signal.SIGHUP)
        server.logged(f"after {CHECK}000 ms.* the old workers go on serving", 30)
        goal = traffic.total() + 50
        until("answers", lambda: traffic.total() > goal, 30)
        assert server.client.get("/").json() == old
        server.write({"app.py": APP})
        server.kill(signal.SIGHUP)
        until("the old worker's end", lambda: not processes.alive(old), 30)
        until("one worker", lambda: len(server.workers()) == 1, 30)

    assert (traffic.lost(), server.client.get("/").json()) == ([], server.worker())


@pytest.mark.parametrize("timeout", ["1ms", "1s"])
def test_quit_ends_the_old_workers_while_the_new_hang_at_their_start(
    app: StartApp, timeout: str
) -> None:
    """Either way they say why they end, within the second that Python has to stop."""
    http = f"databridge_shutdown_timeout {timeout};"
    server = app(APP, http=http, check=f"{CHECK}s", workers=2)
    server.expect_alert(r"\[emerg\].*stopped before it had started|Python did not stop in time")
    server.write({"app.py": HANGS})
    server.expect_new_workers()
    old = server.workers()
    server.kill(signal.SIGHUP)
    server.logged("the old workers go on serving", 30)
    assert server.client.get("/").json() in old
    server.kill(signal.SIGQUIT)
    assert server.wait(20) == 0


def test_a_killed_new_worker_is_replaced_and_waited_for(app: StartApp) -> None:
    server = app(APP, workers=2)
    server.write({"app.py": APP + "\nimport time\n\ntime.sleep(1)\n"})
    old = server.workers()
    server.expect_alert("exited on signal 9")
    server.expect_new_workers()

    with Traffic(server.port, server.app / "seen") as traffic:
        server.kill(signal.SIGHUP)
        until("new workers", lambda: len(server.workers()) == 4)
        victim = next(pid for pid in server.workers() if pid not in old)
        os.kill(victim, signal.SIGKILL)
        until("the old workers' end", lambda: gone(old), 30)
        until("two workers", lambda: len(server.workers()) == 2, 30)

    assert traffic.lost() == []
