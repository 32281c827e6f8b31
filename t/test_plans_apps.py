"""Applications with something around their routes, under both servers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from conftest import StartApp, StartUvicorn
from harness import Nginx, Uvicorn
from harness.plans import KIND, Pair
from harness.wait import until

Serve = Callable[..., Pair]

HEAD = """
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

"""

ROUTES = """

def generated():
    yield "generated"

@app.get("/plain")
async def plain(n: int = 1):
    return {"n": n}

@app.get("/vary")
async def vary(response: Response):
    response.headers["Vary"] = "Accept"
    return 1

@app.get("/given")
async def given(kind: str = "json"):
    match kind:
        case "json":
            return JSONResponse(1)
        case "vary":
            return PlainTextResponse("a", headers={"Vary": "Accept"})
        case "stream":
            return StreamingResponse(iter([b"a"]))

@app.get("/raise")
async def raising(n: int = 400):
    raise HTTPException(n)

@app.get("/yield")
def yielding(x: Annotated[str, Depends(generated)]):
    return x

@app.get("/object")
async def object_():
    return {1, 2}
"""

PATHS = (
    *(
        "/plain",
        "/plain?n=5",
        "/plain?n=a",
        "/vary",
        "/given",
        "/given?kind=vary",
        "/raise",
        "/yield",
    ),
    *("/given?kind=stream", "/object", "/given?kind=none"),
)


@pytest.fixture
def serve(app: StartApp, uvicorn: StartUvicorn) -> Iterator[Serve]:
    """Both servers of an application, of which this is the code."""
    with ExitStack() as stack:

        def start(code: str, **configuration: Any) -> Pair:
            code = HEAD + code
            return stack.enter_context(Pair(app(code, server=KIND, **configuration), uvicorn(code)))

        yield start


def test_cors_is_left_out_only_without_an_origin(serve: Serve) -> None:
    pair = serve(
        """
app = FastAPI()
app.add_middleware(
    CORSMiddleware, allow_origins=["http://a"], allow_credentials=True, expose_headers=["X-A"]
)
"""
        + ROUTES
    )
    for path in PATHS:
        answer = pair.same("GET", path)
        assert any(name == b"vary" for name, _ in answer.headers), path
        for origin in ("http://a", "http://b"):
            pair.same("GET", path, [("Origin", origin)], kind="asgi")
    preflight = [("Origin", "http://a"), ("Access-Control-Request-Method", "GET")]
    pair.same("OPTIONS", "/plain", preflight, kind=None)
    pair.same("OPTIONS", "/plain", kind="asgi")


def test_hosts_are_asked_of_each_request(serve: Serve) -> None:
    pair = serve(
        """
app = FastAPI()
HOSTS = ["a.example", "*.B.example", "www.c.example"]
app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
"""
        + ROUTES
    )
    for host in ("a.example", "a.example:80", "x.b.example", "x.y.b.example:5"):
        assert pair.same("GET", "/plain", [("Host", host)]).status == 200
    for host in ("A.Example", "x.y.B.example"):
        assert pair.same("GET", "/plain", [("Host", host)], kind=None).status == 200
    for host in (
        "b.example",
        "c.example",
        "aa.example",
        "a.example.",
        "a.example:x",
        "[::1]",
    ):
        pair.same("GET", "/plain", [("Host", host)], kind=None)


def test_plain_http_is_redirected(serve: Serve) -> None:
    pair = serve("app = FastAPI()\napp.add_middleware(HTTPSRedirectMiddleware)\n" + ROUTES)
    for path in PATHS:
        assert pair.same("GET", path, kind="asgi").status == 307


def test_other_middleware_is_kept(serve: Serve) -> None:
    pair = serve("app = FastAPI()\napp.add_middleware(GZipMiddleware, minimum_size=1)\n" + ROUTES)
    for path in PATHS:
        pair.same("GET", path, kind="asgi")
        pair.same("GET", path, [("Accept-Encoding", "gzip")], kind="asgi")
    pair.nginx.logged("plans run below GZipMiddleware")


def test_an_applications_own_handlers_answer(serve: Serve) -> None:
    pair = serve(
        """
app = FastAPI(debug=False)

@app.exception_handler(RequestValidationError)
async def invalid(request, exc):
    return PlainTextResponse(f"invalid {exc.errors()[0]['loc']}", 400)

@app.exception_handler(HTTPException)
def refused(request, exc):
    return JSONResponse({"refused": exc.status_code}, exc.status_code, {"X-A": "1"})

@app.exception_handler(404)
async def none(request, exc):
    return PlainTextResponse("nothing here", 404)

@app.exception_handler(Exception)
async def failed(request, exc):
    return PlainTextResponse(f"failed: {type(exc).__name__}", 500)

@app.get("/fail")
async def fail(n: int = 0):
    return 1 // n

@app.get("/model")
async def model() -> list[int]:
    return ["a"]
"""
        + ROUTES
    )
    for path in (*PATHS, "/raise?n=404", "/raise?n=503", "/fail", "/fail?n=1", "/model"):
        pair.same("GET", path)
    pair.same("GET", "/none", kind="asgi")


def test_what_a_response_was_invalid_for_is_said_with_its_path(serve: Serve) -> None:
    pair = serve(
        """
from fastapi.exceptions import ResponseValidationError

app = FastAPI()

@app.exception_handler(ResponseValidationError)
async def invalid(request, exc):
    found = [exc.endpoint_path, exc.endpoint_function, exc.endpoint_line, exc.errors(), exc.body]
    return JSONResponse([*found, (exc.endpoint_ctx or {}).get("path")], 500)

@app.api_route("/model/{x}", methods=["GET", "POST"])
async def model(x: int) -> list[int]:
    return ["a"]

@app.get("/def")
def of_def() -> list[int]:
    return 5
"""
    )
    for _ in range(2):
        pair.same("GET", "/model/1")
        pair.same("POST", "/model/2")
        pair.same("GET", "/def")


@pytest.mark.parametrize("middleware", ["", "app.add_middleware(GZipMiddleware)"])
def test_a_result_is_validated_once(serve: Serve, middleware: str) -> None:
    pair = serve(
        f"""
from typing import Any
from pydantic import BaseModel, field_serializer, model_validator

app = FastAPI()
{middleware}
"""
        + """
seen = []

class Counted(BaseModel):
    x: int

    @model_validator(mode="before")
    @classmethod
    def count(cls, value):
        seen.append("validated")
        return value

    @field_serializer("x")
    def of_x(self, x):
        seen.append("written")
        return 1 // x

class Stuck:
    pass

def numbers():
    yield "a"

async def opened():
    yield 1

class Raises(BaseModel):
    x: int

    @model_validator(mode="before")
    @classmethod
    def fail(cls, value):
        raise LookupError("looked up")

@app.get("/iterator")
async def iterator() -> list[int]:
    return (x for x in ["a"])

@app.get("/def")
def of_def() -> list[int]:
    return numbers()

@app.get("/yield")
async def of_yield(x: Annotated[int, Depends(opened)]) -> list[int]:
    return numbers()

@app.get("/unwritable")
async def unwritable() -> list[Any]:
    return (Stuck() for _ in range(2))

@app.get("/counted/{x}")
async def counted(x: str) -> Counted:
    return {"x": x}

@app.get("/counted/yield/{x}")
async def counted_yield(x: str, y: Annotated[int, Depends(opened)]) -> Counted:
    return {"x": x}

@app.get("/raises")
async def raises() -> Raises:
    return {"x": 1}

@app.get("/seen")
async def of_seen() -> list[str]:
    found = seen[:]
    seen.clear()
    return found

@app.exception_handler(Exception)
async def failed(request, exc):
    return PlainTextResponse(f"{type(exc).__name__} {type(exc.__context__).__name__}", 500)
"""
    )
    kind = "asgi" if middleware else "plan"
    for path in ("/iterator", "/def", "/yield", "/unwritable", "/raises"):
        pair.same("GET", path, kind=kind)
    for path in ("/counted/1", "/counted/a", "/counted/0", "/counted/yield/a", "/counted/yield/0"):
        pair.same("GET", path, kind=kind)
        pair.same("GET", "/seen", kind=kind)


@pytest.mark.parametrize("root", ["/api", "/plain"])
def test_root_path_of_the_application(serve: Serve, root: str) -> None:
    pair = serve(
        f"""
import warnings
warnings.simplefilter("ignore")
app = FastAPI(root_path="{root}")

@app.get("/url")
async def url(request: Request):
    return [str(request.url_for("plain")), request.scope["root_path"], request.url.path]

@app.get("/{{x}}/{{y}}")
async def two(x: str, y: str):
    return [x, y]
"""
        + ROUTES
    )
    for path in (
        "/plain",
        f"{root}/plain",
        "/url",
        f"{root}/url",
        root,
        f"{root}/",
        "/a/b",
        "/x/plain",
    ):
        pair.same("GET", path, kind=None)
    assert pair.same("GET", "/url").status == 200


def test_overrides_and_routes_at_run_time_end_the_plans(serve: Serve) -> None:
    pair = serve(
        """
app = FastAPI()

def overridden():
    return "original"

@app.get("/x")
async def x(value: Annotated[str, Depends(overridden)]):
    return value

@app.get("/override")
async def override(on: bool):
    app.dependency_overrides.clear()
    if on:
        app.dependency_overrides[overridden] = lambda: "override"

@app.get("/add")
async def add():
    app.get("/added")(add)
"""
    )
    assert pair.same("GET", "/x").body == b'"original"'
    pair.same("GET", "/override?on=1")
    assert pair.same("GET", "/x", kind=None).body == b'"override"'
    pair.same("GET", "/override?on=0", kind=None)
    assert pair.same("GET", "/x").body == b'"original"'
    pair.same("GET", "/add")
    assert pair.same("GET", "/added", kind=None).status == 200
    assert pair.same("GET", "/x", kind=None).body == b'"original"'
    pair.nginx.logged("runs without plans: the application has dependency_overrides")


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("fastapi.routing", "serialize_response"),
        ("JSONResponse", "render"),
        ("Response", "__call__"),
        ("FastAPI", "__call__"),
    ],
)
def test_what_is_patched_at_run_time_ends_the_plans(serve: Serve, owner: str, name: str) -> None:
    pair = serve(
        f"""
import functools
import fastapi.routing

app = FastAPI()

@app.get("/x")
async def x():
    return [1, 2]

@app.get("/patch")
async def patch():
    @functools.wraps({owner}.{name})
    def traced(*args, original={owner}.{name}, **named):
        return original(*args, **named)

    {owner}.{name} = traced
"""
    )
    assert pair.same("GET", "/x").status == 200
    pair.same("GET", "/patch")
    for _ in range(3):
        assert pair.same("GET", "/x", kind=None).body == b"[1,2]"
    assert len(pair.nginx.logged(f"runs without plans: {owner} was patched")) == 1


def test_a_limit_of_bodies_is_fastapis(serve: Serve) -> None:
    pair = serve(
        """
app = FastAPI(max_body_size=10)

@app.post("/body")
async def body(x: list[int]):
    return x

@app.post("/none")
async def none():
    return 1
"""
        + ROUTES
    )
    for size in (2, 10, 11, 1000):
        text = b"[" + b" " * (size - 2) + b"]"
        pair.same("POST", "/body", [("Content-Type", "application/json")], text, kind="asgi")
        pair.same("POST", "/none", (), text, kind="asgi")
    pair.same("POST", "/none")
    pair.same("GET", "/plain")


def test_state_of_the_lifespan_is_in_each_request(serve: Serve) -> None:
    pair = serve(
        """
from contextlib import asynccontextmanager

@asynccontextmanager
async def lifespan(app):
    @app.get("/late")
    async def late():
        return "late"
    yield {"made": [1]}

app = FastAPI(lifespan=lifespan)

@app.get("/state")
async def state(request: Request, add: int = 0):
    request.state.own = add
    return [request.state.made, request.state.own, len(request.scope["state"])]
"""
    )
    for path in ("/state", "/state?add=5", "/state", "/late"):
        pair.same("GET", path)


def test_an_exit_never_waits_for_a_thread_that_waits_for_it(app: StartApp) -> None:
    server = app(
        HEAD
        + """
import threading

app = FastAPI()
lock = threading.Lock()

def session():
    assert lock.acquire(timeout=20)
    yield "session"
    lock.release()

@app.get("/x")
async def x(value: Annotated[str, Depends(session)]):
    return value
""",
        server=KIND,
        http="databridge_sync_threads 1;",
    )
    with ExitStack() as stack:
        clients = [stack.enter_context(server.raw()) for _ in range(8)]
        for client in clients:
            client.get("/x")
        for client in clients:
            answer = client.response()
            assert answer.body == b'"session"'
            assert answer.values("x-kind") == [b"plan"]


LEAVING = """
import asyncio

from fastapi import BackgroundTasks

app = FastAPI()
events = {}

def noting(name, key):
    async def dependency():
        try:
            yield name
            events[key].append(f"{name} went on")
        except BaseException as exc:
            events[key].append(f"{name} saw {exc!r}")
            raise
    return dependency

async def late(key: str):
    async for value in noting("late", key)():
        yield value

def threaded(key: str):
    try:
        yield "threaded"
        events[key].append("threaded went on")
    except BaseException as exc:
        events[key].append(f"threaded saw {exc!r}")
        raise

async def left(request, key):
    events[key] = ["begun"]
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)

@app.get("/yields")
async def yields(
    request: Request,
    key: str,
    a: Annotated[str, Depends(late)],
    b: Annotated[str, Depends(threaded)],
):
    await left(request, key)
    return [a, b]

@app.get("/raises")
async def raises(request: Request, key: str, a: Annotated[str, Depends(threaded)]):
    await left(request, key)
    raise HTTPException(404)

@app.get("/returned")
async def returned(request: Request, key: str, a: Annotated[str, Depends(threaded)]):
    await left(request, key)
    return JSONResponse(a)

@app.get("/tasks")
async def tasks(request: Request, key: str, tasks: BackgroundTasks):
    await left(request, key)
    tasks.add_task(events[key].append, "task done")
    return "returned"

@app.get("/events")
async def read_events(key: str):
    return events.get(key, [])
"""


@pytest.mark.parametrize("around", ["", "app.add_middleware(GZipMiddleware)"])
def test_user_code_does_not_hear_that_the_client_of_a_whole_response_has_left(
    serve: Serve, around: str
) -> None:
    pair = serve(LEAVING + around)

    def noted(server: Nginx | Uvicorn, path: str, count: int) -> list[str]:
        def events() -> list[str]:
            found: list[str] = server.client.get(f"/events?key={path}").json()
            return found

        with server.raw() as client:
            client.get(f"/{path}?key={path}")
            until(f"the beginning of {path}", events)
        until(f"the end of {path}", lambda: len(events()) == count)
        return events()

    for path, count in (("yields", 3), ("raises", 2), ("returned", 2), ("tasks", 2)):
        assert noted(pair.nginx, path, count) == noted(pair.uvicorn, path, count)


REFUSALS = """
import time

from fastapi import BackgroundTasks
from starlette.exceptions import HTTPException as Plain

class Own(HTTPException):
    pass

ONE = HTTPException(404, "the same object each time")

def session():
    try:
        yield "session"
    except HTTPException as exc:
        exc.headers = {"X-Seen": str(exc.status_code)}
        raise

@app.get("/refuse")
async def refuse(kind: str, response: Response, tasks: BackgroundTasks):
    response.headers["X-Lost"] = "yes"
    tasks.add_task(time.time)
    match kind:
        case "plain":
            raise Plain(418)
        case "own":
            raise Own(403)
        case "headers":
            raise HTTPException(401, {"why": [1, None]}, {"WWW-Authenticate": "Basic"})
        case "latin":
            raise HTTPException(401, "\u00e9", {"x-a": "\u00e9"})
        case "vary":
            raise HTTPException(401, headers={"Vary": "Accept"})
        case "bodiless":
            raise HTTPException(304, headers={"X-A": "b"})
        case "one":
            raise ONE
        case "unspeakable":
            raise HTTPException(400, {1, 2})
        case "no status":
            raise HTTPException(418, headers={"X-A": 5})
        case _:
            raise HTTPException(int(kind))

@app.get("/from-thread")
def from_thread():
    raise HTTPException(409)

@app.get("/from-session")
def from_session(value: Annotated[str, Depends(session)]):
    raise HTTPException(409)

@app.get("/traceback")
async def traceback():
    return [ONE.__traceback__ is None]
"""

REFUSED = (
    *(
        "plain",
        "own",
        "headers",
        "latin",
        "vary",
        "bodiless",
        "one",
        "one",
        "unspeakable",
        "no status",
    ),
    *("204", "205", "404", "500", "503"),
)


@pytest.mark.parametrize(
    "begun",
    [
        "app = FastAPI()",
        "app = FastAPI()\napp.add_middleware(CORSMiddleware, allow_origins=['http://a'])",
        """
app = FastAPI()

@app.exception_handler(404)
async def missing(request, exc):
    return PlainTextResponse(f"{request.url.path}: {exc.detail}", 404)
""",
        """
app = FastAPI()

@app.exception_handler(HTTPException)
def refused(request, exc):
    return PlainTextResponse(f"{request.url.path}: {exc.detail}", exc.status_code)
""",
    ],
    ids=["plain", "cors", "status handler", "handler"],
)
def test_an_http_exception_is_answered_as_the_application_has_it(serve: Serve, begun: str) -> None:
    pair = serve(begun + REFUSALS)
    for kind in REFUSED:
        pair.same("GET", f"/refuse?kind={kind.replace(' ', '%20')}")
    for path in ("/from-thread", "/from-session", "/traceback"):
        pair.same("GET", path)


ITERATED = """
from http import HTTPStatus

@app.get("/status")
async def status(response: Response) -> list[int]:
    response.status_code = HTTPStatus.CREATED
    return (number for number in (1, 2))  # type: ignore[return-value]

@app.get("/header")
async def header(response: Response) -> list[int]:
    response.headers["Vary"] = "Accept"
    return map(int, "12")  # type: ignore[return-value]
"""


def test_an_iterator_beside_an_injected_response_is_read_once(serve: Serve) -> None:
    cors = "app = FastAPI()\napp.add_middleware(CORSMiddleware, allow_origins=['http://a'])\n"
    pair = serve(cors + ITERATED)
    assert pair.same("GET", "/status").body == pair.same("GET", "/header").body == b"[1,2]"


def test_a_route_with_status_205_answers_without_a_body(app: StartApp) -> None:
    """Under uvicorn its connection is cut: the length is that of the body FastAPI drops."""
    server = app(
        HEAD
        + """
app = FastAPI()

@app.get("/", status_code=205)
async def root():
    return "dropped"
"""
    )
    answer = server.client.get("/")
    assert (answer.status_code, answer.headers["content-length"]) == (205, "0")
    assert server.client.get("/").status_code == 205
