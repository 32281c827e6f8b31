"""databridge run --gzip, beside Starlette's GZipMiddleware under uvicorn."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from harness import Server, Uvicorn

APP = """
import gzip

from databridge import App
from fastapi import Response
from fastapi.responses import StreamingResponse

app = App()
app.native("/native", json=["constant"] * 100)


@app.get("/json/{size}")
async def json(size: int):
    return "x" * (size - 2)


@app.get("/typed")
async def typed(media_type: str, status: int = 200):
    return Response("some text " * 100, status, media_type=media_type)


@app.get("/stream")
async def stream():
    async def pieces():
        for number in range(10):
            yield f"piece {number}\\n"

    return StreamingResponse(pieces(), media_type="text/plain")


@app.get("/encoded")
async def encoded():
    return Response(
        gzip.compress(b"x" * 1000), media_type="text/plain", headers={"Content-Encoding": "gzip"}
    )


@app.get("/varying")
async def varying():
    return Response("x" * 1000, media_type="text/plain", headers={"Vary": "Cookie"})


@app.get("/")
async def root():
    return "here"
"""

MIDDLEWARE = """
from starlette.middleware.gzip import GZipMiddleware

app.add_middleware(GZipMiddleware)
"""

PATHS = [
    "/native",
    "/json/10",
    "/json/499",
    "/json/500",
    "/json/5000",
    "/stream",
    "/encoded",
    "/varying",
    "/typed?media_type=text/html",
    "/typed?media_type=text/html&status=404",
    "/typed?media_type=text/plain&status=206",
    "/typed?media_type=text/event-stream",
    "/typed?media_type=image/png",
    "/typed?media_type=image/svg%2Bxml",
    "/typed?media_type=application/zip",
    "/typed?media_type=application/problem%2Bjson",
    "/nothing/here",
]

ACCEPTED = ["gzip", "gzip, deflate, br", "deflate", ""]

FRAMING = ("content-length", "transfer-encoding", "connection", "date", "server")


@pytest.fixture(scope="module")
def theirs() -> Iterator[Uvicorn]:
    server = Uvicorn()
    server.write({"app.py": APP + MIDDLEWARE})
    try:
        server.run("app:app")
        yield server
    finally:
        problems = server.finish()
    assert not problems, "\n".join(problems)


def started(code: str) -> Iterator[Server]:
    server = Server()
    server.write({"app.py": code})
    try:
        server.run("app:app", "--gzip")
        yield server
    finally:
        problems = server.finish()
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="module")
def ours() -> Iterator[Server]:
    yield from started(APP)


@pytest.fixture(scope="module")
def both() -> Iterator[Server]:
    yield from started(APP + MIDDLEWARE)


def seen(answer: httpx.Response) -> tuple[int, dict[str, set[str]], bytes]:
    """Lines of one name are one list, as HTTP has it."""
    headers = {
        name: set(", ".join(answer.headers.get_list(name)).split(", "))
        for name in answer.headers
        if name not in FRAMING
    }
    return answer.status_code, headers, answer.content


@pytest.mark.parametrize("accepted", ACCEPTED)
@pytest.mark.parametrize("path", PATHS)
def test_answers_are_compressed_as_starlette_does(
    ours: Server, theirs: Uvicorn, path: str, accepted: str
) -> None:
    headers = {"Accept-Encoding": accepted}
    one, two = (seen(server.client.get(path, headers=headers)) for server in (ours, theirs))
    assert one == two


@pytest.mark.parametrize("accepted", ACCEPTED)
@pytest.mark.parametrize("path", PATHS)
def test_what_the_application_compresses_is_not_compressed_again(
    both: Server, theirs: Uvicorn, path: str, accepted: str
) -> None:
    headers = {"Accept-Encoding": accepted}
    one, two = (seen(server.client.get(path, headers=headers)) for server in (both, theirs))
    assert one == two


def test_without_the_option_nothing_is_compressed(run: Callable[..., Server]) -> None:
    server = run({"app.py": APP})
    answer = server.client.get("/json/5000", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers
