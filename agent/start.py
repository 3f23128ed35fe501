"""Where a new uplink begins: with what comes from now on, with the oldest block kept, or with a day.

What is always true here:

- The start is chosen once, when the uplink's name is first seen with a stream, and kept as settled interval; position
  0, which no block has, marks that it was chosen. Changing `from` later changes nothing.
- A day is judged by the wall time in the headers, as evidence: sending begins behind the last block that was sealed
  before that day by a clock that was known. Blocks whose time is unknown are no evidence; those that stand behind
  that block are sent, rather too much than too little.
"""

from dataclasses import dataclass

from agent.keeper import Kept
from agent.seek import Read
from buffer.block import read_header
from buffer.intervals import Intervals

CHOSEN = 0
READ_BLOCKS = 32
READ_BYTES = 512_000
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Start:
    """`now`, or from a wall time on; where neither is said, the oldest."""

    now: bool = False
    wall_ns: int | None = None


OLDEST = Start()


def is_chosen(settled: Intervals) -> bool:
    """Say whether a start was chosen before, or the uplink has acknowledged something."""
    return bool(settled)


async def skipped(start: Start, stream: str, head: int, read: Read) -> int:
    """Give the position up to which a new uplink is not sent anything. Raises what the store raises."""
    if start.now:
        return head
    return 0 if start.wall_ns is None else await _last_before(start.wall_ns, stream, head, read)


async def _last_before(wall_ns: int, stream: str, head: int, read: Read) -> int:
    """Look from the newest block backwards for one that is known to be older."""
    last = head
    while last > 0:
        first = max(1, last - READ_BLOCKS + 1)
        upto = last
        for kept in reversed(await _all(stream, first, upto, read)):
            header = read_header(kept.block.envelope)
            if header.clock.quality != UNKNOWN and header.wall_ns < wall_ns:
                return kept.position
        last = first - 1
    return 0


async def _all(stream: str, first: int, last: int, read: Read) -> list[Kept]:
    found: list[Kept] = []
    while first <= last:
        reading = await read(stream, first, last, READ_BYTES)
        found += reading.blocks
        done = [*(kept.position for kept in reading.blocks), *reading.damaged, *reading.lost]
        if not done:
            break
        first = max(done) + 1
    return found
