"""The same streams over TLS, with HTTP/1.1 and HTTP/2."""

import asyncio
import hashlib
import os
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import StreamEnded

from harness import SLOWER, SecureNginx, until
from test_streaming import APP, heard, report


class Secure(SecureNginx):
    def secure(self, http2: bool) -> httpx.AsyncClient:
        return httpx.AsyncClient(**self.security(http2))


@pytest.fixture(scope="module")
def shared(certificate: str) -> Iterator[Secure]:
    server = Secure()
    try:
        server.open(certificate, APP)
        yield server
    finally:
        problems = server.finish()
    assert not problems, "\n".join(problems)


@pytest.fixture
def server(shared: Secure) -> Secure:
    shared.client.get("/reset")
    return shared


both = pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for i in range(0, len(body), 50_000):
        yield body[i : i + 50_000]


@both
@pytest.mark.parametrize("streamed", [False, True])
def test_an_upload_arrives_whole(server: Secure, http2: bool, streamed: bool) -> None:
    async def upload() -> list[str]:
        async with server.secure(http2) as client:
            answer = await client.post("/digest", content=pieces(body) if streamed else body)
            return answer.text.split()

    body = os.urandom(20_000_000)
    assert asyncio.run(upload())[:2] == [str(len(body)), hashlib.sha1(body).hexdigest()]


@both
def test_a_body_reaches_the_app_as_it_comes(server: Secure, http2: bool) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"ab"
        await asyncio.to_thread(heard, server, "http.request 2")
        yield b"cd"

    async def talk() -> str:
        async with server.secure(http2) as client:
            return (await client.post("/hear_all", content=body())).text

    assert asyncio.run(talk()) == "abcd"


@both
def test_a_producer_waits_for_an_idle_client(server: Secure, http2: bool) -> None:
    async def idle() -> None:
        async with server.secure(http2) as client, client.stream("GET", "/firehose"):
            last = -1
            while (sent := (await asyncio.to_thread(report, server))[0]) != last or sent == 0:
                last = sent
                await asyncio.sleep(0.2)
            assert sent < 40 << 20

    asyncio.run(idle())
    heard(server, "OSError ClientDisconnected")


@both
@pytest.mark.parametrize("path", ["/hear", "/begin"])
def test_a_client_that_leaves_is_heard_of(server: Secure, http2: bool, path: str) -> None:
    async def leave() -> None:
        async with server.secure(http2) as client:
            request = asyncio.create_task(client.get(path))
            await asyncio.to_thread(heard, server, "http.request 0")
            request.cancel()
            await asyncio.wait({request})

    asyncio.run(leave())
    heard(server, "again http.disconnect")
    assert "cancelled" not in report(server)[1]


def test_a_stream_of_http_2_that_is_reset_is_heard_of(server: Secure) -> None:
    """httpx drops a stream without a word: this is h2 itself."""
    context = ssl.create_default_context(cafile=server.certificate)
    context.set_alpn_protocols(["h2"])
    client = H2Connection(H2Configuration(client_side=True))

    with (
        socket.create_connection(("127.0.0.1", server.tls), 15 * SLOWER) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        client.initiate_connection()

        def ask(path: str) -> int:
            stream = client.get_next_available_stream_id()
            head = {":method": "GET", ":path": path, ":scheme": "https", ":authority": "t"}
            client.send_headers(stream, list(head.items()), end_stream=True)
            secure.sendall(client.data_to_send())
            return stream

        stays, leaves = ask("/hints?wait"), ask("/hear")
        heard(server, "http.request 0")
        client.reset_stream(leaves, ErrorCodes.CANCEL)
        secure.sendall(client.data_to_send())
        heard(server, "again http.disconnect")

        server.client.get("/go")
        answered = False
        while not answered:
            events = client.receive_data(secure.recv(65536))
            answered = any(isinstance(e, StreamEnded) and e.stream_id == stays for e in events)


@both
def test_an_unread_body_does_not_disturb_the_next_request(server: Secure, http2: bool) -> None:
    async def post() -> list[str]:
        async with server.secure(http2) as client:
            return [
                (await client.post("/unread", content=bytes(size))).text
                for size in (10, 3_000_000, 10)
            ]

    assert asyncio.run(post()) == ["unread"] * 3


def test_trailers_end_a_stream_of_http_2(server: Secure) -> None:
    """httpx does not show trailers: curl does."""
    text = until("an answer", lambda: curl(server, "/trailers"))
    assert text.startswith("HTTP/2 200")
    assert "abcdef" in text and "x-sum: 6" in text and "x-end: yes" in text


def curl(server: Secure, path: str) -> str:
    return subprocess.run(
        [
            "curl",
            "-si",
            "--http2",
            "--cacert",
            server.certificate,
            f"https://localhost:{server.tls}{path}",
        ],
        capture_output=True,
        check=True,
        text=True,
        timeout=15 * SLOWER,
    ).stdout


@both
def test_a_file_is_sent_by_its_path(server: Secure, http2: bool) -> None:
    async def fetch() -> bytes:
        async with server.secure(http2) as client:
            return (await client.get("/path?file.bin")).content

    assert asyncio.run(fetch()) == b"0123456789" * 30000
