"""A scripted slave behind a socket: Modbus TCP, RTU or ASCII over TCP, and any of them inside TLS.

What is always true here: each connection is a conversation of its own with the one slave; `hang_up` ends all of them as
a cut cable would.
"""

import asyncio
import ssl

from drivers.simulated.scripted_slave import Framing, ScriptedSlave


class SlaveServer:
    """A server on `host`:`port`; port 0 takes a free one, and `port` tells which after `start`."""

    def __init__(
        self, slave: ScriptedSlave, framing: Framing, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self.host = host
        self.port = 0
        self.connections: list[asyncio.Transport] = []
        self._slave = slave
        self._framing = framing
        self._tls = tls
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self.host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and hang up; may start again on the same port."""
        if self._server is None:
            return
        self._server.close()
        self.hang_up()
        await self._server.wait_closed()
        self._server = None
        await asyncio.sleep(0)

    def hang_up(self) -> None:
        """Abort every connection."""
        for transport in self.connections:
            transport.abort()

    def say(self, data: bytes) -> None:
        """Put bytes on every connection that nobody asked for."""
        for transport in self.connections:
            if not transport.is_closing():
                transport.write(data)

    def conversation(self, transport: asyncio.Transport) -> "_Talk":
        """Begin a conversation on a connection."""
        self.connections.append(transport)
        return _Talk(self._slave, self._framing, transport)


class _Talk:
    def __init__(self, slave: ScriptedSlave, framing: Framing, transport: asyncio.Transport) -> None:
        self._hear = slave.conversation(framing)
        self._transport = transport
        self._loop = asyncio.get_running_loop()

    def hear(self, data: bytes) -> None:
        for delay_s, answer in self._hear(data):
            if delay_s:
                self._loop.call_later(delay_s, self._say, answer)
            else:
                self._say(answer)

    def _say(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


class _Connection(asyncio.Protocol):
    def __init__(self, server: SlaveServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._talk = self._server.conversation(transport)

    def data_received(self, data: bytes) -> None:
        self._talk.hear(data)
