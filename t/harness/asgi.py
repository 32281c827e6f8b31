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
from harness.websocket import WebSocket

KIT = Path(__file__).with_name("kit.py").read_text()
PEERS = ("databridge", "uvicorn")

# Where uvicorn itself fails; databridge has no such table.  The tests have to
# fail, but for those that would only wait: they are not run.

SCOPE = "test_asgi_scope.py::test_"
HTTP = "test_asgi_http.py::test_"
FRAMES = "test_asgi_frames.py::test_"
SOCKET = "test_asgi_websocket.py::test_"

SPACE = "the space after a value is not taken off"
TWICE = "its own date and server are sent beside the application's"
SPLIT = "the connection is closed without a 500"
CODING = "the application's transfer-encoding is sent, which must be ignored"
LEFT = "a connection that is lost without a close frame is 1005 instead of 1006"
DIED = "the connection is closed without a close frame"
DROPPED = "waits: frames in the segment of the handshake are dropped"

UVICORN_FAILS = {
    HTTP + "without_a_content_length_http_1_0_gets_bytes_until_the_end[uvicorn]": (
        "chunks are sent to HTTP/1.0"
    ),
    SCOPE + "the_space_around_a_value_is_not_part_of_it[uvicorn-spaces]": SPACE,
    SCOPE + "the_space_around_a_value_is_not_part_of_it[uvicorn-tab]": SPACE,
    SCOPE + "the_space_around_a_value_is_not_part_of_it[uvicorn-both]": SPACE,
    HTTP + "a_header_of_the_application_is_sent_once_and_as_it_is[uvicorn-date]": TWICE,
    HTTP + "a_header_of_the_application_is_sent_once_and_as_it_is[uvicorn-server]": TWICE,
    HTTP + "a_header_cannot_be_split[uvicorn-%0d%0a-value]": SPLIT,
    HTTP + "a_header_cannot_be_split[uvicorn-%0d%0a-name]": SPLIT,
    HTTP + "a_header_cannot_be_split[uvicorn-%0a-value]": SPLIT,
    HTTP + "a_header_cannot_be_split[uvicorn-%0a-name]": SPLIT,
    HTTP + "a_header_cannot_be_split[uvicorn-%0d-value]": SPLIT,
    HTTP + "a_header_cannot_be_split[uvicorn-%0d-name]": SPLIT,
    HTTP + "a_header_cannot_be_split[uvicorn-%00-value]": SPLIT,
    HTTP + "a_header_cannot_be_split[uvicorn-%00-name]": SPLIT,
    HTTP + "transfer_encoding_is_the_servers[uvicorn-gzip]": CODING,
    HTTP + "transfer_encoding_is_the_servers[uvicorn-identity]": CODING,
    SOCKET + "nothing_is_received_between_connect_and_accept[uvicorn]": DROPPED,
    FRAMES + "a_first_message_may_come_with_the_handshake[uvicorn]": DROPPED,
    FRAMES + "a_close_may_come_with_the_handshake[uvicorn]": DROPPED,
    SOCKET + "a_good_handshake_is_accepted[uvicorn-absolute]": (
        "an absolute target is a 500 for a socket"
    ),
    SOCKET + "a_version_that_is_not_spoken_is_told_which_is[uvicorn]": (
        "a 400 without sec-websocket-version, RFC 6455 4.4"
    ),
    SOCKET + "what_is_no_handshake_is_plain_http_or_refused[uvicorn-http_1_0]": (
        "a 500 for the client's mistake"
    ),
    FRAMES + "a_close_between_fragments_is_a_close[uvicorn]": (
        "1002, although control frames may come between fragments, RFC 6455 5.4"
    ),
    SOCKET + "a_client_that_leaves_without_a_close_is_1006[uvicorn-fin]": LEFT,
    SOCKET + "a_client_that_leaves_without_a_close_is_1006[uvicorn-rst]": LEFT,
    SOCKET + "an_application_that_raises_is_1011[uvicorn]": DIED,
    SOCKET + "an_application_that_raises_later_is_1011[uvicorn]": DIED,
}


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

    def socket(self, timeout: float = 15.0) -> WebSocket:
        return WebSocket(self.port, timeout)

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

    def noted(self, key: str, value: Any, seconds: float = 15.0) -> list[Any]:
        """All notes, as soon as the value is among them."""
        until(f"{value!r} among the notes", lambda: value in self.notes(key), seconds)
        return self.notes(key)

    def left_with(self, key: str) -> tuple[int, str]:
        """Code and reason that echo, the case, was told when its socket was closed."""
        until("the disconnect", lambda: "end" in self.notes(key))
        code, reason = self.notes(key)[-2]
        return code, reason

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


def same_connection(peer: Peer, target: str, **more: Any) -> tuple[RawResponse, RawResponse | None]:
    """The answer, and the next one of the connection unless it was closed."""
    with peer.raw() as client:
        client.send(request(target, **more) + request("/scope?next"))
        first = client.response(head=more.get("method") == b"HEAD")

        try:
            return first, client.response()
        except ConnectionError:
            assert client.buffer == b""
            return first, None


def in_step(peer: Peer, target: str, **more: Any) -> RawResponse:
    """The answer; nothing of it may be taken for a part of the next one."""
    first, second = same_connection(peer, target, **more)
    assert second is None or (second.status == 200 and b"b'next'" in second.body)
    return first


def broken(peer: Peer, target: str) -> bool:
    """Whether the client can see that the response is not whole."""
    try:
        return peer.ask(target).status == 500
    except ConnectionError:
        return True


def refused(peer: Peer, target: str) -> None:
    """The answer is a 500, or there is none; nothing of the application's is sent."""
    try:
        answer = in_step(peer, target)
    except ConnectionError as error:
        assert str(error) == "closed after b''"
        return

    assert answer.status == 500
    assert b"early" not in answer.body
