"""ASGI HTTP 2.5, what goes wrong, and extensions, asked of databridge and of uvicorn."""

import pytest

from harness import SLOWER, until
from harness.asgi import Peer, broken, in_step, refused

APP = """
import asyncio

from kit import answer, app, attempt, body, case, note, option, read, start


MISTAKES = {
    "start_twice": [start(200, x_first="1"), start(201, x_second="1")],
    "body_first": [body(b"early")],
    "unknown": [{"type": "http.response.wrong"}],
    "unknown_late": [start(), {"type": "http.response.wrong"}],
    "no_type": [{}],
    "websocket": [{"type": "websocket.accept"}],
    "str": [start(), {"type": "http.response.body", "body": "text"}],
    "int": [start(), {"type": "http.response.body", "body": 7}],
    "str_header": [{**start(), "headers": [("x-a", "1")]}],
    "single_header": [{**start(), "headers": [(b"x-a",)]}],
    "bad_length": [start(content_length="four")],
    "not_a_mapping": [7],
}


@case
async def mistake(scope, receive, send):
    for message in MISTAKES[option(scope, "kind")]:
        await send(message)
    if scope["path"].endswith("/rest"):
        await send(body(b"rest"))


@case
async def caught(scope, receive, send):
    *before, wrong = MISTAKES[option(scope, "kind")]
    for message in before:
        await send(message)
    try:
        await send(wrong)
    except Exception:
        note(scope, "raised")
    if not before:
        await send(start())
    await send(body(b"right"))


@case
async def too_much(scope, receive, send):
    await send(start(content_length="3"))
    for piece in {"one": [b"abcdef"], "two": [b"ab", b"cdef"]}[option(scope, "kind")]:
        await attempt(scope, send(body(piece, True)))
    await attempt(scope, send(body()))


@case
async def too_little(scope, receive, send):
    await send(start(content_length="10"))
    await send(body(b"short"))


@case
async def after(scope, receive, send):
    await send(start())
    await send(body(b"whole"))
    for message in (body(b"more"), start(201), body(b"most", True)):
        await attempt(scope, send(message))


@case
async def fails(scope, receive, send):
    kind = option(scope, "kind")
    if kind == "before":
        raise ValueError("on purpose")
    if kind == "cancelled":
        raise asyncio.CancelledError
    if kind == "nothing":
        return
    await send(start(**({"content_length": "10"} if "length" in kind else {})))
    if "held" not in kind:
        await send(body(b"part", True))
    if "return" not in kind:
        raise ValueError("on purpose")


@case
async def fails_after(scope, receive, send):
    await send(start())
    await send(body(b"whole"))
    raise ValueError("on purpose")


# clients that leave or do not read


@case
async def left(scope, receive, send):
    await read(receive)
    await send(start())
    await send(body(b"first", True))
    note(scope, (await receive())["type"])
    await attempt(scope, send(body(b"x" * 100000, True)))
    await attempt(scope, send(body(b"last")))
    note(scope, (await receive())["type"])


@case
async def left_before(scope, receive, send):
    await read(receive)
    note(scope, "read")
    note(scope, (await receive())["type"])
    await attempt(scope, send(start()))
    await attempt(scope, send(body(b"whole")))


@case
async def left_sending(scope, receive, send):
    await send(start())
    note(scope, "started")
    try:
        for number in range(100000):
            await send(body(b"x" * 65536, True))
            await asyncio.sleep(0)
            if number == 1000:
                waited = asyncio.create_task(receive())
                while (await waited)["type"] != "http.disconnect":
                    waited = asyncio.create_task(receive())
    except OSError:
        note(scope, "OSError")


sent = 0


@case
async def firehose(scope, receive, send):
    global sent
    await send(start())
    for _ in range(1600):
        await send(body(b"x" * 65536, True))
        sent += 65536
    await send(body())


@case
async def progress(scope, receive, send):
    await answer(send, sent)


# extensions: what the scope does not name is an unknown message


@case
async def trailers(scope, receive, send):
    if "http.response.trailers" not in scope.get("extensions", {}):
        await answer(send, "not advertised")
        return
    await send({**start(trailer="x-sum, x-more"), "trailers": True})
    await send(body(b"body"))
    trailer = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1"), (b"x-sum", b"2")]}
    await send({**trailer, "more_trailers": True})
    await send({**trailer, "headers": [(b"x-more", b"3")]})


@case
async def pathsend(scope, receive, send):
    if "http.response.pathsend" not in scope.get("extensions", {}):
        await answer(send, "not advertised")
        return
    await send(start(content_type="text/plain"))
    await send({"type": "http.response.pathsend", "path": __file__})


@case
async def early_hint(scope, receive, send):
    if "http.response.early_hint" not in scope.get("extensions", {}):
        await answer(send, "not advertised")
        return
    links = [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]
    await send({"type": "http.response.early_hint", "links": links})
    await send(start())
    await send(body(b"body"))


@case
async def unadvertised(scope, receive, send):
    message = {"type": option(scope, "type"), "path": __file__, "links": [], "headers": []}
    await send(start())
    if message["type"] in scope.get("extensions", {}):
        note(scope, "advertised")
    else:
        await attempt(scope, send(message))
    await send(body(b"body"))
"""


# what an application does wrong


@pytest.mark.parametrize(
    "kind",
    ["body_first", "unknown", "no_type", "websocket", "str_header", "single_header"]
    + ["bad_length", "not_a_mapping"],
)
def test_a_mistake_before_the_start_is_refused(peer: Peer, kind: str) -> None:
    refused(peer, f"/mistake?kind={kind}")


@pytest.mark.parametrize("kind", ["start_twice", "unknown_late", "str", "int"])
def test_a_mistake_after_the_start_is_seen_by_the_client(peer: Peer, kind: str) -> None:
    assert broken(peer, f"/mistake/rest?kind={kind}")


@pytest.mark.parametrize(
    "kind",
    ["start_twice", "body_first", "unknown", "unknown_late", "no_type", "websocket"]
    + ["str", "int", "not_a_mapping"],
)
def test_a_mistake_raises_and_leaves_no_trace(peer: Peer, key: str, kind: str) -> None:
    answer = in_step(peer, f"/caught?kind={kind}&key={key}")
    assert "raised" in peer.notes(key)
    assert (answer.status, answer.body) == (200, b"right")
    assert "x-second" not in answer.headers


@pytest.mark.parametrize("kind", ["one", "two"])
def test_more_than_the_content_length_does_not_reach_the_wire(
    peer: Peer, key: str, kind: str
) -> None:
    try:
        answer = in_step(peer, f"/too_much?kind={kind}&key={key}")
    except ConnectionError:
        return

    assert answer.status == 500 or answer.body == b"abc"


def test_more_than_the_content_length_raises(peer: Peer, key: str) -> None:
    with peer.raw() as client:
        client.get(f"/too_much?kind=one&key={key}")
        assert "raised Exception" in peer.noted(key, "end")


def test_less_than_the_content_length_is_seen_by_the_client(peer: Peer) -> None:
    assert broken(peer, "/too_little")


def test_messages_after_the_end_are_ignored_or_raise(peer: Peer, key: str) -> None:
    answer = in_step(peer, f"/after?key={key}")
    assert (answer.status, answer.body) == (200, b"whole")
    assert len(peer.noted(key, "end")) == 4


@pytest.mark.parametrize("kind", ["before", "cancelled", "nothing"])
def test_an_application_without_a_response_is_a_500(peer: Peer, kind: str) -> None:
    assert in_step(peer, f"/fails?kind={kind}").status == 500


@pytest.mark.parametrize(
    "kind",
    ["held", "held_return", "held_length", "part", "part_length", "return", "return_length"],
)
def test_a_response_that_is_not_finished_is_seen_by_the_client(peer: Peer, kind: str) -> None:
    assert broken(peer, f"/fails?kind={kind}")


def test_an_error_after_the_response_does_not_change_it(peer: Peer) -> None:
    answer = in_step(peer, "/fails_after")
    assert (answer.status, answer.body) == (200, b"whole")


def test_the_server_goes_on_after_all_that(peer: Peer) -> None:
    assert peer.ask("/scope").status == 200


# clients that leave or do not read


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_send_after_the_client_left_returns_or_raises_an_oserror(
    peer: Peer, key: str, reset: bool
) -> None:
    before = peer.errors()
    with peer.raw() as client:
        client.get(f"/left?key={key}")
        client.head()
        assert client.chunk() == b"first"
        if reset:
            client.reset()
    notes = peer.noted(key, "end")
    assert notes[0] == notes[3] == "http.disconnect"
    assert set(notes[1:3]) <= {"returned", "raised OSError"}
    assert peer.errors() == before


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_start_after_the_client_left_returns_or_raises_an_oserror(
    peer: Peer, key: str, reset: bool
) -> None:
    before = peer.errors()
    with peer.raw() as client:
        client.get(f"/left_before?key={key}")
        peer.noted(key, "read")
        if reset:
            client.reset()
    notes = peer.noted(key, "end")
    assert notes[1] == "http.disconnect"
    assert set(notes[2:4]) <= {"returned", "raised OSError"}
    assert peer.errors() == before


def test_a_client_that_leaves_in_the_middle_is_no_error(peer: Peer, key: str) -> None:
    before = peer.errors()
    with peer.raw() as client:
        client.get(f"/left_sending?key={key}")
        client.socket.recv(1000)
        peer.noted(key, "started")
    assert "cancelled" not in peer.noted(key, "end")
    assert peer.errors() == before


def test_a_producer_waits_for_a_client_that_does_not_read(peer: Peer) -> None:
    total = 1600 * 65536
    with peer.raw() as client:
        client.get("/firehose")
        client.head()

        # it stands still once two looks see the same

        seen = [-1]

        def still() -> bool:
            for _ in range(50):
                peer.value("/progress")
            seen.append(peer.value("/progress"))
            return seen[-1] == seen[-2] > 0

        until("the producer stands still", still, 20)
        assert seen[-1] < total * 0.4

        # and goes on when the client does

        size = 0
        client.socket.settimeout(15 * SLOWER)
        while data := client.chunk():
            size += len(data)
        assert size == total


# extensions


def test_trailers_work_where_they_are_advertised(peer: Peer) -> None:
    with peer.raw() as client:
        client.get("/trailers", "TE: trailers\r\n")
        answer = client.response()
        client.get("/scope")
        assert client.response().status == 200
    if answer.body != b"'not advertised'":
        assert answer.body == b"body"
        assert answer.trailers == [(b"x-sum", b"1"), (b"x-sum", b"2"), (b"x-more", b"3")]


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_trailers_are_only_for_those_who_ask(peer: Peer, version: bytes) -> None:
    answer = peer.ask("/trailers", version=version)
    assert answer.trailers == []
    assert answer.body in (b"body", b"'not advertised'")


def test_pathsend_works_where_it_is_advertised(peer: Peer) -> None:
    answer = in_step(peer, "/pathsend")
    if answer.body != b"'not advertised'":
        assert answer.headers["content-type"] == "text/plain"
        assert answer.body.decode().strip() == APP.strip()


def test_early_hints_work_where_they_are_advertised(peer: Peer) -> None:
    with peer.raw() as client:
        client.get("/early_hint")
        hints, answer = [], client.response()
        while answer.status == 103:
            hints += answer.values("link")
            answer = client.response()
        client.get("/scope")
        assert client.response().status == 200
    if answer.body != b"'not advertised'":
        assert answer.body == b"body"
        assert hints == [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]


@pytest.mark.parametrize("kind", ["trailers", "pathsend", "early_hint", "zerocopysend", "push"])
def test_an_extension_that_is_not_advertised_is_a_mistake(peer: Peer, key: str, kind: str) -> None:
    assert in_step(peer, f"/unadvertised?type=http.response.{kind}&key={key}").body == b"body"
    assert peer.notes(key)[0] in ("advertised", "raised Exception")
