"""A MongoDB in memory, servers that are none, and one between."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from harness import processes
from harness.settings import ROOT
from harness.wait import until

JARS = ROOT / "build/mongo"


class MongoServer:
    """mongo-java-server on a port of its own, which it keeps when restarted."""

    def __init__(self) -> None:
        self.port = processes.free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def uri(self, database: str, options: str = "") -> str:
        return f"mongodb://127.0.0.1:{self.port}/{database}{options}"

    def start(self) -> None:
        command = ("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
        self.process = subprocess.Popen(
            [*command, "-cp", f"{JARS}/*:{JARS}", "Main", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=Path("/"),
            env={"PATH": os.environ["PATH"]},
        )
        until("MongoDB", lambda: processes.listening(self.port), 20)

    def stop(self) -> None:
        """At once, as a machine that is gone; what it held is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Connections stay, answers do not come, until resume()."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)


class _Listener:
    """Accepts connections in a thread of its own, and closes them all at the end."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.connections: list[socket.socket] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return

            self.connections.append(connection)
            self._accepted(connection)

    def _accepted(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()

        for connection in self.connections:
            connection.close()


class OddServer(_Listener):
    """Accepts connections and answers each with these bytes, or never."""

    def __init__(self, answer: bytes = b"") -> None:
        self.answer = answer
        super().__init__()

    def _accepted(self, connection: socket.socket) -> None:
        if self.answer:
            with suppress(OSError):
                connection.sendall(self.answer)


class Between(_Listener):
    """Passes messages on to a server; what it answers goes through a function."""

    def __init__(self, port: int, answers: Callable[[bytes], bytes]) -> None:
        self.to = port
        self.answers = answers
        self.asked: list[bytes] = []
        super().__init__()

    def _accepted(self, connection: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self.to))
        self.connections.append(server)

        for ends in ((connection, server, False), (server, connection, True)):
            threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, back: bool) -> None:
        try:
            while size := self._read(source, 4):
                message = size + self._read(source, int.from_bytes(size, "little") - 4)

                if back:
                    message = self.answers(message)
                else:
                    self.asked.append(message)

                if not back and (own := self.own_answer(message)):
                    source.sendall(own)
                else:
                    target.sendall(message)

            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def own_answer(self, message: bytes) -> bytes:
        """What the server need not be asked."""
        return b""

    def _read(self, source: socket.socket, size: int) -> bytes:
        data = b""

        while len(data) < size and (more := source.recv(size - len(data))):
            data += more

        return data
