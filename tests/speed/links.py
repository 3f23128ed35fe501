"""Real links in a network namespace: lateness of fresh blocks while a backlog drains, time to drain, half-open links.

`python tests/speed/links.py [--rate 1mbit] [--backlog 300]`, as root.
"""

import argparse
import asyncio
import math
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from far import Far, why_not
from rig import GROUP, Bench

from agent.carrier import Carriage
from agent.formats.teller import Signed
from agent.health import UplinkHealth
from agent.state import State
from agent.uplink import Uplink
from buffer.frame import Frame

FRAMES = 2_000
"""About 16 kB a block that does not compress."""
SEAL_S = 1.0


class Station:
    """A recorder with a backlog, and an uplink whose settlements are timed."""

    def __init__(self, bench: Bench, far: Far) -> None:
        self.bench = bench
        self.health = bench.health.uplinks["province"] = UplinkHealth(("main",))
        self.committed_s: dict[int, float] = {}
        self.late_s: list[float] = []
        bench.recorder.listeners.append(self._note)
        settle = bench.recorder.settle

        def timed(uplink: str, stream: str, position: int) -> None:
            settle(uplink, stream, position)
            if position in self.committed_s:
                self.late_s.append(time.monotonic() - self.committed_s.pop(position))

        bench.recorder.settle = timed  # type: ignore[method-assign]
        carriage = Carriage("province", "t/station-1", ("main",), Signed("t/station-1"), unheard_counts=True)
        self.uplink = Uplink(
            carriage,
            [far.endpoint()],
            bench.recorder,
            self.health,
            State(bench.health, "province", bench.clock.boot_ns),
            random.Random(),
        )

    def _note(self, kept: object) -> None:
        for block in kept:  # type: ignore[attr-defined]
            if block.stream == "main":
                self.committed_s[block.position] = time.monotonic()

    def fill(self, frames: int) -> None:
        """Record frames that do not compress."""
        for _ in range(frames):
            values = (random.getrandbits(32), random.random())
            self.bench.recorder.add(GROUP, Frame(self.bench.clock.boot_ns(), 1000, values))

    async def measure(self, what: str, chaos: object = None) -> None:
        """Drain while fresh blocks come; print how late they were."""
        pending = self.health.pending["main"]
        began_s = time.monotonic()
        running = asyncio.create_task(self.uplink.run())
        other = asyncio.create_task(chaos) if chaos is not None else None  # type: ignore[arg-type]
        drained_s = math.nan
        while time.monotonic() - began_s < 180:
            self.fill(100)
            await asyncio.sleep(SEAL_S)
            if self.health.connected and self.health.pending["main"] <= 2:
                drained_s = time.monotonic() - began_s
                break
        for task in (running, other):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        late = sorted(self.late_s) or [math.nan]
        p50, p99 = (late[math.ceil(len(late) * q) - 1] for q in (0.5, 0.99))
        sent = self.health.bytes_sent
        print(
            f"{what}: {pending} blocks of backlog drained in {drained_s:.1f} s, {sent / 1e6:.2f} MB, "
            f"{sent / drained_s / 1e3:.0f} kB/s; fresh after commit p50 {p50:.2f} s, p99 {p99:.2f} s, "
            f"most {late[-1]:.2f} s ({len(late)} blocks, {self.health.sessions} sessions)"
        )


async def one(
    what: str, backlog: int, rate: str | None, *, ipv6_only: bool = False, flapping: bool = False, loss: int = 0
) -> None:
    """Run one scenario."""
    with tempfile.TemporaryDirectory() as directory:
        async with Far(ipv6_only=ipv6_only) as far, Bench(Path(directory) / "b.db", seal_every_s=SEAL_S) as bench:
            station = Station(bench, far)
            for _ in range(backlog):
                station.fill(FRAMES)
                bench.recorder._urgent.set()
                await asyncio.sleep(0.02)
            await asyncio.sleep(2 * SEAL_S)
            station.committed_s.clear()
            if rate is not None:
                far.cap(rate)
            far.lose(loss)

            async def flap() -> None:
                while True:
                    await asyncio.sleep(6)
                    far.flap(up=False)
                    await asyncio.sleep(2)
                    far.flap(up=True)

            await station.measure(what, flap() if flapping else None)


async def half_open() -> None:
    """Time how soon a blackhole is found, with data in flight and idle."""
    for idle in (False, True):
        with tempfile.TemporaryDirectory() as directory:
            async with Far() as far, Bench(Path(directory) / "b.db", seal_every_s=SEAL_S) as bench:
                station = Station(bench, far)
                running = asyncio.create_task(station.uplink.run())
                await asyncio.sleep(4)
                far.blackhole()
                began_s = time.monotonic()
                while station.health.connected and time.monotonic() - began_s < 60:
                    if not idle:
                        station.fill(1)
                    await asyncio.sleep(0.2)
                code = station.health.error[0] if station.health.error else "nothing"
                print(f"half open, {'idle' if idle else 'busy'}: {code} after {time.monotonic() - began_s:.1f} s")
                running.cancel()
                await asyncio.wait([running])


async def main() -> None:
    """Run all scenarios."""
    options = argparse.ArgumentParser()
    options.add_argument("--rate", default="1mbit")
    options.add_argument("--backlog", type=int, default=300)
    asked = options.parse_args()
    if reason := why_not():
        sys.exit(reason)
    await one(f"cap {asked.rate}", asked.backlog, asked.rate)
    await one("no cap", asked.backlog, None)
    await one("IPv6 only", asked.backlog // 3, None, ipv6_only=True)
    await one(f"flapping, {asked.rate}", asked.backlog // 3, asked.rate, flapping=True)
    for loss in (1, 5, 10):
        await one(f"{loss} % of packets lost each way", asked.backlog // 3, None, loss=loss)
    await one(f"5 % lost each way, {asked.rate}", asked.backlog // 3, asked.rate, loss=5)
    await half_open()


asyncio.run(main())
