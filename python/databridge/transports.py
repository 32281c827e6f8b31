"""What asyncio's loop has to be told so that its connections are PyLoop's transports.

The transports are C (``src/pyloop``); address lookup, happy eyeballs, ``Server`` and the
state machine of TLS stay asyncio's own.  All of it belongs to the loop's thread.
"""

from __future__ import annotations

import asyncio
from asyncio import constants, sslproto, trsock
from typing import TYPE_CHECKING, Any

from . import _pyloop

if TYPE_CHECKING:

    class _Base(_pyloop.Loop, asyncio.SelectorEventLoop): ...

else:
    _Base = _pyloop.Loop


class Transports(_Base):
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
        ssl_protocol = sslproto.SSLProtocol(
            self, protocol, sslcontext, waiter, server_side, server_hostname, **timeouts
        )
        self._make_socket_transport(rawsock, ssl_protocol, extra=extra, server=server)
        return ssl_protocol._app_transport

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
