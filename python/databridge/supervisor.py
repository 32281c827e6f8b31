"""The parent of nginx, from its start until its last process is gone."""

import contextlib
import ctypes
import fcntl
import json
import os
import platform
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from databridge.config import Settings, Site, render
from databridge.flags import VARIABLES
from databridge.loading import DEVELOPMENT

NOTIFY_FD = "DATABRIDGE_NOTIFY_FD"
REPORT = "DATABRIDGE_REPORT"

PR_SET_PDEATHSIG = 1
GRACE = 3.0
SWEEP = 2.0


class Signals:
    """SIGINT, SIGTERM and SIGHUP as bytes to read from a descriptor.

    With `final` they are ignored afterwards: a late one does not change the status of
    a process that ends.  Children are waited for, even if who has started us ignores his;
    `nohup` says that the end of the terminal is none of ours.
    """

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self, *, final: bool = False) -> None:
        self.final = final
        self.fd, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._handlers = [(n, signal.signal(n, _noted)) for n in self.NUMBERS]
        self.nohup = (signal.SIGHUP, signal.SIG_IGN) in self._handlers
        if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
            ignored = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._handlers.append((signal.SIGCHLD, ignored))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers:
            signal.signal(number, signal.SIG_IGN if self.final else handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self.fd)
        os.close(self._write)

    def read(self) -> bytes:
        return _read(self.fd)


class Supervisor:
    """Starts nginx, reports when it is ready, stops it; `run` returns a status."""

    def __init__(
        self,
        settings: Settings,
        nginx: str,
        module: str,
        directory: str,
        alive: int,
        signals: Signals,
    ) -> None:
        self.settings = settings
        self.notified, self.notify = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.report = f"{directory}/app.json"
        self.environment = nginx_environment()
        self.environment[NOTIFY_FD] = str(self.notify)
        self.environment[REPORT] = self.report
        self.site = Site(
            module=module,
            directory=directory,
            environment=self.environment,
            access_log=_access_log(),
        )
        self.conf = f"{directory}/nginx.conf"
        self.command = [nginx, "-p", directory, "-c", self.conf, "-e", "stderr"]
        self.alive = alive
        self.signals = signals
        self.lines = b""
        self.started = 0
        self.ready = 0
        self.unheard = False
        self.failure: str | None = None
        self.stages = iter(
            [
                (self._quit, float(settings.shutdown_timeout) + GRACE),
                (self._terminate, GRACE),
                (self._kill, GRACE),
            ]
        )
        self.stopping = False
        self.deadline: float | None = None
        self.on_terminal = _has_terminal()
        self.listeners: dict[int, Callable[[], None]] = {}

    def run(self) -> int:
        with open(self.conf, "w") as file:
            file.write(render(self.settings, self.site))

        self.nginx = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            env=self.environment,
            pass_fds=(self.notify, self.alive),
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()),
        )
        os.close(self.notify)
        try:
            self._watch()
        finally:
            self._sweep()
            os.close(self.notified)
        return self._status()

    def _watch(self) -> None:
        """Handles what happens until nginx has ended."""
        ended = os.pidfd_open(self.nginx.pid)
        poll = select.poll()
        for fd in (ended, self.signals.fd, self.notified, *self.listeners):
            poll.register(fd, select.POLLIN)
        try:
            while True:
                wait = None
                if self.deadline is not None:
                    wait = max(0.0, self.deadline - time.monotonic()) * 1000
                fired = dict(poll.poll(wait))

                if self.notified in fired and not self._hear():
                    poll.unregister(self.notified)
                if ended in fired:
                    return
                for fd in fired.keys() & self.listeners.keys():
                    self.listeners[fd]()
                for number in self.signals.read():
                    self._handle(number)
                if self.deadline is not None and time.monotonic() >= self.deadline:
                    self._stop()
        finally:
            os.close(ended)

    def _hear(self) -> bool:
        """Takes what the workers say; False at the end.

        A worker of the first that dies is replaced: when all were, none will ever be ready.
        """
        data = _read(self.notified)
        *lines, self.lines = (self.lines + data).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            if text == "start":
                self.started += 1
                if self.started > 2 * self.settings.workers > 2 * self.ready:
                    self._failed("failed: its workers die while they start")
            elif text == "ready":
                self.ready += 1
                self._became_ready()
            elif text == "recycle":
                if not self.stopping:
                    self._reload()
            else:
                self._failed(text)
        return bool(data)

    def _became_ready(self) -> None:
        if self.ready == self.settings.workers and not self.stopping:
            self._announce()
            self._make_up()

    def _failed(self, text: str) -> None:
        if self.ready >= self.settings.workers or self.stopping:
            say(f"a worker {text}")
            return
        self.failure = text.removeprefix("failed:").strip()
        self._stop()

    def _handle(self, number: int) -> None:
        if number == signal.SIGHUP:
            if not self.on_terminal or _has_terminal():
                self._reload()
                return
            if self.signals.nohup:
                return
        self._stop()

    def _stop(self) -> None:
        """The next harder way to stop nginx: drain, then cut, then kill."""
        self.stopping = True
        act, patience = next(self.stages, (self._kill, GRACE))
        act()
        self.deadline = time.monotonic() + patience

    def _reload(self) -> None:
        """Renews the workers, or does so later: a signal unheard would end nginx."""
        self.unheard = not self._is_hearing()
        if not self.unheard:
            self.nginx.send_signal(signal.SIGHUP)

    def _make_up(self) -> None:
        """For a reload that nobody has heard."""
        if self.unheard:
            self._reload()

    def _is_hearing(self) -> bool:
        """nginx handles signals once its pid file is there."""
        return os.path.exists(f"{self.site.directory}/nginx.pid")

    def _quit(self) -> None:
        self.nginx.send_signal(signal.SIGQUIT if self._is_hearing() else signal.SIGTERM)

    def _terminate(self) -> None:
        self.nginx.send_signal(signal.SIGTERM)

    def _kill(self) -> None:
        os.killpg(self.nginx.pid, signal.SIGKILL)

    def _sweep(self) -> None:
        """Ends what nginx has left behind: workers whose master was killed."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            limit = time.monotonic() + SWEEP
            left = self._signal_group(number)
            while left and time.monotonic() < limit:
                time.sleep(0.01)
                left = self._signal_group(0)
            if not left:
                break
        self.nginx.wait()

    def _signal_group(self, number: int) -> bool:
        """False when nobody of nginx's group is left.

        Its number is another's when nginx has been reaped and such a process exists: nobody
        gets it while the group lives.
        """
        if self.nginx.returncode is not None and os.path.exists(f"/proc/{self.nginx.pid}"):
            return False
        try:
            os.killpg(self.nginx.pid, number)
        except ProcessLookupError:
            return False
        self.nginx.poll()
        return True

    def _status(self) -> int:
        status = self.nginx.returncode
        if self.failure is not None:
            say(f"error: the application did not start: {self.failure}")
            return 1
        if self.stopping:
            return 0
        started = self.ready >= self.settings.workers
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        say(f"error: nginx {'ended' if started else 'did not start: it ended'} {how}")
        return 128 - status if status < 0 else status or 1

    def _announce(self) -> None:
        if self.settings.quiet:
            return
        base = f"http://{self.settings.address}"
        say(f"serving {self.settings.target} on {base}")
        docs = self._docs()
        if docs is not None:
            say(f"documentation at {base}{docs}")
        workers = f"{self.settings.workers} worker{'s' if self.settings.workers > 1 else ''}"
        say(f"{workers}, pid {os.getpid()}, Python {platform.python_version()}; Ctrl-C stops")

    def _docs(self) -> str | None:
        """Where the application documents itself, as its check has found."""
        try:
            with open(self.report) as file:
                docs = json.load(file)["docs"]
        except FileNotFoundError:
            return None
        return str(docs) if docs is not None else None


def nginx_environment() -> dict[str, str]:
    """Ours, without the variables by which nginx hands sockets to its successor, and ours."""
    left_out = {"NGINX", "NGINX_BPF", DEVELOPMENT, *VARIABLES}
    return {n: v for n, v in os.environ.items() if n not in left_out}


def _noted(number: int, frame: FrameType | None) -> None:
    """Python's part of a signal that is read from the wakeup descriptor."""


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except BlockingIOError:
        return b""


def _die_with(parent: int) -> Callable[[], None]:
    """In the child: nginx drains and ends when this process dies, however it does."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def prepare() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def _access_log() -> str | None:
    """Where nginx can write what belongs on stdout; a socket cannot be opened again."""
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.fstat(1).st_mode):
            flags = fcntl.fcntl(1, fcntl.F_GETFL)
            fcntl.fcntl(1, fcntl.F_SETFL, flags | os.O_APPEND)
        os.close(os.open("/dev/stdout", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
        return "/dev/stdout"
    return None


def _has_terminal() -> bool:
    """A terminal that hangs up sends SIGHUP as well, and is then gone."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def say(text: str) -> None:
    print(f"databridge: {text}", file=sys.stderr, flush=True)
