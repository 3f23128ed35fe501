"""How good a link to a platform is: round trips, throughput while draining, losses, availability.

What is always true here:

- A round trip is from the publish of a block's bytes to the acknowledgement of all of them.
- Throughput is that of the backlog: bytes acknowledged over the time in which they kept coming. What is fresh goes at
  the pace of the instruments and says nothing of the link.
- Availability is the share of the last hour, or day, in which a session stood, of the time since the start where that
  is shorter. It is kept by the minute, on boot time.
- Watching begins with whatever is noted or asked first.
- Memory is bounded: `RING` round trips, a day of minutes.

Pure: time is passed in. The uplink writes, the station's own device reads.
"""

import math
from collections import deque
from dataclasses import dataclass

RING = 4096
NS_PER_S = 10**9
MINUTE_NS = 60 * NS_PER_S
HOUR_MINUTES = 60
DAY_MINUTES = 24 * HOUR_MINUTES
PAUSE_NS = 5 * NS_PER_S
"""Acknowledgements of the backlog further apart than this do not belong to one drain."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What was seen since the last look, and what holds now.

    Round trips in milliseconds and the drain rate in bytes a second are None where there were none; `outage_s` is how
    long the last loss of the session took, None before the first; availabilities are in percent.
    """

    up: bool
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    drain_rate: float | None
    losses: int
    cause: str
    outage_s: float | None
    hour_percent: float
    day_percent: float


class LinkQuality:
    """Watches one uplink."""

    def __init__(self) -> None:
        self._started_ns: int | None = None
        self._since_ns = 0
        self._up = False
        self._minutes: deque[tuple[int, int]] = deque(maxlen=DAY_MINUTES + 1)
        self._trips_ns: deque[int] = deque(maxlen=RING)
        self._drained = 0
        self._drain_ns = 0
        self._drain_seen_ns: int | None = None
        self._lost_ns: int | None = None
        self._outage_ns: int | None = None
        self._losses = 0
        self.cause = ""
        """Of the last loss."""

    def connected(self, now_ns: int) -> int | None:
        """Note that a session stands; give how long there was none, in nanoseconds, if one was lost before."""
        self._account(now_ns)
        self._up = True
        if self._lost_ns is None:
            return None
        self._outage_ns, self._lost_ns = now_ns - self._lost_ns, None
        return self._outage_ns

    def lost(self, now_ns: int, cause: str) -> None:
        """Note that the session is over, and why; an attempt that failed is no loss."""
        if not self._up:
            return
        self._account(now_ns)
        self._up, self._lost_ns, self.cause = False, now_ns, cause
        self._losses += 1
        self._drain_seen_ns = None

    def acknowledged(self, now_ns: int, round_trip_ns: int, size: int, *, backlog: bool) -> None:
        """Note that a block of so many bytes was acknowledged."""
        self._trips_ns.append(round_trip_ns)
        if not backlog:
            return
        if self._drain_seen_ns is not None and now_ns - self._drain_seen_ns <= PAUSE_NS:
            self._drained += size
            self._drain_ns += now_ns - self._drain_seen_ns
        self._drain_seen_ns = now_ns

    def take(self, now_ns: int) -> Quality:
        """Give what was seen, and begin anew with the round trips and the drain."""
        self._account(now_ns)
        trips = sorted(self._trips_ns)
        self._trips_ns.clear()
        drained, drain_ns, self._drained, self._drain_ns = self._drained, self._drain_ns, 0, 0
        outage_ns = self._outage_ns if self._lost_ns is None else now_ns - self._lost_ns
        return Quality(
            up=self._up,
            p50_ms=_percentile(trips, 50),
            p95_ms=_percentile(trips, 95),
            p99_ms=_percentile(trips, 99),
            drain_rate=drained * NS_PER_S / drain_ns if drain_ns else None,
            losses=self._losses,
            cause=self.cause,
            outage_s=None if outage_ns is None else outage_ns / NS_PER_S,
            hour_percent=self._availability(now_ns, HOUR_MINUTES),
            day_percent=self._availability(now_ns, DAY_MINUTES),
        )

    def _account(self, now_ns: int) -> None:
        """Give the time since the last account to the minutes it fell in."""
        if self._started_ns is None:
            self._started_ns = self._since_ns = now_ns
        start_ns = max(self._since_ns, now_ns - (DAY_MINUTES + 1) * MINUTE_NS)
        while start_ns < now_ns:
            minute = start_ns // MINUTE_NS
            end_ns = min(now_ns, (minute + 1) * MINUTE_NS)
            if not self._minutes or self._minutes[-1][0] != minute:
                self._minutes.append((minute, 0))
            if self._up:
                self._minutes[-1] = (minute, self._minutes[-1][1] + end_ns - start_ns)
            start_ns = end_ns
        self._since_ns = now_ns

    def _availability(self, now_ns: int, minutes: int) -> float:
        """Give the percentage of the last so many minutes, the present one among them."""
        first = now_ns // MINUTE_NS - minutes + 1
        known_ns = now_ns - max(self._started_ns or 0, first * MINUTE_NS)
        up_ns = sum(up for minute, up in self._minutes if minute >= first)
        return min(100.0, 100 * up_ns / known_ns) if known_ns else 0.0


def _percentile(trips: list[int], percent: int) -> float | None:
    """Give a percentile by nearest rank, in milliseconds."""
    return trips[math.ceil(len(trips) * percent / 100) - 1] / 1e6 if trips else None
