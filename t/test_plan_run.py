"""Plans made by hand, run by the module: their steps, their ends, and what they leave."""

import signal
import threading
from typing import Any

import httpx
import pytest

from conftest import StartApp
from harness import Nginx, Raw, processes, until
from harness.planned import HANDMADE, kind

APP = (
    HANDMADE
    + """
import asyncio
import contextvars

from pydantic_core import core_schema as cs
from starlette.background import BackgroundTask
from starlette.responses import StreamingResponse

events = []
opened = True


async def asgi(request):
    if "closed" in request.query_params:
        set_open(request.query_params["closed"] != "1")
    if RAISE in request.scope:
        exc = request.scope[RAISE]
        return JSONResponse({
            "raised": repr(exc),
            "frames": exc.__traceback__ is not None,
            "body": (await request.body()).decode(),
            "state": dict(request.scope.get("state", {})),
        }, 418)
    if request.url.path == "/events":
        return JSONResponse(events)
    return JSONResponse({"asgi": request.url.path})


def set_open(value):
    global opened
    opened = value


def field(source, name, slot, *, many=False, fast=Fast.NOTHING, validate=None, default=None):
    names = name if isinstance(name, tuple) else (name,)
    names = tuple(each.encode() for each in names)
    return Field(source, names, slot, many, fast, validate, default, None)


LIMIT = validator(cs.int_schema(ge=0, le=100))


async def constant():
    return {"hello": "world"}


local = contextvars.ContextVar("local", default="unset")


async def first(n):
    events.append("first")
    local.set(f"set {n}")
    return [n, id(asyncio.current_task())]


async def second(one):
    events.append("second")
    await asyncio.sleep(0)
    return [*one, local.get()]


async def joined(one, two):
    events.append("joined")
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(asyncio.sleep(0, "slept"))
    return {
        "one": one[0], "two": two[2], "task": task.result(),
        "same": one[1] == two[1] == id(asyncio.current_task()),
    }


async def failing(kind):
    if kind == "late":
        await asyncio.sleep(0)
    if kind == "exit":
        raise SystemExit(3)
    raise ValueError(kind)


def refused(kind):
    raise KeyError(kind)


def not_awaitable(kind):
    return 3


async def bad_finish(result, slots):
    raise LookupError(result)


class Half:
    # a response that raises, before or after its beginning
    def __init__(self, started):
        self.started = started

    async def __call__(self, scope, receive, send):
        if self.started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            await asyncio.sleep(0)
        raise OSError("broken off")


async def give(result, slots):
    return result


GIVEN = ANSWER._replace(finish=give)


async def half(kind):
    return Half(kind == "started")


async def ask(request):
    body = await request.body()
    request.state.seen = "yes"
    if request.query_params.get("raise"):
        raise ValueError("after the body")
    return {
        "body": body.decode(), "path": request.url.path, "params": repr(request.path_params),
        "endpoint": request.scope["endpoint"], "route": request.scope["route"],
        "same": request.scope is scopes[-1],
    }


scopes = []


def compute(request):
    scopes.append(request.scope)
    if "x-fail" in request.headers:
        raise ValueError
    return request.headers.get("x-computed")


async def wait(name):
    events.append(f"{name} started")
    try:
        await asyncio.sleep(0.5 if name.startswith("short") else 60)
    except asyncio.CancelledError:
        events.append(f"{name} cancelled")
        raise
    events.append(f"{name} done")
    return name


async def stubborn():
    events.append("stubborn started")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        events.append("stubborn goes on")
    return "too late"


async def background(result, slots):
    async def run():
        await asyncio.sleep(0.05)
        events.append("background ran")
    return JSONResponse(result, background=BackgroundTask(run))


async def streamed(result, slots):
    async def chunks():
        for number in range(3):
            yield f"{number};"
            await asyncio.sleep(0)
    return StreamingResponse(chunks())


async def scripted(scope, receive, send, request, slots):
    events.append("entered")
    try:
        if slots[0] == "raise":
            raise ValueError("scripted")
        await JSONResponse([slots[0], request.scope is scope])(scope, receive, send)
        if slots[0] == "late":
            raise ValueError("too late")
    finally:
        events.append("left")


async def nothing(scope, receive, send, request, slots):
    pass


def path(name, slot, fast=Fast.NOTHING, validate=None):
    return field(Source.PATH, name, slot, fast=fast, validate=validate, default=REQUIRED)


ONE = {"path_names": ("kind",), "path_convertors": ("str",), "fields": (path("kind", 0),)}

PLANS = {
    "/constant": plan(step(constant, 0), slots=1),
    "/json": plan(step(constant, 0), slots=1, answer=ANSWER._replace(form=Form.JSON)),
    "/steps": plan(
        step(first, 1, n=0), step(second, 2, one=1), step(joined, 3, one=1, two=2), slots=4,
        fields=(field(Source.QUERY, "n", 0, validate=LIMIT, default=REQUIRED),),
    ),
    "/fail/{kind}": plan(step(failing, 1, kind=0), step(constant, 1), slots=2, **ONE),
    "/refuse/{kind}": plan(step(refused, 1, kind=0), slots=2, **ONE),
    "/number-is-no-coroutine/{kind}": plan(step(not_awaitable, 1, kind=0), slots=2, **ONE),
    "/bad-finish": plan(
        step(constant, 0), slots=1, answer=ANSWER._replace(finish=bad_finish),
    ),
    "/half/{kind}": plan(step(half, 1, kind=0), slots=2, answer=GIVEN, **ONE),
    "/request/{kind}": plan(
        step(ask, 2, request=1), slots=4, request=1, path_names=("kind",),
        path_convertors=("str",), fields=(path("kind", 0), Computed(3, compute)),
    ),
    "/wait/{kind}": plan(step(wait, 1, name=0), slots=2, **ONE),
    "/stubborn": plan(step(stubborn, 0), slots=1),
    "/background": plan(step(constant, 0), slots=1, answer=ANSWER._replace(finish=background)),
    "/streamed": plan(step(constant, 0), slots=1, answer=ANSWER._replace(finish=streamed)),
    "/script/{kind}": plan(slots=1, script=scripted, **ONE),
    "/nothing": plan(slots=0, script=nothing),
    "/with-header": plan(step(constant, 0), slots=1, required_headers=(b"x-needed",)),
    "/without-header": plan(step(constant, 0), slots=1, absent_headers=(b"origin",)),
    "/https": plan(step(constant, 0), slots=1, https=True),
    "/host": plan(step(constant, 0), slots=1, hosts=(b"one.test", b"*.two.test")),
}

app = application(PLANS, asgi, lambda: opened)
"""
)

SERVER = """
add_header X-Kind $databridge_kind always;
location = /metrics { databridge_metrics; }
location = /quick {
    rewrite ^ /wait/long break; databridge_app app:app; databridge_timeout 200ms;
}
location = /quick-stubborn {
    rewrite ^ /stubborn break; databridge_app app:app; databridge_timeout 200ms;
}
"""

CONFIGURATION = {"server": SERVER}


def test_a_plan_answers(shared_app: Nginx) -> None:
    answer = shared_app.client.get("/constant")
    assert answer.json() == {"hello": "world"}
    assert kind(answer) == "plan"


@pytest.mark.parametrize("path", ["/constant", "/json"])
def test_a_head_has_no_body(shared_app: Nginx, path: str) -> None:
    with shared_app.raw() as client:
        for method in ("HEAD", "GET"):
            client.send(f"{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            answer = client.response(head=method == "HEAD")
            assert answer.headers["content-length"] == "17"
            assert answer.headers["x-kind"] == "plan"
    assert answer.body == b'{"hello":"world"}'


def test_other_paths_are_the_applications(shared_app: Nginx) -> None:
    answer = shared_app.client.get("/another")
    assert (answer.json(), kind(answer)) == ({"asgi": "/another"}, "asgi")


def test_steps_share_one_task_and_its_context(shared_app: Nginx) -> None:
    answer = shared_app.client.get("/steps?n=5")
    assert answer.json() == {"one": 5, "two": "set 5", "task": "slept", "same": True}


def test_everything_is_validated_before_anything_runs(shared_app: Nginx) -> None:
    before = shared_app.client.get("/events").json().count("first")
    assert kind(shared_app.client.get("/steps?n=101")) == "plan-asgi"
    assert kind(shared_app.client.get("/steps")) == "plan-asgi"
    assert shared_app.client.get("/events").json().count("first") == before


FAILURES = [
    ("/fail/now", "ValueError('now')"),
    ("/fail/late", "ValueError('late')"),
    ("/fail/exit", "SystemExit(3)"),
    ("/refuse/it", "KeyError('it')"),
    ("/bad-finish", "LookupError({'hello': 'world'})"),
    ("/half/now", "OSError('broken off')"),
    ("/script/raise", "ValueError('scripted')"),
]


@pytest.mark.parametrize(("path", "raised"), FAILURES)
def test_an_exception_is_raised_in_the_application(
    shared_app: Nginx, path: str, raised: str
) -> None:
    answer = shared_app.client.get(path)
    assert answer.status_code == 418
    assert answer.json() == {"raised": raised, "frames": True, "body": "", "state": {}}


def test_what_is_no_awaitable_is_an_exception(shared_app: Nginx) -> None:
    answer = shared_app.client.get("/number-is-no-coroutine/x")
    assert "can't be used in 'await'" in answer.json()["raised"]


def test_the_application_can_read_the_body_again(shared_app: Nginx) -> None:
    answer = shared_app.client.post("/request/x?raise=1", content=b"body")
    assert answer.json()["raised"] == "ValueError('after the body')"
    assert (answer.json()["body"], answer.json()["state"]) == ("body", {"seen": "yes"})


def test_a_response_that_breaks_off_is_broken_off(app: StartApp) -> None:
    server = app(APP, **CONFIGURATION)
    with pytest.raises(httpx.RemoteProtocolError):
        server.client.get("/half/started")
    server.error_log.expect("broken off|OSError")
    server.logged("Exception in ASGI application")


def test_a_request_is_made_for_who_asks(shared_app: Nginx) -> None:
    answer = shared_app.client.post("/request/some%20thing", content=b"body")
    assert answer.json() == {
        "body": "body",
        "path": "/request/some thing",
        "params": "{'kind': 'some thing'}",
        "endpoint": "the endpoint",
        "route": "the route",
        "same": True,
    }


def test_a_streamed_body_of_who_asks_is_the_applications(shared_app: Nginx) -> None:
    content = b"x" * 3_000_000
    assert kind(shared_app.client.post("/request/x", content=content)) == "plan-asgi"


def test_a_response_with_background_tasks_is_called(shared_app: Nginx) -> None:
    assert shared_app.client.get("/background").json() == {"hello": "world"}
    until("the task", lambda: "background ran" in shared_app.client.get("/events").json())


def test_a_streaming_response_is_called(shared_app: Nginx) -> None:
    assert shared_app.client.get("/streamed").text == "0;1;2;"


def test_a_script_does_all_that_follows(shared_app: Nginx) -> None:
    before = shared_app.client.get("/events").json()
    assert shared_app.client.get("/script/a").json() == ["a", True]
    assert shared_app.client.get("/events").json()[len(before) :] == ["entered", "left"]


def test_a_script_that_raises_after_its_response_is_logged(app: StartApp) -> None:
    server = app(APP, **CONFIGURATION)
    assert server.client.get("/script/late").json() == ["late", True]
    server.error_log.expect("too late|ValueError")
    server.logged("ValueError: too late")


def test_a_script_that_sends_nothing_is_a_500(app: StartApp) -> None:
    server = app(APP, **CONFIGURATION)
    assert server.client.get("/nothing").status_code == 500
    server.error_log.expect("returned without starting response")
    server.logged("returned without starting response")


def test_headers_that_have_to_be_there_or_not(shared_app: Nginx) -> None:
    def asked(path: str, **headers: str) -> str:
        return kind(shared_app.client.get(path, headers=headers))

    assert asked("/with-header") == "asgi"
    assert asked("/with-header", **{"X-Needed": ""}) == "plan"
    assert asked("/without-header") == "plan"
    assert asked("/without-header", Origin="https://a.test") == "asgi"


HOSTS = [("one.test", True), ("one.test:80", True), ("One.test", False), ("two.test", False)]
HOSTS += [("a.two.test:8080", True), ("a.two.test.evil", False), ("xone.test", False)]


@pytest.mark.parametrize(("host", "planned"), HOSTS)
def test_only_known_hosts_are_planned(shared_app: Nginx, host: str, planned: bool) -> None:
    answer = shared_app.client.get("/host", headers={"host": host})
    assert kind(answer) == ("plan" if planned else "asgi")


def test_plain_http_is_not_planned_where_it_has_to_be_https(shared_app: Nginx) -> None:
    assert kind(shared_app.client.get("/https")) == "asgi"


def test_a_closed_gate_leaves_all_to_the_application(shared_app: Nginx) -> None:
    shared_app.client.get("/?closed=1")
    assert kind(shared_app.client.get("/constant")) == "plan-asgi"
    shared_app.client.get("/?closed=0")
    assert kind(shared_app.client.get("/constant")) == "plan"


def test_many_at_once_get_their_own_answers(shared_app: Nginx) -> None:
    wrong: list[Any] = []

    def ask(base: int) -> None:
        with httpx.Client(base_url=shared_app.base_url, timeout=30) as client:
            for number in range(base, base + 60):
                value = client.get(f"/steps?n={number % 100}").json()
                if value["one"] != number % 100 or not value["same"]:
                    wrong.append(value)

    threads = [threading.Thread(target=ask, args=(100 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def gil_waits(server: Nginx) -> int:
    """How often Python's thread has taken the GIL to look at its queue."""
    text = server.client.get("/metrics").text
    (line,) = (row for row in text.splitlines() if "gil_wait_seconds_count" in row)
    return int(float(line.split()[-1]))


def test_a_batch_takes_the_gil_once(shared_app: Nginx) -> None:
    clients = [shared_app.raw() for _ in range(32)]
    worker = shared_app.worker()

    def waits(batch: list[Raw]) -> int:
        before = gil_waits(shared_app)
        for _ in range(10):
            with processes.stopped(worker):
                for client in batch:
                    client.get("/constant")
            for client in batch:
                assert client.response().body == b'{"hello":"world"}'
        return gil_waits(shared_app) - before

    waits(clients)
    counts = waits(clients[:1]), waits(clients)
    for client in clients:
        client.socket.close()
    # none when it is stopped before it sleeps, more than one when a batch comes in pieces
    assert all(count <= 40 for count in counts), counts


def test_a_suspended_plan_past_its_time_is_cancelled(shared_app: Nginx) -> None:
    before = shared_app.client.get("/events").json().count("long cancelled")
    assert shared_app.client.get("/quick").status_code == 504
    until(
        "the cancellation",
        lambda: shared_app.client.get("/events").json().count("long cancelled") > before,
    )


def test_a_plan_that_outlives_its_cancellation_answers_nobody(shared_app: Nginx) -> None:
    assert shared_app.client.get("/quick-stubborn").status_code == 504
    until("the end", lambda: "stubborn goes on" in shared_app.client.get("/events").json())
    assert shared_app.client.get("/constant").status_code == 200


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_a_client_that_leaves_does_not_cancel_its_plan(shared_app: Nginx, reset: bool) -> None:
    name = f"short-{reset}"
    client = shared_app.raw()
    client.get(f"/wait/{name}")
    until("the start", lambda: f"{name} started" in shared_app.client.get("/events").json())
    client.reset() if reset else client.socket.close()
    until("the end", lambda: f"{name} done" in shared_app.client.get("/events").json())
    assert f"{name} cancelled" not in shared_app.client.get("/events").json()


def test_plans_in_flight_survive_a_reload(app: StartApp) -> None:
    server = app(APP, **CONFIGURATION)
    with server.raw() as client:
        client.get("/wait/short")
        until("the start", lambda: "short started" in server.client.get("/events").json())
        server.reload()
        assert client.response().body == b'"short"'
    assert kind(server.client.get("/constant")) == "plan"


def test_plans_in_flight_are_finished_when_the_worker_quits(app: StartApp) -> None:
    server = app(APP, **CONFIGURATION)
    with server.raw() as client:
        client.get("/wait/short")
        until("the start", lambda: "short started" in server.client.get("/events").json())
        server.kill(signal.SIGQUIT)
        assert client.response().body == b'"short"'
    assert server.wait() == 0


WRONG = [
    ("(1, 2)", "the whole of a plan has to have 20 members, not 2"),
    ("3", "the whole of a plan has to be a tuple, not 3"),
    ("PLAN._replace(slots=999)", "slots of a plan has to be 0 to 256, not 999"),
    ("PLAN._replace(slots='a')", "slots of a plan has to be an int, not 'a'"),
    ("PLAN._replace(steps=())", "a plan without a script needs steps"),
    ("PLAN._replace(request=1)", "request of a plan has to be -1 to 0, not 1"),
    ("PLAN._replace(hosts=('a',))", "a host of hosts of a plan has to be bytes, not 'a'"),
    (
        "PLAN._replace(steps=(step(constant, 0, a=0),))",
        "a step of a plan takes 'a' from slot 0, into which nothing is put before",
    ),
    ("PLAN._replace(https=1)", "https of a plan has to be a bool, not 1"),
    ("PLAN._replace(script=1)", "script of a plan has to be callable, not 1"),
    ("PLAN._replace(path_names=('a',))", "path_convertors of a plan has to have 1 members"),
    (
        "PLAN._replace(path_names=('a',), path_convertors=('color',))",
        "a plan knows no path convertor 'color'",
    ),
    (
        "PLAN._replace(fields=(Field(0, (b'b',), 0, False, 0, None, None, None),))",
        'the path of a plan has no parameter "b"',
    ),
    (
        "PLAN._replace(fields=(Field(3, (b'b',), 0, True, 0, None, None, None),))",
        "a field with many values is neither fast nor a cookie",
    ),
    (
        "PLAN._replace(body=Body((), False, True, from_json))",
        "the body of a plan has to have fields",
    ),
    (
        "PLAN._replace(answer=PLAN.answer._replace(form=1))",
        'an answer that is dumped needs "dump"',
    ),
]


def test_a_wrong_plan_is_refused_with_what_is_wrong(app: StartApp) -> None:
    code = f"""{HANDMADE}
async def constant():
    pass

PLAN = plan(step(constant, 0), slots=1)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        for text in {[text for text, _ in WRONG]!r}:
            try:
                _databridge.add_route(0, "GET", "/", None, plan=eval(text))
            except (TypeError, ValueError) as exc:
                print(f"{{text}}: {{exc}}")
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"here"}})
"""
    server = app(code)
    for text, error in WRONG:
        assert f"{text}: {error}" in server.output()
