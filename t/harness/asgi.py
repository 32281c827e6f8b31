"""
The servers that the ASGI tests compare: databridge, and uvicorn, which shows
that a test asks for the specification and not for us.
"""

from ast import literal_eval
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from harness.nginx import Nginx
from harness.raw import Raw, RawResponse
from harness.server import Uvicorn
from harness.settings import SLOWER
from harness.wait import until

KIT = Path(__file__).with_name("kit.py").read_text()
PEERS = ("databridge", "uvicorn")

# Where uvicorn itself fails the specification; databridge has no such table.

UVICORN_FAILS: dict[str, str] = {}


class Peer:
    """One of the servers, with the cases of a test file."""

    def __init__(self, name: str, server: Nginx | Uvicorn) -> None:
        self.name = name
        self.server = server
        self.port = server.port
        self.log = server.error_log if isinstance(server, Nginx) else server.log

        # what a test asks beside its case never shares the case's connection

        self.client = httpx.Client(base_url=server.base_url, timeout=15 * SLOWER)

    def __enter__(self) -> "Peer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()

    def raw(self) -> Raw:
        return Raw(self.port)

    def ask(
        self,
        target: str | bytes,
        headers: bytes = b"",
        method: bytes = b"GET",
        content: bytes = b"",
        version: bytes = b"1.1",
    ) -> RawResponse:
        """The answer to one request on a connection of its own."""
        with self.raw() as client:
            client.send(request(target, headers, method, content, version))
            return client.response(head=method == b"HEAD")

    def value(self, target: str | bytes, headers: bytes = b"", **more: bytes) -> Any:
        """The literal that the case answers with."""
        answer = self.ask(target, headers, **more)
        assert answer.status == 200, answer
        return literal_eval(answer.body.decode())

    def notes(self, key: str) -> list[Any]:
        """What a case has noted so far."""
        return list(literal_eval(self.client.get(f"/:notes?key={key}").text))

    def open(self, key: str) -> None:
        """Opens the gate of a case."""
        self.client.get(f"/:open?key={key}")

    def noted(self, key: str, value: Any, seconds: float = 5.0) -> list[Any]:
        """All notes, as soon as the value is among them."""
        until(f"{value!r} among the notes", lambda: value in self.notes(key), seconds)
        return self.notes(key)

    def errors(self) -> list[str]:
        """What is logged as an error."""
        return self.log.find(r"\[error\]|\[crit\]|^ERROR|Traceback")


def request(
    target: str | bytes,
    headers: bytes = b"",
    method: bytes = b"GET",
    content: bytes = b"",
    version: bytes = b"1.1",
) -> bytes:
    """The bytes of a request; headers are whole lines."""
    if isinstance(target, str):
        target = target.encode("latin-1")

    if content:
        headers += b"Content-Length: %d\r\n" % len(content)

    line = b"%s %s HTTP/%s\r\n" % (method, target, version)
    return line + b"Host: test\r\n" + headers + b"\r\n" + content
