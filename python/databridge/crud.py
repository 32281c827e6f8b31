"""From a pydantic model to the schema that native CRUD compiles.

The walk goes over pydantic's core schema, which says exactly what pydantic would do.  What
it knows here is what C does to the byte; all else is refused, naming model and field.
"""

import builtins
import datetime
import dis
import functools
import json
import types
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

import pydantic_core
from pydantic import BaseModel

from databridge import _crud

OPERATIONS = ("list", "get", "create", "update", "patch", "delete")

#: Members of a core schema that change nothing of what is validated or stored here.
_HARMLESS = frozenset({"type", "ref", "metadata", "title", "frozen", "copy_default"})

#: The same of a model's configuration.
_HARMLESS_CONFIG = frozenset(
    {
        "cache_strings",
        "from_attributes",
        "frozen",
        "loc_by_alias",
        "revalidate_instances",
        "ser_json_bytes",
        "ser_json_inf_nan",
        "title",
        "validate_assignment",
        "validate_by_alias",
        "validate_by_name",
        "validate_default",
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
}

_PYTHON_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "datetime": datetime.datetime,
    "uuid": uuid.UUID,
    "list": list,
    "dict": dict,
    "model": BaseModel,
}


class CrudError(TypeError):
    """A model, or an option of its resource, that native CRUD cannot serve."""


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
    hybrid: Mapping[str, str] = types.MappingProxyType({}),
    /,
    **options: Unpack[CrudOptions],
) -> dict[str, Any]:
    """The schema of a model's resource, checked by compiling it.

    `hybrid` has the operations that are Python's in any case, each with the reason.
    """
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise CrudError(f"{model!r} is not a model: native CRUD takes a subclass of BaseModel")
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
    schema |= _Compiler(model).compile()
    _set_hybrid(schema, hybrid)
    for option in _ACCESS:
        _set_access(name, schema["fields"], option, given.get(option, ()))
    try:
        _crud.compile(json.dumps(schema, ensure_ascii=False, allow_nan=False))
    except TypeError as exc:
        raise CrudError(f"{name}: an option has no JSON form: {exc}") from exc
    except ValueError as exc:
        raise CrudError(str(exc)) from exc
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


class _Compiler:
    """One model with all that is nested in it."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.root = model
        self.models: dict[str, dict[str, Any]] = {}
        self.names: dict[type, str] = {}
        self.definitions: dict[str, Mapping[str, Any]] = {}
        self.where = model.__name__

    def compile(self) -> dict[str, Any]:
        if not self.root.__pydantic_complete__:
            self.root.model_rebuild()
        core: Mapping[str, Any] = self.root.__pydantic_core_schema__
        if core["type"] == "definitions":
            self.definitions = {item["ref"]: item for item in core["definitions"]}
            core = core["schema"]
        core = self.resolve(core)
        if core["type"] != "model":
            raise self.python_model(core)
        compiled = self.model(core)
        return {
            "id": self.id_kind(compiled),
            **compiled,
            **({"models": self.models} if self.models else {}),
        }

    def error(self, message: str) -> CrudError:
        return CrudError(f"{self.where}: {message}")

    def python_model(self, core: Mapping[str, Any]) -> CrudError:
        return self.error(
            f"{_named(core)} is Python and not supported by native CRUD;"
            " express it as constraints, or declare the routes in Python"
        )

    def resolve(self, core: Mapping[str, Any]) -> Mapping[str, Any]:
        while core["type"] == "definition-ref":
            self.only(core, "schema_ref")
            core = self.definitions[core["schema_ref"]]
        return core

    def only(self, core: Mapping[str, Any], *known: str) -> None:
        """Refuses what a core schema says beyond the known."""
        for name, value in core.items():
            if name in known or name in _HARMLESS:
                continue
            if name == "serialization":
                raise self.error(
                    "a serializer of its own is not supported: native answers are written in C;"
                    " remove it, or declare the routes in Python"
                )
            if name == "strict" and not value:
                continue
            raise self.error(
                f"{name}={value!r} is not supported by native CRUD; remove it,"
                " or declare the routes in Python"
            )

    def model(self, core: Mapping[str, Any]) -> dict[str, Any]:
        """A model's own members of the schema: extra and fields."""
        cls = core["cls"]
        self.where = cls.__name__
        if core.get("post_init") is not None:
            raise self.error("model_post_init() is Python; declare the routes in Python")
        if core.get("custom_init") or core.get("root_model"):
            raise self.error(
                "a root model, or one with its own __init__(), is not supported;"
                " wrap it in a field, or declare the routes in Python"
            )
        self.only(core, "cls", "schema", "config", "custom_init", "root_model", "generic_origin")
        config = self.config(core.get("config", {}))

        inner = core["schema"]
        if inner["type"] != "model-fields":
            raise self.python_model(inner)
        if inner.get("computed_fields"):
            raise self.error(
                "a computed field is Python; store it, or declare the routes in Python"
            )
        self.only(inner, "fields", "model_name", "computed_fields")

        fields = []
        for name, field in inner["fields"].items():
            self.where = f"{cls.__name__}.{name}"
            fields.append({"name": name, **self.field(field, config)})
        self.where = cls.__name__
        extra = config.get("extra_fields_behavior", "ignore")
        return {"extra": extra, "fields": fields}

    def config(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        known = {"str_strip_whitespace", "str_min_length", "str_max_length", "allow_inf_nan"}
        for name, value in config.items():
            if name in known or name in _HARMLESS_CONFIG or value is None:
                continue
            if name == "extra_fields_behavior":
                if value in ("ignore", "forbid"):
                    continue
                raise self.error(
                    f"model_config extra={value!r} is not supported: native documents have"
                    " declared fields only; use 'ignore' or 'forbid'"
                )
            if value is False:
                continue
            raise self.error(
                f"model_config {name}={value!r} is not supported by native CRUD; remove it,"
                " or declare the routes in Python"
            )
        return config

    def field(self, core: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
        for name in ("validation_alias", "serialization_alias"):
            if core.get(name) is not None:
                raise self.error(
                    f"the alias {core[name]!r} is not supported: name the field as it is in JSON"
                )
        if core.get("serialization_exclude") or "serialization_exclude_if" in core:
            raise self.error(
                "exclude= is not supported: native answers hold the whole document;"
                " leave the field out of the model"
            )
        self.only(
            core, "schema", "validation_alias", "serialization_alias", "serialization_exclude"
        )

        inner = self.resolve(core["schema"])
        if inner["type"] != "default":
            return self.type_of(inner, config)

        self.only(
            inner,
            "schema",
            "default",
            "default_factory",
            "default_factory_takes_data",
            "validate_default",
            "on_error",
        )
        if inner.get("on_error", "raise") != "raise":
            raise self.error("on_error is not supported by native CRUD; remove it")
        compiled = self.type_of(inner["schema"], config)
        if "default" in inner:
            self.check_default(compiled, inner["default"])
            compiled["default"] = self.default(inner["default"])
        else:
            compiled["default_factory"] = self.factory(inner)
        return compiled

    def default(self, value: Any) -> Any:
        try:
            return pydantic_core.to_jsonable_python(value)
        except pydantic_core.PydanticSerializationError as exc:
            raise self.error(f"the default {value!r} has no JSON form: {exc}") from exc

    def check_default(self, compiled: Mapping[str, Any], value: Any) -> None:
        """pydantic takes a default as it is, so it must be what would be stored."""
        if value is None and compiled.get("nullable"):
            return
        kind = compiled["type"]
        fits = isinstance(value, _PYTHON_TYPES[kind])
        if kind in ("int", "float") and isinstance(value, bool):
            fits = False
        if kind == "str" and fits and compiled.get("strip_whitespace"):
            fits = value == value.strip()
        if not fits:
            raise self.error(
                f"the default {value!r} is not a {kind} as it is stored;"
                " write it in the field's own type"
            )
        if kind == "list":
            for item in value:
                self.check_default(compiled["items"], item)
        elif kind == "dict":
            for item in value.values():
                self.check_default(compiled["values"], item)

    def factory(self, inner: Mapping[str, Any]) -> str:
        function = inner["default_factory"]
        name = None if inner.get("default_factory_takes_data") else factory_name(function)
        if name is None:
            raise self.error(
                f"the default factory {function!r} is not one that C knows: list, dict, uuid4,"
                " datetime.now, datetime.utcnow, datetime.now(timezone.utc), or a lambda of one;"
                " use one of these, or declare the routes in Python"
            )
        return name

    def type_of(self, core: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
        core = self.resolve(core)
        kind = core["type"]
        if kind == "nullable":
            self.only(core, "schema")
            return {**self.type_of(core["schema"], config), "nullable": True}
        if kind in _CONSTRAINTS:
            return self.scalar(kind, core, config)
        if kind == "list":
            return self.list_of(core, config)
        if kind == "dict":
            return self.dict_of(core, config)
        if kind == "model":
            return {"type": "model", "model": self.nested(core)}
        if kind.startswith("function-"):
            raise self.error(
                f"{_named(core)} is Python and not supported by native CRUD;"
                " express it as a constraint, or declare the routes in Python"
            )
        raise self.error(
            f"{_named(core)} is not supported by native CRUD: it takes str, int, float, bool,"
            " datetime, UUID, Optional, list, dict with str keys, and models of these;"
            " change the type, or declare the routes in Python"
        )

    def scalar(
        self, kind: str, core: Mapping[str, Any], config: Mapping[str, Any]
    ) -> dict[str, Any]:
        constraints = _CONSTRAINTS[kind]
        ignored: tuple[str, ...] = ()
        compiled: dict[str, Any] = {"type": kind}
        if kind == "str":
            ignored = ("to_lower", "to_upper", "coerce_numbers_to_str", "regex_engine")
            self.check_str(core)
            for name in ("min_length", "max_length", "strip_whitespace"):
                value = config.get(f"str_{name}")
                if value and name not in core:
                    compiled[name] = value
        elif kind == "float":
            ignored = ("allow_inf_nan",)
            if not core.get("allow_inf_nan", config.get("allow_inf_nan", True)):
                compiled["finite"] = True
        elif kind == "datetime":
            ignored = ("microseconds_precision",)
            if core.get("microseconds_precision", "truncate") != "truncate":
                raise self.error("microseconds_precision is not supported; remove it")
        self.only(core, *constraints, *ignored)
        for name, word in constraints.items():
            value = core.get(name)
            if value is not None and value is not False:
                compiled[word] = value
        return compiled

    def check_str(self, core: Mapping[str, Any]) -> None:
        for name in ("to_lower", "to_upper", "coerce_numbers_to_str"):
            if core.get(name):
                raise self.error(
                    f"{name} is not supported by native CRUD; remove it,"
                    " or declare the routes in Python"
                )
        if core.get("regex_engine", "rust-regex") != "rust-regex":
            raise self.error("regex_engine='python-re' is not supported; remove it")
        if not isinstance(core.get("pattern", ""), str):
            raise self.error("a compiled pattern is matched by Python; give its text instead")

    def list_of(self, core: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
        self.only(core, "items_schema", "min_length", "max_length", "fail_fast")
        if core.get("fail_fast"):
            raise self.error("fail_fast is not supported by native CRUD; remove it")
        if "items_schema" not in core:
            raise self.error("a list of anything is not supported: say what is in it, list[str]")
        items = self.type_of(core["items_schema"], config)
        return {"type": "list", "items": items, **_sizes(core)}

    def dict_of(self, core: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
        self.only(core, "keys_schema", "values_schema", "min_length", "max_length", "fail_fast")
        if core.get("fail_fast"):
            raise self.error("fail_fast is not supported by native CRUD; remove it")
        if "values_schema" not in core:
            raise self.error("a dict of anything is not supported: dict[str, int] for example")
        keys = self.resolve(core["keys_schema"])
        if keys != {"type": "str"} or config.get("str_strip_whitespace"):
            raise self.error(
                "the keys of a dict must be plain str, without constraints and str_strip_whitespace"
            )
        if config.get("str_min_length") or config.get("str_max_length") is not None:
            raise self.error("a length of str in model_config would hold for the keys of a dict")
        return {"type": "dict", "values": self.type_of(core["values_schema"], config)} | _sizes(
            core
        )

    def nested(self, core: Mapping[str, Any]) -> str:
        """The name of a nested model, which is compiled when it is met first."""
        cls: type = core["cls"]
        if cls in self.names:
            return self.names[cls]
        name, count = cls.__name__, 1
        while name in self.models:
            count += 1
            name = f"{cls.__name__}_{count}"
        self.names[cls] = name
        self.models[name] = {}
        where = self.where
        self.models[name] |= self.model(core)
        self.where = where
        return name

    def id_kind(self, compiled: Mapping[str, Any]) -> str:
        for field in compiled["fields"]:
            if field["name"] == "id":
                self.where = f"{self.root.__name__}.id"
                kind: str = field["type"]
                if kind not in ("int", "str", "uuid"):
                    raise self.error(
                        "an id must be int, str or UUID; without one in the model"
                        " documents get an ObjectId"
                    )
                return kind
        return "objectid"


def _sizes(core: Mapping[str, Any]) -> dict[str, Any]:
    pairs = (("min_length", "min_items"), ("max_length", "max_items"))
    return {word: core[name] for name, word in pairs if core.get(name) is not None}


def _named(core: Mapping[str, Any]) -> str:
    """What a user calls a kind of core schema."""
    kind: str = core["type"]
    if kind.startswith("function-"):
        function = core["function"]["function"]
        return f"the validator {getattr(function, '__qualname__', function)!s}"
    return {
        "any": "Any",
        "union": "a union",
        "tagged-union": "a tagged union",
        "literal": "Literal",
        "enum": "an enum",
        "definition-ref": "a reference",
    }.get(kind, f"the type {kind}")


# Factories are known by what they call, not by name: a function is read as the one
# expression that it returns.

_Call = tuple[Any, tuple[Any, ...], tuple[tuple[str, Any], ...]]


def factory_name(factory: Callable[..., Any]) -> str | None:
    """The schema's name of a default factory, None when it is not known."""
    expression: Any = (factory, (), ())
    if isinstance(factory, functools.partial):
        keywords = tuple(sorted(factory.keywords.items()))
        expression = (factory.func, factory.args, keywords)
    elif isinstance(factory, types.FunctionType) and factory is not uuid.uuid4:
        expression = _returned(factory)
    for known, name in _FACTORIES:
        if _same(expression, known):
            return name
    return None


_now = datetime.datetime.now
_utc = datetime.UTC

_FACTORIES: tuple[tuple[_Call, str], ...] = (
    ((list, (), ()), "list"),
    ((dict, (), ()), "dict"),
    ((uuid.uuid4, (), ()), "uuid4"),
    ((str, ((uuid.uuid4, (), ()),), ()), "uuid4"),
    ((_now, (), ()), "now"),
    ((_now, (None,), ()), "now"),
    ((datetime.datetime.utcnow, (), ()), "utcnow"),
    ((_now, (_utc,), ()), "now_utc"),
    ((_now, (), (("tz", _utc),)), "now_utc"),
)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one is other or (type(one) is type(other) and bool(one == other))


def _returned(function: types.FunctionType) -> Any:
    """The expression a function returns: calls of names, or None for anything else."""
    code = function.__code__
    if code.co_argcount or code.co_kwonlyargcount or code.co_flags & 0xAC:
        return None  # arguments, generators, coroutines
    stack: list[Any] = []
    keywords: tuple[str, ...] = ()
    try:
        for step in dis.get_instructions(function):
            if step.opname == "KW_NAMES":
                keywords = code.co_consts[step.arg or 0]
            elif step.opname == "RETURN_VALUE":
                return stack[-1] if len(stack) == 1 else None
            elif not _step(function, step, stack, keywords):
                return None
            elif step.opname.startswith("CALL"):
                keywords = ()
    except (AttributeError, IndexError, KeyError, ValueError):
        return None  # a name that is not there yet
    return None


_NULL = object()
_SILENT = {"RESUME", "PRECALL", "COPY_FREE_VARS", "NOP", "CACHE", "NOT_TAKEN"}


def _step(
    function: types.FunctionType, step: dis.Instruction, stack: list[Any], keywords: Iterable[str]
) -> bool:
    """Takes one instruction; False when it has no place in such an expression."""
    name = step.opname
    if name in _SILENT:
        return True
    if name == "PUSH_NULL":
        stack.append(_NULL)
    elif name == "LOAD_GLOBAL":
        scope = function.__globals__
        stack.append(scope[step.argval] if step.argval in scope else getattr(builtins, step.argval))
    elif name == "LOAD_DEREF":
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        stack.append(cells[step.argval].cell_contents)
    elif name in ("LOAD_ATTR", "LOAD_METHOD"):
        owner = stack.pop()
        if not isinstance(owner, (type, types.ModuleType)):
            return False
        stack.append(getattr(owner, step.argval))
    elif name == "LOAD_CONST":
        stack.append(step.argval)
    elif name in ("BUILD_LIST", "BUILD_MAP") and step.arg == 0:
        stack.append((list if name == "BUILD_LIST" else dict, (), ()))
    elif name == "CALL_KW":
        return _call(step.arg or 0, stack, stack.pop())
    elif name == "CALL":
        return _call(step.arg or 0, stack, keywords)
    else:
        return False
    return True


def _call(count: int, stack: list[Any], keywords: Iterable[str]) -> bool:
    """Replaces a callable and its arguments by the call of them."""
    names = tuple(keywords)
    values = [stack.pop() for _ in range(count)][::-1]
    stack[:] = [item for item in stack if item is not _NULL]
    function = stack.pop()
    positional = len(values) - len(names)
    named = tuple(sorted(zip(names, values[positional:], strict=True)))
    stack.append((function, tuple(values[:positional]), named))
    return True
