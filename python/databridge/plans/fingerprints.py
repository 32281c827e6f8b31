"""Which code of FastAPI, Starlette and pydantic plans imitate, and whether this is it.

A plan does what these functions do without calling them.  Their sources are therefore
hashed: a release whose hashes are not in known.json, or a function that somebody has
patched, means no plans.  `python -m databridge.plans.fingerprints` prints what known.json
has to be with the installed release, once the differential tests pass with it.
"""

import contextlib
import functools
import hashlib
import importlib
import inspect
import json
import os
import types
from collections.abc import Iterator
from importlib import metadata, resources
from typing import Any, Final

IMITATED: Final = {
    "fastapi.applications": ("FastAPI.__call__", "FastAPI.build_middleware_stack"),
    "fastapi.background": ("BackgroundTasks.__call__",),
    "fastapi._body_limit": ("AppBodyLimitMiddleware.__call__", "wrap_app_with_body_limit"),
    "fastapi._compat.v2": (
        "ModelField.get_default",
        "ModelField.serialize",
        "ModelField.serialize_json",
        "ModelField.validate",
    ),
    "fastapi._compat.shared": ("field_annotation_is_sequence",),
    "fastapi.concurrency": (
        "_asynccontextmanager_with_shielded_exit",
        "contextmanager_in_threadpool",
    ),
    "fastapi.dependencies.models": (
        "_get_cache_key",
        "_get_computed_scope",
        "_get_oauth_scopes",
        "_is_async_gen_callable_cached",
        "_is_coroutine_callable_cached",
        "_is_gen_callable_cached",
        "_uses_scopes",
    ),
    "fastapi.dependencies.utils": (
        "_get_multidict_value",
        "_get_param_aliases",
        "_get_param_model",
        "_is_json_field",
        "_should_embed_body_fields",
        "_solve_generator",
        "_validate_value_with_model_field",
        "get_dependant",
        "request_body_to_args",
        "request_params_to_args",
        "solve_dependencies",
    ),
    "fastapi.encoders": ("jsonable_encoder",),
    "fastapi.exception_handlers": ("http_exception_handler",),
    "fastapi.middleware.asyncexitstack": ("AsyncExitStackMiddleware.__call__",),
    "fastapi.routing": (
        "APIRoute.get_route_handler",
        "APIRoute.handle",
        "APIRoute.matches",
        "APIRouter.app",
        "APIRouter.handle",
        "APIRouter.matches",
        "_EffectiveRouteContext.from_api_route",
        "_EffectiveRouteContext.matches",
        "_IncludedRouter._handle_selected",
        "_IncludedRouter._match",
        "_IncludedRouter.handle",
        "_IncludedRouter.matches",
        "_build_response_args",
        "_populate_api_route_state",
        "get_request_handler",
        "request_response",
        "run_endpoint_function",
        "serialize_response",
    ),
    "fastapi.telemetry._asgi": (
        "ExceptionTelemetryMiddleware.__call__",
        "NativeTelemetry.enabled",
    ),
    "starlette._exception_handler": ("_lookup_exception_handler", "wrap_app_handling_exceptions"),
    "starlette._utils": ("get_route_path", "parse_host_header"),
    "starlette.applications": ("Starlette.__call__",),
    "starlette.background": ("BackgroundTasks.add_task",),
    "starlette.concurrency": ("_next", "iterate_in_threadpool", "run_in_threadpool"),
    "starlette.convertors": (
        "FloatConvertor.convert",
        "IntegerConvertor.convert",
        "PathConvertor.convert",
        "StringConvertor.convert",
        "UUIDConvertor.convert",
    ),
    "starlette.datastructures": (
        "Headers.__getitem__",
        "Headers.getlist",
        "ImmutableMultiDict.__init__",
        "ImmutableMultiDict.getlist",
        "QueryParams.__init__",
    ),
    "starlette.middleware.cors": ("CORSMiddleware.__call__", "CORSMiddleware.send"),
    "starlette.middleware.errors": ("ServerErrorMiddleware.__call__",),
    "starlette.middleware.exceptions": ("ExceptionMiddleware.__call__",),
    "starlette.middleware.httpsredirect": ("HTTPSRedirectMiddleware.__call__",),
    "starlette.middleware.trustedhost": ("TrustedHostMiddleware.__call__",),
    "starlette.requests": (
        "HTTPConnection.cookies",
        "HTTPConnection.query_params",
        "Request.body",
        "Request.json",
        "cookie_parser",
    ),
    "starlette.responses": (
        "JSONResponse.render",
        "Response.__call__",
        "Response.__init__",
        "Response.init_headers",
        "Response.render",
        "StreamingResponse.__call__",
        "StreamingResponse.__init__",
        "StreamingResponse.stream_response",
    ),
    "starlette.routing": ("Route.handle", "Router.__call__", "compile_path"),
}

IMPORTED: Final = {
    "fastapi.routing": {
        "JSONResponse": "starlette.responses",
        "Response": "starlette.responses",
        "jsonable_encoder": "fastapi.encoders",
        "run_in_threadpool": "starlette.concurrency",
        "solve_dependencies": "fastapi.dependencies.utils",
        "wrap_app_handling_exceptions": "starlette._exception_handler",
        "wrap_app_with_body_limit": "fastapi._body_limit",
    },
    "fastapi.dependencies.utils": {
        "_get_cache_key": "fastapi.dependencies.models",
        "contextmanager_in_threadpool": "fastapi.concurrency",
        "run_in_threadpool": "starlette.concurrency",
    },
    "starlette.responses": {
        "ClientDisconnect": "starlette.requests",
        "iterate_in_threadpool": "starlette.concurrency",
    },
}
"""Names by which these modules call what is another's."""

Fingerprints = dict[str, str]


class Patched(Exception):
    """A function is not the library's own."""


def difference() -> str | None:
    """Why the installed libraries are none that plans know, if so."""
    known = _known()
    release = installed()
    advice = f"install a release that is ({'; '.join(known)}), or a newer databridge"
    try:
        found = fingerprints()
    except Patched as exc:
        return str(exc) if release in known else f"{release} is not known to plans: {advice}"
    except (AttributeError, ImportError, OSError) as exc:
        return f"{release} is not known to plans, {exc}: {advice}"
    if found in known.values():
        return None

    changed: list[str] = min(
        ([name for name, digest in found.items() if table.get(name) != digest], of)
        for of, table in known.items()
    )[0]
    others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"{release} is not known to plans, {changed[0]}{others} differs: {advice}"


def installed() -> str:
    """The release as known.json names it; of pydantic the minor is enough."""
    fastapi, starlette, pydantic = map(metadata.version, ("fastapi", "starlette", "pydantic"))
    return f"fastapi {fastapi}, starlette {starlette}, pydantic {pydantic.rpartition('.')[0]}"


def fingerprints() -> Fingerprints:
    """Hashes of all that is imitated, and the release of pydantic's core."""
    found = {"pydantic": metadata.version("pydantic").rpartition(".")[0]}
    for name in IMITATED:
        module = importlib.import_module(name)
        lines = _lines(module)
        for qualname in IMITATED[name]:
            text = _source(module, qualname, lines)
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            found[f"{name}.{qualname}"] = digest
    for name, imported in IMPORTED.items():
        for attribute, home in imported.items():
            here = getattr(importlib.import_module(name), attribute)
            if here is not getattr(importlib.import_module(home), attribute):
                raise Patched(f"{name}.{attribute} is patched, by {_owner(here)}")
    return found


@functools.cache
def _known() -> dict[str, Fingerprints]:
    text = resources.files("databridge.plans").joinpath("known.json").read_text("utf-8")
    known: dict[str, Fingerprints] = json.loads(text)
    return known


@functools.cache
def _lines(module: types.ModuleType) -> list[str]:
    with open(str(module.__file__), encoding="utf-8") as file:
        return file.read().split("\n")


def _source(module: types.ModuleType, qualname: str, lines: list[str]) -> str:
    found: Any = module
    for name in qualname.split("."):
        found = inspect.getattr_static(found, name)
    function = _function(found)
    plain = type(function) is types.FunctionType
    if not plain or not _same(function.__code__.co_filename, str(module.__file__)):
        raise Patched(f"{module.__name__}.{qualname} is patched, by {_owner(found)}")
    return "\n".join(_block(lines, function.__code__.co_firstlineno - 1))


@functools.cache
def _same(path: str, other: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def _owner(found: Any) -> str:
    """Whose a function is, whatever it says of itself; of wrapt's proxies the wrapper's."""
    wrapper = found if type(found) is types.FunctionType else getattr(found, "_self_wrapper", None)
    code = getattr(wrapper, "__code__", None)
    return type(found).__module__ if code is None else str(code.co_filename)


def _function(found: Any) -> Any:
    """What stands in the source; a proxy that passes for its function is none."""
    kind = type(found)
    if kind is property:
        return found.fget
    if kind is staticmethod or kind is classmethod:
        return found.__func__
    if kind is functools._lru_cache_wrapper:
        return found.__wrapped__
    if kind is types.FunctionType and found.__code__.co_filename == contextlib.__file__:
        return found.__wrapped__
    return found


def _block(lines: list[str], first: int) -> Iterator[str]:
    """A function's lines: those that are indented deeper, or close its signature."""
    indent = _indent(lines[first])
    head = True
    for line in lines[first:]:
        text = line.strip()
        if text and not head and _indent(line) <= indent and not text.startswith(")"):
            return
        head = head and not text.startswith(("def ", "async def "))
        yield line.rstrip()


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


if __name__ == "__main__":
    print(json.dumps({**_known(), installed(): fingerprints()}, indent=1, sort_keys=True))
