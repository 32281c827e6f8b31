"""TLS: asyncio's state machine, with what happens at every message in C.

Handshake, shutdown, renegotiation and all errors are asyncio's own (``asyncio.sslproto``);
how an open connection reads and writes is PyLoop's (``src/pyloop/tls.c``).
"""

from __future__ import annotations

import ssl
from asyncio import sslproto
from typing import TYPE_CHECKING, Any

from . import _pyloop

if TYPE_CHECKING:

    class _Protocol(Any):  # type: ignore[misc]
        """What asyncio's protocol has is not declared anywhere."""

        _app_transport_created: bool

    class _Transport(Any):  # type: ignore[misc]
        """Nor is what its transport has."""

else:
    _Protocol = sslproto.SSLProtocol
    _Transport = sslproto._SSLProtocolTransport


class SSLTransport(_pyloop.TLSTransport, _Transport):
    """What the application's protocol gets."""


class SSLProtocol(_pyloop.TLSProtocol, _Protocol):
    """The protocol between a socket's transport and an application's protocol."""

    max_size = 1  # of a buffer that our transports do not use

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.max_size = _Protocol.max_size
        # who has put a class of his own in its place wants to see it used
        if type(self._sslobj) is ssl.SSLObject:
            self._ssl = vars(self._sslobj)["_sslobj"]

    def _get_app_transport(self) -> Any:
        if not self._app_transport_created:
            self._app_transport = SSLTransport(self._loop, self)
            self._app_transport_created = True
        return super()._get_app_transport()
