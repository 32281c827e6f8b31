"""The rows of sockets, pipes and children; importing it registers them."""

import asyncio
import gc
import os
import resource
import socket
import ssl
import struct
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from .rows import ROWS, Loop, Portion, Row, add, row

SIZES = {"1k": 1024, "100k": 102400}
MESSAGES = {"1k": 400, "100k": 128}  # of all connections together, in a portion
IDLE = 3000
LIMIT = 1 << 18  # of a stream: a message fits
LINGER = struct.pack("ii", 1, 0)

# of a loop, the size of a message and the number of connections
Echo = Callable[[Loop, int, int], AbstractAsyncContextManager[Callable[[int], Awaitable[Any]]]]


@cache
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    with tempfile.TemporaryDirectory(prefix="bench-loop-") as directory:
        certificate, key = f"{directory}/cert.pem", f"{directory}/key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
            + ["-subj", "/CN=localhost", "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate, key)
        return server, ssl.create_default_context(cafile=certificate)


@contextmanager
def _path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="bench-loop-") as directory:
        yield f"{directory}/socket"


# Protocols


class Server(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Client(asyncio.Protocol):
    """Sends its message again as often as it has come back whole."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.left = len(message)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def begin(self, share: int) -> "asyncio.Future[None]":
        self.share = share
        self.done = asyncio.get_running_loop().create_future()
        self.send()
        return self.done

    def send(self) -> None:
        self.transport.write(self.message)

    def data_received(self, data: bytes) -> None:
        self.arrived(len(data))

    def arrived(self, count: int) -> None:
        self.left -= count
        if self.left > 0:
            return
        self.left = len(self.message)
        self.share -= 1
        if self.share:
            self.send()
        else:
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if self.share:
            self.done.set_exception(error or ConnectionError("closed"))


class BufferedServer(asyncio.BufferedProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = bytearray(65536)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.transport.write(bytes(memoryview(self.buffer)[:count]))


class BufferedClient(Client, asyncio.BufferedProtocol):
    buffer = bytearray(65536)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.arrived(count)


Connect = Callable[[Any], Awaitable[tuple[Any, Any]]]


@asynccontextmanager
async def _clients(
    connect: Connect, kind: Any, size: int, connections: int
) -> AsyncIterator[Callable[[int], Awaitable[Any]]]:
    pairs = [await connect(partial(kind, b"x" * size)) for _ in range(connections)]

    async def exchange(share: int) -> None:
        await asyncio.gather(*[client.begin(share) for _, client in pairs])

    yield exchange
    for transport, _ in pairs:
        transport.close()


@asynccontextmanager
async def _tcp_protocol(
    loop: Loop,
    size: int,
    connections: int,
    *,
    server: Any = Server,
    client: Any = Client,
    tls: bool = False,
) -> AsyncIterator[Callable[[int], Awaitable[Any]]]:
    ours: Any = {}
    theirs: Any = {}
    if tls:
        ours["ssl"], theirs["ssl"] = _contexts()
        theirs["server_hostname"] = "localhost"
    listener = await loop.create_server(server, "127.0.0.1", 0, backlog=128, **ours)
    host, port = listener.sockets[0].getsockname()

    def connect(factory: Any) -> Awaitable[tuple[Any, Any]]:
        return loop.create_connection(factory, host, port, **theirs)

    async with _clients(connect, client, size, connections) as exchange:
        yield exchange
    listener.close()


@asynccontextmanager
async def _unix_protocol(
    loop: Loop, size: int, connections: int
) -> AsyncIterator[Callable[[int], Awaitable[Any]]]:
    with _path() as path:
        listener = await loop.create_unix_server(Server, path, backlog=128)

        def connect(factory: Any) -> Awaitable[tuple[Any, Any]]:
            return loop.create_unix_connection(factory, path)

        async with _clients(connect, Client, size, connections) as exchange:
            yield exchange
        listener.close()


# Streams


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> None:
    try:
        while True:
            writer.write(await reader.readexactly(size))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int, share: int
) -> None:
    message = b"x" * size
    for _ in range(share):
        writer.write(message)
        await writer.drain()
        await reader.readexactly(size)


@asynccontextmanager
async def _streams(
    server: asyncio.Server, connect: Any, size: int, connections: int
) -> AsyncIterator[Callable[[int], Awaitable[Any]]]:
    pairs = [await connect(limit=LIMIT) for _ in range(connections)]

    async def exchange(share: int) -> None:
        await asyncio.gather(*[_ask(reader, writer, size, share) for reader, writer in pairs])

    yield exchange
    for _, writer in pairs:
        writer.close()
    server.close()


@asynccontextmanager
async def _tcp_streams(
    loop: Loop, size: int, connections: int
) -> AsyncIterator[Callable[[int], Awaitable[Any]]]:
    server = await asyncio.start_server(
        partial(_answer, size=size), "127.0.0.1", 0, limit=LIMIT, backlog=128
    )
    connect = partial(asyncio.open_connection, *server.sockets[0].getsockname())
    async with _streams(server, connect, size, connections) as exchange:
        yield exchange


@asynccontextmanager
async def _unix_streams(
    loop: Loop, size: int, connections: int
) -> AsyncIterator[Callable[[int], Awaitable[Any]]]:
    with _path() as path:
        server = await asyncio.start_unix_server(
            partial(_answer, size=size), path, limit=LIMIT, backlog=128
        )
        connect = partial(asyncio.open_unix_connection, path)
        async with _streams(server, connect, size, connections) as exchange:
            yield exchange


# Sockets


async def _receive(loop: Loop, sock: socket.socket, buffer: memoryview) -> bool:
    have = 0
    while have < len(buffer):
        count = await loop.sock_recv_into(sock, buffer[have:])
        if count == 0:
            return False
        have += count
    return True


async def _socket_answer(loop: Loop, sock: socket.socket, size: int) -> None:
    buffer = memoryview(bytearray(size))
    with sock:
        while await _receive(loop, sock, buffer):
            await loop.sock_sendall(sock, buffer)


async def _socket_ask(loop: Loop, sock: socket.socket, buffer: memoryview, share: int) -> None:
    for _ in range(share):
        await loop.sock_sendall(sock, buffer)
        if not await _receive(loop, sock, buffer):
            raise ConnectionError("closed")


@asynccontextmanager
async def _sockets(
    loop: Loop, size: int, connections: int, *, family: int = socket.AF_INET
) -> AsyncIterator[Callable[[int], Awaitable[Any]]]:
    with socket.socket(family) as listener, _path() as path:
        listener.bind(("127.0.0.1", 0) if family == socket.AF_INET else path)
        listener.listen(128)
        listener.setblocking(False)
        answers, clients = [], []
        for _ in range(connections):
            client = socket.socket(family)
            client.setblocking(False)
            await loop.sock_connect(client, listener.getsockname())
            clients.append((client, memoryview(bytearray(size))))
            server, _ = await loop.sock_accept(listener)
            answers.append(loop.create_task(_socket_answer(loop, server, size)))

        async def exchange(share: int) -> None:
            await asyncio.gather(
                *[_socket_ask(loop, client, buffer, share) for client, buffer in clients]
            )

        yield exchange
        for client, _ in clients:
            client.close()
        await asyncio.gather(*answers)


# Datagrams


class DatagramServer(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.transport.sendto(data, address)


class DatagramClient(Client, asyncio.DatagramProtocol):
    def send(self) -> None:
        self.transport.sendto(self.message)

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.arrived(len(data))


@asynccontextmanager
async def _udp_protocol(
    loop: Loop, size: int, connections: int
) -> AsyncIterator[Callable[[int], Awaitable[Any]]]:
    server, _ = await loop.create_datagram_endpoint(DatagramServer, local_addr=("127.0.0.1", 0))
    address = server.get_extra_info("sockname")

    def connect(factory: Any) -> Awaitable[tuple[Any, Any]]:
        return loop.create_datagram_endpoint(factory, remote_addr=address)

    async with _clients(connect, DatagramClient, size, connections) as exchange:
        yield exchange
    server.close()


def _register(name: str, echo: Echo, sizes: tuple[str, ...] = ("1k", "100k")) -> None:
    for size in sizes:
        for connections in (1, 64):
            open = partial(_portions, echo, size, connections)
            ROWS[f"{name}_{size}_{connections}"] = Row(open)


@asynccontextmanager
async def _portions(echo: Echo, size: str, connections: int, loop: Loop) -> AsyncIterator[Portion]:
    share = MESSAGES[size] // connections

    async with echo(loop, SIZES[size], connections) as exchange:

        async def portion() -> int:
            await exchange(share)
            return share * connections

        yield portion


_register("tcp_protocol", _tcp_protocol)
_register(
    "tcp_buffered", partial(_tcp_protocol, server=BufferedServer, client=BufferedClient), ("1k",)
)
_register("tcp_streams", _tcp_streams)
_register("tcp_sockets", _sockets)
_register("unix_protocol", _unix_protocol)
_register("unix_streams", _unix_streams)
_register("unix_sockets", partial(_sockets, family=socket.AF_UNIX))
_register("udp_protocol", _udp_protocol, ("1k",))
_register("tls_protocol", partial(_tcp_protocol, tls=True))


# The rest


@asynccontextmanager
async def _listener(loop: Loop, factory: Any) -> AsyncIterator[tuple[str, int]]:
    server = await loop.create_server(factory, "127.0.0.1", 0, backlog=1024)
    yield server.sockets[0].getsockname()
    server.close()


@row
async def tcp_connect_close(loop: Loop) -> int:
    """Ended by a reset, so that no port is left waiting."""
    async with _listener(loop, asyncio.Protocol) as address:
        for _ in range(100):
            transport, _ = await loop.create_connection(asyncio.Protocol, *address)
            peer = transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
            transport.abort()
        await asyncio.sleep(0)
    return 100


class Sink(asyncio.Protocol):
    def __init__(self, done: "asyncio.Future[None]", size: int) -> None:
        self.done = done
        self.left = size

    def data_received(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left == 0:
            self.done.set_result(None)


@row
async def write_burst_64b(loop: Loop) -> int:
    """Twenty bursts of a hundred small writes in one turn each."""
    done = loop.create_future()
    data = b"x" * 64
    async with _listener(loop, partial(Sink, done, 64 * 2000)) as address:
        transport, _ = await loop.create_connection(asyncio.Protocol, *address)
        for _ in range(20):
            for _ in range(100):
                transport.write(data)
            await asyncio.sleep(0)
        await done
        transport.close()
    return 2000


async def subprocess_spawn(loop: Loop) -> int:
    for _ in range(5):
        process = await asyncio.create_subprocess_exec("/bin/true")
        await process.wait()
    return 5


add("subprocess_spawn", subprocess_spawn, children=True)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def memory_idle_connection(loop: Loop) -> float:
    """The accepted end of a connection; of the client's there is but a descriptor."""
    made = 0
    all_made = loop.create_future()

    class Idle(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            nonlocal made, all_made
            self.transport = transport
            made += 1
            if not all_made.done():
                all_made.set_result(None)

    async def connect(count: int) -> None:
        nonlocal all_made
        for _ in range(count):
            with socket.create_connection(address) as client:
                descriptors.append(os.dup(client.fileno()))
            all_made = loop.create_future()
            if made < len(descriptors):
                await all_made

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    descriptors: list[int] = []
    async with _listener(loop, Idle) as address:
        await connect(IDLE // 10)
        gc.collect()
        before = _resident()
        await connect(IDLE)
        gc.collect()
        size = (_resident() - before) / IDLE
        for descriptor in descriptors:
            os.close(descriptor)
        await asyncio.sleep(0.05)
    return size


add("memory_idle_connection", memory_idle_connection, "bytes")
