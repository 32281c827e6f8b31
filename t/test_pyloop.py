"""PyLoop by itself: turns, timers, descriptors, threads and errors."""

import asyncio
import contextvars
import ctypes
import gc
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from databridge.loop import Loop, new_event_loop, run


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    yield left, right
    left.close()
    right.close()


def turn(loop: Loop) -> None:
    """One turn of the loop."""
    loop.stop()
    loop.run_forever()


# Turns


def test_a_turn_runs_what_was_ready_when_it_began(loop: Loop) -> None:
    seen: list[str] = []

    def first() -> None:
        seen.append("first")
        loop.call_soon(seen.append, "next turn")

    loop.call_soon(first)
    loop.call_soon(seen.append, "second")
    turn(loop)
    assert seen == ["first", "second"]
    turn(loop)
    assert seen == ["first", "second", "next turn"]


def test_stop_lets_the_turn_end(loop: Loop) -> None:
    seen: list[int] = []
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, 1)
    loop.call_soon(loop.call_soon, seen.append, 2)
    loop.run_forever()
    assert seen == [1]
    turn(loop)
    assert seen == [1, 2]


def test_busy_callbacks_starve_neither_descriptors_nor_timers(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    seen: set[str] = set()
    begin = time.monotonic()

    def spin() -> None:
        if len(seen) < 2 and time.monotonic() - begin < 10:
            loop.call_soon(spin)
        else:
            loop.stop()

    def read() -> None:
        pair[0].recv(1)
        seen.add("descriptor")

    loop.add_reader(pair[0], read)
    loop.call_later(0.005, seen.add, "timer")
    loop.call_later(0.002, pair[1].send, b"x")
    loop.call_soon(spin)
    loop.run_forever()
    assert seen == {"descriptor", "timer"}


def test_the_ready_queue_grows_while_it_wraps(loop: Loop) -> None:
    seen: list[int] = []
    for _ in range(40):
        loop.call_soon(int)
    turn(loop)
    for i in range(1000):
        loop.call_soon(seen.append, i)
    turn(loop)
    assert seen == list(range(1000))


def test_a_loop_runs_once_at_a_time(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()
        with pytest.raises(RuntimeError, match="Cannot close a running"):
            loop.close()
        other = new_event_loop()
        with pytest.raises(RuntimeError, match="another loop is running"):
            other.run_forever()
        other.close()

    loop.run_until_complete(main())
    assert not loop.is_running()


def test_a_closed_loop_takes_nothing(loop: Loop) -> None:
    loop.close()
    loop.close()
    assert loop.is_closed()
    calls: list[Callable[[], Any]] = [
        lambda: loop.call_soon(int),
        lambda: loop.call_soon_threadsafe(int),
        lambda: loop.call_later(1, int),
        lambda: loop.call_at(1, int),
        lambda: loop.add_reader(0, int),
        loop.run_forever,
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            call()
    assert loop.remove_reader(0) is False


# Handles and timers


def test_handles_are_asyncio_s(loop: Loop) -> None:
    soon = loop.call_soon(print, 1)
    later = loop.call_later(10, print, 2)
    at = loop.call_at(loop.time() + 10, print)

    assert isinstance(soon, asyncio.Handle) and not isinstance(soon, asyncio.TimerHandle)
    assert isinstance(later, asyncio.TimerHandle) and isinstance(at, asyncio.TimerHandle)
    assert repr(soon) == "<Handle print(1)>"
    assert repr(later) == f"<TimerHandle when={later.when()} print(2)>"
    assert later < at and later != at and hash(later) == hash(later.when())
    assert weakref.ref(soon)() is soon
    assert not soon.cancelled()
    soon.cancel()
    soon.cancel()
    later.cancel()
    assert soon.cancelled() and later.cancelled()
    assert repr(soon) == "<Handle cancelled>"


def test_a_cancelled_callback_is_dropped_at_once(loop: Loop) -> None:
    class Callback:
        def __call__(self, *args: Any) -> None:
            raise AssertionError("cancelled")

    schedules: list[Callable[[Any], asyncio.Handle]] = [
        lambda callback: loop.call_soon(callback, 1),
        lambda callback: loop.call_later(0, callback, 1),
    ]
    for schedule in schedules:
        callback = Callback()
        gone = weakref.ref(callback)
        handle = schedule(callback)
        del callback
        assert gone() is not None
        handle.cancel()
        assert gone() is None
    turn(loop)


def test_a_callback_may_cancel_itself_and_its_neighbour(loop: Loop) -> None:
    seen: list[str] = []

    def callback() -> None:
        handles[0].cancel()
        handles[1].cancel()
        seen.append("ran")

    handles = [loop.call_soon(callback), loop.call_soon(seen.append, "cancelled")]
    turn(loop)
    assert seen == ["ran"]


def test_timers_fire_in_order_and_never_early(loop: Loop) -> None:
    seen: list[tuple[float, float]] = []
    base = loop.time()

    def fired(when: float) -> None:
        seen.append((when, loop.time()))

    whens = [base + (i * 7919 % 500) * 1e-5 for i in range(500)]
    for when in whens:
        loop.call_at(when, fired, when)
    loop.call_at(base + 0.006, loop.stop)
    loop.run_forever()

    assert [when for when, _ in seen] == sorted(whens)
    assert all(at >= when - 1e-6 for when, at in seen)


def test_equal_times_keep_their_order(loop: Loop) -> None:
    seen: list[int] = []
    when = loop.time()
    for i in range(100):
        loop.call_at(when, seen.append, i)
    turn(loop)
    assert seen == list(range(100))


def test_timers_cancelled_at_random_leave_the_others_right(loop: Loop) -> None:
    seen: list[int] = []
    when = loop.time()
    timers = {i: loop.call_at(when + i * 1e-9, seen.append, i) for i in range(1000)}
    order = [i * 7919 % 1000 for i in range(1000)]
    for i in order[:700]:
        timers[i].cancel()
    time.sleep(0.001)
    turn(loop)
    assert seen == sorted(order[700:])


def test_a_short_sleep_is_not_rounded_to_milliseconds() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        took = []
        for _ in range(50):
            begin = loop.time()
            await asyncio.sleep(0.0002)
            took.append(loop.time() - begin)
        return min(took)  # a busy machine comes later, and never sooner

    assert 0.0002 <= run(main()) < 0.0009


@pytest.mark.parametrize("when", [float("nan"), float("-inf"), -1, 0, 5])
def test_any_past_time_is_due(loop: Loop, when: float) -> None:
    seen: list[int] = []
    loop.call_at(when, seen.append, 1)
    turn(loop)
    assert seen == [1]


def test_wrong_arguments_are_told(loop: Loop) -> None:
    with pytest.raises(TypeError, match="delay must not be None"):
        loop.call_later(None, int)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="when cannot be None"):
        loop.call_at(None, int)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callback"):
        loop.call_soon()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'when'"):
        loop.call_at(callback=int)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'wrong'"):
        loop.call_soon(int, wrong=1)  # type: ignore[call-arg]
    seen: list[int] = []
    loop.call_soon(callback=lambda: seen.append(1))
    loop.call_later(delay=0, callback=lambda: seen.append(2))
    loop.call_at(when=loop.time(), callback=lambda: seen.append(3), context=None)
    turn(loop)
    assert seen == [1, 2, 3]


def test_callbacks_run_in_their_context(loop: Loop) -> None:
    variable = contextvars.ContextVar("variable", default="default")
    seen: list[str] = []
    context = contextvars.copy_context()
    context.run(variable.set, "given")
    loop.call_soon(lambda: seen.append(variable.get()), context=context)
    loop.call_soon(lambda: seen.append(variable.get()), context=context)
    token = variable.set("scheduled")
    loop.call_later(0, lambda: seen.append(variable.get()))
    variable.reset(token)
    turn(loop)
    assert seen == ["given", "given", "scheduled"]


# Errors


def test_an_exception_goes_to_the_handler_in_asyncio_s_words(loop: Loop) -> None:
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    def fail(argument: int) -> None:
        raise ValueError("wrong")

    handle = loop.call_soon(fail, 1)
    turn(loop)
    (context,) = contexts
    assert set(context) == {"message", "exception", "handle"}
    assert context["message"].startswith("Exception in callback ")
    assert "fail(1) at " in context["message"]
    assert context["handle"] is handle
    assert isinstance(context["exception"], ValueError)
    assert context["exception"].__traceback__ is not None


def test_a_context_entered_twice_is_an_error_of_the_callback(loop: Loop) -> None:
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    context = contextvars.copy_context()
    loop.call_soon(int, context=context)
    context.run(turn, loop)
    assert "cannot enter context" in str(contexts[0]["exception"])


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_an_exit_leaves_at_once_and_the_rest_runs_later(
    loop: Loop, exception: type[BaseException]
) -> None:
    seen: list[int] = []

    def leave() -> None:
        raise exception

    hooks = sys.get_asyncgen_hooks()
    loop.call_soon(leave)
    loop.call_soon(seen.append, 1)
    with pytest.raises(exception):
        loop.run_forever()
    assert seen == [] and not loop.is_running()
    assert sys.get_asyncgen_hooks() == hooks
    assert asyncio._get_running_loop() is None
    turn(loop)
    assert seen == [1]


def test_debug_mode_checks_and_tells(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    async def coroutine() -> None:
        return None

    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    with pytest.raises(TypeError, match="coroutines cannot be used with call_soon"):
        loop.call_soon(coroutine)
    with pytest.raises(TypeError, match="callable object was expected by call_at"):
        loop.call_later(1, 1)  # type: ignore[arg-type]

    errors: list[str] = []

    def elsewhere() -> None:
        try:
            loop.call_soon(int)
        except RuntimeError as error:
            errors.append(str(error))

    def start() -> None:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        time.sleep(0.02)

    handle = loop.call_soon(start)
    assert f"created at {__file__}" in repr(handle)
    with caplog.at_level(logging.WARNING, "asyncio"):
        turn(loop)
    assert errors and "Non-thread-safe operation" in errors[0]
    assert re.search(r"Executing <Handle .* took \d+\.\d{3} seconds", caplog.text)


# Descriptors


def test_a_reader_is_level_triggered(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    seen: list[bytes] = []
    loop.add_reader(pair[0], lambda: seen.append(pair[0].recv(1)))
    pair[1].send(b"ab")
    turn(loop)
    turn(loop)
    turn(loop)
    assert seen == [b"a", b"b"]
    assert loop.remove_reader(pair[0]) is True
    assert loop.remove_reader(pair[0]) is False


def test_a_reader_removed_in_its_turn_does_not_fire(loop: Loop) -> None:
    pairs = [socket.socketpair(), socket.socketpair()]
    seen: list[int] = []

    def read(me: int, other: int) -> None:
        seen.append(me)
        loop.remove_reader(pairs[other][0])

    loop.add_reader(pairs[0][0], read, 0, 1)
    loop.add_reader(pairs[1][0], read, 1, 0)
    for _, right in pairs:
        right.send(b"x")
    turn(loop)
    assert len(seen) == 1
    for left, right in pairs:
        loop.remove_reader(left)
        left.close()
        right.close()


def test_both_directions_and_a_hang_up(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    seen: list[str] = []
    loop.add_reader(pair[0], seen.append, "read")
    loop.add_writer(pair[0], seen.append, "write")
    turn(loop)
    assert seen == ["write"]
    loop.remove_writer(pair[0])
    turn(loop)
    assert seen == ["write"]
    pair[1].close()
    turn(loop)
    assert seen == ["write", "read"]


def test_a_descriptor_closed_and_used_again_is_watched_again(loop: Loop) -> None:
    seen: list[str] = []
    first, other = socket.socketpair()
    number = first.fileno()
    loop.add_reader(number, seen.append, "first")
    first.close()
    other.close()
    again, writer = socket.socketpair()
    if again.fileno() != number:
        os.dup2(again.fileno(), number)
    loop.add_reader(number, seen.append, "again")
    writer.send(b"x")
    turn(loop)
    assert seen == ["again"]
    assert loop.remove_reader(number)
    if again.fileno() != number:
        os.close(number)
    again.close()
    writer.close()


def test_a_socket_closed_while_watched_can_be_removed(loop: Loop) -> None:
    left, right = socket.socketpair()
    loop._add_reader(left, int)
    left.close()
    assert loop._remove_reader(left) is True
    right.close()
    with pytest.raises(ValueError, match="Invalid file object"):
        loop._add_reader("nothing", int)
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        loop._add_reader(-1, int)


def test_a_loop_leaves_no_descriptor_behind() -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=subprocess.PIPE)
        process.terminate()
        assert await process.wait() == -signal.SIGTERM

    run(main())
    before = count()
    for _ in range(5):
        run(main())
    assert count() == before


# Threads, signals and children


def test_another_thread_wakes_a_sleeping_loop() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        took: list[float] = []
        for _ in range(20):
            future: asyncio.Future[float] = loop.create_future()

            def wake(future: "asyncio.Future[float]" = future) -> None:
                time.sleep(0.002)
                loop.call_soon_threadsafe(future.set_result, time.monotonic())

            thread = threading.Thread(target=wake)
            thread.start()
            took.append(time.monotonic() - await future)
            thread.join()
        return sorted(took)[10]

    assert run(asyncio.wait_for(main(), 10)) < 0.1


def test_no_callback_of_many_threads_is_lost(loop: Loop) -> None:
    seen: list[int] = []

    def feed() -> None:
        for i in range(5000):
            loop.call_soon_threadsafe(seen.append, i)
        loop.call_soon_threadsafe(done)

    def done() -> None:
        finished.append(True)
        if len(finished) == 4:
            loop.stop()

    finished: list[bool] = []
    threads = [threading.Thread(target=feed) for _ in range(4)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join()
    assert len(seen) == 20000


def test_an_interrupt_cancels_the_main_task() -> None:
    async def main() -> str:
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return "slept"

    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(main())
    assert seen == ["cancelled"]


def test_a_signal_before_the_run_is_kept(loop: Loop) -> None:
    seen: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert seen == [1]
    assert loop.remove_signal_handler(signal.SIGUSR1)


def test_children_end_in_any_thread() -> None:
    async def main() -> list[int]:
        codes = []
        for script in ("exit 3", "kill -9 $$"):
            process = await asyncio.create_subprocess_exec("/bin/sh", "-c", script)
            codes.append(await process.wait())
        process = await asyncio.create_subprocess_exec("/bin/sleep", "10")
        process.terminate()
        codes.append(await process.wait())
        return codes

    expected = [3, -signal.SIGKILL, -signal.SIGTERM]
    codes: list[list[int]] = []
    thread = threading.Thread(target=lambda: codes.append(run(main())))
    thread.start()
    thread.join(20)
    assert codes == [expected] and run(main()) == expected


# The type


def test_a_subclass_with_attributes_and_its_own_clock() -> None:
    class Clock(Loop):
        now = 100.0

        def time(self) -> float:
            return self.now

    loop = Clock()
    loop.anything = 1  # type: ignore[attr-defined]
    assert weakref.ref(loop)() is loop
    seen: list[int] = []
    timer = loop.call_later(5, seen.append, 1)
    assert timer.when() == 105
    turn(loop)
    assert seen == []
    loop.now = 105
    turn(loop)
    assert seen == [1]
    loop.close()


def test_a_subclass_may_override_what_schedules() -> None:
    seen: list[str] = []

    class Own(Loop):
        def call_at(  # type: ignore[override]
            self, when: float, callback: Any, *args: Any, **kwargs: Any
        ) -> asyncio.TimerHandle:
            seen.append("call_at")
            return super().call_at(when, callback, *args, **kwargs)

        def _run_once(self) -> None:
            seen.append("turn")
            super()._run_once()  # type: ignore[misc]

    loop = Own()
    loop.call_later(0, seen.append, "timer", context=contextvars.copy_context())
    turn(loop)
    assert seen == ["call_at", "turn", "timer"]
    loop.close()


def test_a_closed_loop_is_freed() -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(100, int)

    loop = new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None


def test_an_open_loop_in_a_cycle_is_collected() -> None:
    loop = new_event_loop()
    loop.call_later(100, loop.time)
    loop.call_soon(loop.time)
    gone = weakref.ref(loop)
    del loop
    with pytest.warns(ResourceWarning, match="unclosed"):
        gc.collect()
    assert gone() is None


def test_a_policy_is_made_for_those_who_ask() -> None:
    from databridge.loop import EventLoopPolicy

    policy = EventLoopPolicy()
    loop = policy.new_event_loop()
    assert type(loop) is Loop
    loop.close()


def test_hot_paths_do_not_grow() -> None:
    async def child() -> None:
        await asyncio.sleep(0)

    async def churn(rounds: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(rounds):
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            loop.call_later(60, int).cancel()
            loop.call_later(0, int)
            await future
            await loop.create_task(child())

    def held() -> int:
        """Resident bytes; under AddressSanitizer, which keeps freed memory, the live ones."""
        sanitizer = getattr(ctypes.CDLL(None), "__sanitizer_get_current_allocated_bytes", None)
        if sanitizer is not None:
            sanitizer.restype = ctypes.c_size_t
            return int(sanitizer())
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async def main() -> int:
        await churn(20000)
        gc.collect()
        before = held()
        await churn(100000)
        gc.collect()
        return held() - before

    assert run(main()) < 512 * 1024
