"""What is seen from outside: metrics over workers and reloads, variables, traces."""

import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from conftest import StartApp, StartServer
from harness import Nginx, until
from harness.websocket import WebSocket, closing, handshake
from test_crud import schema

APP = """
import asyncio
import time

from fastapi import FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import PlainTextResponse, Response
from starlette.applications import Starlette
from starlette.routing import Mount, Route

app = FastAPI()


@app.get("/items/{item_id}")
async def item(item_id: int) -> int:
    if item_id == 0:
        raise HTTPException(418, "teapot")
    return item_id


@app.post("/items")
async def create() -> Response:
    return Response(status_code=201)


@app.get("/headers")
async def headers(request: Request) -> list[list[str]]:
    return [[name.decode(), value.decode()] for name, value in request.headers.raw]


@app.get("/sleep/{seconds}")
async def sleep(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


@app.get("/block/{seconds}")
async def block(seconds: float) -> str:
    time.sleep(seconds)
    return "blocked"


@app.get("/thread/{seconds}")
def thread(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


@app.get("/answers-an-id")
async def answers_an_id() -> Response:
    return PlainTextResponse("", headers={"X-Request-ID": "from-the-app"})


@app.websocket("/rooms/{room}")
async def room(socket: WebSocket, room: str) -> None:
    await socket.accept()
    async for _ in socket.iter_text():
        pass


app.mount("/sub", Starlette(routes=[Route("/", lambda request: PlainTextResponse("sub"))]))
"""

MODEL = """
    from databridge import Model

    class Article(Model):
        title: str
"""

READY = 1
"""Requests for /sub/ that a start takes."""

METRICS = "location = /metrics { databridge_metrics; }"

VARIABLES = "route kind queue_time handler_time request_id trace_id traceparent".split()

LOG = (
    "log_format seen '$request_uri "
    + " ".join(f"{name}=$databridge_{name}" for name in VARIABLES)
    + "';"
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"

Labels = frozenset[tuple[str, str]]


class Metrics:
    """The samples of one exposition by name and labels."""

    def __init__(self, text: str) -> None:
        self.types: dict[str, str] = {}
        self.samples: dict[tuple[str, Labels], float] = {}
        for family in text_string_to_metric_families(text):
            assert family.documentation and family.name.startswith("databridge_")
            self.types[family.name] = family.type
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.samples, f"{key} twice"
                self.samples[key] = sample.value

    def __call__(self, metric: str, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        return sum(
            value
            for (name, given), value in self.samples.items()
            if name == f"databridge_{metric}" and labels.items() <= dict(given).items()
        )


def scrape(server: Nginx) -> Metrics:
    response = server.client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Metrics(response.text)


def counted(server: Nginx, number: float, metric: str = "requests_total", **labels: str) -> Metrics:
    """Metrics once that many are counted: an answer is sent before it is."""

    def found() -> Metrics | None:
        metrics = scrape(server)
        return metrics if metrics(metric, **labels) == number else None

    try:
        return until(f"{metric} {labels} at {number}", found)  # type: ignore[return-value]
    except AssertionError as exc:
        lines = server.client.get("/metrics").text.splitlines()
        values = [line for line in lines if line[0] != "#" and "_bucket" not in line]
        raise AssertionError("\n".join([str(exc), *values])) from None


@pytest.fixture
def seen(app: StartApp) -> Any:
    def start(**configuration: Any) -> Nginx:
        configuration.setdefault("server", METRICS)
        configuration.setdefault("ready", "/sub/")
        return app(APP, **configuration)

    return start


@pytest.fixture(scope="module")
def shared() -> Iterator[Nginx]:
    """One server with the variables in its log, a traced location, and metrics."""
    server = Nginx()
    included = '[<!--#include virtual="/traced/headers" -->]'
    server.write({"app.py": APP, "included": included})
    server.configure(
        "databridge_app app:app;",
        http=LOG,
        server=METRICS
        + "location /traced/ { rewrite ^/traced(.*) $1 break; databridge_app app:app;"
        " databridge_trace on; }"
        "location = /plain { return 204; }"
        f"location = /included {{ alias {server.app}/included; ssi on; ssi_types *; }}"
        f"access_log {server.prefix}/seen.log seen;",
    )
    server.start("/sub/")
    yield server
    problems = server.finish()
    assert not problems, problems


def logged(server: Nginx, path: str) -> dict[str, str]:
    """The variables as the access log has them for the path, which is asked for once."""
    log = server.prefix / "seen.log"

    def line() -> str | None:
        lines = [line for line in log.read_text().splitlines() if line.split()[0] == path]
        assert len(lines) < 2, lines
        return lines[0] if lines else None

    found = until(f"{path} in the log", line)
    assert found
    return dict(word.split("=", 1) for word in found.split()[1:])


# counts


def test_requests_are_counted_by_route_method_and_status(seen: Any) -> None:
    server = seen()
    for number in (1, 2, 3, 0):
        server.client.get(f"/items/{number}")
    server.client.get("/items/x")
    server.client.post("/items")
    server.client.delete("/items")
    server.client.get("/nowhere")
    server.client.get("/rooms/1")
    server.client.request("BREW", "/items/1")

    metrics = counted(server, READY + 10)
    app = {"app": "app:app"}
    item = {**app, "route": "/items/{item_id}"}
    assert metrics("requests_total", **item, method="GET", status="200") == 3
    assert metrics("requests_total", **item, method="GET", status="4xx") == 1
    assert metrics("requests_total", **item, method="GET", status="422") == 1
    assert metrics("requests_total", **app, route="/items", method="POST", status="201") == 1
    assert metrics("requests_total", **app, route="/items", method="DELETE", status="405") == 1
    assert metrics("requests_total", **app, route="other", method="GET", status="404") == 1
    assert metrics("requests_total", **app, route="/rooms/{room}", status="404") == 1
    assert metrics("requests_total", **app, route="/sub/{path:path}", status="200") == READY
    assert metrics("requests_total", **item, method="other", status="405") == 1


def test_websockets_are_counted_from_accept_to_their_end(seen: Any) -> None:
    server = seen()
    with WebSocket(server.port) as denied, WebSocket(server.port) as vanishing:
        denied.send(handshake("/nowhere"))
        assert denied.response().status == 403
        vanishing.open("/rooms/1")
        with WebSocket(server.port) as closed:
            closed.open("/rooms/2")
            assert counted(server, 2, "websockets")("websockets_opened_total") == 2
            closed.send(closing(1000))
            assert closed.closed_with()[0] == 1000
            counted(server, 1, "websockets")
    assert counted(server, 0, "websockets")("websockets_opened_total") == 2
    counted(server, 2, route="/rooms/{room}", status="101")


def test_a_histogram_adds_up(seen: Any) -> None:
    server = seen()
    server.client.get("/sleep/1.1")
    server.client.get("/sleep/0")
    route = {"route": "/sleep/{seconds}"}
    metrics = counted(server, 2, **route)
    name = "request_duration_seconds"

    buckets = {
        float(dict(labels)["le"]): value
        for (sample, labels), value in metrics.samples.items()
        if sample == f"databridge_{name}_bucket" and route.items() <= dict(labels).items()
    }
    assert sorted(buckets.values()) == [buckets[le] for le in sorted(buckets)]
    assert buckets[float("inf")] == metrics(f"{name}_count", **route) == 2
    assert buckets[1.0] == 1
    assert 1.1 <= metrics(f"{name}_sum", **route) < 15
    assert metrics.types["databridge_request_duration_seconds"] == "histogram"
    for histogram in ("queue_wait", "loop_lag", "gil_wait"):
        assert metrics(f"{histogram}_seconds_count") >= 1
    assert metrics("queue_wait_seconds_count") == READY + 2


def test_json_says_what_prometheus_is_told(seen: Any) -> None:
    server = seen(
        server=METRICS + "location = /json { databridge_metrics json; }"
        "location = /text { databridge_metrics prometheus; }"
    )
    server.client.get("/items/1")
    counted(server, READY + 1)

    ways = [
        server.client.get("/json"),
        server.client.get("/metrics?format=json"),
        server.client.get("/metrics", headers={"accept": "text/html, application/json"}),
    ]
    assert all(way.headers["content-type"] == "application/json" for way in ways)
    assert server.client.get("/json?format=prometheus").text.startswith("# HELP")
    assert server.client.get("/text").text.startswith("# HELP")
    assert server.client.head("/metrics").status_code == 200
    assert server.client.post("/metrics").status_code == 405

    metrics = scrape(server)
    found: dict[tuple[str, Labels], float] = {}
    for name, family in ways[0].json().items():
        assert metrics.types[name.removesuffix("_total")] == family["type"]
        for sample in family["samples"]:
            labels = frozenset(sample["labels"].items())
            if family["type"] != "histogram":
                found[name, labels] = sample["value"]
                continue
            found[f"{name}_sum", labels] = sample["sum"]
            found[f"{name}_count", labels] = sample["count"]
            for le, value in sample["buckets"].items():
                found[f"{name}_bucket", labels | {("le", le)}] = value

    def still(samples: dict[tuple[str, Labels], float]) -> dict[tuple[str, Labels], float]:
        """Without what the loop's own second adds to."""
        moving = ("databridge_loop", "databridge_gil")
        return {key: value for key, value in samples.items() if not key[0].startswith(moving)}

    assert found.keys() == metrics.samples.keys()
    assert still(found) == still(metrics.samples)


def test_counts_are_of_all_workers_and_outlive_a_reload(seen: Any) -> None:
    server = seen(workers=2)
    for number in range(40):
        httpx.get(f"{server.base_url}/items/{number + 1}")
    route = {"route": "/items/{item_id}", "status": "200"}
    assert counted(server, 40, **route)("workers") == 2

    server.expect_new_workers()
    server.reload()
    for number in range(10):
        httpx.get(f"{server.base_url}/items/{number + 1}")
    metrics = counted(server, 50, **route)
    assert metrics("request_duration_seconds_count", route="/items/{item_id}") == 50
    assert metrics("worker_starts_total") == 4
    assert metrics("worker_crashes_total") == 0
    counted(server, 2, "workers")


def test_counts_outlive_a_killed_worker_and_its_gauges_do_not(seen: Any) -> None:
    server = seen()
    server.client.get("/items/1")
    counted(server, READY + 1)

    server.expect_alert(r"exited on signal 9")
    server.expect_new_workers()
    pid = server.worker()
    with server.raw() as raw:
        raw.get("/sleep/30")
        counted(server, 1, "python_requests")
        counted(server, 1, "requests_in_flight")
        os.kill(pid, signal.SIGKILL)
        until("a new worker", lambda: server.workers() not in ([], [pid]))
    server.client.close()
    server.client = httpx.Client(base_url=server.base_url, timeout=15)
    until("an answer", lambda: server.client.get("/sub/").status_code == 200)

    metrics = counted(server, READY + 2)
    assert metrics("requests_total", route="/items/{item_id}") == 1
    assert metrics("requests_in_flight") == metrics("python_requests") == 0
    assert metrics("workers") == metrics("worker_crashes_total") == 1
    assert metrics("worker_starts_total") == 2


def test_gauges_follow_what_runs(seen: Any) -> None:
    server = seen()
    with server.raw() as one, server.raw() as two:
        one.get("/sleep/0.5")
        two.get("/sleep/0.5")
        assert counted(server, 2, "requests_in_flight")
        assert counted(server, 2, "python_requests")
        assert counted(server, 0, "queue_depth")("python_requests") == 2
        assert one.response().status == two.response().status == 200
    metrics = counted(server, 0, "requests_in_flight")
    assert metrics("python_requests") == 0


def test_a_blocked_loop_shows_while_it_is_blocked(seen: Any) -> None:
    server = seen()
    with server.raw() as raw:
        raw.get("/block/1")
        until("a busy loop", lambda: scrape(server)("loop_busy_seconds") > 0.05)
        assert raw.response().status == 200
    until("the turn's end", lambda: scrape(server)("loop_lag_seconds_sum") >= 1)
    counted(server, 0, "loop_busy_seconds")


def test_threads_of_def_handlers_are_seen_busy_and_waiting(seen: Any) -> None:
    server = seen(http="databridge_sync_threads 2;")
    with server.raw() as one, server.raw() as two, server.raw() as three:
        for raw in (one, two, three):
            raw.get("/thread/2.5")
        metrics = counted(server, 2, "sync_threads_busy")
        assert metrics("sync_threads") == 2
        assert metrics("sync_threads_waiting") == 1
        for raw in (one, two, three):
            assert raw.response().status == 200
    counted(server, 0, "sync_threads_busy")


def test_timeouts_rejections_and_disconnects_are_counted(seen: Any) -> None:
    timed = "location /sleep { databridge_app app:app; databridge_timeout 100ms; }"
    server = seen(server=METRICS + timed, http="databridge_queue 1;")
    assert server.client.get("/sleep/5").status_code == 504
    counted(server, 1, "timeouts_total")
    counted(server, 1, route="/sleep/{seconds}", status="504")

    with server.raw() as first:
        first.get("/block/1.5")
        counted(server, 1, "python_requests")
        assert server.client.get("/items/1").status_code == 503
        assert counted(server, 1, "queue_rejections_total")
    counted(server, 1, "client_disconnects_total")


def test_a_subrequest_is_counted_beside_its_parent(seen: Any) -> None:
    guarded = "location /guarded { auth_request /items/7; databridge_app app:app; }"
    server = seen(server=METRICS + guarded)
    assert server.client.get("/guarded").status_code == 404
    metrics = counted(server, READY + 2)
    assert metrics("requests_total", route="/items/{item_id}", status="200") == 1
    assert metrics("requests_total", route="other", status="404") == 1
    assert metrics("requests_in_flight") == 0


def test_requests_before_the_start_do_not_give_their_slot_to_routes(app: StartApp) -> None:
    server = app(
        "import time\ntime.sleep(1.5)\n" + APP,
        ready="/items/1",
        server=METRICS,
        location="databridge_timeout 500ms;",
    )
    early = counted(server, READY, route="/items/{item_id}", status="200")
    assert early("requests_total", route="other", status="504") >= 1
    assert early("requests_total", route="other", status="200") == 0


def test_a_native_block_counts_without_python(make_nginx: Any) -> None:
    server = make_nginx()
    server.write({"app.py": MODEL})
    server.configure(
        server=f"location /articles {{ databridge_crud article schema={schema('Article', server)};"
        " }" + METRICS,
        http=f"databridge_store main sqlite:{server.prefix}/articles.db;",
    )
    server.start()
    created = server.client.post("/articles", json={"title": "a"}).json()
    server.client.get(f"/articles/{created['id']}")
    server.client.get("/articles/nothing")
    server.client.get("/articles")

    metrics = counted(server, 4, app="crud:article")
    assert metrics("requests_total", route="/articles", method="POST", status="201") == 1
    assert metrics("requests_total", route="/articles", method="GET", status="200") == 1
    assert metrics("requests_total", route="/articles/{id}", status="200") == 1
    assert metrics("requests_total", route="/articles/{id}", status="404") == 1
    assert metrics("store_duration_seconds_count", operation="write") == 1
    assert metrics("store_duration_seconds_count", operation="read") == 2
    assert metrics("queue_wait_seconds_count") == 0


def test_a_full_zone_counts_the_rest_as_other_and_says_so_once(app: StartApp) -> None:
    code = """
        from fastapi import FastAPI

        app = FastAPI()

        for number in range(100):
            app.add_api_route(f"/{{prefix}}{{number}}", lambda: "")
    """.replace("{{prefix}}", "{PREFIX}").replace("{{number}}", "{number}")
    server = app(
        code.replace("{PREFIX}", "a"),
        ready="/a0",
        server=METRICS,
        http="databridge_metrics_zone 32k;",
    )
    slots = int(scrape(server)("metrics_slots"))
    assert 5 < slots < 90
    for number in range(1, 100):
        assert server.client.get(f"/a{number}").status_code == 200

    metrics = counted(server, 100)
    assert metrics("metrics_slots_used") == slots
    assert metrics("requests_total", route="other", app="other") == 100 - slots
    assert len(server.error_log.find("databridge_metrics_zone is full")) == 1

    server.write({"app.py": code.replace("{PREFIX}", "new")})
    server.expect_new_workers()
    server.reload()
    until("the new routes", lambda: server.client.get("/new0").status_code == 200)
    metrics = counted(server, 1, route="/new0")
    assert metrics("requests_total", route="/a5") in (0, 1)
    assert metrics("metrics_slots_used") == slots


@pytest.mark.parametrize(
    ("place", "text", "message"),
    [
        ("server", "location = /m { databridge_metrics xml; }", '"prometheus" or "json"'),
        ("server", "location = /m { databridge_metrics; databridge_metrics; }", "is duplicate"),
        ("server", "location = /m { databridge_app a:b; databridge_metrics; }", "beside"),
        ("server", "location = /m { databridge_metrics; databridge_app a:b; }", "beside"),
        ("http", "databridge_metrics_zone 1k;", "must be at least"),
        ("http", "databridge_metrics_zone 1m; databridge_metrics_zone 1m;", "is duplicate"),
    ],
)
def test_nginx_refuses(make_nginx: Any, place: str, text: str, message: str) -> None:
    server = make_nginx()
    server.configure(**{place: text})
    server.expect_alert(r"\[emerg\]")
    result = server.test()
    assert result.returncode != 0 and message in result.stderr


# variables


def test_the_log_knows_route_kind_and_times(shared: Nginx) -> None:
    assert shared.client.get("/sleep/0.05?route").status_code == 200
    line = logged(shared, "/sleep/0.05?route")
    assert line["route"] == "/sleep/{seconds}"
    assert line["kind"] == "plan"
    assert re.fullmatch(r"0\.\d{6}", line["queue_time"])
    assert float(line["handler_time"]) >= 0.05
    assert re.fullmatch(r"[0-9a-f]{32}", line["request_id"])
    assert line["trace_id"] == line["traceparent"] == "-"


def test_the_log_knows_a_websocket(shared: Nginx) -> None:
    with WebSocket(shared.port) as client:
        client.open("/rooms/1?socket")
    line = logged(shared, "/rooms/1?socket")
    assert (line["route"], line["kind"]) == ("/rooms/{room}", "websocket")


def test_what_is_not_ours_has_no_values_but_an_id(shared: Nginx) -> None:
    shared.client.get("/plain?x")
    line = logged(shared, "/plain?x")
    assert line.pop("request_id") != "-"
    assert set(line.values()) == {"-"}


def test_an_unknown_path_is_logged_as_other(shared: Nginx) -> None:
    shared.client.get("/nowhere")
    assert logged(shared, "/nowhere")["route"] == "other"


def test_the_clients_request_id_is_taken_when_it_is_sane(shared: Nginx) -> None:
    shared.client.get("/headers?sane", headers={"X-Request-ID": "Client-1.2_3~4"})
    assert logged(shared, "/headers?sane")["request_id"] == "Client-1.2_3~4"

    for number, bad in enumerate(("a b", "x" * 129, 'quo"te', "semi;colon", "")):
        answer = shared.client.get(f"/headers?bad{number}", headers={"X-Request-ID": bad})
        assert ["x-request-id", bad] in answer.json()
        assert re.fullmatch(r"[0-9a-f]{32}", logged(shared, f"/headers?bad{number}")["request_id"])


def test_an_id_that_the_application_answers_is_the_one_in_the_log(shared: Nginx) -> None:
    shared.client.get("/answers-an-id?1")
    assert logged(shared, "/answers-an-id?1")["request_id"] == "from-the-app"
    shared.client.get("/answers-an-id?2", headers={"X-Request-ID": "mine"})
    assert logged(shared, "/answers-an-id?2")["request_id"] == "mine"


def test_the_answer_to_a_crash_has_the_id_of_the_log(app: StartApp) -> None:
    server = app(
        """
        from databridge import App

        app = App()

        @app.get("/")
        async def read() -> str:
            return ""

        @app.get("/crash")
        async def crash() -> None:
            raise RuntimeError("crash")
        """,
        http="log_format seen '$request_uri request_id=$databridge_request_id';",
        server="access_log seen.log seen;",
    )
    given = server.client.get("/crash?1", headers={"X-Request-ID": "client-id"})
    assert given.headers["x-request-id"] == "client-id"
    assert logged(server, "/crash?1")["request_id"] == "client-id"

    made = server.client.get("/crash?2", headers={"X-Request-ID": "not sane"})
    assert re.fullmatch(r"[0-9a-f]{32}", made.headers["x-request-id"])
    assert logged(server, "/crash?2")["request_id"] == made.headers["x-request-id"]
    assert server.logged(made.headers["x-request-id"])


# traces


def test_a_valid_trace_is_passed_on_and_logged(shared: Nginx) -> None:
    headers = {"traceparent": PARENT, "tracestate": "a=b"}
    for path in ("/headers?valid", "/traced/headers?valid"):
        answer = shared.client.get(path, headers=headers).json()
        assert ["traceparent", PARENT] in answer
        assert ["tracestate", "a=b"] in answer
        line = logged(shared, path)
        assert (line["trace_id"], line["traceparent"]) == (TRACE, PARENT)


INVALID = [
    "",
    "00",
    PARENT.upper(),
    PARENT + "-x",
    "ff" + PARENT[2:],
    f"00-{'0' * 32}-b7ad6b7169203331-01",
    f"00-{TRACE}-{'0' * 16}-01",
    "01" + PARENT[2:] + "x",
]


@pytest.mark.parametrize("number", range(len(INVALID)))
def test_an_invalid_trace_is_replaced_with_tracing_on_only(shared: Nginx, number: int) -> None:
    invalid = INVALID[number]
    headers = {"traceparent": invalid, "tracestate": "a=b"}
    answer = shared.client.get(f"/headers?off{number}", headers=headers).json()
    assert ["traceparent", invalid] in answer and ["tracestate", "a=b"] in answer
    assert logged(shared, f"/headers?off{number}")["trace_id"] == "-"

    answer = shared.client.get(f"/traced/headers?on{number}", headers=headers).json()
    (parent,) = [value for name, value in answer if name == "traceparent"]
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", parent)
    assert "tracestate" not in dict(answer)
    line = logged(shared, f"/traced/headers?on{number}")
    assert (line["traceparent"], line["trace_id"]) == (parent, parent[3:35])


def test_two_traceparents_are_not_one(shared: Nginx) -> None:
    headers = [("traceparent", PARENT), ("a", "b"), ("traceparent", PARENT)]
    answer = shared.client.get("/headers?two", headers=headers).json()
    assert answer.count(["traceparent", PARENT]) == 2
    answer = shared.client.get("/traced/headers?two", headers=headers).json()
    (parent,) = [value for name, value in answer if name == "traceparent"]
    assert parent != PARENT and ["a", "b"] in answer
    assert logged(shared, "/traced/headers?two")["traceparent"] == parent


def test_what_a_page_includes_has_its_trace(shared: Nginx) -> None:
    (told,) = shared.client.get("/included?trace").json()
    told = dict(told)
    line = logged(shared, "/included?trace")
    assert (told["traceparent"], told["traceparent"][3:35]) == (
        line["traceparent"],
        line["trace_id"],
    )


def test_a_later_version_is_read_as_far_as_it_can_be(shared: Nginx) -> None:
    later = "cc" + PARENT[2:] + "-what-comes-later"
    answer = shared.client.get("/traced/headers?later", headers={"traceparent": later}).json()
    assert ["traceparent", later] in answer
    assert logged(shared, "/traced/headers?later")["trace_id"] == TRACE


def test_a_trace_is_begun_where_tracing_is_on(shared: Nginx) -> None:
    first = dict(shared.client.get("/traced/headers?begun1").json())
    second = dict(shared.client.get("/traced/headers?begun2").json())
    assert first["traceparent"] != second["traceparent"]
    line = logged(shared, "/traced/headers?begun1")
    assert line["traceparent"] == first["traceparent"]
    assert line["request_id"] == first["x-request-id"]
    plain = dict(shared.client.get("/headers?none").json())
    assert not {"traceparent", "x-request-id"} & plain.keys()


def test_databridge_run_logs_what_python_did(run: StartServer) -> None:
    server = run({"app.py": APP}, ready="/sub/")
    httpx.get(f"{server.base_url}/items/7")
    until("the line", lambda: server.log.find(r"/items/7 .* plan /items/\{item_id\}"))
