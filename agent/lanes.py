"""Which block an uplink sends next: fresh ones first, the backlog beside them.

What is always true here:

- A position is pending, in flight, parked (it cannot be carried) or settled (acknowledged); in flight once at a time.
- Blocks committed while the session lasts are fresh; all others are backlog, oldest first, streams in turn.
- The fresh lane is bounded: what overflows it is backlog again, never lost.
- What comes back from a lost session or a refusal is pending again.

Pure: it holds positions, not blocks.
"""

from collections import deque
from collections.abc import Mapping

from buffer.intervals import Intervals

FRESH_BLOCKS = 256


class _Stream:
    """The positions of one stream: 1..head, of which `settled` are done and `taken` are on their way."""

    def __init__(self, settled: Intervals, head: int) -> None:
        self.settled = settled
        self.head = head
        self.taken: set[int] = set()
        self.parked = Intervals()
        self.cursor = 0
        """No position up to here is pending, except those in the fresh lane."""

    def next_run(self, most: int) -> range:
        """Give the lowest run of pending positions, at most so many."""
        first = self.cursor + 1
        while first <= self.head and self._busy(first):
            self.cursor = first
            first += 1
        last = first
        while last < self.head and last - first + 1 < most and not self._busy(last + 1):
            last += 1
        return range(first, last + 1) if first <= self.head else range(0)

    def _busy(self, position: int) -> bool:
        return position in self.taken or position in self.settled or position in self.parked


class Lanes:
    """The lanes of one uplink over its streams."""

    def __init__(self, streams: Mapping[str, tuple[Intervals, int]]) -> None:
        self._streams = {name: _Stream(settled, head) for name, (settled, head) in streams.items()}
        self._turns = deque(self._streams)
        self._fresh: deque[tuple[str, int]] = deque()

    def committed(self, stream: str, position: int, *, fresh: bool) -> None:
        """Note a block committed just now; without a session there is no fresh lane."""
        lane = self._streams[stream]
        lane.head = position
        if not fresh:
            return
        lane.taken.add(position)
        self._fresh.append((stream, position))
        if len(self._fresh) > FRESH_BLOCKS:
            self.give_back(*self._fresh.popleft())

    def take_fresh(self) -> tuple[str, int] | None:
        """Take the oldest fresh block; it is in flight from here on."""
        return self._fresh.popleft() if self._fresh else None

    def take_backlog(self, most: int) -> tuple[str, range] | None:
        """Take the next run of the backlog, at most so many blocks of one stream; all are in flight from here on."""
        for _ in range(len(self._turns)):
            stream = self._turns[0]
            self._turns.rotate(-1)
            if run := self._streams[stream].next_run(most):
                self._streams[stream].taken.update(run)
                return stream, run
        return None

    def settle(self, stream: str, position: int) -> None:
        """Note that a block is acknowledged and no longer this uplink's concern.

        The caller has added it to the settled intervals it gave.
        """
        self._streams[stream].taken.discard(position)

    def park(self, stream: str, position: int) -> None:
        """Set a block aside that cannot be carried: it is not offered again before a restart, and never settled."""
        lane = self._streams[stream]
        lane.taken.discard(position)
        lane.parked.add(position)

    def give_back(self, stream: str, position: int) -> None:
        """Make a block in flight pending again."""
        lane = self._streams[stream]
        lane.taken.discard(position)
        lane.cursor = min(lane.cursor, position - 1)

    def give_back_all(self) -> None:
        """Make everything in flight, and everything in the fresh lane, pending again: the session is over."""
        self._fresh.clear()
        for stream, lane in self._streams.items():
            for position in tuple(lane.taken):
                self.give_back(stream, position)

    def pending(self, stream: str) -> int:
        """Count the blocks not settled yet, those in flight included."""
        lane = self._streams[stream]
        return sum(last - first + 1 for first, last in lane.settled.gaps(1, lane.head))
