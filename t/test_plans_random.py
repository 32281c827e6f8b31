"""Random requests to the application of all features: both servers give one answer.

What is sent comes from the application's own OpenAPI document: its paths, the names of its
parameters, and values of each kind, valid or not.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from harness.nginx import Nginx
from harness.plans import KIND, Pair, request
from harness.server import Uvicorn

APP = (Path(__file__).parent / "harness" / "planned_app.py").read_text()
CONFIGURATION = {"server": KIND}

METHODS = {"get", "post", "put", "delete"}
LEFT_OUT = {"/log"}

ODD = st.sampled_from(
    [
        *("", " ", "0", "-0", "1", "5", "+5", "007", "1_0", "9" * 20, "5.0", "1e3", ".5", "nan"),
        *("true", "off", "red", "RED", "a", "ab", "abc", "b c", "ü", "€", "\U0001f600", "[1,2]"),
        *(
            "2026-01-02",
            "2026-01-02T03:04:05Z",
            "PT5S",
            "{}",
            "null",
            "00000000-0000-0000-0000-0000",
        ),
        *(
            "00000000-0000-0000-0000-00000000000a",
            "a&b",
            "a=b",
            "a;b",
            "%41",
            '"a"',
            "a,b",
            "/",
            "x" * 99,
        ),
    ]
)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8)
VALUE = ODD | TEXT | st.integers().map(str) | st.floats().map(str)
VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=8)
HEADER = st.one_of(VISIBLE, st.integers().map(str), st.sampled_from(["é", "a b", '"q"', "a;b=c"]))

JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


class Operations:
    """What the OpenAPI document says can be asked."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.schemas = document.get("components", {}).get("schemas", {})
        self.found = [
            (method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if method in METHODS and path not in LEFT_OUT
        ]

    def requests(self) -> st.SearchStrategy[tuple[str, str, list[tuple[str, str]], bytes | None]]:
        return st.sampled_from(self.found).flatmap(lambda found: self._request(*found))

    def _request(self, method: str, path: str, operation: dict[str, Any]) -> Any:
        parameters = operation.get("parameters", ())
        names: dict[str, list[str]] = {"path": [], "query": [], "header": [], "cookie": []}
        for parameter in parameters:
            names[parameter["in"]].append(parameter["name"])
        return st.builds(
            _built,
            st.just(method.upper()),
            st.just(path),
            st.fixed_dictionaries({name: VALUE for name in names["path"]}),
            _pairs(names["query"] or ["q"], VALUE),
            _pairs(names["header"] or ["x-a"], HEADER),
            _pairs(names["cookie"] or ["a"], VISIBLE),
            self._body(operation) if "requestBody" in operation else st.none(),
        )

    def _body(self, operation: dict[str, Any]) -> st.SearchStrategy[bytes | None]:
        (content,) = operation["requestBody"]["content"].values()
        like = self._like(content["schema"], 0)
        text = st.one_of(like, like, like, JSONS).map(lambda value: json.dumps(value).encode())
        return st.none() | text | text | text | st.binary(max_size=9)

    def _like(self, schema: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
        """Values that a schema mostly takes."""
        if "$ref" in schema:
            schema = self.schemas[schema["$ref"].rpartition("/")[2]]
        choices = schema.get("anyOf") or schema.get("oneOf")
        if depth > 4:
            return st.none()
        if choices:
            return st.one_of([self._like(choice, depth + 1) for choice in choices]) | JSONS
        match schema.get("type"):
            case "object" if "properties" in schema:
                return self._object(schema, depth)
            case "object":
                values = self._like(schema.get("additionalProperties") or {}, depth + 1)
                return st.dictionaries(TEXT, values, max_size=3)
            case "array":
                return st.lists(self._like(schema.get("items", {}), depth + 1), max_size=3)
            case "integer":
                return st.integers() | ODD
            case "number":
                return st.floats() | st.integers() | ODD
            case "boolean":
                return st.booleans() | ODD
            case "string":
                return VALUE
        return JSONS

    def _object(self, schema: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
        members = {
            name: self._like(member, depth + 1) for name, member in schema["properties"].items()
        }
        required = {name: members.pop(name) for name in schema.get("required", ())}
        return st.fixed_dictionaries(required, optional={**members, "more": JSONS})


def _pairs(names: list[str], values: st.SearchStrategy[str]) -> Any:
    """Some of the names, some of them twice."""
    return st.lists(st.tuples(st.sampled_from(names), values), max_size=len(names) + 2)


def _built(
    method: str,
    path: str,
    values: dict[str, str],
    query: list[tuple[str, str]],
    headers: list[tuple[str, str]],
    cookies: list[tuple[str, str]],
    body: bytes | None,
) -> tuple[str, str, list[tuple[str, str]], bytes | None]:
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", quote(value, safe="") or "-")
    if query:
        path += "?" + "&".join(f"{quote(name)}={quote(value)}" for name, value in query)
    if cookies:
        headers = [*headers, ("Cookie", "; ".join(f"{name}={value}" for name, value in cookies))]
    if body is not None:
        headers = [*headers, ("Content-Type", "application/json")]
    return method, path, headers, body


@pytest.fixture(scope="module")
def pair(shared_app: Nginx, shared_uvicorn: Uvicorn) -> Iterator[Pair]:
    with Pair(shared_app, shared_uvicorn) as found:
        yield found


@pytest.fixture(scope="module")
def operations(pair: Pair) -> Operations:
    answer = pair.ask(pair.nginx.port, request("GET", "/openapi.json"), "GET")
    return Operations(json.loads(answer.body))


def check(pair: Pair, operations: Operations, examples: int) -> None:
    @settings(max_examples=examples, phases=(Phase.generate,))
    @given(operations.requests())
    def one(asked: tuple[str, str, list[tuple[str, str]], bytes | None]) -> None:
        pair.same(*asked, kind=None)

    one()


def test_random_requests_have_one_answer(pair: Pair, operations: Operations) -> None:
    check(pair, operations, 500)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_many_random_requests_have_one_answer(pair: Pair, operations: Operations) -> None:
    check(pair, operations, 30_000)
