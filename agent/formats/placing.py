"""Placing moments for the formats: the timelines of this station's own chains, kept while it runs.

What is always true here:

- Each stream's headers, and the events that tell of the clock, are noted in the order of its chain: first all that is
  stored, then each commit before any uplink hears of it.
- A moment is placed by the stream that bounds it best. A boot of which only brackets are known has no time here.
- A boot is final when it is not the present one and everything stored has been noted; before that nobody may say that
  its time will never be known.

The composition root and the uplinks enter.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence

from agent.keeper import Kept
from agent.recorder import Recorder
from buffer.block import KIND_EVENTS, read_header
from buffer.errors import BlockInvalid, BufferFault
from buffer.timeline import Placed, Timeline
from buffer.verify import payload_of

READ_BLOCKS = 256
READ_BYTES = 512_000
UNREADABLE_PAUSE_S = 2.0


class ChainPlacer:
    """Places moments by what the chains say. `boot_id` is the present boot's."""

    def __init__(self, boot_id: bytes) -> None:
        self._boot_id = boot_id
        self._timelines: dict[str, Timeline] = {}
        self._next: dict[str, int] = {}
        self._all_read = False

    async def run(self, recorder: Recorder, streams: Iterable[str]) -> None:
        """Note all that is stored; from then on every commit is noted as it is made."""
        self._timelines = {stream: Timeline() for stream in streams}
        self._next = dict.fromkeys(self._timelines, 1)
        recorder.listeners.insert(0, self.committed)
        while behind := [stream for stream, position in self._next.items() if position <= recorder.head(stream)]:
            for stream in behind:
                await self._read(recorder, stream)
        self._all_read = True

    def committed(self, kept: Sequence[Kept]) -> None:
        """Note the blocks of a commit, unless what is stored before them was not noted yet."""
        for one in kept if self._all_read else ():
            self._note(one)

    async def _read(self, recorder: Recorder, stream: str) -> None:
        first = self._next[stream]
        try:
            reading = await recorder.read(stream, first, first + READ_BLOCKS - 1, READ_BYTES)
        except BufferFault:  # told by the recorder; the store is opened again with the next commit
            await asyncio.sleep(UNREADABLE_PAUSE_S)
            return
        for kept in reading.blocks:
            self._note(kept)
        gone = (*reading.damaged, *reading.lost)
        if not (reading.blocks or gone):  # nothing stands there any more
            gone = (min(first + READ_BLOCKS - 1, recorder.head(stream)),)
        self._next[stream] = max(self._next[stream], *(position + 1 for position in (first - 1, *gone)))

    def _note(self, kept: Kept) -> None:
        timeline = self._timelines.setdefault(kept.stream, Timeline())  # a stream may come with a reload
        header = read_header(kept.block.envelope)
        timeline.note(header)
        if header.kind == KIND_EVENTS and kept.block.payload is not None:
            with contextlib.suppress(BlockInvalid):
                for event in payload_of(kept.block, header, ()).events:
                    timeline.note_event(event)
        self._next[kept.stream] = kept.position + 1

    def place(self, boot_id: bytes, boot_ns: int) -> tuple[int, int] | None:
        """Give UTC and its bound in nanoseconds, or None."""
        claims = (timeline.place(boot_id, boot_ns) for timeline in self._timelines.values())
        best = min((claim for claim in claims if isinstance(claim, Placed)), key=_bound, default=None)
        return None if best is None else (best.utc_ns, best.bound_ns)

    def final(self, boot_id: bytes) -> bool:
        """Say whether nothing more will be learned about a boot."""
        return boot_id != self._boot_id and self._all_read


def _bound(placed: Placed) -> int:
    return placed.bound_ns
