"""The applications that make bench serves, under uvicorn and under databridge."""

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

import databridge

BODY = b'{"message":"hello"}'

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def lifespan(receive: Any, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def asgi(scope: MutableMapping[str, Any], receive: Any, send: Send) -> None:
    """The least an ASGI application can do."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


CHUNK = bytes(64 * 1024)
CHUNKS = 64


async def stream(scope: MutableMapping[str, Any], receive: Any, send: Send) -> None:
    """4 MiB in pieces."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)

    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(CHUNKS):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def echo(scope: MutableMapping[str, Any], receive: Any, send: Send) -> None:
    """A WebSocket that says what it hears."""
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    if scope["type"] == "http":
        return await asgi(scope, receive, send)

    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


api = FastAPI()


@api.get("/stream")
async def read_stream() -> StreamingResponse:
    """The 4 MiB of stream()."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(CHUNKS):
            yield CHUNK

    return StreamingResponse(pieces())


@api.get("/stream/def")
def read_stream_in_thread() -> StreamingResponse:
    return StreamingResponse(CHUNK for _ in range(CHUNKS))


@api.get("/items/{item_id}")
async def read_item(item_id: int, q: str = "", limit: int = 10) -> dict[str, Any]:
    return {"id": item_id, "q": q, "limit": limit}


class Article(databridge.Model):
    title: str
    text: str
    rating: float = 0.0
    published: bool = False
    tags: list[str] = []


crud = databridge.App()
crud.crud_routes(Article, prefix="/articles")
