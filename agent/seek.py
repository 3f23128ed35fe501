"""Finding a block by its sequence number: positions are the store's own, sequence numbers are the chain's.

What is always true here: within a stream both grow together, yet one is never taken for the other; headers are asked.
"""

from collections.abc import Awaitable, Callable

from agent.keeper import Kept, Reading
from buffer.block import read_header

Read = Callable[[str, int, int, int], Awaitable[Reading]]
"""Reads proven blocks of a stream from a position to another, about so many bytes; raises what the store raises."""


async def seek(read: Read, stream: str, head: int, seq: int) -> int:
    """Give the first position whose block has this sequence number or a higher one; behind the head where none has."""
    low, high = 1, head + 1
    while low < high:
        middle = (low + high) // 2
        kept = await _first_from(read, stream, middle, head)
        if kept is not None and read_header(kept.block.envelope).seq < seq:
            low = kept.position + 1
        else:
            high = middle
    return low


async def block_of(read: Read, stream: str, head: int, seq: int) -> Kept | None:
    """Give the block of a sequence number, None where it is not kept."""
    kept = await _first_from(read, stream, await seek(read, stream, head, seq), head)
    return kept if kept is not None and read_header(kept.block.envelope).seq == seq else None


async def _first_from(read: Read, stream: str, position: int, head: int) -> Kept | None:
    while position <= head:
        reading = await read(stream, position, head, 1)
        if reading.blocks:
            return reading.blocks[0]
        if not (gone := (*reading.damaged, *reading.lost)):
            return None
        position = max(gone) + 1
    return None
