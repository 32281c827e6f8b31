"""What an application's own OpenAPI document says of native CRUD.

Each operation of a resource is an `APIRoute` beside its `CrudRoute` which matches nothing:
nginx serves the operation, and FastAPI documents the route as it documents its own, with
shared components and whatever an application does to documents or operation ids.
"""

from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Annotated, Any, ClassVar

from fastapi import Body, Path
from fastapi.routing import APIRoute
from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    WithJsonSchema,
    create_model,
)
from pydantic_core import CoreSchema
from starlette.routing import Match
from starlette.types import Scope

from databridge import _crud, openapi
from databridge.openapi import Json, Operation, Schema


class ErrorDetail(BaseModel):
    detail: str


class CrudOperation(APIRoute):
    """An operation of a native resource, for documents alone."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return Match.NONE, {}


def documented(
    model: type[BaseModel], schema: Schema, unique_id: Callable[[APIRoute], str]
) -> list[CrudOperation]:
    """The operations of a resource as routes of FastAPI's."""
    bodies = _bodies(model, schema)
    return [
        _route(schema, operation, bodies, unique_id) for operation in openapi.operations(schema)
    ]


def _route(
    schema: Schema,
    operation: Operation,
    bodies: Mapping[str, Any],
    unique_id: Callable[[APIRoute], str],
) -> CrudOperation:
    # FastAPI says 422 of whatever has a parameter or a body of its own, and of nothing else
    invalid = 422 in operation.answers
    arguments = []
    parameters = []
    for parameter in operation.parameters:
        if parameter["in"] == "path" and invalid:
            annotation = Annotated[Any, Path(), WithJsonSchema(parameter["schema"])]
            arguments.append(_argument(parameter["name"], annotation))
        else:
            parameters.append(parameter)
    extra: Json = {"parameters": parameters} if parameters else {}
    if operation.body is not None:
        arguments.append(_argument("body", Annotated[bodies[operation.body], Body()]))
    if operation.body == "patch":
        content = {openapi.PATCH_TYPE: {"schema": {"type": "object"}}}
        extra["requestBody"] = {"content": content}

    answers: dict[int | str, dict[str, Any]] = {}
    for status, answer in operation.answers.items():
        if answer.body == "invalid":
            continue
        answers[status] = {"description": answer.description}
        if answer.headers:
            answers[status]["headers"] = dict(answer.headers)
        if answer.body is not None:
            answers[status]["model"] = bodies[answer.body]
    success = answers[operation.status]

    return CrudOperation(
        operation.path,
        _endpoint(arguments),
        methods=[operation.method],
        name=openapi.operation_name(schema, operation),
        tags=[schema["model"]],
        summary=operation.summary,
        description=operation.description,
        status_code=operation.status,
        response_model=success.pop("model", None),
        response_description=success["description"],
        responses=answers,
        openapi_extra=extra,
        generate_unique_id_function=unique_id,
    )


def _argument(name: str, annotation: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation)


def _endpoint(arguments: list[Parameter]) -> Callable[..., None]:
    def endpoint(**arguments: Any) -> None:
        raise AssertionError("an operation of native CRUD is served by nginx")

    endpoint.__signature__ = Signature(arguments)  # type: ignore[attr-defined]
    return endpoint


# Bodies: models that are there for their JSON schema alone.


class _Described(BaseModel):
    describe: ClassVar[Callable[[CoreSchema, GetJsonSchemaHandler], Json]]

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return {**cls.describe(core, handler), "title": cls.__name__}


def _bodies(model: type[BaseModel], schema: Schema) -> dict[str, Any]:
    """What is in the requests and answers of a resource, as annotations."""

    def derived(suffix: str, change: Callable[[Json, Schema], Json]) -> Any:
        def describe(core: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
            inner = handler(model.__pydantic_core_schema__)
            return change(handler.resolve_ref_schema(inner), schema)

        made = create_model(f"{model.__name__}{suffix}", __base__=_Described)
        made.describe = describe
        return made

    def paged(core: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        inner = handler.resolve_ref_schema(handler(core))
        return openapi.page_of(inner["properties"]["items"]["items"], schema)

    taken: Any = model if openapi.takes_as_declared(schema) else derived("Input", openapi.input_of)
    document: Any = (
        model if openapi.answers_as_declared(schema) else derived("Document", openapi.document_of)
    )
    page = create_model(f"{model.__name__}Page", __base__=_Described, items=(list[document], ...))
    page.describe = paged
    return {
        "create": _one_or_many(taken),
        "update": taken,
        "patch": derived("Patch", openapi.patch_of),
        "document": document,
        "created": _one_or_many(document),
        "page": page,
        "error": ErrorDetail,
    }


def _one_or_many(one: Any) -> Any:
    many = Annotated[list[one], Field(max_length=_crud.MAX_ITEMS)]
    return Annotated[
        Annotated[one, Tag("one")] | Annotated[many, Tag("many")],
        Discriminator(lambda value: "many" if isinstance(value, list) else "one"),
    ]
