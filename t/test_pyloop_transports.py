"""PyLoop's transports on real sockets and pipes: order, flow control, what users trip over."""

import asyncio
import contextvars
import gc
import logging
import os
import resource
import socket
import struct
import sys
import threading
import weakref
from asyncio import selector_events
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from databridge.loop import new_event_loop, run
from harness.protocols import HalfOpen, Recorder, joined


def loopbacks() -> list[str]:
    """Those of this machine: a container may be without IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return ["127.0.0.1"]
    return ["127.0.0.1", "::1"]


LOOPBACKS = loopbacks()


def in_thread(call: Callable[..., Any], *args: Any) -> Awaitable[Any]:
    return asyncio.to_thread(call, *args)


def read_all(sock: socket.socket, size: int | None = None) -> bytes:
    """All until the peer's end, or "size" bytes."""
    data = bytearray()
    while len(data) != size and (chunk := sock.recv(1 << 20)):
        data += chunk
    return bytes(data)


# What a transport is


def test_transports_are_asyncios() -> None:
    async def main() -> None:
        protocol, theirs = await joined()
        assert isinstance(protocol.transport, asyncio.Transport)
        udp: Any
        udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        assert isinstance(udp, asyncio.DatagramTransport)
        transports: list[Any] = [protocol.transport, udp]
        for transport in transports:
            reference: Any = weakref.ref(transport)
            assert reference() is transport
            transport.note = "users may set attributes"
            transport.close()
        theirs.close()

    run(main())


def test_flow_control_has_asyncios_defaults() -> None:
    async def main() -> None:
        protocol, theirs = await joined()
        transport = protocol.transport
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=10)
        assert transport.get_write_buffer_limits() == (10, 40)
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.close()
        theirs.close()

    run(main())


def test_extra_info_is_known_after_the_end() -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        sock = writer.get_extra_info("socket")
        assert sock.family == socket.AF_INET and sock.gettimeout() == 0
        own = sock.getsockname()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        assert writer.get_extra_info("peername") == address
        assert writer.get_extra_info("sockname") == own
        assert writer.get_extra_info("nothing", "default") == "default"
        assert sock.fileno() == -1
        server.close()

    run(main())


@pytest.mark.parametrize("host", LOOPBACKS)
def test_names_are_those_of_the_socket_module(host: str) -> None:
    async def main() -> None:
        seen: list[Any] = []

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            sock = writer.get_extra_info("socket")
            seen.append((sock.getsockname(), sock.getpeername()))
            seen.append((writer.get_extra_info("sockname"), writer.get_extra_info("peername")))
            writer.close()

        server = await asyncio.start_server(accepted, host, 0)
        reader, writer = await asyncio.open_connection(host, server.sockets[0].getsockname()[1])
        await reader.read()
        writer.close()
        server.close()
        assert seen[0] == seen[1]

    run(main())


def test_unix_names_are_paths_and_abstract_ones_bytes(tmp_path: Path) -> None:
    async def main() -> None:
        for path in (str(tmp_path / "s"), f"\0databridge-{os.getpid()}"):
            server = await asyncio.start_unix_server(lambda r, w: w.close(), path)
            reader, writer = await asyncio.open_unix_connection(path)
            wanted = path.encode() if path[0] == "\0" else path
            assert writer.get_extra_info("peername") == wanted
            await reader.read()
            writer.close()
            server.close()

    run(main())


# The order of calls


def test_connection_made_comes_before_the_waiter_and_data() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        theirs.send(b"early")
        order: list[str] = []

        class Ordered(Recorder):
            def note(self, call: str) -> None:
                order.append(call)
                super().note(call)

        _, protocol = await asyncio.get_running_loop().create_connection(Ordered, sock=ours)
        order.append("waiter")
        await protocol.until(lambda: protocol.received)
        assert order == ["made", "waiter", "data"]
        protocol.transport.close()
        theirs.close()

    run(main())


def test_connection_lost_is_called_once_and_never_inside_close_or_abort() -> None:
    async def main() -> None:
        for end in ("close", "abort"):
            protocol, theirs = await joined()
            getattr(protocol.transport, end)()
            protocol.transport.close()
            protocol.transport.abort()
            assert protocol.calls == ["made"]
            await protocol.until(lambda: protocol.calls[-1] == "lost")  # noqa: B023
            await asyncio.sleep(0)
            assert protocol.calls == ["made", "lost"]
            theirs.close()

    run(main())


def test_a_transport_may_be_closed_in_any_callback() -> None:
    async def main() -> None:
        class Closing(Recorder):
            when = ""

            def note(self, call: str) -> None:
                super().note(call)
                if call == self.when:
                    self.transport.close()

        for when in ("made", "data", "eof", "lost"):
            Closing.when = when
            protocol, theirs = await joined(Closing)
            with suppress(BrokenPipeError):  # closed by "made" already
                theirs.send(b"x")
                theirs.shutdown(socket.SHUT_WR)
            await protocol.until(lambda: "lost" in protocol.calls)  # noqa: B023
            assert protocol.calls.count("lost") == 1
            theirs.close()

    run(main())


def test_an_exception_in_data_received_ends_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        class Failing(Recorder):
            def data_received(self, data: bytes) -> None:
                raise KeyError("mine")

        protocol, theirs = await joined(Failing)
        theirs.send(b"x")
        await protocol.until(lambda: "lost" in protocol.calls)
        assert isinstance(protocol.lost, KeyError)
        theirs.close()

    with caplog.at_level(logging.ERROR):
        run(main())
    assert "protocol.data_received() call failed" in caplog.text


def test_a_reset_reaches_connection_lost() -> None:
    async def main() -> None:
        accepted: list[Recorder] = []

        def factory() -> Recorder:
            accepted.append(Recorder())
            return accepted[-1]

        loop = asyncio.get_running_loop()
        server = await loop.create_server(factory, "127.0.0.1", 0)
        client = socket.create_connection(server.sockets[0].getsockname())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.send(b"x")
        while not accepted or not accepted[0].received:
            await asyncio.sleep(0.001)
        client.close()
        await accepted[0].until(lambda: "lost" in accepted[0].calls)
        assert isinstance(accepted[0].lost, ConnectionResetError)
        server.close()

    run(main())


def test_callbacks_run_in_the_context_of_the_connection() -> None:
    name = contextvars.ContextVar[str]("name")

    async def main() -> None:
        class Reading(Recorder):
            def data_received(self, data: bytes) -> None:
                self.context = name.get("none")
                super().data_received(data)

        name.set("mine")
        protocol, theirs = await joined(Reading)
        name.set("another")
        theirs.send(b"x")
        await protocol.until(lambda: protocol.received)
        assert protocol.context == "mine"
        protocol.transport.close()
        theirs.close()

    run(main())


# Writing


def test_writes_of_a_turn_arrive_in_order_and_whole() -> None:
    async def main() -> None:
        protocol, theirs = await joined()
        transport = protocol.transport
        wanted = bytearray()
        for i in range(3000):
            data = bytes([i % 256]) * (i % 97)
            wanted += data
            transport.write([data, bytearray(data), memoryview(data)][i % 3])
        transport.writelines([b"a", bytearray(b"b"), memoryview(b"c"), b""])
        transport.close()
        assert await in_thread(read_all, theirs) == bytes(wanted) + b"abc"
        theirs.close()

    run(main())


def test_writelines_writes_nothing_when_one_item_is_no_data() -> None:
    async def main() -> None:
        protocol, theirs = await joined()
        transport = protocol.transport
        lines: list[Any] = [b"x" * 10_000_000, "no data"]
        with pytest.raises(TypeError, match="bytes-like object, not 'str'"):
            transport.writelines(lines)
        assert transport.get_write_buffer_size() == 0 and protocol.calls == ["made"]
        released = memoryview(b"released")
        released.release()
        with pytest.raises(ValueError, match="released"):
            transport.writelines([b"x" * 10_000_000, released])
        assert protocol.calls == ["made", "pause"]
        transport.abort()
        theirs.close()

    run(main())


def test_the_writing_half_ends_once_though_the_peer_resets() -> None:
    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
        listener.close()
        _, protocol = await asyncio.get_running_loop().create_connection(Recorder, sock=ours)
        protocol.transport.write(b"at once, ")
        protocol.transport.write(b"gathered")
        protocol.transport.write_eof()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        await protocol.until(lambda: "lost" in protocol.calls)
        assert isinstance(protocol.lost, ConnectionResetError)

    run(main())


def test_what_is_gathered_may_be_changed_by_its_owner() -> None:
    async def main() -> None:
        protocol, theirs = await joined()
        data = bytearray(b"first")
        protocol.transport.write(b"0")
        protocol.transport.write(data)
        data[:] = b"XXXXX and longer"
        protocol.transport.close()
        assert await in_thread(read_all, theirs) == b"0first"
        theirs.close()

    run(main())


def test_the_first_write_of_a_turn_goes_out_at_once() -> None:
    async def main() -> None:
        protocol, theirs = await joined()
        protocol.transport.write(b"now")
        theirs.setblocking(False)
        assert theirs.recv(10) == b"now"
        protocol.transport.write(b"later")
        with pytest.raises(BlockingIOError):
            theirs.recv(10)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert theirs.recv(10) == b"later"
        protocol.transport.close()
        theirs.close()

    run(main())


def test_who_writes_twice_a_turn_is_written_once_from_then_on() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        loop: Any = asyncio.get_running_loop()
        made = loop.create_future()
        transport = loop._make_socket_transport(ours, asyncio.Protocol(), made)
        await made

        async def sent(*writes: bytes) -> list[bytes]:
            for data in writes:
                transport.write(data)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            packets = []
            with suppress(BlockingIOError):
                while True:
                    packets.append(theirs.recv(100))
            return packets

        assert await sent(b"head", b"body") == [b"head", b"body"]
        assert await sent(b"head", b"body") == [b"headbody"]
        assert await sent(b"h", b"b", b"b") == [b"hbb"]
        assert await sent(b"alone") == [b"alone"]
        transport.write(b"now")
        assert theirs.recv(100) == b"now"
        transport.close()
        theirs.close()

    run(main())


def test_writes_between_two_runs_go_out_at_once() -> None:
    loop = new_event_loop()
    ours, theirs = socket.socketpair()
    transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
    transport.write(b"one")
    transport.write(b"two")
    assert theirs.recv(10) == b"onetwo"
    transport.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    theirs.close()


def test_writes_of_the_last_turn_of_a_run_go_out() -> None:
    loop = new_event_loop()
    ours, theirs = socket.socketpair()
    transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))

    def write() -> None:
        transport.write(b"one")
        transport.write(b"two")
        loop.stop()

    loop.call_soon(write)
    loop.run_forever()
    assert theirs.recv(10) == b"onetwo"
    transport.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    theirs.close()


def test_pause_and_resume_writing_come_in_pairs() -> None:
    async def main() -> None:
        protocol, theirs = await joined()
        transport = protocol.transport
        size = 0
        while "pause" not in protocol.calls:
            transport.write(b"x" * 50_000)
            size += 50_000
        assert transport.get_write_buffer_size() > 65536
        transport.write(b"x" * 50_000)
        size += 50_000
        assert protocol.calls.count("pause") == 1
        reading = asyncio.ensure_future(in_thread(read_all, theirs))
        await protocol.until(lambda: "resume" in protocol.calls)
        assert transport.get_write_buffer_size() <= 16384
        transport.close()
        assert len(await reading) == size
        await protocol.until(lambda: "lost" in protocol.calls)
        assert protocol.calls == ["made", "pause", "resume", "lost"]
        theirs.close()

    run(main())


def test_writing_to_a_closed_transport_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        protocol, theirs = await joined()
        protocol.transport.close()
        for _ in range(10):
            protocol.transport.write(b"x")
        await protocol.until(lambda: "lost" in protocol.calls)
        protocol.transport.write(b"x")
        protocol.transport.writelines([b"x"])
        assert read_all(theirs) == b""
        theirs.close()

    run(main())
    assert "socket.send() raised exception." in caplog.text


def test_what_is_no_data_is_refused() -> None:
    async def main() -> None:
        protocol, theirs = await joined()
        with pytest.raises(TypeError, match="bytes-like object, not 'str'"):
            protocol.transport.write("text")
        protocol.transport.write_eof()
        with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof"):
            protocol.transport.write(b"x")
        protocol.transport.close()
        theirs.close()

    run(main())


def test_a_half_closed_connection_goes_on_in_the_other_direction() -> None:
    async def main() -> None:
        protocol, theirs = await joined(HalfOpen)
        protocol.transport.write(b"question")
        protocol.transport.write(b"!")
        protocol.transport.write_eof()
        assert await in_thread(read_all, theirs) == b"question!"
        theirs.send(b"answer")
        theirs.shutdown(socket.SHUT_WR)
        await protocol.until(lambda: "eof" in protocol.calls)
        assert protocol.received == b"answer" and not protocol.transport.is_closing()
        protocol.transport.close()
        await protocol.until(lambda: "lost" in protocol.calls)
        theirs.close()

    run(main())


def test_abort_drops_what_waits() -> None:
    async def main() -> None:
        protocol, theirs = await joined()
        protocol.transport.write(b"x" * 10_000_000)
        protocol.transport.abort()
        assert protocol.transport.get_write_buffer_size() == 0
        await protocol.until(lambda: "lost" in protocol.calls)
        assert len(await in_thread(read_all, theirs)) < 10_000_000
        theirs.close()

    run(main())


# Reading


def test_nothing_is_received_while_reading_is_paused() -> None:
    async def main() -> None:
        protocol, theirs = await joined()
        transport = protocol.transport
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        theirs.send(b"x")
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert protocol.calls == ["made"]
        transport.resume_reading()
        transport.resume_reading()
        await protocol.until(lambda: protocol.received)
        transport.close()
        transport.pause_reading()
        transport.resume_reading()
        theirs.close()

    run(main())


def test_reading_may_be_paused_before_it_begins() -> None:
    async def main() -> None:
        class Paused(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.pause_reading()

        ours, theirs = socket.socketpair()
        theirs.send(b"x")
        _, protocol = await asyncio.get_running_loop().create_connection(Paused, sock=ours)
        await asyncio.sleep(0.005)
        assert protocol.calls == ["made"]
        protocol.transport.resume_reading()
        await protocol.until(lambda: protocol.received)
        protocol.transport.close()
        theirs.close()

    run(main())


class Buffered(asyncio.BufferedProtocol):
    def __init__(self, size: int = 1000) -> None:
        self.buffer = bytearray(size)
        self.received = bytearray()
        self.lost: asyncio.Future[Exception | None]
        self.lost = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint: int) -> bytearray:
        assert sizehint == -1
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self.buffer[:nbytes]

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


def test_a_buffered_protocol_gets_all() -> None:
    async def main() -> None:
        protocol, theirs = await joined(Buffered)
        data = os.urandom(300_000)
        await in_thread(theirs.sendall, data)
        theirs.close()
        assert await protocol.lost is None
        assert protocol.received == data

    run(main())


def test_an_empty_buffer_is_a_fatal_error(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        protocol, theirs = await joined(lambda: Buffered(0))
        theirs.send(b"x")
        assert isinstance(await protocol.lost, RuntimeError)
        theirs.close()

    run(main())
    assert "get_buffer() call failed" in caplog.text


def test_the_kind_of_protocol_may_change_at_any_time() -> None:
    async def main() -> None:
        protocol, theirs = await joined()
        transport = protocol.transport
        theirs.send(b"one")
        await protocol.until(lambda: protocol.received == b"one")
        buffered = Buffered()
        transport.set_protocol(buffered)
        assert transport.get_protocol() is buffered
        theirs.send(b"two")
        while buffered.received != b"two":
            await asyncio.sleep(0.001)
        transport.set_protocol(protocol)
        theirs.send(b"three")
        await protocol.until(lambda: protocol.received == b"onethree")
        transport.close()
        theirs.close()

    run(main())


class Echo:
    """A handler of streams that sends back what it gets."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 20):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
        self.ended.set()


@pytest.mark.parametrize("size", [1, 16_383, 16_384, 100_000, 262_144, 3_000_000])
def test_streams_echo_messages_of_any_size(size: int) -> None:
    async def main() -> None:
        echo = Echo()
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        data = os.urandom(size)
        for _ in range(5):
            writer.write(data)
            assert await reader.readexactly(size) == data
        writer.close()
        await echo.ended.wait()
        server.close()

    run(main())


def test_a_protocol_lives_while_its_method_runs() -> None:
    alive: list[bool] = []

    async def main() -> None:
        protocol, theirs = await joined()

        class Item:
            def __eq__(self, other: object) -> bool:
                protocol.transport.set_protocol(protocol)
                alive.append(reference() is not None)
                return False

        class Listed(list[Item]):
            data_received = list.remove  # which is C, and holds no list

        listed = Listed([Item()])
        reference = weakref.ref(listed)
        protocol.transport.set_protocol(listed)
        del listed
        theirs.send(b"x")
        await protocol.until(lambda: "lost" in protocol.calls)
        theirs.close()

    loop = new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    loop.run_until_complete(main())
    loop.close()
    assert alive == [True]


# Descriptors


def test_a_transports_descriptor_is_no_one_elses_to_watch() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        protocol, theirs = await joined()
        descriptor = protocol.transport.get_extra_info("socket").fileno()
        for watch in (loop.add_reader, loop.add_writer):
            with pytest.raises(RuntimeError, match="is used by transport"):
                watch(descriptor, print)
        protocol.transport.close()
        await protocol.until(lambda: "lost" in protocol.calls)
        theirs.close()
        left, right = socket.socketpair()
        loop.add_reader(left, print)
        loop.remove_reader(left)
        left.close()
        right.close()

    run(main())


def test_a_descriptor_that_is_used_again_gets_its_own_events() -> None:
    async def main() -> None:
        for i in range(200):
            protocol, theirs = await joined()
            theirs.send(b"%d" % i)
            await protocol.until(lambda: protocol.received)  # noqa: B023
            assert protocol.received == b"%d" % i
            protocol.transport.close()
            if i % 2:
                await protocol.until(lambda: "lost" in protocol.calls)  # noqa: B023
            theirs.close()

    run(main())


def test_an_unclosed_transport_warns_and_is_closed() -> None:
    loop = new_event_loop()
    ours, theirs = socket.socketpair()
    transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
    loop.close()
    with pytest.warns(ResourceWarning, match="unclosed transport <StreamTransport"):
        del transport, _
        gc.collect()
    assert ours.fileno() == -1
    theirs.close()


def test_closing_after_the_loop_raises_asyncios_error() -> None:
    loop = new_event_loop()
    ours, theirs = socket.socketpair()
    transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.close()
    with pytest.warns(ResourceWarning):
        del transport, _
        gc.collect()
    theirs.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def test_ten_thousand_connections_leave_nothing_behind() -> None:
    class Answering(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)
            self.transport.close()

    class Asking(asyncio.Protocol):
        def __init__(self) -> None:
            self.lost = asyncio.get_running_loop().create_future()

        def connection_made(self, transport: Any) -> None:
            transport.write(b"x")

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(exc)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Answering, "127.0.0.1", 0, backlog=200)
        address = server.sockets[0].getsockname()

        async def ask() -> None:
            _, protocol = await loop.create_connection(Asking, *address)
            await protocol.lost

        async def thousands(n: int) -> tuple[int, int]:
            for _ in range(n * 10):
                await asyncio.gather(*(ask() for _ in range(100)))
            gc.collect()
            return descriptors(), resident()

        before = await thousands(2)
        after = await thousands(8)
        assert after[0] == before[0]
        assert after[1] - before[1] < 2 << 20
        server.close()

    run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_numeric_host_is_resolved_without_a_thread(host: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        class Refusing(ThreadPoolExecutor):
            def submit(self, *args: Any, **named: Any) -> Any:
                raise AssertionError("a thread is asked for")

        loop.set_default_executor(Refusing())
        wanted = socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM)
        assert await loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM) == wanted
        with pytest.raises(AssertionError, match="a thread"):
            await loop.getaddrinfo("localhost", 80)

    run(main())


def test_a_refused_connection_says_where() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as closed, socket.socket() as sock:
            closed.bind(("127.0.0.1", 0))  # keeps the port, and does not listen
            address = closed.getsockname()
            with pytest.raises(ConnectionRefusedError, match="Connect call failed .'127.0.0.1'"):
                await loop.create_connection(Recorder, *address)
            sock.setblocking(False)
            with pytest.raises(ConnectionRefusedError, match="Connect call failed"):
                await loop.sock_connect(sock, address)

    run(main())


# Servers


def test_a_full_table_of_descriptors_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        accepted = asyncio.Event()

        def factory() -> Recorder:
            accepted.set()
            return Recorder()

        server = await loop.create_server(factory, "127.0.0.1", 0)
        client = socket.socket()
        client.setblocking(False)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, limits[1]))
        try:
            await loop.sock_connect(client, server.sockets[0].getsockname())
            while not caplog.records:
                await asyncio.sleep(0.001)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert not accepted.is_set()
        await asyncio.wait_for(accepted.wait(), 10)
        client.close()
        server.close()

    run(main())
    assert "socket.accept() out of system resource" in caplog.text


def test_a_protocol_factory_may_close_its_server(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def factory() -> Recorder:
            server.close()
            return Recorder()

        server = await loop.create_server(factory, "127.0.0.1", 0)
        clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(3)]
        for client in clients:
            client.settimeout(10)
            with suppress(ConnectionResetError):
                assert await in_thread(read_all, client) == b""
            client.close()

    run(main())
    assert len(caplog.records) == 1


def test_a_failing_protocol_factory_is_told_and_serving_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        fail = [True, False]

        def factory() -> asyncio.Protocol:
            if fail.pop(0):
                raise LookupError("no protocol today")
            return Recorder()

        server = await loop.create_server(factory, "127.0.0.1", 0)
        first = socket.create_connection(server.sockets[0].getsockname())
        first.settimeout(10)
        assert await in_thread(read_all, first) == b""
        first.close()
        second = socket.create_connection(server.sockets[0].getsockname())
        while fail:
            await asyncio.sleep(0.001)
        second.close()
        server.close()

    run(main())
    assert "Error on transport creation for incoming connection" in caplog.text


# Datagrams


def test_datagrams_reach_and_are_answered(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, addr: Any) -> None:
                self.transport.sendto(data, addr)

        class Client(asyncio.DatagramProtocol):
            def __init__(self) -> None:
                self.received: asyncio.Queue[Any] = asyncio.Queue()

            def datagram_received(self, data: bytes, addr: Any) -> None:
                self.received.put_nowait((data, addr))

        for host in LOOPBACKS:
            server, _ = await loop.create_datagram_endpoint(Echo, local_addr=(host, 0))
            address = server.get_extra_info("sockname")
            one, client = await loop.create_datagram_endpoint(Client, remote_addr=address[:2])
            for size in (1, 1000, 60_000):
                one.sendto(bytes(size))
                assert await client.received.get() == (bytes(size), address)
            with pytest.raises(ValueError, match="Invalid address"):
                one.sendto(b"x", ("127.0.0.1", 1))
            one.close()
            many, client = await loop.create_datagram_endpoint(Client, local_addr=(host, 0))
            many.sendto(b"to", address)
            assert await client.received.get() == (b"to", address)
            many.close()
            server.close()

        path = str(tmp_path / "d")
        server, _ = await loop.create_datagram_endpoint(
            Echo, local_addr=path, family=socket.AF_UNIX
        )
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(path + "2")
        sock.setblocking(False)
        many, client = await loop.create_datagram_endpoint(Client, sock=sock)
        many.sendto(b"unix", path)
        assert await client.received.get() == (b"unix", path)
        many.close()
        server.close()

    run(main())


def test_a_datagram_transport_leaves_no_address_behind() -> None:
    address = ("127.0.0.1", int("9"))
    before = sys.getrefcount(address)

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        lost = loop.create_future()

        class Lost(asyncio.DatagramProtocol):
            def connection_lost(self, exc: Exception | None) -> None:
                lost.set_result(exc)

        loop._make_datagram_transport(sock, Lost(), address).close()
        assert await lost is None

    run(main())
    gc.collect()
    assert sys.getrefcount(address) == before


def test_a_refused_datagram_is_told_to_error_received() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Exception] = loop.create_future()

        class Told(asyncio.DatagramProtocol):
            def error_received(self, exc: Exception) -> None:
                if not told.done():
                    told.set_result(exc)

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
            closed.bind(("127.0.0.1", 0))
            address = closed.getsockname()
            closed.connect(address)  # keeps the port, and is there for nobody else
            transport, _ = await loop.create_datagram_endpoint(Told, remote_addr=address)
            transport.sendto(b"x")
            assert isinstance(await asyncio.wait_for(told, 10), ConnectionRefusedError)
            transport.close()

    run(main())


def test_datagrams_wait_for_room_in_order() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        theirs.settimeout(10)
        calls: list[str] = []
        resumed = asyncio.Event()

        class Slow(asyncio.DatagramProtocol):
            def pause_writing(self) -> None:
                calls.append("pause")

            def resume_writing(self) -> None:
                calls.append("resume")
                resumed.set()

        transport: Any
        transport, _ = await loop.create_datagram_endpoint(Slow, sock=ours)
        sent = 0
        while not calls:
            transport.sendto(sent.to_bytes(4, "big") * 1000)
            sent += 1
        assert transport.get_write_buffer_size() > 65536

        def read() -> list[int]:
            return [int.from_bytes(theirs.recv(5000)[:4], "big") for _ in range(sent)]

        assert await in_thread(read) == list(range(sent))
        await resumed.wait()
        assert calls == ["pause", "resume"]
        transport.close()
        theirs.close()

    run(main())


def test_a_datagram_counts_as_this_release_of_asyncio_has_it() -> None:
    theirs: Any = selector_events
    header = getattr(theirs._SelectorDatagramTransport, "_header_size", 0)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        theirs.settimeout(10)
        transport: Any
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=ours)
        sent = 0
        while transport.get_write_buffer_size() == 0:
            transport.sendto(b"x" * 100)
            sent += 1
        assert transport.get_write_buffer_size() == 100 + header
        transport.sendto(b"y" * 50)
        assert transport.get_write_buffer_size() == 150 + 2 * header
        transport.close()

        def read() -> list[int]:
            return [len(theirs.recv(200)) for _ in range(sent + 1)]

        assert await in_thread(read) == [100] * sent + [50]
        assert transport.get_write_buffer_size() == 0
        theirs.close()

    run(main())


def test_an_empty_datagram_is_sent_where_asyncio_sends_it() -> None:
    received = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        theirs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        theirs.settimeout(10)
        theirs.bind(("127.0.0.1", 0))
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=theirs.getsockname()
        )
        transport.sendto(b"")
        transport.sendto(b"last")
        received.append([*iter(lambda: theirs.recv(100), b"last")])
        transport.close()
        theirs.close()

    for make in (asyncio.SelectorEventLoop, new_event_loop):
        loop = make()
        loop.run_until_complete(main())
        loop.close()
    assert received[0] == received[1]


# Pipes and children


def test_a_pipe_tells_when_its_reader_goes() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for waiting in (b"", b"x" * 1_000_000):
            read, write = os.pipe()
            transport, protocol = await loop.connect_write_pipe(Recorder, os.fdopen(write, "wb"))
            transport.write(waiting)
            os.close(read)
            await protocol.until(lambda: "lost" in protocol.calls)  # noqa: B023
            assert (protocol.lost is None) == (waiting == b"")

    run(main())


def test_a_pipe_is_read_to_its_end() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        read, write = os.pipe()
        transport, protocol = await loop.connect_read_pipe(Recorder, os.fdopen(read, "rb"))
        data = os.urandom(1_000_000)

        def send() -> None:
            with os.fdopen(write, "wb") as pipe:
                pipe.write(data)

        await in_thread(send)
        await protocol.until(lambda: "lost" in protocol.calls)
        assert protocol.received == data
        assert [c for c in protocol.calls if c != "data"] == ["made", "eof", "lost"]

    run(main())


def test_a_file_is_no_pipe(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with (tmp_path / "f").open("w+b") as file:
            with pytest.raises(ValueError, match="Pipe transport is"):
                await loop.connect_read_pipe(Recorder, file)
            with pytest.raises(ValueError, match="Pipe transport is only for"):
                await loop.connect_write_pipe(Recorder, file)

    run(main())


def test_a_child_may_open_its_standard_input_by_name() -> None:
    async def main() -> None:
        child = await asyncio.create_subprocess_exec(
            "cat", "/dev/stdin", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert (await child.communicate(b"input"))[0] == b"input"

    run(main())


def test_a_loop_in_any_thread_has_children() -> None:
    done: list[Any] = []

    async def main() -> None:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('child')", stdout=asyncio.subprocess.PIPE
        )
        done.append((await child.communicate(), child.returncode))

    thread = threading.Thread(target=lambda: run(main()))
    thread.start()
    thread.join()
    assert done == [((b"child\n", None), 0)]


# sendfile and TLS


def test_sendfile_sends_what_follows_the_writes(tmp_path: Path) -> None:
    path = tmp_path / "f"
    data = os.urandom(3_000_000)
    path.write_bytes(data)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        protocol, theirs = await joined()
        reading = asyncio.ensure_future(in_thread(read_all, theirs))
        protocol.transport.write(b"head")
        protocol.transport.write(b"er")
        with path.open("rb") as file:
            assert await loop.sendfile(protocol.transport, file, 10) == len(data) - 10
            assert file.tell() == len(data)
        protocol.transport.write(b"trailer")
        protocol.transport.close()
        assert await reading == b"header" + data[10:] + b"trailer"
        theirs.close()

    run(main())


def test_no_one_writes_into_a_sendfile(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(5_000_000))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        protocol, theirs = await joined()
        with path.open("rb") as file:
            sending = asyncio.ensure_future(loop.sendfile(protocol.transport, file))
            await asyncio.sleep(0.001)
            with pytest.raises(RuntimeError, match="sendfile is in progress"):
                protocol.transport.write(b"x")
            await in_thread(read_all, theirs, 5_000_000)
            assert await sending == 5_000_000
        protocol.transport.close()
        theirs.close()

    run(main())
