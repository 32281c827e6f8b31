"""
MongoDB's reads on the nginx thread's own connections: what does not go as it
should is asked again by the driver, and nobody notices.
"""

import hashlib
import hmac
import json
import socket
import struct
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import bson
import pytest

from harness import Between, MongoServer, Nginx, Raw, until
from harness.store import NOTE, declare, fresh, request

APP = """
from databridge import App, Model

app = App()


class Note(Model):
    id: int
    text: str = ""


@app.crud(Note, prefix="/note")
class Notes:
    def before_update(self, item):
        item.text = item.text.upper()
"""

Answers = Callable[[bytes], bytes]

NO_CURSOR, A_CURSOR = (b"\x12id\0" + number.to_bytes(8, "little") for number in (0, 77))


def is_direct(message: bytes) -> bool:
    """The driver writes the name of the database behind the filter."""
    found = message.find(b"\2find\0")
    return found != -1 and b"\2$db\0" in message[found : message.find(b"\3filter\0")]


class Wire(Between):
    """Between nginx and MongoDB; changes replies to direct reads, while there are any changes."""

    def __init__(self, port: int) -> None:
        self.changes: list[Answers] = []
        self.asked: list[bytes] = []
        super().__init__(port, self._answer)

    def _answer(self, reply: bytes) -> bytes:
        if b"firstBatch" in reply and self.changes and is_direct(self.finds()[-1]):
            return self.changes.pop(0)(reply)
        return reply

    def finds(self) -> list[bytes]:
        return [message for message in self.asked if b"\2find\0" in message]

    def hang_up(self) -> None:
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Guard(Wire):
    """Lets in whom RFC 5802 lets in, with SHA-256, by the one password there is."""

    password, salt, rounds, nonce = b"a password", bytes(28), 4096, "of the server"

    def __init__(self, port: int) -> None:
        self.begun: dict[str, str] = {}
        self.let_in = 0
        super().__init__(port)

    def own_answer(self, message: bytes) -> bytes:
        if not message[25:].startswith((b"\x10saslStart\0", b"\x10saslContinue\0")):
            return b""

        said = bson.decode(message[21:])["payload"].decode()
        if said.startswith("n,,"):
            salt = b64encode(self.salt).decode()
            nonce = f"r={said.partition(',r=')[2]}{self.nonce}"
            answer = f"{nonce},s={salt},i={self.rounds}"
            self.begun[nonce] = f"{said[3:]},{answer}"
        else:
            answer = self._final(said)
        document = bson.encode(
            {
                "conversationId": 1,
                "done": not said.startswith("n,,"),
                "payload": answer.encode(),
                "ok": 1.0,
            }
        )
        return (
            struct.pack("<iiiiiB", 21 + len(document), 1, request_id(message), 2013, 0, 0)
            + document
        )

    def _final(self, said: str) -> str:
        bare, _, proof = said.partition(",p=")
        text = f"{self.begun.pop(bare.partition(',')[2])},{bare}".encode()
        salted = hashlib.pbkdf2_hmac("sha256", self.password, self.salt, self.rounds)
        client = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client).digest(), text, "sha256")
        assert b64decode(proof) == bytes(a ^ b for a, b in zip(client, signature, strict=True))
        self.let_in += 1
        server = hmac.digest(salted, b"Server Key", "sha256")
        return "v=" + b64encode(hmac.digest(server, text, "sha256")).decode()


def request_id(message: bytes) -> int:
    return int.from_bytes(message[4:8], "little")


@pytest.fixture
def wire(own_mongodb: MongoServer) -> Any:
    between = Wire(own_mongodb.port)
    yield between
    between.stop()


Start = Callable[..., Nginx]


@pytest.fixture
def start(wire: Wire, make_nginx: Callable[[], Nginx]) -> Start:
    def start(options: str = "", http: str = "") -> Nginx:
        server = make_nginx()
        store = f'databridge_store main "mongodb://127.0.0.1:{wire.port}/tests{options}";'
        server.configure(http=store + http, server=declare(server, NOTE))
        server.start()
        server.allow_descriptors(tcp=60)
        return server

    return start


def notes(count: int, text: str = "x") -> list[dict[str, Any]]:
    return [{"id": number, "text": f"{text}{number}", "number": number} for number in range(count)]


def direct(server: Nginx, wire: Wire) -> bool:
    """Reads once; whether that was asked on a connection of the nginx thread's."""
    assert server.client.get("/note/0").status_code in (200, 404)
    return is_direct(wire.finds()[-1])


@pytest.fixture
def served(start: Start, wire: Wire) -> Nginx:
    """A server with five notes that reads directly."""
    server = start()
    assert server.client.post("/note", json=notes(5)).status_code == 201
    until("a connection", lambda: direct(server, wire), 20)
    return server


def header(reply: bytes, field: int, value: int) -> bytes:
    return reply[: 4 * field] + struct.pack("<i", value) + reply[4 * field + 4 :]


def failure(code: int) -> Answers:
    """The server's own refusal, in the place of its reply."""

    def refuse(reply: bytes) -> bytes:
        document = bson.encode({"ok": 0.0, "code": code, "errmsg": "no"})
        return struct.pack("<i", 21 + len(document)) + reply[4:21] + document

    return refuse


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda reply: header(reply, 0, 20), id="too short for a message"),
        pytest.param(lambda reply: header(reply, 0, 1 << 30), id="too long for a message"),
        pytest.param(lambda reply: header(reply, 0, -1), id="a length that is negative"),
        pytest.param(lambda reply: header(reply, 2, 7777), id="to another request"),
        pytest.param(lambda reply: header(reply, 3, 1), id="of another kind"),
        pytest.param(lambda reply: header(reply, 4, 2), id="more would come"),
        pytest.param(lambda reply: reply[:20] + b"\1" + reply[21:], id="another section"),
        pytest.param(
            lambda reply: reply[:21] + struct.pack("<i", len(reply)) + reply[25:],
            id="a document beyond its message",
        ),
        pytest.param(
            lambda reply: reply[:21] + struct.pack("<i", 4) + reply[25:], id="no document"
        ),
        pytest.param(lambda reply: reply + b"x", id="more than the message"),
        pytest.param(failure(10107), id="no primary any more"),
        pytest.param(failure(11600), id="a server that stops"),
    ],
)
def test_what_is_no_answer_is_asked_again(served: Nginx, wire: Wire, change: Answers) -> None:
    wire.changes.append(change)
    assert served.client.get("/note/3").json() == notes(5)[3]
    assert not wire.changes
    first, again = wire.finds()[-2:]
    assert is_direct(first) and not is_direct(again)
    until("another connection", lambda: direct(served, wire), 20)


@pytest.mark.parametrize(("code", "status"), [(50, 504), (2, 500), (112, 503)])
def test_a_refusal_is_told_as_the_driver_s(
    served: Nginx, wire: Wire, code: int, status: int
) -> None:
    wire.changes.append(failure(code))
    count = len(wire.finds())
    assert served.client.get("/note/3").status_code == status
    assert len(wire.finds()) == count + 1
    served.logged(r"a read: no \(")
    assert direct(served, wire)


def test_connections_that_were_closed_are_replaced(served: Nginx, wire: Wire) -> None:
    for _ in range(3):
        wire.hang_up()
        assert served.client.get("/note/3").json() == notes(5)[3]
        until("another connection", lambda: direct(served, wire), 20)


def test_a_connection_that_ends_in_a_reply_is_asked_again(served: Nginx, wire: Wire) -> None:
    def half(reply: bytes) -> bytes:
        threading.Timer(0.2, wire.hang_up).start()
        return reply[:-7]

    wire.changes.append(half)
    assert served.client.get("/note?limit=3").json()["items"] == notes(5)[:3]
    assert not wire.changes


def test_a_long_reply_is_whole_and_asked_for_once(start: Start, wire: Wire) -> None:
    server = start()
    long = notes(90, "x" * 9000)
    assert server.client.post("/note", json=long).status_code == 201
    until("a connection", lambda: direct(server, wire), 20)
    count = len(wire.finds())
    for skip in (0, 3):
        page = server.client.get(f"/note?limit=80&skip={skip}&count=true").json()
        assert page["items"] == long[skip : skip + 80]
        assert page["total"] == 90
    assert len(wire.finds()) == count + 2
    assert all(is_direct(message) for message in wire.finds()[count:])


def test_a_cursor_in_a_reply_is_killed_and_the_list_is_whole(served: Nginx, wire: Wire) -> None:
    wire.changes.append(lambda reply: reply.replace(NO_CURSOR, A_CURSOR))
    assert served.client.get("/note?limit=4").json()["items"] == notes(5)[:4]
    assert not wire.changes
    killed = [message for message in wire.asked if b"killCursors" in message]
    assert len(killed) == 1 and A_CURSOR[-8:] in killed[0]


def test_lists_with_totals_filters_and_places(served: Nginx, wire: Wire) -> None:
    client = served.client
    count = len(wire.finds())
    page = client.get("/note?limit=2&count=true&sort=-number").json()
    assert [item["id"] for item in page["items"]] == [4, 3]
    assert page["total"] == 5
    rest = client.get(f"/note?limit=9&count=true&sort=-number&after={page['next']}").json()
    assert [item["id"] for item in rest["items"]] == [2, 1, 0]
    assert rest["total"] == 5
    assert client.get("/note?text=x2&fields=number").json()["items"] == [{"id": 2, "number": 2}]
    assert client.get("/note/99").status_code == 404
    assert len(wire.finds()) == count + 4
    assert all(is_direct(message) for message in wire.finds()[count:])


def test_a_command_that_is_long_is_the_driver_s(start: Start, wire: Wire) -> None:
    server = start("", "large_client_header_buffers 4 64k;")
    assert server.client.post("/note", json=notes(5)).status_code == 201
    until("a connection", lambda: direct(server, wire), 20)
    for size, here in ((8_000, True), (40_000, False)):
        assert server.client.get("/note", params={"text": "x" * size}).json()["items"] == []
        assert is_direct(wire.finds()[-1]) == here
    assert direct(server, wire)


def test_a_crowd_gets_its_own_answers(start: Start, wire: Wire) -> None:
    server = start()
    assert server.client.post("/note", json=notes(400)).status_code == 201

    def one(number: int) -> bool:
        return all(
            json.loads(fresh(server.port, "GET", f"/note/{id}").body)["text"] == f"x{id}"
            and f'"id":{id},' in str(fresh(server.port, "GET", f"/note?limit=1&sort=id&skip={id}"))
            for id in range(number, 400, 40)
        )

    with ThreadPoolExecutor(40) as threads:
        assert all(threads.map(one, range(40)))
    assert sum(map(is_direct, wire.finds())) > 200


def test_clients_that_leave_leave_nothing_behind(served: Nginx, wire: Wire) -> None:
    for number in range(60):
        with Raw(served.port) as client:
            client.send(request("GET", f"/note/{number % 5}") * 3)
    until("service", lambda: direct(served, wire), 20)
    assert served.client.get("/note?count=true").json()["total"] == 5


def test_a_crowd_at_a_silent_server_is_answered_in_time(
    start: Start, wire: Wire, own_mongodb: MongoServer
) -> None:
    server = start("?socketTimeoutMS=3000")
    assert server.client.post("/note", json=notes(5)).status_code == 201
    until("a connection", lambda: direct(server, wire), 20)

    def one(number: int) -> int:
        return fresh(server.port, "GET", f"/note/{number % 5}").status

    with ThreadPoolExecutor(60) as threads:
        assert set(threads.map(one, range(120))) == {200}
        own_mongodb.pause()
        statuses = set(threads.map(one, range(60)))
        own_mongodb.resume()
    assert statuses <= {503, 504} and 504 in statuses
    until("service", lambda: server.client.get("/note/1").status_code == 200, 20)
    until("a connection", lambda: direct(server, wire), 20)


@pytest.mark.parametrize(
    "options",
    ["?readPreference=secondaryPreferred", "?readConcernLevel=local", "?maxPoolSize=3"],
)
def test_what_the_uri_says_of_reads_is_the_driver_s(start: Start, wire: Wire, options: str) -> None:
    server = start(options)
    assert server.client.post("/note", json=notes(5)).status_code == 201
    assert not any(direct(server, wire) for _ in range(20))


def test_each_connection_has_logged_in(
    make_nginx: Callable[[], Nginx], own_mongodb: MongoServer
) -> None:
    guard = Guard(own_mongodb.port)
    server = make_nginx()
    uri = f"mongodb://somebody:a%20password@127.0.0.1:{guard.port}/tests"
    store = f'databridge_store main "{uri}?authMechanism=SCRAM-SHA-256";'
    server.configure(http=store, server=declare(server, NOTE))
    server.start()
    server.allow_descriptors(tcp=60)
    assert server.client.post("/note", json=notes(5)).status_code == 201
    before = guard.let_in
    until("a connection", lambda: direct(server, guard), 20)
    assert before and guard.let_in > before
    assert server.client.get("/note/3").json() == notes(5)[3]
    guard.stop()


def test_python_reads_there_too(wire: Wire, make_nginx: Callable[[], Nginx]) -> None:
    server = make_nginx()
    server.write({"app.py": APP})
    uri = f"mongodb://127.0.0.1:{wire.port}/tests"
    server.configure("databridge_app app:app;", http=f'databridge_store main "{uri}";')
    server.start("/note")
    server.allow_descriptors(tcp=60)
    note = {"id": 0, "text": "a"}
    assert server.client.post("/note", json=note).status_code == 201
    until("a connection", lambda: direct(server, wire), 20)
    count = len(wire.finds())
    assert server.client.patch("/note/0", json={"text": "b"}).json() == {**note, "text": "B"}
    assert any(map(is_direct, wire.finds()[count:]))
