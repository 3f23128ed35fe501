"""The timeline: when, in UTC, a moment of boot time was, and how far off that may be.

What is always true here:

- Order comes from the chain and from boot time alone; wall time places, it never orders (B8).
- An anchor is a moment at which the wall clock was synchronised: its boot time, its wall time, its largest error. A
  boot with anchors gives a time and a bound, one without a bracket from its neighbours in the chain, or nothing.
- The bound of a moment beside the anchors is the error of the nearest plus 100 ppm of the distance to it; between two,
  both such bounds interpolated. Where anchors are honest and the crystal is within 100 ppm, the true time lies inside.
- Anchors that contradict each other by more than their bounds allow are `disputed`: nobody can say which one lied, so
  the bound grows until it covers what each of them claims.
- Memory is bounded, however long the chain: at most `MAX_ANCHORS` anchors and `MAX_BOOTS` boots. Leaving out an anchor
  widens bounds and never narrows them. Of too many boots the oldest is forgotten, and has no time then.

`FORMAT.md` gives the rule for strangers. Pure; whoever reads a chain in order enters: export, formats, verify.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from buffer.block import Header
from buffer.frame import Event

SYNCHRONISED = "synchronised"
ANCHOR_EVENTS = ("clock-synchronised", "clock-held")
DRIFT_PPM = 100
SPACING_NS = 600 * 10**9
"""Anchors that agree and lie closer than this are not all kept."""
MAX_ANCHORS = 16_384
MAX_BOOTS = 4_096
ANCHORS_A_BOOT = 2_048

_MILLION = 10**6


class Anchor(NamedTuple):
    """A moment at which wall time is known: wall = boot + offset, within `max_error_ns`."""

    boot_ns: int
    offset_ns: int
    max_error_ns: int
    disputed: bool = False
    """True where it covers others that contradicted it."""

    def bound_ns(self, boot_ns: int) -> int:
        """Give how far off the offset may be at another moment."""
        return self.max_error_ns + _drift(abs(boot_ns - self.boot_ns))

    def agrees(self, other: "Anchor") -> bool:
        """Say whether both can be true."""
        return abs(self.offset_ns - other.offset_ns) <= self.bound_ns(other.boot_ns) + other.max_error_ns

    def belongs_with(self, other: "Anchor") -> bool:
        """Say whether a neighbour tells the same story; one that covers a contradiction stands alone."""
        return not self.disputed and not other.disputed and self.agrees(other)


class Placed(NamedTuple):
    """The true time lies within `bound_ns` of `utc_ns` (since 1970-01-01T00:00Z), if what was believed was true.

    `disputed` says that anchors contradict each other; the bound covers all of them.
    """

    utc_ns: int
    bound_ns: int
    disputed: bool = False


class Bracket(NamedTuple):
    """All that is known of a boot that was never synchronised. One side may be unknown, not both."""

    not_before_ns: int | None
    not_after_ns: int | None


class Dispute(NamedTuple):
    """Two neighbouring anchors of one boot that cannot both be true; the same twice where one covers such a pair."""

    boot_id: bytes
    before: Anchor
    after: Anchor


@dataclass(slots=True)
class _Boot:
    """One boot: the first and last moment seen in the chain, and its anchors by boot time, then offset, then error."""

    number: int
    first_ns: int
    last_ns: int
    anchors: list[Anchor] = field(default_factory=list)
    breaks: list[int] | None = None
    """Where a run of anchors that agree with their neighbours begins; made when asked."""
    spacing_ns: int = 0
    """How close anchors may still be: after thinning new ones come no denser than the old ones were left."""

    def saw(self, first_ns: int, last_ns: int) -> None:
        self.first_ns = min(self.first_ns, first_ns)
        self.last_ns = max(self.last_ns, last_ns)

    def add(self, anchor: Anchor) -> None:
        """Keep an anchor, unless those beside it say the same."""
        self.breaks = None
        anchors = self.anchors
        at = bisect_left(anchors, anchor)
        if at < len(anchors):
            if anchors[at] != anchor and (at == 0 or not _dense(anchors[at - 1], anchor, anchors[at])):
                insort(anchors, anchor)
        elif len(anchors) > 1 and _dense(anchors[-2], anchors[-1], anchor):
            anchors[-1] = anchor
        elif len(anchors) > 1 and anchor.boot_ns - anchors[-2].boot_ns < self.spacing_ns:
            anchors[-2:] = [_covered(anchors[-2], anchors[-2], anchors[-1], anchor), anchor]
        else:
            anchors.append(anchor)

    def thin(self, most: int) -> None:
        """Leave out every second anchor until no more than so many are left, two at least."""
        while (count := len(self.anchors)) > most:
            self.breaks = None
            mean_ns = (self.anchors[-1].boot_ns - self.anchors[0].boot_ns) // count
            self.spacing_ns = 2 * max(self.spacing_ns, mean_ns)
            self.anchors = _halved(self.anchors)

    def runs(self) -> list[tuple[Anchor, Anchor]]:
        """Give first and last of each run of anchors that agree with their neighbours."""
        if self.breaks is None:
            pairs = enumerate(pairwise(self.anchors), 1)
            self.breaks = [0, *(at for at, (one, following) in pairs if not one.belongs_with(following))]
        ends = [*(at - 1 for at in self.breaks[1:]), len(self.anchors) - 1]
        return [(self.anchors[first], self.anchors[last]) for first, last in zip(self.breaks, ends, strict=True)]

    def claim(self, boot_ns: int) -> Placed:
        """Place a moment by this boot's own anchors. There must be one."""
        at = bisect_right(self.anchors, boot_ns, key=_when)
        beside = self.anchors[max(at - 1, 0) : at + 1]
        placed = _between(beside, boot_ns)
        disputed = any(anchor.disputed for anchor in beside)
        if len(runs := self.runs()) == 1:
            return placed._replace(disputed=disputed)
        for first, last in runs:
            nearest = last if last.boot_ns <= boot_ns else first
            if nearest is last or first.boot_ns > boot_ns:
                placed = _covering(placed, nearest, boot_ns)
        return placed._replace(disputed=True)


class Timeline:
    """What a chain says of time. Note its headers and their events in order, then place moments."""

    def __init__(self) -> None:
        self._boots: dict[bytes, _Boot] = {}
        self._now: tuple[bytes, _Boot] | None = None
        self._count = 0
        self._kept = 0
        self._cap = ANCHORS_A_BOOT
        self._edges: dict[bytes, tuple[int | None, int | None]] = {}
        self.forgotten = 0
        """Boots that are not remembered any more."""

    def note(self, header: Header) -> None:
        """Take a proven header, in the order of its chain. One that says `synchronised` with an error is an anchor."""
        moments = (header.boot_ns, *(header.interval or ()))
        first_ns, last_ns = min(moments), max(moments)
        boot = self._boots.get(header.boot_id)
        if boot is None:
            boot = self._boots[header.boot_id] = _Boot(self._count, first_ns, last_ns)
            self._count += 1
            self._forget()
        boot.saw(first_ns, last_ns)
        self._now = header.boot_id, boot
        self._edges.clear()
        quality, max_error_ns, _ = header.clock
        if quality == SYNCHRONISED and max_error_ns is not None:
            self._anchor(boot, Anchor(header.boot_ns, header.wall_ns - header.boot_ns, max_error_ns))

    def note_event(self, event: Event) -> None:
        """Take an event of the block whose header was noted last. What is no sound anchor is passed over."""
        if self._now is None or event.type not in ANCHOR_EVENTS:
            return
        data = dict(event.data)
        match data.get("boot_ns"), data.get("wall_ns"), data.get("max_error_ns"):
            case (int(boot_ns), int(wall_ns), int(max_error_ns)) as numbers if max_error_ns >= 0:
                if bool in map(type, numbers):
                    return
                self._edges.clear()
                self._anchor(self._now[1], Anchor(boot_ns, wall_ns - boot_ns, max_error_ns))

    def place(self, boot_id: bytes, boot_ns: int) -> Placed | Bracket | None:
        """Say when a moment was. None where the chain says nothing of it."""
        boot = self._boots.get(boot_id)
        if boot is None:
            return None
        early_ns, late_ns = self._bracket(boot_id, boot, boot_ns)
        if boot.anchors:
            return _in_order(boot.claim(boot_ns), early_ns, late_ns)
        return None if early_ns is None and late_ns is None else Bracket(early_ns, late_ns)

    def disputes(self) -> Iterator[Dispute]:
        """Name the anchors that contradict each other, boot by boot."""
        for boot_id, boot in self._boots.items():
            yield from (Dispute(boot_id, anchor, anchor) for anchor in boot.anchors if anchor.disputed)
            runs = boot.runs() if boot.anchors else []
            for (_, before), (after, _) in pairwise(runs):
                if not before.agrees(after):
                    yield Dispute(boot_id, before, after)

    def _anchor(self, boot: _Boot, anchor: Anchor) -> None:
        self._kept -= len(boot.anchors)
        boot.add(anchor)
        boot.thin(self._cap)
        self._kept += len(boot.anchors)
        while self._kept > MAX_ANCHORS:
            self._cap //= 2
            for one in self._boots.values():
                one.thin(self._cap)
            self._kept = sum(len(one.anchors) for one in self._boots.values())

    def _forget(self) -> None:
        while len(self._boots) > MAX_BOOTS:
            self._kept -= len(self._boots.pop(next(iter(self._boots))).anchors)
            self.forgotten += 1

    def _bracket(self, boot_id: bytes, boot: _Boot, boot_ns: int) -> tuple[int | None, int | None]:
        """Give the earliest and latest time that the boots before and after leave to a moment."""
        if boot_id not in self._edges:
            self._edges[boot_id] = self._before(boot), self._after(boot)
        before_ns, after_ns = self._edges[boot_id]
        return (
            None if before_ns is None else before_ns + _at_least(boot_ns - boot.first_ns),
            None if after_ns is None else after_ns - _at_least(boot.last_ns - boot_ns),
        )

    def _before(self, boot: _Boot) -> int | None:
        """Give the earliest time of a boot's first moment: after the last one of the boots before."""
        since_ns = 0
        for earlier in self._from(boot, -1):
            if earlier.anchors:
                utc_ns, bound_ns, _ = earlier.claim(earlier.last_ns)
                return utc_ns - bound_ns + since_ns
            since_ns += _at_least(earlier.last_ns - earlier.first_ns)
        return None

    def _after(self, boot: _Boot) -> int | None:
        """Give the latest time of a boot's last moment: before the first one of the boots after."""
        until_ns = 0
        for later in self._from(boot, 1):
            if later.anchors:
                utc_ns, bound_ns, _ = later.claim(later.first_ns)
                return utc_ns + bound_ns - until_ns
            until_ns += _at_least(later.last_ns - later.first_ns)
        return None

    def _from(self, boot: _Boot, step: int) -> Iterator[_Boot]:
        order = list(self._boots.values())
        at = boot.number - order[0].number + step
        while 0 <= at < len(order):
            yield order[at]
            at += step


_when = attrgetter("boot_ns")


def _drift(distance_ns: int) -> int:
    """Give 100 ppm of a distance, rounded up."""
    return -(-distance_ns * DRIFT_PPM // _MILLION)


def _at_least(elapsed_ns: int) -> int:
    """Give the least true time in which so much boot time may pass."""
    return elapsed_ns - _drift(abs(elapsed_ns))


def _dense(before: Anchor, middle: Anchor, after: Anchor) -> bool:
    """Say whether the middle one of three may be left out without loss."""
    near = after.boot_ns - before.boot_ns < SPACING_NS
    return near and not middle.disputed and before.agrees(after) and _told(before, middle, after)


def _told(before: Anchor, middle: Anchor, after: Anchor) -> bool:
    """Say whether two anchors agree with the one between them, and are no surer of its moment than it is itself."""
    agreed = before.agrees(middle) and middle.agrees(after)
    return agreed and middle.max_error_ns <= _between([before, after], middle.boot_ns).bound_ns


def _halved(anchors: list[Anchor]) -> list[Anchor]:
    """Leave out every second anchor but the ends; what the others do not tell is covered by the one before it."""
    kept = [anchors[0]]
    for at, anchor in enumerate(anchors[1:-1], 1):
        if at % 2 == 0:
            kept.append(anchor)
        else:
            kept[-1] = _covered(kept[-1], *anchors[at - 1 : at + 2])
    return [*kept, anchors[-1]]


def _covered(kept: Anchor, before: Anchor, left_out: Anchor, after: Anchor) -> Anchor:
    """Give what must be kept instead of the middle one of three: the same, if these two tell what it told."""
    told = not left_out.disputed and _told(before, left_out, after)
    return kept if told else _absorbing(kept, left_out)


def _absorbing(anchor: Anchor, other: Anchor) -> Anchor:
    """Widen an anchor until it covers another."""
    reach_ns = abs(other.offset_ns - anchor.offset_ns) + other.bound_ns(anchor.boot_ns)
    disputed = anchor.disputed or other.disputed or not anchor.agrees(other)
    return anchor._replace(max_error_ns=max(anchor.max_error_ns, reach_ns), disputed=disputed)


def _between(beside: list[Anchor], boot_ns: int) -> Placed:
    """Place a moment by the one or two anchors beside it; by the nearer of two that disagree."""
    first, last = beside[0], beside[-1]
    since_ns, length_ns = boot_ns - first.boot_ns, last.boot_ns - first.boot_ns
    if length_ns == 0:
        return Placed(boot_ns + first.offset_ns, first.bound_ns(boot_ns))
    if not first.agrees(last):
        nearest = first if 2 * since_ns <= length_ns else last
        return Placed(boot_ns + nearest.offset_ns, nearest.bound_ns(boot_ns))
    offset_ns = first.offset_ns + (last.offset_ns - first.offset_ns) * since_ns // length_ns
    weighed = first.bound_ns(boot_ns) * (length_ns - since_ns) + last.bound_ns(boot_ns) * since_ns
    return Placed(boot_ns + offset_ns, -(-weighed // length_ns) + 1)


def _covering(placed: Placed, anchor: Anchor, boot_ns: int) -> Placed:
    """Widen the bound until it covers what an anchor claims."""
    reach_ns = abs(boot_ns + anchor.offset_ns - placed.utc_ns) + anchor.bound_ns(boot_ns)
    return placed._replace(bound_ns=max(placed.bound_ns, reach_ns))


def _in_order(placed: Placed, early_ns: int | None, late_ns: int | None) -> Placed:
    """Widen the bound where a boot's own anchors contradict the order of the boots."""
    utc_ns, bound_ns, _ = placed
    early = early_ns is not None and utc_ns + bound_ns < early_ns
    late = late_ns is not None and utc_ns - bound_ns > late_ns
    if not early and not late:
        return placed
    reach_ns = max(abs(edge - utc_ns) for edge in (early_ns, late_ns) if edge is not None)
    return Placed(utc_ns, max(bound_ns, reach_ns), disputed=True)
