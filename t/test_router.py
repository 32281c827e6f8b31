"""The router in C finds the route, and captures the text, that Starlette does."""

import ctypes
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.routing import Match, Route

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = "build/unit/librouter.so"

OK, DONE, DECLINED = 0, -3, -4


class Str(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("len", ctypes.c_size_t)]


class Slice(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class MatchResult(ctypes.Structure):
    _fields_ = [("params", Slice * 16), ("nparams", ctypes.c_uint), ("index", ctypes.c_uint)]


Found = tuple[int, list[str]] | None


class Router:
    """The C router behind ctypes."""

    def __init__(self, library: ctypes.CDLL, routes: list[Route]) -> None:
        self.library = library
        self.router = ctypes.c_void_p(library.db_router_create())
        error = ctypes.create_string_buffer(256)
        for index, route in enumerate(routes):
            methods = ",".join(sorted(route.methods)) if route.methods else ""
            added = library.db_router_add(
                self.router, text(methods), text(route.path), index, error, len(error)
            )
            assert added == OK, error.value

    def match(self, method: str, path: str) -> tuple[int, Found]:
        raw = path.encode()
        buffer = ctypes.create_string_buffer(raw, len(raw) or 1)
        result = MatchResult()
        target = Slice(ctypes.addressof(buffer), len(raw))
        status: int = self.library.db_router_match(
            self.router, text(method), target, ctypes.byref(result)
        )
        if status == DONE:
            return status, None
        params = [
            ctypes.string_at(param.data, param.len).decode()
            for param in result.params[: result.nparams]
        ]
        return status, (result.index, params)

    def close(self) -> None:
        self.library.db_router_destroy(self.router)


def text(value: str) -> Str:
    raw = value.encode()
    return Str(raw, len(raw))


def starlette_match(routes: list[Route], method: str, path: str) -> tuple[int, Found]:
    """The rule of starlette.routing.Router.app, with the text of the captures."""
    partial: Found = None
    for index, route in enumerate(routes):
        captured = route.path_regex.match(path)
        scope: dict[str, Any] = {"type": "http", "method": method, "path": path}
        match, _ = route.matches(scope)
        assert (match is Match.NONE) == (captured is None)
        if captured is None:
            continue
        found = (index, [captured[name] for name in route.param_convertors])
        if match is Match.FULL:
            return OK, found
        if partial is None:
            partial = found
    return (DECLINED, partial) if partial else (DONE, None)


@pytest.fixture(scope="module")
def library() -> Iterator[ctypes.CDLL]:
    subprocess.run(["make", "-s", "-f", "t/unit/unit.mk", LIBRARY], cwd=ROOT, check=True)
    lib = ctypes.CDLL(str(ROOT / LIBRARY))
    lib.db_router_create.restype = ctypes.c_void_p
    lib.db_router_destroy.argtypes = [ctypes.c_void_p]
    lib.db_router_add.argtypes = [
        ctypes.c_void_p,
        Str,
        Str,
        ctypes.c_uint,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    lib.db_router_match.argtypes = [ctypes.c_void_p, Str, Slice, ctypes.POINTER(MatchResult)]
    yield lib


async def endpoint(request: Any) -> None:
    raise AssertionError("never called")


UUID = "0123abcd-4567-89ef-CDEF-0123456789ab"

# Few letters, so that tables and paths meet often.
LITERALS = ["a", "b", "ab", "items", "me", "-", ".", "1", "é", "a b", "{", "}", "{1}", "(.*)"]
PIECES = [*LITERALS, "12", "007", "1.5", "1.", ".5", "€", "\n", "a-b", UUID, UUID.replace("-", "")]
CONVERTORS = ["", ":str", ":int", ":float", ":uuid", ":path"]
METHODS = ["GET", "POST", "PUT", "DELETE"]


@st.composite
def patterns(draw: st.DrawFn) -> str:
    pattern, names = "", iter("pqrstuvwxyz")
    for _ in range(draw(st.integers(0, 3))):
        pattern += "/"
        for _ in range(draw(st.integers(0, 3))):
            if draw(st.booleans()):
                pattern += draw(st.sampled_from(LITERALS))
            else:
                pattern += f"{{{next(names)}{draw(st.sampled_from(CONVERTORS))}}}"
    return pattern or "/"


ROUTES = st.tuples(
    patterns(), st.none() | st.lists(st.sampled_from(METHODS), min_size=1, max_size=2)
)
PATHS = st.lists(st.lists(st.sampled_from(PIECES), max_size=3).map("".join), max_size=4).map(
    lambda segments: "/" + "/".join(segments)
)


def make_route(pattern: str, methods: list[str] | None) -> Route:
    route = Route(pattern, endpoint, methods=methods or ["GET"])
    if methods is None:
        route.methods = None
    return route


@settings(max_examples=800)
@given(
    table=st.lists(ROUTES, min_size=1, max_size=12),
    paths=st.lists(PATHS, min_size=1, max_size=12),
    method=st.sampled_from(METHODS),
    seed=st.integers(0, 2**32),
)
def test_finds_what_starlette_finds(
    library: ctypes.CDLL,
    table: list[tuple[str, list[str] | None]],
    paths: list[str],
    method: str,
    seed: int,
) -> None:
    routes = [make_route(*entry) for entry in table]
    rng = random.Random(seed)
    made = [fill(route.path_format, route, rng) for route in routes]
    router = Router(library, routes)
    for path in paths + made + [path + "\n" for path in made[:2]]:
        assert router.match(method, path) == starlette_match(routes, method, path), path
    router.close()


def fill(path: str, route: Route, rng: random.Random) -> str:
    """A path that the route is likely to match."""
    samples = {
        "StringConvertor": ["a", "12", "a-b", "é€", "1.5"],
        "IntegerConvertor": ["0", "12", "007"],
        "FloatConvertor": ["1", "1.5", "0.25"],
        "UUIDConvertor": [UUID, UUID.replace("-", "")],
        "PathConvertor": ["", "a", "a/b", "1/2/"],
    }
    for name, convertor in route.param_convertors.items():
        path = path.replace(f"{{{name}}}", rng.choice(samples[type(convertor).__name__]))
    return path


def test_a_thousand_routes_in_declaration_order(library: ctypes.CDLL) -> None:
    rng = random.Random(1)
    table = []
    for _ in range(1000):
        first = rng.choice(["{x}", "{x:int}", f"s{rng.randrange(40)}", f"s{rng.randrange(40)}"])
        second = rng.choice(["{y}", "{y:float}", f"t{rng.randrange(8)}", "{y:path}"])
        table.append((f"/v1/{first}/{second}", rng.sample(METHODS, 1)))
    routes = [make_route(*entry) for entry in table]
    router = Router(library, routes)
    for _ in range(400):
        path = f"/v1/{rng.choice(['s', ''])}{rng.randrange(45)}/{rng.choice(['t', '', 'u/'])}"
        path += str(rng.randrange(9))
        method = rng.choice(METHODS)
        assert router.match(method, path) == starlette_match(routes, method, path), path
    router.close()
