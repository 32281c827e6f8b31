"""`databridge check`: is there an application to serve, and will nginx take it?"""

import functools
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

from databridge import config, installation, loading
from databridge.config import Settings, Site
from databridge.interface import detect
from databridge.loading import LoadError
from databridge.supervisor import REPORT, nginx_environment, say

REFUSED = 3
"""The status of a check that has said why; nginx's module takes any other for an accident."""


def load(settings: Settings) -> Any:
    """The application, when there is one and it is of the interface that was named."""
    app = loading.load(settings.target, settings.app_dirs, factory=settings.factory)
    detect(app, settings.interface, settings.target)
    return app


def check_app(settings: Settings) -> int:
    """What nginx's module asks for before it takes a configuration; returns the status."""
    os._exit = functools.partial(_left, os._exit, os.getpid())
    try:
        write_report(load(settings))
    except LoadError as exc:
        say(f"error: {exc}")
        return REFUSED
    return 0


def _left(leave: Callable[[int], NoReturn], check: int, status: int) -> NoReturn:
    """os._exit(), which with 0 would pass for a check that found an application."""
    if os.getpid() == check:
        say(f"error: the import was ended by os._exit({status})")
        status = REFUSED
    leave(status)


def write_report(app: Any) -> None:
    """Leaves for `databridge run` what it says about the application."""
    path = os.environ.get(REPORT)
    if path is None:
        return
    docs = getattr(app, "docs_url", None) if getattr(app, "openapi_url", None) else None
    with open(f"{path}.new", "w") as file:
        json.dump({"docs": docs}, file)
    os.replace(f"{path}.new", path)


def check_nginx(settings: Settings) -> None:
    """Lets nginx test the configuration, without a second check of the application."""
    config.validate(settings)
    nginx = installation.nginx_binary()
    with tempfile.TemporaryDirectory(prefix="databridge-") as directory:
        site = Site(
            module=installation.module_file(nginx),
            directory=directory,
            environment=nginx_environment(),
            access_log=None,
        )
        path = f"{directory}/nginx.conf"
        with open(path, "w") as file:
            file.write(config.render(replace(settings, check=False), site))
        command = [nginx, "-t", "-q", "-p", directory, "-c", path, "-e", "stderr"]
        if subprocess.run(command, env=nginx_environment()).returncode != 0:
            raise LoadError("nginx refuses the configuration")
