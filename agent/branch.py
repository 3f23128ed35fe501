"""The branch: blocks that are in memory only, sealed while the store cannot commit.

What is always true here:

- It goes on from the last block that was sealed for a commit, also where that commit failed: such blocks are
  *doubtful*, since a commit of which the synchronisation alone failed may be in the file after all. They are not
  flagged volatile, so nobody is shown them before it is decided; they are never sealed again, and never thrown away.
  So whatever the file turns out to hold is a beginning of the branch, what is missing in it can be adopted as it is,
  and no number is used for two blocks, no reading stands in the chain twice.
- All other blocks are of one epoch of its own and flagged volatile: those may be sent.
- If the process ends first, the store goes on from what it has, and the branch is abandoned (FORMAT.md, section 4).

`agent.keeper` enters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from buffer.block import Block
from buffer.columnar import Definitions
from buffer.seal import Head, Sealed, Sealer

Numbered = tuple[int, Block]
"""A block and its number, which is its position."""


@dataclass(slots=True)
class Branch:
    """`heads` are the last blocks sealed, in the store or not; `doubtful` those of the commit that failed."""

    sealer: Sealer
    heads: dict[str, Head]
    doubtful: tuple[Sealed, ...]
    _definitions: dict[str, Definitions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Go on behind the doubtful blocks."""
        for sealed in self.doubtful:
            self.grow(sealed)

    def grow(self, sealed: Sealed) -> list[Numbered]:
        """Take what was sealed behind the last block; give it with its numbers."""
        self.heads[sealed.stream] = sealed.head
        if sealed.definitions is not None:
            self._definitions[sealed.stream] = sealed.definitions
        return numbered(sealed)

    def beyond(self, stream: str, found: Head | None, held: Sequence[Numbered]) -> Sealed | None:
        """Give what the store lacks of a stream, where `found` is its last block there and `held` is in memory."""
        tip = self.heads[stream]
        if tip == found:
            return None
        doubtful = [one for sealed in self.doubtful if sealed.stream == stream for one in numbered(sealed)]
        after, prev = (0, None) if found is None else (found.seq, found.digest)
        blocks = tuple(block for position, block in (*doubtful, *held) if position > after)
        return Sealed(stream, prev, blocks, tip, self._definitions.get(stream), 0)


def numbered(sealed: Sealed) -> list[Numbered]:
    """Give sealed blocks with their numbers."""
    return list(enumerate(sealed.blocks, start=sealed.head.seq - len(sealed.blocks) + 1))
