"""ASGI or WSGI: what an application is, told from what its callable takes."""

import inspect
import sys
from typing import Any, Literal

from databridge.loading import LoadError

Interface = Literal["auto", "asgi", "wsgi"]

SAY = "say interface=asgi or interface=wsgi (--interface of the command line)"

ASGI_NAMES = ("scope", "receive", "send")
WSGI_NAMES = ("environ", "start_response")


def detect(app: Any, chosen: str, target: str) -> str:
    """The interface that was chosen, or else the application's; raises LoadError."""
    if chosen == "wsgi" and _asynchronous(app):
        raise LoadError(f"{target} is asynchronous, so no WSGI application: say interface=asgi")
    if chosen != "auto":
        return chosen
    try:
        return _of(app)
    except LoadError as exc:
        raise LoadError(f"{target} {exc}") from None


def _of(app: Any) -> str:
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        raise LoadError(f"does not tell what it takes: {SAY}") from None

    asgi, wsgi = _takes(signature, 3), _takes(signature, 2)
    if _asynchronous(app):
        wsgi = False
    if asgi and wsgi:
        asgi, wsgi = _named(signature, ASGI_NAMES), _named(signature, WSGI_NAMES)
        if not asgi and not wsgi:
            raise LoadError(f"can be called as ASGI and as WSGI: {SAY}")
    if asgi:
        return "asgi"
    if wsgi and not (inspect.isclass(app) and not hasattr(app, "__iter__")):
        return "wsgi"
    if _takes(signature, 0):
        raise LoadError(
            "looks like a factory of an application: say factory=on (--factory of the command line)"
        )
    if _takes(signature, 1) and (inspect.isclass(app) or _named(signature, ("scope",))):
        raise LoadError(
            "looks like ASGI 2: wrap it in asgiref.compatibility.guarantee_single_callable"
        )
    raise LoadError(
        "is neither an ASGI application, which takes (scope, receive, send), nor a WSGI one,"
        " which takes (environ, start_response)"
    )


def _asynchronous(app: Any) -> bool:
    call = getattr(app, "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(call)


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _named(signature: inspect.Signature, names: tuple[str, ...]) -> bool:
    """Whether the first parameters have the names that everybody gives them."""
    return tuple(signature.parameters)[: len(names)] == names


def compresses(app: Any) -> bool:
    """Whether an application has Starlette's GZipMiddleware, or a mounted one has.

    It compresses files that are read, as under servers without pathsend, but passes
    their paths on as they are.
    """
    gzip = sys.modules.get("starlette.middleware.gzip")
    if gzip is None:
        return False
    kinds = (getattr(middleware, "cls", None) for middleware in getattr(app, "user_middleware", ()))
    if any(isinstance(kind, type) and issubclass(kind, gzip.GZipMiddleware) for kind in kinds):
        return True
    mounted = (getattr(route, "app", None) for route in getattr(app, "routes", None) or ())
    return any(hasattr(inner, "user_middleware") and compresses(inner) for inner in mounted)
