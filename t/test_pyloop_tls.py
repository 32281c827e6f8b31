"""PyLoop's TLS: the state machine is asyncio's, and so is what a connection does beside it."""

import asyncio
import os
import socket
import ssl
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from databridge import _pyloop
from databridge.loop import new_event_loop, run
from harness.protocols import Recorder as Plain
from test_pyloop_transports import Echo

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
Factory = Callable[[], asyncio.AbstractEventLoop]

# What holds on both is asyncio's behaviour.
both = pytest.mark.parametrize("factory", [new_event_loop, asyncio.SelectorEventLoop])


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    """Of a server and of a client that trusts it."""
    where = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 9 -subj /CN=x"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=where,
        check=True,
        capture_output=True,
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(where / "cert", where / "key")
    return server, ssl.create_default_context(cafile=where / "cert")


class Recorder(Plain):
    """Whose data may come in any number of pieces."""

    def note(self, call: str) -> None:
        if self.calls[-1:] != [call]:
            super().note(call)
        self._changed.set()


class Buffered(Recorder, asyncio.BufferedProtocol):
    """Has room for little."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.buffer = bytearray(1000)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self.buffer)[: max(1, min(sizehint, 1000))]

    def buffer_updated(self, count: int) -> None:
        self.received += self.buffer[:count]
        self.note("data")


def handshake(sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(sock, server_hostname="127.0.0.1")


async def secured(
    contexts: Contexts, protocol: Callable[[], Any] = Recorder
) -> tuple[Any, ssl.SSLSocket]:
    """A server's protocol, and the client's socket, which blocks."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    shaken = asyncio.to_thread(handshake, theirs, contexts[1])
    made = asyncio.get_running_loop().connect_accepted_socket(protocol, ours, ssl=contexts[0])
    client, (_, recorder) = await asyncio.gather(shaken, made)
    return recorder, client


def read_exactly(sock: ssl.SSLSocket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (chunk := sock.recv(size - len(data))):
        data += chunk
    return bytes(data)


def run_on(factory: Factory, main: Any) -> list[dict[str, Any]]:
    """What the exception handler was told meanwhile."""
    told: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: told.append(context))
        runner.run(main)
    return told


def messages(told: list[dict[str, Any]]) -> list[tuple[str, type]]:
    return [(context["message"], type(context["exception"])) for context in told]


@pytest.mark.parametrize("size", [1, 1000, 100_000, 1_000_000])
def test_tls_echoes(contexts: Contexts, size: int) -> None:
    async def main() -> None:
        echo = Echo()
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=contexts[0])
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address, ssl=contexts[1])
        data = os.urandom(size)
        for _ in range(10):
            writer.write(data[: size // 2])
            writer.write(data[size // 2 :])
            assert await reader.readexactly(size) == data
        writer.close()
        await writer.wait_closed()
        await echo.ended.wait()
        server.close()

    run(main())


def test_a_connection_may_become_tls(contexts: Contexts) -> None:
    async def main() -> None:
        async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"OK\n")
            await writer.start_tls(contexts[0])
            writer.write(await reader.readline())
            writer.close()

        server = await asyncio.start_server(upgrade, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"OK\n"
        await writer.start_tls(contexts[1], server_hostname="127.0.0.1")
        writer.write(b"secret\n")
        assert await reader.readline() == b"secret\n"
        writer.close()
        await asyncio.sleep(0)
        server.close()

    run(main())


@both
def test_a_transport_that_cannot_become_tls_is_refused(
    factory: Factory, contexts: Contexts
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        udp, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        wrong: Any = udp
        with pytest.raises(TypeError, match=r"is not supported by start_tls\(\)"):
            await loop.start_tls(wrong, asyncio.Protocol(), contexts[1])
        with pytest.raises(TypeError, match=r"instance of ssl\.SSLContext"):
            await loop.start_tls(wrong, asyncio.Protocol(), wrong)
        udp.close()

    run_on(factory, main())


@both
def test_a_small_buffer_gets_all_in_order(factory: Factory, contexts: Contexts) -> None:
    async def main() -> None:
        protocol, client = await secured(contexts, Buffered)
        data = os.urandom(300_000)
        await asyncio.to_thread(client.sendall, data)
        await protocol.until(lambda: len(protocol.received) == len(data))
        assert protocol.received == data
        (await asyncio.to_thread(client.unwrap)).close()
        await protocol.until(lambda: "lost" in protocol.calls)
        assert protocol.calls == ["made", "data", "eof", "lost"]
        assert protocol.lost is None

    assert run_on(factory, main()) == []


@both
def test_the_peer_s_end_comes_after_its_data(factory: Factory, contexts: Contexts) -> None:
    async def main() -> None:
        protocol, client = await secured(contexts)
        protocol.transport.pause_reading()
        data = os.urandom(50_000)
        await asyncio.to_thread(client.sendall, data)
        ends = asyncio.create_task(asyncio.to_thread(client.unwrap))
        await asyncio.sleep(0.01)
        assert protocol.calls == ["made"]
        protocol.transport.resume_reading()
        (await ends).close()
        await protocol.until(lambda: "lost" in protocol.calls)
        assert protocol.received == data
        assert protocol.calls == ["made", "data", "eof", "lost"]
        assert protocol.transport.is_closing()
        protocol.transport.write(b"in vain")

    assert run_on(factory, main()) == []


@both
def test_whatever_has_bytes_is_written(factory: Factory, contexts: Contexts) -> None:
    async def main() -> None:
        protocol, client = await secured(contexts)
        write, lines = protocol.transport.write, protocol.transport.writelines
        data = os.urandom(100_000)
        changed = bytearray(data)
        write(data)
        write(changed)
        changed[:] = bytes(len(changed))
        write(memoryview(data)[7:])
        lines([data[:10], b"", bytearray(b"abc"), memoryview(data)[::1]])
        lines([])
        write(b"")
        sent = data + data + data[7:] + data[:10] + b"abc" + data
        assert await asyncio.to_thread(read_exactly, client, len(sent)) == sent
        with pytest.raises(TypeError, match="expecting a bytes-like instance, got str"):
            write("text")
        with pytest.raises(TypeError):
            lines(5)
        protocol.transport.close()
        assert await asyncio.to_thread(client.recv, 1) == b""
        (await asyncio.to_thread(client.unwrap)).close()
        await protocol.until(lambda: "lost" in protocol.calls)

    assert run_on(factory, main()) == []


@both
def test_who_writes_too_much_is_told(factory: Factory, contexts: Contexts) -> None:
    async def main() -> None:
        protocol, client = await secured(contexts)
        data = os.urandom(1 << 20)
        for _ in range(4):
            protocol.transport.write(data)
        assert protocol.calls == ["made", "pause"]
        assert protocol.transport.get_write_buffer_size() > 1 << 20
        assert await asyncio.to_thread(read_exactly, client, 4 << 20) == 4 * data
        await protocol.until(lambda: "resume" in protocol.calls)
        assert protocol.transport.get_write_buffer_size() == 0
        protocol.transport.abort()
        await protocol.until(lambda: "lost" in protocol.calls)
        assert protocol.calls == ["made", "pause", "resume", "lost"]
        client.close()

    assert run_on(factory, main()) == []


class Misbehaved(Recorder):
    def data_received(self, data: bytes) -> None:
        raise ZeroDivisionError


@both
def test_a_protocol_that_raises_loses_its_connection(factory: Factory, contexts: Contexts) -> None:
    async def main() -> None:
        protocol, client = await secured(contexts, Misbehaved)
        await asyncio.to_thread(client.sendall, b"x")
        await protocol.until(lambda: "lost" in protocol.calls)
        assert type(protocol.lost) is ZeroDivisionError
        client.close()

    assert messages(run_on(factory, main())) == [("Fatal error on SSL protocol", ZeroDivisionError)]


@both
def test_what_is_no_data_ends_the_connection(factory: Factory, contexts: Contexts) -> None:
    async def main() -> None:
        protocol, client = await secured(contexts)
        protocol.transport.writelines(["text"])
        await protocol.until(lambda: "lost" in protocol.calls)
        client.close()

    assert messages(run_on(factory, main())) == [("Fatal error on SSL protocol", TypeError)]


@both
def test_what_is_no_tls_ends_the_connection(factory: Factory, contexts: Contexts) -> None:
    async def main() -> None:
        protocol, client = await secured(contexts)
        await asyncio.to_thread(client.sendall, b"fine")
        await protocol.until(lambda: protocol.received == b"fine")
        os.write(client.fileno(), b"GET / HTTP/1.1\r\n\r\n")
        await protocol.until(lambda: "lost" in protocol.calls)
        assert isinstance(protocol.lost, ssl.SSLError)
        assert protocol.calls == ["made", "data", "lost"]
        client.close()

    assert run_on(factory, main()) == []


class Counted(ssl.SSLObject):
    """Someone's own, who wants to see every record."""

    reads = writes = 0

    def read(self, *args: Any) -> Any:
        type(self).reads += 1
        return super().read(*args)

    def write(self, data: Any) -> int:
        type(self).writes += 1
        return super().write(data)


@both
def test_an_ssl_object_of_one_s_own_is_used(factory: Factory, contexts: Contexts) -> None:
    async def main() -> None:
        reads, writes = Counted.reads, Counted.writes
        protocol, client = await secured(contexts)
        await asyncio.to_thread(client.sendall, b"ping")
        await protocol.until(lambda: protocol.received == b"ping")
        protocol.transport.write(b"pong")
        assert await asyncio.to_thread(client.recv, 10) == b"pong"
        assert Counted.reads > reads
        assert Counted.writes > writes
        protocol.transport.abort()
        await protocol.until(lambda: "lost" in protocol.calls)
        client.close()

    contexts[0].sslobject_class = Counted
    try:
        assert run_on(factory, main()) == []
    finally:
        contexts[0].sslobject_class = ssl.SSLObject


class Bare(_pyloop.TLSProtocol):
    """Without asyncio's half; it counts as a protocol."""

    lost = False

    def connection_made(self, transport: Any) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


def test_half_a_protocol_is_an_error() -> None:
    async def bare() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        loop: Any = asyncio.get_running_loop()
        protocol = Bare()
        made = loop.create_future()
        loop._make_socket_transport(ours, protocol, made)
        await made
        theirs.send(b"x")
        while not protocol.lost:
            await asyncio.sleep(0)
        theirs.close()

    assert messages(run_on(new_event_loop, bare())) == [
        ("Fatal error: protocol.buffer_updated() call failed.", RuntimeError)
    ]
