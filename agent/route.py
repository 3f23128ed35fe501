"""Which broker of an uplink to try next, and when: the addresses in order, the back-off, and what keeps failing.

What is always true here:

- The addresses are tried in order; after the last one the uplink waits, then begins with the first.
- The wait has full jitter: anywhere between nothing and a bound that doubles with every round that failed, up to
  `LONGEST_PAUSE_S`. So two thousand stations that lost the same broker do not come back together.
- A session that ends within `HEALTHY_SESSION_S` counts as a failure, unless we ended it ourselves.
- On another address than the first, the first is looked at after `RETURN_S`, and the uplink goes back once it answers.

Pure: randomness is passed in, times are lengths.
"""

import random
from collections.abc import Sequence

from agent.endpoint import Endpoint

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
MOST_DOUBLINGS = 10
HEALTHY_SESSION_S = 60.0
RETURN_S = 600.0
SHORT_SESSIONS = 3
"""So many sessions in a row, each taken away within a minute, are a sign of another client with the same id."""


class Route:
    """The addresses of one uplink and how they fared."""

    def __init__(self, endpoints: Sequence[Endpoint], rng: random.Random) -> None:
        self._endpoints = tuple(endpoints)
        self._rng = rng
        self._at = 0
        self.failures = 0
        self.short_sessions = 0

    @property
    def endpoint(self) -> Endpoint:
        """The address to try now."""
        return self._endpoints[self._at]

    @property
    def first(self) -> Endpoint | None:
        """The address to go back to, None where it is the present one."""
        return self._endpoints[0] if self._at else None

    def ended(self, lasted_s: float) -> None:
        """Note how long a session lasted."""
        if lasted_s >= HEALTHY_SESSION_S:
            self.failures = self.short_sessions = 0
            self._at = 0
        else:
            self.short_sessions += 1
            self._fail()

    def unreachable(self) -> None:
        """Note that no session came about."""
        self.short_sessions = 0
        self._fail()

    def restart(self) -> None:
        """Note that we ended the session ourselves: begin with the first address, at once."""
        self._at = self.failures = 0

    def _fail(self) -> None:
        self._at = (self._at + 1) % len(self._endpoints)
        if self._at == 0:
            self.failures += 1

    def pause_s(self) -> float:
        """Give how long to wait before the next attempt: nothing where another address of the round is left."""
        if self._at:
            return 0.0
        return self._rng.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self.failures, MOST_DOUBLINGS)))
