"""Python's output in nginx's error log: the standard streams, logging, warnings."""

import io
import logging
import sys
from collections.abc import Callable

import _databridge

logger = logging.getLogger("databridge")

UVICORN = ("uvicorn", "uvicorn.access")
"""Loggers through which applications say what they want to be seen from INFO on, and whose
handlers they format: they are as uvicorn leaves them."""


class LogStream(io.RawIOBase):
    """What sys.stdout and sys.stderr write to: one line of the error log for each."""

    def __init__(self, level: int, descriptor: int, name: str) -> None:
        self.name = name
        self._lines = _databridge.Lines(level)
        self._descriptor = descriptor
        self.write = self._lines.write  # type: ignore[method-assign]

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def end(self) -> None:
        """Writes what is left of an unfinished line."""
        self._lines.end()


class LogHandler(logging.Handler):
    """Records as "name: message", at nginx's level; each of their lines is one there."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _databridge.log(_level(record.levelno), self.format(record))
        except Exception:
            self.handleError(record)


def _level(levelno: int) -> int:
    if levelno >= logging.CRITICAL:
        return _databridge.CRIT
    if levelno >= logging.ERROR:
        return _databridge.ERROR
    if levelno >= logging.WARNING:
        return _databridge.WARN
    if levelno >= logging.INFO:
        return _databridge.INFO
    return _databridge.DEBUG


def install() -> Callable[[], None]:
    """Redirects all that is not the application's own; returns what flushes it."""
    out = LogStream(_databridge.NOTICE, 1, "<stdout>")
    err = LogStream(_databridge.ERROR, 2, "<stderr>")
    sys.stdout = _text(out)
    sys.stderr = _text(err)

    write_records(LogHandler)

    def flush() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        out.end()
        err.end()

    return flush


def write_records(handler: Callable[[], logging.Handler]) -> None:
    """Has our handlers write what the application gave none to.

    One stands in for logging's last resort, so that an application that calls
    basicConfig() still configures the root logger.
    """
    last = handler()
    last.setLevel(logging.WARNING)
    logging.lastResort = last
    logging.captureWarnings(True)
    logger.setLevel(logging.INFO)
    logger.addHandler(Unheard(handler()))

    for name in UVICORN:
        theirs = logging.getLogger(name)
        theirs.setLevel(logging.INFO)
        theirs.propagate = False
        theirs.addHandler(handler())


def error_stream(name: str) -> tuple[io.TextIOWrapper, Callable[[], None]]:
    """A stream of a thread's own, whose lines no other interrupts, and what ends a line."""
    stream = LogStream(_databridge.ERROR, 2, name)
    return _text(stream), stream.end


def install_root(handler: logging.Handler) -> None:
    """Gives the root logger our handler if the application gave it none."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(handler)


class Unheard(logging.Handler):
    """Our own messages below a warning, when the application configured no handler."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            self._handler.emit(record)


def _text(stream: LogStream) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        stream,
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
        write_through=True,
    )


def report(text: str, request: str, exception: BaseException | None) -> None:
    """What an application did wrong with a request; called by the server."""
    if exception is not None and _disconnected(exception):
        logger.debug("%s: the client has left", request)
    elif exception is not None:
        logger.error("%s (%s)", text, request, exc_info=exception)
    elif text.startswith("cancelled"):
        logger.warning("%s: %s", request, text)
    else:
        logger.error("%s (%s)", text, request)


def _disconnected(exception: BaseException | None, seen: frozenset[int] = frozenset()) -> bool:
    """Whether all of it comes from a send() to a client that has left.

    A group whose only member was raised in its stead is that member's context.
    """
    while exception is not None and id(exception) not in seen:
        if isinstance(exception, _databridge.ClientDisconnected):
            return True
        seen |= {id(exception)}
        if isinstance(exception, BaseExceptionGroup):
            return all(_disconnected(member, seen) for member in exception.exceptions)
        exception = exception.__cause__ or exception.__context__
    return False
