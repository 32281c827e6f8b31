"""PyLoop's methods take what asyncio's take, by its place or by its name, and tell inspect so."""

import asyncio
import inspect
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from databridge.loop import new_event_loop
from harness.protocols import Recorder, joined

BOTH = pytest.mark.parametrize("factory", [new_event_loop, asyncio.SelectorEventLoop])


def run(factory: Any, coroutine: Any) -> Any:
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(coroutine)


async def made() -> dict[str, Any]:
    """One of each kind of what a program has of its loop, all of it closed."""
    loop = asyncio.get_running_loop()
    readable, writable = os.pipe()
    protocol, theirs = await joined()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    objects: dict[str, Any] = {
        "loop": loop,
        "handle": loop.call_soon(int),
        "timer": loop.call_later(0, int),
        "server": server,
        "stream": protocol.transport,
        "datagram": (
            await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
            )
        )[0],
        "read pipe": (await loop.connect_read_pipe(asyncio.Protocol, open(readable, "rb", 0)))[0],
        "write pipe": (await loop.connect_write_pipe(asyncio.Protocol, open(writable, "wb", 0)))[0],
    }
    for name in ("server", "stream", "datagram", "read pipe", "write pipe"):
        objects[name].close()
    theirs.close()
    await protocol.until(lambda: "lost" in protocol.calls)
    return objects


def methods(made: Any) -> list[str]:
    return [
        name
        for name in dir(made)
        if not name.startswith("_") and inspect.isroutine(getattr(made, name))
    ]


def parameters(method: Any) -> list[tuple[str, str, bool]]:
    return [
        (parameter.name, parameter.kind.name, parameter.default is parameter.empty)
        for parameter in inspect.signature(method).parameters.values()
    ]


def test_every_method_of_asyncios_has_the_same_parameters() -> None:
    differs = []
    ours = run(new_event_loop, made())
    for kind, theirs in run(asyncio.SelectorEventLoop, made()).items():
        for name in methods(theirs):
            method = getattr(ours[kind], name)
            if parameters(getattr(theirs, name)) != parameters(method):
                differs.append((kind, name, parameters(method)))
    assert differs == []


def test_transports_and_handles_have_no_other_methods_and_are_the_same_of_asyncios() -> None:
    kinds = {kind for kind in vars(asyncio).values() if inspect.isclass(kind)}
    kinds.remove(asyncio.DatagramTransport)  # asyncio's are only from 3.12 on
    ours = run(new_event_loop, made())
    for name, theirs in run(asyncio.SelectorEventLoop, made()).items():
        if name != "loop":
            assert methods(ours[name]) == methods(theirs)
        for kind in kinds:
            assert isinstance(ours[name], kind) == isinstance(theirs, kind), (name, kind)


@BOTH
def test_arguments_may_be_given_by_their_names(factory: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        called: list[str] = []
        readable, writable = os.pipe()
        loop.call_soon(callback=lambda: called.append("soon"), context=None)
        loop.call_soon_threadsafe(callback=lambda: called.append("threadsafe"))
        loop.call_at(when=loop.time(), callback=lambda: called.append("at"))
        loop.call_later(delay=0, callback=lambda: called.append("later"))
        loop.add_writer(fd=writable, callback=lambda: called.append("writer"))
        await loop.create_task(coro=asyncio.sleep(0.01), name="named")
        assert loop.remove_writer(fd=writable) is True
        assert {*called} == {"soon", "threadsafe", "at", "later", "writer"}

        stream, theirs = await joined()
        transport = stream.transport
        transport.write(data=b"one")
        transport.writelines(list_of_data=[b"two", b"three"])
        transport.set_write_buffer_limits(high=10, low=5)
        assert transport.get_extra_info(name="none", default="default") == "default"
        await asyncio.sleep(0)
        received = theirs.recv(100)
        other = Recorder()
        transport.set_protocol(protocol=other)
        theirs.close()
        await other.until(lambda: "lost" in other.calls)

        _, pipe = await loop.connect_write_pipe(
            protocol_factory=Recorder, pipe=open(writable, "wb", 0)
        )
        pipe.transport.write(data=b"one")
        pipe.transport.writelines(list_of_data=[b"two"])
        pipe.transport.close()
        await pipe.until(lambda: "lost" in pipe.calls)
        assert (os.read(readable, 100), received) == (b"onetwo", b"onetwothree")
        os.close(readable)

        peer = socket.socket(type=socket.SOCK_DGRAM)
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(10)
        datagram, _ = await loop.create_datagram_endpoint(
            protocol_factory=asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        datagram.sendto(data=b"hello", addr=peer.getsockname())
        assert peer.recv(100) == b"hello"
        datagram.close()
        peer.close()

    run(factory, main())


@BOTH
@pytest.mark.parametrize(
    "call",
    [
        lambda transport: transport.write(),
        lambda transport: transport.write(b"one", b"two"),
        lambda transport: transport.write(b"one", data=b"two"),
        lambda transport: transport.write(list_of_data=[]),
        lambda transport: transport.writelines(data=[]),
        lambda transport: transport.writelines(None),
        lambda transport: transport.set_protocol(),
    ],
)
def test_other_arguments_are_a_type_error(factory: Any, call: Callable[[Any], Any]) -> None:
    async def main() -> None:
        made, theirs = await joined()
        with pytest.raises(TypeError):
            call(made.transport)
        made.transport.write(b"still open")
        assert theirs.recv(100) == b"still open"
        made.transport.abort()
        theirs.close()

    run(factory, main())
