"""Messages that end their own request, or go on with its response, while they are read."""

from contextlib import suppress

import httpx
import pytest

from conftest import StartApp

APP = """
import asyncio, os

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
BODY = {"type": "http.response.body", "body": b"ok"}


class Acting:
    '''What a message holds: it acts when it is read.'''

    def __init__(self, act, value):
        self.act, self.value = act, value

    def read(self):
        self.act()
        return self.value

    def __iter__(self):
        return iter(self.read())

    def __fspath__(self):
        return self.read()


class Message(dict):
    '''Acts when its body is read.'''

    def __init__(self, act, **members):
        super().__init__(members)
        self.act = act

    def __getitem__(self, key):
        if key == "body":
            self.act()
        return super().__getitem__(key)


MESSAGES = {
    "start": lambda act: [{**START, "headers": Acting(act, [])}],
    "body": lambda act: [START, Message(act, **BODY)],
    "file": lambda act: [START, {"type": "http.response.pathsend", "path": Acting(act, __file__)}],
    "trailers": lambda act: [
        {**START, "trailers": True},
        BODY,
        {"type": "http.response.trailers", "headers": Acting(act, [])},
    ],
    "hint": lambda act: [{"type": "http.response.early_hint", "links": Acting(act, [b"</a>"])}],
}


def now(awaitable):
    '''Its first step, which is all of it.'''
    try:
        awaitable.send(None)
    except (StopIteration, RuntimeError):
        pass


async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/own":
        refused = []

        def drive():
            for act in (sending.close, lambda: sending.send(None)):
                try:
                    act()
                except ValueError:
                    refused.append(act)

        await send({**START, "headers": []})
        sending = send(Message(drive, type=BODY["type"], body=b"x" * 10_000_000, more_body=True))
        await sending
        await send({**BODY, "body": b"%d" % len(refused)})
        return

    if scope["path"] == "/":
        await send(START)
        await send(BODY)
        return

    _, how, what = scope["path"].split("/")
    request = asyncio.current_task().get_coro()
    waiting = asyncio.Event()

    def end():
        request.close()

    def go_on():
        if what in ("start", "hint"):
            now(send(START))
        if what != "trailers":
            now(send(BODY))
        else:
            now(send({"type": "http.response.trailers"}))

    async def other():
        for message in MESSAGES[what]({"end": end, "go_on": go_on}[how]):
            await send(message)
        waiting.set()

    task = asyncio.create_task(other())
    await waiting.wait()
    await task
"""


@pytest.mark.parametrize("what", ["start", "body", "file", "trailers", "hint"])
@pytest.mark.parametrize("how", ["end", "go_on"])
def test_what_a_message_does_while_it_is_read_counts(app: StartApp, how: str, what: str) -> None:
    server = app(APP)
    workers = server.workers()
    with suppress(httpx.RemoteProtocolError):  # what has begun when its request ends is cut
        answer = server.client.get(f"/{how}/{what}", headers={"TE": "trailers"}, timeout=10)
        assert how == "end" or (answer.status_code, answer.content) == (200, b"ok")
    assert server.client.get("/").content == b"ok"
    assert server.workers() == workers


def test_what_sends_a_message_is_not_driven_from_within(app: StartApp) -> None:
    server = app(APP)
    assert server.client.get("/own").content == b"x" * 10_000_000 + b"2"
