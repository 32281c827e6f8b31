"""The rows of uvicorn: requests by wrk, from a process that is not counted."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import uvicorn

from .rows import ROWS, Loop, Portion, Row

Message = MutableMapping[str, Any]


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"17")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"hello":"world"}'})


def _load(url: str, connections: int) -> int:
    command = ["wrk", "-t1", f"-c{connections}", "-d1s", url]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    answered = re.search(r"(\d+) requests in", said)
    if answered is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    return int(answered[1])


@asynccontextmanager
async def _serving(connections: int, loop: Loop) -> AsyncIterator[Portion]:
    config = uvicorn.Config(
        app, port=0, loop="none", http="httptools", lifespan="off", log_level="critical"
    )
    server = uvicorn.Server(config)
    serving = loop.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    load = partial(_load, f"http://{host}:{port}/", connections)
    yield lambda: loop.run_in_executor(None, load)
    server.should_exit = True
    await serving


for connections in (1, 64):
    ROWS[f"uvicorn_{connections}"] = Row(partial(_serving, connections))
