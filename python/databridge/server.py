"""`databridge run` and `app.run()`: what has to hold before nginx is started."""

import contextlib
import errno
import logging
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NoReturn

from databridge import config, installation, loading
from databridge.config import ConfigError, Settings
from databridge.installation import InstallationError
from databridge.loading import LoadError
from databridge.supervisor import Signals, Supervisor, say

logger = logging.getLogger("databridge")


def serve(
    app: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    store: str = "sqlite:./databridge.db",
    timeout: float | None = None,
    quiet: bool = False,
) -> None:
    """As `App.run()`, of any application."""
    if loading.hosted():
        logger.warning("run() and serve() do nothing here: the application is served already")
        return
    try:
        target, directory = loading.import_string(app)
    except LoadError as exc:
        fail(exc)
    settings = Settings(
        target,
        app_dirs=(directory,),
        host=host,
        port=port,
        workers=workers,
        store=store,
        timeout=timeout,
        quiet=quiet,
    )
    status = run(settings)
    if status != 0:
        raise SystemExit(status)


def run(
    settings: Settings, *, final: bool = False, supervisor: type[Supervisor] = Supervisor
) -> int:
    """Serves until told to stop; returns the status, with which a `final` run exits."""
    open_standard_streams()
    with contextlib.ExitStack() as stack:
        try:
            config.validate(settings)
            nginx = installation.nginx_binary()
            module = installation.module_file(nginx)
            port = stack.enter_context(reserved_port(settings.host, settings.port))
        except (ConfigError, InstallationError) as exc:
            fail(exc)
        if os.geteuid() == 0 and settings.user is None:
            say("warning: the workers run as root; --user names another user")

        settings = replace(settings, port=port)
        signals = stack.enter_context(Signals(final=final))
        directory, alive = stack.enter_context(private_directory(settings.user))
        return supervisor(settings, nginx, module, directory, alive, signals).run()


def open_standard_streams() -> None:
    """What was closed is /dev/null: else a pipe of ours would be nginx's stdout."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


@contextlib.contextmanager
def reserved_port(host: str, port: int) -> Iterator[int]:
    """The port to listen on, tried by binding it; 0 is any that is free.

    The sockets are kept, and do not listen: nginx, which reuses addresses, can have the
    port, and the kernel gives it to nobody who asks for any.
    """
    addresses = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
    )
    with contextlib.ExitStack() as stack:
        for family, kind, protocol, _, address in addresses:
            keeper = stack.enter_context(socket.socket(family, kind, protocol))
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                keeper.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                keeper.bind((address[0], port, *address[2:]))
            except OSError as exc:
                raise ConfigError(_bind_error(host, port, exc)) from None
            port = keeper.getsockname()[1]
        yield port


def _bind_error(host: str, port: int, exc: OSError) -> str:
    if exc.errno == errno.EADDRINUSE:
        return f"address already in use: {host}:{port}, choose another with --port"
    if exc.errno == errno.EACCES:
        return f"only root may listen on port {port}, choose one above 1023 with --port"
    if exc.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine, choose another with --host"
    return f"cannot listen on {host}:{port}: {exc.strerror}"


@contextlib.contextmanager
def private_directory(user: str | None) -> Iterator[tuple[str, int]]:
    """A directory for nginx, and a descriptor that every process using it holds.

    A shell waits for the last of these processes and then removes the directory:
    it does so even when this process is killed.
    """
    directory = tempfile.mkdtemp(prefix="databridge-")
    try:
        if user is not None:
            entry = pwd.getpwnam(user)
            os.chown(directory, entry.pw_uid, entry.pw_gid)
        used, alive = os.pipe()
        with (
            subprocess.Popen(
                ["/bin/sh", "-c", 'read -r line; rm -rf -- "$1"', "databridge", directory],
                stdin=used,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            ) as janitor,
            contextlib.closing(os.fdopen(alive, "wb")),
        ):
            os.close(used)
            try:
                yield directory, alive
            finally:
                janitor.kill()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def fail(reason: object) -> NoReturn:
    say(f"error: {reason}")
    raise SystemExit(1)
