"""A buffer that is full: each seal of the keeper brings a block, and housekeeping lets as much go.

What is always true here:

- The product's own keeper does all of it, with its housekeeping between two seals; everything is acknowledged.
- It is full once payloads have gone and headers have been pruned. What is counted begins then, and is bytes that went
  to the file system, checkpoints of the log among them.
- A stretch of some thousand seals stands for 60 days. So that marks of age are as rare in it as in those, there are
  fewer of them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speed.history import NS, SECONDS, batches, layouts_of
from speed.machine import spent
from speed.site import Load

from agent import housekeeping
from agent.clock import SystemClock
from agent.housekeeping import Rules
from agent.keeper import Identity, Keeper, Site
from buffer.intervals import Intervals
from buffer.keys import DeviceKey
from buffer.quota import Quota
from buffer.seal import Moment

FOREVER = 1 << 20
"""More seals than are ever made."""
MARKS = 4


class Full:
    """A keeper on a clock of its own, at one load: payloads go at `limit` bytes, or after so many seals."""

    def __init__(self, path: Path, load: Load, limit: int, keep_seals: int = FOREVER) -> None:
        self.readings = load.devices * load.registers * SECONDS[load.seal_every] // SECONDS[load.every]
        """Of one seal."""
        layouts, self._step_ns = layouts_of(load), SECONDS[load.seal_every] * NS
        self._moment = SystemClock().moment()
        self._batches = batches(load, layouts, FOREVER, self._moment.boot_ns)
        self._settled = Intervals()
        identity = Identity("station-1", DeviceKey.from_seed(bytes(32)), "speed", bytes(32), bytes(32))
        rules = Rules(Quota(limit, keep_seals * self._step_ns, 0), {"province": None})
        keys = (identity.signer.public_key,)
        site = Site(path, identity, keys, {"main": layouts}, 56_000, rules=rules)
        self._keeper = Keeper(site, self._now, lambda: os.urandom(8))
        self._keeper.open(["province"])

    def _now(self) -> Moment:
        return self._moment

    def seal(self) -> None:
        """Seal once, with what the last seal brought acknowledged, and tidy up."""
        self._moment = self._moment._replace(boot_ns=self._moment.boot_ns + self._step_ns)
        kept = self._keeper.seal({"main": next(self._batches)}, {("province", "main"): self._settled})
        self._keeper.tidy()
        self._settled.add_range(1, kept[-1].position)

    def fill(self) -> None:
        """Seal until headers are pruned, without waiting for the disk."""
        database = self._keeper._opened()[0].connection
        database.execute("PRAGMA synchronous = OFF")
        while not self._keeper.ledgers["main"].pruned:
            self.seal()
        database.execute("PRAGMA synchronous = FULL")

    def close(self) -> None:
        """Close the file."""
        self._keeper.close()


@contextmanager
def full(path: Path, load: Load, limit: int, keep_seals: int = FOREVER) -> Iterator[Full]:
    """Give a buffer that is full."""
    path.parent.mkdir(parents=True)
    marks, housekeeping.AGE_MARKS = housekeeping.AGE_MARKS, MARKS
    try:
        station = Full(path, load, limit, keep_seals)
        try:
            station.fill()
            yield station
        finally:
            station.close()
    finally:
        housekeeping.AGE_MARKS = marks


def written(station: Full, seals: int) -> float:
    """Give the bytes to the device of one seal, over so many."""
    before = spent(os.getpid()).written
    for _ in range(seals):
        station.seal()
    return (spent(os.getpid()).written - before) / seals
