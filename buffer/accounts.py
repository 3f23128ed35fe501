"""Events of account: what the station itself says of holes in a chain (FORMAT.md, sections 4 and 5).

What is always true here:

- An account counts only where it stands in a proven block of a later number than all it speaks of.
- What cannot be read, or is not as the format says, explains nothing; it is no fault of its own.
- Accounts are kept as sets of numbers by reason: memory grows with the holes, not with the events about them.

Pure. Verifiers enter.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from buffer.block import KIND_DEFINITIONS, KIND_EVENTS, Block, Header, payload_bytes
from buffer.columnar import decode_events
from buffer.errors import BlockInvalid
from buffer.frame import Event
from buffer.intervals import Intervals
from buffer.report import UNSTATED

EVICTED, DAMAGED, LOST, PRUNED = "evicted", "damaged", "lost", "pruned"


class Span(NamedTuple):
    """Consecutive numbers, and why they are gone; `reason` is None where nothing says so."""

    first: int
    last: int
    reason: str | None


class Accounts:
    """What the events of one stream say is gone."""

    def __init__(self) -> None:
        self.gone: dict[str, Intervals] = {kind: Intervals() for kind in (DAMAGED, LOST, PRUNED)}
        """Blocks that are gone, by kind of event, in the order in which a number is looked up."""
        self.evicted: dict[str, Intervals] = {}
        """Payloads that are gone, by reason."""
        self.ends: dict[int, set[bytes]] = {}
        """Of every pruning: its last number and the digest of that block, or the digests where they contradict."""

    def note(self, event: Event, seq: int) -> None:
        """Take an event that stands in the proven block `seq`."""
        data = dict(event.data)
        first, last, reason = data.get("first"), data.get("last"), data.get("reason")
        if type(first) is not int or type(last) is not int or not 0 < first <= last < seq:
            return
        if event.type == EVICTED and isinstance(reason, str):
            self.evicted.setdefault(reason, Intervals()).add_range(first, last)
        elif event.type in self.gone:
            self.gone[event.type].add_range(first, last)
        if event.type == PRUNED and isinstance(digest := data.get("digest"), bytes):
            self.ends.setdefault(last, set()).add(digest)

    def add(self, other: "Accounts") -> None:
        """Take all that another set of accounts says."""
        for mine, theirs in ((self.gone, other.gone), (self.evicted, other.evicted)):
            for reason, numbers in theirs.items():
                mine.setdefault(reason, Intervals()).update(numbers)
        for last, digests in other.ends.items():
            self.ends.setdefault(last, set()).update(digests)

    def of_gap(self, first: int, last: int) -> Iterator[Span]:
        """Divide blocks that are missing by what explains them."""
        return _divide(first, last, self.gone, None)

    def of_hole(self, first: int, last: int) -> Iterator[Span]:
        """Divide blocks without payload by why it is gone."""
        return _divide(first, last, {DAMAGED: self.gone[DAMAGED], **dict(sorted(self.evicted.items()))}, UNSTATED)


def _divide(first: int, last: int, reasons: dict[str, Intervals], otherwise: str | None) -> Iterator[Span]:
    """Cut `first`..`last` wherever the answer may change, and merge equal neighbours."""
    cuts = {first, last + 1}
    for numbers in reasons.values():
        for start, end in numbers.within(first, last):
            cuts.update((start, end + 1))
    start, before = first, _why(first, reasons, otherwise)
    for cut, _ in pairwise(sorted(cuts)):
        reason = _why(cut, reasons, otherwise)
        if reason != before:
            yield Span(start, cut - 1, before)
            start, before = cut, reason
    yield Span(start, last, before)


def _why(number: int, reasons: dict[str, Intervals], otherwise: str | None) -> str | None:
    return next((reason for reason, numbers in reasons.items() if number in numbers), otherwise)


def events_of(block: Block, header: Header) -> tuple[Event, ...]:
    """Give the events of a proven block of layouts or events; none where it holds others or cannot be read."""
    if header.kind not in (KIND_DEFINITIONS, KIND_EVENTS) or block.payload is None:
        return ()
    try:
        return decode_events(payload_bytes(block, header))
    except BlockInvalid:
        return ()
