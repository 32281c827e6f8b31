"""BaseMiddleware in process: one task and context with the handler, however either ends."""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from databridge import App, BaseMiddleware
from databridge.middleware import CallNext
from harness.inprocess import call, client_of

seen = contextvars.ContextVar("seen", default="nothing")


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


async def endless(closed: list[bool]) -> AsyncGenerator[bytes, None]:
    try:
        while True:
            yield b"x"
            await asyncio.sleep(0)
    finally:
        closed.append(True)


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
def test_a_replaced_endless_stream_is_ended(spec: str) -> None:
    closed: list[bool] = []

    async def dispatch(request: Request, call_next: CallNext) -> Response:
        await call_next(request)
        return PlainTextResponse("mine")

    async def main() -> bytes:
        stream = endless(closed)
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

    async def sent(message: Message) -> None:
        if message.get("body"):
            raise OSError("the client has left")

    async def main() -> None:
        async with asyncio.timeout(5):
            stream = endless(closed)
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
