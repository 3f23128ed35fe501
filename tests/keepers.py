"""What tests of several rooms build on: a keeper on a clock of its own, over a real store."""

import random
from pathlib import Path

from chains import METER, SECOND, key, moment
from chains import batch as frames

from agent.health import StreamHealth
from agent.housekeeping import Rules
from agent.keeper import Identity, Keeper, Site
from buffer.frame import Frame
from buffer.intervals import Intervals
from buffer.quota import Quota
from buffer.seal import Batch

STREAMS = ("main", "side")
FOR_EVER_NS = 10**18
QUOTA = Quota(1_000_000, 10**18, 0)


class Bench:
    """A keeper on a clock of its own."""

    def __init__(self, path: Path, second: int = 10, *, quota: Quota = QUOTA) -> None:
        self.second = second
        identity = Identity("station-1", key(), "0.1.0", bytes(32), bytes(32))
        rules = Rules(quota, {"province": None})
        site = Site(path, identity, (key().public_key,), dict.fromkeys(STREAMS, (METER,)), 56_000, rules=rules)
        rng = random.Random(second)
        self.keeper = Keeper(site, lambda: moment(self.second), lambda: rng.randbytes(8))
        self.settled = self.keeper.open(["province"])

    def seal(self, count: int = 1, frame_count: int = 40) -> None:
        """Seal batches of both streams."""
        for _ in range(count):
            self.second += 10
            batches = {stream: frames(self.second, frame_count) for stream in STREAMS}
            self.keeper.seal(batches, {})
            self.keeper.tidy()

    def blocks(self) -> dict[tuple[str, int], tuple[bytes, bytes | None]]:
        """Give every block that an uplink would be given."""
        found = {}
        for stream in STREAMS:
            head, first = self.keeper.ledgers[stream].head, 1
            while first <= head:
                reading = self.keeper.read(stream, first, head, 1 << 20)
                for kept in reading.blocks:
                    found[stream, kept.position] = (kept.block.envelope, kept.block.payload)
                assert reading.reached, "a reading that gives nothing would be asked for ever"
                first = reading.reached + 1
        return found


def noisy(second: int, frames: int) -> Batch:
    """Give a batch that hardly compresses."""
    rng = random.Random(second)
    gathered = Batch()
    for at in range(frames):
        values = (rng.randrange(1 << 16), float(rng.randrange(1 << 20)))
        gathered.add_frame(METER, Frame(second * SECOND + at, 3_000_000, values))
    return gathered


class Small:
    """A keeper with little room, on a clock of its own."""

    def __init__(
        self,
        path: Path,
        *,
        second: int = 0,
        carried: bool = True,
        limit: int = 1_000_000,
        keep_ns: int = FOR_EVER_NS,
        when_full: str = "oldest",
    ) -> None:
        self.second = second
        identity = Identity("station-1", key(), "0.1.0", bytes(32), bytes(32))
        rules = Rules(Quota(limit, keep_ns, 0, when_full), {"province": None} if carried else {})
        site = Site(path, identity, (key().public_key,), {"main": (METER,)}, 56_000, rules=rules)
        numbers = iter(range((second << 40) + 1, 1 << 62))
        self.keeper = Keeper(site, lambda: moment(self.second), lambda: next(numbers).to_bytes(8, "big"))
        self.keeper.open(["province"] if carried else [])

    def seal(self, count: int = 1, *, settled: int = 0, frames: int = 200) -> StreamHealth:
        """Seal, with everything up to `settled` acknowledged."""
        for _ in range(count):
            self.second += 10
            acknowledged = {("province", "main"): Intervals([(1, settled)])} if settled else {}
            self.keeper.seal({"main": noisy(self.second, frames)}, acknowledged)
            self.keeper.tidy()
        return self.keeper.ledgers["main"]
