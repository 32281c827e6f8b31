"""Programs made at random: PyLoop does the same things in the same turns as asyncio's loop."""

import asyncio
import contextvars
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from databridge.loop import Loop

TICK = 1e-6
EPSILON = 1e-14
TURNS = 40
VAR = contextvars.ContextVar("VAR", default=0)


@dataclass
class Op:
    """What to do now, a number for it, and what is to be done by what it schedules."""

    kind: str
    number: int
    then: list["Op"]


KINDS = [
    *("soon", "soon3", "threadsafe", "later", "at", "handle_cancel", "stop", "raise", "exit"),
    *("task", "sleep", "timeout", "future", "task_cancel", "set", "reader", "chain"),
]

OPS = st.recursive(
    st.builds(Op, st.sampled_from(KINDS), st.integers(-1, 6), st.just([])),
    lambda then: st.builds(
        Op, st.sampled_from(KINDS), st.integers(-1, 6), st.lists(then, max_size=4)
    ),
    max_leaves=30,
)

# Each is a list of what is done between two runs, and how long the run may be.
PROGRAMS = st.lists(st.tuples(st.lists(OPS, max_size=4), st.integers(1, 8)), max_size=4)


class Clock:
    """Mixed into both loops: time is the number of turns."""

    now = 1000 * TICK
    turns_left = 0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        # due at once, so that no turn waits for real
        self.call_at(self.now, int)  # type: ignore[attr-defined]
        self.now += TICK
        self.turns_left -= 1
        if self.turns_left <= 0:
            self.stop()  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


class OurLoop(Clock, Loop):
    """PyLoop."""


class TheirLoop(Clock, asyncio.SelectorEventLoop):
    """asyncio's."""


class Machine:
    """Runs a program and keeps what happened."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.log: list[tuple[Any, ...]] = []
        self.handles: list[Any] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.ids: Iterator[int] = iter(range(1_000_000))
        loop.set_exception_handler(self.failed)

    def failed(self, loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.note("failed", type(error).__name__, str(error))

    def note(self, *what: Any) -> None:
        self.log.append((round((self.loop.now) / TICK), VAR.get(), *what))

    def called(self, number: int, then: list[Op], *args: Any) -> None:
        self.note("called", number, *args)
        self.do(then)

    def do(self, ops: list[Op]) -> None:
        for op in ops:
            number = next(self.ids)
            try:
                self.one(op, number)
            except RuntimeError as error:
                self.note("refused", number, str(error))

    def one(self, op: Op, number: int) -> None:
        # no two alike: asyncio does not say which of those comes first
        loop, delay = self.loop, op.number * TICK + (number + 1) * EPSILON
        match op.kind:
            case "soon":
                self.handles.append(loop.call_soon(self.called, number, op.then))
            case "soon3":
                self.handles.append(loop.call_soon(self.called, number, op.then, 1, 2, 3))
            case "threadsafe":
                self.handles.append(loop.call_soon_threadsafe(self.called, number, op.then))
            case "later":
                self.handles.append(loop.call_later(delay, self.called, number, op.then))
            case "at":
                when = loop.time() + delay
                self.handles.append(loop.call_at(when, self.called, number, op.then))
            case "handle_cancel":
                if self.handles:
                    self.handles[op.number % len(self.handles)].cancel()
            case "stop":
                loop.stop()
            case "raise":
                loop.call_soon(self.error, ValueError(number))
            case "exit":
                loop.call_soon(self.error, SystemExit(number))
            case "task" | "sleep" | "timeout":
                coroutine = self.run(op, number, delay)
                try:
                    task = loop.create_task(coroutine)
                except RuntimeError:
                    coroutine.close()
                    raise
                task._log_destroy_pending = False
                self.tasks.append(task)
            case "future":
                future = loop.create_future()
                future.add_done_callback(lambda _: self.called(number, op.then))
                loop.call_later(delay, self.resolve, future)
            case "task_cancel":
                if self.tasks:
                    self.tasks[op.number % len(self.tasks)].cancel()
            case "set":
                VAR.set(number)
            case "reader":
                self.read(number, op.then)
            case "chain":
                self.chain(max(op.number, 1), number, op.then)

    def error(self, error: BaseException) -> None:
        self.note("raises", str(error))
        raise error

    def resolve(self, future: "asyncio.Future[None]") -> None:
        if not future.done():
            future.set_result(None)

    def chain(self, left: int, number: int, then: list[Op]) -> None:
        self.note("chain", number, left)
        if left == 1:
            self.do(then)
        else:
            self.loop.call_soon(self.chain, left - 1, number, then)

    def read(self, number: int, then: list[Op]) -> None:
        """A socket that is readable from the start, once."""
        left, right = socket.socketpair()
        right.send(b"x")

        def readable() -> None:
            left.recv(1)
            self.loop.remove_reader(left)
            left.close()
            right.close()
            self.called(number, then)

        try:
            self.loop.add_reader(left, readable)
        except RuntimeError:
            left.close()
            right.close()
            raise

    async def run(self, op: Op, number: int, delay: float) -> None:
        try:
            self.note("task begins", number)
            match op.kind:
                case "task":
                    for _ in range(op.number):
                        await asyncio.sleep(0)
                case "sleep":
                    await asyncio.sleep(delay)
                case "timeout":
                    async with asyncio.timeout(delay):
                        await asyncio.sleep(3 * TICK + 2 * number * EPSILON)
            self.called(number, op.then)
        except (asyncio.CancelledError, TimeoutError) as error:
            self.note("task ends", number, type(error).__name__)

    def turns(self, count: int) -> None:
        self.loop.turns_left = count
        try:
            self.loop.run_forever()
        except SystemExit as error:
            self.note("exit", str(error))


def history(loop: Any, program: list[tuple[list[Op], int]]) -> list[tuple[Any, ...]]:
    machine = Machine(loop)

    def play() -> None:
        for ops, turns in program:
            machine.do(ops)
            machine.turns(turns)
        for _ in range(TURNS):
            machine.turns(1)
        machine.note("handles", *[handle.cancelled() for handle in machine.handles])
        loop.close()
        machine.do([op for ops, _ in program for op in ops if op.kind != "reader"])

    contextvars.copy_context().run(play)
    return machine.log


@pytest.mark.timeout(900)
@settings(max_examples=200)
@given(PROGRAMS)
def test_all_happens_in_asyncio_s_order(program: list[tuple[list[Op], int]]) -> None:
    assert history(OurLoop(), program) == history(TheirLoop(), program)
