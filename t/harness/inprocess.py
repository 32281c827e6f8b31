"""Applications without a server: FastAPI's client, and one request as a server makes it."""

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Scope

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from databridge import App


def client_of(app: "App", **options: Any) -> "TestClient":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fastapi.testclient import TestClient

    return TestClient(app, **options)


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
