"""
make bench-plans: an unchanged FastAPI application under databridge, row by row.

Beside it the same application under uvicorn with uvloop and httptools, nginx's
own `return 200`, and other servers and frameworks where they have the row.  The
servers run on core 0, the load on core 1; CPU is that of all processes that
serve, nginx's master excepted, per request at 32 connections.  The rounds
interleave all lines; the table shows medians, and how many times less than
uvicorn's they are.  The table and a plot are written to bench/results/.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from time import monotonic, sleep

import httpx
from bench.rounds import conduct, rounds
from bench.serving import LOAD_CORE, NGINX, SERVER_CORE, Measured, Sample, counted, latency

from harness import BUILD, DATABRIDGE, PYTHON, ROOT, Nginx, Uvicorn, processes, until
from harness.server import Command

RESULTS = ROOT / "bench/results"
CONNECTIONS = 32
ITEM = json.dumps({"name": "a thing", "price": 12.5, "tags": ["one", "two"]})
OTHERS = ("granian", "litestar", "blacksheep", "robyn")


@dataclass(frozen=True)
class Row:
    """A kind of request, and how many times uvicorn's CPU is the aim."""

    name: str
    path: str
    aim: float
    body: str = ""
    header: str = ""
    app: str = "app"
    others: bool = False
    connections: int = CONNECTIONS
    status: int = 200


ROWS = (
    Row("constant JSON, async", "/json", 5, others=True),
    Row("the same with a response model", "/constant", 5),
    Row("/items/42?q=abc&limit=5", "/items/42?q=abc&limit=5", 7, others=True),
    Row("body of 3 fields, echoed", "/echo", 7, body=ITEM),
    Row("two dependencies, one cached", "/dependencies?skip=3", 8, header="Authorization: me"),
    Row("def handler", "/threaded", 5),
    Row("PlainTextResponse", "/text", 5),
    Row("10 KB of dicts", "/records/130", 40),
    Row("100 KB of dicts", "/records/1300", 40, connections=8),
    Row("1 MB of dicts", "/records/13000", 40, connections=4),
    Row("10 KB through list[Model]", "/models/130", 1.3),
    Row("100 KB through list[Model]", "/models/1300", 1.3, connections=8),
    Row("constant JSON behind CORS", "/constant", 4, app="guarded"),
    Row("yield dependency, def", "/session", 3),
    Row("HTTPException, 404", "/missing", 4, status=404),
    Row("constant JSON below GZip", "/constant", 1.5, app="compressed"),
    Row("/items/42 below GZip", "/items/42?q=abc&limit=5", 2, app="compressed"),
)


@dataclass
class Server:
    port: int
    pids: Callable[[], list[int]]


@dataclass
class Line(Measured):
    row: Row
    kind: str
    server: Server
    samples: list[Sample] = field(default_factory=list)

    def measure(self, seconds: int) -> None:
        pids = self.server.pids()
        cpu = sum(map(processes.cpu_seconds, pids))
        requests, rate = self.load(seconds)
        cpu = sum(map(processes.cpu_seconds, pids)) - cpu
        self.samples.append(Sample(rate, cpu * 1e6 / requests, 0))

    def load(self, seconds: int) -> tuple[int, float]:
        name = f"{self.row.name}, {self.kind}"
        return counted(self.command(seconds), name, seconds, refused=self.row.status != 200)

    def command(self, seconds: int) -> list[str]:
        row = self.row
        url = f"http://127.0.0.1:{self.server.port}"
        command = ["wrk", "-t1", f"-c{row.connections}", f"-d{seconds}s"]
        if row.header:
            command += ["-H", row.header]
        if not row.body:
            return [*command, url + row.path]

        room = BUILD / "bench"
        room.mkdir(parents=True, exist_ok=True)
        paths, body = room / "plans.paths", room / "plans.body"
        paths.write_text(f"{row.path}\n")
        body.write_text(row.body)
        return [
            *command,
            "-s",
            f"{ROOT}/bench/requests.lua",
            url,
            "--",
            "POST",
            f"{paths}",
            f"{body}",
        ]

    def check(self) -> None:
        """It serves the row."""
        name, _, value = self.row.header.partition(": ")
        headers = {name: value} if name else {}
        if self.row.body:
            headers["Content-Type"] = "application/json"
        answer = httpx.request(
            "POST" if self.row.body else "GET",
            f"http://127.0.0.1:{self.server.port}{self.row.path}",
            headers=headers,
            content=self.row.body or None,
        )
        name = f"{self.row.name}, {self.kind}"
        assert answer.status_code == self.row.status, f"{name}: {answer.text}"


class Robyn(Command):
    """It ends by SIGINT alone."""

    clean_exits = (0, 1, -signal.SIGINT)

    def kill(self, number: signal.Signals) -> None:
        super().kill(signal.SIGINT)


class Fleet:
    """One server of each kind and application, on the core of the servers."""

    def __init__(self) -> None:
        self.running: list[Nginx | Command] = []
        self.servers: dict[tuple[str, str], Server] = {}

    def server(self, kind: str, app: str) -> Server:
        key = kind, app
        if key not in self.servers:
            os.sched_setaffinity(0, {SERVER_CORE})
            try:
                self.servers[key] = getattr(self, kind)(app)
            finally:
                os.sched_setaffinity(0, {LOAD_CORE})
        return self.servers[key]

    def nginx(self, app: str) -> Server:
        server = Nginx(plain=True)
        self.running.append(server)
        server.configure(
            'default_type application/json; return 200 \'{"message":"hello"}\';', server=NGINX
        )
        server.start("/")
        return Server(server.port, server.workers)

    def databridge(self, app: str) -> Server:
        server = Nginx()
        self.running.append(server)
        server.configure(
            f"databridge_app bench.routes:{app};",
            server=f"{NGINX} client_body_buffer_size 1m;",
            http=f"databridge_python_path {ROOT};",
        )
        server.start("/docs")
        return Server(server.port, server.workers)

    def uvicorn(self, app: str) -> Server:
        return self.under_uvicorn(f"bench.routes:{app}")

    def litestar(self, app: str) -> Server:
        return self.under_uvicorn("bench.others:litestar", "--factory")

    def blacksheep(self, app: str) -> Server:
        return self.under_uvicorn("bench.others:blacksheep", "--factory")

    def under_uvicorn(self, target: str, *options: str) -> Server:
        server = Uvicorn()
        self.running.append(server)
        options = (*options, "--loop", "uvloop", "--http", "httptools", "--no-access-log")
        server.run(target, "--app-dir", f"{ROOT}", *options)
        return self.command(server)

    def granian(self, app: str) -> Server:
        server = Command()
        self.running.append(server)
        command = [f"{Path(PYTHON).parent}/granian", "--interface", "asgi", "--loop", "uvloop"]
        command += ["--port", f"{server.port}", "--working-dir", f"{ROOT}", "--no-access-log"]
        server.launch([*command, f"bench.routes:{app}"], {})
        server.wait_ready("/json")
        return self.command(server)

    def robyn(self, app: str) -> Server:
        server = Robyn()
        self.running.append(server)
        python = f"{BUILD}/venv-robyn/bin/python"
        server.launch([python, "-m", "bench.others", f"{server.port}"], {"PYTHONPATH": f"{ROOT}"})
        server.wait_ready("/json")
        return self.command(server)

    def command(self, server: Command) -> Server:
        assert server.process
        pid = server.process.pid
        return Server(server.port, lambda: [pid, *processes.descendants(pid)])

    def finish(self) -> list[str]:
        return [problem for server in reversed(self.running) for problem in server.finish()]


def prepare(fleet: Fleet, rows: Sequence[Row], others: Sequence[str]) -> list[Line]:
    lines = [Line(Row("nginx return 200", "/json", 0), "nginx", fleet.server("nginx", ""))]

    for row in rows:
        kinds = ["uvicorn", "databridge", *(others if row.others else ())]
        lines += [Line(row, kind, fleet.server(kind, row.app)) for kind in kinds]

    for line in lines:
        line.check()

    return lines


def table(lines: Sequence[Line]) -> str:
    """In Markdown."""
    plain, *rest = lines
    cpu = {(line.row.name, line.kind): line.cpu for line in rest}
    text = [
        f"nginx `return 200`: {plain.rate:,.0f} requests/s, {plain.cpu:.1f} us.",
        "",
        "| request | served by | requests/s | CPU us | times less than uvicorn | aim |",
        "|---|---|---|---|---|---|",
    ]
    for line in rest:
        factor = cpu[line.row.name, "uvicorn"] / line.cpu
        aim = f"{line.row.aim:g}" if line.kind == "databridge" else ""
        text.append(
            f"| {line.row.name} | {line.kind} | {line.rate:,.0f} | {line.cpu:,.1f}"
            f" | {factor:.1f} | {aim} |"
        )
    return "\n".join(text) + "\n"


def plot(lines: Sequence[Line], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ours = [line for line in lines if line.kind == "databridge"]
    cpu = {(line.row.name, line.kind): line.cpu for line in lines}
    factors = [cpu[line.row.name, "uvicorn"] / line.cpu for line in ours]

    figure, axes = pyplot.subplots(figsize=(9, 0.42 * len(ours) + 1.4), layout="constrained")
    bars = axes.barh([line.row.name for line in ours], factors, color="#2a7f62")
    axes.scatter(
        [line.row.aim for line in ours],
        range(len(ours)),
        marker="|",
        s=180,
        color="black",
        zorder=3,
    )
    axes.bar_label(bars, [f" {factor:.1f}x" for factor in factors])
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 5, 10, 20, 50, 100], minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter("{x:g}x")
    axes.set_xlim(left=1)
    axes.invert_yaxis()
    axes.set_xlabel("times less CPU a request than FastAPI on uvicorn (bar: the aim)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def beside_python(fleet: Fleet, options: argparse.Namespace) -> str:
    """p99 of native CRUD, and of nginx's `return 200`, alone and beside saturating requests."""
    server = Nginx()
    fleet.running.append(server)
    os.sched_setaffinity(0, {SERVER_CORE})
    server.configure(
        "databridge_app bench.app:crud;",
        server=f"{NGINX} location /items {{ databridge_app bench.routes:app; }}"
        " location = /plain { return 200 '{}'; } location = /other { return 200 '{}'; }",
        http=f"databridge_python_path {ROOT}; databridge_store main sqlite:{server.prefix}/b.db;",
    )
    server.start("/docs")
    os.sched_setaffinity(0, {LOAD_CORE})

    url = f"http://127.0.0.1:{server.port}"
    created = httpx.post(f"{url}/articles", json={"title": "A title", "text": "A text"})
    path = f"/articles/{created.raise_for_status().json()['id']}"
    found: dict[tuple[str, str], list[float]] = {}

    for _ in range(options.rounds):
        for load in ("", ROWS[2].path, "/other"):
            for asked in (path, "/plain"):
                p99 = beside(server.port, load, asked, options.seconds)
                found.setdefault((load, asked), []).append(p99)

    def row(load: str) -> str:
        return " | ".join(f"{median(found[load, asked]):,.0f} us" for asked in (path, "/plain"))

    return (
        "p99 at 3,000 a second, in one worker on one core:\n\n"
        "| beside | CRUD get | nginx `return 200` |\n|---|---|---|\n"
        f"| nothing | {row('')} |\n"
        f"| Python, saturated by 32 connections | {row(ROWS[2].path)} |\n"
        f"| another `return 200`, saturated by 32 connections | {row('/other')} |\n"
    )


def beside(port: int, load: str, path: str, seconds: int) -> float:
    """p99 of a path while another has all requests that it can take."""
    if not load:
        return latency(port, path, 3000, seconds)[1]

    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds + 1}s"]
    with subprocess.Popen([*command, f"http://127.0.0.1:{port}{load}"], stdout=subprocess.DEVNULL):
        sleep(0.3)
        return latency(port, path, 3000, seconds)[1]


def beginning() -> str:
    """How long an application of some size takes, beyond the import of FastAPI."""
    command = [PYTHON, "-m", "bench.many"]
    fields = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    routes, plans = map(float, fields.split())
    return (
        f"1,000 routes with 300 models: {routes:.2f} s of CPU for FastAPI to make them, and"
        f" {plans:.2f} s for their plans.\n"
    )


def reloading(fleet: Fleet, rounds: int) -> str:
    """From the saving of a file until `databridge dev` serves it, on both cores."""
    os.sched_setaffinity(0, {SERVER_CORE, LOAD_CORE})
    server = Command()
    fleet.running.append(server)
    code = "from fastapi import FastAPI\napp = FastAPI()\napp.get('/')(lambda: {})\n"

    def serves(number: int) -> bool:
        return httpx.get(server.base_url, timeout=15).text == f"{number}"

    server.write({"main.py": code.format(0)})
    server.launch([DATABRIDGE, "dev", "--port", f"{server.port}", "--quiet"], {})
    server.wait_ready()
    took = []

    for number in range(1, rounds + 1):
        sleep(1)  # what the last reload has left to do
        saved = monotonic()
        server.write({"main.py": code.format(number)})
        until("what was saved", partial(serves, number), 15)
        took.append(monotonic() - saved)

    return f"`databridge dev` serves what was saved after {median(took):.2f} s.\n"


def compare(fleet: Fleet, options: argparse.Namespace) -> None:
    rows = [row for row in ROWS if re.search(options.rows, row.name)]
    lines = prepare(fleet, rows, [kind for kind in options.others.split(",") if kind])

    for _ in rounds(options.rounds):
        for line in lines:
            line.measure(options.seconds)

    text = table(lines)
    if not options.rows:
        text += "\n" + beside_python(fleet, options)
        text += "\n" + beginning() + "\n" + reloading(fleet, options.rounds)
    print(text)

    if options.write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "plans.md").write_text(text)
        plot(lines[1:], RESULTS / "plans.png")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-plans BENCH=", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--rows", default="", help="a regular expression on their names")
    parser.add_argument("--others", default=",".join(OTHERS), help="a list; empty: none")
    parser.add_argument("--write", action="store_true", help="to bench/results/")
    options = parser.parse_args()

    fleet = Fleet()
    return conduct(fleet, lambda: compare(fleet, options))


if __name__ == "__main__":
    sys.exit(main())
