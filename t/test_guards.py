"""nginx's own guards before an application: who may ask, how often, and as whom."""

import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from harness import DATABRIDGE, Nginx, processes
from harness.settings import server_env

APP = """
import asyncio
import json
import logging

from databridge import Model

BIG = 200_000


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(0.2)
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if scope["path"] == "/mirror":
        logging.getLogger().warning("mirrored %s %d", scope["method"], len(body))
    told = {
        "path": scope["path"],
        "query": scope["query_string"].decode(),
        "method": scope["method"],
        "body": body.decode(),
        "extensions": scope["extensions"].get("databridge"),
    }
    status = 200
    headers = [(b"content-type", b"application/json"), (b"x-app", b"1")]
    if scope["path"].startswith("/status/"):
        status = int(scope["path"][8:])
    if status == 401:
        headers.append((b"www-authenticate", b"Custom"))
    answer = json.dumps(told).encode()
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200})
        for _ in range(10):
            await send({"type": "http.response.body", "body": b"s" * BIG, "more_body": True})
        await send({"type": "http.response.body"})
        logging.getLogger().warning("streamed")
        return
    if scope["path"] == "/big":
        answer = b"b" * BIG
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": headers,
        }
    )
    await send({"type": "http.response.body", "body": answer})


class Article(Model):
    title: str
"""


BIG = 200_000

PASSWORDS = "anna:{PLAIN}secret\nj\u00f6rg:{PLAIN}secret\n"

BASIC = "auth_basic here; auth_basic_user_file USERS;"


def schema(server: Nginx) -> str:
    return subprocess.run(
        [DATABRIDGE, "schema", "app:Article", "--app-dir", str(server.app)],
        env=server_env(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.fixture
def guarded(make_nginx: Callable[..., Nginx]) -> Callable[..., Nginx]:
    """Starts nginx with APP and a password file, USERS in the configuration."""

    def start(server: str, **configuration: Any) -> Nginx:
        started = make_nginx()
        users = started.prefix / "users"
        users.write_text(PASSWORDS)
        users.chmod(0o644)
        started.write({"app.py": APP})
        http = configuration.pop("http", "")
        if "SCHEMA" in server:
            (started.prefix / "schema").write_text(schema(started))
            http += f"databridge_store main sqlite:{started.prefix}/t.db;"
        for name in ("USERS", "SCHEMA"):
            server = server.replace(name, str(started.prefix / name.lower()))
        server = server.replace("PREFIX", str(started.prefix))
        started.configure(server=server, http=http, **configuration)
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


def test_a_page_that_tells_a_name_does_not_verify_it(guarded: Callable[..., Nginx]) -> None:
    server = guarded(
        f"""
        location / {{ databridge_app app:app; }}
        location = /page {{
            alias PREFIX/page; ssi on; ssi_types *; add_header X-User $remote_user;
        }}
        location = /guarded {{
            alias PREFIX/page; ssi on; ssi_types *; add_header X-User $remote_user; {BASIC}
        }}
        """
    )
    (server.prefix / "page").write_text('<!--#include virtual="/included" -->')
    for path, password, told in (
        ("/page", "?", None),
        ("/guarded", "secret", {"remote_user": "anna"}),
    ):
        answer = server.client.get(path, auth=("anna", password))
        assert answer.headers["x-user"] == "anna"
        assert answer.json()["extensions"] == told


def test_auth_request_guards_an_application(guarded: Callable[..., Nginx]) -> None:
    server = guarded(
        """
        location / { databridge_app app:app; auth_request /verdict; }
        location = /verdict { internal; return 403; }
        location /open { databridge_app app:app; auth_request /yes; }
        location = /yes { internal; return 204; }
        """
    )
    answer = server.client.get("/")
    assert (answer.status_code, "x-app" in answer.headers) == (403, False)
    assert server.client.post("/open", content=b"body").json()["body"] == "body"


VERDICTS = {200: 200, 204: 200, 401: 401, 403: 403, 404: 500, 503: 500}


@pytest.mark.parametrize("content", ["databridge_app app:app;", "alias PREFIX/file;"])
def test_an_application_decides_who_may_ask(guarded: Callable[..., Nginx], content: str) -> None:
    """auth_request to an application, before one and before what nginx serves itself."""
    server = guarded(
        "location /status/ { internal; databridge_app app:app; }"
        + "".join(
            f"location /guarded{verdict} {{ {content} auth_request /status/{verdict}; }}"
            for verdict in VERDICTS
        )
    )
    (server.prefix / "file").write_text("file")
    for verdict, status in VERDICTS.items():
        answer = server.client.get(f"/guarded{verdict}")
        assert (verdict, answer.status_code) == (verdict, status)
        if status == 401:
            assert answer.headers["www-authenticate"] == "Custom"
    if "alias" not in content:
        for size in (0, 3, 100_000):
            told = server.client.post("/guarded200", content=b"x" * size).json()
            assert (told["method"], len(told["body"])) == ("POST", size)


def test_auth_request_may_ask_a_native_collection(guarded: Callable[..., Nginx]) -> None:
    server = guarded(
        """
        location /articles { databridge_crud article schema=SCHEMA store=main; }
        location /guarded/ {
            rewrite ^/guarded/(.*) /$1 break;
            databridge_app app:app;
            auth_request /articles;
        }
        location /refused/ { databridge_app app:app; auth_request /articles/none; }
        """
    )
    assert server.client.post("/articles", json={"title": "x"}).status_code == 201
    assert server.client.get("/guarded/page").json()["path"] == "/page"
    assert server.client.get("/refused/page").status_code == 500
    server.logged("auth request unexpected status: 404")


def test_a_slow_verdict_times_out(guarded: Callable[..., Nginx]) -> None:
    server = guarded(
        """
        location / { databridge_app app:app; auth_request /slow; }
        location = /slow { internal; databridge_app app:app; databridge_timeout 50ms; }
        """
    )
    assert server.client.get("/").status_code == 500
    server.logged("no response within 50 ms")
    server.logged("auth request unexpected status: 504")


def test_limit_req_and_limit_except_guard_an_application(guarded: Callable[..., Nginx]) -> None:
    server = guarded(
        """
        location / { databridge_app app:app; limit_req zone=all; limit_req_status 429; }
        location /read {
            databridge_app app:app;
            limit_except GET { deny all; }
        }
        location /articles {
            databridge_crud article schema=SCHEMA store=main;
            limit_except GET { auth_basic here; auth_basic_user_file USERS; }
        }
        """,
        http="limit_req_zone $binary_remote_addr zone=all:64k rate=1r/m;",
    )
    assert [server.client.get("/").status_code for _ in range(3)] == [200, 429, 429]
    assert server.client.get("/read").headers["x-app"] == "1"
    assert server.client.post("/read").status_code == 403
    assert server.client.get("/articles").status_code == 200
    assert server.client.post("/articles", json={"title": "x"}).status_code == 401
    allowed = server.client.post("/articles", json={"title": "x"}, auth=("anna", "secret"))
    assert allowed.status_code == 201


@pytest.mark.parametrize(
    "block",
    ["limit_except POST { allow all; }", "if ($http_x_mark) { set $mark 1; }"],
)
def test_blocks_within_a_location_leave_what_it_serves(
    guarded: Callable[..., Nginx], block: str
) -> None:
    server = guarded(
        f"""
        location / {{ databridge_app app:app; {block} }}
        location /articles {{ databridge_crud article schema=SCHEMA store=main; {block} }}
        location = /health {{ databridge_health; {block} }}
        location = /metrics {{ databridge_metrics json; {block} }}
        """
    )
    for path in ("/", "/articles", "/health", "/metrics"):
        answer = server.client.get(path, headers={"X-Mark": "1"})
        assert answer.status_code == 200, path
        assert answer.headers["content-type"] == "application/json"


def test_a_page_may_include_applications_and_collections(guarded: Callable[..., Nginx]) -> None:
    """Their answers come in the order of the page, whichever is ready first."""
    server = guarded(
        """
        location = /page {
            ssi on; default_type text/html; alias PREFIX/page.html;
        }
        location /part/ { databridge_app app:app; }
        location /slow { databridge_app app:app; }
        location /big { databridge_app app:app; }
        location /articles { databridge_crud article schema=SCHEMA store=main; }
        """
    )
    (server.prefix / "page.html").write_text(
        "1<!--# include virtual='/slow' -->2<!--# include virtual='/part/a?b=c' -->"
        "3<!--# include virtual='/big' -->4<!--# include virtual='/articles' -->5"
    )
    for _ in range(3):
        text = server.client.get("/page").text
        first, rest = text.split("2{", 1)
        second, rest = rest.split("3bbbb", 1)
        big, rest = rest.split("4", 1)
        assert json.loads(first[1:])["path"] == "/slow"
        told = json.loads("{" + second)
        assert (told["path"], told["query"], told["method"]) == ("/part/a", "b=c", "GET")
        assert big == "b" * (BIG - 4)
        assert rest == '{"items":[],"limit":20,"skip":0}5'


def test_a_mirror_gets_the_body_too(guarded: Callable[..., Nginx]) -> None:
    server = guarded(
        """
        location / { databridge_app app:app; mirror /mirror; }
        location = /mirror { internal; databridge_app app:app; }
        """
    )
    for size in (0, 10, 1_000_000):
        told = server.client.post("/x", content=b"x" * size).json()
        assert (told["path"], len(told["body"])) == ("/x", size)
    server.logged(r"mirrored POST 0$")
    server.logged(r"mirrored POST 10$")
    server.logged(r"mirrored POST 1000000$")


def test_a_page_may_include_a_stream_that_has_to_wait(guarded: Callable[..., Nginx]) -> None:
    server = guarded(
        """
        location / { databridge_app app:app; }
        location = /page { ssi on; default_type text/html; alias PREFIX/page; }
        """
    )
    page = '<!--#include virtual="/slow" --><!--#include virtual="/stream" -->end'
    (server.prefix / "page").write_text(page)
    text = server.client.get("/page").text
    assert text.endswith("s" * 10 * BIG + "end")


def test_a_mirror_may_stream_its_answer(guarded: Callable[..., Nginx]) -> None:
    """It goes nowhere; the application is to learn that it has left."""
    server = guarded(
        """
        location / { databridge_app app:app; }
        location = /mirrored { mirror /stream; databridge_app app:app; }
        """
    )
    assert server.client.get("/mirrored").status_code == 200
    assert server.logged("streamed")


def test_a_page_for_errors_may_be_an_application(guarded: Callable[..., Nginx]) -> None:
    server = guarded(
        """
        location / { return 404; error_page 404 /sorry?why=missing; }
        location /code { return 404; error_page 404 =200 /sorry; }
        location /named { return 410; error_page 410 @sorry; }
        location /slow { databridge_app app:app; databridge_timeout 50ms; error_page 504 /sorry; }
        location = /sorry { internal; databridge_app app:app; }
        location @sorry { databridge_app app:app; }
        """
    )
    answer = server.client.post("/what", content=b"body")
    assert answer.status_code == 404
    told = answer.json()
    assert (told["path"], told["query"], told["method"]) == ("/sorry", "why=missing", "GET")
    assert server.client.get("/code").status_code == 200
    answer = server.client.get("/named/x?a=b")
    assert (answer.status_code, answer.json()["path"]) == (410, "/named/x")
    answer = server.client.get("/slow")
    assert (answer.status_code, answer.json()["path"]) == (504, "/sorry")


@pytest.mark.parametrize(
    ("page", "http2"), [("@sorry", False), ("@sorry", True), ("/articles", False)]
)
def test_what_was_begun_of_a_body_is_not_for_the_page_of_its_error(
    guarded: Callable[..., Nginx], page: str, http2: bool
) -> None:
    port = processes.free_port()
    server = guarded(
        f"""
        listen 127.0.0.1:{port} http2;
        location = /slow {{
            databridge_app app:app; databridge_timeout 50ms; error_page 504 {page};
        }}
        location @sorry {{ rewrite ^ /sorry break; databridge_app app:app; }}
        location = /ready {{ databridge_app app:app; }}
        location /articles {{ databridge_crud article schema=SCHEMA store=main; }}
        """
    )

    def body() -> Iterator[bytes]:
        """More than is read for an application that does not ask."""
        for _ in range(20):
            yield b"x" * 100_000

    base = f"http://127.0.0.1:{port if http2 else server.port}"
    with httpx.Client(base_url=base, http1=not http2, http2=http2) as client:
        client.get("/ready")
        answer = client.post("/slow", content=body())
        assert (answer.status_code, answer.http_version[5]) == (504, "2" if http2 else "1")
        told = answer.json()
        assert told.get("items") == [] if page == "/articles" else told["body"] == ""
        assert client.get("/articles").status_code == 200


@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
def test_a_body_that_nginx_drops_is_not_asked_for_again(
    guarded: Callable[..., Nginx], expect: str
) -> None:
    server = guarded(
        """
        location / {
            set $memcached_key x; memcached_pass unix:/nowhere; error_page 502 = @app;
        }
        location @app { databridge_app app:app; }
        """
    )
    with server.raw() as client:
        client.get("/first", f"{expect}Content-Length: 4\r\n")
        if expect:
            assert client.head().status == 100
        answer = client.response()
        assert (answer.status, json.loads(answer.body)["body"]) == (200, "")
        client.send(b"body")
        client.get("/second")
        assert json.loads(client.response().body)["path"] == "/second"


HANDSHAKE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.mark.parametrize("filters", ["ssi on; ssi_types *;", "sub_filter a b; sub_filter_types *;"])
def test_a_filter_does_not_keep_the_answer_to_a_handshake(
    make_nginx: Callable[..., Nginx], filters: str
) -> None:
    server = make_nginx()
    server.write(
        {
            "app.py": """
            async def app(scope, receive, send):
                if scope["type"] == "websocket":
                    await send({"type": "websocket.accept"})
                    await send({"type": "websocket.send", "text": "hello"})
                    await receive()
            """
        }
    )
    server.configure(f"databridge_app app:app; {filters}")
    server.start()
    with server.raw() as client:
        client.get("/", HANDSHAKE)
        assert client.head().status == 101
        assert client.exactly(7) == b"\x81\x05hello"


def test_quit_leaves_what_answers_for_a_handshake_that_timed_out(
    guarded: Callable[..., Nginx],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        server = guarded(
            f"""
            location = /ready {{ databridge_app app:app; }}
            location = /slow {{
                databridge_app app:app; databridge_timeout 50ms; error_page 504 @other;
            }}
            location @other {{ proxy_pass http://127.0.0.1:{other.getsockname()[1]}; }}
            """
        )
        server.client.get("/ready")
        with server.raw() as client:
            client.get("/slow", HANDSHAKE)
            connection, _ = other.accept()
            with connection:
                server.kill(signal.SIGQUIT)
                server.logged("gracefully shutting down")
                connection.recv(65536)
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nlate")
            answer = client.response()
    assert (answer.status, answer.body) == (504, b"late")


def test_a_rewritten_path_reaches_the_application(guarded: Callable[..., Nginx]) -> None:
    server = guarded(
        """
        location /old/ { rewrite ^/old/(.*) /new/$1 last; }
        location /new/ { databridge_app app:app; }
        location /strip/ { rewrite ^/strip(/.*) $1 break; databridge_app app:app; }
        location /short { rewrite ^ /x break; databridge_crud article schema=SCHEMA store=main; }
        """
    )
    assert server.client.get("/old/a%20b?c=d").json()["path"] == "/new/a b"
    assert server.client.get("/strip/x/y").json()["path"] == "/x/y"
    assert server.client.get("/short/1").json() == {"detail": "Not Found"}


def test_if_blocks_serve_what_their_location_does(guarded: Callable[..., Nginx]) -> None:
    server = guarded(
        """
        location / {
            databridge_app app:app;
            if ($http_x_mark) { add_header X-Marked yes; }
            if ($arg_away) { return 204; }
        }
        location /articles {
            databridge_crud article schema=SCHEMA store=main;
            if ($http_x_mark) { add_header X-Marked yes; }
        }
        location /either {
            alias PREFIX/file;
            if ($http_x_python) { databridge_app app:app; }
        }
        location /health {
            databridge_health;
            if ($http_x_mark) { add_header X-Marked yes; }
        }
        """
    )
    (server.prefix / "file").write_text("file")
    for path in ("/", "/articles", "/health"):
        plain, marked = (
            server.client.get(path, headers=headers) for headers in ({}, {"X-Mark": "1"})
        )
        assert ("x-marked" in plain.headers, "x-marked" in marked.headers) == (False, True)
        assert (plain.status_code, marked.status_code) == (200, 200)
    assert server.client.get("/?away=1").status_code == 204
    assert server.client.get("/either").text == "file"
    assert server.client.get("/either", headers={"X-Python": "1"}).json()["path"] == "/either"


def test_a_preflight_may_pass_where_requests_need_a_password(guarded: Callable[..., Nginx]) -> None:
    """As README has it: a browser sends no password with a preflight."""
    server = guarded(
        f"""
        databridge_cors origins=https://a.example credentials=on;
        location /articles {{
            databridge_crud article schema=SCHEMA store=main;
            limit_except OPTIONS {{ {BASIC} }}
        }}
        """
    )
    origin = {"Origin": "https://a.example"}
    preflight = server.client.options(
        "/articles", headers={**origin, "Access-Control-Request-Method": "GET"}
    )
    assert (preflight.status_code, preflight.text) == (200, "OK")
    assert server.client.get("/articles", headers=origin).status_code == 401
    answer = server.client.get("/articles", headers=origin, auth=("anna", "secret"))
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
