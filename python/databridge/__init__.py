"""databridge: nginx as the server of Python applications and native CRUD.

Names are loaded on first use: importing the package costs next to nothing.
"""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fastapi import BackgroundTasks as BackgroundTasks
    from fastapi import Body as Body
    from fastapi import Cookie as Cookie
    from fastapi import Depends as Depends
    from fastapi import File as File
    from fastapi import Form as Form
    from fastapi import Header as Header
    from fastapi import HTTPException as HTTPException
    from fastapi import Path as Path
    from fastapi import Query as Query
    from fastapi import Request as Request
    from fastapi import Response as Response
    from fastapi import Security as Security
    from fastapi import UploadFile as UploadFile
    from fastapi import WebSocket as WebSocket
    from fastapi import WebSocketDisconnect as WebSocketDisconnect
    from fastapi import WebSocketException as WebSocketException
    from fastapi import status as status
    from fastapi.exceptions import RequestValidationError as RequestValidationError
    from fastapi.responses import FileResponse as FileResponse
    from fastapi.responses import HTMLResponse as HTMLResponse
    from fastapi.responses import JSONResponse as JSONResponse
    from fastapi.responses import PlainTextResponse as PlainTextResponse
    from fastapi.responses import RedirectResponse as RedirectResponse
    from fastapi.responses import StreamingResponse as StreamingResponse
    from pydantic import BaseModel as Model
    from pydantic import Field as Field
    from pydantic import ValidationError as ValidationError

    from databridge.app import App as App
    from databridge.crud import CrudError as CrudError
    from databridge.errors import DatabaseError as DatabaseError
    from databridge.loop import EventLoopPolicy as EventLoopPolicy
    from databridge.loop import Loop as PyLoop
    from databridge.loop import new_event_loop as new_event_loop
    from databridge.loop import run as run
    from databridge.middleware import BaseMiddleware as BaseMiddleware
    from databridge.pages import offline_docs as offline_docs
    from databridge.routing import APIRouter as APIRouter
    from databridge.server import serve as serve

_MODULES = {
    "databridge.app": ("App",),
    "databridge.crud": ("CrudError",),
    "databridge.errors": ("DatabaseError",),
    "databridge.loop": ("EventLoopPolicy", "PyLoop", "new_event_loop", "run"),
    "databridge.middleware": ("BaseMiddleware",),
    "databridge.pages": ("offline_docs",),
    "databridge.routing": ("APIRouter",),
    "databridge.server": ("serve",),
    "fastapi": (
        "BackgroundTasks",
        "Body",
        "Cookie",
        "Depends",
        "File",
        "Form",
        "HTTPException",
        "Header",
        "Path",
        "Query",
        "Request",
        "Response",
        "Security",
        "UploadFile",
        "WebSocket",
        "WebSocketDisconnect",
        "WebSocketException",
        "status",
    ),
    "fastapi.exceptions": ("RequestValidationError",),
    "fastapi.responses": (
        "FileResponse",
        "HTMLResponse",
        "JSONResponse",
        "PlainTextResponse",
        "RedirectResponse",
        "StreamingResponse",
    ),
    "pydantic": ("Field", "Model", "ValidationError"),
}
_ORIGIN = {name: module for module, names in _MODULES.items() for name in names}
_RENAMED = {"Model": "BaseModel", "PyLoop": "Loop"}

__all__ = [
    "APIRouter",
    "App",
    "BackgroundTasks",
    "BaseMiddleware",
    "Body",
    "Cookie",
    "CrudError",
    "DatabaseError",
    "Depends",
    "EventLoopPolicy",
    "Field",
    "File",
    "FileResponse",
    "Form",
    "HTMLResponse",
    "HTTPException",
    "Header",
    "JSONResponse",
    "Model",
    "Path",
    "PlainTextResponse",
    "PyLoop",
    "Query",
    "RedirectResponse",
    "Request",
    "RequestValidationError",
    "Response",
    "Security",
    "StreamingResponse",
    "UploadFile",
    "ValidationError",
    "WebSocket",
    "WebSocketDisconnect",
    "WebSocketException",
    "__version__",
    "new_event_loop",
    "offline_docs",
    "run",
    "serve",
    "status",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        try:
            module = _ORIGIN[name]
        except KeyError:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
        try:
            origin = importlib.import_module(module)
        except ImportError as error:
            if module == "databridge.loop" or find_spec(f"{__name__}._crud"):
                raise
            raise ImportError(
                f"{__name__}.{name} needs native CRUD, which this build was made without: "
                "install the headers of simdjson, RE2 and SQLite (libsimdjson-dev libre2-dev "
                "libsqlite3-dev), then databridge again"
            ) from error
        value = getattr(origin, _RENAMED.get(name, name))
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
