"""A request leaves nothing that only the garbage collector would find."""

import pytest

from conftest import StartApp
from harness import Nginx
from harness.websocket import WebSocket, closing, handshake

ASGI = """
import asyncio
import gc

before = 0


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return

    path = scope["path"]
    if scope["type"] == "websocket":
        await receive()
        if path == "/denied":
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        if path == "/raise":
            raise RuntimeError("on purpose")
        if path == "/close":
            await send({"type": "websocket.close"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return

    body = b"here"
    if path == "/begin":
        gc.collect()
        gc.disable()
    elif path == "/end":
        body = str(gc.collect()).encode()
        gc.enable()
    elif path == "/suspended":
        await asyncio.sleep(0)
        await asyncio.sleep(0.0001)
    elif path == "/task":
        await asyncio.gather(asyncio.create_task(asyncio.sleep(0)), asyncio.sleep(0))
    elif path == "/body":
        while (await receive()).get("more_body"):
            pass
    elif path == "/raise":
        raise RuntimeError("on purpose")
    elif path == "/raise-after-a-sleep":
        await asyncio.sleep(0.0001)
        raise RuntimeError("on purpose")
    elif path == "/nothing":
        return
    elif path == "/thread":
        await asyncio.to_thread(str)
    elif path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})
        return
    elif path == "/cycle":
        cycle = []
        cycle.append(cycle)
    elif path == "/large":
        body = b"x" * 100_000
    elif path == "/timeout":
        await asyncio.sleep(60)
    elif path == "/wait-for-the-client":
        while (await receive())["type"] != "http.disconnect":
            pass
        return

    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""

ANSWERED = [
    "/",
    "/suspended",
    "/task",
    "/body",
    "/raise",
    "/raise-after-a-sleep",
    "/nothing",
    "/thread",
    "/stream",
    "/large",
]

FASTAPI = """
import asyncio
import gc

from databridge import App, HTTPException, Model

app = App()


class Item(Model):
    name: str


@app.get("/begin")
async def begin():
    gc.collect()
    gc.disable()


@app.get("/end")
async def end():
    try:
        return gc.collect()
    finally:
        gc.enable()


@app.get("/async/{number}")
async def read(number: int):
    return number


@app.get("/def/{number}")
def read_def(number: int):
    return number


@app.post("/item")
async def item(item: Item):
    return item


@app.get("/missing")
async def missing():
    raise HTTPException(404)


@app.get("/sleep")
async def sleep():
    await asyncio.sleep(0.0001)
    return "slept"
"""


def begin(server: Nginx) -> None:
    assert server.client.get("/begin").status_code == 200


def garbage(server: Nginx) -> int:
    return int(server.client.get("/end").text)


@pytest.mark.parametrize("path", ANSWERED)
def test_a_request_leaves_no_reference_cycle(app: StartApp, path: str) -> None:
    server = app(ASGI)
    content = b"x" * 2000 if path == "/body" else None

    def ask(times: int) -> None:
        for _ in range(times):
            server.client.request("POST" if content else "GET", path, content=content)

    ask(5)
    begin(server)
    ask(100)
    assert garbage(server) == 0


def test_a_request_past_its_time_leaves_no_reference_cycle(app: StartApp) -> None:
    timed = "location = /timeout { databridge_app app:app; databridge_timeout 20ms; }"
    server = app(ASGI, server=timed)
    server.client.get("/timeout")
    begin(server)
    for _ in range(30):
        assert server.client.get("/timeout").status_code == 504
    assert garbage(server) == 0


def test_a_client_that_leaves_leaves_no_reference_cycle(app: StartApp) -> None:
    server = app(ASGI)

    def leave(times: int) -> None:
        for number in range(times):
            client = server.raw()
            client.get("/wait-for-the-client")
            server.client.get("/")
            client.reset() if number % 2 else client.socket.close()

    leave(5)
    begin(server)
    leave(50)
    assert garbage(server) == 0


@pytest.mark.parametrize("path", ["/echo", "/vanish", "/close", "/raise", "/denied"])
def test_a_websocket_leaves_no_reference_cycle(app: StartApp, path: str) -> None:
    server = app(ASGI)

    def converse(times: int) -> None:
        for _ in range(times):
            with WebSocket(server.port) as client:
                if path == "/denied":
                    client.send(handshake(path))
                    assert client.response().status == 403
                    continue
                client.open(path)
                if path in ("/close", "/raise"):
                    assert client.closed_with()[0] in (1000, 1011)
                    continue
                client.text("here")
                assert client.message() == "here"
                if path == "/echo":
                    client.send(closing(1000))
                    assert client.closed_with()[0] == 1000

    converse(5)
    begin(server)
    converse(50)
    assert garbage(server) == 0


@pytest.mark.parametrize("path", ["/async/1", "/async/x", "/def/1", "/item", "/missing", "/sleep"])
def test_a_request_to_a_route_leaves_no_reference_cycle(app: StartApp, path: str) -> None:
    server = app(FASTAPI, ready="/docs")

    def ask(times: int) -> None:
        for _ in range(times):
            if path == "/item":
                server.client.post(path, json={"name": "x"})
            else:
                server.client.get(path)

    ask(5)
    begin(server)
    ask(100)
    assert garbage(server) == 0


def test_a_reference_cycle_is_noticed(app: StartApp) -> None:
    server = app(ASGI)
    begin(server)
    for _ in range(10):
        server.client.get("/cycle")
    assert garbage(server) == 10
