"""Clients that keep asking over raw sockets, and know what became of each request."""

import itertools
import random
import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType

from harness.raw import Raw, RawResponse

# The application for them.  A request is noted when its handler begins, so
# that one which was cut off can be told from one that nobody has read.

APP = """
import asyncio
import os
import pathlib

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

app = FastAPI()
seen = os.open(pathlib.Path(__file__).parent / "seen", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


@app.get("/")
async def root():
    return os.getpid()


@app.get("/quick/{name}")
async def quick(name: str):
    os.write(seen, f"{name}\\n".encode())
    return name


@app.get("/slow/{name}")
async def slow(name: str):
    os.write(seen, f"{name}\\n".encode())
    await asyncio.sleep(0.5)
    return name


@app.post("/upload/{name}")
async def upload(name: str, request: Request):
    os.write(seen, f"{name}\\n".encode())
    return {"name": name, "size": len(await request.body())}


@app.get("/stream/{name}")
async def stream(name: str):
    os.write(seen, f"{name}\\n".encode())

    async def chunks():
        for number in range(10):
            yield f"{number},"
            await asyncio.sleep(0.03)
        yield name

    return StreamingResponse(chunks(), media_type="text/plain")
"""

KINDS = ("quick", "slow", "upload", "stream")
PIECES, PIECE = 5, 4000


class Traffic:
    """
    Clients that keep their connections.  A request that meets the end of a
    used connection before any byte of an answer is asked once more on a fresh
    one, as RFC 9112, 9.3.1 lets a client do, and counted apart; every other
    failure is a loss, and so is one of a request whose handler had begun.
    """

    def __init__(
        self,
        port: int,
        seen: Path,
        *,
        clients: int = 6,
        kinds: tuple[str, ...] = KINDS,
        rate: float = 0,
    ) -> None:
        """With a rate that many requests a second are due, however long others take."""
        self.port = port
        self.seen = seen
        self.kinds = kinds
        self.pause = clients / rate if rate else 0.0
        self.answered: Counter[str] = Counter()
        self.retried: list[str] = []
        self.losses: list[str] = []
        self.slowest = 0.0
        self.numbers = itertools.count()
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> "Traffic":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def total(self) -> int:
        return self.answered.total()

    def summary(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.answered.items()))
        return f"{kinds}; {len(self.retried)} retried; slowest {self.slowest:.2f} s"

    def lost(self) -> list[str]:
        """What should not have happened; to be asked for at the end."""
        retried = set(self.retried)
        with open(self.seen) as file:
            cut = [line.strip() for line in file if line.strip() in retried]
        return self.losses + [f"{name} was handled, and cut off" for name in cut]

    def _run(self) -> None:
        client: Raw | None = None
        due = time.monotonic() + random.random() * self.pause

        while not self.stop.is_set():
            time.sleep(max(0.0, due - time.monotonic()))
            due += self.pause
            kind = random.choice(self.kinds)

            # some of all requests come on fresh connections

            if client is not None and random.random() < 0.2:
                client.socket.close()
                client = None

            client = self._ask(kind, client)

        if client is not None:
            client.socket.close()

    def _ask(self, kind: str, client: Raw | None, again: bool = False) -> Raw | None:
        """Asks, and returns the connection when it can be used again."""
        name = f"n{next(self.numbers)}"
        used = client is not None
        start = time.monotonic()

        try:
            client = client or Raw(self.port, timeout=30)
            client.received = 0
            answer = self._send(client, kind, name)
        except OSError as error:
            if client is not None:
                client.socket.close()

            if used and client is not None and client.received == 0:
                self.retried.append(name)
                return self._ask(kind, None, again=True)

            how = "retried" if again else "used" if used else "fresh"
            self.losses.append(f"{kind} {name} on a {how} connection: {error!r}")
            return None

        self.slowest = max(self.slowest, time.monotonic() - start)

        if answer.status != 200 or answer.body != expected(kind, name):
            self.losses.append(f"{kind} {name}: {answer.status} {answer.body!r}")

        self.answered[kind] += 1
        return client

    def _send(self, client: Raw, kind: str, name: str) -> RawResponse:
        if kind != "upload":
            client.get(f"/{kind}/{name}")
            return client.response()

        head = f"POST /upload/{name} HTTP/1.1\r\nHost: test\r\nContent-Length: {PIECES * PIECE}\r\n"
        client.send(head.encode() + b"\r\n")

        for _ in range(PIECES):
            client.send(b"x" * PIECE)
            time.sleep(0.04)

        return client.response()


def expected(kind: str, name: str) -> bytes:
    if kind == "upload":
        return f'{{"name":"{name}","size":{PIECES * PIECE}}}'.encode()

    if kind == "stream":
        return b"0,1,2,3,4,5,6,7,8,9," + name.encode()

    return f'"{name}"'.encode()
