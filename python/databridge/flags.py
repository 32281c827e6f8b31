"""The options of `run`, `dev` and `config`: what each is called, everywhere.

One table says it for the command line, its environment variables, and the tables of README
and docs/cli.md, which mk/docs.py writes from it.
"""

import dataclasses
from typing import Any

from databridge.config import Settings


@dataclasses.dataclass(frozen=True)
class Flag:
    """One option: the field of Settings that it sets, and what it becomes in nginx.conf."""

    field: str
    directive: str
    meaning: str
    metavar: str | None = None
    switch: bool = False

    @property
    def name(self) -> str:
        return "--" + _SINGULAR.get(self.field, self.field).replace("_", "-")

    @property
    def variable(self) -> str:
        return "DATABRIDGE_" + self.name[2:].replace("-", "_").upper()

    @property
    def default(self) -> Any:
        return _DEFAULTS[self.field]


_SINGULAR = {"app_dirs": "app_dir"}
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Settings)}

TARGET = "DATABRIDGE_APP"
"""The variable of MODULE:APP."""

FLAGS = (
    Flag("app_dirs", "databridge_python_path", "Directory to import from", "DIR"),
    Flag("factory", "databridge_app ... factory=on", "APP is a function that makes it", None, True),
    Flag("interface", "databridge_app ... interface=", "What APP is: asgi, wsgi, or auto"),
    Flag("root_path", "databridge_app ... root_path=", "Path that a proxy has taken off", "PATH"),
    Flag("host", "listen", "Address to listen on", "ADDRESS"),
    Flag("port", "listen", "Port to listen on; 0 is any that is free", "PORT"),
    Flag("workers", "worker_processes", "Number of worker processes", "N"),
    Flag("user", "user", "User of the workers, when root starts them", "NAME"),
    Flag("store", "databridge_store", "Where native CRUD keeps its documents", "URI"),
    Flag(
        "timeout",
        "databridge_timeout",
        "Until a response has to start, 60 by itself; 0: none",
        "SECONDS",
    ),
    Flag("max_body_size", "databridge_max_body_size", "Of a request; larger ones get 413", "SIZE"),
    Flag("queue", "databridge_queue", "Requests that may wait for Python, then 503", "N"),
    Flag("sync_threads", "databridge_sync_threads", "Threads of a worker for def handlers", "N"),
    Flag("store_threads", "databridge_store_threads", "Threads of a worker for slow reads", "N"),
    Flag("nice", "databridge_nice", "How far Python stands back for nginx and native CRUD", "N"),
    Flag("shutdown_timeout", "databridge_shutdown_timeout", "For requests, at the end", "SECONDS"),
    Flag("max_requests", "databridge_max_requests", "Renew a worker after these; 0: never", "N"),
    Flag("max_rss", "databridge_max_rss", "Renew a worker above this, as 500m; 0: never", "SIZE"),
    Flag("gzip", "gzip", "Compress answers, as Starlette's GZipMiddleware does"),
    Flag("quiet", "error_log, access_log", "Log warnings and errors alone", None, True),
)

_BY_FIELD = {flag.field: flag for flag in FLAGS}

VARIABLES = frozenset({TARGET, *(flag.variable for flag in FLAGS)})
"""What is said to the command, and is none of an application's business."""


def option(field: str) -> Any:
    """The command line's option for a field of Settings."""
    import typer

    flag = _BY_FIELD[field]
    names = [flag.name] if flag.switch or flag.field in _SINGULAR else []
    return typer.Option(*names, envvar=flag.variable, metavar=flag.metavar, help=f"{flag.meaning}.")
