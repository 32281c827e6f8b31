"""A MongoDB in memory, and servers that are none."""

import os
import signal
import socket
import subprocess
import threading
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


class OddServer:
    """Accepts connections and answers each with these bytes, or never."""

    def __init__(self, answer: bytes = b"") -> None:
        self.answer = answer
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

            if self.answer:
                try:
                    connection.sendall(self.answer)
                except OSError:
                    continue

    def stop(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()

        for connection in self.connections:
            connection.close()
