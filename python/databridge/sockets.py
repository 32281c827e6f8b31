"""The loop's ``sock_*`` methods: tried at once, in C, and then one Future for each wait.

What is asked of a socket is done by the task itself when it goes on, so that a cancelled
call has taken nothing.  Debug mode and sockets that are not plainly ``socket.socket`` have
asyncio's methods.  All of it belongs to the loop's thread.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from . import _pyloop

if TYPE_CHECKING:

    class _Base(_pyloop.Loop, asyncio.SelectorEventLoop): ...

else:
    _Base = _pyloop.Loop


class Sockets(_Base):
    """The methods of the loop that work on the caller's sockets."""

    async def sock_recv(self, sock: Any, n: int) -> bytes:
        """As asyncio's."""
        if type(sock) is not socket.socket or self.get_debug():
            return await super().sock_recv(sock, n)
        while (data := self._receive(sock, n)) is None:
            await self._readable(sock)
        return data

    async def sock_recv_into(self, sock: Any, buf: Any) -> int:
        """As asyncio's."""
        if type(sock) is not socket.socket or self.get_debug():
            return await super().sock_recv_into(sock, buf)
        while (count := self._receive_into(sock, buf)) is None:
            await self._readable(sock)
        return count

    async def sock_recvfrom(self, sock: Any, bufsize: int) -> tuple[bytes, Any]:
        """As asyncio's."""
        if type(sock) is not socket.socket or self.get_debug():
            return await super().sock_recvfrom(sock, bufsize)
        while True:
            try:
                return sock.recvfrom(bufsize)
            except (BlockingIOError, InterruptedError):
                await self._readable(sock)

    async def sock_recvfrom_into(self, sock: Any, buf: Any, nbytes: int = 0) -> tuple[int, Any]:
        """As asyncio's."""
        if type(sock) is not socket.socket or self.get_debug():
            return await super().sock_recvfrom_into(sock, buf, nbytes)
        nbytes = nbytes or len(buf)
        while True:
            try:
                return sock.recvfrom_into(buf, nbytes)
            except (BlockingIOError, InterruptedError):
                await self._readable(sock)

    async def sock_sendall(self, sock: Any, data: Any) -> None:
        """As asyncio's."""
        if type(sock) is not socket.socket or self.get_debug():
            return await super().sock_sendall(sock, data)
        if (sent := self._send(sock, data, 0)) is not None:
            # until the end no one may change the size of it
            with memoryview(data) as view:
                while sent is not None:
                    await self._writable(sock)
                    sent = self._send(sock, view, sent)

    async def sock_sendto(self, sock: Any, data: Any, address: Any) -> int:
        """As asyncio's."""
        if type(sock) is not socket.socket or self.get_debug():
            return await super().sock_sendto(sock, data, address)
        while True:
            try:
                return sock.sendto(data, address)
            except (BlockingIOError, InterruptedError):
                await self._writable(sock)

    async def sock_accept(self, sock: Any) -> tuple[socket.socket, Any]:
        """As asyncio's."""
        if type(sock) is not socket.socket or self.get_debug():
            return await super().sock_accept(sock)
        while True:
            try:
                connection, address = sock.accept()
            except (BlockingIOError, InterruptedError):
                await self._readable(sock)
            else:
                connection.setblocking(False)
                return connection, address

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """As asyncio's; the answer of a neighbour, which is there at once, is not waited for."""
        connected: bool | None = False
        if type(sock) is socket.socket and not self.get_debug():
            while (connected := self._connect(sock, address)) is None:
                await self._writable(sock)
        if not connected:
            await super().sock_connect(sock, address)
