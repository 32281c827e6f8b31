"""What asyncio's loop has to be told so that its connections are PyLoop's transports.

The transports are C (``src/pyloop``); address lookup, happy eyeballs, ``Server`` and the
state machine of TLS stay asyncio's own.  All of it belongs to the loop's thread.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio import base_events, constants, streams, trsock
from typing import Any

from . import tls
from .sockets import Sockets


class Transports(Sockets):
    """The methods between asyncio's loop and the transports in C."""

    def _start_serving(
        self,
        protocol_factory: Any,
        sock: Any,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        *timeouts: Any,
        **named: Any,
    ) -> None:
        if sslcontext is None and isinstance(sock.fileno(), int):
            self._serve(protocol_factory, sock, server, backlog)
        else:
            asyncios: Any = super()
            asyncios._start_serving(
                protocol_factory, sock, sslcontext, server, backlog, *timeouts, **named
            )

    def _accept_later(
        self, exception: OSError, protocol_factory: Any, sock: Any, server: Any, backlog: int
    ) -> None:
        """Stop accepting for a while: descriptors or memory have run out."""
        self.call_exception_handler(
            {
                "message": "socket.accept() out of system resource",
                "exception": exception,
                "socket": trsock.TransportSocket(sock),
            }
        )
        self._remove_reader(sock.fileno())
        self.call_later(
            constants.ACCEPT_RETRY_DELAY,
            self._accept_again,
            protocol_factory,
            sock,
            server,
            backlog,
        )

    def _accept_again(self, protocol_factory: Any, sock: Any, server: Any, backlog: int) -> None:
        if sock.fileno() != -1:
            self._serve(protocol_factory, sock, server, backlog)

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """As asyncio's, without a thread where nothing has to be looked up."""
        if not self._numeric(host, port) or self.get_debug():
            return await super().getaddrinfo(
                host, port, family=family, type=type, proto=proto, flags=flags
            )
        flags |= socket.AI_NUMERICHOST
        return socket.getaddrinfo(host, port, family, type, proto, flags)

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        """As asyncio's, by a shorter way where the host is a number and nothing else is asked."""
        family = 0
        # who replaces asyncio's sockets wants to see theirs used
        if not options and vars(base_events)["socket"] is socket and not self.get_debug():
            family = self._numeric(host, port)
        if not family:
            return await super().create_connection(protocol_factory, host, port, **options)
        kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        sock = socket.socket(family, kind, socket.IPPROTO_TCP)
        try:
            await self.sock_connect(sock, (host, port))
            protocol = protocol_factory()
        except BaseException:
            sock.close()
            raise
        waiter = self.create_future()
        transport = self._make_socket_transport(sock, protocol, waiter)
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        return transport, protocol

    def _make_ssl_transport(
        self,
        rawsock: Any,
        protocol: Any,
        sslcontext: Any,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: Any = None,
        server: Any = None,
        **timeouts: Any,
    ) -> Any:
        self._ensure_fd_no_transport(rawsock)
        ssl_protocol = tls.SSLProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            **timeouts,
        )
        self._make_socket_transport(rawsock, ssl_protocol, extra=extra, server=server)
        return ssl_protocol._app_transport

    async def start_tls(
        self,
        transport: Any,
        protocol: Any,
        sslcontext: Any,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        **timeouts: Any,
    ) -> Any:
        """As asyncio's, with our protocol between the transport and the application's."""
        if not (
            isinstance(sslcontext, ssl.SSLContext)
            and getattr(transport, "_start_tls_compatible", False)
        ):
            return await super().start_tls(
                transport,
                protocol,
                sslcontext,
                server_side=server_side,
                server_hostname=server_hostname,
                **timeouts,
            )
        waiter = self.create_future()
        between = tls.SSLProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            call_connection_made=False,
            **timeouts,
        )
        transport.pause_reading()
        if server_side and isinstance(protocol, streams.StreamReaderProtocol):
            _hand_over(protocol, between)
        transport.set_protocol(between)
        made = self.call_soon(between.connection_made, transport)
        reads = self.call_soon(transport.resume_reading)
        try:
            await waiter
        except BaseException:
            transport.close()
            made.cancel()
            reads.cancel()
            del waiter  # it holds the exception, whose traceback holds this frame
            raise
        return between._app_transport

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        reads = transp.is_reading()
        transp.pause_reading()
        await transp._make_empty_waiter()
        transp._lend()
        try:
            return await self.sock_sendfile(transp._sock, file, offset, count, fallback=False)
        finally:
            transp._take_back()
            transp._reset_empty_waiter()
            if reads:
                transp.resume_reading()


def _hand_over(protocol: Any, between: Any) -> None:
    """The client's hello may have been read already, by a stream that waited for its data."""
    reader = protocol._stream_reader
    if reader is not None and reader._buffer:
        between._incoming.write(reader._buffer)
        reader._buffer.clear()


# who asks with inspect sees asyncio's parameters, of which newer versions have more
for _name in ("create_connection", "start_tls"):
    vars(Transports)[_name].__wrapped__ = getattr(asyncio.SelectorEventLoop, _name)
