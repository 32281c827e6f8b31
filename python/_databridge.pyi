"""The module that is built into the Python of nginx's workers, and nowhere else."""

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, final, type_check_only

from databridge.plans.spec import Plan

CRIT: int
ERROR: int
WARN: int
NOTICE: int
INFO: int
DEBUG: int

class ClientDisconnected(OSError): ...

@final
class Lines:
    def __new__(cls, level: int) -> Lines: ...
    def write(self, data: Any, /) -> int: ...
    def end(self) -> None: ...

@final
class Fetcher:
    def __new__(cls, plan: Plan) -> Fetcher: ...
    def fetch(
        self, scope: MutableMapping[str, Any], request: Any, body: bytes, /
    ) -> tuple[Any, ...] | None: ...

@final
@type_check_only
class Resource:
    def call(
        self,
        operation: str,
        *,
        prefix: str = "",
        id: str = "",
        query: str = "",
        documents: list[tuple[str, bytes]] = ...,
        many: bool = False,
        current: bytes | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        scope: list[str] = ...,
    ) -> Future[tuple[int, list[tuple[bytes, bytes]], bytes]]: ...

def log(level: int, text: str, /) -> None: ...
def apps() -> list[tuple[str, str, bool, str]]: ...
def sync_threads() -> int: ...
def nice() -> int: ...
def threads(limit: int, busy: int, waiting: int, /) -> None: ...
def attach(
    loop: AbstractEventLoop,
    stop: Callable[[bool], object],
    report: Callable[[str, str, BaseException | None], object],
    /,
) -> None: ...
def start(
    app: int,
    callable: Callable[..., Any],
    state: dict[str, Any],
    wsgi: bool = False,
    pathsend: bool = True,
    /,
) -> None: ...
def fail(app: int, error: str, /) -> None: ...
def add_route(
    app: int,
    methods: str | None,
    pattern: str | None,
    timeout: int | None,
    plan: Plan | None = None,
) -> None: ...
def set_gate(app: int, gate: Callable[[], object], /) -> None: ...
def register_crud(schema: str | Mapping[str, Any], app: int = 0) -> Resource: ...
def add_native(
    app: int,
    methods: str,
    pattern: str,
    status: int,
    headers: Sequence[tuple[bytes, bytes]],
    body: bytes,
    /,
) -> None: ...
def set_cors(
    app: int,
    origins: str,
    methods: str,
    headers: str,
    expose: str,
    max_age: str,
    credentials: bool,
    private_network: bool,
    /,
) -> None: ...
def ready() -> None: ...
def live() -> int: ...
def cancel() -> None: ...
def abandon() -> None: ...
def steps(limit: int, /) -> tuple[int, int]: ...
def serve_steps() -> None: ...
def lost_steps(exception: BaseException, /) -> None: ...
def in_thread(call: Callable[[], Any], urgent: bool = False, /) -> Future[Any] | None: ...
def tell(future: Future[None], /) -> None: ...
def json_text(object: Any, /) -> bytes | None: ...
def patched(watched: tuple[tuple[Any, str, Any], ...], /) -> Any: ...
def fork_exec(*args: Any) -> int: ...
def after_fork() -> None: ...
