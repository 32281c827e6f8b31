"""What runs in a worker of nginx: starts the applications, and ends them.

`run()` is called by the module on the thread that is Python's main one.  Every step of
the end has a deadline: a worker never hangs because of an application.
"""

import asyncio
import atexit
import gc
import importlib
import logging
import sys
from collections.abc import Awaitable
from typing import Any

import _databridge
from databridge import interface, loading, logs, process, tables
from databridge.lifespan import Lifespan, LifespanError
from databridge.loop import new_event_loop
from databridge.threads import Gauge, SyncThreads, step_back
from databridge.wsgi import WSGI, Pool

logger = logging.getLogger("databridge")

LIFESPAN_TIMEOUT = 30.0
"""For lifespan.shutdown; nginx ends a worker that has less time before that."""

DEFAULT_THREADS = 40

CANCEL_TIMEOUT = 1.0
"""For what was cancelled to end: requests first, other tasks last."""

FAST_LIFESPAN_TIMEOUT = 0.4
FAST_CANCEL_TIMEOUT = 0.12
"""The same when nginx, told to terminate, gives Python a second in all."""


def run() -> None:
    debugging = importlib.import_module("databridge.debugging") if loading.developing() else None
    if debugging:
        debugging.keep_bytecode_of_libraries()
        flush = debugging.install_output()
    else:
        flush = logs.install()
    process.install()

    # What is imported may use the loop as one that does not run yet, even close it.
    loop, threads = _loop()
    found = find()
    if loop.is_closed():
        loop, threads = _loop()
    asyncio.set_event_loop(loop)

    worker = Worker(found, Gauge(loop, threads), debugging)
    _databridge.attach(loop, worker.leave, logs.report)
    try:
        _run_until_complete(loop, worker.main())
    finally:
        _databridge.abandon()
        atexit._run_exitfuncs()
        flush()


def _loop() -> tuple[asyncio.AbstractEventLoop, SyncThreads]:
    loop, threads = new_event_loop(), executor()
    asyncio.set_event_loop(loop)
    process.refuse_signal_handler(loop)
    loop.set_default_executor(threads)
    return loop, threads


def find() -> list[Any]:
    """The applications, or why there is none.

    No loop runs while they are imported, as with other servers and `databridge check`:
    they may call asyncio.run(), or Django's models.
    """
    found: list[Any] = []
    for target, _, factory, _ in _databridge.apps():
        try:
            found.append(loading.find(target, factory=factory))
        except BaseException as exc:
            found.append(exc)
    return found


def _run_until_complete(loop: asyncio.AbstractEventLoop, coro: Any) -> None:
    """As the loop's method; a sys.exit() in somebody's callback does not end it."""
    task = loop.create_task(coro, name="databridge-worker")
    while True:
        try:
            loop.run_until_complete(task)
            return
        except (SystemExit, KeyboardInterrupt) as exc:
            if task.done():
                raise
            logger.critical("%r in a callback or a task: the worker goes on", exc)


def executor() -> SyncThreads:
    return SyncThreads(
        max_workers=_databridge.sync_threads() or None, thread_name_prefix="databridge-sync"
    )


class Worker:
    def __init__(self, found: list[Any], gauge: Gauge, debugging: Any = None) -> None:
        self.stop = asyncio.Event()
        self.found = found
        self.gauge = gauge
        self.debugging = debugging
        self.lifespans: list[Lifespan] = []
        self.pool = Pool(_databridge.sync_threads() or DEFAULT_THREADS)
        self.lifespan_timeout = LIFESPAN_TIMEOUT
        self.cancel_timeout = CANCEL_TIMEOUT

    def leave(self, fast: bool) -> None:
        """Called by the module; its nginx ends soon."""
        if fast:
            self.lifespan_timeout = FAST_LIFESPAN_TIMEOUT
            self.cancel_timeout = FAST_CANCEL_TIMEOUT
        self.stop.set()

    async def main(self) -> None:
        start = asyncio.create_task(self.start(), name="databridge-start")
        stop = asyncio.create_task(self.stop.wait(), name="databridge-stop")
        await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not start.done():
            await _cancelled({start}, self.cancel_timeout)
            self.abandon()
        gc.collect()
        gc.freeze()
        step_back()
        _databridge.ready()

        await stop
        await self.end()

    async def start(self) -> None:
        for index, (target, chosen, *_) in enumerate(_databridge.apps()):
            try:
                await self.start_app(index, target, chosen, self.found[index])
            except (loading.LoadError, LifespanError) as exc:
                self.refuse(index, f"{target}: {exc}", exc)
            except asyncio.CancelledError:
                raise
            except BaseException as exc:
                loading.print_traceback(exc)
                self.refuse(index, f"{target}: {type(exc).__name__}: {exc}", exc)
        logs.install_root(self.debugging.handler() if self.debugging else logs.LogHandler())
        self.gauge.start(_limit_threads(), self.pool)

    async def start_app(self, index: int, target: str, chosen: str, app: Any) -> None:
        if isinstance(app, BaseException):
            raise app
        kind = interface.detect(app, chosen, target)
        if self.debugging is not None:
            app = self.debugging.wsgi(app) if kind == "wsgi" else self.debugging.asgi(app)
        if kind == "wsgi":
            _databridge.start(index, WSGI(app, self.pool), {}, True)
            return

        lifespan = Lifespan(app)
        await lifespan.startup()
        self.lifespans.append(lifespan)
        tables.declare(app, index)
        _databridge.start(index, app, lifespan.state, False, not interface.compresses(app))

    def refuse(self, index: int, text: str, exc: BaseException) -> None:
        """Answers 503 for an application that did not start; under development, why."""
        if self.debugging is None:
            _databridge.fail(index, text)
            return
        self.debugging.tell(text, exc)
        _databridge.start(index, self.debugging.failed(text, exc), {}, False)

    def abandon(self) -> None:
        """The worker was told to stop before its applications had started."""
        for index, (target, *_) in enumerate(_databridge.apps()):
            _databridge.fail(index, f"{target}: the worker was stopped before it had started")

    async def end(self) -> None:
        """Requests, lifespans, tasks, generators, threads: in this order, each in time."""
        _databridge.cancel()
        await _within(self.cancel_timeout, _requests_ended(), "requests")
        await _within(self.cancel_timeout, self.pool.idle(), "WSGI applications")
        for lifespan in reversed(self.lifespans):
            await _within(self.lifespan_timeout, lifespan.shutdown(), "lifespan.shutdown")

        others = asyncio.all_tasks() - {asyncio.current_task()}
        await _cancelled(others, self.cancel_timeout)

        loop: Any = asyncio.get_running_loop()
        loop.kill_children()
        await _within(self.cancel_timeout, loop.shutdown_asyncgens(), "asynchronous generators")
        threads: Any = getattr(loop, "_default_executor", None)
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)


def _limit_threads() -> Any:
    """anyio's own limit for `def` handlers, when the applications use anyio."""
    if "anyio" not in sys.modules:
        return None
    from anyio.to_thread import current_default_thread_limiter

    limiter = current_default_thread_limiter()
    if threads := _databridge.sync_threads():
        limiter.total_tokens = threads
    return limiter


async def _requests_ended() -> None:
    while _databridge.live():
        await asyncio.sleep(0.005)


async def _within(seconds: float, work: Awaitable[Any], what: str) -> None:
    """Waits for the work, but not for ever, and not for what it ignores."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        logger.error("shutdown: %s took more than %g s", what, seconds)
        task.cancel()
    elif not task.cancelled() and (exc := task.exception()) is not None:
        logger.error("shutdown: %s failed", what, exc_info=exc)


async def _cancelled(tasks: set[Any], seconds: float) -> None:
    """Cancels the tasks and waits until they have ended, within limits."""
    for task in tasks:
        task.cancel()
    if not tasks:
        return
    _, pending = await asyncio.wait(tasks, timeout=seconds)
    for task in pending:
        logger.error("shutdown: %r ignored its cancellation", task)
