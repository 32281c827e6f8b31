"""PyLoop driven from outside, through its capsule: sources of work and tasks."""

import asyncio
import contextvars
import ctypes
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from databridge import _pyloop
from databridge.loop import Loop, new_event_loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = new_event_loop()
    yield loop
    loop.close()


def turn(loop: Loop) -> None:
    """One turn of the loop."""
    loop.stop()
    loop.run_forever()


RUN = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
TELL = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
TELL_WAIT = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)


class Source(ctypes.Structure):
    _fields_ = [
        ("fd", ctypes.c_int),
        ("run", ctypes.c_void_p),
        ("flush", TELL),
        ("sleep", RUN),
        ("awake", TELL_WAIT),
        ("data", ctypes.c_void_p),
    ]


class Api(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_uint),
        ("size", ctypes.c_uint),
        (
            "source_add",
            ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(Source)),
        ),
        ("source_remove", ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_int)),
        (
            "task_start",
            ctypes.PYFUNCTYPE(
                ctypes.py_object, ctypes.py_object, ctypes.py_object, ctypes.c_void_p
            ),
        ),
        ("wake", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    ]


def api() -> Any:
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype = ctypes.c_void_p
    pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return Api.from_address(pointer(_pyloop._C_API, b"databridge._pyloop._C_API"))


class Work:
    """A source with the queue and the sleep protocol of the bridge.

    Its run() is PyObject_IsTrue(self): what __bool__ does and says.
    """

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.queue: list[Callable[[], object]] = []
        self.asleep = False
        self.slept = self.woken = self.flushed = self.runs = self.waited = 0
        self.batch = 64
        self.source = Source(
            fd=self.fd,
            run=ctypes.cast(ctypes.pythonapi.PyObject_IsTrue, ctypes.c_void_p).value,
            flush=TELL(self.flush),
            sleep=RUN(self.sleep),
            awake=TELL_WAIT(self.awake),
            data=id(self),
        )

    def __bool__(self) -> bool:
        self.runs += 1
        for _ in range(min(self.batch, len(self.queue))):
            self.queue.pop(0)()
        return bool(self.queue)

    def flush(self, data: int) -> None:
        self.flushed += 1

    def sleep(self, data: int) -> int:
        self.asleep = True
        if self.queue:
            self.asleep = False
            return 0
        self.slept += 1
        return 1

    def awake(self, data: int, waited: int) -> None:
        self.woken += 1
        self.waited += waited
        self.asleep = False

    def submit(self, call: Callable[[], object]) -> None:
        self.queue.append(call)
        if self.asleep:
            self.asleep = False
            os.eventfd_write(self.fd, 1)

    def __enter__(self) -> "Work":
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.fd)


def test_the_capsule_has_a_version() -> None:
    assert api().version == 2 and api().size == ctypes.sizeof(Api)


def test_a_source_wakes_a_sleeping_loop_and_no_job_is_lost(loop: Loop) -> None:
    seen: list[int] = []
    with Work() as work:
        assert api().source_add(loop, ctypes.byref(work.source)) == 0

        def feed() -> None:
            for i in range(2000):
                work.submit(partial(seen.append, i))
                if i % 50 == 0:
                    time.sleep(0.0005)
            work.submit(loop.stop)

        thread = threading.Thread(target=feed)
        thread.start()
        loop.run_forever()
        thread.join()
        assert seen == list(range(2000))
        assert work.slept == work.woken > 0
        assert work.waited > 0
        assert work.flushed >= work.runs
        assert api().source_remove(loop, work.fd) == 0
        with pytest.raises(ValueError, match="no source"):
            api().source_remove(loop, work.fd)


def test_a_source_runs_while_callbacks_keep_the_loop_awake(loop: Loop) -> None:
    with Work() as work:
        api().source_add(loop, ctypes.byref(work.source))
        begin = time.monotonic()

        def spin() -> None:
            if time.monotonic() - begin < 10:
                loop.call_soon(spin)

        def submit() -> None:
            assert not work.asleep
            work.queue.append(loop.stop)

        loop.call_soon(spin)
        loop.call_later(0.002, submit)
        loop.run_forever()
        assert time.monotonic() - begin < 5
        assert work.slept == 0


def test_a_source_that_has_more_keeps_the_loop_awake(loop: Loop) -> None:
    with Work() as work:
        work.batch = 1
        api().source_add(loop, ctypes.byref(work.source))
        seen: list[int] = []
        for i in range(10):
            work.submit(partial(seen.append, i))
        work.submit(loop.stop)
        loop.run_forever()
        assert seen == list(range(10))
        assert work.runs == work.flushed == 11


def test_an_idle_source_does_not_spin(loop: Loop) -> None:
    with Work() as work:
        api().source_add(loop, ctypes.byref(work.source))
        os.eventfd_write(work.fd, 1)
        loop.call_later(0.05, loop.stop)
        loop.run_forever()
        assert work.runs < 6


def test_a_source_that_fails_is_reported(loop: Loop) -> None:
    contexts: list[dict[str, Any]] = []

    def fail() -> None:
        raise ValueError("wrong")

    def leave() -> None:
        raise KeyboardInterrupt

    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    with Work() as work:
        api().source_add(loop, ctypes.byref(work.source))
        work.submit(fail)
        work.submit(loop.stop)
        loop.run_forever()
        assert [str(context["exception"]) for context in contexts] == ["wrong"]
        assert contexts[0]["message"] == "Exception in a source of the event loop"
        work.submit(leave)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()


def test_wake_ends_a_sleep_from_a_thread_without_the_gil(loop: Loop) -> None:
    with Work() as work:
        api().source_add(loop, ctypes.byref(work.source))

        def wake() -> None:
            time.sleep(0.02)
            work.queue.append(loop.stop)
            api().wake(id(loop))

        thread = threading.Thread(target=wake)
        thread.start()
        loop.run_forever()
        thread.join()
        assert work.queue == []


def test_a_task_takes_its_first_step_at_once(loop: Loop) -> None:
    variable = contextvars.ContextVar("variable", default="default")
    seen: list[object] = []

    async def at_once() -> str:
        seen.append(asyncio.current_task())
        seen.append(asyncio.get_running_loop())
        variable.set("inside")
        return "result"

    async def later() -> str:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            seen.append("started")
            child = group.create_task(asyncio.sleep(0, "child"))
        seen.append(await asyncio.to_thread(threading.get_ident))
        return child.result()

    def start() -> None:
        task = api().task_start(loop, at_once(), None)
        assert type(task) is asyncio.Task and task in asyncio.all_tasks(loop) or task.done()
        assert task.done() and task.result() == "result"
        assert seen == [task, loop]
        assert variable.get() == "default" and asyncio.current_task() is None

        seen.clear()
        tasks.append(api().task_start(loop, later(), None))
        assert seen == ["started"] and not tasks[0].done()
        tasks[0].add_done_callback(lambda task: loop.stop())

    tasks: list[Any] = []
    loop.call_soon(start)
    loop.run_forever()
    assert tasks[0].result() == "child" and len(seen) == 2


def test_a_task_starts_in_the_context_it_is_given(loop: Loop) -> None:
    variable = contextvars.ContextVar("variable", default="default")
    context = contextvars.copy_context()

    async def main() -> str:
        variable.set("inside")
        await asyncio.sleep(0)
        return variable.get()

    def start() -> None:
        task = api().task_start(loop, main(), id(context))
        task.add_done_callback(lambda task: loop.stop())
        tasks.append(task)

    tasks: list[Any] = []
    loop.call_soon(start)
    loop.run_forever()
    assert tasks[0].result() == context[variable] == "inside"


@pytest.mark.parametrize("debug", [False, True])
def test_a_failing_task_fails_by_itself_and_an_exit_ends_the_loop(loop: Loop, debug: bool) -> None:
    async def fail(exception: type[BaseException]) -> None:
        raise exception

    def start(exception: type[BaseException]) -> None:
        tasks.append(api().task_start(loop, fail(exception), None))

    loop.set_debug(debug)
    tasks: list[Any] = []
    loop.call_soon(start, ValueError)
    turn(loop)
    assert isinstance(tasks[0].exception(), ValueError)
    loop.call_soon(start, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()


def test_a_task_factory_is_asked(loop: Loop) -> None:
    class Own(asyncio.Task[Any]):
        pass

    async def main() -> int:
        return 1

    def start() -> None:
        tasks.append(api().task_start(loop, main(), None))
        assert tasks[0].done()

    loop.set_task_factory(lambda loop, coro: Own(coro, loop=loop))
    tasks: list[Any] = []
    loop.call_soon(start)
    turn(loop)
    assert type(tasks[0]) is Own and tasks[0].result() == 1


def test_what_is_no_coroutine_or_no_loop_is_refused(loop: Loop) -> None:
    with pytest.raises(TypeError, match="a coroutine was expected"):
        api().task_start(loop, 1, None)
    with Work() as work, pytest.raises(TypeError, match="is not a PyLoop"):
        api().source_add(object(), ctypes.byref(work.source))
    loop.close()
    with Work() as work, pytest.raises(RuntimeError, match="closed"):
        api().source_add(loop, ctypes.byref(work.source))


def test_a_source_whose_descriptor_is_wrong_is_refused(loop: Loop) -> None:
    with Work() as work:
        work.source.fd = 10**6
        with pytest.raises(OSError):
            api().source_add(loop, ctypes.byref(work.source))
    turn(loop)


def test_the_poller_is_epoll(loop: Loop) -> None:
    with select.epoll() as epoll:
        epoll.register(loop._poller.fileno(), select.EPOLLIN)
        assert epoll.poll(0) == []
        loop.call_soon_threadsafe(int)
        api().wake(id(loop))
        assert epoll.poll(0) == [(loop._poller.fileno(), select.EPOLLIN)]
