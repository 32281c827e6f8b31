"""What App answers when a handler fails, without nginx."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse

from databridge import App, DatabaseError
from harness.inprocess import call, client_of


def failing(**options: Any) -> App:
    app = App(**options)

    @app.get("/crash")
    async def crash() -> None:
        raise KeyError("missing")

    @app.get("/half")
    async def half() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"half"
            raise KeyError("in the middle")

        return StreamingResponse(chunks())

    @app.get("/database/{status}")
    async def database(status: int) -> None:
        raise DatabaseError("UNIQUE constraint failed: secret", status_code=status)

    return app


def test_an_unhandled_exception_is_answered_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = client_of(failing(), raise_server_exceptions=False).get("/crash")
    assert answer.status_code == 500
    assert answer.json() == {"detail": "Internal Server Error"}
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("databridge", logging.ERROR)
    assert f"request {answer.headers['x-request-id']}: " in record.getMessage()
    assert record.exc_info is not None and record.exc_info[0] is KeyError


def test_a_test_client_sees_the_exception() -> None:
    with pytest.raises(KeyError, match="missing"):
        client_of(failing()).get("/crash")


def test_a_server_does_not_see_what_was_answered() -> None:
    messages, _ = asyncio.run(call(failing(), "/crash"))
    assert [m["type"] for m in messages] == ["http.response.start", "http.response.body"]


def test_an_exception_after_the_start_reaches_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(KeyError, match="in the middle"):
        asyncio.run(call(failing(), "/half"))
    assert caplog.records == []


@pytest.mark.parametrize("key", [Exception, 500])
def test_the_users_own_handler_is_left_alone(key: int | type[Exception]) -> None:
    app = failing()

    @app.exception_handler(key)
    async def mine(request: Request, exc: Exception) -> PlainTextResponse:
        return PlainTextResponse("mine", 500)

    answer = client_of(app, raise_server_exceptions=False).get("/crash")
    assert (answer.text, "x-request-id" in answer.headers) == ("mine", False)


def test_debug_keeps_starlettes_page() -> None:
    answer = client_of(failing(debug=True), raise_server_exceptions=False).get("/crash")
    assert "Traceback" in answer.text


@pytest.mark.parametrize(
    ("status", "kind"), [(409, "conflict"), (503, "unavailable"), (504, "timeout")]
)
def test_a_database_error_has_a_status_and_keeps_its_text(
    status: int, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "databridge"):
        answer = client_of(failing()).get(f"/database/{status}")
    assert answer.status_code == status
    assert "secret" not in answer.text
    assert "secret" in caplog.text
    assert DatabaseError(status_code=status).kind == kind
    assert ("retry-after" in answer.headers) == (status == 503)


def test_a_database_error_of_another_status_is_refused() -> None:
    with pytest.raises(ValueError, match="409, 503 or 504"):
        DatabaseError("x", status_code=500)
