"""The command line: what it serves, what it says, and what it leaves behind."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from conftest import StartServer
from harness import DATABRIDGE, PYTHON, ROOT, SANITIZED, SLOWER, Server, processes, until
from harness.apps import NOTES
from harness.settings import VENV, server_env

APP = """
import asyncio
import os
from pathlib import Path

from databridge import App, Model, Request

app = App()


class Note(Model):
    text: str


app.crud_routes(Note, prefix="/notes", version=True, unique=["text"])


@app.get("/")
async def root():
    return {"pid": os.getpid(), "colour": os.environ.get("COLOUR")}


@app.get("/wait/{seconds}")
async def wait(seconds: float):
    Path("begun").touch()
    await asyncio.sleep(seconds)
    return "waited"


@app.get("/cookies")
async def cookies(request: Request):
    return len(request.headers["cookie"])


def make():
    return app
"""

FILES = {"app.py": APP}


def command(
    *arguments: str, folder: Path | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DATABRIDGE, *arguments],
        cwd=folder,
        env={**server_env(), **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=40 * SLOWER,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


# run


def test_run_serves_the_application_and_its_crud(run: StartServer) -> None:
    server = run(FILES)
    assert server.client.get("/").status_code == 200
    created = server.client.post("/notes", json={"text": "one"}).json()
    assert server.client.get(f"/notes/{created['id']}").json() == created
    assert (server.folder / "databridge.db").exists()


def test_run_says_where_it_serves(run: StartServer) -> None:
    server = run(FILES)
    until("the address", lambda: server.log.find(f"http://127.0.0.1:{server.port}"))


def test_run_logs_each_request_with_time_and_status(run: StartServer) -> None:
    server = run(FILES)
    server.client.get("/no/such/page")
    (line,) = until("a line", lambda: server.log.find("/no/such/page"))
    assert '"GET /no/such/page HTTP/1.1" 404' in line


def test_quiet_says_nothing(run: StartServer) -> None:
    server = run(FILES, "--quiet")
    server.client.get("/no/such/page")
    assert not server.log.find("/no/such/page") and not server.log.find("serving")


def test_run_with_several_workers(run: StartServer) -> None:
    server = run(FILES, "--workers", "2")

    def pids() -> set[int]:
        return {httpx.get(server.base_url, timeout=15 * SLOWER).json()["pid"] for _ in range(10)}

    until("both workers", lambda: len(pids()) == 2, 15)


def test_run_with_a_factory_an_app_dir_and_a_store(make_server: Callable[[], Server]) -> None:
    server = make_server()
    server.write({"inner/code.py": APP})
    server.launch(
        [
            *(DATABRIDGE, "run", "code:make", "--factory", "--app-dir", "inner"),
            *("--port", str(server.port), "--store", "sqlite:other.db"),
        ],
        {},
    )
    server.wait_ready()
    assert server.client.post("/notes", json={"text": "x"}).status_code == 201
    assert (server.folder / "other.db").exists()


def test_run_with_a_timeout(run: StartServer) -> None:
    server = run(FILES, "--timeout", "0.3")
    assert server.client.get("/wait/30").status_code == 504


def test_run_passes_its_environment_on(make_server: Callable[[], Server]) -> None:
    server = make_server()
    server.write(FILES)
    server.run("app:app", env={"COLOUR": "blue; drop"})
    assert server.client.get("/").json()["colour"] == "blue; drop"


@pytest.mark.parametrize("size", [9_000, 16_000, 60_000])
def test_cookies_may_be_as_large_as_under_uvicorn(run: StartServer, size: int) -> None:
    server = run(FILES)
    cookies = "; ".join(f"c{number}={'v' * 994}" for number in range(size // 1000))
    answer = server.client.get("/cookies", headers={"Cookie": cookies})
    assert answer.json() == len(cookies)


def test_the_first_term_drains(run: StartServer) -> None:
    server = run(FILES)
    with server.raw() as client:
        client.get("/wait/1")
        until("the request", (server.folder / "begun").exists)
        server.kill(signal.SIGTERM)
        assert client.response().body == b'"waited"'
    assert server.wait() == 0


def test_a_second_term_cuts(run: StartServer) -> None:
    server = run(FILES)
    server.log.expect(r"open socket #\d+ left|aborting")  # nginx's, when TERM follows QUIT
    with server.raw() as client:
        client.get("/wait/60")
        until("the request", (server.folder / "begun").exists)
        server.kill(signal.SIGTERM)
        until("the port is closed", lambda: not processes.listening(server.port))
        server.kill(signal.SIGTERM)
        assert server.wait(5) == 0


def test_interrupt_ends_it_with_0(run: StartServer) -> None:
    server = run(FILES)
    server.kill(signal.SIGINT)
    assert server.wait() == 0


def test_hup_reloads(run: StartServer) -> None:
    server = run(FILES)
    before = server.client.get("/").json()["pid"]
    server.kill(signal.SIGHUP)
    until("another worker", lambda: httpx.get(server.base_url).json()["pid"] != before, 15)
    assert server.process
    server.family = [server.process.pid, *processes.descendants(server.process.pid)]


def test_nothing_is_left_when_it_is_killed(run: StartServer) -> None:
    server = run(FILES)
    server.kill(signal.SIGKILL)
    assert server.wait() == -9
    assert processes.survivors(server.family, 5) == []
    server.family = []


def test_a_broken_import_is_told_with_the_applications_traceback(
    make_server: Callable[[], Server],
) -> None:
    server = make_server()
    server.write({"app.py": "def f():\n    return 1 / 0\n\nf()\n"})
    server.log.expect(r"\[emerg\]|ZeroDivisionError")
    output = server.fail("run", "app:app", "--port", str(server.port))
    assert "ZeroDivisionError: division by zero" in output
    assert "return 1 / 0" in output
    assert "site-packages" not in output
    with pytest.raises(httpx.ConnectError):
        server.client.get("/")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("app:nothing", "has no attribute 'nothing'"),
        ("nowhere:app", "no module 'nowhere'"),
        ("app", "MODULE:APP"),
        ("app:APP_NAME", "not an application"),
    ],
)
def test_an_application_that_is_not_there_is_one_clear_message(
    make_server: Callable[[], Server], target: str, message: str
) -> None:
    server = make_server()
    server.write({"app.py": "APP_NAME = 'text'\n" + APP})
    server.log.expected.clear()
    output = server.fail("run", target, "--port", str(server.port))
    assert message in output
    assert "Traceback" not in output
    server.log.path.write_text("")


CRUD = """
from databridge import App, Model

app = App()


class Note(Model):
    text: str


app.crud_routes(Note)
app.crud_routes({})
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("Note", "/note is already the CRUD prefix of Note; choose another with prefix="),
        ("str", "native CRUD takes a subclass of BaseModel"),
        ("Note, prefix='/x', uniqe=['text']", "uniqe= is not an option of CRUD; it takes prefix,"),
        ("Note, prefix='/x', unique=['title']", "'title' is not a field of Note"),
    ],
)
def test_a_resource_that_is_refused_is_told_with_the_line_that_declares_it_alone(
    folder: Path, arguments: str, message: str
) -> None:
    (folder / "app.py").write_text(CRUD.format(arguments))
    result = command("check", "app:app", folder=folder)
    assert result.returncode == 1
    head, place, source, *_, error, summary = result.stderr.splitlines()
    assert head.startswith("Traceback")
    assert place == f'  File "{folder}/app.py", line 12, in <module>'
    assert source.strip() == f"app.crud_routes({arguments})"
    assert error.startswith("databridge.CrudError: ") and message in error
    assert summary == f"databridge: error: app cannot be imported: {error}"
    assert result.stderr.count("File ") == 1


def test_a_taken_port_is_one_clear_message(make_server: Callable[[], Server]) -> None:
    server = make_server()
    server.write(FILES)
    with socket.create_server(("127.0.0.1", server.port)):
        output = server.fail("run", "app:app", "--port", str(server.port))
    (line,) = output.strip().splitlines()
    assert f"127.0.0.1:{server.port}" in line and "--port" in line


def test_a_startup_that_fails_ends_it(make_server: Callable[[], Server]) -> None:
    server = make_server()
    server.write(
        {
            "app.py": """
            from contextlib import asynccontextmanager
            from fastapi import FastAPI

            @asynccontextmanager
            async def lifespan(app):
                raise RuntimeError("no database today")
                yield

            app = FastAPI(lifespan=lifespan)
            """
        }
    )
    server.log.expect(r"\[emerg\].*did not start|\[emerg\].*failed to start")
    output = server.fail("run", "app:app", "--port", str(server.port))
    assert "no database today" in output


@pytest.mark.parametrize(
    ("end", "workers"), [("os.kill(os.getpid(), signal.SIGSEGV)", "1"), ("os._exit(0)", "2")]
)
def test_workers_that_die_at_their_start_end_the_run(
    make_server: Callable[[], Server], end: str, workers: str
) -> None:
    server = make_server()
    server.write(
        {
            "app.py": f"""
            import os
            import signal

            async def app(scope, receive, send):
                {end}
            """
        }
    )
    if "SEGV" in end:
        server.log.expect(r"\[alert\].*exited on signal 11")
    output = server.fail("run", "app:app", "--port", str(server.port), "--workers", workers)
    assert "error: the application did not start: its workers die while they start" in output


def test_a_store_that_cannot_be_opened_is_said_without_a_traceback(
    make_server: Callable[[], Server],
) -> None:
    server = make_server()
    server.write({"app.py": NOTES})
    server.log.expect(r"\[emerg\].*failed to start")
    (server.folder / "x.db").write_text("no database, however long it may be made\n" * 9)
    output = server.fail("run", "app:app", "--port", str(server.port), "--store", "sqlite:x.db")
    assert 'error: the application did not start: app:app: sqlite store "' in output
    assert '/x.db": file is not a database: name another file' in output
    assert "Traceback" not in output


def test_a_store_whose_directory_is_missing_is_refused_before_anything_is_started(
    make_server: Callable[[], Server],
) -> None:
    server = make_server()
    server.write({"app.py": NOTES})
    server.log.expect(r"\[emerg\].*invalid store")
    uri = f"sqlite:{server.folder}/missing/x.db"
    output = server.fail("run", "app:app", "--port", str(server.port), "--store", uri)
    assert f'"{server.folder}/missing": No such file or directory: create this directory' in output
    assert "start worker process" not in output and "Traceback" not in output


@pytest.mark.parametrize(
    "options",
    [
        ("--port", "70000"),
        ("--workers", "0"),
        ("--store", "redis://x"),
        ("--host", "no.such.host.invalid"),
        ("--app-dir", "/no/such/folder"),
        ("--timeout", "-1"),
        ("--unknown",),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(folder: Path, options: tuple[str, ...]) -> None:
    result = command("run", "app:app", *options, folder=folder)
    assert result.returncode == (2 if options == ("--unknown",) else 1)
    assert "Traceback" not in result.stderr and options[0] in result.stderr


# app.run()


@pytest.mark.parametrize("call", ["app.run(port={})", "databridge.serve(app, port={})"])
def test_a_program_serves_itself(make_server: Callable[[], Server], call: str) -> None:
    server = make_server()
    server.write({"shop.py": f"import databridge\n{APP}\n{call.format(server.port)}\n"})
    server.launch([PYTHON, "shop.py"], {})
    server.wait_ready()
    assert server.client.get("/").status_code == 200


def test_a_guarded_program_serves_itself(make_server: Callable[[], Server]) -> None:
    server = make_server()
    guard = f"if __name__ == '__main__':\n    app.serve(port={server.port})\n"
    server.write({"shop.py": APP + "\n" + guard})
    server.launch([PYTHON, "shop.py"], {})
    server.wait_ready()
    assert server.client.get("/").status_code == 200


def test_an_application_that_is_no_global_is_one_clear_message(folder: Path) -> None:
    (folder / "main.py").write_text("from app import make\nmake().run()\n")
    (folder / "hidden.py").write_text("import app\napp.make().run()\n")
    result = subprocess.run(
        [PYTHON, "hidden.py"],
        cwd=folder,
        env=server_env(),
        capture_output=True,
        text=True,
        timeout=30 * SLOWER,
    )
    assert result.returncode == 1
    assert "databridge run" in result.stderr and "Traceback" not in result.stderr


# config, check, schema


def test_config_prints_what_nginx_takes(folder: Path) -> None:
    result = command("config", "app:app", "--port", "8123", folder=folder)
    assert result.returncode == 0
    assert "databridge_app app:app;" in result.stdout
    assert "listen 127.0.0.1:8123;" in result.stdout


def test_an_application_is_no_factory(folder: Path) -> None:
    result = command("check", "app:app", "--factory", folder=folder)
    assert result.returncode == 1
    assert result.stderr.startswith("databridge: error: app:app takes arguments, so it is no fact")


def test_check_passes_a_good_application(folder: Path) -> None:
    result = command("check", "app:app", folder=folder)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("options", [(), ("--app-only",)])
def test_check_fails_a_broken_one(folder: Path, options: tuple[str, ...]) -> None:
    (folder / "app.py").write_text("import no_such_module_anywhere\n")
    result = command("check", *options, "app:app", folder=folder)
    assert result.returncode != 0
    assert result.stderr.endswith(
        "databridge: error: app cannot be imported: ModuleNotFoundError: No module named"
        f" 'no_such_module_anywhere'; install it into {VENV}, if it is not the application's own\n"
    )


def test_schema_writes_what_nginx_needs(folder: Path) -> None:
    result = command("schema", "app:Note", folder=folder)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)


def test_schema_has_the_options_that_the_application_declares(folder: Path) -> None:
    result = command("schema", "app:Note", "--store", "other", folder=folder)
    schema = json.loads(result.stdout)
    assert (schema["prefix"], schema["version"], schema["unique"]) == ("/notes", True, ["text"])
    assert schema["store"] == "other"
    result = command("schema", "app:Note", "--prefix", "/papers", folder=folder)
    assert "version" not in json.loads(result.stdout)


def test_schema_of_something_else_is_one_clear_message(folder: Path) -> None:
    for target in ("app:make", "app:Nothing", "app"):
        result = command("schema", target, folder=folder)
        assert result.returncode != 0
        assert "Traceback" not in result.stderr and result.stderr.strip()


def test_help_names_every_command() -> None:
    output = command("--help").stdout
    assert all(name in output for name in ("run", "config", "check", "schema"))


def test_the_package_is_imported_in_a_moment_and_in_little_memory() -> None:
    script = """
import sys, time
modules, begun = len(sys.modules), time.process_time()
import databridge
print(time.process_time() - begun, len(sys.modules) - modules)
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    output = subprocess.check_output([PYTHON, "-c", script], text=True, env=server_env())
    seconds, modules, kilobytes = output.split()
    assert float(seconds) < 0.1 * SLOWER
    assert int(modules) < 60
    assert SANITIZED or int(kilobytes) < 25 * 1024


# as an ordinary user


def test_an_ordinary_user_serves(make_server: Callable[[], Server]) -> None:
    server = make_server()
    server.write(FILES)
    os.chmod(server.folder, 0o777)
    server.launch(
        [
            *_as_nobody(),
            *(DATABRIDGE, "run", "app:app", "--port", str(server.port)),
        ],
        {"HOME": str(server.folder)},
    )
    server.wait_ready()
    assert server.client.post("/notes", json={"text": "mine"}).status_code == 201
    owner = (server.folder / "databridge.db").stat().st_uid
    assert owner == (65534 if os.getuid() == 0 else os.getuid())


def _as_nobody() -> list[str]:
    """
    The start of a command that runs as nobody.  The tree may lie in a
    folder that only root can enter: then the command keeps the right to.
    """
    if os.getuid() != 0:
        return []

    keep = "-all"
    if not all(folder.stat().st_mode & 0o005 == 0o005 for folder in (ROOT, *ROOT.parents)):
        keep = "-all,+dac_override"

    return [
        *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
        f"--inh-caps={keep}",
        *([] if keep == "-all" else ["--ambient-caps=-all,+dac_override"]),
        "--",
    ]
