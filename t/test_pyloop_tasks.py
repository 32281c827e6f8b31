"""asyncio's set of all tasks is as it was, with PyLoop's add() and removal in C."""

import asyncio
import gc
import sys
import weakref
from _weakrefset import WeakSet
from types import BuiltinFunctionType
from typing import Any

import pytest

from databridge import new_event_loop

OURS = sys.version_info < (3, 12)
"""Later releases keep their tasks otherwise, and are left alone."""

TASKS: Any = vars(asyncio.tasks)["_all_tasks" if OURS else "_scheduled_tasks"]


@pytest.fixture
def loop() -> Any:
    loop = new_event_loop()
    yield loop
    loop.close()


async def nothing() -> None:
    await asyncio.sleep(0)


def test_it_is_a_weak_set_with_another_add(loop: Any) -> None:
    assert type(TASKS) is WeakSet
    assert isinstance(TASKS.add, BuiltinFunctionType) == OURS


def test_each_task_is_in_it_until_it_is_gone(loop: Any) -> None:
    async def main() -> None:
        gc.collect()  # of other tests
        before = len(TASKS)
        tasks = [asyncio.create_task(nothing(), name=f"n{n}") for n in range(100)]
        assert len(TASKS) == before + 100
        assert asyncio.all_tasks() == {*tasks, asyncio.current_task()}
        await asyncio.gather(*tasks)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert set(tasks) < set(TASKS)
        tasks.clear()
        await asyncio.sleep(0)
        gc.collect()
        assert len(TASKS) == before

    loop.run_until_complete(main())


def test_who_iterates_is_not_disturbed_by_tasks_that_die(loop: Any) -> None:
    async def main() -> None:
        tasks = {asyncio.create_task(nothing()) for _ in range(50)}
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)  # what gathered them is gone as well
        begun = iter(TASKS)
        held = [next(begun)]
        tasks.clear()
        gc.collect()
        assert TASKS._pending_removals
        rest = list(begun)
        assert not [task for task in rest if task is None]
        held.clear()
        rest.clear()
        del begun
        await asyncio.create_task(nothing())
        gc.collect()
        assert not TASKS._pending_removals

    loop.run_until_complete(main())


def test_nothing_is_kept(loop: Any) -> None:
    async def main() -> None:
        for _ in range(3):
            await asyncio.create_task(nothing())
        await asyncio.sleep(0)
        gc.collect()
        before, data = sys.getrefcount(TASKS), len(TASKS.data)
        references = []
        for _ in range(1000):
            task = asyncio.create_task(nothing())
            references.append(weakref.ref(task))
            await task
        del task
        await asyncio.sleep(0)
        gc.collect()
        assert not any(reference() for reference in references)
        assert (sys.getrefcount(TASKS), len(TASKS.data)) == (before, data)

    loop.run_until_complete(main())


def test_what_is_no_task_is_refused_as_before(loop: Any) -> None:
    with pytest.raises(TypeError, match="weak reference"):
        TASKS.add(5)
