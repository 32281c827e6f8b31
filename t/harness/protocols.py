"""Protocols that tests of PyLoop's transports put on one end of a connection."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any


class Recorder(asyncio.Protocol):
    """Notes what is called, and answers who waits for something."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.received = bytearray()
        self.transport: Any = None
        self.lost: BaseException | None = None
        self._changed = asyncio.Event()

    def note(self, call: str) -> None:
        self.calls.append(call)
        self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 10)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("made")

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.note("data")

    def eof_received(self) -> bool | None:
        self.note("eof")
        return None

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc
        self.note("lost")


class HalfOpen(Recorder):
    def eof_received(self) -> bool:
        self.note("eof")
        return True


async def joined(protocol: Callable[[], Any] = Recorder) -> tuple[Any, socket.socket]:
    """A protocol on one end of a pair of sockets, and the other end, which blocks."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    _, made = await asyncio.get_running_loop().create_connection(protocol, sock=ours)
    return made, theirs
