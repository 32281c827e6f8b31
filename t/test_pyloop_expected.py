"""What programs have come to expect of asyncio's transports, of its loop and of PyLoop."""

import asyncio
import errno
import functools
import gc
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from databridge.loop import new_event_loop, run
from harness.protocols import HalfOpen, Recorder, joined

BOTH = pytest.mark.parametrize("factory", [new_event_loop, asyncio.SelectorEventLoop])


@BOTH
def test_what_was_sent_is_heard_in_the_next_turn(factory: Any) -> None:
    readable, writable = os.pipe()
    os.write(writable, b"x")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        heard = Recorder()
        left, right = socket.socketpair()
        writer, _ = await loop.create_connection(asyncio.Protocol, sock=left)
        await loop.create_connection(lambda: heard, sock=right)
        seen = ["made"]
        acts: list[tuple[Callable[[], Any], str]] = [
            (lambda: writer.write(b"one"), "data"),
            (lambda: writer.writelines([b"t", b"w", b"o"]), "data"),
            (lambda: loop.add_reader(readable, heard.note, "reader"), "reader"),
            (writer.write_eof, "eof"),
        ]
        # who sleeps for a turn keeps the loop from waiting for anything
        for act, event in acts:
            act()
            for _ in range(2):
                await asyncio.sleep(0)
            seen.append(event)
            assert heard.calls[: len(seen)] == seen
            loop.remove_reader(readable)
        writer.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    os.close(readable)
    os.close(writable)


@BOTH
def test_start_tls_hears_that_the_peer_has_gone(certificate: str, factory: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{certificate}/cert.pem", f"{certificate}/key.pem")

    async def main() -> None:
        made, theirs = await joined(HalfOpen)
        theirs.shutdown(socket.SHUT_WR)
        await made.until(lambda: "eof" in made.calls)
        loop = asyncio.get_running_loop()
        # else it waits for the handshake until that takes too long
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(
                loop.start_tls(made.transport, made, context, server_side=True), 20
            )
        theirs.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@BOTH
def test_a_protocol_put_in_place_by_eof_received_hears_of_the_end(factory: Any) -> None:
    class Handing(HalfOpen):
        def eof_received(self) -> bool:
            self.transport.set_protocol(next_one)
            return super().eof_received()

    next_one = Recorder()

    async def main() -> None:
        made, theirs = await joined(Handing)
        theirs.shutdown(socket.SHUT_WR)
        await made.until(lambda: "eof" in made.calls)
        made.transport.pause_reading()
        made.transport.resume_reading()
        await next_one.until(lambda: "lost" in next_one.calls)
        assert (made.calls, next_one.calls) == (["made", "eof"], ["eof", "lost"])
        theirs.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def test_eof_received_is_called_once_as_its_documentation_says() -> None:
    async def main() -> None:
        made, theirs = await joined(HalfOpen)
        theirs.shutdown(socket.SHUT_WR)
        await made.until(lambda: "eof" in made.calls)
        made.transport.pause_reading()
        made.transport.resume_reading()
        for _ in range(3):
            await asyncio.sleep(0)
        made.transport.close()
        await made.until(lambda: "lost" in made.calls)
        assert made.calls == ["made", "eof", "lost"]
        theirs.close()

    run(main())


@BOTH
def test_a_read_pipe_is_lost_before_what_its_end_makes_ready(factory: Any) -> None:
    class Ending(Recorder):
        def eof_received(self) -> None:
            asyncio.get_running_loop().call_soon(self.note, "ready")

    async def main() -> None:
        readable, writable = os.pipe()
        loop = asyncio.get_running_loop()
        _, made = await loop.connect_read_pipe(Ending, open(readable, "rb", 0))
        os.close(writable)
        await made.until(lambda: {"lost", "ready"} < {*made.calls})
        assert made.calls == ["made", "lost", "ready"]

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@BOTH
def test_abort_keeps_what_one_write_after_the_other_has_sent(factory: Any) -> None:
    async def main() -> None:
        made, theirs = await joined()
        for _ in range(3):
            made.transport.write(b"sent")
        made.transport.abort()
        await made.until(lambda: "lost" in made.calls)
        assert theirs.recv(100) == b"sentsentsent"
        theirs.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@BOTH
def test_a_read_pipe_outlives_what_data_received_raises(factory: Any) -> None:
    class Raising(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            raise ValueError(data)

    async def main() -> None:
        readable, writable = os.pipe()
        loop = asyncio.get_running_loop()
        failed: list[Any] = []
        loop.set_exception_handler(lambda loop, context: failed.append(context["exception"]))
        _, made = await loop.connect_read_pipe(Raising, open(readable, "rb", 0))
        for data in [b"one", b"two"]:
            os.write(writable, data)
            await made.until(functools.partial(made.received.endswith, data))
        os.close(writable)
        await made.until(lambda: "lost" in made.calls)
        assert [error.args for error in failed] == [(b"one",), (b"two",)]
        assert made.lost is None

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@BOTH
@pytest.mark.parametrize("writes", [1, 2])
def test_what_was_written_goes_out_before_an_abort(factory: Any, writes: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        right.setblocking(False)
        writer, _ = await loop.create_connection(asyncio.Protocol, sock=left)
        for _ in range(2):
            for number in range(writes):
                writer.write(b"%d" % number)
            await loop.sock_recv(right, 100)
        for _ in range(writes):
            writer.write(b"last")
        writer.abort()
        assert await loop.sock_recv(right, 100) == b"last" * writes
        assert await loop.sock_recv(right, 100) == b""
        right.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@BOTH
def test_a_socket_that_is_asked_for_has_had_what_was_written(factory: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        right.setblocking(False)
        writer, _ = await loop.create_connection(asyncio.Protocol, sock=left)
        writer.write(b"one")
        writer.write(b"two")
        assert await loop.sock_recv(right, 100) in (b"one", b"onetwo")
        await asyncio.sleep(0)
        writer.write(b"last")
        writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        received = b""
        while data := await loop.sock_recv(right, 100):
            received += data
        assert received.endswith(b"last")
        writer.abort()
        right.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@BOTH
def test_a_call_that_was_cancelled_leaves_nothing_to_remove(factory: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        left.setblocking(False)
        sending = asyncio.create_task(loop.sock_sendall(left, bytes(5_000_000)))
        await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait([sending])
        number = left.fileno()
        loop.add_reader(number, print)
        left.close()
        assert loop.remove_reader(number) is True
        right.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@BOTH
def test_a_loop_whose_clock_is_replaced_goes_by_it(factory: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        called: list[str] = []
        with mock.patch.object(loop, "time", return_value=now) as clock:
            loop.call_later(1000, called.append, "later")
            await asyncio.sleep(0)
            assert called == []
            clock.return_value = now + 1000
            for _ in range(2):
                await asyncio.sleep(0)
            assert called == ["later"]
        assert now <= loop.time() < now + 1000
        with mock.patch.object(loop, "call_at") as call_at:
            assert loop.call_later(1000, print, "text") is call_at.return_value
        assert call_at.call_args.args[1:] == (print, "text")
        loop.call_later(1000, print).cancel()
        assert call_at.call_count == 1

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def test_a_turn_that_is_not_pyloops_is_refused_with_the_reason() -> None:
    loop = new_event_loop()
    with pytest.raises(RuntimeError, match="nest_asyncio"):
        asyncio.BaseEventLoop._run_once(loop)  # type: ignore[attr-defined]
    loop.close()


@BOTH
def test_a_class_in_the_place_of_asyncio_s_is_used(
    factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Task(asyncio.Task[Any]):
        pass

    class Future(asyncio.Future[Any]):
        pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr("asyncio.tasks.Task", Task)
        monkeypatch.setattr("asyncio.futures.Future", Future)
        task = loop.create_task(asyncio.sleep(0))
        assert (type(task), type(loop.create_future())) == (Task, Future)
        await task
        monkeypatch.undo()
        assert type(loop.create_future()) is asyncio.Future

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@BOTH
def test_a_datagram_may_follow_close(factory: Any) -> None:
    made: Any = None

    class Failing(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.errors: list[int | None] = []
            self.lost = asyncio.Event()

        def error_received(self, error: Exception) -> None:
            assert isinstance(error, OSError)
            self.errors.append(error.errno)
            made.close()

        def connection_lost(self, error: Exception | None) -> None:
            self.lost.set()

    async def main() -> None:
        nonlocal made
        loop = asyncio.get_running_loop()
        own = ("127.0.0.1", 0)
        made, protocol = await loop.create_datagram_endpoint(Failing, local_addr=own)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
            theirs.bind(own)
            theirs.settimeout(10)
            for _ in range(2):
                made.sendto(bytes(70000), theirs.getsockname())
            assert protocol.errors == [errno.EMSGSIZE] * 2 and made.is_closing()
            made.sendto(b"last", theirs.getsockname())
            assert theirs.recv(100) == b"last"
        await asyncio.wait_for(protocol.lost.wait(), 10)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def test_a_child_that_is_gone_is_told_before_its_pid_may_be_another_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reaped: set[int] = set()
    waitpid = os.waitpid

    def noted(pid: int, options: int) -> tuple[int, int]:
        answer = waitpid(pid, options)
        reaped.add(answer[0])
        return answer

    async def main() -> None:
        child = await asyncio.create_subprocess_exec("/bin/true")
        while child.returncode is None:
            assert child.pid not in reaped
            await asyncio.sleep(0)
        assert child.pid in reaped and await child.wait() == 0

    monkeypatch.setattr("os.waitpid", noted)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())


def test_a_factory_that_raises_leaves_no_socket_open(recwarn: pytest.WarningsRecorder) -> None:
    def raising() -> asyncio.Protocol:
        raise ValueError("no protocol")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        with pytest.raises(ValueError, match="no protocol"):
            await loop.create_connection(raising, *server.sockets[0].getsockname())
        server.close()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
    gc.collect()
    assert not [str(warning.message) for warning in recwarn]


def test_a_stream_that_has_read_the_hello_may_become_tls(certificate: str) -> None:
    contexts = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    contexts[0].load_cert_chain(f"{certificate}/cert.pem", f"{certificate}/key.pem")
    contexts[1].check_hostname = False
    contexts[1].verify_mode = ssl.CERT_NONE

    async def serve(reader: Any, writer: Any) -> None:
        while not reader._buffer:
            await asyncio.sleep(0)
        await writer.start_tls(contexts[0])
        writer.write(await reader.readline())
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await asyncio.wait_for(writer.start_tls(contexts[1]), 10)
        writer.write(b"line\n")
        assert await reader.read() == b"line\n"
        writer.close()
        server.close()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
