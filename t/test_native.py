"""Constant answers from the nginx thread: app.native() and databridge_health."""

from collections.abc import Callable

import httpx
import pytest

from conftest import StartNginx
from harness import Nginx, Uvicorn, until

APP = """
import pathlib

from databridge import App

app = App()
app.native("/health", json={"status": "ok", "caf\\u00e9": [1, None]}, headers={"X-Kind": "native"})
app.native("/teapot", json="short and stout", status=418)
app.native("/items/{item}", json={"which": "any"})


@app.get("/items/first")
async def hidden():
    return "never reached"


@app.get("/shadowed")
async def shadowing():
    return "declared first"


app.native("/shadowed", json="declared second")
app.native("/both", json="native")


@app.post("/both")
async def both():
    return "posted"


@app.get("/")
async def root():
    return "here"


@app.get("/hold")
async def hold():
    folder = pathlib.Path(__file__).parent
    (folder / "held").touch()
    while not (folder / "release").exists():
        pass
"""

SLOW = """
import asyncio
import pathlib


async def started():
    while not (pathlib.Path(__file__).parent / "go").exists():
        await asyncio.sleep(0.01)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await started()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
"""

IGNORED = ("date", "server", "connection")


def seen(answer: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """Allow lists a set of Python's, in no order."""
    headers = [
        (name, ", ".join(sorted(value.split(", "))) if name == "allow" else value)
        for name, value in answer.headers.multi_items()
        if name not in IGNORED
    ]
    return answer.status_code, sorted(headers), answer.content


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    ["/health", "/health?a=b", "/teapot", "/items/first", "/shadowed", "/both", "/health/"],
)
def test_a_native_route_answers_as_it_does_under_uvicorn(
    shared_app: Nginx, shared_uvicorn: Uvicorn, method: str, path: str
) -> None:
    ours, theirs = (
        seen(server.client.request(method, path)) for server in (shared_app, shared_uvicorn)
    )
    assert ours[0] == theirs[0]
    assert ours[2] == theirs[2]
    if ours[0] != 307:  # an absolute URL, with the port
        assert ours[1] == theirs[1]


def test_a_native_route_answers_while_python_is_busy(shared_app: Nginx) -> None:
    with shared_app.raw() as busy:
        busy.get("/hold")
        until("Python is held", (shared_app.app / "held").exists)
        try:
            assert shared_app.client.get("/health").status_code == 200
            assert shared_app.client.head("/health").headers["x-kind"] == "native"
        finally:
            (shared_app.app / "release").touch()
        assert busy.response().status == 200


def test_a_constant_answer_without_a_body_is_refused() -> None:
    from databridge import App

    with pytest.raises(ValueError, match="/gone: a response with status 204 has no body"):
        App().native("/gone", json=None, status=204)


def test_health_is_503_until_python_is_ready_and_ok_from_then_on(
    make_nginx: Callable[..., Nginx],
) -> None:
    server = make_nginx()
    server.write({"app.py": SLOW})
    server.configure(
        "databridge_app app:app;",
        server="""
            location = /health { databridge_health; }
            location = /alive { databridge_health '{"alive": true}'; }
        """,
    )
    server.start()
    answer = server.client.get("/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})
    assert answer.headers["retry-after"] == "1"
    (server.app / "go").touch()
    until("ready", lambda: server.client.get("/health").status_code == 200)
    answer = server.client.get("/health")
    assert (answer.json(), answer.headers["content-type"]) == ({"status": "ok"}, "application/json")
    assert server.client.get("/alive").json() == {"alive": True}
    with server.raw() as client:
        client.send(b"HEAD /health HTTP/1.1\r\nHost: test\r\n\r\n")
        head = client.response(head=True)
        assert (head.status, head.headers["content-length"]) == (200, "15")
    refused = server.client.post("/health", content=b"x" * 100_000)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_health_is_503_for_ever_when_the_application_does_not_start(nginx: StartNginx) -> None:
    server = nginx(
        "databridge_app app:app;",
        files={"app.py": "raise RuntimeError('broken')"},
        server="location = /health { databridge_health; }",
    )
    server.expect_alert(r"\[emerg\].*failed to start")
    server.logged("failed to start")
    assert server.client.get("/health").status_code == 503


def test_health_needs_no_python(make_nginx: Callable[..., Nginx]) -> None:
    server = make_nginx()
    server.configure("databridge_health;", databridge="")
    server.start()
    assert server.client.get("/").json() == {"status": "ok"}
