"""What user code can do to its worker, and what of it others notice."""

import signal
import threading
import time

import pytest

from conftest import StartApp
from harness import SANITIZED, SLOWER, Nginx, Raw, processes, until

APP = """
import asyncio
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager

from fastapi import FastAPI


def double(number):
    return 2 * number


@asynccontextmanager
async def lifespan(app):
    yield
    with open(os.path.join(os.path.dirname(__file__), "ended"), "a") as file:
        file.write(f"{os.getpid()} ")


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    return os.getpid()


@app.get("/segfault")
async def segfault():
    ctypes.string_at(0)


@app.get("/segfault-in-a-thread")
def segfault_in_a_thread():
    ctypes.string_at(0)


@app.get("/exit/{status}")
async def exit(status: int):
    os._exit(status)


@app.get("/abort")
async def abort():
    os.abort()


@app.get("/recursion")
async def recursion():
    def deeper():
        return deeper() + 1

    return deeper()


@app.get("/stack")
def stack():
    # without a limit the recursion ends with the stack of the thread
    sys.setrecursionlimit(2**31 - 1)

    class Deeper:
        def __repr__(self):
            return repr([self])

    return repr(Deeper())


@app.get("/memory")
async def memory():
    return len(bytearray(2**60))


EXCEPTIONS = {
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "MemoryError": MemoryError,
    "StopIteration": StopIteration,
}


@app.get("/raise/{name}")
async def raises(name: str):
    raise EXCEPTIONS[name](3)


@app.get("/raise-in-a-thread/{name}")
def raises_in_a_thread(name: str):
    raise EXCEPTIONS[name](3)


@app.get("/exit-in-a-thread")
async def exit_in_a_thread():
    thread = threading.Thread(target=sys.exit, args=(3,))
    thread.start()
    thread.join()
    return "joined"


@app.get("/exit-in-a-callback")
async def exit_in_a_callback():
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(0.05)
    return "went on"


@app.get("/kill/{number}")
async def kill(number: int):
    os.kill(os.getpid(), number)
    await asyncio.sleep(0.2)
    return "alive"


@app.get("/kill-from-a-thread/{number}")
def kill_from_a_thread(number: int):
    signal.pthread_kill(threading.get_ident(), number)
    return "alive"


@app.get("/fork")
async def fork():
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@app.get("/leave-a-child")
async def leave_a_child():
    context = multiprocessing.get_context("fork")
    child = context.Process(target=time.sleep, args=(60,), daemon=True)
    child.start()
    return child.pid


@app.get("/pool/{method}")
def pool(method: str):
    with multiprocessing.get_context(method).Pool(2) as workers:
        return workers.map(double, [1, 2, 3])


@app.get("/process/{method}")
def process(method: str):
    child = multiprocessing.get_context(method).Process(target=double, args=(1,))
    child.start()
    child.join()
    return child.exitcode


@app.get("/terminate")
async def terminate():
    child = await asyncio.create_subprocess_exec("sleep", "60")
    child.terminate()
    return await child.wait()
"""


# Nobody is sent away for having asked a thousand times.

LASTING = "keepalive_requests 10000000;"


class Others:
    """Asks the worker that does not die, all the time, over kept connections."""

    def __init__(self, server: Nginx, pid: int) -> None:
        self.pid = pid
        self.asked = 0
        self.slowest = 0.0
        self.wrong: list[str] = []
        self.stop = threading.Event()
        self.clients = [connection(server, pid) for _ in range(4)]
        self.threads = [threading.Thread(target=self._run, args=(c,)) for c in self.clients]

    def __enter__(self) -> "Others":
        for thread in self.threads:
            thread.start()
        until("answers", lambda: self.asked > 20)
        return self

    def __exit__(self, *unused: object) -> None:
        goal = self.asked + 20
        until("more answers", lambda: self.asked > goal)
        self.stop.set()
        for thread in self.threads:
            thread.join()
        for client in self.clients:
            client.socket.close()

    def _run(self, client: Raw) -> None:
        while not self.stop.is_set():
            start = time.monotonic()
            try:
                client.get("/")
                body = client.response().body
            except OSError as error:
                self.wrong.append(repr(error))
                return
            if body != str(self.pid).encode():
                self.wrong.append(repr(body))
            self.asked += 1
            self.slowest = max(self.slowest, time.monotonic() - start)


def connection(server: Nginx, pid: int) -> Raw:
    """A connection that this worker has accepted."""
    while True:
        client = server.raw()
        client.get("/")
        if int(client.response().body) == pid:
            return client
        client.socket.close()


def dies(server: Nginx, path: str, status: str) -> None:
    """The worker that is asked for this dies, and its client hears nothing."""
    server.expect_new_workers()
    victim, other = server.workers()
    with connection(server, victim) as client, Others(server, other) as others:
        client.get(path)
        assert client.closed()
        start = time.monotonic()
        until("another worker", lambda: replaced(server, victim))
        assert time.monotonic() - start < 1.0 * SLOWER
    assert others.wrong == []
    assert other in server.workers()
    server.logged(f"worker process {victim} exited {status}")
    fresh = next(pid for pid in server.workers() if pid != other)
    with connection(server, fresh) as client:
        client.get("/")
        assert int(client.response().body) == fresh


def replaced(server: Nginx, victim: int) -> bool:
    workers = server.workers()
    return len(workers) == 2 and victim not in workers


# A sanitized worker reports what kills it, and leaves with a status.

CRASHES = {
    "/segfault": 11,
    "/segfault-in-a-thread": 11,
    "/abort": 6,
    "/stack": 11,
    f"/kill/{signal.SIGKILL:d}": 9,
    f"/kill/{signal.SIGSEGV:d}": 11,
}


@pytest.mark.skipif(SANITIZED, reason="a sanitizer takes the signal for itself")
@pytest.mark.parametrize("path", CRASHES)
def test_a_worker_that_crashes_is_replaced_and_the_others_do_not_notice(
    app: StartApp, path: str
) -> None:
    server = app(APP, http=LASTING, workers=2)
    server.expect_alert(f"exited on signal {CRASHES[path]}")
    dies(server, path, f"on signal {CRASHES[path]}")


@pytest.mark.parametrize("status", [0, 1, 3])
def test_a_worker_that_user_code_ends_is_replaced(app: StartApp, status: int) -> None:
    server = app(APP, http=LASTING, workers=2)
    if status:
        server.expect_alert(f"exited with code {status}")
    dies(server, f"/exit/{status}", f"with code {status}")


def test_the_status_that_nginx_does_not_replace_is_another_one(app: StartApp) -> None:
    server = app(APP, http=LASTING, workers=2)
    server.expect_alert("exited with code 1")
    dies(server, "/exit/2", "with code 1")


@pytest.mark.parametrize("path", ["/raise", "/raise-in-a-thread"])
@pytest.mark.parametrize(
    "name",
    [
        "SystemExit",
        "KeyboardInterrupt",
        "GeneratorExit",
        "CancelledError",
        "MemoryError",
        "StopIteration",
    ],
)
def test_an_exception_of_any_kind_ends_its_request_alone(
    shared_app: Nginx, path: str, name: str
) -> None:
    before = shared_app.worker()
    assert shared_app.client.get(f"{path}/{name}").status_code == 500
    assert shared_app.client.get("/").json() == before


@pytest.mark.parametrize("path", ["/recursion", "/memory"])
def test_what_python_refuses_is_a_500(shared_app: Nginx, path: str) -> None:
    before = shared_app.worker()
    assert shared_app.client.get(path).status_code == 500
    assert shared_app.client.get("/").json() == before


def test_sys_exit_in_a_thread_ends_the_thread_alone(shared_app: Nginx) -> None:
    assert shared_app.client.get("/exit-in-a-thread").json() == "joined"
    assert shared_app.client.get("/").json() == shared_app.worker()


def test_sys_exit_in_a_callback_does_not_end_the_worker(shared_app: Nginx) -> None:
    assert shared_app.client.get("/exit-in-a-callback").json() == "went on"
    assert shared_app.client.get("/").json() == shared_app.worker()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_terminates_itself_ends_its_lifespan_and_is_replaced(
    app: StartApp, number: signal.Signals
) -> None:
    server = app(APP, http=LASTING, workers=2)
    server.expect_new_workers()
    victim, other = server.workers()
    with connection(server, victim) as client, Others(server, other) as others:
        client.get(f"/kill/{number:d}")
        assert client.closed()
        until("another worker", lambda: replaced(server, victim))
    assert others.wrong == []
    assert str(victim) in (server.app / "ended").read_text()
    server.logged(f"worker process {victim} exited with code 0")


def test_a_worker_that_quits_by_itself_answers_first_and_is_replaced(app: StartApp) -> None:
    server = app(APP, http=LASTING, workers=2)
    server.expect_new_workers()
    victim, other = server.workers()
    with connection(server, victim) as client:
        client.get(f"/kill/{signal.SIGQUIT:d}")
        assert client.response().body == b'"alive"'
        until("another worker", lambda: replaced(server, victim))
    assert str(victim) in (server.app / "ended").read_text()
    assert other in server.workers()


def test_a_signal_to_a_thread_of_python_does_not_end_the_worker(shared_app: Nginx) -> None:
    path = f"/kill-from-a-thread/{signal.SIGTERM:d}"
    assert shared_app.client.get(path).json() == "alive"
    assert shared_app.client.get("/").json() == shared_app.worker()


def test_a_handler_may_fork(shared_app: Nginx) -> None:
    assert shared_app.client.get("/fork").json() == 7
    assert shared_app.client.get("/").json() == shared_app.worker()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_handler_may_use_multiprocessing(app: StartApp, method: str) -> None:
    server = app(APP)
    server.allow_descriptors(pipe=4, unix=2)
    assert server.client.get(f"/process/{method}").json() == 0
    assert server.client.get(f"/pool/{method}").json() == [2, 4, 6]
    assert server.client.get("/").json() == server.worker()


def test_a_forked_child_that_stays_keeps_no_connection_and_no_port(app: StartApp) -> None:
    server = app(APP)
    server.allow_descriptors(pipe=4)
    with server.raw() as before:
        before.get("/")
        before.response()
        child = server.client.get("/leave-a-child").json()
        before.get("/", "Connection: close\r\n")
        before.response()
        assert before.closed()
    assert processes.descriptors(child)["tcp"] == 0
    assert processes.listeners(server.worker()) == 1
    assert processes.listeners(child) == 0


def test_a_child_of_a_handler_can_be_terminated(shared_app: Nginx) -> None:
    assert shared_app.client.get("/terminate").json() == -signal.SIGTERM
