"""One loop's process: reads names of rows, writes a line of JSON for each."""

import asyncio
import gc
import importlib
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from . import network, serving  # noqa: F401
from .rows import ROWS, Row, run_until_complete


def _pyloop() -> Any:
    from databridge.loop import new_event_loop

    return new_event_loop


def _uvloop() -> Any:
    import uvloop

    return uvloop.new_event_loop


def _rloop() -> Any:
    return importlib.import_module("rloop").new_event_loop  # which has no annotations


LOOPS: dict[str, Callable[[], Any]] = {
    "pyloop": _pyloop,
    "uvloop": _uvloop,
    "asyncio": lambda: asyncio.SelectorEventLoop,
    "rloop": _rloop,
}


def _cpu(children: bool = False) -> float:
    """Seconds of this process and of its children, to the microsecond."""
    whose = [resource.RUSAGE_SELF, *([resource.RUSAGE_CHILDREN] if children else [])]
    usages = map(resource.getrusage, whose)
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


async def _repeat(row: Row, seconds: float) -> dict[str, float]:
    async with row.open(asyncio.get_running_loop()) as portion:
        await portion()
        gc.collect()
        count = 0.0
        cpu, begin = _cpu(row.children), time.perf_counter()
        while (wall := time.perf_counter() - begin) < seconds:
            count += await portion()
        return {"wall": count / wall, "cpu": count / (_cpu(row.children) - cpu)}


async def _once(row: Row) -> dict[str, float]:
    async with row.open(asyncio.get_running_loop()) as portion:
        return {"wall": await portion()}


def _runs(factory: Any, seconds: float) -> dict[str, float]:
    loop = factory()
    gc.collect()
    count = 0
    cpu, begin = _cpu(), time.perf_counter()
    while (wall := time.perf_counter() - begin) < seconds:
        for _ in range(50):
            loop.run_until_complete(run_until_complete(loop))
        count += 50
    cpu = _cpu() - cpu
    loop.close()
    return {"wall": count / wall, "cpu": count / cpu}


def measure(name: str, factory: Any, seconds: float) -> dict[str, float]:
    """Operations per second, by the clock and by CPU time, or the figure itself."""
    if name == run_until_complete.__name__:
        return _runs(factory, seconds)
    row = ROWS[name]
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_repeat(row, seconds) if row.unit == "op/s" else _once(row))


def main() -> None:
    factory, seconds = LOOPS[sys.argv[1]](), float(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = measure(line.strip(), factory, seconds)
        except Exception:
            traceback.print_exc()
            answer = {}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
