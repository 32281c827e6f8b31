"""When an application's routes may have plans: as it starts, and for each batch.

What an application has around its routes must be FastAPI's own and nothing else, since
a request with a plan passes by all of it; but for middleware: below that of the user's
own, plans run where the router is.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from fastapi import FastAPI, routing
from fastapi._body_limit import AppBodyLimitMiddleware, _BodyLimitExceptionMiddleware
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.telemetry._asgi import ExceptionTelemetryMiddleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse, Response, StreamingResponse

from databridge.plans import Unplanned
from databridge.plans.answers import Around

if "_databridge" in sys.builtin_module_names:
    from _databridge import patched

LIMITS: Final = (RequestBodyLimitMiddleware, _BodyLimitExceptionMiddleware)

ROUTER_METHODS: Final = ("__call__", "app", "handle", "matches")

WATCHED: Final[tuple[tuple[Any, tuple[str, ...]], ...]] = (
    (
        routing,
        (
            "_build_response_args",
            "jsonable_encoder",
            "request_response",
            "run_endpoint_function",
            "serialize_response",
            "solve_dependencies",
        ),
    ),
    (FastAPI, ("__call__",)),
    (JSONResponse, ("__init__", "render")),
    (Response, ("__call__", "__init__", "init_headers", "render")),
    (StreamingResponse, ("__call__", "__init__", "stream_response")),
    *(
        (sys.modules[name], (provider,))
        for name, provider in (
            ("opentelemetry.trace", "_TRACER_PROVIDER"),
            ("opentelemetry.metrics._internal", "_METER_PROVIDER"),
            ("opentelemetry._logs._internal", "_LOGGER_PROVIDER"),
        )
    ),
)
"""What has to be the same object as at the start: itself, since the proxies by which
agents patch a function are equal to it."""


class Conditions:
    """What is true of an application, and has to be of a request, for plans.

    Raises `Unplanned` when none of its routes may have one.
    """

    def __init__(self, app: FastAPI, root_path: str) -> None:
        self.app = app
        self.own_root_path = not root_path
        self.around = Around()
        self.absent: tuple[bytes, ...] = ()
        self.hosts: tuple[bytes, ...] = ()
        self.https = False
        self.below = ""
        """The middleware that all requests go through, by name."""
        _check_class(app)
        for router in routers(app.router):
            _check_router(router)
        for middleware in app.user_middleware:
            self._add(middleware)
        if self.below:
            self.around, self.absent, self.hosts, self.https = Around(), (), (), False
        else:
            _check_stack(app)
        if not self.below and root_path and app.root_path not in ("", root_path):
            raise Unplanned(f"its root_path is {app.root_path}, the server's is {root_path}")
        if app._native_telemetry.enabled():
            raise Unplanned("telemetry is on: OpenTelemetry has a provider")

    def _add(self, middleware: Any) -> None:
        kind = middleware.cls
        if kind is CORSMiddleware and self.around.cors is None:
            cors = kind(self.app, *middleware.args, **middleware.kwargs)
            self.around = Around(cors, ((b"vary", b"Origin"),))
            self.absent += (b"origin",)
        elif kind is TrustedHostMiddleware and not self.hosts:
            trusted = kind(self.app, *middleware.args, **middleware.kwargs)
            if not trusted.allow_any:
                self.hosts = tuple(host.encode() for host in trusted.allowed_hosts)
        elif kind is HTTPSRedirectMiddleware:
            self.https = True
        else:
            name = getattr(kind, "__name__", None) or repr(kind)
            self.below += f", {name}" if self.below else name


class Gate:
    """Asked once a batch: whether all is as it was when the plans were made."""

    def __init__(self, app: FastAPI, providers: list[Any], closed: Callable[[str], None]) -> None:
        self.app = app
        self.stack = app.middleware_stack
        self.providers = providers
        self.routers = [
            (router, router._routes_version, len(router.routes)) for router in routers(app.router)
        ]
        self.watched = tuple(
            (owner, name, vars(owner)[name]) for owner, names in WATCHED for name in names
        )
        self.closed: Callable[[str], None] | None = closed

    def __call__(self) -> bool:
        why = self._difference()
        if why is None:
            return True
        if self.closed is not None:
            self.closed(why)
            self.closed = None
        return False

    def _difference(self) -> str | None:
        for provider in self.providers:
            if provider.dependency_overrides:
                return "the application has dependency_overrides"
        for router, version, count in self.routers:
            if router._routes_version != version or len(router.routes) != count:
                return "routes were added after the start"
        if (owner := patched(self.watched)) is not None:
            return f"{owner.__name__} was patched, or telemetry turned on"
        if self.app.middleware_stack is not self.stack:
            return "the middleware was changed"
        return None


def routers(router: routing.APIRouter) -> Iterator[routing.APIRouter]:
    """A router, and those that it includes."""
    yield router
    for route in router.routes:
        if isinstance(route, routing._IncludedRouter):
            yield from routers(route.original_router)


def _check_class(app: FastAPI) -> None:
    kind = type(app)
    if kind.__call__ is not FastAPI.__call__:
        raise Unplanned(f"{kind.__name__} overrides __call__()")
    stacks = [FastAPI.build_middleware_stack]
    if ours := sys.modules.get("databridge.app"):
        stacks.append(ours.App.build_middleware_stack)
    if kind.build_middleware_stack not in stacks or "build_middleware_stack" in vars(app):
        raise Unplanned(f"build_middleware_stack() of {kind.__name__} is not FastAPI's")


def _check_router(router: routing.APIRouter) -> None:
    kind = type(router)
    for name in ROUTER_METHODS:
        own = getattr(kind, name) is not getattr(routing.APIRouter, name)
        if own or name in vars(router):
            raise Unplanned(f"{name}() of a router, {kind.__name__}, is not FastAPI's")
    stack: Any = router.middleware_stack
    for limit in LIMITS if router.max_body_size is not None else ():
        stack = stack.app if type(stack) is limit else stack
    if getattr(stack, "__func__", None) is not routing.APIRouter.app:
        raise Unplanned("a router has middleware of its own")


def _check_stack(app: FastAPI) -> None:
    """What was built of the middleware, if it was: nobody else has come in."""
    outermost: list[type] = [ServerErrorMiddleware]
    if errors := sys.modules.get("databridge.errors"):
        outermost.append(errors.InternalErrorMiddleware)
    expected = [
        ExceptionTelemetryMiddleware,
        AppBodyLimitMiddleware,
        *(LIMITS if app.max_body_size is not None else ()),
        *(middleware.cls for middleware in app.user_middleware),
        ExceptionMiddleware,
        AsyncExitStackMiddleware,
    ]
    found: Any = app.middleware_stack
    if found is None:
        return
    if type(found) not in outermost:
        raise Unplanned(f"{type(found).__name__} was put around the application")
    for kind in expected:
        found = found.app
        if type(found) is not kind:
            raise Unplanned(f"{type(found).__name__} was put around the application")
    if found.app is not app.router:
        raise Unplanned("the application's router was replaced")
