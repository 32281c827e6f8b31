"""Flask and Django, the latter as WSGI and as ASGI, do what they do elsewhere."""

import hashlib
import io
from collections.abc import Iterator

import httpx
import pytest

from conftest import StartApp
from harness import Gunicorn, Nginx, until

FLASK = """
import hashlib
import io
import pathlib

from flask import Flask, Response, abort, g, make_response, redirect, request
from flask import send_file, session, stream_with_context, url_for

HERE = pathlib.Path(__file__).parent
(HERE / "report.csv").write_text("a,b\\n" * 100_000)

app = Flask(__name__)
app.secret_key = "secret"
events = []


@app.before_request
def before():
    g.start = "before"


@app.after_request
def after(response):
    response.headers["X-After"] = g.start
    return response


@app.teardown_request
def teardown(exception):
    events.append(f"teardown {request.path}")


@app.get("/")
def root():
    return {"hello": "flask"}


@app.get("/events")
def read_events():
    return events


@app.route("/item/<int:number>", methods=["GET", "PUT"])
def item(number):
    return {"number": number, "q": request.args.getlist("q"), "method": request.method}


@app.get("/url/<path:name>")
def url(name):
    own = url_for("url", name=name, _external=True)
    return {"name": name, "url": own, "root": request.root_path}


@app.post("/form")
def form():
    upload = request.files.get("upload")
    content = upload.read() if upload else b""
    return {
        "fields": request.form.to_dict(),
        "name": upload and upload.filename,
        "digest": hashlib.sha256(content).hexdigest(),
    }


@app.post("/stream")
def stream_in():
    digest, size = hashlib.sha256(), 0
    while block := request.stream.read(100_000):
        digest.update(block)
        size += len(block)
    return {"size": size, "digest": digest.hexdigest()}


@app.get("/stream")
def stream_out():
    def lines():
        for number in range(5):
            yield f"{request.path} {number}\\n"
    return Response(stream_with_context(lines()), mimetype="text/plain")


@app.get("/download")
def download():
    return send_file(HERE / "report.csv", as_attachment=True, conditional=True)


@app.get("/memory")
def memory():
    return send_file(io.BytesIO(b"memory" * 50_000), mimetype="text/plain")


@app.get("/count")
def count():
    session["count"] = session.get("count", 0) + 1
    response = make_response(str(session["count"]))
    response.set_cookie("seen", "yes", httponly=True)
    return response


@app.get("/away")
def away():
    return redirect(url_for("root"), 303)


@app.get("/missing")
def missing():
    abort(404, "nothing here")


@app.get("/crash")
def crash():
    raise RuntimeError("on purpose")


@app.get("/teapot")
def teapot():
    raise KeyError("tea")


@app.errorhandler(KeyError)
def on_key_error(error):
    return {"tea": str(error)}, 418


@app.get("/logged")
def logged():
    app.logger.warning("a warning of flask's")
    return "logged"
"""

SAME = [
    "/",
    "/item/42?q=a&q=%C3%A9",
    "/item/none",
    "/stream",
    "/download",
    "/memory",
    "/count",
    "/away",
    "/missing",
    "/crash",
    "/teapot",
    "/nowhere",
]

FREE = {"date", "server", "connection", "transfer-encoding", "last-modified", "set-cookie", "etag"}


@pytest.fixture(scope="module")
def flask() -> Iterator[Nginx]:
    server = Nginx()
    server.write({"app.py": FLASK})
    mounted = "location /mounted { databridge_app app:app root_path=/mounted; }"
    server.configure("databridge_app app:app;", server=mounted)
    server.start("/")
    yield server
    assert server.finish() == []


@pytest.fixture(scope="module")
def gunicorn() -> Iterator[Gunicorn]:
    server = Gunicorn()
    server.write({"app.py": FLASK})
    server.run("app:app")
    yield server
    assert server.finish() == []


def seen(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    headers = {n: v for n, v in answer.headers.items() if n not in FREE}
    headers["allow"] = ",".join(sorted(headers.get("allow", "").split(", ")))  # made from a set
    return answer.status_code, headers, answer.content


@pytest.mark.parametrize("path", SAME)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_flask_answers_as_under_gunicorn(
    flask: Nginx, gunicorn: Gunicorn, method: str, path: str
) -> None:
    ours, theirs = (httpx.request(method, server.base_url + path) for server in (flask, gunicorn))
    assert seen(ours) == seen(theirs)
    assert {"x-after", "etag"} & {*theirs.headers} == {"x-after", "etag"} & {*ours.headers}


@pytest.mark.parametrize("size", [100, 2_000_000])
def test_flask_takes_forms_and_uploads(flask: Nginx, size: int) -> None:
    content = bytes(range(250)) * (size // 250 + 1)
    answer = flask.client.post(
        "/form", data={"title": "Größe"}, files={"upload": ("x.bin", io.BytesIO(content))}
    )
    digest = hashlib.sha256(content).hexdigest()
    assert answer.json() == {"fields": {"title": "Größe"}, "name": "x.bin", "digest": digest}


def test_flask_reads_a_big_upload_as_a_stream(flask: Nginx) -> None:
    content = bytes(range(256)) * 80_000
    expected = {"size": len(content), "digest": hashlib.sha256(content).hexdigest()}
    assert flask.client.post("/stream", content=content).json() == expected
    chunked = (content[start : start + 1_000_000] for start in range(0, len(content), 1_000_000))
    assert flask.client.post("/stream", content=chunked).json() == expected


def test_flask_has_sessions_and_cookies(flask: Nginx) -> None:
    with httpx.Client(base_url=flask.base_url) as client:
        assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]
        assert client.cookies["seen"] == "yes"


def test_flask_serves_a_part_of_a_file(flask: Nginx) -> None:
    whole = flask.client.get("/download")
    assert whole.content == b"a,b\n" * 100_000
    answer = flask.client.get("/download", headers={"Range": "bytes=4-10"})
    assert (answer.status_code, answer.content) == (206, whole.content[4:11])
    again = flask.client.get("/download", headers={"If-None-Match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_flask_below_a_prefix_makes_the_right_urls(flask: Nginx) -> None:
    answer = flask.client.get("/mounted/url/a%20%C3%A9/b").json()
    assert (answer["name"], answer["root"]) == ("a é/b", "/mounted")
    assert answer["url"] == f"{flask.base_url}/mounted/url/a%20%C3%A9/b"


def test_flask_ends_its_requests(flask: Nginx) -> None:
    flask.client.get("/item/7")
    until("the teardown", lambda: "teardown /item/7" in flask.client.get("/events").json())


def test_flask_logs_to_the_error_log(flask: Nginx) -> None:
    flask.client.get("/logged")
    flask.logged("a warning of flask's")
    flask.client.get("/crash")
    flask.logged("RuntimeError: on purpose")


DJANGO = """
import asyncio
import hashlib
import pathlib
import tempfile

import django
from django import forms
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path, re_path
from django.views.static import serve

HERE = pathlib.Path(__file__).parent
STATIC = HERE / "static"
STATIC.mkdir(exist_ok=True)
(STATIC / "site.css").write_text("body { color: red }\\n" * 10_000)

settings.configure(
    SECRET_KEY="secret",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.sessions"],
    SESSION_ENGINE="django.contrib.sessions.backends.file",
    SESSION_FILE_PATH=tempfile.gettempdir(),
    FILE_UPLOAD_MAX_MEMORY_SIZE=500_000,
    MIDDLEWARE=[
        "django.middleware.common.CommonMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
    ],
)


class Upload(forms.Form):
    title = forms.CharField(max_length=20)
    upload = forms.FileField(required=False)


def root(request):
    return JsonResponse({"hello": "django", "path": request.path, "scheme": request.scheme})


def count(request):
    request.session["count"] = request.session.get("count", 0) + 1
    return HttpResponse(request.session["count"])


def form(request):
    filled = Upload(request.POST, request.FILES)
    if not filled.is_valid():
        return JsonResponse({"errors": filled.errors}, status=422)
    upload = filled.cleaned_data["upload"]
    digest = hashlib.sha256(upload.read() if upload else b"").hexdigest()
    return JsonResponse({"title": filled.cleaned_data["title"], "digest": digest})


def stream(request):
    return StreamingHttpResponse((f"{number}\\n" for number in range(5)), "text/plain")


async def later(request):
    await asyncio.sleep(0.01)
    return HttpResponse("later")


def file(request):
    return FileResponse(open(STATIC / "site.css", "rb"))


def crash(request):
    raise RuntimeError("on purpose")


urlpatterns = [
    path("", root),
    path("count", count),
    path("form", form),
    path("stream", stream),
    path("later", later),
    path("file", file),
    path("crash", crash),
    re_path(r"^static/(?P<path>.*)$", serve, {"document_root": STATIC}),
]

app = get_APPLICATION_application()
"""


@pytest.fixture(scope="module", params=["wsgi", "asgi"])
def django(request: pytest.FixtureRequest) -> Iterator[Nginx]:
    server = Nginx()
    server.write({"app.py": DJANGO.replace("APPLICATION", request.param)})
    server.configure("databridge_app app:app;")
    server.start("/")
    # asgiref runs synchronous views in threads of its own
    server.allow_descriptors(socket=2)
    yield server
    assert server.finish() == []


def test_django_answers(django: Nginx) -> None:
    expected = {"hello": "django", "path": "/", "scheme": "http"}
    assert django.client.get("/").json() == expected
    assert django.client.head("/").headers["content-length"] == str(
        len(django.client.get("/").content)
    )
    assert django.client.get("/nowhere").status_code == 404
    assert django.client.get("/later").text == "later"
    assert django.client.get("/stream").text == "0\n1\n2\n3\n4\n"


def test_django_has_sessions(django: Nginx) -> None:
    with httpx.Client(base_url=django.base_url) as client:
        assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]


@pytest.mark.parametrize("size", [100, 2_000_000])
def test_django_takes_forms_and_uploads(django: Nginx, size: int) -> None:
    content = bytes(range(250)) * (size // 250 + 1)
    answer = django.client.post(
        "/form", data={"title": "Größe"}, files={"upload": ("x.bin", io.BytesIO(content))}
    )
    digest = hashlib.sha256(content).hexdigest()
    assert answer.json() == {"title": "Größe", "digest": digest}
    refused = django.client.post("/form", data={"title": "x" * 21})
    assert refused.status_code == 422 and "20" in refused.json()["errors"]["title"][0]


@pytest.mark.parametrize("path", ["/static/site.css", "/file"])
def test_django_serves_files(django: Nginx, path: str) -> None:
    answer = django.client.get(path)
    assert answer.content == b"body { color: red }\n" * 10_000
    assert answer.headers["content-type"] == "text/css"


def test_django_answers_500_and_logs_why(django: Nginx) -> None:
    answer = django.client.get("/crash")
    assert answer.status_code == 500 and "on purpose" not in answer.text
    django.logged("RuntimeError: on purpose")


def test_django_refuses_lifespan_in_one_line(app: StartApp) -> None:
    server = app(DJANGO.replace("APPLICATION", "asgi"))
    (line,) = server.error_log.find("lifespan")
    assert "[info]" in line and "Django can only handle" in line
    assert not server.error_log.find("Traceback")


MOUNTED = """
import flask
from a2wsgi import WSGIMiddleware
from fastapi import FastAPI

app = FastAPI()
inner = flask.Flask(__name__)


@app.get("/")
async def root():
    return "outer"


@inner.get("/hello")
def hello():
    return f"inner {flask.request.root_path}"


@inner.post("/size")
def size():
    return str(len(flask.request.get_data()))


app.mount("/inner", WSGIMiddleware(inner))
"""


def test_a_wsgi_app_mounted_in_fastapi_is_asgi(app: StartApp) -> None:
    server = app(MOUNTED)
    assert server.client.get("/").json() == "outer"
    assert server.client.get("/inner/hello").text == "inner /inner"
    assert server.client.post("/inner/size", content=b"x" * 2_000_000).text == "2000000"
