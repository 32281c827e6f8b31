"""A WebSocket client that sends frames as they are, wrong ones too."""

import base64
import hashlib
import os

from harness.raw import Raw, RawResponse

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


def accept_key(key: bytes) -> str:
    """What a server answers to a key."""
    return base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()


def handshake(
    target: str | bytes,
    headers: bytes = b"",
    *,
    method: bytes = b"GET",
    version: bytes = b"1.1",
    upgrade: bytes = b"websocket",
    connection: bytes = b"Upgrade",
    key: bytes | None = KEY,
    ws_version: bytes | None = b"13",
) -> bytes:
    if isinstance(target, str):
        target = target.encode("latin-1")

    lines = [b"%s %s HTTP/%s" % (method, target, version), b"Host: test"]
    lines += [b"Upgrade: " + upgrade] if upgrade else []
    lines += [b"Connection: " + connection] if connection else []
    lines += [b"Sec-WebSocket-Key: " + key] if key is not None else []
    lines += [b"Sec-WebSocket-Version: " + ws_version] if ws_version is not None else []
    return b"\r\n".join(lines) + b"\r\n" + headers + b"\r\n"


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x12\x34\x56\x78",
    length: int | None = None,
) -> bytes:
    """A frame; with a length, one that claims to have it."""
    size = len(payload) if length is None else length
    masked = 0x80 if mask is not None else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])

    if size < 126:
        head += bytes([masked | size])
    elif size < 65536:
        head += bytes([masked | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([masked | 127]) + size.to_bytes(8, "big")

    return head + payload if mask is None else head + mask + masked_with(mask, payload)


def masked_with(mask: bytes, payload: bytes) -> bytes:
    pad = (mask * (len(payload) // 4 + 1))[: len(payload)]
    number = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
    return number.to_bytes(len(payload), "big")


def closing(code: int | None = None, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


class WebSocket(Raw):
    def open(self, target: str | bytes, headers: bytes = b"", more: bytes = b"") -> RawResponse:
        """Completes the handshake; more is sent in the same segment."""
        key = base64.b64encode(os.urandom(16))
        self.send(handshake(target, headers, key=key) + more)
        answer = self.head()
        assert answer.status == 101, answer
        assert answer.headers["sec-websocket-accept"] == accept_key(key)
        return answer

    def text(self, text: str) -> None:
        self.send(frame(TEXT, text.encode()))

    def binary(self, data: bytes) -> None:
        self.send(frame(BINARY, data))

    def frame(self) -> tuple[int, bytes]:
        """The next frame of the server: its opcode, with 16 for more to come, and its payload."""
        first, second = self.exactly(2)
        assert first & 0x70 == 0, "reserved bits without an extension"
        assert second & 0x80 == 0, "a server does not mask"
        size = second & 0x7F

        if size > 125:
            assert first & 0x08 == 0, "a control frame is short"
            size = int.from_bytes(self.exactly(2 if size == 126 else 8), "big")

        return (first & 0x0F) + (0 if first & 0x80 else 16), self.exactly(size)

    def message(self) -> str | bytes:
        """The next message, whole; pings are left unanswered."""
        parts: list[bytes] = []
        kind = 0

        while True:
            opcode, payload = self.frame()
            assert opcode != CLOSE, payload

            if opcode in (PING, PONG):
                continue

            kind = kind or opcode & 0x0F
            parts.append(payload)

            if opcode < 16:
                data = b"".join(parts)
                return data.decode() if kind == TEXT else data

    def closed_with(self) -> tuple[int, str]:
        """Code and reason of the server's close frame, which has to come."""
        while True:
            opcode, payload = self.frame()

            if opcode == CLOSE:
                code = int.from_bytes(payload[:2], "big") if payload else 1005
                return code, payload[2:].decode()
