"""Which block an uplink sends next: fresh ones first, the backlog beside them.

What is always true here:

- A position is pending, in flight, landed (it waits for the platform's word), parked (it cannot be carried) or settled
  (acknowledged); in flight once at a time.
- Blocks committed while the session lasts are fresh; all others are backlog, oldest or newest first, streams in turn.
- The fresh lane is bounded: what overflows it is backlog again, never lost.
- What comes back from a lost session or a refusal is pending again; what has landed stays so.
- The settled intervals are shared with whoever gave them: what is added there is no longer offered.

Pure: it holds positions, not blocks.
"""

from collections import deque
from collections.abc import Container, Mapping

from buffer.intervals import Intervals

FRESH_BLOCKS = 256


class _Stream:
    """The positions of one stream: 1..head, of which `settled` are done and `taken` are on their way."""

    def __init__(self, settled: Intervals, head: int, *, newest_first: bool) -> None:
        self.settled = settled
        self.head = head
        self.newest_first = newest_first
        self.taken: set[int] = set()
        self.landed: set[int] = set()
        self.parked: dict[str, Intervals] = {}
        """By reason: an outage may have lost a million blocks in a row."""
        self.low = 1
        self.high = head
        """Outside of low..high no position is pending, except those in the fresh lane."""

    def next_run(self, most: int) -> range:
        """Give the next run of pending positions in ascending order, at most so many; from the end asked for."""
        gaps = self.settled.gaps(self.low, min(self.high, self.head))
        for first, last in reversed(gaps) if self.newest_first else gaps:
            if run := self._from_top(first, last, most) if self.newest_first else self._from_below(first, last, most):
                return run
        return range(0)

    def _from_below(self, first: int, last: int, most: int) -> range:
        while first <= last and self._busy(first):
            first += 1
        self.low = first
        end = first
        while end <= last and end - first < most and not self._busy(end):
            end += 1
        return range(first, end)

    def _from_top(self, first: int, last: int, most: int) -> range:
        while first <= last and self._busy(last):
            last -= 1
        self.high = last
        begin = last
        while begin >= first and last - begin < most and not self._busy(begin):
            begin -= 1
        return range(begin + 1, last + 1)

    def _busy(self, position: int) -> bool:
        waits = position in self.taken or position in self.landed
        return waits or any(position in positions for positions in self.parked.values())

    def reopen(self, position: int) -> None:
        self.low = min(self.low, position)
        self.high = max(self.high, position)


class Lanes:
    """The lanes of one uplink over its streams."""

    def __init__(self, streams: Mapping[str, tuple[Intervals, int]], *, newest_first: bool = False) -> None:
        self._streams = {
            name: _Stream(settled, head, newest_first=newest_first) for name, (settled, head) in streams.items()
        }
        self._turns = deque(self._streams)
        self._fresh: deque[tuple[str, int]] = deque()
        self.newest_first = newest_first

    def committed(self, stream: str, position: int, *, fresh: bool) -> None:
        """Note a block committed just now; without a session there is no fresh lane."""
        lane = self._streams[stream]
        if position > lane.head + 1:  # committed, or sealed in memory, before anybody told of it
            lane.reopen(lane.head + 1)
            lane.reopen(position - 1)
        lane.head = max(lane.head, position)
        if not fresh:
            lane.reopen(position)
            return
        lane.taken.add(position)
        self._fresh.append((stream, position))
        if len(self._fresh) > FRESH_BLOCKS:
            self.give_back(*self._fresh.popleft())

    def take_fresh(self, stopped: Container[str] = ()) -> tuple[str, int] | None:
        """Take the oldest fresh block of a stream that is not stopped; it is in flight from here on."""
        for index, (stream, position) in enumerate(self._fresh):
            if stream not in stopped:
                del self._fresh[index]
                return stream, position
        return None

    def take_backlog(self, most: int, stopped: Container[str] = ()) -> tuple[str, range] | None:
        """Take the next run of the backlog, at most so many blocks of one stream; all are in flight from here on."""
        for _ in range(len(self._turns)):
            stream = self._turns[0]
            self._turns.rotate(-1)
            if stream not in stopped and (run := self._streams[stream].next_run(most)):
                self._streams[stream].taken.update(run)
                return stream, run
        return None

    def settle(self, stream: str, position: int) -> None:
        """Note that a block is acknowledged and no longer this uplink's concern.

        The caller has added it to the settled intervals it gave.
        """
        lane = self._streams[stream]
        lane.taken.discard(position)
        lane.landed.discard(position)

    def land(self, stream: str, position: int) -> None:
        """Note that the broker took a block that the platform has yet to confirm."""
        lane = self._streams[stream]
        lane.taken.discard(position)
        lane.landed.add(position)

    def park(self, stream: str, position: int, reason: str) -> None:
        """Set a block aside that cannot be carried; it is never settled."""
        lane = self._streams[stream]
        lane.taken.discard(position)
        lane.parked.setdefault(reason, Intervals()).add(position)

    def unpark(self, reason: str) -> dict[str, int]:
        """Make pending again what was set aside for a reason that is gone; count it by stream."""
        freed: dict[str, int] = {}
        for stream, lane in self._streams.items():
            positions = lane.parked.pop(reason, Intervals())
            for first, last in positions:
                lane.reopen(first)
                lane.reopen(last)
            if positions:
                freed[stream] = positions.count()
        return freed

    def give_back(self, stream: str, position: int) -> None:
        """Make a block in flight, or one that has landed, pending again."""
        lane = self._streams[stream]
        lane.taken.discard(position)
        lane.landed.discard(position)
        lane.reopen(position)

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
