"""
Native resources on an SQLite file, declared by nginx.conf alone: no worker
starts Python, and each can be killed and asked in a moment.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from harness.nginx import Nginx
from harness.processes import free_port
from harness.raw import Raw, RawResponse

NOTE: dict[str, Any] = {
    "collection": "note",
    "id": "int",
    "fields": [
        {"name": "id", "type": "int"},
        {"name": "text", "type": "str"},
        {"name": "number", "type": "int", "default": 0},
    ],
}


def declare(server: Nginx, resource: Mapping[str, Any], **location: Any) -> str:
    """The location of a resource, at its collection's name."""
    name = resource["collection"]
    schema = {"databridge": 1, "model": name.title(), "prefix": f"/{name}", "store": "main"}
    path = server.prefix / f"{name}.schema.json"
    path.write_text(json.dumps({**schema, **resource}))
    extra = "".join(f"{key} {value};" for key, value in location.items())
    return f"location /{name} {{ databridge_crud {name} schema={path} store=main; {extra} }}"


def configure(
    server: Nginx,
    database: Path,
    *resources: Mapping[str, Any],
    workers: int = 1,
    http: str = "",
    main: str = "",
) -> int:
    """
    nginx.conf with these resources, a note when there is none.  Returns a
    port whose connections the kernel deals out to all workers alike.
    """
    port = free_port()
    server.configure(
        http=f"databridge_store main sqlite:{database}; keepalive_requests 1000000; {http}",
        server=f"listen 127.0.0.1:{port} reuseport; add_header X-Worker $pid always;\n"
        + "\n".join(declare(server, resource) for resource in resources or [NOTE]),
        workers=workers,
        main=main,
    )
    return port


def request(method: str, path: str, document: object = None) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: t\r\n"
    if document is None:
        return f"{head}\r\n".encode()
    body = json.dumps(document)
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n{body}".encode()


def fresh(port: int, method: str, path: str, document: object = None) -> RawResponse:
    """One request on a connection of its own."""
    with Raw(port, timeout=30) as client:
        client.send(request(method, path, document))
        return client.response()


def fill(port: int, path: str, documents: Sequence[object], connections: int = 64) -> int:
    """Creates them all, over connections whose writes share a commit."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Raw(port, timeout=30)) for _ in range(connections)]
        for number, client in enumerate(clients):
            mine = documents[number::connections]
            client.send(b"".join(request("POST", path, document) for document in mine))
        statuses = [
            client.response().status
            for number, client in enumerate(clients)
            for _ in documents[number::connections]
        ]
    return statuses.count(201)


def everything(port: int, path: str, query: str = "") -> list[dict[str, Any]]:
    """All documents of a list, page by page."""
    items: list[dict[str, Any]] = []
    after = ""
    while True:
        answer = fresh(port, "GET", f"{path}?limit=1000{query}{after}")
        assert answer.status == 200, answer.body
        page = json.loads(answer.body)
        items += page["items"]
        if "next" not in page:
            return items
        after = f"&after={page['next']}"


def integrity(database: Path) -> str:
    """What SQLite itself thinks of the file."""
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
