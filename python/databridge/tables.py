"""What an application declares to nginx: its routes, in order of declaration.

nginx looks requests up in this table to find native resources and timeouts.  What it
cannot understand is declared as a matcher of every path: such requests are Python's.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import _databridge

logger = logging.getLogger("databridge")


def declare(app: Any, index: int) -> None:
    """Declares the routes of a Starlette or FastAPI application, and of no other."""
    applications = sys.modules.get("starlette.applications")
    if applications is None or not isinstance(app, applications.Starlette):
        return

    from starlette.routing import Mount, Route, WebSocketRoute

    for route, original in _flattened(app.router.routes):
        schema = _schema(route, original)
        if schema is not None:
            _databridge.register_crud(schema, index)
        elif isinstance(original, WebSocketRoute):
            continue  # never answers a plain request
        elif isinstance(original, Mount):
            _add(index, None, f"{route.path}/{{path:path}}", None)
        elif isinstance(original, Route):
            timeout = getattr(original, "databridge_timeout", None)
            _add(index, route.methods, route.path, timeout)
        else:
            _add(index, None, None, None)


def _flattened(routes: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Each route as it is effective, and as it was declared.

    FastAPI keeps the routers an application includes as trees.
    """
    fastapi_routing = sys.modules.get("fastapi.routing")
    if fastapi_routing is None:
        yield from ((route, route) for route in routes)
        return
    for context in fastapi_routing.iter_route_contexts(routes):
        yield context, context.original_route


def _schema(route: Any, original: Any) -> dict[str, Any] | None:
    """The schema of a native resource, under the prefix it was included with."""
    routing = sys.modules.get("databridge.routing")
    if routing is None or not isinstance(original, routing.CrudRoute):
        return None
    schema: dict[str, Any] = original.schema
    return schema if route.path == original.path else {**schema, "prefix": route.path}


def _add(index: int, methods: Any, pattern: str | None, timeout: float | None) -> None:
    names = ",".join(sorted(methods)) if methods else None
    milliseconds = None if timeout is None else round(timeout * 1000)
    try:
        _databridge.add_route(index, names, pattern, milliseconds)
    except ValueError as exc:
        logger.info("the route %s is left to Python: %s", pattern, exc)
        _databridge.add_route(index, None, None, None)
