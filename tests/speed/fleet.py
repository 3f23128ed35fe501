"""Many stations lose one broker and come back: how many try in a second, and when the last one is live again.

`python tests/speed/fleet.py [--stations 500] [--processes 5] [--outage 90]`: whole uplinks over mutual TLS, in some
processes, against one mosquitto that is killed and started again. Live is: connected, and every block delivered, those
sealed during the outage too. In a second of the outage a station tries once in fifteen, so a fleet of `n` comes back
at n / 15 a second; the first two seconds, in which everybody was thrown out together, are told apart.
"""

import argparse
import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fleet import Fleet, names, peak
from ports import quiet_port
from rig import Bench

from agent.broker import Endpoint
from agent.demo.brokers import Mosquitto
from agent.demo.certificates import Authority

SEAL_S = 5.0
CONNECT_S = 120.0
LIVE_S = 300.0


async def stations(directory: Path, port: int, count: int, first: int) -> None:
    """Be some of the stations; for every line heard, tell how many are live, and when connections were tried."""
    pair = [str(directory / file) for file in ("ca.pem", "station.pem", "station.key")]
    here = directory / str(first)
    here.mkdir()
    some = names(count, first)
    async with Bench(here / "buffer.db", seal_every_s=SEAL_S, uplinks=some) as bench:
        fleet = Fleet(bench, some, lambda name: Endpoint("localhost", port, name, *pair), random.Random())
        async with fleet:
            recording = asyncio.create_task(_record(bench))
            while await asyncio.to_thread(sys.stdin.readline):
                print(json.dumps({"live": fleet.live(), "tried": fleet.tried_s}), flush=True)
                fleet.tried_s.clear()
            recording.cancel()


async def _record(bench: Bench) -> None:
    serial = 0
    while True:
        serial += 1
        bench.add(serial)
        await asyncio.sleep(1)


class Processes:
    """The stations' processes."""

    def __init__(self, directory: Path, port: int, count: int, processes: int) -> None:
        each = count // processes
        self._running = [
            subprocess.Popen(
                [
                    *(sys.executable, __file__, "--directory", str(directory), "--port", str(port)),
                    *("--stations", str(each), "--first", str(each * n)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for n in range(processes)
        ]
        self.count = each * processes
        self.tried_s: list[float] = []

    def live(self) -> int:
        """Ask all; count the live ones."""
        total = 0
        for process in self._running:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in self._running:
            assert process.stdout is not None
            answer = json.loads(process.stdout.readline())
            total += answer["live"]
            self.tried_s += answer["tried"]
        return total

    async def until_live(self, limit_s: float) -> float:
        """Wait until all are live; give how long it took."""
        began_s = time.time()
        while self.live() < self.count:
            if time.time() - began_s > limit_s:
                return float("nan")
            await asyncio.sleep(0.5)
        return time.time() - began_s

    def kill(self) -> None:
        """End them."""
        for process in self._running:
            process.kill()


async def measure(count: int, processes: int, outage_s: float) -> None:
    """Take the broker away for a while."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        authority = Authority(directory)
        authority.issue("station")
        broker = Mosquitto(directory, authority, quiet_port())
        await broker.start()
        fleet = Processes(directory, broker.port, count, processes)
        try:
            print(f"{fleet.count} stations, all live after {await fleet.until_live(CONNECT_S):.1f} s", flush=True)
            await asyncio.sleep(5)
            fleet.live()
            fleet.tried_s.clear()
            gone_s = time.time()
            await broker.kill()
            await asyncio.sleep(outage_s)
            await broker.start()
            back_s = time.time()
            live_s = await fleet.until_live(LIVE_S)
        finally:
            fleet.kill()
            await broker.kill()
    thrown = [t for t in fleet.tried_s if t - gone_s < 2]
    waiting = [t for t in fleet.tried_s if gone_s + 30 <= t < back_s]
    back = [t for t in fleet.tried_s if t >= back_s]
    first = sum(t - back_s < 30 for t in back)
    print(
        f"outage of {outage_s:.0f} s: all live {live_s:.1f} s after it; attempts in the busiest second: when thrown "
        f"out {peak(thrown)}, later in the outage {peak(waiting)}, after it {peak(back)}; "
        f"{first} attempts in the first 30 s after it, {len(back)} in all"
    )


def main() -> None:
    """Measure, or be some of the stations."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--stations", type=int, default=500)
    asked.add_argument("--processes", type=int, default=5)
    asked.add_argument("--outage", type=float, default=90)
    asked.add_argument("--directory", type=Path)
    asked.add_argument("--port", type=int)
    asked.add_argument("--first", type=int, default=0)
    options = asked.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    if options.directory:
        asyncio.run(stations(options.directory, options.port, options.stations, options.first))
    else:
        asyncio.run(measure(options.stations, options.processes, options.outage))


main()
