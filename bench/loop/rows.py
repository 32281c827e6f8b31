"""What is measured: the register of rows, and those of scheduling."""

import asyncio
import statistics
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

Loop = asyncio.AbstractEventLoop
Portion = Callable[[], Awaitable[float]]
Unit = Literal["op/s", "us", "bytes"]


@dataclass
class Row:
    """
    ``open`` sets up what is not measured and yields a function for one
    portion of work, which returns its size, or the figure where that is no rate.
    """

    open: Callable[[Loop], AbstractAsyncContextManager[Portion]]
    unit: Unit = "op/s"
    children: bool = False  # whose CPU time counts as well


ROWS: dict[str, Row] = {}


def add(
    name: str,
    work: Callable[[Loop], Awaitable[float]],
    unit: Unit = "op/s",
    children: bool = False,
) -> None:
    """Registers what needs no setting up."""

    @asynccontextmanager
    async def open(loop: Loop) -> AsyncIterator[Portion]:
        yield partial(work, loop)

    ROWS[name] = Row(open, unit, children)


def row(work: Callable[[Loop], Awaitable[float]]) -> Callable[[Loop], Awaitable[float]]:
    """Registers a coroutine function under its name."""
    add(work.__name__, work)
    return work


@row
async def call_soon_chain(loop: Loop) -> int:
    done = loop.create_future()
    left = 20000

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    loop.call_soon(step)
    await done
    return 20000


@row
async def call_soon_batch(loop: Loop) -> int:
    done = loop.create_future()
    for _ in range(100_000):
        loop.call_soon(int)
    loop.call_soon(done.set_result, None)
    await done
    return 100_000


@row
async def call_soon_3_args(loop: Loop) -> int:
    def callback(a: int, b: int, c: int) -> None:
        return None

    done = loop.create_future()
    for _ in range(10000):
        loop.call_soon(callback, 1, 2, 3)
    loop.call_soon(done.set_result, None)
    await done
    return 10000


@row
async def timers_fire(loop: Loop) -> int:
    done = loop.create_future()
    for i in range(100_000):
        loop.call_later(1e-9 * (i * 7919 % 100_000), int)
    loop.call_later(2e-3, done.set_result, None)
    await done
    return 100_000


@row
async def timers_cancel(loop: Loop) -> int:
    handles = [loop.call_later(10 + i * 7919 % 100_000, int) for i in range(100_000)]
    for handle in handles:
        handle.cancel()
    await asyncio.sleep(0)
    return 100_000


@row
async def timer_churn(loop: Loop) -> int:
    for _ in range(10000):
        loop.call_later(60, int).cancel()
    await asyncio.sleep(0)
    return 10000


@row
async def task_chain(loop: Loop) -> int:
    async def child() -> None:
        return None

    for _ in range(3000):
        await loop.create_task(child())
    return 3000


@row
async def gather_10k(loop: Loop) -> int:
    async def child() -> None:
        await asyncio.sleep(0)

    await asyncio.gather(*(child() for _ in range(10000)))
    return 10000


@row
async def many_tasks_sleep(loop: Loop) -> int:
    async def child(delay: float) -> None:
        await asyncio.sleep(delay)

    tasks = [loop.create_task(child(1e-6 * (i * 7919 % 5000))) for i in range(5000)]
    await asyncio.wait(tasks)
    return 5000


@row
async def sleep0_pingpong(loop: Loop) -> int:
    async def spin() -> None:
        for _ in range(3000):
            await asyncio.sleep(0)

    await asyncio.gather(spin(), spin())
    return 6000


@row
async def future_pingpong(loop: Loop) -> int:
    for _ in range(5000):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future
    return 5000


@row
async def timeout_block(loop: Loop) -> int:
    for _ in range(2000):
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
    return 2000


@row
async def run_until_complete(loop: Loop) -> int:
    """Never awaited: each call of the loop's method runs it once."""
    return 1


@row
async def threadsafe_throughput(loop: Loop) -> int:
    done = loop.create_future()

    def feed() -> None:
        for _ in range(20000):
            loop.call_soon_threadsafe(int)
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=feed)
    thread.start()
    await done
    thread.join()
    return 20000


async def _wakeups(loop: Loop) -> list[float]:
    """Times from call_soon_threadsafe() to the callback, of a loop that sleeps."""
    times: list[float] = []
    done = loop.create_future()
    slept = threading.Event()

    def woken(begin: float) -> None:
        times.append(time.perf_counter() - begin)
        slept.set()

    def feed() -> None:
        for _ in range(200):
            time.sleep(2e-4)
            slept.clear()
            loop.call_soon_threadsafe(woken, time.perf_counter())
            slept.wait()
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=feed)
    thread.start()
    await done
    thread.join()
    return times


async def threadsafe_wakeup_p50(loop: Loop) -> float:
    return statistics.median(await _wakeups(loop)) * 1e6


async def threadsafe_wakeup_p99(loop: Loop) -> float:
    return sorted(await _wakeups(loop))[197] * 1e6


add("threadsafe_wakeup_p50", threadsafe_wakeup_p50, "us")
add("threadsafe_wakeup_p99", threadsafe_wakeup_p99, "us")


@row
async def executor_roundtrip(loop: Loop) -> int:
    for _ in range(300):
        await loop.run_in_executor(None, int)
    return 300
