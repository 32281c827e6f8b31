"""
Where an application may be: TLS, HTTP/2, unix sockets, and its place among
the servers and locations of a configuration.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from harness import Nginx, SecureNginx

APP = """
import json

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse


def told(scope):
    return {
        "type": scope["type"],
        "scheme": scope["scheme"],
        "http_version": scope["http_version"],
        "server": scope["server"],
        "client": scope["client"],
        "root_path": scope["root_path"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode(),
        "host": [v.decode() for n, v in scope["headers"] if n == b"host"],
        "first": scope["headers"][0][0].decode(),
        "pseudo": [n.decode() for n, v in scope["headers"] if n.startswith(b":")],
        "query": scope["query_string"].decode(),
    }


async def app(scope, receive, send):
    if scope["type"] == "http":
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        await JSONResponse({**told(scope), "size": size})(scope, receive, send)


def site(name):
    application = FastAPI(title=name)

    @application.get("/named/{item}", name="named")
    async def named(request: Request, item: str):
        return {
            "site": name,
            "url": str(request.url),
            "named": str(request.url_for("named", item="other")),
            "root_path": request.scope["root_path"],
            "path": request.scope["path"],
        }

    return application


one = site("one")
two = site("two")
"""


class Place(SecureNginx):
    """One that also listens on a unix socket, and says whether it is well."""

    def open(self, certificate: str, app: str = APP, server: str = "", http: str = "") -> None:
        self.socket = f"{self.prefix}/nginx.sock"
        places = f"listen unix:{self.socket}; location /health {{ databridge_health; }}"
        super().open(certificate, app, places + server, http)

    def secure(self, http2: bool) -> httpx.Client:
        return httpx.Client(**self.security(http2))


@pytest.fixture(scope="module")
def place(certificate: str) -> Iterator[Place]:
    server = Place()
    try:
        server.open(certificate)
        yield server
    finally:
        problems = server.finish()
    assert not problems, "\n".join(problems)


def test_over_tls_the_scheme_is_https(place: Place) -> None:
    with place.secure(http2=False) as client:
        told = client.get("/x").json()
        assert (told["scheme"], told["http_version"]) == ("https", "1.1")
        assert told["server"] == ["127.0.0.1", place.tls]
        assert told["client"][0] == "127.0.0.1" and isinstance(told["client"][1], int)
    assert place.client.get("/x").json()["scheme"] == "http"


def test_http_2_is_told_as_the_specification_has_it(place: Place) -> None:
    with place.secure(http2=True) as client:
        answer = client.get("/a%2Fb?c=d")
        assert answer.http_version == "HTTP/2"
        told = answer.json()
        assert (told["http_version"], told["scheme"]) == ("2", "https")
        assert (told["path"], told["raw_path"], told["query"]) == ("/a/b", "/a%2Fb", "c=d")
        assert (told["first"], told["host"]) == ("host", [f"localhost:{place.tls}"])
        assert told["pseudo"] == []


def test_http_2_carries_bodies(place: Place) -> None:
    with place.secure(http2=True) as client:
        for size in (0, 1, 20_000, 3_000_000):
            assert client.post("/x", content=b"x" * size).json()["size"] == size
        assert client.get("/health").json() == {"status": "ok"}
        assert client.head("/x").content == b""


def test_http_2_carries_many_requests_at_once(place: Place) -> None:
    async def posted() -> list[httpx.Response]:
        async with httpx.AsyncClient(**place.security(http2=True)) as client:
            return await asyncio.gather(
                *(client.post(f"/{n}", content=b"x" * n * 1000) for n in range(50))
            )

    told = [answer.json() for answer in asyncio.run(posted())]
    assert [(one["path"], one["size"]) for one in told] == [(f"/{n}", n * 1000) for n in range(50)]


def test_a_unix_socket_has_a_path_and_no_port(place: Place) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(uds=place.socket)) as client:
        told = client.get("http://anything/x").json()
        assert told["server"] == [place.socket, None]
        assert told["client"] is None
        assert (told["scheme"], told["host"]) == ("http", ["anything"])


def test_http_1_0_is_told(place: Place) -> None:
    with place.raw() as client:
        client.send(b"GET /x HTTP/1.0\r\nHost: test\r\n\r\n")
        assert b'"http_version":"1.0"' in client.response().body


@pytest.fixture
def placed(make_nginx: Callable[..., Nginx]) -> Callable[..., Nginx]:
    def start(location: str = "", **configuration: Any) -> Nginx:
        server = make_nginx()
        server.write({"app.py": APP})
        (server.prefix / "site").mkdir()
        (server.prefix / "site/index.html").write_text("the page")
        for name, text in configuration.items():
            configuration[name] = text.replace("PREFIX", str(server.prefix)).replace(
                "PORT", str(server.port)
            )
        server.configure(location, **configuration)
        server.start()
        return server

    return start


def test_several_applications_share_a_server_each_with_its_root_path(
    placed: Callable[..., Nginx],
) -> None:
    server = placed(
        "databridge_app app:app;",
        server="""
            location /one/ { databridge_app app:one root_path=/one; }
            location /two/ { databridge_app app:two root_path=/two; }
            location /deep/er/ { databridge_app app:two root_path=/deep/er; }
        """,
    )
    base = server.base_url
    for name, root in (("one", "/one"), ("two", "/two"), ("two", "/deep/er")):
        assert server.client.get(f"{root}/named/a").json() == {
            "site": name,
            "url": f"{base}{root}/named/a",
            "named": f"{base}{root}/named/other",
            "root_path": root,
            "path": f"{root}/named/a",
        }
        assert f"url: '{root}/openapi.json'" in server.client.get(f"{root}/docs").text
        schema = server.client.get(f"{root}/openapi.json").json()
        assert (schema["info"]["title"], schema["servers"]) == (name, [{"url": root}])
        assert server.client.get(f"{root}/nothing").json() == {"detail": "Not Found"}
    assert server.client.get("/named/a").json()["root_path"] == ""


def test_an_application_in_each_of_two_servers(placed: Callable[..., Nginx]) -> None:
    server = placed(
        http="""
            server {
                listen 127.0.0.1:PORT;
                server_name one.example;
                location / { databridge_app app:one; }
            }
            server {
                listen 127.0.0.1:PORT;
                server_name two.example;
                location / { databridge_app app:two; }
            }
        """
    )
    for name in ("one", "two"):
        told = server.client.get("/named/a", headers={"Host": f"{name}.example"}).json()
        assert (told["site"], told["named"]) == (name, f"http://{name}.example/named/other")


def test_a_single_page_application_with_its_interface_beside_it(
    placed: Callable[..., Nginx],
) -> None:
    server = placed(
        server="""
            root PREFIX/site;
            location / { try_files $uri /index.html; }
            location /api/ { databridge_app app:one root_path=/api; }
        """
    )
    for path in ("/", "/index.html", "/some/view"):
        assert server.client.get(path).text == "the page"
    assert server.client.get("/api/named/x").json()["site"] == "one"


def test_try_files_falls_back_to_an_application(placed: Callable[..., Nginx]) -> None:
    server = placed(
        server="""
            root PREFIX/site;
            location / { try_files $uri @python; }
            location @python { databridge_app app:app; }
        """
    )
    assert server.client.get("/index.html").text == "the page"
    told = server.client.post("/a%20b?c=d", content=b"body").json()
    assert (told["path"], told["raw_path"], told["query"]) == ("/a b", "/a%20b", "c=d")
    assert (told["size"], told["root_path"]) == (4, "")


def test_regular_expressions_and_exact_locations(placed: Callable[..., Nginx]) -> None:
    server = placed(
        server="""
            location ~ ^/v[0-9]+/ { databridge_app app:app; }
            location = /exact { databridge_app app:app; }
            location ~* \\.page$ { databridge_app app:app; }
            location / { return 404; }
        """
    )
    for path in ("/v1/x", "/exact", "/A.PAGE"):
        assert server.client.get(path).json()["path"] == path
    for path in ("/vx/", "/exact/", "/a.pages"):
        assert server.client.get(path).status_code == 404
