"""databridge.testing: the real server for other people's tests."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from databridge.loading import LoadError
from databridge.testing import Server, ServerError
from harness import PYTHON, SLOWER, processes
from harness.settings import server_env

APP = """
import os

from databridge import App, Depends, Model

app = App()


class Note(Model):
    text: str


app.crud_routes(Note, prefix="/notes")


def colour() -> str:
    return os.environ.get("COLOUR", "none")


@app.get("/")
def root(colour: str = Depends(colour)) -> dict[str, str]:
    print("asked for the colour")
    return {"colour": colour}


def create_app() -> App:
    return app
"""

ENV = {name: value for name, value in server_env().items() if name not in ("PATH", "HOME")}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with main.py, where the test runs."""
    (tmp_path / "main.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("main", None)


@pytest.mark.parametrize("app", ["main:app", "main.py", Path("main.py"), "main:create_app"])
def test_a_server_serves_by_name_and_by_file(app: object) -> None:
    with Server(app, env=ENV, factory=app == "main:create_app") as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert httpx.get(f"{server.url}/").json() == {"colour": "none"}
        assert "asked for the colour" in server.log
    assert not processes.listening(server.port)
    assert "GET / HTTP/1.1" in server.log


def test_a_server_serves_an_application_that_is_imported_here(folder: Path) -> None:
    package = folder / "shop" / "web"
    package.mkdir(parents=True)
    for inner in (folder / "shop", package):
        (inner / "__init__.py").touch()
    (package / "service.py").write_text(APP)
    from shop.web.service import app  # type: ignore[import-not-found]

    os.chdir("/")
    with Server(app, env=ENV) as server:
        assert server.found.target == "shop.web.service:app"
        assert httpx.get(f"{server.url}/").status_code == 200


def test_each_server_has_a_store_and_an_environment_of_its_own() -> None:
    with Server("main:app", env=ENV) as one, Server("main:app", env=ENV | {"COLOUR": "red"}) as two:
        assert one.port != two.port
        assert httpx.post(f"{one.url}/notes", json={"text": "x"}).status_code == 201
        assert httpx.get(f"{one.url}/notes?count=true").json()["total"] == 1
        assert httpx.get(f"{two.url}/notes?count=true").json()["total"] == 0
        assert httpx.get(f"{two.url}/").json() == {"colour": "red"}
    assert not list(Path().glob("*.db"))


def test_a_server_may_be_started_again() -> None:
    server = Server("main:app", "--timeout", "5", env=ENV, start_timeout=30 * SLOWER)
    for _ in range(2):
        server.start()
        assert httpx.get(f"{server.url}/").status_code == 200
        server.stop()
    server.stop()


def test_an_application_that_does_not_start_is_told_with_its_log(folder: Path) -> None:
    (folder / "main.py").write_text("app = 1 / 0\n")
    with pytest.raises(ServerError, match="ZeroDivisionError"):
        Server("main:app", env=ENV).start()


def test_a_server_that_died_is_told_at_the_end() -> None:
    with pytest.raises(ServerError, match="status"), Server("main:app", env=ENV) as server:
        assert server._process is not None
        server._process.kill()


def test_an_application_that_is_no_global_is_refused() -> None:
    with pytest.raises(LoadError, match="not a global"):
        Server(object())


def test_the_test_client_serves_in_process_and_says_what_needs_nginx() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fastapi.testclient import TestClient
    from main import app, colour  # type: ignore[import-not-found]

    app.dependency_overrides[colour] = lambda: "green"
    with TestClient(app) as client:
        assert client.get("/").json() == {"colour": "green"}
        answer = client.get("/notes")
    assert answer.status_code == 503
    assert "databridge run" in answer.json()["detail"]


def test_a_fixture_is_a_server(folder: Path) -> None:
    (folder / "test_it.py").write_text(
        """
import httpx
from databridge import testing

server = testing.fixture("main:app", scope="session")

def test_it(server):
    assert httpx.get(server.url).status_code == 200
"""
    )
    command = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    result = subprocess.run(command, env=server_env(), capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
