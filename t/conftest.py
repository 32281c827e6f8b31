"""Fixtures: each starts real servers and fails the test on what they leave behind."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import hypothesis
import pytest
from pymongo import MongoClient

from harness import SLOWER, MongoServer, Nginx, Server, Uvicorn
from harness.asgi import KIT, PEERS, UVICORN_FAILS, Peer

# the same examples each time, whatever a busy machine makes of their times

hypothesis.settings.register_profile(
    "same",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("same")

# a shell has its background jobs ignore it, and so would all that tests start
signal.signal(signal.SIGINT, signal.default_int_handler)


class StartNginx(Protocol):
    def __call__(
        self,
        location: str = "",
        *,
        files: Mapping[str, str] | None = None,
        ready: str | None = None,
        plain: bool = False,
        **configuration: Any,
    ) -> Nginx: ...


class StartApp(Protocol):
    def __call__(self, code: str, *, ready: str | None = "/", **configuration: Any) -> Nginx: ...


class StartServer(Protocol):
    def __call__(self, files: Mapping[str, str], *options: str, ready: str = "/") -> Server: ...


StartUvicorn = Callable[[str], Uvicorn]
MakeCommand = Callable[[str], Server | Uvicorn]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A sanitized server may take its time; uvicorn may fail where we say so."""
    for item in items:
        if reason := UVICORN_FAILS.get(item.nodeid.rpartition("/")[2]):
            run = not reason.startswith("waits")
            item.add_marker(pytest.mark.xfail(strict=True, run=run, reason=reason))

        if SLOWER > 1 and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(300 * SLOWER))


def _finish(servers: list[Any]) -> None:
    problems = [problem for server in servers for problem in server.finish()]

    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@contextmanager
def _finished(server: Any) -> Iterator[None]:
    """Finishes the server at the end, quietly when it has not even started."""
    try:
        yield
    except BaseException:
        server.finish()
        raise

    _finish([server])


@pytest.fixture
def make_nginx() -> Iterator[Callable[..., Nginx]]:
    """Makes an Nginx that the test configures and starts itself."""
    servers: list[Nginx] = []

    def make(plain: bool = False) -> Nginx:
        servers.append(Nginx(plain))
        return servers[-1]

    yield make
    _finish(servers)


@pytest.fixture
def nginx(make_nginx: Callable[..., Nginx]) -> StartNginx:
    """Starts nginx with what "location /" holds and the application's files."""

    def start(
        location: str = "",
        *,
        files: Mapping[str, str] | None = None,
        ready: str | None = None,
        plain: bool = False,
        **configuration: Any,
    ) -> Nginx:
        server = make_nginx(plain)
        server.write(files or {})
        server.configure(location, **configuration)
        server.start(ready)
        return server

    return start


@pytest.fixture
def app(nginx: StartNginx) -> StartApp:
    """Starts nginx with one application, the "app" of this code."""

    def start(code: str, *, ready: str | None = "/", **configuration: Any) -> Nginx:
        location = "databridge_app app:app; " + configuration.pop("location", "")
        return nginx(location, files={"app.py": code}, ready=ready, **configuration)

    return start


@pytest.fixture(scope="module")
def shared_app(request: pytest.FixtureRequest) -> Iterator[Nginx]:
    """nginx with the APP of the test's module, for all of its tests."""
    server = Nginx()
    server.write({"app.py": request.module.APP})
    server.configure("databridge_app app:app;", **getattr(request.module, "CONFIGURATION", {}))

    with _finished(server):
        server.start("/")
        yield server


@pytest.fixture(scope="module")
def shared_uvicorn(request: pytest.FixtureRequest) -> Iterator[Uvicorn]:
    """uvicorn with the APP of the test's module."""
    server = Uvicorn()
    server.write({"app.py": request.module.APP})

    with _finished(server):
        server.run("app:app")
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory with cert.pem, for localhost, and key.pem."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"),
        ],
        check=True,
        capture_output=True,
    )
    return str(folder)


@pytest.fixture(scope="module", params=PEERS)
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    """The ASGI cases in the APP of the test's module, under each of the servers."""
    server = Nginx() if request.param == "databridge" else Uvicorn()
    server.write({"app.py": request.module.APP, "kit.py": KIT})

    with _finished(server):
        if isinstance(server, Nginx):
            server.configure("databridge_app app:app;")
            server.start("/")
        else:
            server.run("app:app")

        with Peer(request.param, server) as peer:
            yield peer


@pytest.fixture(params=PEERS)
def commands(request: pytest.FixtureRequest) -> Iterator[MakeCommand]:
    """Makes each of the servers' commands, with an app.py of this code."""
    servers: list[Server | Uvicorn] = []

    def make(code: str) -> Server | Uvicorn:
        server = Server() if request.param == "databridge" else Uvicorn()
        servers.append(server)
        server.write({"app.py": code})
        return server

    yield make
    _finish(servers)


@pytest.fixture
def key() -> str:
    """Names what one test keeps in the application."""
    return uuid4().hex


@pytest.fixture(scope="session")
def mongodb_server() -> Iterator[str]:
    """The URI of a MongoDB: MONGODB_URI's, or one in memory, for all tests."""
    if "MONGODB_URI" in os.environ:
        yield os.environ["MONGODB_URI"]
        return

    server = MongoServer()
    server.start()
    yield server.uri("tests")
    server.stop()


@pytest.fixture(scope="module")
def mongodb(mongodb_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URI of an empty database for the tests of one file."""
    name = Path(request.node.name).stem
    uri = re.sub(r"^(mongodb(?:\+srv)?://[^/?]+/[^?]*)", rf"\1_{name}", mongodb_server)
    with MongoClient[dict[str, object]](uri) as client:
        database = client.get_default_database().name
        client.drop_database(database)
        yield uri
        client.drop_database(database)


@pytest.fixture
def own_mongodb() -> Iterator[MongoServer]:
    """A MongoDB in memory that the test may stop and start."""
    server = MongoServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_server() -> Iterator[Callable[[], Server]]:
    """Makes a Server: databridge run in a directory of its own."""
    servers: list[Server] = []

    def make() -> Server:
        servers.append(Server())
        return servers[-1]

    yield make
    _finish(servers)


@pytest.fixture
def run(make_server: Callable[[], Server]) -> StartServer:
    """Starts databridge run app:app on these files."""

    def start(files: Mapping[str, str], *options: str, ready: str = "/") -> Server:
        server = make_server()
        server.write(files)
        server.run("app:app", *options, ready=ready)
        return server

    return start


@pytest.fixture
def uvicorn() -> Iterator[StartUvicorn]:
    """Starts uvicorn with the "app" of this code."""
    servers: list[Uvicorn] = []

    def start(code: str) -> Uvicorn:
        server = Uvicorn()
        servers.append(server)
        server.write({"app.py": code})
        server.run("app:app")
        return server

    yield start
    _finish(servers)
