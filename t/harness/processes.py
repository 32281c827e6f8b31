"""Processes as /proc shows them."""

import os
import re
import signal
import socket
import subprocess
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.wait import eventually, until

LISTEN = "0A"
THREADS, BEGAN = 17, 19  # of the fields of /proc/PID/stat behind the name

HELD = 100

_held: deque[int] = deque()  # sockets with the ports that were handed out last
_born: dict[int, str] = {}  # when those began that were seen as children


def alive(pid: int) -> bool:
    """Whether the process runs; a later one with its number is another.

    Neither does a zombie, unless threads of it are still about to end: they have its sockets.
    """
    stat = _stat(pid)
    if not stat or (stat[0] == "Z" and int(stat[THREADS]) < 2):
        return False
    return stat[BEGAN] == _born.get(pid, stat[BEGAN])


def children(pid: int) -> list[int]:
    """The direct children that run, in order of their pids."""
    found = []

    for entry in os.listdir("/proc"):
        if entry.isdigit():
            stat = _stat(int(entry))

            if stat and stat[0] != "Z" and int(stat[1]) == pid:
                found.append(int(entry))
                _born[int(entry)] = stat[BEGAN]

    return sorted(found)


def descendants(pid: int) -> list[int]:
    """All processes below this one."""
    found = []

    for child in children(pid):
        found += [child, *descendants(child)]

    return found


def survivors(pids: list[int], seconds: float = 2.0) -> list[int]:
    """Those that still run when all others, or the time, are gone."""

    def running() -> list[int]:
        return [pid for pid in pids if alive(pid)]

    eventually(lambda: not running(), seconds)
    return running()


def title(pid: int) -> str:
    """The command line, which nginx sets to what the process is."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""

    return text.replace(b"\0", b" ").decode(errors="replace").strip()


def resident(pid: int) -> int:
    """Resident memory in bytes."""
    return int(_status(pid, "VmRSS").split()[0]) * 1024


def faults(pid: int) -> int:
    """Pages that were mapped at their first use so far."""
    return int(_stat(pid)[7])


def cpu_seconds(pid: int) -> float:
    """User and system time so far."""
    stat = _stat(pid)
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def run_seconds(pid: int) -> float:
    """The same of the threads that live, exactly."""
    total = 0

    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
            total += int(file.read().split()[0])

    return total / 1e9


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def wakeups(pid: int) -> int:
    """Voluntary context switches of all threads so far."""
    total = 0

    for thread in os.listdir(f"/proc/{pid}/task"):
        total += int(_status(f"{pid}/task/{thread}", "voluntary_ctxt_switches"))

    return total


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process does nothing: what comes meanwhile it finds all at once."""

    def states() -> set[str]:
        return {_stat(f"{pid}/task/{thread}")[0] for thread in os.listdir(f"/proc/{pid}/task")}

    os.kill(pid, signal.SIGSTOP)
    try:
        until("the stop", lambda: states() == {"T"})
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def descriptors(pid: int) -> Counter[str]:
    """
    Open descriptors by what they are: tcp, unix, pipe, eventfd, deleted, file:/path.

    A listening socket is not counted: reload and reuseport change their number.
    """
    kinds: Counter[str] = Counter()
    tcp = _tcp_sockets(pid)
    folder = f"/proc/{pid}/fd"

    try:
        names = os.listdir(folder)
    except OSError:
        return kinds

    for name in names:
        try:
            target = os.readlink(f"{folder}/{name}")
        except OSError:
            continue

        if target.startswith("socket:"):
            state = tcp.get(target[8:-1])

            if state != LISTEN:
                kinds["unix" if state is None else "tcp"] += 1

        elif target.startswith("pipe:"):
            kinds["pipe"] += 1
        elif target.startswith("anon_inode:"):
            kinds[target[11:].strip("[]")] += 1
        elif target.endswith(" (deleted)"):
            kinds["deleted"] += 1
        else:
            kinds[f"file:{target}"] += 1

    return kinds


def listeners(pid: int) -> int:
    """Listening sockets that the process has open."""
    states = _tcp_sockets(pid)
    folder = Path(f"/proc/{pid}/fd")
    targets = [os.readlink(folder / name) for name in os.listdir(folder)]
    return sum(states.get(target[8:-1]) == LISTEN for target in targets)


def listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False

    return True


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Ends it and what it has left in its group.

    A process that has been reaped and is there nevertheless is another one with its number,
    which nobody gets while a group has it.
    """
    if process.returncode is None or not os.path.exists(f"/proc/{process.pid}"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    """A port that the kernel gives to nobody else who asks for any, here or beside.

    A socket that is bound keeps it.  It does not listen, so that a server that reuses its
    address, as they all do, can have it, again and again, and is refused to clients meanwhile.
    """
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    port = int(keeper.getsockname()[1])
    _held.append(keeper.detach())

    if len(_held) > HELD:
        os.close(_held.popleft())

    return port


def _stat(pid: int | str) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []

    return text.rpartition(")")[2].split()


def _status(pid: int | str, field: str) -> str:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{field}:\s*(.*)$", text, re.MULTILINE)
    assert found, f"/proc/{pid}/status has no {field}"
    return found[1]


def _tcp_sockets(pid: int) -> dict[str, str]:
    """State by inode, without TIME_WAIT, which belongs to nobody."""
    states = {}

    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue

        for line in lines:
            fields = line.split()
            states[fields[9]] = fields[3]

    return states
