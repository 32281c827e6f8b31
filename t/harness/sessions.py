"""Sessions of real packages on the running loop: by itself, or in a handler's.

Each takes the directory of a certificate for localhost, or the URI of a MongoDB, and raises
what goes wrong.  The module needs nothing of the harness: an application imports it too.
"""

import asyncio
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any


def contexts(certificate: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and the client's."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(Path(certificate, "cert.pem"), Path(certificate, "key.pem"))
    return server, ssl.create_default_context(cafile=str(Path(certificate, "cert.pem")))


async def aiohttp(certificate: str) -> None:
    """A server with a stream, an upload and a WebSocket, and a client, over TLS."""
    from aiohttp import ClientSession, ClientTimeout, ServerTimeoutError, WSMsgType, web

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for i in range(20):
            await response.write(b"%d\n" % i * 1000)
        return response

    async def upload(request: web.Request) -> web.Response:
        return web.json_response({"size": len(await request.read())})

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    app = web.Application(client_max_size=1 << 24)
    app.add_routes([web.get("/stream", stream), web.post("/upload", upload)])
    app.add_routes([web.get("/slow", slow), web.get("/echo", echo)])
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    server, client = contexts(certificate)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server)
    await site.start()
    base = f"https://127.0.0.1:{runner.addresses[0][1]}"

    async with ClientSession() as session:
        async with session.get(base + "/stream", ssl=client) as response:
            lines = (await response.text()).split()
            assert lines == [str(i) for i in range(20) for _ in range(1000)]

        async def post(size: int) -> None:
            async with session.post(base + "/upload", data=b"x" * size, ssl=client) as response:
                assert await response.json() == {"size": size}

        await asyncio.gather(*(post(size) for size in (0, 1, 65536, 900_000) * 4))

        async with session.ws_connect(base + "/echo", ssl=client) as echoing:
            for i in range(50):
                await echoing.send_str(f"message {i}")
                message = await echoing.receive()
                assert (message.type, message.data) == (WSMsgType.TEXT, f"MESSAGE {i}")

        try:
            await session.get(base + "/slow", ssl=client, timeout=ClientTimeout(sock_read=0.05))
        except ServerTimeoutError:
            pass
        else:
            raise AssertionError("no timeout")
    await runner.cleanup()


async def websockets(certificate: str) -> None:
    """Large and small messages both ways, over TLS, then a close with a reason."""
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.exceptions import ConnectionClosedError

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            if message == "close":
                await connection.close(4000, "asked for")
            await connection.send(message)

    ours, theirs = contexts(certificate)
    async with serve(echo, "127.0.0.1", 0, ssl=ours, max_size=1 << 22) as server:
        host, port = next(iter(server.sockets)).getsockname()
        async with connect(f"wss://{host}:{port}", ssl=theirs, max_size=1 << 22) as connection:
            for message in ("text", b"bytes", "", b"x" * 2_000_000):
                await connection.send(message)
                assert await connection.recv() == message
            await connection.send("close")
            try:
                await connection.recv()
            except ConnectionClosedError as closed:
                assert closed.rcvd and (closed.rcvd.code, closed.rcvd.reason) == (4000, "asked for")
            else:
                raise AssertionError("not closed")


async def httpx(certificate: str) -> None:
    """A client with a pool against a server of asyncio's streams, over TLS."""
    import httpx

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    ours, theirs = contexts(certificate)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=ours)
    port = server.sockets[0].getsockname()[1]
    async with httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{port}", verify=theirs, trust_env=False, timeout=40
    ) as client:

        async def post(size: int) -> None:
            body = b"y" * size
            assert (await client.post("/", content=body)).content == body

        await asyncio.gather(*(post(size) for size in (1, 1000, 700_000) * 10))
    server.close()
    await server.wait_closed()


async def anyio(certificate: str) -> None:
    """Task groups, cancel scopes, threads, a TCP listener, a process and a memory stream."""
    import anyio
    from anyio import to_thread
    from anyio.abc import SocketStream

    async def echo(stream: SocketStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send(data)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, echo)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            for size in (1, 10_000, 300_000):
                await stream.send(b"z" * size)
                got = 0
                while got < size:
                    got += len(await stream.receive())

        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep(60)
        assert scope.cancelled_caught

        assert await to_thread.run_sync(sum, [1, 2, 3]) == 6
        done = await anyio.run_process([sys.executable, "-c", "print(input())"], input=b"in\n")
        assert done.stdout == b"in\n"

        sender, receiver = anyio.create_memory_object_stream[int](1)

        async def send() -> None:
            async with sender:
                for i in range(100):
                    await sender.send(i)

        group.start_soon(send)
        async with receiver:
            assert [i async for i in receiver] == list(range(100))
        group.cancel_scope.cancel()
    await listener.aclose()


async def mongo(uri: str) -> None:
    """PyMongo's AsyncMongoClient: many at once, a cursor, an error, and its close."""
    from pymongo import AsyncMongoClient
    from pymongo.errors import DuplicateKeyError

    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        things = client.get_default_database()["things"]
        await things.drop()
        await asyncio.gather(*(things.insert_one({"_id": i, "n": i % 7}) for i in range(200)))
        assert await things.count_documents({"n": 3}) == 29
        found = [document["_id"] async for document in things.find({"n": 3}).sort("_id")]
        assert found == list(range(3, 200, 7))
        try:
            await things.insert_one({"_id": 1})
        except DuplicateKeyError:
            pass
        else:
            raise AssertionError("inserted twice")
        await things.drop()


async def streams(certificate: str) -> None:
    """asyncio's streams over TCP, UNIX sockets and TLS, with back pressure and half a close."""

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = 0
        while data := await reader.read(65536):
            size += len(data)
            await asyncio.sleep(0)
        writer.write(b"%d" % size)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(count, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for _ in range(50):
        writer.write(b"x" * 100_000)
        await writer.drain()
    writer.write_eof()
    assert await reader.read() == b"5000000"
    writer.close()
    await writer.wait_closed()
    server.close()

    ours, theirs = contexts(certificate)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello " + await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=ours)
    host, port = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(host, port, ssl=theirs)
    writer.write(b"world\n")
    assert await reader.read() == b"hello world\n"
    writer.close()
    server.close()


async def subprocesses(certificate: str) -> None:
    """Pipes, an exit code, a signal that ends a child, and many children at once."""
    child = await asyncio.create_subprocess_exec(
        *("sh", "-c", "tr a-z A-Z; echo err >&2; exit 3"), stdin=-1, stdout=-1, stderr=-1
    )
    assert await child.communicate(b"text") == (b"TEXT", b"err\n")
    assert child.returncode == 3

    child = await asyncio.create_subprocess_exec("sleep", "60")
    child.terminate()
    assert await child.wait() == -signal.SIGTERM

    async def run(i: int) -> None:
        child = await asyncio.create_subprocess_shell(f"exit {i}")
        assert await child.wait() == i

    await asyncio.gather(*(run(i) for i in range(20)))


async def executors(certificate: str) -> None:
    """The default executor, to_thread with its context, and a callback from a thread."""
    loop = asyncio.get_running_loop()
    results = await asyncio.gather(*(loop.run_in_executor(None, pow, i, 2) for i in range(100)))
    assert results == [i * i for i in range(100)]

    future = loop.create_future()
    await asyncio.to_thread(loop.call_soon_threadsafe, future.set_result, "called")
    assert await future == "called"
    concurrent = asyncio.run_coroutine_threadsafe(asyncio.sleep(0.001, "run"), loop)
    assert await asyncio.to_thread(lambda: True) and await asyncio.wrap_future(concurrent) == "run"


async def datagrams(certificate: str) -> None:
    """Datagrams to and fro, and an error that comes back."""
    loop = asyncio.get_running_loop()

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: Any) -> None:
            self.transport.sendto(data[::-1], address)

    class Client(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.received: asyncio.Queue[bytes] = asyncio.Queue()
            self.errors: asyncio.Queue[Exception] = asyncio.Queue()

        def datagram_received(self, data: bytes, address: Any) -> None:
            self.received.put_nowait(data)

        def error_received(self, error: Exception) -> None:
            self.errors.put_nowait(error)

    server, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    address = server.get_extra_info("sockname")
    client, protocol = await loop.create_datagram_endpoint(Client, remote_addr=address)
    for i in range(50):
        client.sendto(b"datagram %d" % i)
        assert await protocol.received.get() == (b"datagram %d" % i)[::-1]
    server.close()
    await asyncio.sleep(0)
    client.sendto(b"to no one")
    assert isinstance(await protocol.errors.get(), ConnectionRefusedError)
    client.close()


async def sockets(certificate: str) -> None:
    """The loop's own methods for sockets."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        accepting = loop.create_task(loop.sock_accept(listener))
        await loop.sock_connect(client, listener.getsockname())
        peer, _ = await accepting
        with peer:
            sending = loop.create_task(loop.sock_sendall(client, b"x" * 5_000_000))
            size = 0
            while size < 5_000_000:
                size += len(await loop.sock_recv(peer, 1 << 16))
            await sending


async def generators(certificate: str) -> None:
    """One left half way is closed by the loop."""
    closed = asyncio.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            for i in range(10):
                yield i
        finally:
            await asyncio.sleep(0)
            closed.set()

    async for i in numbers():
        if i == 3:
            break
    del i
    await asyncio.wait_for(closed.wait(), 10)


STANDARD = [streams, subprocesses, executors, datagrams, sockets, generators]
PACKAGES = [aiohttp, websockets, httpx, anyio]
