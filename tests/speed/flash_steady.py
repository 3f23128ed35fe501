"""Bytes written to flash a reading, in steady state: the file at its limit, every seal evicting as much as it brings.

`python tests/speed/flash_steady.py [SEALS]` drives the keeper, with its housekeeping, at 1,000 readings/s: 10 groups of
100 random walks, sealed at 1 s and at 10 s. `write_bytes` of `/proc/self/io` counts what went to the file system:
run it on a real one.
"""

import argparse
import os
import random
import tempfile
import time
from pathlib import Path

from agent.housekeeping import Rules
from agent.keeper import Identity, Keeper, Site
from buffer.block import ClockQuality
from buffer.frame import Column, Frame, Layout
from buffer.intervals import Intervals
from buffer.keys import DeviceKey
from buffer.quota import Quota
from buffer.seal import Batch, Moment

GROUPS, POINTS = 10, 100
LAYOUTS = tuple(
    Layout(f"link-{n}", f"device-{n}", "modbus", 10**9, tuple(Column(f"r{p}", "uint16") for p in range(POINTS)))
    for n in range(GROUPS)
)


def written() -> int:
    """Give the bytes that this process has caused to be written."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


class Walk:
    """Random walks of +-10, a second a step."""

    def __init__(self) -> None:
        self.rng = random.Random(1)
        self.values = [[self.rng.randrange(1 << 16) for _ in range(POINTS)] for _ in range(GROUPS)]

    def batch(self, boot_ns: int, seconds: int) -> Batch:
        """Give the frames of so many seconds."""
        batch = Batch()
        for second in range(seconds):
            for layout, values in zip(LAYOUTS, self.values, strict=True):
                values[:] = [(value + self.rng.randint(-10, 10)) % (1 << 16) for value in values]
                batch.add_frame(layout, Frame(boot_ns + second * 10**9, 3_000_000, tuple(values)))
        return batch


def measure(seconds: int, seals: int, limit: int, directory: Path) -> dict[str, float]:
    """Fill a buffer to its limit, then measure so many seals."""
    boot_ns, position = 10**12, 0
    walk = Walk()
    identity = Identity("station-1", DeviceKey.from_seed(bytes(32)), "0", bytes(32), bytes(32))
    rules = Rules(Quota(limit, 60 * 86400 * 10**9, 0), {"province": None})
    keys = (identity.signer.public_key,)
    site = Site(directory / "buffer.db", identity, keys, {"main": LAYOUTS}, 56_000, rules=rules)
    quality = ClockQuality("synchronised", 1_000_000, "ntp")
    keeper = Keeper(site, lambda: Moment(bytes(16), boot_ns, 10**18, quality), lambda: os.urandom(8))
    keeper.open(["province"])
    settled = Intervals()
    before = took = readings = 0.0
    slowest = evictions = 0.0
    counted = 0
    while counted < seals:
        boot_ns += seconds * 10**9
        batch = walk.batch(boot_ns, seconds)
        start = time.perf_counter()
        kept = keeper.seal({"main": batch}, {("province", "main"): settled})
        middle = time.perf_counter()
        keeper.tidy()
        position = kept[-1].position
        settled.add_range(1, position)
        full = keeper.ledgers["main"].evicted + keeper.ledgers["main"].pruned
        if full > 3000 / seconds and not before:
            before, evictions = written(), full
        if before:
            counted += 1
            readings += GROUPS * POINTS * seconds
            took += time.perf_counter() - start
            slowest = max(slowest, time.perf_counter() - middle)
    ledger = keeper.ledgers["main"]
    keeper.close()
    return {
        "flash_bytes_per_reading": (written() - before) / readings,
        "evicted_per_sealed_block": (ledger.evicted + ledger.pruned - evictions) / counted,
        "pruned": ledger.pruned,
        "seal_commit_and_tidy_ms": 1e3 * took / counted,
        "slowest_tidy_ms": 1e3 * slowest,
        "file_mb": (directory / "buffer.db").stat().st_size / 1e6,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seals", type=int, nargs="?", default=2000)
    parser.add_argument("--limit", type=int, default=30_000_000)
    options = parser.parse_args()
    for seconds in (1, 10):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as temporary:
            print(f"sealed every {seconds} s")
            for name, value in measure(seconds, options.seals // seconds, options.limit, Path(temporary)).items():
                print(f"  {name:28} {value:10.3f}")
