"""What an App and its routers declare, without nginx: timeouts, native CRUD."""

import math
from typing import Any

import fastapi
import pytest
from starlette.routing import NoMatchFound

from databridge import APIRouter, App, CrudError, Model
from databridge.routing import CrudRoute
from harness.inprocess import client_of

# timeouts


def timeouts(router: fastapi.FastAPI | fastapi.APIRouter) -> dict[str, float | None]:
    return {
        route.path: vars(route)["databridge_timeout"]
        for route in router.routes
        if isinstance(route, fastapi.routing.APIRoute)
    }


@pytest.mark.parametrize("make", [App, APIRouter])
@pytest.mark.parametrize(
    "method", ["get", "post", "put", "patch", "delete", "head", "options", "trace"]
)
def test_every_decorator_takes_a_timeout(make: type[App] | type[APIRouter], method: str) -> None:
    router = make()
    decorate = getattr(router, method)

    async def handler() -> None: ...

    decorate("/slow", timeout=2)(handler)
    decorate("/default")(handler)

    assert timeouts(router) == {"/slow": 2.0, "/default": None}
    assert {m for r in router.routes[-2:] for m in vars(r)["methods"]} == {method.upper()}


def test_an_included_router_keeps_its_timeouts() -> None:
    router = APIRouter()

    @router.api_route("/slow", methods=["GET"], timeout=0)
    async def slow() -> str:
        return "slow"

    app = App()
    app.include_router(router, prefix="/in")
    assert client_of(app).get("/in/slow").json() == "slow"

    contexts = list(fastapi.routing.iter_route_contexts(app.routes))
    found = [c.original_route for c in contexts if c.path == "/in/slow"]
    assert [vars(route)["databridge_timeout"] for route in found] == [0.0]


def test_routes_are_fastapis_own() -> None:
    app = App()

    @app.post("/items/{n}", status_code=201, response_model=int, tags=["t"], name="made")
    async def make(n: int) -> str:
        return str(n)

    route = app.routes[-1]
    assert type(route) is fastapi.routing.APIRoute
    answer = client_of(app).post("/items/3")
    assert (answer.status_code, answer.json()) == (201, 3)
    assert app.url_path_for("made", n=3) == "/items/3"
    assert app.openapi()["paths"]["/items/{n}"]["post"]["tags"] == ["t"]


@pytest.mark.parametrize("timeout", [-1, math.inf, math.nan])
def test_a_timeout_out_of_range_is_refused_where_it_is_declared(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must be"):
        App().get("/", timeout=timeout)


@pytest.mark.parametrize("timeout", ["5", True])
def test_a_timeout_that_is_no_number_is_refused(timeout: Any) -> None:
    with pytest.raises(TypeError, match="timeout must be a number"):
        App().get("/", timeout=timeout)


# CRUD declarations


class Article(Model):
    title: str


def crud_routes(app: App) -> list[CrudRoute]:
    return [route for route in app.routes if isinstance(route, CrudRoute)]


def test_crud_takes_its_place_among_the_routes() -> None:
    app = App()

    @app.get("/article/latest")
    async def latest() -> str:
        return "latest"

    app.crud_routes(Article)

    @app.get("/article/{name}")
    async def late(name: str) -> str:
        return "never"

    (route,) = crud_routes(app)
    assert (route.prefix, route.model, route.name) == ("/article", Article, "Article")
    assert route.operations == ("list", "get", "create", "update", "patch", "delete")
    client = client_of(app)
    assert client.get("/article/latest").json() == "latest"
    assert client.get("/article/1").status_code == 503


def test_crud_reached_in_python_says_who_serves_it() -> None:
    app = App()
    app.crud_routes(Article, prefix="/articles")
    client = client_of(app)
    for path in ("/articles", "/articles/1"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert "databridge run" in answer.json()["detail"]
    for path in ("/articles/1/2", "/articles/", "/articlesx", "/"):
        assert client.get(path, follow_redirects=False).status_code in (404, 307)


def test_a_method_crud_does_not_have_is_left_to_later_routes() -> None:
    app = App()
    app.crud_routes(Article, prefix="/articles", operations=["list", "get"])

    @app.post("/articles")
    async def create() -> str:
        return "mine"

    client = client_of(app)
    assert client.get("/articles").status_code == 503
    assert client.post("/articles").json() == "mine"
    assert crud_routes(app)[0].methods == {"GET"}
    assert crud_routes(app)[0].item_methods == {"GET"}


def test_the_decorated_class_sets_options() -> None:
    app = App()

    @app.crud(Article, store="second")
    class Routes:
        """Articles, read only."""

        prefix = "/papers"
        collection = "papers"
        store = "first"
        operations = ("list",)

    assert Routes.prefix == "/papers"
    (route,) = crud_routes(app)
    assert (route.prefix, route.operations) == ("/papers", ("list",))
    assert (route.schema["collection"], route.schema["store"]) == ("papers", "second")


def test_what_is_neither_an_option_nor_a_hook_is_refused_by_name() -> None:
    app = App()
    with pytest.raises(CrudError, match="Routes.before_creation"):

        @app.crud(Article)
        class Routes:
            def before_creation(self) -> None: ...

    assert crud_routes(app) == []


def test_a_decorated_function_is_refused() -> None:
    decorate: Any = App().crud(Article)
    with pytest.raises(CrudError, match="app.crud_routes"):
        decorate(print)


def test_a_second_crud_on_a_prefix_is_refused() -> None:
    class Paper(Model):
        title: str

    app = App()
    app.crud_routes(Article)
    with pytest.raises(CrudError, match="Paper: /article is already .* Article"):
        app.crud_routes(Paper, prefix="/article")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefix": "articles"}, "prefix"),
        ({"prefix": "/articles/"}, "prefix"),
        ({"prefix": "/a/{b}"}, "prefix"),
        ({"operations": "list"}, "operations"),
        ({"operations": []}, "operations"),
        ({"operations": ["read"]}, "operations"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CrudError, match=message):
        App().crud_routes(Article, **options)


def test_crud_of_something_else_is_refused() -> None:
    model: Any = dict
    with pytest.raises(CrudError, match="dict.* is not a model"):
        App().crud_routes(model)


def test_crud_has_urls() -> None:
    app = App()
    app.crud_routes(Article, prefix="/articles")
    assert app.url_path_for("Article") == "/articles"
    assert app.url_path_for("Article", id="7") == "/articles/7"
    with pytest.raises(NoMatchFound):
        app.url_path_for("Article", other="7")
