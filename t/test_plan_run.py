"""Plans made by hand, run by the module: what they take, and what they leave."""

from conftest import StartApp

APP = """
from contextlib import asynccontextmanager

import _databridge
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic_core import SchemaValidator, core_schema, from_json
from starlette.applications import Starlette
from starlette.background import BackgroundTasks
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from databridge.plans.spec import NONE, RAISE, REQUIRED, Answer, Body, BodyField, Computed
from databridge.plans.spec import Fast, Field, Form, Kind, Plan, Source, Step


async def asgi(request):
    if RAISE in request.scope:
        exc = request.scope[RAISE]
        return JSONResponse({"raised": repr(exc)}, 418)
    return JSONResponse({"asgi": request.url.path})


async def finish(result, slots):
    return result if isinstance(result, Response) else JSONResponse(result)


def answer(form=Form.FINISH):
    return Answer(200, False, b"application/json", form, None, None, (), (), finish)


def plan(slots, steps, **members):
    return Plan(**{
        "slots": slots, "constants": (), "path_names": (), "path_convertors": (), "fields": (),
        "body": None, "request": NONE, "response": NONE, "background": NONE,
        "make_request": Request, "make_response": Response, "make_background": BackgroundTasks,
        "steps": steps, "answer": answer(), "script": None, "route": None, "endpoint": None,
        "required_headers": (), "absent_headers": (), "hosts": (), "https": False, **members,
    })


async def constant():
    return {"hello": "world"}


PLANS = {"/constant": plan(1, (Step(constant, Kind.ASYNC, (), (), 0),))}

@asynccontextmanager
async def lifespan(app):
    for path, spec in PLANS.items():
        _databridge.add_route(0, "GET,POST", path, None, plan=spec)
    yield

app = Starlette(routes=[Route("/{path:path}", asgi, methods=["GET", "POST"])], lifespan=lifespan)
"""


def test_a_plan_answers(app: StartApp) -> None:
    server = app(APP, location="add_header X-Kind $databridge_kind;")
    answer = server.client.get("/constant")
    assert answer.json() == {"hello": "world"}
    assert answer.headers["x-kind"] == "plan"
