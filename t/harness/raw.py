"""A client that sends bytes as they are and reads one response after the other."""

import socket
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from harness.settings import SLOWER


@dataclass
class RawResponse:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    pairs: list[tuple[bytes, bytes]] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def values(self, name: str) -> list[bytes]:
        """All values of a header, in order."""
        return [value for key, value in self.pairs if key.lower() == name.encode()]


class Raw:
    def __init__(self, port: int, timeout: float = 15.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout * SLOWER)
        self.buffer = b""
        self.received = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def get(self, path: str, headers: str = "") -> None:
        """Sends a GET without waiting for its answer."""
        self.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n".encode())

    def reset(self) -> None:
        """Leaves with a RST, as a killed client does."""
        linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()

    def closed(self) -> bool:
        """Whether the server has closed: waits for it."""
        try:
            return self.buffer == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def response(self, head: bool = False) -> RawResponse:
        """The next response; head says that it has no body."""
        answer = self.head()

        if not head and answer.status >= 200 and answer.status not in (204, 304):
            self._body(answer)

        return answer

    def head(self) -> RawResponse:
        """The header of the next response; its body is left to be read."""
        first = self.until(b"\r\n")
        answer = RawResponse(int(first.split(b" ")[1]))
        answer.pairs = self._fields()

        for name, value in answer.pairs:
            answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

        return answer

    def chunk(self) -> bytes:
        """The next chunk of a chunked body; b"" is the last one, trailers follow."""
        size = int(self.until(b"\r\n"), 16)
        return self.exactly(size + 2)[:-2] if size else b""

    def _fields(self) -> list[tuple[bytes, bytes]]:
        pairs = []

        while (line := self.until(b"\r\n")) != b"\r\n":
            name, _, value = line.partition(b":")
            pairs.append((name, value.strip(b" \t\r\n")))

        return pairs

    def _body(self, answer: RawResponse) -> None:
        if answer.headers.get("transfer-encoding") == "chunked":
            chunks = []

            while data := self.chunk():
                chunks.append(data)

            answer.body = b"".join(chunks)
            answer.trailers = self._fields()

        elif "content-length" in answer.headers:
            answer.body = self.exactly(int(answer.headers["content-length"]))

        else:
            while self._more():
                continue

            answer.body, self.buffer = self.buffer, b""

    def until(self, end: bytes) -> bytes:
        """All bytes up to these and with them."""
        while end not in self.buffer:
            if not self._more():
                raise ConnectionError(f"closed after {self.buffer!r}")

        data, _, self.buffer = self.buffer.partition(end)
        return data + end

    def exactly(self, size: int) -> bytes:
        """So many bytes, whatever they are."""
        while len(self.buffer) < size:
            if not self._more():
                raise ConnectionError(f"closed {size - len(self.buffer)} bytes early")

        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def _more(self) -> bool:
        data = self.socket.recv(65536)
        self.buffer += data
        self.received += len(data)
        return data != b""
