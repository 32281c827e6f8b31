"""Reload: nothing is lost, and what does not load never replaces what serves."""

import os
import signal
from collections import Counter
from functools import partial

import pytest

from conftest import StartApp
from harness import Nginx, Traffic, processes, until
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


def gone(pids: list[int]) -> bool:
    return not any(map(processes.alive, pids))


@pytest.mark.parametrize("workers", [1, 2])
def test_five_reloads_under_load_lose_nothing(app: StartApp, workers: int) -> None:
    server = app(APP, workers=workers)
    traffic = reload_under_traffic(server, 5)
    assert traffic.lost() == []
    assert traffic.total() > 50


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
