"""What benchmarks that start servers have in common: two cores, rounds, and an end."""

import os
import sys
from collections.abc import Callable, Iterator
from typing import Protocol


class Fleet(Protocol):
    """Servers, and how they are stopped; what went wrong with them."""

    def finish(self) -> list[str]: ...


def conduct(fleet: Fleet, work: Callable[[], None]) -> int:
    """Does the work, stops the servers; the exit status."""
    if len(os.sched_getaffinity(0)) < 2:
        print("databridge: the benchmark needs two cores", file=sys.stderr)
        return 1

    try:
        work()
    finally:
        problems = fleet.finish()

    for problem in problems:
        print(problem, file=sys.stderr)

    return 1 if problems else 0


def rounds(count: int) -> Iterator[int]:
    """Says which one begins."""
    for number in range(1, count + 1):
        print(f"round {number} of {count}", file=sys.stderr)
        yield number
