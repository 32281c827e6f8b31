"""The responses of plans: uvicorn's status, headers and body, and who has made them.

The application counts how often `finish`, which is FastAPI's way, makes a response: the
module is to make those of WRITTEN, and to leave those of FINISHED.
"""

import httpx
import pytest

from conftest import StartApp
from harness import Nginx, Uvicorn, until

CONFIGURATION = {
    "server": "add_header X-Kind $databridge_kind always;"
    "location = /brief { databridge_app app:app; databridge_timeout 300ms; }"
}

APP = r"""
import asyncio
import functools
from datetime import datetime
from http import HTTPStatus
from typing import Any

from fastapi import BackgroundTasks, FastAPI, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, field_serializer
from starlette.background import BackgroundTask

from databridge.plans import answers

finished = []
tasks = []
make = answers.Ending.finish


@functools.wraps(make)
async def finish(self, result, slots):
    finished.append(self.route.path)
    return await make(self, result, slots)


answers.Ending.finish = finish

app = FastAPI()


class Item(BaseModel):
    name: str
    price: float | None = None
    when: datetime | None = Field(None, alias="time")


class Fails(BaseModel):
    value: int

    @field_serializer("value")
    def encode(self, value):
        raise KeyError(value)


class Own(Response):
    media_type = "text/own"


class Meter(float):
    pass


@app.get("/")
async def root():
    return "here"


@app.get("/finished")
async def read_finished():
    return finished


@app.get("/tasks")
async def read_tasks():
    return tasks


@app.get("/none")
async def none():
    return None


@app.get("/text")
async def text():
    return "t\u00e9xt"


@app.get("/values")
async def values():
    return {"a": [1, 2.5, None, True, "\"\n"], "b": (Item(name="n"), {1}), "time": datetime.max}


@app.get("/size")
async def size(n: int):
    return "x" * (n - 2)


@app.get("/nan")
async def nan():
    return float("nan")


@app.get("/subclass")
async def subclass():
    return {"a": Meter(1.5)}


@app.get("/object")
async def plain_object():
    return Own


@app.get("/created", status_code=201)
async def created():
    return {"id": 1}


@app.get("/nothing", status_code=204)
async def nothing():
    return None


@app.get("/not-modified", status_code=304)
async def not_modified():
    return {"never": "sent"}


@app.get("/model", response_model=Item)
async def model():
    return {"name": "n", "price": "1.5", "time": "2020-01-01T00:00:00Z"}


@app.get("/model-options", response_model=Item, response_model_exclude_none=True)
async def model_options():
    return Item(name="n")


@app.get("/model-by-name", response_model=Item, response_model_by_alias=False)
async def model_by_name():
    return Item(name="n")


@app.get("/models")
async def models() -> list[Item]:
    return [Item(name=f"n{n}", price=n / 3) for n in range(1000)]


@app.get("/model-invalid", response_model=Item)
async def model_invalid():
    return {"name": []}


@app.get("/model-fails", response_model=Fails)
async def model_fails():
    return {"value": 1}


@app.get("/model-of-response", response_model=Item)
async def model_of_response():
    return JSONResponse({"any": "thing"})


@app.get("/injected")
async def injected(response: Response):
    response.status_code = 202
    response.headers["X-One"] = "1"
    response.set_cookie("a", "b")
    response.set_cookie("c", "d")
    return {"a": 1}


@app.get("/injected-model", response_model=Item)
async def injected_model(response: Response):
    response.headers["x-one"] = "1"
    return {"name": "n"}


@app.get("/injected-nothing")
async def injected_nothing(response: Response):
    return [1]


@app.get("/injected-large")
async def injected_large(response: Response):
    response.headers["x-one"] = "1"
    return "x" * 100_000


@app.get("/injected-204")
async def injected_204(response: Response):
    response.status_code = 204


@app.get("/injected-200", status_code=204)
async def injected_200(response: Response):
    response.status_code = 200
    return 1


@app.get("/injected-enum")
async def injected_enum(response: Response):
    response.status_code = HTTPStatus.ACCEPTED
    return 1


@app.get("/injected-length")
async def injected_length(response: Response):
    response.headers["content-length"] = "4"
    response.headers["content-type"] = "text/more"
    return "ab"


@app.get("/plain")
async def plain():
    return PlainTextResponse("pl\u00e4in", 201, {"x-one": "1"})


@app.get("/html")
async def html():
    return HTMLResponse("<p>")


@app.get("/json")
async def json():
    response = JSONResponse([1.5, None])
    response.set_cookie("a", "b")
    return response


@app.get("/bytes")
async def some_bytes():
    return Response(bytes(range(256)) * 400, media_type="image/png")


@app.get("/without-body")
async def without_body():
    return Response(status_code=304, headers={"etag": '"a"'})


@app.get("/own-length")
async def own_length():
    return Response(b"abc", headers={"Content-Length": "3"})


@app.get("/response-class", response_class=PlainTextResponse)
async def response_class():
    return "text"


@app.get("/response-class-html", response_class=HTMLResponse)
async def response_class_html():
    return "<p>"


@app.get("/response-class-of-number", response_class=PlainTextResponse)
async def response_class_of_number():
    return 1


@app.get("/own")
async def own():
    return Own("own")


@app.get("/own-class", response_class=Own)
async def own_class():
    return "own"


@app.get("/redirect")
async def redirect():
    return RedirectResponse("/")


@app.get("/stream")
async def stream():
    return StreamingResponse(iter([b"a", b"b"]))


@app.get("/view")
async def view():
    return Response(memoryview(b"view"))


@app.get("/enum")
async def enum():
    return PlainTextResponse("enum", HTTPStatus.CREATED)


@app.get("/wrong-length")
async def wrong_length():
    return Response(b"abc", headers={"content-length": "7"})


@app.get("/bad-header")
async def bad_header():
    return Response(b"abc", headers={"x-bad": "a\nb"})


@app.get("/own-background")
async def own_background():
    return JSONResponse("own", background=BackgroundTask(tasks.append, "own"))


@app.get("/background")
async def background(background: BackgroundTasks):
    background.add_task(tasks.append, "value")
    return "value"


@app.get("/background-response")
async def background_response(background: BackgroundTasks):
    background.add_task(tasks.append, "response")
    return PlainTextResponse("response")


@app.get("/background-none")
async def background_none(background: BackgroundTasks):
    return "none"


@app.get("/brief")
async def brief():
    try:
        await asyncio.sleep(60)
    finally:
        tasks.append("cancelled")
"""

WRITTEN = [
    *("/none", "/text", "/values", "/created", "/nothing", "/not-modified"),
    *("/size?n=2", "/size?n=16384", "/size?n=16385", "/size?n=3000000"),
    *("/model", "/model-options", "/model-by-name", "/models", "/model-of-response"),
    *("/injected", "/injected-model", "/injected-nothing", "/injected-large"),
    *("/plain", "/html", "/json", "/bytes", "/without-body", "/own-length"),
    *("/response-class", "/response-class-html", "/background-none"),
]

FINISHED = [
    *("/nan", "/subclass", "/object"),
    *("/injected-204", "/injected-200", "/injected-enum"),
    *("/response-class-of-number", "/own", "/own-class", "/redirect", "/stream", "/view"),
    *("/enum", "/own-background", "/background", "/background-response"),
]


def seen(response: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """What has to be the same, but for framing and what servers say of themselves."""
    ours = {"server", "date", "connection", "x-kind", "transfer-encoding"}
    headers = [(name, value) for name, value in response.headers.multi_items() if name not in ours]
    return response.status_code, sorted(headers), response.content


def finished(server: Nginx) -> list[str]:
    paths: list[str] = server.client.get("/finished").json()
    return paths


def same(server: Nginx, uvicorn: Uvicorn, path: str) -> bool:
    """Whether `finish` has made the response, which is uvicorn's."""
    before = len(finished(server))
    answer = server.client.get(path, follow_redirects=False)
    assert answer.headers["x-kind"] == "plan"
    # uvicorn closes a connection when an exception has passed it
    expected = uvicorn.client.get(path, headers={"connection": "close"}, follow_redirects=False)
    assert seen(answer) == seen(expected)
    return finished(server)[before:] == [path.partition("?")[0]]


@pytest.mark.parametrize("path", ["/model-invalid", "/model-fails"])
def test_what_a_model_refuses_is_not_looked_at_again(
    shared_app: Nginx, shared_uvicorn: Uvicorn, path: str
) -> None:
    assert not same(shared_app, shared_uvicorn, path)


@pytest.mark.parametrize("path", WRITTEN)
def test_the_module_writes_what_uvicorn_answers(
    shared_app: Nginx, shared_uvicorn: Uvicorn, path: str
) -> None:
    assert not same(shared_app, shared_uvicorn, path)


@pytest.mark.parametrize("path", FINISHED)
def test_fastapi_makes_what_the_module_does_not(
    shared_app: Nginx, shared_uvicorn: Uvicorn, path: str
) -> None:
    assert same(shared_app, shared_uvicorn, path)


def test_a_content_length_that_the_application_adds_is_not_sent_twice(shared_app: Nginx) -> None:
    answer = shared_app.client.get("/injected-length")
    assert (answer.content, answer.headers["content-length"]) == (b'"ab"', "4")


@pytest.mark.parametrize("path", ["/wrong-length", "/bad-header"])
def test_a_response_that_cannot_be_sent_is_an_error(shared_app: Nginx, path: str) -> None:
    assert shared_app.client.get(path).status_code == 500
    assert "RuntimeError" in shared_app.output()


def test_background_tasks_run_once_after_the_response(app: StartApp) -> None:
    server = app(APP, **CONFIGURATION)
    for path in ("/own-background", "/background", "/background-response"):
        assert server.client.get(path).status_code == 200
    done = ["own", "response", "value"]
    until("the tasks", lambda: sorted(server.client.get("/tasks").json()) == done)


def test_a_plan_is_cancelled_by_its_timeout(app: StartApp) -> None:
    server = app(APP, **CONFIGURATION)
    assert server.client.get("/brief").status_code == 504
    until("the tasks", lambda: server.client.get("/tasks").json() == ["cancelled"])


def test_pipelined_responses_keep_their_order(shared_app: Nginx) -> None:
    with shared_app.raw() as raw:
        raw.send(
            b"".join(b"GET /size?n=%d HTTP/1.1\r\nHost: t\r\n\r\n" % n for n in range(9, 2, -1))
        )
        assert [len(raw.response().body) for _ in range(7)] == list(range(9, 2, -1))
