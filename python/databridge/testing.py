"""The real server in tests: `Server`, and `fixture()` for pytest.

A `Server` is `databridge run` in a process of its own, on a port that is free, with a store
that goes when it does.  What needs no server is faster with FastAPI's own TestClient, which
runs an application in process; native CRUD needs nginx.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Literal, Self

from databridge import discovery
from databridge.discovery import Found
from databridge.loading import LoadError

ADDRESS = re.compile(r"^databridge: serving .* on (http://\S+:(\d+))$", re.MULTILINE)

POLL = 0.01
GRACE = 5.0
"""Beyond the time that the server gives its requests, until it is killed."""


class ServerError(Exception):
    """The server did not start, or did not end as it should; the text has what it logged."""


class Server:
    """nginx with an application, from `start()` to `stop()`, or as a context manager.

    `app` is an import string, the path of a file, or an application that is a global of a
    module; a process of its own imports it, so that nothing done to the object here, as
    overriding its dependencies, is seen there.  `options` are those of `databridge run`;
    both timeouts are in seconds, `store` is a URI, and without it a file that goes at the end.
    """

    def __init__(
        self,
        app: Any,
        *options: str,
        app_dir: str | os.PathLike[str] = ".",
        factory: bool = False,
        workers: int = 1,
        store: str | None = None,
        env: Mapping[str, str] | None = None,
        start_timeout: float = 30.0,
        shutdown_timeout: int = 5,
    ) -> None:
        self.found = _found(app, os.fspath(app_dir))
        self.factory = factory or self.found.factory
        self.options = options
        self.workers = workers
        self.store = store
        self.env = env or {}
        self.start_timeout = start_timeout
        self.shutdown_timeout = shutdown_timeout
        self.url = ""
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._stack = contextlib.ExitStack()
        self._log: Path | None = None
        self._kept = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        except ServerError as error:
            if exc is None:
                raise
            exc.add_note(str(error))

    @property
    def log(self) -> str:
        """What the server has written so far: nginx's logs and all the application prints."""
        if self._log is None:
            return self._kept
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Returns when the application is ready; raises ServerError if that fails."""
        if self._process is not None:
            raise RuntimeError("the server runs already")
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="databridge-test-"))
        os.chmod(folder, 0o755)
        self._log = Path(folder, "output.log")
        with open(self._log, "wb") as output:
            self._process = subprocess.Popen(
                self._command(folder),
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            self._wait_ready()
        except BaseException:
            self._end()
            raise

    def stop(self) -> None:
        """Lets what runs finish; raises ServerError if the server has ended badly."""
        if self._process is None:
            return
        status = self._end()
        if status != 0:
            raise ServerError(f"the server ended with status {status}:\n{self._kept}")

    def _command(self, folder: str) -> list[str]:
        return [
            *(sys.executable, "-m", "databridge", "run", self.found.target, "--port", "0"),
            *("--app-dir", self.found.directory),
            *("--workers", str(self.workers)),
            *("--store", self.store or f"sqlite:{folder}/test.db"),
            *("--shutdown-timeout", str(self.shutdown_timeout)),
            *(["--factory"] if self.factory else []),
            *self.options,
        ]

    def _wait_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self.start_timeout
        while (found := ADDRESS.search(self.log)) is None:
            if (status := self._process.poll()) is not None:
                raise ServerError(f"the server did not start, status {status}:\n{self.log}")
            if time.monotonic() > deadline:
                raise ServerError(
                    f"the server did not start within {self.start_timeout:g} s:\n{self.log}"
                )
            time.sleep(POLL)
        self.url, self.port = found[1], int(found[2])

    def _end(self) -> int:
        """Ends the process, harder when it does not listen; its status."""
        process, self._process = self._process, None
        assert process is not None
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self.shutdown_timeout + GRACE)
                break
        self._kept, self._log = self.log, None
        self._stack.close()
        return process.wait()


def fixture(
    app: Any,
    *options: str,
    scope: Literal["session", "package", "module", "class", "function"] = "module",
    **settings: Any,
) -> Callable[..., Any]:
    """A pytest fixture that is a `Server`: one for each of that scope.

    server = fixture("main:app")
    """
    import pytest

    @pytest.fixture(scope=scope)
    def server() -> Iterator[Server]:
        with Server(app, *options, **settings) as running:
            yield running

    return server


def _found(app: Any, directory: str) -> Found:
    if isinstance(app, str):
        return discovery.find(app, directory)
    if isinstance(app, os.PathLike):
        return discovery.find(os.fspath(Path(directory, app).resolve()))
    modules = [module for module in list(sys.modules.values()) if _file(module) is not None]
    for module in sorted(reversed(modules), key=_is_test):
        for name, value in vars(module).items():
            if value is app:
                target, folder = _module_of(module)
                return Found(f"{target}:{name}", folder)
    raise LoadError(
        "the application is not a global of a module, where another process could import it:"
        " name it, as Server('main:app')"
    )


def _file(module: ModuleType) -> str | None:
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) and file.endswith(".py") else None


def _is_test(module: ModuleType) -> bool:
    """A module that has the application from where it belongs, most likely."""
    name = module.__name__.rpartition(".")[2]
    return name.startswith("test_") or name.endswith("_test") or name in ("conftest", "__main__")


def _module_of(module: ModuleType) -> tuple[str, str]:
    """The name of a module, and the directory that it is imported from."""
    path = Path(_file(module) or "").resolve()
    if module.__name__ == "__main__":
        return discovery.module_of(path)
    depth = module.__name__.count(".") + (path.name == "__init__.py")
    return module.__name__, str(path.parents[depth])
