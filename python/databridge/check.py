"""`databridge check`: is there an application to serve, and will nginx take it?"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from typing import Any

from databridge import config, installation, loading
from databridge.config import Settings, Site
from databridge.loading import LoadError
from databridge.supervisor import REPORT, nginx_environment


def check_app(settings: Settings) -> Any:
    """Imports the application and compiles what it declares; LoadError says why not."""
    app = loading.load(settings.target, settings.app_dirs, factory=settings.factory)
    compile_schemas(app)
    return app


def compile_schemas(app: Any) -> None:
    """Compiles the schemas of an app's native CRUD, as every worker will."""
    routing = sys.modules.get("databridge.routing")
    if routing is None:
        return
    for route in getattr(app, "routes", ()):
        if isinstance(route, routing.CrudRoute):
            from databridge import _crud

            try:
                _crud.compile(json.dumps(route.schema))
            except ValueError as exc:
                raise LoadError(f"CRUD of {route.name} at {route.prefix}: {exc}") from exc


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
