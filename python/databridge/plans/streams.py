"""StreamingResponse over an iterator that is not asynchronous.

Starlette goes into a thread and back for each piece.  Here a thread goes on taking pieces
while the loop sends those that are there.  It wakes the loop only when that has run out
of them, and gives its place to others when there are enough for now or when it has had
it for long enough.  The GIL guards what both touch: the thread puts pieces in, the loop
takes them out.
"""

import asyncio
import functools
import sys
from asyncio import CancelledError, Future
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextvars import copy_context
from time import monotonic
from types import AsyncGeneratorType, FunctionType
from typing import Any, Final

from anyio import CancelScope
from fastapi.routing import request_response
from starlette.concurrency import iterate_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

if "_databridge" in sys.builtin_module_names:
    from _databridge import in_thread, tell

AHEAD_BYTES: Final = 512 * 1024
"""As many as nginx takes of a response whose client does not read."""

AHEAD_PIECES: Final = 1024

TURN: Final = 0.001
"""Seconds after which a thread gives its place and the GIL to others, once it has a piece."""

SPEC_VERSION: Final = "2.5"
"""Of the requests that are streamed in this way: the module's."""

END: Final = object()


class Ahead(AsyncIterator[Any]):
    """What a thread takes of an iterator, ahead of the loop.

    In the response's place of the iterator it has no pieces for anybody else, and keeps
    an iterator that did not end alive as long as the response, as Starlette's does.
    """

    def __init__(self, iterator: Iterator[Any]) -> None:
        self.iterator = iterator
        self.pieces: deque[Any] = deque()
        self.taken = 0
        """Bytes, the thread's count."""
        self.sent = 0
        """And the loop's."""
        self.inside = False
        """A thread is, or is about to be, in the iterator."""
        self.ended = False
        self.stopped = False
        self.hungry = False
        """The loop waits for a piece, and was not told of one."""
        self.told: Future[None] = asyncio.get_running_loop().create_future()
        self.hop: Future[Any] | None = None

    async def __anext__(self) -> Any:
        raise StopAsyncIteration

    def take(self) -> None:
        """In a thread, in a copy of the task's context: each piece gets one of its own."""
        self.inside = True
        try:
            until = monotonic() + TURN
            while not self.stopped and self._has_room():
                piece = copy_context().run(next, self.iterator, END)
                if piece is END:
                    self.ended = True
                    return
                self._add(piece)
                if monotonic() >= until:
                    return
        finally:
            self.inside = False

    def _has_room(self) -> bool:
        return self.taken - self.sent < AHEAD_BYTES and len(self.pieces) < AHEAD_PIECES

    def _add(self, piece: Any) -> None:
        if isinstance(piece, memoryview):
            piece = bytes(piece)  # the iterator may write to it
        if isinstance(piece, bytes | str):
            self.taken += len(piece)
        self.pieces.append(piece)
        if self.hungry:
            self.hungry = False
            tell(self.told)

    async def more(self) -> bool:
        """Waits for a piece; False: there is none, and no thread in the iterator."""
        while not self.pieces:
            if self.hop is not None and self.hop.done():
                self._result()
                if self.ended:
                    return False
            if self.hop is None:
                self.hop = in_thread(self.take)
                assert self.hop is not None
                self.hop.add_done_callback(self._returned)
            self.told = asyncio.get_running_loop().create_future()
            self.hungry = True
            if not self.pieces:
                await self.told
            self.hungry = False
        return True

    def _result(self) -> None:
        """Raises what the iterator has raised, whose traceback knows this frame."""
        hop, self.hop = self.hop, None
        try:
            assert hop is not None
            hop.result()
        finally:
            del hop

    def _returned(self, hop: Future[Any]) -> None:
        hop.exception()  # which nobody may want to know
        if hop is self.hop and not self.told.done():
            self.told.set_result(None)

    async def stop(self) -> None:
        """Waits until no thread is in the iterator, whatever is cancelled meanwhile."""
        self.stopped = True
        self.hungry = False
        hop, self.hop = self.hop, None
        if hop is None:
            return
        cancelled = None
        try:
            with CancelScope(shield=True):
                while self.inside:
                    try:
                        await asyncio.wait({hop})
                    except CancelledError as exc:
                        cancelled = exc
            if cancelled is not None:
                raise cancelled
        finally:
            del hop, cancelled


def streamed(response: Response) -> ASGIApp:
    """The response, which is sent in this way when it can be."""
    if not isinstance(response, StreamingResponse):
        return response
    kind = type(response)
    if (
        kind.__call__ is not StreamingResponse.__call__
        or kind.stream_response is not StreamingResponse.stream_response
        or "stream_response" in vars(response)
    ):
        return response
    body = response.body_iterator
    if type(body) is not AsyncGeneratorType or body.ag_code is not iterate_in_threadpool.__code__:
        return response
    frame = body.ag_frame
    if frame is None or "as_iterator" in frame.f_locals:
        return response
    return functools.partial(_respond, response, frame.f_locals["iterator"])


def streaming(app: Any, open: Callable[[], bool]) -> ASGIApp | None:
    """A route's application with its streams sent in this way; None: it is not FastAPI's."""
    if type(app) is not FunctionType or app.__code__ not in request_response.__code__.co_consts:
        return None
    (cell,) = app.__closure__ or ()
    handler: Callable[[Request], Awaitable[Response]] = cell.cell_contents

    async def handle(request: Request) -> ASGIApp:
        response = await handler(request)
        if isinstance(response, StreamingResponse) and open():
            return streamed(response)
        return response

    return request_response(handle)  # type: ignore[arg-type]


async def _respond(
    response: StreamingResponse, content: Iterable[Any], scope: Scope, receive: Receive, send: Send
) -> None:
    """StreamingResponse.__call__()."""
    if scope["asgi"].get("spec_version") != SPEC_VERSION:
        await response(scope, receive, send)
        return
    try:
        await _stream(response, content, send)
    except OSError:
        raise ClientDisconnect()  # noqa: B904
    if response.background is not None:
        await response.background()


async def _stream(response: StreamingResponse, content: Iterable[Any], send: Send) -> None:
    """StreamingResponse.stream_response()."""
    await send(
        {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": response.raw_headers,
        }
    )
    ahead = response.body_iterator = Ahead(iter(content))
    try:
        while await ahead.more():
            chunk = ahead.pieces.popleft()
            size = len(chunk) if isinstance(chunk, bytes | str) else 0
            if not isinstance(chunk, bytes):
                chunk = chunk.encode(response.charset)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            ahead.sent += size
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except Exception:
        await asyncio.sleep(0)  # the module holds a step's last piece back, and would drop it
        raise
    finally:
        await ahead.stop()
