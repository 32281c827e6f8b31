"""Handlers: what they may do, and what they are given."""

import asyncio
import time

import httpx
import pytest

from harness import SLOWER, Nginx, Uvicorn

APP = """
import asyncio
import contextvars
import os
import sys
import threading
import time

from fastapi import FastAPI, Request

app = FastAPI()
local = contextvars.ContextVar("local", default="none")
cases = {}


def case(function):
    cases[function.__name__] = function
    return function


@app.get("/")
def root():
    return "here"


@app.get("/case/{name}")
async def run(name: str, late: bool):
    if late:
        await asyncio.sleep(0.001)
    return await cases[name]()


@case
async def sleep():
    start = time.monotonic()
    await asyncio.sleep(0.05)
    return 0.045 < time.monotonic() - start


@case
async def timeout():
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)
    except TimeoutError:
        return True


@case
async def timeout_not_reached():
    async with asyncio.timeout(30):
        await asyncio.sleep(0)
    return True


@case
async def wait_for():
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 0.01)
    except TimeoutError:
        return True


@case
async def task_group():
    async def double(number):
        await asyncio.sleep(0.001 * number)
        return 2 * number

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(double(number)) for number in range(5)]
    return [task.result() for task in tasks] == [0, 2, 4, 6, 8]


@case
async def task_group_that_fails():
    async def fail():
        raise ValueError("on purpose")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(asyncio.sleep(60))
    except ExceptionGroup as errors:
        return str(errors.exceptions[0]) == "on purpose"


@case
async def create_task():
    async def answer():
        await asyncio.sleep(0)
        return 42

    return await asyncio.create_task(answer()) == 42


@case
async def cancel_a_task():
    task = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return asyncio.current_task().cancelling() == 0


@case
async def gather():
    return await asyncio.gather(*(asyncio.sleep(0, number) for number in range(3))) == [0, 1, 2]


@case
async def current_task():
    task = asyncio.current_task()
    return isinstance(task, asyncio.Task) and task in asyncio.all_tasks()


@case
async def own_coroutine_is_executing():
    coroutine = asyncio.current_task().get_coro()
    refused = 0
    for drive in (lambda: coroutine.send(None), lambda: coroutine.throw(KeyError), coroutine.close):
        try:
            drive()
        except ValueError:
            refused += 1
    return refused == 3


@case
async def running_loop():
    return asyncio.get_running_loop() is asyncio.current_task().get_loop()


@case
async def to_thread():
    return await asyncio.to_thread(threading.get_ident) != threading.get_ident()


@case
async def context_in_a_thread():
    local.set("mine")
    return await asyncio.to_thread(local.get) == "mine"


@case
async def run_in_executor():
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, sum, [1, 2, 3]) == 6


@case
async def call_soon_threadsafe():
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    threading.Timer(0.01, loop.call_soon_threadsafe, (future.set_result, "set")).start()
    return await future == "set"


@case
async def call_later():
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    late = loop.call_later(0.005, future.set_result, "late")
    loop.call_later(0.001, future.set_result, "early")
    result = await future
    late.cancel()
    return result == "early"


@case
async def event_lock_and_queue():
    queue, lock, event = asyncio.Queue(), asyncio.Lock(), asyncio.Event()

    async def produce():
        async with lock:
            for number in range(3):
                await queue.put(number)
        event.set()

    task = asyncio.create_task(produce())
    await event.wait()
    await task
    return [queue.get_nowait() for _ in range(3)] == [0, 1, 2]


@case
async def shield():
    inner = asyncio.create_task(asyncio.sleep(0.02, "done"))
    try:
        await asyncio.wait_for(asyncio.shield(inner), 0.001)
    except TimeoutError:
        return await inner == "done"


@case
async def subprocess():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print(input().upper())",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(b"hello\\n")
    return output == b"HELLO\\n" and process.returncode == 0


@case
async def subprocess_exit_status():
    process = await asyncio.create_subprocess_shell("exit 7")
    return await process.wait() == 7


@case
async def subprocess_terminate():
    process = await asyncio.create_subprocess_exec("sleep", "60")
    process.terminate()
    return await process.wait() == -15


@case
async def blocking_subprocess_in_a_thread():
    import subprocess

    result = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", "import sys; sys.exit(3)"]
    )
    return result.returncode == 3


@case
async def tcp_client():
    async def shout(reader, writer):
        writer.write((await reader.readline()).upper())
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello\\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return answer == b"HELLO\\n"


@case
async def refused_connection():
    import socket

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        try:
            await asyncio.open_connection(*closed.getsockname())
        except ConnectionRefusedError:
            return True


@case
async def getaddrinfo():
    return bool(await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80))


@case
async def async_generator():
    async def numbers():
        for number in range(3):
            await asyncio.sleep(0)
            yield number

    return [number async for number in numbers()] == [0, 1, 2]


@case
async def nested_loop_is_refused():
    coroutine = asyncio.sleep(0)
    try:
        asyncio.run(coroutine)
    except RuntimeError:
        coroutine.close()
        return True


@app.get("/context/{value}")
async def context(value: str):
    before = local.get()
    local.set(value)
    await asyncio.sleep(0.01)
    return [before, local.get()]


@app.get("/thread")
def thread(seconds: float = 0):
    time.sleep(seconds)
    return threading.current_thread() is threading.main_thread()


@app.get("/main")
async def main_thread():
    return threading.current_thread() is threading.main_thread()


@app.get("/wait/{seconds}")
async def wait(seconds: float):
    await asyncio.sleep(seconds)
    return seconds


@app.get("/item/{name}")
async def item(name: str):
    return {"name": name}


@app.get("/number/{number}")
async def number(number: int, q: str = "none", limit: int = 10, tag: list[str] | None = None):
    return {"number": number, "q": q, "limit": limit, "tag": tag}


@app.get("/file/{path:path}")
async def file(path: str):
    return {"path": path}


@app.get("/query")
async def query(request: Request):
    return request.query_params.multi_items()


@app.api_route("/echo", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
async def echo(request: Request):
    return {
        "method": request.method,
        "body": (await request.body()).decode("latin-1"),
        "path": request.url.path,
        "raw_path": request.scope["raw_path"].decode("latin-1"),
        "query": request.scope["query_string"].decode("latin-1"),
        "scheme": request.scope["scheme"],
        "version": request.scope["http_version"],
        "root_path": request.scope["root_path"],
        "type": request.scope["type"],
        "headers": sorted(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in request.scope["headers"]
            if name != b"host"
        ),
    }


@app.get("/environ")
async def environ():
    return dict(os.environ)
"""

CASES = [
    "sleep",
    "timeout",
    "timeout_not_reached",
    "wait_for",
    "task_group",
    "task_group_that_fails",
    "create_task",
    "cancel_a_task",
    "gather",
    "current_task",
    "own_coroutine_is_executing",
    "running_loop",
    "to_thread",
    "context_in_a_thread",
    "run_in_executor",
    "call_soon_threadsafe",
    "call_later",
    "event_lock_and_queue",
    "shield",
    "subprocess",
    "subprocess_exit_status",
    "subprocess_terminate",
    "blocking_subprocess_in_a_thread",
    "tcp_client",
    "refused_connection",
    "getaddrinfo",
    "async_generator",
    "nested_loop_is_refused",
]


@pytest.mark.parametrize("late", [False, True], ids=["first_step", "after_an_await"])
@pytest.mark.parametrize("case", CASES)
def test_a_handler_may(shared_app: Nginx, case: str, late: bool) -> None:
    answer = shared_app.client.get(f"/case/{case}", params={"late": late})
    assert (answer.status_code, answer.json()) == (200, True), shared_app.output()


def test_every_case_is_asked_for() -> None:
    assert APP.count("@case\n") == len(CASES)


async def _together(server: Nginx, paths: list[str]) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=server.base_url, timeout=15 * SLOWER, limits=limits
    ) as client:
        return list(await asyncio.gather(*(client.get(path) for path in paths)))


def test_async_handlers_wait_at_the_same_time(shared_app: Nginx) -> None:
    start = time.monotonic()
    answers = asyncio.run(_together(shared_app, ["/wait/0.2"] * 50))
    assert [answer.status_code for answer in answers] == [200] * 50
    assert time.monotonic() - start < 3 * SLOWER


def test_def_handlers_block_at_the_same_time(shared_app: Nginx) -> None:
    start = time.monotonic()
    answers = asyncio.run(_together(shared_app, ["/thread?seconds=0.2"] * 20))
    assert [answer.json() for answer in answers] == [False] * 20
    assert time.monotonic() - start < 3 * SLOWER


def test_async_handlers_run_on_the_main_thread(shared_app: Nginx) -> None:
    assert shared_app.client.get("/main").json() is True


def test_context_variables_stay_with_their_request(shared_app: Nginx) -> None:
    answers = asyncio.run(_together(shared_app, [f"/context/{number}" for number in range(30)]))
    assert [answer.json() for answer in answers] == [["none", str(n)] for n in range(30)]


def test_the_environment_holds_what_nginx_was_told(shared_app: Nginx) -> None:
    assert "HOME" not in shared_app.client.get("/environ").json()


# The same bytes to both servers, the same answer from both.

SPECIAL = [
    "/item/plain",
    "/item/a%20b",
    "/item/a+b",
    "/item/a%2Bb",
    "/item/%C3%A9t%C3%A9",
    "/item/%F0%9F%90%8D",
    "/item/%e2%82%ac",
    "/item/a%25b",
    "/item/a%2525",
    "/item/a%2Fb",
    "/item/a;b=c",
    "/item/a:b@c",
    "/item/a,b'c(d)!*",
    "/item/~tilde._-",
    "/item/a%3Fb%23c",
    "/item/a%3fb?c=d",
    "/item/a%22b%5Cc",
    "/item/a%0Ab",
    "/item/a&b=c",
    "/item/%7Bx%7D",
    "/item/" + "x" * 2000,
    "/item/",
    "/item",
    "/item/a/",
    "/file/a/b/c",
    "/file/a%2Fb/c%20d",
    "/file/",
    "/number/42",
    "/number/-7",
    "/number/4%32",
    "/number/x",
    "/number/42?q=abc&limit=5",
    "/number/42?limit=x",
    "/number/42?unknown=1&q=a&another",
    "/number/42?q=1&q=2&limit=3",
    "/number/42?q=a+b%20c%2B&limit=+5",
    "/number/42?",
    "/number/42?&&q=1&=x&",
    "/query?a=1&b=2&a=3&empty=&flag",
    "/query?a=%C3%A9&b=%zz&c=100%&d=%",
    "/query?a=b=c&x[]=1&y[k]=2;z=3",
    "/query?%61=%62",
    "/query?q=" + "y" * 4000,
    "/no/such/path",
    "/echo?x=%41+b",
    "/case/sleep",
]


@pytest.mark.parametrize("target", SPECIAL, ids=lambda target: target[:40])
def test_a_target_is_read_as_under_uvicorn(
    shared_app: Nginx, shared_uvicorn: Uvicorn, target: str
) -> None:
    answers = []

    for server in (shared_app, shared_uvicorn):
        with server.raw() as client:
            client.get(target)
            answer = client.response()
            location = answer.headers.get("location", "").replace(str(server.port), "PORT")
            kind = answer.headers.get("content-type")
            answers.append((answer.status, kind, location, answer.body))

    ours, theirs = answers
    assert ours == theirs


REQUESTS = {
    "headers": "GET /echo HTTP/1.1\r\nHost: test\r\nX-One: 1\r\nx-one: 2\r\nX_Under: u\r\n"
    "X-Empty:\r\nCookie: a=b; c=d\r\nX-Latin: \xe9\r\nAccept:  */*\r\n\r\n",
    "post": "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello",
    "chunked": "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
    "put": "PUT /echo?a=b HTTP/1.1\r\nHost: test\r\nContent-Type: text/x\r\n"
    "Content-Length: 0\r\n\r\n",
    "delete": "DELETE /echo HTTP/1.1\r\nHost: test\r\n\r\n",
    "patch": "PATCH /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\n\xff",
    "wrong_method": "POST /item/x HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n",
    "http_1_0": "GET /echo HTTP/1.0\r\nHost: test\r\n\r\n",
    "options": "OPTIONS /echo HTTP/1.1\r\nHost: test\r\n\r\n",
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_read_as_under_uvicorn(
    shared_app: Nginx, shared_uvicorn: Uvicorn, name: str
) -> None:
    answers = []

    for server in (shared_app, shared_uvicorn):
        with server.raw() as client:
            client.send(REQUESTS[name].encode("latin-1"))
            answer = client.response()
            allow = sorted(answer.headers.get("allow", "").split(", "))
            answers.append((answer.status, allow, answer.body))

    ours, theirs = answers
    assert ours == theirs


def test_a_zero_byte_in_the_path_is_refused(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        client.get("/item/a%00b")
        assert client.response().status == 400
