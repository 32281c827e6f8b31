"""Middleware that runs in the handler's own task and context.

Starlette's `BaseHTTPMiddleware` gives `dispatch(request, call_next)`, but runs the
application in a second task: context variables set by a handler are lost and
cancellation takes detours.  `BaseMiddleware` has the same interface and no second
task: `call_next` drives the application's coroutine by hand up to its first message,
and the rest of it while the response is being sent.
"""

import asyncio
import types
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator
from typing import Any, cast

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CallNext = Callable[[Request], Awaitable[Response]]
Dispatch = Callable[[Request, CallNext], Awaitable[Response]]


class BaseMiddleware:
    """Base class: override `dispatch`, or pass a function as `dispatch=`.

    The response that `call_next` returns may be changed before it is returned:
    `status_code`, `headers`, and `body_iterator` to transform a stream.
    """

    def __init__(self, app: ASGIApp, dispatch: Dispatch | None = None) -> None:
        self.app = app
        self.dispatch_func: Dispatch = self.dispatch if dispatch is None else dispatch

    async def dispatch(self, request: Request, call_next: CallNext) -> Response:
        raise NotImplementedError(f"{type(self).__name__} must override dispatch()")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        runs: list[_Run] = []
        replay = _Replay(Request(scope, receive, send))

        async def call_next(request: Request) -> Response:
            run = _Run(self.app, scope, replay)
            runs.append(run)
            return await run.response(send)

        try:
            response = await self.dispatch_func(replay.request, call_next)
        except BaseException:
            for run in runs:
                await run.abort(asyncio.CancelledError())
            raise

        try:
            await response(scope, replay, send)
        except BaseException as exc:
            for run in runs:
                await run.abort(exc)
            raise

        for run in runs:
            await run.finish()


class _Replay:
    """The application's `receive`: gives again the body that `dispatch` has read."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._given = False
        self.disconnected = False

    async def __call__(self) -> Message:
        if self.disconnected:
            return {"type": "http.disconnect"}
        if not self._given:
            self._given = True
            body = getattr(self.request, "_body", None)
            if body is None and self.request._stream_consumed:
                body = b""
            if body is not None:
                return {"type": "http.request", "body": body, "more_body": False}
        return await self.request.receive()


class _Response(Response):
    """What the application answers, passed on message by message."""

    body_iterator: AsyncIterable[str | bytes | memoryview | Message]

    def __init__(self, run: "_Run", start: Message) -> None:
        self._run = run
        self._start = start
        self._chunks = run.chunks()
        self.body_iterator = self._chunks
        self.status_code = start["status"]
        self.raw_headers = list(start.get("headers", ()))
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {**self._start, "status": self.status_code, "headers": self.raw_headers}
        await send(start)

        if self.body_iterator is self._chunks:
            while (message := await self._run.next()) is not None:
                await send(message)
        else:
            await self._send_iterated(send)

        if self.background is not None:
            await self.background()

    async def _send_iterated(self, send: Send) -> None:
        async for chunk in self.body_iterator:
            if isinstance(chunk, str):
                chunk = chunk.encode(self.charset)
            if isinstance(chunk, (bytes, bytearray, memoryview)):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            else:
                await send(chunk)
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Run:
    """One run of the application, as far as its messages have been asked for.

    Whoever sends a message waits until the next one is asked for: a send from the
    application's own coroutine suspends it there, one from another task of its
    waits for a future.
    """

    def __init__(self, app: ASGIApp, scope: Scope, receive: _Replay) -> None:
        self._coroutine = cast(
            Generator[Any, Any, None], _coroutine(app, scope, receive, self._send)
        )
        self._receive = receive
        self._task: asyncio.Task[Any] | None = None
        self._messages: deque[tuple[Message, asyncio.Future[None] | None]] = deque()
        self._taken: asyncio.Future[None] | None = None
        self._awaited: asyncio.Future[Any] | None = None
        self._waiter: _Waiter | None = None
        self._error: BaseException | None = None
        self._done = False
        self._dropping = False

    async def response(self, send: Send) -> Response:
        """Runs the application until it starts its response."""
        while (message := await self.next()) is not None:
            if message["type"] == "http.response.start":
                return _Response(self, message)
            await send(message)
        raise RuntimeError("No response returned.")

    async def chunks(self) -> AsyncIterator[bytes | memoryview | Message]:
        while (message := await self.next()) is not None:
            if message["type"] != "http.response.body":
                yield message
                return
            if body := message.get("body", b""):
                yield body
            if not message.get("more_body", False):
                return

    async def next(self) -> Message | None:
        """The application's next message, None when it has ended."""
        self._release()
        self._task = asyncio.current_task()
        await self._advance()
        if not self._messages:
            return None
        message, self._taken = self._messages.popleft()
        return message

    async def finish(self) -> None:
        """Runs what follows the response; messages that nobody wants are dropped."""
        self._dropping = True
        self._receive.disconnected = True
        try:
            while await self.next() is not None:
                continue
        except Exception as exc:
            if not _is_refusal(exc):
                raise

    async def abort(self, exc: BaseException) -> None:
        """Raises exc where the application stands, and lets it clean up."""
        if self._done:
            return
        if self._taken is None or isinstance(exc, asyncio.CancelledError):
            self._error = exc
        elif not self._taken.done():
            self._taken.set_exception(exc)
        try:
            await self.finish()
        except BaseException as raised:
            if raised is not exc and not isinstance(raised, asyncio.CancelledError):
                raise

    def _release(self) -> None:
        if self._taken is not None and not self._taken.done():
            self._taken.set_result(None)
        self._taken = None

    async def _send(self, message: Message) -> None:
        if self._dropping or self._done:
            if message.get("more_body", False):
                raise _Refused("the response is not wanted any more")
            return

        if asyncio.current_task() is self._task:
            self._messages.append((message, None))
            await _pause(self)
            return

        taken = asyncio.get_running_loop().create_future()
        self._messages.append((message, taken))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        await taken

    @types.coroutine
    def _advance(self) -> Generator[Any, Any, None]:
        """Steps the application, as its task would, until it has sent or ended."""
        while not self._messages and not self._done:
            if self._error is None and self._awaited is not None and not self._awaited.done():
                self._waiter = _Waiter(self._awaited)
                try:
                    yield from self._waiter
                    continue
                except BaseException as exc:
                    self._error = exc
                finally:
                    self._awaited.remove_done_callback(self._waiter.wake)
            self._awaited = None

            error, self._error = self._error, None
            try:
                if error is None:
                    yielded = self._coroutine.send(None)
                else:
                    yielded = self._coroutine.throw(error)
            except StopIteration:
                self._done = True
                return
            except BaseException:
                self._done = True
                raise

            if yielded is self:
                continue
            if getattr(yielded, "_asyncio_future_blocking", False):
                yielded._asyncio_future_blocking = False
                self._awaited = yielded
                continue
            try:
                yield yielded
            except BaseException as exc:
                self._error = exc


class _Refused(OSError):
    """What an application gets for going on with a response that was replaced."""


def _is_refusal(exc: BaseException | None) -> bool:
    """Whether that, or what Starlette makes of it, is all that an app has raised."""
    if isinstance(exc, BaseExceptionGroup):
        return all(map(_is_refusal, exc.exceptions))
    if isinstance(exc, ClientDisconnect):
        return _is_refusal(exc.__context__)
    return isinstance(exc, _Refused)


class _Waiter(asyncio.Future[None]):
    """Waits for another future, or for a message; cancelling it cancels the other."""

    def __init__(self, awaited: asyncio.Future[Any]) -> None:
        super().__init__(loop=awaited.get_loop())
        self._awaited = awaited
        awaited.add_done_callback(self.wake)

    def cancel(self, msg: Any | None = None) -> bool:
        return not self.done() and self._awaited.cancel(msg)

    def wake(self, awaited: asyncio.Future[Any]) -> None:
        if not self.done():
            self.set_result(None)


async def _coroutine(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


@types.coroutine
def _pause(run: _Run) -> Generator[_Run, None, None]:
    yield run
