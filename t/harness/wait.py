"""Waiting with a deadline: no test sleeps for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

from harness.settings import SLOWER

T = TypeVar("T")


def eventually(probe: Callable[[], T], seconds: float = 15.0) -> T:
    """The probe's last value, as soon as it is true or when the time is over."""
    deadline = time.monotonic() + seconds * SLOWER
    pause = 0.001

    while True:
        value = probe()

        if value or time.monotonic() >= deadline:
            return value

        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def until(what: str, probe: Callable[[], T], seconds: float = 15.0) -> T:
    """Like eventually(), but running out of time fails the test."""
    value = eventually(probe, seconds)

    if not value:
        raise AssertionError(f"{what}: not within {seconds * SLOWER:g} s")

    return value
