"""Plans made by hand: the beginning of an application of a test."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pydantic_core import SchemaValidator, from_json
from starlette.applications import Starlette
from starlette.background import BackgroundTasks
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import _databridge
from databridge.plans.spec import (
    NONE,
    RAISE,
    REQUIRED,
    Answer,
    Body,
    BodyField,
    Computed,
    Fast,
    Field,
    Form,
    Kind,
    Plan,
    Source,
    Step,
)

__all__ = [
    "NONE", "RAISE", "REQUIRED", "Answer", "Body", "BodyField", "Computed", "Fast", "Field",
    "Form", "Kind", "Plan", "Source", "Step", "application", "from_json", "plan", "step",
    "validator", "ANSWER",
]  # fmt: skip


async def finish(result: Any, slots: Sequence[Any]) -> Response:
    return result if isinstance(result, Response) else JSONResponse(result)


ANSWER = Answer(
    200, False, b"application/json", (), Form.FINISH, None, None, (), (), finish, lambda exc: None
)


def plan(*steps: Step, slots: int, **members: Any) -> Plan:
    plain: dict[str, Any] = {
        "slots": slots,
        "path_names": (),
        "path_convertors": (),
        "fields": (),
        "body": None,
        "request": NONE,
        "response": NONE,
        "background": NONE,
        "make_request": Request,
        "make_response": Response,
        "make_background": BackgroundTasks,
        "steps": steps,
        "answer": ANSWER,
        "script": None,
        "route": "the route",
        "endpoint": "the endpoint",
        "required_headers": (),
        "absent_headers": (),
        "hosts": (),
        "https": False,
    }
    return Plan(**plain | members)


def step(call: Callable[..., Any], result: int, **arguments: int) -> Step:
    return Step(call, Kind.ASYNC, tuple(arguments), tuple(arguments.values()), result)


def validator(schema: Any) -> Callable[..., Any]:
    return SchemaValidator(schema).validate_python


def application(
    plans: dict[str, Plan], asgi: Callable[[Request], Awaitable[Response]], gate: Any = None
) -> Starlette:
    """Requests go to their plans, all others, and what plans leave, to `asgi`."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if gate is not None:
            _databridge.set_gate(0, gate)
        for pattern, spec in plans.items():
            _databridge.add_route(0, "GET,POST,HEAD", pattern, None, plan=spec)
        yield

    methods = ["GET", "POST"]
    return Starlette(routes=[Route("/{path:path}", asgi, methods=methods)], lifespan=lifespan)
