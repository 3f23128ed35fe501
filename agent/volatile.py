"""What is sealed while the store cannot commit, and how long that has been so.

What is always true here:

- The ring holds at most `RING_BYTES` of volatile blocks, about an hour of a large station. What no longer fits goes in
  this order: readings that every uplink has acknowledged, other readings, oldest first; then what explains them.
- What went is counted by stream until an event `lost` has named it: once each, and nothing that the store turns out to
  have after a commit in doubt. The blocks that name it may stand beyond the bound until the store has them; where one
  goes after all, what it named is untold again.
- A fault that a retry mends makes no volatile epoch: the store must have failed for `VOLATILE_AFTER_S`, or as much
  must wait as may wait. A `buffer_error` stands in `status` from the first failure on.

Only the recorder enters, from the event loop.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.kept import VOLATILE, Kept, Reading
from buffer.block import KIND_DATA, read_header
from buffer.intervals import Intervals
from buffer.store import Absence

RING_BYTES = 16 << 20
VOLATILE_AFTER_S = 5.0
"""Shorter than the ten seconds within which an alarm stands in the logbook; long enough for four retries."""
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 10.0
NS_PER_S = 10**9

Delivered = Callable[[str, int], bool]
"""Says whether every uplink that carries a stream has acknowledged a position."""


@dataclass(slots=True)
class Outage:
    """Since when the store has failed, and when it is tried again."""

    since_ns: int | None = None
    next_ns: int = 0
    pause_s: float = field(default_factory=lambda: FIRST_RETRY_S)

    def failed(self, now_ns: int) -> None:
        """Note a failed attempt; the next one is later each time."""
        self.since_ns = now_ns if self.since_ns is None else self.since_ns
        self.next_ns = now_ns + int(self.pause_s * NS_PER_S)
        self.pause_s = min(2 * self.pause_s, LONGEST_RETRY_S)

    def over(self) -> None:
        """Note that a commit has worked."""
        self.since_ns, self.pause_s = None, FIRST_RETRY_S

    def lasts(self, now_ns: int) -> bool:
        """Say whether this is no small fault any more."""
        return self.since_ns is not None and now_ns - self.since_ns >= VOLATILE_AFTER_S * NS_PER_S


class Lost(NamedTuple):
    """Blocks for which there was no room: between which numbers, how many, and their readings."""

    first: int
    last: int
    blocks: int
    readings: int

    def __or__(self, other: "Lost") -> "Lost":
        """Count two together."""
        blocks, readings = self.blocks + other.blocks, self.readings + other.readings
        return Lost(min(self.first, other.first), max(self.last, other.last), blocks, readings)


class _Entry(NamedTuple):
    kept: Kept
    kind: int
    readings: int


@dataclass(slots=True)
class Ring:
    """Volatile blocks, bounded in bytes. `gone` are the positions for which there was no room, by stream."""

    limit: int = RING_BYTES
    size: int = 0
    gone: dict[str, Intervals] = field(default_factory=dict)
    _entries: OrderedDict[tuple[str, int], _Entry] = field(default_factory=OrderedDict)
    _tried: dict[str, int] = field(default_factory=dict)
    _untold: dict[tuple[str, bool], Lost] = field(default_factory=dict)
    _naming: dict[tuple[str, int], Lost] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the blocks."""
        return len(self._entries)

    def add(self, kept: Iterable[Kept], delivered: Delivered) -> None:
        """Take blocks just sealed; make room for them."""
        self._take(kept)
        if self.size > self.limit:
            self._make_room(self.limit - self.limit // 16, delivered)

    def add_naming(self, kept: Iterable[Kept], lost: dict[str, Lost]) -> None:
        """Take the blocks that name what went, however full it is: what went for their sake would not be named."""
        last = {one.stream: one.position for one in kept}
        self._naming.update({(stream, last[stream]): one for stream, one in lost.items()})
        self._take(kept)

    def _take(self, kept: Iterable[Kept]) -> None:
        for one in kept:
            header = read_header(one.block.envelope)
            self._entries[one.stream, one.position] = _Entry(one, header.kind, header.readings)
            self.size += one.block.size

    def _make_room(self, upto: int, delivered: Delivered) -> None:
        """Let go until so many bytes are left; a little at a time would mean looking at all of them each time."""
        orders: tuple[Callable[[_Entry], bool], ...] = (
            lambda one: one.kind == KIND_DATA and delivered(one.kept.stream, one.kept.position),
            lambda one: one.kind == KIND_DATA,
            lambda _: True,
        )
        for goes in orders:
            for entry in tuple(self._entries.values()):
                if self.size <= upto:
                    return
                if goes(entry):
                    self._drop(entry)

    def _drop(self, entry: _Entry) -> None:
        stream, position = entry.kept.stream, entry.kept.position
        del self._entries[stream, position]
        self.size -= entry.kept.block.size
        self.gone.setdefault(stream, Intervals()).add(position)
        key = stream, position <= self._tried.get(stream, 0)
        lost = Lost(position, position, 1, entry.readings)
        named = self._naming.pop((stream, position), None)
        lost = lost if named is None else lost | named
        self._untold[key] = self._untold[key] | lost if key in self._untold else lost

    def get(self, stream: str, position: int) -> Kept | None:
        """Give a block, if it is here."""
        entry = self._entries.get((stream, position))
        return None if entry is None else entry.kept

    def read(self, stream: str, first: int, last: int, max_bytes: int) -> Reading:
        """Give what is here of a range, at least one block, then up to so many bytes; and what went before them."""
        blocks: list[Kept] = []
        lost: list[Absence] = []
        gone = self.gone.get(stream, Intervals())
        for position in range(first, last + 1):
            if (kept := self.get(stream, position)) is not None:
                max_bytes -= kept.block.size
                if max_bytes < 0 and blocks:
                    break
                blocks.append(kept)
            elif position in gone:
                lost.append(Absence(position, position, VOLATILE))
        return Reading(tuple(blocks), (), tuple(lost))

    def held(self) -> dict[str, list[Kept]]:
        """Give all blocks by stream, in order."""
        found: dict[str, list[Kept]] = {}
        for entry in self._entries.values():
            found.setdefault(entry.kept.stream, []).append(entry.kept)
        return found

    def tried(self) -> None:
        """Note that everything here was given to a commit that failed, and may be in the store after all."""
        self._tried = {stream: kept[-1].position for stream, kept in self.held().items()}

    def take_lost(self, heads: dict[str, int]) -> dict[str, Lost]:
        """Give what went and was not told yet, now that the last positions in the store are known for certain."""
        found: dict[str, Lost] = {}
        for (stream, was_tried), lost in self._untold.items():
            if not (was_tried and heads.get(stream, 0) >= self._tried[stream]):
                found[stream] = found[stream] | lost if stream in found else lost
        self._untold.clear()
        self._tried.clear()
        return found

    def clear(self) -> None:
        """Let go of everything: the store has it."""
        self._entries.clear()
        self._tried.clear()
        self._naming.clear()
        self.size = 0
