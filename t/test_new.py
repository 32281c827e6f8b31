"""databridge new: what it writes runs at once, and its tests pass."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from databridge import new
from databridge.loading import LoadError
from harness import DATABRIDGE, PYTHON, SLOWER, Server, until
from harness.settings import VENV, server_env


def made(folder: Path, name: str = "demo") -> Path:
    result = subprocess.run(
        [DATABRIDGE, "new", name], cwd=folder, env=server_env(), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert f"cd {name}" in result.stdout and "databridge dev" in result.stdout
    return folder / name


def done(folder: Path, *command: str, seconds: float = 200) -> str:
    """The output of a command that succeeds there."""
    result = subprocess.run(
        command,
        cwd=folder,
        env=server_env(),
        capture_output=True,
        text=True,
        timeout=seconds * SLOWER,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_it_runs_at_once(make_server: Callable[[], Server]) -> None:
    server = make_server()
    folder = made(server.folder)
    server.launch([DATABRIDGE, "dev", "--port", str(server.port), "--app-dir", str(folder)], {})
    server.wait_ready()
    assert server.client.get("/").json() == {"notes": "/notes", "documentation": "/docs"}
    created = server.client.post("/notes", json={"title": "Hello"})
    assert created.status_code == 201 and created.json()["created_at"]
    assert server.client.get("/docs").status_code == 200
    until("what it serves", lambda: server.log.find("serving main:app"))


def test_its_tests_pass(tmp_path: Path) -> None:
    folder = made(tmp_path)
    assert "3 passed" in done(folder, PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider")


def test_it_can_be_installed(tmp_path: Path) -> None:
    folder = made(tmp_path)
    command = (PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation")
    done(folder, *command, "--target", str(tmp_path / "installed"), ".[test]")
    assert (tmp_path / "installed/main.py").exists()


def test_what_it_writes_is_typed_and_formatted(tmp_path: Path) -> None:
    folder = made(tmp_path)
    for command in (
        ["ruff", "check", "--isolated", "--select", "E,F,I,UP,B", "--line-length", "100"],
        ["ruff", "format", "--isolated", "--check", "--line-length", "100"],
        ["mypy", "--strict", "--config-file="],
    ):
        tool = str(VENV / "bin" / command[0])
        done(folder, tool, *command[1:], "main.py", "test_main.py")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "main.py").write_text("mine")
    with pytest.raises(LoadError, match="not empty"):
        new.create(tmp_path / "demo")
    assert (tmp_path / "demo" / "main.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["-demo", "a b", "x.", 'quo"te'])
def test_a_name_that_no_project_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LoadError, match="no name for a project"):
        new.create(tmp_path / name)


def test_a_place_that_is_not_there_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="cannot be made: No such file"):
        new.create(tmp_path / "no" / "demo")
