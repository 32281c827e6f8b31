"""nginx's own guards before an application: who may ask, how often, and as whom."""

from collections.abc import Callable
from typing import Any

import pytest

from harness import Nginx

APP = """
import json


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = dict(scope["headers"])
    told = {
        "path": scope["path"],
        "query": scope["query_string"].decode(),
        "method": scope["method"],
        "body": body.decode(),
        "extensions": scope["extensions"].get("databridge"),
    }
    status = int(headers.get(b"x-status", b"200"))
    if scope["path"].startswith("/status/"):
        status = int(scope["path"][8:])
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", b"application/json"), (b"x-app", b"1")],
        }
    )
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})
"""


PASSWORDS = "anna:{PLAIN}secret\nj\u00f6rg:{PLAIN}secret\n"

BASIC = "auth_basic here; auth_basic_user_file USERS;"


@pytest.fixture
def guarded(make_nginx: Callable[..., Nginx]) -> Callable[..., Nginx]:
    """Starts nginx with APP and a password file, USERS in the configuration."""

    def start(server: str, **configuration: Any) -> Nginx:
        started = make_nginx()
        users = started.prefix / "users"
        users.write_text(PASSWORDS)
        users.chmod(0o644)
        started.write({"app.py": APP})
        started.configure(server=server.replace("USERS", str(users)), **configuration)
        started.start()
        return started

    return start


def test_auth_basic_guards_an_application(guarded: Callable[..., Nginx]) -> None:
    server = guarded(f"location / {{ databridge_app app:app; {BASIC} }}")
    answer = server.client.get("/")
    assert (answer.status_code, "x-app" in answer.headers) == (401, False)
    assert answer.headers["www-authenticate"] == 'Basic realm="here"'
    assert server.client.get("/", auth=("anna", "wrong")).status_code == 401
    assert server.client.get("/", auth=("anna", "secret")).headers["x-app"] == "1"


def test_the_application_is_told_whom_nginx_has_authenticated(
    guarded: Callable[..., Nginx],
) -> None:
    server = guarded(f"location / {{ databridge_app app:app; {BASIC} }}")
    for name in ("anna", "j\u00f6rg"):
        told = server.client.get("/", auth=(name, "secret")).json()
        assert told["extensions"] == {"remote_user": name}


def test_a_name_that_nobody_has_verified_does_not_reach_the_application(
    guarded: Callable[..., Nginx],
) -> None:
    """The configuration may look at $remote_user, as its log and its limits do."""
    server = guarded(
        f"""
        set $claimed $remote_user;
        limit_req zone=users burst=100 nodelay;
        location / {{ databridge_app app:app; }}
        location /any {{
            databridge_app app:app;
            satisfy any; allow 127.0.0.1; deny all; {BASIC}
        }}
        location /either {{
            databridge_app app:app;
            satisfy any; auth_request /yes; {BASIC}
        }}
        location = /yes {{ return 204; }}
        """,
        http="limit_req_zone $remote_user zone=users:64k rate=1000r/s;",
    )
    for path in ("/", "/any", "/either"):
        told = server.client.get(path, auth=("anna", "wrong")).json()
        assert (path, told["extensions"]) == (path, None)
    told = server.client.get("/either", auth=("anna", "secret")).json()
    assert told["extensions"] == {"remote_user": "anna"}
