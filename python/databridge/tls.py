"""TLS: asyncio's state machine, with what happens at every message made shorter.

Handshake, shutdown, renegotiation and all errors are asyncio's own (``asyncio.sslproto``).
Reading stops where the received bytes end instead of at an exception, a large write is not
copied for each of its records, and a loop's connections share one buffer to receive into.
"""

from __future__ import annotations

import ssl
from asyncio import sslproto
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    class _Base(Any):  # type: ignore[misc]
        """What asyncio's protocol has is not declared anywhere."""

else:
    _Base = sslproto.SSLProtocol

WRAPPED: Any = vars(sslproto)["SSLProtocolState"].WRAPPED

# OpenSSL reads and writes one record at a time.
RECORD = 16384

AGAIN = (ssl.SSLWantReadError, ssl.SSLSyscallError)


class Protocol(_Base):
    """The protocol between a socket's transport and an application's protocol."""

    max_size = 1  # of asyncio's own buffer, which is not used

    def __init__(self, buffer: memoryview, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._ssl_buffer_view = buffer
        # without ssl.SSLObject, which only passes on
        self._raw: Any = getattr(self._sslobj, "_sslobj", self._sslobj)

    def get_buffer(self, n: int) -> memoryview:
        return self._ssl_buffer_view

    def buffer_updated(self, nbytes: int) -> None:
        self._incoming.write(self._ssl_buffer_view[:nbytes])
        if self._state is WRAPPED:
            self._do_read()
        else:
            super().buffer_updated(0)

    def _do_read(self) -> None:
        if self._state is not WRAPPED or self._app_reading_paused:
            super()._do_read()
            return
        try:
            if self._app_protocol_is_buffer:
                self._do_read__buffered()
            else:
                self._do_read__copied()
            if self._write_backlog:
                self._do_write()
            elif self._outgoing.pending or self._app_writing_paused:
                self._process_outgoing()
            if self._ssl_reading_paused or self._incoming.pending:
                self._control_ssl_reading()
        except Exception as exc:
            self._fatal_error(exc, "Fatal error on SSL protocol")

    def _do_read__copied(self) -> None:
        incoming, raw = self._incoming, self._raw
        chunk = b"begin"
        chunks = []
        try:
            while chunk and (size := incoming.pending or raw.pending()):
                chunk = raw.read(RECORD if size > RECORD else size)
                chunks.append(chunk)
        except AGAIN:
            pass
        if chunks and chunks[0]:
            self._app_protocol.data_received(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        if not chunk:  # close_notify
            self._call_eof_received()
            self._start_shutdown()

    def _write_appdata(self, list_of_data: Any) -> None:
        if self._state is not WRAPPED or self._write_backlog or self._ssl_writing_paused:
            super()._write_appdata(list_of_data)
            return
        write = self._raw.write
        try:
            for data in list_of_data:
                size = len(data)
                if size <= RECORD and not self._write_backlog:
                    try:
                        sent = write(data)
                    except AGAIN:
                        sent = 0
                    if sent == size:
                        continue
                else:
                    sent = 0
                self._put(memoryview(data).cast("B")[sent:])
        except Exception as exc:
            self._fatal_error(exc, "Fatal error on SSL protocol")
            return
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())
        if self._app_writing_paused or self._write_backlog:
            self._control_app_writing()

    def _put(self, data: memoryview) -> None:
        """Write record by record; what OpenSSL does not take now waits in the backlog."""
        try:
            while data and not self._write_backlog:
                data = data[self._raw.write(data) :]
        except AGAIN:
            pass
        if data:
            self._write_backlog.append(bytes(data))
            self._write_buffer_size += len(data)
