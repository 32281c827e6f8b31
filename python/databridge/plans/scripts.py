"""Routes with `yield` dependencies: what the module runs as one coroutine.

The exit stacks are FastAPI's: dependencies of scope "function" end before the response
is sent, those of scope "request" after it, the last one first, and an exception is
thrown into each.  What differs is the cost: neighbouring `def` functions share a hop to
a thread, and context managers of threads and of coroutines are entered without a
generator around each of them.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

from anyio import CancelScope, CapacityLimiter
from anyio.to_thread import run_sync
from fastapi.concurrency import _asynccontextmanager_with_shielded_exit
from fastapi.exceptions import FastAPIError
from starlette.types import Receive, Scope, Send

from databridge.plans.answers import Ending
from databridge.plans.spec import Kind, Step

if "_databridge" in sys.builtin_module_names:
    from _databridge import in_thread

NOT_AWAITED: Final = (
    "Response not awaited. There's a high chance that the application code is raising an"
    " exception and a dependency with yield has a block with a bare except, or a block"
    " with except Exception, and is not raising the exception again. Read more about it in"
    " the docs: https://fastapi.tiangolo.com/tutorial/dependencies/"
    "dependencies-with-yield/#dependencies-with-yield-and-except"
)


@dataclass(frozen=True)
class Stage:
    """A step, which with `enters` is a dependency with yield."""

    step: Step
    enters: bool = False
    early: bool = False
    """Left before the response is sent."""

    def arguments(self, values: Sequence[Any]) -> dict[str, Any]:
        step = self.step
        return {name: values[slot] for name, slot in zip(step.names, step.slots, strict=True)}


@dataclass
class Run:
    """One request."""

    values: list[Any]
    late: AsyncExitStack
    early: AsyncExitStack
    shield: CancelScope | None = None
    """FastAPI's around all dependencies that are asynchronous generators."""

    def stack(self, stage: Stage) -> AsyncExitStack:
        return self.early if stage.early else self.late


@dataclass
class Script:
    """What a plan runs instead of its steps."""

    stages: Sequence[Stage]
    ending: Ending
    below: bool = False
    """Middleware is around it, whose scopes may be cancelled."""
    hops: list[list[Stage]] = field(init=False)
    has_early: bool = field(init=False)
    generators: int = field(init=False)

    def __post_init__(self) -> None:
        self.hops = []
        for stage in self.stages:
            threaded = stage.step.kind == Kind.THREAD
            if threaded and self.hops and self.hops[-1][0].step.kind == Kind.THREAD:
                self.hops[-1].append(stage)
            else:
                self.hops.append([stage])
        self.has_early = any(stage.early for stage in self.stages)
        self.generators = sum(
            stage.enters and stage.step.kind == Kind.ASYNC for stage in self.stages
        )

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, request: Any, slots: Sequence[Any]
    ) -> None:
        awaited = False
        async with AsyncExitStack() as late:
            if self.has_early:
                async with AsyncExitStack() as early:
                    response = await self._response(Run(list(slots), late, early))
            else:
                response = await self._response(Run(list(slots), late, late))
            await response(scope, receive, send)
            awaited = True
        if not awaited:
            raise FastAPIError(NOT_AWAITED)

    async def _response(self, run: Run) -> Any:
        for hop in self.hops:
            stage = hop[0]
            if stage.step.kind == Kind.THREAD:
                await self._hop(hop, run)
            elif stage.enters:
                run.values[stage.step.result] = await self._enter(stage, run)
            else:
                run.values[stage.step.result] = await stage.step.call(**stage.arguments(run.values))
        result = run.values[self.stages[-1].step.result]
        written = self.ending.written(result, run.values)
        return written or await self.ending.finish(result, run.values)

    async def _enter(self, stage: Stage, run: Run) -> Any:
        """FastAPI shields the exits from scopes around them; a single one may have none."""
        manager = asynccontextmanager(stage.step.call)(**stage.arguments(run.values))
        if self.generators > 1 or self.below:
            if run.shield is None:
                run.shield = run.late.enter_context(CancelScope())
            manager = _asynccontextmanager_with_shielded_exit(manager, run.shield)
        return await run.stack(stage).enter_async_context(manager)

    async def _hop(self, hop: Sequence[Stage], run: Run) -> None:
        entered: list[tuple[Stage, Any]] = []
        work = functools.partial(_work, hop, run.values, entered)
        try:
            await self._in_thread(work)
        finally:
            for stage, manager in entered:
                run.stack(stage).push_async_exit(functools.partial(self._leave, manager))

    async def _leave(
        self,
        manager: Any,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Never waits for a thread that may itself wait for what this one gives back."""
        leave = functools.partial(manager.__exit__, kind, exc, trace)
        return bool(await self._in_thread(leave, urgent=True)) and exc is not None

    async def _in_thread(self, work: Callable[[], Any], *, urgent: bool = False) -> Any:
        """Waits for the thread, whatever scopes of dependencies are cancelled."""
        if self.generators == 0 and not self.below:
            return await _threaded(work, urgent)
        with CancelScope(shield=True):
            return await _threaded(work, urgent)


async def _threaded(work: Callable[[], Any], urgent: bool) -> Any:
    future = in_thread(work, urgent)
    if future is None:
        return await run_sync(work, limiter=CapacityLimiter(1))
    return await future


def _work(hop: Sequence[Stage], values: list[Any], entered: list[tuple[Stage, Any]]) -> None:
    """In a thread: each function has a copy of the context that the task has."""
    context: Context = copy_context()
    for stage in hop:
        call = stage.step.call
        if stage.enters:
            manager = contextmanager(call)(**stage.arguments(values))
            value = context.copy().run(manager.__enter__)
            entered.append((stage, manager))
        else:
            value = context.copy().run(functools.partial(call, **stage.arguments(values)))
        values[stage.step.result] = value
