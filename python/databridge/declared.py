"""What an application declares, route by route: who answers each, and why not nginx.

`tables` tells nginx, `databridge routes` tells the user.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from databridge.plans.compiler import Planner
    from databridge.plans.spec import Plan

Kind = Literal["native", "plan", "hybrid", "asgi"]

HANDSHAKE = "WEBSOCKET"
"""The method of WebSocket routes, which no request has: they only lend their names."""


@dataclass
class Declared:
    """One route, in the application's order."""

    kind: Kind
    methods: tuple[str, ...]
    """Empty: any."""
    path: str | None
    """None: only Python can tell."""
    reason: str = ""
    """Why it is not better than this."""
    route: Any = None
    """As it is effective, in included routers."""
    original: Any = None
    plan: "Plan | None" = None


@dataclass
class Declaration:
    """All of an application's routes."""

    routes: list[Declared] = field(default_factory=list)
    planner: "Planner | None" = None
    unplanned: str = ""
    """Why no route has a plan."""


def declaration(app: Any, root_path: str = "") -> Declaration:
    """The routes of a Starlette or FastAPI application; those of others are unknown.

    `root_path` is the server's.
    """
    found = Declaration()
    applications = sys.modules.get("starlette.applications")
    if applications is None or not isinstance(app, applications.Starlette):
        return found
    fastapi = sys.modules.get("fastapi")
    if fastapi is not None and isinstance(app, fastapi.FastAPI):
        from databridge import plans

        try:
            found.planner = plans.planner(app, root_path)
        except plans.Unplanned as exc:
            found.unplanned = str(exc)
    for route, original in _flattened(app.router.routes):
        found.routes.extend(_declared(route, original, found))
    return found


def _flattened(routes: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Each route as it is effective, and as it was declared.

    FastAPI keeps the routers an application includes as trees; releases that
    copied their routes, which run without plans, know no such walk.
    """
    contexts = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", None)
    if contexts is None:
        yield from ((route, route) for route in routes)
        return
    for context in contexts(routes):
        yield context._effective_route, context.original_route


def _declared(route: Any, original: Any, found: Declaration) -> Iterator[Declared]:
    from starlette.routing import Mount, Route, WebSocketRoute

    routing = sys.modules.get("databridge.routing")
    operations = sys.modules.get("databridge.operations")
    api = sys.modules.get("fastapi.routing")
    path = getattr(route, "path", None)
    methods = tuple(sorted(getattr(route, "methods", None) or ()))

    if operations is not None and isinstance(original, operations.CrudOperation):
        return
    if routing is not None and isinstance(original, routing.HybridRoute):
        return
    if routing is not None and isinstance(original, routing.CrudRoute):
        yield from _crud(route, original)
    elif routing is not None and isinstance(original, routing.NativeRoute):
        yield Declared("native", methods, path, "", route, original)
    elif isinstance(original, WebSocketRoute):
        yield Declared("asgi", (HANDSHAKE,), path, "a WebSocket", route, original)
    elif isinstance(original, Mount):
        why = "another application is mounted here"
        yield Declared("asgi", (), f"{path}/{{path:path}}", why, route, original)
    elif api is not None and isinstance(original, api.APIRoute):
        yield _api(Declared("asgi", methods, path, found.unplanned, route, original), found.planner)
    elif isinstance(original, Route):
        why = "a route of Starlette's: all it has is the request"
        yield Declared("asgi", methods, path, why, route, original)
    else:
        why = f"a {type(original).__name__}, which only Python can match"
        yield Declared("asgi", (), None, why, route, original)


def _crud(route: Any, original: Any) -> Iterator[Declared]:
    from databridge.routing import METHODS, operation_path

    hybrid = original.schema.get("hybrid", {})
    for operation in original.operations:
        path = operation_path(route.path, operation)
        kind: Kind = "hybrid" if operation in hybrid else "native"
        why = hybrid.get(operation, "")
        yield Declared(kind, (METHODS[operation],), path, why, route, original)


def _api(declared: Declared, planner: "Planner | None") -> Declared:
    """A route of FastAPI's, with its plan."""
    from databridge.plans import Unplanned

    if planner is None:
        return declared
    try:
        declared.plan = planner.plan(declared.route)
        declared.kind = "plan"
        if below := planner.conditions.below:
            declared.reason = f"below {below}"
    except Unplanned as exc:
        declared.reason = str(exc)
    return declared
