"""The package that users type against: its names, and what importing it costs."""

import subprocess
import sys
import textwrap
from pathlib import Path

import fastapi
import pydantic
import pytest

import databridge
from databridge import App

HEAVY = ("fastapi", "starlette", "pydantic", "typer", "asyncio")


def python(script: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=30
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = python("import sys, databridge; print(*sys.modules)").split()
    assert not set(HEAVY) & set(loaded)


def test_every_name_is_there() -> None:
    for name in databridge.__all__:
        assert getattr(databridge, name) is not None
    assert set(databridge.__all__) <= set(dir(databridge))


def test_names_are_the_libraries_own_classes() -> None:
    assert databridge.Model is pydantic.BaseModel
    assert databridge.HTTPException is fastapi.HTTPException
    assert databridge.Request is fastapi.Request
    assert databridge.ValidationError is pydantic.ValidationError
    assert issubclass(App, fastapi.FastAPI)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vars(databridge)["__getattr__"]("nothing")


def test_the_package_is_marked_as_typed() -> None:
    assert (Path(databridge.__file__).parent / "py.typed").exists()
