"""The stock nginx with our module, one instance for each test that asks."""

import os
import pwd
import re
import shutil
import signal
import ssl
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import httpx

from harness import processes
from harness.log import Log
from harness.raw import Raw
from harness.settings import MODULE, NGINX, SLOWER, VENV, server_env, worker_env
from harness.wait import eventually, until

CONFIG = """\
{load}
{main}
{user}
daemon off;
master_process {master};
worker_processes {workers};
pid {prefix}/nginx.pid;
lock_file {prefix}/nginx.lock;
error_log {prefix}/error.log info;

events {{
    worker_connections {connections};
}}

http {{
    log_format timed '$remote_addr "$request" $status $body_bytes_sent $request_time';
    access_log {prefix}/access.log timed;
    client_body_temp_path {prefix}/tmp/body;
    proxy_temp_path {prefix}/tmp/proxy;
    fastcgi_temp_path {prefix}/tmp/fastcgi;
    uwsgi_temp_path {prefix}/tmp/uwsgi;
    scgi_temp_path {prefix}/tmp/scgi;
    underscores_in_headers on;
    ignore_invalid_headers off;
    {databridge}
    {http}

    server {{
        listen 127.0.0.1:{port};
        {server}
    }}
}}
"""

# What a worker may open late and keep: the files of a store, one descriptor
# for each thread that reads it; the event loop, when nobody has waited for it.

LATE_FILES = 8
LATE_PYTHON = {"eventfd": 1, "eventpoll": 1, "unix": 2}
LEAKS = ("tcp", "unix", "pipe", "eventfd", "eventpoll", "pidfd", "deleted")


class StartError(AssertionError):
    """nginx did not start; the message holds what it said."""


class Nginx:
    """
    One nginx.  Made by the "nginx" fixture, which starts it, stops it and
    fails the test on what problems() finds.
    """

    def __init__(self, plain: bool = False) -> None:
        self.plain = plain
        self.prefix = Path(tempfile.mkdtemp(prefix="databridge-t-"))
        self.app = self.prefix / "app"
        self.config = self.prefix / "nginx.conf"
        self.port = processes.free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.error_log = Log(self.prefix / "error.log")
        self.stderr = Log(self.prefix / "stderr.log")
        self.client = httpx.Client(base_url=self.base_url, timeout=15 * SLOWER)
        self.process: subprocess.Popen[bytes] | None = None
        self.baseline: Counter[str] = Counter()
        self.known: list[int] = []
        self.allowed: Counter[str] = Counter()
        self.failures: list[str] = []
        self.master = True
        self.workers_expected = 1

        self.prefix.chmod(0o755)
        self.app.mkdir()
        (self.prefix / "tmp").mkdir()

    # configuration

    def write(self, files: Mapping[str, str]) -> None:
        """Writes files of the application, dedented."""
        for name, text in files.items():
            path = self.app / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))

    def configure(
        self,
        location: str = "",
        *,
        server: str = "",
        http: str = "",
        main: str = "",
        databridge: str | None = None,
        check: str = "off",
        workers: int = 1,
        master: bool = True,
        connections: int = 1024,
    ) -> None:
        """Writes nginx.conf: location is what "location /" holds."""
        if location:
            server += f"\n        location / {{ {location} }}"

        if databridge is None:
            databridge = "" if self.plain else self._databridge(check)

        user = pwd.getpwuid(os.getuid()).pw_name if os.getuid() == 0 else ""

        self.master = master
        self.workers_expected = workers if master else 0
        self.config.write_text(
            CONFIG.format(
                load="" if self.plain else f"load_module {MODULE};",
                user=f"user {user};" if user and "user " not in main else "",
                master="on" if master else "off",
                prefix=self.prefix,
                port=self.port,
                workers=workers,
                connections=connections,
                databridge=databridge,
                main=main,
                http=http,
                server=server,
            )
        )

    def _databridge(self, check: str) -> str:
        return "\n    ".join(
            [
                f"databridge_venv {VENV};",
                f"databridge_python_path {self.app};",
                f"databridge_check {check};",
                *(f"databridge_env {name}={value};" for name, value in worker_env().items()),
            ]
        )

    def test(self) -> subprocess.CompletedProcess[str]:
        """nginx -t"""
        return subprocess.run(
            [*self._command(), "-t"],
            env=server_env(),
            capture_output=True,
            text=True,
            timeout=60 * SLOWER,
        )

    def _command(self) -> list[str]:
        return [
            NGINX,
            "-p",
            str(self.prefix),
            "-c",
            str(self.config),
            "-e",
            str(self.prefix / "error.log"),
        ]

    # life

    def start(self, ready: str | None = None) -> None:
        """
        Starts nginx and waits until it accepts and its workers are there;
        with "ready", until that path is answered, with less than 500.
        """
        with open(self.stderr.path, "ab") as stderr:
            self.process = subprocess.Popen(
                self._command(),
                cwd=self.prefix,
                env=server_env(),
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,
            )

        eventually(self._started, 15)

        if self.process.poll() is not None or not self._started():
            raise StartError(f"nginx did not start:\n{self.output()}")

        self.known = self.workers()

        if ready is not None:
            self._answers(ready)
        elif not self.plain:
            self.allow_descriptors(**LATE_PYTHON)

        self.warm()

    def _started(self) -> bool:
        assert self.process

        if self.process.poll() is not None:
            return True

        if not processes.listening(self.port):
            return False

        return len(self.workers()) == max(1, self.workers_expected)

    def _answers(self, path: str) -> None:
        """
        A request waits until the application has started, or until the
        time that its location has for it is over: then comes another.
        """
        with httpx.Client(base_url=self.base_url, timeout=20 * SLOWER) as client:

            def status() -> int:
                code = client.get(path).status_code
                return 0 if code == 504 else code

            answered = eventually(status, 20)

        if not answered or answered >= 500:
            raise StartError(f"{path} is answered with {answered or 504}:\n{self.output()}")

    def warm(self) -> None:
        """Descriptors open from now on, beyond these, are leaks."""
        for pid in self.workers():
            for kind, count in processes.descriptors(pid).items():
                self.baseline[kind] = max(self.baseline[kind], count)

    def workers(self) -> list[int]:
        """The workers' pids; the only process without a master."""
        if self.process is None or self.process.poll() is not None:
            return []

        if not self.master:
            return [self.process.pid]

        return list(self._titles())

    def worker(self) -> int:
        (pid,) = self.workers()
        return pid

    def serving(self) -> list[int]:
        """The workers that are not shutting down."""
        if not self.master:
            return self.workers()

        return [pid for pid, title in self._titles().items() if "shutting down" not in title]

    def _titles(self) -> dict[int, str]:
        """The master's workers with their titles, each read once: a worker that ends has none."""
        assert self.process
        titles = {pid: processes.title(pid) for pid in processes.children(self.process.pid)}
        return {pid: title for pid, title in titles.items() if "worker process" in title}

    def kill(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)

    def reload(self) -> list[int]:
        """Reloads and waits until new workers serve; returns the old ones."""
        old = self.serving()
        self.kill(signal.SIGHUP)
        until("new workers", lambda: self._renewed(old), 20)
        self.known = self.serving()
        return old

    def _renewed(self, old: list[int]) -> bool:
        serving = self.serving()
        return len(serving) == self.workers_expected and not set(serving) & set(old)

    def wait(self, seconds: float = 5.0) -> int | None:
        """The exit status, or None when it still runs after that time."""
        assert self.process
        process = self.process
        eventually(lambda: process.poll() is not None, seconds)
        return process.poll()

    # what a test looks at

    def raw(self) -> Raw:
        return Raw(self.port)

    def output(self) -> str:
        return self.stderr.text() + self.error_log.text()

    def logged(self, pattern: str, seconds: float = 15.0) -> list[str]:
        """Lines of the error log, as soon as there are any."""
        return until(f"{pattern!r} in the error log", lambda: self.error_log.find(pattern), seconds)

    def access(self) -> list[str]:
        return Log(self.prefix / "access.log").text().splitlines()

    def descriptors(self) -> Counter[str]:
        return processes.descriptors(self.worker())

    def resident(self) -> int:
        return processes.resident(self.worker())

    # announcements

    def expect_alert(self, pattern: str) -> None:
        """An alert that has to come and does not fail the test."""
        self.error_log.expect(pattern)

    def expect_new_workers(self) -> None:
        """A worker is going to die, or to be replaced, by the test's will."""
        self.known = []

    def allow_descriptors(self, **kinds: int) -> None:
        """Descriptors that the application opens late and keeps."""
        self.allowed.update(kinds)

    # the end

    def finish(self, patience: float = 5.0) -> list[str]:
        """Stops nginx as an operator would; returns what went wrong."""
        self.client.close()

        if self.process is not None:
            self._check_running()
            self._stop(patience)

        problems = self.failures + self.error_log.problems(self.stderr)
        shutil.rmtree(self.prefix, ignore_errors=True)
        return problems

    def _check_running(self) -> None:
        assert self.process

        if self.process.poll() is not None:
            return

        for pid in self.known:
            if not processes.alive(pid):
                self.failures.append(f"worker {pid} died")

            elif not eventually(partial(self._clean, pid), 3):
                self.failures.append(f"worker {pid} leaked {self._leaked(pid)}")

    def _clean(self, pid: int) -> bool:
        return not self._leaked(pid)

    def _leaked(self, pid: int) -> dict[str, int]:
        found = processes.descriptors(pid)
        leaks = {}

        for kind, count in found.items():
            allowed = self.baseline[kind] + self.allowed[kind]

            if kind.startswith("file:"):
                allowed += LATE_FILES
            elif kind not in LEAKS:
                continue

            if count > allowed:
                leaks[kind] = count - allowed

        return leaks

    def _stop(self, patience: float) -> None:
        assert self.process
        family = [self.process.pid, *processes.descendants(self.process.pid)]

        if self.process.poll() is None:
            self.kill(signal.SIGQUIT)

        status = self.wait(patience)

        if status is None:
            self.failures.append(f"nginx did not exit within {patience:g} s of QUIT")
        elif status != 0:
            self.failures.append(f"nginx exited with {status}")

        if status is not None:
            left = processes.survivors(family)
            self.failures += [f"still running: {pid} {processes.title(pid)}" for pid in left]

        processes.kill_group(self.process)
        self.process.wait()

        for line in self.error_log.find(r"exited with code [1-9]"):
            if not any(pattern.search(line) for pattern in self.error_log.expected):
                self.failures.append(line)


class SecureNginx(Nginx):
    """An nginx that also listens with TLS, for HTTP/1.1 and HTTP/2."""

    def open(self, certificate: str, app: str, server: str = "", http: str = "") -> None:
        """Serves the application; certificate is a directory with cert.pem and key.pem."""
        self.certificate = f"{certificate}/cert.pem"
        self.tls = processes.free_port()
        self.write({"app.py": app})
        self.configure(
            "databridge_app app:app;",
            http=http,
            server=f"""
                listen 127.0.0.1:{self.tls} ssl http2;
                ssl_certificate {certificate}/cert.pem;
                ssl_certificate_key {certificate}/key.pem;
                {server}
            """,
        )
        self.start("/")

    def security(self, http2: bool) -> dict[str, Any]:
        """For a client of httpx that speaks TLS with this server."""
        return {
            "base_url": f"https://localhost:{self.tls}",
            "verify": ssl.create_default_context(cafile=self.certificate),
            "http2": http2,
            "http1": not http2,
            "timeout": 15 * SLOWER,
        }


def config_error(text: str) -> tuple[str, int]:
    """Message and line of nginx's refusal of a configuration."""
    found = re.search(r"\[emerg\] (?:\d+#\d+: )?(.*) in \S+nginx\.conf:(\d+)", text)
    assert found, text
    return found[1], int(found[2])
