"""A line: what a verifier knows of one branch of a stream.

What is always true here:

- Every number counts once, with the block that came first under it.
- Payloads that are gone are kept as stretches of consecutive numbers with the blocks at their ends; memory grows with
  the holes alone.

The verifier enters.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from buffer.accounts import Accounts
from buffer.block import KIND_DATA, KIND_DEFINITIONS, KIND_EVENTS, Header
from buffer.intervals import Intervals
from buffer.report import Edge, Fault
from buffer.runs import Runs, edge_of, run_of


@dataclass(slots=True)
class Tally:
    """What was proven of one epoch."""

    first: Edge
    last: Edge
    blocks: int = 0
    readings: int = 0
    evicted: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """Give both together."""
        first, last = min(self.first, other.first, key=_seq), max(self.last, other.last, key=_seq)
        counts = (self.blocks + other.blocks, self.readings + other.readings, self.evicted + other.evicted)
        return Tally(first, last, *counts)


@dataclass(slots=True)
class Stretch:
    """Consecutive blocks without their payloads."""

    first: Edge
    last: Edge
    readings: int


class Stretches:
    """Stretches of one stream, found by their ends."""

    def __init__(self) -> None:
        self._by_first: dict[int, Stretch] = {}
        self._by_last: dict[int, Stretch] = {}

    def add(self, stretch: Stretch) -> None:
        """Take a stretch that overlaps none; neighbours become one."""
        if (left := self._by_last.pop(stretch.first.seq - 1, None)) is not None:
            del self._by_first[left.first.seq]
            stretch = Stretch(left.first, stretch.last, left.readings + stretch.readings)
        if (right := self._by_first.pop(stretch.last.seq + 1, None)) is not None:
            del self._by_last[right.last.seq]
            stretch = Stretch(stretch.first, right.last, stretch.readings + right.readings)
        self._by_first[stretch.first.seq] = self._by_last[stretch.last.seq] = stretch

    def __iter__(self) -> Iterator[Stretch]:
        """Go over them, by number."""
        return iter(sorted(self._by_first.values(), key=lambda stretch: stretch.first.seq))


@dataclass(slots=True)
class Line:
    """Everything known of one branch."""

    seen: Intervals = field(default_factory=Intervals)
    runs: Runs = field(default_factory=Runs)
    epochs: dict[bytes, Tally] = field(default_factory=dict)
    holes: Stretches = field(default_factory=Stretches)
    gone: Intervals = field(default_factory=Intervals)
    """Blocks that came without their payload."""
    withheld: Intervals = field(default_factory=Intervals)
    """Those of them that hold layouts or events."""
    filled: Intervals = field(default_factory=Intervals)
    """Blocks that came without their payload first, and with it later."""
    accounts: Accounts = field(default_factory=Accounts)
    wrong: list[Fault] = field(default_factory=list)
    """Of a branch: what is wrong with its links and totals, told only if it is part of the chain."""

    def add(self, header: Header, digest: bytes, *, evicted: bool) -> list[str]:
        """Take a proven block whose number was not seen; give what is wrong with its place."""
        edge = edge_of(header)
        self.seen.add(header.seq)
        tally = self.epochs.setdefault(header.epoch, Tally(edge, edge))
        tally.first, tally.last = min(tally.first, edge, key=_seq), max(tally.last, edge, key=_seq)
        tally.blocks += 1
        tally.readings += header.readings
        if evicted:
            tally.evicted += 1
            self.gone.add(header.seq)
            if header.kind == KIND_DATA:
                self.holes.add(Stretch(edge, edge, header.readings))
            elif header.kind in (KIND_DEFINITIONS, KIND_EVENTS):
                self.withheld.add(header.seq)
        return self.runs.add(run_of(header, digest))

    def fill(self, header: Header) -> None:
        """Note that the payload of a block that was seen has come; it may have been missed before."""
        if header.seq in self.gone and header.seq not in self.filled:
            self.filled.add(header.seq)
            self.epochs[header.epoch].evicted -= 1

    def overlaps(self, other: "Line") -> bool:
        """Say whether both hold a block of one number."""
        return any(self.seen.within(first, last) for first, last in other.seen)

    def absorb(self, branch: "Line") -> list[str]:
        """Take a whole branch: it was this line all along. Gives what is wrong where they meet."""
        overlap = self.overlaps(branch)
        mine = (self.seen, self.gone, self.withheld, self.filled)
        theirs = (branch.seen, branch.gone, branch.withheld, branch.filled)
        for kept, more in zip(mine, theirs, strict=True):
            kept.update(more)
        for epoch, tally in branch.epochs.items():
            self.epochs[epoch] = tally.plus(self.epochs[epoch]) if epoch in self.epochs else tally
        self.accounts.add(branch.accounts)
        for stretch in branch.holes:
            self.holes.add(stretch)
        wrong = ["fork"] if overlap else []
        for run in branch.runs:
            wrong += self.runs.add(run)
        return wrong


def _seq(edge: Edge) -> int:
    return edge.seq
