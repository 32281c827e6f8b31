"""Python behind the bridge, without nginx: the host plays the nginx thread."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from host import ABORT, DONE, LAST, START, Host


class StartHost(Protocol):
    def __call__(self, code: str, *apps: str, **options: Any) -> Host: ...


@pytest.fixture
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StartHost]:
    """Starts the host with a module `main`; `apps` are main:app unless named."""
    hosts: list[Host] = []
    variant = getattr(request, "param", "")

    def start(code: str, *apps: str, **options: Any) -> Host:
        (tmp_path / "main.py").write_text(code)
        hosts.append(Host(tmp_path, *(apps or ("main:app",)), variant=variant, **options))
        return hosts[-1].__enter__()

    yield start
    for host in hosts:
        host.__exit__(None, None, None)


HEAD = """
import asyncio, os, sys, logging, threading, time

async def respond(send, status=200, body=b"", headers=()):
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

def http(handler):
    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise RuntimeError(scope["type"])
        return await handler(scope, receive, send)
    return app
"""

HELLO = (
    HEAD
    + """
@http
async def app(scope, receive, send):
    await respond(send, 200, b"hello", [(b"Content-Type", b"text/plain")])
"""
)


# the scope


SCOPE = (
    HEAD
    + """
@http
async def app(scope, receive, send):
    scope["asgi"]["version"] = "4"
    scope["state"]["mine"] = 1
    await respond(send, 200, repr(scope).encode())
"""
)


def test_scope_is_that_of_uvicorn(start: StartHost) -> None:
    host = start(SCOPE, options=["-r", "/api"])
    headers = [("host", "example.com"), ("x-a", "1"), ("x-a", "\xe9")]
    bodies = [
        host.fetch("/caf%C3%A9/a%2Fb%zz", query="q=%20&x", method="PURGE", headers=headers).body
        for _ in range(2)
    ]
    scope = eval(bodies[1])
    assert scope == {
        "type": "http",
        "asgi": {"version": "4", "spec_version": "2.5"},
        "http_version": "1.1",
        "server": ("192.0.2.1", 80),
        "client": ("203.0.113.9", 50123),
        "scheme": "http",
        "root_path": "/api",
        "headers": [(b"host", b"example.com"), (b"x-a", b"1"), (b"x-a", b"\xe9")],
        "state": {"mine": 1},
        "method": "PURGE",
        "path": "/api/café/a/b%zz",
        "raw_path": b"/api/caf%C3%A9/a%2Fb%zz",
        "query_string": b"q=%20&x",
        "extensions": {"http.response.trailers": {}, "http.response.pathsend": {}},
    }
    assert bodies[0] == bodies[1]


def test_a_path_has_its_root_once(start: StartHost) -> None:
    host = start(SCOPE, options=["-r", "/api"])
    for target, path, raw in (
        ("/api/x", "/api/x", b"/api/x"),
        ("/api", "/api", b"/api"),
        ("/%61pi/x", "/api/x", b"/%61pi/x"),
        ("/apix", "/api/apix", b"/api/apix"),
        ("/" + "y" * 600, "/api/" + "y" * 600, b"/api/" + b"y" * 600),
    ):
        scope = eval(host.fetch(target).body)
        assert (scope["path"], scope["raw_path"]) == (path, raw)


def test_a_path_that_is_no_utf8_is_replaced(start: StartHost) -> None:
    host = start(SCOPE)
    assert eval(host.fetch("/%ff").body)["path"] == "/\ufffd"


# responses


def test_a_response_of_one_step_is_one_part(start: StartHost) -> None:
    response = start(HELLO).fetch()
    assert [part["flags"] for part in response.parts] == [START | LAST | DONE]
    assert response.status == 200
    assert response.headers == [(b"content-type", b"text/plain")]
    assert response.body == b"hello"


def test_a_large_body_is_referenced_and_released(start: StartHost) -> None:
    host = start(
        HEAD
        + """
big = b"x" * 100_000

@http
async def app(scope, receive, send):
    if scope["path"] == "/count":
        await respond(send, 200, str(sys.getrefcount(big)).encode())
    elif scope["path"] == "/view":
        await respond(send, 200, memoryview(bytearray(big)))
    else:
        await respond(send, 200, big)
"""
    )
    before = host.fetch("/count").body
    for target in ("/", "/view"):
        response = host.fetch(target)
        assert response.body == b"x" * 100_000
        assert [part["object"] for part in response.parts] == [True]
    assert host.fetch("/count").body == before


def test_messages_go_out_as_they_come(start: StartHost) -> None:
    host = start(
        HEAD
        + """
@http
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    for n in range(3):
        await send({"type": "http.response.body", "body": b"%d" % n, "more_body": True})
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": bytearray(b"!")})
"""
    )
    response = host.fetch()
    flags = [part["flags"] for part in response.parts]
    assert flags == [START, 0, 0, LAST | DONE]
    assert response.body == b"012!"


def test_the_response_does_not_wait_for_background_work(start: StartHost) -> None:
    host = start(
        HEAD
        + """
@http
async def app(scope, receive, send):
    await respond(send, 200, b"sent")
    await asyncio.sleep(0.1)
"""
    )
    flags = [part["flags"] for part in host.fetch().parts]
    assert flags == [START | LAST, DONE]


@pytest.mark.parametrize("method, status", [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_no_body_where_there_is_none(start: StartHost, method: str, status: int) -> None:
    host = start(
        HEAD
        + f"""
@http
async def app(scope, receive, send):
    await respond(send, {status}, b"body", [(b"content-length", b"4")])
"""
    )
    response = host.fetch(method=method)
    assert response.status == status
    assert response.body == b""
    assert response.flags == START | LAST | DONE
    assert not host.logged("", "error")


BAD = {
    "body first": ('{"type": "http.response.body"}', "Expected ASGI message"),
    "unknown type": ('{"type": "http.response.trailers"}', "Expected ASGI message"),
    "no type": ("{}", "KeyError: 'type'"),
    "no status": ('{"type": "http.response.start"}', "KeyError: 'status'"),
    "status text": ('{"type": "http.response.start", "status": "200"}', "TypeError"),
    "status 42": ('{"type": "http.response.start", "status": 42}', "Invalid HTTP status"),
    "status 101": ('{"type": "http.response.start", "status": 101}', "Invalid HTTP status"),
    "str header": (
        '{"type": "http.response.start", "status": 200, "headers": [("a", "b")]}',
        "a header must be a pair of bytes, not of 'str'",
    ),
    "header of three": (
        '{"type": "http.response.start", "status": 200, "headers": [(b"a", b"b", b"c")]}',
        "a header must be a pair of bytes",
    ),
    "newline": (
        '{"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\\r\\nc: d")]}',
        "Invalid HTTP header value.",
    ),
    "nul": (
        '{"type": "http.response.start", "status": 200, "headers": [(b"a", b"\\0")]}',
        "Invalid HTTP header value.",
    ),
    "name": (
        '{"type": "http.response.start", "status": 200, "headers": [(b"a b", b"c")]}',
        "Invalid HTTP header name.",
    ),
    "length": (
        '{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"x")]}',
        "Invalid Content-Length.",
    ),
}


@pytest.mark.parametrize("message, text", BAD.values(), ids=BAD)
def test_a_wrong_message_raises_in_the_application(
    start: StartHost, message: str, text: str
) -> None:
    host = start(
        HEAD
        + f"""
@http
async def app(scope, receive, send):
    await send({message})
"""
    )
    response = host.fetch()
    assert (response.status, response.body) == (500, b"Internal Server Error")
    assert response.flags == START | LAST | DONE
    assert host.logged("Exception in ASGI application (GET /)", "error")
    assert host.logged(text, "error")


@pytest.mark.parametrize(
    "messages, error, aborted",
    [
        ([(b"12345", False)], "Response content longer than Content-Length", False),
        ([(b"123", False)], "Response content shorter than Content-Length", False),
        ([(b"12", True), (b"345", False)], "longer than Content-Length", True),
        ([(b"12", True), (b"", False)], "shorter than Content-Length", True),
        ([("1234", False)], "a bytes-like object is required as the body, not 'str'", False),
        ([(b"1234", False), (b"", False)], "after response already completed", False),
    ],
)
def test_the_body_must_be_as_long_as_promised(
    start: StartHost, messages: list[Any], error: str, aborted: bool
) -> None:
    host = start(
        HEAD
        + f"""
@http
async def app(scope, receive, send):
    headers = iter([[b"content-length", b"4"]])
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    for body, more in {messages!r}:
        await send({{"type": "http.response.body", "body": body, "more_body": more}})
"""
    )
    response = host.fetch()
    assert host.logged(error, "error")
    if aborted:
        assert response.status == 200
        assert response.body == b"12"
        assert response.flags == START | ABORT | DONE
    else:
        assert response.flags == START | LAST | DONE
        assert response.status == (200 if "already" in error else 500)


def test_headers_are_as_they_were_when_sent(start: StartHost) -> None:
    host = start(
        HEAD
        + """
@http
async def app(scope, receive, send):
    headers = [(b"A", b"1"), [b"b", bytearray(b"2")]]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    headers.append((b"c", b"3"))
    headers[1][1][:] = b"x"
    await send({"type": "http.response.body"})
"""
    )
    assert host.fetch().headers == [(b"a", b"1"), (b"b", b"2")]


@pytest.mark.parametrize(
    "end, status, flags, text",
    [
        ("", 500, START | LAST | DONE, "returned without starting response."),
        ("raise ValueError('oh')", 500, START | LAST | DONE, "ValueError: oh"),
        ("sys.exit('oh')", 500, START | LAST | DONE, "SystemExit: oh"),
        ("raise asyncio.CancelledError()", 500, START | LAST | DONE, "CancelledError"),
        ("return 42", 500, START | LAST | DONE, "should return None, but returned '42'."),
        ("await start()", 500, START | LAST | DONE, "returned without completing response."),
        ("await start(); raise ValueError('oh')", 500, START | LAST | DONE, "ValueError: oh"),
        ("await start(b'a')", 200, START | ABORT | DONE, "without completing response."),
        ("await start(b'a'); 1 / 0", 200, START | ABORT | DONE, "ZeroDivisionError"),
        ("await start(b'a'); await asyncio.sleep(0); 1 / 0", 200, START | ABORT | DONE, "Zero"),
    ],
)
def test_an_application_that_does_not_finish(
    start: StartHost, end: str, status: int, flags: int, text: str
) -> None:
    host = start(
        HEAD
        + f"""
@http
async def app(scope, receive, send):
    async def start(*bodies):
        await send({{"type": "http.response.start", "status": 200}})
        for body in bodies:
            await send({{"type": "http.response.body", "body": body, "more_body": True}})
    {end}
"""
    )
    response = host.fetch(headers=[("x-request-id", "abc")])
    assert response.status == status
    assert response.flags == flags
    assert host.logged(text, "error")
    assert host.logged("(GET /, request id abc)", "error")


def test_applications_that_are_no_coroutine_functions(start: StartHost) -> None:
    host = start(
        HEAD
        + """
class Awaitable:
    def __init__(self, send): self.send = send
    def __await__(self):
        yield from asyncio.sleep(0.01).__await__()
        yield from respond(self.send, 200, b"awaited").__await__()

def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    if scope["path"] == "/task":
        return asyncio.get_running_loop().create_task(respond(send, 200, b"task"))
    if scope["path"] == "/none":
        return None
    if scope["path"] == "/raise":
        raise KeyError("at once")
    return Awaitable(send)
"""
    )
    assert host.fetch("/").body == b"awaited"
    assert host.fetch("/task").body == b"task"
    assert host.fetch("/none").status == 500
    assert host.logged("object NoneType can't be used in 'await' expression")
    assert host.fetch("/raise").status == 500
    assert host.logged("KeyError: 'at once'")


# the request's body


ECHO = (
    HEAD
    + """
@http
async def app(scope, receive, send):
    messages = []
    more = True
    while more:
        messages.append(await receive())
        more = messages[-1]["more_body"]
    sizes = [(m["type"], len(m["body"]), m["more_body"]) for m in messages]
    body = b"".join(m["body"] for m in messages)
    await respond(send, 200, repr((sizes, body[:3], body[-3:])).encode())
"""
)


def test_a_body_arrives_whole(start: StartHost, tmp_path: Path) -> None:
    host = start(ECHO)
    assert eval(host.fetch().body) == ([("http.request", 0, False)], b"", b"")
    assert eval(host.fetch(body=b"ab\0c").body) == (
        [("http.request", 4, False)],
        b"ab\0",
        b"b\0c",
    )

    file = tmp_path / "body"
    file.write_bytes(b"abc" + b"-" * 2_500_000 + b"xyz")
    sizes, first, last = eval(host.fetch(body=file, method="POST").body)
    assert sizes == [
        ("http.request", 1 << 20, True),
        ("http.request", 1 << 20, True),
        ("http.request", 2_500_006 - (2 << 20), False),
    ]
    assert (first, last) == (b"abc", b"xyz")


# disconnect and cancellation


WAIT = (
    HEAD
    + """
seen = []

@http
async def app(scope, receive, send):
    if scope["path"] == "/seen":
        return await respond(send, 200, repr(seen).encode())
    await receive()
    if scope["path"] == "/started":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
    try:
        tasks = [asyncio.create_task(receive()), asyncio.ensure_future(receive())]
        seen.extend([(await task)["type"] for task in tasks])
        seen.append((await receive())["type"])
        await respond(send, 200, b"nobody reads this")
        seen.append("dropped")
        await send({"type": "http.response.body", "body": b"a piece", "more_body": True})
    except OSError:
        seen.append("refused")
        raise
    except asyncio.CancelledError:
        seen.append("cancelled")
        if scope["path"] != "/stubborn":
            raise
        await respond(send, 200, b"too late")
"""
)


@pytest.mark.parametrize("target", ["/", "/started"])
def test_a_client_that_leaves_cancels_nothing(start: StartHost, target: str) -> None:
    host = start(WAIT)
    number = host.request(target)
    host.drain(0.1)
    host.send(f"disconnect {number}")
    response = host.done(number)
    assert response.body == (b"a" if target == "/started" else b"")
    assert not response.flags & (LAST | ABORT)
    assert eval(host.fetch("/seen").body) == ["http.disconnect"] * 3 + ["dropped", "refused"]
    assert not host.logged("", "error")


def test_a_disconnect_before_the_body_was_asked_for(start: StartHost) -> None:
    host = start(WAIT)
    number = host._next + 1
    host.send(host.command("/"), f"disconnect {number}")
    assert host.done(number).flags == DONE
    assert eval(host.fetch("/seen").body) == ["http.disconnect"] * 3 + ["dropped", "refused"]


@pytest.mark.parametrize("target", ["/", "/stubborn"])
def test_a_timeout_cancels_the_task(start: StartHost, target: str) -> None:
    host = start(WAIT)
    number = host.request(target)
    host.drain(0.1)
    host.send(f"cancel {number}")
    assert [part["flags"] for part in host.done(number).parts] == [DONE]
    assert eval(host.fetch("/seen").body) == ["cancelled"]
    assert not host.logged("", "error")
    warning = f"GET {target}: cancelled after its timeout"
    assert host.logged(warning, "warn") == (target == "/")


def test_receive_says_disconnect_once_the_response_is_complete(start: StartHost) -> None:
    host = start(
        HEAD
        + """
seen = []

@http
async def app(scope, receive, send):
    if scope["path"] == "/seen":
        return await respond(send, 200, repr(seen).encode())
    await receive()
    waiting = asyncio.create_task(receive())
    await asyncio.sleep(0)
    await respond(send, 200, b"done")
    seen.append(await waiting)
    seen.append(await receive())
"""
    )
    assert host.fetch().body == b"done"
    assert eval(host.fetch("/seen").body) == [{"type": "http.disconnect"}] * 2


def test_receive_outlives_its_request(start: StartHost) -> None:
    host = start(
        HEAD
        + """
kept = []

@http
async def app(scope, receive, send):
    if scope["path"] == "/kept":
        receive, send = kept.pop()
        message = await receive()
        try:
            await send({"type": "http.response.body"})
        except RuntimeError as exc:
            return await respond(send2 := send_of[0], 200, repr((message, str(exc))).encode())
    else:
        kept.append((receive, send))
        await respond(send, 200)

send_of = []
inner = app

async def app(scope, receive, send):
    send_of[:] = [send]
    await inner(scope, receive, send)
"""
    )
    host.fetch()
    message, error = eval(host.fetch("/kept").body)
    assert message == {"type": "http.disconnect"}
    assert "after response already completed" in error


# what receive() and send() return


def test_awaitables_are_lazy_and_for_one_use(start: StartHost) -> None:
    host = start(
        HEAD
        + """
@http
async def app(scope, receive, send):
    out = []
    unused = send({"type": "nonsense"})
    unused.close()
    first = receive()
    out.append((await first)["type"])
    try:
        await first
    except RuntimeError as exc:
        out.append(str(exc))
    waiting = receive()
    out.append(asyncio.iscoroutine(waiting))
    try:
        async with asyncio.timeout(0.01):
            await waiting
    except TimeoutError:
        out.append("timeout")
    thrown = receive()
    try:
        thrown.throw(KeyError("thrown"))
    except KeyError as exc:
        out.append(str(exc))
    await asyncio.create_task(
        send({"type": "http.response.start", "status": 200, "headers": []})
    )
    await asyncio.gather(send({"type": "http.response.body", "body": repr(out).encode()}))
"""
    )
    assert eval(host.fetch().body) == [
        "http.request",
        "cannot reuse already awaited coroutine",
        True,
        "timeout",
        "'thrown'",
    ]


# tasks


def test_there_is_a_task_before_the_first_await(start: StartHost) -> None:
    host = start(
        HEAD
        + """
import contextvars

var = contextvars.ContextVar("var", default=0)

@http
async def app(scope, receive, send):
    task = asyncio.current_task()
    var.set(var.get() + 1)
    async with asyncio.timeout(5):
        async with asyncio.TaskGroup() as group:
            one = group.create_task(asyncio.sleep(0.01, 1))
    two = await asyncio.to_thread(threading.current_thread)
    frames = [frame.f_code.co_name for frame in task.get_stack()]
    out = (one.result(), two.name, var.get(), task in asyncio.all_tasks(), frames, repr(task)[:5])
    await respond(send, 200, repr(out).encode())
"""
    )
    for _ in range(2):
        one, thread, var, known, frames, text = eval(host.fetch().body)
        assert (one, var, known, text) == (1, 1, True, "<Task")
        assert thread.startswith("databridge-sync")
        assert frames == ["app", "app"] or frames[-1] == "app"


def test_a_batch_of_requests_is_answered_whole(start: StartHost) -> None:
    host = start(HELLO)
    first = host._next + 1
    host.send(*[host.command() for _ in range(300)])
    for number in range(first, first + 300):
        assert host.done(number).body == b"hello"


def test_memory_stays_flat_and_no_cycle_is_left(start: StartHost) -> None:
    host = start(
        HEAD
        + """
import gc

@http
async def app(scope, receive, send):
    if scope["path"] == "/gc":
        return await respond(send, 200, repr((gc.collect(), gc.garbage)).encode())
    if scope["path"] == "/off":
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
    await receive()
    if scope["path"] == "/wait":
        waiting = asyncio.create_task(receive())
        await asyncio.sleep(0)
        await respond(send, 200, b"hello")
        await waiting
    else:
        await respond(send, 200, b"hello")
"""
    )
    host.bench(20_000, 32, "/")
    host.fetch("/off")
    assert host.bench(20_000, 32, "/")["rss_kb"] < 1000
    host.bench(1_000, 32, "/wait")
    assert eval(host.fetch("/gc").body) == (0, [])


def test_sync_handlers_have_that_many_threads(start: StartHost) -> None:
    host = start(
        HEAD
        + """
from anyio.to_thread import current_default_thread_limiter

@http
async def app(scope, receive, send):
    lock, peak, now = threading.Lock(), [0], [0]
    def work():
        with lock:
            now[0] += 1
            peak[0] = max(peak[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
    await asyncio.gather(*(asyncio.to_thread(work) for _ in range(12)))
    tokens = current_default_thread_limiter().total_tokens
    await respond(send, 200, repr((peak[0], tokens)).encode())
""",
        options=["-t", "3"],
    )
    assert eval(host.fetch().body) == (3, 3)


# spawn


CALLS = (
    HELLO
    + """
ran = []

def add(a, b):
    ran.append((a, threading.current_thread() is threading.main_thread()))
    return a + b

def nothing():
    return None

def where():
    return ran

async def later(a):
    assert asyncio.current_task() is not None
    await asyncio.sleep(0.01)
    return a * 2

async def at_once(a):
    return [a]

def broken(a):
    raise ValueError(a)

async def broken_later():
    await asyncio.sleep(0)
    raise LookupError("later")

async def cancelled():
    asyncio.current_task().cancel()
    await asyncio.sleep(1)

async def forever():
    await asyncio.sleep(3600)
"""
)


def test_calls_deliver_their_results(start: StartHost) -> None:
    host = start(CALLS)
    assert host.call("main:add", 2, 3) == ("returned", "5")
    assert host.call("main:nothing") == ("returned", "None")
    assert host.call("main:later", 21) == ("returned", "42")
    assert host.call("main:at_once", 1) == ("returned", "[1]")
    assert host.call("main:where") == ("returned", "[(2, True)]")
    assert host.call("main:broken", 7) == ("raised", "ValueError(7)")
    assert host.call("main:broken_later") == ("raised", "LookupError('later')")
    assert host.call("main:cancelled") == ("cancelled", "CancelledError()")
    result, value = host.call("main:add")
    assert result == "raised" and "missing 2 required positional arguments" in value


def test_a_call_that_runs_is_cancelled_by_the_stop(start: StartHost) -> None:
    host = start(CALLS)
    host.send("call c main forever")
    host.drain(0.1)
    host.stop()
    assert host.calls["c"] == ("cancelled", "CancelledError()")


# start and stop


def test_lifespan_and_its_state(start: StartHost) -> None:
    host = start(
        HEAD
        + """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        scope["state"]["items"] = [1]
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        print("shut down")
        await send({"type": "lifespan.shutdown.complete"})
    else:
        scope["state"]["items"].append(2)
        scope["state"]["other"] = 1
        await respond(send, 200, repr(scope["state"]).encode())
"""
    )
    assert host.fetch().body == b"{'items': [1, 2], 'other': 1}"
    assert host.fetch().body == b"{'items': [1, 2, 2], 'other': 1}"
    host.stop()
    assert host.logged("shut down", "notice")


LIFESPAN = (
    HEAD
    + """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        CODE
    else:
        await respond(send, 200, b"served")
"""
)


def test_an_application_without_lifespan_is_served(start: StartHost) -> None:
    host = start(LIFESPAN.replace("CODE", "raise AssertionError('http only')"))
    assert host.fetch().body == b"served"
    assert host.logged("ASGI 'lifespan' protocol appears unsupported", "info")
    assert not host.logged("Traceback")


def test_a_failed_startup_is_reported(start: StartHost) -> None:
    code = 'await send({"type": "lifespan.startup.failed", "message": "one\\ntwo"}); 1 / 0'
    host = start(LIFESPAN.replace("CODE", code))
    assert host.apps[0]["error"] == b"main:app: application startup failed: two"
    assert host.logged("databridge: one", "error") and host.logged("two", "error")


@pytest.mark.parametrize(
    "code, target, error",
    [
        ("import nowhere_at_all", "main:app", "No module named 'nowhere_at_all'"),
        ("1 / 0", "main:app", "main cannot be imported: ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "main:app", "SystemExit: 3"),
        ("def", "main:app", "SyntaxError"),
        ("", "main:app", "has no attribute 'app'"),
        ("", "itertools:app", "'itertools' (built into Python) has no attribute 'app'"),
        ("app = 1", "main:app", "main:app is a int, not an application"),
        ("", "absent:app", "there is no module 'absent'"),
        ("def app(*args, **kwargs): ...", "main:app", "can be called as ASGI and as WSGI"),
        ("def app(only): ...", "main:app", "is neither an ASGI application"),
        ("def app(): ...", "main:app", "looks like a factory"),
    ],
)
def test_an_application_that_cannot_be_loaded(
    start: StartHost, code: str, target: str, error: str
) -> None:
    host = start(code, target)
    assert error in host.apps[0]["error"].decode()
    assert "\n" not in host.apps[0]["error"].decode()
    assert host.fetch().flags == ABORT | DONE
    assert host.logged('main.py", line 1', "error") == (code != "" and "app" not in code)


def test_one_application_fails_and_another_serves(start: StartHost) -> None:
    host = start(HELLO + "other = 1\n", "main:other", "main:app")
    assert [("error" in app) for app in host.apps] == [True, False]
    assert host.fetch(app=1).body == b"hello"


def test_factories(start: StartHost) -> None:
    host = start(HELLO + "def make(): return app\ndef broken(): 1 / 0\n", options=OPTIONS)
    assert host.fetch(app=1).body == b"hello"
    assert host.apps[2]["error"] == (
        b"main:broken: main:broken() failed: ZeroDivisionError: division by zero"
    )
    assert host.apps[3]["error"].endswith(b"no WSGI application: say interface=asgi")


OPTIONS = ["-a", "main:make", "-f", "-a", "main:broken", "-f", "-a", "main:app", "-i", "wsgi"]


def test_a_wrong_venv_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.9.2\n")
    for venv, text in (
        (tmp_path, "is of Python 3.9, but this module embeds 3.11"),
        (tmp_path / "nothing", "is not a virtual environment (no pyvenv.cfg)"),
    ):
        host = Host(tmp_path, "main:app", options=["-v", str(venv)])
        host.until(lambda host=host: host.stopped)  # type: ignore[misc]
        host.close()
        assert text in host.apps[0]["error"].decode()
        assert len(host.logs) == 1 and host.logs[0][0] == "crit"


def test_a_venv_of_another_build_has_the_library_of_ours(start: StartHost, tmp_path: Path) -> None:
    """As pyenv, uv and conda make them: extension modules belong to their interpreter."""
    python = "python{}.{}".format(*sys.version_info)
    other, venv = tmp_path / "other", tmp_path / "venv"
    packages = venv / "lib" / python / "site-packages"
    for folder in (other / "bin", other / "lib" / python / "lib-dynload", venv / "bin", packages):
        folder.mkdir(parents=True)
    (other / "bin" / python).symlink_to(os.path.realpath(sys.executable))
    (other / "lib" / python / "os.py").write_text("1 / 0\n")
    (venv / "bin/python").symlink_to(other / "bin" / python)
    (venv / "pyvenv.cfg").write_text(f"home = {other}/bin\n")
    (packages / "shop.py").write_text("name = 'shop'\n")
    host = start(HEAD + FOREIGN, options=["-v", str(venv)])
    prefix, base, library, name = eval(host.fetch().body)
    assert (prefix, name) == (str(venv), "shop")
    assert base != str(other) and library.startswith(base)


FOREIGN = """
import shop

@http
async def app(scope, receive, send):
    await respond(send, 200, repr((sys.prefix, sys.base_prefix, os.__file__, shop.name)).encode())
"""


def test_environment_path_and_argv(start: StartHost) -> None:
    host = start(
        HEAD
        + """
import signal

@http
async def app(scope, receive, send):
    main = threading.main_thread() is threading.current_thread()
    out = (os.environ["A_NAME"], sys.argv, sys.prefix, sys.flags.utf8_mode, main,
           os.path.dirname(__file__) in sys.path, sys.flags.isolated)
    await respond(send, 200, repr(out).encode())
""",
        options=["-e", "A_NAME=a value=1"],
    )
    name, argv, prefix, utf8, main, on_path, isolated = eval(host.fetch().body)
    assert name == "a value=1"
    assert argv == ["databridge"]
    assert prefix.endswith("/venv")
    assert (utf8, main, on_path, isolated) == (1, True, True, 0)


STOP = (
    HEAD
    + """
import atexit

atexit.register(print, "at exit")
print("unfinished", end="")

async def forever():
    try:
        await asyncio.sleep(3600)
    finally:
        print("\\ntask ended")

async def generate():
    try:
        while True:
            yield 1
    finally:
        await asyncio.sleep(0)
        print("generator closed")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("lifespan.shutdown")
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/task":
        app.task = asyncio.create_task(forever())
        app.generator = generate()
        await anext(app.generator)
        loop = asyncio.get_running_loop()
        app.future = loop.run_in_executor(None, time.sleep, 60)
        await respond(send, 200)
    elif scope["path"] == "/stubborn":
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                print("not yet")
    else:
        try:
            await asyncio.sleep(3600)
        finally:
            print("request ended")
"""
)


def test_the_stop_ends_all_in_order(start: StartHost) -> None:
    host = start(STOP)
    host.fetch("/task")
    number = host.request("/")
    host.drain(0.1)
    host.stop()
    assert host.responses[number].flags & DONE
    lines = [line for level, line in host.logs if level == "notice"]
    assert lines == [
        "unfinishedrequest ended",
        "lifespan.shutdown",
        "task ended",
        "generator closed",
        "at exit",
    ]


def test_the_stop_does_not_wait_for_ever(start: StartHost) -> None:
    host = start(STOP)
    number = host.request("/stubborn")
    host.drain(0.1)
    host.stop()
    assert host.responses[number].flags & DONE
    assert host.logged("shutdown: requests took more than 1 s", "error")
    assert host.logged("at exit")


def test_a_stop_while_applications_start(start: StartHost, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(LIFESPAN.replace("CODE", "await asyncio.sleep(3600)"))
    host = Host(tmp_path, "main:app")
    host.drain(1)
    host.send("stop")
    host.until(lambda: host.stopped)
    host.close()
    assert b"stopped before it had started" in host.apps[0]["error"]


def test_exit_in_a_callback_does_not_end_the_worker(start: StartHost) -> None:
    host = start(
        HEAD
        + """
@http
async def app(scope, receive, send):
    if scope["path"] == "/exit":
        asyncio.get_running_loop().call_soon(sys.exit, 1)
    await respond(send, 200, b"alive")
"""
    )
    host.fetch("/exit")
    host.until_logged("SystemExit(1) in a callback", "crit")
    assert host.fetch().body == b"alive"


# logging


def test_output_goes_to_the_error_log_by_level(start: StartHost) -> None:
    host = start(
        HEAD
        + """
import warnings

@http
async def app(scope, receive, send):
    print("one\\ntwo", flush=True)
    print("a", end=""); print("b")
    sys.stderr.write("err\\udcff\\n")
    sys.stdout.buffer.write(b"raw\\r\\n")
    print("long" * 1000)
    log = logging.getLogger("app.module")
    log.debug("no"); log.info("no")
    log.warning("w"); log.error("e\\nf"); log.critical("c")
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("x")
    logging.getLogger("chatty").setLevel(logging.DEBUG)
    logging.getLogger("chatty").debug("d"); logging.getLogger("chatty").info("i")
    warnings.warn("old", DeprecationWarning)
    warnings.warn("mind")
    assert sys.stdout.encoding == "utf-8" and not sys.stdout.isatty()
    assert sys.stderr.fileno() == 2
    await respond(send, 200)
"""
    )
    assert host.fetch().status == 200
    assert host.logs[:4] == [
        ("info", host.logs[0][1]),
        ("notice", "one"),
        ("notice", "two"),
        ("notice", "ab"),
    ]
    for level, text in (
        ("error", "err\\udcff"),
        ("notice", "raw"),
        ("warn", "app.module: w"),
        ("error", "app.module: e"),
        ("error", "f"),
        ("crit", "app.module: c"),
        ("error", "app.module: x"),
        ("error", "ZeroDivisionError: division by zero"),
        ("debug", "chatty: d"),
        ("info", "chatty: i"),
    ):
        assert (level, text) in host.logs
    long = [text for level, text in host.logs if text.startswith("long")]
    assert "".join(long) == "long" * 1000 and len(long) == 3
    assert host.logged("UserWarning: mind", "warn")
    assert not host.logged("app.module: no")


def test_an_application_that_configures_logging(start: StartHost) -> None:
    host = start(HELLO + 'logging.basicConfig(level="INFO", format="mine %(message)s")\n')
    assert host.logged("mine ASGI 'lifespan' protocol appears unsupported", "error")


# signals and children


def test_signals_of_nginx_are_left_alone(start: StartHost) -> None:
    host = start(
        HEAD
        + """
import signal

@http
async def app(scope, receive, send):
    out = [signal.signal(signal.SIGTERM, lambda *args: None)]
    out.append(signal.getsignal(signal.SIGTERM))
    try:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, print)
    except NotImplementedError as exc:
        out.append(str(exc))
    handler = lambda *args: None
    signal.signal(signal.SIGRTMIN, handler)
    out.append(signal.getsignal(signal.SIGRTMIN) is handler)
    await respond(send, 200, repr(out).encode())
"""
    )
    out = host.fetch().body.decode()
    assert "SIGINT belongs to nginx" in out and out.endswith("True]")
    assert out.count("Handlers.SIG_DFL") == 2 or out.startswith("[None, None")
    assert host.logged("SIGTERM belongs to nginx: the handler is not installed", "warn")


def test_what_signal_refuses_it_refuses_for_nginxs_signals_too(start: StartHost) -> None:
    host = start(
        HEAD
        + """
import signal

def refused(handler):
    try:
        signal.signal(signal.SIGINT, handler)
    except (TypeError, ValueError) as exc:
        return type(exc).__name__

@http
async def app(scope, receive, send):
    elsewhere = await asyncio.to_thread(refused, signal.SIG_IGN)
    out = [elsewhere, refused(None), refused("no"), refused(signal.SIG_IGN)]
    await respond(send, 200, repr(out).encode())
"""
    )
    assert host.fetch().body == b"['ValueError', 'TypeError', 'TypeError', None]"
    assert sum("SIGINT belongs to nginx" in text for _, text in host.logs) == 1


CHILDREN = (
    HEAD
    + """
import signal, subprocess

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
MASK = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []))"

async def terminate():
    process = await asyncio.create_subprocess_exec(*SLEEP, stdout=subprocess.PIPE)
    await process.stdout.readline()
    process.terminate()
    return await process.wait()

async def shell():
    process = await asyncio.create_subprocess_shell("exit 7")
    return await process.wait()

def run(*args):
    return subprocess.run([sys.executable, "-c", *args], stdout=subprocess.PIPE).stdout

def in_thread():
    process = subprocess.Popen(SLEEP, stdout=subprocess.PIPE)
    process.stdout.readline()
    process.terminate()
    process.stdout.close()
    return process.wait()

def spawned():
    read, write = os.pipe()
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", MASK], os.environ,
                         file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)])
    os.close(write)
    os.waitpid(pid, 0)
    with open(read, "rb") as file:
        return file.read()

def forked():
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    os.kill(pid, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

async def several():
    return await asyncio.gather(*(terminate() for _ in range(5)))

@http
async def app(scope, receive, send):
    out = [await terminate(), await shell(), await several()]
    out += [run(MASK), run("import os; print(os.getppid())") == b"%d\\n" % os.getpid()]
    out += [await asyncio.to_thread(in_thread), await asyncio.to_thread(run, MASK)]
    out += [spawned(), forked()]
    await respond(send, 200, repr(out).encode())
"""
)


def test_children_start_clean_and_their_exit_codes_are_ours(start: StartHost) -> None:
    host = start(CHILDREN)
    response = host.fetch()
    assert response.status == 200, host.logs
    assert eval(response.body) == [
        -15,
        7,
        [-15] * 5,
        b"set()\n",
        True,
        -15,
        b"set()\n",
        b"set()\n",
        -15,
    ]
    assert host.signals >= 10


# tables


STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, WebSocketRoute

async def hello(request):
    return PlainTextResponse("hello")

async def socket(websocket): ...

routes = [
    Route("/first/{id:int}", hello),
    WebSocketRoute("/first/ws", socket),
    Route("/first/{name}", hello, methods=["POST"]),
    Mount("/files", app=hello),
    Route("/odd/{a}-{b:path}x{c:float}", hello),
]
"""


def test_routes_are_declared_in_order(start: StartHost) -> None:
    host = start(STARLETTE + "routes[0].databridge_timeout = 1.5\napp = Starlette(routes=routes)")
    full, partial, none = 0, -4, -3
    assert host.apps == [{"event": "app", "routes": 5}]
    assert host.match("GET", "/first/7") == {
        "event": "match",
        "rc": full,
        "index": 0,
        "crud": False,
        "timeout": 1500,
    }
    assert host.match("POST", "/first/x")["index"] == 2
    assert host.match("POST", "/first/x")["timeout"] == -1
    assert host.match("POST", "/first/7")["index"] == 2
    assert host.match("PUT", "/first/7") | {"timeout": 0} == {
        "event": "match",
        "rc": partial,
        "index": 0,
        "crud": False,
        "timeout": 0,
    }
    assert host.match("GET", "/files/a/b")["index"] == 3
    assert host.match("GET", "/nowhere")["rc"] == none
    assert host.fetch("/first/7").body == b"hello"


def test_a_host_matches_every_path(start: StartHost) -> None:
    host = start(STARLETTE + "app = Starlette(routes=[Host('a.example', app=hello), *routes])")
    assert host.match("GET", "/first/7")["index"] == 0


FASTAPI = """
from fastapi import APIRouter
from databridge import App, Model

class Article(Model):
    title: str

app = App()
router = APIRouter()

@router.get("/inner/{id}")
async def inner(id: int):
    return {"id": id}

@app.get("/articles/special", timeout=2)
async def special():
    return "special"

app.crud_routes(Article, prefix="/articles")
app.include_router(router, prefix="/outer")
"""


def test_resources_and_included_routers(start: StartHost, tmp_path: Path) -> None:
    host = start(FASTAPI, options=["-s", f"main=sqlite:{tmp_path}/app.db"])
    assert "error" not in host.apps[0], host.apps
    special = host.match("GET", "/articles/special")
    assert (special["crud"], special["timeout"]) == (False, 2000)
    for method in ("GET", "POST", "PUT", "TRACE"):
        for path in ("/articles", "/articles/1"):
            assert host.match(method, path)["crud"] is True
    assert host.match("GET", "/articles/1/2")["rc"] == -3
    assert host.match("GET", "/outer/inner/1")["crud"] is False
    assert host.fetch("/outer/inner/1").body == b'{"id":1}'


def test_a_resource_needs_its_store(start: StartHost, tmp_path: Path) -> None:
    host = start(FASTAPI, options=["-s", f"other=sqlite:{tmp_path}/app.db"])
    error = host.apps[0]["error"].decode()
    assert re.search(r'no store "main" \(known: other\).*databridge_store', error)


# the crossing under sanitizers


CROSSING = (
    HEAD
    + """
big = b"x" * 50_000

async def forever():
    await asyncio.sleep(3600)

async def later(a):
    await asyncio.sleep(0)
    return a

@http
async def app(scope, receive, send):
    await receive()
    if scope["path"] == "/wait":
        await receive()
    elif scope["path"] == "/sleep":
        await asyncio.sleep(3600)
    elif scope["path"] == "/big":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": big, "more_body": True})
        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": big})
    else:
        await respond(send, 200, b"hello")
"""
)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("start", ["-asan", "-tsan"], indirect=True)
def test_the_crossing_is_clean_under_sanitizers(start: StartHost) -> None:
    env = {
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0",
        "TSAN_OPTIONS": "exitcode=66",
    }
    host = start(CROSSING, env=env, wait=120)
    host.bench(2_000, 32, "/")
    waiting = [host.request("/wait") for _ in range(50)]
    sleeping = [host.request("/sleep") for _ in range(50)]
    big = [host.request("/big") for _ in range(50)]
    for n in range(50):
        host.send(f"disconnect {waiting[n]}", f"cancel {sleeping[n]}")
    assert host.call("main:later", 5) == ("returned", "5")
    for number in (*waiting, *sleeping, *big):
        host.done(number)
    assert all(host.responses[number].body == b"x" * 100_000 for number in big)
    host.request("/sleep")
    host.send("call c main forever")
    host.stop()
