"""From FastAPI's route objects to `spec.Plan`, or to the reason why there is none.

The walk over dependencies is that of FastAPI's `solve_dependencies`, with slots in the
place of values: what is cached there has one slot here.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI, params, routing
from fastapi._compat import ModelField
from fastapi.background import BackgroundTasks
from fastapi.dependencies.models import (
    Dependant,
    _get_cache_key,
    _get_oauth_scopes,
    _is_async_gen_callable,
    _is_coroutine_callable,
    _is_gen_callable,
)
from fastapi.dependencies.utils import _should_embed_body_fields
from fastapi.exceptions import ResponseValidationError
from fastapi.security import SecurityScopes
from pydantic_core import from_json
from starlette import convertors
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from databridge.plans import Unplanned
from databridge.plans.answers import Ending, Refusal, make_response
from databridge.plans.below import Below, locate
from databridge.plans.gates import Conditions, Gate
from databridge.plans.parameters import body_field, parameter, ready
from databridge.plans.scripts import Script, Stage
from databridge.plans.spec import (
    NONE,
    RAISE,
    REQUIRED,
    Body,
    BodyField,
    Computed,
    Field,
    Kind,
    Plan,
    Source,
    Step,
)
from databridge.plans.streams import streaming
from databridge.plans.usercode import UserCode

if "_databridge" in sys.builtin_module_names:
    from _databridge import Fetcher

CONVERTORS: Final[dict[type, str]] = {
    convertors.StringConvertor: "str",
    convertors.PathConvertor: "path",
    convertors.IntegerConvertor: "int",
    convertors.FloatConvertor: "float",
    convertors.UUIDConvertor: "uuid",
}

BODY_HEADERS: Final = (b"content-length", b"transfer-encoding")


class Planner:
    """Makes the plans of an application, as long as it has started."""

    def __init__(self, app: FastAPI, root_path: str) -> None:
        self.app = app
        self.conditions = Conditions(app, root_path)
        self.user_code = UserCode()
        self.providers: dict[int, Any] = {id(app): app}

    def plan(self, route: Any) -> Plan:
        """The plan of an APIRoute, or of one as an included router has it.

        Raises `Unplanned`.
        """
        try:
            plan = RoutePlan(self, route).plan()
        except Unplanned:
            raise
        except Exception as exc:
            raise Unplanned(f"it cannot be compiled: {type(exc).__name__}: {exc}") from exc
        provider = route.dependency_overrides_provider
        if provider is not None:
            self.providers[id(provider)] = provider
        return plan

    def stream(self, route: Any, gate: Gate) -> None:
        """Has streams sent as plans send them, when it is FastAPI that makes the response."""
        if (app := streaming(getattr(route, "app", None), gate)) is not None:
            route.app = app

    def attach(self, route: Any) -> None:
        """Lets a planned route raise what its plan has raised."""
        route.app = raising(route.app, route.dependant)

    def place(self, route: Any, plan: Plan, gate: Gate) -> None:
        """Puts a plan where the route's handler was, below the middleware."""
        assert isinstance(plan.script, Script)
        reads = plan.body is not None
        route.app = Below(route.app, Fetcher(plan), plan.script, reads, gate, route.dependant)

    def gate(self, closed: Callable[[str], None]) -> Gate:
        """`closed` is told why, the first time the gate is closed."""
        return Gate(self.app, list(self.providers.values()), closed)


class RoutePlan:
    """One route, on its way to a plan."""

    def __init__(self, planner: Planner, route: Any) -> None:
        self.app = planner.app
        self.conditions = planner.conditions
        self.user_code = planner.user_code
        self.route = route
        self.original = getattr(route, "original_route", route)
        self.convertors = _convertors(route)
        self.slots = 0
        self.fields: list[Field | Computed] = []
        self.body_fields: list[BodyField] = []
        self.stages: list[Stage] = []
        self.cached: dict[Any, int] = {}
        self.request = self.response = self.background = NONE
        self.absent = self.conditions.absent

    def plan(self) -> Plan:
        route = self.route
        self._check()
        dependant: Dependant = route.dependant
        values = self._dependencies(dependant)
        self._own(dependant, values)
        last = self._step(dependant, values)
        awaited = last.step.kind == Kind.ASYNC
        self.stages.append(last)

        ending = Ending(
            route,
            awaited,
            route.response_field is None or self._users(route.response_field) is None,
            self.conditions.around,
            Refusal(*self._handlers()),
            self.background,
            self.response,
        )
        script = None
        below = bool(self.conditions.below)
        if below or any(stage.enters for stage in self.stages):
            script = Script(self.stages, ending, below)

        return Plan(
            slots=self.slots,
            path_names=tuple(self.convertors),
            path_convertors=tuple(self.convertors.values()),
            fields=tuple(self.fields),
            body=self._body(),
            request=self.request,
            response=self.response,
            background=self.background,
            make_request=functools.partial(_request, self._scope()),
            make_response=make_response,
            make_background=BackgroundTasks,
            steps=() if script else tuple(stage.step for stage in self.stages),
            answer=ending.answer,
            script=script,
            route=self.original,
            endpoint=route.endpoint,
            required_headers=self._required_headers(),
            absent_headers=self.absent,
            hosts=self.conditions.hosts,
            https=self.conditions.https,
        )

    def _check(self) -> None:
        """What FastAPI does with a route that a plan does not know."""
        route, original = self.route, self.original
        if type(original) is not routing.APIRoute:
            raise Unplanned(f"{type(original).__name__} is a route class of its own")
        for name in ("matches", "handle"):
            if name in vars(original):
                raise Unplanned(f"{name}() of the route was replaced")
        call = route.dependant.call
        if _is_gen_callable(call) or _is_async_gen_callable(call):
            raise Unplanned("the endpoint is a generator: its response is a stream")
        if isinstance(getattr(route.body_field, "field_info", None), params.Form):
            raise Unplanned("it takes a form or files")
        if route.max_body_size is not None or self.app.max_body_size is not None:
            if route.body_field is not None:
                raise Unplanned("max_body_size limits its body")
            self.absent += BODY_HEADERS
        if self._under_root_path():
            raise Unplanned(f"root_path {self.app.root_path} may be the beginning of its path")

    def _under_root_path(self) -> bool:
        """Whether FastAPI might take root_path off a path that matches."""
        if self.conditions.below:
            return False
        root = self.app.root_path if self.conditions.own_root_path else ""
        fixed, parameters, _ = self.route.path_format.partition("{")
        return bool(root) and (
            fixed.startswith(root) or bool(parameters) and root.startswith(fixed)
        )

    def _slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    def _dependencies(self, dependant: Dependant) -> dict[str, int]:
        """The slots of what a dependant's own dependencies give it, by name."""
        values = {}
        for dependency in dependant.dependencies:
            arguments = self._dependencies(dependency)
            key = _get_cache_key(dependant=dependency)
            if dependency.use_cache and key in self.cached:
                slot = self.cached[key]
            else:
                self._own(dependency, arguments)
                stage = self._step(dependency, arguments)
                self.stages.append(stage)
                slot = stage.step.result
            if dependency.name is not None:
                values[dependency.name] = slot
            self.cached.setdefault(key, slot)
        return values

    def _own(self, dependant: Dependant, values: dict[str, int]) -> None:
        """The slots of a dependant's parameters and of the objects it asks for."""
        for source, fields in (
            (Source.PATH, dependant.path_params),
            (Source.QUERY, dependant.query_params),
            (Source.HEADER, dependant.header_params),
            (Source.COOKIE, dependant.cookie_params),
        ):
            for field in fields:
                slot = values[field.name] = self._slot()
                self.fields.append(parameter(field, source, slot, self.convertors))
                self._allow(field)
        for field in dependant.body_params:
            slot = values[field.name] = self._slot()
            embedded = self.route._embed_body_fields
            if _should_embed_body_fields(dependant.body_params) and not embedded:
                raise Unplanned(f"the body's {field.name} is embedded for one dependency alone")
            self.body_fields.append(body_field(field, slot, embedded=embedded))
            self._allow(field)

        if name := dependant.http_connection_param_name:
            values[name] = self._request_slot()
        if name := dependant.request_param_name:
            values[name] = self._request_slot()
        if name := dependant.background_tasks_param_name:
            if self.background == NONE:
                self.background = self._slot()
            values[name] = self.background
        if name := dependant.response_param_name:
            if self.response == NONE:
                self.response = self._slot()
            values[name] = self.response
        if name := dependant.security_scopes_param_name:
            slot = values[name] = self._slot()
            self.fields.append(_security_scopes(slot, _get_oauth_scopes(dependant=dependant)))

    def _request_slot(self) -> int:
        if self.request == NONE:
            self.request = self._slot()
        return self.request

    def _step(self, dependant: Dependant, values: dict[str, int]) -> Stage:
        call = dependant.call
        assert call is not None
        if dependant.concurrency is not None:
            raise Unplanned(f"{_name(call)} has a limit of concurrency")
        asynchronous = _is_async_gen_callable(call)
        enters = asynchronous or _is_gen_callable(call)
        awaited = asynchronous or not enters and _is_coroutine_callable(call)
        step = Step(
            call,
            Kind.ASYNC if awaited else Kind.THREAD,
            tuple(values),
            tuple(values.values()),
            self._slot(),
        )
        return Stage(step, enters, enters and dependant.scope == "function")

    def _allow(self, field: ModelField) -> None:
        """A user's validator runs again in FastAPI, which may have run a dependency before."""
        if self.route.dependant.dependencies and (name := self._users(field)):
            raise Unplanned(
                f"{name}() validates {field.name}, and the route has dependencies that run before"
            )

    def _users(self, field: ModelField) -> str | None:
        ready(field)
        return self.user_code.validating(field._type_adapter.core_schema)

    def _body(self) -> Body | None:
        route = self.route
        if route.body_field is None:
            return None
        strict = route.strict_content_type
        return Body(
            tuple(self.body_fields),
            route._embed_body_fields,
            bool(getattr(strict, "value", strict)),
            from_json,
        )

    def _scope(self) -> dict[str, Any]:
        """What FastAPI and its middleware add to the scope that a handler sees."""
        scope: dict[str, Any] = {"app": self.app, "router": self.app.router}
        if self.app.root_path:
            scope["root_path"] = self.app.root_path
        handlers, statuses = self._handlers()
        if handlers:
            scope["starlette.exception_handlers"] = handlers, statuses
        return scope

    def _handlers(self) -> tuple[Any, Any]:
        """Of exceptions, as the application has put them into its middleware."""
        layer: Any = self.app.middleware_stack
        while layer is not None and type(layer) is not ExceptionMiddleware:
            layer = getattr(layer, "app", None)
        return ({}, {}) if layer is None else (layer._exception_handlers, layer._status_handlers)

    def _required_headers(self) -> tuple[bytes, ...]:
        return tuple(
            field.names[0]
            for field in self.fields
            if isinstance(field, Field)
            and field.source == Source.HEADER
            and len(field.names) == 1
            and field.default is REQUIRED
            and field.factory is None
        )


def raising(app: ASGIApp, dependant: Dependant) -> ASGIApp:
    """A route's application that raises, where its endpoint would, what a plan raised."""

    async def failed(request: Request) -> Response:
        exc: BaseException = request.scope.pop(RAISE)
        if isinstance(exc, ResponseValidationError):
            locate(exc, request, dependant)
        raise exc

    raiser = routing.request_response(failed)

    async def raising_app(scope: Scope, receive: Receive, send: Send) -> None:
        await (raiser if RAISE in scope else app)(scope, receive, send)

    return raising_app


def _request(known: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> Request:
    scope.update(known)
    return Request(scope, receive, send)


def _security_scopes(slot: int, scopes: list[str]) -> Field:
    def make() -> SecurityScopes:
        return SecurityScopes(scopes=list(scopes))

    return Field(Source.QUERY, (), slot, False, 0, None, None, make)


def _convertors(route: Any) -> dict[str, str]:
    found = {}
    for name, convertor in route.param_convertors.items():
        known = CONVERTORS.get(type(convertor))
        if known is None:
            raise Unplanned(f"the path has a convertor of its own, {type(convertor).__name__}")
        found[name] = known
    return found


def _name(call: Any) -> str:
    return str(getattr(call, "__name__", None) or call)
