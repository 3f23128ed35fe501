"""A long backlog over a long way: how fast it drains, what it costs on the wire, and what memory the sender needs.

`python tests/speed/long_drain.py [--blocks 20000] [--rtt 0.05] [--formats block,json] [--fresh 0] [--profile FILE]`: a
block is a second of 1,000 readings (ten layouts of 100 registers, uniform start, random walk of ten); a day is 86,400.
Real store, real uplink in a process of its own, mosquitto with mutual TLS, a proxy that delays every byte both ways.
Bytes on the wire are TCP payload both ways, TLS among it. With `--fresh N`, N devices are polled each second meanwhile,
and it is told how long after its commit a fresh block was acknowledged. Memory is what the sending process grows by,
from the opened store on.
"""

import argparse
import asyncio
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from agent.broker import Endpoint
from agent.clock import SystemClock
from agent.demo.brokers import Mosquitto
from agent.demo.certificates import Authority
from agent.formats import encoding
from agent.formats.api import Station
from agent.formats.placing import ChainPlacer
from agent.health import Health, UplinkHealth
from agent.keeper import Keeper
from agent.kept import Identity, Kept, Site
from agent.owner import Owner
from agent.recorder import Recorder
from agent.state import State
from agent.uplink import Uplink
from agent.uplink_settings import carriage_of
from buffer.block import ClockQuality
from buffer.frame import Column, Frame, Layout
from buffer.keys import DeviceKey, load_or_create
from buffer.seal import Batch, Moment
from config.judge import judged
from config.model import Uplink as Settings
from drivers.api import Group

DAY_BLOCKS = 86_400
LAYOUTS = tuple(
    Layout(f"link-{n}", f"device-{n}", "modbus", 10**9, tuple(Column(f"r{m}", "uint16") for m in range(100)))
    for n in range(10)
)
READINGS = sum(len(layout.columns) for layout in LAYOUTS)
SECONDS = 600
"""So many different seconds are made and used again and again: a block decodes alone."""
ROOT = "trambien/v1/station-1"
FORMATS: dict[str, dict[str, Any]] = {
    "block": {},
    "json": {"format": "json"},
    "json-zstd": {"format": "json", "compress": "zstd"},
    "thingsboard": {"format": "thingsboard"},
    "template-frame": {
        "format": "template",
        "template": {
            "each": "frame",
            "topic": "messages/{{ device }}/data",
            "payload": '{"ts":{{ utc_ms }},"values":{{ values | json }}}',
        },
    },
    "template-reading": {
        "format": "template",
        "template": {
            "each": "reading",
            "topic": "messages/{{ device }}/{{ point }}",
            "payload": '{"ts":{{ utc_ms }},"value":{{ value | json }}}',
        },
    },
}


def keeper(directory: Path, clock: SystemClock) -> tuple[Keeper, DeviceKey]:
    """Give the keeper of a buffer in a directory; its clock is synchronised, so that every format can tell."""
    key, _ = load_or_create(directory / "device.key")
    identity = Identity("station-1", key, "test", bytes(32), bytes(32))
    site = Site(directory / "buffer.db", identity, (key.public_key,), {"main": LAYOUTS}, 56_000)

    def moment() -> Moment:
        return clock.moment()._replace(clock=ClockQuality("synchronised", 1_000_000, "ntp"))

    return Keeper(site, moment, lambda: os.urandom(8)), key


def fill(directory: Path, blocks: int) -> None:
    """Seal and commit so many blocks."""
    clock = SystemClock()
    made, _ = keeper(directory, clock)
    made.open(())
    walks = [[random.randrange(65536) for _ in layout.columns] for layout in LAYOUTS]
    seconds: list[list[tuple[int, ...]]] = []
    for _ in range(SECONDS):
        walks = [[(value + random.randint(-10, 10)) % 65536 for value in walk] for walk in walks]
        seconds.append([tuple(walk) for walk in walks])
    for number in range(blocks):
        batch = Batch()
        now_ns = clock.boot_ns()
        for layout, values in zip(LAYOUTS, seconds[number % SECONDS], strict=True):
            batch.add_frame(layout, Frame(now_ns, 1_000_000, values))
        made.seal({"main": batch}, {})
    made.close()


def resident() -> int:
    """Give the resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Lateness:
    """How long after their commit blocks were acknowledged."""

    def __init__(self, recorder: Recorder) -> None:
        self._committed_s: dict[int, float] = {}
        self.late_s: list[float] = []
        self._settle = recorder.settle
        recorder.settle = self._settled  # type: ignore[method-assign]
        recorder.listeners.append(self._note)

    def _note(self, kept: Sequence[Kept]) -> None:
        self._committed_s.update((block.position, time.monotonic()) for block in kept)

    def _settled(self, uplink: str, stream: str, position: int) -> None:
        self._settle(uplink, stream, position)
        if position in self._committed_s:
            self.late_s.append(time.monotonic() - self._committed_s.pop(position))

    def at(self, share: float) -> float:
        """Give a percentile, by nearest rank."""
        late = sorted(self.late_s)
        return late[math.ceil(len(late) * share) - 1] if late else 0.0


async def poll(recorder: Recorder, clock: SystemClock, devices: int) -> None:
    """Record a frame of so many devices each second, and seal."""
    while devices:
        await asyncio.sleep(1)
        for layout in LAYOUTS[:devices]:
            values = tuple(random.randrange(65536) for _ in layout.columns)
            recorder.add(Group(layout.device, "main", layout), Frame(clock.boot_ns(), 1_000_000, values))


async def send(directory: Path, port: int, name: str, fresh: int) -> dict[str, float]:
    """Drain a buffer in one format; give how long it took and what it cost."""
    clock = SystemClock()
    made, key = keeper(directory, clock)
    health = Health("station-1", "test", key.kid.hex(), "", clock.boot_ns())
    recorder = Recorder(
        made,
        Owner("buffer"),
        clock,
        health,
        streams=("main",),
        seal_every_ns=10**9,
        new_event_id=lambda: os.urandom(8),
    )
    await recorder.open([name])
    placer = ChainPlacer(clock.boot_id)
    placing = asyncio.create_task(placer.run(recorder, health.streams))
    settings = judged(Settings, {"url": f"mqtts://localhost:{port}", "no_subscriber": "accept", **FORMATS[name]})
    station = Station("station-1", ROOT, "Asia/Ho_Chi_Minh", key, {})
    carriage = carriage_of(name, ROOT, encoding(station, settings, placer), settings, ("main",), "Asia/Ho_Chi_Minh")
    told = health.uplinks[name] = UplinkHealth(("main",))
    pair = [str(directory / file) for file in ("ca.pem", "station-1.pem", "station-1.key")]
    endpoint = Endpoint("localhost", port, f"station-1.{name}", *pair)
    uplink = Uplink(carriage, [endpoint], recorder, told, State(health, name, clock.boot_ns), random.Random())
    blocks, before = told.pending["main"], resident()
    lateness = Lateness(recorder)
    sealing = asyncio.create_task(recorder.run()) if fresh else None
    polling = asyncio.create_task(poll(recorder, clock, fresh))
    running = asyncio.create_task(uplink.run())
    while not told.acknowledged:
        await asyncio.sleep(0.01)
    began_s, began_cpu_s, first = time.monotonic(), time.process_time(), told.acknowledged["main"]
    most = early = 0
    while told.pending["main"] > (2 if fresh else 0):
        await asyncio.sleep(0.05)
        most = max(most, resident())
        if not early and told.pending["main"] < blocks * 0.9:
            early = most
    seconds, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
    for task in (running, placing, polling):
        task.cancel()
    await asyncio.wait([running, placing, polling])
    if sealing is not None:
        recorder.stop()
        await sealing
    await recorder.close()
    return {
        "blocks": blocks - first,
        "seconds": seconds,
        "cpu_s": cpu_s,
        "payload": told.bytes_sent,
        "grown_mb": (most - before) / 1e6,
        "late_mb": (most - (early or most)) / 1e6,
        "resident_mb": most / 1e6,
        "lost": sum(told.lost.values()),
        "sessions": told.sessions,
        "fresh": len(lateness.late_s),
        "late_p50_s": lateness.at(0.5),
        "late_p99_s": lateness.at(0.99),
    }


async def measure(blocks: int, round_trip_s: float, names: list[str], fresh: int, profile: str | None) -> None:
    """Fill a buffer and drain it in each format."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        authority = Authority(directory)
        authority.issue("station-1")
        broker = Mosquitto(directory, authority, None)
        await broker.start()
        began_s = time.monotonic()
        subprocess.run([sys.executable, __file__, "--fill", temporary, "--blocks", str(blocks)], check=True)
        size = sum(file.stat().st_size for file in directory.glob("buffer.db*"))
        print(f"{blocks} blocks in {time.monotonic() - began_s:.0f} s, a file of {size / 1e6:.0f} MB", flush=True)
        way = [sys.executable, str(Path(__file__).parents[1] / "distance.py"), str(broker.port), str(round_trip_s)]
        proxy = subprocess.Popen(way, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert proxy.stdout is not None
        assert proxy.stdin is not None
        port = proxy.stdout.readline().strip()
        try:
            for name in names:
                profiling = ["-m", "cProfile", "-o", profile] if profile else []
                command = [sys.executable, *profiling, __file__, "--send", temporary, "--port", port]
                command += ["--formats", name, "--fresh", str(fresh)]
                done = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
                proxy.stdin.write("\n")
                proxy.stdin.flush()
                there, back = map(int, proxy.stdout.readline().split())
                tell(name, done, there, back)
        finally:
            proxy.kill()
            await broker.kill()


def tell(name: str, done: dict[str, float], there: int, back: int) -> None:
    """Print one line of figures."""
    blocks, seconds = done["blocks"], done["seconds"]
    per_reading = (there + back) / blocks / READINGS
    print(
        f"{name}: {blocks} blocks in {seconds:.1f} s: {blocks / seconds:.0f} blocks/s, "
        f"{blocks * READINGS / seconds:,.0f} readings/s, {done['payload'] / seconds / 1e6:.2f} MB/s; a day in "
        f"{DAY_BLOCKS * seconds / blocks / 60:.1f} min; CPU {100 * done['cpu_s'] / seconds:.0f} %; wire "
        f"{per_reading:.2f} B a reading ({there / blocks:.0f} + {back / blocks:.0f} a block, payload "
        f"{done['payload'] / blocks:.0f}); memory +{done['grown_mb']:.1f} MB (+{done['late_mb']:.1f} after a tenth) of "
        f"{done['resident_mb']:.0f}; lost {done['lost']:.0f}, sessions {done['sessions']:.0f}"
        + (
            f"; {done['fresh']} fresh blocks, p50 {done['late_p50_s']:.2f} s, p99 {done['late_p99_s']:.2f} s late"
            if done["fresh"]
            else ""
        ),
        flush=True,
    )


def main() -> None:
    """Measure, or be one of the processes."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--blocks", type=int, default=20_000)
    asked.add_argument("--rtt", type=float, default=0.05)
    asked.add_argument("--formats", default="block")
    asked.add_argument("--fresh", type=int, default=0)
    asked.add_argument("--profile")
    asked.add_argument("--fill", type=Path)
    asked.add_argument("--send", type=Path)
    asked.add_argument("--port", type=int)
    options = asked.parse_args()
    if options.fill:
        fill(options.fill, options.blocks)
    elif options.send:
        print(json.dumps(asyncio.run(send(options.send, options.port, options.formats, options.fresh))))
    else:
        asyncio.run(measure(options.blocks, options.rtt, options.formats.split(","), options.fresh, options.profile))


main()
