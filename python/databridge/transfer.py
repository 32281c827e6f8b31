"""The files of the command line, and a progress bar on a terminal."""

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import IO

from databridge.documents import DocumentError

Progress = Callable[[int, int], None]


@contextlib.contextmanager
def writing(name: str | None) -> Iterator[IO[bytes]]:
    """A file that is there when it is complete, or stdout."""
    if name in (None, "-"):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    assert name is not None
    partial = f"{name}.partial"
    try:
        with open(partial, "wb") as file:
            yield file
        os.replace(partial, name)
    except OSError as exc:
        raise DocumentError(f"{name} cannot be written: {exc.strerror or exc}") from exc
    finally:
        with contextlib.suppress(OSError):
            os.unlink(partial)


@contextlib.contextmanager
def reading(name: str) -> Iterator[tuple[IO[bytes], int]]:
    """A file and its size, which is 0 where it is not known; '-' is stdin."""
    try:
        with contextlib.ExitStack() as stack:
            file = sys.stdin.buffer if name == "-" else stack.enter_context(open(name, "rb"))
            status = os.fstat(file.fileno())
            yield file, status.st_size if stat.S_ISREG(status.st_mode) else 0
    except OSError as exc:
        raise DocumentError(f"{name} cannot be read: {exc.strerror or exc}") from exc


@contextlib.contextmanager
def counted(what: str) -> Iterator[Progress]:
    """Shows how far something is, where stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
