"""nginx's filters over an application's answer: as over one that nginx has proxied."""

import httpx
import pytest

from conftest import StartApp
from harness import processes

APP = """
import asyncio


def headers(*pairs):
    return [(name.encode(), value.encode()) for name, value in pairs]


CACHED = headers(
    ("content-type", "text/plain; charset=utf-8"),
    ("cache-control", "no-store"),
    ("cache-control", "private"),
    ("expires", "Thu, 01 Jan 1970 00:00:01 GMT"),
    ("etag", '"1"'),
    ("accept-ranges", "bytes"),
)
LATIN = headers(("content-type", 'text/plain; charset="iso-8859-1"'))
PLAIN = headers(("content-type", "text/plain"))


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    path = scope["path"]
    if path.endswith("/echo"):
        await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
            await send({"type": "http.response.body", "body": b"", "more_body": True})
        await send({"type": "http.response.body", "body": b"%d" % size})
        return
    if path.endswith("/slow"):
        await asyncio.sleep(0.1)
    told = CACHED if path.endswith("/cached") else LATIN if path.endswith("/latin") else PLAIN
    body = b"caf\\xe9 " * 200 if path.endswith("/latin") else b"hello " * 200
    await send({"type": "http.response.start", "status": 200, "headers": told})
    await send({"type": "http.response.body", "body": body})
"""

FILTERS = [
    "expires 1h;",
    "expires -1;",
    "add_header Cache-Control no-transform;",
    "gzip on; gzip_types text/plain;",
    "charset utf-8;",
    "charset koi8-r; source_charset utf-8;",
    "charset utf-8; override_charset on;",
    "sub_filter hello bye; sub_filter_types text/plain;",
]

CHARSETS = "charset_types text/plain; charset_map koi8-r utf-8 { C1 D0B0; }"


def _told(answer: httpx.Response) -> tuple[list[tuple[str, str]], bytes]:
    framing = ("date", "connection", "content-length", "transfer-encoding")
    return sorted(h for h in answer.headers.multi_items() if h[0] not in framing), answer.content


@pytest.mark.parametrize("filters", FILTERS)
def test_a_filter_does_what_it_does_to_a_proxied_answer(app: StartApp, filters: str) -> None:
    port = processes.free_port()
    server = app(
        APP,
        http=f"""
        {CHARSETS}
        server {{ listen 127.0.0.1:{port}; location / {{ databridge_app app:app; }} }}
        """,
        server=f"""
        location /direct/ {{ databridge_app app:app; {filters} }}
        location /proxied/ {{ proxy_pass http://127.0.0.1:{port}; {filters} }}
        """,
    )
    for path in ("cached", "latin", "plain"):
        direct, proxied = (
            _told(server.client.get(f"/{place}/{path}", headers={"Accept-Encoding": "gzip"}))
            for place in ("direct", "proxied")
        )
        assert direct == proxied, path


def test_what_stands_before_an_answer_holds_up_no_body(app: StartApp) -> None:
    """While it is sent, it has the events of the connection."""
    server = app(
        APP,
        server="""
        location /after/ {
            databridge_app app:app; client_body_buffer_size 1k;
            addition_types *; add_before_body /before/slow;
        }
        location /before/ { databridge_app app:app; }
        """,
    )
    size = 1_000_000
    for path, end in (("/after/plain", "hello "), ("/after/echo", str(size))):
        assert server.client.post(path, content=b"x" * size).text.endswith(end)
