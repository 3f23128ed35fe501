"""A long way to a broker: a proxy of our own that hands on every byte later, and counts them. No bandwidth is bounded.

`python tests/distance.py TARGET_PORT ROUND_TRIP_S` serves until killed: it prints its port, then, for each line on its
standard input, the bytes that went there and back since the last.
"""

import asyncio
import socket
import sys
from collections import deque
from typing import Self


class _Way(asyncio.Protocol):
    """One end of a connection: what is heard here is said at the other end, later and in order."""

    def __init__(self, distance: "Distance", *, there: bool) -> None:
        self._distance = distance
        self._there = there
        self._late: deque[tuple[float, bytes | None]] = deque()
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.other: _Way | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send at once what is given to send."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._there:
            self._loop.create_task(self._go_on())

    async def _go_on(self) -> None:
        """Connect to the far end."""
        other = _Way(self._distance, there=False)
        self.other, other.other = other, self
        try:
            await self._loop.create_connection(lambda: other, "127.0.0.1", self._distance.target)
        except OSError:
            assert self.transport is not None
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand it on after half a round trip."""
        self._distance.counted[not self._there] += len(data)
        self._delay(data)

    def connection_lost(self, _: Exception | None) -> None:
        """Hand on the end, behind what was said."""
        self._delay(None)

    def _delay(self, data: bytes | None) -> None:
        if not self._late:
            self._loop.call_later(self._distance.one_way_s, self._hand_on)
        self._late.append((self._loop.time() + self._distance.one_way_s, data))

    def _hand_on(self) -> None:
        now_s = self._loop.time() + 0.0005
        due: list[bytes] = []
        ended = False
        while self._late and self._late[0][0] <= now_s:
            data = self._late.popleft()[1]
            ended = ended or data is None
            due.append(data or b"")
        if self.other is not None and self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.write(b"".join(due))
            if ended:
                self.other.transport.close()
        if self._late:
            self._loop.call_at(self._late[0][0], self._hand_on)


class Distance:
    """A proxy before a port of this machine. Use as an asynchronous context manager."""

    def __init__(self, target: int, round_trip_s: float) -> None:
        self.target = target
        self.one_way_s = round_trip_s / 2
        self.port = 0
        self.counted = [0, 0]
        """Bytes that went there, and back."""

    async def __aenter__(self) -> Self:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Way(self, there=True), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Listen no more."""
        self._server.close()


def _say(*numbers: int) -> None:
    sys.stdout.write(" ".join(map(str, numbers)) + "\n")
    sys.stdout.flush()


async def _main(target: int, round_trip_s: float) -> None:
    async with Distance(target, round_trip_s) as distance:
        _say(distance.port)
        while await asyncio.to_thread(sys.stdin.readline):
            _say(*distance.counted)
            distance.counted[:] = [0, 0]


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2])))
