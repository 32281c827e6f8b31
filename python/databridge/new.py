"""`databridge new`: an application to begin with, and a test of it."""

import re
from pathlib import Path

from databridge.loading import LoadError

MAIN = '''\
"""Notes: native CRUD, which nginx serves in C, beside a route in Python."""

from databridge import App, Field, Model

app = App(title="{name}")


class Note(Model):
    title: str = Field(min_length=1, max_length=200)
    text: str = ""
    done: bool = False


app.crud_routes(Note, prefix="/notes", index=["title"], timestamps=True)


@app.get("/")
async def index() -> dict[str, str]:
    return {{"notes": "/notes", "documentation": "/docs"}}
'''

TEST = '''\
"""The application under the real nginx, on a port and with a store of its own."""

from collections.abc import Iterator

import httpx
import pytest
from databridge import testing
from databridge.testing import Server

from main import app

server = testing.fixture(app)


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as client:
        yield client


def test_the_index_says_where_the_notes_are(client: httpx.Client) -> None:
    assert client.get("/").json()["notes"] == "/notes"


def test_a_note_is_stored_changed_and_found(client: httpx.Client) -> None:
    created = client.post("/notes", json={{"title": "Hello"}})
    assert created.status_code == 201
    path = created.headers["location"]
    assert client.patch(path, json={{"done": True}}).json()["done"] is True
    assert client.get("/notes?title=Hello&count=true").json()["total"] == 1
    assert client.delete(path).status_code == 204


def test_a_note_has_a_title(client: httpx.Client) -> None:
    answer = client.post("/notes", json={{"text": "of what?"}})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "title"]
'''

PROJECT = """\
[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["databridge"]

[project.optional-dependencies]
test = ["httpx", "pytest"]

[tool.setuptools]
py-modules = ["main"]
"""

README = """\
# {name}

    databridge dev                  # while you write: http://127.0.0.1:8000, reloads what is saved
    databridge run --workers 2      # to serve
    pip install -e '.[test]'        # once, for the tests
    pytest                          # runs them, under the real nginx
"""

IGNORED = """\
__pycache__/
.venv/
databridge.db*
"""

FILES = {
    "main.py": MAIN,
    "test_main.py": TEST,
    "pyproject.toml": PROJECT,
    "README.md": README,
    ".gitignore": IGNORED,
}


def create(path: Path) -> None:
    """Writes the files into a directory that is new, or empty."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", path.name):
        raise LoadError(
            f"{path.name!r} is no name for a project: use letters, digits, and . _ - between them"
        )
    try:
        path.mkdir(exist_ok=True)
        if any(path.iterdir()):
            raise LoadError(f"{path} is not empty: choose another name")
        for name, text in FILES.items():
            (path / name).write_text(text.format(name=path.name))
    except OSError as exc:
        raise LoadError(f"{path} cannot be made: {exc.strerror or exc}") from exc
