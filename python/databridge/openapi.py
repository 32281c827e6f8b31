"""OpenAPI 3.1 of native CRUD, read off the schema of a resource (docs/schema.md).

`operations()` says what each operation takes and answers; `document()` makes of it the
document of resources that nginx serves alone, without pydantic.  What an application's own
document says of them is databridge.operations, over the same description.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from databridge import _crud

Schema = Mapping[str, Any]
Json = dict[str, Any]

#: What a body is: one document, several, a page of them, the two kinds of `detail`.
Body = Literal["document", "created", "page", "error", "invalid"]

PATCH_TYPE = "application/merge-patch+json"
OPTIONS = ("filter", "sort", "fields", "limit", "skip", "after", "count")

_INT64 = {"minimum": -(2**63), "maximum": 2**63 - 1}

_PLAIN: Mapping[str, Json] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "datetime": {"type": "string", "format": "date-time"},
    "uuid": {"type": "string", "format": "uuid"},
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "format": "time"},
    "timedelta": {"type": "string", "format": "duration"},
    "decimal": {"type": "string"},
    "bytes": {"type": "string"},
}

#: Types whose constraints JSON Schema knows; those of dates are texts.
_CONSTRAINED = ("str", "int", "float", "bytes")

_WORDS = {
    "min_length": "minLength",
    "max_length": "maxLength",
    "pattern": "pattern",
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
    "multiple_of": "multipleOf",
}


@dataclass(frozen=True)
class Answer:
    """What an operation may answer with one status."""

    description: str
    body: Body | None = None
    headers: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """One operation of a resource; `answers` begins with that of success."""

    kind: str
    method: str
    path: str
    summary: str
    description: str
    parameters: list[Json]
    body: Literal["create", "update", "patch"] | None
    answers: Mapping[int, Answer]

    @property
    def status(self) -> int:
        return next(iter(self.answers))


def operations(schema: Schema) -> list[Operation]:
    """The operations of a resource, in the order in which documents show them."""
    return list(_Resource(schema).operations())


class _Resource:
    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.name: str = schema["model"]
        self.require_match = bool(schema.get("require_match"))
        self.version = self.require_match or bool(schema.get("version"))
        self.upsert = bool(schema.get("upsert"))
        self.unique = bool(schema.get("unique"))

    def operations(self) -> Iterator[Operation]:
        known = {
            "list": self.list_operation,
            "create": self.create_operation,
            "get": self.get_operation,
            "update": self.update_operation,
            "patch": self.patch_operation,
            "delete": self.delete_operation,
        }
        served = self.schema.get("operations", known)
        for kind, describe in known.items():
            if kind in served:
                yield describe()

    def operation(
        self,
        kind: str,
        method: str,
        description: str,
        answers: Mapping[int, Answer],
        *,
        parameters: Sequence[Json] = (),
        body: Literal["create", "update", "patch"] | None = None,
    ) -> Operation:
        item = kind not in ("list", "create")
        writes = kind not in ("list", "get")
        common = {}
        if body is not None:
            common[400] = Answer("The body cannot be read", "error")
            common[413] = Answer("The body is too large", "error")
        if self.schema.get("scope"):
            common[403] = Answer("Forbidden", "error")
        common[503] = Answer("The store cannot be reached, or is busy", "error")
        if self.schema.get("timeout") is not None:
            common[504] = Answer("The store did not answer in time", "error")
        if writes:
            common[507] = Answer("The store is full", "error")
        return Operation(
            kind,
            method,
            self.schema["prefix"] + ("/{id}" if item else ""),
            f"{kind.title()} {self.name}",
            description,
            ([self.id_parameter()] if item else []) + list(parameters),
            body,
            {**answers, **dict(sorted(common.items()))},
        )

    def list_operation(self) -> Operation:
        return self.operation(
            "list",
            "GET",
            "A page of the documents that match.",
            {
                200: Answer("A page of documents", "page"),
                400: Answer("Something in the query is not understood", "error"),
            },
            parameters=self.list_parameters(),
        )

    def create_operation(self) -> Operation:
        return self.operation(
            "create",
            "POST",
            "Stores a document, or all of a list of them or none.",
            {
                201: Answer(
                    "What was stored",
                    "created",
                    {"Location": _header("The path of the document; not of several")}
                    | self.etag("not of several"),
                ),
                409: Answer("Such a document already exists", "error"),
                422: _INVALID,
            },
            body="create",
        )

    def get_operation(self) -> Operation:
        answers = {200: Answer("The document", "document", self.etag())}
        if self.version:
            answers[304] = Answer("It is of a version that the client has", None, self.etag())
        return self.operation(
            "get",
            "GET",
            "One document.",
            {**answers, **self.not_found()},
            parameters=[_match("If-None-Match", "Versions that the client has")]
            if self.version
            else (),
        )

    def update_operation(self) -> Operation:
        answers = {200: Answer("The document as it is stored", "document", self.etag())}
        if self.upsert:
            location = {"Location": _header("The path of the document")}
            answers[201] = Answer("A new document", "document", location | self.etag())
        if self.unique:
            answers[409] = Answer("Such a document already exists", "error")
        parameters = self.if_match()
        if self.upsert and self.version:
            parameters.append(
                _match("If-None-Match", "Versions it may not have; *: a new one alone")
            )
        return self.operation(
            "update",
            "PUT",
            "Replaces a document as a whole"
            + (", or stores a new one under this id." if self.upsert else "."),
            {**answers, **self.not_found(), **self.matched(), 422: _INVALID},
            parameters=parameters,
            body="update",
        )

    def patch_operation(self) -> Operation:
        answers = {200: Answer("The document as it is stored", "document", self.etag())}
        if self.unique:
            answers[409] = Answer("Such a document already exists", "error")
        return self.operation(
            "patch",
            "PATCH",
            "Changes the members that are given, as RFC 7396 has it: null removes one.",
            {**answers, **self.not_found(), **self.matched(), 422: _INVALID},
            parameters=self.if_match(),
            body="patch",
        )

    def delete_operation(self) -> Operation:
        return self.operation(
            "delete",
            "DELETE",
            "Removes a document.",
            {204: Answer("It is gone"), **self.not_found(), **self.matched()},
            parameters=self.if_match(),
        )

    def etag(self, exception: str = "") -> dict[str, Json]:
        if not self.version:
            return {}
        return {"ETag": _header("Its version" + (f"; {exception}" if exception else ""))}

    def not_found(self) -> dict[int, Answer]:
        answers = {404: Answer("There is no such document", "error")}
        if self.schema["id"] not in ("objectid", "str"):
            answers[422] = _INVALID
        return answers

    def matched(self) -> dict[int, Answer]:
        answers = {}
        if self.version:
            answers[412] = Answer("It is of another version", "error")
        if self.require_match:
            answers[428] = Answer("If-Match is missing", "error")
        return answers

    def if_match(self) -> list[Json]:
        if not self.version:
            return []
        return [_match("If-Match", "Versions it may have, or *", required=self.require_match)]

    def id_parameter(self) -> Json:
        return {"name": "id", "in": "path", "required": True, "schema": id_schema(self.schema)}

    def list_parameters(self) -> list[Json]:
        limit = self.schema.get("limit", 20)
        most = self.schema.get("max_limit", 1000)
        text = {"type": "string"}
        parameters: list[Json] = [
            {
                "name": "filter",
                "in": "query",
                "description": "A filter in MongoDB's words",
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            _query("sort", "Names, separated by commas; - for descending", text),
            _query("fields", "Names of the members to answer, separated by commas", text),
            _query(
                "limit",
                "Documents of a page",
                {"type": "integer", "minimum": 1, "maximum": most, "default": limit},
            ),
            _query(
                "skip",
                "Documents to leave out; not together with after",
                {"type": "integer", "minimum": 0, "maximum": 10**18 - 1, "default": 0},
            ),
            _query("after", "The page behind the one whose next this is", text),
            _query("count", "Adds total", {"type": "boolean", "default": False}),
        ]
        for name, type_ in _scalars(self.schema, self.schema["fields"], (self.name,)):
            if name not in OPTIONS and name != "id":
                parameters.append(_query(name, f"{name} equals this", type_))
        return parameters


_INVALID = Answer("Validation Error", "invalid")


def _header(description: str) -> Json:
    return {"description": description, "schema": {"type": "string"}}


def _match(name: str, description: str, *, required: bool = False) -> Json:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string"},
    }


def _query(name: str, description: str, schema: Json) -> Json:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": description,
        "schema": schema,
    }


def _scalars(schema: Schema, fields: Sequence[Schema], above: tuple[str, ...]) -> Iterator[Any]:
    """The scalars that may be asked for by name, with what they are: 'author.name'."""
    for member in fields:
        if member.get("write_only"):
            continue
        type_: Schema = member
        while type_["type"] == "list":
            type_ = type_["items"]
        name = member["name"]
        if type_["type"] == "model" and type_["model"] not in above:
            inner = schema["models"][type_["model"]]["fields"]
            for below, found in _scalars(schema, inner, (*above, type_["model"])):
                yield f"{name}.{below}", found
        elif type_["type"] in _PLAIN:
            yield name, dict(_PLAIN[type_["type"]])
        elif type_["type"] in ("literal", "enum"):
            yield name, {"enum": list(type_["values"])}


# Bodies.  Each of these makes one JSON schema of another, and of the resource's schema.


def id_schema(schema: Schema) -> Json:
    """Of an id, in a path and in a document that declares none."""
    if schema["id"] == "objectid":
        return {"type": "string", "title": "Id", "pattern": "^[0-9a-fA-F]{24}$"}
    return {**_PLAIN[schema["id"]], "title": "Id"}


def takes_as_declared(schema: Schema) -> bool:
    """Whether a body is the model itself."""
    marked = any(
        member.get(word) for member in schema["fields"] for word in ("read_only", "write_only")
    )
    return not marked and not schema.get("timestamps")


def answers_as_declared(schema: Schema) -> bool:
    """Whether a stored document is the model itself."""
    return takes_as_declared(schema) and schema["id"] != "objectid"


def input_of(model: Json, schema: Schema) -> Json:
    """What create and update take, of the model's own JSON schema."""
    properties = {name: dict(value) for name, value in model.get("properties", {}).items()}
    required = list(model.get("required", ()))
    _mark(properties, schema)
    for name, value in properties.items():
        if value.get("readOnly") and name in required:
            required.remove(name)
    return _object(model, properties, required)


def document_of(model: Json, schema: Schema) -> Json:
    """What is answered: the id first, the stamps last, nothing that is only written."""
    properties: Json = {}
    required = list(model.get("required", ()))
    if schema["id"] == "objectid":
        properties["id"] = {**id_schema(schema), "pattern": "^[0-9a-f]{24}$", "readOnly": True}
        required.insert(0, "id")
    for name, value in model.get("properties", {}).items():
        properties[name] = dict(value)
    for name in _stamps(schema):
        if name not in properties:
            properties[name] = {**_PLAIN["datetime"], "title": _title(name)}
            required.append(name)
    _mark(properties, schema)
    for name in [name for name, value in properties.items() if value.get("writeOnly")]:
        del properties[name]
    return _object(model, properties, [name for name in required if name in properties])


def patch_of(model: Json, schema: Schema) -> Json:
    """What patch takes: any of the members, null to remove one, objects in part."""
    properties = {}
    for name, value in input_of(model, schema)["properties"].items():
        if value.get("readOnly") or name == "id":
            continue
        kept = {key: value[key] for key in ("title", "writeOnly") if key in value}
        inner = {key: item for key, item in value.items() if key not in (*kept, "default")}
        choices: list[Json] = inner.pop("anyOf") if list(inner) == ["anyOf"] else [inner]
        if any("$ref" in choice for choice in choices):
            choices = [*choices, {"type": "object"}]
        if {"type": "null"} not in choices:
            choices = [*choices, {"type": "null"}]
        properties[name] = {"anyOf": choices, **kept}
    return _object(model, properties, [])


def page_of(document: Json, schema: Schema) -> Json:
    """What a list answers; `fields=` leaves only the id and what was asked for."""
    part = {
        "type": "object",
        "title": "Part",
        "description": "The members that fields= names",
        "properties": {"id": id_schema(schema)},
        "required": ["id"],
    }
    count = {"type": "integer", "minimum": 0}
    return {
        "type": "object",
        "properties": {
            "items": {
                "type": "array",
                "title": "Items",
                "items": {"anyOf": [document, part]},
            },
            "limit": {**count, "title": "Limit"},
            "skip": {**count, "title": "Skip"},
            "total": {
                **count,
                "title": "Total",
                "description": "All that match; with count=true",
            },
            "next": {
                "type": "string",
                "title": "Next",
                "description": "For after=; when there is more",
            },
        },
        "required": ["items", "limit", "skip"],
    }


def _object(model: Json, properties: Json, required: Sequence[str]) -> Json:
    rest = {name: value for name, value in model.items() if name not in ("properties", "required")}
    return {**rest, "properties": properties, **({"required": required} if required else {})}


def _stamps(schema: Schema) -> list[str]:
    return list(schema.get("timestamps", {}).values())


def _mark(properties: Json, schema: Schema) -> None:
    stamps = _stamps(schema)
    for member in schema["fields"]:
        for name in (member["name"], *member.get("accepts", ())):
            if name not in properties:
                continue
            if member.get("read_only") or member["name"] in stamps:
                properties[name]["readOnly"] = True
            if member.get("write_only"):
                properties[name]["writeOnly"] = True
    for name in stamps:
        if name in properties:
            properties[name]["readOnly"] = True


# The document of schemas alone.


def document(schemas: Sequence[Schema], *, title: str | None = None) -> Json:
    """The OpenAPI document of resources that no application declares."""
    models = _Models()
    paths: dict[str, Json] = {}
    for schema in schemas:
        bodies = models.add(schema)
        for operation in operations(schema):
            item = paths.setdefault(operation.path, {})
            if operation.method.lower() in item:
                raise ValueError(f"{operation.path} is the path of two schemas")
            item[operation.method.lower()] = _render(schema, operation, bodies)
    names = ", ".join(dict.fromkeys(schema["model"] for schema in schemas))
    return {
        "openapi": "3.1.0",
        "info": {"title": title or names, "version": "0.1.0"},
        "paths": paths,
        "components": {"schemas": dict(sorted(models.components.items()))},
    }


def _render(schema: Schema, operation: Operation, bodies: Mapping[str, Json]) -> Json:
    path = re.sub(r"\W", "_", operation.path)
    rendered: Json = {
        "tags": [schema["model"]],
        "summary": operation.summary,
        "description": operation.description,
        "operationId": f"{operation_name(schema, operation)}{path}_{operation.method.lower()}",
    }
    if operation.parameters:
        rendered["parameters"] = operation.parameters
    if operation.body is not None:
        content = {"application/json": {"schema": bodies[operation.body]}}
        if operation.body == "patch":
            content[PATCH_TYPE] = {"schema": bodies["patch"]}
        rendered["requestBody"] = {"required": True, "content": content}
    rendered["responses"] = {
        str(status): _render_answer(answer, bodies) for status, answer in operation.answers.items()
    }
    return rendered


def _render_answer(answer: Answer, bodies: Mapping[str, Json]) -> Json:
    rendered: Json = {"description": answer.description}
    if answer.headers:
        rendered["headers"] = dict(answer.headers)
    if answer.body is not None:
        rendered["content"] = {"application/json": {"schema": bodies[answer.body]}}
    return rendered


def operation_name(schema: Schema, operation: Operation) -> str:
    """The name of its route, which FastAPI makes operation ids of."""
    return f"{operation.kind}_{schema['model'].lower()}"


class _Models:
    """The components; a name that is there with another meaning gets a number."""

    def __init__(self) -> None:
        self.components: dict[str, Json] = {
            "ErrorDetail": _ERROR,
            "HTTPValidationError": _VALIDATION_ERRORS,
            "ValidationError": _VALIDATION_ERROR,
        }

    def add(self, schema: Schema) -> dict[str, Json]:
        """What the bodies of a resource's operations are."""
        self.names = dict.fromkeys(schema.get("models", {}), "")
        self.define(schema)
        name = schema["model"]
        meaning = input_of(self.model(schema, name), schema)
        taken = self.place(name if takes_as_declared(schema) else f"{name}Input", meaning)
        kept = document_of(self.model(schema, name, stored=True), schema)
        document = taken if kept == meaning else self.place(f"{name}Document", kept)
        patch = {**patch_of(self.model(schema, name), schema), "title": f"{name}Patch"}
        page = {"title": f"{name}Page", **page_of(document, schema)}
        served = schema.get("operations", ("list", "patch"))
        return {
            "create": one_or_many(taken),
            "update": taken,
            "patch": self.place(f"{name}Patch", patch) if "patch" in served else {},
            "document": document,
            "created": one_or_many(document),
            "page": self.place(f"{name}Page", page) if "list" in served else {},
            "error": _ref("ErrorDetail"),
            "invalid": _ref("HTTPValidationError"),
        }

    def define(self, schema: Schema) -> None:
        """The nested models: their names first, since they may name each other."""
        nested = schema.get("models", {})
        for name in nested:
            self.names[name] = self.free(name, None)
            self.components[self.names[name]] = {}
        for name, inner in nested.items():
            self.components[self.names[name]] = self.model(inner, name)

    def free(self, name: str, meaning: Json | None) -> str:
        taken, count = name, 1
        while taken in self.components and self.components[taken] != meaning:
            count += 1
            taken = f"{name}_{count}"
        return taken

    def place(self, name: str, meaning: Json) -> Json:
        name = self.free(name, meaning)
        self.components[name] = meaning
        return _ref(name)

    def model(self, schema: Schema, title: str, *, stored: bool = False) -> Json:
        """A model as it is stored, or as clients send it."""
        properties, required = {}, []
        for member in schema["fields"]:
            name = member["name"] if stored else member.get("accepts", [member["name"]])[0]
            properties[name] = {**self.type_of(member), "title": _title(name)}
            if "default" in member:
                properties[name]["default"] = member["default"]
            elif "default_factory" not in member:
                required.append(name)
        model: Json = {"type": "object", "title": title, "properties": properties}
        if required:
            model["required"] = required
        if schema.get("extra") == "forbid":
            model["additionalProperties"] = False
        return model

    def type_of(self, type_: Schema) -> Json:
        found = self.plain(type_)
        if type_.get("nullable"):
            return {"anyOf": [found, {"type": "null"}]}
        return found

    def plain(self, type_: Schema) -> Json:
        kind = type_["type"]
        if kind == "list":
            return {"type": "array", "items": self.type_of(type_["items"])} | _sizes(
                type_, "minItems", "maxItems"
            )
        if kind == "dict":
            return {
                "type": "object",
                "additionalProperties": self.type_of(type_["values"]),
            } | _sizes(type_, "minProperties", "maxProperties")
        if kind == "model":
            return _ref(self.names[type_["model"]])
        if kind in ("literal", "enum"):
            return {"enum": list(type_["values"])}
        if kind == "decimal":
            return {"anyOf": [{"type": "number"}, {"type": "string"}]}
        if kind == "tuple":
            items = [self.type_of(item) for item in type_["items"]]
            sizes = {"minItems": len(items), "maxItems": len(items)}
            return {"type": "array", "prefixItems": items, **sizes}
        if kind in ("union", "tagged"):
            return {"anyOf": [self.type_of(choice["type"]) for choice in type_["choices"]]}
        plain = dict(_PLAIN.get(kind, {}))
        if kind == "int":
            plain |= _INT64
        words = _WORDS.items() if kind in _CONSTRAINED else ()
        return plain | {word: type_[name] for name, word in words if name in type_}


def one_or_many(one: Json) -> Json:
    return {"oneOf": [one, {"type": "array", "items": one, "maxItems": _crud.MAX_ITEMS}]}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _sizes(type_: Schema, least: str, most: str) -> Json:
    pairs = (("min_items", least), ("max_items", most))
    return {word: type_[name] for name, word in pairs if name in type_}


def _title(name: str) -> str:
    return name.title().replace("_", " ")


_ERROR: Json = {
    "type": "object",
    "title": "ErrorDetail",
    "properties": {"detail": {"type": "string", "title": "Detail"}},
    "required": ["detail"],
}

_VALIDATION_ERROR: Json = {
    "type": "object",
    "title": "ValidationError",
    "properties": {
        "loc": {
            "type": "array",
            "title": "Location",
            "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        },
        "msg": {"type": "string", "title": "Message"},
        "type": {"type": "string", "title": "Error Type"},
        "input": {"title": "Input"},
        "ctx": {"type": "object", "title": "Context"},
    },
    "required": ["loc", "msg", "type"],
}

_VALIDATION_ERRORS: Json = {
    "type": "object",
    "title": "HTTPValidationError",
    "properties": {
        "detail": {"type": "array", "title": "Detail", "items": _ref("ValidationError")}
    },
}
