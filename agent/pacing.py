"""How fast an uplink sends: the window, the rate, and the brake on what a broker refuses.

What is always true here:

- A window opens from 1 after every connection, by one with each acknowledgement that found it full, up to what broker
  and settings allow.
- It closes again while acknowledgements take `QUEUE_S` longer than the shortest lately seen: what is sent then only
  stands in a queue before the narrowest link, and a fresh block would stand behind it.
- The backlog has `share` of the window, at least one place; a fresh block may take all of it.
- A bucket lets `rate` bytes a second pass over time; a block larger than what is left goes, and the next one waits.
- A refused stream is tried again with one block, after a pause that grows; other streams go on. Brakes outlive the
  connection, since a broker may hang up after a refusal.

Pure: times in seconds are passed in.
"""

from dataclasses import dataclass

QUEUE_S = 1.0
"""A fifth of the five seconds that a fresh block may take beyond `seal_every`; the rest is for its own way."""
SHORTEST_KEPT_S = 60.0
"""How long the shortest round trip counts: the way to the broker changes."""
CUT = 0.7
BURST_S = 1.0

REFUSED_PAUSES_S = (2.0, 5.0, 15.0, 60.0)
UNHEARD_PAUSES_S = (2.0, 5.0)
"""Nobody is subscribed yet: whoever comes should not wait long."""


class Window:
    """How many publishes may be unacknowledged. `most` is the bound of settings and broker."""

    def __init__(self, most: int, share_percent: int) -> None:
        self.most = max(1, most)
        self._share_percent = share_percent
        self._open = 1.0
        self._starting = True
        self._cut_s = float("-inf")
        self._shortest: tuple[float, float] | None = None
        self._shortest_lately: tuple[float, float] | None = None

    @property
    def open(self) -> int:
        """How many may be under way now."""
        return int(self._open)

    @property
    def backlog(self) -> int:
        """How many of the backlog may be under way now."""
        return max(1, self.open * self._share_percent // 100)

    def acknowledged(self, trip_s: float, now_s: float, *, full: bool) -> None:
        """Note an acknowledgement that took `trip_s`; `full` says whether the window was used up meanwhile."""
        if trip_s > self._base(trip_s, now_s) + QUEUE_S:
            self._starting = False
            if now_s - self._cut_s > trip_s:  # once for all that stood in the same queue
                self._open, self._cut_s = max(1.0, self._open * CUT), now_s
        elif full:
            self._open = min(float(self.most), self._open + (1.0 if self._starting else 1.0 / self._open))

    def _base(self, trip_s: float, now_s: float) -> float:
        """Give the shortest trip of the last one to two minutes."""
        if self._shortest_lately is None or now_s - self._shortest_lately[1] > SHORTEST_KEPT_S:
            self._shortest, self._shortest_lately = self._shortest_lately, (trip_s, now_s)
        elif trip_s < self._shortest_lately[0]:
            self._shortest_lately = (trip_s, self._shortest_lately[1])
        return min(known[0] for known in (self._shortest, self._shortest_lately) if known is not None)


class Bucket:
    """Bytes that may pass: `rate` a second, or any where it is None."""

    def __init__(self, rate: int | None, now_s: float) -> None:
        self._rate = rate
        self._level = 0.0
        self._at_s = now_s

    def wait_s(self, now_s: float) -> float:
        """Say how long the next block must wait."""
        if self._rate is None:
            return 0.0
        self._level = min(self._rate * BURST_S, self._level + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        return max(0.0, -self._level / self._rate)

    def spend(self, size: int) -> None:
        """Note what passes."""
        self._level -= size


@dataclass(slots=True)
class _Brake:
    until_s: float
    refusals: int = 1
    trying: bool = False


class Brakes:
    """The streams that a broker refuses."""

    def __init__(self) -> None:
        self._brakes: dict[str, _Brake] = {}

    def refuse(self, stream: str, pauses_s: tuple[float, ...], now_s: float) -> None:
        """Stop a stream for the next of its pauses; refusals of what was under way together count once."""
        brake = self._brakes.get(stream)
        if brake is None:
            self._brakes[stream] = _Brake(now_s + pauses_s[0])
        elif brake.trying:
            brake.until_s = now_s + pauses_s[min(brake.refusals, len(pauses_s) - 1)]
            brake.refusals += 1
            brake.trying = False

    def release(self, stream: str) -> None:
        """Let a stream go on: a block of it has passed."""
        self._brakes.pop(stream, None)

    def stopped(self, now_s: float) -> frozenset[str]:
        """Give the streams of which nothing may be sent now."""
        return frozenset(stream for stream, brake in self._brakes.items() if brake.trying or now_s < brake.until_s)

    def sent(self, stream: str) -> None:
        """Note that a block is sent: of a braked stream it is the one that tries."""
        if stream in self._brakes:
            self._brakes[stream].trying = True

    def untried(self, stream: str | None = None) -> None:
        """Note that what tried got no answer: of one stream, or of all where the connection is over."""
        for name, brake in self._brakes.items():
            if stream in (None, name):
                brake.trying = False

    def wait_s(self, now_s: float) -> float | None:
        """Say when the next stream may be tried, None where none waits."""
        ends = [brake.until_s - now_s for brake in self._brakes.values() if not brake.trying]
        return max(0.0, min(ends)) if ends else None
