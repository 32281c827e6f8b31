"""Finding an application without being told its name, as `fastapi dev` does.

Files are read, not imported: one that is broken is found as well, so that it can be
served, and mended, by `databridge dev`.
"""

import ast
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from databridge.loading import LoadError, split

FILES = ("main.py", "app.py", "api.py", "app/main.py", "app/app.py", "app/api.py")
NAMES = ("app", "api", "application")
FACTORIES = ("create_app", "make_app", "build_app", "get_app")
MAKERS = ("App", "FastAPI", "Starlette", "Flask", "Quart", "Litestar")


@dataclass(frozen=True)
class Found:
    """An application: its import string, and the directory that it is imported from."""

    target: str
    directory: str
    file: Path | None = None
    factory: bool = False


def find(name: str | None, directory: str = ".") -> Found:
    """The application of a name: MODULE:APP, a file, a directory, or none at all."""
    if name is None:
        return _declared(Path(directory)) or _searched(Path(directory))
    path = Path(directory, name)
    if path.suffix == ".py" or "/" in name:
        if path.is_dir():
            return _searched(path)
        if not path.is_file():
            raise LoadError(f"there is no file {path}")
        return _in_file(path)
    split(name)
    return Found(name, directory)


def _declared(directory: Path) -> Found | None:
    """What pyproject.toml says to FastAPI's own command."""
    try:
        with open(directory / "pyproject.toml", "rb") as file:
            entry = tomllib.load(file).get("tool", {}).get("fastapi", {}).get("entrypoint")
    except FileNotFoundError:
        return None
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise LoadError(f"{directory / 'pyproject.toml'} cannot be read: {exc}") from exc
    if entry is None:
        return None
    split(str(entry))
    return Found(str(entry), str(directory))


def _searched(directory: Path) -> Found:
    for name in FILES:
        if (directory / name).is_file():
            return _in_file(directory / name)
    raise LoadError(
        f"there is no application in {directory.resolve()}: none of {', '.join(FILES)} is"
        " there; name it, as MODULE:APP or as a file"
    )


def _in_file(path: Path) -> Found:
    module, directory = module_of(path)
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError):
        return Found(f"{module}:app", directory, path)
    attribute, factory = _choose(path, list(_bound(tree.body)))
    return Found(f"{module}:{attribute}", directory, path, factory)


def module_of(path: Path) -> tuple[str, str]:
    """The name a file is imported by, and from which directory: that above its packages."""
    path = path.resolve()
    parts = [] if path.name == "__init__.py" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    if not all(part.isidentifier() for part in parts):
        raise LoadError(f"{path} cannot be imported by its name: use letters, digits and _")
    return ".".join(parts), str(folder)


def _bound(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.AST | None]]:
    """What the statements of a module bind: each name, and the function or value if known."""
    for node in body:
        match node:
            case ast.Assign(targets=targets, value=value):
                yield from ((t.id, value) for t in targets if isinstance(t, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value
            case ast.ImportFrom(names=names):
                yield from ((alias.asname or alias.name, None) for alias in names)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, node
            case ast.If() | ast.Try() | ast.With():
                for _, field in ast.iter_fields(node):
                    yield from _bound(_statements(field))


def _statements(field: object) -> list[ast.stmt]:
    if not isinstance(field, list):
        return []
    handlers = [node for node in field if isinstance(node, ast.ExceptHandler)]
    return [node for node in field if isinstance(node, ast.stmt)] + [
        node for handler in handlers for node in handler.body
    ]


def _choose(path: Path, bound: list[tuple[str, ast.AST | None]]) -> tuple[str, bool]:
    """The name of the application in a file, and whether it has to be called."""
    last = dict(bound)
    for name in NAMES:
        if name in last:
            return name, _is_factory(last[name])
    for name, value in last.items():
        if _is_made(value):
            return name, False
    for name in FACTORIES:
        if name in last:
            if last[name] is None or _is_factory(last[name]):
                return name, True
            raise LoadError(
                f"{path}: {name}() takes arguments, so it cannot be called here; assign"
                f" app = {name}(...) in the file, or name a function that takes none"
            )
    raise LoadError(
        f"{path} has no application: assign one to app, as in app = App(), or name it, as"
        f" {path.stem}:NAME"
    )


def _is_made(value: ast.AST | None) -> bool:
    """Whether a value is a call of one of the classes that applications are made of."""
    match value:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in MAKERS
    return False


def _is_factory(value: ast.AST | None) -> bool:
    return isinstance(value, ast.FunctionDef) and not any(_required(value.args))


def _required(arguments: ast.arguments) -> Iterable[ast.arg]:
    positional = [*arguments.posonlyargs, *arguments.args]
    yield from positional[: len(positional) - len(arguments.defaults)]
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if default is None:
            yield argument
