"""StreamingResponse over an ordinary iterator: a thread takes its pieces ahead of the loop.

What an application sees of it is as under uvicorn.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import StartApp
from harness import Nginx, Raw, Uvicorn, eventually, until
from harness.plans import KIND, Pair, request

CONFIGURATION = {"server": KIND}

APP = r"""
import asyncio
import contextlib
import contextvars
import gc
import io
import threading
import time
from collections.abc import Generator
from typing import Annotated

import anyio
from anyio import from_thread
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Form, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect

app = FastAPI()
events = []
local = contextvars.ContextVar("local", default="none")
gates = {}


def gate(name):
    return gates.setdefault(name, threading.Event())


def where():
    return "loop" if threading.current_thread() is threading.main_thread() else "thread"


@app.get("/")
async def root():
    return "here"


@app.get("/events")
async def told():
    found = events[:]
    events.clear()
    return found


@app.get("/open/{name}")
async def opened(name: str):
    gate(name).set()


@app.get("/def")
def threaded():
    return where()


def pieces(count, size):
    for n in range(count):
        yield bytes([65 + n % 26]) * size


@app.get("/pieces/{count}/{size}")
def counted(count: int, size: int):
    return StreamingResponse(pieces(count, size), 203, {"x-own": "1"}, "application/x-own")


@app.get("/async-def/{count}/{size}")
async def awaited(count: int, size: int):
    return StreamingResponse(pieces(count, size))


class Line(BaseModel):
    n: int


class Latin(StreamingResponse):
    media_type = "text/plain"
    charset = "latin-1"


@app.get("/latin")
def latin():
    return Latin(["\u00e4", b"\xe4", "", "\u00f6"])


@app.get("/text")
def text():
    return StreamingResponse(iter(["\u00e4", b"b", "", "\u20ac"]), media_type="text/plain")


@app.get("/unsuitable/{kind}")
def unsuitable(kind: str):
    return StreamingResponse([b"a", {"int": 5, "bytearray": bytearray(b"a")}[kind]])


@app.get("/reused")
def reused():
    def views():
        buffer = bytearray(1000)
        for n in range(100):
            buffer[:] = bytes([n]) * 1000
            yield memoryview(buffer)[: 10 * n]

    return StreamingResponse(views())


@app.get("/file")
def file():
    return StreamingResponse(io.BytesIO(b"one\ntwo\nthree"))


class Iterable:
    def __iter__(self):
        events.append(f"iter {where()}")
        return pieces(3, 3)


@app.get("/iterable")
def iterable():
    return StreamingResponse(Iterable())


class Refusing:
    def __iter__(self):
        raise ValueError("not now")


@app.get("/refusing")
def refusing():
    return StreamingResponse(Refusing())


class Empty:
    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration


@app.get("/none")
def none():
    return StreamingResponse(Empty())


kept = StreamingResponse([b"first", b"second"])


@app.get("/kept")
def keep():
    return kept


@app.get("/status/{status}")
def status(status: int):
    return StreamingResponse(pieces(2, 2), status)


@app.get("/length/{length}")
def length(length: int):
    return StreamingResponse(pieces(3, 2), headers={"content-length": str(length)})


@app.get("/raises/{count}/{kind}")
def raises(count: int, kind: str):
    def failing():
        yield from pieces(count, 5)
        if kind == "http":
            raise HTTPException(418)
        if kind == "stop":
            raise StopIteration
        raise {"value": ValueError, "os": OSError}[kind]("failed")

    return StreamingResponse(failing())


@app.exception_handler(ClientDisconnect)
async def disconnected(request, exc):
    events.append("handled")


@app.get("/contexts")
def contexts():
    def seen():
        for n in range(3):
            yield f"{local.get()},"
            local.set(f"generator {n}")

    local.set("handler")
    return StreamingResponse(seen())


@app.get("/task-context")
async def task_context():
    def seen():
        for n in range(3):
            yield f"{local.get()},"
            local.set(f"generator {n}")

    local.set("task")
    return StreamingResponse(seen())


@app.get("/where")
def which():
    async def main():
        await anyio.sleep(0)
        return where()

    def seen():
        yield where()
        yield from_thread.run(main)
        try:
            asyncio.get_running_loop()
        except RuntimeError as exc:
            yield str(exc)

    return StreamingResponse(seen())


@app.get("/background")
def background(tasks: BackgroundTasks):
    def told():
        yield b"a"
        events.append("last")

    tasks.add_task(lambda: events.append("task"))
    return StreamingResponse(told())


@app.get("/own-background")
def own_background(tasks: BackgroundTasks):
    tasks.add_task(lambda: events.append("other"))
    return StreamingResponse(pieces(2, 2), background=BackgroundTask(events.append, "own"))


def dependency():
    events.append("enter")
    try:
        yield "value"
    except BaseException as exc:
        events.append(type(exc).__name__)
        raise
    finally:
        events.append("exit")


async def coroutine_dependency():
    events.append("async enter")
    yield "value"
    events.append("async exit")


def endless(size=100_000):
    try:
        while True:
            yield bytes(size)
    finally:
        events.append(f"finally {where()}")


@app.get("/depends/{count}")
def depends(count: int, value=Depends(dependency), other=Depends(coroutine_dependency)):
    def told():
        for n in range(count):
            events.append(f"piece {n}")
            yield b"abc"
        events.append("ended")

    return StreamingResponse(told(), background=BackgroundTask(events.append, "task"))


class Starlettes(StreamingResponse):
    # with a method of its own it is sent by Starlette's

    async def stream_response(self, send):
        await super().stream_response(send)


@app.get("/abandoned")
def abandoned(starlettes: bool = False, value=Depends(dependency)):
    kind = Starlettes if starlettes else StreamingResponse
    return kind(endless(), background=BackgroundTask(events.append, "task"))


@app.get("/abandoned-alone")
def abandoned_alone(starlettes: bool = False):
    return (Starlettes if starlettes else StreamingResponse)(endless())


class Guarded:
    # whether a piece is being taken while nobody may take any

    running = taken = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.running += 1
        time.sleep(0.002)
        self.taken += 1
        self.running -= 1
        return bytes(50_000)


def watching():
    guarded = Guarded()
    try:
        yield guarded
    finally:
        inside, taken = guarded.running, guarded.taken
        time.sleep(0.05)
        events.append([inside, guarded.running, guarded.taken - taken])


@app.get("/watched")
def watched(source=Depends(watching)):
    return StreamingResponse(source)


@app.get("/lines/{count}")
def lines(count: int):
    for n in range(count):
        yield {"n": n, "thread": where(), "context": local.get()}
        local.set("set")


router = APIRouter(prefix="/included")


@router.get("/lines/{count}")
def typed_lines(count: int, value=Depends(dependency)) -> Generator[Line]:
    for n in range(count):
        yield Line(n=n)
    events.append("ended")


@router.get("/raw", response_class=StreamingResponse)
def raw():
    yield b"a"
    yield "b"


@router.post("/form")
def form(count: Annotated[int, Form()]):
    return StreamingResponse(pieces(count, 100))


app.include_router(router)


def turning(name):
    yield b"before"
    gate(name).wait()
    yield b"after"


@app.get("/turning/{name}")
def turn(name: str):
    return StreamingResponse(turning(name))


@app.get("/dozing")
def dozing():
    def doze():
        while True:
            yield b"a"
            time.sleep(0.02)

    return StreamingResponse(doze())


@app.get("/late/{name}")
def late(name: str):
    def waiting():
        gate(name).wait()
        yield b"late"

    return StreamingResponse(waiting())


@app.get("/ahead/{size}")
def ahead(size: int):
    def counting():
        for n in range(1000):
            events.append(n)
            yield bytes(size)

    return StreamingResponse(counting())


@app.get("/hops")
async def hops():
    from databridge.plans import streams
    count = [0]
    in_thread = streams.in_thread

    def counted(*args):
        count[0] += 1
        return in_thread(*args)

    streams.in_thread = counted
    app.state.hops = count


@app.get("/hops-made")
async def hops_made():
    made, app.state.hops[0] = app.state.hops[0], 0
    return made


@app.get("/cycles")
async def cycles():
    from databridge.plans.streams import Ahead
    gc.disable()
    return sum(isinstance(found, Ahead) for found in gc.get_objects())
"""


@pytest.fixture(scope="module")
def pair(shared_app: Nginx, shared_uvicorn: Uvicorn) -> Iterator[Pair]:
    with Pair(shared_app, shared_uvicorn) as found:
        yield found


def log(pair: Pair) -> list[str]:
    """What the application has done since the last time, the same on both sides."""
    pair.leave()
    found: dict[int, list[str]] = {pair.nginx.port: [], pair.uvicorn.port: []}

    def agree() -> bool:
        for port, lines in found.items():
            lines += json.loads(pair.ask(port, request("GET", "/events"), "GET").body)
        ours, theirs = found.values()
        return ours == theirs

    assert eventually(agree), found
    return found[pair.nginx.port]


def events(server: Nginx | Uvicorn, wanted: int) -> list[Any]:
    """So many of what the application has done."""
    found: list[Any] = []

    def come() -> bool:
        found.extend(server.client.get("/events").json())
        return len(found) >= wanted

    until("the events", come)
    return found


SAME = [
    *("/pieces/1/1", "/pieces/0/0", "/pieces/3/0", "/pieces/2000/100", "/pieces/100/20000"),
    *("/pieces/40/65536", "/async-def/5/5", "/latin", "/text", "/reused", "/file", "/none"),
    *("/contexts", "/task-context", "/where", "/status/201", "/length/6", "/status/404"),
]


@pytest.mark.parametrize("path", SAME)
def test_a_stream_of_an_iterator_is_as_under_uvicorn(pair: Pair, path: str) -> None:
    for _ in range(2):
        pair.same("GET", path)


@pytest.mark.parametrize("path", ["/lines/500", "/included/lines/500", "/included/raw"])
def test_a_generator_that_is_an_endpoint_is_streamed_as_well(pair: Pair, path: str) -> None:
    pair.same("GET", path, kind="asgi")
    assert log(pair) == (["enter", "ended", "exit"] if "included/lines" in path else [])


def test_a_route_without_a_plan_streams_as_well(pair: Pair) -> None:
    form = ("Content-Type", "application/x-www-form-urlencoded")
    pair.same("POST", "/included/form", [form], b"count=1000", kind="asgi")


def test_a_response_that_is_returned_twice_has_no_more_pieces(pair: Pair) -> None:
    assert [pair.same("GET", "/kept").body for _ in range(3)] == [b"firstsecond", b"", b""]


def test_an_iterable_is_asked_for_its_iterator_on_the_loop(pair: Pair) -> None:
    pair.same("GET", "/iterable")
    assert log(pair) == ["iter loop"]


def cut(port: int, path: str, headers: str = "") -> tuple[int, bytes, bool]:
    """The status, the body as far as it comes, and whether it has an end."""
    with Raw(port) as client:
        client.get(path, f"Connection: close\r\n{headers}")
        head = client.head()
        rest = client.buffer
        while data := client.socket.recv(65536):
            rest += data
    if "transfer-encoding" not in head.headers:
        return head.status, rest, len(rest) == int(head.headers["content-length"])
    body, size = b"", 1
    while rest and size:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line, 16)
        body, rest = body + rest[:size], rest[size + 2 :]
    return head.status, body, size == 0


@pytest.mark.parametrize(
    "path",
    [
        *("/raises/1/value", "/raises/2/http", "/raises/500/stop", "/raises/3/os"),
        *("/unsuitable/int", "/unsuitable/bytearray", "/length/4", "/length/5", "/length/8"),
    ],
)
def test_what_comes_before_an_exception_is_sent(pair: Pair, path: str) -> None:
    ours, theirs = cut(pair.nginx.port, path), cut(pair.uvicorn.port, path)
    assert ours == theirs
    log(pair)


@pytest.mark.parametrize("path", ["/raises/0/value", "/refusing", "/raises/0/os"])
def test_an_exception_before_the_first_piece_is_a_server_error(
    shared_app: Nginx, path: str
) -> None:
    assert shared_app.client.get(path).status_code == 500


@pytest.mark.parametrize("path", ["/depends/3", "/depends/300", "/background", "/own-background"])
def test_what_follows_a_stream_runs_after_it(pair: Pair, path: str) -> None:
    pair.same("GET", path)
    assert log(pair)


def ended(server: Nginx) -> list[str]:
    """What the application has done, up to the end of the iterator."""
    found: list[str] = []

    def come() -> bool:
        found.extend(server.client.get("/events").json())
        return any(event.startswith("finally") for event in found)

    until("the iterator's end", come)
    return found


def abandon(port: int, path: str) -> None:
    """Leaves in the midst of the stream."""
    with Raw(port) as client:
        client.get(path)
        client.head()
        client.exactly(1000)


@pytest.mark.parametrize("path", ["/abandoned", "/abandoned-alone"])
def test_an_iterator_whose_client_leaves_ends_as_starlettes_does(
    shared_app: Nginx, path: str
) -> None:
    abandon(shared_app.port, f"{path}?starlettes=true")
    expected = ended(shared_app)
    abandon(shared_app.port, path)
    assert ended(shared_app) == expected


def test_no_piece_is_taken_while_dependencies_end(shared_app: Nginx) -> None:
    for _ in range(5):
        abandon(shared_app.port, "/watched")
        assert events(shared_app, 1) == [[0, 0, 0]]


def test_a_piece_leaves_before_the_next_one_is_there(shared_app: Nginx) -> None:
    with Raw(shared_app.port) as client:
        client.get("/turning/early")
        assert client.head().status == 200
        assert client.chunk() == b"before"
        assert shared_app.client.get("/open/early").status_code == 200
        assert client.chunk() == b"after"
        assert client.chunk() == b""


def test_slow_clients_hold_no_thread(app: StartApp) -> None:
    server = app(APP, http="databridge_sync_threads 1;", **CONFIGURATION)
    with Raw(server.port) as one, Raw(server.port) as other:
        for client in one, other:
            client.get("/abandoned-alone")
            assert client.head().status == 200
        for _ in range(10):
            assert server.client.get("/def").json() == "thread"


def test_iterators_that_take_their_time_share_a_thread(app: StartApp) -> None:
    server = app(APP, http="databridge_sync_threads 1;", **CONFIGURATION)
    with Raw(server.port) as one, Raw(server.port) as other:
        for client in one, other:
            client.get("/dozing")
            assert client.head().status == 200
        for _ in range(3):
            assert set(one.chunk()) == set(other.chunk()) == set(b"a")
            assert server.client.get("/def").json() == "thread"


def test_only_so_much_is_taken_ahead_of_a_client_that_does_not_read(app: StartApp) -> None:
    server = app(APP, **CONFIGURATION)
    with Raw(server.port) as client:
        client.get("/ahead/100000")
        assert client.head().status == 200
        taken = [len(events(server, 1))]

        def settled() -> bool:
            taken.append(len(server.client.get("/events").json()))
            return taken[-1] == 0

        until("the iterator to wait", settled)
        assert sum(taken) <= 200


def test_many_small_pieces_cost_a_few_hops(app: StartApp) -> None:
    server = app(APP, **CONFIGURATION)
    server.client.get("/hops")
    for path in ("/pieces/2000/100", "/lines/2000", "/included/lines/2000"):
        assert server.client.get(path).is_success
        assert 1 <= server.client.get("/hops-made").json() <= 2000 // 20


def test_a_stream_begins_when_the_time_for_its_start_is_over(app: StartApp) -> None:
    server = app(APP, http="databridge_timeout 1s;", **CONFIGURATION)
    with Raw(server.port) as client:
        client.get("/late/piece")
        assert client.head().status == 200
        assert server.client.get("/open/piece").status_code == 200
        assert client.chunk() == b"late"
        assert client.chunk() == b""


def test_no_stream_leaves_a_cycle(app: StartApp) -> None:
    server = app(APP, **CONFIGURATION)
    server.client.get("/cycles")
    for path in ("/pieces/20/60000", "/raises/3/value", "/raises/0/os", "/abandoned", "/text"):
        for _ in range(3):
            if path == "/abandoned":
                abandon(server.port, path)
            else:
                cut(server.port, path)
    until("the streams", lambda: server.client.get("/cycles").json() == 0)


BELOW = (
    APP
    + r"""

class Watching:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        headers = dict(scope.get("headers", []))
        bodies = []

        async def seen(message):
            if message["type"] == "http.response.body":
                bodies.append(len(message["body"]))
                if b"x-fail" in headers:
                    while "raised" not in events:
                        time.sleep(0.001)
                    raise RuntimeError("not sent")
            await send(message)

        try:
            if headers.get(b"x-cancel") == b"anyio":
                with anyio.move_on_after(0.1):
                    await self.app(scope, receive, seen)
                events.append("moved on")
                return
            if headers.get(b"x-cancel") == b"asyncio":
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.app(scope, receive, seen), 0.1)
                events.append("moved on")
                return
            if b"x-old" in headers:
                scope["asgi"] = {**scope["asgi"], "spec_version": "2.3"}
            await self.app(scope, receive, seen)
        finally:
            if b"x-seen" in headers:
                events.append(bodies)


app.add_middleware(Watching)


@app.get("/held")
def held(value=Depends(dependency)):
    def holding():
        yield b"first"
        time.sleep(0.5)
        events.append("still in it")
        yield b"second"
        events.append("never")

    return StreamingResponse(holding())


@app.get("/raises-ahead")
def raises_ahead():
    def failing():
        yield b"first"
        events.append("raised")
        raise ValueError("too late")

    return StreamingResponse(failing())
"""
)


def test_middleware_sees_each_piece(app: StartApp) -> None:
    server = app(BELOW, **CONFIGURATION)
    for headers in ({"x-seen": "1"}, {"x-seen": "1", "x-old": "1"}):
        assert server.client.get("/pieces/30/7", headers=headers).content
        assert events(server, 1) == [[7] * 30 + [0]]


@pytest.mark.parametrize("library", ["anyio", "asyncio"])
def test_a_stream_that_is_cancelled_waits_for_its_thread(app: StartApp, library: str) -> None:
    server = app(BELOW, **CONFIGURATION)
    with Raw(server.port) as client:
        client.get("/held", f"x-cancel: {library}\r\n")
        assert client.head().status == 200
        found = events(server, 4)
    assert found == ["enter", "still in it", "CancelledError", "exit", "moved on"]


def test_an_exception_that_nobody_waits_for_is_not_reported(app: StartApp) -> None:
    server = app(BELOW, **CONFIGURATION)
    for _ in range(5):
        cut(server.port, "/raises-ahead", "x-fail: 1\r\n")
        assert events(server, 1) == ["raised"]
    assert server.logged("not sent")
    assert not server.error_log.find("too late")
