"""Requests of which each is sent once, by so many connections at a time."""

import select
import socket
import time
from collections.abc import Iterator, Sequence


def each_once(port: int, method: str, paths: Sequence[str], connections: int) -> float:
    """In seconds, until the last one is answered; all have to be answered 204."""
    rest = iter([f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in paths])
    epoll = select.epoll()
    sockets: dict[int, socket.socket] = {}

    for _ in range(min(connections, len(paths))):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        epoll.register(connection.fileno(), select.EPOLLIN)
        sockets[connection.fileno()] = connection

    start = time.perf_counter()

    for connection in sockets.values():
        connection.sendall(next(rest))

    answered = 0

    while answered < len(paths):
        for number, _ in epoll.poll():
            answered += take(sockets[number], rest)

    took = time.perf_counter() - start

    for connection in sockets.values():
        connection.close()

    epoll.close()
    return took


def take(connection: socket.socket, rest: Iterator[bytes]) -> int:
    """An answer, without a body, comes in one piece; the next request follows it."""
    answer = connection.recv(4096)

    if not answer.startswith(b"HTTP/1.1 204 ") or not answer.endswith(b"\r\n\r\n"):
        raise RuntimeError(f"answered {answer!r}")

    following = next(rest, None)

    if following is not None:
        connection.sendall(following)

    return 1
