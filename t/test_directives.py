"""nginx -t takes what README's table says, and refuses nonsense with file and line."""

import re
import subprocess
from collections.abc import Callable

import pytest

from harness import Nginx
from harness.apps import NOTES, SILENT
from harness.nginx import config_error
from harness.settings import PYTHON, VENV, server_env

SCHEMA_ERROR = "article.schema.json"

GOOD = [
    ("http", "databridge_queue 1;"),
    ("http", "databridge_sync_threads 8; databridge_store_threads 2;"),
    ("http", "databridge_shutdown_timeout 5s;"),
    ("http", "databridge_nice 0;"),
    ("http", "databridge_max_requests 1000; databridge_max_rss 500m;"),
    ("http", "databridge_max_requests 0; databridge_max_rss 0;"),
    ("http", "databridge_max_requests 1000 jitter=0;"),
    ("http", "databridge_timeout 0; databridge_max_body_size 1g;"),
    ("http", "databridge_env A=b; databridge_env C=;"),
    ("http", "databridge_store main sqlite:x.db; databridge_store other sqlite:///tmp/y.db;"),
    ("server", "databridge_timeout 1m; location /a { databridge_app app:app; }"),
    ("server", "location /a { databridge_app app:app interface=asgi factory=on root_path=/a; }"),
    ("server", "location /a { databridge_app app:app interface=auto; }"),
    ("server", "location /a { databridge_app package.module:make factory=off; }"),
    ("http", "databridge_cors origins=*; server { databridge_cors off; }"),
    ("server", "databridge_cors 'origins=https://a.example null' methods=* headers=* max_age=1h;"),
    ("server", "location /a { databridge_cors origins=http://[::1]:80 'expose=X-A X-B'; }"),
    ("server", "databridge_cors origins=* credentials=on private_network=off methods=;"),
    ("server", "location /a { databridge_health; }"),
    ("server", """location /a { databridge_health '{"a": [1]}'; }"""),
    ("main", "thread_pool databridge_loop threads=1;"),
    ("http", "databridge_metrics_zone 32k; databridge_trace on;"),
    ("server", "location = /m { databridge_metrics; } location = /j { databridge_metrics json; }"),
    ("server", "location /a { databridge_app a:b; databridge_trace off; }"),
]

BAD = [
    ("http", "databridge_queue 0;", "must be between 1 and"),
    ("http", "databridge_queue many;", "invalid number"),
    ("http", "databridge_queue 1; databridge_queue 2;", "duplicate"),
    ("http", "databridge_sync_threads 0;", "must be between 1 and"),
    ("http", "databridge_store_threads 100000;", "must be between 1 and"),
    ("http", "databridge_nice 20;", "must be"),
    ("http", "databridge_shutdown_timeout soon;", "invalid value"),
    ("http", "databridge_max_requests some;", "must be a number"),
    ("http", "databridge_max_requests 5; databridge_max_requests 6;", "is duplicate"),
    ("http", "databridge_max_requests 5 jitter=x;", "jitter=NUMBER"),
    ("http", "databridge_max_requests 5 6;", "jitter=NUMBER"),
    ("http", "databridge_max_rss big;", "invalid value"),
    ("server", "databridge_max_requests 5;", "not allowed here"),
    ("http", "databridge_timeout -1;", "invalid value"),
    ("http", "databridge_max_body_size x;", "invalid value"),
    ("http", "databridge_check maybe;", "databridge_check"),
    ("http", "databridge_env NOVALUE;", "NOVALUE"),
    ("http", "databridge_env =x;", "=x"),
    ("http", "databridge_env;", "invalid number of arguments"),
    ("http", "databridge_python_path /srv/a /srv/b:c;", '"/srv/b:c"'),
    ("http", "databridge_store main;", "invalid number of arguments"),
    ("http", "databridge_store main redis://localhost;", "redis"),
    ("http", "databridge_store main sqlite:;", "sqlite"),
    ("http", "databridge_store main sqlite:/no/such/x.db;", "create this directory"),
    ("http", "databridge_store main sqlite:none/x.db;", "create this directory"),
    ("http", "databridge_store a sqlite:x; databridge_store a sqlite:y;", '"a"'),
    ("http", "databridge_app app:app;", "not allowed here"),
    ("http", "databridge_unknown on;", "unknown directive"),
    ("server", "databridge_queue 5;", "not allowed here"),
    ("server", "location /a { databridge_app app; }", "module:attribute"),
    ("server", "location /a { databridge_app :app; }", "module:attribute"),
    ("server", "location /a { databridge_app app:; }", "module:attribute"),
    ("server", "location /a { databridge_app; }", "invalid number of arguments"),
    ("server", "location /a { databridge_app a:b interface=rsgi; }", "interface=rsgi"),
    ("server", "location /a { databridge_app a:b factory=perhaps; }", "factory=perhaps"),
    ("server", "location /a { databridge_app a:b root_path=x/; }", "root_path=x/"),
    ("server", "location /a { databridge_app a:b nonsense; }", "nonsense"),
    ("server", "location /a { databridge_app a:b; databridge_app c:d; }", "is duplicate"),
    ("server", "location /a { databridge_crud article; }", "invalid number of arguments"),
    ("server", "location /a { databridge_crud article schema=/no/such/file; }", "/no/such/file"),
    ("server", "location /a { databridge_crud article sch=x store=y; }", "sch=x"),
    ("server", "location ~ /a { databridge_crud article schema=x; }", "prefix"),
    ("server", "location /a { databridge_health; databridge_app a:b; }", "cannot stand beside"),
    ("server", "location /a { databridge_app a:b; databridge_health; }", "cannot stand beside"),
    ("server", "location /a { databridge_health; databridge_health; }", "duplicate"),
    ("server", "location /a { databridge_health '{a:1}'; }", "invalid JSON"),
    ("server", """location /a { databridge_health '{"a": }'; }""", "Expecting value"),
    ("server", "databridge_health;", "not allowed here"),
    ("server", "databridge_cors;", "invalid number of arguments"),
    ("server", "databridge_cors methods=GET;", "origins='https://a.example"),
    ("server", "databridge_cors off origins=*;", '"off"'),
    ("server", "databridge_cors origins=*; databridge_cors off;", "duplicate"),
    ("server", "databridge_cors origins=https://a.example/;", "without a path"),
    ("server", "databridge_cors origins=https://*.example;", '"https://*.example"'),
    ("server", "databridge_cors origins=a.example;", '"a.example"'),
    ("server", "databridge_cors origins=* 'methods=GET,POST';", '"GET,POST"'),
    ("server", "databridge_cors origins=* 'headers=X-A: b';", '"X-A:"'),
    ("server", "databridge_cors origins=* credentials=yes;", "credentials=yes"),
    ("server", "databridge_cors origins=* max_age=long;", "max_age=long"),
    ("server", "databridge_cors origins=* colour=red;", "colour=red"),
]


def configured(make_nginx: Callable[..., Nginx], place: str, text: str) -> Nginx:
    server = make_nginx()
    server.write({"app.py": SILENT})
    server.configure(**{place: f"\n{text}"})  # type: ignore[arg-type]
    return server


@pytest.mark.parametrize(("place", "text"), GOOD)
def test_nginx_takes(make_nginx: Callable[..., Nginx], place: str, text: str) -> None:
    result = configured(make_nginx, place, text).test()
    assert result.returncode == 0, result.stderr
    assert "test is successful" in result.stderr


@pytest.mark.parametrize(("place", "text", "message"), BAD)
def test_nginx_refuses(
    make_nginx: Callable[..., Nginx], place: str, text: str, message: str
) -> None:
    server = configured(make_nginx, place, text)
    server.expect_alert(r"\[emerg\]")
    result = server.test()
    assert result.returncode == 1
    said, line = config_error(result.stderr)
    assert message in said
    assert text in server.config.read_text().splitlines()[line - 1]


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (None, 'is not a virtual environment (no pyvenv.cfg): make one with "python3.'),
        ("3.9.2", "is of Python 3.9, but this module embeds 3."),
    ],
)
def test_what_is_no_environment_of_the_module_s_python_is_refused(
    make_nginx: Callable[..., Nginx], version: str | None, message: str
) -> None:
    server = configured(make_nginx, "server", "location /a { databridge_app app:app; }")
    if version:
        (server.prefix / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}\n")
    place = f"databridge_venv {server.prefix};"
    text = server.config.read_text().replace(f"databridge_venv {VENV};", place)
    server.config.write_text(text)
    server.expect_alert(r"\[emerg\]")
    result = server.test()
    assert result.returncode == 1
    said, line = config_error(result.stderr)
    assert f"databridge_venv {server.prefix} {message}" in said
    assert place in text.splitlines()[line - 1]


def test_an_environment_and_its_path_may_be_relative_to_the_configuration(
    make_nginx: Callable[..., Nginx],
) -> None:
    server = make_nginx()
    server.write({"app.py": NOTES})
    (server.prefix / "venv").symlink_to(VENV)
    store = f"databridge_store main sqlite:{server.prefix}/notes.db;"
    server.configure("databridge_app app:app;", http=store, main="working_directory /;")
    text = server.config.read_text()
    for place, relative in ((f" {VENV};", " venv;"), (f" {server.app};", " app;")):
        assert place in text
        text = text.replace(place, relative)
    server.config.write_text(text)
    server.start("/notes")
    assert server.client.get("/notes").status_code == 200


def test_an_environment_without_databridge_is_refused(make_nginx: Callable[..., Nginx]) -> None:
    server = make_nginx()
    venv = server.prefix / "venv"
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", venv], check=True)
    server.configure("databridge_app app:app;", databridge=f"databridge_venv {venv};")
    server.expect_alert(r"\[emerg\]")
    result = server.test()
    assert result.returncode == 1
    assert (
        f'"{venv}/bin/python -m databridge" exited with 1, is databridge installed there?'
        ' see "databridge_venv"'
    ) in result.stderr


def test_a_store_that_is_not_declared_is_refused(make_nginx: Callable[..., Nginx]) -> None:
    server = make_nginx()
    schema = server.prefix / SCHEMA_ERROR
    schema.write_text("{}")
    text = f"location /a {{ databridge_crud article schema={schema} store=main; }}"
    server.configure(server=f"\n{text}")
    server.expect_alert(r"\[emerg\]")
    result = server.test()
    assert result.returncode == 1
    _, line = config_error(result.stderr)
    assert text in server.config.read_text().splitlines()[line - 1]


def test_a_store_lies_below_the_prefix_wherever_nginx_works(
    make_nginx: Callable[..., Nginx],
) -> None:
    server = make_nginx()
    server.write({"app.py": NOTES})
    server.configure(
        "databridge_app app:app;",
        http="databridge_store main sqlite:tmp/x.db?synchronous=normal;",
        main="working_directory /;",
    )
    server.start("/notes")
    assert server.client.post("/notes", json={"text": "a"}).status_code == 201
    assert (server.prefix / "tmp/x.db").exists()


def test_an_application_is_checked_even_if_children_are_ignored(
    make_nginx: Callable[..., Nginx],
) -> None:
    """As nginx's own parent may have left it; the check is of a first start."""
    server = make_nginx()
    server.write({"app.py": SILENT})
    server.configure("databridge_app app:app;", check="30s")
    command = ["/bin/sh", "-c", "trap '' CHLD; exec \"$@\"", "sh", *server._command(), "-t"]
    result = subprocess.run(command, env=server_env(), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_schema_that_is_none_is_refused(make_nginx: Callable[..., Nginx]) -> None:
    server = make_nginx()
    schema = server.prefix / SCHEMA_ERROR
    schema.write_text('{"broken": ')
    server.configure(
        http="databridge_store main sqlite:x.db;",
        server=f"location /a {{ databridge_crud article schema={schema} store=main; }}",
    )
    server.expect_alert(r"\[emerg\]")
    result = server.test()
    assert result.returncode == 1
    said, _ = config_error(result.stderr)
    assert str(schema) in said


NAMES = r"do not reach the application"


def test_a_server_that_drops_request_headers_is_warned_of_once(
    make_nginx: Callable[..., Nginx],
) -> None:
    server = make_nginx()
    server.write({"app.py": SILENT})
    port = server.port
    server.configure(
        "databridge_app app:app;",
        http=f"""
            server {{
                listen 127.0.0.1:{port};
                server_name a;
                underscores_in_headers off;
                location / {{ databridge_app app:app; }}
                location /a {{ databridge_app app:app; }}
            }}
            server {{
                listen 127.0.0.1:{port};
                server_name b;
                ignore_invalid_headers on;
                location / {{ databridge_app app:app; }}
            }}
            server {{
                listen 127.0.0.1:{port};
                server_name c;
                underscores_in_headers off;
                location / {{ return 200; }}
            }}
        """,
    )
    result = server.test()
    assert result.returncode == 0, result.stderr
    warned = [line for line in result.stderr.splitlines() if re.search(NAMES, line)]
    assert len(warned) == 2, result.stderr
    lines = server.config.read_text().splitlines()
    for line, server_name in zip(warned, "ab", strict=True):
        assert "[warn]" in line
        found = re.search(r"nginx.conf:(\d+)", line)
        assert found
        assert lines[int(found[1]) - 1].strip() == "server {"
        assert lines[int(found[1]) + 1].strip() == f"server_name {server_name};"


def test_a_configuration_without_databridge_starts_no_python(
    make_nginx: Callable[..., Nginx],
) -> None:
    server = make_nginx()
    server.configure("return 200 plain;", databridge="")
    server.start()
    assert server.client.get("/").text == "plain"
    assert (server.worker(), len(server.output().split("python"))) == (server.worker(), 1)
