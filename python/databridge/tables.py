"""What an application declares to nginx: its routes, in order of declaration.

nginx looks requests up in this table to find native resources and timeouts, and the
name that a request has in metrics and logs.  What it cannot understand is declared as a
matcher of every path: such requests are Python's.
"""

import logging
import sys
from typing import TYPE_CHECKING, Any

import _databridge
from databridge.declared import HANDSHAKE, Declaration, declaration
from databridge.loading import LoadError

if TYPE_CHECKING:
    from databridge.plans.compiler import Planner
    from databridge.plans.spec import Plan

logger = logging.getLogger("databridge")


def declare(app: Any, index: int) -> None:
    """Declares the routes of a Starlette or FastAPI application, and of no other."""
    applications = sys.modules.get("starlette.applications")
    if applications is None or not isinstance(app, applications.Starlette):
        return

    _declare_cors(app, index)
    resource: Any = None
    found = declaration(app, _databridge.apps()[index][3])
    gate = _open_gate(found, index)
    for declared in found.routes:
        original = declared.original
        schema = _schema(declared.route, original)
        if schema is not None:
            if declared.route is not resource:  # of which each operation is declared
                resource = declared.route
                original.hybrid.resource = _register(schema, index)
                _tell_hybrid(schema)
        elif (response := _constant(original)) is not None:
            _add_native(index, declared.methods, str(declared.path), response)
        else:
            plan = declared.plan
            if found.planner is not None:
                found.planner.stream(declared.route, gate)
                if plan is not None:
                    plan = _attach(found.planner, declared.route, plan, gate)
            timeout = getattr(original, "databridge_timeout", None)
            _add(index, declared.methods, declared.path, timeout, plan)


def _register(schema: dict[str, Any], index: int) -> Any:
    """The resource in its store; what is wrong with that is not the application's code."""
    try:
        return _databridge.register_crud(schema, index)
    except (RuntimeError, ValueError) as exc:
        raise LoadError(str(exc)) from exc


def _attach(planner: "Planner", route: Any, plan: "Plan", gate: Any) -> "Plan | None":
    """The plan, unless it runs below middleware: nginx does not know of those."""
    if not planner.conditions.below:
        planner.attach(route)
        return plan
    try:
        planner.place(route, plan, gate)
    except (TypeError, ValueError) as exc:
        logger.error("the route %s has no plan: %s", route.path, exc)
    return None


def _open_gate(found: Declaration, index: int) -> Any:
    """Plans hold as long as the application is what they were made of."""

    def tell(why: str) -> None:
        name = _databridge.apps()[index][0]
        _databridge.log(_databridge.NOTICE, f"{name} runs without plans: {why}")

    if found.planner is not None:
        if below := found.planner.conditions.below:
            name = _databridge.apps()[index][0]
            _databridge.log(_databridge.NOTICE, f"{name}: its plans run below {below}")
        gate = found.planner.gate(tell)
        _databridge.set_gate(index, gate)
        return gate
    if found.unplanned:
        tell(found.unplanned)
    return None


def _schema(route: Any, original: Any) -> dict[str, Any] | None:
    """The schema of a native resource, under the prefix it was included with."""
    routing = sys.modules.get("databridge.routing")
    if routing is None or not isinstance(original, routing.CrudRoute):
        return None
    schema: dict[str, Any] = original.schema
    return schema if route.path == original.path else {**schema, "prefix": route.path}


def _tell_hybrid(schema: dict[str, Any]) -> None:
    for operation, why in schema.get("hybrid", {}).items():
        _databridge.log(_databridge.NOTICE, f"{schema['model']}: {operation} is hybrid: {why}")


def _constant(original: Any) -> Any | None:
    """What a native route answers, always."""
    routing = sys.modules.get("databridge.routing")
    if routing is None or not isinstance(original, routing.NativeRoute):
        return None
    return original.response


def _declare_cors(app: Any, index: int) -> None:
    """Native answers follow the application's CORS, when that is all there is around it."""
    cors = sys.modules.get("starlette.middleware.cors")
    if cors is None or len(app.user_middleware) != 1:
        return
    (middleware,) = app.user_middleware
    if middleware.cls is not cors.CORSMiddleware:
        return

    policy = middleware.cls(app, *middleware.args, **middleware.kwargs)
    if policy.allow_origin_regex is not None:
        logger.warning(
            "native routes answer without CORS headers, since allow_origin_regex is"
            " Python's: list the origins in allow_origins, or in databridge_cors"
        )
        return

    _databridge.set_cors(
        index,
        " ".join(policy.allow_origins),
        " ".join(policy.allow_methods),
        policy.preflight_headers.get("Access-Control-Allow-Headers", "*").replace(",", ""),
        policy.simple_headers.get("Access-Control-Expose-Headers", "").replace(",", ""),
        policy.preflight_headers["Access-Control-Max-Age"],
        policy.allow_credentials,
        policy.allow_private_network,
    )


def _add_native(index: int, methods: Any, pattern: str, response: Any) -> None:
    names = ",".join(sorted(methods))
    try:
        _databridge.add_native(
            index, names, pattern, response.status_code, response.raw_headers, response.body
        )
    except ValueError as exc:
        logger.info("the route %s is left to Python: %s", pattern, exc)
        _databridge.add_route(index, None, None, None)


def _add(index: int, methods: Any, pattern: str | None, timeout: float | None, plan: Any) -> None:
    names = ",".join(sorted(methods)) if methods else None
    milliseconds = None if timeout is None else round(timeout * 1000)
    try:
        _databridge.add_route(index, names, pattern, milliseconds, plan)
        return
    except (TypeError, ValueError) as exc:
        if plan is not None:
            logger.error("the route %s has no plan: %s", pattern, exc)
    try:
        _databridge.add_route(index, names, pattern, milliseconds)
    except ValueError as exc:
        logger.info("the route %s is left to Python: %s", pattern, exc)
        _databridge.add_route(index, names if names == HANDSHAKE else None, None, None)
