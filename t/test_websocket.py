"""WebSockets: what the ASGI tests do not ask, as limits, pings, TLS and the worker's end."""

import select
import signal
import ssl
import struct
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from conftest import StartApp, StartNginx
from harness import SLOWER, Nginx, processes, until
from harness.websocket import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WebSocket,
    closing,
    frame,
    handshake,
)

APP = """
import asyncio

notes, progress = [], {"sent": 0}

async def answer(send, body):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(body).encode()})

async def echo(scope, receive, send):
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    notes.append((message["code"], message["reason"]))

async def hold(scope, receive, send):
    "Takes nothing until it is told to."
    progress.pop("go", None)
    while "go" not in progress:
        await asyncio.sleep(0.005)
    await echo(scope, receive, send)

async def firehose(scope, receive, send):
    progress["sent"] = 0
    try:
        while True:
            await send({"type": "websocket.send", "bytes": bytes(30000)})
            progress["sent"] += 30000
    except OSError as error:
        notes.append(type(error).__name__)

async def waiter(scope, receive, send):
    "Has a task of its own that sends while this one receives."
    async def ticks():
        while True:
            await send({"type": "websocket.send", "text": "tick"})
            await asyncio.sleep(0.001)
    ticking = asyncio.ensure_future(ticks())
    while (await receive())["type"] == "websocket.receive":
        pass
    try:
        await ticking
    except OSError as error:
        notes.append(type(error).__name__)

async def stays(scope, receive, send):
    "Does not end when its socket does."
    while (message := await receive())["type"] == "websocket.receive":
        pass
    again = await receive()
    notes.append((message["code"], again == message))
    await asyncio.sleep(0.2)
    notes.append("end")

async def misuse(scope, receive, send):
    async def attempt(**message):
        try:
            await send(message)
            notes.append("sent")
        except Exception as error:
            notes.append(type(error).__name__)
    await attempt(type="websocket.send")
    await attempt(type="websocket.send", text=None, bytes=None)
    await attempt(type="websocket.send", text=b"bytes")
    await attempt(type="websocket.send", bytes="text")
    await attempt(type="websocket.send", text="\\ud800")
    await attempt(type="websocket.close", code=1005)
    await attempt(type="websocket.close", code=99)
    await attempt(type="websocket.close", reason="x" * 124)
    await attempt(type="websocket.send", bytes=memoryview(b"view"))
    await attempt(type="websocket.close")

async def early(scope, receive, send):
    for i in range(2):
        await send({"type": "websocket.send", "text": str(i)})
    await echo(scope, receive, send)

async def brief(scope, receive, send):
    await send({"type": "websocket.send", "text": "bye"})
    await send({"type": "websocket.close", "code": 4000, "reason": "at once"})

async def huge(scope, receive, send):
    "Its answer is more than a connection's buffers take."
    await send({"type": "websocket.send", "text": "after it"})
    progress["sent"] = 16_000_000
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    notes.append(("huge", message["code"]))

async def late(scope, receive, send):
    "Never accepts."
    progress["late"] = True
    notes.append((await receive())["type"])

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if scope["type"] == "http":
        if scope["path"] == "/mirror":
            await asyncio.sleep(0.3)
        if scope["path"] == "/go":
            progress["go"] = True
        await answer(send, repr(notes) if scope["path"] == "/notes" else progress)
        return
    assert (await receive()) == {"type": "websocket.connect"}
    if scope["path"] != "/late":
        size = 16_000_000 if scope["path"] == "/huge" else 0
        headers = [(b"x-huge", b"x" * size)] if size else []
        await send({"type": "websocket.accept", "headers": headers})
    await globals()[scope["path"][1:]](scope, receive, send)
"""


def notes(server: Nginx) -> list[object]:
    return list(eval(server.client.get("/notes").text))


def noted(server: Nginx, value: object) -> None:
    until(f"{value!r} among the notes", lambda: value in notes(server))


def sent(server: Nginx) -> int:
    return int(eval(server.client.get("/progress").text)["sent"])


@pytest.fixture
def socket(shared_app: Nginx) -> Iterator[WebSocket]:
    with WebSocket(shared_app.port, 15) as client:
        yield client


def opened(server: Nginx, path: str, more: bytes = b"") -> WebSocket:
    client = WebSocket(server.port, 15)
    client.open(path, more=more)
    return client


# messages


def test_a_thousand_messages_at_once_come_back_in_order(socket: WebSocket) -> None:
    socket.open("/echo")
    socket.send(b"".join(frame(TEXT, b"%d" % number) for number in range(1000)))
    assert [socket.message() for _ in range(1000)] == [str(number) for number in range(1000)]


def test_a_hundred_sockets_do_not_get_each_others_messages(shared_app: Nginx) -> None:
    clients = [opened(shared_app, "/echo") for _ in range(100)]
    for turn in range(3):
        for number, client in enumerate(clients):
            client.text(f"{turn} {number}")
        for number, client in enumerate(clients):
            assert client.message() == f"{turn} {number}"
    for client in clients:
        client.socket.close()


def test_messages_around_what_is_copied_come_back(socket: WebSocket) -> None:
    socket.open("/echo")
    for size in (16383, 16384, 16385, 131_071, 131_072, 131_073, 3_000_000):
        for text in ("a" * size, "é" * size):
            socket.text(text)
            assert socket.message() == text


def test_a_message_in_very_many_fragments_is_one(socket: WebSocket) -> None:
    socket.open("/echo")
    socket.send(frame(BINARY, b"", fin=False))
    socket.send(b"".join(frame(CONTINUATION, b"ab", fin=False) for _ in range(5000)))
    socket.send(frame(CONTINUATION))
    assert socket.message() == b"ab" * 5000


def test_a_greater_message_than_allowed_is_1009(app: StartApp) -> None:
    server = app(APP, location="databridge_websocket_max_size 1000;")
    with opened(server, "/echo") as client:
        client.binary(b"x" * 1000)
        assert client.message() == b"x" * 1000
        client.binary(b"x" * 1001)
        assert client.closed_with()[0] == 1009
        assert client.closed()
    noted(server, (1009, ""))


def test_what_send_refuses_does_not_reach_the_client(shared_app: Nginx) -> None:
    with opened(shared_app, "/misuse") as client:
        assert client.message() == b"view"
        assert client.closed_with() == (1000, "")
    noted(shared_app, "sent")
    seen = notes(shared_app)
    start = seen.index("RuntimeError")
    assert seen[start : start + 10] == [
        *("RuntimeError", "RuntimeError", "TypeError", "TypeError", "UnicodeEncodeError"),
        *("RuntimeError", "RuntimeError", "RuntimeError", "sent", "sent"),
    ]


# one side is slow


def test_a_slow_reader_stops_the_application(shared_app: Nginx) -> None:
    with opened(shared_app, "/firehose") as client:
        seen = [-1]

        def still() -> bool:
            for _ in range(30):
                seen.append(sent(shared_app))
            return seen[-1] == seen[-30] > 0

        until("the application stands still", still, 20)
        before = seen[-1]
        for _ in range(100):
            assert client.message() == bytes(30000)
        until("it goes on", lambda: sent(shared_app) > before)
    noted(shared_app, "ClientDisconnected")


def test_a_slow_application_stops_the_client(shared_app: Nginx) -> None:
    with opened(shared_app, "/hold") as client:
        client.socket.settimeout(0.5)
        data = frame(BINARY, bytes(50000)) * 1000
        count = 0
        with pytest.raises(TimeoutError):
            while count < len(data):
                count += client.socket.send(data[count : count + 100_000])
        assert count < 20_000_000
        shared_app.client.get("/go")
        client.socket.settimeout(15 * SLOWER)
        with ThreadPoolExecutor() as pool:
            sending = pool.submit(client.send, data[count:])
            for _ in range(1000):
                assert client.message() == bytes(50000)
            sending.result()


def test_empty_messages_cannot_fill_the_memory(shared_app: Nginx) -> None:
    before = processes.resident(shared_app.worker())
    with opened(shared_app, "/hold") as client:
        client.socket.settimeout(0.5)
        data = frame(TEXT) * 2_000_000
        count = 0
        with pytest.raises(TimeoutError):
            while count < len(data):
                count += client.socket.send(data[count : count + 100_000])
        assert processes.resident(shared_app.worker()) - before < (20 << 20) * SLOWER
    shared_app.client.get("/go")


def test_pings_of_a_client_that_does_not_read_cannot_fill_the_memory(shared_app: Nginx) -> None:
    with opened(shared_app, "/echo") as client:
        client.socket.setsockopt(6, 1, 1)
        before = processes.resident(shared_app.worker())
        data = frame(PING, b"x" * 125) * 1000
        for _ in range(300):
            client.send(data)
        assert processes.resident(shared_app.worker()) - before < (20 << 20) * SLOWER
        client.send(frame(PING, b"last"))
        while client.frame() != (PONG, b"last"):
            continue


# pings


PINGS = "databridge_websocket_ping 300ms; databridge_websocket_timeout 1s;"


def test_a_client_that_answers_pings_stays(app: StartApp) -> None:
    server = app(APP, location=PINGS)
    with connect(f"ws://127.0.0.1:{server.port}/echo", ping_interval=None) as client:
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            with pytest.raises(TimeoutError):
                client.recv(0.2)
        client.send("still here")
        assert client.recv(5) == "still here"


def test_a_client_that_does_not_answer_a_ping_is_closed_with_1011(app: StartApp) -> None:
    server = app(APP, location=PINGS)
    with opened(server, "/echo") as client:
        assert client.frame() == (PING, b"")
        assert client.closed_with() == (1011, "keepalive ping timeout")
        assert client.closed()
    noted(server, (1011, "keepalive ping timeout"))


def test_pings_can_be_off(app: StartApp) -> None:
    server = app(APP, location="databridge_websocket_ping 0;")
    with opened(server, "/echo") as client:
        assert select.select([client.socket], [], [], 0.5) == ([], [], [])
        client.text("a")
        assert client.message() == "a"


def test_the_timeout_of_requests_ends_with_accept(app: StartApp) -> None:
    server = app(APP, location="databridge_timeout 1s;")
    with opened(server, "/echo") as client:
        assert select.select([client.socket], [], [], 1.5) == ([], [], [])
        client.text("a")
        assert client.message() == "a"


def test_a_socket_that_is_not_accepted_in_time_is_a_504(app: StartApp) -> None:
    server = app(APP, location="databridge_timeout 300ms;")
    with WebSocket(server.port, 15) as client:
        client.send(handshake("/late"))
        assert client.head().status == 504


# the client leaves


@pytest.mark.parametrize("piece", [1, 3, 7, 20, 100])
def test_a_client_may_vanish_within_a_frame(shared_app: Nginx, piece: int) -> None:
    before = len(notes(shared_app))
    with opened(shared_app, "/echo") as client:
        client.send(frame(BINARY, b"x" * 200)[:piece])
    until("its end", lambda: notes(shared_app)[before:] == [(1006, "")])


@pytest.mark.parametrize("count", [10, 60, 140])
def test_a_client_may_vanish_within_the_handshake(shared_app: Nginx, count: int) -> None:
    with WebSocket(shared_app.port) as client:
        client.send(handshake("/echo")[:count])
    assert shared_app.client.get("/").status_code == 200


def test_an_application_that_sends_in_another_task_hears_of_it(shared_app: Nginx) -> None:
    before = len(notes(shared_app))
    with opened(shared_app, "/waiter") as client:
        assert client.message() == "tick"
    until("an OSError", lambda: notes(shared_app)[before:] == ["ClientDisconnected"])


def test_the_disconnect_is_repeated_and_nothing_is_cancelled(shared_app: Nginx) -> None:
    with opened(shared_app, "/stays") as client:
        client.send(closing(3001))
        assert client.closed_with()[0] == 3001
        assert client.closed()
    noted(shared_app, (3001, True))
    noted(shared_app, "end")


# the worker's end


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGHUP], ids=["quit", "reload"])
def test_sockets_are_closed_with_1012_when_the_worker_ends(
    app: StartApp, number: signal.Signals
) -> None:
    server = app(APP + "\nimport sys\n" + QUIT)
    old = server.worker()
    clients = [opened(server, "/told") for _ in range(3)]
    if number == signal.SIGHUP:
        server.reload()
    else:
        server.kill(number)
    for client in clients:
        assert client.closed_with() == (1012, "")
        client.send(closing(1012))
        assert client.closed()
        client.socket.close()
    until("the end of the worker", lambda: not processes.alive(old), 10)
    if number == signal.SIGQUIT:
        assert server.wait() == 0
    assert len(server.error_log.find(r"told 1012")) == 3


QUIT = """
async def told(scope, receive, send):
    while (message := await receive())["type"] == "websocket.receive":
        pass
    print("told", message["code"])
"""


def test_a_socket_that_is_not_accepted_gets_a_503_when_the_worker_ends(app: StartApp) -> None:
    server = app(APP)
    with WebSocket(server.port, 15) as client:
        client.send(handshake("/late"))
        until("the request", lambda: "late" in server.client.get("/").text)
        server.client.close()
        server.kill(signal.SIGQUIT)
        assert client.head().status == 503


def test_a_client_that_does_not_answer_the_close_holds_the_worker_to_its_deadline(
    app: StartApp,
) -> None:
    server = app(APP, http="databridge_shutdown_timeout 500ms;")
    with opened(server, "/echo") as client:
        server.client.close()
        server.kill(signal.SIGQUIT)
        assert client.closed_with() == (1012, "")
        until("the end of the worker", lambda: not server.workers(), 4)
        assert client.closed()
    assert server.wait() == 0


# TLS, limits of nginx, FastAPI


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout"
    subprocess.run(
        [*command.split(), path, "-out", path.with_name("key.pem")],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + path.with_name("key.pem").read_text())
    return path


def test_sockets_over_tls(nginx: StartNginx, certificate: Path) -> None:
    port = processes.free_port()
    server = nginx(
        "databridge_app app:app;",
        files={"app.py": APP},
        ready="/",
        http=f"ssl_certificate {certificate}; ssl_certificate_key {certificate};",
        server=f"listen 127.0.0.1:{port} ssl;",
    )
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with connect(f"wss://127.0.0.1:{port}/echo", ssl=context, max_size=None) as client:
        messages: list[str | bytes] = ["a", "b" * 20_000, b"c" * 3_000_000, ""]
        for message in [*messages, *map(str, range(200))]:
            client.send(message)
            assert client.recv(15 * SLOWER) == message
    noted(server, (1000, ""))


def test_limit_rate_is_for_responses_and_not_for_sockets(app: StartApp) -> None:
    server = app(APP, location="limit_rate 1k;")
    with opened(server, "/echo") as client:
        client.binary(bytes(300_000))
        assert client.message() == bytes(300_000)


def test_the_access_log_has_the_socket_when_it_is_accepted(shared_app: Nginx) -> None:
    log = shared_app.prefix / "access.log"
    with opened(shared_app, "/echo?logged") as client:
        until("a line", lambda: '"GET /echo?logged HTTP/1.1" 101' in log.read_text())
        client.text("x")
        assert client.message() == "x"
    noted(shared_app, (1006, ""))
    assert log.read_text().count("?logged") == 1


# from the request to the socket


def test_limit_conn_counts_a_socket_until_its_end(app: StartApp) -> None:
    server = app(
        APP,
        ready=None,
        http="limit_conn_zone $server_port zone=clients:64k;",
        location="limit_conn clients 1;",
    )
    until("an answer", lambda: server.client.get("/").status_code == 200)
    with opened(server, "/echo") as client:
        for i in range(3):
            client.text(str(i))
            assert client.message() == str(i)
            assert server.client.get("/").status_code == 503
    until("room for another", lambda: server.client.get("/").status_code == 200)
    log = server.prefix / "access.log"
    until("a line", lambda: '"GET /echo HTTP/1.1" 101' in log.read_text())


MIRROR = "mirror /mirror; } location = /mirror { internal; databridge_app app:app; mirror off;"


def test_a_mirror_delays_a_socket_and_loses_nothing_of_it(app: StartApp) -> None:
    server = app(APP, location=MIRROR)
    with opened(server, "/early", frame(TEXT, b"first")) as client:
        assert [client.message() for _ in range(3)] == ["0", "1", "first"]
        client.send(closing(1000))
        assert client.closed_with() == (1000, "")


def test_a_handshake_that_the_workers_end_cuts_takes_its_mirror_with_it(app: StartApp) -> None:
    server = app(APP, location=MIRROR)
    with WebSocket(server.port, 15) as client:
        client.send(handshake("/late"))
        until("the request", lambda: "late" in server.client.get("/").text)
        server.client.close()
        server.kill(signal.SIGQUIT)
        assert client.head().status == 503
    assert server.wait(10) == 0


def test_what_is_sent_at_once_after_accept_arrives_in_order(shared_app: Nginx) -> None:
    for more in (b"", frame(TEXT, b"x"), frame(TEXT, b"x") * 100 + frame(PING, b"y")):
        with opened(shared_app, "/early", more) as client:
            assert [client.message() for _ in range(2)] == ["0", "1"]
            for _ in range(more.count(frame(TEXT, b"x"))):
                assert client.message() == "x"
            client.send(closing(1000))
            assert client.closed_with() == (1000, "")


def test_an_application_that_accepts_and_closes_at_once_is_heard(shared_app: Nginx) -> None:
    for _ in range(20):
        with opened(shared_app, "/brief", frame(TEXT, b"x")) as client:
            assert client.message() == "bye"
            assert client.closed_with() == (4000, "at once")
            client.send(closing(4000))
            assert client.closed()


def test_frames_behind_a_handshake_in_great_buffers_are_read(shared_app: Nginx) -> None:
    for size in (100, 1000, 3000, 7000):
        headers = b"X-Long: " + b"x" * size + b"\r\n"
        with WebSocket(shared_app.port, 15) as client:
            client.open("/echo", headers, frame(TEXT, b"behind") + frame(BINARY, b"it")[:-1])
            assert client.message() == "behind"
            client.send(frame(BINARY, b"it")[-1:])
            assert client.message() == b"it"


def test_an_answer_that_the_client_takes_slowly_is_followed_by_its_messages(
    shared_app: Nginx,
) -> None:
    with WebSocket(shared_app.port, 15 * SLOWER) as client:
        client.send(handshake("/huge") + frame(TEXT, b"x"))
        until("it is sent", lambda: sent(shared_app) == 16_000_000)
        answer = client.head()
        assert answer.status == 101
        assert len(answer.headers["x-huge"]) == 16_000_000
        assert client.message() == "after it"
        assert client.message() == "x"


def test_a_client_that_leaves_before_its_answer_is_sent_is_1006(shared_app: Nginx) -> None:
    with WebSocket(shared_app.port, 15) as client:
        client.send(handshake("/huge"))
        until("it is sent", lambda: sent(shared_app) == 16_000_000)
    noted(shared_app, ("huge", 1006))


def test_a_client_that_does_not_read_is_cut_off_after_send_timeout(app: StartApp) -> None:
    server = app(APP, location="send_timeout 300ms; databridge_websocket_ping 50ms;")
    with opened(server, "/firehose"):
        noted(server, "ClientDisconnected")


FASTAPI = """
from typing import Annotated
from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect, WebSocketException
from starlette.responses import PlainTextResponse

app = FastAPI()
seen = []

async def token(websocket: WebSocket, token: str | None = None):
    if token is None:
        raise WebSocketException(1008, "a token is needed")
    yield token.upper()
    seen.append("released")

@app.get("/")
async def read() -> list:
    return seen

@app.websocket("/items/{item}")
async def items(websocket: WebSocket, item: int, token: Annotated[str, Depends(token)]):
    await websocket.accept(subprotocol=websocket.scope["subprotocols"][-1],
                           headers=[(b"x-item", str(item).encode())])
    try:
        async for message in websocket.iter_json():
            await websocket.send_json({"item": item, "token": token, **message})
        seen.append("left")
    except WebSocketDisconnect as error:
        seen.append(error.code)

@app.websocket("/denied")
async def denied(websocket: WebSocket):
    await websocket.send_denial_response(PlainTextResponse("not you", 418))

@app.websocket("/crash")
async def crash(websocket: WebSocket):
    await websocket.accept()
    raise ValueError("on purpose")
"""


def test_fastapis_sockets_with_dependencies_and_subprotocols(app: StartApp) -> None:
    server = app(FASTAPI)
    base = f"ws://127.0.0.1:{server.port}"
    with connect(f"{base}/items/7?token=abc", subprotocols=["one", "two"]) as client:  # type: ignore[list-item]
        assert client.subprotocol == "two"
        assert client.response and client.response.headers["x-item"] == "7"
        client.send('{"a": 1}')
        assert client.recv(5) == '{"item":7,"token":"ABC","a":1}'
    until("the end", lambda: server.client.get("/").json() == ["left", "released"])

    with WebSocket(server.port) as raw:
        raw.send(handshake("/items/7"))
        assert raw.response().status == 403
    with WebSocket(server.port) as raw:
        raw.send(handshake("/denied"))
        answer = raw.response()
        assert (answer.status, answer.body) == (418, b"not you")
    with WebSocket(server.port) as raw:
        raw.send(handshake("/missing"))
        assert raw.response().status == 403
    with connect(f"{base}/crash") as client, pytest.raises(ConnectionClosed) as caught:
        client.recv(5)
    assert caught.value.rcvd and caught.value.rcvd.code == 1011


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("method=POST", 405),
        ("version=8", 426),
        ("key=short", 400),
        ("length=5", 400),
    ],
)
def test_a_bad_handshake_has_the_status_that_says_why(
    shared_app: Nginx, line: str, status: int
) -> None:
    data = {
        "method=POST": handshake("/echo", method=b"POST"),
        "version=8": handshake("/echo", ws_version=b"8"),
        "key=short": handshake("/echo", key=b"c2hvcnQ="),
        "length=5": handshake("/echo", b"Content-Length: 5\r\n") + b"hello",
    }[line]
    with WebSocket(shared_app.port) as client:
        client.send(data)
        answer = client.head()
        assert answer.status == status
        if status == 426:
            assert answer.headers["sec-websocket-version"] == "13"


def test_a_reset_in_the_middle_of_much_output_is_survived(shared_app: Nginx) -> None:
    with opened(shared_app, "/firehose") as client:
        client.message()
        client.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))
    noted(shared_app, "ClientDisconnected")
    assert shared_app.client.get("/").status_code == 200
