"""What the module takes: plans as tuples, which src/python/plan.c reads by position.

A plan is the success path of one route.  Its values live in numbered slots: parameters
are fetched and validated into them, calls take arguments from them and put results
there.  Whatever a plan cannot take, a value that is missing or not valid above all,
sends the request to the application itself, before any of the user's code has run.
"""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple

NONE: Final = -1
"""No slot."""


class Required:
    """The default of what has none."""


REQUIRED: Final = Required()


class Source(IntEnum):
    PATH = 0
    QUERY = 1
    HEADER = 2
    COOKIE = 3


class Fast(IntEnum):
    """What the module converts as pydantic would, without asking it.

    Texts that are not of the plain form (`INT`: an optional sign and at most 18 ASCII
    digits) are still the validator's.
    """

    NOTHING = 0
    STR = 1
    INT = 2


class Field(NamedTuple):
    """One parameter of the path, the query, the headers or the cookies."""

    source: int
    names: tuple[bytes, ...]
    """The first that the request has; headers in lower case; of the path: one name.

    Without names it is never in a request: `factory` makes it each time.
    """
    slot: int
    many: bool
    """Takes a list of all values; an empty one is a missing value."""
    fast: int
    validate: Callable[..., Any] | None
    """`validate_python` of the validator, called with from_attributes=True."""
    default: Any
    """Of a missing value: REQUIRED, or what is put into the slot as it is."""
    factory: Callable[[], Any] | None
    """Makes the default anew for each request, instead; None: `default` is it."""


class Computed(NamedTuple):
    """A value that Python fetches: parameter models, and what else is seldom.

    `compute` gets the Request and returns the validated value.  An exception sends the
    request to the application.
    """

    slot: int
    compute: Callable[[Any], Any]


class BodyField(NamedTuple):
    """The body, or with `Body.embedded` one member of it."""

    names: tuple[str, ...]
    slot: int
    validate: Callable[..., Any] | None
    default: Any
    factory: Callable[[], Any] | None


class Body(NamedTuple):
    fields: tuple[BodyField, ...]
    embedded: bool
    """The fields are members of an object; else each of them is the whole body."""
    strict: bool
    """A body without content-type is not JSON."""
    parse: Callable[..., Any]
    """`pydantic_core.from_json`."""


class Kind(IntEnum):
    ASYNC = 0
    """Called on the loop; what it returns is awaited."""
    THREAD = 1
    """Called in a thread; neighbours share one hop, each with a context of its own."""


class Step(NamedTuple):
    """A dependency, or the endpoint, which is the last."""

    call: Callable[..., Any]
    kind: int
    names: tuple[str, ...]
    slots: tuple[int, ...]
    """Of the keyword arguments `names`."""
    result: int
    """A slot, or NONE; the last step's result is what is answered."""


class Form(IntEnum):
    JSON = 0
    """As jsonable_encoder() and json.dumps() write it; what only these can, `finish` does."""
    DUMP = 1
    """`validate` if there is one, then `dump`, which gives the bytes."""
    FINISH = 2
    """Always `finish`."""


class Answer(NamedTuple):
    status: int
    bodiless: bool
    """The status is 204 or 304: no content-length, and what was written is dropped."""
    content_type: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    """Follow all others in each response, for an application behind CORS: Vary.

    Names are in lower case.
    A response that has one of that name already is for `finish`.
    """
    form: int
    validate: Callable[..., Any] | None
    """`validate_python` of the response model, called with from_attributes=True."""
    dump: Callable[..., bytes] | None
    dump_names: tuple[str, ...]
    dump_values: tuple[Any, ...]
    """Keyword arguments of `dump`, constant."""
    finish: Callable[[Any, Sequence[Any]], Coroutine[Any, Any, Any]]
    """`await finish(result, slots)` is the Response, which is then called as ASGI has it.

    For all results that the module does not answer by itself.  It knows no more than
    FastAPI: results may be Responses.  Its exceptions are FastAPI's.
    """
    refuse: Callable[[BaseException], Any]
    """The Response of an exception that a step has raised, or None: it is the application's."""
    invalid: Callable[[Exception, Any], Exception] | None = None
    """What is raised in the place of an exception of `validate`, for a result."""


class Plan(NamedTuple):
    slots: int
    path_names: tuple[str, ...]
    path_convertors: tuple[str, ...]
    """Of the pattern's parameters, in its order: "str", "int", "float", "uuid", "path"."""
    fields: tuple[Field | Computed, ...]
    body: Body | None
    request: int
    """The slot of a starlette Request, NONE without."""
    response: int
    """The slot of an injected Response; its status and headers go into the answer."""
    background: int
    """The slot of BackgroundTasks; when tasks were added `finish` answers."""
    make_request: Callable[..., Any]
    """make_request(scope, receive, send); also for `Computed`."""
    make_response: Callable[[], Any]
    make_background: Callable[[], Any]
    steps: tuple[Step, ...]
    answer: Answer
    script: Callable[..., Awaitable[None]] | None
    """Runs all that follows the validation, instead of `steps` and `answer`.

    `await script(scope, receive, send, request, slots)`, for dependencies with yield.  An
    exception of it goes the way of one in a step, unless the response has started.
    """
    route: Any
    """scope["route"], when a Request is made."""
    endpoint: Any
    """scope["endpoint"]."""
    required_headers: tuple[bytes, ...]
    """Without them nginx does not try the plan."""
    absent_headers: tuple[bytes, ...]
    """With one of them it does not either: Origin, for an application behind CORS."""
    hosts: tuple[bytes, ...]
    """Of which Host, without a port, has to be one, or end in one that begins with "*";
    empty: any."""
    https: bool
    """Plain HTTP is redirected: not the plan's."""


RAISE: Final = "databridge.raise"
"""Key of an exception in the scope: the route raises it instead of calling its endpoint."""
