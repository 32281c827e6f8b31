"""What is a plan, what is not and why: the compiler alone, without nginx."""

import asyncio
import json
import re
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from enum import Enum
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

import fastapi.routing
import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    File,
    Header,
    HTTPException,
    Path,
    Query,
    Request,
    Response,
    Security,
    UploadFile,
)
from fastapi import Form as FormParameter
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from fastapi.routing import APIRoute
from fastapi.security import SecurityScopes
from pydantic import AfterValidator, BaseModel
from pydantic import Field as ModelField
from pydantic.plugin import _loader
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from databridge import declared, plans
from databridge.plans import fingerprints
from databridge.plans.spec import (
    NONE,
    RAISE,
    REQUIRED,
    Computed,
    Fast,
    Field,
    Form,
    Kind,
    Plan,
    Source,
)
from harness import DATABRIDGE


class Item(BaseModel):
    name: str
    price: float = 1.0


class Color(Enum):
    RED = "red"


class Filter(BaseModel):
    limit: int = 10
    tags: list[str] = []


def checked(value: int) -> int:
    return value


async def dependency(q: str | None = None) -> str | None:
    return q


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


def route_of(app: FastAPI, path: str = "/x") -> declared.Declared:
    (found,) = [route for route in declared.declaration(app).routes if route.path == path]
    return found


def compiled(endpoint: Callable[..., Any], path: str = "/x", **options: Any) -> declared.Declared:
    app = FastAPI(**options.pop("app", {}))
    app.api_route(path, **options)(endpoint)
    return route_of(app, path)


def plan_of(endpoint: Callable[..., Any], path: str = "/x", **options: Any) -> Plan:
    found = compiled(endpoint, path, **options)
    assert found.plan is not None, found.reason
    assert found.kind == "plan"
    return found.plan


def field_of(endpoint: Callable[..., Any], path: str = "/x") -> Field:
    (field,) = plan_of(endpoint, path).fields
    assert isinstance(field, Field)
    return field


class Proxy:
    """Passes for a function, as what agents patch with does."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self._self_wrapper = nothing

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.function)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.function, name)

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self.function(*args, **named)

    def __eq__(self, other: object) -> bool:
        return bool(self.function == other)

    def __hash__(self) -> int:
        return hash(self.function)


# the release


def test_the_installed_release_is_known() -> None:
    assert fingerprints.difference() is None
    assert fingerprints._known()[fingerprints.installed()] == fingerprints.fingerprints()


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (fastapi.routing, "solve_dependencies"),
        (fastapi.routing, "get_request_handler"),
        (fastapi.routing.APIRoute, "handle"),
        (FastAPI, "__call__"),
        (Response, "render"),
        (ExceptionMiddleware, "__call__"),
    ],
)
@pytest.mark.parametrize("proxied", [False, True])
def test_a_patched_function_leaves_all_to_fastapi(
    owner: Any, name: str, proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(owner, name)
    patch = Proxy(original) if proxied else lambda *args, **named: original(*args, **named)
    monkeypatch.setattr(owner, name, patch)
    with pytest.raises(plans.Unplanned, match=rf"{name} is patched, by .*{__name__}\.py"):
        plans.planner(FastAPI())


def test_an_unknown_release_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {**fingerprints.fingerprints(), "fastapi.routing.serialize_response": "other"}
    monkeypatch.setattr(fingerprints, "_known", lambda: {"fastapi 1": changed})
    with pytest.raises(plans.Unplanned, match=r"serialize_response differs.*\(fastapi 1\)"):
        plans.planner(FastAPI())


def test_what_another_release_has_elsewhere_is_not_said_to_be_patched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Response, "render", lambda self, content: content)
    monkeypatch.setattr(fingerprints, "_known", lambda: {"fastapi 1": {}})
    with pytest.raises(plans.Unplanned, match=r"is not known to plans: .*\(fastapi 1\)"):
        plans.planner(FastAPI())


def test_a_release_that_keeps_no_trees_of_routers_has_its_routes_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def endpoint() -> None: ...

    app = FastAPI(openapi_url=None)
    app.get("/x")(endpoint)
    app.mount("/below", FastAPI())
    monkeypatch.delattr(fastapi.routing, "iter_route_contexts")
    found = declared.declaration(app).routes
    assert [(route.path, route.route is route.original) for route in found] == [
        ("/x", True),
        ("/below/{path:path}", True),
    ]


# parameters


def test_plain_types_are_read_without_pydantic() -> None:
    async def number(x: int) -> None: ...
    async def text(x: str | None = None) -> None: ...
    async def bounded(x: Annotated[int, Query(ge=1)] = 3) -> None: ...

    assert field_of(number)[:5] == (Source.QUERY, (b"x",), 0, False, Fast.INT)
    assert field_of(number).default is REQUIRED
    assert field_of(text).fast == Fast.STR
    assert field_of(text).default is None
    assert field_of(bounded).fast == Fast.NOTHING
    assert field_of(bounded).default == 3


def test_the_convertor_of_a_path_decides_what_is_fast() -> None:
    async def number(x: int) -> None: ...
    async def text(x: str) -> None: ...

    assert field_of(number, "/x/{x}").fast == Fast.INT
    assert field_of(number, "/x/{x:int}").fast == Fast.INT
    assert field_of(number, "/x/{x:float}").fast == Fast.NOTHING
    assert field_of(text, "/x/{x:path}").fast == Fast.STR
    assert field_of(text, "/x/{x:int}").fast == Fast.NOTHING
    assert plan_of(text, "/x/{x:uuid}").path_convertors == ("uuid",)


def test_names_are_those_of_the_request() -> None:
    async def header(x_token: Annotated[str, Header()]) -> None: ...
    async def kept(x_token: Annotated[str, Header(convert_underscores=False)]) -> None: ...
    async def alias(x: Annotated[str, Query(alias="item-query")]) -> None: ...
    async def cookie(x: Annotated[str, Cookie()]) -> None: ...

    assert field_of(header).names == (b"x-token",)
    assert field_of(kept).names == (b"x_token",)
    assert field_of(alias).names == (b"item-query",)
    assert field_of(cookie).source == Source.COOKIE
    assert plan_of(header).required_headers == (b"x-token",)


def test_lists_take_all_values_of_query_and_headers() -> None:
    async def query(x: Annotated[list[int], Query()]) -> None: ...
    async def header(x: Annotated[list[str] | None, Header()] = None) -> None: ...
    async def cookie(x: Annotated[list[str] | None, Cookie()] = None) -> None: ...

    assert field_of(query).many
    assert field_of(header).many
    assert not plan_of(header).required_headers
    assert isinstance(plan_of(cookie).fields[0], Computed)


def test_a_mutable_default_is_made_for_each_request() -> None:
    async def endpoint(x: Annotated[list[str], Query()] = ["a"]) -> None: ...  # noqa: B006

    factory = field_of(endpoint).factory
    assert factory is not None
    assert factory() == ["a"]
    assert factory() is not factory()


def test_a_validated_default_is_validated() -> None:
    async def endpoint(x: Annotated[int, Query(validate_default=True)] = "5") -> None: ...  # type: ignore[assignment]
    async def wrong(x: Annotated[int, Query(validate_default=True)] = "a") -> None: ...  # type: ignore[assignment]

    factory = field_of(endpoint).factory
    assert factory is not None
    assert factory() == 5
    factory = field_of(wrong).factory
    assert factory is not None
    with pytest.raises(Exception):  # noqa: B017
        factory()


def test_parameter_models_are_fastapis_own_code() -> None:
    async def endpoint(x: Annotated[Filter, Query()]) -> None: ...

    (field,) = plan_of(endpoint).fields
    assert isinstance(field, Computed)
    query = {"type": "http", "query_string": b"limit=5&tags=a&tags=b", "headers": []}
    assert field.compute(Request(query)) == Filter(limit=5, tags=["a", "b"])
    wrong = {"type": "http", "query_string": b"limit=a", "headers": []}
    with pytest.raises(Exception):  # noqa: B017
        field.compute(Request(wrong))


def test_bodies_are_whole_or_members() -> None:
    async def one(x: Item) -> None: ...
    async def two(x: Item, y: Annotated[int, Body()] = 1) -> None: ...
    async def embedded(x: Annotated[Item, Body(embed=True)]) -> None: ...

    body = plan_of(one, methods=["POST"]).body
    assert body is not None
    assert body.fields[0].names == ()
    assert not body.embedded
    assert body.strict
    body = plan_of(two, methods=["POST"]).body
    assert body is not None
    assert [field.names for field in body.fields] == [("x",), ("y",)]
    assert body.embedded
    assert body.fields[1].default == 1
    body = plan_of(embedded, methods=["POST"]).body
    assert body is not None
    assert body.embedded
    body = plan_of(one, methods=["POST"], app={"strict_content_type": False}).body
    assert body is not None
    assert not body.strict


# dependencies


def test_a_cached_dependency_has_one_slot() -> None:
    async def above(x: Annotated[Any, Depends(dependency)]) -> None: ...
    async def cached(
        x: Annotated[Any, Depends(dependency)], y: Annotated[Any, Depends(above)]
    ) -> None: ...
    async def not_cached(
        x: Annotated[Any, Depends(dependency)],
        y: Annotated[Any, Depends(dependency, use_cache=False)],
    ) -> None: ...

    plan = plan_of(cached)
    assert [step.call for step in plan.steps] == [dependency, above, cached]
    assert len(plan.fields) == 1
    first, second, last = plan.steps
    assert second.slots == (first.result,)
    assert dict(zip(last.names, last.slots, strict=True)) == {
        "x": first.result,
        "y": second.result,
    }
    plan = plan_of(not_cached)
    assert [step.call for step in plan.steps] == [dependency, dependency, not_cached]
    assert len(plan.fields) == 2


def test_def_is_called_in_a_thread() -> None:
    class Checker:
        def __init__(self, limit: int = 1) -> None: ...

        async def __call__(self) -> None: ...

    def endpoint(
        x: Annotated[Any, Depends(Checker)], y: Annotated[Any, Depends(Checker())]
    ) -> None: ...

    kinds = [step.kind for step in plan_of(endpoint).steps]
    assert kinds == [Kind.THREAD, Kind.ASYNC, Kind.THREAD]


def test_objects_have_one_slot_each() -> None:
    async def above(request: Request, response: Response, tasks: BackgroundTasks) -> None: ...
    async def endpoint(
        r: Request, x: Annotated[Any, Depends(above)], s: Response, t: BackgroundTasks
    ) -> None: ...

    plan = plan_of(endpoint)
    first, last = (dict(zip(step.names, step.slots, strict=True)) for step in plan.steps)
    assert last["r"] == first["request"] == plan.request
    assert last["s"] == first["response"] == plan.response
    assert last["t"] == first["tasks"] == plan.background
    assert plan_of(dependency).request == NONE


def test_security_scopes_are_made_for_each_request() -> None:
    async def scheme(scopes: SecurityScopes) -> None: ...
    async def endpoint(x: Annotated[Any, Security(scheme, scopes=["a", "b"])]) -> None: ...

    (field,) = plan_of(endpoint).fields
    assert isinstance(field, Field)
    assert field.names == ()
    assert field.factory is not None
    assert field.factory().scopes == ["a", "b"]
    assert field.factory() is not field.factory()


def test_yield_makes_a_script_of_the_plan() -> None:
    async def endpoint(x: Annotated[int, Depends(generator)]) -> None: ...

    plan = plan_of(endpoint)
    assert plan.script is not None
    assert plan.steps == ()


# answers


def test_results_are_written_as_the_response_class_has_it() -> None:
    async def plain() -> None: ...
    async def model() -> Item:
        return Item(name="a")

    answer = plan_of(plain, response_model=None).answer
    assert (answer.status, answer.form, answer.content_type) == (
        200,
        Form.JSON,
        b"application/json",
    )
    answer = plan_of(model, response_model_exclude_none=True, status_code=201).answer
    assert (answer.status, answer.form) == (201, Form.DUMP)
    assert answer.dump_names == ("by_alias", "exclude_none")
    assert answer.dump_values == (True, True)
    assert answer.validate is not None
    assert answer.dump is not None
    value = answer.validate({"name": "a"})
    assert answer.dump(value) == b'{"name":"a","price":1.0}'
    answer = plan_of(model, response_class=fastapi.responses.JSONResponse).answer
    assert answer.form == Form.DUMP
    assert answer.dump is not None
    assert answer.dump(value, by_alias=True) == b'{"name":"a","price":1.0}'

    answer = plan_of(plain, response_model=None, response_class=PlainTextResponse).answer
    assert (answer.form, answer.content_type) == (Form.DUMP, b"text/plain; charset=utf-8")
    assert answer.dump is not None
    assert answer.dump("é") == "é".encode()
    with pytest.raises(TypeError):
        answer.dump(5)
    assert plan_of(plain, response_model=None, response_class=HTMLResponse).answer.form == Form.DUMP
    assert (
        plan_of(plain, response_model=None, response_class=RedirectResponse).answer.form
        == Form.FINISH
    )
    answer = plan_of(plain, response_model=None, status_code=204).answer
    assert (answer.form, answer.bodiless) == (Form.JSON, True)
    assert plan_of(plain, response_model=None, status_code=205).answer.form == Form.FINISH


def test_finish_is_the_end_of_fastapis_handler() -> None:
    async def endpoint(response: Response, tasks: BackgroundTasks) -> Any: ...

    plan = plan_of(endpoint, status_code=201, response_model=None)
    slots: list[Any] = [None] * plan.slots
    response = slots[plan.response] = plan.make_response()
    tasks = slots[plan.background] = plan.make_background()
    response.headers["x-a"] = "1"
    found = asyncio.run(plan.answer.finish({"a": (1, 2)}, slots))
    assert found.status_code == 201
    assert found.body == b'{"a":[1,2]}'
    assert found.raw_headers[-1] == (b"x-a", b"1")
    assert found.background is tasks
    response.status_code = 202
    assert asyncio.run(plan.answer.finish(1, slots)).status_code == 202
    given = Response("as it is")
    assert asyncio.run(plan.answer.finish(given, slots)) is given
    assert given.background is tasks


# what is left to FastAPI


async def form(x: Annotated[str, FormParameter()]) -> None: ...
async def upload(x: UploadFile) -> None: ...
async def file(x: Annotated[bytes, File()]) -> None: ...
async def stream() -> AsyncIterator[int]:
    yield 1


async def own_validator(
    x: Annotated[int, AfterValidator(checked)], y: Annotated[Any, Depends(dependency)]
) -> None: ...


class Initialized(BaseModel):
    x: int = 1

    def model_post_init(self, context: Any) -> None: ...


async def own_model(x: Initialized, y: Annotated[Any, Depends(dependency)]) -> None: ...
async def body(x: Item) -> None: ...
async def nothing() -> None: ...
async def not_in_path(x: Annotated[int, Path()]) -> None: ...


@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
@pytest.mark.parametrize(
    ("endpoint", "options", "reason"),
    [
        (form, {}, "form or files"),
        (upload, {}, "form or files"),
        (file, {}, "form or files"),
        (stream, {}, "generator"),
        (own_validator, {}, r"checked\(\) validates x"),
        (own_model, {}, r"Initialized.model_post_init\(\) validates x"),
        (body, {"max_body_size": 5}, "max_body_size"),
        (body, {"app": {"max_body_size": 5}}, "max_body_size"),
        (nothing, {"app": {"root_path": "/x"}}, "root_path /x"),
        (not_in_path, {}, "the path has no {x}"),
    ],
)
def test_what_a_plan_does_not_know_is_left_to_fastapi(
    endpoint: Any, options: dict[str, Any], reason: str
) -> None:
    found = compiled(endpoint, methods=["POST"], **options)
    assert found.kind == "asgi"
    assert found.plan is None
    assert re.search(reason, found.reason), found.reason


def test_an_own_validator_without_dependencies_is_planned() -> None:
    async def endpoint(x: Annotated[int, AfterValidator(checked)]) -> None: ...

    assert plan_of(endpoint).fields


@pytest.mark.parametrize(("module", "kind"), [("sqlmodel.main", "plan"), ("mine", "asgi")])
def test_an_init_is_looked_at_for_whose_it_is(module: str, kind: str) -> None:
    class Model(BaseModel):
        def __init__(self, **data: Any) -> None:
            self.__pydantic_validator__.validate_python(data, self_instance=self)

        __init__.__module__ = module

    class Hero(Model):
        name: str

    async def endpoint(hero: Hero, y: Annotated[Any, Depends(dependency)]) -> None: ...

    assert compiled(endpoint, methods=["POST"]).kind == kind


@pytest.mark.parametrize("watching", [False, True])
def test_only_a_plugin_of_pydantic_that_watches_is_in_the_way(
    watching: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plugin:
        def new_schema_validator(self, *_: Any) -> tuple[Any, Any, Any]:
            return Handler() if watching else None, None, None

    class Handler:
        def on_success(self, result: Any) -> None: ...

    async def endpoint(x: int, item: Item) -> None: ...

    monkeypatch.setattr(_loader, "_plugins", {"plugin": Plugin()})
    found = compiled(endpoint, methods=["POST"])
    assert found.kind == ("asgi" if watching else "plan")
    assert found.reason == ("a plugin of pydantic watches x" if watching else "")


def test_what_is_not_the_users_may_validate_beside_dependencies() -> None:
    class Private(BaseModel):
        _hidden: int = 1
        tags: list[str] = ModelField(default_factory=list)

    async def endpoint(
        x: Private, color: Color, word: Literal["a"], y: Annotated[Any, Depends(dependency)]
    ) -> None: ...

    assert plan_of(endpoint, methods=["POST"]).body


def test_a_route_class_of_its_own_is_left_alone() -> None:
    class Own(APIRoute):
        pass

    app = FastAPI()
    router = APIRouter(route_class=Own)
    router.get("/x")(nothing)
    app.include_router(router)
    assert route_of(app).reason == "Own is a route class of its own"


def test_without_a_body_a_limit_is_nothing_to_a_plan() -> None:
    plan = plan_of(nothing, max_body_size=5)
    assert plan.absent_headers == (b"content-length", b"transfer-encoding")


# the application


def reason_of(app: FastAPI) -> str:
    app.get("/x")(nothing)
    return route_of(app).reason


def test_known_middleware_is_asked_of_the_request() -> None:
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=["http://a"])
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["a", "*.B"])
    app.add_middleware(HTTPSRedirectMiddleware)
    app.get("/x")(nothing)
    plan = route_of(app).plan
    assert plan is not None
    assert plan.absent_headers == (b"origin",)
    assert plan.hosts == (b"a", b"*.b")
    assert plan.https
    assert plan.answer.headers == ((b"vary", b"Origin"),)


def test_other_middleware_leaves_plans_below_it() -> None:
    class Own(CORSMiddleware):
        pass

    for kind in (GZipMiddleware, Own):
        app = FastAPI()
        app.add_middleware(kind)
        app.add_middleware(CORSMiddleware, allow_origins=["*"])
        app.add_middleware(HTTPSRedirectMiddleware)
        app.get("/x")(nothing)
        route = route_of(app)
        assert (route.kind, route.reason) == ("plan", f"below {kind.__name__}")
        assert route.plan is not None
        assert route.plan.script is not None
        assert not (route.plan.https or route.plan.absent_headers or route.plan.answer.headers)


def test_an_application_with_a_call_of_its_own_is_left_alone() -> None:
    class Calling(FastAPI):
        async def __call__(self, *args: Any) -> None: ...

    class Building(FastAPI):
        def build_middleware_stack(self) -> Any: ...

    assert reason_of(Calling()) == "Calling overrides __call__()"
    assert "build_middleware_stack() of Building" in reason_of(Building())
    replaced = FastAPI()
    vars(replaced)["build_middleware_stack"] = nothing
    assert "build_middleware_stack() of FastAPI" in reason_of(replaced)
    router = FastAPI()
    router.router.middleware_stack = nothing  # type: ignore[assignment]
    assert "middleware of its own" in reason_of(router)


def test_an_app_of_databridge_is_as_good() -> None:
    import databridge

    app = databridge.App()
    app.middleware_stack = app.build_middleware_stack()
    app.get("/x")(nothing)
    assert route_of(app).kind == "plan"


def test_a_stack_that_was_changed_is_seen() -> None:
    app = FastAPI()
    app.middleware_stack = app.build_middleware_stack()
    app.get("/x")(nothing)
    assert route_of(app).kind == "plan"
    app.middleware_stack = GZipMiddleware(app.middleware_stack)
    assert route_of(app).reason == "GZipMiddleware was put around the application"


# exceptions


def answers(app: FastAPI, scope: dict[str, Any]) -> list[Any]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_a_route_raises_what_its_plan_raised(prefix: str) -> None:
    called: list[bool] = []

    async def endpoint() -> None:
        called.append(True)
        raise HTTPException(418, "tea", {"X-Pot": "1"})

    app = FastAPI()
    if prefix:
        router = APIRouter()
        router.get("/x")(endpoint)
        app.include_router(router, prefix=prefix)
    else:
        app.get("/x")(endpoint)
    scope = {
        "type": "http",
        "method": "GET",
        "path": f"{prefix}/x",
        "headers": [],
        "query_string": b"",
    }
    expected = answers(app, dict(scope))
    found = declared.declaration(app)
    route = next(route for route in found.routes if route.kind == "plan").route
    assert found.planner is not None
    found.planner.attach(route)
    assert answers(app, dict(scope)) == expected
    assert len(called) == 2
    thrown = HTTPException(418, "tea", {"X-Pot": "1"})
    assert answers(app, {**scope, RAISE: thrown}) == expected
    assert len(called) == 2


# what it costs


def test_a_thousand_routes_compile_in_less_time_than_fastapi_takes_for_them() -> None:
    models = []
    for number in range(300):
        fields = {"a": int, "b": str, "c": list[str], "d": float | None}
        models.append(type(f"Model{number}", (BaseModel,), {"__annotations__": fields}))

    def endpoint(number: int) -> Any:
        async def create(id: int, item: Any, d: Annotated[Any, Depends(dependency)]) -> Any: ...

        create.__annotations__ |= {"item": models[number % 300], "return": models[number % 300]}
        return create

    begin = time.process_time()
    app = FastAPI()
    for number in range(1000):
        app.post(f"/r{number}/{{id}}")(endpoint(number))
    middle = time.process_time()
    found = declared.declaration(app)
    end = time.process_time()
    assert sum(route.kind == "plan" for route in found.routes) == 1000
    assert end - middle < middle - begin


# the command


APP = """
from fastapi import Depends, FastAPI, Form, WebSocket
from starlette.middleware.gzip import GZipMiddleware
app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

@app.get("/plan")
async def plan(): ...

@app.post("/form")
async def form(x: str = Form()): ...

@app.websocket("/ws")
async def ws(socket: WebSocket): ...

app.mount("/inner", FastAPI())

around = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
around.add_middleware(GZipMiddleware)
around.get("/plan")(plan)
"""


def test_the_command_tells_each_route_and_why(tmp_path: FilePath) -> None:
    (tmp_path / "main.py").write_text(APP)

    def routes(*arguments: str) -> str:
        command = [DATABRIDGE, "routes", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    assert json.loads(routes("main:app", "--json")) == [
        {"methods": ["GET"], "path": "/plan", "kind": "plan", "reason": ""},
        {
            "methods": ["POST"],
            "path": "/form",
            "kind": "asgi",
            "reason": "it takes a form or files",
        },
        {"methods": ["WEBSOCKET"], "path": "/ws", "kind": "asgi", "reason": "a WebSocket"},
        {
            "methods": [],
            "path": "/inner/{path:path}",
            "kind": "asgi",
            "reason": "another application is mounted here",
        },
    ]
    lines = [line.split() for line in routes("main:app").splitlines()]
    assert lines[0] == ["METHODS", "PATH", "BY", "WHY"]
    assert lines[1] == ["GET", "/plan", "plan"]
    assert lines[2] == "POST /form asgi it takes a form or files".split()
    text = routes("main:around")
    assert text.splitlines()[-1].split() == ["GET", "/plan", "plan", "below", "GZipMiddleware"]
