"""User code that runs while the loop works on its own lists; what fails on the way out."""

import asyncio
import contextvars
import gc
import os
import socket
import subprocess
import sys
from asyncio import futures
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from databridge.loop import Loop, new_event_loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = new_event_loop()
    yield loop
    loop.close()


class Final:
    """A callback, or a value, that does something when it goes."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act

    def __call__(self) -> None: ...

    def __del__(self) -> None:
        self.act()


def test_a_timer_that_is_cancelled_while_others_are_swept_is_dropped_once(loop: Loop) -> None:
    variable: contextvars.ContextVar[Final] = contextvars.ContextVar("final")
    victims: list[asyncio.TimerHandle] = []

    def cancel() -> None:
        for victim in victims:
            victim.cancel()

    def first() -> asyncio.TimerHandle:
        variable.set(Final(cancel))
        return loop.call_later(1, print)

    timer = contextvars.Context().run(first)
    others = [loop.call_later(10 + i, print) for i in range(200)]
    victims += [loop.call_later(1000 + i, print) for i in range(10)]
    before = [sys.getrefcount(victim) for victim in victims]

    timer.cancel()
    del timer
    for other in others:
        other.cancel()

    assert all(victim.cancelled() for victim in victims)
    loop.close()
    assert [sys.getrefcount(victim) + 1 for victim in victims] == before


def test_a_callback_that_runs_a_turn_leaves_none_to_the_outer_one(loop: Loop) -> None:
    seen = []

    def call(i: int) -> None:
        seen.append(i)
        if i == 0:
            loop._run_once()  # type: ignore[attr-defined]
        if i == 5:
            loop.stop()

    for i in range(6):
        loop.call_soon(call, i)
    loop.run_forever()
    assert seen == list(range(6))


def test_the_arguments_of_a_handle_may_be_replaced_by_any_iterable(loop: Loop) -> None:
    seen: list[Any] = []
    handle: Any = loop.call_soon(lambda *args: seen.append(args), 1)
    handle._args = ["x", "y"]
    with pytest.raises(TypeError):
        handle._args = 3
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [("x", "y")]


def test_a_handle_that_a_collection_cancels_while_its_arguments_are_asked_for_has_none(
    loop: Loop,
) -> None:
    handle: Any = loop.call_soon(print, 1, 2, 3)
    threshold = gc.get_threshold()
    final: Any = Final(handle.cancel)
    final.cycle = final
    kept = [(i, i, i) for i in range(5000)]  # so that CPython has no free tuple at hand
    del final
    try:
        gc.set_threshold(1)
        args = handle._args
    finally:
        gc.set_threshold(*threshold)
    assert len(kept) == 5000
    assert args is None or args == (1, 2, 3)


def test_a_reader_whose_end_closes_the_loop_is_replaced_without_harm() -> None:
    loop = new_event_loop()
    left, right = socket.socketpair()
    loop.add_reader(left, Final(loop.close))
    loop.add_reader(left, print)
    assert loop.is_closed()
    left.close()
    right.close()


def test_a_listener_whose_descriptor_is_unwatched_when_it_starts_does_no_harm(loop: Loop) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    loop.add_reader(listener, Final(lambda: loop.remove_reader(listener)))

    async def main() -> None:
        server = await loop.create_server(asyncio.Protocol, sock=listener)
        await asyncio.sleep(0)
        server.close()

    loop.run_until_complete(main())


def test_a_future_of_python_may_close_the_loop_while_it_is_unwatched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop: Any = new_event_loop()
    left, right = socket.socketpair()
    left.setblocking(False)

    class Closing(futures._PyFuture):  # type: ignore[name-defined,misc]
        def done(self) -> bool:
            loop.close()
            return bool(super().done())

    monkeypatch.setattr(futures, "Future", Closing)
    waiting = [loop._readable(left), loop._writable(left)]
    monkeypatch.undo()
    loop.remove_reader(left)
    assert loop.is_closed() and len(waiting) == 2
    left.close()
    right.close()


def test_a_socket_that_cannot_be_closed_is_reported_and_its_server_let_go(loop: Loop) -> None:
    reported: list[Any] = []
    loop.set_exception_handler(lambda loop, context: reported.append(context["exception"]))

    async def main() -> None:
        made = loop.create_future()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made.set_result(transport)

        server = await loop.create_server(Protocol, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        transport = await made
        descriptor = transport.get_extra_info("socket").fileno()
        transport.abort()
        os.close(descriptor)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        writer.close()
        server.close()
        await asyncio.wait_for(server.wait_closed(), 10)

    loop.run_until_complete(main())
    assert [type(exc) for exc in reported] == [OSError]


WITHOUT_MEMORY = """
import os
import _testcapi
from databridge.loop import Loop

for i in range(40):
    _testcapi.set_nomemory(i, i + 1)
    try:
        Loop.__new__(Loop)
        failed = None
    except BaseException as exc:
        failed = type(exc)
    _testcapi.remove_mem_hooks()
    os.fstat(0)
    assert failed in (None, MemoryError), (i, failed)
"""


def test_a_loop_that_gets_no_memory_raises_and_closes_nothing_of_others() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_MEMORY], stdin=subprocess.DEVNULL, check=True)
