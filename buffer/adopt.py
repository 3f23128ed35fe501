"""Where blocks belong that were sealed in memory while the store could not commit.

What is always true here:

- A block keeps the number it was signed with, and that number is its position.
- Numbers grow from the stream's last block on. Of two neighbours by number the later names the earlier; where numbers
  are missing, blocks had no room in memory, and an event further on says so.

Pure. `buffer.store` enters.
"""

from buffer.block import Block, read_header
from buffer.seal import Head, Sealed


def place(head: Head | None, branch: Sealed) -> tuple[tuple[int, Block], ...]:
    """Give the blocks of a branch with their positions behind `head`. Raises ValueError where they do not follow it."""
    seq, digest = (0, None) if head is None else (head.seq, head.digest)
    placed = []
    for block in branch.blocks:
        header = read_header(block.envelope)
        follows = header.seq > seq and (header.seq > seq + 1 or header.prev == digest)
        if header.stream != branch.stream or not follows:
            raise ValueError(f"block {header.seq} of stream {header.stream} does not follow {branch.stream} {seq}")
        seq, digest = header.seq, block.digest
        placed.append((seq, block))
    if digest != branch.head.digest:
        raise ValueError(f"the branch of stream {branch.stream} does not end with its head")
    return tuple(placed)
