"""The programs in C of bench/, which tests use as well."""

import subprocess
from functools import cache
from pathlib import Path

from harness.settings import BUILD, ROOT


@cache
def compiled(name: str, *more: str) -> Path:
    """Builds bench/NAME.c, with other sources of the project, into build/bench."""
    tool = BUILD / "bench" / name
    tool.parent.mkdir(parents=True, exist_ok=True)
    sources = [ROOT / f"bench/{name}.c", *(ROOT / source for source in more)]
    subprocess.run(["gcc", "-O2", f"-I{ROOT}/src", "-o", tool, *sources], check=True)
    return tool


def rate_tool() -> Path:
    """bench/rate.c, the client that asks at a fixed rate."""
    return compiled("rate", "src/core/db_thread.c")
