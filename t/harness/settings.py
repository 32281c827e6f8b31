"""Where things are, and how much slower a sanitized build may be."""

import os
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build")
NGINX = os.environ.get("NGINX", "/usr/sbin/nginx")
VENV = BUILD / "venv"
PYTHON = str(VENV / "bin/python")
DATABRIDGE = str(VENV / "bin/databridge")

# make asan names another build of the module and of the package

SANITIZED = "DATABRIDGE_ASAN" in os.environ
ASAN = ROOT / os.environ.get("DATABRIDGE_ASAN", "build/asan")
OUTPUT = ASAN if SANITIZED else BUILD
MODULE = OUTPUT / "ngx_http_databridge_module.so"
SLOWER = 5.0 if SANITIZED else 1.0


@cache
def server_env() -> dict[str, str]:
    """The environment of every server under test."""
    env = {
        "PATH": f"{VENV / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    if SANITIZED:
        suppressions = f"{ROOT / 't/lsan.supp'}"
        env |= {
            "LD_PRELOAD": ":".join(_library(name) for name in ("asan", "ubsan", "stdc++")),
            "ASAN_OPTIONS": "detect_leaks=1:malloc_context_size=2:quarantine_size_mb=16"
            ":allocator_may_return_null=1",
            "LSAN_OPTIONS": f"suppressions={suppressions}:print_suppressions=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "PYTHONMALLOC": "malloc",
            "DATABRIDGE_MODULE": str(MODULE),
            "PYTHONPATH": str(OUTPUT / "python"),
        }

    return env


def worker_env() -> dict[str, str]:
    """What nginx, which clears its workers' environment, has to be told to keep of it.

    What they start is sanitized as well, but may leak: it is no program of ours.
    """
    if not SANITIZED:
        return {}

    kept = ("PYTHONMALLOC", "PYTHONPATH", "LD_PRELOAD")
    return {name: server_env()[name] for name in kept} | {"ASAN_OPTIONS": "detect_leaks=0"}


def _library(name: str) -> str:
    command = ["gcc", f"-print-file-name=lib{name}.so"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
