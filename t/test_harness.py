"""The harness itself, with plain nginx: it must notice what it is there to notice."""

import os
import signal
import socket
import subprocess
import sys
from copy import copy
from pathlib import Path

import pytest

from harness import Log, Nginx, Uvicorn, processes, until
from harness.asgi import UVICORN_FAILS
from harness.nginx import StartError
from harness.processes import alive, children, descriptors, kill_group

HELLO = "return 200 hello;"


def started(location: str = HELLO, **configuration: object) -> Nginx:
    server = Nginx(plain=True)
    server.configure(location, **configuration)  # type: ignore[arg-type]
    server.start()
    return server


def test_a_quiet_run_has_no_problems() -> None:
    server = started()
    assert server.client.get("/").text == "hello"
    assert server.finish() == []


def test_the_same_without_a_master() -> None:
    server = started(master=False)
    assert server.client.get("/").text == "hello"
    assert server.workers() == [server.process.pid if server.process else 0]
    assert server.finish() == []


def test_nothing_is_left_behind() -> None:
    server = started(workers=2)
    pids = server.workers()
    assert len(pids) == 2
    assert server.finish() == []
    assert not any(alive(pid) for pid in pids)
    assert not server.prefix.exists()


def test_a_dead_worker_is_a_failure() -> None:
    server = started()
    pid = server.worker()
    os.kill(pid, signal.SIGKILL)
    server.logged("exited on signal 9")
    problems = server.finish()
    assert f"worker {pid} died" in problems
    assert any("exited on signal 9" in line for line in problems)


def test_an_announced_alert_passes() -> None:
    server = started()
    server.expect_alert(r"worker process \d+ exited on signal 9")
    server.expect_new_workers()
    os.kill(server.worker(), signal.SIGKILL)
    server.logged("exited on signal 9")
    assert server.finish() == []


def test_an_announced_alert_that_does_not_come_is_a_failure() -> None:
    server = started()
    server.expect_alert("the sky falls")
    assert server.finish() == ["an announced alert did not come: the sky falls"]


def test_a_leaked_connection_is_a_failure() -> None:
    server = started("return 200 hello; keepalive_timeout 60s;")
    with server.raw() as client:
        client.get("/")
        client.response()
        (problem,) = server.finish()
    assert "leaked {'tcp': 1}" in problem


def test_a_reload_is_no_failure() -> None:
    server = started()
    old = server.reload()
    assert server.client.get("/").text == "hello"
    until("the old worker has gone", lambda: not any(alive(pid) for pid in old))
    assert server.finish() == []


def test_nginx_that_does_not_quit_in_time_is_a_failure() -> None:
    server = Nginx(plain=True)
    server.write({"slow": "x" * 1000})
    server.configure(f"limit_rate 1; root {server.app};")
    server.start()
    with server.raw() as client:
        client.get("/slow")
        until("the request has begun", lambda: client.socket.recv(1))
        problems = server.finish(patience=0.5)
    assert problems[-1] == "nginx did not exit within 0.5 s of QUIT"


def test_a_broken_configuration_does_not_start() -> None:
    server = Nginx(plain=True)
    server.configure("no_such_directive;")
    with pytest.raises(StartError, match='unknown directive "no_such_directive"'):
        server.start()
    server.expect_alert("unknown directive")
    assert server.finish() == ["nginx exited with 1"]


@pytest.mark.parametrize(
    "line",
    [
        "==12==ERROR: AddressSanitizer: heap-use-after-free on address 0x1",
        "WARNING: ThreadSanitizer: data race (pid=7)",
        "src/core/db_buf.c:12:5: runtime error: signed integer overflow",
        "==12==ERROR: LeakSanitizer: detected memory leaks",
        "Fatal Python error: Aborted",
        "2026/01/01 00:00:00 [alert] 1#1: worker process 2 exited on signal 11",
        "2026/01/01 00:00:00 [emerg] 1#1: out of memory",
    ],
)
def test_the_log_checker_knows(line: str, tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    path.write_text(f"2026/01/01 00:00:00 [error] 1#1: the application's own\n{line}\n")
    assert Log(path).problems() == [line]


def test_descriptors_by_kind() -> None:
    server = started()
    before = descriptors(server.worker())
    assert before[f"file:{server.prefix}/error.log"] >= 1
    assert before["tcp"] == 0
    with server.raw() as client:
        client.get("/")
        client.response()
        assert descriptors(server.worker())["tcp"] == 1
    assert server.finish() == []


def test_uvicorn_serves_and_ends() -> None:
    server = Uvicorn()
    server.write(
        {
            "app.py": """
            async def app(scope, receive, send):
                if scope["type"] == "http":
                    await send({"type": "http.response.start", "status": 200, "headers": []})
                    await send({"type": "http.response.body", "body": b"hello"})
            """
        }
    )
    server.run("app:app")
    assert server.process and server.client.get("/").text == "hello"
    assert children(server.process.pid) == []
    assert server.finish() == []


def test_every_failure_of_uvicorns_is_that_of_a_test() -> None:
    folder = Path(__file__).parent
    options = ["-c", str(folder / "pytest.ini"), "--collect-only", "-q"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *map(str, folder.glob("test_asgi_*.py"))],
        capture_output=True,
        text=True,
    )
    tests = {line.rpartition("/")[2] for line in result.stdout.splitlines()}
    assert set(UVICORN_FAILS) <= tests


def test_a_port_is_nobodys_but_its_servers() -> None:
    server = started()
    assert server.finish() == []
    assert not processes.listening(server.port)
    with pytest.raises(OSError, match="in use"), socket.socket() as other:
        other.bind(("127.0.0.1", server.port))
    with socket.create_server(("127.0.0.1", server.port)):
        assert processes.listening(server.port)


def test_a_group_is_killed_but_not_that_of_another_process_with_the_number() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    process = subprocess.Popen(command, start_new_session=True)
    reaped: subprocess.Popen[bytes] = copy(process)
    reaped.returncode = 0
    kill_group(reaped)
    assert process.poll() is None
    kill_group(process)
    assert process.wait(10) == -signal.SIGKILL
    kill_group(process)


def test_a_later_process_with_the_number_of_a_child_is_not_that_child() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert process.pid in children(os.getpid()) and alive(process.pid)
    processes._born[process.pid] = "1"
    assert not alive(process.pid)
    process.kill()
    process.wait()
