"""The same application under databridge and under uvicorn: each request has one answer.

The same bytes go to both.  Status, headers in their order, and body must agree; but for
what belongs to a server: Server, Date, the connection, framing, and how names are written.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from harness.nginx import Nginx
from harness.raw import Raw, RawResponse
from harness.server import Uvicorn

SERVERS = frozenset({b"server", b"date", b"connection", b"keep-alive", b"transfer-encoding"})

PLACED = (b"content-type", b"content-length", b"last-modified", b"location")
"""Headers that nginx writes before all others."""

KIND = "add_header X-Kind $databridge_kind always;"
"""Says who had a request; for the location of the application."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Pair:
    """Both servers, with a connection to each."""

    def __init__(self, nginx: Nginx, uvicorn: Uvicorn) -> None:
        self.nginx = nginx
        self.uvicorn = uvicorn
        self.connections: dict[int, Raw] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Ends both connections: uvicorn drops what follows a request that fails at its end."""
        while self.connections:
            self._drop(next(iter(self.connections)))

    def same(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        *,
        kind: str | None = "plan",
    ) -> Answer:
        """The answer both give; databridge by a request of this kind, None is any."""
        data = request(method, path, headers, body)
        ours = self.ask(self.nginx.port, data, method)
        theirs = self.ask(self.uvicorn.port, data, method)
        if kind is not None:
            assert ours.values("x-kind") == [kind.encode()], (data, ours)
        ours_seen, theirs_seen = answer(ours, theirs), answer(theirs, ours)
        assert ours_seen == theirs_seen, (
            f"{data!r}\ndatabridge: {ours_seen}\nuvicorn: {theirs_seen}"
        )
        return ours_seen

    def ask(self, port: int, data: bytes, method: str) -> RawResponse:
        """One answer; a connection that the server has closed is made anew."""
        for _ in range(2):
            raw = self.connections.get(port)
            if raw is None:
                raw = self.connections[port] = Raw(port)
            try:
                raw.send(data)
                found = raw.response(head=method == "HEAD")
            except ConnectionError:
                self._drop(port)
                continue
            if found.headers.get("connection") == "close":
                self._drop(port)
            return found
        raise AssertionError(f"no answer to {data!r}")

    def _drop(self, port: int) -> None:
        self.connections.pop(port).__exit__(None, None, None)


def request(
    method: str, path: str, headers: Sequence[tuple[str, str]] = (), body: bytes | None = None
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1"]
    if not any(name.lower() == "host" for name, _ in headers):
        lines.append("Host: test.example")
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def answer(response: RawResponse, other: RawResponse) -> Answer:
    """What must agree; a length, when both have said one."""
    left_out = set(SERVERS) | {b"x-kind"}
    if "content-length" not in other.headers:
        left_out.add(b"content-length")
    pairs = [(name.lower(), value) for name, value in response.pairs]
    kept = [(name, value) for name, value in pairs if name not in left_out]
    placed = sorted(pair for pair in kept if pair[0] in PLACED)
    others = [pair for pair in kept if pair[0] not in PLACED]
    return Answer(response.status, placed + others, _body(response.body))


def _body(body: bytes) -> bytes:
    """Addresses of objects are no part of an answer."""
    return re.sub(rb"0x[0-9a-f]{8,}", b"0x", body)
