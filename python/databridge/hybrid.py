"""Hybrid operations: Python validates and calls hooks, nginx's own thread writes.

An operation of a resource is hybrid when C cannot validate the model as pydantic does, or
when the class that declares the resource has a hook for it.  It is a FastAPI route, and the
write is the native store's, carried out on the nginx thread.
"""

import asyncio
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import pydantic_core
from fastapi import Body, Depends, HTTPException
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from databridge.crud import CrudError
from databridge.members import Members

if TYPE_CHECKING:
    import _databridge

METHODS = {"create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}

ATTEMPTS = 16
"""How often a document that others change as well is read again before 503."""


class Answer(NamedTuple):
    """What the store said; status 0: the document is not what it was any more."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def response(self) -> Response:
        media_type = "application/json" if self.body else None
        response = Response(self.body, self.status, media_type=media_type)
        response.raw_headers += self.headers
        return response


class Hook:
    """A method of the declaring class, and what it asks for besides the item and the id."""

    def __init__(self, name: str, function: Callable[..., Any], model: type[BaseModel]) -> None:
        self.function = function
        self.model = model
        self.given: dict[str, str] = {}
        others = []
        for parameter in _parameters(name, function):
            known = "item" if parameter.annotation is model else parameter.name
            if known not in ("item", "id"):
                others.append(parameter)
            elif (name, known) in _UNKNOWN:
                raise CrudError(f"{function.__qualname__}: {_UNKNOWN[name, known]}")
            else:
                self.given[parameter.name] = known
        self.dependency = _collector(others)

    async def __call__(self, arguments: Mapping[str, Any], **known: Any) -> Any:
        given = {name: known[what] for name, what in self.given.items()}
        if inspect.iscoroutinefunction(self.function):
            return await self.function(**given, **arguments)
        return await run_in_threadpool(self.function, **given, **arguments)


class Hooks:
    """The hooks of one operation."""

    def __init__(self, before: Hook | None, after: Hook | None) -> None:
        self.before = before
        self.after = after

    def parameters(self) -> list[inspect.Parameter]:
        return [
            _parameter(name, Annotated[dict[str, Any], Depends(hook.dependency)])
            for name, hook in (("before", self.before), ("after", self.after))
            if hook is not None
        ]

    async def run_before(self, values: Mapping[str, Any], **known: Any) -> Any:
        """The item, or the one that the hook would have instead of it."""
        item = known.get("item")
        if self.before is None:
            return item
        result = await self.before(values["before"], **known)
        if result is None or item is None:
            return item
        if not isinstance(result, self.before.model):
            name = self.before.function.__qualname__
            raise TypeError(f"{name}() must return None or an item, not {result!r}")
        return result

    async def run_after(self, values: Mapping[str, Any], **known: Any) -> None:
        if self.after is not None:
            await self.after(values["after"], **known)


def hooks_of(declaration: type) -> dict[str, Callable[..., Any]]:
    """The hooks among the attributes of a class that declares a resource, by name."""
    names = [name for name in vars(declaration) if is_hook(name)]
    if not names:
        return {}
    try:
        instance = declaration()
    except TypeError as exc:
        raise CrudError(
            f"{declaration.__name__}: a class with hooks is made once, without arguments: {exc}"
        ) from exc
    hooks = {name: getattr(instance, name) for name in names}
    for name, hook in hooks.items():
        if not callable(hook):
            raise CrudError(f"{declaration.__name__}.{name}: a hook is a method, not {hook!r}")
    return hooks


def is_hook(name: str) -> bool:
    when, _, operation = name.partition("_")
    return when in ("before", "after") and operation in METHODS


def reasons(hooks: Mapping[str, Any]) -> dict[str, str]:
    """Which operations are hybrid because of hooks, and why."""
    return {
        operation: f"Python has {' and '.join(names)}"
        for operation in METHODS
        if (names := [name for name in _names(hooks, operation) if name is not None])
    }


def _names(hooks: Mapping[str, Any], operation: str) -> list[str | None]:
    """The names of the hooks before and after; a patch is an update unless it has its own."""
    names: list[str | None] = []
    for when in ("before", "after"):
        candidates = [f"{when}_{operation}"]
        if operation == "patch":
            candidates.append(f"{when}_update")
        names.append(next((name for name in candidates if name in hooks), None))
    return names


class Hybrid:
    """The Python side of a resource: its endpoints, one for each hybrid operation."""

    def __init__(
        self,
        model: type[BaseModel],
        schema: Mapping[str, Any],
        hooks: Mapping[str, Callable[..., Any]],
    ) -> None:
        self.name = str(schema["model"])
        self.members = Members(model, schema)
        self.timeout = schema.get("timeout")
        self.upsert = bool(schema.get("upsert"))
        self.hooks = {
            operation: Hooks(
                *(
                    None if name is None else Hook(name, hooks[name], model)
                    for name in _names(hooks, operation)
                )
            )
            for operation in METHODS
        }
        self.resource: _databridge.Resource | None = None

    def endpoint(self, operation: str) -> Callable[..., Any]:
        """A FastAPI endpoint, whose parameters are those of its hooks as well."""
        function: Callable[..., Any] = getattr(self, operation)
        parameters = [_parameter("request", Request)]
        if operation != "create":
            parameters.append(_parameter("id", str))
        if operation != "delete":
            parameters.append(_parameter("body", Annotated[Any, Body()]))

        async def endpoint(**values: Any) -> Response:
            answer: Answer = await function(**values)
            return answer.response()

        parameters += self.hooks[operation].parameters()
        endpoint.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        endpoint.__name__ = f"{operation}_{self.name.lower()}"
        return endpoint

    async def create(self, request: Request, body: Any, **values: Any) -> Answer:
        hooks = self.hooks["create"]
        scope = self.scope(request)
        body = await _checked(request, body)
        items = self.members.created(body, scope)
        for number, item in enumerate(items):
            items[number] = await hooks.run_before(values, item=item)
        answer = await self.call(
            "create",
            documents=[(self.members.id_of(item), self.members.text(item)) for item in items],
            many=isinstance(body, list),
            prefix=request.scope["path"],
            scope=scope,
        )
        if answer.status == 201 and hooks.after is not None:
            documents = pydantic_core.from_json(answer.body)
            stored = documents if isinstance(body, list) else [documents]
            for item, document in zip(items, stored, strict=True):
                await hooks.run_after(values, item=item, id=document["id"])
        return answer

    async def update(self, request: Request, id: str, body: Any, **values: Any) -> Answer:
        return await self.write("update", request, id, body, values)

    async def patch(self, request: Request, id: str, body: Any, **values: Any) -> Answer:
        return await self.write("patch", request, id, body, values)

    async def write(
        self, operation: str, request: Request, id: str, body: Any, values: Mapping[str, Any]
    ) -> Answer:
        """What depends on the document as it is, is tried until it was still that."""
        hooks = self.hooks[operation]
        scope = self.scope(request)
        body = await _checked(request, body)
        patch = operation == "patch"
        for _ in range(ATTEMPTS):
            current = None
            if patch or self.members.keeps:
                stored = await self.call("get", id=id, scope=scope)
                if stored.status == 404 and self.upsert and not patch:
                    current = b""
                elif stored.status != 200:
                    return stored
                else:
                    current = stored.body
            item, known = self.members.replaced(id, body, current, scope, patch)
            item = await hooks.run_before(values, item=item, id=known)
            answer = await self.call(
                operation,
                id=id,
                documents=[("", self.members.text(item, known, current))],
                current=current,
                prefix=request.scope["path"].rpartition("/")[0],
                **_conditions(request),
                scope=scope,
            )
            if answer.status != 0:
                break
        else:
            raise HTTPException(503, headers={"Retry-After": "1"})
        if answer.status < 300:
            await hooks.run_after(values, item=item, id=known)
        return answer

    async def delete(self, request: Request, id: str, **values: Any) -> Answer:
        hooks = self.hooks["delete"]
        scope = self.scope(request)
        known, errors = self.members.parsed(id)
        self.members.refuse(errors, None)
        await hooks.run_before(values, id=known)
        answer = await self.call("delete", id=id, **_conditions(request), scope=scope)
        if answer.status == 204:
            await hooks.run_after(values, id=known)
        return answer

    def scope(self, request: Request) -> list[str]:
        """What nginx says of this request's caller, in the order of the resource's scope."""
        told = request.scope.get("extensions", {}).get("databridge", {})
        values: list[str] = told.get("scope", [])
        if len(values) != len(self.members.scope) or not all(map(_is_text, values)):
            raise HTTPException(403)
        return values

    async def call(self, operation: str, **values: Any) -> Answer:
        if self.resource is None:
            raise HTTPException(
                503, f"{self.name} is stored by nginx: start the application with 'databridge run'"
            )
        try:
            async with asyncio.timeout(self.timeout):
                return Answer(*await self.resource.call(operation, **values))
        except TimeoutError:
            raise HTTPException(504) from None


def _is_text(value: str) -> bool:
    """Bytes that were not UTF-8 are lone surrogates."""
    try:
        return len(value.encode()) > 0
    except UnicodeEncodeError:
        return False


def _conditions(request: Request) -> dict[str, str | None]:
    names = ("if-match", "if-none-match")
    return {name.replace("-", "_"): request.headers.get(name) for name in names}


#: What json.loads() takes and no JSON has, or what may be it.
_DOUBTFUL = re.compile(rb"NaN|Infinity|[0-9][eE]\+?[0-9]{3}|[0-9]{300}|\\u[dD][89a-fA-F]")


async def _checked(request: Request, body: Any) -> Any:
    """The body, unless it is what native CRUD refuses and FastAPI does not."""
    if isinstance(body, bytes):
        try:
            return body.decode()
        except UnicodeDecodeError:
            raise HTTPException(400, "There was an error parsing the body") from None
    if _DOUBTFUL.search(await request.body()):
        try:
            json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
        except ValueError as exc:
            error = {
                "type": "json_invalid",
                "loc": ("body", 0),
                "msg": "JSON decode error",
                "input": {},
                "ctx": {"error": _REFUSED[type(exc)]},
            }
            raise RequestValidationError([error]) from exc
    return body


_REFUSED = {
    ValueError: "Out of range float values are not JSON compliant",
    UnicodeEncodeError: "Lone surrogate in a string",
}


#: What a hook cannot be given.
_UNKNOWN = {
    ("before_create", "id"): "a new document has no id yet",
    ("before_delete", "item"): "a document that is deleted is not read: there is no item",
    ("after_delete", "item"): "a document that is deleted is not read: there is no item",
}


def _parameters(name: str, function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(function, eval_str=True).parameters.values()
    except (NameError, TypeError, ValueError) as exc:
        raise CrudError(f"the parameters of {name} cannot be read: {exc}") from exc
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [parameter for parameter in parameters if parameter.kind not in variable]


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)


def _collector(parameters: Sequence[inspect.Parameter]) -> Callable[..., Any]:
    """A dependency that takes these parameters and returns them by name."""

    async def collect(**values: Any) -> dict[str, Any]:
        return values

    collect.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    return collect
