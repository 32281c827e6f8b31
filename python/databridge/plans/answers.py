"""What a route makes of a result: the form that the module writes, and FastAPI's own.

`finish` is the end of FastAPI's request handler, for the results that the module does
not write: other types, other response classes, background tasks, and all errors.
"""

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import fastapi
from fastapi import routing
from fastapi._compat.v2 import _regenerate_error_with_loc
from fastapi.datastructures import DefaultPlaceholder
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import ResponseValidationError
from fastapi.utils import is_body_allowed_for_status_code
from pydantic_core import SchemaSerializer, ValidationError
from starlette._exception_handler import (
    ExceptionHandlers,
    StatusHandlers,
    _lookup_exception_handler,
)
from starlette.background import BackgroundTasks
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from databridge.plans.parameters import ready
from databridge.plans.spec import NONE, Answer, Form
from databridge.plans.streams import streamed

if "_databridge" in sys.builtin_module_names:
    from _databridge import json_text

JSON: Final = b"application/json"

TEXTS: Final[dict[type[Response], bytes]] = {
    PlainTextResponse: b"text/plain; charset=utf-8",
    HTMLResponse: b"text/html; charset=utf-8",
}

NEVER_WRITTEN: Final = frozenset({205})
"""FastAPI gives it a content-length without a body."""


def make_response() -> Response:
    """The Response that FastAPI hands to whoever asks for one."""
    response = Response.__new__(Response)
    response.status_code = None  # type: ignore[assignment]
    response.background = None
    response.body = b""
    response.raw_headers = []
    response._headers = MutableHeaders(raw=response.raw_headers)
    return response


class Solved(NamedTuple):
    """What FastAPI's `_build_response_args` looks at."""

    background_tasks: BackgroundTasks | None
    response: Response


OWN_EXCEPTIONS: Final = (fastapi.HTTPException, HTTPException)


@dataclass
class Refusal:
    """HTTPException as FastAPI's own handler answers it, where it is the one."""

    handlers: ExceptionHandlers
    statuses: StatusHandlers

    def __call__(self, exc: BaseException) -> Response | None:
        """None: the exception goes the way of all, through the application."""
        if not isinstance(exc, HTTPException) or type(exc) not in OWN_EXCEPTIONS:
            return None
        if exc.status_code in self.statuses:
            return None
        if _lookup_exception_handler(self.handlers, exc) is not http_exception_handler:
            return None
        status, headers = exc.status_code, exc.headers
        response: Response
        if is_body_allowed_for_status_code(status):
            response = JSONResponse({"detail": exc.detail}, status, headers)
        else:
            response = Response(status_code=status, headers=headers)
        exc.__traceback__ = None
        return response


NOTHING: Final = make_response()
"""Of routes that ask for no Response."""


@dataclass
class Around:
    """The middleware that changes the answers of plans: CORS, when no Origin was sent."""

    cors: CORSMiddleware | None = None
    headers: tuple[tuple[bytes, bytes], ...] = field(default=())

    def response(self, response: ASGIApp) -> Any:
        """The response as it leaves the middleware."""
        if self.cors is None:
            return response
        return functools.partial(_through, self.cors, response)


async def _through(
    cors: CORSMiddleware, response: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    changed = functools.partial(cors.send, send=send, request_headers=Headers(scope=scope))
    await response(scope, receive, changed)


@dataclass
class Ending:
    """How a route's handler ends; its attributes are those of FastAPI's route."""

    route: Any
    awaited: bool
    """The endpoint is a coroutine function."""
    pure: bool
    """No user's function validates the result."""
    around: Around
    refuse: Refusal
    background: int = NONE
    response: int = NONE

    @functools.cached_property
    def answer(self) -> Answer:
        kind = self.response_class()
        status = self.route.status_code or 200
        model = self.route.response_field
        form, content_type = Form.FINISH, b""
        validate: Callable[..., Any] | None = None
        dump: Callable[..., bytes] | None = None
        options: dict[str, Any] = {}
        written = 200 <= status and status not in NEVER_WRITTEN

        if not written:
            pass
        elif model is None and kind is JSONResponse:
            form, content_type = Form.JSON, JSON
        elif model is None and kind in TEXTS:
            form, content_type, dump = Form.DUMP, TEXTS[kind], text
        elif model is not None and (self.awaited or self.pure) and self.is_json():
            form, content_type = Form.DUMP, JSON
            validate = ready(model).validate_python
            dump, options = self.dump(), self.options()

        return Answer(
            status,
            not is_body_allowed_for_status_code(status),
            content_type,
            self.around.headers,
            form,
            validate,
            dump,
            tuple(options),
            tuple(options.values()),
            self.finish,
            self.refuse,
            validate and self.invalid,
        )

    def response_class(self) -> type[Response]:
        kind = self.route.response_class
        return kind.value if isinstance(kind, DefaultPlaceholder) else kind  # type: ignore[no-any-return]

    def is_json(self) -> bool:
        return self.writes_bytes() or self.response_class() is JSONResponse

    def dump(self) -> Callable[..., bytes]:
        """Writes what the response model has validated."""
        serializer: SchemaSerializer = self.route.response_field._type_adapter.serializer
        if self.writes_bytes():
            return serializer.to_json
        return functools.partial(_json, serializer.to_python)

    def writes_bytes(self) -> bool:
        """pydantic writes the JSON, and not json.dumps()."""
        return self.route.response_field is not None and isinstance(
            self.route.response_class, DefaultPlaceholder
        )

    def options(self) -> dict[str, Any]:
        """What the serializer is told, but for its defaults."""
        route = self.route
        options = {
            "include": route.response_model_include,
            "exclude": route.response_model_exclude,
            "exclude_unset": route.response_model_exclude_unset,
            "exclude_defaults": route.response_model_exclude_defaults,
            "exclude_none": route.response_model_exclude_none,
        }
        chosen = {name: value for name, value in options.items() if value not in (None, False)}
        return {"by_alias": route.response_model_by_alias, **chosen}

    def injected(self, slots: Sequence[Any]) -> Response:
        return NOTHING if self.response == NONE else slots[self.response]

    def tasks(self, slots: Sequence[Any]) -> BackgroundTasks | None:
        return None if self.background == NONE else slots[self.background]

    def written(self, result: Any, slots: Sequence[Any]) -> Any:
        """The response as the module writes it; None: only `finish` can."""
        answer = self.answer
        injected = self.injected(slots)
        if answer.bodiless or injected.status_code or isinstance(result, Response):
            return None
        body = None
        if answer.form == Form.JSON:
            body = json_text(result)
        elif answer.dump is not None and answer.validate is not None:
            options = zip(answer.dump_names, answer.dump_values, strict=True)
            body = answer.dump(self._valid(result), **dict(options))
        elif answer.dump is not None:
            with contextlib.suppress(Exception):
                body = answer.dump(result)
        if body is None:
            return None
        response = Response.__new__(Response)
        response.status_code = answer.status
        response.background = self.tasks(slots)
        response.body = body
        response.raw_headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", answer.content_type),
            *injected.headers.raw,
        ]
        return self.around.response(response)

    def _valid(self, result: Any) -> Any:
        assert self.answer.validate is not None
        try:
            return self.answer.validate(result, from_attributes=True)
        except ValidationError as exc:
            invalid = self.invalid(exc, result)
        try:
            raise invalid
        finally:
            del invalid

    def invalid(self, exc: Exception, result: Any) -> Exception:
        """What FastAPI raises when the response model refuses a result."""
        if not isinstance(exc, ValidationError):
            return exc
        return ResponseValidationError(
            errors=_regenerate_error_with_loc(
                errors=exc.errors(include_url=False), loc_prefix=("response",)
            ),
            body=result,
            endpoint_ctx=routing._extract_endpoint_context(self.route.dependant.call),
        )

    async def finish(self, result: Any, slots: Sequence[Any]) -> Any:
        """The Response of a result."""
        background = self.tasks(slots)
        if isinstance(result, Response):
            if result.background is None:
                result.background = background
            return self.around.response(streamed(result))

        route = self.route
        injected = self.injected(slots)
        arguments = routing._build_response_args(
            status_code=route.status_code, solved_result=Solved(background, injected)
        )
        content = await routing.serialize_response(
            field=route.response_field,
            response_content=result,
            include=route.response_model_include,
            exclude=route.response_model_exclude,
            by_alias=route.response_model_by_alias,
            exclude_unset=route.response_model_exclude_unset,
            exclude_defaults=route.response_model_exclude_defaults,
            exclude_none=route.response_model_exclude_none,
            is_coroutine=self.awaited,
            endpoint_ctx=routing._extract_endpoint_context(route.dependant.call),
            dump_json=self.writes_bytes(),
        )
        if self.writes_bytes():
            response = Response(content=content, media_type="application/json", **arguments)
        else:
            response = self.response_class()(content, **arguments)
        if not is_body_allowed_for_status_code(response.status_code):
            response.body = b""
        response.headers.raw.extend(injected.headers.raw)
        return self.around.response(response)


def text(result: Any) -> bytes:
    """The body of a text, and of nothing else."""
    if type(result) is not str:
        raise TypeError("not a str")
    return result.encode()


def _json(serialize: Callable[..., Any], value: Any, **options: Any) -> bytes:
    """As JSONResponse.render() has it."""
    return json.dumps(
        serialize(value, mode="json", **options),
        ensure_ascii=False,
        allow_nan=False,
        separators=(",", ":"),
    ).encode()
