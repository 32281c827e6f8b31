"""Drives build/host/host: commands to its standard input, events from its output."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BUILD", ROOT / "build"))

START, LAST, ABORT, DONE = 1, 2, 4, 8

Event = dict[str, Any]


@dataclass
class Response:
    """What has come of a request's parts so far."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    parts: list[Event] = field(default_factory=list)

    @property
    def flags(self) -> int:
        """Of all parts together."""
        flags = 0
        for part in self.parts:
            flags |= part["flags"]
        return flags

    def add(self, part: Event) -> None:
        self.parts.append(part)
        if part["flags"] & START:
            self.status = part["status"]
            self.headers = part["headers"]
        self.body += part["body"]


class Host:
    """One process of the host; `variant` is "", "-asan" or "-tsan"."""

    def __init__(
        self,
        path: Path,
        *apps: str,
        options: Sequence[str] = (),
        variant: str = "",
        env: Mapping[str, str] | None = None,
        wait: float = 30,
    ) -> None:
        self.wait = wait
        self.logs: list[tuple[str, str]] = []
        self.apps: list[Event] = []
        self.calls: dict[str, tuple[str, str]] = {}
        self.matches: list[Event] = []
        self.benches: list[Event] = []
        self.responses: dict[int, Response] = {}
        self.ready = False
        self.stopped = False
        self.signals = 0
        self.errors = ""
        self._next = 0
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

        command = [str(BUILD / "host" / f"host{variant}"), "-v", str(BUILD / "venv")]
        command += ["-p", f"{ROOT / 'python'}:{path}"]
        for app in apps:
            command += ["-a", app]
        self._process = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=path,
            env={**os.environ, **(env or {})},
        )
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Host":
        self.until(lambda: self.ready or self.stopped)
        return self

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        if self._process.poll() is None:
            self.stop()
        self.close()
        if kind is None:
            assert self._process.returncode == 0, self.errors
            assert "Sanitizer" not in self.errors, self.errors

    def close(self) -> None:
        """Ends a process that hangs."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(self.wait)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    # commands

    def request(
        self,
        target: str = "/",
        *,
        method: str = "GET",
        query: str = "",
        body: bytes | Path = b"",
        headers: Sequence[tuple[str, str]] = (),
        app: int = 0,
    ) -> int:
        """Submits a request; its number names it from then on."""
        self.send(self.command(target, method, query, body, headers, app))
        return self._next

    def command(
        self,
        target: str = "/",
        method: str = "GET",
        query: str = "",
        body: bytes | Path = b"",
        headers: Sequence[tuple[str, str]] = (),
        app: int = 0,
    ) -> str:
        self._next += 1
        self.responses[self._next] = Response()
        content = f"@{body}" if isinstance(body, Path) else body.hex() or "-"
        pairs = [f"{n.encode().hex()}:{v.encode('latin-1').hex()}" for n, v in headers]
        words = [self._next, app, method, target, query or "-", content, *pairs]
        return "request " + " ".join(map(str, words))

    def fetch(self, target: str = "/", **options: Any) -> Response:
        """Submits a request and waits until Python is done with it."""
        return self.done(self.request(target, **options))

    def send(self, *lines: str) -> None:
        """Commands of one call reach the loop as one batch."""
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{line}\n" for line in lines))
        self._process.stdin.flush()

    def call(self, target: str, *args: int) -> tuple[str, str]:
        """Calls "module:attribute" through the bridge: how it ended, repr() of what."""
        name = f"c{len(self.calls)}"
        module, _, attribute = target.partition(":")
        self.send(" ".join(["call", name, module, attribute, *map(str, args)]))
        self.until(lambda: name in self.calls)
        return self.calls[name]

    def match(self, method: str, path: str, app: int = 0) -> Event:
        count = len(self.matches)
        self.send(f"match {app} {method} {path}")
        self.until(lambda: len(self.matches) > count)
        return self.matches[-1]

    def bench(
        self, requests: int, flight: int, target: str, headers: Sequence[tuple[str, str]] = ()
    ) -> Event:
        count = len(self.benches)
        words = self.command(target, headers=headers).split()
        self.send(" ".join(["bench", str(requests), str(flight), *words[2:]]))
        self.until(lambda: len(self.benches) > count)
        return self.benches[-1]

    def stop(self) -> None:
        self.send("stop")
        self.until(lambda: self.stopped)

    # events

    def done(self, number: int) -> Response:
        response = self.responses[number]
        self.until(lambda: response.flags & DONE != 0)
        return response

    def logged(self, text: str, level: str | None = None) -> bool:
        return any(text in line and level in (None, kind) for kind, line in self.logs)

    def until_logged(self, text: str, level: str | None = None) -> None:
        self.until(lambda: self.logged(text, level))

    def until(self, condition: Callable[[], bool]) -> None:
        """Takes events until the condition holds."""
        deadline = time.monotonic() + self.wait
        while not condition():
            try:
                event = self._events.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"nothing more came; the log: {self.logs}") from None
            if event is None:
                raise AssertionError(f"the host has ended: {self.errors}{self.logs}")
            self._take(event)

    def drain(self, seconds: float) -> None:
        """Takes what comes within that time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                event = self._events.get(timeout=left)
            except queue.Empty:
                return
            if event is None:
                return
            self._take(event)

    def _take(self, event: Event) -> None:
        kind = event["event"]
        if kind == "log":
            self.logs.append((event["level"], event["text"].decode()))
        elif kind == "app":
            self.apps.append(event)
        elif kind == "ready":
            self.ready = True
        elif kind == "part":
            self.responses[event["id"]].add(event)
        elif kind == "call":
            self.calls[event["name"]] = (event["result"], event["value"].decode())
        elif kind == "match":
            self.matches.append(event)
        elif kind == "bench":
            self.benches.append(event)
        elif kind == "signals":
            self.signals += 1
        elif kind == "stopped":
            self.stopped = True
        else:
            raise AssertionError(event)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                sys.stderr.write(line)
                continue
            for key in ("text", "error", "body", "value"):
                if key in event:
                    event[key] = bytes.fromhex(event[key])
            if "headers" in event:
                event["headers"] = [
                    (bytes.fromhex(name), bytes.fromhex(value)) for name, value in event["headers"]
                ]
            self._events.put(event)
        self._events.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.errors += line
