"""
make bench: requests/s, CPU per request, wake-ups and latency, side by side.

The servers run on core 0, the load on core 1.  All servers are up from the
start; the rounds interleave the cases, so that a slow minute of the machine
hits all of them, and the table shows medians.  CPU is that of all processes
that serve the case, nginx's master excepted.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic

import httpx
from bench.rounds import conduct, rounds

from harness import BUILD, DATABRIDGE, ROOT, Nginx, Uvicorn, processes
from harness.server import Command
from harness.tools import compiled, rate_tool

SERVER_CORE, LOAD_CORE = 0, 1
LOADS = (0.5, 0.8)
ARTICLE = {"title": "A title of some length", "text": "All work and no play. " * 8}
ITEM = "/items/42?q=abc&limit=5"
STREAMS = {0: "", 100: " 100/s"}  # 0: as fast as it goes; at 100/s nobody's socket is full
FASTAPI_STREAMS = {"fastapi stream": "/stream", "fastapi def stream": "/stream/def"}
NGINX = "access_log off; keepalive_requests 100000000;"


@dataclass
class Sample:
    rate: float
    cpu: float
    wakeups: float
    client: float = 0.0


class Measured:
    """What rounds have given, and their medians."""

    samples: list[Sample]

    @property
    def rate(self) -> float:
        return median(sample.rate for sample in self.samples)

    @property
    def cpu(self) -> float:
        return median(sample.cpu for sample in self.samples)

    @property
    def client(self) -> float:
        return median(sample.client for sample in self.samples)


@dataclass
class Case(Measured):
    name: str
    start: Callable[[], tuple[int, Callable[[], list[int]]]]
    path: str = "/"
    script: str = ""
    fill: int = 0
    echo: bool = False
    pace: int = 0
    rated: bool = True
    port: int = 0
    pids: Callable[[], list[int]] = field(default=lambda: [])
    samples: list[Sample] = field(default_factory=list)
    latency: tuple[float, float, float] | None = None
    loaded: list[float] = field(default_factory=list)


class Bare(Command):
    """bench/writev.c, which dies of its SIGTERM."""

    clean_exits = (-signal.SIGTERM,)

    def run(self) -> None:
        self.launch([str(compiled("writev")), str(self.port)], {})
        self.wait_ready()


class Fleet:
    """All servers, started on core 0 and stopped at the end."""

    def __init__(self) -> None:
        self.servers: list[Nginx | Command] = []

    def nginx(self, location: str, *, http: str = "", plain: bool = False) -> Nginx:
        server = Nginx(plain)
        server.configure(
            location,
            server=NGINX,
            http=f"databridge_python_path {ROOT / 'bench'}; {http}" if not plain else http,
        )
        self.servers.append(server)
        server.start("/")
        return server

    def uvicorn(self, target: str) -> Uvicorn:
        server = Uvicorn()
        self.servers.append(server)
        server.run(
            target,
            *("--app-dir", str(ROOT / "bench")),
            *("--loop", "uvloop", "--http", "httptools", "--no-access-log"),
        )
        return server

    def bare(self) -> Bare:
        server = Bare()
        self.servers.append(server)
        server.run()
        return server

    def finish(self) -> list[str]:
        return [problem for server in reversed(self.servers) for problem in server.finish()]


def cases(fleet: Fleet) -> list[Case]:
    """Every case; a server is started when its case is chosen."""
    schema = BUILD / "bench/article.schema.json"

    def module(location: str) -> tuple[int, Callable[[], list[int]]]:
        server = fleet.nginx(location)
        return server.port, server.workers

    def command(server: Command) -> tuple[int, Callable[[], list[int]]]:
        assert server.process
        pid = server.process.pid
        return server.port, lambda: [pid]

    def alone(target: str) -> tuple[int, Callable[[], list[int]]]:
        return command(fleet.uvicorn(target))

    def proxied(target: str) -> tuple[int, Callable[[], list[int]]]:
        port, pids = alone(target)
        server = fleet.nginx(
            'proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";',
            http=f"upstream app {{ server 127.0.0.1:{port}; keepalive 64; }}",
            plain=True,
        )
        return server.port, lambda: server.workers() + pids()

    def plain() -> tuple[int, Callable[[], list[int]]]:
        server = fleet.nginx(
            'default_type application/json; return 200 \'{"message":"hello"}\';', plain=True
        )
        return server.port, server.workers

    def native() -> tuple[int, Callable[[], list[int]]]:
        schema.parent.mkdir(parents=True, exist_ok=True)
        command = [DATABRIDGE, "schema", "app:Article", "--app-dir", str(ROOT / "bench")]
        schema.write_text(
            subprocess.run(command, capture_output=True, check=True, text=True).stdout
        )
        server = Nginx()
        server.configure(
            http=f"databridge_store main sqlite:{server.prefix}/bench.db;",
            server=f"{NGINX} location /articles "
            f"{{ databridge_crud article schema={schema} store=main; }}",
        )
        fleet.servers.append(server)
        server.start()
        return server.port, server.workers

    return [
        Case("nginx return 200", plain),
        Case("uvicorn asgi", lambda: alone("app:asgi")),
        Case("nginx+uvicorn asgi", lambda: proxied("app:asgi")),
        Case("databridge asgi", lambda: module("databridge_app app:asgi;")),
        Case("uvicorn fastapi", lambda: alone("app:api"), ITEM),
        Case("nginx+uvicorn fastapi", lambda: proxied("app:api"), ITEM),
        Case("databridge fastapi", lambda: module("databridge_app app:api;"), ITEM),
        Case("crud get", native, "/articles/{id}", fill=1),
        Case("crud list of 10", native, "/articles?limit=10", fill=10),
        Case("crud create", native, "/articles", "create.lua", rated=False),
        Case(
            "databridge untimed", lambda: module("databridge_app app:asgi; databridge_timeout 0;")
        ),
        *(
            Case(name + suffix, start, pace=pace, rated=False)
            for pace, suffix in STREAMS.items()
            for name, start in (
                ("writev stream", lambda: command(fleet.bare())),
                ("uvicorn stream", lambda: alone("app:stream")),
                ("databridge stream", lambda: module("databridge_app app:stream;")),
            )
        ),
        *(
            Case(f"{name} {stream}", start, path, rated=False)
            for stream, path in FASTAPI_STREAMS.items()
            for name, start in (
                ("uvicorn", lambda: alone("app:api")),
                ("databridge", lambda: module("databridge_app app:api;")),
            )
        ),
        Case("uvicorn websocket", lambda: alone("app:echo"), echo=True, rated=False),
        Case(
            "databridge websocket",
            lambda: module("databridge_app app:echo;"),
            echo=True,
            rated=False,
        ),
    ]


def prepare(case: Case) -> None:
    """Starts the server of the case and fills its store."""
    os.sched_setaffinity(0, {SERVER_CORE})
    case.port, case.pids = case.start()
    os.sched_setaffinity(0, {LOAD_CORE})

    with httpx.Client(base_url=f"http://127.0.0.1:{case.port}", timeout=15) as client:
        for _ in range(case.fill):
            created = client.post("/articles", json=ARTICLE)
            assert created.status_code == 201, created.text
            case.path = case.path.replace("{id}", str(created.json()["id"]))

        if not case.script:
            answer = client.get(case.path)
            assert answer.status_code == 200, f"{case.name}: {answer.status_code} {answer.text}"


def measure(case: Case, seconds: float, connections: int) -> Sample:
    """One round at full speed."""
    pids = case.pids()

    cpu = sum(map(processes.cpu_seconds, pids))
    wakeups = sum(map(processes.wakeups, pids))

    client = children_cpu()

    load = echo if case.echo else paced if case.pace else wrk
    requests, rate = load(case, seconds, connections)

    client = children_cpu() - client
    cpu = sum(map(processes.cpu_seconds, pids)) - cpu
    wakeups = sum(map(processes.wakeups, pids)) - wakeups
    return Sample(rate, cpu * 1e6 / requests, wakeups / requests, client * 1e6 / requests)


def children_cpu() -> float:
    """Of those that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def wrk(case: Case, seconds: float, connections: int) -> tuple[int, float]:
    """How many requests, and how many a second."""
    script = ["-s", str(ROOT / "bench" / case.script)] if case.script else []
    url = f"http://127.0.0.1:{case.port}{case.path}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", *script, url]
    return counted(command, case.name, seconds)


def counted(
    command: Sequence[str], name: str, seconds: float, *, refused: bool = False
) -> tuple[int, float]:
    """What a command of wrk has counted; no request may fail, or all have to be refused."""
    output = run(command, seconds)
    requests = int(number(output, r"(\d+) requests in"))
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", output)

    if int(failed[1] if failed else 0) != refused * requests or "Socket errors" in output:
        raise RuntimeError(f"{name}:\n{output}")

    return requests, number(output, r"Requests/sec:\s+([\d.]+)")


def paced(case: Case, seconds: float, connections: int) -> tuple[int, float]:
    """The same, at the case's own rate."""
    started = monotonic()
    done = int(open_loop(case.port, case.path, case.pace, seconds, connections)[0])
    return done, done / (monotonic() - started)


def echo(case: Case, seconds: float, connections: int) -> tuple[int, float]:
    """The same of messages and their echoes."""
    tool = compiled("echo")
    messages, took = run(
        [tool, str(case.port), case.path, f"{seconds:g}", str(connections)], seconds
    ).split()
    return int(messages), int(messages) / float(took)


def run(command: Sequence[str | Path], seconds: float) -> str:
    return subprocess.run(
        command, capture_output=True, check=True, text=True, timeout=seconds + 30
    ).stdout


def number(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1])


def open_loop(port: int, path: str, rate: int, seconds: float, connections: int) -> list[str]:
    """What bench/rate.c prints, when no request has failed."""
    load = [str(argument) for argument in (port, path, rate, max(1, round(seconds)), connections)]
    fields = run([rate_tool(), *load], seconds).split()

    if fields[1] != "0":
        raise RuntimeError(f"{path}: {fields[1]} of {fields[0]} requests failed")

    return fields


def latency(port: int, path: str, rate: int, seconds: float) -> tuple[float, float, float]:
    """p50, p99 and p999 in microseconds at a fixed rate, 32 connections."""
    fields = open_loop(port, path, rate, seconds, 32)
    return float(fields[2]), float(fields[3]), float(fields[4])


def steady(case: Case, rate: int, options: argparse.Namespace) -> tuple[float, float, float]:
    """The medians of as many rounds."""
    rounds = [latency(case.port, case.path, rate, options.seconds) for _ in range(options.rounds)]
    p50, p99, p999 = map(median, zip(*rounds, strict=True))
    return p50, p99, p999


def show(chosen: list[Case], rate: int) -> None:
    base = chosen[0].cpu
    heads = ["requests/s", "CPU us", "ratio", "client us", "wake-ups"]
    heads += ["p50 us", "p99 us", "p999 us", *(f"p99 {load:.0%}" for load in LOADS)]

    print(f"\n{'':24}" + "".join(f"{head:>11}" for head in heads))

    for case in chosen:
        values = [
            f"{case.rate:.0f}",
            f"{case.cpu:.1f}",
            f"{case.cpu / base:.2f}",
            f"{case.client:.1f}",
            f"{median(sample.wakeups for sample in case.samples):.3f}",
            *(f"{value:.0f}" for value in (*(case.latency or ()), *case.loaded)),
        ]
        print(f"{case.name:24}" + "".join(f"{value:>11}" for value in values))

    print(
        f"\nCPU, ratio (to the first line), the client's CPU and wake-ups (voluntary context"
        f"\nswitches) are per request or message, at full speed or at the named rate; the"
        f"\nlatencies are at {rate} requests/s, from when each was due; the last ones at these"
        f"\nshares of the line's own full speed.  Of a stream the kernel does a part of the"
        f"\nserver's work in the client's time, and writev is the least that can serve it."
    )
    show_streams({case.name: case for case in chosen})


def show_streams(chosen: dict[str, Case]) -> None:
    """How far ahead of uvicorn databridge is, and how far anything could be."""
    ahead = [
        (f"uvicorn stream{suffix}", f"{name} stream{suffix}")
        for suffix in STREAMS.values()
        for name in ("writev", "databridge")
    ]
    ahead += [(f"uvicorn {stream}", f"databridge {stream}") for stream in FASTAPI_STREAMS]
    for names in ahead:
        uvicorn, case = map(chosen.get, names)
        if uvicorn and case:
            both = (uvicorn.cpu + uvicorn.client) / (case.cpu + case.client)
            print(
                f"\nuvicorn takes {uvicorn.cpu / case.cpu:.2f} times the CPU of {case.name},"
                f" {both:.2f} times with the client's",
                end="",
            )
    print()


def compare(fleet: Fleet, options: argparse.Namespace) -> None:
    chosen = [case for case in cases(fleet) if re.search(options.cases, case.name)]

    for case in chosen:
        prepare(case)

    for _ in rounds(options.rounds):
        for case in chosen:
            case.samples.append(measure(case, options.seconds, options.connections))

    for case in chosen:
        if options.rate and case.rated:
            case.latency = steady(case, options.rate, options)
            case.loaded = [steady(case, round(case.rate * load), options)[1] for load in LOADS]

    show(chosen, options.rate)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench BENCH=", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=int, default=3000, help="for the latencies; 0: none")
    parser.add_argument("--cases", default="", help="a regular expression on their names")
    options = parser.parse_args()

    fleet = Fleet()
    return conduct(fleet, lambda: compare(fleet, options))


if __name__ == "__main__":
    sys.exit(main())
