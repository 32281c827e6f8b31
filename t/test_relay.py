"""Requests that reach Python together: they have one Task, as long as nobody can tell."""

import json
from collections.abc import Iterator

import pytest

from conftest import StartApp
from harness import Nginx, Raw, processes

APP = """
import asyncio
import contextvars
import json
import weakref

variable = contextvars.ContextVar("variable", default="unset")
kept = []
weak = weakref.WeakKeyDictionary()
called = []


def set_variable(task):
    variable.set("set")

def cancel(task):
    task.cancel()

def rename(task):
    task.set_name("renamed")

def add_callback(task):
    task.add_done_callback(lambda task: called.append("called"))

def set_attribute(task):
    task.attribute = "set"

def keep(task):
    kept.append(task)

def keep_weakly(task):
    weak[task] = "kept"

def nothing(task):
    pass


async def wait(task):
    await asyncio.sleep(0)


async def app(scope, receive, send):
    assert scope["type"] == "http"
    task = asyncio.current_task()
    name = task.get_name()
    seen = {
        "task": id(task),
        "name": name,
        "variable": variable.get(),
        "cancelling": task.cancelling(),
        "attribute": getattr(task, "attribute", "unset"),
        "weak": task in weak,
        "called": list(called),
    }
    act = globals().get(scope["path"].strip("/"), nothing)
    result = act(task)
    if result is not None:
        await result
        seen["same"] = asyncio.current_task() is task
    body = json.dumps(seen).encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Factory:
    def __call__(self, loop, coro, **options):
        return asyncio.Task(coro, loop=loop, **options)


def use_factory(task):
    asyncio.get_running_loop().set_task_factory(Factory())

def use_no_factory(task):
    asyncio.get_running_loop().set_task_factory(None)
"""


class Batches:
    """What requests see that the worker finds all at once when it is continued."""

    def __init__(self, server: Nginx) -> None:
        self.server = server
        self.clients: list[Raw] = []

    def send(self, *paths: str) -> list[dict[str, object]]:
        while len(self.clients) < len(paths):
            self.clients.append(self.server.raw())
            self.clients[-1].get("/nothing")
            assert self.clients[-1].response().status == 200
        clients = self.clients[: len(paths)]
        with processes.stopped(self.server.worker()):
            for client, path in zip(clients, paths, strict=True):
                client.get(f"/{path}")
        return [json.loads(client.response().body) for client in clients]


@pytest.fixture
def batches(app: StartApp) -> Iterator[Batches]:
    batches = Batches(app(APP))
    yield batches
    for client in batches.clients:
        client.socket.close()


def test_those_that_do_not_wait_have_one_task(batches: Batches) -> None:
    seen = batches.send(*["nothing"] * 8)
    assert len({(one["task"], one["name"]) for one in seen}) == 1


def test_another_batch_has_another_task(batches: Batches) -> None:
    names = {one["name"] for _ in range(3) for one in batches.send(*["nothing"] * 4)}
    assert len(names) == 3


@pytest.mark.parametrize(
    "trace",
    [
        "set_variable",
        "cancel",
        "rename",
        "add_callback",
        "set_attribute",
        "keep",
        "keep_weakly",
    ],
)
def test_what_one_leaves_in_its_task_no_other_finds(batches: Batches, trace: str) -> None:
    one, two, three = batches.send("nothing", trace, "nothing")
    assert one["name"] == two["name"] != three["name"]
    assert three["variable"] == three["attribute"] == "unset"
    assert three["cancelling"] == 0 and not three["weak"] and three["name"] != "renamed"


def test_a_callback_of_the_task_is_called_when_its_request_has_ended(batches: Batches) -> None:
    batches.send("nothing", "add_callback", "nothing")
    assert batches.send("nothing")[0]["called"] == ["called"]


def test_one_that_waits_keeps_its_task_and_the_next_gets_another(batches: Batches) -> None:
    seen = batches.send("nothing", "wait", "nothing", "wait", "wait", "nothing", "nothing")
    names = [one["name"] for one in seen]
    assert names[0] == names[1] and names[2] == names[3] and names[5] == names[6]
    assert len(set(names)) == 4
    assert all(one.get("same", True) for one in seen)


def test_with_a_task_factory_each_has_its_own(batches: Batches) -> None:
    batches.send("use_factory")
    assert len({one["name"] for one in batches.send(*["nothing"] * 4)}) == 4
    batches.send("use_no_factory")
    assert len({one["name"] for one in batches.send(*["nothing"] * 4)}) == 1
