"""Plans below middleware of the user's own, against FastAPI under uvicorn."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from conftest import StartApp, StartUvicorn
from harness.plans import KIND, Pair, request
from harness.wait import until

Serve = Callable[[str], Pair]

HEAD = """
import asyncio
import sys
import time
import uuid
from typing import Annotated

from anyio import fail_after
from fastapi import (
    APIRouter, BackgroundTasks, Cookie, Depends, FastAPI, Header, HTTPException, Path, Query,
    Request, Response,
)
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

class Item(BaseModel):
    name: str
    price: float = 1.5

events = []
app = FastAPI()
"""

ROUTES = """
def who():
    names, frame = set(), sys._getframe(1)
    while frame is not None:
        names.add(frame.f_code.co_name)
        frame = frame.f_back
    return "fastapi" if "run_endpoint_function" in names else "plan"

@app.middleware("http")
async def seen(request, call_next):
    response = await call_next(request)
    if "x-ask" in request.headers:
        response.headers["x-ran"] = getattr(request.state, "ran", "nobody")
    return response

async def shared(request: Request, token: Annotated[str | None, Header()] = None):
    request.state.ran = who()
    return token

def threaded(q: int = 0):
    return q + 1

async def yielding(request: Request):
    events.append("enter")
    try:
        yield "yielded"
    except BaseException as exc:
        events.append(type(exc).__name__)
        raise
    finally:
        events.append("exit")

def of_thread():
    events.append("def enter")
    yield 5
    events.append("def exit")

@app.get("/events")
async def told():
    found = events[:]
    events.clear()
    return found

@app.get("/items/{item}/{ratio:float}/{rest:path}")
async def item(
    request: Request, item: Annotated[int, Path(ge=0)], ratio: float, rest: str, n: int = 1,
    q: Annotated[list[str] | None, Query()] = None, x_a: Annotated[str | None, Header()] = None,
    session: Annotated[str | None, Cookie()] = None,
):
    request.state.ran = who()
    return [item, ratio, rest, n, q, x_a, session]

@app.get("/number/{n}")
async def number(n: int):
    return {"n": n}

@app.post("/items")
async def create(request: Request, item: Item):
    request.state.ran = who()
    return {"item": item, "again": len(await request.body())}

@app.post("/model", response_model=Item, status_code=201)
async def model(item: Item, response: Response):
    response.headers["x-own"] = item.name
    response.set_cookie("a", "b")
    return item

@app.post("/plain")
async def plain(request: Request):
    return [len(await request.body()), request.scope["path"], request.url.query]

@app.get("/deps")
async def deps(a: Annotated[str | None, Depends(shared)], b: Annotated[int, Depends(threaded)]):
    return [a, b]

@app.get("/def")
def of_def(request: Request, b: Annotated[int, Depends(threaded)]):
    return PlainTextResponse(f"def {b}", headers={"x-b": str(b)})

@app.get("/yield")
async def of_yield(
    x: Annotated[str, Depends(yielding)], y: Annotated[int, Depends(of_thread)], fail: int = 0
):
    if fail == 1:
        raise HTTPException(418, "teapot", {"x-tea": "yes"})
    if fail == 2:
        1 / 0
    return [x, y]

@app.get("/raise")
async def raising(n: int = 400):
    if n == 0:
        raise KeyError("own")
    raise HTTPException(n)

@app.get("/invalid/{x}")
async def invalid(x: int) -> list[int]:
    return ["a"]

@app.get("/stream")
async def stream():
    return StreamingResponse(iter([b"a", b"b"]))

@app.get("/object")
async def object_():
    return {1}

@app.get("/nothing", status_code=204)
async def nothing(): ...

@app.get("/tasks")
async def tasks(background: BackgroundTasks):
    background.add_task(events.append, "task")
    return "later"

@app.get("/slow")
def slow(quick: str | None = None):
    if quick is not None:
        time.sleep(0.1)
    events.append("slow")
    return "slow"

@app.get("/wait")
async def wait(n: int):
    await asyncio.sleep(n / 1000)
    return n

inner, outer = APIRouter(prefix="/inner"), APIRouter(dependencies=[Depends(shared)])

@inner.get("/{id}")
async def included(id: uuid.UUID, request: Request):
    return [id, request.url.path, request.scope["route"].path, sorted(request.path_params)]

@inner.put("/{id}")
async def put(id: str, items: list[Item], flag: bool = False):
    return [id, items, flag]

outer.include_router(inner, prefix="/outer")
app.include_router(outer)

@app.exception_handler(KeyError)
async def missing(request, exc):
    return JSONResponse({"missing": str(exc)}, 404)

@app.exception_handler(ResponseValidationError)
async def invalid_response(request, exc):
    return JSONResponse([exc.endpoint_path, (exc.endpoint_ctx or {}).get("path")], 500)
"""

MIDDLEWARE = {
    "none but that of the tests": "",
    "gzip": "app.add_middleware(GZipMiddleware, minimum_size=1)",
    "gzip and CORS": """
app.add_middleware(GZipMiddleware, minimum_size=1)
app.add_middleware(CORSMiddleware, allow_origins=["http://a"])
""",
    "a base": """
class Timing(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        size = len(await request.body())
        response = await call_next(request)
        response.headers["x-size"] = str(size)
        return response
app.add_middleware(Timing)
""",
    "one that changes the scope": """
class Changing:
    def __init__(self, inner):
        self.hidden = inner
    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            scope = dict(scope)
            scope["headers"] = [*scope["headers"], (b"x-a", b"added \\xe9"), [b"x-b", b"listed"]][
                : -1 if b"list" not in scope["query_string"] else None
            ]
            scope["query_string"] = scope["query_string"].replace(b"before", b"5")
            scope["path"] = scope["path"].replace("/old/", "/items/")
            scope["state"] = {**scope.get("state", {}), "session": {"user": 1}}
        await self.hidden(scope, receive, send)
app.add_middleware(Changing)
""",
    "one that changes the messages": """
def shouting(inner):
    async def call(scope, receive, send):
        async def received():
            message = await receive()
            if message["type"] == "http.request":
                message["body"] = message.get("body", b"").replace(b"small", b"LARGE")
            return message
        async def sent(message):
            if message["type"] == "http.response.start":
                assert [type(name) for name, _ in message["headers"]] == [bytes] * len(
                    message["headers"])
                message["headers"] = [*message["headers"], (b"x-seen", b"start")]
            if message["type"] == "http.response.body":
                message["body"] = message.get("body", b"").replace(b"LARGE", b"HUGE!")
            await send(message)
        await inner(scope, received, sent)
    return call
app.add_middleware(shouting)
""",
    "one that answers, raises and limits": """
class Deciding:
    def __init__(self, app):
        self.app = app
    async def __call__(self, scope, receive, send):
        query = scope.get("query_string", b"")
        if b"answer" in query:
            return await PlainTextResponse("answered", 299)(scope, receive, send)
        if b"before" in query:
            raise RuntimeError("before")
        async def refused():
            raise HTTPException(413, "too large")
        async def lost():
            raise ValueError("lost")
        if b"refuse" in query:
            receive = refused
        if b"lose" in query:
            receive = lost
        with fail_after(0.05 if b"quick" in query else 30):
            try:
                await self.app(scope, receive, send)
            except ZeroDivisionError:
                await PlainTextResponse("divided", 598)(scope, receive, send)
app.add_middleware(Deciding)
""",
}

ASK = ("X-Ask", "1")
JSON = ("Content-Type", "application/json")

GETS = (
    *("/items/5/1.5/a/b?n=3&q=a&q=b%20c", "/items/5/2/x?n=before", "/old/5/2/x?list=1"),
    *("/items/-1/2/x", "/items/5/2/x?n=a", "/items/x/2/x", "/number/7", "/number/a", "/number/1.0"),
    *("/deps", "/deps?q=5", "/deps?q=a", "/def?q=2"),
    *("/raise", "/raise?n=0", "/raise?n=503", "/invalid/1", "/stream", "/object", "/nothing"),
    *("/outer/inner/c9a1e9a2-6cc2-4d4d-a0f0-1d3a4d8f3c11", "/outer/inner/none"),
    *(
        "/slow",
        "/slow?quick",
        "/wait?n=1",
        "/tasks",
        "/number/7?answer",
        "/none",
        "/number/7?before",
    ),
)

YIELDS = ("/yield", "/yield?fail=1", "/yield?fail=2", "/yield?fail=a")

BODIES = (
    b'{"name": "small", "price": 2}',
    b'{"name": "\xc3\xa9"}',
    b'{"price": 2}',
    b"[]",
    b"{",
    b"",
    b"null",
    b'{"name": "' + b"x" * 200_000 + b'"}',
)


def left(pair: Pair, port: int) -> list[str]:
    """What dependencies with yield have done, once the outermost is left."""
    found: list[str] = []

    def ended() -> bool:
        found.extend(json.loads(pair.ask(port, request("GET", "/events"), "GET").body))
        return "exit" in found

    until("the end of a dependency", ended)
    return found


@pytest.fixture
def serve(app: StartApp, uvicorn: StartUvicorn) -> Iterator[Serve]:
    """Both servers of an application, with its routes behind these lines."""
    with ExitStack() as stack:

        def start(middleware: str) -> Pair:
            code = HEAD + middleware + ROUTES
            return stack.enter_context(Pair(app(code, server=KIND), uvicorn(code)))

        yield start


@pytest.mark.parametrize("middleware", MIDDLEWARE.values(), ids=MIDDLEWARE)
def test_what_comes_through_middleware_is_answered_as_by_fastapi(
    serve: Serve, middleware: str
) -> None:
    pair = serve(middleware)
    for path in YIELDS:
        pair.same("GET", path, kind="asgi")
        assert left(pair, pair.nginx.port) == left(pair, pair.uvicorn.port), path
    for path in GETS:
        pair.same("GET", path, kind=None)
        headers = [("X-A", "b"), ("Cookie", "session=1; other=2"), ("Token", "t")]
        pair.same("GET", path, [*headers, ("Accept-Encoding", "gzip")], kind=None)
        pair.same("GET", path, [("Origin", "http://a")], kind=None)
    for body in BODIES:
        for path in ("/items", "/model", "/plain", "/items?refuse", "/items?lose", "/plain?lose"):
            pair.same("POST", path, [JSON], body, kind=None)
        pair.same("POST", "/items", [("Content-Type", "text/plain")], body, kind=None)
        pair.same("POST", "/items", (), body, kind=None)
        pair.same("PUT", "/outer/inner/a?flag=on", [JSON], b"[" + body + b"]", kind=None)
    for method in ("HEAD", "OPTIONS", "DELETE"):
        pair.same(method, "/number/7", kind=None)


def test_what_middleware_cancels_ends_as_in_fastapi(serve: Serve) -> None:
    pair = serve(MIDDLEWARE["one that answers, raises and limits"])
    assert pair.same("GET", "/wait?n=20000&quick", kind="asgi").status == 500
    assert pair.same("GET", "/slow?quick", kind="asgi").status == 500
    assert pair.same("GET", "/events", kind="asgi").body == b'["slow"]'


def test_the_plan_runs_and_nothing_of_fastapis(serve: Serve) -> None:
    pair = serve("")

    def ran(method: str, path: str, body: bytes | None = None) -> bytes:
        raw = pair.nginx.raw()
        with raw:
            raw.send(
                f"{method} {path} HTTP/1.1\r\nHost: a\r\nX-Ask: 1\r\nContent-Length: "
                f"{len(body or b'')}\r\nContent-Type: application/json\r\n\r\n".encode()
                + (body or b"")
            )
            (value,) = raw.response().values("x-ran")
            return value

    assert ran("GET", "/items/5/1.5/a") == b"plan"
    assert ran("GET", "/deps?q=5") == b"plan"
    assert ran("POST", "/items", b'{"name": "a"}') == b"plan"
    assert ran("POST", "/items", b"{}") == b"nobody"
    pair.nginx.logged("plans run below BaseHTTPMiddleware")


def test_many_at_once_are_kept_apart(serve: Serve) -> None:
    pair = serve(MIDDLEWARE["a base"])

    def ask(n: int) -> None:
        with pair.nginx.raw() as raw:
            for i in range(5):
                raw.get(f"/wait?n={n + i}")
                assert json.loads(raw.response().body) == n + i
                body = json.dumps({"name": "x" * n * i}).encode()
                raw.send(
                    b"POST /items HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(body) + body
                )
                assert json.loads(raw.response().body)["item"]["name"] == "x" * n * i

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(ask, range(48)))


def test_overrides_are_asked_for_at_each_request(serve: Serve) -> None:
    pair = serve(
        """
@app.get("/override")
async def override(on: bool):
    app.dependency_overrides.clear()
    if on:
        app.dependency_overrides[threaded] = lambda: "override"
"""
    )
    before = pair.same("GET", "/deps", kind="asgi")
    pair.same("GET", "/override?on=1", kind="asgi")
    assert pair.same("GET", "/deps", kind="asgi").body == b'[null,"override"]'
    pair.same("GET", "/override?on=0", kind="asgi")
    assert pair.same("GET", "/deps", kind="asgi") == before


def test_a_limit_of_bodies_is_kept(app: StartApp, uvicorn: StartUvicorn) -> None:
    code = (
        HEAD.replace("FastAPI()", "FastAPI(max_body_size=10)")
        + MIDDLEWARE["gzip"]
        + """
@app.post("/none")
async def none(request: Request):
    return len(await request.body())
"""
    )
    with Pair(app(code, server=KIND), uvicorn(code)) as pair:
        for size in (0, 10, 11, 1000):
            pair.same("POST", "/none", (), b"x" * size, kind="asgi")
        pair.same("POST", "/none", kind="asgi")
