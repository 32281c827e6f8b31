"""CPython's own tests of asyncio with PyLoop in the place of asyncio's loop.

Each module runs in a process of its own; it is Debian's libpython3.11-testsuite that has them.
"""

import re
import subprocess
import sys
import sysconfig

import pytest

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
unix_events._UnixDefaultEventLoopPolicy._loop_factory = TheLoop
unittest.main(module=None, argv=sys.argv)
"""

MODULES = [
    "base_events",
    "buffered_proto",
    "context",
    "events",
    "futures",
    "futures2",
    "locks",
    "pep492",
    "queues",
    "runners",
    "sendfile",
    "server",
    "sock_lowlevel",
    "sslproto",
    "streams",
    "subprocess",
    "taskgroups",
    "tasks.CTask_CFuture_Tests",
    "tasks.CoroutineGatherTests",
    "tasks.FutureGatherTests",
    "tasks.RunCoroutineThreadsafeTests",
    "threads",
    "timeouts",
    "transports",
    "unix_events",
    "waitfor",
]

LONG = ["ssl", "tasks"]

# Children need no watcher here, hence an inactive one is no error.
EXPECTED = {
    "subprocess": ["test_create_subprocess_fails_with_inactive_watcher"],
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "module", [*MODULES, *(pytest.param(module, marks=pytest.mark.soak) for module in LONG)]
)
def test_cpython(module: str) -> None:
    library = sysconfig.get_path("stdlib")
    path = [library, *(entry for entry in sys.path if entry)]
    command = [sys.executable, "-c", RUNNER, f"test.test_asyncio.test_{module}"]
    done = subprocess.run(
        command, env={"PYTHONPATH": ":".join(path)}, capture_output=True, text=True
    )
    if "No module named 'test.test_asyncio'" in done.stderr:
        pytest.fail("Debian's libpython3.11-testsuite is not installed", pytrace=False)
    failed = re.findall(r"^(?:FAIL|ERROR): (\w+)", done.stderr, re.MULTILINE)
    assert failed == EXPECTED.get(module, []), done.stderr
    ran = re.search(r"^Ran (\d+) test", done.stderr, re.MULTILINE)
    assert ran and int(ran[1]) > 0, done.stderr
