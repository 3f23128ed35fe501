"""Time from the headers themselves: what a station without a timeline of its own knows.

What is always true here:

- A header whose clock quality is `synchronised` is an anchor: at this boot time, that wall time, within that error.
- A moment is placed from the anchor that bounds its error best; the bound is the anchor's own plus 100 ppm of the
  distance. Where a boot has no anchor, its time is not known.
- A boot is final when it is not the present one and everything stored has been read; before that nobody may say that
  its time will never be known.
- Anchors of a boot stand at least a minute apart and are at most `MOST_ANCHORS`, of at most `MOST_BOOTS` boots.

The composition root and the uplinks enter.
"""

import asyncio
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from agent.formats.api import drift_ns
from agent.keeper import Kept
from agent.recorder import Recorder
from buffer.block import Header, read_header
from buffer.errors import BufferFault

APART_NS = 60 * 10**9
MOST_ANCHORS = 4096
MOST_BOOTS = 64
READ_BLOCKS = 256
READ_BYTES = 512_000
UNREADABLE_PAUSE_S = 2.0

_Anchor = tuple[int, int, int]
"""Boot time, wall time, error; nanoseconds."""


class HeaderPlacer:
    """Places times by the headers it was shown. `boot_id` is the present boot's."""

    def __init__(self, boot_id: bytes) -> None:
        self._boot_id = boot_id
        self._anchors: OrderedDict[bytes, list[_Anchor]] = OrderedDict()
        self._all_read = False

    def committed(self, kept: Sequence[Kept]) -> None:
        """Take the headers of a commit: a listener of the recorder."""
        for one in kept:
            self.learn(read_header(one.block.envelope))

    async def run(self, recorder: Recorder, streams: Iterable[str]) -> None:
        """Take every header that is committed from now on, then every one that is stored."""
        recorder.listeners.insert(0, self.committed)
        for stream in streams:
            await self._read_stream(recorder, stream)
        self._all_read = True

    async def _read_stream(self, recorder: Recorder, stream: str) -> None:
        position = 1
        while position <= recorder.head(stream):
            try:
                reading = await recorder.read(stream, position, position + READ_BLOCKS - 1, READ_BYTES)
            except BufferFault:
                await asyncio.sleep(UNREADABLE_PAUSE_S)
                continue
            self.committed(reading.blocks)
            position = max((*reading.damaged, *(kept.position for kept in reading.blocks), position)) + 1

    def learn(self, header: Header) -> None:
        """Take a header, in any order."""
        clock = header.clock
        if clock.quality != "synchronised" or clock.max_error_ns is None:
            return
        anchors = self._anchors.setdefault(header.boot_id, [])
        at = bisect_left(anchors, (header.boot_ns, 0, 0))
        near = anchors[max(at - 1, 0) : at + 1]
        if len(anchors) >= MOST_ANCHORS or any(abs(header.boot_ns - boot_ns) < APART_NS for boot_ns, _, _ in near):
            return
        anchors.insert(at, (header.boot_ns, header.wall_ns, clock.max_error_ns))
        if len(self._anchors) > MOST_BOOTS:
            self._anchors.popitem(last=False)

    def place(self, boot_id: bytes, boot_ns: int) -> tuple[int, int] | None:
        """Give UTC and its bound, or None."""
        anchors = self._anchors.get(boot_id)
        if not anchors:
            return None
        at = bisect_left(anchors, (boot_ns, 0, 0))
        bounds = [
            (error_ns + drift_ns(abs(boot_ns - anchor_ns)), wall_ns + boot_ns - anchor_ns)
            for anchor_ns, wall_ns, error_ns in anchors[max(at - 1, 0) : at + 1]
        ]
        bound_ns, utc_ns = min(bounds)
        return utc_ns, bound_ns

    def final(self, boot_id: bytes) -> bool:
        """Say whether nothing more will be learned about a boot."""
        return boot_id != self._boot_id and self._all_read
