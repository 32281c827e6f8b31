"""PyLoop without nginx: what pip builds where no library of native CRUD has headers."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness import ROOT

LIBRARIES = ("simdjson.h", "re2/re2.h", "sqlite3.h")

PROGRAM = """
import asyncio, sys, databridge

async def main():
    await asyncio.sleep(0.001)
    return type(asyncio.get_running_loop())

assert databridge.run(main()) is databridge.PyLoop
asyncio.set_event_loop_policy(databridge.EventLoopPolicy())
assert asyncio.run(main()) is databridge.PyLoop
print(databridge.__file__)
try:
    databridge.App
except ImportError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The wheel and what was said while it was built."""
    directory = tmp_path_factory.mktemp("wheel")
    source, blind = directory / "source", directory / "blind"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("src", "python"):
        ignored = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for library in LIBRARIES:
        header = blind / library
        header.parent.mkdir(parents=True, exist_ok=True)
        header.write_text("#error is not installed\n")
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-v", "--no-build-isolation", "--no-deps"]
        + ["--no-index", "-w", directory, source],
        env={**os.environ, "CPATH": str(blind)},
        capture_output=True,
        text=True,
        cwd=directory,
    )
    said = built.stdout + built.stderr
    assert built.returncode == 0, said
    return next(directory.glob("*.whl")), said


def test_the_wheel_has_pyloop_and_says_what_it_lacks(wheel: tuple[Path, str]) -> None:
    path, said = wheel
    names = zipfile.ZipFile(path).namelist()
    assert [name.split(".")[0] for name in names if name.endswith(".so")] == ["databridge/_pyloop"]
    assert "databridge._crud is left out: no headers of simdjson, re2;" in said
    assert "databridge._store is left out: no headers of simdjson, re2, sqlite3;" in said


def test_the_installed_wheel_runs_and_tells_what_native_crud_needs(
    wheel: tuple[Path, str], tmp_path: Path
) -> None:
    zipfile.ZipFile(wheel[0]).extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    file, message = done.stdout.splitlines()
    assert file == str(tmp_path / "site" / "databridge" / "__init__.py")
    assert message.startswith("databridge.App needs native CRUD") and "libsimdjson-dev" in message
