"""Routes: FastAPI's with a timeout, and the native CRUD resource."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any, TypedDict, TypeVar, Unpack

import fastapi.routing
from fastapi import params
from fastapi.types import IncEx
from pydantic import BaseModel
from starlette._utils import get_route_path
from starlette.datastructures import URLPath
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, NoMatchFound, Route
from starlette.types import Receive, Scope, Send

from databridge.crud import CrudOptions, schema_for
from databridge.hybrid import METHODS as WRITES
from databridge.hybrid import Hybrid, reasons

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

METHODS = {"list": "GET", "get": "GET", **WRITES}
"""Of the operations of native CRUD."""

OF_COLLECTION = frozenset({"list", "create"})
"""Those without an id in their path."""


class RouteOptions(TypedDict, total=False):
    """What FastAPI's decorators take, besides the path."""

    response_model: Any
    status_code: int | None
    tags: list[str | Enum] | None
    dependencies: Sequence[params.Depends] | None
    summary: str | None
    description: str | None
    response_description: str
    responses: dict[int | str, dict[str, Any]] | None
    deprecated: bool | None
    operation_id: str | None
    response_model_include: IncEx | None
    response_model_exclude: IncEx | None
    response_model_by_alias: bool
    response_model_exclude_unset: bool
    response_model_exclude_defaults: bool
    response_model_exclude_none: bool
    include_in_schema: bool
    response_class: type[Response]
    name: str | None
    callbacks: list[BaseRoute] | None
    openapi_extra: dict[str, Any] | None
    generate_unique_id_function: Callable[[fastapi.routing.APIRoute], str]
    max_body_size: int | None
    form_limits: Any


class Decorators:
    """The decorators of `App` and `APIRouter`.

    `timeout` is in seconds, until the response starts: 504 and cancellation after
    that.  None is the default of the location, 0 is no limit.
    """

    def _add_route(
        self, path: str, endpoint: Callable[..., Any], options: dict[str, Any]
    ) -> BaseRoute:
        raise NotImplementedError

    def add_api_route(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        timeout: float | None = None,
        **options: Any,
    ) -> None:
        timeout = checked_timeout(timeout)
        route = self._add_route(path, endpoint, options)
        route.databridge_timeout = timeout  # type: ignore[attr-defined]

    def api_route(
        self, path: str, *, timeout: float | None = None, **options: Any
    ) -> Callable[[Endpoint], Endpoint]:
        timeout = checked_timeout(timeout)

        def decorator(endpoint: Endpoint) -> Endpoint:
            self.add_api_route(path, endpoint, timeout=timeout, **options)
            return endpoint

        return decorator

    def get(
        self, path: str, *, timeout: float | None = None, **options: Unpack[RouteOptions]
    ) -> Callable[[Endpoint], Endpoint]:
        return self.api_route(path, methods=["GET"], timeout=timeout, **options)

    def put(
        self, path: str, *, timeout: float | None = None, **options: Unpack[RouteOptions]
    ) -> Callable[[Endpoint], Endpoint]:
        return self.api_route(path, methods=["PUT"], timeout=timeout, **options)

    def post(
        self, path: str, *, timeout: float | None = None, **options: Unpack[RouteOptions]
    ) -> Callable[[Endpoint], Endpoint]:
        return self.api_route(path, methods=["POST"], timeout=timeout, **options)

    def delete(
        self, path: str, *, timeout: float | None = None, **options: Unpack[RouteOptions]
    ) -> Callable[[Endpoint], Endpoint]:
        return self.api_route(path, methods=["DELETE"], timeout=timeout, **options)

    def options(
        self, path: str, *, timeout: float | None = None, **options: Unpack[RouteOptions]
    ) -> Callable[[Endpoint], Endpoint]:
        return self.api_route(path, methods=["OPTIONS"], timeout=timeout, **options)

    def head(
        self, path: str, *, timeout: float | None = None, **options: Unpack[RouteOptions]
    ) -> Callable[[Endpoint], Endpoint]:
        return self.api_route(path, methods=["HEAD"], timeout=timeout, **options)

    def patch(
        self, path: str, *, timeout: float | None = None, **options: Unpack[RouteOptions]
    ) -> Callable[[Endpoint], Endpoint]:
        return self.api_route(path, methods=["PATCH"], timeout=timeout, **options)

    def trace(
        self, path: str, *, timeout: float | None = None, **options: Unpack[RouteOptions]
    ) -> Callable[[Endpoint], Endpoint]:
        return self.api_route(path, methods=["TRACE"], timeout=timeout, **options)


class APIRouter(Decorators, fastapi.routing.APIRouter):
    """FastAPI's APIRouter; its decorators also take `timeout=`."""

    def _add_route(
        self, path: str, endpoint: Callable[..., Any], options: dict[str, Any]
    ) -> BaseRoute:
        fastapi.routing.APIRouter.add_api_route(self, path, endpoint, **options)
        return self.routes[-1]


class HybridRoute(fastapi.routing.APIRoute):
    """An operation of a CRUD resource that Python validates, right before the resource."""


class CrudRoute(BaseRoute):
    """A native CRUD resource in its place among an application's routes.

    nginx serves it.  Python comes here only when nothing native stood before the
    application, and then says so.
    """

    def __init__(
        self,
        model: type[BaseModel],
        hooks: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
        /,
        **options: Unpack[CrudOptions],
    ) -> None:
        self.include_in_schema = options.pop("include_in_schema", None) is not False
        self.options = options
        self.schema = schema_for(model, reasons(hooks), **options)
        self.hybrid = Hybrid(model, self.schema, hooks)
        self.model = model
        self.name = model.__name__
        self.prefix = self.path = str(self.schema["prefix"])
        self.operations = tuple(self.schema["operations"])
        collection = OF_COLLECTION.intersection(self.operations)
        self.methods = frozenset(METHODS[operation] for operation in collection)
        self.item_methods = frozenset(
            METHODS[operation] for operation in set(self.operations) - collection
        )

    def __repr__(self) -> str:
        return f"CrudRoute(prefix={self.prefix!r}, model={self.name})"

    def hybrid_paths(self) -> list[tuple[str, str]]:
        """The operations that are Python's, each with its path."""
        return [
            (operation, operation_path(self.prefix, operation))
            for operation in self.schema.get("hybrid", {})
        ]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        path = get_route_path(scope)
        params = dict(scope.get("path_params", {}))
        if path == self.prefix:
            methods = self.methods
        else:
            parent, _, params["id"] = path.rpartition("/")
            if parent != self.prefix or not params["id"]:
                return Match.NONE, {}
            methods = self.item_methods
        if not methods:
            return Match.NONE, {}
        match = Match.FULL if scope["method"] in methods else Match.PARTIAL
        return match, {"endpoint": self, "path_params": params}

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        if name != self.name or set(path_params) - {"id"}:
            raise NoMatchFound(name, path_params)
        path = self.prefix
        if "id" in path_params:
            path = f"{path}/{path_params['id']}"
        return URLPath(path=path, protocol="http")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = JSONResponse(
            {
                "detail": f"{self.prefix} is native CRUD, which nginx serves and Python"
                " does not: start the application with 'databridge run'"
            },
            503,
        )
        await response(scope, receive, send)


class NativeRoute(Route):
    """A route whose answer is always the same: nginx gives it, without Python."""

    def __init__(self, path: str, response: Response) -> None:
        if response.status_code < 200 or response.status_code in (204, 304):
            raise ValueError(
                f"{path}: a response with status {response.status_code} has no body, so it"
                " cannot be JSON"
            )
        self.response = response
        super().__init__(path, self.answer, methods=["GET"], name=path)

    async def answer(self, request: Request) -> Response:
        """The same, without nginx; middleware may change its headers."""
        response = copy.copy(self.response)
        response.raw_headers = list(self.response.raw_headers)
        return response


def checked_timeout(timeout: float | None) -> float | None:
    """Seconds, or an error where the route is declared."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number of seconds, not {timeout!r}")
    if not math.isfinite(timeout) or timeout < 0:
        raise ValueError(f"timeout must be 0 (no limit) or more seconds, not {timeout!r}")
    return float(timeout)


def operation_path(prefix: str, operation: str) -> str:
    return prefix if operation in OF_COLLECTION else f"{prefix}/{{id}}"
