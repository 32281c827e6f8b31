"""Plans below an application's own middleware, in the place of FastAPI's handlers.

The request comes through the whole stack as ordinary ASGI.  What the middleware and the
router have left in the scope is what the plan's values are fetched from; its answer is
sent as any other, so that the middleware sees it.  Of what a plan cannot take FastAPI
finds everything as it was: a body that was read is received once more.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.exceptions import ResponseValidationError
from starlette._exception_handler import wrap_app_handling_exceptions
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from databridge.plans.scripts import Script

if "_databridge" in sys.builtin_module_names:
    from _databridge import Fetcher


@dataclass
class Below:
    """What a route runs, in the place of its own application."""

    app: ASGIApp
    """That one: FastAPI's."""
    fetcher: "Fetcher"
    script: Script
    reads: bool
    """It takes a body."""
    open: Callable[[], bool]
    dependant: Dependant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.open():
            await self.app(scope, receive, send)
            return

        request, body = Request(scope, receive, send), b""
        again = receive
        if self.reads:
            try:
                body = await request.body()
            except Exception as exc:
                await self.app(scope, _failing(exc), send)
                return
            again = _once_more(body, receive)

        values = self.fetcher.fetch(scope, request, body)
        if values is None:
            await self.app(scope, again, send)
            return

        async def run(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await self.script(scope, receive, send, request, values)
            except ResponseValidationError as exc:
                locate(exc, request, self.dependant)
                raise

        await wrap_app_handling_exceptions(run, request)(scope, receive, send)


def locate(exc: ResponseValidationError, request: Request, dependant: Dependant) -> None:
    """Says, as FastAPI does, which path the response was of."""
    if not dependant.path:
        return
    mount = request.scope.get("root_path", "").rstrip("/")
    exc.endpoint_path = f"{request.method} {mount}{dependant.path}"
    if exc.endpoint_ctx is not None:
        exc.endpoint_ctx["path"] = exc.endpoint_path


def _failing(exc: Exception) -> Receive:
    async def receive() -> Message:
        raise exc

    return receive


def _once_more(body: bytes, receive: Receive) -> Receive:
    pending: list[dict[str, Any]] = [
        {"type": "http.request", "body": body, "more_body": False},
    ]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay
