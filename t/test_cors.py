"""
CORS of native answers and preflights, beside Starlette's CORSMiddleware under
uvicorn: by databridge_cors, and by the middleware of an application.
"""

import itertools
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from harness import DATABRIDGE, Nginx, Uvicorn
from harness.settings import server_env

CONFIGURATIONS: list[dict[str, Any]] = [
    {
        "allow_origins": ["https://a.example", "https://b.example"],
        "allow_methods": ["GET", "POST"],
        "allow_headers": ["X-A", "x-b"],
        "allow_credentials": True,
        "expose_headers": ["X-Total"],
    },
    {"allow_origins": ["*"]},
    {"allow_origins": ["*"], "allow_credentials": True, "max_age": 0},
    {"allow_origins": ["*"], "allow_methods": ["*"], "allow_headers": ["*"]},
    {
        "allow_origins": ["https://a.example"],
        "allow_headers": ["*"],
        "allow_credentials": True,
        "expose_headers": ["X-One", "X-Two"],
    },
    {
        "allow_origins": ["null", "https://a.example"],
        "allow_methods": ["POST", "DELETE", "GET"],
        "allow_headers": ["accept", "X-A", "Accept"],
        "allow_private_network": True,
        "max_age": 86400,
    },
]

ORIGINS = [None, "", "null", "https://a.example", "https://b.example", "HTTPS://A.example"]
METHODS = ["GET", "DELETE", "get", "BREW"]
HEADERS = [None, "", "X-A", "x-a, X-B", "X-A,X-C", "content-type , X-A", "X-A,"]

REFERENCE = """
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse

CONFIGURATIONS = {configurations}

policies = [
    CORSMiddleware(JSONResponse({{}}), **configuration) for configuration in CONFIGURATIONS
]


async def app(scope, receive, send):
    if scope["type"] == "http" and scope["path"] != "/":
        await policies[int(scope["path"].split("/")[1][1:])](scope, receive, send)
    elif scope["type"] == "http":
        await JSONResponse({{}})(scope, receive, send)
"""

APP = """
from databridge import App, Model
from fastapi.middleware.cors import CORSMiddleware

CONFIGURATIONS = {configurations}


class Article(Model):
    title: str


def make(configuration=None):
    app = App()
    app.crud_routes(Article, prefix="/articles")
    app.native("/constant", json="constant")

    @app.get("/python")
    async def python():
        return "python"

    if configuration is not None:
        app.add_middleware(CORSMiddleware, **configuration)
    return app


plain = make()
""" + "\n".join(f"app{i} = make(CONFIGURATIONS[{i}])" for i in range(len(CONFIGURATIONS)))


def directive(configuration: dict[str, Any]) -> str:
    words = []
    for name, value in configuration.items():
        name = {"expose_headers": "expose"}.get(name, name.removeprefix("allow_"))
        if isinstance(value, bool):
            value = "on" if value else "off"
        words.append(f"'{name}={' '.join(value) if isinstance(value, list) else value}'")
    return f"databridge_cors {' '.join(words)};"


def locations(index: int, schema: str) -> str:
    """d: native by nginx.conf; p: an application, policy of nginx.conf; a: its own."""
    cors = directive(CONFIGURATIONS[index])
    return f"""
        location /d{index}/articles {{ databridge_crud article schema={schema}; {cors} }}
        location /d{index}/constant {{ databridge_health; {cors} }}
        location /p{index} {{ databridge_app app:plain root_path=/p{index}; {cors} }}
        location /a{index} {{ databridge_app app:app{index} root_path=/a{index}; }}
    """


@pytest.fixture(scope="module")
def ours() -> Iterator[Nginx]:
    server = Nginx()
    server.write({"app.py": APP.format(configurations=CONFIGURATIONS)})
    schema = server.prefix / "article.schema.json"
    schema.write_text(
        subprocess.run(
            [DATABRIDGE, "schema", "app:Article", "--app-dir", str(server.app)],
            env=server_env(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    server.configure(
        "databridge_app app:plain;",
        http=f"databridge_store main sqlite:{server.prefix}/t.db;",
        server="".join(locations(index, str(schema)) for index in range(len(CONFIGURATIONS))),
    )
    try:
        server.start("/python")
        yield server
    finally:
        problems = server.finish()
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="module")
def theirs() -> Iterator[Uvicorn]:
    server = Uvicorn()
    server.write({"app.py": REFERENCE.format(configurations=CONFIGURATIONS)})
    try:
        server.run("app:app")
        yield server
    finally:
        problems = server.finish()
    assert not problems, "\n".join(problems)


def cors(answer: httpx.Response) -> dict[str, str]:
    return {
        name: ", ".join(answer.headers.get_list(name))
        for name in answer.headers
        if name == "vary" or name.startswith("access-control-")
    }


def given(**headers: str | None) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items() if value is not None}


@pytest.mark.parametrize(
    "path",
    [
        "d{}/articles",
        "d{}/articles/1",
        "d{}/constant",
        "p{}/articles",
        "p{}/constant",
        "a{}/articles/1",
        "a{}/constant",
        "a{}/python",
    ],
)
@pytest.mark.parametrize("index", range(len(CONFIGURATIONS)))
def test_a_preflight_is_answered_as_starlette_does(
    ours: Nginx, theirs: Uvicorn, index: int, path: str
) -> None:
    path = f"/{path.format(index)}"
    for origin, method, names, private in itertools.product(
        ORIGINS[1:], METHODS, HEADERS, [None, "true"]
    ):
        if (names, private) != (None, None) and (origin, method) not in SOME:
            continue
        headers = given(
            origin=origin,
            access_control_request_method=method,
            access_control_request_headers=names,
            access_control_request_private_network=private,
        )
        one, two = (server.client.options(path, headers=headers) for server in (ours, theirs))
        assert (one.status_code, one.text) == (two.status_code, two.text), headers
        assert cors(one) == cors(two), headers
        for name in ("content-type", "content-length"):
            assert one.headers[name] == two.headers[name], headers


SOME = [("https://a.example", "GET"), ("https://b.example", "BREW"), ("null", "DELETE")]

REQUESTS = [
    ("GET", "articles", None, 200),
    ("POST", "articles", {"title": "x"}, 201),
    ("POST", "articles", {}, 422),
    ("GET", "articles/none", None, 404),
    ("PUT", "articles", {}, 405),
    ("OPTIONS", "articles", None, 405),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), REQUESTS)
@pytest.mark.parametrize("index", range(len(CONFIGURATIONS)))
def test_every_native_answer_has_the_headers_that_starlette_adds(
    ours: Nginx, theirs: Uvicorn, index: int, method: str, path: str, body: Any, status: int
) -> None:
    for kind, origin, cookie in itertools.product("dpa", ORIGINS, [None, "a=b"]):
        headers = given(origin=origin, cookie=cookie)
        url = f"/{kind}{index}/{path}"
        one, two = (
            server.client.request(method, url, headers=headers, json=body)
            for server in (ours, theirs)
        )
        assert (url, one.status_code) == (url, status)
        assert cors(one) == cors(two), (url, headers)


@pytest.mark.parametrize("index", range(len(CONFIGURATIONS)))
def test_what_python_answers_has_its_own_headers_once(
    ours: Nginx, theirs: Uvicorn, index: int
) -> None:
    """The application's middleware acts alone; without one there are no headers."""
    for origin in ORIGINS:
        headers = given(origin=origin)
        own = ours.client.get(f"/a{index}/python", headers=headers)
        assert own.json() == "python"
        assert cors(own) == cors(theirs.client.get(f"/a{index}/python", headers=headers))
        none = ours.client.get(f"/p{index}/python", headers=headers)
        assert (none.json(), cors(none)) == ("python", {})
        native = ours.client.get(f"/p{index}/constant", headers=headers)
        assert cors(native) == cors(theirs.client.get(f"/p{index}/constant", headers=headers))


def test_an_application_without_policy_answers_without_headers(ours: Nginx) -> None:
    headers = given(origin="https://a.example", access_control_request_method="GET")
    for path in ("/articles", "/constant", "/python"):
        assert cors(ours.client.get(path, headers=headers)) == {}
        assert ours.client.options(path, headers=headers).status_code == 405


def test_off_takes_a_policy_back_and_a_location_replaces_it(
    make_nginx: Callable[..., Nginx],
) -> None:
    server = make_nginx()
    server.configure(
        "databridge_health;",
        databridge="",
        http="databridge_cors origins=*;",
        server="""
            location = /off { databridge_health; databridge_cors off; }
            location = /one { databridge_health; databridge_cors origins=https://a.example; }
        """,
    )
    server.start()
    headers = given(origin="https://a.example")
    allowed = [
        server.client.get(path, headers=headers).headers.get("access-control-allow-origin")
        for path in ("/", "/off", "/one")
    ]
    assert allowed == ["*", None, "https://a.example"]


def test_origins_by_pattern_stay_with_python_and_the_log_says_so(app: Any) -> None:
    server = app(
        """
        from databridge import App
        from fastapi.middleware.cors import CORSMiddleware

        app = App()
        app.add_middleware(CORSMiddleware, allow_origin_regex="https://.*")
        app.native("/constant", json=1)

        @app.get("/")
        async def root():
            return "here"
        """
    )
    headers = given(origin="https://a.example")
    server.logged("native routes answer without CORS headers.*databridge_cors")
    assert cors(server.client.get("/constant", headers=headers)) == {}
    assert server.client.get("/", headers=headers).headers["vary"] == "Origin"
