"""The walk from a pydantic model to what its schema says of fields and types.

It goes over pydantic's core schema, which says exactly what pydantic would do.  What it knows
here is what C does to the byte.  What only pydantic can validate makes the resource's writing
hybrid: the walk notes why, naming model and field, and goes on with what filters can know of
the field.  What cannot be served at all is a CrudError.
"""

import datetime
import decimal
import enum
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pydantic_core
from pydantic import BaseModel

from databridge import _crud
from databridge.factories import factory_name

#: Members of a core schema that change nothing of what is validated or stored here.
_HARMLESS = frozenset({"type", "ref", "metadata", "title", "frozen", "copy_default", "deprecated"})

#: The same of a model's configuration.
_HARMLESS_CONFIG = frozenset(
    {
        "cache_strings",
        "from_attributes",
        "frozen",
        "ser_json_inf_nan",
        "serialize_by_alias",
        "title",
        "validate_assignment",
        "validate_by_alias",
        "validate_by_name",
        "validate_default",
        "revalidate_instances",
    }
)

#: What a core schema may say of a scalar, and the schema's word for it.
_CONSTRAINTS: Mapping[str, Mapping[str, str]] = {
    "str": {
        "min_length": "min_length",
        "max_length": "max_length",
        "pattern": "pattern",
        "strip_whitespace": "strip_whitespace",
    },
    "int": {name: name for name in ("gt", "ge", "lt", "le", "multiple_of")},
    "float": {name: name for name in ("gt", "ge", "lt", "le", "multiple_of")},
    "bool": {},
    "datetime": {},
    "uuid": {},
    "date": {},
    "time": {},
    "timedelta": {},
    "bytes": {"min_length": "min_length", "max_length": "max_length"},
    "decimal": {name: name for name in ("gt", "ge", "lt", "le", "max_digits", "decimal_places")},
}

#: What a default of a type must be, to be stored as it is.
_PYTHON_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "datetime": datetime.datetime,
    "uuid": uuid.UUID,
    "date": datetime.date,
    "time": datetime.time,
    "timedelta": datetime.timedelta,
    "bytes": bytes,
    "decimal": decimal.Decimal,
    "list": list,
    "dict": dict,
    "model": BaseModel,
}

_Schema = dict[str, Any]
_Core = Mapping[str, Any]


class CrudError(TypeError):
    """A model, or an option of its resource, that native CRUD cannot serve."""

    __module__ = "databridge"


class _Python(Exception):
    """What a type has that only pydantic can validate: the message says what."""


def require_model(model: object) -> None:
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise CrudError(f"{model!r} is not a model: native CRUD takes a subclass of BaseModel")


def compile_model(model: type[BaseModel], operations: Sequence[str]) -> _Schema:
    """What a schema says of a model: id, extra, fields, models and hybrid operations."""
    return _Walk(model).compile(operations)


class _Walk:
    """One model with all that is nested in it."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.root = model
        self.models: dict[str, _Schema] = {}
        self.names: dict[type, str] = {}
        self.definitions: dict[str, _Core] = {}
        self.where = model.__name__
        self.reasons: list[str] = []
        self.inside = 0

    def compile(self, operations: Sequence[str]) -> _Schema:
        if not self.root.__pydantic_complete__:
            self.root.model_rebuild()
        core: _Core = self.root.__pydantic_core_schema__
        if core["type"] == "definitions":
            self.definitions = {item["ref"]: item for item in core["definitions"]}
            core = core["schema"]
        self.inside = int(core["type"] == "definition-ref")
        core = self.unwrap(self.resolve(core))
        if core.get("root_model"):
            raise self.error("a root model is no document: put its value into a field of a model")
        compiled = self.model(core)
        return {
            "id": self.id_kind(compiled),
            **compiled,
            **({"models": self.models} if self.models else {}),
            **self.hybrid(operations),
        }

    def hybrid(self, operations: Sequence[str]) -> _Schema:
        validated = [name for name in ("create", "update", "patch") if name in operations]
        if not (self.reasons and validated):
            return {}
        why = "; ".join(dict.fromkeys(self.reasons))
        return {"hybrid": dict.fromkeys(validated, why)}

    def error(self, message: str) -> CrudError:
        return CrudError(f"{self.where}: {message}")

    def python(self, message: str) -> None:
        """Notes why pydantic has to validate."""
        self.reasons.append(f"{self.where}: {message}")

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        before, self.where = self.where, where
        yield
        self.where = before

    def resolve(self, core: _Core) -> _Core:
        while core["type"] == "definition-ref":
            self.only(core, "schema_ref")
            core = self.definitions[core["schema_ref"]]
        return core

    def unwrap(self, core: _Core) -> _Core:
        """What is within the validators around a model, or its fields."""
        while core["type"].startswith("function-") and "schema" in core:
            self.python(_validator(core))
            core = self.resolve(core["schema"])
        if core["type"] not in ("model", "model-fields"):
            raise self.error(
                f"{_named(core)} takes the place of the model's own schema:"
                " declare the routes in Python"
            )
        return core

    def only(self, core: _Core, *known: str) -> None:
        """Leaves to pydantic what a core schema says beyond the known."""
        for name, value in core.items():
            if name in known or name in _HARMLESS or value is None:
                continue
            if name == "serialization":
                raise _Python("a serializer of its own is Python; remove it")
            if name == "strict" and not value:
                continue
            raise _Python(f"{name}={value!r} is only known to pydantic; remove it")

    def model(self, core: _Core) -> _Schema:
        """A model's own members of the schema: extra and fields."""
        cls: type[BaseModel] = core["cls"]
        with self.at(cls.__name__):
            if core.get("post_init") is not None:
                self.python("model_post_init() is Python; remove it")
            if core.get("custom_init"):
                self.python("its own __init__() is Python; remove it")
            try:
                self.only(
                    core,
                    *("cls", "schema", "config", "custom_init", "root_model"),
                    *("generic_origin", "post_init"),
                )
            except _Python as exc:
                self.python(str(exc))
            config = self.config(core.get("config", {}))
            inner = self.unwrap(self.resolve(core["schema"]))
            try:
                self.only(inner, "fields", "model_name", "computed_fields")
            except _Python as exc:
                self.python(str(exc))
            fields = []
            for name, field in inner["fields"].items():
                with self.at(f"{cls.__name__}.{name}"):
                    fields.append(self.field(name, field, config))
            for computed in inner.get("computed_fields", ()):
                with self.at(f"{cls.__name__}.{computed['property_name']}"):
                    fields.append(self.computed(computed, config))
            self.check_names(fields)
        extra = config.get("extra_fields_behavior", "ignore")
        return {"extra": "forbid" if extra == "forbid" else "ignore", "fields": fields}

    def config(self, config: _Core) -> _Core:
        known = {"str_strip_whitespace", "str_min_length", "str_max_length", "allow_inf_nan"}
        for name, value in config.items():
            if name in known or name in _HARMLESS_CONFIG or value is None:
                continue
            if name == "extra_fields_behavior":
                if value not in ("ignore", "forbid"):
                    self.python(
                        f"model_config extra={value!r} keeps members that are not declared;"
                        " use 'ignore' or 'forbid'"
                    )
            elif name == "loc_by_alias":
                if not value:
                    self.python("loc_by_alias=False is only known to pydantic; remove it")
            elif value is not False and value not in ("utf8", "iso8601", "infer"):
                self.python(f"model_config {name}={value!r} is only known to pydantic; remove it")
        return config

    def field(self, name: str, core: _Core, config: _Core) -> _Schema:
        if core.get("serialization_exclude") or core.get("serialization_exclude_if"):
            raise self.error(
                "exclude= is not supported: what is not answered is not stored either;"
                " leave the field out of the model, or make it write_only"
            )
        alias: str | None = core.get("serialization_alias")
        stored = name if alias is None else alias
        compiled = {"name": stored, **self.accepts(name, stored, core, config)}
        try:
            self.only(
                core, "schema", "validation_alias", "serialization_alias", "serialization_exclude"
            )
        except _Python as exc:
            self.python(str(exc))
        inner = self.resolve(core["schema"])
        if inner["type"] != "default":
            return compiled | self.type_of(inner, config)
        return compiled | self.with_default(inner, config)

    def accepts(self, name: str, stored: str, core: _Core, config: _Core) -> _Schema:
        """The names that a client may give a field, when it is not the one that it is stored by."""
        alias = core.get("validation_alias")
        names: list[str] = []
        if alias is None:
            names = [name]
        else:
            if config.get("validate_by_alias") is not False:
                paths = [[alias]] if isinstance(alias, str) else alias
                paths = [paths] if isinstance(paths[0], str) else paths
                for path in paths:
                    if len(path) == 1:
                        names.append(path[0])
                    else:
                        self.python(f"the alias {path!r} is a path; use a name")
            if config.get("validate_by_name") or not names:
                names.append(name)
        names = list(dict.fromkeys(names))
        return {} if names == [stored] else {"accepts": names}

    def check_names(self, fields: list[_Schema]) -> None:
        """Each name belongs to one field."""
        taken: dict[str, _Schema] = {}
        for field in fields:
            for name in field.get("accepts", [field["name"]]):
                other = taken.setdefault(name, field)
                if other is not field:
                    self.python(
                        f"{other['name']!r} and {field['name']!r} are both read from {name!r};"
                        " give them names of their own"
                    )
                    other.pop("accepts", None)
                    field.pop("accepts", None)
                    break

    def computed(self, core: _Core, config: _Core) -> _Schema:
        self.python("a computed field is Python; store it as a field")
        reasons = list(self.reasons)
        compiled = self.type_of(core["return_schema"], config)
        self.reasons = reasons
        return {"name": core.get("alias") or core["property_name"], **compiled}

    def with_default(self, core: _Core, config: _Core) -> _Schema:
        compiled = self.type_of(core["schema"], config)
        try:
            self.only(
                core,
                *("schema", "default", "default_factory", "default_factory_takes_data"),
                *("validate_default", "on_error"),
            )
            if core.get("on_error", "raise") != "raise":
                raise _Python("on_error is only known to pydantic; remove it")
            if "default" in core:
                self.check_default(compiled, core["default"])
                compiled["default"] = self.default(core["default"])
            else:
                compiled["default_factory"] = self.factory(core)
            self.probe(compiled)
        except _Python as exc:
            self.python(str(exc))
            compiled.pop("default", None)
            compiled.pop("default_factory", None)
        return compiled

    def default(self, value: Any) -> Any:
        try:
            text = json.dumps(pydantic_core.to_jsonable_python(value), allow_nan=False)
        except (pydantic_core.PydanticSerializationError, ValueError) as exc:
            raise _Python(f"the default {value!r} has no JSON form: {exc}") from exc
        return json.loads(text)

    def check_default(self, compiled: _Schema, value: Any) -> None:
        """pydantic takes a default as it is, so it must be what would be stored."""
        if not self.fits(compiled, value):
            raise _Python(
                f"the default {value!r} is not a {compiled['type']} as it is stored;"
                " write it in the field's own type"
            )

    def fits(self, compiled: _Schema, value: Any) -> bool:
        kind = compiled["type"]
        if kind == "any" or (value is None and compiled.get("nullable")):
            return True
        if kind in ("literal", "enum"):
            plain = value.value if isinstance(value, enum.Enum) else value
            return (type(plain), plain) in [(type(one), one) for one in compiled["values"]]
        if kind in ("union", "tagged"):
            return any(self.fits(choice["type"], value) for choice in compiled["choices"])
        if kind == "tuple":
            return (
                isinstance(value, tuple)
                and len(value) == len(compiled["items"])
                and all(
                    self.fits(one, item) for one, item in zip(compiled["items"], value, strict=True)
                )
            )
        if not isinstance(value, tuple if compiled.get("tuple") else _PYTHON_TYPES[kind]):
            return False
        found: Any = value
        match kind:
            case "int" | "float":
                return not isinstance(value, bool)
            case "date":
                return not isinstance(value, datetime.datetime)
            case "str":
                return not compiled.get("strip_whitespace") or found == found.strip()
            case "list":
                return all(self.fits(compiled["items"], item) for item in found)
            case "dict":
                return all(self.fits(compiled["values"], item) for item in found.values())
            case "model":
                # what JSON has of it is by the names that it is stored by
                return not any("accepts" in field for field in self.fields_of(compiled["model"]))
        return True

    def fields_of(self, name: str) -> list[_Schema]:
        found: list[_Schema] = self.models[name].get("fields", [])
        return found

    def factory(self, core: _Core) -> str:
        function = core["default_factory"]
        name = None if core.get("default_factory_takes_data") else factory_name(function)
        if name is None:
            raise _Python(
                f"the default factory {function!r} is not one that C knows: list, dict, uuid4,"
                " datetime.now, datetime.utcnow, datetime.now(timezone.utc), or a lambda of one;"
                " use one of these"
            )
        return name

    def probe(self, compiled: _Schema) -> None:
        """Lets C say whether it takes a type, and a default of it; models are checked later."""
        if _holds_models(compiled):
            return
        schema = {
            **{"databridge": 1, "model": "M", "collection": "m", "prefix": "/m", "store": "s"},
            **{"id": "objectid", "fields": [{"name": "f", **compiled}]},
        }
        try:
            _crud.compile(json.dumps(schema, ensure_ascii=False, allow_nan=False))
        except ValueError as exc:
            raise _Python(str(exc).removeprefix("M.f: ")) from exc

    def type_of(self, core: _Core, config: _Core) -> _Schema:
        """A type as C reads it, or as much of it as a filter can know."""
        try:
            return self.native(core, config)
        except _Python as exc:
            self.python(str(exc))
            return {"type": "any"}

    def native(self, core: _Core, config: _Core) -> _Schema:
        core = self.resolve(core)
        kind = core["type"]
        if kind == "nullable":
            self.only(core, "schema")
            return {**self.type_of(core["schema"], config), "nullable": True}
        if kind in _CONSTRAINTS:
            compiled = self.scalar(kind, core, config)
        elif kind == "list":
            compiled = self.list_of(core, config)
        elif kind == "dict":
            compiled = self.dict_of(core, config)
        elif kind == "model":
            return self.nested(core)
        elif kind == "literal":
            compiled = self.literal(core)
        elif kind == "enum":
            compiled = self.enumeration(core)
        elif kind == "tuple":
            compiled = self.tuple_of(core, config)
        elif kind == "union":
            compiled = self.union(core, config)
        elif kind == "tagged-union":
            compiled = self.tagged(core, config)
        elif kind == "any" or _is_json_value(core):
            self.only(core, "json_schema", "python_schema")
            compiled = {"type": "any"}
        elif kind in ("function-after", "function-before", "function-wrap"):
            return self.validated(core, config)
        else:
            raise _Python(
                f"{_named(core)} is only known to pydantic; docs/types.md says what is native"
            )
        self.probe(compiled)
        return compiled

    def validated(self, core: _Core, config: _Core) -> _Schema:
        """A type with a validator in Python: what it validates is still of the type."""
        if "serialization" in core:
            raise _Python(f"{_named(core)} has a serializer of its own; use a native type")
        self.python(_validator(core))
        return self.type_of(core["schema"], config)

    def scalar(self, kind: str, core: _Core, config: _Core) -> _Schema:
        constraints = _CONSTRAINTS[kind]
        ignored: tuple[str, ...] = ()
        compiled: _Schema = {"type": kind}
        if kind == "str":
            ignored = ("to_lower", "to_upper", "coerce_numbers_to_str", "regex_engine")
            _check_str(core)
            for name in ("min_length", "max_length", "strip_whitespace"):
                value = config.get(f"str_{name}")
                if value and name not in core:
                    compiled[name] = value
        elif kind == "float":
            ignored = ("allow_inf_nan",)
            if not core.get("allow_inf_nan", config.get("allow_inf_nan", True)):
                compiled["finite"] = True
        elif kind in ("datetime", "time", "timedelta"):
            ignored = ("microseconds_precision",)
            if core.get("microseconds_precision", "truncate") != "truncate":
                raise _Python("microseconds_precision is only known to pydantic; remove it")
        elif kind == "decimal" and config.get("allow_inf_nan"):
            raise _Python("a Decimal with allow_inf_nan is only known to pydantic; remove it")
        strict = core.get("strict", config.get("strict"))
        if strict and kind in ("int", "float", "bool"):
            ignored += ("strict",)
            compiled["strict"] = True
        elif strict and kind == "str":
            ignored += ("strict",)
        self.only(core, *constraints, *ignored)
        for name, word in constraints.items():
            value = core.get(name)
            if value is None or value is False:
                continue
            compiled[word] = value
            if kind == "decimal" and name not in ("max_digits", "decimal_places"):
                compiled[word] = str(decimal.Decimal(str(value)))
        return compiled

    def literal(self, core: _Core) -> _Schema:
        self.only(core, "expected")
        return {"type": "literal", "values": _values(core["expected"])}

    def enumeration(self, core: _Core) -> _Schema:
        self.only(core, "cls", "members", "sub_type", "missing", "config")
        cls = core["cls"]
        own = cls._missing_.__func__ is not enum.Enum._missing_.__func__  # type: ignore[attr-defined]
        if own or core.get("missing") is not None or issubclass(cls, enum.Flag):
            raise _Python(f"the enum {cls.__name__} finds members by Python; list them all")
        compiled: _Schema = {
            "type": "enum",
            "values": _values([member.value for member in core["members"]]),
        }
        if core.get("sub_type"):
            compiled["mixin"] = core["sub_type"]
        return compiled

    def list_of(self, core: _Core, config: _Core) -> _Schema:
        self.only(core, "items_schema", "min_length", "max_length", "fail_fast")
        if core.get("fail_fast"):
            raise _Python("fail_fast is only known to pydantic; remove it")
        items = self.type_of(core.get("items_schema", {"type": "any"}), config)
        return {"type": "list", "items": items, **_sizes(core)}

    def dict_of(self, core: _Core, config: _Core) -> _Schema:
        self.only(core, "keys_schema", "values_schema", "min_length", "max_length", "fail_fast")
        if core.get("fail_fast"):
            raise _Python("fail_fast is only known to pydantic; remove it")
        keys = self.resolve(core.get("keys_schema", {"type": "str"}))
        if keys != {"type": "str"} or any(
            config.get(f"str_{name}") for name in ("strip_whitespace", "min_length", "max_length")
        ):
            raise _Python("keys of a dict that are not plain str are only known to pydantic")
        values = self.type_of(core.get("values_schema", {"type": "any"}), config)
        return {"type": "dict", "values": values, **_sizes(core)}

    def tuple_of(self, core: _Core, config: _Core) -> _Schema:
        self.only(core, "items_schema", "variadic_item_index")
        items = [self.type_of(item, config) for item in core["items_schema"]]
        if core.get("variadic_item_index") is None:
            return {"type": "tuple", "items": items}
        if len(items) > 1:
            raise _Python("a tuple of some items and any number of others is only for pydantic")
        return {"type": "list", "tuple": True, "items": items[0]}

    def union(self, core: _Core, config: _Core) -> _Schema:
        self.only(core, "choices", "mode", "auto_collapse")
        if core.get("mode", "smart") != "smart":
            raise _Python("a union of left_to_right is only known to pydantic; take the mode away")
        choices = []
        for choice in core["choices"]:
            if isinstance(choice, tuple):
                raise _Python("a union with labels is only known to pydantic")
            compiled = self.member(choice, config)
            choices.append({"label": self.label(choice), "type": compiled})
        return {"type": "union", "choices": choices}

    def tagged(self, core: _Core, config: _Core) -> _Schema:
        self.only(core, "choices", "discriminator", "strict", "from_attributes")
        name = core["discriminator"]
        if not (isinstance(name, str) and name.isprintable()):
            raise _Python("a discriminator that is no plain name is only known to pydantic")
        if not all(type(tag) is str and tag.isprintable() for tag in core["choices"]):
            raise _Python("tags that are no plain str are only known to pydantic")
        return {
            "type": "tagged",
            "discriminator": name,
            "choices": [
                {"tag": tag, "type": self.member(choice, config)}
                for tag, choice in core["choices"].items()
            ],
        }

    def member(self, core: _Core, config: _Core) -> _Schema:
        """A type in a union, where nothing may be left to pydantic."""
        before = len(self.reasons)
        compiled = self.type_of(core, config)
        if len(self.reasons) > before:
            raise _Python("a union with a member that only pydantic knows is only for pydantic")
        return compiled

    def label(self, core: _Core) -> str:
        """What pydantic calls a member of a union in the loc of errors."""
        resolved = self.resolve(core)
        if resolved["type"] == "model":
            return str(resolved["cls"].__name__)
        if self.inside and _refers(core):
            raise _Python(
                "what pydantic calls a list or dict of such models depends on the order of"
                " its work; move the union into the outermost model, or wrap it in a model"
            )
        validator = pydantic_core.SchemaValidator(
            {
                "type": "definitions",
                "schema": core,
                "definitions": list(self.definitions.values()),
            }
        )
        return validator.title

    def nested(self, core: _Core) -> _Schema:
        """A nested model, which is compiled when it is met first."""
        cls: type = core["cls"]
        if core.get("root_model"):
            raise _Python(f"the root model {cls.__name__} is only known to pydantic")
        if cls not in self.names:
            name, count = cls.__name__, 1
            while name in self.models:
                count += 1
                name = f"{cls.__name__}_{count}"
            self.names[cls] = name
            self.models[name] = {}
            self.inside += 1
            self.models[name] |= self.model(core)
            self.inside -= 1
        return {"type": "model", "model": self.names[cls]}

    def id_kind(self, compiled: _Schema) -> str:
        with self.at(f"{self.root.__name__}.id"):
            for field in compiled["fields"]:
                if field["name"] != "id":
                    continue
                kind: str = field["type"]
                if kind not in ("int", "str", "uuid"):
                    raise self.error(
                        "an id must be int, str or UUID; without one in the model"
                        " documents get an ObjectId"
                    )
                return kind
            if "id" in self.root.model_fields:
                raise self.error(
                    "an id is answered as 'id': take the alias away, or use"
                    " validation_alias= for what clients send"
                )
        return "objectid"


def _check_str(core: _Core) -> None:
    for name in ("to_lower", "to_upper", "coerce_numbers_to_str"):
        if core.get(name):
            raise _Python(f"{name} is only known to pydantic; remove it")
    if core.get("regex_engine", "rust-regex") != "rust-regex":
        raise _Python("regex_engine='python-re' is only known to pydantic; remove it")
    if not isinstance(core.get("pattern", ""), str):
        raise _Python("a compiled pattern is matched by Python; give its text instead")


def _values(values: Sequence[Any]) -> list[Any]:
    """The values of a Literal or an Enum, as JSON has them."""
    for value in values:
        if value is None or type(value) is bool:
            continue
        if type(value) is int and -(2**63) <= value < 2**63:
            continue
        if type(value) is str and (value.isascii() or value.isprintable()):
            continue
        raise _Python(f"the value {value!r} is only known to pydantic; use str, int or bool")
    return list(values)


def _sizes(core: _Core) -> _Schema:
    pairs = (("min_length", "min_items"), ("max_length", "max_items"))
    return {word: core[name] for name, word in pairs if core.get(name) is not None}


def _holds_models(compiled: _Schema) -> bool:
    inner: list[_Schema] = []
    if isinstance(compiled.get("items"), list):
        inner += compiled["items"]
    elif "items" in compiled:
        inner.append(compiled["items"])
    if compiled["type"] == "dict":
        inner.append(compiled["values"])
    inner += [choice["type"] for choice in compiled.get("choices", ())]
    return compiled["type"] == "model" or any(map(_holds_models, inner))


def _refers(core: Any) -> bool:
    """Whether a core schema refers to a definition."""
    if isinstance(core, Mapping):
        return core.get("type") == "definition-ref" or any(map(_refers, core.values()))
    return isinstance(core, list) and any(map(_refers, core))


def _is_json_value(core: _Core) -> bool:
    """JsonValue, which is whatever JSON has."""
    if core["type"] != "json-or-python" or core["json_schema"] != {"type": "any"}:
        return False
    python: _Core = core["python_schema"]
    return python.get("custom_error_type") == "invalid-json-value"


def _validator(core: _Core) -> str:
    function = core["function"]["function"]
    name = getattr(function, "__qualname__", function)
    return f"the validator {name} is Python; express it as a constraint"


def _named(core: _Core) -> str:
    """What a user calls a kind of core schema."""
    kind: str = core["type"]
    if kind.startswith("function-"):
        function = core["function"]["function"]
        return f"the validator {getattr(function, '__qualname__', function)}"
    return {
        "any": "Any",
        "union": "a union",
        "tagged-union": "a tagged union",
        "json-or-python": "the type",
    }.get(kind, f"the type {kind}")
