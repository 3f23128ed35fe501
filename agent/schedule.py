"""When which group is due: absolute ticks, earliest deadline first.

What is always true here:

- A tick stands at a whole multiple of its interval in boot time, except the first, which is now.
- A tick's deadline is the next tick of the same group; among those due, the earliest deadline goes first, so a slow
  instrument cannot starve a fast one.
- A tick may be put once behind all others that are due; what becomes due later goes by its deadline.
- A tick that has passed while another was served is counted as missed, never replayed.
- Seals stand on the same grid, one at each place: as soon as all that was asked has come, or a little behind it.

Pure: time is passed in.
"""

import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple

SEAL_LAG_NS = 100_000_000
"""So long behind the grid on which polls begin a seal waits for what they bring, which else waited for an interval."""


class Tick(NamedTuple):
    """One moment at which one group is to be polled."""

    number: int
    due_ns: int


class Schedule:
    """The ticks of the groups 0..n-1 of one link, by interval in nanoseconds."""

    def __init__(self, intervals_ns: Sequence[int], now_ns: int) -> None:
        self._intervals_ns = tuple(intervals_ns)
        self._waiting = [(now_ns, number) for number in range(len(self._intervals_ns))]
        self._due: list[tuple[int, Tick]] = []
        self._behind: set[int] = set()

    def next_due_ns(self) -> int:
        """Give the boot time of the earliest tick still to be served."""
        return self._due[0][1].due_ns if self._due else self._waiting[0][0]

    def take(self, now_ns: int) -> Tick | None:
        """Give the tick to serve now, or None while none is due. `done` must follow."""
        while self._waiting and self._waiting[0][0] <= now_ns:
            due_ns, number = heapq.heappop(self._waiting)
            heapq.heappush(self._due, (due_ns + self._intervals_ns[number], Tick(number, due_ns)))
        return heapq.heappop(self._due)[1] if self._due else None

    def put_behind(self, tick: Tick) -> bool:
        """Give a taken tick back, to be taken after all that are due now.

        Says whether it was: not where there are none, nor a second time.
        """
        if not self._due or tick.number in self._behind:
            self._behind.discard(tick.number)
            return False
        self._behind.add(tick.number)
        heapq.heappush(self._due, (max(self._due)[0] + 1, tick))
        return True

    def done(self, tick: Tick, now_ns: int) -> int:
        """Schedule the group's next tick; give how many were missed: those whose deadline has passed too."""
        interval_ns = self._intervals_ns[tick.number]
        following_ns = (tick.due_ns // interval_ns + 1) * interval_ns
        missed = max(0, (now_ns - following_ns) // interval_ns)
        heapq.heappush(self._waiting, (following_ns + missed * interval_ns, tick.number))
        return missed


class Seals:
    """When to seal. Polls that are under way are counted: `with seals:` around each."""

    def __init__(self, every_ns: int, now_ns: Callable[[], int], due: Callable[[], None]) -> None:
        self._now_ns = now_ns
        self._due = due
        self._under_way = 0
        self.every_ns = every_ns
        self.sealed()

    def sealed(self) -> None:
        """Note that all there is is being sealed; the next seal is at the next place on the grid."""
        self._place_ns = (self._now_ns() // self.every_ns + 1) * self.every_ns

    @property
    def latest_ns(self) -> int:
        """When to seal even if something that was asked has not come: one slow bus does not hold up the others."""
        return self._place_ns + min(SEAL_LAG_NS, self.every_ns // 10)

    def __enter__(self) -> None:
        """Count a poll as under way."""
        self._under_way += 1

    def __exit__(self, *_: object) -> None:
        """Count it as ended; if it was the last one of the place where the next seal stands, the seal is due."""
        self._under_way -= 1
        if not self._under_way and self._now_ns() >= self._place_ns:
            self._due()
