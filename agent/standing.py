"""How an uplink stands towards its platform: what waits for it, what it sent in a day, how long its certificate lasts.

What is always true here:

- A day is the last 24 hours in which the station ran, or as much of them as this run has: no wall clock ends it, and
  one that is set moves nothing.
- The age of a block is exact where it was sealed in the present boot. Of another boot it is told by the wall clocks,
  and only where both were synchronised once; else it is unknown. `by` says which.
- Days left are counted by the wall clock, and unknown while that is worth nothing; `certificate_until` stands anyway.
- The bytes of a backlog are the mean of a few of its blocks times their number.

Pure: times are passed in.
"""

import datetime as dt
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

NS_PER_S = 10**9
DAY_NS = 86_400 * NS_PER_S
SLICE_NS = 900 * NS_PER_S
"""A day is forgotten in slices of a quarter of an hour."""
WORTH = ("synchronised", "holdover")
"""Qualities of a wall clock that was right once in its boot."""


@dataclass(frozen=True, slots=True)
class Oldest:
    """The oldest block that waits: its number, and how long ago it was sealed as far as is known, and by what."""

    stream: str
    seq: int
    age_s: float | None
    by: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a look found."""

    backlog_bytes: int = 0
    oldest: Oldest | None = None
    bytes_day: int = 0
    certificate_until_ns: int | None = None
    """UTC, in nanoseconds since 1970."""
    certificate_days: int | None = None

    def document(self) -> dict[str, Any]:
        """Render as JSON."""
        return {
            "backlog_bytes": self.backlog_bytes,
            "oldest": self.oldest and asdict(self.oldest),
            "bytes_day": self.bytes_day,
            "certificate_until": self.certificate_until_ns and _utc(self.certificate_until_ns),
            "certificate_days": self.certificate_days,
        }


def _utc(t_ns: int) -> str:
    """Write a time as RFC 3339 does."""
    return dt.datetime.fromtimestamp(t_ns // NS_PER_S, dt.UTC).isoformat().replace("+00:00", "Z")


class Day:
    """Counts what a counter that only grows has grown by in the last day of running time."""

    def __init__(self) -> None:
        self._slices: deque[tuple[int, int]] = deque()

    def grown(self, now_ns: int, counter: int) -> int:
        """Note the counter; give what it grew by."""
        if not self._slices:
            self._slices.append((now_ns, 0))
        elif now_ns - self._slices[-1][0] >= SLICE_NS:
            self._slices.append((now_ns, counter))
        while len(self._slices) > 1 and now_ns - self._slices[1][0] >= DAY_NS:
            self._slices.popleft()
        return counter - self._slices[0][1]
