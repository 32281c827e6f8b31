"""Tracebacks for who writes an application: in a worker of `databridge dev`, nowhere else.

What a request raises, or what an application does not start by, is shown as a page to
browsers and as text to all others.  The output of Python goes to the terminal as it is.
"""

import html
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib.machinery import SourceFileLoader
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from databridge import check, loading, logs
from databridge.supervisor import NOTIFY_FD

logger = logging.getLogger("databridge")

StartResponse = Callable[..., object]

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 sans-serif; margin: 2rem; color: #222 }}
h1 {{ font-size: 1.3rem }}
pre {{ background: #f4f4f4; padding: 1rem; overflow-x: auto; line-height: 1.4 }}
</style>
<h1>{title}</h1>
<pre>{text}</pre>
<p>Mend it and save: databridge dev reloads by itself.</p>
</html>
"""

_LIBRARIES = f"{os.sep}site-packages{os.sep}"
_PACKAGE = os.path.dirname(__file__) + os.sep

HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"


def install_output() -> Callable[[], None]:
    """Leaves the streams as they are; returns what flushes them."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    logs.write_records(handler)

    def flush() -> None:
        sys.stdout.flush()
        sys.stderr.flush()

    return flush


def keep_bytecode_of_libraries() -> None:
    """Of nothing else: what is saved again within a second, at the same length, would find
    that of the first time.  Without theirs each reload would compile all of FastAPI."""
    write = SourceFileLoader.set_data

    def set_data(self: SourceFileLoader, path: str, data: Any, **options: Any) -> None:
        if _LIBRARIES in self.path:
            write(self, path, data, **options)

    SourceFileLoader.set_data = set_data  # type: ignore[method-assign]


def handler() -> logging.StreamHandler[Any]:
    """Writes records to the terminal, with the application's part of their tracebacks."""
    shown = logging.StreamHandler()
    shown.setFormatter(_Formatter("%(levelname)s: %(name)s: %(message)s"))
    return shown


class _Formatter(logging.Formatter):
    def formatException(self, ei: Any) -> str:
        told = traceback.TracebackException(*ei)
        _leave_own(told)
        return "".join(told.format()).rstrip()


def _leave_own(told: traceback.TracebackException) -> None:
    """Leaves out the frames of libraries, and of ours, unless there are no others."""
    own = [frame for frame in told.stack if not _is_library(frame.filename)]
    if own:
        told.stack = traceback.StackSummary.from_list(own)
    for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if other is not None:
            _leave_own(other)


def _is_library(file: str) -> bool:
    return _LIBRARIES in file or file.startswith(_PACKAGE)


def asgi(app: Any) -> Any:
    """The application, with a traceback where it would answer 500 by itself."""
    check.write_report(app)
    applications = sys.modules.get("starlette.applications")
    if applications is None or not isinstance(app, applications.Starlette):
        return ServerErrorMiddleware(app, debug=True)
    if Exception not in app.exception_handlers and 500 not in app.exception_handlers:
        app.debug = True
    return app


def wsgi(app: Any) -> Any:
    """The same for WSGI; Flask answers what is raised itself, but for its debug mode."""
    flask = sys.modules.get("flask")
    if flask is not None and isinstance(app, flask.Flask):
        app.debug = True

    def shown(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        try:
            return app(environ, start_response)  # type: ignore[no-any-return]
        except Exception as exc:
            logger.exception("%s %s", environ["REQUEST_METHOD"], environ["PATH_INFO"])
            page = ServerErrorMiddleware(_nothing)
            if "text/html" in environ.get("HTTP_ACCEPT", ""):
                kind, text = HTML, page.generate_html(exc)
            else:
                kind, text = TEXT, page.generate_plain_text(exc)
            headers = [("Content-Type", kind)]
            start_response("500 Internal Server Error", headers, sys.exc_info())
            return [text.encode(errors="replace")]

    return shown


def failed(title: str, exc: BaseException) -> ASGIApp:
    """Stands for an application that did not start, and says why."""
    text = "".join(traceback.format_exception(_mended(exc)))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1011})
        if scope["type"] != "http":
            return
        if "text/html" in Headers(scope=scope).get("accept", ""):
            kind = HTML
            body = PAGE.format(title=html.escape(title), text=html.escape(text))
        else:
            kind, body = TEXT, text
        headers = [(b"content-type", kind.encode())]
        await send({"type": "http.response.start", "status": 500, "headers": headers})
        await send({"type": "http.response.body", "body": body.encode(errors="replace")})

    return app


def tell(text: str, exc: BaseException) -> None:
    """Says to `databridge dev`, in one line, that the application did not start, and where."""
    line = " ".join(f"failed: {text}{_place(_mended(exc))}".splitlines())
    os.write(int(os.environ[NOTIFY_FD]), line.encode(errors="replace") + b"\n")


def _mended(exc: BaseException) -> BaseException:
    """What the user has to mend: the cause of our error, with the frames of theirs alone."""
    if isinstance(exc, loading.LoadError) and exc.__cause__ is not None:
        exc = exc.__cause__
    return exc.with_traceback(loading.own_frames(exc))


def _place(exc: BaseException) -> str:
    """File and line; a syntax error says its own."""
    if isinstance(exc, SyntaxError):
        return f" [{exc.filename}:{exc.lineno}]"
    frames = traceback.extract_tb(exc.__traceback__)
    return f" [{frames[-1].filename}:{frames[-1].lineno}]" if frames else ""


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An application for a middleware whose pages alone are asked for."""
