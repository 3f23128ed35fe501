"""What tests of several rooms build on: a keeper on a clock of its own, over a real store."""

import random
from pathlib import Path

from chains import METER, key, moment
from chains import batch as frames

from agent.housekeeping import Rules
from agent.keeper import Identity, Keeper, Site
from buffer.quota import Quota

STREAMS = ("main", "side")
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
