"""The branch: blocks that are in memory only, sealed while the store cannot commit.

What is always true here:

- It goes on from the last block that was sealed for a commit, also where that commit failed: such blocks are
  *doubtful*, since a commit of which the synchronisation alone failed may be in the file after all. They are not
  flagged volatile, so nobody is shown them before it is decided; they are never sealed again, and never thrown away.
  So whatever the file turns out to hold is a beginning of the branch, what is missing in it can be adopted as it is,
  and no number is used for two blocks, no reading stands in the chain twice.
- All other blocks are of one epoch of its own and flagged volatile: those may be sent.
- What housekeeping planned for the commit in doubt is told in the doubtful blocks, so it is done when they are adopted.
- If the process ends first, the store goes on from what it has, and the branch is abandoned (FORMAT.md, section 4).

`agent.keeper` enters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.kept import Kept
from buffer.changes import Change
from buffer.columnar import Definitions
from buffer.seal import Batch, Head, Sealed, Sealer


class Doubt(NamedTuple):
    """A commit that failed and may be in the file after all: of which batches, and what was to be done with it."""

    batches: Mapping[str, Batch]
    sealed: tuple[Sealed, ...]
    changes: tuple[Change, ...]


@dataclass(slots=True)
class Branch:
    """`heads` are the last blocks sealed, in the store or not; `doubtful` those of the commit that failed."""

    sealer: Sealer
    heads: dict[str, Head]
    doubtful: tuple[Sealed, ...] = ()
    changes: tuple[Change, ...] = ()
    """What the doubtful blocks tell of."""
    _definitions: dict[str, Definitions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Go on behind the doubtful blocks."""
        for sealed in self.doubtful:
            self._grow(sealed)

    def grow(self, group: Sequence[Sealed]) -> tuple[Kept, ...]:
        """Take what was sealed behind the last blocks; give it with its positions."""
        for sealed in group:
            self._grow(sealed)
        return kept_of(group)

    def begins(self, stream: str) -> bool:
        """Say whether the next block of a stream is its first on the branch, and holds a `start`."""
        head = self.heads.get(stream)
        return head is None or head.epoch != self.sealer.epoch

    def beyond(self, found: Mapping[str, Head], held: Mapping[str, Sequence[Kept]]) -> list[Sealed]:
        """Give what the store lacks, where `found` are its last blocks and `held` is in memory."""
        parts = (self._beyond(stream, found.get(stream), held.get(stream, ())) for stream in self.heads)
        return [part for part in parts if part is not None]

    def owed(self, found: Mapping[str, Head]) -> tuple[Change, ...]:
        """Give what is to be done with the doubtful blocks, nothing where the store has them."""
        has_all = all(one.stream in found and found[one.stream].seq >= one.head.seq for one in self.doubtful)
        return () if has_all else self.changes

    def _grow(self, sealed: Sealed) -> None:
        self.heads[sealed.stream] = sealed.head
        if sealed.definitions is not None:
            self._definitions[sealed.stream] = sealed.definitions

    def _beyond(self, stream: str, found: Head | None, held: Sequence[Kept]) -> Sealed | None:
        tip = self.heads[stream]
        if tip == found:
            return None
        doubtful = kept_of([sealed for sealed in self.doubtful if sealed.stream == stream])
        after, prev = (0, None) if found is None else (found.seq, found.digest)
        blocks = tuple(kept.block for kept in (*doubtful, *held) if kept.position > after)
        return Sealed(stream, prev, blocks, tip, self._definitions.get(stream), 0)


def kept_of(group: Sequence[Sealed]) -> tuple[Kept, ...]:
    """Give sealed blocks with their positions, which are their numbers."""
    return tuple(
        Kept(sealed.stream, position, block, sealed.head.catalogue)
        for sealed in group
        for position, block in enumerate(sealed.blocks, start=sealed.head.seq - len(sealed.blocks) + 1)
    )


def between(low: Mapping[str, Head], found: Mapping[str, Head], high: Mapping[str, Head]) -> bool:
    """Say whether each stream ends at one of our blocks: its signature says that it is ours."""

    def seq(heads: Mapping[str, Head], stream: str) -> int:
        return heads[stream].seq if stream in heads else 0

    return all(seq(low, stream) <= seq(found, stream) <= seq(high, stream) for stream in {*found, *high})
