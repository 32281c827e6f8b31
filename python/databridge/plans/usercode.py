"""Functions of users inside a validator: found in pydantic's core schemas.

A plan validates before the dependencies run, and FastAPI validates again what a plan
could not take.  Neither is seen when all that runs is pydantic's own.
"""

import types
from collections.abc import Callable
from typing import Any, Final

LIBRARIES: Final = frozenset(
    {
        "annotated_types",
        "builtins",
        "datetime",
        "decimal",
        "email_validator",
        "enum",
        "fastapi",
        "ipaddress",
        "pathlib",
        "pydantic",
        "pydantic_core",
        "pydantic_extra_types",
        "re",
        "sqlmodel",
        "starlette",
        "time",
        "typing",
        "uuid",
        "zoneinfo",
    }
)
"""Whose functions neither keep state nor depend on what runs before them."""


class UserCode:
    """Looks schemas through, each of a model's but once."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, str | None]] = {}

    def validating(self, schema: Any) -> str | None:
        """A function of the user's that validates by this schema, by its name."""
        return self._find(schema)

    def _find(self, schema: Any) -> str | None:
        if isinstance(schema, (list, tuple)):
            return next((name for item in schema if (name := self._find(item))), None)
        if not isinstance(schema, dict):
            return None
        seen = self._seen.get(id(schema))
        if seen is not None:
            return seen[1]
        self._seen[id(schema)] = schema, None
        found = _own(schema) or next(
            (
                name
                for key, value in schema.items()
                if key not in ("serialization", "metadata", "config", "computed_fields")
                and (name := self._find(value))
            ),
            None,
        )
        self._seen[id(schema)] = schema, found
        return found


def is_users(function: Any) -> bool:
    """Whether a callable is neither pydantic's nor the standard library's."""
    if function is None:
        return False
    while (inner := getattr(function, "func", None)) is not None:
        function = inner
    if isinstance(function, (types.MethodType, classmethod, staticmethod)):
        function = function.__func__
    module = getattr(function, "__module__", None) or type(function).__module__
    return str(module).partition(".")[0] not in LIBRARIES


def _own(schema: dict[str, Any]) -> str | None:
    """The user's function that this part of a schema calls itself."""
    match schema.get("type"):
        case "function-before" | "function-after" | "function-wrap" | "function-plain":
            function = schema["function"]
            return _name(function["function"] if isinstance(function, dict) else function)
        case "default" if "default_factory" in schema:
            return _name(schema["default_factory"])
        case "enum" if "missing" in schema:
            return _name(schema["missing"])
        case "tagged-union" if callable(schema["discriminator"]):
            return _name(schema["discriminator"])
        case "model" | "dataclass":
            return _of_class(schema)
        case "custom-error" | "call" | "is-instance" | "is-subclass":
            return _name(schema.get("function"))
    return None


def _of_class(schema: dict[str, Any]) -> str | None:
    kind = schema["cls"]
    if schema.get("custom_init") and is_users(kind.__init__):
        return f"{kind.__name__}.__init__"
    name = schema.get("post_init")
    if name is True:
        name = "__post_init__"
    if name and is_users(getattr(kind, name, None)):
        return f"{kind.__name__}.{name}"
    return None


def _name(function: Callable[..., Any] | None) -> str | None:
    if not is_users(function):
        return None
    return str(getattr(function, "__qualname__", None) or function)
