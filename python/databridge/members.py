"""What of a document is validated by pydantic, and what is stored of it.

A client does not decide about every member: some are the server's, some are kept as they are.
C does the same for what it validates itself.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import pydantic_core
from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from pydantic import AliasChoices, AliasPath, BaseModel, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from databridge import _crud


class Members:
    """The members of a resource's documents, by the names that documents have."""

    def __init__(self, model: type[BaseModel], schema: Mapping[str, Any]) -> None:
        fields = {field["name"]: field for field in schema["fields"]}
        self.one: TypeAdapter[Any] = TypeAdapter(model)
        self.many: TypeAdapter[Any] = TypeAdapter(
            Annotated[list[model], Field(max_length=_crud.MAX_ITEMS)]  # type: ignore[valid-type,arg-type]
        )
        self.id: TypeAdapter[Any] | None = None
        if schema["id"] != "objectid":
            id_type: Any = model.model_fields["id"].annotation
            self.id = TypeAdapter(id_type)
        self.open = model.model_config.get("extra") == "allow"
        self.stamps: dict[str, str] = schema.get("timestamps", {})
        self.added = [name for name in self.stamps.values() if name not in fields]
        self.stamped = [name for name in self.stamps.values() if name in fields]
        self.scope: list[str] = list(schema.get("scope", ()))
        self.immutable = _having(fields, "immutable")
        self.write_only = frozenset(_having(fields, "write_only"))
        self.read_only = _having(fields, "read_only")
        #: What a client sends of these is not looked at.
        self.ignored = {*self.read_only, *self.stamps.values(), *self.scope}
        #: An update has to know the document for these.
        self.keeps = bool(self.read_only or self.immutable or self.stamps)
        #: What is stored but is not for pydantic to read.
        self.foreign = {"id", *self.added}
        self.foreign |= {info.alias or name for name, info in model.model_computed_fields.items()}
        #: The names under which pydantic takes a field, the first one for ours.
        self.names = {name: field.get("accepts", [name]) for name, field in fields.items()}
        self.stored = {taken: name for name, names in self.names.items() for taken in names}
        #: Knows what clients call what is stored, in nested models and unions as well.
        self.resource = _crud.compile(json.dumps(schema)) if _is_aliased(schema) else None
        #: What is read from a path alone has no such name: it is given as the field.
        self.by_name = any(map(_is_path, model.model_fields.values())) or None

    def created(self, body: Any, scope: Sequence[str]) -> list[Any]:
        """The items of a POST: one, or the ones of an array."""
        many = isinstance(body, list)
        items: list[Any] = []
        if many:
            complete = [self.complete(document, {}, scope) for document in body]
            items, errors = _validated(self.many, complete)
            _show(errors, complete, body)
            for sent, document in zip(body, complete, strict=True):
                _show(errors, document, sent)
        else:
            complete = self.complete(body, {}, scope)
            item, errors = _validated(self.one, complete)
            _show(errors, complete, body)
            items.append(item)
        self.refuse(errors, body, depth=2 if many else 1)
        for number, item in enumerate(items):
            if self.id is not None and item.id == "":
                raise RequestValidationError([_too_short([number] if many else [])], body=body)
        return items

    def replaced(
        self, id: str, body: Any, current: bytes | None, scope: Sequence[str], patch: bool
    ) -> tuple[Any, Any]:
        """The item that takes the place of what is stored, and its id."""
        stored = pydantic_core.from_json(current) if current else {}
        known, id_errors = self.parsed(id)
        complete = self.complete(body, stored, scope, patch, known)
        item, errors = _validated(self.one, complete, by_name=self.by_name)
        if id_errors:
            errors = [error for error in errors if error["loc"] != ("body", "id")]
        elif not errors:
            errors = self.frozen(item, body, stored)
        if patch and isinstance(body, dict):
            self.hide(errors, complete, stored, body)
        else:
            _show(errors, complete, body)
        self.refuse([*id_errors, *errors], body)
        return item, known

    def complete(
        self,
        body: Any,
        stored: Mapping[str, Any],
        scope: Sequence[str],
        patch: bool = False,
        id: Any = None,
    ) -> Any:
        """What is validated: the body with what is not the client's to say."""
        if not isinstance(body, dict):
            return body
        given = {
            name: value
            for name, value in body.items()
            if self.stored.get(name, name) not in self.ignored
        }
        if patch:
            given = merged(self.sent(stored, given), given)
        kept = self.sent(stored, {})
        for name in (*self.read_only, *self.immutable):
            best = self.called(name, {})
            if best in kept and self.called(name, given) not in given:
                given[best] = kept[best]
        server = dict(zip(self.scope, scope, strict=True))
        server |= {name: self.stamp(name, stored) for name in self.stamped}
        if id is not None:
            for name in ("id", *self.names.get("id", ())):
                if self.stored.get(name, "id") == "id":
                    given.pop(name, None)
            if self.id is not None:
                server["id"] = id
        return given | {self.called(name, {}): value for name, value in server.items()}

    def called(self, name: str, body: Mapping[str, Any]) -> str:
        """The name by which a client has sent a field, or else the best one."""
        names: list[str] = self.names.get(name, [name])
        return next((taken for taken in names if taken in body), names[0])

    def sent(self, stored: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
        """What the model knows of a document, as a client would send it."""
        known = {
            name: value
            for name, value in stored.items()
            if name not in self.foreign and (self.open or name in self.names)
        }
        if self.resource is None:
            return known
        more = {name: value for name, value in known.items() if name not in self.names}
        known = {name: value for name, value in known.items() if name in self.names}
        texts = (pydantic_core.to_json(one) for one in (known, body))
        renamed: dict[str, Any] = pydantic_core.from_json(self.resource.renamed(*texts))
        return {**more, **renamed}

    def hide(
        self,
        errors: Sequence[dict[str, Any]],
        complete: Any,
        stored: Mapping[str, Any],
        patch: Mapping[str, Any],
    ) -> None:
        """Errors of a patch tell nothing of a write_only member that the client has not sent."""
        shown = self.shown(stored, patch)
        merged_into = {
            self.stored.get(name, name) for name, value in patch.items() if isinstance(value, dict)
        }
        secret = not merged_into.isdisjoint(self.write_only & stored.keys())
        for error in errors:
            whole = error["input"] is complete or error["loc"] == ("body",)
            if secret:
                error["input"] = None
            elif whole or (error["type"] == "missing" and len(error["loc"]) == 2):
                error["input"] = shown

    def shown(self, stored: Mapping[str, Any], body: Mapping[str, Any]) -> Any:
        """What a patch makes of a document, without what is never answered unless it is sent."""
        hidden = self.write_only - {self.stored.get(name, name) for name in body}
        visible = {name: value for name, value in stored.items() if name not in hidden}
        sent = self.sent(visible, body)
        document = {}
        for name, value in visible.items():
            called = name if name in self.foreign else self.called(name, body)
            if name in self.foreign or called in sent:
                document[called] = sent.get(called, value)
        return merged(document, body)

    def stamp(self, name: str, stored: Mapping[str, Any]) -> str:
        if name == self.stamps.get("created") and name in stored:
            return str(stored[name])
        return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")

    def frozen(self, item: Any, body: Any, stored: Mapping[str, Any]) -> list[Any]:
        """Errors for what would change and may not."""
        names = [name for name in self.immutable if name in stored]
        if not names:
            return []
        document = item.model_dump(mode="json", by_alias=True)
        return [
            {
                "type": "frozen_field",
                "loc": ("body", self.called(name, body)),
                "msg": "Field is frozen",
                "input": body.get(self.called(name, body)),
            }
            for name in names
            if document.get(name) != stored[name]
        ]

    def refuse(self, errors: Sequence[Any], body: Any, depth: int = 1) -> None:
        """Raises what FastAPI does; a value of the scope is not the client's fault."""
        scope = {self.names[name][0] for name in self.scope}
        if any(len(error["loc"]) > depth and error["loc"][depth] in scope for error in errors):
            raise HTTPException(403)
        if errors:
            raise RequestValidationError(errors, body=body)

    def parsed(self, id: str) -> tuple[Any, list[Any]]:
        """The id of a path as the model declares it, and its errors."""
        return (id, []) if self.id is None else _validated(self.id, id, "path", "id")

    def id_of(self, item: Any) -> str:
        return "" if self.id is None else str(item.id)

    def text(self, item: Any, id: Any = None, current: bytes | None = None) -> bytes:
        """What is stored of an item; the id of a path stays, whatever a hook does."""
        if id is not None and self.id is not None and item.id != id:
            item = item.model_copy(update={"id": id})
        text: str = item.model_dump_json(by_alias=True)
        if self.added:
            stored = pydantic_core.from_json(current) if current else {}
            stamps = {name: self.stamp(name, stored) for name in self.added}
            more = json.dumps(stamps, separators=(",", ":"))
            text = f"{text[:-1]}{',' if len(text) > 2 else ''}{more[1:]}"
        return text.encode()


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def _having(fields: Mapping[str, Mapping[str, Any]], member: str) -> list[str]:
    return [name for name, field in fields.items() if field.get(member)]


def _is_aliased(schema: Any) -> bool:
    """Whether clients have names of their own for anything in the documents."""
    models = (schema, *schema.get("models", {}).values())
    return any("accepts" in field for model in models for field in model["fields"])


def _is_path(field: FieldInfo) -> bool:
    alias = field.validation_alias
    paths = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return all(isinstance(path, AliasPath) for path in paths)


def _validated(
    adapter: TypeAdapter[Any], value: Any, *loc: str, by_name: bool | None = None
) -> tuple[Any, list[Any]]:
    """As FastAPI validates, with its errors."""
    try:
        return adapter.validate_python(value, from_attributes=True, by_name=by_name), []
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
        return value, [{**error, "loc": (*(loc or ("body",)), *error["loc"])} for error in errors]


def _show(errors: Sequence[dict[str, Any]], value: Any, instead: Any) -> None:
    """An error repeats what was sent, not what was made of it."""
    for error in errors:
        if error["input"] is value:
            error["input"] = instead


def _too_short(loc: Sequence[int]) -> dict[str, Any]:
    """No path leads to such an id."""
    return {
        "type": "string_too_short",
        "loc": ("body", *loc, "id"),
        "msg": "String should have at least 1 character",
        "input": "",
        "ctx": {"min_length": 1},
    }
