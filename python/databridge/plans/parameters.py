"""Parameters and bodies: FastAPI's fields as `spec.Field`, `Computed` and `BodyField`."""

import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final

from fastapi._compat import ModelField, field_annotation_is_sequence
from fastapi.dependencies.utils import (
    _get_param_aliases,
    _get_param_model,
    _is_json_field,
    request_params_to_args,
)
from pydantic.plugin._schema_validator import PluggableSchemaValidator
from pydantic_core import SchemaValidator
from starlette.requests import Request

from databridge.plans import Unplanned
from databridge.plans.spec import (
    REQUIRED,
    BodyField,
    Computed,
    Fast,
    Field,
    Source,
)

RECEIVED: Final[dict[Source, Callable[[Request], Any]]] = {
    Source.PATH: lambda request: request.path_params,
    Source.QUERY: lambda request: request.query_params,
    Source.HEADER: lambda request: request.headers,
    Source.COOKIE: lambda request: request.cookies,
}

ASCII: Final = re.compile(r"[!-~]+")
"""Names that are the same however a request's bytes are decoded."""


class Invalid(Exception):
    """A value that FastAPI has to refuse."""


def parameter(
    field: ModelField, source: Source, slot: int, convertors: dict[str, str]
) -> Field | Computed:
    """A parameter of the path, the query, the headers or the cookies.

    `convertors` are those of the parameters that the path has.
    """
    validator = ready(field)
    aliases = [alias for _, alias in _get_param_aliases(field)]
    sequence = field_annotation_is_sequence(field.field_info.annotation)
    many = sequence and source in (Source.QUERY, Source.HEADER) and not _is_json_field(field)
    if (
        _get_param_model(field) is not None
        or sequence
        and not many
        or not all(map(ASCII.fullmatch, aliases))
    ):
        return Computed(slot, _computation(field, source))

    if source is Source.PATH and aliases[0] not in convertors:
        raise Unplanned(f"the path has no {{{aliases[0]}}}: FastAPI answers 422 always")

    if source is Source.HEADER:
        aliases = [alias.lower() for alias in aliases]
    default, factory = default_of(field)
    fast = Fast.NOTHING
    if not many:
        fast = _fast(field._type_adapter.core_schema, convertors.get(aliases[0], "str"))
    return Field(
        source,
        tuple(alias.encode() for alias in aliases),
        slot,
        many,
        fast,
        validator.validate_python,
        default,
        factory,
    )


def body_field(field: ModelField, slot: int, *, embedded: bool) -> BodyField:
    """The body, or a member of it."""
    names = tuple(alias for alias, _ in _get_param_aliases(field)) if embedded else ()
    default, factory = default_of(field)
    return BodyField(names, slot, ready(field).validate_python, default, factory)


def ready(field: ModelField) -> SchemaValidator:
    """The field's validator, once forward references have been found."""
    adapter = field._type_adapter
    if type(adapter.validator) not in (SchemaValidator, PluggableSchemaValidator):
        adapter.rebuild(raise_errors=False)
    validator = adapter.validator
    if type(validator) is PluggableSchemaValidator:
        own = validator._schema_validator
        if validator.validate_python != own.validate_python:
            raise Unplanned(f"a plugin of pydantic watches {field.name}")
        validator = own
    if type(validator) is not SchemaValidator:
        raise Unplanned(
            f"the type of {field.name} is not complete: define the names it refers to before"
            " the application starts"
        )
    return validator


def default_of(field: ModelField) -> tuple[Any, Callable[[], Any] | None]:
    """The default and, for what is not always the same object, what makes it."""
    info = field.field_info
    if info.is_required():
        return REQUIRED, None
    if info.validate_default:
        return None, _validated_default(field)
    if info.default_factory is None and deepcopy(field.default) is field.default:
        return field.default, None
    return None, lambda: deepcopy(field.default)


def _validated_default(field: ModelField) -> Callable[[], Any]:
    def default() -> Any:
        value, errors = field.validate(deepcopy(field.default))
        if errors:
            raise Invalid
        return value

    return default


def _computation(field: ModelField, source: Source) -> Callable[[Request], Any]:
    received = RECEIVED[source]

    def compute(request: Request) -> Any:
        values, errors = request_params_to_args([field], received(request))
        if errors:
            raise Invalid
        return values[field.name]

    return compute


def _fast(schema: Any, convertor: str) -> Fast:
    """Whether text is a value as it is, or as soon as its digits have been read."""
    while schema["type"] in ("default", "nullable"):
        schema = schema["schema"]
    plain = schema.keys() <= {"type", "metadata"}
    if plain and schema["type"] == "str" and convertor in ("str", "path"):
        return Fast.STR
    if plain and schema["type"] == "int" and convertor in ("str", "path", "int"):
        return Fast.INT
    return Fast.NOTHING
