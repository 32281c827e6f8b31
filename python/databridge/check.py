"""`databridge check`: is there an application to serve, and will nginx take it?"""

import json
import os
import subprocess
import tempfile
from dataclasses import replace
from typing import Any

from databridge import config, installation
from databridge.config import Settings, Site
from databridge.loading import LoadError
from databridge.supervisor import REPORT, nginx_environment


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
