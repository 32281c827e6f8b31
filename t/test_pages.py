"""/docs and /redoc in a browser that reaches nothing but the server."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, Playwright, Route, expect, sync_playwright

from conftest import StartNginx
from databridge import App, offline_docs
from databridge.testing import Server
from harness import SLOWER
from harness.settings import server_env

CHROMIUM = "/usr/bin/chromium"
WAIT = 20_000 * SLOWER

APP = """
from databridge import App, Model

app = App(title="Notebook")


class Note(Model):
    text: str


app.crud_routes(Note, prefix="/notes")


@app.get("/hello/{name}")
async def hello(name: str, loud: bool = False) -> dict[str, str]:
    return {"hello": name.upper() if loud else name}
"""

PLAIN = """
from fastapi import FastAPI
from databridge import offline_docs

app = FastAPI()
offline_docs(app)


@app.get("/hello")
async def hello() -> str:
    return "hello"
"""

LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"
"""What ReDoc asks its makers for, and does without."""

ENV = {name: value for name, value in server_env().items() if name not in ("PATH", "HOME")}


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    sandbox = ["--no-sandbox"] if os.getuid() == 0 else []
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
    yield browser
    browser.close()


@pytest.fixture
def outside() -> list[str]:
    """What a page has asked other servers for, in vain."""
    return []


@pytest.fixture
def page(browser: Browser, outside: list[str]) -> Iterator[Page]:
    def guard(route: Route) -> None:
        if route.request.url.startswith("http://127.0.0.1:"):
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    page = browser.new_page()
    page.set_default_timeout(WAIT)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.route(re.compile("^https?:"), guard)
    yield page
    page.close()
    assert errors == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "main.py").write_text(APP)
    with Server(folder / "main.py", env=ENV) as server:
        yield server


def execute(page: Page, operation: str, **parameters: str) -> str:
    """Opens an operation, tries it out with these parameters, and reads the answer."""
    block = page.locator(f"[id='{operation}']")
    block.locator(".opblock-summary").click()
    block.get_by_role("button", name="Try it out").click()
    for name, value in parameters.items():
        if name == "body":
            block.locator("textarea.body-param__text").fill(value)
        else:
            block.locator(f"tr[data-param-name='{name}'] input").fill(value)
    block.get_by_role("button", name="Execute").click()
    answer = block.locator(".live-responses-table .response").first
    expect(answer).to_be_visible(timeout=WAIT)
    return answer.inner_text()


def test_a_request_is_made_from_the_page_and_answered(
    page: Page, server: Server, outside: list[str]
) -> None:
    page.goto(f"{server.url}/docs")
    expect(page.locator(".info .title")).to_contain_text("Notebook", timeout=WAIT)
    answer = execute(page, "operations-default-hello_hello__name__get", name="ann")
    assert answer.startswith("200") and '"hello": "ann"' in answer
    assert outside == []


def test_native_crud_is_tried_out_beside_the_other_routes(
    page: Page, server: Server, outside: list[str]
) -> None:
    page.goto(f"{server.url}/docs")
    body = '{"text": "from a browser"}'
    answer = execute(page, "operations-Note-create_note_notes_post", body=body)
    assert answer.startswith("201") and '"text": "from a browser"' in answer
    (note,) = httpx.get(f"{server.url}/notes").json()["items"]
    assert note["text"] == "from a browser"
    assert outside == []


def test_redoc_shows_the_same_document(page: Page, server: Server, outside: list[str]) -> None:
    page.goto(f"{server.url}/redoc")
    expect(page.get_by_role("heading", name="Notebook")).to_be_visible(timeout=WAIT)
    expect(page.get_by_text("/notes/{id}").first).to_be_attached(timeout=WAIT)
    assert set(outside) <= {LOGO}


def test_a_plain_application_has_them_below_a_path(
    page: Page, nginx: StartNginx, outside: list[str]
) -> None:
    server = nginx(
        server="location /api/ { databridge_app app:app root_path=/api; }",
        files={"app.py": PLAIN},
        ready="/api/hello",
    )
    server.allow_descriptors(tcp=6)  # the browser keeps its connections
    page.goto(f"{server.base_url}/api/docs")
    assert execute(page, "operations-default-hello_hello_get").startswith("200")
    assert outside == []


def test_the_scripts_are_sent_once_and_nothing_else_is(server: Server) -> None:
    first = httpx.get(f"{server.url}/docs/assets/swagger-ui-bundle.js")
    assert first.status_code == 200 and len(first.content) > 1_000_000
    etag = {"If-None-Match": first.headers["etag"]}
    assert httpx.get(str(first.url), headers=etag).status_code == 304
    assert httpx.get(f"{server.url}/docs/assets/nothing.js").status_code == 404
    outer = Path("..", "..", "fastapi_offline", "core.py").as_posix().replace("/", "%2f")
    assert httpx.get(f"{server.url}/docs/assets/{outer}").status_code == 404


def test_only_fastapis_own_pages_are_replaced() -> None:
    def paths(app: App) -> set[str]:
        return {getattr(route, "path", "") for route in app.routes}

    assert "/manual/assets/{name}" in paths(App(docs_url="/manual"))
    assert not any("assets" in path for path in paths(App(openapi_url=None)))
    assert paths(App(docs_url=None, redoc_url=None)) == {"/openapi.json"}

    plain = FastAPI(redoc_url=None)
    offline_docs(plain)
    offline_docs(plain)
    assert len(plain.routes) == len(App(redoc_url=None).routes)
