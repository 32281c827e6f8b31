"""Protocols whose callbacks close, abort, write, raise or give way, at random: nothing is left."""

import asyncio
import gc
import random
import socket
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from databridge.loop import new_event_loop

CONNECTIONS = 60


class Mischief:
    """What the callbacks of the connection that is open do to its transport."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.transport: Any = None
        self.protocols: weakref.WeakSet[Any] = weakref.WeakSet()

    def protocol(self) -> Any:
        made: Any = self.random.choice([Plain, Buffered])(self)
        self.protocols.add(made)
        return made

    def act(self) -> None:
        for _ in range(self.random.randrange(3) if self.transport else 0):
            with suppress(RuntimeError, TypeError):
                self.random.choice(ACTS)(self, self.transport)

    def fail(self) -> None:
        raise self.random.choice([ValueError, OSError, asyncio.CancelledError])


def lines(mischief: Mischief) -> list[Any]:
    last = mischief.random.choice([b"", b"last", "no data"])
    return [bytes(mischief.random.randrange(1000)), bytearray(5), memoryview(b"xyz"), last]


ACTS: list[Callable[[Mischief, Any], Any]] = [
    lambda mischief, tr: tr.close(),
    lambda mischief, tr: tr.abort(),
    lambda mischief, tr: tr.write(bytes(mischief.random.randrange(300_000))),
    lambda mischief, tr: tr.write(b"few"),
    lambda mischief, tr: tr.writelines(lines(mischief)),
    lambda mischief, tr: tr.write_eof(),
    lambda mischief, tr: tr.set_protocol(mischief.protocol()),
    lambda mischief, tr: tr.set_write_buffer_limits(mischief.random.randrange(1000)),
    lambda mischief, tr: tr.pause_reading(),
    lambda mischief, tr: tr.resume_reading(),
    lambda mischief, tr: tr.get_extra_info("socket"),
    lambda mischief, tr: tr._make_empty_waiter(),
    lambda mischief, tr: tr._reset_empty_waiter(),
    lambda mischief, tr: repr(tr),
    lambda mischief, tr: mischief.fail(),
]


class Plain(asyncio.Protocol):
    """Does it while its methods are looked up already."""

    def __init__(self, mischief: Mischief) -> None:
        self._mischief = mischief

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            object.__getattribute__(self, "_mischief").act()
        return object.__getattribute__(self, name)

    def eof_received(self) -> bool:
        return self._mischief.random.random() < 0.5


class Buffered(asyncio.BufferedProtocol):
    """Does it in its methods."""

    def __init__(self, mischief: Mischief) -> None:
        self._mischief = mischief
        self._buffer = bytearray(1000)

    def connection_made(self, transport: Any) -> None:
        self._mischief.act()

    def get_buffer(self, sizehint: int) -> bytearray:
        self._mischief.act()
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._mischief.act()

    def eof_received(self) -> bool:
        self._mischief.act()
        return self._mischief.random.random() < 0.5

    def pause_writing(self) -> None:
        self._mischief.act()

    def resume_writing(self) -> None:
        self._mischief.act()

    def connection_lost(self, exc: Exception | None) -> None:
        self._mischief.act()


async def turns(mischief: Mischief, peer: socket.socket) -> None:
    for _ in range(mischief.random.randrange(20)):
        with suppress(OSError, ValueError, asyncio.CancelledError):
            match mischief.random.randrange(5):
                case 0:
                    peer.send(bytes(mischief.random.randrange(1, 100_000)))
                case 1:
                    peer.recv(1 << 20)
                case 2:
                    mischief.act()
                case 3 if mischief.random.random() < 0.2:
                    peer.close()
        await asyncio.sleep(0)


async def connect(mischief: Mischief) -> "weakref.ref[Any]":
    ours, peer = socket.socketpair()
    peer.setblocking(False)
    connected = asyncio.get_running_loop().create_connection(mischief.protocol, sock=ours)
    transport, _ = await connected
    mischief.transport = transport
    await turns(mischief, peer)
    mischief.transport = None
    transport.abort()
    peer.close()
    return weakref.ref(transport)


@pytest.mark.parametrize("seed", range(8))
def test_no_transport_and_no_protocol_outlives_its_connection(seed: int) -> None:
    mischief = Mischief(seed)

    async def main() -> list["weakref.ref[Any]"]:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        made = [await connect(mischief) for _ in range(CONNECTIONS)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return made

    loop = new_event_loop()
    made = loop.run_until_complete(main())
    loop.close()
    gc.collect()
    assert [each for each in made if each() is not None] == []
    assert len(mischief.protocols) == 0
