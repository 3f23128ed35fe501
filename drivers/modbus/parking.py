"""What a unit refuses, remembered so that it is not asked again and again. Pure: the time is passed in.

What is always true here:

- A point is parked once a question for it alone was refused for its address or its quantity. It is tried again after a
  minute, then after twice that each time, up to `retry_parked`, so that an instrument that was merely starting costs
  little, and one that will never have the register next to nothing.
- Cells between points are parked once both neighbours answered and the two together were refused: the hole between
  them, or where there is none the seam (a hole of width 0). They are tried again after `retry_parked`.
- Where a search had to stop for want of time, a seam holds until the search has come to its end.
- Nothing of this outlives the process: after a restart everything is tried again.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from drivers.modbus.plan import Avoid, Span

FIRST_RETRY_NS = 60 * 10**9


@dataclass(slots=True)
class _Entry:
    exception: int
    pause_ns: int
    retry_ns: int


class Parking:
    """What one unit refuses. `version` grows when plans made with it are no longer right."""

    def __init__(self, retry_ns: int) -> None:
        self.version = 0
        self.next_ns: float = float("inf")
        """When something is to be tried again."""
        self._retry_ns = retry_ns
        self._points: dict[Span, _Entry] = {}
        self._between: dict[Avoid, _Entry] = {}
        self._searching: set[Avoid] = set()

    def refused(self, span: Span, exception: int, now_ns: int) -> None:
        """Note that a point was refused by itself."""
        known = self._points.get(span)
        pause_ns = min(2 * known.pause_ns if known else FIRST_RETRY_NS, self._retry_ns)
        self._points[span] = _Entry(exception, pause_ns, now_ns + pause_ns)
        self._changed(grown=known is None)

    def refused_between(self, left: Span, right: Span, exception: int, now_ns: int) -> None:
        """Note that two neighbours answer alone and not together."""
        gap = _gap(left, right)
        self._between[gap] = _Entry(exception, self._retry_ns, now_ns + self._retry_ns)
        self._searching.discard(gap)
        self._changed(grown=True)

    def halved(self, right: Span) -> None:
        """Note where a refused request is to be split next time, as there was no time for it now."""
        self._searching.add(Avoid(right.table, right.address, 0))
        self._changed(grown=True)

    def searched(self) -> None:
        """Note a poll in which nothing was refused: what was split for a search may be asked together again."""
        if self._searching:
            self._searching.clear()
            self._changed(grown=True)

    def answered(self, span: Span) -> None:
        """Note that a parked point answers after all."""
        if self._points.pop(span, None) is not None:
            self._changed(grown=True)

    def exception(self, span: Span) -> int:
        """Give the exception for which a point is parked; 0 where it is not."""
        entry = self._points.get(span)
        return entry.exception if entry else 0

    def due(self, spans: Iterable[Span], now_ns: int) -> Span | None:
        """Give one of these parked points that is to be tried again by now."""
        return next((span for span in spans if (entry := self._points.get(span)) and entry.retry_ns <= now_ns), None)

    def expire(self, now_ns: int) -> None:
        """Let holes and seams whose time has come be asked again with the rest."""
        over = [gap for gap, entry in self._between.items() if entry.retry_ns <= now_ns]
        for gap in over:
            del self._between[gap]
        self._changed(grown=bool(over))

    @property
    def avoid(self) -> tuple[Avoid, ...]:
        """What no plan may read: parked points and holes, and seams."""
        return (*self._points, *self._between, *self._searching)

    def held(self) -> tuple[tuple[Span, int], ...]:
        """Give everything that is parked, with the exception that it drew, in order of address."""
        known = {**self._points, **self._between}
        return tuple((span, known[span].exception) for span in sorted(known))

    def _changed(self, *, grown: bool) -> None:
        self.version += grown
        entries = (*self._points.values(), *self._between.values())
        self.next_ns = min((entry.retry_ns for entry in entries), default=float("inf"))


def _gap(left: Span, right: Span) -> Avoid:
    if left.end < right.address:
        return Avoid(left.table, left.end, right.address - left.end)
    return Avoid(right.table, right.address, 0)
