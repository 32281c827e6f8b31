"""PyLoop beside asyncio and uvloop: interleaved rounds, medians, one process.

python bench/pyloop.py [--rounds N] [--slice SECONDS] [NAME ...]
"""

import argparse
import asyncio
import socket
import statistics
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from databridge.loop import Loop

Factory = Callable[[], asyncio.AbstractEventLoop]
Bench = Callable[[asyncio.AbstractEventLoop], Awaitable[int]]

BENCHES: dict[str, Bench] = {}


def bench(function: Bench) -> Bench:
    """Registers a coroutine that does one portion of work and returns its size."""
    BENCHES[function.__name__] = function
    return function


@bench
async def call_soon_chain(loop: asyncio.AbstractEventLoop) -> int:
    done = loop.create_future()
    left = 5000

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    loop.call_soon(step)
    await done
    return 5000


@bench
async def call_soon_batch(loop: asyncio.AbstractEventLoop) -> int:
    done = loop.create_future()
    for _ in range(10000):
        loop.call_soon(int)
    loop.call_soon(done.set_result, None)
    await done
    return 10000


@bench
async def call_soon_3_args(loop: asyncio.AbstractEventLoop) -> int:
    def callback(a: int, b: int, c: int) -> None:
        return None

    done = loop.create_future()
    for _ in range(10000):
        loop.call_soon(callback, 1, 2, 3)
    loop.call_soon(done.set_result, None)
    await done
    return 10000


@bench
async def timers_fire(loop: asyncio.AbstractEventLoop) -> int:
    done = loop.create_future()
    for i in range(10000):
        loop.call_later(1e-9 * (i * 7919 % 10000), int)
    loop.call_later(1e-3, done.set_result, None)
    await done
    return 10000


@bench
async def timers_cancel(loop: asyncio.AbstractEventLoop) -> int:
    handles = [loop.call_later(10 + (i * 7919 % 10000), int) for i in range(10000)]
    for handle in handles:
        handle.cancel()
    await asyncio.sleep(0)
    return 10000


@bench
async def timer_churn(loop: asyncio.AbstractEventLoop) -> int:
    for _ in range(10000):
        loop.call_later(60, int).cancel()
    return 10000


@bench
async def task_await_chain(loop: asyncio.AbstractEventLoop) -> int:
    async def child() -> None:
        return None

    for _ in range(3000):
        await loop.create_task(child())
    return 3000


@bench
async def sleep0_pingpong(loop: asyncio.AbstractEventLoop) -> int:
    async def spin() -> None:
        for _ in range(3000):
            await asyncio.sleep(0)

    await asyncio.gather(spin(), spin())
    return 6000


@bench
async def future_pingpong(loop: asyncio.AbstractEventLoop) -> int:
    for _ in range(5000):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future
    return 5000


@bench
async def gather(loop: asyncio.AbstractEventLoop) -> int:
    async def child() -> None:
        await asyncio.sleep(0)

    await asyncio.gather(*(child() for _ in range(2000)))
    return 2000


@bench
async def timeout_block(loop: asyncio.AbstractEventLoop) -> int:
    for _ in range(2000):
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
    return 2000


@bench
async def threadsafe_throughput(loop: asyncio.AbstractEventLoop) -> int:
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


@bench
async def executor_roundtrip(loop: asyncio.AbstractEventLoop) -> int:
    for _ in range(300):
        await loop.run_in_executor(None, int)
    return 300


class Echo(asyncio.Protocol):
    """Sends back what it gets; a client's counts until its share is done."""

    def __init__(self, done: "asyncio.Future[None] | None" = None, share: int = 0) -> None:
        self.done = done
        self.share = share

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self.done is not None:
            transport.write(b"x" * 1024)

    def data_received(self, data: bytes) -> None:
        if self.done is not None:
            self.share -= 1
            if self.share == 0:
                self.transport.close()
                self.done.set_result(None)
                return
        self.transport.write(data)


@bench
async def tcp_echo(loop: asyncio.AbstractEventLoop) -> int:
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    dones = [loop.create_future() for _ in range(8)]
    for done in dones:
        await loop.create_connection(partial(Echo, done, 300), *address)
    await asyncio.gather(*dones)
    server.close()
    return 2400


@bench
async def sock_echo(loop: asyncio.AbstractEventLoop) -> int:
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)

    async def answer() -> None:
        for _ in range(1000):
            await loop.sock_sendall(right, await loop.sock_recv(right, 2048))

    task = loop.create_task(answer())
    for _ in range(1000):
        await loop.sock_sendall(left, b"x" * 1024)
        await loop.sock_recv(left, 2048)
    await task
    left.close()
    right.close()
    return 1000


@bench
async def subprocess_spawn(loop: asyncio.AbstractEventLoop) -> int:
    for _ in range(5):
        process = await asyncio.create_subprocess_exec("/bin/true")
        await process.wait()
    return 5


async def _repeat(work: Bench, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    count = 0
    begin = time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        count += await work(loop)
    return count / spent


def _run_until_complete(factory: Factory, seconds: float) -> float:
    async def nothing() -> None:
        return None

    loop = factory()
    count = 0
    begin = time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        loop.run_until_complete(nothing())
        count += 1
    loop.close()
    return count / spent


def _measure(name: str, factory: Factory, seconds: float) -> float:
    if name == "run_until_complete":
        return _run_until_complete(factory, seconds)
    with asyncio.Runner(loop_factory=factory) as runner:
        if name == "subprocess_spawn":
            asyncio.get_child_watcher().attach_loop(runner.get_loop())
        return runner.run(_repeat(BENCHES[name], seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slice", type=float, default=0.2)
    options = parser.parse_args()

    loops: dict[str, Factory] = {"pyloop": Loop, "asyncio": asyncio.SelectorEventLoop}
    try:
        import uvloop
    except ImportError:
        print("uvloop is not installed: left out")
    else:
        loops["uvloop"] = uvloop.new_event_loop

    peers = [peer for peer in loops if peer != "pyloop"]
    print(f"{'':24}{'op/s':>12}" + "".join(f"{'x ' + peer:>12}" for peer in peers))
    ratios: dict[str, list[float]] = {peer: [] for peer in peers}

    for name in options.names or [*BENCHES, "run_until_complete"]:
        rates: dict[str, list[float]] = {loop: [] for loop in loops}
        for _ in range(options.rounds):
            for loop, factory in loops.items():
                rates[loop].append(_measure(name, factory, options.slice))
        medians = {loop: statistics.median(values) for loop, values in rates.items()}
        row = f"{name:24}{medians['pyloop']:12,.0f}"
        for peer in peers:
            ratio = medians["pyloop"] / medians[peer]
            ratios[peer].append(ratio)
            row += f"{ratio:12.2f}"
        print(row, flush=True)

    means = (f"{statistics.geometric_mean(ratios[peer]):12.2f}" for peer in peers)
    print(f"{'geometric mean':36}" + "".join(means))


if __name__ == "__main__":
    main()
