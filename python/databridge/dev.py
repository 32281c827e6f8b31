"""`databridge dev`: nginx as under `run`, renewed whenever a source file is saved.

The loop is the supervisor's; a thread watches the files and writes what it sees into a
pipe.  A reload is nginx's own: new workers import the application while the old ones end,
which have only a moment for streams and sockets, so that nothing open can hold it up.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from databridge import server
from databridge.config import Settings
from databridge.loading import DEVELOPMENT
from databridge.supervisor import Supervisor, say

SHUTDOWN_TIMEOUT = 2

STEP = 20
"""Milliseconds without a further change, after which what has changed is told."""


def run(settings: Settings) -> int:
    """Serves and reloads until told to stop; returns the status."""
    patience = min(settings.shutdown_timeout, SHUTDOWN_TIMEOUT)
    settings = replace(settings, development=True, check=False, shutdown_timeout=patience)
    return server.run(settings, final=True, supervisor=Developer)


class Developer(Supervisor):
    def __init__(self, settings: Settings, *args: Any) -> None:
        super().__init__(settings, *args)
        self.environment[DEVELOPMENT] = "1"
        self.folders = [os.path.abspath(path) for path in settings.app_dirs]
        self.answered = 0
        self.broken = False
        self.announced = False
        self.begun = 0.0

    def run(self) -> int:
        with _watched(self.folders) as changes:
            self.listeners[changes] = lambda: self._changed(os.read(changes, 65536))
            return super().run()

    def _changed(self, names: bytes) -> None:
        if self.stopping:
            return
        if self._is_hearing():
            first, *others = dict.fromkeys(os.fsdecode(names).splitlines())
            more = f" and {len(others)} more" if others else ""
            say(f"{os.path.relpath(first)}{more} changed: reloading")
        self._reload()

    def _reload(self) -> None:
        super()._reload()
        if not self.unheard:
            self.begun = time.monotonic()
            self.answered = 0
            self.broken = False

    def _became_ready(self) -> None:
        self.answered += 1
        if self.stopping or self.answered != self.settings.workers:
            return
        if not self.announced:
            self.announced = True
            self._announce()
            say(f"watching {', '.join(self.folders)} for changes")
        elif not self.broken:
            say(f"reloaded in {time.monotonic() - self.begun:.2f} s")
        self._make_up()

    def _failed(self, text: str) -> None:
        """A worker shows why on every page, and waits for the change that mends it."""
        if not self.broken and not self.stopping:
            say(f"error: {text.removeprefix('failed:').strip()}; waiting for a change")
        self.broken = True


@contextlib.contextmanager
def _watched(folders: list[str]) -> Iterator[int]:
    """A descriptor to read from: the names of files that were saved, one a line."""
    from watchfiles import PythonFilter, watch

    ended = threading.Event()
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def follow() -> None:
        options: dict[str, Any] = {"step": STEP, "stop_event": ended, "raise_interrupt": False}
        try:
            for changes in watch(*folders, watch_filter=PythonFilter(), **options):
                names = "".join(sorted(f"{name}\n" for _, name in changes))
                with contextlib.suppress(BlockingIOError):
                    os.write(writing, os.fsencode(names))
        except (OSError, RuntimeError) as exc:
            say(f"warning: nothing is reloaded, files cannot be watched: {exc}")

    thread = threading.Thread(target=follow, name="databridge-watch", daemon=True)
    thread.start()
    try:
        yield reading
    finally:
        ended.set()
        thread.join()
        os.close(reading)
        os.close(writing)
