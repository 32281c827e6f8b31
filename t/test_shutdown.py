"""The end of a worker, whatever the application has running at that time."""

import signal
import time

import pytest

from conftest import StartApp, StartServer
from harness import SLOWER, Nginx, processes, until

APP = """
import asyncio
import atexit
import ctypes
import os
import pathlib
import threading
import time
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import Response, StreamingResponse

HERE = pathlib.Path(__file__).parent
kept = []


def note(text):
    with open(HERE / "notes", "a") as file:
        file.write(f"{text}\\n")


@asynccontextmanager
async def lifespan(app):
    yield
    note("lifespan.shutdown")


atexit.register(note, "atexit")
app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    return "here"


@app.get("/slow")
async def slow():
    note("started")
    await asyncio.sleep(0.5)
    note("finished")
    return "slow"


@app.get("/def")
def in_a_thread():
    note("started")
    time.sleep(0.5)
    note("finished")
    return "def"


@app.get("/stuck")
def stuck_in_a_thread():
    note("started")
    time.sleep(30)


@app.get("/background")
async def background(tasks: BackgroundTasks):
    async def later():
        note("started")
        await asyncio.sleep(0.5)
        note("finished")

    tasks.add_task(later)
    return "answered"


@app.get("/stream")
async def stream():
    async def chunks():
        note("started")
        for number in range(10):
            yield f"{number},"
            await asyncio.sleep(0.05)
        note("finished")

    return StreamingResponse(chunks())


@app.get("/events")
async def events():
    async def chunks():
        note("started")
        try:
            while True:
                yield "data: tick\\n\\n"
                await asyncio.sleep(0.02)
        finally:
            note("stream closed")

    return StreamingResponse(chunks(), media_type="text/event-stream")


@app.get("/large")
async def large():
    return Response(bytes(20 << 20))


@app.get("/subprocess")
async def subprocess():
    child = await asyncio.create_subprocess_exec("sleep", "60")
    kept.append(child)
    kept.append(asyncio.create_task(child.wait()))
    return child.pid


@app.get("/timers")
async def timers():
    loop = asyncio.get_running_loop()
    for seconds in (3600, 0.3, 86400):
        loop.call_later(seconds, note, "a timer")
    return "set"


@app.get("/tasks")
async def tasks():
    async def forever():
        try:
            await asyncio.Event().wait()
        finally:
            note("task cancelled")

    async def stubborn():
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                note("ignored")

    kept.append(asyncio.create_task(forever()))
    kept.append(asyncio.create_task(stubborn()))
    return "running"


@app.get("/threads")
async def threads():
    for _ in range(3):
        threading.Thread(target=time.sleep, args=(60,)).start()
    return "running"


@app.get("/executor")
async def executor():
    loop = asyncio.get_running_loop()
    kept.extend(loop.run_in_executor(None, time.sleep, 60) for _ in range(3))
    return "running"


@app.get("/library")
async def library():
    # as a C++ extension does, whose destructors of statics take the GIL
    take = ctypes.cast(ctypes.pythonapi.PyGILState_Ensure, ctypes.c_void_p)
    return ctypes.CDLL(None).__cxa_atexit(take, None, None)
"""

# What a request leaves behind that lives on when it has been answered.

LEFT = ["/", "/subprocess", "/timers", "/tasks", "/threads", "/executor", "/library"]


def notes(server: Nginx) -> list[str]:
    path = server.app / "notes"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def noted(server: Nginx, text: str) -> None:
    until(f"{text!r} in the notes", lambda: text in notes(server))


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM], ids=["quit", "term"])
@pytest.mark.parametrize("path", LEFT)
def test_what_an_application_has_running_does_not_hold_its_end(
    app: StartApp, path: str, number: signal.Signals
) -> None:
    server = app(APP)
    worker = server.worker()
    assert server.client.get(path).status_code == 200
    family = processes.descendants(worker)
    start = time.monotonic()
    server.kill(number)
    assert server.wait(10) == 0
    assert time.monotonic() - start < 4 * SLOWER
    assert "lifespan.shutdown" in notes(server)
    assert notes(server)[-1] == "atexit"
    assert processes.survivors(family) == []


@pytest.mark.parametrize("path", ["/slow", "/def", "/background", "/stream"])
def test_what_runs_at_quit_ends_before_the_lifespan(app: StartApp, path: str) -> None:
    server = app(APP)
    with server.raw() as client:
        client.get(path)
        noted(server, "started")
        server.kill(signal.SIGQUIT)
        assert client.response().status == 200
    assert server.wait(10) == 0
    assert notes(server) == ["started", "finished", "lifespan.shutdown", "atexit"]


@pytest.mark.parametrize("path", ["/slow", "/stuck", "/background", "/stream", "/events"])
def test_term_cuts_what_runs_and_ends_the_lifespan(app: StartApp, path: str) -> None:
    server = app(APP)
    with server.raw() as client:
        client.get(path)
        noted(server, "started")
        start = time.monotonic()
        server.kill(signal.SIGTERM)
        assert server.wait(10) == 0
    assert time.monotonic() - start < 2.5 * SLOWER
    assert "lifespan.shutdown" in notes(server)
    assert notes(server)[-1] == "atexit"


def test_quit_closes_idle_connections_and_those_that_never_asked(app: StartApp) -> None:
    server = app(APP)
    clients = [server.raw() for _ in range(20)]
    for client in clients[:10]:
        client.get("/")
        assert client.response().status == 200
    start = time.monotonic()
    server.kill(signal.SIGQUIT)
    assert all(client.closed() for client in clients)
    assert server.wait(10) == 0
    assert time.monotonic() - start < 4 * SLOWER
    for client in clients:
        client.socket.close()


def test_quit_ends_an_endless_stream(app: StartApp) -> None:
    server = app(APP)
    with server.raw() as client:
        client.get("/events")
        noted(server, "started")
        start = time.monotonic()
        server.kill(signal.SIGQUIT)
        assert server.wait(10) == 0
    assert time.monotonic() - start < 4 * SLOWER
    assert notes(server) == ["started", "stream closed", "lifespan.shutdown", "atexit"]


def test_quit_does_not_wait_for_a_client_beyond_the_deadline(app: StartApp) -> None:
    """One that reads nothing, one that sends for ever what the application has not read."""
    server = app(APP, http="databridge_shutdown_timeout 1s;")
    with server.raw() as reader, server.raw() as writer:
        reader.get("/large")
        reader.until(b"\r\n\r\n")
        writer.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n")
        assert writer.response().status == 405
        start = time.monotonic()
        server.kill(signal.SIGQUIT)
        assert server.wait(10) == 0
    assert time.monotonic() - start < 4 * SLOWER


def test_quit_of_a_worker_that_still_starts_is_fast(app: StartApp) -> None:
    server = app(APP + "\ntime.sleep(1.0)\n", ready=None)
    start = time.monotonic()
    server.kill(signal.SIGQUIT)
    assert server.wait(10) == 0
    assert time.monotonic() - start < 4 * SLOWER


def test_databridge_run_drains_at_its_first_sigterm(run: StartServer) -> None:
    server = run({"app.py": APP})
    with server.raw() as client:
        client.get("/slow")
        path = server.folder / "notes"
        until("the start", lambda: path.exists() and "started" in path.read_text())
        server.kill(signal.SIGTERM)
        assert client.response().body == b'"slow"'
    assert server.wait(10) == 0
    assert path.read_text().split()[-4:] == ["started", "finished", "lifespan.shutdown", "atexit"]
