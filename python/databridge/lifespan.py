"""The ASGI lifespan protocol, as uvicorn runs it with lifespan "auto"."""

import asyncio
import logging
from collections.abc import MutableMapping
from typing import Any

logger = logging.getLogger("databridge")

Message = MutableMapping[str, Any]


class LifespanError(Exception):
    """The application refused to start; the text is for the log."""


class Lifespan:
    """One application's lifespan: a task that lives from its start to its end.

    `state` is what the application puts into `scope["state"]`: each request gets a
    shallow copy.
    """

    def __init__(self, app: Any) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._task: asyncio.Task[None] | None = None
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._started = asyncio.Event()
        self._stopped = asyncio.Event()
        self._failure: str | None = None

    async def startup(self) -> None:
        self._messages.put_nowait({"type": "lifespan.startup"})
        self._task = asyncio.create_task(self._run(), name="databridge-lifespan")
        try:
            await self._started.wait()
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if self._failure is not None:
            raise LifespanError(self._failure)

    async def shutdown(self) -> None:
        """Returns when the application is done, or has failed to be."""
        if self._task is None or self._task.done():
            return
        self._messages.put_nowait({"type": "lifespan.shutdown"})
        await self._stopped.wait()

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._messages.get, self._send)
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            self._raised(exc)
        finally:
            self._started.set()
            self._stopped.set()

    def _raised(self, exc: BaseException) -> None:
        if self._failure is not None:
            return
        if self._started.is_set():
            logger.error("Exception in 'lifespan' protocol", exc_info=exc)
        elif not isinstance(exc, Exception):  # sys.exit() is no matter of protocols
            self._failure = f"application startup failed: {exc!r}"
        else:
            logger.info("ASGI 'lifespan' protocol appears unsupported: %r", exc)

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        text = str(message.get("message", ""))
        if kind == "lifespan.startup.complete":
            self._expect(not self._started.is_set())
            self._started.set()
        elif kind == "lifespan.startup.failed":
            self._expect(not self._started.is_set())
            self._fail("startup", text)
            self._started.set()
        elif kind == "lifespan.shutdown.complete":
            self._expect(self._started.is_set() and not self._stopped.is_set())
            self._stopped.set()
        elif kind == "lifespan.shutdown.failed":
            self._expect(self._started.is_set() and not self._stopped.is_set())
            self._fail("shutdown", text)
            self._stopped.set()
        else:
            raise RuntimeError(f"Unexpected lifespan message {kind!r}.")

    def _expect(self, valid: bool) -> None:
        if not valid:
            raise RuntimeError("Got invalid state transition on lifespan protocol.")

    def _fail(self, phase: str, text: str) -> None:
        """Logs the whole text, often a traceback; its last line stands for it."""
        if text:
            logger.error("%s", text.rstrip())
        lines = text.strip().splitlines()
        self._failure = f"application {phase} failed" + (f": {lines[-1]}" if lines else "")
