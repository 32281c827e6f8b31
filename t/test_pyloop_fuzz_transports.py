"""Transports used at random: protocols on PyLoop hear what they hear on asyncio's loop."""

import asyncio
import os
import socket
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from databridge.loop import Loop

# After so many looks at the sockets without a word nothing more is going to come.
QUIET = 4

CALLBACKS = ["connection_made", "data", "eof_received", "pause_writing", "resume_writing", "lost"]

ACTIONS = [
    *("write", "write", "writelines", "write_eof", "close", "abort", "pause", "resume"),
    *("limits", "look", "swap", "soon"),
]


LINKS = ["sockets", "pipe"]
SIZES = [0, 1, 1000, 70_000, 300_000, 1_500_000]


# Where asyncio's transports of some versions go astray: reading begins all the same, or the
# connection is lost twice.
LEFT_OUT = {"connection_made": ["pause"], "resume_writing": ["close", "abort"]}


@dataclass
class Op:
    """What to do, and a number for it; in a callback it may also be to raise."""

    kind: str
    number: int


OPS = st.builds(Op, st.sampled_from(ACTIONS), st.integers(0, 5))
REACTIONS = st.builds(Op, st.sampled_from([*ACTIONS, "raise"]), st.integers(0, 5))
PLANS = st.dictionaries(st.sampled_from(CALLBACKS), st.lists(REACTIONS, max_size=3), max_size=3)


@dataclass
class Program:
    """Both ends: what they are, what they do in callbacks; and what is done from outside."""

    link: str
    buffered: tuple[bool, bool]
    plans: tuple[dict[str, list[Op]], dict[str, list[Op]]]
    keep: tuple[bool, bool]
    steps: list[tuple[int, list[Op]]]


PROGRAMS = st.builds(
    Program,
    st.sampled_from(LINKS),
    st.tuples(st.booleans(), st.booleans()),
    st.tuples(PLANS, PLANS),
    st.tuples(st.booleans(), st.booleans()),
    st.lists(st.tuples(st.integers(0, 1), st.lists(OPS, min_size=1, max_size=3)), max_size=6),
)


class End:
    """One end of the connection: what its protocols have heard."""

    def __init__(
        self, name: str, machine: "Machine", plan: dict[str, list[Op]], keep: bool
    ) -> None:
        self.name = name
        self.machine = machine
        self.plan = {key: list(ops) for key, ops in plan.items()}
        self.keep = keep
        self.transport: Any = None
        self.log: list[tuple[Any, ...]] = []
        self.ended = self.lost = False

    def note(self, *what: Any) -> None:
        self.machine.heard += 1
        self.log.append(what)

    def data(self, size: int) -> None:
        """How it is cut into pieces is not asyncio's promise."""
        self.machine.heard += 1
        if self.log and self.log[-1][0] == "data":
            self.log[-1] = ("data", self.log[-1][1] + size)
        else:
            self.log.append(("data", size))
        self.react("data")

    def react(self, callback: str) -> None:
        """Once: what a protocol does the first time."""
        ops = self.plan.pop(callback, ())
        left_out = LEFT_OUT.get(callback, ())
        ops = [op for op in ops if op.kind not in left_out]
        self.do(ops)

    def do(self, ops: Any) -> None:
        for op in ops:
            if op.kind == "raise":
                self.note("raises", op.number)
                raise ValueError(op.number)
            # asyncio's own transports then fail in ways that no one relies on
            if self.lost and op.kind != "soon":
                continue
            try:
                self.one(op)
            except (AttributeError, NotImplementedError):
                self.note("cannot", op.kind)
            except RuntimeError as error:
                self.note("refused", op.kind, str(error))

    def one(self, op: Op) -> None:
        transport = self.transport
        data = b"x" * SIZES[op.number]
        match op.kind:
            case "write":
                transport.write(data)
            case "writelines":
                transport.writelines([data, bytearray(data), b"", memoryview(data)])
            case "write_eof":
                transport.write_eof()
            case "close":
                transport.close()
            case "abort":
                transport.abort()
            case "pause":
                transport.pause_reading()
            case "resume":
                transport.resume_reading()
            case "limits":
                transport.set_write_buffer_limits(high=SIZES[op.number])
                self.note("limits", transport.get_write_buffer_limits())
            case "look":
                self.note(
                    "is",
                    transport.is_closing(),
                    transport.is_reading(),
                    transport.can_write_eof(),
                    transport.get_protocol().__class__.__name__,
                )
            case "swap":
                transport.set_protocol(self.machine.kind(bool(op.number % 2))(self))
            case "soon":
                self.machine.loop.call_soon(self.note, "soon", op.number)


class Base:
    def __init__(self, end: End) -> None:
        self.end = end

    def connection_made(self, transport: Any) -> None:
        self.end.transport = transport
        self.end.note("connection_made")
        self.end.react("connection_made")

    def connection_lost(self, error: Exception | None) -> None:
        self.end.lost = True
        self.end.note("connection_lost", type(error).__name__)
        self.end.react("lost")

    def eof_received(self) -> bool:
        # asyncio's says it again after resume_reading()
        if not self.end.ended:
            self.end.ended = True
            self.end.note("eof_received")
            self.end.react("eof_received")
        return self.end.keep

    def pause_writing(self) -> None:
        self.end.note("pause_writing")
        self.end.react("pause_writing")

    def resume_writing(self) -> None:
        self.end.note("resume_writing")
        self.end.react("resume_writing")


class Plain(Base, asyncio.Protocol):
    """Hears data_received()."""

    def data_received(self, data: bytes) -> None:
        self.end.data(len(data))


class Buffered(Base, asyncio.BufferedProtocol):
    """Has a buffer of its own."""

    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.buffer = bytearray(5000)

    def get_buffer(self, size: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, size: int) -> None:
        self.end.data(size)


class Machine:
    """Runs a program on a loop."""

    def __init__(self, loop: Any, program: Program) -> None:
        self.loop = loop
        self.program = program
        self.heard = 0
        self.errors: list[tuple[Any, ...]] = []
        self.ends = [
            End(name, self, plan, keep)
            for name, plan, keep in zip("ab", program.plans, program.keep, strict=True)
        ]
        loop.set_exception_handler(self.failed)

    def failed(self, loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        message = context["message"].partition(" at 0x")[0]
        if message.startswith("Exception in callback"):
            message = "Exception in callback"
        self.heard += 1
        if "'NoneType' object has no" not in str(error):  # asyncio's, lost twice
            self.errors.append((message, type(error).__name__, str(error)))

    async def settle(self) -> None:
        quiet = 0
        while quiet < QUIET:
            before = self.heard
            await asyncio.sleep(1e-4)
            quiet = 0 if self.heard != before else quiet + 1

    def kind(self, buffered: bool) -> Any:
        """A pipe knows nothing of buffers."""
        return Buffered if buffered and self.program.link != "pipe" else Plain

    async def connect(self) -> None:
        """The first end accepts or is written to, the second connects."""
        loop, (a, b) = self.loop, self.ends
        kinds = [self.kind(buffered) for buffered in self.program.buffered]
        accepts, connects = lambda: kinds[0](a), lambda: kinds[1](b)
        match self.program.link:
            case "pipe":
                reader, writer = os.pipe()
                await loop.connect_write_pipe(accepts, open(writer, "wb", 0))
                await loop.connect_read_pipe(connects, open(reader, "rb", 0))
            case _:
                left, right = socket.socketpair()
                await loop.connect_accepted_socket(accepts, left)
                await loop.create_connection(connects, sock=right)

    async def play(self) -> None:
        await self.connect()
        await self.settle()
        for which, ops in self.program.steps:
            self.ends[which].do(ops)
            await self.settle()
        for end in self.ends:
            end.note("at the end")
            end.do([Op("abort", 0), Op("close", 0)])
            await self.settle()


def history(loop: Any, program: Program) -> Any:
    machine = Machine(loop, program)
    try:
        loop.run_until_complete(machine.play())
    finally:
        loop.close()
    return [end.log for end in machine.ends], sorted(machine.errors)


@pytest.mark.timeout(900)
@settings(max_examples=150)
@given(PROGRAMS)
def test_protocols_hear_the_same(program: Program) -> None:
    assert history(Loop(), program) == history(asyncio.SelectorEventLoop(), program)
