"""Errors: what the client reads, and what the log keeps."""

import pytest

from conftest import StartApp, StartUvicorn
from harness import Nginx, Uvicorn

APP = """
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

app = FastAPI()


class Teapot(Exception):
    pass


@app.exception_handler(Teapot)
async def short_and_stout(request: Request, error: Teapot):
    return JSONResponse({"tea": str(error)}, status_code=418, headers={"X-Tea": "green"})


@app.get("/")
async def root(number: int = 1):
    return number


@app.get("/http")
async def http():
    raise HTTPException(402, detail={"pay": [1, 2]}, headers={"X-Price": "3"})


@app.get("/teapot")
async def teapot():
    raise Teapot("sencha")


@app.get("/teapot/thread")
def teapot_in_a_thread():
    raise Teapot("oolong")


@app.get("/crash")
async def crash():
    return {}["missing"]


@app.get("/crash/thread")
def crash_in_a_thread():
    raise RuntimeError("in a thread")


@app.get("/crash/exit")
async def leave():
    raise SystemExit(3)


@app.get("/crash/response")
async def unserialisable():
    return {"a": object()}


@app.post("/body")
async def body(values: dict[str, int]):
    return values
"""

SAME = [
    "GET / HTTP/1.1",
    "GET /?number=x HTTP/1.1",
    "GET /http HTTP/1.1",
    "GET /teapot HTTP/1.1",
    "GET /teapot/thread HTTP/1.1",
    "GET /crash HTTP/1.1",
    "GET /crash/thread HTTP/1.1",
    "GET /crash/response HTTP/1.1",
    "GET /missing HTTP/1.1",
    "DELETE /body HTTP/1.1",
    "HEAD /missing HTTP/1.1",
]


@pytest.mark.parametrize("line", SAME)
def test_an_error_reads_as_under_uvicorn(
    shared_app: Nginx, shared_uvicorn: Uvicorn, line: str
) -> None:
    answers = []

    for server in (shared_app, shared_uvicorn):
        with server.raw() as client:
            client.send(f"{line}\r\nHost: test\r\n\r\n".encode())
            answer = client.response(head=line.startswith("HEAD"))
            names = ("content-type", "content-length", "allow", "x-price", "x-tea")
            headers = {name: answer.headers.get(name) for name in names}
            answers.append((answer.status, headers, answer.body))

    ours, theirs = answers
    assert ours == theirs


@pytest.mark.parametrize("body", ['{"a": 1}', '{"a": "x"}', "{broken", "", "[1]", '{"a": 1.5}'])
def test_a_body_is_refused_as_under_uvicorn(
    shared_app: Nginx, shared_uvicorn: Uvicorn, body: str
) -> None:
    headers = {"Content-Type": "application/json"}
    ours, theirs = (
        server.client.post("/body", content=body, headers=headers)
        for server in (shared_app, shared_uvicorn)
    )
    assert (ours.status_code, ours.text) == (theirs.status_code, theirs.text)


def test_a_traceback_is_in_the_error_log_and_nowhere_else(shared_app: Nginx) -> None:
    answer = shared_app.client.get("/crash")
    assert answer.status_code == 500
    assert "missing" not in answer.text
    assert all("[error]" in line for line in shared_app.logged("KeyError: 'missing'"))
    shared_app.logged(r'return \{\}\["missing"\]')


def test_a_handler_that_exits_does_not_end_the_worker(shared_app: Nginx) -> None:
    worker = shared_app.worker()
    assert shared_app.client.get("/crash/exit").status_code == 500
    assert shared_app.client.get("/").json() == 1
    assert shared_app.worker() == worker


def test_an_app_answers_json_when_a_handler_crashes(app: StartApp) -> None:
    server = app(
        """
        from databridge import App

        app = App()

        @app.get("/")
        async def root():
            return "here"

        @app.get("/crash")
        async def crash():
            raise RuntimeError("secret")
        """
    )
    answer = server.client.get("/crash")
    assert answer.status_code == 500
    assert answer.json() == {"detail": "Internal Server Error"}
    assert answer.headers["content-type"] == "application/json"
    (line,) = server.logged(answer.headers["x-request-id"])
    assert "[error]" in line
    server.logged("RuntimeError: secret")


def test_an_app_with_a_handler_of_its_own_keeps_it(app: StartApp) -> None:
    server = app(
        """
        from databridge import App, Request, JSONResponse

        app = App()

        @app.exception_handler(Exception)
        async def handle(request: Request, error: Exception):
            return JSONResponse({"mine": str(error)}, status_code=500)

        @app.get("/")
        async def root():
            return "here"

        @app.get("/crash")
        async def crash():
            raise RuntimeError("shown")
        """
    )
    assert server.client.get("/crash").json() == {"mine": "shown"}


def test_a_database_error_becomes_a_status_without_the_drivers_text(app: StartApp) -> None:
    server = app(
        """
        from databridge import App, DatabaseError

        app = App()

        @app.get("/")
        async def root():
            return "here"

        @app.get("/fail/{status}")
        async def fail(status: int):
            raise DatabaseError("UNIQUE constraint failed: secret.column", status_code=status)
        """
    )
    for status in (409, 503, 504):
        answer = server.client.get(f"/fail/{status}")
        assert answer.status_code == status
        assert "secret" not in answer.text
        assert isinstance(answer.json()["detail"], str)


ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    start = {"type": "http.response.start", "status": 200,
             "headers": [(b"content-type", b"text/plain")]}
    body = {"type": "http.response.body", "body": b"hello"}
    match scope["path"]:
        case "/":
            await send(start)
            await send(body)
        case "/raise":
            raise ValueError("before the start")
        case "/nothing":
            return
        case "/no-body":
            await send(start)
        case "/no-start":
            await send(body)
        case "/raise-late":
            await send(start)
            await send({**body, "more_body": True})
            raise ValueError("after the start")
        case "/late-no-end":
            await send(start)
            await send({**body, "more_body": True})
        case "/twice":
            await send(start)
            await send(start)
        case "/unknown":
            await send({"type": "http.response.unknown"})
        case "/after":
            await send(start)
            await send(body)
            await send(body)
"""


@pytest.mark.parametrize("path", ["/", "/raise", "/nothing", "/no-start", "/unknown"])
def test_an_asgi_app_that_fails_before_the_start_reads_as_under_uvicorn(
    app: StartApp, uvicorn: StartUvicorn, path: str
) -> None:
    ours = app(ASGI).client.get(path)
    theirs = uvicorn(ASGI).client.get(path)
    assert (ours.status_code, ours.text) == (theirs.status_code, theirs.text)


@pytest.mark.parametrize("path", ["/raise-late", "/late-no-end"])
def test_a_response_that_cannot_be_completed_is_cut_off(app: StartApp, path: str) -> None:
    server = app(ASGI)
    with server.raw() as client:
        client.get(path)
        with pytest.raises(ConnectionError):
            client.response()
    assert server.client.get("/").text == "hello"


def test_what_follows_a_complete_response_is_ignored(app: StartApp) -> None:
    server = app(ASGI)
    assert server.client.get("/after").text == "hello"
    assert server.client.get("/").text == "hello"
