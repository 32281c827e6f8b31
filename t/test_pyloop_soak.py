"""PyLoop over millions of callbacks and 100,000 connections: memory stays where it was."""

import asyncio
import gc
import os
import socket
import struct
import threading
from collections.abc import Awaitable, Callable

import pytest

from databridge.loop import run
from harness import SLOWER, processes

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900 * SLOWER)]

COUNT = int(os.environ.get("CALLBACKS", 10_000_000))
CONNECTIONS = int(os.environ.get("SOCKETS", 100_000))
BATCH = 10_000
GROWTH = 1 << 20
LINGER = struct.pack("ii", 1, 0)

Portion = Callable[[asyncio.AbstractEventLoop], Awaitable[None]]


class Cycle:
    """Is held by the handle that it holds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.handle = loop.call_soon(self.method)

    def method(self) -> None: ...


async def callbacks(loop: asyncio.AbstractEventLoop) -> None:
    for i in range(BATCH - 100):
        loop.call_soon(int, *range(i % 2)).cancelled()
    for _ in range(100):
        Cycle(loop)
    await asyncio.sleep(0)


async def from_a_thread(loop: asyncio.AbstractEventLoop) -> None:
    done = loop.create_future()

    def feed() -> None:
        for _ in range(BATCH):
            loop.call_soon_threadsafe(int)
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=feed)
    thread.start()
    await done
    thread.join()


async def timers(loop: asyncio.AbstractEventLoop) -> None:
    done = loop.create_future()
    handles = [loop.call_later(60, int) for _ in range(BATCH // 2)]
    for i in range(BATCH // 2):
        loop.call_later(1e-9 * (i * 7919 % 1000), int)
    for handle in handles:
        handle.cancel()
    loop.call_later(1e-3, done.set_result, None)
    await done


async def tasks(loop: asyncio.AbstractEventLoop) -> None:
    async def child() -> None:
        async with asyncio.timeout(60):
            await asyncio.sleep(0)

    await asyncio.gather(*(child() for _ in range(BATCH)))


async def grown(portion: Portion, times: int) -> int:
    """How much resident memory has grown since a tenth of it was done; it goes up and down."""
    loop = asyncio.get_running_loop()
    sizes = []
    for i in range(times):
        await portion(loop)
        if i >= times // 10:
            gc.collect()
            sizes.append(processes.resident(os.getpid()))
    part = max(1, len(sizes) // 4)
    return min(sizes[-part:]) - min(sizes[:part])


@pytest.mark.parametrize(
    ("portion", "share"), [(callbacks, 1.0), (from_a_thread, 1.0), (timers, 1.0), (tasks, 0.2)]
)
def test_memory_stays_flat_over_ten_million(portion: Portion, share: float) -> None:
    """A task costs some forty callbacks, and has three of them and a timer."""
    growth = run(grown(portion, int(COUNT * share) // BATCH))
    assert growth < GROWTH, f"{growth} bytes"


def test_memory_stays_flat_over_connections_that_come_and_go() -> None:
    async def main() -> int:
        lost = 0

        class Server(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                assert isinstance(transport, asyncio.Transport)
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                self.transport.write(data)

            def connection_lost(self, error: Exception | None) -> None:
                nonlocal lost
                lost += 1

        async def portion(loop: asyncio.AbstractEventLoop) -> None:
            async def session() -> None:
                reader, writer = await asyncio.open_connection(*address)
                writer.write(b"to and fro")
                assert await reader.readexactly(10) == b"to and fro"
                # a reset leaves no port waiting
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
                writer.close()

            await asyncio.gather(*(session() for _ in range(100)))

        loop = asyncio.get_running_loop()
        server = await loop.create_server(Server, "127.0.0.1", 0, backlog=200)
        address = server.sockets[0].getsockname()
        growth = await grown(portion, CONNECTIONS // 100)
        server.close()
        while lost < CONNECTIONS // 100 * 100:
            await asyncio.sleep(0.001)
        return growth

    growth = run(main())
    assert growth < GROWTH, f"{growth} bytes"
