"""One open wire: puts a question on it, and waits for the answer that the framer accepts.

What is always true here:

- One question at a time. The wait ends by the answer, by the clock, or by the end of the wire, whichever is first.
- Nothing that arrives raises inside the event loop.
- A damaged answer ends the wait early, `GRACE_S` after it was seen: long enough for a right one behind it.
- Bytes are counted as they come, and each arrival has its time.

`drivers.modbus.wire` enters, and says in words of the house what `Ended` means.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Literal

from drivers.modbus.framing import Framer

End = Literal["timeout", "half", "crc", "wrong-id", "out-of-step", "lost"]

GRACE_S = 0.05
ROOM_BYTES = 1024
"""What is taken from a connection at once: three of the longest answers."""


class Ended(Exception):
    """The wait ended without an answer."""

    def __init__(self, end: End) -> None:
        self.end = end
        super().__init__(end)


class Exchange(asyncio.BufferedProtocol):
    """The protocol of one connection or port. `heard` is told of every arrival, and when it was."""

    def __init__(self, framer: Framer, heard: Callable[[float], None] | None) -> None:
        self.framer = framer
        self.bytes_in = 0
        self.opened_at = self.heard_at = time.monotonic()
        self.lost = False
        self.reason: Exception | None = None
        """Why the wire ended, where it said so."""
        self._heard = heard
        self._room = memoryview(bytearray(ROOM_BYTES))
        self._transport: asyncio.WriteTransport | None = None
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        self._transport = transport  # type: ignore[assignment]  # a stream or a serial port; both write

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear of the end, and end the wait for an answer that cannot come any more."""
        self.lost, self.reason = True, exc
        self._end("lost")

    def get_buffer(self, _hint: int) -> memoryview:
        """Give the room into which a connection reads; the event loop would make 256 KiB anew for each answer."""
        return self._room

    def buffer_updated(self, count: int) -> None:
        """Take what a connection read."""
        self.data_received(bytes(self._room[:count]))

    def data_received(self, data: bytes) -> None:
        """Take bytes as they arrive."""
        self.bytes_in += len(data)
        self.heard_at = time.monotonic()
        if self._heard is not None:
            self._heard(self.heard_at)
        answer = self.framer.feed(data)
        if self._answer is None or self._answer.done():
            return
        if answer is not None:
            self._answer.set_result(answer)
        elif self.framer.broken:
            self._end("out-of-step")
        elif self.framer.spoilt:
            self._hasten()

    async def ask(self, question: bytes, wait_s: float) -> bytes:
        """Send a question that the framer made, and give the PDU of its answer. Raises Ended."""
        if self.lost or self._transport is None:
            raise Ended("lost")
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._answer = answer
        self._timer = self._loop.call_later(wait_s, self._expire)
        try:
            self._transport.write(question)
            return await answer
        finally:
            self._timer.cancel()
            self._answer = self._timer = None

    def give_up(self) -> None:
        """Forget the question whose asker is gone."""
        self.framer.finish()

    def _expire(self) -> None:
        if self._answer is None or self._answer.done():
            return
        answer = self.framer.finish()
        if answer is not None:
            self._answer.set_result(answer)
        elif self.framer.spoilt:
            self._end("crc" if self.framer.number == 0 else "wrong-id")
        else:
            self._end("half" if self.framer.half else "timeout")

    def _hasten(self) -> None:
        """Let the wait end soon, but not later than it would have."""
        assert self._timer is not None
        when = min(self._timer.when(), self._loop.time() + GRACE_S)
        self._timer.cancel()
        self._timer = self._loop.call_at(when, self._expire)

    def _end(self, end: End) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Ended(end))
