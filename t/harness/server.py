"""Servers that are one command: databridge run, and uvicorn beside it."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from textwrap import dedent

import httpx

from harness import processes
from harness.log import SANITIZER, Log
from harness.raw import Raw
from harness.settings import DATABRIDGE, PYTHON, SLOWER, server_env
from harness.wait import eventually, until


class Command:
    """A command in a directory of its own, where the application's files are."""

    clean_exits: tuple[int, ...] = (0,)

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="databridge-t-"))
        self.folder.chmod(0o755)
        self.port = processes.free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.base_url, timeout=15 * SLOWER)
        self.log = Log(self.folder / "output.log")
        self.process: subprocess.Popen[bytes] | None = None
        self.family: list[int] = []
        self.failures: list[str] = []

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))

    def launch(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        with open(self.log.path, "ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**server_env(), **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_ready(self, path: str = "/") -> None:
        """Until the path is answered, by whatever status."""
        until("an answer", lambda: self._gone() or self._answers(path), 20)

        if self._gone():
            raise AssertionError(f"it did not start:\n{self.log.text()}")

        assert self.process
        self.family = [self.process.pid, *processes.descendants(self.process.pid)]

    def _gone(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def _answers(self, path: str) -> bool:
        try:
            httpx.get(self.base_url + path, timeout=15 * SLOWER)
        except httpx.TransportError:
            return False

        return True

    def raw(self) -> Raw:
        return Raw(self.port)

    def kill(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)

    def wait(self, seconds: float = 10.0) -> int | None:
        """The exit status, or None when it still runs after that time."""
        assert self.process
        process = self.process
        eventually(lambda: process.poll() is not None, seconds)
        return process.poll()

    def ends(self, command: Sequence[str], env: Mapping[str, str]) -> str:
        """Runs a command that must end by itself and not with 0; its output."""
        self.launch(command, env)
        status = self.wait(20)
        assert status is not None, f"it still runs:\n{self.log.text()}"
        assert status != 0, self.log.text()
        return self.log.text()

    def finish(self) -> list[str]:
        """Ends it with SIGTERM; returns what went wrong."""
        self.client.close()

        if self.process is not None and self.process.poll() is None:
            self.family += processes.descendants(self.process.pid)
            self.kill(signal.SIGTERM)
            status = self.wait()

            if status is None:
                self.failures.append("it did not exit within 10 s of SIGTERM")
            elif status not in self.clean_exits:
                self.failures.append(f"it exited with {status}")

        left = processes.survivors(self.family)
        self.failures += [f"still running: {pid} {processes.title(pid)}" for pid in left]

        for pid in left:
            os.kill(pid, signal.SIGKILL)

        if self.process is not None:
            processes.kill_group(self.process)
            self.process.wait()

        problems = self.failures + self.problems()
        rmtree(self.folder, ignore_errors=True)
        return problems

    def problems(self) -> list[str]:
        return self.log.find(SANITIZER.pattern)


class Server(Command):
    """databridge run"""

    def run(
        self, target: str, *options: str, ready: str = "/", env: Mapping[str, str] | None = None
    ) -> None:
        """Serves until finish(); returns when it answers."""
        self.launch(
            [DATABRIDGE, "run", target, "--port", str(self.port), *options],
            env or {},
        )
        self.wait_ready(ready)

    def fail(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """What a command says that must end by itself and not with 0."""
        return self.ends([DATABRIDGE, *arguments], env or {})

    def refuse(self, target: str) -> str:
        """What "run" says when the application must not start."""
        self.log.expect("failed to start")
        return self.fail("run", target, "--port", str(self.port))

    def problems(self) -> list[str]:
        return self.log.problems()


class Uvicorn(Command):
    """The same application under uvicorn, to compare."""

    # uvicorn shuts down in order, then raises the signal once more

    clean_exits = (0, -signal.SIGTERM)

    def run(self, target: str, *options: str, env: Mapping[str, str] | None = None) -> None:
        env = {"LD_PRELOAD": "", "PYTHONPATH": "", **(env or {})}
        self.launch(self._command(target, *options), env)
        self.wait_ready()

    def refuse(self, target: str) -> str:
        """What it says when it must not start."""
        return self.ends(self._command(target), {"LD_PRELOAD": "", "PYTHONPATH": ""})

    def _command(self, target: str, *options: str) -> list[str]:
        port = ("--port", str(self.port), "--log-level", "warning")
        return [PYTHON, "-m", "uvicorn", target, *port, *options]


class Gunicorn(Command):
    """The same WSGI application under gunicorn's threads, to compare."""

    def run(self, target: str, *options: str) -> None:
        address = f"127.0.0.1:{self.port}"
        self.launch(
            [
                PYTHON,
                "-m",
                "gunicorn",
                target,
                *("-b", address, "-k", "gthread", "--threads", "4", "--log-level", "warning"),
                *options,
            ],
            {"LD_PRELOAD": ""},
        )
        self.wait_ready()
