"""WSGI applications (PEP 3333): each request runs in a thread of a pool.

The loop thread waits in `_Exchange.serve()`, the application runs in `_Exchange.run()`.
A small body goes over with the request, and a response that is complete at once comes
back in one hop; whatever has to wait is a step that the thread asks the loop for, one
at a time.  Who touches what: `_asked`, `_unanswered` and `_over` are written by the
loop thread, everything else of an exchange by its own thread; `_exception` goes over
with the step that raises it.
"""

import asyncio
import contextvars
import functools
import io
import logging
import os
import stat
import threading
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from queue import SimpleQueue
from typing import Any, TextIO
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

from databridge import __version__, logs

logger = logging.getLogger("databridge")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Step = Callable[["_Exchange", Any], Awaitable[Any]]
"""A method, not bound: the future that it is the result of belongs to its exchange."""

PATHSEND = "http.response.pathsend"

BLOCK = 64 * 1024
"""What is read of a file at once, at least: each block is a way to the loop and back."""

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailers",
        "transfer-encoding",
        "upgrade",
    }
)
"""nginx's own to send; applications that copy a foreign response have them."""


class ClientLeft(OSError):
    """The client, or the server, no longer waits for this response."""


class Pool:
    """At most `size` threads, started when all others are busy; they end with the process."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._threads: list[_Thread] = []
        self._jobs: SimpleQueue[Callable[[TextIO], None]] = SimpleQueue()
        self._submitted = 0

    def submit(self, job: Callable[[TextIO], None]) -> None:
        """From the loop thread; the job gets the thread's wsgi.errors and never raises."""
        self._submitted += 1
        count = len(self._threads)
        if count < self._size and self.running() > count:
            thread = _Thread(self._jobs, f"databridge-wsgi_{count}")
            self._threads.append(thread)
            thread.start()
        self._jobs.put(job)

    def running(self) -> int:
        """Jobs that have not ended, those that wait for a thread included."""
        return self._submitted - sum(thread.finished for thread in self._threads)

    async def idle(self) -> None:
        while self.running():
            await asyncio.sleep(0.005)


class _Thread(threading.Thread):
    def __init__(self, jobs: "SimpleQueue[Callable[[TextIO], None]]", name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.finished = 0
        self._jobs = jobs

    def run(self) -> None:
        errors, end = logs.error_stream("<wsgi.errors>")
        while True:
            job = self._jobs.get()
            job(errors)
            del job
            end()
            self.finished += 1


class WSGI:
    """A WSGI application as an ASGI one."""

    def __init__(self, app: WSGIApplication, pool: Pool) -> None:
        self._app = app
        self._pool = pool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _Exchange(self._app, scope, receive, send).serve(self._pool)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            raise ValueError(f"WSGI has no protocol {scope['type']!r}")


class _Exchange:
    """One request and its response."""

    def __init__(self, app: WSGIApplication, scope: Scope, receive: Receive, send: Send) -> None:
        self._app = app
        self._scope = scope
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()

        self._asked: asyncio.Future[tuple[Step, Any, bool]] = self._loop.create_future()
        self._unanswered = False
        self._over = False
        self._replies: SimpleQueue[Any] | None = None
        self._exception: BaseException | None = None

        self._start: Message | None = None
        self._left: int | None = None
        self._bodyless = scope["method"] == "HEAD"
        self._sent = False
        self._complete = False

    # the loop thread

    async def serve(self, pool: Pool) -> None:
        first = None
        if not self._expects_continue():
            first = await self._receive()
            if first["type"] == "http.disconnect":
                return
        context = contextvars.copy_context()
        pool.submit(lambda errors: context.run(self.run, first, errors))
        try:
            while True:
                step, argument, last = await self._asked
                reply = await step(self, argument)
                if last:
                    return
                self._asked = self._loop.create_future()
                self._answer(reply)
        finally:
            self._over = True
            if self._unanswered:
                self._answer(None)

    def _expects_continue(self) -> bool:
        """Whether reading makes the client send what the application may not want."""
        return self._scope["method"] != "GET" and any(
            name == b"expect" for name, _ in self._scope["headers"]
        )

    def _deliver(self, step: Step, argument: Any, last: bool) -> None:
        if not self._over and not self._asked.done():
            self._unanswered = not last
            self._asked.set_result((step, argument, last))
        elif not last:
            self._answer(None)
        elif (exc := self._exception) is not None:
            self._exception = None
            self._report("Exception in WSGI application", exc)

    def _answer(self, reply: Any) -> None:
        self._unanswered = False
        assert self._replies is not None
        self._replies.put(reply)

    async def _send_all(self, messages: list[Message]) -> bool | None:
        try:
            for message in messages:
                await self._send(message)
        except OSError as exc:
            if exc.errno is not None:
                raise
            return None  # the server's own: nobody waits for the response
        return True

    async def _next(self, _: None) -> Message:
        return await self._receive()

    async def _raise(self, _: None) -> None:
        """Without a reference to the exception, which has one to this exchange."""
        exc, self._exception = self._exception, None
        assert exc is not None
        try:
            if isinstance(exc, Exception):
                raise exc
            raise RuntimeError(f"the application raised {exc!r}") from exc
        finally:
            del exc

    # the application's thread

    def run(self, first: Message | None, errors: TextIO) -> None:
        if self._over:
            return  # its time was over before it had a thread
        result = None
        try:
            environ = make_environ(self._scope, self._input(first), errors)
            result = self._app(environ, self.start_response)
            self._respond(result)
        except BaseException as exc:
            self._failed(exc)
        try:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        except BaseException as exc:
            if not _left(exc):
                self._report("Exception in close() of a WSGI application", exc)

    def start_response(
        self,
        status: str,
        response_headers: list[tuple[str, str]],
        exc_info: Any = None,
    ) -> Callable[[bytes], object]:
        if exc_info:
            try:
                if self._sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._start is not None:
            raise RuntimeError("start_response() was called again, without exc_info")

        code = _code(status)
        self._left = None
        encoded = []
        for name, value in response_headers:
            if not isinstance(name, str) or not isinstance(value, str):
                raise TypeError(f"a header must be a pair of str, not {(name, value)!r}")
            name = name.lower()
            if name in HOP_BY_HOP:
                continue
            if name == "content-length":
                self._left = _length(value)
            encoded.append((name.encode("latin-1"), value.encode("latin-1")))

        self._bodyless = self._scope["method"] == "HEAD" or code in (204, 304)
        self._start = {"type": "http.response.start", "status": code, "headers": encoded}
        return self._write

    def _input(self, first: Message | None) -> io.BufferedIOBase:
        if first is not None and not first.get("more_body", False):
            return io.BytesIO(first.get("body", b""))
        return io.BufferedReader(_Body(self.next_message, first), BLOCK)

    def next_message(self) -> Message:
        message: Message = self._ask(_Exchange._next, None)
        if message["type"] == "http.disconnect":
            raise ClientLeft("the client left before it had sent its request")
        return message

    def _respond(self, result: Any) -> None:
        if isinstance(result, FileWrapper) and self._respond_file(result):
            return
        if type(result) is list or type(result) is tuple:
            self._respond_list(result)
            return
        if result is None or isinstance(result, str | bytes):
            raise TypeError(
                "a WSGI application must return an iterable of bytes, such as [b'...'],"
                f" not {type(result).__name__}"
            )
        for block in result:
            if not self._emit(block):
                break
        if not self._complete:
            self._finish([])

    def _respond_file(self, wrapper: "FileWrapper") -> bool:
        """Has nginx send the file by its name, when it is whole and nothing else."""
        if self._start is None or self._sent or PATHSEND not in self._scope["extensions"]:
            return False
        found = _whole_file(wrapper.filelike)
        if found is None or self._left not in (None, found[1]):
            return False
        self._declare_length(found[1])
        if self._bodyless:
            self._finish([])
            return True
        # the file may be gone once it is closed: not before nginx has opened it
        self._ask(_Exchange._send_all, [*self._head(), {"type": PATHSEND, "path": found[0]}])
        self._complete = True
        self._post(_Exchange._send_all, [], last=True)
        return True

    def _respond_list(self, blocks: list[bytes] | tuple[bytes, ...]) -> None:
        """All of it at once: asking a list for its next block changes nothing."""
        pieces = [piece for block in blocks if (piece := self._piece(block))]
        if len(blocks) < 2:
            self._declare_length(sum(map(len, blocks)))
        if not self._complete:
            self._finish(pieces)

    def _write(self, data: bytes) -> None:
        self._emit(data)

    def _emit(self, block: bytes) -> bool:
        """Sends a block and waits until it was; False when no more are wanted."""
        piece = self._piece(block)
        if not block:
            return True
        if self._complete:
            return False
        if self._bodyless or self._left == 0:
            self._finish([piece])
        else:
            self._ask(_Exchange._send_all, [*self._head(), _body(piece)])
        return True

    def _piece(self, block: bytes) -> bytes:
        """What is to be sent of a block."""
        if not isinstance(block, bytes):
            hint = ": encode it" if isinstance(block, str) else ""
            raise TypeError(
                f"a WSGI application must produce bytes, not {type(block).__name__}{hint}"
            )
        if block and self._start is None:
            raise RuntimeError("the application did not call start_response() before its body")
        if self._bodyless or self._left is None:
            return block
        if len(block) > self._left:
            logger.error("%s: the body is longer than its Content-Length: cut", self._name())
            block = block[: self._left]
        self._left -= len(block)
        return block

    def _head(self) -> list[Message]:
        """The start of the response, when it was not yet sent."""
        if self._start is None:
            raise RuntimeError("the application did not call start_response()")
        if self._sent:
            return []
        self._sent = True
        return [self._start]

    def _declare_length(self, length: int) -> None:
        """Of what would have been the body of a HEAD, nothing says nothing."""
        if self._start is None or self._sent or self._left is not None:
            return
        if self._start["status"] not in (204, 304) and (length or not self._bodyless):
            self._start["headers"].append((b"content-length", b"%d" % length))

    def _finish(self, pieces: list[bytes]) -> None:
        """The response ends here; its thread need not wait."""
        messages = self._head()
        if not self._bodyless:
            messages += map(_body, pieces)
        if len(messages) > 0 and messages[-1]["type"] == "http.response.body":
            messages[-1]["more_body"] = False
        else:
            messages.append(_body(b"", more=False))
        self._complete = True
        self._post(_Exchange._send_all, messages, last=True)

    def _failed(self, exc: BaseException) -> None:
        if _left(exc):
            if not self._complete:
                self._post(_Exchange._send_all, [], last=True)
        elif self._complete:
            self._report("Exception after the response of a WSGI application", exc)
        else:
            self._exception = exc
            self._complete = True
            self._post(_Exchange._raise, None, last=True)

    def _ask(self, step: Step, argument: Any) -> Any:
        """Has the loop take a step, and waits for what comes of it."""
        if self._replies is None:
            self._replies = SimpleQueue()
        self._post(step, argument)
        reply = self._replies.get()
        if reply is None:
            raise ClientLeft("nobody waits for the response any more")
        return reply

    def _post(self, step: Step, argument: Any, *, last: bool = False) -> None:
        self._loop.call_soon_threadsafe(self._deliver, step, argument, last)

    # any thread

    def _name(self) -> str:
        return f"{self._scope['method']} {self._scope['path']}"

    def _report(self, text: str, exc: BaseException) -> None:
        logs.report(text, self._name(), exc)


class _Body(io.RawIOBase):
    """A request's body that comes in messages, for a BufferedReader."""

    def __init__(self, next_message: Callable[[], Message], first: Message | None) -> None:
        self._next_message = next_message
        self._more = True
        self._chunk = memoryview(b"")
        if first is not None:
            self._take(first)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._chunk and self._more:
            self._take(self._next_message())
        count = min(len(buffer), len(self._chunk))
        buffer[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        return count

    def readall(self) -> bytes:
        parts = [self._chunk]
        while self._more:
            self._take(self._next_message())
            parts.append(self._chunk)
        self._chunk = memoryview(b"")
        return b"".join(parts)

    def _take(self, message: Message) -> None:
        self._chunk = memoryview(message.get("body", b""))
        self._more = message.get("more_body", False)


class FileWrapper:
    """wsgi.file_wrapper: the blocks of a file, or the file itself for nginx to send."""

    def __init__(self, filelike: Any, blksize: int = BLOCK) -> None:
        self.filelike = filelike
        self._size = max(blksize, BLOCK)
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> "FileWrapper":
        return self

    def __next__(self) -> bytes:
        block: bytes = self.filelike.read(self._size)
        if block:
            return block
        raise StopIteration


def make_environ(scope: Scope, body: io.BufferedIOBase, errors: TextIO) -> WSGIEnvironment:
    """The request as PEP 3333 and CGI have it."""
    raw_path = scope["raw_path"].decode("latin-1")
    path = unquote_to_bytes(raw_path).decode("latin-1") if "%" in raw_path else raw_path
    root = _native(scope["root_path"])
    if root and path.startswith(root):
        path = path[len(root) :]
    query = scope["query_string"].decode("latin-1")
    version = scope["http_version"]

    environ: WSGIEnvironment = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": root,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_URI": f"{raw_path}?{query}" if query else raw_path,
        "SERVER_PROTOCOL": "HTTP/2.0" if version == "2" else f"HTTP/{version}",
        "SERVER_SOFTWARE": SOFTWARE,
        "REMOTE_ADDR": "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body,
        "wsgi.errors": errors,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }

    for name, value in scope["headers"]:
        key = _key(name)
        if key is None:
            continue
        text = value.decode("latin-1")
        if key in environ:
            text = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{text}"
        environ[key] = text

    if "CONTENT_LENGTH" not in environ:
        environ["wsgi.input_terminated"] = True

    client = scope["client"]
    if client is not None and client[1]:
        environ["REMOTE_ADDR"] = client[0]
        environ["REMOTE_PORT"] = str(client[1])

    server = scope["server"]
    if server is not None and server[1] is not None:
        environ["SERVER_NAME"] = server[0]
        environ["SERVER_PORT"] = str(server[1])
    else:
        _name_server(environ)

    databridge = scope["extensions"].get("databridge")
    if databridge and databridge.get("remote_user"):
        environ["REMOTE_USER"] = _native(databridge["remote_user"])
    return environ


SOFTWARE = f"databridge/{__version__}"


@functools.lru_cache(maxsize=1024)
def _key(name: bytes) -> str | None:
    """The variable of a header, or None for one that another could be mistaken for.

    X_User would become the HTTP_X_USER that a proxy's X-User is trusted to be.
    """
    if b"_" in name:
        return None
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def _name_server(environ: WSGIEnvironment) -> None:
    """A unix socket has no name and no port, which are mandatory: the client's view."""
    host, _, port = environ.get("HTTP_HOST", "").rpartition(":")
    if not host or not port.isdigit():
        host, port = environ.get("HTTP_HOST", ""), ""
    environ["SERVER_NAME"] = host or "localhost"
    environ["SERVER_PORT"] = port or ("443" if environ["wsgi.url_scheme"] == "https" else "80")


def _native(text: str) -> str:
    """A str of bytes, as WSGI has them."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _body(block: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": block, "more_body": more}


def _code(status: str) -> int:
    if isinstance(status, str) and status[:3].isdecimal() and status[3:4] in ("", " "):
        return int(status[:3])
    raise ValueError(f"a status must be a str such as '200 OK', not {status!r}")


def _length(value: str) -> int:
    if value.isascii() and value.strip().isdecimal():
        return int(value)
    raise ValueError(f"a Content-Length must be a number, not {value!r}")


def _whole_file(file: Any) -> tuple[str, int] | None:
    """Path and size of a file that stands at its beginning."""
    raw = file.raw if type(file) is io.BufferedReader else file
    if type(raw) is not io.FileIO or not isinstance(raw.name, str):
        return None
    path = os.path.abspath(raw.name)
    try:
        opened = os.fstat(raw.fileno())
        whole = file.tell() == 0 and os.path.samestat(opened, os.stat(path))
    except (OSError, ValueError):
        return None
    return (path, opened.st_size) if whole and stat.S_ISREG(opened.st_mode) else None


def _left(exc: BaseException | None) -> bool:
    """Whether the exception began with a client that left."""
    seen: Iterable[BaseException] = ()
    while exc is not None and exc not in seen:
        if isinstance(exc, ClientLeft):
            return True
        seen = (*seen, exc)
        exc = exc.__cause__ or exc.__context__
    return False
