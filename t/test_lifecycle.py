"""From the first request to the last: start, drain, fast exit, reload, death."""

import os
import re
import signal
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from conftest import StartApp, StartNginx
from harness import SLOWER, Nginx, Raw, processes, until
from harness.nginx import StartError

APP = """
import asyncio
import os
import pathlib
import time
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI, Request

HERE = pathlib.Path(__file__).parent


def note(text):
    with open(HERE / "notes", "a") as file:
        file.write(f"{os.getpid()} {text}\\n")


@asynccontextmanager
async def lifespan(app):
    note("startup")
    yield {"started": os.getpid()}
    note("shutdown")


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root(request: Request):
    return {"started": request.state.started, "pid": os.getpid()}


@app.get("/wait/{seconds}")
async def wait(seconds: float):
    note("waiting")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note("cancelled")
        raise
    note("done")
    return "waited"


@app.get("/block/{seconds}")
def block(seconds: float):
    note("waiting")
    time.sleep(seconds)
    return "blocked"


@app.get("/background")
async def background(tasks: BackgroundTasks):
    async def later():
        note("waiting")
        await asyncio.sleep(1)
        note("background done")

    tasks.add_task(later)
    return "answered"
"""


def notes(server: Nginx) -> str:
    path = server.app / "notes"
    return path.read_text() if path.exists() else ""


def noted(server: Nginx, text: str, seconds: float = 15.0) -> None:
    until(f"{text!r} in the notes", lambda: text in notes(server), seconds)


@contextmanager
def request(server: Nginx, path: str) -> Iterator[Raw]:
    """A request that is being handled."""
    with server.raw() as client:
        client.get(path)
        noted(server, "waiting")
        yield client


def test_lifespan_runs_in_each_worker(app: StartApp) -> None:
    server = app(APP, workers=2)
    until("two startups", lambda: notes(server).count("startup") == 2)
    answer = server.client.get("/").json()
    assert answer["started"] == answer["pid"]
    assert answer["pid"] in server.workers()
    server.kill(signal.SIGQUIT)
    assert server.wait() == 0
    assert notes(server).count("shutdown") == 2


def test_requests_wait_until_the_application_has_started(nginx: StartNginx) -> None:
    code = """
        import asyncio
        from contextlib import asynccontextmanager
        from fastapi import FastAPI

        @asynccontextmanager
        async def lifespan(app):
            await asyncio.sleep(0.5)
            yield

        app = FastAPI(lifespan=lifespan)

        @app.get("/")
        async def root():
            return "started"
    """
    server = nginx("databridge_app app:app;", files={"app.py": code})
    with server.raw() as one, server.raw() as two:
        one.get("/")
        two.get("/")
        assert (one.response().status, two.response().status) == (200, 200)


IMPORTED = {
    "runs a loop of its own": "assert asyncio.run(asyncio.sleep(0, 1)) == 1",
    "runs the current loop": "asyncio.get_event_loop().run_until_complete(asyncio.sleep(0))",
    "closes the current loop": """
        loop = asyncio.get_event_loop()
        loop.run_until_complete(loop.run_in_executor(None, str))
        loop.close()
    """,
    "has its task run later": """
        async def tick():
            done.set()

        done = asyncio.Event()
        task = asyncio.get_event_loop().create_task(tick())
    """,
}


@pytest.mark.parametrize("place", ["module", "factory"])
@pytest.mark.parametrize("kind", IMPORTED)
def test_no_loop_runs_while_an_application_is_imported(
    nginx: StartNginx, kind: str, place: str
) -> None:
    head = """
        import asyncio

        done = None

        async def respond(scope, receive, send):
            if scope["type"] == "lifespan":
                return
            assert asyncio.get_event_loop() is asyncio.get_running_loop()
            if done is not None:
                await done.wait()
            await asyncio.to_thread(str)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"answered"})
    """
    body = textwrap.dedent(IMPORTED[kind])
    if place == "factory":
        body = textwrap.indent(body, "    ")
        body = f"def make():\n    global done\n{body}\n    return respond\n"
    else:
        body += "\nmake = respond\n"
    factory = "factory=on" if place == "factory" else ""
    server = nginx(
        f"databridge_app app:make interface=asgi {factory};",
        files={"app.py": textwrap.dedent(head) + body},
    )
    assert server.client.get("/").text == "answered"


BROKEN = {
    "import": "import no_such_module_anywhere",
    "syntax": "def broken(:",
    "attribute": "other = 1",
    "startup": """
        async def app(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database today"})
    """,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_an_application_that_fails_to_start_is_a_503_and_an_emerg(
    make_nginx: Callable[..., Nginx], kind: str
) -> None:
    server = make_nginx()
    server.write({"app.py": BROKEN[kind]})
    server.configure("databridge_app app:app;", server="location = /static { return 200 static; }")
    server.expect_alert(r"\[emerg\].*app:app")
    server.start()
    answer = server.client.get("/")
    assert answer.status_code == 503
    assert server.client.get("/static").text == "static"
    reason = {
        "import": "no_such_module_anywhere",
        "syntax": "SyntaxError",
        "attribute": "app",
        "startup": "no database today",
    }[kind]
    server.logged(reason)


def test_quit_lets_requests_finish(app: StartApp) -> None:
    server = app(APP)
    with request(server, "/wait/1") as client:
        server.kill(signal.SIGQUIT)
        answer = client.response()
        assert (answer.status, answer.body) == (200, b'"waited"')
    assert server.wait() == 0
    assert "done" in notes(server) and "shutdown" in notes(server)
    assert notes(server).index("done") < notes(server).index("shutdown")


def test_quit_lets_def_handlers_finish(app: StartApp) -> None:
    server = app(APP)
    with request(server, "/block/1") as client:
        server.kill(signal.SIGQUIT)
        assert client.response().body == b'"blocked"'
    assert server.wait() == 0


def test_quit_lets_background_tasks_finish(app: StartApp) -> None:
    server = app(APP)
    assert server.client.get("/background").json() == "answered"
    noted(server, "waiting")
    server.kill(signal.SIGQUIT)
    assert server.wait() == 0
    assert "background done" in notes(server)


def test_quit_of_an_idle_server_is_fast(app: StartApp) -> None:
    server = app(APP)
    start = time.monotonic()
    server.kill(signal.SIGQUIT)
    assert server.wait() == 0
    assert time.monotonic() - start < 3.0 * SLOWER
    assert "shutdown" in notes(server)


def test_the_drain_ends_with_the_shutdown_timeout(app: StartApp) -> None:
    server = app(APP, http="databridge_shutdown_timeout 1s;")
    with request(server, "/wait/60"):
        start = time.monotonic()
        server.kill(signal.SIGQUIT)
        assert server.wait() == 0
    assert 0.9 < time.monotonic() - start < 4 * SLOWER
    server.logged("databridge_shutdown_timeout")


def test_a_thread_stuck_in_user_code_does_not_hold_the_exit(app: StartApp) -> None:
    server = app(APP, http="databridge_shutdown_timeout 1s;")
    with request(server, "/block/30"):
        start = time.monotonic()
        server.kill(signal.SIGQUIT)
        assert server.wait() == 0
    assert time.monotonic() - start < 4 * SLOWER


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_term_cuts_requests_and_still_shuts_the_application_down(
    app: StartApp, number: signal.Signals
) -> None:
    server = app(APP)
    with request(server, "/wait/60"):
        start = time.monotonic()
        server.kill(number)
        assert server.wait() == 0
    assert time.monotonic() - start < 2.5 * SLOWER
    assert "shutdown" in notes(server)


def test_without_a_master_it_serves_and_quits(app: StartApp) -> None:
    server = app(APP, master=False)
    assert server.client.get("/").json()["pid"] == server.worker()
    server.kill(signal.SIGQUIT)
    assert server.wait() == 0
    assert "shutdown" in notes(server)


def test_a_killed_worker_is_replaced(app: StartApp) -> None:
    server = app(APP)
    old = server.worker()
    server.expect_alert(r"worker process \d+ exited on signal 9")
    server.expect_new_workers()
    os.kill(old, signal.SIGKILL)
    until("another worker", lambda: server.workers() not in ([], [old]))
    assert server.client.get("/").json()["pid"] == server.worker() != old


def test_reload_serves_the_new_code(app: StartApp) -> None:
    server = app(APP)
    before = server.client.get("/").json()["pid"]
    server.write({"app.py": APP.replace('"pid": os.getpid()', '"pid": -1')})
    server.reload()
    assert server.client.get("/").json()["pid"] == -1
    until("the old worker is gone", lambda: not processes.alive(before))


def test_reload_lets_the_old_workers_requests_finish(app: StartApp) -> None:
    server = app(APP)
    with request(server, "/wait/1.5") as client:
        old = server.reload()
        assert server.client.get("/").json()["pid"] not in old
        assert client.response().status == 200
    until("the old worker is gone", lambda: not any(map(processes.alive, old)))


def test_reload_refuses_an_application_that_does_not_load(app: StartApp) -> None:
    server = app(APP, check="30s")
    before = server.worker()
    server.write({"app.py": "import no_such_module_anywhere"})
    server.expect_alert(r"\[emerg\]")
    server.kill(signal.SIGHUP)
    server.logged("no_such_module_anywhere", 20)
    server.logged(r"\[emerg\]", 20)
    assert server.client.get("/").json()["pid"] == before
    assert server.workers() == [before]
    server.write({"app.py": APP})
    server.reload()
    assert server.client.get("/").json()["pid"] != before


def test_a_first_start_with_a_broken_application_binds_no_port(
    make_nginx: Callable[..., Nginx],
) -> None:
    server = make_nginx()
    server.write({"app.py": "import no_such_module_anywhere"})
    server.configure("databridge_app app:app;", check="30s")
    server.expect_alert(r"\[emerg\]")
    with pytest.raises(StartError, match="no_such_module_anywhere"):
        server.start()
    with pytest.raises(httpx.ConnectError):
        server.client.get("/")
    server.process = None


def test_an_application_that_does_not_load_in_time_is_refused(
    make_nginx: Callable[..., Nginx],
) -> None:
    server = make_nginx()
    server.write({"app.py": "import time\ntime.sleep(60)"})
    server.configure("databridge_app app:app;", http="", check="30s")
    text = server.config.read_text()
    server.config.write_text(text.replace("databridge_check 30s", "databridge_check 1s"))
    server.expect_alert(r"\[emerg\].*did not load")
    start = time.monotonic()
    result = server.test()
    assert result.returncode == 1
    assert "app:app" in result.stderr
    assert time.monotonic() - start < 5 * SLOWER


def test_reload_loses_no_request(app: StartApp) -> None:
    server = app(APP, workers=2)
    answers: list[int] = []
    errors: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                answer = httpx.get(f"{server.base_url}/wait/0.01", timeout=15 * SLOWER)
                answers.append(answer.status_code)
            except httpx.HTTPError as error:
                errors.append(repr(error))

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    for _ in range(3):
        old = server.reload()
        assert server.client.get("/").status_code == 200
        assert processes.survivors(old, 20) == []
    stop.set()
    for client in clients:
        client.join()

    assert errors == []
    assert len(answers) > len(clients) and set(answers) == {200}


def test_twenty_reloads_leave_no_worker_behind(app: StartApp) -> None:
    server = app("async def app(scope, receive, send):\n    raise RuntimeError", ready=None)
    for _ in range(20):
        server.reload()
    until("one worker", lambda: len(server.workers()) == 1)


def test_what_the_application_prints_goes_to_the_error_log(app: StartApp) -> None:
    server = app(
        """
        import logging
        import sys
        from fastapi import FastAPI

        app = FastAPI()
        log = logging.getLogger("shop")

        @app.get("/")
        def root():
            print("a printed line")
            print("to stderr", file=sys.stderr)
            log.warning("a warning %d", 7)
            log.error("an error")
            return "said"
        """
    )
    server.client.get("/")
    server.logged("a printed line")
    server.logged("to stderr")
    assert all("[warn]" in line for line in server.logged("a warning 7"))
    assert all("[error]" in line for line in server.logged("an error"))


def test_a_line_of_an_idle_server_has_the_time_it_was_said(app: StartApp) -> None:
    server = app(
        """
        import asyncio
        import time
        from fastapi import BackgroundTasks, FastAPI

        app = FastAPI()

        async def later():
            await asyncio.sleep(2.5)
            print("said at", time.strftime("%Y/%m/%d %H:%M:%S"))

        @app.get("/later")
        async def ask(tasks: BackgroundTasks):
            tasks.add_task(later)
        """
    )
    server.client.get("/later")
    (line,) = server.logged("said at")
    stamps = re.findall(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d", line)
    written, said = stamps
    assert written >= said


def test_uvicorns_loggers_are_heard_as_under_uvicorn(app: StartApp) -> None:
    server = app(
        """
        import logging
        from fastapi import FastAPI

        logging.basicConfig(format="ROOT %(message)s")
        form = logging.Formatter("FORMED %(message)s")
        logging.getLogger("uvicorn.access").handlers[0].setFormatter(form)
        app = FastAPI()

        @app.get("/news")
        def news():
            for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
                logging.getLogger(name).debug("a detail of %s", name)
                logging.getLogger(name).info("news of %s", name)
            return "said"
        """
    )
    server.client.get("/news")
    server.logged("FORMED news of uvicorn.access")
    assert all("[info]" in line for line in server.logged("uvicorn: news of uvicorn"))
    assert all("[info]" in line for line in server.logged("uvicorn.error: news of uvicorn.error"))
    log = server.error_log.text()
    assert log.count("news of") == 3
    assert "a detail" not in log


def test_signal_handlers_of_the_application_do_not_replace_nginxs(app: StartApp) -> None:
    server = app(
        """
        import signal
        from fastapi import FastAPI

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)
        app = FastAPI()

        @app.get("/")
        async def root():
            return "serving"
        """
    )
    assert server.client.get("/").json() == "serving"
    server.kill(signal.SIGQUIT)
    assert server.wait() == 0


def test_children_of_a_handler_start_with_an_empty_signal_mask(app: StartApp) -> None:
    server = app(
        """
        import subprocess
        from fastapi import FastAPI

        app = FastAPI()

        @app.get("/")
        def root():
            status = subprocess.run(
                ["cat", "/proc/self/status"], capture_output=True, text=True, check=True
            )
            return [line for line in status.stdout.splitlines() if line.startswith("SigBlk")]
        """
    )
    (line,) = server.client.get("/").json()
    assert re.fullmatch(r"SigBlk:\s+0+", line)


def test_the_environment_and_the_path_come_from_the_configuration(app: StartApp) -> None:
    server = app(
        """
        import os
        import sys
        from fastapi import FastAPI

        app = FastAPI()

        @app.get("/")
        async def root():
            return [os.environ["COLOUR"], os.getenv("OTHER"), "/nonexistent" in sys.path,
                    sys.prefix]
        """,
        http="databridge_env COLOUR=blue; databridge_python_path /nonexistent;",
    )
    colour, other, path, prefix = server.client.get("/").json()
    assert (colour, other, path) == ("blue", None, True)
    assert prefix.endswith("/venv")


def test_libraries_in_c_take_text_for_utf_8(app: StartApp) -> None:
    server = app(
        """
        import ctypes
        import locale
        from fastapi import FastAPI

        app = FastAPI()
        letters = ctypes.CDLL(None).mbstowcs(None, "\u00e9t\u00e9".encode(), 0)

        @app.get("/")
        async def root():
            return letters, locale.getlocale()[1], locale.setlocale(locale.LC_NUMERIC)
        """,
    )
    assert server.client.get("/").json() == [3, "UTF-8", "C"]
