"""Middleware: in the handler's own task and context, streams included.

databridge run middleware:app --app-dir examples
"""

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from databridge import App, BaseMiddleware, JSONResponse, Request, Response, StreamingResponse

app = App(title="Middleware")

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

CallNext = Callable[[Request], Awaitable[Response]]


class Timing(BaseMiddleware):
    """Says how long the handler took to start its response."""

    async def dispatch(self, request: Request, call_next: CallNext) -> Response:
        start = time.perf_counter()
        response = await call_next(request)
        response.headers["X-Time"] = f"{time.perf_counter() - start:.6f}"
        return response


class Identity(BaseMiddleware):
    """Knows who asks, or answers in the handler's place."""

    async def dispatch(self, request: Request, call_next: CallNext) -> Response:
        name = request.headers.get("x-user")
        if name is None and request.url.path.startswith("/private"):
            return JSONResponse({"detail": "Who are you?"}, status_code=401)
        user.set(name or "guest")
        return await call_next(request)


app.add_middleware(Identity)
app.add_middleware(Timing)


@app.get("/hello")
async def hello() -> dict[str, str]:
    return {"hello": user.get()}


@app.get("/private/hello")
async def private() -> dict[str, str]:
    return {"hello": user.get()}


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def chunks() -> AsyncIterator[str]:
        for n in range(3):
            yield f"{n} for {user.get()}\n"
            await asyncio.sleep(0.2)

    return StreamingResponse(chunks(), media_type="text/plain")
