"""The crossing between nginx's thread and Python's: limits, time, and leaving."""

import asyncio
import hashlib
import threading
import time

import httpx
import pytest

from conftest import StartApp
from harness import SLOWER, Nginx, Raw, eventually, processes, until

APP = """
import asyncio
import hashlib
import pathlib
import time

from databridge import App, Request, Response, StreamingResponse

app = App()
events = []
GO = pathlib.Path(__file__).with_name("go")


@app.get("/")
async def root():
    return "here"


@app.get("/events")
async def read_events():
    return events


@app.get("/number/{number}")
async def number(number: int):
    return number


@app.get("/wait/{seconds}")
async def wait(seconds: float, name: str = "wait"):
    events.append(f"{name} started")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        events.append(f"{name} cancelled")
        raise
    events.append(f"{name} done")
    return name


@app.get("/held")
async def held():
    while not GO.exists():
        await asyncio.sleep(0.01)


@app.get("/block/{seconds}")
def block(seconds: float):
    time.sleep(seconds)
    return "blocked"


@app.get("/short", timeout=0.3)
async def short():
    await asyncio.sleep(60)


@app.get("/long", timeout=30)
async def long():
    await asyncio.sleep(1.5)
    return "long"


@app.get("/stream/{count}")
async def stream(count: int, pause: float = 0.1):
    async def chunks():
        for number in range(count):
            yield f"{number}\\n"
            await asyncio.sleep(pause)

    return StreamingResponse(chunks(), media_type="text/plain")


@app.post("/digest")
async def digest(request: Request):
    body = await request.body()
    return {"size": len(body), "digest": hashlib.sha256(body).hexdigest()}


@app.get("/bytes/{size}")
async def bytes_(size: int):
    return Response(bytes(range(256)) * (size // 256) + b"x" * (size % 256))


class Watch:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"] == "/watch":
            await receive()
            events.append("watch started")
            message = await receive()
            events.append(message["type"])
            return
        await self.app(scope, receive, send)


app.add_middleware(Watch)
"""


def events(server: Nginx) -> list[str]:
    return list(server.client.get("/events").json())


def test_a_full_queue_is_a_503_with_retry_after(app: StartApp) -> None:
    server = app(APP, http="databridge_queue 4;")

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.base_url, timeout=15 * SLOWER) as client:
            asked = [asyncio.create_task(client.get("/held")) for _ in range(12)]
            while sum(task.done() for task in asked) < 8:
                await asyncio.wait(
                    [task for task in asked if not task.done()],
                    return_when=asyncio.FIRST_COMPLETED,
                )
            (server.app / "go").touch()
            return list(await asyncio.gather(*asked))

    answers = asyncio.run(ask())
    served = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert (len(served), len(refused)) == (4, 8)
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert server.client.get("/").status_code == 200


def test_the_queue_counts_requests_not_connections(app: StartApp) -> None:
    server = app(APP, http="databridge_queue 2;")
    idle = [server.raw() for _ in range(10)]
    for client in idle:
        client.get("/")
        assert client.response().status == 200
    assert server.client.get("/").status_code == 200
    for client in idle:
        client.socket.close()


def test_a_request_past_its_time_is_a_504_and_its_task_is_cancelled(app: StartApp) -> None:
    server = app(APP, location="databridge_timeout 1s;")
    start = time.monotonic()
    assert server.client.get("/wait/60").status_code == 504
    assert 0.95 < time.monotonic() - start < 10
    until("the cancellation", lambda: "wait cancelled" in events(server))


def test_a_def_handler_past_its_time_is_a_504_and_others_go_on(app: StartApp) -> None:
    server = app(APP, location="databridge_timeout 1s;")
    assert server.client.get("/block/3").status_code == 504
    assert server.client.get("/").json() == "here"


def test_a_route_has_a_timeout_of_its_own(app: StartApp) -> None:
    server = app(APP, location="databridge_timeout 20s;")
    start = time.monotonic()
    assert server.client.get("/short").status_code == 504
    assert time.monotonic() - start < 10
    server = app(APP, location="databridge_timeout 1s;")
    assert server.client.get("/long").json() == "long"


def test_no_timeout_is_a_timeout_of_zero(app: StartApp) -> None:
    server = app(APP, location="databridge_timeout 0;")
    assert server.client.get("/wait/0.3").json() == "wait"


def test_timeouts_of_many_requests_come_in_order(app: StartApp) -> None:
    server = app(APP, location="databridge_timeout 2s;")

    async def ask() -> list[int]:
        async with httpx.AsyncClient(base_url=server.base_url, timeout=15 * SLOWER) as client:
            paths = [f"/wait/{0 if number % 2 else 60}" for number in range(40)]
            answers = await asyncio.gather(*(client.get(path) for path in paths))
            return [answer.status_code for answer in answers]

    assert asyncio.run(ask()) == [504, 200] * 20


def test_the_timeout_runs_until_the_response_starts(app: StartApp) -> None:
    server = app(APP, location="databridge_timeout 600ms;")
    assert server.client.get("/stream/8").text == "".join(f"{n}\n" for n in range(8))


def test_a_client_that_leaves_does_not_cancel_its_handler(app: StartApp) -> None:
    server = app(APP)
    with server.raw() as client:
        client.get("/wait/0.5?name=left")
        until("the start", lambda: "left started" in events(server))
    until("the end", lambda: "left done" in events(server))
    assert "left cancelled" not in events(server)


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_an_asgi_application_hears_that_its_client_left(app: StartApp, reset: bool) -> None:
    server = app(APP)
    client = server.raw()
    client.get("/watch")
    until("the start", lambda: "watch started" in events(server))
    client.reset() if reset else client.socket.close()
    until("http.disconnect", lambda: "http.disconnect" in events(server))


def test_clients_that_leave_in_the_middle_of_a_stream(app: StartApp) -> None:
    server = app(APP)
    for number in range(10):
        client = server.raw()
        client.get("/stream/1000?pause=0.001")
        client.socket.recv(1)
        client.reset() if number % 2 else client.socket.close()
    assert server.client.get("/").json() == "here"


def test_clients_that_leave_before_their_answer_at_once(app: StartApp) -> None:
    server = app(APP)
    for _ in range(50):
        client = server.raw()
        client.get("/bytes/100000")
        client.reset()
    assert server.client.get("/").json() == "here"


def test_many_at_once_get_their_own_answers(app: StartApp) -> None:
    server = app(APP)

    async def ask() -> list[int]:
        limits = httpx.Limits(max_connections=64)
        timeout = httpx.Timeout(30 * SLOWER, pool=None)  # the others' requests take theirs
        async with httpx.AsyncClient(
            base_url=server.base_url, timeout=timeout, limits=limits
        ) as client:
            answers = await asyncio.gather(*(client.get(f"/number/{n}") for n in range(500)))
            return [answer.json() for answer in answers]

    assert asyncio.run(ask()) == list(range(500))


def test_a_batch_costs_no_more_wakeups_than_one_request(app: StartApp) -> None:
    server = app(APP)
    worker = server.worker()
    clients = [server.raw() for _ in range(32)]

    for client in clients:
        client.get("/number/0")
        client.response()

    def wakeups(batch: list[Raw]) -> int:
        before = processes.wakeups(worker)

        for number in range(20):
            with processes.stopped(worker):
                for client in batch:
                    client.get(f"/number/{number}")

            for client in batch:
                assert client.response().body == str(number).encode()

        return processes.wakeups(worker) - before

    one, all_of_them = wakeups(clients[:1]), wakeups(clients)

    for client in clients:
        client.socket.close()

    # each costs the stop's, and a crossing there and back

    assert all_of_them < 2 * one


SIZES = [0, 1, 1000, 16 * 1024, 1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1, 5_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_a_body_of_any_size_arrives_whole(shared_app: Nginx, size: int) -> None:
    body = bytes(range(251)) * (size // 251 + 1)
    body = body[:size]
    expected = {"size": size, "digest": hashlib.sha256(body).hexdigest()}
    assert shared_app.client.post("/digest", content=body).json() == expected
    chunked = shared_app.client.post("/digest", content=iter([body[:7], body[7:]]))
    assert chunked.json() == expected


@pytest.mark.parametrize("size", [0, 1, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 10_000_000])
def test_a_response_of_any_size_arrives_whole(shared_app: Nginx, size: int) -> None:
    answer = shared_app.client.get(f"/bytes/{size}")
    assert answer.content == bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert int(answer.headers["content-length"]) == size


def test_a_slow_reader_gets_all_and_holds_up_nobody(shared_app: Nginx) -> None:
    size = 8_000_000
    with shared_app.raw() as slow:
        slow.get(f"/bytes/{size}")
        slow.socket.recv(1000)
        assert shared_app.client.get("/").json() == "here"
        left = 0
        while data := slow.socket.recv(200_000):
            left += len(data)
            if left > size - 1000:
                break
        assert left > size - 1000


def test_large_responses_are_released(shared_app: Nginx) -> None:
    for _ in range(20):
        shared_app.client.get("/bytes/3000000")
    before = shared_app.resident()
    for _ in range(60):
        shared_app.client.get("/bytes/3000000")
    assert eventually(lambda: shared_app.resident() - before < 30_000_000)


def test_requests_from_many_threads_of_clients(shared_app: Nginx) -> None:
    wrong: list[object] = []

    def ask(base: int) -> None:
        with httpx.Client(base_url=shared_app.base_url, timeout=15 * SLOWER) as client:
            for number in range(base, base + 50):
                answer = client.get(f"/number/{number}")
                if answer.json() != number:
                    wrong.append(answer.text)

    threads = [threading.Thread(target=ask, args=(1000 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_job_is_a_copy_that_outlives_its_request(app: StartApp) -> None:
    server = app(
        """
        import asyncio
        from fastapi import FastAPI, Request

        app = FastAPI()
        seen = []

        @app.get("/")
        async def root():
            return seen

        @app.post("/keep/{name}")
        async def keep(name: str, request: Request):
            body = await request.body()
            seen.append("started")
            await asyncio.sleep(0.3)
            seen.append([name, request.headers["x-kept"], str(request.url.query), body.decode()])
        """
    )
    body = "b" * 5000
    with server.raw() as client:
        client.send(
            b"POST /keep/me?q=1 HTTP/1.1\r\nHost: t\r\nX-Kept: %s\r\nContent-Length: 5000\r\n\r\n%s"
            % (b"h" * 500, body.encode())
        )
        until("the start", lambda: "started" in server.client.get("/").json())

    # nginx has freed the request's memory and uses it for others meanwhile

    kept = ["me", "h" * 500, "q=1", body]
    until("the end", lambda: kept in server.client.get("/").json())


def test_the_route_table_does_not_change_once_it_is_published(app: StartApp) -> None:
    server = app(
        """
        import _databridge
        from databridge import App, Model

        app = App()

        class Note(Model):
            text: str

        app.crud_routes(Note, prefix="/notes")

        @app.get("/add")
        async def add():
            app.add_api_route("/late", lambda: "late")
            app.crud_routes(Note, prefix="/late-notes")
            try:
                _databridge.add_route(0, None, "/late", None)
            except RuntimeError as error:
                return str(error)
        """,
        http="databridge_store main sqlite:notes.db;",
        ready="/notes",
    )
    assert "too late" in server.client.get("/add").json()
    assert server.client.get("/late").json() == "late"
    assert server.client.get("/notes").json()["items"] == []

    # a resource of after the start is Python's, which says what to do

    assert server.client.get("/late-notes").status_code == 503
    assert "databridge run" in server.client.get("/late-notes").json()["detail"]
