"""PyLoop's sock_* methods: asyncio's answers, and descriptors that change hands between calls."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from databridge.loop import new_event_loop, run


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    with ends[0], ends[1]:
        yield ends


def fill(sock: socket.socket) -> int:
    """Send until the peer must read first."""
    sent = 0
    try:
        while True:
            sent += sock.send(b"x" * 65536)
    except BlockingIOError:
        return sent


async def soon(coroutine: Any) -> "asyncio.Task[Any]":
    """A task of it that waits."""
    task: asyncio.Task[Any] = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    return task


def read_bytes(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> list[bytes]:
    """What a reader of the loop gets, byte by byte."""
    seen: list[bytes] = []
    loop.add_reader(sock, lambda: seen.append(sock.recv(1)))
    return seen


Pair = tuple[socket.socket, socket.socket]


def test_data_that_is_there_comes_without_a_turn_of_the_loop(pair: Pair) -> None:
    ours, theirs = pair

    async def main() -> None:
        loop = asyncio.get_running_loop()
        turns: list[int] = []
        loop.call_soon(turns.append, 1)
        theirs.send(b"abcdef")
        assert await loop.sock_recv(ours, 3) == b"abc"
        buffer = bytearray(8)
        assert await loop.sock_recv_into(ours, buffer) == 3
        assert buffer[:3] == b"def"
        await loop.sock_sendall(ours, b"gh")
        assert theirs.recv(9) == b"gh"
        assert turns == []

    run(main())


@pytest.mark.parametrize("size", [1, 1000, 256 * 1024, 256 * 1024 + 1, 1 << 20])
def test_a_read_of_any_size_gets_what_there_is(pair: Pair, size: int) -> None:
    ours, theirs = pair

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        waits = await soon(loop.sock_recv(ours, size))
        theirs.send(b"abc")
        return await waits  # type: ignore[no-any-return]

    assert run(main()) == b"abc"[:size]


def test_the_end_is_empty_bytes_and_no_byte_is_no_wait(pair: Pair) -> None:
    ours, theirs = pair

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await loop.sock_recv(ours, 0) == b""
        assert await loop.sock_recv_into(ours, bytearray()) == 0
        waits = await soon(loop.sock_recv(ours, 10))
        theirs.close()
        assert await waits == b""
        assert await loop.sock_recv_into(ours, bytearray(4)) == 0

    run(main())


def test_more_than_the_peer_takes_is_sent_whole_while_it_reads(pair: Pair) -> None:
    ours, theirs = pair
    data = os.urandom(3 << 20)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        sends = await soon(loop.sock_sendall(ours, bytearray(data)))
        received = bytearray()
        while len(received) < len(data):
            received += await loop.sock_recv(theirs, 70000)
        await sends
        assert received == data

    run(main())


def test_a_buffer_is_not_resized_while_it_is_sent(pair: Pair) -> None:
    ours, _ = pair

    async def main() -> None:
        loop = asyncio.get_running_loop()
        data = bytearray(8 << 20)
        sends = await soon(loop.sock_sendall(ours, data))
        with pytest.raises(BufferError):
            data.clear()
        sends.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sends
        data.clear()

    run(main())


def test_both_directions_of_one_socket_wait_and_go_on(pair: Pair) -> None:
    ours, theirs = pair

    async def main() -> None:
        loop = asyncio.get_running_loop()
        filled = fill(ours)
        sends = await soon(loop.sock_sendall(ours, b"last"))
        reads = await soon(loop.sock_recv(ours, 10))
        theirs.send(b"first")
        assert await reads == b"first"
        assert not sends.done()
        reads = await soon(loop.sock_recv(ours, 10))
        received = b""
        while not received.endswith(b"last"):
            received = (received + await loop.sock_recv(theirs, 1 << 20))[-4:]
            filled -= 1
        await sends
        theirs.send(b"second")
        assert await reads == b"second"

    run(main())


@pytest.mark.parametrize("reads_first", [True, False])
def test_a_reader_and_a_waiting_send_share_a_socket(pair: Pair, reads_first: bool) -> None:
    ours, theirs = pair

    async def main() -> None:
        loop = asyncio.get_running_loop()
        fill(ours)
        if reads_first:
            seen = read_bytes(loop, ours)
        sends = await soon(loop.sock_sendall(ours, b"last"))
        if not reads_first:
            seen = read_bytes(loop, ours)
        theirs.send(b"ab")
        while len(seen) < 2:
            await asyncio.sleep(0.001)
        assert not sends.done()
        received = b""
        while not received.endswith(b"last"):
            received = (received + await loop.sock_recv(theirs, 1 << 20))[-4:]
        await sends
        theirs.send(b"c")
        while len(seen) < 3:
            await asyncio.sleep(0.001)
        assert b"".join(seen) == b"abc"
        assert loop.remove_reader(ours)
        assert not loop.remove_reader(ours)

    run(main())


def test_a_cancelled_read_has_taken_nothing(pair: Pair) -> None:
    ours, theirs = pair

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            reads = await soon(loop.sock_recv(ours, 10))
            theirs.send(b"x")
            loop.call_soon(reads.cancel)
            with pytest.raises(asyncio.CancelledError):
                await reads
            assert not loop.remove_reader(ours)
            assert await loop.sock_recv(ours, 10) == b"x"
        reads = await soon(loop.sock_recv(ours, 10))
        theirs.send(b"y")
        assert await reads == b"y"

    run(main())


def test_a_read_in_vain_times_out_and_leaves_the_loop_asleep(pair: Pair) -> None:
    ours, theirs = pair

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.sock_recv(ours, 10), 0.01)
        theirs.send(b"x")
        before = os.times()
        await asyncio.sleep(0.2)
        after = os.times()
        assert after.user + after.system - before.user - before.system < 0.1
        assert ours.recv(10) == b"x"

    run(main())


@pytest.mark.parametrize("cancels", [True, False])
def test_a_number_that_another_socket_gets_is_watched_for_it(cancels: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        lost: list[Any] = []
        for turn in range(5):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            number = ours.fileno()
            reads = await soon(loop.sock_recv(ours, 10))
            theirs.send(b"%d" % turn)
            assert await reads == b"%d" % turn
            reads = await soon(loop.sock_recv(ours, 10))
            lost.append(reads)
            if cancels:
                reads.cancel()
            ours.close()
            theirs.close()
            other, peer = socket.socketpair()
            other.setblocking(False)
            with other, peer:
                assert other.fileno() == number
                reads = await soon(loop.sock_recv(other, 10))
                peer.send(b"other")
                assert await asyncio.wait_for(reads, 10) == b"other"
                seen = read_bytes(loop, other)
                peer.send(b"ab")
                while len(seen) < 2:
                    await asyncio.sleep(0.001)
                assert loop.remove_reader(other)
        for reads in lost:
            reads.cancel()

    run(main())


def test_a_descriptor_put_in_the_place_of_another_is_watched() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        other, peer = socket.socketpair()
        with ours, theirs, other, peer:
            ours.setblocking(False)
            other.setblocking(False)
            reads = await soon(loop.sock_recv(ours, 10))
            theirs.send(b"x")
            assert await reads == b"x"
            os.dup2(other.fileno(), ours.fileno())
            reads = await soon(loop.sock_recv(ours, 10))
            peer.send(b"y")
            assert await asyncio.wait_for(reads, 10) == b"y"

    run(main())


def test_a_duplicate_that_lives_on_disturbs_no_one() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        number = ours.fileno()
        reads = await soon(loop.sock_recv(ours, 10))
        reads.cancel()
        duplicate = ours.dup()
        ours.close()
        with duplicate, theirs:
            other, peer = socket.socketpair()
            other.setblocking(False)
            with other, peer:
                assert other.fileno() == number
                reads = await soon(loop.sock_recv(other, 10))
                theirs.send(b"x")
                for _ in range(10):
                    await asyncio.sleep(0.001)
                assert not reads.done()
                peer.send(b"y")
                assert await reads == b"y"
            assert duplicate.recv(10) == b"x"

    run(main())


def test_closing_a_socket_that_waits_for_both_is_no_error_of_the_loop() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        fill(ours)
        tasks = [
            await soon(loop.sock_recv(ours, 10)),
            await soon(loop.sock_sendall(ours, b"x")),
        ]
        with ours.dup(), theirs:
            ours.close()
            theirs.send(b"x")
            for _ in range(10):
                await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, OSError | asyncio.CancelledError) for result in results)

    run(main())


def test_a_transport_takes_a_socket_that_was_read_before(pair: Pair) -> None:
    ours, theirs = pair

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reads = await soon(loop.sock_recv(ours, 10))
        theirs.send(b"x")
        assert await reads == b"x"
        reader, writer = await asyncio.open_connection(sock=ours)
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(writer.get_extra_info("socket")._sock, 10)
        theirs.send(b"yz")
        assert await reader.readexactly(2) == b"yz"
        writer.close()
        await writer.wait_closed()

    run(main())


def test_a_forked_child_reads_with_a_loop_of_its_own(pair: Pair) -> None:
    ours, theirs = pair

    async def read() -> bytes:
        loop = asyncio.get_running_loop()
        reads = await soon(loop.sock_recv(ours, 10))
        theirs.send(b"x")
        return await reads  # type: ignore[no-any-return]

    with closing(new_event_loop()) as loop:
        assert loop.run_until_complete(read()) == b"x"
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with closing(new_event_loop()) as own:
                    code = 0 if own.run_until_complete(read()) == b"x" else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert loop.run_until_complete(read()) == b"x"


def test_the_first_of_two_readers_is_forgotten_and_can_be_cancelled(pair: Pair) -> None:
    ours, theirs = pair

    async def main() -> None:
        loop = asyncio.get_running_loop()
        first = await soon(loop.sock_recv(ours, 10))
        second = await soon(loop.sock_recv(ours, 10))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        theirs.send(b"x")
        assert await second == b"x"

    run(main())


def test_datagrams_come_with_their_address_and_go_to_it() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with (
            socket.socket(type=socket.SOCK_DGRAM) as ours,
            socket.socket(type=socket.SOCK_DGRAM) as theirs,
        ):
            for sock in (ours, theirs):
                sock.setblocking(False)
                sock.bind(("127.0.0.1", 0))
            reads = await soon(loop.sock_recvfrom(ours, 100))
            assert await loop.sock_sendto(theirs, b"abc", ours.getsockname()) == 3
            assert await reads == (b"abc", theirs.getsockname())
            buffer = bytearray(10)
            reads = await soon(loop.sock_recvfrom_into(ours, buffer))
            await loop.sock_sendto(theirs, b"defg", ours.getsockname())
            assert await reads == (4, theirs.getsockname())
            assert buffer[:4] == b"defg"

    run(main())


def test_a_cancelled_accept_has_accepted_no_one() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            accepts = await soon(loop.sock_accept(listener))
            with socket.create_connection(listener.getsockname()) as client:
                loop.call_soon(accepts.cancel)
                with pytest.raises(asyncio.CancelledError):
                    await accepts
                server, address = await loop.sock_accept(listener)
                with server:
                    assert address == client.getsockname()
                    assert server.gettimeout() == 0

    run(main())


class Own(socket.socket):
    """Whose methods must be asked."""

    def recv(self, *args: Any) -> bytes:
        return super().recv(*args).upper()


def test_a_class_of_its_own_is_asked() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with Own(fileno=ours.detach()) as own, theirs:
            own.setblocking(False)
            reads = await soon(loop.sock_recv(own, 10))
            theirs.send(b"abc")
            assert await reads == b"ABC"

    run(main())


Call = Callable[[Any, socket.socket], Any]

WRONG: list[Call] = [
    lambda loop, sock: loop.sock_recv(sock, -1),
    lambda loop, sock: loop.sock_recv(sock, "1"),
    lambda loop, sock: loop.sock_recv(sock, 1.5),
    lambda loop, sock: loop.sock_recv(sock, 1 << 70),
    lambda loop, sock: loop.sock_recv("sock", 1),
    lambda loop, sock: loop.sock_recv_into(sock, b"abc"),
    lambda loop, sock: loop.sock_recv_into(sock, 3),
    lambda loop, sock: loop.sock_recv_into(sock, memoryview(bytearray(8))[::2]),
    lambda loop, sock: loop.sock_sendall(sock, "abc"),
    lambda loop, sock: loop.sock_sendall(sock, None),
    lambda loop, sock: loop.sock_sendall(sock, memoryview(b"abcd")[::2]),
    lambda loop, sock: loop.sock_sendto(sock, "abc", ("127.0.0.1", 1)),
    lambda loop, sock: loop.sock_accept(sock),
]


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("call", WRONG)
def test_what_is_wrong_is_said_in_asyncios_words(call: Call, closed: bool) -> None:
    def answer(loop: asyncio.AbstractEventLoop) -> tuple[type, str]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with closing(loop), ours, theirs:
            if closed:
                ours.close()
            with pytest.raises(Exception) as raised:  # noqa: PT011
                loop.run_until_complete(asyncio.wait_for(call(loop, ours), 5))
            return type(raised.value), str(raised.value)

    assert answer(new_event_loop()) == answer(asyncio.SelectorEventLoop())


@pytest.mark.parametrize("call", [
    lambda loop, sock: loop.sock_recv(sock, 1),
    lambda loop, sock: loop.sock_recv_into(sock, bytearray(1)),
    lambda loop, sock: loop.sock_sendall(sock, b"x"),
    lambda loop, sock: loop.sock_recvfrom(sock, 1),
    lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1)),
    lambda loop, sock: loop.sock_sendto(sock, b"x", None),
    lambda loop, sock: loop.sock_accept(sock),
])  # fmt: skip
def test_debug_mode_refuses_a_socket_that_blocks(pair: Pair, call: Call) -> None:
    ours, _ = pair
    ours.setblocking(True)

    async def main() -> None:
        with pytest.raises(ValueError, match="the socket must be non-blocking"):
            await call(asyncio.get_running_loop(), ours)

    run(main(), debug=True)


def test_a_socket_that_blocks_holds_up_no_one(pair: Pair) -> None:
    ours, theirs = pair
    ours.setblocking(True)

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        reads = await soon(loop.sock_recv(ours, 10))
        theirs.send(b"abc")
        return await reads  # type: ignore[no-any-return]

    assert run(main()) == b"abc"
