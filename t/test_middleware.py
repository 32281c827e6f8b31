"""Middleware: FastAPI's own, and BaseMiddleware in the handler's task."""

from conftest import StartApp
from harness import Nginx

APP = """
import asyncio
import contextvars

from databridge import App, BaseMiddleware, JSONResponse, Request, StreamingResponse

app = App()
gate = asyncio.Event()
user = contextvars.ContextVar("user", default="nobody")
seen = contextvars.ContextVar("seen", default="nothing")


class Outer(BaseMiddleware):
    async def dispatch(self, request, call_next):
        user.set(request.headers.get("x-user", "guest"))
        response = await call_next(request)
        response.headers["X-Outer"] = "1"
        response.headers["X-Seen"] = seen.get()
        response.headers["X-Task"] = str(request.state.task is asyncio.current_task())
        return response


class Inner(BaseMiddleware):
    def __init__(self, app, word):
        super().__init__(app)
        self.word = word

    async def dispatch(self, request, call_next):
        request.state.task = asyncio.current_task()
        if request.url.path == "/stopped":
            return JSONResponse({"stopped": self.word}, status_code=403)
        if request.url.path == "/caught":
            try:
                return await call_next(request)
            except ValueError as error:
                return JSONResponse({"caught": str(error)}, status_code=409)
        return await call_next(request)


app.add_middleware(Inner, word="here")
app.add_middleware(Outer)


@app.middleware("http")
async def timing(request: Request, call_next):
    response = await call_next(request)
    response.headers["X-Function"] = "yes"
    return response


@app.get("/")
async def root():
    seen.set("handler")
    return {"user": user.get()}


@app.get("/stopped")
async def stopped():
    raise AssertionError("not to be reached")


@app.get("/caught")
async def caught():
    raise ValueError("thrown")


@app.get("/stream")
async def stream():
    async def chunks():
        yield b"first"
        await gate.wait()
        yield b"last"

    return StreamingResponse(chunks(), media_type="text/plain")


@app.get("/go")
async def go():
    gate.set()


@app.post("/body")
async def body(request: Request):
    return {"size": len(await request.body())}
"""


def test_middleware_wraps_the_handler(shared_app: Nginx) -> None:
    answer = shared_app.client.get("/")
    assert answer.json() == {"user": "guest"}
    assert (answer.headers["x-outer"], answer.headers["x-function"]) == ("1", "yes")


def test_a_context_variable_reaches_the_handler_and_returns(shared_app: Nginx) -> None:
    answer = shared_app.client.get("/", headers={"X-User": "ada"})
    assert answer.json() == {"user": "ada"}
    assert answer.headers["x-seen"] == "handler"


def test_the_handler_runs_in_the_middlewares_task(shared_app: Nginx) -> None:
    assert shared_app.client.get("/").headers["x-task"] == "True"


def test_middleware_may_answer_itself(shared_app: Nginx) -> None:
    answer = shared_app.client.get("/stopped")
    assert (answer.status_code, answer.json()) == (403, {"stopped": "here"})
    assert answer.headers["x-outer"] == "1"


def test_middleware_may_catch_what_the_handler_raises(shared_app: Nginx) -> None:
    answer = shared_app.client.get("/caught")
    assert (answer.status_code, answer.json()) == (409, {"caught": "thrown"})


def test_middleware_does_not_buffer_a_stream(shared_app: Nginx) -> None:
    with shared_app.client.stream("GET", "/stream") as answer:
        chunks = answer.iter_raw()
        assert next(chunks) == b"first"
        shared_app.client.get("/go")
        assert b"".join(chunks) == b"last"


def test_middleware_passes_the_body_on(shared_app: Nginx) -> None:
    assert shared_app.client.post("/body", content=b"x" * 300_000).json() == {"size": 300_000}


def test_starlettes_middleware_works(app: StartApp) -> None:
    server = app(
        """
        from fastapi import FastAPI
        from fastapi.middleware.cors import CORSMiddleware
        from fastapi.middleware.gzip import GZipMiddleware

        app = FastAPI()
        app.add_middleware(GZipMiddleware, minimum_size=100)
        app.add_middleware(CORSMiddleware, allow_origins=["http://a.test"], allow_methods=["PUT"])

        @app.get("/")
        async def root():
            return "x" * 1000
        """
    )
    answer = server.client.get("/", headers={"Origin": "http://a.test"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["access-control-allow-origin"] == "http://a.test"
    assert answer.json() == "x" * 1000
    preflight = server.client.options(
        "/", headers={"Origin": "http://a.test", "Access-Control-Request-Method": "PUT"}
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-methods"] == "PUT"


def test_an_error_below_starlettes_own_middleware_is_logged_with_its_traceback(
    app: StartApp,
) -> None:
    """BaseHTTPMiddleware raises it out of a group, which becomes its context: a cycle."""
    server = app(
        """
        from starlette.middleware.base import BaseHTTPMiddleware
        from fastapi import FastAPI as App

        class Plain(BaseHTTPMiddleware):
            async def dispatch(self, request, call_next):
                return await call_next(request)

        app = App()
        app.add_middleware(Plain)
        app.add_middleware(Plain)

        @app.get("/broken")
        async def broken():
            raise LookupError("no such shelf")
        """
    )
    assert server.client.get("/broken").status_code == 500
    assert server.logged("in broken$")
    assert server.logged("LookupError: no such shelf")


def test_files_are_compressed_by_starlettes_middleware_as_elsewhere(app: StartApp) -> None:
    """With pathsend it would let them pass: it is not offered to such an application."""
    server = app(
        """
        from pathlib import Path

        from fastapi import FastAPI
        from fastapi.responses import FileResponse
        from starlette.middleware.gzip import GZipMiddleware

        file = Path(__file__).with_name("file.txt")
        file.write_text("x" * 5000)

        inner = FastAPI()
        inner.add_middleware(GZipMiddleware)

        @inner.get("/file")
        async def read():
            return FileResponse(file)

        app = FastAPI()
        app.mount("/inner", inner)
        """,
        ready=None,
    )
    answer = server.client.get("/inner/file")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.text == "x" * 5000
