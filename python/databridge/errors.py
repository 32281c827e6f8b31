"""Errors of the store, and the answer to exceptions that nobody handles."""

import logging
import re
import uuid

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("databridge")

_SANE_ID = re.compile(rb"[A-Za-z0-9_.~+/=:@-]{1,128}")

_KINDS = {
    409: ("conflict", "Conflict with a stored document"),
    503: ("unavailable", "Database unavailable"),
    504: ("timeout", "Database timeout"),
}


class DatabaseError(Exception):
    """The store refused (409), is unavailable (503) or took too long (504).

    The message is for the log, it never reaches the client.
    """

    def __init__(self, message: str = "", *, status_code: int = 503) -> None:
        if status_code not in _KINDS:
            raise ValueError(f"status_code must be 409, 503 or 504, not {status_code!r}")
        super().__init__(message)
        self.status_code = status_code
        self.kind, self.detail = _KINDS[status_code]


async def database_error_handler(request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, DatabaseError)
    level = logging.INFO if exc.kind == "conflict" else logging.ERROR
    logger.log(level, "%s %r: %s: %s", request.method, request.url.path, exc.detail, exc)
    headers = {"Retry-After": "1"} if exc.kind == "unavailable" else None
    return JSONResponse({"detail": exc.detail}, exc.status_code, headers)


class InternalErrorMiddleware:
    """Answers 500 with a request id, and logs the traceback under the same id.

    It is the client's, if that has sent a sane one; nginx logs the same as
    `$databridge_request_id`, and takes it from the answer when it was made here.

    It stands where Starlette's ServerErrorMiddleware would.  That one raises again
    what it has answered, and the server logs it once more; here an exception is
    either answered or raised, so its traceback appears once.  A test client gets
    both, as it does from Starlette.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched_send)
        except Exception as exc:
            if started:
                raise
            request_id = _request_id(scope)
            logger.error(
                "request %s: unhandled exception in %s %r",
                request_id,
                scope["method"],
                scope["path"],
                exc_info=exc,
            )
            response = JSONResponse(
                {"detail": "Internal Server Error"}, 500, {"X-Request-ID": request_id}
            )
            await response(scope, receive, send)
            if "http.response.debug" in scope.get("extensions", ()):
                raise


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            if _SANE_ID.fullmatch(value):
                return bytes(value).decode()
            break
    return uuid.uuid4().hex
