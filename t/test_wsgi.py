"""WSGI: PEP 3333 to the letter, under wsgiref's validator and beside gunicorn."""

import hashlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from conftest import StartApp, StartNginx, StartServer
from harness import SLOWER, Gunicorn, Nginx, Server, until
from harness.websocket import handshake

APP = '''
import gc
import hashlib
import io
import json
import pathlib
import sys
import tempfile
import threading
import time
from wsgiref.validate import validator

HERE = pathlib.Path(__file__).parent
TEXT = [("Content-Type", "text/plain")]
events = []


class Closing:
    """An iterable that tells of its end."""

    def __init__(self, name, blocks, fails=False):
        self.name, self.blocks, self.fails = name, iter(blocks), fails

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.blocks)

    def close(self):
        events.append(f"{self.name} closed")
        if self.fails:
            raise RuntimeError("on closing")


def answer(start_response, value):
    body = json.dumps(value).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


def environ(environ, start_response):
    shown = {k: v if isinstance(v, (str, bool)) else repr(v) for k, v in environ.items()}
    return answer(start_response, shown)


def digest(environ, start_response):
    digest, size = hashlib.sha256(), 0
    while block := environ["wsgi.input"].read(60_000):
        size += len(block)
        digest.update(block)
    return answer(start_response, {"size": size, "digest": digest.hexdigest()})


def lines(environ, start_response):
    body = environ["wsgi.input"]
    found = [body.read(3), body.readline(), body.readline(4), body.readline(), body.read(0)]
    found.append(next(iter(body)))
    found += [len(body.readlines()), body.read(5), body.readline(), body.readlines()]
    return answer(start_response, repr(found))


def unread(environ, start_response):
    return answer(start_response, "unread")


def one(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"hello"]


def several(environ, start_response):
    start_response("200 OK", TEXT)
    return (b"one ", b"", b"two")


def nothing(environ, start_response):
    start_response("200 OK", TEXT)
    return []


def no_content(environ, start_response):
    start_response("204 No Content", [])
    return []


def declared(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "10")])
    yield b"hello"
    yield b""
    yield b"world"
    events.append("declared exhausted")


def too_long(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    while True:
        yield b"hello"


def too_short(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "10")])
    yield b"hello"


def steps(environ, start_response):
    """Asks for the next block only when the one before has left."""
    def blocks():
        yield b""
        yield b"first"
        until = time.monotonic() + 10
        while not (HERE / "seen").exists() and time.monotonic() < until:
            time.sleep(0.01)
        yield b"second" if (HERE / "seen").exists() else b"not seen"
    start_response("200 OK", TEXT)
    return blocks()


def late(environ, start_response):
    """A generator starts its response when it is first asked."""
    yield b""
    start_response("201 Created", TEXT)
    yield b"late"


def written(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"one ")
    write(b"")
    write(b"two ")
    return [b"three"]


def headers(environ, start_response):
    start_response(
        "200 Fine",
        [
            *TEXT,
            ("X-Latin", "caf\\xe9"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("ETag", '"tag"'),
            ("Server", "mine"),
        ],
    )
    return [b"x"]


def hop(environ, start_response):
    start_response("200 OK", [*TEXT, ("Connection", "close"), ("Transfer-Encoding", "chunked")])
    return [b"hello"]


def replaced(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-Old", "1")])
    try:
        raise ValueError("replaced")
    except ValueError:
        start_response("503 Sorry", TEXT, sys.exc_info())
    return [b"sorry"]


def replaced_late(environ, start_response):
    start_response("200 OK", TEXT)
    yield b"begun"
    try:
        raise ValueError("too late to replace")
    except ValueError:
        start_response("500 Sorry", TEXT, sys.exc_info())
    yield b"never"


def raises(environ, start_response):
    raise ValueError("secret of raises")


def raises_exit(environ, start_response):
    raise SystemExit(3)


def raises_stop(environ, start_response):
    raise StopIteration


def raises_closed(environ, start_response):
    def blocks():
        raise ValueError("secret of the iterable")
        yield b""
    start_response("200 OK", TEXT)
    return Closing("raises", blocks())


def raises_late(environ, start_response):
    start_response("200 OK", TEXT)
    yield b"begun"
    raise ValueError("secret, but late")


def closes(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing("closes", [b"a", b"b"], fails=True)


def twice(environ, start_response):
    start_response("200 OK", TEXT)
    start_response("200 OK", TEXT)
    return [b"x"]


def string(environ, start_response):
    start_response("200 OK", TEXT)
    return ["text"]


def whole_string(environ, start_response):
    start_response("200 OK", TEXT)
    return "text"


def whole_bytes(environ, start_response):
    start_response("200 OK", TEXT)
    return b"bytes"


def none(environ, start_response):
    start_response("200 OK", TEXT)


def unstarted(environ, start_response):
    return [b"x"]


def silent(environ, start_response):
    return []


def bad_status(environ, start_response):
    start_response("fine", TEXT)
    return [b"x"]


def bad_header(environ, start_response):
    start_response("200 OK", [("X-Split", "a\\r\\nX-Injected: b")])
    return [b"x"]


def number_header(environ, start_response):
    start_response("200 OK", [("Content-Length", 5)])
    return [b"hello"]


def bad_length(environ, start_response):
    start_response("200 OK", [("Content-Length", "five")])
    return [b"hello"]


def errors(environ, start_response):
    environ["wsgi.errors"].write("written to ")
    environ["wsgi.errors"].writelines(["wsgi", ".errors\\nunfinished"])
    environ["wsgi.errors"].flush()
    return answer(start_response, "said")


def file(environ, start_response):
    path = HERE / "file.bin"
    if not path.exists():
        path.write_bytes(bytes(range(256)) * 4000)
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    opened = open(path, "rb")
    close = opened.close

    def noted():
        events.append(f"file closed at {opened.tell()}")
        close()

    opened.close = noted
    return environ["wsgi.file_wrapper"](opened, 8192)


def file_middle(environ, start_response):
    file(environ, lambda *_: None).close()
    opened = open(HERE / "file.bin", "rb")
    opened.seek(1000)
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return environ["wsgi.file_wrapper"](opened)


def file_deleted(environ, start_response):
    opened = tempfile.TemporaryFile()
    opened.write(b"deleted " * 50_000)
    opened.seek(0)
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](opened)


def file_gzip(environ, start_response):
    import gzip
    path = HERE / "file.gz"
    path.write_bytes(gzip.compress(b"unzipped"))
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](gzip.open(path))


def file_memory(environ, start_response):
    class Memory(io.BytesIO):
        def close(self):
            events.append("memory closed")
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](Memory(b"memory" * 50_000), 100)


def endless(environ, start_response):
    def blocks():
        try:
            while True:
                yield b"x" * 65536
        finally:
            events.append("endless ended")
    start_response("200 OK", TEXT)
    return blocks()


def upload(environ, start_response):
    events.append("upload begun")
    try:
        size = len(environ["wsgi.input"].read())
    except OSError as error:
        events.append(f"upload cut: {error}")
        raise
    return answer(start_response, size)


def collect(environ, start_response):
    return answer(start_response, gc.collect())


def slow(environ, start_response):
    with open(HERE / "slow", "a") as file:
        file.write("begun\\n")
    time.sleep(0.5)
    with open(HERE / "slow", "a") as file:
        file.write("done\\n")
    start_response("200 OK", TEXT)
    return [b"slow"]


def sleep(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"]))
    return answer(start_response, threading.current_thread().name)


def main(environ, start_response):
    name = environ["PATH_INFO"].strip("/").replace("-", "_") or "one"
    if name == "events":
        return answer(start_response, events)
    found = globals().get(name)
    if name == "main" or not callable(found):
        return answer(start_response, environ["PATH_INFO"])
    return found(environ, start_response)


app = main
validated = validator(main)
'''

LOCATIONS = """
    location /mounted { databridge_app app:app root_path=/mounted; }
    location /validated { databridge_app app:validated interface=wsgi root_path=/validated; }
"""

CONFIGURATION = {"server": LOCATIONS}


@pytest.fixture(scope="module")
def gunicorn() -> Iterator[Gunicorn]:
    server = Gunicorn()
    server.write({"app.py": APP})
    server.run("app:app")
    yield server
    assert server.finish() == []


def events(server: Nginx) -> list[str]:
    return list(server.client.get("/events").json())


# environ

REQUESTS = [
    "GET /environ HTTP/1.1\r\nHost: name.test:81\r\n\r\n",
    "GET /environ?a=1&b=%20%C3%A9+x HTTP/1.1\r\nHost: test\r\n\r\n",
    "GET /environ HTTP/1.0\r\n\r\n",
    "GET /environ HTTP/1.1\r\nHost: test\r\nCookie: a=1\r\nX-A: 1\r\nX-A: 2\r\nX-B:\r\n\r\n",
    "GET /environ HTTP/1.1\r\nHost: test\r\nX-Latin: caf\xe9\r\nAuthorization: Basic eA==\r\n\r\n",
    "GET /environ HTTP/1.1\r\nHost: test\r\nX_Under: 1\r\nX-Under: 2\r\n\r\n",
    "POST /environ HTTP/1.1\r\nHost: test\r\nContent-Type: text/x\r\nContent-Length: 3\r\n\r\nabc",
    "POST /environ HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "PROPFIND /environ HTTP/1.1\r\nHost: test\r\n\r\n",
]

OWN = {"REMOTE_PORT", "SERVER_PORT", "SERVER_SOFTWARE", "SERVER_NAME", "HTTP_TRANSFER_ENCODING"}


def shown(server: Nginx | Gunicorn, request: str) -> dict[str, object]:
    with server.raw() as client:
        client.send(request.encode("latin-1"))
        return dict(json.loads(client.response().body))


@pytest.mark.parametrize("request_", REQUESTS)
def test_environ_is_as_under_gunicorn(shared_app: Nginx, gunicorn: Gunicorn, request_: str) -> None:
    ours, theirs = shown(shared_app, request_), shown(gunicorn, request_)
    names = {
        name
        for name in (*ours, *theirs)
        if name not in OWN and (name.startswith("HTTP_") or name in ours and name in theirs)
    } - {"wsgi.input", "wsgi.errors", "wsgi.file_wrapper", "wsgi.multiprocess"}
    names -= {"wsgi.input_terminated"} if "CONTENT_LENGTH" in ours else set()
    assert {n: ours.get(n) for n in names} == {n: theirs.get(n) for n in names}
    assert len(names) >= 10


def test_environ_has_what_pep_3333_asks_for(shared_app: Nginx) -> None:
    environ = shown(shared_app, REQUESTS[0])
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("127.0.0.1", str(shared_app.port))
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["REMOTE_ADDR"] == "127.0.0.1" and str(environ["REMOTE_PORT"]).isdigit()
    assert environ["wsgi.version"] == "(1, 0)" and environ["wsgi.url_scheme"] == "http"
    flags = [environ[f"wsgi.{name}"] for name in ("multithread", "multiprocess", "run_once")]
    assert flags == [True, True, False]
    assert "CONTENT_LENGTH" not in environ and "CONTENT_TYPE" not in environ
    assert environ["wsgi.input_terminated"] is True
    assert environ["REQUEST_URI"] == "/environ"


@pytest.mark.parametrize(
    ("path", "script", "info"),
    [
        ("/x/%C3%A9/%FF%2F//a/./b", "", "/x/\xc3\xa9/\xff///a/./b"),
        ("/mounted/%E2%82%AC", "/mounted", "/\xe2\x82\xac"),
        ("/mounted", "/mounted", ""),
        ("/mounted/", "/mounted", "/"),
    ],
)
def test_a_path_is_bytes_below_its_script(
    shared_app: Nginx, path: str, script: str, info: str
) -> None:
    if info.strip("/"):
        with shared_app.raw() as client:
            client.get(path)
            assert json.loads(client.response().body) == info
    else:
        assert shared_app.client.get(path).text == "hello"
    if script:
        environ = shown(shared_app, f"GET {script}/environ HTTP/1.1\r\nHost: t\r\n\r\n")
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script, "/environ")


def test_cookies_are_joined_by_a_semicolon(shared_app: Nginx) -> None:
    lines = "Host: t\r\nCookie: a=1\r\nCookie: b=2\r\n"
    environ = shown(shared_app, f"GET /environ HTTP/1.1\r\n{lines}\r\n")
    assert environ["HTTP_COOKIE"] == "a=1; b=2"


def test_a_chunked_body_says_that_it_ends(shared_app: Nginx) -> None:
    environ = shown(shared_app, REQUESTS[7])
    assert environ["wsgi.input_terminated"] is True
    assert "wsgi.input_terminated" not in shown(shared_app, REQUESTS[6])


# the request's body

SIZES = [0, 1, 70_000, 1024 * 1024, 1024 * 1024 + 1, 5_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_a_body_of_any_size_is_read(shared_app: Nginx, size: int) -> None:
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    expected = {"size": size, "digest": hashlib.sha256(body).hexdigest()}
    assert shared_app.client.post("/digest", content=body).json() == expected
    assert shared_app.client.post("/validated/digest", content=body).json() == expected
    chunked = shared_app.client.post("/digest", content=iter([body[:7], body[7:]]))
    assert chunked.json() == expected
    assert shared_app.client.post("/unread", content=body).json() == "unread"


@pytest.mark.parametrize("padding", [10, 3_000_000], ids=["whole", "in_pieces"])
def test_the_input_is_a_file(shared_app: Nginx, gunicorn: Gunicorn, padding: int) -> None:
    body = b"abcdef\nlonger line\n\nnext\n" + b"x" * padding + b"\nlast\nno end"
    ours = shared_app.client.post("/lines", content=body).json()
    assert ours == gunicorn.client.post("/lines", content=body).json()
    assert ours.startswith("[b'abc', b'def\\n', b'long', b'er line\\n', b'', b'\\n', ")


def test_a_client_that_expects_100_is_told_to_go_on(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        client.send(
            b"POST /digest HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.response().status == 100
        client.send(b"abc")
        assert json.loads(client.response().body)["size"] == 3


# the response


@pytest.mark.parametrize("prefix", ["", "/validated"])
@pytest.mark.parametrize(
    ("path", "body", "length"),
    [
        ("/one", b"hello", "5"),
        ("/several", b"one two", None),
        ("/nothing", b"", "0"),
        ("/declared", b"helloworld", "10"),
        ("/written", b"one two three", None),
        ("/replaced", b"sorry", "5"),
    ],
)
def test_a_response_is_framed_by_what_is_known(
    shared_app: Nginx, prefix: str, path: str, body: bytes, length: str | None
) -> None:
    answer = shared_app.client.get(prefix + path)
    assert answer.content == body
    if not prefix:
        assert answer.headers.get("content-length") == length
    if path == "/replaced":
        assert answer.status_code == 503 and "x-old" not in answer.headers
    if path == "/declared":
        until("the generator's end", lambda: "declared exhausted" in events(shared_app))


def test_a_generator_may_start_its_response_when_asked(shared_app: Nginx) -> None:
    answer = shared_app.client.get("/late")
    assert (answer.status_code, answer.text) == (201, "late")


def test_a_block_leaves_before_the_next_is_asked_for(shared_app: Nginx) -> None:
    with shared_app.client.stream("GET", "/steps") as answer:
        blocks = answer.iter_raw()
        assert next(blocks) == b"first"
        (shared_app.app / "seen").touch()
        assert b"".join(blocks) == b"second"


@pytest.mark.parametrize("path", ["/one", "/several", "/declared", "/written", "/file", "/endless"])
def test_head_has_no_body(shared_app: Nginx, path: str) -> None:
    with shared_app.raw() as client:
        client.send(f"HEAD {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
        assert client.response(head=True).status == 200
        client.get("/one")
        assert client.response().body == b"hello"


def test_no_content_is_none(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        client.get("/no-content")
        answer = client.response()
        assert answer.status == 204 and "content-length" not in answer.headers
        client.get("/one")
        assert client.response().body == b"hello"


def test_headers_are_the_applications(shared_app: Nginx) -> None:
    answer = shared_app.client.get("/headers")
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert (b"x-latin", b"caf\xe9") in [(n.lower(), v) for n, v in answer.headers.raw]
    assert (answer.headers["etag"], answer.headers["server"]) == ('"tag"', "mine")
    assert answer.headers["content-type"] == "text/plain"


def test_hop_by_hop_headers_are_the_servers(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        for _ in range(2):
            client.get("/hop")
            answer = client.response()
            assert answer.body == b"hello" and answer.headers["connection"] == "keep-alive"


def test_a_body_that_is_too_long_is_cut_and_one_too_short_cuts_off(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        client.get("/too-long")
        assert client.response().body == b"hello"
        client.get("/one")
        assert client.response().body == b"hello"
        client.get("/too-short")
        with pytest.raises(ConnectionError):
            client.response()
    shared_app.logged("GET /too-long: the body is longer than its Content-Length")


@pytest.mark.parametrize("prefix", ["", "/validated"])
def test_files_are_sent(shared_app: Nginx, prefix: str) -> None:
    whole = bytes(range(256)) * 4000
    get = shared_app.client.get
    answer = get(f"{prefix}/file")
    assert answer.content == whole
    assert get(f"{prefix}/file-middle").content == whole[1000:]
    assert get(f"{prefix}/file-deleted").content == b"deleted " * 50_000
    assert get(f"{prefix}/file-gzip").content == b"unzipped"
    assert get(f"{prefix}/file-memory").content == b"memory" * 50_000
    until("the file's end", lambda: "memory closed" in events(shared_app))


def test_a_whole_file_is_left_to_nginx(app: StartApp) -> None:
    server = app(APP)
    answer = server.client.get("/file")
    assert len(answer.content) == int(answer.headers["content-length"]) == 1_024_000
    until("the file's end", lambda: events(server) == ["file closed at 0"])


# errors

ERRORS = {
    "raises": "ValueError: secret of raises",
    "raises-exit": "raised SystemExit",
    "raises-stop": "StopIteration",
    "raises-closed": "ValueError: secret of the iterable",
    "twice": "start_response.. was called again",
    "string": "must produce bytes, not str: encode it",
    "whole-string": "iterable of bytes, such as .*, not str",
    "whole-bytes": "iterable of bytes, such as .*, not bytes",
    "none": "iterable of bytes, such as .*, not NoneType",
    "unstarted": "did not call start_response.. before its body",
    "silent": "did not call start_response",
    "bad-status": "a status must be a str such as '200 OK', not 'fine'",
    "bad-header": "Invalid HTTP header value",
    "number-header": "a header must be a pair of str",
    "bad-length": "a Content-Length must be a number",
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_a_500_and_a_traceback_in_the_log(shared_app: Nginx, name: str) -> None:
    answer = shared_app.client.get(f"/{name}")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    shared_app.logged(ERRORS[name])
    shared_app.logged(rf"Exception in ASGI application \(GET /{name}\)")
    assert shared_app.client.get("/one").text == "hello"


@pytest.mark.parametrize("path", ["/raises-late", "/replaced-late"])
def test_an_error_in_the_middle_cuts_the_response_off(shared_app: Nginx, path: str) -> None:
    with shared_app.raw() as client:
        client.get(path)
        with pytest.raises(ConnectionError):
            client.response()


def test_an_iterable_is_closed_once_whatever_happens(shared_app: Nginx) -> None:
    before = events(shared_app)
    shared_app.client.get("/raises-closed")
    assert shared_app.client.get("/closes").text == "ab"
    until("the ends", lambda: "closes closed" in events(shared_app))
    new = events(shared_app)
    assert new.count("raises closed") == before.count("raises closed") + 1
    assert new.count("closes closed") == before.count("closes closed") + 1
    shared_app.logged(r"Exception in close\(\) of a WSGI application \(GET /closes\)")


def test_wsgi_errors_is_the_error_log_by_lines(shared_app: Nginx) -> None:
    assert shared_app.client.get("/validated/errors").json() == "said"
    (line,) = shared_app.logged("written to wsgi.errors")
    assert "[error]" in line and "unfinished" not in line
    shared_app.logged(": unfinished$")


def test_the_validator_found_nothing(shared_app: Nginx) -> None:
    assert shared_app.error_log.find("AssertionError|without being closed") == []


# clients that leave, time, threads


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_a_client_that_leaves_closes_the_iterable(app: StartApp, reset: bool) -> None:
    server = app(APP)
    client = server.raw()
    client.get("/endless")
    client.socket.recv(1)
    client.reset() if reset else client.socket.close()
    until("the end", lambda: events(server) == ["endless ended"])
    assert server.error_log.find("Traceback") == []


def test_an_upload_whose_client_leaves_is_an_oserror_and_no_traceback(app: StartApp) -> None:
    server = app(APP)
    client = server.raw()
    client.send(b"POST /upload HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\n")
    client.send(b"x" * 200_000)
    until("the start", lambda: "upload begun" in events(server))
    client.socket.close()
    until("the error", lambda: "upload cut" in events(server)[-1])
    assert server.client.get("/one").text == "hello"
    assert server.error_log.find("Traceback") == []


def test_a_client_that_does_not_read_holds_the_application(app: StartApp) -> None:
    server = app(APP)
    server.client.get("/one")
    before = server.resident()
    with server.raw() as client:
        client.get("/endless")
        client.socket.recv(1)
        for _ in range(20):
            assert server.client.get("/sleep?0.02").status_code == 200
        assert server.resident() - before < 40_000_000 * SLOWER


def test_a_request_past_its_time_is_a_504_and_its_thread_ends(app: StartApp) -> None:
    server = app(APP, location="databridge_timeout 300ms;", http="databridge_sync_threads 1;")
    assert server.client.get("/sleep?0.6").status_code == 504
    until("the thread", lambda: server.client.get("/one").text == "hello")
    assert server.error_log.find("Traceback") == []


def test_a_request_whose_time_is_over_before_it_has_a_thread_is_not_run(app: StartApp) -> None:
    server = app(APP, location="databridge_timeout 1s;", http="databridge_sync_threads 1;")
    first = server.raw()
    first.get("/sleep?3")
    with server.raw() as second:
        second.get("/upload")
        assert second.response().status == 504
    assert first.response().status == 504
    first.socket.close()
    until("a free thread", lambda: server.client.get("/one").text == "hello")
    assert events(server) == []


def test_requests_leave_no_cycles_behind(app: StartApp) -> None:
    server = app(APP)

    def ask() -> int:
        for path in ("one", "declared", "several", "written", "raises", "closes", "digest"):
            assert server.client.post(f"/{path}", content=b"abc").status_code in (200, 500)
        return int(server.client.get("/collect").json())

    ask()
    assert ask() == 0


def test_a_unix_socket_has_the_name_the_client_used(make_nginx: Callable[..., Nginx]) -> None:
    server = make_nginx()
    server.write({"app.py": APP})
    path = server.prefix / "web.sock"
    server.configure("databridge_app app:app;", server=f"listen unix:{path};")
    server.start("/one")
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://shop.test:81") as client:
        environ = client.get("/environ").json()
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("shop.test", "81")
    assert environ["REMOTE_ADDR"] == "" and "REMOTE_PORT" not in environ


def test_requests_run_in_as_many_threads_as_configured(app: StartApp) -> None:
    server = app(APP, http="databridge_sync_threads 3;")
    names: list[str] = []

    def ask() -> None:
        answer = httpx.get(f"{server.base_url}/sleep?0.2", timeout=15 * SLOWER)
        names.append(answer.json())

    threads = [threading.Thread(target=ask) for _ in range(9)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 9 and len(set(names)) == 3
    assert time.monotonic() - start >= 0.6


def test_quit_lets_running_requests_finish(app: StartApp) -> None:
    server = app(APP)
    slow = server.app / "slow"
    with server.raw() as client:
        client.get("/slow")
        until("the start", slow.exists)
        server.kill(signal.SIGQUIT)
        assert client.response().body == b"slow"
    assert slow.read_text() == "begun\ndone\n"
    assert server.wait() == 0


def test_a_thread_that_does_not_end_does_not_hold_the_exit(app: StartApp) -> None:
    server = app(APP, http="databridge_shutdown_timeout 300ms;")
    with server.raw() as client:
        client.get("/sleep?60")
        until("the request", lambda: server.client.get("/one").text == "hello")
        server.kill(signal.SIGQUIT)
        assert server.wait(5 * SLOWER) == 0


# detection

ANY = """
import functools


def plain(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"wsgi"]


async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"asgi"})


def deferred(scope, receive, send):
    return asgi(scope, receive, send)


class Instance:
    def __call__(self, environ, start_response):
        return plain(environ, start_response)


class Iterable:
    def __init__(self, environ, start_response):
        self.blocks = plain(environ, start_response)

    def __iter__(self):
        return iter(self.blocks)


class Asynchronous:
    async def __call__(self, scope, receive, send):
        await asgi(scope, receive, send)


def optional(environ, start_response, debug=False):
    return plain(environ, start_response)


async def anything(*args):
    await asgi(*args)


@functools.wraps(plain)
def wrapped(*args, **kwargs):
    return plain(*args, **kwargs)


def configured(name, environ, start_response):
    return plain(environ, start_response)


partial = functools.partial(configured, "name")
instance, asynchronous, method = Instance(), Asynchronous(), Instance().__call__


def make():
    return plain


def middleware(*args, **kwargs):
    return plain(*args, **kwargs)


def double(scope):
    return lambda receive, send: asgi(scope, receive, send)
"""

FOUND = {
    "plain": "wsgi",
    "asgi": "asgi",
    "deferred": "asgi",
    "instance": "wsgi",
    "Iterable": "wsgi",
    "asynchronous": "asgi",
    "optional": "wsgi",
    "anything": "asgi",
    "wrapped": "wsgi",
    "partial": "wsgi",
    "method": "wsgi",
    "make factory=on": "wsgi",
    "middleware interface=wsgi": "wsgi",
}


def test_the_interface_is_found(nginx: StartNginx) -> None:
    locations = "".join(
        f"location = /{index} {{ databridge_app app:{words}; }}\n"
        for index, words in enumerate(FOUND)
    )
    server = nginx(files={"app.py": ANY}, server=locations, ready="/0", check="30s")
    found = [server.client.get(f"/{index}").text for index in range(len(FOUND))]
    assert found == list(FOUND.values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("middleware", "app:middleware can be called as ASGI and as WSGI: say interface=asgi or"),
        ("make", "app:make looks like a factory of an application: say factory=on"),
        ("double", "app:double looks like ASGI 2"),
        ("asgi interface=wsgi", "app:asgi is asynchronous"),
    ],
)
def test_a_configuration_with_an_unclear_interface_is_refused(
    make_nginx: Callable[..., Nginx], words: str, message: str
) -> None:
    server = make_nginx()
    server.write({"app.py": ANY})
    server.configure(f"databridge_app app:{words};", check="30s")
    server.expect_alert(r"\[emerg\].*does not load")
    result = server.test()
    assert result.returncode == 1 and message in result.stderr


def test_the_command_line_serves_wsgi(run: StartServer) -> None:
    server = run({"app.py": ANY + "\napp = middleware\n"}, "--interface", "wsgi")
    assert server.client.get("/").text == "wsgi"


def test_the_authenticated_user_is_the_remote_user(make_nginx: Callable[..., Nginx]) -> None:
    server = make_nginx()
    server.write({"app.py": APP, "users": "ada:{PLAIN}secret\n"})
    guard = f"auth_basic here; auth_basic_user_file {server.app}/users;"
    server.configure(f"databridge_app app:app; {guard}")
    server.start()
    answer = server.client.get("/environ", auth=("ada", "secret"))
    assert answer.json()["REMOTE_USER"] == "ada"
    assert server.client.get("/environ", auth=("ada", "guess")).status_code == 401


def test_a_websocket_is_refused(shared_app: Nginx) -> None:
    with shared_app.raw() as client:
        client.send(handshake("/environ"))
        assert client.response().status == 403


def test_the_log_can_tell_wsgi(app: StartApp) -> None:
    server = app(
        APP,
        http="log_format kind '$databridge_kind';",
        location="access_log kind.log kind;",
    )
    server.client.get("/one")
    log = server.prefix / "kind.log"
    until("a line", lambda: log.exists() and log.read_text())
    assert set(log.read_text().split()) == {"wsgi"}


# lifespan


def test_wsgi_has_no_lifespan(app: StartApp) -> None:
    server = app(APP)
    assert server.client.get("/one").text == "hello"
    assert server.error_log.find("lifespan") == []


SYSTEM_EXIT = """
async def app(scope, receive, send):
    raise SystemExit("no database today")
"""

FAILED = """
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database today"})
"""


@pytest.mark.parametrize("code", [SYSTEM_EXIT, FAILED], ids=["exit", "failed"])
def test_a_failed_start_up_ends_databridge_run(
    make_server: Callable[[], Server], code: str
) -> None:
    server = make_server()
    server.write({"app.py": code})
    server.log.expect(r"\[emerg\].*no database today")
    output = server.fail("run", "app:app", "--port", str(server.port))
    assert "error: the application did not start" in output and "no database today" in output
    assert output.count("start worker process ") == 1


@pytest.mark.parametrize("code", [SYSTEM_EXIT, FAILED], ids=["exit", "failed"])
def test_a_failed_start_up_is_no_storm_of_workers(
    make_nginx: Callable[..., Nginx], code: str
) -> None:
    server = make_nginx()
    server.write({"app.py": code})
    server.configure("databridge_app app:app;")
    server.expect_alert(r"\[emerg\].*no database today")
    server.start()
    for _ in range(3):
        assert server.client.get("/").status_code == 503
    assert len(server.error_log.find("start worker process ")) <= 1
