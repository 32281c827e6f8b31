"""PyLoop for programs that run without nginx: ``databridge.loop.run(main())``.

The hot half of :class:`Loop` is C (``databridge._pyloop``), the transports
included; executors, TLS and the set-up of subprocesses are asyncio's own.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import unix_events
from asyncio.log import logger
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from .transports import Transports

if TYPE_CHECKING:

    class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
        """Makes PyLoop the loop of ``asyncio.run()``."""


__all__ = ["EventLoopPolicy", "Loop", "new_event_loop", "run"]

T = TypeVar("T")


class Loop(Transports, asyncio.SelectorEventLoop):
    """An asyncio event loop; subprocesses work in any thread, without SIGCHLD."""

    def __init__(self) -> None:
        self._children: dict[int, tuple[int, Any]] = {}
        super().__init__(self._poller)

    def close(self) -> None:
        """Close the loop, which must not be running; closing twice is no error."""
        super().close()
        while self._children:
            os.close(self._children.popitem()[1][0])

    def kill_children(self) -> None:
        """Kill the subprocesses that still run, as the end of an interpreter does."""
        for _, transport in list(self._children.values()):
            transport.close()

    async def _make_subprocess_transport(self, *args: Any, **kwargs: Any) -> Any:
        """As asyncio's, the exit told by a pidfd instead of a child watcher."""
        waiter = self.create_future()
        transport = _SubprocessTransport(self, *args, waiter=waiter, **kwargs)
        pid = transport.get_pid()
        pidfd = os.pidfd_open(pid)
        self._children[pid] = (pidfd, transport)
        self._add_reader(pidfd, self._child_exited, pid, transport)
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        return transport

    def _child_exited(self, pid: int, transport: Any) -> None:
        pidfd, _ = self._children.pop(pid)
        self._remove_reader(pidfd)
        os.close(pidfd)
        try:
            returncode = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:
            # the transport's close() looks for itself; a stranger leaves us nothing
            returncode = transport._proc.returncode
            if returncode is None:
                returncode = 255
                logger.warning("the exit status of child %d was read elsewhere", pid)
        # at once: from here on the pid may be another's, whom no signal must reach
        transport._process_exited(returncode)


_SubprocessTransport: Any = vars(unix_events)["_UnixSubprocessTransport"]


def new_event_loop() -> Loop:
    """A new event loop, for ``asyncio.Runner(loop_factory=new_event_loop)``."""
    return Loop()


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """As ``asyncio.run()``, on PyLoop."""
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)


def __getattr__(name: str) -> Any:
    """Policies leave asyncio in 3.16: theirs is made for those who ask."""
    if name != "EventLoopPolicy":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    policy = type(
        name,
        (asyncio.DefaultEventLoopPolicy,),
        {"_loop_factory": Loop, "__doc__": "Makes PyLoop the loop of ``asyncio.run()``."},
    )
    globals()[name] = policy
    return policy
