"""From a pydantic model and its options to the schema that native CRUD compiles."""

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypedDict, Unpack

from pydantic import BaseModel

from databridge import _crud
from databridge.schema import CrudError, compile_model, require_model

__all__ = ["OPERATIONS", "OPTIONS", "CrudError", "CrudOptions", "schema_for"]

OPERATIONS = ("list", "get", "create", "update", "patch", "delete")


class CrudOptions(TypedDict, total=False):
    """What a resource may be told, besides its model; None is as good as not given."""

    #: The path of the collection: "/article" when it is left out.
    prefix: str | None
    #: Its name in the store: "article".
    collection: str | None
    #: The name of a store: "main".
    store: str | None
    #: Those that are served; all of `OPERATIONS` when it is left out.
    operations: Sequence[str] | None
    #: PUT of an id that is not there creates the document.
    upsert: bool
    #: Documents have versions, which are their ETags, for If-Match and If-None-Match.
    version: bool
    #: PUT, PATCH and DELETE must say by If-Match what they are about; implies `version`.
    require_match: bool
    #: True: the server keeps `created_at` and `updated_at`; or fields named otherwise, by
    #: "created" and "updated".
    timestamps: bool | Mapping[str, str]
    #: A field and an nginx variable: who sees and writes which documents.
    scope: Mapping[str, str] | None
    #: Seconds that a request waits for the store.
    timeout: float | None
    #: Documents of a page, and how many a client may ask for: 20 and 1000.
    limit: int | None
    max_limit: int | None
    #: Fields that a client cannot set, nor change.
    read_only: Sequence[str] | None
    #: Fields that are set by create, for ever.
    immutable: Sequence[str] | None
    #: Fields that are stored and never answered.
    write_only: Sequence[str] | None
    #: Sorts that are served by an index, each written as in `?sort=`.
    index: Sequence[str] | None
    #: Fields of which no two documents have the same: "email", "tenant,slug".
    unique: Sequence[str] | None
    #: Names of the fields that a filter may search with `$regex`.
    regex: Sequence[str] | None
    #: Whether the application's OpenAPI document has it: True.
    include_in_schema: bool | None


#: The options, in the order in which messages list them.
OPTIONS = tuple(CrudOptions.__annotations__)

_FLAGS = ("upsert", "version", "require_match")

#: What a schema has as it is given.
_VALUES = ("scope", "timeout", "limit", "max_limit")

#: Names of fields, which are told of the fields themselves.
_ACCESS = ("read_only", "immutable", "write_only")

#: Lists, which one string is not.
_LISTS = ("index", "unique", "regex")

_STAMPS = {"created": "created_at", "updated": "updated_at"}


def schema_for(
    model: type[BaseModel],
    hybrid: Mapping[str, str] = MappingProxyType({}),
    /,
    **options: Unpack[CrudOptions],
) -> dict[str, Any]:
    """The schema of a model's resource, checked by compiling it.

    `hybrid` has the operations that are Python's in any case, each with the reason.
    """
    require_model(model)
    name = model.__name__
    given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    _check_options(name, given)
    schema: dict[str, Any] = {
        "databridge": 1,
        "model": name,
        "collection": given.get("collection", name.lower()),
        "prefix": given.get("prefix", f"/{name.lower()}"),
        "store": given.get("store", "main"),
        "operations": list(given.get("operations", OPERATIONS)),
        **{option: True for option in _FLAGS if given.get(option)},
        **{option: given[option] for option in _VALUES if option in given},
        **{option: list(given[option]) for option in _LISTS if given.get(option)},
    }
    if timestamps := given.get("timestamps"):
        schema["timestamps"] = _STAMPS if timestamps is True else dict(timestamps)
    schema |= compile_model(model, schema["operations"])
    _set_hybrid(schema, hybrid)
    for option in _ACCESS:
        _set_access(name, schema["fields"], option, given.get(option, ()))
    try:
        _crud.compile(json.dumps(schema, ensure_ascii=False, allow_nan=False))
    except TypeError as exc:
        raise CrudError(f"{name}: an option has no JSON form: {exc}") from exc
    except ValueError as exc:
        raise CrudError(str(exc)) from None
    return schema


def _check_options(name: str, given: Mapping[str, Any]) -> None:
    """Refuses what is not even of an option's type; what it says is C's to judge."""
    for option, value in given.items():
        wanted = None
        if option not in OPTIONS:
            raise CrudError(
                f"{name}: {option}= is not an option of CRUD; it takes {', '.join(OPTIONS)}"
            )
        if option in (*_LISTS, *_ACCESS):
            if isinstance(value, str):
                wanted = f"a list: [{value!r}]"
            elif not isinstance(value, Sequence):
                wanted = "a list of names"
        elif option in _FLAGS:
            wanted = None if isinstance(value, bool) else "True or False"
        elif option == "timestamps":
            if not isinstance(value, (bool, Mapping)):
                wanted = f"True, or names for {' and '.join(_STAMPS)}"
        elif option == "scope" and not isinstance(value, Mapping):
            wanted = 'a variable for each field: {"owner": "$remote_user"}'
        if wanted is not None:
            raise CrudError(f"{name}: {option}={value!r} must be {wanted}")


def _set_hybrid(schema: dict[str, Any], more: Mapping[str, str]) -> None:
    """Adds reasons to those of the model, for what is served."""
    of_model = schema.pop("hybrid", {})
    reasons = {
        operation: "; ".join(why[operation] for why in (of_model, more) if operation in why)
        for operation in schema["operations"]
        if operation in of_model or operation in more
    }
    if reasons:
        schema["hybrid"] = reasons


def _set_access(
    model: str, fields: Sequence[dict[str, Any]], option: str, names: Iterable[str]
) -> None:
    known = {field["name"]: field for field in fields}
    for name in names:
        if name not in known:
            raise CrudError(
                f"{model}: {option} names {name!r}, which is not a field of the model;"
                f" it has {', '.join(known)}"
            )
        known[name][option] = True
