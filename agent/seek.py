"""Finding a block by its sequence number, which is its position, always."""

from collections.abc import Awaitable, Callable

from agent.kept import Kept, Reading

Read = Callable[[str, int, int, int], Awaitable[Reading]]
"""Reads proven blocks of a stream from a position to another, about so many bytes; raises what the store raises."""


async def block_of(read: Read, stream: str, head: int, seq: int) -> Kept | None:
    """Give the block of a sequence number, None where it is not kept."""
    if not 0 < seq <= head:
        return None
    return next(iter((await read(stream, seq, seq, 1)).blocks), None)
