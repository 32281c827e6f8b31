"""The two binaries that `databridge run` needs: nginx, and the module for it."""

import os
import re
import shutil
import subprocess

MODULE = "ngx_http_databridge_module.so"


class InstallationError(Exception):
    """Something is not installed; the text says what to install or set."""


def nginx_binary() -> str:
    """DATABRIDGE_NGINX, else Debian's, else the first on PATH."""
    chosen = os.environ.get("DATABRIDGE_NGINX")
    if chosen:
        if not os.access(chosen, os.X_OK):
            raise InstallationError(f"DATABRIDGE_NGINX={chosen} is not an executable file")
        return os.path.abspath(chosen)
    if os.access("/usr/sbin/nginx", os.X_OK):
        return "/usr/sbin/nginx"
    found = shutil.which("nginx")
    if found is None:
        raise InstallationError(
            "nginx is not installed: 'apt-get install nginx', or set DATABRIDGE_NGINX to its path"
        )
    return os.path.abspath(found)


def module_file(nginx: str) -> str:
    """DATABRIDGE_MODULE, else the one in this package, else nginx's own directory."""
    chosen = os.environ.get("DATABRIDGE_MODULE")
    if chosen:
        if not os.path.isfile(chosen):
            raise InstallationError(f"DATABRIDGE_MODULE={chosen} does not exist")
        return os.path.abspath(chosen)

    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), MODULE)
    for path in (beside, os.path.join(modules_path(nginx), MODULE)):
        if os.path.isfile(path):
            return path
    raise InstallationError(
        f"{MODULE} is not installed: run 'make' in databridge's source tree, or set"
        " DATABRIDGE_MODULE to its path"
    )


def modules_path(nginx: str) -> str:
    """The directory nginx was configured to load modules from."""
    run = subprocess.run([nginx, "-V"], stderr=subprocess.PIPE, text=True)
    found = re.search(r"--modules-path=('[^']*'|\S+)", run.stderr)
    return found[1].strip("'") if found else "/usr/lib/nginx/modules"
