"""Documents as lines: what `databridge store` lists, exports and imports.

Reading and writing are the C store's, as nginx has it: an import queues for the same lock
as the workers that serve the file, and they see what it has committed.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from databridge import _crud, _store, describing, loading
from databridge.loading import LoadError

Conflict = Literal["fail", "skip", "replace"]

PAGE = 256
"""Documents that are read at a time: each may have a MiB."""

BATCH_LINES = 1000
BATCH_BYTES = 4 * 1024 * 1024
"""What is written at a time, all or nothing."""

MAX_LINE = 16 * 1024 * 1024

#: Members of a schema, and of its fields, that say what a document is and nothing else.
_DOCUMENT = (
    *("databridge", "model", "collection", "prefix", "store"),
    *("id", "extra", "models", "index", "unique"),
)
_HANDLING = ("read_only", "write_only", "immutable", "accepts")


class DocumentError(Exception):
    """What stopped an export or import; the text is for the user, in one line."""


@contextlib.contextmanager
def opened(uri: str, *, create: bool = False) -> Iterator[_store.Store]:
    """An open store; a file that is missing is made for an import alone."""
    file = _file_of(uri)
    if file is not None and not create and not os.path.exists(file):
        raise DocumentError(f"{uri}: there is no file {file}")
    with _said(uri):
        store = _store.open(uri)
    try:
        yield store
    finally:
        store.close()


def catalog(uri: str) -> list[tuple[str, str, int]]:
    """The collections of a store: their names, kinds of id and numbers of documents."""
    with opened(uri) as store, _said(uri):
        return [(name, kind, count) for name, kind, count in store.catalog()]


def export(
    uri: str,
    name: str,
    output: IO[bytes],
    *,
    schema: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Writes a collection as NDJSON, by id; the number of documents."""
    with opened(uri) as store:
        collection, total = _collection(store, uri, name, schema)
        done, after = 0, None
        while True:
            with _said(uri):
                lines, after = collection.page(after, PAGE)
            output.write(lines)
            done += lines.count(b"\n")
            progress(done, max(done, total))
            if after is None:
                return done


def import_(
    uri: str,
    name: str,
    source: IO[bytes],
    *,
    schema: dict[str, Any] | None = None,
    on_conflict: Conflict = "fail",
    progress: Callable[[int], None] = lambda read: None,
) -> tuple[int, int]:
    """Reads NDJSON into a collection; how many were stored, and how many left out."""
    if schema is None and uri.startswith("mongodb"):
        raise DocumentError("an import into MongoDB needs --schema, which says what is a datetime")
    check = _Check(schema) if schema is not None else None
    with opened(uri, create=schema is not None) as store:
        collection, _ = _collection(store, uri, name, schema)
        with _said(uri):
            collection.prepare()
        try:
            for numbers, lines, read in _batches(source, check):
                try:
                    collection.write(lines, on_conflict)
                except _store.StoreError as exc:
                    message, index = exc.args
                    where = f"line {numbers[index]}" if index >= 0 else _shown(uri)
                    raise DocumentError(f"{where}: {message}") from None
                progress(read)
        except KeyboardInterrupt:
            raise DocumentError(f"interrupted; {_so_far(collection)}") from None
        except DocumentError as exc:
            raise DocumentError(f"{exc}; {_so_far(collection)}") from None
        return collection.stored, collection.skipped


def schema_of(target: str, app_dirs: Sequence[str]) -> dict[str, Any]:
    """The schema that --schema names: a file, or MODULE:MODEL as an application has it."""
    if target.endswith(".json"):
        return describing.read_schema(Path(target))
    from databridge.crud import CrudError, schema_for

    model = loading.load_model(target, app_dirs)
    declared = loading.declared_crud(target, model)
    if declared is not None:
        return declared.schema
    try:
        return schema_for(model)
    except CrudError as exc:
        raise LoadError(str(exc)) from exc


def _plain(schema: dict[str, Any]) -> str:
    """A schema of the same documents, which lets all of their fields be written."""
    plain = {name: schema[name] for name in _DOCUMENT if name in schema}
    plain["fields"] = [
        {name: value for name, value in field.items() if name not in _HANDLING}
        for field in schema["fields"]
    ]
    declared = {field["name"] for field in plain["fields"]}
    for name in schema.get("timestamps", {}).values():
        if name not in declared:
            plain["fields"].append({"name": name, "type": "datetime"})
    return json.dumps(plain, ensure_ascii=False)


class _Check:
    """Documents as create and update would store them, with what no client may write."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.resource = _crud.compile(_plain(schema))

    def __call__(self, line: bytes) -> bytes:
        try:
            found = json.loads(line)
        except ValueError:
            found = {}  # the resource says it better
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
        id_ = found.get("id")
        if id_ is None:
            answer = self.resource.call("create", body=line)
        else:
            answer = self.resource.call("update", id=_id_text(id_), body=line)
        if answer[0] == "store":
            document = answer[3]
            assert isinstance(document, bytes)
            return document
        if answer[1] == 404:
            raise ValueError(f"{id_!r} is not an id of the collection")
        raise ValueError(_worded(json.loads(answer[2])["detail"]))


def _id_text(id_: Any) -> str:
    return id_ if isinstance(id_, str) else json.dumps(id_)


def _worded(detail: Any) -> str:
    if isinstance(detail, str):
        return detail
    first = detail[0]
    where = ".".join(str(step) for step in first["loc"][1:])
    rest = f" (and {len(detail) - 1} more)" if len(detail) > 1 else ""
    return f"{where}: {first['msg']}{rest}" if where else f"{first['msg']}{rest}"


def _batches(
    source: IO[bytes], check: _Check | None
) -> Iterator[tuple[list[int], list[bytes], int]]:
    """Lines by the batch, with their numbers and the bytes read; empty ones are none."""
    numbers: list[int] = []
    lines: list[bytes] = []
    size = read = number = 0
    while line := source.readline(MAX_LINE + 1):
        number += 1
        read += len(line)
        if len(line) > MAX_LINE:
            raise DocumentError(f"line {number}: longer than 16 MiB")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        line = line.strip()
        if not line:
            continue
        if check is not None:
            try:
                line = check(line)
            except ValueError as exc:
                raise DocumentError(f"line {number}: {exc}") from None
        numbers.append(number)
        lines.append(line)
        size += len(line)
        if len(lines) == BATCH_LINES or size >= BATCH_BYTES:
            yield numbers, lines, read
            numbers, lines, size = [], [], 0
    if lines:
        yield numbers, lines, read


def _so_far(collection: _store.Collection) -> str:
    stored = collection.stored
    return f"{stored} documents were stored before" if stored else "nothing was stored"


def _collection(
    store: _store.Store, uri: str, name: str, schema: dict[str, Any] | None
) -> tuple[_store.Collection, int]:
    """A collection, and how many documents it has, where that is known."""
    if schema is not None:
        return store.collection(name, schema=_plain(schema)), 0
    with _said(uri):
        found = {known: (kind, count) for known, kind, count in store.catalog()}
    if name not in found:
        known = f"it has {', '.join(found)}" if found else "it has none"
        raise DocumentError(
            f"{_shown(uri)} has no collection {name!r} ({known}); --schema says what a new one is"
        )
    kind, count = found[name]
    return store.collection(name, kind=kind), count


def _shown(uri: str) -> str:
    """A URI without its user name and password."""
    scheme, slashes, rest = uri.partition("://")
    hosts, slash, database = rest.partition("/")
    return scheme + slashes + hosts.rpartition("@")[2] + slash + database


def _file_of(uri: str) -> str | None:
    scheme, _, path = uri.partition(":")
    if scheme != "sqlite":
        return None
    return path.removeprefix("//").partition("?")[0]


@contextlib.contextmanager
def _said(uri: str) -> Iterator[None]:
    """A store's failure, as the user's."""
    try:
        yield
    except _store.StoreError as exc:
        raise DocumentError(exc.args[0]) from None
