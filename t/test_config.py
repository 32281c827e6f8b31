"""The configuration, import strings, and the parent of nginx, without nginx."""

import fcntl
import grp
import os
import pwd
import re
import resource
import signal
import socket
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from databridge import config, installation, loading, server
from databridge.config import ConfigError, Settings, Site, render
from databridge.installation import InstallationError
from databridge.loading import LoadError
from databridge.supervisor import Supervisor
from harness.processes import survivors

SETTINGS = Settings("main:app")
SITE = Site("/lib/module.so", "/run/private", ("PATH", "HOME"))


def unescaped(escape: re.Match[str]) -> str:
    return {"n": "\n", "r": "\r", "t": "\t"}.get(escape[1], escape[1])


def words(text: str) -> list[list[str]]:
    """The configuration as nginx reads it: one list of words a directive."""
    directives: list[list[str]] = [[]]
    word = r'"((?:\\.|[^"\\])*)"|\'([^\']*)\'|([^\s;{}"\']+)|([;{}])|\s+'
    end = 0
    for found in re.finditer(word, text, re.DOTALL):
        assert found.start() == end, f"nginx would stop at {text[end : end + 40]!r}"
        end = found.end()
        quoted, single, plain, mark = found.groups()
        if mark:
            directives.append([])
        elif quoted is not None:
            directives[-1].append(re.sub(r"\\(.)", unescaped, quoted, flags=re.DOTALL))
        elif found[0].strip():
            directives[-1].append(single if single is not None else plain)
    assert end == len(text)
    return [directive for directive in directives if directive]


def directive(settings: Settings, name: str, site: Site = SITE) -> list[str]:
    (found,) = [line[1:] for line in words(render(settings, site)) if line[0] == name]
    return found


# render


def test_the_configuration_has_what_was_chosen() -> None:
    settings = Settings(
        "shop.main:make",
        app_dirs=("/srv/a", "/srv/b"),
        factory=True,
        host="0.0.0.0",
        port=8080,
        workers=3,
        store="sqlite:/srv/shop.db",
        timeout=1.5,
        shutdown_timeout=7,
    )
    assert directive(settings, "load_module") == ["/lib/module.so"]
    assert directive(settings, "worker_processes") == ["3"]
    assert directive(settings, "listen") == ["0.0.0.0:8080"]
    assert directive(settings, "databridge_app") == ["shop.main:make", "factory=on"]
    assert directive(settings, "databridge_python_path") == ["/srv/a", "/srv/b"]
    assert directive(settings, "databridge_store") == ["main", "sqlite:/srv/shop.db"]
    assert directive(settings, "databridge_timeout") == ["1500ms"]
    assert directive(settings, "databridge_shutdown_timeout") == ["7s"]
    assert directive(settings, "databridge_venv") == [sys.prefix]


def test_the_defaults_are_left_to_nginx() -> None:
    text = render(SETTINGS, SITE)
    assert "databridge_timeout" not in text
    assert "databridge_check" not in text
    assert directive(replace(SETTINGS, check=False), "databridge_check") == ["off"]


def test_headers_reach_the_application_as_they_were_sent() -> None:
    assert directive(SETTINGS, "underscores_in_headers") == ["on"]
    assert directive(SETTINGS, "ignore_invalid_headers") == ["off"]
    assert directive(SETTINGS, "large_client_header_buffers") == ["4", "64k"]


def test_every_file_of_nginx_is_in_the_private_directory() -> None:
    text = render(SETTINGS, SITE)
    paths = [line[1] for line in words(text) if line[0].endswith("_temp_path")]
    paths += directive(SETTINGS, "pid") + directive(SETTINGS, "lock_file")
    assert len(set(paths)) == 7
    assert all(path.startswith("/run/private/") for path in paths)


def test_the_whole_environment_is_passed() -> None:
    names = [line[1] for line in words(render(SETTINGS, SITE)) if line[0] == "env"]
    assert names == ["HOME", "PATH"]


def test_logs_go_to_the_standard_streams_until_quiet() -> None:
    assert directive(SETTINGS, "error_log") == ["stderr", "info"]
    assert directive(SETTINGS, "access_log") == ["/dev/stdout", "databridge"]
    (name, log_format) = directive(SETTINGS, "log_format")
    assert all(f"${v}" in log_format for v in ("time_iso8601", "status", "request_time"))

    quiet = replace(SETTINGS, quiet=True)
    assert directive(quiet, "error_log") == ["stderr", "warn"]
    assert directive(quiet, "access_log") == ["off"]
    assert directive(SETTINGS, "access_log", replace(SITE, access_log=None)) == ["off"]


def test_only_root_names_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert directive(SETTINGS, "user")[0] == pwd.getpwuid(os.getuid()).pw_name
    group = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
    assert directive(replace(SETTINGS, user="nobody"), "user") == ["nobody", group]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "\nuser " not in render(SETTINGS, SITE)


def test_connections_fit_the_limit_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, expected in ((1024, 512), (resource.RLIM_INFINITY, config.MAX_CONNECTIONS)):
        monkeypatch.setattr(resource, "getrlimit", lambda which, limit=limit: (limit, limit))
        assert directive(SETTINGS, "worker_connections") == [str(expected)]
        assert directive(SETTINGS, "worker_rlimit_nofile") == [str(2 * expected)]


@pytest.mark.parametrize(
    "name",
    ["a b", 'a"b', "a'b", "a;b", "a{b}", "$HOME", "${x}", "#a", "a\\nb", "a\\", "a\nb\tc\r", "ü"],
)
def test_any_path_is_quoted_safely(name: str) -> None:
    settings = replace(SETTINGS, app_dirs=(f"/srv/{name}",), store=f"sqlite:/srv/{name}/a.db")
    site = Site(f"/lib/{name}.so", f"/tmp/{name}", [name])
    assert directive(settings, "databridge_python_path", site) == [f"/srv/{name}"]
    assert directive(settings, "databridge_store", site) == ["main", f"sqlite:/srv/{name}/a.db"]
    assert directive(settings, "load_module", site) == [f"/lib/{name}.so"]
    assert directive(settings, "pid", site) == [f"/tmp/{name}/nginx.pid"]
    assert directive(settings, "env", site) == [name]


def test_a_nul_is_refused() -> None:
    with pytest.raises(ConfigError, match="NUL"):
        config.quote("a\0b")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:a.db", "sqlite:{cwd}/a.db"),
        ("sqlite:./a.db", "sqlite:{cwd}/a.db"),
        ("sqlite:/x/a.db", "sqlite:/x/a.db"),
        ("sqlite:///x/a.db", "sqlite:/x/a.db"),
        ("sqlite:a?b.db", "sqlite:{cwd}/a?b.db"),
    ],
)
def test_a_relative_store_is_in_the_current_directory(uri: str, expected: str) -> None:
    assert config.store_uri(uri) == expected.format(cwd=os.getcwd())


@pytest.mark.parametrize(
    "uri", ["", "a.db", "redis://x", "sqlite:", "sqlite://host/a.db", "sqlite:/x/"]
)
def test_a_store_that_is_none_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="--store"):
        config.store_uri(uri)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0ms"), (0.0001, "1ms"), (0.25, "250ms"), (60, "60000ms")]
)
def test_a_timeout_is_never_rounded_to_none(seconds: float, expected: str) -> None:
    assert config.milliseconds(seconds) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 65536}, "--port"),
        ({"port": -1}, "port"),
        ({"workers": 0}, "--workers must be 1 or more, not 0"),
        ({"timeout": -1}, "--timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"app_dirs": ("/no/such/folder",)}, "--app-dir: there is no directory /no/such/folder"),
        ({"host": "no.such.host.invalid"}, "--host: unknown host"),
        ({"store": "x"}, "--store must be"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.validate(replace(SETTINGS, **options))


def test_only_root_may_choose_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="--user"):
        config.validate(replace(SETTINGS, user="nobody"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(ConfigError, match="no user 'nobody-like-this'"):
        config.validate(replace(SETTINGS, user="nobody-like-this"))


def test_addresses_are_written_as_urls_have_them() -> None:
    assert replace(SETTINGS, host="::1", port=80).address == "[::1]:80"
    assert SETTINGS.address == "127.0.0.1:8000"


# ports


def test_a_taken_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}, choose another with --port"):
            with server.reserved_port("127.0.0.1", port):
                pass


def test_port_0_is_one_that_is_free_and_nobody_elses_until_nginx_has_it() -> None:
    with server.reserved_port("127.0.0.1", 0) as port:
        with pytest.raises(OSError, match="in use"), socket.socket() as other:
            other.bind(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)) as nginx:
            socket.create_connection(nginx.getsockname()).close()
        with server.reserved_port("127.0.0.1", port) as again:
            assert again == port


def test_an_address_of_another_machine_is_said() -> None:
    with pytest.raises(ConfigError, match="--host"):
        with server.reserved_port("192.0.2.1", 0):
            pass


# what is installed


def test_binaries_are_chosen_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nginx, module = tmp_path / "nginx", tmp_path / "m.so"
    nginx.write_text("#!/bin/sh\necho --modules-path=/m >&2\n")
    nginx.chmod(0o755)
    module.touch()
    monkeypatch.setenv("DATABRIDGE_NGINX", str(nginx))
    monkeypatch.setenv("DATABRIDGE_MODULE", str(module))
    assert installation.nginx_binary() == str(nginx)
    assert installation.module_file(str(nginx)) == str(module)
    assert installation.modules_path(str(nginx)) == "/m"


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRIDGE_NGINX", str(tmp_path / "none"))
    with pytest.raises(InstallationError, match="DATABRIDGE_NGINX"):
        installation.nginx_binary()
    monkeypatch.setenv("DATABRIDGE_MODULE", str(tmp_path / "none.so"))
    with pytest.raises(InstallationError, match="DATABRIDGE_MODULE"):
        installation.module_file("nginx")


# import strings


@pytest.fixture
def modules(tmp_path: Path) -> Iterator[Path]:
    """A directory to import from; what was imported is forgotten."""
    before, path = set(sys.modules), list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


def load(folder: Path, target: str, *, factory: bool = False) -> Any:
    return loading.load(target, [str(folder)], factory=factory)


def test_an_application_is_found(modules: Path) -> None:
    (modules / "found.py").write_text(
        "class Box:\n    app = lambda scope: 1\n\ndef make(): return Box.app\n"
    )
    assert load(modules, "found:Box.app")(None) == 1
    assert load(modules, "found:make", factory=True)(None) == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("asgi", "MODULE:APP"),
        ("asgi:", "MODULE:APP"),
        (":app", "MODULE:APP"),
        ("no_such_module:app", "no module 'no_such_module' in .*--app-dir"),
        ("asgi.inner:app", "cannot be imported|no module"),
        ("asgi:nothing", "no attribute 'nothing'$"),
        ("asgi:value", "asgi:value is a int, not an application"),
        ("asgi:os", "is a module"),
    ],
)
def test_a_wrong_import_string_is_one_line(
    modules: Path, target: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (modules / "asgi.py").write_text("import os\nvalue = 1\n")
    with pytest.raises(LoadError, match=message) as raised:
        load(modules, target)
    assert "\n" not in str(raised.value)
    assert "Traceback" not in capsys.readouterr().err


def test_a_wrong_name_comes_with_the_right_ones(modules: Path) -> None:
    (modules / "fast.py").write_text("from fastapi import FastAPI\nb = FastAPI()\na = FastAPI()\n")
    with pytest.raises(LoadError, match="did you mean fast:a or fast:b?"):
        load(modules, "fast:app")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def f(): return 1 / 0\nf()\n", "ZeroDivisionError: division by zero"),
        ("import no_such_dependency\n", "No module named 'no_such_dependency'"),
        ("def f(:\n", "SyntaxError"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
    ],
)
def test_a_broken_module_shows_its_own_traceback(
    modules: Path, code: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (modules / "broken.py").write_text(code)
    with pytest.raises(LoadError, match="broken cannot be imported: .*" + re.escape(message[:9])):
        load(modules, "broken:app")
    shown = capsys.readouterr().err
    assert message in shown and "broken.py" in shown
    assert "importlib" not in shown and "loading.py" not in shown


def test_a_broken_factory_shows_its_own_traceback(
    modules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (modules / "made.py").write_text("def make():\n    raise KeyError('no settings')\n")
    with pytest.raises(LoadError, match=r"made:make\(\) failed: KeyError: 'no settings'"):
        load(modules, "made:make", factory=True)
    assert "raise KeyError" in capsys.readouterr().err


def test_a_model_is_found(modules: Path) -> None:
    (modules / "models.py").write_text(
        "from pydantic import BaseModel\nclass User(BaseModel): ...\n\nvalue = 1\n"
    )
    assert loading.load_model("models:User", [str(modules)]).__name__ == "User"
    with pytest.raises(LoadError, match="did you mean models:User?"):
        loading.load_model("models:user", [str(modules)])
    with pytest.raises(LoadError, match="not a model"):
        loading.load_model("models:value", [str(modules)])


def test_an_import_does_not_start_a_server(modules: Path, caplog: pytest.LogCaptureFixture) -> None:
    (modules / "selfish.py").write_text(
        "import databridge\ndef app(scope): ...\ndatabridge.serve(app, port=1)\n"
    )
    assert callable(load(modules, "selfish:app"))
    assert "do nothing here" in caplog.text


def test_the_interactive_interpreter_is_refused() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import databridge; app = print; databridge.serve(app)"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert "notebook" in line and "databridge run" in line


# the parent of nginx, with a child that plays nginx

NGINX = """
import os, signal, subprocess, sys, time

conf = open(sys.argv[sys.argv.index("-c") + 1]).read()
workers = int(conf.split("worker_processes ")[1].split(";")[0])
notify = int(os.environ["DATABRIDGE_NOTIFY_FD"])
plays = os.environ["PLAYS"]

def say(line):
    os.write(1, line.encode() + b"\\n")  # in one piece, as its parent writes as well

def quit(*args):
    say("quit")
    if plays != "stubborn":
        sys.exit(0)

def terminate(*args):
    say("term")
    if plays == "stubborn":
        os._exit(0)

if plays == "slow":
    say("deaf")
    sys.stdin = open(os.environ["TMPDIR"] + "/../go")

signal.signal(signal.SIGQUIT, quit)
signal.signal(signal.SIGTERM, terminate)
signal.signal(signal.SIGHUP, lambda *args: say("hup"))

if plays == "refusing":
    sys.exit(3)
if plays == "checking":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    say("checking")
    time.sleep(60)
with open(conf.split("pid ")[1].split(";")[0], "w") as file:
    file.write(str(os.getpid()))
if plays == "failing":
    os.write(notify, b"ready\\nfailed: no database today\\n")
else:
    with open(os.environ["DATABRIDGE_REPORT"], "w") as file:
        file.write('{"docs": "/docs"}')
    os.write(notify, b"ready\\n" * workers)
say("up")
if plays == "dying":
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    say(f"worker {worker.pid}")
    os.kill(os.getpid(), signal.SIGKILL)
while True:
    time.sleep(60)
"""


class Run:
    """databridge run, with its nginx and its directory."""

    def __init__(
        self,
        folder: Path,
        plays: str,
        *options: str,
        closed: bool = False,
        terminal: int | None = None,
        nohup: bool = False,
        children: bool = True,
    ) -> None:
        nginx, module = folder / "nginx", folder / "module.so"
        nginx.write_text(f"#!{sys.executable}\n{textwrap.dedent(NGINX)}")
        nginx.chmod(0o755)
        module.touch()
        (folder / "tmp").mkdir()
        self.directory = folder / "tmp"
        command = [sys.executable, "-m", "databridge", "run", "main:app", "--port", "0", *options]
        if closed:
            command = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command]

        def prepare() -> None:
            if terminal is not None:
                fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)
            if not children:
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)

        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={
                **os.environ,
                "DATABRIDGE_NGINX": str(nginx),
                "DATABRIDGE_MODULE": str(module),
                "PLAYS": plays,
                "TMPDIR": str(self.directory),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=prepare,
            pass_fds=() if terminal is None else (terminal,),
        )
        self.output = ""

    def read_until(self, text: str) -> None:
        assert self.process.stdout is not None
        while text not in self.output:
            line = self.process.stdout.readline()
            assert line, f"it ended: {self.output}"
            self.output += line

    def wait(self) -> int:
        try:
            self.output += self.process.communicate(timeout=20)[0]
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{self.output}{error.output!r}") from error
        return self.process.returncode

    def left(self) -> list[str]:
        limit = time.monotonic() + 10
        while (left := os.listdir(self.directory)) and time.monotonic() < limit:
            time.sleep(0.01)
        return left

    def finish(self) -> None:
        with self.process:
            self.process.kill()


StartRun = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartRun]:
    runs: list[Run] = []

    def start(plays: str, *options: str, **how: Any) -> Run:
        runs.append(Run(tmp_path, plays, *options, **how))
        return runs[-1]

    yield start
    for run in runs:
        run.finish()


def test_a_ready_server_is_announced_and_stopped(start: StartRun) -> None:
    run = start("well", "--workers", "2")
    run.read_until("Ctrl-C")
    (directory,) = os.listdir(run.directory)
    assert (run.directory / directory).stat().st_mode & 0o777 == 0o700
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 0
    (port,) = set(re.findall(r"http://127\.0\.0\.1:(\d+)", run.output))
    assert port != "0"
    assert f"http://127.0.0.1:{port}/docs" in run.output
    assert f"2 workers, pid {run.process.pid}, Python 3." in run.output
    assert "quit" in run.output
    assert run.left() == []


def test_closed_streams_do_no_harm(start: StartRun) -> None:
    run = start("well", closed=True)
    limit = time.monotonic() + 20
    while not list(run.directory.glob("*/app.json")) and time.monotonic() < limit:
        time.sleep(0.01)
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 0
    assert run.left() == []


def test_quiet_announces_nothing(start: StartRun) -> None:
    run = start("well", "--quiet")
    run.read_until("up")
    run.process.send_signal(signal.SIGHUP)
    run.read_until("hup")
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 0
    assert "http://" not in run.output


def test_a_second_signal_does_not_wait(start: StartRun) -> None:
    run = start("stubborn")
    run.read_until("Ctrl-C")
    run.process.send_signal(signal.SIGINT)
    run.read_until("quit")
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 0
    assert "term" in run.output


def test_a_signal_ends_the_check(start: StartRun) -> None:
    run = start("checking")
    run.read_until("checking")
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 0
    assert run.left() == []


def test_hup_is_passed_on(start: StartRun) -> None:
    run = start("well")
    run.read_until("Ctrl-C")
    run.process.send_signal(signal.SIGHUP)
    run.read_until("hup")
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 0


def test_a_hup_that_nginx_cannot_hear_yet_is_made_up_for(start: StartRun, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    run = start("slow")
    run.read_until("deaf")
    run.process.send_signal(signal.SIGHUP)
    (tmp_path / "go").write_text("")
    run.read_until("hup")
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 0


@pytest.mark.parametrize("nohup", [False, True])
def test_the_end_of_the_terminal_ends_it_unless_nohup_was_said(
    start: StartRun, tmp_path: Path, nohup: bool
) -> None:
    """A terminal of its own, whose end the kernel tells to the leader of the session."""
    main, terminal = os.openpty()
    run = start("well", terminal=terminal, nohup=nohup)
    os.close(terminal)
    run.read_until("Ctrl-C")
    os.close(main)
    if nohup:
        run.process.send_signal(signal.SIGHUP)
        run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 0
    assert "hup" not in run.output


def test_it_waits_for_nginx_when_its_own_parent_ignores_children(start: StartRun) -> None:
    run = start("refusing", children=False)
    assert run.wait() == 3
    assert "nginx did not start: it ended with status 3" in run.output


def test_a_failed_worker_ends_it(start: StartRun) -> None:
    run = start("failing", "--workers", "2")
    assert run.wait() == 1
    assert "error: the application did not start: no database today" in run.output
    assert "serving" not in run.output
    assert run.left() == []


def test_nginx_refusing_is_its_status(start: StartRun) -> None:
    run = start("refusing")
    assert run.wait() == 3
    assert "nginx did not start: it ended with status 3" in run.output
    assert run.left() == []


def test_nginx_dying_is_an_error_and_leaves_no_worker(start: StartRun) -> None:
    run = start("dying")
    assert run.wait() == 128 + signal.SIGKILL
    assert "nginx ended by signal 9" in run.output
    assert run.left() == []
    worker = re.search(r"^worker (\d+)$", run.output, re.MULTILINE)
    assert worker, run.output
    assert survivors([int(worker[1])]) == []


def test_the_group_of_another_process_with_nginxs_number_is_left_alone() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    other = subprocess.Popen(command, start_new_session=True)
    supervisor = object.__new__(Supervisor)
    supervisor.nginx = copy(other)
    supervisor.nginx.returncode = 0
    supervisor._sweep()
    assert other.poll() is None
    supervisor.nginx = other
    supervisor._sweep()
    assert other.returncode == -signal.SIGTERM


def test_killed_it_still_takes_nginx_and_the_directory_along(start: StartRun) -> None:
    run = start("well")
    run.read_until("Ctrl-C")
    run.process.kill()
    assert run.wait() == -signal.SIGKILL
    assert "quit" in run.output
    assert run.left() == []


def test_workers_are_renewed_when_asked_for() -> None:
    assert "databridge_max_r" not in render(SETTINGS, SITE)
    settings = replace(SETTINGS, max_requests=500, max_rss="300m")
    assert directive(settings, "databridge_max_requests") == ["500"]
    assert directive(settings, "databridge_max_rss") == ["300m"]


@pytest.mark.parametrize("limits", [{"max_requests": -1}, {"max_rss": "-1"}, {"max_rss": "5 GB"}])
def test_a_limit_of_a_worker_that_is_none_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--max-r"):
        config.validate(replace(SETTINGS, **limits))
