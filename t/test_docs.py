"""Each example of README and docs/ is a file, and runs under nginx as its page says."""

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import pytest
import typer
from websockets.sync.client import connect

from databridge.cli import cli
from harness import (
    DATABRIDGE,
    MODULE,
    PYTHON,
    ROOT,
    SLOWER,
    Nginx,
    Server,
    Uvicorn,
    processes,
    until,
)
from harness.settings import VENV, server_env

DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"

PAGES = (ROOT / "README.md", *DOCS.glob("*.md"))

# What nginx keeps where only root may, unless it is told.

TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

Serve = Callable[..., Nginx]


@pytest.fixture
def serve(make_nginx: Callable[..., Nginx]) -> Serve:
    """Starts nginx with an example's configuration, its places moved into the test's folder."""

    def start(
        topic: str,
        conf: str = "nginx.conf",
        *,
        workers: int = 1,
        files: Mapping[str, str] | None = None,
        upstream: int = 0,
        ready: str | None = "/",
    ) -> Nginx:
        server = make_nginx(plain=upstream != 0)
        for file in (EXAMPLES / topic).glob("*.py"):
            shutil.copy(file, server.app)
        server.write(files or {})
        text = (EXAMPLES / topic / conf).read_text()
        own = [f"access_log {server.prefix}/access.log;"]
        own += [f"{use}_temp_path {server.prefix}/tmp/{use};" for use in TEMPORARY]
        for place, moved in (
            ("modules/ngx_http_databridge_module.so", MODULE),
            ("/srv/app/.venv", VENV),
            ("/srv/app", server.app),
            ("/var/lib/databridge", server.app),
            ("/var/log/nginx", server.prefix),
            ("http {", f"http {{ {' '.join(own)}"),
            ("listen 80;", f"listen 127.0.0.1:{server.port};"),
            ("127.0.0.1:8000", f"127.0.0.1:{upstream}"),
        ):
            text = text.replace(place, str(moved))
        moved_away = [
            "daemon off;",
            f"pid {server.prefix}/nginx.pid;",
            f"error_log {server.prefix}/error.log info;",
            "user root;" if os.getuid() == 0 else "",
        ]
        server.config.write_text("\n".join([*moved_away, text]))
        server.workers_expected = workers
        server.start(ready)
        return server

    return start


def test_every_block_of_a_page_is_a_file() -> None:
    for page in PAGES:
        blocks = re.findall(r"(?:<!-- (\S+) -->\n)?```(\w+)\n", page.read_text())
        assert all(name for name, _ in blocks), page.name
        assert all((ROOT / name).is_file() for name, _ in blocks), page.name


def test_every_file_is_in_a_page_or_belongs_to_one() -> None:
    shown = "".join(page.read_text() for page in PAGES)
    hidden = {"unit/api.py", "unit/shop.py"}
    for file in EXAMPLES.rglob("*.*"):
        name = str(file.relative_to(EXAMPLES))
        if "__pycache__" not in name:
            assert f"<!-- docs/examples/{name} -->" in shown or name in hidden, name


def table(section: str) -> list[list[str]]:
    """The rows of the first table of a section of README, cell by cell."""
    text = (ROOT / "README.md").read_text()
    body = text.partition(f"\n## {section}\n")[2]
    lines = re.search(r"(?:^\|.*\n)+", body, re.MULTILINE)
    assert lines
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[0].splitlines()]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_table_of_directives_is_the_module_s() -> None:
    source = (ROOT / "ngx_http_databridge_module.c").read_text()
    flags = {"MAIN": "http", "SRV": "server", "LOC": "location", "LIF": "if in location"}
    declared = {
        name: [flags[flag] for flag in re.findall(r"NGX_HTTP_(\w+)_CONF", where)]
        for name, where in re.findall(r'{ ngx_string\("(\w+)"\),\s+([A-Z0-9_|\s]+),', source)
    }
    shown = {
        row[0].strip("`").split()[0].strip("`"): row[1].split(", ") for row in table("Directives")
    }
    assert len(declared) > 20 and shown == declared


def test_the_table_of_dependencies_has_all_that_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    names = {
        re.split(r"[\[<>=]", requirement)[0]
        for requirements in (project["dependencies"], *extras)
        for requirement in requirements
    }
    shown = " ".join(row[0] for row in table("Dependencies")).lower()
    assert {name for name in names if not re.search(rf"\b{name}\b", shown)} == set()


def test_the_variables_are_named_where_readme_names_them() -> None:
    source = (ROOT / "src/http/ngx_http_databridge_variables.c").read_text()
    declared = set(re.findall(r'ngx_string\("(databridge_\w+)"\)', source))
    readme, page = (ROOT / "README.md").read_text(), (DOCS / "metrics.md").read_text()
    assert declared == set(re.findall(r"\$(databridge_\w+)", readme))
    assert declared == set(re.findall(r"\$(databridge_\w+)", page))


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "README.md").read_text()
    for page in DOCS.glob("*.md"):
        assert f"](docs/{page.name})" in index, page.name


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert link.startswith("http") or (page.parent / link).exists(), (page.name, link)


COMMAND = re.compile(r"^    (?:.*(?:&&|\|) )?databridge (\w.*?)(?:  +#.*| \|.*)?$", re.MULTILINE)

COMMANDS = sorted({found for page in PAGES for found in COMMAND.findall(page.read_text())})


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_a_page_is_one_that_the_command_line_takes(line: str) -> None:
    """It is read, not run: a page names files and applications that are the reader's."""
    command = typer.main.get_command(cli)
    words = shlex.split(line)
    while isinstance(command, typer.core.TyperGroup):
        context = command.make_context("databridge", list(words), resilient_parsing=True)
        _, found, words = command.resolve_command(context, words)
        assert found is not None, line
        command = found
    command.make_context(line, words)


@pytest.mark.parametrize(("folder", "tests"), [("started", 3), ("readme", 1)])
def test_the_first_app_passes_its_tests(folder: str, tests: int) -> None:
    result = subprocess.run(
        [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "."],
        cwd=EXAMPLES / folder,
        env=server_env(),
        capture_output=True,
        text=True,
        timeout=200 * SLOWER,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{tests} passed" in result.stdout


def test_the_first_app_is_asked_as_the_page_says(make_server: Callable[[], Server]) -> None:
    server = make_server()
    server.run("main:app", "--app-dir", str(EXAMPLES / "started"), ready="/portions?guests=1")
    soup = {"title": "Soup", "minutes": 40, "tags": ["warm"]}
    created = server.client.post("/recipes", json=soup)
    assert created.status_code == 201 and created.headers["etag"]
    page = server.client.get('/recipes?filter={"minutes":{"$lte":45},"tags":"warm"}&sort=minutes')
    assert [item["title"] for item in page.json()["items"]] == ["Soup"]
    assert server.client.get("/portions?guests=3").json() == {"portions": 3}


def schema_of(model: str, folder: str, *options: str) -> str:
    return subprocess.run(
        [DATABRIDGE, "schema", model, *options],
        cwd=EXAMPLES / folder,
        env=server_env(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_configuration_of_readme_serves_its_app_and_its_schema(serve: Serve) -> None:
    files = {"article.schema.json": schema_of("main:Article", "readme")}
    server = serve("readme", files=files, ready="/hello/ann")
    assert server.client.get("/hello/ann?loud=1").json() == {"hello": "ANN"}
    assert server.client.get("/hello/nobody").status_code == 404
    created = server.client.post("/articles", json={"title": "x"})
    assert server.client.get(created.headers["location"]).json()["views"] == 0
    assert "do not reach the application" not in server.output()


def test_the_resource_of_readme_has_its_options_and_its_list(
    make_server: Callable[[], Server],
) -> None:
    server = make_server()
    server.run("articles:app", "--app-dir", str(EXAMPLES / "readme"), ready="/articles")
    body = {"title": "T", "slug": "s", "views": 12, "tags": ["c"], "author": {"name": "A"}}
    created = server.client.post("/articles", json=body)
    assert created.status_code == 201 and created.headers["etag"]
    assert server.client.post("/articles", json=body).status_code == 409
    (request,) = re.findall(r"^    GET (\S+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    page = server.client.get(request).json()
    assert (page["total"], page["limit"]) == (1, 20)
    assert page["items"] == [
        {"id": created.json()["id"], "title": "T", "author": {"name": "A"}},
    ]


def test_the_hooks_of_readme_are_called(make_server: Callable[[], Server]) -> None:
    server = make_server()
    server.run("hooks:app", "--app-dir", str(EXAMPLES / "readme"), ready="/articles")
    created = server.client.post("/articles", json={"title": "  T "})
    assert created.json()["title"] == "T"
    assert server.client.delete(created.headers["location"]).status_code == 204


def test_the_hooks_of_their_page_are_called(make_server: Callable[[], Server]) -> None:
    server = make_server()
    server.run("main:app", "--app-dir", str(EXAMPLES / "hybrid"), ready="/articles")
    client = server.client
    assert client.post("/articles", json={"title": "x"}).status_code == 422
    client.headers["X-Editor"] = "ann"
    assert client.post("/articles", json={"title": "spam"}).status_code == 403
    created = client.post("/articles", json={"title": "News"})
    assert created.json()["slug"] == "news"
    id = created.json()["id"]
    assert client.delete(f"/articles/{id}").status_code == 204
    until("what they print", lambda: server.log.find(f"ann has created {id}"))
    until("what they print", lambda: server.log.find(f"{id} is about to go"))


def test_the_loop_of_readme_runs_without_nginx() -> None:
    subprocess.run([PYTHON, EXAMPLES / "readme/loop.py"], env=server_env(), check=True, timeout=30)


PLACE = """
from fastapi import FastAPI, Request

app = FastAPI()


@app.get("/me")
async def me(request: Request) -> str:
    return request.scope["root_path"] + request.url_for("me").path
"""


def test_the_places_of_readme_are_guarded_as_it_says(make_nginx: Callable[..., Nginx]) -> None:
    server = make_nginx()
    site = server.prefix / "site"
    site.mkdir()
    (site / "index.html").write_text("site")
    (server.prefix / "users").write_text("ann:{PLAIN}secret\n")
    schema = schema_of("main:Article", "readme", "--prefix", "/items", "--collection", "item")
    (server.prefix / "item.schema.json").write_text(schema)
    server.write({"api.py": PLACE, "admin.py": PLACE})
    places = (EXAMPLES / "readme/places.conf").read_text().replace("/srv/site", str(site))
    server.configure(server=places, http="databridge_store main sqlite:app.db;")
    server.start("/api/me")
    client = server.client
    assert client.get("/api/me").json() == "/api/api/me"
    assert client.get("/admin/me").status_code == 401
    assert client.get("/admin/me", auth=("ann", "secret")).json() == "/admin/admin/me"
    assert client.get("/anything").text == "site"
    asks = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
    assert client.options("/items", headers=asks).status_code == 200
    assert client.get("/items").status_code == 401
    assert client.get("/items", auth=("ann", "secret")).json()["items"] == []


def test_an_app_answers_after_the_move_as_it_did_before(
    serve: Serve, uvicorn: Callable[[str], Uvicorn]
) -> None:
    old = uvicorn((EXAMPLES / "uvicorn" / "main.py").read_text())
    static = {"static/style.css": "body {}"}
    before = serve("uvicorn", "before.conf", files=static, upstream=old.port)
    after = serve("uvicorn", "after.conf", files=static, workers=2)
    upload = {"file": ("x.bin", b"x" * 2_000_000)}
    for method, path, options in (
        ("GET", "/", {}),
        ("GET", "/items/3?q=a%20b", {}),
        ("GET", "/items/three", {}),
        ("DELETE", "/items/3", {}),
        ("GET", "/items/", {}),
        ("GET", "/events", {}),
        ("GET", "/static/style.css", {}),
        ("GET", "/openapi.json", {}),
        ("POST", "/upload", {"files": upload}),
        ("POST", "/upload", {"files": {}}),
    ):
        answers = [s.client.request(method, path, **options) for s in (before, after)]
        one, other = ((a.status_code, a.headers.get("content-type"), a.content) for a in answers)
        assert one == other, path
    for server in (before, after):
        with connect(f"ws://127.0.0.1:{server.port}/echo") as socket:
            socket.send("hello")
            assert socket.recv() == "hello"


def test_units_configuration_is_served_by_nginxs(serve: Serve) -> None:
    unit = json.loads((EXAMPLES / "unit" / "config.json").read_text())
    server = serve("unit", workers=2, files={"static/x.txt": "static"})
    api, shop = unit["applications"]["api"], unit["applications"]["shop"]
    assert server.client.get("/").json() == {"colour": api["environment"]["COLOUR"]}
    assert server.client.get("/static/x.txt").text == "static"
    assert server.client.get("/shop/pens").text == f"{shop['prefix']} /pens"
    limit = unit["settings"]["http"]["max_body_size"]
    assert server.client.post("/", content=b"x" * (limit + 1)).status_code == 413
    assert server.client.post("/", content=b"x" * limit).status_code == 405


def test_the_configuration_of_directives_does_what_its_page_says(serve: Serve) -> None:
    schema = schema_of("main:Article", "directives", "--prefix", "/articles")
    files = {"article.schema.json": schema, "users": "ann:{PLAIN}secret\n"}
    server = serve("directives", files=files, ready="/colour")
    client = server.client
    assert client.get("/colour").json() == {"colour": "blue"}
    created = client.post("/articles", json={"title": "x"}, headers={"Origin": "https://a.example"})
    assert created.headers["access-control-allow-origin"] == "https://a.example"
    assert client.get(created.headers["location"]).json()["title"] == "x"
    assert client.get("/admin/me").status_code == 401
    assert client.get("/admin/me", auth=("ann", "secret")).json() == {"user": "ann"}
    assert client.get("/health").json() == {"status": "ok"}
    assert "databridge_" in client.get("/metrics").text
    log = server.prefix / "app.log"
    until("the log", lambda: re.search(r'"GET /colour .*" 200 \w+ queue=', log.read_text()))


def test_the_configuration_of_performance_says_where_time_goes(serve: Serve) -> None:
    server = serve("performance", ready="/items/1")
    assert server.client.get("/report").json() == {"report": "done"}
    assert "/report" in server.client.get("/metrics").text
    log = server.prefix / "where.log"
    (line,) = until("the log", lambda: re.findall(r".* /report 200\n", log.read_text()))
    total, _, handler, *_ = line.split()
    assert float(total) >= 0.05 and float(handler) >= 0.05


def moved(text: str, folder: Path) -> str:
    """A command or variable of an example, in the test's folder."""
    for place, where in (
        ("/srv/app/.venv", VENV),
        ("/srv/app", folder),
        ("/var/lib/databridge", folder),
        ("0.0.0.0", "127.0.0.1"),
    ):
        text = text.replace(place, str(where))
    return text


def started(server: Server, command: list[str], variables: list[str]) -> None:
    """Runs a command of an example with its variables, on the test's port."""
    shutil.copy(EXAMPLES / "deployment" / "main.py", server.folder)
    env = dict(variable.split("=", 1) for variable in variables)
    assert env["DATABRIDGE_PORT"] == "8000"
    env["DATABRIDGE_PORT"] = str(server.port)
    server.launch(
        [moved(word, server.folder) for word in command],
        {name: moved(value, server.folder) for name, value in env.items()},
    )
    server.wait_ready("/health")
    assert server.client.get("/health").json() == {"status": "ok"}
    assert server.client.post("/notes", json={"text": "x"}).status_code == 201
    assert (server.folder / "app.db").exists()


def unit_of(name: str) -> configparser.SectionProxy:
    class Unit(dict[str, str]):
        """A unit's option may come again: its values are lines."""

        def __setitem__(self, key: str, value: object) -> None:
            if isinstance(value, list) and key in self and isinstance(self[key], list):
                value = [*self[key], *value]
            super().__setitem__(key, value)  # type: ignore[assignment]

    parser = configparser.RawConfigParser(strict=False, dict_type=Unit)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(EXAMPLES / "deployment" / name)
    return parser["Service"]


def test_the_units_command_serves_and_reloads(make_server: Callable[[], Server]) -> None:
    service = unit_of("databridge.service")
    server = make_server()
    started(server, shlex.split(service["ExecStart"]), service["Environment"].splitlines())
    assert server.process

    master = server.process.pid

    def workers() -> list[int]:
        found = processes.descendants(master)
        return [pid for pid in found if "worker process" in processes.title(pid)]

    def answers() -> set[int]:
        return {httpx.get(f"{server.base_url}/worker").json() for _ in range(8)}

    old = set(workers())
    assert len(old) == 2 and answers() <= old
    reload = service["ExecReload"].replace("$MAINPID", str(master))
    subprocess.run(shlex.split(reload), check=True)
    until("other workers", lambda: not answers() & old, 20)
    until("the old ones' end", lambda: len(workers()) == 2, 20)
    server.family = [master]
    assert service["KillMode"] == "mixed"


def test_nginxs_unit_leaves_time_to_finish(serve: Serve) -> None:
    override = unit_of("nginx-override.conf")
    assert (override["ExecStop"], override["KillSignal"]) == ("", "SIGQUIT")
    assert int(override["TimeoutStopSec"]) > 30
    server = serve("deployment", workers=2)
    until("all workers", lambda: server.client.get("/health").status_code == 200, 20)
    assert server.client.post("/notes", json={"text": "x"}).status_code == 201


def test_the_images_command_serves(make_server: Callable[[], Server]) -> None:
    text = (EXAMPLES / "deployment" / "Dockerfile").read_text()
    variables = re.findall(r"DATABRIDGE_\w+=\S+", text)
    (command,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    started(make_server(), json.loads(command), variables)


def test_the_image_has_the_libraries_that_the_module_needs() -> None:
    text = (EXAMPLES / "deployment" / "Dockerfile").read_text()
    packages = set(re.findall(r"^        (.*) \\$", text, re.MULTILINE)[0].split())
    packages |= set(re.findall(r"^        (lib.*) \\$", text, re.MULTILINE)[0].split())
    needed = subprocess.check_output(["objdump", "-p", MODULE], text=True)
    for name in ("simdjson", "re2", "wslay", "sqlite3", "python3.11"):
        assert f"lib{name}" in needed
        assert any(package.startswith(f"lib{name}") for package in packages), name


def test_the_limits_are_what_their_page_says(serve: Serve) -> None:
    server = serve("limits", ready="/wait/0")
    client = server.client
    assert client.post("/count", content=b"x" * 1024 * 1024).json() == 1024 * 1024
    assert client.post("/count", content=b"x" * (1024 * 1024 + 1)).status_code == 413
    assert client.get("/wait/30").status_code == 504
    assert client.get("/search").status_code == 200
    until("too many", lambda: client.get("/search").status_code == 429)
