"""ASGI lifespan 2.0, asked of databridge and of uvicorn."""

import signal
import threading
from ast import literal_eval
from textwrap import dedent, indent
from typing import Any

import httpx
import pytest

from conftest import MakeCommand
from harness import SLOWER, Server, Uvicorn, until
from harness.asgi import Peer

APP = """
import asyncio

import kit
from kit import answer, case

seen = []
waiting = None


async def lifespan(scope, receive, send):
    global waiting
    types = {name: type(value).__name__ for name, value in scope.items()}
    seen.append((scope["type"], dict(scope["asgi"]), types))
    scope["state"]["list"] = []
    scope["state"]["number"] = 1
    seen.append((await receive())["type"])
    await asyncio.sleep(0.05)
    scope["state"]["last"] = "set last"
    await send({"type": "lifespan.startup.complete"})
    seen.append("complete")
    waiting = asyncio.ensure_future(receive())
    await waiting
    await send({"type": "lifespan.shutdown.complete"})


kit.lifespan = lifespan
app = kit.app


@case
async def events(scope, receive, send):
    await answer(send, (seen, waiting is not None and waiting.done()))


@case
async def state(scope, receive, send):
    scope["state"]["list"].append(1)
    answered = (sorted(scope["state"].items()), len(scope["state"]["list"]))
    scope["state"]["number"] = 2
    scope["state"]["mine"] = 1
    await answer(send, answered)


@case
async def loop(scope, receive, send):
    await answer(send, waiting.get_loop() is asyncio.get_running_loop())
"""


def test_startup_comes_once_and_before_any_request(peer: Peer) -> None:
    for _ in range(3):
        seen, _ = peer.value("/events")
        assert [seen[0][0], *seen[1:]] == ["lifespan", "lifespan.startup", "complete"]


def test_the_scope_of_the_lifespan(peer: Peer) -> None:
    (_, asgi, types), *_ = peer.value("/events")[0]
    assert asgi["version"] == "3.0"
    assert asgi.get("spec_version", "1.0") in ("1.0", "2.0")
    assert types == {"type": "str", "asgi": "dict", "state": "dict"}


def test_after_the_startup_receive_waits(peer: Peer) -> None:
    assert peer.value("/events")[1] is False


def test_requests_get_a_shallow_copy_of_the_state(peer: Peer) -> None:
    for _ in range(2):
        items, count = peer.value("/state")
        assert [name for name, _ in items] == ["last", "list", "number"]
        assert dict(items)["last"] == "set last"
        assert dict(items)["number"] == 1
        assert count == len(dict(items)["list"])
    assert count > 1


def test_the_lifespan_and_requests_share_a_loop(peer: Peer) -> None:
    assert peer.value("/loop") is True


# how it begins and ends: each with a server of its own


APPLICATION = """
import asyncio
import os


def say(word):
    with open(os.path.join(os.path.dirname(__file__), "said"), "a") as file:
        file.write(word + "\\n")


async def lifespan(scope, receive, send):
BODY


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    assert scope["type"] == "http"
    say("request")
    if scope["path"] == "/slow":
        await asyncio.sleep(0.3)
    body = repr(sorted(scope.get("state") or ())).encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    say("answered")
"""


def application(lifespan: str) -> str:
    return APPLICATION.replace("BODY", indent(dedent(lifespan).strip(), "    "))


def said(server: Server | Uvicorn) -> list[str]:
    path = server.folder / "said"
    return path.read_text().split() if path.exists() else []


def stop(server: Server | Uvicorn) -> int | None:
    server.kill(signal.SIGTERM)
    return server.wait()


COMPLETE = """
assert (await receive())["type"] == "lifespan.startup"
scope["state"]["mine"] = 1
say("startup")
await send({"type": "lifespan.startup.complete"})
assert (await receive())["type"] == "lifespan.shutdown"
say("shutdown")
await send({"type": "lifespan.shutdown.complete"})
"""


def test_shutdown_comes_once_and_after_the_last_request(commands: MakeCommand) -> None:
    server = commands(application(COMPLETE))
    server.run("app:app")
    answers: list[Any] = []

    def ask() -> None:
        answers.append(httpx.get(server.base_url + "/slow", timeout=15 * SLOWER))

    before = len(said(server))
    asking = threading.Thread(target=ask)
    asking.start()
    until("the request", lambda: len(said(server)) > before)
    assert stop(server) in server.clean_exits
    asking.join()
    assert literal_eval(answers[0].text) == ["mine"]
    assert said(server)[-3:] == ["request", "answered", "shutdown"]
    assert said(server).count("startup") == said(server).count("shutdown") == 1


def test_startup_is_over_before_the_first_request(commands: MakeCommand) -> None:
    server = commands(application("await asyncio.sleep(0.3)\n" + COMPLETE))
    server.run("app:app")
    assert said(server)[:2] == ["startup", "request"]


UNAWARE = {
    "raises_at_once": 'raise ValueError("no lifespan")',
    "raises_at_startup": 'await receive()\nraise ValueError("no lifespan")',
    "returns_at_once": "return",
    "returns_at_startup": "await receive()",
}


@pytest.mark.parametrize("kind", UNAWARE)
def test_an_application_without_a_lifespan_is_served(commands: MakeCommand, kind: str) -> None:
    server = commands(application(UNAWARE[kind]))
    server.run("app:app")
    assert server.client.get("/").status_code == 200
    assert stop(server) in server.clean_exits


@pytest.mark.parametrize("message", ["the database is away", ""], ids=["message", "none"])
def test_a_failed_startup_ends_the_start(commands: MakeCommand, message: str) -> None:
    more = f', "message": "{message}"' if message else ""
    failed = f'await send({{"type": "lifespan.startup.failed"{more}}})'
    server = commands(application("await receive()\n" + failed))
    assert message in server.refuse("app:app")
    assert said(server) == []


ENDS = {
    "raises_at_shutdown": """
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        say("shutdown")
        raise ValueError("on purpose")
        """,
    "failed": """
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        say("shutdown")
        await send({"type": "lifespan.shutdown.failed", "message": "could not"})
        """,
    "returns_at_shutdown": """
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        say("shutdown")
        """,
    "returns_early": """
        await receive()
        await send({"type": "lifespan.startup.complete"})
        """,
    "raises_early": """
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise ValueError("on purpose")
        """,
}


@pytest.mark.parametrize("kind", ENDS)
def test_the_server_ends_however_the_shutdown_goes(commands: MakeCommand, kind: str) -> None:
    server = commands(application(ENDS[kind]))
    server.run("app:app")
    assert server.client.get("/").status_code == 200
    assert stop(server) is not None
    assert ("shutdown" in said(server)) is not kind.endswith("early")
    if kind == "failed":
        assert "could not" in server.log.text()
