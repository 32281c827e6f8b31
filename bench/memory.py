"""
make memory: what an idle connection costs, side by side: one kept alive, and
a WebSocket.

Each server gets CONNECTIONS connections; each of them asks once, so that it
is one that was used, and then again in turn while all are open.  The figure
is the growth of the resident memory of the processes that serve, nginx's
master excepted, divided by the number of connections.
"""

import argparse
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from harness import ROOT, Nginx, Uvicorn, processes
from harness.websocket import TEXT, frame, handshake

NGINX = "access_log off; keepalive_timeout 600s; keepalive_requests 1000000;"
BODY = b"hello"
WARM = 200


@dataclass
class Kind:
    """What a client sends first and reads no body of, and what it asks."""

    opening: bytes
    question: bytes


HTTP = Kind(b"", b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
WEBSOCKET = Kind(handshake("/"), frame(TEXT, BODY))


@dataclass
class Server:
    port: int
    pids: list[int]

    def resident(self) -> int:
        return sum(processes.resident(pid) for pid in self.pids)


@contextmanager
def nginx(location: str, connections: int, *, plain: bool) -> Iterator[Server]:
    server = Nginx(plain)
    server.configure(
        location,
        server=NGINX,
        http="" if plain else f"databridge_python_path {ROOT / 'bench'};",
        main=f"worker_rlimit_nofile {connections * 3 // 2};",
        connections=connections * 5 // 4,  # nginx closes idle ones when 1/16 is free
    )
    server.start("/")
    yield Server(server.port, server.workers())
    finish(server)


@contextmanager
def uvicorn(target: str) -> Iterator[Server]:
    server = Uvicorn()
    server.run(
        target,
        *("--app-dir", str(ROOT / "bench")),
        *("--loop", "uvloop", "--http", "httptools", "--no-access-log"),
        *("--timeout-keep-alive", "600", "--ws-ping-interval", "600"),
    )
    assert server.process
    yield Server(server.port, [server.process.pid])
    finish(server)


def finish(server: Nginx | Uvicorn) -> None:
    for problem in server.finish():
        print(problem)


def exchange(client: socket.socket, data: bytes, end: bytes) -> None:
    client.sendall(data)
    answer = b""
    while end not in answer:
        data = client.recv(65536)
        assert data, answer
        answer += data


def connect(kind: Kind, port: int, count: int) -> list[socket.socket]:
    clients = []
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", port), 10)
        if kind.opening:
            exchange(client, kind.opening, b"\r\n\r\n")
        exchange(client, kind.question, BODY)
        clients.append(client)
    return clients


def measure(kind: Kind, server: Server, count: int) -> float:
    """Bytes of an idle connection, when all of them have asked twice."""
    warm = connect(kind, server.port, WARM)
    before = server.resident()
    clients = connect(kind, server.port, count - WARM)
    for client in clients:
        exchange(client, kind.question, BODY)
    cost = (server.resident() - before) / len(clients)
    for client in warm + clients:
        client.close()
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(prog="make memory", description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    count = parser.parse_args().connections

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    app = "databridge_app app:{}; databridge_websocket_ping 600s;"
    cases: dict[str, tuple[Kind, Callable[[], AbstractContextManager[Server]]]] = {
        "nginx return 200": (HTTP, lambda: nginx("return 200 hello;", count, plain=True)),
        "databridge asgi": (HTTP, lambda: nginx(app.format("asgi"), count, plain=False)),
        "uvicorn asgi": (HTTP, lambda: uvicorn("app:asgi")),
        "databridge websocket": (WEBSOCKET, lambda: nginx(app.format("echo"), count, plain=False)),
        "uvicorn websocket": (WEBSOCKET, lambda: uvicorn("app:echo")),
    }
    print(f"{'idle connections':<28} {'KiB each':>9}   of {count}")
    for name, (kind, start) in cases.items():
        with start() as server:
            print(f"{name:<28} {measure(kind, server, count) / 1024:>9.2f}", flush=True)


if __name__ == "__main__":
    main()
