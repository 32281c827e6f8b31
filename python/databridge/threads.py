"""The threads of synchronous calls, and how busy they are.

`def` handlers run in anyio's threads, those of plans in threads that the module keeps busy,
`asyncio.to_thread()` and `run_in_executor()` use the loop's executor, WSGI applications
have a pool.  All are looked at once a second, on the loop's thread: that costs a worker
some microseconds, and no call anything but the executor's count.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import _databridge
from databridge.wsgi import Pool

PERIOD = 1.0
"""Seconds between two looks."""

_serving: set[asyncio.Task[None]] = set()


def step_back() -> None:
    """Leaves a busy processor to nginx's thread: Python's are nicer, and all that they start.

    The threads of stores are none of Python's, and keep up with nginx's.
    """
    for thread in threading.enumerate():
        if thread.native_id is not None:
            with contextlib.suppress(ProcessLookupError):
                nice = os.getpriority(os.PRIO_PROCESS, thread.native_id) + _databridge.nice()
                os.setpriority(os.PRIO_PROCESS, thread.native_id, nice)


def start(loop: asyncio.AbstractEventLoop) -> None:
    """Starts a thread that runs the steps of plans; called by the module in any thread."""
    loop.call_soon_threadsafe(_start, loop)


def _start(loop: asyncio.AbstractEventLoop) -> None:
    task = loop.create_task(_serve(), name="databridge-steps")
    _serving.add(task)
    task.add_done_callback(_serving.discard)


async def _serve() -> None:
    """One call in a thread of anyio's, without an end, so that all of anyio works in it."""
    from anyio import CapacityLimiter
    from anyio.to_thread import run_sync

    begun = threading.Event()

    def serve() -> None:
        begun.set()
        _databridge.serve_steps()

    try:
        await run_sync(serve, abandon_on_cancel=True, limiter=CapacityLimiter(1))
    except BaseException as exc:
        if not begun.is_set():
            _databridge.lost_steps(exc)
        if not isinstance(exc, Exception):
            raise


class SyncThreads(ThreadPoolExecutor):
    """An executor that knows how many of its calls have not ended."""

    def __init__(self, max_workers: int | None, thread_name_prefix: str) -> None:
        super().__init__(max_workers, thread_name_prefix)
        self.limit: int = self._max_workers
        self._unfinished = 0
        self._counting = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        with self._counting:
            self._unfinished += 1
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: Future[Any]) -> None:
        with self._counting:
            self._unfinished -= 1

    def use(self) -> tuple[int, int]:
        """Calls that run, and calls that wait for a thread."""
        busy = min(self._unfinished, self.limit)
        return busy, self._unfinished - busy


class Gauge:
    """Tells nginx each second what the threads do."""

    def __init__(self, loop: asyncio.AbstractEventLoop, executor: SyncThreads) -> None:
        self._loop = loop
        self._executor = executor
        self._limiter: Any = None

    def start(self, limiter: Any, pool: Pool) -> None:
        """`limiter` is anyio's for threads, None when no application uses anyio."""
        self._limiter = limiter
        self._look(pool)

    def _look(self, pool: Pool) -> None:
        limit = steps = self._executor.limit
        busy, waiting = self._executor.use()
        running = pool.running()
        busy += min(running, limit)
        waiting += max(0, running - limit)
        if self._limiter is not None:
            statistics = self._limiter.statistics()
            steps = int(min(statistics.total_tokens, 2**31))
            limit = max(limit, steps)
            busy += statistics.borrowed_tokens
            waiting += statistics.tasks_waiting
        running, queued = _databridge.steps(steps)
        busy += running
        waiting += queued
        _databridge.threads(limit, busy, waiting)
        self._loop.call_later(PERIOD, self._look, pool)
