"""The OpenAPI documents that the command line prints."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from databridge import _crud, loading, openapi
from databridge.loading import LoadError


def of_app(target: str, app_dirs: Sequence[str], *, factory: bool) -> dict[str, Any]:
    """The document of an application, as it serves it itself."""
    app = loading.load(target, app_dirs, factory=factory)
    describe = getattr(app, "openapi", None)
    if not callable(describe):
        raise LoadError(
            f"{target} is a {type(app).__name__}: only databridge.App and FastAPI"
            " applications have an OpenAPI document"
        )
    described: dict[str, Any] = describe()
    return described


def of_files(files: Sequence[Path], title: str | None) -> dict[str, Any]:
    """The document of the resources that these schema files describe."""
    schemas = [read_schema(file) for file in files]
    try:
        return openapi.document(schemas, title=title)
    except ValueError as exc:
        raise LoadError(str(exc)) from exc


def read_schema(file: Path) -> dict[str, Any]:
    """A schema file, refused as nginx would refuse it."""
    try:
        text = file.read_text(encoding="utf-8")
        _crud.compile(text)
    except OSError as exc:
        raise LoadError(f"{file} cannot be read: {exc.strerror or exc}") from exc
    except ValueError as exc:
        raise LoadError(f"{file}: {exc}") from exc
    schema: dict[str, Any] = json.loads(text)
    return schema
