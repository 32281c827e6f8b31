"""`def` functions of plans: their threads, and what is as in anyio's."""

import concurrent.futures
import re
import signal
import threading

import httpx
import pytest

from conftest import StartApp
from harness import SLOWER, Nginx, Uvicorn, until

CONFIGURATION = {"server": "add_header X-Kind $databridge_kind always;"}

APP = r"""
import asyncio
import contextvars
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager

import anyio._backends._asyncio
import anyio.from_thread
import anyio.to_thread
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import PlainTextResponse

local = contextvars.ContextVar("local", default="none")
entered = threading.Semaphore(0)
barriers = {}
notes = []


@asynccontextmanager
async def lifespan(app):
    local.set("lifespan")
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    return "here"


@app.get("/notes")
async def read_notes():
    return notes


@app.get("/number/{n}")
def number(n: int):
    return n


@app.get("/thread")
def thread():
    current = threading.current_thread()
    return [current.name, current.daemon, current is threading.main_thread()]


@app.get("/ident")
def ident():
    return threading.get_ident()


def named(name):
    def dependency():
        before = local.get()
        local.set(name)
        return [before, threading.get_ident()]
    return dependency


async def awaited():
    await asyncio.sleep(0)
    local.set("awaited")
    return local.get()


@app.get("/contexts")
def contexts(one=Depends(named("one")), two=Depends(named("two"))):
    return [one[0], two[0], local.get()]


@app.get("/context-of-the-task")
def context_of_the_task(first=Depends(awaited), two=Depends(named("two"))):
    return [first, two[0], local.get()]


@app.get("/one-hop")
def one_hop(one=Depends(named("one")), two=Depends(named("two"))):
    return one[1] == two[1] == threading.get_ident()


def first(q: int = 1):
    return q + 1


def second(value=Depends(first)):
    return value * 2


async def third(value=Depends(second)):
    return value + 100


@app.get("/steps")
def steps(a=Depends(first), b=Depends(second), c=Depends(third)):
    return [a, b, c]


@app.get("/no-loop")
def no_loop():
    try:
        asyncio.get_running_loop()
    except RuntimeError as exc:
        return str(exc)


@app.get("/from-thread")
def from_thread():
    async def main():
        await anyio.sleep(0.001)
        return threading.current_thread() is threading.main_thread()

    anyio.from_thread.check_cancelled()
    result = anyio.from_thread.run(main)
    return [result, anyio.from_thread.run_sync(threading.current_thread).name == "MainThread"]


@app.get("/from-thread-scopes")
def from_thread_scopes():
    async def main():
        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep(60)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
        return scope.cancelled_caught

    return [anyio.from_thread.run(main) for _ in range(3)]


@app.get("/stop-iteration")
def stop_iteration():
    raise StopIteration("on purpose")


@app.get("/http-exception")
def http_exception():
    raise HTTPException(418, "on purpose")


@app.get("/value-error")
def value_error():
    raise ValueError("on purpose")


@app.get("/dependency-error")
def dependency_error(value=Depends(http_exception)):
    notes.append("not to be run")


@app.get("/exit")
def leave():
    sys.exit(3)


@app.get("/interrupt")
def interrupt():
    raise KeyboardInterrupt


class Odd(BaseException):
    pass


@app.get("/odd")
def odd():
    raise Odd("on purpose")


@app.get("/cancelled")
def cancelled():
    raise asyncio.CancelledError


@app.get("/text", response_class=PlainTextResponse)
def text():
    return "text"


@app.get("/large")
def large():
    return [{"n": n} for n in range(5000)]


@app.get("/meet/{name}/{count}")
def meet(name: str, count: int):
    barrier = barriers.setdefault(name, threading.Barrier(count))
    barrier.wait(20)
    return threading.get_ident()


@app.get("/limit/{tokens}")
async def limit(tokens: int):
    anyio.to_thread.current_default_thread_limiter().total_tokens = tokens


@app.get("/block/{seconds}")
def block(seconds: float):
    notes.append("begun")
    time.sleep(seconds)
    notes.append("ended")
    return "blocked"


def slow_dependency():
    notes.append("dependency")
    time.sleep(2)


@app.get("/slow-dependency")
def after_slow_dependency(value=Depends(slow_dependency)):
    notes.append("endpoint")


@app.get("/spin/{seconds}")
def spin(seconds: float):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "spun"


start = anyio._backends._asyncio.WorkerThread.start


def no_start(thread):
    raise RuntimeError("can't start new thread")


@app.get("/threads/{available}")
async def threads(available: bool):
    anyio._backends._asyncio.WorkerThread.start = start if available else no_start


@app.get("/fork")
def fork():
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def child(queue):
    queue.put([threading.active_count(), threading.current_thread().name])


@app.get("/multiprocessing")
def multiprocess():
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    result = queue.get()
    process.join()
    return [result[0], process.exitcode]


@app.get("/subprocess")
def run_subprocess():
    return subprocess.run(["echo", "out"], capture_output=True, check=True).stdout.decode()


@app.get("/hop-in-hop")
def hop_in_hop():
    return anyio.from_thread.run(anyio.to_thread.run_sync, lambda: "inner")
"""

SAME = [
    *("/number/5", "/thread", "/contexts", "/context-of-the-task", "/steps", "/steps?q=4"),
    *("/no-loop", "/from-thread", "/from-thread-scopes", "/hop-in-hop", "/text", "/large"),
    *("/stop-iteration", "/http-exception", "/value-error", "/dependency-error", "/odd"),
    *("/fork", "/multiprocessing", "/subprocess"),
]


def seen(response: httpx.Response) -> tuple[int, str | None, bytes]:
    return response.status_code, response.headers.get("content-type"), response.content


@pytest.mark.parametrize("path", SAME)
def test_a_def_function_answers_as_under_uvicorn(
    shared_app: Nginx, shared_uvicorn: Uvicorn, path: str
) -> None:
    for _ in range(2):
        answer = shared_app.client.get(path)
        assert answer.headers["x-kind"] == "plan"
        # uvicorn closes a connection when an exception has passed it
        expected = shared_uvicorn.client.get(path, headers={"connection": "close"})
        assert seen(answer) == seen(expected)


def test_neighbouring_functions_share_a_hop(shared_app: Nginx) -> None:
    assert shared_app.client.get("/one-hop").json() is True


def test_a_step_after_one_that_has_raised_is_not_run(shared_app: Nginx) -> None:
    assert shared_app.client.get("/dependency-error").status_code == 418
    assert "not to be run" not in shared_app.client.get("/notes").json()


def test_a_stop_iteration_is_reported_as_anyio_reports_it(shared_app: Nginx) -> None:
    assert shared_app.client.get("/stop-iteration").status_code == 500
    assert shared_app.logged("RuntimeError: coroutine raised StopIteration")


@pytest.mark.parametrize("path", ["/exit", "/interrupt", "/cancelled"])
def test_the_worker_outlives_what_ends_a_program(app: StartApp, path: str) -> None:
    server = app(APP, **CONFIGURATION)
    worker = server.worker()
    assert server.client.get(path).status_code == 500
    assert server.client.get("/number/1").json() == 1
    assert server.worker() == worker


def test_forty_functions_that_block_run_side_by_side(app: StartApp) -> None:
    server = app(APP, **CONFIGURATION)
    with concurrent.futures.ThreadPoolExecutor(40) as clients:
        answers = list(clients.map(server.client.get, ["/meet/forty/40"] * 40))
    assert len({answer.json() for answer in answers}) == 40


def test_a_function_that_blocks_delays_no_other(app: StartApp) -> None:
    server = app(APP, **CONFIGURATION)
    with concurrent.futures.ThreadPoolExecutor(1) as clients:
        blocked = clients.submit(server.client.get, "/block/2")
        until("the thread", lambda: server.client.get("/notes").json() == ["begun"])
        for n in range(20):
            assert server.client.get(f"/number/{n}").json() == n
        assert server.client.get("/notes").json() == ["begun"]
        assert blocked.result().json() == "blocked"


def test_a_function_that_computes_stops_no_other(app: StartApp) -> None:
    server = app(APP, **CONFIGURATION)
    with concurrent.futures.ThreadPoolExecutor(2) as clients:
        spinning = [clients.submit(server.client.get, "/spin/1.5") for _ in range(2)]
        assert server.client.get("/number/1").json() == 1
        assert not any(future.done() for future in spinning)
        assert [future.result().json() for future in spinning] == ["spun", "spun"]


def test_no_more_threads_run_than_databridge_sync_threads(app: StartApp) -> None:
    server = app(APP, http="databridge_sync_threads 3;", **CONFIGURATION)
    with concurrent.futures.ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(server.client.get, ["/meet/three/3"] * 12))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json() for answer in answers}) == 3


def test_the_limit_is_that_of_anyio(app: StartApp) -> None:
    server = app(APP, **CONFIGURATION)
    server.client.get("/limit/60")
    with concurrent.futures.ThreadPoolExecutor(60) as clients:
        answers = list(clients.map(server.client.get, ["/meet/sixty/60"] * 60))
    assert len({answer.json() for answer in answers}) == 60


def test_without_a_thread_a_function_fails_as_under_anyio(app: StartApp) -> None:
    server = app(APP, **CONFIGURATION)
    server.client.get("/threads/false")
    assert [server.client.get("/number/1").status_code for _ in range(2)] == [500, 500]
    assert server.logged("RuntimeError: can't start new thread")
    server.client.get("/threads/true")
    assert server.client.get("/number/1").json() == 1


def test_a_thread_that_cannot_be_started_leaves_the_work_to_the_others(app: StartApp) -> None:
    server = app(APP, **CONFIGURATION)
    assert server.client.get("/number/1").json() == 1
    server.client.get("/threads/false")
    with concurrent.futures.ThreadPoolExecutor(4) as clients:
        blocked = clients.submit(server.client.get, "/block/1")
        until("the thread", lambda: server.client.get("/notes").json() == ["begun"])
        answers = list(clients.map(server.client.get, ["/number/1"] * 3))
        assert [answer.json() for answer in [*answers, blocked.result()]] == [1, 1, 1, "blocked"]
    assert server.logged('a thread for "def" functions could not be started')


def test_many_clients_get_their_own_answers(app: StartApp) -> None:
    server = app(APP, **CONFIGURATION)

    def ask(first: int) -> list[int]:
        with httpx.Client(base_url=server.base_url, timeout=30) as client:
            return [client.get(f"/number/{first + n}").json() for n in range(50)]

    with concurrent.futures.ThreadPoolExecutor(16) as clients:
        for first, numbers in enumerate(clients.map(ask, range(0, 1600, 100))):
            assert numbers == [first * 100 + n for n in range(50)]


def test_a_function_past_its_timeout_goes_on_and_is_counted(app: StartApp) -> None:
    server = app(
        APP,
        http="databridge_timeout 1s; databridge_sync_threads 2;",
        server="location = /metrics { databridge_metrics; }",
    )

    def metric(name: str) -> float:
        text = server.client.get("/metrics").text
        found = re.search(rf"^databridge_{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
        assert found is not None, text
        return float(found[1])

    with concurrent.futures.ThreadPoolExecutor(3) as clients:
        answers = list(clients.map(server.client.get, ["/block/3"] * 3))
        assert [answer.status_code for answer in answers] == [504] * 3
    until("the metric", lambda: metric("sync_threads_busy") == 2)
    assert server.client.get("/notes").json() == ["begun", "begun"]
    until("their end", lambda: metric("sync_threads_busy") == 0, 10)
    assert server.client.get("/notes").json() == ["begun", "begun", "ended", "ended"]
    assert server.client.get("/number/7").json() == 7


def test_a_timeout_between_two_functions_keeps_the_second_from_running(app: StartApp) -> None:
    server = app(APP, http="databridge_timeout 1s; databridge_sync_threads 1;")
    assert server.client.get("/slow-dependency").status_code == 504
    until("the thread", lambda: server.client.get("/number/1").status_code == 200)
    assert server.client.get("/notes").json() == ["dependency"]


def test_a_worker_leaves_while_a_function_blocks(app: StartApp) -> None:
    server = app(APP, http="databridge_shutdown_timeout 500ms;", **CONFIGURATION)
    asked = threading.Thread(target=_ask_in_vain, args=(server,))
    asked.start()
    until("the thread", lambda: server.client.get("/notes").json() == ["begun"])
    server.kill(signal.SIGQUIT)
    assert server.wait(10 * SLOWER) == 0
    asked.join()


def _ask_in_vain(server: Nginx) -> None:
    try:
        server.client.get("/block/30")
    except httpx.TransportError:
        pass
