"""Finding an application: import strings, and what to say when they are wrong."""

import contextlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from databridge.routing import CrudRoute

DEVELOPMENT = "DATABRIDGE_DEVELOPMENT"
"""Set in the workers of `databridge dev`, and kept from those of `run`."""

_PACKAGE = os.path.dirname(__file__)

_importing = False


class LoadError(Exception):
    """An application cannot be loaded; the text is for the user, in one line."""


def hosted() -> bool:
    """Whether this process only imports the application: a worker, or a check."""
    return _importing or "_databridge" in sys.builtin_module_names


def developing() -> bool:
    """Whether this is a worker of `databridge dev`, which may show tracebacks."""
    return DEVELOPMENT in os.environ


def split(target: str, what: str = "APP") -> tuple[str, str]:
    """The module and the attribute of an import string."""
    module, _, attribute = target.partition(":")
    if not module or not attribute:
        raise LoadError(f"{target!r} is not of the form MODULE:{what}, as main:app")
    return module, attribute


def load(target: str, app_dirs: Sequence[str] = (".",), *, factory: bool = False) -> Any:
    """The application an import string names; its own traceback is printed."""
    with _only_importing(app_dirs):
        return find(target, factory=factory)


def load_model(target: str, app_dirs: Sequence[str] = (".",)) -> "type[BaseModel]":
    """The pydantic model an import string names."""
    from pydantic import BaseModel

    with _only_importing(app_dirs):
        found = load_attribute(target, "MODEL")
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise LoadError(f"{target} is not a model, a subclass of databridge.Model")
    return found


def declared_crud(
    target: str, model: "type[BaseModel]", prefix: str | None = None
) -> "CrudRoute | None":
    """What an application of a loaded model's module declares for it, under a prefix if any."""
    from starlette.applications import Starlette

    from databridge.routing import CrudRoute

    for app in vars(sys.modules[split(target, "MODEL")[0]]).values():
        if not isinstance(app, Starlette):
            continue
        for route in app.router.routes:
            if (
                isinstance(route, CrudRoute)
                and route.model is model
                and prefix in (None, route.prefix)
            ):
                return route
    return None


@contextlib.contextmanager
def _only_importing(app_dirs: Sequence[str]) -> Iterator[None]:
    """Imports from these directories; what is imported must not start a server."""
    global _importing

    sys.path[:0] = map(os.path.abspath, app_dirs)
    _importing = True
    try:
        yield
    finally:
        _importing = False


@contextlib.contextmanager
def _blamed(what: str) -> Iterator[None]:
    """Shows the traceback of code that is not ours, and says what failed."""
    try:
        yield
    except (LoadError, KeyboardInterrupt):
        raise
    except BaseException as exc:
        print_traceback(exc)
        raise LoadError(f"{what}: {_summary(exc)}") from exc


def checked(app: Any, target: str) -> Any:
    """The app, or an error when it cannot be one."""
    if isinstance(app, ModuleType) or not callable(app):
        raise LoadError(f"{target} is a {type(app).__name__}, not an application")
    return app


def find(target: str, *, factory: bool = False) -> Any:
    """The application an import string names, found on sys.path."""
    found = load_attribute(target)
    if factory:
        with _blamed(f"{target}() failed"):
            found = made(found, target)
        target = f"{target}()"
    return checked(found, target)


def made(factory: Any, target: str) -> Any:
    """What a factory makes, which is called with nothing."""
    checked(factory, target)
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return factory()
    try:
        signature.bind()
    except TypeError:
        raise LoadError(
            f"{target} takes arguments, so it is no factory: leave out factory=on (--factory), or"
            " name a function that takes none"
        ) from None
    return factory()


def load_attribute(target: str, what: str = "APP") -> Any:
    module_name, attributes = split(target, what)
    with _blamed(f"{module_name} cannot be imported"):
        module = _load_module(module_name)

    found: Any = module
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError as exc:
            raise LoadError(_missing(module, attributes, what)) from exc
    return found


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{name}.".startswith(f"{exc.name}."):
            raise
        raise LoadError(
            f"there is no module {exc.name!r} in {sys.path[0]}; name the directory that"
            " holds it with --app-dir, or databridge_python_path in an nginx.conf"
        ) from exc


def import_string(app: Any) -> tuple[str, str]:
    """How a worker can import an app that is running here: the string, the directory."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None:
        raise LoadError(
            "an application can be served from a file only, not from a notebook or the"
            " interactive interpreter: save it as main.py and start 'databridge run main:app'"
        )

    names = sorted(name for name, value in vars(main).items() if value is app)
    if not names:
        raise LoadError(
            f"the application is not a global of {os.path.basename(file)}, where workers"
            " would import it: assign it there, or start 'databridge run MODULE:APP'"
        )
    name = "app" if "app" in names else names[0]

    if main.__spec__ is not None:
        return f"{main.__spec__.name}:{name}", os.getcwd()
    directory, base = os.path.split(os.path.abspath(file))
    stem = os.path.splitext(base)[0]
    if "." in stem:
        raise LoadError(f"{base} cannot be imported by its name: rename it without the dots")
    return f"{stem}:{name}", directory


def print_traceback(exc: BaseException) -> None:
    """The application's own frames on stderr."""
    text = traceback.format_exception(type(exc), exc, own_frames(exc))
    sys.stderr.write("".join(text))


def own_frames(exc: BaseException) -> TracebackType | None:
    """The frames of an exception, without those that led to the application.

    What this package refuses, as a CrudError, ends where the application has asked for it.
    """
    frames = exc.__traceback__
    while frames is not None and _imports(frames):
        frames = frames.tb_next
    return _asking(frames) if type(exc).__module__ == __package__ else frames


def _imports(frame: TracebackType) -> bool:
    file = frame.tb_frame.f_code.co_filename
    return file in (__file__, importlib.__file__, contextlib.__file__) or file.startswith(
        "<frozen importlib"
    )


def _asking(frame: TracebackType | None) -> TracebackType | None:
    """The frames without the last of them that are this package's."""
    if frame is None:
        return None
    rest = _asking(frame.tb_next)
    if rest is None and os.path.dirname(frame.tb_frame.f_code.co_filename) == _PACKAGE:
        return None
    return TracebackType(rest, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)


def _summary(exc: BaseException) -> str:
    text = traceback.format_exception_only(type(exc), exc)[-1].strip()
    if isinstance(exc, ModuleNotFoundError):
        text += f"; install it into {sys.prefix}, if it is not the application's own"
    return text


def _missing(module: ModuleType, attribute: str, what: str) -> str:
    where = getattr(module, "__file__", None) or "built into Python"
    text = f"module {module.__name__!r} ({where}) has no attribute {attribute!r}"
    names = _candidates(module) if what == "APP" else _models(module)
    if names:
        text += "; did you mean " + " or ".join(f"{module.__name__}:{n}" for n in names) + "?"
    return text


def _candidates(module: ModuleType) -> list[str]:
    """Globals that are Starlette applications, which FastAPI's and ours are."""
    applications = sys.modules.get("starlette.applications")
    if applications is None:
        return []
    return sorted(
        name for name, value in vars(module).items() if isinstance(value, applications.Starlette)
    )


def _models(module: ModuleType) -> list[str]:
    """The models a module defines."""
    from pydantic import BaseModel

    return sorted(
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, BaseModel)
        and value.__module__ == module.__name__
    )
