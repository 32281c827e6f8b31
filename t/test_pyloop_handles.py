"""PyLoop's handles: what is made only when someone asks must not be told from asyncio's."""

import asyncio
import contextvars
import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from databridge.loop import Loop, new_event_loop, run
from harness import until

VAR = contextvars.ContextVar("VAR", default="unset")


class Held:
    """Something to hold."""


@pytest.fixture(params=[new_event_loop, asyncio.SelectorEventLoop], ids=["pyloop", "asyncio"])
def either(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """Both loops: what asyncio does is what is right."""
    loop = request.param()
    yield loop
    loop.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = new_event_loop()
    yield loop
    loop.close()


def turn(loop: asyncio.AbstractEventLoop) -> None:
    loop.stop()
    loop.run_forever()


def turns(loop: asyncio.AbstractEventLoop, condition: Callable[[], bool]) -> None:
    """Turns until it holds."""

    def probe() -> bool:
        turn(loop)
        return condition()

    until("the turns to have done it", probe)


def private(handle: asyncio.Handle, name: str) -> Any:
    """An attribute that annotations do not have and debuggers look at."""
    return getattr(handle, name)


# Contexts


def test_no_callback_sees_what_another_has_set(either: asyncio.AbstractEventLoop) -> None:
    seen: list[str] = []

    def setter() -> None:
        seen.append(VAR.get())
        VAR.set("set")
        either.call_soon(lambda: seen.append("child " + VAR.get()))

    VAR.set("outer")
    either.call_soon(setter)
    either.call_soon(lambda: seen.append(VAR.get()))
    turn(either)
    turn(either)
    assert seen == ["outer", "outer", "child set"]
    assert VAR.get() == "outer"


def test_a_held_handle_tells_what_its_callback_has_set(either: asyncio.AbstractEventLoop) -> None:
    before = either.call_soon(int)
    handle = either.call_soon(VAR.set, "by the callback")
    context = private(before, "_context")
    assert isinstance(context, contextvars.Context)
    turn(either)
    assert private(handle, "_context").get(VAR) == "by the callback"
    assert private(before, "_context") is context


def test_a_token_is_no_good_in_another_callback(either: asyncio.AbstractEventLoop) -> None:
    tokens: list[contextvars.Token[str]] = []
    errors: list[Any] = []
    either.set_exception_handler(lambda loop, context: errors.append(context["exception"]))
    either.call_soon(lambda: tokens.append(VAR.set("x")))
    either.call_soon(lambda: VAR.reset(tokens[0]))
    turn(either)
    assert [type(error) for error in errors] == [ValueError]


def test_a_value_goes_with_the_last_callback_that_has_it(
    either: asyncio.AbstractEventLoop,
) -> None:
    variable: contextvars.ContextVar[Held] = contextvars.ContextVar("variable")
    held = Held()
    gone = weakref.ref(held)

    def scope(held: Held) -> None:
        variable.set(held)
        either.call_soon(int)
        either.call_soon(variable.get)

    contextvars.Context().run(scope, held)
    del held
    turn(either)
    turn(either)
    assert gone() is None


def test_readers_keep_their_context_from_call_to_call(either: asyncio.AbstractEventLoop) -> None:
    receiver, sender = os.pipe()
    seen: list[str] = []

    def readable() -> None:
        seen.append(VAR.get())
        VAR.set(VAR.get() + "+")

    VAR.set("r")
    os.write(sender, b"x")
    either.add_reader(receiver, readable)
    turn(either)
    turn(either)
    either.remove_reader(receiver)
    os.close(receiver)
    os.close(sender)
    assert seen == ["r", "r+"]


def test_a_nested_turn_has_a_context_of_its_own(loop: Loop) -> None:
    seen: list[str] = []

    def outer() -> None:
        VAR.set("outer")
        loop.call_soon(lambda: VAR.set("inner"))
        getattr(loop, "_run_once")()  # noqa: B009
        seen.append(VAR.get())

    loop.call_soon(outer)
    turn(loop)
    assert seen == ["outer"]


# Arguments and times


@pytest.mark.parametrize("count", [0, 1, 3, 4, 20])
def test_arguments_of_any_number_arrive(either: asyncio.AbstractEventLoop, count: int) -> None:
    seen: list[Any] = []
    args = tuple(range(count))
    held = either.call_soon(lambda *given: seen.append(given), *args)
    either.call_soon(lambda *given: seen.append(given), *args)
    timer = either.call_later(0, lambda *given: seen.append(given), *args)
    turns(either, lambda: len(seen) == 3)
    assert seen == [args] * 3
    assert private(timer, "_args") == args
    assert "<lambda>" in repr(held)


def test_a_callback_that_cancels_itself_keeps_its_arguments(
    either: asyncio.AbstractEventLoop,
) -> None:
    kept: list[bool] = []

    def callback(held: Held) -> None:
        gone = weakref.ref(held)
        handle.cancel()
        gc.collect()
        kept.append(gone() is held)

    handle = either.call_soon(callback, Held())
    turn(either)
    assert kept == [True]
    assert handle.cancelled()


def test_cancel_drops_the_arguments_at_once(either: asyncio.AbstractEventLoop) -> None:
    held = Held()
    gone = weakref.ref(held)
    handles = [either.call_soon(id, held), either.call_later(60, id, held)]
    del held
    for handle in handles:
        handle.cancel()
    assert gone() is None


def test_the_time_of_a_timer_is_as_it_was_given(either: asyncio.AbstractEventLoop) -> None:
    assert either.call_at(5, int).when() == 5
    assert type(either.call_at(5, int).when()) is int
    now = either.time()
    timer = either.call_later(60, int)
    assert now + 60 <= timer.when() <= either.time() + 60
    assert timer.when() == private(timer, "_when")
    assert sorted([timer, either.call_later(1, int)])[1] is timer
    assert hash(timer) == hash(timer.when())


# Memory


def cycle(loop: Loop, schedule: Callable[[Loop, Callable[[], None]], Any]) -> "weakref.ref[Any]":
    """Something that holds the handle of its own method."""

    class Node:
        def method(self) -> None: ...

    node = Node()
    vars(node)["handle"] = schedule(loop, node.method)
    return weakref.ref(node)


@pytest.mark.parametrize("cancel", [False, True])
def test_a_cycle_through_a_handle_is_collected(loop: Loop, cancel: bool) -> None:
    gone = [
        cycle(loop, lambda loop, callback: loop.call_soon(callback)),
        cycle(loop, lambda loop, callback: loop.call_later(0, callback)),
        cycle(loop, lambda loop, callback: loop.call_soon_threadsafe(callback)),
    ]
    if cancel:
        for ref in gone:
            node = ref()
            assert node is not None
            node.handle.cancel()
            del node
    turns(loop, lambda: gc.collect() >= 0 and not any(ref() for ref in gone))


def test_what_waits_is_not_collected(loop: Loop) -> None:
    gone = cycle(loop, lambda loop, callback: loop.call_later(60, callback))
    anonymous = Held()
    kept = weakref.ref(anonymous)
    loop.call_later(60, id, anonymous)
    del anonymous
    gc.collect()
    assert gone() is not None and kept() is not None
    loop.close()
    gc.collect()
    assert gone() is None and kept() is None


def test_cancelled_timers_do_not_pile_up(loop: Loop) -> None:
    first = loop.call_later(1, int)
    held = [loop.call_later(60 + i, int) for i in range(10000)]
    refs = [weakref.ref(handle) for handle in held]
    for handle in held[::-1][:5000] + held[:5000]:
        handle.cancel()
    del held, handle
    assert sum(ref() is not None for ref in refs) < 200
    assert first.cancelled() is False


def test_a_timer_cancelled_on_its_way_does_not_count_twice(loop: Loop) -> None:
    seen: list[int] = []
    timers = [loop.call_later(0, seen.append, i) for i in range(500)]

    def cancel() -> None:
        for timer in timers[1:]:
            timer.cancel()

    loop.call_soon(cancel)
    later = [loop.call_later(0.001, seen.append, 1000 + i) for i in range(200)]
    for timer in later[1:]:
        timer.cancel()
    turns(loop, lambda: len(seen) == 2)
    assert seen[-1] == 1000


# Threads and children


def test_a_loop_may_be_closed_while_threads_wake_it() -> None:
    for _ in range(50):
        loop = new_event_loop()
        barrier = threading.Barrier(4)

        def call(loop: Loop = loop, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                for _ in range(1000):
                    loop.call_soon_threadsafe(loop.stop)
            except RuntimeError as error:
                assert str(error) == "Event loop is closed"

        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        barrier.wait()
        loop.run_forever()
        loop.close()
        for thread in threads:
            thread.join()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_child_does_to_its_parent_s_loop_does_not_reach_it(loop: Loop) -> None:
    receiver, sender = os.pipe()
    seen: list[bytes] = []
    loop.add_reader(receiver, lambda: seen.append(os.read(receiver, 1)))
    turn(loop)

    child = os.fork()
    if child == 0:
        status = 1
        try:
            loop.call_soon_threadsafe(int)
            loop.remove_reader(receiver)
            loop.close()
            status = run(asyncio.sleep(0.001, 0))
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0

    os.write(sender, b"x")
    turns(loop, lambda: seen == [b"x"])
    thread = threading.Timer(0.05, loop.call_soon_threadsafe, [loop.stop])
    begin = time.monotonic()
    thread.start()
    loop.run_forever()
    assert time.monotonic() - begin < 5
    loop.remove_reader(receiver)
    os.close(receiver)
    os.close(sender)


def test_an_inherited_loop_may_run_in_the_child(loop: Loop) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = loop.run_until_complete(asyncio.sleep(0.001, 0))
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert loop.run_until_complete(asyncio.sleep(0.001, "parent")) == "parent"
