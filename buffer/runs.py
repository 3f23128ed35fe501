"""Runs: proven stretches of a chain, in which each block names the one before, in whatever order they come.

What is always true here:

- In a run numbers grow by one and totals add up; what does not is named and joined none the less.
- A block extends a run, joins two, or begins one; so memory grows with the gaps alone.

The verifier enters.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from buffer.block import Header, Totals
from buffer.report import Edge


@dataclass(slots=True)
class Run:
    """A proven stretch. `before` are the readings before its first block, `prev` what it names, `begins` its totals."""

    prev: bytes | None
    first: Edge
    before: int
    last: Edge
    digest: bytes
    totals: Totals
    begins: Totals


def run_of(header: Header, digest: bytes) -> Run:
    """Give the run that is one block."""
    edge = edge_of(header)
    return Run(header.prev, edge, header.totals.readings - header.readings, edge, digest, header.totals, header.totals)


def edge_of(header: Header) -> Edge:
    """Give what a report says of a block next to something."""
    return Edge(header.epoch, header.seq, header.boot_id, header.boot_ns, header.wall_ns, header.interval)


class Runs:
    """The runs of one stream, found by their ends."""

    def __init__(self) -> None:
        self._tails: dict[bytes, Run] = {}
        self._fronts: dict[bytes | None, Run] = {}

    def add(self, run: Run) -> list[str]:
        """Take a run; give what is wrong where it meets its neighbours: fork, misnumbered, totals."""
        wrong = []
        if (run.prev is None) != (run.first.seq == 1) or (run.prev is None and run.before):
            wrong.append("misnumbered")
        if run.prev is not None and (left := self._tails.pop(run.prev, None)) is not None:
            wrong += _join(left, run)
            run = left
        elif self._fronts.setdefault(run.prev, run) is not run:
            wrong.append("fork")
        if (right := self._fronts.pop(run.digest, None)) is not None:
            wrong += _join(run, right)
        self._tails[run.digest] = run
        return wrong

    def ends_in(self, digest: bytes | None) -> bool:
        """Say whether a run ends in the block of this digest."""
        return digest in self._tails

    def begins_behind(self, digest: bytes) -> bool:
        """Say whether a run begins right behind the block of this digest."""
        return digest in self._fronts

    def __iter__(self) -> Iterator[Run]:
        """Go over the runs, by number."""
        return iter(sorted(self._tails.values(), key=lambda run: run.first.seq))


def _join(left: Run, right: Run) -> list[str]:
    """Make `left` reach to the end of `right`; give what does not fit."""
    wrong = [] if right.first.seq == left.last.seq + 1 else ["misnumbered"]
    if right.before != left.totals.readings or not grows(left.totals, right.totals):
        wrong.append("totals")
    left.last, left.digest, left.totals = right.last, right.digest, right.totals
    return wrong


def grows(before: Totals, after: Totals) -> bool:
    """Say whether what never shrinks did not."""
    return after.ticks_missed >= before.ticks_missed and after.readings_dropped >= before.readings_dropped
