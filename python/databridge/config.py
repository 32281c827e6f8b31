"""The nginx.conf that `databridge run` starts and `databridge config` prints."""

import grp
import os
import pwd
import re
import resource
import socket
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from databridge.interface import Interface

MAX_CONNECTIONS = 8192

ACCESS_FORMAT = (
    '$remote_addr [$time_iso8601] "$request" $status $body_bytes_sent $request_time'
    " $databridge_kind $databridge_route queue=$databridge_queue_time"
    " handler=$databridge_handler_time id=$databridge_request_id"
    " trace=$databridge_trace_id"
)

DEVELOPMENT_FORMAT = '$time_iso8601 "$request" $status $request_time s, $databridge_kind'

COMPRESSED_TYPES = """
    application/atom+xml application/geo+json application/javascript application/json
    application/ld+json application/manifest+json application/octet-stream application/pdf
    application/problem+json application/rss+xml application/vnd.api+json application/wasm
    application/x-ndjson application/xhtml+xml application/xml application/yaml font/otf
    font/ttf image/svg+xml image/x-icon text/calendar text/css text/csv text/javascript
    text/markdown text/plain text/xml
""".split()
"""What gains from gzip, besides text/html, of the types that Starlette does not exclude."""


class ConfigError(Exception):
    """An option that cannot be served; the text is for the user, in one line."""


@dataclass(frozen=True)
class Settings:
    """What the user chose."""

    target: str
    app_dirs: Sequence[str] = (".",)
    factory: bool = False
    interface: Interface = "auto"
    root_path: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    store: str = "sqlite:./databridge.db"
    timeout: float | None = None
    max_body_size: str = "100m"
    queue: int = 1024
    sync_threads: int = 40
    store_threads: int = 4
    nice: int = 10
    shutdown_timeout: int = 30
    check: bool = True
    development: bool = False
    quiet: bool = False
    gzip: bool = False
    user: str | None = None
    max_requests: int = 0
    max_rss: str = "0"

    @property
    def address(self) -> str:
        """Host and port as URLs and nginx write them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Site:
    """Where this nginx and this process keep things."""

    module: str
    directory: str
    environment: Iterable[str] = field(default_factory=lambda: os.environ)
    access_log: str | None = "/dev/stdout"


def render(settings: Settings, site: Site) -> str:
    """The configuration, as text."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit == resource.RLIM_INFINITY:
        limit = 2 * MAX_CONNECTIONS
    connections = min(MAX_CONNECTIONS, limit // 2)

    lines = [
        _line("load_module", site.module),
        _line("daemon", "off"),
        _line("master_process", "on"),
        _line("worker_processes", str(settings.workers)),
        _line("worker_rlimit_nofile", str(2 * connections)),
        *_user_lines(settings),
        _line("pid", f"{site.directory}/nginx.pid"),
        _line("lock_file", f"{site.directory}/nginx.lock"),
        _line("error_log", "stderr", _level(settings)),
        *(_line("env", name) for name in sorted(site.environment)),
        "",
        "events {",
        f"    worker_connections {connections};",
        "}",
        "",
        "http {",
        *_indented(_http_lines(settings, site)),
        "}",
        "",
    ]
    return "\n".join(lines)


def _http_lines(settings: Settings, site: Site) -> list[str]:
    if settings.quiet or site.access_log is None:
        access_log = [_line("access_log", "off")]
    else:
        access_log = [
            f"log_format databridge '{_access_format(settings)}';",
            _line("access_log", site.access_log, "databridge"),
        ]

    lines = [
        *access_log,
        *(
            _line(f"{name}_temp_path", f"{site.directory}/{name}")
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ),
        "",
        "default_type application/octet-stream;",
        "sendfile on;",
        "tcp_nodelay on;",
        "keepalive_timeout 75s;",
        "keepalive_requests 10000;",
        "request_pool_size 6k;",
        "large_client_header_buffers 4 64k;",
        "underscores_in_headers on;",
        "ignore_invalid_headers off;",
        "",
        _line("databridge_venv", sys.prefix),
        _line("databridge_python_path", *map(os.path.abspath, settings.app_dirs)),
        _line("databridge_store", "main", store_uri(settings.store)),
        _line("databridge_shutdown_timeout", f"{settings.shutdown_timeout}s"),
    ]
    if settings.gzip:
        lines += _gzip_lines()
    for name in ("queue", "sync_threads", "store_threads", "nice", "max_requests", "max_rss"):
        if (value := getattr(settings, name)) != getattr(Settings, name):
            lines.append(_line(f"databridge_{name}", str(value)))
    if not settings.check:
        lines.append("databridge_check off;")

    app = [settings.target, *(["factory=on"] if settings.factory else [])]
    if settings.interface != "auto":
        app.append(f"interface={settings.interface}")
    if settings.root_path:
        app.append(f"root_path={settings.root_path}")
    location = [_line("databridge_app", *app)]
    if settings.timeout is not None:
        location.append(_line("databridge_timeout", milliseconds(settings.timeout)))
    if settings.max_body_size != Settings.max_body_size:
        location.append(_line("databridge_max_body_size", settings.max_body_size))

    return [
        *lines,
        "",
        "server {",
        f"    listen {quote(settings.address)};",
        "",
        "    location / {",
        *_indented(_indented(location)),
        "    }",
        "}",
    ]


def _level(settings: Settings) -> str:
    """What nginx says of itself is of no use beside what an application is being changed to."""
    return "warn" if settings.quiet or settings.development else "info"


def _access_format(settings: Settings) -> str:
    return DEVELOPMENT_FORMAT if settings.development else ACCESS_FORMAT


def _gzip_lines() -> list[str]:
    """The headers of Starlette's GZipMiddleware; what is encoded already stays as it is."""
    return [
        "",
        "gzip on;",
        "gzip_min_length 500;",
        "gzip_http_version 1.0;",
        "gzip_proxied any;",
        "gzip_vary on;",
        _line("gzip_types", *COMPRESSED_TYPES),
    ]


def _user_lines(settings: Settings) -> list[str]:
    """Only root's nginx can change its user; without the line it would be nobody."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(settings.user) if settings.user else pwd.getpwuid(os.getuid())
    return [_line("user", user.pw_name, grp.getgrgid(user.pw_gid).gr_name)]


def validate(settings: Settings) -> None:
    """Refuses what nginx would refuse with a harder message."""
    if not 0 <= settings.port <= 65535:
        raise ConfigError(f"--port must be between 0 and 65535, not {settings.port}")
    if settings.timeout is not None and not 0 <= settings.timeout < 2**31 / 1000:
        raise ConfigError(f"--timeout must be 0 (none) or more seconds, not {settings.timeout}")
    if settings.user is not None:
        if os.geteuid() != 0:
            raise ConfigError("only root can serve as another user: leave out --user")
        try:
            pwd.getpwnam(settings.user)
        except KeyError:
            raise ConfigError(f"--user: there is no user {settings.user!r}") from None
    for name, least in (
        ("workers", 1),
        ("queue", 1),
        ("sync_threads", 1),
        ("store_threads", 1),
        ("nice", 0),
        ("shutdown_timeout", 0),
        ("max_requests", 0),
    ):
        if (value := getattr(settings, name)) < least:
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag} must be {least} or more, not {value}")
    if settings.nice > 19:
        raise ConfigError(f"--nice must be 19 or less, not {settings.nice}")
    if not re.fullmatch(r"[0-9]{1,12}[kKmM]?", settings.max_rss):
        raise ConfigError(f"--max-rss must be a size as 500m or 800000k, not {settings.max_rss!r}")
    if not re.fullmatch(r"[0-9]{1,12}[kKmMgG]?", settings.max_body_size):
        raise ConfigError(f"--max-body-size must be a size as 20m, not {settings.max_body_size!r}")
    if settings.root_path and not re.fullmatch(r"(/[^/\0]+)+", settings.root_path):
        raise ConfigError(
            f"--root-path must begin with a slash and end without one: {settings.root_path!r}"
        )
    for path in settings.app_dirs:
        if not os.path.isdir(path):
            raise ConfigError(f"--app-dir: there is no directory {path}")
        if ":" in path:
            raise ConfigError(f"--app-dir: Python imports from no path with a colon, as {path} is")
    try:
        socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    except OSError as exc:
        reason = exc.strerror or exc
        raise ConfigError(f"--host: unknown host {settings.host!r}: {reason}") from None
    store_uri(settings.store)


def store_uri(uri: str) -> str:
    """The store's URI with a relative SQLite path made absolute."""
    scheme, colon, rest = uri.partition(":")
    if scheme != "sqlite" or not colon:
        if scheme in ("mongodb", "mongodb+srv") and colon:
            return uri
        raise ConfigError(f"--store must be sqlite:PATH or mongodb://HOST/DATABASE, not {uri!r}")
    if rest.startswith("///"):
        rest = rest[2:]
    if not rest or rest.startswith("//") or rest.endswith("/"):
        raise ConfigError(f"--store: {uri!r} names no file, as sqlite:./databridge.db does")
    return f"sqlite:{os.path.abspath(rest)}"


def milliseconds(seconds: float) -> str:
    """A duration for nginx; what is not 0, and so none, is at least a millisecond."""
    return f"{max(round(seconds * 1000), 1 if seconds else 0)}ms"


def quote(word: str) -> str:
    """A word of nginx's configuration, quoted when it has to be."""
    if "\0" in word:
        raise ConfigError(f"a NUL character in {word!r}")
    if word and all(c.isalnum() and c.isascii() or c in "_-./:=+,@%[]" for c in word):
        return word
    for plain, escaped in (
        ("\\", "\\\\"),
        ('"', '\\"'),
        ("\n", "\\n"),
        ("\r", "\\r"),
        ("\t", "\\t"),
    ):
        word = word.replace(plain, escaped)
    return f'"{word}"'


def _line(name: str, *words: str) -> str:
    return f"{name} {' '.join(map(quote, words))};"


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" if line else line for line in lines]
