"""A client that sends bytes as they are and reads one response after the other."""

import socket
from dataclasses import dataclass, field
from types import TracebackType

from harness.settings import SLOWER


@dataclass
class RawResponse:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Raw:
    def __init__(self, port: int, timeout: float = 5.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout * SLOWER)
        self.buffer = b""
        self.received = 0

    def __enter__(self) -> "Raw":
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
        text = self.until(b"\r\n\r\n").decode("latin-1")
        first, *lines = text[:-4].split("\r\n")
        answer = RawResponse(int(first.split(" ")[1]))

        for line in lines:
            name, _, value = line.partition(":")
            answer.headers[name.lower()] = value.strip()

        if not head and answer.status >= 200 and answer.status not in (204, 304):
            answer.body = self._body(answer.headers)

        return answer

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            body = b""

            while size := int(self.until(b"\r\n"), 16):
                body += self.exactly(size + 2)[:-2]

            self.until(b"\r\n")
            return body

        if "content-length" in headers:
            return self.exactly(int(headers["content-length"]))

        while self._more():
            continue

        body, self.buffer = self.buffer, b""
        return body

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
