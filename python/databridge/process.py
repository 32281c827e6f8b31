"""Signals and children inside nginx: nginx owns the former, the latter start clean."""

import _posixsubprocess
import contextlib
import functools
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, NoReturn

import _databridge

logger = logging.getLogger("databridge")

OWNED = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
        signal.SIGCHLD,
        signal.SIGALRM,
        signal.SIGIO,
        signal.SIGPIPE,
        signal.SIGSYS,
    }
)

Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None

_signal = signal.signal
_exit = os._exit
_posix_spawn = os.posix_spawn
_posix_spawnp = os.posix_spawnp


def install() -> None:
    """Puts ourselves in place of what would take a signal from nginx, or start a child."""
    signal.signal = shadow_signal
    setattr(_posixsubprocess, "fork_exec", _databridge.fork_exec)  # noqa: B010
    if hasattr(subprocess, "_fork_exec"):
        setattr(subprocess, "_fork_exec", _databridge.fork_exec)  # noqa: B010
    os.posix_spawn = shadow_posix_spawn
    os.posix_spawnp = shadow_posix_spawnp
    os._exit = functools.partial(shadow_exit, os.getpid())
    os.register_at_fork(after_in_child=_databridge.after_fork)


def shadow_signal(signalnum: int, handler: Handler) -> Handler:
    """signal.signal(), which leaves nginx's signals alone: a warning, and no change.

    What it refuses it refuses still: who wants to know whether this is the main thread asks it.
    """
    if signalnum not in OWNED:
        return _signal(signalnum, handler)
    # the arguments are judged first, and this signal has no handler ever
    with contextlib.suppress(OSError):
        _signal(signal.SIGKILL, handler)
    logger.warning("%s belongs to nginx: the handler is not installed", _name(signalnum))
    return signal.getsignal(signalnum)


def refuse_signal_handler(loop: Any) -> None:
    """Makes the loop's add_signal_handler() refuse nginx's signals.

    The exception is the one that code for several platforms expects.
    """
    add_signal_handler = loop.add_signal_handler

    def add(sig: int, callback: Callable[..., Any], *args: Any) -> None:
        if sig in OWNED:
            raise NotImplementedError(
                f"{_name(sig)} belongs to nginx: use the lifespan's shutdown instead"
            )
        add_signal_handler(sig, callback, *args)

    loop.add_signal_handler = add


def shadow_exit(worker: int, status: int) -> NoReturn:
    """os._exit(), which leaves a worker with 1 instead of 2: nginx would not replace it."""
    _exit(1 if status == 2 and os.getpid() == worker else status)


def shadow_posix_spawn(path: Any, argv: Any, env: Mapping[Any, Any], /, **options: Any) -> int:
    options.setdefault("setsigmask", ())
    return _posix_spawn(path, argv, env, **options)


def shadow_posix_spawnp(path: Any, argv: Any, env: Mapping[Any, Any], /, **options: Any) -> int:
    options.setdefault("setsigmask", ())
    return _posix_spawnp(path, argv, env, **options)


def _name(signalnum: int) -> str:
    return signal.Signals(signalnum).name
