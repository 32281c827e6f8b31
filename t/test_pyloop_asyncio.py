"""CPython's own tests of asyncio with PyLoop in the place of asyncio's loop.

Each module runs in a process of its own; it is Debian's libpython3.11-testsuite that has them.
Other versions of CPython that are installed with their tests judge PyLoop as well.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from glob import glob
from pathlib import Path

import pytest

from harness import ROOT

# Loops made by the tests, directly or through the policy, are ours.
RUNNER = """
import asyncio, sys, unittest
from asyncio import unix_events
from databridge.loop import Loop

class TheLoop(Loop):
    def __init__(self, selector=None):
        if selector is not None:
            selector.close()
        super().__init__()

asyncio.SelectorEventLoop = unix_events.SelectorEventLoop = TheLoop
asyncio.EventLoop = unix_events.EventLoop = TheLoop
unix_events._UnixDefaultEventLoopPolicy._loop_factory = TheLoop

class Tests(unittest.TestLoader):
    def getTestCaseNames(self, case):
        return [name for name in super().getTestCaseNames(case) if name not in left_out]

left_out = sys.argv[2:]
unittest.main(module=None, argv=sys.argv[:2], testLoader=Tests())
"""

SUITE = "test.test_asyncio.test_"

# All but those of Windows.
MODULES = [
    "base_events",
    "buffered_proto",
    "context",
    "events",
    "futures",
    "futures2",
    "locks",
    "pep492",
    "protocols",
    "queues",
    "runners",
    "selector_events",
    "sendfile",
    "server",
    "sock_lowlevel",
    "ssl",
    "sslproto",
    "streams",
    "subprocess",
    "taskgroups",
    "tasks",
    "threads",
    "timeouts",
    "transports",
    "unix_events",
    "waitfor",
]

# What else runs on asyncio's loop.
OTHERS = ["test.test_asyncgen", "test.test_contextlib_async", "test.test_coroutines"]

# Why a test that fails has to.
EXPECTED = {
    # sets the private attribute _pipe to None, in three classes, so that nothing warns
    "events": {"test_unclosed_pipe_transport"},
    # children need no watcher here, hence an inactive one is no error
    "subprocess": {
        "test_create_subprocess_fails_with_inactive_watcher",
        # looks for the private thread of a watcher, from CPython 3.14 on
        "test_pid_not_reaped_before_exit_published",
    },
}

# Puts a socket of its own into a transport's private _sock, and waits for ever if it cannot.
LEFT_OUT = ["test_remote_shutdown_receives_trailing_data_on_slow_socket"]


def others(threading: str = "") -> list[str]:
    """Other versions, with the GIL or ("t") without it."""
    found = []
    for version in ("3.12", "3.13", "3.14"):
        paths = sorted(glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python3")))
        paths = [path for path in paths if (path.split("/")[-3][-1] == "t") == bool(threading)]
        found.append(paths[-1] if paths else shutil.which(f"python{version}{threading}"))
    return [path for path in found if path]


PYTHONS = others()
FREE = others("t")


def judge(python: str, module: str, path: list[str], expected: set[str]) -> set[str]:
    """What of the tests of a module has failed."""
    command = [python, "-c", RUNNER, module, *LEFT_OUT]
    done = subprocess.run(
        command, env={"PYTHONPATH": ":".join(path)}, capture_output=True, text=True
    )
    if "No module named 'test.test_asyncio'" in done.stderr:
        pytest.fail("CPython's tests are not installed for " + python, pytrace=False)
    failed = {*re.findall(r"^(?:FAIL|ERROR): (\w+)", done.stderr, re.MULTILINE)}
    assert failed <= expected, done.stderr
    ran = re.search(r"^Ran (\d+) test", done.stderr, re.MULTILINE)
    assert ran and int(ran[1]) > 0, done.stderr
    return failed


@pytest.mark.timeout(240)
@pytest.mark.parametrize("module", [*MODULES, *OTHERS])
def test_cpython(module: str) -> None:
    path = [sysconfig.get_path("stdlib"), *(entry for entry in sys.path if entry)]
    name = module if module in OTHERS else SUITE + module
    failed = judge(sys.executable, name, path, EXPECTED.get(module, set()))
    assert bool(failed) == (module in EXPECTED)


def build(python: str, directory: Path) -> str:
    """The package for another version: PyLoop and the modules that it needs."""
    package = directory / "databridge"
    package.mkdir()
    for source in (ROOT / "python" / "databridge").glob("*.py"):
        (package / source.name).symlink_to(source)
    asked = "import sysconfig; print(sysconfig.get_path('include'))"
    include = subprocess.check_output([python, "-c", asked], text=True).strip()
    subprocess.run(
        ["gcc", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra"]
        + ["-Wno-unused-parameter", "-Werror", f"-I{ROOT / 'src'}", f"-I{include}"]
        + ["-o", package / "_pyloop.so", *sorted((ROOT / "src" / "pyloop").glob("*.c"))],
        check=True,
    )
    return str(directory)


SMOKE = """
import asyncio, sys, threading, time
import databridge

async def main():
    loop = asyncio.get_running_loop()
    assert isinstance(loop, databridge.PyLoop)
    loop.slow_callback_duration = 60
    loop.call_later(0.001, int).cancel()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0.001))
        assert await asyncio.to_thread(int) == 0
    child = await asyncio.create_subprocess_exec("/bin/echo", "hi", stdout=-1)
    assert (await child.communicate())[0] == b"hi\\n"
    if sys.version_info >= (3, 14):
        await since_3_14(loop)

    async def answer(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"line\\n")
    assert await reader.read() == b"line\\n"
    writer.close()
    server.close()

async def since_3_14(loop):
    seen = []

    async def eager():
        seen.append(asyncio.current_task())

    task = loop.create_task(eager(), name="eager", eager_start=True)
    assert seen == [task] and task.done() and task.get_name() == "eager"

    # who cancels what another thread is running waits for its end
    begun, both = threading.Event(), asyncio.Event()

    def callback():
        begun.set()
        time.sleep(0.05)
        seen.append("ran")
        both.set()

    def thread():
        handle = loop.call_soon_threadsafe(callback)
        begun.wait()
        handle.cancel()
        seen.append("cancelled")

    await asyncio.gather(asyncio.to_thread(thread), both.wait())
    assert seen == [task, "ran", "cancelled"]

databridge.run(main(), debug=True)
with asyncio.Runner(loop_factory=databridge.new_event_loop) as runner:
    runner.run(main())
"""

if PYTHONS:

    @pytest.mark.parametrize("python", PYTHONS)
    def test_another_version_of_cpython(python: str, tmp_path: Path) -> None:
        path = build(python, tmp_path)
        done = subprocess.run(
            [python, "-W", "error", "-c", SMOKE],
            env={"PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.soak
    @pytest.mark.timeout(1200)
    @pytest.mark.parametrize("python", PYTHONS)
    def test_another_version_s_own_tests(python: str, tmp_path: Path) -> None:
        path = [build(python, tmp_path)]
        asked = "import os, test.test_asyncio as own; print(*os.listdir(own.__path__[0]))"
        listed = subprocess.run([python, "-c", asked], capture_output=True, text=True).stdout
        modules = {*re.findall(r"test_(\w+)\.py\b", listed)}
        for module in sorted(modules.union(MODULES) - {"windows_events", "windows_utils"}):
            judge(python, SUITE + module, path, EXPECTED.get(module, set()))


if FREE:

    @pytest.mark.parametrize("python", FREE)
    def test_a_build_without_the_gil_is_refused_politely(python: str, tmp_path: Path) -> None:
        done = subprocess.run(
            [python, "-c", "import databridge; databridge.run"],
            env={"PYTHONPATH": build(python, tmp_path)},
            capture_output=True,
            text=True,
        )
        said = done.stderr.splitlines()[-1]
        assert said.startswith("ImportError: PyLoop relies on the GIL"), done.stderr
