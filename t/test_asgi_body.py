"""ASGI HTTP 2.5, the request's body and receive(), asked of databridge and of uvicorn."""

import hashlib
import select
import socket
from ast import literal_eval
from collections.abc import Iterator

import pytest

from harness import SLOWER, Raw, RawResponse, until
from harness.asgi import Peer, request

APP = """
import asyncio
import hashlib

from kit import answer, app, attempt, body, case, gate, note, option, read, start


@case
async def messages(scope, receive, send):
    seen = []
    while True:
        message = await receive()
        seen.append(dict(message))
        if not message.get("more_body"):
            break
    await answer(send, seen)


@case
async def digest(scope, receive, send):
    digest = hashlib.sha256()
    size = count = 0
    more = True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        more = message.get("more_body", False)
        digest.update(message.get("body", b""))
        size += len(message.get("body", b""))
        count += 1
    await answer(send, (size, digest.hexdigest(), count))


@case
async def echo(scope, receive, send):
    await send(start())
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            note(scope, "http.disconnect")
            return
        more = message.get("more_body", False)
        await send(body(message.get("body", b""), True))
        if not more:
            break
    await send(body())


@case
async def ignore(scope, receive, send):
    await answer(send, "ignored")


@case
async def first(scope, receive, send):
    message = await receive()
    await answer(send, bool(message.get("body")))


@case
async def held(scope, receive, send):
    note(scope, "held")
    await gate(scope)
    digest = hashlib.sha256(await read(receive)).hexdigest()
    await answer(send, digest)


@case
async def waits(scope, receive, send):
    await read(receive)
    waiting = asyncio.create_task(receive())
    note(scope, "waiting")
    await gate(scope)
    await asyncio.sleep(0.05)
    note(scope, waiting.done())
    await send(start())
    await send(body(b"one", True))
    await asyncio.sleep(0.02)
    note(scope, waiting.done())
    if option(scope, "complete"):
        await send(body())
    note(scope, (await waiting)["type"])
    for _ in range(3):
        note(scope, (await receive())["type"])


@case
async def after_the_end(scope, receive, send):
    if option(scope, "read"):
        await read(receive)
    await answer(send, "whole")
    for _ in range(3):
        note(scope, (await receive())["type"])


@case
async def leaves(scope, receive, send):
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        size += len(message.get("body", b""))
        note(scope, "some" if message.get("more_body") else "all")
    note(scope, "http.disconnect")
    for _ in range(2):
        note(scope, (await receive())["type"])
    note(scope, size)
    await attempt(scope, send(start()))
    await attempt(scope, send(body(b"late")))


@case
async def works_on(scope, receive, send):
    await read(receive)
    note(scope, "started")
    await gate(scope)
    for _ in range(20):
        await asyncio.sleep(0.001)
    note(scope, "worked")
    await attempt(scope, answer(send, "late"))


def scheduled_task(receive):
    return asyncio.create_task(receive())


def scheduled_future(receive):
    return asyncio.ensure_future(receive())


async def scheduled_wait_for(receive):
    while True:
        try:
            return await asyncio.wait_for(receive(), 0.002)
        except TimeoutError:
            continue


async def scheduled_wait(receive):
    done, _ = await asyncio.wait([asyncio.ensure_future(receive())])
    return done.pop().result()


async def scheduled_cancel(receive):
    for turns in (0, 1, 2):
        task = asyncio.create_task(receive())
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            return task.result()
        task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            continue
    return await receive()


async def scheduled_gather(receive):
    return (await asyncio.gather(receive(), asyncio.sleep(0)))[0]


async def scheduled_group(receive):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(receive())
    return task.result()


async def scheduled_timeout(receive):
    async with asyncio.timeout(30):
        return await receive()


async def scheduled_shield(receive):
    task = asyncio.ensure_future(receive())
    while True:
        try:
            return await asyncio.wait_for(asyncio.shield(task), 0.002)
        except TimeoutError:
            continue


@case
async def scheduled(scope, receive, send):
    how = globals()["scheduled_" + option(scope, "how")]
    digest = hashlib.sha256()
    more = True
    while more:
        message = await how(receive)
        assert message["type"] == "http.request"
        more = message.get("more_body", False)
        digest.update(message.get("body", b""))
    await answer(send, digest.hexdigest())


@case
async def concurrent(scope, receive, send):
    tasks = [asyncio.create_task(receive()) for _ in range(3)]
    first = (await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))[0].pop().result()
    note(scope, (first["type"], bool(first.get("more_body"))))
    await answer(send, "whole")
    note(scope, sorted([task.result()["type"] for task in (await asyncio.wait(tasks))[0]]))


@case
async def listener(scope, receive, send):
    async def listen():
        while (await receive())["type"] != "http.disconnect":
            pass
        note(scope, "heard")

    await read(receive)
    listening = asyncio.create_task(listen())
    await send(start())
    for number in range(5):
        await send(body(b"%d" % number, True))
        await asyncio.sleep(0.001)
    await send(body())
    await asyncio.wait_for(listening, 5)


@case
async def expects(scope, receive, send):
    note(scope, "called")
    await gate(scope)
    await answer(send, await read(receive))
"""

SIZES = [1, 1000, 16_383, 65_536, 1_048_576, 1_048_577, 5_000_000, 20_000_000]


def content(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def chunked(pieces: Iterator[bytes] | list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


CHUNKED = b"Transfer-Encoding: chunked\r\n"


def post(target: str, headers: bytes = b"", data: bytes = b"", version: bytes = b"1.1") -> bytes:
    """A request whose headers say how its body is framed."""
    return request(target, headers, b"POST", version=version) + data


def sized(size: int) -> bytes:
    return b"Content-Length: %d\r\n" % size


def literal(answer: RawResponse) -> object:
    assert answer.status == 200, answer
    return literal_eval(answer.body.decode())


def joined(messages: list[dict[str, object]]) -> bytes:
    """The body, when the messages are what the specification allows."""
    assert {message["type"] for message in messages} == {"http.request"}
    assert [bool(message.get("more_body")) for message in messages[:-1]] == [True] * (
        len(messages) - 1
    )
    assert not messages[-1].get("more_body")
    parts = [message.get("body", b"") for message in messages]
    assert all(type(part) is bytes for part in parts)
    return b"".join(part for part in parts if isinstance(part, bytes))


# the messages


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS"])
def test_no_body_is_one_empty_message(peer: Peer, method: bytes) -> None:
    answer = peer.ask("/messages", method=method)
    if method != b"HEAD":
        (message,) = literal_eval(answer.body.decode())
        assert joined([message]) == b""


def test_a_content_length_of_0_is_one_empty_message(peer: Peer) -> None:
    (message,) = peer.value("/messages", sized(0), method=b"POST")
    assert joined([message]) == b""


@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"PROPFIND"])
def test_every_method_may_have_a_body(peer: Peer, method: bytes) -> None:
    assert joined(peer.value("/messages", method=method, content=b"hello")) == b"hello"


def test_a_body_of_http_1_0_arrives(peer: Peer) -> None:
    value = peer.value("/messages", method=b"POST", content=b"hello", version=b"1.0")
    assert joined(value) == b"hello"


@pytest.mark.parametrize("size", SIZES)
def test_a_body_of_any_size_arrives_whole(peer: Peer, size: int) -> None:
    data = content(size)
    value = peer.value("/digest", method=b"POST", content=data)
    assert value[:2] == (size, sha(data))


@pytest.mark.parametrize("size", SIZES)
def test_a_chunked_body_of_any_size_arrives_whole(peer: Peer, size: int) -> None:
    data = content(size)
    pieces = [data[at : at + 50_000] for at in range(0, size, 50_000)]
    with peer.raw() as client:
        client.send(post("/digest", CHUNKED, chunked(pieces)))
        value = literal(client.response())
    assert isinstance(value, tuple) and value[:2] == (size, sha(data))


CODINGS = {
    "one": b"5\r\nhello\r\n0\r\n\r\n",
    "many": b"1\r\nh\r\n1\r\ne\r\n2\r\nll\r\n1\r\no\r\n0\r\n\r\n",
    "zeros": b"0005\r\nhello\r\n000\r\n\r\n",
    "extension": b'5;name=value;q="x"\r\nhello\r\n0;last\r\n\r\n',
    "trailers": b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
}


@pytest.mark.parametrize("coding", CODINGS)
def test_a_chunked_body_is_decoded(peer: Peer, coding: str) -> None:
    with peer.raw() as client:
        client.send(post("/messages", CHUNKED, CODINGS[coding]) + request("/ignore"))
        messages = literal(client.response())
        assert isinstance(messages, list) and joined(messages) == b"hello"
        assert literal(client.response()) == "ignored"


@pytest.mark.parametrize("coding", CODINGS)
def test_a_chunked_body_may_come_byte_by_byte(peer: Peer, coding: str) -> None:
    with peer.raw() as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post("/messages", CHUNKED, CODINGS[coding]):
            client.send(bytes([byte]))
        messages = literal(client.response())
        assert isinstance(messages, list) and joined(messages) == b"hello"


def test_an_empty_chunked_body_is_empty(peer: Peer) -> None:
    with peer.raw() as client:
        client.send(post("/messages", CHUNKED, b"0\r\n\r\n"))
        messages = literal(client.response())
        assert isinstance(messages, list) and joined(messages) == b""


@pytest.mark.parametrize("data", [b"zz\r\nhello\r\n", b"5\r\nhelloworld\r\n0\r\n\r\n", b"-1\r\n"])
def test_a_malformed_chunk_is_never_taken_for_the_end(peer: Peer, key: str, data: bytes) -> None:
    with peer.raw() as client:
        client.send(post(f"/leaves?key={key}", CHUNKED, data))
        try:
            answer = client.response()
        except ConnectionError:
            return
        assert answer.status == 400
    assert "all" not in peer.notes(key)


# streams


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_is_passed_on_before_it_is_whole(peer: Peer, framing: str) -> None:
    with peer.raw() as client:
        client.send(post("/echo", CHUNKED if framing == "chunked" else sized(12)))

        for number in range(3):
            data = b"abc%d" % number
            client.send(b"4\r\n%s\r\n" % data if framing == "chunked" else data)

            if number == 0:
                client.head()

            got = b""
            while len(got) < 4:
                got += client.chunk()
            assert got == data

        client.send(b"0\r\n\r\n" if framing == "chunked" else b"")
        assert client.chunk() == b""


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_large_body_comes_in_several_messages(peer: Peer, framing: str) -> None:
    data = content(4_000_000)
    with peer.raw() as client:
        if framing == "length":
            client.send(post("/digest", sized(len(data)), data))
        else:
            client.send(post("/digest", CHUNKED, chunked([data])))
        value = literal(client.response())
    assert isinstance(value, tuple) and value[1] == sha(data)
    assert value[2] > 1


def test_a_client_waits_for_an_application_that_does_not_read(peer: Peer, key: str) -> None:
    data = content(64_000_000)
    with peer.raw() as client:
        client.send(post(f"/held?key={key}", sized(len(data))))
        peer.noted(key, "held")
        client.socket.settimeout(0.3)
        sent = 0

        with pytest.raises(TimeoutError):
            while sent < len(data):
                sent += client.socket.send(data[sent : sent + 262_144])

        peer.open(key)
        client.socket.settimeout(20 * SLOWER)
        client.send(data[sent:])
        assert literal(client.response()) == sha(data)


@pytest.mark.parametrize(
    "how",
    ["task", "future", "wait_for", "wait", "cancel", "gather", "group", "timeout", "shield"],
)
def test_receive_returns_what_asyncio_takes_and_loses_nothing(peer: Peer, how: str) -> None:
    data = content(300_000)
    with peer.raw() as client:
        client.send(post(f"/scheduled?how={how}", sized(len(data))))
        for at in range(0, len(data), 30_000):
            client.send(data[at : at + 30_000])
            peer.value("/ignore")
        assert literal(client.response()) == sha(data)


@pytest.mark.parametrize("how", ["task", "future", "wait_for", "cancel", "gather", "timeout"])
def test_receive_returns_what_asyncio_takes_when_all_is_there(peer: Peer, how: str) -> None:
    value = peer.value(f"/scheduled?how={how}", method=b"POST", content=b"hello")
    assert value == sha(b"hello")


def test_several_receive_at_once_get_the_message_once(peer: Peer, key: str) -> None:
    with peer.raw() as client:
        client.get(f"/concurrent?key={key}")
        assert literal(client.response()) == "whole"
        notes = peer.noted(key, "end")
    assert notes[0] == ("http.request", False)
    assert notes[1] == ["http.disconnect", "http.disconnect", "http.request"]


def test_a_task_may_listen_while_another_sends(peer: Peer, key: str) -> None:
    assert peer.ask(f"/listener?key={key}").body == b"01234"
    assert peer.noted(key, "end") == ["heard", "end"]


# the end


@pytest.mark.parametrize("complete", ["", "1"], ids=["client_left", "complete"])
def test_after_the_body_receive_waits_then_disconnects_again_and_again(
    peer: Peer, key: str, complete: str
) -> None:
    with peer.raw() as client:
        client.send(post(f"/waits?key={key}&complete={complete}", sized(5), b"hello"))
        peer.noted(key, "waiting")
        peer.open(key)
        client.head()
        assert client.chunk() == b"one"
        until("the second look", lambda: peer.notes(key).count(False) == 2)
        if complete:
            assert client.chunk() == b""
            peer.noted(key, "end")
    assert peer.noted(key, "end") == ["waiting", False, False, *["http.disconnect"] * 4, "end"]


@pytest.mark.parametrize("read", ["", "1"], ids=["unread", "read"])
@pytest.mark.parametrize("size", [0, 5, 100_000])
def test_after_the_response_receive_disconnects_on_a_kept_connection(
    peer: Peer, key: str, size: int, read: str
) -> None:
    with peer.raw() as client:
        target = f"/after_the_end?key={key}&read={read}"
        client.send(post(target, sized(size), content(size)))
        assert literal(client.response()) == "whole"
        assert peer.noted(key, "end") == [*["http.disconnect"] * 3, "end"]


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_client_that_leaves_before_its_body_is_whole(
    peer: Peer, key: str, framing: str, reset: bool
) -> None:
    before = peer.errors()
    with peer.raw() as client:
        client.send(post(f"/leaves?key={key}", CHUNKED if framing == "chunked" else sized(1000)))
        client.send(b"5\r\nhello\r\n" if framing == "chunked" else b"hello")
        peer.noted(key, "some")
        if reset:
            client.reset()
    notes = peer.noted(key, "end")
    assert "all" not in notes and "cancelled" not in notes
    assert notes.count("http.disconnect") == 3
    assert set(notes[-3:-1]) <= {"returned", "raised OSError"}
    assert peer.errors() == before


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_a_client_that_leaves_never_cancels(peer: Peer, key: str, reset: bool) -> None:
    before = peer.errors()
    with peer.raw() as client:
        client.get(f"/works_on?key={key}")
        peer.noted(key, "started")
        if reset:
            client.reset()
    peer.open(key)
    notes = peer.noted(key, "end")
    assert notes[:2] == ["started", "worked"]
    assert notes[2] in ("returned", "raised OSError")
    assert peer.errors() == before


# Expect: 100-continue


EXPECT = b"Expect: 100-continue\r\n"


def silent(client: Raw) -> bool:
    """Whether nothing has arrived."""
    return select.select([client.socket], [], [], 0) == ([], [], [])


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_100_continue_is_sent_when_the_application_reads(
    peer: Peer, key: str, framing: str
) -> None:
    with peer.raw() as client:
        framed = CHUNKED if framing == "chunked" else sized(5)
        client.send(post(f"/expects?key={key}", framed + EXPECT))
        peer.noted(key, "called")
        assert silent(client)
        peer.open(key)
        assert client.response().status == 100
        client.send(chunked([b"hello"]) if framing == "chunked" else b"hello")
        assert literal(client.response()) == b"hello"


def test_no_100_continue_for_an_application_that_does_not_read(peer: Peer) -> None:
    with peer.raw() as client:
        client.send(post("/ignore", sized(5) + EXPECT))
        assert literal(client.response()) == "ignored"


def test_a_client_need_not_wait_for_100_continue(peer: Peer, key: str) -> None:
    peer.open(key)
    with peer.raw() as client:
        client.send(post(f"/expects?key={key}", sized(5) + EXPECT, b"hello"))
        answer = client.response()
        if answer.status == 100:
            answer = client.response()
        assert literal(answer) == b"hello"


def test_no_100_continue_without_a_body(peer: Peer) -> None:
    with peer.raw() as client:
        client.get("/messages", "Expect: 100-continue\r\nContent-Length: 0\r\n")
        answer = client.response()
        if answer.status == 100:
            answer = client.response()
        assert answer.status == 200


# what is not read


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [5, 10_000, 200_000])
@pytest.mark.parametrize("path", ["/ignore", "/first"])
def test_an_unread_body_is_not_the_next_request(
    peer: Peer, path: str, size: int, framing: str
) -> None:
    data = (request("/ignore?smuggled") * (size // 40 + 1))[:size]
    with peer.raw() as client:
        if framing == "length":
            client.send(post(path, sized(size), data))
        else:
            client.send(post(path, CHUNKED, chunked([data])))

        assert client.response().status == 200

        try:
            client.send(request("/messages", method=b"POST", content=b"next"))
            answer = client.response()
        except OSError:
            assert client.buffer == b""
            return

        messages = literal(answer)
        assert isinstance(messages, list) and joined(messages) == b"next"


def test_an_unread_body_that_is_still_on_its_way_is_not_the_next_request(peer: Peer) -> None:
    with peer.raw() as client:
        client.send(post("/ignore", sized(3000), b"x" * 1000))
        assert literal(client.response()) == "ignored"
        try:
            client.send(b"x" * 2000 + request("/messages"))
            answer = client.response()
        except OSError:
            assert client.buffer == b""
            return
        messages = literal(answer)
        assert isinstance(messages, list) and joined(messages) == b""


def test_a_large_unread_body_does_not_cost_its_client_the_answer(peer: Peer) -> None:
    with peer.raw() as client:
        client.send(post("/ignore", sized(10_000_000), b"x" * 1000))
        assert literal(client.response()) == "ignored"


# others


def test_pipelined_bodies_are_read_one_by_one(peer: Peer) -> None:
    bodies = [b"a" * 10, b"b" * 70_000, b"", b"c"]
    with peer.raw() as client:
        client.send(b"".join(post("/digest", sized(len(data)), data) for data in bodies))
        for data in bodies:
            value = literal(client.response())
            assert isinstance(value, tuple) and value[:2] == (len(data), sha(data))


def test_bodies_of_many_clients_are_kept_apart(peer: Peer) -> None:
    clients = [peer.raw() for _ in range(8)]
    for number, client in enumerate(clients):
        client.send(post("/digest", sized(50_000), b"%d" % number * 25_000))
    for number, client in enumerate(clients):
        client.send(b"%d" % number * 25_000)
    for number, client in enumerate(clients):
        value = literal(client.response())
        assert isinstance(value, tuple) and value[1] == sha(b"%d" % number * 50_000)
        client.socket.close()


def test_the_server_goes_on_after_all_that(peer: Peer) -> None:
    until("an answer", lambda: peer.value("/ignore") == "ignored")
