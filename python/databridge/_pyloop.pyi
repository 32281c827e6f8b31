import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, final

from typing_extensions import disjoint_base

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

@final
class Handle(asyncio.Handle): ...

@final
class TimerHandle(asyncio.TimerHandle): ...

@disjoint_base
class Loop:
    """The hot half of an asyncio event loop."""

    _poller: Any

    def run_forever(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
    def is_running(self) -> bool: ...
    def is_closed(self) -> bool: ...
    def time(self) -> float: ...
    def get_debug(self) -> bool: ...
    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Handle: ...
    def call_soon_threadsafe(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Handle: ...
    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle: ...
    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle: ...
    def create_future(self) -> asyncio.Future[Any]: ...
    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[_T]: ...
    def _add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> Handle: ...
    def _add_writer(self, fd: Any, callback: Callable[..., object], *args: Any) -> Handle: ...
    def _remove_reader(self, fd: Any) -> bool: ...
    def _remove_writer(self, fd: Any) -> bool: ...
    def _ensure_fd_no_transport(self, fd: Any) -> None: ...
    def _make_socket_transport(
        self,
        sock: Any,
        protocol: Any,
        waiter: Any = None,
        extra: Any = None,
        *,
        server: Any = None,
    ) -> asyncio.Transport: ...
    def _make_datagram_transport(
        self, sock: Any, protocol: Any, address: Any = None, waiter: Any = None, extra: Any = None
    ) -> asyncio.DatagramTransport: ...
    def _make_read_pipe_transport(
        self, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None
    ) -> asyncio.ReadTransport: ...
    def _make_write_pipe_transport(
        self, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None
    ) -> asyncio.WriteTransport: ...
    def _numeric(self, host: Any, port: Any, /) -> int: ...
    def _connect(self, sock: Any, address: Any, /) -> bool: ...
    def _serve(self, protocol_factory: Any, sock: Any, server: Any, backlog: int, /) -> None: ...

@disjoint_base
class TLSProtocol:
    """The hot half of asyncio's SSLProtocol."""

    def _do_read(self) -> None: ...
    def _write_appdata(self, list_of_data: Any, /) -> None: ...

class TLSTransport:
    """What stands in front of asyncio's _SSLProtocolTransport."""

    def write(self, data: Any, /) -> None: ...

_C_API: object
