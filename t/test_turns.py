"""Which of a worker's threads the kernel lets have a busy core first."""

import ctypes
import os
import struct
import threading
from pathlib import Path

import pytest

from conftest import StartApp
from harness import Nginx

APP = """
import os, subprocess, threading

from fastapi import FastAPI

app = FastAPI()

def nice():
    return os.getpriority(os.PRIO_PROCESS, 0)

@app.get("/loop")
async def loop():
    return nice()

@app.get("/thread")
def thread():
    return nice()

@app.get("/executor")
async def executor():
    import asyncio
    return await asyncio.to_thread(nice)

@app.get("/child")
def child():
    return int(subprocess.run(["nice"], capture_output=True).stdout)
"""

PATHS = ("/loop", "/thread", "/executor", "/child")
SLICE = 100_000
ATTRIBUTES = struct.Struct("=IIQiIQQQ")
GETATTR, SETATTR = {"x86_64": (315, 314), "aarch64": (275, 274)}[os.uname().machine]

libc = ctypes.CDLL(None, use_errno=True)


def attributes(thread: int) -> list[int]:
    """The kernel's struct sched_attr of a thread; 0 is this one."""
    space = ctypes.create_string_buffer(ATTRIBUTES.size)
    assert libc.syscall(GETATTR, thread, space, len(space), 0) == 0
    return list(ATTRIBUTES.unpack(space.raw))


def asked_for(slice_: int) -> int:
    """What a thread has that asked for such turns; another thread, as it stays so."""
    found = []

    def ask() -> None:
        asked = attributes(0)
        asked[5] = slice_
        assert libc.syscall(SETATTR, 0, ATTRIBUTES.pack(*asked), 0) == 0
        found.append(attributes(0)[5])

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return found[0]


def nginx_thread(server: Nginx) -> int:
    return server.workers()[0]


@pytest.mark.parametrize(("http", "nice"), [("", 10), ("databridge_nice 0;", 0)])
def test_threads_and_children_of_python_are_nicer_than_nginx(
    app: StartApp, http: str, nice: int
) -> None:
    server = app(APP, http=http)
    own = os.getpriority(os.PRIO_PROCESS, nginx_thread(server))
    assert own == os.getpriority(os.PRIO_PROCESS, 0)
    found = [server.client.get(path).json() for path in PATHS]
    assert found == [min(own + nice, 19)] * len(PATHS)


def test_of_the_threads_of_a_store_one_is_nicer(app: StartApp, tmp_path: Path) -> None:
    server = app(
        """
import databridge
from pydantic import BaseModel

app = databridge.App()

class Article(BaseModel):
    title: str

app.crud_routes(Article, prefix="/articles", store="main")
""",
        http=f"databridge_store main sqlite:{tmp_path}/x.db;",
    )
    assert server.client.post("/articles", json={"title": "x"}).status_code == 201
    worker = server.workers()[0]
    threads = [int(name) for name in os.listdir(f"/proc/{worker}/task")]
    own = os.getpriority(os.PRIO_PROCESS, worker)
    found = [os.getpriority(os.PRIO_PROCESS, tid) for tid in threads]
    nicer = min(own + 10, 19)
    assert sorted(set(found)) == sorted({own, nicer})
    assert nicer == own or found.count(nicer) == 2  # the loop's, and what moves the store's log


def test_the_thread_of_nginx_takes_short_turns_where_the_kernel_knows_them(app: StartApp) -> None:
    server = app(APP)
    server.client.get("/loop")
    assert attributes(nginx_thread(server))[5] == asked_for(SLICE)
