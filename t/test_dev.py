"""databridge dev: it finds the application, reloads it, and shows what went wrong."""

import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from databridge import discovery
from databridge.loading import LoadError
from harness import DATABRIDGE, Server, until

APP = """
import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse

app = FastAPI()


@app.get("/")
async def root():
    return "VERSION"


@app.get("/crash")
async def crash():
    raise KeyError("the reason")


@app.get("/events")
async def events():
    async def endless() -> AsyncIterator[str]:
        while True:
            yield "data: VERSION\\n\\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(endless(), media_type="text/event-stream")


@app.websocket("/socket")
async def socket(socket: WebSocket):
    await socket.accept()
    while True:
        await socket.send_text(await socket.receive_text())
"""

BROWSER = {"Accept": "text/html,application/xhtml+xml"}


class Developed(Server):
    """databridge dev, in a directory with main.py."""

    def dev(self, *options: str, code: str = APP, **env: str) -> None:
        self.save(code.replace("VERSION", "first"))
        self.launch([DATABRIDGE, "dev", "--port", str(self.port), *options], env)
        self.wait_ready()

    def save(self, code: str) -> None:
        self.write({"main.py": code})

    def answers(self, text: str) -> bool:
        return text in httpx.get(self.base_url, timeout=15).text

    def forget_family(self) -> None:
        """Workers are replaced by the test's will."""
        assert self.process
        self.family = [self.process.pid]


@pytest.fixture
def developed() -> Iterator[Developed]:
    server = Developed()
    yield server
    server.forget_family()
    problems = server.finish()
    assert not problems


def test_it_says_what_it_found_and_where_it_serves_it(developed: Developed) -> None:
    developed.dev()
    base = f"http://127.0.0.1:{developed.port}"
    until("the address", lambda: developed.log.find(f"serving main:app on {base}$"))
    until("the docs", lambda: developed.log.find(f"documentation at {base}/docs$"))
    until("the folder", lambda: developed.log.find(f"watching {developed.folder}"))


def test_what_is_saved_is_served(developed: Developed) -> None:
    developed.dev()
    for version in ("other", "third"):  # of one length, within a second perhaps
        developed.save(APP.replace("VERSION", version))
        until("the new version", partial(developed.answers, version), 15)
    until("a word", lambda: developed.log.find(r"main\.py changed: reloading"))
    until("how long it took", lambda: developed.log.find(r"reloaded in \d"))


def test_bytecode_is_kept_of_libraries_and_of_nothing_else(developed: Developed) -> None:
    library = "lib/site-packages/library.py"
    developed.write({library: "", "own.py": ""})
    code = f'import sys\nsys.path.append("{developed.folder / library}"[:-len("/library.py")])\n'
    developed.dev(code=code + "import library, own\n" + APP, PYTHONDONTWRITEBYTECODE="")
    kept = {path.name.split(".")[0] for path in developed.folder.rglob("*.pyc")}
    assert kept == {"library"}


def test_a_file_of_another_kind_reloads_nothing(developed: Developed) -> None:
    developed.dev()
    developed.write({"notes.txt": "x", "__pycache__/x.py": "x", "other.py": "x = 1"})
    until("the reload", lambda: developed.log.find("changed: reloading"))
    until("the reload", lambda: developed.log.find("reloaded in"))
    assert not developed.log.find(r"notes\.txt|__pycache__|and \d more")


def test_a_syntax_error_is_shown_with_file_and_line_and_mended(developed: Developed) -> None:
    developed.dev()
    developed.save("x = 1\ny = (\n")
    place = f"{developed.folder / 'main.py'}:2"
    (line,) = until("the error", lambda: developed.log.find("databridge: error"))
    assert place in line and "SyntaxError" in line and "waiting" in line
    until("the page", lambda: developed.answers("was never closed"), 15)
    page = httpx.get(f"{developed.base_url}/any/where", headers=BROWSER)
    assert (page.status_code, page.headers["content-type"]) == (500, "text/html; charset=utf-8")
    assert "line 2" in page.text and "y = (" in page.text and "<h1>" in page.text

    developed.save(APP.replace("VERSION", "mended"))
    until("the mended version", lambda: developed.answers("mended"), 15)


def test_an_application_may_be_broken_from_the_beginning(developed: Developed) -> None:
    developed.dev(code="import no_such_module_anywhere\napp = 1\n")
    text = httpx.get(developed.base_url)
    assert (text.status_code, text.headers["content-type"]) == (500, "text/plain; charset=utf-8")
    assert "no_such_module_anywhere" in text.text and "main.py" in text.text
    developed.save(APP.replace("VERSION", "mended"))
    until("the mended version", lambda: developed.answers("mended"), 15)


def test_a_startup_that_fails_is_shown(developed: Developed) -> None:
    lifespan = """
    from contextlib import asynccontextmanager
    from fastapi import FastAPI

    @asynccontextmanager
    async def lifespan(app):
        raise RuntimeError("no database today")
        yield

    app = FastAPI(lifespan=lifespan)
    """
    developed.dev(code=lifespan)
    assert "no database today" in httpx.get(developed.base_url).text
    until("the error", lambda: developed.log.find("databridge: error.*no database today"))


def test_an_import_without_end_holds_nothing_up(developed: Developed) -> None:
    developed.dev()
    developed.save("import time\nprint('imported')\ntime.sleep(600)\n")
    until("the import", lambda: developed.log.find("^imported"), 15)
    developed.save(APP.replace("VERSION", "mended"))
    until("the mended version", lambda: developed.answers("mended"), 20)


def test_an_open_stream_holds_up_no_reload(developed: Developed) -> None:
    developed.dev()
    with httpx.stream("GET", f"{developed.base_url}/events", timeout=15) as stream:
        lines = stream.iter_lines()
        assert "first" in next(lines)
        developed.save(APP.replace("VERSION", "second"))
        until("the new version", lambda: developed.answers("second"), 15)
        with pytest.raises((httpx.RemoteProtocolError, StopIteration)):
            while True:
                assert "second" not in next(lines)


def test_an_open_socket_holds_up_no_reload(developed: Developed) -> None:
    developed.dev()
    with connect(f"ws://127.0.0.1:{developed.port}/socket") as socket:
        socket.send("hello")
        assert socket.recv() == "hello"
        developed.save(APP.replace("VERSION", "second"))
        until("the new version", lambda: developed.answers("second"), 15)
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=15)


def test_an_exception_is_a_page_to_browsers_and_text_to_others(developed: Developed) -> None:
    developed.dev()
    page = developed.client.get("/crash", headers=BROWSER)
    assert (page.status_code, page.headers["content-type"]) == (500, "text/html; charset=utf-8")
    assert "the reason" in page.text and "main.py" in page.text
    text = developed.client.get("/crash")
    assert (text.status_code, text.headers["content-type"]) == (500, "text/plain; charset=utf-8")
    assert "KeyError: 'the reason'" in text.text
    until("the traceback", lambda: developed.log.find("raise KeyError"))
    assert not developed.log.find("site-packages|databridge/plans")


FLASK = """
from flask import Flask

app = Flask(__name__)

@app.get("/")
def root():
    return "first"

@app.get("/crash")
def crash():
    raise KeyError("the reason")
"""

RAW = """
async def app(scope, receive, send):
    raise KeyError("the reason")
"""


@pytest.mark.parametrize("code", [FLASK, RAW])
def test_so_it_is_with_other_frameworks(developed: Developed, code: str) -> None:
    developed.dev(code=code)
    page = developed.client.get("/crash", headers=BROWSER)
    assert (page.status_code, page.headers["content-type"]) == (500, "text/html; charset=utf-8")
    assert "the reason" in page.text
    assert "KeyError: 'the reason'" in developed.client.get("/crash").text


def test_run_never_shows_a_traceback(make_server: Callable[[], Server]) -> None:
    server = make_server()
    server.write({"main.py": APP})
    server.run("main:app", env={"DATABRIDGE_DEVELOPMENT": "1"})
    page = server.client.get("/crash", headers=BROWSER)
    assert (page.status_code, page.text) == (500, "Internal Server Error")


def test_an_interrupt_ends_it_with_0(developed: Developed) -> None:
    developed.dev()
    developed.kill(signal.SIGINT)
    assert developed.wait() == 0


# finding


def found(tmp_path: Path, files: dict[str, str], name: str | None = None) -> discovery.Found:
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return discovery.find(name, str(tmp_path))


@pytest.mark.parametrize(
    ("files", "target", "directory"),
    [
        ({"main.py": "app = 1", "app.py": "app = 1"}, "main:app", "."),
        ({"app.py": "from x import api"}, "app:api", "."),
        ({"api.py": "import fastapi\nsite = fastapi.FastAPI()"}, "api:site", "."),
        ({"app/main.py": "app = 1", "app/__init__.py": ""}, "app.main:app", "."),
        ({"app/main.py": "app = 1"}, "main:app", "app"),
        ({"main.py": "async def app(scope, receive, send): ..."}, "main:app", "."),
        ({"main.py": "if x:\n  app = 1\nelse:\n  app = 2"}, "main:app", "."),
        ({"main.py": "try:\n  y\nexcept E:\n  app: int = 2"}, "main:app", "."),
        ({"main.py": "app = ("}, "main:app", "."),
        ({"pyproject.toml": '[tool.fastapi]\nentrypoint = "a.b:c"'}, "a.b:c", "."),
    ],
)
def test_an_application_is_found(
    tmp_path: Path, files: dict[str, str], target: str, directory: str
) -> None:
    application = found(tmp_path, files)
    assert application.target == target
    assert Path(application.directory).resolve() == (tmp_path / directory).resolve()
    assert not application.factory


@pytest.mark.parametrize(
    "code", ["def create_app(): ...", "def create_app(x=1, *, y=2): ...", "def app(): ..."]
)
def test_a_factory_is_found_and_called(tmp_path: Path, code: str) -> None:
    assert found(tmp_path, {"main.py": code}).factory


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "main.py, app.py, api.py"),
        ({"main.py": "x = 1"}, "main.py has no application: assign one to app"),
        ({"main.py": "def create_app(settings): ..."}, r"create_app\(\) takes arguments"),
        ({"pyproject.toml": "[tool.fastapi"}, "pyproject.toml cannot be read"),
        ({"pyproject.toml": '[tool.fastapi]\nentrypoint = "a"'}, "MODULE:APP"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(LoadError, match=message):
        found(tmp_path, files)


def test_a_file_and_a_directory_may_be_named(tmp_path: Path) -> None:
    files = {"shop/web.py": "app = 1", "site/main.py": "app = 1"}
    assert found(tmp_path, files, "shop/web.py").target == "web:app"
    assert found(tmp_path, files, "site/").target == "main:app"
    with pytest.raises(LoadError, match="no file"):
        found(tmp_path, {}, "nowhere.py")
    with pytest.raises(LoadError, match="cannot be imported by its name"):
        found(tmp_path, {"my-app.py": "app = 1"}, "my-app.py")
