"""
One thing asked of four: each resource is there on SQLite and on MongoDB, native and with a hook
that does nothing.  Random requests, many of them wrong, are answered alike, and leave the same.
"""

import json
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from harness import Nginx
from harness.crud import start_crud

APP = """
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, Optional, Union
from uuid import UUID

from databridge import App, Field, Model

app = App()


class Inner(Model):
    a: int
    b: Optional[str] = None
    c: list["Inner"] = []


class Base(Model):
    email: str = Field("", max_length=20)
    n: int = Field(0, ge=-100)
    big: Optional[int] = None
    ratio: float = 1.0
    flag: bool = False
    when: Optional[datetime] = None
    day: Optional[date] = None
    span: Optional[timedelta] = None
    price: Optional[Decimal] = None
    key: Optional[UUID] = None
    kind: Optional[Literal["a", "b", 3]] = None
    tags: list[str] = Field([], max_length=3)
    inner: Optional[Inner] = None
    many: dict[str, Inner] = {}
    anything: Any = None
    one: Union[int, str, list[int], Inner, None] = None
    pair: Optional[tuple[int, str]] = None
    code: str = "c"
    secret: str = "s"
    role: str = "user"


class Thing(Base):
    id: str = Field(max_length=10)


class Number(Base):
    id: int


class Made(Base):
    pass


def twice(model, **options):
    options |= {"immutable": ["code"], "write_only": ["secret"], "read_only": ["role"]}
    name = model.__name__.lower()
    app.crud_routes(model, prefix=f"/{name}", collection=name, **options)

    @app.crud(model, prefix=f"/{name}_h", collection=f"{name}_h", **options)
    class Hooks:
        def before_create(self, item):
            pass

        def before_update(self, item):
            pass

        def before_delete(self, id):
            pass


twice(Thing, version=True, upsert=True, unique=["email"], index=["n", "-when", "email"])
twice(Number, unique=["n,email"], index=["ratio"])
twice(Made, version=True, unique=["email,n"], index=["day"])


@app.get("/")
async def root():
    return "here"
"""

STEPS = 400
SEEDS = range(2)

IDS: dict[str, list[Any]] = {
    "thing": ["a", "b", "é b", "%", "a.b", "$x", "~!*'()", '"', "x" * 11],
    "number": [1, 2, -5, 2**63 - 1, "x", "1.0", " 4", "007"],
}

# What is right, then what is not, or is only just.

VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "email": (["", "a", "a\0", "a\0b", "\u2028\U0001f600"], [None, 5, "é" * 21]),
    "n": ([0, 1, 2, "7", 1.0, 2**63 - 1], ["1_0", 1.5, None, -101, "x", []]),
    "big": ([None, 2**53 + 1, -(2**63), 2**31, -(2**31) - 1], ["x", {}]),
    "ratio": ([1, 0.1, -0.0, 1e300, 5e-324, "1e5", 1e16, 123456.789e3, True], [None, "x"]),
    "flag": ([True, False, "yes", "off", 1], [2, None]),
    "when": (
        [None, "2024-01-01T00:00:00Z", "2024-01-01T00:00:00.123Z", 1700000000123, "1700000000", -1],
        ["2024-13-01", "x"],
    ),
    "day": ([None, "2024-02-29", 86400, "0001-01-01"], ["2023-02-29", 1]),
    "span": ([None, "P1DT2H", 3600, 1.5, "-PT1S"], ["x", "P9999999999D"]),
    "price": ([None, "1.10", 1.1, 5, "0.000", "12345678901234567890.123"], ["nan", "x"]),
    "key": ([None, "00000000-0000-4000-8000-00000000000A", f"{3:032x}"], ["x", 5]),
    "kind": ([None, "a", 3], ["3", "c", True]),
    "tags": ([[], ["a"], ["a", "b", "\0"]], [["a"] * 4, [1], "a", None]),
    "inner": (
        [None, {"a": 1}, {"a": "2", "b": "x"}, {"a": 1, "c": [{"a": 2}]}, {"b": None, "a": 5}],
        [{}, [], {"a": 1, "c": [{"a": "z"}]}, {"b": "only"}, {"c": None}],
    ),
    "many": (
        [{}, {"k": {"a": 1}}, {"k": None}, {"l": {"a": 2}, "": {"a": 3}}],
        [{"k": {"b": "x"}}, {"k": {"c": [{"a": 1}]}}, None],
    ),
    "anything": ([None, 1.5, [1, [2.0, {"a": None}]], {"a": None}, 1e16, {"id": {"id": 2}}], []),
    "one": ([None, 1, "1", "x", ["1"], 1.0, {"a": "1"}, []], [[1.5], {}, True]),
    "pair": ([None, ["1", "a"]], [[1], [1, 2], [1, "a", 3]]),
    "code": (["c", "d"], [5]),
    "secret": (["s", "t"], [5, None]),
    "role": (["user", "admin"], [5]),
    "unknown": ([{"x": 1}], []),
}
SORTS = ["email", "-email", "-n,email", "ratio", "-when", "when,n", "day", "-key", "flag", "-id"]
TAGS = ['"1"', '"2"', '"1", "3"', "*", 'W/"1"', '"x"']


class Target:
    """A resource of each kind on one store, and the ids that it has made up."""

    def __init__(self, server: Nginx, suffix: str) -> None:
        self.client: httpx.Client = server.client
        self.suffix = suffix
        self.made: list[str] = []

    def path(self, kind: str, id: object = None) -> str:
        return f"/{kind}{self.suffix}" + ("" if id is None else f"/{quote(str(id), safe='')}")

    def told(self, kind: str, answer: httpx.Response) -> str:
        """An answer without what differs by its nature."""
        seen: Any = [answer.status_code, answer.json() if answer.content else None]
        seen += [answer.headers.get("etag"), answer.headers.get("location")]
        if kind == "made" and answer.status_code == 201:
            documents = seen[1] if isinstance(seen[1], list) else [seen[1]]
            self.made += [document["id"] for document in documents]
        text = json.dumps(seen, ensure_ascii=False)
        text = text.replace(f"{self.path(kind)}/", f"/{kind}/")
        for number, id in enumerate(self.made):
            text = text.replace(id, f"#{number}")
        # of two that are taken a store names the one that it meets first
        return re.sub(r"with (id .*|this [a-z, ]+) already", "with it already", text)

    def pages(self, kind: str, query: dict[str, str]) -> str:
        page = self.client.get(self.path(kind), params=query).json()
        items, total = page["items"], page["total"]
        while "next" in page:
            page = self.client.get(self.path(kind), params=query | {"after": page["next"]}).json()
            items += page["items"]
        assert len(items) == total
        text = json.dumps(items, ensure_ascii=False)
        for number, id in enumerate(self.made):
            text = text.replace(id, f"#{number}")
        return text


@pytest.fixture(scope="module")
def servers(mongodb: str) -> Iterator[list[Nginx]]:
    made = [start_crud("application", APP), start_crud("mongodb", APP, store=mongodb)]
    yield made
    assert [server.finish() for server in made] == [[], []]


def document(chance: random.Random, kind: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name in chance.sample(list(VALUES), chance.randrange(6)):
        right, wrong = VALUES[name]
        made[name] = chance.choice(wrong if wrong and chance.random() < 0.1 else right)
    if kind in IDS and chance.random() < 0.8:
        made["id"] = chance.choice(IDS[kind])
    return made


def status(told: str) -> int:
    code: int = json.loads(told)[0]
    return code


def alike(told: Sequence[str]) -> bool:
    """Whether the stores agree, and hooks with none but for the order of what is checked.

    Hooks come before what If-Match says, and behind an id that is none or is not there.
    """
    native, hybrid = told[0], told[1]
    if [native, hybrid] != told[2:]:
        return False
    if status(native) != status(hybrid):
        return {status(native), status(hybrid)} <= {404, 409, 412, 422}
    if status(native) != 422:
        return native == hybrid
    errors: list[Any] = json.loads(hybrid)[1]["detail"]
    found: list[Any] = json.loads(native)[1]["detail"]
    return found[: len(errors)] == errors


@pytest.mark.parametrize("seed", SEEDS)
def test_both_stores_answer_alike_with_hooks_or_without(servers: list[Nginx], seed: int) -> None:
    chance = random.Random(seed)
    targets = [Target(server, suffix) for server in servers for suffix in ("", "_h")]
    for kind in ("thing", "number", "made"):
        for target in targets:
            for item in target.client.get(target.path(kind), params={"limit": 1000}).json()[
                "items"
            ]:
                target.client.delete(target.path(kind, item["id"]))
    done: set[int] = set()

    for step in range(STEPS):
        kind = chance.choice(["thing", "thing", "number", "made"])
        method = chance.choice(["POST", "PUT", "PATCH", "PATCH", "DELETE", "GET", "LIST"])
        if method == "LIST":
            query = {"sort": chance.choice(SORTS), "limit": chance.choice("125"), "count": "true"}
            if chance.random() < 0.3:
                name = chance.choice(["email", "n", "ratio", "when", "day", "kind", "inner.a"])
                value = chance.choice(VALUES[name][0] if name in VALUES else [1, 5, None])
                operator = chance.choice(["$eq", "$ne", "$gt", "$lte"])
                query["filter"] = json.dumps({name: {operator: value}})
            refused = [t.client.get(t.path(kind), params=query) for t in targets]
            if refused[0].status_code == 200:
                lists = [target.pages(kind, query) for target in targets]
                assert len(set(lists)) == 1, (step, kind, query, lists)
            else:
                assert len({(a.status_code, a.text) for a in refused}) == 1, (step, kind, query)
            continue

        body: Any = document(chance, kind)
        if method == "POST" and chance.random() < 0.2:
            body = [document(chance, kind) for _ in range(chance.randrange(4))]
        headers = {"Content-Type": "application/json"}
        if chance.random() < 0.3:
            headers["If-Match"] = chance.choice(TAGS)
        if chance.random() < 0.2:
            headers["If-None-Match"] = chance.choice(TAGS)

        which = chance.random()
        told = []
        for target in targets:
            id: Any = None
            if method != "POST" and kind == "made":
                if not target.made:
                    break
                id = target.made[int(which * len(target.made))]
            elif method != "POST":
                id = IDS[kind][int(which * len(IDS[kind]))]
            content = None if method in ("GET", "DELETE") else json.dumps(body)
            answer = target.client.request(
                method, target.path(kind, id), headers=headers, content=content
            )
            told.append(target.told(kind, answer))
        if told:
            assert alike(told), (step, method, kind, id, body, headers, told)
            done.add(status(told[0]))

    assert done >= {200, 201, 204, 404, 409, 412, 422}
