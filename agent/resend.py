"""Requests for blocks that were sent before: a platform may ask for any interval that is still kept.

What is always true here:

- A request changes no cursor: what is pending, in flight or acknowledged stays so, whatever becomes of the repeats.
- One request is served at a time, one block of it is unacknowledged at a time, and at most `MOST_WAITING` wait.
- By time, a block belongs to an interval by what its header says: boot times are facts; wall time is evidence, as it
  stood when the block was sealed.
- The store is read a few blocks at a time, with a pause between, so that sealing never waits for it.

`docs/platform.md` gives the messages.
"""

import asyncio
import datetime as dt
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from agent.confirm import MOST_SEQ, Unfit, hexadecimal, read_object, sequence, text
from agent.keeper import Kept, Reading
from agent.seek import Read, seek
from buffer.block import Header, read_header
from buffer.errors import BufferFault

MOST_WAITING = 4
READ_BLOCKS = 16
READ_BYTES = 256_000
TURN_S = 0.02
UNREADABLE_S = 2.0
BOOT_ID_BYTES = 16
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

Send = Callable[[Kept], Awaitable[bool]]


class Request(NamedTuple):
    """What a platform asks for. `belongs` judges a header; `first` and `last` bound the sequence numbers."""

    stream: str
    first: int
    last: int
    belongs: Callable[[Header], bool]


def read_request(payload: bytes) -> Request:
    """Read a platform's `resend`. Raises Unfit."""
    document = read_object(payload)
    stream = text(document.get("stream"))
    if "boot" in document:
        boot = hexadecimal(document["boot"], BOOT_ID_BYTES)
        return _by_boot(stream, boot, _natural(document.get("from_ns")), _natural(document.get("to_ns")))
    begin, end = document.get("from"), document.get("to")
    if isinstance(begin, str):
        return _by_wall(stream, _wall_ns(begin), _wall_ns(end))
    first, last = sequence(begin), sequence(end)
    if last < first:
        raise Unfit("ends-before-it-begins")
    return Request(stream, first, last, lambda header: first <= header.seq <= last)


def _by_boot(stream: str, boot: bytes, begin_ns: int, end_ns: int) -> Request:
    if end_ns < begin_ns:
        raise Unfit("ends-before-it-begins")

    def belongs(header: Header) -> bool:
        first_ns, last_ns = header.interval or (header.boot_ns, header.boot_ns)
        return header.boot_id == boot and first_ns <= end_ns and begin_ns <= last_ns

    return Request(stream, 1, MOST_SEQ, belongs)


def _by_wall(stream: str, begin_ns: int, end_ns: int) -> Request:
    if end_ns < begin_ns:
        raise Unfit("ends-before-it-begins")
    return Request(stream, 1, MOST_SEQ, lambda header: begin_ns <= header.wall_ns <= end_ns)


def _natural(value: object) -> int:
    if type(value) is not int or value < 0:
        raise Unfit("bad-number")
    return value


def _wall_ns(value: object) -> int:
    """Read an instant as RFC 3339 writes it, with its offset."""
    try:
        instant = dt.datetime.fromisoformat(text(value))
    except ValueError:
        raise Unfit("bad-time") from None
    if instant.tzinfo is None:
        raise Unfit("bad-time")
    since = instant - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000


class Resends:
    """The requests of one uplink, served one after the other. They outlive the connection, not the process."""

    def __init__(self, read: Read, head: Callable[[str], int]) -> None:
        self._read = read
        self._head = head
        self._waiting: deque[Request] = deque()
        self._next = 0
        """The position at which the request under way goes on, 0 before it has begun."""
        self._asked = asyncio.Event()
        self.repeated = 0

    def ask(self, request: Request) -> None:
        """Take a request. Raises Unfit where too many wait."""
        if len(self._waiting) >= MOST_WAITING:
            raise Unfit("too-many")
        self._waiting.append(request)
        self._asked.set()

    async def run(self, send: Send) -> None:
        """Serve requests over one session; what is not finished goes on over the next. `send` tells of success."""
        while True:
            while self._waiting:
                try:
                    await self._serve(self._waiting[0], send)
                except BufferFault:  # told by the recorder; the store is opened again with the next commit
                    await asyncio.sleep(UNREADABLE_S)
                    continue
                self._waiting.popleft()
                self._next = 0
            self._asked.clear()
            await self._asked.wait()

    async def _serve(self, request: Request, send: Send) -> None:
        head = self._head(request.stream)
        if not self._next:
            self._next = await seek(self._read, request.stream, head, request.first)
        while self._next <= head:
            last = min(head, self._next + READ_BLOCKS - 1)
            reading = await self._read(request.stream, self._next, last, READ_BYTES)
            for kept in reading.blocks:
                header = read_header(kept.block.envelope)
                if header.seq > request.last:
                    return
                if request.belongs(header) and await send(kept):
                    self.repeated += 1
                self._next = kept.position + 1
            self._next = max(self._next, _behind(reading, last))
            await asyncio.sleep(TURN_S)


def _behind(reading: Reading, last: int) -> int:
    """Give the position at which to go on: nothing at all means that nothing stands there any more."""
    gone = (*reading.damaged, *reading.lost)
    if reading.blocks:
        return max(reading.blocks[-1].position, *gone, 0) + 1
    return max(gone, default=last) + 1
