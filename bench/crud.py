"""
make bench-crud: native CRUD beside FastAPI with Beanie, per request.

The servers run on core 0, the load on core 1, and so does MongoDB, which is
mongo-java-server and whose CPU is not counted.  CPU is that of the processes
that serve HTTP, nginx's master excepted, at 32 connections.  The rounds
interleave all lines; the table shows medians, and how many times less than
Beanie's they are.  Documents can be deleted once: a thousand are added, which
is not counted, and as many of the two thousand deleted at random, until the
time is over.

At the end come gets beside a writer, and lists of the first 20 documents per
second: of one worker, on the core of the servers; and of two, one on each
core, which the load shares with them.

A store may have options: of "mongodb?readConcernLevel=local" the driver does
all reads, in its threads, and nginx's own thread none.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Any

import httpx
from bench.once import each_once
from bench.rounds import conduct, rounds
from bench.serving import LOAD_CORE, NGINX, SERVER_CORE, Measured, Sample, counted, latency
from pymongo import MongoClient

from harness import BUILD, DATABRIDGE, ROOT, Nginx, Uvicorn, processes
from harness.mongo import MongoServer

PAGE = "/articles?published=true&sort=-views&limit=20"
READ = 1000
RANDOM = 100_000
BATCH = 500
CONNECTIONS = 32
STORES = ("beanie", "sqlite", "sqlite?synchronous=normal", "mongodb")
RESULTS = ROOT / "bench/results/crud.md"
LISTS = 60_000  # requests/s, the aim


def article(views: int) -> dict[str, Any]:
    return {
        "title": "A title of some length",
        "text": "All work and no play makes a dull day. " * 5,
        "author": {"name": "A. N. Author", "email": "author@example.com"},
        "tags": ["one", "two", "three"],
        "views": views,
        "rating": 4.5,
        "published": True,
        "created": "2026-01-02T03:04:05Z",
    }


@dataclass
class Server:
    """One that serves /articles, and the ids of those it was filled with."""

    port: int
    pids: Callable[[], list[int]]
    collection: str = ""
    ids: list[str] = field(default_factory=list)

    def cpu(self) -> float:
        return sum(map(processes.run_seconds, self.pids()))

    def fill(self, count: int) -> None:
        """By arrays; Beanie's, which knows none, in its collection."""
        for first in range(0, count, BATCH):
            articles = [article(views) for views in range(first, min(first + BATCH, count))]

            if self.collection:
                for one in articles:
                    one["created"] = datetime.now(UTC)
                with MongoClient[dict[str, Any]](self.collection) as client:
                    stored = client.get_default_database().peer.insert_many(articles)
                self.ids += [str(name) for name in stored.inserted_ids]
            else:
                answer = httpx.post(f"http://127.0.0.1:{self.port}/articles", json=articles)
                self.ids += [stored["id"] for stored in answer.raise_for_status().json()]


@dataclass
class Case:
    """A kind of request: of each document in turn, or of one path."""

    name: str
    method: str
    documents: int
    path: str = "/articles/{id}"
    body: bool = False
    once: bool = False
    aims: tuple[int, ...] = ()  # of SQLite at FULL and at NORMAL, of MongoDB

    def aim(self, store: str) -> str:
        return str(self.aims[STORES.index(store) - 1]) if self.aims and store in STORES[1:] else ""


CASES = (
    Case("get by id", "GET", READ, aims=(35, 35, 8)),
    Case("get, 100,000 random", "GET", RANDOM),
    Case("list of 20", "GET", READ, PAGE, aims=(30, 30, 8)),
    Case("list with total", "GET", READ, PAGE + "&count=true", aims=(30, 30, 8)),
    Case("create", "POST", 0, "/articles", body=True, aims=(25, 30, 10)),
    Case("update", "PUT", READ, body=True, aims=(25, 25, 8)),
    Case("delete", "DELETE", READ, once=True, aims=(25, 25, 8)),
)

SIMPLE = Case("simple list", "GET", READ, "/articles?limit=20")


@dataclass
class Line(Measured):
    """A case with a store."""

    case: Case
    store: str
    server: Server
    samples: list[Sample] = field(default_factory=list)

    def measure(self, seconds: float) -> None:
        if self.case.once:
            self.samples.append(self.delete(seconds))
            return

        cpu = self.server.cpu()
        requests, rate = self.load(seconds)
        self.samples.append(Sample(rate, (self.server.cpu() - cpu) * 1e6 / requests, 0))

    def delete(self, seconds: float) -> Sample:
        deleted, took, used = 0, 0.0, 0.0

        while took < seconds:
            self.server.fill(READ)
            random.shuffle(self.server.ids)
            paths = [f"/articles/{self.server.ids.pop()}" for _ in range(READ)]

            cpu = self.server.cpu()
            took += each_once(self.server.port, self.case.method, paths, CONNECTIONS)
            used += self.server.cpu() - cpu
            deleted += len(paths)

        return Sample(deleted / took, used * 1e6 / deleted, 0)

    def command(self, seconds: float, connections: int = CONNECTIONS) -> list[str]:
        room = BUILD / "bench"
        paths, body = room / f"{self.case.method}.paths", room / "body"
        paths.write_text("".join(f"{path}\n" for path in self.paths()))
        body.write_text(json.dumps(article(7)))

        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s"]
        command += ["-s", f"{ROOT}/bench/requests.lua", f"http://127.0.0.1:{self.server.port}"]
        command += ["--", self.case.method, f"{paths}"]
        return [*command, f"{body}"] if self.case.body else command

    def load(self, seconds: float) -> tuple[int, float]:
        return counted(self.command(seconds), f"{self.case.name}, {self.store}", seconds)

    def paths(self) -> list[str]:
        if "{id}" not in self.case.path:
            return [self.case.path]

        return [self.case.path.format(id=name) for name in self.server.ids]


class Fleet:
    """Servers of each kind, each with a collection of its own."""

    def __init__(self, stores: Sequence[str]) -> None:
        self.stores = stores
        self.mongo = MongoServer()
        self.servers: list[Nginx | Uvicorn] = []
        self.schema = BUILD / "bench/article.schema.json"

    def start(self) -> None:
        self.schema.parent.mkdir(parents=True, exist_ok=True)
        command = [DATABRIDGE, "schema", "bench.article:Article", "--app-dir", f"{ROOT}"]
        command += ["--prefix", "/articles", "--index", "published,-views"]
        self.schema.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
        self.mongo.start()

    def server(self, store: str, workers: int = 1) -> Server:
        """A new one, on the core of the servers; a second worker is on that of the load."""
        os.sched_setaffinity(0, {SERVER_CORE, LOAD_CORE} if workers > 1 else {SERVER_CORE})
        database = f"bench{len(self.servers)}"
        try:
            if store == "beanie":
                return self.beanie(self.mongo.uri(database))
            if store.startswith("mongodb"):
                options = store.removeprefix("mongodb")
                return self.native(self.mongo.uri(database, options), workers)
            file = f"sqlite:{{prefix}}/bench.db{store.removeprefix('sqlite')}"
            return self.native(file, workers)
        finally:
            os.sched_setaffinity(0, {LOAD_CORE})

    def beanie(self, uri: str) -> Server:
        server = Uvicorn()
        self.servers.append(server)
        options = ("--loop", "uvloop", "--http", "httptools", "--no-access-log")
        server.run("bench.peer:app", "--app-dir", f"{ROOT}", *options, env={"MONGODB_URI": uri})
        assert server.process
        pid = server.process.pid
        return Server(server.port, lambda: [pid], uri)

    def native(self, uri: str, workers: int) -> Server:
        server = Nginx()
        self.servers.append(server)
        server.allow_descriptors(tcp=40)  # MongoDB's
        server.configure(
            main="worker_cpu_affinity 01 10;" if workers > 1 else "",
            workers=workers,
            http=f"databridge_store main {uri.format(prefix=server.prefix)};",
            server=f"{NGINX} client_body_buffer_size 1m; location /articles "
            f"{{ databridge_crud article schema={self.schema} store=main; }}",
        )
        server.start()
        return Server(server.port, server.workers)

    def plain(self) -> Server:
        """nginx's own answer, as long as a document."""
        os.sched_setaffinity(0, {SERVER_CORE})
        text = json.dumps({"id": "0" * 24, **article(7)}, separators=(",", ":"))
        server = Nginx(plain=True)
        self.servers.append(server)
        server.configure(f"default_type application/json; return 200 '{text}';", server=NGINX)
        server.start("/")
        os.sched_setaffinity(0, {LOAD_CORE})
        return Server(server.port, server.workers, ids=["1"])

    def finish(self) -> list[str]:
        problems = [problem for server in reversed(self.servers) for problem in server.finish()]
        self.mongo.stop()
        return problems


def prepare(fleet: Fleet, cases: Sequence[Case]) -> list[Line]:
    """The lines; those of a store that need as many documents share a server."""
    lines = [Line(Case("nginx return 200", "GET", 0), "", fleet.plain())]
    servers: dict[tuple[str, int, bool], Server] = {}

    for case in cases:
        for store in fleet.stores:
            key = store, case.documents, case.once

            if key not in servers:
                servers[key] = fleet.server(store)
                servers[key].fill(case.documents)

            lines.append(Line(case, store, servers[key]))

    for server in servers.values():
        random.shuffle(server.ids)

    return lines


def beside_a_writer(line: Line, rounds: int, seconds: float) -> str:
    """p99 of gets at 80 % of their full speed, while one client creates."""
    writer = Line(Case("create", "POST", 0, "/articles", body=True), line.store, line.server)
    path = line.paths()[0]
    rates, p99s = [], []
    for _ in range(rounds):
        command = writer.command(3 * seconds + 1, connections=1)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL):
            rates.append(line.load(seconds)[1])
            p99s.append(latency(line.server.port, path, round(rates[-1] * 0.8), seconds)[1])

    return (
        f"{line.store}: p99 of get {median(p99s):,.0f} us (from {min(p99s):,.0f} to"
        f" {max(p99s):,.0f}) at 80 % of {median(rates):,.0f} a second while one client creates\n"
    )


def simple_lists(fleet: Fleet, store: str, options: argparse.Namespace) -> list[str]:
    """Requests/s of one worker and of two."""
    lines = {workers: Line(SIMPLE, store, fleet.server(store, workers)) for workers in (1, 2)}
    where = {1: "one worker, the load on the other core", 2: "two, on both cores, with the load"}

    for line in lines.values():
        line.server.fill(READ)

    for _ in range(options.rounds):
        for workers, line in lines.items():
            os.sched_setaffinity(0, {SERVER_CORE, LOAD_CORE} if workers > 1 else {LOAD_CORE})
            line.measure(options.seconds)

    os.sched_setaffinity(0, {LOAD_CORE})

    return [
        f"{store}: {line.rate:,.0f} lists of 20 a second against {LISTS:,},"
        f" {line.cpu:.1f} us of CPU each: {where[workers]}\n"
        for workers, line in lines.items()
    ]


def table(lines: Sequence[Line], first: str) -> str:
    """Of the lines with a store; the first store's are what others are compared with."""
    plain, *rest = lines
    rows = [f"nginx `return 200`: {plain.rate:,.0f} requests/s, {plain.cpu:.1f} us.\n"]
    rows += [f"| request | store | requests/s | CPU us | times less than {first} | aim |"]
    rows += ["|---|---|---|---|---|---|"]
    base = 0.0

    for line in rest:
        if line.store == first:
            base = line.cpu

        rows.append(
            f"| {line.case.name} | {line.store} | {line.rate:,.0f} | {line.cpu:,.1f}"
            f" | {base / line.cpu:.1f} | {line.case.aim(line.store)} |"
        )

    return "\n".join(rows) + "\n"


def compare(fleet: Fleet, options: argparse.Namespace) -> None:
    fleet.start()
    lines = prepare(fleet, [case for case in CASES if re.search(options.cases, case.name)])

    for _ in rounds(options.rounds):
        for line in lines:
            line.measure(options.seconds)

    text = [table(lines, fleet.stores[0])]
    text += [
        beside_a_writer(line, options.rounds, options.seconds)
        for line in lines
        if line.case.name == "get by id" and line.store.startswith("sqlite")
    ]

    if "sqlite" in fleet.stores and re.search(options.cases, SIMPLE.name):
        text += simple_lists(fleet, "sqlite", options)

    print("\n" + "\n".join(text))

    if options.write:
        RESULTS.write_text("\n".join(text))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-crud BENCH=", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--cases", default="", help="a regular expression on their names")
    parser.add_argument("--stores", default=",".join(STORES), help="a list")
    parser.add_argument("--write", action="store_true", help="to bench/results/")
    options = parser.parse_args()

    fleet = Fleet(options.stores.split(","))
    return conduct(fleet, lambda: compare(fleet, options))


if __name__ == "__main__":
    sys.exit(main())
