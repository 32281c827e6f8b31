"""Bodies both ways: streamed, waited for, left unread, cut off."""

import hashlib
import os
import signal
import socket
import time

import pytest

from conftest import StartApp
from harness import SANITIZED, Nginx, Raw, processes, until

APP = """
import asyncio, hashlib, os
from pathlib import Path

events, progress = [], {"sent": 0, "got": 0}
HERE = Path(__file__).parent
(HERE / "file.bin").write_text("0123456789" * 30000)
(HERE / "empty.bin").write_text("")

async def start(send, *headers, status=200, **more):
    await send({"type": "http.response.start", "status": status, "headers": list(headers), **more})

async def text(send, body):
    await start(send, (b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.body", "body": body})

async def digest(scope, receive, send):
    "Answers with the size, the digest and the number of messages of the body."
    size, count, sha = 0, 0, hashlib.sha1()
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        size += len(message["body"]); count += 1
        sha.update(message["body"])
        if not message["more_body"]:
            break
    await text(send, f"{size} {sha.hexdigest()} {count}".encode())

async def talk(scope, receive, send):
    "Answers each piece of the body before the next has come."
    await start(send)
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        body = b"<" + message["body"] + b">"
        await send({"type": "http.response.body", "body": body, "more_body": more})

async def talk_first(scope, receive, send):
    "Has begun to answer before it asks for the body."
    await start(send)
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    await asyncio.sleep(0.1)
    await talk_on(receive, send)

async def talk_on(receive, send):
    message = await receive()
    await send({"type": "http.response.body", "body": b"<" + message["body"] + b">"})

async def lengths(scope, receive, send):
    "A response of five bytes that says so, and more."
    more = {
        b"twice": (b"content-length", b"10"),
        b"chunked": (b"transfer-encoding", b"chunked"),
    }[scope["query_string"]]
    await start(send, (b"content-length", b"5"), more)
    await send({"type": "http.response.body", "body": b"12345"})

async def left_behind(scope, receive, send):
    "Returns while a task of its own waits in send()."
    async def flood():
        await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
        events.append("flood ended")

    await start(send)
    progress["flood"] = asyncio.create_task(flood())
    await asyncio.sleep(0.1)
    await send({"type": "http.response.body", "body": b"last"})

async def unread(scope, receive, send):
    await text(send, b"unread")

async def slowly(scope, receive, send):
    "Takes a piece of the body only when it is told to."
    progress["got"] = 0
    while not progress.get("go"):
        await asyncio.sleep(0.01)
    await digest(scope, receive, send)

async def go(scope, receive, send):
    progress["go"] = True
    await text(send, b"go")

async def quiet(scope, receive, send):
    "A stream whose first event comes when it is told to."
    await start(send, (b"content-type", b"text/event-stream"))
    while not progress.get("go"):
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"data: 1"})

async def late(scope, receive, send):
    "A response whose body, or failure, comes when it is told to."
    kind = scope["query_string"]
    await start(send, *[(b"content-length", b"4")] * (kind == b"sized"))
    while not progress.get("go"):
        await asyncio.sleep(0.01)
    assert kind != b"fails"
    await send({"type": "http.response.body", "body": b"late"})

async def firehose(scope, receive, send):
    await start(send)
    progress["sent"] = 0
    try:
        for _ in range(1600):
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            progress["sent"] += 65536
        await send({"type": "http.response.body", "body": b""})
    except OSError as exc:
        events.append(f"OSError {type(exc).__name__}")
        raise

async def flood(scope, receive, send):
    "The same in one message."
    await start(send)
    await send({"type": "http.response.body", "body": bytes(100 << 20), "more_body": True})
    events.append("flood sent")
    await send({"type": "http.response.body", "body": b""})

async def hear(scope, receive, send):
    "What receive() says, noted as it comes."
    try:
        while True:
            message = await receive()
            events.append(f"{message['type']} {len(message.get('body', b''))}")
            if message["type"] == "http.disconnect":
                again = await receive()
                events.append("again " + again["type"])
                return
    except asyncio.CancelledError:
        events.append("cancelled")
        raise

async def hear_all(scope, receive, send):
    "The body, noted as it comes."
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
        events.append(f"{message['type']} {len(body)}")
    await text(send, body)

async def begin(scope, receive, send):
    await start(send)
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await hear(scope, receive, send)

async def trailers(scope, receive, send):
    assert "http.response.trailers" in scope["extensions"]
    await start(send, (b"trailer", b"x-sum"), trailers=True)
    await send({"type": "http.response.body", "body": b"abc", "more_body": True})
    await send({"type": "http.response.body", "body": b"def"})
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"6")],
                "more_trailers": True})
    await send({"type": "http.response.trailers", "headers": [(b"x-end", b"yes")]})

async def path(scope, receive, send):
    assert "http.response.pathsend" in scope["extensions"]
    name = HERE / scope["query_string"].decode()
    await start(send, (b"content-type", b"application/x-test"))
    await send({"type": "http.response.pathsend", "path": str(name)})

async def path_length(scope, receive, send):
    await start(send, (b"content-length", scope["query_string"]))
    await send({"type": "http.response.pathsend", "path": str(HERE / "file.bin")})

async def hints(scope, receive, send):
    if "http.response.early_hint" in scope["extensions"]:
        await send({"type": "http.response.early_hint",
                    "links": [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]})
    if scope["query_string"] == b"wait":
        while not progress.get("go"):
            await asyncio.sleep(0.01)
    await text(send, b"hinted")

async def report(scope, receive, send):
    await text(send, f"{progress['sent']} {'|'.join(events)}".encode())

async def reset(scope, receive, send):
    events.clear()
    progress.clear()
    progress.update(sent=0, got=0)
    await text(send, b"")

async def app(scope, receive, send):
    if scope["type"] == "http":
        handler = globals().get(scope["path"][1:], unread)
        await handler(scope, receive, send)
"""


@pytest.fixture
def server(shared_app: Nginx) -> Nginx:
    shared_app.client.get("/reset")
    return shared_app


def report(server: Nginx) -> tuple[int, list[str]]:
    sent, _, events = server.client.get("/report").text.partition(" ")
    return int(sent), events.split("|") if events else []


def heard(server: Nginx, event: str) -> None:
    until(f"{event!r} heard by the application", lambda: event in report(server)[1])


@pytest.mark.parametrize("size", [0, 1, 10_000, 2_000_000, 20_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_arrives_whole_without_any_setting(
    server: Nginx, size: int, chunked: bool
) -> None:
    body = os.urandom(size)
    pieces = (body[i : i + 70_000] for i in range(0, size, 70_000)) if chunked else body
    answer = server.client.post("/digest", content=pieces).text.split()
    assert answer[:2] == [str(size), hashlib.sha1(body).hexdigest()]


def test_a_body_that_comes_with_its_head_is_one_message(server: Nginx) -> None:
    assert server.client.post("/digest", content=b"abc").text.endswith(" 1")


def test_an_app_answers_before_the_body_has_ended(server: Nginx) -> None:
    with Raw(server.port) as client:
        client.send(b"POST /talk HTTP/1.1\r\nHost: t\r\nContent-Length: 6\r\n\r\nab")
        assert client.until(b"<ab>")
        client.send(b"cd")
        assert client.until(b"<cd>")
        client.send(b"ef")
        assert client.until(b"<ef>")


def test_a_chunked_body_is_streamed_as_well(server: Nginx) -> None:
    with Raw(server.port) as client:
        client.send(b"POST /talk HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"2\r\nab\r\n")
        assert client.until(b"<ab>")
        client.send(b"2\r\ncd\r\n0\r\n\r\n")
        assert client.until(b"<cd>")


def test_continue_is_not_written_into_a_response(server: Nginx) -> None:
    with Raw(server.port) as client:
        client.send(
            b"POST /talk_first HTTP/1.1\r\nHost: t\r\n"
            b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        )
        client.until(b"first\r\n")
        client.send(b"abc")
        assert client.until(b"0\r\n\r\n") == b"5\r\n<abc>\r\n0\r\n\r\n"


def test_an_event_stream_waits_longer_for_its_first_event_than_a_response(app: StartApp) -> None:
    server = app(APP, location="databridge_timeout 1s;")
    with Raw(server.port) as client:
        client.get("/quiet")
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        assert server.client.get("/slowly").status_code == 504
        server.client.get("/go")
        assert client.until(b"0\r\n\r\n") == b"7\r\ndata: 1\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("kind", "body"), [("", b"4\r\nlate\r\n0\r\n\r\n"), ("sized", b"late"), ("fails", b"")]
)
def test_a_response_that_was_started_in_time_begins_without_its_body(
    app: StartApp, kind: str, body: bytes
) -> None:
    server = app(APP, location="databridge_timeout 300ms;")
    with Raw(server.port) as client:
        client.get(f"/late?{kind}")
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        server.client.get("/go")
        assert client.exactly(len(body)) == body
        if kind == "fails":
            assert client.closed()


@pytest.mark.parametrize("more", ["twice", "chunked"])
def test_a_response_has_one_length(server: Nginx, more: str) -> None:
    with Raw(server.port) as client:
        client.get(f"/lengths?{more}")
        client.get("/unread")
        assert client.response().body == b"12345"
        assert client.response().body == b"unread"


def test_a_send_that_waits_ends_with_its_application(server: Nginx) -> None:
    with Raw(server.port) as client:
        client.get("/left_behind")
        heard(server, "flood ended")
        assert client.response().body == bytes(1 << 20) + b"last"


def test_an_upload_waits_for_the_app(server: Nginx) -> None:
    """What the client can send without the app stays below the kernel's buffers."""
    before = server.resident()
    size = 64 << 20
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(
            f"POST /slowly HTTP/1.1\r\nHost: t\r\nContent-Length: {size}\r\n\r\n".encode()
        )
        client.settimeout(1)
        sent, piece = 0, bytes(1 << 16)
        try:
            while sent < size:
                sent += client.send(piece)
        except TimeoutError:
            pass
        assert sent < size
        assert server.resident() - before < 16 << 20

        server.client.get("/go")
        client.settimeout(30)
        while sent < size:
            sent += client.send(piece[: size - sent])
        assert str(size).encode() in client.recv(4096)


def test_a_producer_waits_for_an_idle_client(server: Nginx) -> None:
    before = server.resident()
    with Raw(server.port) as client:
        client.get("/firehose")
        assert client.until(b"\r\n\r\n")

        last = -1
        while (sent := report(server)[0]) != last or sent == 0:
            last = sent
            time.sleep(0.2)
        assert sent < 40 << 20
        assert server.resident() - before < 40 << 20

    heard(server, "OSError ClientDisconnected")


def test_what_was_waited_for_arrives_whole(server: Nginx) -> None:
    size = 0
    with server.client.stream("GET", "/firehose") as response:
        for piece in response.iter_raw():
            size += len(piece)
    assert size == 1600 * 65536


def test_one_huge_message_waits_as_well(server: Nginx) -> None:
    with Raw(server.port) as client:
        client.get("/flood")
        assert client.until(b"\r\n\r\n")
        time.sleep(0.3)
        assert report(server)[1] == []
    with server.client.stream("GET", "/flood") as response:
        assert sum(map(len, response.iter_raw())) == 100 << 20
    heard(server, "flood sent")


def test_the_memory_of_sent_pieces_serves_those_to_come(app: StartApp) -> None:
    server = app(
        """
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(64):
                body = bytes(65536)
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        """
    )

    def read() -> None:
        assert len(server.client.get("/").content) == 64 * 65536

    read()
    before = processes.faults(server.worker())
    for _ in range(8):
        read()

    # of 1024 pages a response
    assert SANITIZED or processes.faults(server.worker()) - before < 8 * 100


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_an_unread_body_does_not_disturb_the_next_request(server: Nginx, size: int) -> None:
    with Raw(server.port) as client:
        for _ in range(3):
            client.send(
                f"POST /unread HTTP/1.1\r\nHost: t\r\nContent-Length: {size}\r\n\r\n".encode()
            )
            client.send(bytes(size))
            assert client.response().body == b"unread"
        client.get("/digest")
        assert client.response().body.startswith(b"0 ")


def test_an_answer_does_not_wait_for_the_body(server: Nginx) -> None:
    with Raw(server.port) as client:
        client.send(b"POST /unread HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nabc")
        assert client.response().body == b"unread"
        client.send(b"defghi")
        client.get("/digest")
        assert client.response().body.startswith(b"0 ")


LATE = """
import asyncio
import logging


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"x" * 900_000, "more_body": True})
    await asyncio.sleep(0.05)
    logging.getLogger().warning("asks")
    await send({"type": "http.response.body", "body": (await receive())["body"]})
"""


def test_a_body_that_is_asked_for_late_does_not_stop_the_answer(app: StartApp) -> None:
    """The client takes all that was sent before it sends its body."""
    port = processes.free_port()
    server = app(LATE, ready=None, server=f"listen 127.0.0.1:{port} sndbuf=16k;")
    with Raw(port) as client:
        client.get("/", "Expect: 100-continue\r\nContent-Length: 4\r\n")
        server.logged("asks")
        assert client.head().status == 200
        size = 0
        while size < 900_000:
            size += len(client.chunk())
        client.send(b"body")
        assert client.chunk() == b"body"


def test_continue_is_said_when_the_app_reads(server: Nginx) -> None:
    head = b"HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    with Raw(server.port) as client:
        client.send(b"POST /digest " + head)
        assert client.response().status == 100
        client.send(b"abc")
        assert client.response().body.startswith(b"3 ")

    with Raw(server.port) as client:
        client.send(b"POST /unread " + head)
        answer = client.response()
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert client.closed()


@pytest.mark.parametrize("path", ["/hear", "/begin"])
def test_a_client_that_leaves_is_heard_of_again_and_again(server: Nginx, path: str) -> None:
    with Raw(server.port) as client:
        client.get(path)
        heard(server, "http.request 0")
    heard(server, "again http.disconnect")
    assert "cancelled" not in report(server)[1]


def test_a_client_that_leaves_in_its_body_is_heard_of(server: Nginx) -> None:
    with Raw(server.port) as client:
        client.send(b"POST /hear HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nabc")
        heard(server, "http.request 3")
    heard(server, "again http.disconnect")


def test_trailers_end_a_chunked_response(server: Nginx) -> None:
    with Raw(server.port) as client:
        client.get("/trailers", "TE: trailers\r\n")
        text = client.until(b"\r\n\r\n") + client.until(b"x-end: yes\r\n\r\n")
    assert text.endswith(b"def\r\n0\r\nx-sum: 6\r\nx-end: yes\r\n\r\n")


def test_a_file_is_sent_by_its_path(server: Nginx) -> None:
    answer = server.client.get("/path?file.bin")
    assert answer.content == b"0123456789" * 30000
    assert answer.headers["content-length"] == "300000"
    assert answer.headers["content-type"] == "application/x-test"
    assert server.client.get("/path?empty.bin").headers["content-length"] == "0"
    assert server.client.head("/path?file.bin").status_code == 200


def test_a_file_that_cannot_be_sent_is_an_error_of_the_app(server: Nginx) -> None:
    assert server.client.get("/path?absent.bin").status_code == 500
    assert server.client.get("/path?.").status_code == 500
    assert server.client.get("/path_length?400000").status_code == 500
    assert server.client.get("/path_length?1000").content == b"0123456789" * 100


def test_early_hints_precede_the_response(server: Nginx) -> None:
    with Raw(server.port) as client:
        client.get("/hints?wait")
        hint = client.response(head=True)
        assert hint.status == 103
        server.client.get("/go")
        assert client.response().body == b"hinted"

    with Raw(server.port) as client:
        client.send(b"GET /hints HTTP/1.0\r\n\r\n")
        assert client.response().status == 200


def test_a_chunked_body_beyond_the_limit_is_refused(app: StartApp) -> None:
    server = app(APP, location="databridge_max_body_size 100k;")
    with Raw(server.port) as client:
        client.send(b"POST /digest HTTP/1.1\r\nHost: t\r\nContent-Length: 200000\r\n\r\n")
        assert client.response().status == 413
    with Raw(server.port) as client:
        client.send(b"POST /hear HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(30):
            client.send(b"1000\r\n" + bytes(0x1000) + b"\r\n")
        assert client.response().status == 413
    heard(server, "again http.disconnect")


def test_a_client_that_stops_sending_is_timed_out(app: StartApp) -> None:
    server = app(APP, location="client_body_timeout 1s;")
    with Raw(server.port) as client:
        client.send(b"POST /hear HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nabc")
        assert client.closed() or client.response().status == 408
    heard(server, "again http.disconnect")


def test_a_client_that_stops_reading_is_timed_out(app: StartApp) -> None:
    server = app(APP, location="send_timeout 1s;")
    with Raw(server.port) as client:
        client.get("/firehose")
        heard(server, "OSError ClientDisconnected")


def test_a_half_closed_client_has_left_unless_it_is_said_otherwise(app: StartApp) -> None:
    server = app(APP, location="databridge_ignore_client_abort on;")
    with Raw(server.port) as client:
        client.get("/hints?wait")
        client.socket.shutdown(socket.SHUT_WR)
        client.response(head=True)
        server.client.get("/go")
        assert client.response().body == b"hinted"

    server = app(APP)
    with Raw(server.port) as client:
        client.get("/hear")
        client.socket.shutdown(socket.SHUT_WR)
        heard(server, "again http.disconnect")


STREAMS = """
import asyncio
from contextlib import asynccontextmanager
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

@asynccontextmanager
async def lifespan(app):
    yield
    print("lifespan ended")

app = FastAPI(lifespan=lifespan)

async def ticks(count):
    for n in range(count):
        yield f"data: {n}\\n\\n"
        await asyncio.sleep(0.05)
    yield "data: end\\n\\n"

@app.get("/")
async def ready():
    return "ready"

@app.get("/events")
async def events():
    return StreamingResponse(ticks(10**6), media_type="text/event-stream")

@app.get("/report")
async def report():
    return StreamingResponse(ticks(20), media_type="text/plain")
"""


def test_quit_ends_event_streams_and_finishes_others(app: StartApp) -> None:
    server = app(STREAMS, http="databridge_shutdown_timeout 10s;")
    with Raw(server.port) as events, Raw(server.port) as other:
        events.get("/events")
        other.get("/report")
        assert events.until(b"data: 1")
        assert other.until(b"data: 1")
        server.kill(signal.SIGQUIT)
        assert events.until(b"0\r\n\r\n")
        assert other.until(b"data: end")
    server.wait()
    assert server.logged("lifespan ended")


def test_quit_tells_what_listens(app: StartApp) -> None:
    server = app(APP, http="databridge_shutdown_timeout 10s;")
    with Raw(server.port) as client:
        client.get("/begin")
        assert client.until(b"begun")
        heard(server, "http.request 0")
        server.kill(signal.SIGQUIT)
        assert client.closed() or client.until(b"\r\n")
    server.wait()
