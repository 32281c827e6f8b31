"""
What the applications of the ASGI tests have in common: a case is a function,
the first segment of the path names it, and what it notes under the key of its
query string is read by another request.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Case = Callable[[Scope, Receive, Send], Awaitable[None]]

cases: dict[str, Case] = {}
sockets: dict[str, Case] = {}
notes: defaultdict[str, list[Any]] = defaultdict(list)
gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


def case(function: Case) -> Case:
    cases[function.__name__] = function
    return function


def socket(function: Case) -> Case:
    """A case of WebSockets."""
    sockets[function.__name__] = function
    return function


def option(scope: Scope, name: str, default: str = "") -> str:
    """A parameter of the query string."""
    query: bytes = scope["query_string"]
    return parse_qs(query.decode("latin-1")).get(name, [default])[0]


def note(scope: Scope, value: Any) -> None:
    notes[option(scope, "key")].append(value)


async def gate(scope: Scope) -> None:
    """Waits until the test opens it."""
    await gates[option(scope, "key")].wait()


def start(status: int = 200, **headers: str) -> Message:
    pairs = [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, value in headers.items()
    ]
    return {"type": "http.response.start", "status": status, "headers": pairs}


def body(data: bytes = b"", more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def answer(send: Send, value: Any) -> None:
    """A whole response that holds a literal of Python."""
    data = repr(value).encode()
    await send(start(content_length=str(len(data))))
    await send(body(data))


ACCEPT: Message = {"type": "websocket.accept"}


def text(value: str) -> Message:
    return {"type": "websocket.send", "text": value}


async def read(receive: Receive) -> bytes:
    """The whole body of a request."""
    parts = []

    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        parts.append(message.get("body", b""))

        if not message.get("more_body", False):
            return b"".join(parts)


async def attempt(scope: Scope, what: Awaitable[Any]) -> None:
    """Notes whether it raises."""
    try:
        await what
    except Exception as error:
        note(scope, f"raised {'OSError' if isinstance(error, OSError) else 'Exception'}")
    else:
        note(scope, "returned")


@socket
async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends every message back, and notes how the socket was closed."""
    note(scope, (await receive())["type"])
    await send(ACCEPT)

    while True:
        message = await receive()

        if message["type"] == "websocket.disconnect":
            note(scope, (int(message["code"]), message.get("reason") or ""))
            return

        assert message["type"] == "websocket.receive", message
        await send({**message, "type": "websocket.send"})


async def describe(scope: Scope, receive: Receive, send: Send) -> None:
    """The scope, as far as it is made of literals."""
    await answer(send, {name: value for name, value in scope.items() if name != "state"})


async def control(scope: Scope, receive: Receive, send: Send) -> None:
    """What the tests ask beside the cases."""
    key = option(scope, "key")

    if scope["path"] == "/:open":
        gates[key].set()

    await answer(send, notes[key])


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return

    if scope["path"].startswith("/:"):
        await control(scope, receive, send)
        return

    name = scope["path"].split("/")[1] if scope["path"].startswith("/") else ""
    function = (sockets if scope["type"] == "websocket" else cases).get(name, describe)

    try:
        await function(scope, receive, send)
    except asyncio.CancelledError:
        note(scope, "cancelled")
        raise
    finally:
        note(scope, "end")


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    scope["state"]["shared"] = []
    scope["state"]["number"] = 1
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
