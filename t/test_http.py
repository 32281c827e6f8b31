"""HTTP as nginx speaks it, with an application behind."""

import time

import pytest

from harness import SLOWER, Nginx, Uvicorn, until

APP = """
import asyncio

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

app = FastAPI()


@app.get("/")
async def root():
    return "here"


@app.head("/head")
@app.get("/head")
async def head():
    return Response("twelve bytes", headers={"X-Head": "1"})


@app.get("/number/{number}")
async def number(number: int):
    await asyncio.sleep(0.02 if number % 2 else 0)
    return number


@app.get("/pieces")
async def pieces():
    async def chunks():
        yield b"one"
        yield b"two"

    return StreamingResponse(chunks(), media_type="text/plain")


@app.get("/nothing")
async def nothing():
    return Response(status_code=204, media_type="text/x-nothing")


@app.get("/headers")
async def headers():
    response = Response(b"{}", media_type="application/json; charset=utf-8")
    response.headers.append("X-Twice", "1")
    response.headers.append("X-Twice", "2")
    response.headers["X-Latin"] = "caf\\xe9"
    response.headers["ETag"] = '"tag"'
    response.headers["Last-Modified"] = "Tue, 01 Jan 2030 00:00:00 GMT"
    response.headers["Cache-Control"] = "no-store"
    response.headers["WWW-Authenticate"] = "Basic"
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


@app.get("/status/{status}")
async def status(status: int):
    return Response(status_code=status)


@app.get("/redirect")
async def redirect():
    return Response(status_code=307, headers={"Location": "/elsewhere?a=b"})


@app.get("/split")
async def split():
    return Response("x", headers={"X-Split": "a\\r\\nX-Injected: b"})


@app.post("/size")
async def size(request: Request):
    return len(await request.body())
"""

CONFIGURATION = {"server": "location /small { databridge_app app:app; client_max_body_size 1k; }"}


def test_a_connection_is_kept_alive(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        for _ in range(5):
            client.get("/")
            assert client.response().body == b'"here"'


def test_a_client_may_ask_to_close(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        client.get("/", "Connection: close\r\n")
        assert client.response().headers["connection"] == "close"
        assert client.closed()


def test_http_1_0_is_answered_and_closed(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        client.send(b"GET /pieces HTTP/1.0\r\n\r\n")
        answer = client.response()
        assert "transfer-encoding" not in answer.headers
        assert answer.body == b"onetwo"


def test_pipelined_requests_are_answered_in_order(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        request = "GET /number/{} HTTP/1.1\r\nHost: test\r\n\r\n"
        client.send("".join(request.format(number) for number in range(20)).encode())
        assert [client.response().body for _ in range(20)] == [b"%d" % n for n in range(20)]


def test_pieces_of_a_response_are_not_delayed(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        took = []
        for _ in range(40):
            start = time.monotonic()
            client.get("/pieces")
            assert client.response().body == b"onetwo"
            took.append(time.monotonic() - start)

        # one that waits for an acknowledgement takes 40 ms, once the kernel delays them

        assert sorted(took[20:])[5] < 0.03 * SLOWER


def test_head_has_the_headers_and_no_body(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        client.send(b"HEAD /head HTTP/1.1\r\nHost: test\r\n\r\n")
        answer = client.response(head=True)
        assert (answer.status, answer.headers["content-length"]) == (200, "12")
        assert answer.headers["x-head"] == "1"
        client.get("/")
        assert client.response().body == b'"here"'


def test_204_has_no_body(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        client.get("/nothing")
        answer = client.response()
        assert answer.status == 204
        assert answer.headers["content-type"] == "text/x-nothing; charset=utf-8"
        assert "transfer-encoding" not in answer.headers
        client.get("/")
        assert client.response().body == b'"here"'


@pytest.mark.parametrize(
    "status", [201, 202, 204, 206, 304, 400, 401, 404, 418, 451, 500, 503, 599]
)
def test_the_applications_status_and_body_are_its_own(
    shared_app: Nginx, shared_uvicorn: Uvicorn, status: int
) -> None:
    ours = shared_app.client.get(f"/status/{status}")
    theirs = shared_uvicorn.client.get(f"/status/{status}")
    assert (ours.status_code, ours.content) == (status, b"") == (theirs.status_code, theirs.content)


def test_headers_arrive_as_the_application_set_them(
    shared_app: Nginx, shared_uvicorn: Uvicorn
) -> None:
    pairs = []
    for server in (shared_app, shared_uvicorn):
        answer = server.client.get("/headers")
        pairs.append(
            sorted(
                (name.lower(), value)
                for name, value in answer.headers.raw
                if name.lower() not in (b"server", b"date", b"connection")
            )
        )
    ours, theirs = pairs
    assert ours == theirs


def test_a_relative_location_stays_relative(shared_app: Nginx) -> None:
    assert shared_app.client.get("/redirect").headers["location"] == "/elsewhere?a=b"


def test_a_header_cannot_be_split(shared_app: Nginx) -> None:
    answer = shared_app.client.get("/split")
    assert answer.status_code == 500
    assert "x-injected" not in answer.headers


def test_one_server_and_one_date(shared_app: Nginx) -> None:
    names = [name.lower() for name, _ in shared_app.client.get("/").headers.raw]
    assert names.count(b"server") == names.count(b"date") == 1


def test_expect_100_continue(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        head = (
            "POST /size HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        client.send(head.encode())
        assert client.response().status == 100
        client.send(b"hello")
        assert client.response().body == b"5"


def test_a_body_past_the_limit_is_a_413(shared_app: Nginx) -> None:
    assert shared_app.client.post("/small", content=b"x" * 1025).status_code == 413
    assert shared_app.client.post("/size", content=b"x" * 2_000_000).json() == 2_000_000


def test_a_body_in_many_small_pieces(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        client.send(b"POST /size HTTP/1.1\r\nHost: test\r\nContent-Length: 30\r\n\r\n")
        for _ in range(30):
            client.send(b"x")
        assert client.response().body == b"30"


def test_a_malformed_request_is_a_400(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert client.response().status == 400


def test_the_access_log_has_one_line_a_request(shared_app: Nginx) -> None:
    shared_app.client.get("/number/12345")
    shared_app.client.get("/number/12346")

    def lines() -> int:
        return sum("GET /number/1234" in line for line in shared_app.access())

    until("both lines", lambda: lines() >= 2)
    assert lines() == 2
