"""The package that users type against, without nginx."""

import asyncio
import contextvars
import logging
import math
import subprocess
import sys
import textwrap
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import fastapi
import pydantic
import pytest
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import NoMatchFound
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import databridge
from databridge import APIRouter, App, BaseMiddleware, CrudError, DatabaseError, Model
from databridge.middleware import CallNext
from databridge.routing import CrudRoute

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

HEAVY = ("fastapi", "starlette", "pydantic", "typer", "asyncio")


def python(script: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=30
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def client_of(app: App, **options: Any) -> "TestClient":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fastapi.testclient import TestClient

    return TestClient(app, **options)


# names


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = python("import sys, databridge; print(*sys.modules)").split()
    assert not set(HEAVY) & set(loaded)


def test_every_name_is_there() -> None:
    for name in databridge.__all__:
        assert getattr(databridge, name) is not None
    assert set(databridge.__all__) <= set(dir(databridge))


def test_names_are_the_libraries_own_classes() -> None:
    assert databridge.Model is pydantic.BaseModel
    assert databridge.HTTPException is fastapi.HTTPException
    assert databridge.Request is fastapi.Request
    assert databridge.ValidationError is pydantic.ValidationError
    assert issubclass(App, fastapi.FastAPI)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vars(databridge)["__getattr__"]("nothing")


# timeouts


def timeouts(router: fastapi.FastAPI | fastapi.APIRouter) -> dict[str, float | None]:
    return {
        route.path: vars(route)["databridge_timeout"]
        for route in router.routes
        if isinstance(route, fastapi.routing.APIRoute)
    }


@pytest.mark.parametrize("make", [App, APIRouter])
@pytest.mark.parametrize(
    "method", ["get", "post", "put", "patch", "delete", "head", "options", "trace"]
)
def test_every_decorator_takes_a_timeout(make: type[App] | type[APIRouter], method: str) -> None:
    router = make()
    decorate = getattr(router, method)

    async def handler() -> None: ...

    decorate("/slow", timeout=2)(handler)
    decorate("/default")(handler)

    assert timeouts(router) == {"/slow": 2.0, "/default": None}
    assert {m for r in router.routes[-2:] for m in vars(r)["methods"]} == {method.upper()}


def test_an_included_router_keeps_its_timeouts() -> None:
    router = APIRouter()

    @router.api_route("/slow", methods=["GET"], timeout=0)
    async def slow() -> str:
        return "slow"

    app = App()
    app.include_router(router, prefix="/in")
    assert client_of(app).get("/in/slow").json() == "slow"

    contexts = list(fastapi.routing.iter_route_contexts(app.routes))
    found = [c.original_route for c in contexts if c.path == "/in/slow"]
    assert [vars(route)["databridge_timeout"] for route in found] == [0.0]


def test_routes_are_fastapis_own() -> None:
    app = App()

    @app.post("/items/{n}", status_code=201, response_model=int, tags=["t"], name="made")
    async def make(n: int) -> str:
        return str(n)

    route = app.routes[-1]
    assert type(route) is fastapi.routing.APIRoute
    answer = client_of(app).post("/items/3")
    assert (answer.status_code, answer.json()) == (201, 3)
    assert app.url_path_for("made", n=3) == "/items/3"
    assert app.openapi()["paths"]["/items/{n}"]["post"]["tags"] == ["t"]


@pytest.mark.parametrize("timeout", [-1, math.inf, math.nan])
def test_a_timeout_out_of_range_is_refused_where_it_is_declared(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must be"):
        App().get("/", timeout=timeout)


@pytest.mark.parametrize("timeout", ["5", True])
def test_a_timeout_that_is_no_number_is_refused(timeout: Any) -> None:
    with pytest.raises(TypeError, match="timeout must be a number"):
        App().get("/", timeout=timeout)


# CRUD declarations


class Article(Model):
    title: str


def crud_routes(app: App) -> list[CrudRoute]:
    return [route for route in app.routes if isinstance(route, CrudRoute)]


def test_crud_takes_its_place_among_the_routes() -> None:
    app = App()

    @app.get("/article/latest")
    async def latest() -> str:
        return "latest"

    app.crud_routes(Article)

    @app.get("/article/{name}")
    async def late(name: str) -> str:
        return "never"

    (route,) = crud_routes(app)
    assert (route.prefix, route.model, route.name) == ("/article", Article, "Article")
    assert route.operations == ("list", "get", "create", "update", "patch", "delete")
    client = client_of(app)
    assert client.get("/article/latest").json() == "latest"
    assert client.get("/article/1").status_code == 503


def test_crud_reached_in_python_says_who_serves_it() -> None:
    app = App()
    app.crud_routes(Article, prefix="/articles")
    client = client_of(app)
    for path in ("/articles", "/articles/1"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert "databridge run" in answer.json()["detail"]
    for path in ("/articles/1/2", "/articles/", "/articlesx", "/"):
        assert client.get(path, follow_redirects=False).status_code in (404, 307)


def test_a_method_crud_does_not_have_is_left_to_later_routes() -> None:
    app = App()
    app.crud_routes(Article, prefix="/articles", operations=["list", "get"])

    @app.post("/articles")
    async def create() -> str:
        return "mine"

    client = client_of(app)
    assert client.get("/articles").status_code == 503
    assert client.post("/articles").json() == "mine"
    assert crud_routes(app)[0].methods == {"GET"}
    assert crud_routes(app)[0].item_methods == {"GET"}


def test_the_decorated_class_sets_options() -> None:
    app = App()

    @app.crud(Article, store="second")
    class Routes:
        """Articles, read only."""

        prefix = "/papers"
        collection = "papers"
        store = "first"
        operations = ("list",)

    assert Routes.prefix == "/papers"
    (route,) = crud_routes(app)
    assert (route.prefix, route.operations) == ("/papers", ("list",))
    assert (route.schema["collection"], route.schema["store"]) == ("papers", "second")


def test_what_is_neither_an_option_nor_a_hook_is_refused_by_name() -> None:
    app = App()
    with pytest.raises(CrudError, match="Routes.before_creation"):

        @app.crud(Article)
        class Routes:
            def before_creation(self) -> None: ...

    assert crud_routes(app) == []


def test_a_decorated_function_is_refused() -> None:
    decorate: Any = App().crud(Article)
    with pytest.raises(CrudError, match="app.crud_routes"):
        decorate(print)


def test_a_second_crud_on_a_prefix_is_refused() -> None:
    class Paper(Model):
        title: str

    app = App()
    app.crud_routes(Article)
    with pytest.raises(CrudError, match="Paper: /article is already .* Article"):
        app.crud_routes(Paper, prefix="/article")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefix": "articles"}, "prefix"),
        ({"prefix": "/articles/"}, "prefix"),
        ({"prefix": "/a/{b}"}, "prefix"),
        ({"operations": "list"}, "operations"),
        ({"operations": []}, "operations"),
        ({"operations": ["read"]}, "operations"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CrudError, match=message):
        App().crud_routes(Article, **options)


def test_crud_of_something_else_is_refused() -> None:
    model: Any = dict
    with pytest.raises(CrudError, match="dict.* is not a model"):
        App().crud_routes(model)


def test_crud_has_urls() -> None:
    app = App()
    app.crud_routes(Article, prefix="/articles")
    assert app.url_path_for("Article") == "/articles"
    assert app.url_path_for("Article", id="7") == "/articles/7"
    with pytest.raises(NoMatchFound):
        app.url_path_for("Article", other="7")


# errors


def failing(**options: Any) -> App:
    app = App(**options)

    @app.get("/crash")
    async def crash() -> None:
        raise KeyError("missing")

    @app.get("/half")
    async def half() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"half"
            raise KeyError("in the middle")

        return StreamingResponse(chunks())

    @app.get("/database/{status}")
    async def database(status: int) -> None:
        raise DatabaseError("UNIQUE constraint failed: secret", status_code=status)

    return app


def test_an_unhandled_exception_is_answered_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = client_of(failing(), raise_server_exceptions=False).get("/crash")
    assert answer.status_code == 500
    assert answer.json() == {"detail": "Internal Server Error"}
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("databridge", logging.ERROR)
    assert f"request {answer.headers['x-request-id']}: " in record.getMessage()
    assert record.exc_info is not None and record.exc_info[0] is KeyError


def test_a_test_client_sees_the_exception() -> None:
    with pytest.raises(KeyError, match="missing"):
        client_of(failing()).get("/crash")


def test_a_server_does_not_see_what_was_answered() -> None:
    messages, _ = asyncio.run(call(failing(), "/crash"))
    assert [m["type"] for m in messages] == ["http.response.start", "http.response.body"]


def test_an_exception_after_the_start_reaches_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(KeyError, match="in the middle"):
        asyncio.run(call(failing(), "/half"))
    assert caplog.records == []


@pytest.mark.parametrize("key", [Exception, 500])
def test_the_users_own_handler_is_left_alone(key: int | type[Exception]) -> None:
    app = failing()

    @app.exception_handler(key)
    async def mine(request: Request, exc: Exception) -> PlainTextResponse:
        return PlainTextResponse("mine", 500)

    answer = client_of(app, raise_server_exceptions=False).get("/crash")
    assert (answer.text, "x-request-id" in answer.headers) == ("mine", False)


def test_debug_keeps_starlettes_page() -> None:
    answer = client_of(failing(debug=True), raise_server_exceptions=False).get("/crash")
    assert "Traceback" in answer.text


@pytest.mark.parametrize(
    ("status", "kind"), [(409, "conflict"), (503, "unavailable"), (504, "timeout")]
)
def test_a_database_error_has_a_status_and_keeps_its_text(
    status: int, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "databridge"):
        answer = client_of(failing()).get(f"/database/{status}")
    assert answer.status_code == status
    assert "secret" not in answer.text
    assert "secret" in caplog.text
    assert DatabaseError(status_code=status).kind == kind
    assert ("retry-after" in answer.headers) == (status == 503)


def test_a_database_error_of_another_status_is_refused() -> None:
    with pytest.raises(ValueError, match="409, 503 or 504"):
        DatabaseError("x", status_code=500)


# middleware

seen = contextvars.ContextVar("seen", default="nothing")


async def call(
    app: ASGIApp,
    path: str = "/",
    body: Iterable[bytes] = (b"",),
    spec: str = "2.4",
    sent: Callable[[Message], Awaitable[None]] | None = None,
) -> tuple[list[Message], bytes]:
    """One request to an ASGI app as a server makes it; its messages and whole body."""
    messages: list[Message] = []
    chunks = list(body)
    left = asyncio.Event()

    async def receive() -> Message:
        if chunks:
            chunk = chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        messages.append(message)
        if sent is not None:
            await sent(message)

    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": spec},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "scheme": "http",
    }
    await app(scope, receive, send)
    return messages, b"".join(m.get("body", b"") for m in messages)


def around(app: ASGIApp, dispatch: Callable[[Request, CallNext], Awaitable[Response]]) -> ASGIApp:
    return BaseMiddleware(app, dispatch)


async def passing(request: Request, call_next: CallNext) -> Response:
    return await call_next(request)


def test_the_handler_runs_in_the_middlewares_task_and_context() -> None:
    tasks: list[asyncio.Task[Any] | None] = []

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        tasks.append(asyncio.current_task())
        value = seen.get()
        seen.set("handler")
        await PlainTextResponse(value)(scope, receive, send)

    async def dispatch(request: Request, call_next: CallNext) -> Response:
        tasks.append(asyncio.current_task())
        seen.set("middleware")
        response = await call_next(request)
        response.headers["x-seen"] = seen.get()
        response.status_code = 202
        return response

    messages, body = asyncio.run(call(around(handler, dispatch)))
    assert tasks[0] is tasks[1]
    assert body == b"middleware"
    assert messages[0]["status"] == 202
    assert (b"x-seen", b"handler") in messages[0]["headers"]
    assert len(messages) == 2


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
@pytest.mark.parametrize("depth", [1, 3])
def test_a_stream_is_not_buffered(spec: str, depth: int) -> None:
    events: list[str] = []

    async def chunks() -> AsyncIterator[bytes]:
        for n in range(3):
            events.append(f"made {n}")
            yield b"%d" % n
            await asyncio.sleep(0)

    async def sent(message: Message) -> None:
        if message.get("body"):
            events.append(f"sent {message['body'].decode()}")
        await asyncio.sleep(0)

    app: ASGIApp = StreamingResponse(chunks())
    for _ in range(depth):
        app = around(app, passing)
    _, body = asyncio.run(call(app, spec=spec, sent=sent))
    assert body == b"012"
    assert events == ["made 0", "sent 0", "made 1", "sent 1", "made 2", "sent 2"]


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
def test_a_stream_can_be_transformed(spec: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async def upper(chunks: Any) -> AsyncIterator[str]:
        async for chunk in chunks:
            yield chunk.decode().upper()

    async def dispatch(request: Request, call_next: CallNext) -> Response:
        response: Any = await call_next(request)
        response.body_iterator = upper(response.body_iterator)
        return response  # type: ignore[no-any-return]

    messages, body = asyncio.run(call(around(StreamingResponse(chunks()), dispatch), spec=spec))
    assert body == b"AB"
    assert [m.get("more_body") for m in messages[1:]] == [True, True, False]


def test_an_exception_passes_through_dispatch() -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        raise KeyError("thrown")

    async def dispatch(request: Request, call_next: CallNext) -> Response:
        try:
            return await call_next(request)
        except KeyError as exc:
            return PlainTextResponse(f"caught {exc}", 418)

    messages, body = asyncio.run(call(around(handler, dispatch)))
    assert (messages[0]["status"], body) == (418, b"caught 'thrown'")
    with pytest.raises(KeyError, match="thrown"):
        asyncio.run(call(around(handler, passing)))


def test_an_exception_after_the_start_passes_to_the_server() -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("late")

    with pytest.raises(KeyError, match="late"):
        asyncio.run(call(around(handler, passing)))


def test_an_app_that_sends_nothing_is_an_error() -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    with pytest.raises(RuntimeError, match="No response"):
        asyncio.run(call(around(handler, passing)))


def test_background_tasks_run_after_the_response() -> None:
    events: list[str] = []

    async def background() -> None:
        await asyncio.sleep(0)
        events.append("background")

    async def sent(message: Message) -> None:
        events.append(message["type"])

    app = PlainTextResponse("x", background=BackgroundTask(background))
    asyncio.run(call(around(app, passing), sent=sent))
    assert events == ["http.response.start", "http.response.body", "background"]


def test_a_replaced_response_still_runs_its_background_task() -> None:
    events: list[str] = []

    async def background() -> None:
        events.append("background")

    async def dispatch(request: Request, call_next: CallNext) -> Response:
        await call_next(request)
        return PlainTextResponse("mine")

    app = PlainTextResponse("x", background=BackgroundTask(background))
    _, body = asyncio.run(call(around(app, dispatch)))
    assert (body, events) == (b"mine", ["background"])


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
def test_a_replaced_endless_stream_is_ended(spec: str) -> None:
    closed: list[bool] = []

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    async def dispatch(request: Request, call_next: CallNext) -> Response:
        await call_next(request)
        return PlainTextResponse("mine")

    async def main() -> bytes:
        stream = endless()
        async with asyncio.timeout(5):
            _, body = await call(around(StreamingResponse(stream), dispatch), spec=spec)
        await stream.aclose()
        return body

    assert asyncio.run(main()) == b"mine"
    assert closed


def test_an_application_can_be_called_again() -> None:
    tries: list[int] = []

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        tries.append(1)
        await PlainTextResponse("x", 503 if len(tries) < 3 else 200)(scope, receive, send)

    async def dispatch(request: Request, call_next: CallNext) -> Response:
        while (response := await call_next(request)).status_code == 503:
            continue
        return response

    messages, body = asyncio.run(call(around(handler, dispatch)))
    assert (messages[0]["status"], body, len(tries)) == (200, b"x", 3)


def test_a_failing_dispatch_lets_the_application_clean_up() -> None:
    events: list[str] = []

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            events.append("cancelled")
            raise

    with pytest.raises(ValueError, match="mine"):
        asyncio.run(call(around(handler, failing_late)))
    assert events == ["cancelled"]


async def failing_late(request: Request, call_next: CallNext) -> Response:
    await call_next(request)
    raise ValueError("mine")


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
def test_a_failing_dispatch_ends_a_stream(spec: str) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0)

    async def main() -> None:
        async with asyncio.timeout(5):
            await call(around(StreamingResponse(endless()), failing_late), spec=spec)

    with pytest.raises(ValueError, match="mine"):
        asyncio.run(main())


def test_a_task_that_outlives_the_application_does_not_hang() -> None:
    tasks: list[asyncio.Task[None]] = []

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        async def late() -> None:
            await asyncio.sleep(0.01)
            await send({"type": "http.response.body", "body": b"late"})

        await PlainTextResponse("x")(scope, receive, send)
        tasks.append(asyncio.create_task(late()))

    async def main() -> bytes:
        _, body = await call(around(handler, passing))
        async with asyncio.timeout(5):
            await tasks[0]
        return body

    assert asyncio.run(main()) == b"x"


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
@pytest.mark.parametrize("where", ["handler", "stream"])
def test_cancelling_the_task_cancels_the_handler(spec: str, where: str) -> None:
    events: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    async def chunks() -> AsyncIterator[bytes]:
        yield b"first"
        await wait()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if where == "handler":
            await wait()
        await StreamingResponse(chunks())(scope, receive, send)

    async def main() -> None:
        task = asyncio.create_task(call(around(around(app, passing), passing), spec=spec))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert events == ["cancelled"]


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
def test_a_send_that_fails_ends_the_stream(spec: str) -> None:
    closed: list[bool] = []

    async def chunks() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    async def sent(message: Message) -> None:
        if message.get("body"):
            raise OSError("the client has left")

    async def main() -> None:
        async with asyncio.timeout(5):
            stream = chunks()
            try:
                await call(around(StreamingResponse(stream), passing), spec=spec, sent=sent)
            finally:
                await stream.aclose()

    with pytest.raises((OSError, ClientDisconnect)):
        asyncio.run(main())
    assert closed


def test_timeouts_and_task_groups_work_inside_and_around() -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0.01))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 0.01)
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            value = await asyncio.to_thread(lambda: "inner timeout")
        await PlainTextResponse(value)(scope, receive, send)

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(60)

    async def limited(request: Request, call_next: CallNext) -> Response:
        try:
            async with asyncio.timeout(0.05):
                return await call_next(request)
        except TimeoutError:
            return PlainTextResponse("outer timeout")

    async def detached(request: Request, call_next: CallNext) -> Response:
        return await asyncio.wait_for(call_next(request), 5)

    assert asyncio.run(call(around(handler, passing)))[1] == b"inner timeout"
    assert asyncio.run(call(around(slow, limited)))[1] == b"outer timeout"
    assert asyncio.run(call(around(handler, detached)))[1] == b"inner timeout"


def test_the_body_may_be_read_before_the_handler_reads_it() -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(await Request(scope, receive).body())(scope, receive, send)

    async def reading(request: Request, call_next: CallNext) -> Response:
        assert await request.body() == b"onetwo"
        return await call_next(request)

    async def streaming(request: Request, call_next: CallNext) -> Response:
        assert [chunk async for chunk in request.stream()] == [b"one", b"two", b""]
        return await call_next(request)

    for dispatch, expected in (
        (passing, b"onetwo"),
        (reading, b"onetwo"),
        (streaming, b""),
    ):
        _, body = asyncio.run(call(around(handler, dispatch), body=[b"one", b"two"]))
        assert body == expected


def test_other_scopes_pass_untouched() -> None:
    scopes: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope["type"])

    async def nothing(*args: Any) -> Any:
        raise AssertionError("not to be called")

    asyncio.run(nothing_called(around(app, nothing), nothing))
    assert scopes == ["lifespan", "websocket"]


async def nothing_called(app: ASGIApp, nothing: Any) -> None:
    for kind in ("lifespan", "websocket"):
        await app({"type": kind}, nothing, nothing)


def test_subclasses_override_dispatch_and_take_options() -> None:
    class Stamp(BaseMiddleware):
        def __init__(self, app: ASGIApp, word: str) -> None:
            super().__init__(app)
            self.word = word

        async def dispatch(self, request: Request, call_next: CallNext) -> Response:
            if request.url.path == "/stopped":
                return JSONResponse({"stopped": self.word}, 403)
            response = await call_next(request)
            response.headers["x-word"] = self.word
            return response

    app = App()
    app.add_middleware(Stamp, word="here")

    @app.get("/")
    async def root() -> str:
        return "root"

    @app.get("/crash")
    async def crash() -> None:
        raise KeyError("thrown")

    client = client_of(app, raise_server_exceptions=False)
    assert client.get("/").headers["x-word"] == "here"
    assert client.get("/nowhere").headers["x-word"] == "here"
    assert client.get("/stopped").json() == {"stopped": "here"}
    assert client.get("/crash").json() == {"detail": "Internal Server Error"}


def test_a_middleware_without_dispatch_says_so() -> None:
    with pytest.raises(NotImplementedError, match="dispatch"):
        asyncio.run(call(BaseMiddleware(PlainTextResponse("x"))))


def test_the_package_is_marked_as_typed() -> None:
    assert (Path(databridge.__file__).parent / "py.typed").exists()
