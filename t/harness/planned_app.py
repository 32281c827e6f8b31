# mypy: disable-error-code="no-untyped-def"
"""A FastAPI application with a route for each feature that plans know.

Served as it is by both servers of test_plans_fastapi.py, which imports nothing of it.
"""

import asyncio
import contextvars
import dataclasses
import datetime
import decimal
import enum
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal

from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Form,
    Header,
    HTTPException,
    Path,
    Query,
    Request,
    Response,
    Security,
)
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    StreamingResponse,
)
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPAuthorizationCredentials,
    HTTPBasic,
    HTTPBasicCredentials,
    HTTPBearer,
    OAuth2PasswordBearer,
    SecurityScopes,
)
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    computed_field,
    field_serializer,
)
from starlette.requests import HTTPConnection

LOG: list[str] = []
STATE: contextvars.ContextVar[str] = contextvars.ContextVar("STATE", default="none")

app = FastAPI(title="planned")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Nested(BaseModel):
    when: datetime.datetime | None = None
    color: Color = Color.RED


class Item(BaseModel):
    name: str
    price: float = 1.5
    tags: list[str] = []
    nested: Nested | None = None


class Aliased(BaseModel):
    model_config = ConfigDict(extra="forbid")
    item_id: int = Field(alias="itemId", ge=0)
    secret: str = Field("s", exclude=True)


class Written(BaseModel):
    first: str
    last: str

    @computed_field
    def full(self) -> str:
        return f"{self.first} {self.last}"

    @field_serializer("last")
    def shout(self, value: str) -> str:
        return value.upper()


class Teapot(Exception):
    pass


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.1


class Plain:
    def __init__(self) -> None:
        self.a = 1
        self.b = "two"


@app.exception_handler(Teapot)
async def teapot(request: Request, exc: Teapot) -> JSONResponse:
    return JSONResponse({"teapot": str(exc), "path": request.url.path}, 418, {"X-Tea": "green"})


@app.get("/log")
async def log() -> list[str]:
    found = LOG.copy()
    LOG.clear()
    return found


# results

RESULTS: dict[str, Any] = {
    "dict": {"a": 1, "ü": "ß", "f": 1e-05, "n": None, "l": [1, 2.5, True]},
    "list": [1, [2, []], {}],
    "text": 'a"\\\n\x7f\u2028',
    "int": 2**70,
    "float": 1e22,
    "none": None,
    "nan": float("nan"),
    "sa": {"_sa_x": 1, "b": 2},
    "keys": {1: 1, None: 2, False: 3, 1.5: 4},
    "surrogate": "\ud800",
    "set": {1},
    "tuple": (1, (2,)),
    "time": [datetime.datetime(2026, 1, 2, 3, 4, 5), datetime.date(2026, 1, 2)],
    "utc": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "delta": datetime.timedelta(seconds=1.5),
    "uuid": uuid.UUID(int=5),
    "decimal": [decimal.Decimal("1.10"), decimal.Decimal(1)],
    "enum": [Color.RED, Level.LOW],
    "model": Item(name="a", nested=Nested(when=datetime.datetime(2026, 1, 1))),
    "models": [Item(name="a"), Aliased(itemId=5, secret="")],
    "written": Written(first="a", last="b"),
    "dataclass": Point(1),
    "object": Plain(),
    "bytes": b"abc",
    "generator": range(3),
    "unknown": object(),
    "many": [{"id": number, "name": f"name {number}", "ok": True} for number in range(300)],
}


@app.get("/result/{name}")
async def result(name: str):
    return RESULTS[name]


@app.get("/def/{name}")
def result_of_def(name: str):
    return RESULTS[name]


@app.get("/any/{name}")
async def result_any(name: str) -> Any:
    return RESULTS[name]


# paths


@app.get("/path/int/{x}")
async def path_int(x: int):
    return x


@app.get("/path/str/{x}")
async def path_str(x: str):
    return x


@app.get("/path/float/{x}")
async def path_float(x: float):
    return repr(x)


@app.get("/path/bool/{x}")
async def path_bool(x: bool):
    return x


@app.get("/path/uuid/{x}")
async def path_uuid(x: uuid.UUID):
    return x


@app.get("/path/date/{x}")
async def path_date(x: datetime.date):
    return x


@app.get("/path/enum/{x}")
async def path_enum(x: Color):
    return x.name


@app.get("/path/literal/{x}")
async def path_literal(x: Literal["a", "b c"]):
    return x


@app.get("/path/bounded/{x}")
async def path_bounded(x: Annotated[int, Path(gt=3, le=10)]):
    return x


@app.get("/path/rest/{x:path}")
async def path_rest(x: str):
    return x


@app.get("/path/number/{x:int}")
async def path_number(x: int):
    return x


@app.get("/path/real/{x:float}/{y:uuid}")
async def path_real(x: float, y: uuid.UUID):
    return [x, y]


@app.get("/path/two/{a}/{b}")
async def path_two(b: int, a: str = Path(alias="a")):
    return [a, b]


# queries


class QueryModel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    limit: int = 5
    tags: list[str] = []


@app.get("/query/plain")
async def query_plain(q: str, n: int = 5, f: float | None = None):
    return [q, n, f]


@app.get("/query/optional")
async def query_optional(q: str | None = None, n: int | None = None, b: bool = False):
    return [q, n, b]


@app.get("/query/list")
async def query_list(
    q: Annotated[list[int], Query()],
    d: Annotated[list[str], Query()] = ["x"],  # noqa: B006
    s: Annotated[set[str] | None, Query()] = None,
):
    d.append("own")
    return [q, d, sorted(s or ())]


@app.get("/query/checked")
async def query_checked(
    q: Annotated[str, Query(min_length=2, max_length=4, pattern="^a")] = "ab",
    n: Annotated[int, Query(ge=0, lt=10)] = 1,
    e: Color = Color.RED,
    level: Level = Level.LOW,
):
    return [q, n, e, level]


@app.get("/query/alias")
async def query_alias(
    q: Annotated[str, Query(alias="item-query")] = "-",
    c: Annotated[str, Query(validation_alias=AliasChoices("c1", "c2"))] = "-",
):
    return [q, c]


@app.get("/query/model")
async def query_model(q: Annotated[QueryModel, Query()]):
    return q


@app.get("/query/json")
async def query_json(q: Annotated[Json[list[int]], Query()]):
    return q


@app.get("/query/types")
async def query_types(
    d: datetime.datetime | None = None,
    t: datetime.timedelta | None = None,
    m: decimal.Decimal | None = None,
    u: uuid.UUID | int | None = None,
    b: bytes | None = None,
):
    return [d, t, m, u, b and b.decode("latin-1")]


@app.get("/query/validated")
async def query_validated(q: Annotated[int, AfterValidator(abs), Query()] = 1):
    return q


@app.get("/query/default")
async def query_default(q: Annotated[int, Query(validate_default=True)] = "7"):  # type: ignore
    return q


# headers and cookies


class HeaderModel(BaseModel):
    x_count: int = 0
    x_tag: list[str] = []


class CookieModel(BaseModel):
    session: str
    count: int = 0


@app.get("/header/plain")
async def header_plain(
    x_token: Annotated[str, Header()],
    x_count: Annotated[int | None, Header()] = None,
    user_agent: Annotated[str | None, Header()] = None,
):
    return [x_token, x_count, user_agent]


@app.get("/header/list")
async def header_list(x_tag: Annotated[list[str] | None, Header()] = None):
    return x_tag


@app.get("/header/underscore")
async def header_underscore(x_y: Annotated[str, Header(convert_underscores=False)] = "-"):
    return x_y


@app.get("/header/model")
async def header_model(x: Annotated[HeaderModel, Header()]):
    return x


@app.get("/cookie/plain")
async def cookie_plain(session: Annotated[str, Cookie()], n: Annotated[int, Cookie(ge=0)] = 1):
    return [session, n]


@app.get("/cookie/model")
async def cookie_model(x: Annotated[CookieModel, Cookie()]):
    return x


# bodies


@app.post("/body/model")
async def body_model(item: Item):
    return item


@app.post("/body/optional")
async def body_optional(item: Item | None = None):
    return item


@app.post("/body/two")
async def body_two(item: Item, n: Annotated[int, Body()], o: Annotated[Item | None, Body()] = None):
    return [item, n, o]


@app.post("/body/embedded")
async def body_embedded(item: Annotated[Item, Body(embed=True)]):
    return item


@app.post("/body/alias")
async def body_alias(item: Aliased):
    return item


@app.post("/body/dict")
async def body_dict(item: dict[str, int]):
    return item


@app.post("/body/list")
async def body_list(items: list[Item]):
    return items


@app.post("/body/scalar")
async def body_scalar(x: Annotated[datetime.date | str | int, Body()]):
    return [type(x).__name__, x]


@app.post("/body/any")
async def body_any(x: Annotated[Any, Body()] = None):
    return {"x": x}


@app.put("/body/all/{id}")
def body_all(id: int, item: Item, q: str | None = None, x_a: Annotated[str, Header()] = "-"):
    return {"id": id, "q": q, "a": x_a, **item.model_dump()}


# dependencies


def shared(q: str | None = None) -> str | None:
    LOG.append(f"shared {q}")
    return q


async def above(x: Annotated[Any, Depends(shared)], x_a: Annotated[str, Header()] = "-") -> str:
    LOG.append("above")
    await asyncio.sleep(0)
    return f"{x}{x_a}"


async def refusing(n: int = 0) -> None:
    LOG.append(f"refusing {n}")
    if n == 1:
        raise HTTPException(403, {"n": n}, {"X-Why": "one"})
    if n == 2:
        raise Teapot("short")
    if n == 3:
        raise ValueError("three")


class Common:
    def __init__(self, skip: int = 0, limit: Annotated[int, Query(le=10)] = 5) -> None:
        self.skip = skip
        self.limit = limit


class Checker:
    def __init__(self, word: str) -> None:
        self.word = word

    def __call__(self, q: str = "") -> bool:
        return self.word in q


class AsyncChecker(Checker):
    async def __call__(self, q: str = "") -> bool:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().__call__(q)


@app.get("/dep/cached")
async def dep_cached(
    a: Annotated[Any, Depends(shared)],
    b: Annotated[Any, Depends(above)],
    c: Annotated[Any, Depends(shared, use_cache=False)],
):
    return [a, b, c]


@app.get("/dep/def")
def dep_def(a: Annotated[Any, Depends(shared)], c: Annotated[Common, Depends()], n: int = 1):
    return [a, c.skip, c.limit, n]


@app.get("/dep/callable")
async def dep_callable(
    a: Annotated[bool, Depends(Checker("a"))], b: Annotated[bool, Depends(AsyncChecker("b"))]
):
    return [a, b]


@app.get("/dep/refusing", dependencies=[Depends(refusing)])
async def dep_refusing(m: int = 0):
    LOG.append("endpoint")
    return m


@app.post("/dep/body")
async def dep_body(item: Item, same: Annotated[Item, Depends(body_model)]):
    return [item, same]


async def set_state() -> None:
    STATE.set("set")


def read_state() -> str:
    value = STATE.get()
    STATE.set("lost")
    return value


@app.get("/dep/context")
async def dep_context(
    a: Annotated[Any, Depends(set_state)],
    b: Annotated[str, Depends(read_state)],
):
    task = asyncio.current_task()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        inner = group.create_task(asyncio.sleep(0, STATE.get()))
    return [b, STATE.get(), inner.result(), task is not None]


# security


@app.get("/security/bearer")
async def security_bearer(
    token: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())],
):
    return token


@app.get("/security/oauth")
async def security_oauth(token: Annotated[str, Depends(OAuth2PasswordBearer("token"))]):
    return token


@app.get("/security/basic")
async def security_basic(found: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]):
    return found


@app.get("/security/keys")
async def security_keys(
    a: Annotated[str | None, Security(APIKeyHeader(name="X-Key", auto_error=False))],
    b: Annotated[str | None, Security(APIKeyQuery(name="key", auto_error=False))],
    c: Annotated[str | None, Security(APIKeyCookie(name="key", auto_error=False))],
):
    return [a, b, c]


async def scoped(scopes: SecurityScopes) -> list[str]:
    scopes.scopes.append("own")
    return scopes.scopes


@app.get("/security/scopes")
async def security_scopes(a: Annotated[Any, Security(scoped, scopes=["x", "y"])]):
    return a


# objects


@app.get("/request/{x}")
async def request_of(x: int, request: Request, connection: HTTPConnection):
    return {
        "same": request is connection,
        "method": request.method,
        "path": request.url.path,
        "query": str(request.query_params),
        "params": request.path_params,
        "header": request.headers.get("x-a"),
        "cookies": request.cookies,
        "app": request.app is app,
        "url": request.url_for("request_of", x=3).path,
        "endpoint": request.scope["endpoint"].__name__,
        "route": request.scope["route"].path,
    }


@app.post("/request/body")
async def request_body(request: Request):
    return [(await request.body()).decode("latin-1"), await request.json()]


@app.post("/request/both")
async def request_both(item: Item, request: Request):
    return [item, await request.json()]


@app.get("/response/headers")
async def response_headers(
    response: Response, code: Annotated[int | None, Query(ge=200, le=599)] = None
):
    response.headers["X-One"] = "1"
    response.headers.append("X-One", "2")
    response.set_cookie("a", "b", httponly=True)
    if code is not None:
        response.status_code = code
    return {"code": code}


@app.get("/response/given")
async def response_given(response: Response, kind: str = "json"):
    response.headers["X-Lost"] = "1"
    match kind:
        case "json":
            return JSONResponse({"a": 1}, 202, {"X-A": "1"})
        case "text":
            return PlainTextResponse("täxt")
        case "html":
            return HTMLResponse("<p>")
        case "plain":
            return Response(b"raw", media_type="application/x-raw")
        case "redirect":
            return RedirectResponse("/result/dict")
        case "empty":
            return Response(status_code=204)
        case "stream":
            return StreamingResponse(iter([b"a", b"b"]), media_type="text/plain")
        case "file":
            return FileResponse(__file__, headers={"etag": "x", "last-modified": "y"})
        case "cookie":
            found = JSONResponse([])
            found.set_cookie("a", "b")
            found.delete_cookie("c")
            return found
        case _:
            return {"kind": kind}


@app.get("/background")
async def background(tasks: BackgroundTasks, given: bool = False, add: bool = True):
    if add:
        tasks.add_task(LOG.append, "background")
    return JSONResponse(1) if given else {"a": 1}


# response models


@app.get("/model/plain")
async def model_plain(bad: bool = False) -> Item:
    return {"name": 5} if bad else {"name": "a", "more": 1}  # type: ignore[return-value]


@app.get("/model/def")
def model_def(bad: bool = False) -> Item:
    return {"name": 5} if bad else Item(name="a")  # type: ignore[return-value]


@app.get("/model/list")
async def model_list(n: Annotated[int, Query(le=300)] = 3) -> list[Item]:
    return [Item(name=f"n{number}", price=10.0**-number) for number in range(n)]


@app.get("/model/unset", response_model=Item, response_model_exclude_unset=True)
async def model_unset():
    return {"name": "a", "price": 2}


@app.get("/model/none", response_model=Item, response_model_exclude_none=True)
async def model_none():
    return Item(name="a")


@app.get(
    "/model/some",
    response_model=list[Item],
    response_model_include={"__all__": {"name", "price"}},
    response_model_exclude_defaults=True,
)
async def model_some():
    return [Item(name="a"), Item(name="b", price=2)]


@app.get("/model/alias", response_model=Aliased, response_model_by_alias=False)
async def model_alias():
    return Aliased(itemId=3, secret="x")


@app.get("/model/json", response_class=JSONResponse)
async def model_json() -> Written:
    return Written(first="a", last="b")


@app.get("/model/union")
async def model_union(n: int = 0) -> int | str | Item | None:
    return [1, "a", Item(name="x"), None][n]  # type: ignore[return-value]


@app.get("/model/written")
async def model_written(response: Response) -> Written:
    response.headers["X-A"] = "1"
    return Written(first="ä", last="ö")


@app.get("/model/nan")
async def model_nan() -> list[float]:
    return [float("nan"), 1e-05, 1e16]


@app.get("/model/response")
async def model_response(n: int = 0) -> Item:
    return JSONResponse({"n": n}) if n else Item(name="a")  # type: ignore[return-value]


# classes and codes


class Upper(PlainTextResponse):
    def render(self, content: Any) -> bytes:
        return str(content).upper().encode()


@app.get("/class/text", response_class=PlainTextResponse)
async def class_text(n: int = 0):
    return ["täxt", 5, None, Color.RED, "\ud800"][n]


@app.get("/class/html", response_class=HTMLResponse, status_code=203)
def class_html():
    return "<p>"


@app.get("/class/own", response_class=Upper)
async def class_own():
    return "abc"


@app.get("/class/redirect", response_class=RedirectResponse)
async def class_redirect():
    return "/result/dict?a=b c"


@app.post("/code/201", status_code=201)
async def code_created():
    return {"id": 1}


@app.delete("/code/204", status_code=204)
async def code_empty(response: Response):
    response.headers["X-A"] = "1"


@app.get("/code/304", status_code=304)
async def code_not_modified():
    return {"lost": True}


@app.get("/code/raise")
async def code_raise(n: int):
    match n:
        case 0:
            return {"n": n}
        case 1:
            raise Teapot("tea")
        case 2:
            raise RuntimeError("two")
        case _ if 200 <= n < 600:
            raise HTTPException(n, {"n": n}, {"X-N": str(n)})
        case _:
            raise HTTPException(422, {"n": n})


@app.get("/code/def")
def code_def(n: int):
    LOG.append("once")
    if n == 1:
        raise Teapot("tea")
    if n == 2:
        raise StopIteration
    return n


@app.api_route("/several", methods=["GET", "POST", "PATCH"], include_in_schema=False)
async def several(request: Request):
    return request.method


# included routers

inner = APIRouter(prefix="/inner", dependencies=[Depends(above)])


@inner.get("/{x}")
async def included(x: int, request: Request):
    if x == 0:
        raise HTTPException(404, "none")
    return [x, request.scope["route"].path]


outer = APIRouter(dependencies=[Depends(refusing)], default_response_class=PlainTextResponse)
outer.include_router(inner, prefix="/outer")


@outer.get("/text")
async def outer_text():
    return "text"


app.include_router(outer, prefix="/v1")
app.include_router(inner, prefix="/v2")


# dependencies with yield


async def opened(q: str = "-") -> AsyncIterator[str]:
    LOG.append(f"open {q}")
    try:
        yield f"opened {q}"
    except Teapot:
        LOG.append("teapot seen")
        raise
    except KeyError:
        LOG.append("swallowed")
    except HTTPException as exc:
        LOG.append(f"http {exc.status_code}")
        raise
    finally:
        await asyncio.sleep(0)
        LOG.append(f"close {q}")


def session(late: Annotated[str, Depends(opened)]) -> Iterator[str]:
    LOG.append("session")
    try:
        yield f"session of {late}"
    except ZeroDivisionError as exc:
        LOG.append("changed")
        raise HTTPException(409, "changed") from exc
    finally:
        LOG.append("session closed")


def early() -> Iterator[str]:
    LOG.append("early")
    yield "early"
    LOG.append("early closed")


def failing(when: str = "") -> Iterator[str]:
    if when == "enter":
        raise Teapot("enter")
    yield "failing"
    if when == "exit":
        raise Teapot("exit")


def act(n: int, tasks: BackgroundTasks) -> dict[str, int]:
    tasks.add_task(LOG.append, "background")
    LOG.append("endpoint")
    if n == 1:
        raise Teapot("tea")
    if n == 2:
        raise KeyError("k")
    if n == 3:
        return {"n": 1 // 0}
    if n == 4:
        raise HTTPException(402, "pay")
    return {"n": n}


@app.get("/yield/async")
async def yield_async(tasks: BackgroundTasks, x: Annotated[str, Depends(opened)], n: int = 0):
    return [x, act(n, tasks)]


@app.get("/yield/def")
def yield_def(tasks: BackgroundTasks, x: Annotated[str, Depends(session)], n: int = 0):
    return [x, act(n, tasks)]


@app.get("/yield/early")
async def yield_early(
    tasks: BackgroundTasks,
    a: Annotated[str, Depends(opened)],
    b: Annotated[str, Depends(early, scope="function")],
    c: Annotated[str, Depends(session)],
    n: int = 0,
):
    return [a, b, c, act(n, tasks)]


@app.get("/yield/failing")
async def yield_failing(x: Annotated[str, Depends(failing)], a: Annotated[str, Depends(opened)]):
    return [x, a]


@app.get("/yield/failing-early")
async def yield_failing_early(
    a: Annotated[str, Depends(opened)],
    x: Annotated[str, Depends(failing, scope="function")],
):
    return [x, a]


@app.get("/yield/model")
def yield_model(x: Annotated[str, Depends(early)], response: Response, n: int = 0) -> Item:
    response.headers["X-A"] = "1"
    return {"name": 5} if n else {"name": x}  # type: ignore[return-value]


@app.get("/yield/stream")
async def yield_stream(x: Annotated[str, Depends(opened)]):
    async def parts() -> AsyncIterator[bytes]:
        for number in range(3):
            LOG.append(f"part {number}")
            yield b"%d" % number

    return StreamingResponse(parts())


# what FastAPI does itself


@app.post("/left/form")
async def left_form(x: Annotated[str, Form()]):
    return x


@app.get("/left/lines")
async def left_lines() -> AsyncIterator[int]:
    for number in range(3):
        yield number


@app.get("/left/validated")
async def left_validated(
    q: Annotated[int, AfterValidator(lambda value: value)], a: Annotated[Any, Depends(shared)]
):
    return q


@app.get("/left/limited/{x}")
def limited(x: int, first: Annotated[Any, Depends(shared, use_cache=False)] = None):
    return x
